"""A channel bank (one transform a channel, sum in the Fourier plane) against a transform for every pair."""

import statistics
from functools import partial

import torch
import torch.nn.functional as F

from fouroptics.optics import fourier
from fouroptics.optics.correlation import correlate
from tests.speed import machine

ROWS = (  # batch, inputs, outputs, side
    (8, 8, 16, 64),
    (8, 3, 16, 64),
    (1, 3, 128, 64),
    (4, 3, 16, 256),
)


def per_pair(pictures, kernels, transform, inverse, half):
    """2·B·O·I transforms: both sides of every pair, then the sum on the camera side."""
    size = pictures.shape[-2:]
    transfer = fourier.kernel_transfer(kernels, tuple(size), half=half)
    spectra = transform(pictures[:, None].expand(-1, len(kernels), -1, -1, -1).contiguous())
    return inverse(spectra * transfer).sum(2)


def rows(gradient):
    for batch, inputs, outputs, side in ROWS:
        pictures, kernels = torch.rand(batch, inputs, side, side), torch.randn(outputs, inputs, 7, 7)
        size = (side, side)
        ways = {
            "complex transforms a pair": (torch.fft.fft2, torch.fft.ifft2, False),
            "real transforms a pair": (torch.fft.rfft2, lambda s, n=size: torch.fft.irfft2(s, s=n), True),
        }

        def ours(pictures=pictures, kernels=kernels):
            return correlate(pictures, kernels, boundary="circular")

        truth = F.conv2d(F.pad(pictures.double(), (3, 3, 3, 3), mode="circular"), kernels.double())
        error = (ours() - truth).abs().max() / truth.abs().max()
        for name, (transform, inverse, half) in ways.items():

            def other(pictures=pictures, kernels=kernels, t=transform, i=inverse, h=half):
                return per_pair(pictures, kernels, t, i, h)

            run = with_gradient if gradient else without
            fast, slow, ratios = machine.paired(partial(run, ours, kernels), partial(run, other, kernels))
            print(
                f" {batch:>2} × {inputs} → {outputs:<3} {side:>4}² {fast * 1e3:7.2f} ms  {name:<25}{slow * 1e3:8.2f} ms"
                f"   ratio {statistics.median(ratios):5.1f} ({ratios[0]:.1f} … {ratios[-1]:.1f})  error {error:.0e}"
            )


@torch.no_grad()
def without(way, kernels):
    way(kernels=kernels)


def with_gradient(way, kernels):
    way(kernels=kernels.clone().requires_grad_()).real.square().sum().backward()


def main():
    print("\nChannel bank, 7×7 kernels, float32, circular; error is against conv2d in float64")
    for gradient in (False, True):
        print(" forward and backward to the kernels" if gradient else " forward")
        rows(gradient)
