"""What an InferenceModel means on one machine: served, refused with the reason, or said."""

import json
from pathlib import Path

import pytest
import yaml

from atalaya.local_serving import (
    LocalModels,
    ServedModel,
    check_local_files,
    models_of_files,
    models_of_repository,
    resolve_versions,
    server_config,
)
from atalaya_serving.batching import Batching
from atalaya_serving.paths import shipped_repository
from atalaya_serving.settings import models_from_config
from atalaya_spec.errors import UsageError
from atalaya_spec.inference_model import API_VERSION, AllVersions, Versions
from atalaya_spec.problems import Refused

HERE = ("CPU",)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with model `m` in versions 1, 2 and 10, and things that are no versions."""
    root = tmp_path / "repository"
    for version in ("1", "2", "10"):
        (root / "m" / version).mkdir(parents=True)
        (root / "m" / version / "model.xml").touch()
    (root / "m" / "3").mkdir()  # half copied: no model in it
    (root / "m" / "notes").mkdir()
    return root


def write(folder: Path, **spec: object) -> Path:
    whole = {"engine": "openvino", "model": {"uri": "repository/m"}} | spec
    file = folder / "model.yaml"
    file.write_text(
        yaml.safe_dump({"apiVersion": API_VERSION, "kind": "InferenceModel", "metadata": {"name": "m"}, "spec": whole})
    )
    return file


def served(file: Path, available: tuple[str, ...] = HERE) -> LocalModels:
    problems, models = models_of_files([file], available)
    assert problems == []
    return models


def refused(file: Path, available: tuple[str, ...] = HERE) -> list[str]:
    problems, models = models_of_files([file], available)
    assert models.models == ()
    return [str(problem) for problem in problems]


def test_a_relative_path_is_relative_to_its_file_and_the_highest_version_serves(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert served(write(tmp_path)).models == (ServedModel("m", repository / "m", (10,)),)


def test_a_file_uri_is_served_too(repository: Path, tmp_path: Path) -> None:
    file = write(tmp_path, model={"uri": f"file://{repository}/m", "versions": {"latest": 2}})
    assert served(file).models == (ServedModel("m", repository / "m", (2, 10)),)


@pytest.mark.parametrize(
    ("wanted", "pinned"),
    [
        (Versions(latest=1), (10,)),
        (Versions(latest=2), (2, 10)),
        (Versions(latest=9), (1, 2, 10)),
        (Versions(all=AllVersions()), (1, 2, 10)),
        (Versions(specific=(10, 1)), (1, 10)),
    ],
)
def test_versions_are_resolved_by_us_and_pinned(repository: Path, wanted: Versions, pinned: tuple[int, ...]) -> None:
    assert resolve_versions(wanted, repository / "m") == pinned


def test_a_version_that_is_not_there_is_refused_with_those_that_are(repository: Path) -> None:
    with pytest.raises(Refused, match=r"has no version 3 or 7; name versions it has: 1, 2, 10"):
        resolve_versions(Versions(specific=(1, 3, 7)), repository / "m")


def test_the_config_pins_versions_in_the_format_of_the_model_server(repository: Path) -> None:
    config = server_config([ServedModel("m", repository / "m", (1, 10), "GPU")])
    assert config == {
        "model_config_list": [
            {
                "config": {
                    "name": "m",
                    "base_path": str(repository / "m"),
                    "model_version_policy": {"specific": {"versions": [1, 10]}},
                    "target_device": "GPU",
                }
            }
        ]
    }


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"model": {"uri": "s3://models/m"}}, "does not fetch models yet, so s3:// cannot be served; copy"),
        ({"model": {"uri": "nowhere/m"}}, "nowhere/m is no folder; lay the model's files into"),
        ({"model": {"uri": "repository"}}, "repository has no integer version folder with a model"),
        ({"model": {"uri": "repository/m", "versions": {"specific": [3]}}}, "spec.model.versions: "),
        ({"engine": "tensorflow"}, "m/10 has no saved_model.pb, which TensorFlow needs; export a SavedModel, or write"),
        ({"engine": "atalaya", "backend": "tensorflow"}, "m/10 has no saved_model.pb, which TensorFlow needs"),
        ({"devices": ["npu.intel.com/accel"]}, "none of npu.intel.com/accel is on this machine; add cpu"),
        ({"devices": ["gpu.intel.com/xe"]}, "none of gpu.intel.com/xe is on this machine; add cpu"),
        ({"engin": "openvino"}, "did you mean 'engine'?"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_with_the_reason(
    spec: dict[str, object], message: str, repository: Path, tmp_path: Path
) -> None:
    told = refused(write(tmp_path, **spec))
    assert len(told) == 1
    assert message in told[0]
    assert told[0].startswith(f"{tmp_path}/model.yaml:")


@pytest.mark.parametrize(
    "spec", [{"engine": "tensorflow"}, {"engine": "atalaya", "backend": "tensorflow"}], ids=["engine", "backend"]
)
def test_the_backend_tensorflow_is_passed_to_the_server(spec: dict[str, str], repository: Path, tmp_path: Path) -> None:
    (repository / "m" / "10" / "saved_model.pb").touch()
    models = served(write(tmp_path, **spec)).models
    assert models == (ServedModel("m", repository / "m", (10,), backend="tensorflow"),)
    assert server_config(models)["model_config_list"][0]["config"]["backend"] == "tensorflow"


def test_without_tensorflow_its_backend_is_refused(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "m" / "10" / "saved_model.pb").touch()
    monkeypatch.setattr("atalaya.local_serving.find_spec", lambda name: None)
    told = refused(write(tmp_path, engine="atalaya", backend="tensorflow"))
    assert len(told) == 1
    assert "spec.backend: TensorFlow is not installed here; install atalaya[tensorflow], or write" in told[0]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"replicas": 3}, "spec.replicas"),
        ({"scaling": {"max": 4, "concurrency": 2}}, "spec.scaling"),
        ({"resources": {"requests": {"memory": "1Gi"}}}, "spec.resources"),
        ({"engineVersion": "2026.3"}, "spec.engineVersion"),
        ({"image": "openvino/model_server:2026.3"}, "spec.image"),
        ({"devices": ["gpu.intel.com/xe", "cpu"]}, "spec.devices"),
    ],
)
def test_what_means_nothing_here_is_said_and_the_model_is_served(
    spec: dict[str, object], path: str, repository: Path, tmp_path: Path
) -> None:
    models = served(write(tmp_path, **spec))
    assert [note.path for note in models.notes] == [path]
    assert [model.device for model in models.models] == ["CPU"]


def test_a_plain_file_has_nothing_said_of_it(repository: Path, tmp_path: Path) -> None:
    assert served(write(tmp_path, replicas=1, devices=["cpu"], protocols=["kserve-v2"])).notes == ()


def test_batching_is_passed_to_the_server_as_it_reads_it(repository: Path, tmp_path: Path) -> None:
    models = served(write(tmp_path, batching={"maxSize": 8, "timeout": "2ms"}))
    assert models.notes == ()
    config = tmp_path / "models.json"
    config.write_text(json.dumps(server_config(models.models)))
    assert [model.batching for model in models_from_config(config)] == [Batching(8, 0.002)]


@pytest.mark.parametrize(("batch", "notes"), [(-1, []), (1, ["spec.batching"])])
def test_batching_of_a_model_with_a_fixed_batch_is_said_to_mean_nothing(
    batch: int, notes: list[str], repository: Path, tmp_path: Path
) -> None:
    manifest = yaml.safe_load((shipped_repository() / "haiti-damage" / "1" / "manifest.yaml").read_text())
    manifest["input"]["shape"][0] = batch
    (repository / "m" / "10" / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    models = served(write(tmp_path, batching={"maxSize": 8}))
    assert [note.path for note in models.notes] == notes


def test_a_preferred_gpu_is_used_where_there_is_one(repository: Path, tmp_path: Path) -> None:
    models = served(write(tmp_path, devices=["gpu.intel.com/xe", "cpu"]), ("CPU", "GPU.0", "GPU.1"))
    assert [model.device for model in models.models] == ["GPU"]
    assert models.notes == ()


def test_a_model_without_replicas_is_not_served_and_that_is_said(repository: Path, tmp_path: Path) -> None:
    models = served(write(tmp_path, replicas=0))
    assert models.models == ()
    assert "the model is not served" in str(models.notes[0])


def test_every_problem_of_a_file_is_told(repository: Path, tmp_path: Path) -> None:
    told = refused(write(tmp_path, model={"uri": "s3://m/m"}, devices=["npu.intel.com/accel"]))
    assert len(told) == 2


def test_lint_for_this_machine_allows_local_paths(repository: Path, tmp_path: Path) -> None:
    assert [document.problems for document in check_local_files([write(tmp_path)], HERE)] == [()]


def test_without_files_every_model_of_the_repository_is_served_at_its_highest_version(repository: Path) -> None:
    assert models_of_repository(repository) == [ServedModel("m", repository / "m", (10,))]


def test_an_empty_repository_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no model .* name an InferenceModel file with -f"):
        models_of_repository(tmp_path)
    with pytest.raises(UsageError, match=r"none is no folder; correct ATALAYA_MODEL_REPO"):
        models_of_repository(tmp_path / "none")
