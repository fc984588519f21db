"""A reference beam's shot noise on a student's readings, while they are learned from: as a bench would have it."""

from __future__ import annotations

from typing import Any

import torch
from fouroptics.models.front import Front
from fouroptics.models.osclc import bank_of, check_hardware, gathered, with_phase_set
from fouroptics.models.readouts import Sensor
from fouroptics.models.sclc import Student
from torch import Generator, Tensor

from fouroptics.bench import Bench
from fouroptics.correlator.fourier_plane import input_pixel
from fouroptics.devices.detector import Pattern
from fouroptics.errors import InputError, warn

_PICTURES = 16  # by which the share is measured
_MOSTLY = 0.7  # of the light that a reference has to be: with half of it, bright readings have twice the noise of dark
_DRAWS, _FEW = (
    16,
    4,
)  # of noise that a batch of pictures shares, for drawing takes longer than light does; too few to share


class ReadingNoise:
    """Noise of signed readings, the same at all places of an output.

    A reference beam fills most of the well, so every reading has its shot noise, whatever the picture. What
    differs is the signal: a mask cannot amplify, so each output's kernels are turned down until their mask is clear
    where they ask for most. In units of the student's field the noise therefore grows with that peak. It is a function
    of the kernels, and its gradient is that of masks which let more light through.

    Args:
        bench: the bench.
        front: of the student; its sizes count.
        share: standard deviation of a reading, for kernels that ask for a transmission of 1 at most.
    """

    def __init__(self, bench: Bench, front: Front, share: float) -> None:
        self.share, self.tiled = share, bench.layout.inputs == "tiled"
        geometry, asked = front.geometry, torch.ones(1, 1)
        if bench.mask.precompensate:  # masks make up for what the input's pixels dim
            rows, columns = (
                input_pixel(bench, bins.double() / n)
                for bins, n in zip((geometry.rows, geometry.columns), geometry.grid, strict=True)
            )
            asked = 1 / (rows[:, None] * columns)
        self.asked = asked

    @classmethod
    def on(cls, bench: Bench, student: Student, pictures: Tensor, *, oversample: int = 1) -> ReadingNoise:
        """Measured on a bench, as a student's kernels are now: they share its light, and set its exposure.

        ``oversample`` is of the readings, as the ``OSCLC`` has it.

        Raises:
            InputError: readings that no reference beam makes, or a bench that cannot carry them.
        """
        front, reader = student.front, student.reader
        check_signed(reader)
        check_hardware(reader, bench)
        with torch.no_grad():
            pictures = pictures[:_PICTURES].to(reader.mean.device)
            # all outputs: they share the light, and the brightest one sets the exposure
            options: dict[str, Any] = {"oversample": oversample, "masks": "device"}
            bank = with_phase_set(bank_of(student, bench, **options), student, pictures, **options)
            wanted, due = reader.detected(student.seen(pictures)), gathered(bank(pictures), reader.given)
            beam = float(bank.electrons(torch.zeros_like(pictures[:1])).mean() / bank.electrons(pictures).mean())
            if beam < _MOSTLY:
                what = (
                    f"{beam:.0%} of the electrons are the reference beam's, and noise is taken as the same everywhere"
                )
                warn(f"noise: {what}; a stronger beam, or stages on the bench")
            even = Pattern(*(due.new_zeros(bank.readings) for _ in range(2)))
            draw = torch.Generator(due.device).manual_seed(0)
            off = gathered(bank.capture(pictures, generator=draw, pattern=even), reader.given) - due
            apart = wanted - wanted.mean((0, 2, 3), keepdim=True)  # a spot may block the mean
            level = (due * apart).sum((0, 2, 3)) / apart.square().sum((0, 2, 3)).clamp_min(1e-30)
            found = cls(bench, front, 1.0)
            clear, answers = found.clear(front.transfer()), level > 0
            if not bool(answers.any()):
                what = "no output answers to its pictures"
                raise InputError(what, where="noise", mend="another encoding of the masks, or more light")
            found.share = float((off.std((0, 2, 3)) / level / clear)[answers].median())
        return found

    def clear(self, transfer: Tensor) -> Tensor:
        """The largest transmission that transfer functions ``[out, in, rows, columns]`` ask of each output's mask."""
        magnitude = transfer.abs() * self.asked.to(transfer.real)
        shown = magnitude.sum(1) if self.tiled else magnitude.amax(1)  # tiled: one mask carries all of an output
        return shown.amax((-2, -1))

    def __call__(
        self, batch: int, readings: tuple[int, int], transfer: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Noise of some pictures, ``[draws, out, Y, X]``, which those of a batch take in turn."""
        shared = max(n for n in range(1, _DRAWS + 1) if batch % n == 0)
        draws = shared if shared >= _FEW else batch
        strength = self.share * self.clear(transfer)
        size = (draws, *readings, len(strength))
        drawn = torch.randn(size, generator=generator, dtype=strength.dtype, device=strength.device)
        return (drawn * strength).permute(0, 3, 1, 2)


def check_signed(reader: Sensor) -> None:
    """Refuse readings that no reference beam makes."""
    if reader.kind != "homodyne":
        what = f"readings of {reader.kind!r} have no noise that is the same everywhere"
        raise InputError(what, where="reading_noise", mend='readout = "homodyne", or no reading_noise')
