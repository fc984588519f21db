"""A reference beam's shot noise on a student's readings, while they are learned from: as a bench would have it."""

from __future__ import annotations

import math

import torch
from fouroptics.models.front import Front
from fouroptics.models.osclc import check_hardware, responses
from fouroptics.models.readouts import Sensor
from fouroptics.models.sclc import Student
from torch import Tensor

from fouroptics.bench import Bench
from fouroptics.correlator import Correlator4f
from fouroptics.correlator.fourier_plane import input_pixel
from fouroptics.devices.detector import Pattern
from fouroptics.errors import InputError

_OUTPUTS, _PICTURES = 8, 16  # by which the share is measured
_DRAWS = 16  # of noise that a batch of pictures shares: drawing takes longer than light does


class ReadingNoise:
    """Noise of signed readings, the same at all places of an output.

    A reference beam fills the well, so every reading has the shot noise of that beam, whatever the picture. What
    differs is the signal: a mask cannot amplify, so each output's kernels are turned down until their mask is clear
    where they ask for most. In units of the student's field the noise therefore grows with that peak. It is a function
    of the kernels, and a student that learns with it makes masks which let more light through.

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
    def on(cls, bench: Bench, student: Student, pictures: Tensor) -> ReadingNoise:
        """Measured on a bench, on some of a student's outputs.

        Raises:
            InputError: readings that no reference beam makes, or a bench that cannot carry them.
        """
        front, reader = student.front, student.reader
        check_signed(reader)
        check_hardware(reader, bench)
        with torch.no_grad():
            taps, pictures = responses(front, bench), pictures[:_PICTURES].to(reader.mean.device)
            some = torch.linspace(0, len(taps) - 1, min(_OUTPUTS, len(taps))).round().long().to(taps.device)
            bank = Correlator4f.from_kernels(
                taps[some], bench, front.plan.size, readout=reader.kind, sensor_pool=reader.given, masks="device"
            ).to(taps.device)
            bank.expose(pictures)
            wanted = student.reader.detected(student.seen(pictures))[:, some]
            due, draw = bank(pictures), torch.Generator(taps.device).manual_seed(0)
            even = Pattern(*(due.new_zeros(due.shape[-2:]) for _ in range(2)))
            off = bank.capture(pictures, generator=draw, pattern=even) - due
            level = (due * wanted).sum((0, 2, 3)) / wanted.square().sum((0, 2, 3))
            found = cls(bench, front, 1.0)
            shares = off.std((0, 2, 3)) / level / found.clear(student.front.transfer()[some])
            found.share = float(shares.mean())
        return found

    def clear(self, transfer: Tensor) -> Tensor:
        """The largest transmission that transfer functions ``[out, in, rows, columns]`` ask of each output's mask."""
        magnitude = transfer.abs() * self.asked.to(transfer.real)
        shown = magnitude.sum(1) if self.tiled else magnitude.amax(1)  # tiled: one mask carries all of an output
        return shown.amax((-2, -1))

    def __call__(self, detected: Tensor, transfer: Tensor) -> Tensor:
        """Noise for readings ``[batch, out, Y, X]``."""
        batch, outputs, height, width = detected.shape
        draws = min(batch, _DRAWS)
        drawn = torch.randn(draws, height, width, outputs, dtype=detected.dtype, device=detected.device)
        drawn = (drawn * (self.share * self.clear(transfer))).repeat(math.ceil(batch / draws), 1, 1, 1)[:batch]
        return drawn.permute(0, 3, 1, 2)


def check_signed(reader: Sensor) -> None:
    """Refuse readings that no reference beam makes."""
    if reader.kind != "homodyne":
        what = f"readings of {reader.kind!r} have no noise that is the same everywhere"
        raise InputError(what, where="reading_noise", mend='readout = "homodyne", or no reading_noise')
