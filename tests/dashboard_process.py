"""A real dashboard process for the browser tests."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from builders_serving import free_port

START_SECONDS = 90
TIMEOUT_MS = 90_000


@contextmanager
def dashboard(home: Path, env: Mapping[str, str]) -> Iterator[str]:
    """The address of a dashboard that runs with this environment. It must end without a stack trace in its log."""
    file, port = home / "dashboard.log", free_port()
    command = [sys.executable, "-m", "atalaya_dashboard", "--port", str(port)]
    with file.open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_healthy(url, process, file)
            yield url
        finally:
            process.terminate()
            process.wait(30)
    said = file.read_text()
    assert "Traceback" not in said, said


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until Streamlit answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the dashboard did not start in {START_SECONDS} s: {log.read_text()}")


def is_here(url: str) -> bool:
    """Whether an address is on this machine."""
    parts = urlsplit(url)
    return parts.scheme in {"data", "blob"} or parts.hostname in {"127.0.0.1", "localhost"}
