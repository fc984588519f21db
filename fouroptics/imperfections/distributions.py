"""How far one field may be off: a distribution as a file writes it, and its value at a standard normal.

Every distribution is a monotone function of one standard normal number, so that correlations and the order of draws
are settled on those.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fouroptics import units
from fouroptics.bench import Bench
from fouroptics.errors import InputError
from fouroptics.imperfections.fields import Field, named, nearest

Shape = Literal["normal", "uniform", "fixed"]
SHAPES: tuple[Shape, ...] = ("normal", "uniform", "fixed")

_COUNTED = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?) (pixels?|px|waves?)")
_STEPS = {"each etch step": False, "all etch steps": True}
_FLAT = 0.1  # truncated nearer than this share of sigma, a normal is flat within 0.2 %
_ENDLESS = 38.0  # sigmas: nothing that far out is a double


@dataclass(frozen=True)
class Amount:
    """A size in SI, or in what only a bench knows the size of: its pixels, its waves."""

    number: float
    unit: Literal["", "pixel", "waves"] = ""

    @classmethod
    def read(cls, value: Any, field: Field, low: float, high: float) -> Amount:
        """A quantity of the field's kind between two plausible limits [SI]."""
        counted = _COUNTED.fullmatch(value) if isinstance(value, str) else None
        if counted is None:
            return cls(units.Quantity(field.kind, low, high, field.example).parse(value))
        number, pixels = float(counted[1]), counted[2].startswith("p")
        if not (field.on if pixels else field.kind == "optical path"):
            said = "nothing moves over pixels here" if pixels else f"{field.kind} is not told in waves"
            raise InputError(f"{value!r} will not do: {said}", mend=f"write something like {field.example!r}")
        if not math.isfinite(number):
            raise InputError(f"{value!r} is not a finite number", mend="write a finite one")
        if number < 0 <= low:
            raise InputError(f"{value!r} is negative", mend=f"write something like {field.example!r}")
        return cls(number, "pixel" if pixels else "waves")

    def si(self, field: Field, bench: Bench) -> float:
        """In SI units, on this bench."""
        if self.unit == "pixel":
            return self.number * float(getattr(bench, field.on).pitch)
        return self.number * bench.source.wavelength if self.unit == "waves" else self.number

    def text(self, field: Field) -> str:
        return f"{self.number!r} {self.unit}" if self.unit else units.text(self.number, field.kind)


@dataclass(frozen=True)
class Distribution:
    """``normal`` with 1 sigma, ``uniform`` within ± a half width, or ``fixed``, which does not vary.

    Args:
        shape: which of the three.
        size: sigma, half width or value.
        truncate: what a normal never exceeds, to either side. It is the normal *given that* it stays within, by its
            inverse distribution function: nothing heaps up at the limit, and the rms is below sigma.
        together: one value for all etch steps instead of one for each.
    """

    shape: Shape
    size: Amount
    truncate: Amount | None = None
    together: bool = False

    @classmethod
    def read(cls, name: str, table: Any) -> Distribution:
        """Check one field's table.

        Raises:
            InputError: with the key's path.
        """
        field = named(name)
        if not isinstance(table, Mapping):
            mend = f'write {{ normal = "{field.example}" }}'
            raise InputError(f"{table!r} is no distribution", where=name, mend=mend)
        shape = _shape(name, field, table)
        try:
            low, high = (field.low, field.high) if shape == "fixed" else (0.0, field.most)
            size = Amount.read(table[shape], field, low, high)
        except InputError as error:
            raise error.within(f"{name}.{shape}") from None
        if "truncate" in table and shape != "normal":
            raise InputError(f"a {shape} value has an end", where=f"{name}.truncate", mend="leave it out")
        truncate = _truncate(name, field, table["truncate"], size) if "truncate" in table else None
        return cls(shape, size, truncate, _together(name, table))

    def to_dict(self, name: str) -> dict[str, str]:
        """As a file writes it."""
        field = named(name)
        written: dict[str, str] = {self.shape: self.size.text(field)}
        if self.truncate:
            written["truncate"] = self.truncate.text(field)
        if "step" in field.components:
            written["correlated"] = next(word for word, together in _STEPS.items() if together == self.together)
        return written

    def at(self, normal: Tensor, field: Field, bench: Bench) -> Tensor:
        """The values [SI] that stand where ``normal`` stands among standard normal numbers; same shape."""
        size = self.size.si(field, bench)
        if self.shape == "fixed":
            return torch.full_like(normal, size)
        if self.shape == "uniform":
            return size * torch.erf(normal / math.sqrt(2))
        limit = min(self.truncate.si(field, bench), field.most) if self.truncate else field.most
        _refuse_flat(size, limit, field)
        return _truncated_normal(normal, size, limit)


def _truncated_normal(normal: Tensor, sigma: float, limit: float) -> Tensor:
    """±σ Φ⁻¹(Φ(−a) + Φ(−|z|)·erf(a/√2)), a = limit/σ: in the lower tail, where Φ keeps its digits."""
    if limit >= _ENDLESS * sigma:
        return sigma * normal
    reach = limit / sigma
    below = torch.special.ndtr(torch.full_like(normal, -reach))
    tail = below + torch.special.ndtr(-normal.abs()) * math.erf(reach / math.sqrt(2))
    return torch.copysign(-sigma * torch.special.ndtri(tail), normal).clamp(-limit, limit)


def _shape(name: str, field: Field, table: Mapping[str, Any]) -> Shape:
    for key in table:
        if key not in (*SHAPES, "truncate", "correlated"):
            raise InputError(
                "unknown key", where=f"{name}.{key}", mend=nearest(str(key), [*SHAPES, "truncate", "correlated"])
            )
    given = [shape for shape in SHAPES if shape in table]
    if len(given) != 1:
        what = f"{' and '.join(given)} at once" if given else "no distribution"
        raise InputError(what, where=name, mend=f"write one of {', '.join(SHAPES)}")
    if given[0] != "fixed" and field.most <= 0:
        mend = f'write {{ fixed = "{field.example}" }}'
        raise InputError("a share is never negative and does not vary about 0", where=f"{name}.{given[0]}", mend=mend)
    return given[0]


def _truncate(name: str, field: Field, value: Any, size: Amount) -> Amount:
    where = f"{name}.truncate"
    try:
        limit = Amount.read(value, field, 0.0, field.high)
    except InputError as error:
        raise error.within(where) from None
    if limit.number == 0:
        raise InputError("a limit of 0 leaves nothing", where=where, mend="write the largest value that can occur")
    if limit.unit == size.unit:
        try:
            _refuse_flat(size.number, limit.number, field)
        except InputError as error:
            raise error.within(where) from None
    return limit


def _refuse_flat(sigma: float, limit: float, field: Field) -> None:
    if limit < _FLAT * sigma:
        mend = "truncate further out, or write uniform"
        raise InputError(f"a normal cut at {limit / sigma:.2g} sigma is flat", mend=mend)


def _together(name: str, table: Mapping[str, Any]) -> bool:
    where = f"{name}.correlated"
    if "correlated" not in table:
        return False
    if "step" not in named(name).components:
        raise InputError("this is not drawn for each etch step", where=where, mend="write a [[correlate]] section")
    if not isinstance(table["correlated"], str) or table["correlated"] not in _STEPS:
        mend = f"choose from {', '.join(map(repr, _STEPS))}"
        raise InputError(f"{table['correlated']!r} is unknown", where=where, mend=mend)
    return _STEPS[table["correlated"]]
