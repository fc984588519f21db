"""Electronics behind the readings: one fully connected layer, several, a small convolutional net, an expanding path.

A choice is a small value that can be written down; it builds its network when the readings' sizes are known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fouroptics.errors import InputError

Pair = tuple[int, int]
Level = tuple[int, Pair]  # channels and readings (Y, X) of each


class Backend(Protocol):
    """What builds a network from readings to scores."""

    def build(self, channels: int, readings: Pair, size: Pair, classes: int) -> nn.Module:
        """For readings ``[batch, channels, Y, X]`` of pictures of ``size``."""


@dataclass(frozen=True)
class FC:
    """Fully connected layers with rectifiers between them; without ``hidden`` one layer, as the paper's text has it.

    ``dropout`` is that of the numbers that go into each layer but the first.
    """

    hidden: tuple[int, ...] = ()
    dropout: float = 0.0

    def build(self, channels: int, readings: Pair, size: Pair, classes: int) -> nn.Module:
        widths = (channels * math.prod(readings), *self.hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, behind in pairwise(widths):
            layers += [nn.Linear(before, behind), nn.ReLU()] + [nn.Dropout(self.dropout)] * bool(self.dropout)
        return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


@dataclass(frozen=True)
class Conv:
    """3 × 3 convolutions, each rectified, with pools between them; the mean over what is left; scores."""

    widths: tuple[int, ...] = (128, 128)

    def build(self, channels: int, readings: Pair, size: Pair, classes: int) -> nn.Module:
        if not self.widths or min(readings) < 2 ** (len(self.widths) - 1):
            what = f"{len(self.widths)} convolutions of {readings[0]}×{readings[1]} readings, halved between them"
            raise InputError(what, where="backend", mend="fewer widths, or more readings")
        layers: list[nn.Module] = []
        for number, (before, behind) in enumerate(pairwise((channels, *self.widths))):
            layers += [nn.MaxPool2d(2)] if number else []
            layers += [nn.Conv2d(before, behind, 3, padding=1, bias=False), nn.BatchNorm2d(behind), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.widths[-1], classes))


@dataclass(frozen=True)
class Up:
    """The expanding path of a U-Net: scores of every pixel of the picture."""

    widths: tuple[int, ...] = (128, 64, 32)

    def build(self, channels: int, readings: Pair, size: Pair, classes: int) -> nn.Module:
        return self.build_levels([(channels, readings)], size, classes)

    def build_levels(self, levels: Sequence[Level], size: Pair, classes: int) -> nn.Module:
        """For readings of several levels, the coarsest first."""
        return UpPath(levels, self.widths, size, classes)


def built(kind: str, widths: Sequence[int], dropout: float = 0.0) -> Backend:
    """A backend by its word: ``"fc"``, ``"conv"`` or ``"up"``; without widths the usual ones."""
    if kind == "fc":
        return FC(tuple(widths), dropout)
    if kind == "conv":
        return Conv(tuple(widths)) if widths else Conv()
    if kind == "up":
        return Up(tuple(widths)) if widths else Up()
    raise InputError(f"{kind!r} is no backend", where="backend.kind", mend="fc, conv or up")


def describe(network: nn.Module) -> dict[str, Any]:
    """The word and the widths that ``built`` makes a network's like of."""
    if isinstance(network, UpPath):
        return {"backend": "up", "hidden": [*network.widths]}
    layers = [*network.children()]
    kind, of = ("conv", nn.Conv2d) if any(isinstance(one, nn.Conv2d) for one in layers) else ("fc", nn.Linear)
    widths = [one.weight.shape[0] for one in layers if isinstance(one, of)]
    dropout = max((one.p for one in layers if isinstance(one, nn.Dropout)), default=0.0)
    known = isinstance(network, nn.Sequential) and len(layers) and isinstance(layers[-1], nn.Linear)
    if not known:
        mend = "one of fouroptics.models.backends"
        raise InputError(f"{type(network).__name__} cannot be written down", where="backend", mend=mend)
    told = {"backend": kind, "hidden": widths if kind == "conv" else widths[:-1]}
    return told | ({"dropout": float(dropout)} if dropout else {})


class UpPath(nn.Module):
    """Readings of one level or of several, doubled step by step to the picture's size.

    At each step the readings of the next finer level join, if there is one.

    Args:
        levels: channels and grid of the readings, the coarsest first.
        widths: channels of each step, the first at the coarsest level.
        size: of the picture.
        classes: scores of a pixel.
    """

    def __init__(self, levels: Sequence[Level], widths: Sequence[int], size: Pair, classes: int) -> None:
        super().__init__()
        if not 1 <= len(levels) <= len(widths):
            what = f"{len(widths)} widths for {len(levels)} levels of readings"
            raise InputError(what, where="backend", mend="a width for each level, and for each doubling beyond")
        self.size, self.grids, self.widths = size, [grid for _, grid in levels], tuple(widths)
        steps = list(pairwise(widths))
        joined = [channels for channels, _ in levels[1:]] + [0] * (len(steps) - len(levels) + 1)
        self.first = convolutions(levels[0][0], widths[0])
        self.up = nn.ModuleList(nn.ConvTranspose2d(below, here, 2, 2) for below, here in steps)
        self.merge = nn.ModuleList(
            convolutions(here + more, here) for (_, here), more in zip(steps, joined, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], classes, 1)

    def forward(self, readings: Tensor | Sequence[Tensor]) -> Tensor:
        """``[batch, channels, Y, X]`` of each level → ``[batch, classes, y, x]``."""
        levels = [readings] if isinstance(readings, Tensor) else list(readings)
        found = self.first(levels[0])
        for number, (up, merge) in enumerate(zip(self.up, self.merge, strict=True), 1):
            found = up(found)
            if number < len(levels):
                found = torch.cat((levels[number], _resized(found, self.grids[number])), 1)
            found = merge(found)
        scores: Tensor = self.head(_resized(found, self.size))
        return scores


def convolutions(before: int, width: int) -> nn.Sequential:
    """Two 3 × 3 convolutions, batch-normalised and rectified."""
    layers: list[nn.Module] = []
    for inputs in (before, width):
        layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def _resized(pictures: Tensor, size: Pair) -> Tensor:
    if tuple(pictures.shape[-2:]) == tuple(size):
        return pictures
    return F.interpolate(pictures, size=size, mode="bilinear", align_corners=False)
