"""What stores answer that no real server here does: odd keys, logins of registries, redirects, broken listings."""

import base64
import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from atalaya_serving.fetching.errors import FetchError
from atalaya_serving.fetching.listing import listing
from atalaya_serving.fetching.objects import connection_string
from atalaya_serving.fetching.store import open_store
from atalaya_serving.fetching.version_folder import Fetch, fetch_version
from builders_fetching import MODEL, files_in

Answer = tuple[int, bytes, Mapping[str, str]]


class Stub:
    """Answers what `answer` says for a path and the headers of a request."""

    def __init__(self) -> None:
        self.answer: Callable[[str, Mapping[str, str]], Answer] = lambda path, headers: (404, b"", {})
        self.asked: list[str] = []
        self.port = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, stub: Stub, *arguments: object) -> None:
        self.stub = stub
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.stub.asked.append(self.path)
        status, body, headers = self.stub.answer(self.path, self.headers)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, made))
    made.port = server.server_port
    threading.Thread(target=partial(server.serve_forever, poll_interval=0.01), daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def s3(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "very-secret"}.items():
        monkeypatch.setenv(name, value)
    return stub


def bucket(stub: Stub) -> dict[str, str]:
    return {"S3_ENDPOINT": f"http://127.0.0.1:{stub.port}"}


def listed(*keys: str, size: int = 3) -> Answer:
    entries = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified><Size>{size}</Size>"
        '<ETag>"a"</ETag></Contents>'
        for key in keys
    )
    return 200, f"<ListBucketResult>{entries}<IsTruncated>false</IsTruncated></ListBucketResult>".encode(), {}


@pytest.mark.parametrize("key", ["m/3/../../../etc/cron.d/x", "m/3//x", "m/3/./x", "m/3/a\\..\\x", "m/3/a&#10;b"])
def test_an_object_of_a_dangerous_name_is_refused(s3: Stub, tmp_path: Path, key: str) -> None:
    s3.answer = lambda path, headers: listed("m/3/model.xml", key)
    with pytest.raises(FetchError, match=r"ModelFilesRefused: "):
        fetch_version(Fetch(open_store("s3://b/m", bucket(s3)), tmp_path / "to", 3))
    assert files_in(tmp_path) == {}


def test_a_folder_that_a_browser_of_buckets_made_is_no_file(s3: Stub, tmp_path: Path) -> None:
    s3.answer = lambda path, headers: listed("m/3/", "m/3/assets/", size=0)
    with pytest.raises(FetchError, match=r"ModelPathNotFound: .* version 3 is not there"):
        fetch_version(Fetch(open_store("s3://b/m", bucket(s3)), tmp_path / "to", 3))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param((200, b"a proxy's page", {}), "StoreUnreachable", id="no-list"),
        pytest.param((403, b"<Error><Code>AccessDenied</Code></Error>", {}), "BadCredentials", id="denied"),
        pytest.param((404, b"<Error><Code>NoSuchBucket</Code></Error>", {}), "ModelPathNotFound", id="no-bucket"),
        pytest.param((501, b"", {}), "StoreUnreachable", id="not-implemented"),
    ],
)
def test_what_a_bucket_answers_is_told_by_its_reason_in_one_line(s3: Stub, answer: Answer, reason: str) -> None:
    s3.answer = lambda path, headers: answer
    with pytest.raises(FetchError) as raised:
        listing(open_store("s3://b/m", bucket(s3)))
    told = str(raised.value)
    assert told.startswith(f"{reason}: s3://b/m")
    assert "\n" not in told
    assert "very-secret" not in told
    assert "?" not in told


def test_without_any_login_it_says_where_to_put_one(monkeypatch: pytest.MonkeyPatch, stub: Stub) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{stub.port}")
    with pytest.raises(
        FetchError, match=r"BadCredentials: s3://b/m needs credentials, .* spec.model.credentialsSecret"
    ):
        listing(open_store("s3://b/m", bucket(stub)))


def test_a_connection_string_is_read_as_azures_programs_do() -> None:
    text = "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5==;EndpointSuffix=core.windows.net"
    assert connection_string(text) == {
        "account_name": "acc", "account_key": "a2V5==", "endpoint": "https://acc.blob.core.windows.net",
    }  # fmt: skip
    text = "BlobEndpoint=http://127.0.0.1:10000/acc/;SharedAccessSignature=sv=1&sig=x%3D"
    assert connection_string(text) == {"sas_key": "sv=1&sig=x%3D", "endpoint": "http://127.0.0.1:10000/acc"}
    assert connection_string("") == {}


def test_a_container_of_azure_is_listed_and_its_signature_is_not_told(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"AccountName=acc;SharedAccessSignature=sv=1&sig=very-secret;BlobEndpoint=http://127.0.0.1:{stub.port}"
    page = (b"<EnumerationResults><Blobs><BlobPrefix><Name>m/3/</Name></BlobPrefix></Blobs>"
            b"<NextMarker/></EnumerationResults>")  # fmt: skip
    stub.answer = lambda path, headers: (200, page, {})
    store = open_store("az://models/m", {"AZURE_STORAGE_CONNECTION_STRING": text})
    assert list(store.folders()) == ["3"]
    assert "sig=very-secret" in stub.asked[0]
    stub.answer = lambda path, headers: (403, b"<Error><Code>AuthenticationFailed</Code></Error>", {})
    with pytest.raises(FetchError, match=r"BadCredentials: az://models/m refuses") as raised:
        list(store.folders())
    assert "very-secret" not in str(raised.value)


def test_a_bucket_of_google_is_listed(stub: Stub) -> None:
    page = (b"<ListBucketResult><CommonPrefixes><Prefix>m/4/</Prefix></CommonPrefixes>"
            b"<CommonPrefixes><Prefix>m/notes/</Prefix></CommonPrefixes><IsTruncated>false</IsTruncated>"
            b"</ListBucketResult>")  # fmt: skip
    stub.answer = lambda path, headers: (200, page, {})
    store = open_store("gs://models/m", {"STORAGE_EMULATOR_HOST": f"127.0.0.1:{stub.port}"})
    assert list(store.folders()) == ["4", "notes"]
    assert "prefix=m%2F" in stub.asked[0]


def test_a_key_file_of_google_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text("{}")
    with pytest.raises(FetchError, match=r"BadCredentials|StoreUnreachable") as raised:
        listing(open_store("gs://models/m", {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json")}))
    assert "\n" not in str(raised.value)


def test_a_library_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "atalaya_serving.fetching.objects")
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(FetchError, match=r"StoreUnreadable: .* takes obstore, which is not installed; pip install"):
        open_store("s3://models/m", {})


def registry_of(files: Mapping[str, bytes], login: str, token: str) -> Callable[[str, Mapping[str, str]], Answer]:
    """A registry that wants a token, which it gives for a login."""
    blobs = {f"sha256:{hashlib.sha256(content).hexdigest()}": content for content in files.values()}
    titles = zip(files, blobs, strict=True)
    layers = [
        {"digest": digest, "size": len(blobs[digest]), "annotations": {"org.opencontainers.image.title": path}}
        for path, digest in titles
    ]

    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        if path.startswith("/token"):
            assert "scope=repository%3Amodels%2Fm%3Apull" in path
            is_known = headers.get("Authorization", "") == login
            return (200, json.dumps({"token": token}).encode(), {}) if is_known else (401, b"", {})
        if headers.get("Authorization") != f"Bearer {token}":
            realm = f'Bearer realm="http://{headers["Host"]}/token",service="r",scope="repository:models/m:pull"'
            return 401, b"", {"WWW-Authenticate": realm}
        if path.startswith("/v2/models/m/tags/list"):
            if "last=" not in path:
                link = '</v2/models/m/tags/list?n=1000&last=x>; rel="next"'
                return 200, b'{"tags":["latest","x"]}', {"Link": link}
            return 200, b'{"tags":["3"]}', {}
        if path == "/v2/models/m/manifests/3":
            return 200, json.dumps({"layers": layers}).encode(), {}
        return 200, blobs[path.rpartition("/")[2]], {}

    return answer


LOGIN = base64.b64encode(b"user:word").decode()


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"OCI_USERNAME": "user", "OCI_PASSWORD": "word"}, id="password"),
        pytest.param({"DOCKER_AUTH_CONFIG": json.dumps({"auths": {"HOST": {"auth": LOGIN}}})}, id="docker-config"),
        pytest.param({".dockerconfigjson": json.dumps({"auths": {"HOST": {"username": "user", "password": "word"}}})},
                     id="kubernetes-secret"),
    ],
)  # fmt: skip
def test_a_registrys_token_is_got_with_the_login_that_is_given(
    stub: Stub, tmp_path: Path, environment: dict[str, str]
) -> None:
    host = f"127.0.0.1:{stub.port}"
    given = {name: text.replace("HOST", host) for name, text in environment.items()} | {"OCI_PLAIN_HTTP": "1"}
    stub.answer = registry_of(MODEL, f"Basic {LOGIN}", "abc")
    assert listing(open_store(f"oci://{host}/models/m", given)).versions == (3,)
    fetch_version(Fetch(open_store(f"oci://{host}/models/m", given), tmp_path, 3))
    assert files_in(tmp_path / "3") == MODEL


def test_a_token_that_has_ended_is_got_anew(stub: Stub, tmp_path: Path) -> None:
    host = f"127.0.0.1:{stub.port}"
    stub.answer = registry_of(MODEL, "", "first")
    store = open_store(f"oci://{host}/models/m", {"OCI_PLAIN_HTTP": "1"})
    assert listing(store).versions == (3,)
    stub.answer = registry_of(MODEL, "", "second")
    fetch_version(Fetch(store, tmp_path, 3))
    assert files_in(tmp_path / "3") == MODEL


def test_a_registry_that_wants_a_login_says_where_to_put_it(stub: Stub) -> None:
    host = f"127.0.0.1:{stub.port}"
    stub.answer = lambda path, headers: (401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
    with pytest.raises(FetchError, match=r"BadCredentials: oci://.* wants a login; add OCI_USERNAME and OCI_PASSWORD"):
        listing(open_store(f"oci://{host}/models/m", {"OCI_PLAIN_HTTP": "1"}))
    stub.answer = registry_of(MODEL, "Basic other", "abc")
    with pytest.raises(FetchError, match=r"BadCredentials: oci://.* refuses us"):
        listing(open_store(f"oci://{host}/models/m", {"OCI_PLAIN_HTTP": "1", "OCI_USERNAME": "user"}))


def test_a_blob_that_is_not_what_its_digest_says_is_refused(stub: Stub, tmp_path: Path) -> None:
    host = f"127.0.0.1:{stub.port}"
    honest = registry_of(MODEL, "", "abc")

    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        status, body, told = honest(path, headers)
        return status, bytes(len(body)) if "/blobs/" in path else body, told

    stub.answer = answer
    with pytest.raises(FetchError, match=r"ModelFileCorrupt: .* is not what its digest says"):
        fetch_version(Fetch(open_store(f"oci://{host}/models/m", {"OCI_PLAIN_HTTP": "1"}), tmp_path, 3))
    assert not (tmp_path / "3").exists()


@pytest.mark.parametrize("uri", ["oci://host/models/m:3", "oci://host/models/m@sha256:00", "oci://host"])
def test_a_uri_with_a_tag_is_no_repository(uri: str) -> None:
    with pytest.raises(FetchError, match=r"StoreUnreadable: .* leave out tag and digest: the tags are the versions"):
        open_store(uri, {})
