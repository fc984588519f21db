"""Pictures made from a seed, at any resolution: ten shapes that no linear classifier tells apart.

Each lies somewhere, a little turned, larger or smaller, brighter than its surroundings or darker, on a texture that has
contrast of its own. So no pixel tells anything alone, and what matters is an outline.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fouroptics.pictures import natural

Pair = tuple[int, int]
SHAPE_NAMES = ("disc", "ring", "square", "frame", "triangle", "cross", "bar", "two discs", "half disc", "star")
_BLOCK = 500  # pictures at a time
_TURN = 0.35  # [rad] at most


def draw_shapes(count: int, size: Pair, *, seed: int = 0, grey: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """``count`` pictures as bytes ``[N, C, y, x]``, their classes, as many of each, and the shapes' pixels.

    The first pictures do not depend on how many there are.
    """
    blocks = [
        _block(min(_BLOCK, count - first), size, seed * 1_000_003 + first, 1 if grey else 3)
        for first in range(0, count, _BLOCK)
    ]
    pictures, labels, masks = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return pictures, labels, masks


def _block(count: int, size: Pair, seed: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(_BLOCK).remainder(len(SHAPE_NAMES))[torch.randperm(_BLOCK, generator=draw)][:count]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(_BLOCK, *shape, generator=draw)[:count]

    reach = uniform(0.3, 0.4)[:, None, None]  # of the shorter side
    turn = uniform(-_TURN, _TURN)[:, None, None]
    place = uniform(-1, 1, 2)[:, :, None, None]
    short = min(size)
    rows, columns = ((torch.arange(n) - (n - 1) / 2) / short for n in size)
    room = [n / (2 * short) - 0.4 for n in size]  # the largest shape stays within
    y = rows[:, None] - place[:, 0] * room[0]
    x = columns - place[:, 1] * room[1]
    along, across = (x * turn.cos() + y * turn.sin()) / reach, (y * turn.cos() - x * turn.sin()) / reach
    inside = torch.stack([_distance(int(label), a, b) for label, a, b in zip(labels, along, across, strict=True)])
    coverage = (0.5 - inside * reach * short).clamp(0, 1)  # of a pixel, from the distance to the outline
    texture = natural(_BLOCK, channels, size, seed=seed)[:count]
    ground = 0.25 + 0.5 * uniform(0, 1, channels)[..., None, None] + 0.25 * (texture - 0.5)
    contrast = uniform(0.3, 0.5, channels)[..., None, None]
    sign = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)[:, None, None, None]
    shown = (ground + sign * contrast * coverage[:, None]).clamp(0, 1)
    return (shown * 255).round().to(torch.uint8), labels, (coverage > 0.5).to(torch.uint8)


def _distance(label: int, x: Tensor, y: Tensor) -> Tensor:
    """To the outline of a shape about the origin, in units of its reach, below 0 inside; all cover about as much."""
    radius = torch.hypot(x, y)
    if label == 0:
        return radius - 0.72
    if label == 1:
        return (radius - 0.8).abs() - 0.17
    if label == 2:
        return torch.maximum(x.abs(), y.abs()) - 0.64
    if label == 3:
        return (torch.maximum(x.abs(), y.abs()) - 0.7).abs() - 0.155
    if label == 4:
        return _polygon(x, y, 3) - 0.52
    if label == 5:
        arm, span = torch.minimum(x.abs(), y.abs()) - 0.22, torch.maximum(x.abs(), y.abs()) - 0.95
        return torch.maximum(arm, span)
    if label == 6:
        return torch.maximum(x.abs() - 1.05, y.abs() - 0.38)
    if label == 7:
        return torch.minimum(torch.hypot(x - 0.58, y), torch.hypot(x + 0.58, y)) - 0.48
    if label == 8:
        return torch.maximum(radius - 0.98, y)
    angle = torch.atan2(y, x)
    return radius - (0.68 + 0.27 * torch.cos(5 * angle))


def _polygon(x: Tensor, y: Tensor, sides: int) -> Tensor:
    """The largest of the distances from the origin along the normals of a regular polygon's sides."""
    normals = [2 * math.pi * number / sides for number in range(sides)]
    return torch.stack([x * math.cos(angle) + y * math.sin(angle) for angle in normals]).amax(0)
