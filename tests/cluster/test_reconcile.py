"""The operator on a real API server with real controllers; KWOK plays the nodes: pods answer and run nothing."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.access import Cluster
from cluster.crd import install_crds
from cluster.errors import ClusterFault
from cluster.fake_nodes import FakeNode
from cluster.foreign_crds import install_foreign_crds
from cluster.operator_process import OperatorProcess, running, writes

DEVICE = "gpu.intel.com/xe"
QUIET_SECONDS = 5


@pytest.fixture(scope="module")
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    install_crds(cluster)
    node = FakeNode("fake-many", {DEVICE: 100})
    cluster.apply(node.manifest())
    cluster.wait(f"node/{node.name}", "condition=Ready")
    with running(cluster, tmp_path_factory.mktemp("operator")) as one:
        yield one
        assert one.defects() == ""
    cluster.kubectl("delete", f"node/{node.name}", "--wait=false")


def model(**spec: Any) -> dict[str, Any]:
    base = {"engine": "openvino", "devices": [DEVICE],
            "model": {"uri": "s3://models/m", "versions": {"specific": [3]}}}  # fmt: skip
    return {
        "apiVersion": "serving.atalaya.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": "m"},
        "spec": {**base, **spec},
    }


def deployments(cluster: Cluster, namespace: str) -> list[str]:
    return [one["metadata"]["name"] for one in cluster.get("deployments", namespace)["items"]]


def led_to(cluster: Cluster, namespace: str, service: str = "m") -> str:
    return str(cluster.get(f"service/{service}", namespace)["spec"]["selector"]["serving.atalaya.dev/revision"])


def ready(cluster: Cluster, namespace: str, **spec: Any) -> str:
    """Apply a model and wait as a user does. Answers the name of its one Deployment."""
    cluster.apply(model(**spec), namespace=namespace)
    cluster.wait("im/m", "condition=Ready", namespace)
    until(cluster, "one revision is left", lambda: len(deployments(cluster, namespace)) == 1)
    return deployments(cluster, namespace)[0]


def until(cluster: Cluster, what: str, holds: Any) -> None:
    def attempt() -> None:
        if not holds():
            raise ClusterFault(what)

    cluster.until(what, attempt)


def wait_for_reason(cluster: Cluster, namespace: str, reason: str) -> None:
    cluster.wait("im/m", f"jsonpath={{.status.reason}}={reason}", namespace)


def test_a_model_becomes_running_pods_in_few_calls_and_none_at_rest(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    ready(cluster, namespace)
    header, row = cluster.kubectl("get", "im", "--namespace", namespace).splitlines()
    assert header.split()[1:6] == ["ENGINE", "DEVICE", "VERSION", "READY", "REASON"]
    assert row.split()[:6] == ["m", "openvino", DEVICE, "3", "1/1", "Serving"]
    time.sleep(QUIET_SECONDS)
    calls = operator.calls(namespace)
    without_monitor = Counter({call: count for call, count in calls.items() if not call.endswith(" podmonitors")})
    assert writes(without_monitor) <= 7, calls  # another test may have given the cluster the PodMonitor kind
    assert without_monitor.total() <= 12, calls
    time.sleep(QUIET_SECONDS)
    assert operator.calls(namespace) == calls
    kept = cluster.get("im/m", namespace)["metadata"]
    assert "finalizers" not in kept
    assert "annotations" not in kept
    assert operator.health() == 200
    assert "atalaya_operator_reconcile_seconds_bucket" in operator.metrics()


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"memory": "2Gi"}},
                      "scaling": {"min": 2, "max": 4, "cpu": "70%"}}, id="amounts-and-scaling"),
        pytest.param({"engine": "tensorflow", "devices": ["cpu"], "replicas": 3, "batching": {"maxSize": 8},
                      "protocols": ["kserve-v2", "tensorflow-serving"],
                      "model": {"uri": "gs://models/m", "versions": {"specific": [4, 3]},
                                "credentialsSecret": "store"}}, id="files-bridge-and-secret"),
    ],
)  # fmt: skip
def test_what_was_applied_is_known_again_after_a_restart(
    cluster: Cluster, namespace: str, operator: OperatorProcess, spec: dict[str, Any]
) -> None:
    """Amounts, defaults and lists come back in the API server's own words; none of them may look like drift."""
    install_foreign_crds(cluster)  # objects of kinds that a definition makes are known before the first look too
    cluster.apply(model(**spec), namespace=namespace)
    cluster.wait("im/m", "jsonpath={.status.replicas}", namespace)
    time.sleep(QUIET_SECONDS)
    before = operator.calls(namespace)
    operator.kill()
    operator.start()
    until(cluster, "the operator is back", lambda: _answers(operator))
    time.sleep(QUIET_SECONDS)
    after = operator.calls(namespace)
    assert after - before == {}


def _answers(operator: OperatorProcess) -> bool:
    try:
        return operator.health() == 200
    except OSError:
        return False


def test_a_change_brings_a_second_revision_the_service_moves_and_the_old_one_goes(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    old = ready(cluster, namespace)
    cluster.apply(model(devices=["npu.intel.com/accel"], replicas=2), namespace=namespace)  # one NPU there is: 1 of 2
    wait_for_reason(cluster, namespace, "DeviceInUse")
    new = ready(cluster, namespace, engineVersion="2026.2.1")
    assert new != old
    assert led_to(cluster, namespace) == led_to(cluster, namespace, "m-headless") == new.removeprefix("m-")
    until(cluster, "the old pods are gone", lambda: len(cluster.get("pods", namespace)["items"]) == 1)


def test_a_revision_that_cannot_start_leaves_the_old_one_serving(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    old = ready(cluster, namespace)
    cluster.apply(model(devices=["gpu.intel.com/i915"]), namespace=namespace)  # no node has it
    wait_for_reason(cluster, namespace, "NoNodeWithDevice")
    assert old in deployments(cluster, namespace)
    assert led_to(cluster, namespace) == old.removeprefix("m-")
    told = {one["type"]: one["status"] for one in cluster.get("im/m", namespace)["status"]["conditions"]}
    assert told == {
        "Ready": "False", "Available": "True", "Progressing": "False", "Scheduled": "False", "ModelLoaded": "False",
    }  # fmt: skip
    assert ready(cluster, namespace) == old


def test_drift_is_repaired_foreign_fields_stay_and_what_was_removed_comes_back(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    name = ready(cluster, namespace)
    patch = ("--namespace", namespace, "--type=merge", "--patch")
    foreign = {"metadata": {"annotations": {"theirs": "kept"}}}
    cluster.kubectl("patch", "service/m", *patch, json.dumps(foreign))
    astray = {"spec": {"selector": {"app": "other"}}}
    cluster.kubectl("patch", "service/m", *patch, json.dumps(astray))
    cluster.kubectl("scale", f"deployment/{name}", "--replicas=3", "--namespace", namespace)
    cluster.kubectl("delete", "service/m-headless", f"networkpolicy/{name}", "--namespace", namespace)
    until(cluster, "the Service leads back", lambda: led_to(cluster, namespace) == name.removeprefix("m-"))
    cluster.wait(f"deployment/{name}", "jsonpath={.spec.replicas}=1", namespace)
    cluster.wait("service/m-headless", "create", namespace)
    cluster.wait(f"networkpolicy/{name}", "create", namespace)
    assert cluster.get("service/m", namespace)["metadata"]["annotations"] == {"theirs": "kept"}


def test_what_the_spec_drops_is_removed_and_the_replicas_stay_as_they_were(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    requests = {"requests": {"cpu": "100m"}}
    name = ready(cluster, namespace, replicas=3, resources=requests)
    generation = cluster.get(f"deployment/{name}", namespace)["metadata"]["generation"]
    scaling = {"min": 1, "max": 5, "cpu": "70%"}
    cluster.apply(model(resources=requests, scaling=scaling), namespace=namespace)
    cluster.wait(f"hpa/{name}", "create", namespace)
    time.sleep(1)
    live = cluster.get(f"deployment/{name}", namespace)
    assert (live["spec"]["replicas"], live["metadata"]["generation"]) == (3, generation)
    cluster.apply(model(resources=requests, replicas=2), namespace=namespace)
    cluster.wait(f"hpa/{name}", "delete", namespace)
    cluster.wait(f"deployment/{name}", "jsonpath={.spec.replicas}=2", namespace)


def test_an_object_of_somebody_else_is_left_alone_and_the_model_says_so(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "m"},
              "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80}]}}  # fmt: skip
    cluster.apply(theirs, namespace=namespace)
    before = cluster.get("service/m", namespace)
    cluster.apply(model(), namespace=namespace)
    wait_for_reason(cluster, namespace, "NameTaken")
    assert "Service m" in cluster.get("im/m", namespace)["status"]["message"]
    assert cluster.get("service/m", namespace) == before
    assert deployments(cluster, namespace) == []


def test_a_version_that_only_the_store_knows_is_asked_for_by_a_pod_that_goes_with_the_question(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    asks = model(model={"uri": "s3://models/m"})
    cluster.apply(asks, namespace=namespace)
    cluster.wait("pod/m-versions", "create", namespace)
    cluster.wait("im/m", "jsonpath={.status.reason}", namespace)
    assert deployments(cluster, namespace) == []
    ready(cluster, namespace)  # names its version
    cluster.wait("pod/m-versions", "delete", namespace)
    cluster.apply(asks, namespace=namespace)
    cluster.wait("pod/m-versions", "create", namespace)
    cluster.kubectl("delete", "im/m", "--namespace", namespace)
    cluster.wait("pod/m-versions", "delete", namespace)


def test_deleting_a_model_leaves_nothing_behind(cluster: Cluster, namespace: str, operator: OperatorProcess) -> None:
    ready(cluster, namespace)
    cluster.kubectl("delete", "im/m", "--namespace", namespace, "--timeout=10s")
    kinds = "deployments,services,serviceaccounts,networkpolicies,pods"

    def left() -> list[str]:
        listed = cluster.kubectl("get", kinds, "--namespace", namespace, "--output=name").split()
        return [name for name in listed if name != "serviceaccount/default"]

    until(cluster, "all of it is gone", lambda: left() == [])


def test_an_operator_that_is_killed_at_any_time_leaves_the_same_end(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    """Every call is cut in a unit test; here a real process dies at a few moments of a real rollout."""
    ready(cluster, namespace)
    ends = set()
    for moment in (0.05, 0.15, 0.4):
        cluster.apply(model(batching={"maxSize": 8}), namespace=namespace)
        time.sleep(moment)
        operator.kill()
        operator.start()
        name = ready(cluster, namespace, batching={"maxSize": 8})
        until(cluster, "it leads there", lambda: led_to(cluster, namespace) == deployments(cluster, namespace)[0][2:])
        objects = cluster.kubectl("get", "service,networkpolicy,sa", "--namespace", namespace, "--output=name")
        ends.add((name, objects))
        ready(cluster, namespace)
    assert len(ends) == 1
    assert operator.stop() == 0
    operator.start()
