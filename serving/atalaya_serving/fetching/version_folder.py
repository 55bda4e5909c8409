"""Fetches one version: into a folder aside, from where each file stopped, checked, and made visible by one rename.

A fetch that is killed leaves its folder aside, which servers pass over because its name is no number; the next fetch
goes on with it, as far as the store still has the very same files.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path

import yaml

from atalaya_serving.fetching.admission import Bounds, admitted
from atalaya_serving.fetching.errors import (
    DigestMismatch,
    FileChanged,
    Interrupted,
    ModelFileCorrupt,
    ModelPathNotFound,
    NoSpaceLeft,
    StoreUnreachable,
)
from atalaya_serving.fetching.store import Store, StoredFile
from atalaya_spec.manifest import FILE_NAME, version_digest

ASIDE = ".fetching"
_MOST_TRIES, _FIRST_PAUSE_SECONDS = 5, 0.2
_SPARE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Fetch:
    """One version of a store, to become the folder of its number below `target`. An empty digest is not known."""

    store: Store
    target: Path
    number: int
    digest: str = ""
    bounds: Bounds = field(default_factory=Bounds)
    pause: Callable[[float], None] = time.sleep

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"{self.store.uri} version {self.number}"

    @property
    def folder(self) -> Path:
        """Where it appears."""
        return self.target / str(self.number)

    @property
    def aside(self) -> Path:
        """Where it grows."""
        return self.target / ASIDE / str(self.number)

    @property
    def journal(self) -> Path:
        """Which files the folder aside is made of, by the store's tags."""
        return self.target / ASIDE / f"{self.number}.json"


def fetch_version(fetch: Fetch) -> int:
    """Answers how many bytes were fetched; 0 when the version was whole already. Raises FetchError."""
    if fetch.folder.is_dir():
        if not fetch.digest or version_digest(fetch.folder) == fetch.digest:
            return 0
        fetch.folder.rename(_free_name(fetch))
    try:
        fetched = _complete(fetch)
        _verify(fetch)
        fetch.aside.rename(fetch.folder)
    except OSError as error:
        raise _as_ours(fetch, error) from error
    fetch.journal.unlink(missing_ok=True)
    return fetched


def clear_aside(target: Path) -> None:
    """Remove what failed or former fetches left."""
    shutil.rmtree(target / ASIDE, ignore_errors=True)


def _complete(fetch: Fetch) -> int:
    """Until the store has, at the end, the very files that were fetched."""
    fetched = 0
    for _ in range(_MOST_TRIES):
        try:
            files = _files(fetch)
            _begin(fetch, files)
            for file in files:
                fetched += _fetch_file(fetch, file)
            if _files(fetch) == files:
                return fetched
        except FileChanged:
            continue
    raise ModelFileCorrupt(f"{fetch.where} changes while it is fetched; wait until its upload has ended.")


def _files(fetch: Fetch) -> list[StoredFile]:
    files = admitted(fetch.store.files(str(fetch.number)), fetch.where, fetch.bounds)
    if not files:
        raise ModelPathNotFound(f"{fetch.where} is not there; correct spec.model.versions or spec.model.uri.")
    return files


def _begin(fetch: Fetch, files: list[StoredFile]) -> None:
    """Keep of the folder aside what is of these very files, and see that the rest has room."""
    known = _read_journal(fetch.journal)
    wanted = {file.path: [file.size, file.tag] for file in files}
    fetch.aside.mkdir(parents=True, exist_ok=True)
    for there in sorted(fetch.aside.rglob("*"), reverse=True):
        path = there.relative_to(fetch.aside).as_posix()
        if there.is_dir():
            if not any(there.iterdir()):
                there.rmdir()
        elif path not in wanted or not wanted[path][1] or known.get(path) != wanted[path]:
            there.unlink()
    needed = sum(file.size for file in files) - sum(one.stat().st_size for one in fetch.aside.rglob("*"))
    free = shutil.disk_usage(fetch.aside).free
    if needed + _SPARE_BYTES > free:
        told = f"{fetch.where} needs {needed:,} bytes, {fetch.target} has {free:,}"
        raise NoSpaceLeft(f"{told}; give its node more room.")
    unfinished = fetch.journal.with_suffix(".new")
    unfinished.write_text(json.dumps(wanted), encoding="utf-8")
    unfinished.replace(fetch.journal)


def _read_journal(journal: Path) -> dict[str, list[object]]:
    try:
        return dict(json.loads(journal.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _fetch_file(fetch: Fetch, file: StoredFile) -> int:
    """Go on with a file until it is whole. As long as bytes come, an interruption is no failure."""
    path = fetch.aside / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    start = path.stat().st_size
    failures = 0
    while (before := path.stat().st_size) < file.size:
        try:
            _append(fetch, file, path, before)
            told = "it ends early"
        except Interrupted as error:
            told = str(error)
        except FileChanged:
            path.unlink()  # or the server cannot go on with a file, and begins it anew
            raise
        failures = 0 if path.stat().st_size > before else failures + 1
        if failures == _MOST_TRIES:
            raise StoreUnreachable(f"{fetch.where}: {file.path} breaks off ({told}); check the store and the network.")
        if path.stat().st_size < file.size:
            fetch.pause(_FIRST_PAUSE_SECONDS * 2**failures)
    if file.sha256:
        _check_content(fetch, file, path)
    return path.stat().st_size - start


def _append(fetch: Fetch, file: StoredFile, path: Path, offset: int) -> None:
    with path.open("ab") as opened:
        for chunk in fetch.store.read(str(fetch.number), file, offset):
            offset += len(chunk)
            if offset > file.size:
                raise FileChanged
            opened.write(chunk)


def _check_content(fetch: Fetch, file: StoredFile, path: Path) -> None:
    with path.open("rb") as opened:
        actual = file_digest(opened, "sha256").hexdigest()
    if actual != file.sha256:
        path.unlink()
        raise ModelFileCorrupt(f"{fetch.where}: {file.path} is not what its digest says; push it again.")


def _verify(fetch: Fetch) -> None:
    """Against the digest that was asked for, else against the one that the version's own manifest claims."""
    claimed = fetch.digest or claimed_digest(fetch.aside / FILE_NAME)
    if not claimed:
        return
    actual = version_digest(fetch.aside)
    if actual == claimed:
        return
    shutil.rmtree(fetch.aside)  # whichever file is wrong, it would be kept for ever
    fetch.journal.unlink(missing_ok=True)
    if fetch.digest:
        told = f"{fetch.where} has the digest {actual}, asked for is {claimed}"
        raise DigestMismatch(f"{told}; never change a version that was published: publish another number.")
    step = "put its files there again, or correct the manifest's digest"
    raise ModelFileCorrupt(f"{fetch.where} has the digest {actual}, its manifest says {claimed}; {step}.")


def claimed_digest(manifest: Path) -> str:
    """The digest in a version's manifest; empty where there is none."""
    try:
        return digest_in(manifest.read_bytes())
    except OSError:
        return ""


def digest_in(manifest: bytes) -> str:
    """The digest that a manifest claims; empty where it claims none in our form."""
    try:
        read = yaml.safe_load(manifest)
    except (yaml.YAMLError, ValueError, RecursionError):
        return ""
    digest = str(read.get("digest", "")) if isinstance(read, dict) else ""
    return digest if is_digest(digest) else ""


def is_digest(text: str) -> bool:
    """Whether it is `sha256:` and 64 hex digits."""
    kind, _, digits = text.partition(":")
    return kind == "sha256" and len(digits) == 64 and set(digits) <= set("0123456789abcdef")


def _free_name(fetch: Fetch) -> Path:
    """A name aside for a folder that is to be replaced."""
    (fetch.target / ASIDE).mkdir(exist_ok=True)
    return fetch.target / ASIDE / f"{fetch.number}-replaced-{os.getpid()}-{time.time_ns()}"


def _as_ours(fetch: Fetch, error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceLeft(f"{fetch.where} does not fit into {fetch.target}; give its node more room.")
    told = error.strerror or str(error)
    return NoSpaceLeft(
        f"{fetch.target} cannot be written to ({told}); mount a volume there that user {os.getuid()} may write."
    )
