"""KServe v2 REST bodies to and from the dataplane's types, with the binary-tensor extension. Pure.

A body is JSON; with the header Inference-Header-Content-Length, that many bytes of JSON and then the raw bytes of each
input whose parameters give binary_data_size, in order. Responses likewise.
"""

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atalaya_serving import json_text
from atalaya_serving.dataplane import InferReply, InferRequest, InputTensor
from atalaya_serving.datatypes import BF16, BYTES, Tensor
from atalaya_serving.errors import InferenceFailed, InvalidRequest, NotSupported, RequestTooLarge
from atalaya_serving.tensors import from_raw, from_values, to_raw

HEADER_LENGTH = "Inference-Header-Content-Length"
_MOST_MEMBERS = 1000  # of a gzip body; the usual number is 1


@dataclass(frozen=True)
class RestInfer:
    """A request and how its outputs shall travel: the names of the binary ones, or all that are not named JSON."""

    request: InferRequest
    timeout_seconds: float
    binary_default: bool
    binary: Mapping[str, bool]


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo Content-Encoding gzip or deflate, never past `limit` bytes."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise InvalidRequest(f"Content-Encoding {encoding!r} is not known here; send gzip, deflate or none.")
    parts: list[bytes] = []
    size, rest = 0, body
    while rest or not parts:  # gzip may come in several members, one after the other
        unpack = zlib.decompressobj(wbits=31 if encoding == "gzip" else 15)
        try:
            parts.append(unpack.decompress(rest, limit - size + 1))
        except zlib.error as error:
            raise InvalidRequest(f"the body is no {encoding} data: {error}.") from error
        size += len(parts[-1])
        if size > limit:
            raise RequestTooLarge(
                f"the body unpacks to more than {limit} bytes; send less, or raise --max_message_bytes."
            )
        if not unpack.eof:
            raise InvalidRequest(f"the {encoding} body is cut short; send all of it.")
        rest = unpack.unused_data
        if rest and (encoding != "gzip" or len(parts) == _MOST_MEMBERS):
            raise InvalidRequest(f"{len(rest)} bytes follow the {encoding} data; send nothing after it.")
    return b"".join(parts)


def compressed(body: bytes, encoding: str) -> bytes:
    """Apply Content-Encoding gzip or deflate."""
    pack = zlib.compressobj(level=1, wbits=31 if encoding == "gzip" else 15)
    return pack.compress(body) + pack.flush()


def accepted_encoding(accepted: str) -> str:
    """The encoding to answer in: only one that a client names alone, for browsers and curl list gzip for any page."""
    names = [part.partition(";") for part in accepted.lower().split(",")]
    name, parameters = names[0][0].strip(), names[0][2].replace(" ", "")
    is_refused = re.fullmatch(r"q=0(\.0*)?", parameters) is not None
    return name if len(names) == 1 and name in ("gzip", "deflate") and not is_refused else ""


def whole_number(text: str) -> int | None:
    """A header's count of bytes; None for what is none, or is beyond any."""
    return int(text) if text.isdecimal() and len(text) <= 19 else None


def json_object(body: bytes) -> dict[str, Any]:
    """A body's JSON object. Raises InvalidRequest."""
    try:
        raw = json_text.read(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is no JSON: {error}.") from error
    if not isinstance(raw, dict):
        raise InvalidRequest("the body is no JSON object.")
    return raw


def parse_infer(model: str, version: str, body: bytes, header_length: str | None) -> RestInfer:
    """Read an inference body. Raises InvalidRequest or NotSupported."""
    try:
        return _parsed(model, version, body, header_length)
    except RecursionError as error:  # a document that can be read and not be told
        raise InvalidRequest("the body has lists or objects that are nested too deeply.") from error


def _parsed(model: str, version: str, body: bytes, header_length: str | None) -> RestInfer:
    head, binary = _split(body, header_length)
    raw = json_object(head)
    inputs = raw.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise InvalidRequest("the body has no inputs; give a list of {name, datatype, shape, data}.")
    outputs = _list(raw, "outputs")
    parameters = _mapping(raw, "parameters", "the request")
    tensors, at = [], 0
    for given in inputs:
        tensor, at = _input(given, binary, at)
        tensors.append(tensor)
    if at != len(binary):
        raise InvalidRequest(f"{len(binary) - at} bytes follow the last binary input; correct binary_data_size.")
    identity = raw.get("id", "")
    if not isinstance(identity, str):
        raise InvalidRequest("id is not a string.")
    names = [_output_name(output) for output in outputs]
    request = InferRequest(model, version, tensors, names, identity, protocol="rest")
    wishes = {name: _is_binary(output) for name, output in zip(names, outputs, strict=True)}
    return RestInfer(
        request,
        _timeout_seconds(parameters),
        parameters.get("binary_data_output") is True,
        {name: wish for name, wish in wishes.items() if wish is not None},
    )


def response_body(reply: InferReply, asked: RestInfer) -> tuple[bytes, int | None]:
    """The body and, where binary outputs follow, the length of its JSON. Raises InferenceFailed for NaN in JSON."""
    served = reply.served
    assert served is not None
    outputs, parts = [], []
    for spec, tensor in zip(reply.outputs, reply.tensors, strict=True):
        told: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype, "shape": list(tensor.shape)}
        if asked.binary.get(spec.name, asked.binary_default):
            part = to_raw(spec.datatype, tensor)
            told["parameters"] = {"binary_data_size": len(part)}
            parts.append(part)
        else:
            told["data"] = _values(spec.name, spec.datatype, tensor)
        outputs.append(told)
    answer: dict[str, Any] = {"model_name": served.name, "model_version": served.version_text, "outputs": outputs}
    if asked.request.id:
        answer["id"] = asked.request.id
    head = json_text.write(answer)
    return b"".join([head, *parts]), len(head) if parts else None


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    length = whole_number(header_length)
    if length is None or length > len(body):
        raise InvalidRequest(f"{HEADER_LENGTH} is {header_length[:40]!r}; the body has {len(body)} bytes.")
    if length == 0:
        raise NotSupported("a body of raw bytes without JSON is not taken here; send the JSON with name and shape.")
    return body[:length], memoryview(body)[length:]


def _input(given: Any, binary: memoryview, at: int) -> tuple[InputTensor, int]:
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise InvalidRequest("an input has no name; give {name, datatype, shape, data}.")
    name, datatype, shape = given["name"], given.get("datatype"), given.get("shape")
    if not isinstance(datatype, str):
        raise InvalidRequest(f"input {name!r} has no datatype.")
    if not isinstance(shape, list) or not all(isinstance(size, int) and not isinstance(size, bool) for size in shape):
        raise InvalidRequest(f"input {name!r} has no shape; give a list of integers.")
    parameters = _mapping(given, "parameters", f"input {name!r}")
    if "shared_memory_region" in parameters:
        raise NotSupported(f"input {name!r} lies in shared memory, which this server does not map; send its bytes.")
    size = parameters.get("binary_data_size")
    if size is None:
        return InputTensor(name, datatype, from_values(name, datatype, shape, _flat(name, given.get("data")))), at
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or at + size > len(binary):
        raise InvalidRequest(f"input {name!r} has binary_data_size {size!r}; {len(binary) - at} bytes are left.")
    return InputTensor(name, datatype, from_raw(name, datatype, shape, binary[at : at + size])), at + size


def _flat(name: str, data: Any) -> Sequence[object]:
    """Nested lists are allowed and mean their elements in order."""
    if not isinstance(data, list):
        raise InvalidRequest(f"input {name!r} has no data; give a list, or binary_data_size.")
    flat: list[object] = data
    while flat and isinstance(flat[0], list):
        if not all(isinstance(part, list) for part in flat):
            raise InvalidRequest(f"input {name!r} has data nested to different depths.")
        flat = [item for part in flat if isinstance(part, list) for item in part]
    return flat


def _values(name: str, datatype: str, tensor: Tensor) -> Any:
    if datatype == BF16:
        raise InvalidRequest(f"output {name!r} is BF16, which JSON does not carry; ask for binary_data.")
    if datatype != BYTES:
        if not json_text.is_finite(tensor):
            raise InferenceFailed("the answer has NaN or infinity, which JSON cannot carry; ask for binary_data.")
        return json_text.numbers(tensor.ravel())
    try:
        return [item.decode() for item in tensor.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"output {name!r} is not UTF-8, which JSON needs; ask for binary_data.") from error


def _output_name(output: Any) -> str:
    if not isinstance(output, dict) or not isinstance(output.get("name"), str):
        raise InvalidRequest("an output has no name; give {name}.")
    parameters = _mapping(output, "parameters", f"output {output['name']!r}")
    for key, reason in (("classification", "take the raw output"), ("shared_memory_region", "take its bytes")):
        if key in parameters:
            raise NotSupported(f"output {output['name']!r} asks for {key}, which this server does not do; {reason}.")
    return str(output["name"])


def _is_binary(output: Mapping[str, Any]) -> bool | None:
    wish = _mapping(output, "parameters", "an output").get("binary_data")
    return wish if isinstance(wish, bool) else None


def _timeout_seconds(parameters: Mapping[str, Any]) -> float:
    """Triton's request parameter `timeout` (microseconds), in seconds; infinite when it is not given, or 0."""
    given = parameters.get("timeout", 0)
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not -(2**63) <= given < 2**63:
        raise InvalidRequest("the parameter timeout is no number of microseconds below 2^63; correct it.")
    return given / 1e6 if given > 0 else math.inf


def _mapping(raw: Mapping[str, Any], key: str, what: str) -> Mapping[str, Any]:
    value = raw.get(key)
    if value is not None and not isinstance(value, dict):
        raise InvalidRequest(f"{key} of {what} is no JSON object.")
    return value or {}


def _list(raw: Mapping[str, Any], key: str) -> list[Any]:
    value = raw.get(key)
    if value is not None and not isinstance(value, list):
        raise InvalidRequest(f"{key} is no list.")
    return value or []
