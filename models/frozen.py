"""A folded student set out for pictures: all that follows from its weights alone is worked out once.

The plane lies with its outputs innermost, and so does all that is made of it: the sum over inputs is one small product
a frequency, the way to the camera two products of all outputs together. A frozen normalisation becomes part of the
layer behind it. Of what is rectified on both sides one side is made: the other is that less the reading itself, and
what a layer makes of a reading is linear in the light, so it is taken from the frequencies of the pictures.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from fouroptics.models.band import Analysis, Geometry, ways_back
from fouroptics.models.front import check_dtype, check_pictures
from fouroptics.models.readouts import Reader
from fouroptics.models.sclc import FoldedSCLC, at_a_time, fold, numbers_detected
from fouroptics.models.spectral import has_hooks
from torch import Tensor, nn

from fouroptics.errors import InputError
from fouroptics.optics.kept import Kept
from fouroptics.optics.precision import exactly

Pair = tuple[int, int]
_BYTES = 2**26  # of a layer at a time, where it is worked out


class FrozenSCLC(nn.Module):
    """The scores of a student's fold, and nothing to train: later changes of the student are not seen.

    A module that was cast has constants that were rounded twice: cast the student, then freeze it.

    Args:
        student: or its fold.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        if isinstance(student, FrozenSCLC):
            raise InputError("it is frozen already", where="freeze", mend="freeze the student")
        with torch.inference_mode(False), torch.no_grad():
            folded = fold(student)
            reader = copy.deepcopy(folded.reader)
            if not isinstance(reader, Reader):
                what = "several levels have several bands"
                raise InputError(what, where="freeze", mend="fold it, and keep the fold")
            self.light = _Light(folded, reader)
            self.detected = numbers_detected(reader, self.light.geometry)
            layer, self.rest = _split_off(copy.deepcopy(folded.backend), reader)
            self.electronics: _OneSide | _Readings
            if layer is not None and reader.is_plainly_rectified and self.light.has_fewer_frequencies(reader):
                self.electronics = _OneSide(reader, layer, self.light)
            else:
                self.electronics = _Readings(reader, layer, self.light)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenSCLC:
        """Stays as it is in evaluation."""
        return super().train(False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores of pictures ``[batch, in, y, x]`` in [0, 1]."""
        self.light.check(pictures)
        if not pictures.shape[0]:
            return self.forward(pictures.new_zeros(1, *pictures.shape[1:]))[:0]
        found = self._before_rest(pictures)
        scores: Tensor = found if self.rest is None else self.rest(found)
        return scores

    @exactly
    def _before_rest(self, pictures: Tensor) -> Tensor:
        light, electronics, count = self.light, self.electronics, pictures.shape[0]
        to_numbers, to_samples = light.matrices(pictures.device)
        numbers = to_numbers(pictures)
        some = 0 if count == 1 else at_a_time(self.detected, pictures)
        if not 0 < some < count:
            return electronics.answer(numbers, light, to_samples)
        return torch.cat([electronics.answer(part, light, to_samples) for part in torch.split(numbers, some)])


def freeze(student: nn.Module) -> FrozenSCLC:
    """The same scores for pictures in numbers, in evaluation, of a student or its fold.

    It pays where bins are few beside outputs, as behind a crop; not where nothing is cropped and outputs are few, nor
    for one layer of few taps, which a student reads by what its taps see.

    Raises:
        InputError: it has several levels, or something in it has no linear counterpart; its name.
    """
    return FrozenSCLC(student)


class _Numbers(Analysis):
    """From pictures ``[batch, in, y, x]`` to their frequencies ``[batch, 4 · bins · in · 4]``, as rows of a product.

    At a column the bins v and -v are told together, by the even part E of the frequencies along y and the odd part O,
    as each number of these is one product of waves. What the plane makes of them is A, what it makes even, and B, what
    it makes odd. Four rows a bin make Re A, Im A, Re B and Im B of the plane's own four numbers an input.
    """

    def __init__(self, geometry: Geometry, inputs: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(geometry, dtype, device)
        self._signed = torch.cat((self._along, -self._along), 1)
        self._picks = _picks(geometry, inputs).to(device)

    def __call__(self, pictures: Tensor) -> Tensor:
        if pictures.is_complex():
            rows, (r, i, s, j) = self(pictures.real), self(pictures.imag).chunk(4, 1)
            return rows + torch.cat((-i, r, -j, s), 1)
        each = self._shortened(pictures).flatten(0, 1)
        lines = torch.bmm(self._down.expand(each.shape[0], -1, -1), each)
        products = torch.mm(lines.view(-1, lines.shape[2]), self._signed).view(pictures.shape[0], -1)
        return torch.index_select(products, 1, self._picks)


def _picks(geometry: Geometry, inputs: int) -> Tensor:
    """Which product each number of the rows is.

    Products of a picture are those along y with the waves from bin 0 on, real parts and then imaginary ones; of each
    those along x likewise, and all of these again, negative.
    """
    height, width = (n // 2 + 1 for n in geometry.kept)
    v, u = torch.arange(height), geometry.columns[:, None]
    left = u < 0  # the wave of a bin below 0 is the conjugate of one above: its imaginary part is negative

    def product(imaginary_y: int, imaginary_x: int, negative: Tensor | bool) -> Tensor:
        along = imaginary_x * width + u.abs() + 2 * width * negative
        return (imaginary_y * height + v) * 4 * width + along

    even = product(0, 0, False), product(0, 1, left), product(0, 1, ~left)  # Re, Im, -Im
    odd = product(1, 1, ~left), product(1, 0, False), product(1, 0, True)
    picks = torch.stack([torch.stack(row, -1) for row in _rows_of(*even, *odd)]).reshape(4, -1, 1, 4)
    return (picks + torch.arange(inputs)[:, None] * 8 * height * width).flatten()


def _rows_of(
    er: Tensor, ei: Tensor, minus_ei: Tensor, odd_r: Tensor, odd_i: Tensor, minus_oi: Tensor
) -> tuple[tuple[Tensor, ...], ...]:
    """Re A, Im A, Re B, Im B of A = EE' + OO' and B = EO' + OE': rows on Re E', Im E', Re O', Im O' of the plane."""
    return (
        (er, minus_ei, odd_r, minus_oi),
        (ei, er, odd_i, odd_r),
        (odd_r, minus_oi, er, minus_ei),
        (odd_i, odd_r, ei, er),
    )


class _Samples:
    """From A and B of a band ``[bins · 4, n]`` to samples ``[x · y, n]``, all n together.

    Bins go column by column: half of them are left out where kernels are real, so lines along y are few.
    """

    def __init__(self, up: Tensor, across: Tensor, is_complex: bool, dtype: torch.dtype, device: torch.device) -> None:
        waves = up[len(up) // 2 :].mT  # from bin 0 on, those below are their conjugates
        even, odd, nothing = waves.real, waves.imag, torch.zeros_like(waves.real)
        real, imaginary = (
            torch.stack((even, nothing, nothing, -odd), -1),
            torch.stack((nothing, even, odd, nothing), -1),
        )
        self._up = torch.cat((real, imaginary)).flatten(1).to(device, dtype)
        turned = torch.stack((across, 1j * across), 1).flatten(0, 1).mT
        self._across = turned.real.contiguous().to(device, dtype)
        self._imaginary = turned.imag.contiguous().to(device, dtype) if is_complex else None

    def __call__(self, sums: Tensor) -> Tensor:
        columns, many = self._across.shape[1] // 2, sums.shape[1]
        lines = torch.bmm(self._up.expand(columns, -1, -1), sums.view(columns, -1, many)).view(2 * columns, -1)
        samples = torch.mm(self._across, lines)
        if self._imaginary is not None:
            samples = torch.complex(samples, self._imaginary @ lines)
        return samples.view(-1, many)


class _Light(nn.Module):
    """From pictures to the field on the camera, or its means over pixels where readings follow it."""

    plane: Tensor

    def __init__(self, folded: FoldedSCLC, reader: Reader) -> None:
        super().__init__()
        self.sizes, self.geometry, self.means = folded.front.plan, folded.front.geometry, reader.means
        rows, columns = self.geometry.shape
        self.inputs, self.bins = self.sizes.channels[0], columns * (rows // 2 + 1)
        height, width = self.geometry.fine if self.means is None else (len(side) for side in self.means)
        self.samples = width, height  # as they lie: column by column
        self.middle = (columns // 2 if self.geometry.is_complex else 0) * (rows // 2 + 1)
        self.register_buffer("plane", _plane(folded.shown()))
        self.due = torch.Size((self.inputs, *self.sizes.size))
        self._kept: Kept[tuple[_Numbers, _Samples]] = Kept()

    def has_fewer_frequencies(self, reader: Reader) -> bool:
        """Of pictures, than readings leave the electronics."""
        return 4 * self.inputs * self.bins < reader.outputs * math.prod(reader.size)

    def check(self, pictures: Tensor) -> None:
        dtype = check_dtype(self.plane.dtype)
        if pictures.shape[1:] != self.due or pictures.dtype != dtype:
            check_pictures(pictures, self.sizes, dtype, self.geometry.is_complex)

    def matrices(self, device: torch.device) -> tuple[_Numbers, _Samples]:
        dtype, geometry = self.plane.dtype, self.geometry

        def build() -> tuple[_Numbers, _Samples]:
            ways = ways_back(geometry, geometry.fine, self.means)
            samples = _Samples(*ways, geometry.is_complex and self.means is None, dtype, device)
            return _Numbers(geometry, self.inputs, dtype, device), samples

        return self._kept.get((dtype, device), build)

    def seen(self, numbers: Tensor, samples: _Samples, level: Tensor | None = None) -> Tensor:
        """``[x · y, batch, out]``; a level ``[out]``, in units of a sum at bin 0, is added to all samples."""
        batch, bins = numbers.shape[0], self.bins
        rows = numbers.view(batch, 4, bins, -1).permute(2, 1, 0, 3).flatten(1, 2)
        sums = torch.bmm(rows, self.plane)
        if level is not None:
            sums[self.middle, :batch].add_(level)
        return samples(sums.view(4 * bins, -1)).view(-1, batch, sums.shape[2])


def _plane(transfer: Tensor) -> Tensor:
    """``[out, in, rows, columns]`` → ``[bins, in · 4, out]``, E' and O': what is even along y, and what is odd."""
    rows = transfer.shape[2] // 2
    above, below = transfer[:, :, rows:], transfer[:, :, : rows + 1].flip(2)
    even, odd = above + below, above - below
    even[:, :, 0] = above[:, :, 0]
    parts = torch.stack((even.real, even.imag, odd.real, odd.imag), -1)
    return parts.permute(3, 2, 1, 4, 0).flatten(2, 3).flatten(0, 1).contiguous()


class _Readings(nn.Module):
    """All of the electronics, and the layer behind it; without one, readings as a backend wants them."""

    def __init__(self, reader: Reader, layer: nn.Linear | None, light: _Light) -> None:
        super().__init__()
        self.reader, self.samples = reader, light.samples
        self.layer: nn.Linear | None = None
        if layer is not None:
            made = nn.utils.skip_init(nn.Linear, layer.in_features, layer.out_features)  # type: ignore[no-untyped-call]
            self.layer = made.to(layer.weight)
            for rows, weight, offset in _before_normalisation(layer, reader):
                made.weight[rows] = weight.flatten(1).to(layer.weight)
                made.bias[rows] = offset.to(layer.weight)

    def answer(self, numbers: Tensor, light: _Light, samples: _Samples) -> Tensor:
        reader, seen = self.reader, light.seen(numbers, samples)
        field = seen.view(*self.samples, *seen.shape[1:])
        if reader.follows_field:
            detected = field.permute(2, 3, 1, 0)
        else:
            pattern = reader.pattern(field)
            means = reader.plan(pattern.dtype, pattern.device).of_columns(pattern.flatten(2))
            detected = reader.subtracted(means.view(*means.shape[:2], *seen.shape[1:]).permute(2, 3, 1, 0))
        readings = reader.followed(detected)
        if self.layer is None:
            return reader.normalised(readings).contiguous()
        answer: Tensor = self.layer(readings.flatten(1))
        return answer


class _OneSide(nn.Module):
    """A layer behind rectified readings: max(-r, 0) = max(r, 0) - r, and its answer to r is one to light."""

    level: Tensor
    weight: Tensor
    offset: Tensor
    from_light: Tensor | None

    def __init__(self, reader: Reader, layer: nn.Linear, light: _Light) -> None:
        super().__init__()
        assert reader.bias is not None
        thresholds, two_sided = reader.bias, reader.channels == 2 * reader.outputs
        self.samples, self.pool = light.samples, None if reader.bin is None else reader.bin[::-1]
        self.register_buffer("level", thresholds * math.prod(light.geometry.grid))
        self.register_buffer(
            "weight", layer.weight.new_empty(layer.out_features, layer.in_features // (1 + two_sided)).mT
        )
        self.register_buffer("offset", layer.weight.new_empty(layer.out_features))
        self.register_buffer("from_light", None)
        if two_sided:
            self.from_light = layer.weight.new_empty(layer.out_features, 4 * light.inputs * light.bins).mT
        for rows, weight, offset in _before_normalisation(layer, reader):
            signs = weight.view(len(weight), -1, reader.outputs, *reader.size).permute(1, 0, 4, 3, 2)  # as readings lie
            self.weight.mT[rows] = signs.sum(0).flatten(1).to(self.weight)
            if self.from_light is not None:
                offset = offset - signs[1].sum((1, 2)) @ thresholds.to(weight)
                self.from_light.mT[rows] = self._of_light(-signs[1].flatten(1).to(self.weight), light)
            self.offset[rows] = offset.to(self.offset)

    def answer(self, numbers: Tensor, light: _Light, samples: _Samples) -> Tensor:
        pooled = self._pooled(light.seen(numbers, samples, self.level).relu_())
        offset, first = self.offset, numbers.shape[1] // 4
        if self.from_light is not None:
            offset = torch.addmm(offset, numbers.narrow(1, 0, first), self.from_light)
        return torch.addmm(offset, pooled, self.weight)

    def _pooled(self, readings: Tensor) -> Tensor:
        """``[x · y, batch, out]`` → ``[batch, X · Y · out]``."""
        if self.pool is not None:
            outputs_last = readings.view(1, *self.samples, -1).permute(0, 3, 1, 2)
            pooled = F.avg_pool2d(outputs_last, self.pool)
            readings = pooled.permute(0, 2, 3, 1).reshape(-1, *readings.shape[1:])
        return readings.transpose(0, 1).reshape(readings.shape[1], -1)

    def _of_light(self, weight: Tensor, light: _Light) -> Tensor:
        """What some rows of a layer behind pools make of light: the gradient of each, in a picture's place."""
        with torch.enable_grad():
            row = weight.new_zeros(len(weight), light.bins, light.inputs, 4, requires_grad=True)
            er, minus_ei, odd_r, minus_oi = row.unbind(-1)
            rows = _rows_of(er, -minus_ei, minus_ei, odd_r, -minus_oi, minus_oi)
            numbers = torch.cat([torch.stack(one, -1).flatten(1) for one in rows], 1)
            seen = light.seen(numbers, light.matrices(weight.device)[1])
            answer = (self._pooled(seen) * weight).sum()
        (found,) = torch.autograd.grad(answer, row)
        return found.flatten(1)


def _split_off(backend: nn.Module, reader: Reader) -> tuple[nn.Linear | None, nn.Module | None]:
    """The first layer of a backend, if it takes all readings of a picture in a row, and what is behind it, if any."""
    if type(backend) is not nn.Sequential or len(backend) < 2:
        return None, backend
    flat, layer = backend[0], backend[1]
    if type(flat) is not nn.Flatten or type(layer) is not nn.Linear:
        return None, backend
    whole = (flat.start_dim, flat.end_dim) == (1, -1) and layer.in_features == reader.channels * math.prod(reader.size)
    if not whole or any(has_hooks(one) or "forward" in vars(one) for one in (backend, flat, layer)):
        return None, backend
    return layer, backend[2:] if len(backend) > 2 else None


def _before_normalisation(layer: nn.Linear, reader: Reader) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """A layer that takes readings before they are normalised, some rows at a time and in double precision.

    Which rows, their weights ``[rows, channels, Y · X]`` and offsets.
    """
    spread, mean = reader.spread.double()[:, None], reader.mean.double()[:, None]
    some = max(1, _BYTES // (8 * layer.in_features))
    for first in range(0, layer.out_features, some):
        rows = slice(first, first + some)
        weight = layer.weight[rows].double().view(-1, reader.channels, math.prod(reader.size)) / spread
        offset = -(weight * mean).sum((1, 2))
        yield rows, weight, offset if layer.bias is None else offset + layer.bias[rows].double()
