"""``fouroptics demo``: the whole road in minutes, from pictures made here to a file of masks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fouroptics.cli.arguments import Json, Threads, say
from fouroptics.cli.progress import bar
from fouroptics.cli.train import table

if TYPE_CHECKING:
    from torch import Tensor

    from fouroptics.correlator import Correlator4f
    from fouroptics.models import SCLC
    from fouroptics.models.training import Data, Run

_BENCH = "slm-532nm"
_SHOWN = 4  # outputs of which masks and readings are drawn


def demo(
    out: Annotated[Path, typer.Option(help="Folder for all of it; an earlier demo in it is replaced.")] = Path(
        "runs/demo"
    ),
    pictures: Annotated[int, typer.Option(min=240, help="To make: to train, to choose and to report.")] = 4000,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings that differ by chance alone.")] = 3,
    threads: Threads = 2,
    as_json: Json = False,
) -> None:
    """A teacher, students without it and with it, a linear one beside them, and the masks of the best, read back."""
    import torch

    from fouroptics.bench import Bench
    from fouroptics.files import whole_folder
    from fouroptics.masks import MaskSet
    from fouroptics.memory import keep_pages
    from fouroptics.models.training import Recipe, load, train
    from fouroptics.models.training.data import of_section

    torch.set_num_threads(threads)
    keep_pages()
    started = time.perf_counter()
    changes = {"seeds": list(range(seeds)), "data.options": {"count": pictures}}
    recipe = Recipe.load("shapes-demo", changes)
    linear = Recipe.load("shapes-demo", changes | _affine())
    summary: dict[str, Any] = {}
    with whole_folder(out, summary) as folder:
        with bar("training", as_json, named=True) as pace:
            run = train(recipe, folder / "run", tell=pace)
            beside = train(linear, folder / "run-linear", tell=pace)
        data, student = of_section(recipe.data), load(run)
        bench = Bench.load(_BENCH).replace({"mask.encoding": "carrier"})
        bank = bank_of(student, data, bench)
        MaskSet.from_correlator(bank).save(folder / "masks.h5")
        again = MaskSet.load(folder / "masks.h5").correlator()
        scenes = data.test.batch(slice(8))[0]
        with torch.no_grad():
            summary |= {
                "accuracy": {name: value["accuracy"] for name, value in run.summary["results"].items()},
                "accuracy_linear": beside.summary["results"]["student-alone"]["accuracy"],
                "function": run.summary["function"],
                "masks_read_back_bit_for_bit": torch.equal(again.field(scenes), bank.field(scenes)),
                "masks_follow_the_kernels": likeness(bank.field(scenes).real, student.front(scenes)[..., :32, :32]),
                "seconds": round(time.perf_counter() - started, 1),
            }
        report = bench.sampling(data.size, kernel=student.front.plan.kernels[0], channels=bank.channels)
        words = _words(summary, run, beside, student)
        (folder / "report.txt").write_text(f"{words}\n\n{report}\n", encoding="utf-8")
        draw(folder / "overview.png", run, beside, bank, student, data)
    say(f"{words}\nall of it in {out}: overview.png first", {"out": str(out)} | summary, as_json)


def bank_of(student: SCLC, data: Data, bench: Any) -> Correlator4f:
    """The student's kernels on the bench's own mask, pixel by pixel."""
    from fouroptics.correlator import Correlator4f
    from fouroptics.models.front import DeepFront

    assert isinstance(student.front, DeepFront)
    (kernels,) = student.front.taps()
    return Correlator4f.from_kernels(kernels.detach(), bench, size=data.size, masks="device", layout="auto")


def likeness(found: Tensor, due: Tensor) -> float:
    """Correlation of two sets of responses, their mean over outputs."""
    pairs = [one.transpose(0, 1).flatten(1) for one in (found, due)]
    centred = [one - one.mean(1, keepdim=True) for one in pairs]
    norms = [one.norm(dim=1) for one in centred]
    return float(((centred[0] * centred[1]).sum(1) / (norms[0] * norms[1])).mean())


def _affine() -> dict[str, Any]:
    """The same student read without a nonlinearity, one fully connected layer behind it."""
    return {
        "student.compand": "none", "student.backend": {"hidden": []}, "distill.loss": "none", "name": "linear"
    }  # fmt: skip


def _words(summary: dict[str, Any], run: Run, beside: Run, student: SCLC) -> str:
    lines = [
        table({"students that are rectified behind the camera": run.summary}),
        table({"the same optics, nothing nonlinear anywhere": beside.summary}),
        "",
        str(student.summary()),
        "",
        f"masks.h5: {student.front.plan.channels[-1]} outputs on {_BENCH}; what "
        f"they show follows the kernels to {summary['masks_follow_the_kernels']:.3f} (correlation), and the file read "
        f"back gives {'the same, bit for bit' if summary['masks_read_back_bit_for_bit'] else 'SOMETHING ELSE'}",
        f"{summary['seconds']:.0f} s",
    ]
    return "\n".join(lines)


def draw(path: Path, run: Run, beside: Run, bank: Correlator4f, student: SCLC, data: Data) -> None:
    """One page: pictures, what each network gets right, and for some outputs kernel, mask and reading."""
    import torch
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 12), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 1, height_ratios=(1, 2))
    top, below = figure.add_subfigure(grid[0, 0]), figure.add_subfigure(grid[1, 0])
    left, right = top.subplots(1, 2, width_ratios=(1, 1))
    some = data.test.batch(slice(24))[0]
    sheet = torch.nn.functional.pad(some, (1, 1, 1, 1), value=1.0).reshape(
        4, 6, data.channels, *(n + 2 for n in data.size)
    )
    left.imshow(sheet.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1).numpy())
    left.set_title("ten shapes: turn, size, colour, sign of contrast vary", fontsize=10)
    left.axis("off")
    _bars(right, run, beside)
    scene = some[:1]
    with torch.no_grad():
        field = bank.field(scene)[0].real
        ideal = student.front(scene)[0]
    strongest = ideal.flatten(1).std(1).topk(_SHOWN).indices.tolist()
    axes = below.subplots(3, _SHOWN)
    (kernels,) = student.front.taps()  # type: ignore[operator]
    for column, number in enumerate(strongest):
        kernel = kernels[number].detach()
        limit = float(kernel.abs().max())
        axes[0, column].imshow((0.5 + kernel / (2 * limit)).permute(1, 2, 0).numpy())
        axes[0, column].set_title(f"output {number}: kernel, zero is grey", fontsize=9)
        levels = bank.masks[number].detach().float().numpy()
        middle = [slice(n // 2 - 60, n // 2 + 60) for n in levels.shape]
        axes[1, column].imshow(levels[middle[0], middle[1]], cmap="gray")
        axes[1, column].set_title("its mask, the middle 120² pixels", fontsize=9)
        shown = field[number].numpy()
        reach = float(abs(shown).max())
        axes[2, column].imshow(shown, cmap="RdBu_r", vmin=-reach, vmax=reach)
        axes[2, column].set_title("field on the camera, red + blue −", fontsize=9)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(path, dpi=100)


def _bars(axis: Any, run: Run, beside: Run) -> None:
    """Accuracy on pictures that nothing was chosen by, mean and spread over the seeds."""
    results = run.summary["results"]
    rows = [
        ("teacher, a CNN", results["teacher"]["accuracy"]),
        ("student + teacher (KD)", results["student"]["accuracy"]),
        ("student, labels alone", results["student-alone"]["accuracy"]),
        ("linear optics, linear readout", beside.summary["results"]["student-alone"]["accuracy"]),
    ]
    means, spreads = ([100 * (value[key] or 0.0) for _, value in rows] for key in ("mean", "std"))
    colours = ["0.6", "tab:blue", "tab:cyan", "tab:orange"]
    axis.barh(range(len(rows)), means, xerr=spreads, color=colours, capsize=4)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows])
    axis.invert_yaxis()
    axis.axvline(10, color="k", linestyle=":", linewidth=1)
    for place, (_, value) in enumerate(rows):
        spread = "" if value["std"] is None else f" ± {100 * value['std']:.1f}"
        axis.text(106, place, f"{100 * value['mean']:.1f}{spread}", va="center")
    axis.set_xlim(0, 130)
    axis.set_xticks(range(0, 101, 20))
    axis.set_xlabel(
        f"right on test pictures [%], {len(results['student']['seeds'])} seeds; dotted: guessing", fontsize=9
    )
