"""The loop: what it keeps, what it refuses, and that ranks share a batch."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fouroptics.models.training import Recipe, Run, evaluate, load, train
from fouroptics.models.training.data import Part
from fouroptics.models.training.distill import hard_loss
from fouroptics.models.training.loop import Fitting, Stage, factor
from fouroptics.models.training.metrics import measured, of_confusion, scores_by_chunk
from fouroptics.models.training.recipe import RateSection, TrainSection
from torch import nn
from torch.utils.data import TensorDataset

import fouroptics as fo
from fouroptics.errors import FailedRun
from fouroptics.files import alone_in
from fouroptics.tensors import load_tensors


def recipe(**changes):
    """A teacher and two students of shapes, in seconds."""
    told = {
        "seeds": [0],
        "data": {"reader": "shapes", "size": [16, 16], "options": {"count": 400}, "augment": ["flip", "shift 1"]},
        "teacher": {"widths": [8], "epochs": 2},
        "student": {
            "channels": [3, 6], "kernel": 3, "sensor_pool": 4, "readout": "homodyne", "compand": "two-sided-rectify",
            "backend": {"hidden": [16], "dropout": 0.2},
        },
        "train": {"epochs": 3, "batch": 32, "ema": 0.9},
    }  # fmt: skip
    return Recipe.from_dict(told, changes)


def contents(folder):
    """All that a run's networks are, without their times."""
    found = {}
    for path in sorted(Path(folder).rglob("*.safetensors")):
        tensors, told = load_tensors(path)
        found[path.name] = (tensors, json.loads(told["figures"]))
    return found


def same(one, other):
    assert one.keys() == other.keys()
    for name, (tensors, figures) in one.items():
        assert figures == other[name][1]
        assert all(torch.equal(value, other[name][0][key]) for key, value in tensors.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(recipe(), tmp_path_factory.mktemp("runs") / "whole")


def test_a_run_holds_all_that_it_was(whole):
    assert (whole.folder / "recipe.toml").is_file()
    again = Run.open(whole.folder)
    assert again.recipe == whole.recipe
    rows = [json.loads(line) for line in (whole.seed(0) / "metrics.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["epoch"]) for row in rows] == [
        (stage, n) for stage, count in (("teacher", 2), ("student-alone", 3), ("student", 3)) for n in range(count)
    ]
    assert not (whole.seed(0) / "state.safetensors").exists()
    student = load(whole)
    kept = evaluate(whole)["student"][0]
    from fouroptics.models.training.data import of_section

    data = of_section(whole.recipe.data)
    assert measured(student, data.test) == kept
    best = max(row["validation_accuracy"] for row in rows if row["stage"] == "student")
    assert measured(student, data.validation)["accuracy"] == best


def test_a_finished_run_is_not_trained_again(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*.safetensors")}
    train(recipe(), whole.folder)
    assert before == {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*.safetensors")}


def test_a_second_seed_joins_and_takes_the_first_one_s_teacher(tmp_path):
    run = train(recipe(), tmp_path / "run")
    more = train(recipe(seeds=[0, 3]), tmp_path / "run")
    teachers = [load_tensors(more.seed(seed) / "teacher.safetensors")[0] for seed in (0, 3)]
    assert all(torch.equal(teachers[0][name], teachers[1][name]) for name in teachers[0])
    results = more.summary["results"]["student"]
    assert results["seeds"] == [0, 3]
    figures = [value["accuracy"] for value in evaluate(more)["student"].values()]
    assert results["accuracy"]["mean"] == pytest.approx(sum(figures) / 2)
    assert results["accuracy"]["std"] == pytest.approx(abs(figures[0] - figures[1]) / 2**0.5)
    assert run.folder == more.folder
    assert more.summary["results"]["teacher"]["seeds"] == [0]  # it was trained once, and has no spread
    assert more.summary["results"]["teacher"]["accuracy"]["std"] is None
    rows = [json.loads(line)["stage"] for line in (more.seed(3) / "metrics.jsonl").read_text().splitlines()]
    assert rows == ["student-alone"] * 3 + ["student"] * 3  # epochs that were performed there


# What is chosen is the last epoch, so that parameters are those behind all steps.
LAST = """
import itertools
from fouroptics.models.training import loop
told = itertools.count()
loop.main_of = lambda found: next(told)
"""
# Nobody but the first may write.
TWO = """
import os, pathlib, sys
import torch
if os.environ.get("RANK", "0") != "0":
    def refused(*_, **__):
        raise OSError("a second writer")
    pathlib.Path.replace = pathlib.Path.mkdir = refused
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
from fouroptics.models.training.data import Data, Part
from fouroptics.models.training import Recipe, train
from fouroptics import toml
draw = torch.Generator().manual_seed(0)
parts = [Part(torch.rand(n, 3, 16, 16, generator=draw), torch.arange(n) % 4) for n in (80, 20, 20)]
train(Recipe.from_dict(toml.parse(sys.argv[2], "test")), sys.argv[1], data=Data(*parts, tuple("abcd")))
"""


@pytest.mark.parametrize(
    ("readout", "backend"),
    [("homodyne", "fc"), ("homodyne", "conv"), pytest.param("intensity", "fc", marks=pytest.mark.slow)],
)
def test_two_ranks_give_the_parameters_of_one(tmp_path, readout, backend):
    """Twenty steps in double precision, a batch shared by gloo; one rank alone writes."""
    from fouroptics import toml

    told = recipe(**{
        "train.epochs": 4, "train.batch": 16, "train.ema": 0.0, "data.augment": [],
        "distill.loss": "none", "student.readout": readout, "student.backend": {"kind": backend, "hidden": [6, 6]},
    })  # fmt: skip
    text = toml.text(told.to_dict())
    script = tmp_path / "two.py"
    script.write_text(LAST + TWO)
    subprocess.run([sys.executable, str(script), str(tmp_path / "one"), text], check=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, str(script), str(tmp_path / "two"), text], check=True, capture_output=True)
    one, two = (contents(tmp_path / name)["student-alone.safetensors"][0] for name in ("one", "two"))
    for name, value in one.items():
        assert value.dtype == (torch.int64 if name.endswith("tracked") else torch.float64)
        assert float((value - two[name]).abs().max()) < 1e-9, name
    assert (tmp_path / "two" / "log.txt").read_text().count("student-alone") == 1


def test_ranks_have_disjoint_parts_and_all_together():
    from fouroptics.models.training.ranks import Ranks

    parts = [Ranks(rank, 3).part_of(10).tolist() for rank in range(3)]
    assert sorted(one for part in parts for one in part) == list(range(10))


def test_a_stage_that_makes_it_worse_leaves_what_there_was():
    """What a fine-tuning begins with is scored; a training's own beginning is not."""
    draw = torch.Generator().manual_seed(0)
    pictures = torch.rand(64, 1, 2, 2, generator=draw)
    part = Part(pictures, (pictures.mean((1, 2, 3)) > 0.5).long())
    settings = TrainSection(epochs=2, batch=16, lr=RateSection(optics=1.0, electronics=100.0))
    networks = []
    for fine_tunes in (True, False):
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        with torch.no_grad():
            network[1].weight.copy_(torch.tensor([[-8.0], [8.0]]).expand(2, 4))
            network[1].bias.copy_(torch.tensor([16.0, -16.0]))
        before = {name: value.clone() for name, value in network.state_dict().items()}
        stage = Stage("one", lambda scores, _, targets: -hard_loss(scores, targets), settings, fine_tunes=fine_tunes)
        Fitting(network, stage, part, part).run()
        networks.append(all(torch.equal(value, before[name]) for name, value in network.state_dict().items()))
    assert networks == [True, False]


def test_a_student_of_pixels(tmp_path):
    told = recipe(**{
        "data.options": {"count": 60, "target": "mask"}, "teacher.model": "unet", "teacher.widths": [4, 8],
        "student.backend": {"kind": "up", "hidden": [8, 4, 4]}, "distill.loss": "pixel-kd", "train.epochs": 1,
        "teacher.epochs": 1,
    })  # fmt: skip
    run = train(told, tmp_path / "run")
    figures = evaluate(run)["student"][0]
    assert set(figures) == {
        "miou", "dice", "pixel_accuracy", "majority_accuracy", "majority_miou", "majority_dice"
    }  # fmt: skip
    assert load(run)(torch.rand(2, 3, 16, 16)).shape == (2, 2, 16, 16)


def test_figures_of_pixels_by_hand():
    """Two classes: 50 right of 60 and 30 right of 40."""
    found = of_confusion(torch.tensor([[50, 10], [10, 30]]))
    assert found["miou"] == pytest.approx((50 / 70 + 30 / 50) / 2)
    assert found["dice"] == pytest.approx((100 / 120 + 60 / 80) / 2)
    assert found["pixel_accuracy"] == pytest.approx(0.8)
    assert found["majority_accuracy"] == pytest.approx(0.6)
    assert found["majority_miou"] == pytest.approx(0.6 / 2)  # 60 right of 100, and none of the other class
    assert found["majority_dice"] == pytest.approx(2 * 60 / 160 / 2)
    with pytest.raises(fo.InputError, match="no pixel of these pictures has a class"):
        of_confusion(torch.zeros(2, 2, dtype=torch.int64))
    absent = of_confusion(torch.tensor([[5, 0, 0], [0, 5, 0], [0, 0, 0]]))
    assert absent["miou"] == 1  # a class that is nowhere counts nothing


def test_an_evaluation_does_not_depend_on_its_chunks(whole):
    from fouroptics.models.training.data import of_section

    student, part = load(whole), of_section(whole.recipe.data).test
    one, other = (torch.cat([*scores_by_chunk(student, part, chunk=chunk)]) for chunk in (7, 40))
    assert torch.allclose(one, other, atol=1e-6)
    assert torch.equal(torch.cat([*scores_by_chunk(student, part.take(slice(0, 3)), chunk=7)]), one[:3])


@pytest.mark.parametrize("schedule", ["warmup-cosine", "one-cycle"])
def test_rates_rise_once_and_fall_to_nothing(schedule):
    rates = [factor(schedule, step, 200, 20) for step in range(200)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(1, abs=0.02)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 1e-3
    assert factor("exponential", 45, 200, 20) == pytest.approx(0.95**2)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_a_batch_in_parts_is_a_batch(tmp_path, accumulate):
    options = {"distill.loss": "none", "train.epochs": 1, "student.backend.dropout": 0.0, "train.ema": 0.0}
    whole, parted = (
        contents(train(recipe(**options, **{"train.accumulate": parts}), tmp_path / str(parts)).folder)
        for parts in (1, accumulate)
    )
    for name, value in whole["student-alone.safetensors"][0].items():
        assert torch.allclose(value, parted["student-alone.safetensors"][0][name], atol=2e-4), name


def test_patience_ends_a_stage(tmp_path):
    run = train(recipe(**{"train.epochs": 50, "train.patience": 1, "distill.loss": "none"}), tmp_path / "run")
    rows = [json.loads(line) for line in (run.seed(0) / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) < 50
    assert load(run, name="student-alone") is not None


def test_other_recipes_and_foreign_folders_are_refused(tmp_path, whole):
    with pytest.raises(
        fo.InputError, match="is a run of another recipe, of other pictures or teacher; give --out another"
    ):
        train(recipe(**{"train.epochs": 4}), whole.folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(fo.InputError, match="exists and is no run of fouroptics"):
        train(recipe(), tmp_path / "mine")
    with pytest.raises(fo.InputError, match="is no run; give the folder"):
        Run.open(tmp_path / "mine")
    with pytest.raises(fo.InputError, match="device: 'tpu9' will not do"):
        train(recipe(device="tpu9"), tmp_path / "other")


def test_two_processes_do_not_train_into_one_folder(tmp_path):
    """A second command on a run that goes on: the first is left alone, and lets go when it is killed."""
    out, command = tmp_path / "run", [sys.executable, "-m", "fouroptics", "train", "shapes-demo", "--out"]
    first = subprocess.Popen([*command, out, "--threads", "1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        while not (out / "seed-0").is_dir():
            assert first.poll() is None
            time.sleep(0.2)
        second = subprocess.run([*command, out], capture_output=True, text=True, timeout=60)
        assert second.returncode == 2
        assert f"{out}: another process is at work in it; wait until it ends" in second.stderr
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
    with alone_in(out):
        pass


def test_progress_is_told_and_a_loss_that_is_not_finite_stops(tmp_path):
    told = []
    train(recipe(**{"distill.loss": "none"}), tmp_path / "a", tell=lambda *one: told.append(one))
    assert told[-1] == ("seed 0, student-alone", 30, 30)

    class Mad(nn.Module):
        def forward(self, pictures):
            return torch.full((len(pictures), 10), torch.nan)

    with pytest.raises(FailedRun, match=r"the loss is nan in step 0 .* a smaller train\.lr, or train\.clip"):
        train(recipe(**{"distill.also_without": False}), tmp_path / "b", teacher=Mad())


def test_seeds_join_and_the_oldest_one_s_teacher_teaches(tmp_path):
    first = train(recipe(seeds=[2]), tmp_path / "run")
    more = train(recipe(seeds=[0, 2]), tmp_path / "run")
    assert more.recipe.seeds == (2, 0)
    teachers = [load_tensors(more.seed(seed) / "teacher.safetensors")[0] for seed in (2, 0)]
    assert all(torch.equal(teachers[0][name], teachers[1][name]) for name in teachers[0])
    assert first.folder == more.folder
    assert Recipe.load(more.folder / "recipe.toml") == more.recipe


def test_two_ranks_with_batch_norm_patience_and_a_teacher_end_together(tmp_path):
    from fouroptics import toml

    told = recipe(**{"train.epochs": 12, "train.patience": 1, "student.backend": {"kind": "conv", "hidden": [6, 5]}})
    script = tmp_path / "two.py"
    script.write_text(TWO.replace("torch.set_default_dtype(torch.float64)\n", ""))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    text = toml.text(told.to_dict())
    subprocess.run([*torchrun, str(script), str(tmp_path / "two"), text], check=True, capture_output=True, timeout=120)
    assert "student" in evaluate(tmp_path / "two")


def test_statistics_are_of_all_pictures_whatever_their_order(tmp_path):
    """Sorted by class, and a class a brightness: the first thousand would know one of three."""
    pictures = torch.cat([torch.rand(600, 3, 16, 16) * scale for scale in (0.1, 0.5, 1.0)])
    sets = TensorDataset(pictures, torch.arange(1800) // 600)
    still = {"train.epochs": 1, "distill.loss": "none", "train.lr": {"optics": 1e-9, "electronics": 1e-9}}
    run = train(recipe(**still), tmp_path / "run", data=(sets, sets))
    student = load(run, name="student-alone")
    with torch.no_grad():
        seen = student.reader.normalised(student.readings(pictures))
    assert float(seen.mean((0, 2, 3)).abs().max()) < 0.1
    assert 0.9 < float(seen.std((0, 2, 3)).max()) < 1.1  # both halves of a reading have the wider one's spread


def test_a_demo_does_not_replace_a_training(whole, capsys):
    from fouroptics.cli import main

    assert main(["demo", "--out", str(whole.folder), "--pictures", "240", "--seeds", "1"]) == 2
    assert "not made by this command" in capsys.readouterr().err
    assert (whole.seed(0) / "student.safetensors").is_file()


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_network_that_is_left_is_the_one_that_was_best(monkeypatch, ema):
    """Scores are told by a script: the second of four epochs is the best."""
    from fouroptics.models.training import loop
    from fouroptics.models.training.data import Part
    from fouroptics.models.training.distill import hard_loss

    shown, told = [], iter([0.1, 0.9, 0.2, 0.3])

    def measure(network, part, **_):
        shown.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"accuracy": next(told)}

    monkeypatch.setattr(loop, "measured", measure)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    part = Part(torch.rand(32, 3, 2, 2), torch.arange(32) % 3)
    settings = recipe(**{"train.epochs": 4, "train.ema": ema, "train.lr.electronics": 0.1}).train
    stage = loop.Stage("x", lambda scores, pictures, targets: hard_loss(scores, targets), settings)
    loop.Fitting(network, stage, part, part).run()
    for name, value in network.state_dict().items():
        assert torch.equal(value, shown[1][name])
        assert not torch.equal(value, shown[3][name])
