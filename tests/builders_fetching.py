"""A store in memory that breaks off, changes and lies as it is told, and versions to put into stores."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from atalaya_serving.fetching.errors import FileChanged, Interrupted
from atalaya_serving.fetching.store import StoredFile
from atalaya_spec.manifest import digest_of_contents

CHUNK = 10
MODEL = {"model.xml": b"<net/>" * 9, "model.bin": bytes(range(256)), "extra/labels.txt": b"a\nb\n"}
OTHER = {**MODEL, "model.bin": bytes(reversed(range(256)))}


class Killed(BaseException):
    """The process ends here; nothing may catch it."""


class MemoryStore:
    """Versions by name, each with its files. `on_chunk` is called before each chunk that is read."""

    uri = "memory://m"

    def __init__(self, versions: Mapping[str, Mapping[str, bytes]]) -> None:
        self.versions = {name: dict(files) for name, files in versions.items()}
        self.on_chunk: Callable[[int], None] = lambda count: None
        self.on_files: Callable[[int], None] = lambda count: None
        self.tells_tags, self.tells_digests, self.cut_at = True, False, -1
        self.chunks = self.bytes_read = self.lists = 0

    def folders(self) -> list[str]:
        return list(self.versions)

    def files(self, version: str) -> Iterator[StoredFile]:
        self.lists += 1
        self.on_files(self.lists)
        for path, content in self.versions.get(version, {}).items():
            yield self._file(path, content)

    def read(self, version: str, file: StoredFile, offset: int) -> Iterator[bytes]:
        content = self.versions[version].get(file.path)
        if content is None or (self.tells_tags and self._file(file.path, content) != file):
            raise FileChanged
        for start in range(offset, len(content), CHUNK):
            if 0 <= self.cut_at <= start:
                raise Interrupted("the connection was reset")
            self.chunks += 1
            self.on_chunk(self.chunks)
            chunk = content[start : start + CHUNK]
            self.bytes_read += len(chunk)
            yield chunk

    def _file(self, path: str, content: bytes) -> StoredFile:
        digest = hashlib.sha256(content).hexdigest()
        return StoredFile(path, len(content), digest[:8] if self.tells_tags else "", digest * self.tells_digests)


def digest_of(files: Mapping[str, bytes]) -> str:
    """The digest of a version."""
    return digest_of_contents((path, hashlib.sha256(content).hexdigest()) for path, content in files.items())


def with_manifest(files: Mapping[str, bytes], digest: str | None = None) -> dict[str, bytes]:
    """The files and a manifest that tells their digest, or another."""
    return {**files, "manifest.yaml": f"name: m\ndigest: {digest or digest_of(files)}\n".encode()}


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Files of a version into a folder."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def files_in(folder: Path) -> dict[str, bytes]:
    """All files below a folder; none where it is not there."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    }
