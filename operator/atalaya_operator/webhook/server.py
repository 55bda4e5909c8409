"""Answers AdmissionReviews over TLS, in threads of its own beside what reconciles.

A connection is for one question: admissions are rare, and a kept connection that ends at the wrong moment fails one.
Whoever is slow, sends too much or nothing holds up nobody: a handshake is its connection's own affair.
"""

import json
import logging
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from atalaya_operator.metrics import ADMISSIONS

PATH = "/validate"
MAX_BYTES = 8 * 2**20
"""More than the API server stores of an object, before and after, with what stands around them."""
MOST_AT_ONCE = 32
_PATIENCE_SECONDS = 10
_POLL_SECONDS = 0.1  # how long an end may take
_LOG = logging.getLogger(__name__)

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class WebhookServer:
    """Listens at once and answers after `start`. The context may be given another certificate at any time."""

    def __init__(self, answer: Answer, port: int, context: ssl.SSLContext, address: str = "") -> None:
        handler = type("Handler", (_Handler,), {"answer": staticmethod(answer)})
        self._server = _Server((address, port), handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="webhook", daemon=True
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer nobody any more."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._slots = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._slots.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the library's signature
        """A client that does not trust us, or went away: a line for whoever looks for it, no stack trace."""
        _LOG.info("A connection from %s failed.", client_address[0], exc_info=_LOG.isEnabledFor(logging.DEBUG))


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE_SECONDS
    answer: Answer

    def do_POST(self) -> None:
        """One question."""
        length = self.headers.get("Content-Length", "")
        if self.path.partition("?")[0] != PATH:
            self._say(404, {"error": f"there is nothing at this path; ask {PATH}."})
        elif not length.isdecimal() or int(length) > MAX_BYTES:
            self._say(413, {"error": f"a question has at most {MAX_BYTES} bytes, and says how many."})
        else:
            self._judge(self.rfile.read(int(length)))

    def _judge(self, body: bytes) -> None:
        try:
            answer = type(self).answer(json.loads(body))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            ADMISSIONS.labels(verdict="unreadable").inc()
            _LOG.info("A question is no AdmissionReview of a model: %r.", error)
            self._say(400, {"error": "this is no AdmissionReview v1."})
            return
        response = answer["response"]
        verdict = "refused" if not response["allowed"] else "warned" if response.get("warnings") else "allowed"
        ADMISSIONS.labels(verdict=verdict).inc()
        self._say(200, answer)

    def _say(self, status: int, told: Mapping[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """Nobody needs to know which server this is."""
        return "atalaya"

    def log_message(self, format: str, *args: Any) -> None:  # the library's signature
        _LOG.debug(format, *args)
