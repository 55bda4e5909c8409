"""What the operator writes for the originals is understood by their faces, in every version, with nothing left over."""

from pathlib import Path

import pytest

from atalaya_serving.faces import ovms_flags, tfs_flags
from atalaya_serving.faces.ovms_settings import ovms_start
from atalaya_serving.faces.tfs_settings import tfs_start
from atalaya_spec import ovms, tfs
from builders_operator import CASES, Case

OPENVINO = [case for case in CASES.values() if case.spec.get("engine", "openvino") == "openvino"]
TENSORFLOW = [case for case in CASES.values() if case.spec.get("engine") == "tensorflow"]


def arguments(case: Case, config: Path) -> list[str]:
    for file, text in case.revision.config.items():
        (config / file).write_text(text)
    containers = case.revision.template["spec"]["containers"]
    given = [argument for one in containers if one["name"] == "server" for argument in one["args"]]
    return [argument.replace("/etc/atalaya", str(config)) for argument in given]


@pytest.mark.parametrize("version", ovms.VERSIONS)
def test_the_face_of_ovms_understands_the_operator(version: str, tmp_path: Path) -> None:
    server = ovms.server(version)
    assert OPENVINO
    for case in OPENVINO:
        told = arguments(Case({**case.spec, "engineVersion": version}, case.versions), tmp_path)
        start = ovms_start(ovms_flags.parse(told, server), server)
        assert (start.settings.grpc_port, start.settings.rest_port) == (server.grpc_port, server.rest_port)
        assert (start.notes, start.settings.models[0].unsupported) == ((), "")
        assert "ovms_current_requests" in start.families


@pytest.mark.parametrize("version", tfs.VERSIONS)
def test_the_face_of_tensorflow_serving_understands_the_operator(version: str, tmp_path: Path) -> None:
    server = tfs.server(version)
    assert TENSORFLOW
    for case in TENSORFLOW:
        told = arguments(Case({**case.spec, "engineVersion": version}, case.versions), tmp_path)
        start = tfs_start(tfs_flags.parse(told, server), server, "openvino")
        assert (start.settings.grpc_port, start.settings.rest_port) == (server.grpc_port, server.rest_port)
        assert (start.complaint, start.notes, start.metrics_path) == ("", (), server.metrics.path)
        assert start.has_health
