"""The laser on the input modulator: irradiance of a Gaussian beam or of a uniform one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PLANCK = 6.62607015e-34  # J s
LIGHT_SPEED = 299_792_458.0  # m / s


def photon_energy(wavelength: float | Tensor) -> float | Tensor:
    """hc/λ [J]."""
    return PLANCK * LIGHT_SPEED / wavelength


def peak_irradiance(power: float, waist: float | None, panel: tuple[float, float]) -> float:
    """On the axis [W/m²]: 2P/πw² for a Gaussian beam of 1/e² radius w, else P over the panel's area."""
    return power / math.prod(panel) if waist is None else 2 * power / (math.pi * waist**2)


def mean_irradiance(
    power: float,
    waist: float | None,
    panel: tuple[float, float],
    field: tuple[float, float],
    centre: tuple[float, float] = (0.0, 0.0),
) -> float:
    """Mean over a field of ``(height, width)`` about a place [m]; of a Gaussian P·erf(h/√2w)·erf(b/√2w)/(h·b) [W/m²].

    That is on the axis. ``power`` is the whole beam's: what misses the panel is lost. Without a waist all of it falls
    on the panel, evenly.
    """
    if waist is None:
        return power / math.prod(panel)
    scale = math.sqrt(2) / waist
    caught = math.prod(
        (math.erf(scale * (at + side / 2)) - math.erf(scale * (at - side / 2))) / 2
        for at, side in zip(centre, field, strict=True)
    )
    return power * caught / math.prod(field)


def illumination(y: Tensor, x: Tensor, waist: float | Tensor | None) -> Tensor:
    """Irradiance at positions about the axis [m], relative to the axis: e^{-2r²/w²} ``[..., y, x]``, or 1."""
    square = y.square()[..., :, None] + x.square()[..., None, :]
    return square.mul(0 if waist is None else -2 / waist**2).exp()


def overfill(waist: float | None, panel: tuple[float, float]) -> float:
    """Share of the beam that misses a centred panel."""
    return 0.0 if waist is None else 1 - math.prod(math.erf(side / (math.sqrt(2) * waist)) for side in panel)


def edge_irradiance(waist: float | None, field: tuple[float, float]) -> float:
    """Irradiance in the corner of a centred field, relative to the axis."""
    return 1.0 if waist is None else math.exp(-2 * sum((side / 2) ** 2 for side in field) / waist**2)


def focus_irradiance(irradiance: float, field: tuple[float, float], wavelength: float, focal_length: float) -> float:
    """What a white field of ``(height, width)`` [m] makes on a lens's axis, I·A²/(λf)² [W/m²]."""
    return irradiance * (math.prod(field) / (wavelength * focal_length)) ** 2
