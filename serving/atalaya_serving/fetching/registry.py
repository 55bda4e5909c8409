"""A container registry as a store: each version is an artifact whose tag is its number, as `oras push` makes it.

Each layer is one file, named by its title. The registry tells the digest of every file, so that a version's own digest
is known before anything is fetched.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urljoin

from atalaya_serving.fetching.errors import BadCredentials, ModelPathNotFound, StoreUnreadable
from atalaya_serving.fetching.http_calls import Answer, HttpCalls, range_from
from atalaya_serving.fetching.store import StoredFile

_TITLE, _UNPACK = "org.opencontainers.image.title", "io.deis.oras.content.unpack"
_MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOST_PAGES = 100


class RegistryStore:
    """A repository. Login by OCI_USERNAME and OCI_PASSWORD, or by a Docker config in DOCKER_AUTH_CONFIG."""

    def __init__(self, uri: str, environment: Mapping[str, str]) -> None:
        self.uri, self._calls = uri, HttpCalls(uri)
        host, _, self._repository = uri.removeprefix("oci://").rstrip("/").partition("/")
        if not self._repository or re.search(r"[@:]", self._repository):
            raise StoreUnreadable(f"{uri} is no repository; leave out tag and digest: the tags are the versions.")
        scheme = "http" if environment.get("OCI_PLAIN_HTTP", "").lower() in ("1", "true") else "https"
        self._root = f"{scheme}://{host}/v2/{self._repository}"
        self._login, self._authorization = _login(host, environment), ""

    def folders(self) -> Iterator[str]:
        url = f"{self._root}/tags/list?n=1000"
        for _ in range(_MOST_PAGES):
            answer = self._answer(url, {"Accept": "application/json"})
            yield from map(str, self._read(self._calls.text(answer)).get("tags") or ())
            following = re.search(r"<([^>]*)>", answer.headers.get("Link", ""))
            if not following:
                return
            url = urljoin(url, following[1])

    def files(self, version: str) -> Iterator[StoredFile]:
        try:
            text = self._calls.text(self._answer(f"{self._root}/manifests/{version}", {"Accept": _MANIFESTS}))
        except ModelPathNotFound:
            return
        for layer in self._read(text).get("layers") or ():
            titles = layer.get("annotations") or {}
            digest = str(layer.get("digest", ""))
            if not titles.get(_TITLE) or titles.get(_UNPACK) == "true" or not _DIGEST.fullmatch(digest):
                step = "push its files by name: oras push REPOSITORY:VERSION model.xml model.bin"
                raise StoreUnreadable(f"{self.uri}:{version} has a layer that is no plain file; {step}.")
            yield StoredFile(str(titles[_TITLE]), int(layer["size"]), digest, digest.removeprefix("sha256:"))

    def read(self, version: str, file: StoredFile, offset: int) -> Iterator[bytes]:
        """Blobs are named by their content: whoever goes on with one goes on with the same."""
        del version
        answer = self._answer(f"{self._root}/blobs/{file.tag}", range_from(offset))
        yield from self._calls.body(answer, offset)

    def _answer(self, url: str, headers: Mapping[str, str]) -> Answer:
        """A registry says what login it wants by refusing the first call, and again when a token has ended."""
        if not url.startswith(f"{self._root}/"):
            raise StoreUnreadable(f"{self.uri} sends us elsewhere for its tags; correct the registry.")
        answer = self._calls.answer("GET", url, {**headers, **self._headers()})
        if answer.status != 401:
            return answer
        answer.close()
        self._authorize(answer.headers.get("WWW-Authenticate", ""))
        return self._calls.answer("GET", url, {**headers, **self._headers()})

    def _headers(self) -> dict[str, str]:
        return {"Authorization": self._authorization} if self._authorization else {}

    def _authorize(self, challenge: str) -> None:
        """Get what a 401 asks for: a token of the realm that it names, or the login itself."""
        kind, _, parameters = challenge.partition(" ")
        asked = dict(_PARAMETER.findall(parameters))
        if kind.lower() == "bearer" and asked.get("realm"):
            query = {"service": asked.get("service", ""), "scope": f"repository:{self._repository}:pull"}
            headers = {"Authorization": f"Basic {self._login}"} if self._login else {}
            answer = self._calls.answer("GET", f"{asked['realm']}?{urlencode(query)}", headers)
            given = self._read(self._calls.text(answer))
            self._authorization = f"Bearer {given.get('token') or given.get('access_token') or ''}"
        elif self._login:
            self._authorization = f"Basic {self._login}"
        else:
            step = "add OCI_USERNAME and OCI_PASSWORD to a Secret and name it in spec.model.credentialsSecret"
            raise BadCredentials(f"{self.uri} wants a login; {step}.")

    def _read(self, text: str) -> dict[str, Any]:
        try:
            return dict(json.loads(text))
        except (ValueError, TypeError):
            raise StoreUnreadable(f"{self.uri} does not answer as a registry does; correct spec.model.uri.") from None


def _login(host: str, environment: Mapping[str, str]) -> str:
    """`user:password` in base64; empty for none. The key of a Secret of Kubernetes' own kind is read too."""
    if user := environment.get("OCI_USERNAME"):
        return base64.b64encode(f"{user}:{environment.get('OCI_PASSWORD', '')}".encode()).decode()
    text = environment.get("DOCKER_AUTH_CONFIG") or environment.get(".dockerconfigjson") or "{}"
    try:
        auths = dict(json.loads(text).get("auths") or {})
    except (ValueError, AttributeError, TypeError):
        raise BadCredentials("the Docker config of the Secret is no JSON; make it with docker login.") from None
    for name in (host, f"https://{host}"):
        if entry := auths.get(name):
            plain = f"{entry.get('username', '')}:{entry.get('password', '')}"
            return str(entry.get("auth") or base64.b64encode(plain.encode()).decode())
    return ""
