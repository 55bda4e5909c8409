"""Keeps uploaded files: by the digest of their content, so the same file is kept once and a half-written one never.

What a file really is, `atalaya assess` judges; here only what is no TIFF at all is turned away at once.
"""

import hashlib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from atalaya_dashboard.errors import UploadRejected

_CHUNK = 1 << 20
_TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


@dataclass(frozen=True)
class Kept:
    """Where a file lies, and whether it came just now: then it may go again if nothing comes of it."""

    path: Path
    is_new: bool = False


def save_scene(source: BinaryIO, name: str, scenes: Path) -> Kept:
    """Keep an uploaded scene. Raises UploadRejected for an empty file, no TIFF, or when there is no room."""
    start = _start(source, name, "a GeoTIFF")
    if start not in _TIFF_STARTS:
        raise UploadRejected(f"{name} is not a TIFF (its first bytes are {start!r}); upload a GeoTIFF.")
    return _kept(source, name, scenes)


def save_region(source: BinaryIO, name: str, scenes: Path) -> Kept:
    """Keep an uploaded area or mask. Raises UploadRejected for an empty file, or when there is no room."""
    _start(source, name, "polygons or a GeoTIFF")
    return _kept(source, name, scenes)


def named(path: str) -> Kept:
    """A file of this machine, named by a person: `~` is their home."""
    return Kept(Path(path.strip()).expanduser().absolute())


def discard(files: Sequence[Kept], scenes: Path) -> None:
    """Remove uploads of which nothing came; what was there before, or lies elsewhere, stays."""
    for kept in files:
        if kept.is_new and kept.path.is_relative_to(scenes / "uploads"):
            kept.path.unlink(missing_ok=True)
            if not any(kept.path.parent.iterdir()):
                kept.path.parent.rmdir()


def _start(source: BinaryIO, name: str, wanted: str) -> bytes:
    """The first four bytes."""
    source.seek(0)
    start = source.read(4)
    if not start:
        raise UploadRejected(f"{name} is empty (0 bytes); upload {wanted}.")
    source.seek(0)
    return start


def _kept(source: BinaryIO, name: str, scenes: Path) -> Kept:
    """Copy `source` to `scenes/uploads/<digest>/<name>`."""
    folder = scenes / "uploads"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _copied(source, name, folder)
    except OSError as error:
        raise UploadRejected(
            f"{name} cannot be kept in {folder}: {error.strerror or error}; make room or set ATALAYA_SCENES."
        ) from error


def _copied(source: BinaryIO, name: str, folder: Path) -> Kept:
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".incoming-", delete=False) as copy:
        temporary = Path(copy.name)
        try:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                copy.write(chunk)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    kept = folder / digest.hexdigest()[:16] / safe_name(name)
    is_new = not kept.exists()
    kept.parent.mkdir(exist_ok=True)
    return Kept(temporary.replace(kept), is_new)


def safe_name(name: str) -> str:
    """The file's own name without any path or character that a file system or a shell could mind."""
    last = name.replace("\\", "/").rsplit("/", maxsplit=1)[-1]
    cleaned = re.sub(r"[^\w.\- ]+", "_", last).strip(". ")
    return cleaned[:120] or "scene.tif"
