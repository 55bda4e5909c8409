"""A command line read as TensorFlow Serving reads it: `--flag=value` only; what it does not know is told and left."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atalaya_serving.faces.ended import Ended
from atalaya_spec.model_server import Flag, ModelServer

EXIT_FAILED = 255
"""What `return -1` in main gives."""
_INTEGER = re.compile(r"\s*[+-]?[0-9]+")
_FLOAT = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Given:
    """The values given, by flag, and what the original says of the rest before it goes on."""

    values: Mapping[str, str]
    complaint: str = ""


def parse(arguments: Sequence[str], server: ModelServer) -> Given:
    """Read a command line. Raises Ended where the original ends: for a value that is not of its flag's kind, --help."""
    given: dict[str, str] = {}
    unknown: list[str] = []
    wrong: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument == "--":
            unknown += [argument, *left]
            break
        found = _match(argument, server)
        if found is None:
            unknown.append(argument)
            continue
        flag, value = found
        if _is_right(flag, value):
            given[flag.name] = value
        else:
            wrong.append(f"Couldn't interpret value {value} for flag {flag.name}.\n")
    if wrong or unknown[:1] == ["--help"]:
        raise Ended(EXIT_FAILED, "".join(wrong) + usage(server), is_error=False)
    if given.get("version") == "true":
        told = f"TensorFlow ModelServer: {server.version}, played by Atalaya\nTensorFlow Library: {server.version}\n"
        raise Ended(0, told, is_error=False)
    return Given(given, f"unknown argument: {unknown[0]}\n{usage(server)}" if unknown else "")


def usage(server: ModelServer) -> str:
    """The original's usage text, without its explanations."""
    lines = [f"\t{f'--{flag.name}={_shown(flag)}':<33}\t{_KINDS[flag.kind]}\t\n" for flag in server.flags.values()]
    return f"usage: {server.program}\nFlags:\n{''.join(lines)}"


_KINDS = {"integer": "int32", "float": "float", "bool": "bool", "string": "string"}


def _shown(flag: Flag) -> str:
    return f'"{flag.default}"' if flag.kind == "string" else flag.default


def _match(argument: str, server: ModelServer) -> tuple[Flag, str] | None:
    """The flag and its value; a switch may stand alone, every other flag needs its value behind an equals sign."""
    if not argument.startswith("--"):
        return None
    name, sign, value = argument[2:].partition("=")
    flag = server.flags.get(name)
    if flag is not None and (sign or flag.kind == "bool"):
        return flag, value if sign else "true"
    # The original takes whatever begins with a switch's name for that switch, and then cannot read the rest.
    switch = next((one for one in server.flags.values() if one.kind == "bool" and name.startswith(one.name)), None)
    return None if flag is not None or switch is None else (switch, argument[2 + len(switch.name) :])


def _is_right(flag: Flag, value: str) -> bool:
    if flag.kind == "bool":
        return value in ("true", "false")
    if flag.kind == "integer":
        return _INTEGER.fullmatch(value) is not None
    return flag.kind != "float" or _FLOAT.fullmatch(value) is not None
