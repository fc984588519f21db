"""How pixels see a pattern of light: they integrate over their area, and bins add up what their pixels collected."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fouroptics.errors import InputError
from fouroptics.optics.separable import Separable

_MARGIN = 8  # samples beside the readings that a pattern is known for; what lies further adds 1e-4


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

    @property
    def centres(self) -> Tensor:
        """Where readings stand, in float64."""
        rank = torch.arange(self.count, dtype=torch.float64) - (self.count - 1) / 2
        return self.centre + rank * self.bin * self.pitch


class Pixels:
    """From a field's samples to readings: a plan of small real matrices, two for each axis.

    |E|² has twice the field's bandwidth. So the field is first sampled twice as finely (``between``), by sinc functions
    in a dark surround, or by those of its period. Of the pattern that is made of it each reading then takes the mean
    over its sensitive area: a pixel weighs the pattern's frequencies with sinc(width·ν). Matrices are built in float64.

    Args:
        places: of the field's samples ``(y, x)``, in any order; lengths are in samples.
        rows: readings along y.
        columns: readings along x.
        periodic: the field repeats after as many samples as there are.
        dtype: float32 or float64.
        device: where the plan lives.
    """

    def __init__(
        self,
        places: tuple[Tensor, Tensor],
        rows: Readings,
        columns: Readings,
        *,
        periodic: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        finer, means = [], []
        for at, readings in zip(places, (rows, columns), strict=True):
            period = len(at) if periodic else None
            fine = _fine_places(readings, period)
            finer.append(_waves_of(fine[:, None] - at, period).to(device=device, dtype=dtype))
            means.append(mean_of_waves(readings, fine, period).to(device=device, dtype=dtype))
        self.finer = Separable(finer[0], finer[1])
        self.means = Separable(means[0], means[1])

    def between(self, field: Tensor) -> Tensor:
        """The field ``[..., y, x]``, real or complex, twice as finely sampled about the readings."""
        if field.is_complex():
            parts = [self.between(part) for part in (field.real, field.imag)]
            return torch.complex(parts[0], parts[1])
        self._check(field, self.finer)
        return self.finer(field)

    def __call__(self, pattern: Tensor) -> Tensor:
        """``[..., y, x]`` irradiance at the fine samples → ``[..., Y, X]`` mean over each reading."""
        self._check(pattern, self.means)
        return self.means(pattern)

    def adjoint(self, readings: Tensor) -> Tensor:
        """``[..., Y, X]`` → ``[..., y, x]`` on the fine samples, the transpose."""
        return self.means.adjoint(readings)

    @property
    def nbytes(self) -> int:
        return self.finer.nbytes + self.means.nbytes

    def _check(self, field: Tensor, plan: Separable) -> None:
        due = plan.rows.shape[1], plan.columns.shape[1]
        if tuple(field.shape[-2:]) != due:
            raise InputError(f"the plan is for {due} samples, the pattern has {tuple(field.shape[-2:])}")
        if field.dtype != plan.rows.dtype:
            raise InputError(f"the plan is {plan.rows.dtype}, the pattern {field.dtype}", mend="make them alike")


def _fine_places(readings: Readings, period: int | None) -> Tensor:
    """Every half sample about the readings, or of the whole period."""
    if period is not None:
        return torch.arange(2 * period, dtype=torch.float64) / 2
    half = (readings.count * readings.bin * abs(readings.pitch)) / 2
    first, last = math.floor(readings.centre - half) - _MARGIN, math.ceil(readings.centre + half) + _MARGIN
    return torch.arange(2 * first, 2 * last + 1, dtype=torch.float64) / 2


def _waves_of(distance: Tensor, period: int | None) -> Tensor:
    """What a sample contributes at a ``distance``: sinc, or the sum of its copies a period apart."""
    if period is None:
        return torch.sinc(distance)
    turns = distance / period
    whole = (turns - turns.round()).abs() < 1e-12
    angle = math.pi * torch.where(whole, 0.25, turns)
    below = angle.sin() if period % 2 else angle.tan()
    return torch.where(whole, 1.0, (math.pi * distance).sin() / (period * below))


def mean_of_waves(readings: Readings, fine: Tensor, period: int | None) -> Tensor:
    """[count, samples]: what fine samples contribute to readings, Σ_ν w(ν) cos 2πν(u - x) over the pattern's band.

    w is the pixel's sinc and the mean over its bin. Fine samples share out a period. Without one the sum is an integral
    over |ν| ≤ 1, taken as that of a period long enough for its copies not to matter.
    """
    long = period if period is not None else 4 * math.ceil(float(fine.max() - fine.min()) + 1)
    samples = len(fine) if period is not None else 2 * long
    orders = torch.arange(samples // 2 + 1, dtype=torch.float64)
    nu = orders / long  # cycles a sample of the field
    weight = torch.sinc(nu * readings.width) * _mean_over_bin(nu * readings.pitch, readings.bin)
    weight = weight * torch.where((orders == 0) | (2 * orders == samples), 1.0, 2.0) / samples
    seen, given = 2 * math.pi * torch.outer(readings.centres, nu), 2 * math.pi * torch.outer(nu, fine)
    return (seen.cos() * weight) @ given.cos() + (seen.sin() * weight) @ given.sin()


def _mean_over_bin(cycles: Tensor, pixels: int) -> Tensor:
    """Mean of cos 2π·cycles·t over ``pixels`` centred on 0: sin(πbc)/(b·sin πc)."""
    steps = torch.arange(pixels, dtype=torch.float64) - (pixels - 1) / 2
    return torch.cos(2 * math.pi * torch.outer(cycles, steps)).mean(1)
