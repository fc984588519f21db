"""What stands beside the masks of a plate: crosses to align by, boxes to measure overlay with, a frame, a label.

All in metres on the plate, x to the right and y up, as rectangles ``(left, bottom, right, top)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from fouroptics.masks.etch import CHROME
from fouroptics.masks.plane import Plane
from fouroptics.masks.runs import rectangles

FIDUCIALS, FRAME, LABELS = 100, 110, 120  # layers
CROSS = 100e-6  # side of a cross
BAR = 10e-6  # width of what is drawn
_AWAY = 200e-6
_BOX, _INNER, _APART, _ASIDE = 60e-6, 20e-6, 100e-6, 600e-6  # of overlay marks
_SURROUND = 40e-6  # by which chrome reaches beyond the panel
_LETTER, _SMALL = 10e-6, 2e-6  # pixel of a letter, at most and at least
Box = tuple[float, float, float, float]
Marks = list[tuple[int, list[Box]]]


def around(plane: Plane, extent: tuple[float, float]) -> Box:
    """Round what is drawn: the tiles, and of chrome all the panel, whose ``extent`` is (y, x), and a little more."""
    box = hull(plane)
    if plane.kind != CHROME:
        return box
    half = extent[1] / 2 + _SURROUND, extent[0] / 2 + _SURROUND
    return min(box[0], -half[0]), min(box[1], -half[1]), max(box[2], half[0]), max(box[3], half[1])


def hull(plane: Plane) -> Box:
    """Round all tiles."""
    _, rows, columns = plane.levels.shape
    half = rows * plane.pitch[0] / 2, columns * plane.pitch[1] / 2
    y, x = plane.origin[:, 0], plane.origin[:, 1]
    left, bottom, right, top = x.min() - half[1], -y.max() - half[0], x.max() + half[1], -y.min() + half[0]
    return float(left), float(bottom), float(right), float(top)


def beside(box: Box, layers: Sequence[int], text: str, least: float = 0.0) -> Marks:
    """All marks round the masks, by layer.

    Args:
        box: round the masks and what is drawn about them.
        layers: of the steps, in their order: each has an overlay mark with the one before it.
        text: of the label.
        least: narrowest line and gap that may be drawn on the layers of the steps [m].
    """
    overlay: Marks = []
    scale = max(1.0, least / BAR)
    for number, pair in enumerate(pairwise(layers)):
        for x, y in _overlay_places(box, number, len(layers) - 1, scale):
            overlay += [(pair[0], _ring(x, y, scale)), (pair[1], [_square(x, y, _INNER * scale)])]
    crosses = [bar for x, y in crosses_at(box) for bar in _cross(x, y)]
    below = min(box[1], (box[1] + box[3]) / 2 - len(layers) * _APART * scale / 2) - _AWAY - CROSS
    return [*overlay, (FIDUCIALS, crosses), (FRAME, _frame(box)), (LABELS, _label(box, below, text))]


def crosses_at(box: Box) -> list[tuple[float, float]]:
    """Middles of the crosses at the corners; the upper left one is doubled, so that a turned plate is known."""
    left, bottom, right, top = box
    corners = [(x, y) for y in (top + _AWAY, bottom - _AWAY) for x in (left - _AWAY, right + _AWAY)]
    return [*corners, (left - _AWAY - 1.5 * CROSS, top + _AWAY)]


def _cross(x: float, y: float) -> list[Box]:
    arm, half = CROSS / 2, BAR / 2
    return [
        (x - arm, y - half, x + arm, y + half),
        (x - half, y + half, x + half, y + arm),
        (x - half, y - arm, x + half, y - half),
    ]


def _overlay_places(box: Box, number: int, count: int, scale: float) -> list[tuple[float, float]]:
    y = (box[1] + box[3]) / 2 + ((count - 1) / 2 - number) * _APART * scale
    return [(box[0] - _ASIDE * scale, y), (box[2] + _ASIDE * scale, y)]


def _ring(x: float, y: float, scale: float) -> list[Box]:
    out, inside = _BOX * scale / 2, _BOX * scale / 2 - BAR * scale
    return [
        (x - out, y + inside, x + out, y + out),
        (x - out, y - out, x + out, y - inside),
        (x - out, y - inside, x - inside, y + inside),
        (x + inside, y - inside, x + out, y + inside),
    ]


def _square(x: float, y: float, side: float) -> Box:
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2


def _frame(box: Box) -> list[Box]:
    """Four bars round the masks."""
    gap = 5 * BAR
    left, bottom, right, top = box[0] - gap, box[1] - gap, box[2] + gap, box[3] + gap
    return [
        (left - BAR, bottom - BAR, right + BAR, bottom),
        (left - BAR, top, right + BAR, top + BAR),
        (left - BAR, bottom, left, top),
        (right, bottom, right + BAR, top),
    ]


def _label(box: Box, top: float, text: str) -> list[Box]:
    """A line of letters below the frame, upright as the plate is seen from the source."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default_imagefont()
    _, _, width, height = (int(side) for side in font.getbbox(text))
    image = Image.new("1", (width, height))
    ImageDraw.Draw(image).text((0, 0), text, fill=1, font=font)
    pixel = min(_LETTER, max(_SMALL, (box[2] - box[0]) / width))
    left = box[0]
    found = rectangles(np.asarray(image)) * pixel
    return [(left + x0, top - y1, left + x1, top - y0) for y0, x0, y1, x1 in found.tolist()]
