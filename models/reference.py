"""What is done on every assembled bench before a signed field is read: the reference beam's phase is set."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fouroptics.correlator import Correlator4f
from fouroptics.imperfections import Imperfections

TO_SET = 8  # pictures that it is set by


@torch.no_grad()
def phase_due(bank: Correlator4f, pictures: Tensor, due: Tensor, seen: Callable[[Tensor], Tensor]) -> float:
    """The phase [rad] by which a reference has to turn for what is ``seen`` of the camera to follow what is due."""
    return _turn(bank, pictures[:TO_SET], due[:TO_SET], Imperfections({}, ()), seen)


@torch.no_grad()
def with_reference_set(bank: Correlator4f, errors: Imperfections, known: Tensor) -> Imperfections:
    """One draw's errors, its reference beam's phase turned to where known pictures give the readings that are due.

    Nobody reads a signed field before doing so: a mask on a carrier that has moved by an eighth of the carrier's
    period turns all responses by an eighth of a turn.
    """
    if bank.readout != "homodyne":
        return errors
    some = known[:TO_SET]
    return _with_phase(errors, _turn(bank, some, bank(some), errors, lambda given: given))


def _turn(
    bank: Correlator4f, pictures: Tensor, due: Tensor, errors: Imperfections, seen: Callable[[Tensor], Tensor]
) -> float:
    """What turns the reference from where it is to where readings follow those that are due."""

    def follows(turn: float) -> float:
        return float((seen(bank(pictures, errors=_with_phase(errors, turn))) * due).double().sum())

    along, across = follows(0.0), follows(math.pi / 2)
    if bank.bench.reference and bank.bench.reference.captures == 1:  # what does not turn with the beam falls out
        along, across = along - follows(math.pi), across - follows(-math.pi / 2)
    return math.atan2(across, along)


def _with_phase(errors: Imperfections, turn: float) -> Imperfections:
    values = {name: errors[name] for name in errors.names}
    before = values.get("reference.phase", torch.zeros(errors.shape, dtype=torch.float64))
    return Imperfections(values | {"reference.phase": before + turn}, errors.shape, errors.seed)
