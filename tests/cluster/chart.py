"""A release of our chart in the test cluster, by the real Helm."""

import subprocess
from dataclasses import dataclass

from cluster.access import Cluster
from cluster.errors import ClusterFault
from cluster.layout import CHECKOUT

CHART = CHECKOUT / "charts" / "atalaya"
NAME, NAMESPACE = "atalaya", "atalaya-system"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
_TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Release:
    """`values` are what `--set` takes."""

    cluster: Cluster

    def install(self, **values: str) -> str:
        """Install, and wait until all of it is ready. Answers what Helm tells the user."""
        return self._helm("install", NAME, str(CHART), *_waiting(), *_sets(values))

    def upgrade(self, **values: str) -> str:
        """The same with other values; what is not named stays as it was."""
        return self._helm("upgrade", NAME, str(CHART), "--reuse-values", *_waiting(), *_sets(values))

    def notes(self) -> str:
        """What Helm told the user when it installed."""
        return self._helm("get", "notes", NAME)

    def test(self) -> str:
        """`helm test`; its pod is gone afterwards unless it failed."""
        return self._helm("test", NAME)

    def uninstall(self) -> str:
        """Take it out, and wait until its pods are gone."""
        return self._helm("uninstall", NAME, "--ignore-not-found", "--wait", f"--timeout={_TIMEOUT_SECONDS}s")

    def _helm(self, *arguments: str) -> str:
        command = [str(self.cluster.binaries.path("helm")), *arguments, "--namespace", NAMESPACE]
        done = subprocess.run(
            command, env=self.cluster.environment, check=False, capture_output=True, text=True, timeout=600
        )
        if done.returncode != 0:
            seen = self.cluster.try_kubectl("describe", "pods", "--namespace", NAMESPACE).stdout[-3000:]
            raise ClusterFault(f"helm {' '.join(arguments[:2])} failed: {done.stderr.strip()}\n{done.stdout}\n{seen}")
        return done.stdout


def _waiting() -> list[str]:
    return ["--wait", f"--timeout={_TIMEOUT_SECONDS}s"]


def _sets(values: dict[str, str]) -> list[str]:
    """`faces__enabled="true"` is `--set faces.enabled=true`."""
    return [f"--set={name.replace('__', '.')}={value}" for name, value in values.items()]
