"""What draws of imperfections cost on a device's masks: one a picture, and many of the same pictures against a loop."""

import statistics
import warnings
from functools import partial
from unittest import mock

import torch

import fouroptics as fo
from fouroptics.correlator import device
from fouroptics.imperfections import Imperfections
from tests.speed import machine

PICTURES, DRAWS, CHANNELS, SIDE, TAPS = 8, 32, (16, 3), 64, 7
UM = 1e-6
KINDS = {
    "mask shift, tilt, defocus": {
        "mask.shift_x": 4 * UM, "mask.shift_y": 4 * UM, "mask.defocus": 150 * UM,
        "aberration.zernike.2": 10e-9, "aberration.zernike.3": 10e-9, "camera.defocus": 100 * UM,
    },
    "camera shift, tilt, defocus": {
        "camera.shift": 8 * UM, "camera.defocus": 100 * UM,
        "aberration.zernike.2": 10e-9, "aberration.zernike.3": 10e-9,
    },
    "rotation, magnification": {"mask.rotation": 1e-3, "mask.magnification": 1e-3},
    "phase slope (masks anew)": {"mask.phase_scale": 0.015},
}  # fmt: skip


def drawn(kind, count):
    generator = torch.Generator().manual_seed(0)
    parts = {"camera.shift": (2,)}
    return Imperfections(
        {
            name: size * torch.randn(count, *parts.get(name, ()), generator=generator, dtype=torch.float64)
            for name, size in KINDS[kind].items()
        }
    )


def bank(crosstalk="0 um"):
    bench = fo.Bench.load("slm-532nm").replace({"mask.crosstalk": crosstalk})
    kernels = torch.randn(*CHANNELS, TAPS, TAPS, generator=torch.Generator().manual_seed(0))
    made = fo.Correlator4f.from_kernels(kernels, bench, (SIDE, SIDE), masks="device")
    return made.eval().expose(seconds=1e-5)


def loop(way, pictures, errors):
    for draw in errors:
        way(pictures, errors=draw)


def pixels():
    """Draws that change the pixels of a panel as it is shipped: all masks from a few, or each built for itself."""
    made, picture = bank("1.5 um"), torch.rand(1, CHANNELS[1], SIDE, SIDE)
    errors = Imperfections(
        {
            "mask.phase_scale": torch.linspace(-0.04, 0.04, 8, dtype=torch.float64),
            "mask.dead_pixels": torch.full((8,), 1e-4, dtype=torch.float64),
        }
    )
    made.field(picture)
    each = [machine.seconds(partial(made.field, picture, errors=errors.at(i))) for i in range(5)]
    with mock.patch.object(device, "covers", lambda *_: False):
        apart = [machine.seconds(partial(made.field, picture, errors=errors.at(i))) for i in range(5, 8)]
    ours, theirs = statistics.median(each[1:]), statistics.median(apart)
    print(
        f"  field    slope and dead pixels, {CHANNELS[0]} masks of {made.device.plan.count[0]}² with crosstalk: "
        f"{ours:.2f} s a draw behind {each[0]:.1f} s, each built for itself {theirs:.1f} s ({theirs / ours:.0f} ×)"
    )


@torch.no_grad()
def main():
    outputs, inputs = CHANNELS
    print(f"\nDraws of imperfections, {inputs} → {outputs} at {SIDE}², kernels {TAPS}×{TAPS}, device masks, float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = bank()
        pictures = torch.rand(PICTURES, inputs, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
        for name, way in (("field", made.field), ("reading", made)):
            for kind in KINDS:
                one_each = partial(way, pictures, errors=drawn(kind, PICTURES))
                aligned, off, ratios = machine.paired(
                    partial(way, pictures), one_each, pairs=3 if "anew" in kind else 7
                )
                print(
                    f"  {name:<9}{kind:<29}one draw a picture {off * 1e3:7.1f} ms, aligned {aligned * 1e3:6.1f} ms "
                    f"({statistics.median(ratios):.2f} ×)"
                )
        pixels()
        room = made._light.working_size(aberrated=True, whole=True)
        spectra = torch.randn(DRAWS, outputs, *room, dtype=torch.complex64)
        bound = statistics.median(machine.seconds(partial(torch.fft.ifft2, spectra)) for _ in range(5))
        count = DRAWS * outputs
        print(f"  {DRAWS} draws of a picture: their {count} inverses of {room[0]}² alone take {bound * 1e3:.0f} ms")
        for name, way in (("field", made.field), ("reading", made)):
            for kind in list(KINDS)[:-1]:  # new masks are made draw by draw anyway
                errors = drawn(kind, DRAWS)
                together = partial(way, pictures[:1], errors=errors.reshape(DRAWS, 1))
                ours, apart, ratios = machine.paired(together, partial(loop, way, pictures[:1], errors), pairs=3)
                print(
                    f"  {name:<9}{kind:<29}{DRAWS} draws together {ours * 1e3:7.0f} ms, "
                    f"in a loop {apart * 1e3:7.0f} ms ({statistics.median(ratios):.2f} ×)"
                )
