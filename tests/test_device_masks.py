"""Banks on masks that a device can show: against conv2d, sums over all pixels, waves in free space, and by hand.

A bench of few mask pixels: the panel is the sampled band, cut into as many as a test can afford."""

import math

import numpy as np
import pytest
import torch

import fouroptics as fo
from fouroptics.devices.encode import HEADROOM
from tests.device_banks import (
    BAND,
    IDEAL,
    apart,
    bank_of,
    bench_of,
    compact,
    conv2d,
    correlation,
    field_of,
    rand,
    randn,
    with_mask,
)


def plain_sum(bank, picture, tiles, there, mask, points=6):
    """One response: each mask pixel's area by quadrature, each input pixel's spectrum, everything as plain waves.

    Args:
        tiles: centres of the inputs, (y, x) samples.
        there: the response's centre.
        mask: transmissions ``[in, Ny, Nx]``.
    """
    bench, count = bank.bench, mask.shape[-2:]
    at, weight = (torch.tensor(one) / 2 for one in np.polynomial.legendre.leggauss(points))
    pitch, fill, leak = bench.mask.pitch / BAND, bench.mask.fill_factor, bench.mask.leak

    def places(n, side):
        centres = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * pitch
        return (centres[:, None] + at * pitch * side).flatten(), weight.repeat(n) * pitch * side

    def pixel(nu):
        clear = math.sqrt(bench.input.fill_factor) / 2
        return torch.sinc(clear * nu) * torch.cos(2 * math.pi * nu / 4)  # two of them, ±¼ of a sample

    def passed(side, t, tile, one):
        (y, wy), (x, wx) = (places(n, side) for n in count)
        samples = [torch.arange(n, dtype=torch.float64) for n in one.shape]
        arrive = [
            torch.exp(-2j * math.pi * nu[:, None] * (s + c)) * pixel(nu)[:, None]
            for nu, s, c in zip((y, x), samples, tile, strict=True)
        ]
        leave = [
            torch.exp(2j * math.pi * (s + c)[:, None] * nu) * w
            for nu, s, c, w in zip((y, x), samples, there, (wy, wx), strict=True)
        ]
        at_mask = arrive[0] @ one.to(torch.complex128) @ arrive[1].T
        t = t.repeat_interleave(points, 0).repeat_interleave(points, 1)
        return leave[0] @ (at_mask * t) @ leave[1].T

    total = 0
    for one, tile, t in zip(picture, tiles, mask, strict=True):
        clear = torch.ones_like(t)
        total = total + passed(math.sqrt(fill), t - leak * clear, tile, one) + leak * passed(1.0, clear, tile, one)
    return total


CASES = {
    "ideal": (bench_of(96, IDEAL), (1, 1), {}),
    "ideal, as it comes": (bench_of(96, IDEAL | {"mask.precompensate": False}), (2, 2), {}),
    "double-phase": (bench_of(150), (1, 2), {}),
    "odd pixels": (bench_of(151), (1, 2), {}),
    "crosstalk": (bench_of(150, {"mask.crosstalk": "20 um", "mask.flicker": "0.2 rad"}), (1, 2), {}),
    "carrier": (bench_of(120, {"mask.encoding": "carrier"}), (1, 1), {}),
    "lee": (with_mask(120, preset="dmd", leak="20 %"), (1, 1), {}),
    "lenslet": (bench_of(96, IDEAL, across=(192, 96)), (1, 2), {"layout": "lenslet"}),
    "a larger panel": (bench_of(96, IDEAL, across=(113, 140)), (1, 1), {}),
    "side by side": (bench_of(120, IDEAL | {"layout.outputs": "tiled"}), (2, 1), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_light_is_the_sum_over_all_pixels_of_input_and_mask(case):
    bench, channels, options = CASES[case]
    size = (16, 15)
    bank = bank_of(randn(*channels, 3, 4), bench, size, **options)
    shown = bank.device.plan.transmitted(bank.masks, torch.float64)
    guard, offset = 4, 0.0
    if bench.mask.encoding in ("carrier", "lee"):
        offset = BAND / bench.mask.pitch / 4
    lenslet = options.get("layout") == "lenslet"
    wide = channels[1] > 1 and not lenslet
    tiles = [(0.0, (i - 0.5) * (size[1] + 2 * guard)) if wide else (0.0, 0.0) for i in range(channels[1])]
    grid = size[1] + 2 * guard
    for picture, within in ((compact(channels[1], size), 1e-4), (rand(channels[1], *size), 6e-3)):
        with torch.no_grad():
            seen = bank._light.respond(picture, bank.device.shown(bank.kernels))
        for output in range(channels[0]):
            there = (0.0, offset)
            if bench.layout.outputs == "tiled":
                there = (0.0, (output - 0.5) * grid)
            mask = shown if lenslet else shown[[0 if bench.layout.outputs == "tiled" else output] * channels[1]]
            true = plain_sum(bank, picture, tiles, there, mask)
            assert apart(seen[output], true) < within


# Against conv2d


def test_asking_for_more_than_the_strongest_frequency_has_pays_where_levels_are_few():
    """It clips there; all else is so much brighter, against the same steps of phase."""
    kernels, pictures = randn(1, 2, 3, 3), rand(3, 2, 16, 16, seed=2)
    plain, asked = (bank_of(kernels, with_mask(150, preset="etched-4", **more)) for more in ({}, {"overdrive": 2}))
    seen = [correlation(field_of(bank, pictures).real, conv2d(pictures, kernels)) for bank in (plain, asked)]
    assert 1 - seen[1] < 0.6 * (1 - seen[0])
    gains = [float(bank.device.gain(bank._masks(), bank.kernels).detach()) for bank in (plain, asked)]
    assert 1.5 < gains[1] / gains[0] < 2
    assert bank_of(kernels, bench_of(150, {"mask.encoding": "fit"})).bench.mask.asked == 2
    small = torch.full((1, 1, 1, 1), 0.5).double()  # one tap: |t| is 1 everywhere, and nothing is left to be had
    one, more = (
        bank_of(small, bench_of(96, IDEAL | {"mask.precompensate": False, "mask.overdrive": o})) for o in (1, 3)
    )
    assert apart(field_of(one, pictures[:, :1]), field_of(more, pictures[:, :1])) < 2e-3


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("upright", [True, False])
def test_the_ideal_plate_is_conv2d_with_precompensation_and_nearly_without(is_complex, upright):
    kernels = randn(2, 2, 3, 5)
    kernels = torch.complex(kernels, randn(2, 2, 3, 5, seed=1)) if is_complex else kernels
    pictures, size = rand(3, 2, 15, 17, seed=2), (15, 17)
    true = conv2d(pictures, kernels)
    true = true if upright else true.flip(-2, -1)  # odd sizes turn onto themselves
    seen = field_of(bank_of(kernels, bench_of(128, IDEAL), size, upright=upright), pictures)
    assert correlation(seen, true) > 0.9999
    assert apart(seen, true) < 0.01
    smooth = fo.pictures.natural(4, 2, size).double()
    bare = field_of(
        bank_of(kernels, bench_of(128, IDEAL | {"mask.precompensate": False}), size, upright=upright), smooth
    )
    true = conv2d(smooth, kernels)
    true = true if upright else true.flip(-2, -1)
    assert 0.97 < correlation(bare, true) < 0.9995


@pytest.mark.parametrize(
    ("changes", "pixels", "least"),
    [
        ({}, 150, 0.999),
        ({"mask.levels": 16}, 150, 0.99),
        ({"mask.encoding": "fit"}, 150, 0.97),
        ({"mask.encoding": "carrier"}, 192, 0.9),
        ({"mask.encoding": "phase"}, 150, 0.7),
        ({"mask.wavefront": {"4": "80 nm", "7": "40 nm"}}, 150, 0.99),
    ],
)
def test_what_a_liquid_crystal_makes_of_conv2d(changes, pixels, least):
    kernels, pictures = randn(2, 2, 3, 3), rand(3, 2, 16, 16, seed=2)
    seen = field_of(bank_of(kernels, bench_of(pixels, changes)), pictures)
    found = correlation(seen.real, conv2d(pictures, kernels))
    assert found > least
    assert found < 1 - 1e-7


@pytest.mark.parametrize(
    ("keys", "least"),
    [
        ({"preset": "dmd"}, 0.8),
        ({"preset": "chrome"}, 0.8),
        ({"preset": "grey"}, 0.99),
        ({"preset": "etched-16"}, 0.97),
        ({"preset": "etched-4", "encoding": "carrier"}, 0.7),
    ],
)
def test_what_other_devices_make_of_conv2d(keys, least):
    kernels, pictures = randn(1, 2, 3, 3), rand(3, 2, 16, 16, seed=2)
    seen = field_of(bank_of(kernels, with_mask(192, **keys)), pictures)
    assert correlation(seen.real, conv2d(pictures, kernels)) > least


def test_tiles_farther_out_are_as_bright_as_those_on_the_axis():
    """Five inputs stand 2 × 3; their masks' pixels dim the outer columns' responses by their own sinc."""
    kernels, pictures = randn(1, 5, 3, 3), rand(2, 5, 12, 12)
    bench = bench_of(64, IDEAL | {"layout.guard": "16 um", "mask.leak": "0 %"})
    assert apart(field_of(bank_of(kernels, bench, (12, 12)), pictures), conv2d(pictures, kernels)) < 0.012
    bare = bench.replace({"mask.precompensate": False})
    bank = bank_of(kernels, bare, (12, 12))
    alone = []
    for channel in (0, 1):  # the corner, 14 samples beside the axis, and the middle, on it
        dark = torch.zeros_like(pictures)
        dark[:, channel] = compact(1, (12, 12))
        wanted = conv2d(dark, kernels)
        seen = field_of(bank, dark)
        alone.append(((seen * wanted).sum() / wanted.square().sum()).abs().item())
    angle = math.pi * math.sqrt(0.93) * 14 / 64
    assert alone[0] / alone[1] == pytest.approx(math.sin(angle) / angle, rel=0.02)


def test_for_a_real_kernel_double_phase_errs_in_quadrature():
    """At 3 pixels a bin, not 150: Re E is the ideal plate's, to the levels' fineness."""
    kernels, pictures = randn(1, 1, 3, 3), compact(1, (16, 16))[None]
    keys = {"mask.levels": 65536, "mask.precompensate": False, "mask.leak": "0 %"}
    bench = bench_of(72, keys)
    seen, plate = (
        field_of(bank_of(kernels, b), pictures)
        for b in (bench, bench_of(72, IDEAL | {"mask.precompensate": False, "mask.leak": "0 %"}))
    )
    assert apart(seen.real, plate.real) < 5e-4
    assert seen.imag.norm() > 3 * (seen.real - plate.real).norm()
    assert plate.imag.norm() < 1e-4 * plate.real.norm()


LAYOUTS = [
    ("tiled", "frames", (144, 144)),
    ("tiled", "tiled", (144, 144)),
    ("tiled", "lenslet", (288, 288)),
    ("lenslet", "frames", (288, 144)),
    ("lenslet", "lenslet", (432, 288)),
    ("lenslet", "tiled", (288, 288)),
]


@pytest.mark.parametrize(("inputs", "outputs", "panel"), LAYOUTS)
@pytest.mark.parametrize("readout", ["intensity", "pair_intensity"])
def test_every_layout_sums_its_channels(inputs, outputs, panel, readout):
    kernels, pictures = randn(3, 2, 3, 3), rand(2, 2, 16, 16, seed=2)
    bench = bench_of(144, IDEAL | {"layout.outputs": outputs}, across=panel)
    bank = bank_of(kernels, bench, layout=inputs, readout=readout)
    assert correlation(field_of(bank, pictures), conv2d(pictures, kernels)) > 0.9999
    assert apart(field_of(bank, pictures), conv2d(pictures, kernels)) < 0.01
    pairs = 2 if readout == "pair_intensity" else 1
    masks = {"frames": 3, "lenslet": 3, "tiled": 1}[outputs] * (2 if inputs == "lenslet" else 1) * pairs
    assert bank.masks.shape[0] == masks
    corners = {origin for origin in bank.device.plan.origins}
    assert len(corners) == bank._sharing().arms


def test_pairs_of_masks_are_the_positive_and_the_negative_part():
    kernels, pictures = randn(2, 1, 3, 3), rand(2, 1, 16, 16)
    bench = bench_of(120, IDEAL)
    bank = bank_of(kernels, bench, readout="pair_intensity")
    one, other = (bank_of(part, bench) for part in (kernels.clamp_min(0), -kernels.clamp_max(0)))
    scale = bank.scale.detach()
    assert scale.shape == (2,)
    with torch.no_grad():
        light = bank.power(pictures)
        for half, single in ((light[:, :2], one), (light[:, 2:], other)):
            factor = (scale / single.scale).square()[:, None, None]
            assert apart(half, single.power(pictures) * factor) < 1e-3
    with pytest.raises(fo.InputError, match="complex kernels"):
        bank_of(torch.complex(kernels, kernels), bench, readout="pair_intensity")


def test_inputs_one_after_another_add_up_to_tiled_ones():
    """Homodyne readings are linear: frames' sum over electronics, scaled, is the tiled reading."""
    kernels, pictures = randn(2, 2, 3, 3), compact(2, (16, 16))[None]
    bench = bench_of(144, IDEAL | {"mask.leak": "0 %"})
    banks = [
        bank_of(kernels, bench, layout=way, readout="homodyne").expose(seconds=1e-8) for way in ("tiled", "frames")
    ]
    with torch.no_grad():
        tiled, frames = (bank(pictures) / bank.scale[:, None, None] for bank in banks)
    for output in range(2):
        gain = (tiled[0, output] * frames[0, output]).sum() / frames[0, output].square().sum()
        assert apart(gain * frames[0, output], tiled[0, output]) < 2e-3
    assert banks[1].masks.shape[0] == 4
    with pytest.raises(fo.InputError, match="one after another never meet") as caught:
        bank_of(kernels, bench, layout="frames").expose(seconds=1e-5)(pictures)
    assert "\n" not in str(caught.value)


# Against waves in free space


@pytest.mark.parametrize(
    ("changes", "channels", "options"),
    [
        (IDEAL, (1, 2), {}),
        ({}, (1, 1), {}),
        ({"mask.encoding": "carrier"}, (1, 1), {}),
        ({"mask.encoding": "carrier", "lens2.focal_length": "125 mm"}, (1, 1), {}),
        (IDEAL | {"layout.outputs": "tiled"}, (2, 1), {}),
        (IDEAL | {"layout.outputs": "tiled", "lens2.focal_length": "125 mm"}, (2, 1), {}),
        ({"mask.wavefront": {"4": "60 nm", "8": "30 nm"}, "mask.crosstalk": "10 um"}, (1, 1), {"upright": False}),
        (IDEAL | {"stop.size": "4 mm"}, (1, 1), {"stop": True}),
        ({"aberration.zernike": {"4": "40 nm", "7": "30 nm"}}, (1, 1), {}),
        ({"aberration.zernike": {"2": "40 nm", "7": "30 nm"}, "mask.correct_aberration": True}, (1, 1), {}),
    ],
)
def test_waves_in_free_space_see_the_same_masks(changes, channels, options):
    kernels, pictures = randn(*channels, 3, 3), compact(channels[1], (16, 16))
    banks = [bank_of(kernels, bench_of(120, changes), light=way, **options) for way in ("fourier", "free_space")]
    with torch.no_grad():
        assert apart(banks[1].field(pictures), banks[0].field(pictures)) < 3e-3
        assert apart(banks[1].power(pictures), banks[0].power(pictures)) < 5e-3
    true = conv2d(pictures[None], kernels)[0]
    if not options and "mask.encoding" not in changes:
        assert apart(banks[1].field(pictures).detach(), true) < 0.02


def test_waves_through_lenslets_and_their_masks():
    kernels, pictures = randn(2, 2, 3, 3), compact(2, (16, 16))
    bench = bench_of(96, IDEAL, across=(192, 96))
    ways = [bank_of(kernels, bench, layout="lenslet", light=way) for way in ("fourier", "free_space")]
    fields = [field_of(bank, pictures) for bank in ways]
    assert apart(fields[1], fields[0]) < 3e-3
    assert apart(fields[0], conv2d(pictures[None], kernels)[0]) < 5e-3


def test_masks_through_free_space_learn_like_those_behind_a_transform():
    kernels, pictures = randn(1, 1, 3, 3), compact(1, (16, 16))
    slopes = []
    for way in ("fourier", "free_space"):
        bank = bank_of(kernels, bench_of(80), light=way).train()
        bank.power(pictures).sum().backward()
        slopes.append(bank.device.drive.grad)
    assert apart(slopes[1], slopes[0]) < 0.02


# Light


@pytest.mark.parametrize("fill", [0.93, 0.6])
@pytest.mark.parametrize("leak", [0.0, 0.5])
def test_power_of_a_blank_mask_by_hand(fill, leak):
    """The middle of a white picture, wider than any ringing: F² of the light, and what leaks where it is not undone."""
    changes = {"mask.fill_factor": f"{fill * 100} %", "mask.leak": f"{leak * 100} %", "mask.precompensate": False}
    one, white = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.ones(1, 64, 64, dtype=torch.float64)
    bench = bench_of(80, IDEAL | changes | {"layout.guard": "0 um"})
    bank = bank_of(one, bench, (64, 64))
    with torch.no_grad():
        power = bank.power(white)[0, 24:40, 24:40].mean().item()
    irradiance = 5e-3 / (1920 * 8e-6 * 1080 * 8e-6) * 0.80 * 0.93**2 * 0.75
    assert power == pytest.approx(irradiance * (fill * HEADROOM + (1 - fill) * leak) ** 2, rel=5e-3)
    undone = bank_of(one, bench.replace({"mask.precompensate": True, "mask.leak": "0 %"}), (64, 64))
    with torch.no_grad():
        power = undone.power(white)[0, 24:40, 24:40].mean().item()
    edge = 79 / 160  # cycles a sample, of the last mask pixel's centre; an input sample is two pixels
    half = math.pi * edge * math.sqrt(0.93) / 2
    darkest = math.sin(half) / half * math.cos(math.pi * edge / 2)
    assert power == pytest.approx(irradiance * (fill * HEADROOM * darkest**2) ** 2, rel=0.01)


@pytest.mark.parametrize(
    ("inputs", "outputs", "panel", "arms"),
    [
        ("tiled", "frames", (96, 96), 1),
        ("lenslet", "frames", (96, 192), 2),
        ("lenslet", "lenslet", (288, 192), 6),
    ],
)
def test_what_splitting_and_summing_keep_by_hand(inputs, outputs, panel, arms):
    """Each response's power is |s·field|² of the light on its picture, over as many arms as it was split into."""
    bench = bench_of(
        96, IDEAL | {"layout.outputs": outputs, "mask.precompensate": False, "mask.leak": "0 %"}, across=panel
    )
    kernels, pictures = randn(3, 2, 3, 3), rand(2, 16, 16)
    bank = bank_of(kernels, bench, layout=inputs)
    kept = (bank.scale * bank.device.gain(bank._masks(), bank.kernels)).detach()
    irradiance = 5e-3 / (1920 * 8e-6 * 1080 * 8e-6) * 0.80 * 0.93**2 * 0.75 / arms
    with torch.no_grad():
        wanted = irradiance * (kept[:, None, None] * bank.field(pictures)).abs().square()
        torch.testing.assert_close(bank.power(pictures), wanted)
    assert (bank.device.gain(bank._masks(), bank.kernels) < 1).all()


def test_gaps_leave_a_copy_of_the_picture_on_the_axis_beside_a_carrier():
    """A carrier mask's axis, seen by a plan without one: (1 - F)·r of the picture, and the grating's zeroth order."""
    pictures, one = compact(1, (16, 16)), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    keys = {"mask.fill_factor": "80 %", "mask.leak": "50 %", "mask.precompensate": False, "mask.levels": 4096}
    steered = bank_of(one, bench_of(120, keys | {"mask.encoding": "carrier"}))
    watched = bank_of(one, bench_of(120, keys | {"mask.encoding": "phase"})).put(steered.masks)
    with torch.no_grad():
        seen = watched._light.respond(pictures, watched.device.shown(watched.kernels))[0]
    plain = bank_of(
        one, bench_of(120, IDEAL | {"mask.fill_factor": "100 %", "mask.leak": "0 %", "mask.precompensate": False})
    )
    with torch.no_grad():
        copy_of = plain._light.respond(pictures, plain.device.shown(plain.kernels))[0] / HEADROOM
    zeroth = torch.exp(2j * math.pi * steered.masks / 4096).mean().item()
    assert abs(zeroth) < 0.05
    assert apart(seen, (0.2 * 0.5 + 0.8 * zeroth) * copy_of) < 0.01


# Levels
