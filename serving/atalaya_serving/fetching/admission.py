"""What may lie in a version: names that stay within it, no links, no pickles, not too much. Asked before any fetch."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from atalaya_serving.fetching.errors import ModelFilesRefused, ModelTooLarge
from atalaya_serving.fetching.store import StoredFile

# Loading one of these runs whatever code it carries; no server that is started here needs one.
PICKLE_ENDINGS = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".cloudpickle")
_LONGEST_PATH, _LONGEST_NAME = 1024, 255
_UNWANTED = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True)
class Bounds:
    """The most that one version may have."""

    files: int = 10_000
    total_bytes: int = 100 * 1024**3


def admitted(found: Iterable[StoredFile], where: str, bounds: Bounds) -> list[StoredFile]:
    """The files by path, when all of them are harmless. Raises ModelFilesRefused, ModelTooLarge."""
    files = sorted(islice(found, bounds.files + 1), key=lambda file: file.path)
    if len(files) > bounds.files:
        raise ModelTooLarge(f"{where} has more than {bounds.files:,} files; correct spec.model.uri.")
    total = sum(file.size for file in files)
    if total > bounds.total_bytes:
        raise ModelTooLarge(f"{where} has {total:,} bytes, the bound is {bounds.total_bytes:,}; raise --max_bytes.")
    for file in files:
        if why := _refused(file):
            raise ModelFilesRefused(f"{where} has {_shown(file.path)!r}, {why}.")
    _refuse_clashes(files, where)
    return files


def _refused(file: StoredFile) -> str:
    """Why a file is not wanted, and what to do; empty when it is harmless."""
    parts = file.path.split("/")
    if file.path.startswith("/") or any(part in ("", ".", "..") for part in parts) or _UNWANTED.search(file.path):
        return "which is no plain path within the version; rename it"
    if len(file.path) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        return "whose name is too long; shorten it"
    if file.is_link:
        return "which is a link; put the file itself there"
    if file.path.lower().endswith(PICKLE_ENDINGS):
        return "a pickle, which runs code when it is loaded; take it out, or convert it to ONNX, OpenVINO or TensorFlow"
    if file.size < 0:
        return "whose size makes no sense; put it there again"
    return ""


def _refuse_clashes(files: list[StoredFile], where: str) -> None:
    """A store has no folders, so that `a` and `a/b` may be two files there."""
    paths = {file.path for file in files}
    if len(paths) != len(files):
        raise ModelFilesRefused(f"{where} has two files of one name; remove one.")
    for path in paths:
        parts = path.split("/")
        for end in range(1, len(parts)):
            if "/".join(parts[:end]) in paths:
                raise ModelFilesRefused(f"{where} has {_shown(path)!r} below a file of that name; remove one of them.")


def _shown(path: str) -> str:
    return path if len(path) <= 100 else f"{path[:100]}…"
