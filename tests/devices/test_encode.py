"""Encodings against phasor algebra, orders of gratings summed by hand, and their gradients through a mask."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fouroptics as fo
from fouroptics.devices import encode, modulator
from fouroptics.devices.encode import HEADROOM
from fouroptics.devices.modulator import Modulator, Table
from fouroptics.optics.pixelated import PixelSpread

TURN = 2 * math.pi
PHASE = Modulator("phase_slm", modulator.phase_table(65536))
PLATE = Modulator("complex", None)
GREY = Modulator("grey_amplitude", modulator.amplitude_table(4096))
BINARY = Modulator("dmd", modulator.amplitude_table(2))
CELLS = Modulator("metasurface", Table(torch.arange(64) / 64 * TURN, torch.ones(64)))


def rand(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def phasors(*shape, seed=0):
    return torch.polar(rand(*shape, seed=seed), TURN * rand(*shape, seed=seed + 1))


def even(t, y=8, x=32):
    return torch.full((y, x), t, dtype=torch.complex128)


def order(shown, per_pixel):
    """Σ t e^{-i2πX·per_pixel} over all pixels about the panel's centre: the amplitude of one order, without sinc."""
    x = torch.arange(shown.shape[-1], dtype=torch.float64) - (shown.shape[-1] - 1) / 2
    return (shown * torch.exp(-1j * TURN * per_pixel * x)).mean((-2, -1))


# What encodings show


@given(st.floats(1e-6, 1), st.floats(-3.1, 3.1))
def test_a_double_phase_pair_averages_to_what_is_wanted(size, angle):
    """On 2 × 2 pixels: two phasors of modulus 1, their mean t, their half difference in quadrature with t."""
    t = complex(size * math.cos(angle), size * math.sin(angle))
    shown = torch.exp(1j * encode.double_phase(even(t, 2, 2)))
    assert (shown.abs() - 1).abs().max() < 1e-12
    assert (shown.mean() - t).abs() < 1e-12 + (size - HEADROOM if size > HEADROOM else 0)
    for pair in (shown[0], shown[1], shown[:, 0], shown[:, 1]):
        assert (pair.mean() - t).abs() < 1e-12 + (size - HEADROOM if size > HEADROOM else 0)
        apart = (pair[0] - pair[1]) / 2 * complex(math.cos(angle), -math.sin(angle))
        assert abs(apart.real.item()) < 1e-12
        assert abs(apart.imag.item()) == pytest.approx(math.sqrt(1 - min(size, HEADROOM) ** 2), abs=1e-9)
    assert torch.equal(shown[0, 0], shown[1, 1])
    assert torch.equal(shown[0, 1], shown[1, 0])


@pytest.mark.parametrize("size", [(16, 16), (17, 15), (16, 18), (16, 17), (15, 18)])
def test_for_a_real_kernel_double_phase_errs_in_quadrature_only(size):
    """Spread at any number of pixels a bin, by a plain sum: Re is that of the wanted mask, Im is the error."""
    kernel = rand(3, 3) - 0.5
    nu = [(torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / n for n in size]
    waves = [torch.exp(1j * TURN * v[:, None] * torch.arange(-1, 2)) for v in nu]
    wanted = waves[0] @ kernel.to(torch.complex128) @ waves[1].T
    wanted = wanted / wanted.abs().max() * HEADROOM
    shown = torch.exp(1j * encode.double_phase(wanted))
    back = [torch.exp(1j * TURN * v[:, None] * torch.arange(-9, 10)) for v in nu]
    seen, true = (back[0].T @ one @ back[1] for one in (shown, wanted))
    error = seen - true
    assert error.real.abs().max() < 1e-9
    assert error.imag.abs().max() > 1e-3 * seen.abs().max()


ROWS = (0.125, -0.375, 0.375, -0.125)  # pixels by which rows of a carrier stand aside
ASIDE = sum(math.cos(TURN * row / 4) for row in ROWS) / 4  # what that leaves of the first order, 0.906


@given(st.floats(0.02, 0.999), st.floats(-3.1, 3.1))
def test_a_carrier_s_first_order_is_what_four_by_four_pixels_make(size, angle):
    t = complex(size * math.cos(angle), size * math.sin(angle))
    drive = encode.carrier(even(t))
    found = order(torch.exp(1j * drive), -0.25)  # towards positive x: e^{-i2πX/4}
    x = [j - 15.5 for j in range(4)]
    ramp = [[math.remainder(angle - TURN * (at - row) / 4, TURN) for at in x] for row in ROWS]
    depth = max(drive[r, j].item() / ramp[r][j] for r in range(4) for j in range(4) if abs(ramp[r][j]) > 1e-3)
    assert math.sin(math.pi * (1 - depth)) / (math.pi * (1 - depth)) == pytest.approx(size, abs=1e-7)
    assert drive.abs().max() <= math.pi + 1e-12
    by_hand = sum(
        complex(math.cos(depth * one + TURN * at / 4), math.sin(depth * one + TURN * at / 4)) / 16
        for row in ramp
        for one, at in zip(row, x, strict=True)
    )
    assert abs(found.item() - by_hand) < 1e-9
    assert abs(found.item() - ASIDE * t) < 0.09  # 0.25 without rows that stand aside


@pytest.mark.parametrize("middle", [0.0, math.pi, 1.0])
def test_a_carrier_runs_about_the_middle_that_it_is_told_and_means_the_same(middle):
    t = phasors(8, 32)
    drive = encode.carrier(t, middle=middle)
    turned = encode.carrier(t * torch.exp(torch.tensor(-1j * middle, dtype=torch.complex128)))
    torch.testing.assert_close(drive, turned + middle, rtol=0, atol=1e-12)
    assert (drive - middle).abs().max() <= math.pi + 1e-12


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 2e-7), (torch.float64, 1e-15)])
def test_a_carrier_is_as_deep_as_its_sinc_asks_to_rounding(dtype, close):
    wanted = torch.linspace(0, HEADROOM, 100_001, dtype=dtype)
    root = encode._inverse_sinc(wanted)
    assert (torch.sinc(root.double()) - wanted.double()).abs().max() < close
    assert 0.02 < root.amin() < 0.03
    assert encode._inverse_sinc(wanted.new_ones(2)).abs().max() < 1e-3
    assert abs(root[0].item() - 1) < close


def test_the_depth_of_a_carrier_has_its_slope_forwards_and_backwards():
    wanted = torch.linspace(0.01, 0.99, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(encode._inverse_sinc, wanted, check_forward_ad=True)


def test_a_shallow_carrier_on_a_liquid_crystal_has_no_flyback():
    """About the middle of its levels crosstalk only flattens it; about 0 it would pass all phases at every pixel."""
    blurred = Modulator("phase_slm", modulator.phase_table(256), crosstalk=0.2)
    t = even(0.05 * complex(math.cos(0.3), math.sin(0.3)), 16)

    def kept(drive):
        return order(blurred.show(drive)[4:12, 8:24], -0.25).item() / t[0, 0].item()

    assert abs(kept(encode.encode(t, "carrier", blurred)) - 0.75) < 0.15
    assert abs(kept(encode.carrier(t)) - 0.75) > 1.0


@pytest.mark.parametrize("size", [0.0, 0.3, 0.7, 0.999])
def test_over_all_phases_a_carrier_is_exact(size):
    phases = torch.arange(720, dtype=torch.float64) / 720 * TURN
    t = torch.polar(torch.full((720, 1, 1), size, dtype=torch.float64), phases[:, None, None]).expand(720, 4, 8)
    found = order(torch.exp(1j * encode.carrier(t)), -0.25) * torch.exp(-1j * phases)
    assert found.mean().real.item() == pytest.approx(ASIDE * size, abs=2e-3)
    assert abs(found.mean().imag.item()) < 2e-3


def test_a_full_carrier_is_the_blaze_of_four_levels_with_rows_aside():
    shown = torch.exp(1j * encode.carrier(even(1.0)))
    assert abs(order(shown, -0.25)) == pytest.approx(ASIDE, abs=5e-3)
    plan = PixelSpread((8, 32), 1 / 32, (0.0,), (8.0, -8.0, 0.0), (0, 0), dtype=torch.complex128)
    towards, away, axis = plan(shown)[0, :, 0, 0].abs() / (8 / 32)
    assert towards.item() == pytest.approx(ASIDE * math.sin(math.pi / 4) / (math.pi / 4), abs=5e-3)
    assert max(away, axis) < 0.05


@given(st.floats(0, 0.999), st.floats(-3.1, 3.1))
def test_a_grey_lee_hologram_has_a_quarter_in_its_first_order(size, angle):
    t = complex(size * math.cos(angle), size * math.sin(angle))
    shown = encode.encode(even(t), "lee", GREY)
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert abs(order(shown.to(torch.complex128), -0.25).item() - t / 4) < 1e-9
    assert abs(order(shown.to(torch.complex128), 0.0).item() - 0.5) < 1e-9


def test_a_binary_lee_hologram_s_order_grows_with_what_is_wanted():
    """sin(πw)/π of slits as wide as w of the period, w = asin|t|/π, to what seventeen steps can do: 0.29 at most."""
    phases = torch.arange(720, dtype=torch.float64) / 720 * TURN
    for size in (0.2, 0.5, 0.8, 0.95):
        t = torch.polar(torch.full((720, 1, 1), size, dtype=torch.float64), phases[:, None, None]).expand(720, 8, 16)
        shown = BINARY.show(encode.encode(t, "lee", BINARY))
        assert set(shown.real.unique().tolist()) <= {0.0, 1.0}
        found = order(shown, -0.25) * torch.exp(-1j * phases)
        assert found.mean().real.item() == pytest.approx(size / math.pi * ASIDE, rel=0.01)
        assert (found - size / math.pi).abs().max() < 0.08
    full = BINARY.show(encode.encode(even(0.999), "lee", BINARY))
    assert full.real.mean().item() == pytest.approx(0.5, abs=0.07)
    dark = BINARY.show(encode.encode(even(0.0), "lee", BINARY))
    assert dark.abs().max() == 0


def test_phase_drops_the_amplitude_and_ideal_keeps_it():
    t = phasors(6, 5)
    assert torch.equal(encode.encode(t, "phase", PHASE), t.angle())
    assert torch.equal(torch.view_as_complex(encode.encode(t, "ideal", PLATE)), t)
    shown = PLATE.show(encode.encode(t, "ideal", PLATE), "none")
    assert (shown - t).abs().max() < 1e-12


@pytest.mark.parametrize("way", ["phase", "double-phase", "carrier", "fit", "lee"])
def test_the_ideal_plate_shows_every_encoding_as_it_is(way):
    t, other = phasors(8, 8), GREY if way == "lee" else PHASE
    binary_or_grey = encode.encode(t, way, other)
    wanted = binary_or_grey.to(torch.complex128) if way == "lee" else torch.exp(1j * binary_or_grey)
    shown = PLATE.show(encode.encode(t, way, PLATE), "none")
    half_a_step = math.pi / len(PHASE.table)  # between the middles of its levels and of a turn
    torch.testing.assert_close(shown, wanted, rtol=0, atol=2 * half_a_step if way == "carrier" else 1e-12)


def test_a_fit_gives_the_wanted_spread_where_it_matters():
    """Better than the phase alone and than the double-phase it starts with, at 2 pixels a sample of the field."""
    n, kernel = 64, rand(3, 3, seed=4) - 0.3
    nu = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / n
    waves = torch.exp(1j * TURN * nu[:, None] * torch.arange(-1, 2))
    wanted = waves @ kernel.to(torch.complex128) @ waves.T
    wanted = wanted / wanted.abs().max()
    near = (torch.fft.fftfreq(n) * n).abs() <= 12
    field = near[:, None] & near
    back = torch.exp(1j * TURN * nu[:, None] * torch.arange(-12, 13))
    true = back.T @ wanted @ back

    def error(phase):
        seen = back.T @ torch.exp(1j * phase) @ back
        gain = (true.conj() * seen).sum() / true.abs().square().sum()
        return ((seen / gain - true).norm() / true.norm()).item(), gain.abs().item()

    fitted = encode.encode(2 * wanted, "fit", PHASE, field=field)
    found, gain = error(fitted)
    assert found < 0.3
    assert found < 0.6 * error(wanted.angle())[0]
    assert 1.3 < gain <= 2
    assert torch.equal(encode.encode(2 * wanted[None], "fit", PHASE, field=field)[0], fitted)
    assert not fitted.requires_grad


@pytest.mark.parametrize("way", ["phase", "fit"])
def test_where_it_is_to_be_dark_pairs_of_pixels_are(way):
    t, dark = phasors(2, 8, 8), torch.zeros(8, 8, dtype=torch.bool)
    dark[2:6, 2:6] = True
    t = torch.where(dark, 0, t)
    seen = PHASE.show(encode.encode(t, way, PHASE, dark=dark), "none")
    blocks = seen.unfold(-2, 2, 2).unfold(-2, 2, 2).mean((-1, -2)).abs()
    assert blocks[:, 1:3, 1:3].max() < 1e-12
    plain = PHASE.show(encode.encode(t, way, PHASE), "none")
    assert torch.equal(seen[:, ~dark], plain[:, ~dark])


def test_the_carrier_s_phase_is_centred_and_goes_to_positive_x():
    assert (encode.carrier_phase(4) / TURN).tolist() == [0.375, 0.125, -0.125, -0.375]


# Which device shows what


@pytest.mark.parametrize("device", [PHASE, PLATE, GREY, BINARY, CELLS, Modulator("multilevel_phase", PHASE.table)])
@pytest.mark.parametrize("way", encode.ENCODINGS)
def test_a_device_shows_what_it_can_and_the_rest_is_refused_in_a_line(device, way):
    can = {
        "phase_slm": {"phase", "double-phase", "fit", "carrier"},
        "multilevel_phase": {"phase", "double-phase", "fit", "carrier"},
        "metasurface": {"phase", "double-phase", "fit", "carrier", "ideal"},
        "complex": set(encode.ENCODINGS),
        "grey_amplitude": {"lee"},
        "dmd": {"lee"},
    }[device.kind]
    wanted = phasors(1, 4, 4)
    if way in can:
        shown = device.show(encode.encode(wanted, way, device))
        assert shown.shape == (1, 4, 4)
        assert (shown.abs() <= 1 + 1e-9).all()
        return
    with pytest.raises(fo.InputError, match=r"mask\.encoding") as caught:
        encode.encode(wanted, way, device)
    assert "\n" not in str(caught.value)
    assert caught.value.mend
    if caught.value.mend:
        first = caught.value.mend.split("'")[1]
        encode.encode(wanted, first, device)  # what it proposes works


def test_an_unknown_encoding_is_refused():
    with pytest.raises(fo.InputError, match="'double-phase'"):
        encode.encode(phasors(2, 2), "hologram", PHASE)


# Gradients


@pytest.mark.parametrize(
    ("way", "device"),
    [
        ("double-phase", Modulator("phase_slm", modulator.phase_table(8), flicker=0.1)),
        ("double-phase", Modulator("phase_slm", modulator.phase_table(8), crosstalk=0.2)),
        ("carrier", Modulator("phase_slm", modulator.phase_table(16, 5.0))),
        ("phase", Modulator("metasurface", Table(torch.tensor([0.0, 2.0, 4.5]), torch.tensor([1.0, 0.8, 0.9])))),
        ("lee", Modulator("grey_amplitude", modulator.amplitude_table(8))),
        ("lee", Modulator("dmd", modulator.amplitude_table(2))),
        ("ideal", PLATE),
        ("double-phase", PLATE),
        ("lee", PLATE),
    ],
)
@pytest.mark.parametrize("softness", [0.4, 1.0])
def test_gradients_pass_from_a_tiny_mask_s_spread_to_what_is_wanted(way, device, softness):
    plan = PixelSpread((4, 5), 0.2, (0.0,), (1.0,), (1, 1), fill_factor=0.9, leak=0.1, dtype=torch.complex128)
    wanted = torch.polar(0.1 + 0.8 * rand(4, 5, seed=3), TURN * rand(4, 5, seed=4)).requires_grad_()

    def light(t):
        return plan(device.show(encode.encode(t, way, device), "soft", softness=softness))

    assert torch.autograd.gradcheck(light, (wanted,), eps=1e-7, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("way", ["double-phase", "carrier", "lee", "phase", "ideal"])
def test_gradients_stay_finite_at_the_edges_of_what_can_be_wanted(way):
    device = {"lee": GREY, "ideal": PLATE}.get(way, PHASE)
    wanted = torch.tensor([[0.0, 1.0, -1.0, HEADROOM, 1e-9, 1j, 0.5, -0.0]], dtype=torch.complex128, requires_grad=True)
    for dtype in (torch.complex128, torch.complex64):
        drive = encode.encode(wanted.to(dtype), way, device)
        assert drive.isfinite().all()
        (slope,) = torch.autograd.grad(drive.sum(), wanted)
        assert torch.view_as_real(slope).isfinite().all()
