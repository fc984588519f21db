"""GDSII streams of rectangles, written as the format's records stand: half a million take a tenth of a second.

A record is its length, its type and the type of its data, big-endian; a rectangle is always the same 64 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

_STAMP = (2000, 1, 1, 0, 0, 0) * 2  # so that the same masks are the same file
_BOX = np.dtype(
    [("head", "S16"), ("xy", "S4"), ("corners", ">i4", (5, 2)), ("end", "S4")]
)  # BOUNDARY, LAYER and DATATYPE; XY; its five points; ENDEL
Boxes = Iterable[tuple[int, np.ndarray]]  # layer, and [R, 4] of left, bottom, right, top in database units


def write(path: Path, unit: float, cells: Iterable[tuple[str, Boxes]], top: str) -> None:
    """A library of cells of rectangles, and one cell ``top`` that holds them all where they are.

    Args:
        path: the file.
        unit: the database's [m]; a micrometre is the user's.
        cells: names and rectangles, one cell at a time.
        top: name of the cell that refers to all.
    """
    with path.open("wb") as file:
        file.write(_record(0x0002, struct.pack(">h", 600)))
        file.write(_record(0x0102, struct.pack(">12h", *_STAMP)))
        file.write(_record(0x0206, _text("MASKS")))
        file.write(_record(0x0305, _real(unit / 1e-6) + _real(unit)))
        names = []
        for name, boxes in cells:
            _cell(file.write, name, (_boundaries(layer, corners) for layer, corners in boxes))
            names.append(name)
        _cell(file.write, top, map(_reference, names))
        file.write(_record(0x0400))


def _cell(write: Callable[[bytes], object], name: str, elements: Iterable[bytes]) -> None:
    write(_record(0x0502, struct.pack(">12h", *_STAMP)) + _record(0x0606, _text(name)))
    for element in elements:
        write(element)
    write(_record(0x0700))


def _boundaries(layer: int, corners: np.ndarray) -> bytes:
    """Rectangles, from the lower left corner to the right, and closed."""
    boxes = np.zeros(len(corners), _BOX)
    boxes["head"] = _record(0x0800) + _record(0x0D02, struct.pack(">h", layer)) + _record(0x0E02, b"\0\0")
    boxes["xy"] = struct.pack(">HH", 44, 0x1003)
    left, bottom, right, top = corners.T
    for point, (x, y) in enumerate(((left, bottom), (right, bottom), (right, top), (left, top), (left, bottom))):
        boxes["corners"][:, point, 0], boxes["corners"][:, point, 1] = x, y
    boxes["end"] = _record(0x1100)
    return boxes.tobytes()


def _reference(name: str) -> bytes:
    place = _record(0x1003, struct.pack(">2i", 0, 0))
    return _record(0x0A00) + _record(0x1206, _text(name)) + place + _record(0x1100)


def _record(kind: int, data: bytes = b"") -> bytes:
    return struct.pack(">HH", len(data) + 4, kind) + data


def _text(name: str) -> bytes:
    raw = name.encode("ascii")
    return raw + b"\0" * (len(raw) % 2)


def _real(value: float) -> bytes:
    """Eight bytes: excess-64 exponent of 16, 56 bits of mantissa."""
    exponent = 0
    while value >= 1:
        value, exponent = value / 16, exponent + 1
    while value < 1 / 16:
        value, exponent = value * 16, exponent - 1
    return bytes([exponent + 64]) + round(value * 2**56).to_bytes(7, "big")
