"""Small mask sets of every kind of device."""

import warnings
from dataclasses import replace

import numpy as np
import torch

import fouroptics as fo
from fouroptics.masks import MaskSet

SLM = fo.Bench.load("slm-532nm")
BAND = 532e-9 * 0.25 / 16e-6
PLAIN = {
    "aberration.zernike": {},
    "source.waist": None,
    "layout.guard": "64 um",
    "lens1.pupil": None,
    "lens2.pupil": None,
}


def masks_of(mask, channels=(1, 1), changes=(), side=144, rules=None, tolerances=None, **options):
    keys = {"pitch": f"{BAND / side!r} m", "pixels": [side + 6, side + 2], "precompensate": True}
    bench = SLM.replace(PLAIN | {"stop": None}).replace({"mask": keys | mask}).replace(dict(changes))
    kernels = torch.randn(*channels, 3, 3, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bank = fo.Correlator4f.from_kernels(kernels, bench, (12, 12), masks="device", **options)
    return MaskSet.from_correlator(bank, rules=rules, tolerances=tolerances)


def with_letter(preset):
    """A set whose only tile is an F: drawn, or bright, or high; and the F."""
    masks = masks_of({"preset": preset})
    plane = masks.planes[0]
    shown = np.asarray(fo.pictures.letter_f(plane.levels.shape[1:])) > 0
    high = len(plane.table.phase) - 1
    levels = np.where(shown, 0, 1) if preset == "chrome" else np.where(shown, high, 0)
    return replace(masks, planes=(replace(plane, levels=levels[None].astype(plane.levels.dtype)),)), shown


def middle(whole, shape):
    """What stands in the middle of a panel."""
    top, left = ((n - m) // 2 for n, m in zip(whole.shape, shape, strict=True))
    return whole[top : top + shape[0], left : left + shape[1]]
