"""What kind users get is labelled and tainted as the nodes that the tests run on."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.fake_nodes import STANDARD_NODES, FakeNode

KIND_CONFIG = Path(__file__).parents[2] / "kind-config.yaml"


@pytest.mark.parametrize("node", STANDARD_NODES, ids=lambda node: node.name)
def test_a_kind_worker_has_the_labels_and_taints_of_the_fake_node(node: FakeNode) -> None:
    workers = [worker for worker in yaml.safe_load(KIND_CONFIG.read_text())["nodes"] if worker.get("labels")]
    assert (node.labels, node.manifest()["spec"]["taints"]) in [
        (worker["labels"], taints(worker)) for worker in workers
    ]


def taints(worker: dict[str, Any]) -> Any:
    patches = [yaml.safe_load(patch) for patch in worker["kubeadmConfigPatches"]]
    return patches[0]["nodeRegistration"]["taints"]
