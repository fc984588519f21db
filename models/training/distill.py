"""Losses of distillation: what a student is told of its teacher's scores, beside the labels.

Scores are ``[batch, classes]`` or, of pixels, ``[batch, classes, y, x]``. Targets of 255 count nothing.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fouroptics.errors import InputError, check_choice

Loss = Literal["kd", "dkd", "logit-std", "function-matching", "pixel-kd"]
LOSSES = ("kd", "dkd", "logit-std", "function-matching", "pixel-kd")
IGNORED = 255
_OF_MANY = ("dkd", "logit-std")  # with two classes nothing is left of them


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor | None,
    *,
    temperature: float = 4.0,
    hard_weight: float = 0.1,
    kind: Loss = "kd",
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """hard_weight · cross-entropy + (1 − hard_weight) · what the teacher says.

    ``kd`` is Eq. 8 of the paper: T²·KL(teacher ‖ student), both softened by T. The T² keeps the gradient's size, which
    falls with it, as it was at T = 1. ``dkd`` weighs the target's part (``alpha``) and that of the others among
    themselves (``beta``) apart. ``logit-std`` brings each sample's scores to zero mean and unit spread before.
    ``function-matching`` is the divergence at T = 1 alone, whatever ``temperature`` and ``hard_weight`` say; of labels
    it takes which pixels have one, if that. ``pixel-kd`` is ``kd`` pixel by pixel; with one score a pixel, between two
    probabilities.

    Raises:
        InputError: a loss of which two classes leave nothing.
    """
    check_choice("loss", kind, LOSSES)
    _check(student, teacher, kind)
    seen = labels != IGNORED if labels is not None and student.dim() == 4 else None
    if kind == "function-matching":
        return _divergence(student, teacher, 1.0, seen)
    if labels is None:
        raise InputError("labels are missing", where="labels", mend='give them, or kind="function-matching"')
    if kind == "dkd":
        soft = _decoupled(student, teacher, labels, temperature, alpha, beta)
    elif kind == "logit-std":
        soft = _divergence(_standardised(student), _standardised(teacher), temperature, seen)
    else:
        soft = _divergence(student, teacher, temperature, seen)
    return hard_weight * hard_loss(student, labels) + (1 - hard_weight) * soft


def hard_loss(scores: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with the labels; of one score a pixel, that of the probability of class 1."""
    if scores.dim() == 4 and scores.shape[1] == 1:
        seen = labels != IGNORED
        if not bool(seen.any()):
            return scores.sum() * 0
        return F.binary_cross_entropy_with_logits(scores[:, 0][seen], labels[seen].to(scores.dtype))
    if scores.dim() == 2:
        return F.cross_entropy(scores, labels, label_smoothing=smoothing)
    if not bool((labels != IGNORED).any()):
        return scores.sum() * 0
    return F.cross_entropy(scores, labels, ignore_index=IGNORED, label_smoothing=smoothing)


def _check(student: Tensor, teacher: Tensor, kind: str) -> None:
    if student.shape != teacher.shape:
        what = f"the student's scores are {[*student.shape]}, the teacher's {[*teacher.shape]}"
        raise InputError(what, where="loss", mend="both tell the same classes apart")
    classes = student.shape[1]
    if student.dim() == 2 and classes == 1:
        what = "one score a picture tells no classes apart here"
        raise InputError(what, where="loss", mend="a score a class; of pixels one score will do")
    if kind == "dkd" and student.dim() != 2:
        raise InputError("dkd is of pictures, these are pixels", where="distill.loss", mend='loss = "pixel-kd"')
    if kind in _OF_MANY and classes < 3:
        why = {
            "dkd": "the part of the other classes is nothing when there is one other",
            "logit-std": "two standardised scores are +0.7 and -0.7 whatever they were",
        }[kind]
        raise InputError(f"{kind} of {classes} classes: {why}", where="distill.loss", mend='loss = "kd"')


def _divergence(student: Tensor, teacher: Tensor, temperature: float, seen: Tensor | None) -> Tensor:
    """T²·KL(teacher ‖ student), the mean over samples or over pixels that are seen."""
    if student.shape[1] == 1:
        student, teacher = (torch.cat((torch.zeros_like(one), one), 1) for one in (student, teacher))
    said, due = (F.log_softmax(one / temperature, 1) for one in (student, teacher))
    each = (due.exp() * (due - said)).sum(1)
    if seen is None:
        return temperature**2 * each.mean()
    return temperature**2 * each[seen].sum() / max(1, int(seen.sum()))


def _standardised(scores: Tensor) -> Tensor:
    mean, spread = scores.mean(1, keepdim=True), scores.std(1, keepdim=True)
    return (scores - mean) / (spread + 1e-7)


def _decoupled(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float, beta: float
) -> Tensor:
    """T²·(α · KL of target against the rest + β · KL of the others among themselves)."""
    is_target = F.one_hot(labels, student.shape[1]).bool()
    said, due = (one / temperature for one in (student, teacher))
    pairs = [torch.stack((_log_share(one, is_target), _log_share(one, ~is_target)), 1) for one in (said, due)]
    of_target = (pairs[1].exp() * (pairs[1] - pairs[0])).sum(1)
    others = [one.masked_fill(is_target, -torch.inf).log_softmax(1).masked_fill(is_target, 0) for one in (said, due)]
    weight = others[1].exp().masked_fill(is_target, 0)
    of_others = (weight * (others[1] - others[0])).sum(1)
    return temperature**2 * (alpha * of_target + beta * of_others).mean()


def _log_share(scores: Tensor, of: Tensor) -> Tensor:
    """log of the softmax's share that some classes have together."""
    return scores.masked_fill(~of, -torch.inf).logsumexp(1) - scores.logsumexp(1)
