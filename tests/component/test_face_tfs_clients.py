"""Unmodified TensorFlow Serving clients against the faces: what is answered, and what the originals refuse too."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import builders_tfs as tfs
from atalaya_serving.engines.openvino_slots import OpenVinoEngine
from builders_faces import grpc_address, rest, running_ovms, running_tfs
from builders_serving import fake_version, save, scale

X = np.ones((2, 4), np.float32)


def one(root: Path) -> tuple[str, ...]:
    return ("--model_name", "m", "--model_path", str(root / "m"))


def code_of(call: Any, *arguments: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=10)
    return caught.value.code()


def test_ovms_speaks_it_up_to_2026_2(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 2)
    with running_ovms("2026.2.1", *one(tmp_path)) as server, grpc.insecure_channel(grpc_address(server)) as channel:
        stubs = tfs.Stubs(channel)
        assert stubs.outputs("m", x=X)["y"].tolist() == (2 * X).tolist()
        assert stubs.states("m") == {2: "AVAILABLE"}
        assert list(stubs.metadata("m").signature_def) == ["serving_default"]
        assert rest(server).post("/v1/models/m:predict", json={"instances": X.tolist()}).json() == {
            "predictions": (2 * X).tolist()
        }
        classify = tfs.classify_request("m", [tfs.example(x=[1.0])])
        assert code_of(stubs.prediction.Classify, classify) == grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.RpcError) as caught:
            stubs.reload("model_config_list {}")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert rest(server).post("/v1/models/m:classify", json={"examples": [{"x": 1}]}).status_code == 501


def test_ovms_speaks_it_no_more_in_2026_3(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 2)
    with running_ovms("2026.3", *one(tmp_path)) as server, grpc.insecure_channel(grpc_address(server)) as channel:
        stubs = tfs.Stubs(channel)
        assert code_of(stubs.prediction.Predict, tfs.predict_request("m", x=X)) == grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.RpcError) as caught:
            stubs.status("m")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert rest(server).get("/v1/models/m").status_code == 400
        assert rest(server).get("/v1/config").status_code == 200


@pytest.mark.parametrize("version", ["2.16.1", "2.20.0"])
def test_tensorflow_serving_answers_each_call(tmp_path: Path, version: str) -> None:
    save(scale(3.0), tmp_path, "m", 7)
    flags = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}")
    with (
        running_tfs(version, *flags, engine=OpenVinoEngine()) as server,
        grpc.insecure_channel(grpc_address(server)) as channel,
    ):
        stubs = tfs.Stubs(channel)
        assert stubs.outputs("m", x=X)["y"].tolist() == (3 * X).tolist()
        assert stubs.states("m") == {7: "AVAILABLE"}
        client = rest(server)
        assert (
            client.post("/v1/models/m:predict", json={"instances": X.tolist()}).json()["predictions"] == [[3.0] * 4] * 2
        )
        assert client.get("/v1/models/m").json()["model_version_status"][0]["state"] == "AVAILABLE"
        assert stubs.reload(f"model_config_list {{ config {{ name: 'n' base_path: '{tmp_path / 'm'}' }} }}")
        assert stubs.states("n") == {7: "AVAILABLE"}


def test_tensorflow_serving_adds_no_signatures_of_its_own(tmp_path: Path) -> None:
    """Our own server derives `regress` for such a model; the original has only what the model has."""
    save(scale(3.0, (-1, 1)), tmp_path, "m")
    flags = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}")
    with (
        running_tfs("2.20.0", *flags, engine=OpenVinoEngine()) as server,
        grpc.insecure_channel(grpc_address(server)) as channel,
    ):
        stubs = tfs.Stubs(channel)
        assert list(stubs.metadata("m").signature_def) == ["serving_default"]
        regress = tfs.regress_request("m", [tfs.example(x=[1.0])])
        assert code_of(stubs.prediction.Regress, regress) == grpc.StatusCode.INVALID_ARGUMENT
