"""Fetching from a real S3 server, by the command as a pod runs it. Needs Go to build the server, and no cluster."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders_fetching import MODEL, OTHER, digest_of, files_in, with_manifest
from cluster.fixtures import require_prerequisites
from cluster.s3_server import S3Server, s3_server

SOURCE = "s3://models/haiti"
LARGE = {"saved_model.pb": b"graph", "variables/variables.data-00000-of-00001": os.urandom(40_000_000)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    require_prerequisites()
    with s3_server(tmp_path_factory.mktemp("s3")) as one:
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


def test_a_fetch_that_is_killed_at_many_moments_ends_whole_and_fetches_nothing_twice(
    server: S3Server, tmp_path: Path
) -> None:
    server.put("haiti/3", LARGE)
    arguments = command(f"--from={SOURCE}", f"--to={tmp_path}", "--versions=3")
    kills = 0
    for delay in (0.2, 0.25, 0.3, 0.3, 0.35, 0.35, 0.4, 0.4):
        with subprocess.Popen(arguments, env={**os.environ, **server.environment}, stdout=subprocess.DEVNULL) as one:
            time.sleep(delay)
            if one.poll() is None:
                one.send_signal(signal.SIGKILL)
                kills += 1
        if (tmp_path / "3").exists():
            break
    assert kills
    part = sum(map(len, files_in(tmp_path / ".fetching" / "3").values()))
    done = run(server, f"--from={SOURCE}", f"--to={tmp_path}", "--versions=3")
    assert (done.returncode, done.stderr) == (0, "")
    assert files_in(tmp_path / "3") == LARGE
    if part:
        assert f"{sum(map(len, LARGE.values())) - part:,} bytes were fetched" in done.stdout


def test_an_object_that_is_replaced_while_it_is_fetched_comes_as_one_of_the_two(
    server: S3Server, tmp_path: Path
) -> None:
    other = {**LARGE, "variables/variables.data-00000-of-00001": os.urandom(40_000_000)}
    server.put("haiti/3", LARGE)
    replacing = threading.Timer(0.35, server.put, ("haiti/3", other))
    replacing.start()
    done = run(server, f"--from={SOURCE}", f"--to={tmp_path}", "--versions=3")
    replacing.join()
    assert (done.returncode, done.stderr) == (0, "")
    assert files_in(tmp_path / "3") in (LARGE, other)
