"""The thesis' tables: sums that add up, its own figures beside ours, and plans that cannot be refused late."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atalaya_serving.benching.charts import thesis_charts
from atalaya_serving.benching.errors import InvalidPlan
from atalaya_serving.benching.machine import usable_cores
from atalaya_serving.benching.processes import Launcher
from atalaya_serving.benching.quantiles import latency
from atalaya_serving.benching.recorded import read_recorded
from atalaya_serving.benching.records import Noise
from atalaya_serving.benching.thesis import ThesisRequest, check, served_epochs
from atalaya_serving.benching.thesis_records import Fit, Served, ThesisReport, group, sums
from atalaya_serving.benching.thesis_records import Path as PathResult
from atalaya_serving.benching.thesis_tables import thesis_markdown
from atalaya_serving.benching.worker import judged

QUIET = Noise(0.0, 0.0, 0.1)
ABOUT = {
    "processor": "CPU 9000", "processor_flags": [], "usable_cores": 2, "memory_bytes": 2**34, "os": "Debian",
    "os_version": "12", "python": "3.11", "versions": {},
}  # fmt: skip
SERVED = Served("haiti-damage", "openvino", 1, "v2-grpc", 0, 9, 1, 0, 0, 0, 0.02, 10, latency([0.01] * 10), 0.5, QUIET)


def every() -> tuple[Served, ...]:
    slow = replace(SERVED, engine="tensorflow", inference_seconds=1.0, total=latency([0.2] * 10), wall_seconds=2.0)
    return (
        SERVED,
        replace(SERVED, cores=2, protocol="tfs-rest", wall_seconds=1.5, right=10, wrong=0, unseen=4, unseen_right=3),
        slow,
        replace(slow, noise=Noise(0.4, 0.0, 9.0)),
    )


def report(**changes: object) -> ThesisReport:
    fits = tuple(Fit(epochs, 0, 145, 36, 33, 0.25, 90.0, QUIET) for epochs in (100, 175, 200))
    paths = (
        PathResult("OpenVINO, bf16", "openvino", latency([0.001] * 10), QUIET),
        PathResult("predict()", "tensorflow", latency([0.05] * 10), QUIET),
    )
    recorded = (
        {"engine": "openvino", "web": "Flask", "cores": "2", "count": 2000, "inference_ms": 4.4, "total_ms": 90},
    )
    plan = {"concurrency": 8, "rounds": 4, "precision": "f32"}
    return replace(ThesisReport(ABOUT, plan, fits, every(), paths, recorded), **changes)  # type: ignore[arg-type]


def test_means_are_over_images_and_speed_over_time() -> None:
    found = sums(every()[:2])
    assert (found.right, found.wrong, found.unseen, found.unseen_right) == (19, 1, 4, 3)
    assert found.inference_ms == pytest.approx(2.0)
    assert found.total_ms == pytest.approx(10.0)
    assert found.images_per_second == pytest.approx(20 / 2.0)


def test_groups_keep_apart_what_they_are_asked_to() -> None:
    found = group(every(), "engine", "cores")
    assert {key: one.right + one.wrong for key, one in found.items()} == {
        ("openvino", 1): 10, ("openvino", 2): 10, ("tensorflow", 1): 20,
    }  # fmt: skip


def test_every_published_figure_of_the_thesis_stands_in_its_table() -> None:
    text = thesis_markdown(report())
    for figure in (
        "85%",
        "16.79",
        "2.1",
        "93%",
        "25.86",
        "1.5",
        "87%",
        "29.94",
        "1.9",
        "31,141",
        "31,521",
        "859",
        "479",
    ):
        assert figure in text
    assert "| (the thesis, 2020) | openvino | 3 | 108 | 67 |" in text
    assert "OpenVINO computes in f32." in text
    assert "| (the thesis, 2020) | tensorflow | 106 | 381 | 64 |" in text


def test_our_figures_stand_beside_them() -> None:
    text = thesis_markdown(report())
    assert "| 100 | 92% (78%–97%) | 90.0 | 0.25 | 85% | 16.79 | 2.1 |" in text
    assert "| haiti-damage | openvino | 20 | 19 | 1 | 95.0% | 75.0% of 4 | 0 |" in text
    assert "| haiti-damage | tensorflow | v2-grpc | 1 | 100.0 | 200.0 | 5 | steal 40% |" in text
    assert "| haiti-damage | openvino | 10 | 20 (v2-grpc, 1 core) | 7 (tfs-rest, 2 cores) |  |" in text


def test_what_json_does_to_the_means_is_said_where_there_is_json() -> None:
    assert "Python's lock" in thesis_markdown(report())
    assert "Python's lock" not in thesis_markdown(report(served=(SERVED,)))


def test_a_ratio_over_tensorflow_names_its_path() -> None:
    assert "| predict() | tensorflow | 50.00 | 50.00 | 10 | 50.0 |" in thesis_markdown(report())


def test_a_part_that_was_left_out_has_no_table() -> None:
    text = thesis_markdown(report(fits=(), paths=(), recorded=(), complete=False))
    assert "## 1." not in text
    assert "## 8." not in text
    assert "## 3." in text
    assert "Stopped before its end" in text
    assert "## 2." not in thesis_markdown(report(served=()))


def test_charts_are_drawn_of_what_there_is(tmp_path: Path) -> None:
    assert [file.name for file in thesis_charts(report(), tmp_path)] == ["thesis-total.png", "thesis-epochs.png"]
    assert thesis_charts(report(fits=(), served=()), tmp_path) == []


def test_the_recording_is_averaged_by_engine_web_layer_and_cores(tmp_path: Path) -> None:
    file = tmp_path / "recorded.csv.gz"
    lines = ["engine,web,cores,inference_s,total_s", "tf,Flask,2,0.1,0.3", "tf,Flask,2,0.3,0.5", "ov,Flask,2,0.01,0.1"]
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    found = read_recorded(file)
    assert [(one["engine"], one["count"]) for one in found] == [("ov", 1), ("tf", 2)]
    assert found[1]["inference_ms"] == pytest.approx(200)
    assert found[1]["total_ms"] == pytest.approx(400)


@pytest.mark.parametrize("text", ["engine,web\nx,y\n", "engine,web,cores,inference_s,total_s\na,b,2,much,1\n"])
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(InvalidPlan, match="no recording"):
        read_recorded(tmp_path / "other.csv")
    with pytest.raises(InvalidPlan, match="cannot be read"):
        read_recorded(tmp_path / "away.csv")


def request(tmp_path: Path, **changes: object) -> ThesisRequest:
    return replace(ThesisRequest(tmp_path, tmp_path, tmp_path, Launcher()), **changes)  # type: ignore[arg-type]


def test_inferences_are_shared_evenly(tmp_path: Path) -> None:
    asked = request(tmp_path, inferences=3200, cores=(1, 2), rounds=4)
    assert asked.uploads.images == 3200 // (2 * 4 * 4)
    assert request(tmp_path, inferences=1).uploads.images == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"cores": (len(usable_cores()) + 1,)}, "ask for at most as many", id="cores that are not there"),
        pytest.param({"parts": ("serving",)}, "leave out --without training", id="a model that is not fitted"),
    ],
)
def test_a_run_that_cannot_end_well_does_not_begin(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidPlan, match=told):
        check(request(tmp_path, **changes))


def test_the_fit_that_the_thesis_served_is_served() -> None:
    assert (served_epochs((100, 175, 200)), served_epochs((1, 2))) == (175, 2)


def test_a_fit_is_judged_by_its_right_answers_and_log_loss() -> None:
    right, loss = judged(np.array([0.0, -2.0, 3.0]), np.array([1, 1, 0]))
    assert right == 1
    assert loss == pytest.approx((np.log(2) + np.log1p(np.exp(2)) + np.log1p(np.exp(3))) / 3)
