"""Serves models, scores scenes, keeps the answers, trains and exports.

Nothing of it calls home. OpenVINO and NNCF tell their makers of each import and conversion where they can import
openvino_telemetry, which comes with them, and do without where they cannot. So here they cannot.
"""

import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
_modules.setdefault("openvino_telemetry", None)
