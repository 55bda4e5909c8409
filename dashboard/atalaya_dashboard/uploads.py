"""Keeps an uploaded scene: by the digest of its content, so the same file is kept once and a half-written one never.

What the file really is, `atalaya assess` judges; here only what is no TIFF at all is turned away at once.
"""

import hashlib
import re
import tempfile
from pathlib import Path
from typing import BinaryIO

from atalaya_dashboard.errors import UploadRejected

_CHUNK = 1 << 20
_TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def save_upload(source: BinaryIO, name: str, scenes: Path) -> Path:
    """Copy `source` to `scenes/uploads/<digest>/<name>` and give that path.

    Raises UploadRejected for an empty file, one that is no TIFF, or when there is no room.
    """
    start = source.read(4)
    if not start:
        raise UploadRejected(f"{name} is empty (0 bytes); upload a GeoTIFF.")
    if start not in _TIFF_STARTS:
        raise UploadRejected(f"{name} is not a TIFF (its first bytes are {start!r}); upload a GeoTIFF.")
    source.seek(0)
    folder = scenes / "uploads"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _copied(source, name, folder)
    except OSError as error:
        raise UploadRejected(
            f"{name} cannot be kept in {folder}: {error.strerror or error}; make room or set ATALAYA_SCENES."
        ) from error


def _copied(source: BinaryIO, name: str, folder: Path) -> Path:
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
    kept.parent.mkdir(exist_ok=True)
    return temporary.replace(kept)


def safe_name(name: str) -> str:
    """The file's own name without any path or character that a file system or a shell could mind."""
    last = name.replace("\\", "/").rsplit("/", maxsplit=1)[-1]
    cleaned = re.sub(r"[^\w.\- ]+", "_", last).strip(". ")
    return cleaned[:120] or "scene.tif"
