import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fouroptics.optics import grid


def test_coordinates_put_the_axis_where_the_conventions_say():
    assert grid.coordinates(4, 2.0).tolist() == [-4, -2, 0, 2]
    assert grid.coordinates(5, 1.0).tolist() == [-2, -1, 0, 1, 2]
    assert grid.coordinates(4, 2.0, centre="panel").tolist() == [-3, -1, 1, 3]
    assert grid.coordinates(3, 1.0, offset=0.25).tolist() == [-0.75, 0.25, 1.25]


@given(st.integers(1, 3000))
def test_smooth_sizes_by_exhaustion(n):
    def primes(size):
        factor = 2
        while size > 1:
            while size % factor == 0:
                yield factor
                size //= factor
            factor += 1

    size = grid.smooth_size(n)
    assert size >= n
    assert all(p <= 7 for p in primes(size))
    assert all(max(primes(between), default=1) > 7 for between in range(n, size))


def test_bin_width_by_hand():
    # 532 nm · 250 mm / (100 · 16 µm) = 83.125 µm
    assert grid.fourier_pitch(532e-9, 0.25, 100, 16e-6) == pytest.approx(83.125e-6)


@given(st.integers(1, 9), st.integers(1, 9))
def test_a_turn_is_point_reflection_about_the_axis(height, width):
    field = torch.arange(height * width, dtype=torch.float64).reshape(height, width)
    turned = grid.turn(field)
    for y in range(height):
        for x in range(width):
            opposite = (2 * (height // 2) - y) % height, (2 * (width // 2) - x) % width
            assert turned[y, x] == field[opposite]
    in_fft_order = grid.to_fft_order(turned)
    start = grid.to_fft_order(field)
    for n in range(height):
        assert torch.equal(in_fft_order[n, 0], start[(height - n) % height, 0])


def test_shifts_leave_the_batch_alone():
    field = torch.rand(3, 4, 5, 6)
    assert torch.equal(grid.to_fft_order(field)[1, 2], grid.to_fft_order(field[1, 2]))
    assert torch.equal(grid.to_centred(grid.to_fft_order(field)), field)
