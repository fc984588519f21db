"""Files that somebody bent, cut, blew up or made by hand: each is refused in a line before its data are trusted."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import fouroptics as fo
from fouroptics.masks import MaskSet, h5

SLM = fo.Bench.load("slm-532nm").replace(
    {"mask.crosstalk": "0 um", "mask.pitch": "90 um", "mask.pixels": [100, 100], "layout.guard": "64 um"}
)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "masks.h5"
    kernels = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bank = fo.Correlator4f.from_kernels(kernels, SLM, (12, 12), masks="device")
    masks = MaskSet.from_correlator(bank)
    electronics = {"compand": "none", "window": [3, 3], "backend": "fc", "hidden": [4], "classes": ["a", "b"]}
    dataclasses.replace(
        masks, network={**masks.network, "electronics": electronics}, results={"accuracy": 0.5},
        backend={"level": np.ones(2, "<f4"), "backend.1.weight": np.zeros((4, 18), "<f4")},
    ).save(path)  # fmt: skip
    return path


@pytest.fixture
def bad(good, tmp_path):
    return shutil.copy(good, tmp_path / "bad.h5")


def refused(path, says, tmp_path=None):
    with pytest.raises(fo.InputError) as caught:
        MaskSet.load(path)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert len(message) < 400
    return caught.value


def replaced(file, name, **made):
    attributes = dict(file[name].attrs) if name in file else {}
    if name in file:
        del file[name]
    dataset = file.create_dataset(name, **made)
    for key, value in attributes.items():
        dataset.attrs[key] = value


ZEROS = zlib.compress(bytes(2**22), 9)


def blown_up(file):
    """Zeros, 2 GiB of them, in some kilobytes."""
    replaced(
        file, "entry/masks/level", shape=(2, 2**15, 2**15), dtype="u1", chunks=(1, 2**11, 2**11), compression="gzip"
    )
    for tile in range(2):
        for row in range(0, 2**15, 2**11):
            for column in range(0, 2**15, 2**11):
                file["entry/masks/level"].id.write_direct_chunk((tile, row, column), ZEROS)


def overfull(file):
    """A gibibyte in a chunk of 256 KiB."""
    replaced(file, "entry/masks/level", shape=(1, 512, 512), dtype="u1", chunks=(1, 512, 512), compression="gzip")
    file["entry/masks/level"].id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(2**24), 9))


def twice_deflated(file):
    del file["entry/masks/level"]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, 512, 512))
    plist.set_deflate(9)
    plist.set_deflate(9)
    space = h5py.h5s.create_simple((1, 512, 512))
    h5py.h5d.create(file["entry/masks"].id, b"level", h5py.h5t.STD_U8LE, space, plist)


def resealed(change):
    """Change what the manifest says, and its digest with it, as one who knows the format would."""

    def bend(file):
        manifest = json.loads(file[h5.MANIFEST][()])
        change(file, manifest)
        text = json.dumps(manifest, sort_keys=True)
        replaced(file, h5.MANIFEST, data=np.array(text.encode(), dtype=h5py.string_dtype("utf-8", len(text))))
        file.attrs["manifest_sha256"] = hashlib.sha256(text.encode()).hexdigest().encode()
        seal = file.attrs["manifest_sha256"]
        file.attrs.create("manifest_sha256", seal, dtype=h5py.string_dtype("utf-8", 64))

    return bend


def resealed_text(name, raw):
    def change(file, manifest):
        replaced(file, name, data=np.array(raw, dtype=h5py.string_dtype("utf-8", len(raw))))
        manifest["datasets"][f"/{name}"] |= {"sha256": hashlib.sha256(raw).hexdigest(), "dtype": f"|S{len(raw)}"}

    return resealed(change)


def resealed_array(name, values):
    def change(file, manifest):
        replaced(file, name, data=values)
        raw = np.ascontiguousarray(values).tobytes()
        manifest["datasets"][f"/{name}"] |= {
            "sha256": hashlib.sha256(raw).hexdigest(), "dtype": values.dtype.str, "shape": list(values.shape)
        }  # fmt: skip

    return resealed(change)


def electronics(**told):
    """Other words for what stands behind the camera."""

    def bend(file):
        network = json.loads(file["entry/network"][()])
        network["electronics"] |= told
        resealed_text("entry/network", json.dumps(network).encode())(file)

    return bend


def external_data(file):
    replaced(file, "entry/masks/x", shape=(92,), dtype="f8", external=[("/etc/passwd", 0, 92 * 8)])


def virtual(file):
    layout = h5py.VirtualLayout((92,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (92,))
    del file["entry/masks/x"]
    file.create_virtual_dataset("entry/masks/x", layout)


def with_attribute(group, name, value):
    def bend(file):
        file[group].attrs[name] = np.bytes_(value) if isinstance(value, bytes) else value

    return bend


def linked(name, link):
    def bend(file):
        if name in file:
            del file[name]
        file[name] = link(file) if callable(link) else link

    return bend


def untabled(file):
    def change(file, manifest):
        for name in ("phase", "amplitude", "height", "drive"):
            del file[f"entry/masks/level_table/{name}"]
            del manifest["datasets"][f"/entry/masks/level_table/{name}"]

    resealed(change)(file)


def compound(file):
    replaced(file, "entry/masks/frame", data=np.zeros(2, dtype=[("a", "i4"), ("b", "f4")]))


HOSTILE = {
    "an external link": (linked("entry/more", h5py.ExternalLink("/etc/hosts", "/")), "leads elsewhere"),
    "an external link to data": (linked("entry/masks/x", h5py.ExternalLink("o.h5", "/x")), "leads elsewhere"),
    "a soft link": (linked("entry/masks/x", h5py.SoftLink("/entry/masks/y")), "leads elsewhere"),
    "a soft link in a ring": (linked("entry/ring", h5py.SoftLink("/entry/ring")), "leads elsewhere"),
    "a hard link in a ring": (linked("entry/ring", lambda file: file["entry"]), "second link"),
    "a second hard link": (linked("entry/twin", lambda file: file["entry/masks/level"]), "second link"),
    "external storage": (external_data, "in another file"),
    "a virtual dataset": (virtual, "in another file"),
    "8 TiB": (
        lambda f: replaced(f, "entry/masks/level", shape=(2, 2**21, 2**21), dtype="u1", chunks=(1, 64, 64)), "GiB are",
    ),
    "a 2 GiB bomb": (blown_up, "would inflate"),
    "a large chunk": (
        lambda f: replaced(f, "entry/masks/level", shape=(1, 2**14, 2**14), dtype="u1", chunks=(1, 2**14, 2**14)),
        "chunks of 268435456 bytes",
    ),
    "chunks of a byte": (
        lambda f: replaced(f, "entry/masks/level", shape=(2, 2**12, 2**14), dtype="u1", chunks=(1, 1, 1)),
        "chunks of 1 bytes",
    ),
    "chunks that each row needs again": (
        lambda f: replaced(f, "entry/masks/level", shape=(1, 2**10, 2**17), dtype="u1", chunks=(1, 512, 512)),
        "would be read for every row again",
    ),
    "chunks that are not there": (
        lambda f: replaced(f, "entry/masks/level", shape=(2, 2**12, 2**12), dtype="u1", chunks=(1, 512, 512)),
        "0 chunks where 128 are due",
    ),
    "a chunk that inflates beyond itself": (overfull, "inflate beyond 262144 bytes"),
    "gzip twice": (twice_deflated, "each once"),
    "room beyond the shape": (
        lambda f: replaced(f, "entry/masks/frame", shape=(2,), maxshape=(None,), dtype="i4", chunks=(2,)), "beyond its",
    ),
    "big-endian numbers": (
        lambda f: replaced(f, "entry/kernels/scale", data=np.ones(2, ">f4")), "type that this format has not",
    ),
    "a manifest of 2 MB": (
        lambda f: replaced(f, h5.MANIFEST, data=np.bytes_(b"[]" * 2**20)), "is missing, or too large",
    ),
    "other units": (with_attribute("entry/masks/x", "units", b"mm"), "x@units: is 'mm' and was written 'm'"),
    "brackets in brackets": (resealed_text("entry/bench", b"a = " + b"[" * 50_000), "not valid TOML"),
    "a number of 10 000 digits": (resealed_text("entry/bench", b"a = " + b"1" * 10_000), "not valid TOML"),
    "another pitch": (resealed_array("entry/masks/pitch", np.array([1e-3, 1e-3])), "is not the bench's"),
    "another fill factor": (resealed_array("entry/masks/fill_factor", np.array(-3.0)), "is not the bench's"),
    "a tile that is none": (resealed_array("entry/masks/terms/tile", np.array([99, 0], "<i4")), "beyond 0 … 1"),
    "a frame before the first": (resealed_array("entry/masks/frame", np.array([-1, 0], "<i4")), "beyond 0 …"),
    "a frame after the last": (resealed_array("entry/masks/frame", np.array([0, 2**31 - 1], "<i4")), "beyond 0 …"),
    "an origin that is no number": (
        resealed_array("entry/masks/origin", np.full((2, 2), np.nan)), "beside the panel, or no number",
    ),
    "a scale of 0": (resealed_array("entry/kernels/scale", np.zeros(2, "<f4")), "scale: is no share"),
    "kernels of other channels": (
        resealed_array("entry/kernels/target", np.zeros((3, 1, 3, 3), "<f4")), "is not of the channels and kernel",
    ),
    "no table where there are levels": (lambda f: untabled(f), "level_table/phase: is missing"),
    "another filter": (
        lambda f: replaced(f, "entry/masks/level", shape=(2, 92, 92), dtype="u1", compression="lzf"), "filters [32000]",
    ),
    "a compound type": (compound, "type that this format has not"),
    "complex numbers": (
        lambda f: replaced(f, "entry/masks/origin", data=np.zeros((2, 2), complex)), "type that this format has not",
    ),
    "variable texts": (lambda f: replaced(f, "entry/title", data="hello"), "text of a kind"),
    "references": (
        lambda f: replaced(f, "entry/extra", shape=(1,), dtype=h5py.ref_dtype), "type that this format has not",
    ),
    "a named type": (lambda f: f.__setitem__("entry/kind", np.dtype("f8")), "neither a group nor a dataset"),
    "too many objects": (lambda f: [f.create_group(f"many/{n}") for n in range(20_001)], "more than 20000 objects"),
    "too deep": (lambda f: f.create_group("/".join("abcdefghijkl")), "8 levels of groups"),
    "a missing dataset": (lambda f: f.__delitem__("entry/masks/terms/shift"), "terms/shift: is missing"),
    "a missing group": (lambda f: f.__delitem__("entry/masks"), "is missing"),
    "no manifest": (lambda f: f.__delitem__("integrity"), "integrity/manifest: is missing"),
    "never finished": (with_attribute("/", "complete", np.int64(0)), "never finished"),
    "of another format": (with_attribute("/", "format", b"a zoo"), "no mask set"),
    "of a newer version": (with_attribute("/", "format_version", b"2.0"), "a newer fouroptics reads it"),
    "of no version": (with_attribute("/", "format_version", b"new"), "make it again"),
    "another kind in an attribute": (with_attribute("entry/masks", "kind", b"dmd"), "was written 'phase_slm'"),
    "a large attribute": (with_attribute("entry", "note", b"x" * 20_000), "kind that this format has not"),
    "an array in an attribute": (with_attribute("entry", "note", np.zeros(9)), "kind that this format has not"),
    "scales of a group": (with_attribute("entry", "DIMENSION_LIST", np.zeros(9)), "kind that this format has not"),
    "a reference in an attribute": (
        lambda f: f["entry/masks/x"].attrs.create("note", f.ref, dtype=h5py.ref_dtype), "kind that this format has not",
    ),
    "a changed level": (lambda f: f["entry/masks/level"].__setitem__((0, 5, 5), 77), "its digest differs"),
    "a changed bench": (lambda f: replaced(f, "entry/bench", data=np.bytes_(b"format = 1")), "was written otherwise"),
    "a manifest of another": (
        lambda f: replaced(f, h5.MANIFEST, data=np.array(b"{}", dtype=h5py.string_dtype("utf-8", 2))), "digest differs",
    ),
    "a manifest that is no JSON": (resealed(lambda f, m: m.clear()), "is no manifest"),
    "text that is not UTF-8": (resealed_text("entry/title", b"\xff\xfe\xfa"), "not UTF-8"),
    "JSON beyond the words": (resealed_text("entry/network", b'{"exec": "rm"}'), "none of the format's words"),
    "JSON of another type": (resealed_text("entry/network", b'{"size": "large"}'), "not of its type"),
    "electronics that are no object": (resealed_text("entry/network", b'{"electronics": [1]}'), "is no JSON object"),
    "electronics beyond the words": (electronics(exec="rm"), "none of the format's words"),
    "a width that is none": (electronics(hidden=[4, -1]), "hidden = '[4, -1]' is not of its type"),
    "a class that is no name": (electronics(classes=["a", 7]), "is not of its type"),
    "too many classes": (electronics(classes=["a"] * 12_000), "is not of its type"),
    "a backend of texts": (resealed_array("entry/backend/level", np.array([b"rm", b"-r"])), "no tensor of a backend"),
    "results that are no JSON": (resealed_text("entry/results", b"[1"), "results: is no JSON"),
    "no JSON": (resealed_text("entry/network", b"[" * 100_000), "is no JSON"),
    "a bench that is none": (resealed_text("entry/bench", b"format = 3"), "is not a bench"),
    "a bench that reads a file": (
        resealed_text("entry/bench", b'format = "fouroptics-bench/1"\n[mask]\nlut = "/etc/passwd"'), "names a file",
    ),
    "a bench with a calibration": (
        resealed_text("entry/bench", b'format = "fouroptics-bench/1"\n[calibration]\nfile = "c.toml"'), "names a file",
    ),
    "a path as a plane": (resealed_array("entry/planes/name", np.array([b"../up"])), "masks is due"),
    "sizes that do not go together": (resealed_array("entry/masks/x", np.zeros(7)), "are due along 'X'"),
    "levels that are no whole numbers": (
        resealed_array("entry/masks/level", np.zeros((2, 92, 92))), "and no levels of 3 dimensions",
    ),
    "a wavelength that is not the bench's": (
        resealed_array("entry/optics/wavelength", np.array(633e-9)), "does not follow from the rest of the file",
    ),
    "levels beyond the table": (
        resealed_array("entry/masks/level", np.full((2, 92, 92), 9999, "u2")), "level 9999 where the table has 256",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", HOSTILE)
def test_a_hostile_file_is_refused_in_a_line(bad, way):
    bend, says = HOSTILE[way]
    with h5py.File(bad, "r+") as file:
        bend(file)
    refused(bad, says)


def test_a_table_that_is_not_the_bench_s_simulates_nothing(bad):
    with h5py.File(bad, "r+") as file:
        for name in ("level_table/phase", "phase"):  # what is shown to people follows the lie
            resealed_array(f"entry/masks/{name}", file[f"entry/masks/{name}"][...] * 1.1)(file)
    with pytest.raises(fo.InputError, match="level_table: is not what the bench's mask passes"):
        MaskSet.load(bad).correlator()


def test_a_group_that_is_not_known_is_ignored(bad):
    with h5py.File(bad, "r+") as file:
        file["entry/of a later version/values"] = np.arange(5)
    MaskSet.load(bad)


@pytest.mark.parametrize("length", [0, 7, 8, 100, 2000, 30_000])
def test_a_file_that_is_cut_off_is_refused(bad, length):
    with Path(bad).open("r+b") as file:
        file.truncate(length)
    refused(bad, "")


def test_what_is_no_file_is_refused(tmp_path):
    refused(tmp_path, "no such file")
    refused(tmp_path / "none.h5", "no such file")
    (tmp_path / "text.h5").write_text("hello", encoding="utf-8")
    refused(tmp_path / "text.h5", "no HDF5 file, or cut off")


def flipped(good, folder, seed, count):
    """Files with one to three bytes flipped or a stretch zeroed: how many load, and to what."""
    random = np.random.default_rng(seed)
    raw = np.frombuffer(good.read_bytes(), np.uint8)
    path = folder / f"flipped-{seed}.h5"
    kept, told = 0, 0
    for _ in range(count):
        bent = raw.copy()
        places = random.integers(0, len(raw), random.integers(1, 4))
        bent[places] ^= random.integers(1, 256, len(places)).astype(np.uint8)
        if random.random() < 0.2:
            start = random.integers(0, len(raw))
            bent[start : start + random.integers(1, 4096)] = 0
        path.write_bytes(bent.tobytes())
        try:
            found = MaskSet.load(path)
        except fo.InputError as error:
            told += "\n" not in str(error)
            continue
        kept += 1
        same = MaskSet.load(good)
        assert np.array_equal(found.planes[0].levels, same.planes[0].levels)
        assert found.bench == same.bench
        assert np.array_equal(found.kernels, same.kernels)
        assert found.network == same.network
    return kept, told


def test_a_flipped_byte_is_found_or_harmless(good, tmp_path):
    kept, told = flipped(good, tmp_path, 0, 150)
    assert kept + told == 150
    assert told > 100


@pytest.mark.slow
def test_ten_thousand_flipped_files(good, tmp_path):
    kept, told = flipped(good, tmp_path, 1, 10_000)
    assert kept + told == 10_000


MEMORY = """
import re, resource, sys
from fouroptics import InputError
from fouroptics.masks import MaskSet
def top():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
start = top()
try:
    MaskSet.load(sys.argv[1])
except InputError:
    print(top() - start)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's peak")
@pytest.mark.parametrize("way", ["8 TiB", "a 2 GiB bomb", "a large chunk", "no JSON", "too many objects"])
def test_a_hostile_file_takes_little_memory(bad, way):
    with h5py.File(bad, "r+") as file:
        HOSTILE[way][0](file)
    done = subprocess.run([sys.executable, "-c", MEMORY, str(bad)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200


WRITER = """
import sys
from fouroptics.masks import MaskSet
masks = MaskSet.load(sys.argv[1])
print("ready", flush=True)
while True:
    masks.save(sys.argv[2])
"""


def killed_while_writing(good, folder, times):
    target = folder / "target.h5"
    shutil.copy(good, target)
    levels = MaskSet.load(good).planes[0].levels
    random = np.random.default_rng(0)
    for _ in range(times):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(good), str(target)], stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(random.uniform(0, 0.2))
        writer.kill()
        writer.wait()
        assert np.array_equal(MaskSet.load(target).planes[0].levels, levels)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_writer_that_is_killed_leaves_the_old_file_or_the_new_one(good, tmp_path):
    killed_while_writing(good, tmp_path, 4)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_fifty_writers_that_are_killed(good, tmp_path):
    killed_while_writing(good, tmp_path, 50)
