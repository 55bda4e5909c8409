"""A command line read as OpenVINO Model Server reads it: `--flag value` or `--flag=value`, switches without a value."""

from collections.abc import Mapping, Sequence

from atalaya_serving.faces.ended import Ended
from atalaya_spec.model_server import Flag, ModelServer

EXIT_USAGE = 64
"""EX_USAGE of sysexits.h."""
_MAX_INTEGER = 2**32 - 1


def parse(arguments: Sequence[str], server: ModelServer) -> Mapping[str, str]:
    """The values given, by flag; "true" for a bare switch. Raises Ended where the original ends."""
    given: dict[str, str] = {}
    unmatched: list[str] = []
    left = list(arguments)
    while left:
        token = left.pop(0)
        name, sign, value = token.removeprefix("--").partition("=")
        flag = server.flags.get("help" if token == "-h" else name) if token.startswith("-") else None  # noqa: S105
        if flag is None or (token[:2] != "--" and token != "-h"):  # noqa: S105
            unmatched.append(token)
        elif sign:
            given[flag.name] = _checked(flag, value)
        elif flag.kind == "bool":
            given[flag.name] = "true"
        elif _is_bare(flag) and (not left or left[0].startswith("--")):
            given[flag.name] = ""
        elif left:
            given[flag.name] = _checked(flag, left.pop(0))
        else:
            raise Ended(EXIT_USAGE, f"error parsing options: Option ‘{flag.name}’ is missing an argument\n")
    if unmatched:
        told = "".join(f"{token}, " for token in unmatched)
        raise Ended(EXIT_USAGE, f"error parsing options - unmatched arguments: {told}\n")
    if "version" in given:
        raise Ended(0, f"OpenVINO Model Server {server.version}\n{_backend()}\n", is_error=False)
    if not given or "help" in given:
        raise Ended(0, usage(server), is_error=False)
    return given


def usage(server: ModelServer) -> str:
    """The flags of this version."""
    lines = [f"  --{flag.name} {'' if flag.kind == 'bool' else flag.name.upper()}".rstrip() + _default(flag)
             for flag in server.flags.values()]  # fmt: skip
    told = f"OpenVINO Model Server {server.version}, played by Atalaya\nUsage:\n  {server.program} [OPTION...]\n\n"
    return told + "\n".join(lines) + "\n"


def _default(flag: Flag) -> str:
    return f" (default: {flag.default})" if flag.default and flag.kind != "bool" else ""


def _is_bare(flag: Flag) -> bool:
    """Newer releases give these two no value of their own, but --config_path."""
    return flag.name in ("add_to_config", "remove_from_config")


def _checked(flag: Flag, value: str) -> str:
    is_wrong = (flag.kind == "integer" and not (value.isdecimal() and int(value) <= _MAX_INTEGER)) or (
        flag.kind == "bool" and value.lower() not in ("true", "false", "t", "f", "1", "0")
    )
    if is_wrong and flag.name != "grpc_memory_quota":
        raise Ended(EXIT_USAGE, f"error parsing options: Argument ‘{value}’ failed to parse\n")
    if flag.kind == "bool":
        return "true" if value.lower() in ("true", "t", "1") else "false"
    return value


def _backend() -> str:
    from atalaya_serving.about import server_version

    return f"played by Atalaya {server_version()}"
