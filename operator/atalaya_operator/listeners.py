"""What is done with what is told of: kept in the picture of the cluster, and those looked at whom it concerns."""

from collections.abc import Callable
from dataclasses import dataclass

from atalaya_operator.accelerators import amounts_of
from atalaya_operator.device_standing import device_of
from atalaya_operator.observed import ModelKey, Observed, model_key
from atalaya_operator.revision import Manifest
from atalaya_operator.work_queue import WorkQueue
from atalaya_spec.server_versions import CPU

POD_SETTLES_SECONDS = 0.5
"""A pod that starts tells of each step; its model is looked at once for several, or for its Deployment's word."""
DEVICES_SETTLE_SECONDS = 0.5
"""Accelerators come free and go by several at a time."""


@dataclass(frozen=True)
class Listener:
    """What is done with objects of a kind."""

    keep: Callable[[Manifest], object]
    forget: Callable[[Manifest], object]
    look: Callable[[Manifest], None]


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
