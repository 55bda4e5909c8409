"""Builders for tests of the faces: a server in the place of another, in this process, on free ports."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from atalaya_serving.engines.base import Engine
from atalaya_serving.faces.ovms_flags import parse as parse_ovms
from atalaya_serving.faces.ovms_server import OvmsServer
from atalaya_serving.faces.ovms_settings import ovms_start
from atalaya_serving.faces.tfs_flags import parse as parse_tfs
from atalaya_serving.faces.tfs_server import TfsServer
from atalaya_serving.faces.tfs_settings import tfs_start
from atalaya_spec import ovms, tfs
from builders_serving import FakeEngine, free_port


def ovms_server(version: str, *flags: object, engine: Engine | None = None) -> OvmsServer:
    """Not started yet."""
    given = ["--port", free_port(), "--rest_port", free_port(), "--rest_bind_address", "127.0.0.1"]
    server = ovms.server(version)
    start = ovms_start(parse_ovms([str(flag) for flag in (*given, *flags)], server), server)
    return OvmsServer(start, engine or FakeEngine())


@contextmanager
def running_ovms(version: str, *flags: object, engine: Engine | None = None) -> Iterator[OvmsServer]:
    """Started, its first look at the models done."""
    server = ovms_server(version, *flags, engine=engine)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def tfs_server(version: str, *flags: object, engine: Engine | None = None, fast: bool = True) -> TfsServer:
    """Not started yet."""
    given = [f"--port={free_port()}", f"--rest_api_port={free_port()}"]
    server = tfs.server(version)
    start = tfs_start(parse_tfs([str(flag) for flag in (*given, *flags)], server), server, "openvino")
    return TfsServer(start, engine or FakeEngine(), fast=fast)


@contextmanager
def running_tfs(version: str, *flags: object, engine: Engine | None = None, fast: bool = True) -> Iterator[TfsServer]:
    """Started, every model serving."""
    server = tfs_server(version, *flags, engine=engine, fast=fast)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def grpc_address(server: OvmsServer | TfsServer) -> str:
    return f"127.0.0.1:{server.settings.grpc_port}"


class Rest:
    """Calls below a server's REST port, each on a connection of its own."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self._base + path, timeout=20)

    def post(self, path: str, json: Any = None) -> httpx.Response:
        return httpx.post(self._base + path, json=json, timeout=20)


def rest(server: OvmsServer | TfsServer) -> Rest:
    return Rest(server.settings.rest_port)


def config_file(folder: Path, *models: Mapping[str, Any], **more: Any) -> Path:
    """An `ovms` config file."""
    file = folder / "config.json"
    file.write_text(json.dumps({"model_config_list": [{"config": dict(model)} for model in models], **more}))
    return file


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What Prometheus' Python parser reads of a scrape, under the names that stand there: it adds `_total` itself."""
    told = {
        (sample.name.removesuffix("_total"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert "_total" not in text
    return told


def labels_by_name(text: str) -> dict[str, set[str]]:
    """Which labels each metric of a scrape has; buckets, sums and counts are their histogram."""
    told: dict[str, set[str]] = {}
    for name, labels in samples(text):
        base = re.sub("_(bucket|sum|count)$", "", name) if not name.endswith("request_count") else name
        told.setdefault(base, set()).update(label for label, _ in labels if label != "le")
    return told


def key(name: str, /, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def until(is_so: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not become so in time"
        time.sleep(0.05)
