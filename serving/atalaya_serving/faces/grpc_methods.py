"""Puts on a gRPC server only those methods of a service that a face offers, and watches how their calls end."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import grpc

Watch = Callable[[str, Any, str, float], None]
"""Told of each call that ended: its method, the request, the name of its status, and the seconds it took."""


class OfferedMethods:
    """Passes services on to a server, less the methods that are not offered: those answer UNIMPLEMENTED.

    A method is named as it travels: `/inference.GRPCInferenceService/ModelReady`.
    """

    def __init__(self, server: grpc.Server, offered: Collection[str], watch: Watch | None = None) -> None:
        self._server, self._offered, self._watch = server, offered, watch

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Register what is offered of these."""
        self._server.add_generic_rpc_handlers(tuple(_Only(one, self._offered, self._watch) for one in handlers))

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """The generic handlers answer these methods."""


class _Only(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, inner: grpc.GenericRpcHandler, offered: Collection[str], watch: Watch | None) -> None:
        self._inner, self._offered, self._watch = inner, offered, watch

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """What answers a call; None where the method is not offered."""
        if details.method not in self._offered:
            return None
        handler = self._inner.service(details)
        if handler is None or handler.unary_unary is None or self._watch is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            _watched(handler.unary_unary, details.method, self._watch),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _watched(answer: Callable[[Any, Any], Any], method: str, watch: Watch) -> Callable[[Any, Any], Any]:
    def answered(request: Any, context: grpc.ServicerContext) -> Any:
        started_at = time.monotonic()
        try:
            response = answer(request, context)
        except BaseException:
            status = context.code() or grpc.StatusCode.UNKNOWN
            watch(method, request, status.name, time.monotonic() - started_at)
            raise
        watch(method, request, "OK", time.monotonic() - started_at)
        return response

    return answered
