"""What is sent: tensors for any model, by its server's own metadata or by what the user says. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from atalaya_serving.benching.errors import InvalidPlan
from atalaya_serving.datatypes import BF16, BYTES, NUMPY, Tensor, is_known

_WORD = b"atalaya"
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class InputSpec:
    """One input as metadata tells it; -1 is any size, and the first dimension is the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def parse_input(text: str) -> InputSpec:
    """NAME:DATATYPE:DIMS, as tiles:FP32:-1,128,128,1. Raises InvalidPlan."""
    parts = text.rsplit(":", 2)
    if len(parts) != 3 or not parts[0]:
        raise InvalidPlan(f"--input {text!r} is not NAME:DATATYPE:DIMS; write it as tiles:FP32:-1,128,128,1.")
    name, datatype, rest = parts
    if not is_known(datatype):
        raise InvalidPlan(f"--input {text!r} has datatype {datatype!r}; KServe v2 knows {', '.join((*NUMPY, BYTES))}.")
    try:
        shape = tuple(int(size) for size in rest.split(",") if size)
    except ValueError:
        raise InvalidPlan(f"--input {text!r} has dimensions that are no numbers; write them as -1,128,128,1.") from None
    if any(size < -1 or size == 0 for size in shape):
        raise InvalidPlan(f"--input {text!r} has a dimension below 1; -1 is any size.")
    return InputSpec(name, datatype, shape)


def settled(told: Sequence[InputSpec], given: Sequence[InputSpec], model: str) -> list[InputSpec]:
    """The server's inputs, with those that the user gave in their place. Raises InvalidPlan for what stays open."""
    if not told and not given:
        raise InvalidPlan(
            f"the server does not tell the inputs of {model!r}; give each with --input NAME:DATATYPE:DIMS."
        )
    by_name = {one.name: one for one in given}
    if told and (strange := sorted(set(by_name) - {one.name for one in told})):
        names = ", ".join(one.name for one in told)
        raise InvalidPlan(f"model {model!r} has no input {strange[0]!r}; it has {names}.")
    found = [by_name.get(one.name, one) for one in told] if told else list(given)
    for one in found:
        if -1 in one.shape[1:]:
            raise InvalidPlan(
                f"input {one.name!r} of {model!r} is {list(one.shape)}, open in more than its batch; give its size:"
                f" --input {one.name}:{one.datatype}:{','.join(str(size) for size in one.shape)}, with numbers for -1."
            )
        if not is_known(one.datatype):
            raise InvalidPlan(f"input {one.name!r} of {model!r} is {one.datatype}, which we cannot make up.")
    return found


def tensors(specs: Sequence[InputSpec], batch: int, model: str, seed: int = 0) -> dict[str, tuple[str, Tensor]]:
    """Seeded values for one request, datatype and tensor by name. Raises InvalidPlan where `batch` cannot be."""
    random = np.random.default_rng(seed)
    return {one.name: (one.datatype, _values(random, with_batch(one, batch, model))) for one in specs}


def with_batch(spec: InputSpec, batch: int, model: str) -> InputSpec:
    """The input with its batch put in. Raises InvalidPlan where the model fixes another."""
    shape = spec.shape
    if not shape and batch == 1:
        return spec
    if not shape or shape[0] not in (-1, batch):
        raise InvalidPlan(
            f"model {model!r} takes {spec.name!r} as {list(shape)}, not in batches of {batch}; leave --batch at"
            f" {shape[0] if shape else 1}."
        )
    made = replace(spec, shape=(batch, *shape[1:]))
    itemsize = 8 if spec.datatype == BYTES else NUMPY[spec.datatype].itemsize
    if np.prod(made.shape, dtype=float) * itemsize > MOST_BYTES:
        raise InvalidPlan(f"{spec.name!r} in batches of {batch} is more than 1 GiB a request; take a smaller --batch.")
    return made


def _values(random: np.random.Generator, spec: InputSpec) -> Tensor:
    if spec.datatype == BYTES:
        return np.full(spec.shape, _WORD, object)
    dtype = NUMPY[spec.datatype]
    if spec.datatype == BF16:
        return (random.random(spec.shape, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if dtype.kind == "f":
        return random.random(spec.shape).astype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, spec.shape).astype(dtype)
    highest = min(255, int(np.iinfo(dtype).max))  # type: ignore[type-var]
    return random.integers(0, highest + 1, spec.shape).astype(dtype)


def from_tiles(spec: InputSpec, tiles: Tensor, model: str) -> list[Tensor]:
    """Each tile of [n, size, size, 1] as a batch of one in the model's datatype. Raises InvalidPlan where none fits."""
    wanted, given = spec.shape[1:], tiles.shape[1:]
    if len(spec.shape) != 4 or any(size not in (-1, own) for size, own in zip(wanted, given, strict=True)):
        raise InvalidPlan(
            f"model {model!r} takes {spec.name!r} as {list(spec.shape)}, the tiles are {list(given)}; give a model of"
            " such tiles, or tiles cut to its size."
        )
    if spec.datatype not in ("UINT8", "FP32"):
        raise InvalidPlan(f"model {model!r} takes {spec.datatype}, not pixels as UINT8 or FP32; give another model.")
    return [tile[None].astype(NUMPY[spec.datatype]) for tile in tiles]
