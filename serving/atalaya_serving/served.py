"""One loaded version of a model, and the check of its manifest against the graph."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from atalaya_serving.datatypes import NUMPY
from atalaya_serving.engines.base import LoadedModel, TensorSpec
from atalaya_serving.errors import ModelLoadFailed
from atalaya_serving.executor import Executor
from atalaya_serving.stats import VersionStats
from atalaya_spec.errors import InvalidManifest
from atalaya_spec.manifest import FILE_NAME, Manifest, load_manifest, version_digest


@dataclass(frozen=True, eq=False)
class ServedVersion:
    """A version that answers calls. Nothing in it changes; a reload makes another one."""

    name: str
    version: int
    model: LoadedModel
    executor: Executor
    digest: str
    manifest: Manifest | None
    stats: VersionStats = field(default_factory=VersionStats)
    derive_signatures: bool = True

    @property
    def version_text(self) -> str:
        """The version as it travels."""
        return str(self.version)


@dataclass(frozen=True)
class Identity:
    """What a version's folder says it is, before anything is compiled."""

    digest: str
    manifest: Manifest | None


def identify(folder: Path) -> Identity:
    """Digest the model files and read the manifest where there is one. Raises ModelLoadFailed if they disagree."""
    try:
        digest = version_digest(folder)
        manifest = load_manifest(folder) if (folder / FILE_NAME).is_file() else None
    except InvalidManifest as error:
        raise ModelLoadFailed(str(error)) from error
    except OSError as error:
        raise ModelLoadFailed(f"{folder} cannot be read: {error.strerror}; check its files and rights.") from error
    if manifest is not None and manifest.digest != digest:
        raise ModelLoadFailed(
            f"{folder}/{FILE_NAME} is for other model files (it says {manifest.digest}, they are {digest}); the copy is"
            " not complete yet, or the manifest is of another version."
        )
    return Identity(digest, manifest)


def check_manifest(manifest: Manifest, model: LoadedModel, folder: Path) -> None:
    """Hold names, shapes and dtypes of the manifest against the compiled graph. Raises ModelLoadFailed with all."""
    wrong = [
        *_differences("input", manifest.input.name, manifest.input.shape, manifest.input.dtype, model.inputs),
        *_differences("output", manifest.output.name, manifest.output.shape, None, model.outputs),
    ]
    if wrong:
        raise ModelLoadFailed(f"{folder}/{FILE_NAME} contradicts the model: {'; '.join(wrong)}; correct one of them.")


def _differences(
    kind: str, name: str, shape: tuple[int, ...], dtype: str | None, specs: Sequence[TensorSpec]
) -> list[str]:
    found = next((spec for spec in specs if spec.name == name or name in spec.aliases), None)
    if found is None:
        return [f"it names {kind} {name!r}, the model has {', '.join(repr(spec.name) for spec in specs)}"]
    wrong = []
    if len(shape) != len(found.shape) or any(
        -1 not in (said, real) and said != real for said, real in zip(shape, found.shape, strict=False)
    ):
        wrong.append(f"{kind} {name!r} has shape {list(shape)} there and {list(found.shape)} in the model")
    if dtype is not None and NUMPY.get(found.datatype) != dtype:
        wrong.append(f"{kind} {name!r} is {dtype} there and {found.datatype} in the model")
    return wrong
