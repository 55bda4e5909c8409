"""What the operator tells each server, against the originals' own flags and against the readers of our server."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from atalaya_operator.engines import BY_NAME
from atalaya_operator.pod import STARTUP_SECONDS
from atalaya_serving.settings import parse_settings
from atalaya_serving.tfs.model_config import read_batching, read_model_config, read_monitoring_path
from atalaya_spec import ovms, tfs
from builders_operator import CASES, Case

FLAGS = json.loads((Path(__file__).parent / "server_flags.json").read_text())
OPENVINO = [case for case in CASES.values() if case.spec.get("engine", "openvino") == "openvino"]
TENSORFLOW = [case for case in CASES.values() if case.spec.get("engine") == "tensorflow"]
ATALAYA = [name for name, case in CASES.items() if case.spec.get("engine") == "atalaya"]


def server_arguments(case: Case) -> list[str]:
    containers = case.revision.template["spec"]["containers"]
    return [argument for one in containers if one["name"] == "server" for argument in one["args"]]


def flags(case: Case) -> set[str]:
    return {argument.partition("=")[0].removeprefix("--") for argument in server_arguments(case)}


@pytest.mark.parametrize("version", FLAGS["ovms"])
def test_openvino_model_server_is_told_only_flags_that_its_version_knows(version: str) -> None:
    for case in OPENVINO:
        told = flags(Case({**case.spec, "engineVersion": version}, case.versions))
        assert told - set(FLAGS["ovms"][version]) == set()
        assert {"model_name", "model_path", "target_device", "port", "rest_port"} <= told


@pytest.mark.parametrize("version", FLAGS["tensorflow_model_server"])
def test_tensorflow_serving_is_told_only_flags_that_its_version_knows(version: str) -> None:
    for case in TENSORFLOW:
        told = flags(Case({**case.spec, "engineVersion": version}, case.versions))
        assert told - set(FLAGS["tensorflow_model_server"][version]) == set()


@pytest.mark.parametrize("name", ATALAYA)
def test_our_server_understands_what_it_is_told(name: str, tmp_path: Path) -> None:
    case, arguments = CASES[name], []
    for file, text in case.revision.config.items():
        (tmp_path / file).write_text(text)
    for argument in server_arguments(case):
        arguments.append(argument.replace("/etc/atalaya", str(tmp_path)))
    settings = parse_settings(arguments)
    (model,) = settings.models
    assert (model.name, str(model.base_path)) == ("haiti-damage", "/models/haiti-damage")
    assert (
        model.policy
        == parse_settings(["--model_name=m", "--model_path=/m", '--model_version_policy={"specific":{"versions":[3]}}'])
        .models[0]
        .policy
    )
    assert (settings.grpc_address, settings.rest_address) == ("0.0.0.0", "0.0.0.0")
    assert (settings.grpc_port, settings.rest_port) == (9000, 8000)
    assert ("grpc.max_connection_age_ms", 20000) in settings.grpc_channel_arguments
    assert (settings.tfs.batching is not None) == ("batching" in case.spec)


def test_the_files_of_tensorflow_serving_are_text_protos_that_say_what_was_asked(tmp_path: Path) -> None:
    case = CASES["tensorflow-nvidia-pvc"]
    for file, text in case.revision.config.items():
        (tmp_path / file).write_text(text)
    (model,) = read_model_config(tmp_path / "models.config").models
    assert (model.name, str(model.base_path)) == ("haiti-damage", "/models/haiti-damage")
    assert read_monitoring_path(tmp_path / "monitoring.config") == "/monitoring/prometheus/metrics"
    batching = read_batching(tmp_path / "batching.config")
    assert (batching.max_rows, batching.timeout_seconds) == (64, 0.002)


def test_a_server_has_ten_minutes_to_load_its_model() -> None:
    for case in CASES.values():
        (server,) = [one for one in case.revision.template["spec"]["containers"] if one["name"] == "server"]
        probe = server["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] == STARTUP_SECONDS == 600


def test_no_argument_is_taken_for_a_variable() -> None:
    case = Case({"engine": "atalaya", "model": {"uri": "https://models.example.org/$(AWS_SECRET_ACCESS_KEY)"}})
    (fetch,) = case.revision.template["spec"]["initContainers"]
    assert "--from=https://models.example.org/$$(AWS_SECRET_ACCESS_KEY)" in fetch["args"]


@pytest.mark.parametrize(
    ("engine", "known"),
    [("openvino", ovms.server().metrics.labels), ("tensorflow", tfs.server().metrics.labels), ("atalaya", None)],
)
def test_autoscalers_ask_for_metrics_that_the_server_tells(
    engine: str, known: Mapping[str, Sequence[str]] | None
) -> None:
    signals = [
        signal for signal in ("concurrency", "latencyP95", "queue") if (engine, signal) != ("tensorflow", "queue")
    ]
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
    for signal in signals:
        query = BY_NAME[engine].signal(signal, {"model": "m", "namespace": "n"})
        asked = re.findall(r"([:a-z_0-9]+)\{([a-z_]+)=\"m\"", query)
        assert asked
        for name, label in asked:
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            if known is None:
                (row,) = [line for line in page.splitlines() if line.startswith(f"| `{base}`")]
                assert f"`{label}`" in row
            else:
                assert label in known[base]
