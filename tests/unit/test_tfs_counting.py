"""Every call for an inference is counted once, also where no version was asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from atalaya_serving.dataplane import Dataplane
from atalaya_serving.errors import ServingError
from atalaya_serving.repository import ModelRepository
from atalaya_serving.settings import Settings
from atalaya_serving.tfs.api import TfsApi
from atalaya_serving.tfs.calls import Call
from atalaya_serving.tfs.labels import LabelTable
from atalaya_serving.tfs.messages import SERVICES
from builders_serving import FakeEngine, fake_version

REGRESS = "tensorflow/serving/regress"
MultiInferenceRequest = GetMessageClass(SERVICES["PredictionService"].methods_by_name["MultiInference"].input_type)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[TfsApi]:
    fake_version(tmp_path, "m", 1)
    repository = ModelRepository(Settings(model_repository=tmp_path), FakeEngine())
    repository.start()
    yield TfsApi(Dataplane(repository), LabelTable({}))
    repository.stop(10)


def request(*tasks: tuple[str, str, str]) -> Any:
    made = MultiInferenceRequest()
    for model, signature, method in tasks:
        task = made.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = model, signature
    return made


@pytest.mark.parametrize(
    ("tasks", "code"),
    [
        pytest.param([("", "", REGRESS)], "INVALID_ARGUMENT", id="no name"),
        pytest.param([("m", "a", REGRESS), ("n", "b", REGRESS)], "INVALID_ARGUMENT", id="two models"),
        pytest.param([("m", "", "tensorflow/serving/sing")], "UNIMPLEMENTED", id="unknown method"),
        pytest.param([("nobody", "", REGRESS)], "NOT_FOUND", id="unknown model"),
        pytest.param([("m", "nothing", REGRESS)], "INVALID_ARGUMENT", id="unknown signature"),
    ],
)
def test_a_multi_inference_that_is_refused_early_is_counted_once(
    api: TfsApi, tasks: list[tuple[str, str, str]], code: str
) -> None:
    with pytest.raises(ServingError):
        api.multi_inference(request(*tasks), Call())
    dataplane = api.calls._dataplane
    assert dataplane.refused.snapshot().requests == {("tfs-grpc", code): 1}


def test_a_multi_inference_of_nothing_is_answered_and_not_counted(api: TfsApi) -> None:
    assert not api.multi_inference(request(), Call()).results
    assert api.calls._dataplane.refused.snapshot().requests == {}
