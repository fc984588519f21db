"""The camera's side of the photon budget."""

from __future__ import annotations

from fouroptics.devices.source import photon_energy

FILL = 0.8  # the part of its range that the brightest readings fill


def electron_rate(irradiance: float, *, wavelength: float, area: float, qe: float) -> float:
    """Electrons per second that ``irradiance`` [W/m²] frees in a sensitive area [m²]."""
    return qe * irradiance * area / photon_energy(wavelength)


def exposure_to_fill(
    irradiance: float,
    *,
    wavelength: float,
    area: float,
    qe: float,
    full_well: float,
    gain: float,
    adc_bits: int,
) -> float:
    """Exposure [s] at which a reading under ``irradiance`` [W/m²] fills 80 % of the well or of the ADC.

    A binned reading collects from all its pixels, ``area`` [m²], and its charge has to fit what a single well holds and
    what ``gain`` [DN / electron] leaves of the ADC's range.
    """
    holds = min(full_well, ((1 << adc_bits) - 1) / gain)
    return FILL * holds / electron_rate(irradiance, wavelength=wavelength, area=area, qe=qe)
