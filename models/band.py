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
_FEW = 32  # real and imaginary parts of rows up to which a picture's columns are transformed first


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
        rows, columns = geometry.rows, geometry.columns
        down, along = (
            _waves(bins, torch.arange(n), grid, -1)
            for bins, n, grid in zip((rows, columns), geometry.size, geometry.grid, strict=True)
        )
        self._down = torch.cat((down.real, down.imag)).to(device, dtype)
        self._along = torch.cat((along.real, along.imag)).mT.contiguous().to(device, dtype)
        up, across = (
            _waves(bins, torch.arange(n), n, 1) * _weights(bins, n, grid)[:, None]
            for bins, n, grid in zip((rows, columns), geometry.kept, geometry.grid, strict=True)
        )
        if not geometry.is_complex:
            across[1:] *= 2  # the bins below 0 are the conjugates of those above
        turned = torch.stack((across, 1j * across), 1).flatten(0, 1)  # for a real and for an imaginary part
        self._across = torch.stack((turned.real, turned.imag), 1).flatten(1).to(device, dtype)
        turned = torch.stack((up, 1j * up), 1).flatten(0, 1).mT.contiguous()
        self._up = turned.real.contiguous().to(device, dtype), turned.imag.contiguous().to(device, dtype)

    def analyse(self, pictures: Tensor) -> Tensor:
        """``[..., y, x]``, real or complex → its frequencies on the band ``[..., rows, columns]``."""
        if pictures.is_complex():
            return self.analyse(pictures.real) + 1j * self.analyse(pictures.imag)
        few = len(self._down) <= _FEW
        both = (self._down @ pictures) @ self._along if few else self._down @ (pictures @ self._along)
        rows, columns = self.geometry.shape
        real, imaginary = both[..., :rows, :], both[..., rows:, :]
        return torch.complex(
            real[..., :columns] - imaginary[..., columns:], real[..., columns:] + imaginary[..., :columns]
        )

    def synthesise(self, spectrum: Tensor) -> Tensor:
        """Frequencies on the band → the picture on the kept grid, at the level that it had."""
        pairs = torch.view_as_real(spectrum.resolve_conj()).flatten(-2)  # [..., rows, 2 · columns]
        lines = pairs @ self._across
        lines = lines.reshape(*spectrum.shape[:-2], -1, self.geometry.kept[1])  # [..., 2 · rows, x]
        real = self._up[0] @ lines
        return torch.complex(real, self._up[1] @ lines) if self.geometry.is_complex else real


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
