"""What a lens does between its focal planes: the unitary Fourier transform, by FFT or as a matrix onto any grid.

Spectra are in FFT order. The light's convention is e^{+ikz - iωt}, a lens transforms with e^{-i2πxX/λf}, and the
constant phase of the path is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fouroptics.errors import InputError, check_choice
from fouroptics.optics import grid

_FFT_TAPS = 48  # from here on a padded FFT of the kernel beats the product with its few taps
Origin = Literal["axis", "corner"]
Pair = tuple[int, int]


def lens_ft(field: Tensor, *, origin: Origin = "axis") -> Tensor:
    """From the front to the back focal plane of a lens: a unitary FFT, spectrum in FFT order.

    ``origin="axis"`` refers phases to the optical axis at N // 2. ``"corner"`` refers them to sample 0 and saves a
    copy; a transform and its inverse agree on either.
    """
    check_choice("origin", origin, ("axis", "corner"))
    about = grid.to_fft_order(field) if origin == "axis" else field
    spectrum: Tensor = torch.fft.fft2(about, norm="ortho")
    return spectrum


def lens_ift(spectrum: Tensor, *, origin: Origin = "axis") -> Tensor:
    """The inverse, and the adjoint, of ``lens_ft``."""
    check_choice("origin", origin, ("axis", "corner"))
    about = torch.fft.ifft2(spectrum, norm="ortho")
    return grid.to_centred(about) if origin == "axis" else about


@dataclass(frozen=True)
class Plane:
    """The samples of one plane: how many, how far apart, where the axis is.

    Args:
        size: samples ``(y, x)``.
        pitch: [m], one number or ``(y, x)``.
        offset: where the grid's centre stands off the axis [m], ``(y, x)``.
        centre: ``"axis"`` for a field (axis on sample N // 2), ``"panel"`` for a device or a camera.
    """

    size: Pair
    pitch: float | tuple[float, float]
    offset: tuple[float, float] = (0.0, 0.0)
    centre: grid.Centre = "axis"

    @property
    def pitches(self) -> tuple[float, float]:
        return self.pitch if isinstance(self.pitch, tuple) else (self.pitch, self.pitch)

    def coordinates(self, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
        """Positions (y, x) of the samples [m], in float64."""
        y, x = (
            grid.coordinates(n, p, centre=self.centre, offset=o, device=device)
            for n, p, o in zip(self.size, self.pitches, self.offset, strict=True)
        )
        return y, x


class MatrixFT:
    """The lens transform onto any pitch, size and offset: a plan to be kept and called.

    .. math:: F(Y, X) = \\frac{\\sqrt{dx\\,dy\\,dX\\,dY}}{\\lambda f}
              \\sum_{y,x} E(y, x)\\, e^{-i 2\\pi (yY + xX) / \\lambda f}

    It keeps energy on a full period λf/dx of the far plane and passes less on less. Phases are built in float64 for the
    dtype asked for.

    Args:
        near: the plane in front of the lens.
        far: the plane behind it.
        wavelength: [m].
        focal_length: [m].
        dtype: complex64 or complex128.
        device: where the plan lives.
    """

    def __init__(
        self,
        near: Plane,
        far: Plane,
        *,
        wavelength: float,
        focal_length: float,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | str | None = None,
    ) -> None:
        if not dtype.is_complex:
            raise InputError(f"a matrix transform is complex, not {dtype}", where="dtype", mend="use torch.complex64")
        self.near, self.far = near, far
        self.wavelength, self.focal_length = wavelength, focal_length
        self._rows, self._columns = (
            _basis(far_axis, near_axis, far_pitch * near_pitch, wavelength * focal_length).to(dtype)
            for far_axis, near_axis, far_pitch, near_pitch in zip(
                far.coordinates(device), near.coordinates(device), far.pitches, near.pitches, strict=True
            )
        )

    def __call__(self, field: Tensor) -> Tensor:
        """``[..., y, x]`` on the near plane → ``[..., Y, X]`` on the far plane."""
        self._check(field, self.near)
        return _sandwich(self._rows, field, self._columns.mT)

    def adjoint(self, field: Tensor) -> Tensor:
        """``[..., Y, X]`` on the far plane → ``[..., y, x]`` on the near plane, by the conjugate transpose."""
        self._check(field, self.far)
        return _sandwich(self._rows.mH, field, self._columns.conj())

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes + self._columns.nbytes

    @property
    def dtype(self) -> torch.dtype:
        return self._rows.dtype

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> MatrixFT:
        """The same plan rebuilt from float64 for another dtype or device."""
        return MatrixFT(
            self.near,
            self.far,
            wavelength=self.wavelength,
            focal_length=self.focal_length,
            dtype=dtype,
            device=self._rows.device if device is None else device,
        )

    def reversed(self) -> MatrixFT:
        """The plan of a second equal lens, from the far plane back to the near one: the picture arrives upside down."""
        return MatrixFT(
            self.far,
            self.near,
            wavelength=self.wavelength,
            focal_length=self.focal_length,
            dtype=self.dtype,
            device=self._rows.device,
        )

    def _check(self, field: Tensor, plane: Plane) -> None:
        if field.shape[-2:] != plane.size:
            raise InputError(f"the plan is for {plane.size} samples, the field has {tuple(field.shape[-2:])}")
        if torch.promote_types(field.dtype, self.dtype) != self.dtype:
            raise InputError(f"the plan is {self.dtype}, the field {field.dtype}", mend="use plan.to(torch.complex128)")


def _basis(far: Tensor, near: Tensor, pitches: float, reach: float) -> Tensor:
    phase = torch.outer(far, near / reach)
    phase = phase - phase.round()
    return torch.polar(torch.full_like(phase, math.sqrt(pitches / reach)), -2 * math.pi * phase)


def _sandwich(left: Tensor, middle: Tensor, right: Tensor) -> Tensor:
    """left @ middle @ right in the cheaper order, for a real or complex middle."""
    middle = middle.to(left.dtype)
    rows, inner_rows, inner_columns, columns = *left.shape[-2:], *right.shape[-2:]
    left_first = rows * inner_columns * (inner_rows + columns)
    right_first = inner_rows * columns * (inner_columns + rows)
    return (left @ middle) @ right if left_first <= right_first else left @ (middle @ right)


def kernel_centre(size: int) -> int:
    """The tap that ``conv2d(padding="same")`` lays on the output sample: the left of the two middle ones if even."""
    return (size - 1) // 2


def kernel_transfer(kernels: Tensor, size: Pair, *, half: bool = False) -> Tensor:
    """The transfer function of a cross-correlation kernel, H(ν) = Σ k(m) e^{+i2πνm} about ``conv2d``'s centre.

    Args:
        kernels: ``[..., ky, kx]`` real or complex, or a real pair's complex view.
        size: the grid's samples ``(y, x)``; frequencies come in FFT order.
        half: keep only the columns 0 … N // 2, enough for real kernels.

    Returns:
        Complex ``[..., y, x]`` or ``[..., y, x // 2 + 1]``.
    """
    fits = all(k <= n for k, n in zip(kernels.shape[-2:], size, strict=True))
    if fits and max(kernels.shape[-2:]) > _FFT_TAPS:
        return _large_kernel_transfer(kernels, size, half)
    exact = torch.promote_types(kernels.dtype, torch.complex64)
    rows, columns = (
        _taps(taps, samples, half_axis, kernels.device).to(exact)
        for taps, samples, half_axis in zip(kernels.shape[-2:], size, (False, half), strict=True)
    )
    return _sandwich(rows, kernels, columns.mT)


def _large_kernel_transfer(kernels: Tensor, size: Pair, half: bool) -> Tensor:
    """The same by FFT, which wins from some fifty taps on: H is the conjugate transform of the conjugate kernel."""
    grown = F.pad(kernels.conj(), (0, size[1] - kernels.shape[-1], 0, size[0] - kernels.shape[-2]))
    centred = grown.roll([-kernel_centre(taps) for taps in kernels.shape[-2:]], (-2, -1))
    transform: Tensor = torch.fft.rfft2(centred) if half else torch.fft.fft2(centred)
    return transform.conj().resolve_conj()


def transfer_at(kernels: Tensor, bins: tuple[Tensor, Tensor], size: Pair) -> Tensor:
    """``kernel_transfer`` at one frequency a set: ``[n, ..., ky, kx]`` and bins ``[n]`` (y, x) → ``[n, ...]``."""
    exact = torch.promote_types(kernels.dtype, torch.complex64)
    rows, columns = (
        _phases(which, taps, samples).to(exact)
        for which, taps, samples in zip(bins, kernels.shape[-2:], size, strict=True)
    )
    return torch.einsum("n...yx,ny,nx->n...", kernels.to(exact), rows, columns)


def _taps(taps: int, samples: int, half: bool, device: torch.device) -> Tensor:
    bins = torch.arange(samples // 2 + 1 if half else samples, device=device)
    return _phases(bins, taps, samples)


def _phases(bins: Tensor, taps: int, samples: int) -> Tensor:
    """e^{+i2πνm} for frequency bins (rows) and tap offsets about ``conv2d``'s centre (columns)."""
    offsets = torch.arange(taps, device=bins.device) - kernel_centre(taps)
    turns = torch.remainder(torch.outer(bins, offsets), samples).double() / samples  # exact: whole numbers
    return torch.polar(torch.ones_like(turns), 2 * math.pi * turns)


def spectral_crop(spectrum: Tensor, size: Pair, *, keep_mean: bool = True) -> Tensor:
    """Keep the lowest ``size`` frequencies: the low-pass that a stop and coarser sampling make.

    An odd n keeps -(n-1)/2 … (n-1)/2. An even n keeps -n/2 … n/2 with both edges weighted ½, and the n-point grid folds
    them onto one. ``keep_mean`` scales by √(h'w'/hw), so that under unitary transforms a picture keeps its level.
    """
    _check_sizes(size, spectrum.shape[-2:], "crop")
    scale = math.sqrt(math.prod(size) / math.prod(spectrum.shape[-2:])) if keep_mean else 1.0
    cropped = _crop_axis(_crop_axis(spectrum, size[0], -2), size[1], -1)
    return cropped * scale if keep_mean else cropped


def spectral_pad(spectrum: Tensor, size: Pair, *, keep_mean: bool = True) -> Tensor:
    """Lay a spectrum into a larger one, zeros outside: band-limited interpolation.

    Without ``keep_mean`` it is the adjoint of ``spectral_crop``: an even edge is shared by -n/2 and n/2, half each.
    """
    _check_sizes(spectrum.shape[-2:], size, "pad")
    padded = _pad_axis(_pad_axis(spectrum, size[0], -2), size[1], -1)
    scale = math.sqrt(math.prod(size) / math.prod(spectrum.shape[-2:])) if keep_mean else 1.0
    return padded * scale if keep_mean else padded


def _crop_axis(spectrum: Tensor, n: int, dim: int) -> Tensor:
    full = spectrum.shape[dim]
    if n == full:
        return spectrum
    positive, negative = (n + 1) // 2, n // 2
    low = spectrum.narrow(dim, 0, positive)
    high = spectrum.narrow(dim, full - negative, negative)
    if n % 2 == 0:
        edge = 0.5 * (high.narrow(dim, 0, 1) + spectrum.narrow(dim, positive, 1))
        high = torch.cat((edge, high.narrow(dim, 1, negative - 1)), dim)
    return torch.cat((low, high), dim)


def _pad_axis(spectrum: Tensor, full: int, dim: int) -> Tensor:
    n = spectrum.shape[dim]
    if n == full:
        return spectrum
    positive, negative = (n + 1) // 2, n // 2
    low, high = spectrum.narrow(dim, 0, positive), spectrum.narrow(dim, positive, negative)
    gap = full - n
    if n % 2 == 0:
        edge = 0.5 * high.narrow(dim, 0, 1)
        low, high = torch.cat((low, edge), dim), torch.cat((edge, high.narrow(dim, 1, negative - 1)), dim)
        gap -= 1
    shape = list(spectrum.shape)
    shape[dim] = gap
    return torch.cat((low, spectrum.new_zeros(shape), high), dim)


def _check_sizes(small: Pair | torch.Size, large: Pair | torch.Size, what: str) -> None:
    if not all(1 <= s <= b for s, b in zip(small, large, strict=True)):
        raise InputError(f"cannot {what} between {tuple(large)} and {tuple(small)} samples")
