"""Reading InferenceModel files: what is valid, what is refused and why, and that every problem is told at once."""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaya_spec.inference_model import API_VERSION, InferenceModel
from atalaya_spec.model_files import Checked, check_files, check_object, check_text, problems_of
from atalaya_spec.names import MAX_NAME_LENGTH, read_device, read_image, read_uri, read_version
from atalaya_spec.problems import Refused, did_you_mean
from atalaya_spec.server_versions import BACKENDS, DEVICES, ENGINES, is_driven
from atalaya_spec.units import read_cpu, read_duration, read_memory, read_percentage

EXAMPLES = Path(__file__).parents[2] / "charts" / "atalaya" / "examples"
VALID = sorted((EXAMPLES / "valid").glob("*.yaml"))
NO_URIS = (
    *("", " ", "a\nb", 5, "s3://", "s3:///x", "s3://b/../c", "s3://b/x#y", "ftp://x/y", "oci://r", "file://relative"),
    *("https://h", "https://u:p@h/x", "https://h/x?y", "https://h:port/x", "https://[bad/x"),
)
INVALID = sorted((EXAMPLES / "invalid").glob("*.yaml"))


def model(**spec: object) -> dict[str, object]:
    """A valid object with fields of its spec replaced; None leaves one out."""
    whole = {"engine": "openvino", "model": {"uri": "s3://models/m"}} | spec
    kept = {key: value for key, value in whole.items() if value is not None}
    return {"apiVersion": API_VERSION, "kind": "InferenceModel", "metadata": {"name": "m"}, "spec": kept}


def parsed(value: object) -> InferenceModel:
    found, findings = check_object(value)
    assert findings.problems == []
    assert found is not None
    return found


def told(value: object) -> list[str]:
    found, findings = check_object(value)
    assert (found is None) == bool(findings.problems)
    return [str(problem) for problem in findings.problems]


def lines_told(checked: Iterable[Checked]) -> list[str]:
    return [str(problem) for problem in problems_of(checked)]


def test_there_are_enough_examples() -> None:
    assert len(VALID) >= 12
    assert len(INVALID) >= 25


@pytest.mark.parametrize("file", VALID, ids=lambda file: file.stem)
def test_a_valid_example_is_accepted(file: Path) -> None:
    checked = check_files([file])
    assert lines_told(checked) == []
    assert any(document.model for document in checked)


@pytest.mark.parametrize("file", INVALID, ids=lambda file: file.stem)
def test_an_invalid_example_is_refused_for_its_own_reasons_all_at_once(file: Path) -> None:
    expected = [line.removeprefix("# expect: ") for line in file.read_text().splitlines() if "# expect: " in line]
    problems = lines_told(check_files([file]))
    assert expected
    assert len(problems) == len(expected)
    assert [reason for reason in expected if not any(reason in problem for problem in problems)] == []


def test_all_valid_examples_can_be_applied_together() -> None:
    assert lines_told(check_files(VALID)) == []


def test_every_field_is_read_into_its_type() -> None:
    file = EXAMPLES / "valid" / "openvino-intel-gpu.yaml"
    spec = parsed(yaml.safe_load(file.read_text())).spec
    assert (spec.engine, spec.engine_version, spec.backend) == ("openvino", "2026.3", None)
    assert (spec.model.uri.scheme, spec.model.uri.path) == ("s3", "models/haiti-damage")
    assert (spec.model.versions.latest, spec.model.versions.specific) == (1, None)
    assert spec.model.credentials_secret == "model-store"
    assert spec.devices == ("gpu.intel.com/xe", "gpu.intel.com/i915", "cpu")
    assert (spec.resources.requests.cpu.value, spec.resources.limits.memory.value) == (1, 2 * 1024**3)
    assert (spec.batching.max_size, spec.batching.timeout.seconds) == (32, 0.002)
    assert (spec.scaling.min, spec.scaling.max, spec.scaling.cpu.percent) == (1, 8, 70)


def test_what_is_left_out_has_its_default() -> None:
    spec = parsed(model()).spec
    assert spec.model.versions.latest == 1
    assert spec.devices == ("cpu",)
    assert (spec.replicas, spec.scaling, spec.batching, spec.protocols) == (None, None, None, None)


def test_all_problems_of_a_document_are_told_at_once_in_the_order_of_the_file() -> None:
    text = f"""apiVersion: {API_VERSION}
kind: InferenceModel
metadata: {{nam: Haiti_damage}}
spec:
  engine: openvno
  engineVersion: 2026.3
  uri: s3://x
  model:
    versions: {{latest: 1, all: {{}}}}
    uri: azure://x
  devices: [gpu]
  replicas: 2
  rollout: {{}}
  resources: {{limits: {{memory: 12m}}}}
  scaling: {{min: 5, max: "3"}}
  batching: {{timeout: 2}}
"""
    problems = problems_of(check_text(text, "model.yaml"))
    assert [(problem.line, problem.path) for problem in problems] == [
        (3, "metadata.nam"),
        (3, "metadata.name"),
        (5, "spec.engine"),
        (6, "spec.engineVersion"),
        (7, "spec.uri"),
        (9, "spec.model.versions"),
        (10, "spec.model.uri"),
        (11, "spec.devices[0]"),
        (12, "spec.replicas"),
        (13, "spec.rollout"),
        (14, "spec.resources.limits.memory"),
        (15, "spec.scaling.max"),
        (15, "spec.scaling"),
        (16, "spec.batching.maxSize"),
        (16, "spec.batching.timeout"),
    ]
    assert str(problems[2]) == (
        "model.yaml:5: spec.engine: 'openvno' is not one of openvino, tensorflow, atalaya; did you mean 'openvino'?"
    )
    assert all(problem.fact and problem.next_step for problem in problems)


def test_problems_of_every_document_and_file_are_told(tmp_path: Path) -> None:
    bad = yaml.safe_dump_all([model(engine="x"), model(replicas=-1)])
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "missing.yaml"]
    files[0].write_text(bad)
    files[1].write_text(bad)
    problems = problems_of(check_files(files))
    assert [Path(problem.source).name for problem in problems] == ["a.yaml"] * 2 + ["b.yaml"] * 2 + ["missing.yaml"]
    assert "there is no such file" in problems[-1].fact


def test_two_files_may_not_name_one_model_but_two_namespaces_may(tmp_path: Path) -> None:
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for file in files:
        file.write_text(yaml.safe_dump(model()))
    assert "'m' is already the name of the model at" in lines_told(check_files(files))[0]
    files[1].write_text(yaml.safe_dump(model() | {"metadata": {"name": "m", "namespace": "other"}}))
    assert lines_told(check_files(files)) == []


@pytest.mark.parametrize(
    ("engine", "backend", "device"),
    [
        (engine, backend, device)
        for engine, device in itertools.product(ENGINES, (*DEVICES, "nvidia.com/mig-1g.5gb.shared"))
        for backend in (BACKENDS if engine == "atalaya" else (None,))
    ],
)
def test_an_engine_is_refused_a_device_exactly_when_it_cannot_drive_it(
    engine: str, backend: str | None, device: str
) -> None:
    problems = told(model(engine=engine, backend=backend, devices=[device]))
    assert (problems == []) == is_driven(device, engine, backend)


@pytest.mark.parametrize(
    ("device", "drivers"),
    [
        ("gpu.intel.com/xe", {("openvino", None), ("atalaya", "openvino")}),
        ("npu.intel.com/accel", {("openvino", None)}),
        ("nvidia.com/gpu", {("tensorflow", None)}),
        ("nvidia.com/gpu.shared", {("tensorflow", None)}),
        ("nvidia.com/mig-3g.20gb", {("tensorflow", None)}),
    ],
)
def test_who_drives_what(device: str, drivers: set[tuple[str, str | None]]) -> None:
    every = [("openvino", None), ("tensorflow", None), ("atalaya", "openvino"), ("atalaya", "tensorflow")]
    assert {pair for pair in every if is_driven(device, *pair)} == drivers


@pytest.mark.parametrize(
    ("spec", "protocols", "is_bridged"),
    [
        ({"engine": "openvino", "engineVersion": "2026.3"}, ["kserve-v2", "tensorflow-serving"], True),
        ({"engine": "openvino", "engineVersion": "2026.2.1"}, ["kserve-v2", "tensorflow-serving"], False),
        ({"engine": "openvino"}, ["tensorflow-serving"], True),
        ({"engine": "tensorflow"}, ["kserve-v2"], True),
        ({"engine": "atalaya"}, ["kserve-v2", "tensorflow-serving"], False),
    ],
)
def test_a_protocol_that_the_version_does_not_speak_is_bridged_and_said(
    spec: dict[str, str], protocols: list[str], is_bridged: bool
) -> None:
    checked = check_text(yaml.safe_dump(model(**spec, protocols=protocols)), "m.yaml")
    assert lines_told(checked) == []
    assert bool(checked[0].notes) == is_bridged


@pytest.mark.parametrize(
    ("spec", "note"),
    [
        ({"devices": ["gpu.intel.com/xe", "cpu"], "fallBackAfter": "1m", "moveUpAfter": "10m"}, None),
        ({"devices": ["cpu", "gpu.intel.com/xe"]}, "gpu.intel.com/xe is used only when nothing schedules there"),
        ({"devices": ["gpu.intel.com/xe"], "moveUpAfter": "10m"}, "there is one device"),
        ({"fallBackAfter": "1m"}, "there is one device"),
    ],
)
def test_an_order_of_devices_that_leads_nowhere_is_allowed_and_told(spec: dict[str, object], note: str | None) -> None:
    (checked,) = check_text(yaml.safe_dump(model(**spec)), "m.yaml")
    assert lines_told([checked]) == []
    assert [note in str(one) for one in checked.notes] == ([True] if note else [])


@pytest.mark.parametrize("value", [None, 5, "text", [], True, {1: 2}, {"spec": []}, {"apiVersion": None}])
def test_anything_that_is_no_model_is_refused_and_nothing_raises(value: object) -> None:
    assert told(value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"replicas": True}, "is true or false, not a whole number"),
        ({"replicas": 1.5}, "is a number, not a whole number"),
        ({"devices": "cpu"}, "a text stands here, a list is needed"),
        ({"devices": []}, "the list is empty"),
        ({"devices": ["cpu", "cpu"]}, "named twice"),
        ({"protocols": [["kserve-v2"]]}, "a list is not one of"),
        ({"engine": ["openvino"]}, "a list is not one of"),
        ({"model": "s3://models/m"}, "a text stands here, a mapping is needed"),
        ({"model": {"uri": 5}}, "5 is a whole number, not a text"),
        ({"model": {"uri": "s3://models/m", "versions": "latest"}}, "write fields such as 'latest', 'specific'"),
        ({"model": {"uri": "s3://m/m", "versions": {"all": True}}}, "true or false stands here, a mapping is needed"),
        ({"batching": None, "scaling": {"max": 2, "latencyP95": "50"}}, "'50' is not a duration"),
        ({"scaling": {"max": 2, "queue": {"size": 3}}}, "spec.scaling.queue.length: the field is missing"),
        ({"image": "Docker Hub"}, "is not a container image"),
        ({"image": "x"}, None),
    ],
)
def test_a_value_of_the_wrong_type_says_what_stands_there(spec: dict[str, object], message: str | None) -> None:
    problems = told(model(**spec))
    assert any(message in problem for problem in problems) if message else not problems


@pytest.mark.parametrize(
    ("name", "is_valid"),
    [("a", True), ("a" * MAX_NAME_LENGTH, True), ("a" * (MAX_NAME_LENGTH + 1), False), ("a-1", True), ("-a", False),
     ("a-", False), ("1a", False), ("a.b", False), ("a\n", False), ("ä", False), ("", False), (5, False)],
)  # fmt: skip
def test_a_name_leaves_room_for_a_digest_and_fits_a_service(name: object, is_valid: bool) -> None:
    assert (told(model() | {"metadata": {"name": name}}) == []) == is_valid
    assert MAX_NAME_LENGTH + len("-0123456789") == 63


@pytest.mark.parametrize(
    ("read", "text", "worth"),
    [
        (lambda text: float(read_cpu(text).value), "500m", 0.5),
        (lambda text: float(read_cpu(text).value), 2, 2.0),
        (lambda text: float(read_cpu(text).value), "0.5", 0.5),
        (lambda text: int(read_memory(text).value), "1Gi", 1024**3),
        (lambda text: int(read_memory(text).value), "1.5Gi", 3 * 1024**3 // 2),
        (lambda text: int(read_memory(text).value), "200M", 200_000_000),
        (lambda text: int(read_memory(text).value), 1048576, 1048576),
        (lambda text: read_duration(text).seconds, "2ms", 0.002),
        (lambda text: read_duration(text).seconds, "500us", 0.0005),
        (lambda text: read_duration(text).seconds, "1.5m", 90.0),
        (lambda text: read_percentage(text).percent, "100%", 100),
        (lambda text: str(read_cpu(text)), "500m", "500m"),
    ],
)
def test_a_unit_is_worth_what_it_says_and_keeps_its_text(read, text: object, worth: object) -> None:
    assert read(text) == worth


@pytest.mark.parametrize(
    ("read", "value"),
    [
        *((read_cpu, value) for value in ("", "0", "-1", "1Gi", "0.0001", 0.5, True, None, [], "1e3", "٣", "nan")),
        *((read_memory, value) for value in ("", "0", "-1Gi", "512m", "1GB", "1gi", False, {}, float("inf"))),
        *((read_duration, value) for value in ("", "2", 2, "0ms", "-1s", "1d", "1h30m", None)),
        *((read_percentage, value) for value in ("", "70", 0.7, "0%", "101%", "7.5%", "70 %", None)),
        *((read_version, value) for value in ("latest", 2026.3, 2026, "v2026.3", "2026", "2026.3-gpu", None)),
        *((read_image, value) for value in ("", "A/b", "a b", "a:", "a@sha256:12", "/a", 5)),
        *((read_device, value) for value in ("", "CPU", "nvidia.com/mig-1g", "nvidia.com", "amd.com/gpu", 1)),
        *((read_uri, value) for value in NO_URIS),
    ],
)  # fmt: skip
def test_what_is_not_written_right_is_refused_with_a_next_step(read, value: object) -> None:
    with pytest.raises(Refused) as refused:
        read(value)
    assert refused.value.fact
    assert refused.value.next_step


@pytest.mark.parametrize("text", ["ubuntu", "openvino/model_server:2026.3-gpu", "h:5000/a/b@sha256:" + "0" * 64])
def test_an_image_may_have_a_registry_a_tag_and_a_digest(text: str) -> None:
    assert read_image(text) == text


@pytest.mark.parametrize(
    ("given_word", "suggestion"),
    [("max_size", "maxSize"), ("maxsize", "maxSize"), ("maxSiz", "maxSize"), ("colour", "")],
)
def test_the_nearest_word_is_suggested(given_word: str, suggestion: str) -> None:
    assert did_you_mean(given_word, ["maxSize", "timeout"]) == (suggestion and f"did you mean {suggestion!r}?")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: [", "not YAML", id="unclosed"),
        pytest.param("!!python/object/apply:os.system [ls]", "not YAML", id="object-tag"),
        pytest.param(b"\xff\xfe\x00", "not YAML", id="not-text"),
        pytest.param("? [a, b]\n: 1", "a key is no text", id="odd-key"),
        pytest.param("a: &x [*x]", "there is no InferenceModel", id="recursive"),
        pytest.param("", "there is no InferenceModel in the file", id="empty"),
        pytest.param("---\n---\n", "there is no InferenceModel in the file", id="empty-documents"),
    ],
)
def test_a_file_that_cannot_be_read_says_so_in_one_line(text: str | bytes, message: str) -> None:
    problems = lines_told(check_text(text, "m.yaml"))
    assert any(message in problem or "apiVersion: the field is missing" in problem for problem in problems)
    assert all("\n" not in problem for problem in problems)


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        pytest.param({"replicas": 2, "scaling": {"max": 4, "concurrency": 2}}, ["spec.replicas"], id="both right"),
        pytest.param(
            {"replicas": -3, "scaling": {"max": 4, "concurrency": 2}}, ["spec.replicas"] * 2, id="replicas wrong"
        ),
        pytest.param({"replicas": 3, "scaling": 5}, ["spec.replicas", "spec.scaling"], id="scaling wrong"),
    ],
)
def test_replicas_and_scaling_contradict_each_other_also_where_one_is_wrong(
    spec: dict[str, object], paths: list[str]
) -> None:
    problems = check_object(model(**spec))[1].problems
    assert sorted(problem.path for problem in problems) == paths
    assert any("contradict" in problem.fact for problem in problems)


def test_a_request_that_is_written_wrong_is_not_called_missing() -> None:
    scaling = {"max": 4, "cpu": "70%"}
    wrong = told(model(scaling=scaling, resources={"requests": {"cpu": "many"}}))
    assert len(wrong) == 1
    assert wrong[0].startswith("spec.resources.requests.cpu: 'many' is not")
    assert "none are requested" in told(model(scaling=scaling))[0]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 5000, id="lists"),
        pytest.param("{a: " * 5000, id="mappings"),
        pytest.param("\n".join(" " * depth + "a:" for depth in range(1000)), id="blocks"),
    ],
)
def test_a_file_that_is_nested_too_deeply_says_so(text: str) -> None:
    assert lines_told(check_text(text, "m.yaml")) == [
        "m.yaml: it is nested too deeply to be read; an InferenceModel has six levels at most; take out the others."
    ]


def test_a_date_is_a_text_and_an_endless_number_has_a_line() -> None:
    dated = yaml.safe_dump(model()).replace("name: m", "name: m\n  labels: {since: 2020-01-12}")
    assert lines_told(check_text(dated, "m.yaml")) == []
    endless = yaml.safe_dump(model()) + f"  replicas: {'9' * 5000}\n"
    (problem,) = problems_of(check_text(endless, "m.yaml"))
    assert (problem.line, problem.fact) == (9, "not YAML: a number has too many digits")


def test_countless_unknown_fields_and_documents_are_told_in_a_few_lines() -> None:
    unknown = lines_told(check_text("".join(f"k{number}: 1\n" for number in range(2000)), "m.yaml"))
    assert len(unknown) < 30
    assert any("1,980 more fields are unknown" in problem for problem in unknown)
    assert lines_told(check_text("--- 1\n" * 1001, "m.yaml")) == [
        "m.yaml: not YAML: there are more than 1,000 documents; correct it."
    ]


def test_a_pipe_is_read_as_far_as_a_file_may_be_long(tmp_path: Path) -> None:
    (checked,) = check_files([Path("/dev/zero")])
    assert "the file has more than 1,048,576 bytes" in str(checked.problems[0])


def test_an_alias_bomb_is_answered_at_once() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    assert problems_of(check_text(bomb, "m.yaml"))


def test_a_file_beyond_a_megabyte_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "big.yaml"
    file.write_bytes(b"#" * (1024 * 1024 + 1))
    assert "more than 1,048,576 bytes" in lines_told(check_files([file]))[0]


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_no_value_of_any_field_raises(value: object) -> None:
    for key in ("engine", "model", "devices", "resources", "batching", "scaling", "replicas", "protocols", "unknown"):
        problems = told(model(**{key: value}))
        assert all(re.search(r"; \S", problem) for problem in problems)
