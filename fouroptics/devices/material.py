"""What plates and lenses are made of: refractive index against wavelength, steps to etch, focal lengths that drift.

Everything works on floats and on tensors, with gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from fouroptics.errors import InputError, check_choice
from fouroptics.units import show

if TYPE_CHECKING:
    from torch import Tensor

Number = TypeVar("Number", float, "Tensor")
Material = str | Mapping[float, float]  # a name, or a table wavelength [m] → index

# Sellmeier's strengths and resonances squared [µm²], and the wavelengths [m] that they were measured at
_SELLMEIER = {
    "fused-silica": (  # I. H. Malitson, J. Opt. Soc. Am. 55, 1205 (1965)
        ((0.6961663, 0.0684043**2), (0.4079426, 0.1162414**2), (0.8974794, 9.896161**2)),
        (210e-9, 3.71e-6),
    ),
    "n-bk7": (  # Schott's data sheet
        ((1.03961212, 0.00600069867), (0.231792344, 0.0200179144), (1.01046945, 103.560653)),
        (300e-9, 2.5e-6),
    ),
}
PLATE = "fused-silica"  # what a plate is made of unless it is said otherwise
MATERIALS = ("air", *_SELLMEIER)


def index(material: Material, wavelength: Number) -> Number:
    """Refractive index at a wavelength [m].

    n² = 1 + Σ B_i λ²/(λ² - C_i) for a named glass; 1 for air. A table is joined by straight lines, which go on beyond
    its ends, for a laser that drifts past one; a table of one entry is constant.

    Raises:
        InputError: a name that is unknown, an empty table, a wavelength where the glass was not measured.
    """
    if isinstance(material, Mapping):
        return _interpolated(material, wavelength)
    check_choice("material", material, MATERIALS)
    if material == "air":
        return 1.0 + 0 * wavelength
    terms, measured = _SELLMEIER[material]
    _refuse_beyond(material, measured, wavelength)
    square = (wavelength * 1e6) ** 2
    n_squared = 1.0 + 0 * square
    for strength, resonance in terms:
        n_squared = n_squared + strength * square / (square - resonance)
    root: Number = n_squared**0.5
    return root


def step_depth(levels: int, n: Number, wavelength: Number) -> Number:
    """Depth of one of ``levels`` even steps of phase in a plate of index n: λ / (L·(n - 1)) [m]."""
    if levels < 2:
        raise InputError(f"{levels} level has no step", where="levels", mend="write 2 or more")
    if _smallest(n) <= 1:
        raise InputError("a plate of index 1 delays nothing", where="index", mend="write one above 1")
    return wavelength / (levels * (n - 1))


def focal_length(nominal: float, glass: Material | None, designed: float, wavelength: Number) -> Number:
    """A thin lens away from the wavelength that it was designed for [m]: f·(n(λ₀) - 1)/(n(λ) - 1).

    Without a glass it is an achromat, whose focal length stays.
    """
    if glass is None:
        return nominal + 0 * wavelength
    return nominal * (index(glass, designed) - 1) / (index(glass, wavelength) - 1)


def _interpolated(table: Mapping[float, float], wavelength: Number) -> Number:
    """Straight lines as a sum of ramps, one that begins at each entry: smooth in λ everywhere else."""
    points = sorted(table.items())
    if not points:
        raise InputError("a table of no index", where="index", mend='write something like { "532 nm" = 1.4607 }')
    (start, first), *_ = points
    slopes = [(after[1] - before[1]) / (after[0] - before[0]) for before, after in pairwise(points)] or [0.0]
    n = first + slopes[0] * (wavelength - start)
    for (knot, _), before, after in zip(points[1:], slopes, slopes[1:], strict=False):
        n = n + (after - before) * _above(wavelength - knot)
    return n


def _above(value: Number) -> Number:
    """max(value, 0)."""
    return max(value, 0.0) if isinstance(value, float) else value.clamp(min=0)


def _refuse_beyond(material: str, measured: tuple[float, float], wavelength: Any) -> None:
    low, high = measured
    if not (low <= _smallest(wavelength) and -_smallest(-wavelength) <= high):
        far = show(_smallest(wavelength), "length")
        mend = f"it is known from {show(low, 'length')} to {show(high, 'length')}; beyond, give a table of the index"
        raise InputError(f"nobody measured {material} at {far}", where="wavelength", mend=mend)


def _smallest(value: Any) -> float:
    return float(value.detach().min()) if hasattr(value, "detach") else float(value)
