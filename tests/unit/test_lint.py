"""`atalaya lint`: what it prints, for people and for programs, and how it ends."""

import json
from pathlib import Path

import pytest

from atalaya import cli

EXAMPLES = Path(__file__).parents[2] / "charts" / "atalaya" / "examples"


def lint(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = cli.main(["lint", *map(str, arguments)])
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, captured.out


def test_valid_files_end_with_0_and_their_names(capsys) -> None:
    code, told = lint(capsys, EXAMPLES / "valid" / "two-models.yaml")
    assert (code, told) == (0, "0 problems; valid: haiti-damage, haiti-damage-int8\n")


def test_all_problems_of_all_files_are_listed_and_end_with_1(capsys) -> None:
    files = [EXAMPLES / "invalid" / name for name in ("device-nickname.yaml", "rollout.yaml")]
    code, told = lint(capsys, *files, EXAMPLES / "valid" / "minimal.yaml")
    lines = told.splitlines()
    assert code == 1
    assert [line.startswith(f"error: {file}:") for line, file in zip(lines, files, strict=False)] == [True, True]
    assert lines[-1] == "2 problems; valid: minimal"


def test_a_note_is_told_and_is_no_problem(capsys) -> None:
    code, told = lint(capsys, EXAMPLES / "valid" / "openvino-with-bridge.yaml")
    assert code == 0
    assert told.startswith("note: ")


def test_json_is_one_object_with_every_finding(capsys) -> None:
    file = EXAMPLES / "invalid" / "device-nickname.yaml"
    code, told = lint(capsys, "--json", file)
    assert code == 1
    assert json.loads(told) == {
        "valid": [],
        "problems": [
            {
                "path": "spec.devices[0]",
                "fact": "there is no device 'gpu'",
                "next_step": "did you mean 'gpu.intel.com/xe' or 'nvidia.com/gpu'?",
                "source": str(file),
                "line": 9,
            }
        ],
        "notes": [],
    }


def test_a_path_of_this_machine_is_for_local_use_only(capsys, tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.xml").touch()
    file = tmp_path / "model.yaml"
    text = (EXAMPLES / "valid" / "minimal.yaml").read_text()
    file.write_text(text.replace("s3://models/haiti-damage", "m"))
    assert lint(capsys, file)[0] == 1
    assert lint(capsys, "--local", file) == (0, "0 problems; valid: minimal\n")


def test_what_up_cannot_serve_is_a_problem_with_local(capsys) -> None:
    code, told = lint(capsys, "--local", EXAMPLES / "valid" / "minimal.yaml")
    assert code == 1
    assert "so s3:// cannot be served" in told
