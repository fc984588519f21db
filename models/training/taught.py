"""The loss with a teacher, who sees the view that the student sees."""

from __future__ import annotations

import hashlib

import torch
from fouroptics.models.training.distill import distillation_loss
from fouroptics.models.training.metrics import scores_of
from fouroptics.models.training.recipe import Recipe
from torch import Tensor, nn


class Taught:
    """A loss of scores, pictures and targets.

    Args:
        teacher: in evaluation mode.
        recipe: which says the loss.
        keeps: what was said of a batch, for the batches that come again.
    """

    def __init__(self, teacher: nn.Module, recipe: Recipe, *, keeps: bool = False) -> None:
        self.teacher, self.recipe, self.keeps = teacher, recipe, keeps
        self._said: dict[bytes, Tensor] = {}

    def __call__(self, scores: Tensor, pictures: Tensor, targets: Tensor) -> Tensor:
        said, section = self.said(pictures), self.recipe.distill
        return distillation_loss(
            scores, said.to(scores), targets, temperature=section.temperature, hard_weight=section.hard_weight,
            kind=section.loss, alpha=section.alpha, beta=section.beta,  # type: ignore[arg-type]
        )  # fmt: skip

    @torch.no_grad()
    def said(self, pictures: Tensor) -> Tensor:
        """The teacher's scores of a batch."""
        amp = self.recipe.train.amp
        if not self.keeps:
            return scores_of(self.teacher, pictures, amp)
        key = hashlib.blake2b(pictures.cpu().contiguous().numpy().tobytes()).digest()
        if key not in self._said:
            self._said[key] = scores_of(self.teacher, pictures, amp)
        return self._said[key]
