"""What a bank refuses, each in one line with its mend."""

from __future__ import annotations

import math
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fouroptics.bench import Bench
from fouroptics.devices import readout
from fouroptics.devices.modulator import QUANTIZE
from fouroptics.errors import InputError, check_choice, warn
from fouroptics.imperfections import Imperfections
from fouroptics.imperfections.fields import named, sizes
from fouroptics.optics import correlation
from fouroptics.optics.fourier import Pair

STATIC_KINDS = ("multilevel_phase", "binary_amplitude", "metasurface")
MASK_CODES = ("input-panel", "mask-extent", "mask-bins", "encoding", "static-mask")


def check_options(
    bench: Any,
    boundary: Any,
    layout: Any,
    stop: bool,
    light: Any,
    readout_: Any,
    compand: Any,
    masks: Any,
    learn: Any,
    quantize: Any,
) -> None:
    if not isinstance(bench, Bench):
        raise InputError(f"{bench!r} is not a bench", where="bench", mend='use fo.Bench.load("slm-532nm")')
    check_choice("boundary", boundary, ("linear", "circular"))
    check_choice("layout", layout, ("tiled", "lenslet", "frames", "mathematical", "auto", None))
    check_choice("light", light, ("fourier", "free_space"))
    check_choice("readout", readout_, readout.READOUTS)
    check_choice("compand", compand, readout.COMPANDS)
    check_choice("masks", masks, ("ideal", "device"))
    check_choice("learn", learn, ("masks", "kernels"))
    check_choice("quantize", quantize, [way for way in QUANTIZE if way != "hard"])
    if masks == "ideal" and quantize != "straight-through":
        raise InputError("ideal masks have no levels", where="quantize", mend="build with masks='device'")
    if stop and bench.stop is None:
        raise InputError("the bench has no stop", where="stop", mend="add a section [stop], or use stop=False")


def arranged(bench: Bench, layout: str) -> Bench:
    """The bench with a bank's own way of summing inputs; a mathematical sum has its light side by side."""
    inputs = "tiled" if layout == "mathematical" else layout
    return bench if bench.layout.inputs == inputs else bench.replace({"layout.inputs": inputs})


def check_masks_fit(
    bench: Bench, size: Pair, taps: Pair, channels: Pair, layout: str, boundary: str, *, told: bool
) -> None:
    """Refuse masks that cannot hold what they are asked to, in the words of the sampling report; warn of what costs.

    Tiles run into each other where the guard between them is too narrow, and tiled responses may miss the camera.
    """
    if boundary == "circular":
        raise InputError("light behind a device's masks does not wrap", where="boundary", mend="use 'linear'")
    if layout == "mathematical":
        raise InputError("a mathematical sum has no masks", where="layout", mend="use 'tiled' or 'lenslet'")
    codes = [*MASK_CODES]
    if layout == "tiled" and channels[1] > 1:
        codes += ["guard"]
    if bench.layout.outputs == "tiled" and channels[0] > 1:
        codes += ["guard", "camera-window"]
    report = bench.sampling(size, taps, channels=channels)
    for problem in report.problems:
        if problem.code in codes:
            raise InputError(problem.what, where=problem.where, mend=problem.mend_text)
    for note in () if told else report.notes:
        warn(note)


def check_begin(begin: object, masks: str) -> None:
    if begin is not None and masks == "ideal":
        raise InputError("ideal masks begin with their kernels", where="begin", mend="build with masks='device'")


def check_pairs(bench: Bench, pairs: int) -> None:
    """Masks in pairs are shown one after the other, which a plate cannot do."""
    if pairs > 1 and bench.mask.kind in STATIC_KINDS:
        what = f"pair_intensity needs two masks an output, and a {bench.mask.kind} mask does not change"
        raise InputError(what, where="readout", mend="readout='homodyne' or 'intensity'")


def checked_errors(errors: Imperfections, bench: Bench, channels: Pair, kernels: Tensor) -> Imperfections:
    """Errors that have a meaning on a bench, with as many components as it has, on the bank's device."""
    for name in errors.names:
        field, value = named(name), errors[name]
        lacking = field.lacks(bench)
        if lacking:
            mend = "leave it out; Tolerances.draw does so by itself"
            raise InputError(lacking, where=name, mend=mend)
        due, given = sizes(field, bench, channels), tuple(value.shape[len(errors.shape) :])
        if given != due:
            mend = f"{list(due)} ({', '.join(field.components)}) are due behind the draws"
            raise InputError(f"components of shape {list(given)}", where=name, mend=mend)
        if name == "mask.dead_pixels" and value.requires_grad:
            raise InputError("no gradient passes a map of dead pixels", where=name, mend="give it detached")
    return errors.to(device=kernels.device)


def batch_of(pictures: Tensor, errors: Imperfections | None) -> int:
    """Fields that are alive together: pictures, and where a gradient keeps them all, their draws."""
    pictures_of = tuple(pictures.shape[:-3])
    if errors is None:
        return math.prod(pictures_of)
    try:
        leading = np.broadcast_shapes(pictures_of, errors.shape)
    except ValueError:
        what = f"draws of shape {list(errors.shape)} do not broadcast with pictures {list(pictures_of)}"
        mend = "errors.reshape(-1, 1) gives every draw of every picture"
        raise InputError(what, where="errors", mend=mend) from None
    return math.prod(leading if torch.is_grad_enabled() else pictures_of)


def checked_kernels(kernels: Any) -> Tensor:
    due = "a tensor [out, in, height, width] is due"
    if not isinstance(kernels, Tensor):
        raise InputError(f"kernels are a {type(kernels).__name__}", where="kernels", mend=f"{due}: torch.as_tensor(…)")
    if kernels.dim() != 4 or kernels.numel() == 0:
        raise InputError(f"kernels are {tuple(kernels.shape)}", where="kernels", mend=due)
    if kernels.dtype not in (torch.float32, torch.float64, torch.complex64, torch.complex128):
        mend = "convert them with .float() or .double()"
        raise InputError(f"kernels are {kernels.dtype}", where="kernels", mend=mend)
    if not torch.isfinite(kernels).all():
        raise InputError("some taps are NaN or infinite", where="kernels", mend="give finite taps")
    return kernels


def checked_size(size: Any, kernel: Pair) -> Pair:
    height, width = checked_pair("size", size)
    correlation.check_kernel_fits(kernel, (height, width))
    return height, width


def checked_pair(name: str, pair: Any) -> Pair:
    try:
        height, width = (index(n) for n in pair)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise InputError(f"{pair!r} is not (height, width)", where=name, mend="two positive whole numbers")
    return height, width


def check_pictures(pictures: Any, expected: tuple[int, int, int], kernels: Tensor) -> None:
    due = f"[…, {', '.join(map(str, expected))}] is due"
    if not isinstance(pictures, Tensor):
        mend = f"a tensor {due}: torch.as_tensor(pictures)"
        raise InputError(f"pictures are a {type(pictures).__name__}", where="pictures", mend=mend)
    if tuple(pictures.shape) == expected[1:] and expected[0] == 1:
        due += ": pictures[None]"
    if pictures.dim() < 3 or tuple(pictures.shape[-3:]) != expected:
        raise InputError(f"pictures are {tuple(pictures.shape)}", where="pictures", mend=due)
    if pictures.numel() == 0:
        raise InputError("the batch is empty", where="pictures", mend="give at least one picture")
    _check_dtype(pictures, kernels)


def check_range(pictures: Tensor) -> None:
    """Pictures are light: no modulator shows a negative or an unlimited amplitude."""
    low, high = torch.stack(pictures.detach().aminmax()).tolist()
    if not (low >= 0 and high <= 1):
        finite = math.isfinite(low) and math.isfinite(high)
        mend = "scale them to [0, 1]: no modulator shows a negative or an unlimited amplitude"
        mend = mend if finite else "give finite values in [0, 1]"
        raise InputError(f"values are {low:.4g} … {high:.4g}", where="pictures", mend=mend)


def check_count(name: str, count: Any, what: str, mend: str) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f"{count!r} is no number of {what}", where=name, mend=mend)


def check_exposure(seconds: Any) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, float | int) or not 0 < seconds < math.inf:
        raise InputError(f"an exposure of {seconds!r} s", where="exposure", mend="a positive number of seconds")
    return float(seconds)


def _check_dtype(pictures: Tensor, kernels: Tensor) -> None:
    if kernels.dtype not in (torch.float32, torch.float64):
        raise InputError(f"the bank is {kernels.dtype}", where="kernels", mend="use correlator.float() or .double()")
    if pictures.is_complex():
        mend = "give real values in [0, 1]; optics.correlation.correlate takes any field"
        raise InputError(f"pictures are {pictures.dtype}", where="pictures", mend=mend)
    if not pictures.is_floating_point():
        mend = "convert them: pictures.float(), and / 255 if they are bytes"
        raise InputError(f"pictures are {pictures.dtype}", where="pictures", mend=mend)
    if torch.promote_types(pictures.dtype, kernels.dtype) != kernels.dtype:
        mend = "pictures.float(), or correlator.double()"
        raise InputError(f"pictures are {pictures.dtype}, the bank {kernels.dtype}", where="pictures", mend=mend)
    if pictures.device != kernels.device:
        mend = f"pictures.to('{kernels.device}')"
        raise InputError(
            f"pictures are on {pictures.device}, the bank on {kernels.device}", where="pictures", mend=mend
        )
