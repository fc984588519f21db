"""Masks as layouts that foundries take: GDSII and OASIS, one layer an etch step, rectangles of equal pixels.

Step m of an etch (see ``etch``) is drawn on layer m + 1, chrome on layer 1. Rows of a mask run down from the top, y of
a layout runs up: a layout viewed as it is drawn is the mask viewed from the source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fouroptics.errors import InputError
from fouroptics.files import write_whole
from fouroptics.masks import gdsii, marks
from fouroptics.masks.etch import CHROME, ETCHED, Step, drawn, require_ordered, steps
from fouroptics.masks.limits import Limits
from fouroptics.masks.marks import Box
from fouroptics.masks.maskset import MaskSet
from fouroptics.masks.plane import Plane
from fouroptics.masks.runs import rectangles
from fouroptics.units import show

DBU = 1e-9  # database unit [m]
_MOST_UNITS = 2**31 - 1
_MOST_TILES = 8190  # of the 8192 references that a layout should have
_MOST_OASIS = 2**23  # rectangles up to which an OASIS is made of the GDSII


def edges(count: int, pitch: float, middle: float, grid: float = DBU) -> np.ndarray:
    """Edges of pixels in database units on a writer's grid, each by itself: widths never add up their rounding."""
    exact = (np.arange(count + 1) - count / 2) * pitch + middle
    snapped: np.ndarray = np.rint(exact / grid).astype(np.int64) * round(grid / DBU)
    return snapped


def write(masks: MaskSet, folder: Path, name: str = "masks", *, limits: Limits | None = None) -> dict[str, Any]:
    """Write ``name.gds``, ``name.oas`` and ``layers.csv``; what a foundry is told of them.

    Args:
        masks: of a plate.
        folder: to write to.
        name: of the files.
        limits: of the shop; left out: the set's own. Edges of pixels are laid on its writer's grid, and marks are as
            wide as it asks.
    """
    limits = limits or masks.rules or Limits()
    grid = limits.grid
    plane = masks.alone
    _require_drawn(masks, grid)
    masks.plate()  # tiles stand on the panel, and not on each other
    box = marks.around(plane, masks.bench.mask.extent)
    told, beside = [*steps(plane)], _marks(masks, box, max(limits.min_feature, limits.min_gap))
    _require(plane, beside)
    count: Counter[int] = Counter()
    gdsii.write(folder / f"{name}.gds", DBU, _cells(masks, beside, count, grid), "PLATE")
    total = sum(count.values())
    if total <= _MOST_OASIS:
        import gdstk

        gdstk.read_gds(folder / f"{name}.gds").write_oas(folder / f"{name}.oas", validation="crc32")
    layers, deep = _layers(plane), {step.layer: step.depth for step in told if step.depth}
    lines = [
        "layer,datatype,name,what,depth_nm",
        *(f"{n},0,{short},{what},{depth}" for n, short, what, depth in layers),
    ]
    write_whole(folder / "layers.csv", ("\n".join(lines) + "\n").encode())
    return {
        "kind": plane.kind,
        "database_unit_m": DBU,
        "layers": {
            str(n): {"name": short, "what": what, "rectangles": count[n]} | ({"depth_m": deep[n]} if n in deep else {})
            for n, short, what, _ in layers
        },
        "drawn": "chrome" if plane.kind == CHROME else "etched",
        "outside": "chrome as far as the panel reaches and 40 um more, glass beyond"
        if plane.kind == CHROME
        else "not etched, as high as the highest level",
        "rectangles": total,
        "address_grid_m": grid,
        "oasis": "the same, packed" if total <= _MOST_OASIS else f"not made of more than {_MOST_OASIS} rectangles",
        "tiles": plane.levels.shape[0],
        "masks_m": [*marks.hull(plane)],
        "bounding_box_m": [*_hull(beside)],
        "overlay_pairs": [[one.layer, other.layer] for one, other in pairwise(told)],
        "orientation": "x right, y up, as seen from the source; nothing is mirrored; the mask's row 0 is at the top",
        "pixel_pitch_m": [*plane.pitch],
    }


def _layers(plane: Plane) -> list[tuple[int, str, str, str]]:
    """Number, name, what is drawn, and depth [nm] of every layer."""
    found = [(s.layer, f"STEP{s.layer}", s.what, f"{s.depth * 1e9:.2f}" if s.depth else "") for s in steps(plane)]
    return [
        *found,
        (marks.FIDUCIALS, "FIDUCIALS", "crosses to align by", ""),
        (marks.FRAME, "FRAME", "a frame round the masks", ""),
        (marks.LABELS, "LABELS", "text", ""),
    ]


def _cells(masks: MaskSet, beside: marks.Marks, count: Counter[int], grid: float) -> Iterator[tuple[str, gdsii.Boxes]]:
    """A cell a tile, one of what surrounds them, one of the marks; rectangles of steps are counted by layer."""
    plane = masks.alone
    _, rows, columns = plane.levels.shape
    told = [*steps(plane)]
    for tile in range(plane.levels.shape[0]):
        levels = np.asarray(plane.levels[tile])
        x = edges(columns, plane.pitch[1], float(plane.origin[tile, 1]), grid)
        y = -edges(rows, plane.pitch[0], float(plane.origin[tile, 0]), grid)
        yield f"TILE{tile:04d}", _counted((_placed(plane, levels, step, x, y) for step in told), count)
    if plane.kind == CHROME:
        yield "SURROUND", _counted(iter([(1, _surround(masks, grid))]), count)
    yield "MARKS", _counted(((layer, _in_units(boxes)) for layer, boxes in beside), count)


def _placed(plane: Plane, levels: np.ndarray, step: Step, x: np.ndarray, y: np.ndarray) -> tuple[int, np.ndarray]:
    """Rectangles of a step between its pixels' edges: left, bottom, right, top."""
    found = rectangles(drawn(plane, levels, step))
    return step.layer, np.stack((x[found[:, 1]], y[found[:, 2]], x[found[:, 3]], y[found[:, 0]]), 1)


def _counted(parts: gdsii.Boxes, count: Counter[int]) -> gdsii.Boxes:
    for layer, boxes in parts:
        count[layer] += len(boxes)
        yield layer, boxes


def _surround(masks: MaskSet, grid: float) -> np.ndarray:
    """The panel and a little more without its tiles, in rectangles between their edges."""
    plane = masks.alone
    left, bottom, right, top = marks.around(plane, masks.bench.mask.extent)
    size = plane.levels.shape[1:]
    sides = []
    for axis in (0, 1):
        ends = [
            (e[0], e[-1]) for e in (edges(size[axis], plane.pitch[axis], float(o), grid) for o in plane.origin[:, axis])
        ]
        border = np.rint(np.array(((-top, -bottom), (left, right))[axis]) / DBU).astype(np.int64)
        sides.append((np.array(ends), np.unique([*border, *np.ravel(ends)])))
    (down, y), (along, x) = sides
    free = np.ones((len(y) - 1, len(x) - 1), bool)
    for (top, bottom), (left, right) in zip(down, along, strict=True):
        free[
            np.searchsorted(y, top) : np.searchsorted(y, bottom), np.searchsorted(x, left) : np.searchsorted(x, right)
        ] = 0
    found = rectangles(free)
    return np.stack((x[found[:, 1]], -y[found[:, 2]], x[found[:, 3]], -y[found[:, 0]]), 1)


def _marks(masks: MaskSet, box: Box, least: float) -> marks.Marks:
    title = " ".join(masks.title.split()).encode("ascii", "replace").decode()[:40]
    text = f"{title}  set {masks.uuid[:8]}  {show(masks.bench.source.wavelength, 'length')}  seen from the source"
    return marks.beside(box, [step.layer for step in steps(masks.alone)], text, least)


def _require(plane: Plane, beside: marks.Marks) -> None:
    if plane.levels.shape[0] > _MOST_TILES:
        what = f"{plane.levels.shape[0]} tiles, a layout holds {_MOST_TILES}"
        raise InputError(what, where="masks", mend="export fewer outputs at a time")
    reach = max(abs(side) for side in _hull(beside)) / DBU
    if reach > _MOST_UNITS:
        what = f"the plate reaches {reach:.4g} database units, and a file holds {_MOST_UNITS}"
        raise InputError(what, where="masks", mend="a smaller plate")
    if min(plane.pitch) < 2 * DBU:
        raise InputError(f"pixels of {min(plane.pitch) / DBU:.3g} database units", where="masks", mend="larger pixels")


def _require_drawn(masks: MaskSet, grid: float) -> None:
    plane, _mask = masks.alone, masks.bench.mask
    if not round(grid / DBU) >= 1 or abs(grid / DBU - round(grid / DBU)) > 1e-6:
        what = f"addresses of {grid / DBU:.4g} nm, and a layout counts in whole ones"
        raise InputError(what, where="grid", mend='such as "5 nm"')
    if plane.kind not in (ETCHED, CHROME):
        mend = "--process slm, dmd or grey takes it"
        raise InputError(f"a {plane.kind} mask is not drawn as a layout", where="process", mend=mend)
    require_ordered(plane, masks.bench.mask)


def _hull(beside: marks.Marks) -> Box:
    """Round everything: marks stand outermost."""
    left, bottom, right, top = np.concatenate([np.array(boxes) for _, boxes in beside]).T
    return float(left.min()), float(bottom.min()), float(right.max()), float(top.max())


def _in_units(boxes: list[Box]) -> np.ndarray:
    units: np.ndarray = np.rint(np.array(boxes) / DBU).astype(np.int64)
    return units
