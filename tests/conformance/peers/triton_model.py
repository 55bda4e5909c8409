"""The suite's models in Triton's Python backend: one file for all, which looks at its name. Runs in .venvs/triton."""

import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What Triton's Python backend looks for."""

    def initialize(self, args: dict) -> None:
        """Called once, at load."""
        self._answer = getattr(self, args["model_name"])

    def execute(self, requests: list) -> list:
        """Answer each request by itself."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: object) -> object:
        try:
            given = {tensor.name(): tensor for tensor in request.inputs()}
            return triton.InferenceResponse(output_tensors=self._answer(given))
        except ValueError as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))

    def every(self, given: dict) -> list:
        """Numbers unchanged."""
        return [triton.Tensor(name.replace("in_", "out_"), tensor.as_numpy()) for name, tensor in given.items()]

    half = every

    def brain(self, given: dict) -> list:
        """The same by way of DLPack: numpy has no BF16."""
        return [triton.Tensor.from_dlpack("out_BF16", given["in_BF16"].to_dlpack())]

    def texts(self, given: dict) -> list:
        """Strings unchanged."""
        return [triton.Tensor("x", given["x"].as_numpy())]

    def scale(self, given: dict) -> list:
        """y = 3 x."""
        return [triton.Tensor("y", given["x"].as_numpy() * np.float32(3))]

    spare = scale

    def arithmetic(self, given: dict) -> list:
        """Sum and difference."""
        a, b = given["a"].as_numpy(), given["b"].as_numpy()
        return [triton.Tensor("sum", a + b), triton.Tensor("difference", a - b)]

    def fours(self, given: dict) -> list:
        """Fails unless the values fill rows of four."""
        return [triton.Tensor("y", given["x"].as_numpy().reshape(-1, 4))]
