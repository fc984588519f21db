"""What a camera can learn of a field, and what electronics makes of it pixel by pixel.

A camera sees |E|². A reference beam r, taken from the same laser, makes it see |E + r|², and two such readings half a
wave apart give the signed field.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fouroptics.errors import check_choice

Readout = Literal["ideal_field", "intensity", "pair_intensity", "homodyne", "interference"]
Compand = Literal["none", "sqrt", "log", "rectify", "two-sided-rectify"]
READOUTS = ("ideal_field", "intensity", "pair_intensity", "homodyne", "interference")
COMPANDS = ("none", "sqrt", "log", "rectify", "two-sided-rectify")
CAPTURES = {"ideal_field": 1, "intensity": 1, "pair_intensity": 2, "homodyne": 2, "interference": 1}
NEEDS_REFERENCE = ("homodyne", "interference")
Number = float | Tensor


def intensity(field: Tensor) -> Tensor:
    """|E|²."""
    return field.real.square() + field.imag.square() if field.is_complex() else field.square()


def interference(field: Tensor, reference: Number, *, visibility: Number = 1.0, phase: Number = 0.0) -> Tensor:
    """|E|² + r² + 2V·Re(E r e^{-iφ}): the field on a plane reference of amplitude r and phase φ."""
    phase = torch.as_tensor(phase, dtype=field.real.dtype, device=field.device)
    along = field.real * phase.cos()
    if field.is_complex():
        along = along + field.imag * phase.sin()
    return intensity(field) + reference**2 + 2 * visibility * reference * along


def patterns(
    readout: Readout,
    field: Tensor,
    *,
    reference: Number = 0.0,
    visibility: Number = 1.0,
    phase: Number = 0.0,
    step_error: Number = 0.0,
) -> Tensor:
    """What the camera is shown, capture by capture, ``[..., captures, y, x]``.

    Homodyne shows E + r and E - r, the second off by ``step_error`` [rad], of a reference turned by ``phase``. The two
    of ``pair_intensity`` are two masks and come as channels of their own, so here they are one.
    """
    check_choice("readout", readout, READOUTS)
    if readout == "ideal_field":
        return field.real.unsqueeze(-3)
    if readout in ("intensity", "pair_intensity"):
        return intensity(field).unsqueeze(-3)
    ahead = interference(field, reference, visibility=visibility, phase=phase)
    if readout == "interference":
        return ahead.unsqueeze(-3)
    step = phase + torch.pi + torch.as_tensor(step_error, dtype=field.real.dtype, device=field.device)
    return torch.stack((ahead, interference(field, reference, visibility=visibility, phase=step)), -3)


def compand(reading: Tensor, kind: Compand) -> Tensor:
    """A nonlinearity of the electronics, pixel by pixel; ``[..., channel, y, x]``.

    ``sqrt`` and ``log`` (log(1 + |r|)) keep the sign; ``two-sided-rectify`` makes two channels of each, max(r, 0) of
    all and then max(-r, 0) of all.
    """
    check_choice("compand", kind, COMPANDS)
    if kind == "sqrt":
        lit = reading != 0
        return reading.sign() * torch.where(lit, reading, 1.0).abs().sqrt()
    if kind == "log":
        return torch.where(reading < 0, -(-reading).clamp_min(0).log1p(), reading.clamp_min(0).log1p())
    if kind == "rectify":
        return reading.relu()
    if kind == "two-sided-rectify":
        return torch.cat((reading.relu(), (-reading).relu()), -3)
    return reading
