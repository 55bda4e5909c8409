"""The few pieces of HTML that Streamlit has no element for: the big count, the legend, the live strip. Pure.

Every text that comes from outside goes through `escape`.
"""

import math
import re
from collections.abc import Sequence
from html import escape

from atalaya_dashboard.cells import FEW_TILES
from atalaya_dashboard.colours import DAMAGED, FEW, NOT_DAMAGED, css, css_gradient
from atalaya_dashboard.data import MapData
from atalaya_dashboard.deck import FEW_SIGN, Mode
from atalaya_dashboard.metrics import Lately, ModelKey, Window
from atalaya_serving.scoring.caveats import INTERVAL_CAVEAT

HATCH = "repeating-linear-gradient(135deg, #40464d 0 1.5px, #a9aeb3 1.5px 5px)"
UNTOLD = "not told"
KNOWN_WORDS = "known damage (synthetic)"
SYNTHETIC_WORDS = "Synthetic scene: made by a program, no real place and no real damage"

STYLE = """<style>
.stMainBlockContainer { padding: 4.2rem 2.2rem 2rem; }
[data-testid="stDeckGlJsonChart"] { background: #dfe5ea; border: 1px solid #c3ccd3; border-radius: 6px;
  overflow: hidden; }
.at-count { display: flex; flex-wrap: wrap; align-items: baseline; gap: .1rem 1.4rem; line-height: 1.2; }
.at-big { font-size: 3.1rem; font-weight: 750; letter-spacing: -.02em; font-variant-numeric: tabular-nums; }
.at-what { font-size: 1.25rem; font-weight: 600; }
.at-sure { font-size: 1.05rem; }
.at-more { color: #45535f; font-size: .95rem; margin-top: .2rem; }
.at-caveat { color: #45535f; font-size: .8rem; flex: 1 1 15rem; max-width: 40rem; align-self: center; }
.at-badge { display: inline-block; background: #fff3cd; color: #5c4400; border: 1px solid #e0b93b;
  border-radius: 4px; padding: .15rem .6rem; font-weight: 650; font-size: .95rem; margin-bottom: .35rem; }
.at-legend { display: flex; flex-wrap: wrap; gap: .5rem 1.6rem; align-items: center; font-size: .92rem; }
.at-ramp { width: 15rem; }
.at-bar { height: .9rem; border: 1px solid #7d8790; border-radius: 2px; }
.at-ticks { display: flex; justify-content: space-between; font-size: .82rem; font-variant-numeric: tabular-nums; }
.at-key { display: inline-flex; align-items: center; gap: .45rem; }
.at-swatch { width: 1.35rem; height: 1.05rem; border: 1px solid #7d8790; border-radius: 2px; color: #ffffff;
  font-weight: 700; font-size: .8rem; line-height: 1rem; text-align: center; }
.at-strip { display: grid; grid-template-columns: repeat(3, 1fr); gap: .15rem .6rem; }
.at-strip b { display: block; font-size: 1.2rem; font-variant-numeric: tabular-nums; }
.at-strip span { color: #45535f; font-size: .82rem; }
.at-ring { background: transparent; border: 3px solid rgb(213,94,0); }
.at-lines { font-size: .85rem; line-height: 1.35; margin-bottom: .35rem; font-variant-numeric: tabular-nums; }
.at-idle { color: #45535f; font-size: .85rem; }
.at-model { font-weight: 650; font-size: .95rem; margin: .1rem 0 .2rem; }
.at-dot { display: inline-block; width: .6rem; height: .6rem; border-radius: 50%; margin-right: .4rem; }
.at-swatch, .at-bar, .at-dot { forced-color-adjust: none; }
[data-testid="stCaptionContainer"] { color: #45535f; opacity: 1; }
@media (forced-colors: active) { .stSlider, .stCheckbox, .stButtonGroup { forced-color-adjust: none;
  background: #ffffff; color: #15212b; } }
@media (max-width: 640px) { .stMainBlockContainer { padding: 4rem .8rem 2rem; } .at-big { font-size: 2.4rem; } }
</style>"""


def count(data: MapData) -> str:
    """The number an analyst came for, with its interval, its n, and what is missing."""
    found, states = data.count, data.states
    badge = f'<div class="at-badge">{SYNTHETIC_WORDS}</div><br>' if data.synthetic else ""
    area = f" ({data.assessed_km2:,.2g} km²)" if data.assessed_km2 else ""
    caveat = f'<div class="at-caveat">{escape(INTERVAL_CAVEAT)}</div>' if states.assessed else ""
    if states.assessed == 0:
        told = '<span class="at-big">?</span><span class="at-what">No tile was assessed</span>'
    else:
        told = (
            f'<span class="at-big">{number(found.expected)}</span>'
            f'<span><span class="at-what">damaged tiles expected</span>'
            f'<br><span class="at-sure">90% interval <b>{found.low:,.0f} to {found.high:,.0f}</b>, '
            f"of n = {found.n:,} assessed{area}</span></span>"
        )
    return f'{badge}<div class="at-count">{told}{caveat}</div><div class="at-more">{missing(data)}</div>'


def number(expected: float) -> str:
    """An expected count; a small one with a decimal, for 0.4 is not nothing."""
    return f"{expected:.1f}" if 0.05 <= expected < 9.95 else f"{expected:,.0f}"


def missing(data: MapData) -> str:
    """How many tiles were not assessed and why; they are never counted as safe."""
    states = data.states
    if not states.not_assessed:
        return "Every tile was assessed."
    reasons = ", ".join(f"{escape(reason) or 'no reason kept'} {n:,}" for reason, n in states.reasons)
    tiles = "tile" if states.not_assessed == 1 else "tiles"
    return f"<b>{states.not_assessed:,} {tiles} not assessed</b> ({reasons}): unknown, not safe."


def legend(mode: Mode, with_truth: bool = False) -> str:
    """What the colours mean in the present view."""
    parts = []
    if mode == "heat":
        ticks = "".join(f"<span>{tick}%</span>" for tick in (0, 25, 50, 75, 100))
        parts.append(
            f'<div class="at-ramp"><div>Expected share of tiles damaged</div>'
            f'<div class="at-bar" style="background:{css_gradient()}, #9aa0a5"></div>'
            f'<div class="at-ticks">{ticks}</div></div>'
        )
        parts.append(_key(css(FEW), f"fewer than {FEW_TILES} tiles: too few to say", FEW_SIGN))
    elif mode == "tiles":
        parts += [_key(css(DAMAGED), "damaged"), _key(css(NOT_DAMAGED), "not damaged")]
    if mode != "scene":
        parts.append(_key(HATCH, "not assessed: unknown"))
    if with_truth:
        parts.append(f'<span class="at-key"><span class="at-swatch at-ring"></span>{KNOWN_WORDS}</span>')
    return f'<div class="at-legend">{"".join(parts)}</div>'


def _key(background: str, words: str, sign: str = "") -> str:
    swatch = f'<span class="at-swatch" style="background:{background}">{sign}</span>'
    return f'<span class="at-key">{swatch}{words}</span>'


def strip(found: Sequence[tuple[ModelKey, Lately]]) -> str:
    """Live latency beside the map, small: one model large, several in lines, those that nobody asked by name only."""
    asked = [(key, now.window) for key, now in found if not now.never_asked]
    shape = _grid if len(asked) == 1 else _lines
    unasked = ", ".join(_name(key, now.window) for key, now in found if now.never_asked)
    rest = f'<div class="at-idle">No request lately: {unasked}</div>' if unasked else ""
    return "".join(f'<div class="at-model">{_name(key, now)}</div>{shape(now)}' for key, now in asked) + rest


def _name(key: ModelKey, window: Window) -> str:
    colour, state = ("#2c718e", "ready") if window.ready else ("#d35400", "not ready")
    return f'<span class="at-dot" style="background:{colour}"></span>{escape(str(key))}, {state}'


def _grid(window: Window) -> str:
    numbers = (
        (milliseconds(window.p50), "p50"),
        (milliseconds(window.p95), "p95"),
        (milliseconds(window.p99), "p99"),
        (f"{window.requests_per_second:,.1f}", "requests/s"),
        (f"{window.errors_per_second:,.1f}", "errors/s"),
        (UNTOLD if window.queue_depth is None else f"{window.queue_depth:,.0f}", "in queue"),
    )
    cells = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in numbers)
    return f'<div class="at-strip">{cells}</div>'


def _lines(window: Window) -> str:
    return (
        f'<div class="at-lines">p50 <b>{milliseconds(window.p50)}</b> · p95 <b>{milliseconds(window.p95)}</b> · '
        f"p99 <b>{milliseconds(window.p99)}</b><br>{window.requests_per_second:,.1f} requests/s · "
        f"{window.errors_per_second:,.1f} errors/s · {_queue(window)}</div>"
    )


def _queue(window: Window) -> str:
    return "queue not told" if window.queue_depth is None else f"{window.queue_depth:,.0f} in queue"


def plain(text: str) -> str:
    """Text from outside for a page that reads Markdown: a file's name cannot become a link, a picture or a formula."""
    return re.sub(r"([\\`*_{}\[\]()<>#!|~$:])", r"\\\1", text)


def milliseconds(seconds: float) -> str:
    """A latency for people; a dash when nothing was asked."""
    if math.isnan(seconds):
        return "–"
    value = seconds * 1000
    return f"{value:.2f} ms" if value < 10 else f"{value:,.0f} ms"
