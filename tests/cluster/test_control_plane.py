"""The API server asks webhooks, writes down each request, and comes back after a restart."""

import base64
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.access import Cluster
from cluster.errors import ClusterFault
from cluster.layout import NODE_ADDRESS

WEBHOOK_PORT = 9443


@pytest.fixture
def webhook(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A webhook that is asked about the ConfigMaps of the test's namespace."""
    made = cluster.certificate("webhook", NODE_ADDRESS)
    script = Path(__file__).parent / "admission_webhook.py"
    cluster.spawn("webhook", [sys.executable, "-I", script, made.certificate, made.key, str(WEBHOOK_PORT)])
    bundle = base64.b64encode(cluster.authority.certificate.read_bytes()).decode()
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}
    hook = {
        "name": "refuses.atalaya.test",
        "clientConfig": {"url": f"https://{NODE_ADDRESS}:{WEBHOOK_PORT}/", "caBundle": bundle},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    cluster.apply({**kind, "metadata": {"name": "refuses"}, "webhooks": [hook]})
    yield namespace
    cluster.kubectl("delete", "validatingwebhookconfiguration/refuses")
    cluster.processes.stop("webhook")


def test_an_admission_webhook_is_asked_and_its_words_reach_the_user(cluster: Cluster, webhook: str) -> None:
    def refuse_a_trial() -> None:
        trial = cluster.try_kubectl("create", "configmap", "forbidden", "--namespace", webhook, "--dry-run=server")
        if "the test's webhook refuses" not in trial.stderr:
            raise ClusterFault(f"the API server does not know the webhook yet, or it is not up: {trial.stderr}")

    cluster.until("the webhook is asked", refuse_a_trial)
    cluster.kubectl("create", "configmap", "allowed", "--namespace", webhook)
    with pytest.raises(ClusterFault, match="the test's webhook refuses this name"):
        cluster.kubectl("create", "configmap", "forbidden", "--namespace", webhook)


def test_each_request_is_in_the_audit_log_with_its_user(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "configmap", "noted", "--namespace", namespace)
    lines = cluster.layout.audit_log.read_text().splitlines()
    noted = [
        line for line in lines if f'"namespace":"{namespace}","name":"noted"' in line and '"verb":"create"' in line
    ]
    assert len(noted) == 1
    assert '"username":"admin"' in noted[0]


def test_the_api_server_comes_back_after_a_restart_with_all_it_knew(cluster: Cluster, namespace: str) -> None:
    if "kube-apiserver" not in cluster.processes.names:
        pytest.skip("this process attached to a cluster that another started: only that one restarts it")
    cluster.kubectl("create", "configmap", "kept", "--namespace", namespace)
    cluster.restart_api_server()
    assert cluster.get("configmap/kept", namespace)["metadata"]["name"] == "kept"
