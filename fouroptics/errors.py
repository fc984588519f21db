"""The one exception that a user's mistake raises: what is wrong, where, and the mend."""

from __future__ import annotations


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
