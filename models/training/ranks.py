"""Processes that share the work of a batch, under ``torchrun``; one process is a world of one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from fouroptics.errors import FailedRun

T = TypeVar("T")
_PATIENCE = timedelta(hours=6)  # the others wait while the first measures a bench


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is, and on which device."""

    rank: int = 0
    world: int = 1
    device: torch.device | None = None

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def part_of(self, count: int) -> Tensor:
        """Which of a batch's samples are this one's: all ranks' together are all, none is there twice."""
        return torch.arange(self.rank, count, self.world)

    def add_gradients(self, network: nn.Module, lost: Tensor) -> None:
        """Sum the gradients of all, and the losses: each rank's is weighed by its share of the batch already."""
        if self.world == 1:
            return
        learned = [p for p in network.parameters() if p.requires_grad]  # others have no gradient, not one of 0
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in learned]
        whole = torch.cat([gradient.flatten().to(torch.float64) for gradient in gradients] + [lost.reshape(1)])
        dist.all_reduce(whole)
        lost.copy_(whole[-1])
        first = 0
        for parameter, gradient in zip(learned, gradients, strict=True):
            mine = whole[first : first + gradient.numel()].reshape(gradient.shape)
            parameter.grad = torch.empty_like(parameter).copy_(mine)  # laid out as it: a fused step looks at no strides
            first += gradient.numel()

    @contextmanager
    def shared_norms(self, network: nn.Module) -> Iterator[None]:
        """While it lasts, batch norms take mean and variance of the whole batch, whoever has its parts."""
        norms = [one for one in network.modules() if isinstance(one, _BatchNorm)] if self.world > 1 else []
        kinds = [type(one) for one in norms]
        for norm, kind in zip(norms, kinds, strict=True):
            norm.__class__ = type(f"Shared{kind.__name__}", (_Shared, kind), {})
        try:
            yield
        finally:
            for norm, kind in zip(norms, kinds, strict=True):
                norm.__class__ = kind

    @torch.no_grad()
    def align(self, network: nn.Module) -> None:
        """Give all the same statistics of batch norms, the mean of theirs, where each saw its own part of the batch."""
        if self.world == 1:
            return
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                for buffer in (module.running_mean, module.running_var):
                    if buffer is not None:
                        dist.all_reduce(buffer)
                        buffer /= self.world

    def agree(self, said: bool) -> bool:
        """What the first says, for all: whether a file is there, say."""
        if self.world == 1:
            return said
        told = torch.tensor(said, device=self.device)
        dist.broadcast(told, 0)
        return bool(told)

    def one_then_others(self, make: Callable[[], T]) -> T:
        """What each makes for itself, the first before the others: what it leaves in a cache they find."""
        done = False
        try:
            made = make() if self.is_first else None
            done = True
        finally:  # whatever the first ran into, the others hear of it
            done = self.agree(done)
        if self.is_first:
            return made  # type: ignore[return-value]
        if not done:
            raise FailedRun("the first process could not begin, and says why")
        return make()

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()


class _Shared(_BatchNorm):
    """A batch norm whose statistics are of all ranks' parts together; its gradients are, too."""

    def forward(self, given: Tensor) -> Tensor:
        if not self.training:
            return super().forward(given)
        others = [axis for axis in range(given.dim()) if axis != 1]
        variance, mean = torch.var_mean(given, others, correction=0)
        count = given.new_tensor(given.numel() // given.shape[1])
        summed: Tensor = all_reduce(torch.cat([mean * count, count.reshape(1)]))  # type: ignore[no-untyped-call]
        whole, every = summed[:-1] / summed[-1], summed[-1].detach()
        apart: Tensor = all_reduce((variance + (mean - whole).square()) * count) / every  # type: ignore[no-untyped-call]
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked += 1
                share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(whole.to(self.running_mean), share)
                self.running_var.lerp_((apart * every / (every - 1)).to(self.running_var), share)
        shape = [1, -1] + [1] * (given.dim() - 2)
        found: Tensor = (given - whole.reshape(shape)) * (apart + self.eps).rsqrt().reshape(shape)
        found = found if self.weight is None else found * self.weight.reshape(shape)
        return found if self.bias is None else found + self.bias.reshape(shape)


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The processes that ``torchrun`` has started, or this one alone; each on its device."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
