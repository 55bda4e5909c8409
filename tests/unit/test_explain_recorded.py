"""Every fault as a real API server, scheduler, kubelet and containerd showed it, explained as it must be.

The recordings are made by tests/cluster/test_explained.py, with ATALAYA_RECORD set to their folder.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from atalaya_operator.essence import pod_essence
from atalaya_operator.explain.case import Asked, Case
from atalaya_operator.explain.explain import explain
from atalaya_operator.explain.pods import pod
from atalaya_operator.explain.reasons import ALL
from atalaya_operator.witness import by_pod
from builders_explain import target

RECORDED = Path(__file__).parent / "explained"
FILES = sorted(RECORDED.glob("*.json"))


def case(recorded: dict[str, Any]) -> Case:
    spec = {key: value for key, value in recorded["spec"].items() if value is not None}
    pods = tuple(pod(pod_essence(one)) for one in recorded["pods"])
    nodes = {one["metadata"]["name"]: one for one in recorded["nodes"]}
    logs = {(one.name, "server"): recorded["log"] for one in pods}
    asked = Asked(by_pod(recorded["warnings"]), logs)
    return Case(target(**spec), recorded["deployment"], pods, nodes, recorded["now"], asked)


@pytest.mark.parametrize("file", [pytest.param(file, id=file.stem) for file in FILES])
def test_what_a_real_cluster_showed_is_explained(file: Path) -> None:
    recorded = json.loads(file.read_text())
    found = explain(case(recorded))
    assert found
    assert found.reason == recorded["reason"]
    for part in recorded["evidence"]:
        assert part in found.message
    assert found.next_step


def test_the_twelve_faults_are_recorded() -> None:
    words = {json.loads(file.read_text())["reason"] for file in FILES}
    assert words <= {one.word for one in ALL}
    assert words >= {"ImageNotFound", "ImageArchitecture", "CrashLoop", "ModelPathNotFound", "ModelFileCorrupt",
                     "BadCredentials", "OutOfMemory", "NoNodeWithDevice", "DeviceInUse", "QuotaExceeded",
                     "ProbeFailing", "NodeLost"}  # fmt: skip
