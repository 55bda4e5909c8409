"""The truth of a synthetic scene as polygons, so that the map can show it beside what the model says."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pyproj import Transformer

from atalaya_serving.synthetic.scene import CRS, GSD_M, ORIGIN, TILE_PX, TruthTile

FILE_NAME = "truth.geojson"


def write_truth_map(truth: Iterable[TruthTile], folder: Path) -> Path:
    """A polygon a tile in WGS 84 with `damaged` (0 or 1) and the shares it follows from; by rename, so never half."""
    to_wgs84 = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    features = [_feature(tile, to_wgs84) for tile in truth]
    path = folder / FILE_NAME
    partial = path.with_name(f".{FILE_NAME}.partial")
    partial.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return partial.replace(path)


def _feature(tile: TruthTile, to_wgs84: Transformer) -> dict[str, Any]:
    side = TILE_PX * GSD_M
    west, north = ORIGIN[0] + tile.col * side, ORIGIN[1] - tile.row * side
    # Counter-clockwise, as RFC 7946 wants an outer ring.
    corners = [(west, north), (west, north - side), (west + side, north - side), (west + side, north), (west, north)]
    ring = [[round(degrees, 7) for degrees in to_wgs84.transform(*corner)] for corner in corners]
    return {
        "type": "Feature",
        "properties": {
            "row": tile.row,
            "col": tile.col,
            "damaged": int(tile.damaged),
            "destroyed_share": tile.destroyed_share,
        },
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
