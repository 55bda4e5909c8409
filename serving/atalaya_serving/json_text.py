"""Reading and writing JSON that carries tensors: orjson, and the standard library where orjson gives no answer.

What orjson refuses is read again by the standard library, which knows NaN and Infinity, and whose words for what is no
JSON are the ones that callers get. The one difference that shows: whole numbers beyond 64 bits are floats, as they are
to RapidJSON, in which TensorFlow Serving and Triton read them.
"""

import json
from typing import Any

import numpy as np
import orjson

from atalaya_serving.datatypes import Tensor

_WRITABLE = frozenset("?bBhHiIlLqQefd")


def read(body: bytes) -> Any:
    """The document. Raises ValueError or RecursionError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _read_slowly(body)


def _read_slowly(body: bytes) -> Any:
    found = json.loads(body.decode())
    if b"\\u" in body:
        json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    return found


def numbers(tensor: Tensor) -> Any:
    """What `write` takes for a tensor of numbers; float32 becomes the shortest decimals that mean the same float32."""
    if not tensor.ndim or tensor.dtype.char not in _WRITABLE:
        return _listed(tensor)
    return np.ascontiguousarray(tensor)


def is_finite(tensor: Tensor) -> bool:
    """Whether JSON proper can carry the numbers."""
    return tensor.dtype.kind != "f" or bool(np.isfinite(tensor).all())


def write(document: Any, *, all_finite: bool = True) -> bytes:
    """The document; where its numbers are not `all_finite` with NaN and Infinity, as RapidJSON writes them."""
    if all_finite:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(document, default=_listed, ensure_ascii=False).encode()


def short_floats(tensor: Tensor) -> Any:
    """float32 as the shortest decimals that mean the same float32: 0.2, not 0.20000000298023224."""
    return tensor.astype(np.float32).astype("U32").astype(np.float64).tolist()


def _listed(tensor: Any) -> Any:
    return short_floats(tensor) if tensor.dtype.char in "ef" else tensor.tolist()
