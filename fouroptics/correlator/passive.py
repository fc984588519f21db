"""How far kernels have to be turned down until a mask, which cannot amplify, can show them."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from fouroptics.optics import fourier, grid
from fouroptics.optics.correlation import picture_size
from fouroptics.optics.fourier import Pair


def passive_scale(taps: Tensor, *, summed: bool, masks: int = 1) -> Tensor:
    """Per output, the largest factor, less at most 4 %, with which no mask has to amplify, ``[out]``.

    Between the frequencies that are looked at |H| can be higher, by no more than 1/cos(πd/n) for a kernel of ±d taps on
    n samples (Riesz), and that is allowed for; beyond 32 taps a side it costs 15 %.

    Args:
        taps: ``[out, in, ky, kx]``.
        summed: one mask carries all kernels of an output, so its transmission reaches Σ_i|H_oi|.
        masks: an output has so many, first all outputs' first ones; they share a factor, and there are as many fewer.
    """
    fine = _fine_size(picture_size(taps))
    block = max(1, 2**20 // (taps.shape[1] * math.prod(fine)))
    peak = torch.cat([_peaks(part, fine, summed) for part in torch.split(taps, block)])
    peak = peak.reshape(masks, -1).amax(0)
    empty = peak == 0
    return torch.where(empty, 1.0, _between(picture_size(taps), fine) / torch.where(empty, 1.0, peak))


def _fine_size(taps: Pair) -> Pair:
    """Frequencies at which a mask's peak is looked for: eight a tap, four for large kernels."""
    height, width = (grid.smooth_size((8 if k <= 32 else 4) * k) for k in taps)
    return height, width


def _between(taps: Pair, fine: Pair) -> float:
    return math.prod(math.cos(math.pi * (k - 1) / 2 / n) for k, n in zip(taps, fine, strict=True))


def _peaks(taps: Tensor, fine: Pair, summed: bool) -> Tensor:
    """Largest transmission that kernels ``[out, in, ky, kx]`` ask of a mask, ``[out]``."""
    combine = partial(torch.sum if summed else torch.amax, dim=1)
    with torch.no_grad():  # find the frequencies on the whole grid, then differentiate at those only
        magnitude = fourier.kernel_transfer(taps, fine, half=not taps.is_complex()).abs()
        brightest = combine(magnitude).flatten(1).argmax(1)
    rows, columns = brightest // magnitude.shape[-1], brightest % magnitude.shape[-1]
    return combine(fourier.transfer_at(taps, (rows, columns), fine).abs())


def positive_negative(taps: Tensor) -> Tensor:
    """Kernels k → their parts k⁺ and k⁻, both ≥ 0, k = k⁺ - k⁻, as twice the outputs."""
    return torch.cat((taps.abs() + taps, taps.abs() - taps)) / 2  # at 0 both have half the slope
