"""The models that every server of the suite serves: what they take and give, and ours of OpenVINO's operations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from builders_serving import ELEMENTS, arithmetic, echo, save, scale

WHOLE = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64")
ALONE = {"FP16": "half", "BF16": "brain"}
"""The models of the datatypes that have no typed contents, and of which one is not known everywhere."""
NUMERIC = (*WHOLE, *ALONE)
Tensors = Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Taught:
    """A model as its metadata tells it: datatype and shape of each tensor by its name."""

    name: str
    inputs: Tensors
    outputs: Tensors
    version: int = 1


ROWS = (-1, 4)


def _same(name: str, datatypes: Sequence[str]) -> Taught:
    """Each number unchanged."""
    return Taught(
        name, {f"in_{one}": (one, ROWS) for one in datatypes}, {f"out_{one}": (one, ROWS) for one in datatypes}
    )


MODELS = (
    _same("every", WHOLE),
    *(_same(name, [datatype]) for datatype, name in ALONE.items()),
    Taught("texts", {"x": ("BYTES", ROWS)}, {"x": ("BYTES", ROWS)}),
    Taught("scale", {"x": ("FP32", ROWS)}, {"y": ("FP32", ROWS)}, version=3),
    Taught("spare", {"x": ("FP32", ROWS)}, {"y": ("FP32", ROWS)}),
    Taught(
        "arithmetic",
        dict.fromkeys("ab", ("FP32", (-1, 3))),
        dict.fromkeys(("sum", "difference"), ("FP32", (-1, 3))),
    ),
    Taught("fours", {"x": ("FP32", (-1,))}, {"y": ("FP32", ROWS)}),
)


def models_of(kind: str) -> list[Taught]:
    """Those that a server can serve: MLServer knows no BF16."""
    return [model for model in MODELS if kind != "mlserver" or model.name != "brain"]


def write_ours(root: Path) -> None:
    """All of them, for OpenVINO, into a repository."""
    made = {
        "every": _echo(WHOLE),
        **{name: _echo([datatype]) for datatype, name in ALONE.items()},
        "texts": echo("BYTES"),
        "scale": scale(3.0),
        "spare": scale(3.0),
        "arithmetic": arithmetic(),
        "fours": _fours(),
    }
    for model in MODELS:
        save(made[model.name], root, model.name, model.version)


def _echo(datatypes: Sequence[str]) -> ov.Model:
    given = [ops.parameter([-1, 4], getattr(ov.Type, ELEMENTS[one]), name=f"in_{one}") for one in datatypes]
    same = [ops.reshape(one, ops.constant(np.array([-1, 4])), False) for one in given]
    model = ov.Model([ops.result(one) for one in same], given, "echo")
    for datatype, taken, answered in zip(datatypes, model.inputs, model.outputs, strict=True):
        taken.set_names({f"in_{datatype}"})
        answered.set_names({f"out_{datatype}"})
    return model


def _fours() -> ov.Model:
    """Any count of numbers as rows of four: three numbers pass every check and fail in the engine."""
    given = ops.parameter([-1], np.float32, name="x")
    model = ov.Model([ops.reshape(given, ops.constant(np.array([-1, 4])), False)], [given], "fours")
    model.inputs[0].set_names({"x"})
    model.outputs[0].set_names({"y"})
    return model
