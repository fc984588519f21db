"""Summing channels in light: beams meet on one output of a passive device, so some of the light goes elsewhere.

A lossless combiner is a unitary matrix, and one of its outputs is one row u of it: Σ|u|² ≤ 1, equal weights 1/√N.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fouroptics.errors import InputError


def equal_row(inputs: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None) -> Tensor:
    """The row of an N-to-1 combiner that treats all inputs alike, 1/√N each."""
    return torch.full((inputs,), 1 / math.sqrt(inputs), dtype=dtype, device=device)


def imperfect_row(row: Tensor, *, amplitude_error: Tensor | float = 0.0, phase_error: Tensor | float = 0.0) -> Tensor:
    """A row with errors per channel, u(1 + ε)e^{iφ}; it stays passive, so gains are taken from the whole row.

    Args:
        row: ``[N]`` amplitudes.
        amplitude_error: relative, ``[N]`` or one number.
        phase_error: [rad], ``[N]`` or one number; positive is delay.
    """
    phase = torch.as_tensor(phase_error, dtype=row.real.dtype, device=row.device)
    erring = row * (1 + amplitude_error) * torch.polar(torch.ones_like(phase), phase)
    return erring / erring.abs().square().sum().clamp_min(1.0).sqrt()


def coherent_sum(fields: Tensor, row: Tensor | None = None, *, dim: int = -3) -> Tensor:
    """The field at one output of a passive combiner, Σ u_i E_i along ``dim``.

    Raises:
        InputError: a row that would make light, Σ|u|² > 1.
    """
    row = _passive_row(fields, row, dim)
    return (_along(row, fields, dim) * fields).sum(dim)


def interference(
    fields: Tensor, row: Tensor | None = None, *, visibility: Tensor | float = 1.0, dim: int = -3
) -> Tensor:
    """The irradiance of the combined beams when they interfere with contrast V: V·|Σ uE|² + (1 - V)·Σ|uE|²."""
    contrast = torch.as_tensor(visibility).detach()
    if not bool(((contrast >= 0) & (contrast <= 1)).all()):
        raise InputError("a visibility lies between 0 and 1", where="visibility")
    row = _passive_row(fields, row, dim)
    beams = _along(row, fields, dim) * fields
    together, apart = beams.sum(dim).abs().square(), beams.abs().square().sum(dim)
    return visibility * together + (1 - visibility) * apart


def mathematical_sum(fields: Tensor, *, dim: int = -3) -> Tensor:
    """Σ E_i as numbers. No instrument does it without loss, so no power may be quoted from it."""
    return fields.sum(dim)


def _passive_row(fields: Tensor, row: Tensor | None, dim: int) -> Tensor:
    inputs = fields.shape[dim]
    if row is None:
        row = equal_row(inputs, dtype=fields.real.dtype, device=fields.device)
    if row.shape != (inputs,):
        raise InputError(f"the row has {tuple(row.shape)} weights for {inputs} inputs")
    gain = float(row.detach().abs().square().sum())
    if gain > 1 + 1e-5:
        raise InputError(f"a passive combiner has Σ|u|² ≤ 1, this row has {gain:.4g}", mend="divide it by its norm")
    return row


def _along(row: Tensor, fields: Tensor, dim: int) -> Tensor:
    shape = [1] * fields.dim()
    shape[dim] = -1
    return row.reshape(shape)
