"""Light at a lens's focus against closed forms: Airy, Dirichlet, sinc, Strehl, and which way a tilt sends it."""

import math

import numpy as np
import pytest
import torch
from scipy.special import j1

from fouroptics.optics import aberration, aperture, fourier, grid
from fouroptics.optics.fourier import MatrixFT, Plane

WAVELENGTH, F = 532e-9, 0.25


def focus(pupil, pitch, far):
    near = Plane(pupil.shape, pitch)
    return MatrixFT(near, far, wavelength=WAVELENGTH, focal_length=F, dtype=torch.complex128)(pupil)


@pytest.mark.parametrize(("samples", "diameter"), [(1000, 6e-3), (1024, 4e-3)])
def test_a_round_opening_makes_the_airy_pattern(samples, diameter):
    pitch = 1.02 * diameter / samples
    axis = grid.coordinates(samples, pitch)
    pupil = aperture.circular(axis, axis, diameter, pitch=(pitch, pitch))
    step = 0.2 * WAVELENGTH * F / diameter
    far = Plane((1, 201), step)
    spot = focus(pupil, pitch, far)[0]
    along = far.coordinates()[1].numpy()
    v = np.pi * diameter * along / (WAVELENGTH * F)
    airy = np.where(v == 0, 1.0, 2 * j1(v) / np.where(v == 0, 1, v))
    peak = math.pi * diameter**2 / 4 * step / (pitch * WAVELENGTH * F)  # area of the opening, as the plan counts light
    assert np.abs(along).max() >= 19.9 * WAVELENGTH * F / diameter
    assert np.abs(spot.numpy() / peak - airy).max() <= 1e-5
    assert airy[100] == 1
    assert abs(float(spot[100].real) / peak - 1) <= 1e-5


def test_a_row_of_samples_makes_a_dirichlet_kernel():
    samples, lit, pitch = 256, 101, 8e-6
    pupil = torch.zeros(samples, samples, dtype=torch.float64)
    middle = samples // 2
    pupil[middle - 50 : middle + 51, middle - 50 : middle + 51] = 1
    spectrum = grid.to_centred(fourier.lens_ft(pupil.to(torch.complex128)))
    nu = np.arange(-middle, middle) / samples
    with np.errstate(invalid="ignore"):
        dirichlet = np.where(nu == 0, lit, np.sin(np.pi * lit * nu) / np.sin(np.pi * nu))
    expected = np.outer(dirichlet, dirichlet) / samples
    assert np.abs(spectrum.numpy() - expected).max() <= 1e-12 * lit**2
    far = Plane((samples, samples), grid.fourier_pitch(WAVELENGTH, F, samples, pitch))
    assert np.abs(focus(pupil, pitch, far).numpy() - expected).max() <= 1e-11 * lit**2


def test_a_wide_finely_sampled_opening_makes_a_sinc():
    width, samples = 4e-3, 4000
    pitch = width / samples
    step = 0.25 * WAVELENGTH * F / width
    far = Plane((1, 41), step)
    spot = focus(torch.ones(samples, samples, dtype=torch.float64), pitch, far)[0].abs().numpy()
    sinc = np.abs(np.sinc(width * far.coordinates()[1].numpy() / (WAVELENGTH * F)))
    assert np.abs(spot / spot.max() - sinc).max() <= 1e-5


@pytest.mark.parametrize("index", [4, 5, 7, 11, 22])
@pytest.mark.parametrize("rms", [0.1, 0.3])
def test_strehl_of_a_small_error_is_exp_minus_its_variance(index, rms):
    """Every Zernike mode from the fourth on: |⟨e^{iφ}⟩|² against e^{-σ²}, for a mix of two modes as well."""
    samples = 800
    axis = grid.coordinates(samples, 1 / samples)
    disc = aperture.circular(axis, axis, 1.0, pitch=(1 / samples, 1 / samples))
    waves = {index: rms / (2 * math.pi) * 0.8, 6: rms / (2 * math.pi) * 0.6}
    pupil = disc * aberration.delayed(aberration.wavefront(axis, axis, waves, 1.0), 1.0)
    strehl = float((pupil.sum() / disc.sum()).abs() ** 2)
    assert abs(strehl * math.exp(rms**2) - 1) <= 1e-3


@pytest.mark.parametrize(("index", "down", "along"), [(2, 0, 1), (3, 1, 0)])
def test_a_tilt_moves_the_spot_towards_the_longer_path(index, down, along):
    """W = a·Z with Z = 2·x/R tilts by 2a/R, so the spot stands f·2a/R off the axis, on the side of the delay."""
    samples, diameter, a = 400, 4e-3, 0.8e-6
    pitch = diameter / samples
    axis = grid.coordinates(samples, pitch)
    disc = aperture.circular(axis, axis, diameter, pitch=(pitch, pitch))
    tilted = disc * aberration.delayed(aberration.wavefront(axis, axis, {index: a}, diameter), WAVELENGTH)
    step = 2e-6
    spot = focus(tilted, pitch, Plane((301, 301), step)).abs()
    peak = divmod(int(spot.argmax()), 301)
    moved = F * 2 * a / (diameter / 2) / step
    assert (peak[0] - 150, peak[1] - 150) == (round(moved * down), round(moved * along))
    assert moved == 100
