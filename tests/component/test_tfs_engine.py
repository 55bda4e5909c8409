"""The TensorFlow engine by itself: warmed up before it serves, its threads from flags, its failures in one line."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import builders_tfs as tfs
from atalaya_serving.engines.base import LoadOptions
from atalaya_serving.engines.choice import Engines
from atalaya_serving.engines.tensorflow import TensorFlowEngine
from atalaya_serving.errors import InvalidRequest, ModelLoadFailed

THREADS = """
import tensorflow as tf
from atalaya_serving.engines.tensorflow import TensorFlowEngine
TensorFlowEngine(3, 2)
print(tf.config.threading.get_intra_op_parallelism_threads(), tf.config.threading.get_inter_op_parallelism_threads())
"""


def save_counter(folder: Path) -> None:
    """Each run counts itself and answers how many there were."""

    class Counter(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.runs = tf.Variable(0, dtype=tf.int32)

        @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, "x")])
        def count(self, x: Any) -> Any:
            return {"runs": self.runs.assign_add(1) + tf.cast(tf.reduce_sum(x), tf.int32)}

    module = Counter()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.count})


def test_a_signature_has_run_once_before_it_serves(tmp_path: Path) -> None:
    save_counter(tmp_path)
    model = TensorFlowEngine().load(tmp_path, LoadOptions(slots=2))
    assert len(model.slots) == 2
    x = np.zeros((1, 1), np.float32)
    assert [int(slot.run([x], [0])[0]) for slot in model.slots] == [2, 3]


def test_each_signature_is_told_with_its_kind(tmp_path: Path) -> None:
    model = TensorFlowEngine().load(tfs.save_parsing(tmp_path), LoadOptions())
    kinds = {name: one.method.rpartition("/")[2] for name, one in model.signatures.items()}
    assert kinds == {"serving_default": "predict", "labels": "classify", "value": "regress"}
    assert [spec.name for spec in model.outputs] == ["scores"]


def test_what_the_graph_refuses_is_the_callers_fault(tmp_path: Path) -> None:
    model = TensorFlowEngine().load(tfs.save_parsing(tmp_path), LoadOptions())
    damaged = np.array([b"no example"], object)
    with pytest.raises(InvalidRequest, match="Could not parse example input"):
        model.slots[0].run([damaged], [0], "value")


def test_the_threads_are_those_of_the_flags() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, text=True, timeout=120, check=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert ran.stdout.split() == ["3", "2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "holds no saved_model.pb, which the TensorFlow engine needs", id="nothing"),
        pytest.param(b"\xff\xff\xff", "is not a SavedModel that TensorFlow can load", id="damaged"),
        pytest.param(b"", "no graph has the tag 'serve'", id="empty"),
    ],
)
def test_a_folder_without_a_savedmodel_is_told_in_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ModelLoadFailed, match=message) as caught:
        TensorFlowEngine().load(tmp_path, LoadOptions())
    assert "\n" not in str(caught.value)


def test_without_tensorflow_the_next_step_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ModelLoadFailed, match=r"not installed .*; install atalaya\[tensorflow\], or choose openvino"):
        Engines().load(tmp_path, LoadOptions(backend="tensorflow"))
