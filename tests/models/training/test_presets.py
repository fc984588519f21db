"""Every shipped recipe runs, in quick form, on pictures made here; what the paper's tables compare is what it says."""

import numpy as np
import pytest
import torch
from fouroptics.models import SCLC
from fouroptics.models.backends import FC
from fouroptics.models.controls import Affine, Square, backend_only, max_pooled, squared
from fouroptics.models.teachers import AlexNet, SmallCNN, UNet
from fouroptics.models.training import Recipe, evaluate, load, metrics, ridge, train
from fouroptics.models.training.data import Data, Part
from torch import nn

import fouroptics as fo


@pytest.mark.parametrize("name", Recipe.shipped())
def test_a_shipped_recipe_runs(tmp_path, name):
    recipe = Recipe.load(name)
    pixels = recipe.teacher.model == "unet"
    quick = {
        "seeds": [0], "data.reader": "shapes", "data.size": [32, 32], "data.validation": 0.2, "data.test": 0.2,
        "data.options": {"count": 24, "target": "mask" if pixels else "class"},
        "teacher.epochs": 1, "teacher.hidden": 16, "train.epochs": 1, "train.batch": 7,
        "teacher.widths": [4, 8] if recipe.teacher.widths else [],
    }  # fmt: skip
    if pixels:
        quick |= {"student.crops": [16, 8, 0], "student.channels": [3, 2, 2, 4]}
    elif recipe.student.crops:
        quick |= {"student.crops": [16], "student.sensor_pool": 4}
    if recipe.bench:
        path = tmp_path / "bench.toml"  # pixels twice as wide: a quarter of the time
        fo.Bench.load(recipe.bench).replace({"mask.pitch": "16 um", "mask.pixels": [960, 540]}).save(path)
        quick |= {"bench": str(path), "stage": [], "evaluate.controls": []}
        quick |= {} if pixels else {"student.channels": [3, 8]}
        quick |= {"evaluate.rungs": ["student", "quantized"], "evaluate.pictures": 2}
    run = train(recipe.from_dict(recipe.to_dict(), quick), tmp_path / "run")
    assert set(evaluate(run)) == {"teacher", "student"} | ({"student-alone"} if recipe.distill.also_without else set())
    assert run.summary["function"] == {
        "squared": "WithBackend",
        "max-pool": "WithBackend",
        "backend-only": "WithBackend",
    }.get(recipe.student.model, load(run).summary().function if recipe.student.model == "sclc" else "")


@pytest.mark.parametrize("table", ["table2-cats-dogs", "table2-cifar10", "table2-high10", "table3-spectral-pool"])
def test_the_paper_s_student_as_printed_is_affine(tmp_path, table):
    from fouroptics.models.sclc import SCLC

    recipe = Recipe.load(table)
    section = recipe.student
    student = SCLC.like(AlexNet(4, size=64, hidden=8), readout=section.readout, compand=section.compand, classes=4)
    assert student.summary().function == "affine"


def test_optics_that_are_off_image_and_do_no_more():
    """Behind them a camera sees the picture's own channels; an electronic convolution is as wide as the student."""
    changes = {"data.options": {"count": 60}, "data.size": [16, 16], "student.channels": [3, 4]}
    recipe = Recipe.load("shapes-bench", changes)
    from fouroptics.models.training.data import of_section
    from fouroptics.models.training.networks import control_of, student_of

    data = of_section(recipe.data)
    off = control_of("optics-off", recipe, data)
    pictures = data.some(3, seed=0)
    assert torch.allclose(off.front(pictures)[:, :, :16, :16], pictures[:, [0, 1, 2, 0]], atol=1e-5)
    chance = control_of("random-kernels", recipe, data)
    assert not any(p.requires_grad for one in (off, chance) for p in one.front.parameters())
    torch.manual_seed(0)
    begun = student_of(recipe, data, nn.Module())
    torch.manual_seed(0)
    chance = control_of("random-kernels", recipe, data)
    assert recipe.student.initial == "patches" and torch.equal(chance.front.weights[0], begun.front.weights[0])
    conv = control_of("electronic-same-backend", recipe, data)
    shapes = [[p.shape for p in one.backend.parameters()] for one in (off, chance, conv)]
    assert shapes[0] == shapes[1] == shapes[2]
    assert conv(pictures).shape == off(pictures).shape == (3, len(data.classes))
    by_hand = torch.cat((conv.features[0](pictures).relu(), (-conv.features[0](pictures)).relu()), 1)
    assert torch.equal(conv.features(pictures), by_hand)
    divided = control_of(
        "electronic-same-backend", Recipe.load("shapes-bench", changes | {"student.divisive": 0.1}), data
    )
    seen = divided.features[:2](pictures)
    due = seen / (0.1 + (seen**2).mean(1, keepdim=True)).sqrt()
    torch.testing.assert_close(divided.features(pictures), torch.cat((due.relu(), (-due).relu()), 1))


def test_controls_are_trained_beside_the_student_and_loaded_again(tmp_path, monkeypatch):
    quick = {
        "data.options": {"count": 60}, "teacher.epochs": 1, "train.epochs": 1, "train.batch": 20, "bench": "",
        "stage": [], "train.amp": True,
        "evaluate.controls": ["optics-off", "random-kernels", "electronic-same-backend", "ridge"],
    }  # fmt: skip
    run = train("shapes-bench", tmp_path / "run", changes=quick)
    controls = {f"control-{kind}" for kind in run.recipe.evaluate.controls}
    assert controls < set(evaluate(run)) and controls < set(run.summary["results"])
    from fouroptics.models.training.data import of_section

    data = of_section(run.recipe.data)
    again = evaluate(run, data)
    assert {name: again[name] for name in controls} == {name: evaluate(run)[name] for name in controls}
    monkeypatch.setattr(metrics, "halves_pay", lambda device: True)  # as on a GPU: light stays in single precision
    ridged, (pictures, _) = load(run, name="control-ridge"), data.test.batch(slice(4))
    assert torch.equal(metrics.scores_of(ridged, pictures, amp=True), ridged(pictures))
    start = load(run, name="control-optics-off")
    assert type(start).__name__ == "SCLC"


def test_controls_are_what_they_say():
    teacher = SmallCNN(3, 16, widths=(4, 6))
    pictures = torch.rand(2, 3, 16, 16)
    without = max_pooled(teacher, (16, 16), (2, 2), 3, FC())
    assert not any(isinstance(layer, nn.ReLU) for layer in without.modules())
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in without.modules()) == 2
    square = squared(teacher, (16, 16), None, 3, FC())
    assert sum(isinstance(layer, Square) for layer in square.modules()) == 4
    assert torch.equal(Square()(pictures), pictures * pictures)
    alone = backend_only(3, (16, 16), (4, 4), 3, FC()).eval()
    means = torch.nn.functional.avg_pool2d(pictures, 4)
    assert torch.allclose(alone(pictures), alone.backend(alone.norm(means)), atol=1e-6)
    for network in (without, square, alone):
        assert network(pictures).shape == (2, 3)
        assert all(p.requires_grad for p in network.parameters())
    before = teacher.features[0].weight
    assert not torch.equal(without.features[0].weight, before)  # begun anew, and not the teacher's own
    with pytest.raises(fo.InputError, match="UNet: has no features to be like"):
        squared(UNet(2, widths=(4, 8)), (16, 16), None, 2, FC())


def test_no_affine_student_knows_more_than_the_layer_that_ridge_solves():
    """What a chain with a crop and one layer make of pictures is a layer of the frequencies, to rounding."""
    torch.manual_seed(0)
    student = SCLC((3, 4, 5), 3, (None, 6), 16, readout="ideal_field", classes=3).double().eval()
    limit, pictures = Affine(student.front.chain, 3).double(), torch.rand(400, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        known = torch.cat((limit.frequencies(pictures), torch.ones(400, 1, dtype=torch.float64)), 1)
        assert known.shape[1] < 400  # or anything would be
        due = student(pictures)
        off = known @ torch.linalg.lstsq(known, due, driver="gelsd").solution - due
    assert float(off.abs().max() / due.abs().max()) < 1e-9


def test_ridge_is_least_squares_with_a_penalty():
    """Against numpy's least squares of stacked equations, on frequencies by numpy's own transform."""
    draw = torch.Generator().manual_seed(0)
    parts = []
    for count in (300, 100):
        targets = torch.randint(3, (count,), generator=draw)
        pictures = torch.rand(count, 1, 12, 12, generator=draw)
        pictures[:, 0, 3] += 0.2 * targets[:, None]
        parts.append(Part(pictures / 2, targets))
    data = Data(parts[0], parts[1], parts[1], ("a", "b", "c"))
    plan = SCLC((1, 2), 3, (5,), 12, readout="ideal_field", classes=3).front.plan
    network = Affine(plan, 3)
    ridge.solve(network, data)

    def frequencies(pictures):
        whole = np.fft.fft2(pictures.double().numpy()[:, 0], s=plan.grid)
        kept = plan.grids[-1]
        held = whole[:, np.arange(-(kept[0] // 2), kept[0] // 2 + 1)][:, :, : kept[1] // 2 + 1]
        return np.stack((held.real, held.imag), -1).reshape(len(pictures), -1)

    found, labels = frequencies(parts[0].pictures), np.eye(3)[parts[0].targets.numpy()]
    mean, due = found.mean(0), labels.mean(0)
    unit, scores = np.mean(np.var(found, 0)), {}
    for penalty in ridge.PENALTIES:
        many = np.sqrt(penalty * unit * len(found)) * np.eye(found.shape[1])
        weight = np.linalg.lstsq(np.vstack((found - mean, many)), np.vstack((labels - due, 0 * many[:, :3])))[0]
        scores[penalty] = (frequencies(parts[1].pictures) - mean) @ weight + due
    right = {penalty: float((one.argmax(1) == parts[1].targets.numpy()).mean()) for penalty, one in scores.items()}
    best = max(right, key=right.get)
    with torch.no_grad():
        given = network(parts[1].pictures).double().numpy()
    assert 0.4 < right[best] < 1 and np.abs(given - scores[best]).max() < 2e-3


def test_what_tensorboard_reads_is_what_the_metrics_say(tmp_path):
    import json

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    quick = {"data.options": {"count": 60}, "train.tensorboard": True, "train.epochs": 2, "teacher.epochs": 1}
    run = train(Recipe.load("shapes-demo", quick | {"seeds": [0]}), tmp_path / "run")
    rows = [json.loads(line) for line in (run.seed(0) / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(run.seed(0) / "tensorboard")).Reload()
    for name in ("loss", "validation_accuracy"):
        seen = {one.step: one.value for one in events.Scalars(f"student/{name}")}
        assert seen == pytest.approx({row["epoch"]: row[name] for row in rows if row["stage"] == "student"}, rel=1e-6)


def test_a_missing_tensorboard_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    recipe = Recipe.load("shapes-demo", {"data.options": {"count": 60}, "train.tensorboard": True, "train.epochs": 1})
    with pytest.raises(fo.InputError, match=r"train\.tensorboard: tensorboard is not installed; pip install"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()  # before anything was trained
