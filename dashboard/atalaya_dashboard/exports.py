"""An assessment as a file to take away, made when asked for: the same files as those of `atalaya assess --out`."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from atalaya_dashboard.uploads import safe_name
from atalaya_serving.store import Assessment, Store


@dataclass(frozen=True)
class Format:
    """A kind of file, by its suffix."""

    suffix: str
    title: str
    mime: str


FORMATS = (
    Format(".geojson", "GeoJSON", "application/geo+json"),
    Format(".gpkg", "GeoPackage", "application/geopackage+sqlite3"),
    Format(".parquet", "GeoParquet", "application/vnd.apache.parquet"),
    Format(".csv", "CSV", "text/csv"),
)


def file_name(assessment: Assessment, kind: Format) -> str:
    """The name under which it is saved; it tells when not all tiles are in it."""
    partial = "" if assessment.state == "complete" else "-partial"
    return safe_name(
        f"{Path(assessment.scene_name).stem}-{assessment.model}-v{assessment.version}{partial}{kind.suffix}"
    )


def exported(store: Store, assessment: Assessment, kind: Format) -> bytes:
    """The file's content. Raises OutputUnwritable."""
    from atalaya_serving.scoring.outputs import Output, write_output  # geopandas: only for who downloads

    with tempfile.TemporaryDirectory(prefix="atalaya-") as folder:
        path = Path(folder) / f"tiles{kind.suffix}"
        write_output(store, [assessment.id], Output(path, partial=True))
        return path.read_bytes()
