"""Etched plates: levels and depths by hand, overlay against rasters."""

import pytest
import torch

from fouroptics.devices import material, modulator
from fouroptics.devices.modulator import Modulator
from tests.devices.test_modulator import TURN


def test_etched_levels_by_hand():
    """16 steps of 72.2 nm of silica, n = 1.4607 at 532 nm."""
    table = modulator.etched_table(16, 72.2e-9, 1.4607, 532e-9)
    assert table.phase[15].item() == pytest.approx(TURN * 0.4607 * 15 * 72.2e-9 / 532e-9)
    exact = modulator.etched_table(16, material.step_depth(16, 1.4607, 532e-9), 1.4607, 532e-9)
    torch.testing.assert_close(exact.phase, modulator.phase_table(16).phase)


@pytest.mark.parametrize("levels", [4, 8, 6])
def test_depth_errors_remove_height(levels):
    """A plate from its top: bit m of the complement of a level is etched by d·2^m·(1 + ε_m)."""
    depth, index, wavelength = 70e-9, 1.46, 532e-9
    steps = (levels - 1).bit_length()
    errors = torch.tensor([0.05, -0.1, 0.2][:steps], dtype=torch.float64)
    table = modulator.etched_table(levels, depth, index, wavelength)
    found = modulator.with_depth_errors(table, errors)
    full = (2**steps - 1) * depth
    for level in range(levels):
        etched = [depth * 2**m * (1 + errors[m].item()) for m in range(steps) if not level >> m & 1]
        height = full - sum(etched)
        assert found.phase[level].item() == pytest.approx(TURN * (index - 1) * height / wavelength, abs=1e-12)
    assert torch.equal(found.amplitude, table.amplitude)
    assert torch.autograd.gradcheck(lambda e: modulator.with_depth_errors(table, e).phase, (errors.requires_grad_(),))


@pytest.mark.parametrize("levels", [2, 4, 8])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("sign", [1, -1])
def test_overlay_errors_are_strips_of_a_raster(levels, axis, sign):
    """Each etch step's own mask moved over a raster of 100 cells a pixel, heights looked up, pixels averaged."""
    fine, cells = 100, (5, 6)
    device = Modulator("multilevel_phase", modulator.phase_table(levels))
    steps = levels.bit_length() - 1
    shown = torch.randint(levels, cells, generator=torch.Generator().manual_seed(levels))
    for moved in range(steps):
        shifts = torch.zeros(steps, 2, dtype=torch.float64)
        shifts[moved, axis] = sign * 0.04
        raster = torch.zeros(cells[0] * fine, cells[1] * fine, dtype=torch.long)
        for m in range(steps):
            bit = (shown >> m & 1).repeat_interleave(fine, 0).repeat_interleave(fine, 1)
            by = round(shifts[m, axis].item() * fine)
            index = (torch.arange(bit.shape[axis]) - by).clamp(0, bit.shape[axis] - 1)  # the edge goes on
            raster += bit.index_select(axis, index) << m
        average = device.table.transmission[raster].reshape(cells[0], fine, cells[1], fine).mean((1, 3))
        change = modulator.overlay_change(device, shown, shifts)
        torch.testing.assert_close(change, average - device.transmission(shown), rtol=0, atol=1e-12)
        assert change.abs().max() > 0.03


def test_overlay_in_both_axes_is_right_to_first_order():
    fine, cells, device = 200, (6, 6), Modulator("multilevel_phase", modulator.phase_table(8))
    shown = torch.randint(8, cells, generator=torch.Generator().manual_seed(1))
    shifts = torch.tensor([[2, -1], [-1, 1], [1, 2]], dtype=torch.float64) / fine
    raster = torch.zeros(cells[0] * fine, cells[1] * fine, dtype=torch.long)
    for m, (down, along) in enumerate((shifts * fine).long().tolist()):
        bit = (shown >> m & 1).repeat_interleave(fine, 0).repeat_interleave(fine, 1)
        for axis, by in ((0, down), (1, along)):
            bit = bit.index_select(axis, (torch.arange(bit.shape[axis]) - by).clamp(0, bit.shape[axis] - 1))
        raster += bit << m
    average = device.table.transmission[raster].reshape(cells[0], fine, cells[1], fine).mean((1, 3))
    change = modulator.overlay_change(device, shown, shifts)
    assert (change - (average - device.transmission(shown))).abs().max() < 12 * 0.01**2
    assert change.abs().max() > 0.01
    assert torch.autograd.gradcheck(lambda s: modulator.overlay_change(device, shown, s), (shifts.requires_grad_(),))
