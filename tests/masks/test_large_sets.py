"""Large sets are written and read by the slab, within a bounded memory, and sets of any shape in chunks that fit."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import h5py
import numpy as np
import pytest

from fouroptics.masks import MaskSet, h5, h5_write
from tests.masks.made import masks_of


@pytest.fixture(scope="module")
def masks():
    return masks_of({"preset": "slm-phase-8bit", "crosstalk": "0 um"}, (2, 1), side=98)


MADE = """
import json, re, sys, time
from dataclasses import replace
import numpy as np
from fouroptics.masks import MaskSet, tree

class Made:
    "Levels that are made up where they are sliced."
    def __init__(self, tiles):
        self.shape, self.dtype, self.nbytes = (tiles, 512, 512), np.dtype("u1"), tiles * 2**18
    def __len__(self):
        return self.shape[0]
    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        whole = (*index, *[slice(None)] * (3 - len(index)))
        tile, y, x = (np.arange(n)[part] for n, part in zip(self.shape, whole))
        rings = np.add.outer((y * y) >> 3, (x * x) >> 3).astype("u1")
        return np.bitwise_xor.outer((tile * 37 % 256).astype("u1"), rings)

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

what, small, path, tiles, tree.VIEWED = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
masks, levels = MaskSet.load(small), Made(tiles)
if what == "show":
    levels = levels[:]
bare, start = peak(), time.perf_counter()
if what != "load":
    plane = replace(masks.planes[0], levels=levels, origin=np.zeros((tiles, 2)), frame=np.arange(tiles, dtype="<i4"))
    replace(masks, planes=(plane,)).save(path)
else:
    found = MaskSet.load(path).planes[0].levels
    loaded = time.perf_counter() - start
    assert not isinstance(found, np.ndarray)
    assert found.shape == levels.shape
    for first in range(0, tiles, 20):
        assert np.array_equal(found[first : first + 20], levels[first : first + 20])
print(json.dumps({"MB": peak() - bare, "s": loaded if what == "load" else time.perf_counter() - start}))
"""


def made(what, *arguments):
    """What a process of its own needs, in MB beyond a small set and in seconds."""
    command = [sys.executable, "-c", MADE, what, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells no peak")


@needs_proc
@pytest.mark.parametrize(("tiles", "viewed"), [(200, 2**20), pytest.param(2000, 2**26, marks=pytest.mark.slow)])
def test_a_large_set_is_saved_and_loaded_within_a_bounded_memory(masks, tmp_path, tiles, viewed):
    masks.save(tmp_path / "small.h5")
    for what in ("save", "load"):
        needed = made(what, tmp_path / "small.h5", tmp_path / "large.h5", tiles, viewed)
        print(f"{tiles} masks of 512²: {what} in {needed['s']:.1f} s, {needed['MB']:.0f} MB")
        assert needed["MB"] < 64


@needs_proc
def test_what_viewers_are_shown_is_never_in_memory_at_once(masks, tmp_path):
    masks.save(tmp_path / "small.h5")
    assert made("show", tmp_path / "small.h5", tmp_path / "shown.h5", 40, 2**26)["MB"] < 64
    with h5py.File(tmp_path / "shown.h5") as file:
        level, phase = (file[f"entry/masks/{name}"] for name in ("level", "phase"))
        assert phase.dtype == "<f4"
        for tile in (0, 39):
            assert np.array_equal(phase[tile], masks.planes[0].table.phase.astype("f4")[level[tile]])


SHAPES = [
    (5000,), (7, 3), (2000, 2), (64, 3, 7, 7, 2), (16, 3, 31, 31), (768, 64, 64), (83, 70, 70), (300, 32, 32),
    (9, 512, 512), (1, 1038, 1038), (2, 100, 2000), (1, 10_000, 10_000), (1, 1024, 12_000), (1, 3, 4_000_000),
    (1, 1_000_000, 4), (3, 2**17, 2**17),
]  # fmt: skip


def span(part, n):
    """Where a part of an axis begins, and how much it is."""
    found = range(n)[slice(None) if part is None else part]
    return (found, 1) if isinstance(found, int) else (found.start, len(found))


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_slabs_are_whole_chunks_in_order_and_small(shape, itemsize):
    chunk = h5_write._chunk(shape, itemsize) if len(shape) > 1 else None
    most, end = 0, 0
    for index in h5.slabs(shape, itemsize, chunk):
        firsts, lengths = zip(*(span(part, n) for part, n in zip_longest(index, shape)), strict=True)
        assert np.ravel_multi_index(firsts, shape) == end  # each begins where the one before it has ended
        end += math.prod(lengths)
        most = max(most, math.prod(lengths) * itemsize)
        for first, length, whole, n in zip(firsts, lengths, chunk or [1] * len(shape), shape, strict=True):
            assert first % whole == 0
            assert length % whole == 0 or first + length == n
    assert end == math.prod(shape)
    assert most <= 2**23
    if chunk and end * itemsize > 2**16:
        assert 2**12 <= math.prod(chunk) * itemsize <= 2**22
        assert all(c <= n for c, n in zip(chunk, shape, strict=True))


def test_a_bank_of_many_kernels_and_of_small_or_wide_masks_is_saved(masks, tmp_path):
    """Kernels of 64 to 3 channels were in chunks of 56 bytes, and a wide mask was written once for each of its rows."""
    random = np.random.default_rng(0)
    kernels = random.normal(size=(64, 3, 7, 7)).astype("f4")
    many = replace(
        masks,
        network={**masks.network, "channels": [64, 3], "kernel": [7, 7]},
        kernels=kernels,
        realised=kernels.astype("c8"),
        scale=np.ones(64, "f4"),
    )
    for shape in ((300, 32, 32), (2, 200, 20_000)):
        levels = random.integers(0, 256, shape).astype("u2")
        places = {"origin": np.zeros((shape[0], 2)), "frame": np.zeros(shape[0], "i4")}
        terms = replace(masks.planes[0].terms, frame=0 * masks.planes[0].terms.frame)
        plane = replace(masks.planes[0], levels=levels, terms=terms, **places)
        replace(many, planes=(plane,)).save(tmp_path / "many.h5")
        found = MaskSet.load(tmp_path / "many.h5")
        assert np.array_equal(found.kernels, kernels)
        assert np.array_equal(found.planes[0].levels, levels)
