"""Tables that stand beside a bench as CSV files: what a modulator shows at each drive, and which pixels are stuck.

A first line names the columns; empty lines and lines that begin with # are skipped. A bench that has to stand alone
holds the text itself in place of a file's name. Numbers only: no torch, no numpy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fouroptics.errors import InputError
from fouroptics.files import read_text

LUT_COLUMNS = ("drive", "phase_rad", "transmittance")
DEAD_COLUMNS = ("x", "y", "level")
Pixel = tuple[int, int, int]  # x, y, level


def is_inside(source: str | Path) -> bool:
    """Whether it is a table's text rather than the name of a file."""
    return isinstance(source, str) and "\n" in source


def text_of(source: str | Path) -> str:
    """A table's text, whether it is given by a file's name or itself; its lines end alike on every system."""
    text = str(source) if is_inside(source) else read_text(Path(source))
    return "\n".join((*text.splitlines(), ""))


@dataclass(frozen=True)
class Lut:
    """A measured look-up table, one entry a row: ``drive`` rises, ``phase`` in rad, ``amplitude`` = √transmittance."""

    drive: tuple[float, ...]
    phase: tuple[float, ...]
    amplitude: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.drive)


def read_lut(path: str | Path, *, monotonic: str = "") -> Lut:
    """Read ``drive, phase_rad, transmittance``; the transmittance (of the power) may be left out and is 1 then.

    Args:
        path: the file.
        monotonic: the column that may not turn back: ``"phase_rad"`` rises or falls, ``"transmittance"`` rises.

    Raises:
        InputError: what is wrong, and in which line.
    """
    place = _place(path)
    lines, rows = [], []
    for line, row in rows_of(path, LUT_COLUMNS, needed=2):
        rows.append((*row, 1.0)[:3])
        lines.append(line)
        _check_lut_row(f"{place}: line {line}", rows)
    if len(rows) < 2:
        raise InputError(f"a table of {len(rows)} rows shows nothing", where=place, mend="write two rows or more")
    if monotonic:
        _check_direction(place, lines, [row[LUT_COLUMNS.index(monotonic)] for row in rows], monotonic)
    drive, phase, power = zip(*rows, strict=True)
    if max(power) == 0:
        raise InputError("nothing passes at any drive", where=place, mend="measure it again")
    return Lut(drive, phase, tuple(math.sqrt(share) for share in power))


def read_dead(path: str | Path, *, pixels: tuple[int, int] | None = None, levels: int | None = None) -> list[Pixel]:
    """Read ``x, y, level`` of stuck pixels, counted from 0 at the panel's upper left corner.

    Args:
        path: the file.
        pixels: the panel's ``(x, y)``, and
        levels: how many it shows; what lies beyond them is refused.
    """
    limits = [limit or math.inf for limit in (*(pixels or (None, None)), levels)]
    seen: dict[tuple[int, int], int] = {}
    for line, row in rows_of(path, DEAD_COLUMNS):
        where = f"{_place(path)}: line {line}"
        for name, value, limit in zip(DEAD_COLUMNS, row, limits, strict=True):
            if value != int(value) or not 0 <= value < limit:
                whole = "0 or more" if limit == math.inf else f"0 to {limit - 1:.0f}"
                raise InputError(f"{name} = {value:g} is none of the panel's", where=where, mend=f"write {whole}")
        x, y, level = (int(value) for value in row)
        if (x, y) in seen:
            raise InputError(f"pixel {x}, {y} is listed twice", where=where, mend="keep one of the two lines")
        seen[x, y] = level
    return [(x, y, level) for (x, y), level in seen.items()]


def _place(source: str | Path) -> str:
    return "the table inside" if is_inside(source) else str(source)


def rows_of(
    path: str | Path, columns: Sequence[str], needed: int | None = None
) -> Iterator[tuple[int, tuple[float, ...]]]:
    """Line number and numbers of every row; the head must name the columns, of which the first ``needed`` suffice."""
    head = 0
    for number, line in enumerate(text_of(path).splitlines(), 1):
        cells = [cell.strip() for cell in line.split(",")]
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{_place(path)}: line {number}"
        if not head:
            head = len(cells)
            if cells != list(columns[:head]) or head < (needed or len(columns)):
                mend = f"the first line is {','.join(columns)}"
                raise InputError(f"{line.strip()[:60]!r} names other columns", where=where, mend=mend)
            continue
        if len(cells) != head:
            what = f"{len(cells)} values for {head} columns"
            raise InputError(what, where=where, mend=f"write {', '.join(columns[:head])}, with commas between")
        yield number, tuple(_number(cell, where) for cell in cells)
    if not head:
        raise InputError("the file is empty", where=_place(path), mend=f"its first line is {','.join(columns)}")


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{cell[:30]!r} is not a number", where=where, mend="write one such as 3.14")
    return value


def _check_lut_row(where: str, rows: Sequence[tuple[float, ...]]) -> None:
    """The last row against the one before it."""
    drive, _, power = rows[-1]
    if len(rows) > 1 and drive <= rows[-2][0]:
        what = f"the drive goes from {rows[-2][0]:g} to {drive:g}"
        raise InputError(what, where=where, mend="sort the rows by drive, each drive once")
    if not 0 <= power <= 1:
        what = f"a transmittance of {power:g} is no share of the power"
        raise InputError(what, where=where, mend="write one from 0 to 1")


def _check_direction(place: str, lines: list[int], values: list[float], column: str) -> None:
    """A phase may rise or fall, as its ends tell; a transmittance rises."""
    sign = -1.0 if column == "phase_rad" and values[-1] < values[0] else 1.0
    steps = zip(lines[1:], values, values[1:], strict=False)
    for line, before, after in steps:
        if sign * (after - before) < 0:
            what = f"{column} turns back from {before:g} to {after:g}"
            mend = "unwrap it and smooth its noise" if column == "phase_rad" else "sort the rows by it"
            raise InputError(what, where=f"{place}: line {line}", mend=mend)
    if values[0] == values[-1]:
        raise InputError(f"{column} is {values[0]:g} at every drive", where=place, mend="measure it again")
