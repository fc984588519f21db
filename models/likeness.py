"""What of a nonlinear network has a linear counterpart: its blocks, and what stands in a fold's way."""

from __future__ import annotations

from collections.abc import Iterator

from fouroptics.models.released import RealPart
from fouroptics.models.spectral import SpectralConv2d, SpectralPool2d
from torch import nn

from fouroptics.errors import InputError

Pair = tuple[int, int]
_LEFT_OUT = (nn.ReLU, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d, nn.Identity, RealPart)
_OF_A_CHAIN = (nn.Conv2d, SpectralConv2d, SpectralPool2d, nn.Identity, nn.Sequential, nn.ModuleList)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, SpectralPool2d)


def blocks_of(teacher: nn.Module, size: Pair) -> tuple[list[int], list[Pair], list[Pair | None]]:
    """Channels, taps and what is left of the picture, convolution by convolution."""
    features = getattr(teacher, "features", getattr(teacher, "contracting", None))
    if not isinstance(features, nn.Sequential):
        mend = "a teacher whose convolutions are an nn.Sequential called features"
        raise InputError("has no features to be like", where=type(teacher).__name__, mend=mend)
    channels: list[int] = []
    kernels: list[Pair] = []
    crops: list[Pair | None] = []
    seen = kept = size  # of the teacher, whose borders may add samples, and of the student
    for name, layer in _in_order("features", features):
        if isinstance(layer, nn.Conv2d | SpectralConv2d):
            _refuse_unlike(name, layer, channels[-1] if channels else layer.in_channels)
            channels += [layer.out_channels] if channels else [layer.in_channels, layer.out_channels]
            kernels.append((layer.kernel_size[0], layer.kernel_size[1]))
            crops.append(None)
        elif isinstance(layer, _LEFT_OUT):
            continue
        elif not isinstance(layer, _POOLS):
            what = f"{type(layer).__name__} has no linear counterpart"
            raise InputError(what, where=name, mend="convolutions, pools, rectifiers and batch norms have")
        if not crops:
            raise InputError("a pool before any convolution", where=name, mend="begin with a convolution")
        left = _size_behind(layer, seen)
        if min(left) < 1:
            what = f"leaves nothing of {seen[0]}×{seen[1]} samples"
            raise InputError(what, where=name, mend=f"larger pictures than {size[0]}×{size[1]}")
        less = min(left[0], kept[0]), min(left[1], kept[1])
        if less != kept:
            crops[-1] = kept = less
        seen = left
    return channels, kernels, crops


def not_foldable(network: object) -> InputError:
    """What in a network a fold cannot take."""
    if not isinstance(network, nn.Module):
        return InputError(f"{network!r} is no network", where="fold", mend="fold an SCLC")
    for name, layer in network.named_modules():
        if isinstance(layer, nn.ReLU | nn.MaxPool2d | nn.GELU | nn.BatchNorm2d | nn.Dropout | nn.AdaptiveAvgPool2d):
            what = f"{type(layer).__name__} is not linear and shift-invariant"
            return InputError(what, where=name or type(network).__name__, mend="SCLC.like(network) leaves it out")
        if isinstance(layer, nn.Conv2d | SpectralConv2d) and (
            layer.padding_mode != "circular" or layer.stride != (1, 1)
        ):
            what = f"a convolution of stride {layer.stride[0]} with {layer.padding_mode} borders of its own"
            return InputError(what, where=name, mend="SCLC: one guard at the input, a crop behind")
        if not list(layer.children()) and not isinstance(layer, _OF_A_CHAIN):
            what = f"{type(layer).__name__} is no convolution and no spectral pool"
            return InputError(
                what, where=name or type(network).__name__, mend="SCLC, with a backend behind its detector"
            )
    return InputError(f"{type(network).__name__} is no student", where="fold", mend="fold an SCLC")


def _in_order(place: str, layers: nn.Sequential) -> Iterator[tuple[str, nn.Module]]:
    """Every layer as often as it is run, those of a Sequential within in its place."""
    for name, layer in layers._modules.items():
        if isinstance(layer, nn.Sequential):
            yield from _in_order(f"{place}.{name}", layer)
        elif layer is not None:
            yield f"{place}.{name}", layer


def _refuse_unlike(name: str, layer: nn.Conv2d | SpectralConv2d, given: int) -> None:
    if layer.groups != 1 or layer.dilation != (1, 1):
        what = f"a convolution of {layer.groups} groups and dilation {layer.dilation[0]}"
        raise InputError(what, where=name, mend="a student's channels all mix, its taps stand side by side")
    if layer.in_channels != given:
        what = f"takes {layer.in_channels} channels where {given} come"
        raise InputError(what, where=name, mend="a teacher whose layers fit")


def _size_behind(layer: nn.Module, size: Pair) -> Pair:
    """Samples that a strided or padded layer leaves."""
    if isinstance(layer, SpectralPool2d):
        return layer.output_size
    assert isinstance(layer, nn.Conv2d | SpectralConv2d | nn.MaxPool2d | nn.AvgPool2d)
    if layer.padding == "same":
        return size
    kernel, stride, padding, dilation = (
        (one, one) if isinstance(one, int) else (int(one[0]), int(one[1]))
        for one in (
            layer.kernel_size,
            layer.stride,
            0 if layer.padding == "valid" else layer.padding,
            getattr(layer, "dilation", 1),
        )
    )
    up = bool(getattr(layer, "ceil_mode", False))
    rows, columns = (_windows(*one, up) for one in zip(size, kernel, stride, padding, dilation, strict=True))
    return rows, columns


def _windows(n: int, kernel: int, stride: int, padding: int, dilation: int, up: bool) -> int:
    """How many a layer takes of a line; of those that are cut short the last must begin before its end."""
    room = n + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-room // stride) if up else room // stride) + 1
    return count - (up and (count - 1) * stride >= n + padding)
