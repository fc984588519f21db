"""Masks as frames that a modulator takes: one picture of the whole panel a frame, and a playlist."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from fouroptics.errors import InputError
from fouroptics.files import write_whole
from fouroptics.masks.maskset import MaskSet, Plane

SLM, DMD = "phase_slm", "dmd"


def frames(plane: Plane, pixels: tuple[int, int]) -> np.ndarray:
    """The levels of the whole panel ``[frames, y, x]``, level 0 beside the masks.

    Args:
        plane: the masks.
        pixels: of the panel ``(y, x)``.
    """
    dtype = plane.levels.dtype
    shown = np.zeros((int(plane.frame.max()) + 1, *pixels), dtype)
    _, rows, columns = plane.levels.shape
    for tile, frame in enumerate(plane.frame):
        top, left = (
            round(float(origin) / pitch + (room - 1) / 2 - (n - 1) / 2)
            for origin, pitch, room, n in zip(plane.origin[tile], plane.pitch, pixels, (rows, columns), strict=True)
        )
        if top < 0 or left < 0 or top + rows > pixels[0] or left + columns > pixels[1]:
            raise InputError(f"tile {tile} stands beside the panel", where="masks", mend="export the set again")
        shown[frame, top : top + rows, left : left + columns] = plane.levels[tile]
    return shown


def write(masks: MaskSet, folder: Path, *, mirror: bool = False) -> dict[str, Any]:
    """Write a PNG a frame and ``playlist.csv``; what the panel's driver is told of them.

    Args:
        masks: of a liquid crystal or of mirrors.
        folder: an empty one.
        mirror: left and right changed, for a panel that is seen in reflection.
    """
    plane = masks.planes[0]
    if plane.kind not in (SLM, DMD):
        mend = "--process etched or chrome writes layouts"
        raise InputError(f"a {plane.kind} mask is not shown in frames", where="process", mend=mend)
    pixels = masks.bench.mask.pixels[1], masks.bench.mask.pixels[0]
    shown = frames(plane, pixels)
    shown = shown[..., ::-1] if mirror else shown
    levels = 2 if plane.table is None else len(plane.table.phase)
    exposure = masks.network.get("exposure")
    rows = [("frame", "file", "outputs", "sign", "exposure_s")]
    for number, frame in enumerate(shown):
        name = f"frame-{number:04d}.png"
        write_whole(folder / name, _png(frame, levels))
        here = plane.terms.frame == number
        outputs = sorted({int(out) for out in plane.terms.out_channel[here]})
        signs = sorted({"-" if role == 2 else "+" for role in plane.terms.role[here]})
        rows.append(
            (
                str(number),
                name,
                " ".join(map(str, outputs)),
                " ".join(signs),
                "" if exposure is None else repr(exposure),
            )
        )
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_whole(folder / "playlist.csv", text.getvalue().encode())
    mask = masks.bench.mask
    return {
        "kind": plane.kind,
        "frames": len(shown),
        "panel_pixels": [*reversed(pixels)],
        "levels": levels,
        "values": _values(levels),
        "lut": f"applied by the {mask.lut_applied_by}" if mask.lut else "none: levels are even",
        "orientation": "row 0 at the top, as seen from the source" + (", left and right changed" if mirror else ""),
    }


def _values(levels: int) -> str:
    return "1 bit, white is on" if levels == 2 else f"{8 if levels <= 256 else 16} bits, a value is a level"


def _png(frame: np.ndarray, levels: int) -> bytes:
    from PIL import Image

    if levels == 2:
        image = Image.fromarray(frame.astype(bool))
    else:
        image = Image.fromarray(np.ascontiguousarray(frame, dtype=np.uint8 if levels <= 256 else np.uint16))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
