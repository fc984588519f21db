"""Networks of an earlier run, taken as they are: one training, and its student on as many benches as one likes."""

from __future__ import annotations

from pathlib import Path

from fouroptics.models.training.data import Data
from fouroptics.models.training.folder import ALONE, STUDENT, TEACHER, Run, controls_in
from fouroptics.models.training.recipe import Recipe

from fouroptics.errors import InputError
from fouroptics.tensors import load_tensors, save_tensors

_ALIKE = ("data", "teacher", "student", "train", "distill")
_FREE = {("data", "path"), ("teacher", "weights"), ("student", "optics"), ("train", "tensorboard")}


def check_taken(recipe: Recipe, data: Data) -> Run:
    """The run that a recipe goes on from.

    Raises:
        InputError: its networks are not those that the recipe would train, or are not trained yet.
    """
    run = Run.open(recipe.trained)
    before, now = run.recipe.to_dict(), recipe.to_dict()
    for section in _ALIKE:
        for key in before[section].keys() | now[section].keys():
            one, other = (told[section].get(key) for told in (before, now))
            if one != other and (section, key) not in _FREE:
                what = f"{section}.{key} is {other!r}, and was {one!r} in {recipe.trained}"
                raise InputError(what, where="trained", mend="the same, or a training of its own")
    if run.summary["fingerprint"].split("-", 1)[1].rsplit("-", 1)[0] != data.fingerprint:
        raise InputError(f"{recipe.trained} was trained on other pictures", where="trained", mend="the same --data")
    wanted = STUDENT if recipe.distill.loss != "none" else ALONE
    for seed in recipe.seeds:
        if not (run.seed(seed) / f"{wanted}.safetensors").is_file():
            trained = ", ".join(str(one) for one in run.recipe.seeds if _networks(run, one)) or "none"
            what = f"{recipe.trained} has no {wanted} of seed {seed}"
            raise InputError(what, where="trained", mend=f"let it end, or --seed: {trained}")
    return run


def take(run: Run, seed: int, folder: Path) -> None:
    """Copy what is trained of a seed into the folder of another run's."""
    for path in _networks(run, seed):
        if not (folder / path.name).is_file():
            save_tensors(folder / path.name, *load_tensors(path))


def _networks(run: Run, seed: int) -> list[Path]:
    folder = run.seed(seed)
    paths = [folder / f"{name}.safetensors" for name in (TEACHER, ALONE, STUDENT, *controls_in(folder))]
    return [path for path in paths if path.is_file()]
