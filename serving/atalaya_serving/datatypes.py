"""The tensor datatypes of KServe v2, and what they are in numpy.

BF16 has no numpy type: its raw two bytes travel as uint16. BYTES are strings of any length, each behind its length.
"""

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


def is_known(datatype: str) -> bool:
    """Whether the standard knows `datatype`."""
    return datatype == BYTES or datatype in NUMPY
