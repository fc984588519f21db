"""The band that a chain of spectral layers keeps: pictures onto it, transfer functions composed on it, pictures again.

A chain of convolutions, crops and channel sums is at every frequency a product of channel matrices, and what lies
outside the last crop is lost. So only the frequencies of the last crop are ever worked out. Of an even crop n they are
-n/2 … n/2: one more than n, both edges at half weight, and the n-point grid lays them onto one sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fouroptics.optics.fourier import kernel_centre

Pair = tuple[int, int]
_WIDE = 512  # samples of a picture's row from which on it is transformed in quarters
_ROWS = 128  # at a time


@dataclass(frozen=True)
class Geometry:
    """Where pictures and their band live.

    Args:
        size: samples of a picture ``(y, x)``.
        grid: samples of the dark-guarded grid, the picture at its origin, on which convolutions are circular.
        kept: samples of the last crop on that grid.
        is_complex: of the response: its band has all columns; that of a real one those from 0 on.
    """

    size: Pair
    grid: Pair
    kept: Pair
    is_complex: bool = False

    @property
    def rows(self) -> Tensor:
        """Frequency bins held along y."""
        return torch.arange(-(self.kept[0] // 2), self.kept[0] // 2 + 1)

    @property
    def columns(self) -> Tensor:
        """Frequency bins held along x."""
        return torch.arange(-(self.kept[1] // 2) if self.is_complex else 0, self.kept[1] // 2 + 1)

    @property
    def shape(self) -> Pair:
        """Bins held ``(y, x)``."""
        return len(self.rows), len(self.columns)


class Band:
    """A plan: the matrices from pictures onto a band and back, for one dtype and device.

    Args:
        geometry: of pictures and band.
        dtype: real.
        device: of the matrices.
    """

    def __init__(self, geometry: Geometry, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"):
        self.geometry = geometry
        exact = torch.promote_types(dtype, torch.complex64)
        rows, columns = geometry.rows, geometry.columns
        down = torch.arange(geometry.size[0])
        along = torch.arange(geometry.size[1])
        self._down = _waves(rows, down, geometry.grid[0], -1).to(device, exact)
        forward = _waves(columns, along, geometry.grid[1], -1)
        self._along = torch.cat((forward.real, forward.imag)).mT.contiguous().to(device, dtype)
        wide = geometry.size[1] >= _WIDE and geometry.grid[1] % 4 == 0
        self._quarters = _Quarters(columns, geometry.grid[1], dtype, device) if wide else None
        up, across = (
            _waves(bins, torch.arange(n), n, 1) * _weights(bins, n, grid)[:, None]
            for bins, n, grid in zip((rows, columns), geometry.kept, geometry.grid, strict=True)
        )
        if not geometry.is_complex:
            across[1:] *= 2  # the bins below 0 are the conjugates of those above
        self._up = up.mT.contiguous().to(device, exact)
        self._across = across.to(device, exact)

    def analyse(self, pictures: Tensor) -> Tensor:
        """``[..., y, x]``, real or complex → its frequencies on the band ``[..., rows, columns]``."""
        if pictures.is_complex():
            lines = self._lines(pictures.real) + 1j * self._lines(pictures.imag)
        else:
            lines = self._lines(pictures)
        return self._down @ lines

    def synthesise(self, spectrum: Tensor) -> Tensor:
        """Frequencies on the band → the picture on the kept grid, at the level that it had."""
        lines = self._up @ spectrum
        if self.geometry.is_complex:
            return lines @ self._across
        return lines.real @ self._across.real - lines.imag @ self._across.imag

    def _lines(self, pictures: Tensor) -> Tensor:
        """Rows transformed onto the band's columns, as one real product."""
        width = len(self.geometry.columns)
        direct = self._quarters is None or pictures.requires_grad
        both = pictures @ self._along if direct else self._quarters(pictures)  # type: ignore[misc]
        return torch.complex(both[..., :width], both[..., width:])


class _Quarters:
    """Long rows onto few low bins: a step of radix four, then a product of a quarter of the length.

    With θ = 2πmr/N the bin m is Σ_r e^{-iθ} Σ_s (-i)^{ms} x[r + sN/4]: the inner sums of real numbers are the same for
    all bins of a remainder m mod 4, and rows go through them in parts that stay in cache.
    """

    def __init__(self, bins: Tensor, period: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self._period = period
        by_rest = [bins[torch.remainder(bins, 4) == rest] for rest in range(4)]
        place = torch.cat([torch.nonzero(torch.remainder(bins, 4) == rest)[:, 0] for rest in (0, 2, 1, 3)])
        order = torch.argsort(place)
        self._order = torch.cat((order, order + len(bins))).to(device)
        parts = [_waves(some, torch.arange(period // 4), period, -1).mT for some in by_rest]
        real, imaginary = [part.real for part in parts], [part.imag for part in parts]
        self._even = [torch.cat((real[q], imaginary[q]), 1).contiguous().to(device, dtype) for q in (0, 2)]
        self._of_e = torch.cat((real[1], real[3], imaginary[1], imaginary[3]), 1).to(device, dtype)
        self._of_o = torch.cat((imaginary[1], -imaginary[3], -real[1], real[3]), 1).to(device, dtype)

    def __call__(self, pictures: Tensor) -> Tensor:
        """``[..., x]`` → real parts of all bins, then imaginary ones, ``[..., 2 · bins]``."""
        rows = pictures.reshape(-1, pictures.shape[-1])
        found = rows.new_empty(len(rows), len(self._order))
        room = rows.new_zeros(min(len(rows), _ROWS), self._period)
        for first in range(0, len(rows), _ROWS):
            some = rows[first : first + _ROWS]
            room[: len(some), : some.shape[1]] = some
            found[first : first + _ROWS] = self._of(room[: len(some)])
        return found[:, self._order].reshape(*pictures.shape[:-1], -1)

    def _of(self, rows: Tensor) -> Tensor:
        x0, x1, x2, x3 = rows.unflatten(1, (4, -1)).unbind(1)  # type: ignore[no-untyped-call]
        even, odd = x0 + x2, x1 + x3
        zero, two = (even + odd) @ self._even[0], (even - odd) @ self._even[1]
        rest = torch.addmm((x0 - x2) @ self._of_e, x1 - x3, self._of_o)
        zeros, twos = zero.shape[1] // 2, two.shape[1] // 2
        rests = rest.shape[1] // 2
        real = (zero[:, :zeros], two[:, :twos], rest[:, :rests])
        return torch.cat((*real, zero[:, zeros:], two[:, twos:], rest[:, rests:]), 1)


def compose(weights: Sequence[Tensor], grids: Sequence[Pair], geometry: Geometry) -> Tensor:
    """The product of a chain's transfer functions at every frequency of a band.

    One layer after another is laid on what the impulses of all inputs have become so far: a product of its taps with
    those, each turned by its tap's phase. Of a real layer it is one real product, whatever the band.

    Args:
        weights: of layers in their order ``[out, in, ky, kx]``, real or complex.
        grids: on which each is circular ``(y, x)``.
        geometry: of the band.

    Returns:
        Complex ``[out, in, rows, columns]``.
    """
    exact = torch.promote_types(weights[0].dtype, torch.complex64)
    inputs, bins = weights[0].shape[1], math.prod(geometry.shape)
    composed: Tensor | None = None
    for weight, grid in zip(weights, grids, strict=True):
        outputs, channels = weight.shape[:2]
        taps = _tap_phases(geometry, (weight.shape[-2], weight.shape[-1]), grid).to(weight.device, exact)
        flat = weight.reshape(outputs, -1)
        if composed is None:
            composed = _product(weight.reshape(outputs * channels, -1), taps).reshape(outputs, inputs * bins)
            continue
        turned = (composed.reshape(channels, 1, inputs, bins) * taps[:, None]).reshape(flat.shape[1], inputs * bins)
        composed = _product(flat, turned)
    assert composed is not None
    return composed.reshape(-1, inputs, *geometry.shape)


def _product(weight: Tensor, right: Tensor) -> Tensor:
    """weight @ right, of a real weight and complex values as one real product."""
    if weight.is_complex():
        return weight @ right
    pairs = torch.view_as_real(right).flatten(-2)
    product = weight @ pairs
    return torch.view_as_complex(product.reshape(*product.shape[:-1], -1, 2))


def _tap_phases(geometry: Geometry, kernel: Pair, grid: Pair) -> Tensor:
    """e^{+i2πνm} of every tap about ``conv2d``'s centre at every bin, ``[ky·kx, rows·columns]``."""
    down, along = (
        _waves(torch.arange(taps) - kernel_centre(taps), bins, n, 1)
        for taps, bins, n in zip(kernel, (geometry.rows, geometry.columns), grid, strict=True)
    )
    return torch.einsum("ar,bc->abrc", down, along).reshape(math.prod(kernel), -1)


def _waves(rows: Tensor, columns: Tensor, period: int, sign: int) -> Tensor:
    """exp(± i2π·row·column/period), exact in its whole turns."""
    turns = torch.remainder(torch.outer(rows, columns), period).double() / period
    return torch.polar(torch.ones_like(turns), sign * 2 * math.pi * turns)


def _weights(bins: Tensor, n: int, grid: int) -> Tensor:
    """What each bin counts in the picture: the edges of an even band half, all over the grid's samples."""
    weights = torch.full((len(bins),), 1 / grid, dtype=torch.float64)
    if n % 2 == 0:
        weights[bins.abs() == n // 2] /= 2
    return weights
