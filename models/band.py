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
from fouroptics.optics.kept import is_traced
from fouroptics.optics.separable import SMALL, is_better_at_once, row_products

Pair = tuple[int, int]
_GROUPS = (64, 32, 16), (128, 64, 32, 16)  # samples along y and along x that a few numbers may stand for
_MUCH_LESS = 0.6  # of the products


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
    def fine(self) -> Pair:
        """Samples that tell the field's energy apart, whose band is twice as wide."""
        rows, columns = (2 * n + 2 * (n % 2 == 0) for n in self.kept)  # of an even n, both edges are held
        return rows, columns

    @property
    def shape(self) -> Pair:
        """Bins held ``(y, x)``."""
        rows, columns = (n // 2 for n in self.kept)
        return 2 * rows + 1, (2 * columns if self.is_complex else columns) + 1


class Analysis:
    """A plan: from pictures to their frequencies on a band, rows first, as matrix products.

    Args:
        geometry: of pictures and band.
        dtype: real.
        device: of the matrices.
    """

    def __init__(self, geometry: Geometry, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"):
        self._is_complex, self._shape = geometry.is_complex, geometry.shape
        down, along = (
            _waves(torch.arange(n // 2 + 1), torch.arange(size), grid, -1)
            for n, size, grid in zip(geometry.kept, geometry.size, geometry.grid, strict=True)
        )
        waves = (torch.cat((one.real, one.imag)) for one in (down, along))
        (self._few_y, down), (self._few_x, along) = (
            (few if few is None else few.to(device, dtype), rest.to(device, dtype))
            for few, rest in (in_few(one, groups, dtype) for one, groups in zip(waves, _GROUPS, strict=True))
        )
        self._down, self._along = down, along.mT.contiguous()
        products = len(self._down), self._along.shape[1]
        self._sorted = None
        if 2 * math.prod(products) * math.prod(self._shape) <= SMALL:
            each = torch.eye(math.prod(products), dtype=dtype, device=device).reshape(-1, *products)
            self._sorted = torch.view_as_real(self._bins(each)).flatten(1)

    def __call__(self, pictures: Tensor) -> Tensor:
        """``[..., y, x]``, real or complex → complex ``[..., rows, columns]``."""
        if pictures.is_complex():
            return self(pictures.real) + 1j * self(pictures.imag)
        products = (self._down @ self._shortened(pictures)) @ self._along
        if self._sorted is None:
            return self._bins(products)
        pairs = products.flatten(-2) @ self._sorted
        return torch.view_as_complex(pairs.reshape(*pairs.shape[:-1], *self._shape, 2))

    def _shortened(self, pictures: Tensor) -> Tensor:
        """Pictures, in fewer numbers for each group of samples where that is less work."""
        if self._few_y is not None:
            groups = pictures.reshape(-1, self._few_y.shape[1], pictures.shape[-1])
            short = torch.bmm(self._few_y.expand(len(groups), -1, -1), groups)
            pictures = short.reshape(*pictures.shape[:-2], -1, pictures.shape[-1])
        if self._few_x is not None:
            short = pictures.reshape(-1, self._few_x.shape[1]) @ self._few_x.mT
            pictures = short.reshape(*pictures.shape[:-1], -1)
        return pictures

    def _bins(self, products: Tensor) -> Tensor:
        """Products with the waves from bin 0 on, real parts first and then imaginary ones → all bins of the band."""
        (cos_cos, cos_sin), (sin_cos, sin_sin) = (
            half.tensor_split(2, -1) for half in products.tensor_split(2, -2)
        )  # along y and along x
        below = torch.complex(cos_cos - sin_sin, cos_sin + sin_cos)
        above = torch.complex(cos_cos + sin_sin, cos_sin - sin_cos)
        right = torch.cat((above[..., 1:, :].flip(-2), below), -2)
        if not self._is_complex:
            return right
        return torch.cat((right[..., 1:].flip(-2, -1).conj(), right), -1)


def in_few(waves: Tensor, groups: Sequence[int], dtype: torch.dtype) -> tuple[Tensor | None, Tensor]:
    """Waves ``[waves, samples]`` as ``[waves, groups · numbers]`` of a few numbers for each group of samples.

    Waves that are long beside a group hardly differ on it. How many numbers tell them apart there is told by singular
    values: those below the precision of the kind of numbers are nothing. The first size of groups counts with which it
    is much less work.

    Returns:
        The few numbers of a group ``[numbers, samples of it]``, and the waves of those; None and the waves as they were
        where there is no such size.
    """
    count, samples = waves.shape
    for group in groups:
        if samples % group or is_traced():  # a trace knows no values, from which follows how many they are
            continue
        pieces = waves.reshape(-1, group)
        _, strengths, shapes = torch.linalg.svd(torch.linalg.qr(pieces, mode="r")[1], full_matrices=False)
        few = shapes[strengths > torch.finfo(dtype).eps * strengths[0]]
        if len(few) * (1 + count / group) < _MUCH_LESS * count:
            return few, (pieces @ few.mT).reshape(count, -1)
    return None, waves


class Synthesis:
    """A plan: from a band to samples, at the level that pictures had. Both edges of an even band count half.

    Args:
        geometry: of pictures and band.
        samples: over the period of the kept grid; None for its own.
        onto: what to make of these samples, a matrix ``[new, samples]`` for each of ``(y, x)``; the two products of
            each axis are worked out beforehand. None gives the samples themselves.
        dtype: real.
        device: of the matrices.
    """

    def __init__(
        self,
        geometry: Geometry,
        samples: Pair | None = None,
        onto: tuple[Tensor, Tensor] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        up, across = ways_back(geometry, samples or geometry.kept, onto)
        self._is_complex = geometry.is_complex
        turned = torch.stack((across, 1j * across), 1).flatten(0, 1)  # for a real and for an imaginary part
        self._across = torch.stack((turned.real, turned.imag), 1).flatten(1).to(device, dtype)
        turned = torch.stack((up, 1j * up), 1).flatten(0, 1).mT.contiguous()
        self._up = turned.real.contiguous().to(device, dtype), turned.imag.contiguous().to(device, dtype)
        self._at_once = None
        self._shape = up.shape[1], across.shape[1]
        if not geometry.is_complex and is_better_at_once(geometry.shape, self._shape):
            waves = torch.einsum("vy,ux->vuyx", up, across).flatten(2).flatten(0, 1)
            self._at_once = torch.stack((waves.real, -waves.imag), 1).flatten(0, 1).to(device, dtype)

    def __call__(self, spectrum: Tensor) -> Tensor:
        """Complex ``[..., rows, columns]`` → ``[..., y, x]``."""
        pairs = torch.view_as_real(spectrum.resolve_conj()).flatten(-2)  # [..., rows, 2 · columns]
        if self._at_once is not None:
            samples: Tensor = pairs.flatten(-2) @ self._at_once
            return samples.reshape(*samples.shape[:-1], *self._shape)
        lines = row_products(pairs, self._across)
        lines = lines.reshape(*spectrum.shape[:-2], 2 * spectrum.shape[-2], self._shape[1])
        real = self._up[0] @ lines
        return torch.complex(real, self._up[1] @ lines) if self._is_complex else real


def ways_back(geometry: Geometry, samples: Pair, onto: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    """Complex ``[rows, y]`` and ``[columns, x]``: what each bin adds to samples, or to what is made of these.

    Of a real response the real part of their product counts: the bins below 0 are the conjugates of those above.
    """
    up, across = (
        _waves(bins, torch.arange(m), m, 1) * _weights(bins, n, grid)[:, None]
        for bins, m, n, grid in zip(
            (geometry.rows, geometry.columns), samples, geometry.kept, geometry.grid, strict=True
        )
    )
    if not geometry.is_complex:
        across[1:] *= 2
    if onto is not None:
        up, across = (waves @ matrix.mT.to(waves) for waves, matrix in zip((up, across), onto, strict=True))
    return up, across


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
        down, along = (
            waves_of_taps(taps, numbers, n).to(weight.device, exact)
            for taps, numbers, n in zip(weight.shape[-2:], (geometry.rows, geometry.columns), grid, strict=True)
        )
        flat = weight.reshape(outputs, -1)
        if composed is None:  # one axis after the other: these taps may be as many as the grid has samples
            composed = (down.mT @ _product(weight, along)).reshape(outputs, inputs * bins)
            continue
        taps = torch.einsum("ar,bc->abrc", down, along).reshape(-1, bins)
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


def waves_of_taps(taps: int, bins: Tensor, grid: int) -> Tensor:
    """e^{+i2πνm} of every tap of a row about ``conv2d``'s centre at every bin, ``[taps, bins]``."""
    return _waves(torch.arange(taps) - kernel_centre(taps), bins, grid, 1)


def moved_samples(geometry: Geometry, axis: int, taps: int) -> Tensor:
    """What a picture's samples add along an axis to the fine samples of the field, moved by each tap of a row.

    ``[taps, fine samples, samples]``, real, in float64.
    """
    n, grid, fine = geometry.kept[axis], geometry.grid[axis], geometry.fine[axis]
    bins = torch.arange(-(n // 2), n // 2 + 1)
    down = _waves(bins, torch.arange(geometry.size[axis]), grid, -1)
    up = _waves(torch.arange(fine), bins, fine, 1) * _weights(bins, n, grid)
    return ((up * waves_of_taps(taps, bins, grid)[:, None]) @ down).real


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
