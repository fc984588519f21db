"""Where the samples of a field stand: coordinates, frequencies, the optical axis, sizes that transform fast.

Arrays are ``[..., y, x]`` with y down, like an image. The optical axis of a field grid runs through sample
``N // 2``; a device or a camera is centred on its panel, ``(N - 1) / 2``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fouroptics.errors import check_choice

Centre = Literal["axis", "panel"]


def smooth_size(at_least: int) -> int:
    """The smallest transform size of factors 2, 3, 5 and 7 that is not below ``at_least``."""
    size = max(1, at_least)
    while not _is_smooth(size):
        size += 1
    return size


def _is_smooth(size: int) -> bool:
    for prime in (2, 3, 5, 7):
        while size % prime == 0:
            size //= prime
    return size == 1


def fourier_pitch(wavelength: float, focal_length: float, samples: int, pitch: float) -> float:
    """Width of one frequency bin in a lens's Fourier plane, λf / (N·dx) [m]."""
    return wavelength * focal_length / (samples * pitch)


def coordinates(
    samples: int,
    pitch: float,
    *,
    centre: Centre = "axis",
    offset: float = 0.0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Tensor:
    """Sample positions about the optical axis [m], rising: ``(n - c)·pitch + offset``.

    ``centre`` puts the axis on sample N // 2 (fields) or on the middle of the panel (devices).
    """
    check_choice("centre", centre, ("axis", "panel"))
    middle = samples // 2 if centre == "axis" else (samples - 1) / 2
    index = torch.arange(samples, dtype=torch.float64, device=device)
    return ((index - middle) * pitch + offset).to(dtype)


def frequencies(
    samples: int,
    pitch: float = 1.0,
    *,
    half: bool = False,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Tensor:
    """Frequencies of an N-point transform in FFT order [cycles per unit of pitch]; ``half`` keeps 0 … N // 2."""
    make = torch.fft.rfftfreq if half else torch.fft.fftfreq
    nu: Tensor = make(samples, d=pitch, dtype=torch.float64, device=device)
    return nu.to(dtype)


def to_fft_order(field: Tensor) -> Tensor:
    """Bring the optical axis from sample N // 2 to sample 0, on the two picture dimensions only."""
    shifted: Tensor = torch.fft.ifftshift(field, dim=(-2, -1))
    return shifted


def to_centred(field: Tensor) -> Tensor:
    """Bring sample 0 to N // 2, the order that people and files read."""
    shifted: Tensor = torch.fft.fftshift(field, dim=(-2, -1))
    return shifted


def turn(field: Tensor) -> Tensor:
    """Turn a field by 180° about the optical axis, as two lenses in a row do.

    Counted from the axis (FFT order) this is n → (N - n) mod N. In picture order the axis is sample N // 2, so an odd
    grid is flipped and an even one is flipped and moved on by one sample.
    """
    flipped = field.flip(-2, -1)
    shifts = tuple(1 - size % 2 for size in field.shape[-2:])
    return flipped.roll(shifts, (-2, -1)) if any(shifts) else flipped
