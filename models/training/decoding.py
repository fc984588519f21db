"""Files of pictures and masks, decoded into arrays of bytes. Nothing in them is executed or believed."""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fouroptics.errors import InputError
from fouroptics.memory import require

Pair = tuple[int, int]
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # a tag of EXIF as Pillow's Image.Transpose undoes it
_ON_THEIR_SIDE = (5, 4, 6, 2)


@dataclass(frozen=True)
class Masks:
    """How masks tell the class of a pixel.

    Args:
        classes: names.
        colours: of each class; left out, a mask's numbers are the classes.
        ignored: number of what has no class.
        threshold: of a grey mask with two classes: from here on a pixel is of the second.
        only: the one class that is told from the rest.
    """

    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...] = ()
    ignored: tuple[int, ...] = (255,)
    threshold: int | None = None
    only: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The classes that targets are of."""
        return ("rest", self.only) if self.only is not None else self.classes


@dataclass(frozen=True)
class Lost:
    """A file that cannot be read."""

    file: Path


def or_lost(file: Path, decode: Callable[[Path], Any]) -> Any:
    """A decoder meets all that a file can be damaged by, and raises whatever it likes."""
    try:
        return decode(file)
    except (InputError, MemoryError):
        raise
    except Exception:
        return Lost(file)


def decoded(
    items: Sequence[Any], decode: Callable[[Any], tuple[Any, ...]], shapes: Sequence[tuple[int, ...]]
) -> tuple[list[Tensor], list[int], tuple[str, ...]]:
    """Arrays of bytes, one of each shape an item; numbers of the items that are whole; files that are not.

    By threads, for decoders let others run; each writes where its item will stay.
    """
    needed = len(items) * sum(math.prod(shape) for shape in shapes)
    require(2 * needed, "cpu", what=f"{len(items)} pictures, and their parts", mend="smaller ones, or fewer")
    arrays = [np.empty((len(items), *shape), np.uint8) for shape in shapes]

    def one(index: int) -> tuple[Path, ...]:
        found = decode(items[index])
        lost = tuple(each.file for each in found if isinstance(each, Lost))
        if not lost:
            for array, each in zip(arrays, found, strict=True):
                array[index] = each
        return lost

    with ThreadPoolExecutor() as pool:
        lost = list(pool.map(one, range(len(items))))
    kept = [index for index, files in enumerate(lost) if not files]
    whole = [torch.from_numpy(array if len(kept) == len(items) else array[kept]) for array in arrays]
    return whole, kept, tuple(str(file) for files in lost for file in files)


def picture_of(file: Path, size: Pair, channels: str, *, like: Pair | None = None) -> Any:
    from PIL import Image

    with Image.open(file) as image:
        width, height = image.size
        turn = _turn_of(image)
        image.draft("RGB", (2 * size[1], 2 * size[0]))  # a JPEG that is far larger is decoded smaller
        if like is not None and turn in _ON_THEIR_SIDE and (like[0] - like[1]) * (height - width) > 0:
            turn = None  # a mask that lies as the file's own rows do: whoever painted it did not turn the picture
        return as_array(image, size, channels, turn, fit=like is None)


def _turn_of(image: Any) -> Any:
    """What turns a picture upright that was taken on its side, as its file says; other tags may say anything."""
    try:
        return _TURNS.get(image.getexif().get(0x0112))
    except Exception:
        return None


def as_array(image: Any, size: Pair, channels: str, turn: Any = None, *, fit: bool = True) -> Any:
    """``[C, y, x]`` bytes; ``fit`` keeps the proportions and takes the middle, else the whole is stretched."""
    from PIL import Image, ImageOps

    turned = image if turn is None else image.transpose(turn)
    if turned.mode.startswith("I;16"):  # sixteen bits to eight
        turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
    if turned.mode in ("I", "F"):
        raise OSError("more than 16 bits a value have no agreed white")
    shown = turned.convert("L" if channels == "grey" else "RGB")
    there = (size[1], size[0])
    way = Image.Resampling.BILINEAR  # which in this library takes the mean where it makes pictures smaller
    if shown.size != there:
        shown = ImageOps.fit(shown, there, way) if fit else shown.resize(there, way)
    array = np.asarray(shown)
    return array[None].copy() if array.ndim == 2 else array.transpose(2, 0, 1).copy()


def mask_of(file: Path, size: Pair, masks: Masks) -> tuple[Any, Pair]:
    """``[y, x]`` bytes, the class of each pixel, 255 for none; and how large the file's are, as they are shown."""
    from PIL import Image

    with Image.open(file) as image:
        turn = _turn_of(image)
        turned = image if turn is None else image.transpose(turn)
        two_tone = turned.mode == "1"
        if masks.colours or (turned.mode == "P" and masks.threshold is not None and masks.threshold > 1):
            shown = turned.convert("RGB" if masks.colours else "L")  # a palette's colours count, not its numbers
        else:
            shown = turned if turned.mode in ("P", "L", "1", "I;16", "I") else _grey(turned, masks, file)
        array = np.asarray(shown.resize((size[1], size[0]), Image.Resampling.NEAREST)).astype(np.int64)
    found = _classes_of(array, masks, file, two_tone=two_tone)
    if masks.only is not None:
        found = _told_apart(found, masks.classes.index(masks.only))
    return found, (turned.size[1], turned.size[0])


def _grey(image: Any, masks: Masks, file: Path) -> Any:
    """A mask of three channels that are one; if they are not, its colours say the classes."""
    if masks.threshold is None:
        colours = np.asarray(image.convert("RGB"))
        if (colours != colours[..., :1]).any():
            mend = "list the colour of each class in data.options.colours"
            raise InputError("its pixels are colours, and classes have none", where=str(file), mend=mend)
    return image.convert("L")


def _classes_of(array: Any, masks: Masks, file: Path, *, two_tone: bool) -> Any:
    if masks.threshold is not None:
        return (array >= (1 if two_tone else masks.threshold)).astype(np.uint8)
    found = np.full(array.shape[:2], 255, np.uint8)
    if masks.colours:
        for number, colour in enumerate(masks.colours):
            found[(array == np.array(colour)).all(-1)] = number
        return found
    known = np.isin(array, masks.ignored, invert=True)
    if (array[known] >= len(masks.classes)).any():
        what = f"a pixel of class {int(array[known].max())}, of {len(masks.classes)} that there are"
        raise InputError(what, where=str(file), mend="name all classes, or list the number in data.options.ignored")
    found[known] = array[known]
    return found


def _told_apart(found: Any, number: int) -> Any:
    """1 where a pixel is of the class, 0 where of another, 255 where of none."""
    return np.where(found == 255, 255, found == number).astype(np.uint8)


def binary_batch(file: Path) -> tuple[Any, Any]:
    rows = np.fromfile(file, np.uint8)
    if rows.size == 0 or rows.size % 3073:
        raise InputError("is no CIFAR-10 batch", where=str(file), mend="get it again: rows of 1 + 3072 bytes")
    rows = rows.reshape(-1, 3073)
    _check_cifar(rows[:, 0], file)
    return rows[:, 1:].reshape(-1, 3, 32, 32).copy(), rows[:, 0]


def _check_cifar(labels: Any, file: Path) -> None:
    if max(labels) >= len(CIFAR):
        what = f"a label of {int(max(labels))}, and the classes are 0 … {len(CIFAR) - 1}"
        raise InputError(what, where=str(file), mend="get it again")


def python_batch(file: Path) -> tuple[Any, Any]:
    """Its two values, picked out of the list of a pickle's operations without carrying out any."""
    content, labels, last = b"", [], ""
    try:
        for operation, value, _ in pickletools.genops(file.read_bytes()):
            if isinstance(value, str | bytes) and operation.name not in ("GLOBAL",):
                raw = value.encode("latin-1") if isinstance(value, str) else value
                if len(raw) < 64:
                    last = raw.decode("latin-1")
                elif len(raw) % 3072 == 0 and len(raw) > len(content):
                    content = raw
            elif operation.name in ("BININT1", "BININT", "INT", "BININT2") and last == "labels":
                labels.append(int(str(value)))
    except (ValueError, UnicodeError, OverflowError) as error:
        raise InputError(f"is no batch of CIFAR-10 ({error})", where=str(file), mend="get it again") from None
    if not content or len(labels) != len(content) // 3072:
        raise InputError("is no CIFAR-10 batch", where=str(file), mend="get it again")
    _check_cifar(labels, file)
    return np.frombuffer(content, np.uint8).reshape(-1, 3, 32, 32).copy(), np.array(labels)
