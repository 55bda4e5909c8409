"""Where one test cluster keeps its files and which addresses it uses.

Files lie in the checkout's ignored `.cache/cluster`; names that the whole machine sees (the cgroup) carry a hash of the
checkout's path and the slot, so that clusters of several checkouts and runs stand side by side. Addresses are the same
in all of them: each cluster has a network namespace of its own.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DEVELOPER_SLOT = "dev"
TEST_SLOTS = ("test-0", "test-1", "test-2", "test-3")

NODE_NAME = "node-1"
NODE_ADDRESS = "198.18.255.1"
POD_RANGE = "198.18.0.0/24"  # pods of the real node
FAKE_POD_RANGE = "198.18.64.1/18"  # what KWOK hands out
CLUSTER_RANGE = "198.18.0.0/17"  # both of them
SERVICE_RANGE = "198.19.0.0/16"
API_SERVICE_ADDRESS = "198.19.0.1"
DNS_SERVICE_ADDRESS = "198.19.0.10"
API_PORT = 6443
REGISTRY_PORT = 5000
DOMAIN = "cluster.local"
IMAGE_HOST = "atalaya.test"  # images of ours; no such registry exists


@dataclass(frozen=True)
class Layout:
    """The folders of one cluster; pure paths, nothing is made here."""

    slot: str = DEVELOPER_SLOT
    checkout: Path = CHECKOUT

    @property
    def name(self) -> str:
        digest = hashlib.sha256(str(self.checkout).encode()).hexdigest()[:8]
        return f"atalaya-{digest}-{self.slot}"

    @property
    def cache(self) -> Path:
        return self.checkout / ".cache" / "cluster"

    @property
    def run(self) -> Path:
        return self.cache / "run" / self.slot

    @property
    def state_file(self) -> Path:
        return self.run / "state.json"

    @property
    def trash(self) -> Path:
        """On the same file system as what is thrown into it."""
        return self.cache / "trash"

    @property
    def lock_file(self) -> Path:
        return self.cache / "run" / f"{self.slot}.lock"

    @property
    def logs(self) -> Path:
        return self.run / "logs"

    @property
    def pki(self) -> Path:
        return self.run / "pki"

    @property
    def config(self) -> Path:
        return self.run / "config"

    @property
    def audit_log(self) -> Path:
        return self.logs / "audit.log"

    @property
    def kubeconfig(self) -> Path:
        """For programs outside the namespace: speaks to the forwarder on the loopback address."""
        return self.run / "kubeconfig"

    @property
    def inner_kubeconfig(self) -> Path:
        """For programs inside the namespace: the administrator's."""
        return self.config / "admin.kubeconfig"
