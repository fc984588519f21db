"""A network without its bench: one layer of taps in a wide dark surround, where nothing wraps and no light is short."""

from __future__ import annotations

import copy

import torch
from fouroptics.models.front import DeepFront, Front, Plan
from fouroptics.models.osclc import OSCLC, responses
from fouroptics.models.pyramid import LevelReader
from fouroptics.models.readouts import Camera, Reader
from fouroptics.models.sclc import Student
from torch import Tensor, nn

from fouroptics.bench import Bench


def alone(osclc: OSCLC, front: Front, known: Tensor) -> Student:
    """A network as it is on its bench, without it: its kernels, in units of the levels that it has.

    Args:
        osclc: the network.
        front: of the student that it was made of; its sizes count.
        known: training pictures, by which it is measured.
    """
    taps = osclc.bank.taps.detach()
    student = _student(taps, front, osclc.reader, osclc.backend)
    now = copy.deepcopy(osclc).measure(student, known).level
    gained = now / osclc.level  # as kernels change, so does the amplitude of 1 that a passive mask can show
    if osclc.reader.kind != "homodyne":
        gained = gained.clamp_min(0).sqrt()
    return _student(taps * gained[:, None, None, None], front, osclc.reader, osclc.backend)


def unwrapped(student: Student, bench: Bench) -> Student:
    """The student with responses as a bench has them: they end where its dark border ends, and nothing wraps."""
    return _student(responses(student.front, bench), student.front, student.reader, student.backend)


def _student(taps: Tensor, front: Front, reader: Reader | LevelReader, backend: nn.Module) -> Student:
    """One layer of given taps in a wide dark surround, read as before."""
    size = front.plan.size
    one = Plan.of(size, (taps.shape[1], taps.shape[0]), [(taps.shape[-2], taps.shape[-1])], [None], size)
    layer = DeepFront(one, is_complex=taps.is_complex())
    with torch.no_grad():
        layer.weights[0].copy_(torch.view_as_real(taps) if taps.is_complex() else taps)
    old, grain = reader.camera, None
    if old.grain is not None:  # in samples of the grid that the reader stands on, which a stage may have left already
        widths = zip(old.grain, one.area, old.area, strict=True)
        rows, columns = (pixel * new[1] / was[1] for pixel, new, was in widths)
        grain = rows, columns
    camera = Camera(layer.geometry.kept, layer.geometry.fine, old.pixels, one.area, grain)
    return Student(layer.to(taps.device, taps.real.dtype), reader.on(camera), backend).eval()
