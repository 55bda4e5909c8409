"""Every flag that an original's source defines is accepted by its face, and every other does what it does there."""

import json
from pathlib import Path
from typing import Any

import pytest

from atalaya_serving.faces import ovms_flags, tfs_flags
from atalaya_serving.faces.ended import Ended
from atalaya_serving.faces.ovms_config import CHANGES_ANSWERS
from atalaya_serving.faces.ovms_settings import ovms_start
from atalaya_serving.faces.tfs_settings import tfs_start
from atalaya_spec import ovms, tfs
from atalaya_spec.model_server import Flag

JUDGE: dict[str, Any] = json.loads((Path(__file__).parent / "server_flags.json").read_text())
EVERY_NAME = sorted({flag for program in ("ovms", "tensorflow_model_server") for flags in JUDGE[program].values()
                     for flag in flags} | {"model_repository", "queue_size", "backend", "made_up"})  # fmt: skip
OVMS_VERSIONS, TFS_VERSIONS = list(JUDGE["ovms"]), list(JUDGE["tensorflow_model_server"])
# These do other work than serving: fetch, convert, list or write.
OTHER_WORK = {"pull", "source_model", "source_loras", "task", "list_models", "add_to_config", "remove_from_config",
              "configure", "help", "version"}  # fmt: skip
VALUES = {"model_version_policy": '{"all":{}}', "plugin_config": '{"NUM_STREAMS":"1"}', "shape": "(1,4)",
          "metrics_list": "ovms_streams", "log_level": "DEBUG", "grpc_channel_arguments": "grpc.so_reuseport=0",
          "rest_workers": "2", "grpc_bind_address": "127.0.0.1", "rest_bind_address": "localhost", "batch_size": "auto",
          "stateful": "true"}  # fmt: skip
ALONE = {"port", "rest_port", "model_name", "model_path", "config_path", "help", "version"}


def value(flag: Flag) -> str:
    kinds = {"integer": "1", "float": "0.5", "bool": "true", "string": "text"}
    return VALUES.get(flag.name, flag.default or kinds[flag.kind])


def ovms_arguments(flag: Flag) -> list[str]:
    return [f"--{flag.name}"] if flag.kind == "bool" else [f"--{flag.name}", value(flag)]


@pytest.mark.parametrize("version", OVMS_VERSIONS)
def test_ovms_takes_each_of_its_flags(version: str) -> None:
    server = ovms.server(version)
    for name in set(JUDGE["ovms"][version]) - {"help", "version"}:
        assert list(ovms_flags.parse(ovms_arguments(server.flags[name]), server)) == [name]
    for name in ("help", "version"):
        with pytest.raises(Ended) as caught:
            ovms_flags.parse([f"--{name}"], server)
        assert (caught.value.code, caught.value.is_error) == (0, False)


@pytest.mark.parametrize("version", OVMS_VERSIONS)
def test_ovms_ends_on_every_other_flag(version: str) -> None:
    server = ovms.server(version)
    others = [name for name in EVERY_NAME if name not in JUDGE["ovms"][version]]
    assert len(others) > 40
    for name in others:
        with pytest.raises(Ended) as caught:
            ovms_flags.parse(["--port", "9000", f"--{name}", "x"], server)
        assert caught.value.code == 64
        assert caught.value.is_error
        assert caught.value.words.startswith(f"error parsing options - unmatched arguments: --{name}, ")


@pytest.mark.parametrize("version", OVMS_VERSIONS)
def test_ovms_starts_with_each_flag_that_is_about_serving(version: str, tmp_path: Path) -> None:
    server = ovms.server(version)
    base = ["--model_name", "m", "--model_path", str(tmp_path), "--port", "9000", "--rest_port", "8000"]
    for name in sorted(set(JUDGE["ovms"][version]) - OTHER_WORK - ALONE):
        needed = {"metrics_list": ["--metrics_enable"], "cpu_extension": ["--cpu_extension", str(tmp_path)]}
        stateful = ["--stateful"] if name in ("low_latency_transformation", "max_sequence_number",
                                              "idle_sequence_cleanup") else []  # fmt: skip
        asked = [] if name == "cpu_extension" else ovms_arguments(server.flags[name])
        start = ovms_start(ovms_flags.parse([*base, *needed.get(name, stateful), *asked], server), server)
        (model,) = start.settings.models
        assert bool(model.unsupported) == (name in CHANGES_ANSWERS or bool(stateful)), name


def test_ovms_says_which_flags_have_no_effect(tmp_path: Path) -> None:
    server = ovms.server("2026.2.1")
    flags = ["--model_name", "m", "--model_path", str(tmp_path), "--port", "9000", "--grpc_memory_quota", "1000000",
             "--trace_path", "/tmp/t", "--nireq", "2"]  # fmt: skip
    assert ovms_start(ovms_flags.parse(flags, server), server).notes == ("--grpc_memory_quota", "--trace_path")


@pytest.mark.parametrize("version", TFS_VERSIONS)
def test_tensorflow_serving_takes_each_of_its_flags(version: str) -> None:
    server = tfs.server(version)
    for name in set(JUDGE["tensorflow_model_server"][version]) - {"version"}:
        given = tfs_flags.parse([f"--{name}={value(server.flags[name])}"], server)
        assert list(given.values) == [name]
        assert given.complaint == ""


@pytest.mark.parametrize("version", TFS_VERSIONS)
def test_tensorflow_serving_names_every_other_flag_and_goes_on(version: str) -> None:
    server = tfs.server(version)
    for name in (name for name in EVERY_NAME if name not in JUDGE["tensorflow_model_server"][version]):
        given = tfs_flags.parse(["--port=8500", f"--{name}=x", "--model_base_path=/m"], server)
        assert given.values == {"port": "8500", "model_base_path": "/m"}
        assert given.complaint.startswith(f"unknown argument: --{name}=x\nusage: tensorflow_model_server\nFlags:\n")
        assert tfs_start(given, server, "openvino").settings.grpc_port == 8500


@pytest.mark.parametrize("version", TFS_VERSIONS)
def test_tensorflow_serving_starts_with_the_default_of_each_flag_written_out(version: str) -> None:
    server = tfs.server(version)
    flags = [f"--{flag.name}={flag.default}" for flag in server.flags.values() if flag.default or flag.kind == "string"]
    start = tfs_start(tfs_flags.parse([*flags, "--model_base_path=/m"], server), server, "openvino")
    assert start.notes == ()
    assert start.settings.models[0].name == "default"
