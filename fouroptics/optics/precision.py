"""The arithmetic of light is never narrowed: autocast is off inside the optics."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def exactly(function: Callable[P, T]) -> Callable[P, T]:
    """A function that works in its arguments' own precision, whatever autocast says where it is called."""

    @wraps(function)
    def run(*given: P.args, **options: P.kwargs) -> T:
        narrow = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
        if not narrow:
            return function(*given, **options)
        with torch.autocast("cpu", enabled=False), torch.autocast(narrow[-1], enabled=False):
            return function(*given, **options)

    return run
