"""Versions come and go: policies, failures that leave the old one serving, half-made folders, requests and polls."""

import shutil
from pathlib import Path

import pytest

from atalaya_serving.errors import ModelLoadFailed, ModelNotFound, ModelNotReady
from atalaya_serving.policies import ALL, VersionPolicy
from atalaya_serving.repository import ModelRepository
from atalaya_serving.settings import ModelSettings, Settings
from builders_serving import FakeEngine, fake_version


def repository(root: Path, policy: VersionPolicy | None = None, engine: FakeEngine | None = None) -> ModelRepository:
    models = () if policy is None else (ModelSettings("m", root / "m", policy),)
    settings = Settings(models=models, model_repository=root if policy is None else None)
    made = ModelRepository(settings, engine or FakeEngine())
    made.start()
    return made


def test_the_newest_version_answers_by_default_and_each_by_its_number(tmp_path: Path) -> None:
    for version in (1, 2, 10):
        fake_version(tmp_path, "m", version)
    models = repository(tmp_path, ALL)
    assert models.resolve("m", "").version == 10
    assert models.resolve("m", "2").version == 2
    assert models.ready_versions("m") == [1, 2, 10]
    models.stop()


def test_a_load_that_fails_as_nobody_thought_of_leaves_the_others_serving(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1, "odd")
    fake_version(tmp_path, "n", 1)
    models = repository(tmp_path)
    assert models.resolve("n", "").version == 1
    with pytest.raises(ModelNotReady, match="nobody thought of this"):
        models.resolve("m", "")
    models.stop()


@pytest.mark.parametrize("version", ["7", "x", "-1", "²", "9" * 5000])
def test_an_unknown_version_is_refused_with_what_serves(tmp_path: Path, version: str) -> None:
    fake_version(tmp_path, "m", 1)
    models = repository(tmp_path)
    with pytest.raises(ModelNotFound, match="it serves: 1"):
        models.resolve("m", version)
    with pytest.raises(ModelNotFound, match="this server has: m"):
        models.resolve("n", "")
    models.stop()


def test_a_version_that_fails_is_reported_and_the_old_one_goes_on(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    models = repository(tmp_path)
    fake_version(tmp_path, "m", 2, "broken")
    models.look()
    models.look()
    assert models.resolve("m", "").version == 1
    states = {line.version: (line.state, line.reason) for line in models.index()}
    assert states["1"] == ("READY", "")
    assert states["2"][0] == "UNAVAILABLE"
    assert "is broken" in states["2"][1]
    with pytest.raises(ModelNotReady, match="is broken"):
        models.resolve("m", "2")
    fake_version(tmp_path, "m", 2, "mended now")
    models.look()
    models.look()
    assert models.ready_versions("m") == [2]
    models.stop()


def test_a_poll_waits_until_a_new_folder_holds_still(tmp_path: Path) -> None:
    engine = FakeEngine()
    fake_version(tmp_path, "m", 1)
    models = repository(tmp_path, engine=engine)
    folder = tmp_path / "m" / "2"
    folder.mkdir()
    (folder / "part").write_text("a")
    models.look()
    (folder / "part").write_text("abc")
    models.look()
    assert engine.loads == ["1"]
    fake_version(tmp_path, "m", 2)
    models.look()
    assert engine.loads == ["1"]
    models.look()
    assert models.ready_versions("m") == [2]
    models.stop()


def test_a_version_that_fails_is_not_tried_again_until_it_changes(tmp_path: Path) -> None:
    engine = FakeEngine()
    fake_version(tmp_path, "m", 1, "broken")
    models = repository(tmp_path, engine=engine)
    for _ in range(3):
        models.look()
    assert engine.loads == ["1"]
    models.stop()


def test_a_removed_version_is_retired_but_a_folder_that_is_away_changes_nothing(tmp_path: Path) -> None:
    for version in (1, 2):
        fake_version(tmp_path, "m", version)
    models = repository(tmp_path, ALL)
    shutil.rmtree(tmp_path / "m" / "1")
    models.look()
    assert models.ready_versions("m") == [2]
    (tmp_path / "m").rename(tmp_path / "away")
    models.look()
    assert models.ready_versions("m") == [2]
    models.stop()


@pytest.mark.parametrize("how", ["emptied", "gone", "only other files"])
def test_a_folder_with_no_version_left_changes_nothing_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """A mount point whose file system is away looks like a folder that somebody emptied."""
    for version in (1, 2):
        fake_version(tmp_path, "m", version)
    models = repository(tmp_path, ALL)
    shutil.move(tmp_path / "m", tmp_path / "away")
    if how != "gone":
        (tmp_path / "m").mkdir()
    if how == "only other files":
        (tmp_path / "m" / "README.md").touch()
    for _ in range(3):
        models.look()
    assert models.ready_versions("m") == [1, 2]
    assert models.is_ready()
    assert [(line.state, "serves on from memory" in line.reason) for line in models.index()] == [("READY", True)] * 2
    assert caplog.text.count("goes on serving, until it is unloaded") == 1
    with pytest.raises(ModelLoadFailed, match="serves on from memory"):
        models.load("m")
    if how != "gone":
        shutil.rmtree(tmp_path / "m")
    shutil.move(tmp_path / "away", tmp_path / "m")
    shutil.rmtree(tmp_path / "m" / "1")
    models.look()
    assert [(line.version, line.reason) for line in models.index()] == [("2", "")]
    models.stop()


def test_an_emptied_model_is_unloaded_on_request_and_by_another_config(tmp_path: Path) -> None:
    for name in ("m", "n", "other"):
        fake_version(tmp_path, name, 1)
    given = {name: ModelSettings(name, tmp_path / name) for name in ("m", "n")}
    models = ModelRepository(Settings(models=tuple(given.values())), FakeEngine())
    models.start()
    for name in ("m", "n", "other"):
        shutil.rmtree(tmp_path / name / "1")
    models.configure(given.values())  # the same again: the folders say no more than before
    assert (models.ready_versions("m"), models.ready_versions("n")) == ([1], [1])
    models.unload("m")
    assert models.ready_versions("m") == []
    models.configure([ModelSettings("n", tmp_path / "other")])
    assert models.ready_versions("n") == []
    models.stop()


def test_a_model_that_never_served_is_forgotten_with_its_folder(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    fake_version(tmp_path, "n", 1, "broken")
    fake_version(tmp_path, "unloaded", 1)
    models = repository(tmp_path)
    models.unload("unloaded")
    for name in ("n", "unloaded"):
        shutil.rmtree(tmp_path / name)
    models.look()
    assert [line.name for line in models.index()] == ["m"]
    assert models.is_ready()
    with pytest.raises(ModelNotFound):
        models.resolve("n", "")
    fake_version(tmp_path, "n", 1)
    for _ in range(2):
        models.look()
    assert models.resolve("n", "").version == 1
    models.stop()


def test_a_model_is_unloaded_and_loaded_on_request(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    models = repository(tmp_path)
    models.unload("m")
    with pytest.raises(ModelNotReady, match="unloaded on request"):
        models.resolve("m", "")
    models.look()
    with pytest.raises(ModelNotReady):
        models.resolve("m", "")
    assert models.is_ready()
    models.load("m")
    assert models.resolve("m", "").version == 1
    models.stop()


def test_a_load_on_request_tells_why_it_failed_and_keeps_what_serves(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    models = repository(tmp_path)
    fake_version(tmp_path, "m", 2, "broken")
    with pytest.raises(ModelLoadFailed, match="is broken"):
        models.load("m")
    assert models.resolve("m", "").version == 1
    with pytest.raises(ModelNotFound):
        models.load("../m")
    models.stop()


def test_a_load_on_request_takes_changed_files_of_the_same_version(tmp_path: Path) -> None:
    engine = FakeEngine()
    fake_version(tmp_path, "m", 1)
    models = repository(tmp_path, engine=engine)
    before = models.resolve("m", "").digest
    models.load("m")
    assert engine.loads == ["1"]
    fake_version(tmp_path, "m", 1, "other weights")
    models.load("m")
    assert engine.loads == ["1", "1"]
    assert models.resolve("m", "").digest != before
    models.stop()


def test_new_models_appear_in_a_repository(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    models = repository(tmp_path)
    fake_version(tmp_path, "n", 3)
    models.look()
    models.look()
    assert models.names() == ["m", "n"]
    assert models.resolve("n", "").version == 3
    models.stop()


def test_a_model_that_arrives_broken_takes_nobodys_readiness(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    models = repository(tmp_path)
    fake_version(tmp_path, "n", 1, "broken")
    models.look()
    models.look()  # the folder has settled
    assert models.is_ready()
    with pytest.raises(ModelNotReady, match="is broken"):
        models.resolve("n", "")
    models.stop()


def test_the_server_is_ready_only_when_every_model_is(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    fake_version(tmp_path, "n", 1, "broken")
    models = repository(tmp_path)
    assert not models.is_ready()
    fake_version(tmp_path, "n", 1, "mended now")
    models.load("n")
    assert models.is_ready()
    models.stop()


def test_a_missing_version_that_is_asked_for_by_number_is_told(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    models = repository(tmp_path, VersionPolicy(specific=(4,)))
    with pytest.raises(ModelNotReady, match="lacks the version asked for: 4"):
        models.resolve("m", "")
    models.stop()
