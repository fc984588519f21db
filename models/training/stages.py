"""From a student to its bench: the OSCLC of a run, fine-tuned through what the bench does to it."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from fouroptics.models.cascade import Cascade
from fouroptics.models.noise import ReadingNoise, check_signed
from fouroptics.models.osclc import OSCLC, bank_of, check_hardware, check_room
from fouroptics.models.reference import with_reference_set
from fouroptics.models.sclc import Student
from fouroptics.models.training.data import Data, Part
from fouroptics.models.training.loop import Loss, Stage
from fouroptics.models.training.recipe import Recipe, StageSection
from torch import Tensor, nn

from fouroptics.bench import Bench
from fouroptics.correlator import Correlator4f
from fouroptics.correlator.device import Learn
from fouroptics.correlator.flaws import PIXELS
from fouroptics.errors import InputError
from fouroptics.imperfections import Tolerances

MEASURED = 64  # training pictures that exposure and levels are fixed by
_AT_ONCE = 25  # pictures on a bench where no gradient is wanted
_TO_SET = 2  # pictures that a reference's phase is set by in every draw: eight move it by another 0.02 rad
_SOFTEST, _HARDEST = 0.9, 0.05  # of the staircase that is annealed


class Flawed(nn.Module):
    """A network on a bench that is a little off in every batch, and noisy, while it is trained.

    In evaluation mode the benches are as far off and as noisy, and the same each time: what is chosen by them is chosen
    for what it is trained for.

    Args:
        osclc: the network.
        tolerances: of the bench; None leaves it as it should be.
        noise: whether a camera's captures are read, or what is expected of them.
        draws: benches a batch; each sees its part of the pictures.
        known: pictures by which each of them has its reference beam set first, as one does on a table.
    """

    known: Tensor

    def __init__(self, osclc: OSCLC, tolerances: Tolerances | None, *, noise: bool, draws: int, known: Tensor) -> None:
        super().__init__()
        self.register_buffer("known", known, persistent=False)
        self.osclc, self.tolerances, self.noise, self.draws = osclc, tolerances, noise, draws

    def forward(self, pictures: Tensor) -> Tensor:
        if self.training:
            seed, noise = int(torch.randint(2**62, (1,))), None
        else:  # the same benches and the same noise each time
            seed, noise = 0, torch.Generator(pictures.device).manual_seed(0)
        at_once = len(pictures) if self.training else _AT_ONCE
        if self.tolerances is None:
            seen = [self.osclc(few, noisy=self.noise, generator=noise) for few in torch.split(pictures, at_once)]
            return torch.cat(seen)
        bank, seen = self.osclc.bank, []
        generator = torch.Generator().manual_seed(seed)
        drawn = self.tolerances.draw(bank.bench, self.draws, generator, bank.channels)
        if bank.device is None:  # which has no pixels to be off
            drawn = drawn.without(*PIXELS)
        places = torch.arange(len(pictures), device=pictures.device)
        dealt = [places[i :: self.draws] for i in range(self.draws)]  # what fills a batch up has no bench alone
        for i, mine in enumerate(dealt):
            if len(mine):
                errors = with_reference_set(bank, drawn.at(i), self.known)
                few = torch.split(pictures[mine], at_once)
                seen += [self.osclc(one, errors=errors, noisy=self.noise, generator=noise) for one in few]
        return torch.cat(seen)[torch.cat(dealt).argsort()]


def on_bench(recipe: Recipe, student: Student, data: Data) -> OSCLC:
    """A student's masks on the recipe's bench, before any fine-tuning."""
    bench, optics = recipe.on_bench(), recipe.student.optics
    options = {"learn": _begun_by(bench)} if optics == "folded" else {}
    known, finer = data.some(MEASURED, seed=0), recipe.oversample
    return OSCLC.from_student(student, bench, known, optics=optics, oversample=finer, **options)


def in_light(recipe: Recipe, student: Student, data: Data) -> OSCLC:
    """A student's ideal masks on the recipe's bench, in light as dim as what its device passes.

    What is off there costs no new masks, and no gradient goes through pixels.
    """
    bench, known = recipe.on_bench(), data.some(MEASURED, seed=0)
    share = _passed(student, bench, known)
    dim = bench.replace({"mask.transmission": f"{100 * bench.mask.transmission * share!r} %"})
    return OSCLC.from_student(student, dim, known, masks="ideal", oversample=recipe.oversample)


def _passed(student: Student, bench: Bench, known: Tensor) -> float:
    """The share of light that a bench's device passes of what ideal masks do, or all that its glass can.

    It is measured by the levels of readings that neither end at a camera's range nor hold what no mask shaped.
    """
    changes: dict[str, Any] = {"camera.exposure": "auto"}
    changes |= {} if bench.reference is None else {"reference.captures": 2}
    changes |= {} if bench.mask.dc_block is None else {"mask.dc_block": None}
    clear = bench.replace(changes)
    shown, ideal = (
        OSCLC.from_student(student, clear, known, masks=masks, learn=_begun_by(bench)) for masks in ("device", "ideal")
    )
    passed = ((shown.level / shown.bank.shutter) / (ideal.level / ideal.bank.shutter)).median()
    share = float(passed) ** (2 if student.reader.kind == "homodyne" else 1)
    return min(share, 1 / bench.mask.transmission)


def _begun_by(bench: Bench) -> Learn:
    """Masks follow their kernels until a stage says otherwise; a fit cannot."""
    return "masks" if bench.mask.encoding == "fit" else "kernels"


def check_bench(recipe: Recipe, student: Student) -> None:
    """Refuse what the recipe's bench cannot carry, before anything is trained.

    Raises:
        InputError: which limit, and what would do.
    """
    bench = recipe.on_bench()
    check_hardware(student.reader, bench)
    if recipe.student.optics == "cascade":
        Cascade(student.front)
    places = {section.on for section in recipe.stage}
    if recipe.student.optics == "cascade" and places & {"student", "light"}:
        mend = 'student.optics = "folded", or on = "bench", where the masks of a cascade are ideal'
        raise InputError("one plane of masks, and this is a cascade", where="stage.on", mend=mend)
    if "student" in places:
        check_signed(student.reader)
    through_masks = any("kernels" in section.learn and section.on == "bench" for section in recipe.stage)
    if through_masks and _begun_by(bench) == "masks":
        mend = 'learn = ["masks"], another encoding, or on = "light"'
        raise InputError("a fit passes no gradient to kernels", where="stage.learn", mend=mend)
    masks = "device" if recipe.student.optics == "folded" else "ideal"
    bank = bank_of(student, bench, oversample=recipe.oversample, masks=masks, learn=_begun_by(bench))
    check_room(student.front, bank)
    if bench.link is None:
        mend = 'add [link]: rate = "2.5 Gbit/s", overhead = "50 us"'
        raise InputError("no way from the camera to a computer, and the latency counts it", where="link", mend=mend)
    for section in recipe.stage:
        if section.tolerances:
            Tolerances.load(section.tolerances)
    Tolerances.load(recipe.evaluate.tolerances)


def in_noise(student: Student, section: StageSection, recipe: Recipe, data: Data) -> Student:
    """A copy of a student as a stage trains it: its readings have the noise that the bench's reference beam gives."""
    made = copy.deepcopy(student).requires_grad_("backend" in section.learn)
    made.front.requires_grad_("kernels" in section.learn)
    known = data.some(MEASURED, seed=0)
    made.noise = ReadingNoise.on(recipe.on_bench(), student, known, oversample=recipe.oversample)
    return made


def prepare(osclc: OSCLC, section: StageSection, data: Data) -> Flawed:
    """A network as a stage trains it: what is learned, how levels are chosen, what is off."""
    learns_light = "kernels" in section.learn or "masks" in section.learn
    if learns_light:
        relearn(osclc, "kernels" if "kernels" in section.learn else "masks")
    osclc.requires_grad_("backend" in section.learn)
    for parameter in osclc.bank.parameters():
        parameter.requires_grad_(False)
    bank = osclc.bank
    if bank.device is not None:
        bank.device.quantize = section.quantize
    if learns_light:
        drive = None if bank.device is None else bank.device.drive
        (bank.kernels if drive is None else drive).requires_grad_(True)
    tolerances = Tolerances.load(section.tolerances) if section.tolerances else None
    known = data.some(_TO_SET, seed=0).to(osclc.level.device)
    return Flawed(osclc, tolerances, noise=section.noise, draws=section.draws, known=known)


def relearn(osclc: OSCLC, learn: str) -> None:
    """Let masks follow their kernels, or be learned pixel by pixel from where the kernels put them."""
    bank = osclc.bank
    if bank.device is None or bank.device.learn == learn:
        return
    if learn == "kernels":
        mend = "stages that learn kernels before those that learn masks"
        raise InputError("masks that were learned follow no kernels any more", where="stage.learn", mend=mend)
    made = Correlator4f.from_kernels(
        bank.taps.detach(), bank.bench, bank.size, layout=bank.layout, readout=bank.readout,
        sensor_pool=bank.sensor_pool, masks="device", learn=learn, stop=bank.stop,
    )  # fmt: skip
    osclc.bank = made.to(bank.kernels.device).expose(seconds=float(bank.shutter)).train(bank.training)


def stage_of(recipe: Recipe, section: StageSection, network: Student | Flawed, loss: Loss, name: str) -> Stage:
    """The loop's view of a stage: its length and rates, and levels whose choice hardens where it is soft."""
    settings = recipe.train.model_copy(
        update={
            "epochs": section.epochs, "lr": section.lr, "batch": section.batch or recipe.train.batch,
            "ema": 0.0, "patience": 0, "schedule": "warmup-cosine",
        }
    )  # fmt: skip
    if not isinstance(network, Flawed):
        return Stage(name, loss, settings, fine_tunes=True)
    device = network.osclc.bank.device
    soft = section.quantize in ("soft", "gumbel") and device is not None
    before = partial(_harden, network) if soft else None
    return Stage(name, loss, settings, optics="osclc.bank.", before_step=before, fine_tunes=not soft)


def _harden(network: Flawed, share: float) -> None:
    device = network.osclc.bank.device
    if device is not None:
        device.softness = _SOFTEST * (_HARDEST / _SOFTEST) ** share


def few(part: Part, count: int) -> Part:
    """So many pictures of a part, drawn once and for all; 0 takes all."""
    if not count or count >= len(part):
        return part
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:count]
    return part.take(order.to(part.pictures.device))
