"""The table of signals agrees with what each server tells, and the operator's queries take no other names."""

import re

import pytest

from atalaya_operator.engines import BY_NAME
from atalaya_spec import ovms, tfs
from atalaya_spec.signals import ALL, BY_ENGINE, OPENVINO, TENSORFLOW, Signals

LABELS = {"model": "m", "namespace": "n"}
TABLES = [pytest.param(OPENVINO, ovms.server(), id="openvino"), pytest.param(TENSORFLOW, tfs.server(), id="tensorflow")]


def names(signals: Signals) -> set[str]:
    told = (signals.latency, signals.images, signals.in_flight, signals.queue, signals.capacity, signals.ready)
    return {name for name in (*told, *(one.name for one in signals.requests)) if name}


@pytest.mark.parametrize(("signals", "server"), TABLES)
def test_every_name_and_label_is_one_of_the_originals(signals: Signals, server: ovms.ModelServer) -> None:
    known = server.metrics.labels
    assert names(signals) <= set(known) - server.metrics.optional
    for name in names(signals):
        assert signals.model_label in known[name]
        assert not signals.version_label or signals.version_label in known[name]
    for one in signals.requests:
        assert set(signals.only) | ({one.code_label} if one.code_label else set()) <= set(known[one.name])


def test_every_engine_has_its_row() -> None:
    assert set(BY_ENGINE) == set(BY_NAME)
    assert all(name.startswith(one.prefix) for one in ALL for name in names(one))
    assert len({one.prefix for one in ALL}) == len(ALL)


@pytest.mark.parametrize("engine", BY_NAME)
@pytest.mark.parametrize("signal", ["concurrency", "queue", "latencyP95"])
def test_the_autoscalers_queries_take_the_tables_names(engine: str, signal: str) -> None:
    if engine == "tensorflow" and signal == "queue":
        with pytest.raises(KeyError):
            BY_NAME[engine].signal(signal, LABELS)
        return
    asked = BY_NAME[engine].signal(signal, LABELS)
    used = set(re.findall(r"((?:atalaya|ovms)_\w+|:tensorflow:[\w:]+)", asked))
    assert used
    assert {re.sub("_(bucket|sum)$", "", name) for name in used} <= names(BY_ENGINE[engine])
