"""What needs TensorFlow, in a process of its own: `python -m atalaya_serving.benching.worker JOB ARGUMENTS`.

So the command can end it at any moment, its threads are gone when the servers are measured, and each result is kept as
it comes: one JSON object a line on stdout. Its arguments are one JSON object.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from atalaya_serving.benching.quantiles import latency
from atalaya_serving.benching.watching import Watch

Arguments = dict[str, Any]
NETWORK = "thesis2020"
_FOLDS = 5


def fits(arguments: Arguments) -> Iterator[dict[str, Any]]:
    """A fit for each number of epochs, each from a seed of its own; `export_epochs` is exported to `export_to`."""
    from atalaya_serving.training.dataset import load_examples
    from atalaya_serving.training.fit import fit
    from atalaya_serving.training.quiet import import_tensorflow_quietly
    from atalaya_serving.training.recipe import PLANS, predict_logits, splits

    import_tensorflow_quietly()
    examples = load_examples(Path(arguments["tiles"]))
    split = splits(examples, _FOLDS, 1, arguments["seed"])[0]
    learn, judge = examples.at(split.learn), examples.at(split.judge)
    for index, epochs in enumerate(arguments["epochs"]):
        seed, folder = arguments["seed"] + index, Path(arguments["folder"]) / f"epochs-{epochs}"
        watch, start = Watch(is_alone=True), time.perf_counter()
        model = fit(replace(PLANS[NETWORK], epochs=epochs), learn, seed, folder, lambda: None)
        seconds = time.perf_counter() - start
        noise = watch.stop().noise
        right, loss = judged(predict_logits(model, judge.tiles), judge.labels)
        if epochs == arguments["export_epochs"]:
            _export(model, Path(arguments["export_to"]))
        yield {"epochs": epochs, "seed": seed, "learnt": len(learn), "judged": len(judge), "right": right, "loss": loss,
               "judged_tiles": split.judge.tolist(),
               "seconds": seconds, "noise": asdict(noise)}  # fmt: skip


def judged(logits: Any, labels: Any) -> tuple[int, float]:
    """Right answers, and the mean log loss of the probabilities behind `logits` [n]."""
    right = int(((logits >= 0) == (labels == 1)).sum())
    return right, float(np.logaddexp(0.0, np.where(labels == 1, -logits, logits)).mean())


def _export(model: Any, folder: Path) -> None:
    from atalaya_serving.training.calibration import Platt
    from atalaya_serving.training.export import save_saved_model, serving_model

    folder.mkdir(parents=True, exist_ok=True)
    save_saved_model(serving_model(model, Platt(1.0, 0.0)), folder)


def paths(arguments: Arguments) -> Iterator[dict[str, Any]]:
    """The thesis' network, untrained, by every path into both engines, interleaved; speed needs no training."""
    calls = _paths(Path(arguments["folder"]))
    tile = np.random.default_rng(0).integers(0, 255, (1, 128, 128, 1), dtype=np.uint8)
    for call in calls.values():
        for _ in range(3):
            call(tile)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    watch = Watch(is_alone=True)
    for _ in range(arguments["rounds"]):
        for key, call in calls.items():
            until = time.perf_counter() + arguments["seconds"]
            while (start := time.perf_counter()) < until:
                call(tile)
                times[key].append(time.perf_counter() - start)
    noise = watch.stop().noise
    for (path, engine), taken in times.items():
        yield {"path": path, "engine": engine, "latency": asdict(latency(taken)), "noise": asdict(noise)}


def _paths(folder: Path) -> dict[tuple[str, str], Callable[[Any], Any]]:
    from atalaya_serving.engines.base import LoadOptions
    from atalaya_serving.engines.openvino import best_precision
    from atalaya_serving.engines.openvino_slots import OpenVinoEngine
    from atalaya_serving.training.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    import tensorflow as tf

    from atalaya_serving.training import networks
    from atalaya_serving.training.calibration import Platt
    from atalaya_serving.training.export import save_saved_model, serving_model

    model = serving_model(networks.build(NETWORK), Platt(1.0, 0.0))
    save_saved_model(model, folder)
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    traced = tf.function(lambda tiles: model(tiles, training=False), reduce_retracing=True)
    made: dict[tuple[str, str], Callable[[Any], Any]] = {}
    for precision in dict.fromkeys(("f32", best_precision())):
        loaded = OpenVinoEngine().load(folder, LoadOptions(hint="LATENCY", precision=precision))
        made[f"OpenVINO, {precision}", "openvino"] = _slot_call(loaded.slots[0])
    made["SavedModel signature (tf.function), as served", "tensorflow"] = lambda tile: _numpy(
        signature(tiles=tf.constant(tile))
    )
    made["tf.function of the Keras model", "tensorflow"] = lambda tile: _numpy(traced(tf.constant(tile)))
    made["model(x)", "tensorflow"] = lambda tile: _numpy(model(tile, training=False))
    made["predict()", "tensorflow"] = lambda tile: model.predict(tile, verbose=0)
    return made


def _slot_call(slot: Any) -> Callable[[Any], Any]:
    return lambda tile: slot.run([tile], [0])


def _numpy(answers: Any) -> Any:
    return [np.asarray(one) for one in answers.values()]


JOBS = {"fits": fits, "paths": paths}


def main(arguments: Sequence[str]) -> int:
    """Do one job; results as JSON lines."""
    for result in JOBS[arguments[0]](json.loads(arguments[1])):
        print(json.dumps(result), flush=True)  # noqa: T201 - what the parent reads
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
