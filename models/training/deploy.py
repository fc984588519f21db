"""A seed's student on the recipe's bench: fine-tuned stage by stage, exported, and measured rung by rung."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from fouroptics.models.osclc import OSCLC
from fouroptics.models.sclc import Student
from fouroptics.models.teachers import load_weights
from fouroptics.models.training import data as pictures_in
from fouroptics.models.training import ladder as rungs_of
from fouroptics.models.training.alone import alone
from fouroptics.models.training.data import Data, Part
from fouroptics.models.training.folder import CONTROL, STAGE
from fouroptics.models.training.ladder_figure import png
from fouroptics.models.training.loop import Loss, Stage, Tell
from fouroptics.models.training.metrics import measured
from fouroptics.models.training.networks import control_of
from fouroptics.models.training.recipe import RUNGS, EvaluateSection, Recipe, StageSection
from fouroptics.models.training.stages import MEASURED, Flawed, few, in_light, in_noise, on_bench, prepare, stage_of
from torch import Tensor, nn

from fouroptics import toml
from fouroptics.errors import InputError
from fouroptics.files import write_whole
from fouroptics.imperfections import Tolerances
from fouroptics.masks import MaskSet
from fouroptics.tensors import save_tensors

MASKS, LADDER, BEGUN = "masks.h5", "ladder.json", "ladder-begun.json"
_IN_FILE = ("pictures", "rungs", "without_stages", "controls", "parts", "budget")  # of a ladder
UNTUNED = ("quantized", "noise", "misaligned")  # rungs that are also measured without the stages
Fit = Callable[[nn.Module, Stage, Part, Part], list[dict[str, Any]]]


@dataclass(frozen=True)
class Deployment:
    """What is needed to bring one seed's student to its bench.

    Args:
        recipe: of the run.
        folder: of the seed.
        data: the pictures.
        student: as it was trained.
        teacher: the network that taught, if there is one.
        loss: of the stages.
        fit: trains a network through a stage.
        number: the seed.
        writes: whether this process writes.
        is_given: pictures came from a program, and no other process can read them.
        tell: is told what is measured, how far it is and of how much.
    """

    recipe: Recipe
    folder: Path
    data: Data
    student: Student
    teacher: nn.Module | None
    loss: Loss
    fit: Fit
    number: int
    writes: bool = True
    is_given: bool = False
    tell: Tell = lambda *_: None

    def run(self) -> None:
        """All stages that are not done yet, the masks, the ladder."""
        if (self.folder / LADDER).is_file():
            self._check_whole()
            return
        begun = self.folder / BEGUN
        network = self._tuned()
        if self.writes:
            found = self._measured(network.eval())
            write_whole(self.folder / LADDER, json.dumps(found, indent=1).encode())
            if found["rungs"]:
                write_whole(self.folder / "ladder.png", png(found, self.recipe.name))
            begun.unlink(missing_ok=True)

    def _check_whole(self) -> None:
        """Refuse a folder that tells of files which are not there any more."""
        due = [f"{STAGE}{number}.safetensors" for number in range(len(self.recipe.stage))]
        due += [MASKS] if read_ladder(self.folder / LADDER).get("exported") else []
        gone = [name for name in due if not (self.folder / name).is_file()]
        if gone:
            mend = f"copy the run whole, or remove {LADDER}, and the same command makes them again"
            raise InputError(f"{', '.join(gone)} is gone, of which {LADDER} tells", where=str(self.folder), mend=mend)
        if MASKS in due:
            MaskSet.load(self.folder / MASKS)  # which names a file that was cut

    def _tuned(self) -> OSCLC:
        """Through all stages: the student's own, those in light that no mask shaped, and then those on the bench."""
        student = self.student
        for number, section in self._stages("student"):
            student = in_noise(student, section, self.recipe, self.data)
            self._through(number, section, student, self.data.validation)
            student.noise = None
        if self._stages("light"):
            network = self._staged("light", in_light(self.recipe, student, self.data))
            student = alone(network, student.front, self._known())
        return self._staged("bench", on_bench(self.recipe, student, self.data))

    def _stages(self, place: str) -> list[tuple[int, StageSection]]:
        return [(number, section) for number, section in enumerate(self.recipe.stage) if section.on == place]

    def _staged(self, place: str, network: OSCLC) -> OSCLC:
        """A network through all stages of a place."""
        some = few(self.data.validation, self.recipe.evaluate.pictures)
        for number, section in self._stages(place):
            self._through(number, section, prepare(network, section, self.data), some)
        return network

    def _known(self) -> Tensor:
        """Training pictures, by which networks on a bench are measured."""
        return self.data.some(MEASURED, seed=0).to(self.student.reader.mean.device)

    def _through(self, number: int, section: StageSection, network: Student | Flawed, validation: Part) -> None:
        """A network through one stage, or as it was kept behind it."""
        name = f"{STAGE}{number}"
        kept = self.folder / f"{name}.safetensors"
        if kept.is_file():
            load_weights(network, kept)
            return
        behind = [path for path in self.folder.glob(f"{STAGE}*") if int(path.stem.removeprefix(STAGE)) > number]
        if behind and self.writes:
            mend = f"copy the run whole, or remove {', '.join(sorted(path.name for path in behind))}"
            what = f"{name}.safetensors is gone, and others are behind it"
            raise InputError(what, where=str(self.folder), mend=mend)
        stage = stage_of(self.recipe, section, network, self.loss, f"{name}: {section.name}")
        history = self.fit(network, stage, few(self.data.train, section.pictures), validation)
        if self.writes:
            save_tensors(kept, network.state_dict(), {"history": json.dumps(history)})

    def _measured(self, network: OSCLC) -> dict[str, Any]:
        section, path = self.recipe.evaluate, self.folder / MASKS
        pictures, is_exported = few(self.data.test, section.pictures), network.bank.device is not None
        subject = rungs_of.Subject(
            self.teacher, self.student, network, pictures, Tolerances.load(section.tolerances),
            self._known(),
            draws=section.draws, seed=self.number, file=path, again=self._again(),
            keep=Begun(self.folder / BEGUN, network).keep,
        )  # fmt: skip
        if is_exported:  # now, so that what the format refuses is not found behind an hour of measuring
            self._mask_set(network, {"pictures": 0, "rungs": {}}).save(path)
        wanted = RUNGS if section.rungs == "all" else section.rungs
        if self._learns_pixels:  # there are no kernels any more that these could be of
            wanted = tuple(rung for rung in wanted if rung not in ("tuned", "light"))
        again = tuple(rung for rung in wanted if rung in UNTUNED) if self.recipe.stage else ()
        tell = self._counting([*wanted, *again])
        found = rungs_of.ladder(subject, tuple(rung for rung in wanted if rung != "file"), tell)
        found["reported"], found["exported"] = self.data.reported, is_exported
        found["controls"] = {kind: measured(self._control(kind), pictures) for kind in self.recipe.evaluate.controls}
        if again:  # the same draws and noise, on masks and electronics as they came
            untuned = on_bench(self.recipe, self.student, self.data).eval()
            before = replace(subject, osclc=untuned, keep=Begun(self.folder / BEGUN, untuned).keep)
            found["without_stages"] = rungs_of.ladder(before, again, tell)["rungs"]
        if section.rungs == "all" and not self._learns_pixels:
            found["parts"] = rungs_of.parts(subject, tell)
        found["budget"] = network.budget(pictures.batch(slice(0, 64))[0])
        if is_exported:
            self._mask_set(network, found).save(path)
        if "file" in wanted and is_exported and not self.is_given:
            found["rungs"] |= rungs_of.ladder(subject, ("file",), tell)["rungs"]
        return found

    def _control(self, kind: str) -> nn.Module:
        """A network that the student is compared with, as it was trained."""
        control = control_of(kind, self.recipe, self.data, self.teacher, is_new=False)
        load_weights(control, self.folder / f"{CONTROL}{kind}.safetensors")
        return control.to(self.student.reader.mean.device).eval()

    def _counting(self, rungs: list[str]) -> Callable[[str], None]:
        """Counts what a ladder says that it does; parts, which come last, are not foreseen."""
        steps, done = len(rungs) + rungs.count("misaligned") * self.recipe.evaluate.draws, itertools.count()

        def tell(step: str) -> None:
            count = next(done)
            self.tell(step, count, max(steps, count + 1))

        return tell

    def _mask_set(self, network: OSCLC, found: dict[str, Any]) -> MaskSet:
        """For the file; levels are chosen on the processor, as by whoever reads it: another device rounds otherwise."""
        recipe = self.recipe.to_dict()
        recipe["data"]["path"] = recipe["teacher"]["weights"] = recipe["bench"] = recipe["trained"] = ""
        recipe["stage"], recipe["oversample"], recipe["correct_aberration"] = [], 1, False
        recipe["evaluate"]["tolerances"] = EvaluateSection().tolerances
        device = network.level.device
        masks = network.cpu().mask_set(
            title=self.recipe.name, classes=self.data.classes,
            results={"seed": self.number} | {key: found[key] for key in _IN_FILE if key in found},
            provenance={
                "recipe": toml.text(recipe), "pictures": self.data.fingerprint,
                "known": self.data.known(pictures_in.SAMPLED),
            },
        )  # fmt: skip
        network.to(device)
        return masks

    @property
    def _learns_pixels(self) -> bool:
        return any("masks" in section.learn for section in self.recipe.stage)

    def _again(self) -> tuple[str, ...]:
        return ("--data", self.recipe.data.path) if self.recipe.data.path else ()


def read_ladder(path: Path) -> dict[str, Any]:
    """A ladder that a run has measured."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and "rungs" in found:
            return found
    except (OSError, ValueError):
        pass
    raise InputError("is no ladder", where=str(path), mend="remove it, and the same command measures it again")


class Begun:
    """What is measured already of a network, in a file, for a run that is stopped and goes on.

    Args:
        path: of the file, which holds several networks' figures.
        network: whose tensors are the key.
    """

    def __init__(self, path: Path, network: nn.Module) -> None:
        digest = hashlib.sha256()
        for tensor in network.state_dict().values():
            digest.update(tensor.detach().cpu().reshape(-1).numpy().data)
        self.path, self.key = path, digest.hexdigest()

    def keep(self, name: str, measure: Callable[[], Any]) -> Any:
        """A figure by its name: as it was found, or found now."""
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        mine = known.setdefault(self.key, {})
        if name not in mine:
            mine[name] = measure()
            write_whole(self.path, json.dumps(known).encode())
        return mine[name]


def evaluate_file(path: Path, data: Path | None, pictures: int = 0) -> dict[str, Any]:
    """What a file's network is worth, from the file and pictures alone.

    Args:
        path: of the masks.
        data: folder of the pictures; None for those that are made, not read.
        pictures: so many of them; 0 takes all.

    Raises:
        InputError: it holds no network, or its pictures cannot be told.
    """
    masks = MaskSet.load(path)
    network = OSCLC.from_maskset(masks)
    if "recipe" not in masks.provenance:
        raise InputError("does not say what pictures it reads", where=str(path), mend="one that a run exported")
    place = f"{path}: /entry/provenance: recipe"
    recipe = Recipe.from_dict(toml.parse(masks.provenance["recipe"], place), place=place)
    if data is None and recipe.data.reader != "shapes":
        raise InputError("no pictures", where=str(path), mend="--data FOLDER")
    classes = masks.network["electronics"]["classes"]
    pictures_of, known = (masks.provenance.get(name, "") for name in ("pictures", "known"))
    test = pictures_in.for_evaluation(recipe.data, data, pictures_of, classes, known).test
    some = few(test, pictures)
    with torch.no_grad():
        return rungs_of.figures(network, some) | {"pictures": len(some), "name": masks.title}
