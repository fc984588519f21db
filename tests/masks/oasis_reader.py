"""OASIS read by its published layout (SEMI P39): no library of ours or of others; what it does not know, it refuses."""

import struct
import zlib

import numpy as np

MAGIC = b"%SEMI-OASIS\r\n"
WAYS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (-1, -1), (1, -1)])  # east, north, west, ...


class Stream:
    """Bytes read from the front, as the kinds of values that OASIS knows."""

    def __init__(self, raw):
        self.raw, self.at = raw, 0

    def take(self, count):
        self.at += count
        if self.at > len(self.raw):
            raise ValueError("the bytes end within a record")
        return self.raw[self.at - count : self.at]

    def byte(self):
        return self.take(1)[0]

    def unsigned(self):
        """Seven bits a byte, the lowest first; the eighth says that more follow."""
        value, shift, more = 0, 0, True
        while more:
            byte = self.byte()
            value, shift, more = value | (byte & 127) << shift, shift + 7, byte > 127
        return value

    def signed(self):
        value = self.unsigned()
        return -(value >> 1) if value & 1 else value >> 1

    def string(self):
        return self.take(self.unsigned())

    def real(self, kind):
        """Whole numbers, reciprocals and ratios, odd kinds negative; then floats of four and eight bytes."""
        if kind in (6, 7):
            return struct.unpack("<d" if kind == 7 else "<f", self.take(4 * kind - 20))[0]
        above = 1 if kind in (2, 3) else self.unsigned()
        return (-1) ** kind * above / (1 if kind < 2 else self.unsigned())

    def delta(self, bits):
        """A step in one of ``2**bits`` directions."""
        value = self.unsigned()
        return WAYS[value & (1 << bits) - 1] * (value >> bits)

    def general(self):
        """A step anywhere: in one of eight directions, or by x and y."""
        value = self.unsigned()
        if value & 1:
            return np.array([-(value >> 2) if value & 2 else value >> 2, self.signed()])
        return WAYS[value >> 1 & 7] * (value >> 4)

    def points(self):
        """Corners of a polygon from its first, [n, 2]; where edges alternate, its last corner is not told."""
        kind, count = self.unsigned(), self.unsigned()
        if kind in (0, 1) and count % 2 == 0:
            steps = [WAYS[(kind + i) % 2] * self.signed() for i in range(count)]
        elif kind in (2, 3, 4):
            steps = [self.general() if kind == 4 else self.delta(kind) for _ in range(count)]
        else:
            raise ValueError(f"a list of {count} points of kind {kind}")
        corners = np.cumsum([(0, 0), *steps], 0)
        return corners if kind > 1 else np.concatenate((corners, corners[-1:] * WAYS[1 - kind]))

    def repetition(self):
        """Where copies stand, from the first; None repeats the last repetition."""
        kind = self.unsigned()
        if kind == 0:
            return None
        count = self.unsigned() + 2
        if kind in (1, 8):  # columns and rows, along the axes or askew
            rows = self.unsigned() + 2
            across, up = (self.general() if kind == 8 else WAYS[axis] * self.unsigned() for axis in (0, 1))
            return [i * across + j * up for j in range(rows) for i in range(count)]
        if kind in (2, 3, 9):  # evenly along x, along y, askew
            step = self.general() if kind == 9 else WAYS[kind - 2] * self.unsigned()
            return [i * step for i in range(count)]
        if kind in (4, 6, 10):  # unevenly
            steps = [self.general() if kind == 10 else WAYS[kind // 2 - 2] * self.unsigned() for _ in range(count - 1)]
            return [*np.cumsum([(0, 0), *steps], 0)]
        raise ValueError(f"a repetition of kind {kind}")


class Layout:
    """The cells of a file: of each its rectangles and polygons, and the cells placed in it."""

    def __init__(self, raw):
        self.raw, self.unit, self.names, self.cells, self.tables = raw, None, {}, {}, None
        if not raw.startswith(MAGIC) or raw[-256:-255] != b"\2":
            raise ValueError("no OASIS from its first bytes to its END of 256")
        if raw[-5] != 1 or zlib.crc32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
            raise ValueError("the bytes do not have the CRC32 that END tells")
        self._forget()
        self._records(Stream(raw[len(MAGIC) :]), is_file=True)

    def _forget(self):
        """Values that records leave out are the last ones, until the next cell or name."""
        self.cell, self.is_relative = None, False
        self.last = dict.fromkeys(("shape-x", "shape-y", "place-x", "place-y"), 0)

    def _kept(self, name, told):
        """What a record tells or, where it does not, what the last one did."""
        if told is None and name not in self.last:
            raise ValueError(f"a record leaves out its {name}, and none told it before")
        self.last[name] = self.last[name] if told is None else told
        return self.last[name]

    def _records(self, read, is_file):
        while read.at < len(read.raw):
            kind = read.unsigned()
            if kind == 1 and is_file and self.unit is None:
                self._start(read)
            elif kind == 2 and is_file:
                return self._end(read)
            elif 3 <= kind <= 12:
                self._name(kind, read)
            elif kind in (13, 14):
                self._forget()
                key = read.unsigned() if kind == 13 else read.string()
                if key in self.cells:
                    raise ValueError(f"cell {key!r} twice")
                self.cell = self.cells[key] = ([], [])
            elif kind in (15, 16):
                self.is_relative = kind == 16
            elif kind in (17, 18, 20, 21) and self.cell:
                (self._placement if kind < 20 else self._shape)(kind, read)
            elif kind == 28:
                self._property(read)
            elif kind == 34 and is_file:
                self._records(Stream(_inflated(read)), is_file=False)
            elif kind not in (0, 29):  # padding, and a property told again
                raise ValueError(f"a record of kind {kind}")
        if is_file:
            raise ValueError("no END")
        return None

    def _start(self, read):
        if read.string() != b"1.0":
            raise ValueError("not of version 1.0")
        self.unit = 1e-6 / read.real(read.unsigned())
        if read.unsigned() == 0:
            self.tables = [read.unsigned() for _ in range(12)]

    def _end(self, read):
        begins = read.at - 1 + len(MAGIC)
        self.tables = self.tables or [read.unsigned() for _ in range(12)]
        read.string()
        if begins != len(self.raw) - 256 or read.at != len(read.raw) - 5:
            raise ValueError("END does not end the file")
        for names, at in enumerate(self.tables[1::2]):
            if at and self.raw[at] not in (2 * names + 3, 2 * names + 4, 34):
                raise ValueError(f"no table of names at byte {at}")

    def _name(self, kind, read):
        """Names by number, told or counted; only those of cells are of use, and those are not to be mixed."""
        self._forget()
        name = read.string()
        if kind in (11, 12):  # a layer's name, and which layers and datatypes it is of
            for _ in range(2):
                _ = [read.unsigned() for _ in range((0, 1, 1, 1, 2)[read.unsigned()])]
            return
        number = len(self.names) if kind % 2 else read.unsigned()
        if kind in (3, 4) and self.names.setdefault(number, name) != name:
            raise ValueError(f"two names of cell {number}")

    def _property(self, read):
        info = read.byte()
        if info & 4:
            _ = read.unsigned() if info & 2 else read.string()
        if info & 8:
            return
        for _ in range(read.unsigned() if info >> 4 == 15 else info >> 4):
            kind = read.unsigned()
            if kind < 8:
                read.real(kind)
            elif kind in (8, 9, 13, 14, 15):
                read.unsigned()
            elif kind in (10, 11, 12):
                read.string()
            else:
                raise ValueError(f"a property of kind {kind}")

    def _copies(self, what, bits, read):
        """Where a shape or a cell stands, once or repeated."""
        for axis, bit in ("x", 4), ("y", 2):
            if bits & bit:
                self.last[f"{what}-{axis}"] = read.signed() + self.is_relative * self.last[f"{what}-{axis}"]
        at = np.array([self.last[f"{what}-x"], self.last[f"{what}-y"]])
        return [at + by for by in self._kept("repetition", read.repetition())] if bits & 1 else [at]

    def _shape(self, kind, read):
        info = read.byte()
        layer = self._kept("layer", read.unsigned() if info & 1 else None)
        if self._kept("datatype", read.unsigned() if info & 2 else None) != 0:
            raise ValueError("a datatype, and none is told apart")
        if kind == 20:
            width = self._kept("width", read.unsigned() if info & 64 else None)
            told = width if info & 128 else read.unsigned() if info & 32 else None  # a square's height is its width
            height = self._kept("height", told)
            points = np.array([(0, 0), (width, 0), (width, height), (0, height)])
        else:
            points = self._kept("points", read.points() if info & 32 else None)
        closed = np.concatenate((points, points[:1]))
        self.cell[0].extend((layer, closed + at) for at in self._copies("shape", info >> 2 & 7, read))

    def _placement(self, kind, read):
        """A cell flipped about x, then turned by quarters, then moved."""
        info, key, turns = read.byte(), None, 0
        if info & 128:
            key = read.unsigned() if info & 64 else read.string()
        key = self._kept("cell", key)
        if kind == 17:
            turns = info >> 1 & 3
        else:
            size = read.real(read.unsigned()) if info & 4 else 1
            turns = read.real(read.unsigned()) / 90 if info & 2 else 0
            if size != 1 or turns % 1:
                raise ValueError(f"a cell {size} times as large, turned by {turns * 90} degrees")
        turned = np.linalg.matrix_power(np.array([(0, -1), (1, 0)]), int(turns % 4)) * (1, -1 if info & 1 else 1)
        self.cell[1].extend((key, turned, at) for at in self._copies("place", info >> 3 & 7, read))

    def _named(self, key):
        return key if isinstance(key, bytes) else self.names[key]

    def resolved(self):
        """Shapes of the one cell that no other places, and of what is placed in it."""
        cells = {self._named(key): cell for key, cell in self.cells.items()}
        tops = cells.keys() - {self._named(key) for _, places in cells.values() for key, _, _ in places}
        if len(cells) < len(self.cells) or len(tops) != 1:
            raise ValueError(f"{len(self.cells)} cells, {len(cells)} names and {len(tops)} on top")

        def within(name):
            shapes, places = cells[name]
            inside = [(turned, at, within(self._named(key))) for key, turned, at in places]
            return shapes + [(layer, p @ turned.T + at) for turned, at, found in inside for layer, p in found]

        return within(*tops)


def _inflated(read):
    kind, size, packed = read.unsigned(), read.unsigned(), read.unsigned()
    unpack = zlib.decompressobj(-15)
    raw = unpack.decompress(read.take(packed))
    if kind != 0 or len(raw) != size or not unpack.eof or unpack.unused_data:
        raise ValueError(f"a block of kind {kind} does not unpack to its {size} bytes")
    return raw


def boundaries(path):
    """``(layer, points [n, 2])`` of all that the top cell holds, closed, in database units; the unit itself [m]."""
    layout = Layout(path.read_bytes())
    return layout.resolved(), layout.unit
