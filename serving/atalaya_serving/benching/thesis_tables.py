"""The thesis' tables as Markdown, each with its own figures where it published them. Pure."""

from collections.abc import Sequence

from atalaya_serving.benching import thesis_figures
from atalaya_serving.benching.records import Noise, cores_of
from atalaya_serving.benching.reports import machine_line, number, table
from atalaya_serving.benching.thesis_records import Path, Sums, ThesisReport, group

_MEANS = ("inference ms", "total ms", "images/s")
_THESIS = "(the thesis, 2020)"
_WEB_NOTE = (
    "`tfs-rest` carries each of an image's 16,384 pixels as a JSON number. Reading them is most of its time, and also"
    " lengthens its inference: the engine's caller waits for Python's lock while other uploads are read. The means over"
    " all web layers, in tables 3, 4 and 7, are therefore mostly those of `tfs-rest`."
)


def thesis_markdown(report: ThesisReport) -> str:
    """The whole report for people."""
    parts = ["# The thesis' tables", "", machine_line(report.about), "", *_protocol(report)]
    if not report.complete:
        parts += ["", "**Stopped before its end**: tables hold what was measured until then."]
    sections = [
        ("1. Epochs, accuracy, time, loss", _training(report) if report.fits else ""),
        ("2. Right and wrong, by engine", _answers(report) if report.served else ""),
        ("3. Mean times by engine", _by_engine(report) if report.served else ""),
        ("4. Mean times by cores", _grouped(report, "cores") if report.served else ""),
        ("5. Mean times by web layer", _by_web_layer(report) if report.served else ""),
        ("6. Web layer and cores crossed", _crossed(report) if report.served else ""),
        ("7. Images per second", _speed(report) if report.served else ""),
        ("8. What a TensorFlow figure depends on: the path", _paths(report.paths) if report.paths else ""),
        ("9. The recording of 2020", _recorded(report) if report.recorded else ""),
    ]
    for title, body in sections:
        if body:
            parts += ["", f"## {title}", "", body]
    return "\n".join(parts) + "\n"


def _protocol(report: ThesisReport) -> list[str]:
    plan = report.plan
    precision = {"auto": "what the processor does best (see its flags)"}.get(plan["precision"], plan["precision"])
    return [
        f"One image a request, {plan['concurrency']} uploads at a time, each caller sending the"
        " next when it is answered, client and server on the same machine. Inference: the server's own clock around"
        " the engine. Total: the client's, from sending to the answer. Engines, cores and web layers take turns in"
        f" {plan['rounds']} rounds. The server runs TensorFlow as a traced SavedModel signature (`tf.function`), in"
        f" f32; OpenVINO computes in {precision}.",
    ]


def _training(report: ThesisReport) -> str:
    rows = []
    for fit in report.fits:
        theirs = thesis_figures.TRAINING.get(fit.epochs)
        published = (f"{theirs.accuracy:.0%}", f"{theirs.seconds:.2f}", f"{theirs.loss:.1f}") if theirs else ("-",) * 3
        low, high = _interval(fit.right, fit.judged)
        ours = (f"{fit.accuracy:.0%} ({low:.0%}–{high:.0%})", f"{fit.seconds:.1f}", f"{fit.loss:.2f}")
        rows.append((str(fit.epochs), *ours, *published, _marks(fit.noise)))
    first = report.fits[0]
    head = ("epochs", "accuracy", "time s", "loss", "thesis: accuracy", "time s (K80)", "loss", "marks")
    note = (
        f"`thesis2020`, a fit of its own for each number of epochs, {first.learnt} tiles to learn from, judged on"
        f" {first.judged} others; accuracy with its 95% interval, log loss. With so few tiles to judge on, the rows"
        " differ by chance more than by epochs, and so did the thesis'."
    )
    return f"{table(head, rows)}\n\n{note}"


def _answers(report: ThesisReport) -> str:
    rows = []
    for (model, engine), own in group(report.served, "model", "engine").items():
        total = own.right + own.wrong
        unseen = f"{own.unseen_right / own.unseen:.1%} of {own.unseen:,}" if own.unseen else "-"
        rows.append((model, engine, f"{total:,}", f"{own.right:,}", f"{own.wrong:,}", _share(own.right, total), unseen,
                     str(own.errors)))  # fmt: skip
    for engine, theirs in thesis_figures.ENGINES.items():
        wrong = theirs.inferences - theirs.right
        share = _share(theirs.right, theirs.inferences)
        rows.append((_THESIS, engine, f"{theirs.inferences:,}", f"{theirs.right:,}", f"{wrong:,}", share, "-", "-"))
    head = (
        "model",
        "engine",
        "inferences",
        "right",
        "wrong",
        "right, share",
        "right of tiles not learnt from",
        "errors",
    )
    note = (
        "The labelled tiles, over and over. Both models learnt from most or all of them, so the share says that both"
        " engines answer alike; how well a model judges is in table 1 and in the model card. The thesis does not say"
        " which of its images the network had learnt from."
    )
    return f"{table(head, rows)}\n\n{note}"


def _by_engine(report: ThesisReport) -> str:
    rows = [
        (model, engine, *_means(own), _marks(own.noise))
        for (model, engine), own in group(report.served, "model", "engine").items()
    ]
    rows += [
        (_THESIS, engine, number(one.inference_ms), number(one.total_ms), number(one.images_per_second), "")
        for engine, one in thesis_figures.ENGINES.items()
    ]
    return table(("model", "engine", *_MEANS, "marks"), rows)


def _grouped(report: ThesisReport, field: str) -> str:
    rows = [
        (model, engine, str(value), *_means(own), _marks(own.noise))
        for (model, engine, value), own in sorted(group(report.served, "model", "engine", field).items())
    ]
    return table(("model", "engine", {"protocol": "web layer"}.get(field, field), *_MEANS, "marks"), rows)


def _by_web_layer(report: ThesisReport) -> str:
    has_json = any(one.protocol == "tfs-rest" for one in report.served)
    return _grouped(report, "protocol") + (f"\n\n{_WEB_NOTE}" if has_json else "")


def _crossed(report: ThesisReport) -> str:
    rows = [
        (model, engine, protocol, str(cores), *_means(own), _marks(own.noise))
        for (model, engine, protocol, cores), own in sorted(
            group(report.served, "model", "engine", "protocol", "cores").items()
        )
    ]
    return table(("model", "engine", "web layer", "cores", *_MEANS, "marks"), rows)


def _speed(report: ThesisReport) -> str:
    every = group(report.served, "model", "engine", "protocol", "cores")
    rows = []
    for (model, engine), own in group(report.served, "model", "engine").items():
        speeds = [
            (one.images_per_second or 0.0, protocol, cores)
            for (name, by, protocol, cores), one in every.items()
            if (name, by) == (model, engine)
        ]
        ends = [
            f"{speed:,.0f} ({protocol}, {cores_of(cores)})" for speed, protocol, cores in (max(speeds), min(speeds))
        ]
        rows.append((model, engine, number(own.images_per_second), *ends, _marks(own.noise)))
    rows += [
        (_THESIS, engine, number(one.images_per_second), "-", "-", "") for engine, one in thesis_figures.ENGINES.items()
    ]
    return table(("model", "engine", "over all", "fastest", "slowest", "marks"), rows)


def _paths(paths: Sequence[Path]) -> str:
    base = next((one.latency.p50_ms for one in paths if one.engine == "openvino" and one.latency.p50_ms), None)
    rows = [
        (one.path, one.engine, number(one.latency.mean_ms, 2), number(one.latency.p50_ms, 2), f"{one.latency.count:,}",
         "-" if not (base and one.latency.p50_ms) else f"{one.latency.p50_ms / base:.1f}", _marks(one.noise))
        for one in paths
    ]  # fmt: skip
    head = ("path", "engine", "mean ms", "p50 ms", "n", "times OpenVINO's p50", "marks")
    note = (
        "The thesis' network in one process, one image at a time, one caller, all cores. The factor over the first row"
        " says how much faster OpenVINO is than *that path*: `predict()` is made for large batches, so a factor over it"
        " says little of TensorFlow; the traced function is what a server runs. TensorFlow computes in f32."
    )
    return f"{table(head, rows)}\n\n{note}"


def _recorded(report: ThesisReport) -> str:
    rows = [
        (one["engine"], one["web"], one["cores"], f"{one['count']:,}", number(one["inference_ms"], 1),
         number(one["total_ms"], 0))
        for one in report.recorded
    ]  # fmt: skip
    return table(("engine", "web layer", "cores", "predictions", "inference ms", "total ms"), rows)


def _means(own: Sums) -> tuple[str, str, str]:
    return number(own.inference_ms, 1), number(own.total_ms, 1), number(own.images_per_second)


def _share(right: int, total: int) -> str:
    return f"{right / total:.1%}" if total else "-"


def _marks(noise: Noise | None) -> str:
    return ", ".join(noise.marks) if noise else ""


def _interval(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95% interval of a share."""
    share = right / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5 / (1 + z * z / count)
    return max(0.0, centre - half), min(1.0, centre + half)
