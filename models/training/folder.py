"""A run's folder: what stands where in it, begun once, and told while it goes on."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fouroptics.models.training.data import Data
from fouroptics.models.training.recipe import Recipe

import fouroptics
from fouroptics.bench import Bench
from fouroptics.errors import InputError, warn
from fouroptics.files import MARKER, PROGRAM, unwritable, write_whole
from fouroptics.imperfections import Tolerances
from fouroptics.tensors import load_tensors

STATE = "state.safetensors"
KNOWN = "known.txt"  # marks of all pictures that were trained on or chosen by
TEACHER, STUDENT, ALONE = "teacher", "student", "student-alone"
CONTROL, STAGE = "control-", "stage-"  # names of networks begin with these


@dataclass(frozen=True)
class Run:
    """A folder that a training made, or is making."""

    folder: Path
    recipe: Recipe

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """A run's folder.

        Raises:
            InputError: it is none.
        """
        folder = Path(folder)
        if not (folder / "recipe.toml").is_file() or not is_ours(folder):
            raise InputError("is no run", where=str(folder), mend="give the folder that `fouroptics train` wrote")
        return cls(folder, Recipe.load(folder / "recipe.toml"))

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / MARKER).read_text(encoding="utf-8"))
        return found

    def seed(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}"


def begin(folder: Path, recipe: Recipe, data: Data, taught_by: str) -> None:
    """Make a run of an empty folder, or go on in that of the same recipe; all else is somebody's. Seeds only join."""
    fingerprint = f"{recipe.fingerprint()}-{data.fingerprint}-{taught_by}"
    if folder.exists() and any(not _is_left_over(entry) for entry in folder.iterdir()):
        if not is_ours(folder):
            raise InputError("exists and is no run of fouroptics", where=str(folder), mend="give --out another name")
        before = json.loads((folder / MARKER).read_text(encoding="utf-8")).get("fingerprint")
        if before != fingerprint:
            mend = "give --out another name, or the recipe, pictures and teacher that it began with"
            raise InputError("is a run of another recipe, of other pictures or teacher", where=str(folder), mend=mend)
        earlier = Recipe.load(folder / "recipe.toml").seeds if (folder / "recipe.toml").is_file() else ()
        seeds = (*earlier, *(seed for seed in recipe.seeds if seed not in earlier))
        recipe = recipe.model_copy(update={"seeds": seeds})
    about = {
        "program": PROGRAM, "kind": "run", "name": recipe.name, "fingerprint": fingerprint,
        "data": {
            "classes": list(data.classes), "size": list(data.size), "channels": data.channels,
            "pixels": data.is_segmentation, "train": len(data.train), "validation": len(data.validation),
            "test": len(data.test), "skipped": len(data.skipped), "reported": data.reported,
        },
    }  # fmt: skip
    if not (folder / MARKER).is_file():
        write_whole(folder / MARKER, json.dumps(about, indent=1).encode())
        _tell_of_skipped(folder, data.skipped)
    if not (folder / KNOWN).is_file():
        write_whole(folder / KNOWN, data.known().encode())
    if recipe.bench:
        Bench.load(recipe.bench).standing_alone().save(folder / "bench.toml")
        recipe = _with_tolerances(folder, recipe.model_copy(update={"bench": "bench.toml"}))
    recipe.save(folder / "recipe.toml")
    environment = {
        "fouroptics": fouroptics.__version__, "python": sys.version.split()[0], "torch": str(torch.__version__),
        "machine": platform.platform(), "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(), "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }  # fmt: skip
    _keep_environment(folder / "environment.json", environment)


def _tell_of_skipped(folder: Path, skipped: tuple[str, ...]) -> None:
    """Once, and all of them by name in the log."""
    if skipped:
        what = f"{len(skipped)} pictures could not be read and are left out"
        log(folder, f"{what}: {', '.join(skipped)}")
        warn(f"{what}: {skipped[0]}{', …' if len(skipped) > 1 else ''}; {folder / 'log.txt'} names them all")


def _keep_environment(path: Path, now: dict[str, Any]) -> None:
    """What a run began in; what goes on in another ends otherwise in the last digits, and says so."""
    if not path.is_file():
        write_whole(path, json.dumps(now, indent=1).encode())
        return
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        before = {}
        write_whole(path, json.dumps(now, indent=1).encode())
    other = [f"{key} {now[key]} for {before[key]}" for key in now if key in before and now[key] != before[key]]
    if other:
        warn(f"{path.parent} goes on with {', '.join(other)}: it ends otherwise than it would have, in rounding")


def _is_left_over(entry: Path) -> bool:
    """Whether a file is a first save that was ended in the middle."""
    return entry.name.startswith(f".{MARKER}-")


def _with_tolerances(folder: Path, recipe: Recipe) -> Recipe:
    """The recipe with its tolerances in files beside it, so that the folder stands alone."""
    sources = dict.fromkeys(filter(None, (recipe.evaluate.tolerances, *(stage.tolerances for stage in recipe.stage))))
    names = {source: f"tolerances{f'-{number}' if number else ''}.toml" for number, source in enumerate(sources)}
    loaded = {name: Tolerances.load(source) for source, name in names.items()}
    for name, tolerances in loaded.items():
        tolerances.save(folder / name)
    stages = [one.model_copy(update={"tolerances": names.get(one.tolerances, "")}) for one in recipe.stage]
    evaluated = recipe.evaluate.model_copy(update={"tolerances": names.get(recipe.evaluate.tolerances, "")})
    return recipe.model_copy(update={"stage": tuple(stages), "evaluate": evaluated})


def write_metrics(folder: Path, history: list[dict[str, Any]] | None = None) -> None:
    """All epochs of all stages, each once: as the files of finished ones tell them, and of the one that goes on."""
    rows: list[dict[str, Any]] = []
    stages = sorted((path.stem for path in folder.glob(f"{STAGE}*.safetensors")), key=lambda name: int(name[6:]))
    for name in (TEACHER, ALONE, STUDENT, *controls_in(folder), *stages):
        path = folder / f"{name}.safetensors"
        if path.is_file():
            rows += json.loads(load_tensors(path)[1].get("history", "[]"))
    rows += history or []
    write_whole(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def tensorboard_writer() -> Any:
    """What writes events, if it is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        mend = 'pip install "fouroptics[tensorboard]", or train.tensorboard = false'
        raise InputError("tensorboard is not installed", where="train.tensorboard", mend=mend) from None
    return SummaryWriter


def to_tensorboard(folder: Path, row: Mapping[str, Any]) -> None:
    with tensorboard_writer()(str(folder / "tensorboard")) as writer:
        for name, value in row.items():
            if isinstance(value, float):
                writer.add_scalar(f"{row['stage']}/{name}", value, row["epoch"])


def is_ours(folder: Path) -> bool:
    """Whether a folder is a run's."""
    try:
        told = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return bool(told.get("program") == PROGRAM and told.get("kind") == "run")
    except (OSError, ValueError, AttributeError):
        return False


def make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made ({error.strerror})", where=str(folder), mend="give --out another") from None


def log(folder: Path, line: str) -> None:
    path = folder / "log.txt"
    try:
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line + "\n")
    except OSError as error:
        raise unwritable(path, error) from None


def controls_in(folder: Path) -> list[str]:
    """Names of the networks of a seed that its student is compared with."""
    return sorted(path.stem for path in folder.glob(f"{CONTROL}*.safetensors"))
