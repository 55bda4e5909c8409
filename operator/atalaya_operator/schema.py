"""From described dataclasses to the structural schema of an API server. Pure; knows no field by its name."""

import dataclasses
from collections.abc import Callable
from typing import Any

from atalaya_spec.field_schemas import Schema, rule
from atalaya_spec.fields import (
    Choice,
    ListOf,
    Reader,
    Scalar,
    Struct,
    WholeNumber,
    camel_case,
    description_of,
    reader_of,
    struct_fields,
)

RulesAt = Callable[[str], list[Schema]]


def struct_schema(cls: type, path: str, rules_at: RulesAt) -> Schema:
    """The schema of a described dataclass that stands at `path`."""
    properties, required = {}, []
    for key, member in struct_fields(cls).items():
        at = f"{path}.{key}" if path else key
        properties[key] = _with_description(_schema(reader_of(member), at, rules_at), description_of(member))
        if member.default is dataclasses.MISSING:
            required.append(key)
        elif (default := plain(member.default)) is not None and not isinstance(default, dict):
            # A mapping that is filled in belongs to nobody, so that what is applied later would only be added to it.
            properties[key]["default"] = default
    schema: Schema = {"type": "object"}
    if properties:
        schema["properties"] = properties
    if required:
        schema["required"] = required
    if rules := rules_at(path):
        schema["x-kubernetes-validations"] = rules
    return schema


def plain(value: Any) -> Any:
    """A described value as an API server has it: mappings, lists and scalars; what is None is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        members = {camel_case(one.name): plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
        return {key: member for key, member in members.items() if member is not None}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def _schema(reader: Reader, path: str, rules_at: RulesAt) -> Schema:
    match reader:
        case Struct():
            return struct_schema(reader.cls, path, rules_at)
        case ListOf():
            return _list_schema(reader, path, rules_at)
        case WholeNumber():
            size = "int32" if reader.most < 2**31 else "int64"
            return {"type": "integer", "format": size, "minimum": reader.least, "maximum": reader.most}
        case Choice():
            return {"type": "string", "enum": list(reader.words)}
        case Scalar() if reader.schema:
            return dict(reader.schema)
    raise TypeError(f"{path}: {reader} says no schema")


def _list_schema(reader: ListOf, path: str, rules_at: RulesAt) -> Schema:
    schema: Schema = {"type": "array", "items": _schema(reader.item, f"{path}[]", rules_at), "maxItems": reader.most}
    if isinstance(reader.item, Struct):
        keys = [key for key in ("type", "name", "number") if key in struct_fields(reader.item.cls)]
        return schema | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys[:1]}
    distinct = rule("self.all(one, self.exists_one(other, other == one))", "an item is named twice; name it once")
    # The order of a list says something, so that it is one value, not a set that several may add to.
    return schema | {"minItems": 1, "x-kubernetes-list-type": "atomic", "x-kubernetes-validations": [distinct]}


def _with_description(schema: Schema, description: str) -> Schema:
    return {"description": description, **schema}
