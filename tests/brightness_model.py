"""A model whose answer is known: the mean brightness of a tile, 0 to 1. So tests see the pixels a model was given."""

from pathlib import Path

import numpy as np
import openvino as ov
import yaml
from openvino import opset13 as ops

from atalaya_spec.manifest import version_digest


def write_brightness_model(
    root: Path, version: int = 1, bands: int = 1, factor: float = 1.0, channels_of_work: int = 0
) -> Path:
    """Write `root/brightness/<version>/`; `factor` scales the answer, so that versions differ; `channels_of_work` are
    convolved to no effect, so that it takes its time."""
    folder = root / "brightness" / str(version)
    folder.mkdir(parents=True)
    tiles = ops.parameter([-1, 128, 128, bands], np.uint8, name="tiles")
    pixels = ops.convert(tiles, "f32")
    mean = ops.reduce_mean(pixels, ops.constant([1, 2, 3]), keep_dims=False)
    if channels_of_work:
        mean = mean + _work(ops.transpose(pixels, ops.constant([0, 3, 1, 2])), bands, channels_of_work)
    answer = ops.reshape(mean * ops.constant(np.float32(factor / 255)), ops.constant([-1, 1]), special_zero=False)
    tiles.output(0).set_names({"tiles"})
    answer.output(0).set_names({"probability"})
    ov.save_model(ov.Model([answer], [tiles], "brightness"), folder / "model.xml", compress_to_fp16=False)
    manifest = {
        "apiVersion": "serving.atalaya.dev/v1alpha1",
        "kind": "ModelManifest",
        "name": "brightness",
        "version": version,
        "digest": version_digest(folder),
        "task": "tile-classification",
        "precision": "fp32",
        "input": {
            "name": "tiles",
            "dtype": "uint8",
            "shape": [-1, 128, 128, bands],
            "layout": "NHWC",
            "tileSize": 128,
            "gsd": 0.5,
            "bands": ["gray"] if bands == 1 else ["red", "green", "blue"],
            "valueRange": [0, 255],
            "stretchPercentiles": [2, 98],
        },
        "output": {
            "name": "probability",
            "shape": [-1, 1],
            "meaning": "mean brightness",
            "labels": ["not_damaged", "damaged"],
            "positiveClass": "damaged",
            "threshold": 0.5,
            "minValidShare": 0.5,
        },
        "licence": "Apache-2.0",
        "trainingData": {"name": "none", "description": "none", "licence": "Apache-2.0"},
    }
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    return folder


def _work(x: ov.Output, bands: int, channels: int) -> ov.Output:
    """Two convolutions whose result is too small to count."""
    for before in (bands, channels):
        kernel = np.random.default_rng(0).normal(0, 0.01, (channels, before, 7, 7)).astype(np.float32)
        x = ops.relu(ops.convolution(x, ops.constant(kernel), [1, 1], [3, 3], [3, 3], [1, 1]))
    return ops.reduce_mean(x, ops.constant([1, 2, 3]), keep_dims=False) * ops.constant(np.float32(1e-20))
