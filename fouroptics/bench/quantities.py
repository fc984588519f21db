"""What follows from a bench and the bank it is asked to carry: extents, bins, angles, light. Numbers only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fouroptics.devices import link, source
from fouroptics.errors import InputError

if TYPE_CHECKING:
    from fouroptics.bench.bench import Bench

Pair = tuple[int, int]

# Mask pixels that one frequency bin needs, so that the encoding is as faithful as it can be: within 1 % for
# double-phase, 5 % for carriers. "phase" drops the amplitude, whatever the pixels; "fit" searches for phases that do.
PIXELS_A_BIN = {"ideal": 1, "phase": 1, "double-phase": 3, "fit": 2, "carrier": 4, "lee": 4}
_PHASE, _AMPLITUDE = ("double-phase", "carrier", "fit", "phase"), ("lee",)
CARRIER_PERIOD = 4  # mask pixels a period of the grating that carrier and Lee masks ride on
ENCODINGS_OF = {
    "phase_slm": _PHASE,
    "multilevel_phase": _PHASE,
    "metasurface": (*_PHASE, "ideal"),
    "binary_amplitude": _AMPLITUDE,
    "grey_amplitude": _AMPLITUDE,
    "dmd": _AMPLITUDE,
    "complex": (*_PHASE, *_AMPLITUDE, "ideal"),
}
EDGE_IRRADIANCE = 0.8  # a field's corner should have this much of the axis's light
PICTURE = (0.5, 0.25)  # mean and contrast (standard deviation) of a typical picture in [0, 1]
CLEARANCE = 1e-9  # relative: what fits exactly, fits


@dataclass(frozen=True)
class Load:
    """What the bench is asked to carry."""

    size: Pair = (64, 64)
    kernel: Pair = (7, 7)
    band: Pair | None = None
    channels: Pair = (16, 3)

    @classmethod
    def checked(cls, size: Any, kernel: Any, band: Any, channels: Any) -> Load:
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        for name, pair in (("size", size), ("kernel", kernel), ("band", band), ("channels", channels)):
            if pair is None and name == "band":
                continue
            whole = isinstance(pair, tuple | list) and len(pair) == 2
            if not whole or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in pair):
                raise InputError(
                    f"{pair!r} is not a pair of positive whole numbers", where=name, mend="such as (64, 64)"
                )
            if max(pair) > 1_000_000:
                raise InputError(f"{max(pair)} is beyond any bench", where=name, mend="at most 1000000")
        load = cls(tuple(size), tuple(kernel), tuple(band) if band else None, tuple(channels))
        load.check()
        return load

    def check(self) -> None:
        for name, part in (("kernel", self.kernel), ("band", self.band)):
            if part and any(p > s for p, s in zip(part, self.size, strict=True)):
                mend = f"at most {pair_text(self.size)}"
                raise InputError(
                    f"{pair_text(part)} is larger than the picture, {pair_text(self.size)}",
                    where=name,
                    mend=mend,
                )

    @property
    def reach(self) -> int:
        """Samples that a kernel's response sticks out of the picture on its longer side."""
        return max(k // 2 for k in self.kernel)


class Quantities:
    """All derived quantities of one bench under one load [SI]; pairs are (y, x)."""

    def __init__(self, bench: Bench, load: Load) -> None:
        self.bench, self.load = bench, load
        self.wavelength = bench.source.wavelength
        self.f1, self.f2 = bench.lens1.focal_length, bench.lens2.focal_length
        self.sample = bench.input.sample
        self.guard = bench.guard_samples
        self.sharing = bench.share(load.size, load.channels, band=load.band)

    @property
    def input_panel(self) -> Pair:
        return self.bench.input.pixels[1], self.bench.input.pixels[0]

    @property
    def input_pixels(self) -> Pair:
        """Device pixels that the tiled pictures take up."""
        height, width = (n * self.bench.input.super_pixel for n in self.sharing.input_field)
        return height, width

    @cached_property
    def period(self) -> float:
        """Width of the sampled spectrum in the Fourier plane, λf/dx [m]."""
        return self.wavelength * self.f1 / self.sample

    @cached_property
    def kept(self) -> tuple[float, float]:
        """Part of the sampled spectrum that is kept."""
        if self.load.band is None:
            return 1.0, 1.0
        y, x = (b / s for b, s in zip(self.load.band, self.load.size, strict=True))
        return y, x

    @property
    def band_extent(self) -> tuple[float, float]:
        return self.period * self.kept[0], self.period * self.kept[1]

    @cached_property
    def bins(self) -> tuple[float, float]:
        """Width of one frequency bin, λf/(N·dx) [m]."""
        return self.period / self.sharing.mask_field[0], self.period / self.sharing.mask_field[1]

    @property
    def mask_room(self) -> tuple[float, float]:
        """What the band may take up: the mask's panel, or an arm's part of it [m]."""
        height, width = self.arm_pixels
        return height * self.bench.mask.pitch, width * self.bench.mask.pitch

    @property
    def arm_pixels(self) -> Pair:
        """Mask pixels (y, x) that a whole mask has, one of as many as there are arms on the panel."""
        return self.sharing.arm_pixels((self.bench.mask.pixels[1], self.bench.mask.pixels[0]))

    @cached_property
    def phase_range(self) -> float:
        """Phases that a liquid crystal reaches [rad]: its table's, else its range, else a whole turn."""
        table = self.bench.mask.table
        if table is not None:
            return abs(table.phase[-1] - table.phase[0])
        return 2 * math.pi if self.bench.mask.phase_range is None else self.bench.mask.phase_range

    @property
    def missed_phases(self) -> float:
        """Share of the circle that the range does not reach."""
        return max(0.0, 1 - self.phase_range / (2 * math.pi))

    @property
    def blaze(self) -> float:
        """What a blazed grating, its ramp pressed into the range R, sends to the first order: sinc²((2π - R)/2π)."""
        missed = math.pi * self.missed_phases
        return (math.sin(missed) / missed) ** 2 if missed else 1.0

    @property
    def pixels_a_bin(self) -> tuple[float, float]:
        return self.bins[0] / self.bench.mask.pitch, self.bins[1] / self.bench.mask.pitch

    @property
    def needed_a_bin(self) -> int:
        return PIXELS_A_BIN[self.bench.mask.encoding]

    @property
    def input_field(self) -> tuple[float, float]:
        """Tiled pictures on the input modulator [m]."""
        return self.sharing.input_field[0] * self.sample, self.sharing.input_field[1] * self.sample

    @property
    def output_sample(self) -> float:
        return self.sample * self.f2 / self.f1

    @cached_property
    def output_window(self) -> tuple[float, float]:
        """What the camera must see [m]: one picture, or all of them side by side with their guards."""
        height, width = self.sharing.output_field(self.load.size)
        return height * self.output_sample, width * self.output_sample

    @property
    def reading_ratio(self) -> float:
        """Camera readings' pitch over the output samples'."""
        return self.bench.camera.bin * self.bench.camera.pitch / self.output_sample

    @property
    def reading_step(self) -> float:
        """The whole number, or one over a whole number, that the ratio should be."""
        ratio = self.reading_ratio
        return float(max(1, round(ratio))) if ratio >= 1 else 1 / max(1, round(1 / ratio))

    @property
    def reading_drift(self) -> float:
        """Samples by which readings have run away from the picture at its edge, the centre being aligned."""
        return abs(self.reading_ratio / self.reading_step - 1) * max(self.sharing.output_field(self.load.size)) / 2

    def pupil_needed(self, window: tuple[float, float]) -> float:
        """Rays leave a field at up to λ/2dx, so a focal length away the beam is field + band wide, corner to corner."""
        return math.hypot(*(w + b for w, b in zip(window, self.band_extent, strict=True)))

    @property
    def band_angle(self) -> float:
        """Steepest ray of the picture's band, in the corner [rad]."""
        sine = math.hypot(*self.kept) * self.wavelength / (2 * self.sample)
        return math.asin(min(1.0, sine))

    @property
    def field_angle(self) -> float:
        """Ray from the field's corner through the Fourier plane's centre [rad]."""
        return math.atan(math.hypot(*self.input_field) / 2 / self.f1)

    @property
    def bent_angles(self) -> tuple[float, float]:
        """Steepest rays that a mask has to bend: from a tile beside the axis, and to a response beside it [rad]."""
        tiles = self.sharing.summed_tiles != (1, 1), self.sharing.output_tiles != (1, 1)
        inwards = math.hypot(*self.input_field) / 2 / self.f1 if tiles[0] else 0.0
        outwards = math.hypot(*self.output_window) / 2 / self.f2 if tiles[1] else 0.0
        return math.atan(inwards), math.atan(outwards)

    @property
    def band_error(self) -> float:
        """How far an ideal thin lens, f·tan θ, puts the band's corner from f·sin θ, in bins."""
        return self.f1 * _sine_excess(self.band_angle) / min(self.bins)

    @property
    def field_error(self) -> float:
        """How far a tile lands off, in output samples: lenses map tan θ to tan θ, but a mask shifts sin θ."""
        return self.f2 * math.fsum(map(_sine_excess, self.bent_angles)) / self.output_sample

    @property
    def carrier_offset(self) -> float:
        """Where the first order of a mask with a carrier lands on the camera, off the axis [m]."""
        if self.bench.mask.encoding not in ("carrier", "lee"):
            return 0.0
        return self.wavelength * self.f2 / (CARRIER_PERIOD * self.bench.mask.pitch)

    @property
    def lens2_window(self) -> tuple[float, float]:
        """What leaves the second lens towards the camera, on both sides of the axis [m]."""
        return self.output_window[0], self.output_window[1] + 2 * self.carrier_offset

    @cached_property
    def focus(self) -> float:
        """Irradiance on a mask's axis when every picture is white [W/m²]."""
        bench = self.bench
        start = source.peak_irradiance(bench.source.power, bench.source.waist, bench.input.extent)
        start *= bench.input.transmission * bench.input.fill_factor**2 / self.sharing.arms
        tiles = self.load.channels[1] if bench.layout.inputs == "tiled" else 1
        white = (self.load.size[0] * self.sample * tiles, self.load.size[1] * self.sample)
        return source.focus_irradiance(start, white, self.wavelength, self.f1)

    @property
    def edge(self) -> float:
        return source.edge_irradiance(self.bench.source.waist, self.input_field)

    @property
    def overfill(self) -> float:
        """Share of the beam that misses the input's panel."""
        return source.overfill(self.bench.source.waist, self.bench.input.extent)

    @property
    def stop_width(self) -> float:
        """Stop [m]: as wide as is needed where it follows the band; the mask's longer side where there is none."""
        stop = self.bench.stop
        if stop is None:
            return max(self.stop_needed, *self.bench.mask.extent)
        return self.stop_needed if stop.size == "band" else float(stop.size)

    @property
    def strehl(self) -> float:
        """exp(-σ²) of the wavefront's phase σ; piston and tilt (Noll 1 to 3) do not blur, nor what masks take back."""
        if self.bench.mask.correct_aberration:
            return 1.0
        rms = math.sqrt(math.fsum(path**2 for n, path in self.bench.aberration.zernike.items() if n > 3))
        return math.exp(-((2 * math.pi * rms / self.wavelength) ** 2))

    @property
    def stop_needed(self) -> float:
        """Width of a stop that passes the band's sides, or its corners if the stop is round [m]."""
        round_stop = self.bench.stop is not None and self.bench.stop.shape == "circular"
        return math.hypot(*self.band_extent) if round_stop else max(self.band_extent)

    @property
    def lens_na(self) -> float | None:
        pupil = self.bench.lens1.pupil
        return None if pupil is None else math.sin(math.atan(pupil / 2 / self.f1))

    @property
    def track_length(self) -> float:
        return 2 * (self.f1 + self.f2)

    @property
    def spot(self) -> float:
        """Width at half maximum of what a point becomes on the camera, along its longer side [m].

        0.886 λf/D behind a square opening (sinc²), 1.029 λf/D behind a round one (Airy); a round stop whose edge the
        square band cuts lies between the two and is told as square.
        """
        narrow = min(*self.band_extent)
        round_stop = self.bench.stop is not None and self.bench.stop.shape == "circular"
        if round_stop and self.stop_width <= narrow:
            return 1.029 * self.wavelength * self.f2 / self.stop_width
        return 0.886 * self.wavelength * self.f2 / min(self.stop_width, narrow)

    @property
    def dc_share(self) -> float:
        """Part of a typical picture's light in frequency 0: mean² / (mean² + variance), by Parseval."""
        mean, contrast = PICTURE
        return mean**2 / (mean**2 + contrast**2)

    @property
    def camera_readout(self) -> float:
        """Time to read the rows of the window [s]."""
        camera = self.bench.camera
        rows = math.ceil(self.output_window[0] / camera.pitch)
        return link.readout_time(rows, sensor_rows=camera.pixels[1], frame_rate=camera.frame_rate)

    def data(self) -> dict[str, Any]:
        """The numbers behind the table [SI], pairs as (y, x)."""
        return {
            "sample": self.sample,
            "guard_samples": self.guard,
            "input_tiles": self.sharing.input_tiles,
            "output_tiles": self.sharing.output_tiles,
            "input_field": self.input_field,
            "fourier_bin": self.bins,
            "fourier_period": self.period,
            "band_extent": self.band_extent,
            "mask_extent": self.bench.mask.extent,
            "mask_arms": self.sharing.arm_grid,
            "mask_pixels_a_bin": self.pixels_a_bin,
            "mask_pixels_a_bin_needed": self.needed_a_bin,
            "stop": self.stop_width,
            "output_sample": self.output_sample,
            "reading_ratio": self.reading_ratio,
            "output_window": self.output_window,
            "lens1_pupil_needed": self.pupil_needed(self.input_field),
            "lens2_pupil_needed": self.pupil_needed(self.lens2_window),
            "band_na": math.sin(self.band_angle),
            "field_angle": self.field_angle,
            "paraxial_band_error_bins": self.band_error,
            "paraxial_field_error_samples": self.field_error,
            "track_length": self.track_length,
            "spot": self.spot,
            "strehl": self.strehl,
            "corner_light": self.edge,
            "overfill": self.overfill,
            "peak_irradiance": self.focus,
            "dc_share": self.dc_share,
            "power_share": self.sharing.power_share,
            "frames": self.sharing.frames,
            "camera_readout": self.camera_readout,
        } | self._phase_data()

    def _phase_data(self) -> dict[str, Any]:
        if self.bench.mask.kind != "phase_slm":
            return {}
        return {"missed_phases": self.missed_phases, "blaze_efficiency": self.blaze}


def _sine_excess(angle: float) -> float:
    return math.tan(angle) - math.sin(angle)


def pair_text(pair: Any) -> str:
    return f"{pair[0]}×{pair[1]}"
