"""JSON as the protocols need it: what is read and written fast means the same as before."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaya_serving import json_text

NUMBERS = st.one_of(
    st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()
)
DOCUMENTS = st.recursive(
    st.one_of(NUMBERS, st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=20,
)


@given(DOCUMENTS)
def test_every_document_is_read_as_the_standard_library_reads_it(document: Any) -> None:
    for text in (json.dumps(document), json.dumps(document, ensure_ascii=False)):
        assert json_text.read(text.encode()) == json.loads(text)


@given(st.binary(max_size=40))
def test_what_is_no_json_is_no_json_here_either(body: bytes) -> None:
    try:
        json.loads(body.decode())
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            json_text.read(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        pytest.param(b"[NaN]", [math.nan], id="NaN"),
        pytest.param(b"[-Infinity]", [-math.inf], id="infinity"),
        pytest.param(b"[1e999]", [math.inf], id="beyond double"),
        pytest.param(b"[18446744073709551615]", [2**64 - 1], id="the largest whole number"),
        pytest.param(b"[18446744073709551616]", [2.0**64], id="beyond it a float, as in RapidJSON"),
        pytest.param(b'{"a": 1, "a": 2}', {"a": 2}, id="the last of two"),
    ],
)
def test_odd_numbers_and_keys(body: bytes, value: Any) -> None:
    assert str(json_text.read(body)) == str(value)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'"\\ud800"', id="half a surrogate pair"),
        pytest.param(b'"\xff"', id="no UTF-8"),
        pytest.param(b"\xef\xbb\xbf1", id="a byte order mark"),
        pytest.param(b"[1,]", id="a comma too many"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="deep and whole"),
    ],
)
def test_what_cannot_be_a_document_is_refused(body: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        json_text.read(body)


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (3, 4), (2, 3, 1)])
def test_tensors_come_back_with_every_bit(dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    tensor = (rng.standard_normal(shape) * 100).astype(dtype)
    back = json.loads(json_text.write({"t": json_text.numbers(tensor)}))["t"]
    np.testing.assert_array_equal(np.array(back, dtype).reshape(shape), tensor)
    assert json_text.write(json_text.numbers(tensor.T)) == json_text.write(json_text.numbers(tensor.T.copy(order="C")))


def test_float32_is_written_short() -> None:
    assert json_text.write(json_text.numbers(np.float32([0.2, 1, 1e-7]))) == b"[0.2,1.0,1e-7]"


def test_nan_and_infinity_are_written_as_the_originals_write_them() -> None:
    tensor = np.float32([0.2, np.nan, np.inf, -np.inf])
    assert not json_text.is_finite(tensor)
    document = {"a": json_text.numbers(tensor), "rows": list(tensor), "ü": 1}
    told = json_text.write(document, all_finite=False).decode()
    numbers = "[0.2, NaN, Infinity, -Infinity]"
    assert told == f'{{"a": {numbers}, "rows": {numbers}, "ü": 1}}'
