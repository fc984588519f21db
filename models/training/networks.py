"""The networks that a recipe describes."""

from __future__ import annotations

from typing import Any

import torch
from fouroptics.models import controls
from fouroptics.models.backends import Backend, built
from fouroptics.models.front import DeepFront
from fouroptics.models.released import Released
from fouroptics.models.sclc import SCLC
from fouroptics.models.teachers import AlexNet, QuickCNN, SmallCNN, UNet
from fouroptics.models.training.data import Data
from fouroptics.models.training.recipe import BackendSection, Recipe
from torch import Tensor, nn

from fouroptics.errors import InputError

RIDGE = "ridge"  # the control that is solved, not trained
_PATCHES = 100_000


def teacher_of(recipe: Recipe, data: Data) -> nn.Module:
    """The teacher, untrained."""
    section, classes = recipe.teacher, len(data.classes)
    side = _square(data, section.model) if section.model in ("alexnet", "released", "quick-cnn") else data.size[0]
    if data.is_segmentation != (section.model == "unet"):
        what = f"{section.model} for {'pixels' if data.is_segmentation else 'pictures'}"
        raise InputError(what, where="teacher.model", mend="unet tells pixels apart, the others pictures")
    widths: dict[str, Any] = {"widths": section.widths} if section.widths else {}
    if section.model in ("small-cnn", "quick-cnn"):
        kind: type[SmallCNN | QuickCNN] = SmallCNN if section.model == "small-cnn" else QuickCNN
        return kind(classes, side, inputs=data.channels, **widths)
    if section.model == "unet":
        return UNet(classes, inputs=data.channels, **widths)
    if data.channels != 3:
        raise InputError(f"{section.model} takes colours", where="teacher.model", mend='data.channels = "rgb"')
    return AlexNet(classes, side, hidden=section.hidden) if section.model == "alexnet" else Released(classes, side)


def likened_to(recipe: Recipe, data: Data, given: nn.Module | None = None) -> nn.Module:
    """What a student may be like: one's own teacher, or the recipe's untrained; nothing where it is like none."""
    return given or (teacher_of(recipe, data) if recipe.needs_teacher else nn.Module())


def student_of(recipe: Recipe, data: Data, teacher: nn.Module, *, is_new: bool = True) -> nn.Module:
    """The student, its readings normalised on training pictures; or a network that one is compared with.

    One that is not new is about to be given its tensors.
    """
    section = recipe.student
    if section.model == "sclc":
        student = _sclc(recipe, data, teacher)
        if section.initial == "patches":
            check_patches(student)
        if is_new:
            _begin(student, section.initial, data)
        return student
    classes, backend = len(data.classes), _backend(section.backend)
    if section.model == "released":
        return Released(classes, _square(data, "released"))
    if section.model == "backend-only":
        return controls.backend_only(data.channels, data.size, section.sensor_pool, classes, backend)
    make = controls.max_pooled if section.model == "max-pool" else controls.squared
    return make(teacher, data.size, section.sensor_pool, classes, backend)


def control_of(
    kind: str, recipe: Recipe, data: Data, given: nn.Module | None = None, *, is_new: bool = True
) -> nn.Module:
    """What a student is compared with: optics that are off, not learned or electronic; or affine maps."""
    section = recipe.student
    student = _sclc(recipe, data, likened_to(recipe, data, given))
    if kind == RIDGE:
        if data.is_segmentation:
            raise InputError("one layer for whole pictures", where="evaluate.controls", mend="another control")
        return controls.Affine(student.front.chain, len(data.classes), is_complex=student.front.is_complex)
    if kind == "electronic-same-backend":
        return controls.electronic(student, data.channels, data.size, len(data.classes), _backend(section.backend))
    is_off = kind == "optics-off"
    student.front = controls.still(student.front) if is_off else student.front
    student.front.requires_grad_(False)
    if is_new:
        _begin(student, "random" if is_off else section.initial, data)
    return student


def _begin(student: SCLC, initial: str, data: Data) -> None:
    """Kernels as a student begins with them, and readings that are normalised."""
    if initial == "patches":
        begin_with_patches(student, data.some(20_000, seed=1))
    student.normalise(data.some(1000, seed=0))


def _sclc(recipe: Recipe, data: Data, teacher: nn.Module) -> SCLC:
    section = recipe.student
    if data.is_segmentation != (section.backend.kind == "up"):
        mend = '"up" gives scores of pixels, the others of pictures'
        raise InputError(f"{section.backend.kind!r} for these targets", where="student.backend.kind", mend=mend)
    if section.like == "teacher":
        return SCLC.like(teacher, data.size, guard=recipe.data.guard, **_readers(recipe, data))
    if section.channels[0] != data.channels:
        what = f"{section.channels[0]} inputs, and pictures of {data.channels} channels"
        raise InputError(what, where="student.channels", mend=f"begin with {data.channels}")
    crops = [side or None for side in section.crops] or None
    return sclc_of(recipe, data, section.channels, section.kernel, crops, recipe.data.guard)


def sclc_of(recipe: Recipe, data: Data, channels: Any, kernels: Any, crops: Any, guard: Any) -> SCLC:
    """A student of a chain, read as a recipe says."""
    return SCLC(channels, kernels, crops, data.size, guard=guard, **_readers(recipe, data))


def _readers(recipe: Recipe, data: Data) -> dict[str, Any]:
    section = recipe.student
    return {
        "readout": section.readout, "compand": section.compand, "classes": len(data.classes),
        "sensor_pool": section.sensor_pool, "backend": _backend(section.backend), "reference": section.reference,
        "is_complex": section.is_complex, "detect": section.detect, "divisive": section.divisive,
        "pooling": section.pooling,
        "parameters": section.parameters, "camera_pixel": recipe.camera_pixel,
    }  # fmt: skip


def check_patches(student: SCLC) -> DeepFront:
    """The one real layer that patches can be the kernels of."""
    front = student.front
    if not isinstance(front, DeepFront) or len(front.weights) != 1 or front.is_complex:
        raise InputError("patches are kernels of one real layer", where="student.initial", mend='"random"')
    return front


@torch.no_grad()
def begin_with_patches(student: SCLC, pictures: Tensor) -> None:
    """Kernels that are patches of the pictures, whitened: what tells them from other patches, and nothing else.

    Whitening is linear, so it is folded into the kernels: a response is the scalar product of a whitened patch of the
    picture with a whitened patch that was drawn.
    """
    front = check_patches(student)
    weight = front.weights[0]
    outputs, taps = weight.shape[0], (weight.shape[2], weight.shape[3])
    draw = torch.Generator().manual_seed(int(torch.randint(2**62, (1,))))
    patches = _patches(pictures, taps, max(_PATCHES, outputs), draw).to(weight)
    patches = patches - patches.mean(0)
    covariance = patches.mT @ patches / len(patches)
    values, vectors = torch.linalg.eigh(covariance.double())
    whitening = (vectors * (values + 1e-2 * values.mean()).rsqrt()) @ vectors.mT
    chosen = patches[torch.randperm(len(patches), generator=draw)[:outputs]].double() @ whitening
    kernels = (chosen / chosen.norm(dim=1, keepdim=True)) @ whitening
    kernels = kernels - kernels.mean(1, keepdim=True)
    weight.copy_(kernels.reshape(weight.shape))
    weight /= front.transfer().abs().square().mean().sqrt()


def _patches(pictures: Tensor, taps: tuple[int, int], count: int, draw: torch.Generator) -> Tensor:
    """Patches from all over the pictures, ``[count, C·ky·kx]``, their contrast brought to one level."""
    height, width = pictures.shape[-2:]
    which = torch.randint(len(pictures), (count,), generator=draw)
    tops, lefts = (
        torch.randint(max(1, side - k + 1), (count,), generator=draw)
        for side, k in zip((height, width), taps, strict=True)
    )
    rows, columns = (at[:, None] + torch.arange(k) for at, k in zip((tops, lefts), taps, strict=True))
    found = pictures[which[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).flatten(1)
    spread = found.std(1, keepdim=True)
    return (found - found.mean(1, keepdim=True)) / (spread + 0.04)


def _backend(section: BackendSection) -> Backend:
    return built(section.kind, section.hidden, section.dropout)


def _square(data: Data, model: str) -> int:
    height, width = data.size
    if height != width:
        raise InputError(f"pictures of {height}×{width}", where="data.size", mend=f"{model} takes square ones")
    return height
