"""How channels share one 4f: which pictures stand side by side, how large the field gets, what light each response has.

Sizes are in picture samples, ``(y, x)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fouroptics.errors import InputError

Inputs = Literal["tiled", "lenslet", "frames"]
Outputs = Literal["frames", "tiled", "lenslet"]
Pair = tuple[int, int]
Way = tuple[Inputs, Outputs]
Place = tuple[float, float]


@dataclass(frozen=True)
class Sharing:
    """The arrangement of a bank ``[out, in]`` on one bench.

    Args:
        tile: one picture with its guard.
        input_tiles: pictures side by side on the input, ``(rows, columns)``.
        summed_tiles: those of them that one mask sums; ``(1, 1)`` where each picture has a 4f of its own.
        output_tiles: responses side by side on the camera.
        arm_grid: 4f's side by side, each with its part of the mask's panel, ``(rows, columns)``.
        arms: how many of them there are; the grid may have more places.
        frames: masks (and input pictures) shown one after another.
        input_changes: input pictures shown one after another.
        power_share: what an output keeps of the light on each picture, by splitting and summing.
    """

    tile: Pair
    input_tiles: Pair
    summed_tiles: Pair
    output_tiles: Pair
    arms: int
    arm_grid: Pair
    frames: int
    input_changes: int
    power_share: float

    @property
    def input_field(self) -> Pair:
        """Samples that the pictures take up on the input modulator."""
        return _times(self.tile, self.input_tiles)

    @property
    def input_centres(self) -> tuple[Place, ...]:
        """Where the pictures' tiles are centred, ``(y, x)`` samples from the axis, in the order of the channels."""
        return _grid_of(self.input_tiles, self.tile)

    def centres(self, channels: Pair, inputs: str, outputs: str) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
        """Where each input's tile and each output's response are centred, ``(y, x)`` samples from their 4f's axis."""
        axis: tuple[Place, ...] = ((0.0, 0.0),)
        here = self.input_centres if inputs in ("tiled", "mathematical") else axis * channels[1]
        there = _grid_of(self.output_tiles, self.output_pitch) if outputs == "tiled" else axis * channels[0]
        return here[: channels[1]], there[: channels[0]]

    @property
    def output_pitch(self) -> Pair:
        """Samples from one response to the next: room for the cross terms of the tiles that a mask sums."""
        return _times(self.tile, self.summed_tiles)

    @property
    def mask_field(self) -> Pair:
        """Samples whose bins the mask must resolve: it bends input tiles to the axis and responses away from it."""
        return _times(self.output_pitch, self.output_tiles)

    def arm_pixels(self, panel: Pair) -> Pair:
        """Pixels ``(y, x)`` of a mask's panel that each arm has, at least one."""
        return max(1, panel[0] // self.arm_grid[0]), max(1, panel[1] // self.arm_grid[1])

    def arm_origins(self, panel: Pair) -> tuple[Pair, ...]:
        """Upper left pixel ``(y, x)`` of each arm's part of a mask's panel, row by row; together they are centred."""
        height, width = self.arm_pixels(panel)
        rows, columns = self.arm_grid
        top, left = (panel[0] - rows * height) // 2, (panel[1] - columns * width) // 2
        places = ((top + row * height, left + column * width) for row in range(rows) for column in range(columns))
        return tuple(places)[: self.arms]

    def output_field(self, size: Pair) -> Pair:
        """Samples that the camera must see, from the first response's edge to the last's."""
        height, width = (
            (count - 1) * pitch + n for count, pitch, n in zip(self.output_tiles, self.output_pitch, size, strict=True)
        )
        return height, width


def share(
    inputs: Inputs,
    outputs: Outputs,
    channels: Pair,
    size: Pair,
    guard: int,
    panel: Pair,
    *,
    sensor: Pair | None = None,
    mask: tuple[float, float] = (1.0, 1.0),
    band: tuple[float, float] = (1.0, 1.0),
) -> Sharing:
    """Arrange ``channels = (out, in)`` pictures of ``size`` with a dark ``guard`` round each, on a ``panel`` (samples).

    ``sensor`` is what the camera sees (samples), to which tiled outputs are fitted; None: as much as the panel shows.
    ``mask`` and ``band`` are the shapes, height to width, of the mask's panel and of the band that it must hold.

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
    pitch = _times(tile, summed)
    seen = [s + p - n for s, p, n in zip(sensor or panel, pitch, size, strict=True)]  # the last guard may be cut off
    splits = out_channels if outputs == "lenslet" else 1
    combined = in_channels if inputs == "lenslet" else 1
    return Sharing(
        tile=tile,
        input_tiles=shown,
        summed_tiles=summed,
        output_tiles=side_by_side(out_channels, pitch, (seen[0], seen[1])) if outputs == "tiled" else one,
        arms=splits * combined,
        arm_grid=arm_grid(mask, splits * combined, band),
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


def arm_grid(panel: tuple[float, float], count: int, band: tuple[float, float]) -> Pair:
    """Rows and columns that cut a panel into ``count`` equal parts in which a ``band`` has most room."""

    def room(grid: Pair) -> float:
        return min(panel[0] / grid[0] / band[0], panel[1] / grid[1] / band[1])

    return max(((-(-count // columns), columns) for columns in range(1, count + 1)), key=room)


def ways(channels: Pair, *, mask_changes: bool) -> tuple[Way, ...]:
    """The layouts that ``choose`` chooses from; one channel has one way only.

    Inputs one after another are left out: they are another function unless a reference beam makes them fields.
    """
    outputs: tuple[Outputs, ...] = ("frames", "tiled", "lenslet") if mask_changes else ("tiled", "lenslet")
    inputs: tuple[Inputs, ...] = ("tiled", "lenslet")
    return tuple((i, o) for i in inputs[: channels[1]] for o in (outputs if channels[0] > 1 else outputs[:1]))


def choose(fitting: Mapping[Way, Sharing], *, mask_changes: bool) -> tuple[Inputs, Outputs, str]:
    """The best of the layouts that fit, and why in one sentence.

    A mask that does not change is there to be fast: fewest frames come first, light second. Where masks follow each
    other, light comes first.
    """
    if not fitting:
        raise InputError("there is none that fits", where="layout")

    def cost(way: Way) -> tuple[float, float]:
        frames, dark = fitting[way].frames, -fitting[way].power_share
        return (dark, frames) if mask_changes else (frames, dark)

    best, *others = sorted(fitting, key=cost)
    return *best, f"{way_text(best)}: {_reason(best, others, fitting)}"


def way_text(way: Way) -> str:
    """``"tiled inputs, frames"``."""
    return f"{way[0]} inputs, {_outputs_text(way)}"


def _reason(best: Way, others: list[Way], fitting: Mapping[Way, Sharing]) -> str:
    if not others:
        return "the only one that fits"
    won, next_best = fitting[best], fitting[others[0]]
    rival = _outputs_text(others[0]) if others[0][0] == best[0] else way_text(others[0])
    if won.frames < next_best.frames:
        return f"read in {won.frames} frame{'s' * (won.frames > 1)}, not {next_best.frames}"
    gain = won.power_share / next_best.power_share
    return f"keeps {gain:.3g} times the light of {rival}" if gain > 1 else f"as good as {rival} and simpler"


def _outputs_text(way: Way) -> str:
    return "frames" if way[1] == "frames" else f"{way[1]} outputs"


def _times(pair: Pair, by: Pair) -> Pair:
    return pair[0] * by[0], pair[1] * by[1]


def _grid_of(tiles: Pair, pitch: Pair) -> tuple[Place, ...]:
    """Centres of tiles about the axis, row by row."""
    return tuple(
        ((row - (tiles[0] - 1) / 2) * pitch[0], (column - (tiles[1] - 1) / 2) * pitch[1])
        for row in range(tiles[0])
        for column in range(tiles[1])
    )
