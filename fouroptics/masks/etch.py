"""How a plate is made: which pixels each step removes, and how deep."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fouroptics.errors import InputError

if TYPE_CHECKING:
    from fouroptics.bench.parts import Mask
    from fouroptics.masks.plane import Plane

ETCHED, CHROME = "multilevel_phase", "binary_amplitude"
LOSS = 0.01  # of the light, that tolerances of depths may cost together


@dataclass(frozen=True)
class Step:
    """One step of a process.

    Args:
        layer: that it is drawn on.
        what: is drawn, in words.
        depth: that is etched [m].
        tolerance: of the depth [m]: if every step is off by its own, the mask loses a hundredth of its light.
    """

    layer: int
    what: str
    depth: float = 0.0
    tolerance: float = 0.0


def steps(plane: Plane) -> Iterator[Step]:
    """Of an etched plate one a bit of its levels, the shallowest first; of chrome on glass one."""
    if plane.kind == CHROME:
        yield Step(1, "chrome")
        return
    assert plane.table is not None
    bits = (len(plane.table.phase) - 1).bit_length()
    if len(plane.table.phase) != 1 << bits or not bits:
        what = f"{len(plane.table.phase)} levels are no power of two"
        raise InputError(what, where="mask.levels", mend="2, 4, 8 or 16: each etch doubles them")
    unit, turn = (float(values[1] - values[0]) for values in (plane.table.height, plane.table.phase))
    if not _is_even(plane.table.height) or not turn > 0:
        what = "heights of the levels are no even steps that delay, and etches of halves make no others"
        raise InputError(what, where="level_table.height", mend="export the set again, from its bank")
    tolerance = 2 * math.acos((1 - LOSS) ** (0.5 / bits)) * unit / turn  # half the pixels off by δ keep cos²(δ/2)
    for bit in range(bits):
        yield Step(bit + 1, f"etch of {1 << bit} step{'s' if bit else ''}", unit * (1 << bit), tolerance)


def drawn(plane: Plane, levels: np.ndarray, step: Step) -> np.ndarray:
    """Which pixels a step draws: etching removes height, so those whose level lacks its bit; dark ones of chrome."""
    chosen: np.ndarray = levels == 0 if plane.kind == CHROME else (levels >> (step.layer - 1)) & 1 == 0
    return chosen


def is_surrounded(plane: Plane) -> bool:
    """Whether what lies beside the masks is drawn: chrome is."""
    return plane.kind == CHROME


def require_ordered(plane: Plane, mask: Mask) -> None:
    """What is made once is one frame, of whole pixels, and has the heights that are ordered.

    Raises:
        InputError: it is not; the key.
    """
    if int(plane.frame.max()) > 0:
        what = f"{int(plane.frame.max()) + 1} frames, and what is made once does not change"
        raise InputError(what, where="masks", mend='layout.outputs = "tiled" or "lenslet"')
    if plane.fill_factor < 1:
        what = f"pixels fill {plane.fill_factor:.4g} of their area, and are drawn whole"
        raise InputError(what, where="mask.fill_factor", mend="design with 100 %")
    if mask.lut and plane.kind == ETCHED:
        what = "the levels are measured ones, and a plate is made with the heights that are ordered"
        raise InputError(what, where="mask.lut", mend="leave the table out to make a plate")


def redrawn(plane: Plane, levels: np.ndarray, step: Step, drawn_pixels: np.ndarray) -> np.ndarray:
    """Levels of which a step draws other pixels than before, and the other steps the same."""
    if plane.kind == CHROME:
        return np.where(drawn_pixels, 0, 1).astype(levels.dtype)
    bit = levels.dtype.type(1 << (step.layer - 1))
    changed: np.ndarray = np.where(drawn_pixels, levels & ~bit, levels | bit)
    return changed


def is_etched(plane: Plane) -> bool:
    """Whether a plate's levels are a number of etches."""
    table = plane.table
    if plane.kind != ETCHED or table is None or len(table.phase) < 2:
        return False
    return len(table.phase).bit_count() == 1 and _is_even(table.height) and bool(table.phase[1] > table.phase[0])


def _is_even(height: np.ndarray) -> bool:
    unit = height[1] - height[0]
    return bool(unit > 0 and np.allclose(height, np.arange(len(height)) * unit, rtol=0, atol=1e-6 * unit))
