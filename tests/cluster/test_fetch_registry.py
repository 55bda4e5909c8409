"""Fetching from a real registry: artifacts as `oras push` makes them, a login by token and by password."""

import hashlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import urllib3

from atalaya_serving.fetching.errors import FetchError
from atalaya_serving.fetching.listing import listing
from atalaya_serving.fetching.store import open_store
from atalaya_serving.fetching.version_folder import Fetch, fetch_version
from builders_fetching import MODEL, OTHER, digest_of, files_in
from cluster.fixtures import require_prerequisites

PLAIN = {"OCI_PLAIN_HTTP": "true"}
CONFIG = """version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: "{folder}"}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


class Registry:
    """One running registry, and what pushes into it."""

    def __init__(self, port: int) -> None:
        self.host, self._pool = f"127.0.0.1:{port}", urllib3.PoolManager()

    def push(self, tag: str, files: Mapping[str, bytes], **annotations: str) -> None:
        layers = [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": self._blob(content),
                "size": len(content),
                "annotations": {"org.opencontainers.image.title": path, **annotations},
            }
            for path, content in files.items()
        ]
        empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": self._blob(b"{}"), "size": 2}
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": empty, "layers": layers}
        url = f"http://{self.host}/v2/models/haiti/manifests/{tag}"
        answer = self._pool.request("PUT", url, body=json.dumps(manifest).encode(), headers={"Content-Type": kind})
        assert answer.status == 201, answer.data

    def _blob(self, content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        begun = self._pool.request("POST", f"http://{self.host}/v2/models/haiti/blobs/uploads/")
        place = begun.headers["Location"]
        url = f"{place}{'&' if '?' in place else '?'}digest={digest}"
        answer = self._pool.request("PUT", url, body=content, headers={"Content-Type": "application/octet-stream"})
        assert answer.status == 201, answer.data
        return digest


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    require_prerequisites()
    folder = tmp_path_factory.mktemp("registry")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = int(listening.getsockname()[1])
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder / "data", port=port))
    command = ["docker-registry", "serve", str(folder / "config.yaml")]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait(port)
            yield Registry(port)
        finally:
            process.terminate()


def _wait(port: int) -> None:
    for _ in range(200):
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the registry does not answer")


def test_tags_are_versions_and_layers_are_files(registry: Registry, tmp_path: Path) -> None:
    registry.push("3", MODEL)
    registry.push("10", OTHER)
    registry.push("latest", OTHER)
    uri = f"oci://{registry.host}/models/haiti"
    found = listing(open_store(uri, PLAIN))
    assert found.versions == (10, 3)
    assert found.digests == {3: digest_of(MODEL), 10: digest_of(OTHER)}
    fetch_version(Fetch(open_store(uri, PLAIN), tmp_path, 3, digest_of(MODEL)))
    assert files_in(tmp_path / "3") == MODEL


def test_a_version_that_is_not_there_is_told(registry: Registry, tmp_path: Path) -> None:
    registry.push("3", MODEL)
    store = open_store(f"oci://{registry.host}/models/haiti", PLAIN)
    with pytest.raises(FetchError, match=r"ModelPathNotFound: .* version 7 is not there"):
        fetch_version(Fetch(store, tmp_path, 7))


def test_a_repository_that_is_not_there_is_told(registry: Registry) -> None:
    with pytest.raises(FetchError, match=r"ModelPathNotFound: .* is not there .status 404"):
        listing(open_store(f"oci://{registry.host}/models/none", PLAIN))


def test_a_layer_that_is_no_plain_file_is_told_with_how_to_push(registry: Registry, tmp_path: Path) -> None:
    registry.push("5", MODEL, **{"io.deis.oras.content.unpack": "true"})
    store = open_store(f"oci://{registry.host}/models/haiti", PLAIN)
    with pytest.raises(FetchError, match=r"StoreUnreadable: .*:5 has a layer that is no plain file; .* oras push"):
        fetch_version(Fetch(store, tmp_path, 5))
