"""A PredictRequest off the wire: what it declares is parsed, its values are left as they are.

As in grpc_convert.py, large messages are cut. Where the values of an input lie, its TensorProto tells in
version_number, a field that nobody reads. Protobuf would look into all values. Here those of a tensor are looked into
when they are decoded, so all that were cut out must belong to a tensor that is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from atalaya_serving.datatypes import Encoded, Tensor
from atalaya_serving.errors import InvalidRequest
from atalaya_serving.tfs.messages import PredictRequest, PredictResponse, TensorProto
from atalaya_serving.tfs.tensors import Payload, from_proto_later
from atalaya_serving.wire import VARINT, Buffer, Cutter, Uncuttable, packed_varint

_CUT_FROM_BYTES = 32 << 10
_MOST_REST_BYTES = 1 << 20
_ENTRY_VALUE, _VERSION_NUMBER = 2, 3
_MAPS = {
    name: kind.DESCRIPTOR.fields_by_name[name].number
    for kind, name in ((PredictRequest, "inputs"), (PredictResponse, "outputs"))
}
_FIELDS = TensorProto.DESCRIPTOR.fields_by_name
_CONTENT = _FIELDS["tensor_content"].number
_TYPED = frozenset(field.number for name, field in _FIELDS.items() if name.endswith("_val"))


@dataclass(frozen=True, slots=True)
class WirePredict:
    """The message, and the payloads that were cut out of it; none where it was small."""

    message: Any
    payloads: Sequence[Payload] = ()

    def tensors(self) -> dict[str, tuple[str, Tensor | Encoded]]:
        """Datatype and values of each input by its name. Raises InvalidRequest."""
        return self.of(self.message.inputs)

    def of(self, protos: Mapping[str, Any]) -> dict[str, tuple[str, Tensor | Encoded]]:
        """The same of this message's TensorProtos `protos`."""
        payloads = self.payloads
        return {
            name: from_proto_later(name, proto, payloads[proto.version_number - 1] if payloads else None)
            for name, proto in protos.items()
        }


def parse_predict(message: bytes, cut_from: int = _CUT_FROM_BYTES) -> WirePredict:
    """Parse what is small. Raises InvalidRequest."""
    try:
        if len(message) >= cut_from:
            return cut_predict(message)
        return WirePredict(PredictRequest.FromString(message))
    except (DecodeError, Uncuttable) as error:
        raise InvalidRequest("the message is no PredictRequest: it is cut short or no protobuf.") from error


def cut_predict(message: bytes, kind: Any = PredictRequest, tensors: str = "inputs") -> WirePredict:
    """Take the values out of the map `tensors`, and parse the rest as `kind`.

    Raises InvalidRequest, Uncuttable, DecodeError.
    """
    cutter = Cutter()
    payloads: list[Payload] = []

    def cut_tensor(proto: memoryview) -> Buffer:
        made = cutter.cut(proto, frozenset({_CONTENT}), stop=_TYPED)
        content = made.parts.pop(_CONTENT, [None])[-1]
        typed = next(iter(made.parts.values()), [None])[0]
        payloads.append(Payload(content, typed))
        return made.rest + packed_varint(_VERSION_NUMBER << 3 | VARINT) + packed_varint(len(payloads))

    def cut_entry(entry: memoryview) -> Buffer:
        return cutter.cut(entry, frozenset(), {_ENTRY_VALUE: cut_tensor}).rest

    rest = cutter.cut(memoryview(message), frozenset(), {_MAPS[tensors]: cut_entry}).rest
    if len(rest) > _MOST_REST_BYTES:
        raise InvalidRequest(f"the request has {len(rest)} bytes beside its tensors; send at most {_MOST_REST_BYTES}.")
    told = kind.FromString(bytes(rest))
    if len(getattr(told, tensors)) < len(payloads):  # a name or a value twice, or an entry with more than these two
        raise Uncuttable
    return WirePredict(told, payloads or [Payload()])
