"""A whole substrate or panel in one frame: tiles where they stand, and what lies beside them, put together in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fouroptics.errors import InputError
from fouroptics.masks.etch import ETCHED

if TYPE_CHECKING:
    from fouroptics.masks.plane import Plane

_STRIP = 2**22  # pixels at a time
_OFF = 0.01  # pixels by which a tile may stand beside the pixels of the panel


@dataclass(frozen=True)
class Plate:
    """Levels ``[y, x]`` of a panel, row 0 at the top; a slice of rows is put together when it is asked for.

    Args:
        plane: whose tiles they are.
        shape: of the panel in pixels ``(y, x)``.
        tiles: that stand on it in this frame.
        corners: first row and column of each of them ``[tiles, 2]``.
        outside: level beside the tiles.
    """

    plane: Plane
    shape: tuple[int, int]
    tiles: np.ndarray
    corners: np.ndarray
    outside: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.plane.levels.dtype

    @property
    def nbytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows by a slice, and columns by anything that numpy takes; other indices of rows lead through the whole."""
        found: np.ndarray
        rows, *others = index if isinstance(index, tuple) else (index,)
        if isinstance(rows, slice) and rows.step in (None, 1):
            first, last, _ = rows.indices(self.shape[0])
            found = self._rows(first, max(first, last))[(slice(None), *others)]
        elif isinstance(rows, int | np.integer):
            first = range(self.shape[0])[rows]
            found = self._rows(first, first + 1)[(0, *others)]
        else:
            found = self._rows(0, self.shape[0])[index]
        return found

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def strips(self) -> Iterator[tuple[int, np.ndarray]]:
        """First rows and levels of strips that fit in memory, from the top."""
        step = max(1, _STRIP // self.shape[1])
        for first in range(0, self.shape[0], step):
            yield first, self._rows(first, min(first + step, self.shape[0]))

    def _rows(self, first: int, last: int) -> np.ndarray:
        shown = np.full((last - first, self.shape[1]), self.outside, self.dtype)
        height, width = self.plane.levels.shape[1:]
        for tile, (top, left) in zip(self.tiles, self.corners, strict=True):
            begin, end = max(first, top), min(last, top + height)
            if begin < end:
                rows = slice(int(begin - top), int(end - top))
                shown[begin - first : end - first, left : left + width] = self.plane.levels[int(tile), rows]
        return shown


def put_together(plane: Plane, pixels: tuple[int, int], frame: int = 0) -> Plate:
    """The tiles of a frame on a panel of ``(y, x)`` pixels.

    Raises:
        InputError: a tile stands beside the panel, between its pixels or on another one.
    """
    if plane.table is None:
        raise InputError("an ideal plate has a phase and an amplitude", where="masks", mend="slice its levels")
    frames = int(plane.frame.max()) + 1
    if not 0 <= frame < frames:
        raise InputError(f"frame {frame} of {frames}", where="masks", mend=f"0 … {frames - 1}")
    tiles = np.flatnonzero(plane.frame == frame)
    if not len(tiles):
        raise InputError(f"frame {frame} of {frames} has no tile", where="masks", mend="number frames from 0 on")
    size = np.array(plane.levels.shape[1:])
    exact = upper_left(plane, pixels)[tiles]
    corners = np.rint(exact).astype(np.int64)
    for number, tile in enumerate(tiles):
        if np.abs(corners[number] - exact[number]).max() > _OFF:
            raise _stands(tile, "between the panel's pixels")
        if corners[number].min() < 0 or (corners[number] + size > pixels).any():
            raise _stands(tile, f"beside the panel of {pixels[1]}×{pixels[0]} pixels")
        near = (np.abs(corners[number + 1 :] - corners[number]) < size).all(1)
        if near.any():
            raise _stands(tile, f"on tile {tiles[number + 1 + int(np.argmax(near))]}")
    return Plate(plane, pixels, tiles, corners, outside(plane))


def upper_left(plane: Plane, pixels: tuple[int, int]) -> np.ndarray:
    """Row and column on a panel of ``(y, x)`` pixels of every tile's first pixel ``[tiles, 2]``, whole or not."""
    corners: np.ndarray = plane.origin / np.array(plane.pitch) + (np.array(pixels) - plane.levels.shape[1:]) / 2
    return corners


def outside(plane: Plane) -> int:
    """The level beside the tiles: a plate is not etched there, chrome covers it, a panel is at rest."""
    assert plane.table is not None
    return len(plane.table.phase) - 1 if plane.kind == ETCHED else 0


def _stands(tile: Any, where: str) -> InputError:
    return InputError(f"tile {tile} stands {where}", where="masks", mend="export the set again, from its bank")
