"""`python -m atalaya_operator`: the controller's process. Reads its surroundings once, and puts the parts together."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from prometheus_client import start_http_server

from atalaya_operator import handlers
from atalaya_operator.allocation import Allocation
from atalaya_operator.cluster_client import ClusterClient
from atalaya_operator.controller import Controller
from atalaya_operator.defined_kind import DefinedKind
from atalaya_operator.first_picture import Watch, take_in
from atalaya_operator.foreign_pods import ForeignPods
from atalaya_operator.kinds import DEFINED, DEFINITIONS, MODELS, NODES, OWNED, PODS
from atalaya_operator.listeners import Listener, devices_changed, node_listener, object_listener, pod_listener
from atalaya_operator.observed import ModelKey, Observed
from atalaya_operator.platform import Platform
from atalaya_operator.resync import Resync
from atalaya_operator.surroundings import Surroundings, concerns_us, definition_listener
from atalaya_operator.webhook.service import webhooks
from atalaya_operator.work_queue import WorkQueue
from atalaya_operator.workers import Workers
from atalaya_spec.errors import AtalayaError, UsageError


@dataclass(frozen=True)
class Config:
    """What the process is told of itself; what it is told of the cluster is the Platform."""

    workers: int = 4
    metrics_port: int = 8081
    health_port: int = 8080

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Raises UsageError."""
        return cls(
            workers=_number(environment, "ATALAYA_OPERATOR_WORKERS", cls.workers),
            metrics_port=_number(environment, "ATALAYA_OPERATOR_METRICS_PORT", cls.metrics_port),
            health_port=_number(environment, "ATALAYA_OPERATOR_HEALTH_PORT", cls.health_port),
        )


def run(environment: Mapping[str, str]) -> None:
    """Work until told to end. Raises AtalayaError."""
    config = Config.from_environment(environment)
    surroundings = Surroundings(Platform.from_environment(environment))
    client = ClusterClient.connect(config.workers + len(DEFINED))
    observed, queue = Observed(), WorkQueue[ModelKey]()
    foreign = ForeignPods(client, lambda: devices_changed(observed, queue))
    allocation = Allocation(observed, foreign.holders)
    controller = Controller(client, observed, lambda: surroundings.platform, allocation=allocation)
    workers = Workers(queue, controller.reconcile, config.workers)
    start_http_server(config.metrics_port)
    resync = Resync(client, observed, queue.add, MODELS)
    admission = webhooks(environment, client, lambda: surroundings.platform)
    defined = [DefinedKind(client, kind, object_listener(observed, queue), observed) for kind in DEFINED]
    threads: tuple[handlers.Threads, ...] = (workers, resync, foreign, *defined, *admission)
    watches = _watches(observed, queue, definition_listener(observed, queue, surroundings, defined))
    known_first = [*watches, *(Watch(kind, object_listener(observed, queue)) for kind in OWNED if kind.is_optional)]
    registry = handlers.registry(watches, lambda: take_in(client, known_first), threads)
    handlers.run(registry, handlers.settings(watches), f"http://0.0.0.0:{config.health_port}/healthz")


def _watches(observed: Observed, queue: WorkQueue[ModelKey], definitions: Listener) -> list[Watch]:
    """What every cluster has, and kopf can therefore follow."""
    objects = object_listener(observed, queue)
    return [
        Watch(DEFINITIONS, definitions, is_of_models=False, concerns=concerns_us),
        Watch(NODES, node_listener(observed, queue), is_of_models=False),
        *(Watch(kind, objects) for kind in OWNED if not kind.is_optional),
        Watch(PODS, pod_listener(observed, queue)),
    ]


def main() -> int:
    """The exit code."""
    try:
        run(os.environ)
    except AtalayaError as error:
        sys.stderr.write(f"atalaya operator: error: {error}\n")
        return error.exit_code
    return 0


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise UsageError(f"{name} is {text!r}; write a whole number from 1.")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
