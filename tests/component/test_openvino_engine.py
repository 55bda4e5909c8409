"""The OpenVINO engine: what it reads, refuses, reshapes, and how batches in parts equal whole ones."""

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import yaml
from openvino import opset13 as ops

from atalaya_serving.engines import openvino as engine
from atalaya_serving.engines.base import LoadOptions
from atalaya_serving.engines.openvino_slots import OpenVinoEngine, OpenVinoSlot
from atalaya_serving.errors import ModelLoadFailed, ModelNotReady
from atalaya_spec.manifest import version_digest
from builders_serving import FakeEngine, arithmetic, running, save, scale

F32 = LoadOptions(precision="f32")


def manifest(folder: Path, **changes: object) -> None:
    told = {
        "apiVersion": "serving.atalaya.dev/v1alpha1", "kind": "ModelManifest", "name": "m", "version": 1,
        "digest": version_digest(folder), "task": "tile-classification", "precision": "fp32",
        "input": {"name": "tiles", "dtype": "float32", "shape": [-1, 8, 8, 1], "layout": "NHWC", "tileSize": 8,
                  "gsd": 0.5, "bands": ["gray"], "valueRange": [0, 1], "stretchPercentiles": [2, 98]},
        "output": {"name": "probability", "shape": [-1, 1], "meaning": "m", "labels": ["n", "y"],
                   "positiveClass": "y", "threshold": 0.5, "minValidShare": 0.5},
        "licence": "CC0-1.0", "trainingData": {"name": "none", "licence": "none", "description": "none"},
    }  # fmt: skip
    for key, value in changes.items():
        place, _, field = key.partition("__")
        if field:
            told[place][field] = value  # type: ignore[index]
        else:
            told[place] = value
    (folder / "manifest.yaml").write_text(yaml.safe_dump(told))


def mean_of_tile() -> ov.Model:
    given = ops.parameter([-1, 8, 8, 1], np.float32, name="tiles")
    flat = ops.reshape(given, ops.constant(np.array([-1, 64])), False)
    model = ov.Model([ops.reduce_mean(flat, ops.constant(np.array([1])), True)], [given], "mean")
    model.inputs[0].set_names({"tiles"})
    model.outputs[0].set_names({"probability"})
    return model


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"amx_bf16", "avx512_bf16"}, "bf16"),
        ({"avx512_bf16"}, "bf16"),
        ({"avx512f"}, "f32"),
        (set(), "auto"),
    ],
)
def test_the_precision_is_what_the_processor_multiplies_in_hardware(
    flags: set[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "processor_flags", lambda: frozenset(flags))
    assert engine.best_precision() == expected


def test_a_model_is_compiled_from_a_folder_and_from_a_file(tmp_path: Path) -> None:
    folder = save(scale(2.0), tmp_path, "m")
    for path in (folder, folder / "model.xml"):
        compiled = engine.compile_model(path, precision="f32", threads=1)
        assert compiled(np.ones((1, 4), np.float32))[0].tolist() == [[2, 2, 2, 2]]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        pytest.param("readme.txt", b"x", "holds no model; put model.xml", id="nothing there"),
        pytest.param("model.xml", b"<net", "is not a model that OpenVINO can read", id="corrupt IR"),
        pytest.param("model.onnx", b"\x08\x07garbage", "is not a model that OpenVINO can read", id="corrupt ONNX"),
        pytest.param("model.tflite", b"garbage", "is not a model that OpenVINO can read", id="corrupt TFLite"),
        pytest.param("saved_model.pb", b"garbage", "is not a model that OpenVINO can read", id="corrupt SavedModel"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelLoadFailed) as caught:
        OpenVinoEngine().load(tmp_path, F32)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_onnx_is_read_as_ir_is(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(onnx_that_adds_x_to_itself())
    loaded = OpenVinoEngine().load(tmp_path, F32)
    assert [spec.name for spec in (*loaded.inputs, *loaded.outputs)] == ["x", "y"]
    assert loaded.slots[0].run([np.array([[1, 2]], np.float32)], [0])[0].tolist() == [[2, 4]]


def onnx_that_adds_x_to_itself() -> bytes:
    """ONNX's protobuf by hand, by its field numbers: the package is not needed for anything else."""

    def field(number: int, value: bytes | str | int) -> bytes:
        if isinstance(value, int):
            return bytes([number << 3, value])
        content = value.encode() if isinstance(value, str) else value
        assert len(content) < 128
        return bytes([number << 3 | 2, len(content)]) + content

    batch_by_two = field(1, field(2, "batch")) + field(1, field(1, 2))
    tensor = field(2, field(1, field(1, 1) + field(2, batch_by_two)))
    node = field(1, "x") + field(1, "x") + field(2, "y") + field(4, "Add")
    graph = field(1, node) + field(2, "g") + field(11, field(1, "x") + tensor) + field(12, field(1, "y") + tensor)
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))


def test_weights_that_are_cut_short_are_refused(tmp_path: Path) -> None:
    given = ops.parameter([-1, 64], np.float32, name="x")
    weights = ops.constant(np.ones((64, 64), np.float32))
    folder = save(ov.Model([ops.matmul(given, weights, False, False)], [given], "m"), tmp_path, "m")
    file = folder / "model.bin"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelLoadFailed):
        OpenVinoEngine().load(folder, F32)


def test_a_device_that_is_not_here_is_told(tmp_path: Path) -> None:
    folder = save(scale(2.0), tmp_path, "m")
    with pytest.raises(ModelLoadFailed, match=r"cannot run on NPU: .*; check the device"):
        OpenVinoEngine().load(folder, LoadOptions(device="NPU"))


def test_shape_and_batch_can_be_fixed_as_in_ovms(tmp_path: Path) -> None:
    folder = save(arithmetic(), tmp_path, "m")
    fixed = OpenVinoEngine().load(folder, LoadOptions(precision="f32", shapes={"a": (2, 3), "b": (2, 3)}))
    assert [spec.shape for spec in (*fixed.inputs, *fixed.outputs)] == [(2, 3)] * 4
    batch = OpenVinoEngine().load(folder, LoadOptions(precision="f32", batch_size=5))
    assert [spec.shape for spec in batch.inputs] == [(5, 3)] * 2
    with pytest.raises(ModelLoadFailed, match="correct --shape"):
        OpenVinoEngine().load(save(mean_of_tile(), tmp_path, "s"), LoadOptions(shapes={"": (2, 5, 7)}))


def test_slots_and_properties_are_taken(tmp_path: Path) -> None:
    folder = save(scale(2.0), tmp_path, "m")
    loaded = OpenVinoEngine().load(folder, LoadOptions(precision="f32", slots=3, properties={"NUM_STREAMS": "1"}))
    assert len(loaded.slots) == 3
    assert loaded.precision == "f32"


@pytest.mark.parametrize("part", [1, 2, 4])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 16])
def test_a_batch_in_parts_gives_what_the_whole_gives(tmp_path: Path, part: int, rows: int) -> None:
    loaded = OpenVinoEngine().load(save(arithmetic(), tmp_path, "m"), F32)
    slot = loaded.slots[0]
    assert isinstance(slot, OpenVinoSlot)
    random = np.random.default_rng(rows)
    tensors = [random.standard_normal((rows, 3)).astype(np.float32) for _ in range(2)]
    slot.part_rows = part
    answers = slot.run(tensors, [1, 0])
    np.testing.assert_allclose(answers[0], tensors[0] - tensors[1], rtol=1e-6)
    np.testing.assert_allclose(answers[1], tensors[0] + tensors[1], rtol=1e-6)


def test_only_models_with_independent_rows_run_in_parts(tmp_path: Path) -> None:
    folder = save(mean_of_tile(), tmp_path, "m")
    told = OpenVinoEngine().load(folder, LoadOptions(precision="f32", rows_are_independent=False))
    assert all(isinstance(slot, OpenVinoSlot) and slot.part_rows == 0 for slot in told.slots)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"input__name": "x"}, "names input 'x', the model has 'tiles'", id="input name"),
        pytest.param({"input__shape": [-1, 9, 8, 1]}, "has shape [-1, 9, 8, 1] there and [-1, 8, 8, 1]", id="shape"),
        pytest.param({"input__dtype": "uint8"}, "is uint8 there and FP32 in the model", id="dtype"),
        pytest.param({"output__name": "p"}, "names output 'p', the model has 'probability'", id="output name"),
        pytest.param({"output__shape": [-1, 2]}, "has shape [-1, 2] there", id="output shape"),
        pytest.param({"digest": "sha256:" + "0" * 64}, "is for other model files", id="digest"),
        pytest.param({"licence": 3}, "is not a valid model manifest", id="schema"),
    ],
)
def test_a_manifest_that_contradicts_the_model_fails_its_load(
    tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    folder = save(mean_of_tile(), tmp_path, "m")
    manifest(folder, **changes)
    with running(tmp_path, OpenVinoEngine(), rest_port=0) as server:
        with pytest.raises(ModelNotReady) as caught:
            server.repository.resolve("m", "")
        assert told in str(caught.value)
        assert not server.dataplane.is_ready()


def test_a_manifest_that_agrees_is_kept_with_the_version(tmp_path: Path) -> None:
    folder = save(mean_of_tile(), tmp_path, "m")
    manifest(folder)
    with running(tmp_path, OpenVinoEngine(), rest_port=0) as server:
        served = server.repository.resolve("m", "")
        assert served.manifest is not None
        assert served.digest == served.manifest.digest


def test_the_fake_engine_of_other_tests_is_an_engine() -> None:
    assert FakeEngine().describe()["precision"] == "f32"
