"""The engines by the word that a spec names them with; one module each."""

from collections.abc import Mapping

from atalaya_operator.engines.atalaya import Atalaya
from atalaya_operator.engines.base import Engine
from atalaya_operator.engines.openvino import OpenVino
from atalaya_operator.engines.tensorflow import TensorFlow
from atalaya_spec.server_versions import ATALAYA, OPENVINO, TENSORFLOW

BY_NAME: Mapping[str, Engine] = {OPENVINO: OpenVino(), TENSORFLOW: TensorFlow(), ATALAYA: Atalaya()}
