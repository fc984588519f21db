"""From a bank of correlators to a mask set, and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fouroptics import units
from fouroptics.bench import Bench
from fouroptics.correlator import Correlator4f, panel
from fouroptics.correlator.masks import MaskPlan
from fouroptics.devices import material
from fouroptics.devices.modulator import Table
from fouroptics.errors import InputError
from fouroptics.imperfections import Tolerances
from fouroptics.imperfections.fields import named
from fouroptics.masks.limits import Limits
from fouroptics.masks.maskset import MaskSet, made_by
from fouroptics.masks.plane import LevelTable, Plane, Terms
from fouroptics.masks.tree import TERMS
from fouroptics.optics import fourier
from fouroptics.pictures import letter_f

_WORD = 1 << 16  # of the ideal plate's levels: amplitude · 2¹⁶ + phase


def from_correlator(
    bank: Correlator4f, title: str, rules: Limits | None = None, tolerances: Tolerances | None = None
) -> MaskSet:
    """The masks that a bank's device shows in evaluation."""
    if bank.device is None:
        mend = "build the bank with masks='device'"
        raise InputError("ideal masks are no masks that can be made", where="masks", mend=mend)
    device, training = bank.device, bank.training
    try:
        bank.eval()
        with torch.no_grad():
            scale, levels = device.scale(bank.kernels), bank.masks
            shown = device.plan.transmitted(levels, bank.kernels.dtype)
            realised = device.plan.realised(shown) / scale[:, None, None, None]
    finally:
        bank.train(training)
    return MaskSet(
        title=title,
        bench=bank.bench.standing_alone(),
        network=_network(bank),
        kernels=_array(bank.taps),
        realised=_array(realised),
        scale=_array(scale),
        planes=(_plane(device.plan, levels),),
        commissioning=_commissioning(device.plan, bank.taps.detach()),
        provenance=made_by(),
        rules=rules,
        sigmas={} if tolerances is None else _sigmas(tolerances, bank.bench),
    )


def correlator(masks: MaskSet) -> Correlator4f:
    """The bank that was exported; the same numbers on the same machine, dtype and threads."""
    told, plane = masks.network, masks.planes[0]
    if len(masks.planes) != 1:
        raise InputError(
            f"{len(masks.planes)} planes of masks", where="planes", mend="a 4f has one: masks.select(plane=0)"
        )
    dtype = {"float32": torch.float32, "float64": torch.float64}.get(told["dtype"])
    if dtype is None:
        raise InputError(f"{told['dtype']!r} is no precision", where="network.dtype", mend="float32 or float64")
    levels = torch.from_numpy(np.asarray(plane.levels[...]).astype(np.int64))
    if plane.level_amplitude is not None:
        levels = levels + torch.from_numpy(np.asarray(plane.level_amplitude[...]).astype(np.int64)) * _WORD
    kernels = torch.from_numpy(np.ascontiguousarray(masks.kernels))
    pool = told.get("sensor_pool")
    bank = Correlator4f(
        masks.bench,
        kernels.to(torch.promote_types(dtype, torch.complex64) if kernels.is_complex() else dtype),
        (told["size"][0], told["size"][1]),
        upright=told["upright"],
        stop=told["stop"],
        light=told["light"],
        readout=told["readout"],
        compand=told["compand"],
        sensor_pool=None if pool is None else (pool[0], pool[1]),
        masks="device",
        begin=(levels, torch.from_numpy(masks.scale)),
    )
    _check_places(bank, plane)
    check_devices(masks)
    if told.get("exposure") is not None:
        bank.expose(seconds=told["exposure"])
    return bank.eval()


def _check_places(bank: Correlator4f, plane: Plane) -> None:
    """Tiles stand where the bank's own masks stand, and carry the same responses."""
    assert bank.device is not None
    own = _plane(bank.device.plan, bank.masks)
    alike = own.origin.shape == plane.origin.shape and np.allclose(own.origin, plane.origin, rtol=0, atol=1e-9)
    for one, other in ((own.frame, plane.frame), *((getattr(own.terms, n), getattr(plane.terms, n)) for n in TERMS)):
        alike = alike and one.shape == other.shape and np.allclose(one, other, rtol=0, atol=1e-9)
    if not alike:
        what = "tiles stand, or carry responses, as the bench would not have them"
        raise InputError(what, where="masks", mend="of masks that stand side by side simulate the whole set")


def _sigmas(tolerances: Tolerances, bench: Bench) -> dict[str, str]:
    """One sigma of every field that varies: of a uniform one its half width over √3."""
    share = {"normal": 1.0, "uniform": 1 / math.sqrt(3)}
    return {
        name: units.text(share[one.shape] * one.size.si(named(name), bench), named(name).kind)
        for name, one in tolerances.distributions.items()
        if one.shape in share
    }


def check_devices(masks: MaskSet) -> None:
    """Every plane's table is what the bench's own mask device passes.

    Raises:
        InputError: it is not, or of another kind of device.
    """
    for plane in masks.planes:
        _check_table(masks.bench, panel.table_of(masks.bench), plane)


def _check_table(bench: Bench, own: Table | None, plane: Plane) -> None:
    if (own is None) != (plane.table is None) or bench.mask.kind != plane.kind:
        raise InputError("is of another kind of device than the bench's mask", where="masks", mend="export it again")
    if own is None or plane.table is None:
        return
    pairs = (
        (_array(own.phase), plane.table.phase),
        (_array(own.amplitude), plane.table.amplitude),
        (_heights(bench, len(own)), plane.table.height),
    )
    units = (1.0, 1.0, bench.source.wavelength)
    for (ours, theirs), unit in zip(pairs, units, strict=True):
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=0, atol=1e-9 * unit):
            raise InputError("is not what the bench's mask passes", where="level_table", mend="export it again")


def _network(bank: Correlator4f) -> dict[str, Any]:
    exposure = float(bank.shutter)
    told = {
        "size": [*bank.size],
        "channels": [*bank.channels],
        "kernel": [*bank.taps.shape[-2:]],
        "complex": bank.is_complex,
        "dtype": str(bank.kernels.dtype).removeprefix("torch."),
        "upright": bank.upright,
        "stop": bank.stop,
        "light": bank.light,
        "readout": bank.readout,
        "compand": bank.compand,
    }
    if bank.sensor_pool is not None:
        told["sensor_pool"] = [*bank.sensor_pool]
    return told if np.isnan(exposure) else told | {"exposure": exposure}


def _plane(plan: MaskPlan, levels: Tensor) -> Plane:
    bench, mask = plan.bench, plan.bench.mask
    values = _array(levels)
    ideal = plan.modulator.table is None
    most = _WORD if ideal else plan.modulator.levels
    small = np.dtype("<u1") if most <= 256 else np.dtype("<u2")
    middle = (mask.pixels[1] - 1) / 2, (mask.pixels[0] - 1) / 2
    origin = [
        [(first + (n - 1) / 2 - m) * mask.pitch for first, n, m in zip(o, plan.count, middle, strict=True)]
        for o in plan.origins
    ]
    arms = len(set(plan.origins))
    sample = bench.input.sample * bench.lens2.focal_length / bench.lens1.focal_length
    bank = plan.channels[0] // plan.pairs
    terms = plan.terms
    return Plane(
        kind=mask.kind,
        encoding=mask.encoding,
        levels=(values % _WORD if ideal else values).astype(small),
        table=None if ideal else _table(plan),
        pitch=(mask.pitch, mask.pitch),
        fill_factor=mask.fill_factor,
        origin=np.array(origin),
        frame=_whole([tile // arms for tile in range(plan.masks)]),
        terms=Terms(
            tile=_whole([t.mask for t in terms]),
            out_channel=_whole([t.output % bank for t in terms]),
            in_channel=_whole([t.input for t in terms]),
            role=_whole([0 if plan.pairs == 1 else 1 + t.output // bank for t in terms]),
            frame=_whole([t.mask // arms for t in terms]),
            shift=np.array([[c * sample for c in t.centre] for t in terms]),
        ),
        level_amplitude=(values // _WORD).astype(small) if ideal else None,
    )


def _commissioning(plan: MaskPlan, taps: Tensor) -> dict[str, np.ndarray]:
    """Tiles of two states, half a turn apart or dark and bright, and a kernel of one tap."""
    if plan.modulator.table is None:
        return {}
    rows, columns = plan.count
    y, x = np.arange(rows)[:, None], np.arange(columns)
    down, along = y - (rows - 1) / 2, x - (columns - 1) / 2
    patterns = {
        "blank": np.zeros((rows, columns), bool),
        "checkerboard": (y // 16 + x // 16) % 2 == 1,
        "crosshair": (np.abs(down) <= 1.5) | (np.abs(along) <= 1.5),
        "focus_star": np.floor(np.arctan2(down, along) * 36 / np.pi) % 2 == 1,
        "orientation_f": letter_f((rows, columns)).numpy() > 0,
    }
    states = torch.tensor([0.0, 1.0 if plan.modulator.shows == "amplitude" else np.pi], dtype=torch.float64)
    low, high = _small(_array(plan.modulator.nearest(states)), plan)
    found = {name: np.where(pattern, high, low) for name, pattern in patterns.items()}
    tap = torch.zeros_like(taps if plan.pairs == 1 else torch.cat((taps, taps)))
    centre = [fourier.kernel_centre(k) for k in plan.kernel]
    tap[0, 0, centre[0], centre[1]] = 1
    first = slice(0, 1)
    found["single_tap"] = _small(_array(plan.levels(plan.encode(tap, first)[0], first)[0]), plan)
    return found


def _small(levels: np.ndarray, plan: MaskPlan) -> np.ndarray:
    return levels.astype("<u1" if plan.modulator.levels <= 256 else "<u2")


def _table(plan: MaskPlan) -> LevelTable:
    table = plan.modulator.table
    assert table is not None
    heights = _heights(plan.bench, len(table))
    return LevelTable(_array(table.phase), _array(table.amplitude), heights, np.arange(len(table), dtype=float))


def _heights(bench: Bench, levels: int) -> np.ndarray:
    """Of an etched plate's levels above the deepest [m]; of others 0."""
    mask = bench.mask
    if mask.kind != "multilevel_phase":
        return np.zeros(levels)
    index = float(material.index(mask.medium or material.PLATE, bench.source.wavelength))
    step = mask.step_depth or bench.source.wavelength / (levels * (index - 1))
    return np.arange(levels) * step


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().resolve_conj().numpy())


def _whole(values: list[int]) -> np.ndarray:
    return np.array(values, dtype="<i4")
