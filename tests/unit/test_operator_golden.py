"""The objects of a model on each engine, device and store, word by word: files to be read like code.

`ATALAYA_WRITE_GOLDEN=1 pytest tests/unit/test_operator_golden.py` writes them anew; read the difference before it is
committed.
"""

import os
from pathlib import Path

import pytest
import yaml

from atalaya_operator.kinds import OWNED
from atalaya_operator.yaml_text import as_yaml
from atalaya_spec.server_versions import BACKENDS, ENGINES, drives
from builders_operator import CASES, STORES

GOLDEN = Path(__file__).parent / "operator_golden"


@pytest.mark.parametrize("name", CASES)
def test_the_objects_of_a_model_are_as_they_were_reviewed(name: str) -> None:
    file, made = GOLDEN / f"{name}.yaml", as_yaml(CASES[name].objects())
    if os.environ.get("ATALAYA_WRITE_GOLDEN"):
        file.write_text(made, encoding="utf-8")
    assert list(yaml.safe_load_all(made)) == CASES[name].objects()
    assert made == file.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {file.stem for file in GOLDEN.glob("*.yaml")} == set(CASES)


def test_the_list_of_kinds_is_what_is_made() -> None:
    made = {(one["apiVersion"], one["kind"]) for case in CASES.values() for one in case.objects()}
    assert made == {(kind.api_version, kind.name) for kind in OWNED}


def test_every_engine_is_shown_on_each_device_and_from_each_store() -> None:
    models = [case.model for case in CASES.values()]
    for engine in ENGINES:
        shown = {model.spec.devices[0] for model in models if model.spec.engine == engine}
        assert {device for backend in BACKENDS for device in drives(engine, backend)} - shown == set()
        assert {model.spec.model.uri.scheme for model in models if model.spec.engine == engine} == set(STORES)
