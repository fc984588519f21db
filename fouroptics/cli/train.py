"""``fouroptics train`` and ``fouroptics evaluate``: a run from a recipe, and what its networks are worth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from fouroptics.cli.arguments import Json, Threads, changed, say
from fouroptics.cli.progress import bar
from fouroptics.files import write_whole

RecipeChanges = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A key of the recipe, such as train.epochs=5."),
]
_FIGURES = (
    "accuracy", "miou", "dice", "pixel_accuracy", "majority_accuracy", "majority_miou", "majority_dice"
)  # fmt: skip
_ORDER = ("teacher", "student-alone", "student")


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one.")],
    out: Annotated[Path, typer.Option(help="The run's folder; a run that was stopped goes on in it.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the pictures, instead of the recipe's.")] = None,
    changes: RecipeChanges = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, help="Seeds, instead of the recipe's.")] = None,
    trained: Annotated[
        Path | None, typer.Option(help="A run whose networks are taken as they are; what is left is the bench.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A picture that cannot be read stops the run.")] = False,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Train teacher and students as a recipe says. The same command again goes on where it was stopped."""
    import torch

    from fouroptics.memory import keep_pages
    from fouroptics.models.training import train as start

    torch.set_num_threads(threads)
    keep_pages()
    told: dict[str, Any] = changed(changes, example="train.epochs=5")
    if data is not None:
        told["data.path"] = str(data.expanduser().resolve())
    told |= {"trained": str(trained.expanduser().resolve())} if trained else {}
    told |= {"device": device} if device else {}
    told |= {"seeds": seed} if seed else {}
    told |= {"data.strict": True} if strict else {}
    speaks = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    with bar("training", as_json or not speaks, named=True) as pace:
        run = start(recipe, out, changes=told, tell=pace)
    if not speaks:
        return
    summary = run.summary
    say(table({str(out): summary}), summary | {"out": str(out)}, as_json)


def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, and masks.h5 files that hold a network.")],
    data: Annotated[Path | None, typer.Option(help="Pictures, read as the recipe reads its own.")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="How many, of a mask file only; 0 takes all.")] = 0,
    png: Annotated[
        Path | None, typer.Option(help="A picture to write: what runs have left on their benches over what it takes.")
    ] = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """What networks are worth on pictures that nothing was chosen by; runs and mask files side by side.

    Of a run: its teacher and students, and rung by rung what is left on its bench. Of a file: the network in it.
    """
    import torch

    from fouroptics.models.training import Run
    from fouroptics.models.training.deploy import evaluate_file
    from fouroptics.models.training.ladder_figure import costs_png
    from fouroptics.models.training.results import figures_on

    torch.set_num_threads(threads)
    found: dict[str, Any] = {}
    for folder in runs:
        if folder.suffix == ".h5":
            found[str(folder)] = evaluate_file(folder, data, pictures)
            continue
        run = Run.open(folder)
        summary = run.summary
        if data is not None:  # its ladder is of its own pictures
            other = {k: v for k, v in summary.items() if k not in ("ladder", "without_stages")}
            summary = other | {"results": figures_on(run, data), "data": summary["data"] | {"reported": str(data)}}
        found[str(folder)] = summary
    if png is not None:
        write_whole(png, costs_png(found))
    say(table(found), found, as_json)


def table(summaries: dict[str, Any]) -> str:
    """A line a network: the mean over seeds ± their standard deviation, in per cent."""
    lines = []
    for folder, summary in summaries.items():
        if "scores_sha256" in summary:
            told = ", ".join(
                f"{name.replace('_', ' ')} {100 * summary[name]:.2f}" for name in _FIGURES if name in summary
            )
            lines.append(f"{folder}: {summary['name']}, its masks on their bench: {told} % of {summary['pictures']}")
            continue
        lines.append(f"{folder}: {summary['name']}, {summary.get('function', 'not trained yet')}")
        results, about = summary.get("results", {}), summary.get("data", {})
        reported = about.get("reported", "test")
        if about.get("skipped"):
            lines.append(f"  {about['skipped']} pictures could not be read: {folder}/log.txt names them")
        for name in (*(one for one in _ORDER if one in results), *sorted(set(results) - set(_ORDER))):
            seeds = results[name]["seeds"]
            figures = [
                f"{metric.replace('_', ' ')} {_spread(value, len(seeds))}"
                for metric, value in results[name].items()
                if metric != "seeds"
            ]
            lines.append(
                f"  {name:<31} {', '.join(figures)} %  ({len(seeds)} seed{'s' if len(seeds) > 1 else ''}, {reported})"
            )
        gain = _gain(results)
        lines += [f"  {gain}"] if gain else []
        count = max((len(figures["seeds"]) for figures in results.values()), default=1)
        for rung, value in summary.get("ladder", {}).items():
            before = summary.get("without_stages", {}).get(rung)
            beside = f"  (without its stages {_spread(before, count)})" if before else ""
            lines.append(f"  {rung:<31} {_spread(value, count):>6} %{beside}")
        lines += [f"  {_of_budget(summary['budget'])}"] if "budget" in summary else []
    return "\n".join(lines)


def _of_budget(budget: dict[str, Any]) -> str:
    """What a picture costs on the bench."""
    by_light = f"{budget['optical_macs'] / 1e6:.3g} M products by light, " if "optical_macs" in budget else ""
    masks = f"{budget['masks']} mask{'' if budget['masks'] == 1 else 's'}"
    return (
        f"{masks}, {budget['captures']} captures, {1e3 * budget['latency_s']:.3g} ms a picture; "
        f"{budget['electrons_mean']:.3g} electrons a reading{_of_reference(budget)}, "
        f"signal to noise {budget['signal_to_noise']:.3g}; "
        f"{by_light}{budget['adc_samples']} numbers from the camera, "
        f"{budget['backend_macs'] / 1e6:.3g} M products behind it"
    )


def _of_reference(budget: dict[str, Any]) -> str:
    """Told where a reference beam fills most of what is read: a weaker one would leave room for pictures."""
    share = budget.get("electrons_without_pictures", 0.0) / budget["electrons_mean"]
    return f" ({share:.0%} of them the reference beam's)" if share > 0.5 else ""


def _spread(value: dict[str, Any], seeds: int) -> str:
    """Per cent; of one seed there is no spread."""
    return f"{100 * value['mean']:.2f}" + (f" ± {100 * value['std']:.2f}" if seeds > 1 else "")


def _gain(results: dict[str, Any]) -> str:
    """What the teacher brings, where there are seeds to tell it from chance."""
    if not {"student", "student-alone"} <= set(results) or len(results["student"]["seeds"]) < 2:
        return ""
    metric = next(iter(results["student"]))
    with_it, without = (results[name][metric] for name in ("student", "student-alone"))
    gain = with_it["mean"] - without["mean"]
    spread = (with_it["std"] ** 2 + without["std"] ** 2) ** 0.5
    verdict = "no difference beyond the seeds' spread" if abs(gain) <= spread else "more than the seeds' spread"
    return f"the teacher brings {100 * gain:+.2f} points, {verdict} ({100 * spread:.2f})"
