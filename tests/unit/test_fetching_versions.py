"""A version appears whole or not at all, whatever kills the fetch or befalls the store, and whoever named its files."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from atalaya_serving.fetching.admission import PICKLE_ENDINGS, Bounds
from atalaya_serving.fetching.errors import (
    DigestMismatch,
    FetchError,
    ModelFileCorrupt,
    ModelFilesRefused,
    ModelPathNotFound,
    ModelTooLarge,
    NoSpaceLeft,
    StoreUnreachable,
)
from atalaya_serving.fetching.folder import FolderStore
from atalaya_serving.fetching.version_folder import ASIDE, Fetch, clear_aside, fetch_version
from builders_fetching import CHUNK, MODEL, OTHER, Killed, MemoryStore, digest_of, files_in, put, with_manifest

SIZE = sum(map(len, MODEL.values()))
WRONG = "sha256:" + "0" * 64


def fetch(store: object, target: Path, digest: str = "", bounds: Bounds | None = None) -> int:
    return fetch_version(Fetch(store, target, 3, digest, bounds or Bounds(), lambda seconds: None))  # type: ignore[arg-type]


def visible(target: Path) -> dict[str, bytes]:
    """What a server would see."""
    return {path: content for path, content in files_in(target).items() if not path.startswith(f"{ASIDE}/")}


def in_version(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"3/{path}": content for path, content in files.items()}


def test_a_version_appears_with_all_its_files_and_nothing_beside_them(tmp_path: Path) -> None:
    assert fetch(MemoryStore({"3": MODEL, "4": OTHER}), tmp_path, digest_of(MODEL)) == SIZE
    clear_aside(tmp_path)
    assert files_in(tmp_path) == in_version(MODEL)


def test_a_fetch_that_is_killed_anywhere_shows_nothing_and_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = MemoryStore({"3": MODEL})
    fetch(whole, tmp_path / "whole")
    for cut in range(1, whole.chunks + 1):
        target, store = tmp_path / str(cut), MemoryStore({"3": MODEL})

        def kill(count: int, cut: int = cut) -> None:
            if count == cut:
                raise Killed

        store.on_chunk = kill
        with pytest.raises(Killed):
            fetch(store, target)
        assert visible(target) == {}
        store.on_chunk = lambda count: None
        fetch(store, target, digest_of(MODEL))
        assert visible(target) == in_version(MODEL)
        assert store.bytes_read == SIZE


def test_a_fetch_that_is_killed_again_and_again_comes_to_its_end(tmp_path: Path) -> None:
    store = MemoryStore({"3": MODEL})

    def kill(count: int) -> None:
        if count % 3 == 0:
            raise Killed

    store.on_chunk = kill
    for _ in range(SIZE // CHUNK):
        try:
            fetch(store, tmp_path)
            break
        except Killed:
            assert visible(tmp_path) == {}
    assert visible(tmp_path) == in_version(MODEL)


def test_a_version_that_is_whole_is_not_asked_for_again(tmp_path: Path) -> None:
    store = MemoryStore({"3": MODEL})
    fetch(store, tmp_path)
    lists = store.lists
    assert fetch(store, tmp_path, digest_of(MODEL)) == fetch(store, tmp_path) == 0
    assert store.lists == lists


def test_a_version_of_another_digest_is_replaced(tmp_path: Path) -> None:
    put(tmp_path / "3", OTHER)
    fetch(MemoryStore({"3": MODEL}), tmp_path, digest_of(MODEL))
    assert visible(tmp_path) == in_version(MODEL)


def test_a_part_of_a_file_that_has_changed_since_is_thrown_away(tmp_path: Path) -> None:
    store = MemoryStore({"3": MODEL})
    store.cut_at = 100
    with pytest.raises(StoreUnreachable, match=r"breaks off .the connection was reset"):
        fetch(store, tmp_path)
    store.cut_at, store.versions["3"] = -1, dict(OTHER)
    fetch(store, tmp_path, digest_of(OTHER))
    assert visible(tmp_path) == in_version(OTHER)


def test_without_tags_nothing_is_gone_on_with(tmp_path: Path) -> None:
    store = MemoryStore({"3": MODEL})
    store.tells_tags, store.cut_at = False, 100
    with pytest.raises(StoreUnreachable):
        fetch(store, tmp_path)
    store.cut_at, store.versions["3"] = -1, dict(OTHER)
    fetch(store, tmp_path)
    assert visible(tmp_path) == in_version(OTHER)


@pytest.mark.parametrize("at", [1, 5, 27, 30])
def test_a_version_that_changes_midway_is_never_a_mixture(tmp_path: Path, at: int) -> None:
    store = MemoryStore({"3": MODEL})

    def change(count: int) -> None:
        if count == at:
            store.versions["3"] = {path: content[::-1] for path, content in MODEL.items()}

    store.on_chunk = change
    fetch(store, tmp_path)
    assert visible(tmp_path) == in_version(store.versions["3"])


def test_a_file_that_is_added_midway_comes_too(tmp_path: Path) -> None:
    store = MemoryStore({"3": MODEL})
    store.on_chunk = lambda count: store.versions["3"].setdefault("late.xml", b"late") and None
    fetch(store, tmp_path)
    assert visible(tmp_path)["3/late.xml"] == b"late"


def test_a_version_that_changes_for_ever_is_told_and_not_shown(tmp_path: Path) -> None:
    store = MemoryStore({"3": MODEL})
    store.on_files = lambda count: store.versions["3"].update({"model.xml": str(count).encode()})
    with pytest.raises(ModelFileCorrupt, match="changes while it is fetched; wait until its upload has ended"):
        fetch(store, tmp_path)
    assert visible(tmp_path) == {}


def test_an_interruption_is_no_failure_while_bytes_come(tmp_path: Path) -> None:
    store = MemoryStore({"3": MODEL})
    pauses: list[float] = []

    def interrupt(seconds: float) -> None:
        pauses.append(seconds)
        store.cut_at += CHUNK

    store.cut_at = CHUNK
    fetch_version(Fetch(store, tmp_path, 3, "", Bounds(), interrupt))
    assert visible(tmp_path) == in_version(MODEL)
    assert len(pauses) > 20


def test_files_of_another_digest_are_never_shown_and_not_kept(tmp_path: Path) -> None:
    store = MemoryStore({"3": MODEL})
    with pytest.raises(DigestMismatch, match=f"memory://m version 3 has the digest {digest_of(MODEL)}, asked for is"):
        fetch(store, tmp_path, WRONG)
    assert visible(tmp_path) == {}
    assert not (tmp_path / ASIDE / "3").exists()
    store.bytes_read = 0
    fetch(store, tmp_path, digest_of(MODEL))
    assert store.bytes_read == SIZE


def test_a_version_whose_manifest_tells_another_digest_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ModelFileCorrupt, match="its manifest says"):
        fetch(MemoryStore({"3": with_manifest(MODEL, WRONG)}), tmp_path)
    assert visible(tmp_path) == {}
    fetch(MemoryStore({"3": with_manifest(MODEL)}), tmp_path)
    assert len(visible(tmp_path)) == 4


@pytest.mark.parametrize("manifest", [b"digest: 3\n", b"[", b"- a\n", b"digest: sha256:xyz\n", b"\xff\xfe"])
def test_a_manifest_that_tells_no_digest_stands_in_nobodys_way(tmp_path: Path, manifest: bytes) -> None:
    fetch(MemoryStore({"3": {**MODEL, "manifest.yaml": manifest}}), tmp_path)
    assert visible(tmp_path)["3/manifest.yaml"] == manifest


def test_a_file_that_is_not_what_its_own_digest_says_is_not_kept(tmp_path: Path) -> None:
    store = MemoryStore({"3": MODEL})
    store.tells_digests = True
    read = store.read
    store.read = lambda *given: (bytes(len(chunk)) for chunk in read(*given))  # type: ignore[method-assign]
    with pytest.raises(ModelFileCorrupt, match=r"extra/labels.txt is not what its digest says; push it again"):
        fetch(store, tmp_path)
    assert visible(tmp_path) == {}


def test_more_bytes_than_were_told_are_not_taken(tmp_path: Path) -> None:
    store = MemoryStore({"3": {"m.xml": b"12345"}})
    store.read = lambda *given: iter([b"123456"])  # type: ignore[method-assign]
    with pytest.raises(ModelFileCorrupt):
        fetch(store, tmp_path)
    assert visible(tmp_path) == {}


def test_a_version_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelPathNotFound, match=r"version 3 is not there; correct spec.model.versions"):
        fetch(MemoryStore({"4": MODEL}), tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "../out.xml", "a/../../out.xml", "/etc/passwd", "a//b", "./a", "a/", "", "..", "a\\..\\b", "a\nb", "a\0b",
        "x" * 256, "/".join(["deep" * 10] * 30),
    ],
)  # fmt: skip
def test_a_name_that_is_no_plain_path_below_the_version_is_refused_before_anything_is_read(
    tmp_path: Path, path: str
) -> None:
    store = MemoryStore({"3": {**MODEL, path: b"x"}})
    with pytest.raises(ModelFilesRefused):
        fetch(store, tmp_path / "target")
    assert store.bytes_read == 0
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("ending", [*PICKLE_ENDINGS, ".PT", ".Pkl"])
def test_a_pickle_is_refused_by_its_name(tmp_path: Path, ending: str) -> None:
    with pytest.raises(ModelFilesRefused, match="a pickle, which runs code when it is loaded; take it out, or convert"):
        fetch(MemoryStore({"3": {**MODEL, f"deep/weights{ending}": b"x"}}), tmp_path)


def test_a_file_below_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesRefused, match=r"'model\.xml/x' below a file of that name"):
        fetch(MemoryStore({"3": {**MODEL, "model.xml/x": b"x"}}), tmp_path)


def test_a_link_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "store" / "3", MODEL)
    (tmp_path / "store" / "3" / "secret.txt").symlink_to("/etc/passwd")
    with pytest.raises(ModelFilesRefused, match=r"'secret.txt', which is a link"):
        fetch(FolderStore("file:///store", str(tmp_path / "store")), tmp_path / "target")


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        pytest.param(Bounds(files=2), "more than 2 files", id="files"),
        pytest.param(Bounds(total_bytes=SIZE - 1), f"has {SIZE} bytes, the bound is {SIZE - 1}", id="bytes"),
    ],
)
def test_more_than_the_bounds_is_refused_before_anything_is_read(tmp_path: Path, bounds: Bounds, words: str) -> None:
    store = MemoryStore({"3": MODEL})
    with pytest.raises(ModelTooLarge, match=words):
        fetch(store, tmp_path, "", bounds)
    assert store.bytes_read == 0
    fetch(store, tmp_path, "", Bounds(files=3, total_bytes=SIZE))


def test_a_volume_without_room_is_told_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    store = MemoryStore({"3": MODEL})
    with pytest.raises(NoSpaceLeft, match=f"needs {SIZE} bytes, .* has 1,000"):
        fetch(store, tmp_path)
    assert store.bytes_read == 0


def test_a_target_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NoSpaceLeft, match=r"cannot be written to .Not a directory"):
        fetch(MemoryStore({"3": MODEL}), tmp_path / "file")


def test_every_failure_begins_with_its_reason_and_ends_with_a_next_step() -> None:
    for kind in FetchError.__subclasses__():
        told = str(kind("s3://m is so; do that."))
        assert told == f"{kind.__name__}: s3://m is so; do that."
        assert kind.exit_code == 1
