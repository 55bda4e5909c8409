"""Models that the real KEDA scales by what the real Prometheus scrapes of their real pods, to zero and back."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atalaya_operator.engines import BY_NAME
from cluster import keda as kedas
from cluster import product_images as images
from cluster.access import Cluster
from cluster.chronicle import chronicle
from cluster.crd import install_crds
from cluster.errors import ClusterFault
from cluster.operator_process import OperatorProcess, running, writes
from cluster.prometheus import Prometheus, prometheus
from cluster.release_parts import MODELS, PORTS, REPOSITORY, Served, calling_pod, claim, golden, volume

pytestmark = pytest.mark.timeout(600)  # pushing images counts to the first test
PLACE = "scaled"
LOADER = (Path(__file__).parent / "load_model.py").read_text()
READY_SECONDS = 240
SCALING_SECONDS = 180
QUIET_SECONDS = 5
CALLERS, FEW_CALLERS = 5, 2
LONGEST_NAME = 52
TELLING = ("patch inferencemodels/status", "create events", "patch events")
PLAUSIBLE = {"concurrency": (0.2, FEW_CALLERS + 1), "queue": (0, FEW_CALLERS + 1), "latencyP95": (0.5, 30_000)}
"""At least and at most, with so many callers; a wrong unit is out by a thousand."""
CLOSE = 0.02  # what another processor may change of a probability
BATCHED = Served("by-concurrency", "atalaya", "haiti-damage")
LONG = Served("assesses-what-waits-in-a-queue-of-jobs-that-was-long", "atalaya", "haiti-damage")


@pytest.fixture(scope="module")
def measured(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with prometheus(cluster, tmp_path_factory.mktemp("prometheus")) as one:
        yield one


@pytest.fixture(scope="module")
def operator(
    cluster: Cluster, measured: Prometheus, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """The operator in a cluster with KEDA, told where Prometheus is and to take our faces for the originals."""
    images.push(cluster, images.SERVING, images.OVMS_FACE, images.TFS_FACE)
    install_crds(cluster)
    with kedas.keda(cluster), pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATALAYA_PROMETHEUS_URL", measured.url)
        patch.setenv("ATALAYA_OPENVINO_REPOSITORY", images.OVMS_FACE.reference.rpartition(":")[0])
        patch.setenv("ATALAYA_TENSORFLOW_REPOSITORY", images.TFS_FACE.reference.rpartition(":")[0])
        with running(cluster, tmp_path_factory.mktemp("operator")) as one:
            yield one
            assert one.defects() == ""
    assert kedas.left_behind(cluster) == []


@pytest.fixture(scope="module")
def place(cluster: Cluster, operator: OperatorProcess) -> Iterator[str]:
    """A namespace with a claim to the shipped models; its models are gone before KEDA goes."""
    shared = cluster.layout.run / "models"
    shutil.copytree(REPOSITORY, shared, dirs_exist_ok=True)
    cluster.kubectl("create", "namespace", PLACE)
    cluster.apply(volume(PLACE, shared, PLACE, claim="models"), claim("models", PLACE, volume=PLACE))
    cluster.wait("serviceaccount/default", "create", PLACE)
    yield PLACE
    cluster.kubectl("delete", "im", "--all", "--namespace", PLACE)
    cluster.until("KEDA has let go", lambda: no_scaled_objects(cluster))
    cluster.kubectl("delete", "namespace", PLACE, "--wait=false")
    cluster.kubectl("delete", f"persistentvolume/{PLACE}", "--wait=false")


def no_scaled_objects(cluster: Cluster) -> None:
    left = cluster.kubectl("get", "scaledobjects,hpa", "--namespace", PLACE, "--output=name")
    if left:
        raise ClusterFault(f"left of the models: {left.split()}")


def load(cluster: Cluster, place: str, model: Served, callers: int) -> str:
    """A pod that calls a model until it is deleted. Answers its name."""
    name, file = f"load-{model.name}", f"/models/{model.folder}/1/golden.npz"
    script = (LOADER, f"{model.name}.{place}:{PORTS['v2']}", model.name, file, "600", str(callers))
    cluster.apply(calling_pod(name, script), namespace=place)
    return name


def until(cluster: Cluster, what: str, holds: Any, timeout_seconds: float = SCALING_SECONDS) -> None:
    def attempt() -> None:
        if not holds():
            raise ClusterFault(what)

    cluster.until(what, attempt, timeout_seconds)


def names(cluster: Cluster, kind: str, place: str, model: Served) -> list[str]:
    chosen = ("--namespace", place, "--selector", f"serving.atalaya.dev/model={model.name}", "--output=json")
    return [one["metadata"]["name"] for one in json.loads(cluster.kubectl("get", kind, *chosen))["items"]]


def says(cluster: Cluster, place: str, model: Served, kind: str) -> None:
    """Until KEDA says this of a model's ScaledObject."""
    holds = lambda: kedas.condition(kedas.scaled_object(cluster, place, model.name), kind) == "True"  # noqa: E731
    until(cluster, f"KEDA says {kind} of {model.name}", holds)


def test_replicas_follow_the_calls_in_flight_and_the_operator_leaves_them_alone(
    cluster: Cluster, place: str, operator: OperatorProcess
) -> None:
    scaling = {"min": 1, "max": 2, "concurrency": 1}
    cluster.apply(BATCHED.manifest(scaling=scaling), namespace=place)
    cluster.wait(f"im/{BATCHED.name}", "condition=Ready", place, timeout_seconds=READY_SECONDS)
    assert cluster.get(f"im/{BATCHED.name}", place)["status"]["ready"] == "1/1"
    says(cluster, place, BATCHED, "Ready")

    before = operator.calls(place)
    loading = load(cluster, place, BATCHED, CALLERS)
    cluster.wait(f"im/{BATCHED.name}", "jsonpath={.status.ready}=2/2", place, timeout_seconds=SCALING_SECONDS)
    assert cluster.get(f"im/{BATCHED.name}", place)["status"]["replicas"] == 2
    written = operator.calls(place) - before
    assert writes(Counter({call: count for call, count in written.items() if call not in TELLING})) == 0, written

    (old,) = names(cluster, "deployments", place, BATCHED)
    with chronicle(cluster, place, ("deployments",)) as watched:
        cluster.apply(BATCHED.manifest(scaling=scaling, batching={"maxSize": 16}), namespace=place)
        new = watched.first("deployments", lambda one: one["metadata"]["name"] not in (old,))
    assert new.object["spec"]["replicas"] == 2, "as many as the one that it takes over from"
    for kind, prefix in (("deployments", ""), ("scaledobjects", ""), ("hpa", "keda-hpa-")):
        left = [prefix + new.object["metadata"]["name"]]
        of_new = lambda kind=kind, left=left: names(cluster, kind, place, BATCHED) == left  # noqa: E731
        until(cluster, f"only the new one of {kind} is left", of_new)

    cluster.kubectl("delete", f"pod/{loading}", "--namespace", place, "--wait=false")
    cluster.wait(f"im/{BATCHED.name}", "jsonpath={.status.ready}=1/1", place, timeout_seconds=SCALING_SECONDS)
    until(cluster, "the operator comes to rest", lambda: rests(operator, place))


def rests(operator: OperatorProcess, place: str) -> bool:
    """Whether it writes nothing for a while."""
    before = operator.calls(place)
    time.sleep(QUIET_SECONDS)
    return writes(operator.calls(place) - before) == 0


def test_without_work_there_are_no_pods_and_with_work_they_come_and_answer(
    cluster: Cluster, place: str, operator: OperatorProcess, measured: Prometheus
) -> None:
    """As a user of a queue of jobs has it; with the longest name there may be."""
    assert len(LONG.name) == LONGEST_NAME
    measured.tell(jobs_waiting=0)
    scaling = {"min": 0, "max": 2, "cooldown": "5s", "queue": {"length": 5, "query": "sum(jobs_waiting)"}}
    with chronicle(cluster, place, ("pods",)) as watched:
        cluster.apply(LONG.manifest(scaling=scaling), namespace=place)
        at_zero(cluster, place, LONG)
        says(cluster, place, LONG, "Ready")
        cluster.apply(LONG.manifest(scaling=scaling, batching={"maxSize": 16}), namespace=place)
        until(cluster, "the change is told", lambda: is_told(cluster, place, LONG))
        at_zero(cluster, place, LONG)
        until(cluster, "one revision is left", lambda: len(names(cluster, "scaledobjects", place, LONG)) == 1)
        assert [one for one in watched.all("pods") if is_of(one.object, LONG)] == []

    measured.tell(jobs_waiting=8)
    cluster.wait(f"im/{LONG.name}", "jsonpath={.status.ready}=2/2", place, timeout_seconds=SCALING_SECONDS)
    cluster.wait(f"im/{LONG.name}", "condition=Available", place)
    tiles, expected = golden(LONG.folder)
    assert np.abs(answered(cluster, place, LONG, tiles) - expected).max() < CLOSE

    measured.tell(jobs_waiting=0)
    at_zero(cluster, place, LONG)


def at_zero(cluster: Cluster, place: str, model: Served) -> None:
    reason = "jsonpath={.status.reason}=ScaledToZero"
    cluster.wait(f"im/{model.name}", reason, place, timeout_seconds=SCALING_SECONDS)
    told = cluster.get(f"im/{model.name}", place)["status"]
    assert told["ready"] == "0/0"
    (ready,) = [one["status"] for one in told["conditions"] if one["type"] == "Ready"]
    assert ready == "True"


def is_told(cluster: Cluster, place: str, model: Served) -> bool:
    found = cluster.get(f"im/{model.name}", place)
    return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])


def is_of(pod: dict[str, Any], model: Served) -> bool:
    return bool(pod["metadata"]["labels"].get("serving.atalaya.dev/model") == model.name)


def answered(cluster: Cluster, place: str, model: Served, tiles: np.ndarray) -> np.ndarray:
    """What a client outside gets."""
    from tritonclient.grpc import InferenceServerClient, InferInput

    with (
        cluster.port_forward(f"service/{model.name}", PORTS["v2"], place) as port,
        InferenceServerClient(f"127.0.0.1:{port}") as client,
    ):
        given = InferInput("tiles", list(tiles.shape), "UINT8")
        given.set_data_from_numpy(tiles)
        return client.infer(model.name, [given], client_timeout=30).as_numpy("probability")


def test_every_signal_of_every_engine_is_one_plausible_number_and_keda_scales_by_latency(
    cluster: Cluster, place: str, operator: OperatorProcess, measured: Prometheus
) -> None:
    for model in MODELS:
        cluster.apply(model.manifest(scaling={"max": 1, "latencyP95": "1ms"}), namespace=place)
    for model in MODELS:
        cluster.wait(f"im/{model.name}", "condition=Ready", place, timeout_seconds=READY_SECONDS)
    for model in MODELS:
        load(cluster, place, model, FEW_CALLERS)
    for model in MODELS:
        labels = {"model": model.name, "namespace": place}
        for signal, (least, most) in PLAUSIBLE.items():
            if (model.engine, signal) != ("tensorflow", "queue"):  # it does not tell
                query = BY_NAME[model.engine].signal(signal, labels)
                until(cluster, f"{query} answers", lambda q=query, low=least: one_number(measured, q) >= low)
                assert one_number(measured, query) <= most, query
        for kind in ("Ready", "Active", "HPAActive"):
            says(cluster, place, model, kind)
    cluster.kubectl("delete", "pods", *(f"load-{model.name}" for model in MODELS), "--namespace", place)


def one_number(measured: Prometheus, query: str) -> float:
    told = measured.answer(query)
    assert len(told) == 1, f"{query} answers {told}"
    return told[0]


def test_a_query_of_several_numbers_is_told_of_where_the_user_looks(
    cluster: Cluster, place: str, operator: OperatorProcess
) -> None:
    wrong = {"max": 2, "queue": {"length": 5, "query": "up"}}
    cluster.apply(MODELS[0].manifest(scaling=wrong), namespace=place)
    told = 'jsonpath={.status.conditions[?(@.type=="Autoscaling")].reason}=ScalerFailing'
    cluster.wait(f"im/{MODELS[0].name}", told, place, timeout_seconds=SCALING_SECONDS)
    cluster.wait(f"im/{MODELS[0].name}", "condition=Ready", place)
