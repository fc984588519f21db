"""The SCLC student: linear optics, a detector, electronics. And its fold: all of the optics in one plane of masks."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from fouroptics.models.front import DeepFront, Front, Plan, PlaneFront
from fouroptics.models.readouts import Reader, classifier
from torch import Tensor, nn

from fouroptics.devices.readout import Compand, Readout
from fouroptics.errors import InputError, check_choice

Pair = tuple[int, int]
Side = int | Pair | None
Kernel = int | Pair | Literal["full"]


class Student(nn.Module):
    """Front end, readout and backend: what an SCLC and its fold have in common.

    Args:
        front: the linear optics.
        reader: the detector and its electronics.
        backend: readings to scores.
    """

    def __init__(self, front: Front, reader: Reader, backend: nn.Module) -> None:
        super().__init__()
        self.front, self.reader, self.backend = front, reader, backend

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores of pictures ``[batch, in, y, x]`` in [0, 1]."""
        return self.scores(self.field(pictures))

    def field(self, pictures: Tensor) -> Tensor:
        """The field on the camera, ``[batch, out, v, u]``."""
        if self.reader.kind != "pair_intensity":
            found: Tensor = self.front(pictures)
            return found
        return self.front.respond(pictures, torch.cat(self.front.parts(), 0))

    def scores(self, field: Tensor) -> Tensor:
        """What electronics makes of a field."""
        found: Tensor = self.backend(self.reader(field))
        return found

    @torch.no_grad()
    def normalise(self, pictures: Tensor) -> None:
        """Freeze the readings' mean and spread as they are on some training pictures."""
        self.reader.normalise(self.reader.raw(self.field(pictures)))

    def summary(self) -> Summary:
        """Sizes, work and the kind of function that this is."""
        return Summary.of(self)


class SCLC(Student):
    """A linear spectral student, its convolutions composed on the band that its last crop keeps.

    Args:
        channels: inputs, then outputs of each convolution.
        kernel_size: taps of all, of each, or ``"full"``: as wide as the guard lets them be.
        crops: samples of the picture behind each convolution; None where nothing is cropped.
        size: samples of a picture.
        readout: what the camera learns of the field; there is no default, it decides what can be learned.
        classes: scores.
        compand: what electronics does to each reading.
        sensor_pool: readings of an output ``(Y, X)``.
        backend: widths between readings and scores; none for one layer.
        guard: dark samples beside the picture; left out: as wide as a response. 0 lets pictures wrap.
        is_complex: of the kernels.
        parameters: ``"deep"`` trains the convolutions, ``"plane"`` the transfer function that they come to.
    """

    def __init__(
        self,
        channels: Sequence[int],
        kernel_size: Kernel | Sequence[int | Pair] = 3,
        crops: Sequence[Side] | None = None,
        size: int | Pair = 32,
        *,
        readout: Readout,
        classes: int,
        compand: Compand = "none",
        sensor_pool: Side = None,
        backend: Sequence[int] = (),
        guard: Side = None,
        is_complex: bool = False,
        parameters: Literal["deep", "plane"] = "deep",
    ) -> None:
        check_choice("parameters", parameters, ("deep", "plane"))
        layers, side = len(channels) - 1, _pair(size)
        dark = None if guard is None else _pair(guard)
        plan = Plan.of(
            side,
            channels,
            _kernels(kernel_size, layers, dark),
            [None] * layers if crops is None else [None if one is None else _pair(one) for one in crops],
            dark,
        )
        front: Front = DeepFront(plan, is_complex=is_complex)
        if parameters == "plane":
            front = PlaneFront(plan, front.transfer(), is_complex=is_complex)
        pool = None if sensor_pool is None else _pair(sensor_pool)
        reader = Reader(readout, compand, plan.grids[-1], plan.crops[-1], pool, channels[-1])
        features = reader.channels * math.prod(reader.size)
        super().__init__(front, reader, classifier(features, tuple(backend), classes))

    def forward_layers(self, pictures: Tensor) -> Tensor:
        """The same scores by one layer after another: the slow reference."""
        if not isinstance(self.front, DeepFront):
            raise InputError("a plane has no layers", where="forward_layers", mend='parameters="deep"')
        if self.reader.kind == "pair_intensity":
            raise InputError("pairs are parts of the composed kernels", where="forward_layers", mend="another readout")
        return self.scores(self.front.by_layers(pictures))


class FoldedSCLC(Student):
    """A student whose optics is one plane of masks."""

    front: PlaneFront

    @property
    def plane(self) -> Tensor:
        """The transfer function on the band, ``[out, in, rows, columns, 2]``."""
        return self.front.plane


def fold(student: nn.Module) -> FoldedSCLC:
    """The same function with one plane, detached from the student that it was made of.

    Raises:
        InputError: something in it has no linear counterpart; its name.
    """
    if not isinstance(student, Student):
        raise _not_foldable(student)
    front = student.front
    with torch.no_grad():
        plane = PlaneFront(front.plan, front.transfer(), is_complex=front.is_complex)
    folded = FoldedSCLC(plane, copy.deepcopy(student.reader), copy.deepcopy(student.backend))
    return folded.train(student.training)


def _not_foldable(network: nn.Module) -> InputError:
    """What in a network a fold cannot take."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.ReLU | nn.MaxPool2d | nn.GELU | nn.BatchNorm2d | nn.Dropout | nn.AdaptiveAvgPool2d):
            what = f"{type(layer).__name__} is not linear and shift-invariant"
            return InputError(what, where=name or type(network).__name__, mend="SCLC.like(network) leaves it out")
        if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "circular" or layer.stride != (1, 1)):
            what = f"a convolution of stride {layer.stride[0]} with {layer.padding_mode} borders of its own"
            return InputError(what, where=name, mend="SCLC: one guard at the input, a crop behind")
    return InputError(f"{type(network).__name__} is no student", where="fold", mend="fold an SCLC")


@dataclass(frozen=True)
class Summary:
    """A student in numbers; MACs are multiplications of real numbers for one picture."""

    function: str
    parameters: int
    responses: int
    band: Pair
    grid: Pair
    deep_macs: int
    folded_macs: int
    backend_macs: int
    adc_samples: int

    @classmethod
    def of(cls, student: Student) -> Summary:
        plan, reader = student.front.plan, student.reader
        pairs = list(zip(pairwise(plan.channels), plan.kernels, plan.grids, strict=False))
        bins = math.prod(student.front.geometry.shape)
        linear = [layer for layer in student.backend.modules() if isinstance(layer, nn.Linear)]
        return cls(
            function=_function(reader, len(linear)),
            parameters=sum(p.numel() for p in student.parameters()),
            responses=plan.channels[0] * plan.channels[-1],
            band=plan.grids[-1],
            grid=plan.grid,
            deep_macs=sum(i * o * math.prod(k) * math.prod(grid) for (i, o), k, grid in pairs),
            folded_macs=4 * plan.channels[0] * plan.channels[-1] * bins,
            backend_macs=sum(layer.in_features * layer.out_features for layer in linear),
            adc_samples=reader.samples,
        )

    def __str__(self) -> str:
        rows: list[tuple[str, Any]] = [
            ("function", self.function),
            ("parameters", self.parameters),
            ("responses", f"{self.responses} transfer functions, each a kernel on the mask plane"),
            ("band", f"{self.band[0]}×{self.band[1]} of {self.grid[0]}×{self.grid[1]} with the guard"),
            ("MACs, layers", f"{self.deep_macs:,} by convolution, {self.folded_macs:,} folded, on the band"),
            ("MACs, backend", f"{self.backend_macs:,}"),
            ("ADC samples", f"{self.adc_samples:,} a picture"),
        ]
        return "\n".join(f"{name:<15} {value}" for name, value in rows)


def _function(reader: Reader, layers: int) -> str:
    """The class of functions of the pixels that a student can make."""
    if reader.is_linear:
        return "affine" if layers == 1 else "an MLP of linear features"
    name = "quadratic" if reader.compand == "none" else f"{'rectified' if 'rectify' in reader.compand else 'companded'}"
    return f"{name}, then {'affine' if layers == 1 else 'an MLP'}"


def _kernels(given: Any, layers: int, guard: Pair | None) -> list[Pair]:
    if given == "full":
        if guard is None or layers != 1:
            what = "a full aperture is one layer, its taps as wide as the guard"
            raise InputError(what, where="kernel_size", mend="one convolution, and a guard in samples")
        return [(2 * guard[0] + 1, 2 * guard[1] + 1)]
    if isinstance(given, int):
        return [(given, given)] * layers
    return [_pair(one) for one in given]


def _pair(side: int | Pair) -> Pair:
    return (side, side) if isinstance(side, int) else (side[0], side[1])
