"""A run with a bench: its ladder, its file in another process, its stages, and what is refused."""

import json

import pytest
import torch
from fouroptics.models import OSCLC
from fouroptics.models.training import Recipe, train
from fouroptics.models.training.data import Part
from fouroptics.models.training.deploy import evaluate_file
from fouroptics.models.training.ladder import table
from fouroptics.models.training.recipe import RUNGS
from fouroptics.models.training.stages import few, prepare, relearn
from typer.testing import CliRunner

import fouroptics as fo
from fouroptics.cli.main import app
from fouroptics.errors import InputError

QUICK = {
    "data.options": {"count": 200}, "data.augment": [], "teacher.epochs": 1, "teacher.widths": [4, 8],
    "train.epochs": 2,
    "train.batch": 20, "student.channels": [3, 4], "evaluate.draws": 2, "evaluate.pictures": 20,
}  # fmt: skip


def stage(**told):
    return {"name": "one", "epochs": 1, "pictures": 40, "learn": ["backend"]} | told


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    stages = [stage(learn=["kernels", "backend"], noise=True, tolerances="lab-bench", draws=2), stage(name="two")]
    changes = QUICK | {"stage": stages}
    return train("shapes-bench", tmp_path_factory.mktemp("bench") / "run", changes=changes)


def test_a_ladder_has_every_rung(run):
    found = json.loads((run.seed(0) / "ladder.json").read_text())
    assert tuple(found["rungs"]) == RUNGS
    assert found["pictures"] == 20 and len(found["rungs"]["misaligned"]["draws"]) == 2
    assert found["rungs"]["student"] == found["rungs"]["folded"]
    assert {"nothing", "errors of the lenses", "crosstalk of the mask"} <= set(found["parts"])
    assert found["budget"]["captures"] == 8 and found["budget"]["electrons_mean"] > 100
    assert len(table(found).splitlines()) == len(RUNGS) + 1
    assert set(run.summary["ladder"]) == set(RUNGS)
    assert (run.seed(0) / "ladder.png").read_bytes().startswith(b"\x89PNG")


def test_the_exported_file_gives_the_quantized_rung_bit_for_bit(run):
    rungs = json.loads((run.seed(0) / "ladder.json").read_text())["rungs"]
    assert rungs["file"]["scores_sha256"] == rungs["quantized"]["scores_sha256"]
    path = run.seed(0) / "masks.h5"
    assert evaluate_file(path, None, 20)["scores_sha256"] == rungs["quantized"]["scores_sha256"]
    masks = fo.MaskSet.load(path)
    assert masks.results["rungs"]["quantized"] == rungs["quantized"]
    assert "/" not in masks.provenance["recipe"].replace("fouroptics-recipe/1", "")


def test_stages_changed_what_they_say_and_nothing_else(run):
    from fouroptics.tensors import load_tensors

    one, two = (load_tensors(run.seed(0) / f"stage-{n}.safetensors")[0] for n in (0, 1))
    changed = {name for name in one if not torch.equal(one[name], two[name])}
    assert changed and not any(name.startswith("osclc.bank") for name in changed)
    rows = [json.loads(line) for line in (run.seed(0) / "metrics.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows][-2:] == ["stage-0: one", "stage-1: two"]
    assert all(row["steps"] == 2 for row in rows[-2:])


def test_a_run_with_a_bench_goes_on_where_it_was(run, tmp_path):
    before = (run.seed(0) / "masks.h5").read_bytes()
    (run.seed(0) / "ladder.json").unlink()
    (run.seed(0) / "stage-1.safetensors").unlink()
    kept = (run.seed(0) / "stage-0.safetensors").stat().st_mtime_ns
    again = train(run.recipe, run.folder)
    assert (run.seed(0) / "stage-0.safetensors").stat().st_mtime_ns == kept
    assert fo.MaskSet.load(again.seed(0) / "masks.h5").results["rungs"]["quantized"]
    assert before[:4] == (run.seed(0) / "masks.h5").read_bytes()[:4]


def test_evaluate_tells_runs_and_files_side_by_side(run):
    done = CliRunner().invoke(app, ["evaluate", str(run.folder), str(run.seed(0) / "masks.h5"), "--pictures", "20"])
    assert done.exit_code == 0, done.output
    assert "misaligned" in done.output and "its masks on their bench" in done.output


def test_pixels_are_learned_from_where_kernels_put_them(run):
    network = OSCLC.from_maskset(run.seed(0) / "masks.h5")
    relearn(network, "masks")
    assert network.bank.device.learn == "masks"
    section = Recipe.load("shapes-bench", {"stage": [stage(learn=["masks"], quantize="soft")]}).stage[0]
    flawed = prepare(network, section).train()
    assert {n for n, p in flawed.named_parameters() if p.requires_grad} == {"osclc.bank.device.drive"}
    with pytest.raises(InputError, match="follow no kernels"):
        relearn(network, "kernels")


def test_few_are_a_fixed_draw():
    part = Part(torch.arange(10).reshape(10, 1, 1, 1), torch.arange(10))
    assert torch.equal(few(part, 4).targets, few(part, 4).targets) and len(few(part, 4)) == 4
    assert few(part, 0) is part and few(part, 99) is part


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bench": ""}, "without a bench"),
        ({"stage": [stage(learn=["kernels", "masks"])]}, "one of the two"),
        ({"stage": [stage(), stage()]}, "two stages of one name"),
        ({"stage": [stage(quantise="soft")]}, "quantize"),
        ({"evaluate.rungs": ["light", "heavy"]}, "heavy"),
        ({"bench": "slm-533nm"}, "slm-532nm"),
        ({"student.readout": "ideal_field"}, "homodyne"),
        ({"student.kernel": 15, "bench": "plate-532nm"}, "dark border"),
        ({"student.model": "released", "data.size": [64, 64]}, "no masks"),
        ({"evaluate.tolerances": "lab-bank"}, "lab-bench"),
    ],
)
def test_a_recipe_that_no_bench_can_carry(changes, words, tmp_path):
    with pytest.raises(InputError, match=words):
        train("shapes-bench", tmp_path / "run", changes=QUICK | {"evaluate.rungs": ["student"]} | changes)
    assert not (tmp_path / "run").exists()


def test_a_file_of_a_run_needs_its_pictures(run, tmp_path):
    masks = fo.MaskSet.load(run.seed(0) / "masks.h5")
    from dataclasses import replace

    replace(masks, provenance={k: v for k, v in masks.provenance.items() if k != "recipe"}).save(tmp_path / "m.h5")
    with pytest.raises(InputError, match="what pictures"):
        evaluate_file(tmp_path / "m.h5", None)
