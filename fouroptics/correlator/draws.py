"""Many draws of what is off, over many pictures: together where memory allows, one by one where masks differ."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fouroptics.imperfections import Imperfections
from fouroptics.optics import combine

_CHUNK = 2**28  # bytes at a time, where no gradient keeps them anyway
Response = Callable[[Tensor, Imperfections], Tensor]


def leading_of(amplitude: Tensor, errors: Imperfections) -> tuple[int, ...]:
    """Leading dimensions of what comes out: those of the light ``[..., in, y, x]`` and of the draws, broadcast."""
    return np.broadcast_shapes(tuple(amplitude.shape[:-3]), errors.shape)


def draw_by_draw(respond: Response, amplitude: Tensor, errors: Imperfections) -> Tensor:
    """One draw after another, each with the pictures that it meets; shapes broadcast as if it were all at once.

    What a gradient needs of a draw's own masks is worked out again when it is wanted, draw by draw.
    """
    leading = leading_of(amplitude, errors)
    pictures = amplitude.expand(*leading, *amplitude.shape[-3:]).reshape(-1, *amplitude.shape[-3:])
    flat = errors.reshape(-1)
    draws = torch.arange(flat.shape[0]).reshape(errors.shape).expand(leading).flatten()
    once = partial(checkpoint, respond, use_reentrant=False, preserve_rng_state=False)
    order, parts = [], []
    for draw in range(flat.shape[0]):
        rows = (draws == draw).nonzero().flatten()
        order.append(rows)
        each = once if torch.is_grad_enabled() and flat.shape[0] > 1 else respond
        parts.append(each(pictures[rows], flat.at(draw)))
    back = torch.cat(order).argsort()
    together = torch.cat(parts)[back]
    return together.reshape(*leading, *together.shape[1:])


def in_chunks(respond: Response, amplitude: Tensor, errors: Imperfections, each: int) -> Tensor:
    """So many answers at once as memory is meant for, ``each`` of so many bytes; all where a gradient is kept."""
    leading = leading_of(amplitude, errors)
    if each * math.prod(leading) <= _CHUNK or math.prod(leading) == 1 or torch.is_grad_enabled():
        return respond(amplitude, errors)
    dim = next(dim for dim, n in enumerate(leading) if n > 1)
    rows = max(1, _CHUNK // max(1, each * math.prod(leading[dim + 1 :])))
    light = amplitude.reshape(*(1,) * (len(leading) + 3 - amplitude.dim()), *amplitude.shape)
    drawn = errors.reshape(*(1,) * (len(leading) - len(errors.shape)), *errors.shape)
    parts = []
    for first in range(0, leading[dim], rows):
        some = (slice(None),) * dim + (slice(first, first + rows),)
        parts.append(
            in_chunks(
                respond,
                light[some] if light.shape[dim] > 1 else light,
                drawn.at(some) if drawn.shape[dim] > 1 else drawn,
                each,
            )
        )
    return torch.cat(parts, dim)


def combiner_weights(draw: Imperfections, transfer: Tensor) -> Tensor:
    """What a combiner's errors make of each transfer function ``[out, in, ...]``, relative to equal weights."""
    outputs, inputs = transfer.shape[:2]
    equal = combine.equal_row(inputs, dtype=transfer.real.dtype, device=transfer.device)
    rows = []
    for output in range(outputs):
        errors = [draw.get(f"combiner.{name}") for name in ("amplitude", "phase")]
        mine = [0.0 if e is None else e[output % e.shape[0]].to(equal) for e in errors]
        rows.append(combine.imperfect_row(equal, amplitude_error=mine[0], phase_error=mine[1]) / equal)
    return torch.stack(rows)[:, :, None, None]
