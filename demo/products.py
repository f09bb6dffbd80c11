# SPDX-License-Identifier: Apache-2.0
"""How each of the ten product categories looks.

Shapes vary with the generator; colours say nothing about the category.
"""

from collections.abc import Callable

import numpy as np

from demo.pen import Pen, arc, box, mix, shade, shape, smooth

Draw = Callable[[Pen, np.random.Generator], None]

INK = (40, 38, 36)
PAPER = (240, 236, 226)
STEEL = (176, 180, 186)


def bag(pen: Pen, rng: np.random.Generator) -> None:
    """A tote with long handles, or a handbag with a flap and a short one."""
    colours = pen.palette
    top, bottom = rng.uniform(0.45, 0.75), rng.uniform(0.6, 0.85)
    brim, rise = rng.uniform(-0.35, -0.1), rng.uniform(0.35, 0.7)
    reach = top * rng.uniform(0.5, 0.8)
    pen.stroke(arc(0, brim, reach, rise, (180, 360)), 0.09, colours.dark)
    pen.fill(shape((-top, brim), (top, brim), (bottom, 0.8), (-bottom, 0.8)), colours.base)
    if rng.random() < 0.5:
        flap = rng.uniform(0.1, 0.4)
        pen.fill(
            smooth((-top, brim), (top, brim), (top * 0.8, flap), (0, flap + 0.12), (-top * 0.8, flap)), colours.dark
        )
        pen.fill(box(0, flap, 0.14, 0.14), STEEL)
    else:
        pen.stroke(arc(0, brim + 0.08, reach, rise * 0.95, (180, 360)), 0.08, colours.light)
        pen.fill(box(0, 0.4, rng.uniform(0.3, 0.8), rng.uniform(0.15, 0.45)), colours.accent)


def ball(pen: Pen, rng: np.random.Generator) -> None:
    """A football, a basketball, a beach ball or a tennis ball."""
    colours, radius = pen.palette, rng.uniform(0.68, 0.85)
    pen.fill(arc(0, 0, radius, radius), colours.base)
    kind = rng.integers(4)
    if kind == 0:
        for angle in np.arange(5) * 72.0:
            spot = arc(*_polar(angle, radius * 0.68), radius * 0.22, radius * 0.22)[::8]
            pen.fill(spot, INK)
        pen.fill(arc(0, 0, radius * 0.26, radius * 0.26)[::8], INK)
    elif kind == 1:
        pen.stroke(shape((-radius, 0), (radius, 0)), 0.045, INK)
        pen.stroke(shape((0, -radius), (0, radius)), 0.045, INK)
        pen.stroke(arc(-radius * 1.15, 0, radius * 0.75, radius * 0.8, (-55, 55)), 0.045, INK)
        pen.stroke(arc(radius * 1.15, 0, radius * 0.75, radius * 0.8, (125, 235)), 0.045, INK)
    elif kind == 2:
        for start in (0.0, 120.0, 240.0):
            sector = np.vstack([arc(0, 0, radius, radius, (start, start + 60)), shape((0.0, 0.0))])
            pen.fill(sector, colours.accent)
        pen.fill(arc(0, 0, 0.12, 0.12), PAPER)
    else:
        pen.stroke(arc(-radius * 1.2, 0, radius, radius * 0.95, (-48, 48)), 0.08, colours.light)
        pen.stroke(arc(radius * 1.2, 0, radius, radius * 0.95, (132, 228)), 0.08, colours.light)


def book(pen: Pen, rng: np.random.Generator) -> None:
    """A closed book seen a little from the side, or an open one."""
    colours = pen.palette
    if rng.random() < 0.35:
        wide, high, sag = rng.uniform(0.75, 0.95), rng.uniform(0.45, 0.65), rng.uniform(0.05, 0.18)
        pen.fill(shape((-wide, -high), (wide, -high), (wide, high + 0.06), (-wide, high + 0.06)), colours.base)
        for side in (-1, 1):
            page = shape((0, sag - high), (side * wide * 0.95, -high), (side * wide * 0.95, high), (0, high + sag))
            pen.fill(page, shade(PAPER, 1.0 if side < 0 else 0.92))
            for row in np.linspace(-high * 0.6, high * 0.75, 6):
                pen.stroke(shape((side * 0.15, row + sag * 0.6), (side * wide * 0.8, row)), 0.035, STEEL)
        pen.stroke(shape((0, sag - high), (0, high + sag)), 0.03, INK)
        return
    wide, high, deep = rng.uniform(0.5, 0.65), rng.uniform(0.7, 0.85), rng.uniform(0.08, 0.25)
    pen.fill(shape((wide, -high), (wide + deep, deep - high), (wide + deep, high + deep), (wide, high)), PAPER)
    pen.fill(
        shape((-wide, high), (wide, high), (wide + deep, high + deep), (deep - wide, high + deep)), shade(PAPER, 0.8)
    )
    pen.fill(box(0, 0, 2 * wide, 2 * high), colours.base)
    pen.fill(box(-wide * 0.87, 0, wide * 0.26, 2 * high), colours.dark)
    for line in range(int(rng.integers(1, 4))):
        pen.fill(box(wide * 0.13, -high * 0.55 + line * 0.2, wide * rng.uniform(0.8, 1.3), 0.1), colours.accent)
    if rng.random() < 0.5:
        pen.fill(box(wide * 0.13, high * 0.4, wide * rng.uniform(0.5, 1.2), high * 0.5), colours.light)


def bottle(pen: Pen, rng: np.random.Generator) -> None:
    """A wine, water or shampoo bottle with a cap and mostly a label."""
    colours = pen.palette
    body, neck = rng.uniform(0.24, 0.42), rng.uniform(0.09, 0.15)
    shoulder, lip = rng.uniform(-0.4, -0.05), rng.uniform(-0.85, -0.7)
    side = [(neck, lip), (neck, shoulder - 0.18), (body, shoulder + 0.08), (body, 0.84), (body * 0.9, 0.92)]
    pen.fill(shape(*side, *((-x, y) for x, y in reversed(side))), colours.base)
    pen.fill(box(0, lip - 0.04, neck * 2.5, rng.uniform(0.14, 0.26)), colours.accent)
    if rng.random() < 0.75:
        pen.fill(box(0, rng.uniform(0.3, 0.5), body * 2, rng.uniform(0.3, 0.6)), mix(colours.light, PAPER, 0.6))
        pen.fill(box(0, 0.4, body * 1.2, 0.1), colours.dark)
    pen.stroke(shape((-body * 0.7, shoulder + 0.2), (-body * 0.7, 0.75)), 0.06, colours.light)


def chair(pen: Pen, rng: np.random.Generator) -> None:
    """A chair seen from the front corner: four legs, a seat, a back of slats, a panel or a cushion."""
    colours = pen.palette
    wide, seat = rng.uniform(0.42, 0.58), rng.uniform(0.0, 0.2)
    skew, deep, leg = rng.uniform(0.1, 0.25), rng.uniform(0.18, 0.3), rng.uniform(0.06, 0.11)
    back = rng.uniform(-0.9, -0.7)
    for x, y, foot in ((-wide + skew, seat - deep, 0.7), (wide + skew, seat - deep, 0.7)):
        pen.stroke(shape((x, y), (x, foot)), leg, colours.dark)
    kind = rng.integers(3)
    if kind == 0:
        for x in np.linspace(-wide, wide, int(rng.integers(3, 6))):
            pen.stroke(shape((x + skew, back), (x + skew, seat - deep)), 0.07, colours.base)
        pen.stroke(shape((-wide + skew, back), (wide + skew, back)), 0.14, colours.base)
    elif kind == 1:
        pen.fill(box(skew, (back + seat - deep) / 2, 2 * wide, seat - deep - back), colours.base)
        pen.fill(box(skew, (back + seat - deep) / 2, 1.5 * wide, (seat - deep - back) * 0.7), colours.accent)
    else:
        top = back + 0.35
        pen.fill(
            np.vstack([arc(skew, top, wide, 0.35, (180, 360)), shape((wide + skew, seat), (skew - wide, seat))]),
            colours.base,
        )
        pen.fill(arc(skew, top + 0.05, wide * 0.45, 0.2), colours.dark)
    pen.fill(shape((-wide + skew, seat - deep), (wide + skew, seat - deep), (wide, seat), (-wide, seat)), colours.light)
    pen.fill(box(0, seat + 0.04, 2 * wide, 0.09), colours.base)
    for x in (-wide + leg / 2, wide - leg / 2):
        pen.stroke(shape((x, seat + 0.06), (x + rng.uniform(-0.06, 0.06), 0.9)), leg, colours.base)


def lamp(pen: Pen, rng: np.random.Generator) -> None:
    """A table lamp, a floor lamp or a bent desk lamp."""
    colours = pen.palette
    foot = rng.uniform(0.22, 0.42)
    if rng.random() < 0.35:
        elbow, head = (
            (rng.uniform(-0.5, -0.3), rng.uniform(-0.25, 0.05)),
            (rng.uniform(0.1, 0.3), rng.uniform(-0.75, -0.55)),
        )
        pen.stroke(shape((-0.1, 0.82), elbow, head), 0.07, STEEL)
        x, y = head
        pen.fill(
            shape((x - 0.12, y - 0.1), (x + 0.12, y - 0.16), (x + 0.52, y + 0.32), (x - 0.1, y + 0.5)), colours.base
        )
        pen.stroke(shape((x + 0.52, y + 0.32), (x - 0.1, y + 0.5)), 0.08, mix(colours.light, (255, 244, 200), 0.7))
        pen.fill(arc(-0.1, 0.84, foot, 0.1), colours.dark)
        return
    top, rim = rng.uniform(0.15, 0.4), rng.uniform(0.42, 0.65)
    under, stem = rng.uniform(-0.25, 0.0), rng.uniform(0.04, 0.09)
    pen.stroke(shape((0, under), (0, 0.84)), stem, colours.accent)
    if rng.random() < 0.5:
        pen.fill(
            smooth((-0.07, under), (0.07, under), (foot * 0.8, 0.6), (0.1, 0.84), (-0.1, 0.84), (-foot * 0.8, 0.6)),
            colours.accent,
        )
    pen.fill(arc(0, 0.84, foot, 0.08), colours.dark)
    pen.fill(shape((-top, -0.88), (top, -0.88), (rim, under), (-rim, under)), colours.base)
    pen.stroke(shape((-rim, under), (rim, under)), 0.06, colours.light)


def mug(pen: Pen, rng: np.random.Generator) -> None:
    """A cup or mug with a handle at one side, seen a little from above."""
    colours = pen.palette
    wide, high = rng.uniform(0.42, 0.6), rng.uniform(0.45, 0.75)
    base, mouth = wide * rng.uniform(0.65, 1.0), rng.uniform(0.08, 0.2)
    grip = rng.uniform(0.22, 0.36)
    pen.stroke(arc(wide * 0.92, 0, grip, high * 0.55, (-95, 95)), rng.uniform(0.09, 0.15), colours.dark)
    bottom = arc(0, high, base, mouth * 0.8, (0, 180))
    pen.fill(np.vstack([shape((-wide, -high), (wide, -high)), bottom]), colours.base)
    pen.fill(arc(0, -high, wide, mouth), colours.light)
    pen.fill(arc(0, -high, wide * 0.87, mouth * 0.75), mix(INK, colours.dark, rng.uniform(0.2, 0.8)))
    kind = rng.integers(3)
    if kind == 0:
        pen.fill(box(0, 0.1, wide * 1.75, rng.uniform(0.12, 0.4)), colours.accent)
    elif kind == 1:
        pen.fill(arc(0, 0.1, 0.22, 0.22), colours.accent)


def shoe(pen: Pen, rng: np.random.Generator) -> None:
    """A sneaker, an ankle boot or a heeled shoe from the side, the toe to the right."""
    colours = pen.palette
    kind = rng.integers(3)
    if kind == 2:
        heel = rng.uniform(0.3, 0.55)
        pen.fill(shape((-0.85, 0.0), (-0.6, 0.0), (-0.68, heel), (-0.8, heel)), colours.dark)
        upper = smooth(
            (-0.88, -0.3),
            (-0.6, -0.05),
            (-0.1, 0.05),
            (0.3, heel - 0.25),
            (0.85, heel - 0.12),
            (0.85, heel),
            (0.3, heel),
            (-0.4, 0.2),
            (-0.85, 0.1),
        )
        pen.fill(upper, colours.base)
        pen.fill(smooth((-0.7, -0.12), (-0.2, 0.02), (0.25, heel - 0.2), (-0.25, 0.12)), mix(INK, colours.dark, 0.4))
        return
    ankle = rng.uniform(-0.35, -0.2) if kind == 0 else rng.uniform(-0.85, -0.6)
    toe = rng.uniform(0.05, 0.2)
    upper = smooth(
        (-0.8, ankle),
        (-0.2, ankle),
        (-0.02, min(ankle + 0.2, -0.1)),
        (0.4, toe - 0.12),
        (0.85, toe + 0.1),
        (0.88, 0.4),
        (-0.82, 0.4),
        (-0.86, 0.0),
    )
    pen.fill(upper, colours.base)
    pen.fill(arc(-0.5, ankle, 0.3, 0.07), mix(INK, colours.dark, 0.4))
    pen.fill(shape((-0.9, 0.36), (0.92, 0.36), (0.95, 0.52), (-0.9, 0.52)), mix(colours.light, PAPER, 0.5))
    for step in range(4):
        x, y = -0.05 + step * 0.12, -0.12 + step * 0.06
        pen.stroke(shape((x, y), (x - 0.14, y + 0.12)), 0.04, PAPER)
    if rng.random() < 0.6:
        pen.stroke(shape((-0.55, 0.28), (-0.2, 0.05), (0.1, 0.28)), 0.08, colours.accent)


def tshirt(pen: Pen, rng: np.random.Generator) -> None:
    """A shirt laid flat, with short or long sleeves, a round or a V neck and sometimes a print."""
    colours = pen.palette
    wide, shoulder = rng.uniform(0.42, 0.56), rng.uniform(0.42, 0.52)
    reach, drop = rng.uniform(0.78, 0.95), rng.uniform(-0.25, 0.0) if rng.random() < 0.7 else rng.uniform(0.35, 0.6)
    neck = rng.uniform(0.16, 0.24)
    hem = rng.uniform(0.75, 0.9)
    for side in (-1, 1):
        sleeve = shape(
            (side * shoulder, -0.75),
            (side * reach, drop - 0.12),
            (side * (reach - 0.24), drop + 0.02),
            (side * wide, -0.3),
        )
        pen.fill(sleeve, shade(colours.base, 0.85))
    pen.fill(
        shape(
            (-shoulder, -0.75),
            (-neck, -0.82),
            (neck, -0.82),
            (shoulder, -0.75),
            (wide, -0.2),
            (wide, hem),
            (-wide, hem),
            (-wide, -0.2),
        ),
        colours.base,
    )
    if rng.random() < 0.6:
        pen.fill(arc(0, -0.82, neck, neck, (0, 180)), colours.dark)
    else:
        pen.fill(shape((-neck, -0.83), (neck, -0.83), (0, -0.83 + 2 * neck)), colours.dark)
    kind = rng.integers(4)
    if kind == 0:
        pen.fill(arc(0, -0.1, 0.24, 0.24), colours.accent)
    elif kind == 1:
        for y in np.arange(-0.35, hem - 0.1, 0.26):
            pen.fill(box(0, y, 2 * wide, 0.1), colours.accent)
    elif kind == 2:
        pen.fill(box(0, -0.05, rng.uniform(0.3, 0.6), rng.uniform(0.2, 0.5)), colours.accent)


def watch(pen: Pen, rng: np.random.Generator) -> None:
    """A wrist watch laid flat: a strap through a round or square case, with hands or a display."""
    colours, strap = pen.palette, rng.uniform(0.18, 0.28)
    size = rng.uniform(0.38, 0.52)
    length = rng.uniform(0.85, 1.0)
    pen.fill(
        shape(
            (-strap * 0.75, -length),
            (strap * 0.75, -length),
            (strap, 0),
            (strap * 0.75, length),
            (-strap * 0.75, length),
            (-strap, 0),
        ),
        colours.base,
    )
    for y in np.arange(0.6, length - 0.05, 0.1):
        pen.fill(arc(0, y, 0.03, 0.03), colours.dark)
    metal = STEEL if rng.random() < 0.5 else colours.accent
    pen.fill(box(size, 0, 0.16, 0.12), metal)
    dial = PAPER if rng.random() < 0.5 else INK
    hand = INK if dial == PAPER else PAPER
    if rng.random() < 0.65:
        pen.fill(arc(0, 0, size, size), metal)
        pen.fill(arc(0, 0, size * 0.82, size * 0.82), dial)
        for angle in np.arange(12) * 30.0:
            pen.fill(arc(*_polar(angle, size * 0.7), 0.025, 0.025), hand)
        for reach in (0.42, 0.6):
            pen.stroke(np.vstack([shape((0, 0)), shape(_polar(rng.uniform(0, 360), size * reach))]), 0.045, hand)
    else:
        pen.fill(box(0, 0, size * 1.7, size * 1.9), metal)
        pen.fill(box(0, 0, size * 1.4, size * 1.6), dial)
        pen.fill(box(0, -size * 0.2, size * 0.9, size * 0.35), hand)
        pen.fill(box(0, size * 0.4, size * 0.6, size * 0.15), colours.light)


def _polar(degrees: float, radius: float) -> tuple[float, float]:
    """The point at an angle (clockwise from the right) and a distance from the middle."""
    return radius * float(np.cos(np.radians(degrees))), radius * float(np.sin(np.radians(degrees)))


PRODUCTS: dict[str, Draw] = {
    "bag": bag,
    "ball": ball,
    "book": book,
    "bottle": bottle,
    "chair": chair,
    "lamp": lamp,
    "mug": mug,
    "shoe": shoe,
    "t-shirt": tshirt,
    "watch": watch,
}
CATEGORIES: tuple[str, ...] = tuple(PRODUCTS)
"""The category names in the classifier's output order."""
