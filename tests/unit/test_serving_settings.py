"""The command line and the config file: OVMS' names, and every mistake told in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from atalaya_serving.__main__ import main
from atalaya_serving.errors import SettingsError
from atalaya_serving.faces.start import ovms_command, tensorflow_model_server_command
from atalaya_serving.policies import ALL, LATEST, VersionPolicy, parse_policy
from atalaya_serving.settings import models_from_config, parse_settings

_BATCHING = '{"model_config_list":[{"config":{"name":"a","base_path":"b","batching":%s}}]}'
ONE = ["--model_name", "m", "--model_path", "/models/m"]


def test_one_model_by_flags_takes_ovms_names() -> None:
    settings = parse_settings(
        [*ONE, "--port", "9001", "--rest_port=0", "--nireq", "3", "--batch_size", "auto", "--shape", "(1,128,128,1)",
         "--plugin_config", '{"NUM_STREAMS": 1}', "--model_version_policy", '{"specific":{"versions":[3,1]}}',
         "--grpc_channel_arguments", "grpc.max_connection_age_ms=5000,grpc.x=y"]
    )  # fmt: skip
    model = settings.models[0]
    assert (settings.grpc_port, settings.rest_port) == (9001, 0)
    assert (model.name, model.base_path, model.slots, model.batch_size) == ("m", Path("/models/m"), 3, None)
    assert model.shapes == {"": (1, 128, 128, 1)}
    assert model.properties == {"NUM_STREAMS": "1"}
    assert model.policy == VersionPolicy(specific=(1, 3))
    assert settings.grpc_channel_arguments == (("grpc.max_connection_age_ms", 5000), ("grpc.x", "y"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param([*ONE, "--rest_prot", "1"], "unknown flag --rest_prot; did you mean --rest_port?", id="typo"),
        pytest.param([*ONE, "--rest_prot=1"], "did you mean --rest_port?", id="typo with equals sign"),
        pytest.param([*ONE, "--por", "1"], "did you mean --port?", id="an abbreviation is not taken"),
        pytest.param([], "give one of --config_path", id="nothing to serve"),
        pytest.param([*ONE, "--model_repository", "/r"], "give one of", id="two sources"),
        pytest.param(["--model_name", "m"], "go together", id="name without path"),
        pytest.param([*ONE, "--port", "0", "--rest_port", "0"], "nothing to listen on", id="both ports off"),
        pytest.param([*ONE, "--port", "8000"], "both 8000", id="one port twice"),
        pytest.param([*ONE, "--port", "70000"], "'70000' is no port", id="port too high"),
        pytest.param([*ONE, "--queue_size", "0"], "not a positive integer", id="no queue"),
        pytest.param([*ONE, "--shape", "(1,a)"], "not like (1,128,128,1)", id="bad shape"),
        pytest.param([*ONE, "--plugin_config", "{"], "--plugin_config is no JSON", id="bad JSON"),
        pytest.param([*ONE, "--model_version_policy", '{"newest":{}}'], "unknown version policy", id="bad policy"),
        pytest.param([*ONE, "--grpc_channel_arguments", "a"], "without a value", id="bad channel argument"),
        pytest.param([*ONE, "--grpc_channel_arguments", "a=2147483648"], "beyond 32 bits", id="large channel argument"),
        pytest.param([*ONE, "--grpc_channel_arguments", "a=" + "9" * 5000], "beyond 32 bits", id="endless argument"),
        pytest.param(
            [*ONE, "--plugin_config", "5"], "plugin_config is 5, not an object", id="plugin config is a number"
        ),
        pytest.param(
            [*ONE, "--model_version_policy", '{"latest":5}'],
            'such as {"latest": {"num_versions": 1}}',
            id="policy body",
        ),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(arguments: list[str], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(arguments)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["--5", "5-", "٣"])
def test_a_channel_argument_that_is_no_number_is_a_text(text: str) -> None:
    assert parse_settings([*ONE, "--grpc_channel_arguments", f"a={text}"]).grpc_channel_arguments == (("a", text),)


def test_flags_of_a_model_hold_for_every_model_of_a_repository() -> None:
    settings = parse_settings(["--model_repository", "/r", "--nireq", "2", "--model_version_policy", '{"all":{}}'])
    assert (settings.repository_model.slots, settings.repository_model.policy) == (2, ALL)


def test_flags_of_a_model_do_not_go_with_a_config_file() -> None:
    with pytest.raises(SettingsError, match="--nireq does not go with --config_path"):
        parse_settings(["--config_path", "/models.json", "--nireq", "2"])


def test_an_unknown_flag_ends_the_server_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ONE, "--metrics_enabel"]) == 2
    assert "did you mean --metrics_enable?" in capsys.readouterr().err


def test_the_config_file_is_ovms_and_relative_to_itself(tmp_path: Path) -> None:
    entry = {"name": "a", "base_path": "models/a", "model_version_policy": {"all": {}}, "shape": {"x": "(2,3)"}}
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"model_config_list": [{"config": entry}]}))
    (model,) = models_from_config(file)
    assert (model.base_path, model.policy, model.shapes) == (tmp_path / "models" / "a", ALL, {"x": (2, 3)})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param("[]", "is no config file", id="another structure"),
        pytest.param("{", "is no config file", id="no JSON"),
        pytest.param('{"model_config_list":[{"config":5}]}', "a config is 5, not an object", id="a number for a model"),
        pytest.param("[" * 100_000, "no config file", id="deep"),
        pytest.param(_BATCHING % "8", "batching is not an object such as", id="batching is a number"),
        pytest.param(_BATCHING % '{"max_size": 0}', "max_size, a positive integer", id="no batch"),
        pytest.param(_BATCHING % '{"maxSize": 8}', "batching is not an object such as", id="another key"),
        pytest.param(_BATCHING % '{"max_size": 8, "timeout_seconds": -1}', "no number of seconds", id="negative wait"),
        pytest.param('{"model_config_list":[{"config":{"name":"a"}}]}', "lacks name or base_path", id="no path"),
        pytest.param(
            '{"model_config_list":[{"config":{"name":"a","base_path":"b","nirek":1}}]}',
            "did you mean nireq?",
            id="typo",
        ),
        pytest.param(
            json.dumps({"model_config_list": [{"config": {"name": "a", "base_path": "b"}}] * 2}),
            "twice",
            id="name twice",
        ),
    ],
)
def test_a_wrong_config_file_is_told_with_its_name(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "models.json"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"models\.json") as caught:
        models_from_config(file)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "available", "wanted"),
    [
        pytest.param(None, [1, 2, 3], {3}, id="latest one by default"),
        pytest.param({"latest": {"num_versions": 2}}, [1, 3, 7], {3, 7}, id="latest two"),
        pytest.param({"latest": {"num_versions": 5}}, [1], {1}, id="fewer than asked for"),
        pytest.param({"specific": {"versions": [1, 4]}}, [1, 2, 3], {1}, id="specific, one missing"),
        pytest.param({"all": {}}, [2, 1], {1, 2}, id="all"),
        pytest.param({"latest": {}}, [], set(), id="nothing there"),
    ],
)
def test_a_policy_chooses_versions(raw: dict[str, object] | None, available: list[int], wanted: set[int]) -> None:
    assert parse_policy(raw).wanted(available) == wanted


@pytest.mark.parametrize(
    "raw",
    [
        {"latest": 5},
        {"all": "yes"},
        {"latest": {"num_versions": 0}},
        {"latest": {"num_versions": True}},
        {"specific": {}},
        {"specific": {"versions": []}},
        {"specific": {"versions": ["1"]}},
        {"all": {}, "latest": {}},
        {},
        [],
    ],
)
def test_a_wrong_policy_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match=r"polic|positive|versions"):
        parse_policy(raw)  # type: ignore[arg-type]


def test_the_default_policy_is_the_latest() -> None:
    assert LATEST.wanted([1, 2]) == {2}


@pytest.mark.parametrize(
    ("start", "inner"),
    [
        pytest.param(lambda: main(["--port", "0"]), "atalaya_serving.__main__._serve", id="our own"),
        pytest.param(ovms_command, "atalaya_serving.faces.start.run", id="ovms"),
        pytest.param(tensorflow_model_server_command, "atalaya_serving.faces.start.run", id="tensorflow_model_server"),
    ],
)
def test_ctrl_c_before_it_serves_ends_a_server_without_a_trace(
    start: Callable[[], int], inner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(inner, interrupted)
    assert start() == 130
