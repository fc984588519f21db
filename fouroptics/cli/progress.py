"""How far work is that takes a while: a bar on a terminal, now and then a line in a log, nothing where it is short."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from fouroptics.masks.h5 import Progress

_BAR, _LINES = (0.5, 0.1), (2.0, 5.0)  # seconds before anything is shown, and between what is shown


@contextmanager
def bar(what: str, quiet: bool = False, *, named: bool = False) -> Iterator[Progress]:
    """A callback that shows on stderr how far ``what`` is; ``quiet`` where only programs read.

    ``named``: it is told steps that a person knows, and shows them.
    """
    with ExitStack() as stack:
        if quiet:
            yield lambda *_: None
        elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            yield _paced(_as_bar(what, stack), *_BAR, named)
        else:
            yield _paced(_as_lines(what), *_LINES, named)


def _paced(show: Callable[[float, str], object], first: float, apart: float, named: bool) -> Progress:
    """Pass a share of the work on, neither early nor often, nor when it is done."""
    due = time.monotonic() + first

    def told(step: str, done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due and done < total:
            due = now + apart
            show(done / total, f": {step}" if named else "")

    return told


def _as_lines(what: str) -> Callable[[float, str], object]:
    def show(share: float, step: str) -> None:
        with suppress(OSError):  # whoever read has gone, and the work goes on
            print(f"fouroptics: {what}{step}: {share:.0%}", file=sys.stderr, flush=True)

    return show


def _as_bar(what: str, stack: ExitStack) -> Callable[[float, str], object]:
    """A bar that is drawn from the first share on, and leaves nothing behind."""
    drawn: list[Bar] = []

    def show(share: float, step: str) -> None:
        if not drawn:
            drawn.append(stack.enter_context(_bar()))
            drawn[0].add_task(what, total=1.0)
        drawn[0].update(drawn[0].task_ids[0], completed=share, description=what + step)

    return show


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(file=sys.stderr), transient=True)
