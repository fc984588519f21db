"""Banks on masks that a device can show: against conv2d, sums over all pixels, waves in free space, and by hand.

A bench of few mask pixels: the panel is the sampled band, cut into as many as a test can afford.
"""

import copy
import math
import os
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import fouroptics as fo
from fouroptics.correlator.panel import modulator_of
from fouroptics.devices.encode import HEADROOM

SLM = fo.Bench.load("slm-532nm")
BAND = 532e-9 * 0.25 / 16e-6  # of the sampled spectrum [m]
STILL = {
    "source.waist": None, "aberration.zernike": {}, "mask.crosstalk": "0 um", "mask.flicker": "0 rad",
    "layout.guard": "64 um", "lens1.pupil": None, "lens2.pupil": None,
}  # fmt: skip
IDEAL = {
    "mask.preset": None, "mask.kind": "complex", "mask.encoding": "ideal",
    "mask.levels": None, "mask.phase_range": None,
}  # fmt: skip


def bench_of(pixels, changes=(), *, across=None):
    """The shipped bench, its band ``pixels`` wide on a panel of ``across`` (y, x)."""
    y, x = across or (pixels, pixels)
    return SLM.replace(STILL | {"mask.pitch": f"{BAND / pixels!r} m", "mask.pixels": [x, y]} | dict(changes))


def with_mask(pixels, **keys):
    """The same with another device for a mask."""
    mask = {"pitch": f"{BAND / pixels!r} m", "pixels": [pixels, pixels], "precompensate": True}
    return SLM.replace(STILL).replace({"mask": mask | keys})


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def compact(inputs, size):
    """Pictures that fade towards their edges and keep to half the band."""
    pictures = fo.pictures.natural(1, inputs, size, seed=4)[0].double()
    low = [(torch.fft.fftfreq(n).abs() < 0.25).double() for n in size]
    smooth = torch.fft.ifft2(torch.fft.fft2(pictures) * torch.outer(*low)).real
    smooth = (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())
    return smooth * torch.outer(*(torch.hann_window(n, periodic=False, dtype=torch.float64) for n in size))


def bank_of(kernels, bench, size=(16, 16), **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fo.Correlator4f.from_kernels(kernels, bench, size, masks="device", **options).eval()


@torch.no_grad()
def field_of(bank, pictures):
    return bank.field(pictures)


def conv2d(pictures, kernels):
    if kernels.is_complex():
        return torch.complex(
            F.conv2d(pictures, kernels.real, padding="same"), F.conv2d(pictures, kernels.imag, padding="same")
        )
    return F.conv2d(pictures, kernels, padding="same")


def correlation(seen, true):
    """Without the mean, every output by itself: the worst."""
    seen, true = (one.transpose(0, 1).flatten(1) for one in (seen, true))
    seen, true = seen - seen.mean(1, keepdim=True), true - true.mean(1, keepdim=True)
    return ((seen * true.conj()).sum(1).abs() / seen.norm(dim=1) / true.norm(dim=1)).amin().item()


def apart(seen, true):
    return ((seen - true).norm() / true.norm()).item()


# Against sums over all pixels


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


TURN_OF_255 = 2 * math.pi * 255 / 256
KINDS = {
    "slm": {"preset": "slm-phase-8bit", "crosstalk": "20 um", "flicker": "0.1 rad"},
    "short": {"preset": "slm-phase-8bit", "phase_range": "5 rad", "levels": 16, "crosstalk": "0 um"},
    "etched": {"preset": "etched-8"},
    "dmd": {"preset": "dmd"},
    "chrome": {"preset": "chrome"},
    "grey": {"preset": "grey"},
    "plate": {"preset": "ideal"},
    "plate, double-phase": {"preset": "ideal", "encoding": "double-phase"},
    "cells": {"preset": "metasurface"},
    "falling": {"preset": "slm-phase-8bit", "levels": 40},
}
ROWS = {
    "cells": [f"{n},{n * 0.3 - 2},{0.5 + 0.5 * math.cos(n) ** 2}" for n in range(24)],
    "falling": [f"{n},{1 - n * n / 200},{1 - n / 100}" for n in range(40)],
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for name, rows in ROWS.items():
        (folder / f"{name}.csv").write_text("\n".join(("drive,phase_rad,transmittance", *rows)), encoding="utf-8")
    (folder / "dead.csv").write_text("x,y,level\n3,0,1\n60,70,0\n40,41,1\n", encoding="utf-8")
    return folder


def device_of(tables, kind, pixels=96, **keys):
    keys = KINDS[kind] | keys
    keys = keys | ({"lut": (tables / f"{kind}.csv").as_posix()} if kind in ROWS else {})
    return with_mask(pixels, **keys)


@settings(max_examples=40)
@given(
    kind=st.sampled_from(list(KINDS)),
    size=st.tuples(st.integers(3, 14), st.integers(3, 14)),
    fill=st.sampled_from(["100 %", "93 %", "40 %"]),
    leak=st.sampled_from(["0 %", "30 %"]),
    dead=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 99),
)
def test_what_is_exported_is_what_was_evaluated_to_the_bit(tables, kind, size, fill, leak, dead, dtype, seed):
    """On every device: hard evaluation shows its levels' transmission, each time, and also when they are put back."""
    dead = {"dead": (tables / "dead.csv").as_posix()} if dead and not kind.startswith("plate") else {}
    bench = device_of(tables, kind, fill_factor=fill, leak=leak, **dead)
    bank = bank_of(randn(1, 1, 2, 3, seed=seed, dtype=dtype), bench, size)
    with torch.no_grad():  # as training would leave them
        bank.device.drive.add_(randn(*bank.device.drive.shape, seed=seed, dtype=dtype) * 0.3)
    pictures, levels = rand(1, *size, dtype=dtype), bank.masks
    with torch.no_grad():
        before, light = bank.field(pictures), bank.power(pictures)
        shown = bank.device.shown(bank.kernels).transmission
        assert torch.equal(bank.device.plan.transmitted(levels, dtype), shown)
        assert torch.equal(copy.deepcopy(bank).field(pictures), before)
        bank.put(levels)
        assert torch.equal(bank.masks, levels)
        assert torch.equal(bank.device.shown(bank.kernels).transmission, shown)
        assert torch.equal(bank.field(pictures), before)
        assert torch.equal(bank.power(pictures), light)
    assert levels.min() >= 0
    assert levels.max() < modulator_of(bench).levels


def test_who_inverts_a_table_decides_what_is_sent_and_not_what_is_shown(tmp_path):
    """A controller is sent even phases and sets the nearest drive; from a file the drives themselves are sent."""
    shown = [TURN_OF_255 * (n / 255) ** 1.5 for n in range(256)]
    rows = [f"{n},{phase!r}" for n, phase in enumerate(shown)]
    (tmp_path / "lut.csv").write_text("\n".join(("drive,phase_rad", *rows)), encoding="utf-8")
    kernels = randn(1, 1, 3, 3)
    sent = {}
    for who in ("file", "controller"):
        bench = bench_of(96, {"mask.lut": str(tmp_path / "lut.csv"), "mask.lut_applied_by": who})
        bank = bank_of(kernels, bench)
        sent[who] = bank.masks
        nearest = (bank.device.drive.detach()[..., None] - torch.tensor(shown)).remainder(2 * math.pi)
        nearest = torch.minimum(nearest, 2 * math.pi - nearest).argmin(-1)
        phases = torch.tensor(shown)[nearest]
        apart = (bank.device.shown(bank.kernels).transmission.angle() - phases).remainder(2 * math.pi)
        assert torch.minimum(apart, 2 * math.pi - apart).max() < 0.04  # a step and a half of the table
    even = torch.round(torch.tensor(shown)[sent["file"]] * 256 / (2 * math.pi)) % 256
    miss = (sent["controller"] - even).remainder(256)
    assert torch.minimum(miss, 256 - miss).max() <= 1
    assert (sent["controller"] != sent["file"]).double().mean() > 0.9


@pytest.mark.parametrize("preset", ["dmd", "grey"])
def test_what_a_device_lets_through_in_its_dark_costs_contrast_and_not_fidelity(tmp_path, preset):
    levels = 2 if preset == "dmd" else 256
    rows = [f"{n},0,{(0.3 + 0.7 * n / (levels - 1)) ** 2!r}" for n in range(levels)]
    (tmp_path / "lut.csv").write_text("\n".join(("drive,phase_rad,transmittance", *rows)), encoding="utf-8")
    keys = {"preset": preset, "fill_factor": "100 %"}
    dark, grey = (
        bank_of(randn(1, 2, 3, 3), with_mask(200, **keys | more)) for more in ({}, {"lut": str(tmp_path / "lut.csv")})
    )
    pictures = rand(2, 2, 16, 16, seed=2)
    assert torch.equal(dark.masks, grey.masks)
    assert apart(field_of(grey, pictures), field_of(dark, pictures)) < 1e-3
    gains = [bank.device.gain(bank._masks(), bank.kernels).detach() for bank in (dark, grey)]
    torch.testing.assert_close(gains[1], 0.7 * gains[0], rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_dead_pixels_show_their_level_whatever_they_are_driven_to(tables, kind):
    if kind.startswith("plate"):
        return
    bench = device_of(tables, kind, dead=(tables / "dead.csv").as_posix())
    bank = bank_of(randn(1, 1, 3, 3), bench)
    places, level = ([0, 70, 41], [3, 60, 40]), [1, 0, 1]
    assert bank.masks[0][places].tolist() == level
    free = bank_of(randn(1, 1, 3, 3), device_of(tables, kind))
    others = torch.ones(96, 96, dtype=torch.bool)
    others[places] = False
    assert torch.equal(bank.masks[0][others], free.masks[0][others])
    bank.train().power(rand(1, 16, 16)).sum().backward()
    slope = bank.device.drive.grad[0]
    assert slope[places].tolist() == [0, 0, 0] or not slope[others].any()
    assert slope[others].ne(0).float().mean() > 0.9


def test_dead_pixels_lie_where_the_panel_has_them(tmp_path):
    """Two arms side by side on a panel larger than both: each arm's own pixels."""
    path = tmp_path / "dead.csv"
    path.write_text("x,y,level\n10,20,0\n110,20,0\n0,0,0\n", encoding="utf-8")
    bench = bench_of(96, {"mask.dead": path.as_posix(), "mask.levels": 16}, across=(100, 200))
    bank = bank_of(randn(1, 2, 3, 3), bench, layout="lenslet")
    assert bank.device.plan.origins == ((2, 2), (2, 102))
    where, _ = bank.device.plan._stuck(torch.device("cpu"))
    assert where.nonzero().tolist() == [[0, 18, 8], [1, 18, 8]]


# What stands in the plane


def test_another_wavelength_turns_a_panel_s_path_by_less():
    bent = IDEAL | {"mask.wavefront": {"4": "20 nm", "7": "10 nm"}, "mask.precompensate": False}
    bank = bank_of(torch.ones(1, 1, 1, 1).double(), bench_of(96, bent))
    shown = bank.device.shown(bank.kernels)
    drift = fo.Imperfections({"source.wavelength": torch.tensor(20e-9, dtype=torch.float64)})
    nominal, drifted = shown.transmission.detach().angle(), shown.flawed(drift).detach().angle()
    assert nominal.abs().max() > 0.3
    torch.testing.assert_close(drifted * 552, nominal * 532, rtol=0, atol=552 * 1e-4)


@pytest.mark.parametrize("gaps", [{"mask.leak": "0 %"}, {"mask.leak": "50 %", "mask.fill_factor": "80 %"}])
def test_a_panel_s_wavefront_is_undone(gaps):
    kernels, pictures = randn(1, 1, 3, 3), compact(1, (16, 16))
    keys = IDEAL | gaps
    flat, bent = (
        field_of(bank_of(kernels, bench_of(96, keys | more)), pictures)
        for more in ({}, {"mask.wavefront": {"4": "90 nm", "7": "60 nm"}})
    )
    assert apart(bent, flat) < (1e-3 if keys["mask.leak"] == "0 %" else 5e-3)
    tilted = bench_of(96, keys | {"mask.wavefront": {"2": "532 nm"}, "mask.precompensate": False}, across=(96, 200))
    bank = bank_of(torch.ones(1, 2, 1, 1).double() / 2, tilted, layout="lenslet")
    left, right = bank.device.shown(bank.kernels).transmission.detach()
    slope = 2 * 2 * math.pi / (math.hypot(96, 200) / 2)  # one wave rms of tilt is 2x/R over the disc round the panel
    step = (left[:, 1:] / left[:, :-1]).angle()
    torch.testing.assert_close(step, torch.full_like(step, slope), rtol=0, atol=2e-4)
    across = torch.remainder((right / left).angle() - slope * 100 + math.pi, 2 * math.pi) - math.pi
    assert across.abs().max() < 2e-4  # the arms stand 100 pixels apart on one panel


def test_a_stop_cuts_pixels_by_the_part_that_it_covers():
    keys = IDEAL | {"mask.leak": "0 %", "mask.precompensate": False}
    pitch = BAND / 96
    bench = bench_of(96, keys | {"stop.size": f"{40.5 * pitch!r} m"})
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    shown = bank_of(one, bench, stop=True).device.shown(torch.zeros(1)).transmission[0].abs().detach()
    side = torch.zeros(96, dtype=torch.float64)
    side[28:68] = 1
    side[[27, 68]] = 0.25
    torch.testing.assert_close(shown, torch.outer(side, side) * HEADROOM, rtol=0, atol=1e-4)
    disc = bench.replace({"stop.shape": "circular"})
    shown = bank_of(one, disc, stop=True).device.shown(torch.zeros(1)).transmission[0].abs().detach()
    assert (shown.sum() / HEADROOM).item() == pytest.approx(math.pi * 20.25**2, rel=1e-3)
    open_wide = bank_of(one, disc).device.shown(torch.zeros(1)).transmission[0].abs()
    assert open_wide.detach().min() > 0.99


@pytest.mark.parametrize("way", ["ideal", "double-phase", "phase", "fit", "carrier"])
def test_a_dc_block_takes_the_mean_whatever_the_encoding(way):
    """A white picture's light falls on the middle, and is what the spot keeps from the camera."""
    bench = bench_of(200, (IDEAL if way == "ideal" else {}) | {"mask.encoding": way, "mask.leak": "0 %"})
    blocked = bench.replace({"mask.dc_block": f"{40 * BAND / 200!r} m"})
    one, white = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.ones(1, 16, 16, dtype=torch.float64)
    middle = [float(bank_of(one, b).power(white)[0, 7:9, 7:9].mean().detach()) for b in (bench, blocked)]
    assert middle[1] < 0.05 * middle[0]


def test_masks_stand_in_the_middle_of_their_part_of_the_panel():
    plan = bank_of(randn(1, 1, 3, 3), bench_of(96, IDEAL, across=(113, 140))).device.plan
    assert plan.count == (95, 96)  # an odd panel has a pixel on the axis
    assert plan.origins == ((9, 22),)


PLATE = {"preset": "etched-8"}
MIRRORS = {"preset": "dmd"}
CRYSTAL = {"preset": "slm-phase-8bit", "levels": 16, "crosstalk": "10 um"}
WALK = {  # each key of [mask]: a device, and the value that makes it another
    "kind": (CRYSTAL | {"crosstalk": "0 um", "flicker": "0 rad"}, "grey_amplitude"),
    "levels": (CRYSTAL, 8), "pitch": (CRYSTAL, "88 um"), "pixels": (CRYSTAL, [97, 97]),
    "fill_factor": (CRYSTAL, "80 %"), "leak": (MIRRORS, "60 %"), "dead": (CRYSTAL, "dead.csv"),
    "lut": (CRYSTAL, "curved.csv"), "lut_applied_by": (CRYSTAL | {"lut": "curved.csv"}, "controller"),
    "phase_range": (CRYSTAL, "5 rad"), "crosstalk": (CRYSTAL, "20 um"), "flicker": (CRYSTAL, "0.4 rad"),
    "wavefront": (CRYSTAL, {"5": "60 nm"}), "material": (PLATE | {"step_depth": "130 nm"}, "n-bk7"),
    "index": (PLATE | {"step_depth": "130 nm"}, {"532 nm": 1.6}), "step_depth": (PLATE, "140 nm"),
    "dc_block": (CRYSTAL, "700 um"), "frame_rate": (CRYSTAL, "30 Hz"), "settle": (CRYSTAL, "20 ms"),
    "transmission": (CRYSTAL, "50 %"), "max_irradiance": (CRYSTAL, "0.1 W/m^2"),
    "encoding": (CRYSTAL, "phase"), "overdrive": (CRYSTAL, 1.5), "precompensate": (CRYSTAL, False),
}  # fmt: skip
TOLD = ("frame_rate", "settle", "max_irradiance")  # no matter of light, but of time and of the report


def test_the_walk_visits_every_key_of_a_mask():
    from fouroptics.bench.parts import Mask

    assert {*WALK, "preset"} == set(Mask.model_fields)


@pytest.mark.parametrize("key", WALK)
def test_every_key_of_a_mask_changes_light_levels_or_time(tmp_path, key):
    rows = [f"{n},{0.3 * n * (1 + n / 40)!r}" for n in range(16)]
    (tmp_path / "curved.csv").write_text("\n".join(("drive,phase_rad", *rows)), encoding="utf-8")
    (tmp_path / "dead.csv").write_text("x,y,level\n40,41,9\n", encoding="utf-8")
    start, value = WALK[key]

    def made(mask):
        files = {k: str(tmp_path / v) for k, v in mask.items() if isinstance(v, str) and v.endswith(".csv")}
        bench = with_mask(96, preset=mask["preset"]).replace({f"mask.{k}": v for k, v in (mask | files).items()})
        bank = bank_of(randn(2 if bench.mask.frame_rate else 1, 1, 3, 3), bench, (8, 8))
        seen = bank.masks, bank.power(rand(1, 8, 8)).detach()
        problems = bench.sampling((8, 8), 3, channels=(1, 1)).problems
        return seen, (str(bank.latency(exposure=1e-4)), [problem.code for problem in problems])

    with_it = {"encoding": "lee", "preset": "grey"} if key == "kind" else {}
    (one, told), (other, told_other) = made(start), made(start | {key: value} | with_it)
    alike = all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert (not alike) == (key not in TOLD)
    assert (told != told_other) or key not in TOLD


# Learning


def test_gradients_reach_every_pixel_and_their_kernels():
    pictures = rand(2, 2, 16, 16)
    for quantize in ("straight-through", "soft", "none"):
        bank = bank_of(randn(2, 2, 3, 3), bench_of(144), quantize=quantize).train().expose(seconds=1e-5)
        bank(pictures).sum().backward()
        assert bank.device.drive.grad.shape == (2, 144, 144)
        assert bank.device.drive.grad.ne(0).float().mean() > 0.99
        assert bank.kernels.grad is None
        assert not bank.kernels.requires_grad
        follows = (
            bank_of(randn(2, 2, 3, 3), bench_of(144), quantize=quantize, learn="kernels").train().expose(seconds=1e-5)
        )
        assert [name for name, _ in follows.named_parameters()] == ["kernels"]
        follows(pictures).sum().backward()
        assert follows.kernels.grad.ne(0).all()


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"mask.crosstalk": "10 um"}, {}),
        (IDEAL, {"readout": "homodyne"}),
        ({"mask.encoding": "carrier"}, {"readout": "ideal_field"}),
    ],
)
def test_the_gradient_of_kernels_is_that_of_finite_differences(changes, options):
    bank = bank_of(randn(1, 1, 2, 2), bench_of(56, changes), (5, 5), learn="kernels", quantize="none", **options)
    bank.train().expose(seconds=1e-6)
    pictures, weight = rand(1, 5, 5), None

    def loss(kernels):
        seen = torch.func.functional_call(bank, {"kernels": kernels}, (pictures,))
        seen = seen if not seen.is_complex() else torch.view_as_real(seen)
        return (seen * rand(*seen.shape, seed=8)).sum() if weight is None else seen

    kernels = bank.kernels.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(kernels), kernels)
    numeric = torch.zeros_like(found)
    for place in range(kernels.numel()):
        moved = [kernels.detach().clone() for _ in range(2)]
        for one, sign in zip(moved, (1, -1), strict=True):
            one.view(-1)[place] += sign * 1e-6
        numeric.view(-1)[place] = (loss(moved[0].requires_grad_()) - loss(moved[1].requires_grad_())).detach() / 2e-6
    assert apart(found, numeric) < 1e-3


def test_straight_through_steps_make_a_mask_better():
    """Two levels of phase, trained towards conv2d: the loss of what is shown, not of what is wanted, falls."""
    kernels, pictures = randn(1, 1, 3, 3), rand(4, 1, 12, 12)
    bank = bank_of(kernels, bench_of(96, {"mask.levels": 4}), (12, 12)).train()
    true = conv2d(pictures, kernels)

    def loss():
        seen = bank._light.respond(pictures, bank.device.shown(bank.kernels)).real
        gain = (seen * true).sum() / seen.square().sum()
        return (gain.detach() * seen - true).square().mean()

    optimiser, losses = torch.optim.Adam(bank.parameters(), lr=0.05), []
    for _ in range(15):
        optimiser.zero_grad()
        value = loss()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    with torch.no_grad():
        assert bank.eval() and loss().item() < 0.6 * losses[0]


def test_what_is_kept_between_calls_never_goes_stale():
    pictures = rand(1, 12, 12)
    for learn in ("masks", "kernels"):
        bank = bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12), learn=learn)
        other = bank_of(randn(1, 1, 3, 3, seed=5), bench_of(72), (12, 12), learn=learn)

        def fresh(bank=bank, learn=learn):
            """A new bank of the same state: nothing kept."""
            made = bank_of(randn(1, 1, 3, 3, seed=7), bench_of(72), (12, 12), learn=learn).to(bank.kernels.dtype)
            made.load_state_dict(bank.state_dict())
            return field_of(made, pictures.to(bank.kernels.dtype))

        first = field_of(bank, pictures)
        assert torch.equal(field_of(bank, pictures), first)
        bank.train().expose(seconds=1e-5)
        optimiser = torch.optim.SGD(bank.parameters(), lr=1e-3)
        loss = bank(pictures).sum()
        loss.backward()
        for parameter in bank.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(parameter.grad.abs().max() / 300)
        optimiser.step()
        bank.eval()
        stepped = field_of(bank, pictures)
        assert not torch.equal(stepped, first)
        assert torch.equal(stepped, fresh())
        bank.load_state_dict(other.state_dict())
        assert torch.equal(field_of(bank, pictures), field_of(other, pictures))
        bank.float()
        assert torch.equal(field_of(bank, pictures.float()), fresh())
        bank = bank_of(randn(1, 1, 3, 3, dtype=torch.float32), bench_of(72), (12, 12), learn=learn).double()
        assert torch.equal(field_of(bank, pictures), fresh(bank))
        for again in (copy.deepcopy(bank), pickle.loads(pickle.dumps(bank))):
            assert torch.equal(field_of(again, pictures), field_of(bank, pictures))
            with torch.no_grad():
                next(p for p in again.parameters() if p.requires_grad).mul_(1.7)
            assert not torch.equal(field_of(again, pictures), field_of(bank, pictures))


def fused_step(bank):
    used = [p for p in bank.parameters() if p.requires_grad]
    for p in used:
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    torch.optim.Adam(used, lr=0.3, fused=True).step()


UNSEEN = {  # changes that torch's versions of a tensor do not count
    "a fused step": fused_step,
    "data": lambda bank: [p.data.mul_(1 + torch.arange(p.shape[-1]) / p.shape[-1]) for p in bank.parameters()],
    "a vector": lambda bank: torch.nn.utils.vector_to_parameters(
        torch.nn.utils.parameters_to_vector(bank.parameters()).flip(0), bank.parameters()
    ),
    "casts": lambda bank: bank.half().float(),
    "kernels": lambda bank: bank.kernels.data[0, 0, 0].mul_(3),
    "scale": lambda bank: [one.mul_(3) for one in [bank.device.fixed_scale] if one is not None],
}


@pytest.mark.parametrize("learn", ["masks", "kernels"])
@pytest.mark.parametrize("way", UNSEEN)
def test_what_is_kept_goes_stale_by_no_way_of_changing_it(learn, way):
    pictures = rand(1, 12, 12, dtype=torch.float32)
    bank = bank_of(randn(1, 1, 3, 3, dtype=torch.float32), bench_of(72), (12, 12), learn=learn)
    before = field_of(bank, pictures)
    with torch.no_grad():
        UNSEEN[way](bank)
    seen = field_of(bank, pictures)
    assert torch.equal(seen, field_of(copy.deepcopy(bank), pictures))  # a copy has nothing kept
    assert not torch.equal(seen, before) or (way == "scale" and learn == "kernels")


@pytest.mark.parametrize("quantize", ["straight-through", "soft"])
@pytest.mark.parametrize("learn", ["masks", "kernels"])
def test_a_bank_that_was_evaluated_and_frozen_passes_gradients_on(learn, quantize):
    bank = bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12), learn=learn, quantize=quantize).train()
    field_of(bank, rand(1, 12, 12))
    bank.requires_grad_(False)
    for turn in range(2):
        pictures = rand(1, 12, 12, seed=turn).requires_grad_()
        bank.field(pictures).abs().sum().backward()
        assert pictures.grad.abs().sum() > 0
    with torch.no_grad():
        assert not bank.scale.requires_grad
    bank.kernels.requires_grad_()  # their gain's gradient is not kept either
    for _ in range(2):
        bank.field(rand(1, 12, 12)).abs().sum().backward()


def test_a_bank_that_was_made_in_inference_mode_is_evaluated_there():
    with torch.inference_mode():
        bank = bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12))
        assert torch.equal(bank.field(rand(1, 12, 12)), copy.deepcopy(bank).field(rand(1, 12, 12)))


def test_a_staircase_is_saved_with_its_bank_and_keeps_its_digits():
    bank = bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12), quantize="soft")
    bank.device.softness = 0.07
    other = bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12), quantize="soft")
    other.load_state_dict(bank.half().state_dict())
    assert other.device.softness == 0.07


def test_training_and_evaluation_do_not_show_each_other_s_masks():
    pictures = rand(1, 12, 12)
    bank = bank_of(randn(1, 1, 3, 3), bench_of(72, {"mask.levels": 4}), (12, 12), quantize="soft")
    hard = field_of(bank, pictures)
    soft = field_of(bank.train(), pictures)
    bank.device.softness = 1.0
    softer = field_of(bank, pictures)
    bank.device.quantize = "straight-through"
    followed = field_of(bank, pictures)
    assert torch.equal(followed, hard)
    assert torch.equal(field_of(bank.eval(), pictures), hard)
    assert len({one.abs().sum().item() for one in (hard, soft, softer)}) == 3
    bank.device.quantize = "round"
    with pytest.raises(fo.InputError, match="'straight-through', 'soft', 'none'"):
        field_of(bank, pictures)


def test_kernels_of_another_scale_give_the_same_masks_and_a_zero_bank_is_dark():
    kernels, pictures = randn(1, 1, 3, 3), rand(1, 12, 12)
    one, ten = (bank_of(k, bench_of(72), (12, 12)) for k in (kernels, 10 * kernels))
    assert torch.equal(one.masks, ten.masks)
    assert apart(field_of(ten, pictures), 10 * field_of(one, pictures)) < 1e-9
    nothing = bank_of(torch.zeros(1, 1, 3, 3).double(), bench_of(72, IDEAL | {"mask.leak": "0 %"}), (12, 12))
    assert field_of(nothing, pictures).abs().max() == 0


def test_a_bank_in_both_precisions():
    kernels, pictures = randn(1, 2, 3, 3), rand(2, 12, 12)
    fine = bank_of(kernels, bench_of(144, IDEAL), (12, 12))
    coarse = bank_of(kernels.float(), bench_of(144, IDEAL), (12, 12))
    assert field_of(coarse, pictures.float()).dtype == torch.complex64
    assert apart(field_of(coarse, pictures.float()), field_of(fine, pictures)) < 1e-4
    order = torch.tensor([2, 0, 1])
    batch = rand(3, 2, 12, 12)
    assert torch.equal(field_of(fine, batch)[order], field_of(fine, batch[order]))


# Refusals and choices


@pytest.mark.parametrize(
    ("bench", "channels", "options", "says"),
    [
        (bench_of(60), (1, 1), {}, "double-phase needs 3 mask pixels a frequency bin and has 2.5"),
        (bench_of(60, {"mask.encoding": "carrier"}), (1, 1), {}, "carrier needs 4"),
        (bench_of(40, IDEAL), (1, 2), {}, "ideal needs 1 mask pixels a frequency bin and has 0.83"),
        (bench_of(144, IDEAL, across=(96, 96)), (1, 1), {}, "a mask has"),
        (bench_of(144, IDEAL), (1, 2), {"layout": "lenslet"}, "a mask has"),
        (bench_of(144, {"mask.encoding": "lee"}), (1, 1), {}, "cannot show the encoding 'lee'"),
        (with_mask(144, preset="dmd", encoding="double-phase"), (1, 1), {}, "cannot show the encoding 'double-phase'"),
        (with_mask(144, preset="etched-4"), (2, 1), {}, "need a mask that changes"),
        (bench_of(144, IDEAL | {"layout.guard": "0 um"}), (1, 2), {}, "kernel reaches 1 samples out"),
        (
            bench_of(144, IDEAL | {"layout.outputs": "tiled", "camera.pixels": [90, 90]}),
            (4, 1),
            {},
            "the responses are 640 um, the sensor 360 um",
        ),
        (bench_of(144), (1, 1), {"boundary": "circular"}, "does not wrap"),
        (bench_of(144), (1, 1), {"layout": "mathematical"}, "has no masks"),
        (bench_of(144, {"mask.encoding": "fit"}), (1, 1), {"learn": "kernels"}, "a fit passes no gradient to kernels"),
        (bench_of(144), (1, 1), {"learn": "pixels"}, "'masks', 'kernels'"),
        (bench_of(144), (1, 1), {"quantize": "round"}, "'straight-through', 'soft', 'none'"),
        (bench_of(144), (1, 1), {"quantize": "hard"}, "'straight-through', 'soft', 'none'"),
    ],
)
def test_what_a_device_cannot_carry_is_refused_in_a_line(bench, channels, options, says):
    with pytest.raises(fo.InputError, match=re.escape(says)) as caught:
        fo.Correlator4f.from_kernels(randn(*channels, 3, 3), bench, (16, 16), masks="device", **options)
    assert "\n" not in str(caught.value)
    assert caught.value.mend


def test_levels_that_are_no_mask_are_refused():
    bank = bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12))
    with pytest.raises(fo.InputError, match=r"levels are \(1, 72, 71\); \(1, 72, 72\) are due"):
        bank.put(bank.masks[..., :-1])
    assert torch.equal(bank.put(bank.masks.to(torch.uint8)).masks, bank.masks)
    for levels, says in (
        (-1 - bank.masks, r"levels are -\d+ … -\d+; whole numbers from 0 to 255"),
        (bank.masks + 1000, "levels are 1"),
        (bank.masks.double(), "levels are torch.float64; whole numbers"),
        (bank.masks.tolist(), "levels are list; whole numbers"),
    ):
        with pytest.raises(fo.InputError, match=says):
            bank.put(levels)
    follows = bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12), learn="kernels")
    with pytest.raises(fo.InputError, match="follow its kernels"):
        follows.put(bank.masks)
    assert torch.equal(follows.masks, bank.masks)
    with pytest.raises(fo.InputError, match="begin: ideal masks begin with their kernels"):
        fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), SLM, (12, 12), begin=(bank.masks, torch.ones(1)))
    with pytest.raises(fo.InputError, match=r"begin: scales are \(2,\); \(1,\) are due"):
        bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12), begin=(bank.masks, torch.ones(2)))
    ideal = fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), SLM, (12, 12))
    with pytest.raises(fo.InputError, match="ideal masks have no levels"):
        _ = ideal.masks
    with pytest.raises(fo.InputError, match="quantize: ideal masks have no levels"):
        fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), SLM, (12, 12), quantize="soft")
    for softness in (-1, 1.5, math.nan, "soft", True):
        with pytest.raises(fo.InputError, match=r"device\.softness: a softness of"):
            bank.device.softness = softness


def test_auto_chooses_a_layout_and_says_why():
    kernels = randn(2, 2, 3, 3)
    bank = bank_of(kernels, bench_of(144, IDEAL | {"layout.inputs": "lenslet"}), layout="auto")
    assert (bank.layout, bank.bench.layout.outputs) == ("tiled", "frames")
    assert bank.layout_why.startswith("tiled inputs, frames: keeps 4 times the light")
    still = with_mask(144, preset="etched-16")
    assert bank_of(kernels[:, :1], still, layout="auto").bench.layout.outputs == "tiled"
    assert bank_of(kernels, bench_of(144, IDEAL)).layout_why == ""
    with pytest.raises(fo.InputError, match="no layout fits"):
        bank_of(kernels, bench_of(60), layout="auto")


def test_a_bank_tells_its_masks():
    text = str(bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12)))
    assert "1×72×72 pixels of phase_slm, double-phase, learns masks" in text


PEAK = """
import pathlib, re, sys, torch, fouroptics as fo

def top():
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024

def bank(outputs, inputs, side):
    bench = fo.Bench.load("slm-532nm").replace({"mask.pitch": "16 um", "mask.crosstalk": "3 um"})
    return fo.Correlator4f.from_kernels(torch.randn(outputs, inputs, 7, 7), bench, (side, side), masks="device")

torch.set_num_threads(1)
gradient = sys.argv[1] == "gradient"
bank(1, 1, 24).power(torch.rand(1, 1, 24, 24)).sum().backward()
correlator, pictures = bank(4, 1, 64), torch.rand(24, 1, 64, 64)
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
start = top()
with torch.set_grad_enabled(gradient):
    field = correlator.field(pictures)
if gradient:
    field.backward(field)
print((top() - start) / correlator.nbytes(24, gradient=gradient))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell a process's peak")
@pytest.mark.parametrize("mode", ["plain", "gradient"])
def test_what_nbytes_says_is_not_far_from_what_a_fresh_process_takes(mode):
    own_pages = os.environ | {"MALLOC_MMAP_THRESHOLD_": "100000"}  # what is freed goes back, and does not blur the peak
    done = subprocess.run([sys.executable, "-c", PEAK, mode], capture_output=True, text=True, check=True, env=own_pages)
    assert 0.5 < float(done.stdout) < 1.6
