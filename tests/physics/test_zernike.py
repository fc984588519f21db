"""Zernike polynomials against their definitions: factorials, both numberings' tables, and integrals over the disc."""

import math

import numpy as np
import pytest
import torch

from fouroptics.errors import InputError
from fouroptics.optics import aberration

NOLL = {1: (0, 0), 2: (1, 1), 3: (1, -1), 4: (2, 0), 5: (2, -2), 6: (2, 2), 7: (3, -1), 8: (3, 1), 9: (3, -3)} | {
    10: (3, 3), 11: (4, 0), 12: (4, 2), 13: (4, -2), 14: (4, 4), 15: (4, -4), 16: (5, 1), 17: (5, -1), 18: (5, 3),
    19: (5, -3), 20: (5, 5), 21: (5, -5), 22: (6, 0),
}  # fmt: skip
OSA = {0: (0, 0), 1: (1, -1), 2: (1, 1), 3: (2, -2), 4: (2, 0), 5: (2, 2), 6: (3, -3), 7: (3, -1), 12: (4, 0)}


def quadrature(radial=40, around=96):
    """Points and weights that integrate polynomials over the unit disc exactly (mean over the disc)."""
    nodes, weights = np.polynomial.legendre.leggauss(radial)
    rho, w = np.sqrt((nodes + 1) / 2), weights / 2
    theta = 2 * np.pi * np.arange(around) / around
    x, y = np.outer(rho, np.cos(theta)), np.outer(rho, np.sin(theta))
    return torch.tensor(y), torch.tensor(x), torch.tensor(np.repeat(w[:, None] / around, around, 1))


def factorials(n, m, rho):
    m = abs(m)
    return sum(
        (-1) ** k
        * math.factorial(n - k)
        / (math.factorial(k) * math.factorial((n + m) // 2 - k) * math.factorial((n - m) // 2 - k))
        * rho ** (n - 2 * k)
        for k in range((n - m) // 2 + 1)
    )


def test_the_numberings_are_those_of_the_tables():
    assert {j: aberration.noll(j) for j in NOLL} == NOLL
    assert {j: aberration.osa(j) for j in OSA} == OSA
    pairs = {aberration.osa(j) for j in range(66)}
    assert pairs == {aberration.noll(j) for j in range(1, 67)}
    assert len(pairs) == 66


def test_modes_are_orthonormal_over_the_disc():
    y, x, weight = quadrature()
    modes = torch.stack([aberration.zernike(*aberration.noll(j), y, x).flatten() for j in range(1, 67)])
    gram = (modes * weight.flatten()) @ modes.T
    torch.testing.assert_close(gram, torch.eye(66, dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_high_mode_keeps_its_digits():
    y, x, weight = quadrature(radial=100, around=200)
    mode = aberration.zernike(44, 10, y, x)
    assert abs(float((weight * mode.square()).sum()) - 1) < 1e-10


@pytest.mark.parametrize("index", range(1, 37))
def test_modes_are_what_factorials_and_angles_say(index):
    n, m = aberration.noll(index)
    y, x = torch.tensor([[0.3], [-0.6], [0.0]], dtype=torch.float64), torch.tensor([0.2, -0.5], dtype=torch.float64)
    rho, theta = np.hypot(y.numpy(), x.numpy()), np.arctan2(y.numpy(), x.numpy())
    around = 1.0 if m == 0 else math.sqrt(2) * (np.cos(m * theta) if m > 0 else np.sin(-m * theta))
    expected = math.sqrt(n + 1) * factorials(n, m, rho) * around
    assert np.abs(aberration.zernike(n, m, y, x).numpy() - expected).max() < 1e-12


def test_metres_and_waves_are_the_same_wavefront():
    axis = torch.linspace(-1e-3, 1e-3, 9, dtype=torch.float64)
    metres = aberration.delayed(aberration.wavefront(axis, axis, {4: 53.2e-9, 8: 26.6e-9}, 2e-3), 532e-9)
    waves = aberration.delayed(aberration.wavefront(axis, axis, {4: 0.1, 7: 0.05}, 2e-3, index="osa"), 1.0)
    osa_coma_x = aberration.delayed(aberration.wavefront(axis, axis, {4: 0.1, 8: 0.05}, 2e-3, index="osa"), 1.0)
    torch.testing.assert_close(metres, osa_coma_x, rtol=0, atol=1e-12)
    assert (metres - waves).abs().max() > 0.1  # OSA 7 is the other coma


def test_coefficients_and_diameter_have_true_gradients():
    axis = torch.linspace(-1, 1, 7, dtype=torch.float64)
    given = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.1, -0.2, 0.05, 2.2)]

    def field(a, b, c, diameter):
        return torch.view_as_real(
            aberration.delayed(aberration.wavefront(axis, axis, {4: a, 7: b, 22: c}, diameter), 1.0)
        )

    assert torch.autograd.gradcheck(field, given)


@pytest.mark.parametrize(
    "call",
    [
        lambda: aberration.noll(0),
        lambda: aberration.osa(-1),
        lambda: aberration.zernike(3, 2, torch.zeros(1), torch.zeros(1)),
        lambda: aberration.wavefront(torch.zeros(2), torch.zeros(2), {4: 0.1}, 0.0),
        lambda: aberration.wavefront(torch.zeros(2), torch.zeros(2), {4: 0.1}, 1.0, index="fringe"),
    ],
)
def test_what_cannot_be_is_refused(call):
    with pytest.raises(InputError):
        call()
