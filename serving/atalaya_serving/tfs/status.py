"""ModelService: the states of versions, and another config for the running server."""

import logging
import threading
from typing import Any

from atalaya_serving.errors import InvalidRequest, ModelNotFound, ReloadFailed, ServingError, SettingsError, code_of
from atalaya_serving.repository import ModelRepository
from atalaya_serving.settings import ModelSettings
from atalaya_serving.tfs.labels import LabelTable
from atalaya_serving.tfs.messages import GetModelStatusResponse, ReloadConfigResponse, VersionState
from atalaya_serving.tfs.model_config import Configured, configured

_log = logging.getLogger(__name__)
_LOAD_FAILED = 9
"""FAILED_PRECONDITION in tensorflow.error.Code, whose numbers are gRPC's."""


class ModelApi:
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, repository: ModelRepository, labels: LabelTable, *, allow_new_labels: bool = False) -> None:
        self._repository, self._labels, self._allow_new_labels = repository, labels, allow_new_labels
        self._reloading = threading.Lock()

    def status(self, message: Any) -> Any:
        """A GetModelStatusResponse of one version or all. Raises ServingError."""
        if not message.HasField("model_spec"):
            raise InvalidRequest("Missing ModelSpec")
        spec = message.model_spec
        states = self._repository.states(spec.name)
        choice = spec.WhichOneof("version_choice")
        if choice:
            labelled = choice == "version_label"
            number = self._labels.version(spec.name, spec.version_label) if labelled else spec.version.value
            states = [state for state in states if state.version == number]
            if not states:
                raise ModelNotFound(f"Could not find version {number} of model {spec.name}")
        if not states:
            raise ModelNotFound(f"Could not find any versions of model {spec.name}")
        response = GetModelStatusResponse()
        for state in sorted(states, key=lambda one: one.version, reverse=True):
            told = response.model_version_status.add(
                version=state.version, state=VersionState.values_by_name[state.state].number
            )
            told.status.SetInParent()
            if state.reason:
                told.status.error_code, told.status.error_message = _LOAD_FAILED, state.reason
        return response

    def reload_config(self, message: Any) -> Any:
        """Serve another list of models. Raises ServingError; a refused config changes nothing."""
        if message.config.WhichOneof("config") != "model_config_list":
            raise InvalidRequest(
                "ServerModelConfig type not supported by HandleReloadConfigRequest."
                " Only ModelConfigList is currently supported"
            )
        try:
            given = configured(message.config)
        except SettingsError as error:
            raise InvalidRequest(str(error)) from error
        self.apply(given)
        response = ReloadConfigResponse()
        response.status.SetInParent()
        return response

    def apply(self, given: Configured) -> None:
        """Check and move the labels, then serve the models. Raises PreconditionFailed, ReloadFailed."""
        with self._reloading:
            before = set(self._repository.names())
            available = {
                model.name: self._repository.ready_versions(model.name)
                for model in given.models
                if model.name in before
            }
            self._labels.check(given.labels, available, allow_new=self._allow_new_labels)
            self._labels.replace(given.labels)
            self._repository.configure(given.models)
            _log.info("config reloaded", extra={"models": [model.name for model in given.models]})
            self._refuse_unavailable([model for model in given.models if model.name not in before])

    def _refuse_unavailable(self, new: list[ModelSettings]) -> None:
        failed = []
        for model in new:
            try:
                self._repository.resolve(model.name, "")
            except ServingError as error:
                failed.append(f"{{{model.name} due to error: {code_of(error).grpc.name}: {error}}}")
        if failed:
            raise ReloadFailed(f"{len(failed)} model(s) did not become available: {{{', '.join(failed)}, }}")
