"""Health, metadata, config, index, load and unload, statistics: what a server tells of itself, over both protocols."""

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from conformance.asking import SAME, ended, http_end, in_grpc
from conformance.differences import expected
from conformance.models import MODELS, Taught, models_of
from conformance.servers import Peer

Either = Any
BOTH = pytest.mark.parametrize("kit", ["over_grpc", "over_http"], ids=["gRPC", "HTTP"])


def protocol(kit: str) -> str:
    return "gRPC" if kit == "over_grpc" else "HTTP"


@pytest.fixture
def client(request: pytest.FixtureRequest, server: Peer, kit: str) -> Either:
    return request.getfixturevalue(kit)


def as_dict(client: Either, call: Callable[..., Any], *given: Any) -> dict[str, Any]:
    """What either kit tells, as a dictionary."""
    more = {"as_json": True} if isinstance(client, triton_grpc.InferenceServerClient) else {}
    told: dict[str, Any] = call(*given, **more)
    return told


@BOTH
def test_health_is_told(client: Either) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("scale")
    assert client.is_model_ready("scale", "3")


@BOTH
@pytest.mark.parametrize(("model", "version"), [("nothing", ""), ("scale", "4")], ids=["no model", "no version"])
def test_what_is_not_there_is_not_ready(server: Peer, client: Either, kit: str, model: str, version: str) -> None:
    found = ended(lambda: client.is_model_ready(model, version), lambda is_ready: not is_ready)
    asked = "whether an unknown version is ready" if version else "whether an unknown model is ready"
    assert found == expected(server.kind, f"{asked}, over {protocol(kit)}", SAME)


def test_readiness_over_http_is_the_status(server: Peer, plain: httpx.Client) -> None:
    assert plain.get("/v2/health/live").status_code == 200
    assert plain.get("/v2/models/scale/ready").status_code == 200
    found = str(plain.get("/v2/models/nothing/ready").status_code)
    assert found == expected(server.kind, "`GET …/ready` of an unknown model", "404")


@BOTH
def test_a_server_tells_its_name_version_and_extensions(client: Either) -> None:
    told = as_dict(client, client.get_server_metadata)
    assert told["name"]
    assert told["version"]


def tensors(told: list[dict[str, Any]]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {one["name"]: (one["datatype"], tuple(map(int, one["shape"]))) for one in told}


@BOTH
@pytest.mark.parametrize("model", [model for model in MODELS if model.name != "brain"], ids=lambda model: model.name)
def test_a_model_tells_its_tensors(client: Either, model: Taught) -> None:
    told = as_dict(client, client.get_model_metadata, model.name)
    assert told["name"] == model.name
    assert told["platform"]
    assert tensors(told["inputs"]) == model.inputs
    assert tensors(told["outputs"]) == model.outputs


@BOTH
def test_a_model_tells_its_versions(server: Peer, client: Either) -> None:
    told = as_dict(client, client.get_model_metadata, "scale").get("versions", [])
    assert (",".join(told) or "none") == expected(server.kind, "`versions` of a model's metadata", "3")


@BOTH
def test_metadata_of_what_is_not_there_is_refused(server: Peer, client: Either, kit: str) -> None:
    found = ended(lambda: client.get_model_metadata("nothing"))
    asked = f"metadata of an unknown model, over {protocol(kit)}"
    assert found == expected(server.kind, asked, "NOT_FOUND" if kit == "over_grpc" else "404")


@BOTH
def test_a_models_config_is_told(server: Peer, client: Either, kit: str) -> None:
    def is_right(told: dict[str, Any]) -> bool:
        config = told.get("config", told)
        return config["name"] == "scale" and [one["name"] for one in config["input"]] == ["x"]

    found = ended(lambda: as_dict(client, client.get_model_config, "scale"), is_right)
    assert found == expected(server.kind, f"`ModelConfig`, over {protocol(kit)}", SAME)


@BOTH
def test_statistics_count_what_was_computed(
    server: Peer, client: Either, kit: str, over_grpc: triton_grpc.InferenceServerClient
) -> None:
    def counted() -> dict[str, int]:
        (told,) = as_dict(client, client.get_inference_statistics, "arithmetic")["model_stats"]
        return {key: int(told.get(key, 0)) for key in ("inference_count", "execution_count")}

    def grows_by() -> int:
        before = counted()
        given = [in_grpc(name, np.ones((5, 3), np.float32)) for name in "ab"]
        over_grpc.infer("arithmetic", given)
        for _ in range(200):  # counted right after the answer is handed over
            after = counted()
            if after["execution_count"] > before["execution_count"]:
                break
        assert after["execution_count"] == before["execution_count"] + 1
        return after["inference_count"] - before["inference_count"]

    rows: list[int] = []
    found = ended(lambda: rows.append(grows_by()))
    asked = f"`ModelStatistics`, over {protocol(kit)}"
    assert found == expected(server.kind, asked, SAME)
    if found == SAME:
        assert str(rows[0]) == expected(server.kind, "`inference_count` of a batch of five", "5")


def index(client: Either) -> dict[str, str]:
    told = client.get_model_repository_index(
        **({"as_json": True} if isinstance(client, triton_grpc.InferenceServerClient) else {})
    )
    listed = told.get("models", []) if isinstance(told, dict) else told
    return {one["name"]: one.get("state", "") for one in listed}


@BOTH
def test_the_index_names_all_models_with_their_states(server: Peer, client: Either, kit: str) -> None:
    wanted = {model.name: "READY" for model in models_of(server.kind)}
    found = ended(lambda: index(client), lambda told: told == wanted)
    assert found == expected(server.kind, f"`RepositoryIndex`, over {protocol(kit)}", SAME)


@BOTH
def test_a_model_is_unloaded_and_loaded_by_request(
    server: Peer, client: Either, over_grpc: triton_grpc.InferenceServerClient
) -> None:
    given = [in_grpc("x", np.ones((1, 4), np.float32))]
    client.unload_model("spare")
    try:
        found = ended(lambda: over_grpc.infer("spare", given))
        assert found == expected(server.kind, "a call of a model that was unloaded, gRPC", "UNAVAILABLE")
        assert ended(lambda: over_grpc.infer("scale", given)) == SAME
    finally:
        client.load_model("spare")
    assert client.is_model_ready("spare")
    assert ended(lambda: over_grpc.infer("spare", given)) == SAME


@BOTH
def test_loading_what_is_not_there_is_refused(server: Peer, client: Either, kit: str) -> None:
    found = ended(lambda: client.load_model("nothing"))
    asked = f"a load of an unknown model, over {protocol(kit)}"
    assert found == expected(server.kind, asked, "NOT_FOUND" if kit == "over_grpc" else "404")


@BOTH
def test_unloading_what_is_not_there_is_refused(server: Peer, client: Either, kit: str) -> None:
    found = ended(lambda: client.unload_model("nothing"))
    asked = f"an unload of an unknown model, over {protocol(kit)}"
    assert found == expected(server.kind, asked, "NOT_FOUND" if kit == "over_grpc" else "404")


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda client: client.get_system_shared_memory_status(), id="system shared memory"),
        pytest.param(lambda client: client.get_cuda_shared_memory_status(), id="cuda shared memory"),
        pytest.param(lambda client: client.get_trace_settings(), id="trace settings"),
        pytest.param(lambda client: client.get_log_settings(), id="log settings"),
    ],
)
@BOTH
def test_triton_s_own_extensions_are_offered_or_refused_as_such(
    server: Peer, client: Either, kit: str, call: Callable[[Any], Any], request: pytest.FixtureRequest
) -> None:
    found = ended(lambda: call(client))
    asked = f"shared memory, traces, log settings, over {protocol(kit)}"
    assert found == expected(server.kind, asked, SAME)


def test_an_unknown_path_is_refused(server: Peer, plain: httpx.Client) -> None:
    assert http_end(plain.get("/v2/nothing")) == expected(server.kind, "an unknown path", "404")
