"""What a store is to the rest: folders, files of a version, bytes from an offset. Each kind has a module of its own."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from atalaya_serving.fetching.errors import StoreUnreadable


@dataclass(frozen=True)
class StoredFile:
    """A file of a version. `path` is relative to the version's folder, with `/` between its parts."""

    path: str
    size: int
    tag: str = ""
    """Another one as soon as the content is another; empty where the store tells none."""
    sha256: str = ""
    """Digest of the content in hex, where the store tells it."""
    is_link: bool = False


class Store(Protocol):
    """One model's place in a store. Every method raises FetchError; names come as the store has them, unchecked."""

    uri: str

    def folders(self) -> Iterable[str]:
        """Names that may be versions."""
        ...

    def files(self, version: str) -> Iterator[StoredFile]:
        """All files of a version, below it; none when there is no such version."""
        ...

    def read(self, version: str, file: StoredFile, offset: int) -> Iterator[bytes]:
        """The bytes of this very file from an offset. Raises FileChanged and Interrupted too."""
        ...


def open_store(uri: str, environment: Mapping[str, str]) -> Store:
    """The store of a URI. Raises FetchError."""
    scheme, sign, rest = uri.partition("://")
    if not sign or scheme == "file":
        from atalaya_serving.fetching.folder import FolderStore

        return FolderStore(uri, rest if sign else uri)
    if scheme in ("http", "https"):
        from atalaya_serving.fetching.web import WebStore

        return WebStore(uri, environment)
    if scheme == "oci":
        from atalaya_serving.fetching.registry import RegistryStore

        return RegistryStore(uri, environment)
    if scheme in ("s3", "gs", "az"):
        try:
            from atalaya_serving.fetching.objects import ObjectStore
        except ModuleNotFoundError as error:
            step = "pip install 'atalaya[fetch]', or use the image"
            raise StoreUnreadable(f"{uri} takes {error.name}, which is not installed; {step}.") from error
        return ObjectStore(uri, environment)
    raise StoreUnreadable(f"{uri} is no store that is known here; write s3, gs, az, https, oci or a folder.")
