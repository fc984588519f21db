"""The bench's mask device as it is: its levels, its dead pixels, its own wavefront; and what one draw makes of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fouroptics.bench import Bench
from fouroptics.devices import material, modulator
from fouroptics.devices.modulator import Modulator, Table
from fouroptics.imperfections import Imperfections
from fouroptics.optics import aberration
from fouroptics.optics.fourier import Pair
from fouroptics.optics.pixelated import pixel_frequencies

Stuck = tuple[Tensor, Tensor]  # which pixels are dead, and their levels


def modulator_of(bench: Bench) -> Modulator:
    """The bench's mask device."""
    mask = bench.mask
    frame_time = 0.0 if mask.frame_rate is None else mask.settle + 1 / mask.frame_rate
    return Modulator(
        mask.kind,
        table_of(bench),
        crosstalk=mask.crosstalk / mask.pitch,
        flicker=mask.flicker,
        frame_time=frame_time,
    )


def table_of(bench: Bench) -> Table | None:
    """The levels of the bench's mask device; None for the ideal plate."""
    mask = bench.mask
    if mask.kind == "complex":
        return None
    measured = mask.table
    if measured is None:
        return _even_table(bench)
    table = modulator.measured_table(measured, mask.levels)
    if mask.lut_applied_by == "file":
        return table
    wanted = _even_table(bench)  # what a controller is told, for which it sets the nearest drive that it knows
    shown = Modulator(mask.kind, table).nearest(
        wanted.amplitude if mask.kind in modulator.AMPLITUDE_KINDS else wanted.phase
    )
    return Table(table.phase[shown], table.amplitude[shown])


def _even_table(bench: Bench) -> Table:
    """The levels of a device that is as its data sheet says."""
    mask = bench.mask
    assert mask.levels is not None
    if mask.kind in modulator.AMPLITUDE_KINDS:
        return modulator.amplitude_table(mask.levels)
    if mask.kind == "multilevel_phase" and mask.step_depth is not None:
        return modulator.etched_table(
            mask.levels, mask.step_depth, _index(bench, bench.source.wavelength), bench.source.wavelength
        )
    return modulator.phase_table(mask.levels, mask.phase_range or modulator.FULL_TURN)


def wavefront(bench: Bench, origin: Pair, count: Pair, drift: Tensor | float = 0.0) -> Tensor:
    """What the panel's own error does on ``count`` pixels from ``origin`` on, both ``(y, x)``.

    ``drift`` is by how much the wavelength is off [m].
    """
    mask = bench.mask
    y, x = (
        pixel_frequencies(n, mask.pitch) + (first + (n - 1) / 2 - (pixels - 1) / 2) * mask.pitch
        for n, first, pixels in zip(count, origin, reversed(mask.pixels), strict=True)
    )
    path = aberration.wavefront(y, x, mask.wavefront, math.hypot(*mask.extent))
    if isinstance(drift, Tensor):
        path = path.to(drift.device)
    return aberration.delayed(path, bench.source.wavelength + drift)


def dead(bench: Bench, origins: tuple[Pair, ...], count: Pair, device: torch.device) -> Stuck:
    """The panel's dead pixels that lie under masks, ``[masks, Ny, Nx]``."""
    where = torch.zeros(len(origins), *count, dtype=torch.bool)
    level = torch.zeros(len(origins), *count, dtype=torch.long)
    for x, y, stuck_at in bench.mask.stuck:
        for mask, (top, left) in enumerate(origins):
            if 0 <= y - top < count[0] and 0 <= x - left < count[1]:
                where[mask, y - top, x - left] = True
                level[mask, y - top, x - left] = stuck_at
    return where.to(device), level.to(device)


def also_dead(
    own: Stuck | None,
    draw: Imperfections,
    shape: tuple[int, ...],
    *,
    together: bool,
    levels: int,
    device: torch.device,
) -> Stuck | None:
    """The panel's own dead pixels and a draw's, which stick at any level: from the draw's seed alone.

    Masks that are shown one after another share their pixels.
    """
    share = draw.get("mask.dead_pixels")
    if share is None:
        return own
    generator = torch.Generator().manual_seed(int(draw.seed))
    drawn = (1, *shape[1:]) if together else shape
    chance = torch.rand(drawn, generator=generator, dtype=torch.float64)
    level = torch.randint(levels, drawn, generator=generator).expand(shape).to(device)
    where = (chance < share.detach().cpu()).expand(shape).to(device)
    return (where, level) if own is None else (where | own[0], torch.where(own[0], own[1], level))


def phase_change(bench: Bench, draw: Imperfections) -> Tensor | float:
    """Phases in units of the nominal ones: the slope of the drive, and another wavelength's 1/λ and n(λ) - 1."""
    slope, drift = draw.get("mask.phase_scale"), draw.get("source.wavelength")
    change: Tensor | float = 1.0 if slope is None else 1 + slope
    if drift is not None and bench.mask.kind not in modulator.AMPLITUDE_KINDS:
        nominal = bench.source.wavelength
        change = change * nominal / (nominal + drift)
        if bench.mask.kind == "multilevel_phase":
            change = change * (_index(bench, nominal + drift) - 1) / (_index(bench, nominal) - 1)
    return change


def flawed_table(table: Table, draw: Imperfections, change: Tensor | float) -> Table:
    """What levels pass in truth: etched too deep, at another slope or wavelength, each with an error of its own."""
    depth, level = draw.get("fabrication.depth"), draw.get("mask.level")
    if depth is not None:
        table = modulator.with_depth_errors(table, depth.to(table.phase))
    phase = table.phase * change
    return Table((phase if level is None else phase + level).to(table.amplitude.dtype), table.amplitude)


def _index(bench: Bench, wavelength: material.Number) -> material.Number:
    return material.index(bench.mask.medium or material.PLATE, wavelength)
