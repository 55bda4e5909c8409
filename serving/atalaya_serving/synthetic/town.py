"""Draws a procedural town as a satellite sees it at 0.5 m: streets, blocks, roofs, shadows, trees, water, and rubble.

Every pixel is a function of the town's seed and its own position, so that any window can be drawn by itself and a
large scene in bands. Nothing is copied from real imagery, and no model was looked at to choose the looks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atalaya_serving.synthetic.noise import COARSE, Floats, Ids, blur, divide, ease, enlarge, mix

Mask = NDArray[np.bool_]

_TABLE = 256  # side of the periodic noise table
_IDS = 1 << 16  # distinct draws that an object's hash chooses from
_SHADOW_STEPS = 22
_SUN = (0.62, 0.78)  # a shadow falls so many rows and columns for one pixel of its length
_SHADOW_LENGTH = 0.85  # pixels of shadow for one pixel of height
HALO = 32  # what a window must see around itself for shadows to be right


@dataclass(frozen=True)
class Window:
    """A rectangle of the town, in pixels."""

    row: int
    col: int
    height: int
    width: int


@dataclass(frozen=True)
class Drawn:
    """A window as drawn: grey pixels, and where buildings are or were, and where they were destroyed."""

    pixels: NDArray[np.uint8]
    building: Mask
    destroyed: Mask


@dataclass(frozen=True)
class _Districts:
    """One entry a district: where it is, and what it looks like. Lengths in pixels."""

    centre: Floats
    angle: Floats
    block: Floats
    lot: Floats
    street: Floats
    margin: Floats
    empty: Floats
    trees: Floats
    height: Floats


@dataclass(frozen=True)
class Town:
    """A town of `size` × `size` pixels. `strength` is how likely a house is destroyed at a quake's worst place."""

    seed: int
    size: int
    noise: Floats
    draws: Floats
    districts: _Districts
    quakes: Floats
    coast: float
    strength: float


# kind: share, block, lot, street half width, margin, empty lots, trees, building height
_KINDS = {
    "dense": (0.34, (150, 110), (19, 17), 4, 0.7, 0.05, 0.12, 6),
    "housing": (0.28, (170, 124), (30, 27), 7, 2.2, 0.10, 0.30, 8),
    "villas": (0.12, (210, 160), (54, 44), 7, 7.0, 0.12, 0.62, 9),
    "commercial": (0.12, (190, 150), (46, 36), 9, 1.6, 0.08, 0.10, 15),
    "industrial": (0.07, (330, 230), (150, 74), 10, 7.0, 0.15, 0.05, 13),
    "open": (0.07, (400, 300), (70, 60), 6, 14.0, 0.93, 0.22, 5),
}


def plan_town(seed: int, size: int, strength: float = 0.8) -> Town:
    """Lay out a town: its districts, its coast, and the places that an earthquake hit worst."""
    rng = np.random.default_rng(seed)
    count = max(6, round((size / 620) ** 2))
    side = int(np.ceil(np.sqrt(count)))
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2)
    centre = (cells + rng.uniform(0.1, 0.9, cells.shape)) * (size / side)
    kinds = rng.choice(len(_KINDS), size=len(centre), p=[kind[0] for kind in _KINDS.values()])
    rows = [list(_KINDS.values())[kind] for kind in kinds]

    def column(index: int) -> Floats:
        return np.array([row[index] for row in rows], np.float32)

    def varied(values: Floats) -> Floats:
        return (values * rng.uniform(0.85, 1.15, values.shape)).astype(np.float32)

    angle = rng.normal(0.35, 0.16, len(rows)) + rng.choice([0.0, 0.5], len(rows))
    quakes = np.column_stack(
        [
            rng.uniform(0.12, 0.88, (5, 2)) * size,
            rng.uniform(0.06, 0.11, 5) * size,
            rng.uniform(1.0, 2.2, 5),
            rng.uniform(0, np.pi, 5),
        ]
    )
    return Town(
        seed=seed,
        size=size,
        noise=rng.random((_TABLE, _TABLE), np.float32),
        draws=rng.random((12, _IDS), np.float32),
        districts=_Districts(
            centre=centre.astype(np.float32),
            angle=angle.astype(np.float32),
            block=varied(column(1)),
            lot=varied(column(2)),
            street=column(3),
            margin=column(4),
            empty=column(5),
            trees=column(6),
            height=varied(column(7)),
        ),
        quakes=quakes.astype(np.float32),
        coast=float(rng.uniform(0.06, 0.1)) * size,
        strength=strength,
    )


def draw(town: Town, window: Window) -> Drawn:
    """Draw a window; two windows that overlap agree where they do."""
    wide = Window(window.row - HALO, window.col - HALO, window.height + 2 * HALO, window.width + 2 * HALO)
    canvas = _Canvas(town, wide)
    canvas.lay_ground()
    canvas.build()
    canvas.plant()
    canvas.strew_rubble()
    canvas.fill_sea()
    inner = np.s_[HALO:-HALO, HALO:-HALO]
    return Drawn(
        pixels=canvas.photograph()[inner],
        building=canvas.building[inner] & ~canvas.sea[inner],
        destroyed=canvas.destroyed[inner] & ~canvas.sea[inner],
    )


class _Canvas:
    """One window while it is drawn: brightness 0 to 255 and height in pixels, one layer after the other."""

    def __init__(self, town: Town, window: Window) -> None:
        self.town, self.window = town, window
        rows = np.arange(window.row, window.row + window.height, dtype=np.float32)[:, None]
        cols = np.arange(window.col, window.col + window.width, dtype=np.float32)[None, :]
        self.rows, self.cols = rows, cols
        self.bend_rows = rows + 46 * (self.wave(700, 1) - 0.5)
        self.bend_cols = cols + 46 * (self.wave(700, 2) - 0.5)
        self.grain = self.wave(2, 3)
        self.shape = (window.height, window.width)
        self.tall = np.zeros(self.shape, np.float32)
        self.damage = self._damage()

    def wave(self, cell: float, layer: int) -> Floats:
        """Smooth noise from 0 to 1 whose features are `cell` pixels wide."""
        table = np.roll(self.town.noise, (37 * layer, 91 * layer), (0, 1))
        at_rows, at_cols = self.rows[:, 0] / cell, self.cols[0] / cell
        rows, cols = np.floor(at_rows).astype(int), np.floor(at_cols).astype(int)
        part_rows, part_cols = ease(at_rows - rows)[:, None], ease(at_cols - cols)
        knots = table[np.arange(rows[0], rows[-1] + 2) % _TABLE]  # columns first: there are few rows of knots yet
        left = knots[:, cols % _TABLE]
        lines = left + (knots[:, (cols + 1) % _TABLE] - left) * part_cols
        upper = lines[rows - rows[0]]
        smooth: Floats = lines[rows - rows[0] + 1]
        smooth -= upper
        smooth *= part_rows
        smooth += upper
        return smooth

    def draw_of(self, ids: Ids, kind: int) -> Floats:
        """An object's own random number, 0 to 1: the same wherever the object is seen from."""
        drawn: Floats = self.town.draws[kind].take(ids & np.uint32(_IDS - 1))
        return drawn

    def _damage(self) -> Floats:
        """How hard the ground was shaken, 0 to 1: a few oblong clusters with ragged edges."""
        worst = np.zeros((self.rows.size, self.cols.size), np.float32)
        for row, col, radius, oblong, angle in self.town.quakes:
            down, right = self.rows - row, self.cols - col
            along = down * np.cos(angle) + right * np.sin(angle)
            across = right * np.cos(angle) - down * np.sin(angle)
            reach = (along / (radius * oblong)) ** 2 + (across / radius) ** 2
            np.maximum(worst, np.float32(1.35) - reach.astype(np.float32), out=worst)
        return np.clip(worst + 0.7 * (self.wave(90, 4) - 0.6), 0, 1)

    def lay_ground(self) -> None:
        """Districts, main roads between them, blocks and streets within them, bare ground everywhere."""
        districts = self.town.districts
        self.district, to_road = self._nearest_district()
        angle = districts.angle.take(self.district)
        self.cos, self.sin = np.cos(angle), np.sin(angle)
        along = self.bend_rows * self.cos + self.bend_cols * self.sin
        across = self.bend_cols * self.cos - self.bend_rows * self.sin
        block_rows = districts.block[:, 0].take(self.district)
        block_cols = districts.block[:, 1].take(self.district)
        self.block_row, in_row = divide(along, block_rows)
        self.block_col, in_col = divide(across, block_cols)
        street = districts.street.take(self.district)
        self.in_row, self.in_col = in_row - street, in_col - street
        self.room_row, self.room_col = block_rows - 2 * street, block_cols - 2 * street
        edge = np.minimum(
            np.minimum(self.in_row, self.room_row - self.in_row), np.minimum(self.in_col, self.room_col - self.in_col)
        )
        self.is_road = to_road < 11
        self.is_street = (edge < 0) | self.is_road
        soil = 118 + 78 * self.wave(60, 5) + 40 * (self.wave(9, 6) - 0.5) + 16 * (self.grain - 0.5)
        lane = 152 + 34 * (self.wave(26, 7) - 0.5) + 14 * (self.grain - 0.5)
        tar = 104 + 16 * (self.wave(40, 8) - 0.5) + 9 * (self.grain - 0.5)
        tar = np.where((to_road > 8.2) | (np.abs(to_road) < 0.5), tar + 62, tar)
        self.bright = np.where(self.is_road, tar, np.where(self.is_street, lane, soil)).astype(np.float32)
        self._park_cars(along, across)

    def _nearest_district(self) -> tuple[NDArray[np.intp], Floats]:
        """Each pixel's district, and its distance to the main road between the two nearest."""
        coarse_rows = self.bend_rows[::COARSE, ::COARSE, None]
        coarse_cols = self.bend_cols[::COARSE, ::COARSE, None]
        centre = self.town.districts.centre
        distance = np.hypot(coarse_rows - centre[:, 0], coarse_cols - centre[:, 1])
        district = np.argmin(distance, -1).repeat(COARSE, 0).repeat(COARSE, 1)
        nearest = np.partition(distance, 1, axis=-1)
        gap = (nearest[..., 1] - nearest[..., 0]) / 2
        height, width = self.shape
        return district[:height, :width], enlarge(gap.astype(np.float32), self.shape)

    def _park_cars(self, along: Floats, across: Floats) -> None:
        row, in_row = divide(along, np.float32(17))
        col, in_col = divide(across, np.float32(9))
        ids = mix(row, col, 5, 6)
        there = (self.draw_of(ids, 0) < 0.055) & self.is_street
        there &= (in_row > 5) & (in_row < 14) & (in_col > 3) & (in_col < 7)
        self.bright[there] = 40 + 215 * self.draw_of(ids, 1)[there]
        self.tall[there] = 2.5

    def build(self) -> None:
        """Lots within blocks, a house or none on each, its roof and its height."""
        districts = self.town.districts
        lot_rows = self.room_row / np.maximum(1, np.round(self.room_row / districts.lot[:, 0].take(self.district)))
        lot_cols = self.room_col / np.maximum(1, np.round(self.room_col / districts.lot[:, 1].take(self.district)))
        lot_row, at_row = divide(self.in_row, lot_rows)
        lot_col, at_col = divide(self.in_col, lot_cols)
        block = mix(self.block_row, self.block_col, self.district.astype(np.uint32), 3)
        self.lot = lot = mix(lot_row, lot_col, block, 4)
        margin = districts.margin.take(self.district)
        top, left = margin * (0.3 + 1.4 * self.draw_of(lot, 2)), margin * (0.3 + 1.4 * self.draw_of(lot, 3))
        length = np.maximum(lot_rows - top - margin * (0.3 + 1.8 * self.draw_of(lot, 4)), 1)
        breadth = np.maximum(lot_cols - left - margin * (0.3 + 1.8 * self.draw_of(lot, 5)), 1)
        along, across = (at_row - top) / length, (at_col - left) / breadth
        inside = (along >= 0) & (along < 1) & (across >= 0) & (across < 1) & ~self.is_street
        inside &= self.draw_of(lot, 6) > districts.empty.take(self.district)
        notch = (self.draw_of(lot, 7) < 0.3) & (along > 0.62) & (across > 0.55)  # an L-shaped house
        self.building = inside & ~notch
        chance = self.town.strength * np.clip(1.6 * self.damage - 0.3, 0.003, 1)
        self.destroyed = self.building & (self.draw_of(lot, 8) < chance)
        standing = self.building & ~self.destroyed
        roof = self._roof(along, across, length, breadth)
        self.bright = np.where(standing, roof, self.bright)
        high = districts.height.take(self.district) * (0.55 + 0.9 * self.draw_of(lot, 9))
        self.tall = np.where(standing, high, self.tall)

    def _roof(self, along: NDArray[Any], across: NDArray[Any], length: NDArray[Any], breadth: NDArray[Any]) -> Floats:
        """Concrete slabs, corrugated iron in all its ages, and ridged roofs with a bright and a dark side."""
        lot = self.lot
        kind, tone = self.draw_of(lot, 10), self.draw_of(lot, 11)
        ridged_along = length > breadth
        over = np.where(ridged_along, across, along)
        sheet = np.where(ridged_along, along * length, across * breadth)
        to_sun = np.where(
            ridged_along, self.cos * _SUN[1] - self.sin * _SUN[0], self.cos * _SUN[0] + self.sin * _SUN[1]
        )
        ridge = np.where(over < 0.5, -1, 1) * to_sun * 26
        waves = 9 * np.sin(sheet * np.float32(1.9)) + 26 * (self.wave(5, 9) - 0.5)
        patches = 60 * (np.floor(sheet / 9 + 7 * tone) % 3 - 1) * (tone * 7 % 1 < 0.5) * 0.35
        concrete = 150 + 80 * tone + 22 * (self.wave(12, 10) - 0.5)
        rim = np.minimum(np.minimum(along, 1 - along) * length, np.minimum(across, 1 - across) * breadth) < 1.3
        concrete = np.where(rim, concrete - 34, concrete)
        iron = 92 + 130 * tone + waves + patches
        white = 205 + 50 * tone + 0.4 * waves
        roof = np.where(
            kind < 0.34, concrete, np.where(kind < 0.86, iron + np.where(kind > 0.6, ridge, 0), white + ridge)
        )
        return np.asarray(roof + 9 * (self.grain - 0.5), np.float32)

    def plant(self) -> None:
        """Single trees in yards and along streets, and woods where the noise says so; scrub on open ground."""
        wild = self.wave(160, 11)
        share = self.town.districts.trees.take(self.district) * (0.4 + 1.2 * wild) + np.clip(3.4 * (wild - 0.72), 0, 1)
        scrub = ~self.building & ~self.is_street & (self.wave(34, 12) * 0.7 + 0.3 * wild > 0.58)
        self.bright = np.where(scrub, 66 + 60 * self.wave(4, 13) + 26 * (self.grain - 0.5), self.bright)
        for layer, (cell, shift) in enumerate(((24.0, 0.0), (19.0, 8.0), (29.0, 17.0))):
            row, in_row = divide(self.rows + np.float32(shift), np.float32(cell))
            col, in_col = divide(self.cols + np.float32(2 * shift), np.float32(cell))
            ids = mix(row, col, 11 + layer, 12)
            radius = cell * (0.16 + 0.24 * self.draw_of(ids, 0))
            slack = cell / 2 - radius
            down = in_row - cell / 2 - slack * (2 * self.draw_of(ids, 1) - 1)
            right = in_col - cell / 2 - slack * (2 * self.draw_of(ids, 2) - 1)
            lumps = 2.6 * (self.wave(5, 14 + layer) - 0.5)
            crown = np.hypot(down, right) + lumps < radius
            grows = crown & (self.draw_of(ids, 3) < share) & ~self.is_road & (~self.building | self.destroyed)
            light = -(down * _SUN[0] + right * _SUN[1]) / radius
            leaf = 44 + 20 * light + 34 * self.draw_of(ids, 4) + 62 * (self.wave(3, 17 + layer) - 0.42)
            self.bright = np.where(grows, leaf, self.bright)
            self.tall = np.where(grows, np.maximum(self.tall, 5 + 0.5 * radius), self.tall)
            self.destroyed &= ~grows

    def strew_rubble(self) -> None:
        """Destroyed houses become heaps of slabs, stumps of walls and dust; debris lies on the ground around them."""
        heap = self.destroyed
        spill = (self.damage > 0.35) & (self.wave(18, 21) < 0.62 * self.damage) & (self.tall < 3)
        at = np.nonzero(heap | spill)
        if not at[0].size:
            return
        is_heap, damage, lot = heap[at], self.damage[at], self.lot[at]
        rows, cols = at[0].astype(np.float32) + self.window.row, at[1].astype(np.float32) + self.window.col
        fine, coarse = self.wave(2, 23)[at], self.wave(16, 22)[at]
        bright, tall = self.bright[at], self.tall[at]
        mottled = 96 * (self.wave(5, 34)[at] - 0.5) + 64 * (self.wave(9, 35)[at] - 0.5)
        dust = 192 + 40 * (coarse - 0.5) + mottled + 90 * (fine - 0.5) + 40 * (self.draw_of(lot, 11) - 0.5)
        bright = np.where(is_heap, dust, 0.5 * bright + 0.5 * dust)
        jag_row, jag_col = 3 * self.wave(7, 24)[at], 3 * self.wave(7, 25)[at]
        for layer, (cell, share) in enumerate(((4.3, 0.46), (7.1, 0.44), (15.0, 0.36))):
            tilt = layer + 3 * self.draw_of(lot, 0)
            along = rows * np.cos(tilt) + cols * np.sin(tilt) + jag_row
            across = cols * np.cos(tilt) - rows * np.sin(tilt) + jag_col
            row, in_row = divide(along, np.float32(cell))
            col, in_col = divide(across, np.float32(0.8 * cell))
            ids = mix(row, col, lot, 31 + layer)
            piece = in_row < cell * (0.35 + 0.6 * self.draw_of(ids, 4))
            piece &= in_col < 0.8 * cell * (0.3 + 0.65 * self.draw_of(ids, 5))
            piece &= self.draw_of(ids, 6) < np.where(is_heap, share, 0.2 * damage * (layer < 2))
            bright = np.where(piece, 132 + 130 * np.sqrt(self.draw_of(ids, 7)) + 40 * (fine - 0.5), bright)
            tall = np.where(piece, 0.5 + 3.4 * self.draw_of(ids, 8) * (cell / 10), tall)
        hollow = is_heap & (self.wave(6, 26)[at] > 0.77)
        self.bright[at] = np.where(hollow, 0.4 * bright, bright)
        self.tall[at] = tall

    def fill_sea(self) -> None:
        """The sea along one side, with a bright line of surf."""
        shore = self.town.coast + 90 * (self.wave(380, 27) - 0.5) + 26 * (self.wave(45, 28) - 0.5)
        beyond = self.cols - shore
        self.sea = np.broadcast_to(beyond < 0, self.shape)
        water = 27 + 9 * (self.wave(130, 29) - 0.5) + 9 * (self.wave(3, 30) - 0.5)
        beach = 196 + 30 * (self.wave(12, 31) - 0.5)
        self.bright = np.where(self.sea, water, np.where(beyond < 9, beach, self.bright))
        self.tall = np.where(beyond < 9, 0, self.tall)

    def photograph(self) -> NDArray[np.uint8]:
        """Cast shadows, blur as a lens does, add the sensor's noise."""
        light = np.where(self._shadows(), 0.30, 1).astype(np.float32)
        seen = blur(blur(self.bright * light, 0), 1)
        noise = 13 * (self.wave(1, 32) + self.wave(1, 33) - 1)
        return np.asarray(np.clip(1.06 * seen - 6 + noise, 1, 255), np.uint8)  # 0 is kept for no data

    def _shadows(self) -> Mask:
        shadow = np.zeros(self.shape, bool)
        height, width = self.shape
        for step in range(1, _SHADOW_STEPS):
            down, right = round(step * _SUN[0]), round(step * _SUN[1])
            caster = self.tall[: height - down, : width - right]
            shadow[down:, right:] |= caster > self.tall[down:, right:] + step / _SHADOW_LENGTH
        return shadow
