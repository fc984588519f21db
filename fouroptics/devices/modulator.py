"""What a mask device can show: a table of levels, the drive that chooses among them, and what becomes of it in glass.

    wanted phase or amplitude ─► nearest level ─► level table ─► crosstalk ─► transmission of each pixel

One ``Modulator`` serves liquid crystals, mirrors, etched plates, chrome, grey films, metasurfaces and the ideal plate:
they differ in their tables. What is wanted (the *drive*) is a phase [rad] where light is delayed, an amplitude where it
is held back, and a pair (real, imaginary) on the ideal plate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from fouroptics.devices import crosstalk
from fouroptics.devices.lut import Lut
from fouroptics.errors import InputError, check_choice

Kind = Literal["phase_slm", "multilevel_phase", "binary_amplitude", "grey_amplitude", "dmd", "metasurface", "complex"]
Quantize = Literal["hard", "straight-through", "soft", "gumbel", "none"]
QUANTIZE = ("hard", "straight-through", "soft", "gumbel", "none")
PHASE_KINDS = ("phase_slm", "multilevel_phase", "metasurface")
AMPLITUDE_KINDS = ("binary_amplitude", "grey_amplitude", "dmd")
FULL_TURN = 2 * math.pi
_CLOSE_TO_A_TURN = 1e-3  # rad; a range of 6.283 is meant as a whole turn
_WORD = 1 << 16  # levels of phase, and of amplitude, of the ideal plate
_FINE = 4096  # phases at which a table's efficiency is averaged, and its levels are looked for
_LEAST = 1e-6  # of a share, an odd and a temperature: short of certainty
_HALVINGS = 24  # of the gaps between those, until no level hides between two others


@dataclass(frozen=True)
class Table:
    """The transmissions that a device can show, ``a·e^{iφ}`` each: explicit, and uniform only by chance.

    Args:
        phase: [rad], ``[L]``, in any order.
        amplitude: ``[L]``; rising where it is an amplitude that is chosen.
    """

    phase: Tensor
    amplitude: Tensor

    def __len__(self) -> int:
        return len(self.phase)

    @property
    def transmission(self) -> Tensor:
        """``[L]`` complex."""
        return torch.polar(self.amplitude, self.phase)

    def to(self, like: Tensor) -> Table:
        return Table(self.phase.to(like), self.amplitude.to(like))


def phase_table(levels: int, phase_range: float = FULL_TURN) -> Table:
    """Even steps of phase: 2πk/L over a whole turn, where level L would be level 0; else from 0 to the range."""
    whole = abs(phase_range - FULL_TURN) < _CLOSE_TO_A_TURN
    step = FULL_TURN / levels if whole else phase_range / (levels - 1)
    phase = torch.arange(levels, dtype=torch.float64) * step
    return Table(phase, torch.ones_like(phase))


def etched_table(levels: int, depth: float, index: float, wavelength: float) -> Table:
    """A plate etched in steps of ``depth`` [m]: level k stands k steps high and delays by 2π(n - 1)·k·depth/λ."""
    step = FULL_TURN * (index - 1) * depth / wavelength
    phase = torch.arange(levels, dtype=torch.float64) * step
    return Table(phase, torch.ones_like(phase))


def amplitude_table(levels: int) -> Table:
    """Even steps of amplitude from 0 to 1."""
    amplitude = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    return Table(torch.zeros_like(amplitude), amplitude)


def measured_table(lut: Lut, levels: int | None) -> Table:
    """A table as it was measured, one row a level; fewer rows than levels are joined by straight lines."""
    drive, phase, amplitude = (
        torch.tensor(column, dtype=torch.float64) for column in (lut.drive, lut.phase, lut.amplitude)
    )
    if levels is not None and levels != len(drive):
        at = torch.linspace(float(drive[0]), float(drive[-1]), levels, dtype=torch.float64)
        phase, amplitude = _between(at, drive, phase), _between(at, drive, amplitude)
    return Table(phase, amplitude)


@dataclass(frozen=True)
class Modulator:
    """A device of one kind: what its pixels can show, and how they show it.

    Args:
        kind: what it is.
        table: its levels; None for the ideal plate, which shows 2¹⁶ phases times 2¹⁶ amplitudes.
        crosstalk: sigma of the blur of the phase from pixel to pixel, in pixels.
        flicker: rms phase [rad] of a pixel about its mean, fast against an exposure.
        frame_time: from one mask to the next [s]; 0 where it does not change.
    """

    kind: Kind
    table: Table | None = field(repr=False)
    crosstalk: float = 0.0
    flicker: float | Tensor = 0.0
    frame_time: float = 0.0

    @property
    def shows(self) -> Literal["phase", "amplitude", "complex"]:
        """What is chosen of a pixel."""
        if self.kind == "complex":
            return "complex"
        return "phase" if self.kind in PHASE_KINDS else "amplitude"

    @property
    def levels(self) -> int:
        return _WORD * _WORD if self.table is None else len(self.table)

    @property
    def reach(self) -> tuple[float, float]:
        """The least and the largest amplitude that it shows."""
        if self.table is None:
            return 0.0, 1.0
        return float(self.table.amplitude.amin()), float(self.table.amplitude.amax())

    @property
    def middle(self) -> float:
        """The phase in the middle of those that it shows [rad]."""
        if self.table is None:
            return math.pi
        return float(self.table.phase.amin() + self.table.phase.amax()) / 2

    @property
    def efficiency(self) -> float:
        """Light that a smooth blazed phase (or, of amplitudes, a grating) sends to its order: |⟨t e^{-iθ}⟩|².

        sinc²(1/L) for L even phases; 1/π² for a binary and 1/16 for a grey amplitude.
        """
        theta = torch.arange(_FINE, dtype=torch.float64) * (FULL_TURN / _FINE)
        if self.shows == "complex":
            return 1.0
        wanted = theta if self.shows == "phase" else (1 + theta.cos()) / 2
        shown = replace(self, crosstalk=0.0).transmission(self.nearest(wanted))  # smooth: neighbours are alike
        return float((shown * torch.polar(torch.ones_like(theta), -theta)).mean().abs().square())

    def nearest(self, drive: Tensor) -> Tensor:
        """The levels ``[...]`` nearest to a drive: on the circle, or in the complex plane where amplitude is coupled.

        A level of the ideal plate is amplitude · 2¹⁶ + phase, each in 2¹⁶ steps.
        """
        drive = drive.detach()
        if self.table is None:
            return _split_word(torch.view_as_complex(drive.contiguous()))
        table = self.table.to(drive)
        if self.shows == "amplitude":
            return torch.bucketize(drive.contiguous(), (table.amplitude[1:] + table.amplitude[:-1]) / 2)
        if bool((table.amplitude == table.amplitude[0]).all()):
            return _nearest_on_circle(drive, self.table.phase)
        return _nearest_complex(torch.polar(torch.ones_like(drive), drive), table.transmission)

    def drive_of(self, levels: Tensor) -> Tensor:
        """A drive whose nearest levels are the given ones: what they show, in float64.

        Where two levels show the same, or a brighter one is nearer to a level's own phase, it is a drive beside that. A
        level that is nearest to no drive at all keeps its own.
        """
        if self.table is None:
            phase, amplitude = self._looked_up(levels, None, torch.float64)
            return torch.view_as_real(torch.polar(amplitude, phase))
        return self._drives(self.table).to(levels.device)[levels]

    def transmission(self, levels: Tensor, *, table: Table | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
        """What pixels of ``levels`` ``[..., y, x]`` pass, complex; ``table`` stands in for the device's own."""
        shown = table or self.table
        each_by_itself = isinstance(self.flicker, float) or self.flicker.dim() == 0
        if shown is None or not each_by_itself or (self.shows == "phase" and self.crosstalk > 0):
            return self._passed(*self._looked_up(levels, table, dtype))
        phase, amplitude = (column.to(dtype=dtype, device=levels.device) for column in (shown.phase, shown.amplitude))
        return self._passed(phase, amplitude)[levels]  # pixels that do not meddle with each other pass what levels do

    def show(
        self,
        drive: Tensor,
        quantize: Quantize = "hard",
        *,
        softness: float = 1.0,
        table: Table | None = None,
        stuck: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """What pixels pass that are driven to show ``drive``, complex ``[..., y, x]``.

        Args:
            drive: ``[..., y, x]`` phase or amplitude, ``[..., y, x, 2]`` for the ideal plate.
            quantize: ``"hard"``, the nearest levels, without a gradient; ``"straight-through"``, the same with the
                gradient of the drive itself; ``"soft"``, a staircase whose steps have a slope; ``"gumbel"``, one of
                the two nearest levels by a draw, the nearer one the likelier, so that their mean is the drive, with the
                gradient of a soft choice; ``"none"``, any value.
            softness: of the staircase: 1 is a straight line from level to level, 0 the hard one; of a draw its
                temperature.
            table: what the levels pass in truth, where that differs from the device's own table.
            stuck: dead pixels (true where dead) and their levels, both ``[..., y, x]``.
        """
        check_choice("quantize", quantize, QUANTIZE)
        real = drive.dtype
        if quantize in ("hard", "straight-through"):
            levels = self.nearest(drive)
            levels = levels if stuck is None else torch.where(stuck[0], stuck[1], levels)
            if quantize == "hard":
                return self.transmission(levels, table=table, dtype=real)
            alive = 1.0 if stuck is None else (~stuck[0]).to(real)
            return self._followed(*self._looked_up(levels, table, real), drive, alive)
        if self.table is None:
            wanted = torch.view_as_complex(drive.contiguous())
            passed = wanted / wanted.abs().clamp_min(1.0)
            return passed if stuck is None else torch.where(stuck[0], self.transmission(stuck[1], dtype=real), passed)
        step = {"none": _line, "soft": _stair, "gumbel": _drawn}[quantize]
        phase, amplitude = self._graded(self.table, drive, partial(step, softness=softness), table)
        if stuck is not None:
            dead = self._looked_up(stuck[1], table, real)
            phase, amplitude = torch.where(stuck[0], dead[0], phase), torch.where(stuck[0], dead[1], amplitude)
        return self._passed(phase, amplitude)

    def _drives(self, table: Table) -> Tensor:
        """For each level a drive that it is nearest to: its own, or the middle of where it is."""
        drives = table.phase if self.shows == "phase" else table.amplitude
        own = [self.nearest(drives.to(dtype)) == torch.arange(len(table)) for dtype in (torch.float32, torch.float64)]
        if bool((own[0] & own[1]).all()):
            return drives
        first, last = (0.0, FULL_TURN) if self.shows == "phase" else (0.0, 1.0)
        places = torch.linspace(first, last, _FINE, dtype=torch.float64)
        found = self.nearest(places)
        for _ in range(_HALVINGS):
            middle = (places[1:] + places[:-1])[found[1:] != found[:-1]] / 2
            places, order = torch.cat((places, middle)).sort()
            found = torch.cat((found, self.nearest(middle)))[order]
        levels, widths = torch.unique_consecutive(found, return_counts=True)
        ends = widths.cumsum(0)
        starts, stops = places[ends - widths], places[ends - 1]
        drives = drives.clone()
        for run in (stops - starts).argsort().tolist():  # of several stretches the widest
            if not bool(own[0][levels[run]] & own[1][levels[run]]):
                drives[levels[run]] = (starts[run] + stops[run]) / 2
        return drives

    def _looked_up(self, levels: Tensor, table: Table | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Phase and amplitude of levels."""
        if self.table is None:
            phase = (levels % _WORD).to(dtype) * (FULL_TURN / _WORD)
            return phase, torch.div(levels, _WORD, rounding_mode="floor").to(dtype) / (_WORD - 1)
        shown = table or self.table
        phase, amplitude = (column.to(dtype=dtype, device=levels.device) for column in (shown.phase, shown.amplitude))
        return phase[levels], amplitude[levels]

    def _followed(self, phase: Tensor, amplitude: Tensor, drive: Tensor, alive: Tensor | float) -> Tensor:
        """The value of levels with the gradient of their drive."""
        if self.shows == "complex":
            wanted = torch.view_as_complex(drive.contiguous()) * alive
            return self._passed(phase, amplitude) + (wanted - wanted.detach())
        follow = (drive - drive.detach()) * alive
        if self.shows == "phase":
            return self._passed(phase + follow, amplitude)
        return self._passed(phase, amplitude + follow)

    def _graded(
        self, own: Table, drive: Tensor, step_at: Callable[[Tensor], Tensor], table: Table | None
    ) -> tuple[Tensor, Tensor]:
        """Phase and amplitude between two neighbouring levels, as near to the upper one as ``step_at`` says."""
        own, shown = own.to(drive), (table or own).to(drive)
        turn = FULL_TURN if self.shows == "phase" else 0.0
        column, order = (torch.remainder(own.phase, turn) if turn else own.amplitude).sort()
        shown = Table(shown.phase[order], shown.amplitude[order])
        pick = torch.remainder(drive, turn) if turn else drive
        below = torch.bucketize(pick.detach().contiguous(), column, right=True) - 1
        below = below % len(own) if turn else below.clamp_min(0)
        above = (below + 1) % len(own) if turn else (below + 1).clamp(max=len(own) - 1)
        gap, past = column[above] - column[below], pick - column[below]
        gap, past = (torch.remainder(gap, turn), torch.remainder(past, turn)) if turn else (gap, past)
        step = step_at((past / torch.where(gap == 0, 1.0, gap)).clamp(0, 1))
        rise = shown.phase[above] - shown.phase[below]
        rise = rise - turn * torch.round((rise - gap) / turn) if turn else rise  # the short way round
        brighter = shown.amplitude[above] - shown.amplitude[below]
        return shown.phase[below] + step * rise, shown.amplitude[below] + step * brighter

    def _passed(self, phase: Tensor, amplitude: Tensor) -> Tensor:
        """Mean transmission over each pixel, with what its neighbours do to its phase."""
        if self.shows == "phase" and self.crosstalk > 0:
            passed = amplitude * crosstalk.blurred(phase, self.crosstalk)
        else:  # polar by itself has no gradient where the amplitude is 0, and dark pixels would never learn
            passed = amplitude * torch.polar(torch.ones_like(phase), phase)
        still = torch.as_tensor(self.flicker, dtype=phase.dtype, device=phase.device)
        return passed * (-still.square() / 2).exp() if self.shows == "phase" else passed


def with_depth_errors(table: Table, errors: Tensor) -> Table:
    """A plate's table whose etch step m is deeper by a share ``errors[m]``.

    What is etched is removed height: a level whose bit m is 0 has lost depth d_m(1 + ε_m), one whose bit is 1 keeps it.
    """
    steps = (len(table) - 1).bit_length()
    bits = (torch.arange(len(table), device=errors.device)[:, None] >> torch.arange(steps, device=errors.device)) & 1
    unit = (table.phase[1] - table.phase[0]).to(errors)
    depths = unit * 2.0 ** torch.arange(steps, device=errors.device).to(errors)
    removed = ((1 - bits).to(errors) * (depths * errors)).sum(-1)
    return replace(table, phase=table.phase.to(errors) - removed, amplitude=table.amplitude.to(errors))


def overlay_change(modulator: Modulator, levels: Tensor, shifts: Tensor, table: Table | None = None) -> Tensor:
    """What misplaced etch steps change of a plate's transmissions ``[..., y, x]``, to first order in the shifts.

    Step m, moved by ``shifts[m]`` = (y, x) in pixels, covers a strip of each pixel with its neighbour's bit. Strips at
    one edge lie on each other: the widest has a part for itself, the narrowest shares its own with all wider ones.
    """
    if modulator.levels & (modulator.levels - 1):
        what = f"etch steps that mix make levels which a plate of {modulator.levels} has not"
        raise InputError(what, where="mask.levels", mend=f"levels = {1 << modulator.levels.bit_length()}")
    own = modulator.transmission(levels, table=table, dtype=shifts.dtype)
    change = torch.zeros_like(own)
    for dim in (-2, -1):
        for side in (1, -1):
            neighbour, taken = _neighbour(levels, side, dim), 0
            widths, order = (side * shifts[:, dim]).clamp_min(0).sort(descending=True)
            for step, alone in zip(order.tolist(), widths - torch.cat((widths[1:], widths.new_zeros(1))), strict=True):
                taken |= 1 << step
                mixed = levels & ~taken | neighbour & taken
                change = change + alone * (modulator.transmission(mixed, table=table, dtype=shifts.dtype) - own)
    return change


def _neighbour(values: Tensor, side: int, dim: int) -> Tensor:
    """Each pixel's neighbour one step before (side 1) or behind it; at the edge itself."""
    index = (torch.arange(values.shape[dim], device=values.device) - side).clamp(0, values.shape[dim] - 1)
    return values.index_select(dim, index)


def _nearest_on_circle(phase: Tensor, table: Tensor) -> Tensor:
    """For a table in float64, so that levels of one phase have the same order for every drive."""
    ring, order = torch.remainder(table, FULL_TURN).sort(stable=True)
    step = FULL_TURN / len(table)
    if torch.equal(table, torch.arange(len(table), dtype=table.dtype, device=table.device) * step):
        return torch.remainder(torch.round(phase / step), len(table)).long()  # even steps of a turn: five times faster
    around = torch.cat((ring, ring[:1] + FULL_TURN))
    middle = ((around[1:] + around[:-1]) / 2).to(phase)  # the last one lies between the last level and the first
    turned = torch.remainder(phase, FULL_TURN)
    turned = torch.where(turned < middle[-1] - FULL_TURN, turned + FULL_TURN, turned)
    return order.to(phase.device)[torch.bucketize(turned.contiguous(), middle) % len(table)]


def _nearest_complex(wanted: Tensor, table: Tensor) -> Tensor:
    """By going through the table once, so that memory does not grow with it."""
    best = torch.full(wanted.shape, math.inf, dtype=wanted.real.dtype, device=wanted.device)
    found = torch.zeros(wanted.shape, dtype=torch.long, device=wanted.device)
    for level, value in enumerate(table.tolist()):
        away = torch.view_as_real(wanted - value).square().sum(-1)
        closer = away < best
        best, found = torch.where(closer, away, best), torch.where(closer, level, found)
    return found


def _split_word(wanted: Tensor) -> Tensor:
    phase = torch.round(wanted.angle() * (_WORD / FULL_TURN)).long() % _WORD
    amplitude = torch.round(wanted.abs().clamp(max=1.0) * (_WORD - 1)).long()
    return amplitude * _WORD + torch.where(amplitude > 0, phase, 0)  # one level is dark


def _line(share: Tensor, softness: float) -> Tensor:
    return share


def _drawn(share: Tensor, softness: float) -> Tensor:
    """0 or 1 by a draw, 1 with the odds of ``share``; its gradient is that of a draw softened by a temperature."""
    uniform = torch.rand_like(share).clamp(_LEAST, 1 - _LEAST)
    odds = torch.logit(share, _LEAST) + torch.logit(uniform)
    soft = (odds / max(softness, _LEAST)).sigmoid()
    return (odds > 0).to(share) + (soft - soft.detach())


def _stair(share: Tensor, softness: float) -> Tensor:
    """A step from 0 to 1: a straight line at softness 1, tanh-shaped below, a jump at ½ at 0."""
    if softness >= 1:
        return share
    steep = 1 / max(softness, 1e-6) - 1
    return 0.5 + 0.5 * (steep * (share - 0.5)).tanh() / math.tanh(steep / 2)


def _between(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    right = torch.bucketize(at, x).clamp(1, len(x) - 1)
    share = (at - x[right - 1]) / (x[right] - x[right - 1])
    return y[right - 1] + share * (y[right] - y[right - 1])


def require_shows(modulator: Modulator, what: str, encoding: str) -> None:
    """Refuse an encoding that a kind of device cannot show."""
    if modulator.shows not in (what, "complex"):
        mend = {"phase": "'double-phase', 'carrier', 'phase' or 'fit'", "amplitude": "'lee'"}[modulator.shows]
        raise InputError(f"{encoding!r} needs a {what} and {modulator.kind} has none", where="mask.encoding", mend=mend)
