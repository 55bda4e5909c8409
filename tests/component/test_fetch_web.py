"""Fetching from web servers: listings of several makes, ranges, logins, and everything that breaks off midway."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atalaya_serving.fetching.command import main
from atalaya_serving.fetching.errors import FetchError
from atalaya_serving.fetching.listing import listing
from atalaya_serving.fetching.store import open_store
from atalaya_serving.fetching.version_folder import Fetch, fetch_version
from builders_fetching import MODEL, files_in, put
from relay import Hold, relay_to
from web_stores import Faults, listing_server, plain_server

LARGE = {"model.xml": b"<net/>", "model.bin": os.urandom(300_000), "odd name %.txt": b"x"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "store" / "m" / "3", LARGE)
    put(tmp_path / "store" / "m" / "4", MODEL)
    return tmp_path / "store"


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def uri(root: Path, faults: Faults) -> Iterator[str]:
    with listing_server(root, faults) as address:
        yield f"{address}/m"


def fetch(uri: str, target: Path, environment: dict[str, str] | None = None) -> int:
    return fetch_version(Fetch(open_store(uri, environment or {}), target, 3, pause=lambda seconds: None))


def test_versions_and_files_are_read_from_a_listing(uri: str, tmp_path: Path) -> None:
    assert listing(open_store(uri, {})).versions == (4, 3)
    fetch(f"{uri}/", tmp_path / "to")
    assert files_in(tmp_path / "to" / "3") == LARGE


def test_versions_and_files_are_read_from_a_listing_in_json(uri: str, tmp_path: Path, faults: Faults) -> None:
    faults.as_json = True
    assert listing(open_store(uri, {})).versions == (4, 3)
    fetch(uri, tmp_path / "to")
    assert files_in(tmp_path / "to" / "3") == LARGE


def test_pythons_own_server_does(root: Path, tmp_path: Path) -> None:
    with plain_server(root) as address:
        assert listing(open_store(f"{address}/m", {})).versions == (4, 3)
        fetch(f"{address}/m", tmp_path / "to")
    assert files_in(tmp_path / "to" / "3") == LARGE


def test_a_connection_that_breaks_off_is_gone_on_with_by_ranges(uri: str, tmp_path: Path, faults: Faults) -> None:
    faults.break_off_after = 65_536
    assert fetch(uri, tmp_path / "to") == sum(map(len, LARGE.values()))
    assert files_in(tmp_path / "to" / "3") == LARGE
    ranges = [asked for line, asked in faults.asked if line.startswith("GET /m/3/model.bin")]
    assert ranges == ["", "bytes=65536-", "bytes=131072-", "bytes=196608-", "bytes=262144-"]


def test_a_connection_that_brings_nothing_is_told(uri: str, tmp_path: Path, faults: Faults) -> None:
    faults.break_off_after = 0
    with pytest.raises(FetchError, match=r"StoreUnreachable: .* breaks off"):
        fetch(uri, tmp_path / "to")
    assert not (tmp_path / "to" / "3").exists()


def test_a_file_that_changes_between_two_parts_is_begun_anew(
    uri: str, root: Path, tmp_path: Path, faults: Faults
) -> None:
    faults.break_off_after = 70_000
    changed = {**LARGE, "model.bin": os.urandom(300_000)}

    def change(seconds: float) -> None:
        put(root / "m" / "3", changed)

    fetch_version(Fetch(open_store(uri, {}), tmp_path / "to", 3, pause=change))
    assert files_in(tmp_path / "to" / "3") == changed


def test_a_server_that_is_busy_for_a_moment_is_asked_again(uri: str, tmp_path: Path, faults: Faults) -> None:
    faults.statuses = [503, 429]
    fetch(uri, tmp_path / "to")
    assert files_in(tmp_path / "to" / "3") == LARGE


@pytest.mark.parametrize(
    ("environment", "login"),
    [
        pytest.param({"HTTP_TOKEN": "abc"}, "Bearer abc", id="token"),
        pytest.param({"HTTP_USERNAME": "u", "HTTP_PASSWORD": "p"}, "Basic dTpw", id="password"),
    ],
)
def test_a_login_is_shown_and_a_wrong_one_told(
    uri: str, tmp_path: Path, faults: Faults, environment: dict[str, str], login: str
) -> None:
    faults.wanted_login = login
    fetch(uri, tmp_path / "to", environment)
    assert files_in(tmp_path / "to" / "3") == LARGE
    for wrong in ({}, dict.fromkeys(environment, "wrong")):
        with pytest.raises(FetchError, match=r"BadCredentials: .* refuses us \(status 401\); correct the Secret"):
            fetch(uri, tmp_path / "again", wrong)


def test_another_host_is_shown_no_login(uri: str, root: Path, tmp_path: Path, faults: Faults) -> None:
    elsewhere = Faults()
    elsewhere.wanted_login = "Bearer abc"
    with listing_server(root, elsewhere) as address:
        faults.redirect_files_to = address
        with pytest.raises(FetchError, match="BadCredentials"):
            fetch(uri, tmp_path / "to", {"HTTP_TOKEN": "abc"})
        elsewhere.wanted_login = ""
        fetch(uri, tmp_path / "to", {"HTTP_TOKEN": "abc"})
    assert files_in(tmp_path / "to" / "3") == LARGE


@pytest.mark.parametrize(
    ("path", "words"),
    [
        pytest.param(
            "/none", "ModelPathNotFound: .* is not there .status 404.; correct spec.model.uri", id="no-folder"
        ),
        pytest.param("/m/4/model.xml", "StoreUnreadable|ModelPathNotFound", id="a-file"),
    ],
)
def test_what_is_no_store_is_told(uri: str, path: str, words: str) -> None:
    with pytest.raises(FetchError, match=words):
        listing(open_store(uri.removesuffix("/m") + path, {}))


def test_the_proxy_of_the_environment_is_asked(
    root: Path, tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listing_server(root, faults) as address:
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.setenv("no_proxy", "")
        assert listing(open_store("http://models.test/m", {})).versions == (4, 3)
        assert faults.asked[0][0] == "GET http://models.test/m/ HTTP/1.1"
        monkeypatch.setenv("no_proxy", "models.test")
        with pytest.raises(FetchError, match=r"StoreUnreachable: http://models\.test/m does not answer"):
            listing(open_store("http://models.test/m", {}))


def test_a_version_that_is_not_there_is_told(uri: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"ModelPathNotFound: .* version 7 is not there"):
        fetch_version(Fetch(open_store(uri, {}), tmp_path, 7))


def test_a_server_that_tells_no_sizes_is_told(uri: str, tmp_path: Path, faults: Faults) -> None:
    faults.tells_sizes = False
    with pytest.raises(FetchError, match=r"StoreUnreadable: .* does not say how large it is"):
        fetch(uri, tmp_path / "to")


def test_nobody_at_the_address_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--from=http://127.0.0.1:9/m"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("StoreUnreachable: http://127.0.0.1:9/m does not answer (")
    assert told.endswith("; check the address and the network.\n")
    assert told.count("\n") == 1


def test_a_process_that_is_killed_at_any_moment_shows_nothing_half(uri: str, tmp_path: Path) -> None:
    """Before the first answer, among the listings, in the large file, between the versions, after all bytes."""
    wanted = {3: LARGE, 4: MODEL}
    target = tmp_path / "to"
    with relay_to(int(uri.split(":")[2].partition("/")[0])) as relay:
        command = [
            sys.executable, "-m", "atalaya_serving", "fetch", f"--from=http://127.0.0.1:{relay.port}/m",
            f"--to={target}", "--versions=3,4",
        ]  # fmt: skip
        for passes in (0, 1, 100_000, 100_000):
            with relay.holding(lambda passed, passes=passes: passed >= passes) as hold:  # type: ignore[misc]
                kill_standing(command, hold)
            assert not any((target / str(number)).exists() for number in wanted)
        for number in wanted:
            with relay.holding(lambda passed, number=number: is_whole(target, number)) as hold:  # type: ignore[misc]
                kill_standing(command, hold)
            for shown in (other for other in wanted if (target / str(other)).exists()):
                assert files_in(target / str(shown)) == wanted[shown]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.partition("/")[0] for path in files_in(target)} == {"3", "4"}
    assert {number: files_in(target / str(number)) for number in wanted} == wanted


def is_whole(target: Path, number: int) -> bool:
    """Whether all bytes of a version are there, aside or shown."""
    size = sum(map(len, (LARGE if number == 3 else MODEL).values()))
    return any(
        sum(file.stat().st_size for file in (folder / str(number)).rglob("*") if file.is_file()) == size
        for folder in (target, target / ".fetching")
    )


def kill_standing(command: list[str], hold: Hold) -> None:
    """Start it, and kill it while its answers stand still."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            hold.wait()
        finally:
            process.kill()
        assert process.wait(60) == -signal.SIGKILL
