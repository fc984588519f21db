"""What a mask is: its levels, what they pass, where and when it stands, and which responses it carries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fouroptics.masks.h5 import Stored

Array = np.ndarray | Stored


@dataclass(frozen=True)
class LevelTable:
    """What each level passes: phase [rad], amplitude, height [m] of what is etched, and the drive that sets it."""

    phase: np.ndarray
    amplitude: np.ndarray
    height: np.ndarray
    drive: np.ndarray


@dataclass(frozen=True)
class Terms:
    """Which responses each tile carries, one row a response of one input.

    Args:
        tile: the mask it stands on.
        out_channel: of the bank.
        in_channel: of the bank.
        role: 0, or of a pair 1 for the positive and 2 for the negative part.
        frame: when it is shown.
        shift: where its response stands on the camera, ``(y, x)`` [m].
    """

    tile: np.ndarray
    out_channel: np.ndarray
    in_channel: np.ndarray
    role: np.ndarray
    frame: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Plane:
    """The masks of one plane, tile by tile.

    Args:
        kind: of device.
        encoding: how kernels were brought onto it.
        levels: ``[T, Ny, Nx]``, uint8 or uint16.
        table: what they pass; None on the ideal plate.
        pitch: of pixels ``(y, x)`` [m].
        fill_factor: by area.
        origin: of each tile's middle on the panel ``[T, 2]`` (y, x) [m] from the panel's.
        frame: when each tile is shown ``[T]``.
        terms: which responses the tiles carry.
        level_amplitude: of the ideal plate, whose ``levels`` are phases.
    """

    kind: str
    encoding: str
    levels: Array
    table: LevelTable | None
    pitch: tuple[float, float]
    fill_factor: float
    origin: np.ndarray
    frame: np.ndarray
    terms: Terms
    level_amplitude: Array | None = None
