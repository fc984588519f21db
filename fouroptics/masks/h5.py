"""HDF5 files that are read as if a stranger had made them.

Links, types, filters, shapes and sizes are looked at before a byte of data, then every digest of the manifest. Nothing
is followed that leads out of the file, nothing is executed, and memory is bounded whatever a file declares.
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fouroptics.errors import InputError
from fouroptics.files import is_file

FORMAT, VERSION = "fouroptics-mask-set", (1, 0)
MANIFEST = "/integrity/manifest"
SLAB = 2**23  # bytes at a time
_MOST_OBJECTS, _MOST_DEPTH, _MOST_RANK = 20_000, 8, 6
_MOST_BYTES, _MOST_TEXT, _MOST_MANIFEST = 2**36, 2**21, 2**20
_SMALL = 2**16  # bytes up to which a dataset may be of any chunks
_CHUNK, _MOST_CHUNKS = (2**12, 2**22), 500_000  # bytes of a chunk, and how many there may be
_BOMB = (2**28, 200)  # bytes from which on a dataset may not inflate by more than so much
_FILTERS = [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32]
_SCALES = ("DIMENSION_LIST", "REFERENCE_LIST")  # attributes by which HDF5 ties a dataset to its dimensions' scales
_FAULTS = (OSError, ValueError, KeyError, RuntimeError, TypeError, MemoryError)  # what the library raises
_KINDS = {"u1", "u2", "u4", "i4", "i8", "f4", "f8"}
Attribute = str | int | list[str]
Attributes = Mapping[str, Mapping[str, Attribute]]
Progress = Callable[[str, int, int], None]  # the dataset, bytes done, bytes in all


@dataclass(frozen=True)
class Stored:
    """A dataset of a file that was checked; it is read when it is sliced.

    Args:
        file: the file.
        path: inside it.
        shape: of the dataset.
        dtype: of its values.
        chunk: in which it is stored.
        most: the largest value, of whole numbers without a sign.
        seen: which file it was: another that has taken its place is refused.
    """

    file: Path
    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...] | None = None
    most: int = 0
    seen: tuple[int, int, int] = (0, 0, 0)

    def __getitem__(self, index: Any) -> Any:
        if _which(self.file) != self.seen:
            raise InputError("the file has changed since it was loaded", where=str(self.file), mend="load it again")
        with _opened(self.file) as file, _told(self.file, self.path):
            return file[self.path][index]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self[...], dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass
class Meter:
    """Counts bytes part by part, tells how far it is, and hears the keyboard in between."""

    total: int
    progress: Progress | None
    hear: Callable[[], None]
    done: int = 0

    def __call__(self, what: str, size: int) -> None:
        self.hear()
        self.done += size
        if self.progress is not None:
            self.progress(what, self.done, self.total)


def _which(path: Path) -> tuple[int, int, int]:
    try:
        told = path.stat()
    except OSError:
        return (-1, -1, -1)
    return told.st_ino, told.st_size, told.st_mtime_ns


def check(path: Path, known: Callable[[str], bool], progress: Progress | None = None) -> dict[str, Stored]:
    """Look at all of a file, and at every digest; the datasets that its manifest names and that are known, by path.

    Progress counts every byte twice: once its chunk is looked at, once it is read.

    Raises:
        InputError: it is not what it says it is; the path inside it and the reason.
    """
    if not is_file(path):
        raise InputError("there is no such file", where=str(path), mend="name a mask set, such as masks.h5")
    with _opened(path) as file, interrupts_held() as hear:
        _check_head(path, file)
        found = dict(_walk(path, file))
        meter = Meter(2 * sum(stored.nbytes for stored in found.values()), progress, hear)
        for stored in found.values():
            _look_at_chunks(path, file, stored, meter)
        manifest = _manifest(path, file, found)
        due = {name: kept for name, kept in manifest["datasets"].items() if known(name)}
        named = {name: _check_digest(path, file, found, name, kept, meter) for name, kept in due.items()}
        _check_attributes(path, file, manifest["attributes"])
        meter("", meter.total - meter.done)
    return named


def attributes_of(path: Path, group: str) -> dict[str, Attribute]:
    """A group's own attributes."""
    with _opened(path) as file, _told(path, group):
        return _attributes(path, file[group], group)


def text(stored: Stored) -> str:
    """A text."""
    raw = stored[()]
    try:
        return bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise _refused(stored.file, stored.path, "the text is not UTF-8") from None


def texts(stored: Stored) -> list[str]:
    """A column of texts."""
    try:
        return [bytes(raw).decode("utf-8").rstrip("\0") for raw in stored[...]]
    except UnicodeDecodeError:
        raise _refused(stored.file, stored.path, "a text is not UTF-8") from None


def slabs(
    shape: tuple[int, ...], itemsize: int, chunk: tuple[int, ...] | None = None
) -> Iterator[tuple[slice | int, ...]]:
    """Indices of a dataset's parts, in C order, each of some megabytes, in whole chunks of the axis that is cut."""
    if not shape or not math.prod(shape):
        yield (...,)  # type: ignore[misc]
        return
    axis = _cut(shape, itemsize, chunk)
    whole = chunk[axis] if chunk else 1
    step = max(1, SLAB // (math.prod(shape[axis + 1 :]) * itemsize) // whole) * whole
    for outer in np.ndindex(*shape[:axis]):
        for first in range(0, shape[axis], step):
            yield (*outer, slice(first, min(first + step, shape[axis])))


def _cut(shape: tuple[int, ...], itemsize: int, chunk: tuple[int, ...] | None) -> int:
    """The first axis whose chunks, with all that lies behind them, are a slab; or a few, so that no chunk is cut."""
    for axis in range(len(shape) - 1):
        whole = chunk[axis] if chunk else 1
        size = whole * math.prod(shape[axis + 1 :]) * itemsize
        if size <= SLAB or (whole > 1 and size <= 4 * SLAB):
            return axis
    return len(shape) - 1


@contextmanager
def interrupts_held() -> Iterator[Callable[[], None]]:
    """Keep the keyboard's interrupts until the yielded function is called, or the end.

    Within HDF5's own calls they would be lost, or leave a file that cannot be closed.
    """
    kept: list[tuple[Any, ...]] = []
    usual = signal.getsignal(signal.SIGINT)

    def deliver() -> None:
        while kept and callable(usual):
            usual(*kept.pop())

    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield deliver
        return
    signal.signal(signal.SIGINT, lambda *told: kept.append(told))
    try:
        yield deliver
    finally:
        signal.signal(signal.SIGINT, usual)
        deliver()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        file = h5py.File(path, "r")
    except (OSError, ValueError) as error:
        what = "is no HDF5 file, or cut off" if isinstance(error, OSError) and error.errno is None else str(error)
        raise InputError(_short(what), where=str(path), mend="get the file again") from None
    with file:
        yield file


@contextmanager
def _told(path: Path, inside: str) -> Iterator[None]:
    """A fault of the library, told as one of the place where it arose."""
    try:
        yield
    except InputError:
        raise
    except _FAULTS as error:
        raise _refused(path, inside, f"cannot be read ({_short(str(error))})") from None


def _refused(path: Path, inside: str, what: str) -> InputError:
    return InputError(what, where=f"{path}: {inside}", mend="get the file again from who made it")


def _short(message: str) -> str:
    return " ".join(message.split())[:160]


def _check_head(path: Path, file: Any) -> None:
    head = _attributes(path, file, "/")
    if head.get("format") != FORMAT:
        mend = "fouroptics masks from-kernels makes one"
        raise InputError(f"this is no mask set: @format is {head.get('format')!r}", where=str(path), mend=mend)
    version = str(head.get("format_version", ""))
    major = version.split(".")[0]
    if not major.isdigit() or int(major) != VERSION[0]:
        mend = "a newer fouroptics reads it" if major.isdigit() and int(major) > VERSION[0] else "make it again"
        raise InputError(f"format version {version!r}; this program reads {VERSION[0]}.x", where=str(path), mend=mend)
    if head.get("complete") != 1:
        raise _refused(path, "/", "the file was never finished")


def _attributes(path: Path, place: Any, inside: str) -> dict[str, Attribute]:
    """Small texts, lists of them, and whole numbers; anything else is refused unread."""
    found: dict[str, Attribute] = {}
    with _told(path, inside):
        count = h5py.h5a.get_num_attrs(place.id)
        if count > 64:
            raise _refused(path, inside, f"{count} attributes")
        for index in range(count):
            attribute = h5py.h5a.open(place.id, index=index)
            name = attribute.name.decode("utf-8")
            if name in _SCALES and isinstance(place, h5py.Dataset):
                continue  # references within the file, which nothing here follows
            kind = attribute.get_type()
            if attribute.get_storage_size() > 2**14 or not _is_plain(kind, attribute.shape):
                raise _refused(path, f"{inside}@{name}", "an attribute of a kind that this format has not")
            value = place.attrs[name]
            if attribute.shape:
                found[name] = [bytes(text).decode("utf-8") for text in value]
            else:
                found[name] = int(value) if kind.get_class() == h5py.h5t.INTEGER else bytes(value).decode("utf-8")
    return found


def _is_plain(kind: Any, shape: tuple[int, ...] | None) -> bool:
    if kind.get_class() == h5py.h5t.STRING:
        return shape is not None and len(shape) <= 1 and not kind.is_variable_str()
    return bool(kind.get_class() == h5py.h5t.INTEGER) and shape == ()


def _walk(path: Path, file: Any) -> Iterator[tuple[str, Stored]]:
    """Every dataset, having looked at every link on the way; total size and number are bounded."""
    seen: set[int] = set()
    waiting = [("/", file.id, 0)]
    objects, declared = 0, 0
    while waiting:
        inside, group, depth = waiting.pop()
        with _told(path, inside):
            names = [] if group.get_num_objs() > _MOST_OBJECTS else list(group)
            objects += group.get_num_objs()
            if objects > _MOST_OBJECTS or depth > _MOST_DEPTH:
                raise _refused(path, inside, f"more than {_MOST_OBJECTS} objects or {_MOST_DEPTH} levels of groups")
            for raw in names:
                name = f"{inside.rstrip('/')}/{raw.decode('utf-8')}"
                if group.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
                    raise _refused(path, name, "a link that leads elsewhere")
                member = h5py.h5o.open(group, raw)
                address = h5py.h5o.get_info(member).addr
                if address in seen:
                    raise _refused(path, name, "a second link to the same object")
                seen.add(address)
                if isinstance(member, h5py.h5g.GroupID):
                    waiting.append((name, member, depth + 1))
                elif isinstance(member, h5py.h5d.DatasetID):
                    stored = _looked_at(path, name, member)
                    declared += stored.nbytes
                    if declared > _MOST_BYTES:
                        raise _refused(path, name, f"datasets of more than {_MOST_BYTES >> 30} GiB are declared")
                    yield name, stored
                else:
                    raise _refused(path, name, "neither a group nor a dataset")


def _looked_at(path: Path, name: str, dataset: Any) -> Stored:
    """A dataset whose declaration is one of this format's."""
    kind, plist = dataset.get_type(), dataset.get_create_plist()
    shape = dataset.get_space().shape
    if plist.get_external_count() or plist.get_layout() == h5py.h5d.VIRTUAL:
        raise _refused(path, name, "its data lie in another file")
    filters = [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]
    if filters != [one for one in _FILTERS if one in filters]:
        raise _refused(path, name, f"filters {filters}; shuffle, gzip and fletcher32 are allowed, each once, so")
    if shape is None or len(shape) > _MOST_RANK:
        raise _refused(path, name, "a shape that this format has not")
    if kind.get_class() == h5py.h5t.STRING:
        if kind.is_variable_str() or len(shape) > 1 or math.prod(shape) * kind.get_size() > _MOST_TEXT:
            raise _refused(path, name, "a text of a kind that this format has not")
    elif kind.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT) or not _is_number(kind):
        raise _refused(path, name, "a type that this format has not")
    chunked = plist.get_layout() == h5py.h5d.CHUNKED
    chunk = plist.get_chunk() if chunked else None
    stored = Stored(path.resolve(), name, tuple(shape), kind.dtype, chunk, seen=_which(path))
    declared = stored.nbytes
    if declared > _MOST_BYTES:
        raise _refused(path, name, f"{declared / 2**30:.4g} GiB are declared")
    if not chunked and (filters or declared > dataset.get_storage_size()):
        raise _refused(path, name, f"{declared} bytes are declared and {dataset.get_storage_size()} are there")
    return stored


def _is_number(kind: Any) -> bool:
    """A number as machines have it, little-endian, of all its bits."""
    plain = h5py.h5t.py_create(kind.dtype)
    return kind.dtype.str[1:] in _KINDS and kind.dtype.str[0] in "<|" and bool(kind.equal(plain))


def _look_at_chunks(path: Path, file: Any, stored: Stored, meter: Meter) -> None:
    """Every chunk is there, of a sensible size, and holds no more than it says: inflated here, within bounds."""
    name, end = stored.path, meter.done + stored.nbytes
    faults: list[BaseException] = []
    with _told(path, name):
        dataset = file[name].id
        plist = dataset.get_create_plist()
        if plist.get_layout() == h5py.h5d.CHUNKED:
            size = _check_layout(path, stored, dataset, plist.get_chunk())
            deflated = h5py.h5z.FILTER_DEFLATE in [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]

            def look(chunk: Any) -> int | None:
                try:  # what is raised through HDF5 may be lost
                    _look_at_chunk(path, name, dataset, chunk, size, deflated)
                    meter(name, min(size, end - meter.done))
                except BaseException as fault:
                    faults.append(fault)
                    return 1
                return None

            dataset.chunk_iter(look)
    if faults:
        raise faults[0]
    meter(name, end - meter.done)


def _look_at_chunk(path: Path, name: str, dataset: Any, chunk: Any, size: int, deflated: bool) -> None:
    if chunk.filter_mask or chunk.size > size + size // 64 + 1024:
        raise _refused(path, name, f"a chunk of {chunk.size} bytes where {size} are due")
    if not deflated:
        return
    try:
        raw = dataset.read_direct_chunk(chunk.chunk_offset)[1]
        inflated = zlib.decompressobj().decompress(raw, size + 1)
    except (*_FAULTS, zlib.error) as error:
        raise _refused(path, name, f"a damaged chunk ({_short(str(error))})") from None
    if len(inflated) != size:
        raise _refused(path, name, f"a chunk that would inflate beyond {size} bytes, or short of it")


def _check_layout(path: Path, stored: Stored, dataset: Any, chunk: tuple[int, ...]) -> int:
    """The bytes of a chunk, whose sizes and number are sensible."""
    name, size = stored.path, math.prod(chunk) * stored.dtype.itemsize
    count = math.prod(math.ceil(n / c) for n, c in zip(stored.shape, chunk, strict=True))
    least, most = _CHUNK
    if stored.nbytes > _SMALL and not least <= size <= most:
        raise _refused(path, name, f"chunks of {size} bytes; {least} to {most} are allowed")
    fits = all(c <= max(n, 1) for n, c in zip(stored.shape, chunk, strict=True))
    if not fits or size > most or dataset.get_space().get_simple_extent_dims(True) != stored.shape:
        raise _refused(path, name, "chunks or room beyond its shape")
    if stored.nbytes > _BOMB[0] and stored.nbytes > _BOMB[1] * dataset.get_storage_size():
        raise _refused(path, name, f"{dataset.get_storage_size()} bytes that would inflate to {stored.nbytes}")
    if stored.nbytes > _SMALL and any(c > 1 for c in chunk[: _cut(stored.shape, stored.dtype.itemsize, chunk)]):
        raise _refused(path, name, f"chunks of {[*chunk]} would be read for every row again")
    if count > _MOST_CHUNKS or dataset.get_num_chunks() != count:
        raise _refused(path, name, f"{dataset.get_num_chunks()} chunks where {count} are due")
    return size


def _manifest(path: Path, file: Any, found: Mapping[str, Stored]) -> dict[str, Any]:
    if MANIFEST not in found or found[MANIFEST].nbytes > _MOST_MANIFEST:
        raise _refused(path, MANIFEST, "is missing, or too large")
    with _told(path, MANIFEST):
        raw = bytes(file[MANIFEST][()])
    if hashlib.sha256(raw).hexdigest() != _attributes(path, file, "/").get("manifest_sha256"):
        raise _refused(path, MANIFEST, "is not the one that was written: its digest differs")
    try:
        manifest = json.loads(raw)
        parts = (manifest["datasets"], manifest["attributes"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _refused(path, MANIFEST, "is no manifest") from None
    if not all(isinstance(part, dict) and all(isinstance(v, dict) for v in part.values()) for part in parts):
        raise _refused(path, MANIFEST, "is no manifest")
    known: dict[str, Any] = manifest
    return known


def _check_digest(
    path: Path, file: Any, found: Mapping[str, Stored], name: str, kept: Mapping[str, Any], meter: Meter
) -> Stored:
    stored = found.get(name)
    if stored is None:
        raise _refused(path, name, "is missing")
    if [*stored.shape] != kept.get("shape") or stored.dtype.str != kept.get("dtype"):
        raise _refused(path, name, f"is {stored.dtype.str} of {[*stored.shape]}, and was written otherwise")
    with _told(path, name):
        units = _attributes(path, file[name], name).get("units")
    if units != kept.get("units"):
        raise _refused(path, f"{name}@units", f"is {units!r} and was written {str(kept.get('units'))[:40]!r}")
    digest, most = hashlib.sha256(), 0
    for part in _parts(path, file, stored):
        digest.update(part.tobytes())
        most = max(most, int(part.max(initial=0))) if stored.dtype.kind == "u" else 0
        meter(name, part.nbytes)
    if digest.hexdigest() != kept.get("sha256"):
        raise _refused(path, name, "is damaged: its digest differs")
    return replace(stored, most=most)


def _parts(path: Path, file: Any, stored: Stored) -> Iterator[np.ndarray]:
    """All of a dataset, some megabytes at a time."""
    with _told(path, stored.path):
        dataset = file[stored.path]
        if stored.dtype.kind == "S":
            yield np.asarray(dataset[()], dtype=stored.dtype)
            return
        for index in slabs(stored.shape, stored.dtype.itemsize, dataset.chunks):
            yield np.ascontiguousarray(dataset[index])


def _check_attributes(path: Path, file: Any, kept: Mapping[str, Mapping[str, Any]]) -> None:
    for group, values in kept.items():
        with _told(path, group):
            place = file[group]
        found = _attributes(path, place, group)
        for name, value in values.items():
            if found.get(name) != value:
                raise _refused(path, f"{group}@{name}", f"is {found.get(name)!r} and was written {value!r}")
