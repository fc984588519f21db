"""Rows of equal pixels: how layouts are drawn and how widths are measured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_STRIP = 2**22  # pixels at a time


class Runs(NamedTuple):
    """True pixels of rows, without a gap: row, first column, and the column behind the last."""

    row: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @property
    def length(self) -> np.ndarray:
        lengths: np.ndarray = self.last - self.first
        return lengths

    def which(self, chosen: np.ndarray) -> Runs:
        return Runs(self.row[chosen], self.first[chosen], self.last[chosen])


def runs(mask: np.ndarray) -> Runs:
    """Every run of true pixels, row by row."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), bool)
    padded[:, 1:-1] = mask
    changes = np.flatnonzero(padded[:, 1:] != padded[:, :-1])  # of a row they come in pairs: a run begins, and ends
    row, column = np.divmod(changes, mask.shape[1] + 1)
    return Runs(row[::2], column[::2], column[1::2])


def merged(found: Runs) -> np.ndarray:
    """Equal runs below each other as one rectangle.

    Returns:
        ``[R, 4]``: first row, first column, and the row and column behind the last.
    """
    order = np.lexsort((found.row, found.last, found.first))
    row, first, last = found.which(order)
    if not len(row):
        return np.zeros((0, 4), np.int64)
    follows = (row[1:] == row[:-1] + 1) & (first[1:] == first[:-1]) & (last[1:] == last[:-1])
    begins = np.flatnonzero(np.concatenate(([True], ~follows)))
    ends = np.concatenate((begins[1:], [len(row)])) - 1
    return np.stack((row[begins], first[begins], row[ends] + 1, last[begins]), 1)


def rectangles(mask: np.ndarray) -> np.ndarray:
    """A cover of true pixels by rectangles that do not overlap, ``[R, 4]`` as of ``merged``; huge masks in strips."""
    step = max(1, _STRIP // max(1, mask.shape[1]))
    parts = []
    for top in range(0, mask.shape[0], step):
        part = merged(runs(mask[top : top + step]))
        parts.append(part + np.array([top, 0, top, 0]))
    return np.concatenate(parts) if parts else np.zeros((0, 4), np.int64)
