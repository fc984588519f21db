"""What affine networks come to, in closed form: ridge regression of labels on all that a student's band holds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from fouroptics.models.controls import Affine
from fouroptics.models.training.data import Data, Part
from fouroptics.models.training.metrics import main_of, measured
from torch import Tensor

from fouroptics import memory

PENALTIES = tuple(10.0**power for power in range(-7, 1))  # in units of the frequencies' mean power
_CHUNK = 1000  # pictures at a time
_COPIES = 4  # of the covariance: sums, their mean, damped, factored


def check_room(network: Affine, device: torch.device | str) -> None:
    """Refuse a band whose covariance no memory holds.

    Raises:
        InputError: how much it would take.
    """
    count = network.layer.in_features
    what = f"ridge regression on {count} numbers of a picture"
    memory.require(_COPIES * 8 * count**2, device, what=what, mend="another control, a crop or smaller pictures")


@torch.no_grad()
def solve(network: Affine, data: Data) -> None:
    """Least squares on the training pictures as they are, with the penalty that is best on validation."""
    mean, due, power, cross = _moments(network, data.train, len(data.classes))
    unit = power.diagonal().mean()
    best = -1.0
    for penalty in PENALTIES:
        damped = power.clone()
        damped.diagonal().add_(penalty * unit)
        weight = torch.linalg.solve(damped, cross).mT
        before = {name: tensor.clone() for name, tensor in network.layer.state_dict().items()}
        network.layer.weight.copy_(weight)
        network.layer.bias.copy_(due - weight @ mean)
        worth = main_of(measured(network, data.validation))
        if worth > best:
            best = worth
        else:
            network.layer.load_state_dict(before)


def _moments(network: Affine, part: Part, classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means of frequencies and labels, the frequencies' covariance and theirs with the labels, in double precision."""
    count = network.layer.in_features
    sums = [
        torch.zeros(shape, dtype=torch.float64) for shape in ((count,), (classes,), (count, count), (count, classes))
    ]
    sums = [each.to(network.layer.weight.device) for each in sums]
    for index in torch.split(torch.arange(len(part)), _CHUNK):
        pictures, targets = part.batch(index.to(part.pictures.device))
        found, labels = network.frequencies(pictures).double(), F.one_hot(targets, classes).double()
        for whole, some in zip(sums, (found.sum(0), labels.sum(0), found.mT @ found, found.mT @ labels), strict=True):
            whole += some
    mean, due, power, cross = (each / len(part) for each in sums)
    return mean, due, power - mean[:, None] * mean, cross - mean[:, None] * due
