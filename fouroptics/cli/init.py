"""``fouroptics init``: files to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from fouroptics.cli.arguments import Json, say
from fouroptics.errors import InputError
from fouroptics.files import write_new

STARTERS = {
    "bench.toml": "benches/slm-532nm.toml",
    "recipe.toml": "recipes/cifar10-homodyne-kd.toml",
    "tolerances.toml": "tolerances/lab-bench.toml",
}


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write; made if it is not there.")] = Path(),
    as_json: Json = False,
) -> None:
    """Write a starter bench, recipe and tolerances to edit."""
    taken = [name for name in STARTERS if (folder / name).exists()]
    if taken:
        raise InputError(f"already there: {', '.join(taken)}", where=str(folder), mend="choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot be made ({error.strerror})", where=str(folder), mend="choose another folder"
        ) from None
    presets = files("fouroptics") / "presets"
    for name, preset in STARTERS.items():
        write_new(folder / name, presets.joinpath(preset).read_bytes())
    say(
        "\n".join(
            [
                *(f"wrote {folder / name}" for name in STARTERS),
                f"next: fouroptics bench report {folder / 'bench.toml'}",
                f"then: fouroptics train {folder / 'recipe.toml'} --data PICTURES --out RUN",
                "tolerances.toml: for evaluate.tolerances of a recipe, its stages, and masks from-kernels --tolerances",
            ]
        ),
        {"wrote": [str(folder / name) for name in STARTERS]},
        as_json,
    )
