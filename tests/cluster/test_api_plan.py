"""`atalaya plan --diff` on a real API server: nothing is written, and each object's fate is told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from atalaya_operator.names import FIELD_MANAGER
from cluster.access import Cluster
from cluster.crd import install_crds

MODEL = """apiVersion: serving.atalaya.dev/v1alpha1
kind: InferenceModel
metadata: {{name: m}}
spec:
  engine: openvino
  engineVersion: "{version}"
  model: {{uri: s3://models/m, versions: {{specific: [3]}}}}
  protocols: [kserve-v2]
"""


def atalaya_plan(cluster: Cluster, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "atalaya", "plan", *arguments]
    return subprocess.run(command, env=cluster.environment, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("cluster")
def test_the_difference_tells_what_is_created_changed_and_removed(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    install_crds(cluster)
    file = tmp_path / "model.yaml"

    def verdicts(version: str) -> dict[str, str]:
        file.write_text(MODEL.format(version=version))
        done = atalaya_plan(cluster, "--diff", "--json", "--namespace", namespace, str(file))
        assert done.returncode == 0, done.stderr
        (one,) = json.loads(done.stdout)["models"]
        return {f"{change['kind']}/{change['name']}": change["verdict"] for change in one["changes"]}

    assert set(verdicts("2026.2.1").values()) == {"created"}
    assert cluster.get("deployments", namespace)["items"] == []  # it was a dry run

    objects = atalaya_plan(cluster, "--namespace", namespace, str(file)).stdout
    core = "\n---\n".join(one for one in objects.split("\n---\n") if "PodMonitor" not in one)
    cluster.kubectl("apply", "--server-side", f"--field-manager={FIELD_MANAGER}", "--filename=-", stdin=core)
    again = {name: verdict for name, verdict in verdicts("2026.2.1").items() if "PodMonitor" not in name}
    assert set(again.values()) == {"unchanged"}

    other = verdicts("2026.3")
    assert other["Service/m"] == "changed"
    assert sorted(verdict for name, verdict in other.items() if name.startswith("Deployment/")) == [
        "created",
        "removed",
    ]


def test_a_namespace_that_is_not_there_is_told_in_one_line(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(MODEL.format(version="2026.3"))
    done = atalaya_plan(cluster, "--diff", "--namespace", "nowhere", str(file))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "atalaya plan: error: ServiceAccount m-server: there is no namespace nowhere; create it."
    ]
