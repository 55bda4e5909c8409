"""Messages in protobuf's wire format with fields that no client would write, as hypothesis draws them."""

from collections.abc import Mapping

from hypothesis import strategies as st

from atalaya_serving.wire import DELIMITED, packed_varint

NUMBERS = st.sampled_from([b"\0", b"\1", b"\3", b"\x96\1", b"\xff" * 9 + b"\1"])
FIXED = st.sampled_from([b"\0\0\x80\x3f", b"\0\0\0\0\0\0\xf0\x3f"])
_MORE_BYTES = st.sampled_from([0] * 12 + [1, 3, 4, 5])


def tag(number: int, kind: int, more: int = 0) -> bytes:
    """A tag, `more` bytes longer than it has to be."""
    made = packed_varint(number << 3 | kind)
    return made if not more else made[:-1] + bytes([made[-1] | 0x80, *[0x80] * (more - 1), 0])


def fields(contents: Mapping[tuple[int, int], st.SearchStrategy[bytes]], most: int) -> st.SearchStrategy[bytes]:
    """Messages of up to `most` fields in any order; what may stand in each, by its number and its wire type."""

    def one(number: int, kind: int, content: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
        def made(more: int, held: bytes) -> bytes:
            return tag(number, kind, more) + (packed_varint(len(held)) if kind == DELIMITED else b"") + held

        return st.builds(made, _MORE_BYTES, content)

    each = [one(*key, content) for key, content in contents.items()]
    return st.lists(st.one_of(each), max_size=most).map(b"".join)
