"""The bank's arithmetic: correlations of many inputs with many kernels, one transform each way a channel.

    fields ─ one transform an input ─► × transfer functions, Σ over inputs ─► one inverse an output ─► responses

Memory grows with B·(in + out) planes, never with B·in·out: the sum runs in place, one input at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fouroptics.errors import InputError, check_choice
from fouroptics.optics import fourier, grid
from fouroptics.optics.fourier import Pair

Boundary = Literal["linear", "circular"]
Window = Callable[[Tensor, slice, slice], Tensor]  # responses, and which of the batch and of the outputs they are
Transfer = Callable[[int, int], Tensor]  # transfer functions [n, in, v, u] of outputs from one number to another

_CACHE_BLOCK = 2**21  # bytes of spectrum at a time when nothing is kept for a gradient: it stays in cache
_GRADIENT_BLOCK = 2**28  # the same when a gradient is wanted: a block's transfer functions are computed twice


def correlate(
    fields: Tensor,
    kernels: Tensor,
    *,
    boundary: Boundary = "linear",
    upright: bool = True,
    pupil: Tensor | None = None,
    size: Pair | None = None,
    see: Window | None = None,
) -> Tensor:
    """What a bank of ideal 4f correlators makes of ``fields``: ``conv2d`` with ``padding="same"``, in light.

    Real fields and kernels give a real result by half the work.

    Args:
        fields: ``[..., in, y, x]`` real or complex amplitudes.
        kernels: ``[out, in, ky, kx]`` real or complex.
        boundary: ``"linear"`` has a dark surround, ``"circular"`` wraps at the size given.
        upright: False leaves the picture turned by 180°, as the second lens does.
        pupil: what stands in the Fourier plane, ``[y, x]`` in FFT order: a stop (real), an aberration (complex).
            Its size is the working grid's.
        size: of the working grid; None: ``working_size`` chooses, with no room for more than the kernels' reach.
        see: what to make of responses ``[batch, out, y, x]`` on the whole working grid, the picture's sample 0 at its
            corner, block by block, told which of the batch and of the outputs they are; None takes the picture's
            samples.

    Returns:
        ``[..., out, y, x]``, or what ``see`` makes of it.
    """
    check_choice("boundary", boundary, ("linear", "circular"))
    _check_shapes(fields, kernels)
    picture = picture_size(fields)
    padded = size or working_size(picture, picture_size(kernels), boundary, upright=upright)
    half = not any(tensor is not None and tensor.is_complex() for tensor in (fields, kernels, pupil))

    def transfer(first: int, last: int) -> Tensor:
        return fourier.kernel_transfer(kernels[first:last], padded, half=half)

    see = see or partial(picture_window, size=picture, upright=upright)
    return _through(fields, transfer, kernels.shape[0], kernels.requires_grad, _Form(padded, half), pupil, see)


def filtered(
    fields: Tensor,
    transfer: Tensor,
    *,
    see: Window,
    pupil: Tensor | None = None,
) -> Tensor:
    """The same for any transfer functions ``[out, in, v, u]``, on whose grid the fields are laid.

    Args:
        fields: ``[..., in, y, x]`` of at most the grid's size, their sample 0 at its corner.
        transfer: complex, in FFT order.
        see: what to make of responses ``[batch, out, v, u]`` on the grid, block by block.
        pupil: ``[v, u]``, or one for each of the fields, ``[..., v, u]``.
    """
    form = _Form(picture_size(transfer), half=False)
    return _through(
        fields, lambda first, last: transfer[first:last], transfer.shape[0], transfer.requires_grad, form, pupil, see
    )


def _through(
    fields: Tensor,
    transfer: Transfer,
    outputs: int,
    learns: bool,
    form: _Form,
    pupil: Tensor | None,
    see: Window,
) -> Tensor:
    leading = fields.shape[:-3]
    batch = fields.flatten(0, -4) if fields.dim() > 3 else fields[None]
    with torch.autocast(fields.device.type, enabled=False):
        spectrum = torch.fft.rfft2(batch, s=form.padded) if form.half else torch.fft.fft2(batch, s=form.padded)
        if pupil is not None:
            spectrum, leading = _behind(spectrum, pupil[..., : form.columns], leading)
        kept = torch.is_grad_enabled() and (spectrum.requires_grad or learns)
        response = (_outputs_for_gradient if kept else _outputs)(spectrum, transfer, outputs, form, see)
    return response.reshape(*leading, *response.shape[1:])


def _behind(spectrum: Tensor, pupil: Tensor, leading: torch.Size) -> tuple[Tensor, torch.Size]:
    """Spectra ``[B, in, v, u]`` behind pupils whose leading dimensions broadcast with those of the fields."""
    if pupil.dim() == 2:
        return spectrum * pupil, leading
    apart = spectrum.reshape(*leading, *spectrum.shape[1:]) * pupil.unsqueeze(-3)
    return apart.flatten(0, -4) if apart.dim() > 3 else apart[None], apart.shape[:-3]


def working_size(
    size: Pair, kernel: Pair, boundary: Boundary, *, upright: bool = True, surround: Pair = (0, 0)
) -> Pair:
    """The grid that the transforms run on: the size given, or a smooth one with room for the kernel's reach.

    A turned picture on an even grid also shows the sample just beyond it, so that one needs room as well. ``surround``
    is more dark room, ``(y, x)``, for what spreads light further than the kernel does.
    """
    if boundary == "circular":
        return size
    beyond = 0 if upright else 1
    height, width = (grid.smooth_size(n + k // 2 + beyond + s) for n, k, s in zip(size, kernel, surround, strict=True))
    return height, width


@dataclass(frozen=True)
class _Form:
    """Of a spectrum: the grid's size, and whether half of it is kept."""

    padded: Pair
    half: bool

    @property
    def columns(self) -> int:
        return self.padded[1] // 2 + 1 if self.half else self.padded[1]


def _summed(spectrum: Tensor, transfer: Tensor) -> Tensor:
    """Σ_i X[b, i]·H[o, i] at every frequency, one input at a time and in place: no array of B × O × I is made."""
    total = spectrum[:, None, 0] * transfer[None, :, 0]
    for channel in range(1, spectrum.shape[1]):
        total.addcmul_(spectrum[:, None, channel], transfer[None, :, channel])
    return total


class _ChannelSum(torch.autograd.Function):
    """The same, of which no more is kept for a gradient than what went in."""

    generate_vmap_rule = True

    @staticmethod
    def forward(spectrum: Tensor, transfer: Tensor) -> Tensor:
        return _summed(spectrum, transfer)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        spectrum, transfer = inputs
        to_spectrum, to_transfer = ctx.needs_input_grad
        ctx.save_for_backward(spectrum if to_transfer else None, transfer if to_spectrum else None)
        ctx.save_for_forward(spectrum, transfer)

    @staticmethod
    def jvp(ctx: Any, spectrum: Tensor | None, transfer: Tensor | None) -> Tensor:
        given = ctx.saved_tensors
        parts = [
            channel_sum(*pair)
            for pair in ((spectrum, given[1]), (given[0], transfer))
            if pair[0] is not None and pair[1] is not None
        ]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        spectrum, transfer = ctx.saved_tensors
        conjugate = gradient.conj().resolve_conj()
        to_spectrum = to_transfer = None
        if ctx.needs_input_grad[0]:
            to_spectrum = channel_sum(conjugate, transfer.transpose(0, 1)).conj()
        if ctx.needs_input_grad[1]:
            to_transfer = channel_sum(conjugate.transpose(0, 1), spectrum.transpose(0, 1)).conj()
        return to_spectrum, to_transfer


def channel_sum(spectrum: Tensor, transfer: Tensor) -> Tensor:
    """``[B, in, v, u]`` and ``[out, in, v, u]`` → ``[B, out, v, u]``, differentiable to any order."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():  # compilers know no derivatives of our own
        return _summed(spectrum, transfer)
    return _ChannelSum.apply(spectrum, transfer)  # type: ignore[no-any-return,no-untyped-call]


def _outputs(spectrum: Tensor, transfer: Transfer, outputs: int, form: _Form, see: Window) -> Tensor:
    """All outputs in blocks that stay in cache, written into one array."""
    batch = spectrum.shape[0]
    plane = spectrum[0, 0].nbytes
    budget = _CACHE_BLOCK if spectrum.device.type == "cpu" else _GRADIENT_BLOCK
    of_outputs = _per_block(budget, plane, outputs)
    of_batch = _per_block(budget, plane * of_outputs, batch)
    result = None
    for o in range(0, outputs, of_outputs):
        here = transfer(o, o + of_outputs)
        for b in range(0, batch, of_batch):
            mine = slice(b, b + of_batch), slice(o, o + of_outputs)
            block = see(_inverse(channel_sum(spectrum[mine[0]], here), form), *mine)
            if block.shape[:2] == (batch, outputs):
                return block.contiguous()
            if result is None:
                result = block.new_empty((batch, outputs, *block.shape[2:]))
            result[b : b + of_batch, o : o + of_outputs] = block
    assert result is not None
    return result


def _outputs_for_gradient(spectrum: Tensor, transfer: Transfer, outputs: int, form: _Form, see: Window) -> Tensor:
    """All outputs at once, or in blocks that are computed again in the backward pass where they would not fit."""

    def block(spectrum: Tensor, first: int, last: int) -> Tensor:
        return see(_inverse(channel_sum(spectrum, transfer(first, last)), form), slice(None), slice(first, last))

    step = _per_block(_GRADIENT_BLOCK, spectrum[0, 0].nbytes * sum(spectrum.shape[:2]), outputs)
    if step >= outputs:
        return block(spectrum, 0, outputs)
    parts = [
        checkpoint(block, spectrum, o, o + step, use_reentrant=False, preserve_rng_state=False)
        for o in range(0, outputs, step)
    ]
    return torch.cat(parts, 1)


def _per_block(budget: int, each: int, count: int) -> int:
    return max(1, min(count, budget // max(1, each)))


def _inverse(spectrum: Tensor, form: _Form) -> Tensor:
    response: Tensor = torch.fft.irfft2(spectrum, s=form.padded) if form.half else torch.fft.ifft2(spectrum)
    return response


def picture_window(response: Tensor, *_: slice, size: Pair, upright: bool) -> Tensor:
    """The picture's samples on the working grid, upright or turned about the optical axis at N // 2."""
    if upright:
        return response[..., : size[0], : size[1]]
    for dim, n in zip((-2, -1), size, strict=True):
        first = 1 - n % 2  # sample i shows what was at 2·(n // 2) - i, from n or n - 1 downwards
        if first + n > response.shape[dim]:
            response, first = response.roll(-first, dim), 0
        response = response.narrow(dim, first, n)
    return response.flip(-2, -1)


def _check_shapes(fields: Tensor, kernels: Tensor) -> None:
    if fields.dim() < 3 or kernels.dim() != 4 or fields.shape[-3] != kernels.shape[1]:
        raise InputError(
            f"fields {tuple(fields.shape)} do not go with kernels {tuple(kernels.shape)}",
            where="correlate",
            mend="[..., in, y, x] and [out, in, ky, kx] are due",
        )
    if fields.numel() == 0 or kernels.numel() == 0:
        raise InputError("there is nothing to correlate", where="correlate", mend="give at least one of each")
    check_kernel_fits(picture_size(kernels), picture_size(fields))


def check_kernel_fits(kernel: Pair, size: Pair) -> None:
    """A response has the picture's size, so a kernel cannot be larger."""
    if any(k > n for k, n in zip(kernel, size, strict=True)):
        raise InputError(
            f"a {kernel[0]}×{kernel[1]} kernel is larger than the {size[0]}×{size[1]} field",
            where="kernels",
            mend="crop the kernel or enlarge the pictures",
        )


def picture_size(tensor: Tensor) -> Pair:
    return tensor.shape[-2], tensor.shape[-1]


def working_bytes(
    batch: int,
    channels: Pair,
    size: Pair,
    padded: Pair,
    *,
    element: int,
    is_complex: bool,
    gradient: bool = False,
) -> int:
    """Most bytes that ``correlate`` takes at once for a batch of pictures, its complex answer included.

    Args:
        batch: pictures.
        channels: ``(outputs, inputs)``.
        size: samples of a picture.
        padded: samples of the working grid.
        element: bytes of one real number.
        is_complex: complex kernels.
        gradient: what the backward pass needs as well.
    """
    outputs, inputs = channels
    plane = 2 * element * padded[0] * (padded[1] if is_complex else padded[1] // 2 + 1)
    spectra = batch * inputs * plane
    response = batch * outputs * element * size[0] * size[1] * (2 if is_complex else 1)
    answer = batch * outputs * element * size[0] * size[1] * 2
    if gradient:
        of_outputs = _per_block(_GRADIENT_BLOCK, plane * (inputs + batch), outputs)
        block = of_outputs * plane * (2 * inputs + 4 * batch)
        return 2 * spectra + block + response + 2 * answer
    of_outputs = _per_block(_CACHE_BLOCK, plane, outputs)
    of_batch = _per_block(_CACHE_BLOCK, plane * of_outputs, batch)
    block = of_outputs * plane * (2 * inputs + 3 * of_batch)
    in_one = of_outputs == outputs and of_batch == batch
    turned_complex = 0 if is_complex else answer
    return max(2 * spectra, spectra + block + (0 if in_one else response), response + turned_complex)
