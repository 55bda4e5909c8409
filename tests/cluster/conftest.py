"""The cluster's fixtures for the tests of this folder, and evidence kept when one of them fails."""

from collections.abc import Generator

import pytest

from cluster.fixtures import cluster, collect_evidence, namespace

__all__ = ["cluster", "namespace"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when == "call":
        collect_evidence(item)
    return report
