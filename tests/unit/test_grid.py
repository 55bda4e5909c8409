"""Where tiles lie, for scenes of every kind of coordinate system."""

import numpy as np
import pytest
from affine import Affine
from pyproj import CRS, Geod, Transformer

from atalaya_serving.scoring.grid import (
    Chunk,
    Grid,
    Placement,
    bounds_wgs84,
    chunks,
    ground_gsd,
    ground_sides,
    in_place,
    plan_grid,
    utm_zone,
)
from atalaya_serving.store.records import GridGeometry

UTM18 = CRS.from_epsg(32618).to_wkt()
PORT_AU_PRINCE = (783000.0, 2052000.0)


def placement(epsg: int = 32618, transform: Affine | None = None, width: int = 640, height: int = 512) -> Placement:
    made = transform or Affine(0.5, 0, PORT_AU_PRINCE[0], 0, -0.5, PORT_AU_PRINCE[1])
    return Placement(width, height, CRS.from_epsg(epsg).to_wkt(), tuple(made)[:6])


def at_port_au_prince(epsg: int, pixel: float) -> Placement:
    x, y = Transformer.from_crs(32618, epsg, always_xy=True).transform(*PORT_AU_PRINCE)
    return placement(epsg, Affine(pixel, 0, x, 0, -pixel, y))


@pytest.mark.parametrize(
    ("scene", "stays"),
    [
        pytest.param(placement(), True, id="metres, true, the model's GSD"),
        pytest.param(placement(transform=Affine(0.509, 0, 783000, 0, -0.491, 2052000)), True, id="within 2%"),
        pytest.param(placement(transform=Affine(0.511, 0, 783000, 0, -0.5, 2052000)), False, id="2.2% coarser"),
        pytest.param(placement(transform=Affine(0.5, 0, 783000, 0, -0.489, 2052000)), False, id="2.2% finer in y"),
        pytest.param(placement(transform=Affine(0.3, 0, 783000, 0, -0.3, 2052000)), False, id="another GSD"),
        pytest.param(placement(transform=Affine(0.5, 0, 783000, 0, 0.5, 2052000)), False, id="south up"),
        pytest.param(placement(transform=Affine(-0.5, 0, 783000, 0, -0.5, 2052000)), False, id="mirrored"),
        pytest.param(
            placement(transform=Affine(0.5, 0, 783000, 0, -0.5, 2052000) @ Affine.rotation(10)), False, id="rotated"
        ),
        pytest.param(placement(transform=Affine(0.5, 0, 1_600_000, 0, -0.5, 2052000)), False, id="far off its zone"),
        pytest.param(at_port_au_prince(3857, 0.5), False, id="web mercator: 5% off at 18 degrees"),
        pytest.param(at_port_au_prince(4326, 5e-6), False, id="degrees"),
        pytest.param(placement(2263, Affine(0.5, 0, 990000, 0, -0.5, 200000)), False, id="feet"),
    ],
)
def test_a_scene_is_tiled_in_place_only_where_it_is_true_to_the_model(scene: Placement, stays: bool) -> None:
    grid = plan_grid(scene, 128, 0.5)
    assert grid.geometry.warped is not stays
    assert (grid.geometry.transform == scene.transform) is stays
    a, b, _, d, e, _ = grid.geometry.transform
    if not stays:
        assert (a, b, d, e) == (0.5, 0, 0, -0.5)


def test_a_partial_last_tile_counts() -> None:
    grid = plan_grid(placement(width=641, height=513), 128, 0.5)
    assert (grid.rows, grid.cols, grid.tiles) == (5, 6, 30)


@pytest.mark.parametrize(
    ("lon", "lat", "code"),
    [
        (-72.3, 18.5, 32618),
        (-72.3, -18.5, 32718),
        (-180, 10, 32601),
        (179.99, 10, 32660),
        (180, 10, 32601),
        (3, 0, 32631),
        (10, 85, 32661),
        (10, -81, 32761),
    ],
)
def test_the_zone_is_that_of_the_place(lon: float, lat: float, code: int) -> None:
    assert CRS.from_wkt(utm_zone(lon, lat)).to_epsg() == code


@pytest.mark.parametrize(
    ("scene", "metres"),
    [
        pytest.param(placement(), 0.5, id="metres"),
        pytest.param(at_port_au_prince(3857, 0.5), 0.5 * np.cos(np.radians(18.54)), id="web mercator"),
        pytest.param(placement(2263, Affine(1, 0, 990000, 0, -1, 200000)), 0.3048006, id="feet"),
        pytest.param(
            placement(transform=Affine(0.5, 0, 783000, 0, -0.5, 2052000) @ Affine.rotation(30)), 0.5, id="turned"
        ),
        pytest.param(placement(2225, Affine(1, 0, 6e6, 0, -1, 2e6)), 1200 / 3937, id="US survey feet, California"),
        pytest.param(placement(4326, Affine(1e-5, 0, 20, 0, -1e-5, 60)), 0.8357, id="degrees at 60 north"),
        pytest.param(placement(4326, Affine(1e-5, 0, 20, 0, -1e-5, 0)), 1.1095, id="degrees at the equator"),
        pytest.param(placement(32661, Affine(0.5, 0, 2e6, 0, -0.5, 2e6)), 0.5 / 0.994, id="at the pole, UPS"),
        pytest.param(placement(3031, Affine(0.5, 0, 0, 0, -0.5, 0)), 0.5 / 0.97277, id="at the pole, true at 71 south"),
    ],
)
def test_the_gsd_is_measured_on_the_ground(scene: Placement, metres: float) -> None:
    assert ground_gsd(scene) == pytest.approx(metres, rel=0.005)
    assert ground_gsd(scene) == pytest.approx(sum(ground_sides(scene)) / 2)


def test_pixels_that_are_not_square_have_two_sides() -> None:
    assert ground_sides(placement(4326, Affine(1e-5, 0, 20, 0, -1e-5, 60))) == pytest.approx((0.558, 1.114), rel=0.002)


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(placement(), id="in place"),
        pytest.param(placement(2263, Affine(1, 0, 990000, 0, -1, 200000)), id="feet"),
        pytest.param(at_port_au_prince(4326, 5e-6), id="degrees"),
        pytest.param(placement(transform=Affine(0.4, 0, 783000, 0, -0.4, 2052000) @ Affine.rotation(33)), id="rotated"),
    ],
)
def test_tiles_are_squares_of_the_models_ground_size_that_cover_the_scene(scene: Placement) -> None:
    grid = plan_grid(scene, 128, 0.5)
    row, col = (each.ravel().astype(np.int32) for each in np.indices((grid.rows, grid.cols)))
    corners = grid.geometry.corners_wgs84(row, col)
    lon, lat = corners[..., 0], corners[..., 1]
    _, _, side = Geod(ellps="WGS84").inv(lon[:, 0], lat[:, 0], lon[:, 1], lat[:, 1])
    np.testing.assert_allclose(side, 64, rtol=0.002)
    west, south, east, north = bounds_wgs84(scene)
    assert lon.min() <= west + 1e-6
    assert lon.max() >= east - 1e-6
    assert lat.min() <= south + 1e-6
    assert lat.max() >= north - 1e-6


@pytest.mark.parametrize("warped", [False, True])
@pytest.mark.parametrize("block", [(256, 256), (512, 512), (1, 1000), (16, 1000), (192, 192), (700, 1000), (128, 128)])
@pytest.mark.parametrize("bands", [1, 3])
def test_chunks_cover_every_tile_once(block: tuple[int, int], bands: int, warped: bool) -> None:
    grid = Grid(1000, 700, GridGeometry(UTM18, (0.5, 0, 0, 0, -0.5, 0), 128, warped), 0.5)
    seen = np.zeros((grid.rows, grid.cols), int)
    for chunk in chunks(grid, block, bands):
        seen[chunk.row : chunk.row_end, chunk.col : chunk.col_end] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("bands", [1, 3])
def test_chunks_of_a_huge_scene_stay_small_and_whole_blocks(bands: int) -> None:
    grid = Grid(200_000, 200_000, GridGeometry(UTM18, (0.5, 0, 0, 0, -0.5, 0), 128, False), 0.5)
    found = next(iter(chunks(grid, (512, 512), bands)))
    assert found.row_end % 4 == found.col_end % 4 == 0
    assert found.shape[0] * found.shape[1] * 128 * 128 * bands <= 1 << 22


def test_a_chunk_knows_its_shape() -> None:
    assert Chunk(2, 5, 1, 7).shape == (3, 6)


def test_in_place_asks_for_the_true_scale_where_the_scene_lies() -> None:
    scene = placement()
    assert in_place(scene, 0.5, (-72.3, 18.5))
    assert not in_place(scene, 0.5, (-62.0, 18.5))
