"""The chart's twins: its values and their descriptions, its roles, the variables it sets, the images it names."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from atalaya_operator import permissions
from atalaya_operator.__main__ import Config
from atalaya_operator.crd import PLURAL
from atalaya_operator.kinds import OWNED
from atalaya_operator.platform import Platform
from atalaya_operator.webhook.service import LOOKED_FOR, Settings
from atalaya_spec.inference_model import GROUP, VERSION
from cluster.images import copied
from contract.chart_values import CHART, readme_with, schema, schema_text, values

ROOT = CHART.parents[1]
TEMPLATES = CHART / "templates"
VALUES = (CHART / "values.yaml").read_text(encoding="utf-8")


def test_the_readme_and_the_schema_are_what_values_yaml_says() -> None:
    again = "python tests/contract/chart_values.py"
    assert (CHART / "values.schema.json").read_text() == schema_text(VALUES), again
    readme = (CHART / "README.md").read_text()
    assert readme == readme_with(readme, VALUES), again


def test_the_default_values_fit_the_schema_and_others_do_not() -> None:
    defaults = yaml.safe_load(VALUES)
    jsonschema.validate(defaults, schema(VALUES))
    for wrong in ({"webhok": {}}, {"images": {"pullPolicy": "Sometimes"}}, {"operator": {"workers": 0}},
                  {"prometheus": {"url": "prometheus:9090"}}, {"dashboard": {"metricsUrls": ["host"]}}):  # fmt: skip
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema(VALUES))


def test_a_value_that_nothing_describes_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"a\.b has no description"):
        list(values("a:\n  # not a description\n  b: 1\n"))


def test_every_value_is_used_and_every_used_value_is_there() -> None:
    text = "".join(file.read_text() for file in TEMPLATES.rglob("*") if file.is_file())
    shortened = {"$values.": "dashboard.", "$webhook.": "webhook."}
    used = set(re.findall(r"\.Values\.([A-Za-z.]+)", text))
    for short, section in shortened.items():
        used |= {f"{section}{path}" for path in re.findall(re.escape(short) + r"([A-Za-z.]+)", text)}
    placed = {"nodeSelector", "tolerations", "affinity", "repository", "tag"}  # by way of a helper, as `.part`
    paths = {value.path for value in values(VALUES)}
    sections = {path.rsplit(".", depth)[0] for path in paths for depth in range(1, path.count(".") + 1)}
    assert used - paths - sections == set()
    assert {path for path in paths - used if path.rpartition(".")[2] not in placed} == set()


def test_the_roles_are_made_of_what_the_operator_does() -> None:
    committed = (CHART / "files" / "permissions.yaml").read_text()
    again = "python -m atalaya_operator.permissions > charts/atalaya/files/permissions.yaml"
    assert committed == permissions.file_text(), again
    assert set(yaml.safe_load(committed)["webhook"]) == set(LOOKED_FOR)


def test_the_operator_may_apply_and_prune_every_kind_that_it_makes_and_nothing_by_a_star() -> None:
    granted: dict[tuple[str, str], set[str]] = {}
    for rule in permissions.operator_rules():
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                granted.setdefault((group, resource), set()).update(rule["verbs"])
    for kind in OWNED:
        assert {"create", "patch", "delete", "get", "list", "watch"} <= granted[kind.group, kind.plural]
    assert "*" not in json.dumps(permissions.operator_rules())
    assert not {"secrets", "roles", "clusterroles", "pods/exec"} & {resource for _, resource in granted}


class Asked(dict[str, str]):
    """An environment that writes down what is looked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return default


def test_the_chart_sets_each_variable_that_the_operator_reads() -> None:
    asked = Asked()
    for read in (Platform.from_environment, Config.from_environment, Settings.from_environment):
        read(asked)
    template = (TEMPLATES / "_operator_environment.tpl").read_text()
    assert set(re.findall(r"- name: (ATALAYA_\w+)", template)) == asked.names
    documented = (ROOT / "docs" / "operator.md").read_text() + (ROOT / "docs" / "inference-model.md").read_text()
    assert {name for name in asked.names if f"`{name}`" not in documented} == set()


def test_the_webhook_is_asked_about_our_resource() -> None:
    text = (TEMPLATES / "webhook.yaml").read_text()
    for told in (
        f"apiGroups: [{GROUP}]",
        f"apiVersions: [{VERSION}]",
        f"resources: [{PLURAL}]",
        "failurePolicy: Ignore",
    ):
        assert told in text


def test_an_image_is_built_from_no_more_than_what_it_copies() -> None:
    sources = {source.split("/")[0] for source in copied(ROOT / "Containerfile")}
    let_in = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert sources == let_in


def test_the_chart_the_project_and_the_images_have_one_version() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert version
    assert {chart["version"], chart["appVersion"]} == {version[1]}
    assert f"atalaya/operator:{version[1]}" in (ROOT / "Containerfile").read_text()


@pytest.mark.parametrize("image", ["operator", "serving", "serving-tensorflow"])
def test_an_image_has_only_what_the_project_declares(image: str) -> None:
    declared = set(re.findall(r'^    "([a-z0-9_.-]+)', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE))
    lines = (ROOT / "requirements" / f"image-{image}.in").read_text().splitlines()
    named = {line.partition("[")[0] for line in lines if line and not line.startswith(("#", "-r"))}
    assert named
    assert named - declared == set()


def pins(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", file.read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("file", sorted((ROOT / "requirements").glob("image-*.txt")), ids=lambda file: file.stem)
def test_an_image_has_the_versions_that_are_tested(file: Path) -> None:
    tested = (ROOT / "requirements" / "dev.txt").read_text()
    assert [name for name, version in pins(file).items() if f"\n{name}=={version}" not in tested] == []


def test_tensorflow_is_in_its_own_variant_only() -> None:
    folder = ROOT / "requirements"
    assert "tensorflow" in pins(folder / "image-serving-tensorflow.txt")
    for image in ("serving", "operator", "dashboard"):
        assert "tensorflow" not in pins(folder / f"image-{image}.txt")
