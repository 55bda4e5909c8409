"""Writes an assessment's rows as a file: GeoParquet, GeoPackage, GeoJSON or CSV, told by the suffix.

What can be refused is refused before any work: an unknown suffix, a file that exists, a folder that cannot be written,
a disk with no room. A file comes to its place by rename, whole or not at all.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numpy as np

from atalaya_serving.scoring.errors import OutputExists, OutputUnknown, OutputUnwritable
from atalaya_serving.store import Assessment, Environment, Scene, Store, TileTable

Footprints = Literal["scene", "wgs84"]
# Measured: GeoJSON 400 bytes a tile, GeoPackage 330, CSV 400, GeoParquet 40.
_BYTES_A_TILE = {".parquet": 100, ".gpkg": 500, ".geojson": 900, ".csv": 700}
_MULTIPOLYGON = 6
_STATES = np.array(["not_assessed", "not_damaged", "damaged"])


@dataclass(frozen=True)
class Output:
    """A file to write. `partial` allows, and marks, an assessment that is not complete."""

    path: Path
    overwrite: bool = False
    partial: bool = False
    footprints: Footprints = "scene"


def check_output(output: Output, tiles: int = 0) -> None:
    """Refuse what would fail at the end. Raises OutputUnknown, OutputExists, OutputUnwritable."""
    path, folder = output.path, output.path.parent
    _refuse_unknown(path)
    if path.is_dir():
        raise OutputUnwritable(f"{path} is a folder; name a file.")
    if path.exists() and not output.overwrite:
        raise OutputExists(f"{path} exists; give --overwrite to replace it, or another --out.")
    probe = folder / f".{uuid4().hex}.tmp"
    try:
        probe.touch()
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputUnwritable(
            f"{folder} cannot be written to ({error.strerror}); give --out in a folder you may write to."
        ) from error
    needed = tiles * _BYTES_A_TILE[path.suffix.lower()]
    if free < needed:
        raise OutputUnwritable(
            f"{folder} has {free / 1e6:,.1f} MB left and {path.name} may need {needed / 1e6:,.1f} MB; free space or "
            "give another --out."
        )


def _refuse_unknown(path: Path) -> None:
    suffix, known = path.suffix.lower(), ", ".join(_BYTES_A_TILE)
    if not suffix:
        raise OutputUnknown(f"{path} has no suffix to tell its format by; end it in one of {known}.")
    if suffix not in _BYTES_A_TILE:
        raise OutputUnknown(f"{path} ends in {path.suffix}, a format that is not written; end it in one of {known}.")


def write_output(store: Store, ids: Sequence[str], output: Output) -> int:
    """Write the rows of some assessments into one file; returns how many. Raises OutputUnwritable."""
    check_output(output)
    import pandas

    environments = store.environments()
    found = [store.assessment(each) for each in ids]
    scenes = [store.scene(each.scene_digest) for each in found]
    places = [None if _in_degrees(scenes, output) else scene for scene in scenes]
    frames = [_frame(each, store.tiles(each.id), environments, at) for each, at in zip(found, places, strict=True)]

    frame = frames[0] if len(frames) == 1 else pandas.concat(frames, ignore_index=True)
    frame.attrs = {"warnings": list(dict.fromkeys(warning for each in found for warning in each.warnings))}
    with _in_place(output) as temporary:
        _WRITERS[output.path.suffix.lower()](frame, temporary)
    return len(frame)


def _in_degrees(scenes: Sequence[Scene], output: Output) -> bool:
    """Whether footprints are in WGS 84: the scenes' own coordinates need one system and a format that may have it."""
    several = len({scene.crs for scene in scenes}) > 1
    return output.footprints == "wgs84" or several or output.path.suffix.lower() in {".geojson", ".csv"}


def _frame(assessment: Assessment, table: TileTable, environments: dict[int, Environment], scene: Scene | None) -> Any:
    """One row a tile, with its footprint in the scene's coordinates, or in degrees without a scene."""
    import geopandas
    import pandas

    from atalaya_serving.scoring.footprints import as_the_scene, in_degrees

    known = table.state > 0
    told = {name: [getattr(environments[key], name) for key in environments] for name in _ENGINE}
    place = np.searchsorted(np.array(sorted(environments)), table.environment)
    order = np.argsort(list(environments))
    damaged = pandas.array(np.where(known, table.state == 2, False).astype("int8"), dtype="Int8")
    damaged[~known] = pandas.NA
    columns = {
        "scene": assessment.scene_name,
        "row": table.row,
        "col": table.col,
        "state": _STATES[table.state],
        "reason": table.reason,
        "probability": table.probability,
        "damaged": damaged,
        "model": assessment.model,
        "version": assessment.version,
        "model_digest": assessment.model_digest,
        **{name: np.array(values, object)[order][place] for name, values in told.items()},
        "inference_seconds": table.inference_seconds,
        "total_seconds": table.total_seconds,
        "created": pandas.to_datetime(table.created_at).tz_localize("UTC").as_unit("ms"),
        "assessment": assessment.id,
        "partial": assessment.state != "complete",
    }
    frame = pandas.DataFrame(columns, index=range(len(table)))
    shapes = in_degrees(table) if scene is None else as_the_scene(table, scene)
    return geopandas.GeoDataFrame(frame, geometry=shapes, crs="EPSG:4326" if scene is None else scene.crs)


_ENGINE = ("engine", "engine_version", "precision", "protocol")


def _write_parquet(frame: Any, path: Path) -> None:
    frame.to_parquet(path, index=False)  # the warnings go along, as the frame's attributes


def _write_geopackage(frame: Any, path: Path) -> None:
    import pyogrio

    warnings = frame.attrs["warnings"]
    told = {"layer_metadata": {"warnings": "\n".join(warnings)}} if warnings else {}
    pyogrio.write_dataframe(frame, path, driver="GPKG", layer="tiles", **told)
    _refuse_fewer(frame, path)


def _write_geojson(frame: Any, path: Path) -> None:
    import pyogrio

    # How GDAL takes members of the collection itself.
    told = {"NATIVE_DATA": json.dumps(frame.attrs | {"type": "FeatureCollection"})}
    told["NATIVE_MEDIA_TYPE"] = "application/vnd.geo+json"
    pyogrio.write_dataframe(frame, path, driver="GeoJSON", layer="tiles", RFC7946="YES", **told)
    _refuse_fewer(frame, path)


def _write_csv(frame: Any, path: Path) -> None:
    import shapely

    shapes = frame.geometry.to_numpy()
    centre = shapely.centroid(shapes)
    # Of a tile in two parts, the middle of the larger: between them lies half the Earth.
    torn = shapely.get_type_id(shapes) == _MULTIPOLYGON
    centre[torn] = [shapely.centroid(max(shape.geoms, key=shapely.area)) for shape in shapes[torn]]
    flat = frame.drop(columns="geometry").assign(
        lon=shapely.get_x(centre).round(8),
        lat=shapely.get_y(centre).round(8),
        footprint=shapely.to_wkt(shapes, rounding_precision=8),
    )
    flat.to_csv(path, index=False)


def _refuse_fewer(frame: Any, path: Path) -> None:
    """GDAL's drivers may meet a full disk without a word."""
    import pyogrio

    found = pyogrio.read_info(path)["features"]
    if found != len(frame):
        raise OSError(f"{found} of {len(frame)} rows were written")


_WRITERS = {
    ".parquet": _write_parquet,
    ".gpkg": _write_geopackage,
    ".geojson": _write_geojson,
    ".csv": _write_csv,
}


@contextmanager
def _in_place(output: Output) -> Iterator[Path]:
    """A file beside the target, moved over it when all went well and removed when not."""
    import pyarrow
    from pyogrio.errors import DataSourceError, FeatureError

    path = output.path
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix.lower()}")
    try:
        yield temporary
        if not output.overwrite and path.exists():
            raise OutputExists(f"{path} appeared meanwhile; give --overwrite to replace it, or another --out.")
        temporary.replace(path)
    except (OSError, RuntimeError, DataSourceError, FeatureError, pyarrow.ArrowException) as error:
        told = " ".join(str(error).split())
        raise OutputUnwritable(
            f"{path} cannot be written ({told}); free space or give another --out, and run the same command again: "
            "the rows are safe in the store."
        ) from error
    finally:
        for left in path.parent.iterdir():  # drivers leave more: a journal, a part
            if left.name.startswith(temporary.name):
                left.unlink(missing_ok=True)
