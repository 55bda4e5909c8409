"""KServe v2 (binary tensors) and the TensorFlow Serving API (JSON) over REST: a kept connection a caller."""

import base64
import http.client
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from atalaya_serving.benching.calling import Caller, unusable
from atalaya_serving.benching.errors import CallFailed
from atalaya_serving.benching.inputs import InputSpec
from atalaya_serving.datatypes import BF16, BYTES, NUMPY, Tensor
from atalaya_serving.errors import InvalidRequest
from atalaya_serving.rest_convert import HEADER_LENGTH
from atalaya_serving.tensors import from_raw, from_values, to_raw
from atalaya_serving.tfs import messages as tfs
from atalaya_serving.tfs.tensors import datatype_of

_DEFAULT_SIGNATURE = "serving_default"
_BROKEN = (OSError, http.client.HTTPException)


class Http:
    """One kept connection. It is opened anew after a failure."""

    def __init__(self, address: str, timeout_seconds: float) -> None:
        self._address, self._timeout = address, timeout_seconds
        self._connection = http.client.HTTPConnection(address, timeout=timeout_seconds)

    def connect(self) -> None:
        """Connect now, before a clock runs. Raises CallFailed."""
        try:
            self._connection.connect()
        except OSError as error:
            raise CallFailed("lost", f"{self._address} takes no connection ({error}); start it.") from error

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
        """The body of a 2xx answer. Raises CallFailed."""
        try:
            self._connection.request(method, path, body, dict(headers or {}))
            response = self._connection.getresponse()
            status, length, answer = response.status, response.headers.get(HEADER_LENGTH), response.read()
        except _BROKEN as error:
            self.close()
            code = "timeout" if isinstance(error, TimeoutError) else "lost"
            told = f"{self._address} gives no answer to {method} {path} ({type(error).__name__}: {error})."
            raise CallFailed(code, told) from error
        if not 200 <= status < 300:
            said = " ".join(answer.decode(errors="replace").split())[:300]
            raise CallFailed(str(status), f"{self._address} answers {status} to {method} {path}: {said}")
        return _with_length(answer, length)

    def close(self) -> None:
        """Drop the connection."""
        self._connection.close()


def _with_length(answer: bytes, length: str | None) -> bytes:
    """The answer behind the length of its JSON, which travels in a header: a caller gives bytes alone."""
    return (length or "").encode() + b"\n" + answer


class _Rest:
    """A client whose callers each have a connection."""

    def __init__(self, address: str, model: str, version: str, timeout_seconds: float) -> None:
        self._address, self._timeout = address, timeout_seconds
        name = urllib.parse.quote(model, safe="")
        self._path = f"/{self._root}/models/{name}" + (f"/versions/{version}" if version else "")
        self._open: list[Http] = []

    _root = ""

    def _tell(self, path: str) -> Any:
        connection = Http(self._address, self._timeout)
        try:
            return json.loads(connection.ask("GET", path).partition(b"\n")[2])
        except ValueError as error:
            raise CallFailed("200", unusable("200", self._address, error)) from error
        finally:
            connection.close()

    def _http(self) -> Http:
        made = Http(self._address, self._timeout)
        made.connect()
        self._open.append(made)
        return made

    def close(self) -> None:
        """See Client."""
        for one in self._open:
            with suppress(*_BROKEN):
                one.close()
        self._open.clear()


class V2Rest(_Rest):
    """KServe v2 with the binary-tensor extension: JSON, then raw bytes; a request's first line is the JSON's length."""

    _root = "v2"

    def inputs(self) -> list[InputSpec]:
        """See Client."""
        told = self._tell(self._path)
        try:
            found = told.get("inputs") or []
            return [InputSpec(one["name"], one["datatype"], tuple(map(int, one["shape"]))) for one in found]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CallFailed("200", unusable("200", self._address, error)) from error

    def request(self, given: Mapping[str, tuple[str, Tensor]]) -> bytes:
        """See Client."""
        raw = {name: to_raw(datatype, tensor) for name, (datatype, tensor) in given.items()}
        inputs = [
            {"name": name, "datatype": datatype, "shape": list(tensor.shape),
             "parameters": {"binary_data_size": len(raw[name])}}
            for name, (datatype, tensor) in given.items()
        ]  # fmt: skip
        head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
        return b"".join([str(len(head)).encode(), b"\n", head, *raw.values()])

    def outputs(self, answer: bytes) -> Sequence[Tensor]:
        """See Client."""
        length, _, body = answer.partition(b"\n")
        at = int(length) if length else len(body)
        try:
            made = []
            for one in json.loads(body[:at])["outputs"]:
                size = one.get("parameters", {}).get("binary_data_size")
                if size is None:
                    made.append(from_values(one["name"], one["datatype"], one["shape"], one["data"]))
                    continue
                made.append(from_raw(one["name"], one["datatype"], one["shape"], body[at : at + size]))
                at += size
        except (KeyError, TypeError, ValueError, InvalidRequest) as error:
            raise CallFailed("200", unusable("200", self._address, error)) from error
        return made

    def caller(self) -> Caller:
        """See Client."""
        connection, path = self._http(), f"{self._path}/infer"

        def call(request: bytes) -> bytes:
            length, _, body = request.partition(b"\n")
            headers = {HEADER_LENGTH: length.decode(), "Content-Type": "application/octet-stream"}
            return connection.ask("POST", path, body, headers)

        return Caller(call, connection.close)


class TfsRest(_Rest):
    """The TensorFlow Serving API's :predict, in columns (`inputs`); its tensors travel as JSON numbers."""

    _root = "v1"

    def inputs(self) -> list[InputSpec]:
        """See Client."""
        told = self._tell(f"{self._path}/metadata")
        try:
            signatures = told["metadata"]["signature_def"]["signature_def"]
            infos = signatures.get(_DEFAULT_SIGNATURE, {}).get("inputs", {})
            return [InputSpec(name, _datatype(info), _json_sizes(info)) for name, info in sorted(infos.items())]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CallFailed("200", unusable("200", self._address, error)) from error

    def request(self, given: Mapping[str, tuple[str, Tensor]]) -> bytes:
        """See Client."""
        return json.dumps({"inputs": {name: _as_json(*one) for name, one in given.items()}}).encode()

    def outputs(self, answer: bytes) -> Sequence[Tensor]:
        """See Client."""
        try:
            told = json.loads(answer.partition(b"\n")[2])["outputs"]
        except (KeyError, TypeError, ValueError) as error:
            raise CallFailed("200", unusable("200", self._address, error)) from error
        named = sorted(told.items()) if isinstance(told, dict) else [("", told)]
        return [np.asarray(one) for _, one in named]

    def caller(self) -> Caller:
        """See Client."""
        connection, path, headers = self._http(), f"{self._path}:predict", {"Content-Type": "application/json"}
        return Caller(lambda request: connection.ask("POST", path, request, headers), connection.close)


def _datatype(info: Any) -> str:
    number = tfs.DataType.values_by_name[info["dtype"]].number
    return datatype_of(number) or str(info["dtype"])


def _json_sizes(info: Any) -> tuple[int, ...]:
    return tuple(int(one["size"]) for one in info["tensor_shape"].get("dim", []))


def _as_json(datatype: str, tensor: Tensor) -> Any:
    if datatype == BYTES:
        return _encoded(tensor.tolist())
    if datatype == BF16:
        return (tensor.astype(np.uint32) << 16).view(np.float32).tolist()
    return tensor.astype(NUMPY[datatype]).tolist()


def _encoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_encoded(one) for one in value]
    return {"b64": base64.b64encode(value).decode()}
