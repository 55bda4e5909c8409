"""What an engine is: it loads a version's folder and gives slots, each of which runs one inference at a time.

Nothing here knows a protocol or a queue. Tensors are numpy arrays: BF16 as its raw bits in uint16, BYTES as an object
array of `bytes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from atalaya_serving.datatypes import Tensor

Hint = Literal["THROUGHPUT", "LATENCY"]
Backend = Literal["openvino", "tensorflow"]
Precision = Literal["auto", "f32", "bf16", "f16"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. In `shape`, -1 is any size; `bounds` gives (low, high) a dimension, -1 for no bound."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    bounds: tuple[tuple[int, int], ...] = ()
    aliases: frozenset[str] = frozenset()


PREDICT_METHOD = "tensorflow/serving/predict"
DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a model. `method` is TensorFlow's name of its kind: predict, classify or regress."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    method: str = PREDICT_METHOD


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a version shall be compiled. `shapes` maps an input's name ("" for the only one) to fixed dimensions."""

    device: str = "CPU"
    hint: Hint = "THROUGHPUT"
    precision: Precision = "auto"
    slots: int | None = None
    batch_size: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    backend: Backend = "openvino"
    rows_are_independent: bool = False
    """Whether a row's answer never depends on the other rows of its batch, so that a batch may be run in parts."""


class Slot(Protocol):
    """One inference at a time, always from the same thread."""

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[int], signature: str = "") -> list[Tensor]:
        """Run on one tensor an input, in the signature's order; give the outputs of these positions.

        An empty `signature` is the model's default. The answers may be views that the next run overwrites. Raises
        InferenceFailed.
        """


class LoadedModel(Protocol):
    """A compiled version."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """The inputs in the model's order."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """The outputs in the model's order."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Every way to call it, by name; the default one, which `inputs` and `outputs` tell, may have any name."""

    @property
    def platform(self) -> str:
        """The engine and format, as v2 metadata names it."""

    @property
    def precision(self) -> str:
        """The precision that inference really uses."""

    @property
    def slots(self) -> Sequence[Slot]:
        """As many as can usefully run side by side."""


class Engine(Protocol):
    """Loads models."""

    def load(self, folder: Path, options: LoadOptions) -> LoadedModel:
        """Read and compile the model of a version's folder. Raises ModelLoadFailed."""

    def describe(self) -> Mapping[str, str]:
        """What `atalaya_info` tells: the engine's version, the processor, the precision chosen for it."""
