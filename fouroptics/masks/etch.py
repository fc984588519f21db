"""How a plate is made: which pixels each step removes, and how deep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fouroptics.errors import InputError

if TYPE_CHECKING:
    from fouroptics.masks.maskset import Plane

ETCHED, CHROME = "multilevel_phase", "binary_amplitude"


@dataclass(frozen=True)
class Step:
    """One step of a process: its layer, what is drawn on it, and how deep it is etched [m]."""

    layer: int
    what: str
    depth: float


def steps(plane: Plane) -> Iterator[Step]:
    """Of an etched plate one a bit of its levels, the shallowest first; of chrome on glass one."""
    if plane.kind == CHROME:
        yield Step(1, "chrome", 0.0)
        return
    assert plane.table is not None
    bits = (len(plane.table.phase) - 1).bit_length()
    if len(plane.table.phase) != 1 << bits:
        what = f"{len(plane.table.phase)} levels are no power of two"
        raise InputError(what, where="mask.levels", mend="2, 4, 8 or 16: each etch doubles them")
    unit = float(plane.table.height[1] - plane.table.height[0])
    for bit in range(bits):
        yield Step(bit + 1, f"etch of {1 << bit} steps", unit * (1 << bit))


def drawn(plane: Plane, levels: np.ndarray, step: Step) -> np.ndarray:
    """Which pixels a step draws: etching removes height, so those whose level lacks its bit; dark ones of chrome."""
    chosen: np.ndarray = levels == 0 if plane.kind == CHROME else (levels >> (step.layer - 1)) & 1 == 0
    return chosen


def is_etched(plane: Plane) -> bool:
    """Whether a plate's levels are a number of etches."""
    return plane.kind == ETCHED and plane.table is not None and len(plane.table.phase).bit_count() == 1
