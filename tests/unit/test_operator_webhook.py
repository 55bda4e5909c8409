"""The admission webhook: its verdicts, its certificate, and how it answers over TLS."""

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from atalaya_operator.errors import TryAgain
from atalaya_operator.platform import SCALED_OBJECT, Platform
from atalaya_operator.webhook.certificate import LIFETIME, RENEWED_AFTER, make_certificate
from atalaya_operator.webhook.review import Judge
from atalaya_operator.webhook.server import MAX_BYTES, WebhookServer
from atalaya_operator.webhook.service import LOOKED_FOR, Settings, Webhook, webhooks
from atalaya_operator.webhook.trust import AGAIN_SECONDS, EVERY_SECONDS, Keeper, MountedCertificate, OwnCertificate
from atalaya_spec.errors import UsageError
from builders_reconcile import model

NAME = "atalaya-webhook.atalaya.svc"
PLATFORM = Platform(atalaya_version="0.1.0")
WITH_KEDA = Platform(atalaya_version="0.1.0", prometheus_url="http://prometheus", offers=frozenset({SCALED_OBJECT}))


class Cluster:
    """What a cluster has, and what its API server trusts."""

    def __init__(self, *there: str) -> None:
        self.there, self.bundles, self.fails = set(there), [""], False
        self.writes = 0

    def exists(self, kind: str, namespace: str, name: str) -> bool:
        if self.fails:
            raise TryAgain("it does not answer")
        return f"{kind} {namespace}/{name}" in self.there

    def webhook_bundles(self, name: str) -> list[str]:
        if self.fails:
            raise TryAgain("it does not answer")
        return list(self.bundles)

    def trust_webhook(self, name: str, index: int, bundle: str) -> None:
        self.bundles[index] = bundle
        self.writes += 1

    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=base64.b64decode(self.bundles[0]).decode())


def review(wanted: dict[str, Any] | None, before: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    told = {"uid": "u-1", "operation": "CREATE", "namespace": "default", "object": wanted, "oldObject": before}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {**told, **request}}


def verdict(wanted: Any, before: Any = None, cluster: Cluster | None = None, platform: Platform = PLATFORM,
            **request: Any) -> dict[str, Any]:  # fmt: skip
    judge = Judge(cluster or Cluster(), lambda: platform, frozenset(LOOKED_FOR))
    answer = judge.answer(review(wanted, before, **request))
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert answer["response"].pop("uid") == "u-1"
    return dict(answer["response"])


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_a_sound_model_is_allowed_without_a_word() -> None:
    assert verdict(model()) == {"allowed": True}


def test_scaling_by_what_the_cluster_lacks_is_refused_with_all_that_is_lacking() -> None:
    scaled = model(scaling={"max": 3, "concurrency": 4})
    told = verdict(scaled)
    assert told["allowed"] is False
    assert told["status"]["code"] == 422
    assert "spec.scaling.concurrency: it takes KEDA" in told["status"]["message"]
    assert "it takes Prometheus" in told["status"]["message"]
    assert verdict(scaled, platform=WITH_KEDA) == {"allowed": True}


def test_what_an_older_definition_let_pass_is_refused_in_the_words_of_lint() -> None:
    told = verdict(model(engineVersion="2030.1", nonsense=1))
    assert told["allowed"] is False
    assert "2030.1" in told["status"]["message"]
    assert "nonsense" in told["status"]["message"]


@pytest.mark.parametrize(
    ("source", "kind", "name"),
    [
        pytest.param({"uri": "s3://models/m", "credentialsSecret": "store"}, "Secret", "store", id="secret"),
        pytest.param({"uri": "pvc://models/m"}, "PersistentVolumeClaim", "models", id="claim"),
    ],
)
def test_what_may_still_come_is_warned_of_and_not_refused(source: dict[str, Any], kind: str, name: str) -> None:
    told = verdict(model(model=source))
    assert told["allowed"] is True
    [warning] = told["warnings"]
    assert f"there is no {kind} {name} in the namespace default; make it" in warning
    assert verdict(model(model=source), cluster=Cluster(f"{kind} default/{name}")) == {"allowed": True}


def test_a_cluster_that_does_not_answer_costs_a_warning_only() -> None:
    silent = Cluster()
    silent.fails = True
    assert verdict(model(model={"uri": "pvc://models/m"}), cluster=silent) == {"allowed": True}


def test_what_it_is_not_told_to_look_for_is_not_looked_for() -> None:
    judge = Judge(Cluster(), lambda: PLATFORM, frozenset())
    assert judge.answer(review(model(model={"uri": "pvc://models/m"})))["response"] == {"uid": "u-1", "allowed": True}


def test_a_broken_model_can_be_labelled_and_deleted() -> None:
    broken = model(scaling={"max": 3, "concurrency": 4})
    labelled = {**broken, "metadata": {**broken["metadata"], "labels": {"a": "b"}}}
    assert verdict(labelled, broken, operation="UPDATE") == {"allowed": True}
    assert verdict(None, broken, operation="DELETE") == {"allowed": True}
    changed = model(scaling={"max": 5, "concurrency": 4})
    assert verdict(changed, broken, operation="UPDATE")["allowed"] is False


# --- certificates ----------------------------------------------------------------------------------------------------


class Clock:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC) - RENEWED_AFTER  # what is renewed must hold now

    def __call__(self) -> datetime:
        return self.time


def server_context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def shows(context: ssl.SSLContext, client: ssl.SSLContext, name: str = NAME) -> bool:
    """Whether a client that trusts what `client` trusts believes a server with this context."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        asking = client.wrap_bio(incoming, outgoing, server_hostname=name)
        answering = context.wrap_bio(outgoing, incoming, server_side=True)
        for _ in range(4):
            for side in (asking, answering):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                except ssl.SSLCertVerificationError:
                    return False
        return True


def test_the_api_server_believes_the_certificate_by_the_services_name_only() -> None:
    cluster, context = Cluster(), server_context()
    own = OwnCertificate(context, (NAME, "other.svc"), cluster, "atalaya")
    assert own.keep() == EVERY_SECONDS
    assert shows(context, cluster.trusted())
    assert shows(context, cluster.trusted(), "other.svc")
    assert not shows(context, cluster.trusted(), "evil.svc")
    assert not shows(context, ssl.create_default_context())


def test_nothing_is_written_while_all_is_well_and_a_lost_bundle_comes_back() -> None:
    cluster = Cluster()
    own = OwnCertificate(server_context(), (NAME,), cluster, "atalaya")
    own.keep()
    trusted = list(cluster.bundles)
    own.keep()
    assert cluster.writes == 1
    cluster.bundles = [""]
    own.keep()
    assert cluster.bundles == trusted


def test_a_renewed_certificate_is_trusted_before_it_is_shown_and_the_old_one_until_then() -> None:
    clock, cluster, context = Clock(), Cluster(), server_context()
    own = OwnCertificate(context, (NAME,), cluster, "atalaya", clock)
    own.keep()
    first = cluster.trusted()
    clock.time += RENEWED_AFTER
    assert own.keep() == AGAIN_SECONDS
    assert shows(context, cluster.trusted())
    assert shows(context, first)
    assert own.keep() == EVERY_SECONDS
    assert shows(context, cluster.trusted())
    assert not shows(context, first)
    written = cluster.writes
    own.keep()
    assert cluster.writes == written


def test_a_renewal_that_the_api_server_does_not_hear_of_changes_nothing() -> None:
    clock, cluster, context = Clock(), Cluster(), server_context()
    own = OwnCertificate(context, (NAME,), cluster, "atalaya", clock)
    own.keep()
    clock.time += RENEWED_AFTER
    cluster.fails = True
    with pytest.raises(TryAgain):
        own.keep()
    assert shows(context, cluster.trusted())
    cluster.fails = False
    assert own.keep() == AGAIN_SECONDS


def test_a_certificate_is_renewed_weeks_before_it_ends() -> None:
    made = make_certificate((NAME,), datetime(2026, 1, 1, tzinfo=UTC))
    assert timedelta(days=14) <= LIFETIME - RENEWED_AFTER
    assert not made.is_due(made.made_at + RENEWED_AFTER - timedelta(seconds=1))
    assert made.is_due(made.made_at + RENEWED_AFTER)


def test_a_mounted_certificate_is_read_again_when_it_was_changed(tmp_path: Path) -> None:
    def mount() -> ssl.SSLContext:
        made = make_certificate((NAME,), datetime.now(UTC))
        (tmp_path / "tls.crt").write_bytes(made.chain)
        (tmp_path / "tls.key").write_bytes(made.key)
        return ssl.create_default_context(cadata=made.authority.decode())

    first, context = mount(), server_context()
    mounted = MountedCertificate(context, tmp_path)
    assert shows(context, first)
    second = mount()
    mounted.keep()
    assert shows(context, second)
    assert not shows(context, first)


def test_the_keeper_tries_again_and_ends_at_once() -> None:
    looks: list[int] = []

    def keep() -> float:
        looks.append(1)
        if len(looks) == 1:
            keeper._ended.set()
            raise TryAgain("it does not answer")
        return 0.0

    keeper = Keeper(keep)
    keeper.start()
    keeper._thread.join(60)
    assert not keeper._thread.is_alive()
    assert looks == [1]


# --- over TLS --------------------------------------------------------------------------------------------------------


@pytest.fixture
def served() -> Iterator[tuple[WebhookServer, Cluster]]:
    cluster = Cluster()
    settings = Settings("atalaya", (NAME,), 0, "", frozenset(LOOKED_FOR))
    webhook = Webhook(settings, cluster, lambda: PLATFORM)
    webhook.certificate.keep()
    webhook.server.start()
    yield webhook.server, cluster
    webhook.stop()


def ask(served: tuple[WebhookServer, Cluster], body: bytes, path: str = "/validate?timeout=5s") -> tuple[int, Any]:
    server, cluster = served
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=cluster.trusted(), timeout=10)
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sock = cluster.trusted().wrap_socket(plain, server_hostname=NAME)
    connection.request("POST", path, body)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    return answer.status, told


def test_a_review_is_answered_over_tls(served: tuple[WebhookServer, Cluster]) -> None:
    status, told = ask(served, json.dumps(review(model())).encode())
    assert (status, told["response"]) == (200, {"uid": "u-1", "allowed": True})


@pytest.mark.parametrize(
    ("body", "path", "status"),
    [
        pytest.param(b"{", "/validate", 400, id="not-json"),
        pytest.param(b"[]", "/validate", 400, id="no-object"),
        pytest.param(b'{"request": {"uid": "u", "object": {"spec": 1}}}', "/validate", 200, id="no-model"),
        pytest.param(b"[" * 100_000, "/validate", 400, id="deep"),
        pytest.param(b"{}", "/other", 404, id="another-path"),
    ],
)
def test_what_is_no_review_is_answered_all_the_same(
    served: tuple[WebhookServer, Cluster], body: bytes, path: str, status: int
) -> None:
    assert ask(served, body, path)[0] == status
    assert ask(served, json.dumps(review(model())).encode())[0] == 200


def test_a_question_that_is_too_large_is_not_read(served: tuple[WebhookServer, Cluster]) -> None:
    server, cluster = served
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    with cluster.trusted().wrap_socket(plain, server_hostname=NAME) as connection:
        connection.sendall(f"POST /validate HTTP/1.1\r\nContent-Length: {MAX_BYTES + 1}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.0 413")


def test_who_connects_and_says_nothing_holds_up_nobody(served: tuple[WebhookServer, Cluster]) -> None:
    with (
        socket.create_connection(("127.0.0.1", served[0].port)),
        socket.create_connection(("127.0.0.1", served[0].port)),
    ):
        assert ask(served, json.dumps(review(model())).encode())[0] == 200


# --- settings --------------------------------------------------------------------------------------------------------


def test_there_is_no_webhook_unless_it_is_asked_for() -> None:
    assert webhooks({}, Cluster(), lambda: PLATFORM) == ()


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        pytest.param({"ATALAYA_WEBHOOK_CONFIGURATION": "a"}, "ATALAYA_WEBHOOK_NAMES", id="no-name"),
        pytest.param({"ATALAYA_WEBHOOK_PORT": "x"}, "ATALAYA_WEBHOOK_PORT", id="port"),
        pytest.param({"ATALAYA_WEBHOOK_LOOKS_FOR": "Secret Pod"}, "has Pod", id="kind"),
        pytest.param({"ATALAYA_WEBHOOK_CONFIGURATION": "a", "ATALAYA_WEBHOOK_CERTIFICATES": "/absent"}, "/absent",
                     id="absent"),
    ],
)  # fmt: skip
def test_wrong_settings_are_told(environment: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        webhooks(environment, Cluster(), lambda: PLATFORM)
