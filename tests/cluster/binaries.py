"""Builds the cluster's binaries from Go modules, once, into `.cache/cluster/bin`.

No registry of images or release page is asked: each folder below `go/` pins one program, or a family of them, with
go.sum. A binary is built when the folder of its module's digest lacks it; an interrupted build goes on where it was.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cluster.errors import ClusterFault
from cluster.layout import CHECKOUT, Layout

GO_MODULES = Path(__file__).parent / "go"
BUILD_FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly")
STRIP = "-s -w"


@dataclass(frozen=True)
class GoModule:
    """One folder below `go/`: binaries by name, and what the linker writes into them."""

    name: str
    principal: str  # the required module whose version names the folder
    binaries: Mapping[str, str]
    linked: Mapping[str, str] = field(default_factory=dict)
    shipped: Mapping[str, str] = field(default_factory=dict)  # files of the principal's sources, by our name

    @property
    def folder(self) -> Path:
        return GO_MODULES / self.name

    @property
    def version(self) -> str:
        text = (self.folder / "go.mod").read_text()
        found = re.search(rf"^(?:require|\t)\s*{re.escape(self.principal)} (v\S+)", text, flags=re.MULTILINE)
        if found is None:
            raise ClusterFault(f"{self.folder}/go.mod does not require {self.principal}: add it, with its version")
        return found[1]

    @property
    def linker_flags(self) -> str:
        return " ".join([STRIP, *(f"-X {name}={value}" for name, value in self.linked.items())])

    def key(self) -> str:
        """Version and digest of all that decides what the binaries are."""
        digest = hashlib.sha256(" ".join([*BUILD_FLAGS, self.linker_flags]).encode())
        for name in ("go.mod", "go.sum"):
            digest.update((self.folder / name).read_bytes())
        return f"{self.name}-{self.version}-{digest.hexdigest()[:8]}"


KUBERNETES_COMMANDS = (
    "kube-apiserver",
    "kubectl",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
)

KEDA_KINDS = (
    "eventing.keda.sh_cloudeventsources",
    "eventing.keda.sh_clustercloudeventsources",
    "keda.sh_clustertriggerauthentications",
    "keda.sh_scaledjobs",
    "keda.sh_scaledobjects",
    "keda.sh_triggerauthentications",
)
CERT_MANAGER_KINDS = {
    f"crd-{name}.yaml": f"{name}.{group}"
    for group, names in {
        "cert-manager.io": ("certificates", "certificaterequests", "issuers", "clusterissuers"),
        "acme.cert-manager.io": ("orders", "challenges"),
    }.items()
    for name in names
}

MODULES = (
    GoModule(
        "kubernetes",
        "k8s.io/kubernetes",
        {
            "etcd": "go.etcd.io/etcd/server/v3",
            **{name: f"k8s.io/kubernetes/cmd/{name}" for name in KUBERNETES_COMMANDS},
            "helm": "helm.sh/helm/v3/cmd/helm",
        },
        {
            "k8s.io/component-base/version.gitVersion": "v1.34.4",
            "k8s.io/component-base/version.gitMajor": "1",
            "k8s.io/component-base/version.gitMinor": "34",
            "helm.sh/helm/v3/internal/version.version": "v3.19.5",
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor": "1",
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": "34",
            "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor": "1",
            "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor": "34",
        },
    ),
    GoModule("coredns", "github.com/coredns/coredns", {"coredns": "github.com/coredns/coredns"}),
    GoModule(
        "kwok",
        "sigs.k8s.io/kwok",
        {"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
        shipped={
            "stage-node-initialize.yaml": "kustomize/stage/node/fast/node-initialize.yaml",
            "stage-pod-complete.yaml": "kustomize/stage/pod/fast/pod-complete.yaml",
            "stage-pod-delete.yaml": "kustomize/stage/pod/fast/pod-delete.yaml",
            "stage-pod-ready.yaml": "kustomize/stage/pod/fast/pod-ready.yaml",
        },
    ),
    GoModule(
        "metrics-server",
        "sigs.k8s.io/metrics-server",
        {"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"},
    ),
    GoModule(
        "keda",
        "github.com/kedacore/keda/v2",
        {
            "keda-operator": "github.com/kedacore/keda/v2/cmd/operator",
            "keda-adapter": "github.com/kedacore/keda/v2/cmd/adapter",
        },
        {"github.com/kedacore/keda/v2/version.Version": "2.20.2"},
        shipped={
            **{f"keda-crd-{kind}.yaml": f"config/crd/bases/{kind}.yaml" for kind in KEDA_KINDS},
            "keda-role.yaml": "config/rbac/role.yaml",
            "keda-role-binding.yaml": "config/rbac/role_binding.yaml",
            "keda-metrics-role.yaml": "config/metrics-server/role.yaml",
            "keda-metrics-role-binding.yaml": "config/metrics-server/role_binding.yaml",
        },
    ),
    GoModule(
        "versitygw",
        "github.com/versity/versitygw",
        {"versitygw": "github.com/versity/versitygw/cmd/versitygw"},
    ),
    GoModule(
        "cert-manager",
        "github.com/cert-manager/cert-manager",
        {
            "cert-manager-controller": "github.com/cert-manager/cert-manager/cmd/controller",
            "cert-manager-cainjector": "github.com/cert-manager/cert-manager/cmd/cainjector",
        },
        shipped={file: f"deploy/crds/{file}" for file in CERT_MANAGER_KINDS},
    ),
)


@dataclass(frozen=True)
class Binaries:
    """What was built, by name: binaries and the files that their modules ship."""

    root: Path

    def path(self, name: str) -> Path:
        for module in MODULES:
            if name in module.binaries or name in module.shipped:
                return self.root / module.key() / name
        raise ClusterFault(f"no module of tests/cluster/go builds {name}: add it to tests/cluster/binaries.py")

    @property
    def folders(self) -> list[Path]:
        """For a PATH."""
        return [self.root / module.key() for module in MODULES]

    def missing(self) -> list[str]:
        return [
            name for module in MODULES for name in (*module.binaries, *module.shipped) if not self.path(name).is_file()
        ]


def binaries(checkout: Path = CHECKOUT) -> Binaries:
    return Binaries(Layout(checkout=checkout).cache / "bin")


def build(checkout: Path = CHECKOUT) -> Binaries:
    """Build what is missing, one binary after another; asks Go nothing when all is there."""
    built = binaries(checkout)
    if not built.missing():
        return built
    if shutil.which("go") is None:
        raise ClusterFault("the test cluster's binaries are built with Go, which is not here: install Go 1.26 or newer")
    with _only_builder(built.root):
        for module in MODULES:
            for name, package in module.binaries.items():
                if not built.path(name).is_file():
                    _build_one(module, package, built.path(name))
            _copy_shipped(module, built)
    return built


def _build_one(module: GoModule, package: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    command = ["go", "build", *BUILD_FLAGS, "-ldflags", module.linker_flags, "-o", str(unfinished), package]
    print(f"building {target.name} (once; minutes on an empty Go cache)", file=sys.stderr, flush=True)
    started = time.monotonic()
    environment = {**os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(command, cwd=module.folder, env=environment, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterFault(f"go build {package} in {module.folder} failed: {done.stderr.strip()[-2000:]}")
    unfinished.rename(target)
    print(f"built {target.name} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _copy_shipped(module: GoModule, built: Binaries) -> None:
    if not module.shipped:
        return
    command = ["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module.principal]
    done = subprocess.run(command, cwd=module.folder, capture_output=True, text=True, check=True)
    for name, path in module.shipped.items():
        shutil.copyfile(Path(done.stdout.strip()) / path, built.path(name))


@contextmanager
def _only_builder(root: Path) -> Iterator[None]:
    """Two builds at once would do the same work twice: the second waits for the first."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
