"""Folders of pictures as people keep them, read into one array of bytes."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fouroptics.models.training.decoding import (
    CIFAR,
    Lost,
    Masks,
    as_array,
    binary_batch,
    decoded,
    mask_of,
    or_lost,
    picture_of,
    python_batch,
)
from torch import Tensor

from fouroptics.errors import InputError, check_choice, warn
from fouroptics.files import read_text

Pair = tuple[int, int]
_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".ppm")
_PARTS = ((("train", "training"), 0), (("val", "valid", "validation"), 1), (("test",), 2))
_OF_A_GROUP = 'a pattern that names what pictures are of, such as "(.+)_[0-9]+"'


@dataclass(frozen=True)
class Read:
    """Pictures as bytes ``[N, C, y, x]``, targets, the part that each belongs to (0 train, 1 validation, 2 test).

    Pictures of a group are of one thing, and no two parts share it; without groups each is one of its own.
    """

    pictures: Tensor
    targets: Tensor
    parts: Tensor
    classes: tuple[str, ...]
    skipped: tuple[str, ...]
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pixels:
    """What takes long to decode: pictures, masks or labels where files hold them, and which places of the source each
    is of. All else follows from the source."""

    pictures: Tensor
    targets: Tensor
    places: Tensor

    def stored(self) -> dict[str, Tensor]:
        return {"pictures": self.pictures, "targets": self.targets, "places": self.places}


class Source(ABC):
    """Files that are known and not yet read."""

    places: tuple[Any, ...]

    @abstractmethod
    def files(self) -> list[Path]:
        """All that the pictures are made from."""

    @abstractmethod
    def decode(self, size: Pair, channels: str, which: Sequence[int] | None = None) -> tuple[Pixels, tuple[str, ...]]:
        """Pixels of all places or of these, and the files that cannot be read."""

    @abstractmethod
    def told(self, pixels: Pixels, lost: tuple[str, ...]) -> Read:
        """Pixels with all that is known of their places."""


@dataclass(frozen=True)
class Pictures(Source):
    """A file a picture, of one class."""

    places: tuple[tuple[Path, int, int], ...]  # file, class, part
    classes: tuple[str, ...]

    def files(self) -> list[Path]:
        return [file for file, _, _ in self.places]

    def decode(self, size: Pair, channels: str, which: Sequence[int] | None = None) -> tuple[Pixels, tuple[str, ...]]:
        numbers = range(len(self.places)) if which is None else which
        (pictures,), kept, lost = decoded(
            [self.places[number][0] for number in numbers],
            lambda file: (or_lost(file, lambda one: picture_of(one, size, channels)),),
            [(_depth(channels), *size)],
        )
        places = torch.tensor([numbers[index] for index in kept], dtype=torch.int64)
        return Pixels(pictures, torch.empty(0, dtype=torch.uint8), places), lost

    def told(self, pixels: Pixels, lost: tuple[str, ...]) -> Read:
        if not len(pixels.places):
            raise _unreadable("picture", self.places[0][0])
        labels, parts = (torch.tensor([self.places[n][which] for n in pixels.places.tolist()]) for which in (1, 2))
        return Read(pixels.pictures, labels, parts.to(torch.uint8), self.classes, lost)


@dataclass(frozen=True)
class Pairs(Source):
    """A picture and a mask beside it."""

    places: tuple[tuple[Path, Path, int], ...]  # picture, mask, part
    masks: Masks
    alone: tuple[Path, ...] = ()  # pictures without a mask
    group: str = ""  # what in a picture's name tells what it is of: a pattern with one group

    def files(self) -> list[Path]:
        return [file for picture, mask, _ in self.places for file in (picture, mask)]

    def decode(self, size: Pair, channels: str, which: Sequence[int] | None = None) -> tuple[Pixels, tuple[str, ...]]:
        def both(pair: tuple[Path, Path]) -> tuple[Any, Any]:
            mask = or_lost(pair[1], lambda one: mask_of(one, size, self.masks))
            classes, shape = (mask, size) if isinstance(mask, Lost) else mask
            return or_lost(pair[0], lambda one: picture_of(one, size, channels, like=shape)), classes

        numbers = range(len(self.places)) if which is None else which
        pairs = [self.places[number][:2] for number in numbers]
        (pictures, masks), kept, lost = decoded(pairs, both, [(_depth(channels), *size), size])
        return Pixels(pictures, masks, torch.tensor([numbers[index] for index in kept], dtype=torch.int64)), lost

    def told(self, pixels: Pixels, lost: tuple[str, ...]) -> Read:
        if not len(pixels.places):
            raise _unreadable("pair of a picture and a mask", self.places[0][0])
        masks, skipped = pixels.targets, (*lost, *map(str, self.alone))
        known = masks[masks != 255]
        if known.numel() == 0 or bool((known == known[0]).all()):
            what = f"every pixel of every mask is of class {self.masks.names[int(known[0])]!r}" if known.numel() else ""
            mend = "see data.options: threshold, colours, classes, ignored, only"
            raise InputError(what or "no pixel of any mask has a class", where=str(self.places[0][1].parent), mend=mend)
        there = [self.places[number] for number in pixels.places.tolist()]
        groups = tuple(_group_of(picture, self.group) for picture, _, _ in there) if self.group else ()
        parts = torch.tensor([part for _, _, part in there], dtype=torch.uint8)
        return Read(pixels.pictures, masks, parts, self.masks.names, skipped, groups)


@dataclass(frozen=True)
class Cifar(Source):
    """The published batches, python's or the binary ones. Nothing in them is executed."""

    places: tuple[tuple[Path, int], ...]

    def files(self) -> list[Path]:
        return [file for file, _ in self.places]

    def decode(self, size: Pair, channels: str, which: Sequence[int] | None = None) -> tuple[Pixels, tuple[str, ...]]:
        pictures, labels, places = [], [], []
        for number, (file, _) in enumerate(self.places):
            content, classes = binary_batch(file) if file.suffix == ".bin" else python_batch(file)
            pictures.append(content)
            labels.append(classes)
            places.append(np.full(len(classes), number, np.int64))
        stacked = torch.from_numpy(np.concatenate(pictures))
        if size != (32, 32) or channels == "grey":
            from PIL import Image

            brought = [as_array(Image.fromarray(one.permute(1, 2, 0).numpy()), size, channels) for one in stacked]
            stacked = torch.from_numpy(np.stack(brought))
        targets = torch.from_numpy(np.concatenate(labels).astype(np.int64))
        return Pixels(stacked, targets, torch.from_numpy(np.concatenate(places))), ()

    def told(self, pixels: Pixels, lost: tuple[str, ...]) -> Read:
        parts = torch.tensor([part for _, part in self.places], dtype=torch.uint8)[pixels.places]
        return Read(pixels.pictures, pixels.targets, parts, CIFAR, lost)


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
    learned = {number for _, number, part in places if part == 0}
    strange = [place for place in places if place[1] not in learned]
    if strange:
        mend = "pictures of it to learn from, or the same name in all parts, capitals too"
        what = f"no training picture is of class {classes[strange[0][1]]!r}"
        raise InputError(what, where=str(strange[0][0].parent), mend=mend)
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
    _no_others(options, ("preset", "images", "masks", "mask_suffix", "lists", "group", *_OF_MASKS))
    given = dict(options)
    preset, lists = given.pop("preset", None), given.pop("lists", None)
    group = str(given.pop("group", _GROUPS.get(preset, "")))
    _check_group(group)
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
    return Pairs(tuple(places), masks, tuple(alone), group)


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


_GROUPS = {"carvana": r"(.+)_\d+$"}  # each car from sixteen sides
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
    for part, role in enumerate(("train", "validation", "test")):
        if role not in lists:
            continue
        path = folder / str(lists[role])
        if not path.is_file():
            mend = "the folder that holds it, or another name in data.options.lists"
            raise InputError("there is no such list", where=str(path), mend=mend)
        for number, line in enumerate(read_text(path).splitlines(), 1):
            name, words = line.strip(), line.split()
            if len(words) == 1 or name in pictures:  # one that is not there is named with those that cannot be read
                mask = name + suffix
                places.append((pictures.get(name, images / name), beside.get(mask, masks / mask), part))
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


def _check_group(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups if pattern else 1
    except re.error as error:
        raise InputError(f"{pattern!r} is no pattern ({error})", where="data.options.group", mend=_OF_A_GROUP) from None
    if groups != 1:
        raise InputError(f"{pattern!r} has {groups} groups", where="data.options.group", mend=_OF_A_GROUP)


def _group_of(picture: Path, pattern: str) -> str:
    found = re.match(pattern, picture.stem)
    return found[1] if found else picture.stem


def _depth(channels: str) -> int:
    return 1 if channels == "grey" else 3


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
