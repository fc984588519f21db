"""What a recipe says of its bench and controls: keys that came along, parts that are told, bands that are too wide."""

from types import SimpleNamespace

import pytest
import torch
from fouroptics.models import OSCLC
from fouroptics.models.training import Recipe, ladder, train
from fouroptics.models.training.data import of_section
from fouroptics.models.training.networks import student_of

import fouroptics as fo
from fouroptics import memory
from fouroptics.imperfections import Tolerances


def test_keys_that_say_what_always_was_change_no_fingerprint():
    """Runs that were made before a key was there go on: these two were told by the program of commit 7425b5f."""
    assert Recipe.load("shapes-bench").fingerprint() == "a752fc0411996160"
    assert Recipe.load("shapes-demo").fingerprint() == "c1643e3ea08ce3ac"
    for key, value in (("oversample", 2), ("correct_aberration", True)):
        assert Recipe.load("shapes-bench", {key: value}).fingerprint() != "a752fc0411996160"
        assert Recipe.load("shapes-demo", {key: value}).fingerprint() == "c1643e3ea08ce3ac"  # it has no bench


def test_a_band_that_no_memory_holds_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda _: 2**20)
    monkeypatch.setattr(memory, "WORTH_ASKING", 0)
    with pytest.raises(fo.InputError, match=r"ridge regression on .* numbers of a picture needs"):
        train("shapes-demo", tmp_path / "run", changes={"data.options": {"count": 60}, "evaluate.controls": ["ridge"]})
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run_is_refused_with_all_that_is_in_it(tmp_path):
    for name in ("thesis.txt", ".notes-0123456789ab"):  # the second is named as a writer would name what it leaves
        (tmp_path / name).write_text("mine")
    with pytest.raises(fo.InputError, match="no run of fouroptics"):
        train("shapes-demo", tmp_path, changes={"data.options": {"count": 60}})
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.txt", ".notes-0123456789ab"}


def test_parts_of_a_corrected_bench_are_measured_with_its_pixels(wide_pixels):
    """Ideal masks take the lenses' errors back and would tell nothing."""
    recipe = Recipe.load(
        "shapes-bench", {"bench": wide_pixels, "data.options": {"count": 60}, "student.channels": [3, 2]}
    )
    data = of_section(recipe.data)
    torch.manual_seed(0)
    student = student_of(recipe, data, torch.nn.Module()).eval()
    bench, known = recipe.on_bench().replace({"mask.correct_aberration": True}), data.some(8, seed=0)
    network = OSCLC.from_student(student, bench, known).eval()
    few = data.test.take(slice(0, 4))
    subject = ladder.Subject(None, student, network, few, Tolerances.load("lab-bench"), known, draws=0)
    found = ladder.parts(subject)
    assert "errors of the lenses" not in found
    name = "errors of the lenses and of the mask"
    assert ladder.lost_to(found)[name] == found["the mask device"] - found[name]


def test_parts_that_few_benches_have_are_told_apart_from_the_device(monkeypatch):
    bench = fo.Bench.load("slm-532nm").replace({"mask.wavefront": {4: "60 nm"}})
    subject = ladder.Subject(
        None, None, SimpleNamespace(bank=SimpleNamespace(bench=bench, device=True)), None, None, None, draws=0
    )
    monkeypatch.setattr(ladder, "_on", lambda subject, bench, masks: (bench, masks))
    monkeypatch.setattr(ladder, "figures", lambda *_: {"accuracy": 1.0})
    monkeypatch.setattr(ladder, "_captured", lambda *_: {"accuracy": 1.0})
    monkeypatch.setattr(ladder, "_on_bench", lambda here, _: {"accuracy": float(bool(here[0].mask.wavefront))})
    found = ladder.parts(subject)
    bent = {name for name, value in found.items() if value}
    assert bent == {"wavefront of the mask", "the bench as it stands", "noise of the camera"}
    assert ladder.lost_to(found)["wavefront of the mask"] == found["the mask device"] - 1.0
    assert "leak of the mask" in found and "stuck pixels of the mask" not in found


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("train.epochs", True, "epochs: True is neither a number nor a word"),
        ("data.size", True, "size: True is neither a number nor a word"),
        ("distill.temperature", float("inf"), r"distill\.temperature: .*finite"),
        ("train.weight_decay", float("inf"), r"train\.weight_decay: .*finite"),
        ("data.augment", ["shift 32"], r"data\.augment: a shift beyond pictures of 32; less than 32"),
    ],
)
def test_values_that_are_no_such_values_are_refused(key, value, says):
    with pytest.raises(fo.InputError, match=says):
        Recipe.load("shapes-demo", {key: value})


def test_a_path_is_one_from_wherever_it_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.load("cifar10-bench", {"data.path": "pictures", "teacher.weights": "~/a.safetensors"})
    assert recipe.data.path == str(tmp_path / "pictures") and recipe.teacher.weights == "~/a.safetensors"
    (tmp_path / "there").mkdir()
    recipe.save(tmp_path / "there" / "recipe.toml")
    assert Recipe.load(tmp_path / "there" / "recipe.toml").data.path == recipe.data.path
