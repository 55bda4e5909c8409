"""What the tests ask with: tensors for both of tritonclient's kits, and how a call ended in a word."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import grpc
import httpx
import ml_dtypes
import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from conformance.models import ALONE, WHOLE

Array = np.ndarray[Any, Any]
T = TypeVar("T")
SAME, OTHER = "the same", "other values"
_DTYPES: dict[str, Any] = {"BOOL": "?", "FP16": "f2", "FP32": "f4", "FP64": "f8", "BF16": ml_dtypes.bfloat16}


def sample(datatype: str, rows: int = 2) -> Array:
    """Values that survive OpenVINO's CPU plugin, which computes 64-bit types in 32 bits."""
    random = np.random.default_rng(7)
    dtype = np.dtype(_DTYPES.get(datatype, datatype.lower()))
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        return random.integers(max(limits.min, -(2**20)), min(limits.max, 2**20), (rows, 4), dtype, endpoint=True)
    if dtype.kind == "b":
        return random.random((rows, 4)) > 0.5
    return random.standard_normal((rows, 4)).astype("f2").astype(dtype)


def in_grpc(name: str, tensor: Array, datatype: str = "") -> triton_grpc.InferInput:
    """An input for tritonclient.grpc."""
    made = triton_grpc.InferInput(name, list(tensor.shape), datatype or np_to_triton_dtype(tensor.dtype))
    made.set_data_from_numpy(tensor)
    return made


def in_http(name: str, tensor: Array, datatype: str = "", *, binary: bool = True) -> triton_http.InferInput:
    """An input for tritonclient.http."""
    made = triton_http.InferInput(name, list(tensor.shape), datatype or np_to_triton_dtype(tensor.dtype))
    made.set_data_from_numpy(tensor, binary_data=binary)
    return made


def whole_request(datatype: str, rows: int = 2) -> tuple[str, dict[str, Array]]:
    """The model that takes this datatype, and a tensor for each of its inputs."""
    model = ALONE.get(datatype, "every")
    return model, {f"in_{one}": sample(one, rows) for one in (WHOLE if model == "every" else [datatype])}


def ended(call: Callable[[], T], is_right: Callable[[T], bool] = lambda _: True) -> str:
    """`the same` where the answer is right; how it is not, or the status of its refusal."""
    try:
        answer = call()
    except InferenceServerException as error:
        return str(error.status()).removeprefix("StatusCode.")
    except grpc.RpcError as error:
        return str(error.code().name)
    return SAME if is_right(answer) else OTHER


def has(name: str, wanted: Array) -> Callable[[Any], bool]:
    """Whether the result of either kit holds this tensor, bit for bit."""

    def is_right(result: Any) -> bool:
        found = result.as_numpy(name)
        return found is not None and found.shape == wanted.shape and _bits(found) == _bits(wanted)

    return is_right


def _bits(tensor: Array) -> object:
    if tensor.dtype.kind == "O":
        return [item.encode() if isinstance(item, str) else item for item in tensor.ravel().tolist()]
    return tensor.dtype, tensor.tobytes()


def http_end(answer: httpx.Response) -> str:
    """The status, and whether the body of a refusal says why as KServe v2 wants it."""
    if answer.status_code == 200:
        return "200"
    try:
        told = answer.json()
    except ValueError:
        told = None
    has_error = isinstance(told, dict) and isinstance(told.get("error"), str)
    return str(answer.status_code) if has_error else f"{answer.status_code} without `error`"


def one_input(outputs: Sequence[dict[str, Any]] = (), **changes: Any) -> dict[str, Any]:
    """The body of a call of `scale`, with changes to its one input; None leaves a field out."""
    given = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]} | changes
    body: dict[str, Any] = {"inputs": [{key: value for key, value in given.items() if value is not None}]}
    return body | ({"outputs": list(outputs)} if outputs else {})
