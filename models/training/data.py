"""Pictures to learn from: read once, split by a seed, kept in memory as bytes.

Pictures are light: they stay in [0, 1], and what a network is used to is a layer inside it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from fouroptics.models.training.readers import READERS, Pixels, Read, Source
from fouroptics.models.training.shapes import SHAPE_NAMES, draw_shapes
from torch import Tensor
from torch.utils.data import IterableDataset

from fouroptics.errors import FailedRun, InputError, check_choice, warn
from fouroptics.tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    from fouroptics.models.training.recipe import DataSection

_MARK, SAMPLED = "<u8", 900  # a picture's mark; how many marks a file of masks holds
IGNORED = 255  # a pixel that has no class


@dataclass(frozen=True)
class Part:
    """Pictures ``[N, C, y, x]``, bytes or numbers in [0, 1], and the class of each, or of each pixel."""

    pictures: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, index: Tensor | slice) -> Part:
        """Some of them."""
        return Part(self.pictures[index], self.targets[index])

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Pictures as numbers in [0, 1] and their targets as they are compared with."""
        pictures = self.pictures[index]
        if pictures.dtype == torch.uint8:
            pictures = pictures.float() / 255
        return pictures, self.targets[index].long()

    def to(self, device: torch.device | str) -> Part:
        return Part(self.pictures.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Data:
    """What is trained on, what is chosen by, and what is reported.

    Args:
        classes: their names.
        skipped: pictures that could not be read.
        fingerprint: of all that they are.
        reported: what the part to report on is called: ``"validation"`` where there is none but that.
    """

    train: Part
    validation: Part
    test: Part
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    fingerprint: str = ""
    reported: str = "test"

    def __post_init__(self) -> None:
        if not self.fingerprint:
            parts = (self.train, self.validation, self.test)
            all_of_them = [tensor for part in parts for tensor in (part.pictures, part.targets)]
            object.__setattr__(self, "fingerprint", _digest(all_of_them))

    def some(self, count: int, seed: int) -> Tensor:
        """Training pictures drawn by a seed, numbers in [0, 1], on the processor."""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))[:count]
        return self.train.take(order.to(self.train.pictures.device)).to("cpu").batch(slice(None))[0]

    def known(self, most: int = 0) -> str:
        """A mark of every picture that is trained on or chosen by, or of so many of them, as a text."""
        marks = np.unique(np.concatenate([_marks(part.pictures) for part in (self.train, self.validation)]))
        if most and len(marks) > most:
            marks = np.random.default_rng(0).choice(marks, most, replace=False)
        return base64.b64encode(marks.tobytes()).decode()

    @property
    def is_segmentation(self) -> bool:
        return self.train.targets.dim() == 3

    @property
    def size(self) -> tuple[int, int]:
        return self.train.pictures.shape[-2], self.train.pictures.shape[-1]

    @property
    def channels(self) -> int:
        return self.train.pictures.shape[1]

    def first(self, train: int, others: int) -> Data:
        """Of each part its first pictures: for a quick look."""
        parts = self.train.take(slice(train)), self.validation.take(slice(others)), self.test.take(slice(others))
        return replace(self, train=parts[0], validation=parts[1], test=parts[2])


def load(
    reader: str,
    path: str | Path = "",
    size: tuple[int, int] = (32, 32),
    *,
    channels: str = "rgb",
    validation: float = 0.1,
    test: float = 0.1,
    split_seed: int = 0,
    strict: bool = False,
    options: Mapping[str, Any] | None = None,
    whole: bool = False,
) -> Data:
    """Pictures of a folder, decoded once and then taken from the cache.

    Args:
        reader: ``cifar10``, ``folders``, ``image-mask`` or ``shapes``.
        path: of the folder; ``shapes`` needs none.
        size: to which pictures are brought ``(y, x)``.
        channels: ``rgb`` or ``grey``.
        validation: share of the training pictures to choose by.
        test: share of all pictures to report on, where they bring no part for it.
        split_seed: of both shares.
        strict: a picture that cannot be read stops everything; else it is left out and named.
        options: more of the reader: ``preset``, ``images``, ``masks`` …; of shapes ``count``, ``seed``.
        whole: nothing is trained on: all parts are the one to report on, or all pictures if there is none.
    """
    check_choice("data.channels", channels, ("rgb", "grey"))
    more = dict(options or {})
    if reader == "shapes":
        return _shapes(size, channels, validation, test, split_seed, more)
    check_choice("data.reader", reader, (*READERS, "shapes"))
    if not path:
        raise InputError("no folder of pictures", where="data.path", mend="give one, or --data FOLDER")
    folder = Path(path).expanduser()
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(folder).decode("utf-8", "replace")
        raise InputError("is no name in UTF-8", where=shown, mend="rename it") from None
    if not folder.is_dir():
        raise InputError("there is no such folder", where=str(folder), mend="give the folder that holds the pictures")
    source = READERS[reader](folder, more)
    read, fingerprint = _cached(source, size, channels, f"{reader} {more}")
    if strict and read.skipped:
        raise InputError(
            "cannot be read as a picture", where=read.skipped[0], mend="mend or remove it, or be less strict"
        )
    return _whole(read, fingerprint) if whole else _split(read, fingerprint, validation, test, split_seed)


def for_evaluation(
    section: DataSection, path: Path | None, fingerprint: str, classes: Sequence[str], known: str = ""
) -> Data:
    """Pictures that a network was not trained on: those of a strange folder, or the test part of its own.

    ``known`` are the marks of those that it was trained on or chosen by, wherever they lie; or ``SAMPLED`` of them, of
    which no more can be told than that there are some.

    Raises:
        InputError: they are of other classes.
    """
    if path is not None and section.reader == "shapes":
        raise InputError("shapes are made, not read", where="--data", mend="evaluate on folders, or leave it out")
    if path is None:
        own = of_section(section)
        if fingerprint and own.fingerprint != fingerprint:
            what = "the network was trained on pictures of one's own, and not on these shapes"
            raise InputError(what, where="--data", mend="give a folder of such pictures")
        return own
    section = section.model_copy(update={"path": str(path.expanduser().absolute())})
    every = of_section(section, whole=True)
    is_own = fingerprint.split("-")[0] == every.fingerprint
    if is_own:  # only those it never saw; two that are alike may lie on both sides of a split
        every = of_section(section)
    if every.skipped:
        what = f"{len(every.skipped)} pictures of {path} could not be read and are left out"
        warn(f"{what}: {', '.join(every.skipped[:3])}{', …' if len(every.skipped) > 3 else ''}")
    if list(every.classes) != list(classes):
        what = f"its classes are {', '.join(every.classes)}"
        raise InputError(what, where=str(path), mend=f"the network knows {', '.join(classes)}")
    return every if is_own else _without_known(every, known, path)


def _without_known(data: Data, known: str, path: Path) -> Data:
    """Less what a network has seen: its own folder, of which a picture has changed, is no strange one."""
    marks = np.frombuffer(base64.b64decode(known), _MARK)
    seen = np.isin(_marks(data.test.pictures), marks)
    if not seen.any():
        return data
    if len(marks) == SAMPLED:
        what = f"{int(seen.sum())} of {SAMPLED} pictures that the network was trained on or chosen by lie there"
        warn(f"{path}: {what}, and others will: this is no test")
        return data
    what = f"{int(seen.sum())} of {len(seen)} pictures were trained on or chosen by"
    if seen.all():
        raise InputError(what, where=str(path), mend="pictures that the network does not know")
    warn(f"{path}: {what}, and are left out")
    return replace(data, test=data.test.take(torch.from_numpy(~seen)))


def _marks(pictures: Tensor) -> Any:
    """Eight bytes of each picture's digest."""
    rows = pictures.cpu().flatten(1).contiguous().numpy()
    return np.array([int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "little") for row in rows], _MARK)


def of_section(section: DataSection, *, whole: bool = False) -> Data:
    """The pictures that a recipe names; ``whole``: those of the part to report on, or all if there is none."""
    return load(
        section.reader, section.path, section.size, channels=section.channels, validation=section.validation,
        test=section.test, split_seed=section.split_seed, strict=section.strict, options=section.options, whole=whole,
    )  # fmt: skip


def from_datasets(train: Any, validation: Any, test: Any = None, classes: Sequence[str] = ()) -> Data:
    """Anybody's Datasets of ``(picture, target)``, read once; without one for it, what is chosen by is reported, too.

    Raises:
        InputError: pictures that are no light, or targets that are no classes.
    """
    given = {"train": train, "validation": validation} | ({} if test is None else {"test": test})
    parts = {name: _part_of(one, name) for name, one in given.items()}
    known = torch.cat([part.targets.flatten() for part in parts.values()])
    if parts["train"].targets.dim() == 3:
        known = known[known != IGNORED]
    count = int(known.max()) + 1 if known.numel() else 0
    names = tuple(classes) or tuple(str(number) for number in range(count))
    reported = "validation" if test is None else "test"
    data = Data(parts["train"], parts["validation"], parts[reported], names, reported=reported)
    _check_classes(data)
    if not classes and not data.is_segmentation:
        _check_numbers(data)
    return data


def _check_numbers(data: Data) -> None:
    """Classes that nobody named are numbers from 0 on, and have pictures."""
    there = torch.unique(data.train.targets)
    if len(there) < len(data.classes):
        lacks = next(number for number in range(len(data.classes)) if number not in there)
        mend = "number them from 0 on, or name all with fouroptics.models.training.data.from_datasets(…, classes=…)"
        raise InputError(f"no training picture is of class {lacks}", where="targets", mend=mend)


def cache_folder() -> Path:
    """Where decoded pictures are kept: ``FOUROPTICS_CACHE``, or the system's place for what can be made again."""
    named = os.environ.get("FOUROPTICS_CACHE")
    if named:
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "fouroptics" / "cache"
    place = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return Path(os.environ.get("XDG_CACHE_HOME", place)) / "fouroptics"


def _cached(source: Source, size: tuple[int, int], channels: str, told: str) -> tuple[Read, str]:
    """What was decoded before of the same files, or is now and kept; and a digest of it, wherever the files are."""
    listing = [[os.fsencode(file).hex(), *_stamp(file)] for file in source.files()]
    text = json.dumps([3, told, size, channels, listing])
    path = cache_folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"
    pixels, lost = _restored(path, source, size, channels) or _decoded(path, source, size, channels)
    read = source.told(pixels, lost)
    return read, _digest([read.parts, read.pictures, read.targets], json.dumps(read.classes))


def _restored(
    path: Path, source: Source, size: tuple[int, int], channels: str
) -> tuple[Pixels, tuple[str, ...]] | None:
    """What a file of the cache holds, if it is whole, and nothing that could not be read can be now."""
    if not path.is_file():
        return None
    try:
        tensors, about = load_tensors(path)
        pixels = Pixels(**tensors)
        if about["digest"] != _digest_of(pixels):
            raise ValueError("it is not what was written")
    except (InputError, KeyError, TypeError, ValueError):
        path.unlink(missing_ok=True)
        return None
    lacks = sorted(set(range(len(source.places))) - set(pixels.places.tolist()))
    again, lost = source.decode(size, channels, lacks) if lacks else (None, ())
    return None if again is not None and len(again.places) else (pixels, lost)


def _decoded(path: Path, source: Source, size: tuple[int, int], channels: str) -> tuple[Pixels, tuple[str, ...]]:
    pixels, lost = source.decode(size, channels)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, pixels.stored(), {"digest": _digest_of(pixels)})
    except (InputError, FailedRun, OSError):
        pass  # a full disk or a folder that is not ours: the pictures are there all the same
    return pixels, lost


def _digest_of(pixels: Pixels) -> str:
    stored = pixels.stored()
    return _digest([stored[name] for name in sorted(stored)])


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        told = file.stat()
    except OSError:  # a link to nowhere: it will be named when it is read
        return (0,)
    return told.st_size, told.st_mtime_ns, told.st_ctime_ns  # the last tells of copies that keep the one before


def _whole(read: Read, fingerprint: str) -> Data:
    part = Part(read.pictures, read.targets)
    if bool((read.parts == 2).any()):
        part = part.take(read.parts == 2)
    return Data(part, part, part, read.classes, read.skipped, fingerprint)


def _split(read: Read, fingerprint: str, validation: float, test: float, seed: int) -> Data:
    """Parts by a seed, each in random order, so that any piece of one has as much of each class as another."""
    generator = torch.Generator().manual_seed(seed)
    parts: dict[str, Tensor] = {name: (read.parts == number).nonzero()[:, 0] for number, name in enumerate(PARTS)}
    parts = {name: index[torch.randperm(len(index), generator=generator)] for name, index in parts.items()}
    for name, share in (("test", test), ("validation", validation)):
        if len(parts[name]) == 0:
            order = parts["train"]
            count = max(round(share * len(order)), min(1, len(order))) if share else 0
            parts[name], parts["train"] = _apart(order, count, read.groups)
    whole = Part(read.pictures, read.targets)
    train, held, told = (whole.take(parts[name]) for name in PARTS)
    data = Data(train, held, told, read.classes, read.skipped, f"{fingerprint}-{seed}")
    _check_classes(data)
    return data


def _apart(order: Tensor, count: int, groups: Sequence[str]) -> tuple[Tensor, Tensor]:
    """So many of them and the rest, or a few more: what is of one group stays together."""
    if not groups:
        return order[:count], order[count:]
    of_each = [groups[number] for number in order.tolist()]
    sizes, chosen, taken = Counter(of_each), set(), 0
    for group in dict.fromkeys(of_each):
        if taken >= count:
            break
        chosen.add(group)
        taken += sizes[group]
    first = torch.tensor([group in chosen for group in of_each], dtype=torch.bool)
    return order[first], order[~first]


PARTS = ("train", "validation", "test")


def _check_classes(data: Data) -> None:
    for name in PARTS:
        part: Part = getattr(data, name)
        if len(part) == 0:
            raise InputError(f"no pictures for {name}", where="data", mend="more pictures, or a larger share for it")
        known = part.targets[part.targets != IGNORED] if data.is_segmentation else part.targets
        if known.numel() and (int(known.min()) < 0 or int(known.max()) >= len(data.classes)):
            wrong = int(known.min()) if int(known.min()) < 0 else int(known.max())
            mend = f"classes are 0 … {len(data.classes) - 1}"
            raise InputError(f"a target of {wrong} among those for {name}", where="data", mend=mend)
    there = () if data.is_segmentation else torch.unique(data.train.targets).tolist()
    if len(data.classes) < 2 or len(there) == 1:
        what = f"one class only, {data.classes[there[0]]!r}" if there else "one class only"
        raise InputError(what, where="data", mend="there is nothing to tell apart: give two at least")


def _shapes(
    size: tuple[int, int], channels: str, validation: float, test: float, seed: int, options: dict[str, Any]
) -> Data:
    for name, value in options.items():
        if name not in ("count", "seed", "target"):
            raise InputError("is no option of shapes", where=f"data.options.{name}", mend="count, seed, target")
        if name != "target" and not (isinstance(value, int) and 0 <= value < 2**31):
            raise InputError(f"{value!r} is no number of them", where=f"data.options.{name}", mend="a whole number")
    check_choice("data.options.target", options.get("target", "class"), ("class", "mask"))
    count, drawn = max(1, int(options.get("count", 10_000))), int(options.get("seed", 0))
    pictures, labels, masks = draw_shapes(count, size, seed=drawn, grey=channels == "grey")
    is_segmentation = options.get("target", "class") == "mask"
    names = ("background", "shape") if is_segmentation else SHAPE_NAMES
    parts = torch.zeros(count, dtype=torch.uint8)
    read = Read(pictures, masks if is_segmentation else labels, parts, names, ())
    return _split(read, f"shapes-{count}-{size}-{drawn}-{channels}", validation, test, seed)


def _part_of(given: Any, name: str) -> Part:
    pictures, targets = [], []
    if isinstance(given, IterableDataset) or not (hasattr(given, "__len__") and hasattr(given, "__getitem__")):
        mend = "a Dataset with __len__ and __getitem__, or a list of (picture, target)"
        raise InputError(f"a {type(given).__name__} has no numbered pictures", where=name, mend=mend)
    for number in range(len(given)):
        picture, target = given[number]
        pictures.append(torch.as_tensor(picture))
        targets.append(torch.as_tensor(target))
    if not pictures:
        raise InputError("has no pictures", where=name, mend="give a Dataset with some")
    if any(one.shape != pictures[0].shape for one in pictures):
        raise InputError("pictures of several sizes", where=name, mend="bring them to one size")
    stacked = torch.stack(pictures)
    if stacked.dim() != 4:
        raise InputError(f"pictures are {[*stacked.shape[1:]]}", where=name, mend="give [channels, y, x]")
    if stacked.dtype != torch.uint8 and not 0 <= float(stacked.min()) <= float(stacked.max()) <= 1:
        what = f"pictures from {float(stacked.min()):.3g} to {float(stacked.max()):.3g}"
        raise InputError(what, where=name, mend="pictures are light, in [0, 1]; a teacher normalises inside itself")
    return Part(stacked if stacked.dtype == torch.uint8 else stacked.float(), _targets_of(targets, stacked, name))


def _targets_of(targets: Sequence[Tensor], pictures: Tensor, name: str) -> Tensor:
    """One number a picture, or one a pixel."""
    shapes = {tuple(one.shape) for one in targets}
    if not shapes <= {()} and shapes != {tuple(pictures.shape[-2:])}:
        mend = f"the number of a class, or of each pixel's [{pictures.shape[-2]}, {pictures.shape[-1]}]"
        raise InputError(f"targets are {sorted(map(list, shapes))[:3]}", where=name, mend=mend)
    stacked = torch.stack(list(targets))
    if stacked.is_floating_point() or stacked.is_complex():
        what = f"targets are {stacked.dtype}".replace("torch.", "")
        raise InputError(what, where=name, mend="whole numbers of classes, from 0 on")
    return stacked


def _digest(tensors: Sequence[Tensor], told: str = "") -> str:
    digest = hashlib.sha256(told.encode())
    for tensor in tensors:
        digest.update(repr(tensor.shape).encode())
        digest.update(tensor.cpu().reshape(-1).numpy().data)
    return digest.hexdigest()[:16]
