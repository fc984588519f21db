"""From pictures to the field on the camera by the lens transform: two lenses, their errors and a stop between them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fouroptics.bench import Bench
from fouroptics.errors import InputError
from fouroptics.optics import aberration, aperture, correlation, fourier, grid
from fouroptics.optics.correlation import Boundary, Window, correlate
from fouroptics.optics.fourier import Pair
from fouroptics.optics.kept import Kept

Key = tuple[bool, Pair, torch.dtype, torch.device]


class FourierLight:
    """Ideal lenses, on the grid of the pictures' samples.

    Args:
        bench: the bench.
        size: samples of a picture.
        kernel: taps ``(ky, kx)``.
        boundary: ``"linear"`` or ``"circular"``.
        upright: turn the camera's picture back.
        stop: put the bench's stop in.
    """

    def __init__(
        self, bench: Bench, size: Pair, kernel: Pair, *, boundary: Boundary, upright: bool, stop: bool
    ) -> None:
        self.bench, self.size, self.kernel = bench, size, kernel
        self.boundary, self.upright, self.stop = boundary, upright, stop
        self._slopes = wavefront_reach(bench)
        self._pupils: Kept[Tensor] = Kept()

    def working_size(self, *, aberrated: bool = False, whole: bool = False) -> Pair:
        """Samples of the grid that the transforms run on; ``whole``: with the light on both sides of the picture.

        A kernel spreads light by its taps and no further. See ``surround`` for what else does.
        """
        slopes = self._slopes if aberrated and self._is_aberrated else None
        room = surround(self.bench, self.size, slopes, stop=self.stop)
        if whole:
            room = room[0] + self.kernel[0], room[1] + self.kernel[1]
        return correlation.working_size(self.size, self.kernel, self.boundary, upright=self.upright, surround=room)

    def respond(
        self,
        amplitude: Tensor,
        taps: Tensor,
        *,
        aberrated: bool = False,
        see: Window | None = None,
    ) -> Tensor:
        """``[..., in, y, x]`` → ``[..., out, y, x]`` or what ``see`` makes of the working grid (see ``correlate``)."""
        size = self.working_size(aberrated=aberrated, whole=see is not None)
        pupil = self._pupil((aberrated and self._is_aberrated, size, amplitude.dtype, amplitude.device))
        options = {"boundary": self.boundary, "upright": self.upright}
        return correlate(amplitude, taps, pupil=pupil, size=size, see=see, **options)  # type: ignore[arg-type]

    @property
    def _is_aberrated(self) -> bool:
        return bool(self.bench.aberration.zernike)

    def _pupil(self, key: Key) -> Tensor | None:
        aberrated, size, dtype, device = key
        if not (aberrated or self.stop):
            return None

        def build() -> Tensor:
            pupil = stop_transmission(self.bench, size, device) if self.stop else None
            if aberrated:
                errors = _wavefront_on_bins(self.bench, size, device)
                pupil = errors if pupil is None else errors * pupil
            assert pupil is not None
            exact = torch.promote_types(dtype, torch.complex64) if pupil.is_complex() else dtype
            return pupil.to(exact)

        return self._pupils.get(key, build)


def surround(bench: Bench, size: Pair, slopes: Pair | None, *, stop: bool) -> Pair:
    """Dark samples that light needs beside a picture and its kernel's reach, ``(y, x)``.

    Behind a stop light rings without end, ever weaker: three pictures, or sixteen times the ripples' length, leave some
    1e-3 to wrap. An aberration rings less, for which 24 samples do, and moves light by its ``slopes`` (None: none).
    """
    ripple = math.ceil(16 * band_width(bench) / stop_width(bench)) if stop else 0
    rooms = []
    for n, slope in zip(size, slopes or (0, 0), strict=True):
        ringing = max(3 * n, ripple) if stop else 24 if slopes else 0
        rooms.append(ringing + slope)
    return rooms[0], rooms[1]


def band_width(bench: Bench) -> float:
    """Width of the pictures' sampled spectrum in the Fourier plane, λf/dx [m]."""
    return bench.source.wavelength * bench.lens1.focal_length / bench.input.sample


def stop_width(bench: Bench) -> float:
    assert bench.stop is not None
    if bench.stop.size == "band":
        what = "the stop follows a student's band, and there is none here"
        raise InputError(what, where="stop.size", mend="write a length")
    return float(bench.stop.size)


def stop_transmission(bench: Bench, size: Pair, device: torch.device) -> Tensor:
    """The stop on the bins of a working grid, in FFT order and float64."""
    assert bench.stop is not None
    bins = band_width(bench) / size[0], band_width(bench) / size[1]
    return aperture.stop(size, bins, stop_width(bench), shape=bench.stop.shape, device=device)


def wavefront_transmission(bench: Bench, y: Tensor, x: Tensor) -> Tensor:
    """What the lenses' errors do at places in the Fourier plane [m], ``[y, x]`` complex."""
    path = aberration.wavefront(y, x, bench.aberration.zernike, wavefront_diameter(bench))
    return aberration.delayed(path, bench.source.wavelength)


def wavefront_diameter(bench: Bench) -> float:
    """The disc that Zernike terms refer to: the bench's, or the circle round the opening that light passes."""
    if bench.aberration.diameter is not None:
        return bench.aberration.diameter
    stop = bench.stop
    if stop is None or stop.size == "band":
        return math.sqrt(2) * band_width(bench)
    return float(stop.size) * (math.sqrt(2) if stop.shape == "square" else 1)


def wavefront_reach(bench: Bench) -> Pair:
    """Samples that the steepest slope of the errors moves light by, ``(y, x)``."""
    samples = 65
    axis = grid.coordinates(samples, band_width(bench) / (samples - 1))
    path = aberration.wavefront(axis, axis, bench.aberration.zernike, wavefront_diameter(bench))
    waves = path * (samples - 1) / bench.source.wavelength
    down, along = (math.ceil(float(waves.diff(dim=dim).abs().max())) for dim in (0, 1))
    return down, along


def _wavefront_on_bins(bench: Bench, size: Pair, device: torch.device) -> Tensor:
    """The errors on the bins of a working grid; the last bin of an even one stands for both edges of the band."""
    odd = tuple(n + 1 - n % 2 for n in size)
    y, x = (
        torch.fft.ifftshift(grid.coordinates(m, band_width(bench) / n, device=device))
        for m, n in zip(odd, size, strict=True)
    )
    return fourier.spectral_crop(wavefront_transmission(bench, y, x), size, keep_mean=False)
