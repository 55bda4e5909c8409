"""Memory stays flat however large the scene: it is read piece by piece."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio

from rasters import UTM18

PEAK = """
import resource, sys
from atalaya.cli import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
sys.exit(code)
"""


def write_large(path: Path, height: int) -> Path:
    """4096 pixels wide; uncompressed, the taller one holds four times as much."""
    strip = np.random.default_rng(0).integers(0, 255, (256, 4096), dtype=np.uint8)
    profile = {"width": 4096, "height": height, "count": 1, "dtype": "uint8", "crs": "EPSG:32618", "transform": UTM18}
    with rasterio.open(path, "w", driver="GTiff", tiled=True, compress="deflate", **profile) as target:
        for row in range(0, height, 256):
            target.write(strip, 1, window=((row, row + 256), (0, 4096)))
    return path


def peak_mb(bench, scene: Path) -> int:
    command = [sys.executable, "-c", PEAK, "assess", str(scene), "--model", "brightness"]
    env = os.environ | bench.environment()
    ran = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout.splitlines()[-1])


def test_a_scene_four_times_larger_takes_no_more_memory(bench, tmp_path: Path) -> None:
    small = peak_mb(bench, write_large(tmp_path / "small.tif", 16384))
    large = peak_mb(bench, write_large(tmp_path / "large.tif", 4 * 16384))
    assert large < small + 60, f"{small} MB for 64 MB of pixels, {large} MB for 256 MB"
