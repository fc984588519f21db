"""What a network is worth step by step, from its teacher down to its masks in a file, on one set of pictures."""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fouroptics.models.osclc import OSCLC
from fouroptics.models.reference import with_reference_set
from fouroptics.models.sclc import Student, fold
from fouroptics.models.training.alone import alone, unwrapped
from fouroptics.models.training.data import Part
from fouroptics.models.training.metrics import main_of, measured
from fouroptics.models.training.recipe import RUNGS
from torch import Tensor, nn

from fouroptics.bench import Bench
from fouroptics.correlator.flaws import PIXELS
from fouroptics.devices.detector import Pattern
from fouroptics.errors import FailedRun
from fouroptics.imperfections import Imperfections, Tolerances

_LENSES, _CORRECTED = "errors of the lenses", "errors of the lenses and of the mask"
_STANDS, _NOISE, _DRAWN = "the bench as it stands", "noise of the camera", "drawn errors: "
_FEW = 4  # draws that tell what a section of the tolerances costs
_AT_ONCE = 25  # pictures on a bench: fixed, so that no figure depends on how it was split
Tell = Callable[[str], object]
Keep = Callable[[str, Callable[[], Any]], Any]

# What of a bench is switched off, part by part, to see what each costs. Those of masks need masks to be seen.
PARTS: dict[str, dict[str, Any]] = {
    _LENSES: {"aberration.zernike": {}},
    "profile of the beam": {"source.waist": None},
    "the reference's steps": {"reference.phase_step_error": "0 rad", "reference.visibility": "100 %"},
    "crosstalk of the mask": {"mask.crosstalk": "0 um"},
    "flicker of the mask": {"mask.flicker": "0 rad"},
}
_RARE = {  # of benches that have them
    "wavefront of the mask": ("wavefront", {}),
    "stuck pixels of the mask": ("dead", ""),
    "leak of the mask": ("leak", "0 %"),
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
        known: training pictures, by which other benches are exposed and measured.
        draws: misaligned benches.
        seed: of noise and draws.
        file: the exported masks; None leaves their rung out.
        again: arguments of ``fouroptics evaluate`` that read the same pictures for the file.
        keep: is given a name and what measures it; hands out what was measured before, or measures it and keeps it.
    """

    teacher: nn.Module | None
    student: Student
    osclc: OSCLC
    pictures: Part
    tolerances: Tolerances
    known: Tensor
    draws: int = 32
    seed: int = 0
    file: Path | None = None
    again: tuple[str, ...] = ()
    keep: Keep = lambda _, measure: measure()


def ladder(subject: Subject, rungs: tuple[str, ...] = RUNGS, tell: Tell = lambda _: None) -> dict[str, Any]:
    """Figures of each rung, in order, the one to choose by first; of misaligned benches its median and all draws."""
    made: dict[str, Callable[[], dict[str, Any] | None]] = {
        "teacher": lambda: None if subject.teacher is None else measured(subject.teacher, subject.pictures),
        "student": lambda: measured(subject.student, subject.pictures),
        "folded": lambda: measured(fold(subject.student), subject.pictures),
        "guard": lambda: _guarded(subject),
        "tuned": lambda: measured(_tuned(subject), subject.pictures),
        "light": lambda: _on_bench(_on(subject, subject.osclc.bank.bench, "ideal"), subject.pictures),
        "masks": lambda: _unquantized(subject),
        "quantized": lambda: None if subject.osclc.bank.device is None else figures(subject.osclc, subject.pictures),
        "noise": lambda: _captured(subject),
        "misaligned": lambda: _misaligned(subject, tell),
        "file": lambda: None if subject.file is None else _reimported(subject),
    }
    found: dict[str, Any] = {"pictures": len(subject.pictures), "rungs": {}}
    for rung in RUNGS:
        if rung in rungs:
            tell(rung)
            value = subject.keep(rung, made[rung])
            if value is not None:
                found["rungs"][rung] = value
    return found


def parts(subject: Subject, tell: Tell = lambda _: None) -> dict[str, float]:
    """The figure to choose by, with each part of the bench at fault alone, all others as they should be.

    ``nothing`` is the bench with no fault and ideal masks, ``the mask device`` that with its masks; what is of the mask
    comes on top of that. Noise, and what tolerances draw for a section, come on top of ``the bench as it stands``: they
    are of its own light.
    """
    bench = subject.osclc.bank.bench
    faults = {name: changes for name, changes in PARTS.items() if bench.reference or "reference" not in name}
    faults |= {name: {f"mask.{key}": off} for name, (key, off) in _RARE.items() if getattr(bench.mask, key)}
    off = {key: value for changes in faults.values() for key, value in changes.items()}
    if bench.mask.correct_aberration:  # what is left of them is on its pixels
        faults[_CORRECTED] = faults.pop(_LENSES)

    def with_only(changes: Mapping[str, Any], masks: str) -> OSCLC:
        return _on(subject, bench.replace({key: off[key] for key in off if key not in changes}), masks)

    def measure(name: str, network: Callable[[], nn.Module]) -> float:
        tell(f"only {name}")
        worth: float = subject.keep(f"only {name}", lambda: main_of(_on_bench(network(), subject.pictures)))
        return worth

    found = {"nothing": measure("nothing", lambda: with_only({}, "ideal"))}
    is_device = subject.osclc.bank.device is not None
    for name, changes in (faults | ({"the mask device": {}} if is_device else {})).items():
        of_masks = "mask" in name
        if of_masks and not is_device:
            continue
        found[name] = measure(name, partial(with_only, changes, "device" if of_masks else "ideal"))
    if is_device:  # a rung, as noise is: it is not measured again
        found[_STANDS] = main_of(subject.keep("quantized", lambda: figures(subject.osclc, subject.pictures)))
    else:
        found[_STANDS] = measure(_STANDS, lambda: subject.osclc)
    found[_NOISE] = main_of(subject.keep("noise", lambda: _captured(subject)))
    return found | _drawn_parts(subject, measure)


def _drawn_parts(subject: Subject, measure: Callable[[str, Callable[[], nn.Module]], float]) -> dict[str, float]:
    """The bench as it stands, without noise, with what the tolerances draw for one of its sections alone."""
    if not subject.draws:
        return {}
    drawn, found = _benches(subject), {}
    for section in sorted({name.partition(".")[0] for name in drawn.names}):
        few = [
            measure(f"{section}, draw {i}", partial(_assembled, subject, drawn.at(i).only(section)))
            for i in range(min(subject.draws, _FEW))
        ]
        found[f"{_DRAWN}{section}"] = statistics.mean(few)
    return found


def lost_to(found: Mapping[str, float]) -> dict[str, float]:
    """Of ``parts``, what each costs against the bench without it."""

    def without(name: str) -> float:
        if name == _NOISE or name.startswith(_DRAWN):
            return found[_STANDS]
        return found["the mask device" if name.endswith("of the mask") else "nothing"]

    return {name: without(name) - value for name, value in found.items() if name not in ("nothing", _STANDS)}


def figures(network: OSCLC, pictures: Part) -> dict[str, Any]:
    """Figures of a network on a bench, and a digest of all its scores: the same bits give the same one.

    It is worked out on the processor, whatever trained the network: another device rounds otherwise.
    """
    device = network.level.device
    here = pictures.to("cpu")
    digest = hashlib.sha256()
    found = measured(network.cpu(), here, chunk=_AT_ONCE, each=lambda scores: digest.update(scores.numpy().tobytes()))
    network.to(device)
    return found | {"scores_sha256": digest.hexdigest()}


def _captured(subject: Subject) -> dict[str, Any]:
    return _on_bench(_Noisy(subject.osclc, subject.seed), subject.pictures)


def _on_bench(network: nn.Module, pictures: Part) -> dict[str, Any]:
    return measured(network, pictures, chunk=_AT_ONCE)


def _tuned(subject: Subject) -> Student:
    return alone(subject.osclc, subject.student.front, subject.known)


def _guarded(subject: Subject) -> dict[str, Any] | None:
    """Of pairs, the parts of cut responses are others than those of the band, and levels make up for it."""
    student = subject.student
    if student.reader.kind == "pair_intensity" and any(
        crop != student.front.plan.size for crop in student.front.chain.crops
    ):
        return None
    return measured(unwrapped(student, subject.osclc.bank.bench), subject.pictures)


def _on(subject: Subject, bench: Bench, masks: str) -> OSCLC:
    """The tuned network on another bench, exposed and measured there."""
    options: dict[str, Any] = {"masks": masks, "oversample": subject.osclc.oversample}
    if bench.mask.encoding != "fit":
        options["learn"] = "kernels"
    return OSCLC.from_student(_tuned(subject), bench, subject.known, **options).eval()


class _Noisy(nn.Module):
    """One noisy capture of each picture, by one camera; noise follows from seed, draw and picture, and nothing else."""

    def __init__(self, osclc: OSCLC, seed: int, errors: Imperfections | None = None, draw: int = -1) -> None:
        super().__init__()
        self.osclc, self.errors, self.told = osclc, errors, ("noise", seed, draw)
        device, like = osclc.level.device, osclc.level.new_empty(0)
        camera = torch.Generator(device).manual_seed(_seed("camera", seed))
        self.pattern = Pattern.draw(osclc.bank.readings, like, camera)

    def forward(self, pictures: Tensor) -> Tensor:
        own = [torch.Generator(pictures.device).manual_seed(_seed(*self.told, _digest(one))) for one in pictures]
        found: Tensor = self.osclc(pictures, errors=self.errors, noisy=True, generator=own, pattern=self.pattern)
        return found


def _digest(picture: Tensor) -> str:
    return hashlib.sha256(picture.cpu().reshape(-1).numpy().data).hexdigest()


def _seed(*told: Any) -> int:
    """Of what it is for, so that no two streams are one."""
    return int.from_bytes(hashlib.sha256(repr(told).encode()).digest()[:8], "big") >> 1


def _unquantized(subject: Subject) -> dict[str, Any] | None:
    """The device's masks before their levels are chosen."""
    device = subject.osclc.bank.device
    if device is None:
        return None
    before = device.quantize
    subject.osclc.eval()
    device.train(True)  # in evaluation it chooses levels, whatever it is told
    device.quantize = "none"
    try:
        return _on_bench(_AsItIs(subject.osclc), subject.pictures)
    finally:
        device.quantize = before
        device.train(False)


class _AsItIs(nn.Module):
    """A network that stays in the mode it is in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = (network,)  # hidden from train() and eval()

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self._network[0](pictures)
        return found


def _misaligned(subject: Subject, tell: Tell) -> dict[str, Any] | None:
    """Draws of the bench, each with its own noise. Of a signed reading the reference's phase is set in each."""
    if not subject.draws:
        return None
    drawn = _benches(subject)

    def measure(i: int) -> dict[str, Any]:
        errors = with_reference_set(subject.osclc.bank, drawn.at(i), subject.known)
        return _on_bench(_Noisy(subject.osclc, subject.seed, errors, i), subject.pictures)

    name, found = "", []
    for i in range(subject.draws):
        name, value = next(iter(subject.keep(f"draw {i}", partial(measure, i)).items()))
        found.append(value)
        tell(f"misaligned, draw {i + 1} of {subject.draws}")
    ends = statistics.quantiles(found, n=4, method="inclusive") if len(found) > 1 else [found[0]] * 3
    return {
        name: statistics.median(found), "quartiles": [ends[0], ends[2]],
        "least": min(found), "greatest": max(found), "draws": found,
    }  # fmt: skip


def _benches(subject: Subject) -> Imperfections:
    """What is off on each of the subject's misaligned benches."""
    bank = subject.osclc.bank
    generator = torch.Generator().manual_seed(_seed("draws", subject.seed))
    drawn = subject.tolerances.draw(bank.bench, subject.draws, generator, bank.channels)
    return drawn if bank.device is not None else drawn.without(*PIXELS)  # ideal masks have no pixels to be off


def _assembled(subject: Subject, errors: Imperfections) -> nn.Module:
    """The network on a bench with these errors, its reference set, without noise."""
    return _Off(subject.osclc, with_reference_set(subject.osclc.bank, errors, subject.known))


class _Off(nn.Module):
    """A network on a bench that is off."""

    def __init__(self, osclc: OSCLC, errors: Imperfections) -> None:
        super().__init__()
        self.osclc, self.errors = osclc, errors

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.osclc(pictures, errors=self.errors)
        return found


def _reimported(subject: Subject) -> dict[str, Any]:
    """What a process of its own makes of the file, and of nothing else of this one."""
    command = [sys.executable, "-m", "fouroptics", "evaluate", str(subject.file), "--json", *subject.again]
    command += ["--pictures", str(len(subject.pictures)), "--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FailedRun(f"the exported file could not be evaluated: {done.stdout or done.stderr}"[:400])
    told = json.loads(done.stdout)[str(subject.file)]
    return {name: value for name, value in told.items() if name not in ("pictures", "name")}
