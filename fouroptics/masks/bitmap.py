"""Masks as frames that a modulator takes: one picture of the whole panel a frame, and a playlist."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from fouroptics.correlator.reading import captures
from fouroptics.devices.readout import NEEDS_REFERENCE
from fouroptics.errors import InputError, check_choice
from fouroptics.files import write_whole
from fouroptics.masks import rasters
from fouroptics.masks.maskset import MaskSet
from fouroptics.masks.plate import put_together

SLM, DMD = "phase_slm", "dmd"
TURNS = (0, 90, 180, 270)  # degrees


def write(masks: MaskSet, folder: Path, *, mirror: bool = False, turn: int = 0) -> dict[str, Any]:
    """Write a PNG a frame and ``playlist.csv``; what the panel's driver is told of them.

    Args:
        masks: of a liquid crystal or of mirrors.
        folder: an empty one.
        mirror: left and right changed, for a panel that is seen in reflection.
        turn: degrees by which frames are then turned counter-clockwise, for a panel that is mounted so.
    """
    plane, mask = masks.alone, masks.bench.mask
    if plane.kind not in (SLM, DMD):
        mend = "--process etched, chrome or grey writes plates"
        raise InputError(f"a {plane.kind} mask is not shown in frames", where="process", mend=mend)
    check_choice("turn", turn, TURNS)
    assert plane.table is not None
    levels = len(plane.table.phase)
    bits = 1 if plane.kind == DMD else 8 if levels <= 256 else 16
    frames = int(plane.frame.max()) + 1
    for number in range(frames):
        shown = _turned(np.asarray(put_together(plane, (mask.pixels[1], mask.pixels[0]), number)), mirror, turn)
        rasters.png(folder / _name(number), shown.shape, lambda a, b, shown=shown: shown[a:b], bits)  # type: ignore[misc]
    write_whole(folder / "playlist.csv", _playlist(masks, frames).encode())
    return {
        "kind": plane.kind,
        "frames": frames,
        "panel_pixels": [*mask.pixels],
        "frame_pixels": [*reversed(shown.shape)],
        "levels": levels,
        "values": f"{bits} bit{'s, a value is a level' if bits > 1 else ', white is level 1, on'}",
        "lut": f"applied by the {mask.lut_applied_by}" if mask.lut else "none: levels are even",
        "flatness": _flatness(masks),
        "orientation": f"row 0 at the top, as seen from the source{', left and right changed' if mirror else ''}"
        f"{f', then turned by {turn}° counter-clockwise' if turn else ''}",
    }


def _turned(frame: np.ndarray, mirror: bool, turn: int) -> np.ndarray:
    return np.rot90(frame[:, ::-1] if mirror else frame, turn // 90)


def _name(frame: int) -> str:
    return f"frame-{frame:04d}.png"


def _playlist(masks: MaskSet, frames: int) -> str:
    """A line a capture: a frame that is read with a reference beam is captured under two of its phases."""
    plane = masks.alone
    rows = [("capture", "frame", "file", "outputs", "inputs", "sign", "reference_rad", "exposure_s")]
    steps, readout = ("0", repr(np.pi)), masks.network["readout"]
    references = steps[: captures(masks.bench, readout)] if readout in NEEDS_REFERENCE else ("",)
    for number in range(frames):
        here = plane.terms.frame == number
        outputs, inputs = (
            " ".join(map(str, np.unique(channel[here])))
            for channel in (plane.terms.out_channel, plane.terms.in_channel)
        )
        signs = " ".join(sorted({"-" if role == 2 else "+" for role in plane.terms.role[here]}))
        rows += [
            (str(len(rows) - 1 + more), str(number), _name(number), outputs, inputs, signs, reference, _exposure(masks))
            for more, reference in enumerate(references)
        ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _exposure(masks: MaskSet) -> str:
    """Seconds, by the bank that was exported or by the bench; empty where nothing fixes them."""
    own = masks.bench.camera.exposure
    exposure = masks.network.get("exposure", own if own != "auto" else None)
    return "" if exposure is None else repr(exposure)


def _flatness(masks: MaskSet) -> str:
    mask = masks.bench.mask
    told = "none: the panel is taken as flat"
    if mask.wavefront:
        told = f"mask.wavefront is {'corrected in' if mask.precompensate else 'NOT corrected in'} the levels"
    return told + ("; so are the lenses' errors" if mask.correct_aberration and masks.bench.aberration.zernike else "")
