"""The OpenVINO engine of the server: infer requests with preset input tensors, run by `start_async` and `wait`.

Each input has one tensor a shape, set on the infer request once; a payload is copied into it. That takes a third of
the caller's time of passing arrays in. A few shapes are kept, up to a bound of bytes. Where rows are independent, a
large batch runs in parts that stay in the processor's cache, in the size that was measured to be the fastest when the
model was loaded.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import openvino as ov

from atalaya_serving.datatypes import BYTES, NUMPY, Tensor
from atalaya_serving.engines.base import DEFAULT_SIGNATURE, LoadOptions, Signature, Slot, TensorSpec
from atalaya_serving.engines.openvino import (
    best_precision,
    compile_read,
    one_line,
    processor_name,
    properties,
    read_model,
)
from atalaya_serving.engines.openvino_strings import StringPort
from atalaya_serving.errors import InferenceFailed, ModelLoadFailed

_DATATYPES = {
    "boolean": "BOOL", "u8": "UINT8", "u16": "UINT16", "u32": "UINT32", "u64": "UINT64",
    "i8": "INT8", "i16": "INT16", "i32": "INT32", "i64": "INT64",
    "f16": "FP16", "bf16": "BF16", "f32": "FP32", "f64": "FP64", "string": BYTES,
}  # fmt: skip
_PART_SIZES = (1, 2, 4, 8, 16)
_TENSORS_KEPT = 8
_BYTES_KEPT = 32 << 20
"""Of input tensors, a slot."""


class OpenVinoEngine:
    """Loads what OpenVINO reads."""

    def load(self, folder: Path, options: LoadOptions) -> "OpenVinoModel":
        """Read, reshape where asked, and compile. Raises ModelLoadFailed."""
        model = read_model(folder)
        _reshape(model, options, folder)
        chosen = properties(options.device, options.hint, options.precision, None, options.properties)
        if options.slots:
            chosen.setdefault("PERFORMANCE_HINT_NUM_REQUESTS", str(options.slots))
        return OpenVinoModel(compile_read(model, options.device, chosen, folder), options)

    def describe(self) -> Mapping[str, str]:
        """OpenVINO's version, the processor, and the precision chosen for it."""
        return {
            "openvino": ov.__version__.partition("-")[0],
            "processor": processor_name(),
            "precision": best_precision(),
        }


class OpenVinoModel:
    """A compiled model and its slots."""

    platform = "OpenVINO"

    def __init__(self, compiled: ov.CompiledModel, options: LoadOptions) -> None:
        self.inputs = tuple(_spec(port, f"input_{i}") for i, port in enumerate(compiled.inputs))
        self.outputs = tuple(_spec(port, f"output_{i}") for i, port in enumerate(compiled.outputs))
        self.signatures = {DEFAULT_SIGNATURE: Signature(self.inputs, self.outputs)}
        self.precision = _property(compiled, "INFERENCE_PRECISION_HINT", "unknown")
        count = options.slots or int(_property(compiled, "OPTIMAL_NUMBER_OF_INFER_REQUESTS", "1"))
        made = [OpenVinoSlot(compiled.create_infer_request(), self.inputs, self.outputs) for _ in range(count)]
        self.slots: Sequence[Slot] = made
        if options.rows_are_independent and _has_free_batch([*self.inputs, *self.outputs]):
            try:
                part = _fastest_part(made[0], self.inputs)
            except InferenceFailed:  # the graph takes other batches than those tried
                part = 0
            for slot in made:
                slot.part_rows = part


class OpenVinoSlot:
    """One infer request. `part_rows` is the most rows run at once; 0 runs every batch whole."""

    def __init__(self, request: ov.InferRequest, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self.part_rows = 0
        self._request = request
        self._inputs = inputs
        self._datatypes = [spec.datatype for spec in outputs]
        self._kept: list[dict[tuple[int, ...], tuple[ov.Tensor, Tensor]]] = [{} for _ in inputs]
        self._views: list[Tensor | None] = [None] * len(inputs)
        self._strings_in, self._strings_out = _string_ports(inputs), _string_ports(outputs)
        self._passing: set[int] = set()
        """Inputs whose tensor is too large to keep: it goes when the run is over."""

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[int], signature: str = "") -> list[Tensor]:  # noqa: ARG002
        """See Slot.run; the answers are views until the next run. There is one signature only."""
        rows = inputs[0].shape[0] if inputs[0].ndim else 0
        try:
            if 0 < self.part_rows < rows:
                return self._run_in_parts(inputs, outputs, rows)
            return self._run_whole(inputs, outputs)
        except (RuntimeError, OverflowError) as error:
            raise InferenceFailed(f"OpenVINO failed on this request: {one_line(error)}.") from error
        finally:
            if self._passing:
                self._let_go()

    def _run_whole(self, inputs: Sequence[Tensor], outputs: Sequence[int]) -> list[Tensor]:
        for index, given in enumerate(inputs):
            view = self._views[index]
            if view is None or view.shape != given.shape:
                view = self._preset(index, given)
            if view is not None:
                np.copyto(view, given)
        self._request.start_async()
        self._request.wait()
        return [self._answer(index) for index in outputs]

    def _run_in_parts(self, inputs: Sequence[Tensor], outputs: Sequence[int], rows: int) -> list[Tensor]:
        gathered: list[Tensor] = []
        for start in range(0, rows, self.part_rows):
            stop = min(start + self.part_rows, rows)
            answers = self._run_whole([given[start:stop] for given in inputs], outputs)
            if not gathered:
                gathered = [np.empty((rows, *answer.shape[1:]), answer.dtype) for answer in answers]
            for whole, answer in zip(gathered, answers, strict=True):
                whole[start:stop] = answer
        return gathered

    def _preset(self, index: int, given: Tensor) -> Tensor | None:
        """Set the input tensor of this shape on the request, and give its memory; strings have none: None."""
        spec, kept = self._inputs[index], self._kept[index]
        if spec.datatype == BYTES:
            self._request.set_input_tensor(index, self._strings_in[index].tensor(given))
            self._note_size(index, sum(map(len, given.ravel().tolist())))
            return None
        if given.shape in kept:
            tensor, view = kept[given.shape]
        else:
            tensor = ov.Tensor(getattr(ov.Type, _ELEMENT_TYPES[spec.datatype]), list(given.shape))
            view = tensor.data.view(NUMPY[spec.datatype])
            if self._note_size(index, tensor.byte_size):
                self._make_room(tensor.byte_size)
                kept[given.shape] = (tensor, view)
        self._request.set_input_tensor(index, tensor)
        self._views[index] = view
        return view

    def _note_size(self, index: int, size: int) -> bool:
        """Whether a tensor may be kept. Where nothing but one size fits the input, it may, whatever the size."""
        if size > _BYTES_KEPT and -1 in self._inputs[index].shape:
            self._passing.add(index)
        return index not in self._passing

    def _make_room(self, size: int) -> None:
        """Forget tensors, the oldest of the input with the most shapes first, until one of `size` bytes fits."""
        while any(self._kept) and (
            max(map(len, self._kept)) >= _TENSORS_KEPT or self._kept_bytes() + size > _BYTES_KEPT
        ):
            fullest = max(self._kept, key=len)
            del fullest[next(iter(fullest))]

    def _kept_bytes(self) -> int:
        return sum(tensor.byte_size for kept in self._kept for tensor, _ in kept.values())

    def _let_go(self) -> None:
        """Put the smallest possible tensor in the place of each that is too large to keep."""
        for index in self._passing:
            spec = self._inputs[index]
            shape = [low if size == -1 else size for size, (low, _) in zip(spec.shape, spec.bounds, strict=True)]
            self._request.set_input_tensor(index, ov.Tensor(getattr(ov.Type, _ELEMENT_TYPES[spec.datatype]), shape))
            self._views[index] = None
        for port in (*self._strings_in.values(), *self._strings_out.values()):
            port.forget()
        self._passing.clear()

    def _answer(self, index: int) -> Tensor:
        tensor, datatype = self._request.get_output_tensor(index), self._datatypes[index]
        if datatype == BYTES:
            return self._strings_out[index].values(tensor)
        data: Tensor = tensor.data
        return data.view(NUMPY["BF16"]) if datatype == "BF16" else data


_ELEMENT_TYPES = {datatype: element for element, datatype in _DATATYPES.items()}


def _string_ports(specs: Sequence[TensorSpec]) -> dict[int, StringPort]:
    return {index: StringPort(len(spec.shape)) for index, spec in enumerate(specs) if spec.datatype == BYTES}


def _spec(port: ov.ConstOutput, fallback: str) -> TensorSpec:
    element = port.element_type.get_type_name()
    names = frozenset(port.names)
    name = port.any_name if names else fallback
    if element not in _DATATYPES:
        raise ModelLoadFailed(f"tensor {name!r} is {element}, which KServe v2 cannot carry; convert it in the model.")
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        raise ModelLoadFailed(
            f"tensor {name!r} has no fixed rank, which KServe v2 cannot tell; give it one with --shape."
        )
    bounds = tuple((int(dim.min_length), int(dim.max_length)) for dim in shape)
    sizes = tuple(-1 if dim.is_dynamic else int(dim.get_length()) for dim in shape)
    return TensorSpec(name, _DATATYPES[element], sizes, bounds, names)


def _reshape(model: ov.Model, options: LoadOptions, folder: Path) -> None:
    try:
        if options.shapes:
            only = options.shapes.get("")
            model.reshape(list(only) if only is not None else {name: list(to) for name, to in options.shapes.items()})
        if options.batch_size:
            shapes = {port: port.partial_shape for port in model.inputs}
            for shape in shapes.values():
                shape[0] = options.batch_size
            model.reshape(shapes)
    except RuntimeError as error:
        raise ModelLoadFailed(
            f"{folder} cannot take the shape asked for: {one_line(error)}; correct --shape."
        ) from error


def _property(compiled: ov.CompiledModel, name: str, fallback: str) -> str:
    try:
        value = compiled.get_property(name)
    except RuntimeError:
        return fallback
    return value.get_type_name() if isinstance(value, ov.Type) else str(value)


def _has_free_batch(specs: Sequence[TensorSpec]) -> bool:
    return all(spec.shape[:1] == (-1,) and spec.bounds[0][1] == -1 and spec.datatype != BYTES for spec in specs)


def _fastest_part(slot: OpenVinoSlot, inputs: Sequence[TensorSpec], repeats: int = 3) -> int:
    """The rows a part with the least time a row, the best of a few runs; 0 when the largest tried is the best."""
    if any(-1 in spec.shape[1:] for spec in inputs):
        return 0
    best, best_seconds = 0, float("inf")
    for rows in reversed(_PART_SIZES):
        batch = [np.zeros((rows, *spec.shape[1:]), NUMPY[spec.datatype]) for spec in inputs]
        seconds = min(_seconds(slot, batch) for _ in range(repeats * (_PART_SIZES[-1] // rows))) / rows
        if seconds < 0.97 * best_seconds:
            best, best_seconds = rows, seconds
    return best if best < _PART_SIZES[-1] else 0


def _seconds(slot: OpenVinoSlot, batch: Sequence[Tensor]) -> float:
    start = time.perf_counter()
    slot.run(batch, [0])
    return time.perf_counter() - start
