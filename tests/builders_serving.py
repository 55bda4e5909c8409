"""Builders for tests of the serving runtime: tiny models, a fake engine, a running server."""

import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from atalaya_serving.datatypes import Tensor
from atalaya_serving.engines.base import DEFAULT_SIGNATURE, Engine, LoadOptions, Signature, Slot, TensorSpec
from atalaya_serving.engines.openvino_slots import OpenVinoEngine
from atalaya_serving.errors import ModelLoadFailed
from atalaya_serving.server import Server
from atalaya_serving.settings import Settings

ELEMENTS = {
    "BOOL": "boolean", "UINT8": "u8", "UINT16": "u16", "UINT32": "u32", "UINT64": "u64", "INT8": "i8", "INT16": "i16",
    "INT32": "i32", "INT64": "i64", "FP16": "f16", "FP32": "f32", "FP64": "f64", "BF16": "bf16", "BYTES": "string",
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def echo(datatype: str = "FP32", width: int = 4) -> ov.Model:
    """y = x, with a free batch; for strings the output is x too, since no operation stands between."""
    given = ops.parameter([-1, width], getattr(ov.Type, ELEMENTS[datatype]), name="x")
    answer = given if datatype == "BYTES" else ops.reshape(given, ops.constant(np.array([-1, width])), False)
    model = ov.Model([ops.result(answer)], [given], "echo")
    model.inputs[0].set_names({"x"})
    if datatype != "BYTES":
        model.outputs[0].set_names({"y"})
    return model


def arithmetic() -> ov.Model:
    """sum = a + b, difference = a - b over [-1, 3]."""
    a, b = (ops.parameter([-1, 3], np.float32, name=name) for name in "ab")
    model = ov.Model([ops.add(a, b), ops.subtract(a, b)], [a, b], "arithmetic")
    for port, name in zip(model.inputs, "ab", strict=True):
        port.set_names({name})
    for port, name in zip(model.outputs, ("sum", "difference"), strict=True):
        port.set_names({name})
    return model


def scale(factor: float, shape: Sequence[int] = (-1, 4)) -> ov.Model:
    """y = factor * x."""
    given = ops.parameter(list(shape), np.float32, name="x")
    model = ov.Model([ops.multiply(given, ops.constant(np.float32(factor)))], [given], "scale")
    model.inputs[0].set_names({"x"})
    model.outputs[0].set_names({"y"})
    return model


def save(model: ov.Model, root: Path, name: str, version: int = 1) -> Path:
    """Write a version into a repository; give its folder."""
    folder = root / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return folder


class FakeSlot:
    """y = version * x after `engine.seconds`; counts what it computed."""

    def __init__(self, engine: "FakeEngine", version: int) -> None:
        self._engine, self._version = engine, version

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[int], signature: str = "") -> list[Tensor]:
        engine = self._engine
        with engine.lock:
            engine.computed.append(float(inputs[0].ravel()[0]) if inputs[0].size else 0.0)
        if engine.seconds:
            time.sleep(engine.seconds)
        engine.gate.wait(30)
        if engine.breaks:
            raise RuntimeError("the fake engine breaks")
        return [inputs[0] * self._version for _ in outputs]


@dataclass
class FakeModel:
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    slots: Sequence[Slot]
    platform: str = "fake"
    precision: str = "f32"

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return {DEFAULT_SIGNATURE: Signature(self.inputs, self.outputs)}


@dataclass
class FakeEngine:
    """Loads a folder that holds `model.xml`; one whose text is "broken" fails. A closed `gate` holds inferences."""

    seconds: float = 0.0
    slot_count: int = 2
    breaks: bool = False
    computed: list[float] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def load(self, folder: Path, options: LoadOptions) -> FakeModel:
        file = folder / "model.xml"
        self.loads.append(folder.name)
        if not file.is_file():
            raise ModelLoadFailed(f"{folder} holds no model.")
        if file.read_text() == "broken":
            raise ModelLoadFailed(f"{file} is broken.")
        if file.read_text() == "odd":
            raise RuntimeError("nobody thought of this")
        x = TensorSpec("x", "FP32", (-1, 4), ((0, -1), (4, 4)))
        slots = [FakeSlot(self, int(folder.name)) for _ in range(self.slot_count)]
        return FakeModel([x], [replace(x, name="y")], slots)

    def describe(self) -> Mapping[str, str]:
        return {"openvino": "none", "processor": "none", "precision": "f32"}


def fake_version(root: Path, name: str, version: int, text: str = "fine") -> Path:
    """A version that FakeEngine loads."""
    folder = root / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.xml").write_text(text)
    return folder


@contextmanager
def running(root: Path, engine: Engine | None = None, *, fast: bool = True, **changes: object) -> Iterator[Server]:
    """A server over the repository `root`, in this process, on free ports."""
    settings = Settings(model_repository=root, grpc_port=free_port(), rest_port=free_port(), drain_seconds=10)
    server = Server(replace(settings, **changes), engine or OpenVinoEngine(), fast=fast)  # type: ignore[arg-type]
    server.start()
    try:
        yield server
    finally:
        server.stop()
