"""Twins of the InferenceModel: dataclasses and the docs table, examples and what the docs say of them, imports."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from atalaya_spec.fields import DescribedField, struct_fields, walk
from atalaya_spec.inference_model import InferenceModel, Versions
from atalaya_spec.inference_model_status import Status
from atalaya_spec.model_files import check_text, problems_of
from atalaya_spec.server_versions import DEVICES, ENGINES, NVIDIA_MIG_PREFIX

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "inference-model.md"
STATUS_BEGINS, STATUS_ENDS = "<!-- status begin -->", "<!-- status end -->"
TABLE_BEGINS, TABLE_ENDS = "<!-- fields begin -->", "<!-- fields end -->"


def field_table() -> str:
    """The table of `docs/inference-model.md`, from the dataclasses."""
    rows = [
        f"| `{one.path}` | {one.written} | {default_told(one)} | {one.description} |" for one in walk(InferenceModel)
    ]
    return "\n".join(["| field | written as | default | means |", "|---|---|---|---|", *rows])


def status_table() -> str:
    """The table of the status, from its dataclasses."""
    rows = [f"| `{one.path}` | {one.written} | {one.description} |" for one in walk(Status)]
    return "\n".join(["| field | written as | means |", "|---|---|---|", *rows])


def default_told(one: DescribedField) -> str:
    if one.required:
        return "**required**"
    return "" if one.default is None else plain(one.default)


def plain(value: Any) -> str:
    if isinstance(value, Versions):
        return "`{latest: 1}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`" if isinstance(value, int | str) else ""


def test_the_docs_table_is_what_the_dataclasses_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    written = text.partition(TABLE_BEGINS)[2].partition(TABLE_ENDS)[0].strip()
    assert written == field_table(), f"put this between the two marks of {PAGE}:\n\n{field_table()}"


def test_the_docs_table_of_the_status_is_what_the_dataclasses_say() -> None:
    written = PAGE.read_text(encoding="utf-8").partition(STATUS_BEGINS)[2].partition(STATUS_ENDS)[0].strip()
    assert written == status_table(), f"put this between the two marks of {PAGE}:\n\n{status_table()}"


def test_every_field_has_a_description_that_ends_as_a_sentence() -> None:
    assert [one.path for one in walk(InferenceModel) if not one.description.endswith((".", "`"))] == []


def test_no_field_of_the_resource_is_there_before_its_time() -> None:
    spec = {one.path.split(".")[1] for one in walk(InferenceModel) if one.path.startswith("spec.")}
    assert spec == {
        "engine", "backend", "engineVersion", "image", "model", "protocols", "devices", "resources", "batching",
        "replicas", "scaling", "fallBackAfter", "moveUpAfter",
    }  # fmt: skip
    assert list(struct_fields(InferenceModel)) == ["apiVersion", "kind", "metadata", "spec"]


def test_the_pages_examples_are_valid() -> None:
    blocks = PAGE.read_text(encoding="utf-8").split("```yaml\n")[1:]
    assert blocks
    for block in blocks:
        assert problems_of(check_text(block.partition("```")[0], str(PAGE))) == []


@pytest.mark.parametrize("word", [*ENGINES, *DEVICES, NVIDIA_MIG_PREFIX])
def test_the_page_names_every_engine_and_device(word: str) -> None:
    assert f"`{word}" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["up", "demo", "lint", "plan"])
def test_the_pages_tell_every_option_of_a_command(name: str) -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "atalaya", name, "--help"], capture_output=True, text=True, check=True
    )
    options = {word.strip(",[]") for word in asked.stdout.split() if word.strip(",[]").startswith("--")} - {"--help"}
    told = (ROOT / "docs" / "up.md").read_text(encoding="utf-8") + PAGE.read_text(encoding="utf-8")
    assert options
    assert {option for option in options if f"`{option}" not in told} == set()


def test_the_folder_operator_does_not_hide_the_standard_library() -> None:
    script = "import operator, collections; print(operator.__file__)"
    for place in ([sys.executable, "-c", script], [sys.executable, "-P", "-c", script]):
        answer = subprocess.run(place, cwd=ROOT, capture_output=True, text=True, check=True)
        assert Path(answer.stdout.strip()).name == "operator.py"
        assert ROOT not in Path(answer.stdout.strip()).parents


def test_the_kind_clusters_accelerator_nodes_are_labelled_and_tainted() -> None:
    nodes = yaml.safe_load((ROOT / "kind-config.yaml").read_text())["nodes"]
    taints = {
        taint["key"]: node["labels"]
        for node in nodes
        for patch in node.get("kubeadmConfigPatches", ())
        for taint in yaml.safe_load(patch)["nodeRegistration"]["taints"]
    }
    assert set(taints) == {"gpu.intel.com/xe", "npu.intel.com/accel", "nvidia.com/gpu"}
    assert set(taints) <= set(DEVICES)
    assert taints["nvidia.com/gpu"]["nvidia.com/gpu.present"] == "true"
    assert taints["gpu.intel.com/xe"]["intel.feature.node.kubernetes.io/gpu"] == "true"
