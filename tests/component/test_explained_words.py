"""What our own server says in its log of a model that it cannot load is understood by the operator that reads it."""

import io
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atalaya_operator.explain.log_lines import engines_word
from atalaya_serving.engines.choice import Engines
from atalaya_serving.logs import JsonFormatter
from atalaya_serving.policies import VersionPolicy
from atalaya_serving.repository import ModelRepository
from atalaya_serving.settings import ModelSettings, Settings
from atalaya_spec.manifest import FILE_NAME

SHIPPED = Path(__file__).parents[2] / "model-repo" / "haiti-damage" / "1"
Spoil = Callable[[Path], object]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log as a pod's container writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("atalaya_serving")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def no_manifest_and_garbage(version: Path) -> None:
    (version / FILE_NAME).unlink()
    (version / "model.xml").write_text("garbage")


def without_its_model(version: Path) -> None:
    for file in version.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(lambda version: shutil.rmtree(version.parent), "ModelPathNotFound", id="no-folder"),
        pytest.param(lambda version: version.rename(version.parent / "7"), "ModelPathNotFound", id="another-version"),
        pytest.param(without_its_model, "ModelPathNotFound", id="an-empty-version"),
        pytest.param(no_manifest_and_garbage, "ModelFileCorrupt", id="garbage"),
        pytest.param(lambda version: (version / "model.bin").write_bytes(b"less"), "DigestMismatch", id="other-files"),
    ],
)
def test_what_the_server_says_of_a_model_it_cannot_load_is_understood(
    tmp_path: Path, log: io.StringIO, spoil: Spoil, reason: str
) -> None:
    shutil.copytree(SHIPPED, tmp_path / "m" / "3")
    spoil(tmp_path / "m" / "3")
    model = ModelSettings("m", tmp_path / "m", VersionPolicy(specific=(3,)))
    models = ModelRepository(Settings(models=(model,)), Engines())
    models.start()
    models.stop()
    for engine in ("atalaya", "openvino"):
        known = engines_word(engine, log.getvalue())
        assert known, log.getvalue()
        assert known[0].word == reason
