"""Each image has the packages that its program imports: the requirement files against a start of each program here."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"atalaya"}
OPTIONAL = {"setuptools", "python-multipart", "brotli", "google-auth"}
"""Taken where they are, and done without where not."""
PROGRAMS = {
    "operator": ["atalaya_operator.__main__", "atalaya_operator.webhook.service"],
    "serving": [
        "atalaya_serving.__main__",
        "atalaya_serving.server",
        "atalaya_serving.bridge.server",
        "atalaya_serving.fetching.command",
        "atalaya_serving.fetching.objects",
        "atalaya_serving.faces.ovms_server",
        "atalaya_serving.faces.tfs_server",
    ],
}
# Prints the distributions that the modules named on the command line bring in, as far as an import alone tells.
_IMPORTED = """
import importlib, importlib.metadata, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
known = importlib.metadata.packages_distributions()
top = {name.partition(".")[0] for name, module in sys.modules.items() if getattr(module, "__file__", None)}
print(json.dumps(sorted({found for name in top for found in known.get(name, [])[:1]})))
"""


@pytest.mark.parametrize("image", PROGRAMS)
def test_an_image_has_what_its_program_imports(image: str) -> None:
    command = [sys.executable, "-c", _IMPORTED, *PROGRAMS[image]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    text = (ROOT / "requirements" / f"image-{image}.txt").read_text()
    pinned = set(re.findall(r"^([a-z0-9-]+)==", text, flags=re.MULTILINE))
    imported = {name.lower().replace("_", "-").replace(".", "-") for name in json.loads(done.stdout)}
    assert imported & {"numpy", "kopf"}
    assert imported - pinned - OURS - OPTIONAL == set()
