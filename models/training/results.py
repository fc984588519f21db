"""What the networks of a run are worth: loaded, measured, summed up over its seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from fouroptics.models.sclc import SCLC
from fouroptics.models.teachers import load_weights
from fouroptics.models.training import data as pictures_in
from fouroptics.models.training.data import Data
from fouroptics.models.training.deploy import LADDER, read_ladder
from fouroptics.models.training.folder import ALONE, CONTROL, KNOWN, STUDENT, TEACHER, Run, controls_in
from fouroptics.models.training.metrics import main_of, measured
from fouroptics.models.training.networks import control_of, likened_to, sclc_of, student_of, teacher_of
from torch import nn

from fouroptics.errors import InputError
from fouroptics.files import MARKER, read_text, write_whole
from fouroptics.tensors import load_tensors


def load(run: Run | str | Path, seed: int | None = None, name: str = STUDENT) -> Any:
    """A student of a run, of its first seed unless another is named: an ``SCLC``, or what stands in its place."""
    run = run if isinstance(run, Run) else Run.open(run)
    path = run.seed(run.recipe.seeds[0] if seed is None else seed) / f"{name}.safetensors"
    tensors, told = load_tensors(path)
    recipe, empty = run.recipe, _like(run.summary["data"])
    if name.startswith(CONTROL):
        student: nn.Module = control_of(name.removeprefix(CONTROL), recipe, empty, is_new=False)
    elif "chain" in told:  # as it was made, whoever its teacher was
        channels, kernels, crops, grid = json.loads(told["chain"])
        guard = [n - side for n, side in zip(grid, empty.size, strict=True)]
        student = sclc_of(recipe, empty, channels, kernels, crops, guard)
    else:
        student = student_of(recipe, empty, likened_to(recipe, empty), is_new=False)
    try:
        student.load_state_dict(tensors)
    except RuntimeError:
        what = "is of another network than the recipe's"
        raise InputError(what, where=str(path), mend="one that is like a teacher of one's own needs that") from None
    return student.eval()


def evaluate(run: Run | str | Path, data: Data | None = None) -> dict[str, dict[int, dict[str, float]]]:
    """Figures of every network of a run, by name and seed: as they were kept, or on other pictures."""
    run = run if isinstance(run, Run) else Run.open(run)
    found: dict[str, dict[int, dict[str, float]]] = {}
    for seed in run.recipe.seeds:
        for name in (TEACHER, ALONE, STUDENT, *controls_in(run.seed(seed))):
            path = run.seed(seed) / f"{name}.safetensors"
            if not path.is_file() or _is_another_s(path):
                continue
            if data is None:
                found.setdefault(name, {})[seed] = _figures_of(path)
            else:
                network = load_weights(teacher_of(run.recipe, data), path) if name == TEACHER else load(run, seed, name)
                found.setdefault(name, {})[seed] = measured(network.eval(), data.test)
    if not found:
        raise InputError("has no trained network yet", where=str(run.folder), mend="let the run end")
    return found


def _is_another_s(path: Path) -> bool:
    """Whether a network is a copy of another seed's: a teacher that taught all was trained once, and has no spread."""
    return "taken_from" in load_tensors(path)[1]


def _figures_of(path: Path) -> dict[str, float]:
    """What a network that was kept is worth on the pictures to report on."""
    told = load_tensors(path)[1]
    try:
        found: dict[str, float] = json.loads(told["figures"])["test"]
    except (KeyError, ValueError, TypeError):
        mend = "copy the run whole, or remove it and all that was made of it, and the same command makes them again"
        raise InputError("was not written by a training", where=str(path), mend=mend) from None
    return found


def figures_on(run: Run, path: Path) -> dict[str, Any]:
    """Mean and spread over a run's seeds on the pictures of another folder, all of them."""
    told = run.summary
    own = told["fingerprint"].split("-")[1]  # without the split's seed
    known = read_text(run.folder / KNOWN) if (run.folder / KNOWN).is_file() else ""
    every = pictures_in.for_evaluation(run.recipe.data, path, own, told["data"]["classes"], known)
    return _results(evaluate(run, every))


def _results(found: Mapping[str, Mapping[int, Mapping[str, float]]]) -> dict[str, Any]:
    """Mean and spread over the seeds, by network and figure."""
    return {
        name: {
            metric: _spread([figures[metric] for figures in by_seed.values()])
            for metric in next(iter(by_seed.values()))
        }
        | {"seeds": list(by_seed)}
        for name, by_seed in found.items()
    }


def summarise(run: Run) -> None:
    """Mean and spread over the seeds that are done."""
    summary = run.summary
    found = evaluate(run)
    summary["results"] = _results(found)
    with suppress(InputError):
        student = load(run, name=STUDENT if STUDENT in found else ALONE)
        summary["function"] = function_of(student)
    ladders = [read_ladder(p) for seed in run.recipe.seeds if (p := run.seed(seed) / LADDER).is_file()]
    for key, told in (("rungs", "ladder"), ("without_stages", "without_stages")):
        seen = [one.get(key, {}) for one in ladders]
        rungs = [rung for rung in (seen[0] if seen else {}) if all(rung in one for one in seen)]
        if rungs:
            summary[told] = {rung: _spread([main_of(one[rung]) for one in seen]) for rung in rungs}
    if ladders and "budget" in ladders[0]:
        summary["budget"] = ladders[0]["budget"]
    write_whole(run.folder / MARKER, json.dumps(summary, indent=1).encode())


def function_of(network: nn.Module) -> str:
    return network.summary().function if isinstance(network, SCLC) else type(network).__name__


def _spread(values: list[float]) -> dict[str, float | None]:
    """Of one seed there is no spread."""
    return {"mean": statistics.mean(values), "std": statistics.stdev(values) if len(values) > 1 else None}


def _like(about: Mapping[str, Any]) -> Data:
    """Pictures of a run's sizes, all dark: what its networks are built for."""
    size, count = tuple(about["size"]), 4
    shape = (count, *size) if about["pixels"] else (count,)
    part = pictures_in.Part(torch.zeros(count, about["channels"], *size, dtype=torch.uint8), torch.zeros(shape).long())
    return Data(part, part, part, tuple(about["classes"]), reported=about.get("reported", "test"))
