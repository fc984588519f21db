"""The one table of what can be off on a bench: kinds, components, and the benches on which each has a meaning.

How a bank applies them is no matter of this room.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from fouroptics.bench import Bench
from fouroptics.errors import InputError

Component = Literal["axis", "level", "output", "input", "step"]
Plane = Literal["", "mask", "input", "camera"]

_ZERNIKE = "aberration.zernike"
_NOLL = re.compile(rf"{re.escape(_ZERNIKE)}\.([1-9][0-9]{{0,2}}|1000)")
_LEVELLED = ("phase_slm", "multilevel_phase", "metasurface")
_AMPLITUDE = ("binary_amplitude", "grey_amplitude", "dmd")


def _nothing(bench: Bench) -> str:
    return ""


def _phase(bench: Bench) -> str:
    return f"a {bench.mask.kind} mask sets no phase" if bench.mask.kind in _AMPLITUDE else ""


def _levels(bench: Bench) -> str:
    if bench.mask.kind not in _LEVELLED:
        return f"a {bench.mask.kind} mask has no levels of phase"
    return "" if bench.mask.levels else "the bench's mask names no levels"


def _etched(bench: Bench) -> str:
    if bench.mask.kind != "multilevel_phase":
        return f"a {bench.mask.kind} mask is not etched in steps"
    return _levels(bench)


def _combiner(bench: Bench) -> str:
    inputs = bench.layout.inputs
    return "" if inputs == "lenslet" else f"there is no combiner where layout.inputs is {inputs!r}"


def _reference(bench: Bench) -> str:
    return "" if bench.reference else "the bench has no [reference]"


def _second(bench: Bench) -> str:
    if bench.reference and bench.reference.captures == 1:
        return "there is no second capture where reference.captures is 1"
    return _reference(bench)


@dataclass(frozen=True)
class Field:
    """One thing that can be off; 0 is nominal.

    Args:
        kind: of quantity, as ``fouroptics.units`` knows it. A ratio is a relative deviation, unless said otherwise.
        example: as a file writes it.
        low: least possible value [SI].
        high: largest plausible value [SI].
        components: what its trailing dimensions count; ``axis`` is (y, x) and stands last.
        on: the plane in which it moves something sideways, so that it can be told in that part's pixels.
        lacks: says what a bench lacks for it, ``""`` if nothing.
        knob: whether an assembler can turn it.
    """

    kind: str
    example: str
    low: float
    high: float
    components: tuple[Component, ...] = ()
    on: Plane = ""
    lacks: Callable[[Bench], str] = _nothing
    knob: bool = True

    @property
    def most(self) -> float:
        """The largest deviation that is possible to both sides [SI]; 0 where there is but one side."""
        return min(-self.low, self.high)

    def applies(self, bench: Bench) -> bool:
        return not self.lacks(bench)


_ETCH_SHIFT: tuple[Component, ...] = ("step", "axis")
_PAIR: tuple[Component, ...] = ("output", "input")

FIELDS: Mapping[str, Field] = {
    "mask.shift_x": Field("length", "4 um", -0.1, 0.1, on="mask"),
    "mask.shift_y": Field("length", "4 um", -0.1, 0.1, on="mask"),
    "mask.rotation": Field("angle", "0.05 deg", -math.pi, math.pi),
    "mask.magnification": Field("ratio", "0.1 %", -1.0, 10.0),
    "mask.defocus": Field("length", "150 um", -1.0, 1.0),
    "mask.phase_scale": Field("ratio", "1.5 %", -1.0, 10.0, lacks=_phase),
    "mask.level": Field("angle", "0.02 rad", -100.0, 100.0, ("level",), lacks=_levels, knob=False),
    "mask.dead_pixels": Field("ratio", "100 ppm", 0.0, 1.0, knob=False),  # the share of all pixels
    "input.shift": Field("length", "0.5 pixel", -0.1, 0.1, ("axis",), on="input"),
    "camera.shift": Field("length", "0.5 pixel", -0.1, 0.1, ("axis",), on="camera"),
    "camera.defocus": Field("length", "100 um", -1.0, 1.0),
    "camera.gain": Field("ratio", "1 %", -1.0, 10.0),
    "camera.read_noise": Field("ratio", "10 %", -1.0, 100.0, knob=False),
    _ZERNIKE: Field("optical path", "0.02 waves", -1e-3, 1e-3),  # .N, Noll's index
    "combiner.phase": Field("angle", "0.1 rad", -100.0, 100.0, _PAIR, lacks=_combiner),
    "combiner.amplitude": Field("ratio", "2 %", -1.0, 10.0, _PAIR, lacks=_combiner),
    "reference.phase": Field("angle", "0.05 rad", -100.0, 100.0, lacks=_reference),  # in all captures alike
    "reference.phase_step": Field("angle", "0.05 rad", -100.0, 100.0, lacks=_second),  # in the second of homodyne
    "source.power": Field("ratio", "1 %", -1.0, 10.0),
    "source.wavelength": Field("length", "0.1 nm", -5e-8, 5e-8),  # a deviation, not the wavelength
    "fabrication.depth": Field("ratio", "2 %", -1.0, 10.0, ("step",), lacks=_etched, knob=False),
    "fabrication.overlay": Field("length", "0.3 um", -1e-3, 1e-3, _ETCH_SHIFT, "mask", lacks=_etched, knob=False),
}
SECTIONS = tuple(dict.fromkeys(name.split(".")[0] for name in FIELDS))


def named(name: str) -> Field:
    """The field of a dotted name; ``aberration.zernike.4`` names a Noll index.

    Raises:
        InputError: no such field.
    """
    if _NOLL.fullmatch(name):
        return FIELDS[_ZERNIKE]
    if name in FIELDS and name != _ZERNIKE:
        return FIELDS[name]
    if name.startswith(_ZERNIKE):
        raise InputError("this is no Noll index", where=name, mend=f"write {_ZERNIKE}.4 for defocus, 11 for spherical")
    raise InputError("unknown field", where=name, mend=nearest(name, [*FIELDS]))


def nearest(word: str, known: list[str]) -> str:
    """The mend of a mistyped name."""
    near = [one for one in known if one.endswith(f".{word}")] or difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def in_order(names: Mapping[str, object]) -> list[str]:
    """Names in the table's order, Zernike terms by their index; it is the order in which values are drawn."""
    rank = {name: place for place, name in enumerate(FIELDS)}

    def key(name: str) -> tuple[int, int]:
        noll = _NOLL.fullmatch(name)
        return (rank[_ZERNIKE], int(noll[1])) if noll else (rank[name], 0)

    return sorted(names, key=key)


def sizes(field: Field, bench: Bench, channels: tuple[int, int] | None = None) -> tuple[int, ...]:
    """The shape of a field's components on a bench: ``[]``, ``[2]``, ``[L]``, ``[out, in]``, ``[M]`` or ``[M, 2]``.

    Args:
        field: one that applies to the bench.
        bench: for its mask's L levels, etched in M = log2 L steps.
        channels: ``(outputs, inputs)`` of the bank.
    """
    levels = bench.mask.levels or 1
    counts = {"axis": 2, "level": levels, "step": (levels - 1).bit_length()}
    if "output" in field.components:
        if channels is None:
            mend = "give channels=(outputs, inputs)"
            raise InputError("a combiner's errors are one for each pair of channels", where="channels", mend=mend)
        counts |= {"output": channels[0], "input": channels[1]}
    return tuple(counts[component] for component in field.components)
