"""Reads InferenceModel files: YAML of one or more documents in, models and every problem with its line out.

A file may hold other kinds of objects beside the models; they are passed over and said so.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from atalaya_spec.fields import INVALID, Findings, walk
from atalaya_spec.inference_model import API_VERSION, GROUP, INFERENCE_MODEL, KIND, InferenceModel
from atalaya_spec.problems import Problem, did_you_mean
from atalaya_spec.rules import contradictions, notes, refused_in_a_cluster

MAX_FILE_BYTES = 1024 * 1024  # what a cluster's store takes of one object
_LINES_KEPT = 10_000
_MOST_DOCUMENTS = 1_000
_MOST_DIGITS = 1_000


@dataclass(frozen=True)
class Checked:
    """One document of a file: its model when it is valid, else its problems; `notes` are no errors."""

    source: str
    model: InferenceModel | None
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict, repr=False)

    @property
    def line(self) -> int:
        """Where the document begins."""
        return self.lines.get("", 0)

    def placed(self, problems: Iterable[Problem]) -> tuple[Problem, ...]:
        """Problems with this document's name and their lines, in the order of the file."""
        found = [replace(one, source=self.source, line=_line_of(one.path, self.lines)) for one in problems]
        return tuple(sorted(found, key=lambda one: one.line))


@dataclass(frozen=True)
class _Document:
    value: Any
    lines: dict[str, int]


def problems_of(checked: Iterable[Checked]) -> list[Problem]:
    """All problems of all documents."""
    return [problem for document in checked for problem in document.problems]


def check_files(files: Sequence[Path], *, for_cluster: bool = True) -> list[Checked]:
    """Check every document of all files, and that no two models have one name.

    `for_cluster` refuses what only `atalaya up` can serve.
    """
    checked = [document for file in files for document in check_file(file, for_cluster=for_cluster)]
    return list(_with_duplicates_refused(checked))


def check_file(file: Path, *, for_cluster: bool = True) -> list[Checked]:
    """Check every document of one file; a file that cannot be read is a problem too."""
    try:
        with file.open("rb") as opened:  # a pipe has no size to ask for
            text = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        told = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        return [_unreadable(file, told, "check the path and its permissions")]
    if len(text) > MAX_FILE_BYTES:
        return [_unreadable(file, f"the file has more than {MAX_FILE_BYTES:,} bytes", "split it")]
    return check_text(text, str(file), for_cluster=for_cluster)


def check_text(text: str | bytes, source: str, *, for_cluster: bool = True) -> list[Checked]:
    """Check every document of a YAML text; `source` is what the problems call it."""
    try:
        documents = list(_documents(text))
    except yaml.MarkedYAMLError as error:
        told = " ".join(part for part in (error.problem, error.context) if part)
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        return [Checked(source, None, (Problem("", f"not YAML: {told}", "correct it", source, line),))]
    except RecursionError:
        step = f"an {KIND} has six levels at most; take out the others"
        return [Checked(source, None, (Problem("", "it is nested too deeply to be read", step, source),))]
    except (yaml.YAMLError, ValueError) as error:
        told = " ".join(str(error).split())
        return [Checked(source, None, (Problem("", f"not YAML: {told}", "correct it", source),))]
    checked = [_check(document, source, for_cluster) for document in documents if document.value is not None]
    if not any(document.model or document.problems for document in checked):
        fact, step = f"there is no {KIND} in the file", f"write one: apiVersion: {API_VERSION}, kind: {KIND}, …"
        checked.append(Checked(source, None, (Problem("", fact, step, source),)))
    return checked


def check_object(value: object, *, for_cluster: bool = True) -> tuple[InferenceModel | None, Findings]:
    """Check one InferenceModel as a cluster or a file has it. The model is None when there are problems."""
    findings = Findings(paths=_paths())
    model = INFERENCE_MODEL.read(value, "", findings)
    findings.problems += contradictions(findings.given)
    findings.problems += refused_in_a_cluster(findings.given) if for_cluster else []
    return (None if model is INVALID or findings.problems else model), findings


@cache
def _paths() -> tuple[str, ...]:
    return tuple(described.path for described in walk(InferenceModel))


def _check(document: _Document, source: str, for_cluster: bool) -> Checked:
    unchecked = Checked(source, None, lines=document.lines)
    if other := _other_kind(document.value):
        note = Problem("", f"not checked: {other}", f"only {KIND} is checked here")
        return replace(unchecked, notes=unchecked.placed([note]))
    model, findings = check_object(document.value, for_cluster=for_cluster)
    problems, told = unchecked.placed(findings.problems), unchecked.placed(notes(findings.given))
    return replace(unchecked, model=model, problems=problems, notes=told)


def _other_kind(value: Any) -> str:
    """The kind of an object that is surely not meant to be ours; empty otherwise."""
    kind, api_version = (value.get("kind"), value.get("apiVersion")) if isinstance(value, dict) else (None, None)
    if not isinstance(kind, str) or not isinstance(api_version, str):
        return ""
    ours = api_version.startswith(f"{GROUP}/") or did_you_mean(kind, (KIND,))
    return "" if ours else f"{kind} of {api_version}"


def _with_duplicates_refused(checked: Sequence[Checked]) -> Iterator[Checked]:
    first: dict[tuple[str | None, str], Checked] = {}
    for document in checked:
        model = document.model
        before = first.setdefault((model.metadata.namespace, model.name), document) if model else document
        if model is None or before is document:
            yield document
            continue
        fact = f"{model.name!r} is already the name of the model at {before.source}:{before.line}"
        problem = Problem("metadata.name", fact, "give one of them another name")
        yield replace(document, model=None, problems=document.placed([problem]))


def _unreadable(file: Path, fact: str, next_step: str) -> Checked:
    return Checked(str(file), None, (Problem("", fact, next_step, str(file)),))


class _Loader(yaml.SafeLoader):
    """YAML without the tags that make objects, and without a key that hides another.

    A date is a text, as it is to a cluster. A number of countless digits is told with its line.
    """

    def construct_yaml_int(self, node: Any) -> int:
        if len(node.value) > _MOST_DIGITS:
            raise yaml.MarkedYAMLError(problem="a number has too many digits", problem_mark=node.start_mark)
        return int(super().construct_yaml_int(node))


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _documents(text: str | bytes) -> Iterator[_Document]:
    loader = _Loader(text)
    try:
        for count in itertools.count(1):
            if not loader.check_node():
                return
            if count > _MOST_DOCUMENTS:
                raise yaml.YAMLError(f"there are more than {_MOST_DOCUMENTS:,} documents")
            node = loader.get_node()
            assert node is not None  # check_node just said so
            lines: dict[str, int] = {}
            _keep_lines(node, "", lines, set())
            yield _Document(loader.construct_document(node), lines)
    finally:
        loader.dispose()


def _keep_lines(node: yaml.Node, path: str, lines: dict[str, int], seen: set[int]) -> None:
    """The line of each path. An alias is followed once, so that a few lines of YAML cannot keep us busy for ever."""
    lines.setdefault(path, node.start_mark.line + 1)
    if id(node) in seen or len(lines) > _LINES_KEPT:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in keys:
                told = f"the key {key.value!r} stands twice" if isinstance(key, yaml.ScalarNode) else "a key is no text"
                raise yaml.MarkedYAMLError(problem=told, problem_mark=key.start_mark)
            keys.add(key.value)
            at = f"{path}.{key.value}" if path else key.value
            lines.setdefault(at, key.start_mark.line + 1)
            _keep_lines(value, at, lines, seen)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _keep_lines(item, f"{path}[{i}]", lines, seen)


def _line_of(path: str, lines: Mapping[str, int]) -> int:
    """The line of a path, or of the nearest one above it that is written."""
    while path and path not in lines:
        path = path.rpartition("[" if path.endswith("]") else ".")[0]
    return lines.get(path, 0)
