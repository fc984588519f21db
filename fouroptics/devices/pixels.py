"""How pixels see a pattern of light: they integrate over their area, and bins add up what their pixels collected."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fouroptics.errors import InputError

Pair = tuple[int, int]


@dataclass(frozen=True)
class Readings:
    """A row of readings along one axis; lengths in samples of the pattern, positions from its sample 0.

    Args:
        count: readings.
        centre: of the middle of the row.
        pitch: of the pixels.
        width: of a pixel's sensitive part.
        bin: pixels a reading.
    """

    count: int
    centre: float
    pitch: float
    width: float
    bin: int = 1

    @classmethod
    def shared(cls, samples: int, count: int) -> Readings:
        """``count`` readings that share a picture of ``samples`` with no gap: pooling on the sensor."""
        if not 1 <= count <= samples:
            raise InputError(f"{count} readings of {samples} samples", where="sensor_pool", mend=f"1 to {samples}")
        return cls(count, (samples - 1) / 2, samples / count, samples / count)

    @property
    def centres(self) -> Tensor:
        """Where readings stand, in float64."""
        rank = torch.arange(self.count, dtype=torch.float64) - (self.count - 1) / 2
        return self.centre + rank * self.bin * self.pitch


class Pixels:
    """The mean irradiance of each reading's sensitive area: a plan, two small real matrices.

    The pattern is given by samples of one period, fine enough for its band: |E|² has twice the field's, so a field is
    sampled twice as finely first. Between samples the pattern is what its frequencies say, and a pixel weighs each with
    sinc(width·ν). Matrices are built in float64.

    Args:
        size: samples of the pattern ``(y, x)``.
        rows: readings along y.
        columns: readings along x.
        finer: samples of the pattern for each sample that ``rows`` and ``columns`` count in.
        dtype: float32 or float64.
        device: where the plan lives.
    """

    def __init__(
        self,
        size: Pair,
        rows: Readings,
        columns: Readings,
        *,
        finer: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        self.size = size
        self._rows, self._columns = (
            _integration(n, readings, finer).to(device=device, dtype=dtype)
            for n, readings in zip(size, (rows, columns), strict=True)
        )

    def __call__(self, pattern: Tensor) -> Tensor:
        """``[..., y, x]`` irradiance at the samples → ``[..., Y, X]`` mean over each reading."""
        if pattern.shape[-2:] != self.size:
            raise InputError(f"the plan is for {self.size} samples, the pattern has {tuple(pattern.shape[-2:])}")
        return self._rows @ pattern @ self._columns.mT

    def adjoint(self, readings: Tensor) -> Tensor:
        """``[..., Y, X]`` → ``[..., y, x]``, the transpose."""
        return self._rows.mT @ readings @ self._columns

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes + self._columns.nbytes


def _integration(samples: int, readings: Readings, finer: int) -> Tensor:
    """[count, samples]: Σ_q w(q) cos 2πq(u - m)/M / M, with w the pixel's sinc and the bin's mean of its pixels."""
    orders = torch.arange(samples // 2 + 1, dtype=torch.float64)
    nu = orders * finer / samples  # cycles a sample of the field
    weight = torch.sinc(nu * readings.width) * _mean_over_bin(nu * readings.pitch, readings.bin)
    weight = weight * torch.where((orders == 0) | (2 * orders == samples), 1.0, 2.0) / samples
    at, of = readings.centres * finer / samples, torch.arange(samples, dtype=torch.float64) / samples
    seen, given = 2 * math.pi * torch.outer(at, orders), 2 * math.pi * torch.outer(orders, of)
    cosines = (seen.cos() * weight) @ given.cos()
    return cosines + (seen.sin() * weight) @ given.sin()


def _mean_over_bin(cycles: Tensor, pixels: int) -> Tensor:
    """Mean of cos 2π·cycles·t over ``pixels`` centred on 0: sin(πbc)/(b·sin πc)."""
    steps = torch.arange(pixels, dtype=torch.float64) - (pixels - 1) / 2
    return torch.cos(2 * math.pi * torch.outer(cycles, steps)).mean(1)
