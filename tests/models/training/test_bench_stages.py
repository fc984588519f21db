"""Stages on a bench: masks and electronics move at their own rates, and a teacher is listened to."""

from types import SimpleNamespace

import pytest
import torch
from fouroptics.models.teachers import SmallCNN
from fouroptics.models.training import Recipe, load, train
from fouroptics.models.training.data import of_section
from fouroptics.models.training.loop import Fitting
from fouroptics.models.training.metrics import scores_by_chunk
from fouroptics.models.training.stages import Flawed, few, on_bench, prepare, stage_of
from fouroptics.models.training.taught import Taught
from torch import nn

from fouroptics import Tolerances
from tests.models.training.test_deploy import QUICK, stage


@pytest.fixture(scope="module")
def run(tmp_path_factory, wide_pixels):
    changes = QUICK | {"bench": wide_pixels, "stage": [], "evaluate.rungs": ["student"], "distill.loss": "none"}
    return train("shapes-bench", tmp_path_factory.mktemp("stages") / "run", changes=changes)


def moved(run, *, learn, lr, teacher=0, temperature=4.0):
    """By how much a step on the bench moves masks and electronics, and the network behind it."""
    told = stage(learn=learn, lr=lr, pictures=20)
    recipe = Recipe.load(
        "shapes-bench", {"stage": [told], "distill.hard_weight": 0.0, "distill.temperature": temperature}
    )
    data = of_section(run.recipe.data)
    flawed = prepare(on_bench(run.recipe, load(run, name="student-alone"), data), recipe.stage[0], data)
    before = {name: value.clone() for name, value in flawed.state_dict().items()}
    torch.manual_seed(teacher)
    sure = SmallCNN(10, 16, widths=(4,)).eval()
    with torch.no_grad():
        sure.classifier[-1].weight.mul_(50)
    loss = Taught(sure, recipe)
    some = few(data.train, 20)
    step = stage_of(recipe, recipe.stage[0], flawed, loss, "one")
    fitting = Fitting(flawed, step, some, some)
    fitting.progress.best = -1.0  # whatever comes of it is kept
    fitting.run()
    after = flawed.state_dict()
    light, behind = (
        max(float((after[name] - before[name]).abs().max()) for name in before if part in name)
        for part in ("bank.device.drive" if "masks" in learn else "bank.kernels", "backend")
    )
    return light, behind, after


@pytest.mark.parametrize("optics", ["kernels", "masks"])
def test_masks_and_electronics_move_at_their_own_rates(run, optics):
    """AdamW's first step is as long as its rate, whatever the gradient; a schedule shortens both alike."""
    light, behind, _ = moved(run, learn=[optics, "backend"], lr={"optics": 1e-3, "electronics": 1e-4})
    assert light / behind == pytest.approx(10, rel=0.05) and 1e-4 < light < 1.1e-3
    light, behind, _ = moved(run, learn=[optics, "backend"], lr={"optics": 1e-4, "electronics": 1e-3})
    assert behind / light == pytest.approx(10, rel=0.05) and 1e-4 < behind < 1.1e-3
    assert moved(run, learn=["backend"], lr={"optics": 1e-3, "electronics": 1e-3})[0] == 0


def test_every_bench_that_a_stage_is_chosen_on_sees_its_pictures(run, monkeypatch):
    """A batch is filled up with copies of its last picture: of 22 pictures each of four benches has five or six."""
    data = of_section(run.recipe.data)
    seen = []

    class Told(nn.Module):
        def __init__(self):
            super().__init__()
            self.bank = SimpleNamespace(bench=run.recipe.on_bench(), channels=(4, 3), device=None, readout="intensity")

        def forward(self, pictures, *, errors, noisy, generator):
            seen.append((float(errors["source.power"]), pictures[:, 0, 0, 0].tolist()))
            return pictures.flatten(1)

    flawed = Flawed(Told(), Tolerances.load("lab-bench"), noise=False, draws=4, known=data.some(2, seed=0))
    some = few(data.train, 22)
    scores = torch.cat([*scores_by_chunk(flawed, some)])
    assert torch.equal(scores, some.batch(slice(None))[0].flatten(1))  # each picture's, in their order
    real = set(some.batch(slice(None))[0][:-1, 0, 0, 0].tolist())
    benches = {}
    for bench, pictures in seen:
        benches.setdefault(bench, []).extend(one for one in pictures if one in real)
    assert sorted(len(pictures) for pictures in benches.values()) in ([5, 5, 5, 6], [5, 5, 6, 6])


def test_a_teacher_is_listened_to_on_the_bench(run):
    rates = {"optics": 1e-3, "electronics": 1e-3}
    once, again, other, soft = (
        moved(run, learn=["kernels", "backend"], lr=rates, **options)[2]
        for options in ({}, {}, {"teacher": 1}, {"temperature": 1.0})
    )
    name = next(name for name in once if name.endswith("bank.kernels"))
    assert torch.equal(once[name], again[name])
    assert not torch.equal(once[name], other[name]) and not torch.equal(once[name], soft[name])
