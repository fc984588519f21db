"""Units at the door: "532 nm" becomes 5.32e-7 once, and everything inside is an SI float.

A quantity is a *number, one space, a unit* of an allow-list. pint only says how large a unit is; its parser, which
evaluates expressions, never sees what a user wrote.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from fouroptics.errors import InputError

_LONGEST = 64
_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_QUANTITY = re.compile(rf"({_NUMBER}) (\S+)")
_GLUED = re.compile(rf"({_NUMBER})\s*([^\s0-9.].*)")

# unit as written → unit as pint knows it; the first is the SI unit that everything is turned into
_LENGTHS = {u: u for u in ("m", "nm", "um", "mm", "cm", "pm")} | {"in": "inch", "inch": "inch"}
_UNITS: dict[str, dict[str, str]] = {
    "length": _LENGTHS,
    "optical path": _LENGTHS | {"waves": "m"},  # its size is the wavelength, known at parsing only
    "angle": {u: u for u in ("rad", "mrad", "urad", "deg", "arcmin", "arcsec")},
    "ratio": {"1": "dimensionless", "%": "percent", "ppm": "ppm"},
    "time": {u: u for u in ("s", "ns", "us", "ms", "min")} | {"h": "hour"},
    "rate": {u: u for u in ("Hz", "kHz", "MHz", "GHz")},
    "data rate": {f"{p}bit/s": f"{p}bit/s" for p in ("", "k", "M", "G")}
    | {f"{p}B/s": f"{p}byte/s" for p in ("k", "M", "G")},
    "power": {u: u for u in ("W", "nW", "uW", "mW", "kW")},
    "irradiance": {u: u.replace("^", "**") for u in ("W/m^2", "mW/cm^2", "W/cm^2")},
    "area": {u: u.replace("^", "**") for u in ("m^2", "nm^2", "um^2", "mm^2")},
}
_EXAMPLES = {
    "length": "8 um", "optical path": "10 nm", "angle": "0.02 rad", "ratio": "93 %", "time": "100 us",
    "rate": "60 Hz", "data rate": "2.5 Gbit/s", "power": "5 mW", "irradiance": "2 W/cm^2", "area": "4 um^2",
}  # fmt: skip

# for writing, from the smallest; all are powers of ten, so that decimals stay exact
_FAMILIES = {
    "length": ("pm", "nm", "um", "mm", "m"), "optical path": ("pm", "nm", "um", "mm", "m"),
    "angle": ("urad", "mrad", "rad"), "ratio": ("ppm", "%"), "time": ("ns", "us", "ms", "s"),
    "rate": ("Hz", "kHz", "MHz", "GHz"), "data rate": ("bit/s", "kbit/s", "Mbit/s", "Gbit/s"),
    "power": ("nW", "uW", "mW", "W", "kW"), "irradiance": ("W/m^2", "mW/cm^2", "W/cm^2"),
    "area": ("nm^2", "um^2", "mm^2"),
}  # fmt: skip

# words that people write, and the right one
_WORDS = {
    "fps": "Hz", "frames/s": "Hz", "frame/s": "Hz", "1/s": "Hz", "hz": "Hz",
    "kbps": "kbit/s", "Mbps": "Mbit/s", "Gbps": "Gbit/s", "Mb/s": "Mbit/s", "Gb/s": "Gbit/s",
    "micron": "um", "microns": "um", "sec": "s", "degree": "deg", "degrees": "deg", "percent": "%",
    "wave": "waves", "W/m2": "W/m^2", "W/cm2": "W/cm^2", "mW/cm2": "mW/cm^2",
}  # fmt: skip
_PIXELS = ("px", "pix", "pixel", "pixels")


def parse(value: Any, kind: str, *, wavelength: float | None = None) -> float:
    """Turn ``"532 nm"`` (or a pint quantity) into an SI float.

    Args:
        value: a string "number unit", or a pint quantity.
        kind: one of ``length``, ``optical path``, ``angle``, ``ratio``, ``time``, ``rate``, ``data rate``, ``power``,
            ``irradiance``, ``area``.
        wavelength: [m], for an optical path in waves.

    Raises:
        InputError: a wrong pattern, a unit not of that kind, a value that is not finite.
    """
    if hasattr(value, "dimensionality") and hasattr(value, "m_as"):
        return _from_pint(value, kind)
    if not isinstance(value, str):
        raise InputError(
            f"{value!r} has no unit", mend=f"write a string with a unit of {kind}, such as {_EXAMPLES[kind]!r}"
        )
    number, unit = _split(value, kind)
    if unit == "waves":
        if wavelength is None:
            raise InputError(f"{value!r} needs a wavelength", mend="write a length, such as '10 nm'")
        return _finite(Decimal(number) * Decimal(repr(wavelength)), value)
    return _finite(Decimal(number) * _factor(unit, kind), value)


def text(value: float, kind: str) -> str:
    """Write an SI float as ``"number unit"``, so that ``parse`` gives the very same float back."""
    unit = _comfortable_unit(value, kind)
    exact = (Decimal(repr(float(value))) / _factor(unit, kind)).normalize()
    plain = format(exact, "f")
    return f"{plain if len(plain) <= 24 else exact} {unit}"


def show(value: float, kind: str, digits: int = 4) -> str:
    """Write an SI float for people: ``show(5.32e-7, "length")`` is ``"532 nm"``."""
    unit = _comfortable_unit(value, kind)
    return f"{value / float(_factor(unit, kind)):.{digits}g} {unit}".removesuffix(" 1")


@dataclass(frozen=True)
class Quantity:
    """What a field of a file holds: its kind, and the range in which a value is plausible [SI]."""

    kind: str
    low: float = -math.inf
    high: float = math.inf
    example: str = ""

    def parse(self, value: Any, *, wavelength: float | None = None) -> float:
        """Read a value and refuse an implausible one, naming the unit that was probably meant."""
        try:
            si = parse(value, self.kind, wavelength=wavelength)
        except InputError as error:
            if self.example and error.mend.endswith(repr(_EXAMPLES[self.kind])):
                mend = error.mend.replace(repr(_EXAMPLES[self.kind]), repr(self.example))
                raise InputError(error.what, mend=mend) from None
            raise
        if not self.low <= si <= self.high:
            raise InputError(f"{value!s} is {self._trespass(si)}", mend=self._meant(value))
        return si

    def text(self, si: float) -> str:
        return text(si, self.kind)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """As a field's annotation: read with a unit, written back exactly."""
        from pydantic_core import core_schema

        write = core_schema.plain_serializer_function_ser_schema(self.text)
        return core_schema.no_info_plain_validator_function(self.parse, serialization=write)

    def _trespass(self, si: float) -> str:
        if si < 0 <= self.low:
            return "negative"
        if si == 0 < self.low:
            return "zero"
        side, limit = ("below", self.low) if si < self.low else ("above", self.high)
        return f"not plausible here ({side} {show(limit, self.kind)})"

    def _meant(self, value: Any) -> str:
        number = str(value).split(" ")[0]
        for unit in _UNITS[self.kind]:
            if unit not in ("waves", "1", "in", "inch", "pm", "ppm"):
                guess = f"{number} {unit}"
                if self.low <= parse(guess, self.kind) <= self.high:
                    return f"did you mean {guess!r}?"
        return f"write something like {self.example or _EXAMPLES[self.kind]!r}".replace("''", "'")


def _split(value: str, kind: str) -> tuple[str, str]:
    example = repr(_EXAMPLES[kind])
    if len(value) > _LONGEST:
        raise InputError(f"{value[:20]!r}… is too long for a quantity", mend=f"write something like {example}")
    plain = value.replace("\u00b5", "u").replace("\u03bc", "u").replace("°", "deg")
    match = _QUANTITY.fullmatch(plain)
    if not match:
        raise InputError(f"{value!r} is not a number, a space and a unit", mend=_respaced(plain, kind, example))
    number, unit = match.groups()
    if unit not in _UNITS[kind] or unit == "1":
        raise InputError(f"{unit!r} is not a unit of {kind}", mend=_right_word(unit, kind, example))
    return number, unit


def _respaced(value: str, kind: str, example: str) -> str:
    glued = _GLUED.fullmatch(value.strip())
    if glued and glued[2] in _UNITS[kind]:
        return f"write '{glued[1]} {glued[2]}'"
    return f"write something like {example}"


def _right_word(unit: str, kind: str, example: str) -> str:
    if unit.lower() in _PIXELS:
        return f"a count of pixels is a bare number without quotes; {kind} is written like {example}"
    known = _UNITS[kind]
    right = _WORDS.get(unit) or next((u for u in known if u.lower() == unit.lower() and u != "1"), None)
    if right in known:
        return f"write {right!r}"
    return f"units of {kind}: {', '.join(u for u in known if u != '1')}"


@lru_cache(maxsize=256)
def _factor(unit: str, kind: str) -> Decimal:
    """How many SI units one ``unit`` is: exact where it is a short decimal, as all prefixed units are."""
    known = _UNITS[kind]
    ratio = float(_registry().Quantity(1.0, known[unit]).m_as(next(iter(known.values()))))
    short = Decimal(f"{ratio:.6g}")
    return short if math.isclose(float(short), ratio, rel_tol=1e-14) else Decimal(ratio)


@lru_cache(maxsize=1)
def _registry() -> Any:
    """A registry of our own: what a program redefines in pint's shared one must not change what a file means."""
    import pint

    return pint.UnitRegistry()


def _from_pint(value: Any, kind: str) -> float:
    si = next(iter(_UNITS[kind].values()))
    try:
        return _finite(float(value.m_as(si)), value)
    except InputError:
        raise
    except Exception:  # pint's own errors, and magnitudes that are no single number
        raise InputError(f"{value!s} is no {kind}", mend=f"give something like {_EXAMPLES[kind]!r}") from None


def _finite(value: Decimal | float, written: Any) -> float:
    si = float(value)
    if not math.isfinite(si):
        raise InputError(f"{written!s} is not a finite number", mend="write a finite one")
    return si


def _comfortable_unit(value: float, kind: str) -> str:
    """The unit in which a number reads best: the largest of the kind's family that is not larger than it."""
    family = _FAMILIES[kind]
    if value == 0:
        return family[-1] if kind == "ratio" else next(iter(_UNITS[kind]))
    from_here = {"%": 1e-4}  # 0.6 % reads better than 6000 ppm
    size = abs(value) * (1 + 1e-12)
    fitting = [unit for unit in family if size >= from_here.get(unit, float(_factor(unit, kind)))]
    return fitting[-1] if fitting else family[0]
