"""A store, a model whose answer is the tile's brightness, and one call that assesses."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atalaya_serving.scoring.assessment import AssessRequest, AssessResult, assess
from atalaya_serving.scoring.models import ModelChoice
from atalaya_serving.scoring.planning import SceneChoice
from atalaya_serving.store import Store, TileTable
from brightness_model import write_brightness_model


class Bench:
    """Assesses scenes with the brightness model into one store."""

    def __init__(self, folder: Path, store: Store, store_url: str) -> None:
        self.folder, self.store, self.store_url = folder, store, store_url
        self.repository = folder / "models"
        self.version = write_brightness_model(self.repository)
        self.scenes = folder / "scenes"

    def request(self, scene: Path, **changes: Any) -> AssessRequest:
        names = set(SceneChoice.__dataclass_fields__)
        looked_at = SceneChoice(scene, **{name: changes.pop(name) for name in list(changes) if name in names})
        readers = changes.pop("readers", None)
        model = changes.pop("model", "brightness")
        return AssessRequest(looked_at, ModelChoice(model, self.repository, **changes), self.scenes, readers)

    def assess(self, scene: Path, **changes: Any) -> AssessResult:
        return assess(self.request(scene, **changes), self.store)

    def tiles(self, scene: Path, **changes: Any) -> TileTable:
        return self.store.tiles(self.assess(scene, **changes).assessment.id)

    def environment(self) -> dict[str, str]:
        """What a subprocess needs to work on the same store."""
        return {
            "ATALAYA_HOME": str(self.folder / "home"),
            "ATALAYA_STORE_URL": self.store_url,
            "ATALAYA_SCENES": str(self.scenes),
            "ATALAYA_MODEL_REPO": str(self.repository),
        }


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with Store.open(url) as store:
        yield Bench(tmp_path, store, url)


@pytest.fixture
def slow_bench(bench):
    """The same model with work in it that leaves its answers as they are: slow enough to be met in the middle."""
    shutil.rmtree(bench.version)
    write_brightness_model(bench.repository, channels_of_work=16)
    return bench
