"""The camera as EMVA 1288 describes it: light → electrons → a well that fills → read noise → gain → an ADC.

    n = Poisson(QE·(1 + PRNU)·photons + dark·t)  →  min(n, well)  →  + DSNU + read noise
      → × gain  →  + black level  →  round  →  clip to [0, 2^bits - 1]

Every number of a ``Sensor`` may be a tensor and carries a gradient. Noise comes from the generator that is passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from fouroptics.devices.source import photon_energy
from fouroptics.errors import InputError
from fouroptics.optics.kept import is_traced

Number = float | Tensor

FILL = 0.8  # the part of its range that the brightest readings fill
_FAR = 9.0  # standard deviations: beyond them a normal distribution has less than 1e-18 of it
_DELTA = 1e-3  # electrons; keeps the noise's derivative finite in the dark, never in a value


@dataclass(frozen=True)
class Sensor:
    """What one reading is made by.

    Args:
        qe: electrons a photon.
        full_well: electrons that a reading holds.
        gain: DN an electron.
        adc_bits: of the converter.
        read_noise: rms electrons a reading.
        dark_current: electrons a second.
        prnu: rms of the response from pixel to pixel, a share.
        dsnu: rms of the offset from pixel to pixel, electrons.
        black_level: DN that a dark reading is lifted by.
    """

    qe: Number
    full_well: Number
    gain: Number
    adc_bits: int
    read_noise: Number = 0.0
    dark_current: Number = 0.0
    prnu: Number = 0.0
    dsnu: Number = 0.0
    black_level: Number = 0.0

    def binned(self, pixels: int) -> Sensor:
        """A reading whose charge is summed over ``pixels``: read once, dark as often, unequal by less."""
        root = math.sqrt(pixels)
        return replace(self, dark_current=self.dark_current * pixels, prnu=self.prnu / root, dsnu=self.dsnu * root)

    @property
    def brightest(self) -> int:
        """The ADC's largest number [DN]."""
        return (1 << self.adc_bits) - 1

    @property
    def holds(self) -> float:
        """Electrons that neither the well nor the ADC cuts off."""
        return min(float(self.full_well), (self.brightest - float(self.black_level)) / float(self.gain))


@dataclass(frozen=True)
class Pattern:
    """What is fixed about one camera's readings, in units of ``prnu`` and ``dsnu``: standard normal maps ``[y, x]``."""

    response: Tensor
    offset: Tensor

    @classmethod
    def draw(cls, size: tuple[int, int], like: Tensor, generator: Generator | None = None) -> Pattern:
        """A camera of its kind. Keep it and pass it again: one camera's pattern does not change."""
        check_generator(generator, like)
        response, offset = (like.new_empty(size).normal_(generator=generator) for _ in range(2))
        return cls(response, offset)

    def fitted(self, size: tuple[int, int], like: Tensor) -> Pattern:
        """The same for readings ``like`` these, of ``size``."""
        if tuple(self.response.shape) != size or tuple(self.offset.shape) != size:
            mend = "Pattern.draw(bank.readings, …)"
            raise InputError(f"it is for {tuple(self.response.shape)} readings, not {size}", where="pattern", mend=mend)
        return Pattern(self.response.to(like), self.offset.to(like))


def mean_electrons(
    power: Tensor, exposure: Number, sensor: Sensor, *, wavelength: Number, pattern: Pattern | None = None
) -> Tensor:
    """Electrons that a reading collects on average from ``power`` [W] in ``exposure`` [s], the dark ones included."""
    seconds = float(torch.as_tensor(exposure).detach())
    if not seconds > 0:
        raise InputError(f"an exposure of {seconds} s", where="exposure", mend="a positive time in seconds")
    efficiency = sensor.qe if pattern is None else sensor.qe * (1 + sensor.prnu * pattern.response)
    return efficiency * power * exposure / photon_energy(wavelength) + sensor.dark_current * exposure


def expected(electrons: Tensor, sensor: Sensor, pattern: Pattern | None = None) -> Tensor:
    """The mean reading [DN]: smooth where the well and the ADC cut the noise off, by the noise's own width.

    Light n with read noise r ends at min(n + r, well + r, ADC), which is r + min(n, min(well, ADC - r)), so the mean of
    the inner minimum is a limit for n alone. Shot noise is taken as Gaussian there. In the dark n is never negative, so
    only as much of it counts as read noise s can carry below zero, s/(s + ½): within 0.03 electrons of Poisson's sums.
    """
    lifted = 0.0 if pattern is None else sensor.dsnu * pattern.offset
    black = lifted + sensor.black_level / sensor.gain  # electrons
    read = torch.as_tensor(sensor.read_noise).to(electrons)
    room = torch.as_tensor(sensor.brightest / sensor.gain - black).to(electrons)  # what the ADC leaves above black
    well = torch.as_tensor(sensor.full_well).to(electrons)
    limit = _mean_lesser(room, well, read)
    shot = electrons.clamp_min(0) + _DELTA
    by_adc = _below((well - room) / (read + _DELTA))
    charge = _mean_lesser(electrons, limit, (shot + by_adc * read.square()).sqrt())
    dark = (charge.clamp_min(0) * read / (read + 0.5) + read.square() + _DELTA**2).sqrt()
    signal = charge + black
    return sensor.gain * (signal - _mean_lesser(signal, torch.zeros_like(signal), dark))


def capture(
    electrons: Tensor, sensor: Sensor, *, generator: Generator | None = None, pattern: Pattern | None = None
) -> Tensor:
    """One noisy reading [DN], a whole number. Gradients pass the rounding as if it were not there."""
    check_generator(generator, electrons)
    charge = poisson(electrons, generator=generator)
    charge = charge.minimum(torch.as_tensor(sensor.full_well, dtype=charge.dtype, device=charge.device))
    if pattern is not None:
        charge = charge + sensor.dsnu * pattern.offset
    charge = charge + sensor.read_noise * torch.empty_like(charge).normal_(generator=generator)
    return digitize(sensor.gain * charge + sensor.black_level, sensor.adc_bits)


def poisson(mean: Tensor, *, generator: Generator | None = None) -> Tensor:
    """A Poisson number, exact in value, with a gradient that knows that its spread grows with its mean.

    n = x + √x·z moves with x by 1 + z/2√x at fixed z = (n - x)/√x. So the mean of (n - t)² gets its true derivative
    1 + 2(x - t), where passing the gradient straight through would lose the 1.
    """
    check_generator(generator, mean)
    drawn = torch.poisson(mean.detach().clamp_min(0), generator=generator)
    scale = (mean.clamp_min(0) + _DELTA).sqrt()
    moved = mean + scale * ((drawn - mean) / scale).detach()
    return drawn + (moved - moved.detach())


def digitize(signal: Tensor, bits: int) -> Tensor:
    """Round to whole DN and clip to what ``bits`` can say."""
    rounded = signal.detach().round() + (signal - signal.detach())
    return rounded.clamp(0, (1 << bits) - 1)


def exposure_to_fill(electron_rate: float, sensor: Sensor) -> float:
    """Exposure [s] at which a reading that collects ``electron_rate`` [1/s] fills 80 % of the well or of the ADC.

    A binned reading's charge has to fit what a single well holds and what the gain leaves of the ADC's range.
    """
    return FILL * sensor.holds / electron_rate


def check_generator(generator: Any, tensor: Tensor) -> None:
    """Noise is drawn where the light is."""
    if generator is not None and not isinstance(generator, Generator):
        mend = "torch.Generator().manual_seed(0)"
        raise InputError(f"{generator!r} is no generator", where="generator", mend=mend)
    if generator is not None and generator.device.type != tensor.device.type:
        mend = f"torch.Generator('{tensor.device}')"
        raise InputError(f"it is on {generator.device}, the light on {tensor.device}", where="generator", mend=mend)


def _mean_lesser(mean: Tensor, limit: Tensor, spread: Tensor) -> Tensor:
    """E[min(X, limit)] for X normal: min(μ, L) - σ(φ(z) - |z|·Φ(-|z|)), z = (μ - L)/σ, which loses no digits."""
    if mean.device.type == "cpu" and not is_traced() and _is_far(mean, limit, spread):
        return torch.minimum(mean, limit)
    z = ((mean - limit) / (spread + _DELTA**2)).abs()
    tail = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi) - z * 0.5 * (z / math.sqrt(2)).erfc()
    return torch.minimum(mean, limit) - spread * tail


@torch.no_grad()
def _is_far(mean: Tensor, limit: Tensor, spread: Tensor) -> bool:
    """Whether all means are so far from their limits that no number has a digit for what noise does there."""
    (least, most), (low, high) = torch.aminmax(mean), torch.aminmax(limit)
    return bool(torch.maximum(low - most, least - high) > _FAR * spread.amax())


def _below(z: Tensor) -> Tensor:
    """Φ(z), the part of a normal distribution below z."""
    return 0.5 * (1 + (z / math.sqrt(2)).erf())
