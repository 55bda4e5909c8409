"""Classify, Regress and MultiInference: tf.Examples in, labels with scores or values out."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from atalaya_serving.dataplane import InferRequest, InputTensor
from atalaya_serving.datatypes import BYTES, Tensor
from atalaya_serving.engines.base import DEFAULT_SIGNATURE
from atalaya_serving.errors import InvalidRequest, ModelNotFound, NotSupported, ServingError
from atalaya_serving.served import ServedVersion
from atalaya_serving.tfs.calls import Call, Calls, fill_spec
from atalaya_serving.tfs.examples import features_to_tensors, serialized_examples
from atalaya_serving.tfs.messages import ClassificationResponse, MultiInferenceResponse, RegressionResponse
from atalaya_serving.tfs.results import check_signature, classification, derived_outputs, regression
from atalaya_serving.tfs.signatures import CLASSIFY_METHOD, REGRESS_METHOD, ServedSignature, signatures_of

_TRIES = 3


class ExamplesApi:
    """The calls that take tf.Examples."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def classify(self, message: Any, call: Call) -> Any:
        """A ClassificationResponse. Raises ServingError."""
        response = ClassificationResponse()
        served, result = self._run(message.model_spec, CLASSIFY_METHOD, message.input, call)
        response.result.CopyFrom(result)
        fill_spec(response.model_spec, served, message.model_spec.signature_name or DEFAULT_SIGNATURE)
        return response

    def regress(self, message: Any, call: Call) -> Any:
        """A RegressionResponse. Raises ServingError."""
        response = RegressionResponse()
        served, result = self._run(message.model_spec, REGRESS_METHOD, message.input, call)
        response.result.CopyFrom(result)
        fill_spec(response.model_spec, served, message.model_spec.signature_name or DEFAULT_SIGNATURE)
        return response

    def multi_inference(self, message: Any, call: Call) -> Any:
        """A MultiInferenceResponse: one version answers all tasks. Raises ServingError."""
        tasks = message.tasks
        with self._counted(call):
            _check_tasks(tasks)
        if not tasks:
            return MultiInferenceResponse()
        is_pinned = tasks[0].model_spec.WhichOneof("version_choice") == "version"
        for _ in range(0 if is_pinned else _TRIES):
            served = self._resolved(tasks, call)
            with suppress(ModelNotFound):  # the version was retired between two tasks: another one stands in its place
                return self._all_tasks(message, served, call)
        return self._all_tasks(message, self._resolved(tasks, call), call)

    @contextmanager
    def _counted(self, call: Call) -> Iterator[None]:
        """What is refused before a task was computed is counted here, the rest where it is computed."""
        try:
            yield
        except ServingError as error:
            self._calls.count_refused(call, error)
            raise

    def _resolved(self, tasks: Any, call: Call) -> ServedVersion:
        with self._counted(call):
            served = self._calls.resolve(tasks[0].model_spec)
            self._check_signatures(served, tasks)
            return served

    def _all_tasks(self, message: Any, served: ServedVersion, call: Call) -> Any:
        response = MultiInferenceResponse()
        for task in message.tasks:
            spec = type(task.model_spec)()
            spec.CopyFrom(task.model_spec)
            spec.version.value = served.version
            _, result = self._run(spec, task.method_name, message.input, call)
            made = response.results.add()
            part = made.classification_result if task.method_name == CLASSIFY_METHOD else made.regression_result
            part.CopyFrom(result)
            fill_spec(made.model_spec, served, task.model_spec.signature_name or DEFAULT_SIGNATURE)
        return response

    def _check_signatures(self, served: ServedVersion, tasks: Any) -> None:
        names: set[str] = set()
        for task in tasks:
            name = task.model_spec.signature_name or DEFAULT_SIGNATURE
            signature = signatures_of(served).get(name)
            if signature is None:
                raise InvalidRequest(f"Requested signature not found in model graph: {name}")
            check_signature(signature, task.method_name)
            names |= signature.inputs[0].aliases or {signature.inputs[0].name}
        if len({name for name in names if ":" in name}) > 1:
            raise InvalidRequest("Input tensor must be the same for all Signatures.")

    def _run(self, spec: Any, method: str, given: Any, call: Call) -> tuple[ServedVersion, Any]:
        asked: dict[str, Any] = {}

        def prepare(served: ServedVersion) -> InferRequest:
            signature = _signature(served, spec.signature_name, method)
            serialized = serialized_examples(given)
            asked.update(signature=signature, count=len(serialized))
            request = call.request()
            _fill_inputs(request, signature, serialized)
            return request

        answer = self._calls.answer(spec, call, prepare)
        signature, outputs = asked["signature"], answer.outputs
        if signature.source is not None:
            outputs = derived_outputs(signature, outputs[signature.source.outputs[0].name])
        return answer.served, _result(method, outputs, asked["count"])


def _fill_inputs(request: InferRequest, signature: ServedSignature, serialized: Tensor) -> None:
    if signature.source is None:
        request.signature = signature.name
        request.inputs = [InputTensor(signature.inputs[0].name, BYTES, serialized)]
        return
    request.signature = DEFAULT_SIGNATURE
    specs = signature.source.inputs
    tensors = features_to_tensors(serialized, specs)
    request.inputs = [InputTensor(one.name, one.datatype, tensor) for one, tensor in zip(specs, tensors, strict=True)]


def _result(method: str, outputs: Mapping[str, Tensor], count: int) -> Any:
    return classification(outputs, count) if method == CLASSIFY_METHOD else regression(outputs, count)


def _signature(served: ServedVersion, name: str, method: str) -> ServedSignature:
    wanted = name or DEFAULT_SIGNATURE
    signature = signatures_of(served).get(wanted)
    if signature is None:
        raise InvalidRequest(f"No signature was found with the name: {wanted}")
    check_signature(signature, method)
    return signature


def _check_tasks(tasks: Any) -> None:
    seen = set()
    for task in tasks:
        if not task.model_spec.name:
            raise InvalidRequest("Found ModelSpec with an empty model name.")
        if task.model_spec.name != tasks[0].model_spec.name:
            raise InvalidRequest("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise InvalidRequest(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        if task.method_name not in (CLASSIFY_METHOD, REGRESS_METHOD):
            raise NotSupported(f"Unsupported signature method_name: {task.method_name}")
