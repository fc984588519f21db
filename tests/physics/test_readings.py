"""A bank's readings by hand: pixels, pairs, the reference, noise, exposures, and what a bench cannot read."""

import copy
import math
import warnings

import pytest
import torch

import fouroptics as fo
from fouroptics.correlator import light
from fouroptics.correlator.passive import positive_negative
from fouroptics.devices.detector import Pattern
from fouroptics.optics import aberration

BENCH = fo.Bench.load("slm-532nm")
CLEAN = BENCH.replace({"aberration.zernike": {}, "source.waist": None})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype, generator=generator(seed))


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=generator(seed))


def compact(inputs, size):
    """Pictures that fade towards their edges and keep to half the band."""
    pictures = fo.pictures.natural(1, inputs, size, seed=4)[0].double()
    low = [(torch.fft.fftfreq(n).abs() < 0.25).double() for n in size]
    smooth = torch.fft.ifft2(torch.fft.fft2(pictures) * torch.outer(*low)).real
    smooth = (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())
    return smooth * torch.outer(*(torch.hann_window(n, periodic=False, dtype=torch.float64) for n in size))


def dense_reading(field, pitch, pixel, width, bins, offset, count, size):
    """Mean |E|² of each reading from the samples of a field in an endless dark surround, by sinc functions.

    ``field`` has its picture's sample 0 at (margin, margin); every pixel is a sum over 12 × 12 points.
    """
    margin = (field.shape[0] - size[0]) // 2
    axes = []
    for axis in (0, 1):
        n, b = count[axis], bins[axis]
        centre = (size[axis] - 1) / 2 * pitch - offset[axis]
        places = centre + (torch.arange(n * b, dtype=torch.float64) - (n * b - 1) / 2) * pixel
        points = ((torch.arange(12, dtype=torch.float64) + 0.5) / 12 - 0.5) * width
        at = (places[:, None] + points).flatten() / pitch
        axes.append(torch.sinc(at[:, None] - (torch.arange(field.shape[axis]) - margin)))
    light = (axes[0] @ field @ axes[1].T).square()
    return light.reshape(count[0], bins[0] * 12, count[1], bins[1] * 12).mean((1, 3))


@pytest.mark.parametrize("picture", ["white", "compact"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"camera.fill_factor": "49 %", "camera.offset": ["7 um", "-13 um"]},
        {"lens2.focal_length": "400 mm", "camera.bin": 3},
        {"lens2.focal_length": "150 mm", "camera.pitch": "3 um", "camera.offset": ["-5 um", "0 um"], "camera.bin": 2},
    ],
)
def test_a_reading_is_the_light_integrated_over_its_pixels(changes, picture):
    """By hand from conv2d's field: sinc interpolation, squares, pixels of 144 points, electrons, DN."""
    still = {"camera.dark_current": 0, "camera.full_well": 1e6, "camera.adc_bits": 20}
    bench = CLEAN.replace(still | changes)
    size = (14, 16)
    kernels, pictures = randn(1, 1, 3, 3), rand(1, *size) if picture == "white" else compact(1, size)
    bank = fo.Correlator4f.from_kernels(kernels, bench, size).expose(seconds=2e-6)
    field = torch.nn.functional.conv2d(pictures[None], kernels, padding=4)[0, 0]
    f1, f2 = bench.lens1.focal_length, bench.lens2.focal_length
    camera = bench.camera
    width = camera.pitch * math.sqrt(camera.fill_factor)
    bins = (camera.bin, camera.bin)
    off = camera.offset[::-1]
    count = tuple(math.floor(n * 16e-6 * f2 / f1 / (camera.pitch * camera.bin) + 1e-6) for n in size)
    mean = dense_reading(field, 16e-6 * f2 / f1, camera.pitch, width, bins, off, count, size)
    lit = 5e-3 / (1920 * 8e-6 * 1080 * 8e-6) * 0.80 * 0.93**2 * 0.75 * (f1 / f2) ** 2 * bank.scale.item() ** 2
    area = camera.bin**2 * camera.pitch**2 * camera.fill_factor
    expected = 0.36 * 0.65 * mean * lit * area * 2e-6 / (6.62607015e-34 * 299792458 / 532e-9)
    seen = bank(pictures)[0].detach()
    assert bank.readings == count
    tolerance = 1e-3 if picture == "white" else 1e-5
    torch.testing.assert_close(seen, expected, rtol=0, atol=tolerance * float(expected.max()) + 0.01)


def test_a_camera_far_aside_sees_nothing():
    bench = CLEAN.replace({"camera.dark_current": 0, "camera.offset": ["0 um", "400 um"]})
    bank = fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), bench, (16, 16)).expose(seconds=1e-5)
    centred = fo.Correlator4f.from_kernels(
        bank.kernels.detach(), bench.replace({"camera.offset": ["0 um", "0 um"]}), (16, 16)
    )
    pictures = rand(1, 16, 16)
    assert bank(pictures).sum() < 0.01 * centred.expose(seconds=1e-5)(pictures).sum()


@pytest.mark.parametrize("size", [(16, 16), (15, 18)])
@pytest.mark.parametrize("way", ["fourier", "free_space"])
def test_the_turned_camera_reads_the_same_the_other_way_round(size, way):
    """The camera stands where it stands, so turning its picture back is a matter of order only."""
    bench = BENCH.replace({"camera.offset": ["5 um", "-9 um"]})
    kernels, pictures = randn(1, 1, 3, 3), compact(1, size)
    upright, turned = (
        fo.Correlator4f.from_kernels(kernels, bench, size, upright=turn, light=way).expose(seconds=1e-6)(pictures)
        for turn in (True, False)
    )
    torch.testing.assert_close(turned.flip(-2, -1), upright, rtol=0, atol=1e-3 * float(upright.detach().max()))


def test_a_pair_of_masks_reads_the_product_with_the_absolute_kernel():
    """|x⋆k⁺|² - |x⋆k⁻|² = (x⋆k)(x⋆|k|), before pixels; here every reading is a pixel, so of their integrals too."""
    bench = CLEAN.replace({"camera.dark_current": 0})
    kernels, pictures = randn(2, 1, 3, 3), compact(1, (16, 16))
    bank = fo.Correlator4f.from_kernels(kernels, bench, (16, 16), readout="pair_intensity").expose(seconds=2e-6)
    plus, minus = (
        fo.Correlator4f.from_kernels(part, bench, (16, 16)).expose(seconds=2e-6)
        for part in (kernels.clamp_min(0), (-kernels).clamp_min(0))
    )
    read = [one(pictures) / one.scale.square()[:, None, None] for one in (plus, minus)]
    expected = (read[0] - read[1]) * bank.scale.square()[:, None, None]
    torch.testing.assert_close(bank(pictures), expected, rtol=1e-3, atol=0.05)
    assert (bank(pictures) < 0).any()
    product = (
        bank.field(pictures).real * fo.Correlator4f.from_kernels(kernels.abs(), bench, (16, 16)).field(pictures).real
    )
    similar = torch.corrcoef(torch.stack([bank(pictures).flatten(), product.flatten()]))[0, 1]
    assert similar > 0.99


def test_homodyne_reads_the_field_with_its_sign():
    bench = CLEAN.replace({"reference.phase_step_error": "0 rad", "reference.visibility": "100 %"})
    kernels, pictures = randn(3, 2, 3, 3), compact(2, (24, 24))
    bank = fo.Correlator4f.from_kernels(kernels, bench, (24, 24), readout="homodyne").expose(pictures)
    seen, field = bank(pictures), bank.field(pictures).real
    for reading, response, scale in zip(seen, field, bank.scale, strict=True):
        assert torch.corrcoef(torch.stack([reading.flatten(), response.flatten()]))[0, 1] > 0.98
        assert scale > 0
    # by hand: 4·r·Re E, in electrons of a pixel, in DN
    white = torch.ones(1, 16, 16, dtype=torch.float64)
    wider = bench.replace({"lens2.focal_length": "400 mm", "camera.bin": 1})
    one = fo.Correlator4f.from_kernels(torch.ones(1, 1, 1, 1).double(), wider, (16, 16), readout="homodyne")
    one.expose(seconds=1e-7)
    lit = 5e-3 / (1920 * 8e-6 * 1080 * 8e-6) * (250 / 400) ** 2
    signal, reference = lit * 0.9 * 0.80 * 0.93**2 * 0.75 / 2, lit * 0.1 / 2  # a half mirror
    photons = 4 * math.sqrt(signal * reference) * (4e-6) ** 2 * 1e-7 / (6.62607015e-34 * 299792458 / 532e-9)
    middle = one(white)[0, 30:70, 30:70]
    assert middle.mean().item() == pytest.approx(0.65 * photons * 0.36, rel=0.02)


def test_an_empty_part_of_a_pair_limits_nothing_and_has_a_gradient():
    taps = torch.stack([torch.full((1, 3, 3), 0.02), torch.zeros(1, 3, 3), -torch.eye(3)[None]]).double()
    pair, whole = (
        fo.Correlator4f.from_kernels(taps, CLEAN, (12, 12), readout=kind).expose(seconds=1e-6)
        for kind in ("pair_intensity", "intensity")
    )
    torch.testing.assert_close(pair.scale, whole.scale)
    assert pair.scale[0].item() == pytest.approx(1 / (9 * 0.02), rel=0.05)
    for bank in (pair, whole):
        bank(rand(1, 12, 12)).square().sum().backward()
        assert torch.isfinite(bank.kernels.grad).all()


def test_a_bin_s_dark_current_is_all_its_pixels():
    bench = CLEAN.replace({"camera.dark_current": 1e4, "camera.bin": 4})
    bank = fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), bench, (8, 8)).expose(seconds=0.01)
    dark = torch.zeros(1, 8, 8, dtype=torch.float64)
    assert bank(dark).mean().item() == pytest.approx(0.36 * 16 * 1e4 * 0.01, rel=1e-6)


@pytest.mark.parametrize(("kind", "reads"), [("intensity", 1), ("pair_intensity", 2), ("homodyne", 2)])
def test_a_readout_takes_its_captures(kind, reads):
    bank = fo.Correlator4f.from_kernels(randn(3, 1, 3, 3), BENCH, (8, 8), readout=kind).expose(seconds=1e-6)
    assert bank.latency().captures == 3 * reads


@pytest.mark.parametrize(("readout", "steps"), [("homodyne", 3), ("pair_intensity", 0), ("interference", 0)])
def test_only_a_signed_reading_steps_the_reference(readout, steps):
    """Pairs show two masks, and an interference has one capture: neither is quicker for a beam that steps by itself."""
    own = BENCH.replace({"reference.settle": "1 ms"})
    bank, plain = (fo.Correlator4f.from_kernels(randn(3, 1, 3, 3), b, (16, 16), readout=readout) for b in (own, BENCH))
    told, before = (one.latency(exposure=1e-4) for one in (bank, plain))
    assert told["reference step"] == pytest.approx(steps * 1e-3)
    assert (told.seconds < before.seconds) == (steps > 0) and told.captures == before.captures


def test_a_bank_that_the_bench_does_not_hold_says_so():
    small = BENCH.replace({"camera.pixels": [20, 20], "input.pixels": [60, 60], "layout.guard": "0 um"})
    bank = fo.Correlator4f.from_kernels(randn(1, 1, 7, 7), small, (16, 16))
    with pytest.warns(UserWarning, match="does not hold the bank") as caught:
        bank.expose(seconds=1e-6)
    said = " ".join(str(warning.message) for warning in caught)
    assert all(key in said for key in ("camera.pixels", "layout.guard"))
    with pytest.warns(UserWarning, match="does not hold the bank"):
        bank.exposure()
    with pytest.warns(UserWarning, match="sees nothing of it"):
        fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), BENCH.replace({"camera.offset": ["0 um", "-2 mm"]}), (16, 16))


def test_zernike_terms_that_light_overfills_are_told():
    narrow = BENCH.replace({"aberration.diameter": "6 mm"})
    report = narrow.sampling(size=(32, 32), kernel=3, channels=(1, 1))
    (problem,) = [p for p in report.problems if p.code == "aberration-disc"]
    assert "aberration-disc" not in {p.code for p in report.after(problem).problems}
    wide = BENCH.replace({"aberration.diameter": "8.4 mm"}).sampling(size=(32, 32), kernel=3, channels=(1, 1))
    assert "aberration-disc" not in {p.code for p in wide.problems}


def test_the_free_space_window_holds_the_cross_terms_of_tiles():
    """Two by two tiles of 32 + 2·12 samples: sums land up to 2·112 - 56 + 5 samples wide, and the band is 8.3 mm."""
    bank = fo.Correlator4f.from_kernels(randn(1, 3, 5, 5), BENCH, (32, 32), light="free_space")
    plane = bank._light.plane
    for samples, pitch in zip(plane.size, plane.pitches, strict=True):
        assert samples * pitch >= 532e-9 * 0.25 / 16e-6 + (2 * 112 - 56 + 5) * 16e-6
        assert pitch <= 532e-9 * 0.25 / ((2 * 112 - 56 + 5) * 16e-6)


def test_the_ideal_field_is_read_in_network_units_and_by_no_camera():
    kernels, pictures = randn(2, 1, 3, 3), compact(1, (24, 24))
    bank = fo.Correlator4f.from_kernels(kernels, BENCH, (24, 24), readout="ideal_field", layout="mathematical")
    seen, field = bank(pictures), bank.field(pictures).real
    at = torch.arange(-200, 224, dtype=torch.float64)
    # readings are a sample wide: the mean over it, by a dense sum of sincs
    points = (torch.arange(64, dtype=torch.float64) + 0.5) / 64 - 0.5
    blur = torch.sinc((at[:, None] + points)[:, :, None] - at).mean(1)
    wide = torch.zeros(2, 424, 424, dtype=torch.float64)
    wide[:, 200:224, 200:224] = field
    torch.testing.assert_close(seen, (blur @ wide @ blur.T)[:, 200:224, 200:224], rtol=0, atol=1e-2)
    with pytest.raises(fo.InputError, match="homodyne"):
        bank.capture(pictures)
    assert torch.equal(bank.expose()(pictures), seen)


def test_captures_scatter_about_the_expected_reading():
    bank = fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), BENCH, (16, 16)).expose()
    pictures = compact(1, (16, 16))
    pattern = Pattern.draw(bank.readings, pictures, generator(7))
    draws = generator(1)
    frames = torch.stack([bank.capture(pictures, generator=draws, pattern=pattern).detach() for _ in range(400)])
    assert torch.equal(frames, frames.round())
    still = BENCH.replace({"camera.prnu": "0 %", "camera.dsnu": 0})
    even = fo.Correlator4f.from_kernels(bank.kernels.detach(), still, (16, 16)).expose(seconds=float(bank.shutter))
    frames_even = torch.stack([even.capture(pictures, generator=draws).detach() for _ in range(400)])
    error = frames_even.std(0) / 20
    assert ((frames_even.mean(0) - even(pictures)).abs() < 5 * error + 0.1).all()
    again = bank.capture(pictures, generator=generator(1), pattern=pattern)
    assert torch.equal(again, frames[0])
    assert not torch.equal(bank.capture(pictures, generator=generator(2), pattern=pattern), frames[0])


def test_noise_of_a_generator_a_picture_does_not_know_the_batch():
    bank = fo.Correlator4f.from_kernels(randn(2, 1, 3, 3), BENCH, (12, 12), readout="homodyne")
    pictures = rand(3, 1, 12, 12)
    bank.expose(pictures)
    pattern = Pattern.draw(bank.readings, pictures, generator(9))
    errors = fo.Imperfections({"camera.gain": 0.1, "camera.read_noise": 0.2})
    for off in (None, errors):
        options = {"pattern": pattern, "errors": off}
        together = bank.capture(pictures, generator=[generator(k) for k in (5, 6, 7)], **options)
        alone = [bank.capture(pictures[k : k + 1], generator=generator(5 + k), **options) for k in range(3)]
        assert torch.equal(together, torch.cat(alone))
    for given, options, says in (
        ([generator()] * 2, {"pattern": pattern}, r"2 generators for pictures \[3\]"),
        ([generator()] * 3, {}, "one camera for all"),
        ([generator()] * 3, {"pattern": pattern, "errors": errors.reshape(-1).at([0, 0, 0])}, "many draws"),
    ):
        with pytest.raises(fo.InputError, match=says):
            bank.capture(pictures, generator=given, **options)


def test_noise_has_gradients_and_hides_in_no_module():
    bank = fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), BENCH, (8, 8)).expose()
    bank.capture(rand(1, 8, 8), generator=generator()).sum().backward()
    assert bank.kernels.grad is not None
    assert bank.kernels.grad.abs().sum() > 0
    held = [value for part in (bank, bank._light, bank._reading) for value in vars(part).values()]
    assert not any(isinstance(value, torch.Generator) for value in held)
    before = torch.random.get_rng_state()
    bank.capture(rand(1, 8, 8), generator=generator())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_exposure_is_fixed_once_saved_and_never_follows_the_pictures():
    bank = fo.Correlator4f.from_kernels(randn(2, 1, 3, 3), BENCH, (16, 16))
    bright, dim = rand(2, 1, 16, 16), 0.1 * rand(2, 1, 16, 16)
    one, two = bank(torch.cat([bright, dim])), torch.cat([bank(bright), bank(dim)])
    torch.testing.assert_close(one, two, rtol=0, atol=1e-9)
    torch.testing.assert_close(bank.expose()(bright), two[:2], rtol=0, atol=1e-9)
    bank.expose(dim)
    assert float(bank.shutter) == pytest.approx(bank.exposure(dim))
    assert bank.latency()["exposure"] == pytest.approx(2 * float(bank.shutter))
    other = fo.Correlator4f.from_kernels(torch.zeros(2, 1, 3, 3).double(), BENCH, (16, 16))
    other.load_state_dict(bank.state_dict())
    torch.testing.assert_close(other(bright), bank(bright))
    assert float(other.shutter) == float(bank.shutter)


def test_a_gradient_that_does_not_fit_is_refused_beforehand(monkeypatch):
    bank = fo.Correlator4f.from_kernels(randn(16, 1, 3, 3), BENCH, (32, 32)).expose(seconds=1e-6)
    pictures = rand(64, 1, 32, 32)
    monkeypatch.setattr("fouroptics.memory.available", lambda device: 2**28)
    with pytest.raises(fo.InputError, match="a gradient through the camera"):
        bank(pictures)
    with torch.no_grad():
        assert bank(pictures).shape == (64, 16, 32, 32)


def test_reading_leaves_no_trace_in_a_bank():
    bank = fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), BENCH, (8, 8))
    other = {"kernels": randn(1, 1, 3, 3, seed=5)}
    before = bank(rand(1, 8, 8))
    torch.func.functional_call(bank, other, (rand(1, 8, 8),))
    assert math.isnan(float(bank.shutter))
    assert torch.equal(bank(rand(1, 8, 8)), before)


@pytest.mark.parametrize("way", ["fourier", "free_space"])
def test_a_bank_that_was_evaluated_can_be_trained_cast_and_copied(way):
    pictures = compact(1, (12, 12)).float()
    start = randn(1, 1, 3, 3, dtype=torch.float32)
    bank = fo.Correlator4f.from_kernels(start, BENCH, (12, 12), light=way, readout="homodyne").expose(seconds=1.23e-6)
    with torch.inference_mode():
        first = bank(pictures)
    bank(pictures).sum().backward()
    assert bank._reading._pixels._values
    again = copy.deepcopy(bank)
    assert not again._reading._pixels._values  # what is built is built anew, where the copy lives
    assert torch.equal(again(pictures), first)
    wide = fo.Correlator4f.from_kernels(start.double(), BENCH, (12, 12), light=way, readout="homodyne")
    wide.expose(seconds=1.23e-6)
    cast = bank.half().double()
    assert float(cast.shutter) == 1.23e-6
    cast.kernels.data.copy_(start)
    torch.testing.assert_close(cast(pictures.double()), wide(pictures.double()))
    torch.testing.assert_close(cast.float()(pictures), first)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(bank.field(pictures), bank.float().field(pictures))


def test_zero_taps_have_both_masks_slopes():
    """k⁺ - k⁻ = k, also at 0."""
    taps = torch.zeros(1, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    positive, negative = positive_negative(taps).chunk(2)
    (positive - negative).sum().backward()
    assert taps.grad.item() == 1
    parts = positive_negative(torch.tensor([-2.0, 3.0]))
    assert parts.tolist() == [0, 3, 2, 0]


def test_one_camera_s_expected_reading_has_its_pattern():
    bench = BENCH.replace({"camera.prnu": "5 %"})
    bank = fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), bench, (8, 8)).expose(seconds=1e-6)
    pattern = Pattern.draw(bank.readings, torch.zeros(()), generator())
    even, uneven = bank(rand(1, 8, 8)), bank(rand(1, 8, 8), pattern)
    expected = even * (1 + 0.05 / 4 * pattern.response) + 0.36 * 0.8 * 4 * pattern.offset
    torch.testing.assert_close(uneven, expected.detach().to(uneven), rtol=1e-3, atol=0.05)


def test_the_profile_of_a_tiled_beam_by_hand():
    """Four channels stand two by two; the beam is brightest where their tiles meet."""
    bench = CLEAN.replace({"source.waist": "1 mm"})
    size, tile = (12, 20), (12 + 24, 20 + 24)
    bank = fo.Correlator4f.from_kernels(torch.ones(1, 4, 1, 1).double(), bench, size)
    light = bank._lit(torch.ones(4, *size, dtype=torch.float64)).square()
    assert bank._sharing().input_tiles == (2, 2)
    for channel, (down, along) in enumerate(((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))):
        y = (torch.arange(12, dtype=torch.float64) - 5.5 + down * tile[0]) * 16e-6
        x = (torch.arange(20, dtype=torch.float64) - 9.5 + along * tile[1]) * 16e-6
        shape = torch.exp(-2 * (y[:, None] ** 2 + x**2) / 1e-6)
        torch.testing.assert_close(light[channel] / light[0, -1, -1], shape / shape_at_meeting(tile))


def shape_at_meeting(tile):
    y, x = (5.5 - 0.5 * tile[0]) * 16e-6, (9.5 - 0.5 * tile[1]) * 16e-6
    return math.exp(-2 * (y**2 + x**2) / 1e-6)


def test_a_bank_on_whose_camera_everything_saturates_says_what_would_do():
    bank = fo.Correlator4f.from_kernels(torch.ones(1, 1, 1, 1).double(), BENCH, (8, 8)).expose(seconds=1.0)
    with pytest.warns(UserWarning, match=r"saturated at an exposure of 1 s; (\S+) s would do") as caught:
        bank(torch.ones(1, 8, 8).double())
    one_row = torch.zeros(1, 8, 8).double()
    one_row[:, 4] = 1
    with pytest.warns(UserWarning, match=r"\d\d% of the readings are saturated"):
        bank.expose(seconds=2e-5)(one_row)
    would = float(str(caught[0].message).split("; ")[1].split()[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = bank.expose(seconds=would)(torch.ones(1, 8, 8).double())
    assert 0.5 * 10500 * 0.36 < seen.max() < 0.9 * 10500 * 0.36


def test_pooling_on_the_sensor_sums_charge():
    bench = CLEAN.replace({"camera.dark_current": 0, "camera.full_well": 1e6, "camera.gain": 0.003})
    kernels, pictures = randn(1, 1, 3, 3), compact(1, (16, 16))
    fine, pooled = (
        fo.Correlator4f.from_kernels(kernels, bench, (16, 16), sensor_pool=pool).expose(seconds=1e-4)
        for pool in (None, 4)
    )
    assert (fine.readings, pooled.readings) == ((16, 16), (4, 4))
    summed = fine(pictures).reshape(1, 4, 4, 4, 4).sum((2, 4))
    torch.testing.assert_close(pooled(pictures), summed, rtol=1e-3, atol=0.5)
    assert fo.Correlator4f.from_kernels(kernels, bench, (16, 16), sensor_pool=(2, 5)).readings == (2, 5)
    assert pooled.latency(exposure=1e-4).samples < fine.latency(exposure=1e-4).samples


@pytest.mark.parametrize("way", ["fourier", "free_space"])
@pytest.mark.parametrize("readout", ["ideal_field", "intensity", "pair_intensity", "homodyne", "interference"])
def test_expected_readings_have_true_gradients(way, readout):
    """Of kernels and of pictures, through scale, light, pixels, well and ADC."""
    bank = fo.Correlator4f.from_kernels(
        randn(2, 2, 2, 2), BENCH, (4, 4), readout=readout, light=way, compand="log", sensor_pool=2
    )
    bank.expose(seconds=2e-7)

    def seen(kernels, pictures):
        return torch.func.functional_call(bank, {"kernels": kernels}, (pictures,))

    pictures = (0.2 + 0.6 * rand(2, 4, 4)).requires_grad_()
    assert torch.autograd.gradcheck(seen, (bank.kernels, pictures), eps=1e-6, atol=1e-4, rtol=1e-4, fast_mode=True)


WALK = {
    "source.wavelength": "540 nm", "source.power": "4 mW", "source.waist": "2 mm",
    "input.fill_factor": "90 %", "input.transmission": "70 %", "mask.transmission": "70 %",
    "lens1.focal_length": "240 mm", "lens2.focal_length": "260 mm", "lens1.pupil": "6 mm", "lens2.pupil": "6 mm",
    "aberration.zernike": {"4": "30 nm", "7": "15 nm"}, "aberration.diameter": "7 mm", "stop.size": "5 mm",
    "stop.shape": "circular", "reference.power_ratio": "5 %", "reference.phase_step_error": "0.3 rad",
    "reference.visibility": "80 %", "camera.pitch": "4.5 um", "camera.fill_factor": "50 %", "camera.bin": 2,
    "camera.exposure": "200 us", "camera.qe": "50 %", "camera.full_well": 900, "camera.read_noise": 9,
    "camera.dark_current": 1e6, "camera.gain": 0.3, "camera.adc_bits": 9, "camera.prnu": "5 %", "camera.dsnu": 9,
    "camera.black_level": 3900.5, "camera.offset": ["3 um", "0 um"],
}  # fmt: skip


@pytest.mark.parametrize("key", WALK)
def test_every_key_of_source_lenses_errors_reference_and_camera_changes_what_is_captured(key):
    """In free space, where pupils are; exposures and noise alike."""
    start = BENCH.replace({"camera.exposure": "20 us", "lens1.pupil": "9 mm", "lens2.pupil": "9 mm"})
    seen, readout = [], "homodyne" if "phase" in key else "interference"
    for bench in (start, start.replace({key: WALK[key]})):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bank = fo.Correlator4f.from_kernels(
                randn(1, 1, 3, 3), bench, (12, 12), light="free_space", readout=readout, stop=True
            )
            seen.append(bank.capture(rand(1, 12, 12), generator=generator()).detach())
    assert seen[0].shape != seen[1].shape or not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"reference": None}, {"readout": "homodyne"}, "reference"),
        ({"reference": None}, {"readout": "interference"}, "reference"),
        ({}, {"readout": "amplitude"}, "readout"),
        ({}, {"compand": "cube"}, "compand"),
        ({}, {"light": "rays"}, "light"),
        ({}, {"sensor_pool": 100}, "sensor_pool"),
        ({}, {"sensor_pool": 0}, "sensor_pool"),
        ({}, {"sensor_pool": (2, 2, 2)}, "sensor_pool"),
    ],
)
def test_what_the_bench_cannot_read_is_refused(changes, options, says):
    with pytest.raises(fo.InputError, match=says):
        fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), BENCH.replace(changes), (8, 8), **options)


def test_complex_kernels_have_no_pair_and_exposures_are_positive():
    with pytest.raises(fo.InputError, match="positive and negative"):
        fo.Correlator4f.from_kernels(randn(1, 1, 3, 3) + 1j, BENCH, (8, 8), readout="pair_intensity")
    bank = fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), BENCH, (8, 8))
    for seconds in (0.0, -1.0, math.nan, math.inf, True):
        with pytest.raises(fo.InputError, match="exposure"):
            bank.expose(seconds=seconds)
    with pytest.raises(fo.InputError, match="not both"):
        bank.expose(rand(1, 8, 8), seconds=1e-3)
    for wrong in ("0 s", "-1 ms"):
        with pytest.raises(fo.InputError, match=r"camera\.exposure"):
            BENCH.replace({"camera.exposure": wrong})
    with pytest.raises(fo.InputError, match=r"camera\.black_level: a black level"):
        BENCH.replace({"camera.black_level": 5000})


def test_the_errors_on_the_bins_are_the_wavefront_s():
    """An odd grid has no shared edge, so its bins are the wavefront itself at λfν."""
    pupil = light._wavefront_on_bins(BENCH, (15, 15), torch.device("cpu"))
    nu = torch.fft.fftfreq(15, dtype=torch.float64) * 532e-9 * 0.25 / 16e-6
    path = aberration.wavefront(nu, nu, {4: 10e-9, 7: 15e-9}, 8.3e-3 * math.sqrt(2))
    torch.testing.assert_close(pupil, torch.exp(2j * math.pi * path / 532e-9))
