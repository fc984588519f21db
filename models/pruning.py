"""Fewer masks: a student of the outputs that its electronics listens to most."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from fouroptics.models.front import DeepFront, Front, PlaneFront
from fouroptics.models.readouts import Moments, Reader
from fouroptics.models.sclc import Student
from torch import Tensor, nn

from fouroptics.errors import InputError

_CHUNK = 256  # pictures at a time


@torch.no_grad()
def importance(student: Student, pictures: Tensor | None = None) -> Tensor:
    """How loudly the backend's first layer hears each output: the norm of its weights, times its readings' spread.

    The spread is that on training pictures; without any it is taken as 1, which it is when a training begins.
    """
    reader, first = _reader(student), _first(student.backend)
    weights = first.weight.flatten(1).square().sum(0)
    channels = weights.reshape(reader.channels, -1).sum(1).double()
    if pictures is not None:
        moments = Moments()
        for part in torch.split(pictures, _CHUNK):
            moments.add(reader.normalised(student.readings(part)))
        channels = channels * moments.mean_and_spread()[1].square()
    return channels.reshape(-1, reader.outputs).sum(0).sqrt()


@torch.no_grad()
def pruned(student: Student, count: int, pictures: Tensor | None = None) -> Student:
    """The same student with so many of its outputs, the most important ones, detached from the one it was made of.

    What is left out is heard as its mean would be. Nothing is trained: a few epochs of the backend make up for much.

    Args:
        student: as it was trained.
        count: of the outputs that are left.
        pictures: training pictures: how far each output's readings spread on them counts. They have to be given where
            readings are divided by all outputs': there are fewer to divide by then, and what readings are usually like
            is measured anew.

    Raises:
        InputError: it has not as many, its electronics does not begin with a layer of weights, or pictures are lacking.
    """
    student = getattr(student, "module", getattr(student, "_orig_mod", student))  # of DataParallel, of torch.compile
    outputs = student.reader.outputs
    if not 1 <= count <= outputs:
        mend = f"a number from 1 to {outputs}"
        raise InputError(f"{count} of {outputs} outputs", where="pruned", mend=mend)
    if student.reader.divisive and pictures is None:
        mend = "pruned(student, count, pictures), of training"
        raise InputError("readings are divided by those of all outputs", where="pruned", mend=mend)
    kept = importance(student, pictures).topk(count).indices.sort().values
    made = copy.deepcopy(student)
    made.front, made.reader, made.backend = (
        _front(student, kept),
        _kept_readings(student, kept),
        _backend(student, kept),
    )
    learned = {name: parameter.requires_grad for name, parameter in student.named_parameters()}
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(learned.get(name, True))
    if student.reader.divisive and pictures is not None:
        made.normalise(pictures)
    return made.train(student.training)


def _front(student: Student, kept: Tensor) -> Front:
    front = student.front
    plan = replace(front.plan, channels=(*front.plan.channels[:-1], len(kept)))
    if isinstance(front, DeepFront):
        chain = copy.deepcopy(front)
        chain.plan = chain.chain = plan
        chain.weights[-1] = nn.Parameter(front.weights[-1][kept].clone())
        return chain
    return PlaneFront(plan, front.transfer()[kept], is_complex=front.is_complex, chain=front.chain)


def _kept_readings(student: Student, kept: Tensor) -> Reader:
    old = _reader(student)
    made = old.of(len(kept))
    made.mean.copy_(old.mean[_channels(old, kept)])
    made.spread.copy_(old.spread[_channels(old, kept)])
    if made.bias is not None and old.bias is not None:
        made.bias.copy_(old.bias[kept])
    return made


def _backend(student: Student, kept: Tensor) -> nn.Module:
    """The same layers, the first without the weights of what is gone."""
    reader, made = _reader(student), copy.deepcopy(student.backend)
    first, channels = _first(made), _channels(reader, kept)
    weight = first.weight.reshape(len(first.weight), reader.channels, -1, *first.weight.shape[2:])[:, channels]
    first.weight = nn.Parameter(weight.reshape(len(weight), -1, *first.weight.shape[2:]).clone())
    if isinstance(first, nn.Linear):
        first.in_features = first.weight.shape[1]
    else:
        first.in_channels = first.weight.shape[1]
    return made


def _channels(reader: Reader, kept: Tensor) -> Tensor:
    """Numbers of the readings of some outputs: of two-sided ones, all positive before all negative."""
    return kept if reader.channels == reader.outputs else torch.cat((kept, kept + reader.outputs))


def _reader(student: Student) -> Reader:
    if not isinstance(student.reader, Reader):
        raise InputError("levels of outputs", where="pruned", mend='a student with detect="last"')
    return student.reader


def _first(backend: nn.Module) -> nn.Linear | nn.Conv2d:
    for layer in backend.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            return layer
        if not isinstance(layer, nn.Sequential | nn.Flatten | nn.Dropout | nn.Identity):
            break
    raise InputError("a backend that does not begin with weights", where="pruned", mend="fully connected, or conv")
