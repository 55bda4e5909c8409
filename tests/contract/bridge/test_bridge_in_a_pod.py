"""The bridge takes what the operator starts it with, and answers where the probes of the operator's pods ask."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from atalaya_operator.names import BRIDGE_CONTAINER
from atalaya_serving.bridge.server import Bridge
from atalaya_serving.bridge.settings import BridgeSettings, parse_settings
from builders_serving import free_port

GOLDEN = Path(__file__).parents[2] / "unit" / "operator_golden"


def containers(value: Any) -> list[dict[str, Any]]:
    """Every bridge container anywhere in an object."""
    if isinstance(value, list):
        return [found for one in value for found in containers(one)]
    if not isinstance(value, dict):
        return []
    here = [value] if value.get("name") == BRIDGE_CONTAINER and "args" in value else []
    return here + containers(list(value.values()))


FOUND = [
    (file.stem, container)
    for file in sorted(GOLDEN.glob("*.yaml"))
    for container in containers(list(yaml.safe_load_all(file.read_text())))
]
BRIDGES = [pytest.param(container, id=name) for name, container in FOUND]


def told(container: dict[str, Any]) -> BridgeSettings:
    command, *flags = container["args"]
    assert command == "bridge"
    return parse_settings(flags)


def test_the_operator_makes_bridges_both_ways() -> None:
    assert {told(container).client for _, container in FOUND} == {"tfs", "v2"}


@pytest.mark.parametrize("container", BRIDGES)
def test_the_operators_flags_mean_what_its_pod_says(container: dict[str, Any]) -> None:
    settings = told(container)
    assert [settings.listen.grpc_port, settings.listen.rest_port] == [
        one["containerPort"] for one in container["ports"]
    ]
    assert (settings.listen.grpc_address, settings.listen.rest_address) == ("0.0.0.0", "0.0.0.0")
    assert settings.upstream.startswith("127.0.0.1:")
    assert len(settings.models) == 1


@pytest.mark.parametrize("container", BRIDGES)
def test_the_operators_probes_ask_for_what_there_is(container: dict[str, Any]) -> None:
    flags = {flag.partition("=")[0]: flag for flag in container["args"][1:]}
    flags |= {"--port": "--port=0", "--rest_port": f"--rest_port={free_port()}"}
    flags["--rest_bind_address"] = "--rest_bind_address=127.0.0.1"
    bridge = Bridge(parse_settings(list(flags.values())))
    try:
        paths = {route.path for route in bridge.rest_routes()}
    finally:
        bridge.start()
        bridge.stop()
    assert {container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")} <= paths
