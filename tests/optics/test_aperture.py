import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fouroptics.errors import InputError
from fouroptics.optics import aperture, grid


def axes(height, width, pitch=(1.0, 1.0)):
    return grid.coordinates(height, pitch[0]), grid.coordinates(width, pitch[1])


@given(st.floats(0.1, 9.0))
def test_square_has_the_area_of_a_square(width):
    y, x = axes(20, 21, (0.7, 0.9))
    assert aperture.square(y, x, width, pitch=(0.7, 0.9)).sum() * 0.63 == pytest.approx(width**2)


def test_circle_has_the_area_of_a_circle_and_of_its_segments():
    y, x = axes(64, 64)
    disc = aperture.circular(y, x, 50.0, pitch=(1.0, 1.0))
    assert disc.sum().item() == pytest.approx(math.pi * 25**2, rel=1e-12)
    # the segment beyond x = 20.5: r² acos(d/r) - d √(r² - d²)
    segment = 625 * math.acos(20.5 / 25) - 20.5 * math.sqrt(625 - 20.5**2)
    assert disc[:, x > 20.5].sum().item() == pytest.approx(segment, rel=1e-10)
    assert disc.min() == 0
    assert disc.max().item() == pytest.approx(1, abs=1e-12)


def test_one_cell_cut_by_a_circle_by_hand():
    # a quarter disc of radius 1 in the unit cell centred on (½, ½) covers π/4
    cell = aperture.circular(torch.tensor([0.5]).double(), torch.tensor([0.5]).double(), 2.0, pitch=(1.0, 1.0))
    assert cell.item() == pytest.approx(math.pi / 4, rel=1e-12)


def test_ring_is_disc_less_disc_and_refuses_the_impossible():
    y, x = axes(32, 32)
    ring = aperture.annular(y, x, 20.0, 10.0, pitch=(1.0, 1.0))
    assert ring.sum().item() == pytest.approx(math.pi * (100 - 25), rel=1e-12)
    with pytest.raises(InputError, match="larger than the outer"):
        aperture.annular(y, x, 10.0, 20.0, pitch=(1.0, 1.0))


def test_arbitrary_shape_is_the_mean_over_the_cell():
    y, x = axes(8, 8)
    below = aperture.arbitrary(y, x, lambda y, x: y + 0.318 * x <= 0.1, pitch=(1.0, 1.0), oversample=32)
    # under the line y = 0.1 - 0.318 x in the box [-4.5, 3.5]²: 4.6 · 8 + 0.318 · 4
    assert below.sum().item() == pytest.approx(36.8 + 1.272, rel=1e-3)
    assert below[0, 0] == 1


@pytest.mark.parametrize("n", [8, 9])
def test_a_stop_as_wide_as_the_band_passes_all_of_it(n):
    assert torch.equal(aperture.stop((n, n), (2.0, 2.0), n * 2.0), torch.ones(n, n, dtype=torch.float64))
    nearly = aperture.stop((n, n), (2.0, 2.0), (n - 1) * 2.0)
    assert nearly[0, 0] == 1
    assert nearly.min() < 1


def test_stop_shapes_differ():
    square, disc = (aperture.stop((16, 16), (1.0, 1.0), 8.0, shape=s) for s in ("square", "circular"))
    assert square.sum().item() == pytest.approx(64)
    assert disc.sum().item() == pytest.approx(16 * math.pi, rel=1e-12)


def test_gradients_to_sizes():
    y, x = axes(7, 6)
    width = torch.tensor(3.3, dtype=torch.float64, requires_grad=True)
    check = torch.autograd.gradcheck
    assert check(lambda w: aperture.square(y, x, w, pitch=(1.0, 1.0)), width)
    assert check(lambda w: aperture.circular(y, x, w, pitch=(1.0, 1.0)).sum(), width)
    assert check(lambda w: aperture.annular(y, x, w + 2, w, pitch=(1.0, 1.0)).sum(), width)
    assert check(lambda w: aperture.stop((7, 6), (1.0, 1.0), w), width)

    def soft(width):
        return aperture.arbitrary(y, x, lambda y, x: torch.sigmoid(width - y.abs() - x.abs()), pitch=(1.0, 1.0))

    assert check(soft, width)
    area = aperture.circular(y, x, width, pitch=(1.0, 1.0)).sum()
    (slope,) = torch.autograd.grad(area, width)
    assert slope.item() == pytest.approx(math.pi * 3.3 / 2, rel=1e-12)  # d(πd²/4)/dd
