"""The tensor datatypes of KServe v2, and what they are in numpy.

BF16 has no numpy type: its raw two bytes travel as uint16. BYTES are strings of any length, each behind its length.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[np.generic]

BYTES = "BYTES"
BF16 = "BF16"
NUMPY: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    BF16: np.dtype(np.uint16),
}


OBJECT = np.dtype(object)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tensor whose values are still as they travelled: strings and typed values, which are slow to read.

    The thread that computes decodes it, so that a large one holds up no other call and an unwanted one costs nothing.
    `nbytes` is what it holds in memory; `decode` raises InvalidRequest where the values do not fit `shape`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    nbytes: int
    decode: Callable[[], Tensor]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)


def dtype_of(datatype: str) -> np.dtype[np.generic]:
    """What a datatype is in numpy; BYTES are objects."""
    return NUMPY.get(datatype, OBJECT)


def is_known(datatype: str) -> bool:
    """Whether the standard knows `datatype`."""
    return datatype == BYTES or datatype in NUMPY
