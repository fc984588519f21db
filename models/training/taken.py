"""Networks of an earlier run, taken as they are: one training, and its student on as many benches as one likes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fouroptics.models.sclc import SCLC
from fouroptics.models.training.data import Data
from fouroptics.models.training.folder import ALONE, CONTROL, STUDENT, TEACHER, Run, is_ours
from fouroptics.models.training.networks import likened_to, student_of
from fouroptics.models.training.recipe import Recipe
from torch import nn

from fouroptics.errors import InputError
from fouroptics.tensors import load_tensors, save_tensors

_ALIKE = ("data", "teacher", "student", "train", "distill")
_FREE = {("data", "path"), ("teacher", "weights"), ("student", "optics"), ("train", "tensorboard")}


def source_of(
    recipe: Recipe, data: Data, taught_by: str, teacher: nn.Module | None, out: Path
) -> tuple[Run | None, str]:
    """The run whose networks a recipe takes, and what tells them from others.

    There is none where the recipe takes none, or where all are in their new place already.

    Args:
        recipe: the recipe.
        data: its pictures.
        taught_by: what tells its teacher from others; of a recipe's own teacher that has yet to be trained, ``own``.
        teacher: a program's own, if there is one.
        out: the new run's folder.

    Raises:
        InputError: its networks are not those that the recipe would train, or are not trained yet.
    """
    if not recipe.trained:
        return None, taught_by
    taken = Run(out, recipe)
    if is_ours(out) and all(_is_whole(recipe, teacher, taken, recipe.seeds)):
        return None, _parts(taken.summary["fingerprint"])[2]
    run = Run.open(recipe.trained)
    _check_alike(recipe, run)
    _, pictures, its_teacher = _parts(run.summary["fingerprint"])
    if pictures != data.fingerprint:
        raise InputError(f"{recipe.trained} was trained on other pictures", where="trained", mend="the same --data")
    if (teacher or recipe.teacher.weights) and its_teacher != taught_by:
        mend = "the same teacher, or teacher.weights left out" if teacher is None else "the same teacher"
        raise InputError(f"{recipe.trained} had another teacher", where="trained", mend=mend)
    there = _is_whole(recipe, teacher, run, recipe.seeds)
    if not all(there):
        seed = recipe.seeds[there.index(False)]
        whole = [str(one) for one in run.recipe.seeds if all(_is_whole(recipe, teacher, run, (one,)))]
        lacks = ", ".join(name for name in _wanted(recipe, teacher) if not _file(run, seed, name).is_file())
        what = f"{recipe.trained} has no {lacks} of seed {seed}"
        mend = f"--seed {', '.join(whole)}" if whole else "let it end; a teacher from a program has to be given again"
        raise InputError(what, where="trained", mend=mend)
    if _reads(recipe, data, teacher) != _reads(run.recipe, data, teacher):
        widths = f"{recipe.camera_pixel} of a sample, and were {run.recipe.camera_pixel} in {recipe.trained}"
        what = f"readings stand otherwise: the camera's pixels are {widths}"
        raise InputError(what, where="trained", mend="a training of its own")
    return run, hashlib.sha256(run.summary["fingerprint"].encode()).hexdigest()[:12]


def take(run: Run, recipe: Recipe, teacher: nn.Module | None, seed: int, folder: Path) -> None:
    """Copy a seed's networks into the folder of another run's."""
    controls = [f"{CONTROL}{kind}" for kind in recipe.evaluate.controls]
    there = [name for name in controls if _file(run, seed, name).is_file()]  # those that are not are trained
    for name in (*there, *_wanted(recipe, teacher)):  # the last of which tells that nothing is left to take
        if not (folder / f"{name}.safetensors").is_file():
            save_tensors(folder / f"{name}.safetensors", *load_tensors(_file(run, seed, name)))


def _check_alike(recipe: Recipe, run: Run) -> None:
    before, now = (json.loads(json.dumps(one.to_dict())) for one in (run.recipe, recipe))
    for section in _ALIKE:
        for key in sorted(before[section].keys() | now[section].keys()):
            one, other = (told[section].get(key) for told in (before, now))
            if one != other and (section, key) not in _FREE:
                what = f"{section}.{key} is {other!r}, and was {one!r} in {recipe.trained}"
                raise InputError(what, where="trained", mend="the same, or a training of its own")


def _wanted(recipe: Recipe, teacher: nn.Module | None) -> list[str]:
    """Names of all networks that the recipe would train, controls aside."""
    taught, own = recipe.distill.loss != "none", teacher is None and (recipe.needs_teacher or recipe.teacher.weights)
    names = [TEACHER] if own or (taught and teacher is None) else []
    names += [ALONE] if recipe.distill.also_without or not taught else []
    return names + ([STUDENT] if taught else [])


def _is_whole(recipe: Recipe, teacher: nn.Module | None, run: Run, seeds: tuple[int, ...]) -> list[bool]:
    """Of each seed, whether a run has all that is wanted."""
    return [all(_file(run, seed, name).is_file() for name in _wanted(recipe, teacher)) for seed in seeds]


def _file(run: Run, seed: int, name: str) -> Path:
    return run.seed(seed) / f"{name}.safetensors"


def _parts(fingerprint: str) -> tuple[str, str, str]:
    """Of a run: its recipe's, its pictures', its teacher's."""
    recipe, rest = fingerprint.split("-", 1)
    pictures, teacher = rest.rsplit("-", 1)
    return recipe, pictures, teacher


def _reads(recipe: Recipe, data: Data, teacher: nn.Module | None) -> Any:
    """Where the student's readings stand."""
    student = student_of(recipe, data, likened_to(recipe, data, teacher), is_new=False)
    return student.reader.key if isinstance(student, SCLC) else None
