"""What an InferenceModel means on one machine without a cluster: what is served, what is refused, what is only said.

Pure but for looking into model folders. Nothing is passed over in silence: each field is served, refused or told.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from atalaya_spec.errors import InvalidManifest, UsageError
from atalaya_spec.inference_model import Batching, InferenceModel, Spec, Versions
from atalaya_spec.manifest import FILE_NAME as MANIFEST_NAME
from atalaya_spec.manifest import MODEL_FILE_PATTERNS, load_manifest, versions
from atalaya_spec.model_files import Checked, check_files, problems_of
from atalaya_spec.problems import Problem, Refused, one_of
from atalaya_spec.server_versions import (
    CPU,
    INTEL_I915,
    INTEL_XE,
    OPENVINO,
    TENSORFLOW,
    backend_of,
)

# OpenVINO's name of a device that an InferenceModel may ask for.
_OPENVINO_DEVICE = {CPU: "CPU", INTEL_XE: "GPU", INTEL_I915: "GPU"}


@dataclass(frozen=True)
class ServedModel:
    """One model as our server is told of it: pinned versions in a folder of this machine."""

    name: str
    folder: Path
    versions: tuple[int, ...]
    device: str = "CPU"
    backend: str = OPENVINO
    batching: Batching | None = None


@dataclass(frozen=True)
class LocalModels:
    """What `up` serves, and what it says on start of fields that mean nothing here."""

    models: tuple[ServedModel, ...]
    notes: tuple[Problem, ...]


def models_of_files(files: Sequence[Path], available: Iterable[str]) -> tuple[list[Problem], LocalModels]:
    """Every problem of the files for `up`, and what is left to serve; `available` is OpenVINO's devices here."""
    checked = check_local_files(files, available)
    served = [served_model(document, available) for document in checked if document.model]
    told = [note for document in checked for note in document.notes]
    return problems_of(checked), LocalModels(tuple(model for model in served if model.versions), tuple(told))


def devices_here() -> tuple[str, ...]:
    """The devices that OpenVINO finds on this machine."""
    from atalaya_serving.engines.openvino import core

    return tuple(core().available_devices)


def models_of_repository(root: Path) -> list[ServedModel]:
    """Every model of a repository at its highest version. Raises UsageError when there is none."""
    found = [child for child in sorted(root.iterdir()) if _versions_with_files(child)] if root.is_dir() else []
    if not found:
        if not root.is_dir():
            raise UsageError(
                f"{root} is no folder; correct ATALAYA_MODEL_REPO, or name an InferenceModel file with -f."
            )
        raise UsageError(
            f"{root} holds no model (a folder <model>/<integer version>/ with its files); "
            "name an InferenceModel file with -f, or another repository with ATALAYA_MODEL_REPO."
        )
    return [ServedModel(child.name, child, (_versions_with_files(child)[-1],)) for child in found]


def check_local_files(files: Sequence[Path], available: Iterable[str]) -> list[Checked]:
    """Check files for `atalaya up`: also what this machine cannot do, and in `notes` what means nothing here."""
    return [_with_local_findings(document, available) for document in check_files(files, for_cluster=False)]


def served_model(document: Checked, available: Iterable[str]) -> ServedModel:
    """What our server is told of a valid document; no versions when the model asks for no replica."""
    assert document.model is not None  # whoever calls has looked
    spec = document.model.spec
    folder = _folder(document)
    pinned = () if spec.replicas == 0 else resolve_versions(spec.model.versions, folder)
    device = _OPENVINO_DEVICE[_device(spec, available) or CPU]
    return ServedModel(
        document.model.name, folder, pinned, device, backend_of(spec.engine, spec.backend), spec.batching
    )


def resolve_versions(wanted: Versions, folder: Path) -> tuple[int, ...]:
    """The versions that are pinned, ascending: the platform decides, never the engine. Raises Refused."""
    there = _versions_with_files(folder)
    if not there:
        state = "has no integer version folder with a model" if folder.is_dir() else "is no folder"
        raise Refused(f"{folder} {state}", "lay the model's files into <folder>/<integer version>/")
    if wanted.latest:
        return tuple(there[-wanted.latest :])
    if wanted.all:
        return tuple(there)
    missing = [version for version in wanted.specific or () if version not in there]
    if missing:
        listed = ", ".join(map(str, there))
        raise Refused(f"{folder} has no version {one_of(map(str, missing))}", f"name versions it has: {listed}")
    return tuple(sorted(wanted.specific or ()))


def server_config(models: Iterable[ServedModel]) -> dict[str, Any]:
    """The server's config file, in the format of OpenVINO Model Server."""
    configs = [
        {
            "name": model.name,
            "base_path": str(model.folder),
            "model_version_policy": {"specific": {"versions": list(model.versions)}},
            "target_device": model.device,
            **({"backend": model.backend} if model.backend != OPENVINO else {}),
            **({"batching": _batching(model.batching)} if model.batching else {}),
        }
        for model in models
    ]
    return {"model_config_list": [{"config": config} for config in configs]}


def _batching(batching: Batching) -> dict[str, float]:
    return {
        "max_size": batching.max_size,
        "timeout_seconds": batching.timeout.seconds if batching.timeout else 0,
    }


def _with_local_findings(document: Checked, available: Iterable[str]) -> Checked:
    if document.model is None:
        return document
    refusals = list(_refusals(document, document.model.spec, tuple(available)))
    if refusals:
        return replace(document, model=None, problems=document.placed(refusals), notes=())
    return replace(document, notes=document.placed(_notes(document, document.model, tuple(available))))


def _refusals(document: Checked, spec: Spec, available: tuple[str, ...]) -> Iterator[Problem]:
    uri = spec.model.uri
    pinned: tuple[int, ...] = ()
    if not uri.is_local:
        yield Problem("spec.model.uri", f"`atalaya up` does not fetch models yet, so {uri.scheme}:// cannot be served",
                      "copy the model's folder here and write its path")  # fmt: skip
    else:
        try:
            pinned = resolve_versions(spec.model.versions, _folder(document))
        except Refused as refused:
            path = "spec.model.versions" if _versions_with_files(_folder(document)) else "spec.model.uri"
            yield Problem(path, refused.fact, refused.next_step)
    if backend_of(spec.engine, spec.backend) == TENSORFLOW:
        yield from _tensorflow_refusals(spec, [_folder(document) / str(version) for version in pinned])
    if _device(spec, available) is None:
        yield Problem("spec.devices", f"none of {', '.join(spec.devices)} is on this machine", f"add {CPU}")


def _tensorflow_refusals(spec: Spec, version_folders: Iterable[Path]) -> Iterator[Problem]:
    if find_spec("tensorflow") is None:
        field = "spec.backend" if spec.backend else "spec.engine"
        yield Problem(field, "TensorFlow is not installed here",
                      "install atalaya[tensorflow], or write engine: openvino, which reads SavedModels")  # fmt: skip
    for folder in version_folders:
        if not (folder / "saved_model.pb").is_file():
            yield Problem("spec.model.uri", f"{folder} has no saved_model.pb, which TensorFlow needs",
                          "export a SavedModel, or write engine: openvino")  # fmt: skip


def _notes(document: Checked, model: InferenceModel, available: tuple[str, ...]) -> Iterator[Problem]:
    spec = model.spec
    if spec.replicas == 0:
        yield Problem("spec.replicas", "it asks for no replica", "the model is not served")
    elif spec.replicas and spec.replicas > 1:
        yield Problem("spec.replicas", f"{spec.replicas} replicas need a cluster", "one process serves here")
    if spec.scaling:
        yield Problem("spec.scaling", "scaling needs a cluster", "one process serves here")
    if spec.resources != type(spec.resources)():
        yield Problem("spec.resources", "nothing reserves or limits cores and memory here",
                      "the server uses what the machine has")  # fmt: skip
    if spec.engine_version or spec.image:
        field = "spec.engineVersion" if spec.engine_version else "spec.image"
        yield Problem(field, "no container runs here", "our own server serves the model")
    if spec.batching and (fixed := _fixed_batch(document, spec)):
        fact = f"version {fixed} of the model has a fixed batch, so none are gathered"
        yield Problem("spec.batching", fact, "export it with a free first dimension")
    device = _device(spec, available)
    if device and device != spec.devices[0]:
        passed = one_of(spec.devices[: spec.devices.index(device)])
        yield Problem("spec.devices", f"{passed} is not on this machine", f"the model runs on {device}")
    if model.metadata.namespace:
        yield Problem("metadata.namespace", "there are no namespaces here", "the model goes by its name alone")


def _fixed_batch(document: Checked, spec: Spec) -> int | None:
    """A version whose manifest says that its batch has one size. Of a model without one the server's log tells."""
    for version in resolve_versions(spec.model.versions, _folder(document)):
        folder = _folder(document) / str(version)
        with suppress(InvalidManifest):  # the server refuses it in its own words
            manifest = load_manifest(folder) if (folder / MANIFEST_NAME).is_file() else None
            if manifest and (manifest.input.shape[0] != -1 or manifest.output.shape[0] != -1):
                return version
    return None


def _device(spec: Spec, available: Iterable[str]) -> str | None:
    """The first device of the model's preference that is here. OpenVINO counts several as GPU.0, GPU.1."""
    here = {device.partition(".")[0] for device in available}
    return next((device for device in spec.devices if _OPENVINO_DEVICE.get(device) in here), None)


def _folder(document: Checked) -> Path:
    """The model's folder; a relative path is relative to the file that says it."""
    assert document.model is not None
    uri = document.model.spec.model.uri
    return (Path(document.source).parent / Path(uri.path).expanduser()).resolve()


def _versions_with_files(folder: Path) -> list[int]:
    found = versions(folder)
    return [v for v in found if any(next((folder / str(v)).glob(pattern), None) for pattern in MODEL_FILE_PATTERNS)]
