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


def blurred(phase: Tensor, sigma: float) -> Tensor:
    """Mean of e^{iφ} over each pixel, its phase blurred by a Gaussian of ``sigma`` pixels: at 4 × 4 points or 5 × 5."""
    mean: Tensor = _Blurred.apply(phase, sigma)  # type: ignore[no-untyped-call]
    return mean


class _Blurred(torch.autograd.Function):
    """Mask by mask, with its gradient by hand: autograd would keep, or work out twice, every point of every pixel."""

    @staticmethod
    def forward(ctx: Any, phase: Tensor, sigma: float) -> Tensor:
        ctx.save_for_backward(phase)
        ctx.sigma = sigma
        masks = []
        for one in _stacked(phase):
            cosine, sine = torch.zeros_like(one), torch.zeros_like(one)
            for _, _, weight, moved in _moved(one, sigma):
                cosine.add_(moved.cos(), alpha=weight)
                sine.add_(moved.sin(), alpha=weight)
            masks.append(torch.complex(cosine, sine))
        return torch.stack(masks).reshape(phase.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (phase,), sigma = ctx.saved_tensors, ctx.sigma
        masks = []
        for one, gradient in zip(_stacked(phase), _stacked(gradients[0]), strict=True):
            total = torch.zeros_like(one)
            for down, along, weight, moved in _moved(one, sigma):
                turned = gradient.imag * moved.cos() - gradient.real * moved.sin()
                total = total + _given_back(_given_back(turned * weight, along, sigma, -1), down, sigma, -2)
            masks.append(total)
        return torch.stack(masks).reshape(phase.shape), None


def _stacked(masks: Tensor) -> Tensor:
    return masks.reshape(-1, *masks.shape[-2:])


def _moved(phase: Tensor, sigma: float) -> Iterator[tuple[float, float, float, Tensor]]:
    """The blurred phase at the points of all pixels: where in the pixel, ``(y, x)``, its weight, its phases."""
    for down, heavy in _points(sigma):
        rows = _weighed_neighbours(phase, down, sigma, -2)
        for along, weight in _points(sigma):
            yield down, along, heavy * weight, _weighed_neighbours(rows, along, sigma, -1)


def _points(sigma: float) -> list[tuple[float, float]]:
    """Where a blurred pixel is looked at, and the weights: Gauss's points, those of its edges if the blur is narrow."""
    if sigma > _NARROW:
        return [(sign * at, weight) for at, weight in _GAUSS for sign in (-1, 1)]
    edges = [(sign * (0.5 - sigma * (1 + part / math.sqrt(3))), sigma) for sign in (-1, 1) for part in (-1, 1)]
    return [*edges, (0.0, 1 - 4 * sigma)]


def _weighed_neighbours(phase: Tensor, at: float, sigma: float, dim: int) -> Tensor:
    """The blurred phase at a point of each pixel: what of the Gaussian about it falls on each neighbour."""
    parts = _neighbours(at, sigma)
    far, count = len(parts) // 2, phase.shape[dim]
    first, last = phase.narrow(dim, 0, 1), phase.narrow(dim, count - 1, 1)
    wide = torch.cat((*[first] * far, phase, *[last] * far), dim)
    total = torch.zeros_like(phase)
    for step, part in enumerate(parts):
        total.add_(wide.narrow(dim, step, count), alpha=part)
    return total


def _given_back(gradient: Tensor, at: float, sigma: float, dim: int) -> Tensor:
    """The transpose of ``_weighed_neighbours``."""
    parts = _neighbours(at, sigma)
    far, count = len(parts) // 2, gradient.shape[dim]
    room = list(gradient.shape)
    room[dim] += 2 * far
    wide = gradient.new_zeros(room)
    for step, part in enumerate(parts):
        wide.narrow(dim, step, count).add_(gradient, alpha=part)
    own = wide.narrow(dim, far, count).clone()  # what lies beyond the edges is their own
    own.narrow(dim, 0, 1).add_(wide.narrow(dim, 0, far).sum(dim, keepdim=True))
    own.narrow(dim, count - 1, 1).add_(wide.narrow(dim, far + count, far).sum(dim, keepdim=True))
    return own


def _neighbours(at: float, sigma: float) -> list[float]:
    """Of the Gaussian about a point of a pixel, what falls on each neighbour and on the pixel itself."""
    far = max(1, math.ceil(4 * sigma))
    edges = [_normal_below((step - 0.5 - at) / sigma) for step in range(-far, far + 2)]
    return [above - below for below, above in pairwise(edges)]


def _normal_below(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
