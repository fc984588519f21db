"""Design a bench that works: lenses, samples, stop and beam for given pictures, wavelength and pitches."""

from __future__ import annotations

import math
from typing import Any

from fouroptics.bench.bench import Bench
from fouroptics.bench.quantities import PIXELS_A_BIN, Load
from fouroptics.bench.sampling import report
from fouroptics.devices import layout
from fouroptics.errors import InputError
from fouroptics.units import text

STOCK_FOCAL_LENGTHS = (25, 30, 35, 40, 50, 60, 75, 100, 125, 150, 200, 250, 300, 400, 500, 750, 1000)  # mm
_START = "slm-532nm"
_MOST_MENDS = 30


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
    """A bench whose sampling report has no problem.

    The first focal length lies between two walls: long enough that a frequency bin covers the mask pixels that the
    encoding needs, short enough that the band fits on the mask. Panels, camera and encoding are those of ``start``.

    Raises:
        InputError: no focal length lies between the walls; it names the largest picture for which one does.
    """
    load = Load.checked(size, kernel, band, channels)
    first = start if isinstance(start, Bench) else Bench.load(start)
    bench = first.replace(
        {
            "name": "solved",
            "source.wavelength": wavelength,
            "input.pitch": input_pitch,
            "mask.pitch": mask_pitch,
        }
    )
    _refuse_too_large(bench, load)
    bench = bench.replace(_changes(bench, load))
    for _ in range(_MOST_MENDS):
        found = report(bench, load)
        mends = [p.mend for p in found.problems if p.mend and all("." in key for key in p.mend)]
        if found.ok:
            return bench
        if not mends:
            break
        bench = bench.replace(mends[0])
    problem = report(bench, load).problems[0]
    raise InputError(
        problem.what, where=problem.where, mend="smaller pictures, fewer channels or other pitches"
    )


def _refuse_too_large(bench: Bench, load: Load) -> None:
    if _fits(bench, load):
        return
    height, width = load.size
    smaller = (
        Load((height * p // 100, width * p // 100), load.kernel, None, load.channels)
        for p in range(99, 0, -1)
    )
    best = next((s for s in smaller if min(s.size) >= max(s.kernel) and _fits(bench, s)), None)
    mend = (
        f"the largest such picture is about {best.size[0]}x{best.size[1]}"
        if best
        else "fewer channels or a larger mask"
    )
    raise InputError(
        f"{load.channels[1]} pictures of {height}x{width} have too many frequency bins for the panels",
        where="size",
        mend=mend,
    )


def _fits(bench: Bench, load: Load) -> bool:
    """Both walls leave room, and the pictures fit on the input panel."""
    sharing = _sharing(bench, load)
    panel = (bench.input.pixels[1], bench.input.pixels[0])
    low, high = _walls(bench, load, sharing)
    return low <= high and all(n <= p for n, p in zip(sharing.input_field, panel, strict=True))


def _sharing(bench: Bench, load: Load) -> layout.Sharing:
    panel = (bench.input.pixels[1], bench.input.pixels[0])
    lay = bench.layout
    return layout.share(lay.inputs, lay.outputs, load.channels, load.size, max(1, load.reach), panel)


def _walls(bench: Bench, load: Load, sharing: layout.Sharing) -> tuple[float, float]:
    """Shortest and longest f1 for one metre of picture sample; both grow with the sample's pitch."""
    mask, wavelength = bench.mask, bench.source.wavelength
    kept = (b / s for b, s in zip(load.band or load.size, load.size, strict=True))
    low = PIXELS_A_BIN[mask.encoding] * max(sharing.mask_field) * mask.pitch / wavelength
    high = min(m / (wavelength * k) for m, k in zip(mask.extent, kept, strict=True))
    return low, high


def _changes(bench: Bench, load: Load) -> dict[str, Any]:
    sharing = _sharing(bench, load)
    panel = (bench.input.pixels[1], bench.input.pixels[0])
    low, high = _walls(bench, load, sharing)
    most = min(p // n for p, n in zip(panel, sharing.input_field, strict=True))
    super_pixel = next((s for s in range(1, most + 1) if _is_easy(bench, high, s)), most)
    sample = super_pixel * bench.input.pitch
    f1 = _focal_length(low * sample, high * sample)
    period = bench.source.wavelength * f1 / sample
    binning, f2 = _second_lens(bench, load, f1, sample)
    field = [n * sample for n in sharing.input_field]
    light = math.hypot(*(f + period for f in field))
    pupil = text(_millimetres(1.2 * light * max(1.0, f2 / f1)), "length")
    return {
        "input.super_pixel": super_pixel,
        "layout.guard": text(_digits(max(1, load.reach) * sample, 12), "length"),
        "lens1.focal_length": text(f1, "length"),
        "lens2.focal_length": text(f2, "length"),
        "lens1.pupil": pupil,
        "lens2.pupil": pupil,
        "stop.shape": "square",
        "stop.size": "band",
        "camera.bin": binning,
        "source.waist": text(_millimetres(1.6 * math.hypot(*field)), "length"),
    }


def _is_easy(bench: Bench, high: float, super_pixel: int) -> bool:
    """Angles small enough for a plain lens, and a focal length that one can buy."""
    sample = super_pixel * bench.input.pitch
    return bench.source.wavelength / sample <= 0.1 and high * sample >= 0.05


def _focal_length(low: float, high: float) -> float:
    stock = [f / 1e3 for f in STOCK_FOCAL_LENGTHS if low <= f / 1e3 <= high]
    return stock[-1] if stock else _digits(math.sqrt(low * high), 6)


def _second_lens(bench: Bench, load: Load, f1: float, sample: float) -> tuple[int, float]:
    """Binning and f2 such that one reading is one picture sample, with f2 near f1."""
    most = max(2, min(c // s for c, s in zip(reversed(bench.camera.pixels), load.size, strict=True)))
    binning = min(most, max(2, round(sample / bench.camera.pitch)))
    return binning, _digits(f1 * binning * bench.camera.pitch / sample, 10)


def _millimetres(length: float) -> float:
    return math.ceil(length * 1e3) / 1e3


def _digits(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
