"""Writes the chart's README table and values.schema.json from the comments in values.yaml, so that there is one text.

`python tests/contract/chart_values.py` writes both; a test holds them equal. A comment `# -- …` describes the value
below it, over several lines if need be; `# @schema {…}` adds to its type. A mapping with a description is one value,
one without is a section.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts" / "atalaya"
BEGIN, END = "<!-- values begin -->\n", "<!-- values end -->\n"
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


@dataclass(frozen=True)
class Value:
    """One documented value; `path` as `--set` takes it."""

    path: str
    default: Any
    description: str
    constraints: dict[str, Any]

    @property
    def row(self) -> str:
        shown = json.dumps(self.default) if self.default not in ("", [], {}) else ""
        code = f"`{shown}`" if shown else ""
        return f"| `{self.path}` | {code} | {self.description} |\n"

    @property
    def schema(self) -> dict[str, Any]:
        made = {"description": self.description, "type": _TYPES[type(self.default)]}
        least = {"minimum": 0} if made["type"] == "integer" else {}
        return made | least | self.constraints


def values(text: str) -> Iterator[Value]:
    """All values of a values.yaml. Raises ValueError for one that nothing describes."""
    lines = text.splitlines()
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    yield from _members(root, "", lines, yaml.safe_load(text))


def schema(text: str) -> dict[str, Any]:
    """The JSON schema: what is not described is refused."""
    whole = _section()
    for value in values(text):
        *sections, name = value.path.split(".")
        at = whole
        for section in sections:
            at = at["properties"].setdefault(section, _section())
        at["properties"][name] = value.schema
    whole["properties"]["global"] = {"description": "What Helm gives to every chart.", "type": "object"}
    return {"$schema": "http://json-schema.org/draft-07/schema#"} | whole


def table(text: str) -> str:
    """The README's table."""
    return "| value | default | means |\n|---|---|---|\n" + "".join(value.row for value in values(text))


def schema_text(text: str) -> str:
    return json.dumps(schema(text), indent=2) + "\n"


def readme_with(readme: str, text: str) -> str:
    """A README with its table made anew."""
    before, _, rest = readme.partition(BEGIN)
    return before + BEGIN + table(text) + END + rest.partition(END)[2]


def _section() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _members(node: yaml.MappingNode, prefix: str, lines: list[str], loaded: Any) -> Iterator[Value]:
    for key, member in node.value:
        path, default = f"{prefix}{key.value}", loaded[key.value]
        description, constraints = _comment(lines, key.start_mark.line)
        if description:
            yield Value(path, default, description, constraints)
        elif isinstance(member, yaml.MappingNode) and member.value:
            yield from _members(member, f"{path}.", lines, default)
        else:
            raise ValueError(f"{path} has no description: write `# -- …` above it")


def _comment(lines: list[str], at: int) -> tuple[str, dict[str, Any]]:
    """What stands directly above a line."""
    words: list[str] = []
    constraints: dict[str, Any] = {}
    for line in reversed(lines[:at]):
        text = line.strip()
        if text.startswith("# @schema "):
            constraints |= json.loads(text.removeprefix("# @schema "))
        elif text.startswith("# -- "):
            return " ".join([text.removeprefix("# -- "), *words]), constraints
        elif text.startswith("# "):
            words.insert(0, text.removeprefix("# "))
        else:
            break
    return "", {}


if __name__ == "__main__":
    told = (CHART / "values.yaml").read_text(encoding="utf-8")
    (CHART / "values.schema.json").write_text(schema_text(told), encoding="utf-8")
    readme_file = CHART / "README.md"
    readme_file.write_text(readme_with(readme_file.read_text(encoding="utf-8"), told), encoding="utf-8")
