"""Reads nested mappings into frozen dataclasses by what each field says of itself, and gathers every problem.

A field carries its description and its reader, so that the parser, the docs table and whatever else describes the
resource come from one place. A YAML key is the field's name in camelCase.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from atalaya_spec.problems import Problem, Refused, did_you_mean, one_of
from atalaya_spec.units import type_name

_DESCRIPTION, _READER = "description", "reader"
_MOST_UNKNOWN = 20


class _Invalid:
    """Stands for a value that was refused; what holds it is not built."""


INVALID = _Invalid()


@dataclass
class Findings:
    """What reading one document found: problems, and by path every value that was given and is valid.

    `given` has a struct's path as soon as the struct was written, so that rules may ask for presence.
    """

    problems: list[Problem] = field(default_factory=list)
    given: dict[str, Any] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    """Every path of the resource, to tell where a misplaced field belongs."""

    def add(self, path: str, fact: str, next_step: str) -> None:
        """Keep one problem."""
        self.problems.append(Problem(path, fact, next_step))


class Reader(Protocol):
    """Reads one value. `written` tells in the docs how it is written."""

    @property
    def written(self) -> str: ...

    def read(self, value: object, path: str, findings: Findings) -> Any:
        """The typed value, or INVALID after the problems were added to `findings`."""
        ...


def described(description: str, reader: Reader, *, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field with what it means and how it is read; required when it has no default."""
    return field(default=default, metadata={_DESCRIPTION: description, _READER: reader})


@dataclass(frozen=True)
class Scalar:
    """A value that one function reads: it raises Refused, or answers. `schema` is how an API server says the same."""

    written: str
    parse: Callable[[object], Any]
    schema: Mapping[str, Any] = field(default_factory=dict)

    def read(self, value: object, path: str, findings: Findings) -> Any:
        try:
            parsed = self.parse(value)
        except Refused as refused:
            findings.add(path, refused.fact, refused.next_step)
            return INVALID
        findings.given[path] = parsed
        return parsed


@dataclass(frozen=True)
class WholeNumber:
    """An integer between two bounds, both included."""

    least: int
    most: int

    @property
    def written(self) -> str:
        return f"integer, {self.least} to {self.most}"

    def read(self, value: object, path: str, findings: Findings) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            quoted = isinstance(value, str) and value.strip().isdecimal()
            step = f"write {value} without quotes" if quoted else "write a whole number"
            findings.add(path, f"{value!r} is {type_name(value)}, not a whole number", step)
            return INVALID
        if not self.least <= value <= self.most:
            findings.add(path, f"{value} is out of range", f"write a number from {self.least} to {self.most}")
            return INVALID
        findings.given[path] = value
        return value


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def written(self) -> str:
        return " \\| ".join(f"`{word}`" for word in self.words)

    def read(self, value: object, path: str, findings: Findings) -> Any:
        if value not in self.words:
            told = repr(value) if isinstance(value, str) else type_name(value)
            suggestion = did_you_mean(value, self.words) if isinstance(value, str) else ""
            findings.add(path, f"{told} is not one of {', '.join(self.words)}", suggestion or _write(self.words))
            return INVALID
        findings.given[path] = value
        return value


@dataclass(frozen=True)
class ListOf:
    """A list of distinct items, not empty."""

    item: Reader
    most: int

    @property
    def written(self) -> str:
        return f"list of {self.item.written}"

    def read(self, value: object, path: str, findings: Findings) -> Any:
        if not isinstance(value, list):
            findings.add(path, f"{type_name(value)} stands here, a list is needed", "write [a, b]")
            return INVALID
        if not value:
            findings.add(path, "the list is empty", "name at least one, or leave the field out")
            return INVALID
        if len(value) > self.most:
            findings.add(path, f"the list has {len(value)} items", f"name at most {self.most}")
            return INVALID
        items = [self.item.read(item, f"{path}[{i}]", findings) for i, item in enumerate(value)]
        for i, item in enumerate(items):
            if item is not INVALID and item in items[:i]:
                findings.add(f"{path}[{i}]", f"{value[i]!r} is named twice", "name it once")
        if INVALID in items:
            return INVALID
        findings.given[path] = tuple(items)
        return tuple(items)


@dataclass(frozen=True)
class Texts:
    """A mapping of texts to texts, as labels are."""

    written: str = "mapping of texts"

    def read(self, value: object, path: str, findings: Findings) -> Any:
        if not isinstance(value, dict) or not all(isinstance(x, str) for pair in value.items() for x in pair):
            findings.add(path, "not every key and value is a text", "write key: 'value', with quotes")
            return INVALID
        findings.given[path] = value
        return dict(value)


@dataclass(frozen=True)
class Struct:
    """A mapping with the fields of a dataclass. `ignored` are keys that others write and we pass over."""

    cls: type
    ignored: frozenset[str] = frozenset()

    @property
    def written(self) -> str:
        return "mapping"

    def read(self, value: object, path: str, findings: Findings) -> Any:
        if not isinstance(value, Mapping):
            keys = one_of(f"'{key}'" for key in struct_fields(self.cls))
            next_step = f"write fields such as {keys}" if keys else "write {}"
            findings.add(path, f"{type_name(value)} stands here, a mapping is needed", next_step)
            return INVALID
        findings.given[path] = value
        self._refuse_unknown(value, path, findings)
        kwargs = {}
        for key, member in struct_fields(self.cls).items():
            at = f"{path}.{key}" if path else key
            if value.get(key) is not None:
                kwargs[member.name] = reader_of(member).read(value[key], at, findings)
            elif member.default is dataclasses.MISSING:
                findings.add(at, "the field is missing", f"add it ({reader_of(member).written})")
                kwargs[member.name] = INVALID
            elif key in value:
                findings.add(at, "the field has no value", "give it one, or leave the field out")
                kwargs[member.name] = INVALID
        return INVALID if INVALID in kwargs.values() else self.cls(**kwargs)

    def _refuse_unknown(self, value: Mapping[Any, Any], path: str, findings: Findings) -> None:
        known = struct_fields(self.cls)
        unknown = [key for key in value if key not in known and key not in self.ignored]
        for key in unknown[:_MOST_UNKNOWN]:
            at = f"{path}.{key}" if path else str(key)
            listed = f"leave it out; the fields here are {', '.join(known)}" if known else "leave it out"
            step = _home(str(key), path, findings.paths) or did_you_mean(str(key), known) or listed
            findings.add(at, "there is no such field", step)
        if (more := len(unknown) - _MOST_UNKNOWN) > 0:
            findings.add(path, f"{more:,} more fields are unknown", "correct the first ones, then check again")


def _home(key: str, path: str, paths: tuple[str, ...]) -> str:
    """Where a field that stands at the wrong place belongs: below that place if it can, else anywhere."""
    homes = [one for one in paths if one.rpartition(".")[2] == key]
    homes.sort(key=lambda home: not home.startswith(f"{path}."))
    return f"it belongs at {homes[0]}" if homes else ""


def struct_fields(cls: type) -> dict[str, "dataclasses.Field[Any]"]:
    """The fields of a described dataclass by their YAML key."""
    return {camel_case(member.name): member for member in dataclasses.fields(cls)}


def camel_case(name: str) -> str:
    """`max_size` → `maxSize`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def reader_of(member: "dataclasses.Field[Any]") -> Reader:
    """How a field is read."""
    reader: Reader = member.metadata[_READER]
    return reader


def description_of(member: "dataclasses.Field[Any]") -> str:
    """What a field means."""
    return str(member.metadata[_DESCRIPTION])


@dataclass(frozen=True)
class DescribedField:
    """One field of a resource, for tables and schemas. `default` is None when there is none."""

    path: str
    written: str
    required: bool
    default: Any
    description: str


def walk(cls: type, prefix: str = "") -> Iterator[DescribedField]:
    """Every field below a described dataclass, depth first, in the order of the source."""
    for key, member in struct_fields(cls).items():
        reader, path = reader_of(member), f"{prefix}.{key}" if prefix else key
        required = member.default is dataclasses.MISSING
        default = None if required else member.default
        yield DescribedField(path, reader.written, required, default, description_of(member))
        if isinstance(reader, Struct):
            yield from walk(reader.cls, path)
        elif isinstance(reader, ListOf) and isinstance(reader.item, Struct):
            yield from walk(reader.item.cls, f"{path}[]")


def _write(words: tuple[str, ...]) -> str:
    return f"write {one_of(words)}"
