"""Which bands a model gets, and how values become bytes."""

import numpy as np
import pytest

from atalaya_serving.scoring.bands import (
    LUMA,
    BandPlan,
    looks_like_labels,
    plan_bands,
    refuse_dtype,
    stretch_between,
    to_bytes,
)
from atalaya_serving.scoring.errors import SceneUnmappable

GREY, COLOUR = ("gray",), ("red", "green", "blue")


@pytest.mark.parametrize(
    ("colours", "wanted", "given", "indexes", "mixed"),
    [
        pytest.param(["gray"], GREY, None, (1,), False, id="grey"),
        pytest.param(["gray", "alpha"], GREY, None, (1,), False, id="grey with alpha"),
        pytest.param(["undefined"], GREY, None, (1,), False, id="one band without a name"),
        pytest.param(["red", "green", "blue"], GREY, None, (1, 2, 3), True, id="colour to grey"),
        pytest.param(["blue", "green", "red", "nir"], GREY, None, (3, 2, 1), True, id="by name, not by order"),
        pytest.param(["red", "green", "blue", "alpha"], COLOUR, None, (1, 2, 3), False, id="colour to colour"),
        pytest.param(["gray"], COLOUR, None, (1, 1, 1), False, id="grey to colour"),
        pytest.param(["gray", "undefined", "undefined"], GREY, None, (1, 2, 3), True, id="three without names"),
        pytest.param(["gray", *["undefined"] * 3], GREY, (3, 2, 1), (3, 2, 1), True, id="said by the user"),
        pytest.param(["gray", *["undefined"] * 3], GREY, (4,), (4,), False, id="one said by the user"),
    ],
)
def test_bands_go_by_their_colour(colours, wanted, given, indexes, mixed) -> None:
    plan = plan_bands(colours, wanted, given)
    assert plan.indexes == indexes
    assert plan.mix == (LUMA if mixed else None)


def test_a_guess_is_told() -> None:
    assert "taken as red, green, blue" in plan_bands(["gray", "undefined", "undefined"], GREY, name="x.tif").warning
    assert plan_bands(["red", "green", "blue"], GREY).warning == ""


@pytest.mark.parametrize(
    ("colours", "given", "message"),
    [
        pytest.param(["palette"], None, "x.tif has a colour table: its values are labels", id="palette"),
        pytest.param(
            ["gray", "undefined"], None, r"x.tif has bands \(gray, undefined\) that cannot be mapped", id="two"
        ),
        pytest.param(["gray", *["undefined"] * 3], None, "say which to use by number, as --bands 3,2,1", id="four"),
        pytest.param(["red", "nir"], None, "cannot be mapped to gray", id="red and infrared"),
        pytest.param(["gray"], (2,), "--bands 2 does not fit x.tif, which has 1 band", id="no such band"),
        pytest.param(["gray"] * 3, (1, 2), "give one", id="two bands said"),
    ],
)
def test_bands_that_cannot_be_mapped_are_refused(colours, given, message) -> None:
    with pytest.raises(SceneUnmappable, match=message):
        plan_bands(colours, GREY, given, "x.tif")


def test_complex_values_are_refused() -> None:
    with pytest.raises(SceneUnmappable, match="holds complex numbers"):
        refuse_dtype("complex64", "x.tif")


def test_bytes_pass_as_they_are() -> None:
    data = np.random.default_rng(0).integers(0, 256, (1, 60, 70), dtype=np.uint8)
    np.testing.assert_array_equal(to_bytes(data, BandPlan((1,), None), None)[..., 0], data[0])


def test_grey_from_colour_is_the_luma_of_bt601() -> None:
    data = np.random.default_rng(0).integers(0, 256, (3, 300, 700), dtype=np.uint8)
    expected = 0.299 * data[0] + 0.587 * data[1] + 0.114 * data[2]
    found = to_bytes(data, BandPlan((1, 2, 3), LUMA), None)
    assert np.abs(found[..., 0] - expected).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("bands", [1, 3])
def test_other_types_are_stretched_linearly(dtype: str, bands: int) -> None:
    data = np.random.default_rng(0).uniform(0, 4000, (bands, 200, 900)).astype(dtype)
    plan = BandPlan((1, 2, 3), LUMA) if bands == 3 else BandPlan((1,), None)
    value = np.tensordot(np.array(plan.mix or (1,)), data.astype(float), 1)
    expected = np.clip((value - 500) / 2500 * 255, 0, 255)
    found = to_bytes(data, plan, (500.0, 3000.0))[..., 0]
    assert np.abs(found - expected).max() <= 0.501


def test_all_bands_of_a_colour_model_share_one_stretch() -> None:
    data = np.stack([np.full((2, 2), value, np.uint16) for value in (100, 200, 300)])
    assert to_bytes(data, BandPlan((1, 2, 3), None), (100.0, 300.0))[0, 0].tolist() == [0, 128, 255]


def test_values_far_from_zero_keep_their_contrast() -> None:
    data = np.array([[[1_000_000_000, 1_000_000_010]]], np.int64)
    assert to_bytes(data, BandPlan((1,), None), (1e9, 1e9 + 20))[0, :, 0].tolist() == [0, 128]


def test_nan_and_infinity_become_black_without_a_warning() -> None:
    data = np.array([[[np.nan, np.inf, -np.inf, 10.0]]], np.float32)
    assert to_bytes(data, BandPlan((1,), None), (0.0, 10.0))[0, :, 0].tolist() == [0, 0, 0, 255]


def test_the_stretch_lies_between_the_percentiles_of_what_is_valid() -> None:
    values = np.concatenate([np.arange(101.0), [np.nan, np.inf]])
    assert stretch_between(values, (2, 98), "x.tif") == (2.0, 98.0)


def test_one_value_alone_can_be_stretched() -> None:
    assert stretch_between(np.full(9, 7.0), (2, 98), "x.tif") == (7.0, 8.0)


def test_no_valid_value_is_refused() -> None:
    with pytest.raises(SceneUnmappable, match=r"x.tif has no valid pixel \(all are nodata or NaN\)"):
        stretch_between(np.full(9, np.nan), (2, 98), "x.tif")


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        pytest.param(np.array([0, 1, 2, 5], np.uint8), True, id="classes"),
        pytest.param(np.array([0, 1], np.int32), True, id="yes and no"),
        pytest.param(np.array([0, 0], np.uint8), False, id="all black"),
        pytest.param(np.array([0, 40, 200], np.uint8), False, id="an image"),
        pytest.param(np.array([0.0, 1.0], np.float32), False, id="reflectances"),
        pytest.param(np.array([-9, 3], np.int16), False, id="below zero"),
        pytest.param(np.array([], np.uint8), False, id="nothing"),
    ],
)
def test_a_map_of_classes_is_told_from_an_image(values: np.ndarray, labels: bool) -> None:
    assert looks_like_labels(values) is labels
