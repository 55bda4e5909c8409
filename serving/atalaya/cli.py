"""The `atalaya` command: finds the command that was asked for, runs it, and turns its errors into one line.

This is the one file that knows all commands. It imports a command's module only when that command is called, so that
`atalaya --help` answers at once however heavy the commands are.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, Protocol, cast

from atalaya_spec.errors import AtalayaError, UsageError

INTERRUPTED = 130  # 128 + SIGINT, what a shell reports
PIPE_CLOSED = 141  # 128 + SIGPIPE
DEBUG_VARIABLE = "ATALAYA_DEBUG"


@dataclass(frozen=True)
class Command:
    """Where a command lives, and the line that `atalaya --help` shows; equal to HELP of its module."""

    module: str
    help: str


COMMANDS = {
    "demo": Command("atalaya.commands.demo", "assess a synthetic town with the shipped model and show its map"),
    "up": Command("atalaya.commands.up", "serve models and the dashboard on this machine, without a cluster"),
    "assess": Command("atalaya.commands.assess", "assess scenes tile by tile: GeoTIFF in, a map of damage out"),
    "lint": Command("atalaya.commands.lint", "check InferenceModel files, every error at once"),
    "plan": Command("atalaya.commands.plan", "show the objects that a cluster would get, and what would change"),
    "operator": Command("atalaya.commands.operator", "run the controller that serves a cluster's InferenceModels"),
    "train": Command("atalaya.commands.train", "train a model on labelled tiles"),
    "export": Command("atalaya.commands.export", "write a trained model in the formats that servers load"),
    "evaluate": Command("atalaya.commands.evaluate", "measure a model on labelled tiles"),
    "bench": Command("atalaya.commands.bench", "measure servers and engines under load, and the thesis' tables again"),
}

# The distribution's extra that brings a package which is not always installed.
EXTRAS = {
    "tensorflow": "tensorflow",
    "keras": "train",
    "nncf": "train",
    "sklearn": "train",
    "matplotlib": "train",
    "streamlit": "dashboard",
    "pydeck": "dashboard",
    "h3": "dashboard",
    "psycopg": "postgres",
    "kubernetes": "operator",
    "kopf": "operator",
}


class _CommandModule(Protocol):
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all our errors do, instead of repeating the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and answer its exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted.

    A failure is a line on stderr; with --json also an object on stdout, for whoever reads only that:
    `{"error": {"type": …, "message": …, "exit_code": …}}`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    try:
        return _run_command(name, arguments[1:]) if name else _answer_without_command(arguments)
    except AtalayaError as error:
        return _report(arguments, error, str(error), error.exit_code)
    except KeyboardInterrupt as interrupt:
        _print_json(arguments, interrupt, "it was interrupted before its end.", INTERRUPTED)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`atalaya … | head`). Python flushes stdout once more at exit: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except ModuleNotFoundError as error:
        return _report(arguments, error, _missing_package(error), 1)
    except Exception as error:  # the process's outermost edge: a defect must not show a user a stack trace
        if os.environ.get(DEBUG_VARIABLE):
            raise
        return _report(arguments, error, _unexpected(error), 1)


def _answer_without_command(arguments: Sequence[str]) -> int:
    parser = _main_parser()
    args = parser.parse_args(arguments)
    if args.version:
        from importlib.metadata import version

        print(f"atalaya {version('atalaya')}")
        return 0
    parser.print_help(sys.stderr)
    return UsageError.exit_code


def _main_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    parser = _Parser(
        prog="atalaya",
        usage="atalaya [--help] [--version] COMMAND …",
        description="Turns post-disaster imagery into a live map of damage.",
        epilog="\n".join(["commands:", *lines, "", "`atalaya COMMAND --help` tells all of one command."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    return parser


def _run_command(name: str, arguments: Sequence[str]) -> int:
    command = COMMANDS.get(name)
    if command is None:
        raise UsageError(f"there is no command {name!r}{_did_you_mean(name, COMMANDS)}; `atalaya --help` lists all.")
    module = cast("_CommandModule", importlib.import_module(command.module))
    parser = _Parser(
        prog=f"atalaya {name}",
        description=module.HELP[:1].upper() + module.HELP[1:] + ".",
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = [option for action in parser._actions for option in action.option_strings]
        raise UsageError(
            f"{unknown[0]!r} is not an argument{_did_you_mean(unknown[0].split('=')[0], known)}; "
            f"see `{parser.prog} --help`."
        )
    code = module.run(args)
    sys.stdout.flush()  # here, where a closed pipe is still caught
    return code


def _did_you_mean(given: str, known: Sequence[str] | dict[str, Command]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(given, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _report(arguments: Sequence[str], error: Exception, message: str, code: int) -> int:
    command = arguments[0] if arguments else ""
    print(f"atalaya{' ' + command if command in COMMANDS else ''}: error: {message}", file=sys.stderr)
    _print_json(arguments, error, message, code)
    return code


def _print_json(arguments: Sequence[str], error: BaseException, message: str, code: int) -> None:
    if "--json" in arguments:
        import json

        told = {"type": type(error).__name__, "message": message, "exit_code": code}
        with suppress(BrokenPipeError):
            print(json.dumps({"error": told}), flush=True)


def _missing_package(error: ModuleNotFoundError) -> str:
    package = (error.name or str(error)).partition(".")[0]
    if extra := EXTRAS.get(package):
        return f"the package {package!r} is not installed; install it: pip install 'atalaya[{extra}]'."
    return f"the package {package!r} is not installed; install Atalaya again, with its dependencies."


def _unexpected(error: Exception) -> str:
    told = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; check the path, its permissions and the space left."
    return (
        f"unexpected {type(error).__name__}: {told}; this is a defect of Atalaya, "
        f"{DEBUG_VARIABLE}=1 shows where it happened."
    )
