"""Twins of the resource's definition: the committed file, the dataclasses, the columns, the examples' own words."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from atalaya_operator.crd import custom_resource_definition, file_text
from atalaya_spec.fields import walk
from atalaya_spec.inference_model import API_VERSION, KIND, Spec
from atalaya_spec.inference_model_status import Status

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "atalaya"


def version() -> dict[str, Any]:
    return dict(custom_resource_definition()["spec"]["versions"][0])


def schema_paths(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, member in schema.get("properties", {}).items():
        yield f"{prefix}{key}"
        yield from schema_paths(member, f"{prefix}{key}.")
        yield from schema_paths(member.get("items", {}), f"{prefix}{key}[].")


def test_the_committed_definition_is_what_the_generator_writes() -> None:
    committed = (CHART / "crds" / "inferencemodels.yaml").read_text(encoding="utf-8")
    assert committed == file_text(), "python -m atalaya_operator.crd > charts/atalaya/crds/inferencemodels.yaml"


def test_every_field_stands_in_the_schema_with_its_description() -> None:
    whole = version()["schema"]["openAPIV3Schema"]["properties"]
    for part, cls in (("spec", Spec), ("status", Status)):
        assert list(schema_paths(whole[part])) == [one.path for one in walk(cls)]

    def undescribed(schema: dict[str, Any], path: str) -> list[str]:
        members = schema.get("properties", {})
        lacking = [f"{path}.{key}" for key, member in members.items() if not member.get("description")]
        parts = [(member, f"{path}.{key}") for key, member in members.items()]
        parts += [(member["items"], f"{at}[]") for member, at in parts if "items" in member]
        return lacking + [one for member, at in parts for one in undescribed(member, at)]

    assert undescribed(whole["spec"], "spec") + undescribed(whole["status"], "status") == []


def test_every_column_and_subresource_shows_a_field_there_is() -> None:
    whole = version()
    there = set(schema_paths(whole["schema"]["openAPIV3Schema"])) | {"metadata.creationTimestamp"}
    scale = whole["subresources"]["scale"]
    shown = [column["jsonPath"] for column in whole["additionalPrinterColumns"]] + list(scale.values())
    assert {path.removeprefix(".") for path in shown} - there == set()


@pytest.mark.parametrize("file", sorted((CHART / "examples" / "invalid").glob("*.yaml")), ids=lambda file: file.stem)
def test_an_invalid_example_says_what_lint_and_what_the_api_server_say(file: Path) -> None:
    told = [line.partition(": ")[0] for line in file.read_text().splitlines() if line.startswith("# ")]
    assert told[0] == "# expect"
    assert told[-1] == "# api-server"


def test_the_examples_are_of_the_version_that_is_served() -> None:
    for file in (CHART / "examples" / "valid").glob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            assert document["kind"] != KIND or document["apiVersion"] == API_VERSION
