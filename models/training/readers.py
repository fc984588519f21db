"""Folders of pictures as people keep them, read into one array of bytes."""

from __future__ import annotations

import json
import pickletools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fouroptics.errors import InputError, check_choice, warn
from fouroptics.files import read_text

Pair = tuple[int, int]
_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".ppm")
_PARTS = ((("train", "training"), 0), (("val", "valid", "validation"), 1), (("test",), 2))
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Read:
    """Pictures as bytes ``[N, C, y, x]``, targets, the part that each belongs to (0 train, 1 validation, 2 test)."""

    pictures: Tensor
    targets: Tensor
    parts: Tensor
    classes: tuple[str, ...]
    skipped: tuple[str, ...]

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        tensors = {"pictures": self.pictures, "targets": self.targets, "parts": self.parts}
        return tensors, {"classes": json.dumps(self.classes), "skipped": json.dumps(self.skipped)}

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], told: Mapping[str, str]) -> Read:
        classes, skipped = (tuple(json.loads(told[name])) for name in ("classes", "skipped"))
        return cls(tensors["pictures"], tensors["targets"], tensors["parts"], classes, skipped)


class Source(ABC):
    """Files that are known and not yet read."""

    @abstractmethod
    def files(self) -> list[Path]:
        """All that the pictures are made from."""

    @abstractmethod
    def read(self, size: Pair, channels: str) -> Read:
        """Decode them."""


@dataclass(frozen=True)
class Pictures(Source):
    """A file a picture, of one class."""

    places: tuple[tuple[Path, int, int], ...]  # file, class, part
    classes: tuple[str, ...]

    def files(self) -> list[Path]:
        return [file for file, _, _ in self.places]

    def read(self, size: Pair, channels: str) -> Read:
        found = _decoded([file for file, _, _ in self.places], lambda file: _picture(file, size, channels))
        kept = [number for number, one in enumerate(found) if one is not None]
        skipped = tuple(str(file) for (file, _, _), one in zip(self.places, found, strict=True) if one is None)
        if not kept:
            raise _unreadable("picture", self.places[0][0])
        pictures = torch.from_numpy(np.stack([found[number] for number in kept]))
        labels, parts = (torch.tensor([self.places[number][which] for number in kept]) for which in (1, 2))
        return Read(pictures, labels, parts.to(torch.uint8), self.classes, skipped)


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
class Pairs(Source):
    """A picture and a mask beside it."""

    places: tuple[tuple[Path, Path, int], ...]  # picture, mask, part
    masks: Masks
    alone: tuple[Path, ...] = ()  # pictures without a mask

    def files(self) -> list[Path]:
        return [file for picture, mask, _ in self.places for file in (picture, mask)]

    def read(self, size: Pair, channels: str) -> Read:
        def both(pair: tuple[Path, Path]) -> tuple[Any, Any]:
            return _picture(pair[0], size, channels, fit=False), _mask(pair[1], size, self.masks)

        found = _decoded([(picture, mask) for picture, mask, _ in self.places], both)
        kept = [number for number, one in enumerate(found) if one is not None]
        skipped = tuple(str(pair[0]) for pair, one in zip(self.places, found, strict=True) if one is None)
        skipped += tuple(map(str, self.alone))
        if not kept:
            raise _unreadable("pair of a picture and a mask", self.places[0][0])
        pictures, masks = (torch.from_numpy(np.stack([found[number][which] for number in kept])) for which in (0, 1))
        known = masks[masks != 255]
        if known.numel() == 0 or bool((known == known[0]).all()):
            what = f"every pixel of every mask is of class {self.masks.names[int(known[0])]!r}" if known.numel() else ""
            mend = "see data.options: threshold, colours, classes, ignored, only"
            raise InputError(what or "no pixel of any mask has a class", where=str(self.places[0][1].parent), mend=mend)
        parts = torch.tensor([self.places[number][2] for number in kept], dtype=torch.uint8)
        return Read(pictures, masks, parts, self.masks.names, skipped)


@dataclass(frozen=True)
class Cifar(Source):
    """The published batches, python's or the binary ones. Nothing in them is executed."""

    places: tuple[tuple[Path, int], ...]

    def files(self) -> list[Path]:
        return [file for file, _ in self.places]

    def read(self, size: Pair, channels: str) -> Read:
        pictures, labels, parts = [], [], []
        for file, part in self.places:
            content, classes = _binary_batch(file) if file.suffix == ".bin" else _python_batch(file)
            pictures.append(content)
            labels.append(classes)
            parts.append(np.full(len(classes), part, np.uint8))
        stacked = torch.from_numpy(np.concatenate(pictures))
        if size != (32, 32) or channels == "grey":
            from PIL import Image

            brought = [
                _as_array(Image.fromarray(one.permute(1, 2, 0).numpy()), size, channels, fit=True) for one in stacked
            ]
            stacked = torch.from_numpy(np.stack(brought))
        targets = torch.from_numpy(np.concatenate(labels).astype(np.int64))
        return Read(stacked, targets, torch.from_numpy(np.concatenate(parts)), _CIFAR, ())


def folders(folder: Path, options: Mapping[str, Any]) -> Pictures:
    """A folder a class; these in ``train`` and ``test`` where the pictures bring a part to report on."""
    _no_others(options, ())
    named = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    tops = [
        (named[name], part)
        for names, part in _PARTS
        for name in names
        if name in named and any(_holds_pictures(entry) for entry in named[name].iterdir())
    ]
    trees = tops if any(part == 0 for _, part in tops) else [(folder, 0)]
    places_of = [entry for tree, _ in trees for entry in sorted(tree.iterdir()) if _is_shown(entry)]
    classes = tuple(sorted({entry.name for entry in places_of if _holds_pictures(entry)}))
    if not classes:
        mend = "a folder a class, pictures in each; these in train and test if there are two parts"
        raise InputError("holds no folders of pictures", where=str(folder), mend=mend)
    empty = [str(entry) for entry in places_of if entry.name not in classes]
    if empty:
        warn(f"no pictures in {', '.join(empty[:3])}{', …' if len(empty) > 3 else ''}: no class of that name")
    places = [
        (file, number, part)
        for tree, part in trees
        for number, name in enumerate(classes)
        for file in _pictures_in(tree / name)
    ]
    return Pictures(tuple(places), classes)


def cifar10(folder: Path, options: Mapping[str, Any]) -> Cifar:
    """``data_batch_1`` … ``test_batch``, as python's or as binary files, there or one folder further down."""
    _no_others(options, ())
    for place in (folder, *sorted(entry for entry in folder.iterdir() if entry.is_dir())):
        for ending in ("", ".bin"):
            train = [place / f"data_batch_{number}{ending}" for number in range(1, 6)]
            test = place / f"test_batch{ending}"
            if all(file.is_file() for file in (*train, test)):
                return Cifar((*((file, 0) for file in train), (test, 2)))
    mend = 'data_batch_1 … data_batch_5 and test_batch; folders of pictures are read by reader = "folders"'
    raise InputError("holds no CIFAR-10 batches", where=str(folder), mend=mend)


def image_mask(folder: Path, options: Mapping[str, Any]) -> Pairs:
    """Pictures and masks of the same names in two folders, or by lists; a preset knows where."""
    _no_others(options, ("preset", "images", "masks", "mask_suffix", "lists", *_OF_MASKS))
    given = dict(options)
    preset, lists = given.pop("preset", None), given.pop("lists", None)
    if preset is not None:
        check_choice("data.options.preset", preset, tuple(PRESETS))
        places, masks = PRESETS[preset](folder)
    else:
        images, beside = (folder / str(given.pop(key, key)) for key in ("images", "masks"))
        suffix = str(given.pop("mask_suffix", ""))
        places = _beside(images, beside, suffix, 0) if lists is None else _listed(folder, lists, images, beside, suffix)
        masks = Masks(("background", "object"), threshold=128)
    masks = _changed(masks, given)
    paired = {picture for picture, _, _ in places}
    beside_them = sorted({picture.parent for picture in paired})
    alone = (
        []
        if preset == "voc2012" or lists
        else [file for one in beside_them for file in _pictures_in(one) if file not in paired]
    )
    if not places:
        raise InputError(
            "holds no pairs of a picture and a mask", where=str(folder), mend="see data.options: images, masks, preset"
        )
    return Pairs(tuple(places), masks, tuple(alone))


READERS: dict[str, Callable[[Path, Mapping[str, Any]], Source]] = {
    "cifar10": cifar10,
    "folders": folders,
    "image-mask": image_mask,
}
Place = tuple[Path, Path, int]
_OF_MASKS = ("classes", "colours", "ignored", "threshold", "only")
_CAMVID = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"
)  # fmt: skip
_VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def _camvid(folder: Path) -> tuple[list[Place], Masks]:
    places = [
        place
        for name, part in (("train", 0), ("val", 1), ("test", 2))
        for place in _beside(folder / name, folder / f"{name}annot", "", part)
    ]
    return places, Masks(_CAMVID, ignored=(11, 255))


def _voc2012(folder: Path) -> tuple[list[Place], Masks]:
    lists = {name: f"ImageSets/Segmentation/{file}.txt" for name, file in (("train", "train"), ("test", "val"))}
    return _listed(folder, lists, folder / "JPEGImages", folder / "SegmentationClass", ""), Masks(_VOC)


def _carvana(folder: Path) -> tuple[list[Place], Masks]:
    return _beside(folder / "train", folder / "train_masks", "_mask", 0), Masks(("background", "car"), threshold=1)


def _portraits(folder: Path) -> tuple[list[Place], Masks]:
    masks = Masks(("background", "person"), threshold=128)
    for images, beside in (("Training_Images", "Ground_Truth"), ("images", "masks"), ("images_data_crop", "GT_png")):
        if (folder / images).is_dir() and (folder / beside).is_dir():
            return _beside(folder / images, folder / beside, "_mask" if beside == "GT_png" else "", 0), masks
    mend = "Training_Images beside Ground_Truth, or images beside masks"
    raise InputError("holds no portraits", where=str(folder), mend=mend)


PRESETS: dict[str, Callable[[Path], tuple[list[Place], Masks]]] = {
    "camvid": _camvid,
    "voc2012": _voc2012,
    "carvana": _carvana,
    "portraits": _portraits,
}


def _beside(images: Path, masks: Path, suffix: str, part: int) -> list[Place]:
    for folder in (images, masks):
        if not folder.is_dir():
            raise InputError("there is no such folder", where=str(folder), mend="pictures and masks in two folders")
    known = {file.stem: file for file in _pictures_in(masks)}
    return [(file, known[file.stem + suffix], part) for file in _pictures_in(images) if file.stem + suffix in known]


def _listed(folder: Path, lists: Any, images: Path, masks: Path, suffix: str) -> list[Place]:
    """Pairs that lists name, a line each: what both are called in their folders, or two files from ``folder`` on."""
    if not isinstance(lists, Mapping) or not lists or not set(lists) <= {"train", "validation", "test"}:
        mend = '{ train = "train.txt", validation = "val.txt", test = "test.txt" }'
        raise InputError(f"{lists!r} are no lists", where="data.options.lists", mend=mend)
    pictures, beside = ({file.stem: file for file in _pictures_in(one)} for one in (images, masks))
    places: list[Place] = []
    for part, name in enumerate(("train", "validation", "test")):
        if name not in lists:
            continue
        path = folder / str(lists[name])
        if not path.is_file():
            mend = "the folder that holds it, or another name in data.options.lists"
            raise InputError("there is no such list", where=str(path), mend=mend)
        for number, line in enumerate(read_text(path).splitlines(), 1):
            words = line.split()
            if len(words) == 1:  # one that is not there is named with those that cannot be read
                mask = words[0] + suffix
                places.append((pictures.get(words[0], images / words[0]), beside.get(mask, masks / mask), part))
            elif len(words) == 2:
                places.append((folder / words[0], folder / words[1], part))
            elif words:
                mend = f"a name of a picture in {images.name} and a mask in {masks.name}, or two files"
                raise InputError(f"{line.strip()[:80]!r} names no pair", where=f"{path}: line {number}", mend=mend)
    return places


def _changed(masks: Masks, given: Mapping[str, Any]) -> Masks:
    """What a recipe says of masks, over what a preset says."""
    values = {name: getattr(masks, name) for name in _OF_MASKS}
    for name, value in given.items():
        values[name] = (
            tuple(tuple(one) if isinstance(one, list) else one for one in value)
            if isinstance(value, list | tuple)
            else value
        )
    if "threshold" not in given and set(given) & {"colours", "classes", "ignored"}:
        values["threshold"] = None
    if values["colours"] and len(values["colours"]) != len(values["classes"]):
        what = f"{len(values['colours'])} colours of {len(values['classes'])} classes"
        raise InputError(what, where="data.options.colours", mend="one a class")
    if values["only"] is not None:
        check_choice("data.options.only", values["only"], values["classes"])
        if values["only"] == "rest":
            raise InputError(
                "'rest' is what all others are called", where="data.options.only", mend="call the class otherwise"
            )
    return Masks(**values)


def _no_others(options: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in options:
        if name not in known:
            mend = f"it knows {', '.join(known)}" if known else "it has no options"
            raise InputError("is no option of this reader", where=f"data.options.{name}", mend=mend)


def _unreadable(what: str, first: Path) -> InputError:
    """All of them: the first is named."""
    mend = "get the pictures again, or choose another reader"
    return InputError(f"cannot be read, nor can any other {what} there", where=str(first), mend=mend)


def _holds_pictures(entry: Path) -> bool:
    return _is_shown(entry) and next(_pictures_within(entry), None) is not None


def _is_shown(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".") and entry.name != "__MACOSX"


def _pictures_within(folder: Path) -> Iterator[Path]:
    return (file for file in folder.iterdir() if file.suffix.lower() in _ENDINGS and not file.name.startswith("."))


def _pictures_in(folder: Path) -> list[Path]:
    return sorted(_pictures_within(folder)) if folder.is_dir() else []


def _decoded(items: Sequence[Any], decode: Callable[[Any], Any]) -> list[Any]:
    """Each decoded, or None where it cannot be; by threads, for decoders let others run."""
    from PIL import Image

    def one(item: Any) -> Any:
        try:
            return decode(item)
        except InputError:
            raise
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, items))


def _picture(file: Path, size: Pair, channels: str, *, fit: bool = True) -> Any:
    from PIL import Image

    with Image.open(file) as image:
        image.draft("RGB", (2 * size[1], 2 * size[0]))  # a JPEG that is far larger is decoded smaller
        return _as_array(image, size, channels, fit=fit)


def _as_array(image: Any, size: Pair, channels: str, *, fit: bool) -> Any:
    """``[C, y, x]`` bytes; ``fit`` keeps the proportions and takes the middle, else the whole is stretched."""
    from PIL import Image, ImageOps

    turned = ImageOps.exif_transpose(image)
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


def _mask(file: Path, size: Pair, masks: Masks) -> Any:
    """``[y, x]`` bytes, the class of each pixel, 255 for none."""
    from PIL import Image, ImageOps

    with Image.open(file) as image:
        turned = ImageOps.exif_transpose(image)
        two_tone = turned.mode == "1"
        if masks.colours or (turned.mode == "P" and masks.threshold is not None and masks.threshold > 1):
            shown = turned.convert("RGB" if masks.colours else "L")  # a palette's colours count, not its numbers
        else:
            shown = turned if turned.mode in ("P", "L", "1", "I;16", "I") else _grey(turned, masks, file)
        array = np.asarray(shown.resize((size[1], size[0]), Image.Resampling.NEAREST)).astype(np.int64)
    found = _classes_of(array, masks, file, two_tone=two_tone)
    return found if masks.only is None else _told_apart(found, masks.classes.index(masks.only))


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


def _binary_batch(file: Path) -> tuple[Any, Any]:
    rows = np.fromfile(file, np.uint8)
    if rows.size == 0 or rows.size % 3073:
        raise InputError("is no CIFAR-10 batch", where=str(file), mend="get it again: rows of 1 + 3072 bytes")
    rows = rows.reshape(-1, 3073)
    _check_cifar(rows[:, 0], file)
    return rows[:, 1:].reshape(-1, 3, 32, 32).copy(), rows[:, 0]


def _check_cifar(labels: Any, file: Path) -> None:
    if max(labels) >= len(_CIFAR):
        what = f"a label of {int(max(labels))}, and the classes are 0 … {len(_CIFAR) - 1}"
        raise InputError(what, where=str(file), mend="get it again")


def _python_batch(file: Path) -> tuple[Any, Any]:
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
