"""Which versions a store has, told in one short line of JSON: `{"versions":[4,3],"digests":{"4":"sha256:…"},"more":0}`.

A version counts when it has a model file. Its digest is the one of its manifest, or what a store tells of its files;
where there is neither, `files:` and a mark that is another one as soon as a file is another.
"""

import hashlib
import json
from dataclasses import dataclass, field
from fnmatch import fnmatch

from atalaya_serving.fetching.admission import Bounds
from atalaya_serving.fetching.errors import FileChanged, Interrupted, ModelPathNotFound, StoreUnreachable
from atalaya_serving.fetching.store import Store, StoredFile
from atalaya_serving.fetching.version_folder import digest_in
from atalaya_spec.manifest import FILE_NAME, MODEL_FILE_PATTERNS, digest_of_contents

MOST_VERSIONS = 100
LOOKED_INTO = 32
"""So many of the highest versions are looked into; the others are taken as their folders say."""
LONGEST_BYTES = 4096
"""What Kubernetes keeps of a container's last words."""
_MOST_MANIFEST_BYTES = 1024 * 1024
_HIGHEST = 2**31 - 1


@dataclass(frozen=True)
class Listing:
    """Versions, highest first; digests of some of them; how many more there are."""

    versions: tuple[int, ...]
    digests: dict[int, str] = field(default_factory=dict)
    more: int = 0

    def text(self) -> str:
        """One line that fits: digests of the lowest versions are left out first."""
        digests = {str(number): self.digests[number] for number in self.versions if number in self.digests}
        while len(line := self._line(digests)) > LONGEST_BYTES and digests:
            digests.popitem()
        return line

    def _line(self, digests: dict[str, str]) -> str:
        told = {"versions": list(self.versions), "digests": digests, "more": self.more}
        return json.dumps(told, separators=(",", ":"))


def listing(store: Store, most: int = MOST_VERSIONS) -> Listing:
    """The highest versions of a store, at most `most`. Raises FetchError."""
    numbers = sorted({int(name) for name in store.folders() if _is_version(name)}, reverse=True)
    versions: list[int] = []
    digests: dict[int, str] = {}
    for position, number in enumerate(numbers):
        if len(versions) == most:
            return Listing(tuple(versions), digests, len(numbers) - position)
        digest = _digest(store, number) if position < LOOKED_INTO else ""
        if digest or position >= LOOKED_INTO:
            versions.append(number)
        if digest:
            digests[number] = digest
    if not versions:
        there = f"{store.uri} has no version: no folder that is named by a number and has a model file in it"
        raise ModelPathNotFound(f"{there}; correct spec.model.uri, or put one there.")
    return Listing(tuple(versions), digests)


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdecimal() and str(int(name)) == name and 1 <= int(name) <= _HIGHEST


def _digest(store: Store, number: int) -> str:
    """The version's digest, or a mark of its files; empty when it is no version."""
    files = _files(store, number)
    names = [file.path for file in files if "/" not in file.path]
    if not any(fnmatch(name, pattern) for name in names for pattern in MODEL_FILE_PATTERNS):
        return ""
    if all(file.sha256 for file in files):
        return digest_of_contents((file.path, file.sha256) for file in files)
    manifest = next((file for file in files if file.path == FILE_NAME), None)
    if manifest and (claimed := _claimed(store, number, manifest)):
        return claimed
    mark = hashlib.sha256("\n".join(f"{file.path}\0{file.size}\0{file.tag}" for file in files).encode())
    return f"files:{mark.hexdigest()[:16]}"


def _files(store: Store, number: int) -> list[StoredFile]:
    """Bounded, for a folder of anything may be named by a number."""
    found: list[StoredFile] = []
    try:
        for file in store.files(str(number)):
            found.append(file)
            if len(found) > Bounds().files:
                break
    except FileChanged:
        return []  # it is being written; the next look sees more of it
    return sorted(found, key=lambda file: file.path)


def _claimed(store: Store, number: int, manifest: StoredFile) -> str:
    if manifest.size > _MOST_MANIFEST_BYTES:
        return ""
    try:
        return digest_in(b"".join(store.read(str(number), manifest, 0)))
    except FileChanged:
        return ""
    except Interrupted as error:
        raise StoreUnreachable(f"{store.uri} breaks off ({error}); check the store and the network.") from error
