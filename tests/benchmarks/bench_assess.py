"""How close `atalaya assess` comes to the model's own speed on a large scene.

Run: .venv/bin/python tests/benchmarks/bench_assess.py [--rounds 3] [--size 16384] [--only shipped,baseline,bands16]

In each round, one after the other in the same process: raw inference (the predictor alone, fed from memory), reading
(one thread), hashing, and the whole assessment into a new store. Medians over the rounds. Two measures: `of_raw` =
tiles/s of the assessment / tiles/s of raw inference, and `of_ceiling` = tiles/s of the assessment / (cores / summed
CPU seconds a tile of reading, hashing and inference). Both need a quiet machine; `of_cpu`, the CPU seconds of
reading, hashing and inference by themselves / those of the whole assessment, holds on a busy one too. The scenes are
made once, in .cache/bench (not committed). Writes build/bench/assess.json and assess.md.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov
import rasterio
import yaml
from affine import Affine
from openvino import opset13 as ops

from atalaya_serving.paths import shipped_repository
from atalaya_serving.scoring.assessment import AssessRequest, assess_with
from atalaya_serving.scoring.digests import file_digest
from atalaya_serving.scoring.environment import machine
from atalaya_serving.scoring.grid import chunks
from atalaya_serving.scoring.models import ModelChoice, OpenModel, open_model
from atalaya_serving.scoring.planning import SceneChoice, plan_scene
from atalaya_serving.scoring.tiles import TileReader
from atalaya_serving.store import Store
from atalaya_spec.manifest import find_version, version_digest

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "bench"
REPOSITORY = Path(os.environ.get("ATALAYA_MODEL_REPO") or shipped_repository())


@dataclass(frozen=True)
class Case:
    """One scene under one model."""

    name: str
    scene: Path
    model: Path


def town(size: int, seed: int) -> np.ndarray:
    """Grey blocks, roads and texture that compress about as imagery does."""
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 200, (size // 64 + 1, size // 64 + 1))
    fine = random.integers(0, 60, (size // 4, size // 4))
    image = np.kron(coarse, np.ones((64, 64), int))[:size, :size] + np.kron(fine, np.ones((4, 4), int))
    image += random.integers(-8, 9, (size, size))
    image[::128] = 90
    return np.clip(image, 0, 255)


def make_scene(path: Path, size: int, bands: int, dtype: str) -> Path:
    """A deflate-compressed, tiled GeoTIFF at 0.5 m in UTM 18N."""
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    piece = 2048
    base = town(piece, 1)
    shape = {"width": size, "height": size, "count": bands, "dtype": dtype, "driver": "GTiff"}
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "num_threads": 2}
    if bands == 3:
        layout["photometric"] = "RGB"
    place = {"crs": "EPSG:32618", "transform": Affine(0.5, 0, 700000, 0, -0.5, 2060000)}
    temporary = path.with_suffix(".tmp")
    with rasterio.open(temporary, "w", **shape, **layout, **place) as target:
        for number, (row, col) in enumerate(np.ndindex(size // piece, size // piece)):
            turned = np.roll(np.rot90(base, number % 4), number * 17, axis=number % 2)
            for band in range(1, bands + 1):
                values = turned if dtype == "uint8" else turned * 7 + band * 31
                target.write(
                    values.astype(dtype),
                    band,
                    window=((row * piece, (row + 1) * piece), (col * piece, (col + 1) * piece)),
                )
    temporary.rename(path)
    return path


def make_baseline(folder: Path) -> Path:
    """The network of the 2020 thesis with seeded random weights: its speed is what counts here."""
    if not (folder / "manifest.yaml").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        ov.save_model(baseline_network(), folder / "model.xml", compress_to_fp16=False)
        raw = yaml.safe_load((find_version(REPOSITORY, "haiti-damage") / "manifest.yaml").read_text())
        raw |= {"name": "baseline", "version": 1, "precision": "fp32", "digest": version_digest(folder)}
        raw.pop("golden", None)
        (folder / "manifest.yaml").write_text(yaml.safe_dump(raw))
    return folder


def baseline_network() -> ov.Model:
    random = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)

    tiles = ops.parameter([-1, 128, 128, 1], np.uint8, name="tiles")
    x = ops.transpose(ops.convert(tiles, "f32") / ops.constant(np.float32(255)), ops.constant([0, 3, 1, 2]))
    for channels, pool in ((1, 3), (64, 3), (64, 3), (64, 0)):
        x = ops.convolution(x, ops.constant(weights(64, channels, 3, 3)), [1, 1], [0, 0], [0, 0], [1, 1])
        x = ops.relu(x + ops.constant(np.zeros((1, 64, 1, 1), np.float32)))
        if pool:
            x = ops.max_pool(x, [3, 3], [1, 1], [0, 0], [0, 0], [3, 3]).output(0)
    flat = ops.reshape(x, ops.constant([0, -1]), special_zero=True)
    width = flat.get_output_partial_shape(0)[1].get_length()
    x = ops.relu(ops.matmul(flat, ops.constant(weights(64, width)), False, True))
    x = ops.sigmoid(ops.matmul(x, ops.constant(weights(1, 64)), False, True))
    tiles.output(0).set_names({"tiles"})
    x.output(0).set_names({"probability"})
    return ov.Model([x], [tiles], "baseline")


@contextmanager
def measured(into: dict[str, list[float]], name: str):
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    into.setdefault(f"{name}_s", []).append(time.perf_counter() - wall)
    into.setdefault(f"{name}_cpu_s", []).append(time.process_time() - cpu)


def raw_inference(model: OpenModel, tiles: int) -> None:
    """The predictor alone: slots filled from memory, as full batches."""
    predictor = model.predictor
    pixels = np.random.default_rng(0).integers(0, 255, predictor_shape(model), dtype=np.uint8)
    started = 0
    batches = tiles // len(pixels)
    for _ in range(batches):
        slot = predictor.free.get()
        slot.tiles[:] = pixels
        slot.start(len(pixels), None)
        started += 1
    for _ in range(started):
        predictor.answers.get()


def predictor_shape(model: OpenModel) -> tuple[int, ...]:
    slot = model.predictor.free.get()
    model.predictor.free.put(slot)
    return slot.tiles.shape


def read_all(request: AssessRequest, model: OpenModel) -> int:
    plan = plan_scene(request.scene, model.manifest)
    with TileReader(plan.read) as reader:
        return sum(
            len(reader.read(chunk).pixels)
            for chunk in chunks(plan.read.grid, plan.read.scene.block, len(plan.read.bands.indexes))
        )


def run(case: Case, rounds: int, readers: int | None) -> dict[str, object]:
    figures: dict[str, list[float]] = {}
    choice = ModelChoice(str(case.model), REPOSITORY)
    with open_model(choice) as model, tempfile.TemporaryDirectory(dir=CACHE) as home:
        tiles = 0
        raw_inference(model, 640)
        for number in range(rounds):
            folder = Path(home) / str(number)
            request = AssessRequest(SceneChoice(case.scene), choice, folder / "scenes", readers)
            with measured(figures, "hash"):
                file_digest(case.scene)
            with measured(figures, "read"):
                tiles = read_all(request, model)
            with measured(figures, "raw"):
                raw_inference(model, tiles)
            with Store.open(f"sqlite:///{folder}/store.db") as store, measured(figures, "assess"):
                assess_with(model, request, store)
        engine = model.predictor.engine
    return summary(case, figures, tiles, engine.precision)


def summary(case: Case, figures: dict[str, list[float]], tiles: int, precision: str) -> dict[str, object]:
    median = {name: statistics.median(values) for name, values in figures.items()}
    cores = os.cpu_count() or 1
    ceiling = cores * tiles / (median["hash_cpu_s"] + median["read_cpu_s"] + median["raw_cpu_s"])
    # Within a round, what is compared ran within seconds of each other.
    of_raw = statistics.median(raw / whole for raw, whole in zip(figures["raw_s"], figures["assess_s"], strict=True))
    pure = [sum(parts) for parts in zip(*(figures[f"{name}_cpu_s"] for name in ("hash", "read", "raw")), strict=True)]
    of_ceiling = statistics.median(a / cores / b for a, b in zip(pure, figures["assess_s"], strict=True))
    return {
        "case": case.name,
        "tiles": tiles,
        "precision": precision,
        "raw_tiles_per_s": tiles / median["raw_s"],
        "read_tiles_per_s": tiles / median["read_s"],
        "hash_mb_per_s": case.scene.stat().st_size / 1e6 / median["hash_s"],
        "assess_tiles_per_s": tiles / median["assess_s"],
        "ceiling_tiles_per_s": ceiling,
        "of_raw": of_raw,
        "of_ceiling": of_ceiling,
        "of_cpu": statistics.median(a / b for a, b in zip(pure, figures["assess_cpu_s"], strict=True)),
        "seconds": figures,
    }


def table(results: list[dict[str, object]], peak_mb: float) -> str:
    told = machine()
    lines = [
        f"{told['processor']}, {told['logical_cores']} cores; peak memory of the process {peak_mb:,.0f} MB",
        "",
        "| case | tiles | precision | raw tiles/s | read tiles/s (1 thread) | hash MB/s | assess tiles/s "
        "| of raw | of ceiling | of CPU |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        lines.append(
            f"| {each['case']} | {each['tiles']:,} | {each['precision']} | {each['raw_tiles_per_s']:,.0f} | "
            f"{each['read_tiles_per_s']:,.0f} | {each['hash_mb_per_s']:,.0f} | {each['assess_tiles_per_s']:,.0f} | "
            f"{each['of_raw']:.0%} | {each['of_ceiling']:.0%} | "
            f"{each['of_cpu']:.0%} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=16384)
    parser.add_argument("--only", default="baseline,shipped,bands16")
    parser.add_argument("--readers", type=int)
    args = parser.parse_args()
    shipped = find_version(REPOSITORY, "haiti-damage")
    grey = make_scene(CACHE / f"grey-{args.size}.tif", args.size, 1, "uint8")
    cases = {
        "baseline": lambda: Case("baseline, 8-bit", grey, make_baseline(CACHE / "baseline" / "1")),
        "shipped": lambda: Case("shipped, 8-bit", grey, shipped),
        "bands16": lambda: Case(
            "shipped, 3 x 16-bit",
            make_scene(CACHE / f"rgb16-{args.size}.tif", args.size, 3, "uint16"),
            shipped,
        ),
    }
    results = [run(cases[name](), args.rounds, args.readers) for name in args.only.split(",")]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    out = ROOT / "build" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    (out / "assess.json").write_text(json.dumps({"machine": machine(), "peak_mb": peak_mb, "cases": results}, indent=1))
    (out / "assess.md").write_text(table(results, peak_mb))
    print(table(results, peak_mb))


if __name__ == "__main__":
    main()
