"""Lengths of the plane between the lenses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fouroptics.bench import Bench
from fouroptics.errors import InputError
from fouroptics.optics import aberration


def band_width(bench: Bench) -> float:
    """Width of the pictures' sampled spectrum in the Fourier plane, λf/dx [m]."""
    return bench.source.wavelength * bench.lens1.focal_length / bench.input.sample


def stop_width(bench: Bench) -> float:
    assert bench.stop is not None
    if bench.stop.size == "band":
        what = "the stop follows a student's band, and there is none here"
        raise InputError(what, where="stop.size", mend="write a length")
    return float(bench.stop.size)


def wavefront_diameter(bench: Bench) -> float:
    """The disc that Zernike terms refer to: the bench's, or the circle round the opening that light passes."""
    if bench.aberration.diameter is not None:
        return bench.aberration.diameter
    stop = bench.stop
    if stop is None or stop.size == "band":
        return math.sqrt(2) * band_width(bench)
    return float(stop.size) * (math.sqrt(2) if stop.shape == "square" else 1)


def wavefront_transmission(bench: Bench, y: Tensor, x: Tensor) -> Tensor:
    """What the lenses' errors do at places in the Fourier plane [m], ``[y, x]`` complex."""
    path = aberration.wavefront(y, x, bench.aberration.zernike, wavefront_diameter(bench))
    return aberration.delayed(path, bench.source.wavelength)


def is_aberrated(bench: Bench, wanted: bool, has_pixels: bool) -> bool:
    """Whether light meets the lenses' errors: where they are ``wanted``, unless ideal masks take them back.

    A device's pixels that do so carry their conjugate, and answer rightly only to light that meets them.
    """
    if not bench.mask.correct_aberration:
        return wanted and bool(bench.aberration.zernike)
    return has_pixels and bool(bench.aberration.zernike)


def input_pixel(bench: Bench, nu: Tensor) -> Tensor:
    """What a picture sample's device pixels make of frequencies ``nu`` [cycles a sample]: their sinc and their sum."""
    count = bench.input.super_pixel
    clear = math.sqrt(bench.input.fill_factor) / count
    steps = (torch.arange(count, dtype=torch.float64, device=nu.device) - (count - 1) / 2) / count
    together = torch.cos(2 * math.pi * nu[..., None] * steps).mean(-1)
    return torch.sinc(clear * nu) * together
