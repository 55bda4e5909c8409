"""How etcd, the API server, controllers and scheduler are started: files and command lines, no process."""

import json
from dataclasses import dataclass
from pathlib import Path

from cluster.binaries import Binaries
from cluster.layout import (
    API_PORT,
    API_SERVICE_ADDRESS,
    CLUSTER_RANGE,
    DOMAIN,
    NODE_ADDRESS,
    NODE_NAME,
    SERVICE_RANGE,
    Layout,
)
from cluster.pki import Authority, Certificate, signing_key, write_kubeconfig

# Every request with its user, verb, object and answer, not its body: enough to count calls and compare RBAC with use.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
USERS = {
    "admin": "/O=system:masters/CN=admin",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "proxy": "/CN=system:kube-proxy",
    "kubelet": f"/O=system:nodes/CN=system:node:{NODE_NAME}",
    "kwok": "/O=system:masters/CN=kwok",
    "metrics-server": "/O=system:masters/CN=metrics-server",
}
INNER_SERVER = f"https://127.0.0.1:{API_PORT}"


@dataclass(frozen=True)
class Secrets:
    """The certificates that components name in their flags."""

    authority: Authority
    front_authority: Authority
    server: Certificate
    kubelet_server: Certificate
    kubelet_client: Certificate
    front_client: Certificate
    admin: Certificate
    token_key: Path


def make_secrets(layout: Layout) -> Secrets:
    """A new authority, a certificate for each component, and a kubeconfig for each user."""
    authority, front = Authority(layout.pki, "ca"), Authority(layout.pki, "front-proxy-ca")
    authority.create()
    front.create()
    addresses = ["IP:127.0.0.1", f"IP:{NODE_ADDRESS}", f"IP:{API_SERVICE_ADDRESS}", "DNS:localhost"]
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}")
    addresses += [f"DNS:{name}" for name in service]
    users = {name: authority.issue(name, subject) for name, subject in USERS.items()}
    for name, client in users.items():
        write_kubeconfig(layout.config / f"{name}.kubeconfig", INNER_SERVER, authority.certificate, client)
    token_key = layout.pki / "service-accounts.key"
    signing_key(token_key)
    return Secrets(
        authority=authority,
        front_authority=front,
        server=authority.issue("kube-apiserver", "/CN=kube-apiserver", addresses),
        kubelet_server=authority.issue("kubelet-server", f"/CN={NODE_NAME}", [f"IP:{NODE_ADDRESS}"]),
        kubelet_client=authority.issue("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client"),
        front_client=front.issue("front-proxy-client", "/CN=front-proxy-client"),
        admin=users["admin"],
        token_key=token_key,
    )


def etcd(built: Binaries, layout: Layout) -> list[str]:
    return [
        str(built.path("etcd")),
        f"--data-dir={layout.run / 'etcd'}",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",  # its data is worth nothing after a crash
        "--log-level=warn",
    ]


def apiserver(built: Binaries, layout: Layout, secrets: Secrets) -> list[str]:
    policy = layout.config / "audit-policy.json"
    policy.write_text(json.dumps(AUDIT_POLICY))
    return [
        str(built.path("kube-apiserver")),
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={NODE_ADDRESS}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--allow-privileged",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--client-ca-file={secrets.authority.certificate}",
        f"--tls-cert-file={secrets.server.certificate}",
        f"--tls-private-key-file={secrets.server.key}",
        f"--kubelet-certificate-authority={secrets.authority.certificate}",
        f"--kubelet-client-certificate={secrets.kubelet_client.certificate}",
        f"--kubelet-client-key={secrets.kubelet_client.key}",
        "--kubelet-preferred-address-types=InternalIP",
        "--enable-aggregator-routing",
        f"--requestheader-client-ca-file={secrets.front_authority.certificate}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={secrets.front_client.certificate}",
        f"--proxy-client-key-file={secrets.front_client.key}",
        f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
        f"--service-account-key-file={secrets.token_key}",
        f"--service-account-signing-key-file={secrets.token_key}",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={layout.audit_log}",
        "--shutdown-delay-duration=0s",
    ]


def controller_manager(built: Binaries, layout: Layout, secrets: Secrets) -> list[str]:
    return [
        str(built.path("kube-controller-manager")),
        *_kubeconfigs(layout, "controller-manager"),
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={secrets.token_key}",
        f"--root-ca-file={secrets.authority.certificate}",
        f"--cluster-signing-cert-file={secrets.authority.certificate}",
        f"--cluster-signing-key-file={secrets.authority.key}",
        f"--cluster-cidr={CLUSTER_RANGE}",
        "--horizontal-pod-autoscaler-sync-period=5s",
        "--horizontal-pod-autoscaler-downscale-stabilization=10s",
        "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
        "--horizontal-pod-autoscaler-cpu-initialization-period=10s",
    ]


def scheduler(built: Binaries, layout: Layout) -> list[str]:
    return [str(built.path("kube-scheduler")), *_kubeconfigs(layout, "scheduler"), "--leader-elect=false"]


def _kubeconfigs(layout: Layout, user: str) -> list[str]:
    file = layout.config / f"{user}.kubeconfig"
    return [
        f"--{purpose}={file}" for purpose in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    ]
