"""What is asked of the upstream about several models is asked at the same time: a slow answer holds up no other."""

import subprocess
import sys
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


def test_a_watch_that_meets_a_silent_upstream_at_its_start_ends_without_it() -> None:
    asked, may_answer = threading.Event(), threading.Event()

    class Silent:
        def is_server_ready(self, seconds: float) -> bool:
            asked.set()
            return may_answer.wait(60)

    watch = Watch(cast(RemoteModels, Silent()), (), 60)
    loading = threading.Thread(target=watch.start)
    loading.start()
    assert asked.wait(60)
    watch.stop()
    may_answer.set()
    loading.join(60)
    watch._thread.join(60)
    assert not watch._thread.is_alive()


def test_a_watch_that_meets_a_silent_upstream_later_is_not_waited_for() -> None:
    looks: list[int] = []
    again, may_answer = threading.Event(), threading.Event()

    class SilentLater:
        def is_server_ready(self, seconds: float) -> bool:
            looks.append(1)
            if len(looks) > 1:
                again.set()
                may_answer.wait(60)
            return True

    watch = Watch(cast(RemoteModels, SilentLater()), (), 0.01)
    watch.start()
    assert again.wait(60)
    assert not watch.stop()
    may_answer.set()
    watch._thread.join(60)
    assert watch.stop()


def test_an_interpreter_that_ends_while_an_upstream_is_slow_to_tell_a_watch_says_nothing() -> None:
    program = """
import concurrent.futures.thread as pools, threading, time
from types import SimpleNamespace
from atalaya_serving.grpc_health import Health

begun, calls_end = threading.Event(), []

class Slow(Health):
    def _statuses(self, services):
        begun.set()
        while not pools._shutdown:
            time.sleep(0.001)
        return dict.fromkeys(services, 2)

health = Slow(SimpleNamespace(is_draining=False, is_ready=lambda: True))
context = SimpleNamespace(add_callback=lambda end: calls_end.append(end) or True)
health.Watch(SimpleNamespace(service=""), context, lambda answer: None)
begun.wait()
calls_end[0]()
threading.Thread(target=health._looker.join, args=(60,)).start()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
