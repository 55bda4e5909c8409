"""The operator's calls on the wire, against a server that answers what it is told: paths, bodies, and each error."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from kubernetes.client import Configuration

from atalaya_operator.cluster_client import ClusterClient
from atalaya_operator.errors import ClusterUnavailable, ObjectRefused, TryAgain
from atalaya_operator.kinds import MODELS, OWNED, PODS
from atalaya_operator.names import FIELD_MANAGER

DEPLOYMENT: dict[str, Any] = {"kind": "Deployment", "metadata": {"name": "d", "namespace": "n", "uid": "u"}}
MODEL: dict[str, Any] = {"kind": "InferenceModel", "metadata": {"name": "m", "namespace": "n"}}


class Answers:
    """What the server answers, and what it was asked."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, "{}", dict[str, str]()
        self.bodies: list[str] = []
        """One after the other; `body` after the last."""
        self.asked: list[tuple[str, str, str, str]] = []

    def next_body(self) -> bytes:
        return (self.bodies.pop(0) if self.bodies else self.body).encode()


@contextmanager
def served(answers: Answers) -> Iterator[ClusterClient]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            answers.asked.append((self.command, self.path, self.headers.get("Content-Type") or "", body))
            told = answers.next_body()
            self.send_response(answers.status)
            for name, value in {**answers.headers, "Content-Length": str(len(told))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_PATCH = do_DELETE = _answer  # noqa: N815 - http.server calls these

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    settings = Configuration()
    settings.host = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield ClusterClient(settings)
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def answers() -> Answers:
    return Answers()


def test_an_object_is_applied_where_it_belongs_under_our_name(answers: Answers) -> None:
    answers.body = '{"made": true}'
    with served(answers) as client:
        assert client.apply(DEPLOYMENT, FIELD_MANAGER) == {"made": True}
        client.apply_status(MODEL)
        client.apply({"kind": "Service", "metadata": {"name": "s", "namespace": "n"}}, "another")
    (one, status, service) = answers.asked
    assert one[:3] == (
        "PATCH",
        f"/apis/apps/v1/namespaces/n/deployments/d?fieldManager={FIELD_MANAGER}&force=true",
        "application/apply-patch+yaml",
    )
    assert json.loads(one[3]) == DEPLOYMENT
    assert status[1].startswith("/apis/serving.atalaya.dev/v1alpha1/namespaces/n/inferencemodels/m/status?")
    assert service[1] == "/api/v1/namespaces/n/services/s?fieldManager=another&force=true"


def test_only_this_very_object_is_removed_and_what_belongs_to_it(answers: Answers) -> None:
    with served(answers) as client:
        client.remove(DEPLOYMENT)
    assert json.loads(answers.asked[0][3]) == {"propagationPolicy": "Background", "preconditions": {"uid": "u"}}


@pytest.mark.parametrize("status", [401, 409, 410, 429, 500, 503, 504])
def test_what_may_pass_is_to_be_tried_again(answers: Answers, status: int) -> None:
    answers.status, answers.body = status, '{"message": "the server is busy"}'
    with served(answers) as client, pytest.raises(TryAgain, match="Deployment d: the server is busy"):
        client.apply(DEPLOYMENT, FIELD_MANAGER)
    assert len(answers.asked) == 1


def test_the_api_servers_wish_when_to_come_back_is_kept(answers: Answers) -> None:
    answers.status, answers.headers, answers.body = 429, {"Retry-After": "7"}, "too many"
    with served(answers) as client, pytest.raises(TryAgain, match="too many") as caught:
        client.get(DEPLOYMENT)
    assert caught.value.after_seconds == 7


@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_refusal_is_told_in_the_api_servers_words(answers: Answers, status: int) -> None:
    answers.status, answers.body = status, '{"message": "exceeded quota: q"}'
    with served(answers) as client, pytest.raises(ObjectRefused, match="Deployment d: exceeded quota: q"):
        client.apply(DEPLOYMENT, FIELD_MANAGER)


def test_what_is_not_there_is_no_error_where_that_is_an_answer(answers: Answers) -> None:
    answers.status = 404
    with served(answers) as client:
        assert client.get(DEPLOYMENT) is None
        assert client.apply_status(MODEL) is None
        client.remove(DEPLOYMENT)
        with pytest.raises(ObjectRefused, match="namespace"):
            client.apply(DEPLOYMENT, FIELD_MANAGER)


def test_an_api_server_that_is_gone_is_tried_again(answers: Answers) -> None:
    with served(answers) as client:
        pass
    with pytest.raises(TryAgain, match="does not answer"):
        client.get(DEPLOYMENT)


def test_without_a_cluster_it_says_so_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ClusterUnavailable, match="no cluster is known here"):
        ClusterClient.connect(1)


def test_a_long_list_comes_page_by_page(answers: Answers) -> None:
    pages = [{"metadata": {"resourceVersion": "7", "continue": "a b"}, "items": [1]},
             {"metadata": {"resourceVersion": "7"}, "items": [2]}]  # fmt: skip
    answers.bodies = [json.dumps(page) for page in pages]
    with served(answers) as client:
        assert list(client.pages(PODS, {"labelSelector": "!a"})) == pages
    assert [one[1] for one in answers.asked] == [
        "/api/v1/pods?limit=500&labelSelector=%21a", "/api/v1/pods?limit=500&labelSelector=%21a&continue=a+b"
    ]  # fmt: skip


def test_a_watch_tells_each_change_until_it_ends(answers: Answers) -> None:
    changes = [{"type": "ADDED", "object": {"n": "ä" * 70_000}}, {"type": "DELETED", "object": {"n": "x"}}]
    answers.body = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in changes)
    with served(answers) as client:
        assert list(client.changes(PODS, {"fieldSelector": "a!=b"}, "42")) == changes
    path = answers.asked[0][1]
    assert path.startswith("/api/v1/pods?fieldSelector=a%21%3Db&watch=1&resourceVersion=42&")


@pytest.mark.parametrize(("status", "error"), [(410, TryAgain), (500, TryAgain), (403, ObjectRefused)])
def test_a_watch_that_is_refused_says_whether_another_try_helps(
    answers: Answers, status: int, error: type[Exception]
) -> None:
    answers.status, answers.body = status, '{"message": "pods: no"}'
    with served(answers) as client, pytest.raises(error, match="Pod: pods: no"):
        next(client.changes(PODS, {}, "1"))


def test_a_watch_that_breaks_off_in_the_middle_of_a_line_is_tried_again(answers: Answers) -> None:
    answers.body = '{"type": "ADDED", "obj'
    with served(answers) as client, pytest.raises(TryAgain):
        list(client.changes(PODS, {}, "1"))


def test_what_is_there_is_listed_by_our_label_models_without_it(answers: Answers) -> None:
    answers.body = json.dumps({"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"uid": "a"}}]})
    with served(answers) as client:
        assert client.uids(MODELS) == ({"a"}, 7)
        assert client.uids(next(kind for kind in OWNED if kind.name == "Service")) == ({"a"}, 7)
    assert answers.asked[0][1] == "/apis/serving.atalaya.dev/v1alpha1/inferencemodels?limit=500"
    assert answers.asked[1][1] == "/api/v1/services?limit=500&labelSelector=serving.atalaya.dev%2Fmodel"
