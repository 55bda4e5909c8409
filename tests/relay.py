"""A relay on this machine that lets a server's answers through only as far as a test allows.

So a test acts at a moment of a transfer that it chose, however fast or slow the machine is: the transfer stands still
there until the test lets it go on.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CHUNK_BYTES = 32 << 10
_PATIENCE_SECONDS = 120


class Hold:
    """Stops all answers from when `is_reached`, which is given the bytes that this hold let through, first says so."""

    def __init__(self, is_reached: Callable[[int], bool]) -> None:
        self._is_reached = is_reached
        self._passed = 0
        self._lock = threading.Lock()
        self._stands, self._goes_on = threading.Event(), threading.Event()

    def wait(self) -> None:
        """Return when the answers stand still. Fails where they never do."""
        assert self._stands.wait(_PATIENCE_SECONDS), f"after {self._passed:,} bytes the moment has not come"

    def end(self) -> None:
        """Let everything through."""
        self._goes_on.set()

    def pass_or_stand(self, count: int) -> None:
        """Called before `count` bytes are passed on."""
        with self._lock:
            if self._stands.is_set() or self._is_reached(self._passed):
                self._stands.set()
            else:
                self._passed += count
                return
        self._goes_on.wait()


class Relay:
    """Passes connections on to a port of this machine; `port` is its own."""

    def __init__(self, listening: socket.socket, target: int) -> None:
        self.port = int(listening.getsockname()[1])
        self._target = target
        self._hold: Hold | None = None

    @contextmanager
    def holding(self, is_reached: Callable[[int], bool]) -> Iterator[Hold]:
        """Hold the answers of now on; let them through at the end."""
        hold = self._hold = Hold(is_reached)
        try:
            yield hold
        finally:
            self._hold = None
            hold.end()

    def accept(self, listening: socket.socket) -> None:
        """Until the listening socket is shut down."""
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as far:
            asking = threading.Thread(target=_pump, args=(near, far, None), daemon=True)
            asking.start()
            _pump(far, near, lambda count: self._hold.pass_or_stand(count) if self._hold else None)
            asking.join()


def _pump(source: socket.socket, sink: socket.socket, before: Callable[[int], None] | None) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK_BYTES):
            if before:
                before(len(chunk))
            sink.sendall(chunk)
    for one in (source, sink):  # whoever ends, ends both: the other direction must not wait
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay_to(port: int) -> Iterator[Relay]:
    """A relay to a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        relay = Relay(listening, port)
        accepting = threading.Thread(target=relay.accept, args=(listening,), daemon=True)
        accepting.start()
        try:
            yield relay
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
