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
        output_tiles: responses side by side on the camera.
        frames: masks (and input pictures) shown one after another.
        power_share: what an output keeps of the light on one picture, by splitting and summing.
    """

    tile: Pair
    input_tiles: Pair
    output_tiles: Pair
    frames: int
    power_share: float

    @property
    def input_field(self) -> Pair:
        """Samples that the pictures take up on the input modulator."""
        return self.tile[0] * self.input_tiles[0], self.tile[1] * self.input_tiles[1]

    def output_field(self, size: Pair) -> Pair:
        """Samples that the camera must see: one picture, or all side by side with their guards."""
        if self.output_tiles == (1, 1):
            return size
        return self.tile[0] * self.output_tiles[0], self.tile[1] * self.output_tiles[1]

    @property
    def mask_field(self) -> Pair:
        """Samples whose bins the mask must resolve: it bends input tiles to the axis and responses away from it."""
        rows, columns = (i + o - 1 for i, o in zip(self.input_tiles, self.output_tiles, strict=True))
        return self.tile[0] * rows, self.tile[1] * columns


def share(inputs: Inputs, outputs: Outputs, channels: Pair, size: Pair, guard: int, panel: Pair) -> Sharing:
    """Arrange ``channels = (out, in)`` pictures of ``size`` with a dark ``guard`` round each, on a ``panel`` (samples).

    Tiled inputs are summed in the mask and lose nothing by it. Tiled outputs share the mask's transmission, 1/O in
    amplitude. A lenslet bank splits the source over its O·I arms (or I, if outputs come one by one), and an N-to-1
    combiner keeps 1/N of each arm.
    """
    out_channels, in_channels = channels
    tile = (size[0] + 2 * guard, size[1] + 2 * guard)
    power = 1.0
    if outputs == "tiled":
        power /= out_channels**2
    if outputs == "lenslet":
        power /= out_channels
    if inputs == "lenslet":
        power /= in_channels**2
    return Sharing(
        tile=tile,
        input_tiles=side_by_side(in_channels, tile, panel) if inputs == "tiled" else (1, 1),
        output_tiles=side_by_side(out_channels, tile, panel) if outputs == "tiled" else (1, 1),
        frames=(out_channels if outputs == "frames" else 1) * (in_channels if inputs == "frames" else 1),
        power_share=power,
    )


def side_by_side(count: int, tile: Pair, panel: Pair) -> Pair:
    """Rows and columns of ``count`` tiles, so that they fit a panel and are as short as can be on the longer side.

    That side sets how fine a bin the mask has to resolve.
    """

    def badness(grid: Pair) -> tuple[bool, int, int, int]:
        height, width = grid[0] * tile[0], grid[1] * tile[1]
        return height > panel[0] or width > panel[1], max(height, width), height * width, grid[0]

    return min(((-(-count // columns), columns) for columns in range(1, count + 1)), key=badness)
