"""Puts the webhook together from what the process is told: the server, its certificate, what it looks for."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from atalaya_operator.platform import Platform
from atalaya_operator.webhook.review import Judge, Reader
from atalaya_operator.webhook.server import WebhookServer
from atalaya_operator.webhook.trust import Configuration, Keeper, MountedCertificate, OwnCertificate
from atalaya_spec.errors import UsageError

LOOKED_FOR = ("PersistentVolumeClaim", "Secret")


class Cluster(Reader, Configuration, Protocol):
    """What the webhook asks of a cluster."""


@dataclass(frozen=True)
class Settings:
    """`configuration` is the ValidatingWebhookConfiguration's name; without one there is no webhook."""

    configuration: str = ""
    names: tuple[str, ...] = ()
    port: int = 9443
    certificates: str = ""
    looks_for: frozenset[str] = frozenset()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """From the variables that the chart sets. Raises UsageError."""
        settings = cls(
            configuration=environment.get("ATALAYA_WEBHOOK_CONFIGURATION", ""),
            names=tuple(environment.get("ATALAYA_WEBHOOK_NAMES", "").split()),
            port=_port(environment.get("ATALAYA_WEBHOOK_PORT", str(cls.port))),
            certificates=environment.get("ATALAYA_WEBHOOK_CERTIFICATES", ""),
            looks_for=frozenset(environment.get("ATALAYA_WEBHOOK_LOOKS_FOR", "").split()),
        )
        if unknown := settings.looks_for - set(LOOKED_FOR):
            raise UsageError(
                f"ATALAYA_WEBHOOK_LOOKS_FOR has {', '.join(sorted(unknown))}; it may name {' and '.join(LOOKED_FOR)}."
            )
        if settings.configuration and not settings.names and not settings.certificates:
            raise UsageError("ATALAYA_WEBHOOK_NAMES is empty; write the names of the webhook's Service.")
        return settings


class Webhook:
    """Server and certificate, from their start to their end."""

    def __init__(self, settings: Settings, cluster: Cluster, platform: Callable[[], Platform]) -> None:
        """Raises UsageError when the mounted certificate cannot be read or the port is taken."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            self.certificate = (
                MountedCertificate(context, Path(settings.certificates))
                if settings.certificates
                else OwnCertificate(context, settings.names, cluster, settings.configuration)
            )
            judge = Judge(cluster, platform, settings.looks_for)
            self.server = WebhookServer(judge.answer, settings.port, context)
        except OSError as error:
            told = settings.certificates or f"port {settings.port}"
            raise UsageError(f"the webhook cannot start with {told}: {error.strerror or error}.") from error
        self._keeper = Keeper(self.certificate.keep)

    def start(self) -> None:
        """Answer, and have the API server trust the answers."""
        self.server.start()
        self._keeper.start()

    def stop(self) -> None:
        """End both."""
        self._keeper.stop()
        self.server.stop()


def webhooks(environment: Mapping[str, str], cluster: Cluster, platform: Callable[[], Platform]) -> tuple[Webhook, ...]:
    """The webhook that is asked for, if any. Raises UsageError."""
    settings = Settings.from_environment(environment)
    return (Webhook(settings, cluster, platform),) if settings.configuration else ()


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise UsageError(f"ATALAYA_WEBHOOK_PORT is {text!r}; write a port.")
    return int(text)
