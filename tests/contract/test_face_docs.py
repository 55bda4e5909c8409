"""docs/faces.md names what the faces are named by, what they tell, and each flag that is not done here."""

from pathlib import Path

import pytest

from atalaya_serving.faces import ovms_settings, start, tfs_settings
from atalaya_serving.faces.ovms_config import CHANGES_ANSWERS
from atalaya_spec import ovms, tfs
from atalaya_spec.model_server import ModelServer

DOCS = (Path(__file__).parents[2] / "docs" / "faces.md").read_text()
OF_GRAPHS = {"ovms_current_graphs", "ovms_requests_accepted", "ovms_requests_rejected", "ovms_responses"}
IN_FILES_ONLY = {"custom_loader_options", "graph_path", "subconfig"}


@pytest.mark.parametrize("server", [ovms.server(), tfs.server()], ids=lambda server: server.program)
def test_every_metric_is_in_the_docs(server: ModelServer) -> None:
    assert [name for name in server.metrics.labels if name not in DOCS and name not in OF_GRAPHS] == []


def test_every_way_to_name_a_face_is_in_the_docs() -> None:
    assert [name for name in (start.ENV_FACE, start.ENV_BACKEND, "ovms:2025.4") if name not in DOCS] == []


def test_every_flag_that_is_refused_where_it_matters_is_in_the_docs() -> None:
    refused = {*CHANGES_ANSWERS, *tfs_settings.REFUSED, *ovms_settings.OTHER_WORK} - IN_FILES_ONLY - {"source_loras"}
    assert sorted(flag for flag in refused if f"--{flag}" not in DOCS) == []


def test_the_versions_that_are_known_are_in_the_docs() -> None:
    assert f"{ovms.VERSIONS[0]} to {ovms.VERSIONS[-1]}" in DOCS
    assert f"{tfs.VERSIONS[0].rpartition('.')[0]} to {tfs.VERSIONS[-1].rpartition('.')[0]}" in DOCS
