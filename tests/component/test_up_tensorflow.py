"""`atalaya up` with the TensorFlow backend: one file, one process, both protocols."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
import yaml

import builders_tfs as tfs
from atalaya_spec.inference_model import API_VERSION
from builders_serving import free_port


@pytest.mark.parametrize(
    "spec",
    [{"engine": "tensorflow", "protocols": ["tensorflow-serving"]}, {"engine": "atalaya", "backend": "tensorflow"}],
    ids=["engine", "backend"],
)
def test_a_savedmodel_is_served_with_tensorflow_over_both_protocols(tmp_path: Path, spec: dict[str, object]) -> None:
    tfs.save_half(tmp_path, "half")
    whole = spec | {"model": {"uri": "half"}}
    file = tmp_path / "model.yaml"
    file.write_text(
        yaml.safe_dump(
            {"apiVersion": API_VERSION, "kind": "InferenceModel", "metadata": {"name": "half"}, "spec": whole}
        )
    )
    port, rest_port = free_port(), free_port()
    command = [sys.executable, "-m", "atalaya", "up", "-f", str(file), "--no-dashboard",
               "--port", str(port), "--rest-port", str(rest_port)]  # fmt: skip
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        up = subprocess.Popen(
            command, stdout=out, stderr=err, env=os.environ | {"ATALAYA_HOME": str(tmp_path / "home")}
        )
    try:
        end = time.monotonic() + 120
        while "ctrl-C ends all of it" not in (tmp_path / "out").read_text():
            assert up.poll() is None, (tmp_path / "err").read_text()
            assert time.monotonic() < end
            time.sleep(0.1)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert np.array_equal(tfs.Stubs(channel).outputs("half", x=tfs.ROWS)["y"], tfs.ROWS / 2 + 2)
        rows = httpx.post(f"http://127.0.0.1:{rest_port}/v1/models/half:predict", json={"instances": tfs.ROWS.tolist()})
        assert rows.json()["predictions"] == (tfs.ROWS / 2 + 2).tolist()
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert client.get_model_metadata("half").platform == "tensorflow_savedmodel"
            assert client.get_model_config("half").config.backend == "tensorflow"
            x = triton.InferInput("x", tfs.ROWS.shape, "FP32")
            x.set_data_from_numpy(tfs.ROWS)
            assert np.array_equal(client.infer("half", [x]).as_numpy("y"), tfs.ROWS / 2 + 2)
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(30) in (0, 130)
