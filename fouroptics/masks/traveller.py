"""The page that goes with a plate through the shop: what is made, how exactly, and how one sees that it is right."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import fouroptics
from fouroptics.devices import material
from fouroptics.masks import etch, marks, rules, show
from fouroptics.masks.maskset import MaskSet
from fouroptics.units import show as shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (8.27, 11.69)  # A4 [inch]
_CORNER = 14  # pixels of a mask that are drawn
_TITLE = 52  # letters of a title that fit
_SIGNED = (
    "layout read back: layers and size of the masks as above",
    "corner at the left found on the plate: upright, row 0 at the top",
    "tone: what is drawn is {drawn}",
    "first layer aligned to the crosses on layer 100",
    "each later layer aligned to the one before; overlay x, y [nm]:",
    "depth of every step measured, on {places} places [nm]:",
    "plate looked at: no residue, no lift-off, no broken lines",
)


def write(masks: MaskSet, folder: Path, report: rules.Report) -> None:
    """Write ``traveller.pdf``."""
    page = drawn(masks, report)
    page.savefig(folder / "traveller.pdf", metadata={"CreationDate": None, "Title": masks.title})


def drawn(masks: MaskSet, report: rules.Report) -> Figure:
    """The page."""
    from matplotlib.figure import Figure

    page = Figure(figsize=_SIZE)
    told = [*etch.steps(masks.planes[0])]
    title = " ".join(masks.title.split())
    shortened = title if len(title) <= _TITLE else f"{title[: _TITLE - 1]}…"
    page.text(0.07, 0.955, shortened, fontsize=17, weight="bold", parse_math=False)
    made = f"fouroptics {fouroptics.__version__}"
    page.text(0.07, 0.937, f"Traveller of a plate · set {masks.uuid} · {made}", fontsize=9, color="0.35")
    y = _listed(page, 0.915, "What is made", _facts(masks, told))
    y = _listed(page, y, "Steps", _steps(told), mono=True)
    y = _listed(page, y, "Design rules", _rules(report), mono=True)
    y = _listed(page, y, "What it should do", _worth(masks, told))
    _corner(page.add_axes((0.09, 0.06, 0.29, 0.22)), masks)
    _sign_off(page, 0.30, masks)
    return page


def _listed(page: Figure, y: float, title: str, lines: list[str], *, mono: bool = False) -> float:
    """A title and lines below it; the height at which the next may begin."""
    page.text(0.07, y, title, fontsize=11, weight="bold")
    for line in lines:
        y -= 0.0155
        page.text(0.07, y, line, parse_math=False, fontsize=7.6 if mono else 8.6, family="monospace" if mono else None)
    return y - 0.028


def _facts(masks: MaskSet, told: list[etch.Step]) -> list[str]:
    plane, mask = masks.alone, masks.bench.mask
    tiles, rows, columns = plane.levels.shape
    wide, high, pixel = (
        shown(n * p, "length")
        for n, p in zip((columns, rows, 1), (*reversed(plane.pitch), plane.pitch[1]), strict=True)
    )
    chrome = plane.kind == etch.CHROME
    process = "chrome on glass, one layer" if chrome else f"{2 ** len(told)} levels in {len(told)} etches"
    medium = mask.material or ("an index of its own" if mask.index else material.PLATE)
    at = masks.bench.source.wavelength
    index = float(material.index(mask.medium or material.PLATE, at))
    crosses = len(marks.crosses_at((0, 0, 0, 0)))
    pairs = ", ".join(f"{s.layer}–{s.layer + 1}" for s in told[:-1])
    return [
        f"{process}; {'' if chrome else f'{medium}, index {index:.5f}, '}for {shown(at, 'length')}",
        f"{tiles} mask{'s' if tiles > 1 else ''} of {columns} × {rows} pixels of {pixel}: {wide} × {high}",
        f"layers {told[0].layer} … {told[-1].layer} steps, {marks.FIDUCIALS} crosses, {marks.FRAME} frame, "
        f"{marks.LABELS} label; scale 1; database unit 1 nm",
        f"drawn is {_drawn(chrome)}; beside the masks "
        + ("all is chrome as far as the panel reaches" if chrome else "nothing is etched"),
        "side: the structured face looks to the source. The layout is drawn as seen from the source, x right, y up.",
        "NOTHING IS MIRRORED: whoever needs a mirrored plate mirrors it and says so here: ______________________",
        f"crosses: {crosses} of {shown(marks.CROSS, 'length')}, two of them at the upper left"
        + (f"; overlay marks of layers {pairs} left and right" if pairs else ""),
    ]


def _drawn(chrome: bool) -> str:
    return "chrome (dark)" if chrome else "what is etched"


def _steps(told: list[etch.Step]) -> list[str]:
    if not told[0].depth:
        return ["order  layer  what", "    1      1  chrome"]
    rows = ["order  layer  what                 depth [nm]   ± tolerance [nm]   drawn where the level's bit is 0"]
    return rows + [
        f"{n:>5}  {s.layer:>5}  {s.what:<18} {s.depth * 1e9:>12.1f} {s.tolerance * 1e9:>18.1f}   bit {n - 1}"
        for n, s in enumerate(told, 1)
    ]


def _rules(report: rules.Report) -> list[str]:
    limits = report.limits
    line, gap = (shown(least or min(report.pitch), "length") for least in (limits.min_feature, limits.min_gap))
    heads = [f"lines from {line}, gaps from {gap}, addresses on {shown(limits.grid, 'length')}"]
    asked = {k: v for k, v in limits.to_dict().items() if k not in ("min_feature", "min_gap", "grid")}
    corners = {"corners": "none that touch"} if limits.corners else {}
    more = ", ".join(f"{name} {value}" for name, value in (corners | asked).items())
    heads += [more[:100]] if more else []
    lines = str(report).splitlines()
    rest = [f"… and {len(lines) - 9} more"] if len(lines) > 9 else []
    return [*heads, *(line[:100] for line in lines[:9]), *rest]


def _worth(masks: MaskSet, told: list[etch.Step]) -> list[str]:
    alike = show.likeness(masks)
    lines = [f"kernels made are like those wanted to {alike.min():.4f} at worst (cosine)"]
    if told[0].depth:
        lines.insert(
            0, f"{2 ** len(told)} levels send {_efficiency(masks):.1%} of what a continuous relief sends into its order"
        )
        lines.append(f"all depths off by their tolerance cost {etch.LOSS:.0%} of the light")
    return lines


def _efficiency(masks: MaskSet) -> float:
    """Share of the light of all phases, each shown by the nearest level, that goes where it should."""
    table = masks.alone.table
    assert table is not None
    wanted = np.linspace(0, 2 * np.pi, 7200, endpoint=False)
    off = np.angle(np.exp(1j * (table.phase[:, None] - wanted)))
    nearest = np.abs(off).argmin(0)
    return float(abs(np.exp(1j * off[nearest, np.arange(len(wanted))]).mean()) ** 2)


def _corner(axes: Axes, masks: MaskSet) -> None:
    """The upper left corner of the first mask, with three pixels that can be looked up on the plate."""
    plane = masks.alone
    assert plane.table is not None
    levels = np.asarray(plane.levels[0, :_CORNER, :_CORNER])
    etched = plane.kind == etch.ETCHED
    values = plane.table.height * 1e9 if etched else plane.table.amplitude
    axes.imshow(values[levels], cmap="viridis" if etched else "gray", vmin=values.min(), vmax=values.max())
    for number, (row, column) in enumerate(_known(levels)):
        text = f"{values[levels[row, column]]:.0f} nm" if etched else ("clear" if levels[row, column] else "chrome")
        axes.plot(column, row, "s", markersize=11, markerfacecolor="none", markeredgecolor="red", markeredgewidth=1.3)
        note = f"row {row}, column {column}: {text}"
        line = {"arrowstyle": "-", "color": "red", "linewidth": 0.8}
        axes.annotate(note, (column, row), (1.04, 0.9 - 0.12 * number), textcoords="axes fraction", fontsize=6.5,
                      va="center", arrowprops=line)  # fmt: skip
    axes.set_title(
        f"upper left corner of mask 0: {'height above the deepest' if etched else 'chrome is black'}", fontsize=8
    )
    axes.tick_params(labelsize=6.5)
    axes.set_xlabel("column →", fontsize=7)
    axes.set_ylabel("← row", fontsize=7)


def _known(levels: np.ndarray) -> list[tuple[int, int]]:
    """Three pixels that tell tone and orientation: the corner, and the nearest others along its row and column."""
    across = np.flatnonzero(levels[0] != levels[0, 0])
    down = np.flatnonzero(levels[:, 0] != levels[0, 0])
    other = np.argwhere(levels != levels[0, 0])
    found = [(0, 0)]
    found += [(0, int(across[0]))] if len(across) else []
    found += [(int(down[0]), 0)] if len(down) else []
    if len(found) < 3 and len(other):
        found.append((int(other[-1][0]), int(other[-1][1])))
    return found[:3]


def _sign_off(page: Figure, y: float, masks: MaskSet) -> None:
    chrome = masks.planes[0].kind == etch.CHROME
    page.text(0.55, y, "Signed off", fontsize=11, weight="bold")
    for line in _SIGNED:
        if chrome and ("depth" in line or "later layer" in line):
            continue
        y -= 0.0285
        text = line.format(drawn=_drawn(chrome), places=max(3, math.ceil(masks.planes[0].levels.shape[0] ** 0.5)))
        page.text(0.55, y, f"☐  {text}", fontsize=7.4, family="DejaVu Sans")
        page.text(0.57, y - 0.0125, "name, date ____________________________", fontsize=6.5, color="0.45")
