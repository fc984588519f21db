"""The paper's picture of a student: one 4f for each block, a stop in each, channels summed in light between them.

In the ideal case it makes the very field that the fold makes with one plane. What differs is what it takes: every pair
of an input and an output of every block is a mask of its own, all of them in light at the same time, because channels
that are summed coherently have to meet; and every block splits its light among its outputs and sums it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from fouroptics.models.band import waves_of_taps
from fouroptics.models.front import DeepFront, Front
from torch import Tensor

from fouroptics.correlator.passive import passive_scale
from fouroptics.errors import InputError

Pair = tuple[int, int]


@dataclass(frozen=True)
class Cost:
    """What optics take.

    Args:
        masks: that are lit at the same time, or one after another.
        planes: of masks in a row.
        together: masks that have to be lit at the same time.
        share: of the power on the input that a response of unit amplitude keeps, on average over outputs.
    """

    masks: int
    planes: int
    together: int
    share: float

    def __str__(self) -> str:
        planes = f"{self.planes} plane{'s' if self.planes > 1 else ''}"
        return f"{self.masks:,} masks in {planes}, {self.together:,} at once, {self.share:.2g} of the light"


class Cascade:
    """A chain of convolutions as a chain of 4f systems, block by block.

    Args:
        front: the chain.
    """

    def __init__(self, front: Front) -> None:
        if not isinstance(front, DeepFront):
            raise InputError("a plane has no blocks", where="optics", mend='"folded", or parameters="deep"')
        self.front, self.plan = front, front.plan

    @torch.no_grad()
    def field(self, pictures: Tensor) -> Tensor:
        """The field behind the last block ``[batch, out, Y, X]`` on the guarded grid, as finely as pictures are."""
        plan = self.plan
        (rows, columns), (height, width) = plan.grid, plan.size
        exact = pictures.to(torch.promote_types(pictures.dtype, torch.complex64))
        field = torch.nn.functional.pad(exact, (0, columns - width, 0, rows - height))
        for number in range(len(plan.kernels)):
            field = self._block(field, number)
        return field

    def _block(self, field: Tensor, number: int) -> Tensor:
        """One 4f: a lens, the masks of all pairs, the sum over inputs, the stop, a lens."""
        before, behind = self.plan.grids[number], self.plan.grids[number + 1]
        weight, bins = self.front.taps()[number], [_bins(n) for n in self.plan.grid]
        down, along = (
            waves_of_taps(taps, bin_, n).to(field)
            for taps, bin_, n in zip(weight.shape[-2:], bins, before, strict=True)
        )
        masks = down.mT @ (weight.to(field.dtype) @ along)
        spectra = torch.einsum("bi...,oi...->bo...", torch.fft.fft2(field), masks)
        for axis, (bin_, wide, narrow) in enumerate(zip(bins, before, behind, strict=True)):
            if narrow < wide:
                passed = _stop(bin_, narrow).to(spectra.real)
                spectra = spectra * (passed[:, None] if axis == 0 else passed)
        made: Tensor = torch.fft.ifft2(spectra)
        return made

    def cost(self, *, in_turn: bool = False) -> Cost:
        """Of the cascade: splitting and summing cost 1/(outputs · inputs) in every block, passive masks the rest.

        ``in_turn``: the last block's outputs are lit one after another, and none shares its light with the others.
        """
        share, pairs = 1.0, [inputs * outputs for inputs, outputs in pairwise(self.plan.channels)]
        lit = [*pairs[:-1], self.plan.channels[-2] if in_turn else pairs[-1]]
        for number, (taps, count) in enumerate(zip(self.front.taps(), lit, strict=True), 1):
            power = passive_scale(taps.detach(), summed=False).square()
            is_last = number == len(pairs)  # before it outputs are summed again, and keep their ratios
            share *= float(power.mean() if is_last else power.min()) / count
        return Cost(sum(pairs), len(pairs), sum(lit), share)

    def cost_of_fold(self, *, tiled: bool = True, in_turn: bool = False) -> Cost:
        """Of its one plane: inputs side by side on one mask an output, or a 4f for every pair and a combiner."""
        taps = self.front.kernels(self.front.transfer().detach())
        outputs, inputs = taps.shape[:2]
        share = float(passive_scale(taps, summed=tiled).square().mean())
        if tiled:
            return Cost(outputs, 1, 1, share)
        lit = inputs if in_turn else outputs * inputs
        return Cost(outputs * inputs, 1, lit, share / lit)


def _bins(samples: int) -> Tensor:
    """Numbers of frequencies in FFT order."""
    numbers: Tensor = torch.fft.fftfreq(samples, 1 / samples, dtype=torch.float64).round().long()
    return numbers


def _stop(bins: Tensor, kept: int) -> Tensor:
    """What an opening lets pass of frequencies: of an even band both edges half."""
    inside, edge = 2 * bins.abs() < kept, 2 * bins.abs() == kept
    passed: Tensor = torch.where(edge, 0.5, inside.double())
    return passed
