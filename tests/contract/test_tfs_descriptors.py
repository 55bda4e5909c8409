"""The messages that our server ships are those of TensorFlow Serving's own package, and need nothing of it."""

import subprocess
import sys
from pathlib import Path

from contract import tfs_descriptors

SERVE_AND_PREDICT = """
import sys
from pathlib import Path
import grpc, numpy as np
from builders_serving import running, save, scale
from atalaya_serving.tfs import messages as m
from atalaya_serving.tfs.tensors import from_proto, to_proto
save(scale(3.0), Path(sys.argv[1]), "scale")
with running(Path(sys.argv[1])) as server, grpc.insecure_channel(server.grpc.address) as channel:
    request = m.PredictRequest()
    request.model_spec.name = "scale"
    request.inputs["x"].CopyFrom(to_proto("FP32", np.ones((1, 4), np.float32)))
    path = "/tensorflow.serving.PredictionService/Predict"
    call = channel.unary_unary(path, m.PredictRequest.SerializeToString, m.PredictResponse.FromString)
    assert from_proto("y", call(request, timeout=10).outputs["y"])[1].tolist() == [[3.0] * 4]
print(sorted({name.partition(".")[0] for name in sys.modules} & {"tensorflow", "tensorflow_serving", "keras"}))
"""


def test_the_shipped_descriptors_are_those_of_the_upstream_package() -> None:
    assert tfs_descriptors.SHIPPED.read_bytes() == tfs_descriptors.upstream()


def test_an_openvino_model_is_served_over_the_api_without_tensorflow_imported(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SERVE_AND_PREDICT, str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=False, cwd=Path(__file__).parents[1],
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[]"
