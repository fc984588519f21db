"""``fouroptics bench report`` and ``fouroptics bench solve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fouroptics.cli.arguments import Band, Channels, Json, Kernel, Size, pair, say

app = typer.Typer(no_args_is_help=True, help="What a bench can carry, and a bench that carries what you need.")


@app.command()
def report(
    bench: Annotated[str, typer.Argument(help="A bench file, or the name of a shipped bench.")],
    size: Size = "64x64",
    kernel: Kernel = "7",
    band: Band = "",
    channels: Channels = "16x3",
    as_json: Json = False,
) -> None:
    """The sampling report: what fits, what does not, and which value would mend it."""
    from fouroptics.bench import Bench

    found = Bench.load(bench).sampling(**_load(size, kernel, band, channels))
    say(found, found.to_json(), as_json)


@app.command()
def solve(
    size: Size,
    wavelength: Annotated[str, typer.Option(help='Such as "532 nm".')],
    input_pitch: Annotated[str, typer.Option(help='Device pixel of the input modulator, such as "8 um".')],
    mask_pitch: Annotated[str, typer.Option(help='Device pixel of the mask, such as "8 um".')],
    kernel: Kernel = "7",
    band: Band = "",
    channels: Channels = "16x3",
    start: Annotated[str, typer.Option(help="The bench whose panels, camera and encoding are kept.")] = "slm-532nm",
    out: Annotated[Path, typer.Option(help="The bench file to write; it must not exist.")] = Path("bench.toml"),
    as_json: Json = False,
) -> None:
    """Write a bench that works: focal lengths, samples, stop and beam for these pictures and pitches."""
    from fouroptics.bench import solve as solve_bench
    from fouroptics.files import write_new

    load = _load(size, kernel, band, channels)
    bench = solve_bench(
        wavelength=wavelength, input_pitch=input_pitch, mask_pitch=mask_pitch, start=start, **load
    ).replace({"name": out.stem[:100]})
    write_new(out, bench.to_toml().encode())
    found = bench.sampling(**load)
    kept = f"Panels, camera and the mask's phase range are those of {start}: check them at your wavelength."
    say(f"{found}\n{kept}\n\nwritten to {out}", {"out": str(out)} | found.to_json(), as_json)


def _load(size: str, kernel: str, band: str, channels: str) -> dict[str, Any]:
    return {
        "size": pair(size, "size"),
        "kernel": pair(kernel, "kernel"),
        "band": pair(band, "band") if band else None,
        "channels": pair(channels, "channels", single=False),
    }
