"""From light to numbers in a computer, and how long that takes: frames, settling, exposure, readout, link."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fouroptics import units


def transfer_time(bits: float, rate: float) -> float:
    """Seconds that ``bits`` take over a link of ``rate`` [bit/s]."""
    return bits / rate


def readout_time(rows: int, *, sensor_rows: int, frame_rate: float) -> float:
    """A sensor converts row by row, so a window of fewer rows is read in less than a full frame's time [s]."""
    return min(rows, sensor_rows) / (sensor_rows * frame_rate)


@dataclass(frozen=True)
class Latency:
    """One picture from the modulator to the computer, term by term; terms follow each other and add.

    Args:
        terms: ``(name, seconds, how it comes about)`` in order.
        frames: masks shown one after another.
        captures: camera exposures.
        samples: ADC conversions of all captures together.
        bits: what goes over the link.
    """

    terms: tuple[tuple[str, float, str], ...]
    frames: int
    captures: int
    samples: int
    bits: int

    @property
    def seconds(self) -> float:
        return math.fsum(seconds for _, seconds, _ in self.terms)

    def __getitem__(self, name: str) -> float:
        return {term: seconds for term, seconds, _ in self.terms}[name]

    @property
    def data(self) -> dict[str, Any]:
        """As plain numbers for JSON [s, counts]."""
        terms = {name: seconds for name, seconds, _ in self.terms}
        counts = {
            "frames": self.frames,
            "captures": self.captures,
            "samples": self.samples,
            "bits": self.bits,
        }
        return {"seconds": self.seconds, "terms": terms} | counts

    def __str__(self) -> str:
        rows = [
            *self.terms,
            ("total", self.seconds, f"{self.captures} captures, {self.bits:,} bits a picture"),
        ]
        return "\n".join(f"{name:<16}{units.show(seconds, 'time'):>10}  {how}" for name, seconds, how in rows)


def latency(
    *,
    frames: int,
    reads: int,
    mask_settle: float,
    mask_rate: float | None,
    input_settle: float,
    input_changes: int,
    exposure: float,
    window: tuple[int, int],
    binning: tuple[int, int],
    sensor_rows: int,
    camera_rate: float,
    adc_bits: int,
    link_rate: float,
    overhead: float,
    step_settle: float | None = None,
) -> Latency:
    """Time and bits of one picture through a bench.

    Every capture waits for its mask to settle, is exposed, and is read out. A mask changes at its own beat only, so the
    rest of the last beat is a wait. Where a reference beam steps by itself between the captures of a mask, the mask
    stays, and only the step has to settle. Binning sums charge before the ADC, so a bin is one conversion.

    Args:
        frames: masks one after another.
        reads: captures a mask: 1 for an intensity, 2 for a balanced pair.
        mask_settle: [s]; 0 for a plate.
        mask_rate: [Hz]; None for a mask that does not change.
        input_settle: [s], hidden behind the mask's settling where that is longer.
        input_changes: pictures written one after another.
        exposure: [s].
        window: camera pixels ``(y, x)`` that are read.
        binning: pixels a bin ``(y, x)``.
        sensor_rows: rows of the whole sensor.
        camera_rate: full frames per second [Hz].
        adc_bits: bits a sample.
        link_rate: [bit/s].
        overhead: [s] a transfer, one for each capture.
        step_settle: of the reference's step [s]; None: the mask modulator makes it, and settles again.
    """
    captures = frames * reads
    changes, steps = (captures, 0) if step_settle is None else (frames, frames * (reads - 1))
    step, per_change = step_settle or 0.0, captures // changes
    readout = readout_time(window[0], sensor_rows=sensor_rows, frame_rate=camera_rate)
    busy = mask_settle + per_change * (exposure + readout) + (per_change - 1) * step
    behind = max(0.0, input_settle - mask_settle)  # how much later than the mask a new picture is ready
    beat = mask_rate if changes > 1 else None
    wait = (changes - input_changes) * _to_next(busy, beat) + input_changes * _to_next(busy + behind, beat)
    samples = captures * math.ceil(window[0] / binning[0]) * math.ceil(window[1] / binning[1])
    bits = samples * adc_bits

    def each(seconds: float, times: int = captures) -> str:
        return f"{times} × {units.show(seconds, 'time')}"

    terms = (
        (
            "input settle",
            input_changes * max(0.0, input_settle - mask_settle),
            f"{input_changes} × beyond the mask's",
        ),
        ("mask settle", changes * mask_settle, each(mask_settle, changes)),
        ("reference step", steps * step, each(step, steps)),
        ("exposure", captures * exposure, each(exposure)),
        (
            "camera readout",
            captures * readout,
            f"{each(readout)}, {window[0]} of {sensor_rows} rows with their ADC",
        ),
        ("mask wait", wait, "until the mask's next frame, after each that it shows"),
        ("link", transfer_time(bits, link_rate), f"{samples:,} samples × {adc_bits} bit"),
        ("overhead", captures * overhead, each(overhead)),
    )
    return Latency(terms, frames, captures, samples, bits)


def _to_next(busy: float, beat: float | None) -> float:
    """From the end of ``busy`` [s] to the next tick of a ``beat`` [Hz] that began with it."""
    return 0.0 if beat is None else math.ceil(busy * beat - 1e-9) / beat - busy
