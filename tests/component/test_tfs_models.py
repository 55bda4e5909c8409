"""ModelService against a running server: the life of versions, configs that change, labels that move under load."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

import builders_tfs as tfs
from atalaya_serving.batching import Batching
from atalaya_serving.engines.choice import Engines
from atalaya_serving.policies import ALL, VersionPolicy
from atalaya_serving.server import Server
from atalaya_serving.settings import ModelSettings
from atalaya_serving.tfs.flags import TfsSettings
from builders_serving import FakeEngine, fake_version, running, save, scale

CODES = grpc.StatusCode
X = np.ones((1, 4), np.float32)


@contextmanager
def serving(engine: Any, *models: ModelSettings, **changes: Any) -> Iterator[tuple[Server, tfs.Stubs]]:
    changes = {"model_repository": None, "models": models} | changes
    with (
        running(Path(), engine, **changes) as server,
        grpc.insecure_channel(server.grpc.address) as channel,
    ):
        yield server, tfs.Stubs(channel)


def config(root: Path, versions: str, labels: str = "", name: str = "m", platform: str = "tensorflow") -> str:
    policy = f"model_version_policy {{ {versions} }}" if versions else ""
    return (
        f"model_config_list {{ config {{ name: '{name}' base_path: '{root / name}' model_platform: '{platform}'"
        f" {policy} {labels} }} }}"
    )


def label(name: str, version: int) -> str:
    return f"version_labels {{ key: '{name}' value: {version} }}"


def refusal(call: Any, *given: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*given)
    return caught.value.code(), caught.value.details()


def until(is_so: Any) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


class SlowEngine(FakeEngine):
    """Loads only while `may_load` is set."""

    may_load = threading.Event()

    def load(self, folder: Path, options: Any) -> Any:
        assert self.may_load.wait(20)
        return super().load(folder, options)


def test_status_follows_a_version_through_its_life(tmp_path: Path) -> None:
    engine = SlowEngine()
    engine.may_load.set()
    fake_version(tmp_path, "m", 1)
    with serving(engine, ModelSettings("m", tmp_path / "m", ALL)) as (server, stubs):
        assert stubs.states("m") == {1: "AVAILABLE"}
        engine.may_load.clear()
        fake_version(tmp_path, "m", 2)
        loading = threading.Thread(target=server.repository.load, args=["m"])
        loading.start()
        until(lambda: stubs.states("m") == {1: "AVAILABLE", 2: "LOADING"})
        engine.may_load.set()
        loading.join()
        assert stubs.states("m") == {1: "AVAILABLE", 2: "AVAILABLE"}
        engine.gate.clear()
        held = stubs.prediction.Predict.future(tfs.predict_request("m", version=1, x=X), timeout=20)
        until(lambda: server.repository.resolve("m", "1").executor.running == 1)
        stubs.reload(config(tmp_path, "specific { versions: 2 }"))
        assert stubs.states("m") == {1: "UNLOADING", 2: "AVAILABLE"}
        engine.gate.set()
        assert tfs.arrays(held.result())["y"].tolist() == X.tolist()
        until(lambda: stubs.states("m") == {1: "END", 2: "AVAILABLE"})


def test_a_failed_load_ends_with_its_reason_and_hurts_no_other(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    fake_version(tmp_path, "m", 2, "broken")
    with serving(FakeEngine(), ModelSettings("m", tmp_path / "m", ALL)) as (server, stubs):
        assert stubs.states("m") == {1: "AVAILABLE", 2: "END"}
        failed = stubs.status("m", version=2).model_version_status[0].status
        assert failed.error_code == CODES.FAILED_PRECONDITION.value[0]
        assert "is broken" in failed.error_message
        assert stubs.outputs("m", x=X)["y"].tolist() == X.tolist()
        told = httpx.get(f"http://{server.rest.address}/v1/models/m").json()["model_version_status"]
        assert [(one["version"], one["state"], one["status"]["error_code"]) for one in told] == [
            ("2", "END", "FAILED_PRECONDITION"), ("1", "AVAILABLE", "OK")
        ]  # fmt: skip


def test_a_model_that_is_not_loaded_is_not_found(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1, "broken")
    with serving(FakeEngine(), ModelSettings("m", tmp_path / "m")) as (_, stubs):
        told = refusal(stubs.predict, tfs.predict_request("m", x=X))
        assert told == (CODES.NOT_FOUND, "Servable not found for request: Latest(m)")


@pytest.mark.parametrize("backend", ["openvino", "tensorflow"])
def test_a_config_changes_what_is_served(tmp_path: Path, backend: str) -> None:
    for version in (1, 2):
        tfs.save_half(tmp_path, "m", version, plus=10.0 * version)
    tfs.save_half(tmp_path, "other", 1, plus=5.0)
    given = ModelSettings("m", tmp_path / "m", VersionPolicy(specific=(1,)))
    with serving(Engines(), given, backend=backend) as (_, stubs):
        zeros = np.zeros((1, 4), np.float32)
        assert stubs.outputs("m", x=zeros)["y"][0, 0] == 10.0
        assert stubs.reload(config(tmp_path, "all {}")).status.error_code == 0
        assert stubs.outputs("m", x=zeros)["y"][0, 0] == 20.0
        assert tfs.arrays(stubs.predict(tfs.predict_request("m", version=1, x=zeros)))["y"][0, 0] == 10.0
        stubs.reload(config(tmp_path, "latest { num_versions: 1 }"))
        until(lambda: stubs.states("m") == {1: "END", 2: "AVAILABLE"})
        stubs.reload(config(tmp_path, "", name="other"))
        assert stubs.outputs("other", x=zeros)["y"][0, 0] == 5.0
        assert refusal(stubs.predict, tfs.predict_request("m", x=zeros))[0] == CODES.NOT_FOUND
        until(lambda: stubs.states("m") == {1: "END", 2: "END"})


def test_a_platform_in_the_config_chooses_the_engine(tmp_path: Path) -> None:
    save(scale(3.0), tmp_path, "m")
    with serving(Engines(), backend="tensorflow") as (_, stubs):
        stubs.reload(config(tmp_path, "", platform="openvino"))
        assert stubs.outputs("m", x=X)["y"].tolist() == [[3.0] * 4]


def test_a_refused_config_changes_nothing(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    with serving(FakeEngine(), ModelSettings("m", tmp_path / "m")) as (_, stubs):
        one = config(tmp_path, "")
        entry = one.removeprefix("model_config_list { ").removesuffix(" }")
        refused = {
            f"model_config_list {{ {entry} {entry} }}": "Illegal to list model m multiple times in config list",
            one.replace(str(tmp_path), "models"): "Expected model m to have an absolute path or URI",
            config(tmp_path, "", platform="pytorch"): "Model m requests unsupported platform pytorch",
            "": "ServerModelConfig type not supported by HandleReloadConfigRequest.",
        }
        for text, message in refused.items():
            code, told = refusal(stubs.reload, text)
            assert code == CODES.INVALID_ARGUMENT
            assert told.startswith(message)
        code, told = refusal(stubs.reload, config(tmp_path, "", label("stable", 7)))
        assert (code, told) == (
            CODES.FAILED_PRECONDITION,
            "Request to assign label to version 7 of model m, which is not currently available for inference",
        )
        assert stubs.states("m") == {1: "AVAILABLE"}


def test_a_new_model_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    fake_version(tmp_path, "bad", 1, "broken")
    with serving(FakeEngine(), ModelSettings("m", tmp_path / "m")) as (_, stubs):
        code, told = refusal(stubs.reload, config(tmp_path, "", name="bad"))
        assert code == CODES.UNKNOWN
        assert told.startswith("1 model(s) did not become available: {{bad due to error: ")


def test_a_label_names_a_version_over_both_protocols(tmp_path: Path) -> None:
    for version in (1, 2):
        fake_version(tmp_path, "m", version)
    with serving(FakeEngine(), ModelSettings("m", tmp_path / "m", ALL)) as (server, stubs):
        stubs.reload(config(tmp_path, "all {}", label("stable", 1) + label("canary", 2)))
        stable = stubs.predict(tfs.predict_request("m", label="stable", x=X))
        assert (stable.model_spec.version.value, tfs.arrays(stable)["y"][0, 0]) == (1, 1.0)
        address = f"http://{server.rest.address}/v1/models/m/labels/canary"
        assert httpx.post(f"{address}:predict", json={"instances": X.tolist()}).json() == {"predictions": [[2.0] * 4]}
        assert httpx.get(address).json()["model_version_status"][0]["version"] == "2"
        assert httpx.get(f"{address}/metadata").json()["model_spec"]["version"] == "2"


def test_a_new_label_may_wait_for_its_version_only_where_that_is_allowed(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    allowed = TfsSettings(allow_new_labels=True)
    with serving(FakeEngine(), ModelSettings("m", tmp_path / "m", ALL), tfs=allowed) as (server, stubs):
        stubs.reload(config(tmp_path, "all {}", label("next", 2) + label("stable", 1)))
        request = tfs.predict_request("m", label="next", x=X)
        assert refusal(stubs.predict, request) == (CODES.NOT_FOUND, "Servable not found for request: Specific(m, 2)")
        moved = config(tmp_path, "all {}", label("next", 2) + label("stable", 2))
        assert refusal(stubs.reload, moved)[0] == CODES.FAILED_PRECONDITION
        fake_version(tmp_path, "m", 2)
        server.repository.load("m")
        assert stubs.predict(request).model_spec.version.value == 2


@pytest.mark.parametrize("backend", ["fake", "tensorflow"])
def test_labels_move_under_load_without_a_failed_call(tmp_path: Path, backend: str) -> None:
    """Versions come and go beneath a label while eight callers use it; each answer is of the version it names."""
    engine: Any = FakeEngine(seconds=0.001) if backend == "fake" else Engines()
    for version in (1, 2, 3):
        if backend == "fake":
            fake_version(tmp_path, "m", version)
        else:
            tfs.save_half(tmp_path, "m", version, plus=float(version))
    factor = {"fake": float, "tensorflow": lambda version: 0.5 + version}[backend]
    wrong: list[str] = []
    answered: dict[int, int] = {}
    stop = threading.Event()

    def ask(address: str, lock: threading.Lock) -> None:
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stubs = tfs.Stubs(channel)
            while not stop.is_set():
                try:
                    answer = stubs.predict(tfs.predict_request("m", label="stable", x=X))
                except grpc.RpcError as error:
                    wrong.append(f"{error.code()}: {error.details()}")
                    return
                version = answer.model_spec.version.value
                with lock:
                    answered[version] = answered.get(version, 0) + 1
                if tfs.arrays(answer)["y"][0, 0] != factor(version):
                    wrong.append(f"version {version} answered {tfs.arrays(answer)['y'][0, 0]}")

    used_backend = {"backend": backend} if backend == "tensorflow" else {}
    with serving(engine, ModelSettings("m", tmp_path / "m", VersionPolicy(specific=(1,))), **used_backend) as (
        server,
        stubs,
    ):
        stubs.reload(config(tmp_path, "specific { versions: 1 }", label("stable", 1)))
        lock = threading.Lock()
        callers = [threading.Thread(target=ask, args=(server.grpc.address, lock)) for _ in range(8)]
        for caller in callers:
            caller.start()
        for before, after in [(1, 2), (2, 3), (3, 1), (1, 3), (3, 2)]:
            stubs.reload(
                config(tmp_path, f"specific {{ versions: {before} versions: {after} }}", label("stable", before))
            )
            stubs.reload(config(tmp_path, f"specific {{ versions: {after} }}", label("stable", after)))
            enough = answered.get(after, 0) + 25
            until(lambda after=after, enough=enough: wrong or answered.get(after, 0) >= enough)  # type: ignore[misc]
        stop.set()
        for caller in callers:
            caller.join()
    assert wrong == []
    assert set(answered) == {1, 2, 3}
    assert sum(answered.values()) > 100


def test_calls_that_wait_are_computed_as_one_batch(tmp_path: Path) -> None:
    tfs.save_half(tmp_path, "half")
    batching = TfsSettings(batching=Batching(max_rows=32, timeout_seconds=0.2, threads=1))
    given = ModelSettings("half", tmp_path / "half")
    with serving(Engines(), given, backend="tensorflow", tfs=batching) as (server, stubs):
        requests = [tfs.predict_request("half", x=np.full((rows, 4), rows, np.float32)) for rows in range(1, 7)]
        futures = [stubs.prediction.Predict.future(request, timeout=20) for request in requests]
        for rows, future in enumerate(futures, start=1):
            assert tfs.arrays(future.result())["y"].tolist() == [[rows / 2 + 2] * 4] * rows
        metrics = httpx.get(f"http://{server.rest.address}/metrics").text
    assert 'atalaya_inferences_total{model="half",version="1"} 21.0' in metrics


def test_calls_that_wait_past_their_deadline_are_never_computed(tmp_path: Path) -> None:
    engine = FakeEngine(slot_count=1)
    fake_version(tmp_path, "m", 1)
    with serving(engine, ModelSettings("m", tmp_path / "m")) as (server, stubs):
        engine.gate.clear()
        held = stubs.prediction.Predict.future(tfs.predict_request("m", x=X), timeout=20)
        until(lambda: server.repository.resolve("m", "").executor.running == 1)
        late = tfs.predict_request("m", x=5 * X)
        with pytest.raises(grpc.RpcError) as caught:
            stubs.prediction.Predict(late, timeout=0.2)
        assert caught.value.code() == CODES.DEADLINE_EXCEEDED
        cancelled = stubs.prediction.Predict.future(tfs.predict_request("m", x=7 * X), timeout=20)
        until(lambda: server.repository.resolve("m", "").executor.depth == 1)  # the late one is answered already
        cancelled.cancel()
        until(lambda: server.repository.resolve("m", "").executor.depth == 0)
        engine.gate.set()
        held.result()
    assert engine.computed == [1.0]
