"""Teachers and pictures of one's own, and what of them a run is made of."""

import os
import shutil

import pytest
import torch
from fouroptics.models.training import load, train
from fouroptics.models.training.data import of_section
from fouroptics.models.training.taught import Taught
from torch import nn
from torch.utils.data import TensorDataset

import fouroptics as fo
from tests.models.training.test_loop import contents, recipe, same


def test_ones_own_teacher_and_pictures(tmp_path):
    class Own(nn.Module):
        def forward(self, pictures):
            return torch.stack([pictures.mean((1, 2, 3)), 1 - pictures.mean((1, 2, 3)), pictures[:, 0, 0, 0]], 1)

    pictures = torch.rand(60, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 3
    sets = TensorDataset(pictures, labels), TensorDataset(pictures[:20], labels[:20])
    run = train(recipe(), tmp_path / "run", teacher=Own(), data=sets)
    assert run.summary["data"]["classes"] == ["0", "1", "2"]
    assert run.summary["data"]["reported"] == "validation"  # which chose: it is not called a test
    assert load(run)(pictures[:4]).shape == (4, 3)
    assert (run.seed(0) / "given-teacher.json").is_file()


@pytest.mark.parametrize(("views", "asked"), [(0, 6), (1, 2), (2, 4), (5, 6)])
def test_a_teacher_is_asked_once_about_a_view(tmp_path, monkeypatch, views, asked):
    """Three epochs of two batches. What is kept is what would be said again: the students are the same to the bit."""
    seen = []

    class Own(nn.Module):
        def forward(self, pictures):
            seen.append(pictures)
            return pictures.mean((2, 3))

    pictures = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    sets = (TensorDataset(pictures, torch.arange(64) % 3),) * 2
    told = recipe(**{"distill.views": views, "distill.also_without": False})
    kept = train(told, tmp_path / "kept", teacher=Own(), data=sets)
    shown = [batch for batch in seen if len(batch) == 32]
    assert len(shown) == asked == len({batch.numpy().tobytes() for batch in shown})
    monkeypatch.setattr(Taught, "said", lambda self, batch: self.teacher(batch))
    same(contents(kept.folder), contents(train(told, tmp_path / "asked", teacher=Own(), data=sets).folder))


@pytest.mark.parametrize(
    ("loss", "more"),
    [
        ("dkd", {"distill.alpha": 0.5, "distill.beta": 2.0}),
        ("logit-std", {}),
        ("function-matching", {"data.augment": ["flip", "shift 1", "mixup 1"]}),
    ],
)
def test_every_loss_teaches_and_the_teacher_sees_what_the_student_sees(tmp_path, monkeypatch, loss, more):
    """What a step makes of its scores is the loss that was asked for, of the same views, mixed or not."""
    from fouroptics.models.training import distillation_loss, loop

    shown, said, found = [], [], []
    before, call = loop.scores_of, Taught.__call__

    class Own(nn.Module):
        def forward(self, pictures):
            said.append(pictures.clone())
            return 5 * pictures.mean((2, 3))

    def seen(network, pictures, amp):
        shown.append(pictures.clone())
        return before(network, pictures, amp)

    def taught(self, scores, pictures, targets):
        value = call(self, scores, pictures, targets)
        options = {"alpha": 0.5, "beta": 2.0} if loss == "dkd" else {}
        due = distillation_loss(scores, 5 * pictures.mean((2, 3)), targets, kind=loss, **options)
        found.append(float((value - due).detach()))
        return value

    monkeypatch.setattr(loop, "scores_of", seen)
    monkeypatch.setattr(Taught, "__call__", taught)
    pictures = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    sets = (TensorDataset(pictures, torch.arange(64) % 3),) * 2
    told = recipe(**{"distill.loss": loss, "distill.also_without": False, "train.epochs": 2} | more)
    train(told, tmp_path / "run", teacher=Own(), data=sets)
    views = [one for one in said if len(one) == 32]
    assert len(shown) == len(found) == 4 and found == [0.0] * 4
    assert all(torch.equal(one, other) for one, other in zip(shown, views, strict=True))
    own = {one.numpy().tobytes() for one in pictures}
    assert not any(one.numpy().tobytes() in own for one in shown[0]) or loss != "function-matching"


@pytest.mark.parametrize(
    ("changes", "classes", "words"),
    [
        ({"distill.loss": "dkd"}, 2, "dkd of 2 classes"),
        ({"distill.loss": "kd"}, 3, r"the student's scores are \[2, 3\], the teacher's \[2, 2\]"),
    ],
)
def test_a_loss_that_cannot_be_is_refused_before_anything_is_trained(tmp_path, changes, classes, words):
    pictures, labels = torch.rand(60, 3, 16, 16), torch.arange(60) % classes
    sets = TensorDataset(pictures, labels), TensorDataset(pictures[:20], labels[:20])
    with pytest.raises(fo.InputError, match=words):
        train(recipe(**changes), tmp_path / "run", teacher=nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), data=sets)
    assert not (tmp_path / "run").exists()


def test_a_third_dataset_is_reported_on(tmp_path):
    pictures, labels = torch.rand(60, 3, 16, 16), torch.arange(60) % 3
    sets = [TensorDataset(pictures[:n], labels[:n]) for n in (60, 20, 7)]
    run = train(recipe(**{"distill.loss": "none", "train.epochs": 1}), tmp_path / "run", data=tuple(sets))
    told = run.summary["data"]
    assert (told["validation"], told["test"], told["reported"]) == (20, 7, "test")


def test_other_pictures_of_the_same_classes(tmp_path):
    """A run on folders, evaluated on another folder; one of other classes is refused."""
    from fouroptics.models.training.results import figures_on
    from PIL import Image

    def folders(root, names, count, blue=50):
        for number, name in enumerate(names):
            (root / name).mkdir(parents=True)
            for which in range(count):
                Image.new("RGB", (16, 16), (200 * number, 8 * which, blue)).save(root / name / f"{which}.png")
                if which % 6 == 5:  # some are there twice, and lie on both sides of a split
                    shutil.copy(root / name / f"{which - 1}.png", root / name / f"{which}.png")
        return root

    here = folders(tmp_path / "here", ("cat", "dog"), 30)
    told = {"data.reader": "folders", "data.path": str(here), "data.options": {}, "distill.loss": "none",
            "train.epochs": 40, "train.ema": 0.0}  # fmt: skip
    before = torch.random.get_rng_state()
    run = train(recipe(**told), tmp_path / "run")
    assert torch.equal(torch.random.get_rng_state(), before)
    kept = run.summary["results"]
    assert figures_on(run, here) == kept  # its own pictures: only those that it never saw
    shutil.copytree(here, tmp_path / "moved")  # they are its own wherever they lie
    for file in (tmp_path / "moved").rglob("*.png"):
        os.utime(file, (0, 0))
    assert figures_on(run, tmp_path / "moved") == kept
    train(recipe(**told | {"data.path": str(tmp_path / "moved")}), tmp_path / "run")
    found = figures_on(run, folders(tmp_path / "there", ("cat", "dog"), 5, blue=60))
    assert found["student-alone"]["accuracy"]["mean"] == pytest.approx(1.0)  # red or not is easily told
    folders(tmp_path / "moved" / "more", ("cat", "dog"), 1, blue=70)  # a strange folder now, of known pictures
    for name in ("cat", "dog"):
        shutil.move(tmp_path / "moved" / "more" / name / "0.png", tmp_path / "moved" / name / "new.png")
    shutil.rmtree(tmp_path / "moved" / "more")
    with pytest.warns(UserWarning, match="54 of 62 pictures were trained on or chosen by, and are left out"):
        figures_on(run, tmp_path / "moved")
    for file in (tmp_path / "moved").rglob("new.png"):
        file.unlink()
    for part in ("train", "validation"):
        assert len(getattr(of_section(run.recipe.data), part)) == {"train": 49, "validation": 5}[part]
    with pytest.raises(fo.InputError, match="its classes are cat, fox; the network knows cat, dog"):
        figures_on(run, folders(tmp_path / "elsewhere", ("cat", "fox"), 5))


def test_what_a_run_was_made_of_is_part_of_it(tmp_path):
    """Other pictures, another teacher of one's own: another run."""
    labels, draw = torch.arange(60) % 3, torch.Generator().manual_seed(0)
    sets = [(one := TensorDataset(torch.rand(60, 3, 16, 16, generator=draw), labels), one) for _ in range(2)]
    teachers = [nn.Sequential(nn.Flatten(), nn.Linear(768, 3)) for _ in range(2)]
    train(recipe(), tmp_path / "run", teacher=teachers[0], data=sets[0])
    assert all(p.requires_grad for p in teachers[0].parameters())  # which stays as it was
    for teacher, data in ((teachers[0], sets[1]), (teachers[1], sets[0])):
        with pytest.raises(fo.InputError, match="is a run of another recipe, of other pictures or teacher"):
            train(recipe(), tmp_path / "run", teacher=teacher, data=data)
    train(recipe(), tmp_path / "run", teacher=teachers[0], data=sets[0])


def test_a_student_like_one_s_own_teacher_is_loaded_without_it(tmp_path):
    from fouroptics.models.teachers import SmallCNN

    sets = TensorDataset(torch.rand(40, 3, 16, 16), torch.arange(40) % 3)
    told = recipe(**{"student.like": "teacher", "train.epochs": 1})
    run = train(told, tmp_path / "run", teacher=SmallCNN(3, 16, widths=(4,)), data=(sets, sets))
    assert load(run).front.plan.channels == (3, 4, 4)


class Scaled(nn.Module):
    """A teacher whose size is no parameter, and in no name."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, pictures):
        return self.by * pictures.mean((2, 3))


def test_a_teacher_who_says_otherwise_is_another(tmp_path):
    sets = TensorDataset(torch.rand(60, 3, 16, 16), torch.arange(60) % 3)
    run = train(recipe(), tmp_path / "run", teacher=Scaled(1.0), data=(sets, sets))
    train(recipe(), tmp_path / "run", teacher=Scaled(1.0 + 1e-5), data=(sets, sets))  # of another machine
    with pytest.raises(fo.InputError, match="is a run of a teacher who says otherwise; the teacher that it began with"):
        train(recipe(), tmp_path / "run", teacher=Scaled(-50.0), data=(sets, sets))
    assert (run.seed(0) / "student.safetensors").is_file()


def test_a_teacher_of_halves_is_told_from_others(tmp_path):
    sets = TensorDataset(torch.rand(60, 3, 16, 16), torch.arange(60) % 3)
    halves = nn.Sequential(nn.Flatten(), Halves(768, 3))
    train(recipe(), tmp_path / "run", teacher=halves, data=(sets, sets))


class Halves(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes, dtype=torch.bfloat16)

    def forward(self, pictures):
        return super().forward(pictures.bfloat16()).float()
