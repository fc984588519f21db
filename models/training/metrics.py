"""What a network is worth on pictures: accuracy; of pixels their accuracy, mean IoU and Dice."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import torch
from fouroptics.models.training.data import IGNORED, Part
from torch import Tensor, nn

from fouroptics.errors import InputError

_CHUNK, _SIDE = 250, 64  # pictures at a time, of up to so many pixels a side, and fewer of larger ones


@cache
def halves_pay(device: str) -> bool:
    """Whether such a device multiplies bfloat16 faster than single precision.

    On x86 its tiles do (AMX). Without any instruction for it it takes ten times as long, and with AVX-512's alone still
    longer: 164 GFLOP/s against 308 in single on a Xeon of 2023, and a teacher's step 0.80 s against 0.61.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":
        return True
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_amx_tile_supported())
    told = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(told and told())


def scores_of(network: nn.Module, pictures: Tensor, amp: bool = False) -> Tensor:
    """A network's scores, in single precision or better whatever it works in."""
    device = pictures.device.type
    with torch.autocast(device, torch.bfloat16, enabled=amp and halves_pay(device)):
        scores: Tensor = network(pictures)
    return scores if scores.dtype == torch.float64 else scores.float()


@torch.no_grad()
def scores_by_chunk(network: nn.Module, part: Part, *, amp: bool = False, chunk: int = 0) -> Iterator[Tensor]:
    """Scores of all pictures in evaluation mode, in chunks of one size, 0 for a usual one.

    The last is filled up, so that no result depends on what it stood beside.
    """
    chunk = chunk or max(1, min(_CHUNK, _CHUNK * _SIDE**2 // math.prod(part.pictures.shape[-2:])))
    was_training = network.training
    network.eval()
    try:
        for first in range(0, len(part), chunk):
            index = torch.arange(first, first + chunk).clamp_max(len(part) - 1).to(part.pictures.device)
            yield scores_of(network, part.batch(index)[0], amp)[: len(part) - first]
    finally:
        network.train(was_training)


def measured(
    network: nn.Module,
    part: Part,
    *,
    amp: bool = False,
    chunk: int = 0,
    each: Callable[[Tensor], object] = lambda _: None,
) -> dict[str, float]:
    """Its figures, the one to choose by first. Scores are given to ``each``, and kept no longer: pixels have many."""
    right, counts, first = 0, torch.zeros((), dtype=torch.int64), 0
    for scores in scores_by_chunk(network, part, amp=amp, chunk=chunk):
        targets = part.targets[first : first + len(scores)]
        first += len(scores)
        each(scores.contiguous())
        if targets.dim() == 1:
            right += int((scores.argmax(1) == targets).sum())
        else:
            counts = counts.to(scores.device) + _confusion(scores, targets)
    return of_confusion(counts) if counts.dim() else {"accuracy": right / len(part)}


def main_of(figures: Mapping[str, Any]) -> float:
    """The figure to choose by."""
    return float(next(iter(figures.values())))


def _confusion(scores: Tensor, targets: Tensor) -> Tensor:
    """Pixels by their class (row) and what they were said to be (column)."""
    said = (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(1)
    classes = max(2, scores.shape[1])
    seen = targets != IGNORED
    pairs = targets[seen].long() * classes + said[seen]
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def of_confusion(counts: Tensor) -> dict[str, float]:
    """From how many pixels of a class (row) were said to be of another (column).

    Mean IoU and Dice are over the classes that are there or were said to be.
    """
    if not bool(counts.any()):
        raise InputError("no pixel of these pictures has a class", where="targets", mend="masks that tell some")
    right, there, said = counts.diag().double(), counts.sum(1).double(), counts.sum(0).double()
    either = there + said - right
    known = either > 0
    iou, dice = right[known] / either[known], 2 * right[known] / (there + said)[known]
    most, kinds = (
        float(there.max() / there.sum()),
        int((there > 0).sum()),
    )  # who says one class of all
    return {
        "miou": float(iou.mean()),
        "dice": float(dice.mean()),
        "pixel_accuracy": float(right.sum() / there.sum()),
        "majority_accuracy": most,
        "majority_miou": most / kinds,
        "majority_dice": 2 * most / (1 + most) / kinds,
    }
