"""HDF5 files that are written whole: to a temporary beside the target, read back, and renamed.

A digest of every dataset goes into a manifest. A disk that is full, or a key that stops the program, finds HDF5 in the
middle of its work and may bring it down with the interpreter: so both are told only when it has let go of the file.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fouroptics.errors import InputError
from fouroptics.files import whole_file
from fouroptics.masks.h5 import MANIFEST, SLAB, Attribute, Attributes, Meter, Progress, interrupts_held, slabs

_MODEST = 2**16  # bytes that a chunk has at least, where there are so many


@dataclass(frozen=True)
class Entry:
    """A dataset to be written: an array, something that is sliced like one, or a text."""

    value: Any
    units: str = "1"
    long_name: str = ""


class Sink(io.FileIO):
    """A file that keeps its first fault to itself and pretends to go on: HDF5 cannot let go of one that it can't write.

    What was not written reads as zeros, and nothing of it is ever put in anybody's place.
    """

    fault: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data)
        try:
            while left and self.fault is None:
                left = left[super().write(left) :]
        except OSError as error:
            self.fault = error
        return len(data)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        found = super().readinto(view) or 0
        if self.fault is not None:
            view[found:] = bytes(len(view) - found)
            found = len(view)
        return found

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size) if self.fault is None else 0
        except OSError as error:
            self.fault = error
            return 0

    def tell_fault(self) -> None:
        """Raise what went wrong."""
        if self.fault is not None:
            raise self.fault


def write(
    path: Path,
    entries: Mapping[str, Entry],
    attributes: Attributes,
    verify: Callable[[Path, Progress | None], object],
    progress: Progress | None = None,
) -> None:
    """A file of datasets by path and of groups' attributes; ``/`` and ``/entry`` among them, a manifest added.

    It takes its place only if ``verify`` reads it: nothing is saved that would be refused when it is loaded. Progress
    counts every byte twice: once it is written, once it is read again.
    """
    path = _writable(path)
    size = sum(_nbytes(entry.value) for entry in entries.values())
    with whole_file(path) as temporary:
        with Sink(temporary, "x+") as sink, interrupts_held() as hear:

            def pause() -> None:
                sink.tell_fault()
                hear()

            try:
                with h5py.File(sink, "w") as file:
                    _fill(file, entries, attributes, Meter(2 * size, progress, pause))
            finally:
                sink.tell_fault()
        try:
            verify(temporary, _second_half(progress, size))
        except InputError as error:
            where = error.where.replace(str(temporary), str(path))
            raise InputError(error.what, where=where, mend="nothing was written") from None


def _writable(path: Path) -> Path:
    """Where a file may be written: nowhere, or over a mask set; through a link to what it leads to."""
    try:
        path = path.resolve()
        foreign = path.exists() and not (path.is_file() and h5py.is_hdf5(path))
    except (OSError, ValueError):
        raise InputError("is no name of a file", where=repr(str(path)), mend="such as masks.h5") from None
    if foreign:
        raise InputError("exists and is no mask set", where=str(path), mend="give another name")
    return path


def _second_half(progress: Progress | None, size: int) -> Progress | None:
    if progress is None:
        return None
    return lambda what, done, total: progress(what, size + done * size // max(total, 1), 2 * size)


def _fill(file: Any, entries: Mapping[str, Entry], attributes: Attributes, meter: Meter) -> None:
    written = {path: _write_one(file, path, entry, meter) for path, entry in entries.items()}
    for group, values in attributes.items():
        for name, value in values.items():
            file.require_group(group).attrs[name] = _as_attribute(value)
        _attach_scales(file, group, values.get("axes", []), [path for path in entries if path.startswith(f"{group}/")])
    kept = {"datasets": written, "attributes": {group: dict(values) for group, values in attributes.items()}}
    manifest = json.dumps(kept, sort_keys=True)
    _write_one(file, MANIFEST, Entry(manifest, "1", "digests of all datasets"), replace(meter, progress=None))
    file.attrs["manifest_sha256"] = _as_attribute(hashlib.sha256(manifest.encode()).hexdigest())
    file.flush()
    file.attrs["complete"] = np.int64(1)


def _attach_scales(file: Any, group: str, axes: Attribute, paths: list[str]) -> None:
    """Make a group's @axes dimension scales of its datasets that have these dimensions: by them xarray knows axes."""
    if not isinstance(axes, list) or not axes:
        return
    scales = [file[f"{group}/{name}"] for name in axes]
    for scale, name in zip(scales, axes, strict=True):
        scale.make_scale(name)
    for path in paths:
        if file[path].shape == tuple(map(len, scales)):
            for dimension, scale in zip(file[path].dims, scales, strict=True):
                dimension.attach_scale(scale)


def _write_one(file: Any, path: str, entry: Entry, meter: Meter) -> dict[str, Any]:
    """Write a dataset in parts; what the manifest says of it."""
    digest = hashlib.sha256()
    if isinstance(entry.value, str):
        raw = entry.value.encode() or b"\0"
        made = file.create_dataset(path, data=np.array(raw, dtype=h5py.string_dtype("utf-8", len(raw))))
        digest.update(raw)
        meter(path, len(raw))
    else:
        value = entry.value
        dtype = np.dtype(value.dtype).newbyteorder("<")
        if dtype.kind == "S":
            dtype = h5py.string_dtype("utf-8", dtype.itemsize)
        large = math.prod(value.shape) * dtype.itemsize > 2**12 and len(value.shape) >= 2
        chunk = _chunk(value.shape, dtype.itemsize) if large else None
        filters = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True} if large else {}
        made = file.create_dataset(path, shape=value.shape, dtype=dtype, chunks=chunk, **filters)
        for index in slabs(value.shape, dtype.itemsize, chunk):
            part = np.ascontiguousarray(value[index], dtype=dtype)
            made[index] = part
            digest.update(part.tobytes())
            meter(path, part.nbytes)
    made.attrs["units"] = _as_attribute(entry.units)
    made.attrs["long_name"] = _as_attribute(entry.long_name or path.rsplit("/", 1)[1])
    return {"sha256": digest.hexdigest(), "dtype": made.dtype.str, "shape": list(made.shape), "units": entry.units}


def _chunk(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Squares of a large mask, several masks where they are small; of a wide one as few rows as a slab has room for."""
    *outer, rows, columns = shape
    row = columns * itemsize
    rows = min(rows, max(512, _MODEST // row), max(1, SLAB // row))
    columns = min(columns, max(512, 2**18 // rows))
    chunk, room = [rows, columns], max(1, _MODEST // (rows * columns * itemsize))
    for count in reversed(outer):
        chunk.insert(0, min(count, room))
        room = room // count or 1
    return tuple(chunk)


def _nbytes(value: Any) -> int:
    return (
        len(value.encode() or b"\0")
        if isinstance(value, str)
        else math.prod(value.shape) * np.dtype(value.dtype).itemsize
    )


def _as_attribute(value: Attribute) -> Any:
    if isinstance(value, int):
        return np.int64(value)
    if isinstance(value, list):
        raws = [text.encode() for text in value]
        return np.array(raws, dtype=h5py.string_dtype("utf-8", max(map(len, raws))))
    raw = value.encode() or b"\0"
    return np.array(raw, dtype=h5py.string_dtype("utf-8", len(raw)))
