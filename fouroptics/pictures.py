"""Pictures in and out, and test pictures that need no download: natural-like ones and an orientation chart."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fouroptics.errors import InputError
from fouroptics.files import write_whole


def natural(count: int, channels: int, size: tuple[int, int], *, seed: int = 0) -> Tensor:
    """Pictures with the 1/f amplitude spectrum of natural scenes, ``[count, channels, y, x]`` in [0, 1].

    Mean ½, contrast ¼ before the range is clipped, channels half alike.
    """
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, channels, *size, generator=generator, dtype=torch.float32)
    white = white + torch.randn(count, 1, *size, generator=generator, dtype=torch.float32)
    fy, fx = (torch.fft.fftfreq(n, dtype=torch.float32) for n in size)
    radius = torch.hypot(fy[:, None], fx[None, : size[1] // 2 + 1])
    radius[0, 0] = torch.inf
    texture: Tensor = torch.fft.irfft2(torch.fft.rfft2(white) / radius, s=size)
    spread = texture.std(dim=(-2, -1), keepdim=True, correction=0).clamp_min(1e-12)
    return (0.5 + 0.25 * texture / spread).clamp(0, 1)


def letter_f(size: tuple[int, int]) -> Tensor:
    """A white F on black, ``[y, x]``: no turn or mirror leaves it as it is."""
    height, width = size
    chart = torch.zeros(size)
    top, bottom, left, right = height // 6, height - height // 6, width // 4, width - width // 4
    stroke_y, stroke_x = max(1, height // 8), max(1, width // 8)
    chart[top:bottom, left : left + stroke_x] = 1
    chart[top : top + stroke_y, left:right] = 1
    middle = (top + bottom - stroke_y) // 2
    chart[middle : middle + stroke_y, left : right - stroke_x] = 1
    return chart


def read(path: str | Path) -> Tensor:
    """A picture file of 1 to 16 bits as ``[channels, y, x]`` in [0, 1]: one channel for grey, three for colour."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            mode, deep = image.mode, image.mode.startswith("I;16")
            grey = deep or mode in ("1", "L", "LA", "La")
            array = np.asarray(image if deep else image.convert("L" if grey else "RGB")).astype(np.float32)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        raise InputError("not a readable picture", where=str(path), mend="give a PNG, JPEG, BMP or TIFF") from None
    if mode in ("I", "F"):
        raise InputError("more than 16 bits a value have no agreed white", where=str(path), mend="save it with 8 or 16")
    planes = torch.from_numpy(array[None] if grey else array.transpose(2, 0, 1).copy())
    return planes / (65535 if deep else 255)


def write(path: str | Path, picture: Tensor) -> None:
    """Write ``[y, x]``, ``[1, y, x]`` or ``[3, y, x]`` in [0, 1] as an 8-bit PNG, row 0 on top."""
    from PIL import Image

    picture = picture[0] if picture.dim() == 3 and len(picture) == 1 else picture
    array = (picture.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array if array.ndim == 2 else array.transpose(1, 2, 0)).save(buffer, format="PNG")
    write_whole(path, buffer.getvalue())
