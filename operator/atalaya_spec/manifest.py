"""The model manifest: what a map needs to know of a model version and a tensor does not say.

It lies as `manifest.yaml` in the version's folder, beside the model files; model servers ignore it. The schema is
`manifest.schema.json` beside this module. This module reads and checks; it never opens the model itself.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from atalaya_spec.errors import InvalidManifest, UsageError

FILE_NAME = "manifest.yaml"
MODEL_FILE_PATTERNS = ("*.xml", "*.onnx", "saved_model.pb", "*.tflite")
_NOT_MODEL_FILES = frozenset({FILE_NAME, "golden.npz", "README.md"})


@dataclass(frozen=True)
class ModelInput:
    """The one image tensor. `shape` has -1 for the batch; `gsd_m` is the ground size of a pixel, in metres."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str
    tile_size_px: int
    gsd_m: float
    bands: tuple[str, ...]
    value_range: tuple[float, float]
    stretch_percentiles: tuple[float, float]

    @property
    def tile_size_m(self) -> float:
        """The side of a tile on the ground, in metres."""
        return self.tile_size_px * self.gsd_m


@dataclass(frozen=True)
class ModelOutput:
    """The one output: a calibrated probability of `positive_class`, decided at `threshold`.

    A tile is assessed only where at least `min_valid_share` (0 to 1) of its pixels are valid.
    """

    name: str
    shape: tuple[int, ...]
    meaning: str
    labels: tuple[str, ...]
    positive_class: str
    threshold: float
    min_valid_share: float


@dataclass(frozen=True)
class Calibration:
    """How the probability was calibrated, and how uncertain that is.

    Each bootstrap pair (slope a, intercept b) is one plausible truth: sigmoid(a * logit(p) + b) for a served p.
    """

    method: str
    data: str
    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]


@dataclass(frozen=True)
class Golden:
    """Requests with known answers: an npz with `inputs` and `outputs`, which hold within `tolerance` (absolute)."""

    file: str
    sha256: str
    tolerance: float


@dataclass(frozen=True)
class Manifest:
    """One version of one model. `raw` is the file as read, for keeping beside results."""

    name: str
    version: int
    digest: str
    task: str
    precision: str
    input: ModelInput
    output: ModelOutput
    calibration: Calibration | None
    golden: Golden | None
    licence: str
    training_data: Mapping[str, Any]
    measured: Mapping[str, Any]
    raw: Mapping[str, Any] = field(repr=False)


@cache
def schema() -> dict[str, Any]:
    """The JSON schema that every manifest obeys."""
    text = Path(__file__).with_name("manifest.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def parse_manifest(raw: object, where: str) -> Manifest:
    """Check `raw` against the schema and give it a type. Raises InvalidManifest with every breach, naming `where`."""
    from jsonschema import Draft202012Validator  # 60 ms: not for `atalaya --help`

    breaches = sorted(Draft202012Validator(schema()).iter_errors(raw), key=lambda e: list(map(str, e.absolute_path)))
    if breaches or not isinstance(raw, Mapping):
        told = "; ".join(f"{'.'.join(map(str, b.absolute_path)) or 'manifest'}: {b.message}" for b in breaches)
        raise InvalidManifest(
            f"{where} is not a valid model manifest: {told or 'not a mapping'}; correct these fields."
        )
    given, made = raw["input"], raw["output"]
    calibration, golden = raw.get("calibration"), raw.get("golden")
    return Manifest(
        name=raw["name"],
        version=raw["version"],
        digest=raw["digest"],
        task=raw["task"],
        precision=raw["precision"],
        input=ModelInput(
            name=given["name"],
            dtype=given["dtype"],
            shape=tuple(given["shape"]),
            layout=given["layout"],
            tile_size_px=given["tileSize"],
            gsd_m=float(given["gsd"]),
            bands=tuple(given["bands"]),
            value_range=(float(given["valueRange"][0]), float(given["valueRange"][1])),
            stretch_percentiles=(float(given["stretchPercentiles"][0]), float(given["stretchPercentiles"][1])),
        ),
        output=ModelOutput(
            name=made["name"],
            shape=tuple(made["shape"]),
            meaning=made["meaning"],
            labels=tuple(made["labels"]),
            positive_class=made["positiveClass"],
            threshold=float(made["threshold"]),
            min_valid_share=float(made["minValidShare"]),
        ),
        calibration=calibration and _calibration(calibration, where),
        golden=golden and Golden(golden["file"], golden["sha256"], float(golden["tolerance"])),
        licence=raw["licence"],
        training_data=raw["trainingData"],
        measured=raw.get("measured", {}),
        raw=dict(raw),
    )


def _calibration(raw: Mapping[str, Any], where: str) -> Calibration:
    bootstrap = raw.get("bootstrap", {"slopes": [], "intercepts": []})
    if len(bootstrap["slopes"]) != len(bootstrap["intercepts"]):
        raise InvalidManifest(f"{where}: calibration.bootstrap has as many slopes as intercepts; make the lists equal.")
    return Calibration(raw["method"], raw["data"], tuple(bootstrap["slopes"]), tuple(bootstrap["intercepts"]))


def load_manifest(version_folder: Path) -> Manifest:
    """Read `version_folder/manifest.yaml`. Raises InvalidManifest when it is missing, broken or breaks the schema."""
    file = version_folder / FILE_NAME
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidManifest(
            f"{version_folder} has no {FILE_NAME}; without it a scene cannot be brought to the model. Add one."
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())
        raise InvalidManifest(f"{file} cannot be read as YAML: {told}; correct the file.") from error
    return parse_manifest(raw, str(file))


def version_digest(version_folder: Path) -> str:
    """`sha256:` over the model files of a version, by relative path; the manifest and golden requests do not count."""
    files = (file for file in version_folder.rglob("*") if file.is_file())
    return digest_of_contents((file.relative_to(version_folder).as_posix(), file) for file in files)


def digest_of_contents(files: Iterable[tuple[str, Path | str]]) -> str:
    """The digest of a version from its files by relative path: each a file to be read, or its SHA-256 in hex."""
    total = hashlib.sha256()
    for relative, content in sorted(files, key=lambda one: one[0].split("/")):
        if relative not in _NOT_MODEL_FILES:
            known = content if isinstance(content, str) else _sha256(content)
            total.update(f"{relative}\0{known}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:  # never whole in memory: a model may be larger than that
        return hashlib.file_digest(opened, "sha256").hexdigest()


def versions(model_folder: Path) -> list[int]:
    """The integer version folders below a model's folder, ascending."""
    if not model_folder.is_dir():
        return []
    return sorted(int(child.name) for child in model_folder.iterdir() if child.is_dir() and child.name.isdecimal())


def find_version(root: Path, name: str, version: int | None = None) -> Path:
    """The folder of a model's version, its highest by default; `name` may also be a path to a version's folder.

    Raises UsageError that names what there is instead.
    """
    as_path = Path(name)
    if as_path.is_dir() and any(next(as_path.glob(pattern), None) for pattern in MODEL_FILE_PATTERNS):
        return as_path
    found = versions(root / name) if name and "/" not in name else []
    if not found:
        if not root.is_dir():
            raise UsageError(
                f"{root} is no folder, so there is no model {name!r}; correct ATALAYA_MODEL_REPO, or name a version's"
                " folder as --model."
            )
        models = sorted(child.name for child in root.iterdir() if versions(child))
        raise UsageError(f"there is no model {name!r} in {root}; it has: {', '.join(models) or 'none'}.")
    if version is not None and version not in found:
        raise UsageError(f"model {name!r} has no version {version} in {root}; it has: {', '.join(map(str, found))}.")
    return root / name / str(version if version is not None else found[-1])
