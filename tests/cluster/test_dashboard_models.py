"""What the dashboard reads of a real API server: with the chart's rights, with fewer, and without the definition."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atalaya_dashboard.cluster_access import PodAccount
from atalaya_dashboard.cluster_models import ClusterModels, State
from atalaya_dashboard.cluster_watch import ClusterWatch
from atalaya_dashboard.errors import ClusterUnreadable
from cluster.access import Cluster
from cluster.crd import install_crds
from cluster.fake_nodes import FakeNode
from cluster.operator_process import running

DEVICE = "gpu.intel.com/i915"
MODELS = {"apiGroups": ["serving.atalaya.dev"], "resources": ["inferencemodels"], "verbs": ["list"]}
SLICES = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]}
RBAC = "rbac.authorization.k8s.io"


@pytest.fixture(autouse=True)
def definition(cluster: Cluster) -> None:
    install_crds(cluster)


class Accounts:
    """Service accounts of a namespace, as their pods have them."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self._cluster, self._namespace, self._folder = cluster, namespace, folder
        self.url = str(cluster.api_client().configuration.host)

    def with_rights(self, name: str, *rules: dict[str, Any], everywhere: bool = True) -> PodAccount:
        """An account that may do this and nothing else."""
        self._cluster.kubectl("create", "serviceaccount", name, "--namespace", self._namespace)
        kind = "ClusterRole" if everywhere else "Role"
        about = {"name": f"{self._namespace}-{name}"} | ({} if everywhere else {"namespace": self._namespace})
        role = {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": about, "rules": list(rules)}
        binding = {
            "apiVersion": f"{RBAC}/v1",
            "kind": f"{kind}Binding",
            "metadata": about,
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": about["name"]},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": self._namespace}],
        }
        if rules:
            self._cluster.apply(role, binding)
        folder = self._folder / name
        folder.mkdir()
        token = self._cluster.kubectl("create", "token", name, "--namespace", self._namespace)
        (folder / "token").write_text(token)
        (folder / "ca.crt").write_bytes(Path(self._cluster.authority.certificate).read_bytes())
        return PodAccount(self.url, folder)

    def remove(self) -> None:
        """What lies outside the namespace."""
        for kind in ("clusterrole", "clusterrolebinding"):
            named = [one["metadata"]["name"] for one in self._cluster.get(kind)["items"]]
            for name in (one for one in named if one.startswith(f"{self._namespace}-")):
                self._cluster.kubectl("delete", f"{kind}/{name}")


@pytest.fixture
def accounts(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Accounts]:
    made = Accounts(cluster, namespace, tmp_path)
    yield made
    made.remove()


def a_model(name: str, device: str = DEVICE) -> dict[str, Any]:
    spec = {"engine": "openvino", "devices": [device],
            "model": {"uri": "s3://models/m", "versions": {"specific": [3]}}}  # fmt: skip
    return {
        "apiVersion": "serving.atalaya.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": name},
        "spec": spec,
    }


def test_the_operators_words_and_the_pods_are_read_with_two_rights(
    cluster: Cluster, namespace: str, accounts: Accounts, tmp_path: Path
) -> None:
    node = FakeNode("dashboard-gpu", {DEVICE: 1})
    cluster.apply(node.manifest())
    cluster.wait(f"node/{node.name}", "condition=Ready")
    asked = ClusterModels(accounts.with_rights("reader", MODELS, SLICES), namespace)
    watch = ClusterWatch(lambda: asked, with_pods=True)
    try:
        with running(cluster, tmp_path):
            cluster.apply(a_model("good"), a_model("waiting", "cpu"), namespace=namespace)
            cluster.wait("im/good", "condition=Ready", namespace)
            cluster.wait("im/waiting", "jsonpath={.status.reason}", namespace)
            watch.look_once()
    finally:
        cluster.kubectl("delete", f"node/{node.name}", "--wait=false")
    state = watch.state()
    assert (state.error, state.pods_error) == ("", "")
    by_name = {one.name: one for one in state.models}
    assert [one.name for one in state.models] == ["waiting", "good"], "what is not ready comes first"
    assert (by_name["good"].state, by_name["good"].reason, by_name["good"].ready) == (State.READY, "Serving", "1/1")
    assert by_name["good"].endpoints is not None
    assert by_name["good"].endpoints.kserve_v2 == f"good.{namespace}.svc:9000"
    assert [one.name for one in by_name["good"].revisions] == [
        one["metadata"]["name"] for one in cluster.get("deployments", namespace)["items"] if "good-" in str(one)
    ]
    assert not by_name["waiting"].is_ready
    pods = {one["metadata"]["name"]: one["status"].get("podIP") for one in cluster.get("pods", namespace)["items"]}
    [target] = watch.targets()
    assert target.pod.startswith("good-")
    assert target.url == f"http://{pods[target.pod]}:8000/metrics"


def test_an_account_without_rights_is_told_what_it_lacks(cluster: Cluster, namespace: str, accounts: Accounts) -> None:
    nobody = accounts.with_rights("nobody")
    with pytest.raises(ClusterUnreadable, match=r"403 Forbidden: inferencemodels.* is forbidden.*install the chart"):
        ClusterModels(nobody).list()
    only_models = ClusterModels(accounts.with_rights("models-only", MODELS), namespace)
    watch = ClusterWatch(lambda: only_models, with_pods=True)
    watch.look_once()
    assert watch.state().error == ""
    assert "endpointslices.discovery.k8s.io is forbidden" in watch.state().pods_error


def test_rights_in_one_namespace_are_enough_where_that_is_set(
    cluster: Cluster, namespace: str, accounts: Accounts
) -> None:
    cluster.apply(a_model("m"), namespace=namespace)
    account = accounts.with_rights("local", MODELS, SLICES, everywhere=False)
    with pytest.raises(ClusterUnreadable, match="set ATALAYA_NAMESPACE"):
        ClusterModels(account).list()
    [found] = ClusterModels(account, namespace).list()
    assert (found.name, found.reason, found.next_step) == ("m", "NotSeen", "see that the operator runs")
    assert ClusterModels(account, namespace).pods() == []


def test_a_token_that_is_no_more_is_told(namespace: str, accounts: Accounts) -> None:
    account = accounts.with_rights("gone", MODELS)
    (account.account / "token").write_text("invalid")
    with pytest.raises(ClusterUnreadable, match="401"):
        ClusterModels(account, namespace).list()


def test_a_kubeconfig_reads_the_same(cluster: Cluster, namespace: str) -> None:
    cluster.apply(a_model("m"), namespace=namespace)
    told = {"ATALAYA_KUBECONFIG": str(cluster.layout.kubeconfig), "ATALAYA_NAMESPACE": namespace}
    asked = ClusterModels.from_env(told)
    assert asked
    assert [one.name for one in asked.list()] == ["m"]


def test_a_cluster_without_the_definition_says_how_to_install_it(cluster: Cluster, accounts: Accounts) -> None:
    account = accounts.with_rights("reader", MODELS)
    cluster.kubectl("delete", "crd/inferencemodels.serving.atalaya.dev")
    try:
        with pytest.raises(ClusterUnreadable, match=r"404 Not Found: .*kubectl apply --server-side"):
            ClusterModels(account).list()
    finally:
        install_crds(cluster)
