"""A mask set for people: a table, what differs between two, pictures of tiles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fouroptics.masks.maskset import MaskSet
from fouroptics.masks.plane import Plane
from fouroptics.masks.tree import TERMS
from fouroptics.units import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TILES = 64  # of which pictures are drawn unless more are asked for
_SHORT = 40  # letters of what is told in a table: a recipe is in the file


def likeness(masks: MaskSet) -> np.ndarray:
    """Of each output's realised and wanted kernels, the cosine ``[O]``: real parts where the wanted are real."""
    found = masks.realised if np.iscomplexobj(masks.kernels) else masks.realised.real
    outputs = len(masks.kernels)
    pairs = len(found) // outputs
    found = found.reshape(pairs, outputs, *found.shape[1:])
    found = found[0] - found[1] if pairs == 2 else found[0]
    one, other = found.reshape(outputs, -1), masks.kernels.reshape(outputs, -1)
    along = np.abs((one * other.conj()).sum(1))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    nothing = (np.linalg.norm(one, axis=1) == 0) & (np.linalg.norm(other, axis=1) == 0)
    alike: np.ndarray = np.where(norms > 0, along / np.where(norms > 0, norms, 1), nothing.astype(float))
    return alike


def data(masks: MaskSet) -> dict[str, Any]:
    """What ``table`` says, for programs."""
    alike = likeness(masks)
    return {
        "title": masks.title,
        "uuid": masks.uuid,
        "bench": masks.bench.name,
        "network": dict(masks.network),
        "planes": [_plane_data(plane) for plane in masks.planes],
        "kernel_likeness": {"worst": float(alike.min()), "median": float(np.median(alike))},
        "scale": masks.scale.tolist(),
    }


def table(masks: MaskSet) -> str:
    """The set in a dozen lines."""
    told, alike = masks.network, likeness(masks)
    outputs, inputs = told["channels"]
    kernel, size = ("×".join(map(str, told[name])) for name in ("kernel", "size"))
    rows = [
        ("title", masks.title),
        ("bench", f"{masks.bench.name}, {show(masks.bench.source.wavelength, 'length')}"),
        ("bank", f"{inputs} → {outputs} channels, kernels {kernel}, pictures {size}, {told['readout']}"),
    ]
    for plane in masks.planes:
        tiles, rows_of, columns = plane.levels.shape
        side = show(rows_of * plane.pitch[0], "length"), show(columns * plane.pitch[1], "length")
        rows += [
            ("masks", f"{tiles} of {rows_of}×{columns} pixels, {side[0]} × {side[1]}, {plane.kind}, {plane.encoding}"),
            ("levels", _levels(plane)),
            ("frames", f"{int(plane.frame.max()) + 1}"),
        ]
    rows += [
        ("taps made", f"like those wanted to {alike.min():.4f} at worst, {np.median(alike):.4f} in the middle"),
        ("turned down to", f"{masks.scale.min():.4g} … {masks.scale.max():.4g} of the wanted amplitude"),
        ("made by", ", ".join(f"{name} {told}" for name, told in masks.provenance.items() if len(told) <= _SHORT)),
        ("set", masks.uuid),
    ]
    return "\n".join(f"{name:<15} {value}" for name, value in rows)


def difference(one: MaskSet, other: MaskSet) -> dict[str, Any]:
    """What differs: keys of the bench and of the network, pixels of each plane, kernels. Empty where nothing does."""
    found: dict[str, Any] = {}
    for name, (ours, theirs) in {
        "bench": (_flat(one.bench.to_dict()), _flat(other.bench.to_dict())),
        "network": (dict(one.network), dict(other.network)),
    }.items():
        keys = sorted({*ours, *theirs})
        changed = {key: [ours.get(key), theirs.get(key)] for key in keys if ours.get(key) != theirs.get(key)}
        found |= {name: changed} if changed else {}
    for name in ("kernels", "realised", "scale"):
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            found[name] = "differ"
    for number, (mine, its) in enumerate(zip(one.planes, other.planes, strict=False)):
        told = [
            name for name in ("kind", "encoding", "pitch", "fill_factor") if getattr(mine, name) != getattr(its, name)
        ]
        told += [name for name in ("origin", "frame") if not np.array_equal(getattr(mine, name), getattr(its, name))]
        told += [f"terms.{name}" for name in TERMS if not _same(mine.terms, its.terms, name)]
        told += [
            f"level_table.{name}"
            for name in ("phase", "amplitude", "height", "drive")
            if not _same(mine.table, its.table, name)
        ]
        if not _same(mine, its, "level_amplitude"):
            told.append("level_amplitude")
        if told:
            found[f"plane {number}, what differs"] = told
        if mine.levels.shape != its.levels.shape:
            found[f"plane {number}"] = f"{[*mine.levels.shape]} and {[*its.levels.shape]}"
            continue
        pixels = {t: int(np.count_nonzero(mine.levels[t] != its.levels[t])) for t in range(mine.levels.shape[0])}
        changed_tiles = {tile: count for tile, count in pixels.items() if count}
        if changed_tiles:
            found[f"plane {number}"] = {"pixels by tile": changed_tiles}
    if one.rules != other.rules:
        found["rules"] = [None if rules is None else rules.to_dict() for rules in (one.rules, other.rules)]
    if len(one.planes) != len(other.planes):
        found["planes"] = [len(one.planes), len(other.planes)]
    return found


def _same(one: Any, other: Any, name: str) -> bool:
    return np.array_equal(np.asarray(getattr(one, name, None)), np.asarray(getattr(other, name, None)))


def pictures(masks: MaskSet, folder: Path, most: int = _TILES) -> list[Path]:
    """Each tile as its device shows it, a PNG a tile."""
    from PIL import Image

    written = []
    for number, plane in enumerate(masks.planes):
        for tile in range(min(most, plane.levels.shape[0])):
            path = folder / f"plane-{number}-tile-{tile:04d}.png"
            Image.fromarray(np.round(_shown(plane, tile) * 255).astype(np.uint8)).save(path)
            written.append(path)
    return written


def plot(masks: MaskSet, tiles: int) -> Figure:
    """The first tiles, and below each the kernel of its first response: wanted, and made."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    plane = masks.planes[0]
    count = min(tiles, plane.levels.shape[0])
    figure = Figure(figsize=(1 + 3.1 * count, 7.4), layout="constrained")
    axes = figure.subplots(3, count, squeeze=False, height_ratios=(2, 1, 1))
    _, rows, columns = plane.levels.shape
    across, down = columns * plane.pitch[1] / 2e-3, rows * plane.pitch[0] / 2e-3
    for tile in range(count):
        axes[0, tile].imshow(_shown(plane, tile), extent=(-across, across, down, -down))
        axes[0, tile].set(title=f"tile {tile}", xlabel="x [mm]")
        first = int(np.argmax(plane.terms.tile == tile))
        out, channel = int(plane.terms.out_channel[first]), int(plane.terms.in_channel[first])
        part = out + (len(masks.kernels) if plane.terms.role[first] == 2 else 0)
        for row, name, taps in (
            (1, "wanted", masks.kernels[out, channel]), (2, "made", masks.realised[part, channel])
        ):  # fmt: skip
            peak = float(np.abs(taps).max()) or 1.0
            axes[row, tile].imshow(taps.real, cmap="RdBu_r", vmin=-peak, vmax=peak)
            axes[row, tile].set(xticks=[], yticks=[], title=f"{name}: output {out}, input {channel}")
    axes[0, 0].set_ylabel("y [mm]")
    if plane.table is None or np.ptp(plane.table.phase) > 0:
        circle = ScalarMappable(Normalize(0, 2 * np.pi), "twilight")
        figure.colorbar(circle, ax=[*axes[0]], label="phase [rad]", shrink=0.8)
    return figure


def _shown(plane: Plane, tile: int) -> np.ndarray:
    """A tile as its device shows it ``[y, x, 3]``: phase as a hue's place on the circle, amplitude as light."""
    from matplotlib import colormaps

    levels = np.asarray(plane.levels[tile])
    if plane.table is None:
        shown = colormaps["twilight"](levels / 65536)[..., :3]
    elif np.ptp(plane.table.phase) > 0:
        shown = colormaps["twilight"]((plane.table.phase[levels] / (2 * np.pi)) % 1)[..., :3]
        shown = shown * plane.table.amplitude[levels][..., None]
    else:
        shown = np.repeat(plane.table.amplitude[levels][..., None], 3, -1)
    return np.asarray(shown)


def _plane_data(plane: Plane) -> dict[str, Any]:
    return {
        "kind": plane.kind,
        "encoding": plane.encoding,
        "shape": [*plane.levels.shape],
        "pitch": [*plane.pitch],
        "levels": None if plane.table is None else len(plane.table.phase),
        "frames": int(plane.frame.max()) + 1,
        "terms": len(plane.terms.tile),
    }


def _levels(plane: Plane) -> str:
    if plane.table is None:
        return "any phase and amplitude"
    table = plane.table
    if np.ptp(table.phase) == 0:
        return f"{len(table.phase)}, amplitude {table.amplitude.min():.3g} … {table.amplitude.max():.3g}"
    return f"{len(table.phase)}, phase {table.phase.min():.3f} … {table.phase.max():.3f} rad"


def _flat(nested: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{at}{key}.") if isinstance(value, Mapping) else {f"{at}{key}": value}
    return flat
