"""A signed reading from one capture: what it is made of, against the captures that it replaces, and its noise."""

import pytest
import torch

import fouroptics as fo
from fouroptics.devices.detector import Pattern


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=generator())


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=generator())


TWO = fo.Bench.load("slm-532nm").replace(
    {"aberration.zernike": {}, "source.waist": None, "reference.phase_step_error": "0 rad"}
)
ONE = TWO.replace({"reference.captures": 1})


def test_a_signed_reading_from_one_capture_is_less_what_the_reference_gives_alone():
    kernels, pictures, dark = randn(3, 2, 3, 3), rand(4, 2, 12, 12), torch.zeros(1, 2, 12, 12, dtype=torch.float64)
    errors = fo.Imperfections({"source.power": 0.1, "camera.gain": -0.05})
    one, seen, two = (
        fo.Correlator4f.from_kernels(kernels, bench, (12, 12), readout=kind).expose(seconds=1e-6)
        for bench, kind in ((ONE, "homodyne"), (ONE, "interference"), (TWO, "homodyne"))
    )
    camera = Pattern.draw(one.readings, pictures, generator(3))
    due = seen(pictures, camera, errors=errors) - seen(dark, camera, errors=errors)
    torch.testing.assert_close(one(pictures, camera, errors=errors), due, rtol=1e-9, atol=1e-9)
    squared = one(pictures) - two(pictures) / 2  # |E + r|² - r² less 2r·Re E
    assert (squared > -1e-9).all() and squared.max() > 1
    assert one.latency().captures * 2 == two.latency().captures


def test_inputs_shown_one_after_another_are_each_read_from_one_capture():
    bank = fo.Correlator4f.from_kernels(randn(2, 3, 3, 3), ONE, (12, 12), readout="homodyne", layout="frames")
    pictures = rand(3, 12, 12)
    each = torch.stack([bank.expose(seconds=1e-6)(pictures * (torch.arange(3) == i)[:, None, None]) for i in range(3)])
    torch.testing.assert_close(bank(pictures), each.sum(0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("captures", [1, 2])
def test_a_signed_reading_has_the_shot_noise_of_the_captures_that_it_is_made_of(captures):
    changes = {"reference.captures": captures, "camera.read_noise": 0, "camera.prnu": "0 %"}
    bank = fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), ONE.replace(changes), (16, 16), readout="homodyne")
    pictures, even = rand(60, 1, 16, 16), Pattern(*torch.zeros(2, *bank.readings))
    bank.expose(seconds=1e-6)
    noise = (bank.capture(pictures, generator=generator(), pattern=even) - bank(pictures, even)).detach()
    electrons = bank.electrons(pictures).sum(-3).mean().item()  # of all captures: the variance of their difference
    assert noise.square().mean().item() == pytest.approx(0.36**2 * electrons + captures / 12, rel=0.03)
