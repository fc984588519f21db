"""Parts of a set as sets of their own, sets of several planes, pictures of a set, and what stands beside its masks."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

import fouroptics as fo
from fouroptics.masks import MaskSet, rules
from fouroptics.masks.limits import Limits
from tests.masks.made import masks_of

PICTURES = torch.rand(2, 2, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("readout", ["intensity", "pair_intensity"])
def test_some_outputs_read_as_they_do_in_the_whole(tmp_path, readout):
    masks = masks_of({"preset": "slm-phase-8bit"}, (4, 2), readout=readout)
    some = masks.select(outputs=[3, 1])
    some.save(tmp_path / "some.h5")
    again = MaskSet.load(tmp_path / "some.h5")
    with torch.no_grad():
        whole, part = (one.correlator().expose(seconds=1e-6)(PICTURES) for one in (masks, again))
    assert torch.allclose(part, whole[:, [1, 3]], rtol=1e-5, atol=1e-3)
    assert not torch.allclose(part[:, 0], part[:, 1], rtol=0.1)
    pairs = 2 if readout == "pair_intensity" else 1
    assert again.planes[0].levels.shape[0] == int(again.planes[0].frame.max()) + 1 == 2 * pairs
    assert np.array_equal(again.kernels, masks.kernels[[1, 3]])
    kept = [1, 3, 5, 7][: 2 * pairs]  # positive parts of all outputs come first, then negative ones
    assert np.array_equal(again.realised, masks.realised[kept])
    assert np.array_equal(again.scale, masks.scale[kept])
    assert again.provenance["selected_from"] == masks.uuid != again.uuid


def test_tiles_are_outputs_where_each_has_a_mask_of_its_own():
    masks = masks_of({"preset": "slm-phase-8bit"}, (4, 2))
    by_tile, by_output = masks.select(tiles=[2, 0]), masks.select(outputs=[0, 2])
    assert np.array_equal(by_tile.planes[0].levels, by_output.planes[0].levels)
    assert np.array_equal(by_tile.kernels, by_output.kernels)


def test_inputs_are_parted_where_each_has_a_mask_of_its_own():
    masks = masks_of(
        {"preset": "slm-phase-8bit"}, (2, 2), {"layout.inputs": "frames"}, readout="homodyne"
    )  # fmt: skip
    second = masks.select(inputs=[1])
    with torch.no_grad():
        dark = torch.stack((torch.zeros_like(PICTURES[:, 0]), PICTURES[:, 1]), 1)
        whole = masks.correlator().expose(seconds=1e-6)(dark)
        part = second.correlator().expose(seconds=1e-6)(PICTURES[:, 1:])
    assert torch.allclose(part, whole, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))
    assert whole.abs().max() > 100


def test_what_cannot_be_parted_is_refused():
    tiled = masks_of({"preset": "slm-phase-8bit"}, (2, 2))
    with pytest.raises(fo.InputError, match="tile 0 carries output 0 of input 1, too; choose that as well"):
        tiled.select(inputs=[0])
    for wrong in ([2], [-1], []):
        with pytest.raises(fo.InputError, match=r"outputs: .* of 2; choose from 0 … 1"):
            tiled.select(outputs=wrong)
    beside = masks_of({"preset": "etched-4", "pixels": [310, 300]}, (2, 1), {"layout.outputs": "lenslet"})
    part = beside.select(outputs=[1])
    assert np.array_equal(part.planes[0].origin, beside.planes[0].origin[1:])
    with pytest.raises(fo.InputError, match=r"levels are \(1, 144, 143\); \(1, 144, 144\) are due"):
        part.correlator()  # a single mask would stand elsewhere, and be of another size
    moved = replace(beside.planes[0], origin=beside.planes[0].origin[::-1])
    with pytest.raises(fo.InputError, match="tiles stand, or carry responses, as the bench would not have them"):
        replace(beside, planes=(moved,)).correlator()


def test_several_planes_of_different_tiles_are_kept_and_parted(tmp_path):
    masks = masks_of({"preset": "slm-phase-8bit"}, (2, 1))
    first = masks.planes[0]
    second = replace(first, levels=np.ascontiguousarray(first.levels[:, 10:-20, 4:-4]))
    replace(masks, planes=(first, second)).save(tmp_path / "two.h5")
    again = MaskSet.load(tmp_path / "two.h5")
    assert [plane.levels.shape for plane in again.planes] == [first.levels.shape, second.levels.shape]
    assert np.array_equal(again.planes[1].levels, second.levels)
    assert again.plate(plane=1).shape == again.plate().shape
    with pytest.raises(fo.InputError, match="2 planes of masks"):
        again.correlator()
    alone = again.select(plane=0)
    assert torch.equal(alone.correlator().masks, masks.correlator().masks)
    with pytest.raises(fo.InputError, match="tiles of several planes"):
        again.select(tiles=[0])


@pytest.mark.parametrize("preset", ["slm-phase-8bit", "dmd", "ideal"])
def test_a_plot_shows_tiles_and_kernels(preset):
    masks = masks_of({"preset": preset})
    figure = masks.plot()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["tile 0", "wanted: output 0, input 0", "made: output 0, input 0"]
    wanted = figure.axes[1].images[0].get_array()
    assert np.array_equal(wanted, masks.kernels[0, 0])
    assert figure.axes[0].images[0].get_array().shape[:2] == masks.planes[0].levels.shape[1:]
    assert len(figure.axes) == (3 if preset == "dmd" else 4)  # and the phase's colours
    assert len(masks_of({"preset": "dmd"}, (3, 1)).plot(tiles=2).axes) == 6


def test_rules_are_kept_in_the_file_with_what_breaks_them(tmp_path):
    plain = masks_of({"preset": "etched-4"})
    pixel = plain.planes[0].pitch[0]
    masks = replace(plain, rules=Limits(min_feature=2 * pixel, min_area=1e-8))
    masks.save(tmp_path / "m.h5")
    assert MaskSet.load(tmp_path / "m.h5").rules == masks.rules
    assert MaskSet.load(tmp_path / "m.h5").select(outputs=[0]).rules == masks.rules
    with h5py.File(tmp_path / "m.h5") as file:
        told = file["entry/design_rules"]
        assert [told[name][()] for name in ("min_feature", "min_gap", "min_area", "grid")] == pytest.approx(
            [2 * pixel, pixel, 1e-8, 1e-9]
        )
        assert told["min_area"].attrs["units"] == b"m^2"
        report = json.loads(told["report"][()])
    assert report == json.loads(json.dumps(rules.check(masks, masks.rules).data))
    assert not report["ok"]
    with pytest.raises(fo.InputError, match="a dmd mask is not drawn"):
        replace(masks_of({"preset": "dmd"}), rules=Limits()).save(tmp_path / "no.h5")
    assert not (tmp_path / "no.h5").exists()


def test_what_stands_beside_the_masks_is_in_the_file(tmp_path):
    masks = masks_of({"preset": "etched-8"})
    masks.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        entry, plane = file["entry"], masks.planes[0]
        assert entry["material/index"][0] == pytest.approx(1.46071, abs=1e-5)  # Malitson's silica at 532 nm
        assert entry["material/name"][()] == b"fused-silica"
        assert np.allclose(entry["plate/size"], np.array([146, 150]) * plane.pitch[0])
        half = 72 * plane.pitch[0] + 200e-6
        assert np.allclose(np.sort(entry["plate/fiducials/y"]), [-half, -half, half, half, half])
        etch = entry["masks/etch"]
        assert etch["overlay_pairs"][...].tolist() == [[1, 2], [2, 3]]
        assert np.allclose(entry["masks/height"], plane.table.height[np.asarray(plane.levels)], rtol=1e-6)
        assert (etch["depth_tolerance"][...] > 5e-9).all()


def test_stuck_pixels_are_told(tmp_path):
    (tmp_path / "dead.csv").write_text("x,y,level\n3,2,1\n60,70,0\n149,0,1\n", encoding="utf-8")
    masks = masks_of({"preset": "slm-phase-8bit", "dead": str(tmp_path / "dead.csv")})
    masks.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        valid = file["entry/masks/valid"][...]
    assert np.argwhere(valid == 0).tolist() == [[0, 1, 0], [0, 69, 57]]  # the panel has 150 × 146, the tile 144 × 144
    MaskSet.load(tmp_path / "m.h5")


def test_the_devices_are_told_with_their_sigmas(tmp_path):
    masks = masks_of({"preset": "slm-phase-8bit"}, tolerances=fo.Tolerances.load("lab-bench"))
    masks.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        name, value, sigma = ([one.decode() for one in file[f"entry/device/{c}"]] for c in ("name", "value", "sigma"))
    told = {n: (v, s) for n, v, s in zip(name, value, sigma, strict=True)}
    assert told["camera.gain"] == ("0.36", "1 %")
    assert told["camera.qe"] == ("65 %", "")
    assert told["mask.shift_x"] == ("0", "4 um")
    assert told["mask.levels"] == ("256", "")
    assert float(told["camera.read_noise"][1].split()[0]) == pytest.approx(10 / 3**0.5)  # uniform within 10 %
    assert told["camera.shift"] == ("0", "2 um")  # half a pixel of 4 um
    again = MaskSet.load(tmp_path / "m.h5")
    assert again.sigmas == masks.sigmas
    assert "mask.dead_pixels" not in again.sigmas  # fixed: it does not vary
