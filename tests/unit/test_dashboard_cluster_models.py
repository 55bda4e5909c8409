"""The cluster's models as the dashboard reads them, from an HTTPS server that answers as an API server does."""

import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from atalaya_dashboard.cluster_access import PodAccount
from atalaya_dashboard.cluster_models import ClusterModels, State, model_of, pods_of
from atalaya_dashboard.errors import ClusterUnreadable
from atalaya_operator.webhook.certificate import make_certificate
from atalaya_operator.webhook.trust import load


def item(name: str, ready: str = "True", **status: Any) -> dict[str, Any]:
    told = {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": ready}], "reason": "Serving", **status}
    metadata = {"name": name, "namespace": "default", "generation": 2}
    return {"metadata": metadata, "spec": {"engine": "openvino"}, "status": told}


class ApiServer:
    """Answers pages of one item each to whoever brings the token."""

    def __init__(self, account: Path, models: list[dict[str, Any]]) -> None:
        asked = self.asked = []  # type: list[str]
        self.status = 200
        self.models, self.slices = models, []  # type: tuple[list[dict[str, Any]], list[dict[str, Any]]]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                items = outer.slices if "endpointslices" in self.path else outer.models
                may = self.headers["Authorization"] == "Bearer secret"
                number = int(self.path.partition("continue=")[2] or 0)
                following = {"continue": str(number + 1)} if number + 1 < len(items) else {}
                body = json.dumps({"items": items[number : number + 1], "metadata": following}).encode()
                self.send_response(outer.status if may else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...

        made = make_certificate(("localhost",), datetime.now(UTC))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load(context, made)
        (account / "ca.crt").write_bytes(made.authority)
        (account / "token").write_text("secret\n")
        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        port = self.server.server_address[1]
        return {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(port)}


@pytest.fixture
def api_server(tmp_path: Path) -> Iterator[ApiServer]:
    waiting = item("b", "False", reason="Starting", message="the pods do not answer", nextStep="wait")
    made = ApiServer(tmp_path, [item("c"), item("a"), waiting])
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_all_pages_are_read_and_what_is_not_ready_comes_first(api_server: ApiServer, tmp_path: Path) -> None:
    cluster = ClusterModels.from_env(api_server.environment, tmp_path)
    assert cluster
    assert [(one.name, one.is_ready) for one in cluster.list()] == [("b", False), ("a", True), ("c", True)]
    first = cluster.list()[0]
    assert (first.reason, first.message, first.next_step) == ("Starting", "the pods do not answer", "wait")
    assert api_server.asked[0] == "/apis/serving.atalaya.dev/v1alpha1/inferencemodels?limit=500"


def test_a_renewed_token_is_used(api_server: ApiServer, tmp_path: Path) -> None:
    cluster = ClusterModels.from_env(api_server.environment, tmp_path)
    assert cluster
    (tmp_path / "token").write_text("old")
    with pytest.raises(ClusterUnreadable, match="401"):
        cluster.list()
    (tmp_path / "token").write_text("secret")
    assert len(cluster.list()) == 3


@pytest.mark.parametrize(
    ("status", "step"), [(403, "install the chart again"), (404, "charts/atalaya/crds"), (500, "ask again")]
)
def test_a_refusal_is_told_with_what_to_do(api_server: ApiServer, tmp_path: Path, status: int, step: str) -> None:
    api_server.status = status
    cluster = ClusterModels.from_env(api_server.environment, tmp_path)
    assert cluster
    with pytest.raises(ClusterUnreadable, match=f"{status}.*{step}"):
        cluster.list()


def test_a_silent_cluster_is_told(tmp_path: Path) -> None:
    with pytest.raises(ClusterUnreadable, match="does not answer"):
        ClusterModels(PodAccount("https://localhost:9", tmp_path)).list()


def test_outside_a_cluster_there_is_nobody_to_ask(tmp_path: Path) -> None:
    assert ClusterModels.from_env({}, tmp_path) is None
    assert ClusterModels.from_env({"KUBERNETES_SERVICE_HOST": "h"}, tmp_path) is None


def test_a_model_that_nobody_has_looked_at_yet_says_so() -> None:
    unseen = item("m") | {"status": {}}
    assert (model_of(unseen).is_ready, model_of(unseen).next_step) == (False, "see that the operator runs")
    changed = item("m", observedGeneration=1)
    assert (model_of(changed).is_ready, model_of(changed).state) == (False, State.WAITING)
    assert "was changed" in model_of(changed).message


def test_what_waits_for_itself_is_told_apart_from_what_waits_for_somebody() -> None:
    def told(**holds: str) -> State:
        conditions = [{"type": kind, "status": status} for kind, status in holds.items()]
        return model_of(item("m", conditions=conditions)).state

    assert told(Ready="True", Progressing="True") == State.READY
    assert told(Ready="False", Progressing="True") == State.WAITING
    assert told(Ready="False", Progressing="False") == State.NEEDS_YOU
    assert sorted(State) == [State.NEEDS_YOU, State.WAITING, State.READY]
    leaving = item("m")
    leaving["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z"
    assert (model_of(leaving).state, model_of(leaving).reason) == (State.WAITING, "BeingRemoved")


def test_all_of_the_status_is_read() -> None:
    condition = {"type": "Ready", "status": "False", "reason": "Stalled", "message": "no", "lastTransitionTime": "t"}
    revision = {"name": "m-0123456789", "version": "3", "image": "ovms:1", "device": "cpu", "verdict": "Serving"}
    where = {"kserveV2": "m.default.svc:9000", "metrics": ":8000/metrics"}
    found = model_of(item("m", conditions=[condition], revisions=[revision], endpoints=where))
    assert (found.conditions[0].reason, found.revisions[0].image) == ("Stalled", "ovms:1")
    assert found.endpoints is not None
    assert (found.endpoints.kserve_v2, found.endpoints.tensorflow_serving) == ("m.default.svc:9000", None)


def a_slice(service: str, *endpoints: dict[str, Any]) -> dict[str, Any]:
    labels = {"serving.atalaya.dev/model": "m", "kubernetes.io/service-name": service}
    return {"metadata": {"namespace": "default", "labels": labels}, "endpoints": list(endpoints)}


def an_endpoint(name: str, address: str, *, ready: bool = True) -> dict[str, Any]:
    return {"addresses": [address], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": name}}


def test_the_pods_of_a_model_are_those_its_service_leads_to(api_server: ApiServer, tmp_path: Path) -> None:
    ours = (an_endpoint("m-1", "10.0.0.1"), an_endpoint("m-2", "10.0.0.2", ready=False))
    api_server.slices = [a_slice("m", *ours), a_slice("m-headless", *ours), a_slice("m")]
    cluster = ClusterModels.from_env(api_server.environment | {"ATALAYA_NAMESPACE": "default"}, tmp_path)
    assert cluster
    assert [(pod.name, pod.address) for pod in cluster.pods()] == [("m-1", "10.0.0.1")]
    assert api_server.asked[0] == (
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?limit=500&labelSelector=serving.atalaya.dev%2Fmodel"
    )
    without_conditions = a_slice("m", {"addresses": ["10.0.0.3"]})
    assert [pod.name for pod in pods_of(without_conditions)] == ["10.0.0.3"]


def test_one_namespace_is_asked_where_that_is_set(api_server: ApiServer, tmp_path: Path) -> None:
    cluster = ClusterModels.from_env(api_server.environment | {"ATALAYA_NAMESPACE": "relief"}, tmp_path)
    assert cluster
    cluster.list()
    assert api_server.asked[0] == "/apis/serving.atalaya.dev/v1alpha1/namespaces/relief/inferencemodels?limit=500"


def test_a_kubeconfig_is_followed_where_one_is_named(api_server: ApiServer, tmp_path: Path) -> None:
    port = api_server.environment["KUBERNETES_SERVICE_PORT"]
    told = {
        "clusters": [{"name": "c", "cluster": {"server": f"https://localhost:{port}",
                                               "certificate-authority": str(tmp_path / "ca.crt")}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }  # fmt: skip
    file = tmp_path / "config"
    file.write_text(json.dumps(told))
    cluster = ClusterModels.from_env({"ATALAYA_KUBECONFIG": str(file)}, tmp_path)
    assert cluster
    assert len(cluster.list()) == 3


def test_a_kubeconfig_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ClusterUnreadable, match="correct ATALAYA_KUBECONFIG"):
        ClusterModels.from_env({"ATALAYA_KUBECONFIG": str(tmp_path / "nothing")}, tmp_path)
