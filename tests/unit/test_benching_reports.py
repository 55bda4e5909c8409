"""Rows say what was measured, and mark what is not to be trusted."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from atalaya_serving.benching.charts import load_charts
from atalaya_serving.benching.errors import InvalidPlan
from atalaya_serving.benching.machine import Ticks, noise, processor_flags, worst
from atalaya_serving.benching.quantiles import latency
from atalaya_serving.benching.records import Audit, Cell, Noise, Report, Sample, Start
from atalaya_serving.benching.reports import load_markdown
from atalaya_serving.benching.summary import rows
from atalaya_serving.benching.writing import results_in, write

QUIET = Noise(0.0, 0.0, 0.5)
CELL = Cell("ours", "v2-grpc", 4, 8)
ABOUT = {
    "processor": "CPU 9000", "processor_flags": ["avx2"], "usable_cores": 2, "memory_bytes": 2**34, "os": "Debian",
    "os_version": "12", "cloud": "", "python": "3.11", "versions": {"openvino": "2026.4"},
}  # fmt: skip


def sample(number: int = 0, requests: int = 100, **changes: object) -> Sample:
    made = Sample(CELL, number, 1.0, requests, {}, 0, latency([0.01] * requests), 0.4, 0.2, 100.0, QUIET)
    return replace(made, **changes)  # type: ignore[arg-type]


def report(*samples: Sample, **changes: object) -> Report:
    every = samples or (sample(),)
    latencies = {CELL: [0.01] * sum(one.requests for one in every)}
    plan = {"rounds": len(every), "loop": ["closed"]}
    made = Report(ABOUT, plan, rows(every, latencies), every)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_row_is_the_median_of_its_rounds_with_their_range() -> None:
    (row,) = rows([sample(0, 100), sample(1, 300), sample(2, 110)], {CELL: [0.01] * 510})
    assert (row.rounds, row.images_per_second, row.images_per_second_range) == (3, 440, (400, 1200))
    assert row.latency.count == 510
    assert row.server_cpu_us_per_image == pytest.approx(1e6 * 0.4 / 440)
    assert row.marks == ()


def test_quantiles_are_over_all_rounds_not_medians_of_medians() -> None:
    (row,) = rows([sample(0), sample(1)], {CELL: [0.001] * 150 + [1.0] * 50})
    assert (row.latency.p50_ms, row.latency.p95_ms) == (1, 1000)


def test_one_disturbed_round_marks_the_row() -> None:
    stolen = sample(1, noise=Noise(0.31, 0.02, 3.0))
    (row,) = rows([sample(0), stolen, sample(2)], {})
    assert row.marks == ("steal 31%",)
    assert "steal 31%" in load_markdown(report(sample(0), stolen))


def test_failed_and_unsent_calls_mark_the_row() -> None:
    (row,) = rows([sample(errors={"UNAVAILABLE": 2}, unsent=7)], {})
    assert (row.errors, row.unsent, row.marks) == (2, 7, ("2 errors", "overloaded"))


def test_a_server_elsewhere_has_no_cpu_time_rather_than_none_used() -> None:
    (row,) = rows([sample(server_cpu_seconds=None, memory_mib=None)], {})
    assert (row.server_cpu_us_per_image, row.memory_mib) == (None, None)
    assert "| - | - |" in load_markdown(report(sample(server_cpu_seconds=None, memory_mib=None)))


def test_the_report_names_machine_versions_and_counts() -> None:
    audit = Audit("ours", 100, 400, 100, 400)
    told = load_markdown(report(audits=(audit,), starts=(Start("ours", 1.25, 80.0, "bf16"),)))
    for expected in (
        "CPU 9000 (avx2), 2 cores, 16 GiB, Debian 12",
        "openvino 2026.4",
        "100 and 400: agrees",
        "| 1.2 |",
    ):
        assert expected in told
    assert "DISAGREES" in load_markdown(report(audits=(replace(audit, counted_images=399),)))


def test_a_stopped_run_says_so() -> None:
    assert "Stopped before its end" in load_markdown(report(complete=False))
    assert "Stopped" not in load_markdown(report())


def test_steal_and_other_programs_are_told_apart() -> None:
    before = Ticks(total=1000, idle=500, steal=100)
    after = Ticks(total=1200, idle=560, steal=120)
    found = noise(before, after, own_cpu_seconds=100, load_1m=1.5)
    assert (found.steal, found.others, found.load_1m) == (pytest.approx(0.1), pytest.approx(0.1), 1.5)
    assert found.marks == ("steal 10%", "others 10%")


def test_what_the_server_used_elsewhere_is_not_called_others() -> None:
    found = noise(Ticks(0, 0, 0), Ticks(100, 0, 0), None, 0.0)
    assert (found.others, found.marks) == (None, ())


def test_the_worst_round_speaks_for_all() -> None:
    assert worst([Noise(0.1, None, 1), Noise(0.0, 0.3, 2), Noise(0.0, 0.1, 0)]) == Noise(0.1, 0.3, 2)


def test_flags_that_matter_are_read_and_others_left_out() -> None:
    assert processor_flags("model name: x\nflags\t\t: fpu avx2 amx_bf16 sse\n") == ["avx2", "amx_bf16"]
    assert processor_flags("") == []


def test_a_report_is_json_markdown_and_charts(tmp_path: Path) -> None:
    made = report()
    files = write(tmp_path, "load", made, load_markdown(made), lambda: load_charts(made.rows, tmp_path))
    assert [file.name for file in files] == [
        "load.json",
        "load.md",
        "load-speed.png",
        "load-latency.png",
        "load-cpu.png",
    ]
    assert json.loads(files[0].read_text())["rows"] == json.loads(json.dumps(asdict(made)))["rows"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files[2:])


def test_without_matplotlib_the_figures_are_still_written(tmp_path: Path) -> None:
    def draw() -> list[Path]:
        raise ModuleNotFoundError("matplotlib")

    assert [file.name for file in write(tmp_path, "load", report(), "text", draw)] == ["load.json", "load.md"]


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidPlan, match="--out"), results_in(tmp_path / "file" / "below"):
        pytest.fail("the work began")


def test_a_benchmark_that_measured_nothing_leaves_no_folder(tmp_path: Path) -> None:
    with results_in(tmp_path / "out"):
        assert (tmp_path / "out").is_dir()
    assert not (tmp_path / "out").exists()
    with results_in(tmp_path / "out"):
        (tmp_path / "out" / "load.md").touch()
    with results_in(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "load.md").exists()
