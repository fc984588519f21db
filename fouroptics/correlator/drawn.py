"""Masks of many drawn benches from those of a few, where nobody asks for the masks' gradient.

What a pixel of a liquid crystal passes is the mean of e^{icφ} over its area, where c, the slope of its phases, is what
most draws change: an entire function of c, which a few Chebyshev points give to the rounding of single precision. A
dead pixel changes itself and what crosstalk carries to its neighbours: those are worked out by themselves and added.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fouroptics.correlator import panel
from fouroptics.correlator.flaws import PIXELS
from fouroptics.correlator.masks import MaskPlan
from fouroptics.devices import crosstalk
from fouroptics.devices.modulator import Table
from fouroptics.imperfections import Imperfections
from fouroptics.optics.fourier import Pair
from fouroptics.optics.kept import Kept, is_traced

_WIDTHS = (0.05, 0.2)  # how far a slope may be from 1, with few points or some more; beyond, masks are its own
_EXACT = 2e-7  # of what a pixel passes: the rounding of single precision
_STEP = 16  # samples; a draw's own reach is part of the next wider one that is a multiple
_UNCOVERED = ("mask.level", "fabrication")
_AT_ONCE = 2**22  # pixels about dead ones


def covers(plan: MaskPlan, draw: Imperfections, dtype: torch.dtype) -> bool:
    """Whether a draw's masks, of such pixels, follow from those of a few, and no gradient is asked of them."""
    own = plan.modulator
    return (
        dtype == torch.float32
        and own.table is not None
        and own.shows == "phase"
        and not plan.bench.mask.wavefront
        and not draw.only(*_UNCOVERED).names
        and not wants_gradient(draw, *PIXELS, "source.wavelength")
        and not is_traced()
    )


def wants_gradient(draw: Imperfections, *names: str) -> bool:
    """Whether a gradient is asked of any of these fields."""
    return torch.is_grad_enabled() and any(draw[name].requires_grad for name in draw.only(*names).names)


class DrawnMasks:
    """The levels of a liquid crystal's masks, and what any draw makes of their point-spread functions.

    Args:
        plan: of the masks, which ``covers`` is true of.
        levels: ``[masks, Ny, Nx]``, as they are shown.
    """

    def __init__(self, plan: MaskPlan, levels: Tensor) -> None:
        assert plan.modulator.table is not None
        few = len(plan.modulator.table) <= 256
        self.plan, self.levels = plan, levels.to(torch.uint8 if few else torch.int32)
        self._table = plan.modulator.table.to(torch.empty(0, dtype=torch.float32, device=levels.device))
        phases = plan.modulator.table.phase
        self._middle = float(phases.amax() + phases.amin()) / 2
        self._half = max(float(phases.amax()) - self._middle, abs(self._middle))  # what passes in the gaps has phase 0
        self._sampled: Kept[Tensor] = Kept()

    def spread(self, draw: Imperfections, reach: Pair) -> Tensor:
        """``plan.spread`` of the masks that one draw shows."""
        slope = float(panel.phase_change(self.plan.bench, draw))
        wide = -(-reach[0] // _STEP) * _STEP, -(-reach[1] // _STEP) * _STEP
        found = self._at(slope, wide) + self._of_dead(draw, slope, wide)
        rows, columns = (slice(w - r, w + r + 1) for w, r in zip(wide, reach, strict=True))
        return found[..., rows, columns]

    def _at(self, slope: float, reach: Pair) -> Tensor:
        """Spreads ``[out, in, Ky, Kx]`` of a slope: by themselves, or from those of the points about 1."""
        width = next((width for width in _WIDTHS if abs(slope - 1) <= width), None)
        if slope == 1:
            return self._sampled.get((1.0, reach), lambda: self._made(1.0, reach))
        if width is None:
            return self._made(slope, reach)
        points = chebyshev(width, self._half)

        def make() -> Tensor:  # each turned back by the middle phase: what is left changes half as fast
            return torch.stack([self._made(c, reach) * _turn(-self._middle * c) for c in points.tolist()])

        sampled = self._sampled.get((width, reach), make)
        weights = (lagrange(points, slope) * _turn(self._middle * slope)).to(sampled)
        return torch.einsum("k,k...->...", weights, sampled)

    def _made(self, slope: float, reach: Pair) -> Tensor:
        """Mask by mask, so that a mask is in the cache while it is worked on."""
        spread, over = self.plan.spread_plan(reach, torch.complex64, self.levels.device), self._over
        each = [spread(self._passed(one[None].long(), slope) * over) for one in self.levels]
        return self.plan.of_terms(torch.cat(each))

    def _passed(self, levels: Tensor, slope: float) -> Tensor:
        table = Table(self._table.phase * slope, self._table.amplitude)
        return self.plan.modulator.transmission(levels, table=table, dtype=torch.float32)

    @property
    def _over(self) -> Tensor:
        return self.plan.over(torch.complex64, self.levels.device)

    def _of_dead(self, draw: Imperfections, slope: float, reach: Pair) -> Tensor | float:
        """What the draw's dead pixels change of all spreads; those that the panel has are in the levels."""
        plan, device = self.plan, self.levels.device
        shape = (plan.masks, *plan.count)
        dead = panel.also_dead(None, draw, shape, together=plan.together, levels=plan.modulator.levels, device=device)
        if dead is None:
            return 0.0
        own = plan.stuck(device)
        where, level = (dead[0] if own is None else dead[0] & ~own[0]), dead[1]
        spread, over = plan.spread_plan(reach, torch.complex64, device), self._over.expand(plan.count)
        about = (1 + 4 * crosstalk.reach(plan.modulator.crosstalk)) ** 2
        at_once = max(1, _AT_ONCE // max(1, int(where[0].sum()) * about)) if plan.together else 1
        parts = []
        for first in range(0, plan.masks, at_once):
            some = self.levels[first : first + at_once]
            y, x, change = self._changed(some, where[first], level[first], slope)
            parts.append(spread.of_pixels(change * over[y, x], y, x))
        return plan.of_terms(torch.cat(parts))

    def _changed(self, levels: Tensor, where: Tensor, level: Tensor, slope: float) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels ``(y, x)`` that pass something else, and by how much, ``[masks, pixels]``, where some are dead."""
        far = crosstalk.reach(self.plan.modulator.crosstalk)
        dead = where.nonzero()
        if not len(dead):
            return dead[:, 0], dead[:, 1], self._over.new_zeros(len(levels), 0)
        near, about = (torch.arange(-n, n + 1, device=dead.device) for n in (far, 2 * far))
        rows, columns = (
            (dead[:, dim, None] + about).clamp(0, n - 1) for dim, n in enumerate(where.shape)
        )  # beyond an edge lie the edge's own phases
        patch = rows[:, :, None], columns[:, None, :]
        before = levels[:, *patch].long()
        now = torch.where(where[patch], level[patch], before)
        strips = [part.reshape(1, -1, len(about)) for part in (now, before)]  # one below the other: one mask
        change = (self._passed(strips[0], slope) - self._passed(strips[1], slope)).reshape(before.shape)
        inner = slice(far, far + len(near))
        each = len(dead), len(near), len(near)
        y, x = (dead[:, 0, None, None] + near[:, None]).expand(each), (dead[:, 1, None, None] + near).expand(each)
        once = _first_of_each(y, x, (where.shape[0], where.shape[1]))
        return y[once], x[once], change[..., inner, inner][:, once]


def _first_of_each(y: Tensor, x: Tensor, size: Pair) -> Tensor:
    """True where a pixel stands for the first time, of those that are on the mask."""
    on = (y >= 0) & (y < size[0]) & (x >= 0) & (x < size[1])
    _, which = torch.unique(torch.where(on, y * size[1] + x, -1).flatten(), return_inverse=True)
    order = torch.arange(which.numel(), device=y.device)
    first = torch.full_like(order, which.numel()).scatter_reduce(0, which, order, "amin")
    return on & (first[which] == order).reshape(on.shape)


def chebyshev(width: float, half: float) -> Tensor:
    """Slopes within ``width`` of 1, as many as e^{icφ} needs for |φ| ≤ ``half``: its error is 2(φ·width/2)^K/K!."""
    count = 1
    while 2 * (half * width / 2) ** count / math.factorial(count) > _EXACT:
        count += 1
    angles = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count)
    return 1 + width * angles.cos()


def lagrange(points: Tensor, at: float) -> Tensor:
    """What the value at each point counts at another place."""
    others = ~torch.eye(len(points), dtype=torch.bool)
    ratios = torch.where(others, (at - points) / torch.where(others, points[:, None] - points, 1.0), 1.0)
    return ratios.prod(1)


def _turn(phase: float) -> complex:
    return complex(math.cos(phase), math.sin(phase))
