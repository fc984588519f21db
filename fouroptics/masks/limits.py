"""What a shop can write, as a file or as words say it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from fouroptics import toml, units
from fouroptics.errors import InputError
from fouroptics.files import is_file, read_text
from fouroptics.units import Quantity

FORMAT = "fouroptics-rules/1"
_ROUNDING = 1e-6  # of a pixel
_QUANTITIES = {
    "min_feature": Quantity("length", 1e-9, 1e-2, "2 um"),
    "min_gap": Quantity("length", 1e-9, 1e-2, "2 um"),
    "min_area": Quantity("area", 0.0, 1e-4, "4 um^2"),
    "grid": Quantity("length", 1e-12, 1e-4, "5 nm"),
    "max_snap": Quantity("ratio", 0.0, 1.0, "2 %"),
    "min_fill": Quantity("ratio", 0.0, 1.0, "20 %"),
    "max_fill": Quantity("ratio", 0.0, 1.0, "80 %"),
    "max_aspect": Quantity("ratio", 1e-3, 1e3, "200 %"),
    "max_extent": Quantity("length", 1e-6, 10.0, "150 mm"),
}


@dataclass(frozen=True)
class Limits:
    """What a shop can write. Read them with ``load``, which checks units.

    Args:
        min_feature: narrowest drawn line [m]; 0: one pixel.
        min_gap: narrowest space between drawn lines [m]; 0: one pixel.
        min_area: smallest island and smallest hole [m²].
        corners: whether drawn pixels may not touch by a corner alone.
        grid: addresses of the writer are multiples of it [m].
        max_snap: share of a pixel by which an edge may move onto the grid.
        min_fill: least share of a mask that is drawn.
        max_fill: largest share.
        max_aspect: largest depth of an etch over the narrowest line or gap that it meets.
        max_extent: longest side of all masks together [m].
    """

    min_feature: float = 0.0
    min_gap: float = 0.0
    min_area: float = 0.0
    corners: bool = True
    grid: float = 1e-9
    max_snap: float = 0.02
    min_fill: float = 0.0
    max_fill: float = 1.0
    max_aspect: float = math.inf
    max_extent: float = math.inf

    @classmethod
    def load(
        cls, file: Path | None = None, changes: Mapping[str, Any] | None = None, own: Limits | None = None
    ) -> Limits:
        """From a TOML file, or a set's own, with some keys changed; what is left out is not asked for."""
        given: dict[str, Any] = {}
        if file is not None:
            if not is_file(file):
                raise InputError("there is no such file", where=str(file), mend="such as rules.toml")
            given = toml.parse(read_text(file), str(file))
            if given.pop("format", None) != FORMAT:
                raise InputError("is no file of rules", where=str(file), mend=f'its first line is format = "{FORMAT}"')
        return replace(
            own if own is not None and file is None else cls(),
            **{key: _read(key, value) for key, value in (given | dict(changes or {})).items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """As ``load`` takes it; what is not asked for is left out."""
        given = {key: value for key, value in asdict(self).items() if value != getattr(Limits(), key)}
        return {
            key: units.text(value, _QUANTITIES[key].kind) if key in _QUANTITIES else value
            for key, value in given.items()
        }

    def pixels(self, pitch: tuple[float, float]) -> tuple[tuple[int, int], tuple[int, int]]:
        """The narrowest line and gap in pixels ``(y, x)``."""
        lines, gaps = (
            tuple(max(1, math.ceil(least / p - _ROUNDING)) for p in pitch) for least in (self.min_feature, self.min_gap)
        )
        return (lines[0], lines[1]), (gaps[0], gaps[1])


def _read(key: str, value: Any) -> Any:
    known = [one.name for one in fields(Limits)]
    if key not in known:
        raise InputError("no such rule", where=key, mend=f"rules are {', '.join(known)}")
    if key == "corners":
        if not isinstance(value, bool):
            raise InputError(f"{value!r} is neither true nor false", where=key, mend="write true or false")
        return value
    try:
        return _QUANTITIES[key].parse(value)
    except InputError as error:
        raise error.within(key) from None
