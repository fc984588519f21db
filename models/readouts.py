"""From a student's field to numbers: a camera of whole pixels, electronics, pooling, a frozen normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fouroptics.devices import readout
from fouroptics.devices.pixels import Pixels, Readings
from fouroptics.devices.readout import COMPANDS, READOUTS, Compand, Readout
from fouroptics.errors import InputError, check_choice
from fouroptics.optics.kept import Kept

Pair = tuple[int, int]
_RECTIFIED = ("rectify", "two-sided-rectify")
_LINEAR = ("ideal_field", "homodyne")


class Reader(nn.Module):
    """What is read of a field ``[batch, out, v, u]``, as ``[batch, channels, Y, X]``.

    A pixel is as wide as a sample of the field, and takes the mean over its area. Charge is summed over a pool before
    the electronics see it; but what is rectified is rectified pixel by pixel and summed by the electronics then,
    or a pool would see the mean of a response and not its strength. Before it is rectified a reading gets its output's
    ``bias``, which is learned: light has none, electronics may.

    Args:
        kind: the readout. ``homodyne`` is the signed field itself, as two captures half a wave apart give it.
        compand: what electronics does to each number.
        grid: samples of the field.
        window: of them, those of the picture, from the first on.
        pool: readings that are left ``(Y, X)``; None for one a sample.
        reference: amplitude of the beam of ``interference``, in units of the field.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        kind: Readout,
        compand: Compand,
        grid: Pair,
        window: Pair,
        pool: Pair | None,
        channels: int,
        *,
        reference: float = 1.0,
    ) -> None:
        super().__init__()
        check_choice("readout", kind, READOUTS)
        check_choice("compand", compand, COMPANDS)
        if pool is not None and any(p > n for p, n in zip(pool, window, strict=True)):
            what = f"{pool[0]}×{pool[1]} readings of {window[0]}×{window[1]} samples"
            raise InputError(what, where="sensor_pool", mend=f"at most {min(window)}")
        self.kind, self.compand, self.grid, self.window, self.pool = kind, compand, grid, window, pool
        self.reference = reference
        self.outputs = channels
        self.channels = channels * (2 if compand == "two-sided-rectify" else 1)
        thresholds = torch.zeros(channels) if compand in _RECTIFIED else None
        self.bias = None if thresholds is None else nn.Parameter(thresholds)
        self.register_buffer("mean", torch.zeros(self.channels))
        self.register_buffer("spread", torch.ones(self.channels))
        self._pixels: Kept[Pixels] = Kept()

    @property
    def is_linear(self) -> bool:
        """Whether readings follow the field in proportion."""
        return self.kind in _LINEAR and self.compand == "none"

    @property
    def size(self) -> Pair:
        """Readings ``(Y, X)``."""
        return self.pool or self.window

    @property
    def samples(self) -> int:
        """Numbers that leave the camera for each picture."""
        per_output = self.window if self._pools_behind else self.size
        return self.outputs * readout.CAPTURES[self.kind] * per_output[0] * per_output[1]

    def forward(self, field: Tensor) -> Tensor:
        return self.normalised(self.raw(field))

    def raw(self, field: Tensor) -> Tensor:
        """Readings before they are normalised."""
        rows, columns = self.sampling(field.real.dtype, field.device)
        parts = (field.real, field.imag) if field.is_complex() else (field,)
        sampled = [rows @ part @ columns.mT for part in parts]
        return self.read(torch.complex(*sampled) if field.is_complex() else sampled[0])

    def sampling(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Matrices for ``(y, x)`` from the field's samples to what ``read`` takes.

        It takes samples twice as fine, as a square needs them. Of a reading that follows the field it takes the means
        over pixels, for they are linear too.
        """
        plan = self._plan(torch.float64, torch.device("cpu"))
        rows, columns = plan.finer.rows, plan.finer.columns
        if self._follows_field:
            rows, columns = plan.means.rows @ rows, plan.means.columns @ columns
        return rows.to(device, dtype), columns.to(device, dtype)

    def read(self, sampled: Tensor) -> Tensor:
        """Readings of a field that was sampled as ``sampling`` says, before they are normalised."""
        if self._follows_field:
            seen = sampled.real if sampled.is_complex() else sampled  # (|E + r|² - |E - r|²) / 4r
        else:
            square = self.kind != "interference"
            pattern = readout.intensity(sampled) if square else readout.interference(sampled, self.reference)
            seen = self._plan(pattern.dtype, pattern.device)(pattern)
        if self.kind == "pair_intensity":
            positive, negative = seen.chunk(2, -3)
            seen = positive - negative
        if self.bias is not None:
            seen = seen + self.bias[:, None, None]
        seen = readout.compand(seen, self.compand)
        return self._pooled(seen) if self._pools_behind else seen

    def normalised(self, raw: Tensor) -> Tensor:
        """Readings less the frozen mean, over the frozen spread."""
        return (raw - self.mean[:, None, None]) / self.spread[:, None, None]

    @torch.no_grad()
    def normalise(self, raw: Tensor) -> None:
        """Take mean and spread of every channel from readings, and keep them: they are part of the student."""
        self.mean.copy_(raw.mean((0, 2, 3)))
        self.spread.copy_(raw.std((0, 2, 3)).clamp_min(1e-6 * float(raw.abs().max()) + 1e-30))

    @property
    def _follows_field(self) -> bool:
        return self.kind in _LINEAR

    @property
    def _pools_behind(self) -> bool:
        return self.pool is not None and self.compand in _RECTIFIED

    @property
    def _bin(self) -> Pair:
        """Pixels a reading; those that do not make a whole one are left out, at all borders alike."""
        if self.pool is None:
            return 1, 1
        return self.window[0] // self.pool[0], self.window[1] // self.pool[1]

    def _pooled(self, seen: Tensor) -> Tensor:
        rows, columns = self._bin
        first = [(n - p * b) // 2 for n, p, b in zip(self.window, self.size, self._bin, strict=True)]
        part = seen[..., first[0] : first[0] + self.size[0] * rows, first[1] : first[1] + self.size[1] * columns]
        return torch.nn.functional.avg_pool2d(part, (rows, columns))

    def _plan(self, dtype: torch.dtype, device: torch.device) -> Pixels:
        def build() -> Pixels:
            places = tuple(torch.arange(n, dtype=torch.float64) for n in self.grid)
            counts, bins = (self.window, (1, 1)) if self._pools_behind else (self.size, self._bin)
            rows, columns = (
                Readings(count, (n - 1) / 2, 1.0, 1.0, of)
                for count, n, of in zip(counts, self.window, bins, strict=True)
            )
            return Pixels((places[0], places[1]), rows, columns, periodic=True, dtype=dtype, device=device)

        return self._pixels.get((dtype, device), build)

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.compand}, {self.size[0]}×{self.size[1]} readings of {self.channels} channels"
