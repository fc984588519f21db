"""Design a bench that works: lenses, samples, stop and beam for given pictures, wavelength and pitches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fouroptics.bench.bench import Bench
from fouroptics.bench.quantities import PIXELS_A_BIN, Load
from fouroptics.bench.sampling import Problem, report
from fouroptics.devices import layout
from fouroptics.errors import InputError
from fouroptics.units import text

STOCK_FOCAL_LENGTHS = (25, 30, 35, 40, 50, 60, 75, 100, 125, 150, 200, 250, 300, 400, 500, 750, 1000)  # mm
_START = "slm-532nm"
_MOST_MENDS = 30
_STEEPEST = 0.1  # wavelengths a picture sample: what a plain lens still images well


def solve(
    *,
    size: tuple[int, int],
    wavelength: str,
    input_pitch: str,
    mask_pitch: str,
    kernel: int | tuple[int, int] = 7,
    band: tuple[int, int] | None = None,
    channels: tuple[int, int] = (16, 3),
    start: str | Bench = _START,
) -> Bench:
    """A bench whose sampling report has no problem, as short as can be.

    The first focal length lies between two walls: long enough that a frequency bin covers the mask pixels that the
    encoding needs, short enough that the band fits on the mask. Panels, sensor and encoding are those of ``start``;
    lenses, stop, guard, beam and binning are chosen.

    Raises:
        InputError: there is none; it says what stands in the way, and which smaller pictures would do.
    """
    load = Load.checked(size, kernel, band, channels)
    first = start if isinstance(start, Bench) else Bench.load(start)
    pitches = {"source.wavelength": wavelength, "input.pitch": input_pitch, "mask.pitch": mask_pitch}
    bench = first.replace({"name": "solved"})
    for argument, (key, value) in zip(("wavelength", "input_pitch", "mask_pitch"), pitches.items(), strict=True):
        try:
            bench = bench.replace({key: value})
        except InputError as error:
            raise InputError(error.what, where=argument, mend=error.mend) from None
    _refuse_unfit_start(bench, load)
    design, problem = _first_that_works(bench, load)
    if design is None:
        raise InputError(problem.what, where=problem.where, mend=_smaller_that_works(bench, load))
    return design


def _refuse_unfit_start(bench: Bench, load: Load) -> None:
    """What no lens, stop or beam can mend, because it lies in the parts that are kept."""
    for problem in report(bench, load).problems:
        if problem.code in ("encoding", "static-mask", "input-frames"):
            change = ", ".join(f"{key} = {value!r}" for key, value in problem.mend.items())
            raise InputError(problem.what, where=problem.where, mend=f"in the bench to start from, change {change}")


def _first_that_works(bench: Bench, load: Load) -> tuple[Bench | None, InputError]:
    """The first design without a problem; failing that, what is wrong with the last."""
    problem = _too_large(bench, load)
    if problem:
        return None, problem
    problem = InputError("rays are too steep for plain lenses at this pitch", where="input.pitch")
    for changes in _designs(bench, load):
        design, found = _with_mends(bench.replace(changes), load)
        if found is None:
            return design, problem
        problem = InputError(found.what, where=found.where)
    return None, problem


def _smaller_that_works(bench: Bench, load: Load) -> str:
    """Advice: the largest pictures of the same shape, in steps of 5 %, that the same parts can carry."""
    for percent in range(95, 0, -5):
        size = (load.size[0] * percent // 100, load.size[1] * percent // 100)
        if all(n >= k for n, k in zip(size, load.kernel, strict=True)):
            band = load.band and (min(load.band[0], size[0]), min(load.band[1], size[1]))
            if _first_that_works(bench, replace(load, size=size, band=band))[0]:
                return f"pictures of {size[0]}x{size[1]} would do"
    return "fewer channels, or other pitches or panels"


def _with_mends(bench: Bench, load: Load) -> tuple[Bench, Problem | None]:
    """Follow the report's mends as long as they leave panels, sensor and encoding alone."""
    for _ in range(_MOST_MENDS):
        found = report(bench, load)
        if found.ok:
            return bench, None
        allowed = [p.mend for p in found.problems if p.mend and all(_may_change(key) for key in p.mend)]
        if not allowed:
            break
        bench = bench.replace(allowed[0])
    return bench, found.problems[0]


def _may_change(key: str) -> bool:
    return "." in key and not key.endswith((".pixels", ".pitch", ".encoding", ".inputs", ".outputs", ".super_pixel"))


def _too_large(bench: Bench, load: Load) -> InputError | None:
    """What no lens can mend: more bins, or more pixels, than the panels have."""
    if _fits(bench, load):
        return None
    height, width = load.size
    what = f"{load.channels[1]} pictures of {height}x{width} have too many frequency bins for the panels"
    return InputError(what, where="size")


def _fits(bench: Bench, load: Load) -> bool:
    """Both walls leave room, and the pictures fit on the input panel."""
    sharing = _sharing(bench, load)
    panel = (bench.input.pixels[1], bench.input.pixels[0])
    low, high = _walls(bench, load, sharing)
    return low <= high and all(n <= p for n, p in zip(sharing.input_field, panel, strict=True))


def _sharing(bench: Bench, load: Load) -> layout.Sharing:
    panel = (bench.input.pixels[1], bench.input.pixels[0])
    most_seen = (bench.camera.pixels[1] // 2, bench.camera.pixels[0] // 2)  # at two pixels a sample
    return layout.share(
        bench.layout.inputs,
        bench.layout.outputs,
        load.channels,
        load.size,
        max(1, load.reach),
        panel,
        sensor=most_seen,
        mask=bench.mask.extent,
        band=_kept(load),
    )


def _kept(load: Load) -> tuple[float, float]:
    """Part of the sampled spectrum that is kept."""
    height, width = (b / s for b, s in zip(load.band or load.size, load.size, strict=True))
    return height, width


def _walls(bench: Bench, load: Load, sharing: layout.Sharing) -> tuple[float, float]:
    """Shortest and longest f1 for one metre of picture sample; both grow with the sample's pitch."""
    mask, wavelength = bench.mask, bench.source.wavelength
    low = PIXELS_A_BIN[mask.encoding] * max(sharing.mask_field) * mask.pitch / wavelength
    room = sharing.arm_pixels((mask.pixels[1], mask.pixels[0]))
    high = min(n * mask.pitch / (wavelength * k) for n, k in zip(room, _kept(load), strict=True))
    return low, high


def _designs(bench: Bench, load: Load) -> Iterator[dict[str, Any]]:
    """Designs to try, the finest picture samples and the shortest lenses first."""
    sharing = _sharing(bench, load)
    panel = (bench.input.pixels[1], bench.input.pixels[0])
    low, high = _walls(bench, load, sharing)
    for super_pixel in range(1, min(p // n for p, n in zip(panel, sharing.input_field, strict=True)) + 1):
        sample = super_pixel * bench.input.pitch
        if bench.source.wavelength / sample <= _STEEPEST:
            for f1 in _focal_lengths(low * sample, high * sample):
                yield _design(bench, load, sharing, super_pixel, f1)


def _focal_lengths(low: float, high: float) -> list[float]:
    """Lenses that one can buy between the walls; failing those, one made for it."""
    stock = [f / 1e3 for f in STOCK_FOCAL_LENGTHS if low <= f / 1e3 <= high]
    return stock or [_digits(math.sqrt(low * high), 6)]


def _design(bench: Bench, load: Load, sharing: layout.Sharing, super_pixel: int, f1: float) -> dict[str, Any]:
    sample = super_pixel * bench.input.pitch
    period = bench.source.wavelength * f1 / sample
    binning, f2 = _second_lens(bench, load, f1, sample)
    field = [n * sample for n in sharing.input_field]
    light = math.hypot(*(f + period for f in field))
    pupil = text(_millimetres(1.2 * light * max(1.0, f2 / f1)), "length")
    band = max(_kept(load))
    return {
        "input.super_pixel": super_pixel,
        "layout.guard": text(_digits(max(1, load.reach) * sample, 12), "length"),
        "lens1.focal_length": text(f1, "length"),
        "lens2.focal_length": text(f2, "length"),
        "lens1.pupil": pupil,
        "lens2.pupil": pupil,
        "stop.shape": "square",
        "stop.size": text(_digits(period * band, 12), "length"),
        "camera.bin": binning,
        "source.waist": text(_millimetres(1.6 * math.hypot(*field)), "length"),
    }


def _second_lens(bench: Bench, load: Load, f1: float, sample: float) -> tuple[int, float]:
    """Binning and f2 such that one reading is one picture sample, with f2 near f1."""
    most = max(2, min(c // s for c, s in zip(reversed(bench.camera.pixels), load.size, strict=True)))
    binning = min(most, max(2, round(sample / bench.camera.pitch)))
    return binning, _digits(f1 * binning * bench.camera.pitch / sample, 6)


def _millimetres(length: float) -> float:
    return math.ceil(length * 1e3) / 1e3


def _digits(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
