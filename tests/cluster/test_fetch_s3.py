"""Fetching from a real S3 server, by the command as a pod runs it. Needs Go to build the server, and no cluster."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builders_fetching import MODEL, OTHER, digest_of, files_in, with_manifest
from cluster.fixtures import require_prerequisites
from cluster.s3_server import S3Server, s3_server
from relay import Hold, Relay, relay_to

SOURCE = "s3://models/haiti"
LARGE = {"saved_model.pb": b"graph", "variables/variables.data-00000-of-00001": os.urandom(40_000_000)}
LARGE_BYTES = sum(map(len, LARGE.values()))
UNWRITTEN_BYTES = 3 << 20
"""What a fetch may hold that came and is not yet in its file: a part of a chunk, listings and headers."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    require_prerequisites()
    with s3_server(tmp_path_factory.mktemp("s3")) as one:
        yield one


@pytest.fixture
def relay(server: S3Server) -> Iterator[Relay]:
    with relay_to(int(server.endpoint.rpartition(":")[2])) as one:
        yield one


@pytest.fixture(autouse=True)
def emptied(server: S3Server) -> Iterator[None]:
    yield
    server.remove("haiti")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "atalaya_serving", "fetch", *arguments]


def run(server: S3Server, *arguments: str, **changed: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_"))}
    environment = {**kept, **server.environment, **changed}
    return subprocess.run(
        command(*arguments), env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def failure(server: S3Server, *arguments: str, **changed: str) -> str:
    """The one line of a run that fails."""
    done = run(server, *arguments, **changed)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr.strip()


def test_versions_are_listed_and_fetched_whole(server: S3Server, tmp_path: Path) -> None:
    server.put("haiti/3", MODEL)
    server.put("haiti/4", with_manifest(OTHER))
    server.put("haiti/notes", {"a.txt": b"x"})
    listed = json.loads(run(server, "--list", f"--from={SOURCE}").stdout)
    assert listed["versions"] == [4, 3]
    assert listed["digests"]["4"] == digest_of(OTHER)
    assert listed["digests"]["3"].startswith("files:")
    target = f"--to={tmp_path}"
    done = run(server, f"--from={SOURCE}", target, "--versions=3,4", f"--digest=3={digest_of(MODEL)}")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(child.name for child in tmp_path.iterdir()) == ["3", "4"]
    assert files_in(tmp_path / "3") == MODEL
    again = run(server, f"--from={SOURCE}", target, "--versions=3,4", S3_ENDPOINT="http://127.0.0.1:9")
    assert again.stdout.endswith("; 0 bytes were fetched.\n")


def test_an_overwritten_version_has_another_mark(server: S3Server) -> None:
    marks = []
    for files in (MODEL, OTHER):
        server.put("haiti/3", files)
        marks.append(json.loads(run(server, "--list", f"--from={SOURCE}").stdout)["digests"]["3"])
    assert marks[0] != marks[1]


def test_the_endpoint_may_stand_in_the_uri(server: S3Server) -> None:
    server.put("haiti/3", MODEL)
    uri = f"s3://{server.endpoint.removeprefix('http://')}/models/haiti"
    assert json.loads(run(server, "--list", f"--from={uri}", S3_ENDPOINT="").stdout)["versions"] == [3]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        pytest.param({"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch", id="wrong-secret"),
        pytest.param({"AWS_ACCESS_KEY_ID": "nobody"}, "XAdminUserNotFound", id="unknown-key"),
        pytest.param({"AWS_SKIP_SIGNATURE": "true"}, "AccessDenied", id="unsigned"),
    ],
)
def test_wrong_credentials_are_told_as_such(server: S3Server, changed: dict[str, str], words: str) -> None:
    server.put("haiti/3", MODEL)
    told = failure(server, "--list", f"--from={SOURCE}", **changed)
    assert told.startswith(f"BadCredentials: {SOURCE} refuses these credentials ({words}); correct the Secret")
    told = failure(server, f"--from={SOURCE}", "--to=/nowhere", "--versions=3", **changed)
    assert told.startswith("BadCredentials: ")
    assert server.environment["AWS_SECRET_ACCESS_KEY"] not in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--list", "--from=s3://no-such-bucket/haiti"], "there is no such bucket; correct spec.model.uri",
                     id="bucket"),
        pytest.param(["--list", "--from=s3://models/none"], "has no version: no folder that is named", id="folder"),
        pytest.param([f"--from={SOURCE}", "--versions=7", "--to=TARGET"], "version 7 is not there", id="version"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told(server: S3Server, tmp_path: Path, arguments: list[str], words: str) -> None:
    server.put("haiti/3", MODEL)
    told = failure(server, *(one.replace("TARGET", str(tmp_path / "to")) for one in arguments))
    assert told.startswith("ModelPathNotFound: ")
    assert words in told


def test_nobody_at_the_endpoint_is_told(server: S3Server) -> None:
    told = failure(server, "--list", f"--from={SOURCE}", S3_ENDPOINT="http://127.0.0.1:9")
    assert told.startswith(f"StoreUnreachable: {SOURCE} cannot be read (")


def test_a_corrupted_or_shortened_object_is_never_shown(server: S3Server, tmp_path: Path) -> None:
    good = with_manifest(MODEL)
    for name, content in (("model.bin", MODEL["model.bin"][:-1]), ("model.xml", b"<other/>")):
        server.put("haiti/3", {**good, name: content})
        told = failure(server, f"--from={SOURCE}", f"--to={tmp_path}", "--versions=3")
        assert told.startswith(f"ModelFileCorrupt: {SOURCE} version 3 has the digest sha256:")
        told = failure(server, f"--from={SOURCE}", f"--to={tmp_path}", "--versions=3", f"--digest=3={digest_of(MODEL)}")
        assert told.startswith(f"DigestMismatch: {SOURCE} version 3 has the digest sha256:")
        assert not (tmp_path / "3").exists()
    server.put("haiti/3", good)
    assert run(server, f"--from={SOURCE}", f"--to={tmp_path}", "--versions=3").returncode == 0
    assert files_in(tmp_path / "3") == good


def test_a_pickle_is_refused(server: S3Server, tmp_path: Path) -> None:
    server.put("haiti/3", {**MODEL, "deep/weights.pt": b"x"})
    told = failure(server, f"--from={SOURCE}", f"--to={tmp_path}", "--versions=3")
    assert told.startswith(f"ModelFilesRefused: {SOURCE} version 3 has 'deep/weights.pt', a pickle,")


def aside_bytes(target: Path) -> int:
    """How much of version 3 lies aside."""
    return sum(file.stat().st_size for file in (target / ".fetching" / "3").rglob("*") if file.is_file())


def kill(server: S3Server, relay: Relay, target: Path, is_reached: Callable[[int], bool], least: int) -> None:
    """Fetch through the relay; kill it while the answers stand still and at least `least` bytes lie aside."""
    arguments = command(f"--from={SOURCE}", f"--to={target}", "--versions=3")
    environment = {**os.environ, **server.environment, "S3_ENDPOINT": f"http://127.0.0.1:{relay.port}"}
    with (
        relay.holding(is_reached) as hold,
        subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL) as one,
    ):
        try:
            hold.wait()
            until = time.monotonic() + 60
            while aside_bytes(target) < least:
                assert time.monotonic() < until, f"{aside_bytes(target):,} bytes lie aside, not {least:,}"
                time.sleep(0.02)
        finally:
            one.kill()
        assert one.wait(60) == -signal.SIGKILL
    assert not (target / "3").exists()


def test_a_fetch_that_is_killed_at_many_moments_ends_whole_and_fetches_nothing_twice(
    server: S3Server, relay: Relay, tmp_path: Path
) -> None:
    """From before the first answer on; each attempt brings so many more bytes, but for what it had not yet written."""
    server.put("haiti/3", LARGE)
    lying = 0
    for more in (0, 100_000, 3_000_000, 9_000_000, 9_000_000, 12_000_000):
        least = lying + max(0, more - UNWRITTEN_BYTES)
        kill(server, relay, tmp_path, lambda passed, more=more: passed >= more, least)  # type: ignore[misc]
        lying = aside_bytes(tmp_path)
        assert least <= lying <= least + 2 * UNWRITTEN_BYTES
    done = run(server, f"--from={SOURCE}", f"--to={tmp_path}", "--versions=3")
    assert (done.returncode, done.stderr) == (0, "")
    assert files_in(tmp_path / "3") == LARGE
    assert f"; {LARGE_BYTES - lying:,} bytes were fetched" in done.stdout


def test_a_fetch_that_is_killed_when_all_bytes_are_there_fetches_none_again(
    server: S3Server, relay: Relay, tmp_path: Path
) -> None:
    server.put("haiti/3", LARGE)
    kill(server, relay, tmp_path, lambda passed: aside_bytes(tmp_path) == LARGE_BYTES, LARGE_BYTES)
    done = run(server, f"--from={SOURCE}", f"--to={tmp_path}", "--versions=3")
    assert (done.returncode, done.stderr) == (0, "")
    assert files_in(tmp_path / "3") == LARGE
    assert "; 0 bytes were fetched" in done.stdout


def test_an_object_that_is_replaced_while_it_is_fetched_comes_as_it_was_left(
    server: S3Server, relay: Relay, tmp_path: Path
) -> None:
    other = {**LARGE, "variables/variables.data-00000-of-00001": os.urandom(40_000_000)}
    server.put("haiti/3", LARGE)

    def replace(hold: Hold) -> None:
        try:
            hold.wait()
            assert 0 < aside_bytes(tmp_path) < LARGE_BYTES
            server.put("haiti/3", other)
        finally:
            hold.end()

    with relay.holding(lambda passed: passed >= 20_000_000) as hold, ThreadPoolExecutor(1) as pool:
        replaced = pool.submit(replace, hold)
        at_relay = f"http://127.0.0.1:{relay.port}"
        done = run(server, f"--from={SOURCE}", f"--to={tmp_path}", "--versions=3", S3_ENDPOINT=at_relay)
        replaced.result()
    assert (done.returncode, done.stderr) == (0, "")
    assert files_in(tmp_path / "3") == other
