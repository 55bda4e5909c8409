"""A version in a model repository: its manifest and golden requests, beside model files that are already there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from atalaya_serving.training import golden
from atalaya_serving.training.networks import INPUT_NAME, OUTPUT_NAME, TILE_SIZE
from atalaya_spec.manifest import FILE_NAME, parse_manifest, version_digest

GOLDEN_TOLERANCE = {"fp32": 0.05, "fp16": 0.05, "int8": 0.08}
"""How far a processor's own arithmetic (bf16 at the widest) may move a probability."""


@dataclass(frozen=True)
class Published:
    """What a manifest says of a version beyond what its files tell."""

    name: str
    version: int
    precision: str
    threshold: float
    calibration: Mapping[str, Any]
    training_data: Mapping[str, Any]
    measured: Mapping[str, Any]
    licence: str = "CC0-1.0"


def write_manifest(folder: Path, facts: Published, answers: np.ndarray[Any, Any]) -> None:
    """Write `golden.npz` with the model's `answers` to the golden tiles, then `manifest.yaml`, in `folder`."""
    requests_sha256 = golden.write_golden(folder / golden.FILE_NAME, golden.golden_tiles(), answers)
    raw = {
        "apiVersion": "serving.atalaya.dev/v1alpha1",
        "kind": "ModelManifest",
        "name": facts.name,
        "version": facts.version,
        "digest": version_digest(folder),
        "task": "tile-classification",
        "precision": facts.precision,
        "input": {
            "name": INPUT_NAME,
            "dtype": "uint8",
            "shape": [-1, TILE_SIZE, TILE_SIZE, 1],
            "layout": "NHWC",
            "tileSize": TILE_SIZE,
            "gsd": 0.5,
            "bands": ["gray"],
            "valueRange": [0, 255],
            "stretchPercentiles": [2, 98],
        },
        "output": {
            "name": OUTPUT_NAME,
            "shape": [-1, 1],
            "meaning": "probability that the tile shows a damaged building",
            "labels": ["not_damaged", "damaged"],
            "positiveClass": "damaged",
            "threshold": facts.threshold,
            "minValidShare": 0.5,
        },
        "calibration": dict(facts.calibration),
        "golden": {
            "file": golden.FILE_NAME,
            "sha256": requests_sha256,
            "tolerance": GOLDEN_TOLERANCE[facts.precision],
        },
        "trainingData": dict(facts.training_data),
        "licence": facts.licence,
        "measured": dict(facts.measured),
    }
    parse_manifest(raw, str(folder / FILE_NAME))
    text = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    (folder / FILE_NAME).write_text(text, encoding="utf-8")
