"""The metrics of an `ovms`: its names, labels and buckets, over the books of the versions that serve."""

import math
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from atalaya_serving.dataplane import Dataplane
from atalaya_serving.faces.exposition import Family, merged
from atalaya_serving.served import ServedVersion
from atalaya_serving.stats import Totals

BOUNDS_SECONDS = tuple(math.floor(10 * 1.8**power) / 1e6 for power in range(33))
KSERVE, TFS = "KServe", "TensorFlowServing"
GRPC, REST = "gRPC", "REST"

# The protocols under which the dataplane books inferences.
_INFER = {"grpc": (KSERVE, GRPC, "ModelInfer"), "rest": (KSERVE, REST, "ModelInfer"),
          "tfs-grpc": (TFS, GRPC, "Predict"), "tfs-rest": (TFS, REST, "Predict")}  # fmt: skip
_TELL = {KSERVE: ("ModelMetadata", "ModelReady"), TFS: ("GetModelMetadata", "GetModelStatus")}
WITHOUT_VERSION = ("ModelReady", "GetModelStatus")


@dataclass(frozen=True)
class TellCall:
    """A call that tells of a model; `version` is empty where the original does not label it."""

    api: str
    interface: str
    method: str
    model: str
    version: str = ""


@dataclass
class TellCalls:
    """How often such calls went well and badly. Counted by any thread."""

    succeeded: dict[TellCall, int] = field(default_factory=dict)
    failed: dict[TellCall, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, call: TellCall, *, is_ok: bool) -> None:
        """One call that ended."""
        counted = self.succeeded if is_ok else self.failed
        with self._lock:
            counted[call] = counted.get(call, 0) + 1


class OvmsMetrics:
    """Gathers the families that were asked for."""

    def __init__(self, dataplane: Dataplane, families: Collection[str], apis: Collection[str]) -> None:
        self._dataplane, self._wanted, self._apis = dataplane, families, apis
        self.tells = TellCalls()

    def families(self) -> Iterator[Family]:
        """All that are told now."""
        served = sorted(self._dataplane.repository.served(), key=lambda one: (one.name, one.version))
        rows = [(one, one.stats.snapshot()) for one in served]
        made = (self._requests(rows), self._request_times(rows), self._engine_times(rows), self._gauges(served))
        for families in made:
            yield from (family for family in families if family.name in self._wanted)

    def _requests(self, rows: list[tuple[ServedVersion, Totals]]) -> Iterator[Family]:
        success = Family("ovms_requests_success", "counter", "Number of successful requests to a model or a DAG.")
        fail = Family("ovms_requests_fail", "counter", "Number of failed requests to a model or a DAG.")
        told = set()
        for served, totals in rows:
            for protocol, (api, interface, method) in _INFER.items():
                if api in self._apis:
                    call = TellCall(api, interface, method, served.name, served.version_text)
                    well = totals.requests.get((protocol, "OK"), 0)
                    badly = sum(count for (by, code), count in totals.requests.items() if by == protocol) - well
                    success.add(_labels(call), well)
                    fail.add(_labels(call), badly)
            told |= {self._tell(api, interface, method, served)
                     for api in self._apis for method in _TELL[api] for interface in (GRPC, REST)}  # fmt: skip
        for call in sorted(
            {*told, *self.tells.succeeded, *self.tells.failed}, key=lambda one: tuple(vars(one).values())
        ):
            success.add(_labels(call), self.tells.succeeded.get(call, 0))
            fail.add(_labels(call), self.tells.failed.get(call, 0))
        yield from (success, fail)

    def _tell(self, api: str, interface: str, method: str, served: ServedVersion) -> TellCall:
        return TellCall(api, interface, method, served.name, "" if method in WITHOUT_VERSION else served.version_text)

    def _request_times(self, rows: list[tuple[ServedVersion, Totals]]) -> Iterator[Family]:
        family = Family("ovms_request_time_us", "histogram", "Processing time of requests to a model or a DAG.")
        for served, totals in rows:
            for interface in (REST, GRPC):
                booked = [by for by, (_, one, _) in _INFER.items() if one == interface and by in totals.request_seconds]
                whole = merged([totals.request_seconds[by] for by in booked], BOUNDS_SECONDS)
                family.add_histogram({"interface": interface, **_version(served)}, whole)
        yield family

    def _engine_times(self, rows: list[tuple[ServedVersion, Totals]]) -> Iterator[Family]:
        inference = Family("ovms_inference_time_us", "histogram", "Inference execution time in the OpenVINO backend.")
        waiting = Family(
            "ovms_wait_for_infer_req_time_us", "histogram", "Request waiting time in the scheduling queue."
        )
        for served, totals in rows:
            inference.add_histogram(_version(served), totals.inference_seconds)
            waiting.add_histogram(_version(served), totals.queue_seconds)
        yield from (inference, waiting)

    def _gauges(self, rows: Iterable[ServedVersion]) -> Iterator[Family]:
        streams = Family("ovms_streams", "gauge", "Number of OpenVINO execution streams.")
        current = Family("ovms_current_requests", "gauge", "Number of inference requests currently in process.")
        size = Family("ovms_infer_req_queue_size", "gauge", "Inference request queue size (nireq).")
        active = Family(
            "ovms_infer_req_active", "gauge",
            "Number of currently consumed inference request from the processing queue.",
        )  # fmt: skip
        for served in rows:
            labels, slots, executor = _version(served), len(served.model.slots), served.executor
            streams.add(labels, slots)
            current.add(labels, executor.depth + executor.running)
            size.add(labels, slots)
            active.add(labels, executor.running)
        yield from (streams, current, size, active)


def _version(served: ServedVersion) -> dict[str, str]:
    return {"name": served.name, "version": served.version_text}


def _labels(call: TellCall) -> dict[str, str]:
    told = {"api": call.api, "interface": call.interface, "method": call.method, "name": call.model}
    return told | ({"version": call.version} if call.version else {})
