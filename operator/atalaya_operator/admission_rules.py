"""What fields of an InferenceModel may not say together, in CEL: the twin of `atalaya_spec.rules` in the API server.

By the path of the field that holds all that a rule needs. What CEL cannot see (other objects, the cluster) is not here.
"""

from collections.abc import Mapping, Sequence

from atalaya_spec.field_schemas import Schema, rule
from atalaya_spec.names import MAX_NAME_LENGTH, RESERVED_ENDING
from atalaya_spec.problems import one_of
from atalaya_spec.server_versions import (
    ATALAYA,
    BACKENDS,
    DEVICES,
    ENGINES,
    INTEL_NPU,
    NVIDIA,
    NVIDIA_MIG_PREFIX,
    TENSORFLOW,
    drives,
    is_driven,
    known_versions,
    whole,
)

_SIGNALS = ("cpu", "concurrency", "latencyP95", "queue")
_POLICIES = ("latest", "specific", "all")


def rules_at(path: str) -> list[Schema]:
    """The rules on the field at `path`; the object itself is at the empty path."""
    return list(_RULES.get(path, ()))


def _exactly_one(keys: Sequence[str]) -> str:
    return f"[{', '.join(f'has(self.{key})' for key in keys)}].exists_one(one, one)"


def _version_rules() -> list[Schema]:
    rules = []
    for engine in ENGINES:
        if known := known_versions(engine):
            minors = dict.fromkeys("[.]".join(version.split(".")[:2]) for version in known)
            pattern = f"^({'|'.join(minors)})([.][0-9]+)?$"
            cel = f"self.engine != '{engine}' || !has(self.engineVersion) || self.engineVersion.matches('{pattern}')"
            told = f"it is not a version of {engine} that is known here; write one from {known[0]} to {known[-1]}"
            rules.append(rule(cel, told) | {"fieldPath": ".engineVersion"})
    return rules


def _device_rules() -> list[Schema]:
    pairs = [(engine, backend) for engine in ENGINES for backend in (BACKENDS if engine == ATALAYA else (None,))]
    return [_device_rule(engine, backend) for engine, backend in pairs]


def _device_rule(engine: str, backend: str | None) -> Schema:
    driven = drives(engine, backend)
    # What is no device has a rule of its own.
    others = [device for device in DEVICES if not is_driven(device, engine, backend)]
    fits = f"!(d in [{', '.join(map(repr, others))}])"
    if NVIDIA not in driven:
        fits += f" && !d.startsWith('{NVIDIA_MIG_PREFIX}')"
    applies = f"self.engine == '{engine}'"
    if backend == TENSORFLOW:
        applies += " && has(self.backend) && self.backend == 'tensorflow'"
    elif backend:
        applies += " && !(has(self.backend) && self.backend == 'tensorflow')"
    named = engine if not backend else f"{engine} with backend {backend}"
    told = f"engine {named} cannot compute on one of the devices; it drives {one_of(driven)}{_who_drives(others)}"
    return rule(f"!({applies}) || !has(self.devices) || self.devices.all(d, {fits})", told) | {"fieldPath": ".devices"}


def _who_drives(devices: Sequence[str]) -> str:
    """The engine for each of the other devices, by their whole."""
    told = []
    for device in dict.fromkeys(map(whole, devices)):
        pairs = [(one, backend) for one in ENGINES for backend in (BACKENDS if one == ATALAYA else (None,))]
        engines = dict.fromkeys(one for one, backend in pairs if is_driven(device, one, backend))
        told.append(f"; {device} is for engine {one_of(list(engines))}")
    return "".join(told)


def _limit_rule(resource: str) -> Schema:
    there = " && ".join(f"has(self.{part}) && has(self.{part}.{resource})" for part in ("limits", "requests"))
    less = f"quantity(string(self.limits.{resource})).isLessThan(quantity(string(self.requests.{resource})))"
    told = f"the limit of {resource} is less than the request; raise the limit, or lower the request"
    return rule(f"!({there} && {less})", told) | {"fieldPath": ".limits"}


_NAME_RULES = (
    rule(
        f"self.metadata.name.size() <= {MAX_NAME_LENGTH}",
        f"the name is too long; use at most {MAX_NAME_LENGTH} characters, because each revision adds a digest to it",
    ),
    rule(
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "the name is not one that a Service may have; write lower-case letters, digits and '-', and a letter first",
    ),
    rule(
        f"!self.metadata.name.matches('{RESERVED_ENDING}$')",
        "the name ends as an object of another model does; choose another name",
    ),
)
_SPEC_RULES = (
    rule("!has(self.backend) || self.engine == 'atalaya'",
         "only engine atalaya has a choice of backend; leave it out, or engine: atalaya") | {"fieldPath": ".backend"},
    *_version_rules(),
    *_device_rules(),
    rule("!(has(self.replicas) && has(self.scaling))",
         "replicas and scaling contradict each other; leave out replicas, and say scaling.min and scaling.max")
    | {"fieldPath": ".replicas"},
    rule("!(has(self.scaling) && has(self.scaling.cpu)) || (has(self.resources) && has(self.resources.requests) && "
         "has(self.resources.requests.cpu))",
         "cpu is a share of the requested cores, and none are requested; add spec.resources.requests.cpu")
    | {"fieldPath": ".scaling"},
    rule("!(self.engine == 'tensorflow' && has(self.scaling) && has(self.scaling.queue)) || "
         "has(self.scaling.queue.query)",
         "TensorFlow Serving does not tell how many calls wait; add queue.query, or scale by concurrency")
    | {"fieldPath": ".scaling"},
    rule(f"!has(self.batching) || !has(self.devices) || !('{INTEL_NPU}' in self.devices)",
         "an NPU computes one fixed shape, so no batches are gathered for it; leave out batching, or the NPU")
    | {"fieldPath": ".batching"},
)  # fmt: skip
_SCALING_RULES = (
    rule(_exactly_one(_SIGNALS), f"exactly one signal says what load is; write one of {one_of(_SIGNALS)}"),
    rule("!has(self.min) || self.min <= self.max", "min is more than max; raise max, or lower min"),
    rule(
        "!has(self.min) || self.min > 0 || (has(self.queue) && has(self.queue.query))",
        "no server measures anything at zero replicas, so nothing would bring one back; write min: 1, or "
        "queue: {length: …, query: …} that counts what waits elsewhere",
    ),
    rule(
        "!has(self.cooldown) || (has(self.min) && self.min == 0)",
        "cooldown says when the last replica goes, and above min 0 it stays; write min: 0, or leave cooldown out",
    ),
)
_RULES: Mapping[str, Sequence[Schema]] = {
    "": _NAME_RULES,
    "spec": _SPEC_RULES,
    "spec.scaling": _SCALING_RULES,
    "spec.resources": (_limit_rule("cpu"), _limit_rule("memory")),
    "spec.model": (
        rule("!has(self.credentialsSecret) || !self.uri.startsWith('pvc://')",
             "pvc:// needs no credentials; leave it out") | {"fieldPath": ".credentialsSecret"},
    ),
    "spec.model.versions": (
        rule(_exactly_one(_POLICIES), "exactly one says which versions serve; write one of latest: 1, specific: [3] "
             "or all: {}"),
    ),
}  # fmt: skip
