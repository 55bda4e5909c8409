"""What our libraries would send to their makers is not sent: the field has no network, and its work is its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import atalaya_serving.{module}
import sys, threading
{more}
print(sorted(name for name, module in sys.modules.items() if name.startswith("openvino_telemetry") and module))
print(threading.active_count())
"""


@pytest.mark.parametrize(
    ("module", "more"),
    [
        pytest.param("engines.openvino", "", id="serving"),
        pytest.param("training.export", "import nncf, openvino.tools.ovc", id="training"),
    ],
)
def test_openvino_and_nncf_tell_nobody_that_they_are_used(module: str, more: str, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "CI"}  # in CI they would be silent anyway
    code = CODE.format(module=module, more=more)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, "HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "1"]
    assert not (tmp_path / "intel").exists()  # where they keep the number by which they know a machine
