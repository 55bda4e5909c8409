"""Builders for tests of the bridge: one in this process before an upstream, on free ports."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from atalaya_serving.bridge.server import Bridge
from atalaya_serving.bridge.settings import BridgeSettings
from atalaya_serving.settings import Settings
from builders_serving import free_port


@contextmanager
def bridging(upstream: str, client: str, *, fast: bool = True, **changes: object) -> Iterator[Bridge]:
    """A bridge for clients of `client` (tfs or v2) before the gRPC address `upstream`."""
    listen = Settings(grpc_port=free_port(), rest_port=free_port(), drain_seconds=10)
    settings = replace(BridgeSettings(upstream, client, listen, watch_seconds=0.1), **changes)  # type: ignore[arg-type]
    bridge = Bridge(settings, fast=fast)
    bridge.start()
    try:
        yield bridge
    finally:
        bridge.stop()
