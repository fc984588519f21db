"""A mask set as datasets of a file, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fouroptics
from fouroptics import toml
from fouroptics.bench import Bench
from fouroptics.bench.bench import named_files
from fouroptics.devices import material
from fouroptics.errors import InputError
from fouroptics.masks import etch, h5, marks, tree
from fouroptics.masks.h5 import Stored
from fouroptics.masks.h5_write import Entry
from fouroptics.masks.limits import Limits
from fouroptics.masks.plane import Array, LevelTable, Plane, Terms
from fouroptics.masks.plate import upper_left

if TYPE_CHECKING:
    from fouroptics.masks.maskset import MaskSet


class _Shown:
    """What a table says of levels, looked up where it is sliced: all at once it is eight times as large as they are."""

    def __init__(self, table: np.ndarray, levels: np.ndarray) -> None:
        self.table, self.levels = table.astype("<f4"), levels
        self.dtype, self.shape = self.table.dtype, levels.shape

    def __getitem__(self, index: Any) -> np.ndarray:
        values: np.ndarray = self.table[self.levels[index]]
        return values


def written(masks: MaskSet) -> tuple[dict[str, Entry], dict[str, dict[str, h5.Attribute]]]:
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
    entries = {
        "/entry/title": Entry(masks.title, "1", "what this set is for"),
        "/entry/bench": Entry(bench.to_toml(), "1", "the bench, resolved, as TOML"),
        "/entry/network": Entry(json.dumps(masks.network, sort_keys=True), "1", "what the bank was built with"),
        "/entry/planes/name": Entry(_texts([tree.plane(n) for n in range(planes)]), "1", "group of a plane"),
        "/entry/kernels/target": Entry(_as_real(masks.kernels), "1", "taps that were wanted"),
        "/entry/kernels/realised": Entry(_as_real(masks.realised), "1", "taps that the masks correlate with"),
        "/entry/kernels/scale": Entry(masks.scale, "1", "by which responses were turned down"),
        "/entry/provenance": Entry(json.dumps(dict(masks.provenance), sort_keys=True), "1", "who made it, from what"),
    }
    for number, plane in enumerate(masks.planes):
        group = f"/entry/{tree.plane(number)}"
        entries |= {f"{group}/{name}": entry for name, entry in _content_of(plane).items()}
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
    entries |= derived(masks) | _device_entries(masks)
    attributes["/entry/plate"] = {"layout": f"inputs {bench.layout.inputs}, outputs {bench.layout.outputs}"}
    if masks.rules is not None:
        entries |= _rules_entries(masks, masks.rules)
    for name, tensor in masks.backend.items():
        entries[f"/entry/backend/{name}"] = Entry(tensor, "1", "of the electronics, as it was learned")
    if masks.results:
        entries["/entry/results"] = Entry(json.dumps(dict(masks.results), sort_keys=True), "1", "what it is worth")
    for name, levels in masks.commissioning.items():
        entries[f"/entry/commissioning/{name}"] = Entry(levels, "1", tree.COMMISSIONING[name])
    return entries, attributes


def derived(masks: MaskSet) -> dict[str, Entry]:
    """What follows from the rest of a set, and stands in its file for people and for readers without this program."""
    bench, planes = masks.bench, len(masks.planes)
    stop = bench.stop.size if bench.stop is not None and bench.stop.size != "band" else 0.0
    entries = {
        "/entry/optics/wavelength": _number(bench.source.wavelength, "m", "vacuum wavelength"),
        "/entry/optics/f1": _number(bench.lens1.focal_length, "m", "focal length before the masks"),
        "/entry/optics/f2": _number(bench.lens2.focal_length, "m", "focal length behind the masks"),
        "/entry/optics/stop": _number(float(stop), "m", "width of the stop, 0 where there is none"),
        "/entry/planes/position": Entry(np.full(planes, 2 * bench.lens1.focal_length), "m", "from the input"),
        "/entry/planes/order": Entry(np.arange(planes, dtype="<i4"), "1", "in which light meets them"),
    }
    for number, plane in enumerate(masks.planes):
        here = _derived_of(plane)
        if bench.mask.dead and math.prod(plane.levels.shape) <= tree.VIEWED:
            here["valid"] = Entry(_alive(masks, plane), "1", "1, or 0 where a pixel of the panel is stuck")
        entries |= {f"/entry/{tree.plane(number)}/{name}": entry for name, entry in here.items()}
    return entries | _plate_entries(masks)


def check_derived(path: Path, found: Mapping[str, Stored], masks: MaskSet) -> None:
    """Refuse a file in which what follows from the rest does not.

    Raises:
        InputError: the path inside it.
    """
    for name, entry in derived(masks).items():
        stored = found.get(name)
        if stored is not None and not _says(stored, entry.value):
            raise tree.wrong(path, name, "does not follow from the rest of the file")


def _says(stored: Stored, due: Any) -> bool:
    """Whether a dataset is what is due, to the rounding of another machine."""
    if isinstance(due, str):
        return h5.text(stored).rstrip("\0") == due
    if stored.shape != due.shape:
        return False
    parts = ((stored[index], due[index]) for index in h5.slabs(stored.shape, stored.dtype.itemsize, stored.chunk))
    if due.dtype.kind != "f":
        return all(np.array_equal(told, wanted) for told, wanted in parts)
    near = 1e-6 if due.dtype.itemsize == 4 else 1e-9
    return all(np.allclose(told, wanted, rtol=near, atol=0) for told, wanted in parts)


def _alive(masks: MaskSet, plane: Plane) -> np.ndarray:
    """Which pixels of the tiles are not stuck."""
    alive = np.ones(plane.levels.shape, np.uint8)
    size = plane.levels.shape[1:]
    corners = np.rint(upper_left(plane, masks.bench.mask.pixels[::-1])).astype(int)
    for x, y, _ in masks.bench.mask.stuck:
        row, column = y - corners[:, 0], x - corners[:, 1]
        on = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
        alive[on, row[on], column[on]] = 0
    return alive


def _plate_entries(masks: MaskSet) -> dict[str, Entry]:
    """The panel or substrate, the crosses beside its masks where it is drawn, and what an etched one is made of."""
    bench, plane = masks.bench, masks.planes[0]
    entries = {
        "/entry/plate/size": Entry(np.array(bench.mask.extent), "m", "of the panel, y and x"),
        "/entry/plate/guard": _number(bench.layout.guard, "m", "dark border round each picture on the input"),
    }
    if plane.kind in (etch.ETCHED, etch.CHROME):
        x, y = np.array(marks.crosses_at(marks.around(plane, bench.mask.extent))).T
        entries |= {
            "/entry/plate/fiducials/x": Entry(x, "m", "middle of a cross, to the right of the panel's"),
            "/entry/plate/fiducials/y": Entry(y, "m", "middle of a cross, above the panel's"),
            "/entry/plate/fiducials/size": Entry(np.full(len(x), marks.CROSS), "m", "side of a cross"),
            "/entry/plate/fiducials/type": Entry(_texts(["cross"] * len(x)), "1", "of mark"),
        }
    if plane.kind == etch.ETCHED:
        medium = bench.mask.medium or material.PLATE
        at = bench.source.wavelength
        entries |= {
            "/entry/material/name": Entry(medium if isinstance(medium, str) else "by a table", "1", "of the plate"),
            "/entry/material/wavelength": Entry(np.array([at]), "m", "of the index"),
            "/entry/material/index": Entry(np.array([material.index(medium, at)]), "1", "of refraction"),
        }
    return entries


def _device_entries(masks: MaskSet) -> dict[str, Entry]:
    """Modulator and camera as used, each value with one sigma where tolerances tell it; deviations beside them."""
    told = masks.bench.to_dict()
    values = {f"{part}.{key}": str(value) for part in ("mask", "camera") for key, value in told[part].items()}
    values = {name: value if len(value) <= 80 else "see /entry/bench" for name, value in values.items()}
    rows = values | {name: "0" for name in masks.sigmas if name not in values}
    columns = {
        "name": ([*rows], "what is used, or can be off"),
        "value": ([*rows.values()], "with its unit; 0 of what should not be"),
        "sigma": ([masks.sigmas.get(name, "") for name in rows], "one, with its unit; nothing where it is not told"),
    }
    return {f"/entry/device/{name}": Entry(_texts(column), "1", what) for name, (column, what) in columns.items()}


def _rules_entries(masks: MaskSet, limits: Limits) -> dict[str, Entry]:
    from fouroptics.masks.rules import check

    report = check(masks, limits)
    pixel = min(masks.planes[0].pitch)
    return {
        "/entry/design_rules/min_feature": _number(limits.min_feature or pixel, "m", "narrowest drawn line"),
        "/entry/design_rules/min_gap": _number(limits.min_gap or pixel, "m", "narrowest space between lines"),
        "/entry/design_rules/min_area": _number(limits.min_area, "m^2", "smallest island and hole"),
        "/entry/design_rules/grid": _number(limits.grid, "m", "addresses of the writer"),
        "/entry/design_rules/limits": Entry(json.dumps(limits.to_dict()), "1", "all that is asked for, as JSON"),
        "/entry/design_rules/report": Entry(json.dumps(report.data), "1", "what breaks them, as JSON"),
    }


def _content_of(plane: Plane) -> dict[str, Entry]:
    """What a plane is: its levels, what they pass, where and when tiles stand, and what they carry."""
    entries = {
        "level": Entry(plane.levels, "1", "level of every pixel"),
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
    for name in tree.TERMS:
        units = "m" if name == "shift" else "1"
        entries[f"terms/{name}"] = Entry(getattr(plane.terms, name), units, tree.TERMS[name])
    return entries


def _derived_of(plane: Plane) -> dict[str, Entry]:
    tiles, rows, columns = plane.levels.shape
    y, x = ((np.arange(n) - (n - 1) / 2) * pitch for n, pitch in zip((rows, columns), plane.pitch, strict=True))
    entries = {
        "tile": Entry(np.arange(tiles, dtype="<i4"), "1", "number of a tile"),
        "y": Entry(y, "m", "middle of a row of pixels, row 0 at the top"),
        "x": Entry(x, "m", "middle of a column of pixels"),
        "pitch": Entry(np.array(plane.pitch), "m", "of pixels, y and x"),
        "fill_factor": _number(plane.fill_factor, "1", "by area"),
    }
    levels = plane.levels
    if plane.table is not None and isinstance(levels, np.ndarray) and levels.nbytes * 4 < tree.VIEWED:
        entries["phase"] = Entry(_Shown(plane.table.phase, levels), "rad", "for viewers, of level")
        entries["amplitude"] = Entry(_Shown(plane.table.amplitude, levels), "1", "for viewers, of level")
        if plane.kind == etch.ETCHED:
            entries["height"] = Entry(_Shown(plane.table.height, levels), "m", "for viewers, of level")
    return entries | (_etch_entries(plane) if etch.is_etched(plane) else {})


def _etch_entries(plane: Plane) -> dict[str, Entry]:
    steps = [*etch.steps(plane)]
    bits: np.ndarray = np.arange(len(steps), dtype="<i4")
    return {
        "etch/depth": Entry(np.array([step.depth for step in steps]), "m", "of a step"),
        "etch/depth_tolerance": Entry(
            np.array([step.tolerance for step in steps]), "m", f"that together cost {etch.LOSS:.0%} of the light"
        ),
        "etch/tone": Entry(_texts(["etched"] * len(steps)), "1", "what is drawn on a layer"),
        "etch/overlay_pairs": Entry(
            np.array([[s.layer, s.layer + 1] for s in steps[:-1]], "<i4").reshape(-1, 2), "1", "layers with a mark"
        ),
        "etch/bit": Entry(bits, "1", "of the level that a step leaves standing"),
        "etch/order": Entry(bits, "1", "in which steps are listed, the shallowest first"),
        "etch/gds_layer": Entry(np.array([step.layer for step in steps], dtype="<i4"), "1", "of the layout"),
        "etch/gds_datatype": Entry(0 * bits, "1", "of the layout"),
    }


def read(path: Path, found: Mapping[str, Stored]) -> dict[str, Any]:
    """What a ``MaskSet`` is made of, from a file's datasets that were checked one by one."""
    network = tree.network(path, h5.text(found["/entry/network"]))
    names = [str(name, "utf-8") for name in found["/entry/planes/name"][...]]
    place = f"{path}: /entry/bench"
    told = toml.parse(h5.text(found["/entry/bench"]), place)
    if outside := named_files(told):
        raise tree.wrong(path, "/entry/bench", f"{outside[0]} names a file, and a set stands alone")
    bench = Bench.from_dict(told, place=place)
    planes = tuple(_read_plane(path, found, f"/entry/{name}") for name in names)
    tree.check_numbers(path, found, bench, network)
    return dict(
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
        backend=tree.tensors(found),
        results=tree.json_object(path, "/entry/results", h5.text(found["/entry/results"]))
        if "/entry/results" in found
        else {},
        rules=_read_rules(path, found),
        sigmas=_read_sigmas(path, found),
        provenance=tree.texts(path, "/entry/provenance", h5.text(found["/entry/provenance"])),
        uuid=str(h5.attributes_of(path, "/").get("set_uuid", "")),
    )


def _read_sigmas(path: Path, found: Mapping[str, Stored]) -> dict[str, str]:
    if "/entry/device/sigma" not in found:
        return {}
    names, sigmas = (h5.texts(found[f"/entry/device/{column}"]) for column in ("name", "sigma"))
    return {name: sigma for name, sigma in zip(names, sigmas, strict=True) if sigma}


def _read_rules(path: Path, found: Mapping[str, Stored]) -> Limits | None:
    where = "/entry/design_rules/limits"
    if where not in found:
        return None
    try:
        return Limits.load(None, tree.json_object(path, where, h5.text(found[where])))
    except InputError as error:
        raise tree.wrong(path, where, f"{error.where}: {error.what}") from None


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
    return np.array([text.encode() or b"\0" for text in texts])


def _as_real(taps: np.ndarray) -> np.ndarray:
    """Complex values as pairs, last."""
    return np.stack((taps.real, taps.imag), -1) if np.iscomplexobj(taps) else taps


def _as_complex(stored: Stored, network: Mapping[str, Any]) -> np.ndarray:
    taps: np.ndarray = stored[...]
    return taps[..., 0] + 1j * taps[..., 1] if network["complex"] else taps
