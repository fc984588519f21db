"""A linear map of pictures that is one matrix along y and another along x."""

from __future__ import annotations

import torch
from torch import Tensor

Pair = tuple[int, int]
_AT_ONCE = 5  # times the work that one product may be instead of two: those of small matrices take their time
SMALL = 2**16  # numbers of such a matrix at most


class Separable:
    """rows · picture · columnsᵀ, by one product where that is quicker.

    Args:
        rows: ``[Y, y]``.
        columns: ``[X, x]``.
    """

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        self.rows, self.columns = rows, columns
        self._at_once = None
        if is_better_at_once((rows.shape[1], columns.shape[1]), self.shape):
            self._at_once = torch.kron(rows, columns).mT.contiguous()

    @property
    def shape(self) -> Pair:
        """Samples that it makes ``(Y, X)``."""
        return self.rows.shape[0], self.columns.shape[0]

    @property
    def nbytes(self) -> int:
        return sum(one.nbytes for one in (self.rows, self.columns, self._at_once) if one is not None)

    def __call__(self, pictures: Tensor) -> Tensor:
        """Real ``[..., y, x]`` → ``[..., Y, X]``."""
        with torch.autocast(pictures.device.type, enabled=False):
            if self._at_once is not None:
                made: Tensor = pictures.flatten(-2) @ self._at_once
                return made.reshape(*made.shape[:-1], *self.shape)
            return self.rows @ row_products(pictures, self.columns.mT)

    def of_columns(self, samples: Tensor) -> Tensor:
        """Real ``[x, y, n]``, n pictures column by column → ``[X, Y, n]``, all together."""
        with torch.autocast(samples.device.type, enabled=False):
            columns = (self.columns @ samples.flatten(1)).reshape(-1, *samples.shape[1:])
            return torch.bmm(self.rows.expand(len(columns), *self.rows.shape), columns)

    def adjoint(self, samples: Tensor) -> Tensor:
        """``[..., Y, X]`` → ``[..., y, x]``, the transpose."""
        with torch.autocast(samples.device.type, enabled=False):
            return self.rows.mT @ row_products(samples, self.columns)


def row_products(pictures: Tensor, matrix: Tensor) -> Tensor:
    """pictures @ matrix, one picture after another: as one product of all their short rows it takes twice the time."""
    if pictures.dim() < 3 or pictures.dtype != matrix.dtype:
        return pictures @ matrix
    flat = pictures.flatten(0, -3)
    return torch.bmm(flat, matrix.expand(flat.shape[0], *matrix.shape)).reshape(*pictures.shape[:-1], matrix.shape[1])


def is_better_at_once(given: Pair, made: Pair) -> bool:
    """Whether samples ``(y, x)`` become samples ``(Y, X)`` quicker by one matrix than by one for each axis."""
    (y, x), (height, width) = given, made
    whole = y * x * height * width
    return whole <= min(SMALL, _AT_ONCE * (y * x * width + y * width * height))
