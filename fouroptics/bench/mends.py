"""What might mend each problem of a sampling report, best first; the report tries them before it proposes one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from fouroptics.bench.quantities import EDGE_IRRADIANCE, ENCODINGS_OF, Quantities
from fouroptics.units import parse, text

Mend = dict[str, Any]  # bench key, or argument of ``sampling`` → its new value


MOST_PIXELS = 20_000  # a side: no larger panel is proposed
FINEST_PITCH = 0.25  # wavelengths: nor a finer one
WIDEST_PUPIL = 0.3  # [m]


def is_buildable(mend: Mend, wavelength: float) -> bool:
    """Whether the parts that a mend asks for exist."""
    pitches = [parse(value, "length") for key, value in mend.items() if key.endswith(".pitch")]
    pupils = [parse(value, "length") for key, value in mend.items() if key.endswith(".pupil")]
    pixels = [n for key, value in mend.items() if key.endswith(".pixels") for n in value]
    fine = min(pitches, default=1.0) >= FINEST_PITCH * wavelength
    return fine and max(pixels, default=0) <= MOST_PIXELS and max(pupils, default=0.0) <= WIDEST_PUPIL


def _lens_change(q: Quantities, f1: float, *, rounding: Callable[[float], float]) -> Mend:
    """Another first lens and all that follows from it: the second one in proportion, the stop, wide enough pupils."""
    bench, f1 = q.bench, rounding(f1)
    ratio = f1 / q.f1
    mend: Mend = {
        "lens1.focal_length": text(f1, "length"),
        "lens2.focal_length": text(_tidy(q.f2 * ratio), "length"),
    }
    if bench.stop and bench.stop.size != "band":
        mend["stop.size"] = text(_up(q.stop_needed * ratio), "length")
    after_mask = (q.output_window[0], q.output_window[1] + 2 * q.carrier_offset * ratio)
    for name, lens, window in (("lens1", bench.lens1, q.input_field), ("lens2", bench.lens2, after_mask)):
        wide = math.hypot(*(w + b * ratio for w, b in zip(window, q.band_extent, strict=True)))
        if lens.pupil is not None and wide > lens.pupil:
            mend[f"{name}.pupil"] = text(_up(wide), "length")
    return mend


def _coarser(q: Quantities, super_pixel: int) -> Mend:
    """Larger picture samples on proportionally longer lenses: the Fourier plane stays, every angle shrinks."""
    ratio = super_pixel / q.bench.input.super_pixel
    mend: Mend = {
        "input.super_pixel": super_pixel,
        "layout.guard": text(_up(q.bench.layout.guard * ratio), "length"),
    }
    mend["lens1.focal_length"] = text(_tidy(q.f1 * ratio), "length")
    return mend


def _input_panel(q: Quantities) -> Iterator[Mend]:
    fits = min(p // n for p, n in zip(q.input_panel, q.sharing.input_field, strict=True))
    if fits >= 1:
        yield _coarser(q, fits)
    yield from _narrower_guard(q)
    need = [max(n, p) for n, p in zip(q.input_pixels, q.input_panel, strict=True)]
    yield {"input.pixels": need[::-1]}
    yield from _smaller_pictures(q)
    yield from _fewer_channels(q)


def _guard(q: Quantities) -> Iterator[Mend]:
    yield {"layout.guard": text(_up(q.load.reach * q.sample), "length")}


def _narrower_guard(q: Quantities) -> Iterator[Mend]:
    if q.guard > q.load.reach:
        yield from _guard(q)


def _mask_extent(q: Quantities) -> Iterator[Mend]:
    shrink = min(m / b for m, b in zip(q.mask_room, q.band_extent, strict=True))
    yield _lens_change(q, q.f1 * shrink, rounding=_down)
    arms, pitch = q.sharing.arm_grid, q.bench.mask.pitch
    need = [n * math.ceil(b / pitch - 1e-6) for n, b in zip(arms, q.band_extent, strict=True)]
    yield {"mask.pixels": [max(n, p) for n, p in zip(reversed(need), q.bench.mask.pixels, strict=True)]}
    yield from _fewer_channels(q)


def _mask_bins(q: Quantities) -> Iterator[Mend]:
    short = q.needed_a_bin / min(q.pixels_a_bin)
    yield _lens_change(q, q.f1 * short, rounding=_up)
    yield from _narrower_guard(q)
    pixels = [math.ceil(p * short) for p in q.bench.mask.pixels]
    yield {"mask.pitch": text(_down(q.bench.mask.pitch / short), "length"), "mask.pixels": pixels}
    yield from _smaller_pictures(q)
    yield from _fewer_channels(q)


def _fewer_channels(q: Quantities) -> Iterator[Mend]:
    outputs, inputs = q.load.channels
    for part in (2, 4, 8, 16, 64):
        yield {"channels": [outputs, max(1, inputs // part)]}
        yield {"channels": [max(1, outputs // part), inputs]}
        yield {"channels": [max(1, outputs // part), max(1, inputs // part)]}


def _smaller_pictures(q: Quantities) -> Iterator[Mend]:
    for percent in (80, 60, 40, 20, 10, 5):
        size = [max(k, n * percent // 100) for n, k in zip(q.load.size, q.load.kernel, strict=True)]
        mend: Mend = {"size": size}
        if q.load.band:
            mend["band"] = [min(b, n) for b, n in zip(q.load.band, size, strict=True)]
        yield mend


def _encoding(q: Quantities) -> Iterator[Mend]:
    for encoding in ENCODINGS_OF[q.bench.mask.kind]:
        yield {"mask.encoding": encoding}


def _stop(q: Quantities) -> Iterator[Mend]:
    yield {"stop.size": text(_up(q.stop_needed), "length")}


def _stop_wide(q: Quantities) -> Iterator[Mend]:
    if q.bench.stop is None:
        yield {"stop.shape": "square", "stop.size": text(_up(max(q.band_extent)), "length")}
    else:
        yield {"stop.size": text(_up(q.stop_needed), "length")}


def _camera_nyquist(q: Quantities) -> Iterator[Mend]:
    binning = max(2, q.bench.camera.bin)
    f2 = q.f1 * binning * q.bench.camera.pitch / q.sample
    yield {"lens2.focal_length": text(_tidy(f2), "length"), "camera.bin": binning} | _pupil2(q, f2)
    yield {"camera.pitch": text(_down(q.output_sample / 2), "length"), "camera.bin": 2}


def _camera_match(q: Quantities) -> Iterator[Mend]:
    f2 = q.f1 * q.bench.camera.bin * q.bench.camera.pitch / (q.sample * q.reading_step)
    yield {"lens2.focal_length": text(_tidy(f2), "length")}
    yield {"lens2.focal_length": text(_tidy(f2), "length")} | _pupil2(q, f2)


def _camera_window(q: Quantities) -> Iterator[Mend]:
    camera = q.bench.camera
    shrink = min(c / w for c, w in zip(camera.extent, q.output_window, strict=True))
    binning = math.floor(q.output_sample * shrink / camera.pitch + 1e-9)
    if binning >= 2:
        f2 = q.f1 * binning * camera.pitch / q.sample
        yield {"lens2.focal_length": text(_tidy(f2), "length"), "camera.bin": binning}
    need = [math.ceil(w / camera.pitch - 1e-6) for w in q.output_window]
    yield {"camera.pixels": [max(n, p) for n, p in zip(reversed(need), camera.pixels, strict=True)]}
    yield from _smaller_window(q)
    yield from _smaller_pictures(q)
    yield from _fewer_channels(q)


def _pupil2(q: Quantities, f2: float) -> Mend:
    pupil = q.bench.lens2.pupil
    if pupil is None:
        return {}
    window = tuple(w * f2 / q.f2 for w in q.lens2_window)
    needed = math.hypot(*(w + b for w, b in zip(window, q.band_extent, strict=True)))
    return {"lens2.pupil": text(_up(max(pupil, needed)), "length")}


def _lens1_pupil(q: Quantities) -> Iterator[Mend]:
    yield {"lens1.pupil": text(_up(q.pupil_needed(q.input_field)), "length")}
    yield from _shorter_lenses(q)


def _lens2_pupil(q: Quantities) -> Iterator[Mend]:
    yield {"lens2.pupil": text(_up(q.pupil_needed(q.lens2_window)), "length")}
    yield from _smaller_window(q)
    yield from _shorter_lenses(q)


def _smaller_window(q: Quantities) -> Iterator[Mend]:
    """One reading a sample at a smaller magnification."""
    for binning in (8, 4, 2):
        f2 = q.f1 * binning * q.bench.camera.pitch / q.sample
        if f2 < q.f2:
            yield {"lens2.focal_length": text(_tidy(f2), "length"), "camera.bin": binning} | _pupil2(q, f2)


def _shorter_lenses(q: Quantities) -> Iterator[Mend]:
    for part in (2, 4, 8, 16, 32):
        yield _lens_change(q, q.f1 / part, rounding=_up)


def _paraxial_band(q: Quantities) -> Iterator[Mend]:
    for factor in range(2, 33):
        yield _coarser(q, q.bench.input.super_pixel * factor)


def _paraxial_field(q: Quantities) -> Iterator[Mend]:
    for factor in (1.25, 1.5, 2, 3, 5, 8, 12, 20, 40, 80):
        yield _lens_change(q, q.f1 * factor, rounding=_up)
    for factor in range(2, 17):
        yield _coarser(q, q.bench.input.super_pixel * factor)


def _illumination(q: Quantities) -> Iterator[Mend]:
    radius = math.hypot(*q.input_field) / 2
    yield {"source.waist": text(_up(radius * math.sqrt(2 / -math.log(EDGE_IRRADIANCE))), "length")}


def _damage(q: Quantities) -> Iterator[Mend]:
    limit = q.bench.mask.max_irradiance or math.inf
    yield {"source.power": text(_down(q.bench.source.power * limit / q.focus), "power")}


def _aberration_disc(q: Quantities) -> Iterator[Mend]:
    yield {"aberration.diameter": text(_up(min(q.stop_width, max(q.band_extent))), "length")}


def _static_mask(q: Quantities) -> Iterator[Mend]:
    yield {"layout.outputs": "tiled"}


def _input_frames(q: Quantities) -> Iterator[Mend]:
    yield {"layout.inputs": "tiled"}


def _down(value: float) -> float:
    """Rounded down to four digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return _tidy(math.floor(value / step * (1 + 1e-12)) * step)


def _up(value: float) -> float:
    """Rounded up to four digits."""
    if value == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return _tidy(math.ceil(value / step * (1 - 1e-12)) * step)


def _tidy(value: float) -> float:
    return float(f"{value:.10g}")


CANDIDATES: dict[str, Callable[[Quantities], Iterator[Mend]]] = {
    "input-panel": _input_panel,
    "guard": _guard,
    "mask-extent": _mask_extent,
    "mask-bins": _mask_bins,
    "encoding": _encoding,
    "stop": _stop,
    "stop-wide": _stop_wide,
    "camera-nyquist": _camera_nyquist,
    "camera-match": _camera_match,
    "camera-window": _camera_window,
    "lens1-pupil": _lens1_pupil,
    "lens2-pupil": _lens2_pupil,
    "paraxial-band": _paraxial_band,
    "paraxial-field": _paraxial_field,
    "aberration-disc": _aberration_disc,
    "illumination": _illumination,
    "damage": _damage,
    "static-mask": _static_mask,
    "input-frames": _input_frames,
}
