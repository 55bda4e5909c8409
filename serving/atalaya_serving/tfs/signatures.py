"""What a TensorFlow Serving client may call on a served version.

A SavedModel brings its signatures. An OpenVINO model, or a Keras export, has only `serving_default` for Predict. For
those the server itself adds `classify` and `regress` where the model's one output allows it: it reads the features of
the tf.Examples into the model's inputs by name, and takes the labels from the manifest (docs/decisions/0211). Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from atalaya_serving.datatypes import BYTES
from atalaya_serving.engines.base import DEFAULT_SIGNATURE, PREDICT_METHOD, Signature, TensorSpec
from atalaya_serving.served import ServedVersion

CLASSIFY_METHOD, REGRESS_METHOD = "tensorflow/serving/classify", "tensorflow/serving/regress"
CLASSIFY_INPUTS = REGRESS_INPUTS = "inputs"
CLASSES, SCORES, REGRESSIONS = "classes", "scores", "outputs"

_EXAMPLES = TensorSpec("inputs", BYTES, (-1,), ((0, -1),), frozenset({"inputs:0"}))


@dataclass(frozen=True, slots=True)
class ServedSignature:
    """A signature as clients see it. With `source`, the server derives it from that signature of the model."""

    name: str
    method: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    source: Signature | None = None
    labels: tuple[str, ...] = ()
    positive: int = 1
    """Where a single probability stands among the two labels."""


_KNOWN: "WeakKeyDictionary[ServedVersion, Mapping[str, ServedSignature]]" = WeakKeyDictionary()


def signatures_of(served: ServedVersion) -> Mapping[str, ServedSignature]:
    """Every signature of a version, by name."""
    known = _KNOWN.get(served)
    if known is None:
        own = {
            name: ServedSignature(name, one.method, one.inputs, one.outputs)
            for name, one in served.model.signatures.items()
        }
        known = _KNOWN[served] = (derived(served, own) if served.derive_signatures else {}) | own
    return known


def derived(served: ServedVersion, own: Mapping[str, ServedSignature]) -> dict[str, ServedSignature]:
    """`classify` and `regress` over a model that has no such signature and whose one output allows it."""
    source = served.model.signatures.get(DEFAULT_SIGNATURE)
    if source is None or source.method != PREDICT_METHOD or len(source.outputs) != 1:
        return {}
    output = source.outputs[0]
    made: dict[str, ServedSignature] = {}
    methods = {one.method for one in own.values()}
    is_column = len(output.shape) == 1 or output.shape[1:] == (1,)
    if output.datatype != "FP32" or not 1 <= len(output.shape) <= 2:
        return {}
    labels, positive = _labels(served)
    classes = 2 if is_column else output.shape[1]
    labels = labels if len(labels) == classes else ()
    if CLASSIFY_METHOD not in methods and (not is_column or labels):
        outputs = [TensorSpec(SCORES, "FP32", (-1, classes))]
        if labels:
            outputs.insert(0, TensorSpec(CLASSES, BYTES, (-1, classes)))
        made["classify"] = ServedSignature("classify", CLASSIFY_METHOD, (_EXAMPLES,), outputs, source, labels, positive)
    if REGRESS_METHOD not in methods and is_column:
        regressions = TensorSpec(REGRESSIONS, "FP32", (-1, 1))
        made["regress"] = ServedSignature("regress", REGRESS_METHOD, (_EXAMPLES,), (regressions,), source)
    return made


def _labels(served: ServedVersion) -> tuple[tuple[str, ...], int]:
    if served.manifest is None:
        return (), 1
    output = served.manifest.output
    return output.labels, output.labels.index(output.positive_class) if output.positive_class in output.labels else 1
