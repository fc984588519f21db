"""Small banks on benches that are off, and pictures to move about."""

import math
import warnings

import torch

import fouroptics as fo

SIDE = 16
SMALL = {
    "aberration.zernike": {}, "source.waist": None, "stop": None, "layout.guard": "16 um",
    "mask.preset": "slm-phase-8bit", "mask.crosstalk": "0 um", "mask.pitch": "60 um", "mask.pixels": [140, 140],
    "mask.leak": None, "camera.bin": 4,
}  # fmt: skip
IDEAL = SMALL | {
    "mask.preset": "ideal", "mask.kind": "complex", "mask.encoding": "ideal", "mask.levels": None,
    "mask.phase_range": None, "mask.flicker": None, "mask.fill_factor": "100 %", "mask.precompensate": False,
    "mask.pitch": "120 um", "mask.pixels": [70, 70], "layout.guard": "96 um",
}  # fmt: skip
SLM = fo.Bench.load("slm-532nm")
UM = 1e-6


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def bank(changes, channels=(2, 1), **options):
    kernels = torch.randn(*channels, 3, 3, generator=generator(1), dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fo.Correlator4f.from_kernels(
            kernels, SLM.replace(changes), (SIDE, SIDE), **{"masks": "device"} | options
        )


def smooth(inputs):
    """Pictures of a few broad spots, dark at their edges and without fine detail: what a grid can move about."""
    n = torch.arange(SIDE, dtype=torch.float64) - SIDE // 2
    wide, narrow = torch.exp(-(n**2) / 9.7), torch.exp(-((n - 1.5) ** 2) / 6.5)
    return torch.stack(
        [0.7 * torch.outer(wide, narrow if i % 2 else wide) + 0.3 * torch.outer(narrow, wide) for i in range(inputs)]
    )


def wave(turns):
    return torch.polar(torch.ones_like(turns), 2 * math.pi * turns)


def relative(one, other):
    return float((one - other).norm() / other.norm())
