"""What kopf calls: the one file that imports it. Each handler keeps what it is told and names the model to look at.

Only low-level events and indices are used, which write nothing: no finalizer, no annotation, no progress in a status.
kopf calls no event handler before the first lists of all indexed kinds are in, so nothing is decided on half a picture.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import kopf

from atalaya_operator.accelerators import amounts_of
from atalaya_operator.crd import PLURAL
from atalaya_operator.device_standing import device_of
from atalaya_operator.kinds import NODES, OWNED, PODS, Kind
from atalaya_operator.names import MODEL_LABEL
from atalaya_operator.observed import ModelKey, Observed, model_key
from atalaya_operator.platform import OPTIONAL_KINDS, Platform
from atalaya_operator.revision import Manifest
from atalaya_operator.work_queue import WorkQueue
from atalaya_spec.inference_model import GROUP, VERSION
from atalaya_spec.server_versions import CPU

Resource = tuple[str, str, str]
_DELETED = "DELETED"
POD_SETTLES_SECONDS = 0.5
"""A pod that starts tells of each step; its model is looked at once for several, or for its Deployment's word."""
DEVICES_SETTLE_SECONDS = 0.5
"""Accelerators come free and go by several at a time."""
_DEFINITIONS = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")


class Surroundings:
    """The platform, with the optional kinds that the cluster has now."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    def learn(self, definition: Manifest, *, is_there: bool) -> None:
        """Take in what a CustomResourceDefinition of an optional kind says."""
        kind = definition["spec"]["names"]["kind"]
        offers = self.platform.offers - {kind} | ({kind} if is_there and _is_served(definition) else set())
        self.platform = dataclasses.replace(self.platform, offers=frozenset(offers))


class Threads(Protocol):
    """What works beside kopf, from its start to its end."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


def registry(
    observed: Observed, queue: WorkQueue[ModelKey], surroundings: Surroundings, threads: Sequence[Threads]
) -> kopf.OperatorRegistry:
    """All handlers."""
    made = kopf.OperatorRegistry()
    objects = object_listener(observed, queue)
    _watch(made, (GROUP, VERSION, PLURAL), objects, is_awaited=False)
    for kind in OWNED:
        _watch(made, _resource(kind), objects, is_awaited=not kind.is_optional)
    _watch(made, _resource(PODS), pod_listener(observed, queue))
    _watch(made, _resource(NODES), node_listener(observed, queue))
    _watch(made, _DEFINITIONS, _definitions(observed, queue, surroundings), when=_concerns_us)

    async def start(**_: Any) -> None:
        for one in threads:
            one.start()

    async def stop(**_: Any) -> None:
        for one in threads:
            one.stop()

    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    kopf.on.login(registry=made)(login)
    kopf.on.startup(registry=made)(start)
    kopf.on.cleanup(registry=made)(stop)
    return made


def settings() -> kopf.OperatorSettings:
    """Nothing is written by kopf, and beside nodes only what carries our label is watched."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.peering.standalone = True
    made.scanning.disabled = False
    made.networking.request_timeout = 60
    for kind in (*OWNED, PODS):
        made.watching.label_selectors[_resource(kind)] = MODEL_LABEL
    return made


def run(registry: kopf.OperatorRegistry, liveness_endpoint: str) -> None:
    """Until the process is told to end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for talkative in ("kopf.objects", "kopf.activities", "aiohttp.access"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    kopf.run(
        registry=registry,
        settings=settings(),
        standalone=True,
        clusterwide=True,
        liveness_endpoint=liveness_endpoint,
    )


@dataclasses.dataclass(frozen=True)
class Listener:
    """What is done with objects of a kind."""

    keep: Callable[[Manifest], object]
    forget: Callable[[Manifest], object]
    look: Callable[[Manifest], None]


def _watch(
    made: kopf.OperatorRegistry, resource: Resource, listener: Listener, *, is_awaited: bool = True, **filters: Any
) -> None:
    """`is_awaited`: nothing is decided before the first list is in. Never for a kind that may go: kopf waits for ever
    for the list of one that went before it came. Its objects are asked for one by one before they are made anyway.
    """

    async def index(body: kopf.Body, **_: Any) -> None:
        listener.keep(dict(body))

    async def event(type: str | None, body: kopf.Body, **_: Any) -> None:
        if type == _DELETED:
            listener.forget(dict(body))
        else:
            listener.keep(dict(body))
        listener.look(dict(body))

    kopf.on.event(*resource, id=f"look-{resource[-1]}", registry=made, **filters)(event)
    if is_awaited:
        kopf.index(*resource, id=f"keep-{resource[-1]}", registry=made, **filters)(index)


def object_listener(observed: Observed, queue: WorkQueue[ModelKey]) -> Listener:
    """A model is looked at whenever one of its objects is told of; others too when it asks for a device no longer."""

    def forget(gone: Manifest) -> None:
        observed.drop(gone)
        if gone["kind"] == "Deployment" and device_of(gone) != CPU:
            devices_changed(observed, queue)

    return Listener(observed.put, forget, lambda found: queue.add(model_key(found)))


def pod_listener(observed: Observed, queue: WorkQueue[ModelKey]) -> Listener:
    """A model is looked at when something happened to a pod, not whenever one is told of."""

    def keep(found: Manifest) -> None:
        if observed.put_pod(found):
            look(found)

    def forget(gone: Manifest) -> None:
        observed.drop_pod(gone)
        look(gone)

    def look(pod: Manifest) -> None:
        queue.add(model_key(pod), POD_SETTLES_SECONDS)
        if amounts_of(pod["spec"]):
            devices_changed(observed, queue)

    return Listener(keep, forget, lambda _: None)


def devices_changed(observed: Observed, queue: WorkQueue[ModelKey]) -> None:
    """Have those looked at whom it concerns which accelerators are free."""
    for key in observed.followers():
        queue.add(key, DEVICES_SETTLE_SECONDS)


def node_listener(observed: Observed, queue: WorkQueue[ModelKey]) -> Listener:
    """A node's heartbeat concerns nobody; what else it tells concerns those who are there, and those who wait."""

    def look(name: str) -> None:
        for key in observed.concerned_by(name):
            queue.add(key)

    def keep(found: Manifest) -> None:
        if observed.put_node(found):
            look(found["metadata"]["name"])

    def forget(gone: Manifest) -> None:
        observed.drop_node(gone)
        look(gone["metadata"]["name"])

    return Listener(keep, forget, lambda _: None)


def _definitions(observed: Observed, queue: WorkQueue[ModelKey], surroundings: Surroundings) -> Listener:
    def look(_: Manifest) -> None:
        for key in observed.models():
            queue.add(key)

    return Listener(
        keep=lambda found: surroundings.learn(found, is_there=True),
        forget=lambda gone: surroundings.learn(gone, is_there=False),
        look=look,
    )


def _concerns_us(body: kopf.Body, **_: Any) -> bool:
    spec = body["spec"]
    return OPTIONAL_KINDS.get(spec["names"]["kind"], "").startswith(f"{spec['group']}/")


def _is_served(definition: Manifest) -> bool:
    wanted = _group_version(OPTIONAL_KINDS[definition["spec"]["names"]["kind"]])[1]
    conditions = (definition.get("status") or {}).get("conditions") or ()
    established = any(one["type"] == "Established" and one["status"] == "True" for one in conditions)
    return established and any(one["name"] == wanted and bool(one["served"]) for one in definition["spec"]["versions"])


def _resource(kind: Kind) -> Resource:
    return (*_group_version(kind.api_version), kind.plural)


def _group_version(api_version: str) -> tuple[str, str]:
    group, slash, version = api_version.partition("/")
    return (group, version) if slash else ("", group)
