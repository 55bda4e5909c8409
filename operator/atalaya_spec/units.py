"""How sizes, times and shares are written, and what they are worth: Kubernetes quantities, durations, percentages.

Each value keeps the text it was written as, because manifests hand that on unchanged.
"""

import re
from dataclasses import dataclass
from decimal import Decimal

from atalaya_spec.problems import Refused

_DECIMAL = {"": 0, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_QUANTITY = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)([A-Za-z]{0,2})", re.ASCII)
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(us|µs|ms|s|m|h)", re.ASCII)
_SECONDS = {
    unit: Decimal(worth)
    for unit, worth in (("us", "1e-6"), ("µs", "1e-6"), ("ms", "1e-3"), ("s", "1"), ("m", "60"), ("h", "3600"))
}


@dataclass(frozen=True)
class Quantity:
    """A Kubernetes quantity: `500m`, `1`, `1Gi`. `value` is in cores or bytes."""

    text: str
    value: Decimal

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Duration:
    """A span of time with its unit: `2ms`, `1s`."""

    text: str
    seconds: float

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Percentage:
    """A share of what was requested, 1% to 100%."""

    percent: int

    def __str__(self) -> str:
        return f"{self.percent}%"


def read_cpu(value: object) -> Quantity:
    """Cores: `2`, `0.5`, `500m`. Kubernetes knows nothing finer than `1m`."""
    quantity = _quantity(value, "a number of cores", "write cores or thousandths, such as 2 or 500m")
    if quantity.text.endswith("i"):
        raise Refused(f"{quantity.text} is a size of memory, not a number of cores", "write cores, such as 2 or 500m")
    if quantity.value * 1000 % 1:
        raise Refused(f"{quantity.text} is finer than a thousandth of a core", "round it to whole thousandths, as 1m")
    return quantity


def read_memory(value: object) -> Quantity:
    """Bytes: `512Mi`, `1Gi`, `2G`."""
    quantity = _quantity(value, "a size of memory", "write bytes with a unit, such as 512Mi or 1Gi")
    if quantity.text.endswith("m"):
        number = quantity.text[:-1]
        raise Refused(f"{quantity.text} means {number} thousandths of a byte", f"did you mean {number}Mi?")
    return quantity


def _quantity(value: object, what: str, next_step: str) -> Quantity:
    if isinstance(value, float):
        raise Refused(
            f"{value} is a number with a fraction, which an API server does not take here", "write it in quotes"
        )
    text = _text_of(value)
    match = _QUANTITY.fullmatch(text)
    if not match or (match[2] not in _DECIMAL and match[2] not in _BINARY):
        raise Refused(f"{text!r} is not {what}", next_step)
    factor = Decimal(2) ** _BINARY[match[2]] if match[2] in _BINARY else Decimal(10) ** _DECIMAL[match[2]]
    worth = Decimal(match[1]) * factor
    if worth <= 0:
        raise Refused(f"{text} is nothing", "write more than 0, or leave the field out")
    return Quantity(text, worth)


def read_duration(value: object) -> Duration:
    """A span above zero: `500us`, `2ms`, `1.5s`, `1m`, `1h`."""
    text = _text_of(value)
    match = _DURATION.fullmatch(text)
    if not match:
        bare = isinstance(value, int | float) and not isinstance(value, bool)
        fact = f"{text} has no unit" if bare else f"{text!r} is not a duration"
        raise Refused(fact, f"write a number and its unit, such as {text if bare else '2'}ms or 1s")
    seconds = float(Decimal(match[1]) * _SECONDS[match[2]])
    if seconds <= 0:
        raise Refused(f"{text} is no time at all", "write more than 0, or leave the field out")
    return Duration(text, seconds)


def read_percentage(value: object) -> Percentage:
    """A whole share with its sign: `70%`."""
    text = _text_of(value)
    match = re.fullmatch(r"(\d{1,3})%", text, re.ASCII)
    if not match:
        suggestion = f"{text}%" if re.fullmatch(r"\d{1,2}", text, re.ASCII) else "70%"
        raise Refused(f"{text!r} is not a percentage", f"write a whole number with its sign, such as {suggestion}")
    percent = int(match[1])
    if not 1 <= percent <= 100:
        raise Refused(f"{text} is outside 1% to 100%", "write the share of the requested cores to aim at, such as 70%")
    return Percentage(percent)


def _text_of(value: object) -> str:
    """Numbers are written without quotes as well as with them; anything else but text is refused by its type."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Refused(f"{type_name(value)} stands here", "write a text or a number")
    return str(value)


def type_name(value: object) -> str:
    """What YAML made of a value, in words."""
    if value is None:
        return "nothing"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}
    return names.get(type(value), "a mapping" if isinstance(value, dict) else f"a {type(value).__name__}")
