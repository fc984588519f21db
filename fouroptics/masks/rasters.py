"""Large pictures written row by row, in the plain forms of their formats: PNG, TIFF of real numbers, BMP, text.

A picture is told by its shape and by ``rows(first, last)``, its rows from the top; only some of them are in memory.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fouroptics.errors import InputError

Rows = Callable[[int, int], np.ndarray]
_STRIP = 2**20  # pixels at a time
_BMP_MOST = 2**31  # bytes that its header can tell


def png(path: Path, shape: tuple[int, int], rows: Rows, bits: int) -> None:
    """Grey of 1, 8 or 16 bits a pixel; of whole numbers."""
    height, width = shape
    deflate = zlib.compressobj(6)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">2I5B", width, height, bits, 0, 0, 0, 0)))
        for first, last in _strips(shape):
            some = rows(first, last)
            if bits == 1:
                packed = np.packbits(some.astype(bool), axis=1)
            else:
                packed = some.astype(">u2" if bits == 16 else "u1").view("u1").reshape(len(some), -1)
            lines = np.zeros((len(some), 1 + packed.shape[1]), "u1")  # each row is told how it was filtered: not
            lines[:, 1:] = packed
            if data := deflate.compress(lines.tobytes()):
                file.write(_chunk(b"IDAT", data))
        file.write(_chunk(b"IDAT", deflate.flush()) + _chunk(b"IEND", b""))


def tiff(path: Path, shape: tuple[int, int], rows: Rows) -> None:
    """Real numbers of four bytes, deflated strip by strip."""
    height, width = shape
    starts, counts = [], []
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, 0))
        for first, last in _strips(shape):
            data = zlib.compress(np.ascontiguousarray(rows(first, last), "<f4").tobytes(), 3)
            starts.append(file.tell())
            counts.append(len(data))
            file.write(data + b"\0" * (len(data) % 2))
        starts_at = file.tell()
        file.write(struct.pack(f"<{len(starts)}I", *starts) + struct.pack(f"<{len(counts)}I", *counts))
        directory = file.tell()
        many = len(starts) > 1
        entries = (
            (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 32), (259, 3, 1, 8), (262, 3, 1, 1),
            (273, 4, len(starts), starts_at if many else starts[0]), (277, 3, 1, 1),
            (278, 4, 1, _step(shape)), (279, 4, len(counts), starts_at + 4 * len(starts) if many else counts[0]),
            (339, 3, 1, 3),
        )  # fmt: skip
        file.write(struct.pack("<H", len(entries)) + b"".join(struct.pack("<2H2I", *entry) for entry in entries))
        file.write(struct.pack("<I", 0))
        file.seek(4)
        file.write(struct.pack("<I", directory))


def bmp(path: Path, shape: tuple[int, int], rows: Rows) -> None:
    """Eight bits a pixel and a grey palette; as the format has it the lowest row comes first."""
    height, width = shape
    stride = (width + 3) // 4 * 4
    head = 14 + 40 + 1024
    if head + stride * height >= _BMP_MOST:
        what = f"{height}×{width} pixels, and a BMP holds less than 2 GiB"
        raise InputError(what, where="dose.bmp", mend="a smaller plate")
    with path.open("wb") as file:
        file.write(struct.pack("<2sIHHI", b"BM", head + stride * height, 0, 0, head))
        file.write(struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 0, stride * height, 0, 0, 256, 0))
        file.write((np.arange(256, dtype="<u4") * 0x010101).tobytes())
        for first, last in reversed([*_strips(shape)]):
            lines = np.zeros((last - first, stride), "u1")
            lines[:, :width] = rows(first, last)
            file.write(lines[::-1].tobytes())


def text(path: Path, shape: tuple[int, int], rows: Rows, words: np.ndarray, between: str, head: str = "") -> None:
    """Of whole numbers, each as its word; a line a row."""
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write(head)
        for first, last in _strips(shape):
            for row in words[rows(first, last)]:
                file.write(between.join(row) + "\n")


def _step(shape: tuple[int, int]) -> int:
    return min(shape[0], max(1, _STRIP // shape[1]))


def _strips(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    step = _step(shape)
    for first in range(0, shape[0], step):
        yield first, min(first + step, shape[0])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
