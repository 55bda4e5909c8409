"""Waiting calls become one batch, and each gets its own rows of the answer."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atalaya_serving import batching
from atalaya_serving.batching import Batching, BatchingExecutor
from atalaya_serving.datatypes import Encoded
from atalaya_serving.engines.base import LoadOptions, TensorSpec
from atalaya_serving.errors import DeadlineExpired, InvalidRequest, SettingsError
from atalaya_serving.executor import NO_DEADLINE, Job, Outcome
from atalaya_serving.repository import ModelRepository
from atalaya_serving.settings import ModelSettings, Settings, parse_settings
from builders_serving import FakeEngine, FakeModel, fake_version


class Doubling:
    """y = 2 x; notes the rows of each run, holds while `gate` is closed, refuses what is negative."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.entered, self.gate = threading.Event(), threading.Event()

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[int], signature: str = "") -> list[np.ndarray]:
        self.entered.set()
        assert self.gate.wait(60)
        self.runs.append(len(inputs[0]))
        if (inputs[0] < 0).any():
            raise InvalidRequest("negative")
        return [2 * inputs[0]]


class Calls:
    """Submits jobs to a batching executor whose only slot is held by a first call, which waits for no others."""

    def __init__(self, batching: Batching, first_rows: int = 1) -> None:
        self.slot = Doubling()
        self.executor = BatchingExecutor("m-1", [self.slot], 100, batching)
        self.answers: dict[int, Outcome] = {}
        self.send(0, first_rows)
        assert self.slot.entered.wait(60)

    def send(
        self, value: int, rows: int = 1, width: int = 2, deadline: float = NO_DEADLINE, signature: str = ""
    ) -> None:
        def done(outcome: Outcome) -> None:
            outcome.tensors = [tensor.copy() for tensor in outcome.tensors]
            self.answers[value] = outcome

        tensor = np.full((rows, width), value, np.float32)
        self.executor.submit(Job([tensor], [0], rows, done, deadline, signature=signature))

    def wait_for(self, value: int) -> None:
        until = time.monotonic() + 60
        while value not in self.answers:
            assert time.monotonic() < until, f"{value} is not answered"
            time.sleep(0.001)

    def answered(self) -> dict[int, Outcome]:
        self.slot.gate.set()
        self.executor.close()
        return self.answers


def test_waiting_calls_run_as_one_batch_and_get_their_own_rows() -> None:
    calls = Calls(Batching(max_rows=8))
    for value, rows in ((1, 1), (2, 3), (3, 2)):
        calls.send(value, rows)
    answers = calls.answered()
    assert calls.slot.runs == [1, 6]
    for value, rows in ((1, 1), (2, 3), (3, 2)):
        assert answers[value].tensors[0].tolist() == [[2.0 * value] * 2] * rows
        assert answers[value].execution is not None
        assert answers[value].execution.rows == rows


def test_a_batch_is_never_larger_than_allowed() -> None:
    calls = Calls(Batching(max_rows=4))
    for value in range(1, 7):
        calls.send(value)
    calls.send(7, rows=9)
    answers = calls.answered()
    assert calls.slot.runs == [1, 4, 2, 9]
    assert set(answers) == set(range(8))


def test_a_batch_is_filled_up_to_an_allowed_size() -> None:
    calls = Calls(Batching(max_rows=8, allowed_rows=(2, 4, 8)))
    for value in (1, 2, 3):
        calls.send(value)
    answers = calls.answered()
    assert calls.slot.runs == [1, 4]
    assert [answers[value].tensors[0].shape for value in (1, 2, 3)] == [(1, 2)] * 3


def test_what_does_not_fit_together_runs_apart() -> None:
    calls = Calls(Batching(max_rows=8))
    calls.send(1)
    calls.send(2, width=3)
    calls.send(3, signature="other")
    calls.send(4)
    answers = calls.answered()
    assert calls.slot.runs == [1, 2, 1, 1]
    assert answers[2].tensors[0].tolist() == [[4.0] * 3]


def test_a_call_that_spoils_the_batch_fails_alone() -> None:
    calls = Calls(Batching(max_rows=8))
    for value in (1, -2, 3):
        calls.send(value)
    answers = calls.answered()
    assert isinstance(answers[-2].error, InvalidRequest)
    assert [answers[value].tensors[0].tolist() for value in (1, 3)] == [[[2.0] * 2], [[6.0] * 2]]


def test_a_late_call_is_left_out() -> None:
    calls = Calls(Batching(max_rows=8))
    calls.send(1)
    calls.send(2, deadline=time.monotonic() + 0.01)
    time.sleep(0.05)
    answers = calls.answered()
    assert isinstance(answers[2].error, DeadlineExpired)
    assert calls.slot.runs == [1, 1]


def test_a_batch_waits_for_more_calls_up_to_its_timeout() -> None:
    calls = Calls(Batching(max_rows=3, timeout_seconds=120), first_rows=3)
    calls.slot.gate.set()
    calls.wait_for(0)
    for value in (1, 2, 3):
        calls.send(value)
        time.sleep(0.05)
    calls.wait_for(3)  # a full batch must not wait on
    assert calls.slot.runs[1:] == [3]
    calls.executor.close()


def test_a_batch_waits_no_longer_than_the_first_deadline_in_it() -> None:
    calls = Calls(Batching(max_rows=8, timeout_seconds=120), first_rows=8)
    calls.slot.gate.set()
    calls.wait_for(0)
    calls.send(1, deadline=time.monotonic() + 0.05)
    calls.send(2)
    calls.wait_for(1)  # it must not wait for the batch's timeout
    assert isinstance(calls.answers[1].error, DeadlineExpired)
    assert calls.answered()[2].error is None


def test_values_that_cannot_be_decoded_are_in_no_batch() -> None:
    calls = Calls(Batching(max_rows=8))

    def wrong() -> np.ndarray:
        raise InvalidRequest("these are no values")

    calls.send(1)
    outcomes: list[Outcome] = []
    given = Encoded((1, 2), np.dtype(np.float32), 8, wrong)
    calls.executor.submit(Job([given], [0], 1, outcomes.append))
    calls.send(2)
    answers = calls.answered()
    assert calls.slot.runs == [1, 2]
    assert isinstance(outcomes[0].error, InvalidRequest)
    assert [answers[value].tensors[0].tolist() for value in (1, 2)] == [[[2.0] * 2], [[4.0] * 2]]


def test_a_batch_that_cannot_be_made_runs_call_by_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise MemoryError

    calls = Calls(Batching(max_rows=8))
    monkeypatch.setattr(batching.np, "concatenate", broken)
    calls.send(1)
    calls.send(2)
    answers = calls.answered()
    assert calls.slot.runs == [1, 1, 1]
    assert [answers[value].error for value in (1, 2)] == [None, None]


def parameters(folder: Path, text: str, *more: str) -> Batching | None:
    file = folder / "batching.config"
    file.write_text(text)
    flags = ["--model_repository", str(folder), "--enable_batching", "--batching_parameters_file", str(file)]
    return parse_settings([*flags, *more]).tfs.batching


def test_the_parameters_file_is_read(tmp_path: Path) -> None:
    text = (
        "max_batch_size { value: 128 } batch_timeout_micros { value: 1000 } num_batch_threads { value: 8 }"
        " max_enqueued_batches { value: 10 } allowed_batch_sizes: 32 allowed_batch_sizes: 128"
    )
    assert parameters(tmp_path, text) == Batching(128, 0.001, (32, 128), 8, 1280)
    assert parse_settings(["--model_repository", "m", "--enable_batching"]).tfs.batching == Batching()
    assert parse_settings(["--model_repository", "m"]).tfs.batching is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size is at least 1"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "must rise and end with max_batch_size"),
        ("pad_variable_length_inputs: true", "pad_variable_length_inputs is not supported"),
        ("max_batch: 3", "is no text proto"),
    ],
)
def test_wrong_parameters_are_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parameters(tmp_path, text)


def test_a_parameters_file_without_batching_is_told() -> None:
    with pytest.raises(SettingsError, match="without --enable_batching does nothing"):
        parse_settings(["--model_repository", "m", "--batching_parameters_file", "b"])


@pytest.mark.parametrize("width", [-1, 4], ids=["free batch", "fixed batch"])
def test_each_model_has_its_own_batching_where_its_batch_is_free(
    width: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Engine(FakeEngine):
        def load(self, folder: Path, options: LoadOptions) -> FakeModel:
            x = TensorSpec("x", "FP32", (width, 4), ((0, -1), (4, 4)))
            return FakeModel([x], [replace(x, name="y")], super().load(folder, options).slots)

    for name in ("gathered", "plain"):
        fake_version(tmp_path, name, 1)
    wanted = ModelSettings("gathered", tmp_path / "gathered", batching=Batching(8, 0.002))
    models = ModelRepository(Settings((wanted, ModelSettings("plain", tmp_path / "plain"))), Engine())
    models.start()
    try:
        gathers = {one.name: isinstance(one.executor, BatchingExecutor) for one in models.served()}
    finally:
        models.stop()
    assert gathers == {"gathered": width == -1, "plain": False}
    assert ("gathers no batches" in caplog.text) == (width != -1)
