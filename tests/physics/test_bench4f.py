"""A bank on its whole bench: light through free space against the lens transform, errors of lenses, and readings."""

import math
import warnings

import pytest
import torch

import fouroptics as fo
from fouroptics.correlator import light
from fouroptics.optics import correlation, fourier

BENCH = fo.Bench.load("slm-532nm")
CLEAN = BENCH.replace({"aberration.zernike": {}, "source.waist": None})
LENS_CODES = {"lens1-pupil", "lens2-pupil", "paraxial-band", "paraxial-field"}


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


def both(kernels, bench, size, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            fo.Correlator4f.from_kernels(kernels, bench, size, light=way, **options)
            for way in ("fourier", "free_space")
        ]


def difference(ways, pictures):
    with torch.no_grad():
        ideal, waves = (way.field(pictures) for way in ways)
    return float((waves - ideal).norm() / ideal.norm())


@pytest.mark.parametrize(
    ("size", "channels", "changes", "options"),
    [
        ((32, 32), (2, 1), {}, {}),
        ((33, 28), (1, 2), {}, {}),
        ((32, 32), (1, 3), {}, {}),
        ((32, 33), (1, 1), {}, {"upright": False}),
        ((32, 32), (1, 2), {}, {"layout": "lenslet"}),
        ((32, 32), (1, 1), {"stop.size": "3 mm"}, {"stop": True}),
        ((32, 32), (1, 1), {"stop.size": "3 mm", "stop.shape": "circular"}, {"stop": True}),
        ((32, 32), (1, 1), {"lens2.focal_length": "400 mm"}, {}),
        ((32, 32), (1, 1), {"lens2.focal_length": "150 mm"}, {}),
        ((24, 24), (1, 1), {"lens1.focal_length": "50 mm", "lens2.focal_length": "50 mm", "input.super_pixel": 1}, {}),
    ],
)
def test_free_space_agrees_with_the_transform_on_its_working_grid(size, channels, changes, options):
    bench = BENCH.replace(changes)
    kernels = randn(*channels, 5, 7)
    ways = both(kernels, bench, size, **options)
    assert difference(ways, compact(channels[1], size)) < 1e-3
    assert difference(ways, rand(channels[1], *size)) < 0.05  # a white picture has a band's edge, where grids differ
    assert not LENS_CODES & {p.code for p in bench.sampling(size=size, kernel=(5, 7), channels=channels).problems}


def test_complex_kernels_and_a_batch_go_through_free_space():
    kernels = torch.complex(randn(2, 1, 3, 3), randn(2, 1, 3, 3, seed=1))
    pictures = torch.stack([compact(1, (32, 32)), compact(1, (32, 32)).flip(-1)])
    ways = both(kernels, BENCH, (32, 32))
    assert difference(ways, pictures) < 1e-3
    order = torch.tensor([1, 0])
    torch.testing.assert_close(ways[1].field(pictures)[order], ways[1].field(pictures[order]), rtol=0, atol=1e-12)
    assert ways[1].field(pictures[0]).shape == (2, 32, 32)


@pytest.mark.parametrize(
    "changes",
    [
        {"lens1.pupil": "5 mm"},
        {"lens2.pupil": "5 mm"},
        {"input.super_pixel": 1, "input.pitch": "1.5 um", "layout.guard": "6 um"}
        | {"lens1.focal_length": "10 mm", "lens2.focal_length": "10 mm"},
    ],
)
def test_where_free_space_is_not_the_transform_report_and_bank_warn(changes):
    bench = BENCH.replace({"lens1.focal_length": "100 mm", "lens2.focal_length": "100 mm", "stop": None} | changes)
    kernels = randn(1, 1, 7, 7)
    found = {p.code for p in bench.sampling(size=(32, 32), kernel=7, channels=(1, 1)).problems}
    assert LENS_CODES & found
    with pytest.warns(UserWarning, match=r"lens|input"):
        waves = fo.Correlator4f.from_kernels(kernels, bench, (32, 32), light="free_space")
    ideal = fo.Correlator4f.from_kernels(kernels, bench, (32, 32))
    assert difference((ideal, waves), rand(1, 32, 32)) > 0.01


def test_free_space_never_calls_the_lens_transform(monkeypatch):
    bank = fo.Correlator4f.from_kernels(randn(1, 2, 3, 3), BENCH, (16, 16), light="free_space", readout="homodyne")
    pictures = compact(2, (16, 16))
    before = bank.field(pictures).detach()

    def refuse(*_, **__):
        raise AssertionError("the lens transform was called")

    for module, name in (
        (fourier, "lens_ft"), (fourier, "lens_ift"), (fourier.MatrixFT, "__call__"),
        (correlation, "correlate"), (light, "correlate"), (fourier.MatrixFT, "__init__"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, refuse)
    assert torch.equal(bank.field(pictures), before)
    bank.expose(seconds=1e-4)
    bank.power(pictures)
    with pytest.raises(AssertionError, match="lens transform"):
        fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), BENCH, (8, 8)).field(rand(1, 8, 8))


def test_free_space_in_float32_and_its_gradient():
    kernels = randn(1, 1, 3, 3, dtype=torch.float32)
    fine, coarse = (
        fo.Correlator4f.from_kernels(k, CLEAN, (12, 12), light="free_space") for k in (kernels.double(), kernels)
    )
    pictures = compact(1, (12, 12))
    wide = fine.field(pictures)
    assert (coarse.field(pictures.float()) - wide).abs().max() < 1e-4 * wide.abs().max()
    weight = randn(12, 12)
    (slope,) = torch.autograd.grad((fine.field(pictures)[0].real * weight).sum(), fine.kernels)
    ideal = fo.Correlator4f.from_kernels(kernels.double(), CLEAN, (12, 12))
    (expected,) = torch.autograd.grad((ideal.field(pictures)[0].real * weight).sum(), ideal.kernels)
    assert (slope - expected).abs().max() < 2e-3 * expected.abs().max()


def test_free_space_does_not_wrap_and_checks_its_memory(monkeypatch):
    with pytest.raises(fo.InputError, match="wrap"):
        fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), BENCH, (8, 8), light="free_space", boundary="circular")
    bank = fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), BENCH, (8, 8), light="free_space")
    monkeypatch.setattr("fouroptics.memory.available", lambda device: 2**21)
    with pytest.raises(fo.InputError, match="GiB are free"):
        bank.field(rand(40, 1, 8, 8))


# Errors of the lenses


@pytest.mark.parametrize("way", ["fourier", "free_space"])
@pytest.mark.parametrize(("index", "axis"), [(2, 1), (3, 0)])
def test_a_tilted_wavefront_moves_the_picture_to_its_longer_side(way, index, axis):
    """On the camera towards the delay; turned back, the other way. 4 samples are 64 µm, f·2a/R of a disc of 12 mm."""
    a = 4 * 16e-6 / 0.25 * 6e-3 / 2
    bench = CLEAN.replace({"aberration.zernike": {str(index): f"{a!r} m"}, "aberration.diameter": "12 mm"})
    pictures = torch.zeros(1, 24, 24, dtype=torch.float64)
    pictures[0, 10:13, 12:15] = torch.outer(*[torch.tensor([0.5, 1.0, 0.5], dtype=torch.float64)] * 2)
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for upright in (True, False):
        bank = fo.Correlator4f.from_kernels(one, bench, (24, 24), upright=upright, light=way)
        still = bank.field(pictures).abs().square()[0]
        moved = bank.power(pictures)[0]
        peaks = [divmod(int(image.argmax()), 24) for image in (still, moved)]
        expected = [0, 0]
        expected[axis] = -4 if upright else 4
        assert [peaks[1][i] - peaks[0][i] for i in (0, 1)] == expected


@pytest.mark.parametrize(("index", "offset"), [(2, ["48 um", "0 um"]), (3, ["0 um", "48 um"])])
@pytest.mark.parametrize("samples", [3, 20])
def test_the_camera_moved_along_sees_the_tilted_picture_in_place(index, offset, samples):
    a = samples * 16e-6 / 0.25 * 6e-3 / 2
    tilted = {"aberration.zernike": {str(index): f"{a!r} m"}, "aberration.diameter": "12 mm"}
    offset = [f"{float(part.split()[0]) * samples / 3} um" for part in offset]
    pictures, kernels = compact(1, (24, 24)), randn(1, 1, 3, 3)
    for upright, way in ((True, "fourier"), (False, "fourier"), (True, "free_space")):
        options = {"upright": upright, "light": way}
        straight, followed, left = (
            fo.Correlator4f.from_kernels(kernels, CLEAN.replace(changes), (24, 24), **options).expose(seconds=1e-6)
            for changes in ({}, tilted | {"camera.offset": offset}, tilted)
        )
        seen = straight(pictures)
        torch.testing.assert_close(followed(pictures), seen, rtol=0, atol=2e-2 * float(seen.detach().max()))
        assert (left(pictures) - seen).abs().max() > 0.1 * seen.max()


def test_defocus_lowers_the_spot_by_its_strehl_ratio():
    """The only source is one sample; its peak falls by e^{-σ²}, σ over the round stop."""
    rms = 0.3 / (2 * math.pi) * 532e-9
    bench = CLEAN.replace({"stop.shape": "circular", "stop.size": "6 mm", "aberration.zernike": {"4": f"{rms!r} m"}})
    point = torch.zeros(1, 33, 33, dtype=torch.float64)
    point[0, 16, 16] = 1
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    peaks = [
        fo.Correlator4f.from_kernels(one, b, (33, 33), stop=True).power(point)[0, 16, 16].item()
        for b in (bench.replace({"aberration.zernike": {}}), bench)
    ]
    assert peaks[1] / peaks[0] == pytest.approx(math.exp(-0.09), rel=2e-3)


def test_aberrations_act_alike_in_both_lights():
    bench = CLEAN.replace({"aberration.zernike": {"4": "40 nm", "7": "30 nm", "11": "20 nm"}})
    ways = both(randn(1, 1, 5, 5), bench, (32, 32))
    seen = [way.power(compact(1, (32, 32))).detach() for way in ways]
    assert (seen[0] - seen[1]).norm() < 1e-3 * seen[0].norm()
    clean = both(randn(1, 1, 5, 5), CLEAN, (32, 32))[0].power(compact(1, (32, 32))).detach()
    assert (seen[0] - clean).norm() > 0.02 * clean.norm()


def test_the_disc_of_the_errors_is_the_bench_s_or_goes_round_the_opening():
    band = 532e-9 * 0.25 / 16e-6
    for changes, diameter in (
        ({"aberration.diameter": "9 mm"}, 9e-3),
        ({"stop.shape": "circular", "stop.size": "7 mm"}, 7e-3),
        ({"stop.shape": "square", "stop.size": "7 mm"}, 7e-3 * math.sqrt(2)),
        ({"stop": None}, band * math.sqrt(2)),
        ({"stop.size": "band"}, band * math.sqrt(2)),
    ):
        assert light.wavefront_diameter(BENCH.replace(changes)) == pytest.approx(diameter)
