"""What a mask of pixels makes of a point: its point-spread function, pixel area and gaps included.

A pixel at X_j of transmission t_j adds t_j·e^{+i2πX_j·x/λf} to what a point becomes, weighed by the sinc of its own
area. So a mask's spread is two small matrices round its transmissions, exact for any pitch, number and place of pixels,
and a transfer function is the transform of the spread.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fouroptics.errors import InputError
from fouroptics.optics.fourier import Pair


class PixelSpread:
    """From a mask's transmissions to its point-spread function about some places: a plan of four small matrices.

    .. math:: h(x) = F p^2\\, \\mathrm{sinc}(a x)\\, \\sum_j t_j\\, e^{i 2\\pi \\nu_j x}
              + r\\, (p^2\\, \\mathrm{sinc}(p x) - F p^2\\, \\mathrm{sinc}(a x))\\, \\sum_j e^{i 2\\pi \\nu_j x}

    along each axis: p is the pitch in cycles a sample, a = √F·p a pixel's clear side, and what passes in the gaps
    between pixels, r, carries no information but what lies over the whole panel. On a mask that fills the sampled band,
    samples of h are taps.

    Args:
        count: pixels ``(y, x)``, centred on the axis.
        pitch: of the pixels, in cycles a picture sample: p·dx/λf.
        rows: places along y [samples] about which h is wanted.
        columns: the same along x.
        reach: samples on both sides of each place, ``(y, x)``.
        fill_factor: by area.
        leak: amplitude that the gaps pass.
        over: what lies over pixels and gaps alike, a stop or a wavefront, ``[..., Ny, Nx]``. Transmissions have it in
            them already; the gaps get it here.
        dtype: complex64 or complex128.
        device: where the plan lives.
    """

    def __init__(
        self,
        count: Pair,
        pitch: float,
        rows: tuple[float, ...],
        columns: tuple[float, ...],
        reach: Pair,
        *,
        fill_factor: float = 1.0,
        leak: float = 0.0,
        over: Tensor | None = None,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | str | None = None,
    ) -> None:
        self.count, self.pitch, self.places, self.reach = count, pitch, (rows, columns), reach
        clear = math.sqrt(fill_factor) * pitch
        waves = []
        for n, places, r in zip(count, self.places, reach, strict=True):
            x = (torch.tensor(places, dtype=torch.float64)[:, None] + torch.arange(-r, r + 1)).flatten()
            turns = torch.outer(x, pixel_frequencies(n, pitch))
            basis = torch.polar(torch.ones_like(turns), 2 * math.pi * (turns - turns.round()))
            waves.append([(side * torch.sinc(side * x))[:, None] * basis for side in (clear, pitch)])
        self._rows, self._columns = (clears.to(dtype=dtype, device=device) for clears, _ in waves)
        self._leak = (leak * _of_gaps(waves[0], waves[1], over)).to(dtype=dtype, device=device) if leak else None

    def __call__(self, transmission: Tensor) -> Tensor:
        """``[..., Ny, Nx]`` → h, ``[..., rows, columns, Ky, Kx]`` with K = 2·reach + 1."""
        if tuple(transmission.shape[-2:]) != self.count:
            what = f"the plan is for {self.count} pixels, the mask has {tuple(transmission.shape[-2:])}"
            raise InputError(what, where="transmission")
        with torch.autocast(transmission.device.type, enabled=False):
            spread = self._rows @ (transmission.to(self._rows.dtype) @ self._columns.mT)
        return self._about_places(spread if self._leak is None else spread + self._leak)

    def of_pixels(self, passed: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """h of a few pixels ``[masks, n]`` that stand in rows ``y`` and columns ``x``, nothing passing in the gaps."""
        lines, line = torch.unique(y, return_inverse=True)
        few, rows = passed.new_zeros(len(lines), self.count[1]), self._rows[:, lines]
        each = [rows @ (few.index_put((line, x), one) @ self._columns.mT) for one in passed]  # so memory holds one mask
        return self._about_places(torch.stack(each))

    def _about_places(self, spread: Tensor) -> Tensor:
        return spread.reshape(*spread.shape[:-2], *self._split).transpose(-3, -2)

    def adjoint(self, spread: Tensor) -> Tensor:
        """``[..., rows, columns, Ky, Kx]`` → ``[..., Ny, Nx]``: the conjugate transpose of what the pixels do."""
        rows, down, columns, along = self._split
        flat = spread.transpose(-3, -2).reshape(*spread.shape[:-4], rows * down, columns * along)
        return self._rows.mH @ (flat @ self._columns.conj())

    @property
    def _split(self) -> tuple[int, int, int, int]:
        """Rows of places, samples about each, columns of places, samples about each."""
        (rows, columns), (down, along) = (len(places) for places in self.places), (2 * r + 1 for r in self.reach)
        return rows, down, columns, along

    @property
    def nbytes(self) -> int:
        matrices: int = self._rows.nbytes + self._columns.nbytes
        return matrices + (0 if self._leak is None else self._leak.nbytes)


class PixelImage:
    """From a mask's transmissions to the mask as a coarser or finer grid sees it: what it resolves of the pixels.

    A grid that waves run on carries detail down to its own Nyquist limit. This is the pixels' spread, cut off there and
    transformed back: two matrices again, and what passes in the gaps.

    Args:
        count: pixels ``(y, x)``.
        pitch: of the pixels [cycles a sample].
        size: of the grid ``(y, x)``.
        step: of the grid [cycles a sample], ``(y, x)``; positions come in FFT order.
        fill_factor: by area.
        leak: amplitude that the gaps pass.
        over: what lies over pixels and gaps alike, a stop or a wavefront, ``[..., Ny, Nx]``. Transmissions have it in
            them already; the gaps get it here.
        dtype: complex64 or complex128.
        device: where the plan lives.
    """

    def __init__(
        self,
        count: Pair,
        pitch: float,
        size: Pair,
        step: tuple[float, float],
        *,
        fill_factor: float = 1.0,
        leak: float = 0.0,
        over: Tensor | None = None,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | str | None = None,
    ) -> None:
        clear = math.sqrt(fill_factor) * pitch
        waves = []
        for n, samples, apart in zip(count, size, step, strict=True):
            x = torch.fft.fftfreq(samples, apart, dtype=torch.float64)
            turns = torch.outer(x, pixel_frequencies(n, pitch))
            basis = torch.polar(torch.ones_like(turns), 2 * math.pi * (turns - turns.round()))
            waves.append(
                [
                    torch.fft.fft((side * torch.sinc(side * x))[:, None] * basis, dim=0) / (samples * apart)
                    for side in (clear, pitch)
                ]
            )
        self._rows, self._columns = (clears.to(dtype=dtype, device=device) for clears, _ in waves)
        self._leak = (leak * _of_gaps(waves[0], waves[1], over)).to(dtype=dtype, device=device) if leak else None

    def __call__(self, transmission: Tensor, which: list[int] | None = None) -> Tensor:
        """``[..., Ny, Nx]`` → ``[..., Y, X]``; ``which`` of the masks that ``over`` names they are."""
        seen: Tensor = self._rows @ (transmission.to(self._rows.dtype) @ self._columns.mT)
        if self._leak is None:
            return seen
        several = which is not None and self._leak.dim() > 2 and len(self._leak) > 1
        return seen + (self._leak[which] if several else self._leak)

    @property
    def nbytes(self) -> int:
        matrices: int = self._rows.nbytes + self._columns.nbytes
        return matrices + (0 if self._leak is None else self._leak.nbytes)


def pixel_frequencies(count: int, pitch: float, *, device: torch.device | str | None = None) -> Tensor:
    """Where pixels centred on the axis stand, in cycles a sample, in float64."""
    return (torch.arange(count, dtype=torch.float64, device=device) - (count - 1) / 2) * pitch


def _of_gaps(rows: list[Tensor], columns: list[Tensor], over: Tensor | None) -> Tensor:
    """What whole pixels make, less what their clear parts do, of light that only meets what lies over them."""
    clear, whole = zip(rows, columns, strict=True)
    if over is None:
        return torch.outer(whole[0].sum(1), whole[1].sum(1)) - torch.outer(clear[0].sum(1), clear[1].sum(1))
    light = over.to(dtype=rows[0].dtype, device=rows[0].device)
    light = light.expand(*light.shape[:-2], rows[0].shape[1], columns[0].shape[1])
    passed: Tensor = whole[0] @ (light @ whole[1].mT) - clear[0] @ (light @ clear[1].mT)
    return passed


def spread_transfer(spread: Tensor, size: Pair) -> Tensor:
    """Transfer functions ``[..., y, x]`` in FFT order of spreads ``[..., Ky, Kx]`` about their centres, K odd."""
    taps = spread.shape[-2], spread.shape[-1]
    if any(n < k for n, k in zip(size, taps, strict=True)):
        raise InputError(f"spreads of {taps} samples do not fit a grid of {size}", where="size")
    grown = torch.nn.functional.pad(spread, (0, size[1] - spread.shape[-1], 0, size[0] - spread.shape[-2]))
    transfer: Tensor = torch.fft.fft2(grown.roll((-(taps[0] // 2), -(taps[1] // 2)), (-2, -1)))
    return transfer
