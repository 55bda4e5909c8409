"""The network of the 2020 thesis, built directly in OpenVINO with seeded random weights: speed needs no training.

4 x (Conv 64 3x3, ReLU), the first three followed by MaxPool 3, then Flatten, Dense 64, Dense 1 with sigmoid, on
128x128x1 float32. Run as a script it writes model.xml, model.bin and a manifest into a version's folder.
"""

import sys
from pathlib import Path

import numpy as np
import openvino as ov
import yaml
from openvino import opset13 as ops

from atalaya_spec.manifest import version_digest

FILTERS = 64


def thesis_network(seed: int = 0) -> ov.Model:
    """The network with a free batch."""
    random = np.random.default_rng(seed)
    tiles = ops.parameter([-1, 128, 128, 1], np.float32, name="tiles")
    layer, channels = ops.transpose(tiles, ops.constant(np.array([0, 3, 1, 2]))), 1
    for block in range(4):
        weights = random.standard_normal((FILTERS, channels, 3, 3)) * np.sqrt(2 / (9 * channels))
        layer = ops.convolution(layer, ops.constant(weights.astype(np.float32)), [1, 1], [0, 0], [0, 0], [1, 1])
        layer = ops.relu(ops.add(layer, ops.constant(np.zeros((1, FILTERS, 1, 1), np.float32))))
        if block < 3:
            layer = ops.max_pool(layer, [3, 3], [1, 1], [0, 0], [0, 0], [3, 3]).output(0)
        channels = FILTERS
    size = int(np.prod([dim.get_length() for dim in list(layer.output(0).get_partial_shape())[1:]]))
    layer = ops.reshape(layer, ops.constant(np.array([-1, size])), False)
    layer = ops.relu(ops.matmul(layer, ops.constant(_dense(random, size, 64)), False, False))
    layer = ops.sigmoid(ops.matmul(layer, ops.constant(_dense(random, 64, 1)), False, False))
    model = ov.Model([layer], [tiles], "thesis2020")
    model.inputs[0].set_names({"tiles"})
    model.outputs[0].set_names({"probability"})
    return model


def write_version(folder: Path) -> Path:
    """Write the network and its manifest; give the path of model.xml."""
    folder.mkdir(parents=True, exist_ok=True)
    ov.save_model(thesis_network(), folder / "model.xml", compress_to_fp16=False)
    (folder / "manifest.yaml").unlink(missing_ok=True)
    manifest = {
        "apiVersion": "serving.atalaya.dev/v1alpha1",
        "kind": "ModelManifest",
        "name": "thesis",
        "version": int(folder.name),
        "digest": version_digest(folder),
        "task": "tile-classification",
        "precision": "fp32",
        "input": {
            "name": "tiles", "dtype": "float32", "shape": [-1, 128, 128, 1], "layout": "NHWC", "tileSize": 128,
            "gsd": 0.5, "bands": ["gray"], "valueRange": [0, 1], "stretchPercentiles": [2, 98],
        },
        "output": {
            "name": "probability", "shape": [-1, 1], "meaning": "nothing: random weights",
            "labels": ["no", "yes"], "positiveClass": "yes", "threshold": 0.5, "minValidShare": 0.5,
        },
        "licence": "Apache-2.0",
        "trainingData": {"name": "none", "licence": "none", "description": "random weights, for speed only"},
    }  # fmt: skip
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest), encoding="utf-8")
    return folder / "model.xml"


def _dense(random: np.random.Generator, inputs: int, outputs: int) -> np.ndarray:
    return (random.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)).astype(np.float32)


if __name__ == "__main__":
    write_version(Path(sys.argv[1]))
