"""A wanted complex transmission on a device that cannot show it: to which phase, or amplitude, each pixel is driven.

What is wanted lies within |t| ≤ 1 on the pixels, and is clipped where it does not. An encoding answers with a drive
(see ``modulator``) whose light, near the axis or in the first order of a carrier, is the wanted one, weaker by
``gain``.

    encoding       what pixels show                         where the response is       gain
    ideal          the wanted t                             on the axis                 1
    phase          its phase; the amplitude is dropped      on the axis                 (measured)
    double-phase   arg t ± arccos|t|, a chequerboard        on the axis                 1
    fit            a phase, fitted (Gerchberg-Saxton)       on the axis                 1
    carrier        a phase grating whose depth is |t|       in the first order          0.8
    lee            a grating of amplitude                   in the first order          0.27 binary, 0.22 grey

A first order's gain has its pixels' own sinc in it, 0.9, and what staggered rows cost, 0.9.

For a real kernel t(-X) = t*(X). A chequerboard is the same upside down, so the error that double-phase makes is in
quadrature with the response, pixel by pixel: Re E is exact at any number of pixels a bin, and |E|² is not.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from fouroptics.devices.modulator import Modulator, require_shows
from fouroptics.errors import check_choice

Encoding = Literal["ideal", "phase", "double-phase", "fit", "carrier", "lee"]
ENCODINGS = ("ideal", "phase", "double-phase", "fit", "carrier", "lee")
ON_CARRIER = ("carrier", "lee")
CARRIER_PERIOD = 4  # mask pixels
HEADROOM = 0.999  # the largest |t| that is asked for: the slope of arccos ends at 1
_BLAZES, _SLITS = (0.125, -0.375, 0.375, -0.125), (-0.375, 0.125, -0.125, 0.375)  # pixels that rows stand aside
_ROUNDS = 30  # of a fit
_SQUARE = (6.00003, 1.79169, 1.05325, -1.83659, 11.1001, -27.4843, 39.1312, -28.7762, 8.89029)
"""(πu)² over z in powers of z = 1 - sinc u, a fit over 0 … 1: u from it is right to 1e-5 of sinc."""
_LEAST = 1e-6  # of z: where sinc is flat, nothing is to be divided by its slope
_IN_CACHE = 2**17  # numbers


def encode(
    wanted: Tensor,
    encoding: Encoding,
    modulator: Modulator,
    *,
    field: Tensor | None = None,
    dark: Tensor | None = None,
) -> Tensor:
    """The drive that shows ``wanted`` ``[..., Ny, Nx]``, |t| ≤ 1; gradients pass it, but for a fit.

    Args:
        wanted: complex transmission at the pixels' centres.
        encoding: one of ``ENCODINGS``.
        modulator: the device.
        field: for a fit, what matters of the point-spread function: true where it does, in FFT order on a transform of
            at least as many samples as there are pixels.
        dark: true where the wanted amplitude is to be kept by encodings that drop it: a spot in the centre that blocks
            a picture's mean.

    Raises:
        InputError: the device cannot show such a drive.
    """
    check_choice("mask.encoding", encoding, ENCODINGS)
    needs = {"ideal": "complex", "lee": "amplitude"}.get(encoding, "phase")
    if not (encoding == "ideal" and modulator.kind == "metasurface"):
        require_shows(modulator, needs, encoding)
    if encoding == "lee":
        least, most = modulator.reach
        return _as_pair(least + (most - least) * _lee(wanted, binary=modulator.levels == 2), modulator)
    if encoding == "ideal":
        return torch.view_as_real(wanted) if modulator.shows == "complex" else wanted.angle()
    drive = _phases(wanted, encoding, modulator, field)
    if dark is not None and encoding in ("phase", "fit"):  # a phase by itself is bright
        drive = torch.where(dark, double_phase(wanted), drive)
    return drive if modulator.shows == "phase" else _as_pair(torch.polar(torch.ones_like(drive), drive), modulator)


def _phases(wanted: Tensor, encoding: Encoding, modulator: Modulator, field: Tensor | None) -> Tensor:
    if encoding == "phase":
        return wanted.angle()
    if encoding == "double-phase":
        return double_phase(wanted)
    if encoding == "carrier":
        return carrier(wanted, middle=modulator.middle)
    return fit_phase(wanted, _everywhere(wanted) if field is None else field)


def double_phase(wanted: Tensor) -> Tensor:
    """Two phases whose mean is t, arg t ± arccos|t|, on the two colours of a chequerboard that is the same upside down.

    Where one side is even and the other odd, a chequerboard is its own negative upside down: the even side is mirrored.
    """
    y, x = (torch.arange(n, device=wanted.device) for n in wanted.shape[-2:])
    if (len(y) + len(x)) % 2:
        y, x = (
            (side - len(side) // 2).maximum(len(side) // 2 - 1 - side) if len(side) % 2 == 0 else side
            for side in (y, x)
        )
    colour = 1.0 - 2.0 * ((y[:, None] + x) % 2)
    return wanted.angle() + colour.to(wanted.real.dtype) * wanted.abs().clamp(max=HEADROOM).acos()


def carrier(wanted: Tensor, *, middle: float = 0.0) -> Tensor:
    """A blazed grating M·ψ, ψ = arg t - 2πX/T within ±π: its first order is sinc(1 - M), so that M = 1 - sinc⁻¹|t|.

    Counted from the middle of each period, the first order's phase is arg t at any depth; from its edge it would be
    off by πM. Four pixels a period of a shallow blaze have four phases only, so rows are staggered.

    Args:
        wanted: complex transmission.
        middle: the phase about which it runs. In the middle of what a device shows, a shallow blaze has no flyback
            from its last level to its first, through which a liquid crystal would pass all phases between.
    """
    ramp = _staggered(wanted, _BLAZES) - middle
    depth = 1 - _inverse_sinc(wanted.abs().clamp(max=HEADROOM))
    return middle + depth * (torch.remainder(ramp + math.pi, 2 * math.pi) - math.pi)


def carrier_phase(pixels: int, device: torch.device | None = None) -> Tensor:
    """-2πX/T of pixels centred on the axis, in float64: light goes to positive x."""
    rank = torch.arange(pixels, dtype=torch.float64, device=device) - (pixels - 1) / 2
    return -2 * math.pi * rank / CARRIER_PERIOD


def fit_phase(wanted: Tensor, field: Tensor, *, rounds: int = _ROUNDS) -> Tensor:
    """The phase-only mask whose point-spread function is the wanted one within the field, and anything beyond it.

    Gerchberg and Saxton's way there and back: the spread is put right in the field, the transmission's amplitude on the
    mask. It begins with double-phase. Not differentiable; its result is a start for training the pixels themselves.
    """
    phases = []
    with torch.no_grad():
        for one in wanted.reshape(-1, *wanted.shape[-2:]):
            phase = double_phase(one)
            aim = torch.fft.fft2(one, s=field.shape) * field
            for _ in range(rounds):
                spread = torch.fft.fft2(torch.polar(torch.ones_like(phase), phase), s=field.shape)
                back = torch.fft.ifft2(torch.where(field, aim, spread))
                phase = back[: one.shape[0], : one.shape[1]].angle()
            phases.append(phase)
    return torch.stack(phases).reshape(wanted.shape)


def _lee(wanted: Tensor, *, binary: bool) -> Tensor:
    """A grating of amplitude moved by the phase: grey, ½ + ½|t|·cos θ; binary, open over asin|t|/π of each period."""
    size = wanted.abs().clamp(max=HEADROOM)
    if not binary:
        return (1 + size * _on_carrier(wanted).cos()) / 2
    return ((_staggered(wanted, _SLITS).cos() - (1 - size.square()).sqrt()) / 2 + 0.5).clamp(0, 1)


def _on_carrier(wanted: Tensor) -> Tensor:
    """arg t - 2πX/T."""
    return carrier_phase(wanted.shape[-1], wanted.device).to(wanted.real.dtype) + wanted.angle()


def _staggered(wanted: Tensor, aside: tuple[float, ...]) -> Tensor:
    """The same with rows moved by quarters of a pixel.

    Four pixels a period have few states: a binary grating is open in five ways, a shallow blaze has four phases. Rows
    that are staggered have four times as many, and what that adds goes to orders far off in y.
    """
    quarters = torch.tensor(aside, dtype=wanted.real.dtype, device=wanted.device)
    rows = quarters[torch.arange(wanted.shape[-2], device=wanted.device) % len(aside)]
    return _on_carrier(wanted) + (rows * (2 * math.pi / CARRIER_PERIOD))[:, None]


def _inverse_sinc(value: Tensor) -> Tensor:
    """u in [0, 1] with sin(πu)/πu = value: a polynomial and Newton's method, with the gradient of its last step."""
    with torch.no_grad():
        flat = value.detach().flatten()
        parts = torch.split(flat, _IN_CACHE if flat.device.type == "cpu" else max(1, len(flat)))
        root = torch.cat([_sinc_root(some) for some in parts]).reshape(value.shape)
    if not torch.is_grad_enabled():
        return root
    slope = ((math.pi * root).cos() - torch.sinc(root)) / root
    return root + (value - value.detach()) / slope


def _sinc_root(value: Tensor) -> Tensor:
    rest = (1 - value).clamp_min(_LEAST)
    square = torch.full_like(rest, _SQUARE[-1])
    for coefficient in reversed(_SQUARE[:-1]):
        square.mul_(rest).add_(coefficient)
    root = square.mul_(rest).sqrt_() / math.pi
    for _ in range(1 if value.dtype == torch.float32 else 2):
        now = torch.sinc(root)
        root -= (now - value) * root / ((math.pi * root).cos() - now)
    return root


def _as_pair(wanted: Tensor, modulator: Modulator) -> Tensor:
    """A phase or amplitude mask on the ideal plate."""
    if modulator.shows != "complex":
        return wanted
    return torch.view_as_real(wanted.to(torch.promote_types(wanted.dtype, torch.complex64)))


def _everywhere(wanted: Tensor) -> Tensor:
    return torch.ones(wanted.shape[-2:], dtype=torch.bool, device=wanted.device)
