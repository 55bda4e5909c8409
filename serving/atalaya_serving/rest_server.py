"""The listening REST server: uvicorn in a thread of its own, and what a connection may hold before it asks anything.

RestGuard bounds a request from its headers on. What comes before, uvicorn waits for without end and keeps without
bound; here a head has its time and its size.
"""

import asyncio
import json
import socket
import threading
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from atalaya_serving.errors import SettingsError
from atalaya_serving.rest_guard import RestGuard
from atalaya_serving.settings import Settings

MOST_HEAD_BYTES = 64 << 10
_UVICORN_SECONDS = 1.0  # what uvicorn takes to notice, and to end what it cancelled


class RestServer:
    """uvicorn in a thread of its own."""

    def __init__(self, settings: Settings, app: RestGuard) -> None:
        """Bind the port. Raises SettingsError when it is taken."""
        self.address = f"{settings.rest_address}:{settings.rest_port}"
        try:
            self._socket = _listener(settings.rest_address, settings.rest_port)
        except OSError as error:
            raise SettingsError(
                f"REST cannot listen on {self.address}: {error.strerror}; choose another with --rest_port or"
                " --rest_bind_address."
            ) from error
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="asyncio",
            http=_connections(settings.rest_body_seconds),
            ws="none",
            server_header=False,
        )
        self._guard, self._server = app, uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="rest", daemon=True)

    def start(self) -> None:
        """Take calls."""
        self._thread.start()

    def stop(self, grace_seconds: float) -> bool:
        """Take no new call, wait for the accepted ones up to `grace_seconds`. False when one could not be ended."""
        self._guard.end_reading()
        self._server.config.timeout_graceful_shutdown = grace_seconds  # type: ignore[assignment] # asyncio's timeout
        self._server.should_exit = True
        self._thread.join(grace_seconds + _UVICORN_SECONDS)
        self._socket.close()
        return not self._thread.is_alive()


class _Connection(HttpToolsProtocol):
    """A connection of uvicorn's whose requests' heads come whole in `head_seconds`, or not at all."""

    head_seconds: float
    _head_until: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A head is awaited from here on."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._end_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        if self._head_until is None:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Any bytes; those of a head are counted, from the part on that follows the one in which it began."""
        was_awaited = self._head_until is not None
        super().data_received(data)
        if self._head_until is None:
            return
        self._head_bytes = self._head_bytes + len(data) if was_awaited else 1
        if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse("431 Request Header Fields Too Large", f"the head has more than {MOST_HEAD_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._end_head()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._set_timer()

    def _set_timer(self) -> None:
        self._head_until = self.loop.call_later(self.head_seconds, self._is_late)

    def _end_head(self) -> None:
        if self._head_until is not None:
            self._head_until.cancel()
            self._head_until = None

    def _is_late(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:  # the answer to the request before comes first
            self._set_timer()
        elif self._head_bytes:
            self._refuse(
                "408 Request Timeout",
                f"the head did not come in {self.head_seconds:g} s; send it at once, or start the server with a larger"
                " --rest_body_seconds.",
            )
        else:
            self.transport.close()

    def _refuse(self, status: str, why: str) -> None:
        told = json.dumps({"error": why}).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(told)}\r\n"
        self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + told)
        self.transport.close()


def _connections(head_seconds: float) -> type[asyncio.Protocol]:
    named: dict[str, Any] = {"head_seconds": head_seconds}
    return type("Connection", (_Connection,), named)


def _listener(address: str, port: int) -> socket.socket:
    """A bound socket. It names its protocol, else asyncio leaves Nagle's algorithm on: 40 ms an answer."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener
