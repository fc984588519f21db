"""Light through free space, as plans to be kept and called: angular spectrum, Fresnel, and a thin lens on the way.

The carrier e^{ikz} of the path is left out, as everywhere: a plane wave along the axis arrives unchanged. That is also
what makes float32 enough, k·z being a million radians and the rest a few.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from fouroptics.errors import InputError, check_choice, warn
from fouroptics.optics import aperture, grid
from fouroptics.optics.fourier import MatrixFT, Pair, Plane

Boundary = Literal["linear", "circular"]
Number = float | Tensor
_MOST_SAMPLES = 100_000  # a side: no more are proposed
LENSES = ("stigmatic", "parabolic")


class _FreeSpace(ABC):
    """A convolution with what a point becomes: × H(ν) between two transforms. Subclasses write H.

    With ``boundary="linear"`` the surround is dark: the field is padded to twice its size, and what would leave that
    window is cut from H (Matsushima and Shimobaba 2009), since it would come in again on the other side. A plan that
    has to cut within the field's ``band`` says so and names the values that need not. ``"circular"`` takes the field as
    one period of an endless one, and is exact for that.

    Args:
        plane: where the field's samples stand; the answer's stand there too.
        distance: [m]; negative goes back.
        wavelength: [m].
        boundary: ``"linear"`` or ``"circular"``.
        band: highest frequency of the field along an axis [1/m]; None: all that the samples carry.
        dtype: complex64 or complex128.
        device: where the plan lives.
    """

    def __init__(
        self,
        plane: Plane,
        distance: float,
        *,
        wavelength: float,
        boundary: Boundary = "linear",
        band: float | None = None,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | str | None = None,
    ) -> None:
        check_choice("boundary", boundary, ("linear", "circular"))
        _check_length("distance", distance, any_sign=True)
        _check_length("wavelength", wavelength)
        for pitch in plane.pitches:
            _check_length("plane.pitch", pitch)
        if not dtype.is_complex:
            raise InputError(f"light is complex, not {dtype}", where="dtype", mend="use torch.complex64")
        self.plane, self.distance, self.wavelength = plane, distance, wavelength
        self.boundary, self.band = boundary, band
        if boundary == "linear":
            for samples, pitch in zip(plane.size, plane.pitches, strict=True):
                _check_reach(samples, pitch, abs(distance), wavelength, band)
        frequencies = [grid.frequencies(n, p, device=device) for n, p in zip(self._padded, plane.pitches, strict=True)]
        self._factors = tuple(factor.to(dtype) for factor in self._transfer(frequencies[0], frequencies[1]))

    @property
    def transfer(self) -> Tensor:
        """H(ν) in FFT order on the padded grid."""
        total = self._factors[0]
        for factor in self._factors[1:]:
            total = total * factor
        return total

    def __call__(self, field: Tensor) -> Tensor:
        """The field ``[..., y, x]`` after ``distance``."""
        return self._convolve(field, conjugate=False)

    def adjoint(self, field: Tensor) -> Tensor:
        """The conjugate transpose: for propagating waves that are kept, the way back."""
        return self._convolve(field, conjugate=True)

    @property
    def nbytes(self) -> int:
        return sum(factor.nbytes for factor in self._factors)

    @property
    def dtype(self) -> torch.dtype:
        return self._factors[0].dtype

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> _FreeSpace:
        """The same plan rebuilt from float64 for another dtype or device."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has been said
            return type(self)(
                self.plane,
                self.distance,
                wavelength=self.wavelength,
                boundary=self.boundary,
                band=self.band,
                dtype=dtype,
                device=self._factors[0].device if device is None else device,
            )

    @abstractmethod
    def _transfer(self, y: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        """H at frequencies ``y`` and ``x`` [1/m], as factors that broadcast."""

    @property
    def _padded(self) -> Pair:
        if self.boundary == "circular":
            return self.plane.size
        height, width = (grid.smooth_size(2 * n) for n in self.plane.size)
        return height, width

    @property
    def _window(self) -> tuple[float, float]:
        height, width = (n * p for n, p in zip(self._padded, self.plane.pitches, strict=True))
        return height, width

    def _convolve(self, field: Tensor, *, conjugate: bool) -> Tensor:
        _check_field(field, self.plane.size, self.dtype)
        with torch.autocast(field.device.type, enabled=False):
            spectrum = torch.fft.fft2(field.to(self.dtype), s=self._padded)
            for factor in self._factors:
                spectrum = spectrum.mul_(factor.conj() if conjugate else factor)
            arrived: Tensor = torch.fft.ifft2(spectrum)
        return arrived[..., : self.plane.size[0], : self.plane.size[1]]


class AngularSpectrum(_FreeSpace):
    """Each plane wave by itself, without approximation: H = e^{ikz(√(1-s) - 1)}, s = λ²(ν_y² + ν_x²).

    Waves with s > 1 do not travel: they fade as e^{-k|z|√(s-1)}, forwards and backwards.
    """

    def _transfer(self, y: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        s_y, s_x = ((self.wavelength * nu).square() for nu in (y, x))
        s = s_y[:, None] + s_x
        cosine = (1 - s).clamp_min(0).sqrt()
        turns = self.distance / self.wavelength * -torch.where(s < 1, s / (1 + cosine), 1.0)
        fading = torch.exp(-2 * math.pi * abs(self.distance) / self.wavelength * (s - 1).clamp_min(0).sqrt())
        if self.boundary == "linear":
            height, width = self._window
            sideways = self.distance**2 * torch.maximum(4 * s_y[:, None] / height**2, 4 * s_x / width**2)
            fading = fading * ((sideways <= (1 - s).clamp_min(0)) | (s >= 1))
        return (torch.polar(fading, 2 * math.pi * (turns - turns.round())),)


class Fresnel(_FreeSpace):
    """The paraxial approximation H = e^{-iπλz(ν_y² + ν_x²)}, a product of two vectors."""

    def _transfer(self, y: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        rows, columns = (self._chirp(nu, window) for nu, window in zip((y, x), self._window, strict=True))
        return rows[:, None], columns

    def _chirp(self, nu: Tensor, window: float) -> Tensor:
        turns = -self.wavelength * self.distance / 2 * nu.square()
        kept = torch.ones_like(nu)
        if self.boundary == "linear":
            kept = ((self.wavelength * self.distance * nu).abs() <= window / 2).to(nu.dtype)
        return torch.polar(kept, 2 * math.pi * (turns - turns.round()))


class FresnelTransform:
    """Fresnel onto a plane of another pitch, size or place, for long ways: a chirp, a matrix transform, a chirp.

    .. math:: E(X) = \\frac{e^{i\\pi X^2/\\lambda z}}{i \\lambda z}
              \\int E(x)\\, e^{i\\pi x^2/\\lambda z}\\, e^{-i 2\\pi xX/\\lambda z}\\, dx

    A sample stands for the light of its cell, amplitude × pitch, so that Σ|E|² is the power on either plane.

    Args:
        near: where the field's samples stand.
        far: where the answer's samples stand.
        distance: [m], positive.
        wavelength: [m].
        dtype: complex64 or complex128.
        device: where the plan lives.
    """

    def __init__(
        self,
        near: Plane,
        far: Plane,
        distance: float,
        *,
        wavelength: float,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | str | None = None,
    ) -> None:
        _check_length("distance", distance)
        _check_length("wavelength", wavelength)
        for here, there, pitch in zip(near.coordinates(), far.coordinates(), near.pitches, strict=True):
            aside = float(torch.maximum(here.max() - there.min(), there.max() - here.min()))
            if 2 * pitch * aside > wavelength * distance * (1 + 1e-9):
                finest = wavelength * distance / (2 * aside)
                safe = f"distance ≥ {2 * pitch * aside / wavelength:.4g} m, or a pitch ≤ {finest:.4g} m"
                warn(
                    f"at {distance:g} m samples of {pitch:g} m are too coarse for places {aside:.4g} m aside, and "
                    f"make copies there; safe: {safe}"
                )
        self.near, self.far, self.distance, self.wavelength = near, far, distance, wavelength
        self._lens = MatrixFT(near, far, wavelength=wavelength, focal_length=distance, dtype=dtype, device=device)
        self._before, self._after = (self._chirp(plane, device).to(dtype) for plane in (near, far))

    def __call__(self, field: Tensor) -> Tensor:
        """``[..., y, x]`` on the near plane → ``[..., Y, X]`` on the far plane."""
        _check_field(field, self.near.size, self._lens.dtype)
        return -1j * self._after * self._lens(field * self._before)

    def adjoint(self, field: Tensor) -> Tensor:
        """``[..., Y, X]`` on the far plane → ``[..., y, x]`` on the near plane."""
        _check_field(field, self.far.size, self._lens.dtype)
        return 1j * self._before.conj() * self._lens.adjoint(field * self._after.conj())

    @property
    def nbytes(self) -> int:
        return self._lens.nbytes + self._before.nbytes + self._after.nbytes

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> FresnelTransform:
        """The same plan rebuilt from float64 for another dtype or device."""
        device = self._before.device if device is None else device
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has been said
            return FresnelTransform(
                self.near, self.far, self.distance, wavelength=self.wavelength, dtype=dtype, device=device
            )

    def _chirp(self, plane: Plane, device: torch.device | str | None) -> Tensor:
        y, x = plane.coordinates(device)
        turns = (y[:, None].square() + x.square()) / (2 * self.wavelength * self.distance)
        return torch.polar(torch.ones_like(turns), 2 * math.pi * (turns - turns.round()))


def thin_lens(
    y: Tensor,
    x: Tensor,
    focal_length: Number,
    *,
    wavelength: float,
    pitch: tuple[float, float],
    pupil: Number | None = None,
    profile: Literal["stigmatic", "parabolic"] = "stigmatic",
) -> Tensor:
    """Transmission of a thin lens, e^{-ik·sag}, within its own round pupil, ``[y, x]`` complex.

    A stigmatic lens makes one point of a plane wave at any aperture, sag = √(f² + r²) - f, as corrected lenses do; a
    parabolic one, r²/2f, does so for Fresnel propagation only.

    Args:
        y: sample positions about the lens's centre [m], in any order.
        x: the same along x.
        focal_length: [m]; negative spreads.
        wavelength: [m].
        pitch: of the samples ``(y, x)`` [m].
        pupil: clear diameter [m]; None: no edge.
        profile: ``"stigmatic"`` or ``"parabolic"``.
    """
    straight = profile == "parabolic"
    _check_lens_sampling(y, x, focal_length, wavelength, pitch=pitch, pupil=pupil, straight=straight)
    return lens_transmission(y, x, focal_length, wavelength=wavelength, pitch=pitch, pupil=pupil, profile=profile)


def lens_transmission(
    y: Tensor,
    x: Tensor,
    focal_length: Number,
    *,
    wavelength: float,
    pitch: tuple[float, float],
    pupil: Number | None = None,
    profile: Literal["stigmatic", "parabolic"] = "stigmatic",
) -> Tensor:
    """``thin_lens`` unchecked, for a grid that is known to carry the light behind it."""
    check_choice("profile", profile, LENSES)
    square = y.square()[:, None] + x.square()
    focal_length = torch.as_tensor(focal_length, dtype=y.dtype, device=y.device)
    if profile == "parabolic":
        sag = square / (2 * focal_length)
    else:
        sag = square / (focal_length + focal_length.sign() * (focal_length.square() + square).sqrt())
    phase = -2 * math.pi / wavelength * sag
    clear = torch.ones_like(phase) if pupil is None else aperture.circular(y, x, pupil, pitch=pitch)
    return torch.polar(clear, phase)


def working_plane(extent: tuple[float, float], distance: float, *, wavelength: float, band: float) -> Plane:
    """The smallest smooth grid on which a field neither aliases nor wraps on its way: made for ``"circular"``.

    Args:
        extent: what the field takes up ``(y, x)`` [m].
        distance: of the way [m].
        wavelength: [m].
        band: highest frequency of the field in any direction [1/m], below 1/λ.
    """
    _check_length("distance", distance, any_sign=True)
    for name, value in (("extent", min(extent)), ("wavelength", wavelength), ("band", band)):
        _check_length(name, value)
    if band * wavelength >= 1:
        mend = f"a band below 1/λ = {1 / wavelength:.4g} /m"
        raise InputError(f"waves of {band:g} /m do not travel at {wavelength:g} m", where="band", mend=mend)
    pitch = 1 / (2 * band)
    spread = 2 * abs(distance) * _slope(band, wavelength)
    height, width = (grid.smooth_size(math.ceil((side + spread) / pitch * (1 - 1e-12))) for side in extent)
    return Plane((height, width), pitch)


def _check_field(field: Tensor, size: Pair, dtype: torch.dtype) -> None:
    if tuple(field.shape[-2:]) != size:
        what = f"the plan is for {size} samples, the field has {tuple(field.shape[-2:])}"
        raise InputError(what, where="field", mend="samples [..., y, x] of the plan's plane")
    if torch.promote_types(field.dtype, dtype) != dtype:
        what = f"the plan is {dtype}, the field {field.dtype}"
        raise InputError(what, where="field", mend="use plan.to(torch.complex128), or field.to(plan.dtype)")


def _slope(frequency: float, wavelength: float) -> float:
    """tan θ of a plane wave."""
    sine = min(wavelength * frequency, 1 - 1e-12)
    return sine / math.sqrt(1 - sine**2)


def _check_reach(samples: int, pitch: float, distance: float, wavelength: float, band: float | None) -> None:
    """Warn of, or refuse, a way on which the field's steepest waves leave the window that is looked at."""
    window = samples * pitch
    passed = window / math.hypot(window, distance) / wavelength
    band = min(1 / (2 * pitch) if band is None else band, 1 / wavelength)
    if passed >= band * (1 - 1e-9):
        return
    furthest = window / _slope(band, wavelength)
    needed = grid.smooth_size(math.ceil(distance * _slope(band, wavelength) / pitch * (1 - 1e-12)))
    safe = f"distance ≤ {furthest:.4g} m" + (f", or ≥ {needed} samples" if needed <= _MOST_SAMPLES else "")
    if passed * window < 1:
        raise InputError(
            f"at {distance:g} m light of a single sample overfills {samples} samples of {pitch:g} m",
            where="distance",
            mend=f"{safe}; or FresnelTransform onto a wider plane",
        )
    warn(
        f"at {distance:g} m a field of {samples} samples of {pitch:g} m keeps frequencies up to {passed:.4g} /m of "
        f"{band:.4g} /m; what is steeper leaves the window; safe: {safe}"
    )


def _check_lens_sampling(
    y: Tensor,
    x: Tensor,
    focal_length: Number,
    wavelength: float,
    *,
    pitch: tuple[float, float],
    pupil: Number | None,
    straight: bool,
) -> None:
    """Warn where the lens's phase turns by more than π from one sample to the next; ``straight``: its slope is r/f."""
    if not isinstance(focal_length, Tensor):
        _check_length("focal_length", focal_length, any_sign=True)
    f = abs(float(torch.as_tensor(focal_length).detach()))
    if not (f > 0 and math.isfinite(f)):
        raise InputError(f"a focal length of {f} m", where="focal_length", mend="such as 0.25")
    clear = math.inf if pupil is None else float(torch.as_tensor(pupil).detach()) / 2
    if clear <= 0:
        raise InputError(f"a pupil of {2 * clear} m", where="pupil", mend="such as 0.05, or None")
    for axis, step in zip((y, x), pitch, strict=True):
        edge = min(float(axis.detach().abs().max()) - step / 2, clear)
        finest = wavelength * (f if straight else math.hypot(f, edge)) / (2 * edge) if edge > 0 else math.inf
        if step > finest * (1 + 1e-9):
            steepest = wavelength / (2 * step)  # a sine, below 1 wherever a stigmatic lens comes to this
            widest = 2 * f * (steepest if straight else steepest / math.sqrt(1 - steepest**2))
            warn(
                f"a lens of {f:g} m turns by more than π from one sample to the next at its edge; "
                f"safe: a pitch ≤ {finest:.4g} m, or a pupil ≤ {widest:.4g} m"
            )
            return


def _check_length(name: str, value: Any, *, any_sign: bool = False) -> None:
    usable = isinstance(value, float | int) and math.isfinite(value) and (value > 0 or any_sign)
    if not usable:
        mend = "a finite number of metres" + ("" if any_sign else " above 0")
        raise InputError(f"{value!r} is not usable", where=name, mend=mend)
