"""Fetching from a real registry: artifacts as `oras push` makes them, a login by token and by password."""

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from atalaya_serving.fetching.errors import FetchError
from atalaya_serving.fetching.listing import listing
from atalaya_serving.fetching.store import open_store
from atalaya_serving.fetching.version_folder import Fetch, fetch_version
from builders_fetching import MODEL, OTHER, digest_of, files_in
from cluster.fixtures import require_prerequisites
from cluster.oci_artifacts import Repository

PLAIN = {"OCI_PLAIN_HTTP": "true"}
CONFIG = """version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: "{folder}"}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    require_prerequisites()
    folder = tmp_path_factory.mktemp("registry")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = int(listening.getsockname()[1])
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder / "data", port=port))
    command = ["docker-registry", "serve", str(folder / "config.yaml")]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait(port)
            yield Repository(f"127.0.0.1:{port}", "models/haiti")
        finally:
            process.terminate()


def _wait(port: int) -> None:
    for _ in range(1200):
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the registry does not answer")


def test_tags_are_versions_and_layers_are_files(registry: Repository, tmp_path: Path) -> None:
    registry.push("3", MODEL)
    registry.push("10", OTHER)
    registry.push("latest", OTHER)
    uri = registry.uri
    found = listing(open_store(uri, PLAIN))
    assert found.versions == (10, 3)
    assert found.digests == {3: digest_of(MODEL), 10: digest_of(OTHER)}
    fetch_version(Fetch(open_store(uri, PLAIN), tmp_path, 3, digest_of(MODEL)))
    assert files_in(tmp_path / "3") == MODEL


def test_a_version_that_is_not_there_is_told(registry: Repository, tmp_path: Path) -> None:
    registry.push("3", MODEL)
    store = open_store(registry.uri, PLAIN)
    with pytest.raises(FetchError, match=r"ModelPathNotFound: .* version 7 is not there"):
        fetch_version(Fetch(store, tmp_path, 7))


def test_a_repository_that_is_not_there_is_told(registry: Repository) -> None:
    with pytest.raises(FetchError, match=r"ModelPathNotFound: .* is not there .status 404"):
        listing(open_store(f"oci://{registry.host}/models/none", PLAIN))


def test_a_layer_that_is_no_plain_file_is_told_with_how_to_push(registry: Repository, tmp_path: Path) -> None:
    registry.push("5", MODEL, **{"io.deis.oras.content.unpack": "true"})
    store = open_store(registry.uri, PLAIN)
    with pytest.raises(FetchError, match=r"StoreUnreadable: .*:5 has a layer that is no plain file; .* oras push"):
        fetch_version(Fetch(store, tmp_path, 5))
