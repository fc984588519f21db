"""The sampling report: can this bench carry such a bank at all, and if not, which value would mend it?

Every problem comes with a mend that has been tried: the report applies it and looks again before it proposes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fouroptics.bench.mends import CANDIDATES, Mend, is_buildable
from fouroptics.bench.quantities import EDGE_IRRADIANCE, ENCODINGS_OF, PICTURE, Load, Quantities, pair_text
from fouroptics.errors import InputError
from fouroptics.units import show

if TYPE_CHECKING:
    from fouroptics.bench.bench import Bench

CLEARANCE = 1e-9  # relative: what fits exactly, fits
WHOLE_BLAZE = 0.95  # of its light that a phase range should leave a blaze
LITTLE_BLUR = 0.02  # pixels that neighbours half a turn apart bear


@dataclass(frozen=True)
class Line:
    """One line of the table, and the problem it is where ``bad``; a ``note`` is allowed and has its cost."""

    quantity: str
    value: str
    limit: str = ""
    code: str = ""
    where: str = ""
    bad: bool = False
    what: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        return "~" if self.note else ("!" if self.bad else "✓") if self.code else " "


@dataclass(frozen=True)
class Problem:
    """Something the bench cannot do, and what would mend it.

    ``mend`` maps a bench key (``"lens1.focal_length"``) or an argument of ``sampling`` (``"size"``) to its new value.
    """

    code: str
    where: str
    what: str
    mend: Mend

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; mend: {self.mend_text}"

    @property
    def mend_text(self) -> str:
        mend = ", ".join(f"{key} = {json.dumps(value)}" for key, value in self.mend.items())
        return mend or "none by one change, see bench solve"


@dataclass(frozen=True)
class SamplingReport:
    """The table for people (``print(report)``), the numbers for programs (``report.data``), and the problems."""

    bench: Bench
    load: Load
    lines: tuple[Line, ...]
    problems: tuple[Problem, ...]
    data: dict[str, Any] = field(repr=False)

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def notes(self) -> tuple[str, ...]:
        """What is allowed and costs something."""
        return tuple(f"{line.where}: {line.note}" for line in self.lines if line.note)

    def after(self, problem: Problem) -> SamplingReport:
        """The report once a problem's mend is applied."""
        if not isinstance(problem, Problem):
            raise InputError(
                f"{problem!r} is no problem of a report", where="after", mend="give one of report.problems"
            )
        return report(*_mended(self.bench, self.load, problem.mend))

    def to_json(self) -> dict[str, Any]:
        load = {name: getattr(self.load, name) for name in ("size", "kernel", "band", "channels")}
        problems = [{"code": p.code, "where": p.where, "what": p.what, "mend": p.mend} for p in self.problems]
        return {
            "bench": self.bench.name,
            "load": load,
            "ok": self.ok,
            "data": self.data,
            "problems": problems,
            "notes": [*self.notes],
        }

    def __str__(self) -> str:
        outputs, inputs = self.load.channels
        band = f", band {pair_text(self.load.band)}" if self.load.band else ""
        title = (
            f"{self.bench.name}: {inputs} → {outputs} channels, pictures {pair_text(self.load.size)}, "
            f"kernel {pair_text(self.load.kernel)}{band}"
        )
        rows = [("", "quantity (pairs are y × x)", "value", "limit")]
        rows += [(line.verdict, line.quantity, line.value, line.limit) for line in self.lines]
        widths = [max(len(row[column]) for row in rows) for column in range(3)] + [0]
        table = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        verdict = [f"! {problem}" for problem in self.problems] or ["Everything fits."]
        if len(self.problems) > 1:
            verdict.append("Each mend was tried by itself: apply one, then report again.")
        return "\n".join([title, *table, "", *verdict, *(f"~ {note}" for note in self.notes)])


def report(bench: Bench, load: Load) -> SamplingReport:
    """Work out all quantities, find what does not fit, and try a mend for each."""
    quantities = Quantities(bench, load)
    lines = tuple(_lines(quantities))
    bad = {line.code for line in lines if line.bad}
    problems = tuple(
        Problem(line.code, line.where, line.what, _first_that_mends(quantities, line.code, bad))
        for line in lines
        if line.bad
    )
    return SamplingReport(bench, load, lines, problems, quantities.data())


def bad_codes(quantities: Quantities) -> set[str]:
    """Codes of the problems, without looking for mends."""
    return {line.code for line in _lines(quantities) if line.bad}


def _first_that_mends(quantities: Quantities, code: str, before: set[str]) -> Mend:
    """The first candidate that mends this problem and makes no new one; failing that, the first that mends it."""
    second_best: Mend = {}
    for candidate in CANDIDATES[code](quantities):
        if not is_buildable(candidate, quantities.wavelength):
            continue
        try:
            changed = Quantities(*_mended(quantities.bench, quantities.load, candidate))
        except InputError:
            continue  # it asks for a value that no part can have
        after = bad_codes(changed)
        if code not in after:
            if after < before:
                return candidate
            second_best = second_best or candidate
    return second_best


def _mended(bench: Bench, load: Load, mend: Mend) -> tuple[Bench, Load]:
    keys = {key: value for key, value in mend.items() if "." in key}
    arguments = {key: tuple(value) for key, value in mend.items() if "." not in key}
    load = replace(load, **arguments)
    load.check()
    return bench.replace(keys) if keys else bench, load


def _lines(q: Quantities) -> Iterator[Line]:
    yield from _input_lines(q)
    yield from _mask_lines(q)
    yield from _camera_lines(q)
    yield from _lens_lines(q)
    yield from _light_lines(q)
    yield from _frame_lines(q)


def _input_lines(q: Quantities) -> Iterator[Line]:
    reach, panel, need = q.load.reach, q.input_panel, q.input_pixels
    tiles = f", {pair_text(q.sharing.input_tiles)} tiles" if q.sharing.input_tiles != (1, 1) else ""
    yield Line("picture sample", show(q.sample, "length"))
    yield Line(
        "guard",
        f"{q.guard} samples",
        f"≥ {reach}, the kernel's reach",
        "guard",
        "layout.guard",
        q.guard < reach,
        f"a {pair_text(q.load.kernel)} kernel reaches {reach} samples out, the guard holds {q.guard}",
    )
    yield Line(
        "tiled field",
        f"{pair_text(need)} device pixels{tiles}",
        f"≤ {pair_text(panel)}",
        "input-panel",
        "input.pixels",
        any(n > p for n, p in zip(need, panel, strict=True)),
        f"the pictures need {pair_text(need)} device pixels, the panel has {pair_text(panel)}",
    )


def _mask_lines(q: Quantities) -> Iterator[Line]:
    mask, needed = q.bench.mask, q.needed_a_bin
    worst, room = min(q.pixels_a_bin), _lengths(q.mask_room)
    beyond = q.stop_width - q.stop_needed
    stop, needed_stop = show(q.stop_width, "length"), show(q.stop_needed, "length")
    yield Line("Fourier bin", _lengths(q.bins))
    if q.sharing.arms > 1:
        arms = f"{pair_text(q.sharing.arm_grid)}, {pair_text(q.arm_pixels)} pixels each"
        yield Line("arms on the mask", arms)
    yield Line(
        "band on the mask",
        _lengths(q.band_extent),
        f"≤ {room}",
        "mask-extent",
        "mask.pixels",
        any(_over(b, m) for b, m in zip(q.band_extent, q.mask_room, strict=True)),
        f"the band is {_lengths(q.band_extent)}, a mask has {room}",
    )
    yield Line(
        "mask pixels a bin",
        f"{q.pixels_a_bin[0]:.2f} × {q.pixels_a_bin[1]:.2f}",
        f"≥ {needed} for {mask.encoding}",
        "mask-bins",
        "mask.pitch",
        _over(needed, worst),
        f"{mask.encoding} needs {needed} mask pixels a frequency bin and has {worst:.2f}",
    )
    yield Line(
        "encoding",
        f"{mask.encoding} on {mask.kind}",
        "",
        "encoding",
        "mask.encoding",
        mask.encoding not in ENCODINGS_OF[mask.kind],
        f"a {mask.kind} mask cannot show the encoding {mask.encoding!r}",
    )
    if mask.kind == "phase_slm":
        yield from _crystal_lines(q)
    yield Line(
        "stop",
        stop,
        f"≥ {needed_stop} − one bin",
        "stop",
        "stop.size",
        _over(q.stop_needed - max(q.bins), q.stop_width),
        f"the stop passes {stop}, the band needs {needed_stop}",
    )
    yield Line(
        "open beyond the band",
        show(beyond if beyond > CLEARANCE * q.stop_needed else 0.0, "length"),
        "≤ one bin",
        "stop-wide",
        "stop.size",
        _over(q.stop_width, q.stop_needed + max(q.bins)),
        f"{stop} are open and the band needs {needed_stop}: what is to be cut off, and replicas of it, pass",
    )


def _crystal_lines(q: Quantities) -> Iterator[Line]:
    """What a liquid crystal may do, and what it costs."""
    mask = q.bench.mask
    missed = f"{q.missed_phases:.1%} of a turn missing, a blaze keeps {q.blaze:.1%}"
    short = f"{q.missed_phases:.0%} of a turn cannot be shown, and what should have it shows the nearest that can"
    yield Line(
        "phase range",
        f"{show(q.phase_range, 'angle')}: {missed}",
        where="mask.lut" if mask.lut else "mask.phase_range",
        note=short if q.blaze < WHOLE_BLAZE else "",
    )
    blur = mask.crosstalk / mask.pitch
    smeared = (
        f"neighbours of {mask.encoding} are up to half a turn apart, and a blur of {blur:.2g} pixels between them lays "
        'copies of the pictures on the responses; mask.encoding = "carrier", or train the pixels behind the blur'
    )
    if blur > 0:
        yield Line(
            "crosstalk",
            f"{show(mask.crosstalk, 'length')}, {blur:.2g} pixels",
            where="mask.crosstalk",
            note=smeared if mask.encoding in ("double-phase", "fit") and blur > LITTLE_BLUR else "",
        )


def _camera_lines(q: Quantities) -> Iterator[Line]:
    camera, sample = q.bench.camera, show(q.output_sample, "length")
    pixel, detail = show(camera.pitch, "length"), q.output_sample / max(q.kept)
    yield Line(
        "output sample",
        sample if q.load.band is None else f"{sample}, finest {show(detail, 'length')}",
        f"≥ 2 × {pixel}",
        "camera-nyquist",
        "camera.pitch",
        _over(2 * camera.pitch, detail),
        f"|E|² needs two pixels in the band's finest {show(detail, 'length')}, a pixel is {pixel}",
    )
    yield Line(
        "camera reading",
        f"{q.reading_ratio:.4g} of a sample",
        "a whole number or one over it",
        "camera-match",
        "camera.bin",
        q.reading_drift > 0.5,
        f"a reading is {q.reading_ratio:.4g} output samples wide, {q.reading_drift:.1f} samples off at the edge",
    )
    yield Line(
        "camera window",
        _lengths(q.output_window),
        f"≤ {_lengths(camera.extent)}",
        "camera-window",
        "camera.pixels",
        any(_over(w, c) for w, c in zip(q.output_window, camera.extent, strict=True)),
        f"the responses are {_lengths(q.output_window)}, the sensor {_lengths(camera.extent)}",
    )


def _lens_lines(q: Quantities) -> Iterator[Line]:
    for name, lens, window in (
        ("lens1", q.bench.lens1, q.input_field),
        ("lens2", q.bench.lens2, q.lens2_window),
    ):
        wide = q.pupil_needed(window)
        pupil = "unlimited" if lens.pupil is None else show(lens.pupil, "length")
        yield Line(
            f"light at {name}",
            show(wide, "length"),
            pupil if lens.pupil is None else f"≤ {pupil}",
            f"{name}-pupil",
            f"{name}.pupil",
            lens.pupil is not None and _over(wide, lens.pupil),
            f"light is {show(wide, 'length')} wide at the lens, its pupil {pupil}",
        )
    pupil_na = "" if q.lens_na is None else f"lens1 has {q.lens_na:.4f}"
    yield Line("NA of the picture's band", f"{math.sin(q.band_angle):.4f}", pupil_na)
    yield Line(
        "paraxial, band's corner",
        f"{q.band_error:.3f} bins off",
        "≤ 0.5",
        "paraxial-band",
        "input.super_pixel",
        q.band_error > 0.5,
        f"at {math.degrees(q.band_angle):.1f}° a thin lens puts the band's corner {q.band_error:.1f} bins off",
    )
    yield Line(
        "paraxial, bent by the mask",
        f"{q.field_error:.3f} samples off",
        "≤ 0.5",
        "paraxial-field",
        "lens1.focal_length",
        q.field_error > 0.5,
        f"bent by {math.degrees(max(q.bent_angles)):.1f}° the tiles' corner lands {q.field_error:.1f} samples off",
    )
    disc, opening = q.bench.aberration.diameter, min(q.stop_width, max(q.band_extent))
    yield Line(
        "disc of the lenses' errors",
        "round the opening" if disc is None else show(disc, "length"),
        f"≥ {show(opening, 'length')}",
        "aberration-disc",
        "aberration.diameter",
        disc is not None and bool(q.bench.aberration.zernike) and _over(opening, disc),
        f"Zernike terms are known on {show(disc or 0.0, 'length')} and light fills {show(opening, 'length')}",
    )
    yield Line("track length", show(q.track_length, "length"))
    yield Line("spot on the camera", f"{show(q.spot, 'length')} at half maximum, Strehl {q.strehl:.3f}")


def _light_lines(q: Quantities) -> Iterator[Line]:
    limit = q.bench.mask.max_irradiance
    bears = "unknown" if limit is None else show(limit, "irradiance")
    yield Line(
        "light in the corner",
        f"{q.edge:.1%} of the axis",
        f"≥ {EDGE_IRRADIANCE:.0%}",
        "illumination",
        "source.waist",
        q.edge < EDGE_IRRADIANCE * (1 - CLEARANCE),
        f"the field's corner has {q.edge:.0%} of the light on the axis",
    )
    yield Line("beam beside the panel", f"{q.overfill:.2%} is lost")
    yield Line(
        "peak on the mask",
        f"{show(q.focus, 'irradiance')} for white pictures",
        bears if limit is None else f"≤ {bears}",
        "damage",
        "source.power",
        limit is not None and _over(q.focus, limit),
        f"white pictures focus to {show(q.focus, 'irradiance')} on the mask, which bears {bears}",
    )
    mean, contrast = PICTURE
    yield Line("DC share", f"{q.dc_share:.0%} of a picture of mean {mean} and contrast {contrast}")
    yield Line("light an output keeps", f"{q.sharing.power_share:.3g}")


def _frame_lines(q: Quantities) -> Iterator[Line]:
    (outputs, inputs), rate, frames = q.load.channels, q.bench.mask.frame_rate, q.sharing.frames
    time = ""
    if rate:
        once, twice = (show(float(f"{reads * frames / rate:.2g}"), "time") for reads in (1, 2))
        time = f": {once} or more at {show(rate, 'rate')}, {twice} if each is read twice"
    yield Line(
        "frames a picture",
        f"{frames}{time if frames > 1 else ''}",
        "",
        "static-mask",
        "layout.outputs",
        q.bench.layout.outputs == "frames" and outputs > 1 and rate is None,
        f"{outputs} outputs one after another need a mask that changes",
    )
    yield Line(
        "inputs",
        f"{inputs} {q.bench.layout.inputs}",
        "",
        "input-frames",
        "layout.inputs",
        q.bench.layout.inputs == "frames" and inputs > 1 and q.bench.reference is None,
        "inputs one after another can only be summed as fields, which needs a [reference] beam",
    )


def _over(value: float, limit: float) -> bool:
    return value > limit * (1 + CLEARANCE)


def _lengths(pair: tuple[float, float]) -> str:
    y, x = (show(value, "length") for value in pair)
    return y if y == x else f"{y} × {x}"
