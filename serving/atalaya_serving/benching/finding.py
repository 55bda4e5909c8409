"""Which of the four protocols an address speaks for a model, by asking."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atalaya_serving.benching.calling import Client
from atalaya_serving.benching.errors import CallFailed, InvalidPlan, NoServer, UnknownModel
from atalaya_serving.benching.grpc_clients import TfsGrpc, V2Grpc
from atalaya_serving.benching.inputs import InputSpec
from atalaya_serving.benching.records import Protocol
from atalaya_serving.benching.rest_clients import TfsRest, V2Rest

CLIENTS: dict[Protocol, type[V2Grpc | V2Rest | TfsGrpc | TfsRest]] = {
    "v2-grpc": V2Grpc,
    "v2-rest": V2Rest,
    "tfs-grpc": TfsGrpc,
    "tfs-rest": TfsRest,
}
_PROBE_SECONDS = 10.0
_NOT_FOUND = ("NOT_FOUND", "404")


@dataclass(frozen=True)
class Found:
    """A protocol that answers for the model, and what it tells of the inputs."""

    client: Client
    inputs: list[InputSpec]


def host_and_port(address: str) -> tuple[str, int]:
    """Cut HOST:PORT. Raises InvalidPlan."""
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidPlan(f"{address!r} is not HOST:PORT; write it as 127.0.0.1:9000.")
    return host.strip("[]"), int(port)


def client(protocol: Protocol, address: str, model: str, version: str, timeout_seconds: float) -> Client:
    """The client of a protocol."""
    made: Client = CLIENTS[protocol](address, model, version, timeout_seconds)
    return made


@dataclass(frozen=True)
class Wanted:
    """What is looked for at an address."""

    model: str
    version: str
    protocols: Sequence[Protocol]
    timeout_seconds: float


def find(address: str, wanted: Wanted) -> dict[Protocol, Found]:
    """The protocols that answer for the model at `address`. Raises NoServer, UnknownModel."""
    _check_listens(address)
    found: dict[Protocol, Found] = {}
    refused: dict[Protocol, CallFailed] = {}
    for protocol in wanted.protocols:
        probe = client(protocol, address, wanted.model, wanted.version, min(wanted.timeout_seconds, _PROBE_SECONDS))
        try:
            told = probe.inputs()
        except CallFailed as error:
            refused[protocol] = error
        else:
            real = client(protocol, address, wanted.model, wanted.version, wanted.timeout_seconds)
            found[protocol] = Found(real, told)
        finally:
            probe.close()
    if not found:
        raise _nothing(address, wanted, refused)
    return found


def _check_listens(address: str) -> None:
    host, port = host_and_port(address)
    try:
        socket.create_connection((host, port), timeout=_PROBE_SECONDS).close()
    except OSError as error:
        raise NoServer(
            f"nobody answers at {address} ({error.strerror or error}); start the server, or correct the address."
        ) from error


def _nothing(address: str, wanted: Wanted, refused: Mapping[Protocol, CallFailed]) -> NoServer | UnknownModel:
    version = f" version {wanted.version}" if wanted.version else ""
    grpc = [protocol for protocol, error in refused.items() if error.code == "NOT_FOUND"]
    if grpc or any("model" in str(error).lower() for error in refused.values() if error.code == "404"):
        told = next(str(error) for error in refused.values() if error.code in _NOT_FOUND)
        return UnknownModel(f"the server has no model {wanted.model!r}{version}; name one of its own. {told}")
    reasons = "; ".join(f"{protocol}: {_short(error)}" for protocol, error in refused.items())
    return NoServer(f"{address} serves {wanted.model!r}{version} over none of {', '.join(refused)} ({reasons}).")


def _short(error: CallFailed) -> str:
    text = str(error)
    return text if len(text) <= 120 else text[:119] + "…"
