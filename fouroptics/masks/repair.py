"""Masks brought within design rules, with as few pixels changed as the ways tried here need.

Every step of an etch is a raster of its own, and whatever is drawn on it a level stands for: so each is mended alone.
A raster is mended by drawing more only, or by drawing less only, until nothing is left to mend: both come to an end.
Each is also begun from a raster whose specks are gone; of all the one that changes fewest pixels is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from fouroptics.errors import InputError
from fouroptics.masks import etch, rules
from fouroptics.masks.limits import Limits
from fouroptics.masks.maskset import MaskSet
from fouroptics.masks.rules import Report
from fouroptics.masks.runs import Runs, runs

Pair = tuple[int, int]


@dataclass(frozen=True)
class Repaired:
    """A set within the rules, and what it took.

    Args:
        masks: the mended set; the kernels that it makes are worked out anew.
        before: what broke the rules.
        after: what still does.
        changed: pixels whose level is another one.
    """

    masks: MaskSet
    before: Report
    after: Report
    changed: int


def repaired(masks: MaskSet, limits: Limits) -> Repaired:
    """A set whose widths, gaps, corners, islands and holes keep the rules; the given one is untouched.

    Raises:
        InputError: under these rules a mask would be blank.
    """
    before, plane = rules.check(masks, limits), masks.alone
    levels = np.array(plane.levels[...])
    for tile in range(len(levels)):
        for step in etch.steps(plane):
            mask = etch.drawn(plane, levels[tile], step)
            made = mended(mask, plane.pitch, limits, outside=etch.is_surrounded(plane))
            if made.min() == made.max() and mask.min() != mask.max():
                what = f"tile {tile} would be blank on layer {step.layer}: it has nothing as wide as the rules ask"
                raise InputError(what, where="rules", mend="larger pixels, or an encoding that alternates less")
            levels[tile] = etch.redrawn(plane, levels[tile], step, made)
    changed = int(np.count_nonzero(levels != plane.levels[...]))
    mended_set = replace(masks, planes=(replace(plane, levels=levels),), rules=limits)
    if changed:
        again = MaskSet.from_correlator(mended_set.correlator(), title=masks.title, rules=limits)
        mended_set = replace(
            again, sigmas=masks.sigmas, provenance={**masks.provenance, **again.provenance, "repaired_from": masks.uuid}
        )
    return Repaired(mended_set, before, rules.check(mended_set, limits), changed)


def mended(mask: np.ndarray, pitch: tuple[float, float], limits: Limits, *, outside: bool = False) -> np.ndarray:
    """One raster within the rules that can be mended; beside it all is drawn (``outside``), or nothing."""
    if not _broken(mask, pitch, limits, outside):
        return mask
    ways = [*_ways(mask, pitch, limits, outside)]
    return min(ways, key=lambda way: (_broken(way, pitch, limits, outside), int(np.count_nonzero(way != mask))))


def _broken(mask: np.ndarray, pitch: tuple[float, float], limits: Limits, outside: bool) -> int:
    """How many of the rules that can be mended are broken."""
    return sum(one.rule in rules.MENDED for one in rules.on_raster(mask, pitch, limits, outside=outside))


def _ways(mask: np.ndarray, pitch: tuple[float, float], limits: Limits, outside: bool) -> Iterator[np.ndarray]:
    lines, gaps = limits.pixels(pitch)
    area = limits.min_area / (pitch[0] * pitch[1])
    for begin in (mask, _smoothed(mask), _opened(_opened(mask, lines, outside), gaps, not outside, gaps=True)):
        yield _filled(begin, lines, gaps, area, limits.corners, outside=outside)
        yield ~_filled(~begin, gaps, lines, area, limits.corners, outside=not outside)


def _smoothed(mask: np.ndarray) -> np.ndarray:
    """Each pixel as most of its neighbourhood of 3 × 3."""
    most: np.ndarray = ndimage.uniform_filter(mask.astype(np.float32), 3, mode="nearest") > 0.5
    return most


def _opened(mask: np.ndarray, size: Pair, beside: bool, *, gaps: bool = False) -> np.ndarray:
    """Without what no rectangle of ``size`` fits into: lines, or with ``gaps`` the spaces between them.

    ``beside``: whether those lines, or those spaces, go on beyond the border.
    """
    seen = ~mask if gaps else mask
    room = [(n, n) for n in size]
    padded = np.pad(seen, room, constant_values=beside)
    fits = ndimage.minimum_filter(padded.astype(np.uint8), size)
    kept: np.ndarray = ndimage.maximum_filter(fits, size, origin=[n % 2 - 1 for n in size]).astype(bool)
    kept = kept[size[0] : -size[0], size[1] : -size[1]]
    return ~kept if gaps else kept


def _filled(mask: np.ndarray, lines: Pair, gaps: Pair, area: float, corners: bool, *, outside: bool) -> np.ndarray:
    """Draw more until lines are wide and gaps are not narrow, corners and holes are filled; then drop small islands.

    Args:
        mask: what is drawn.
        lines: narrowest line in pixels ``(y, x)``.
        gaps: narrowest gap.
        area: smallest island and hole in pixels.
        corners: whether corners may not touch.
        outside: whether all beside the raster is drawn: lines go on there then, else gaps do.
    """
    drawn = mask.copy()
    while True:
        while _more_of(drawn, lines, gaps, corners, outside):
            pass
        if not _paint(drawn, ~drawn, area, free=not outside, value=True):
            break
    _paint(drawn, drawn, area, free=outside, value=False)
    return drawn


def _more_of(drawn: np.ndarray, lines: Pair, gaps: Pair, corners: bool, outside: bool) -> bool:
    """Fill narrow gaps and corners, widen narrow lines; whether anything was drawn."""
    before = np.count_nonzero(drawn)
    for raster, line, gap in ((drawn, lines[1], gaps[1]), (drawn.T, lines[0], gaps[0])):
        _close(raster, gap, free=not outside)
        _widen(raster, line, free=outside)
    if corners:
        _fill_corners(drawn)
    return bool(np.count_nonzero(drawn) > before)


def _short(raster: np.ndarray, least: int, free: bool) -> Runs:
    found = runs(raster)
    short = found.length < least
    if free:
        short &= (found.first > 0) & (found.last < raster.shape[1])
    return found.which(short)


def _close(drawn: np.ndarray, least: int, *, free: bool) -> None:
    """Fill the gaps of rows that are shorter than ``least``."""
    found = _short(~drawn, least, free) if least > 1 else None
    for column in range(least - 1 if found is not None else 0):
        here = found.which(found.length > column)  # type: ignore[union-attr]
        drawn[here.row, here.first + column] = True


def _widen(drawn: np.ndarray, least: int, *, free: bool) -> None:
    """Draw lines of rows that are shorter than ``least`` as wide, about their middle."""
    if least <= 1:
        return
    found = _short(drawn, least, free)
    first = np.clip(found.first - (least - found.length) // 2, 0, max(0, drawn.shape[1] - least))
    for column in range(min(least, drawn.shape[1])):
        drawn[found.row, first + column] = True


def _fill_corners(drawn: np.ndarray) -> None:
    """Where two pixels touch by a corner, draw the upper of the other two."""
    row, column = np.nonzero(rules.kisses(drawn))
    left = ~drawn[row, column]
    drawn[row, np.where(left, column, column + 1)] = True


def _paint(drawn: np.ndarray, parts: np.ndarray, area: float, *, free: bool, value: bool) -> bool:
    """Draw, or drop, connected parts that are smaller than an area; whether there were any."""
    if area <= 1:
        return False
    labels, chosen = rules.small_parts(parts, area, free=free)
    drawn[chosen[labels]] = value
    return bool(chosen.any())
