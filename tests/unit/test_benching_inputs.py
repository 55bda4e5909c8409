"""What is sent fits what the server tells of the model, or the plan is refused in a line that says what to give."""

import numpy as np
import pytest

from atalaya_serving.benching.errors import InvalidPlan
from atalaya_serving.benching.inputs import InputSpec, from_tiles, parse_input, settled, tensors, with_batch
from atalaya_serving.datatypes import BYTES, NUMPY

TILES = InputSpec("tiles", "UINT8", (-1, 128, 128, 1))


@pytest.mark.parametrize("datatype", [*NUMPY, BYTES])
def test_values_of_every_datatype_are_made(datatype: str) -> None:
    made = tensors([InputSpec("x", datatype, (-1, 3))], 4, "m")["x"]
    assert made[0] == datatype
    assert made[1].shape == (4, 3)
    assert made[1].dtype == NUMPY.get(datatype, np.dtype(object))


def test_the_same_seed_sends_the_same_bytes() -> None:
    one, other = (tensors([TILES], 2, "m", seed=5)["tiles"][1] for _ in range(2))
    assert np.array_equal(one, other)
    assert one.std() > 0


def test_a_fixed_batch_is_sent_as_it_is_and_no_other() -> None:
    fixed = InputSpec("x", "FP32", (4, 3))
    assert with_batch(fixed, 4, "m").shape == (4, 3)
    with pytest.raises(InvalidPlan, match="not in batches of 16; leave --batch at 4"):
        with_batch(fixed, 16, "m")
    with pytest.raises(InvalidPlan, match="leave --batch at 4"):
        with_batch(fixed, 1, "m")  # its answers would be counted as one image


def test_a_request_past_a_gibibyte_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="smaller --batch"):
        with_batch(TILES, 1 << 20, "m")


def test_an_input_can_be_given() -> None:
    assert parse_input("a:b:FP32:-1,2") == InputSpec("a:b", "FP32", (-1, 2))


@pytest.mark.parametrize("text", ["x", "x:FP32", ":FP32:1", "x:FLOAT:1", "x:FP32:a", "x:FP32:-2"])
def test_an_input_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidPlan, match="--input"):
        parse_input(text)


@pytest.mark.parametrize(
    ("told", "given", "reason"),
    [
        pytest.param([], [], "does not tell the inputs", id="a server that tells nothing"),
        pytest.param([TILES], [InputSpec("y", "FP32", (-1,))], "has no input 'y'; it has tiles", id="another name"),
        pytest.param([InputSpec("x", "FP32", (-1, -1))], [], "open in more than its batch", id="open sizes"),
        pytest.param([InputSpec("x", "type 23", (-1,))], [], "cannot make up", id="no v2 datatype"),
    ],
)
def test_what_stays_open_is_refused(told: list[InputSpec], given: list[InputSpec], reason: str) -> None:
    with pytest.raises(InvalidPlan, match=reason):
        settled(told, given, "m")


def test_what_the_user_says_closes_what_the_server_leaves_open() -> None:
    given = InputSpec("x", "FP32", (-1, 7))
    assert settled([InputSpec("x", "FP32", (-1, -1))], [given], "m") == [given]
    assert settled([], [given], "m") == [given]


def test_tiles_become_one_request_each() -> None:
    tiles = np.arange(2 * 128 * 128, dtype=np.uint32).astype(np.uint8).reshape(2, 128, 128, 1)
    made = from_tiles(InputSpec("x", "FP32", (-1, 128, -1, 1)), tiles, "m")
    assert [(one.shape, one.dtype) for one in made] == [((1, 128, 128, 1), np.float32)] * 2
    assert np.array_equal(made[1][0], tiles[1])


@pytest.mark.parametrize("spec", [InputSpec("x", "UINT8", (-1, 64, 64, 1)), InputSpec("x", "UINT8", (-1, 4))])
def test_tiles_of_another_size_than_the_model_takes_are_refused(spec: InputSpec) -> None:
    with pytest.raises(InvalidPlan, match=r"the tiles are \[128, 128, 1\]"):
        from_tiles(spec, np.zeros((1, 128, 128, 1), np.uint8), "m")


def test_pixels_for_a_model_of_words_are_refused() -> None:
    with pytest.raises(InvalidPlan, match="not pixels"):
        from_tiles(InputSpec("x", "BYTES", (-1, 128, 128, 1)), np.zeros((1, 128, 128, 1), np.uint8), "m")
