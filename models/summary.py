"""A student in numbers: what it is, what it holds, what it costs on either side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from fouroptics.models.backends import UpPath
from fouroptics.models.front import Front
from fouroptics.models.pyramid import LevelReader
from fouroptics.models.readouts import Reader, Sensor
from torch import Tensor, nn

Pair = tuple[int, int]
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_WORKING = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)  # layers of a backend that multiply
_AFFINE = (nn.Linear, nn.Flatten, nn.Identity, nn.Dropout)
_KNOWN = (*_AFFINE, nn.ReLU, nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d)
_CONTAINERS = (nn.Sequential, nn.ModuleList, UpPath)  # which do no more than run their layers


@dataclass(frozen=True)
class Summary:
    """Sizes, and multiplications of real numbers for one picture.

    ``deep_macs`` are those of the chain as convolutions on pictures without a guard; ``folded_macs`` those of the
    simulated fold: waves along both axes, the product on the band, samples, and the camera's squares;
    ``following_macs`` those of electronics on readings, before the backend.
    """

    function: str
    parameters: int
    responses: int
    masks: int
    band: Pair
    grid: Pair
    deep_macs: int
    folded_macs: int
    following_macs: int
    backend_macs: int
    adc_samples: int

    def __str__(self) -> str:
        rows: list[tuple[str, Any]] = [
            ("function", self.function),
            ("parameters", f"{self.parameters:,}"),
            ("responses", f"{self.responses:,} transfer functions, on {self.masks:,} masks if inputs are tiled"),
            ("band", f"{self.band[0]}×{self.band[1]} of {self.grid[0]}×{self.grid[1]} with the guard"),
            ("MACs, layers", f"{self.deep_macs:,} by convolution, {self.folded_macs:,} folded, as simulated"),
            *([("MACs, readings", f"{self.following_macs:,} to divide them")] if self.following_macs else []),
            ("MACs, backend", f"{self.backend_macs:,}"),
            ("ADC samples", f"{self.adc_samples:,} a picture"),
        ]
        return "\n".join(f"{name:<15} {value}" for name, value in rows)


def summarised(front: Front, reader: Reader | LevelReader, backend: nn.Module) -> Summary:
    """What a student of these is."""
    plan, pairs = front.plan, 2 if reader.kind == "pair_intensity" else 1
    return Summary(
        function=_function(reader, backend),
        parameters=sum(p.numel() for part in (front, reader, backend) for p in part.parameters()),
        responses=plan.channels[0] * plan.channels[-1] * pairs,
        masks=plan.channels[-1] * pairs,
        band=plan.grids[-1],
        grid=plan.grid,
        deep_macs=_deep_macs(front),
        folded_macs=_folded_macs(front, reader, pairs),
        following_macs=reader.following_macs,
        backend_macs=count_macs(backend, reader.dark(1)),
        adc_samples=reader.samples,
    )


def count_macs(network: nn.Module, given: Any) -> int:
    """Multiplications of a network's convolutions and fully connected layers for a picture of what is given."""
    counted: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Tensor], made: Tensor) -> None:
        weight: Tensor = layer.weight  # type: ignore[assignment]
        if isinstance(layer, nn.Linear):
            counted.append(weight.numel() * (made.numel() // made.shape[-1]) // len(made))
            return
        samples = (inputs[0] if isinstance(layer, _TRANSPOSED) else made).shape[2:]
        counted.append(weight.numel() * math.prod(samples))

    hooks = [one.register_forward_hook(count) for one in network.modules() if isinstance(one, _WORKING)]
    modes = {layer: layer.training for layer in network.modules()}
    with torch.no_grad():
        network.eval()(given)
    for layer, mode in modes.items():
        layer.training = mode
    for hook in hooks:
        hook.remove()
    return sum(counted)


def _deep_macs(front: Front) -> int:
    plan = front.chain
    seen = (plan.size, *plan.crops)
    complex_ones = [1] * len(plan.kernels) if not front.is_complex else [2] + [4] * (len(plan.kernels) - 1)
    return sum(
        factor * inputs * outputs * math.prod(kernel) * math.prod(size)
        for factor, (inputs, outputs), kernel, size in zip(
            complex_ones, pairwise(plan.channels), plan.kernels, seen, strict=False
        )
    )


def _folded_macs(front: Front, reader: Sensor, pairs: int) -> int:
    plan, geometry = front.plan, front.geometry
    (height, width), (rows, columns) = plan.size, geometry.shape
    inputs, outputs = plan.channels[0], plan.channels[-1] * pairs
    down, along = (2 * (n // 2 + 1) for n in geometry.kept)  # real and imaginary parts of waves from bin 0 on
    y, x = geometry.fine if reader.means is None else (len(matrix) for matrix in reader.means)
    parts = 2 if front.is_complex else 1
    analysis = inputs * down * width * (height + along)
    product = 4 * inputs * outputs * rows * columns
    synthesis = outputs * (rows * 2 * columns * 2 * x + parts * y * 2 * rows * x)
    return analysis + product + synthesis + outputs * reader.macs


def _function(reader: Reader | LevelReader, backend: nn.Module) -> str:
    """The class of functions of the pixels that a student can make."""
    kinds = {type(layer) for layer in backend.modules()} - set(_CONTAINERS)  # a class of somebody's own may do anything
    other = kinds - set(_AFFINE)
    behind = "affine" if not other else "a CNN" if nn.Conv2d in kinds else "an MLP"
    if not other <= set(_KNOWN):
        behind = f"a network of {', '.join(sorted(kind.__name__ for kind in other))}"
    if reader.is_linear:
        return "affine" if behind == "affine" else f"{behind} of linear features"
    name = "quadratic" if reader.compand == "none" else "rectified" if "rectify" in reader.compand else "companded"
    if reader.divisive:
        name = "divided" if reader.compand == "none" else f"divided and {name}"
    if isinstance(reader, Reader) and reader.pooling == "max":
        name = f"{name}, the largest of each pool"
    return f"{name}, then {behind}"
