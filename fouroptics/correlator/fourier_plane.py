"""Lengths of the plane between the lenses."""

from __future__ import annotations

from fouroptics.bench import Bench
from fouroptics.errors import InputError


def band_width(bench: Bench) -> float:
    """Width of the pictures' sampled spectrum in the Fourier plane, λf/dx [m]."""
    return bench.source.wavelength * bench.lens1.focal_length / bench.input.sample


def stop_width(bench: Bench) -> float:
    assert bench.stop is not None
    if bench.stop.size == "band":
        what = "the stop follows a student's band, and there is none here"
        raise InputError(what, where="stop.size", mend="write a length")
    return float(bench.stop.size)
