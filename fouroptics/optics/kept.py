"""What is expensive to set up and belongs to a size, a dtype and a device: built once, for the next call."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
_MOST = 4
_SAMPLES = 2**14


class Kept(Generic[T]):
    """A few values by key, the oldest dropped first. Copies and pickles start empty.

    Values are built without a gradient and outside inference mode, so that a bank which was evaluated can be trained.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._values: dict[Hashable, T] = {}
        self._most = most

    def get(self, key: Hashable, build: Callable[[], T]) -> T:
        if is_traced():
            return build()
        if key not in self._values:
            if len(self._values) >= self._most:
                self._values.pop(next(iter(self._values)))
            with torch.inference_mode(False), torch.no_grad():
                self._values[key] = build()
        return self._values[key]

    def __getstate__(self) -> dict[str, Any]:
        return {"_values": {}, "_most": self._most}


class Stamp:
    """A number that stays as long as some tensors are what they were: a key of what follows from them.

    A tensor's version tells of most changes. Fused optimisers, ``.data`` and casts are not counted by it, so it is
    ``renew``-ed whenever a gradient is taken, and some thousand values are compared besides, of small tensors all.
    """

    def __init__(self) -> None:
        self._count = 0
        self._seen: tuple[tuple[Tensor, int, Tensor], ...] = ()

    def of(self, *tensors: Tensor) -> int:
        if len(tensors) != len(self._seen) or not all(map(_is_as_seen, tensors, self._seen)):
            with torch.inference_mode(False), torch.no_grad():
                self._seen = tuple((tensor, _version(tensor), _sample(tensor).clone()) for tensor in tensors)
            self._count += 1
        return self._count

    def renew(self) -> None:
        self._seen = ()

    def __getstate__(self) -> dict[str, Any]:
        return {"_count": 0, "_seen": ()}


def is_traced() -> bool:
    """Whether what is built now belongs to a trace, an export or a transform, and must not outlive it."""
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.utils._python_dispatch._get_current_dispatch_mode() is not None
    )


def _is_as_seen(tensor: Tensor, seen: tuple[Tensor, int, Tensor]) -> bool:
    before, version, sample = seen
    same = tensor is before and _version(tensor) == version and tensor.dtype == sample.dtype
    return same and tensor.device == sample.device and not tensor.is_meta and torch.equal(_sample(tensor), sample)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _sample(tensor: Tensor) -> Tensor:
    """Values from all over a tensor, in steps that no side of it divides as a rule."""
    return tensor.detach().flatten()[:: (tensor.numel() // _SAMPLES) | 1]
