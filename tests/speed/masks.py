"""Mask sets as files: layouts against a square a pixel, HDF5 of many small masks and of a large one, and memory."""

import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import gdstk
import numpy as np
import torch

import fouroptics as fo
from fouroptics.masks import MaskSet, gds, gdsii, runs
from fouroptics.masks.etch import drawn, steps
from tests.speed import machine

BAND = 532e-9 * 0.3 / 16e-6  # of the plate's bench [m]


def plate(side, levels):
    """A double-phase mask of ``side`` pixels that carries two responses beside each other."""
    keys = {"preset": f"etched-{levels}", "pitch": f"{BAND / side!r} m", "pixels": [side, side]}
    bench = fo.Bench.load("plate-532nm").replace({"mask": keys, "lens1.pupil": None, "lens2.pupil": None})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bank = fo.Correlator4f.from_kernels(torch.randn(2, 1, 7, 7), bench, (32, 32), masks="device")
        return MaskSet.from_correlator(bank)


def as_squares(plane, path):
    """What is often done: a polygon a pixel."""
    library = gdstk.Library(unit=1e-6, precision=1e-9)
    cell = library.new_cell("PLATE")
    p = plane.pitch[0] * 1e6
    for step in steps(plane):
        for row, column in np.argwhere(drawn(plane, np.asarray(plane.levels[0]), step)):
            corner = (column * p, -row * p)
            cell.add(gdstk.rectangle(corner, (corner[0] + p, corner[1] + p), layer=step.layer))
    library.write_gds(path.with_suffix(".gds"))
    library.write_oas(path.with_suffix(".oas"))


def layouts(folder):
    masks = plate(1024, 4)
    plane = masks.planes[0]

    def stream():
        boxes = []
        x, y = gds.edges(1024, plane.pitch[1], 0.0), -gds.edges(1024, plane.pitch[0], 0.0)
        for step in steps(plane):
            found = runs.rectangles(drawn(plane, np.asarray(plane.levels[0]), step))
            boxes.append((step.layer, np.stack((x[found[:, 1]], y[found[:, 2]], x[found[:, 3]], y[found[:, 0]]), 1)))
        gdsii.write(folder / "ours.gds", 1e-9, [("TILE", boxes)], "PLATE")
        return sum(len(some) for _, some in boxes)

    count = stream()
    quick = min(machine.seconds(stream) for _ in range(5))
    whole = min(machine.seconds(lambda: gds.write(masks, folder, "whole")) for _ in range(3))
    slow = machine.seconds(lambda: as_squares(plane, folder / "squares"))
    size = {path.name: path.stat().st_size / 1e6 for path in folder.iterdir()}
    print(f"  1024² of 4 levels, {count} rectangles: GDSII {quick:.2f} s, {size['ours.gds']:.1f} MB;")
    print(f"    both files with marks and a layer map {whole:.2f} s, OASIS {size['whole.oas']:.2f} MB;")
    print(
        f"    a square a pixel, both files {slow:.1f} s, {size['squares.gds']:.0f} MB and {size['squares.oas']:.1f} MB"
    )


def stored(folder):
    masks = plate(256, 16)
    plane = masks.planes[0]
    rng = np.random.default_rng(0)
    for tiles, side in ((768, 64), (1, 4096)):
        few = rng.integers(0, 16, (tiles, side, side // 4), dtype=np.uint8)
        levels = np.repeat(few, 4, -1)
        which = np.zeros(tiles, "<i4") if tiles == 1 else np.arange(tiles, dtype="<i4")
        tiled = replace(plane, levels=levels, origin=np.zeros((tiles, 2)), frame=which)
        path = folder / "set.h5"
        write = machine.seconds(partial(replace(masks, planes=(tiled,)).save, path))
        read = machine.seconds(partial(loaded, path))
        print(
            f"  HDF5, {tiles} masks of {side}²: written, read back and renamed in {write:.2f} s, "
            f"checked and loaded in {read:.2f} s, {path.stat().st_size / 1e6:.1f} MB"
        )


def loaded(path):
    return np.asarray(MaskSet.load(path).planes[0].levels)


class Made:
    """Levels that are made up when they are asked for: ten thousand pixels a side, and never in memory."""

    def __init__(self, side):
        self.shape, self.dtype, self.nbytes = (1, side, side), np.dtype("u1"), side * side

    def __len__(self):
        return 1

    def __getitem__(self, index):
        rows, columns = (np.arange(n) for n in self.shape[1:])
        parts = [*(index if isinstance(index, tuple) else (index,)), slice(None), slice(None)][1:3]
        made = (rows[parts[0]][:, None] // 7 + columns[parts[1]] // 5) % 16
        made = made.astype("u1")
        return made if isinstance(index[0] if isinstance(index, tuple) else index, int) else made[None]


def peak():
    """Most memory that this process has had [MB]; what its parent had does not count."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) // 1024


def large(path, side=10_000):
    """Save, load, and put together a plate of 100 megapixels in one process; its peak beside what imports take."""
    bare = peak()
    masks = plate(256, 16)
    small = peak()
    levels = Made(side)
    bench = masks.bench.replace({"mask.pixels": [side, side]})
    tiled = replace(masks.planes[0], levels=levels)
    start = machine.seconds(lambda: replace(masks, bench=bench, planes=(tiled,)).save(path))
    again = []
    load = machine.seconds(lambda: again.append(MaskSet.load(path)))
    seen = machine.seconds(lambda: [strip.sum() for _, strip in again[0].plate().strips()])
    print(
        f"  {side}² pixels: saved in {start:.1f} s, checked and loaded in {load:.1f} s, put together in {seen:.1f} s; "
        f"{path.stat().st_size / 1e6:.1f} MB; peak {peak() - small} MB above a set of 256² "
        f"({small - bare} MB above the imports)"
    )


def main():
    print("\nMask sets as files")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layouts(folder)
        stored(folder)
        if not Path("/proc/self/status").exists():
            return
        code = "import sys, pathlib; from tests.speed import masks; masks.large(pathlib.Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", code, str(folder / "large.h5")], check=True)
