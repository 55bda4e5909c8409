"""What the operator asks and tells beside its objects, on the wire: Events, warnings, logs, quotas."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from kubernetes.client import Configuration

from atalaya_operator.cluster_client import ClusterClient
from atalaya_operator.errors import ObjectRefused, TryAgain

EVENT = {"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "m.1", "namespace": "n"}}


class Answers:
    """What the server answers, and what it was asked."""

    def __init__(self) -> None:
        self.status, self.body = 200, "{}"
        self.asked: list[tuple[str, str, str]] = []


@pytest.fixture
def answers() -> Answers:
    return Answers()


@contextmanager
def served(answers: Answers) -> Iterator[ClusterClient]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            answers.asked.append((self.command, self.path, body))
            self.send_response(answers.status)
            self.send_header("Content-Length", str(len(answers.body.encode())))
            self.end_headers()
            self.wfile.write(answers.body.encode())

        do_GET = do_POST = _answer  # noqa: N815 - http.server calls these

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


@pytest.mark.parametrize(
    "status",
    [pytest.param(201, id="told"), pytest.param(409, id="told-before"), pytest.param(403, id="not-allowed")],
)
def test_an_event_is_made_and_one_that_is_not_holds_nothing_up(answers: Answers, status: int) -> None:
    answers.status = status
    with served(answers) as client:
        client.tell(EVENT)
    assert answers.asked == [("POST", "/apis/events.k8s.io/v1/namespaces/n/events", json.dumps(EVENT))]


def test_an_event_that_the_api_server_is_too_busy_for_is_told_later(answers: Answers) -> None:
    answers.status = 429
    with served(answers) as client, pytest.raises(TryAgain):
        client.tell(EVENT)


def test_only_warnings_about_pods_of_one_namespace_are_asked_for(answers: Answers) -> None:
    answers.body = json.dumps({"items": [{"reason": "FailedMount"}]})
    with served(answers) as client:
        assert list(client.warnings("n")) == [{"reason": "FailedMount"}]
    selection = "involvedObject.kind%3DPod%2Ctype%3DWarning"
    assert answers.asked[0][:2] == ("GET", f"/api/v1/namespaces/n/events?fieldSelector={selection}")


def test_the_end_of_a_log_is_read_whatever_bytes_it_has(answers: Answers) -> None:
    answers.body = "first\nCouldn’t start\n"
    with served(answers) as client:
        assert client.log_tail("n", "p", "server") == answers.body
    path = answers.asked[0][1]
    assert path.startswith("/api/v1/namespaces/n/pods/p/log?container=server&")
    assert {"tailLines=60", "limitBytes=65536"} <= set(path.split("&"))


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_container_without_a_log_yet_has_an_empty_one(answers: Answers, status: int) -> None:
    answers.status, answers.body = status, '{"message": "container is waiting to start"}'
    with served(answers) as client:
        assert client.log_tail("n", "p", "server") == ""


def test_a_quota_is_read_by_its_name_and_may_be_gone_or_forbidden(answers: Answers) -> None:
    with served(answers) as client:
        assert client.quota("n", "tight") == {}
        answers.status = 404
        assert client.quota("n", "tight") is None
        answers.status = 403
        with pytest.raises(ObjectRefused):
            client.quota("n", "tight")
    assert answers.asked[0][1] == "/api/v1/namespaces/n/resourcequotas/tight"
