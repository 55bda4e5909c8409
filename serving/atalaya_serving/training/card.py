"""Figures as tables for people, and the model card that stands beside a model's versions."""

from collections.abc import Mapping
from typing import Any

from atalaya_serving.training.deliver import SUFFIXES, Delivered, ExportRequest
from atalaya_serving.training.metrics import Figure, Scores
from atalaya_serving.training.plots import reliability_diagram
from atalaya_serving.training.run import load_out_of_fold, read_run

FIGURES = {
    "accuracy": "accuracy",
    "auroc": "AUROC",
    "brier": "Brier score",
    "log_loss": "log loss",
    "calibration_slope": "calibration slope (1 is right)",
    "calibration_intercept": "calibration intercept (0 is right)",
}
DIAGRAM_FILE = "reliability.svg"
NOTES = {
    "symmetric": "a residual network of group convolutions: the same answer for the eight turned and mirrored views",
    "compact": "a plain residual network",
    "thesis2020": "the network of the 2020 thesis, the baseline",
}
FORMATS = {
    "ir-fp16": "OpenVINO IR, fp16 weights (the default)",
    "ir-fp32": "OpenVINO IR, fp32 weights",
    "ir-int8": "OpenVINO IR, int8 weights and activations",
    "saved-model": "TensorFlow SavedModel, fp32",
}


def scores_table(by_name: Mapping[str, Scores]) -> str:
    """A Markdown table: a row a figure, a column each of `by_name`, with 95% intervals."""
    lines = [f"| | {' | '.join(by_name)} |", f"|---|{'---|' * len(by_name)}"]
    lines.append(f"| tiles (damaged) | {' | '.join(f'{s.count} ({s.positives})' for s in by_name.values())} |")
    for field, told in FIGURES.items():
        figures: list[Figure] = [getattr(scores, field) for scores in by_name.values()]
        lines.append(f"| {told} | {' | '.join(map(str, figures))} |")
    return "\n".join(lines)


def reliability_table(scores: Scores) -> str:
    """A Markdown table: a row a range of probability."""
    lines = ["| probability | tiles | mean probability | share damaged (95% interval) |", "|---|---|---|---|"]
    for b in scores.reliability:
        share = Figure(b.observed_share, b.observed_low, b.observed_high)
        lines.append(f"| {b.low:.1f} to {b.high:.1f} | {b.count} | {b.mean_probability:.3f} | {share} |")
    return "\n".join(lines)


def write_cards(request: ExportRequest, delivered: list[Delivered]) -> None:
    """Write `<model>/README.md` for each delivered format; the full card stands with the default format."""
    scores = load_out_of_fold(request.run).scores()
    baseline = load_out_of_fold(request.baseline).scores() if request.baseline else None
    for one in delivered:
        folder = request.repository / (request.name + SUFFIXES[one.format])
        if SUFFIXES[one.format]:
            card = _short_card(request.name, one)
        else:
            card = _full_card(request, delivered, scores, baseline)
            network = read_run(request.run)["fit"]["network"]
            series = {network: scores.reliability} | ({"thesis2020": baseline.reliability} if baseline else {})
            reliability_diagram(series, folder / DIAGRAM_FILE)
        (folder / "README.md").write_text(card, encoding="utf-8")


def _short_card(name: str, one: Delivered) -> str:
    lines = [
        f"# {name}{SUFFIXES[one.format]}",
        f"{FORMATS[one.format]} of [{name}](../{name}/README.md): same network, same training, same input and output. "
        "Data, licence, limits and how it was judged are told there.",
        scores_table({"cross-validated": one.found.scores()}),
    ]
    if (flipped := one.measured.get("decisionsFlippedAgainstFp32")) is not None:
        lines.append(
            "The graph of the logit was quantised after training (nncf) and calibrated anew. Out of fold, "
            f"{flipped:.1%} of fp32's decisions flipped, each model at its own threshold."
        )
    return "\n\n".join(lines) + "\n"


def _full_card(request: ExportRequest, delivered: list[Delivered], scores: Scores, baseline: Scores | None) -> str:
    run, data = read_run(request.run), request.data
    fit = run["fit"]
    columns = {f"{fit['network']} (this model)": scores} | ({"thesis2020 (baseline)": baseline} if baseline else {})
    return f"""# {request.name}

{data.purpose}

Raw uint8 pixels in (`tiles` [batch, 128, 128, 1]), a calibrated probability out (`probability` [batch, 1]);
normalisation and calibration are inside the graph.

## Data and licence
{data.description} Licence of the data: {data.licence}; the weights have the same licence.

Tiles carry no positions. Where facing edges of two tiles fit together, they were cut side by side; such tiles were kept
in one fold, so no tile was judged by a network that saw a tile touching it. Tiles that are near without touching are
not found this way and may still flatter the figures.

## Figures
{run["repeats"]} × {run["folds"]}-fold cross-validation of the whole recipe, stratified, touching tiles together, the
calibration fitted without the judged fold. In brackets: the 95% interval of a bootstrap over tiles. The weights that
are served were fitted to all tiles, so no tile is left on which they themselves could be judged.

{scores_table(columns)}

![Reliability diagram: share of damaged tiles over mean probability]({DIAGRAM_FILE})

{reliability_table(scores)}

The manifest carries 200 pairs of slope and intercept from resamples of the tiles: they widen the interval of a count of
damaged tiles by what {scores.count} tiles leave open about the calibration.

{_scene_section(data.scene)}## Formats and speed
{_formats_table(request.name, delivered)}

Speed: tiles per second at batch 1, one caller, OpenVINO on the CPU of the machine that exported, over those of the
thesis' network, interleaved, both at the same inference precision and, for int8, both quantised alike.

## Limits
{chr(10).join(f"- {limit}" for limit in data.limits)}

## How it was made
Network `{fit["network"]}` ({NOTES.get(fit["network"], "see networks.py")}), {fit["epochs"]} epochs{_taught_by(fit)}.
The same seed gives the same weights within float noise:

```
{_commands(request, run)}
```
"""


def _scene_section(told: str) -> str:
    return f"## A whole scene\n{told}\n\n" if told else ""


def _taught_by(fit: Mapping[str, Any]) -> str:
    names = [f"`{teacher['network']}`" for teacher in fit.get("teachers", ())]
    if not names:
        return ""
    return (
        f"; it learned what {len(names)} networks ({', '.join(names)}), fitted before to the same tiles, say together"
    )


def _commands(request: ExportRequest, run: Mapping[str, Any]) -> str:
    fit, tiles = run["fit"], f"../shared/data/{run['source_name']}"
    train = [
        f"atalaya train {tiles} --network {fit['network']} --epochs {fit['epochs']} --folds {run['folds']}",
        f"    --repeats {run['repeats']} --seed {run['seed']} --out build/{request.name}",
    ]
    export = [
        f"atalaya export build/{request.name} --tiles {tiles} --name {request.name} --version {request.version}",
        *([f"    --data {request.data_file}"] if request.data_file else []),
        *(["    --baseline build/thesis2020"] if request.baseline else []),
        "    --repository model-repo --overwrite",
    ]
    baseline = [f"atalaya train {tiles}", "    --network thesis2020 --repeats 1 --out build/thesis2020"]
    commands = (train, *([baseline] if request.baseline else []), export)
    return "\n".join(" \\\n".join(lines) for lines in commands)


def _formats_table(name: str, delivered: list[Delivered]) -> str:
    lines = [
        "| model | format | accuracy | Brier score | × thesis2020 at f32 | at bf16 |",
        "|---|---|---|---|---|---|",
    ]
    for one in delivered:
        scores = one.measured["crossValidated"]
        speed = one.measured.get("speed")
        ratios = [f"{speed[p]['ratio']:.1f}" if speed else "–" for p in ("f32", "bf16")]
        lines.append(
            f"| {name}{SUFFIXES[one.format]} | {FORMATS[one.format]} | {scores['accuracy']['value']:.3f} | "
            f"{scores['brier']['value']:.4f} | {ratios[0]} | {ratios[1]} |"
        )
    return "\n".join(lines)
