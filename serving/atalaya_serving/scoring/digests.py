"""What names a scene and an assessment, so that equal work is never done twice and different work never mixed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atalaya_serving.scoring.errors import SceneUnreadable

# Raised when the same inputs would give other rows: other tiling, resampling, fill or stretch.
METHOD = 2
_PIECE_BYTES = 1 << 22


def file_digest(path: Path) -> str:
    """`sha256:` over the file's bytes, what sha256sum prints; over a gigabyte a second where the processor helps."""
    total = hashlib.sha256()
    buffer = bytearray(_PIECE_BYTES)
    view = memoryview(buffer)
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total.update(view[:count])
    except OSError as error:
        raise SceneUnreadable(f"{path} cannot be read ({error.strerror}); check the disk it lies on.") from error
    return f"sha256:{total.hexdigest()}"


def assessment_id(scene_digest: str, model_digest: str, parameters: Mapping[str, Any]) -> str:
    """The identity of an assessment: scene, model and every parameter that changes an answer."""
    told = {"scene": scene_digest, "model": model_digest, "parameters": parameters, "method": METHOD}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
