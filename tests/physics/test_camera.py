"""The camera against closed forms: Poisson statistics, photon transfer, saturation, ADC steps, pixel integration."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy import stats

from fouroptics.devices import detector, readout, source
from fouroptics.devices.detector import Pattern, Sensor
from fouroptics.devices.pixels import Pixels, Readings
from fouroptics.errors import InputError

WAVELENGTH = 532e-9
SENSOR = Sensor(qe=0.65, full_well=10500.0, gain=0.36, adc_bits=12, read_noise=2.3, dark_current=3.0, black_level=60.0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def flat(mean, samples=200_000):
    return torch.full((samples,), float(mean), dtype=torch.float64)


def test_light_becomes_electrons_by_the_photon():
    power, exposure = torch.tensor(1e-12, dtype=torch.float64), 0.02
    photons = 1e-12 * 0.02 / (6.62607015e-34 * 299792458 / WAVELENGTH)
    electrons = detector.mean_electrons(power, exposure, SENSOR, wavelength=WAVELENGTH)
    assert float(electrons) == pytest.approx(0.65 * photons + 3 * 0.02, rel=1e-12)


@pytest.mark.parametrize("mean", [0.0, 0.3, 4.0, 90.0, 9000.0])
def test_electrons_are_poisson_and_whole(mean):
    drawn = detector.poisson(flat(mean), generator=generator())
    assert torch.equal(drawn, drawn.round())
    error = max(1e-12, math.sqrt(mean / len(drawn)))
    assert abs(float(drawn.mean()) - mean) <= 4 * error
    assert float(drawn.var()) == pytest.approx(mean, rel=0.02)
    if 0 < mean < 100:
        counts = np.bincount(drawn.int().numpy(), minlength=200)[:200]
        expected = stats.poisson.pmf(np.arange(200), mean) * len(drawn)
        enough = expected > 20
        chi = float(((counts - expected)[enough] ** 2 / expected[enough]).sum())
        assert chi < stats.chi2.ppf(0.9999, int(enough.sum()))


@pytest.mark.parametrize(("mean", "target"), [(3.0, 5.0), (20.0, 18.0), (400.0, 390.0)])
def test_the_estimator_s_gradient_is_one_plus_twice_the_difference(mean, target):
    """E[(n - t)²] = λ + (λ - t)², so its derivative is 1 + 2(λ - t); straight through would give 2(λ - t)."""
    x = flat(mean, 2_000_000).requires_grad_()
    detector.poisson(x, generator=generator()).sub(target).square().mean().backward()
    each = x.grad * len(x)
    true = 1 + 2 * (mean - target)
    error = float(each.std()) / math.sqrt(len(x))
    assert abs(float(each.mean()) - true) < 5 * error
    assert error < 0.12
    assert abs(float(each.mean()) - 2 * (mean - target)) > 5 * error


def test_the_gradient_in_the_dark_is_finite():
    x = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    detector.capture(x, SENSOR, generator=generator()).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_photon_transfer_gives_gain_and_read_noise_back():
    """Two frames a level, as EMVA 1288 does: their difference's variance is 2K²(σ_d² + μ) + 1/6."""
    signal, variance = [], []
    for level in np.linspace(0, 7000, 15):
        frames = [
            detector.capture(flat(level), SENSOR, generator=generator(s)) for s in (int(level) * 2, int(level) * 2 + 1)
        ]
        signal.append(float(frames[0].mean() + frames[1].mean()) / 2 - 60)
        variance.append(float((frames[0] - frames[1]).var()) / 2 - 1 / 12)
    gain = np.polyfit(signal, variance, 1)[0]
    read_noise = math.sqrt(variance[0]) / SENSOR.gain
    assert gain == pytest.approx(SENSOR.gain, rel=0.02)
    assert read_noise == pytest.approx(SENSOR.read_noise, rel=0.02)
    dark = detector.capture(flat(0.0), SENSOR, generator=generator(5))
    assert float(dark.mean()) == pytest.approx(60, abs=0.01)
    assert float(dark.var()) == pytest.approx((0.36 * 2.3) ** 2 + 1 / 12, rel=0.02)


def test_the_well_clips_before_noise_is_added():
    """A full well still shows read noise on both sides: the well is before the amplifier."""
    wide = replace(SENSOR, adc_bits=16, gain=1.0)
    reading = detector.capture(flat(1e6), wide, generator=generator())
    assert float(reading.mean()) == pytest.approx(10500 + 60, abs=0.05)
    assert float(reading.std()) == pytest.approx(math.hypot(2.3, math.sqrt(1 / 12)), rel=0.02)
    quiet = replace(wide, read_noise=0.0)
    assert torch.equal(detector.capture(flat(1e6, 10), quiet, generator=generator()), flat(10560, 10))


@pytest.mark.parametrize("bits", [1, 3, 8, 12])
def test_the_adc_has_as_many_steps_as_its_bits_say(bits):
    ramp = torch.linspace(-5, (1 << bits) + 5, 400_001, dtype=torch.float64)
    said = detector.digitize(ramp, bits)
    assert torch.equal(said.unique(), torch.arange(1 << bits, dtype=torch.float64))
    inside = (ramp > 0) & (ramp < (1 << bits) - 1)
    assert (said - ramp)[inside].abs().max() <= 0.5
    assert float(detector.digitize(torch.tensor(0.499), bits)) == 0
    assert float(detector.digitize(torch.tensor(0.501), bits)) == 1


def test_the_expected_reading_is_the_mean_of_many():
    """In the dark, in the middle, about the well and about the ADC's end, with and without a black level."""
    for sensor in (
        SENSOR,
        replace(SENSOR, black_level=0.0),
        replace(SENSOR, gain=0.5),
        replace(SENSOR, gain=0.5, read_noise=40.0),
        replace(SENSOR, gain=(4095 - 60) / 10500),
        replace(SENSOR, gain=(4095 - 60) / 10500, read_noise=30.0),
        replace(SENSOR, gain=10.0, adc_bits=16, read_noise=0.5, black_level=0.0, full_well=20.0),
    ):
        tolerance = 0.1 * max(1.0, sensor.gain)
        for mean in (0.0, 1.0, 3.0, 20.0, 500.0, 8000.0, 8100.0, 10400.0, 10500.0, 10700.0, 20000.0):
            many = detector.capture(flat(mean), sensor, generator=generator(int(mean)))
            error = 4 * float(many.std()) / math.sqrt(len(many))
            assert float(detector.expected(flat(mean, 1), sensor)) == pytest.approx(
                float(many.mean()), abs=tolerance + error
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_light_far_beyond_the_well_stays_at_the_well(dtype):
    for electrons in (2e4, 1e6, 1e9, 1e12):
        seen = detector.expected(torch.tensor([electrons], dtype=dtype), SENSOR)
        assert float(seen) == pytest.approx(10500 * 0.36 + 60, abs=0.01)
    seen = detector.expected(torch.tensor([1e9], dtype=dtype), replace(SENSOR, gain=1.0))
    assert float(seen) == pytest.approx(4095, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("black", [0.0, 60.0])
def test_readings_far_from_all_ends_are_the_same_beside_others_that_are_not(dtype, black, monkeypatch):
    """The tails are left out where nobody has a digit for them: bit by bit, gradients included."""
    sensor = replace(SENSOR, black_level=black)
    asked, whole = [], detector._is_far
    monkeypatch.setattr(detector, "_is_far", lambda *seen: asked.append(whole(*seen)) or asked[-1])
    middle = torch.rand(4000, dtype=dtype, generator=generator()) * 7000 + 1000

    def readings(*ends):
        x = torch.cat((middle, torch.tensor(ends, dtype=dtype))).requires_grad_(True)
        seen = detector.expected(x, sensor)
        (slope,) = torch.autograd.grad(seen[: len(middle)].sum(), x)
        return seen[: len(middle)], slope[: len(middle)]

    (alone, slope), far = readings(), asked[:]
    beside, slope_beside = readings(0.0, 10500.0)
    assert all(far) and not all(asked[len(far) :])
    assert torch.equal(alone, beside) and torch.equal(slope, slope_beside)


@pytest.mark.parametrize("read_noise", [0.0, 0.2, 1.0, 2.3, 8.0])
def test_in_the_dark_the_mean_is_poisson_s_sum(read_noise):
    """Σ P(n)·E[max(n + r, 0)] for a camera without a black level, in electrons; and a slope that is finite."""
    sensor = replace(SENSOR, gain=1.0, black_level=0.0, read_noise=read_noise, adc_bits=20)
    n = np.arange(200)
    spread = max(read_noise, 1e-9)
    lifted = n * stats.norm.cdf(n / spread) + spread * stats.norm.pdf(n / spread)
    for mean in (1e-3, 0.01, 0.3, 1.0, 3.0, 10.0):
        x = torch.tensor([mean], dtype=torch.float64, requires_grad=True)
        seen = detector.expected(x, sensor)
        assert seen.item() == pytest.approx(float((stats.poisson.pmf(n, mean) * lifted).sum()), abs=0.03)
        seen.backward()
        assert 0 < x.grad.item() < 2


def test_a_pattern_fits_its_readings_or_is_refused():
    pattern = Pattern.draw((4, 5), torch.zeros((), dtype=torch.float64), generator())
    assert pattern.fitted((4, 5), torch.zeros(1)).response.dtype == torch.float32
    with pytest.raises(InputError, match="pattern"):
        pattern.fitted((5, 5), torch.zeros(1))


def test_a_pattern_is_one_camera_s():
    sensor = replace(SENSOR, prnu=0.01, dsnu=5.0, black_level=100.0)
    pattern = Pattern.draw((300, 400), torch.zeros((), dtype=torch.float64), generator())
    power = torch.full((300, 400), 1e-12, dtype=torch.float64)
    electrons = detector.mean_electrons(power, 3e-3, sensor, wavelength=WAVELENGTH, pattern=pattern)
    assert float(electrons.std() / electrons.mean()) == pytest.approx(0.01, rel=0.02)
    frames = [detector.capture(electrons, sensor, generator=generator(s), pattern=pattern) for s in range(1, 41)]
    average = torch.stack(frames).mean(0)
    spatial = float(average.var()) - float((frames[0] - frames[1]).var()) / 2 / 40
    assert spatial == pytest.approx(0.36**2 * ((0.01 * float(electrons.mean())) ** 2 + 25), rel=0.03)
    seen = detector.expected(electrons, sensor, pattern)
    assert float((average - seen).std()) < 0.36 * math.sqrt(float(electrons.mean()) / 40) * 1.1


def test_a_bin_is_read_once_and_averages_its_pixels():
    binned = SENSOR.binned(16)
    assert (binned.dark_current, binned.read_noise, binned.full_well) == (48.0, 2.3, 10500.0)
    uneven = replace(SENSOR, prnu=0.02, dsnu=3.0).binned(16)
    assert (uneven.prnu, uneven.dsnu) == (0.005, 12.0)


def test_exposure_fills_four_fifths_of_the_tighter_limit():
    assert detector.exposure_to_fill(1e6, SENSOR) == pytest.approx(0.8 * 10500 / 1e6)
    assert detector.exposure_to_fill(1e6, replace(SENSOR, gain=1.0)) == pytest.approx(0.8 * (4095 - 60) / 1e6)


FIELDS = {
    "qe": 0.5, "full_well": 200.0, "gain": 0.9, "read_noise": 3.0, "dark_current": 50.0, "prnu": 0.05, "dsnu": 4.0,
    "black_level": 2.0,
}  # fmt: skip


def readings(values, exposure=0.02):
    """A ramp of light from the dark beyond the well on one camera: what is expected of it."""
    pattern = Pattern.draw((7,), torch.zeros((), dtype=torch.float64), generator())
    sensor = Sensor(adc_bits=8, **values)
    power = torch.linspace(0, 1.4e-14, 7, dtype=torch.float64)
    electrons = detector.mean_electrons(power, exposure, sensor, wavelength=WAVELENGTH, pattern=pattern)
    return detector.expected(electrons, sensor, pattern)


def test_the_walk_visits_every_field():
    assert set(FIELDS) | {"adc_bits"} == {field.name for field in fields(Sensor)}


@pytest.mark.parametrize("name", [*FIELDS, "exposure"])
def test_every_field_of_the_sensor_acts_and_has_a_true_gradient(name):
    start = {key: torch.tensor(value, dtype=torch.float64) for key, value in FIELDS.items()}
    value = torch.tensor({**FIELDS, "exposure": 0.02}[name], dtype=torch.float64, requires_grad=True)

    def seen(value):
        return readings(start, value) if name == "exposure" else readings(start | {name: value})

    assert (seen(value * 1.1) - seen(value)).abs().max() > 1e-4
    assert torch.autograd.gradcheck(seen, value, eps=1e-6 * max(1.0, value.item()))


def test_more_bits_say_more():
    coarse, fine = (
        detector.capture(flat(5e3, 100), replace(SENSOR, adc_bits=b, gain=0.01), generator=generator()) for b in (4, 12)
    )
    assert coarse.max() == 15
    assert fine.max() > 15


# Pixels


def field_at(field, y, x, period):
    """A field of samples 0, 1, … at any places: by sinc functions in the dark, or by its period's frequencies."""
    bases = []
    for at, n in zip((y, x), field.shape, strict=True):
        if period:
            nu = torch.fft.fftfreq(n, dtype=torch.float64)
            forward = torch.exp(-2j * math.pi * torch.outer(nu, torch.arange(n, dtype=torch.float64))) / n
            wave = torch.exp(2j * math.pi * torch.outer(at, nu))
            if n % 2 == 0:
                wave[:, n // 2] = torch.cos(math.pi * at)
            bases.append((wave @ forward).real)
        else:
            bases.append(torch.sinc(at[:, None] - torch.arange(n, dtype=torch.float64)))
    return bases[0] @ field @ bases[1].mT


ROWS = [
    (5, 7.3, 1.0, 1.0, 1), (4, 8.0, 0.7, 0.55, 3), (3, 4.2, -1.3, 0.9, 2), (6, 7.5, 2.5, 2.5, 1),
    (1, 0.0, 0.25, 0.2, 4),
]  # fmt: skip


@pytest.mark.parametrize("period", [False, True])
@pytest.mark.parametrize(("count", "centre", "pitch", "width", "bins"), ROWS)
def test_pixels_integrate_as_a_dense_sum_does(count, centre, pitch, width, bins, period):
    """|E|² of a white field between its samples, on 32 × 32 points of each pixel."""
    field = torch.randn(16, 15, dtype=torch.float64, generator=generator())
    rows, columns = Readings(count, centre, pitch, width, bins), Readings(4, 6.0, 1.5, 1.2, 2)
    places = torch.arange(16, dtype=torch.float64), torch.arange(15, dtype=torch.float64)
    plan = Pixels(places, rows, columns, periodic=period, dtype=torch.float64)
    seen = plan(plan.between(field).square())
    axes = []
    for row in (rows, columns):
        pixel = torch.arange(row.count * row.bin, dtype=torch.float64) - (row.count * row.bin - 1) / 2
        points = (torch.arange(32, dtype=torch.float64) + 0.5) / 32 - 0.5
        axes.append((row.centre + pixel * row.pitch)[:, None] + points * row.width)
    values = field_at(field, axes[0].flatten(), axes[1].flatten(), period).square()
    expected = values.reshape(rows.count, rows.bin * 32, columns.count, columns.bin * 32).mean((1, 3))
    assert (seen - expected).abs().max() <= 1e-3 * field.square().max()


def test_a_complex_field_between_samples_is_its_parts():
    places = torch.arange(9, dtype=torch.float64), torch.arange(8, dtype=torch.float64)
    plan = Pixels(places, Readings(4, 4.0, 1.0, 1.0), Readings(4, 4.0, 1.0, 1.0), dtype=torch.float64)
    field = torch.randn(2, 9, 8, dtype=torch.complex128, generator=generator())
    fine = plan.between(field)
    torch.testing.assert_close(fine, torch.complex(plan.between(field.real), plan.between(field.imag)))
    shuffled = torch.tensor([3, 0, 8, 1, 2, 7, 6, 5, 4])
    other = Pixels((places[0][shuffled], places[1]), Readings(4, 4.0, 1.0, 1.0), Readings(4, 4.0, 1.0, 1.0))
    torch.testing.assert_close(other.between(field.real[:, shuffled].float()), fine.real.float())


@pytest.mark.parametrize("period", [1, 2, 7, 8])
def test_a_period_s_samples_are_its_frequencies(period):
    """At samples the field itself, and everywhere what its frequencies say, an even one's last shared."""
    field = torch.randn(period, 1, dtype=torch.float64, generator=generator())
    readings = Readings(1, 0.0, 1.0, 1.0)
    plan = Pixels((torch.arange(period), torch.zeros(1)), readings, readings, periodic=True, dtype=torch.float64)
    fine = plan.between(field)[:, 0]
    torch.testing.assert_close(fine[::2], field[:, 0], rtol=0, atol=1e-12)
    at = torch.arange(2 * period, dtype=torch.float64) / 2
    expected = field_at(field, at, torch.zeros(1, dtype=torch.float64), True)[:, 0]
    torch.testing.assert_close(fine, expected, rtol=0, atol=1e-12)


def test_the_plan_has_its_adjoint_and_refuses_other_sizes():
    places = torch.arange(16, dtype=torch.float64), torch.arange(15, dtype=torch.float64)
    plan = Pixels(places, Readings(4, 8.0, 0.7, 0.55, 3), Readings(5, 7.0, 1.0, 1.0), dtype=torch.float64)
    fine = plan.between(torch.randn(16, 15, dtype=torch.float64, generator=generator()))
    a = torch.randn_like(fine)
    b = torch.randn(4, 5, dtype=torch.float64, generator=generator(1))
    assert float((plan(a) * b).sum()) == pytest.approx(float((plan.adjoint(b) * a).sum()), rel=1e-12)
    y, x = fine.shape
    assert plan.nbytes == 8 * (y * 16 + x * 15 + 4 * y + 5 * x + y * x * 4 * 5)  # so small a plan is one matrix, too
    with pytest.raises(InputError, match="samples"):
        plan(a.T)
    with pytest.raises(InputError, match="samples"):
        plan.between(torch.ones(3, 3))
    with pytest.raises(InputError, match="alike"):
        plan(fine.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert plan(fine).dtype == torch.float64


# Readouts


def field_of(*shape):
    return torch.randn(*shape, dtype=torch.complex128, generator=generator(3))


def test_a_balanced_pair_reads_the_signed_field():
    field, r, visibility, error = field_of(2, 3, 4, 4), 0.7, 0.9, 0.2
    shown = readout.patterns("homodyne", field, reference=r, visibility=visibility, step_error=error)
    assert shown.shape == (2, 3, 2, 4, 4)
    step = complex(math.cos(error), math.sin(error))
    waves = [r, -r * step]
    for capture, wave in enumerate(waves):
        mixed = (field + wave).abs().square()
        apart = field.abs().square() + r**2
        expected = visibility * mixed + (1 - visibility) * apart
        torch.testing.assert_close(shown[:, :, capture], expected)
    balanced = readout.patterns("homodyne", field, reference=r)
    torch.testing.assert_close(balanced[:, :, 0] - balanced[:, :, 1], 4 * r * field.real)
    single = readout.patterns("interference", field, reference=r)
    torch.testing.assert_close(single[:, :, 0], (field + r).abs().square())
    real = readout.patterns("homodyne", field.real, reference=r, visibility=visibility, step_error=error)
    as_complex = readout.patterns("homodyne", field.real + 0j, reference=r, visibility=visibility, step_error=error)
    torch.testing.assert_close(real, as_complex)


def test_companding_pixel_by_pixel():
    reading = torch.tensor([-9.0, -1.0, 0.0, 4.0]).reshape(1, 1, 2, 2)
    flat = {kind: readout.compand(reading, kind).flatten().tolist() for kind in readout.COMPANDS}
    assert flat["none"] == [-9, -1, 0, 4]
    assert flat["sqrt"] == [-3, -1, 0, 2]
    assert flat["log"] == pytest.approx([-math.log(10), -math.log(2), 0, math.log(5)])
    assert flat["rectify"] == [0, 0, 0, 4]
    assert flat["two-sided-rectify"] == [0, 0, 0, 4, 9, 1, 0, 0]
    assert readout.compand(reading, "two-sided-rectify").shape == (1, 2, 2, 2)


@pytest.mark.parametrize("kind", readout.READOUTS)
@pytest.mark.parametrize("compand", readout.COMPANDS)
def test_readouts_have_true_gradients(kind, compand):
    field, r, v, e = field_of(2, 3, 3), 0.7, 0.9, 0.2
    given = [field.requires_grad_()] + [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (r, v, e)]

    def seen(field, r, v, e):
        shown = readout.patterns(kind, field, reference=r, visibility=v, step_error=e)
        return readout.compand(shown[:, -1] - 0.3 * shown[:, 0], compand)

    assert torch.autograd.gradcheck(seen, given)


def test_a_fading_square_root_has_a_finite_gradient():
    zero = torch.zeros(3, requires_grad=True)
    readout.compand(zero.reshape(1, 1, 3), "sqrt").sum().backward()
    assert torch.isfinite(zero.grad).all()


# The beam


def test_overfill_is_what_misses_the_panel():
    """By a sum over a plane four waists wide."""
    waist, panel = 6e-3, (8.64e-3, 15.36e-3)
    axis = (torch.arange(3000, dtype=torch.float64) + 0.5) / 3000 * 0.048 - 0.024
    light = source.illumination(axis, axis, waist)
    inside = torch.outer((axis.abs() < panel[0] / 2).double(), (axis.abs() < panel[1] / 2).double())
    assert source.overfill(waist, panel) == pytest.approx(1 - float((light * inside).sum() / light.sum()), abs=1e-3)
    assert source.overfill(None, panel) == 0
    assert torch.equal(source.illumination(axis, axis, None), torch.ones(3000, 3000, dtype=torch.float64))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: detector.mean_electrons(torch.ones(1), 0.0, SENSOR, wavelength=WAVELENGTH), "exposure"),
        (lambda: detector.mean_electrons(torch.ones(1), -1.0, SENSOR, wavelength=WAVELENGTH), "exposure"),
        (lambda: readout.patterns("amplitude", field_of(2, 2)), "readout"),
        (lambda: readout.compand(torch.ones(1, 1, 1), "cube"), "compand"),
        (lambda: detector.poisson(torch.ones(2), generator=0), "no generator"),
        (lambda: detector.capture(torch.ones(2, device="meta"), SENSOR, generator=torch.Generator()), "generator"),
    ],
)
def test_what_cannot_be_read_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()
