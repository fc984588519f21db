"""What stands where in a mask set's file, and what may stand there: names, types, sizes that go together, words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fouroptics.bench import Bench
from fouroptics.errors import InputError
from fouroptics.masks.h5 import Attribute, Stored

Due = Mapping[str, tuple[str, tuple[Any, ...]]]  # name → kind of values, and shape
VIEWED = 2**26  # bytes up to which values for people's viewers are written, and levels are read at once
CONVENTIONS: dict[str, Attribute] = {
    "fft_sign": "exp(-i 2 pi nu x)",
    "phase_convention": "exp(+i phi), phi>0 = delay",
    "row0": "top",
    "viewed_from": "source",
}
TERMS = {
    "tile": "mask that carries the response",
    "out_channel": "output of the bank",
    "in_channel": "input of the bank",
    "role": "0, or of a pair 1 positive, 2 negative",
    "frame": "when it is shown",
    "shift": "of the response on the camera, y and x",
}
COMMISSIONING = {
    "blank": "nothing: level 0",
    "checkerboard": "squares of 16 pixels, to find the axis and the pitch",
    "crosshair": "two lines through the middle",
    "focus_star": "36 rays, to focus",
    "orientation_f": "a letter that no turn or mirror leaves as it is",
    "single_tap": "a kernel of one tap: the picture itself",
}
# Whose shapes are one another's: letters are sizes within a plane, a number is that size.
_SHARED = {
    "/entry/title": ("S", ()), "/entry/bench": ("S", ()), "/entry/network": ("S", ()), "/entry/provenance": ("S", ()),
    "/entry/optics/wavelength": ("f", ()), "/entry/optics/f1": ("f", ()), "/entry/optics/f2": ("f", ()),
    "/entry/optics/stop": ("f", ()), "/entry/planes/name": ("S", ("P",)), "/entry/planes/position": ("f", ("P",)),
    "/entry/planes/order": ("i", ("P",)),
}  # fmt: skip
_PLANE = {
    "level": ("u", ("T", "Y", "X")), "tile": ("i", ("T",)), "y": ("f", ("Y",)), "x": ("f", ("X",)),
    "pitch": ("f", (2,)), "fill_factor": ("f", ()), "origin": ("f", ("T", 2)), "frame": ("i", ("T",)),
    "terms/tile": ("i", ("N",)), "terms/out_channel": ("i", ("N",)), "terms/in_channel": ("i", ("N",)),
    "terms/role": ("i", ("N",)), "terms/frame": ("i", ("N",)), "terms/shift": ("f", ("N", 2)),
}  # fmt: skip
_PLANE_MAYBE = {
    "level_amplitude": ("u", ("T", "Y", "X")), "level_table/phase": ("f", ("L",)),
    "level_table/amplitude": ("f", ("L",)), "level_table/height": ("f", ("L",)), "level_table/drive": ("f", ("L",)),
    "phase": ("f", ("T", "Y", "X")), "amplitude": ("f", ("T", "Y", "X")), "etch/depth": ("f", ("M",)),
    "etch/bit": ("i", ("M",)), "etch/order": ("i", ("M",)), "etch/gds_layer": ("i", ("M",)),
    "etch/gds_datatype": ("i", ("M",)), "etch/depth_tolerance": ("f", ("M",)), "etch/tone": ("S", ("M",)),
    "etch/overlay_pairs": ("i", ("V", 2)), "height": ("f", ("T", "Y", "X")), "valid": ("u", ("T", "Y", "X")),
}  # fmt: skip
_MAYBE = {
    "/entry/plate/size": ("f", (2,)), "/entry/plate/guard": ("f", ()), "/entry/plate/fiducials/x": ("f", ("F",)),
    "/entry/plate/fiducials/y": ("f", ("F",)), "/entry/plate/fiducials/size": ("f", ("F",)),
    "/entry/plate/fiducials/type": ("S", ("F",)), "/entry/material/name": ("S", ()),
    "/entry/material/wavelength": ("f", ("W",)), "/entry/material/index": ("f", ("W",)),
    "/entry/device/name": ("S", ("D",)), "/entry/device/value": ("S", ("D",)), "/entry/device/sigma": ("S", ("D",)),
    "/entry/design_rules/min_feature": ("f", ()), "/entry/design_rules/min_gap": ("f", ()),
    "/entry/design_rules/min_area": ("f", ()), "/entry/design_rules/grid": ("f", ()),
    "/entry/design_rules/limits": ("S", ()), "/entry/design_rules/report": ("S", ()), "/entry/results": ("S", ()),
}  # fmt: skip
_MOST_TENSOR = 2**30  # bytes of a layer of a backend
_LONGEST = 255  # letters of a class's name, as of a folder's
_MOST_LISTED = 10_000  # classes, or layers of a backend
_MOST_SMALL = 2**26  # bytes of anything but levels and what viewers are shown
_NETWORK: dict[str, Any] = {
    "size": [int, int], "channels": [int, int], "kernel": [int, int], "complex": bool, "dtype": str, "upright": bool,
    "stop": bool, "light": str, "readout": str, "compand": str, "sensor_pool": [int, int], "exposure": float,
}  # fmt: skip
_OPTIONAL = ("sensor_pool", "exposure", "electronics", "pool", "levels", "divisive", "pooling", "dropout")
_ELECTRONICS: dict[str, Any] = {  # of a network whose bank this is: a list of one kind is of any length
    "compand": str, "window": [int, int], "pool": [int, int], "backend": str, "hidden": (int,), "classes": (str,),
    "levels": ([int, int, int],), "divisive": float, "pooling": str, "dropout": float,
}  # fmt: skip
_TENSOR = re.compile(r"/entry/backend/[a-z0-9_]+(\.[a-z0-9_]+){0,6}")


def plane(number: int) -> str:
    """The group of a plane's masks."""
    return "masks" if number == 0 else f"masks_{number}"


def is_known(name: str) -> bool:
    """Whether a dataset is one of the format's."""
    if (
        name in _SHARED
        or name in _MAYBE
        or name in (f"/entry/kernels/{one}" for one in ("target", "realised", "scale"))
        or _TENSOR.fullmatch(name)
    ):
        return True
    if name.startswith("/entry/commissioning/"):
        return name.rsplit("/", 1)[1] in COMMISSIONING
    parts = name.split("/", 3)
    in_plane = len(parts) == 4 and parts[1] == "entry" and re.fullmatch(r"masks(_[1-9][0-9]?)?", parts[2])
    return bool(in_plane) and (parts[3] in _PLANE or parts[3] in _PLANE_MAYBE)


def check(path: Path, found: Mapping[str, Stored]) -> None:
    """Refuse a file whose datasets are not those of the format."""
    _check_all(path, found, _SHARED, "", {})
    _check_all(path, found, {name: due for name, due in _MAYBE.items() if name in found}, "", {})
    kernels = [found.get(f"/entry/kernels/{name}") for name in ("target", "realised", "scale")]
    for name, stored, ranks in zip(("target", "realised", "scale"), kernels, ((4, 5), (5,), (1,)), strict=True):
        if stored is None or stored.dtype.kind != "f" or len(stored.shape) not in ranks or stored.nbytes > _MOST_SMALL:
            raise wrong(path, f"/entry/kernels/{name}", "is missing, or not an array of its kind")
    for name, stored in found.items():
        if _TENSOR.fullmatch(name) and (stored.dtype.kind not in "fi" or stored.nbytes > _MOST_TENSOR):
            raise wrong(path, name, "is no tensor of a backend")
    patterns = [f"/entry/commissioning/{name}" for name in COMMISSIONING]
    _check_all(path, found, {name: ("u", ("Y", "X")) for name in patterns if name in found}, "", {})
    planes = found["/entry/planes/name"].shape[0]
    if not 1 <= planes <= 64:
        raise wrong(path, "/entry/planes/name", f"{planes} planes")
    for number, name in enumerate(found["/entry/planes/name"][...]):
        if bytes(name) != plane(number).encode():
            raise wrong(path, "/entry/planes/name", f"{bytes(name)[:40]!r} is no plane's group; {plane(number)} is due")
        sizes: dict[str, int] = {}
        _check_all(path, found, _PLANE, f"/entry/{plane(number)}/", sizes)
        here = {key: due for key, due in _PLANE_MAYBE.items() if f"/entry/{plane(number)}/{key}" in found}
        _check_all(path, found, here, f"/entry/{plane(number)}/", sizes)
        level, levels = found[f"/entry/{plane(number)}/level"], sizes.get("L")
        if levels is not None and level.most >= levels:
            raise wrong(path, level.path, f"level {level.most} where the table has {levels}")


def check_numbers(path: Path, found: Mapping[str, Stored], bench: Bench, told: Mapping[str, Any]) -> None:
    """What the file says twice is the same, and nothing lies where nothing can be."""
    outputs, inputs = told["channels"]
    pairs = 2 if told["readout"] == "pair_intensity" else 1
    due = (outputs, inputs, *told["kernel"])
    sizes = {
        "target": (*due, 2) if told["complex"] else due,
        "realised": (pairs * due[0], *due[1:], 2),
        "scale": (pairs * outputs,),
    }
    for name, size in sizes.items():
        where = f"/entry/kernels/{name}"
        if found[where].shape != size:
            raise wrong(path, where, f"{[*found[where].shape]} is not of the channels and kernel that were built")
        if not np.isfinite(found[where][...]).all():
            raise wrong(path, where, "has values that are no numbers")
    scale = found["/entry/kernels/scale"][...]
    if not (scale > 0).all():
        raise wrong(path, "/entry/kernels/scale", "is no share")
    for number in range(found["/entry/planes/name"].shape[0]):
        _check_plane(path, found, bench, f"/entry/{plane(number)}", (outputs, inputs))


def _check_plane(path: Path, found: Mapping[str, Stored], bench: Bench, group: str, channels: tuple[int, int]) -> None:
    mask = bench.mask
    tiles = found[f"{group}/level"].shape[0]
    for name, own in (("pitch", mask.pitch), ("fill_factor", mask.fill_factor)):
        if not np.allclose(found[f"{group}/{name}"][...], own, rtol=1e-9, atol=0):
            raise wrong(path, f"{group}/{name}", f"is not the bench's {own:.9g}")
    for name in ("phase", "amplitude", "height", "drive") if mask.kind != "complex" else ():
        if f"{group}/level_table/{name}" not in found:
            raise wrong(path, f"{group}/level_table/{name}", "is missing")
    if mask.kind == "complex" and f"{group}/level_amplitude" not in found:
        raise wrong(path, f"{group}/level_amplitude", "is missing")
    limits = {
        "frame": tiles, "terms/tile": tiles, "terms/frame": tiles, "terms/role": 3,
        "terms/out_channel": channels[0], "terms/in_channel": channels[1],
    }  # fmt: skip
    for name, limit in limits.items():
        values = found[f"{group}/{name}"][...]
        if values.size and not (values.min() >= 0 and values.max() < limit):
            raise wrong(path, f"{group}/{name}", f"{values.min()} … {values.max()} lies beyond 0 … {limit - 1}")
    terms = {name: found[f"{group}/terms/{name}"][...] for name in ("tile", "frame")}
    frame = found[f"{group}/frame"][...]
    if not np.array_equal(np.unique(frame), np.arange(int(frame.max(initial=-1)) + 1)):
        raise wrong(path, f"{group}/frame", "numbers leave frames out")
    if not np.array_equal(terms["frame"], frame[terms["tile"]]):
        raise wrong(path, f"{group}/terms/frame", "is not when its tile is shown")
    for name in ("phase", "amplitude", "height", "drive") if mask.kind != "complex" else ():
        if not np.isfinite(found[f"{group}/level_table/{name}"][...]).all():
            raise wrong(path, f"{group}/level_table/{name}", "has values that are no numbers")
    if not (np.abs(found[f"{group}/origin"][...]) <= np.array(mask.extent) / 2).all():
        raise wrong(path, f"{group}/origin", "lies beside the panel, or no number")


def network(path: Path, text: str) -> dict[str, Any]:
    """The words that a bank is built from, each of its type and no others."""
    given = json_object(path, "/entry/network", text)
    behind = given.get("electronics", {})
    if not isinstance(behind, dict):
        raise wrong(path, "/entry/network", "electronics is no JSON object")
    _check_words(path, given, _NETWORK | {"electronics": dict})
    if behind:
        _check_words(path, behind, _ELECTRONICS)
    return given


def _check_words(path: Path, given: Mapping[str, Any], words: Mapping[str, Any]) -> None:
    where = "/entry/network"
    for key in given:
        if key not in words:
            raise wrong(path, where, f"{key[:40]!r} is none of the format's words")
    for key, kind in words.items():
        value = given.get(key)
        if value is None and key in _OPTIONAL:
            continue
        if kind is not dict and not _is_of(value, kind):
            raise wrong(path, where, f"{key} = {str(value)[:40]!r} is not of its type")


def tensors(found: Mapping[str, Stored]) -> dict[str, np.ndarray]:
    """What was learned by the electronics, by name."""
    return {name.rsplit("/", 1)[1]: found[name][...] for name in found if _TENSOR.fullmatch(name)}


def texts(path: Path, where: str, text: str) -> dict[str, str]:
    """Texts by name."""
    given = json_object(path, where, text)
    if not all(isinstance(value, str) and len(value) < 10_000 for value in given.values()):
        raise wrong(path, where, "holds more than texts")
    return given


def _check_all(
    path: Path,
    found: Mapping[str, Stored],
    due: Mapping[str, tuple[str, tuple[Any, ...]]],
    at: str,
    sizes: dict[str, int],
) -> None:
    for name, (kind, shape) in due.items():
        where = f"{at}{name}"
        stored = found.get(where)
        if stored is None:
            raise wrong(path, where, "is missing")
        kinds = "iu" if kind == "i" else kind
        if stored.dtype.kind not in kinds or len(stored.shape) != len(shape):
            raise wrong(path, where, f"is {stored.dtype.str} of {[*stored.shape]}, and no {_words(kind, shape)}")
        for size, letter in zip(stored.shape, shape, strict=True):
            expected = letter if isinstance(letter, int) else sizes.setdefault(letter, size)
            if size != expected:
                raise wrong(path, where, f"is of {[*stored.shape]} where {expected} are due along {letter!r}")
        if shape[-2:] != ("Y", "X") and stored.nbytes > _MOST_SMALL:
            raise wrong(path, where, f"{stored.nbytes} bytes are more than it can need")


def _words(kind: str, shape: tuple[Any, ...]) -> str:
    names = {"S": "text", "f": "numbers", "i": "whole numbers", "u": "levels"}
    return f"{names[kind]} of {len(shape)} dimensions"


def _is_of(value: Any, kind: Any) -> bool:
    if isinstance(kind, list):
        return isinstance(value, list) and len(value) == len(kind) and all(map(_is_of, value, kind))
    if isinstance(kind, tuple):
        if not isinstance(value, list) or len(value) > _MOST_LISTED:
            return False
        if kind[0] is str:
            return all(isinstance(one, str) and len(one) <= _LONGEST for one in value)
        return all(_is_of(one, kind[0]) for one in value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31
    if kind is float:
        return isinstance(value, float) and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or len(value) <= 40)


def json_object(path: Path, where: str, text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise wrong(path, where, "is no JSON") from None
    if not isinstance(given, dict):
        raise wrong(path, where, "is no JSON object")
    return given


def wrong(path: Path, where: str, what: str) -> InputError:
    return InputError(what, where=f"{path}: {where}", mend="get the file again from who made it")
