import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from fouroptics.errors import InputError
from fouroptics.optics import aperture, combine, fourier, grid

WAVELENGTH, FOCAL = 532e-9, 0.1
SIZES = st.integers(1, 17)
REALS = [torch.float32, torch.float64]


def rand_complex(*shape, dtype=torch.complex128, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def inner(a, b):
    return (a.conj() * b).sum()


def direct_lens(field, pitch, far_y, far_x):
    """The Fourier integral of a lens as a plain sum, axis on sample N // 2."""
    height, width = field.shape
    y = (torch.arange(height, dtype=torch.float64) - height // 2) * pitch
    x = (torch.arange(width, dtype=torch.float64) - width // 2) * pitch
    out = torch.zeros(len(far_y), len(far_x), dtype=torch.complex128)
    for i, fy in enumerate(far_y):
        for j, fx in enumerate(far_x):
            wave = torch.exp(-2j * math.pi * (y[:, None] * fy + x[None, :] * fx) / (WAVELENGTH * FOCAL))
            out[i, j] = (field * wave).sum()
    return out


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (6, 11), (1, 5)])
def test_lens_is_the_fourier_sum_about_the_axis(size):
    field, pitch = rand_complex(*size), 10e-6
    spectrum = fourier.lens_ft(field)
    y, x = (torch.fft.fftfreq(n, dtype=torch.float64) * WAVELENGTH * FOCAL / pitch for n in size)
    expected = direct_lens(field, pitch, y, x) / math.sqrt(math.prod(size))
    torch.testing.assert_close(spectrum, expected, rtol=0, atol=1e-12)


def matched(size, pitch, **options):
    """A matrix transform whose far samples are the FFT's bins."""
    far = tuple(WAVELENGTH * FOCAL / (n * pitch) for n in size)
    return fourier.MatrixFT(
        fourier.Plane(size, pitch),
        fourier.Plane(size, far),
        wavelength=WAVELENGTH,
        focal_length=FOCAL,
        **options,
    )


@given(SIZES, SIZES)
def test_matrix_ft_is_the_fft_at_the_matched_pitch(height, width):
    field = rand_complex(2, height, width)
    plan = matched((height, width), 8e-6, dtype=torch.complex128)
    expected = grid.to_centred(fourier.lens_ft(field))
    torch.testing.assert_close(plan(field), expected, rtol=0, atol=1e-10)


def test_matrix_ft_any_pitch_size_and_offset_against_the_plain_sum():
    field, pitch = rand_complex(6, 5), 10e-6
    far = fourier.Plane((4, 7), (3e-4, 2e-4), offset=(1e-4, -2e-4), centre="panel")
    plan = fourier.MatrixFT(
        fourier.Plane((6, 5), pitch), far, wavelength=WAVELENGTH, focal_length=FOCAL, dtype=torch.complex128
    )
    y = (torch.arange(4, dtype=torch.float64) - 1.5) * 3e-4 + 1e-4
    x = (torch.arange(7, dtype=torch.float64) - 3.0) * 2e-4 - 2e-4
    scale = math.sqrt(pitch * pitch * 3e-4 * 2e-4) / (WAVELENGTH * FOCAL)
    torch.testing.assert_close(plan(field), direct_lens(field, pitch, y, x) * scale, rtol=0, atol=1e-12)


@pytest.mark.parametrize("near", [(8, 8), (7, 5), (6, 9)])
@pytest.mark.parametrize("far", [(8, 8), (3, 11), (20, 4)])
def test_adjoints_by_dot_product(near, far):
    plan = fourier.MatrixFT(
        fourier.Plane(near, 9e-6),
        fourier.Plane(far, 1.1e-4),
        wavelength=WAVELENGTH,
        focal_length=FOCAL,
        dtype=torch.complex128,
    )
    x, y = rand_complex(2, *near), rand_complex(2, *far, seed=1)
    torch.testing.assert_close(inner(y, plan(x)), inner(plan.adjoint(y), x), rtol=1e-10, atol=1e-10)


@given(SIZES, SIZES)
def test_lens_adjoint_and_energy(height, width):
    x, y = rand_complex(height, width), rand_complex(height, width, seed=1)
    torch.testing.assert_close(inner(y, fourier.lens_ft(x)), inner(fourier.lens_ift(y), x), rtol=1e-10, atol=1e-10)
    energy = x.abs().square().sum()
    assert abs(fourier.lens_ft(x).abs().square().sum() / energy - 1) < 1e-12
    low = x.to(torch.complex64)
    assert abs(fourier.lens_ft(low).abs().square().sum() / low.abs().square().sum() - 1) < 1e-5


def test_matrix_ft_passes_less_on_less_than_a_period():
    field = rand_complex(16, 16)
    period = WAVELENGTH * FOCAL / 8e-6
    half = fourier.MatrixFT(
        fourier.Plane((16, 16), 8e-6), fourier.Plane((64, 64), period / 128), wavelength=WAVELENGTH, focal_length=FOCAL,
        dtype=torch.complex128,
    )  # fmt: skip
    caught = half(field).abs().square().sum() / field.abs().square().sum()
    assert 0.1 < caught < 0.5  # a quarter of the plane's area, white light
    assert abs(matched((16, 16), 8e-6, dtype=torch.complex128)(field).norm() / field.norm() - 1) < 1e-12


@pytest.mark.parametrize("magnification", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [(8, 8), (9, 9), (7, 10)])
def test_two_lenses_make_the_inverted_copy_at_f2_over_f1(size, magnification):
    pitch, f1 = 8e-6, 0.1
    f2 = magnification * f1
    plane = fourier.Plane(size, tuple(WAVELENGTH * f1 / (n * pitch) for n in size))
    first = fourier.MatrixFT(
        fourier.Plane(size, pitch), plane, wavelength=WAVELENGTH, focal_length=f1, dtype=torch.complex128
    )
    second = fourier.MatrixFT(
        plane,
        fourier.Plane(size, pitch * f2 / f1),
        wavelength=WAVELENGTH,
        focal_length=f2,
        dtype=torch.complex128,
    )
    field = rand_complex(*size)
    copy = second(first(field))
    height, width = size
    for y in range(height):
        for x in range(width):
            source = (2 * (height // 2) - y) % height, (2 * (width // 2) - x) % width
            assert abs(copy[y, x] - field[source]) < 1e-12


def test_cheaper_product_order_and_size_in_bytes():
    plan = fourier.MatrixFT(
        fourier.Plane((64, 48), 8e-6), fourier.Plane((4, 6), 1e-4), wavelength=WAVELENGTH, focal_length=FOCAL
    )
    assert plan.nbytes == (64 * 4 + 48 * 6) * 8
    for shapes in [((4, 64), (64, 48), (48, 6)), ((64, 4), (4, 6), (6, 48)), ((2, 9), (9, 9), (9, 30))]:
        a, b, c = (rand_complex(*shape, seed=n) for n, shape in enumerate(shapes))
        with FlopCounterMode(display=False) as counter:
            product = fourier._sandwich(a, b, c)
        torch.testing.assert_close(product, torch.linalg.multi_dot([a, b, c]))
        (m, n), (_, k), (_, p) = a.shape, b.shape, c.shape
        assert counter.get_total_flops() == 2 * min(m * n * k + m * k * p, n * k * p + m * n * p)


def test_a_plan_is_rebuilt_not_upcast():
    plan = matched((32, 32), 8e-6)
    again = plan.to(torch.complex128)
    fresh = matched((32, 32), 8e-6, dtype=torch.complex128)
    field = rand_complex(32, 32)
    assert torch.equal(again(field), fresh(field))
    with pytest.raises(InputError, match=r"plan\.to"):
        plan(field)
    with pytest.raises(InputError, match="samples"):
        plan(rand_complex(31, 32, dtype=torch.complex64))


def test_float32_plan_is_as_good_as_float32():
    size = (128, 128)
    field = rand_complex(*size)
    exact = matched(size, 8e-6, dtype=torch.complex128)(field)
    assert (matched(size, 8e-6)(field.to(torch.complex64)) - exact).abs().max() < 1e-5 * exact.abs().max()


@pytest.mark.parametrize("taps", [(1, 1), (3, 3), (2, 4), (5, 2), (7, 7)])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (7, 12)])
def test_kernel_transfer_is_its_plain_sum(taps, size):
    kernel = rand_complex(2, *taps)
    transfer = fourier.kernel_transfer(kernel, size)
    expected = torch.zeros(2, *size, dtype=torch.complex128)
    for v in range(size[0]):
        for u in range(size[1]):
            for a in range(taps[0]):
                for b in range(taps[1]):
                    my, mx = a - (taps[0] - 1) // 2, b - (taps[1] - 1) // 2
                    expected[:, v, u] += kernel[:, a, b] * torch.exp(
                        torch.tensor(2j * math.pi * (v * my / size[0] + u * mx / size[1]), dtype=torch.complex128)
                    )
    torch.testing.assert_close(transfer, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        fourier.transfer_at(kernel, (torch.tensor([2, 1]), torch.tensor([3, 0])), size),
        torch.stack([expected[0, 2, 3], expected[1, 1, 0]]),
        rtol=0,
        atol=1e-12,
    )
    half = fourier.kernel_transfer(kernel.real, size, half=True)
    torch.testing.assert_close(half, fourier.kernel_transfer(kernel.real, size)[..., : size[1] // 2 + 1])


def band_limited_sum(spectrum, sizes, points):
    """Σ over the kept band with half-weighted even edges: the crop's definition, at any points."""
    height, width = spectrum.shape
    total = torch.zeros(len(points[0]), len(points[1]), dtype=torch.complex128)

    def terms(n, full):
        half = n // 2
        for k in range(-half, half + 1):
            edge = n % 2 == 0 and abs(k) == half and n < full
            if n % 2 == 0 and n == full and k == half:
                continue
            yield k, 0.5 if edge else 1.0

    for v, wv in terms(sizes[0], height):
        for u, wu in terms(sizes[1], width):
            wave = torch.exp(2j * math.pi * (v * points[0][:, None] + u * points[1][None, :]))
            total += wv * wu * spectrum[v % height, u % width] * wave
    return total / math.sqrt(height * width)


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_crop_is_low_pass_and_coarser_sampling(height, width, data):
    n, m = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    spectrum = rand_complex(height, width)
    small = torch.fft.ifft2(fourier.spectral_crop(spectrum, (n, m)), norm="ortho")
    points = torch.arange(n, dtype=torch.float64) / n, torch.arange(m, dtype=torch.float64) / m
    torch.testing.assert_close(small, band_limited_sum(spectrum, (n, m), points), rtol=0, atol=1e-12)


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_pad_is_the_adjoint_and_crop_undoes_a_scaled_pad(height, width, data):
    n, m = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    x, y = rand_complex(height, width), rand_complex(n, m, seed=1)
    crop = fourier.spectral_crop(x, (n, m), keep_mean=False)
    pad = fourier.spectral_pad(y, (height, width), keep_mean=False)
    torch.testing.assert_close(inner(y, crop), inner(pad, x), rtol=0, atol=1e-10)
    picture = torch.rand(n, m, dtype=torch.float64)
    fine = fourier.spectral_pad(torch.fft.fft2(picture, norm="ortho"), (height, width))
    assert torch.fft.ifft2(fine, norm="ortho").mean().real == pytest.approx(picture.mean().item())
    assert torch.fft.ifft2(fine, norm="ortho").imag.abs().max() < 1e-12  # Hermitian in, Hermitian out


def test_crop_keeps_a_real_picture_real_and_its_mean():
    picture = torch.rand(2, 32, 31, dtype=torch.float64)
    for size in [(16, 16), (13, 8), (32, 31), (1, 1)]:
        small = torch.fft.ifft2(fourier.spectral_crop(torch.fft.fft2(picture, norm="ortho"), size), norm="ortho")
        assert small.imag.abs().max() < 1e-13
        torch.testing.assert_close(small.real.mean((-2, -1)), picture.mean((-2, -1)))
    with pytest.raises(InputError, match="crop"):
        fourier.spectral_crop(picture + 0j, (33, 1))
    with pytest.raises(InputError, match="pad"):
        fourier.spectral_pad(picture + 0j, (31, 31))


@pytest.mark.parametrize("full", [(32, 32), (24, 36), (20, 44)])
@pytest.mark.parametrize("factor", [2, 4])
def test_square_stop_and_sampling_is_the_spectral_crop(full, factor):
    """A stop as wide as the cropped band, then every factor-th sample of the field, against the crop's own rule."""
    small = tuple(n // factor for n in full)
    period = WAVELENGTH * FOCAL / 8e-6  # equal pitches make the band square, whatever the number of bins
    bins = tuple(period / n for n in full)
    field = rand_complex(*full)
    spectrum = torch.fft.fft2(field, norm="ortho")
    stopped = torch.fft.ifft2(spectrum * aperture.stop(full, bins, period / factor), norm="ortho")[::factor, ::factor]
    cropped = torch.fft.ifft2(fourier.spectral_crop(spectrum, small), norm="ortho")
    torch.testing.assert_close(stopped, cropped, rtol=0, atol=1e-10)
    assert aperture.stopped_size(full, bins, period / factor) == small


def test_words_that_no_function_knows_are_refused():
    field = rand_complex(4, 4)
    for call in (
        lambda: fourier.lens_ft(field, origin="centre"),
        lambda: fourier.lens_ift(field, origin="centre"),
        lambda: grid.coordinates(4, 1.0, centre="middle"),
        lambda: aperture.stop((4, 4), (1.0, 1.0), 2.0, shape="sqaure"),
    ):
        with pytest.raises(InputError, match="choose from"):
            call()


def test_gradients_of_all_transforms():
    check = torch.autograd.gradcheck
    x = rand_complex(2, 4, 5).requires_grad_()
    plan = fourier.MatrixFT(
        fourier.Plane((4, 5), 9e-6),
        fourier.Plane((3, 6), 1e-4),
        wavelength=WAVELENGTH,
        focal_length=FOCAL,
        dtype=torch.complex128,
    )
    assert check(plan, x)
    assert check(plan.adjoint, rand_complex(3, 6).requires_grad_())
    assert check(fourier.lens_ft, x)
    assert check(fourier.lens_ift, x)
    assert check(lambda s: fourier.spectral_crop(s, (2, 3)), x)
    assert check(lambda s: fourier.spectral_pad(s, (6, 8)), x)
    assert check(lambda k: fourier.kernel_transfer(k, (4, 6)), rand_complex(2, 2, 3).requires_grad_())
    assert check(
        lambda k: fourier.kernel_transfer(k, (4, 6), half=True),
        torch.rand(2, 3, dtype=torch.float64).requires_grad_(),
    )
    assert check(grid.turn, x)


@pytest.mark.parametrize(
    "transform", [fourier.lens_ft, fourier.lens_ift, grid.turn, lambda f: fourier.spectral_crop(f, (3, 4))]
)
def test_permuting_the_batch_permutes_the_answer(transform):
    field, order = rand_complex(4, 3, 6, 5), torch.tensor([2, 0, 3, 1])
    assert torch.equal(transform(field[order]), transform(field)[order])
    assert torch.equal(transform(field[:, [1, 2, 0]]), transform(field)[:, [1, 2, 0]])


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_every_function_keeps_its_precision_and_takes_any_leading_dimensions(dtype):
    field = rand_complex(2, 1, 3, 6, 5, dtype=dtype)
    lens = fourier.MatrixFT(
        fourier.Plane((6, 5), 9e-6), fourier.Plane((4, 7), 1e-4), wavelength=WAVELENGTH, focal_length=FOCAL, dtype=dtype
    )
    sizes = {
        fourier.lens_ft: (6, 5),
        fourier.lens_ift: (6, 5),
        grid.turn: (6, 5),
        lens: (4, 7),
        (lambda f: lens.adjoint(lens(f))): (6, 5),
        (lambda f: fourier.spectral_crop(f, (3, 2))): (3, 2),
        (lambda f: fourier.spectral_pad(f, (8, 9))): (8, 9),
        (lambda f: fourier.kernel_transfer(f, (8, 9))): (8, 9),
    }
    for function, size in sizes.items():
        seen = function(field)
        assert seen.dtype == dtype
        assert seen.shape == (2, 1, 3, *size)
        torch.testing.assert_close(function(field[1, 0, 2]), seen[1, 0, 2])
    assert combine.coherent_sum(field).dtype == dtype
    assert combine.coherent_sum(field).shape == (2, 1, 6, 5)
    assert combine.interference(field, visibility=0.5).dtype == field.real.dtype
    y, x = (grid.coordinates(n, 1.0, dtype=field.real.dtype) for n in (6, 5))
    assert aperture.circular(y, x, 3.0, pitch=(1.0, 1.0)).dtype == field.real.dtype
    assert aperture.stop((6, 5), (1.0, 1.0), 3.0, dtype=field.real.dtype).dtype == field.real.dtype
