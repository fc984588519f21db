"""A ladder as a picture: what is left on each rung, and what each part of the bench costs alone."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from fouroptics.models.training.ladder import lost_to
from fouroptics.models.training.metrics import main_of
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_INK, _LINE, _PALE = "#1f3b57", "#7a8ca0", "#c9d3de"
_ROOM = 4.0  # points beside the lowest and the highest


def figure(found: Mapping[str, Any], title: str) -> Figure:
    """Rungs from top to bottom; draws of misaligned benches as dots; beside them the parts that were tried alone."""
    parts = found.get("parts", {})
    rows = len(found["rungs"]) + len(found.get("controls", {}))
    drawn = Figure(figsize=(10 if parts else 6, 0.5 * rows + 1.6), layout="constrained")
    FigureCanvasAgg(drawn)
    panels = drawn.subplots(1, 2, width_ratios=(3, 2), squeeze=False)[0] if parts else [drawn.subplots()]
    drawn.suptitle(f"{title}: {found['pictures']} pictures of the {found.get('reported', 'test')} part", fontsize=11)
    _rungs(panels[0], found["rungs"], found.get("without_stages", {}), found.get("controls", {}))
    if parts:
        _parts(panels[1], parts)
    return drawn


def png(found: Mapping[str, Any], title: str) -> bytes:
    """The same as a file's content."""
    into = io.BytesIO()
    figure(found, title).savefig(into, dpi=130, format="png")
    return into.getvalue()


def _rungs(axes: Axes, rungs: Mapping[str, Any], without: Mapping[str, Any], controls: Mapping[str, Any]) -> None:
    names, values = [*rungs], [100 * main_of(rung) for rung in rungs.values()]
    figure_of = {"miou": "mean IoU"}.get(next(iter(rungs[names[0]])), "accuracy")
    places = range(len(names))
    axes.plot(values, places, color=_LINE, linewidth=1, zorder=1)
    axes.scatter(values, places, color=_INK, zorder=3, clip_on=False)
    low, high = min(values), max(values)
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        draws = [100 * one for one in rungs[name].get("draws", [])]
        low, high = min([low, *draws]), max([high, *draws])
        axes.scatter(draws, [place] * len(draws), color=_LINE, alpha=0.5, s=14, zorder=2)
        axes.annotate(f"{value:.1f}", (value, place), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    plain = [(100 * main_of(value), names.index(rung)) for rung, value in without.items()]
    if plain:
        low, high = min([low, *(x for x, _ in plain)]), max([high, *(x for x, _ in plain)])
        axes.scatter(
            *zip(*plain, strict=True), facecolor="white", edgecolor=_INK, zorder=4, label="without fine-tuning"
        )
        axes.legend(loc="upper left", fontsize=9)
    for name, value in controls.items():  # below the ladder, and no rung of it
        place, worth = len(names), 100 * main_of(value)
        low, high = min(low, worth), max(high, worth)
        axes.scatter(worth, place, color=_LINE, marker="s", zorder=3)
        axes.annotate(f"{worth:.1f}", (worth, place), (0, 7), textcoords="offset points", ha="center", fontsize=9)
        names.append(name)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.8)
    axes.set_xlim(max(0.0, low - _ROOM), min(100.0, high + _ROOM))
    axes.set_xlabel(f"{figure_of} [%]; of misaligned benches each draw and their median")
    axes.grid(axis="x", color=_PALE)
    axes.spines[["top", "right"]].set_visible(False)


def _parts(axes: Axes, parts: Mapping[str, float]) -> None:
    """What is lost to the same bench without that fault."""
    losses = lost_to(parts)
    names, lost = [*losses], [100 * loss for loss in losses.values()]
    axes.barh(range(len(names)), lost, color=_PALE, edgecolor=_INK)
    for place, value in enumerate(lost):
        axes.annotate(
            f"{value:+.1f}", (max(value, 0), place), (4, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.axvline(0, color=_LINE, linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(min([0.0, *lost]) - 1, max([0.0, *lost]) + 2)
    axes.set_xlabel("points lost to this part alone")
    axes.spines[["top", "right"]].set_visible(False)
