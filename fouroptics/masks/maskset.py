"""A mask set: what every pixel of every mask is driven to, and all that it takes to simulate it again, in one file.

The content is whole levels and the table of what they pass. Everything else that a file shows follows from them.
"""

from __future__ import annotations

import json
import math
import platform
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fouroptics
from fouroptics import toml
from fouroptics.bench import Bench
from fouroptics.bench.bench import named_files
from fouroptics.masks import etch, h5, h5_write, tree
from fouroptics.masks.h5 import Stored
from fouroptics.masks.h5_write import Entry
from fouroptics.masks.plate import Plate, put_together

if TYPE_CHECKING:
    from fouroptics.correlator import Correlator4f

Array = np.ndarray | Stored


@dataclass(frozen=True)
class LevelTable:
    """What each level passes: phase [rad], amplitude, height [m] of what is etched, and the drive that sets it."""

    phase: np.ndarray
    amplitude: np.ndarray
    height: np.ndarray
    drive: np.ndarray


@dataclass(frozen=True)
class Terms:
    """Which responses each tile carries, one row a response of one input.

    Args:
        tile: the mask it stands on.
        out_channel: of the bank.
        in_channel: of the bank.
        role: 0, or of a pair 1 for the positive and 2 for the negative part.
        frame: when it is shown.
        shift: where its response stands on the camera, ``(y, x)`` [m].
    """

    tile: np.ndarray
    out_channel: np.ndarray
    in_channel: np.ndarray
    role: np.ndarray
    frame: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Plane:
    """The masks of one plane, tile by tile.

    Args:
        kind: of device.
        encoding: how kernels were brought onto it.
        levels: ``[T, Ny, Nx]``, uint8 or uint16.
        table: what they pass; None on the ideal plate.
        pitch: of pixels ``(y, x)`` [m].
        fill_factor: by area.
        origin: of each tile's middle on the panel ``[T, 2]`` (y, x) [m] from the panel's.
        frame: when each tile is shown ``[T]``.
        terms: which responses the tiles carry.
        level_amplitude: of the ideal plate, whose ``levels`` are phases.
    """

    kind: str
    encoding: str
    levels: Array
    table: LevelTable | None
    pitch: tuple[float, float]
    fill_factor: float
    origin: np.ndarray
    frame: np.ndarray
    terms: Terms
    level_amplitude: Array | None = None


@dataclass(frozen=True)
class MaskSet:
    """Masks, their bench and their kernels.

    Args:
        title: for people.
        bench: the bench, standing alone.
        network: what the bank was built with, by ``tree.NETWORK``'s words.
        kernels: that were wanted ``[O, I, ky, kx]``, complex where they are.
        realised: what the masks make of them, in the same units.
        scale: by which each response was turned down ``[O]``, a pair's parts one after another.
        planes: of masks.
        commissioning: tiles to set the bench up with, name → levels ``[Ny, Nx]``.
        provenance: who made it, from what.
        uuid: of this set.
    """

    title: str
    bench: Bench
    network: Mapping[str, Any]
    kernels: np.ndarray
    realised: np.ndarray
    scale: np.ndarray
    planes: tuple[Plane, ...]
    commissioning: Mapping[str, np.ndarray] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @classmethod
    def from_correlator(cls, bank: Correlator4f, *, title: str = "masks") -> MaskSet:
        """The masks that a bank's device shows in evaluation.

        Raises:
            InputError: the bank's masks are ideal.
        """
        from fouroptics.masks.build import from_correlator

        return from_correlator(bank, title)

    @classmethod
    def load(cls, path: str | Path) -> MaskSet:
        """Read a file, having checked all of it; large levels stay there until they are sliced.

        Raises:
            InputError: the file is refused; the path inside it and the reason.
        """
        path = Path(path)
        found = h5.check(path, tree.is_known)
        tree.check(path, found)
        return _read(path, found)

    @staticmethod
    def validate(path: str | Path) -> None:
        """Check a file's links, types, sizes, digests and tree, and nothing else; no torch is loaded."""
        MaskSet.load(path)

    def save(self, path: str | Path, *, progress: h5.Progress | None = None) -> None:
        """Write the set, whole or not at all."""
        entries, attributes = _written(self)
        h5_write.write(Path(path), entries, attributes, MaskSet.load, progress)

    def plate(self, plane: int = 0, frame: int = 0) -> Plate:
        """The levels of the whole panel or substrate in one frame; its rows are put together when they are sliced."""
        pixels = self.bench.mask.pixels
        return put_together(self.planes[plane], (pixels[1], pixels[0]), frame)

    def correlator(self) -> Correlator4f:
        """The bank that was exported, from what is in the set alone."""
        from fouroptics.masks.build import correlator

        return correlator(self)


def _written(masks: MaskSet) -> tuple[dict[str, Entry], dict[str, dict[str, h5.Attribute]]]:
    """Datasets and attributes of a set, in the order in which they are written."""
    bench, planes = masks.bench, len(masks.planes)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    attributes: dict[str, dict[str, h5.Attribute]] = {
        "/": {
            "NX_class": "NXroot",
            "default": "entry",
            "format": h5.FORMAT,
            "format_version": ".".join(map(str, h5.VERSION)),
            "creator": f"fouroptics {fouroptics.__version__}",
            "file_time": now,
            "set_uuid": masks.uuid,
        },
        "/entry": {"NX_class": "NXentry", "default": "masks"},
        "/entry/optics": tree.CONVENTIONS,
    }
    stop = bench.stop.size if bench.stop is not None and bench.stop.size != "band" else 0.0
    entries = {
        "/entry/title": Entry(masks.title, "1", "what this set is for"),
        "/entry/bench": Entry(bench.to_toml(), "1", "the bench, resolved, as TOML"),
        "/entry/network": Entry(json.dumps(masks.network, sort_keys=True), "1", "what the bank was built with"),
        "/entry/optics/wavelength": _number(bench.source.wavelength, "m", "vacuum wavelength"),
        "/entry/optics/f1": _number(bench.lens1.focal_length, "m", "focal length before the masks"),
        "/entry/optics/f2": _number(bench.lens2.focal_length, "m", "focal length behind the masks"),
        "/entry/optics/stop": _number(float(stop), "m", "width of the stop, 0 where there is none"),
        "/entry/planes/name": Entry(_texts([tree.plane(n) for n in range(planes)]), "1", "group of a plane"),
        "/entry/planes/position": Entry(
            np.full(len(masks.planes), 2 * bench.lens1.focal_length), "m", "from the input"
        ),
        "/entry/planes/order": Entry(np.arange(len(masks.planes), dtype="<i4"), "1", "in which light meets them"),
        "/entry/kernels/target": Entry(_as_real(masks.kernels), "1", "taps that were wanted"),
        "/entry/kernels/realised": Entry(_as_real(masks.realised), "1", "taps that the masks correlate with"),
        "/entry/kernels/scale": Entry(masks.scale, "1", "by which responses were turned down"),
        "/entry/provenance": Entry(json.dumps(dict(masks.provenance), sort_keys=True), "1", "who made it, from what"),
    }
    for number, plane in enumerate(masks.planes):
        group = f"/entry/{tree.plane(number)}"
        entries |= _plane_entries(group, plane)
        attributes[group] = {
            "NX_class": "NXdata",
            "signal": "level",
            "axes": ["tile", "y", "x"],
            "kind": plane.kind,
            "encoding": plane.encoding,
            "plane": number,
        }
        if etch.is_etched(plane):
            attributes[f"{group}/etch"] = {"drawn": "etched", "side": "front", "mirror": "none", "scale": 1}
    for name, levels in masks.commissioning.items():
        entries[f"/entry/commissioning/{name}"] = Entry(levels, "1", tree.COMMISSIONING[name])
    return entries, attributes


def _plane_entries(group: str, plane: Plane) -> dict[str, Entry]:
    tiles, rows, columns = plane.levels.shape
    y, x = ((np.arange(n) - (n - 1) / 2) * pitch for n, pitch in zip((rows, columns), plane.pitch, strict=True))
    entries = {
        "level": Entry(plane.levels, "1", "level of every pixel"),
        "tile": Entry(np.arange(tiles, dtype="<i4"), "1", "number of a tile"),
        "y": Entry(y, "m", "middle of a row of pixels, row 0 at the top"),
        "x": Entry(x, "m", "middle of a column of pixels"),
        "pitch": Entry(np.array(plane.pitch), "m", "of pixels, y and x"),
        "fill_factor": _number(plane.fill_factor, "1", "by area"),
        "origin": Entry(plane.origin, "m", "middle of a tile from the panel's middle, y and x"),
        "frame": Entry(plane.frame, "1", "when a tile is shown"),
    }
    if plane.level_amplitude is not None:
        entries["level_amplitude"] = Entry(plane.level_amplitude, "1", "level of every pixel's amplitude")
    if plane.table is not None:
        entries |= {
            "level_table/phase": Entry(plane.table.phase, "rad", "delay of a level"),
            "level_table/amplitude": Entry(plane.table.amplitude, "1", "amplitude that a level passes"),
            "level_table/height": Entry(plane.table.height, "m", "height of a level above the deepest"),
            "level_table/drive": Entry(plane.table.drive, "1", "what sets a level"),
        }
        if plane.levels.nbytes * 4 <= tree.VIEWED and isinstance(plane.levels, np.ndarray):
            entries["phase"] = Entry(plane.table.phase[plane.levels].astype("<f4"), "rad", "for viewers, of level")
            entries["amplitude"] = Entry(
                plane.table.amplitude[plane.levels].astype("<f4"), "1", "for viewers, of level"
            )
    if etch.is_etched(plane):
        entries |= _etch_entries(plane)
    for name in tree.TERMS:
        units = "m" if name == "shift" else "1"
        entries[f"terms/{name}"] = Entry(getattr(plane.terms, name), units, tree.TERMS[name])
    return {f"{group}/{name}": entry for name, entry in entries.items()}


def _etch_entries(plane: Plane) -> dict[str, Entry]:
    steps = [*etch.steps(plane)]
    bits: np.ndarray = np.arange(len(steps), dtype="<i4")
    return {
        "etch/depth": Entry(np.array([step.depth for step in steps]), "m", "of a step"),
        "etch/bit": Entry(bits, "1", "of the level that a step leaves standing"),
        "etch/order": Entry(bits, "1", "in which steps are listed, the shallowest first"),
        "etch/gds_layer": Entry(np.array([step.layer for step in steps], dtype="<i4"), "1", "of the layout"),
        "etch/gds_datatype": Entry(0 * bits, "1", "of the layout"),
    }


def _read(path: Path, found: Mapping[str, Stored]) -> MaskSet:
    network = tree.network(path, h5.text(found["/entry/network"]))
    names = [str(name, "utf-8") for name in found["/entry/planes/name"][...]]
    place = f"{path}: /entry/bench"
    told = toml.parse(h5.text(found["/entry/bench"]), place)
    if outside := named_files(told):
        raise tree.wrong(path, "/entry/bench", f"{outside[0]} names a file, and a set stands alone")
    bench = Bench.from_dict(told, place=place)
    for name, due in (
        ("wavelength", bench.source.wavelength),
        ("f1", bench.lens1.focal_length),
        ("f2", bench.lens2.focal_length),
    ):
        if not math.isclose(float(found[f"/entry/optics/{name}"][()]), due, rel_tol=1e-9):
            raise tree.wrong(path, f"/entry/optics/{name}", f"is not the bench's {due:.9g} m")
    planes = tuple(_read_plane(path, found, f"/entry/{name}") for name in names)
    tree.check_numbers(path, found, bench, network)
    return MaskSet(
        title=h5.text(found["/entry/title"]).rstrip("\0"),
        bench=bench,
        network=network,
        kernels=_as_complex(found["/entry/kernels/target"], network),
        realised=_as_complex(found["/entry/kernels/realised"], {"complex": True}),
        scale=found["/entry/kernels/scale"][...],
        planes=planes,
        commissioning={
            name: found[f"/entry/commissioning/{name}"][...]
            for name in tree.COMMISSIONING
            if f"/entry/commissioning/{name}" in found
        },
        provenance=tree.texts(path, "/entry/provenance", h5.text(found["/entry/provenance"])),
        uuid=str(h5.attributes_of(path, "/").get("set_uuid", "")),
    )


def _read_plane(path: Path, found: Mapping[str, Stored], group: str) -> Plane:
    told = h5.attributes_of(path, group)

    def of(name: str) -> np.ndarray:
        values: np.ndarray = found[f"{group}/{name}"][...]
        return values

    table = None
    if f"{group}/level_table/phase" in found:
        table = LevelTable(*(of(f"level_table/{name}") for name in ("phase", "amplitude", "height", "drive")))
    pitch, bright = of("pitch"), found.get(f"{group}/level_amplitude")
    return Plane(
        kind=str(told["kind"]),
        encoding=str(told["encoding"]),
        levels=_small_or_stored(found[f"{group}/level"]),
        table=table,
        pitch=(float(pitch[0]), float(pitch[1])),
        fill_factor=float(of("fill_factor")),
        origin=of("origin"),
        frame=of("frame"),
        terms=Terms(**{name: of(f"terms/{name}") for name in tree.TERMS}),
        level_amplitude=None if bright is None else _small_or_stored(bright),
    )


def _small_or_stored(stored: Stored) -> Array:
    """Levels in memory while they are small."""
    if stored.nbytes > tree.VIEWED:
        return stored
    values: np.ndarray = stored[...]
    return values


def _number(value: float, units: str, name: str) -> Entry:
    return Entry(np.array(value, dtype="<f8"), units, name)


def _texts(texts: list[str]) -> np.ndarray:
    return np.array([text.encode() for text in texts])


def _as_real(taps: np.ndarray) -> np.ndarray:
    """Complex values as pairs, last."""
    return np.stack((taps.real, taps.imag), -1) if np.iscomplexobj(taps) else taps


def _as_complex(stored: Stored, network: Mapping[str, Any]) -> np.ndarray:
    taps: np.ndarray = stored[...]
    return taps[..., 0] + 1j * taps[..., 1] if network["complex"] else taps


def made_by() -> dict[str, str]:
    """The program and what it runs on; no path, no user."""
    from importlib.metadata import version

    packages = {name: version(name) for name in ("torch", "numpy", "h5py")}
    return {"program": "fouroptics", "version": fouroptics.__version__, "python": platform.python_version()} | packages
