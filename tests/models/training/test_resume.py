"""A run that is killed goes on as if it had not been: no step twice, and the same bits at the end."""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fouroptics.models.training import evaluate, loop, train
from fouroptics.models.training.loop import Fitting
from fouroptics.models.training.train import _Seed

import fouroptics as fo
from fouroptics import toml
from fouroptics.errors import FailedRun
from fouroptics.tensors import load_tensors, save_tensors
from tests.models.training.test_loop import contents, recipe, same

STEPS = 20 + 30 + 30  # of the teacher and of both students
POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The same in all processes: sums of several threads round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(one_thread, tmp_path_factory):
    return train(recipe(), tmp_path_factory.mktemp("runs") / "whole")


# A run with a checkpoint after every step, that is killed behind a step or in the middle of its save.
STOP = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from fouroptics import toml
from fouroptics.models.training import Recipe, loop, train
out, stop, within, recipe = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
steps, sync = [0], os.fsync
def tell(*_):
    steps[0] += 1
    if steps[0] == stop and within == "step":
        os.kill(os.getpid(), signal.SIGKILL)
def half_way(file):
    if steps[0] == stop and within == "save":
        os.ftruncate(file, os.fstat(file).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    sync(file)
os.fsync = half_way
loop._APART = 0.0
train(Recipe.from_dict(toml.parse(recipe, "test")), out, tell=tell)
"""


def killed(out, stop, within="step"):
    text = toml.text(recipe().to_dict())
    return subprocess.run([sys.executable, "-c", STOP, str(out), str(stop), within, text]).returncode


def epochs(run):
    rows = [json.loads(line) for line in (run.seed(0) / "metrics.jsonl").read_text().splitlines()]
    return [(row["stage"], row["epoch"]) for row in rows]


@POSIX
@pytest.mark.parametrize(
    ("stop", "within"), [(7, "step"), (31, "step"), (52, "step"), (13, "save"), (40, "save"), (60, "save")]
)
def test_a_killed_run_ends_as_an_unbroken_one(tmp_path, whole, stop, within):
    """In the teacher's stage, in both students', within an epoch and during a save: bit by bit, and no step twice."""
    assert killed(tmp_path / "run", stop, within) == -signal.SIGKILL
    left = [path.name for path in (tmp_path / "run" / "seed-0").glob(".*")]
    assert len(left) == (within == "save")  # half of a checkpoint
    steps = []
    run = train(recipe(), tmp_path / "run", tell=lambda *told: steps.append(told))
    same(contents(run.folder), contents(whole.folder))
    assert not [*run.seed(0).glob(".*")]
    assert len(steps) == STEPS - (stop - 1)  # that step was not saved any more
    assert epochs(run) == epochs(whole)


@POSIX
def test_a_command_that_is_killed_is_given_again(tmp_path, whole):
    """Whenever that is: here as soon as there are two epochs."""
    told, out = tmp_path / "recipe.toml", tmp_path / "run"
    told.write_text(toml.text(recipe().to_dict()), encoding="utf-8")
    command = [sys.executable, "-m", "fouroptics", "train", str(told), "--out", str(out), "--threads", "1"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = out / "seed-0" / "metrics.jsonl"
    while not (rows.is_file() and rows.read_text().count("\n") >= 2):
        assert first.poll() is None
        time.sleep(0.01)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    subprocess.run(command, check=True, capture_output=True)
    same(contents(out), contents(whole.folder))
    assert [line.count("stage") for line in rows.read_text().splitlines()] == [1] * len(epochs(whole))


def test_two_minutes_of_work_are_lost_at_most(tmp_path, monkeypatch):
    """By a clock that is told: a look at it takes 20 seconds, and a step looks once."""

    class Clock:
        now = 0.0

        @classmethod
        def monotonic(cls):
            cls.now += 20.0
            return cls.now

    saved = []
    monkeypatch.setattr(loop, "time", Clock)
    monkeypatch.setattr(loop, "save_tensors", lambda *_: saved.append(Clock.now))
    train(recipe(**{"distill.loss": "none"}), tmp_path / "run")
    apart = [then - one for one, then in itertools.pairwise(saved)]
    assert len(saved) >= 9 and max(apart) <= 120


@POSIX
@pytest.mark.parametrize("left", [0, 1000, -1])
def test_a_checkpoint_that_was_cut_is_named(tmp_path, left):
    out = tmp_path / "run"
    assert killed(out, 31) == -signal.SIGKILL
    state = out / "seed-0" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:left])
    with pytest.raises(fo.InputError, match=r"state\.safetensors: holds no tensors"):
        train(recipe(), out)


def foreign(tensors, told, kind):
    """A checkpoint that is another's in one thing."""
    if kind == "nothing":
        return {"x": torch.ones(3)}, {}
    if kind == "recipe":
        return tensors, told | {"fingerprint": "of another"}
    if kind == "network":
        return {name: value for name, value in tensors.items() if not name.startswith("network.backend.")}, told
    if kind == "best":
        return {name: value for name, value in tensors.items() if not name.startswith("best.")}, told
    return tensors | {"optimiser.99.step": torch.ones(())}, told


@POSIX
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("nothing", "is no checkpoint of a training; remove it, and this stage begins again"),
        ("recipe", "is a checkpoint of another recipe or of other pictures; use the recipe and pictures"),
        ("network", "is a checkpoint of another network; remove it"),
        ("best", "is a checkpoint of another network; remove it"),
        ("optimiser", "is a checkpoint of another network; remove it"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, kind, says):
    out = tmp_path / "run"
    assert killed(out, 31) == -signal.SIGKILL
    state = out / "seed-0" / "state.safetensors"
    save_tensors(state, *foreign(*load_tensors(state), kind))
    before = state.read_bytes()
    with pytest.raises(fo.InputError, match=rf"state\.safetensors: {says}"):
        train(recipe(), out)
    assert state.read_bytes() == before


def test_networks_that_no_training_wrote_are_named(tmp_path, whole):
    """A student without its figures, and a teacher of other widths."""
    run = train(recipe(), tmp_path / "run")
    student = run.seed(0) / "student.safetensors"
    kept = load_tensors(student)
    save_tensors(student, kept[0])
    with pytest.raises(fo.InputError, match=r"student\.safetensors: was not written by a training; copy the run whole"):
        evaluate(run)
    save_tensors(student, *kept)
    save_tensors(run.seed(0) / "teacher.safetensors", {"x": torch.ones(3)})
    with pytest.raises(fo.InputError, match=r"seed-0.teacher\.safetensors: has no tensor"):
        train(recipe(seeds=[0, 1]), tmp_path / "run")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the names of open files")
def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch, whole):
    """The system says that it is full in the middle of a save: one line, the file before is as it was, and serves."""
    out, sync, saves = tmp_path / "run", os.fsync, []
    state = out / "seed-0" / "state.safetensors"

    def full(file):
        if ".state.safetensors-" in str(Path(f"/proc/self/fd/{file}").readlink()):
            saves.append(state.read_bytes() if state.is_file() else b"")
            if len(saves) == 13:
                raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    monkeypatch.setattr(loop, "_APART", 0.0)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FailedRun, match=r"state\.safetensors: cannot be written .*; free some space"):
        train(recipe(), out)
    monkeypatch.undo()
    assert state.read_bytes() == saves[-1] and not [*state.parent.glob(".*")]
    steps = []
    run = train(recipe(), out, tell=lambda *told: steps.append(told))
    assert len(steps) == STEPS - 12
    same(contents(run.folder), contents(whole.folder))


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_an_epoch_is_kept_before_it_is_scored(tmp_path, monkeypatch, whole, stage):
    """Scores of many pictures may take longer than the steps did: none of these is done twice."""
    score = Fitting._score

    def stopped(self, network):
        if self.stage.name == stage and self.progress.epoch == 1:
            raise KeyboardInterrupt
        return score(self, network)

    steps = []
    monkeypatch.setattr(loop, "_BEFORE_SCORES", 0.0)
    monkeypatch.setattr(Fitting, "_score", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), tmp_path / "run", tell=lambda *told: steps.append(told))
    monkeypatch.undo()
    run = train(recipe(), tmp_path / "run", tell=lambda *told: steps.append(told))
    assert len(steps) == STEPS
    same(contents(run.folder), contents(whole.folder))


def test_patience_is_kept_across_a_stop(tmp_path, monkeypatch):
    """Stopped when a stage had ended and its network was not written yet: no epoch more."""
    told = recipe(**{"train.epochs": 50, "train.patience": 1, "distill.loss": "none", "train.lr.electronics": 0.1})
    whole = train(told, tmp_path / "whole")

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_Seed, "_keep", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(told, tmp_path / "run")
    monkeypatch.undo()
    same(contents(train(told, tmp_path / "run").folder), contents(whole.folder))


def test_a_start_that_was_ended_in_the_middle_goes_on(tmp_path, whole):
    """Its marker half written, or written and no recipe yet."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".summary.json-0123456789ab").write_text("{")
    train(recipe(), tmp_path / "run")
    (tmp_path / "run" / "recipe.toml").unlink()
    same(contents(tmp_path / "run"), contents(train(recipe(), tmp_path / "run").folder))
    same(contents(tmp_path / "run"), contents(whole.folder))
