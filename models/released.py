"""The network that the paper's authors published, for comparison. It is not linear: each of its pools is rectified.

Of its complex taps the imaginary halves never get a gradient, for pictures are real and the real part is taken behind
each convolution. Transforms were not normalised, so each pool raises the level by what it leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from fouroptics.models.spectral import SpectralConv2d, SpectralPool2d
from torch import Tensor, nn

from fouroptics.errors import InputError

Pair = tuple[int, int]
_PUBLISHED = (113, 55, 27, 13)  # samples behind its pools, of pictures of 224
_WIDTHS = (3, 32, 64, 128, 256, 256)


class RealPart(nn.Module):
    """Re E: what the published network takes of a field, without saying how."""

    def forward(self, field: Tensor) -> Tensor:
        return field.real


class LevelledPool(SpectralPool2d):
    """A spectral pool between transforms that are not normalised: brighter by the samples that it leaves out."""

    def on_spectra(self, spectra: Tensor, size: Pair, *, half: bool) -> tuple[Tensor, Pair]:
        smaller, kept = super().on_spectra(spectra, size, half=half)
        return smaller * (math.prod(size) / math.prod(kept)), kept


class Released(nn.Module):
    """Five 3 × 3 convolutions, a rectified spectral pool behind the first four, three fully connected layers.

    Args:
        classes: scores.
        size: of pictures.
        crops: samples behind each pool; left out: the published ones, in proportion, and odd as they are.
    """

    def __init__(self, classes: int = 10, size: int = 224, crops: Sequence[int] | None = None) -> None:
        super().__init__()
        kept = tuple(crops or (max(3, 2 * round((n * size / 224 - 1) / 2) + 1) for n in _PUBLISHED))
        if len(kept) != 4 or any(after > before for before, after in pairwise((size, *kept))):
            raise InputError(f"{kept} of pictures of {size}", where="crops", mend="four, none larger than before it")
        self.size = (size, size)
        self.features = nn.Sequential()
        for number, (inputs, outputs) in enumerate(pairwise(_WIDTHS), 1):
            conv = SpectralConv2d(inputs, outputs, 3, padding=1, padding_mode="zeros", is_complex=True)
            nn.init.normal_(conv.weight, std=0.01)
            self.features.add_module(f"conv{number}", conv)
            self.features.add_module(f"real{number}", RealPart())
            if number <= len(kept):
                self.features.add_module(f"pool{number}", LevelledPool(kept[number - 1]))
                self.features.add_module(f"relu{number}", nn.ReLU())
        self.norm = nn.BatchNorm2d(_WIDTHS[-1])
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(_WIDTHS[-1] * 36, 512),
            nn.Dropout(0.5),
            nn.ReLU(),
            nn.Linear(512, 256),
            nn.ReLU(),
            nn.Linear(256, classes),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores; the published network gives the logarithm of their softmax, which a loss takes anyway."""
        found: Tensor = self.classifier(torch.flatten(self.avgpool(self.norm(self.features(pictures))), 1))
        return found
