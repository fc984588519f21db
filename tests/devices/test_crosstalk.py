"""A blur between pixels: against rasters, its gradient against differences, in bands and in groups."""

import pytest
import torch

from fouroptics.devices import crosstalk, modulator
from fouroptics.devices.modulator import Modulator
from tests.devices.test_modulator import TURN, of_table, rand, rastered, slm


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.149, 0.151, 0.1875, 0.3, 0.5, 1.0])
@pytest.mark.parametrize(("steps", "within"), [(1.0, 1e-3), (3.0, 4e-3), (TURN, 0.02)])
def test_crosstalk_is_a_blur_of_the_phase_within_and_between_pixels(sigma, steps, within):
    phase = rand(9, 7) * steps
    amplitude = rand(9, 7, seed=2)
    seen = of_table([0.0, 1.0], crosstalk=sigma)._passed(phase, amplitude)
    true = rastered(phase, sigma)
    assert (seen - amplitude * true).square().abs().mean().sqrt() < within
    unblurred = (torch.exp(1j * phase) - true).abs().square().mean().sqrt()
    assert unblurred > 5 * within or sigma < 0.1
    assert (seen.abs() <= amplitude + 1e-12).all()


@pytest.mark.parametrize("sigma", [0.1, 0.2, 1.0])
def test_the_gradient_of_a_blur_is_its_slope_twice_over_and_keeps_the_phases_alone(sigma):
    phase = (rand(2, 5, 6) * 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: crosstalk.blurred(p, sigma), phase)
    assert torch.autograd.gradgradcheck(lambda p: crosstalk.blurred(p, sigma), phase[:1, :3, :3])
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        crosstalk.blurred(phase, sigma)
    assert kept == [phase.numel()]


def test_bands_and_groups_of_masks_blur_alike(monkeypatch):
    """In bands of three rows, whole, or all masks at once as on another device: the same numbers and slopes."""
    phase = (rand(3, 8, 7) * 4).requires_grad_()
    found = []
    for rows, count in ((3, 1), (8, 1), (8, 3)):
        monkeypatch.setattr(crosstalk, "_bands", lambda _, rows=rows: [slice(n, n + rows) for n in range(0, 8, rows)])
        monkeypatch.setattr(crosstalk, "_groups", lambda masks, count=count: list(masks.split(count)))
        passed = crosstalk.blurred(phase, 0.2)
        found.append((passed, torch.autograd.grad(torch.view_as_real(passed).cumsum(-1).square().sum(), phase)[0]))
    for passed, slope in found[1:]:
        assert torch.equal(passed, found[0][0]) and torch.allclose(slope, found[0][1], atol=1e-12)


def test_crosstalk_leaves_an_even_mask_and_an_amplitude_alone():
    flat = torch.full((5, 5), 2.0, dtype=torch.float64)
    torch.testing.assert_close(slm(crosstalk=0.4).show(flat), slm().show(flat), rtol=0, atol=1e-6)
    grey = Modulator("grey_amplitude", modulator.amplitude_table(16), crosstalk=0.4, flicker=0.4)
    plain = Modulator("grey_amplitude", modulator.amplitude_table(16))
    drive = rand(5, 5)
    assert torch.equal(grey.show(drive), plain.show(drive))
    sharp = slm(crosstalk=1e-4)
    drive = rand(6, 6) * TURN
    torch.testing.assert_close(sharp.show(drive), slm().show(drive), rtol=0, atol=2e-3)
    assert torch.equal(slm(crosstalk=0.0).show(drive), slm().show(drive))


def test_crosstalk_follows_the_levels_phase_down_a_flyback():
    """From the last level to the first the blur goes through all phases between, it does not jump a turn."""
    drive = torch.tensor([[6.1, 6.1, 6.1, 0.1, 0.1, 0.1]], dtype=torch.float64).expand(6, 6)
    smooth = torch.tensor([[6.1, 6.1, 6.1, 0.1 + TURN, 0.1 + TURN, 0.1 + TURN]], dtype=torch.float64).expand(6, 6)
    device = slm(4096, crosstalk=0.3)
    assert torch.equal(device.show(drive), device.show(smooth))
    assert device.show(drive)[2, 2].abs() < 0.97
    torch.testing.assert_close(
        device.show(drive)[2], rastered(device.table.phase[device.nearest(drive)], 0.3)[2], rtol=0, atol=0.1
    )
