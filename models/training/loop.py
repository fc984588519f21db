"""The loop: one network, one loss, so many epochs; the best on validation is kept, and a killed run goes on.

What happens in a step follows from (seed, stage, epoch, step) alone, so an interrupted run ends as an unbroken one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from fouroptics.models.training.augment import Augmentation
from fouroptics.models.training.data import IGNORED, Part
from fouroptics.models.training.metrics import main_of, measured, scores_of
from fouroptics.models.training.ranks import Ranks
from fouroptics.models.training.recipe import TrainSection
from torch import Tensor, nn

from fouroptics.errors import FailedRun, InputError
from fouroptics.tensors import load_tensors, save_tensors

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # scores, pictures, targets
Tell = Callable[[str, int, int], object]  # what, done, in all
_APART = 60.0  # seconds between checkpoints within an epoch
_BEFORE_SCORES = 20.0  # the same behind the last step of an epoch: scores may take as long as it did


@dataclass
class Progress:
    """How far a stage is, and what it has seen; with the tensors beside it, all that going on needs."""

    stage: str
    epoch: int = 0
    step: int = 0  # of this epoch
    total: float = 0.0  # of this epoch's losses
    best: float = -math.inf
    best_epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """What is to be learned.

    Args:
        name: of the stage, a part of every seed.
        loss: of scores, pictures and targets.
        settings: of the loop.
        optics: names of parameters that are light's begin with this; None has no parameter apart.
        before_step: is told before each step what share of all is done.
        fine_tunes: what it begins with is scored too, and kept if every epoch is worse.
        views: epochs whose batches and views come again, the same for every stage; 0: each epoch has its own.
    """

    name: str
    loss: Loss
    settings: TrainSection
    optics: str | None = "front."
    before_step: Callable[[float], None] | None = None
    fine_tunes: bool = False
    views: int = 0


class Fitting:
    """A network on its way through a stage.

    Args:
        network: on its device.
        stage: what is to be learned.
        train: to learn from, on the same device.
        validation: to choose by.
        seed: of the run.
        augment: what is done to pictures on the way.
        state: file to go on from and to save to; None keeps nothing.
        fingerprint: of recipe and pictures; a state of others is refused.
        ranks: processes that share each batch.
        tell: is told how far it is.
        each_epoch: is given what the epochs so far were, when one ends.
    """

    def __init__(
        self,
        network: nn.Module,
        stage: Stage,
        train: Part,
        validation: Part,
        *,
        seed: int = 0,
        augment: Augmentation | None = None,
        state: Path | None = None,
        fingerprint: str = "",
        ranks: Ranks | None = None,
        tell: Tell | None = None,
        each_epoch: Callable[[list[dict[str, Any]]], object] | None = None,
    ) -> None:
        self.network, self.stage, self.train, self.validation = network, stage, train, validation
        self.seed, self.state, self.fingerprint = seed, state, fingerprint
        self.augment = augment or Augmentation()
        self.ranks, self.tell = ranks or Ranks(), tell or (lambda *_: None)
        self.each_epoch = each_epoch or (lambda _: None)
        settings = stage.settings
        self.batch = min(settings.batch, len(train))
        if self.batch < self.ranks.world:
            what = f"{self.batch} pictures for {self.ranks.world} processes"
            raise InputError(what, where="train.batch", mend="larger batches, or fewer processes")
        self.steps = len(train) // self.batch
        self.optimiser = _optimiser(network, stage)
        self.average = copy.deepcopy(network).requires_grad_(False) if settings.ema else None
        self.best = _values(network)
        self.progress = Progress(stage.name)
        self._saved = time.monotonic()

    def run(self) -> list[dict[str, Any]]:
        """Train to the end, from wherever the state file is; the network is left as it was best on validation."""
        if self.state is not None and self.ranks.agree(self.state.is_file()):
            self._restore()
        shared = self.ranks.shared_norms(self.network) if self.stage.settings.accumulate == 1 else nullcontext()
        with torch.random.fork_rng(), shared:
            if self.stage.fine_tunes and self.progress == Progress(self.stage.name):
                self.progress.best = math.nextafter(self._score(self.network)[0], -math.inf)
            while self._goes_on():
                self._epoch()
        self.network.load_state_dict(self.best)
        return self.progress.history

    def _goes_on(self) -> bool:
        settings, at = self.stage.settings, self.progress
        waited = at.epoch - 1 - at.best_epoch
        return at.epoch < settings.epochs and not (settings.patience and at.epoch and waited >= settings.patience)

    def _epoch(self) -> None:
        started, at = time.monotonic(), self.progress
        order = torch.randperm(len(self.train), generator=self._view(-1))
        first = at.step
        if first == self.steps and self.stage.before_step is not None:  # saved before it was scored
            self.stage.before_step((at.epoch * self.steps + first - 1) / (self.stage.settings.epochs * self.steps))
        while at.step < self.steps:
            index = order[at.step * self.batch : (at.step + 1) * self.batch]
            at.total += self._step(index.to(self.train.pictures.device))
            at.step += 1
            self.tell(f"{self.stage.name}", at.epoch * self.steps + at.step, self.stage.settings.epochs * self.steps)
            if time.monotonic() - self._saved > (_APART if at.step < self.steps else _BEFORE_SCORES):
                self._save()
        shown = self.average or self.network
        score, found = self._score(shown)
        row = {
            "stage": self.stage.name, "epoch": at.epoch, "steps": self.steps, "resumed_at_step": first,
            "loss": at.total / self.steps, "seconds": round(time.monotonic() - started, 3),
        } | {f"validation_{name}": value for name, value in found.items()}  # fmt: skip
        if score > at.best:
            at.best, at.best_epoch, self.best = score, at.epoch, _values(shown)
        at.history.append(row)
        at.epoch, at.step, at.total = at.epoch + 1, 0, 0.0
        self._save()
        self.each_epoch(at.history)

    def _score(self, network: nn.Module) -> tuple[float, dict[str, float]]:
        """The figure to choose by, and all of them."""
        found = measured(network, self.validation, amp=self.stage.settings.amp)
        return main_of(found), found

    def _step(self, index: Tensor) -> float:
        """One step of the optimiser on a batch, in as many parts as ``accumulate`` says; its loss."""
        at, settings = self.progress, self.stage.settings
        chance = _generator(self.seed, self.stage.name, at.epoch, at.step)
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=chance)) + self.ranks.rank)  # of dropout
        pictures, targets = self.augment(*self.train.batch(index), self._view(at.step))
        self._set_rates()
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        lost = torch.zeros((), device=pictures.device, dtype=torch.float64)
        mine, whole = self.ranks.part_of(len(pictures)), max(1, _counted(targets))
        for part in mine.chunk(settings.accumulate):
            part = part.to(pictures.device)
            scores = scores_of(self.network, pictures[part], settings.amp)
            loss = self.stage.loss(scores, pictures[part], targets[part]) * (_counted(targets[part]) / whole)
            loss.backward()  # type: ignore[no-untyped-call]
            lost += loss.detach()
        self.ranks.add_gradients(self.network, lost)
        if settings.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self.optimiser.step()
        self.ranks.align(self.network)  # now, for a checkpoint that is saved next has the first one's buffers
        if self.average is not None:
            self._follow(self.average)
        value = float(lost)
        if not math.isfinite(value):
            what = f"the loss is {value} in step {at.step} of epoch {at.epoch} of stage {self.stage.name}"
            raise FailedRun(f"{what}; a smaller train.lr, or train.clip, keeps it finite")
        return value

    def _view(self, step: int) -> torch.Generator:
        """Draws of what a step sees; the epoch's order is step -1."""
        views, epoch = self.stage.views, self.progress.epoch
        return _generator(self.seed, *(("views", epoch % views) if views else (self.stage.name, epoch)), step)

    def _set_rates(self) -> None:
        settings, at = self.stage.settings, self.progress
        done, whole = at.epoch * self.steps + at.step, settings.epochs * self.steps
        if self.stage.before_step is not None:
            self.stage.before_step(done / whole)
        share = factor(settings.schedule, done, whole, self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * share

    @torch.no_grad()
    def _follow(self, average: nn.Module) -> None:
        at = self.progress
        taken = at.epoch * self.steps + at.step
        decay = min(self.stage.settings.ema, (1 + taken) / (10 + taken))  # the first weights are soon forgotten
        for kept, now in zip(average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(now, 1 - decay)
            else:
                kept.copy_(now)

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self.state is None or not self.ranks.is_first:
            return
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for number, values in self.optimiser.state_dict()["state"].items():
            tensors |= {
                f"optimiser.{number}.{name}": torch.as_tensor(value)
                for name, value in values.items()
                if value is not None
            }
        told = {"progress": json.dumps(asdict(self.progress)), "fingerprint": self.fingerprint}
        save_tensors(self.state, tensors, told)

    def _restore(self) -> None:
        assert self.state is not None
        tensors, told = load_tensors(self.state)
        where, start_again = str(self.state), "remove it, and this stage begins again"
        if "progress" not in told:
            raise InputError("is no checkpoint of a training", where=where, mend=start_again)
        if told.get("fingerprint") != self.fingerprint:
            mend = "use the recipe and pictures that the run began with, or another --out"
            raise InputError("is a checkpoint of another recipe or of other pictures", where=where, mend=mend)
        try:
            progress = Progress(**json.loads(told["progress"]))
        except (ValueError, TypeError):
            raise InputError("does not tell how far it is", where=where, mend=start_again) from None
        if progress.stage != self.stage.name:
            return
        try:
            self.network.load_state_dict(_under("network.", tensors))
            if self.average is not None:
                self.average.load_state_dict(_under("average.", tensors))
            self.best = _like(self.best, _under("best.", tensors))
            self._restore_optimiser(_under("optimiser.", tensors))
        except (RuntimeError, LookupError, ValueError):
            raise InputError("is a checkpoint of another network", where=where, mend=start_again) from None
        self.progress = progress

    def _restore_optimiser(self, tensors: Mapping[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        parameters = [one for group in self.optimiser.param_groups for one in group["params"]]
        for name, value in tensors.items():
            number, key = name.split(".", 1)
            own = parameters[int(number)]
            if value.shape == own.shape:  # laid out as its parameter is: other orders round otherwise
                value = torch.empty_like(own).copy_(value)
            state.setdefault(int(number), {})[key] = value
        given = self.optimiser.state_dict()
        self.optimiser.load_state_dict({"state": state, "param_groups": given["param_groups"]})


def _counted(targets: Tensor) -> int:
    """Pictures, or pixels that have a class: what a mean is taken over."""
    return len(targets) if targets.dim() == 1 else int((targets != IGNORED).sum())


def factor(schedule: str, step: int, steps: int, an_epoch: int) -> float:
    """What the rate is multiplied by in a step of so many."""
    if schedule == "exponential":
        return float(0.95 ** (step // an_epoch))
    share = (step + 0.5) / steps
    rise = 0.3 if schedule == "one-cycle" else 0.05
    if share < rise:
        return 0.04 + 0.96 * share / rise
    return 0.5 * (1 + math.cos(math.pi * (share - rise) / (1 - rise)))


def _optimiser(network: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    """Masks and electronics at their own rates; neither light's parameters decay nor thresholds."""
    settings = stage.settings
    light: list[nn.Parameter] = []
    thresholds: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        of_light = stage.optics is not None and name.startswith(stage.optics)
        (light if of_light else thresholds if ".reader." in f".{name}" else rest).append(parameter)
    electronics = settings.lr.electronics
    groups = [
        {"params": params, "lr": rate, "base": rate, "weight_decay": decay}
        for params, rate, decay in (
            (light, settings.lr.optics, 0.0),
            (thresholds, electronics, 0.0),
            (rest, electronics, settings.weight_decay),
        )
        if params
    ]
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    is_paper = settings.optimiser == "sgd-paper"
    return torch.optim.SGD(groups, momentum=0.9 if is_paper else 0.85, nesterov=not is_paper, fused=True)


def _generator(*told: Any) -> torch.Generator:
    """Its seed follows from what it is for."""
    digest = hashlib.sha256(repr(told).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _values(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _like(own: dict[str, Tensor], given: dict[str, Tensor]) -> dict[str, Tensor]:
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in given.items()}:
        raise KeyError("best")
    return given


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
