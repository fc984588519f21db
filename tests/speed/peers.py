"""Against torchoptics: the same free-space 4f, waves and thin lenses, and the same bench by the lens transform.

Both sides run the same pictures, kernels and bench in the same dtype, and the error of each stands beside its time:
what the camera shows against conv2d. In the rows "same model" both have the same window, ours, and torchoptics no
padding, which is the least it can do; its own padding, when it is not told, follows below. Its elements, the picture on
its grid and the mask's factors are made beforehand; ours is called as a user calls it, from samples to samples.
"""

import math
import statistics
from functools import partial

import torch
import torch.nn.functional as F

import fouroptics as fo
from tests.speed import machine

WAVELENGTH, SAMPLE, TAPS = 532e-9, 16e-6, 7
SIDES = (256, 512, 1024)
PADDED_SIDES = (256, 512)  # its padding makes a window five times as wide: 1024² would take tens of gigabytes
OUTPUTS = 8


def setting(side, outputs=1):
    """A bench whose lenses are as short as the picture allows, λf = N·dx², and a smooth compact picture."""
    focal = side * SAMPLE**2 / WAVELENGTH
    lenses = {f"lens{k}.focal_length": f"{focal!r} m" for k in (1, 2)} | {f"lens{k}.pupil": None for k in (1, 2)}
    clean = {"layout.guard": "64 um", "stop": None, "aberration.zernike": {}, "input.pixels": [4096, 4096]}
    bench = fo.Bench.load("slm-532nm").replace(lenses | clean)
    noise = torch.rand(side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    low = (torch.fft.fftfreq(side).abs() < 0.25).double()
    smooth = torch.fft.ifft2(torch.fft.fft2(noise) * torch.outer(low, low)).real
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    fade = torch.hann_window(side, periodic=False, dtype=torch.float64)
    kernels = torch.randn(outputs, 1, TAPS, TAPS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return bench, (smooth * torch.outer(fade, fade))[None], kernels


def waves(turns):
    return torch.polar(torch.ones_like(turns), 2 * math.pi * turns)


class Torchoptics:
    """Its system of lens, modulator, lens on our window; its grids are centred between samples."""

    def __init__(self, bench, picture, kernels, samples, pitch, padding=(0, 0)):
        import torchoptics
        from torchoptics.elements import Lens, Modulator

        torchoptics.set_default_wavelength(WAVELENGTH)
        torchoptics.set_default_spacing(pitch)
        self.focal, self.pitch, self.padding = bench.lens1.focal_length, pitch, padding
        side = picture.shape[-1]
        self.places = (torch.arange(samples, dtype=torch.float64) - (samples - 1) / 2) * pitch
        self.of_picture = (torch.arange(side, dtype=torch.float64) - side // 2) * SAMPLE
        nu = torch.fft.fftfreq(side, SAMPLE, dtype=torch.float64)
        between = (waves(torch.outer(self.places, nu)) @ waves(-torch.outer(nu, self.of_picture))) / side
        between *= (self.places.abs() < side * SAMPLE / 2)[:, None]
        self.field = torchoptics.Field(between @ picture[0].to(between.dtype) @ between.mT, wavelength=WAVELENGTH)
        taps = torch.arange(TAPS, dtype=torch.float64) - TAPS // 2
        band = (self.places.abs() <= WAVELENGTH * self.focal / SAMPLE / 2).double()
        self.rows = waves(torch.outer(self.places / (WAVELENGTH * self.focal), taps * SAMPLE)) * band[:, None]
        self.kernels = kernels.clone().requires_grad_()
        self.lenses = [Lens((samples, samples), self.focal, z=k * self.focal) for k in (1, 3)]
        self.make, self.system = partial(Modulator, z=2 * self.focal), torchoptics.System

    def __call__(self):
        return torch.stack([self._one(taps.to(torch.complex128)) for taps in self.kernels[:, 0]])

    def _one(self, taps):
        transmission = self.rows @ taps @ self.rows.mT
        mask = self.make(transmission)
        mask.modulation = transmission  # the constructor would detach it
        bench = self.system(self.lenses[0], mask, self.lenses[1])
        way = {"propagation_method": "ASM", "asm_pad": self.padding}
        return bench.measure_at_z(self.field, z=4 * self.focal, **way).data

    def at_samples(self, data):
        """What its grid shows at the picture's samples, turned back."""
        nu = torch.fft.fftfreq(len(self.places), self.pitch, dtype=torch.float64)
        at = waves(torch.outer(-self.of_picture - self.places[0], nu))
        return at @ (torch.fft.fft2(data) / data[0].numel()) @ at.mT


def error(field, expected):
    """Relative, after the best common phase and level: its result carries the path's own phase."""
    level = (field.conj() * expected).sum() / field.abs().square().sum()
    return float((field * level - expected).norm() / expected.norm())


def row(side, gradient, light, outputs=1, padding=(0, 0)):
    bench, picture, kernels = setting(side, outputs)
    expected = F.conv2d(picture[None], kernels, padding=TAPS // 2)[0].to(torch.complex128)
    bank = fo.Correlator4f.from_kernels(kernels, bench, (side, side), light=light)
    waving = fo.Correlator4f.from_kernels(kernels, bench, (side, side), light="free_space")
    plane = waving._light.plane
    theirs = Torchoptics(bench, picture, kernels, plane.size[0], plane.pitches[0], padding)
    with torch.no_grad():
        errors = error(bank.field(picture), expected), error(theirs.at_samples(theirs()), expected)
    run = with_gradient if gradient else without
    ours, pairs = partial(run, partial(bank.field, picture), bank.kernels), 5 if side < 1024 and padding else 3
    fast, slow, ratios = machine.paired(ours, partial(run, theirs, theirs.kernels), pairs)
    kind = "same model" if light == "free_space" else "model change"
    padded = plane.size[0] if padding else 5 * plane.size[0]
    print(f"  {side:>4}²  1 → {outputs}  {kind:<13}{told(fast, errors[0])}", end="   ")
    print(f"torchoptics at {padded}² {told(slow, errors[1])}   ratio {statistics.median(ratios):7.1f} ", end="")
    print(f"({ratios[0]:.1f} … {ratios[-1]:.1f})", flush=True)


def told(seconds, wrong):
    return f"{seconds * 1e3:9.1f} ms  error {wrong:.0e}"


@torch.no_grad()
def without(way, kernels):
    way()


def with_gradient(way, kernels):
    kernels.grad = None
    way().abs().square().sum().backward()


def main():
    try:
        import torchoptics
    except ImportError:
        print("\ntorchoptics is not here: pip install -e '.[speed]' to measure against it")
        return
    print(f"\nAgainst torchoptics {torchoptics.__version__}: 7×7 kernels, complex128; time, error against conv2d")
    for gradient in (False, True):
        print(" forward and backward to the kernels" if gradient else " forward")
        for side in SIDES:
            row(side, gradient, "free_space")
            row(side, gradient, "fourier")
        row(256, gradient, "free_space", outputs=OUTPUTS)
    print(" forward, with torchoptics' own padding")
    for side in PADDED_SIDES:
        row(side, False, "free_space", padding=None)
        row(side, False, "fourier", padding=None)
