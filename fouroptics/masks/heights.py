"""Plates for grey-scale writers and lens-design programs: what stands on every pixel, as numbers.

An etched plate is told by its heights, a grey one by the amplitude that it passes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fouroptics.devices.lut import rows_of
from fouroptics.errors import InputError
from fouroptics.masks import rasters
from fouroptics.masks.etch import ETCHED, require_ordered
from fouroptics.masks.maskset import MaskSet
from fouroptics.masks.plane import Plane

GREY = "grey_amplitude"
_MOST_TEXT = 2**24  # pixels up to which numbers are written as text
_MOST_DOSE, _MOST_WORD = 255, 65535


def write(masks: MaskSet, folder: Path, dose: Path | None = None) -> dict[str, Any]:
    """Write the plate as TIFF, PNG, BMP of doses, CSV, and of heights a sag grid; what is told of them.

    Args:
        masks: of a plate.
        folder: an empty one.
        dose: a writer's curve, columns ``dose`` (0 … 255) and ``depth_nm`` or ``transmittance``; left out: even.
    """
    plane = masks.alone
    values, quantity, unit = _values(plane)
    require_ordered(plane, masks.bench.mask)
    plate = masks.plate()
    shape, words = plate.shape, values * 1e9 if unit == "m" else values

    def levels(first: int, last: int) -> np.ndarray:
        return plate[first:last]

    def shown(table: np.ndarray) -> rasters.Rows:
        return lambda first, last: table[levels(first, last)]

    left_out = []
    if dose is None and len(np.unique(values)) > _MOST_DOSE + 1:
        codes, curve = None, ""
        left_out.append(f"dose.bmp: {len(values)} levels are more than {_MOST_DOSE + 1} doses")
    else:
        codes, curve = _doses(values, quantity, dose)
    most = float(values.max())
    scale = most / _MOST_WORD
    rasters.tiff(folder / "plate.tiff", shape, shown(values.astype(np.float32)))
    rasters.png(folder / "plate.png", shape, shown(np.rint(values / scale).astype(np.uint16)), 16)
    files: dict[str, str] = {
        "plate.tiff": f"{quantity} in {unit}, real numbers",
        "plate.png": f"{quantity}: 16 bits, a step is {scale!r} {unit}",
    }
    if codes is not None:
        rasters.bmp(folder / "dose.bmp", shape, shown(codes))
        files["dose.bmp"] = f"dose of 0 … {_MOST_DOSE}, {curve}"
    if shape[0] * shape[1] <= _MOST_TEXT:
        rasters.text(folder / "plate.csv", shape, levels, np.array([f"{word:.4f}" for word in words]), ",")
        files["plate.csv"] = f"{quantity} in {'nm' if unit == 'm' else '1'}, a line a row"
        if unit == "m":
            _sag(folder / "sag.dat", plane, shape, levels, values)
            files["sag.dat"] = "grid sag, mm: rows from the top, x to the right; glass lies behind the surface"
    else:
        left_out.append(f"plate.csv and sag.dat: {shape[0] * shape[1]} pixels are more than {_MOST_TEXT}")
    if left_out:
        files["left out"] = "; ".join(left_out)
    return {
        "kind": plane.kind,
        "quantity": quantity,
        "levels": len(values),
        "pixels": [shape[1], shape[0]],
        "pixel_pitch_m": [*plane.pitch],
        "outside": f"{values[plate.outside]:.6g} {unit}",
        "files": files,
        "orientation": "row 0 at the top, x to the right, as seen from the source; nothing is mirrored",
    }


def _values(plane: Plane) -> tuple[np.ndarray, str, str]:
    """Of each level the height [m], or the amplitude passed; what it is, and its unit."""
    if plane.kind not in (ETCHED, GREY):
        mend = "--process slm, dmd or chrome takes it" if plane.kind != "metasurface" else "metasurfaces are not drawn"
        raise InputError(f"a {plane.kind} mask has no heights and no greys", where="process", mend=mend)
    assert plane.table is not None
    if plane.kind == ETCHED:
        values, quantity, unit = plane.table.height, "height", "m"
    else:
        values, quantity, unit = plane.table.amplitude, "amplitude", "1"
    if not np.isfinite(values).all() or values.min() < 0 or values.min() == values.max():
        raise InputError(f"of the levels are no {quantity}s that differ", where="level_table", mend="export it again")
    return values, quantity, unit


def _doses(values: np.ndarray, quantity: str, file: Path | None) -> tuple[np.ndarray, str]:
    """Of each level the nearest of 256 doses, by a writer's curve; depth is counted from the highest level.

    Raises:
        InputError: the curve cannot hold two levels apart.
    """
    wanted = values.max() - values if quantity == "height" else values
    name = "depth_nm" if quantity == "height" else "transmittance"
    word = name if quantity == "height" else "amplitude"
    unit = 1e-9 if quantity == "height" else 1.0
    doses = np.arange(_MOST_DOSE + 1, dtype=float)
    if file is None:
        made, told = doses / _MOST_DOSE * wanted.max(), f"even: {_MOST_DOSE} makes {wanted.max() / unit:.6g} {word}"
    else:
        curve = _curve(file, name)
        order = np.argsort(curve[:, 0])
        made, told = np.interp(doses, *curve[order].T) * unit, f"by {file.name}"
        if quantity == "amplitude":
            made = np.sqrt(made)
        made[(doses < curve[:, 0].min()) | (doses > curve[:, 0].max())] = np.inf
    codes = np.abs(wanted[:, None] - made).argmin(1)
    step = np.diff(np.unique(values)).min(initial=np.inf)
    off = np.abs(made[codes] - wanted)
    if (off > step / 2).any():
        worst = int(off.argmax())
        what = f"level {worst} has {wanted[worst] / unit:.4g} {word}, the nearest dose {made[codes[worst]] / unit:.4g}"
        mend = f"a curve that reaches every level; steps are {step / unit:.4g}"
        raise InputError(what, where="--dose" if file is None else str(file), mend=mend)
    if len(np.unique(codes)) < len(np.unique(values)):
        what = "two levels would have one dose"
        raise InputError(what, where="--dose" if file is None else str(file), mend="a curve that tells levels apart")
    return codes.astype(np.uint8), told


def _curve(file: Path, name: str) -> np.ndarray:
    """Rows of dose and what it makes."""
    found = np.array([row for _, row in rows_of(file, ("dose", name))])
    if len(found) < 2:
        raise InputError("is no curve", where=str(file), mend="write two lines of numbers or more")
    if name == "transmittance" and not ((found[:, 1] >= 0) & (found[:, 1] <= 1)).all():
        raise InputError("has transmittances beyond 0 … 1", where=str(file), mend="shares, not per cent, less the dark")
    steps = np.diff(found[np.argsort(found[:, 0])], axis=0)
    if not (steps[:, 0] > 0).all() or not ((steps[:, 1] >= 0).all() or (steps[:, 1] <= 0).all()):
        raise InputError("does not go one way", where=str(file), mend="a dose once, and one depth for it")
    return found


def _sag(path: Path, plane: Plane, shape: tuple[int, int], levels: rasters.Rows, heights: np.ndarray) -> None:
    """A grid of sags: a head of counts and spacings, then a line a point; a high place stands towards the source."""
    height, width = shape
    head = f"{width} {height} {plane.pitch[1] * 1e3:.9g} {plane.pitch[0] * 1e3:.9g} 0 0 0\n"
    points = np.array([f"{0.0 - h * 1e3:.9e} 0 0 0" for h in heights])
    rasters.text(path, shape, levels, points, "\n", head)
