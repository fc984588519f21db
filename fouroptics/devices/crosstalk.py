"""What a liquid crystal's neighbours do to a pixel's phase: it runs smoothly from one to the next.

The displayed phase is a Gaussian blur of the wanted one, and a pixel passes the mean of e^{iφ} over its area.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

_GAUSS = ((0.1699905, 0.3260726), (0.4305682, 0.1739274))  # points of a pixel beside its centre, and their weights
_NARROW = 0.15  # pixels; a blur below that only reaches a pixel's edges
_IN_CACHE = 2**16  # pixels of a band
_AT_ONCE = 2**25  # pixels of masks on another device


def blurred(phase: Tensor, sigma: float) -> Tensor:
    """Mean of e^{iφ} over each pixel, its phase blurred by a Gaussian of ``sigma`` pixels: at 4 × 4 points or 5 × 5."""
    mean: Tensor = _Blurred.apply(phase, sigma)  # type: ignore[no-untyped-call]
    return mean


def reach(sigma: float) -> int:
    """Pixels by which a neighbour reaches."""
    return math.ceil(4 * sigma)


class _Blurred(torch.autograd.Function):
    """Mask by mask, with its gradient by hand: autograd would keep, or work out twice, every point of every pixel.

    On a processor one mask after another is done in bands of rows that its cache holds; elsewhere as many at once as
    keep the device busy.
    """

    @staticmethod
    def forward(ctx: Any, phase: Tensor, sigma: float) -> Tensor:
        ctx.save_for_backward(phase)
        ctx.sigma = sigma
        found = []
        for some in _groups(phase):
            wide, mean = _beyond_edges(some, sigma), torch.complex(some, some)
            for band in _bands(some):
                cosine, sine = torch.zeros_like(some[:, band]), torch.zeros_like(some[:, band])
                for _, along in _moved(_about(wide, band, sigma), sigma):
                    for _, weight, moved in along:
                        cosine.add_(moved.cos(), alpha=weight)
                        sine.add_(moved.sin(), alpha=weight)
                mean[:, band] = torch.complex(cosine, sine)
            found.append(mean)
        return torch.cat(found).reshape(phase.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (phase,), sigma = ctx.saved_tensors, ctx.sigma
        found = []
        for some, gradient in zip(_groups(phase), _groups(gradients[0]), strict=True):
            wide = _beyond_edges(some, sigma)
            total = torch.zeros_like(wide)
            for band in _bands(some):
                strip = _about(wide, band, sigma)
                cosine, sine = gradient[:, band].imag.contiguous(), gradient[:, band].real.contiguous()
                for down, along in _moved(strip, sigma):
                    rows = torch.zeros_like(strip[:, : cosine.shape[1]])
                    for at, weight, moved in along:
                        turned = (cosine * moved.cos()).addcmul_(sine, moved.sin(), value=-1)
                        _give_back(rows, turned * weight, at, sigma, -1)
                    _give_back(_about(total, band, sigma), rows, down, sigma, -2)
            found.append(_folded(_folded(total, sigma, -1), sigma, -2))
        return torch.cat(found).reshape(phase.shape), None


def _groups(masks: Tensor) -> list[Tensor]:
    """Masks ``[some, y, x]`` that are done at once."""
    stacked = masks.reshape(-1, *masks.shape[-2:])
    pixels = max(1, math.prod(masks.shape[-2:]))
    count = 1 if masks.device.type == "cpu" else max(1, _AT_ONCE // pixels)
    return [stacked[first : first + count] for first in range(0, len(stacked), count)]


def _beyond_edges(phase: Tensor, sigma: float) -> Tensor:
    """Masks with their neighbours' phases beyond their edges: the edges' own."""
    far = reach(sigma)
    return torch.nn.functional.pad(phase, (far, far, far, far), mode="replicate")


def _bands(masks: Tensor) -> list[slice]:
    count, width = masks.shape[-2:]
    rows = count if masks.device.type != "cpu" else max(1, _IN_CACHE // width)
    return [slice(top, min(top + rows, count)) for top in range(0, count, rows)]


def _about(wide: Tensor, band: slice, sigma: float) -> Tensor:
    """A band and its neighbours' rows."""
    return wide[:, band.start : band.stop + 2 * reach(sigma)]


Points = Iterator[tuple[float, float, Tensor]]


def _moved(wide: Tensor, sigma: float) -> Iterator[tuple[float, Points]]:
    """The blurred phase at the points of all pixels: y in the pixel, then for each x its weight and the phases."""
    for down, heavy in _points(sigma):
        rows = _weighed_neighbours(wide, down, sigma, -2)
        along = ((at, heavy * weight, _weighed_neighbours(rows, at, sigma, -1)) for at, weight in _points(sigma))
        yield down, along


def _points(sigma: float) -> list[tuple[float, float]]:
    """Where a blurred pixel is looked at, and the weights: Gauss's points, those of its edges if the blur is narrow."""
    if sigma > _NARROW:
        return [(sign * at, weight) for at, weight in _GAUSS for sign in (-1, 1)]
    edges = [(sign * (0.5 - sigma * (1 + part / math.sqrt(3))), sigma) for sign in (-1, 1) for part in (-1, 1)]
    return [*edges, (0.0, 1 - 4 * sigma)]


def _weighed_neighbours(wide: Tensor, at: float, sigma: float, dim: int) -> Tensor:
    """The blurred phase at a point of each pixel: what of the Gaussian about it falls on each neighbour."""
    first, *others = _neighbours(at, sigma)
    count = wide.shape[dim] - len(others)
    total = wide.narrow(dim, 0, count) * first
    for step, part in enumerate(others, 1):
        total.add_(wide.narrow(dim, step, count), alpha=part)
    return total


def _give_back(wide: Tensor, gradient: Tensor, at: float, sigma: float, dim: int) -> None:
    """The transpose of ``_weighed_neighbours``, added."""
    for step, part in enumerate(_neighbours(at, sigma)):
        wide.narrow(dim, step, gradient.shape[dim]).add_(gradient, alpha=part)


def _folded(wide: Tensor, sigma: float, dim: int) -> Tensor:
    """The transpose of ``_beyond_edges``: what lies beyond the edges is their own."""
    far = reach(sigma)
    count = wide.shape[dim] - 2 * far
    own = wide.narrow(dim, far, count).clone()
    own.narrow(dim, 0, 1).add_(wide.narrow(dim, 0, far).sum(dim, keepdim=True))
    own.narrow(dim, count - 1, 1).add_(wide.narrow(dim, far + count, far).sum(dim, keepdim=True))
    return own


def _neighbours(at: float, sigma: float) -> list[float]:
    """Of the Gaussian about a point of a pixel, what falls on each neighbour and on the pixel itself."""
    far = reach(sigma)
    edges = [_normal_below((step - 0.5 - at) / sigma) for step in range(-far, far + 2)]
    return [above - below for below, above in pairwise(edges)]


def _normal_below(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
