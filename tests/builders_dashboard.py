"""What the dashboard's tests show: a store with an assessed town, its pixels, and a server's metrics."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pyproj import Transformer

from atalaya_serving.store import Assessment, Environment, GridGeometry, Scene, Store, TileRows

TILE_PX, GSD_M = 128, 0.5
TILE_M = TILE_PX * GSD_M
CRS = "EPSG:32618"
LEFT, TOP = 778_000.0, 2_053_000.0
FIJI = ("EPSG:32760", 819_000.0, 8_145_000.0)
"""Another CRS, LEFT and TOP, on Taveuni: the antimeridian goes through a town of 30 columns."""

MANIFEST = {
    "name": "haiti-damage",
    "version": 1,
    "precision": "fp16",
    "input": {"name": "tiles", "tileSize": TILE_PX, "gsd": GSD_M},
    "output": {"name": "probability", "threshold": 0.5},
    "calibration": {
        "method": "platt",
        "data": "cross-validation",
        "bootstrap": {
            "slopes": np.linspace(0.85, 1.15, 25).round(3).tolist(),
            "intercepts": np.linspace(0.3, -0.3, 25).round(3).tolist(),
        },
    },
}


@dataclass(frozen=True)
class Town:
    """A square of tiles with clustered damage: probability NaN means not assessed, for the reason beside it."""

    rows: int
    cols: int
    probability: NDArray[np.float64]
    reason: NDArray[np.str_]

    @property
    def state(self) -> NDArray[np.uint8]:
        """0 not assessed, 1 not damaged, 2 damaged."""
        return np.where(np.isnan(self.probability), 0, 1 + (self.probability >= 0.5)).astype(np.uint8)


def a_town(rows: int = 60, cols: int = 60, seed: int = 4) -> Town:
    """Two damaged quarters, a cloud, and a corner off the raster."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:cols] / np.array([rows, cols]).reshape(2, 1, 1)
    heat = 0.95 * np.exp(-((x - 0.36) ** 2 + (y - 0.42) ** 2) / 0.018) + 0.8 * np.exp(
        -((x - 0.72) ** 2 + (y - 0.68) ** 2) / 0.01
    )
    logit = -4 + 7.5 * heat + random.normal(0, 1.2, (rows, cols))
    probability = 1 / (1 + np.exp(-logit))
    reason = np.full((rows, cols), "", dtype="U24")
    reason[(x + y) > 1.78] = "nodata"
    reason[((x - 0.83) / 0.13) ** 2 + ((y - 0.2) / 0.1) ** 2 < 1] = "masked"
    probability[reason != ""] = np.nan
    return Town(rows, cols, probability, reason)


def a_geotiff(path: Path, rows: int, cols: int, seed: int = 0) -> Path:
    """A grey GeoTIFF of streets and roofs that covers a town's tiles."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = streets(rows * TILE_PX, cols * TILE_PX, seed)
    profile = {
        "driver": "GTiff",
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "count": 1,
        "dtype": "uint8",
        "crs": CRS,
        "transform": Affine(GSD_M, 0, LEFT, 0, -GSD_M, TOP),
        "tiled": True,
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels, 1)
    return path


def streets(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Something that looks like a town from above, in grey."""
    random = np.random.default_rng(seed)
    pixels = random.normal(105, 12, (height, width))
    for top in range(6, height, 40):
        for left in range(6, width, 34):
            tall, wide = random.integers(16, 30, 2)
            pixels[top : top + tall, left : left + wide] = random.normal(90 + 110 * random.random(), 8)
    pixels[:: 40 * 4] = pixels[:, :: 34 * 4] = 60
    return np.clip(pixels, 0, 255).astype(np.uint8)


def an_assessed_town(
    home: Path, town: Town | None = None, name: str = "synthetic-town", **changes: object
) -> Assessment:
    """Fill `home`/store.db and `home`/scenes with an assessment of a town, and give it."""
    town = town or a_town()
    digest = "sha256:" + hashlib.sha256(f"{name}{town.rows}x{town.cols}".encode()).hexdigest()
    transform = (GSD_M, 0.0, LEFT, 0.0, -GSD_M, TOP)
    grid = GridGeometry(CRS, transform, TILE_PX, warped=False)
    bounds = lon_lat_bounds(town)
    now = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)
    scene = Scene(
        digest, name, str(home / f"{name}.tif"), town.cols * TILE_PX, town.rows * TILE_PX, CRS, transform, bounds, now
    )
    assessment = Assessment(
        id=hashlib.sha256(digest.encode()).hexdigest()[:16],
        scene_digest=digest,
        scene_name=name,
        model="haiti-damage",
        version=1,
        model_digest="sha256:" + "ab" * 32,
        manifest=MANIFEST,
        parameters={},
        stretch=None,
        grid=grid,
        grid_rows=town.rows,
        grid_cols=town.cols,
        state="running",
        message="",
        created_at=now,
        finished_at=None,
        tiles_total=town.rows * town.cols,
        tiles_done=0,
    )
    assessment = replace(assessment, **changes)
    with Store.open(f"sqlite:///{home / 'store.db'}") as store:
        store.put_scene(scene)
        begun = store.begin(assessment)
        if begun.tiles_done == 0:
            store.add_tiles(begun.id, store.put_environment(an_environment()), rows_of(town))
        if "state" not in changes:
            store.end(begun.id, "complete")
        kept = store.assessment(begun.id)
    an_overview(home / "scenes" / scene.folder_name, bounds, town)
    return kept


def rows_of(town: Town) -> list[TileRows]:
    """A town's tiles as the store takes them."""
    row, col = np.mgrid[0 : town.rows, 0 : town.cols]
    made = []
    for reason in np.unique(town.reason):
        here = town.reason == reason
        made.append(
            TileRows(
                row=row[here].astype(np.int32),
                col=col[here].astype(np.int32),
                state=town.state[here],
                reason=str(reason),
                probability=town.probability[here],
                inference_seconds=0.0004,
                total_seconds=0.0011,
                created_at=datetime(2026, 11, 22, 14, 31, tzinfo=UTC),
            )
        )
    return made


def lon_lat_bounds(town: Town) -> tuple[float, float, float, float]:
    """West, south, east, north of a town."""
    to_wgs84 = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    return to_wgs84.transform_bounds(LEFT, TOP - town.rows * TILE_M, LEFT + town.cols * TILE_M, TOP)


def an_overview(folder: Path, bounds: tuple[float, float, float, float], town: Town) -> None:
    """The picture of the scene that lies in the background."""
    folder.mkdir(parents=True, exist_ok=True)
    grey = streets(town.rows * 24, town.cols * 24)
    alpha = np.kron(np.where(town.reason == "nodata", 0, 255), np.ones((24, 24))).astype(np.uint8)
    Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha))).convert("RGBA").save(folder / "overview.png")
    told = {"bounds": bounds, "width": grey.shape[1], "height": grey.shape[0]}
    (folder / "overview.json").write_text(json.dumps(told), encoding="utf-8")


def a_truth(home: Path, assessment: Assessment, damaged: int = 7) -> Path:
    """What a synthetic scene's program knows: the first tiles are damaged."""
    row, col = np.divmod(np.arange(assessment.tiles_total, dtype=np.int32), np.int32(assessment.grid_cols))
    features = [
        {
            "type": "Feature",
            "properties": {"row": int(r), "col": int(c), "damaged": int(index < damaged)},
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        }
        for index, (r, c, ring) in enumerate(
            zip(row, col, assessment.grid.corners_wgs84(row, col).tolist(), strict=True)
        )
    ]
    path = home / "scenes" / assessment.scene_digest.removeprefix("sha256:") / "truth.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def an_environment() -> Environment:
    """Where the answers were made."""
    return Environment("openvino", "2026.3", "f32", "", "a processor", 2, 2, 4 << 30, "Linux", "6.1", False, "")


SCENE_ROWS, SCENE_COLS = 6, 8


@dataclass(frozen=True)
class Site:
    """A running dashboard. `town` is an assessment of 30 × 30 tiles, `scene` one of a GeoTIFF that was really read,
    `across` one like the town across the antimeridian."""

    url: str
    home: Path
    town: str
    scene: str
    across: str


class FakeServer:
    """The metrics that our server writes, without a server."""

    def __init__(self, model: str = "haiti-damage", version: str = "1") -> None:
        self.registry = CollectorRegistry()
        names = ("model", "version")
        buckets = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
        self.seconds = Histogram(
            "atalaya_request_seconds", "s", (*names, "protocol"), buckets=buckets, registry=self.registry
        )
        self.requests = Counter("atalaya_requests", "n", (*names, "protocol", "code"), registry=self.registry)
        self.images = Counter("atalaya_inferences", "n", names, registry=self.registry)
        self.queue = Gauge("atalaya_queue_depth", "n", names, registry=self.registry)
        self.ready = Gauge("atalaya_model_ready", "1", names, registry=self.registry)
        self.info = Gauge("atalaya_info", "1", ("version", "openvino"), registry=self.registry)
        self.info.labels("0.1.0", "2026.3").set(1)
        self.labels = (model, version)
        self.ready.labels(model, version).set(1)

    def answer(self, seconds: float, times: int = 1, code: str = "OK", images: int = 1, protocol: str = "grpc") -> None:
        """Count some requests."""
        for _ in range(times):
            self.seconds.labels(*self.labels, protocol).observe(seconds)
        self.requests.labels(*self.labels, protocol, code).inc(times)
        self.images.labels(*self.labels).inc(images * times if code == "OK" else 0)

    def text(self) -> str:
        """What GET /metrics answers."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry).decode()

    @contextmanager
    def over_http(self, *answers: tuple[float, int]) -> Iterator[str]:
        """The address of its metrics over real HTTP. Before each reading it counts `answers`: (seconds, times)."""
        server = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                for seconds, times in answers:
                    server.answer(seconds, times)
                content = server.text().encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as http:
            Thread(target=http.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{http.server_port}/metrics"
            http.shutdown()
