"""From the field on the camera plane to the numbers that electronics hands on: pixels, noise, readout, companding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Generator, Tensor

from fouroptics.bench import Bench
from fouroptics.devices import detector, readout, source
from fouroptics.devices.detector import Pattern, Sensor
from fouroptics.devices.pixels import Pixels, Readings
from fouroptics.devices.readout import CAPTURES, NEEDS_REFERENCE, Compand, Readout
from fouroptics.errors import InputError, warn
from fouroptics.imperfections import Imperfections
from fouroptics.optics.fourier import Pair
from fouroptics.optics.kept import Kept

SATURATED = 0.05  # the part of readings from which on it is told
HALF_MIRROR = 0.5  # where light and reference meet, one half of each goes to the camera


def sensor_of(bench: Bench) -> Sensor:
    """A single pixel of the bench's camera."""
    camera = bench.camera
    return Sensor(
        qe=camera.qe,
        full_well=camera.full_well,
        gain=camera.gain,
        adc_bits=camera.adc_bits,
        read_noise=camera.read_noise,
        dark_current=camera.dark_current,
        prnu=camera.prnu,
        dsnu=camera.dsnu,
        black_level=camera.black_level,
    )


@dataclass(frozen=True)
class Window:
    """The part of the sensor that sees one response: ``count`` readings of ``bin`` pixels, both ``(y, x)``."""

    count: Pair
    bin: Pair

    @classmethod
    def of(cls, bench: Bench, size: Pair, sensor_pool: Pair | None) -> Window:
        """The bench's own binning, or as many whole pixels a reading as make ``sensor_pool`` readings of a response."""
        camera, sample = bench.camera, _output_sample(bench)
        if sensor_pool is None:
            bins = (camera.bin, camera.bin)
            count = [max(1, math.floor(n * sample / (camera.bin * camera.pitch) + 1e-6)) for n in size]
            return cls((count[0], count[1]), bins)
        pooled = [math.floor(n * sample / (camera.pitch * k) + 1e-6) for n, k in zip(size, sensor_pool, strict=True)]
        if min(pooled) < 1:
            seen = "×".join(str(math.floor(n * sample / camera.pitch)) for n in size)
            what = f"a response falls on {seen} pixels, fewer than {sensor_pool[0]}×{sensor_pool[1]} readings"
            raise InputError(what, where="sensor_pool", mend="fewer readings, or a longer lens2.focal_length")
        return cls(sensor_pool, (pooled[0], pooled[1]))

    @property
    def pixels(self) -> Pair:
        return self.count[0] * self.bin[0], self.count[1] * self.bin[1]


class Reading:
    """What a bank's readout does with a field: a plan for one bench, window and way of reading.

    Args:
        bench: the bench.
        size: samples of a picture.
        window: the part of the sensor that is read.
        kind: the readout.
        compand: what electronics does to each reading.
        upright: turn the camera's picture back.
        periodic: the light wraps at the picture's size.
        reference: irradiance of the reference beam on the camera [W/m²], one for all outputs, or of each ``[out]``.
    """

    def __init__(
        self,
        bench: Bench,
        size: Pair,
        window: Window,
        *,
        kind: Readout,
        compand: Compand,
        upright: bool,
        periodic: bool,
        reference: float | Tensor,
    ) -> None:
        self.bench, self.size, self.window, self.kind, self.compand = bench, size, window, kind, compand
        self.upright, self.periodic = upright, periodic
        aside = [
            abs(off) >= n * _output_sample(bench) for n, off in zip(size, reversed(bench.camera.offset), strict=True)
        ]
        if any(aside):
            warn("camera.offset: the window stands beside the response, and sees nothing of it; less than its width")
        self.sensor = sensor_of(bench).binned(math.prod(window.bin))
        beam, self._reference = bench.reference, reference
        self.captures = captures(bench, kind)
        self._is_single = kind == "homodyne" and self.captures == 1  # then the reference's own share is subtracted
        self._patterns = partial(
            readout.patterns,
            "interference" if self._is_single else kind,
            visibility=beam.visibility if beam else 1.0,
            phase=(beam.phase or 0.0) if beam else 0.0,
        )
        self._pixels: Kept[tuple[Pixels, Tensor]] = Kept()

    @property
    def area(self) -> float:
        """Sensitive area of a reading [m²]."""
        return math.prod(self.window.bin) * self.bench.camera.pitch**2 * self.bench.camera.fill_factor

    def see(self, field: Tensor, steps: Tensor | None = None, *, outputs: slice = slice(None)) -> Tensor:
        """Fields ``[batch, out, y, x]`` on a whole working grid → mean irradiance of readings, ``[…, captures, Y, X]``.

        ``steps`` is what the reference's steps are off by beyond the bench's own error [rad], ``[batch]``; ``outputs``
        which of all these are.
        """
        dtype, device = field.real.dtype, field.device

        def build() -> tuple[Pixels, Tensor]:
            y, x = (_places(room, n) for room, n in zip(field.shape[-2:], self.size, strict=True))
            pixels = Pixels((y, x), *self._readings(), periodic=self.periodic, dtype=dtype, device=device)
            even = field.new_ones(pixels.means.rows.shape[1], pixels.means.columns.shape[1], dtype=dtype)
            return pixels, 1 - pixels(even)

        pixels, beyond = self._pixels.get((field.shape[-2:], dtype, device), build)
        missed = 0.0 if steps is None else steps[:, None, None, None]
        error = missed + (self.bench.reference.phase_step_error if self.bench.reference else 0.0)
        beam = self._beam(field, outputs)
        amplitude = math.sqrt(beam) if isinstance(beam, float) else beam.sqrt()
        shown = pixels(self._patterns(pixels.between(field), reference=amplitude, step_error=error))
        if isinstance(beam, Tensor):
            beam = beam[:, None]  # of all captures
        return shown + beam * beyond  # which does not end beside the readings

    def _beam(self, like: Tensor, outputs: slice = slice(None)) -> float | Tensor:
        """The reference beam where some outputs are ``[out, 1, 1]``; a number where it is the same for all."""
        if isinstance(self._reference, Tensor):
            return self._reference[outputs, None, None].to(like.device, like.real.dtype)
        return self._reference

    def kept_bytes(self, fields: int, room: Pair, element: int) -> int:
        """Most bytes that a gradient keeps of so many complex fields on their way to readings, by measured counts."""
        fine, shown = math.prod(2 * (n + 16) for n in self.size), self.captures
        readings = math.prod(self.window.count) * shown
        return fields * element * (6 * math.prod(room) + (8 + 4 * shown) * fine + 25 * readings)

    def electrons(
        self,
        irradiance: Tensor,
        exposure: float,
        pattern: Pattern | None = None,
        errors: Imperfections | None = None,
    ) -> Tensor:
        """Mean electrons of readings under ``irradiance`` [W/m²]."""
        wavelength: float | Tensor = self.bench.source.wavelength
        if errors is not None:
            irradiance = irradiance * (1 + _drawn(errors, "source.power", irradiance))
            wavelength = wavelength + _drawn(errors, "source.wavelength", irradiance)
        electrons = detector.mean_electrons(
            irradiance * self.area, exposure, self.sensor, wavelength=wavelength, pattern=pattern
        )
        self._warn_if_saturated(electrons, exposure)
        return electrons

    def expected(
        self,
        irradiance: Tensor,
        exposure: float,
        pattern: Pattern | None = None,
        errors: Imperfections | None = None,
    ) -> Tensor:
        """What the electronics hands on, on average over the noise before it is companded."""
        pattern = None if pattern is None else pattern.fitted(self.window.count, irradiance)
        counts = self._counts(irradiance, exposure, pattern, errors)
        return self._electronics(counts, self._dark(counts, exposure, pattern, errors))

    def capture(
        self,
        irradiance: Tensor,
        exposure: float,
        generator: Generator | Sequence[Generator] | None,
        pattern: Pattern | None,
        errors: Imperfections | None = None,
    ) -> Tensor:
        """What the electronics hands on from noisy captures; of several generators each picture has its own."""
        many = generator if isinstance(generator, Sequence) else None
        if many is not None:
            _check_many(many, irradiance, pattern, errors)
        drawn = Pattern.draw(self.window.count, irradiance, generator) if pattern is None else pattern  # type: ignore[arg-type]
        pattern = drawn.fitted(self.window.count, irradiance)
        electrons = self.electrons(irradiance, exposure, pattern, errors)
        shoot = partial(detector.capture, sensor=self._sensor_of(errors, irradiance), pattern=pattern)
        if many is None:
            counts = shoot(electrons, generator=generator)  # type: ignore[arg-type]
        else:
            counts = torch.stack([shoot(one, generator=own) for one, own in zip(electrons, many, strict=True)])
        return self._electronics(counts, self._dark(counts, exposure, pattern, errors))

    def _counts(
        self, irradiance: Tensor, exposure: float, pattern: Pattern | None, errors: Imperfections | None
    ) -> Tensor:
        """What the sensor gives on average."""
        electrons = self.electrons(irradiance, exposure, pattern, errors)
        return detector.expected(electrons, self._sensor_of(errors, irradiance), pattern)

    def _dark(
        self, like: Tensor, exposure: float, pattern: Pattern | None, errors: Imperfections | None
    ) -> Tensor | float:
        """What the sensor gives without a picture, known from before: of a single signed capture the reference's."""
        if not self._is_single:
            return self.sensor.black_level
        beam = self._beam(like)
        alone = like.new_ones((1, 1, *like.shape[-2:])) * (beam[:, None] if isinstance(beam, Tensor) else beam)
        return self._counts(alone, exposure, pattern, errors)

    def _sensor_of(self, errors: Imperfections | None, like: Tensor) -> Sensor:
        """The sensor as it is drawn, each number ``[*draws, 1, 1, 1, 1]``."""
        if errors is None or not ("camera.gain" in errors or "camera.read_noise" in errors):
            return self.sensor
        gain, noise = (1 + _drawn(errors, f"camera.{name}", like) for name in ("gain", "read_noise"))
        return replace(self.sensor, gain=self.sensor.gain * gain, read_noise=self.sensor.read_noise * noise)

    def exposure_for(self, irradiance: Tensor) -> float:
        """The exposure [s] at which the brightest 0.1 % of readings under ``irradiance`` fill 80 % of their range."""
        bright = _percentile(irradiance.detach(), 0.999)
        if not bright > 0:
            what = "no light arrives, so no exposure fills the well"
            raise InputError(what, where="camera.exposure", mend="set a time")
        power = torch.tensor(bright * self.area, dtype=torch.float64)
        rate = detector.mean_electrons(power, 1.0, self.sensor, wavelength=self.bench.source.wavelength)
        return detector.exposure_to_fill(float(rate), self.sensor)

    def _electronics(self, counts: Tensor, dark: Tensor | float) -> Tensor:
        """Less what is there in the dark, or one another: ``[..., out, captures, Y, X]`` → ``[..., out, Y, X]``."""
        if self.kind == "homodyne":  # of inputs one after another, all
            pairs = counts - dark if self._is_single else counts[..., 0::2, :, :] - counts[..., 1::2, :, :]
            signal = pairs.sum(-3)
        else:
            signal = counts[..., 0, :, :] - dark
        if self.kind == "pair_intensity":
            positive, negative = signal.chunk(2, -3)
            signal = positive - negative
        return readout.compand(signal, self.compand)

    def linear(self, field: Tensor) -> Tensor:
        """What the electronics would make of the field itself (``ideal_field``)."""
        return readout.compand(field[..., 0, :, :], self.compand)

    def _readings(self) -> tuple[Readings, Readings]:
        """Rows and columns of readings in samples of the upright picture: its window, less the camera's offset.

        The camera stands where it stands: as the picture falls, only the order of the readings is the other way round.
        """
        camera, sample = self.bench.camera, _output_sample(self.bench)
        pitch, width = camera.pitch / sample, camera.pitch * math.sqrt(camera.fill_factor) / sample
        readings = []
        for n, count, pixels, off in zip(
            self.size, self.window.count, self.window.bin, reversed(camera.offset), strict=True
        ):
            order = 1 if self.upright else -1
            readings.append(Readings(count, (n - 1) / 2 - off / sample, order * pitch, width, pixels))
        return readings[0], readings[1]

    def _warn_if_saturated(self, electrons: Tensor, exposure: float) -> None:
        part = float((electrons.detach() >= self.sensor.holds).double().mean())
        if part > SATURATED:
            bright = _percentile(electrons.detach(), 0.999)
            would = exposure * detector.FILL * self.sensor.holds / bright
            which = "every reading is" if part == 1 else f"{part:.0%} of the readings are"
            warn(f"{which} saturated at an exposure of {exposure:.3g} s; {would:.3g} s would do")


def _drawn(errors: Imperfections, name: str, like: Tensor) -> Tensor:
    """A field for readings ``[*draws, out, captures, Y, X]``, 0 where it is nominal."""
    value = errors.get(name)
    return like.new_zeros(()) if value is None else value.to(like)[..., None, None, None, None]


def reference_irradiance(
    bench: Bench, kind: Readout, window: tuple[float, float], centres: Sequence[tuple[float, float]]
) -> float | Tensor:
    """The reference beam on the camera [W/m²]: its share of the laser, as wide there as the light on the input is here.

    Args:
        bench: the bench.
        kind: the readout.
        window: what the camera sees of an output, referred to the input ``(y, x)`` [m].
        centres: where each output's response is, referred to the input [m]: beside the axis the beam is weaker.

    Returns:
        One number, or of each output one.

    Raises:
        InputError: a readout that needs a beam which the bench does not have.
    """
    if kind not in NEEDS_REFERENCE:
        return 0.0
    if bench.reference is None:
        mend = "add a section [reference], or read 'intensity' or 'pair_intensity'"
        raise InputError(f"{kind!r} needs a reference beam, and the bench has none", where="readout", mend=mend)
    beam = bench.source
    share = bench.reference.power_ratio * HALF_MIRROR * (bench.lens1.focal_length / bench.lens2.focal_length) ** 2
    lit = [share * source.mean_irradiance(beam.power, beam.waist, bench.input.extent, window, at) for at in centres]
    return lit[0] if len(set(centres)) == 1 else torch.tensor(lit, dtype=torch.float64)


def captures(bench: Bench, kind: Readout) -> int:
    """Exposures that a reading takes on a bench."""
    return bench.reference.captures if kind == "homodyne" and bench.reference else CAPTURES[kind]


def _places(room: int, samples: int) -> Tensor:
    """Where a working grid's samples stand, the picture's sample 0 at its corner: half the room is before it."""
    index = torch.arange(room, dtype=torch.float64)
    return torch.where(index >= (room + samples) / 2, index - room, index)


def _check_many(
    generators: Sequence[Generator], irradiance: Tensor, pattern: Pattern | None, errors: Imperfections | None
) -> None:
    """A generator a picture: of one batch, one camera and one draw of the bench."""
    if irradiance.dim() != 5 or len(irradiance) != len(generators):
        what = f"{len(generators)} generators for pictures {[*irradiance.shape[:-4]]}"
        raise InputError(what, where="generator", mend="one a picture of a batch [pictures, in, y, x]")
    if pattern is None:
        mend = "Pattern.draw(bank.readings, pictures, generator)"
        raise InputError("a generator a picture, and one camera for all", where="pattern", mend=mend)
    if errors is not None and math.prod(errors.shape) > 1:
        raise InputError("many draws and many generators", where="generator", mend="one draw at a time")


def _output_sample(bench: Bench) -> float:
    return bench.input.sample * bench.lens2.focal_length / bench.lens1.focal_length


def _percentile(values: Tensor, part: float) -> float:
    """The value that ``part`` of all values do not exceed; by order, so that it takes arrays of any size."""
    flat = values.flatten()
    rank = min(flat.numel(), max(1, int(part * flat.numel()) + 1))
    return float(flat.kthvalue(rank).values)
