"""Finds the model that a request names, here or behind an endpoint, and makes sure that model and manifest belong
together: a map made with another model than its rows say would be worthless."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atalaya_serving.client import RemoteModel
from atalaya_serving.scoring.predictors import Endpoint, LocalPredictor, Predictor, RemotePredictor
from atalaya_spec.errors import InvalidManifest, UsageError
from atalaya_spec.manifest import FILE_NAME, Manifest, find_version, load_manifest, version_digest

DEFAULT_BATCH = 32


@dataclass(frozen=True)
class ModelChoice:
    """Which model to ask, and how. `model` is a name in `repository` or a version's folder."""

    model: str
    repository: Path
    endpoint: str | None = None
    manifest: Path | None = None
    threads: int | None = None
    batch: int = DEFAULT_BATCH


@dataclass(frozen=True)
class OpenModel:
    """A model that answers, with its manifest; `load_seconds` is what opening it took."""

    manifest: Manifest
    predictor: Predictor
    load_seconds: float


@contextmanager
def open_model(choice: ModelChoice) -> Iterator[OpenModel]:
    """Open the model. Raises UsageError, InvalidManifest or a ServingError."""
    start = time.perf_counter()
    predictor: Predictor
    if choice.endpoint is None:
        folder = find_version(choice.repository, choice.model)
        manifest = _checked(load_manifest(folder), folder)
        refuse_other_digest(folder, manifest)
        predictor = LocalPredictor(folder, manifest, choice.batch, choice.threads)
    else:
        manifest = remote_manifest(choice, choice.endpoint)
        endpoint = Endpoint(choice.endpoint, manifest.name, manifest.version)
        predictor = RemotePredictor(endpoint, manifest, choice.batch)
    try:
        yield OpenModel(manifest, predictor, time.perf_counter() - start)
    finally:
        predictor.close()


def find_manifest(choice: ModelChoice) -> Manifest:
    """The manifest alone, without opening the model."""
    if choice.endpoint is not None:
        return remote_manifest(choice, choice.endpoint)
    folder = find_version(choice.repository, choice.model)
    return _checked(load_manifest(folder), folder)


def refuse_other_digest(folder: Path, manifest: Manifest) -> None:
    """Raise InvalidManifest when the model files are not those that the manifest was written for."""
    found = version_digest(folder)
    if found != manifest.digest:
        raise InvalidManifest(
            f"{folder} holds model files of digest {found[:19]}… and its manifest names {manifest.digest[:19]}…: one "
            "of them was changed or damaged; export the model again."
        )


def remote_manifest(choice: ModelChoice, address: str) -> Manifest:
    """The manifest of what a server serves: the file given, or the local one of the digest that our server tells."""
    given: Manifest | None = None
    if choice.manifest is not None:
        given = load_manifest(choice.manifest.parent if choice.manifest.is_file() else choice.manifest)
    name = given.name if given else Path(choice.model).name
    with RemoteModel(address, name, given.version if given else None) as remote:
        digest, version = remote.digest, remote.version
    if given is not None:
        if digest is not None and digest != given.digest:
            raise UsageError(
                f"{address} serves {name!r} with digest {digest[:19]}…, {choice.manifest} is of {given.digest[:19]}…; "
                "give the manifest of what is served."
            )
        return _checked(given, address)
    if digest is None:
        raise UsageError(
            f"{address} does not tell which model files it serves; give --manifest with the {FILE_NAME} of {name!r} "
            f"version {version}."
        )
    try:
        manifest = load_manifest(find_version(choice.repository, name, int(version)))
    except UsageError as error:
        raise UsageError(f"{address} serves version {version} of {name!r}, but {error} Give its --manifest.") from error
    if manifest.digest != digest:
        raise UsageError(
            f"{address} serves other files of {name!r} version {version} ({digest[:19]}…) than {choice.repository} has "
            f"({manifest.digest[:19]}…); give --manifest with its {FILE_NAME}."
        )
    return _checked(manifest, address)


def _checked(manifest: Manifest, where: object) -> Manifest:
    """Raise InvalidManifest for a model that does not classify tiles of bytes."""
    given = manifest.input
    if manifest.task != "tile-classification" or given.dtype != "uint8" or given.layout != "NHWC":
        raise InvalidManifest(
            f"{where} is a model for {manifest.task} on {given.dtype} {given.layout}; a scene needs one for "
            "tile-classification on uint8 NHWC."
        )
    height, width, channels = given.shape[1:]
    if height != width or height != given.tile_size_px or channels != len(given.bands):
        raise InvalidManifest(
            f"{where}: shape {list(given.shape)}, tile size {given.tile_size_px} and {len(given.bands)} band(s) of the "
            "manifest do not fit together; correct them."
        )
    return manifest
