"""Every error of the serving runtime, and the one table that says what it is on the wire.

ServingError                    (an AtalayaError: exit code 1)
├── ModelNotFound               no model of that name, or no such version           do not retry
├── ModelNotReady               known, but loading, failed, unloading or draining   retry later
├── InvalidRequest              names, shapes, dtypes, bytes do not fit the model   do not retry
├── RequestTooLarge             beyond the message size limit                       do not retry
├── QueueFull                   more calls wait than the server may hold            retry with backoff
├── BodyTooSlow                 (REST) the request's body did not come in time      send it at once
├── DeadlineExpired             the caller's time is over; nothing was computed     retry with more time
├── CallCancelled               the caller went away; nothing was computed          -
├── PreconditionFailed          right in itself, but not in the state of the model  do not retry unchanged
├── NotAuthenticated            nobody knows who asks                               do not retry unchanged
├── NotAllowed                  the one who asks may not                            do not retry
├── NotSupported                a call or option that this server does not have     do not retry
├── InferenceFailed             the engine failed on a valid request                retry once
├── ReloadFailed                a model of a new config did not become available    do not retry unchanged
├── ModelLoadFailed             a version cannot be served; the old one goes on     do not retry unchanged
├── ServerUnreachable           (client) nobody answers at the endpoint             retry later
└── ServedVersionChanged        (client) another version answers than at the start  start again
SettingsError                   (a UsageError: exit code 2) the command line or the config file is wrong
WrongEndpoint                   (client, a UsageError) what was given as an endpoint is no address of one
"""

from dataclasses import dataclass

import grpc

from atalaya_spec.errors import AtalayaError, UsageError


class ServingError(AtalayaError):
    """What a caller of the server may meet; CODES says how each class travels."""


class ModelNotFound(ServingError):
    """No model of that name, or no such version of it."""


class ModelNotReady(ServingError):
    """The version is known and does not serve now."""


class InvalidRequest(ServingError):
    """The request contradicts the model's metadata or itself."""


class RequestTooLarge(ServingError):
    """The message is larger than the server takes."""


class QueueFull(ServingError):
    """All inference requests are busy and the queue behind them is full."""


class BodyTooSlow(ServingError):
    """The caller began a request and did not send the rest of it."""


class DeadlineExpired(ServingError):
    """The deadline passed before the inference began, so it was not begun."""


class CallCancelled(ServingError):
    """The caller cancelled before the inference began, so it was not begun."""


class PreconditionFailed(ServingError):
    """A request that the model, or the server, in its present state cannot take."""


class NotAuthenticated(ServingError):
    """The call does not say who makes it, or not so that it is believed."""


class NotAllowed(ServingError):
    """The one who makes the call may not."""


class NotSupported(ServingError):
    """A call or an option that this server does not offer."""


class InferenceFailed(ServingError):
    """The engine failed on a request that was valid by the model's metadata."""


class ModelLoadFailed(ServingError):
    """A model file is missing, corrupt, or contradicts its manifest."""


class ReloadFailed(ServingError):
    """A new config was taken, but a new model of it does not serve."""


class ServerUnreachable(ServingError):
    """Nobody answers at the endpoint."""


class ServedVersionChanged(ServingError):
    """Another version answers than the one this client was opened on."""


class WrongEndpoint(UsageError):
    """An endpoint that is no host:port."""


class SettingsError(UsageError):
    """A flag or a config file cannot be understood."""


def told_to_caller(error: Exception, limit: int = 1024) -> str:
    """The message as a gRPC status carries it: a longer one would break the limit on metadata, and hide its code."""
    text = str(error)
    return text if len(text) <= limit else text[: limit - 1] + "…"


@dataclass(frozen=True)
class Code:
    """One error on the two protocols."""

    grpc: grpc.StatusCode
    http: int


CODES: dict[type[ServingError], Code] = {
    ModelNotFound: Code(grpc.StatusCode.NOT_FOUND, 404),
    ModelNotReady: Code(grpc.StatusCode.UNAVAILABLE, 503),
    InvalidRequest: Code(grpc.StatusCode.INVALID_ARGUMENT, 400),
    RequestTooLarge: Code(grpc.StatusCode.RESOURCE_EXHAUSTED, 413),
    QueueFull: Code(grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    BodyTooSlow: Code(grpc.StatusCode.DEADLINE_EXCEEDED, 408),
    DeadlineExpired: Code(grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    CallCancelled: Code(grpc.StatusCode.CANCELLED, 499),
    PreconditionFailed: Code(grpc.StatusCode.FAILED_PRECONDITION, 400),
    NotAuthenticated: Code(grpc.StatusCode.UNAUTHENTICATED, 401),
    NotAllowed: Code(grpc.StatusCode.PERMISSION_DENIED, 403),
    NotSupported: Code(grpc.StatusCode.UNIMPLEMENTED, 501),
    InferenceFailed: Code(grpc.StatusCode.INTERNAL, 500),
    ModelLoadFailed: Code(grpc.StatusCode.FAILED_PRECONDITION, 400),
    ReloadFailed: Code(grpc.StatusCode.UNKNOWN, 500),
    ServerUnreachable: Code(grpc.StatusCode.UNAVAILABLE, 503),
    ServedVersionChanged: Code(grpc.StatusCode.FAILED_PRECONDITION, 409),
}


def code_of(error: ServingError) -> Code:
    """How `error` travels; a subclass travels as the nearest parent in the table."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), CODES[InferenceFailed])
