"""The tables of the originals, held against `server_flags.json`: facts read from their tagged sources, not from us."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atalaya_spec import ovms, server_versions, tfs
from atalaya_spec.model_server import ModelServer

JUDGE: dict[str, Any] = json.loads((Path(__file__).parent / "server_flags.json").read_text())
TABLES: dict[str, Callable[[str], ModelServer]] = {"ovms": ovms.server, "tensorflow_model_server": tfs.server}
VERSIONS = [(program, version) for program in TABLES for version in JUDGE[program]]


@pytest.mark.parametrize(("program", "version"), VERSIONS)
def test_a_table_has_exactly_the_flags_of_the_original_s_source(program: str, version: str) -> None:
    assert sorted(TABLES[program](version).flags) == JUDGE[program][version]


def test_every_version_that_a_table_names_was_read_from_the_sources() -> None:
    assert set(ovms.VERSIONS) <= set(JUDGE["ovms"])
    assert list(tfs.VERSIONS) == list(JUDGE["tensorflow_model_server"])


def test_a_patch_release_has_the_flags_of_its_release() -> None:
    assert ovms.server("2025.4.1").flags == ovms.server("2025.4").flags
    assert ovms.server("2026.3.0").flags != ovms.server("2026.2.1").flags


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("newest", [True, False])
def test_every_default_is_of_its_flag_s_kind(table: Callable[[str], ModelServer], newest: bool) -> None:
    versions = ovms.VERSIONS if table is ovms.server else tfs.VERSIONS
    for flag in table(versions[-1 if newest else 0]).flags.values():
        if flag.kind == "bool":
            assert flag.default in ("true", "false"), flag.name
        elif flag.kind == "integer":
            assert flag.default == "" or flag.default.isdecimal(), flag.name


@pytest.mark.parametrize(("program", "version"), VERSIONS)
def test_the_ports_metrics_and_health_that_a_table_names_have_their_flags(program: str, version: str) -> None:
    server = TABLES[program](version)
    assert {server.grpc_port_flag, server.rest_port_flag, server.metrics.enabled_by} <= set(JUDGE[program][version])
    assert server.probes.grpc_health_flag in ("", *JUDGE[program][version])
    assert server.metrics.optional <= set(server.metrics.labels)


@pytest.mark.parametrize(("program", "version"), VERSIONS)
def test_what_an_inference_model_may_ask_for_agrees_with_the_tables(program: str, version: str) -> None:
    server = TABLES[program](version)
    server_versions.check_version(server.name, version)
    assert set(server_versions.protocols_of(server.name, version)) == set(server.protocols)
