"""The report on a device's masks: light by closed forms, ghosts and neighbours by what the bank itself shows."""

import json
import math
import re
from pathlib import Path

import pytest
import torch

import fouroptics as fo
from fouroptics.correlator import fidelity

POINT = {"input.super_pixel": 1, "input.pitch": "16 um", "input.pixels": [960, 540], "input.fill_factor": "1 ppm"}
CLEAN = {"mask.crosstalk": "0 um", "mask.flicker": "0 rad", "mask.leak": "0 %", "mask.precompensate": False}
IDEAL = CLEAN | {"mask.preset": "ideal", "mask.encoding": "ideal", "mask.phase_range": None}


def bank(changes, kernels, size=(32, 32), name="slm-532nm", **options):
    bench = fo.Bench.load(name).replace(changes)
    return fo.Correlator4f.from_kernels(kernels, bench, size, masks="device", **options)


def tap(y, x):
    """One tap of a 7 × 7 kernel, ``(y, x)`` from its centre."""
    kernel = torch.zeros(1, 1, 7, 7)
    kernel[0, 0, 3 + y, 3 + x] = 1
    return kernel


@pytest.mark.parametrize("fill", [1.0, 0.93, 0.5])
def test_a_blank_plate_keeps_the_square_of_its_fill(fill):
    found = fidelity.report(bank(POINT | IDEAL | {"mask.fill_factor": f"{100 * fill} %"}, tap(0, 0)))
    covered = math.prod(n * 8e-6 / (532e-9 * 250e-3 / 16e-6) for n in (1038, 1038))
    assert found.efficiency[0] == pytest.approx(0.999**2 * fill**2 * covered, rel=1e-4)  # levels
    assert found.real[0] > 0.9999
    assert found.leak[0] == 0


@pytest.mark.parametrize("levels", [2, 4, 16])
def test_a_blazed_grating_in_levels_keeps_sinc_squared(levels):
    grating = POINT | CLEAN | {"mask.encoding": "phase", "mask.levels": levels, "mask.fill_factor": "100 %"}
    found = fidelity.report(bank(grating, tap(2, 3)))
    ideal = float(torch.sinc(torch.tensor(1 / levels, dtype=torch.float64))) ** 2
    assert found.efficiency[0] == pytest.approx(ideal, rel=5e-3)


def test_an_amplitude_grating_keeps_a_tenth_or_a_sixteenth():
    """1/π² of binary and 1/16 of grey lines, times the sinc² of four pixels a period."""
    sampled = float(torch.sinc(torch.tensor(0.25, dtype=torch.float64))) ** 2
    mask = POINT | {"mask.fill_factor": "100 %", "mask.precompensate": False}
    grey = fidelity.report(bank(mask | {"mask.preset": "grey", "mask.levels": 256}, tap(0, 0), name="dmd-532nm"))
    assert grey.efficiency[0] == pytest.approx(sampled / 16, rel=0.01)
    binary = fidelity.report(bank(mask, tap(0, 0), name="dmd-532nm"))
    assert 0.5 / math.pi**2 < binary.efficiency[0] < 1 / math.pi**2


def test_light_that_inputs_share_is_counted_once_for_each():
    """A sample of either input lights the whole mask and finds one kernel of the two there."""
    kernels = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    shown = bank(POINT | IDEAL, kernels)
    found = fidelity.report(shown)
    light = torch.zeros(2, 1, 2, 32, 32)
    light[0, 0, 0, 16, 16] = light[1, 0, 1, 16, 16] = 1
    with torch.no_grad():
        seen = shown.field(light) * (found.gain * found.scale)[0]
    energy = seen.abs().square().sum((1, 2, 3, 4)).mean()
    assert found.efficiency[0] == pytest.approx(float(energy) / fidelity.light_on_mask(shown.device.plan), rel=1e-3)


def test_the_copy_that_gaps_make_is_as_strong_as_reported():
    kernels = torch.randn(3, 1, 5, 5, generator=torch.Generator().manual_seed(2))
    mask = CLEAN | {"mask.leak": "60 %", "mask.fill_factor": "80 %"}
    pictures = fo.pictures.natural(2, 1, (32, 32))
    banks = bank(mask, kernels), bank(mask | {"mask.leak": "0 %"}, kernels)
    found, without = (fidelity.report(one, pictures) for one in banks)
    with torch.no_grad():
        seen, clean = (
            one.eval().field(pictures) * (f.gain * f.scale)[:, None, None]
            for one, f in zip(banks, (found, without), strict=True)
        )
        wanted = fo.correlate(pictures, kernels)
    ghost = (seen - clean).abs().square().mean((0, 2, 3)).sqrt()
    due = ghost / (found.gain * found.scale * wanted.square().mean((0, 2, 3)).sqrt())
    assert torch.allclose(found.leak, due, rtol=0.03)  # the input pixels' sinc is not in the formula
    assert (fidelity.report(bank(mask | {"mask.precompensate": True}, kernels), pictures).leak == 0).all()
    assert (fidelity.report(bank(mask | {"mask.encoding": "carrier"}, kernels), pictures).leak == 0).all()


def test_the_clear_view_by_hand():
    """One input: the next order of the pixels stands 1/p samples away, of a carrier 1/4p, and is size + kernel wide."""
    kernels, period = torch.ones(1, 1, 5, 5), 532e-9 * 250e-3 / 16e-6 / 8e-6
    for changes, distance in ((IDEAL, period), ({}, period / 2), ({"mask.encoding": "carrier"}, period / 4)):
        view = fidelity.clear_view(bank(changes, kernels).device.plan)
        assert view[0] == pytest.approx((2 * distance - 36) / 32, rel=1e-6)
    tiled = bank(IDEAL, torch.ones(1, 2, 5, 5))
    assert fidelity.clear_view(tiled.device.plan)[0] == pytest.approx((2 * 56 - 36) / 32)  # cross terms, a tile away


@pytest.mark.parametrize("name", ["slm-532nm", "dmd-532nm"])
def test_shipped_benches_show_whole_pictures(name):
    kernels = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    assert fidelity.report(bank({}, kernels, (64, 64), name)).view.amin() >= 1


def test_tiled_outputs_stand_clear_of_each_other():
    kernels = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    coarse = {"mask.pitch": "8 um", "mask.pixels": [1920, 1080], "lens1.focal_length": "250 mm"}
    found = fidelity.report(bank(coarse, kernels, name="plate-532nm"))
    assert found.view.amin() >= 1
    assert len(found.real) == 4


def test_the_worst_output_comes_first_and_nothing_is_changed():
    kernels = torch.randn(10, 1, 5, 5, generator=torch.Generator().manual_seed(3))
    shown = bank({"mask.encoding": "phase", "mask.crosstalk": "0 um"}, kernels).train()
    found = fidelity.report(shown)
    assert shown.training
    assert found.real[found.order[0]] == found.real.min()
    lines = str(found).splitlines()
    assert lines[1].split()[0] == str(found.order[0])
    assert "and 2 better ones" in lines[9]
    again = json.loads(json.dumps(found.data))
    assert len(again["efficiency"]) == 10


def test_a_pair_of_masks_is_one_output():
    kernels = torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(3))
    found = fidelity.report(bank(IDEAL | {"mask.precompensate": True}, kernels, readout="pair_intensity"))
    assert found.gain.shape == found.leak.shape == found.view.shape == (2,)
    assert found.real.min() > 0.9999


def test_complex_kernels_and_square_root_inputs():
    draw = torch.Generator().manual_seed(3)
    kernels = torch.randn(1, 1, 5, 5, dtype=torch.complex64, generator=draw)
    changes = IDEAL | {"mask.precompensate": True, "input.encoding": "sqrt"}
    found = fidelity.report(bank(changes, kernels))
    assert min(found.real.min(), found.field.min()) > 0.9999


def test_ideal_masks_are_refused():
    with pytest.raises(fo.InputError, match="masks='device'"):
        fidelity.report(fo.Correlator4f.from_kernels(torch.ones(1, 1, 3, 3), fo.Bench.load("slm-532nm"), (32, 32)))


def test_the_lines_of_the_guide_run():
    page = (Path(__file__).parents[1] / "examples" / "guide" / "masks.md").read_text(encoding="utf-8")
    blocks, names = re.findall(r"```python\n(.*?)```", page, re.DOTALL), {}
    assert len(blocks) == 2
    for block in blocks:  # the second goes on from the first
        exec(compile(block, "masks.md", "exec"), names)
    assert names["levels"].dim() == 3
    assert torch.isfinite(names["loss"])
