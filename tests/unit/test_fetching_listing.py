"""Which versions a store has: canonical numbers with a model in them, in one line that a pod's status can hold."""

import json
from pathlib import Path

import pytest

from atalaya_serving.fetching.command import main
from atalaya_serving.fetching.errors import ModelPathNotFound
from atalaya_serving.fetching.listing import LONGEST_BYTES, LOOKED_INTO, listing
from builders_fetching import MODEL, OTHER, MemoryStore, digest_of, put, with_manifest

ZEROS = f"sha256:{'0' * 64}"
EMPTY = {"notes.txt": b"x"}


def test_versions_are_told_highest_first_and_only_those_that_are_some() -> None:
    names = dict.fromkeys(("3", "10", "4", "04", "0", "-1", "v5", "5.0", "٣", "99999999999", ""), MODEL)
    assert listing(MemoryStore({**names, "11": EMPTY, "12": {}})).versions == (10, 4, 3)


def test_so_many_as_are_asked_for_are_told_and_no_others_are_looked_into() -> None:
    store = MemoryStore({str(number): MODEL for number in range(1, 51)})
    found = listing(store, most=2)
    assert (found.versions, found.more, store.lists) == ((50, 49), 48, 2)


def test_a_version_in_the_middle_of_its_upload_does_not_hide_the_one_before_it() -> None:
    assert listing(MemoryStore({"3": MODEL, "4": {"model.bin": b"x"}}), most=1).versions == (3,)


@pytest.mark.parametrize(
    "files", [{"saved_model.pb": b"x"}, {"m.onnx": b"x"}, {"m.xml": b"x", "m.bin": b"x"}, {"m.tflite": b"x"}]
)
def test_every_kind_of_model_counts(files: dict[str, bytes]) -> None:
    assert listing(MemoryStore({"3": files})).versions == (3,)


def test_a_model_file_further_down_is_none() -> None:
    with pytest.raises(ModelPathNotFound):
        listing(MemoryStore({"3": {"assets/model.xml": b"x"}}))


def test_the_digest_is_the_manifests_or_what_the_store_tells_of_all_files() -> None:
    store = MemoryStore({"3": with_manifest(MODEL)})
    assert listing(store).digests == {3: digest_of(MODEL)}
    store = MemoryStore({"3": MODEL})
    store.tells_digests = True
    assert listing(store).digests == {3: digest_of(MODEL)}
    assert store.bytes_read == 0


def test_without_a_digest_a_mark_changes_with_the_files() -> None:
    marks = [listing(MemoryStore({"3": files})).digests[3] for files in (MODEL, OTHER, {**MODEL, "x": b""}, MODEL)]
    assert marks[0] == marks[3]
    assert len(set(marks)) == 3
    assert all(mark.startswith("files:") for mark in marks)


def test_thousands_of_versions_fit_into_a_pods_last_words() -> None:
    files = with_manifest(MODEL)
    store = MemoryStore({str(2_000_000_000 + number): files for number in range(5000)})
    found = listing(store)
    line = found.text()
    told = json.loads(line)
    assert len(line.encode()) <= LONGEST_BYTES
    assert told["versions"] == list(range(2_000_004_999, 2_000_004_899, -1))
    assert told["more"] == 4900
    assert 16 <= len(told["digests"]) <= LOOKED_INTO
    assert next(iter(told["digests"])) == "2000004999"
    assert store.lists == LOOKED_INTO


def test_a_store_without_a_version_is_told() -> None:
    with pytest.raises(ModelPathNotFound, match="no folder that is named by a number and has a model file in it"):
        listing(MemoryStore({"latest": MODEL}))


def test_the_command_tells_in_one_line_and_in_the_last_words_of_a_pod(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "m" / "3", MODEL)
    last_words = tmp_path / "termination-log"
    last_words.write_text("")
    assert main(["--list", f"--from=file://{tmp_path}/m"], last_words) == 0
    line = capsys.readouterr().out
    assert json.loads(line)["versions"] == [3]
    assert last_words.read_text() == line.strip()
    assert main(["--list", f"--from={tmp_path}/none"], last_words) == 1
    told = capsys.readouterr().err
    assert told == f"ModelPathNotFound: {tmp_path}/none is no folder; correct spec.model.uri.\n"
    assert last_words.read_text() == told.strip()


def test_the_last_words_are_not_made_where_there_is_no_place_for_them(tmp_path: Path) -> None:
    put(tmp_path / "m" / "3", MODEL)
    assert main(["--list", f"--from={tmp_path}/m"], tmp_path / "termination-log") == 0
    assert not (tmp_path / "termination-log").exists()


def test_the_command_fetches_and_a_second_run_fetches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "m" / "3", MODEL)
    put(tmp_path / "m" / "4", OTHER)
    arguments = [f"--from={tmp_path}/m", f"--to={tmp_path}/to", "--versions=4,3", f"--digest=4={digest_of(OTHER)}"]
    assert main(arguments, tmp_path / "none") == main(arguments, tmp_path / "none") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "version 3, 4 is whole" in first
    assert second.endswith("; 0 bytes were fetched.")
    assert sorted(child.name for child in (tmp_path / "to").iterdir()) == ["3", "4"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--from=m"], "exactly one of them", id="neither"),
        pytest.param(["--from=m", "--list", "--to=x"], "exactly one of them", id="both"),
        pytest.param(["--from=m", "--to=x"], "--to needs --versions", id="no-versions"),
        pytest.param(["--from=m", "--to=x", "--versions=a"], "not a list of versions", id="no-number"),
        pytest.param(["--from=m", "--to=x", "--versions=0"], "not a list of versions", id="zero"),
        pytest.param(["--from=m", "--to=x", "--versions=3", "--digest=3=abc"], "64 hex digits", id="no-digest"),
        pytest.param(["--from=m", "--to=x", "--versions=3", f"--digest=4={ZEROS}"], "--versions does not name",
                     id="digest-of-another"),
        pytest.param(["--list"], "--from", id="no-store"),
        pytest.param(["--from=m", "--list", "--what"], "--what", id="unknown-flag"),
    ],
)  # fmt: skip
def test_wrong_use_is_told_in_a_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("uri", ["ftp://host/m", "S3://b/m", "hdfs://x/y"])
def test_a_store_of_no_known_kind_is_told(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", f"--from={uri}"]) == 1
    assert capsys.readouterr().err.startswith(f"StoreUnreadable: {uri} is no store that is known here; write s3,")
