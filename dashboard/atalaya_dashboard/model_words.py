"""The cluster's models in words and rows: a sign and a word for each state, never a colour alone. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from atalaya_dashboard.cluster_models import ClusterModel, State
from atalaya_spec.inference_model_status import FALSE, TRUE

SIGNS = {State.NEEDS_YOU: "⚠ Needs you", State.WAITING: "… Getting ready", State.READY: "✓ Ready"}
LONG = ("Message", "Next step")
"""Columns whose texts are cut in the list; a chosen model shows them whole."""
_HOLDS = {TRUE: "✓ yes", FALSE: "✗ no"}
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_NONE = "–"

STYLE = """<style>
.at-table { border-collapse: collapse; width: 100%; font-size: .92rem; }
.at-table th { text-align: left; font-weight: 650; border-bottom: 2px solid #7d8790; padding: .25rem .8rem .25rem 0; }
.at-table td { vertical-align: top; border-bottom: 1px solid #d5dde3; padding: .3rem .8rem .3rem 0;
  overflow-wrap: break-word; min-width: 4rem; }
.at-scroll { overflow-x: auto; }
</style>"""


def headline(models: Sequence[ClusterModel]) -> str:
    """How many are as they should be."""
    counts = {state: sum(one.state == state for one in models) for state in State}
    told = [f"**{counts[State.READY]} of {len(models)} ready**"]
    if counts[State.NEEDS_YOU]:
        verb = "needs" if counts[State.NEEDS_YOU] == 1 else "need"
        told.insert(0, f"**⚠ {counts[State.NEEDS_YOU]} {verb} you**")
    if counts[State.WAITING]:
        told.append(f"{counts[State.WAITING]} getting ready")
    return " · ".join(told)


def row(one: ClusterModel, now: datetime) -> dict[str, str]:
    """A model in the list."""
    return {
        "State": SIGNS[one.state],
        "Name": one.name,
        "Namespace": one.namespace,
        "Reason": one.reason,
        "Pods ready": one.ready or _NONE,
        "Engine": one.engine,
        "Device": one.device or _NONE,
        "Version": one.version or _NONE,
        "Age": age(one.created, now),
        "Message": one.message,
        "Next step": one.next_step,
    }


def age(since: datetime | None, now: datetime) -> str:
    """How long ago, in its largest unit, as kubectl does."""
    return _NONE if since is None else duration((now - since).total_seconds())


def duration(seconds: float) -> str:
    """A time in its largest unit."""
    whole = max(int(seconds), 0)
    return next((f"{whole // size} {unit}" for unit, size in _UNITS if whole >= size), "0 s")


def conditions(one: ClusterModel, now: datetime | None = None) -> str:
    """What holds of a model and since when."""
    at = now or datetime.now(UTC)
    rows = []
    for each in one.conditions:
        since = age(datetime.fromisoformat(each.last_transition_time), at) if each.last_transition_time else _NONE
        rows.append((each.type, _HOLDS.get(each.status, "? unknown"), each.reason, each.message, since))
    return table(("Condition", "Holds", "Reason", "Message", "Since"), rows)


def revisions(one: ClusterModel) -> str:
    """The ways of running it that there are, newest first."""
    rows = [
        (each.name, each.verdict or _NONE, each.version or _NONE, each.device or _NONE, each.image or _NONE)
        for each in one.revisions
    ]
    return table(("Revision", "Verdict", "Version", "Device", "Image"), rows)


def endpoints(one: ClusterModel) -> str:
    """Where clients find it."""
    if one.endpoints is None:
        return ""
    told = (
        ("KServe v2 (gRPC)", one.endpoints.kserve_v2),
        ("TensorFlow Serving (gRPC)", one.endpoints.tensorflow_serving),
        ("Metrics of each pod", one.endpoints.metrics),
    )
    return table(("Endpoint", "Address in the cluster"), [(name, where) for name, where in told if where])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose texts wrap; every cell is escaped."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in each)}</tr>" for each in rows)
    return (
        f'<div class="at-scroll"><table class="at-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
