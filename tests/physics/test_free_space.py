"""Propagation against closed forms: Gaussian beams, Fresnel integrals, Talbot's image, evanescent waves, energy."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.special import fresnel as fresnel_integrals

from fouroptics.errors import InputError
from fouroptics.optics import grid, propagation
from fouroptics.optics.fourier import Plane
from fouroptics.optics.propagation import AngularSpectrum, Fresnel, FresnelTransform, thin_lens, working_plane

WAVELENGTH = 532e-9
K = 2 * math.pi / WAVELENGTH
DOUBLE = {"wavelength": WAVELENGTH, "dtype": torch.complex128}


def rand(*shape, dtype=torch.complex128, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def gaussian(plane, waist):
    y, x = plane.coordinates()
    return torch.exp(-(y[:, None].square() + x.square()) / waist**2).to(torch.complex128)


def width_and_curvature(field, plane):
    """1/e² radius from the second moment, and the radius of curvature from the phase's, both along x."""
    _, x = plane.coordinates()
    power = field.abs().square()
    waist = 2 * math.sqrt(float((power * x.square()).sum() / power.sum()))
    step = torch.angle(field[:, 1:] * field[:, :-1].conj())
    between, weight = (x[1:] + x[:-1]) / 2, (field[:, 1:] * field[:, :-1].conj()).abs()
    slope = float((weight * step * between).sum() / (weight * between.square()).sum()) / plane.pitches[1]
    return waist, K / slope if slope else math.inf


@pytest.mark.parametrize("kind", [AngularSpectrum, Fresnel])
@pytest.mark.parametrize("distance", [0.02, 0.1, 0.3])
def test_a_gaussian_beam_widens_and_curves_as_it_should(kind, distance):
    waist, plane = 150e-6, Plane((256, 300), 8e-6)
    plan = kind(plane, distance, band=4 / (math.pi * waist), **DOUBLE)
    arrived = plan(gaussian(plane, waist))
    rayleigh = math.pi * waist**2 / WAVELENGTH
    radius, curvature = width_and_curvature(arrived, plane)
    assert radius == pytest.approx(waist * math.hypot(1, distance / rayleigh), rel=2e-4)
    assert curvature == pytest.approx(distance * (1 + (rayleigh / distance) ** 2), rel=1e-3)
    gouy = -math.atan(distance / rayleigh)
    assert float(torch.angle(arrived[128, 150])) == pytest.approx(gouy, abs=1e-4)


def test_the_transform_takes_a_gaussian_beam_onto_a_wider_plane():
    waist, near, far, distance = 100e-6, Plane((128, 128), 6e-6), Plane((180, 220), 60e-6, (1e-3, -1e-3)), 1.0
    field = gaussian(near, waist)
    arrived = FresnelTransform(near, far, distance, **DOUBLE)(field)
    rayleigh = math.pi * waist**2 / WAVELENGTH
    q = distance - 1j * rayleigh
    y, x = far.coordinates()
    expected = -1j * rayleigh / q * torch.exp(1j * K * (y[:, None].square() + x.square()) / (2 * q))
    assert (arrived / 10 - expected).abs().max() < 1e-6  # a sample is amplitude × pitch, and the pitch is ten times
    assert float(arrived.abs().square().sum() / field.abs().square().sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("profile", "kind"), [("parabolic", Fresnel), ("stigmatic", AngularSpectrum)])
def test_a_lens_makes_a_new_waist_where_the_ray_matrix_says(profile, kind):
    waist, focal, plane = 0.4e-3, 0.2, Plane((384, 384), 10e-6)
    y, x = plane.coordinates()
    lens = thin_lens(y, x, focal, wavelength=WAVELENGTH, pitch=plane.pitches, profile=profile)
    beam = gaussian(plane, waist) * lens
    inverse = 1j / (math.pi * waist**2 / WAVELENGTH) - 1 / focal
    q = 1 / inverse
    for distance in (0.1, -q.real, 0.3):
        radius, _ = width_and_curvature(kind(plane, distance, band=2e4, **DOUBLE)(beam), plane)
        at = 1 / (q + distance)
        assert radius == pytest.approx(math.sqrt(WAVELENGTH / (math.pi * at.imag)), rel=1e-3)


@pytest.mark.parametrize("kind", [AngularSpectrum, Fresnel])
@pytest.mark.parametrize("fresnel_number", [2, 5, 10])
def test_a_rectangle_diffracts_as_fresnel_s_integrals_say(kind, fresnel_number):
    """Band-limited: both sides are seen through the same soft window of frequencies; window four widths."""
    width = 1e-3
    distance = (width / 2) ** 2 / (WAVELENGTH * fresnel_number)
    samples, pitch = 1024, 4 * width / 1024
    plane = Plane((samples, samples), pitch)
    axis = grid.coordinates(samples, pitch)
    edge = ((width / 2 - axis.abs()) / pitch + 0.5).clamp(0, 1)
    arrived = kind(plane, distance, band=0.12 / pitch, **DOUBLE)(torch.outer(edge, edge).to(torch.complex128))

    root = math.sqrt(2 / (WAVELENGTH * distance))
    (s2, c2), (s1, c1) = (fresnel_integrals(root * (side * width / 2 - axis.numpy())) for side in (1, -1))
    line = ((c2 - c1) + 1j * (s2 - s1)) / (1 + 1j)
    expected = torch.tensor(np.outer(line, line))
    seen = [smooth(field) for field in (arrived, expected)]
    middle = slice(samples // 4, 3 * samples // 4)
    error = (seen[0] - seen[1])[middle, middle].abs().max() / seen[1].abs().max()
    assert error < 1e-2


def smooth(field):
    nu = torch.fft.fftfreq(len(field), dtype=torch.float64)
    window = torch.exp(-((nu / 0.1) ** 4))
    return torch.fft.ifft2(torch.fft.fft2(field) * torch.outer(window, window))


def test_a_grating_comes_back_at_talbot_s_distance():
    """Any field of period d, in Fresnel's approximation: itself at 2d²/λ, and shifted by half a period at half that."""
    period, periods = 64, 3
    plane = Plane((1, period * periods), 4e-6)
    grating = rand(1, period, seed=3).tile(1, periods)
    talbot = 2 * (period * 4e-6) ** 2 / WAVELENGTH
    image = Fresnel(plane, talbot, boundary="circular", **DOUBLE)(grating)
    torch.testing.assert_close(image, grating, rtol=0, atol=1e-10)
    half = Fresnel(plane, talbot / 2, boundary="circular", **DOUBLE)(grating)
    torch.testing.assert_close(half, grating.roll(period // 2, -1), rtol=0, atol=1e-10)
    quarter = Fresnel(plane, talbot / 4, boundary="circular", **DOUBLE)(grating)
    assert (quarter - grating).abs().max() > 0.5


def test_evanescent_waves_fade_and_never_grow():
    pitch, samples = 100e-9, 64
    plane = Plane((1, samples), pitch)
    x = torch.arange(samples, dtype=torch.float64)
    for cycles in (14, 20, 30):
        wave = torch.polar(torch.ones_like(x), 2 * math.pi * cycles * x / samples)[None]
        s = (WAVELENGTH * cycles / (samples * pitch)) ** 2
        assert s > 1
        for distance in (50e-9, -50e-9, 400e-9):
            arrived = AngularSpectrum(plane, distance, boundary="circular", **DOUBLE)(wave)
            fading = math.exp(-K * abs(distance) * math.sqrt(s - 1))
            expected = wave * fading * np.exp(-1j * K * distance)
            torch.testing.assert_close(arrived, expected, rtol=0, atol=1e-12)
    far = AngularSpectrum(plane, 10e-6, boundary="circular", **DOUBLE).transfer
    assert torch.isfinite(torch.view_as_real(far)).all()


def test_a_plane_wave_turns_by_its_own_path():
    """e^{ikz(cos θ - 1)} for a wave at θ, worked out with 50 digits."""
    from mpmath import mp, mpf

    mp.dps = 50
    samples, pitch, distance, cycles = 100, 8e-6, 0.5, 37
    wavelength, sine = mpf(WAVELENGTH), mpf(WAVELENGTH) * cycles / (samples * mpf(pitch))
    turns = mpf(distance) / wavelength * (mp.sqrt(1 - sine**2) - 1)
    expected = complex(mp.expjpi(2 * turns))
    transfer = AngularSpectrum(Plane((1, samples), pitch), distance, boundary="circular", **DOUBLE).transfer
    assert abs(complex(transfer[0, cycles]) - expected) < 1e-9


@pytest.mark.parametrize("kind", [AngularSpectrum, Fresnel])
def test_light_in_the_band_keeps_its_energy(kind):
    for dtype, tolerance in ((torch.complex128, 1e-12), (torch.complex64, 1e-5)):
        field = rand(2, 60, 64, dtype=dtype)
        plan = kind(Plane((60, 64), 8e-6), 0.03, wavelength=WAVELENGTH, boundary="circular", dtype=dtype)
        energy = [float(f.abs().square().sum()) for f in (field, plan(field))]
        assert energy[1] == pytest.approx(energy[0], rel=tolerance)


@pytest.mark.parametrize("kind", [AngularSpectrum, Fresnel])
def test_there_and_back_in_float32(kind):
    plane = Plane((256, 256), 8e-6)
    field = gaussian(plane, 200e-6).to(torch.complex64)
    there, back = (kind(plane, z, wavelength=WAVELENGTH, band=1e4) for z in (0.05, -0.05))
    assert (back(there(field)) - field).abs().max() < 2e-5
    assert there(field).dtype == torch.complex64


def test_phase_at_half_a_metre_in_float32():
    plane = Plane((256, 256), 8e-6)
    coarse, fine = (
        AngularSpectrum(plane, 0.5, wavelength=WAVELENGTH, boundary="circular", dtype=dtype)
        for dtype in (torch.complex64, torch.complex128)
    )
    difference = torch.angle(coarse.transfer.to(torch.complex128) * fine.transfer.conj())
    assert difference.abs().max() < 1e-3
    torch.testing.assert_close(coarse.to(torch.complex128).transfer, fine.transfer, rtol=0, atol=0)


def plans():
    plane, far = Plane((12, 15), 5e-6), Plane((9, 20), 7e-6, (1e-5, 0.0))
    yield from (kind(plane, z, boundary=b, **DOUBLE) for kind in (AngularSpectrum, Fresnel) for b, z in WAYS)
    yield FresnelTransform(plane, far, 3e-3, **DOUBLE)


WAYS = (("linear", 5e-4), ("circular", 0.1), ("linear", -5e-4), ("linear", 0.0))


@pytest.mark.parametrize("plan", list(plans()), ids=lambda plan: type(plan).__name__)
def test_every_plan_has_its_adjoint(plan):
    near = rand(3, 12, 15)
    far = rand(*plan(near).shape, seed=1)
    ahead, back = (far.conj() * plan(near)).sum(), (plan.adjoint(far).conj() * near).sum()
    assert abs(ahead - back) <= 1e-12 * abs(near.flatten().norm() * far.flatten().norm())
    assert plan.nbytes > 0


def test_a_field_in_a_dark_surround_does_not_come_in_again():
    """A point near the edge, far enough that its light leaves: against the same on a grid four times as wide."""
    small, wide = Plane((64, 64), 4e-6), Plane((512, 512), 4e-6)
    point = torch.zeros(64, 64, dtype=torch.complex128)
    point[32, 50:54] = point[30:34, 52] = 1
    for distance in (0.0005, 0.0015):
        near = AngularSpectrum(small, distance, **DOUBLE)(point)
        truth = AngularSpectrum(wide, distance, **DOUBLE)(torch.nn.functional.pad(point, (224, 224, 224, 224)))
        torch.testing.assert_close(near, truth[224:288, 224:288], rtol=0, atol=2e-2 * float(truth.abs().max()))
        wrapped = AngularSpectrum(small, distance, boundary="circular", **DOUBLE)(point)
        far_side = (slice(None), slice(0, 12))
        ours, theirs = ((field - truth[224:288, 224:288])[far_side].norm() for field in (near, wrapped))
        assert theirs > 5 * ours


@pytest.mark.parametrize("kind", [AngularSpectrum, Fresnel])
def test_what_leaves_the_window_is_cut_and_nothing_else(kind):
    """By hand: a wave at θ is displaced by z·tan θ (Fresnel: λzν), at most half the padded window."""
    samples, pitch, distance = 64, 1.5e-6, 1e-3
    plan = kind(Plane((samples, samples), pitch), distance, band=1e5, **DOUBLE)
    transfer = plan.transfer[0]
    padded = len(transfer)
    assert padded == 128
    nu = np.fft.fftfreq(padded, pitch)
    sine = WAVELENGTH * np.abs(nu)
    moved = distance * (np.tan(np.arcsin(sine)) if kind is AngularSpectrum else sine)
    assert 20 < (moved > padded * pitch / 2).sum() < 100
    assert np.array_equal(transfer.abs().numpy() > 0.5, moved <= padded * pitch / 2)
    assert torch.equal(plan.transfer[:, 0], transfer)
    assert transfer.abs().max() == pytest.approx(1, abs=1e-12)


def test_the_transform_is_rebuilt_and_checks_its_field():
    plan = FresnelTransform(Plane((8, 8), 5e-6), Plane((6, 6), 9e-6), 3e-3, wavelength=WAVELENGTH)
    fine = FresnelTransform(Plane((8, 8), 5e-6), Plane((6, 6), 9e-6), 3e-3, **DOUBLE)
    field = rand(8, 8)
    assert torch.equal(plan.to(torch.complex128)(field), fine(field))
    for wrong, says in ((torch.ones(1, 8), "samples"), (field, "complex128")):
        with pytest.raises(InputError, match=says):
            plan(wrong)
    with pytest.raises(InputError, match="samples"):
        plan.adjoint(torch.ones(8, 8))


def test_a_warning_points_at_the_line_that_asked():
    with pytest.warns(UserWarning) as caught:
        AngularSpectrum(Plane((64, 64), 8e-6), 0.2, wavelength=WAVELENGTH)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("kind", [AngularSpectrum, Fresnel])
def test_a_plan_lifts_a_coarser_field_to_its_own_precision(kind):
    plan, field = kind(Plane((16, 16), 8e-6), 1e-3, **DOUBLE), torch.rand(16, 16)
    assert plan(field).dtype == torch.complex128
    torch.testing.assert_close(plan(field), plan(field.double()), rtol=0, atol=1e-15)


def test_the_batch_keeps_its_order():
    plan = AngularSpectrum(Plane((16, 12), 8e-6), 1e-3, **DOUBLE)
    field, order = rand(4, 2, 16, 12), torch.tensor([2, 0, 3, 1])
    assert torch.equal(plan(field[order]), plan(field)[order])


def test_the_warning_names_values_that_are_safe():
    plane, band = Plane((128, 128), 8e-6), 3e4
    with pytest.warns(UserWarning, match=r"distance ≤ ([\d.]+) m, or ≥ (\d+) samples") as caught:
        AngularSpectrum(plane, 0.2, band=band, **DOUBLE)
    words = str(caught[0].message).replace(",", "").split()
    distance, samples = float(words[words.index("≤") + 1]), int(words[words.index("≥") + 1])
    assert distance < 0.2
    assert samples > 128
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AngularSpectrum(plane, distance * 0.999, band=band, **DOUBLE)
        AngularSpectrum(Plane((samples, samples), 8e-6), 0.2, band=band, **DOUBLE)
        AngularSpectrum(plane, 0.2, boundary="circular", **DOUBLE)
    with pytest.warns(UserWarning, match="safe"):
        AngularSpectrum(plane, distance * 1.01, band=band, **DOUBLE)


def test_where_it_warns_it_is_wrong_and_where_it_does_not_it_is_right():
    """A chirped field that really has the band: the plan against a much wider one, on both sides of the limit."""
    samples, pitch = 128, 8e-6
    axis = grid.coordinates(samples, pitch)
    band = 2.5e4
    chirp = torch.polar(torch.exp(-((axis / 2.5e-4) ** 6)), math.pi * band / 3e-4 * axis.square())
    field = torch.outer(chirp, chirp)
    errors = {}
    for distance in (0.03, 0.3):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            near = AngularSpectrum(Plane((samples, samples), pitch), distance, band=band, **DOUBLE)(field)
        wide = AngularSpectrum(Plane((1024, 1024), pitch), distance, band=band, **DOUBLE)
        truth = wide(torch.nn.functional.pad(field, (448, 448, 448, 448)))[448:576, 448:576]
        errors[bool(said)] = float((near - truth).norm() / truth.norm())
    assert errors[False] < 0.01
    assert errors[True] > 0.05


def test_the_transform_warns_where_the_wave_is_too_curved_for_the_samples():
    far, near = Plane((8, 8), 1e-4), Plane((256, 256), 8e-6)
    with pytest.warns(UserWarning, match=r"safe: distance ≥ ([\d.]+) m"):
        FresnelTransform(near, far, 0.02, wavelength=WAVELENGTH)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # the farthest places are 1.024 mm and 0.4 mm off the axis, on its two sides
        FresnelTransform(near, far, 2 * 8e-6 * 1.424e-3 / WAVELENGTH, wavelength=WAVELENGTH)
    aside = Plane((8, 8), 1e-4, (0.0, 20e-3))
    with pytest.warns(UserWarning, match="make copies"):
        FresnelTransform(near, aside, 0.1, wavelength=WAVELENGTH)


def test_a_lens_has_its_own_pupil_on_any_grid():
    """The light that passes is the disc's area, to a thousandth of it, whatever the samples; and nothing beyond."""
    for samples, pitch in ((64, 40e-6), (101, 25e-6), (400, 7e-6)):
        axis = grid.coordinates(samples, pitch)
        lens = thin_lens(axis, axis, 0.5, wavelength=WAVELENGTH, pitch=(pitch, pitch), pupil=2e-3)
        assert float(lens.abs().sum()) * pitch**2 == pytest.approx(math.pi * 1e-6, rel=1e-9)
        assert lens[0, 0] == 0


def test_the_lens_warns_where_its_phase_is_too_steep():
    axis = grid.coordinates(256, 16e-6)
    options = {"wavelength": WAVELENGTH, "pitch": (16e-6, 16e-6)}
    with pytest.warns(UserWarning, match="safe: a pitch ≤") as caught:
        thin_lens(axis, axis, 0.05, **options)
    words = str(caught[0].message).replace(",", "").split()
    numbers = [float(words[i + 1]) for i, word in enumerate(words) if word == "≤"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        thin_lens(axis, axis, 0.05, pupil=numbers[1] * 0.999, **options)
        thin_lens(axis, axis, 0.2, **options)
        fine = grid.coordinates(256, numbers[0] * 0.999)
        thin_lens(fine, fine, 0.05, wavelength=WAVELENGTH, pitch=(numbers[0], numbers[0]))


def test_lens_and_pupil_have_true_gradients():
    axis = grid.coordinates(16, 30e-6)
    focal, pupil, aside = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.3, 3.3e-4, 1e-5))

    def lens(focal, pupil, aside, profile):
        y, x = axis - aside, axis + 2 * aside
        field = thin_lens(y, x, focal, wavelength=WAVELENGTH, pitch=(30e-6, 30e-6), pupil=pupil, profile=profile)
        return torch.view_as_real(field)

    for profile in propagation.LENSES:
        for which, value, step in ((0, focal, 1e-6), (1, pupil, 1e-9), (2, aside, 1e-10)):
            given = [focal, pupil, aside]
            weight = rand(16, 16, 2, dtype=torch.float64)
            (slope,) = torch.autograd.grad((lens(*given, profile) * weight).sum(), value)
            ends = []
            for sign in (1, -1):
                moved = [v.detach() + (sign * step if i == which else 0) for i, v in enumerate(given)]
                ends.append(float((lens(*moved, profile) * weight).sum()))
            assert float(slope) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4)


def test_propagation_is_differentiable():
    plane = Plane((5, 4), 5e-6)
    field = rand(5, 4).requires_grad_()
    for plan in (AngularSpectrum(plane, 1e-4, **DOUBLE), Fresnel(plane, 1e-4, **DOUBLE)):
        assert torch.autograd.gradcheck(plan, field)
    assert torch.autograd.gradcheck(FresnelTransform(plane, Plane((3, 3), 9e-6), 1e-3, **DOUBLE), field)


def test_the_working_plane_holds_all_the_light():
    plane = working_plane((1e-3, 5e-4), 0.1, wavelength=WAVELENGTH, band=2e4)
    assert plane.pitch == 25e-6
    assert plane.size[0] * 25e-6 >= 1e-3 + 2 * 0.1 * WAVELENGTH * 2e4
    assert plane.size[0] <= 140
    y, x = plane.coordinates()
    field = torch.exp(-((y / 2e-4) ** 2))[:, None] * torch.exp(-((x / 1e-4) ** 2)) + 0j
    wide = Plane(tuple(3 * n for n in plane.size), 25e-6)
    arrived = AngularSpectrum(plane, 0.1, boundary="circular", **DOUBLE)(field)
    pad = [
        n
        for size in reversed(plane.size)
        for n in ((3 * size) // 2 - size // 2, 3 * size - size - (3 * size // 2 - size // 2))
    ]
    truth = AngularSpectrum(wide, 0.1, boundary="circular", **DOUBLE)(torch.nn.functional.pad(field, pad))
    inside = tuple(slice((3 * n) // 2 - n // 2, (3 * n) // 2 - n // 2 + n) for n in plane.size)
    torch.testing.assert_close(arrived, truth[inside], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: AngularSpectrum(Plane((64, 64), 8e-6), 1e4, wavelength=WAVELENGTH), "FresnelTransform"),
        (lambda: AngularSpectrum(Plane((64, 64), 8e-6), math.nan, wavelength=WAVELENGTH), "distance"),
        (lambda: AngularSpectrum(Plane((64, 64), 8e-6), 0.1, wavelength=-1.0), "wavelength"),
        (lambda: AngularSpectrum(Plane((64, 64), 0.0), 0.1, wavelength=WAVELENGTH), "pitch"),
        (lambda: AngularSpectrum(Plane((64, 64), 8e-6), 0.1, wavelength=WAVELENGTH, dtype=torch.float32), "complex"),
        (lambda: AngularSpectrum(Plane((64, 64), 8e-6), 1e-3, wavelength=WAVELENGTH)(torch.ones(3, 3)), "samples"),
        (lambda: Fresnel(Plane((64, 64), 8e-6), 0.1, wavelength=WAVELENGTH, boundary="dark"), "boundary"),
        (lambda: Fresnel(Plane((4, 4), 8e-6), 0, wavelength=WAVELENGTH)(torch.ones(4, 4).double()), "complex128"),
        (lambda: FresnelTransform(Plane((4, 4), 8e-6), Plane((4, 4), 8e-6), 0.0, wavelength=WAVELENGTH), "distance"),
        (lambda: AngularSpectrum(Plane((4, 4), 8e-6), "10 km", wavelength=WAVELENGTH), "distance"),
        (lambda: thin_lens(torch.ones(2), torch.ones(2), "100 mm", wavelength=1e-6, pitch=(1, 1)), "focal_length"),
        (lambda: thin_lens(torch.ones(2), torch.ones(2), 0.0, wavelength=1e-6, pitch=(1, 1)), "focal length"),
        (lambda: thin_lens(torch.ones(2), torch.ones(2), 1.0, wavelength=1e-6, pitch=(1, 1), pupil=-1), "pupil"),
        (lambda: working_plane((1e-3, 1e-3), 0.1, wavelength=WAVELENGTH, band=2e6), "travel"),
    ],
)
def test_what_no_grid_can_carry_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()
