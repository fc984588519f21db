"""GDSII read by its published layout: no library of ours or of others."""

import struct

import numpy as np


def records(path):
    """A GDSII stream by its published layout: length, type, data type, data."""
    raw, at = path.read_bytes(), 0
    while at < len(raw):
        length, kind, data = struct.unpack(">HBB", raw[at : at + 4])
        if length == 0:
            return
        yield kind, data, raw[at + 4 : at + length]
        at += length


def boundaries(path):
    """``(layer, points [n, 2])`` of every BOUNDARY, in database units; the unit itself [m]."""
    found, layer, unit, is_drawn = [], 0, 0.0, False
    for kind, _, data in records(path):
        if kind == 0x03:  # UNITS: two eight-byte reals, excess-64
            raw = data[8:16]
            unit = int.from_bytes(raw[1:], "big") / 2**56 * 16.0 ** ((raw[0] & 0x7F) - 64)
        elif kind in (0x08, 0x0A):  # a BOUNDARY begins, or a reference
            is_drawn = kind == 0x08
        elif kind == 0x0D:
            layer = struct.unpack(">h", data)[0]
        elif kind == 0x10 and is_drawn:
            found.append((layer, np.frombuffer(data, ">i4").reshape(-1, 2)))
    return found, unit
