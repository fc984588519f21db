"""What a network is worth step by step, from its teacher down to its masks in a file, on one set of pictures."""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fouroptics.models.front import DeepFront, Plan
from fouroptics.models.osclc import OSCLC, responses
from fouroptics.models.readouts import Camera, Reader
from fouroptics.models.sclc import Student, fold
from fouroptics.models.training.data import Part
from fouroptics.models.training.metrics import all_scores
from fouroptics.models.training.recipe import RUNGS
from torch import Tensor, nn

from fouroptics.bench import Bench
from fouroptics.devices.detector import Pattern
from fouroptics.errors import FailedRun
from fouroptics.imperfections import Imperfections, Tolerances

_AT_ONCE = 25  # pictures on a bench: fixed, so that no figure depends on how it was split
Tell = Callable[[str], object]

# What of a bench is switched off, part by part, to see what each costs. Those of masks need masks to be seen.
PARTS: dict[str, dict[str, Any]] = {
    "errors of the lenses": {"aberration.zernike": {}},
    "profile of the beam": {"source.waist": None},
    "steps of the reference": {"reference.phase_step_error": "0 rad", "reference.visibility": "100 %"},
    "crosstalk of the mask": {"mask.crosstalk": "0 um"},
    "flicker of the mask": {"mask.flicker": "0 rad"},
}


@dataclass(frozen=True)
class Subject:
    """What a ladder is made of.

    Args:
        teacher: the network that taught; None leaves its rung out.
        student: as it was trained, without a bench.
        osclc: on its bench, as it is exported.
        pictures: that all rungs see.
        tolerances: of the bench.
        draws: misaligned benches.
        seed: of noise and draws.
        file: the exported masks; None leaves their rung out.
        again: arguments of ``fouroptics evaluate`` that read the same pictures for the file.
    """

    teacher: nn.Module | None
    student: Student
    osclc: OSCLC
    pictures: Part
    tolerances: Tolerances
    draws: int = 32
    seed: int = 0
    file: Path | None = None
    again: tuple[str, ...] = ()


def ladder(subject: Subject, rungs: tuple[str, ...] = RUNGS, tell: Tell = lambda _: None) -> dict[str, Any]:
    """Accuracy of each rung, in order; of misaligned benches the median and the spread of all draws."""
    made: dict[str, Callable[[], dict[str, Any] | None]] = {
        "teacher": lambda: None if subject.teacher is None else _accuracy(subject.teacher, subject.pictures),
        "student": lambda: _accuracy(subject.student, subject.pictures),
        "folded": lambda: _accuracy(fold(subject.student), subject.pictures),
        "guard": lambda: _accuracy(unwrapped(subject.student, subject.osclc.bank.bench), subject.pictures),
        "light": lambda: _on_light(subject),
        "masks": lambda: _unquantized(subject),
        "quantized": lambda: figures(subject.osclc, subject.pictures),
        "noise": lambda: _accuracy(_Noisy(subject.osclc, subject.seed), subject.pictures, _AT_ONCE),
        "misaligned": lambda: _misaligned(subject, tell),
        "file": lambda: None if subject.file is None else _reimported(subject),
    }
    found: dict[str, Any] = {"pictures": len(subject.pictures), "rungs": {}}
    for rung in RUNGS:
        if rung in rungs:
            tell(rung)
            value = made[rung]()
            if value is not None:
                found["rungs"][rung] = value
    return found


def parts(subject: Subject, tell: Tell = lambda _: None) -> dict[str, float]:
    """Accuracy with each part of the bench at fault alone, all others ideal; ``nothing`` is the bench with none."""
    bench = subject.osclc.bank.bench
    off: dict[str, Any] = {}
    for changes in PARTS.values():
        off |= changes
    if bench.reference is None:
        off = {key: value for key, value in off.items() if not key.startswith("reference.")}
    pictures, found = _measured_by(subject), {}
    for name, changes in ({"nothing": {}} | PARTS).items():
        if not set(changes) <= set(off):
            continue
        tell(f"only {name}" if changes else name)
        here = bench.replace({key: value for key, value in off.items() if key not in changes})
        masks = "device" if "mask" in name else "ideal"
        alone = OSCLC.from_student(subject.student, here, pictures, masks=masks, learn="kernels").eval()
        found[name] = _accuracy(alone, subject.pictures, _AT_ONCE)["accuracy"]
        if not changes:
            found["noise of the camera"] = _accuracy(_Noisy(alone, subject.seed), subject.pictures, _AT_ONCE)[
                "accuracy"
            ]
    return found


def figures(network: nn.Module, pictures: Part) -> dict[str, Any]:
    """Accuracy of a network on a bench, and a digest of all its scores: the same bits give the same one."""
    scores = all_scores(network, pictures, chunk=_AT_ONCE)
    digest = hashlib.sha256(scores.contiguous().numpy().tobytes()).hexdigest()
    return {"accuracy": _right(scores, pictures), "scores_sha256": digest}


def unwrapped(student: Student, bench: Bench) -> Student:
    """The student with responses as a bench has them: they end where its dark border ends, and nothing wraps."""
    front, reader = student.front, student.reader
    taps = responses(front, bench)
    plan = Plan.of(front.plan.size, (taps.shape[1], taps.shape[0]), [(taps.shape[-2], taps.shape[-1])], [None])
    alone = DeepFront(plan, is_complex=front.is_complex)
    with torch.no_grad():
        alone.weights[0].copy_(torch.view_as_real(taps) if front.is_complex else taps)
    old = reader.camera
    grain = None
    if old.grain is not None:
        rows, columns = (g * new[1] / was[1] for g, new, was in zip(old.grain, plan.area, old.area, strict=True))
        grain = rows, columns
    camera = Camera(alone.geometry.kept, alone.geometry.fine, old.pixels, plan.area, grain)
    again = Reader(reader.kind, reader.compand, camera, reader.pool, reader.outputs, reference=reader.reference)
    again.load_state_dict(reader.state_dict())
    return Student(alone.to(taps.device, taps.real.dtype), again.to(taps.device), student.backend).eval()


class _Noisy(nn.Module):
    """One noisy capture of each picture, by one camera; noise follows from the seed and the pictures' order."""

    def __init__(self, osclc: OSCLC, seed: int, errors: Imperfections | None = None) -> None:
        super().__init__()
        self.osclc, self.errors = osclc, errors
        device = osclc.level.device
        self.generator = torch.Generator(device).manual_seed(seed)
        like = osclc.level.new_empty(0)
        self.pattern = Pattern.draw(osclc.bank.readings, like, torch.Generator(device).manual_seed(seed + 1))

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.osclc(
            pictures, errors=self.errors, noisy=True, generator=self.generator, pattern=self.pattern
        )
        return found


def _accuracy(network: nn.Module, pictures: Part, chunk: int = 250) -> dict[str, Any]:
    return {"accuracy": _right(all_scores(network, pictures, chunk=chunk), pictures)}


def _right(scores: Tensor, pictures: Part) -> float:
    return float((scores.argmax(1) == pictures.targets.to(scores.device)).double().mean())


def _measured_by(subject: Subject) -> Tensor:
    """Pictures that another bench's exposure and levels are fixed by."""
    return subject.pictures.batch(slice(0, 64))[0]


def _on_light(subject: Subject) -> dict[str, Any]:
    """Ideal masks on the bench: its beam, its lenses' errors, its camera's pixels."""
    bench = subject.osclc.bank.bench
    ideal = OSCLC.from_student(subject.student, bench, _measured_by(subject), masks="ideal").eval()
    return _accuracy(ideal, subject.pictures, _AT_ONCE)


def _unquantized(subject: Subject) -> dict[str, Any]:
    """The device's masks before their levels are chosen."""
    device = subject.osclc.bank.device
    assert device is not None
    before = device.quantize
    with _hooked_off(subject.osclc, device):
        device.quantize = "none"
        found = _accuracy(_AsItIs(subject.osclc), subject.pictures, _AT_ONCE)
    device.quantize = before
    return found


class _AsItIs(nn.Module):
    """A network that stays in the mode it is in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = (network,)  # hidden from train() and eval()

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self._network[0](pictures)
        return found


@contextmanager
def _hooked_off(osclc: OSCLC, device: nn.Module) -> Iterator[None]:
    """All in evaluation but the masks, which choose levels hard there."""
    osclc.eval()
    device.train(True)
    try:
        yield
    finally:
        device.train(False)


def _misaligned(subject: Subject, tell: Tell) -> dict[str, Any]:
    """Draws of the bench, each with its own noise; nothing is turned after assembly."""
    bank = subject.osclc.bank
    generator = torch.Generator().manual_seed(subject.seed)
    drawn = subject.tolerances.draw(bank.bench, subject.draws, generator, bank.channels)
    found = []
    for i in range(subject.draws):
        network = _Noisy(subject.osclc, subject.seed + i, drawn.at(i))
        found.append(_accuracy(network, subject.pictures, _AT_ONCE)["accuracy"])
        tell(f"misaligned, draw {i + 1} of {subject.draws}")
    if not found:
        return {}
    ends = statistics.quantiles(found, n=4) if len(found) > 1 else [found[0]] * 3
    return {
        "accuracy": statistics.median(found), "quartiles": [ends[0], ends[2]],
        "least": min(found), "greatest": max(found), "draws": found,
    }  # fmt: skip


def _reimported(subject: Subject) -> dict[str, Any]:
    """What a process of its own makes of the file, and of nothing else of this one."""
    command = [sys.executable, "-m", "fouroptics", "evaluate", str(subject.file), "--json", *subject.again]
    command += ["--pictures", str(len(subject.pictures)), "--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FailedRun(f"the exported file could not be evaluated: {done.stdout or done.stderr}"[:400])
    told = json.loads(done.stdout)[str(subject.file)]
    return {name: told[name] for name in ("accuracy", "scores_sha256")}


def table(found: Mapping[str, Any]) -> str:
    """Rungs as lines, each with what it loses to the one above."""
    lines, above = [], None
    for rung, value in found["rungs"].items():
        here = 100 * value["accuracy"]
        lost = "" if above is None else f"{here - above:+7.2f}"
        spread = ""
        if "quartiles" in value:
            low, high = (100 * one for one in value["quartiles"])
            spread = f"  median of {len(value['draws'])} draws, half of them {low:.1f} … {high:.1f}"
        lines.append(f"{rung:<12}{here:7.2f} %{lost:>9}{spread}")
        above = here
    return "\n".join([*lines, f"{found['pictures']} pictures that nothing was chosen by"])
