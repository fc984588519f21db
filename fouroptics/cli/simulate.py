"""``fouroptics simulate``: what the camera shows of pictures, through a mask set and its bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fouroptics.cli.arguments import Json, Threads, say
from fouroptics.cli.progress import bar
from fouroptics.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from fouroptics.correlator import Correlator4f

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_LUMINANCE = (0.299, 0.587, 0.114)


def simulate(
    masks: Annotated[Path, typer.Argument(help="A mask set, such as masks.h5.")],
    pictures: Annotated[Path, typer.Argument(help="A picture, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="A folder; an earlier simulation in it is replaced.")] = Path("simulation"),
    noise: Annotated[bool, typer.Option("--noise", help="Draw the camera's noise, too.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the noise.")] = 0,
    resize: Annotated[bool, typer.Option("--resize", help="Bring pictures to the set's size.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 16,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Show pictures to the bench of a mask set: a PNG a picture and output, and all readings as HDF5."""
    import torch

    from fouroptics.files import whole_folder
    from fouroptics.masks import MaskSet

    torch.set_num_threads(threads)
    with bar(f"checking {masks}", as_json) as pace:
        found = MaskSet.load(masks, progress=pace)
    bank = found.correlator()
    files = _files(pictures)
    scenes = torch.stack([_fitted(file, bank.channels[1], bank.size, resize) for file in files]).to(bank.kernels)
    reading = _readings(bank, scenes, batch, seed if noise else None)
    summary = {"masks": found.uuid, "pictures": len(files), "noise": noise, "seed": seed}
    brightest = float(reading.abs().max())
    with whole_folder(out, summary) as folder:
        _write(folder, files, reading, brightest, found.uuid)
    told = summary | {"out": str(out), "reading_shape": [*reading.shape], "brightest_DN": brightest}
    shape = "×".join(map(str, reading.shape[2:]))
    text = (
        f"{len(files)} pictures, {reading.shape[1]} outputs of {shape} readings in {out}; white is {brightest:.4g} DN"
    )
    say(text, told, as_json)


def _readings(bank: Correlator4f, scenes: Tensor, batch: int, seed: int | None) -> Tensor:
    """Expected readings, or noisy ones: of each picture from its own seed, however they are split."""
    import torch

    parts = []
    with torch.no_grad():
        for first in range(0, len(scenes), batch):
            some = scenes[first : first + batch]
            if seed is None:
                parts.append(bank(some))
                continue
            for number, scene in enumerate(some, first):
                parts.append(bank.capture(scene, generator=torch.Generator().manual_seed(seed + number))[None])
    return torch.cat(parts)


def _write(folder: Path, files: list[Path], reading: Tensor, brightest: float, uuid: str) -> None:
    """Pictures from black to the brightest reading, or about grey where readings have a sign; and the numbers."""
    import h5py
    import numpy as np

    from fouroptics.files import unwritable
    from fouroptics.masks.h5_write import Sink
    from fouroptics.pictures import write

    shown = reading / max(brightest, 1e-30)
    shown = (1 + shown) / 2 if float(shown.min()) < 0 else shown
    for which, (file, outputs) in enumerate(zip(files, shown, strict=True)):
        for number, one in enumerate(outputs):
            write(folder / f"{which:04d}-{file.stem}-output-{number:03d}.png", one)
    path = folder / "readings.h5"
    try:
        with Sink(path, "x+") as sink:
            with h5py.File(sink, "w") as store:
                store["reading"] = reading.numpy()
                store["reading"].attrs["units"] = "DN"
                store["reading"].attrs["axes"] = "picture, output, y, x"
                store["picture"] = np.array([file.name.encode() for file in files])
                store.attrs["mask_set"] = uuid
            sink.tell_fault()
    except OSError as error:
        raise unwritable(path, error) from None


def _files(pictures: Path) -> list[Path]:
    if pictures.is_file():
        return [pictures]
    if not pictures.is_dir():
        raise InputError("no such picture or folder", where=str(pictures), mend="name one")
    files = sorted(path for path in pictures.iterdir() if path.suffix.lower() in _ENDINGS)
    if not files:
        raise InputError("there are no pictures in it", where=str(pictures), mend=f"such as {', '.join(_ENDINGS)}")
    return files


def _fitted(file: Path, channels: int, size: tuple[int, int], resize: bool) -> Tensor:
    """A picture of as many channels as the bank has inputs; colour becomes luminance for a single one."""
    import torch

    from fouroptics.pictures import read

    picture = read(file)
    if channels == 1 and len(picture) == 3:
        picture = (picture * torch.tensor(_LUMINANCE)[:, None, None]).sum(0, keepdim=True)
    if channels == 3 and len(picture) == 1:
        picture = picture.expand(3, -1, -1)
    if len(picture) != channels:
        what = f"{len(picture)} channels, the masks take {channels}"
        raise InputError(what, where=str(file), mend="pictures have 1 or 3 channels")
    if tuple(picture.shape[-2:]) == size:
        return picture
    if not resize:
        seen, due = (f"{height}×{width}" for height, width in (picture.shape[-2:], size))
        raise InputError(f"the picture is {seen}, the masks take {due}", where=str(file), mend="--resize")
    bent = torch.nn.functional.interpolate(picture[None], size, mode="bilinear", antialias=True, align_corners=False)
    return bent[0].clamp(0, 1)
