"""A folder as a store: a mounted claim, or a folder of this machine."""

import os
from collections.abc import Iterator
from pathlib import Path

from atalaya_serving.fetching.errors import FileChanged, Interrupted, ModelPathNotFound, StoreUnreachable
from atalaya_serving.fetching.store import StoredFile

_CHUNK_BYTES = 1024 * 1024


class FolderStore:
    """A model's folder of versions."""

    def __init__(self, uri: str, path: str) -> None:
        self.uri, self._root = uri, Path(path)

    def folders(self) -> Iterator[str]:
        """Also through links, as a server that reads the folder would find them."""
        try:
            for entry in os.scandir(self._root):
                if entry.is_dir():
                    yield entry.name
        except (FileNotFoundError, NotADirectoryError):
            raise ModelPathNotFound(f"{self.uri} is no folder; correct spec.model.uri.") from None
        except OSError as error:
            raise self._unreadable(error) from error

    def files(self, version: str) -> Iterator[StoredFile]:
        yield from self._below(self._root / version, "")

    def read(self, version: str, file: StoredFile, offset: int) -> Iterator[bytes]:
        path = self._root / version / file.path
        try:
            with path.open("rb") as opened:
                if _tag(os.fstat(opened.fileno())) != file.tag:
                    raise FileChanged
                opened.seek(offset)
                while chunk := opened.read(_CHUNK_BYTES):
                    yield chunk
        except FileNotFoundError:
            raise FileChanged from None
        except OSError as error:
            raise Interrupted(str(error)) from error

    def _below(self, folder: Path, prefix: str) -> Iterator[StoredFile]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            for entry in entries:
                path = f"{prefix}{entry.name}"
                if entry.is_symlink():
                    yield StoredFile(path, 0, is_link=True)
                elif entry.is_dir():
                    yield from self._below(folder / entry.name, f"{path}/")
                else:
                    about = entry.stat()
                    yield StoredFile(path, about.st_size, _tag(about))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> StoreUnreachable:
        return StoreUnreachable(f"{self.uri} cannot be read ({error.strerror}); check the volume and its permissions.")


def _tag(about: os.stat_result) -> str:
    return f"{about.st_mtime_ns}-{about.st_size}"
