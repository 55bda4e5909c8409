"""The thin client: batches in flight, the digest, and errors that a person can act on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from atalaya_serving.client import RemoteModel, checked_endpoint
from atalaya_serving.errors import (
    InvalidRequest,
    ModelNotFound,
    ServedVersionChanged,
    ServerUnreachable,
    WrongEndpoint,
)
from atalaya_serving.server import Server
from builders_serving import FakeEngine, arithmetic, fake_version, free_port, running, save, scale


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    save(scale(3.0), tmp_path, "scale", 3)
    save(arithmetic(), tmp_path, "arithmetic")
    with running(tmp_path, rest_port=0) as made:
        yield made


def address(server: Server) -> str:
    assert server.grpc is not None
    return server.grpc.address


def test_it_tells_version_digest_and_input(server: Server) -> None:
    with RemoteModel(address(server), "scale") as model:
        assert model.version == "3"
        assert model.digest == server.repository.resolve("scale", "").digest
        assert (model.input_name, model.input_datatype, model.input_shape) == ("x", "FP32", (-1, 4))


def test_many_batches_are_in_flight_and_each_gets_its_own_answer(server: Server) -> None:
    with RemoteModel(address(server), "scale", 3, max_in_flight=8) as model:
        batches = [np.full((1 + number % 5, 4), number, np.float32) for number in range(60)]
        futures = [model.submit(batch) for batch in batches]
        for batch, future in zip(batches, futures, strict=True):
            np.testing.assert_allclose(future.result(10), 3 * batch)


def test_wrong_batches_are_refused_before_or_by_the_server(server: Server) -> None:
    with RemoteModel(address(server), "scale") as model:
        with pytest.raises(InvalidRequest, match="takes FP32, the batch is uint8; convert it"):
            model.submit(np.zeros((1, 4), np.uint8))
        with pytest.raises(InvalidRequest, match=r"the request has \[1, 5\]"):
            model.predict(np.zeros((1, 5), np.float32))


def test_models_that_are_not_there_or_not_for_scenes_are_refused(server: Server) -> None:
    with pytest.raises(ModelNotFound, match="this server has: arithmetic, scale"):
        RemoteModel(address(server), "nope")
    with pytest.raises(ModelNotFound, match="it serves: 3"):
        RemoteModel(address(server), "scale", 4)
    with pytest.raises(InvalidRequest, match="has 2 inputs; a scene needs a model with one image input"):
        RemoteModel(address(server), "arithmetic")


def test_an_endpoint_where_nobody_answers_is_told(server: Server) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    with pytest.raises(ServerUnreachable, match=f"no KServe v2 server answers at {endpoint}"):
        RemoteModel(endpoint, "scale", connect_timeout_seconds=0.5)


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("http://127.0.0.1:9000", "is a URL"),
        ("grpc://127.0.0.1:9000", "is a URL"),
        ("127.0.0.1", "has no port"),
        ("[::1]", "has no port"),
        ("::1:9000", "cannot be understood"),
        ("127.0.0.1:9000/v2", "cannot be understood"),
        ("127.0.0.1:grpc", "cannot be understood"),
        ("a b:9000", "cannot be understood"),
        (":9000", "cannot be understood"),
        ("", "cannot be understood"),
        ("127.0.0.1:0", "ports are 1 to 65535"),
        ("127.0.0.1:99999", "ports are 1 to 65535"),
    ],
)
def test_an_endpoint_that_is_no_address_is_refused_at_once_with_its_form(endpoint: str, told: str) -> None:
    with pytest.raises(WrongEndpoint, match=told) as caught:
        RemoteModel(endpoint, "scale")
    assert "--endpoint" in str(caught.value)
    assert "host:port of the server's gRPC port, such as 127.0.0.1:9000" in str(caught.value)


@pytest.mark.parametrize("endpoint", ["localhost:9000", "[::1]:9000", "a-b.example:1", "unix:/run/x", "dns:///h:1"])
def test_every_address_that_grpc_understands_is_taken(endpoint: str) -> None:
    assert checked_endpoint(endpoint) == endpoint


def test_a_rest_port_is_told_from_a_server_that_is_not_there(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    with running(tmp_path, FakeEngine()) as server:
        assert server.rest is not None
        with pytest.raises(ServerUnreachable, match="speaks HTTP, not gRPC: it is a REST port"):
            RemoteModel(server.rest.address, "m", connect_timeout_seconds=0.5)


def test_a_version_that_is_replaced_ends_the_work(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    with running(tmp_path, FakeEngine(), rest_port=0) as server, RemoteModel(address(server), "m") as model:
        np.testing.assert_array_equal(model.predict(np.ones((2, 4), np.float32)), np.ones((2, 4)))
        fake_version(tmp_path, "m", 2)
        server.repository.load("m")
        with pytest.raises((ModelNotFound, ServedVersionChanged), match="2"):
            model.predict(np.ones((2, 4), np.float32))


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    engine = FakeEngine(seconds=0.02, slot_count=1)
    with (
        running(tmp_path, engine, rest_port=0, queue_size=1) as server,
        RemoteModel(address(server), "m", max_in_flight=4) as model,
    ):
        futures = [model.submit(np.full((1, 4), number, np.float32)) for number in range(12)]
        assert [future.result(20)[0, 0] for future in futures] == list(range(12))
