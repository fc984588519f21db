"""A run: from a recipe to a folder with a teacher, students and their figures, and on from where it was stopped."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fouroptics.models.controls import Affine
from fouroptics.models.sclc import SCLC
from fouroptics.models.teachers import QuickCNN, SmallCNN, UNet, load_weights, merged
from fouroptics.models.training import data as pictures_in
from fouroptics.models.training import metrics, ridge
from fouroptics.models.training.augment import Augmentation
from fouroptics.models.training.data import Data, Part
from fouroptics.models.training.deploy import LADDER, MASKS, Deployment
from fouroptics.models.training.distill import distillation_loss, hard_loss
from fouroptics.models.training.folder import (
    ALONE,
    CONTROL,
    STAGE,
    STATE,
    STUDENT,
    TEACHER,
    Run,
    begin,
    log,
    make,
    tensorboard_writer,
    to_tensorboard,
    write_metrics,
)
from fouroptics.models.training.loop import Fitting, Loss, Stage, Tell
from fouroptics.models.training.metrics import measured
from fouroptics.models.training.networks import control_of, likened_to, student_of, teacher_of
from fouroptics.models.training.ranks import Ranks, joined
from fouroptics.models.training.recipe import RateSection, Recipe, TrainSection
from fouroptics.models.training.results import function_of, load, summarise
from fouroptics.models.training.stages import check_bench
from fouroptics.models.training.taken import source_of, take
from fouroptics.models.training.taught import Taught
from torch import Tensor, nn

from fouroptics.errors import InputError
from fouroptics.files import alone_in, clear_unfinished, write_whole
from fouroptics.tensors import load_tensors, save_tensors

GIVEN = "given-teacher.json"
_FEW = 64  # pictures that the share of light beside them is told for


def train(
    recipe: Recipe | str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    teacher: nn.Module | None = None,
    data: Data | tuple[Any, ...] | None = None,
    changes: Mapping[str, Any] | None = None,
    tell: Tell | None = None,
) -> Run:
    """Train what a recipe says, or go on where an earlier call of the same was stopped.

    Args:
        recipe: a file, a shipped recipe's name, or one in hand.
        out: the run's folder.
        teacher: one's own, any module from pictures in [0, 1] to scores; it is used as it is.
        data: one's own, ``Data`` or Datasets of ``(picture, target)``: to train on, to choose by and, if there is a
            third, to report on.
        changes: dotted keys of the recipe and their values.
        tell: is told how far it is.
    """
    read = _recipe(recipe, changes)
    device = _device(read.device)
    if read.train.amp and not metrics.halves_pay(device.type):
        warnings.warn("train.amp: half precision is no faster on this processor, which works in single", stacklevel=2)
    if read.train.tensorboard:
        tensorboard_writer()
    with joined(device) as ranks, torch.random.fork_rng(), ExitStack() as until_done:  # a caller's random numbers stay
        found = ranks.one_then_others(lambda: _data(read, data))
        _check_student(read, found, teacher)
        folder = Path(out)
        source, taught_by = source_of(read, found, _taught_by(read, teacher), teacher, folder)
        if ranks.is_first:
            make(folder)
            until_done.enter_context(alone_in(folder))
            begin(folder, read, found, taught_by)
            clear_unfinished(folder)
        ranks.wait()
        run = Run.open(folder)
        told = run.summary["fingerprint"]
        here = replace(
            found, train=found.train.to(device), validation=found.validation.to(device), test=found.test.to(device)
        )
        for seed in read.seeds:
            if source and ranks.is_first:
                make(run.seed(seed))
                take(source, read, teacher, seed, run.seed(seed))
            ranks.wait()
            _Seed(run, here, seed, device, ranks, tell, told, data is not None).run(copy.deepcopy(teacher))
            if ranks.is_first:
                summarise(run)
        return run


@dataclass(frozen=True)
class _Seed:
    """One seed of a run."""

    into: Run
    data: Data
    number: int
    device: torch.device
    ranks: Ranks
    tell: Tell | None
    fingerprint: str
    is_given: bool = False

    def run(self, given: nn.Module | None) -> None:
        recipe = self.into.recipe
        if self.ranks.is_first:
            make(self.folder)
            clear_unfinished(self.folder)
        self.ranks.wait()
        teacher = self.teacher(given) if recipe.has_teacher or given is not None else None
        loss = self._loss(teacher, keeps=recipe.distill.views > 0)
        without = recipe.distill.also_without or recipe.distill.loss == "none"
        if without:
            self.student(ALONE, teacher, partial(_labelled, 0.0))
        if recipe.distill.loss != "none" and teacher is not None:
            self.student(STUDENT, teacher, loss)
        for kind in recipe.evaluate.controls:
            self.student(f"{CONTROL}{kind}", teacher, loss)
        if recipe.bench:
            self.on_bench(teacher)
        if self.ranks.is_first:
            (self.folder / STATE).unlink(missing_ok=True)

    @property
    def folder(self) -> Path:
        return self.into.seed(self.number)

    def teacher(self, given: nn.Module | None) -> nn.Module:
        """The teacher in evaluation mode: one's own, one of a file, or the one that the first seed trains for all."""
        recipe = self.into.recipe
        if given is not None:
            own = given.to(self.device).eval()
            self._tell_of_given(own)
            return own.requires_grad_(False)
        torch.manual_seed(self.number)
        network = teacher_of(recipe, self.data).to(self.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        path = self.folder / f"{TEACHER}.safetensors"
        first = self.into.seed(recipe.seeds[0]) / path.name  # the oldest seed's teacher teaches all
        if self.ranks.agree(path.is_file()):
            load_weights(network, path)
        elif recipe.teacher.weights:
            load_weights(network, recipe.teacher.weights)
            self._keep(TEACHER, network, [])
        elif self.ranks.agree(first.is_file()):
            load_weights(network, first)
            if self.ranks.is_first:
                tensors, told = load_tensors(first)
                save_tensors(path, tensors, {"figures": told.get("figures", ""), "taken_from": first.parent.name})
            self.ranks.wait()
        else:
            self._check_whole(TEACHER, [path for path in (self._file(STUDENT),) if path.is_file()])
            section = recipe.teacher
            if isinstance(network, QuickCNN):
                network.begin(self.data.some(5000, seed=0))
            settings = TrainSection(
                epochs=section.epochs, batch=section.batch or recipe.train.batch, weight_decay=section.weight_decay,
                optimiser="sgd-paper" if section.optimiser == "sgd" else section.optimiser, schedule=section.schedule,
                accumulate=recipe.train.accumulate, ema=section.ema,
                lr=RateSection(optics=section.lr, electronics=section.lr), amp=recipe.train.amp,
            )  # fmt: skip
            loss = partial(_labelled, section.label_smoothing)
            self._fit(TEACHER, network, Stage(TEACHER, loss, settings, optics=None))
        return network.eval().requires_grad_(False)

    def student(self, name: str, teacher: nn.Module | None, loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        """A student of one loss, unless there it is; both begin alike."""
        if self.ranks.agree((self.folder / f"{name}.safetensors").is_file()):
            return
        stages = [] if name.startswith(CONTROL) else [*self.folder.glob(f"{STAGE}*"), *self.folder.glob(MASKS)]
        self._check_whole(name, [*stages, *self.folder.glob(LADDER)])
        torch.manual_seed(self.number)
        recipe, data = self.into.recipe, self.data
        network = (
            control_of(name.removeprefix(CONTROL), recipe, data, teacher)
            if name.startswith(CONTROL)
            else student_of(recipe, data, teacher or nn.Module())
        ).to(self.device)
        if isinstance(network, Affine):
            ridge.solve(network, data)
            self._keep(name, network, [])
        else:
            self._fit(name, network, Stage(name, loss, recipe.train, views=recipe.distill.views))

    def _check_whole(self, name: str, behind: list[Path]) -> None:
        """Refuse to train anew what others in the folder were made of."""
        if behind:
            made = ", of which it tells," if name.startswith(CONTROL) else ", of which it was made,"
            what = f"{behind[0].name} is there, and {name}.safetensors{made} is gone"
            mend = f"copy the run whole, or remove {', '.join(path.name for path in behind)}"
            raise InputError(what, where=str(self.folder), mend=mend)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def on_bench(self, teacher: nn.Module | None) -> None:
        """The student on the recipe's bench, fine-tuned, exported and measured."""
        recipe = self.into.recipe
        taught = recipe.distill.loss != "none" and teacher is not None
        student = load(self.into, self.number, STUDENT if taught else ALONE).to(self.device)
        Deployment(
            recipe, self.folder, self.data, student, teacher, self._loss(teacher), self._through, self.number,
            self.ranks.is_first, self.is_given, self._told,
        ).run()  # fmt: skip
        self.ranks.wait()

    def _told(self, step: str, done: int, total: int) -> None:
        if self.tell is not None:
            self.tell(f"seed {self.number}, {step}", done, total)

    def _loss(self, teacher: nn.Module | None, *, keeps: bool = False) -> Loss:
        """With a teacher, if the recipe has one that teaches."""
        recipe = self.into.recipe
        if recipe.distill.loss == "none" or teacher is None:
            return partial(_labelled, 0.0)
        ours = isinstance(teacher, QuickCNN | SmallCNN | UNet)
        return Taught(merged(teacher) if ours else teacher, recipe, keeps=keeps)

    def _through(
        self, network: nn.Module, stage: Stage, train: Part, validation: Part, augment: Augmentation | None = None
    ) -> list[dict[str, Any]]:
        """A network through a stage; its epochs."""
        return Fitting(
            network, stage, train, validation, seed=self.number,
            augment=augment or Augmentation(self.into.recipe.data.augment),
            state=self.folder / STATE, fingerprint=self.fingerprint, ranks=self.ranks,
            tell=self._told, each_epoch=self._record,
        ).run()  # fmt: skip

    def _fit(self, name: str, network: nn.Module, stage: Stage) -> None:
        augment = Augmentation(self.into.recipe.data.augment)
        if name in (TEACHER, ALONE):  # whose losses take labels
            augment = augment.without_mixup()
        self._keep(name, network, self._through(network, stage, self.data.train, self.data.validation, augment))

    def _keep(self, name: str, network: nn.Module, history: list[dict[str, Any]]) -> None:
        """The network as it was best on validation, and what it does on pictures that nothing was chosen by."""
        amp = self.into.recipe.train.amp
        figures = {
            "validation": measured(network, self.data.validation, amp=amp),
            "test": measured(network, self.data.test, amp=amp),
            "epochs": len(history),
        }
        figures["function"] = function_of(network)
        if self.ranks.is_first:
            told, beside = {"figures": json.dumps(figures), "history": json.dumps(history)}, ""
            if isinstance(network, SCLC):
                share = network.front.energy_in_guard(self.data.some(_FEW, seed=0).to(self.device))
                beside = f"; {100 * share:.1f} % of the responses' energy lies on the guard"
                plan = network.front.chain
                told["chain"] = json.dumps([plan.channels, plan.kernels, plan.crops, plan.grid])
            save_tensors(self.folder / f"{name}.safetensors", network.state_dict(), told)
            write_metrics(self.folder)
            log(self.into.folder, f"seed {self.number} {name}: {_words(figures)}{beside}")
        self.ranks.wait()

    def _record(self, history: list[dict[str, Any]]) -> None:
        """Each epoch of all stages once, readable while it goes on."""
        if not self.ranks.is_first:
            return
        write_metrics(self.folder, history)
        if self.into.recipe.train.tensorboard:
            to_tensorboard(self.folder, history[-1])

    def _tell_of_given(self, network: nn.Module) -> None:
        """What it is worth, and what it says: what its numbers and name do not tell of it, that does."""
        said = _said_by(network, self.data.some(8, seed=0)).double().flatten()
        said = said[:: max(1, len(said) // 512)]
        path = self.folder / GIVEN
        before = json.loads(path.read_text(encoding="utf-8")).get("says") if path.is_file() else None
        near = 1e-2 * float(said.abs().max())
        is_other = before is not None and not torch.allclose(said, said.new_tensor(before), 1e-2, near)
        if self.ranks.agree(is_other):
            mend = "the teacher that it began with, or another --out"
            raise InputError("is a run of a teacher who says otherwise", where=str(self.into.folder), mend=mend)
        figures = {"validation": measured(network, self.data.validation), "test": measured(network, self.data.test)}
        if self.ranks.is_first:
            write_whole(path, json.dumps(figures | {"says": said.tolist()}).encode())


def _labelled(smoothing: float, scores: Tensor, pictures: Tensor, targets: Tensor) -> Tensor:
    return hard_loss(scores, targets, smoothing)


def _recipe(given: Recipe | str | Path | Mapping[str, Any], changes: Mapping[str, Any] | None) -> Recipe:
    if isinstance(given, Recipe):
        return Recipe.from_dict(given.to_dict(), changes) if changes else given
    return Recipe.from_dict(given, changes) if isinstance(given, Mapping) else Recipe.load(given, changes)


def _data(recipe: Recipe, given: Data | tuple[Any, ...] | None) -> Data:
    if isinstance(given, Data):
        return given
    if given is not None:
        return pictures_in.from_datasets(*given)
    return pictures_in.of_section(recipe.data)


def _check_student(recipe: Recipe, data: Data, given: nn.Module | None) -> None:
    """What cannot be built, or no bench can carry, is refused before anything is trained."""
    if given is None and recipe.has_teacher:
        with torch.device("meta"):  # of no memory
            teacher_of(recipe, data)
    _check_loss(recipe, data, given)
    teacher = likened_to(recipe, data, given)
    student = student_of(recipe, data, teacher, is_new=False)
    for kind in recipe.evaluate.controls:
        control = control_of(kind, recipe, data, teacher, is_new=False)
        if isinstance(control, Affine):
            ridge.check_room(control, _device(recipe.device))
    if not recipe.bench:
        return
    if not isinstance(student, SCLC):
        raise InputError(f"{recipe.student.model!r} has no masks", where="bench", mend='student.model = "sclc"')
    check_bench(recipe, student)


def _check_loss(recipe: Recipe, data: Data, given: nn.Module | None) -> None:
    """The loss on scores as the student will have them, and as one's own teacher has."""
    loss = recipe.distill.loss
    if loss == "none":
        return
    pictures, targets = data.train.batch(slice(0, 2))
    student = torch.zeros(len(pictures), len(data.classes), *(data.size if data.is_segmentation else ()))
    teacher = student if given is None else _said_by(given, pictures)
    distillation_loss(student, teacher.to(student), targets, kind=loss)  # type: ignore[arg-type]


def _said_by(given: nn.Module, pictures: Tensor) -> Tensor:
    """What one's own teacher says of pictures, in evaluation mode, wherever it is."""
    was_training = given.training
    of = next((p for p in given.parameters()), torch.zeros(()))
    try:
        with torch.no_grad():
            said: Tensor = given.eval()(pictures.to(of.device)).cpu()
    finally:
        given.train(was_training)
    return said


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        what = f"{name!r} will not do ({' '.join(str(error).split())[:80]})"
        raise InputError(what, where="device", mend='"auto", "cpu" or "cuda"') from None
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def _taught_by(recipe: Recipe, teacher: nn.Module | None) -> str:
    """What tells one's own teacher, or one of a file, from another."""
    digest = hashlib.sha256()
    if teacher is not None:
        digest.update(repr(teacher).encode())
        for name, value in teacher.state_dict().items():
            digest.update(name.encode() + _bytes_of(value))
    elif recipe.teacher.weights:
        for name, value in sorted(load_tensors(recipe.teacher.weights)[0].items()):
            digest.update(name.encode() + _bytes_of(value))
    else:
        return "own"
    return digest.hexdigest()[:12]


def _bytes_of(tensor: Tensor) -> bytes:
    """Of any dtype."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().data)


def _words(figures: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{part} {name} {100 * value:.2f} %" for part in ("validation", "test") for name, value in figures[part].items()
    )
