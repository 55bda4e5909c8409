"""The suite's models as a runtime of MLServer's, which looks at its own name. Runs in .venvs/mlserver."""

from collections.abc import AsyncIterator

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput, ResponseOutput


class Model(MLModel):
    """As short as such a runtime is usually written: MLServer leaves names, datatypes and shapes to it."""

    async def load(self) -> bool:
        """Called once, at load."""
        self._answer = getattr(self, self.name)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a request."""
        outputs = self._answer({one.name: one for one in payload.inputs})
        if payload.outputs:
            wanted = {one.name for one in payload.outputs}
            outputs = [one for one in outputs if one.name in wanted]
        return InferenceResponse(model_name=self.name, model_version=self.version, id=payload.id, outputs=outputs)

    async def predict_stream(self, payloads: AsyncIterator[InferenceRequest]) -> AsyncIterator[InferenceResponse]:
        """Answer each request of a stream."""
        async for payload in payloads:
            yield await self.predict(payload)

    def every(self, given: dict[str, RequestInput]) -> list[ResponseOutput]:
        """Numbers unchanged."""
        return [
            NumpyCodec.encode_output(name.replace("in_", "out_"), NumpyCodec.decode_input(one))
            for name, one in given.items()
        ]

    half = every

    def texts(self, given: dict[str, RequestInput]) -> list[ResponseOutput]:
        """Strings unchanged."""
        x = given["x"]
        return [ResponseOutput(name="x", datatype=x.datatype, shape=x.shape, data=x.data)]

    def scale(self, given: dict[str, RequestInput]) -> list[ResponseOutput]:
        """y = 3 x."""
        return [NumpyCodec.encode_output("y", NumpyCodec.decode_input(given["x"]) * 3)]

    spare = scale

    def arithmetic(self, given: dict[str, RequestInput]) -> list[ResponseOutput]:
        """Sum and difference."""
        a, b = NumpyCodec.decode_input(given["a"]), NumpyCodec.decode_input(given["b"])
        return [NumpyCodec.encode_output("sum", a + b), NumpyCodec.encode_output("difference", a - b)]

    def fours(self, given: dict[str, RequestInput]) -> list[ResponseOutput]:
        """Fails unless the values fill rows of four."""
        return [NumpyCodec.encode_output("y", NumpyCodec.decode_input(given["x"]).reshape(-1, 4))]
