"""Networks to compare a student with: what a part of it is worth, and what the paper compares."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch
from fouroptics.models.backends import Backend
from fouroptics.models.band import Analysis
from fouroptics.models.front import DeepFront, Front, Plan
from fouroptics.models.readouts import Reader
from fouroptics.models.sclc import Student
from torch import Tensor, nn

from fouroptics.errors import InputError
from fouroptics.optics.kept import Kept
from fouroptics.optics.precision import exactly

Pair = tuple[int, int]
_RECTIFIERS = (nn.ReLU, nn.GELU, nn.SiLU, nn.LeakyReLU)


class Square(nn.Module):
    """x²: what the paper puts in place of a rectifier."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.square()


class WithBackend(nn.Module):
    """Features, their means or the largest of them on a grid of readings, and a backend."""

    def __init__(
        self, features: nn.Module, readings: Pair, channels: int, size: Pair, classes: int, backend: Backend,
        *, pooling: str = "mean",
    ) -> None:  # fmt: skip
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveMaxPool2d(readings) if pooling == "max" else nn.AdaptiveAvgPool2d(readings)
        self.norm = nn.BatchNorm2d(channels)
        self.backend = backend.build(channels, readings, size, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.backend(self.norm(self.pool(self.features(pictures))))
        return found


class TwoSided(nn.Module):
    """max(x, 0) of all channels, then max(-x, 0)."""

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.cat((pictures.relu(), (-pictures).relu()), -3)


class Divided(nn.Module):
    """Each number over the root mean square of all channels' at its place, to which a share of a usual 1 is added."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures * (self.share + pictures.square().mean(-3, keepdim=True)).rsqrt()


class Affine(nn.Module):
    """One layer behind all frequencies that a front lets through: every affine network with that band is one such.

    Args:
        plan: of the front.
        classes: scores.
        is_complex: whether its response is, and pictures may be.
    """

    def __init__(self, plan: Plan, classes: int, *, is_complex: bool = False) -> None:
        super().__init__()
        self.geometry = plan.geometry(is_complex)
        self.layer = nn.Linear(2 * plan.channels[0] * math.prod(self.geometry.shape), classes)
        self._analyses: Kept[Analysis] = Kept()

    def frequencies(self, pictures: Tensor) -> Tensor:
        """Real and imaginary parts of each picture's, ``[batch, numbers]``."""
        dtype, device = pictures.dtype, pictures.device
        plan = self._analyses.get((dtype, device), lambda: Analysis(self.geometry, dtype, device))
        return torch.view_as_real(plan(pictures)).flatten(1)

    @exactly
    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.layer(self.frequencies(pictures))
        return found


def still(front: Front) -> DeepFront:
    """Optics that do nothing: output o images input o mod I, as it is, by one tap."""
    plan = front.plan
    outputs, inputs = plan.channels[-1], plan.channels[0]
    made = DeepFront(
        replace(plan, channels=(inputs, outputs), kernels=((1, 1),), crops=plan.crops[-1:]), is_complex=front.is_complex
    )
    with torch.no_grad():
        weight = made.weights[0].zero_()
        taps = weight[..., 0] if front.is_complex else weight
        taps[torch.arange(outputs), torch.arange(outputs) % inputs] = 1.0
    return made


def electronic(student: Student, inputs: int, size: Pair, classes: int, backend: Backend) -> nn.Module:
    """One electronic convolution as wide as the student, rectified as it is, and the same backend."""
    plan, reader = student.front.plan, student.reader
    if not isinstance(reader, Reader):
        mend = 'detect="last", or another control'
        raise InputError("one convolution has one level", where="evaluate.controls", mend=mend)
    sides = [n + n % 2 - 1 for n in (2 * r + 1 for r in plan.reach)]
    conv = nn.Conv2d(inputs, plan.channels[-1], (sides[0], sides[1]), padding=(sides[0] // 2, sides[1] // 2))
    two_sided = reader.compand == "two-sided-rectify"
    divided = [nn.BatchNorm2d(plan.channels[-1]), Divided(reader.divisive)] if reader.divisive else []
    features = nn.Sequential(conv, *divided, TwoSided() if two_sided else nn.ReLU())
    return WithBackend(features, reader.size, reader.channels, size, classes, backend, pooling=reader.pooling)


def backend_only(inputs: int, size: Pair, readings: Pair | None, classes: int, backend: Backend) -> nn.Module:
    """No optics: the camera's means of the picture itself, and the backend."""
    return WithBackend(nn.Identity(), readings or size, inputs, size, classes, backend)


def max_pooled(teacher: nn.Module, size: Pair, readings: Pair | None, classes: int, backend: Backend) -> nn.Module:
    """The teacher's convolutions and max pools without its rectifiers. A max pool is not linear: no light does this."""
    return _changed(teacher, nn.Identity, size, readings, classes, backend)


def squared(teacher: nn.Module, size: Pair, readings: Pair | None, classes: int, backend: Backend) -> nn.Module:
    """The teacher's convolutions with squares in place of its rectifiers."""
    return _changed(teacher, Square, size, readings, classes, backend)


def _changed(
    teacher: nn.Module, instead: type[nn.Module], size: Pair, readings: Pair | None, classes: int, backend: Backend
) -> nn.Module:
    """A network like the teacher's features, begun anew."""
    features = getattr(teacher, "features", None)
    if not isinstance(features, nn.Sequential):
        mend = "a teacher whose convolutions are an nn.Sequential called features"
        raise InputError("has no features to be like", where=type(teacher).__name__, mend=mend)
    layers = [instead() if isinstance(layer, _RECTIFIERS) else copy.deepcopy(layer) for layer in features]
    for layer in layers:
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()  # type: ignore[operator]
    body = nn.Sequential(*layers).requires_grad_(True)
    first = next((layer for layer in layers if isinstance(layer, nn.Conv2d)), None)
    if first is None:
        raise InputError("has no nn.Conv2d", where=f"{type(teacher).__name__}.features", mend="another teacher")
    body.eval()
    with torch.no_grad():
        made = body(torch.zeros(1, first.in_channels, *size))
    grid = readings or (made.shape[-2], made.shape[-1])
    if math.prod(grid) < 1:
        raise InputError("nothing is left of the pictures", where="data.size", mend="larger ones")
    return WithBackend(body.train(), grid, made.shape[1], size, classes, backend)
