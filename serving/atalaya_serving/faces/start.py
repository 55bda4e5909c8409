"""Starts the server in the place of another: which one and which version is named on the command line or outside it.

`python -m atalaya_serving ovms:2026.2.1 FLAGS…`, or ATALAYA_FACE=ovms:2026.2.1 with the flags alone, as a container's
arguments are; or the commands `ovms` and `tensorflow_model_server`. Without a version it is the newest known.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from atalaya_serving.engines.base import Backend
from atalaya_serving.errors import SettingsError
from atalaya_serving.faces.ended import Ended
from atalaya_spec import ovms, tfs
from atalaya_spec.errors import AtalayaError
from atalaya_spec.model_server import ModelServer, minor

if TYPE_CHECKING:
    from atalaya_serving.server import Server

ENV_FACE, ENV_BACKEND = "ATALAYA_FACE", "ATALAYA_BACKEND"
_TABLES: Mapping[str, tuple[Callable[[str], ModelServer], Sequence[str]]] = {
    "ovms": (ovms.server, ovms.VERSIONS),
    "tensorflow_model_server": (tfs.server, tfs.VERSIONS),
}


@dataclass(frozen=True)
class Face:
    """Which original, and the flags it is started with."""

    server: ModelServer
    arguments: Sequence[str]


def face_of(arguments: Sequence[str], environment: Mapping[str, str]) -> Face | None:
    """The face that is asked for, by the first argument or by ATALAYA_FACE, if any. Raises SettingsError."""
    first = arguments[0] if arguments else ""
    if first.partition(":")[0] in _TABLES:
        return Face(model_server(first), arguments[1:])
    if environment.get(ENV_FACE):
        return Face(model_server(environment[ENV_FACE]), arguments)
    return None


def model_server(named: str) -> ModelServer:
    """The original of `program` or `program:version`. Raises SettingsError for one that is not known."""
    program, _, version = named.partition(":")
    if program not in _TABLES:
        raise SettingsError(f"there is no face {program!r}; it is one of {', '.join(_TABLES)}.")
    table, known = _TABLES[program]
    try:
        is_known = not version or minor(version) in {minor(one) for one in known}
    except ValueError:
        is_known = False
    if not is_known:
        raise SettingsError(f"{program} {version} is not known here; name one from {known[0]} to {known[-1]}.")
    return table(version or known[-1])


def run(face: Face, environment: Mapping[str, str]) -> int:
    """Serve as that original until SIGTERM; the exit code is the original's, but for a drain that was cut short."""
    try:
        return _server(face, environment).run()
    except Ended as ended:
        print(ended.words, end="", file=sys.stderr if ended.is_error else sys.stdout, flush=True)
        return ended.code


def _server(face: Face, environment: Mapping[str, str]) -> "Server":
    is_ovms = face.server.program == "ovms"
    return _ovms(face) if is_ovms else _tfs(face, environment)


def _ovms(face: Face) -> "Server":
    from atalaya_serving.faces.ovms_flags import parse
    from atalaya_serving.faces.ovms_settings import EXIT_FAILURE, ovms_start

    start = ovms_start(parse(face.arguments, face.server), face.server)
    from atalaya_serving.engines.choice import Engines
    from atalaya_serving.faces.ovms_server import OvmsServer

    _set_up(start.settings.log_level, start.log_path)
    try:
        return OvmsServer(start, Engines())
    except SettingsError as error:
        raise Ended(EXIT_FAILURE, f"{error}\n") from error


def _tfs(face: Face, environment: Mapping[str, str]) -> "Server":
    from atalaya_serving.faces.tfs_flags import parse
    from atalaya_serving.faces.tfs_settings import tfs_start

    start = tfs_start(parse(face.arguments, face.server), face.server, _backend(environment))
    if start.complaint:
        print(start.complaint, end="", flush=True)  # noqa: T201 - where the original prints it
    from atalaya_serving.engines.choice import Engines
    from atalaya_serving.faces.tfs_server import TfsServer

    _set_up(start.settings.log_level, None)
    told = start.settings.tfs
    return TfsServer(start, Engines(told.intra_op_threads, told.inter_op_threads))


def _backend(environment: Mapping[str, str]) -> Backend | None:
    told = environment.get(ENV_BACKEND) or None
    if told is not None and told not in get_args(Backend):
        raise SettingsError(f"{ENV_BACKEND}={told} is none of {', '.join(get_args(Backend))}.")
    return cast(Backend | None, told)


def _set_up(level: str, log_path: Path | None) -> None:
    from atalaya_serving import logs
    from atalaya_serving.server import keep_freed_memory

    keep_freed_memory()
    logs.set_up(level, "auto")
    if log_path is not None:
        handler = logging.FileHandler(log_path, encoding="utf-8")
        handler.setFormatter(logs.JsonFormatter())
        logging.getLogger().addHandler(handler)


def ovms_command() -> int:
    """The command `ovms`."""
    return _command("ovms")


def tensorflow_model_server_command() -> int:
    """The command `tensorflow_model_server`."""
    return _command("tensorflow_model_server")


def _command(program: str) -> int:
    """The version is that of ATALAYA_FACE where it names this program."""
    told = os.environ.get(ENV_FACE, "")
    try:
        named = told if told.partition(":")[0] == program else program
        return run(Face(model_server(named), sys.argv[1:]), os.environ)
    except AtalayaError as error:
        print(f"{program}: error: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return error.exit_code
    except KeyboardInterrupt:  # before it serves
        return 128 + signal.SIGINT
