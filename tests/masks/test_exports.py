"""Layouts and frames read back by readers of our own: every pixel, the right way up, the right tone."""

import csv
import json
from dataclasses import replace

import gdstk
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import fouroptics as fo
from fouroptics.cli import main
from fouroptics.masks import bitmap, etch, gds, heights, runs
from tests.masks.gds_reader import boundaries
from tests.masks.made import masks_of, middle, with_letter


def rastered(polygons, unit, plane, layer, tile):
    """Pixels of a tile whose middle lies in a rectangle of the layer, row 0 on top; and how often."""
    _, rows, columns = plane.levels.shape
    hits = np.zeros((rows, columns), int)
    y = -(plane.origin[tile, 0] + (np.arange(rows) - (rows - 1) / 2) * plane.pitch[0]) / unit
    x = (plane.origin[tile, 1] + (np.arange(columns) - (columns - 1) / 2) * plane.pitch[1]) / unit
    for its_layer, points in polygons:
        if its_layer != layer:
            continue
        assert len(points) == 5
        (left, bottom), (right, top) = points.min(0), points.max(0)
        rows_in, columns_in = np.flatnonzero((y > bottom) & (y < top)), np.flatnonzero((x > left) & (x < right))
        hits[np.ix_(rows_in, columns_in)] += 1
    return hits


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31), st.floats(0, 1))
def test_rectangles_cover_every_true_pixel_once(rows, columns, seed, share):
    mask = np.random.default_rng(seed).random((rows, columns)) < share
    hits = np.zeros(mask.shape, int)
    for top, left, bottom, right in runs.rectangles(mask):
        hits[top:bottom, left:right] += 1
    assert np.array_equal(hits, mask.astype(int))


def test_equal_runs_below_each_other_are_one_rectangle():
    block = np.zeros((6, 7), bool)
    block[1:5, 2:6] = True
    assert runs.rectangles(block).tolist() == [[1, 2, 5, 6]]
    assert runs.rectangles(np.zeros((3, 3), bool)).shape == (0, 4)


@pytest.mark.parametrize("preset", ["etched-2", "etched-4", "etched-8", "etched-16", "chrome"])
def test_a_layout_is_the_mask_to_the_pixel(tmp_path, preset):
    masks = masks_of({"preset": preset})
    told = gds.write(masks, tmp_path)
    plane = masks.planes[0]
    polygons, unit = boundaries(tmp_path / "masks.gds")
    assert unit == pytest.approx(1e-9, rel=1e-12)
    levels = np.asarray(plane.levels[0])
    removed = np.zeros(levels.shape)
    for step in etch.steps(plane):
        hits = rastered(polygons, unit, plane, step.layer, 0)
        assert hits.max() == 1
        bit = levels == 0 if preset == "chrome" else (levels >> (step.layer - 1)) & 1 == 0
        assert np.array_equal(hits == 1, bit)
        removed += hits * step.depth
    if preset != "chrome":  # what stands is what was not etched
        assert np.allclose(plane.table.height.max() - removed, plane.table.height[levels], rtol=0, atol=1e-15)
    read = gdstk.read_oas(tmp_path / "masks.oas").top_level()[0].get_polygons()
    from_oasis = [(p.layer, np.rint(np.concatenate((p.points, p.points[:1])) * 1e3)) for p in read]
    for layer in {1, len([*etch.steps(plane)])}:
        assert np.array_equal(rastered(from_oasis, 1e-9, plane, layer, 0), rastered(polygons, unit, plane, layer, 0))
    inside = [layer for layer, points in polygons if layer < 100 and np.abs(points).max() < 4.2e6]
    assert told["rectangles"] == len(inside) + (4 if preset == "chrome" else 0)
    again = tmp_path / "again"
    again.mkdir()
    gds.write(masks, again)
    assert (again / "masks.gds").read_bytes() == (tmp_path / "masks.gds").read_bytes()


@pytest.mark.parametrize("name", ["masks.gds", "masks.oas"])
def test_an_f_comes_out_upright_in_layouts(tmp_path, name):
    masks, shown = with_letter("chrome")  # chrome is dark, level 0: the letter
    gds.write(masks, tmp_path)
    if name == "masks.gds":
        polygons, unit = boundaries(tmp_path / name)
    else:
        read = gdstk.read_oas(tmp_path / name).top_level()[0].get_polygons()
        polygons, unit = [(p.layer, np.concatenate((p.points, p.points[:1])) * 1e3) for p in read], 1e-9
    assert np.array_equal(rastered(polygons, unit, masks.planes[0], 1, 0) == 1, shown)


@pytest.mark.parametrize("preset", ["dmd", "slm-phase-8bit"])
@pytest.mark.parametrize(("mirror", "turn"), [(False, 0), (True, 0), (False, 90), (False, 180), (True, 270)])
def test_an_f_comes_out_upright_in_frames_and_as_it_was_turned(tmp_path, preset, mirror, turn):
    masks, shown = with_letter(preset)
    bitmap.write(masks, tmp_path, mirror=mirror, turn=turn)
    due = shown[:, ::-1] if mirror else shown
    for _ in range(turn // 90):  # counter-clockwise: the right column becomes the top row
        due = due.T[::-1]
    frame = np.asarray(Image.open(tmp_path / "frame-0000.png"))
    assert frame.shape == ((146, 150) if turn in (0, 180) else (150, 146))
    assert np.array_equal(middle(frame, due.shape) > 0, due)


def test_tiles_stand_where_they_stand_on_the_plate(tmp_path):
    masks = masks_of({"preset": "etched-4", "pixels": [300, 300]}, (2, 1), {"layout.outputs": "lenslet"})
    gds.write(masks, tmp_path)
    polygons, unit = boundaries(tmp_path / "masks.gds")
    plane = masks.planes[0]
    for tile in range(2):
        assert np.array_equal(rastered(polygons, unit, plane, 1, tile) == 1, np.asarray(plane.levels[tile]) & 1 == 0)


@pytest.mark.parametrize(("mask", "mode"), [({"preset": "slm-phase-8bit"}, "L"), ({"preset": "dmd"}, "1")])
def test_frames_hold_the_levels_on_the_whole_panel(tmp_path, mask, mode):
    masks = masks_of(mask, (3, 1))
    told = bitmap.write(masks, tmp_path)
    plane = masks.planes[0]
    with (tmp_path / "playlist.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["outputs"] for row in rows] == ["0", "1", "2"]
    assert told["panel_pixels"] == [150, 146]
    for tile, row in enumerate(rows):
        image = Image.open(tmp_path / row["file"])
        assert (image.mode, image.size) == (mode, (150, 146))
        frame = np.asarray(image).astype(int)
        rows_of, columns = plane.levels.shape[1:]
        top, left = (146 - rows_of) // 2, (150 - columns) // 2
        assert np.array_equal(frame[top : top + rows_of, left : left + columns], plane.levels[tile])
        frame[top : top + rows_of, left : left + columns] = 0
        assert not frame.any()
    mirrored = tmp_path / "mirrored"
    mirrored.mkdir()
    bitmap.write(masks, mirrored, mirror=True)
    there, here = (np.asarray(Image.open(f / "frame-0001.png")) for f in (mirrored, tmp_path))
    assert np.array_equal(there, here[:, ::-1])
    assert not np.array_equal(there, here)


def test_deep_levels_take_sixteen_bits(tmp_path):
    masks = masks_of({"preset": "slm-phase-8bit", "levels": 1024})
    bitmap.write(masks, tmp_path)
    frame = np.asarray(Image.open(tmp_path / "frame-0000.png")).astype(int)
    assert frame.max() > 255
    assert frame.max() == int(np.asarray(masks.planes[0].levels).max())


def test_the_verb_exports_by_kind_and_says_what_it_wrote(tmp_path, capsys):
    masks_of({"preset": "etched-8"}).save(tmp_path / "m.h5")
    assert main(["masks", "export", str(tmp_path / "m.h5"), "--process", "etched", "--out", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out" / "masks.json").read_text(encoding="utf-8"))
    assert told["layers"]["3"]["depth_m"] == pytest.approx(4 * told["layers"]["1"]["depth_m"])
    assert {"masks.gds", "masks.oas", "masks.json"} <= {path.name for path in (tmp_path / "out").iterdir()}
    capsys.readouterr()
    assert main(["masks", "export", str(tmp_path / "m.h5"), "--process", "slm", "--out", str(tmp_path / "no")]) == 2
    assert "slm makes phase_slm masks, these are multilevel_phase; etched" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("mask", "write", "says"),
    [
        ({"preset": "slm-phase-8bit"}, gds.write, "is not drawn as a layout; --process slm, dmd or grey takes it"),
        ({"preset": "etched-4"}, bitmap.write, "is not shown in frames"),
        ({"preset": "etched-4", "levels": 6}, gds.write, "6 levels are no power of two"),
        ({"preset": "chrome", "fill_factor": "90 %"}, gds.write, "pixels fill 0.9 of their area"),
        ({"preset": "dmd"}, heights.write, "a dmd mask has no heights and no greys"),
    ],
)
def test_what_a_process_cannot_make_is_refused(tmp_path, mask, write, says):
    with pytest.raises(fo.InputError, match=says):
        write(masks_of(mask), tmp_path)


def test_a_plate_does_not_change_from_frame_to_frame(tmp_path):
    masks = masks_of({"preset": "etched-2"})
    later = replace(masks.planes[0], frame=np.array([1], "<i4"))
    with pytest.raises(fo.InputError, match="2 frames, and what is etched does not change"):
        gds.write(replace(masks, planes=(later,)), tmp_path)
    bench = masks.bench
    with pytest.raises(fo.InputError, match="pair_intensity needs two masks an output, and a multilevel_phase mask"):
        fo.Correlator4f.from_kernels(torch.randn(1, 1, 3, 3), bench, (12, 12), masks="device", readout="pair_intensity")


def test_a_plate_beyond_the_database_is_refused(tmp_path):
    masks = masks_of({"preset": "etched-2"})
    far = replace(masks.planes[0], origin=np.array([[0.0, 3.0]]))
    with pytest.raises(fo.InputError, match=r"reaches 3.*e\+09 database units, and a file holds 2147483647"):
        gds.write(replace(masks, planes=(far,)), tmp_path)
    assert not list(tmp_path.iterdir())
