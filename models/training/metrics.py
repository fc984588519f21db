"""What a network is worth on pictures: accuracy; of pixels their accuracy, mean IoU and Dice."""

from __future__ import annotations

import torch
from fouroptics.models.training.data import IGNORED, Part
from torch import Tensor, nn

_CHUNK = 250  # pictures at a time; the last chunk is filled up, so that no result depends on what it stood beside


def scores_of(network: nn.Module, pictures: Tensor, amp: bool = False) -> Tensor:
    """A network's scores, in single precision or better whatever it works in."""
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=amp):
        scores: Tensor = network(pictures)
    return scores if scores.dtype == torch.float64 else scores.float()


@torch.no_grad()
def all_scores(network: nn.Module, part: Part, *, amp: bool = False, chunk: int = _CHUNK) -> Tensor:
    """Scores of all pictures in evaluation mode, in chunks of one size."""
    was_training = network.training
    network.eval()
    found = []
    try:
        for first in range(0, len(part), chunk):
            index = torch.arange(first, first + chunk).clamp_max(len(part) - 1).to(part.pictures.device)
            found.append(scores_of(network, part.batch(index)[0], amp)[: len(part) - first])
    finally:
        network.train(was_training)
    return torch.cat(found)


def measured(network: nn.Module, part: Part, *, amp: bool = False) -> dict[str, float]:
    """Its figures, the one to choose by first."""
    if part.targets.dim() == 1:
        scores = all_scores(network, part, amp=amp)
        return {"accuracy": float((scores.argmax(1) == part.targets).double().mean())}
    return _of_pixels(network, part, amp)


def _of_pixels(network: nn.Module, part: Part, amp: bool) -> dict[str, float]:
    """Mean IoU and Dice over the classes that are there or were said to be, and the share of pixels that are right."""
    counts: Tensor | None = None
    for first in range(0, len(part), _CHUNK):
        some = part.take(slice(first, first + _CHUNK))
        scores = all_scores(network, some, amp=amp, chunk=min(_CHUNK, len(some)))
        said = (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(1)
        classes = max(2, scores.shape[1])
        seen = some.targets != IGNORED
        pairs = some.targets[seen].long() * classes + said[seen]
        here = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        counts = here if counts is None else counts + here
    assert counts is not None
    return of_confusion(counts)


def of_confusion(counts: Tensor) -> dict[str, float]:
    """From how many pixels of a class (row) were said to be of another (column)."""
    right, there, said = counts.diag().double(), counts.sum(1).double(), counts.sum(0).double()
    either = there + said - right
    known = either > 0
    iou, dice = right[known] / either[known], 2 * right[known] / (there + said)[known]
    return {
        "miou": float(iou.mean()),
        "dice": float(dice.mean()),
        "pixel_accuracy": float(right.sum() / there.sum()),
        "majority_accuracy": float(there.max() / there.sum()),
    }
