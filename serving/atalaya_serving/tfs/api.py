"""The TensorFlow Serving API whole: one method a call, message in, message out. Both transports stand on it."""

from typing import Any

from atalaya_serving.dataplane import Dataplane
from atalaya_serving.tfs.calls import Call, Calls
from atalaya_serving.tfs.classify import ExamplesApi
from atalaya_serving.tfs.labels import LabelTable
from atalaya_serving.tfs.predict import PredictApi
from atalaya_serving.tfs.status import ModelApi


class TfsApi:
    """Every method raises ServingError, whose code travels by the table in errors.py."""

    def __init__(self, dataplane: Dataplane, labels: LabelTable, *, allow_new_labels: bool = False) -> None:
        self.calls = Calls(dataplane, labels)
        self.predictions = PredictApi(self.calls)
        self._examples = ExamplesApi(self.calls)
        self.models = ModelApi(dataplane.repository, labels, allow_new_labels=allow_new_labels)
        self.predict = self.predictions.predict
        self.classify, self.regress = self._examples.classify, self._examples.regress
        self.multi_inference = self._examples.multi_inference

    def metadata(self, message: Any, _call: Call | None = None) -> Any:
        """GetModelMetadata."""
        return self.predictions.metadata(message)

    def status(self, message: Any, _call: Call | None = None) -> Any:
        """GetModelStatus."""
        return self.models.status(message)

    def reload_config(self, message: Any, _call: Call | None = None) -> Any:
        """HandleReloadConfigRequest."""
        return self.models.reload_config(message)
