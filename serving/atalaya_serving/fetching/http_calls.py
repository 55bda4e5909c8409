"""Requests over HTTP for the stores that are asked in no vendor's own way: retries, redirects, errors in our words."""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from atalaya_serving.fetching.errors import (
    BadCredentials,
    FileChanged,
    Interrupted,
    ModelPathNotFound,
    StoreUnreachable,
    StoreUnreadable,
)

_CHUNK_BYTES = 64 * 1024  # what is lost of a connection that breaks off
_MOST_TEXT_BYTES = 16 * 1024 * 1024
_TIMEOUT = urllib3.Timeout(connect=5, read=30)
_RETRIES = urllib3.Retry(
    4, redirect=5, backoff_factor=0.2, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False,
    allowed_methods=("GET", "HEAD"),
)  # fmt: skip

Answer = urllib3.BaseHTTPResponse


class HttpCalls:
    """One server. `uri` is what messages call it."""

    def __init__(self, uri: str) -> None:
        self._uri, self._pools = uri, {"": urllib3.PoolManager(timeout=_TIMEOUT, retries=_RETRIES)}

    def answer(self, verb: str, url: str, headers: Mapping[str, str]) -> Answer:
        """Whatever the server says, its body not read yet. Another host gets no login. Raises FetchError."""
        try:
            answer = self._pool(url).request(
                verb, url, headers={"Accept-Encoding": "identity", **headers}, preload_content=False
            )
        except urllib3.exceptions.HTTPError as error:
            step = "check the address and the network"
            raise StoreUnreachable(f"{self._uri} does not answer ({_cause(error)}); {step}.") from error
        if url.startswith("https://") and (answer.geturl() or url).startswith("http://"):
            answer.close()
            raise StoreUnreadable(f"{self._uri} leads from https to http; correct the server or the URI.")
        return answer

    def _pool(self, url: str) -> urllib3.PoolManager:
        """By the proxy that the environment names for an address, as HTTPS_PROXY and NO_PROXY say."""
        parts = urlsplit(url)
        proxy = "" if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme, "")
        if proxy not in self._pools:
            self._pools[proxy] = urllib3.ProxyManager(proxy, timeout=_TIMEOUT, retries=_RETRIES)
        return self._pools[proxy]

    def text(self, answer: Answer) -> str:
        """All of an answer that is small. Raises FetchError."""
        try:
            self.expect(answer)
            body = answer.read(_MOST_TEXT_BYTES + 1)
        except urllib3.exceptions.HTTPError as error:
            raise StoreUnreachable(f"{self._uri} broke off ({_cause(error)}); check the network.") from error
        finally:
            answer.close()
        if len(body) > _MOST_TEXT_BYTES:
            raise StoreUnreadable(f"{self._uri} lists too much to be a model; correct spec.model.uri.")
        return body.decode(errors="replace")

    def body(self, answer: Answer, offset: int) -> Iterator[bytes]:
        """The bytes of an answer to a request from an offset. Raises FetchError, FileChanged, Interrupted."""
        try:
            self.expect(answer)
            if offset and answer.status != 206:
                raise FileChanged  # it was asked to go on with the very file, and sends another from its beginning
            yield from answer.stream(_CHUNK_BYTES)
        except urllib3.exceptions.HTTPError as error:
            raise Interrupted(_cause(error)) from error
        finally:
            answer.close()

    def expect(self, answer: Answer) -> None:
        """Raise what an answer means that is not the one hoped for."""
        if answer.status < 300:
            return
        if answer.status in (401, 403):
            step = "correct the Secret that spec.model.credentialsSecret names, or add one"
            raise BadCredentials(f"{self._uri} refuses us (status {answer.status}); {step}.")
        if answer.status in (404, 410):
            raise ModelPathNotFound(f"{self._uri} is not there (status {answer.status}); correct spec.model.uri.")
        if answer.status in (412, 416):
            raise FileChanged
        raise StoreUnreachable(f"{self._uri} answers with status {answer.status}; check what runs there.")


def range_from(offset: int) -> dict[str, str]:
    """The header that asks for the rest of a file."""
    return {"Range": f"bytes={offset}-"} if offset else {}


def _cause(error: Exception) -> str:
    """The inmost words, without what stands in a query, which may be a secret."""
    reason = str(getattr(error, "reason", None) or error)
    return " ".join((reason.rpartition("): ")[2] or reason).partition("?")[0].split())[:200]
