"""The inference call through the bridge: message in, upstream message out, on no thread that waits.

On the short way (grpc_fast.py) the event thread of grpcio's server reads and sends on, and the thread that reads the
upstream's answers writes them back.
"""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import grpc

from atalaya_serving.bridge.calls import Scope, current_scope, deadline_in, passed_on
from atalaya_serving.bridge.hop import Hop
from atalaya_serving.bridge.upstream import Answer
from atalaya_serving.dataplane import InferRequest
from atalaya_serving.errors import ServingError, code_of, told_to_caller
from atalaya_serving.grpc_fast import FastCall, FastMethod


@dataclass(slots=True)
class _OnItsWay:
    """A call that was sent on."""

    scope: Scope

    def withdraw(self) -> None:
        """The caller has gone: so has its call upstream."""
        self.scope.cancel()


def short_way(hop: Hop, protocol: str) -> FastMethod:
    """The inference call on the short way."""

    def handle(message: bytes, call: FastCall) -> _OnItsWay:
        def tell(answer: Answer) -> None:
            if isinstance(answer, ServingError):
                call.fail(answer)
            else:
                call.send(answer)

        told = call.fill(InferRequest("", "", ()), math.inf)
        scope = Scope(deadline_in(told.deadline - told.arrived_at), passed_on(call.metadata))
        hop.take(message, told.arrived_at, scope, tell)
        return _OnItsWay(scope)

    return FastMethod(protocol, handle)


def ordinary(hop: Hop) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    """The inference call on grpcio's ordinary way, for a handler of bytes."""

    def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
        told: Future[Answer] = Future()
        hop.take(message, time.monotonic(), current_scope(), told.set_result)
        got = told.result()
        if isinstance(got, ServingError):
            context.abort(code_of(got).grpc, told_to_caller(got))
            raise got
        return got

    return answer
