"""The one exception that a user's mistake raises: what is wrong, where, and the mend."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a word that is not one of ``choices``."""
    if value not in choices:
        written = ", ".join(repr(choice) for choice in choices if choice is not None)
        raise InputError(f"{value!r} is unknown", where=name, mend=f"choose from {written}")


def warn(message: str) -> None:
    """A warning that points at the line outside this package, and outside torch, that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in ("fouroptics", "torch"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


class FailedRun(RuntimeError):
    """Work that cannot go on though its input was right, told in one line."""


class InputError(ValueError):
    """Bad input, told in one line.

    Args:
        what: what is wrong, in plain words.
        where: the key, argument or file it stands in.
        mend: what to write or do instead.
    """

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.mend = what, where, mend

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        mend = f"; {self.mend}" if self.mend else ""
        return " ".join(f"{place}{self.what}{mend}".split())

    def within(self, place: str, separator: str = ".") -> InputError:
        """The same mistake, seen from one level further out."""
        where = f"{place}{separator}{self.where}" if self.where else place
        return InputError(self.what, where=where, mend=self.mend)
