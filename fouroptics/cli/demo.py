"""``fouroptics demo``: the physics in one walk, on a picture made here."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fouroptics.cli.arguments import Json, Threads, say

if TYPE_CHECKING:
    from torch import Tensor

    from fouroptics.correlator import Correlator4f

SIZE = (72, 72)
PHASE = {"cmap": "twilight", "vmin": -3.1416, "vmax": 3.1416}
NAMES = ("blur", "upright edges", "level edges", "spots")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures; an earlier demo in it is replaced.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the picture's texture.")] = 0,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """A bench, its sampling report, a bank of four correlators, a picture in, camera-plane pictures out."""
    import torch

    from fouroptics import pictures
    from fouroptics.bench import Bench
    from fouroptics.correlator import Correlator4f
    from fouroptics.files import whole_folder

    torch.set_num_threads(threads)
    started = time.perf_counter()
    bench = Bench.load("slm-532nm")
    kernels = bank()
    report = bench.sampling(SIZE, kernel=kernels.shape[-1], channels=(len(NAMES), 3))
    correlator = Correlator4f.from_kernels(kernels, bench, SIZE, upright=False)
    scene = make_scene(seed)
    with torch.no_grad():
        camera = correlator.power(scene)
        error = difference_from_conv2d(correlator, scene)
    latency = correlator.latency(scene)
    summary: dict[str, Any] = {
        "sampling_ok": report.ok,
        "largest_difference_from_conv2d": error,
        "seconds_a_picture_on_the_bench": latency.seconds,
        "brightest_W_per_m2": camera.amax((-2, -1)).tolist(),
    }
    with whole_folder(out, summary) as folder:
        (folder / "report.txt").write_text(f"{report}\n\n{correlator}\n\n{latency}\n", encoding="utf-8")
        bench.save(folder / "bench.toml")
        pictures.write(folder / "picture.png", scene)
        for name, irradiance in zip(NAMES, camera, strict=True):
            pictures.write(folder / f"camera-{name.replace(' ', '-')}.png", irradiance / irradiance.max())
        draw(folder / "overview.png", correlator, scene, camera)
    text = [
        str(report),
        "",
        f"{correlator}",
        f"largest difference from conv2d: {error:.1e} of the strongest response",
        f"light to numbers: {latency.seconds:.3g} s a picture, see report.txt",
        f"pictures in {out}: overview.png shows the walk, camera-*.png each its own brightest point as white "
        f"({time.perf_counter() - started:.1f} s)",
    ]
    say("\n".join(text), {"out": str(out)} | summary, as_json)


def bank() -> Tensor:
    """Four kernels on the luminance of RGB pictures, ``[4, 3, 7, 7]``: a blur, two slopes, a spot finder."""
    import torch

    at = torch.arange(7.0) - 3
    bell = torch.exp(-(at**2) / 4)
    bell = bell / bell.sum()
    slope = -at * bell
    curve = (1 - at**2 / 2) * bell
    spots = torch.outer(curve, bell) + torch.outer(bell, curve)
    luminance = torch.tensor([0.299, 0.587, 0.114])
    kernels = torch.stack(
        [torch.outer(bell, bell), torch.outer(bell, slope), torch.outer(slope, bell), spots - spots.mean()]
    )
    return kernels[:, None] * luminance[:, None, None]


def make_scene(seed: int) -> Tensor:
    """An RGB picture ``[3, y, x]``: natural-like texture, an F that shows which way is up, and some spots."""
    import torch

    from fouroptics import pictures

    scene = 0.55 * pictures.natural(1, 3, SIZE, seed=seed)[0]
    letter = pictures.letter_f(SIZE)
    scene = torch.where(letter > 0, torch.tensor([0.95, 0.9, 0.6])[:, None, None], scene)
    for y, x in ((50, 48), (58, 58), (44, 60)):
        scene[:, y - 2 : y + 2, x - 2 : x + 2] = torch.tensor([0.4, 0.9, 1.0])[:, None, None]
    return scene


def difference_from_conv2d(correlator: Correlator4f, scene: Tensor) -> float:
    """Largest deviation of the field from ``conv2d`` on the turned picture, relative to the strongest response."""
    import torch

    from fouroptics.optics import grid

    expected = torch.nn.functional.conv2d(scene[None], correlator.taps, padding="same")[0]
    inner = (
        ...,
        slice(1, None),
        slice(1, None),
    )  # the turn brings in one row and column from beyond the picture
    apart = (correlator.field(scene) - grid.turn(expected))[inner].abs().max()
    return float(apart / expected.abs().max())


def draw(path: Path, correlator: Correlator4f, scene: Tensor, camera: Tensor) -> None:
    """One page: the picture, then for each output its mask (amplitude, phase) and the camera plane."""
    import torch
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from fouroptics.optics import fourier, grid

    transfer = fourier.kernel_transfer(correlator.taps.detach(), correlator.working_size)
    masks = grid.to_centred(transfer * correlator.scale.detach()[:, None, None, None])[:, 1]  # green's kernel
    clear = masks.abs() > 1e-4  # where a mask is dark it has no phase
    figure = Figure(figsize=(10, 15), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(NAMES) + 1, 3)
    axes[0, 0].imshow(scene.permute(1, 2, 0).numpy())
    axes[0, 0].set_title("picture on the input")
    for blank in axes[0, 1:]:
        blank.axis("off")
    text = axes[0, 1].text(0.05, 0.5, _legend(correlator), va="center", fontsize=10, transform=axes[0, 1].transAxes)
    text.set_in_layout(False)
    for row, name in enumerate(NAMES):
        mask, light = masks[row], camera[row]
        panels = (
            (mask.abs().numpy(), f"{name}: mask |t|", {"cmap": "gray", "vmin": 0}),
            (mask.angle().where(clear[row], torch.nan).numpy(), "mask phase [rad]", PHASE),
            (light.numpy(), "camera plane [W/m²]", {"cmap": "inferno", "vmin": 0}),
        )
        axes[row + 1, 1].set_facecolor("0.6")
        for axis, (values, title, style) in zip(axes[row + 1], panels, strict=True):
            figure.colorbar(axis.imshow(values, **style), ax=axis, shrink=0.85)
            axis.set_title(title)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(path, dpi=110)


def _legend(correlator: Correlator4f) -> str:
    bench = correlator.bench
    return "\n".join(
        [
            f"bench {bench.name}: {bench.source.wavelength * 1e9:.0f} nm, f = {bench.lens1.focal_length * 1e3:.0f} mm",
            f"{correlator.channels[1]} colours side by side → {correlator.channels[0]} outputs, one mask each",
            "masks: the part for green, frequency 0 in the middle;",
            "  |t| is their transmission in amplitude,",
            "  grey in the phase: too dark to have one",
            "camera plane: turned by 180°, as the second lens leaves it",
        ]
    )
