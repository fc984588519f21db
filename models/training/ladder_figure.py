"""Ladders as pictures: what is left on each rung, what each part of the bench costs alone; what several runs take."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fouroptics.models.training.ladder import lost_to
from fouroptics.models.training.metrics import main_of
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fouroptics.errors import InputError

_INK, _LINE, _PALE = "#1f3b57", "#7a8ca0", "#c9d3de"
_ROOM = 4.0  # points beside the lowest and the highest
_SHOWN = ("misaligned", "noise", "quantized", "masks", "light")  # the first of these that a ladder has


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
    return _content(figure(found, title))


def costs(runs: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Summaries of runs: what each has left on its bench over what a picture takes there, and its student without one.

    Raises:
        InputError: no run has both.
    """
    measured = {name: one for name, one in runs.items() if "budget" in one and set(_SHOWN) & set(one.get("ladder", {}))}
    if not measured:
        mend = 'a recipe with a bench, whose evaluate.rungs have "noise"'
        raise InputError("no run was measured on its bench", where="png", mend=mend)
    drawn = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots()
    for name, one in measured.items():
        ladder, budget = one["ladder"], one["budget"]
        rung = next(rung for rung in _SHOWN if rung in ladder)
        takes, left = 1e3 * budget["latency_s"], ladder[rung]
        axes.errorbar(takes, 100 * left["mean"], 100 * (left["std"] or 0.0), fmt="o", color=_INK, capsize=3, zorder=3)
        if "student" in ladder:
            whole = 100 * ladder["student"]["mean"]
            axes.plot([takes, takes], [100 * left["mean"], whole], color=_PALE, zorder=1)
            axes.scatter(takes, whole, facecolor="white", edgecolor=_LINE, zorder=2)
        told = (
            f"{Path(name).name}, {rung}\n{_counted(budget['masks'], 'mask')}, {_counted(budget['captures'], 'capture')}"
        )
        axes.annotate(told, (takes, 100 * left["mean"]), (7, -4), textcoords="offset points", fontsize=8, va="top")
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.25)
    axes.set_xlim(right=8 * max(1e3 * one["budget"]["latency_s"] for one in measured.values()))  # what is told of each
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("a picture on its bench [ms]; open circles: the same students without a bench")
    axes.set_ylabel("mean IoU [%]" if any("miou" in _figures(one) for one in measured.values()) else "right [%]")
    axes.grid(color=_PALE, which="major")
    axes.spines[["top", "right"]].set_visible(False)
    return drawn


def costs_png(runs: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The same as a file's content."""
    return _content(costs(runs))


def _content(drawn: Figure) -> bytes:
    into = io.BytesIO()
    drawn.savefig(into, dpi=130, format="png")
    return into.getvalue()


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _figures(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """What its networks were measured by."""
    return next(iter(summary.get("results", {}).values()), {})


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
        names.append(f"{name},\nwithout a bench")
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
