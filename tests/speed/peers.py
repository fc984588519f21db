"""Against torchoptics: the same free-space 4f, waves and thin lenses, and the same bench by the lens transform.

Both sides run the same picture, kernel and bench in the same dtype on the same window, and the error of each is told
beside its time: what the camera shows against conv2d. torchoptics gets no padding, which is the least it can do, since
the window already holds all the light; what it needs to begin with (its elements, the picture on its grid, the mask) is
made beforehand. Ours is called as a user calls it, from the picture's samples to the camera's.
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


def setting(side):
    """A bench whose lenses are as short as the picture allows, λf = N·dx², and a smooth compact picture."""
    focal = side * SAMPLE**2 / WAVELENGTH
    lenses = {
        f"lens{k}.{key}": value for k in (1, 2) for key, value in (("focal_length", f"{focal!r} m"), ("pupil", None))
    }
    clean = {"layout.guard": "0 um", "stop": None, "aberration.zernike": {}, "input.pixels": [4096, 4096]}
    bench = fo.Bench.load("slm-532nm").replace(lenses | clean)
    noise = torch.rand(side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    low = (torch.fft.fftfreq(side).abs() < 0.25).double()
    smooth = torch.fft.ifft2(torch.fft.fft2(noise) * torch.outer(low, low)).real
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    fade = torch.hann_window(side, periodic=False, dtype=torch.float64)
    kernel = torch.randn(1, 1, TAPS, TAPS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return bench, (smooth * torch.outer(fade, fade))[None], kernel


def waves(turns):
    return torch.polar(torch.ones_like(turns), 2 * math.pi * turns)


class Torchoptics:
    """Their system of lens, modulator, lens on our window: their grids are centred between samples."""

    def __init__(self, bench, picture, kernel, samples, pitch):
        import torchoptics
        from torchoptics.elements import Lens, Modulator

        torchoptics.set_default_wavelength(WAVELENGTH)
        torchoptics.set_default_spacing(pitch)
        focal = bench.lens1.focal_length
        self.side, self.pitch, self.focal = picture.shape[-1], pitch, focal
        self.places = (torch.arange(samples, dtype=torch.float64) - (samples - 1) / 2) * pitch
        self.of_picture = (torch.arange(self.side, dtype=torch.float64) - self.side // 2) * SAMPLE
        nu = torch.fft.fftfreq(self.side, SAMPLE, dtype=torch.float64)
        between = (waves(torch.outer(self.places, nu)) @ waves(-torch.outer(nu, self.of_picture))) / self.side
        between *= (self.places.abs() < self.side * SAMPLE / 2)[:, None]
        data = between @ picture[0].to(between.dtype) @ between.mT
        taps = torch.arange(TAPS, dtype=torch.float64) - TAPS // 2
        rows = waves(torch.outer(self.places / (WAVELENGTH * focal), taps * SAMPLE))
        band = (self.places.abs() <= WAVELENGTH * focal / SAMPLE / 2).double()
        self.rows, self.band = rows, torch.outer(band, band)
        self.field = torchoptics.Field(data, wavelength=WAVELENGTH)
        self.kernel = kernel
        self.lenses = [Lens((samples, samples), focal, z=k * focal) for k in (1, 3)]
        self.make = partial(Modulator, z=2 * focal)
        self.system = torchoptics.System

    def __call__(self, kernel=None):
        taps = (self.kernel if kernel is None else kernel)[0, 0].to(torch.complex128)
        mask = self.make((self.rows @ taps @ self.rows.mT) * self.band)
        if kernel is not None:
            mask.modulation = (self.rows @ taps @ self.rows.mT) * self.band
        bench = self.system(self.lenses[0], mask, self.lenses[1])
        return bench.measure_at_z(self.field, z=4 * self.focal, propagation_method="ASM", asm_pad=(0, 0)).data

    def at_samples(self, data):
        """What their grid shows at the picture's samples, turned back, without the carrier of 4f."""
        nu = torch.fft.fftfreq(len(self.places), self.pitch, dtype=torch.float64)
        spectrum = torch.fft.fft2(data) / data.numel()
        at = waves(torch.outer(-self.of_picture - self.places[0], nu))
        seen = at @ spectrum @ at.mT
        return seen * torch.polar(torch.tensor(1.0).double(), -torch.angle(seen.sum()))


def error(field, expected):
    """Relative, after the best common phase and level: their result carries the wave's path."""
    level = (field.conj() * expected).sum() / field.abs().square().sum()
    return float((field * level - expected).norm() / expected.norm())


def rows(side, gradient):
    bench, picture, kernel = setting(side)
    expected = F.conv2d(picture[None], kernel, padding=TAPS // 2)[0, 0].to(torch.complex128)
    ways = {
        way: fo.Correlator4f.from_kernels(kernel, bench, (side, side), light=way) for way in ("fourier", "free_space")
    }
    plane = ways["free_space"]._light.plane
    theirs = Torchoptics(bench, picture, kernel, plane.size[0], plane.pitches[0])
    with torch.no_grad():
        errors = {name: error(way.field(picture)[0], expected) for name, way in ways.items()}
        their_error = error(theirs.at_samples(theirs()), expected)

    def ours(way):
        return way.field(picture)

    for name, way in ways.items():
        run = with_gradient if gradient else without
        fast, slow, ratios = machine.paired(
            partial(run, partial(ours, way), way.kernels), partial(run, theirs, kernel), pairs=5 if side < 1024 else 3
        )
        kind = "same model" if name == "free_space" else "model change"
        print(f"  {side:>4}²  {plane.size[0]:>5}²  {kind:<13}{told(fast, errors[name])}", end="   ")
        print(f"torchoptics {told(slow, their_error)}   ratio {statistics.median(ratios):7.1f} ", end="")
        print(f"({ratios[0]:.1f} … {ratios[-1]:.1f})")


def told(seconds, wrong):
    return f"{seconds * 1e3:9.1f} ms  error {wrong:.0e}"


@torch.no_grad()
def without(way, kernel):
    way()


def with_gradient(way, kernel):
    if isinstance(way, Torchoptics):
        leaf = kernel.clone().requires_grad_()
        way(leaf).abs().square().sum().backward()
    else:
        kernel.grad = None
        way().abs().square().sum().backward()


def main():
    try:
        import torchoptics
    except ImportError:
        print("\ntorchoptics is not here: pip install -e '.[speed]' to measure against it")
        return
    print(
        f"\nAgainst torchoptics {torchoptics.__version__}: one 4f, 7×7 kernel, complex128; picture, window, time, error"
    )
    for gradient in (False, True):
        print(" forward and backward to the kernel" if gradient else " forward")
        for side in SIDES:
            rows(side, gradient)
