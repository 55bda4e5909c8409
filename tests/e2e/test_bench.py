"""`atalaya bench load` as a user runs it: the shipped model, at a fixed rate, and what lies in the folder after."""

import json
import subprocess
import sys
from pathlib import Path


def test_the_shipped_model_is_measured_at_a_fixed_rate(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "atalaya", "bench", "load", "--rate", "20", "--seconds", "1", "--rounds", "1"]
    command += ["--batch", "1", "--concurrency", "4", "--protocol", "v2-grpc,v2-rest", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "load.json").read_text())
    assert [row["cell"]["protocol"] for row in report["rows"]] == ["v2-grpc", "v2-rest"]
    for row in report["rows"]:
        assert (row["cell"]["rate"], row["latency"]["count"] + row["errors"] + row["unsent"]) == (20, 20)
    assert report["audits"][0]["sent_images"] == report["audits"][0]["counted_images"]
    assert (tmp_path / "load.md").read_text() in done.stdout
    assert {"load-speed.png", "load-latency.png", "load-cpu.png"} <= {file.name for file in tmp_path.iterdir()}
