"""What is asked of the upstream about several models is asked at the same time: a slow answer holds up no other."""

import threading
from typing import Any, cast

from grpc_health.v1 import health_pb2

from atalaya_serving.bridge.remote import RemoteDataplane, RemoteModels
from atalaya_serving.bridge.services import BridgeHealth
from atalaya_serving.bridge.watch import Watch
from atalaya_serving.errors import ServerUnreachable

STATES = health_pb2.HealthCheckResponse


class Together:
    """Answers for a model only once all of `names` are asked for."""

    def __init__(self, *names: str) -> None:
        self._all = threading.Barrier(len(names), timeout=20)
        self._names = names

    def is_server_ready(self, seconds: float) -> bool:
        return True

    def is_model_ready(self, name: str, version: str) -> bool:
        assert name in self._names
        self._all.wait()
        if name == "lost":
            raise ServerUnreachable("nobody answers.")
        return name != "failed"


def models(*names: str) -> RemoteModels:
    return cast(RemoteModels, Together(*names))


def test_models_that_must_serve_are_asked_for_at_the_same_time() -> None:
    watch = Watch(models("a", "b", "c"), ("a", "b", "c"), 60)
    watch.look()
    assert watch.is_ready


def test_a_model_that_does_not_serve_makes_the_bridge_not_ready() -> None:
    for names in (("a", "failed"), ("a", "lost")):
        watch = Watch(models(*names), names, 60)
        watch.look()
        assert not watch.is_ready


def test_watched_models_are_asked_for_at_the_same_time() -> None:
    class Plane:
        is_draining = False

        def is_ready(self) -> bool:
            return True

    plane: Any = Plane()
    health = BridgeHealth(cast(RemoteDataplane, plane), models("a", "failed", "lost"))
    told = health._statuses(["a", "failed", "", "lost"])
    assert told == {"a": STATES.SERVING, "failed": STATES.NOT_SERVING, "": STATES.SERVING, "lost": STATES.NOT_SERVING}
