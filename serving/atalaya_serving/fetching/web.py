"""A web server as a store: the listings that Apache, nginx, Caddy and Python's own server make of a folder."""

import json
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from urllib.parse import quote, unquote, urljoin, urlsplit

import urllib3

from atalaya_serving.fetching.errors import FileChanged, ModelPathNotFound, StoreUnreadable
from atalaya_serving.fetching.http_calls import HttpCalls, range_from
from atalaya_serving.fetching.store import StoredFile

_DEEPEST = 8
_LISTS = ("text/html", "application/xhtml+xml", "application/json")


class WebStore:
    """A folder below an address. A user and password or a token come from HTTP_USERNAME, HTTP_PASSWORD, HTTP_TOKEN."""

    def __init__(self, uri: str, environment: Mapping[str, str]) -> None:
        self.uri, self._calls = uri.rstrip("/"), HttpCalls(uri)
        self._headers = _login(environment)

    def folders(self) -> Iterator[str]:
        yield from (name for name, is_folder in self._listed(f"{self.uri}/") if is_folder)

    def files(self, version: str) -> Iterator[StoredFile]:
        root = f"{self.uri}/{version}/"
        try:
            self._listed(root)
        except ModelPathNotFound:
            return
        yield from self._below(root, "", _DEEPEST)

    def read(self, version: str, file: StoredFile, offset: int) -> Iterator[bytes]:
        """Only of the file that was listed: by its ETag, else by the time of its last change."""
        condition = {"If-Match" if file.tag.startswith('"') else "If-Unmodified-Since": file.tag} if file.tag else {}
        if offset:
            condition |= {"If-Range": file.tag, **range_from(offset)}
        url = f"{self.uri}/{version}/{quote(file.path)}"
        answer = self._calls.answer("GET", url, {**self._headers, **condition})
        told = (answer.headers.get("ETag"), answer.headers.get("Last-Modified"))
        if answer.status < 300 and file.tag and file.tag not in told:
            answer.close()
            raise FileChanged  # not every server heeds a condition
        yield from self._calls.body(answer, offset)

    def _below(self, url: str, prefix: str, depth: int) -> Iterator[StoredFile]:
        if depth == 0:
            raise StoreUnreadable(f"{url} lies too deep for a model; correct spec.model.uri.")
        for name, is_folder in sorted(self._listed(url)):
            if is_folder:
                yield from self._below(f"{url}{quote(name)}/", f"{prefix}{name}/", depth - 1)
            else:
                yield self._about(f"{url}{quote(name)}", f"{prefix}{name}")

    def _about(self, url: str, path: str) -> StoredFile:
        answer = self._calls.answer("HEAD", url, self._headers)
        answer.close()
        if answer.status in (404, 410):
            raise FileChanged
        self._calls.expect(answer)
        size = answer.headers.get("Content-Length", "")
        if not size.isdecimal():
            raise StoreUnreadable(f"{url} does not say how large it is (Content-Length); serve it as a plain file.")
        etag = answer.headers.get("ETag", "")
        strong = etag if etag.startswith('"') else ""
        return StoredFile(path, int(size), strong or answer.headers.get("Last-Modified", ""))

    def _listed(self, url: str) -> set[tuple[str, bool]]:
        """Names in a folder, and whether each is a folder."""
        answer = self._calls.answer("GET", url, self._headers)
        text = self._calls.text(answer)
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind not in _LISTS:
            step = "switch its directory listing on, or use another kind of store"
            raise StoreUnreadable(f"{url} does not list its files (it is {kind or 'of no type'}); {step}.")
        base = answer.geturl() or url
        if kind == "application/json":
            return _of_json(text, url)
        return _of_html(text, urljoin(url, base))


def _login(environment: Mapping[str, str]) -> dict[str, str]:
    if token := environment.get("HTTP_TOKEN"):
        return {"Authorization": f"Bearer {token.strip()}"}
    if user := environment.get("HTTP_USERNAME"):
        return dict(urllib3.make_headers(basic_auth=f"{user}:{environment.get('HTTP_PASSWORD', '')}"))
    return {}


def _of_html(text: str, base: str) -> set[tuple[str, bool]]:
    """Links that lead one step down; all others (sorting, parent, elsewhere) are passed over."""
    links = _Links()
    links.feed(text)
    base = base if base.endswith("/") else f"{base}/"
    found = set()
    for link in links.found:
        parts = urlsplit(urljoin(base, link))
        below = parts._replace(query="", fragment="").geturl()
        if parts.query or not below.startswith(base):
            continue
        name, is_folder = unquote(below[len(base) :]), below.endswith("/")
        name = name.removesuffix("/")
        if name and "/" not in name:
            found.add((name, is_folder))
    return found


def _of_json(text: str, url: str) -> set[tuple[str, bool]]:
    """nginx's `autoindex_format json`, and Caddy's."""
    try:
        listed = json.loads(text)
        return {
            (str(one["name"]).rstrip("/"), bool(one.get("type") == "directory" or one.get("is_dir"))) for one in listed
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StoreUnreadable(f"{url} is JSON that lists no files; switch its directory listing on.") from None


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]
