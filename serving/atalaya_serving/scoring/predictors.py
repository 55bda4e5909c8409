"""Asks a model, several batches at a time: in this process through OpenVINO, or a server over KServe v2.

A predictor lends slots: fixed arrays that are filled with tiles and started; answers come through one queue. In this
process each slot is an infer request whose input tensor is its array, set once, so a start costs almost nothing.
"""

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from atalaya_serving.client import RemoteModel
from atalaya_serving.errors import (
    DeadlineExpired,
    InvalidRequest,
    ModelNotFound,
    ModelNotReady,
    QueueFull,
    ServedVersionChanged,
    ServerUnreachable,
    ServingError,
)
from atalaya_spec.errors import InvalidManifest
from atalaya_spec.manifest import Manifest

Tiles = npt.NDArray[np.uint8]
_BACKOFF_SECONDS = (0.05, 2.0)


@dataclass(frozen=True)
class Engine:
    """Who answers, as the rows keep it."""

    name: str
    version: str
    precision: str
    protocol: str


@dataclass(frozen=True)
class Answer:
    """What came of one slot. `token` is what it was started with; `seconds` is from start to answer."""

    token: Any
    probability: npt.NDArray[np.float64]
    seconds: float
    error: Exception | None = None


class Slot(Protocol):
    """An array to fill, `[batch, h, w, c]`, and a start for its first `count` tiles."""

    tiles: Tiles

    def start(self, count: int, token: object) -> None:
        """Begin; the answer comes through the predictor's queue, and the slot is free again then."""
        ...


class Predictor(Protocol):
    """Lends slots and hands out answers."""

    engine: Engine
    free: "queue.Queue[Slot]"
    answers: "queue.SimpleQueue[Answer]"

    def verify(self) -> None:
        """Raise when another version answers than at the start; asked before rows are kept, so none of it ever is."""
        ...

    def close(self) -> None:
        """Wait for what runs, and let go."""
        ...


class _LocalSlot:
    def __init__(self, owner: "LocalPredictor", request: Any, shape: tuple[int, ...]) -> None:
        import openvino as ov

        self.tiles: Tiles = np.zeros(shape, np.uint8)
        self._owner, self._request = owner, request
        request.set_input_tensor(ov.Tensor(self.tiles, shared_memory=True))
        request.set_callback(self._answered, None)
        self._count, self._token, self._started = 0, object(), 0.0

    def start(self, count: int, token: object) -> None:
        self._count, self._token, self._started = count, token, time.perf_counter()
        self._request.start_async()

    def _answered(self, _: object) -> None:
        seconds = time.perf_counter() - self._started
        # A copy: the slot is lent again while its answer still waits to be written.
        probability = self._request.get_output_tensor().data.reshape(-1)[: self._count].astype(np.float64)
        self._owner.answers.put(Answer(self._token, probability, seconds))
        self._owner.free.put(self)


class LocalPredictor:
    """The model in this process. Compiled for one batch size, which OpenVINO runs faster than a free one."""

    def __init__(self, version_folder: Path, manifest: Manifest, batch: int, threads: int | None = None) -> None:
        import openvino as ov

        from atalaya_serving.engines.openvino import compile_read, properties, read_model

        model = read_model(version_folder)
        refuse_contradiction(model, manifest, version_folder)
        height, width, channels = manifest.input.shape[1:]
        model.reshape([batch, height, width, channels])
        chosen = properties("CPU", "THROUGHPUT", "auto", threads)
        compiled = compile_read(model, "CPU", chosen, version_folder)
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.engine = Engine("openvino", ov.__version__.partition("-")[0], precision, "in-process")
        self.free: queue.Queue[Slot] = queue.Queue()
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        # One more than runs at once: the next batch waits ready while the feeder is busy.
        self._requests = [
            compiled.create_infer_request()
            for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + 2)
        ]
        for request in self._requests:
            self.free.put(_LocalSlot(self, request, (batch, height, width, channels)))

    def verify(self) -> None:
        """A compiled model does not change."""

    def close(self) -> None:
        """Wait for the batches that run."""
        for request in self._requests:
            request.wait()


def refuse_contradiction(model: Any, manifest: Manifest, where: Path) -> None:
    """Raise InvalidManifest when the model's tensors are not those that its manifest names."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InvalidManifest(
            f"{where} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; a map needs one of each."
        )
    for port, told in ((model.inputs[0], manifest.input), (model.outputs[0], manifest.output)):
        shape = tuple(-1 if side.is_dynamic else side.get_length() for side in port.get_partial_shape())
        if told.name not in port.get_names():
            names = ", ".join(sorted(port.get_names())) or "unnamed"
            raise InvalidManifest(f"{where}: the manifest names {told.name!r}, the model has {names}; correct one.")
        if shape[1:] != tuple(told.shape[1:]):
            raise InvalidManifest(
                f"{where}: the manifest gives {told.name!r} the shape {list(told.shape)}, the model has {list(shape)}; "
                "correct one."
            )
    kind = model.inputs[0].get_element_type().to_dtype().name
    if kind != manifest.input.dtype:
        raise InvalidManifest(
            f"{where}: the manifest gives {manifest.input.dtype}, the model takes {kind}; correct one."
        )


class _RemoteSlot:
    def __init__(self, shape: tuple[int, ...], begin: Any) -> None:
        self.tiles: Tiles = np.zeros(shape, np.uint8)
        self._begin = begin

    def start(self, count: int, token: object) -> None:
        self._begin(self, count, token)


@dataclass(frozen=True)
class Endpoint:
    """A server's address and how it is called."""

    address: str
    model: str
    version: int | None = None
    in_flight: int = 4
    patience_seconds: float = 60.0
    """How long one batch waits for a server that is full or gone."""


class RemotePredictor:
    """A model behind a KServe v2 server. A full or restarting server is waited for; a changed version ends the work."""

    def __init__(self, endpoint: Endpoint, manifest: Manifest, batch: int) -> None:
        self._endpoint, self._digest = endpoint, manifest.digest
        self._remote = self._connect()
        _refuse_other_input(self._remote, manifest, endpoint)
        self.engine = Engine("kserve-v2", "", "", "grpc")
        self.free: queue.Queue[Slot] = queue.Queue()
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._threads = ThreadPoolExecutor(endpoint.in_flight, "remote")
        for _ in range(endpoint.in_flight):
            self.free.put(_RemoteSlot((batch, *manifest.input.shape[1:]), self._begin))

    def verify(self) -> None:
        """Ask the server again which files of which version it serves; one that restarts is waited for."""
        deadline = time.monotonic() + self._endpoint.patience_seconds
        while True:
            try:
                with self._connect() as again:
                    return self._refuse_change(again)
            except ModelNotFound as error:
                raise self._gone(error) from error
            except (ServerUnreachable, ModelNotReady):
                if time.monotonic() > deadline or self._stopped.wait(_BACKOFF_SECONDS[0]):
                    raise

    def close(self) -> None:
        """End the calls that wait."""
        self._stopped.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._remote.close()

    def _connect(self) -> RemoteModel:
        endpoint = self._endpoint
        return RemoteModel(endpoint.address, endpoint.model, endpoint.version, max_in_flight=endpoint.in_flight)

    def _begin(self, slot: _RemoteSlot, count: int, token: object) -> None:
        self._threads.submit(partial(self._run, slot, count, token))

    def _run(self, slot: _RemoteSlot, count: int, token: object) -> None:
        start = time.perf_counter()
        try:
            output = self._patiently(slot.tiles[:count])
            probability = np.asarray(output, np.float64).reshape(-1)
            if len(probability) != count:
                raise InvalidRequest(f"{self._endpoint.address} gave {len(probability)} answers for {count} tiles.")
            self.answers.put(Answer(token, probability, time.perf_counter() - start))
        except ServingError as error:
            self.answers.put(Answer(token, np.empty(0), 0.0, error))
        self.free.put(slot)

    def _patiently(self, tiles: Tiles) -> npt.NDArray[Any]:
        pause, longest = _BACKOFF_SECONDS
        deadline = time.monotonic() + self._endpoint.patience_seconds
        while True:
            try:
                return np.asarray(self._remote.predict(tiles))
            except ModelNotFound as error:
                raise self._gone(error) from error
            except (QueueFull, ServerUnreachable, ModelNotReady, DeadlineExpired):
                if time.monotonic() + pause > deadline or self._stopped.wait(pause):
                    raise
                pause = min(2 * pause, longest)

    def _gone(self, error: Exception) -> ServedVersionChanged:
        return ServedVersionChanged(
            f"{self._endpoint.address} no longer serves version {self._remote.version} of {self._endpoint.model!r} "
            f"({error}); start again to use the one it serves now."
        )

    def _refuse_change(self, again: RemoteModel) -> None:
        before = self._remote
        if (again.version, again.digest) != (before.version, before.digest):
            raise ServedVersionChanged(
                f"{self._endpoint.address} now serves version {again.version} of {self._endpoint.model!r} from other "
                f"files than the work began with (version {before.version}); start it again."
            )


def _refuse_other_input(remote: RemoteModel, manifest: Manifest, endpoint: Endpoint) -> None:
    if tuple(remote.input_shape[1:]) != tuple(manifest.input.shape[1:]) or remote.input_datatype != "UINT8":
        raise InvalidManifest(
            f"{endpoint.model!r} at {endpoint.address} takes {remote.input_datatype} {list(remote.input_shape)}, the "
            f"manifest says {manifest.input.dtype} {list(manifest.input.shape)}; give the manifest of what is served."
        )
