"""Uploads that are kept, and the assessment that runs as a child process."""

import argparse
import hashlib
import io
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from atalaya_dashboard.errors import UploadRejected
from atalaya_dashboard.jobs import AssessOptions, Job, JobBoard, Progress, assess_command, progress_of
from atalaya_dashboard.uploads import Kept, discard, named, safe_name, save_region, save_scene

TIFF = b"II*\x00" + bytes(100)
OPTIONS = AssessOptions(Path("scene.tif"), "haiti-damage")


def test_an_upload_is_kept_by_its_digest_under_its_own_name(tmp_path: Path) -> None:
    kept = save_scene(io.BytesIO(TIFF), "Léogâne 1.tif", tmp_path)
    assert kept.is_new
    assert kept.path.read_bytes() == TIFF
    assert kept.path.name == "Léogâne 1.tif"
    assert kept.path.parent.name == hashlib.sha256(TIFF).hexdigest()[:16]
    assert save_scene(io.BytesIO(TIFF), "Léogâne 1.tif", tmp_path) == Kept(kept.path, is_new=False)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"PNG, not TIFF", "is not a TIFF"), (b"II", "is not a TIFF")]
)
def test_what_is_no_tiff_is_turned_away_and_not_kept(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(UploadRejected, match=words):
        save_scene(io.BytesIO(content), "a.tif", tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 0 and size != 4:
                raise OSError(28, "No space left on device")
            return super().read(8 if size and size > 8 else size)

    with pytest.raises(UploadRejected, match="No space left"):
        save_scene(Broken(TIFF), "a.tif", tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "scenes").write_text("a file")
    with pytest.raises(UploadRejected, match="ATALAYA_SCENES"):
        save_scene(io.BytesIO(TIFF), "a.tif", tmp_path / "scenes")


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


def test_an_area_of_any_kind_is_kept_and_an_empty_one_refused(tmp_path: Path) -> None:
    kept = save_region(io.BytesIO(b'{"type": "FeatureCollection"}'), "area.geojson", tmp_path)
    assert kept.path.suffix == ".geojson"
    with pytest.raises(UploadRejected, match="is empty"):
        save_region(io.BytesIO(b""), "area.geojson", tmp_path)


def test_what_is_refused_goes_again_and_what_was_there_stays(tmp_path: Path) -> None:
    new = save_scene(io.BytesIO(TIFF), "new.tif", tmp_path)
    old = Kept(save_scene(io.BytesIO(TIFF + b"1"), "old.tif", tmp_path).path, is_new=False)
    own = tmp_path / "own.tif"
    own.write_bytes(TIFF)
    discard([new, old, Kept(own, is_new=True)], tmp_path)
    assert not new.path.parent.exists()
    assert old.path.exists()
    assert own.exists(), "a file outside the uploads is nobody's to remove"


def test_a_file_that_a_person_names_may_begin_with_their_home() -> None:
    assert named(" ~/maps/a.tif ") == Kept(Path.home() / "maps" / "a.tif")
    assert named("-x.tif").path.is_absolute()


def test_the_child_is_our_own_command() -> None:
    command = assess_command(AssessOptions(Path("/a/b.tif"), "m", "127.0.0.1:9000"))
    assert command[:4] == [sys.executable, "-m", "atalaya", "assess"]
    assert command[4:] == ["--model=m", "--endpoint=127.0.0.1:9000", "--progress=json", "--json", "--", "/a/b.tif"]


def test_the_command_understands_every_choice_of_the_page() -> None:
    """By the parser of `atalaya assess` itself, with values that begin with a dash."""
    from atalaya.commands import assess

    options = AssessOptions(Path("-b.tif"), "m", "", Path("/a.gpkg"), Path("/m.tif"), "3,2,1", "-5,10.5")
    parser = argparse.ArgumentParser()
    assess.add_arguments(parser)
    given = parser.parse_args(assess_command(options)[4:])
    assert (given.scene, given.model, given.endpoint) == ([Path("-b.tif")], "m", None)
    assert (given.area, given.mask) == (Path("/a.gpkg"), Path("/m.tif"))
    assert (given.bands, given.scale) == ((3, 2, 1), (-5.0, 10.5))


def test_a_job_that_is_refused_before_any_tile_says_so_once() -> None:
    told = threading.Event()
    program = "import sys; sys.exit('atalaya assess: error: no CRS')"
    Job(OPTIONS, [sys.executable, "-c", program], on_refused=told.set).wait(30)
    assert told.wait(30)


@pytest.mark.parametrize("ending", ["0", "1"])
def test_a_job_that_has_begun_keeps_its_files(ending: str) -> None:
    event = '{"event": "progress", "done": 1, "total": 9}'
    told = threading.Event()
    job = Job(
        OPTIONS,
        [sys.executable, "-c", f"import sys; print('{event}', file=sys.stderr); sys.exit({ending})"],
        on_refused=told.set,
    )
    job.wait(30)
    assert not told.wait(0.3)


def a_job(program: str) -> Job:
    return Job(OPTIONS, [sys.executable, "-c", program])


def test_a_job_tells_its_progress_and_its_result() -> None:
    job = a_job(
        "import sys, json\n"
        "print(json.dumps({'event':'progress','done':5,'total':10,'tiles_per_s':2.5,'eta_s':2.0}), file=sys.stderr)\n"
        "print(json.dumps({'assessment':'abc'}))\n"
    )
    job.wait(30)
    assert job.state == "done"
    assert job.progress == Progress(5, 10, 2.5, 2.0)
    assert job.progress.share == 0.5
    assert job.assessment_id == "abc"


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
