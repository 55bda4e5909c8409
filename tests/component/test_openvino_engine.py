"""The OpenVINO engine: what it reads, refuses, reshapes, and how batches in parts equal whole ones."""

import tracemalloc
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import tensorflow as tf
import tritonclient.grpc as triton
import yaml
from openvino import opset13 as ops

import builders_tfs as tfs
from atalaya_serving.engines import openvino as engine
from atalaya_serving.engines import openvino_slots
from atalaya_serving.engines.base import LoadOptions
from atalaya_serving.engines.openvino_slots import OpenVinoEngine, OpenVinoSlot
from atalaya_serving.errors import ModelLoadFailed, ModelNotReady
from atalaya_spec.manifest import version_digest
from builders_serving import FakeEngine, arithmetic, echo, running, save, scale

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
    ("vendor", "flags", "expected"),
    [
        ("GenuineIntel", {"amx_bf16", "avx512_bf16"}, "bf16"),
        ("GenuineIntel", {"avx512_bf16"}, "f32"),
        ("AuthenticAMD", {"avx512_bf16"}, "bf16"),
        ("AuthenticAMD", {"avx512f"}, "f32"),
        ("", set(), "auto"),
    ],
)
def test_the_precision_is_what_the_processor_does_faster(
    vendor: str, flags: set[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "processor_vendor", lambda: vendor)
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


def bytes_and_numbers() -> ov.Model:
    """Two string tensors passed through beside x + x: the order of ports matters."""
    first, second = (ops.parameter([-1, 2], ov.Type.string, name=name) for name in ("first", "second"))
    x = ops.parameter([-1], np.float32, name="x")
    results = [ops.result(second), ops.result(ops.add(x, x)), ops.result(first)]
    model = ov.Model(results, [first, x, second], "mixed")
    for port, name in zip(model.inputs, ("first", "x", "second"), strict=True):
        port.set_names({name})
    return model


def objects(*rows: list[bytes]) -> np.ndarray:
    made = np.empty((len(rows), 2), object)
    for row, items in enumerate(rows):
        made[row] = items
    return made


def test_strings_of_any_bytes_pass_beside_numbers_and_each_through_its_own_port(tmp_path: Path) -> None:
    loaded = OpenVinoEngine().load(save(bytes_and_numbers(), tmp_path, "m"), F32)
    assert [(spec.name, spec.datatype, spec.shape) for spec in loaded.inputs] == [
        ("first", "BYTES", (-1, 2)),
        ("x", "FP32", (-1,)),
        ("second", "BYTES", (-1, 2)),
    ]
    x = np.array([1, 2], np.float32)
    for first, second in (
        (objects([b"a\0", b""], ["ü".encode(), b"\0"]), objects([b"long" * 50, b"b"])),
        (objects(), objects([b"", b""])),
        (objects([b"", b""], [b"x", b""]), objects()),
        (objects(), objects()),
        (objects([b"y", b"z"]), objects([b"", b"v"])),
    ):
        answers = loaded.slots[0].run([first, x, second], [2, 1, 0])
        assert [one.tolist() for one in answers] == [first.tolist(), [2, 4], second.tolist()]
        assert [one.shape for one in answers] == [first.shape, (2,), second.shape]


def test_one_long_string_among_short_ones_takes_no_more_memory_than_its_bytes(tmp_path: Path) -> None:
    loaded = OpenVinoEngine().load(save(echo("BYTES"), tmp_path, "m"), F32)
    given = np.full((128, 4), b"ab", object)
    given[5, 1] = b"x" * (1 << 20)
    tracemalloc.start()
    (back,) = loaded.slots[0].run([given], [0])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert back.tolist() == given.tolist()
    assert peak < 16 << 20


def kept_bytes(slot: OpenVinoSlot) -> int:
    return slot._kept_bytes() + sum(slot._request.get_input_tensor(i).byte_size for i in range(len(slot._inputs)))


def test_input_memory_is_kept_for_a_few_shapes_up_to_a_bound_of_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_slots, "_BYTES_KEPT", 4000)
    loaded = OpenVinoEngine().load(save(arithmetic(), tmp_path, "m"), F32)
    slot = loaded.slots[0]
    assert isinstance(slot, OpenVinoSlot)
    for rows in (1, 30, 100, 5000, 1, 100, 120, 5000, 2, 3, 4, 5, 6, 7, 8, 9, 10, 100_000):
        a, b = (np.random.default_rng(rows).random((rows, 3), np.float32) for _ in "ab")
        answers = slot.run([a, b], [0, 1])
        np.testing.assert_allclose(answers[0], a + b, rtol=1e-6)
        np.testing.assert_allclose(answers[1], a - b, atol=1e-6)
        assert kept_bytes(slot) <= 2 * 4000


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_an_answer_outlives_the_large_input_it_came_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, datatype: str
) -> None:
    """Where a graph passes its input on, both may be one memory."""
    monkeypatch.setattr(openvino_slots, "_BYTES_KEPT", 1000)
    given = ops.parameter([-1, 4], ov.Type.string if datatype == "BYTES" else np.float32, name="x")
    folder = save(ov.Model([ops.result(given)], [given], "pass"), tmp_path, "m")
    slot = OpenVinoEngine().load(folder, F32).slots[0]
    random = np.random.default_rng(3)
    for rows in (5000, 2, 5000):
        tensor = random.random((rows, 4), np.float32)
        if datatype == "BYTES":
            tensor = np.array([b"%f" % one for one in tensor.ravel()], object).reshape(rows, 4)
        (answer,) = slot.run([tensor], [0])
        assert np.array_equal(answer, tensor)


def test_a_tflite_model_is_loaded_and_called(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    layer = tf.function(lambda x: 3.0 * x + 1.0, input_signature=[tf.TensorSpec([1, 4], tf.float32, name="x")])
    converted = tf.lite.TFLiteConverter.from_concrete_functions([layer.get_concrete_function()]).convert()
    (folder / "model.tflite").write_bytes(converted)
    assert called(tmp_path, np.array([[0, 1, 2, 3]], np.float32)).tolist() == [[1, 4, 7, 10]]


def test_a_saved_model_is_loaded_and_called_with_any_batch(tmp_path: Path) -> None:
    tfs.save_half(tmp_path, "m")
    assert called(tmp_path, np.array([[0, 2, 4, 6]] * 3, np.float32)).tolist() == [[2, 3, 4, 5]] * 3


def called(root: Path, tensor: np.ndarray) -> np.ndarray:
    """The first output of the model `m`, served over gRPC."""
    with running(root, OpenVinoEngine(), rest_port=0, precision="f32") as server:
        assert server.grpc is not None
        with triton.InferenceServerClient(server.grpc.address) as client:
            told = client.get_model_metadata("m")
            given = triton.InferInput(told.inputs[0].name, tensor.shape, told.inputs[0].datatype)
            given.set_data_from_numpy(tensor)
            answer: np.ndarray = client.infer("m", [given]).as_numpy(told.outputs[0].name)
            return answer


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
