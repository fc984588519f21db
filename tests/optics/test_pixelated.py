"""The spread of a mask of pixels against integrals over its pixels, gratings in closed form, and rasters."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fouroptics as fo
from fouroptics.optics.pixelated import PixelImage, PixelSpread, pixel_frequencies, spread_transfer


def rand(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def phasors(*shape, seed=0):
    return torch.polar(rand(*shape, seed=seed), 2 * math.pi * rand(*shape, seed=seed + 1))


def double(*arguments, **options):
    return PixelSpread(*arguments, dtype=torch.complex128, **options)


def integrated(count, pitch, side, x):
    """∫ e^{i2πνx} over ``side`` of each pixel by Gauss and Legendre, [x, pixels]: no sinc."""
    points, weights = (torch.tensor(one) / 2 for one in np.polynomial.legendre.leggauss(40))
    centres = [(j - count / 2 + 0.5) * pitch for j in range(count)]
    nu = torch.tensor(centres, dtype=torch.float64)[:, None] + points * side
    waves = torch.exp(2j * math.pi * x[:, None, None] * nu)
    return (waves * weights * side).sum(-1)


@given(
    count=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    pitch=st.floats(0.01, 0.3),
    fill=st.floats(0.05, 1),
    leak=st.sampled_from([0.0, 0.3, 1.0]),
    rows=st.lists(st.floats(-40, 40), min_size=1, max_size=3),
    columns=st.lists(st.floats(-40, 40), min_size=1, max_size=3),
    reach=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_spread_is_the_integral_over_pixels_and_gaps(count, pitch, fill, leak, rows, columns, reach):
    mask, over = phasors(2, *count), phasors(*count, seed=5)
    plan = double(count, pitch, tuple(rows), tuple(columns), reach, fill_factor=fill, leak=leak, over=over)
    seen = plan(mask)
    assert seen.shape == (2, len(rows), len(columns), 2 * reach[0] + 1, 2 * reach[1] + 1)
    side = math.sqrt(fill) * pitch
    for r, row in enumerate(rows):
        for c, column in enumerate(columns):
            y, x = (
                torch.arange(-n, n + 1, dtype=torch.float64) + place
                for n, place in zip(reach, (row, column), strict=True)
            )
            clear = integrated(count[0], pitch, side, y) @ (mask - leak * over) @ integrated(count[1], pitch, side, x).T
            whole = integrated(count[0], pitch, pitch, y) @ (leak * over) @ integrated(count[1], pitch, pitch, x).T
            torch.testing.assert_close(seen[:, r, c], clear + whole, rtol=0, atol=1e-10)


def test_what_lies_over_the_gaps_is_clear_unless_told():
    options = {"fill_factor": 0.8, "leak": 0.5}
    bare, told = (
        double((4, 6), 0.1, (0.0,), (3.0,), (2, 2), over=over, **options) for over in (None, torch.ones(1, 1))
    )
    mask = phasors(4, 6)
    torch.testing.assert_close(bare(mask), told(mask), rtol=0, atol=1e-14)
    shut = double((4, 6), 0.1, (0.0,), (3.0,), (2, 2), over=torch.zeros(4, 6), **options)
    tight = double((4, 6), 0.1, (0.0,), (3.0,), (2, 2), fill_factor=0.8)
    torch.testing.assert_close(shut(mask), tight(mask), rtol=0, atol=1e-14)
    assert (bare(mask) - tight(mask)).abs().max() > 1e-3
    each = torch.stack((torch.ones(4, 6), torch.zeros(4, 6)))  # two masks, each with its own
    apart = double((4, 6), 0.1, (0.0,), (3.0,), (2, 2), over=each, **options)(torch.stack((mask, mask)))
    torch.testing.assert_close(apart, torch.stack((bare(mask), tight(mask))), rtol=0, atol=1e-14)


@pytest.mark.parametrize("levels", [2, 4, 8, 16])
@pytest.mark.parametrize("pixels", [1, 3])
def test_a_blaze_of_n_steps_sends_sinc_squared_to_its_order(levels, pixels):
    """Periods of N steps of some pixels each, in x: the first order, and the others that an N-step blaze has."""
    periods = 6
    count = periods * levels * pixels
    pitch = 1 / count  # the mask fills the band, so a clear one sends 1 to the axis
    step = (torch.arange(count) // pixels % levels).double()
    blaze = torch.polar(torch.ones(count).double(), -2 * math.pi * step / levels).expand(8, count)
    plan = double(
        (8, count), pitch, (0.0,), tuple(float(order * periods) for order in range(-levels, levels + 2)), (0, 0)
    )
    height = 8 * pitch  # along y it is even
    power = plan(blaze)[0, :, 0, 0].abs().square() / height**2
    first = math.sin(math.pi / levels) / (math.pi / levels)
    assert power[levels + 1].item() == pytest.approx(first**2, rel=1e-12)
    for place, order in enumerate(range(-levels, levels + 2)):
        there = (order - 1) % levels == 0
        wanted = (math.sin(math.pi * order / levels) / (math.pi * order / levels)) ** 2 if there else 0.0
        assert power[place].item() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("fill", [0.93, 0.5])
@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_a_blank_mask_keeps_its_fill_factor_and_gaps_leave_a_copy_on_the_axis(fill, leak):
    """Useful power F²; light in the gaps, (1 - F)·r, stays on the axis when a carrier takes the rest away."""
    n = 32
    places = (0.0, 8.0)  # the axis, and a carrier of four pixels
    plan = double((n, n), 1 / n, (0.0,), places, (0, 0), fill_factor=fill, leak=leak)
    flat = torch.ones(n, n, dtype=torch.complex128)
    assert plan(flat)[0, 0].item() == pytest.approx(fill + (1 - fill) * leak, rel=1e-12)
    assert double((n, n), 1 / n, (0.0,), places, (0, 0), fill_factor=fill)(flat)[0, 0].abs().square().item() == (
        pytest.approx(fill**2)
    )
    steer = torch.polar(*torch.broadcast_tensors(torch.ones(n, 1).double(), -math.pi / 2 * torch.arange(n).double()))
    axis, order = plan(steer)[0, :, 0, 0]
    assert abs(axis.item()) == pytest.approx((1 - fill) * leak, abs=1e-12)
    quarter = math.pi * math.sqrt(fill) / 4  # the order's angle over the clear side; the leak is even and not there
    assert abs(order.item()) == pytest.approx(fill * math.sin(quarter) / quarter, rel=1e-12)


def test_a_mask_that_fills_the_band_has_taps_for_its_spread():
    """t = Σ k(m) e^{i2πνm} at the pixels' centres gives k back, over the pixel's own sinc."""
    kernel = phasors(5, 5, seed=3)
    n, m = 40, torch.arange(-2, 3, dtype=torch.float64)
    waves = torch.exp(2j * math.pi * pixel_frequencies(n, 1 / n)[:, None] * m)
    seen = double((n, n), 1 / n, (0.0,), (0.0,), (2, 2))(waves @ kernel @ waves.T)[0, 0]
    dimmed = torch.sinc(m / n)
    torch.testing.assert_close(seen, (kernel * torch.outer(dimmed, dimmed)).flip(0, 1), rtol=0, atol=1e-12)


@given(st.tuples(st.integers(1, 6), st.integers(1, 6)), st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_adjoint_and_memory(count, reach):
    plan = double(count, 0.07, (-3.0, 0.5), (1.0,), reach, fill_factor=0.7)
    mask = phasors(3, *count)
    light = phasors(*plan(mask).shape, seed=7)
    forward, back = (plan(mask).conj() * light).sum(), (mask.conj() * plan.adjoint(light)).sum()
    assert abs((forward - back).item()) < 1e-12 * max(1.0, abs(forward.item()))
    assert plan.nbytes == 16 * (2 * (2 * reach[0] + 1) * count[0] + (2 * reach[1] + 1) * count[1])


def test_spread_and_its_gradient_in_both_precisions():
    mask = phasors(2, 5, 4).requires_grad_()
    plan = double((5, 4), 0.11, (0.0, 9.0), (-4.0,), (1, 2), fill_factor=0.9, leak=0.2)
    assert torch.autograd.gradcheck(plan, (mask,))
    coarse = PixelSpread((5, 4), 0.11, (0.0, 9.0), (-4.0,), (1, 2), fill_factor=0.9, leak=0.2)
    seen = coarse(mask.detach())
    assert seen.dtype == torch.complex64
    assert (seen - plan(mask.detach())).abs().max() < 1e-6
    far = PixelSpread((1000, 1), 1e-3, (400_000.0,), (0.0,), (0, 0))  # phases of many turns
    exact = double((1000, 1), 1e-3, (400_000.0,), (0.0,), (0, 0))
    tall = phasors(1000, 1)
    assert (far(tall.to(torch.complex64)) - exact(tall)).abs().max() < 1e-8
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(coarse(mask.detach()), seen)


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3), st.integers(0, 3))
def test_transfer_function_is_the_plain_sum(down, along, more_y, more_x):
    spread = phasors(2, 2 * down + 1, 2 * along + 1)
    size = 2 * down + 1 + more_y, 2 * along + 1 + more_x
    wanted = torch.zeros(2, *size, dtype=torch.complex128)
    for y in range(-down, down + 1):
        for x in range(-along, along + 1):
            rows, columns = (
                torch.exp(-2j * math.pi * torch.arange(n, dtype=torch.float64) * at / n)
                for n, at in zip(size, (y, x), strict=True)
            )
            wanted += spread[:, down + y, along + x, None, None] * rows[:, None] * columns
    torch.testing.assert_close(spread_transfer(spread, size), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("fill", "leak"), [(1.0, 0.0), (0.64, 0.0), (0.64, 0.5)])
def test_image_of_pixels_is_a_finely_rastered_panel_cut_off_at_the_grid_s_limit(fill, leak):
    """By FFT: 400 raster cells a period of the grid's 40 samples, the panel's edges on the raster's lines."""
    count, size, fine = (3, 4), (40, 40), 4000
    pitch, side = 200, round(200 * math.sqrt(fill))  # raster cells
    mask, over = phasors(*count), phasors(*count, seed=4)
    step = 0.05 / 200 * fine / size[0]  # pixels are 0.05 cycles a sample
    plan = PixelImage(count, 0.05, size, (step, step), fill_factor=fill, leak=leak, over=over, dtype=torch.complex128)
    cells = [torch.zeros(fine, n, dtype=torch.complex128) for n in count]
    whole = [torch.zeros(fine, n, dtype=torch.complex128) for n in count]
    for dim, n in enumerate(count):
        for j in range(n):
            middle = fine // 2 + round((j - (n - 1) / 2) * pitch)
            cells[dim][middle - side // 2 : middle + side // 2, j] = 1
            whole[dim][middle - pitch // 2 : middle + pitch // 2, j] = 1

    def resolved(rows):
        """Cell averages → samples, cut off at half the grid's rate; the raster's own half cell put right."""
        waves = torch.fft.fft(rows.roll(-fine // 2, 0), dim=0)
        nu = torch.fft.fftfreq(fine, 1 / fine, dtype=torch.float64)
        waves = waves * torch.exp(-1j * math.pi * nu / fine)[:, None] / torch.sinc(nu / fine)[:, None]
        waves = waves * torch.sinc(nu / fine)[:, None] ** 2  # of a sum over cells: the integral over each
        kept = torch.cat((waves[: size[0] // 2], waves[-size[0] // 2 :]))
        return torch.fft.ifft(kept, dim=0) * size[0] / fine

    wanted = resolved(cells[0]) @ (mask - leak * over) @ resolved(cells[1]).T
    wanted = wanted + resolved(whole[0]) @ (leak * over) @ resolved(whole[1]).T
    seen = plan(mask)
    assert (seen - wanted).abs().max() < 2e-3 * wanted.abs().max()


def test_image_s_mean_is_the_light_that_the_panel_passes():
    mask = phasors(6, 5)
    seen = PixelImage((6, 5), 0.02, (24, 30), (0.01, 0.01), fill_factor=0.49, dtype=torch.complex128)(mask)
    torch.testing.assert_close(seen.sum() * 0.01**2, mask.sum() * 0.49 * 0.02**2, rtol=0, atol=1e-14)


def test_pixels_are_centred_on_the_axis():
    assert pixel_frequencies(4, 0.5).tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert pixel_frequencies(3, 0.5).tolist() == [-0.5, 0.0, 0.5]


def test_what_does_not_fit_is_refused():
    plan = PixelSpread((4, 4), 0.1, (0.0,), (0.0,), (1, 1))
    with pytest.raises(fo.InputError, match=r"4, 4.*4, 5"):
        plan(torch.ones(2, 4, 5, dtype=torch.complex64))
    with pytest.raises(fo.InputError, match="do not fit"):
        spread_transfer(torch.ones(3, 5, dtype=torch.complex64), (3, 4))
