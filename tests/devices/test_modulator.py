"""Levels by brute force, gradients against their stated surrogates."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fouroptics as fo
from fouroptics.devices import modulator
from fouroptics.devices.lut import Lut
from fouroptics.devices.modulator import Modulator, Table

TURN = 2 * math.pi
DTYPES = (torch.float32, torch.float64)


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def slm(levels=256, phase_range=TURN, **options):
    return Modulator("phase_slm", modulator.phase_table(levels, phase_range), **options)


def of_table(phase, amplitude=None, kind="phase_slm", **options):
    phase = torch.as_tensor(phase, dtype=torch.float64)
    amplitude = torch.ones_like(phase) if amplitude is None else torch.as_tensor(amplitude, dtype=torch.float64)
    return Modulator(kind, Table(phase, amplitude), **options)


def turned(apart):
    """Distance on the circle."""
    return torch.remainder(apart + math.pi, TURN).sub(math.pi).abs()


phases = st.lists(st.floats(-9, 9), min_size=2, max_size=12)


@st.composite
def devices(draw):
    """Of every kind, with tables that rise, fall, repeat, pass a whole turn, and dim."""
    kind = draw(
        st.sampled_from(["complex", "phase_slm", "multilevel_phase", "metasurface", "dmd", "grey_amplitude", "chrome"])
    )
    if kind == "complex":
        return Modulator("complex", None)
    if kind in ("dmd", "chrome"):
        dark = draw(st.sampled_from([0.0, 0.1]))
        return of_table([0.0, 0.3], [dark, 0.9], "dmd" if kind == "dmd" else "binary_amplitude")
    if kind == "grey_amplitude":
        amplitude = sorted(draw(st.lists(st.sampled_from([0.0, 0.2, 0.25, 0.7, 1.0]), min_size=2, max_size=6)))
        return of_table([0.1 * n for n in range(len(amplitude))], amplitude, kind)
    table = draw(
        st.sampled_from(["even", "short", "0 to a turn", "two turns", "falling", "from anywhere", "coupled", "dim one"])
    )
    levels = draw(st.integers(2, 40))
    steps = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    phase = {
        "even": torch.arange(levels, dtype=torch.float64) / levels * TURN,
        "short": steps * draw(st.floats(0.5, 6)),
        "0 to a turn": steps * TURN,
        "two turns": steps * 2 * TURN,
        "falling": -steps * draw(st.floats(1, 8)),
        "from anywhere": steps.square() * 5 + draw(st.floats(-9, 9)),
        "coupled": steps * 6.5,
        "dim one": steps * TURN,
    }[table]
    amplitude = torch.ones_like(phase)
    if table == "coupled":
        amplitude = 0.3 + 0.7 * rand(levels, seed=draw(st.integers(0, 99)))
    if table == "dim one":
        amplitude[draw(st.integers(0, levels - 1))] = draw(st.sampled_from([0.0, 0.5, 0.99]))
    return of_table(phase, amplitude, kind, crosstalk=draw(st.sampled_from([0.0, 0.2])), flicker=0.1)


def drive_for(device, *shape, seed=0, dtype=torch.float64):
    if device.shows == "complex":
        return (rand(*shape, 2, seed=seed, dtype=dtype) - 0.5) * 2
    return rand(*shape, seed=seed, dtype=dtype) * (20 if device.shows == "phase" else 1) - (
        7 if device.shows == "phase" else 0
    )


# Tables


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_so_many_bits_are_so_many_levels_and_no_more(bits):
    """A peer made 15 levels of 3 bits."""
    device = slm(2**bits)
    ramp = torch.linspace(-TURN, 2 * TURN, 3 * 4096 + 1, dtype=torch.float64)
    levels = device.nearest(ramp)
    assert levels.unique().tolist() == list(range(2**bits))
    shown = torch.view_as_real(device.show(ramp[None])).mul(1e9).round().unique(dim=1)
    assert shown.shape[1] == 2**bits
    step = TURN / 2**bits
    assert device.nearest(torch.arange(-3, 2**bits + 3) * step).tolist() == [
        k % 2**bits for k in range(-3, 2**bits + 3)
    ]
    for dtype in DTYPES:  # level 2^B is level 0
        just_below = torch.tensor([TURN - 1e-3 * step, TURN - 0.49 * step, TURN, -1e-9], dtype=dtype)
        assert device.nearest(just_below).tolist() == [0, 0, 0, 0]
        assert device.nearest(torch.tensor([TURN - 0.51 * step], dtype=dtype)).item() == 2**bits - 1


@given(phases, st.integers(0, 1000))
def test_uneven_tables_take_the_nearest_on_the_circle(table, seed):
    device = of_table(table)
    wanted = rand(7, 50, seed=seed) * 60 - 30
    for dtype in DTYPES:
        drive = wanted.to(dtype)
        away = turned(device.table.phase[device.nearest(drive)] - drive.double())
        least = turned(device.table.phase - drive.double()[..., None]).amin(-1)
        assert (away - least).max() < (1e-4 if dtype == torch.float32 else 1e-12)


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(0, 1)), min_size=2, max_size=12), st.integers(0, 1000))
def test_where_amplitude_is_coupled_the_nearest_complex_one_is_taken(rows, seed):
    phase, amplitude = zip(*rows, strict=True)
    device = of_table(phase, amplitude, "metasurface")
    drive = rand(7, 50, seed=seed) * 60 - 30
    t = torch.tensor([a * complex(math.cos(p), math.sin(p)) for p, a in rows], dtype=torch.complex128)
    away = (t[device.nearest(drive)] - torch.exp(1j * drive)).abs()
    assert (away - (t - torch.exp(1j * drive)[..., None]).abs().amin(-1)).max() < 1e-12


def test_grey_levels_are_the_nearest_amplitudes():
    device = of_table([0.0] * 5, [0.0, 0.1, 0.35, 0.4, 1.0], "grey_amplitude")
    drive = rand(5000)
    assert torch.equal(device.nearest(drive), (device.table.amplitude - drive[:, None]).abs().argmin(-1))
    assert device.nearest(torch.tensor([-1.0, 2.0])).tolist() == [0, 4]
    even = Modulator("grey_amplitude", modulator.amplitude_table(256))
    assert torch.equal(even.nearest(drive), (drive * 255).round().long())


@pytest.mark.parametrize("span", [1.5 * math.pi, 6.0, math.pi])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_range_short_of_a_turn_saturates_at_the_nearer_end(span, sign):
    device = of_table(sign * torch.linspace(0, span, 64, dtype=torch.float64))
    missing = TURN - span
    beyond = torch.tensor([span + 0.49 * missing, span + 0.51 * missing, -0.49 * missing, -0.51 * missing])
    assert device.nearest(sign * beyond).tolist() == [63, 0, 0, 63]
    assert slm(64, span).table.phase[[0, -1]].tolist() == pytest.approx([0, span])


def test_a_range_of_6_283_is_a_whole_turn():
    assert torch.equal(slm(256, 6.283).table.phase, slm(256).table.phase)
    assert slm(256, 6.2).table.phase[-1].item() == pytest.approx(6.2)


def test_measured_tables_are_joined_by_straight_lines():
    lut = Lut((0.0, 100.0, 255.0), (1.0, 3.0, 7.0), (0.5, 0.7, 1.0))
    table = modulator.measured_table(lut, 256)
    assert len(table) == 256
    for level, phase, amplitude in ((0, 1, 0.5), (50, 2, 0.6), (100, 3, 0.7), (255, 7, 1), (178, 5.0129, 0.85097)):
        assert table.phase[level].item() == pytest.approx(phase, abs=1e-4)
        assert table.amplitude[level].item() == pytest.approx(amplitude, abs=1e-4)
    for levels in (3, None):
        assert modulator.measured_table(lut, levels).phase.tolist() == [1.0, 3.0, 7.0]


@pytest.mark.parametrize("levels", [2, 4, 8, 16, 256])
@pytest.mark.parametrize("blur", [0.0, 0.2])
def test_efficiency_of_even_phases_is_sinc_squared(levels, blur):
    first = math.sin(math.pi / levels) / (math.pi / levels)
    assert slm(levels, crosstalk=blur).efficiency == pytest.approx(first**2, rel=1e-3)
    assert slm(levels, flicker=0.3).efficiency == pytest.approx(first**2 * math.exp(-0.09), rel=1e-3)


def test_efficiency_of_amplitudes_and_of_a_short_range():
    assert Modulator("dmd", modulator.amplitude_table(2)).efficiency == pytest.approx(1 / math.pi**2, rel=1e-3)
    assert Modulator("grey_amplitude", modulator.amplitude_table(256)).efficiency == pytest.approx(1 / 16, rel=1e-3)
    assert Modulator("complex", None).efficiency == 1
    for span in (4.0, 5.5):  # ∫ over the range, and half of what is missing at either end
        missing = (TURN - span) / 2
        kept = (span + 2 * math.sin(missing)) / TURN
        assert slm(4096, span).efficiency == pytest.approx(kept**2, rel=1e-3)


# Levels put back


@given(devices(), st.integers(0, 1000), st.sampled_from(DTYPES))
def test_a_mask_put_back_is_the_same_to_the_bit(device, seed, dtype):
    drive = drive_for(device, 2, 9, 8, seed=seed, dtype=dtype)
    shown, levels = device.show(drive), device.nearest(drive)
    assert torch.equal(device.show(drive), shown)
    assert torch.equal(device.transmission(levels, dtype=dtype), shown)
    again = device.drive_of(levels).to(dtype)
    assert torch.equal(device.nearest(again), levels)
    assert torch.equal(device.show(again), shown)
    assert torch.equal(device.show(drive, "straight-through"), shown)


def test_levels_that_hide_between_brighter_ones_are_put_back():
    """A cell of half the amplitude is nearest only where the brighter one is far; its own phase is the other's."""
    device = of_table([0.0, 0.2], [0.5, 1.0], "metasurface")
    drive = torch.tensor([[-0.6, 0.0, 0.2, 3.0]], dtype=torch.float64)
    assert device.nearest(drive).tolist() == [[0, 1, 1, 0]]
    assert device.nearest(device.drive_of(torch.tensor([0, 1]))).tolist() == [0, 1]
    rows = rand(256, seed=3) * 0.02 + 0.98, torch.arange(256).double() / 256 * TURN  # a noisy measurement
    noisy = of_table(rows[1], rows[0])
    levels = noisy.nearest(torch.linspace(0, TURN, 50_000, dtype=torch.float64))
    assert torch.equal(noisy.nearest(noisy.drive_of(levels)), levels)
    assert torch.equal(noisy.nearest(noisy.drive_of(levels).float()), levels)


def test_the_ideal_plate_has_one_dark_level_and_full_phases():
    device = Modulator("complex", None)
    t = torch.polar(rand(100, 100), rand(100, 100, seed=1) * TURN - math.pi)
    shown = device.show(torch.view_as_real(t))
    assert (shown - t).abs().max() < 6e-5  # half a step of 2π/65536, and of 1/65535
    faint = torch.view_as_real(torch.polar(torch.full((5,), 1e-6), torch.arange(5.0))).double()
    assert device.nearest(faint).tolist() == [0] * 5
    bright = torch.view_as_real(torch.tensor([3.0 + 4.0j], dtype=torch.complex128))
    for quantize in ("hard", "none", "soft"):
        assert (device.show(bright, quantize) - (0.6 + 0.8j)).abs() < 6e-5


# Gradients


def slope_of(device, drive, quantize, weight, **options):
    drive = drive.clone().requires_grad_()
    (device.show(drive, quantize, **options) * weight).real.sum().backward()
    return drive.grad


@pytest.mark.parametrize("blur", [0.0, 0.25])
def test_straight_through_has_the_value_of_levels_and_the_gradient_of_the_drive(blur):
    """∂t/∂φ is taken at the levels shown: i·t where there is no crosstalk, and as if the levels could move."""
    device = slm(8, crosstalk=blur, flicker=0.2)
    drive, weight = rand(6, 5) * 20 - 5, torch.polar(rand(6, 5, seed=1), rand(6, 5, seed=2) * TURN)
    found = slope_of(device, drive, "straight-through", weight)
    shown = torch.round(drive / (TURN / 8)).remainder(8) * (TURN / 8)
    continuous = of_table([0.0, 1.0], crosstalk=blur, flicker=0.2)  # any table: what is passed of given phases
    leaf = shown.clone().requires_grad_()
    (continuous._passed(leaf, torch.ones_like(leaf)) * weight).real.sum().backward()
    torch.testing.assert_close(found, leaf.grad, rtol=0, atol=1e-12)
    if not blur:
        by_hand = (1j * torch.exp(1j * shown) * math.exp(-0.02) * weight).real
        torch.testing.assert_close(found, by_hand, rtol=0, atol=1e-12)
    assert not device.show(drive.requires_grad_(), "hard").requires_grad


def test_straight_through_of_amplitudes_and_of_the_ideal_plate():
    grey, weight = of_table([0.4, 0.4, 0.4], [0.1, 0.5, 1.0], "grey_amplitude"), torch.tensor([[1 - 2j, 3 + 1j]])
    found = slope_of(grey, torch.tensor([[0.3, 0.99]], dtype=torch.float64), "straight-through", weight)
    by_hand = (weight.to(torch.complex128) * torch.exp(torch.tensor(0.4j, dtype=torch.complex128))).real
    torch.testing.assert_close(found, by_hand)
    binary = Modulator("dmd", modulator.amplitude_table(2))
    for quantize in ("straight-through", "none", "soft"):  # mirrors that are off too
        found = slope_of(binary, torch.tensor([[0.0, 1.0]], dtype=torch.float64), quantize, weight, softness=1)
        assert found.tolist()[0][0] == 1.0, quantize
    pair = torch.tensor([[[0.3, 0.4], [0.0, 0.0]]], dtype=torch.float64)
    for quantize in ("straight-through", "none", "soft"):  # dark pixels too can be lit
        found = slope_of(Modulator("complex", None), pair, quantize, weight)
        assert found.tolist() == [[[1.0, 2.0], [3.0, -1.0]]], quantize


@given(devices(), st.floats(0.05, 1), st.integers(0, 100))
def test_the_soft_staircase_has_the_gradient_of_its_own_slope(device, softness, seed):
    device = replace(device, crosstalk=0.0)
    drive = drive_for(device, 3, 4, seed=seed)
    if device.shows == "complex":
        drive = drive * 0.6
    weight = torch.polar(rand(3, 4, seed=seed + 1), rand(3, 4, seed=seed + 2) * TURN)
    found = slope_of(device, drive, "soft", weight, softness=softness)
    step, numeric = 1e-6, torch.zeros_like(drive)
    ends = []
    for place in range(drive.numel()):
        moved = [drive.clone() for _ in range(2)]
        for one, sign in zip(moved, (1, -1), strict=True):
            one.view(-1)[place] += sign * step
        ends = [(device.show(one, "soft", softness=softness) * weight).real.sum() for one in moved]
        numeric.view(-1)[place] = (ends[0] - ends[1]) / (2 * step)
    smooth = (found - numeric).abs() < 1e-3 * (1 + numeric.abs())
    assert smooth.float().mean() > 0.7  # at a level itself the stairs have a kink


def test_a_drawn_level_is_one_of_the_nearest_two_and_on_average_the_drive():
    """Of a binomial draw of share s: mean s, within five of its standard deviations; its slope is a soft draw's."""
    device, draws = slm(4), 40_000
    shares = torch.tensor([0.0, 0.1, 0.5, 0.85, 1.0], dtype=torch.float64)
    drive = ((1 + shares) * TURN / 4).expand(1, draws, 5).contiguous().requires_grad_()
    torch.manual_seed(0)
    shown = device.show(drive, "gumbel", softness=0.3)
    levels = torch.remainder(shown.detach().angle() / (TURN / 4) + 0.5, 4) - 0.5
    assert torch.allclose(levels, levels.round(), atol=1e-9) and set(levels.round().unique().tolist()) <= {1.0, 2.0}
    off = (levels.mean((0, 1)) - 1 - shares).abs()
    assert bool((off <= 5 * (shares * (1 - shares) / draws).sqrt() + 1e-5).all())
    (slope,) = torch.autograd.grad((shown / 1j).real.sum(), drive)  # d sin φ = cos φ dφ, at the levels shown
    assert float(slope[0, :, 2].std()) > 0
    u = torch.rand(2_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    soft = (torch.logit(u) / 0.3).sigmoid()
    due = (soft * (1 - soft) / 0.3 * 4).mean()  # dσ/ds at ½: logit' is 4
    turned = slope[0, :, 2] / shown.detach()[0, :, 2].real
    lit = shown.detach()[0, :, 2].real.abs() > 0.5  # of level 1 the cosine is 0
    assert float(turned[lit].mean()) == pytest.approx(float(due), rel=0.03)


@given(devices(), st.floats(0.05, 1))
def test_the_soft_staircase_is_continuous(device, softness):
    device = replace(device, crosstalk=0.0)
    if device.shows == "complex" or (device.shows == "amplitude" and not device.table.amplitude.diff().all()):
        return  # two levels of one amplitude and two phases cannot be told apart
    span = (-7.0, 7.0) if device.shows == "phase" else (0.0, 1.0)
    ramp = torch.linspace(*span, 20_001, dtype=torch.float64)[None]
    shown = device.show(ramp, "soft", softness=softness)
    table = device.table
    place, order = (torch.remainder(table.phase, TURN) if device.shows == "phase" else table.amplitude).sort()
    gap = torch.cat((place, place[:1] + (TURN if device.shows == "phase" else 0))).diff().abs()
    amplitude, phase = (torch.cat((one[order], one[order][:1])) for one in (table.amplitude, table.phase))
    if device.shows == "phase":
        if bool(((gap < 1e-6) & (amplitude.diff() != 0)).any()):
            return  # nor two of one phase and two amplitudes
        rise = gap + amplitude.diff().abs()
    else:
        rise, gap = (amplitude.diff().abs() + phase.diff().abs())[:-1], gap[:-1]
    steep = 1 / softness - 1
    slope = 1.0 if softness == 1 else steep / 2 / math.tanh(steep / 2)
    wanted = (rise / gap.clamp_min(1e-12))[gap > 1e-6].max() * slope * (span[1] - span[0]) / 20_000
    assert shown.diff().abs().max() <= wanted * 1.001 + 1e-6


@given(devices(), st.integers(0, 100))
def test_ever_harder_stairs_tend_to_the_hard_ones(device, seed):
    device = replace(device, crosstalk=0.0)
    if device.shows == "complex" or bool((device.table.amplitude.diff().abs() > 0).any() and device.shows == "phase"):
        return  # a coupled table's nearest level is the complex one, its stairs are the phase's
    drive = drive_for(device, 40, 40, seed=seed)
    off = (device.show(drive, "soft", softness=1e-5) - device.show(drive)).abs() > 1e-3
    assert off.float().mean() < 0.01  # within 1e-4 of a step's middle


def test_the_softest_stair_is_a_straight_line_and_none_is_the_drive_itself():
    even, drive = slm(16), rand(9, 9) * 30 - 10
    for quantize in ("none", "soft"):
        torch.testing.assert_close(even.show(drive, quantize), torch.exp(1j * drive), rtol=0, atol=1e-12)
    falling = of_table([0.0, -1.0, -2.5, -6.0])
    torch.testing.assert_close(falling.show(drive, "none"), torch.exp(1j * drive), rtol=0, atol=1e-12)
    beyond = of_table(torch.linspace(0, 9, 30))
    torch.testing.assert_close(beyond.show(drive, "none"), torch.exp(1j * drive), rtol=0, atol=1e-12)
    grey = of_table([0.0, 0.0, 0.0], [0.2, 0.3, 0.9], "grey_amplitude")
    wanted = torch.tensor([[0.1, 0.25, 0.6, 0.95]], dtype=torch.float64)
    assert grey.show(wanted, "none").real.tolist() == [pytest.approx([0.2, 0.25, 0.6, 0.9])]
    dim = of_table([0.0, 2.0, 4.0], [1.0, 0.5, 0.7])
    shown = dim.show(torch.tensor([[1.0, 3.0, 5.0]], dtype=torch.float64), "soft", softness=1)
    share = 1 / (TURN - 4)
    assert shown.abs().tolist() == [pytest.approx([0.75, 0.6, 0.7 + 0.3 * share])]
    with pytest.raises(fo.InputError, match="'straight-through', 'soft', 'gumbel', 'none'"):
        grey.show(wanted, "rounded")


def test_a_stair_of_softness_one_third_by_hand():
    share = 0.3
    steep = 1 / (1 / 3) - 1
    rise = 0.5 + 0.5 * math.tanh(steep * (share - 0.5)) / math.tanh(steep / 2)
    shown = slm(8).show(torch.tensor([[(3 + share) * TURN / 8]], dtype=torch.float64), "soft", softness=1 / 3)
    assert shown.angle().item() % TURN == pytest.approx((3 + rise) * TURN / 8)


# What the device makes of its levels


def test_a_table_of_errors_stands_in_for_the_device_s_own():
    """Levels are chosen by what is believed, and pass what is true."""
    device, true = (
        slm(4),
        Table(torch.tensor([0.1, 1.7, 3.0, 4.6]).double(), torch.tensor([0.9, 0.8, 1.0, 0.7]).double()),
    )
    drive = torch.tensor([[0.1, 1.5, 3.2, 4.8, 6.2]], dtype=torch.float64)
    wanted = true.transmission[[0, 1, 2, 3, 0]][None]
    for quantize in ("hard", "straight-through"):
        torch.testing.assert_close(device.show(drive, quantize, table=true), wanted)
    torch.testing.assert_close(device.show(drive, "soft", softness=1e-6, table=true), wanted)
    torch.testing.assert_close(device.transmission(torch.tensor([[0, 1, 2, 3, 0]]), table=true), wanted)
    half = device.show(torch.tensor([[TURN / 8, TURN * 7 / 8]], dtype=torch.float64), "none", table=true)
    assert half.angle().tolist() == [pytest.approx([0.9, (4.6 + 0.1 + TURN) / 2 - TURN])]
    assert half.abs().tolist() == [pytest.approx([0.85, 0.8])]


@pytest.mark.parametrize("quantize", ["hard", "straight-through", "soft", "none"])
@pytest.mark.parametrize("kind", ["phase", "amplitude", "complex"])
def test_stuck_pixels_show_their_level_and_do_not_learn(kind, quantize):
    device = {
        "phase": slm(8),
        "amplitude": Modulator("grey_amplitude", modulator.amplitude_table(8)),
        "complex": Modulator("complex", None),
    }[kind]
    drive = drive_for(device, 4, 4).requires_grad_()
    dead = torch.zeros(4, 4, dtype=torch.bool)
    dead[1, 2] = dead[3, 0] = True
    level = torch.full((4, 4), 5)
    shown = device.show(drive, quantize, stuck=(dead, level))
    free = device.show(drive, quantize)
    assert torch.equal(shown[dead], device.transmission(level)[dead])
    torch.testing.assert_close(shown[~dead], free[~dead])
    if quantize != "hard":
        (slope,) = torch.autograd.grad((shown * (1 + 2j)).real.sum(), drive)
        slope = slope.reshape(4, 4, -1).abs().sum(-1)
        assert slope[dead].tolist() == [0, 0]
        assert (slope[~dead] > 0).all()


def rastered(phase, sigma, fine=32, far=6):
    """The pixels' phases oversampled, blurred by a Gaussian on the fine grid, exponentiated and averaged."""
    edge = far * fine
    raster = phase.repeat_interleave(fine, 0).repeat_interleave(fine, 1)
    at = torch.arange(-edge, edge + 1, dtype=torch.float64) / fine
    bell = torch.exp(-(at**2) / (2 * sigma**2))
    bell = (bell / bell.sum())[None, None]
    for _ in range(2):
        padded = torch.cat((raster[:1].expand(edge, -1), raster, raster[-1:].expand(edge, -1)))
        raster = torch.nn.functional.conv1d(padded.T[:, None], bell)[:, 0]  # transposed: the other axis is next
    y, x = phase.shape
    return torch.exp(1j * raster).reshape(y, fine, x, fine).mean((1, 3))


@pytest.mark.parametrize("sigma", [0.03, 0.5])
def test_flicker_takes_what_the_mean_of_fast_phases_loses(sigma):
    noise = torch.randn(2_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * sigma
    mean = torch.exp(1j * noise).mean().real.item()
    kept = slm(flicker=sigma).show(torch.zeros(1, 1).double()).real.item()
    assert kept == pytest.approx(math.exp(-(sigma**2) / 2), rel=1e-12)
    assert kept == pytest.approx(mean, abs=4 * sigma**2 / 1400 / math.sqrt(2) + 1e-6)
    each = slm(flicker=torch.tensor([[0.0], [sigma]])).show(torch.zeros(2, 1).double())
    assert each.abs().flatten().tolist() == pytest.approx([1, kept])


def test_what_a_device_cannot_show_is_refused():
    with pytest.raises(
        fo.InputError, match=r"mask\.encoding: 'lee' needs a amplitude and phase_slm has none"
    ) as caught:
        modulator.require_shows(slm(), "amplitude", "lee")
    assert "\n" not in str(caught.value)
    modulator.require_shows(Modulator("complex", None), "phase", "carrier")
    with pytest.raises(fo.InputError, match=r"mask\.levels: .* a plate of 6 has not; levels = 8") as caught:
        modulator.overlay_change(of_table(torch.arange(6)), torch.zeros(2, 2).long(), torch.zeros(3, 2))
    assert "\n" not in str(caught.value)


def test_kinds_and_counts():
    shows = {"phase_slm": "phase", "metasurface": "phase", "multilevel_phase": "phase", "complex": "complex"}
    shows |= {"dmd": "amplitude", "grey_amplitude": "amplitude", "binary_amplitude": "amplitude"}
    for kind, what in shows.items():
        table = None if kind == "complex" else modulator.amplitude_table(4)
        assert Modulator(kind, table).shows == what
    assert slm(16).levels == 16
    assert Modulator("complex", None).levels == 2**32


# Every field


WALK = {
    "kind": ("dmd", slm(2)),
    "table": (modulator.phase_table(16, 5.0), slm(16)),
    "crosstalk": (0.2, slm(16)),
    "flicker": (0.2, slm(16)),
    "frame_time": (0.02, slm(16)),
}


def test_the_walk_visits_every_field_of_a_modulator():
    assert set(WALK) == set(Modulator.__dataclass_fields__)


@pytest.mark.parametrize("name", WALK)
def test_every_field_of_a_modulator_changes_what_it_does(name):
    value, device = WALK[name]
    other, drive = replace(device, **{name: value}), rand(5, 6) * 6
    if name == "frame_time":
        assert (device.frame_time, other.frame_time) == (0.0, 0.02)
    else:
        assert not torch.equal(device.show(drive), other.show(drive))


@pytest.mark.parametrize("quantize", ["soft", "none"])
@pytest.mark.parametrize("kind", ["phase_slm", "grey_amplitude"])
def test_what_is_continuous_of_a_modulator_has_its_slope_for_gradient(kind, quantize):
    """The drive, each pixel's flicker, and the phases and amplitudes that its levels pass in truth."""
    steps = torch.arange(7, dtype=torch.float64)
    device = of_table(steps * 0.9, 0.2 + steps / 10, kind, crosstalk=0.2)
    drive = (rand(3, 4) * (6 if kind == "phase_slm" else 0.5) + 0.25).requires_grad_()
    flicker, phase = (rand(3, 4, seed=1) * 0.3).requires_grad_(), (steps * 0.91).requires_grad_()
    amplitude = (0.21 + steps / 10).requires_grad_()

    def passed(drive, flicker, phase, amplitude):
        shaky = replace(device, flicker=flicker)
        return torch.view_as_real(shaky.show(drive, quantize, softness=0.5, table=Table(phase, amplitude)))

    assert torch.autograd.gradcheck(passed, (drive, flicker, phase, amplitude), eps=1e-7, atol=1e-6)
