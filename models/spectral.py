"""Convolutions and pools that work on spectra, and take and give pictures like their namesakes in ``torch.nn``.

Neighbours in a ``SpectralSequential`` share one transform each way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from fouroptics.errors import InputError, check_choice
from fouroptics.optics.fourier import kernel_centre, kernel_transfer, spectral_crop

Pair = tuple[int, int]
PaddingMode = Literal["circular", "zeros", "reflect", "replicate"]


def transform(pictures: Tensor) -> Tensor:
    """Pictures → spectra: of real ones the half that holds all, ``[..., y, x // 2 + 1]``."""
    if not pictures.numel():  # of no pictures no library takes a transform
        columns = pictures.shape[-1] if pictures.is_complex() else pictures.shape[-1] // 2 + 1
        return (pictures[..., :1] + 0j).expand(*pictures.shape[:-1], columns)
    spectra: Tensor = (torch.fft.fft2 if pictures.is_complex() else torch.fft.rfft2)(pictures, norm="ortho")
    return spectra


def inverse(spectra: Tensor, size: Pair, *, half: bool) -> Tensor:
    """Spectra → pictures."""
    if not spectra.numel():
        return (spectra.real if half else spectra)[..., :1].expand(*spectra.shape[:-1], size[1])
    back = torch.fft.irfft2(spectra, s=size, norm="ortho") if half else torch.fft.ifft2(spectra, norm="ortho")
    pictures: Tensor = back
    return pictures


def conv(
    spectra: Tensor, weight: Tensor, size: Pair, *, half: bool, dilation: Pair = (1, 1), groups: int = 1
) -> Tensor:
    """``conv2d`` with circular borders, on spectra of pictures of ``size``: a product, summed over channels."""
    taps = _dilated(weight, dilation) if dilation != (1, 1) else weight
    if spectra.dim() != 4:
        what = f"pictures of {spectra.dim()} dimensions"
        raise InputError(what, where="SpectralConv2d", mend="[batch, channels, y, x], or one without a batch")
    if spectra.shape[1] != groups * taps.shape[1]:
        what = f"{spectra.shape[1]} channels of pictures, {groups * taps.shape[1]} of the kernels"
        raise InputError(what, where="SpectralConv2d", mend="as many channels as in_channels says")
    transfer = kernel_transfer(taps, size, half=half)
    if groups == 1:
        return torch.einsum("bi...,oi...->bo...", spectra, transfer)
    by_group = spectra.reshape(len(spectra), groups, -1, *spectra.shape[-2:])
    of_groups = transfer.reshape(groups, -1, *transfer.shape[1:])
    return torch.einsum("bgi...,goi...->bgo...", by_group, of_groups).flatten(1, 2)


def crop(spectra: Tensor, size: Pair, kept: Pair, *, half: bool) -> Tensor:
    """The lowest ``kept`` frequencies of pictures of ``size``, at their level; an even edge is shared by both sides."""
    if not half:
        return spectral_crop(spectra, kept)
    rows = spectral_crop(spectra, (kept[0], spectra.shape[-1]), keep_mean=False)
    columns = rows[..., : kept[1] // 2 + 1]
    if kept[1] % 2 == 0 and kept[1] < size[1]:
        edge = columns[..., -1:]
        below = edge.conj().flip(-2).roll(1, -2)  # the bins at -n/2, which a half spectrum leaves out
        columns = torch.cat((columns[..., :-1], (edge + below) / 2), -1)
    return columns * math.sqrt(math.prod(kept) / math.prod(size))


class SpectralConv2d(nn.Module):
    """``nn.Conv2d`` by way of spectra.

    It gives what ``nn.Conv2d`` gives, for every stride, dilation, padding and border that it takes; but its own default
    is the border that spectra have, ``padding="same"`` and ``padding_mode="circular"``, and no bias: light has none.

    Args:
        in_channels: of pictures.
        out_channels: of responses.
        kernel_size: taps ``(y, x)``; even kernels are anchored as ``padding="same"`` has them.
        stride: every how many samples are given.
        padding: ``"same"``, ``"valid"`` or samples on each side.
        dilation: samples between taps.
        groups: of channels that do not mix.
        bias: added to every response.
        padding_mode: what lies beyond the border.
        is_complex: of the kernels; responses are complex then.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | Literal["same", "valid"] = "same",
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = False,
        padding_mode: PaddingMode = "circular",
        *,
        is_complex: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_choice("padding_mode", padding_mode, ("circular", "zeros", "reflect", "replicate"))
        if groups < 1 or in_channels % groups or out_channels % groups:
            what = f"{groups} groups of {in_channels} → {out_channels} channels"
            raise InputError(what, where="groups", mend="a number that divides both")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.dilation = _pair(kernel_size), _pair(stride), _pair(dilation)
        self.padding, self.padding_mode, self.is_complex = padding, padding_mode, is_complex
        for name, values, least in (
            ("kernel_size", self.kernel_size, 1), ("stride", self.stride, 1), ("dilation", self.dilation, 1),
            ("padding", () if isinstance(padding, str) else _pair(padding), 0),
        ):  # fmt: skip
            if any(not isinstance(one, int) or one < least for one in values) or len(values) not in (0, 2):
                raise InputError(f"{values} will not do", where=name, mend=f"whole numbers from {least} on, one or two")
        if isinstance(padding, str):
            check_choice("padding", padding, ("same", "valid"))
        if padding == "same" and self.stride != (1, 1):
            raise InputError("padding 'same' goes with stride 1", where="padding", mend="give samples, such as 1")
        shape = (out_channels, in_channels // groups, *self.kernel_size, *((2,) if is_complex else ()))
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As ``nn.Conv2d`` begins."""
        fan = math.prod(self.weight.shape[1:])
        nn.init.uniform_(self.weight, -1 / math.sqrt(fan), 1 / math.sqrt(fan))
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1 / math.sqrt(fan), 1 / math.sqrt(fan))

    @property
    def kernels(self) -> Tensor:
        """Taps ``[out, in / groups, ky, kx]``, complex where they are."""
        return torch.view_as_complex(self.weight) if self.is_complex else self.weight

    @property
    def acts_on_spectra(self) -> bool:
        """Whether it is one product a frequency: circular, of the same size."""
        return self.padding == "same" and self.padding_mode == "circular"

    def on_spectra(self, spectra: Tensor, size: Pair, *, half: bool) -> tuple[Tensor, Pair]:
        """Spectra of pictures of ``size`` → spectra of responses, and their size."""
        if not self.acts_on_spectra:
            what = f"padding {self.padding!r} with {self.padding_mode} borders is no product of spectra"
            raise InputError(what, where="SpectralConv2d", mend='padding="same", padding_mode="circular"')
        found = conv(spectra, self.kernels, size, half=half, dilation=self.dilation, groups=self.groups)
        if self.bias is not None:
            level = self.bias.to(found) * math.sqrt(math.prod(size))
            at_zero = torch.zeros_like(found[0])
            at_zero[:, 0, 0] = 1
            found = found + level[:, None, None] * at_zero
        return found, size

    def forward(self, pictures: Tensor) -> Tensor:
        if pictures.dim() == 3:
            return self(pictures[None])[0]  # type: ignore[no-any-return]
        around = self._around()
        if self.acts_on_spectra:
            padded = pictures
        else:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            padded = _padded(pictures, around, mode)
        size = (padded.shape[-2], padded.shape[-1])
        half = not (self.is_complex or padded.is_complex())
        given = transform(padded if half else padded.to(torch.promote_types(padded.dtype, torch.complex64)))
        found = inverse(
            conv(given, self.kernels, size, half=half, dilation=self.dilation, groups=self.groups), size, half=half
        )
        if not self.acts_on_spectra:
            found = self._valid(found)
        if self.bias is not None:
            found = found + self.bias[:, None, None]
        return found[..., :: self.stride[0], :: self.stride[1]]

    def _around(self) -> tuple[int, int, int, int]:
        """Samples that borders add: left, right, above, below."""
        reach_y, reach_x = ((k - 1) * d for k, d in zip(self.kernel_size, self.dilation, strict=True))
        if self.padding == "valid":
            return 0, 0, 0, 0
        if self.padding == "same":
            return reach_x // 2, reach_x - reach_x // 2, reach_y // 2, reach_y - reach_y // 2
        y, x = _pair(self.padding)
        return x, x, y, y

    def _valid(self, response: Tensor) -> Tensor:
        """The part of a circular response that no border has touched."""
        reach = [(k - 1) * d for k, d in zip(self.kernel_size, self.dilation, strict=True)]
        begin = [kernel_centre(r + 1) for r in reach]
        count = [n - r for n, r in zip(response.shape[-2:], reach, strict=True)]
        if min(count) < 1:
            raise InputError("the kernel is larger than the picture", where="SpectralConv2d", mend="more padding")
        return response[..., begin[0] : begin[0] + count[0], begin[1] : begin[1] + count[1]]

    def extra_repr(self) -> str:
        told = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        return told + (", complex" if self.is_complex else "")


class SpectralPool2d(nn.Module):
    """Pictures made smaller by leaving out their high frequencies, what a stop does: a low-pass and fewer samples.

    Args:
        output_size: samples that are left ``(y, x)``.
    """

    def __init__(self, output_size: int | Pair) -> None:
        super().__init__()
        self.output_size: Pair = _pair(output_size)
        if min(self.output_size) < 1:
            raise InputError(f"{output_size} will not do", where="output_size", mend="whole numbers from 1 on")

    acts_on_spectra = True
    is_complex = False

    def on_spectra(self, spectra: Tensor, size: Pair, *, half: bool) -> tuple[Tensor, Pair]:
        """Spectra of pictures of ``size`` → those of the smaller ones, and their size."""
        if any(kept > n for kept, n in zip(self.output_size, size, strict=True)):
            small, large = ("×".join(map(str, one)) for one in (size, self.output_size))
            raise InputError(
                f"pictures of {small} have no {large} frequencies", where="SpectralPool2d", mend="pool to less"
            )
        return crop(spectra, size, self.output_size, half=half), self.output_size

    def forward(self, pictures: Tensor) -> Tensor:
        return _through([self], pictures)

    def extra_repr(self) -> str:
        return str(self.output_size)


class SpectralSequential(nn.Sequential):
    """Layers one after another; neighbours that act on spectra share one transform each way, unless they have hooks."""

    def forward(self, pictures: Tensor) -> Tensor:
        waiting: list[nn.Module] = []
        for layer in self:
            if getattr(layer, "acts_on_spectra", False) and not has_hooks(layer):
                waiting.append(layer)
                continue
            pictures = layer(_through(waiting, pictures))
            waiting = []
        return _through(waiting, pictures)


def _through(layers: list[nn.Module], pictures: Tensor) -> Tensor:
    """Pictures through layers that act on spectra."""
    if not layers:
        return pictures
    if pictures.dim() == 3:
        return _through(layers, pictures[None])[0]
    half = not (pictures.is_complex() or any(layer.is_complex for layer in layers))
    given = pictures if half else pictures.to(torch.promote_types(pictures.dtype, torch.complex64))
    spectra, size = transform(given), (pictures.shape[-2], pictures.shape[-1])
    for layer in layers:
        act: Callable[..., tuple[Tensor, Pair]] = layer.on_spectra  # type: ignore[assignment]
        spectra, size = act(spectra, size, half=half)
    return inverse(spectra, size, half=half)


def has_hooks(layer: nn.Module) -> bool:
    """Whether somebody wants to know of its calls, as weights that are pruned do."""
    hooks = (layer._forward_pre_hooks, layer._forward_hooks, layer._backward_pre_hooks, layer._backward_hooks)
    return any(hooks)


def _dilated(weight: Tensor, dilation: Pair) -> Tensor:
    """Taps with dark ones between them."""
    size = [(k - 1) * d + 1 for k, d in zip(weight.shape[-2:], dilation, strict=True)]
    wide = weight.new_zeros(*weight.shape[:-2], *size)
    wide[..., :: dilation[0], :: dilation[1]] = weight
    return wide


def _padded(pictures: Tensor, around: tuple[int, int, int, int], mode: str) -> Tensor:
    if not any(around):
        return pictures
    if pictures.is_complex():
        return torch.complex(F.pad(pictures.real, around, mode), F.pad(pictures.imag, around, mode))
    return F.pad(pictures, around, mode)
