"""How channels share one 4f: which pictures stand side by side, how large the field gets, what light each response has.

Sizes are in picture samples, ``(y, x)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Inputs = Literal["tiled", "lenslet", "frames"]
Outputs = Literal["frames", "tiled", "lenslet"]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Sharing:
    """The arrangement of a bank ``[out, in]`` on one bench.

    Args:
        tile: one picture with its guard.
        input_tiles: pictures side by side on the input, ``(rows, columns)``.
        summed_tiles: those of them that one mask sums; ``(1, 1)`` where each picture has a 4f of its own.
        output_tiles: responses side by side on the camera.
        arms: 4f's side by side, each with its part of the mask's panel.
        frames: masks (and input pictures) shown one after another.
        input_changes: input pictures shown one after another.
        power_share: what an output keeps of the light on each picture, by splitting and summing.
    """

    tile: Pair
    input_tiles: Pair
    summed_tiles: Pair
    output_tiles: Pair
    arms: int
    frames: int
    input_changes: int
    power_share: float

    @property
    def input_field(self) -> Pair:
        """Samples that the pictures take up on the input modulator."""
        return _times(self.tile, self.input_tiles)

    @property
    def input_centres(self) -> tuple[tuple[float, float], ...]:
        """Where the pictures' tiles are centred, ``(y, x)`` samples from the axis, in the order of the channels."""
        rows, columns = self.input_tiles
        return tuple(
            ((row - (rows - 1) / 2) * self.tile[0], (column - (columns - 1) / 2) * self.tile[1])
            for row in range(rows)
            for column in range(columns)
        )

    @property
    def output_pitch(self) -> Pair:
        """Samples from one response to the next: room for the cross terms of the tiles that a mask sums."""
        return _times(self.tile, self.summed_tiles)

    @property
    def mask_field(self) -> Pair:
        """Samples whose bins the mask must resolve: it bends input tiles to the axis and responses away from it."""
        return _times(self.output_pitch, self.output_tiles)

    def output_field(self, size: Pair) -> Pair:
        """Samples that the camera must see, from the first response's edge to the last's."""
        height, width = (
            (count - 1) * pitch + n for count, pitch, n in zip(self.output_tiles, self.output_pitch, size, strict=True)
        )
        return height, width


def share(inputs: Inputs, outputs: Outputs, channels: Pair, size: Pair, guard: int, panel: Pair) -> Sharing:
    """Arrange ``channels = (out, in)`` pictures of ``size`` with a dark ``guard`` round each, on a ``panel`` (samples).

    Tiled inputs are summed in the mask and lose nothing by it. Besides the sum on the axis they make cross terms at all
    differences of tiles, so tiled outputs stand one whole input field apart. They share the mask's transmission, 1/O in
    amplitude. Lenslet outputs split each picture's light O ways; lenslet inputs meet in a combiner that keeps 1/I of
    each.
    """
    out_channels, in_channels = channels
    tile = (size[0] + 2 * guard, size[1] + 2 * guard)
    one = (1, 1)
    shown = one if inputs == "frames" else side_by_side(in_channels, tile, panel)
    summed = shown if inputs == "tiled" else one
    splits = out_channels if outputs == "lenslet" else 1
    combined = in_channels if inputs == "lenslet" else 1
    return Sharing(
        tile=tile,
        input_tiles=shown,
        summed_tiles=summed,
        output_tiles=side_by_side(out_channels, _times(tile, summed), panel) if outputs == "tiled" else one,
        arms=splits * combined,
        frames=(out_channels if outputs == "frames" else 1) * (in_channels if inputs == "frames" else 1),
        input_changes=in_channels if inputs == "frames" else 1,
        power_share=1 / (splits * combined * (out_channels**2 if outputs == "tiled" else 1)),
    )


def side_by_side(count: int, tile: Pair, panel: Pair) -> Pair:
    """Rows and columns of ``count`` tiles, so that they fit a panel and are as short as can be on the longer side.

    That side sets how fine a bin the mask has to resolve.
    """

    def badness(grid: Pair) -> tuple[bool, int, int, int]:
        height, width = grid[0] * tile[0], grid[1] * tile[1]
        return height > panel[0] or width > panel[1], max(height, width), height * width, grid[0]

    return min(((-(-count // columns), columns) for columns in range(1, count + 1)), key=badness)


def part_of_panel(panel: tuple[float, float], count: int, band: tuple[float, float]) -> tuple[float, float]:
    """The one of ``count`` equal parts of a panel in which a ``band`` has most room."""
    grids = ((-(-count // columns), columns) for columns in range(1, count + 1))
    parts = ((panel[0] / rows, panel[1] / columns) for rows, columns in grids)
    return max(parts, key=lambda part: min(part[0] / band[0], part[1] / band[1]))


def _times(pair: Pair, by: Pair) -> Pair:
    return pair[0] * by[0], pair[1] * by[1]
