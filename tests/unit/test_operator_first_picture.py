"""What there is at the start is taken in whole, before anything is decided, and kept in little room."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from atalaya_operator.errors import TryAgain
from atalaya_operator.essence import object_essence
from atalaya_operator.first_picture import Watch, take_in
from atalaya_operator.kinds import NODES, OWNED, PODS, Kind
from atalaya_operator.listeners import node_listener, object_listener, pod_listener
from atalaya_operator.names import FIELD_MANAGER, MODEL_LABEL
from atalaya_operator.observed import ModelKey, ObjectKey, Observed
from atalaya_operator.ownership import our_fields
from atalaya_operator.work_queue import WorkQueue

Manifest = dict[str, Any]
SERVICES = next(kind for kind in OWNED if kind.name == "Service")


def item(name: str, **told: Any) -> Manifest:
    """As a list has it: without its kind."""
    metadata = {"name": name, "namespace": "n", "uid": name, "resourceVersion": "1", "labels": {MODEL_LABEL: "m"}}
    return {"metadata": metadata, "spec": {}, "status": {}, **told}


class Lists:
    """Answers lists, a page an object."""

    def __init__(self, **items: list[Manifest]) -> None:
        self.items, self.asked = items, dict[str, Mapping[str, str]]()

    def pages(self, kind: Kind, selection: Mapping[str, str]) -> Iterator[Manifest]:
        self.asked[kind.name] = selection
        if kind.name not in self.items:
            raise TryAgain(f"{kind.name}: nobody answers")
        for one in self.items[kind.name]:
            yield {"items": [one]}


def watches(observed: Observed) -> list[Watch]:
    queue = WorkQueue[ModelKey]()
    return [
        Watch(NODES, node_listener(observed, queue), is_of_models=False),
        Watch(SERVICES, object_listener(observed, queue), concerns=lambda one: one["metadata"]["name"] != "other"),
        Watch(PODS, pod_listener(observed, queue)),
    ]


def test_all_that_is_there_is_known_with_its_kind() -> None:
    observed = Observed()
    lists = Lists(Node=[item("a")], Service=[item("s"), item("t"), item("other")], Pod=[item("p")])
    take_in(lists, watches(observed))
    observed.put({"kind": "InferenceModel", "metadata": {"name": "m", "namespace": "n", "resourceVersion": "1"}})
    seen = observed.seen(ModelKey("n", "m"))
    assert seen
    assert set(seen.objects) == {ObjectKey("Service", "s"), ObjectKey("Service", "t")}
    assert seen.objects[ObjectKey("Service", "s")]["apiVersion"] == "v1"
    assert [one["metadata"]["name"] for one in seen.pods] == ["p"]
    assert set(observed.nodes()) == {"a"}
    assert lists.asked == {"Node": {}, "Service": {"labelSelector": MODEL_LABEL}, "Pod": {"labelSelector": MODEL_LABEL}}


def test_half_a_picture_is_none() -> None:
    with pytest.raises(TryAgain):
        take_in(Lists(Node=[], Service=[item("s")]), watches(Observed()))


def test_of_what_others_have_set_is_kept_only_that_it_is_there() -> None:
    def entry(manager: str) -> Manifest:
        return {"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {"f:ports": {}}}}

    live = {"kind": "Service", **item("s", spec={"ports": [{"port": 9000}]}, status={"a": None})}
    live["metadata"]["managedFields"] = [entry("kube-controller-manager"), entry(FIELD_MANAGER)]
    kept = object_essence(live)
    assert our_fields(kept) == {"f:spec": {"f:ports": {}}}
    assert len(kept["metadata"]["managedFields"]) == 1
    assert {**kept, "metadata": None} == {**live, "metadata": None}


def test_objects_alike_share_their_words() -> None:
    one, other = (object_essence(json.loads(json.dumps({"kind": "Service", **item("s")}))) for _ in range(2))
    (key,), (same) = one["metadata"]["labels"], next(iter(other["metadata"]["labels"]))
    assert key is same
    assert one["metadata"]["namespace"] is other["metadata"]["namespace"]
