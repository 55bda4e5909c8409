"""The one table of what an upstream's refusal becomes; how that travels on is the table in atalaya_serving.errors.

Both protocols speak gRPC's codes, so a code comes out as it went in, but for those that would mislead the caller.
"""

import grpc

from atalaya_serving.errors import (
    CallCancelled,
    DeadlineExpired,
    InferenceFailed,
    InvalidRequest,
    ModelNotFound,
    NotAllowed,
    NotAuthenticated,
    NotSupported,
    PreconditionFailed,
    QueueFull,
    RequestTooLarge,
    ServerUnreachable,
    ServingError,
)

_CODES = grpc.StatusCode
REFUSALS: dict[grpc.StatusCode, type[ServingError]] = {
    _CODES.CANCELLED: CallCancelled,
    _CODES.UNKNOWN: InferenceFailed,
    _CODES.INVALID_ARGUMENT: InvalidRequest,
    _CODES.DEADLINE_EXCEEDED: DeadlineExpired,
    _CODES.NOT_FOUND: ModelNotFound,
    _CODES.ALREADY_EXISTS: PreconditionFailed,
    _CODES.PERMISSION_DENIED: NotAllowed,
    _CODES.RESOURCE_EXHAUSTED: QueueFull,
    _CODES.FAILED_PRECONDITION: PreconditionFailed,
    _CODES.ABORTED: ServerUnreachable,
    _CODES.OUT_OF_RANGE: InvalidRequest,
    _CODES.UNIMPLEMENTED: NotSupported,
    _CODES.INTERNAL: InferenceFailed,
    _CODES.UNAVAILABLE: ServerUnreachable,
    _CODES.DATA_LOSS: InferenceFailed,
    _CODES.UNAUTHENTICATED: NotAuthenticated,
}


def refusal(code: grpc.StatusCode, details: str, *, is_callers_wish: bool = False) -> ServingError:
    """What a status of the upstream is here. `is_callers_wish`: the caller itself had cancelled."""
    kind = REFUSALS.get(code, InferenceFailed)
    if code == _CODES.CANCELLED and not is_callers_wish:
        kind = ServerUnreachable  # the upstream ended, and a caller sends UNAVAILABLE again where it would not this
        details = f"the upstream ended the call ({details}); send it again."
    elif code == _CODES.RESOURCE_EXHAUSTED and "larger than max" in details:  # gRPC's own words, of both sides
        kind = RequestTooLarge
    return kind(details or f"the upstream answered {code.name}.")
