import json
import warnings

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import fouroptics as fo
from fouroptics.cli import main
from fouroptics.masks.kernels import read

BENCH = """format = "fouroptics-bench/1"
name = "small"
source = { wavelength = "532 nm", power = "5 mW" }
input = { pitch = "8 um", pixels = [400, 400], super_pixel = 2, fill_factor = "93 %" }
lens1 = { focal_length = "250 mm" }
lens2 = { focal_length = "250 mm" }
layout = { guard = "64 um" }
[mask]
kind = "phase_slm"
levels = 64
pitch = "60 um"
pixels = [140, 140]
frame_rate = "60 Hz"
encoding = "double-phase"
[camera]
pitch = "4 um"
pixels = [1024, 1024]
bin = 4
qe = "65 %"
full_well = 10500
gain = 0.36
adc_bits = 12
frame_rate = "35 Hz"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench.toml").write_text(BENCH, encoding="utf-8")
    np.save(tmp_path / "k.npy", np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype("f4"))
    return tmp_path


def run(capsys, *arguments):
    with warnings.catch_warnings():
        status = main(arguments)
    seen = capsys.readouterr()
    return status, seen.out, seen.err


def make(capsys, *more, out="masks.h5"):
    return run(capsys, "masks", "from-kernels", "k.npy", "--bench", "bench.toml", "--size", "12", "--out", out, *more)


def test_kernels_become_a_mask_set_that_is_looked_at_and_checked(capsys, folder):
    status, said, err = make(capsys)
    assert (status, err) == (0, "")
    assert "2 of 138×138 pixels" in said
    found = fo.MaskSet.load(folder / "masks.h5")
    assert np.array_equal(found.kernels, np.load(folder / "k.npy"))
    assert found.title == "k"
    assert run(capsys, "masks", "validate", "masks.h5")[:2] == (0, "masks.h5: whole and unchanged, as it was written\n")
    status, said, _ = run(capsys, "masks", "inspect", "masks.h5", "--png", "tiles", "--json")
    told = json.loads(said)
    assert told["planes"][0]["shape"] == [2, 138, 138]
    assert told["kernel_likeness"]["worst"] > 0.9
    shown = np.asarray(Image.open(folder / "tiles" / "plane-0-tile-0001.png"))
    assert shown.shape == (138, 138, 3)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 30
    assert make(capsys)[0] == 0  # our own file is replaced


def test_two_sets_are_compared(capsys, folder):
    make(capsys)
    assert run(capsys, "masks", "diff", "masks.h5", "masks.h5")[:2] == (0, "nothing differs\n")
    make(capsys, "--set", "mask.levels=32", "--readout", "intensity", out="other.h5")
    status, said, _ = run(capsys, "masks", "diff", "masks.h5", "other.h5", "--json")
    found = json.loads(said)
    assert status == 1
    assert found["bench"] == {"mask.levels": [64, 32]}
    assert set(found) == {"bench", "plane 0", "plane 0, what differs", "realised"}
    assert found["plane 0, what differs"] == [
        f"level_table.{name}" for name in ("phase", "amplitude", "height", "drive")
    ]
    assert found["plane 0"]["pixels by tile"]["0"] > 1000


def test_a_note_is_a_line_and_a_bent_file_exits_with_2(capsys, folder):
    status, _, err = make(capsys, "--set", "mask.crosstalk=20 um")
    assert status == 0
    assert err.startswith("fouroptics: note: mask.crosstalk: neighbours of double-phase")
    assert err.count("\n") == 1
    raw = bytearray((folder / "masks.h5").read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / "bent.h5").write_bytes(raw)
    status, said, err = run(capsys, "masks", "validate", "bent.h5", "--json")
    assert status == 2
    assert json.loads(said)["error"]["where"].startswith("bent.h5: /")
    (folder / "notes.h5").write_text("mine", encoding="utf-8")
    status, _, err = make(capsys, out="notes.h5")
    assert (status, "exists and is no mask set" in err) == (2, True)
    assert (folder / "notes.h5").read_text(encoding="utf-8") == "mine"


def test_pictures_are_shown_to_a_mask_set(capsys, folder):
    make(capsys, "--readout", "intensity")
    pictures = folder / "pictures"
    pictures.mkdir()
    scenes = torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    for number, scene in enumerate(scenes):
        fo.pictures.write(pictures / f"p{number}.png", scene)
    status, said, err = run(capsys, "simulate", "masks.h5", "pictures", "--out", "seen", "--batch", "2", "--json")
    assert (status, err) == (0, "")
    assert json.loads(said)["reading_shape"] == [3, 2, 12, 12]
    bank = fo.MaskSet.load(folder / "masks.h5").correlator()
    shown = torch.stack([fo.pictures.read(pictures / f"p{number}.png") for number in range(3)])
    with torch.no_grad(), h5py.File(folder / "seen" / "readings.h5") as store:
        assert np.allclose(store["reading"][...], bank(shown).numpy(), rtol=1e-6)
        assert store["picture"][1] == b"p1.png"
    picture = np.asarray(Image.open(folder / "seen" / "0001-p1-output-001.png"))
    assert picture.shape == (12, 12)
    noisy = []
    for seed, batch in (("1", "1"), ("1", "3"), ("2", "3")):
        run(capsys, "simulate", "masks.h5", "pictures", "--out", "seen", "--noise", "--seed", seed, "--batch", batch)
        with h5py.File(folder / "seen" / "readings.h5") as store:
            noisy.append(store["reading"][...])
    assert np.array_equal(noisy[0], noisy[1])  # however it was split
    assert not np.array_equal(noisy[1], noisy[2])


def test_pictures_that_do_not_fit_are_told_what_would(capsys, folder):
    make(capsys)
    fo.pictures.write(folder / "large.png", torch.rand(3, 30, 20, generator=torch.Generator().manual_seed(0)))
    status, _, err = run(capsys, "simulate", "masks.h5", "large.png")
    assert (status, "the picture is 30×20, the masks take 12×12; --resize" in err) == (2, True)
    assert run(capsys, "simulate", "masks.h5", "large.png", "--resize")[0] == 0
    status, _, err = run(capsys, "simulate", "masks.h5", "nowhere")
    assert (status, "no such picture or folder" in err) == (2, True)
    (folder / "empty").mkdir()
    assert "no pictures in it" in run(capsys, "simulate", "masks.h5", "empty")[2]
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("x", encoding="utf-8")
    status, _, err = run(capsys, "simulate", "masks.h5", "large.png", "--resize", "--out", "mine")
    assert (status, "was not made by this command" in err) == (2, True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.float16])
def test_kernels_are_read_from_what_people_have(tmp_path, dtype):
    kernels = torch.randn(4, 3, 5, 5).to(dtype)
    save_file({"conv.weight": kernels, "conv.bias": torch.zeros(4)}, tmp_path / "layer.safetensors")
    found = read(tmp_path / "layer.safetensors")
    assert found.dtype == (torch.float32 if dtype == torch.float16 else dtype)
    assert torch.equal(found, kernels.to(found.dtype))
    if dtype != torch.float16:
        np.savez(tmp_path / "k.npz", one=kernels.numpy(), two=kernels[:2].numpy())
        assert torch.equal(read(tmp_path / "k.npz", "two"), kernels[:2])
    np.save(tmp_path / "sobel.npy", np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]))
    assert read(tmp_path / "sobel.npy").shape == (1, 1, 3, 3)
    np.save(tmp_path / "big-endian.npy", np.arange(9.0, dtype=">f4").reshape(1, 1, 3, 3))
    assert read(tmp_path / "big-endian.npy").flatten().tolist() == [*range(9)]
    np.save(tmp_path / "several.npy", np.zeros((5, 3, 3)))
    assert read(tmp_path / "several.npy").shape == (5, 1, 3, 3)


def test_what_are_no_kernels_is_refused_in_a_line(tmp_path):
    kernels = np.zeros((2, 1, 3, 3))
    np.savez(tmp_path / "two.npz", one=kernels, two=kernels)
    np.save(tmp_path / "nan.npy", kernels * np.nan)
    np.save(tmp_path / "five.npy", kernels[None])
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    np.save(tmp_path / "empty.npy", kernels[:0])
    np.save(tmp_path / "long.npy", kernels.astype(np.longdouble))
    np.savez_compressed(tmp_path / "bomb.npz", k=np.zeros((2, 1, 2**12, 2**13)))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    (tmp_path / "k.pt").write_bytes(b"x")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    for name, key, says in (
        ("none.npy", "", "no such file"),
        ("k.pt", "", "a pickle may run anything"),
        ("two.npz", "", "2 arrays that may be kernels; --key, one of one, two"),
        ("two.npz", "three", "no array 'three'; it has one, two"),
        ("nan.npy", "", "NaN or infinite"),
        ("five.npy", "", "five is [1, 2, 1, 3, 3]; kernels are [out, in, height, width]"),
        ("words.npy", "", "words is <U1"),
        ("words.npy", "words", "words is <U1"),
        ("empty.npy", "", "empty is float64 of [0, 1, 3, 3]"),
        ("long.npy", "", "save numbers"),
        ("bomb.npz", "", "512 MiB are no kernels"),
        ("objects.npy", "", "cannot be read"),
        ("cut.safetensors", "", "cannot be read"),
    ):
        with pytest.raises(fo.InputError) as caught:
            read(tmp_path / name, key)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
