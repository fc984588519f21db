"""A second bench worked out by hand, with nothing equal to anything else, and every limit from both sides."""

import math

import pytest
import torch

import fouroptics as fo

BENCH = fo.Bench.load("slm-532nm").replace(
    {
        "source.wavelength": "633 nm",
        "source.waist": "4 mm",
        "input.pitch": "10 um",
        "input.super_pixel": 1,
        "lens1.focal_length": "200 mm",
        "lens2.focal_length": "300 mm",
        "layout.guard": "40 um",
        "stop.shape": "circular",
        "stop.size": "7.08 mm",
        "aberration.zernike": {"2": "1 um", "3": "1 um", "4": "10 nm", "11": "20 nm"},
        "camera.pitch": "2.5 um",
        "camera.bin": 3,
        "camera.fill_factor": "60 %",
        "camera.exposure": "auto",
        "input.settle": "20 ms",
        "link.overhead": "70 us",
    }
)
LOAD = {"size": (48, 80), "kernel": (7, 9), "band": (24, 20), "channels": (4, 2)}


def test_every_number_of_the_report_by_hand():
    data = BENCH.sampling(**LOAD).data
    tile = (48 + 8, 80 + 8)
    field = (2 * tile[0], tile[1])  # one above the other is shorter than side by side
    period = 633e-9 * 0.2 / 10e-6
    band = (period * 24 / 48, period * 20 / 80)
    window = (48 * 15e-6, 80 * 15e-6)
    corner = math.asin(633e-9 / 20e-6 * math.hypot(0.5, 0.25))
    bent = math.atan(math.hypot(field[0], field[1]) * 10e-6 / 2 / 0.2)
    on_axis = 2 * 5e-3 / (math.pi * 4e-3**2)
    by_hand = {
        "sample": 10e-6,
        "guard_samples": 4,
        "input_tiles": (2, 1),
        "output_tiles": (1, 1),
        "input_field": (field[0] * 10e-6, field[1] * 10e-6),
        "fourier_period": period,
        "fourier_bin": (period / field[0], period / field[1]),
        "band_extent": band,
        "mask_extent": (1080 * 8e-6, 1920 * 8e-6),
        "mask_arms": (1, 1),
        "mask_pixels_a_bin": (period / field[0] / 8e-6, period / field[1] / 8e-6),
        "mask_pixels_a_bin_needed": 3,
        "missed_phases": 1 - 6.283 / (2 * math.pi),
        "blaze_efficiency": 1 - (math.pi - 6.283 / 2) ** 2 / 3,
        "stop": 7.08e-3,
        "output_sample": 15e-6,
        "reading_ratio": 0.5,
        "output_window": window,
        "lens1_pupil_needed": math.hypot(field[0] * 10e-6 + band[0], field[1] * 10e-6 + band[1]),
        "lens2_pupil_needed": math.hypot(window[0] + band[0], window[1] + band[1]),
        "band_na": math.sin(corner),
        "field_angle": bent,
        "paraxial_band_error_bins": 0.2 * (math.tan(corner) - math.sin(corner)) / (period / field[0]),
        "paraxial_field_error_samples": 0.3 * (math.tan(bent) - math.sin(bent)) / 15e-6,
        "track_length": 1.0,
        "spot": 0.886 * 633e-9 * 0.3 / band[1],
        "strehl": math.exp(-((2 * math.pi / 633) ** 2) * (10**2 + 20**2)),
        "overfill": 1 - math.erf(4.32e-3 * 1.25 * math.sqrt(2) / 4e-3) * math.erf(7.68e-3 * 1.25 * math.sqrt(2) / 4e-3),
        "corner_light": math.exp(-2 * ((field[0] * 5e-6) ** 2 + (field[1] * 5e-6) ** 2) / 4e-3**2),
        "peak_irradiance": on_axis * 0.8 * 0.93**2 * (2 * 48 * 80 * 1e-10 / (633e-9 * 0.2)) ** 2,
        "dc_share": 0.8,
        "power_share": 1.0,
        "frames": 4,
        "camera_readout": 288 / 2048 / 35,
    }
    assert set(by_hand) == set(data)
    for name, value in by_hand.items():
        assert data[name] == pytest.approx(value, rel=1e-9), name


def test_a_narrow_round_stop_makes_an_airy_spot():
    report = BENCH.replace({"stop.size": "3 mm"}).sampling(**LOAD)
    assert report.data["spot"] == pytest.approx(1.029 * 633e-9 * 0.3 / 3e-3)
    assert "stop" in {problem.code for problem in report.problems}


def test_lenslets_share_light_and_panel():
    bench = BENCH.replace({"layout.inputs": "lenslet", "layout.outputs": "lenslet"})
    tiled, arms = BENCH.sampling(**LOAD), bench.sampling(**LOAD)
    assert arms.data["peak_irradiance"] == pytest.approx(tiled.data["peak_irradiance"] / 8 / 2**2)
    assert arms.data["power_share"] == pytest.approx(1 / 8)
    extent = next(line for line in arms.lines if line.code == "mask-extent")
    assert extent.bad  # eight arms have 4.32 × 3.84 mm each, the band 6.33 × 3.165 mm
    assert extent.limit == "≤ 4.32 mm × 3.84 mm"
    assert arms.data["mask_arms"] == (2, 4)
    assert "arms on the mask            2×4, 540×480 pixels each" in str(arms)
    assert bench.sampling(size=(48, 80), channels=(1, 2)).data["paraxial_field_error_samples"] == 0


def test_tiled_outputs_take_room_on_mask_and_camera():
    bench = BENCH.replace({"layout.outputs": "tiled"})
    report = bench.sampling(**LOAD)
    tile, pitch = (56, 88), (112, 88)
    assert report.data["output_tiles"] == (2, 2)
    assert report.data["fourier_bin"] == pytest.approx(
        tuple(report.data["fourier_period"] / (2 * pitch[n]) for n in range(2))
    )
    assert report.data["output_window"] == pytest.approx(((pitch[0] + 48) * 15e-6, (pitch[1] + 80) * 15e-6))
    assert report.data["power_share"] == pytest.approx(1 / 16)
    assert tile[0] * 2 == pitch[0]
    bent = (
        math.atan(math.hypot(1.12e-3, 0.88e-3) / 2 / 0.2),
        math.atan(math.hypot(*report.data["output_window"]) / 2 / 0.3),
    )
    excess = sum(math.tan(angle) - math.sin(angle) for angle in bent)
    assert report.data["paraxial_field_error_samples"] == pytest.approx(0.3 * excess / 15e-6)


def test_a_carrier_leaves_the_axis_and_needs_a_wider_lens():
    plain, carrier = (BENCH.replace({"mask.encoding": e}).sampling(**LOAD).data for e in ("double-phase", "carrier"))
    offset = 633e-9 * 0.3 / (4 * 8e-6)
    window = (48 * 15e-6, 80 * 15e-6 + 2 * offset)
    band = plain["band_extent"]
    assert carrier["lens2_pupil_needed"] == pytest.approx(math.hypot(window[0] + band[0], window[1] + band[1]))


def just(value, unit="m"):
    return f"{value:.12g} {unit}"


PERIOD = 633e-9 * 0.2 / 10e-6
NEEDED_STOP = PERIOD * math.hypot(0.5, 0.25)
LIMITS = [
    ("guard", lambda near: {"layout.guard": f"{40 if near > 1 else 39} um"}),
    ("mask-bins", lambda near: {"mask.pitch": just(PERIOD / 112 / 3 / near)}),
    ("mask-bins", lambda near: {"mask.encoding": "carrier", "mask.pitch": just(PERIOD / 112 / 4 / near)}),
    ("mask-extent", lambda near: {"mask.pitch": just(PERIOD / 2 / 1080 * near), "mask.pixels": [1920, 1080]}),
    ("stop", lambda near: {"stop.size": just(NEEDED_STOP - PERIOD / 88 + 1e-6 * (near - 1))}),
    ("stop-wide", lambda near: {"stop.size": just(NEEDED_STOP + PERIOD / 88 - 1e-6 * (near - 1))}),
    ("camera-nyquist", lambda near: {"camera.pitch": just(15e-6 / 0.5 / 2 / near), "camera.bin": 1}),
    ("camera-match", lambda near: {"camera.pitch": just(2.5e-6 * (1 + 0.5 / 40 / near))}),
    ("camera-window", lambda near: {"camera.pixels": [480, 288 if near > 1 else 287]}),
    ("camera-window", lambda near: {"camera.pixels": [480 if near > 1 else 479, 288]}),
    ("input-panel", lambda near: {"input.pixels": [88, 112 if near > 1 else 111]}),
    ("input-panel", lambda near: {"input.pixels": [88 if near > 1 else 87, 112]}),
    ("lens1-pupil", lambda near: {"lens1.pupil": just(math.hypot(1.12e-3 + PERIOD / 2, 0.88e-3 + PERIOD / 4) * near)}),
    ("lens2-pupil", lambda near: {"lens2.pupil": just(math.hypot(0.72e-3 + PERIOD / 2, 1.2e-3 + PERIOD / 4) * near)}),
    (
        "illumination",
        lambda near: {"source.waist": just(math.hypot(0.56e-3, 0.44e-3) * math.sqrt(2 / -math.log(0.8)) * near)},
    ),
]


@pytest.mark.parametrize(("code", "changes"), LIMITS)
def test_limits_from_both_sides(code, changes):
    def fails(near):
        return code in {p.code for p in BENCH.replace(changes(near)).sampling(**LOAD).problems}

    assert not fails(1 + 1e-4), "what just fits is refused"
    assert fails(1 - 1e-4), "what just does not fit is let through"


def test_damage_from_both_sides():
    focus = BENCH.sampling(**LOAD).data["peak_irradiance"]
    for part, refused in ((0.9999, False), (1.0001, True)):
        bench = BENCH.replace({"source.power": just(5e-3 * part * 2e4 / focus, "W")})
        assert ("damage" in {p.code for p in bench.sampling(**LOAD).problems}) == refused


def test_a_correlator_on_this_bench_by_hand():
    bank = fo.Correlator4f.from_kernels(torch.randn(4, 2, 7, 9, dtype=torch.float64), BENCH, (48, 80))
    latency = bank.latency(reads=2, exposure=1e-3)
    assert latency["camera readout"] == pytest.approx(8 * 288 / 2048 / 35)
    assert latency.samples == 8 * 96 * 160
    assert latency["overhead"] == pytest.approx(8 * 70e-6)
    assert latency["input settle"] == pytest.approx(20e-3 - 12e-3)
    busy = 12e-3 + 1e-3 + 288 / 2048 / 35
    assert latency["mask wait"] == pytest.approx(8 * (2 / 60 - busy) - 8e-3)  # 17 ms miss the first beat of 60 Hz
    pictures = torch.rand(3, 2, 48, 80, dtype=torch.float64)
    brightest = torch.quantile(bank.expose(pictures)(pictures).detach().flatten(), 0.999, interpolation="higher")
    assert brightest.item() == pytest.approx(0.8 * 10500 * 0.36, rel=1e-6)


def test_the_light_of_two_tiles_by_hand():
    bench = BENCH.replace({"aberration.zernike": {}})
    bank = fo.Correlator4f.from_kernels(torch.ones(1, 2, 1, 1, dtype=torch.float64), bench, (48, 80))
    seen = bank.power(torch.ones(1, 2, 48, 80, dtype=torch.float64)).mean().item()
    # both pictures are 0.48 × 0.80 mm and centred 0.28 mm above and below the axis; both are white, so their fields
    # under the beam's profile are alike and add to one white field
    root = math.sqrt(2) / 4e-3
    high = (math.erf(0.52e-3 * root) - math.erf(0.04e-3 * root)) / 2
    wide = math.erf(0.40e-3 * root)
    lit = 5e-3 * high * wide / (0.48e-3 * 0.80e-3)
    assert seen == pytest.approx(lit * 0.8 * 0.93**2 * 0.75 * (200 / 300) ** 2, rel=2e-3)
    x = torch.ones(1, 2, 48, 80, dtype=torch.float64)
    x[:, 1] = 0  # the upper one alone: a field of half the sum, and brighter towards the axis, below
    upper = bank.power(x)[0, 0]
    y = torch.tensor([-0.52e-3 + 5e-6, -0.04e-3 - 5e-6])
    slope = torch.exp(-2 * y**2 / 4e-3**2)
    assert (upper[0, 0] / upper[-1, 0]).item() == pytest.approx((slope[0] / slope[1]).item(), rel=1e-6)


def test_the_band_s_corner_from_both_sides():
    def error(pitch):
        bench = BENCH.replace({"input.pitch": just(pitch), "layout.guard": just(4 * pitch)})
        report = bench.sampling(**LOAD)
        return report.data["paraxial_band_error_bins"], "paraxial-band" in {p.code for p in report.problems}

    low, high = 0.5e-6, 20e-6
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if error(middle)[0] > 0.5 else (low, middle)
    assert error(high * 1.001) == (pytest.approx(0.5, rel=0.01), False)
    assert error(low * 0.999) == (pytest.approx(0.5, rel=0.01), True)


def test_the_stop_stands_behind_the_first_lens():
    square = BENCH.replace({"stop.shape": "square", "stop.size": just(PERIOD / 2)})
    one, pictures = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.rand(1, 1, 32, 32, dtype=torch.float64)
    seen = fo.Correlator4f.from_kernels(one, square, (32, 32), boundary="circular", stop=True).field(pictures)
    nu = torch.fft.fftfreq(32, dtype=torch.float64).abs()
    passed = torch.where(nu < 0.25, 1.0, torch.where(nu == 0.25, 0.5, 0.0))
    expected = torch.fft.ifft2(torch.fft.fft2(pictures) * torch.outer(passed, passed))
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-9)


def test_tiles_follow_the_panel_s_shape():
    wide = {"input.super_pixel": 2, "layout.guard": "240 um", "input.pixels": [600, 180]}  # 88 samples a tile, 90 rows
    bench = BENCH.replace(wide)
    assert bench.share((64, 64), (1, 3)).input_tiles == (1, 3)
    assert bench.replace({"input.pixels": [180, 600]}).share((64, 64), (1, 3)).input_tiles == (3, 1)
