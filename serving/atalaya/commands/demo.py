"""`atalaya demo`: the product from one command. A synthetic town, our server, an assessment through it, its map.

No network, no account, no data of anybody's. It lives in a home of its own, so that a synthetic town never stands
beside real assessments.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atalaya.commands.up import add_address_arguments, addresses_of, say, say_where, warn_of_open_doors
from atalaya_spec.errors import AtalayaError

if TYPE_CHECKING:
    from atalaya.local_services import LocalRun, Services
    from atalaya_serving.synthetic.scene import SyntheticScene

HELP = "assess a synthetic town with the shipped model and show its map"
MODEL = "haiti-damage"
SEED, SIZE_PX = 2010, 3072


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_address_arguments(parser)
    parser.add_argument("--home", type=Path, help="where it keeps its files (default: demo/ below ATALAYA_HOME)")
    parser.add_argument("--once", action="store_true", help="end when the map is made, without the dashboard")
    parser.add_argument("--no-browser", action="store_true", help="do not open the dashboard in a browser")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Make the town, serve the model, assess the town through the server, show the map."""
    from atalaya.local_services import LocalRun, made_folder, refuse_taken_ports
    from atalaya.supervise import Stopped

    args.no_dashboard = args.once
    services = _services(args)
    refuse_taken_ports(services.addresses)
    warn_of_open_doors(services.addresses)
    started = time.monotonic()
    scene = _town(made_folder(services.paths.home / "demo-scene"))
    is_made = False
    with LocalRun(services, say) as local:
        try:
            say("starting the model server")
            local.start_server()
            result = _assess(local, scene)
            result["demo_seconds"] = round(time.monotonic() - started, 1)
            _show(result, scene, as_json=args.json)
            is_made = True
            if not args.once:
                _serve(local, args)
        except Stopped:
            pass
        say("ending what was started")
    if not is_made:
        raise KeyboardInterrupt  # a program that waits for the map must see that there is none
    return 0


def _services(args: argparse.Namespace) -> "Services":
    from atalaya.local_services import Services
    from atalaya.local_serving import models_of_repository
    from atalaya_serving.paths import Paths, shipped_repository

    home = args.home.absolute() if args.home else Paths.from_env(os.environ).home / "demo"
    paths = Paths.from_env({"ATALAYA_HOME": str(home)})
    shipped = models_of_repository(shipped_repository())
    models = tuple(model for model in shipped if model.name == MODEL)  # the other precisions only cost start time
    return Services(models, (), addresses_of(args), paths)


def _town(folder: Path) -> "SyntheticScene":
    from atalaya_serving.synthetic.scene import SyntheticScene, make_scene, read_truth, scene_paths

    path, truth_path = scene_paths(folder, SEED)
    if path.is_file() and truth_path.is_file():  # each was written by rename, the truth last
        return SyntheticScene(path, truth_path, read_truth(truth_path))
    say(f"drawing a synthetic town of {SIZE_PX / 2000:.1f} km by {SIZE_PX / 2000:.1f} km")
    return make_scene(folder, SEED, SIZE_PX)


def _assess(local: "LocalRun", scene: "SyntheticScene") -> dict[str, Any]:
    """Assess the town as a user would, through the server, so that its latency has figures to show."""
    from atalaya_serving.scoring.caveats import INTERVAL_CAVEAT
    from atalaya_serving.store import Store
    from atalaya_serving.synthetic.score import score_synthetic
    from atalaya_serving.synthetic.truth_map import write_truth_map

    say(f"assessing {scene.path.name} with {MODEL}, through the server")
    command = [sys.executable, "-m", "atalaya", "assess", str(scene.path), "--model", MODEL, "--json"]
    command += ["--endpoint", local.services.addresses.grpc]
    result: dict[str, Any] = json.loads(_output_of(local, command))
    with Store.open(local.services.paths.store_url) as store:
        tiles = store.tiles(result["assessment"])
    write_truth_map(scene.truth, local.services.paths.scenes / result["scene_digest"].removeprefix("sha256:"))
    if result["resumed"]:
        _ask_again(local)
    told = {"synthetic": True, "caveat": INTERVAL_CAVEAT, "score": asdict(score_synthetic(tiles, scene.truth))}
    return result | told


def _output_of(local: "LocalRun", command: list[str]) -> bytes:
    """Run to its end, or to ours. Its progress goes to our stderr."""
    from atalaya.supervise import Stopped

    process = subprocess.Popen(command, env=local.environment, stdout=subprocess.PIPE, process_group=0)  # noqa: S603
    while True:
        try:
            output, _ = process.communicate(timeout=0.1)
            break
        except subprocess.TimeoutExpired:
            if local.supervisor.is_stopping():
                process.terminate()
                process.wait()
                raise Stopped from None
    if process.returncode:
        raise AtalayaError("the town was not assessed, for the reason above; start the demo again to go on.")
    return output


def _ask_again(local: "LocalRun") -> None:
    """The town was assessed before, so the server has computed nothing yet: ask it for some tiles."""
    from atalaya_serving.client import RemoteModel
    from atalaya_serving.synthetic.scene import synthetic_tiles

    say("the town was assessed before; asking the model for some synthetic tiles, so that latency has figures")
    tiles, _ = synthetic_tiles(SEED, 64)
    with RemoteModel(local.services.addresses.grpc, MODEL) as model:
        for i in range(len(tiles)):
            model.submit(tiles[i : i + 1, ..., None]).result()


def _show(result: dict[str, Any], scene: "SyntheticScene", *, as_json: bool) -> None:
    from atalaya_serving.synthetic.score import SyntheticScore

    if as_json:
        print(json.dumps(result | {"scene_path": str(scene.path)}), flush=True)
        return
    damaged, left_out = result["damaged"], ", ".join(f"{n:,} {why}" for why, n in result["not_assessed"].items())
    print(f"{result['scene']} (SYNTHETIC: no real place, no real damage)")
    print(f"  {result['assessed']:,} of {result['tiles']:,} tiles assessed with {result['model']} {result['version']}"
          f"{f'; not assessed: {left_out}' if left_out else ''}")  # fmt: skip
    print(f"  damaged, by the model: {damaged['expected']:,.0f} tiles "
          f"(90% interval {damaged['low']:,.0f} to {damaged['high']:,.0f})")  # fmt: skip
    print(f"  {result['caveat']}")
    print(f"  score on synthetic pixels, which the model never learned: {SyntheticScore(**result['score'])}")
    print(f"  map made {result['demo_seconds']:.0f} s after the start", flush=True)


def _serve(local: "LocalRun", args: argparse.Namespace) -> None:
    say("starting the dashboard")
    local.start_dashboard()
    say_where(local.services)
    if not args.no_browser:
        _open_browser(local.services.addresses.dashboard)
    local.supervisor.watch()


def _open_browser(url: str) -> None:
    """Open the pages where there is a screen; without one a text browser would take the terminal."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not any(map(os.environ.get, screens)):
        return
    import webbrowser

    webbrowser.open(url)
