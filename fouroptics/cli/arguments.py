"""Arguments that several verbs share, and how they are read."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import typer

from fouroptics.errors import InputError

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else.")]
Size = Annotated[str, typer.Option(metavar="HxW", help="Samples of a picture, height x width.")]
Kernel = Annotated[str, typer.Option(metavar="K|KxK", help="Taps of a kernel.")]
Band = Annotated[str, typer.Option(metavar="HxW", help="Samples of the band that is kept; left out: all.")]
Channels = Annotated[str, typer.Option(metavar="OxI", help="Outputs x inputs.")]
Threads = Annotated[int, typer.Option(min=1, help="Processor threads; the result of a run depends on it.")]


def pair(text: str, name: str) -> tuple[int, int]:
    """``"64x48"`` → (64, 48); ``"64"`` → (64, 64)."""
    match = re.fullmatch(r"([0-9]{1,7})(?:[xX×]([0-9]{1,7}))?", text)
    if not match:
        raise InputError(f"{text!r} is not a pair of whole numbers", where=f"--{name}", mend="write 64x64")
    first = int(match[1])
    return first, int(match[2]) if match[2] else first


def say(text: Any, data: Any, as_json: bool) -> None:
    """Print for people or for programs."""
    typer.echo(json.dumps(data, allow_nan=False) if as_json else str(text))
