"""Keeps the webhook's TLS in order: a certificate that is never old, and an API server that trusts it.

Made by ourselves, it is written into the ValidatingWebhookConfiguration (`caBundle`) after each start and each renewal,
and again when somebody took it out. While the API server does not trust us, its `failurePolicy: Ignore` lets all pass,
and the reconcile says what is wrong. Mounted from a Secret, as cert-manager keeps it, it is only read again and again.
"""

import base64
import logging
import os
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from atalaya_operator.errors import ObjectRefused, TryAgain
from atalaya_operator.webhook.certificate import Certificate, make_certificate

EVERY_SECONDS = 300.0
AGAIN_SECONDS = 5.0
_LOG = logging.getLogger(__name__)


class Configuration(Protocol):
    """The ValidatingWebhookConfiguration. Raises TryAgain and ObjectRefused."""

    def webhook_bundles(self, name: str) -> list[str]:
        """What the API server trusts, in base64, for each webhook."""
        ...

    def trust_webhook(self, name: str, index: int, bundle: str) -> None:
        """Have it trust this."""
        ...


def now() -> datetime:
    """The time, for certificates."""
    return datetime.now(UTC)


class OwnCertificate:
    """Made here, for the DNS names that the API server calls us by."""

    def __init__(
        self,
        context: ssl.SSLContext,
        names: tuple[str, ...],
        cluster: Configuration,
        configuration: str,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._context, self._names, self._clock = context, names, clock
        self._cluster, self._configuration = cluster, configuration
        self._shown = make_certificate(names, clock())
        self._coming: Certificate | None = None
        self._former = b""
        load(context, self._shown)

    def keep(self) -> float:
        """One look; answers in how many seconds the next is due. Raises TryAgain, ObjectRefused."""
        if self._coming is not None:  # trusted since the last look, so it can be shown
            load(self._context, self._coming)
            self._former, self._shown, self._coming = self._shown.authority, self._coming, None
        if self._shown.is_due(self._clock()):
            self._coming = make_certificate(self._names, self._clock())
            try:
                self._have_trusted(self._coming.authority + self._shown.authority)
            except (TryAgain, ObjectRefused):
                self._coming = None
                raise
            return AGAIN_SECONDS
        self._have_trusted(self._shown.authority + self._former)
        return EVERY_SECONDS

    def _have_trusted(self, authorities: bytes) -> None:
        wanted = base64.b64encode(authorities).decode()
        for index, bundle in enumerate(self._cluster.webhook_bundles(self._configuration)):
            if bundle != wanted:
                self._cluster.trust_webhook(self._configuration, index, wanted)


class MountedCertificate:
    """`tls.crt` and `tls.key` in a folder. Raises OSError when they cannot be read."""

    def __init__(self, context: ssl.SSLContext, folder: Path) -> None:
        self._context, self._folder = context, folder
        self.keep()

    def keep(self) -> float:
        """One look; answers in how many seconds the next is due."""
        self._context.load_cert_chain(self._folder / "tls.crt", self._folder / "tls.key")
        return EVERY_SECONDS


class Keeper:
    """A thread that looks now and then."""

    def __init__(self, keep: Callable[[], float]) -> None:
        self._keep = keep
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook-trust", daemon=True)

    def start(self) -> None:
        """The first look is at once."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()

    def _run(self) -> None:
        delay = 0.0
        while not self._ended.wait(delay):
            try:
                delay = self._keep()
            except (TryAgain, ObjectRefused, OSError) as error:
                delay = AGAIN_SECONDS
                _LOG.info("The webhook's certificate is not in order, it is tried again in %.0f s: %s", delay, error)


def load(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Have a context show a certificate from now on. TLS reads files only; this one never lies on a disk."""
    descriptor = os.memfd_create("certificate")
    try:
        os.write(descriptor, certificate.chain + certificate.key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
