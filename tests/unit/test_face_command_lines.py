"""How the originals read their command lines, end on them, and check them."""

import importlib
import os
import tomllib
from pathlib import Path

import pytest

from atalaya_serving.errors import SettingsError
from atalaya_serving.faces import ovms_flags, tfs_flags
from atalaya_serving.faces.ended import Ended
from atalaya_serving.faces.ovms_settings import OvmsStart, ovms_start
from atalaya_serving.faces.start import face_of
from atalaya_serving.faces.tfs_settings import TfsStart, tfs_start
from atalaya_serving.policies import VersionPolicy
from atalaya_spec import ovms, tfs

ONE = ("--model_name", "m", "--model_path", "/models/m", "--port", "9000")


def as_ovms(*flags: str, version: str = "2026.2.1") -> OvmsStart:
    server = ovms.server(version)
    return ovms_start(ovms_flags.parse(flags, server), server)


def as_tfs(*flags: str, version: str = "2.20.0") -> TfsStart:
    server = tfs.server(version)
    return tfs_start(tfs_flags.parse(flags, server), server, "openvino")


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        pytest.param(["ovms:2025.4", "--port", "1"], {}, ("ovms", "2025.4", ["--port", "1"]), id="first argument"),
        pytest.param(["ovms"], {}, ("ovms", "2026.3", []), id="newest"),
        pytest.param(["--port=1"], {"ATALAYA_FACE": "tensorflow_model_server:2.16.1"},
                     ("tensorflow_model_server", "2.16.1", ["--port=1"]), id="environment"),
        pytest.param(["ovms:2025.4.1"], {"ATALAYA_FACE": "tensorflow_model_server"}, ("ovms", "2025.4.1", []),
                     id="the argument wins"),
    ],
)  # fmt: skip
def test_a_face_is_named_by_the_first_argument_or_the_environment(
    arguments: list[str], environment: dict[str, str], expected: tuple[str, str, list[str]]
) -> None:
    face = face_of(arguments, environment)
    assert face is not None
    assert (face.server.program, face.server.version, list(face.arguments)) == expected


@pytest.mark.parametrize("named", ["ovms:2024.5", "ovms:latest", "tensorflow_model_server:2.15.0"])
def test_a_version_that_is_not_known_is_told(named: str) -> None:
    with pytest.raises(SettingsError, match="is not known here; name one from"):
        face_of([named], {})


def test_without_a_face_the_server_is_our_own() -> None:
    assert face_of(["--model_repository", "x"], {}) is None


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(("--port",), "error parsing options: Option ‘port’ is missing an argument", id="no value"),
        pytest.param(("--port", "many"), "error parsing options: Argument ‘many’ failed to parse", id="no number"),
        pytest.param(("--metrics_enable", "true"), "error parsing options - unmatched arguments: true, ", id="switch"),
        pytest.param(("-x", "--made_up=1"), "error parsing options - unmatched arguments: -x, --made_up=1, ", id="two"),
        pytest.param(("--port", "9000"), "Use config_path or model_path with model_name", id="no model"),
        pytest.param((*ONE, "--config_path", "/c"), "Use either config_path or model_path with model_name", id="both"),
        pytest.param(("--config_path", "/c", "--port", "1", "--nireq", "2"),
                     "Model parameters in CLI are exclusive with the config file", id="exclusive"),
        pytest.param((*ONE, "--metrics_enable"), "rest_port setting is missing, metrics are enabled on rest port",
                     id="metrics without REST"),
        pytest.param((*ONE, "--metrics_list", "ovms_streams"),
                     "metrics_enable setting is missing, required when metrics_list is provided", id="list only"),
        pytest.param((*ONE, "--port", "0"), "port and rest_port cannot both be unset", id="no port"),
        pytest.param((*ONE, "--rest_port", "9000"), "port and rest_port cannot have the same values", id="same port"),
        pytest.param((*ONE, "--port", "70000"), "port number out of range from 0 to 65535", id="port"),
        pytest.param((*ONE, "--grpc_workers", "0"),
                     f"grpc_workers count should be from 1 to CPU core count : {os.cpu_count()}", id="workers"),
        pytest.param((*ONE, "--rest_workers", "4"), "rest_workers is set but rest_port is not set."
                     " rest_port is required to start rest servers", id="REST workers"),
        pytest.param((*ONE, "--log_level", "LOUD"), "log_level should be one of: TRACE, DEBUG, INFO, WARNING, ERROR",
                     id="log level"),
        pytest.param((*ONE, "--grpc_bind_address", "300.1.1.1"),
                     "grpc_bind_address has invalid format: proper hostname or IP address expected.", id="address"),
        pytest.param((*ONE, "--max_sequence_number", "3"), "Setting low_latency_transformation, max_sequence_number and"
                     " idle_sequence_cleanup require setting stateful flag for the model.", id="stateful"),
    ],
)  # fmt: skip
def test_ovms_ends_with_its_words_on_wrong_use(flags: tuple[str, ...], words: str) -> None:
    with pytest.raises(Ended) as caught:
        as_ovms(*flags)
    assert (caught.value.code, caught.value.words) == (64, f"{words}\n")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((*ONE, "--model_version_policy", "{"), "Couldn't parse --model_version_policy"),
        ((*ONE, "--rest_port", "8000", "--metrics_enable", "--metrics_list", "ovms_tea"),
         "Metrics family name not supported: ovms_tea"),
        ((*ONE, "--task", "text_generation"), "--task is not offered by this server"),
        (("--config_path", "/nowhere.json", "--port", "1"), "Configuration file is invalid /nowhere.json"),
    ],
)  # fmt: skip
def test_ovms_fails_on_what_it_cannot_serve(flags: tuple[str, ...], told: str) -> None:
    with pytest.raises(Ended, match=told) as caught:
        as_ovms(*flags)
    assert caught.value.code == 1


def test_ovms_without_arguments_shows_its_usage() -> None:
    with pytest.raises(Ended, match="--target_device TARGET_DEVICE") as caught:
        as_ovms()
    assert (caught.value.code, caught.value.is_error) == (0, False)


def test_ovms_tells_the_version_it_plays() -> None:
    with pytest.raises(Ended, match=r"^OpenVINO Model Server 2025\.4\n"):
        as_ovms("--version", version="2025.4")


def test_the_flags_of_ovms_become_settings() -> None:
    start = as_ovms(
        *ONE, "--rest_port=8000", "--grpc_bind_address", "127.0.0.1", "--nireq", "3", "--shape", "(1,4)",
        "--batch_size", "8", "--plugin_config", '{"NUM_STREAMS": 2}', "--cache_dir", "/opt/cache",
        "--model_version_policy", '{"latest":{"num_versions":2}}', "--grpc_channel_arguments",
        "grpc.max_connection_age_ms=2000", "--file_system_poll_wait_seconds", "0", "--target_device", "BATCH:CPU(32)",
        "--log_path", "/var/log/ovms",
    )  # fmt: skip
    settings, (model,) = start.settings, start.settings.models
    assert (settings.grpc_port, settings.rest_port, settings.grpc_address) == (9000, 8000, "127.0.0.1")
    assert settings.poll_wait_seconds == 0
    assert settings.grpc_channel_arguments == (("grpc.max_connection_age_ms", 2000),)
    assert settings.cache_dir == Path("/opt/cache")
    assert start.log_path == Path("/var/log/ovms")
    assert (model.name, model.slots, model.device) == ("m", 3, "BATCH:CPU(32)")
    assert model.policy == VersionPolicy(latest=2)
    assert model.properties == {"NUM_STREAMS": "2"}
    assert (model.shapes, model.batch_size) == ({"": (1, 4)}, None)
    assert not start.families
    assert start.notes == ()


def test_ovms_listens_everywhere_and_follows_folders_by_default() -> None:
    settings = as_ovms(*ONE).settings
    assert (settings.grpc_address, settings.rest_address, settings.rest_port) == ("0.0.0.0", "0.0.0.0", 0)
    assert settings.poll_wait_seconds == 1


def test_tensorflow_serving_takes_a_value_behind_an_equals_sign_only() -> None:
    server = tfs.server("2.20.0")
    given = tfs_flags.parse(["--port", "8600", "--model_base_path=/m", "--enable_batching"], server)
    assert given.values == {"model_base_path": "/m", "enable_batching": "true"}
    assert given.complaint.startswith("unknown argument: --port\nusage: ")


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--port=many", "Couldn't interpret value many for flag port."),
        ("--enable_batching=1", "Couldn't interpret value 1 for flag enable_batching."),
        ("--enable_batchings", "Couldn't interpret value s for flag enable_batching."),
        ("--per_process_gpu_memory_fraction=half", "Couldn't interpret value half"),
        ("--help", "usage: tensorflow_model_server\nFlags:\n\t--port=8500"),
    ],
)
def test_tensorflow_serving_ends_on_a_value_that_it_cannot_read(flag: str, told: str) -> None:
    with pytest.raises(Ended) as caught:
        as_tfs("--model_base_path=/m", flag) if flag != "--help" else as_tfs(flag)
    assert caught.value.code == 255
    assert caught.value.words.startswith(told)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--port=0", "--model_base_path=/m"), "INVALID_ARGUMENT: server_options.grpc_port is not set."),
        ((), "INVALID_ARGUMENT: Both server_options.model_base_path and server_options.model_config_file are empty!"),
        (("--model_base_path=/m", "--batching_parameters_file=/b"), "INVALID_ARGUMENT: .*enable_batching"),
        (("--model_config_file=/nowhere",), "INVALID_ARGUMENT: /nowhere cannot be read"),
        (("--model_base_path=/m", "--use_alts_credentials"), "UNIMPLEMENTED: --use_alts_credentials is not offered"),
        (("--model_base_path=/m", "--saved_model_tags=serve,gpu"), "UNIMPLEMENTED: --saved_model_tags is not offered"),
        (("--model_base_path=/m", "--tensorflow_session_parallelism=1", "--tensorflow_intra_op_parallelism=1",
          "--tensorflow_inter_op_parallelism=1"), "INVALID_ARGUMENT: Either configure"),
    ],
)  # fmt: skip
def test_tensorflow_serving_says_why_it_does_not_start(flags: tuple[str, ...], told: str) -> None:
    with pytest.raises(Ended, match=f"^Failed to start server. Error: {told}") as caught:
        as_tfs(*flags)
    assert (caught.value.code, caught.value.is_error) == (255, False)


def test_the_flags_of_tensorflow_serving_become_settings() -> None:
    start = as_tfs("--model_name=m", "--model_base_path=/models/m", "--rest_api_port=8501", "--max_num_load_retries=0",
                   "--load_retry_interval_micros=5000", "--tensorflow_session_parallelism=3", "--grpc_max_threads=7",
                   "--file_system_poll_wait_seconds=-1", "--enable_grpc_healthcheck_service",
                   "--num_load_threads=4")  # fmt: skip
    settings, (model,) = start.settings, start.settings.models
    assert (settings.grpc_port, settings.rest_port, settings.grpc_threads) == (8500, 8501, 7)
    assert (model.name, model.base_path, settings.backend) == ("m", Path("/models/m"), "openvino")
    assert (settings.tfs.intra_op_threads, settings.tfs.inter_op_threads) == (3, 3)
    assert (start.load_retries, start.retry_seconds, settings.poll_wait_seconds) == (0, 0.005, 0)
    assert start.has_health
    assert start.notes == ("--num_load_threads=4",)


def test_tensorflow_serving_knows_no_platform_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text('model_config_list { config { name: "m" base_path: "/m" model_platform: "openvino" } }')
    with pytest.raises(Ended, match="Model m requests unsupported platform openvino"):
        as_tfs(f"--model_config_file={file}")


@pytest.mark.parametrize("command", ["ovms", "tensorflow_model_server"])
def test_the_originals_commands_are_installed_with_the_package(command: str) -> None:
    scripts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts[command].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_a_rest_port_that_is_the_grpc_port_is_left_out() -> None:
    assert as_tfs("--model_base_path=/m", "--port=8500", "--rest_api_port=8500").settings.rest_port == 0
