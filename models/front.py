"""The linear front end of a student: a chain of spectral convolutions, or the one plane that it comes to."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from fouroptics.models import spectral
from fouroptics.models.band import Analysis, Geometry, Synthesis, compose, waves_of_taps
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fouroptics.devices.pixels import Readings, mean_of_waves
from fouroptics.errors import InputError
from fouroptics.optics.correlation import channel_sum
from fouroptics.optics.fourier import kernel_centre, kernel_transfer
from fouroptics.optics.grid import smooth_size
from fouroptics.optics.kept import Kept, is_traced
from fouroptics.optics.precision import exactly

Pair = tuple[int, int]
_MOST_TAPS = 2**22  # that are held at a time
_LOBES = 1.5  # samples of the last crop by which its ringing is given room beside the picture: the first lobe


@dataclass(frozen=True)
class Plan:
    """A chain of convolutions, each with a crop behind it or none, told by its sizes.

    Args:
        size: of pictures ``(y, x)``.
        channels: inputs of the first layer, then outputs of each.
        kernels: taps of each layer ``(y, x)``.
        crops: what is left of the picture's samples behind each layer.
        grid: picture and dark guard.
    """

    size: Pair
    channels: tuple[int, ...]
    kernels: tuple[Pair, ...]
    crops: tuple[Pair, ...]
    grid: Pair

    @classmethod
    def of(
        cls,
        size: Pair,
        channels: Sequence[int],
        kernels: Sequence[Pair],
        crops: Sequence[Pair | None],
        guard: Pair | None = None,
    ) -> Plan:
        """Check sizes; a guard that is left out is as wide as the response, on a grid of small factors."""
        layers = len(channels) - 1
        for name, least, sides in (
            ("size", 1, [size]),
            ("kernel_size", 1, kernels),
            ("guard", 0, [] if guard is None else [guard]),
        ):
            if any(not isinstance(n, int) or n < least for side in sides for n in side):
                raise InputError(f"{sides} are no samples", where=name, mend=f"whole numbers from {least} on")
        if layers < 1 or min(channels) < 1:
            raise InputError(f"{tuple(channels)} make no layer", where="channels", mend="inputs, then outputs of each")
        for name, given in (("kernel_size", kernels), ("crops", crops)):
            if len(given) != layers:
                what = f"{len(given)} of them for {layers} convolutions"
                raise InputError(what, where=name, mend="one a convolution; None where nothing is cropped")
        kept: list[Pair] = []
        for number, crop in enumerate(crops):
            before = kept[-1] if kept else size
            if crop is not None and any(n > m or n < 1 for n, m in zip(crop, before, strict=True)):
                small, large = ("×".join(map(str, one)) for one in (before, crop))
                what = f"{large} of pictures that are {small} behind layer {number}"
                raise InputError(what, where=f"crops[{number}]", mend=f"at most {small}")
            kept.append(crop or before)
        if guard is None:
            reach = _reach(size, kernels, kept)
            rows, columns = (_guarded(size[axis], reach[axis], [one[axis] for one in kept]) for axis in (0, 1))
            grid = rows, columns
        else:
            _refuse_wider(size, kernels, kept, guard)
            grid = size[0] + guard[0], size[1] + guard[1]
        plan = cls(size, tuple(channels), tuple(kernels), tuple(kept), grid)
        for number, (kernel, room) in enumerate(zip(kernels, plan.grids, strict=False)):
            if any(k > n for k, n in zip(kernel, room, strict=True)):
                what = f"{kernel[0]}×{kernel[1]} taps on a grid of {room[0]}×{room[1]}"
                raise InputError(what, where=f"kernel_size[{number}]", mend="fewer taps, or a wider guard")
        return plan

    @property
    def grids(self) -> list[Pair]:
        """Samples of the guarded grid before the first layer and behind each: the picture's share of it stays."""
        scaled = [tuple(round(n * g / s) for n, g, s in zip(c, self.grid, self.size, strict=True)) for c in self.crops]
        return [self.grid, *((y, x) for y, x in scaled)]

    @property
    def reach(self) -> Pair:
        """Samples of the picture by which a response reaches beyond what made it."""
        return _reach(self.size, self.kernels, self.crops)

    @property
    def taps_reach(self) -> Pair:
        """The same of its taps alone, without what a crop rings."""
        return _taps_reach(self.size, self.kernels, self.crops)

    @property
    def area(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Middle and width of the picture in samples of the last grid, along y and along x; sample 0 is at 0."""
        scales = [kept / n for kept, n in zip(self.grids[-1], self.grid, strict=True)]
        along_y, along_x = (((n - 1) / 2 * scale, n * scale) for n, scale in zip(self.size, scales, strict=True))
        return along_y, along_x

    def geometry(self, is_complex: bool) -> Geometry:
        return Geometry(self.size, self.grid, self.grids[-1], is_complex)


def _guarded(size: int, reach: int, kept: Sequence[int]) -> int:
    """A grid of small factors with room for the reach: one near by on which every crop has whole samples, if any."""
    least = smooth_size(size + reach)
    grid = least
    while grid <= 1.25 * least:
        if all(n * grid % size == 0 for n in kept):
            return grid
        grid = smooth_size(grid + 1)
    return least


def _refuse_wider(size: Pair, kernels: Sequence[Pair], crops: Sequence[Pair], guard: Pair) -> None:
    """A guard of 0 lets pictures wrap, and says so; one that is too narrow would let them do it unseen."""
    for number in range(len(kernels)):
        reach = _taps_reach(size, kernels[: number + 1], crops)
        for wide, room in zip(reach, guard, strict=True):
            if 0 < room < wide:
                what = f"the taps reach {wide} samples beyond the picture up to this layer, the guard has {room}"
                mend = "fewer taps, a wider guard, or 0 for pictures that wrap"
                raise InputError(what, where=f"kernel_size[{number}]", mend=mend)


def _reach(size: Pair, kernels: Sequence[Pair], crops: Sequence[Pair]) -> Pair:
    """What the taps reach, and the first lobe of the last crop's ringing."""
    rows, columns = (
        taps + (math.ceil(_LOBES * n / min(kept)) if min(kept) < n else 0)
        for taps, n, kept in zip(_taps_reach(size, kernels, crops), size, zip(*crops, strict=True), strict=True)
    )
    return rows, columns


def _taps_reach(size: Pair, kernels: Sequence[Pair], crops: Sequence[Pair]) -> Pair:
    sides = []
    for axis in (0, 1):
        samples = [size[axis], *(crop[axis] for crop in crops)]
        taps = [kernel[axis] for kernel in kernels]
        before, behind = (
            math.ceil(sum(side(k) * size[axis] / n for k, n in zip(taps, samples, strict=False)) - 1e-9)
            for side in (kernel_centre, lambda k: k - 1 - kernel_centre(k))
        )
        sides.append(max(before, behind))
    return sides[0], sides[1]


def check_dtype(dtype: torch.dtype) -> torch.dtype:
    """Refuse optics that are neither single nor double."""
    if dtype not in (torch.float32, torch.float64):
        what = f"the optics are {dtype}".replace("torch.", "")
        raise InputError(what, where="dtype", mend="light is float32 or float64; autocast narrows the rest")
    return dtype


def check_pictures(pictures: Any, plan: Plan, dtype: torch.dtype, is_complex: bool) -> None:
    """Refuse pictures of another size or kind than a plan's."""
    if not isinstance(pictures, Tensor):
        what = f"pictures are a {type(pictures).__name__}"
        raise InputError(what, where="pictures", mend="a tensor: torch.as_tensor(pictures)")
    if pictures.real.dtype != dtype:
        what = f"pictures are {pictures.dtype}, the optics {dtype}"
        mend = "light is float32 or float64: student.float() and pictures.float(), or both double()"
        raise InputError(what.replace("torch.", ""), where="pictures", mend=mend)
    due = (plan.channels[0], *plan.size)
    if pictures.dim() != 4 or tuple(pictures.shape[1:]) != due:
        what = f"pictures are {tuple(pictures.shape)}"
        raise InputError(what, where="pictures", mend=f"this front takes [batch, {', '.join(map(str, due))}]")
    if pictures.is_complex() and not is_complex:
        mend = "give their amplitude, or is_complex=True for fields"
        raise InputError("pictures are complex, and kernels real", where="pictures", mend=mend)


def _along(weights: Tensor, axis: int) -> Tensor:
    return weights[:, None] if axis == 0 else weights


def _laid(spectra: Tensor, bins: Tensor, samples: int, axis: int) -> Tensor:
    """Frequencies of these numbers in FFT order on so many samples; those of one place are summed."""
    shape = list(spectra.shape)
    shape[axis - 2] = samples
    return spectra.new_zeros(shape).index_add(axis - 2, bins.remainder(samples), spectra)


class Front(nn.Module, ABC):
    """What fronts share: pictures onto the band, through the transfer function, and back.

    Args:
        plan: of the chain.
        is_complex: of the response.
    """

    def __init__(self, plan: Plan, is_complex: bool) -> None:
        super().__init__()
        self.plan, self.is_complex = plan, is_complex
        self.chain = plan  # of what it was made, where that is more than the plan of what it is
        self.geometry = plan.geometry(is_complex)
        self._analyses: Kept[Analysis] = Kept()
        self._syntheses: Kept[Synthesis] = Kept()

    @abstractmethod
    def transfer(self) -> Tensor:
        """One transfer function an output and input, ``[out, in, rows, columns]`` on the band."""

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures ``[batch, in, y, x]`` → the field on the kept grid ``[batch, out, v, u]``."""
        return self.respond(pictures, self.transfer())

    @exactly
    def respond(self, pictures: Tensor, transfer: Tensor, *, fine: bool = False) -> Tensor:
        """The field that transfer functions make of pictures, on the kept grid or as finely as its energy needs."""
        spectrum = self.spectrum(pictures, transfer)
        dtype, device = spectrum.real.dtype, spectrum.device

        def build() -> Synthesis:
            return Synthesis(self.geometry, self.geometry.fine if fine else None, None, dtype, device)

        return self._syntheses.get((dtype, device, fine), build)(spectrum)

    @exactly
    def spectrum(self, pictures: Tensor, transfer: Tensor) -> Tensor:
        """What transfer functions make of pictures, on the band ``[batch, out, rows, columns]``."""
        return channel_sum(self.analysed(pictures), transfer)

    @exactly
    def analysed(self, pictures: Tensor) -> Tensor:
        """Pictures' own frequencies on the band ``[batch, in, rows, columns]``."""
        self.check(pictures)
        dtype, device = pictures.real.dtype, pictures.device
        return self._analyses.get((dtype, device), lambda: Analysis(self.geometry, dtype, device))(pictures)

    def kernels(self, transfer: Tensor) -> Tensor:
        """A transfer function as taps on the whole grid ``[out, in, ky, kx]``, for a bench that has one mask plane."""
        geometry = self.geometry
        whole = transfer
        if not geometry.is_complex:  # what lies left of bin 0 is the conjugate, turned about it
            whole = torch.cat((transfer[..., 1:].conj().flip(-2, -1), transfer), -1)
        rows, columns = (torch.arange(-(n // 2), n // 2 + 1) for n in geometry.kept)
        for bins, kept, n, shape in zip((rows, columns), geometry.kept, geometry.grid, ((-1, 1), (1, -1)), strict=True):
            if kept == n and n % 2 == 0:  # nothing is cropped: both edges are one bin of the grid, each is half of it
                whole = whole * torch.where(bins.abs() == n // 2, 0.5, 1.0).to(whole.real).reshape(shape)
        laid = whole.new_zeros(*whole.shape[:2], *geometry.grid)
        v, u = (torch.remainder(bins, n) for bins, n in zip((rows, columns), geometry.grid, strict=True))
        bin_of = (v[:, None] * geometry.grid[1] + u).flatten().to(whole.device)
        laid = laid.flatten(2).index_add(2, bin_of, whole.flatten(2)).reshape(laid.shape)
        taps = torch.fft.ifft2(laid.conj()).conj()  # H(ν) = Σ k(m) e^{+i2πνm}
        centred = taps.roll([kernel_centre(n) for n in geometry.grid], (-2, -1)).resolve_conj()
        found: Tensor = centred if geometry.is_complex else centred.real.contiguous()
        return found

    @exactly
    def parts(self) -> tuple[Tensor, Tensor]:
        """Transfer functions of the positive and the negative part of every real kernel, on the band.

        Taps of the whole grid are many: they are made of a few outputs at a time, and again for a gradient.
        """
        if self.is_complex:
            raise InputError("a complex kernel has no sign", where="readout", mend="real kernels, or another readout")
        transfer = self.transfer()
        some = max(1, _MOST_TAPS // (transfer.shape[1] * math.prod(self.geometry.grid)))
        found = [  # a transform of functions, and a trace, take no checkpoints
            self._parts_of(few) if is_traced() else checkpoint(self._parts_of, few, use_reentrant=False)
            for few in torch.split(transfer, some)
        ]
        positive, negative = (torch.cat(parts) for parts in zip(*found, strict=True))
        return positive, negative

    def _parts_of(self, transfer: Tensor) -> tuple[Tensor, Tensor]:
        taps, geometry = self.kernels(transfer), self.geometry
        down, along = (
            waves_of_taps(n, bins, n).to(transfer)
            for n, bins in zip(geometry.grid, (geometry.rows, geometry.columns), strict=True)
        )
        positive, negative = (
            down.mT @ (part.to(transfer.dtype) @ along) for part in (taps.clamp_min(0), (-taps).clamp_min(0))
        )
        return positive, negative

    @torch.no_grad()
    def energy_in_guard(self, pictures: Tensor) -> float:
        """Share of the responses' energy that lies beside the picture, on the guard."""
        field = self.respond(pictures, self.transfer(), fine=True)
        energy = field.real.square() + (field.imag.square() if field.is_complex() else 0)
        within, whole = energy.sum((0, 1)), math.prod(self.geometry.kept)
        for m, n, (middle, width) in zip(self.geometry.fine, self.geometry.kept, self.plan.area, strict=True):
            places = torch.arange(m, dtype=torch.float64) * n / m
            mean = mean_of_waves(Readings(1, middle, width, width), places, n)
            within = (mean[0].to(within) * width) @ within
        if not bool(energy.any()):
            return 0.0
        return 1 - float(within / (energy.sum((0, 1)).mean() * whole))

    def _dtype(self) -> torch.dtype:
        """Of the optics: single or double."""
        return check_dtype(next(self.parameters()).dtype)

    def check(self, pictures: Tensor) -> None:
        """Refuse pictures of another size or kind than the plan's."""
        check_pictures(pictures, self.plan, self._dtype(), self.is_complex)


class DeepFront(Front):
    """A chain of convolutions and crops, as the paper has it; composed on the band, never run layer by layer."""

    def __init__(self, plan: Plan, *, is_complex: bool = False) -> None:
        super().__init__(plan, is_complex)
        self.weights = new_weights(plan, is_complex)
        self._to_unit_rms()

    def taps(self) -> list[Tensor]:
        """Kernels of the layers, complex where they are."""
        return taps_of(self.weights, self.is_complex)

    @exactly
    def transfer(self) -> Tensor:
        self._dtype()
        return compose(self.taps(), self.plan.grids[:-1], self.geometry)

    @exactly
    def by_layers(self, pictures: Tensor, *, fine: bool = False) -> Tensor:
        """The same as ``respond``, one layer after another over whole spectra: the slow reference."""
        self.check(pictures)
        (rows, columns), (height, width) = self.plan.grid, self.plan.size
        half = not (self.is_complex or pictures.is_complex())
        exact = pictures if half else pictures.to(torch.promote_types(pictures.dtype, torch.complex64))
        found = F.pad(exact, (0, columns - width, 0, rows - height))
        if fine:
            sampled = self._on_bins(found)
            return sampled.real if half else sampled
        for weight, (size, kept) in zip(self.taps(), pairwise(self.plan.grids), strict=True):
            spectra = spectral.conv(spectral.transform(found), weight, size, half=half)
            found = spectral.inverse(spectral.crop(spectra, size, kept, half=half), kept, half=half)
        return found

    def _on_bins(self, padded: Tensor) -> Tensor:
        """Layer by layer on frequencies that are told by their numbers; the field as finely as its energy needs.

        An axis that has come to its last size holds both edges of an even band, for the camera sees both.
        """
        last, spectra = self.plan.grids[-1], torch.fft.fft2(padded)
        bins = [torch.arange(n, device=spectra.device) for n in self.plan.grid]
        level = 1 / math.prod(self.plan.grid)
        for weight, (size, kept) in zip(self.taps(), pairwise(self.plan.grids), strict=True):
            transfer = kernel_transfer(weight, size)[
                ..., bins[0].remainder(size[0])[:, None], bins[1].remainder(size[1])
            ]
            spectra = torch.einsum("bi...,oi...->bo...", spectra, transfer)
            for axis, (n, m) in enumerate(zip(size, kept, strict=True)):
                in_order = bool(bins[axis][0] == 0)  # not held yet
                if not in_order or (m == n and m != last[axis]):
                    continue
                held = torch.arange(-(m // 2), m // 2 + 1, device=spectra.device)
                weights = torch.where(2 * held.abs() == m, 0.5, 1.0).to(spectra.real)
                spectra = spectra.index_select(axis - 2, held.remainder(n)) * _along(weights, axis)
                bins[axis] = held
                if m != last[axis]:  # another crop follows: samples of this one lay both edges onto one
                    spectra, bins[axis] = _laid(spectra, held, m, axis), torch.arange(m, device=spectra.device)
        for axis, m in enumerate(self.geometry.fine):
            spectra = _laid(spectra, bins[axis], m, axis)
        samples: Tensor = torch.fft.ifft2(spectra) * (level * math.prod(self.geometry.fine))
        return samples

    @torch.no_grad()
    def _to_unit_rms(self) -> None:
        """Scale all layers alike until the composed transfer function has an rms of 1."""
        rms = self.transfer().abs().square().mean().sqrt()
        for weight in self.weights:
            weight /= rms ** (1 / len(self.weights))


def new_weights(plan: Plan, is_complex: bool) -> nn.ParameterList:
    """Kernels of a chain's layers, drawn; of complex ones their pairs."""
    pairs = (2,) if is_complex else ()
    weights = nn.ParameterList(
        nn.Parameter(torch.empty(outputs, inputs, *kernel, *pairs))
        for (inputs, outputs), kernel in zip(pairwise(plan.channels), plan.kernels, strict=True)
    )
    for weight in weights:
        nn.init.normal_(weight, std=1 / math.sqrt(math.prod(weight.shape[1:])))
    return weights


def taps_of(weights: nn.ParameterList, is_complex: bool) -> list[Tensor]:
    """The same as numbers of their kind."""
    return [torch.view_as_complex(w) if is_complex else w for w in weights]


class PlaneFront(Front):
    """One plane of masks: the transfer function itself, as pairs of real and imaginary parts.

    Args:
        plan: of the chain that it stands for.
        transfer: to begin with.
        is_complex: of the response.
        chain: what it was made of, where that is more than its plan tells.
    """

    def __init__(self, plan: Plan, transfer: Tensor, *, is_complex: bool = False, chain: Plan | None = None) -> None:
        super().__init__(plan, is_complex)
        self.chain = chain or plan
        self.plane = nn.Parameter(torch.view_as_real(transfer.detach().clone().resolve_conj()))

    def transfer(self) -> Tensor:
        self._dtype()
        return torch.view_as_complex(self.plane)
