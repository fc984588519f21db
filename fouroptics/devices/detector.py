"""The camera's side of the photon budget."""

from __future__ import annotations

from fouroptics.devices.source import photon_energy

WELL_TARGET = 0.8  # the part of the well that the brightest pixels fill


def electron_rate(irradiance: float, *, wavelength: float, pixel_area: float, qe: float) -> float:
    """Electrons per second that ``irradiance`` [W/m²] frees in a pixel's sensitive area [m²]."""
    return qe * irradiance * pixel_area / photon_energy(wavelength)


def exposure_to_fill(
    irradiance: float, *, wavelength: float, pixel_area: float, qe: float, full_well: float
) -> float:
    """Exposure [s] at which a pixel under ``irradiance`` [W/m²] fills 80 % of its well."""
    rate = electron_rate(irradiance, wavelength=wavelength, pixel_area=pixel_area, qe=qe)
    return WELL_TARGET * full_well / rate
