"""What holds for the whole checkout, whoever changes which part."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEBIBYTE = 1024 * 1024


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_committed_file_is_larger_than_5_mb() -> None:
    too_large = [str(file) for file in tracked_files() if file.stat().st_size > 5 * MEBIBYTE]
    assert too_large == []


@pytest.mark.parametrize("file", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda file: file.name)
def test_requirements_are_pinned_hashed_and_name_no_address(file: Path) -> None:
    text = file.read_text()
    assert "://" not in text
    assert "index-url" not in text.replace("--no-emit-index-url", "")
    pins = re.findall(r"^[a-z0-9][^\s#]*.*?(?=^[a-z0-9]|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert pins
    assert [pin.splitlines()[0] for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []


def test_each_declared_dependency_says_what_it_is_for() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    inside = [line for line in lines if re.match(r'^    "[a-zA-Z].*[>=]', line)]
    assert len(inside) > 20
    assert [line for line in inside if "#" not in line] == []


def test_each_declared_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    names = {re.split(r"[\[>=<; ]", item)[0].lower() for item in declared}
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / "dev.txt").read_text(), flags=re.MULTILINE))
    assert names - pinned == set()


def test_every_make_target_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= named
    assert named <= targets


@pytest.mark.parametrize("folder", ["operator", "serving", "dashboard", "tests"])
def test_no_package_shadows_the_standard_library(folder: str) -> None:
    """An `__init__.py` in operator/ would hide the standard library's `operator` from anything run at the root."""
    assert not (ROOT / folder / "__init__.py").exists()
