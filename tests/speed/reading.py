"""What a camera's reading costs beside the field it is made of: forward, and forward and backward to the kernels."""

import statistics
from functools import partial

import torch

import fouroptics as fo
from tests.speed import machine

BATCH, INPUTS, OUTPUTS, SIDE, TAPS = 8, 3, 16, 64, 7


def bank(readout, clean):
    bench = fo.Bench.load("slm-532nm")
    bench = bench.replace({"aberration.zernike": {}}) if clean else bench
    kernels = torch.randn(OUTPUTS, INPUTS, TAPS, TAPS, generator=torch.Generator().manual_seed(0))
    return fo.Correlator4f.from_kernels(kernels, bench, (SIDE, SIDE), readout=readout).expose(seconds=1e-6)


@torch.no_grad()
def forward(way, pictures):
    way(pictures)


def backward(made, pictures):
    made.kernels.grad = None
    made(pictures).sum().backward()


def main():
    print(f"\nReadings, {BATCH} × {INPUTS} → {OUTPUTS} at {SIDE}², kernels {TAPS}×{TAPS}, float32")
    pictures = torch.rand(BATCH, INPUTS, SIDE, SIDE)
    for readout in ("intensity", "homodyne"):
        for clean in (True, False):
            made = bank(readout, clean)
            field, reading, ratios = machine.paired(
                partial(forward, made.field, pictures), partial(forward, made, pictures)
            )
            gradient = statistics.median(machine.seconds(partial(backward, made, pictures)) for _ in range(5))
            lenses = "perfect lenses" if clean else "the bench's lenses"
            print(
                f"  {readout:<10}{lenses:<20}field {field * 1e3:6.1f} ms   reading {reading * 1e3:6.1f} ms "
                f"({statistics.median(ratios):.0f} ×)   with its gradient {gradient * 1e3:6.1f} ms"
            )
