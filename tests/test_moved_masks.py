"""Masks that are moved, against dense sums over their moved pixels."""

import math

import pytest
import torch

from fouroptics.correlator.fourier_plane import input_pixel
from fouroptics.imperfections import Imperfections
from tests.flawed_banks import IDEAL, SIDE, UM, bank, relative, smooth, wave


def dense(made, pictures, *, shift=(0.0, 0.0), turn=0.0, stretch=1.0, defocus=0.0, seen=(0.0, 0.0)):
    """Every pixel of a mask, cut finely, where the mask's rigid motion has put it, summed one by one."""
    plan, bench, cut = made.device.plan, made.bench, 5 if made.channels[1] == 1 else 11
    reach, dx, pitch = bench.source.wavelength * bench.lens1.focal_length, bench.input.sample, bench.mask.pitch / cut
    shown = plan.shown(made.device.drive.detach()).repeat_interleave(cut, 1).repeat_interleave(cut, 2)
    y, x = (stretch * pitch * (torch.arange(n * cut, dtype=torch.float64) - (n * cut - 1) / 2) for n in plan.count)
    sample = torch.arange(SIDE, dtype=torch.float64) - SIDE // 2

    def bent(place, sign):
        return wave(sign * defocus * place.square() / (2 * reach * bench.lens1.focal_length))

    aside = [
        [
            stretch * bench.mask.pitch * (first + n / 2 - wide / 2)
            for first, n, wide in zip(o, plan.count, pixels, strict=True)
        ]
        for o in plan.origins
        for pixels in [(bench.mask.pixels[1], bench.mask.pixels[0])]
    ]
    answer = torch.zeros(made.channels[0], SIDE, SIDE, dtype=torch.complex128)
    for term in plan.terms:
        here = [(c - p + sample) * dx for c, p in zip(term.centre, term.place, strict=True)]
        there = [(c + sample) * dx - off for c, off in zip(term.centre, seen, strict=True)]
        light = pictures[term.input] * torch.outer(bent(here[0], -1), bent(here[1], -1))
        field = torch.zeros(SIDE, SIDE, dtype=torch.complex128)
        for row, at in enumerate(y):
            far_y, far_x = aside[term.mask][0] + at, aside[term.mask][1] + x  # about the panel's middle
            down = math.cos(turn) * far_y + math.sin(turn) * far_x + shift[0] - aside[term.mask][0] / stretch
            along = math.cos(turn) * far_x - math.sin(turn) * far_y + shift[1] - aside[term.mask][1] / stretch
            near = wave(-torch.outer(down, here[0]) / reach), wave(-torch.outer(along, here[1]) / reach)
            met = ((near[0] @ light) * near[1]).sum(1)
            met = met * input_pixel(bench, down * dx / reach) * input_pixel(bench, along * dx / reach)
            far = wave(torch.outer(down, there[0]) / reach), wave(torch.outer(along, there[1]) / reach)
            field += (far[0] * (shown[term.mask, row] * met)[:, None]).mT @ far[1]
        answer[term.output] += field * torch.outer(bent(there[0], 1), bent(there[1], 1))
    kept = made.scale * made.device.gain(made._masks(), made.kernels) / (stretch * pitch * dx / reach) ** 2
    return answer / kept[:, None, None]


@pytest.mark.parametrize(
    ("inputs", "values", "motion"),
    [
        (1, {}, {}),
        (1, {"mask.shift_y": -35 * UM, "mask.shift_x": 20 * UM}, {"shift": (-35 * UM, 20 * UM)}),
        (1, {"mask.magnification": 0.01}, {"stretch": 1.01}),
        (3, {"mask.defocus": 3e-3}, {"defocus": 3e-3}),
        (1, {"mask.rotation": 0.02}, {"turn": 0.02}),
        (
            3,
            {"mask.shift_x": 20 * UM, "mask.rotation": -0.02, "mask.magnification": -0.01},
            {"shift": (0.0, 20 * UM), "turn": -0.02, "stretch": 0.99},
        ),
        (
            3,
            {"mask.shift_x": 200 * UM, "mask.rotation": 0.3, "camera.shift": [16 * UM, 32 * UM]},
            {"shift": (0.0, 200 * UM), "turn": 0.3, "seen": (16 * UM, 32 * UM)},
        ),
        (
            1,
            {"mask.defocus": 3e-3, "mask.rotation": math.pi / 2, "camera.shift": [0.0, 32 * UM]},
            {"defocus": 3e-3, "turn": math.pi / 2, "seen": (0.0, 32 * UM)},
        ),
    ],
)
def test_a_mask_that_is_moved_is_the_sum_over_its_moved_pixels(inputs, values, motion):
    made, pictures = bank(IDEAL, (1, inputs)), smooth(inputs)
    with torch.no_grad():
        field = made.field(pictures, errors=Imperfections(values))
        nominal, truth = made.field(pictures), dense(made, pictures, **motion)
    assert (field - truth).norm() < 3e-3 * truth.norm()  # the cuts of a coarse pixel
    if values:
        assert (nominal - truth).norm() > 3 * (field - truth).norm()


@pytest.mark.parametrize(
    ("ways", "channels"), [(("lenslet", "frames"), (1, 2)), (("tiled", "lenslet"), (2, 2)), (("lenslet",) * 2, (2, 1))]
)
def test_a_turned_panel_moves_the_masks_that_stand_side_by_side_on_it(ways, channels):
    """By θẑ × r, each its own way, and its tiles' light by the phases that go with it."""
    beside = {"layout.inputs": ways[0], "layout.outputs": ways[1], "mask.pixels": [150, 150]}
    made, pictures = bank(IDEAL | beside, channels), smooth(channels[1])
    assert len(set(made.device.plan.origins)) == 2
    for values, motion in (
        ({"mask.rotation": 0.004}, {"turn": 0.004}),
        ({"mask.magnification": 2e-3, "mask.shift_y": 20 * UM}, {"stretch": 1.002, "shift": (20 * UM, 0.0)}),
    ):
        with torch.no_grad():
            field, truth = made.field(pictures, errors=Imperfections(values)), dense(made, pictures, **motion)
            assert relative(field, truth) < 4e-3
            assert relative(made.field(pictures), truth) > 7e-3
