"""The servers, each started once; every test runs against all of them."""

import os
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2_grpc

from conformance.servers import SERVERS, Peer, is_there, started


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """Ours, Triton, MLServer."""
    kind, _, way = request.param.partition("-")
    if not is_there(kind):
        message = f"{kind} is not set up: make conformance sets it up"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with started(kind, tmp_path_factory.mktemp(request.param), fast=not way) as made:
        yield made


@pytest.fixture
def over_grpc(server: Peer) -> Iterator[triton_grpc.InferenceServerClient]:
    with triton_grpc.InferenceServerClient(server.grpc) as made:
        yield made


@pytest.fixture
def over_http(server: Peer) -> Iterator[triton_http.InferenceServerClient]:
    with triton_http.InferenceServerClient(server.http, network_timeout=120, connection_timeout=120) as made:
        yield made


@pytest.fixture
def stub(server: Peer) -> Iterator[Any]:
    """KServe v2 without a client's help."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.grpc, options=options) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
def plain(server: Peer) -> Iterator[httpx.Client]:
    """HTTP without a client's help."""
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as made:
        yield made
