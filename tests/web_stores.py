"""Web servers that list folders: Python's own, and one with ranges and tags that breaks off, refuses and redirects."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Faults:
    """What befalls the server's answers; `asked` has every request line and its Range."""

    def __init__(self) -> None:
        self.break_off_after: int | None = None
        self.statuses: list[int] = []
        self.wanted_login = ""
        self.redirect_files_to = ""
        self.as_json = False
        self.tells_sizes = True
        self.asked: list[tuple[str, str]] = []


class Listing(BaseHTTPRequestHandler):
    """A folder with ranges, ETags and listings as nginx makes them."""

    protocol_version = "HTTP/1.1"

    def __init__(self, root: Path, faults: Faults, *arguments: object) -> None:
        self.root, self.faults = root, faults
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.faults.asked.append((self.requestline, self.headers.get("Range", "")))
        if self.faults.wanted_login and self.headers.get("Authorization") != self.faults.wanted_login:
            self._send(401, b"")
        elif self.faults.statuses:
            self._send(self.faults.statuses.pop(0), b"sorry")
        else:
            self._serve(self.root / unquote(urlsplit(self.path).path).lstrip("/"))

    def _serve(self, path: Path) -> None:
        if path.is_dir() and self.path.endswith("/"):
            self._list(path)
        elif path.is_file() and self.faults.redirect_files_to:
            self._send(302, b"", {"Location": f"{self.faults.redirect_files_to}{self.path}"})
        elif path.is_file():
            self._file(path.read_bytes())
        else:
            self._send(404, b"nothing here")

    def _list(self, path: Path) -> None:
        names = sorted(f"{child.name}/" if child.is_dir() else child.name for child in path.iterdir())
        if self.faults.as_json:
            rows = [f'{{"name":"{name.rstrip("/")}","type":"{"directory" if name[-1] == "/" else "file"}"}}'
                    for name in names]  # fmt: skip
            self._send(200, f"[{','.join(rows)}]".encode(), {"Content-Type": "application/json"})
            return
        links = "".join(f'<a href="{name}">{name}</a>' for name in ["../", "?C=M", "/", "https://x.test/9/", *names])
        self._send(200, f"<html><body>{links}".encode(), {"Content-Type": "text/html; charset=utf-8"})

    def _file(self, content: bytes) -> None:
        tag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        if self.headers.get("If-Match", tag) != tag:
            self._send(412, b"")
            return
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found and self.headers.get("If-Range", tag) == tag else 0
        self._send(206 if start else 200, content[start:], {"ETag": tag})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.faults.tells_sizes:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.close_connection = True
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = self.faults.break_off_after
        is_file = (headers or {}).get("ETag") and limit is not None
        self.wfile.write(body[:limit] if is_file else body)
        if is_file and limit is not None and len(body) > limit:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Plain(SimpleHTTPRequestHandler):
    """Python's own, quiet: no ranges, no ETags."""

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def listing_server(root: Path, faults: Faults) -> Iterator[str]:
    """Serves a folder; yields its address."""
    with _running(partial(Listing, root, faults)) as address:
        yield address


@contextmanager
def plain_server(root: Path) -> Iterator[str]:
    """Serves a folder as `python -m http.server` does."""
    with _running(partial(Plain, directory=str(root))) as address:
        yield address


@contextmanager
def _running(handler: object) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)  # type: ignore[arg-type]
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
