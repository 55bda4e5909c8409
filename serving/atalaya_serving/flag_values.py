"""How the value of a flag is read: argparse's types, which say in words what is wrong with a text."""

import argparse
import re

from atalaya_serving.errors import SettingsError


def port(text: str) -> int:
    """A port, or 0."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (0 to 65535)")
    return int(text)


def positive(text: str) -> int:
    """A count above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def seconds(text: str) -> float:
    """A time, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return value


def boolean(text: str) -> bool:
    """OVMS' way to say yes and no."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1")


def channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    """Read `a=1,b=x`. Raises SettingsError."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    for key, sign, _ in pairs:
        if not sign:
            raise SettingsError(f"--grpc_channel_arguments has {key!r} without a value; write {key}=VALUE.")
    return tuple((key.strip(), _channel_value(key, value.strip())) for key, _, value in pairs)


def _channel_value(key: str, text: str) -> int | str:
    if not re.fullmatch(r"-?[0-9]+", text):
        return text
    if len(text) > 11 or not -(2**31) <= int(text) < 2**31:  # what gRPC keeps a number in
        raise SettingsError(f"--grpc_channel_arguments has {key}={text[:40]}, which is beyond 32 bits; lower it.")
    return int(text)
