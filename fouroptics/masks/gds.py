"""Masks as layouts that foundries take: GDSII and OASIS, one layer an etch step, rectangles of equal pixels.

Step m of an etch (see ``etch``) is drawn on layer m + 1, chrome on layer 1. Rows of a mask run down from the top, y of
a layout runs up: a layout viewed as it is drawn is the mask viewed from the source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fouroptics.errors import InputError
from fouroptics.masks import gdsii
from fouroptics.masks.etch import CHROME, ETCHED, drawn, steps
from fouroptics.masks.maskset import MaskSet, Plane

DBU = 1e-9  # database unit [m]
FIDUCIALS, FRAME = 100, 110  # layers
_MOST_UNITS = 2**31 - 1
_MOST_TILES = 8192


def rectangles(mask: np.ndarray) -> np.ndarray:
    """A cover of true pixels by rectangles that do not overlap: runs of a row, and equal runs below each other as one.

    Returns:
        ``[R, 4]``: first row, first column, and the row and column behind the last.
    """
    padded = np.pad(mask.astype(np.int8), ((0, 0), (1, 1)))
    change = np.diff(padded, axis=1)
    rows, first = np.nonzero(change == 1)
    last = np.nonzero(change == -1)[1]
    order = np.lexsort((rows, last, first))
    rows, first, last = rows[order], first[order], last[order]
    follows = (rows[1:] == rows[:-1] + 1) & (first[1:] == first[:-1]) & (last[1:] == last[:-1])
    begins = np.flatnonzero(np.concatenate(([True], ~follows))) if len(rows) else np.zeros(0, int)
    ends = np.concatenate((begins[1:], [len(rows)])) - 1 if len(rows) else begins
    return np.stack((rows[begins], first[begins], rows[ends] + 1, last[begins]), 1)


def edges(count: int, pitch: float, middle: float) -> np.ndarray:
    """Edges of pixels in database units, each snapped by itself: widths never add up their rounding."""
    snapped: np.ndarray = np.rint(((np.arange(count + 1) - count / 2) * pitch + middle) / DBU).astype(np.int64)
    return snapped


def write(masks: MaskSet, folder: Path, name: str = "masks") -> dict[str, Any]:
    """Write ``name.gds`` and ``name.oas``; what a foundry is told of them."""
    plane = masks.planes[0]
    _require(plane)
    import gdstk

    tiles, rows, columns = plane.levels.shape
    told = [*steps(plane)]
    cells: dict[str, gdsii.Boxes] = {}
    for tile in range(tiles):
        levels = np.asarray(plane.levels[tile])
        x = edges(columns, plane.pitch[1], float(plane.origin[tile, 1]))
        y = -edges(rows, plane.pitch[0], float(plane.origin[tile, 0]))
        cells[f"TILE{tile:04d}"] = [(step.layer, _placed(drawn(plane, levels, step), x, y)) for step in told]
    count = sum(len(boxes) for cell in cells.values() for _, boxes in cell)
    box = _box(plane)
    cells["MARKS"] = [(FIDUCIALS, _fiducials(box)), (FRAME, _frame(box))]
    gdsii.write(folder / f"{name}.gds", DBU, cells, "PLATE")
    gdstk.read_gds(folder / f"{name}.gds").write_oas(folder / f"{name}.oas", validation="crc32")
    return {
        "kind": plane.kind,
        "database_unit_m": DBU,
        "layers": {str(step.layer): {"what": step.what, "depth_m": step.depth} for step in told}
        | {str(FIDUCIALS): {"what": "fiducial crosses"}, str(FRAME): {"what": "frame of the masks"}},
        "drawn": "chrome" if plane.kind == CHROME else "etched",
        "outside": "glass without chrome" if plane.kind == CHROME else "not etched, as high as the highest level",
        "fill_factor": plane.fill_factor,
        "gaps": "none" if plane.fill_factor == 1 else "not drawn: pixels are as wide as their pitch",
        "rectangles": count,
        "tiles": tiles,
        "bounding_box_m": [*box],
        "orientation": "x right, y up, as seen from the source; nothing is mirrored; the mask's row 0 is at the top",
        "pixel_pitch_m": [*plane.pitch],
    }


def _placed(mask: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rectangles of a mask between its pixels' edges: left, bottom, right, top."""
    found = rectangles(mask)
    return np.stack((x[found[:, 1]], y[found[:, 2]], x[found[:, 3]], y[found[:, 0]]), 1)


def _require(plane: Plane) -> None:
    if plane.kind not in (ETCHED, CHROME):
        mend = "--process slm or dmd writes frames"
        raise InputError(f"a {plane.kind} mask is not drawn as a layout", where="process", mend=mend)
    if int(plane.frame.max()) > 0:
        what = f"{int(plane.frame.max()) + 1} frames, and what is etched does not change"
        raise InputError(what, where="masks", mend='layout.outputs = "tiled" or "lenslet"')
    if plane.levels.shape[0] > _MOST_TILES:
        what = f"{plane.levels.shape[0]} tiles, a layout holds {_MOST_TILES}"
        raise InputError(what, where="masks", mend="export fewer outputs at a time")
    reach = max(abs(side) for side in _box(plane)) / DBU
    if reach > _MOST_UNITS:
        what = f"the plate reaches {reach:.4g} database units, and a file holds {_MOST_UNITS}"
        raise InputError(what, where="masks", mend="a smaller plate")
    if min(plane.pitch) < 2 * DBU:
        raise InputError(f"pixels of {min(plane.pitch) / DBU:.3g} database units", where="masks", mend="larger pixels")


def _box(plane: Plane) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of all tiles [m], y up."""
    _, rows, columns = plane.levels.shape
    half = rows * plane.pitch[0] / 2, columns * plane.pitch[1] / 2
    y, x = plane.origin[:, 0], plane.origin[:, 1]
    return (
        float(x.min() - half[1]),
        float(-y.max() - half[0]),
        float(x.max() + half[1]),
        float(-y.min() + half[0]),
    )


def _fiducials(box: tuple[float, float, float, float]) -> np.ndarray:
    """Crosses beside the corners; the upper left one is doubled, so that a turned plate is known."""
    left, bottom, right, top = box
    away, arm, half = 200e-6, 50e-6, 5e-6
    places = [(left - away, top + away), (right + away, top + away), (left - away, bottom - away)]
    places += [(right + away, bottom - away), (left - away - 3 * arm, top + away)]
    bars = ((-arm, -half, arm, half), (-half, half, half, arm), (-half, -arm, half, -half))
    return _in_units([(x + a, y + b, x + c, y + d) for x, y in places for a, b, c, d in bars])


def _frame(box: tuple[float, float, float, float]) -> np.ndarray:
    """Four bars round the masks."""
    left, bottom, right, top = box
    gap, wide = 50e-6, 10e-6
    in_left, in_bottom, in_right, in_top = left - gap, bottom - gap, right + gap, top + gap
    out_left, out_bottom, out_right, out_top = in_left - wide, in_bottom - wide, in_right + wide, in_top + wide
    return _in_units(
        [
            (out_left, out_bottom, out_right, in_bottom),
            (out_left, in_top, out_right, out_top),
            (out_left, in_bottom, in_left, in_top),
            (in_right, in_bottom, out_right, in_top),
        ]
    )


def _in_units(boxes: list[tuple[float, float, float, float]]) -> np.ndarray:
    units: np.ndarray = np.rint(np.array(boxes) / DBU).astype(np.int64)
    return units
