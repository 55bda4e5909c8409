"""The cluster as pytest fixtures: one for the session, a namespace of its own for each test.

A conftest takes them by import. `ATALAYA_TEST_CLUSTER=dev` uses the cluster of `make cluster-up` instead of a new one,
for a quick look at one test.
"""

import os
import re
import uuid
from collections.abc import Iterator

import pytest

from cluster import evidence, lifecycle, prerequisites
from cluster.access import Cluster, developer_cluster
from cluster.errors import is_continuous_integration
from cluster.layout import CHECKOUT
from cluster.slots import take_test_slot

EVIDENCE = CHECKOUT / "build" / "cluster-evidence"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real cluster: one real node, accelerator nodes by KWOK, DNS, metrics, a registry."""
    if os.environ.get("ATALAYA_TEST_CLUSTER") == "dev":
        attached = developer_cluster()
        yield attached
        attached.detach()
        return
    require_prerequisites()
    layout, lock = take_test_slot(CHECKOUT)
    try:
        running = lifecycle.start(layout)
        try:
            yield running.cluster
        finally:
            running.end()
    finally:
        lock.release()


def require_prerequisites() -> None:
    """Skip, or fail under CI, with all that is missing and what to do about it."""
    lacking = prerequisites.missing()
    if lacking:
        do_without("the test cluster cannot start: " + "; ".join(lacking))


def do_without(message: str) -> None:
    pytest.fail(message) if is_continuous_integration() else pytest.skip(message)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for one test, deleted behind it without waiting."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.originalname.removeprefix("test_"))[:30].strip("-")
    name = f"{words}-{uuid.uuid4().hex[:6]}"
    cluster.kubectl("create", "namespace", name)
    cluster.wait("serviceaccount/default", "create", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def collect_evidence(item: pytest.Item) -> None:
    """To be called by a report hook when a test that used the cluster failed."""
    used = getattr(item, "funcargs", {}).get("cluster")
    if isinstance(used, Cluster):
        folder = evidence.collect(used, EVIDENCE / re.sub(r"[^A-Za-z0-9_-]+", "-", item.name))
        item.add_report_section("call", "cluster evidence", str(folder))
