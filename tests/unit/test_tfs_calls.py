"""Between finding the version of a call and computing on it, that version may be retired: the call is not lost."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from atalaya_serving.dataplane import Dataplane, InferRequest, InputTensor
from atalaya_serving.errors import ModelNotFound
from atalaya_serving.policies import VersionPolicy
from atalaya_serving.repository import ModelRepository
from atalaya_serving.served import ServedVersion
from atalaya_serving.settings import ModelSettings, Settings
from atalaya_serving.tfs.calls import Call, Calls
from atalaya_serving.tfs.labels import LabelTable
from atalaya_serving.tfs.messages import PredictRequest
from builders_serving import FakeEngine, fake_version


class Retiring:
    """Retires version 1 for version 2 and moves the label, after a call has found version 1."""

    def __init__(self, root: Path) -> None:
        for version in (1, 2):
            fake_version(root, "m", version)
        self._settings = ModelSettings("m", root / "m", VersionPolicy(specific=(1,)))
        self.repository = ModelRepository(Settings(models=(self._settings,)), FakeEngine())
        self.repository.start()
        self.labels = LabelTable({"m": {"stable": 1}})
        self.calls = Calls(Dataplane(self.repository), self.labels)
        self.prepared: list[int] = []

    def prepare(self, served: ServedVersion) -> InferRequest:
        if not self.prepared:
            self.repository.configure([ModelSettings("m", self._settings.base_path, VersionPolicy(specific=(2,)))])
            self.labels.replace({"m": {"stable": 2}})
            served.executor.close()  # which begins in a thread of its own
        self.prepared.append(served.version)
        request = Call().request()
        request.inputs = [InputTensor("x", "FP32", np.ones((1, 4), np.float32))]
        return request


@pytest.fixture
def retiring(tmp_path: Path) -> Iterator[Retiring]:
    made = Retiring(tmp_path)
    yield made
    made.repository.stop(10)


def test_a_call_by_label_follows_the_label(retiring: Retiring) -> None:
    spec = PredictRequest().model_spec
    spec.name, spec.version_label = "m", "stable"
    answer = retiring.calls.answer(spec, Call(), retiring.prepare)
    assert retiring.prepared == [1, 2]
    assert (answer.served.version, answer.outputs["y"].tolist()) == (2, [[2.0] * 4])


def test_a_call_of_the_latest_gets_the_new_latest(retiring: Retiring) -> None:
    spec = PredictRequest().model_spec
    spec.name = "m"
    assert retiring.calls.answer(spec, Call(), retiring.prepare).served.version == 2


def test_a_call_by_number_is_told_that_its_version_is_gone(retiring: Retiring) -> None:
    spec = PredictRequest().model_spec
    spec.name, spec.version.value = "m", 1
    with pytest.raises(ModelNotFound, match=r"Servable not found for request: Specific\(m, 1\)"):
        retiring.calls.answer(spec, Call(), retiring.prepare)
