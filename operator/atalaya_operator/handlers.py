"""What kopf calls: the one file that imports it. Each handler keeps what it is told and names the model to look at.

Only low-level events and indices are used, which write nothing: no finalizer, no annotation, no progress in a status.
kopf calls no event handler before the first lists of all these kinds are in, so nothing is decided on half a picture:
models are followed by a thread of ours (DefinedKind), which begins at such an event, that of their definition.
"""

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import kopf

from atalaya_operator.following import DELETED
from atalaya_operator.kinds import NODES, OWNED, PODS, Kind
from atalaya_operator.listeners import Listener, node_listener, object_listener, pod_listener
from atalaya_operator.names import MODEL_LABEL
from atalaya_operator.observed import ModelKey, Observed
from atalaya_operator.surroundings import concerns_us
from atalaya_operator.work_queue import WorkQueue

Resource = tuple[str, str, str]
_DEFINITIONS = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
_OWNED = tuple(kind for kind in OWNED if not kind.is_optional)
"""Every cluster has them from its start."""


class Threads(Protocol):
    """What works beside kopf, from its start to its end."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


def registry(
    observed: Observed, queue: WorkQueue[ModelKey], definitions: Listener, threads: Sequence[Threads]
) -> kopf.OperatorRegistry:
    """All handlers."""
    made = kopf.OperatorRegistry()
    objects = object_listener(observed, queue)
    for kind in _OWNED:
        _watch(made, _resource(kind), objects)
    _watch(made, _resource(PODS), pod_listener(observed, queue))
    _watch(made, _resource(NODES), node_listener(observed, queue))
    _watch(made, _DEFINITIONS, definitions, when=_concerns_us)

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
    for kind in (*_OWNED, PODS):
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


def _watch(made: kopf.OperatorRegistry, resource: Resource, listener: Listener, **filters: Any) -> None:
    """Never for a kind that may come and go: kopf may miss that it came, and waits for ever for the first list of one
    that went before.
    """

    async def index(body: kopf.Body, **_: Any) -> None:
        listener.keep(dict(body))

    async def event(type: str | None, body: kopf.Body, **_: Any) -> None:
        if type == DELETED:
            listener.forget(dict(body))
        else:
            listener.keep(dict(body))
        listener.look(dict(body))

    kopf.on.event(*resource, id=f"look-{resource[-1]}", registry=made, **filters)(event)
    kopf.index(*resource, id=f"keep-{resource[-1]}", registry=made, **filters)(index)


def _concerns_us(body: kopf.Body, **_: Any) -> bool:
    return concerns_us(body)


def _resource(kind: Kind) -> Resource:
    return kind.group, kind.version, kind.plural
