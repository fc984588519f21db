"""What pixels of a device pass: levels, tables, dead pixels, what lies over them; to the bit where it is exported."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fouroptics as fo
from fouroptics.correlator.panel import modulator_of
from fouroptics.devices.encode import HEADROOM
from tests.device_banks import BAND, IDEAL, apart, bank_of, bench_of, compact, field_of, rand, randn, with_mask

TURN_OF_255 = 2 * math.pi * 255 / 256
KINDS = {
    "slm": {"preset": "slm-phase-8bit", "crosstalk": "20 um", "flicker": "0.1 rad"},
    "short": {"preset": "slm-phase-8bit", "phase_range": "5 rad", "levels": 16, "crosstalk": "0 um"},
    "etched": {"preset": "etched-8"},
    "dmd": {"preset": "dmd"},
    "chrome": {"preset": "chrome"},
    "grey": {"preset": "grey"},
    "plate": {"preset": "ideal"},
    "plate, double-phase": {"preset": "ideal", "encoding": "double-phase"},
    "cells": {"preset": "metasurface"},
    "falling": {"preset": "slm-phase-8bit", "levels": 40},
}
ROWS = {
    "cells": [f"{n},{n * 0.3 - 2},{0.5 + 0.5 * math.cos(n) ** 2}" for n in range(24)],
    "falling": [f"{n},{1 - n * n / 200},{1 - n / 100}" for n in range(40)],
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for name, rows in ROWS.items():
        (folder / f"{name}.csv").write_text("\n".join(("drive,phase_rad,transmittance", *rows)), encoding="utf-8")
    (folder / "dead.csv").write_text("x,y,level\n3,0,1\n60,70,0\n40,41,1\n", encoding="utf-8")
    return folder


def device_of(tables, kind, pixels=96, **keys):
    keys = KINDS[kind] | keys
    keys = keys | ({"lut": (tables / f"{kind}.csv").as_posix()} if kind in ROWS else {})
    return with_mask(pixels, **keys)


@settings(max_examples=40)
@given(
    kind=st.sampled_from(list(KINDS)),
    size=st.tuples(st.integers(3, 14), st.integers(3, 14)),
    fill=st.sampled_from(["100 %", "93 %", "40 %"]),
    leak=st.sampled_from(["0 %", "30 %"]),
    dead=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 99),
)
def test_what_is_exported_is_what_was_evaluated_to_the_bit(tables, kind, size, fill, leak, dead, dtype, seed):
    """On every device: hard evaluation shows its levels' transmission, each time, and also when they are put back."""
    dead = {"dead": (tables / "dead.csv").as_posix()} if dead and not kind.startswith("plate") else {}
    bench = device_of(tables, kind, fill_factor=fill, leak=leak, **dead)
    bank = bank_of(randn(1, 1, 2, 3, seed=seed, dtype=dtype), bench, size)
    with torch.no_grad():  # as training would leave them
        bank.device.drive.add_(randn(*bank.device.drive.shape, seed=seed, dtype=dtype) * 0.3)
    pictures, levels = rand(1, *size, dtype=dtype), bank.masks
    with torch.no_grad():
        before, light = bank.field(pictures), bank.power(pictures)
        shown = bank.device.shown(bank.kernels).transmission
        assert torch.equal(bank.device.plan.transmitted(levels, dtype), shown)
        assert torch.equal(copy.deepcopy(bank).field(pictures), before)
        bank.put(levels)
        assert torch.equal(bank.masks, levels)
        assert torch.equal(bank.device.shown(bank.kernels).transmission, shown)
        assert torch.equal(bank.field(pictures), before)
        assert torch.equal(bank.power(pictures), light)
    assert levels.min() >= 0
    assert levels.max() < modulator_of(bench).levels


def test_who_inverts_a_table_decides_what_is_sent_and_not_what_is_shown(tmp_path):
    """A controller is sent even phases and sets the nearest drive; from a file the drives themselves are sent."""
    shown = [TURN_OF_255 * (n / 255) ** 1.5 for n in range(256)]
    rows = [f"{n},{phase!r}" for n, phase in enumerate(shown)]
    (tmp_path / "lut.csv").write_text("\n".join(("drive,phase_rad", *rows)), encoding="utf-8")
    kernels = randn(1, 1, 3, 3)
    sent = {}
    for who in ("file", "controller"):
        bench = bench_of(96, {"mask.lut": str(tmp_path / "lut.csv"), "mask.lut_applied_by": who})
        bank = bank_of(kernels, bench)
        sent[who] = bank.masks
        nearest = (bank.device.drive.detach()[..., None] - torch.tensor(shown)).remainder(2 * math.pi)
        nearest = torch.minimum(nearest, 2 * math.pi - nearest).argmin(-1)
        phases = torch.tensor(shown)[nearest]
        apart = (bank.device.shown(bank.kernels).transmission.angle() - phases).remainder(2 * math.pi)
        assert torch.minimum(apart, 2 * math.pi - apart).max() < 0.04  # a step and a half of the table
    even = torch.round(torch.tensor(shown)[sent["file"]] * 256 / (2 * math.pi)) % 256
    miss = (sent["controller"] - even).remainder(256)
    assert torch.minimum(miss, 256 - miss).max() <= 1
    assert (sent["controller"] != sent["file"]).double().mean() > 0.9


@pytest.mark.parametrize("preset", ["dmd", "grey"])
def test_what_a_device_lets_through_in_its_dark_costs_contrast_and_not_fidelity(tmp_path, preset):
    levels = 2 if preset == "dmd" else 256
    rows = [f"{n},0,{(0.3 + 0.7 * n / (levels - 1)) ** 2!r}" for n in range(levels)]
    (tmp_path / "lut.csv").write_text("\n".join(("drive,phase_rad,transmittance", *rows)), encoding="utf-8")
    keys = {"preset": preset, "fill_factor": "100 %"}
    dark, grey = (
        bank_of(randn(1, 2, 3, 3), with_mask(200, **keys | more)) for more in ({}, {"lut": str(tmp_path / "lut.csv")})
    )
    pictures = rand(2, 2, 16, 16, seed=2)
    assert torch.equal(dark.masks, grey.masks)
    assert apart(field_of(grey, pictures), field_of(dark, pictures)) < 1e-3
    gains = [bank.device.gain(bank._masks(), bank.kernels).detach() for bank in (dark, grey)]
    torch.testing.assert_close(gains[1], 0.7 * gains[0], rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_dead_pixels_show_their_level_whatever_they_are_driven_to(tables, kind):
    if kind.startswith("plate"):
        return
    bench = device_of(tables, kind, dead=(tables / "dead.csv").as_posix())
    bank = bank_of(randn(1, 1, 3, 3), bench)
    places, level = ([0, 70, 41], [3, 60, 40]), [1, 0, 1]
    assert bank.masks[0][places].tolist() == level
    free = bank_of(randn(1, 1, 3, 3), device_of(tables, kind))
    others = torch.ones(96, 96, dtype=torch.bool)
    others[places] = False
    assert torch.equal(bank.masks[0][others], free.masks[0][others])
    bank.train().power(rand(1, 16, 16)).sum().backward()
    slope = bank.device.drive.grad[0]
    assert slope[places].tolist() == [0, 0, 0] or not slope[others].any()
    assert slope[others].ne(0).float().mean() > 0.9


def test_dead_pixels_lie_where_the_panel_has_them(tmp_path):
    """Two arms side by side on a panel larger than both: each arm's own pixels."""
    path = tmp_path / "dead.csv"
    path.write_text("x,y,level\n10,20,0\n110,20,0\n0,0,0\n", encoding="utf-8")
    bench = bench_of(96, {"mask.dead": path.as_posix(), "mask.levels": 16}, across=(100, 200))
    bank = bank_of(randn(1, 2, 3, 3), bench, layout="lenslet")
    assert bank.device.plan.origins == ((2, 2), (2, 102))
    where, _ = bank.device.plan.stuck(torch.device("cpu"))
    assert where.nonzero().tolist() == [[0, 18, 8], [1, 18, 8]]


# What stands in the plane


def test_another_wavelength_turns_a_panel_s_path_by_less():
    bent = IDEAL | {"mask.wavefront": {"4": "20 nm", "7": "10 nm"}, "mask.precompensate": False}
    bank = bank_of(torch.ones(1, 1, 1, 1).double(), bench_of(96, bent))
    shown = bank.device.shown(bank.kernels)
    drift = fo.Imperfections({"source.wavelength": torch.tensor(20e-9, dtype=torch.float64)})
    plan, drive = bank.device.plan, bank.device.drive.detach()
    nominal = shown.transmission.detach().angle()
    drifted = plan.flawed(drift, drive, "hard", softness=1.0).angle()
    assert nominal.abs().max() > 0.3
    torch.testing.assert_close(drifted * 552, nominal * 532, rtol=0, atol=552 * 1e-4)


@pytest.mark.parametrize("gaps", [{"mask.leak": "0 %"}, {"mask.leak": "50 %", "mask.fill_factor": "80 %"}])
def test_a_panel_s_wavefront_is_undone(gaps):
    kernels, pictures = randn(1, 1, 3, 3), compact(1, (16, 16))
    keys = IDEAL | gaps
    flat, bent = (
        field_of(bank_of(kernels, bench_of(96, keys | more)), pictures)
        for more in ({}, {"mask.wavefront": {"4": "90 nm", "7": "60 nm"}})
    )
    assert apart(bent, flat) < (1e-3 if keys["mask.leak"] == "0 %" else 5e-3)
    tilted = bench_of(96, keys | {"mask.wavefront": {"2": "532 nm"}, "mask.precompensate": False}, across=(96, 200))
    bank = bank_of(torch.ones(1, 2, 1, 1).double() / 2, tilted, layout="lenslet")
    left, right = bank.device.shown(bank.kernels).transmission.detach()
    slope = 2 * 2 * math.pi / (math.hypot(96, 200) / 2)  # one wave rms of tilt is 2x/R over the disc round the panel
    step = (left[:, 1:] / left[:, :-1]).angle()
    torch.testing.assert_close(step, torch.full_like(step, slope), rtol=0, atol=2e-4)
    across = torch.remainder((right / left).angle() - slope * 100 + math.pi, 2 * math.pi) - math.pi
    assert across.abs().max() < 2e-4  # the arms stand 100 pixels apart on one panel


def test_a_stop_cuts_pixels_by_the_part_that_it_covers():
    keys = IDEAL | {"mask.leak": "0 %", "mask.precompensate": False}
    pitch = BAND / 96
    bench = bench_of(96, keys | {"stop.size": f"{40.5 * pitch!r} m"})
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    shown = bank_of(one, bench, stop=True).device.shown(torch.zeros(1)).transmission[0].abs().detach()
    side = torch.zeros(96, dtype=torch.float64)
    side[28:68] = 1
    side[[27, 68]] = 0.25
    torch.testing.assert_close(shown, torch.outer(side, side) * HEADROOM, rtol=0, atol=1e-4)
    disc = bench.replace({"stop.shape": "circular"})
    shown = bank_of(one, disc, stop=True).device.shown(torch.zeros(1)).transmission[0].abs().detach()
    assert (shown.sum() / HEADROOM).item() == pytest.approx(math.pi * 20.25**2, rel=1e-3)
    open_wide = bank_of(one, disc).device.shown(torch.zeros(1)).transmission[0].abs()
    assert open_wide.detach().min() > 0.99


@pytest.mark.parametrize("way", ["ideal", "double-phase", "phase", "fit", "carrier"])
def test_a_dc_block_takes_the_mean_whatever_the_encoding(way):
    """A white picture's light falls on the middle, and is what the spot keeps from the camera."""
    bench = bench_of(200, (IDEAL if way == "ideal" else {}) | {"mask.encoding": way, "mask.leak": "0 %"})
    blocked = bench.replace({"mask.dc_block": f"{40 * BAND / 200!r} m"})
    one, white = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.ones(1, 16, 16, dtype=torch.float64)
    middle = [float(bank_of(one, b).power(white)[0, 7:9, 7:9].mean().detach()) for b in (bench, blocked)]
    assert middle[1] < 0.05 * middle[0]


def test_masks_stand_in_the_middle_of_their_part_of_the_panel():
    plan = bank_of(randn(1, 1, 3, 3), bench_of(96, IDEAL, across=(113, 140))).device.plan
    assert plan.count == (95, 96)  # an odd panel has a pixel on the axis
    assert plan.origins == ((9, 22),)
