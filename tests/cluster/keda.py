"""The real KEDA in a test cluster, as its two programs on the node; all that it brought leaves with it.

Both act as the service account that KEDA's own roles are bound to, so that what they may do is what they may do at a
user's. Its definitions go with it too: whoever needs one of them without KEDA puts it there (`foreign_crds`).
"""

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cluster.access import Cluster
from cluster.binaries import KEDA_KINDS
from cluster.control_plane import INNER_SERVER
from cluster.errors import ClusterFault
from cluster.layout import DOMAIN, NODE_ADDRESS
from cluster.pki import write_kubeconfig

NAMESPACE = "keda"
OPERATOR, ADAPTER = "keda-operator", "keda-adapter"
_ROLES = ("keda-role.yaml", "keda-role-binding.yaml", "keda-metrics-role.yaml", "keda-metrics-role-binding.yaml")
_SERVICE = "keda-metrics-apiserver"
_API = "v1beta1.external.metrics.k8s.io"
_AUTHORITY = f"{OPERATOR}.{NAMESPACE}.svc.{DOMAIN}"
_GONE = ("--ignore-not-found", "--timeout=60s")
_METRICS_PORT, _GRPC_PORT, _HEALTH_PORT, _OWN_METRICS_PORT = 6444, 9666, 8081, 8082


@contextmanager
def keda(cluster: Cluster) -> Iterator[None]:
    """KEDA until the end of the block. Whoever makes ScaledObjects must have ended by then."""
    with ExitStack() as leaving:
        cluster.kubectl("create", "namespace", NAMESPACE)
        leaving.callback(cluster.kubectl, "delete", "namespace", NAMESPACE, "--wait=false")
        roles = [f"--filename={cluster.binaries.path(name)}" for name in _ROLES]
        leaving.callback(cluster.kubectl, "delete", *roles, *_GONE)
        cluster.kubectl("apply", "--server-side", "--force-conflicts", *roles)
        leaving.callback(_remove_definitions, cluster)
        _define(cluster)
        _start(cluster, leaving)
        leaving.callback(_remove_definitions, cluster)  # while KEDA is there: its finalizers need it
        yield


def left_behind(cluster: Cluster) -> list[str]:
    """What a cluster has of KEDA, beside a namespace that goes."""
    kinds = "crds,apiservices,clusterroles,clusterrolebindings,validatingwebhookconfigurations"
    found = [line for line in cluster.kubectl("get", kinds, "--output=name").split() if "keda" in line or _API in line]
    return [*found, *({OPERATOR, ADAPTER} & set(cluster.processes.names))]


def _define(cluster: Cluster) -> None:
    files = [f"--filename={cluster.binaries.path(f'keda-crd-{kind}.yaml')}" for kind in KEDA_KINDS]
    cluster.kubectl("apply", "--server-side", "--force-conflicts", *files)
    for kind in KEDA_KINDS:
        cluster.wait(f"crd/{_definition(kind)}", "condition=Established")


def _remove_definitions(cluster: Cluster) -> None:
    cluster.kubectl("delete", "crd", *map(_definition, KEDA_KINDS), *_GONE)


def _definition(kind: str) -> str:
    group, _, plural = kind.partition("_")
    return f"{plural}.{group}"


def _start(cluster: Cluster, leaving: ExitStack) -> None:
    """Both programs, and the API that the cluster's autoscaler asks."""
    folder = _credentials(cluster)
    environment = {
        "KUBECONFIG": str(folder / "kubeconfig"),
        "POD_NAMESPACE": NAMESPACE,
        "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
        "WATCH_NAMESPACE": "",
    }
    for name, arguments in ((OPERATOR, _operator(folder)), (ADAPTER, _adapter(folder))):
        cluster.spawn(name, [cluster.binaries.path(name), *arguments], environment)
        leaving.callback(cluster.processes.stop, name)
    # It goes before its server does: without one it would stop every deletion of a namespace.
    leaving.callback(cluster.kubectl, "delete", f"apiservice/{_API}", *_GONE)
    cluster.apply(*_external_metrics(cluster))
    cluster.wait(f"apiservice/{_API}", "condition=Available", timeout_seconds=120)


def _credentials(cluster: Cluster) -> Path:
    """A folder with what each shows the other and the API server."""
    folder = cluster.layout.run / "keda"
    folder.mkdir(exist_ok=True)
    names = (f"DNS:{_AUTHORITY}", f"DNS:{_SERVICE}.{NAMESPACE}.svc", f"IP:{NODE_ADDRESS}")
    authority = cluster.authority.certificate
    made = cluster.authority.issue("keda", f"/CN=system:serviceaccount:{NAMESPACE}:{OPERATOR}", names)
    for name, file in (("tls.crt", made.certificate), ("tls.key", made.key), ("ca.crt", authority)):
        (folder / name).write_bytes(file.read_bytes())
    write_kubeconfig(folder / "kubeconfig", INNER_SERVER, authority, made)
    return folder


def _operator(folder: Path) -> list[str]:
    return [
        f"--cert-dir={folder}",
        "--enable-cert-rotation=false",
        "--leader-elect=false",
        "--enable-prometheus-metrics=false",
        f"--metrics-service-bind-address={NODE_ADDRESS}:{_GRPC_PORT}",
        f"--health-probe-bind-address={NODE_ADDRESS}:{_HEALTH_PORT}",
        "--zap-encoder=console",
    ]


def _adapter(folder: Path) -> list[str]:
    return [
        f"--secure-port={_METRICS_PORT}",
        f"--port={_OWN_METRICS_PORT}",
        f"--cert-dir={folder}",
        f"--tls-cert-file={folder / 'tls.crt'}",
        f"--tls-private-key-file={folder / 'tls.key'}",
        f"--metrics-service-address={NODE_ADDRESS}:{_GRPC_PORT}",
        f"--metrics-service-grpc-authority={_AUTHORITY}",
        *(f"--{use}-kubeconfig={folder / 'kubeconfig'}" for use in ("lister", "authentication", "authorization")),
        "--zap-encoder=console",
    ]


def _external_metrics(cluster: Cluster) -> list[dict[str, Any]]:
    """How the API server finds the adapter: a Service without a selector that leads to the node."""
    metadata = {"name": _SERVICE, "namespace": NAMESPACE}
    group, version = _API.partition(".")[2], _API.partition(".")[0]
    authority = base64.b64encode(cluster.authority.certificate.read_bytes()).decode()
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": _METRICS_PORT}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": _SERVICE}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": _METRICS_PORT}],
            "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": _API},
            "spec": {
                "group": group,
                "version": version,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "caBundle": authority,
                "service": metadata,
            },
        },
    ]


def scaled_object(cluster: Cluster, namespace: str, model: str) -> dict[str, Any]:
    """The one ScaledObject of a model; a ClusterFault while there are none or several."""
    chosen = ("--namespace", namespace, "--selector", f"serving.atalaya.dev/model={model}", "--output=json")
    found = json.loads(cluster.kubectl("get", "scaledobjects", *chosen))["items"]
    if len(found) != 1:
        raise ClusterFault(f"{model} has {len(found)} ScaledObjects: {[one['metadata']['name'] for one in found]}")
    return dict(found[0])


def condition(scaled: dict[str, Any], kind: str) -> str:
    """What KEDA says of it: `Ready`, `Active`, `HPAActive`."""
    told = (scaled.get("status") or {}).get("conditions") or ()
    return next((str(one["status"]) for one in told if one["type"] == kind), "")
