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
Band = Annotated[str, typer.Option(metavar="HxW", help="Spatial frequencies that a stop keeps; left out: all.")]
Channels = Annotated[str, typer.Option(metavar="OxI", help="Outputs x inputs.")]
Threads = Annotated[int, typer.Option(min=1, help="Processor threads; the result of a run depends on it.")]


def pair(text: str, name: str, *, single: bool = True) -> tuple[int, int]:
    """``"64x48"`` → (64, 48); ``"64"`` → (64, 64) where one number is clear enough."""
    match = re.fullmatch(r"([1-9][0-9]{0,6})(?:[xX×]([1-9][0-9]{0,6}))?", text)
    if not match or not (match[2] or single):
        examples = {"kernel": "7, or 7x5", "channels": "16x3 (outputs x inputs)"}
        mend = f"write {examples.get(name, '64x64, or 64')}"
        raise InputError(f"{text!r} is not two whole numbers from 1", where=f"--{name}", mend=mend)
    return int(match[1]), int(match[2] or match[1])


Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help='A key of the bench, such as mask.encoding="carrier".'),
]


def changed(pairs: list[str] | None, option: str = "--set", example: str = "mask.encoding=carrier") -> dict[str, Any]:
    """``["mask.pitch=8 um", "camera.bin=2"]`` → dotted keys and values; a word that is no TOML value is a text."""
    from fouroptics import toml

    changes: dict[str, Any] = {}
    for given in pairs or ():
        key, equals, value = given.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{given!r} is no KEY=VALUE", where=option, mend=f"such as {example}")
        try:
            changes[key.strip()] = toml.parse(f"value = {value}", option)["value"]
        except InputError as error:
            if value.strip()[:1] in ("[", "{", '"'):
                mend = "a value as TOML writes it; a table { … } stands on one line"
                raise InputError(error.what, where=f"{option} {key.strip()}", mend=mend) from None
            changes[key.strip()] = value.strip()
    return changes


def say(text: Any, data: Any, as_json: bool) -> None:
    """Print for people or for programs."""
    typer.echo(json.dumps(data, allow_nan=False) if as_json else str(text))
