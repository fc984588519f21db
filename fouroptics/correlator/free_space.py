"""The same 4f bench without its formula: waves through space, thin lenses with pupils, masks that stand in the way.

Nothing here calls the lens transform. A picture becomes plane waves, which travel to the first lens, through its pupil,
and on to the mask; each output's mask lets its part through to the second lens and the camera.

The working grid is chosen from what the light takes up. A picture of extent A leaves at up to λ/2dx, so at a lens it is
A + λf/dx wide, and the grid must hold that, L. The lens's phase, and tiles beside the axis, ask for a pitch of λf/L.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fouroptics import memory
from fouroptics.bench import Bench
from fouroptics.correlator.light import band_width, stop_width, wavefront_transmission
from fouroptics.devices.layout import Sharing
from fouroptics.optics import aperture, correlation, fourier, grid
from fouroptics.optics.correlation import Window
from fouroptics.optics.fourier import Pair, Plane
from fouroptics.optics.propagation import AngularSpectrum, thin_lens

_FIELDS_AT_ONCE = 6  # working grids of one picture and output that are alive together


@dataclass(frozen=True)
class _Bench4f:
    """What is expensive to set up, for one dtype and device; grids in FFT order."""

    ways: tuple[AngularSpectrum, AngularSpectrum]
    lenses: tuple[Tensor, Tensor]
    opening: Tensor
    wavefront: Tensor
    places: tuple[Tensor, Tensor]  # in the mask plane [m]
    frequencies: tuple[Tensor, Tensor]


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
    ) -> None:
        self.bench, self.size, self.kernel = bench, size, kernel
        self.tiled, self.upright, self.stop = tiled, upright, stop
        self.centres = sharing.input_centres[:inputs] if tiled else ((0.0, 0.0),) * inputs
        self.plane = self._working_plane(sharing)
        self._built: dict[tuple[torch.dtype, torch.device], _Bench4f] = {}

    def working_size(self, *, aberrated: bool = False, between: bool = True) -> Pair:
        """Samples of the camera's grid: the picture with dark room round it, in which a pattern is integrated."""
        return correlation.working_size(self.size, self.kernel, "linear", surround=self.size)

    def respond(
        self,
        amplitude: Tensor,
        taps: Tensor,
        *,
        aberrated: bool = False,
        see: Window | None = None,
        finer: int = 1,
    ) -> Tensor:
        """``[..., in, y, x]`` → ``[..., out, y, x]`` or what ``see`` makes of the camera's grid."""
        batch = amplitude.flatten(0, -4) if amplitude.dim() > 3 else amplitude[None]
        kept = torch.is_grad_enabled() and (amplitude.requires_grad or taps.requires_grad)
        self._require_memory(batch.shape[0], taps, kept)
        bench = self._bench4f(taps.real.dtype, taps.device)
        at = self._camera_places(whole=see is not None, finer=finer)
        with torch.autocast(amplitude.device.type, enabled=False):
            at_mask = self._to_mask(bench, batch)
            if aberrated:
                at_mask = at_mask * bench.wavefront
            step = partial(self._one_output, bench, at, see)
            if kept:
                step = partial(checkpoint, step, use_reentrant=False, preserve_rng_state=False)
            outputs = [step(at_mask, taps[o : o + 1]) for o in range(taps.shape[0])]
        response = torch.cat(outputs, 1)
        return response.reshape(*amplitude.shape[:-3], *response.shape[1:])

    def _working_plane(self, sharing: Sharing) -> Plane:
        bench = self.bench
        f1, f2 = bench.lens1.focal_length, bench.lens2.focal_length
        reach, shortest = band_width(bench), min(f1, f2) * bench.source.wavelength
        field = sharing.input_field if self.tiled else sharing.tile
        size, pitch = [], []
        for n, tile, taps in zip(field, sharing.tile, self.kernel, strict=True):
            crossing = 2 * n - tile + taps  # sums at all differences of tiles
            extent = bench.input.sample * max(n, crossing * f2 / f1)
            wide = reach + extent
            pupils = [lens.pupil for lens in (bench.lens1, bench.lens2) if lens.pupil is not None]
            lit = min([wide, max(pupils)]) if len(pupils) == 2 else wide
            finest = min(shortest / lit, shortest / (2 * extent), bench.input.sample)
            size.append(grid.smooth_size(math.ceil(wide / finest * (1 - 1e-12))))
            pitch.append(wide / size[-1])
        return Plane((size[0], size[1]), (pitch[0], pitch[1]))

    def _bench4f(self, dtype: torch.dtype, device: torch.device) -> _Bench4f:
        key = dtype, device
        if key not in self._built:
            self._built = {key: self._build(torch.promote_types(dtype, torch.complex64), device)}
        return self._built[key]

    def _build(self, dtype: torch.dtype, device: torch.device) -> _Bench4f:
        bench, pitches = self.bench, self.plane.pitches
        wavelength = bench.source.wavelength
        y, x = (torch.fft.ifftshift(axis) for axis in self.plane.coordinates(device))
        frequencies = [grid.frequencies(n, p, device=device) for n, p in zip(self.plane.size, pitches, strict=True)]
        ways, lenses = [], []
        for lens in (bench.lens1, bench.lens2):
            options = {"wavelength": wavelength, "dtype": dtype, "device": device}
            ways.append(AngularSpectrum(self.plane, lens.focal_length, boundary="circular", **options))  # type: ignore[arg-type]
            glass = thin_lens(y, x, lens.focal_length, wavelength=wavelength, pitch=pitches, pupil=lens.pupil)
            lenses.append(glass.to(dtype))
        opening = aperture.square(y, x, band_width(bench), pitch=pitches)
        if self.stop:
            assert bench.stop is not None
            shape = aperture.square if bench.stop.shape == "square" else aperture.circular
            opening = opening * shape(y, x, stop_width(bench), pitch=pitches)
        return _Bench4f(
            (ways[0], ways[1]),
            (lenses[0], lenses[1]),
            opening.to(dtype),
            wavefront_transmission(bench, y, x).to(dtype),
            (y, x),
            (frequencies[0], frequencies[1]),
        )

    def _to_mask(self, bench: _Bench4f, pictures: Tensor) -> Tensor:
        """Pictures ``[B, in, y, x]`` → what falls on their masks, ``[B, 1 or in, Y, X]``."""
        way, lens = bench.ways[0], bench.lenses[0]
        waves = self._plane_waves(bench, pictures.to(way.dtype), way.dtype)
        if self.tiled:
            waves = waves.sum(1, keepdim=True)
        field = torch.fft.ifft2(waves * way.transfer)
        arrived: Tensor = way(field * lens)
        return arrived

    def _plane_waves(self, bench: _Bench4f, pictures: Tensor, dtype: torch.dtype) -> Tensor:
        """Spectra ``[B, in, Y, X]`` of pictures in their places, band-limited between their samples."""
        pitch = self.bench.input.sample
        rows: list[Tensor] = []
        columns: list[Tensor] = []
        for down, along in self.centres:
            for bases, nu, n, centre in zip((rows, columns), bench.frequencies, self.size, (down, along), strict=True):
                places = (torch.arange(n, dtype=nu.dtype, device=nu.device) - n // 2 + centre) * pitch
                inside = (nu.abs() * 2 * pitch <= 1).to(nu.dtype)
                bases.append(_waves(-torch.outer(nu, places), inside[:, None]).to(dtype))
        scale = pitch**2 / math.prod(self.plane.pitches)
        waves: Tensor = torch.stack(rows) @ (pictures * scale) @ torch.stack(columns).mT
        return waves

    def _one_output(
        self,
        bench: _Bench4f,
        at: tuple[Tensor, Tensor],
        see: Window | None,
        at_mask: Tensor,
        taps: Tensor,
    ) -> Tensor:
        way, lens = bench.ways[1], bench.lenses[1]
        passed = (at_mask * self._mask(bench, taps[0])).sum(1, keepdim=True)
        waves = torch.fft.fft2(way(passed) * lens) * way.transfer
        rows, columns = (
            _waves(torch.outer(places, nu), torch.ones_like(nu) / len(nu)).to(way.dtype)
            for places, nu in zip(at, bench.frequencies, strict=True)
        )
        magnification = self.bench.lens2.focal_length / self.bench.lens1.focal_length
        field: Tensor = -magnification * (rows @ waves @ columns.mT)
        return field if see is None else see(field)

    def _mask(self, bench: _Bench4f, taps: Tensor) -> Tensor:
        """One output's masks ``[1 or in, Y, X]``: transfer functions, each with what brings its tile to the axis."""
        pitch, reach = self.bench.input.sample, self.bench.source.wavelength * self.bench.lens1.focal_length
        rows: list[Tensor] = []
        columns: list[Tensor] = []
        for down, along in self.centres:
            for bases, places, k, centre in zip((rows, columns), bench.places, self.kernel, (down, along), strict=True):
                tap = torch.arange(k, dtype=places.dtype, device=places.device) - fourier.kernel_centre(k)
                bases.append(_waves(torch.outer(places / reach, (tap + centre) * pitch)).to(bench.opening.dtype))
        transfer = torch.stack(rows) @ taps.to(bench.opening.dtype) @ torch.stack(columns).mT
        return (transfer.sum(0, keepdim=True) if self.tiled else transfer) * bench.opening

    def _camera_places(self, *, whole: bool, finer: int) -> tuple[Tensor, Tensor]:
        """Where samples stand on the camera [m]: the pictures', or those of its whole grid, sample 0 at its corner."""
        scale = self.bench.input.sample * self.bench.lens2.focal_length / self.bench.lens1.focal_length
        padded = self.working_size()
        places = []
        for n, room in zip(self.size, padded, strict=True):
            index = torch.arange(room * finer if whole else n, dtype=torch.float64) / (finer if whole else 1)
            beyond = index >= n + (room - n) / 2
            sample = torch.where(beyond, index - room, index) if whole else index
            turned = whole or self.upright  # both lenses turn the picture; ``see`` looks at it turned back
            places.append((sample - n // 2) * (-scale if turned else scale))
        return places[0], places[1]

    def _require_memory(self, batch: int, taps: Tensor, kept: bool) -> None:
        arms = 1 if self.tiled else taps.shape[1]
        fields = batch * (arms + _FIELDS_AT_ONCE) + arms * 2 + (4 * batch if kept else 0)
        height, width = self.plane.size
        needed = fields * height * width * 2 * taps.real.element_size()
        what = f"{batch} pictures through free space on a grid of {height}×{width}"
        memory.require(needed, taps.device, what=what, mend="smaller batches or pictures, or light='fourier'")


def _waves(turns: Tensor, amplitude: Tensor | None = None) -> Tensor:
    """e^{i2π·turns}, exact for many turns."""
    amplitude = torch.ones_like(turns) if amplitude is None else amplitude.expand_as(turns)
    return torch.polar(amplitude.contiguous(), 2 * math.pi * (turns - turns.round()))
