"""Design rules, looked at on the raster of every step: what a shop could not write, how often, how bad and where.

A width is that of a row or a column of drawn pixels, a gap that of pixels between two drawn ones; what is equal in
neighbouring rows is one place. Beside the masks of an etched plate nothing is drawn, beside those of chrome all is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from scipy import ndimage

from fouroptics import units
from fouroptics.errors import InputError
from fouroptics.masks import etch
from fouroptics.masks.limits import Limits
from fouroptics.masks.maskset import MaskSet
from fouroptics.masks.plane import Plane
from fouroptics.masks.runs import merged, runs

MENDED = ("width in x", "width in y", "gap in x", "gap in y", "corners", "islands", "holes")
_SHOWN = 10  # places of a rule that are told
_ROUNDING = 1e-6  # of a pixel


@dataclass(frozen=True)
class Finding:
    """What breaks one rule on one layer.

    Args:
        rule: its name.
        layer: of the layout; 0 for what concerns all.
        count: of places.
        worst: of what was found, in ``unit``.
        limit: that it should keep.
        unit: of both.
        places: the first of them: tile, row and column of their first pixel.
    """

    rule: str
    layer: int
    count: int
    worst: float
    limit: float
    unit: str
    places: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """Everything found; nothing where all rules are kept."""

    limits: Limits
    findings: tuple[Finding, ...]
    pitch: tuple[float, float]

    @property
    def data(self) -> dict[str, Any]:
        """For programs: places in pixels and in metres from the mask's upper left corner."""
        found = [
            asdict(one) | {"places_m": [[r * self.pitch[0], c * self.pitch[1]] for _, r, c in one.places]}
            for one in self.findings
        ]
        return {"ok": not found, "limits": self.limits.to_dict(), "findings": found}

    def __str__(self) -> str:
        if not self.findings:
            return "every design rule is kept"
        rows = ["rule          layer    count  worst         limit         first places (tile: row, column)"]
        for one in self.findings:
            told = (one.worst, one.limit) if one.rule != "corners" else ("", "")
            worst, limit = (_shown(value, one.unit) for value in told)
            places = "  ".join(f"{tile}: {row}, {column}" for tile, row, column in one.places[:3])
            rows.append(
                f"{one.rule:<13} {one.layer or '-':>5} {one.count:>8}  {worst:<13} {limit:<13} {places}".rstrip()
            )
        return "\n".join(rows)


def check(masks: MaskSet, limits: Limits | None = None) -> Report:
    """Look at every step of every mask of a plate.

    Raises:
        InputError: masks that are shown, not written.
    """
    limits, plane = limits or Limits(), masks.alone
    require_drawn(plane)
    found: list[Finding] = []
    for step in etch.steps(plane):
        on_layer: list[Finding] = []
        for tile in range(plane.levels.shape[0]):
            mask = etch.drawn(plane, np.asarray(plane.levels[tile]), step)
            on_layer += on_raster(mask, plane.pitch, limits, tile, outside=etch.is_surrounded(plane))
            on_layer += _aspect(mask, plane, step, limits, tile)
        found += [replace(one, layer=step.layer) for one in _together(on_layer)]
    found += [*_snap(plane, limits), *_extent(plane, limits), *_apart(plane, limits)]
    return Report(limits, tuple(found), plane.pitch)


def require_drawn(plane: Plane) -> None:
    if plane.kind not in (etch.ETCHED, etch.CHROME):
        what = f"a {plane.kind} mask is not drawn, so no design rule holds for it"
        raise InputError(what, where="masks", mend="etched plates and chrome are drawn")


def on_raster(
    mask: np.ndarray, pitch: tuple[float, float], limits: Limits, tile: int = 0, *, outside: bool = False
) -> Iterator[Finding]:
    """What breaks the rules on a raster of drawn pixels; beside it all is drawn (``outside``), or nothing."""
    lines, gaps = limits.pixels(pitch)
    for name, raster, least, limit in (
        ("width", mask, lines, limits.min_feature),
        ("gap", ~mask, gaps, limits.min_gap),
    ):
        for axis, along in ((1, "x"), (0, "y")):
            found = narrow(raster, least[axis], axis, free=outside == (name == "width"))
            if len(found):
                worst = float((found[:, 2 + axis] - found[:, axis]).min()) * pitch[axis]
                yield _finding(f"{name} in {along}", tile, found[:, :2], worst, limit, "m")
    if limits.corners and len(places := np.argwhere(kisses(mask))):
        yield _finding("corners", tile, places + 1, 0.0, 0.0, "m")
    if limits.min_area > 0:
        for name, raster in (("islands", mask), ("holes", ~mask)):
            places, areas = small(raster, limits.min_area / (pitch[0] * pitch[1]), free=outside == (name == "islands"))
            if len(places):
                worst = float(areas.min()) * pitch[0] * pitch[1]
                yield _finding(name, tile, places, worst, limits.min_area, "m^2")
    share = float(mask.mean())
    if share < limits.min_fill:
        yield Finding("fill below", 0, 1, share, limits.min_fill, "1", [(tile, 0, 0)])
    if share > limits.max_fill:
        yield Finding("fill above", 0, 1, share, limits.max_fill, "1", [(tile, 0, 0)])


def narrow(raster: np.ndarray, least: int, axis: int, *, free: bool) -> np.ndarray:
    """Rectangles ``[R, 4]`` of true pixels that are shorter than ``least`` along an axis.

    Args:
        raster: of pixels.
        least: pixels.
        axis: 1 for x, 0 for y.
        free: what touches the raster's border goes on beyond it, and is not short.
    """
    if least <= 1:
        return np.zeros((0, 4), np.int64)
    seen = raster if axis == 1 else raster.T
    found = runs(seen)
    short = found.length < least
    if free:
        short &= (found.first > 0) & (found.last < seen.shape[1])
    boxes = merged(found.which(short))
    boxes = boxes if axis == 1 else boxes[:, [1, 0, 3, 2]]
    return boxes[np.lexsort((boxes[:, 1], boxes[:, 0]))]


def kisses(mask: np.ndarray) -> np.ndarray:
    """Where two drawn pixels touch by a corner alone ``[y - 1, x - 1]``: the corner below and right of a pixel."""
    a, b, c, d = mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1], mask[1:, 1:]
    touching: np.ndarray = (a == d) & (b == c) & (a != b)
    return touching


def small_parts(raster: np.ndarray, least: float, *, free: bool) -> tuple[np.ndarray, np.ndarray]:
    """Number of the connected part that each pixel is of, and which numbers are smaller than ``least`` pixels.

    Sides connect, corners do not; with ``free`` a part at the raster's border goes on beyond it, and is not small.
    """
    labels, count = ndimage.label(raster)
    chosen = np.bincount(labels.ravel(), minlength=count + 1) < least - _ROUNDING
    chosen[0] = False
    if free:
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            chosen[edge] = False
    return labels, chosen


def small(raster: np.ndarray, least: float, *, free: bool) -> tuple[np.ndarray, np.ndarray]:
    """First pixels and areas in pixels of the small parts, from the top."""
    labels, chosen = small_parts(raster, least, free=free)
    flat = labels.ravel()
    first = np.zeros(len(chosen), np.int64)
    first[flat[::-1]] = np.arange(flat.size)[::-1]  # of equal indices the last, the smallest place, stays
    parts = np.flatnonzero(chosen)
    parts = parts[np.argsort(first[parts])]
    areas = np.bincount(flat, minlength=len(chosen))[parts]
    return np.stack(np.divmod(first[parts], raster.shape[1]), 1), areas


def _finding(rule: str, tile: int, places: np.ndarray, worst: float, limit: float, unit: str) -> Finding:
    first = [(tile, int(row), int(column)) for row, column in places[:_SHOWN]]
    return Finding(rule, 0, len(places), worst, limit, unit, first)


def _together(found: list[Finding]) -> list[Finding]:
    """Of each rule all tiles as one."""
    joined: dict[str, Finding] = {}
    for one in found:
        before = joined.get(one.rule)
        if before is None:
            joined[one.rule] = one
            continue
        worse: Callable[..., float] = max if one.worst > one.limit else min
        joined[one.rule] = replace(
            before,
            count=before.count + one.count,
            worst=worse(before.worst, one.worst),
            places=[*before.places, *one.places][:_SHOWN],
        )
    return [*joined.values()]


def _aspect(mask: np.ndarray, plane: Plane, step: etch.Step, limits: Limits, tile: int) -> Iterator[Finding]:
    """An etch is deep for the narrowest line or gap of its layer."""
    if not math.isfinite(limits.max_aspect) or not step.depth:
        return
    sides = []
    for raster, free in ((mask, False), (~mask, True)):
        for seen, pitch in ((raster, plane.pitch[1]), (raster.T, plane.pitch[0])):
            found = runs(seen)
            bounded = (found.first > 0) & (found.last < seen.shape[1]) | (not free)
            sides.append(found.length[bounded].min(initial=seen.shape[1]) * pitch)
    deep = step.depth / float(min(sides))
    if deep > limits.max_aspect * (1 + 1e-9):
        yield Finding("aspect", 0, 1, deep, limits.max_aspect, "1", [(tile, 0, 0)])


def _snap(plane: Plane, limits: Limits) -> Iterator[Finding]:
    """Edges that move by more than they may when they are put on the writer's grid."""
    for axis, name in ((1, "snap in x"), (0, "snap in y")):
        count, pitch = plane.levels.shape[1 + axis], plane.pitch[axis]
        edges = (np.arange(count + 1) - count / 2) * pitch + plane.origin[:, axis][:, None]
        off = np.abs(np.rint(edges / limits.grid) * limits.grid - edges)
        tile, which = np.nonzero(off > limits.max_snap * pitch + 1e-15)
        if len(tile):
            places = [(int(t), 0, int(e)) if axis else (int(t), int(e), 0) for t, e in zip(tile, which, strict=True)]
            yield Finding(name, 0, len(tile), float(off.max()), limits.max_snap * pitch, "m", places[:_SHOWN])


def _extent(plane: Plane, limits: Limits) -> Iterator[Finding]:
    size = np.array(plane.levels.shape[1:]) * plane.pitch + np.ptp(plane.origin, axis=0)
    if size.max() > limits.max_extent * (1 + 1e-9):
        yield Finding("extent", 0, 1, float(size.max()), limits.max_extent, "m")


def _apart(plane: Plane, limits: Limits) -> Iterator[Finding]:
    """Masks that stand nearer to each other than a gap may be, or of chrome a line; those that touch are one."""
    least = limits.min_feature if etch.is_surrounded(plane) else limits.min_gap
    size = np.array(plane.levels.shape[1:]) * plane.pitch
    near = []
    for tile in range(len(plane.origin) - 1):
        apart = (np.abs(plane.origin[tile + 1 :] - plane.origin[tile]) - size).max(1)
        near += [(tile, float(one)) for one in apart[(apart < least - 1e-12) & (np.abs(apart) > 1e-12)]]
    if near:
        places = [(tile, 0, 0) for tile, _ in near[:_SHOWN]]
        yield Finding("masks apart", 0, len(near), min(one for _, one in near), least, "m", places)


def _shown(value: float | str, unit: str) -> str:
    if isinstance(value, str):
        return value
    kinds = {"m": "length", "m^2": "area", "1": "ratio"}
    return units.show(value, kinds[unit]) if math.isfinite(value) else str(value)
