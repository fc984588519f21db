"""Antialiased openings: the part of each sample's own cell that an aperture leaves clear, between 0 and 1.

Coordinates are one-dimensional tensors ``y`` and ``x`` of cell centres [m] in any order, so the same functions serve a
centred picture and a spectrum in FFT order. Sizes may be tensors and carry gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from fouroptics.errors import InputError, check_choice
from fouroptics.optics import grid

Shape = Literal["square", "circular"]
Length = float | Tensor


def square(y: Tensor, x: Tensor, width: Length, *, pitch: tuple[float, float]) -> Tensor:
    """A square opening of full ``width`` [m], exact in every cell."""
    return torch.outer(_overlap(y, width / 2, pitch[0]), _overlap(x, width / 2, pitch[1]))


def circular(y: Tensor, x: Tensor, diameter: Length, *, pitch: tuple[float, float]) -> Tensor:
    """A round opening, exact in every cell: the disc's area over four corners, worked out in float64."""
    radius = torch.as_tensor(diameter, dtype=torch.float64, device=y.device) / 2
    (top, bottom), (left, right) = (
        (axis.double()[shape] - p / 2, axis.double()[shape] + p / 2)
        for axis, p, shape in zip((y, x), pitch, ((slice(None), None), (None, slice(None))), strict=True)
    )
    area = (
        _disc_corner(bottom, right, radius)
        - _disc_corner(top, right, radius)
        - _disc_corner(bottom, left, radius)
        + _disc_corner(top, left, radius)
    )
    return (area / (pitch[0] * pitch[1])).clamp(0.0, 1.0).to(y.dtype)


def annular(y: Tensor, x: Tensor, outer: Length, inner: Length, *, pitch: tuple[float, float]) -> Tensor:
    """A ring between two diameters [m]."""
    hole, disc = (float(torch.as_tensor(diameter).detach()) for diameter in (inner, outer))
    if hole > disc:
        raise InputError(f"the inner diameter {hole:g} m is larger than the outer {disc:g} m")
    return circular(y, x, outer, pitch=pitch) - circular(y, x, inner, pitch=pitch)


def arbitrary(
    y: Tensor,
    x: Tensor,
    opening: Callable[[Tensor, Tensor], Tensor],
    *,
    pitch: tuple[float, float],
    oversample: int = 8,
) -> Tensor:
    """Any shape: the mean of ``opening(y, x)`` over ``oversample``² points of each cell."""
    steps = (torch.arange(oversample, dtype=y.dtype, device=y.device) + 0.5) / oversample - 0.5
    total = torch.zeros(len(y), len(x), dtype=y.dtype, device=y.device)
    for dy in steps * pitch[0]:
        for dx in steps * pitch[1]:
            total = total + opening(y[:, None] + dy, x[None, :] + dx).to(total.dtype)
    return total / oversample**2


def stop(
    size: tuple[int, int],
    bins: tuple[float, float],
    width: Length,
    *,
    shape: Shape = "square",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Tensor:
    """A stop in the Fourier plane on a spectrum's bins, in FFT order: low-pass pooling by hardware.

    On an even grid the last bin stands for both edges -N/2 and N/2, half a bin each; what lies outside the sampled band
    is not there to be cut, so the halves are added.

    Args:
        size: bins ``(y, x)``.
        bins: their pitch λf/(N·dx) [m], ``(y, x)``.
        width: full width or diameter [m].
    """
    check_choice("shape", shape, ("square", "circular"))
    y, x = (
        torch.fft.ifftshift(grid.coordinates(n, p, dtype=dtype, device=device))
        for n, p in zip(size, bins, strict=True)
    )
    clear = square(y, x, width, pitch=bins) if shape == "square" else circular(y, x, width, pitch=bins)
    for dim, n in zip((-2, -1), size, strict=True):
        if n % 2 == 0 and n > 1:
            both_edges = torch.ones(n, dtype=dtype, device=device)
            both_edges[n // 2] = 2.0
            clear = (clear * (both_edges[:, None] if dim == -2 else both_edges)).clamp_max(1.0)
    return clear


def stopped_size(size: tuple[int, int], bins: tuple[float, float], width: float) -> tuple[int, int]:
    """The spectral crop that a square stop stands for: how many samples carry all that it lets through."""
    sizes = [min(n, max(1, math.floor(width / p + 1e-9))) for n, p in zip(size, bins, strict=True)]
    return sizes[0], sizes[1]


def _disc_corner(y: Tensor, x: Tensor, radius: Tensor) -> Tensor:
    """Area of a disc within the rectangle from its centre to the corner (y, x), with the sign of y·x.

    For a corner outside: ½ [a√(r²-a²) + b√(r²-b²) + r² (asin a/r + asin b/r - π/2)], a and b no longer than r.
    """
    (a, rise_a), (b, rise_b) = (_on_disc(y.abs(), radius), _on_disc(x.abs(), radius))
    angles = torch.atan2(a, rise_a) + torch.atan2(b, rise_b) - math.pi / 2
    outside = 0.5 * (a * rise_a + b * rise_b + radius**2 * angles)
    return torch.where(a**2 + b**2 < radius**2, a * b, outside) * y.sign() * x.sign()


def _on_disc(distance: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """A distance, at most the radius, and the half chord there."""
    within = distance < radius
    a = torch.where(within, distance, radius)
    chord = torch.where(within, radius**2 - distance**2, 1.0).sqrt()
    return a, torch.where(within, chord, 0.0)


def _overlap(centres: Tensor, half_width: Length, pitch: float) -> Tensor:
    """The part of each cell, ``pitch`` wide, that lies inside ± half_width."""
    high = torch.minimum(
        centres + pitch / 2, torch.as_tensor(half_width, dtype=centres.dtype, device=centres.device)
    )
    low = torch.maximum(
        centres - pitch / 2, -torch.as_tensor(half_width, dtype=centres.dtype, device=centres.device)
    )
    return ((high - low) / pitch).clamp_min(0.0)
