"""What is expensive to set up and belongs to a size, a dtype and a device: built once, for the next call."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
_MOST = 4


class Kept(Generic[T]):
    """A few values by key, the oldest dropped first. Copies and pickles start empty.

    Values are built without a gradient and outside inference mode, so that a bank which was evaluated can be trained.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._values: dict[Hashable, T] = {}
        self._most = most

    def get(self, key: Hashable, build: Callable[[], T]) -> T:
        if key not in self._values:
            if len(self._values) >= self._most:
                self._values.pop(next(iter(self._values)))
            with torch.inference_mode(False), torch.no_grad():
                self._values[key] = build()
        return self._values[key]

    def __getstate__(self) -> dict[str, Any]:
        return {"_values": {}, "_most": self._most}


class Stamp:
    """A number that stays as long as some tensors have the values that they had: a key of what follows from them.

    Values are compared, as neither a tensor's version nor its address tells of everything that may change it: fused
    optimisers, ``.data`` and casts do not count as changes.
    """

    def __init__(self) -> None:
        self._count = 0
        self._seen: tuple[Tensor, ...] = ()

    def of(self, *tensors: Tensor) -> int:
        alike = len(tensors) == len(self._seen) and all(map(_alike, tensors, self._seen))
        if not alike:
            with torch.inference_mode(False), torch.no_grad():
                self._count, self._seen = self._count + 1, tuple(tensor.detach().clone() for tensor in tensors)
        return self._count

    def __getstate__(self) -> dict[str, Any]:
        return {"_count": 0, "_seen": ()}


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.device != other.device or one.is_meta:
        return False
    return torch.equal(one.detach(), other)
