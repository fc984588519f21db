"""Pictures seen a little differently each time, as tensors, from a generator: they stay in [0, 1]."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fouroptics.errors import InputError

_KNOWN = "flip, shift N, mixup A"
_FORM = re.compile(r"(flip|shift (\d+)|mixup (\d*\.?\d+))")


class Augmentation:
    """What a recipe's list says: ``flip`` left and right, ``shift N`` by up to N samples, ``mixup A``.

    What a shift brings in is dark, as beyond a picture's border. Mixup adds pictures in shares of a Beta(A, A)
    distribution; labels do not mix, so it is for the one loss that takes none, ``function-matching``.
    """

    def __init__(self, steps: Sequence[str] = ()) -> None:
        self.flips, self.shift, self.mixup = False, 0, 0.0
        for step in steps:
            found = _FORM.fullmatch(step)
            if found is None:
                raise InputError(f"{step!r} is unknown", where="data.augment", mend=f"choose from {_KNOWN}")
            self.flips |= step == "flip"
            self.shift = int(found[2] or self.shift)
            self.mixup = float(found[3] or self.mixup)

    def without_mixup(self) -> Augmentation:
        """The same for a loss that takes labels."""
        plain = copy.copy(self)
        plain.mixup = 0.0
        return plain

    def __call__(self, pictures: Tensor, targets: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pictures ``[batch, C, y, x]`` and their targets; masks move along."""
        count, device = len(pictures), pictures.device
        masks = targets[:, None] if targets.dim() == 3 else None
        if self.flips:
            turned = (torch.rand(count, generator=draw) < 0.5).to(device)[:, None, None, None]
            pictures = torch.where(turned, pictures.flip(-1), pictures)
            masks = None if masks is None else torch.where(turned, masks.flip(-1), masks)
        if self.shift:
            by = torch.randint(0, 2 * self.shift + 1, (2, count), generator=draw).to(device)
            pictures = self._shifted(pictures, by, 0)
            masks = None if masks is None else self._shifted(masks, by, 255)
        if self.mixup:
            share = torch.distributions.Beta(self.mixup, self.mixup)
            uniform = torch.rand(count, generator=draw, dtype=torch.float64)
            lam = _beta_quantile(uniform, share).to(pictures).reshape(-1, 1, 1, 1)
            order = torch.randperm(count, generator=draw).to(device)
            pictures = lam * pictures + (1 - lam) * pictures[order]
        return pictures, targets if masks is None else masks[:, 0]

    def _shifted(self, pictures: Tensor, by: Tensor, beyond: int) -> Tensor:
        reach = self.shift
        wide = F.pad(pictures, (reach, reach, reach, reach), value=beyond)
        height, width = pictures.shape[-2:]
        rows = by[0][:, None] + torch.arange(height, device=pictures.device)
        columns = by[1][:, None] + torch.arange(width, device=pictures.device)
        which = torch.arange(len(pictures), device=pictures.device)
        return wide[which[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _beta_quantile(uniform: Tensor, share: torch.distributions.Beta) -> Tensor:
    """Draws of a Beta distribution by its quantiles, for torch draws them from no generator of one's own."""
    from scipy.stats import beta

    a, b = float(share.concentration1), float(share.concentration0)
    return torch.from_numpy(beta.ppf(uniform.numpy(), a, b))
