"""What the fields of an InferenceModel may not say together, and what is worth knowing of what they do say.

A rule sees the valid values by path, so that it can judge what it needs even when other fields are wrong.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from atalaya_spec.names import SCHEMES_WITHOUT_SECRET
from atalaya_spec.problems import Problem, Refused, one_of
from atalaya_spec.server_versions import (
    ATALAYA,
    BACKENDS,
    CPU,
    ENGINES,
    INTEL_NPU,
    TENSORFLOW,
    check_version,
    drives,
    is_driven,
    protocols_of,
)

Given = Mapping[str, Any]
Rule = Callable[[Given], Iterator[Problem]]

_SIGNALS = ("cpu", "concurrency", "latencyP95", "queue")


def contradictions(given: Given) -> list[Problem]:
    """Every problem that more than one field makes."""
    return [problem for rule in _RULES for problem in rule(given)]


def refused_in_a_cluster(given: Given) -> list[Problem]:
    """What only `atalaya up` can do."""
    uri = given.get("spec.model.uri")
    if uri is None or not uri.is_local:
        return []
    step = "put it where pods can read it (s3, gs, az, https, pvc, oci), or check the file with --local"
    return [Problem("spec.model.uri", f"{uri} is a folder of one machine, which only `atalaya up` can serve", step)]


def notes(given: Given) -> list[Problem]:
    """What is allowed and still worth saying."""
    return [problem for rule in _NOTES for problem in rule(given)]


def _versions_are_exactly_one(given: Given) -> Iterator[Problem]:
    path = "spec.model.versions"
    if path not in given:
        return
    named = [key for key in ("latest", "specific", "all") if given[path].get(key) is not None]
    if len(named) > 1:
        yield Problem(path, f"{' and '.join(named)} contradict each other", "keep exactly one of them")
    elif not given[path]:
        yield Problem(path, "no version is named", "write one of latest: 1, specific: [3] or all: {}")


def _backend_is_for_our_engine(given: Given) -> Iterator[Problem]:
    engine = given.get("spec.engine")
    if "spec.backend" in given and engine not in (None, ATALAYA):
        yield Problem(
            "spec.backend", f"engine {engine} has no choice of backend", f"leave it out, or engine: {ATALAYA}"
        )


def _version_is_known(given: Given) -> Iterator[Problem]:
    if "spec.engine" in given and "spec.engineVersion" in given:
        try:
            check_version(given["spec.engine"], given["spec.engineVersion"])
        except Refused as refused:
            yield Problem("spec.engineVersion", refused.fact, refused.next_step)


def _engine_drives_its_devices(given: Given) -> Iterator[Problem]:
    engine, backend = given.get("spec.engine"), given.get("spec.backend")
    devices = {path: value for path, value in given.items() if path.startswith("spec.devices[")}
    if engine is None:
        return
    named = f"engine {engine}" + (f" with backend {backend}" if engine == ATALAYA and backend else "")
    for path, device in devices.items():
        if not is_driven(device, engine, backend):
            step = f"it drives {one_of(drives(engine, backend))}{_who_drives(device)}"
            yield Problem(path, f"{named} cannot compute on {device}", step)


def _who_drives(device: str) -> str:
    pairs = [(e, b) for e in ENGINES for b in (BACKENDS if e == ATALAYA else (None,)) if is_driven(device, e, b)]
    engines = list(dict.fromkeys(engine for engine, _ in pairs))
    return f"; {device} is for engine {one_of(engines)}" if engines else ""


def _batches_have_a_free_shape(given: Given) -> Iterator[Problem]:
    if "spec.batching" in given and INTEL_NPU in given.values():
        yield Problem("spec.batching", "an NPU computes one fixed shape, so no batches are gathered for it",
                      "leave out batching, or the NPU")  # fmt: skip


def _replicas_or_scaling(given: Given) -> Iterator[Problem]:
    spec = given.get("spec", {})  # as written: two fields contradict each other also where one of them is wrong
    if spec.get("replicas") is not None and spec.get("scaling") is not None:
        yield Problem("spec.replicas", "replicas and scaling contradict each other",
                      "leave out replicas, and say scaling.min and scaling.max")  # fmt: skip


def _scaling_has_one_signal(given: Given) -> Iterator[Problem]:
    path = "spec.scaling"
    if path not in given:
        return
    named = [key for key in _SIGNALS if given[path].get(key) is not None]
    if len(named) > 1:
        yield Problem(path, f"{' and '.join(named)} contradict each other", "keep exactly one signal")
    elif not named:
        yield Problem(path, "nothing says what load is", f"add one of {one_of(_SIGNALS)}, such as cpu: 70%")
    least, most = given.get(f"{path}.min", 1), given.get(f"{path}.max")
    if most is not None and least > most:
        yield Problem(f"{path}.min", f"min {least} is more than max {most}", "raise max, or lower min")
    if least == 0 and f"{path}.queue.query" not in given:
        yield Problem(f"{path}.min", "no server measures anything at zero replicas, so nothing would bring one back",
                      "write min: 1, or queue: {length: …, query: …} that counts what waits elsewhere")  # fmt: skip
    if least > 0 and f"{path}.cooldown" in given:
        yield Problem(f"{path}.cooldown", f"it says when the last replica goes, and with min {least} it stays",
                      "write min: 0, or leave cooldown out")  # fmt: skip


def _queue_is_seen(given: Given) -> Iterator[Problem]:
    path = "spec.scaling.queue"
    if path in given and f"{path}.query" not in given and given.get("spec.engine") == TENSORFLOW:
        yield Problem(path, "TensorFlow Serving does not tell how many calls wait",
                      "add query, or scale by concurrency")  # fmt: skip


def _cpu_scaling_has_a_request(given: Given) -> Iterator[Problem]:
    asked = given.get("spec.resources.requests", {}).get("cpu")  # as written: a wrong one is told of by itself
    if "spec.scaling.cpu" in given and asked is None:
        yield Problem("spec.scaling.cpu", "it is a share of the requested cores, and none are requested",
                      "add spec.resources.requests.cpu")  # fmt: skip


def _limits_hold_the_requests(given: Given) -> Iterator[Problem]:
    for resource in ("cpu", "memory"):
        asked = given.get(f"spec.resources.requests.{resource}")
        limit = given.get(f"spec.resources.limits.{resource}")
        if asked and limit and limit.value < asked.value:
            yield Problem(f"spec.resources.limits.{resource}", f"the limit {limit} is less than the request {asked}",
                          "raise the limit, or lower the request")  # fmt: skip


def _secret_has_a_use(given: Given) -> Iterator[Problem]:
    uri = given.get("spec.model.uri")
    if "spec.model.credentialsSecret" in given and uri and uri.scheme in SCHEMES_WITHOUT_SECRET:
        kind = f"{uri.scheme}://" if uri.scheme else "a plain path"
        yield Problem("spec.model.credentialsSecret", f"{kind} needs no credentials", "leave it out")


def _bridge_is_added(given: Given) -> Iterator[Problem]:
    engine = given.get("spec.engine")
    if engine is None:
        return
    version = given.get("spec.engineVersion")
    own = protocols_of(engine, version)
    for protocol in given.get("spec.protocols") or ():
        if protocol not in own:
            fact = f"{engine}{f' {version}' if version else ''} does not speak {protocol} itself"
            yield Problem("spec.protocols", fact, "a bridge container will, at the cost of one more hop")


def _cpu_is_last(given: Given) -> Iterator[Problem]:
    devices = given.get("spec.devices") or ()
    if CPU in devices[:-1]:
        after = one_of(devices[devices.index(CPU) + 1 :])
        yield Problem("spec.devices", f"cpu can always be had, so {after} is used only when nothing schedules there",
                      "write cpu last, unless that is meant")  # fmt: skip


def _patience_needs_a_choice(given: Given) -> Iterator[Problem]:
    for field in ("fallBackAfter", "moveUpAfter"):
        if f"spec.{field}" in given and len(given.get("spec.devices") or (CPU,)) < 2:
            yield Problem(f"spec.{field}", "there is one device, so the model moves nowhere",
                          "name a second one in devices, or leave it out")  # fmt: skip


_NOTES: tuple[Rule, ...] = (_bridge_is_added, _cpu_is_last, _patience_needs_a_choice)
_RULES: tuple[Rule, ...] = (
    _versions_are_exactly_one,
    _backend_is_for_our_engine,
    _version_is_known,
    _engine_drives_its_devices,
    _batches_have_a_free_shape,
    _replicas_or_scaling,
    _scaling_has_one_signal,
    _queue_is_seen,
    _cpu_scaling_has_a_request,
    _limits_hold_the_requests,
    _secret_has_a_use,
)
