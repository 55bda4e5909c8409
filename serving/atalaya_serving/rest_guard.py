"""The outermost edge of REST: bounds what callers may hold, and answers in JSON whatever happens behind it.

So many requests with a body at a time; a body that has to come in time; a line for the caller, and the traceback in the
log only. GET requests are not counted: health and metrics answer under any load.
"""

import asyncio
import json
import logging
import time
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atalaya_serving.budget import ByteBudget
from atalaya_serving.dataplane import SHUTTING_DOWN, Dataplane, InferReply, InferRequest
from atalaya_serving.errors import BodyTooSlow, InferenceFailed, ModelNotReady, QueueFull, ServingError, code_of

_log = logging.getLogger(__name__)
_SLOWEST_BYTES_PER_SECOND = 32 << 10
DEFECT = InferenceFailed("the server failed on this request; its log says why.")


@dataclass(frozen=True)
class RestLimits:
    """What callers may hold. A body has `body_seconds`, and a second more for each 32 KiB of it that came.

    All bodies together may have `held_bytes`, from their arrival to their answers.
    """

    most_requests: int
    body_seconds: float
    held_bytes: int


class RestGuard:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, dataplane: Dataplane, limits: RestLimits) -> None:
        self._app, self._dataplane, self._limits = app, dataplane, limits
        self._under_way = 0
        self._bodies = ByteBudget(limits.held_bytes)
        self._reading: set[asyncio.Timeout] = set()
        self._is_ending = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, in any case."""
        self._loop = self._loop or asyncio.get_running_loop()
        told = _Told(send)
        try:
            if scope["method"] == "POST":
                await self._bounded(scope, receive, told)
            else:
                await self._app(scope, receive, told.send)
        except asyncio.CancelledError:  # the drain is over
            await told.answer(scope, ModelNotReady(SHUTTING_DOWN))
        except Exception as error:  # noqa: BLE001 - the outermost edge: a caller must not see a stack trace
            _log.error("a REST call failed: %s %s", scope["method"], scope["path"], exc_info=error)
            await told.answer(scope, DEFECT)

    def end_reading(self) -> None:
        """Wait for no body any more: what it asks for would be refused. From any thread."""
        self._is_ending = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hurry)

    async def _bounded(self, scope: Scope, receive: Receive, told: "_Told") -> None:
        if self._under_way >= self._limits.most_requests:
            refused = QueueFull(
                f"{self._under_way} REST requests are under way already; try again later, or start the server with a"
                " larger --rest_max_requests."
            )
            count_refused(self._dataplane, protocol_of(scope["path"]), refused)
            await told.answer(scope, refused)
            return
        self._under_way += 1
        body = _Body(time.monotonic() + self._limits.body_seconds)

        async def received() -> Message:
            return await (receive() if body.is_whole else self._next_part(body, receive))

        try:
            await self._app(scope, received, told.send)
        finally:
            self._under_way -= 1
            self._bodies.give_back(body.size)

    async def _next_part(self, body: "_Body", receive: Receive) -> Message:
        """What comes next of a body. Raises BodyTooSlow, or QueueFull when too much is held already."""
        message = await self._timed(receive, body.until + body.size / _SLOWEST_BYTES_PER_SECOND)
        count = len(message.get("body", b""))
        if not self._bodies.take(count):
            raise QueueFull(
                f"the bodies of the requests under way fill the {self._bodies.limit} bytes that are held for them; try"
                " again later."
            )
        body.size += count
        body.is_whole = not message.get("more_body", False)
        return message

    async def _timed(self, receive: Receive, until: float) -> Message:
        limit = asyncio.timeout(0 if self._is_ending else max(0.0, until - time.monotonic()))
        self._reading.add(limit)
        try:
            async with limit:
                return await receive()
        except TimeoutError:
            if self._is_ending:
                raise ModelNotReady(SHUTTING_DOWN) from None
            raise BodyTooSlow(
                f"the body did not come in {self._limits.body_seconds:g} s; send it at once, or start the server with"
                " a larger --rest_body_seconds."
            ) from None
        finally:
            self._reading.discard(limit)

    def _hurry(self) -> None:
        for limit in self._reading:
            if limit.when() is not None and not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())


@dataclass
class _Body:
    """How much of a body came, and when it must be whole."""

    until: float
    size: int = 0
    is_whole: bool = False


class _Told:
    """What was answered so far."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._has_begun = self._is_whole = False

    async def send(self, message: Message) -> None:
        self._has_begun = True
        self._is_whole = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def answer(self, scope: Scope, error: ServingError) -> None:
        """Say so, where nothing was said; raises where an answer has begun that cannot be ended."""
        if not self._has_begun:
            await error_response(error)(scope, _never, self.send)
        elif not self._is_whole:
            raise error


class Caller:
    """Whether the caller of a request still waits for its answer; used once its body was read."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._has_left = False

    async def __aenter__(self) -> "Caller":
        self._watch = asyncio.create_task(self._wait())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watch.cancel()

    def has_left(self) -> bool:
        """From any thread."""
        return self._has_left

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._has_left = True


def error_response(error: ServingError) -> Response:
    """An error as KServe v2 and TensorFlow Serving tell it over REST."""
    # A body that is still on its way would hold the connection as long as it likes.
    headers = {"Connection": "close"} if isinstance(error, BodyTooSlow) else None
    return _AsciiJson({"error": str(error)}, status_code=code_of(error).http, headers=headers)


def count_refused(dataplane: Dataplane, protocol: str, error: ServingError) -> None:
    """Count a call that reached no version."""
    dataplane.refuse(InferRequest("", "", (), protocol=protocol), error, _ignore)


def protocol_of(path: str) -> str:
    """The protocol's name in the metrics."""
    return "tfs-rest" if path.startswith("/v1/") else "rest"


class _AsciiJson(JSONResponse):
    """JSON that can carry any text of a request, also what is no text in UTF-8."""

    def render(self, content: object) -> bytes:
        return json.dumps(content).encode()


def _ignore(_reply: InferReply) -> None:
    """Who found the error answers."""


async def _never() -> Message:
    raise AssertionError("an error's answer reads nothing")
