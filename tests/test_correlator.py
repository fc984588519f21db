import copy
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import fouroptics as fo
from fouroptics.devices import layout
from fouroptics.optics import correlation, fourier, grid
from fouroptics.optics.correlation import correlate

BENCH = fo.Bench.load("slm-532nm")
REALS = {torch.float32: 1e-5, torch.float64: 1e-10}
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def rand(*shape, dtype=torch.float64, seed=0):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def conv2d(pictures, kernels, boundary):
    """The truth: torch's own convolution, with a dark surround or on the picture repeated 3 × 3."""
    if kernels.is_complex():
        return torch.complex(conv2d(pictures, kernels.real, boundary), conv2d(pictures, kernels.imag, boundary))
    if boundary == "linear":
        return F.conv2d(pictures, kernels, padding="same")
    height, width = pictures.shape[-2:]
    tiled = F.conv2d(pictures.repeat(1, 1, 3, 3), kernels, padding="same")
    return tiled[..., height : 2 * height, width : 2 * width]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@given(
    size=st.tuples(st.integers(1, 19), st.integers(1, 19)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    batch=st.integers(1, 3),
    boundary=st.sampled_from(["linear", "circular"]),
    dtype=st.sampled_from(list(REALS)),
    is_complex=st.booleans(),
    data=st.data(),
)
def test_field_is_conv2d_with_no_fitted_scale(size, channels, batch, boundary, dtype, is_complex, data):
    taps = tuple(data.draw(st.integers(1, n)) for n in size)
    kernels = rand(*channels, *taps, dtype=dtype) - 0.5
    if is_complex:
        kernels = torch.complex(kernels, rand(*channels, *taps, dtype=dtype, seed=1) - 0.5)
    pictures = rand(batch, channels[1], *size, dtype=dtype, seed=2)
    field = fo.Correlator4f.from_kernels(kernels, BENCH, size, boundary=boundary).field(pictures)
    expected = conv2d(pictures, kernels, boundary)
    assert field.dtype == COMPLEX[dtype]
    assert field.shape == expected.shape
    assert (field - expected).abs().max() <= REALS[dtype] * max(1, math.prod(taps) * channels[1])


@pytest.mark.parametrize("size", [(64, 64), (61, 47), (128, 1)])
@pytest.mark.parametrize("taps", [(7, 7), (4, 6), (1, 1)])
@pytest.mark.parametrize("dtype", list(REALS))
def test_field_is_conv2d_at_working_sizes(size, taps, dtype):
    if any(k > n for k, n in zip(taps, size, strict=True)):
        taps = (taps[0], 1)
    kernels = torch.randn(16, 3, *taps, dtype=dtype)
    pictures = rand(4, 3, *size, dtype=dtype)
    for boundary in ("linear", "circular"):
        field = fo.Correlator4f.from_kernels(kernels, BENCH, size, boundary=boundary).field(pictures)
        expected = conv2d(pictures, kernels, boundary)
        assert (field - expected).abs().max() <= REALS[dtype] * expected.abs().max()


def test_a_full_field_kernel_and_a_prime_circular_grid():
    kernels, pictures = rand(2, 2, 31, 29), rand(1, 2, 31, 29, seed=1)
    for boundary in ("linear", "circular"):
        field = fo.Correlator4f.from_kernels(kernels, BENCH, (31, 29), boundary=boundary).field(pictures)
        torch.testing.assert_close(field.real, conv2d(pictures, kernels, boundary), rtol=0, atol=1e-10)
    assert fo.Correlator4f.from_kernels(kernels, BENCH, (31, 29), boundary="circular").working_size == (
        31,
        29,
    )
    assert fo.Correlator4f.from_kernels(kernels, BENCH, (31, 29)).working_size == (48, 45)


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (6, 11)])
def test_the_camera_s_own_picture_is_turned_about_the_axis(size):
    """By a second, independent way: two matrix transforms and a mask on the working grid, no FFT and no turn."""
    kernels, pictures = torch.randn(1, 1, 3, 4, dtype=torch.float64), rand(1, 1, *size)
    wavelength, f1, pitch = 532e-9, 0.25, 16e-6
    for boundary in ("circular", "linear"):
        correlator = fo.Correlator4f.from_kernels(kernels, BENCH, size, boundary=boundary, upright=False)
        padded = size if boundary == "circular" else tuple(n + 6 for n in size)
        offset = tuple(n // 2 - p // 2 for n, p in zip(size, padded, strict=True))
        field = torch.zeros(padded, dtype=torch.complex128)
        rows, columns = (slice(-o, -o + n) for o, n in zip(offset, size, strict=True))
        field[rows, columns] = pictures[0, 0].to(torch.complex128)
        plane = fourier.Plane(padded, tuple(wavelength * f1 / (n * pitch) for n in padded))
        lens = fourier.MatrixFT(
            fourier.Plane(padded, pitch),
            plane,
            wavelength=wavelength,
            focal_length=f1,
            dtype=torch.complex128,
        )
        mask = grid.to_centred(fourier.kernel_transfer(kernels[0, 0], padded))
        camera = lens.reversed()(lens(field) * mask)
        torch.testing.assert_close(correlator.field(pictures)[0, 0], camera[rows, columns], rtol=0, atol=1e-10)


def test_leading_dimensions_and_the_order_of_the_batch():
    correlator = fo.Correlator4f.from_kernels(torch.randn(5, 3, 3, 3, dtype=torch.float64), BENCH, (16, 12))
    pictures = rand(2, 4, 3, 16, 12)
    field = correlator.field(pictures)
    assert field.shape == (2, 4, 5, 16, 12)
    torch.testing.assert_close(correlator.field(pictures[1, 2]), field[1, 2], rtol=0, atol=1e-12)
    assert correlate(pictures[1, 2], correlator.taps).shape == (5, 16, 12)
    order = torch.tensor([3, 1, 0, 2])
    assert torch.equal(correlator.field(pictures[0, order]), correlator.field(pictures[0])[order])


@pytest.mark.parametrize("is_complex", [False, True])
def test_every_way_to_float64_equals_a_fresh_float64_module(is_complex):
    kernels = torch.randn(4, 3, 5, 5, dtype=torch.complex64 if is_complex else torch.float32)
    wide = kernels.to(torch.complex128 if is_complex else torch.float64)
    pictures = rand(2, 3, 24, 20)

    def build(taps):
        return fo.Correlator4f.from_kernels(taps, BENCH, (24, 20))

    fresh = build(wide)
    loaded = build(torch.zeros_like(wide))
    loaded.load_state_dict(build(kernels).state_dict())
    ways = {
        "double": build(kernels).double(),
        "to": build(kernels).to(torch.float64),
        "deepcopy": copy.deepcopy(build(kernels)).double(),
        "state_dict": loaded,
    }
    for way, module in ways.items():
        assert not any(tensor.is_complex() for tensor in module.state_dict().values())
        for quantity in (lambda m: m.field(pictures), lambda m: m.power(pictures), lambda m: m.scale):
            apart = (quantity(module) - quantity(fresh)).abs().max() / quantity(fresh).abs().max()
            assert apart < 1e-10, way


def test_gradients_everywhere():
    kernels = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    both = torch.randn(2, 2, 2, 3, dtype=torch.complex128, requires_grad=True)
    fields = torch.rand(2, 3, 4, dtype=torch.float64, requires_grad=True)
    light = torch.randn(2, 3, 4, dtype=torch.complex128, requires_grad=True)
    for boundary in ("linear", "circular"):
        for upright in (True, False):
            for a, k in ((fields, kernels), (light, kernels), (fields, both), (light, both)):
                assert torch.autograd.gradcheck(
                    lambda a, k, b=boundary, u=upright: correlate(a, k, boundary=b, upright=u), (a, k)
                )
    spectrum, transfer = (torch.randn(2, 3, 2, 2, dtype=torch.complex128, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(correlation.channel_sum, (spectrum, transfer))
    assert torch.autograd.gradgradcheck(correlation.channel_sum, (spectrum, transfer))


@pytest.mark.parametrize("way", ["tiled", "lenslet"])
def test_gradient_of_the_light_includes_the_passive_scale(way):
    correlator = fo.Correlator4f.from_kernels(torch.randn(2, 2, 3, 3, dtype=torch.float64), BENCH, (6, 6), layout=way)
    pictures = rand(1, 2, 6, 6).requires_grad_()
    correlator.expose(seconds=1e-6)

    def light(taps, pictures):
        return torch.func.functional_call(correlator, {"kernels": taps}, (pictures,))

    assert torch.autograd.gradcheck(light, (correlator.kernels, pictures))


def test_blocks_change_nothing_but_memory(monkeypatch):
    kernels, pictures = torch.randn(6, 3, 3, 3, dtype=torch.float64), rand(5, 3, 16, 16)

    def run():
        taps = kernels.clone().requires_grad_()
        response = correlate(pictures, taps)
        response.square().sum().backward()
        with torch.no_grad():
            return response.detach(), taps.grad, correlate(pictures, kernels)

    whole = run()
    monkeypatch.setattr(correlation, "_CACHE_BLOCK", 1)
    monkeypatch.setattr(correlation, "_GRADIENT_BLOCK", 1)
    for block, expected in zip(run(), whole, strict=True):
        torch.testing.assert_close(block, expected, rtol=0, atol=1e-11)


@given(st.tuples(st.integers(1, 9), st.integers(1, 40)), st.integers(1, 3), st.booleans(), st.integers(0, 1000))
def test_scale_is_passive_at_every_frequency_and_hardly_below_the_largest_such(taps, inputs, is_complex, seed):
    torch.manual_seed(seed)
    kernels = torch.randn(2, inputs, *taps, dtype=torch.complex128 if is_complex else torch.float64)
    transfer = torch.fft.fft2(kernels, s=(301, 1201)).abs()  # moduli do not care about the kernel's centre
    loss = 0.04 if max(taps) <= 32 else 0.1
    for way, peak in (("tiled", transfer.sum(1).amax((-2, -1))), ("lenslet", transfer.amax((1, -2, -1)))):
        scale = fo.Correlator4f.from_kernels(kernels, BENCH, (64, 64), layout=way).scale.detach()
        assert (scale * peak <= 1 + 1e-9).all()
        assert (scale * peak >= 1 - loss - 0.01).all()


def test_a_mask_of_no_light_is_left_alone():
    assert fo.Correlator4f.from_kernels(torch.zeros(1, 1, 1, 1), BENCH, (4, 4)).scale.tolist() == [1.0]


def test_tiled_outputs_stand_clear_of_each_other_s_cross_terms():
    """Three pictures side by side, four responses side by side, one mask: by FFT on the whole plane, no correlator."""
    torch.manual_seed(0)
    kernels, pictures = torch.randn(4, 3, 3, 3, dtype=torch.float64), rand(1, 3, 8, 8)
    guard = 1
    sharing = layout.share("tiled", "tiled", (4, 3), (8, 8), guard, (1000, 1000))
    side = 4 * sharing.mask_field[0]
    field = torch.zeros(side, side, dtype=torch.float64)
    mask = torch.zeros(side, side, dtype=torch.complex128)
    nu = torch.fft.fftfreq(side, dtype=torch.float64)
    places = [divmod(n, sharing.input_tiles[1]) for n in range(3)]
    for (row, column), picture in zip(places, pictures[0], strict=True):
        y, x = row * sharing.tile[0], column * sharing.tile[1]
        field[y : y + 8, x : x + 8] = picture
    ends = [divmod(n, sharing.output_tiles[1]) for n in range(4)]
    for (down, along), bank in zip(ends, kernels, strict=True):
        for (row, column), kernel in zip(places, bank, strict=True):
            move_y = down * sharing.output_pitch[0] - row * sharing.tile[0]
            move_x = along * sharing.output_pitch[1] - column * sharing.tile[1]
            bend = torch.exp(-2j * math.pi * (nu[:, None] * move_y + nu[None, :] * move_x))
            mask += fourier.kernel_transfer(kernel, (side, side)) * bend
    seen = torch.fft.ifft2(torch.fft.fft2(field) * mask)
    expected = F.conv2d(pictures, kernels, padding=1)[0]
    for (down, along), response in zip(ends, expected, strict=True):
        y, x = down * sharing.output_pitch[0], along * sharing.output_pitch[1]
        torch.testing.assert_close(seen[y : y + 8, x : x + 8].real, response, rtol=0, atol=1e-10)


def test_light_behind_a_stop_does_not_wrap_round():
    """A bright edge and a half-band stop, against the same on a grid sixteen times as wide."""
    half = 532e-9 * 0.25 / 16e-6 / 2
    bench = BENCH.replace({"stop.size": f"{half!r} m"})
    pictures = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    pictures[..., :4] = 1
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    seen = fo.Correlator4f.from_kernels(one, bench, (32, 32), stop=True).field(pictures)[0, 0].real
    wide = torch.zeros(512, 512, dtype=torch.float64)
    wide[240:272, 240:272] = pictures[0, 0]
    low = torch.fft.fftfreq(512, dtype=torch.float64).abs()
    passed = torch.where(low < 0.25, 1.0, torch.where(low == 0.25, 0.5, 0.0))
    true = torch.fft.ifft2(torch.fft.fft2(wide) * torch.outer(passed, passed)).real[240:272, 240:272]
    assert (seen - true).norm() < 5e-3 * true.norm()


@pytest.mark.parametrize("width", [0.3e-3, 2e-3, 6e-3])
def test_a_stop_is_a_sinc_in_an_endless_dark_surround(width):
    """Closed form: each side of a square stop is a convolution with c·sinc(c·x), c its part of the sampled band."""
    part = width / (532e-9 * 0.25 / 16e-6)
    bench, one = BENCH.replace({"stop.size": f"{width!r} m"}), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    pictures = rand(1, 16, 16)
    seen = fo.Correlator4f.from_kernels(one, bench, (16, 16), stop=True).field(pictures)[0].real
    at = torch.arange(16, dtype=torch.float64)
    blur = part * torch.sinc(part * (at[:, None] - at))
    true = blur @ pictures[0] @ blur.T
    assert (seen - true).abs().max() < 0.03 * true.abs().max()


def test_power_by_hand():
    """A clear mask, a white picture: every loss is a number of the bench."""
    clear = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    bench = BENCH.replace({"source.waist": None, "lens2.focal_length": "500 mm", "aberration.zernike": {}})
    white = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    power = fo.Correlator4f.from_kernels(clear, bench, (8, 8)).power(white)
    irradiance = 5e-3 / (1920 * 8e-6 * 1080 * 8e-6)
    expected = irradiance * 0.80 * 0.93**2 * 0.75 * (250 / 500) ** 2
    torch.testing.assert_close(power.detach(), torch.full_like(white, expected))


def test_a_gaussian_beam_s_mean_over_the_field_by_quadrature():
    clear = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    bench = BENCH.replace({"source.waist": "1 mm", "layout.guard": "0 um", "aberration.zernike": {}})
    power = fo.Correlator4f.from_kernels(clear, bench, (64, 64)).power(torch.ones(1, 1, 64, 64).double())
    at = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000 * 1.024e-3 - 0.512e-3
    bell = torch.exp(-2 * (at / 1e-3) ** 2).mean() ** 2
    expected = 2 * 5e-3 / (math.pi * 1e-6) * bell * 0.80 * 0.93**2 * 0.75
    assert power.mean().item() == pytest.approx(expected.item(), rel=2e-4)  # samples against the integral
    y, x = (10 - 31.5) * 16e-6, (50 - 31.5) * 16e-6
    profile = power[0, 0, 10, 50] / power[0, 0, 31, 31]
    assert profile.item() == pytest.approx(math.exp(-2 * (y**2 + x**2 - 2 * 8e-6**2) / 1e-6), rel=1e-9)


def test_splitting_and_summing_cost_light():
    kernels, white = (
        torch.ones(4, 3, 1, 1, dtype=torch.float64) / 3,
        torch.ones(1, 3, 8, 8, dtype=torch.float64),
    )
    bench = BENCH.replace({"source.waist": None})

    def brightness(way, outputs="frames"):
        here = bench.replace({"layout.outputs": outputs})
        return fo.Correlator4f.from_kernels(kernels, here, (8, 8), layout=way).power(white).mean().item()

    # tiled: |t| ≤ 1 shared by three kernels of 1/3, so s·field = 1, as bright as one white picture. Lenslets pass three
    # white pictures whole, s·field = 3, and beams in phase and alike all leave by one output of the combiner: 3² / 3
    assert brightness("lenslet") / brightness("tiled") == pytest.approx(3)
    assert brightness("tiled", "tiled") / brightness("tiled") == pytest.approx(1 / 4**2)
    assert brightness("lenslet", "lenslet") / brightness("lenslet") == pytest.approx(1 / 4)


def test_sums_that_are_no_instrument_quote_no_power():
    kernels, pictures = torch.ones(1, 2, 1, 1), torch.ones(1, 2, 4, 4)
    for way in ("mathematical", "frames"):
        correlator = fo.Correlator4f.from_kernels(kernels, BENCH, (4, 4), layout=way)
        assert correlator.field(pictures).real.mean() == 2
        with pytest.raises(fo.InputError, match="layout"):
            correlator.power(pictures)


def test_sqrt_encoding_puts_the_picture_into_the_power():
    bench = BENCH.replace({"input.encoding": "sqrt"})
    pictures = rand(1, 1, 6, 6)
    field = fo.Correlator4f.from_kernels(torch.ones(1, 1, 1, 1).double(), bench, (6, 6)).field(pictures)
    torch.testing.assert_close(field.abs().square(), pictures)


def test_the_bench_s_stop_is_a_low_pass():
    """Half the band, against an ideal interpolation of the picture's own low frequencies."""
    size = (32, 32)
    half = 532e-9 * 0.25 / 16e-6 / 2
    bench = BENCH.replace({"stop.size": f"{half!r} m"})
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    pictures = rand(1, 1, *size)
    seen = fo.Correlator4f.from_kernels(one, bench, size, boundary="circular", stop=True).field(pictures)
    low = torch.fft.ifft2(fourier.spectral_crop(torch.fft.fft2(pictures, norm="ortho"), (16, 16)), norm="ortho")
    torch.testing.assert_close(seen[..., ::2, ::2], low, rtol=0, atol=1e-10)
    full = fo.Correlator4f.from_kernels(one, bench, size, boundary="circular").field(pictures)
    torch.testing.assert_close(full.real, pictures, rtol=0, atol=1e-12)
    circular = bench.replace({"stop.shape": "circular"})
    fine = (torch.arange(32 * 64, dtype=torch.float64) + 0.5) / 64 - 16.5  # bins, 64 points each
    disc = ((fine[:, None] ** 2 + fine**2) < 64).double().reshape(32, 64, 32, 64).mean((1, 3))
    disc = torch.fft.ifftshift(disc)
    seen = fo.Correlator4f.from_kernels(one, circular, size, boundary="circular", stop=True).field(pictures)
    torch.testing.assert_close(seen, torch.fft.ifft2(torch.fft.fft2(pictures) * disc), rtol=0, atol=2e-4)


def test_autocast_is_off_inside_the_optics(monkeypatch):
    correlator = fo.Correlator4f.from_kernels(torch.randn(2, 3, 3, 3), BENCH, (8, 8))
    pictures = rand(1, 3, 8, 8, dtype=torch.float32)
    seen, plain = [], fourier.kernel_transfer

    def watched(*arguments, **options):
        seen.append(torch.is_autocast_enabled("cpu"))
        return plain(*arguments, **options)

    monkeypatch.setattr(fourier, "kernel_transfer", watched)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = correlator.field(pictures)
    assert seen == [False]
    assert torch.equal(inside, correlator.field(pictures))
    assert correlator.field(pictures.bfloat16()).dtype == torch.complex64


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("taps", [(49, 60), (64, 3), (64, 64)])
def test_large_kernels_take_another_way_to_the_same_transfer(monkeypatch, taps, dtype):
    kernels = torch.randn(2, 2, *taps, dtype=dtype)
    half = not dtype.is_complex
    by_fft = fourier.kernel_transfer(kernels, (64, 70), half=half)
    monkeypatch.setattr(fourier, "_FFT_TAPS", 1000)
    torch.testing.assert_close(by_fft, fourier.kernel_transfer(kernels, (64, 70), half=half), rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_torch_func_maps_and_differentiates_the_bank():
    kernels, fields = torch.randn(2, 3, 3, 3, dtype=torch.float64), rand(4, 3, 6, 6)

    def energy(taps, field):
        return correlate(field[None], taps).square().sum()

    each = torch.func.vmap(torch.func.grad(energy), (None, 0))(kernels, fields)
    for field, gradient in zip(fields, each, strict=True):
        taps = kernels.clone().requires_grad_()
        F.conv2d(field[None], taps, padding="same").square().sum().backward()
        torch.testing.assert_close(gradient, taps.grad, rtol=0, atol=1e-10)


def test_black_pixels_have_a_gradient_under_sqrt_encoding():
    bench = BENCH.replace({"input.encoding": "sqrt"})
    pictures = torch.tensor([[[[0.0, 0.25]]]], dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    fo.Correlator4f.from_kernels(one, bench, (1, 2)).field(pictures).real.sum().backward()
    assert pictures.grad.flatten().tolist() == [0.0, 1.0]  # d√x/dx at ¼


PEAK = """
import pathlib, re, sys, torch, fouroptics as fo

def top():
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024

def bank(outputs, inputs, side):
    return fo.Correlator4f.from_kernels(torch.randn(outputs, inputs, 7, 7), fo.Bench.load("slm-532nm"), (side, side))

torch.set_num_threads(1)
bank(1, 1, 64).power(torch.rand(1, 1, 64, 64)).sum().backward()
correlator, pictures = bank(16, 3, 256), torch.rand(8, 3, 256, 256)
gradient = sys.argv[1] == "gradient"
start = top()
with torch.set_grad_enabled(gradient):
    field = correlator.field(pictures)
if gradient:
    field.backward(field)
print((top() - start) / correlator.nbytes(8, gradient=gradient))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's peak")
@pytest.mark.parametrize("mode", ["plain", "gradient"])
def test_what_nbytes_says_is_what_a_fresh_process_takes(mode):
    done = subprocess.run([sys.executable, "-c", PEAK, mode], capture_output=True, text=True, check=True)
    assert 0.5 < float(done.stdout) < 1.6


def test_memory_grows_with_channels_not_with_their_product():
    def taken(outputs, inputs):
        kernels = torch.empty(outputs, inputs, 1, 1)
        return fo.Correlator4f.from_kernels(kernels.zero_(), BENCH, (64, 64)).nbytes(64)

    plane = 64 * 64 * 4
    assert taken(32, 32) < 64 * (32 + 32) * plane * 4 < 64 * 32 * 32 * plane


def test_what_does_not_fit_is_refused_before_it_is_tried(monkeypatch):
    correlator = fo.Correlator4f.from_kernels(torch.randn(8, 4, 7, 7), BENCH, (64, 64))
    monkeypatch.setattr("fouroptics.memory.available", lambda device: 2**28)
    with pytest.raises(fo.InputError, match="GiB are free"):
        correlator.field(torch.rand(1, 1).expand(2000, 4, 64, 64))
    with pytest.raises(fo.InputError, match="GiB are free"):
        fo.Correlator4f.from_kernels(torch.randn(1, 1, 3, 3), BENCH, (20000, 20000))


def test_latency_of_the_shipped_bench_by_hand():
    bank = fo.Correlator4f.from_kernels(torch.randn(128, 3, 7, 7), BENCH, (64, 64))
    latency = bank.latency(reads=2, exposure=100e-6)
    assert (latency.frames, latency.captures) == (128, 256)
    assert latency.samples == 256 * 64 * 64
    assert latency.bits == 256 * 64 * 64 * 12
    assert latency["mask settle"] == pytest.approx(256 * 12e-3)
    assert latency["exposure"] == pytest.approx(256 * 100e-6)
    assert latency["camera readout"] == pytest.approx(256 * (256 / 2048) / 35)
    frames = sum(latency[term] for term in ("mask settle", "exposure", "camera readout", "mask wait"))
    assert frames == pytest.approx(256 / 60)
    assert latency["link"] == pytest.approx(latency.bits / 2.5e9)
    assert latency.seconds == pytest.approx(256 / 60 + latency.bits / 2.5e9 + 256 * 50e-6)
    assert "4.28" in str(latency)


def test_automatic_exposure_fills_the_well_to_four_fifths():
    bank = fo.Correlator4f.from_kernels(torch.randn(2, 3, 3, 3, dtype=torch.float64), BENCH, (16, 16))
    pictures = rand(4, 3, 16, 16)
    brightest = torch.quantile(bank.expose(pictures)(pictures).detach().flatten(), 0.999, interpolation="higher")
    assert brightest.item() == pytest.approx(0.8 * 10500 * 0.36, rel=1e-6)  # of a reading of 4 × 4 pixels, in DN
    coarse = BENCH.replace({"camera.adc_bits": 8})
    same = fo.Correlator4f.from_kernels(bank.kernels.detach(), coarse, (16, 16))
    assert same.exposure(pictures) / bank.exposure(pictures) == pytest.approx((255 - 60) / 0.36 / 10500)
    fixed = BENCH.replace({"camera.exposure": "100 us"})
    assert fo.Correlator4f.from_kernels(torch.ones(1, 1, 1, 1), fixed, (4, 4)).exposure() == pytest.approx(1e-4)
    with pytest.raises(fo.InputError, match="no light"):
        bank.exposure(torch.zeros(1, 3, 16, 16, dtype=torch.float64))


@pytest.mark.parametrize(("arguments", "says"), [({"reads": 0}, "reads"), ({"exposure": -1.0}, "exposure")])
def test_impossible_latencies_are_refused(arguments, says):
    with pytest.raises(fo.InputError, match=says):
        fo.Correlator4f.from_kernels(torch.ones(1, 1, 1, 1), BENCH, (4, 4)).latency(**arguments)
    with pytest.raises(fo.InputError, match="link"):
        fo.Correlator4f.from_kernels(torch.ones(1, 1, 1, 1), BENCH.replace({"link": None}), (4, 4)).latency()
