"""What is done on every assembled bench before a signed field is read: the reference beam's phase is set."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fouroptics.correlator import Correlator4f
from fouroptics.imperfections import Imperfections

TO_SET = 8  # pictures that it is set by


@torch.no_grad()
def with_reference_set(bank: Correlator4f, errors: Imperfections, known: Tensor) -> Imperfections:
    """One draw's errors, its reference beam's phase turned to where known pictures give the readings that are due.

    Nobody reads a signed field before doing so: a mask on a carrier that has moved by an eighth of the carrier's
    period turns all responses by an eighth of a turn.
    """
    if bank.readout != "homodyne":
        return errors
    some, values = known[:TO_SET], {name: errors[name] for name in errors.names}
    before = values.get("reference.phase", torch.zeros(errors.shape, dtype=torch.float64))
    due = bank(some)

    def follows(turn: float) -> float:
        there = Imperfections(values | {"reference.phase": before + turn}, errors.shape, errors.seed)
        return float((bank(some, errors=there) * due).double().sum())

    along, across = follows(0.0), follows(math.pi / 2)
    if bank.bench.reference and bank.bench.reference.captures == 1:  # what does not turn with the beam falls out
        along, across = along - follows(math.pi), across - follows(-math.pi / 2)
    best = math.atan2(across, along)
    return Imperfections(values | {"reference.phase": before + best}, errors.shape, errors.seed)
