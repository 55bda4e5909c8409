"""The command's front door: what it imports, what it says, how it ends."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from atalaya import cli
from atalaya_spec.errors import AtalayaError, UsageError

HEAVY = {
    "numpy",
    "grpc",
    "openvino",
    "tensorflow",
    "rasterio",
    "streamlit",
    "sqlalchemy",
    "yaml",
    "starlette",
    "pandas",
}


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "atalaya", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A command whose `run` is the given Python body."""

    def make(body: str, arguments: str = "pass") -> str:
        module = f"fake_command_{tmp_path.name.replace('-', '_')}"
        text = f"HELP = 'fail'\ndef add_arguments(parser):\n    {arguments}\ndef run(args):\n    {body}\n"
        (tmp_path / f"{module}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(cli.COMMANDS, "fake", cli.Command(module, "fail"))
        return "fake"

    return make


@pytest.mark.parametrize("arguments", [("--help",), ("lint", "--help"), ("up", "--help"), ("demo", "--help")])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    script = (
        "import json, sys\nfrom atalaya.cli import main\n"
        f"try:\n    main({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    loaded = set(json.loads(output.splitlines()[-1]))
    assert "atalaya" in loaded
    assert loaded & HEAVY == set()


def test_help_lists_every_command_on_a_line() -> None:
    answer = run("--help")
    assert answer.returncode == 0
    for name, command in cli.COMMANDS.items():
        assert any(line.split() == [name, *command.help.split()] for line in answer.stdout.splitlines())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_says_the_same_of_itself_as_the_list_does(name: str) -> None:
    told = importlib.import_module(cli.COMMANDS[name].module).HELP
    assert told[0].lower() + told[1:] == cli.COMMANDS[name].help


def test_version_is_the_distributions() -> None:
    from importlib.metadata import version

    answer = run("--version")
    assert (answer.returncode, answer.stdout) == (0, f"atalaya {version('atalaya')}\n")


def test_without_a_command_the_help_goes_to_stderr_and_the_use_is_wrong() -> None:
    answer = run()
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "commands:" in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["asess"], "atalaya: error: there is no command 'asess' (did you mean 'assess'?)", id="command"),
        pytest.param(["--versio"], "atalaya: error: unrecognized arguments: --versio", id="option-of-the-front-door"),
        pytest.param(["lint", "x.yaml", "--jsn"], "'--jsn' is not an argument (did you mean '--json'?)", id="option"),
        pytest.param(["up", "--port", "ninety"], "'ninety' is not a port", id="value"),
        pytest.param(["lint"], "atalaya lint: error: the following arguments are required: FILE", id="missing"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments: list[str], message: str, capsys) -> None:
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(("kind", "code"), [(AtalayaError, 1), (UsageError, 2)])
def test_an_error_is_one_line_with_its_exit_code(kind: type[AtalayaError], code: int, command, capsys) -> None:
    name = command(
        f"from atalaya_spec.errors import {kind.__name__}; raise {kind.__name__}('the disk is full; free some space.')"
    )
    assert cli.main([name]) == code
    assert capsys.readouterr().err == "atalaya fake: error: the disk is full; free some space.\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}['x']", "unexpected KeyError: 'x'; this is a defect of Atalaya, ATALAYA_DEBUG=1 shows where"),
        ("open('/nowhere/x')", "/nowhere/x: No such file or directory; check the path"),
        ("raise ModuleNotFoundError('', name='tensorflow.keras')", "pip install 'atalaya[tensorflow]'"),
    ],
)
def test_no_stack_trace_reaches_a_user(body: str, message: str, command, capsys, monkeypatch) -> None:
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)
    assert cli.main([command(body)]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_a_defect_shows_where_it_happened_when_asked(command, monkeypatch) -> None:
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    with pytest.raises(ZeroDivisionError):
        cli.main([command("1 / 0")])


def test_ctrl_c_is_130(command) -> None:
    assert cli.main([command("raise KeyboardInterrupt")]) == 130


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(
            "from atalaya_spec.errors import UsageError; raise UsageError('no; correct it.')",
            {"type": "UsageError", "message": "no; correct it.", "exit_code": 2},
            id="ours",
        ),
        pytest.param(
            "raise KeyboardInterrupt",
            {"type": "KeyboardInterrupt", "message": "it was interrupted before its end.", "exit_code": 130},
            id="interrupted",
        ),
        pytest.param(
            "raise ModuleNotFoundError('', name='h3')",
            {
                "type": "ModuleNotFoundError",
                "message": "the package 'h3' is not installed; install it: pip install 'atalaya[dashboard]'.",
                "exit_code": 1,
            },
            id="a package is missing",
        ),
    ],
)
def test_with_json_a_failure_is_an_object_on_stdout_too(body: str, error: dict[str, object], command, capsys) -> None:
    name = command(body, "parser.add_argument('--json', action='store_true')")
    assert cli.main([name, "--json"]) == error["exit_code"]
    assert json.loads(capsys.readouterr().out) == {"error": error}
    assert cli.main([name]) == error["exit_code"]
    assert capsys.readouterr().out == ""


def test_with_json_wrong_use_is_an_object_on_stdout_too(capsys) -> None:
    assert cli.main(["assess", "--json"]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out)["error"]["exit_code"] == 2
    assert told.err.startswith("atalaya assess: error: ")


@pytest.mark.parametrize("files", [1, 2000], ids=["small", "large"])
def test_a_closed_pipe_ends_quietly(files: int) -> None:
    lint = f"{sys.executable} -m atalaya lint --json /nowhere/{{1..{files}}}.yaml"
    script = f"{lint} | true; echo ${{PIPESTATUS[0]}}"
    answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert answer.stdout.strip() == "141"
    assert answer.stderr == ""
