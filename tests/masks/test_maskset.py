"""What is exported re-simulates: levels anywhere, readings bit for bit, from the file alone, in a fresh process."""

import hashlib
import json
import math
import subprocess
import sys
import warnings
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fouroptics as fo
from fouroptics.masks import MaskSet

SLM = fo.Bench.load("slm-532nm")
BAND = 532e-9 * 0.25 / 16e-6  # of the sampled spectrum [m]
KINDS = {
    "slm": {"preset": "slm-phase-8bit", "crosstalk": "20 um"},
    "short": {"preset": "slm-phase-8bit", "phase_range": "5 rad", "levels": 16, "encoding": "carrier"},
    "fitted": {"preset": "slm-phase-8bit", "encoding": "fit"},
    "etched": {"preset": "etched-8"},
    "dmd": {"preset": "dmd"},
    "chrome": {"preset": "chrome"},
    "grey": {"preset": "grey"},
    "deep": {"preset": "slm-phase-8bit", "levels": 1024},
    "plate": {"preset": "ideal"},
    "cells": {"preset": "metasurface", "lut": "cells.csv"},
    "measured": {
        "preset": "slm-phase-8bit",
        "levels": 40,
        "lut": "measured.csv",
        "dead": "dead.csv",
        "crosstalk": "0 um",
        "flicker": "0 rad",
    },
}
ROWS = {
    "cells": [f"{n},{n * 0.3 - 2},{0.5 + 0.5 * math.cos(n) ** 2}" for n in range(24)],
    "measured": [f"{n},{1 - n * n / 200},{1 - n / 100}" for n in range(40)],
}
LAYOUTS = [("tiled", "frames"), ("tiled", "tiled"), ("tiled", "lenslet"), ("lenslet", "frames"), ("lenslet", "lenslet")]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for name, rows in ROWS.items():
        (folder / f"{name}.csv").write_text("\n".join(("drive,phase_rad,transmittance", *rows)), encoding="utf-8")
    (folder / "dead.csv").write_text("x,y,level\n3,0,1\n60,70,0\n40,41,1\n", encoding="utf-8")
    return folder


def bench_of(folder, kind, pixels=96, changes=(), across=1):
    keys = {k: str(folder / v) if str(v).endswith(".csv") else v for k, v in KINDS[kind].items()}
    side = {"pitch": f"{BAND / pixels!r} m", "pixels": [across * pixels, across * pixels], "precompensate": True}
    plain = {"aberration.zernike": {}, "source.waist": None, "layout.guard": "64 um", "lens1.pupil": None}
    return (
        SLM.replace(plain | {"lens2.pupil": None, "stop": None}).replace({"mask": side | keys}).replace(dict(changes))
    )


def rand(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def bank_of(bench, channels=(1, 1), size=(12, 12), taps=3, dtype=torch.float32, seed=0, **options):
    kernels = torch.randn(*channels, taps, taps, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bank = fo.Correlator4f.from_kernels(kernels, bench, size, masks="device", **options)
    return bank.expose(seconds=3e-7).eval()


def made(bank, path):
    MaskSet.from_correlator(bank).save(path)
    return path


@torch.no_grad()
def assert_alike(bank, again, pictures):
    assert torch.equal(again.masks, bank.masks)
    assert torch.equal(again(pictures), bank(pictures))
    assert torch.equal(again.field(pictures), bank.field(pictures))


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    kind=st.sampled_from(list(KINDS)),
    size=st.tuples(st.integers(6, 14), st.integers(6, 14)),
    taps=st.sampled_from([1, 2, 3]),
    outputs=st.sampled_from([1, 2]),
    readout=st.sampled_from(["intensity", "pair_intensity", "homodyne", "interference"]),
    compand=st.sampled_from(["none", "two-sided-rectify"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    upright=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_is_exported_simulates_to_the_bit(
    tables, kind, size, taps, outputs, readout, compand, dtype, upright, seed
):
    pairs = 2 if readout == "pair_intensity" else 1
    bench = bench_of(tables, kind, 144)
    if not bench.mask.frame_rate and outputs * pairs > 1:
        outputs, readout = 1, "intensity"
    path = tables / "again.h5"
    bank = bank_of(bench, (outputs, 1), size, taps, dtype, seed, readout=readout, compand=compand, upright=upright)
    again = MaskSet.load(made(bank, path)).correlator()
    assert_alike(bank, again, rand(2, 1, *size, dtype=dtype))


@pytest.mark.parametrize(("inputs", "outputs"), LAYOUTS)
def test_every_layout_simulates_to_the_bit(tables, tmp_path, inputs, outputs):
    changes = {"layout.inputs": inputs, "layout.outputs": outputs, "camera.pixels": [2048, 2048]}
    bank = bank_of(bench_of(tables, "slm", 200, changes, across=3), (2, 2), taps=3)
    found = MaskSet.load(made(bank, tmp_path / "m.h5"))
    assert_alike(bank, found.correlator(), rand(2, 2, 12, 12))
    terms = found.planes[0].terms
    assert len(terms.tile) == 4
    assert sorted(zip(terms.out_channel.tolist(), terms.in_channel.tolist(), strict=True)) == [
        (0, 0), (0, 1), (1, 0), (1, 1)
    ]  # fmt: skip
    assert len(set(terms.tile.tolist())) == {"tiled": 2, "lenslet": 4}[inputs] // (2 if outputs == "tiled" else 1)


def test_complex_kernels_trained_masks_and_options_come_back(tables, tmp_path):
    bank = bank_of(bench_of(tables, "slm", 144), (2, 1), stop=False, sensor_pool=3, quantize="soft")
    with torch.no_grad():
        bank.device.drive.add_(0.3 * torch.randn(bank.device.drive.shape, generator=torch.Generator().manual_seed(4)))
    again = MaskSet.load(made(bank, tmp_path / "m.h5")).correlator()
    assert_alike(bank, again, rand(2, 1, 12, 12))
    assert again.readings == (3, 3)
    assert float(again.shutter) == float(bank.shutter)
    kernels = torch.randn(1, 1, 3, 3, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    bank = fo.Correlator4f.from_kernels(kernels, bench_of(tables, "plate"), (12, 12), masks="device").eval()
    again = MaskSet.load(made(bank, tmp_path / "c.h5")).correlator()
    assert torch.equal(again.taps, bank.taps)
    assert_alike(bank.expose(seconds=1e-6), again.expose(seconds=1e-6), rand(1, 12, 12))


FRESH = """
import hashlib, sys, torch, fouroptics as fo
torch.set_num_threads(1)
for path in sys.argv[1:]:
    bank = fo.MaskSet.load(path).correlator()
    pictures = torch.rand(2, bank.channels[1], 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        reading = bank(pictures)
    print(*(hashlib.sha256(one.contiguous().numpy().tobytes()).hexdigest() for one in (bank.masks, reading)))
"""


def test_a_fresh_process_needs_the_file_alone(tables, tmp_path):
    """Every kind of device and every layout: levels and readings by their digests, to the last bit."""
    banks = {kind: bank_of(bench_of(tables, kind)) for kind in KINDS}
    for inputs, outputs in LAYOUTS:
        changes = {"layout.inputs": inputs, "layout.outputs": outputs, "camera.pixels": [2048, 2048]}
        banks[f"{inputs} {outputs}"] = bank_of(bench_of(tables, "slm", 200, changes, across=3), (2, 2))
    frames = {"layout.inputs": "frames"}
    banks["inputs in frames"] = bank_of(bench_of(tables, "slm", 144, frames), (2, 2), readout="homodyne")
    paths = [str(made(bank, tmp_path / f"µ set {number}.h5")) for number, bank in enumerate(banks.values())]
    done = subprocess.run([sys.executable, "-c", FRESH, *paths], capture_output=True, text=True, cwd=tmp_path)
    assert not done.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        due = {
            name: " ".join(digest(one) for one in (bank.masks, bank(rand(2, bank.channels[1], 12, 12))))
            for name, bank in banks.items()
        }
    torch.set_num_threads(threads)
    assert dict(zip(banks, done.stdout.splitlines(), strict=True)) == due


def digest(values):
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()


def test_validation_loads_no_torch(tables, tmp_path):
    path = made(bank_of(bench_of(tables, "slm")), tmp_path / "m.h5")
    code = (
        "import sys; from fouroptics import MaskSet; MaskSet.validate(sys.argv[1]); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_plain_h5py_finds_levels_and_what_they_pass(tables, tmp_path):
    bank = bank_of(bench_of(tables, "measured"), (2, 1))
    with h5py.File(made(bank, tmp_path / "m.h5")) as file:
        masks = file["entry/masks"]
        level, table = masks["level"][...], masks["level_table"]
        passed = table["amplitude"][...][level] * np.exp(1j * table["phase"][...][level])
        shown = bank.device.plan.modulator.transmission(bank.masks, dtype=torch.float64)
        assert np.array_equal(level, bank.masks.numpy())
        assert np.allclose(passed, shown.numpy(), rtol=0, atol=1e-12)
        assert np.allclose(masks["phase"][...], table["phase"][...][level], atol=1e-6)
        assert level.dtype == np.uint8
        assert masks.attrs["signal"] == b"level"
        assert {name: file[name].attrs["units"] for name in ("entry/masks/x", "entry/masks/pitch")} == {
            "entry/masks/x": b"m", "entry/masks/pitch": b"m"
        }  # fmt: skip
        assert np.allclose(np.diff(masks["x"][...]), bank.bench.mask.pitch)
        manifest = json.loads(file["integrity/manifest"][()])
        assert set(manifest["datasets"]) >= {"/entry/masks/level", "/entry/bench", "/entry/kernels/target"}


def test_levels_of_an_etched_plate_stand_in_metres(tables, tmp_path):
    bank = bank_of(bench_of(tables, "etched"))
    table = MaskSet.load(made(bank, tmp_path / "m.h5")).planes[0].table
    index = 1.46071  # fused silica at 532 nm
    assert np.allclose(table.height, np.arange(8) * 532e-9 / (8 * (index - 1)), rtol=1e-4)
    assert np.allclose(table.phase, 2 * math.pi * (index - 1) * table.height / 532e-9, rtol=1e-4)


@pytest.mark.parametrize("kind", ["slm", "dmd", "etched"])
def test_tiles_to_set_a_bench_up_with_are_in_every_set(tables, tmp_path, kind):
    bank = bank_of(bench_of(tables, kind))
    found = MaskSet.load(made(bank, tmp_path / "m.h5"))
    tiles, plane = found.commissioning, found.planes[0]
    assert set(tiles) == {"blank", "checkerboard", "crosshair", "focus_star", "orientation_f", "single_tap"}
    assert not tiles["blank"].any()
    letter = fo.pictures.letter_f(plane.levels.shape[1:]).numpy() > 0
    high = tiles["orientation_f"].max()
    assert np.array_equal(tiles["orientation_f"] == high, letter)
    states = plane.table.amplitude[[0, high]] * np.exp(1j * plane.table.phase[[0, high]])
    assert abs(states[1] - states[0]) == pytest.approx(1 if kind == "dmd" else 2, abs=1e-3)
    pictures = rand(1, 12, 12)
    with torch.no_grad():  # one tap is the picture itself; network units are of another kernel, whose sign they have
        seen = again_with(found, tiles["single_tap"]).field(pictures)[0].real.flatten()
    assert torch.corrcoef(torch.stack((seen, pictures.flatten())))[0, 1].abs() > 0.95


def again_with(found, tile):
    return found.correlator().put(torch.from_numpy(tile.astype(int))[None])


def test_the_steps_of_an_etch_are_in_the_file(tables, tmp_path):
    path = made(bank_of(bench_of(tables, "etched")), tmp_path / "m.h5")
    with h5py.File(path) as file:
        etch, table = file["entry/masks/etch"], file["entry/masks/level_table"]
        assert etch.attrs["drawn"] == b"etched"
        bits = (np.arange(8)[:, None] >> etch["bit"][...]) & 1
        removed = ((1 - bits) * etch["depth"][...]).sum(1)
        assert np.allclose(table["height"][...].max() - removed, table["height"][...], atol=1e-15)
    six = bank_of(bench_of(tables, "etched", changes={"mask.levels": 6}))
    assert MaskSet.load(made(six, tmp_path / "six.h5")).planes[0].levels.shape == six.masks.shape


def test_realised_kernels_are_those_that_the_masks_correlate_with(tables, tmp_path):
    """A point's response through the masks, in place of the file's own way."""
    bank = bank_of(bench_of(tables, "slm", 192), dtype=torch.float64)
    found = MaskSet.load(made(bank, tmp_path / "m.h5"))
    point = torch.zeros(1, 12, 12, dtype=torch.float64)
    point[0, 6, 6] = 1
    with torch.no_grad():
        kept = bank.device.gain(bank._masks(), bank.kernels)
        spread = (bank.field(point) * kept)[0, 5:8, 5:8].flip(-2, -1)
    realised = torch.from_numpy(found.realised[0, 0])
    assert (realised - spread).abs().max() < 0.02 * spread.abs().max()
    flat = [taps.real.flatten() / np.linalg.norm(taps) for taps in (found.realised, found.kernels)]
    assert flat[0] @ flat[1] > 0.95


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-9, 1e9])
def test_kernels_of_any_size_come_back(tables, tmp_path, size):
    kernels = size * torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(3))
    bank = fo.Correlator4f.from_kernels(kernels, bench_of(tables, "dmd"), (12, 12), masks="device").eval()
    found = MaskSet.load(made(bank, tmp_path / "m.h5"))
    assert np.array_equal(found.kernels, kernels.numpy())
    assert torch.equal(found.correlator().masks, bank.masks)


def test_nothing_is_saved_that_would_not_load(tables, tmp_path):
    found = MaskSet.from_correlator(bank_of(bench_of(tables, "dmd")))
    broken = replace(found, scale=np.array([np.nan], "<f4"))
    with pytest.raises(fo.InputError, match=r"m\.h5: /entry/kernels/scale: has values that are no numbers; nothing"):
        broken.save(tmp_path / "m.h5")
    assert not list(tmp_path.iterdir())


def test_ideal_masks_are_refused():
    bank = fo.Correlator4f.from_kernels(torch.randn(1, 1, 3, 3), SLM, (12, 12))
    with pytest.raises(
        fo.InputError, match="ideal masks are no masks that can be made; build the bank with masks='dev"
    ):
        MaskSet.from_correlator(bank)


def test_what_cannot_be_written_leaves_nothing(tables, tmp_path):
    found = MaskSet.from_correlator(bank_of(bench_of(tables, "dmd")))
    with pytest.raises(fo.InputError, match="cannot be written"):
        found.save(tmp_path / "nowhere" / "m.h5")
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    for name in ("folder.h5", "mine.txt"):
        with pytest.raises(fo.InputError, match="exists and is no mask set"):
            found.save(tmp_path / name)
    with pytest.raises(fo.InputError, match="is no name of a file"):
        found.save("a\0b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.h5", "mine.txt"]


def test_levels_that_stay_in_the_file_are_those_that_were_checked(tables, tmp_path, monkeypatch):
    from fouroptics.masks import tree

    monkeypatch.setattr(tree, "VIEWED", 100)
    bank = bank_of(bench_of(tables, "slm"))
    path = made(bank, tmp_path / "m.h5")
    monkeypatch.chdir(tmp_path)
    found = MaskSet.load("m.h5")
    monkeypatch.chdir(tmp_path.parent)
    assert np.array_equal(found.planes[0].levels[...], bank.masks.numpy())
    made(bank_of(bench_of(tables, "slm"), seed=9), path)
    with pytest.raises(fo.InputError, match="the file has changed since it was loaded"):
        found.planes[0].levels[0]
