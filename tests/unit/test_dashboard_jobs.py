"""Uploads that are kept, and the assessment that runs as a child process."""

import hashlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from atalaya_dashboard.errors import UploadRejected
from atalaya_dashboard.jobs import AssessOptions, Job, JobBoard, Progress, assess_command, progress_of
from atalaya_dashboard.uploads import safe_name, save_upload

TIFF = b"II*\x00" + bytes(100)
OPTIONS = AssessOptions(Path("scene.tif"), "haiti-damage")


def test_an_upload_is_kept_by_its_digest_under_its_own_name(tmp_path: Path) -> None:
    kept = save_upload(io.BytesIO(TIFF), "Léogâne 1.tif", tmp_path)
    assert kept.read_bytes() == TIFF
    assert kept.name == "Léogâne 1.tif"
    assert kept.parent.name == hashlib.sha256(TIFF).hexdigest()[:16]
    assert save_upload(io.BytesIO(TIFF), "Léogâne 1.tif", tmp_path) == kept
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"PNG, not TIFF", "is not a TIFF"), (b"II", "is not a TIFF")]
)
def test_what_is_no_tiff_is_turned_away_and_not_kept(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(UploadRejected, match=words):
        save_upload(io.BytesIO(content), "a.tif", tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 0 and size != 4:
                raise OSError(28, "No space left on device")
            return super().read(8 if size and size > 8 else size)

    with pytest.raises(UploadRejected, match="No space left"):
        save_upload(Broken(TIFF), "a.tif", tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "scenes").write_text("a file")
    with pytest.raises(UploadRejected, match="ATALAYA_SCENES"):
        save_upload(io.BytesIO(TIFF), "a.tif", tmp_path / "scenes")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd.tif", "passwd.tif"),
        ("C:\\maps\\a.tif", "a.tif"),
        ("a;rm -rf.tif", "a_rm -rf.tif"),
        ("...", "scene.tif"),
        ("-x.tif", "-x.tif"),
    ],
)
def test_a_name_cannot_lead_elsewhere(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_the_child_is_our_own_command() -> None:
    command = assess_command(AssessOptions(Path("/a/b.tif"), "m", "127.0.0.1:9000"))
    assert command[:4] == [sys.executable, "-m", "atalaya", "assess"]
    assert command[4:] == [
        *("/a/b.tif", "--model", "m", "--endpoint", "127.0.0.1:9000"),
        *("--progress", "json", "--json"),
    ]


def a_job(program: str) -> Job:
    return Job(OPTIONS, [sys.executable, "-c", program])


def test_a_job_tells_its_progress_and_its_result() -> None:
    job = a_job(
        "import sys, json\n"
        "print(json.dumps({'event':'progress','done':5,'total':10,'tiles_per_s':2.5,'eta_s':2.0}), file=sys.stderr)\n"
        "print(json.dumps({'assessment':'abc','warnings':['coarse']}))\n"
    )
    job.wait(30)
    assert job.state == "done"
    assert job.progress == Progress(5, 10, 2.5, 2.0)
    assert job.progress.share == 0.5
    assert (job.assessment_id, job.warnings) == ("abc", ("coarse",))


def test_a_failed_job_gives_the_reason_in_words() -> None:
    job = a_job("import sys\nprint('atalaya assess: error: a.tif has no CRS; give one.', file=sys.stderr)\nsys.exit(1)")
    job.wait(30)
    assert (job.state, job.message) == ("failed", "a.tif has no CRS; give one.")


def test_a_job_that_dies_silently_is_said_to_have_failed() -> None:
    job = a_job("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    job.wait(30)
    assert job.state == "failed"
    assert "-9" in job.message


def test_a_cancelled_job_ends() -> None:
    job = a_job("import time, sys; print('here', file=sys.stderr, flush=True); time.sleep(60)")
    while job.message != "here":
        assert job.state == "running"
    job.cancel()
    job.wait(30)
    assert job.state == "cancelled"


def test_only_one_job_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr("atalaya_dashboard.jobs.assess_command", lambda options: slow)
    board = JobBoard()
    first = board.start(OPTIONS)
    try:
        assert board.start(OPTIONS) is first
        board.clear()
        assert board.current is first, "a running job is not forgotten"
    finally:
        first.cancel()
        first.wait(30)
    board.clear()
    assert board.current is None


def test_progress_before_the_first_tile_has_no_time_left() -> None:
    assert progress_of({"event": "progress", "done": 0, "total": 9, "eta_s": None}) == Progress(0, 9, 0.0, None)


def test_waiting_for_a_job_has_a_limit() -> None:
    job = a_job("import time; time.sleep(60)")
    with pytest.raises(subprocess.TimeoutExpired):
        job.wait(0.2)
    job.cancel()
    job.wait(30)
