"""What kopf calls: the one file that imports it. Each handler keeps what it is told and names the model to look at.

Only low-level events are used, which write nothing: no finalizer, no annotation, no progress in a status. kopf watches
nothing before its start is through, and that takes in all there is, so nothing is decided on half a picture. Models are
followed by a thread of ours (DefinedKind), which begins at the first event of their definition.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import kopf

from atalaya_operator.errors import ObjectRefused, TryAgain
from atalaya_operator.first_picture import Watch
from atalaya_operator.following import DELETED
from atalaya_operator.kinds import Kind

Resource = tuple[str, str, str]
AGAIN_SECONDS = 2.0


class Threads(Protocol):
    """What works beside kopf, from its start to its end."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


def registry(
    watches: Sequence[Watch], take_in: Callable[[], None], threads: Sequence[Threads]
) -> kopf.OperatorRegistry:
    """All handlers. `take_in` is tried until it raises nothing, then the threads begin, then the watches."""
    made = kopf.OperatorRegistry()
    for one in watches:
        _watch(made, one)

    async def start(**_: Any) -> None:
        try:
            await asyncio.to_thread(take_in)
        except (TryAgain, ObjectRefused) as error:
            raise kopf.TemporaryError(f"What there is is listed again: {error}", delay=AGAIN_SECONDS) from error
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


def settings(watches: Sequence[Watch]) -> kopf.OperatorSettings:
    """Nothing is written by kopf, and of most kinds only what carries our label is watched."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.peering.standalone = True
    made.scanning.disabled = False
    made.networking.request_timeout = 60
    for one in watches:
        if "labelSelector" in one.selection:
            made.watching.label_selectors[_resource(one.kind)] = one.selection["labelSelector"]
    return made


def run(registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings, liveness_endpoint: str) -> None:
    """Until the process is told to end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for talkative in ("kopf.objects", "kopf.activities", "aiohttp.access"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    kopf.run(
        registry=registry,
        settings=settings,
        standalone=True,
        clusterwide=True,
        liveness_endpoint=liveness_endpoint,
    )


def _watch(made: kopf.OperatorRegistry, watch: Watch) -> None:
    """Never of a kind that may come and go: kopf may miss that it came."""
    listener = watch.listener

    async def event(type: str | None, body: kopf.Body, **_: Any) -> None:
        if type == DELETED:
            listener.forget(dict(body))
        else:
            listener.keep(dict(body))
        listener.look(dict(body))

    def concerns(body: kopf.Body, **_: Any) -> bool:
        return watch.concerns(body)

    resource = _resource(watch.kind)
    kopf.on.event(*resource, id=f"look-{watch.kind.plural}", registry=made, when=concerns)(event)


def _resource(kind: Kind) -> Resource:
    return kind.group, kind.version, kind.plural
