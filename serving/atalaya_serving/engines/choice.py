"""The engine that a model names, made when the first needs it: who serves with OpenVINO never loads TensorFlow."""

import threading
from collections.abc import Mapping
from pathlib import Path

from atalaya_serving.engines.base import Backend, Engine, LoadedModel, LoadOptions
from atalaya_serving.engines.openvino_slots import OpenVinoEngine


class Engines:
    """An engine that hands each model to its own."""

    def __init__(self, intra_op_threads: int = 0, inter_op_threads: int = 0) -> None:
        self._threads = (intra_op_threads, inter_op_threads)
        self._made: dict[Backend, Engine] = {"openvino": OpenVinoEngine()}
        self._making = threading.Lock()

    def load(self, folder: Path, options: LoadOptions) -> LoadedModel:
        """Load with the engine of `options.backend`. Raises ModelLoadFailed."""
        with self._making:
            if options.backend not in self._made:
                from atalaya_serving.engines.tensorflow import TensorFlowEngine

                self._made[options.backend] = TensorFlowEngine(*self._threads)
        return self._made[options.backend].load(folder, options)

    def describe(self) -> Mapping[str, str]:
        """What each engine that is in use tells."""
        told: dict[str, str] = {}
        for engine in list(self._made.values()):
            told |= engine.describe()
        return told
