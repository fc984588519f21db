"""The same 4f bench without its formula: waves through space, thin lenses with pupils, masks that stand in the way.

Nothing here calls the lens transform. A picture becomes plane waves, which travel to the first lens, through its pupil,
and on to the mask; each output's mask lets its part through to the second lens and the camera.

The working grid is chosen from what the light takes up. A picture of extent A leaves at up to λ/2dx, so at a lens it is
A + λf/dx wide, and the grid holds that. Its pitch is the picture's dx, or λf/A if that is finer: behind the lens a
point of the picture is a plane wave, so the light there has no frequencies beyond A/2λf. The lens's own phase is
steeper at its edge and needs no more: samples of a product that the grid can carry are products of samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fouroptics import memory
from fouroptics.bench import Bench
from fouroptics.correlator.fourier_plane import (
    band_width,
    input_pixel,
    is_aberrated,
    stop_width,
    wavefront_transmission,
)
from fouroptics.correlator.light import See, surround, wavefront_reach
from fouroptics.correlator.masks import MaskPlan, Shown
from fouroptics.devices.layout import Sharing
from fouroptics.errors import InputError
from fouroptics.imperfections import Imperfections
from fouroptics.optics import aperture, correlation, fourier, grid
from fouroptics.optics.fourier import Pair, Plane
from fouroptics.optics.kept import Kept
from fouroptics.optics.pixelated import PixelImage
from fouroptics.optics.propagation import AngularSpectrum, lens_transmission

_FIELDS_AT_ONCE = 6  # working grids of one picture and output that are alive together
_KEPT = 5  # of them that a gradient keeps
_GRADIENT_BLOCK = 2**30  # bytes that are kept for a gradient; beyond, each output is computed again


@dataclass(frozen=True)
class _Bench4f:
    """What is expensive to set up, for one dtype and device; grids in FFT order."""

    ways: tuple[AngularSpectrum, AngularSpectrum]
    lenses: tuple[Tensor, Tensor]
    edges: tuple[Tensor, Tensor]  # of the mask, one period of the sampled spectrum
    stop: Tensor | None
    wavefront: Tensor
    places: tuple[Tensor, Tensor]  # in the mask plane [m]
    pixels: PixelImage | None


class FreeSpaceLight:
    """A bank's bench as waves see it.

    Args:
        bench: the bench.
        size: samples of a picture.
        kernel: taps ``(ky, kx)``.
        inputs: pictures at a time.
        sharing: where they stand on the input.
        tiled: pictures stand side by side and one mask sums them; otherwise each has a 4f of its own.
        upright: turn the camera's picture back.
        stop: put the bench's stop in; without, the mask is open for one period of the sampled spectrum.
        plan: of the masks where they are a device's.
    """

    def __init__(
        self,
        bench: Bench,
        size: Pair,
        kernel: Pair,
        inputs: int,
        sharing: Sharing,
        *,
        tiled: bool,
        upright: bool,
        stop: bool,
        plan: MaskPlan | None = None,
    ) -> None:
        self.plan = plan
        self.bench, self.size, self.kernel = bench, size, kernel
        self.tiled, self.upright, self.stop = tiled, upright, stop
        self.centres = sharing.input_centres[:inputs] if tiled else ((0.0, 0.0),) * inputs
        self.magnification = bench.lens2.focal_length / bench.lens1.focal_length
        self.plane, self.coarse = self._working_plane(sharing)
        self._slopes = wavefront_reach(bench)
        self._built: Kept[_Bench4f] = Kept()

    def working_size(self, *, aberrated: bool = False, whole: bool = True) -> Pair:
        """Samples of the camera's grid: the picture with dark room round it, in which a pattern is integrated."""
        room = surround(self.bench, self.size, self._slopes, stop=self.stop)
        room = room[0] + self.kernel[0], room[1] + self.kernel[1]
        return correlation.working_size(self.size, self.kernel, "linear", surround=room)

    def respond(
        self,
        amplitude: Tensor,
        masks: Tensor | Shown,
        *,
        aberrated: bool = False,
        see: See | None = None,
        only: int | None = None,
        errors: Imperfections | None = None,
        phase: bool = True,
    ) -> Tensor:
        """``[..., in, y, x]`` → ``[..., out, y, x]`` or what ``see`` makes of the camera's grid."""
        if errors is not None:
            mend = "build the bank with light='fourier'"
            raise InputError("imperfections are applied by the lens transform's light", where="errors", mend=mend)
        shown = masks.transmission if isinstance(masks, Shown) else masks
        inputs = range(len(self.centres)) if only is None else range(only, only + 1)
        outputs = range(shown.shape[0] if self.plan is None else self.plan.channels[0])
        batch = amplitude.flatten(0, -4) if amplitude.dim() > 3 else amplitude[None]
        kept = torch.is_grad_enabled() and (amplitude.requires_grad or shown.requires_grad)
        self._require_memory(batch.shape[0], shown, kept)
        bench = self._bench4f(shown.real.dtype, shown.device)
        with torch.autocast(amplitude.device.type, enabled=False):
            at_mask = self._to_mask(bench, batch)
            if is_aberrated(self.bench, aberrated, self.plan is not None):
                at_mask = at_mask * bench.wavefront
            step = partial(self._one_output, bench, see, inputs)
            if kept and len(outputs) * at_mask[:, 0].nbytes * _KEPT > _GRADIENT_BLOCK:
                step = partial(checkpoint, step, use_reentrant=False, preserve_rng_state=False)
            responses = [step(at_mask, shown, o) for o in outputs]
        response = torch.cat(responses, 1)
        return response.reshape(*amplitude.shape[:-3], *response.shape[1:])

    def _working_plane(self, sharing: Sharing) -> tuple[Plane, Pair]:
        """The grid that the waves run on, and how many of the pictures' samples are as wide."""
        bench, dx = self.bench, self.bench.input.sample
        field = sharing.input_field if self.tiled else sharing.tile
        size: list[int] = []
        pitch, coarse = [], []
        for n, tile, taps in zip(field, sharing.tile, self.kernel, strict=True):
            crossing = max(n, 2 * n - tile + taps)  # sums land at all differences of tiles
            if self.plan is not None:  # and on a device also beside them, in a carrier's order
                crossing = max(crossing, math.ceil(2 * self.plan.half_field[len(size)]))
            wide = band_width(bench) / dx + max(n, crossing * self.magnification)
            finest = min(1.0, self.magnification, band_width(bench) / dx / crossing)
            coarse.append(grid.smooth_size(math.ceil(wide * (1 - 1e-12))))
            size.append(grid.smooth_size(math.ceil(coarse[-1] / finest * (1 - 1e-12))))
            pitch.append(coarse[-1] * dx / size[-1])
        return Plane((size[0], size[1]), (pitch[0], pitch[1])), (coarse[0], coarse[1])

    def _bench4f(self, dtype: torch.dtype, device: torch.device) -> _Bench4f:
        exact = torch.promote_types(dtype, torch.complex64)
        return self._built.get((dtype, device), lambda: self._build(exact, device))

    def _build(self, dtype: torch.dtype, device: torch.device) -> _Bench4f:
        bench, pitches = self.bench, self.plane.pitches
        wavelength = bench.source.wavelength
        y, x = (torch.fft.ifftshift(axis) for axis in self.plane.coordinates(device))
        ways, lenses = [], []
        for lens in (bench.lens1, bench.lens2):
            options = {"wavelength": wavelength, "dtype": dtype, "device": device}
            ways.append(AngularSpectrum(self.plane, lens.focal_length, boundary="circular", **options))  # type: ignore[arg-type]
            glass = lens_transmission(y, x, lens.focal_length, wavelength=wavelength, pitch=pitches, pupil=lens.pupil)
            lenses.append(glass.to(dtype))
        band = band_width(bench)
        edges = [aperture.slit(axis, band, pitch=p).to(dtype) for axis, p in zip((y, x), pitches, strict=True)]
        stop = None
        if self.stop:
            assert bench.stop is not None
            shape = aperture.square if bench.stop.shape == "square" else aperture.circular
            stop = shape(y, x, stop_width(bench), pitch=pitches).to(dtype)
        return _Bench4f(
            (ways[0], ways[1]),
            (lenses[0], lenses[1]),
            (-edges[0], edges[1]),  # each lens turns the phase by -90°
            stop,
            wavefront_transmission(bench, y, x).to(dtype),
            (y, x),
            self._pixel_image(dtype, device),
        )

    def _pixel_image(self, dtype: torch.dtype, device: torch.device) -> PixelImage | None:
        if self.plan is None:
            return None
        down, along = (p / band_width(self.bench) for p in self.plane.pitches)
        area = self.plan.pixel_area(dtype, device)
        return PixelImage(self.plan.count, self.plan.pitch, self.plane.size, (down, along), **area)

    def _to_mask(self, bench: _Bench4f, pictures: Tensor) -> Tensor:
        """Pictures ``[B, in, y, x]`` → what falls on their masks, ``[B, 1 or in, Y, X]``."""
        way, lens = bench.ways[0], bench.lenses[0]
        pictures = pictures.to(way.dtype)
        if self.tiled:
            waves = self._plane_waves(pictures[:, :1], self.centres[0])
            for channel in range(1, pictures.shape[1]):
                waves = waves + self._plane_waves(pictures[:, channel : channel + 1], self.centres[channel])
        else:
            waves = self._plane_waves(pictures, (0.0, 0.0))
        field = torch.fft.ifft2(waves.mul_(way.transfer))
        arrived: Tensor = way(field.mul_(lens))
        return arrived

    def _plane_waves(self, pictures: Tensor, centre: tuple[float, float]) -> Tensor:
        """Spectra ``[B, in, Y, X]`` of pictures at a ``centre``, band-limited between their samples."""
        waves = torch.fft.fft(torch.fft.fft(pictures, n=self.coarse[1]), n=self.coarse[0], dim=-2)
        moves = []
        dtype = pictures.dtype
        for n, room, fine, middle in zip(self.size, self.coarse, self.plane.size, centre, strict=True):
            nu = grid.frequencies(room, device=pictures.device)
            level = torch.ones_like(nu) if self.plan is None else input_pixel(self.bench, nu)
            moves.append(_waves(-nu * (middle - n // 2), level * (fine / room)).to(dtype))
        placed = waves.mul_(moves[0][:, None]).mul_(moves[1])
        return fourier.spectral_pad(placed, self.plane.size, keep_mean=False)

    def _one_output(
        self, bench: _Bench4f, see: See | None, inputs: range, at_mask: Tensor, shown: Tensor, output: int
    ) -> Tensor:
        way, lens = bench.ways[1], bench.lenses[1]
        if self.plan is None:
            passed = at_mask * self._mask(bench, shown[output, list(inputs)], [self.centres[i] for i in inputs])
        else:
            passed = at_mask * self._device_mask(bench, shown, output, inputs)
        passed = passed if passed.shape[1] == 1 else passed.sum(1, keepdim=True)
        waves = torch.fft.fft2(way(passed).mul_(lens)).mul_(way.transfer)
        centre = (0.0, 0.0) if self.plan is None else self.plan.centres[output]
        field = self._on_camera(waves, centre, whole=see is not None)
        return field if see is None else see(field, outputs=slice(output, output + 1))

    def _on_camera(self, waves: Tensor, centre: tuple[float, float], *, whole: bool) -> Tensor:
        """The field at samples about a response's centre: by FFT where they divide the grid, or else as a matrix."""
        turned = whole or self.upright  # both lenses turn the picture; ``see`` looks at it turned back
        for dim, n, room, coarse, middle in zip(
            (-2, -1), self.size, self.working_size(), self.coarse, centre, strict=True
        ):
            sample = torch.arange(room if whole else n, device=waves.device)
            if whole:
                sample = torch.where(sample >= (n + room) / 2, sample - room, sample)
            waves = self._along(waves.transpose(dim, -1), sample, n // 2, middle, coarse, turned).transpose(dim, -1)
        return waves

    def _along(self, waves: Tensor, sample: Tensor, axis: int, middle: float, coarse: int, turned: bool) -> Tensor:
        """Σ_ν E(ν) e^{±i2πνx} along the last axis at ``sample``, in steps of dx·f2/f1, counted from sample 0."""
        nu = torch.fft.fftfreq(waves.shape[-1], 1 / waves.shape[-1], dtype=torch.float64, device=waves.device)
        sign, steps = -1 if turned else 1, coarse / self.magnification
        level = nu.new_tensor(math.sqrt(self.magnification) / len(nu))  # both axes' product is f2/f1
        beside = -middle / steps
        if abs(steps - round(steps)) > 1e-9 * steps:
            turns = torch.outer(nu, (sample - axis) * (sign / steps) + beside)
            return waves @ _waves(turns, level.expand_as(turns)).to(waves.dtype)
        moved = waves * _waves(nu * (beside - sign * axis / steps), level).to(waves.dtype)
        resized = fourier.spectral_pad if round(steps) >= len(nu) else fourier.spectral_crop
        band = resized(moved[..., None, :], (1, round(steps)), keep_mean=False)[..., 0, :]
        transform = torch.fft.fft if turned else partial(torch.fft.ifft, norm="forward")
        field: Tensor = transform(band)[..., sample % round(steps)]
        return field

    def _device_mask(self, bench: _Bench4f, shown: Tensor, output: int, inputs: range) -> Tensor:
        """A device's masks for one output ``[1 or in, Y, X]``: what of their pixels this grid resolves."""
        assert self.plan is not None and bench.pixels is not None
        which = [self.plan.terms[output * len(self.centres) + i].mask for i in inputs]
        which = which[:1] if self.tiled else which
        return -bench.pixels(shown[which], which)  # each lens turns the phase by -90°

    def _mask(self, bench: _Bench4f, taps: Tensor, centres: Sequence[tuple[float, float]]) -> Tensor:
        """One output's masks ``[1 or in, Y, X]``: transfer functions, each with what brings its tile to the axis.

        Tiles' masks add up, so they are one product of long rows and columns.
        """
        dtype = bench.ways[0].dtype
        reach = band_width(self.bench)  # one period of a transfer function
        rows, columns = [], []
        for centre, kernel in zip(centres, taps.to(dtype), strict=True):
            down, along = (
                _waves(torch.outer(places / reach, torch.arange(k).to(places) - fourier.kernel_centre(k) + c)).to(dtype)
                for places, k, c in zip(bench.places, self.kernel, centre, strict=True)
            )
            rows.append(bench.edges[0][:, None] * down)
            columns.append(kernel @ (bench.edges[1][:, None] * along).mT)
        if self.tiled:
            rows, columns = [torch.cat(rows, 1)], [torch.cat(columns, 0)]
        masks = torch.stack([left @ right for left, right in zip(rows, columns, strict=True)])
        return masks if bench.stop is None else masks * bench.stop

    def nbytes(self, batch: int, taps: Tensor, *, gradient: bool = False) -> int:
        """Most bytes that a batch takes at once."""
        arms = 1 if self.tiled else taps.shape[1]
        plane = math.prod(self.plane.size) * 2 * taps.real.element_size()
        needed = plane * (batch * (2 * arms + _FIELDS_AT_ONCE) + arms * 2)
        return needed + (min(_GRADIENT_BLOCK, plane * batch * taps.shape[0] * _KEPT) if gradient else 0)

    def _require_memory(self, batch: int, taps: Tensor, kept: bool) -> None:
        what = f"{batch} pictures through free space on a grid of {self.plane.size[0]}×{self.plane.size[1]}"
        mend = "smaller batches or pictures, or light='fourier'"
        memory.require(self.nbytes(batch, taps, gradient=kept), taps.device, what=what, mend=mend)


def _waves(turns: Tensor, amplitude: Tensor | None = None) -> Tensor:
    """e^{i2π·turns}, exact for many turns."""
    amplitude = torch.ones_like(turns) if amplitude is None else amplitude.expand_as(turns)
    return torch.polar(amplitude.contiguous(), 2 * math.pi * (turns - turns.round()))
