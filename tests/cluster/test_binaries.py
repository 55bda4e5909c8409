"""Programs are built once, and again only when what they are built from changes."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cluster import binaries, prerequisites
from cluster.binaries import GO_MODULES, MODULES, GoModule
from cluster.errors import ClusterFault
from cluster.fixtures import do_without


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GoModule:
    """A Go module of one line, built in no time."""
    if shutil.which("go") is None:
        do_without("Go is not here: install Go 1.26 or newer to build the test cluster's programs")
    monkeypatch.setattr(binaries, "GO_MODULES", tmp_path)
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "go.mod").write_text("module tiny\n\ngo 1.24.0\n\nrequire example.com/principal v1.2.3\n")
    (folder / "go.sum").write_text("")
    (folder / "main.go").write_text("package main\n\nfunc main() {}\n")
    made = GoModule("tiny", "example.com/principal", {"tiny": "."})
    monkeypatch.setattr(binaries, "MODULES", (made,))
    return made


def test_a_second_build_asks_go_nothing(module: GoModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = binaries.build(tmp_path)
    subprocess.run([built.path("tiny")], check=True)
    monkeypatch.setenv("PATH", "/nowhere")
    assert binaries.build(tmp_path).path("tiny") == built.path("tiny")


def test_a_changed_pin_or_flag_is_another_build(module: GoModule) -> None:
    before = module.key()
    assert dataclasses.replace(module, linked={"main.version": "2"}).key() != before
    (module.folder / "go.sum").write_text("example.com/principal v1.2.3 h1:changed=\n")
    assert module.key() != before


def test_without_go_the_message_says_what_to_install(
    module: GoModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ClusterFault, match="install Go"):
        binaries.build(tmp_path)


def test_a_build_that_fails_leaves_no_binary_and_says_why(module: GoModule, tmp_path: Path) -> None:
    (module.folder / "main.go").write_text("package main\n\nfunc main() { wrong }\n")
    with pytest.raises(ClusterFault, match="wrong"):
        binaries.build(tmp_path)
    assert binaries.binaries(tmp_path).missing() == ["tiny"]


def test_a_machine_that_lacks_something_is_told_what_to_run(
    module: GoModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    lacking = "; ".join(prerequisites.missing(tmp_path))
    assert "not installed: buildah, " in lacking
    assert "tests/system-packages.sh cluster" in lacking
    assert "not built: tiny: run make cluster-prepare" in lacking


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_each_module_pins_what_it_builds_and_names_no_address(module: GoModule) -> None:
    text = (GO_MODULES / module.name / "go.mod").read_text()
    assert re.fullmatch(r"v\d+\.\d+\.\d+", module.version)
    assert "://" not in text
    tools = {package.removesuffix("@") for package in module.binaries.values()}
    assert [package for package in tools if package not in text] == []
    assert (GO_MODULES / module.name / "go.sum").stat().st_size > 10_000
