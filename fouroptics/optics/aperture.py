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
Pitches = tuple[Length, Length]  # widths of the cells along y and x, one number or one a cell


def square(y: Tensor, x: Tensor, width: Length, *, pitch: Pitches) -> Tensor:
    """A square opening of full ``width`` [m], exact in every cell."""
    return torch.outer(slit(y, width, pitch=pitch[0]), slit(x, width, pitch=pitch[1]))


def slit(axis: Tensor, width: Length, *, pitch: Length) -> Tensor:
    """One side of a square opening: the part of each cell along one axis that is clear."""
    return _overlap(axis, width / 2, pitch)


def circular(y: Tensor, x: Tensor, diameter: Length, *, pitch: Pitches) -> Tensor:
    """A round opening, exact in every cell: the disc's area over four corners, worked out in float64."""
    radius = torch.as_tensor(diameter, dtype=torch.float64, device=y.device) / 2
    height, width = (
        torch.as_tensor(p, dtype=torch.float64, device=y.device).expand_as(a)
        for p, a in zip(pitch, (y, x), strict=True)
    )
    top, bottom = (y.double() - height / 2)[:, None], (y.double() + height / 2)[:, None]
    left, right = x.double() - width / 2, x.double() + width / 2
    area = (
        _disc_corner(bottom, right, radius)
        - _disc_corner(top, right, radius)
        - _disc_corner(bottom, left, radius)
        + _disc_corner(top, left, radius)
    )
    return (area / torch.outer(height, width)).clamp(0.0, 1.0).to(y.dtype)


def annular(y: Tensor, x: Tensor, outer: Length, inner: Length, *, pitch: Pitches) -> Tensor:
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
    pitch: Pitches,
    oversample: int = 8,
) -> Tensor:
    """Any shape: the mean of ``opening(y, x)`` over ``oversample``² points of each cell."""
    steps = [(step + 0.5) / oversample - 0.5 for step in range(oversample)]
    total = torch.zeros(len(y), len(x), dtype=y.dtype, device=y.device)
    for down in steps:
        for along in steps:
            points = (y + down * pitch[0])[:, None], (x + along * pitch[1])[None, :]
            total = total + opening(*points).to(total.dtype)
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

    On an even grid the last bin stands for both edges -N/2 and N/2 of the sampled band, half a bin each; what lies
    beyond is not there to be cut, so its cell is that half.

    Args:
        size: bins ``(y, x)``.
        bins: their pitch λf/(N·dx) [m], ``(y, x)``.
        width: full width or diameter [m].
    """
    check_choice("shape", shape, ("square", "circular"))
    (y, height), (x, width_x) = (_cells_of_bins(n, p, dtype, device) for n, p in zip(size, bins, strict=True))
    opening = square if shape == "square" else circular
    return opening(y, x, width, pitch=(height, width_x))


def _cells_of_bins(
    samples: int, pitch: float, dtype: torch.dtype, device: torch.device | str | None
) -> tuple[Tensor, Tensor]:
    """Centres and widths of the cells of a spectrum's bins in FFT order."""
    centres = torch.fft.ifftshift(grid.coordinates(samples, pitch, dtype=dtype, device=device))
    widths = torch.full_like(centres, pitch)
    if samples % 2 == 0:
        centres[samples // 2] += pitch / 4
        widths[samples // 2] = pitch / 2
    return centres, widths


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


def _overlap(centres: Tensor, half_width: Length, pitch: Length) -> Tensor:
    """The part of each cell, ``pitch`` wide, that lies inside ± half_width."""
    high = torch.minimum(centres + pitch / 2, torch.as_tensor(half_width, dtype=centres.dtype, device=centres.device))
    low = torch.maximum(centres - pitch / 2, -torch.as_tensor(half_width, dtype=centres.dtype, device=centres.device))
    return ((high - low) / pitch).clamp_min(0.0)
