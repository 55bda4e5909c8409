"""How the real node's programs are started: registry, containerd, kubelet, kube-proxy; no process yet."""

import json
from pathlib import Path
from string import Template

from cluster.binaries import Binaries
from cluster.control_plane import Secrets
from cluster.layout import (
    CLUSTER_RANGE,
    DNS_SERVICE_ADDRESS,
    DOMAIN,
    IMAGE_HOST,
    NODE_ADDRESS,
    NODE_NAME,
    POD_RANGE,
    REGISTRY_PORT,
    Layout,
)

PAUSE_IMAGE = f"{IMAGE_HOST}/pause:1"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CONTAINERD_VERSION = ("ctr", "--address", CONTAINERD_SOCKET, "version")
REGISTRY_ADDRESS = f"{NODE_ADDRESS}:{REGISTRY_PORT}"

_CONTAINERD = Template("""version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause"
  restrict_oom_score_adj = true  # without CAP_SYS_RESOURCE a sandbox cannot lower its score
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$registries"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
""")
# Whichever registry an image names, the pull goes to the one of this cluster: a real 404 for what it lacks.
_REGISTRIES = Template("""server = "http://$address"
[host."http://$address"]
  capabilities = ["pull", "resolve"]
""")
_REGISTRY = Template("""version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: "$folder"}, delete: {enabled: true}}
http: {addr: "$address"}
""")


def registry(layout: Layout) -> list[str]:
    file = layout.config / "registry.yaml"
    file.write_text(_REGISTRY.substitute(folder=layout.run / "registry", address=REGISTRY_ADDRESS))
    return ["docker-registry", "serve", str(file)]


def containerd(layout: Layout) -> list[str]:
    networks, registries = layout.config / "cni", layout.config / "registries"
    _write(networks / "10-pods.conflist", json.dumps(_pod_network(), indent=1))
    _write(registries / "_default" / "hosts.toml", _REGISTRIES.substitute(address=REGISTRY_ADDRESS))
    file = layout.config / "containerd.toml"
    file.write_text(_CONTAINERD.substitute(pause=PAUSE_IMAGE, cni=networks, registries=registries))
    return ["containerd", "--config", str(file)]


def _pod_network() -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": POD_RANGE}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}


def kubelet(built: Binaries, layout: Layout, secrets: Secrets) -> list[str]:
    file = layout.config / "kubelet.json"
    file.write_text(json.dumps(_kubelet_configuration(layout, secrets), indent=1))
    return [
        str(built.path("kubelet")),
        f"--config={file}",
        f"--kubeconfig={layout.config / 'kubelet.kubeconfig'}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={NODE_ADDRESS}",
    ]


def _kubelet_configuration(layout: Layout, secrets: Secrets) -> dict[str, object]:
    upstream = layout.config / "resolv.conf"
    upstream.write_text("# no name server beyond the cluster's own\n")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [DNS_SERVICE_ADDRESS],
        "clusterDomain": DOMAIN,
        "resolvConf": str(upstream),
        "authentication": {
            "anonymous": {"enabled": False},
            "x509": {"clientCAFile": str(secrets.authority.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(secrets.kubelet_server.certificate),
        "tlsPrivateKeyFile": str(secrets.kubelet_server.key),
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
    }


def proxy(built: Binaries, layout: Layout) -> list[str]:
    return [
        str(built.path("kube-proxy")),
        f"--kubeconfig={layout.config / 'proxy.kubeconfig'}",
        f"--hostname-override={NODE_NAME}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={CLUSTER_RANGE}",
        "--iptables-min-sync-period=100ms",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ]


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
