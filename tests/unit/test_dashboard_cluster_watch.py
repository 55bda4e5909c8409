"""What is kept of the cluster's answers, and which pods are asked for their latency."""

import threading
from collections.abc import Sequence

import pytest

from atalaya_dashboard.cluster_models import ClusterModel, ServingPod, State
from atalaya_dashboard.cluster_watch import MOST_PODS, ClusterWatch, targets_of
from atalaya_dashboard.errors import ClusterUnreadable
from atalaya_spec.inference_model_status import Endpoints


def a_model(name: str = "m", metrics: str | None = ":8000/metrics", engine: str = "openvino") -> ClusterModel:
    told = {"device": "cpu", "version": "1", "ready": "1/1", "reason": "Serving", "message": "", "next_step": ""}
    return ClusterModel(
        namespace="relief", name=name, engine=engine, state=State.READY, endpoints=Endpoints(metrics=metrics), **told
    )


def a_pod(number: int = 1, address: str = "10.0.0.1") -> ServingPod:
    return ServingPod("relief", "m", f"m-{number}", address)


class Cluster:
    """Answers what a test wants."""

    def __init__(self, pods: int = 1) -> None:
        self.fails: dict[str, str] = {}
        self.asked: list[str] = []
        self._pods = [a_pod(number) for number in range(pods)]

    def list(self) -> Sequence[ClusterModel]:
        self._ask("models")
        return [a_model()]

    def pods(self) -> Sequence[ServingPod]:
        self._ask("pods")
        return self._pods

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what in self.fails:
            raise ClusterUnreadable(self.fails[what])


def watching(cluster: Cluster, *, with_pods: bool = True) -> ClusterWatch:
    times = iter(range(100, 1000))
    return ClusterWatch(lambda: cluster, with_pods=with_pods, clock=lambda: float(next(times)))


def test_what_the_cluster_said_last_stays_with_its_time_while_it_does_not_answer() -> None:
    cluster = Cluster()
    watch = watching(cluster)
    watch.look_once()
    cluster.fails["models"] = "the cluster does not answer"
    watch.look_once()
    state = watch.state()
    assert (state.at, state.error, len(state.models), len(watch.targets())) == (
        100.0,
        "the cluster does not answer",
        1,
        1,
    )
    cluster.fails.clear()
    watch.look_once()
    assert (watch.state().at, watch.state().error) == (101.0, "")


def test_pods_that_may_not_be_listed_do_not_hide_the_models() -> None:
    cluster = Cluster()
    cluster.fails["pods"] = "403"
    watch = watching(cluster)
    watch.look_once()
    assert (watch.state().pods_error, watch.state().error, len(watch.state().models)) == ("403", "", 1)


def test_pods_are_not_listed_where_nobody_reads_them() -> None:
    cluster = Cluster()
    watching(cluster, with_pods=False).look_once()
    assert cluster.asked == ["models"]


def test_a_kubeconfig_that_is_mended_is_taken_without_a_restart() -> None:
    answers = [ClusterUnreadable("no kubeconfig"), None]

    def cluster() -> Cluster | None:
        answer = answers.pop(0) if answers else Cluster()
        if isinstance(answer, ClusterUnreadable):
            raise answer
        return answer

    watch = ClusterWatch(cluster, with_pods=False)
    watch.look_once()
    assert watch.state().error == "no kubeconfig"
    watch.look_once()
    watch.look_once()
    assert len(watch.state().models) == 1


def test_the_first_viewer_waits_for_the_first_answer() -> None:
    watch = watching(Cluster())
    assert watch.state().at is None
    threading.Timer(0.05, watch.look_once).start()
    assert watch.state(wait_seconds=20).at is not None


@pytest.mark.parametrize(
    ("model", "pod", "expected"),
    [
        pytest.param(a_model(), a_pod(), ["http://10.0.0.1:8000/metrics"], id="address-port-and-path"),
        pytest.param(a_model(), a_pod(address="fd00::1"), ["http://[fd00::1]:8000/metrics"], id="ipv6"),
        pytest.param(a_model("other"), a_pod(), [], id="a-pod-of-no-model"),
        pytest.param(a_model(metrics=None), a_pod(), [], id="not-told-yet"),
        pytest.param(a_model(metrics="elsewhere:80/metrics"), a_pod(), [], id="another-host-is-not-followed"),
        pytest.param(a_model(engine="triton"), a_pod(), [], id="an-engine-that-is-not-known"),
    ],
)
def test_a_pod_is_asked_where_its_models_status_says(model: ClusterModel, pod: ServingPod, expected: list[str]) -> None:
    assert [target.url for target in targets_of([model], [pod])] == expected


def test_countless_pods_are_not_all_asked() -> None:
    watch = watching(Cluster(MOST_PODS + 7))
    watch.look_once()
    assert (len(watch.targets()), watch.not_asked()) == (MOST_PODS, 7)
