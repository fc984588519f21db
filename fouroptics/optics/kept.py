"""What is expensive to set up and belongs to a size, a dtype and a device: built once, for the next call."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")
_MOST = 4


class Kept(Generic[T]):
    """A few values by key, the oldest dropped first. Copies and pickles start empty.

    Values are built outside inference mode, so that a bank which was evaluated can be trained.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._values: dict[Hashable, T] = {}
        self._most = most

    def get(self, key: Hashable, build: Callable[[], T]) -> T:
        if key not in self._values:
            if len(self._values) >= self._most:
                self._values.pop(next(iter(self._values)))
            with torch.inference_mode(False):
                self._values[key] = build()
        return self._values[key]

    def __getstate__(self) -> dict[str, Any]:
        return {"_values": {}, "_most": self._most}
