"""Layouts and frames read back by readers of our own: every pixel, the right way up, the right tone."""

import csv
import json
from collections import Counter
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
from tests.masks import oasis_reader
from tests.masks.gds_reader import boundaries
from tests.masks.made import masks_of, middle, with_letter


def by_gdstk(path):
    """What the readers of our own tell, told by another library."""
    library = (gdstk.read_gds if path.suffix == ".gds" else gdstk.read_oas)(path)
    assert library.unit == pytest.approx(1e-6, rel=1e-12)
    (top,) = library.top_level()
    return in_units(top, library), library.precision


def in_units(cell, library):
    """All that a cell of gdstk holds, closed, in whole database units."""
    scale, found = round(library.unit / library.precision), []
    for polygon in cell.get_polygons():
        points = np.concatenate((polygon.points, polygon.points[:1])) * scale
        assert np.allclose(points, np.rint(points), rtol=0, atol=1e-6)
        found.append((polygon.layer, np.rint(points).astype(int)))
    return found


def boxes(polygons):
    """Layer and sides of every polygon, sorted; each is a rectangle, and closed."""
    corners = np.stack([points for _, points in polygons]).astype(np.int64)
    low, high = corners.min(1), corners.max(1)
    x, y = np.moveaxis(corners, 2, 0)
    twice = np.abs((x[:, :-1] * y[:, 1:] - x[:, 1:] * y[:, :-1]).sum(1))
    assert corners.shape[1:] == (5, 2)
    assert np.array_equal(corners[:, 0], corners[:, 4])
    assert np.array_equal(twice, 2 * (high - low).prod(1))
    assert twice.all()
    return sorted([layer, *sides] for (layer, _), sides in zip(polygons, np.hstack((low, high)).tolist(), strict=True))


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
    due = boxes(polygons)
    for name, read in [("masks.gds", by_gdstk), ("masks.oas", by_gdstk), ("masks.oas", oasis_reader.boundaries)]:
        same, its_unit = read(tmp_path / name)
        assert its_unit == pytest.approx(1e-9, rel=1e-12)
        assert boxes(same) == due
    counted = Counter(layer for layer, _ in polygons)
    assert {int(layer): of["rectangles"] for layer, of in told["layers"].items()} == counted
    assert told["rectangles"] == len(polygons)
    again = tmp_path / "again"
    again.mkdir()
    gds.write(masks, again)
    assert (again / "masks.gds").read_bytes() == (tmp_path / "masks.gds").read_bytes()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("masks.gds", boundaries),
        ("masks.gds", by_gdstk),
        ("masks.oas", oasis_reader.boundaries),
        ("masks.oas", by_gdstk),
    ],
)
def test_an_f_comes_out_upright_in_layouts(tmp_path, name, read):
    masks, shown = with_letter("chrome")  # chrome is dark, level 0: the letter
    gds.write(masks, tmp_path)
    polygons, unit = read(tmp_path / name)
    assert np.array_equal(rastered(polygons, unit, masks.planes[0], 1, 0) == 1, shown)


def test_a_flipped_bit_in_an_oasis_is_noticed(tmp_path):
    gds.write(masks_of({"preset": "etched-2"}), tmp_path)
    path = tmp_path / "masks.oas"
    raw = path.read_bytes()
    assert oasis_reader.boundaries(path)[0]
    for at in (20, len(raw) // 2, len(raw) - 300, len(raw) - 100, len(raw) - 1):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :])
        with pytest.raises(ValueError, match="do not have the CRC32 that END tells"):
            oasis_reader.boundaries(path)


def turned(points):
    """Corners of a closed polygon, wherever they begin and whichever way they run."""
    corners = points[:-1].tolist()
    return min(way[i:] + way[:i] for way in (corners, corners[::-1]) for i in range(len(corners)))


@pytest.mark.parametrize("options", [{}, {"detect_rectangles": False, "standard_properties": True}])
def test_the_reader_reads_what_another_library_wrote(tmp_path, options):
    library = gdstk.Library(unit=1e-6, precision=1e-9)
    shapes, copies, pair, top = (library.new_cell(name) for name in ("SHAPES", "COPIES", "PAIR", "TOP"))
    steps = [(0, 0), (5, 0), (5, 2), (3, 2), (3, 7), (0, 7)]  # along x, then y: its last corner is not written
    for layer, points in enumerate(
        [
            [(-1, -2), (3, -2), (3, 4.001), (-1, 4.001)],
            [(0, 0), (2, 0), (2, 2), (0, 2)],
            steps,
            [(y, -x) for x, y in steps],
            [(0, 0), (5, 0), (5, 1), (5, 2), (3, 2), (3, 7), (0, 7)],
            [(0, 0), (5, 0), (7, 2), (7, 5), (4, 5), (2, 3), (0, 3)],
            [(0, 0), (5, 1), (3, 7), (-2.003, 3)],
        ]
    ):
        shapes.add(gdstk.Polygon(points, layer=layer))
    for layer, how in enumerate(
        [
            {"columns": 3, "rows": 4, "spacing": (10, -20)},
            {"columns": 3, "rows": 1, "spacing": (10, 20)},
            {"columns": 1, "rows": 5, "spacing": (10, 20)},
            {"columns": 3, "rows": 2, "v1": (10, 1), "v2": (-2, 12)},
            {"columns": 5, "rows": 1, "v1": (10, 1), "v2": (-2, 12)},
            {"x_offsets": [5, 11, 12]},
            {"y_offsets": [5, 11, 12.001]},
            {"offsets": [(4, 5), (-7, 8.5), (100, 9)]},
        ]
    ):
        for shape in (gdstk.rectangle((50, 50), (52, 51), layer=layer), gdstk.Polygon([(0, 0), (5, 1), (3, 7)])):
            shape.repetition = gdstk.Repetition(**how)
            copies.add(shape.set_property("drawn", ["by", -2, 2.5, b"\x01\x02", *range(13)]))
    quarter = np.pi / 2
    pair.add(gdstk.Reference(shapes, (100, 200)), gdstk.Reference(copies, (-30, 5), rotation=quarter))
    pair.add(gdstk.Reference(shapes, (7, -8), x_reflection=True, rotation=2 * quarter))
    top.add(gdstk.Reference(pair, (1000, 0)), gdstk.Reference(pair, x_reflection=True, rotation=3 * quarter))
    top.add(gdstk.Reference(shapes, (0.001, 0.002), columns=3, rows=2, spacing=(30, -40)))
    library.write_oas(tmp_path / "a.oas", detect_trapezoids=False, validation="crc32", **options)
    found, unit = oasis_reader.boundaries(tmp_path / "a.oas")
    assert unit == pytest.approx(1e-9, rel=1e-12)
    due = sorted((layer, turned(points)) for layer, points in in_units(top, library))
    assert sorted((layer, turned(points)) for layer, points in found) == due


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (gdstk.Polygon([(0, 0), (9, 0), (7, 2), (1, 2)]), "a record of kind 2[3-6]"),  # a trapezoid
        (gdstk.Label("text", (0, 0)), "a record of kind 19"),
        (gdstk.FlexPath([(0, 0), (9, 0)], 1, simple_path=True), "a record of kind 22"),
        (gdstk.rectangle((0, 0), (1, 2), datatype=1), "a datatype"),
        (gdstk.Reference(gdstk.Cell("LARGER"), magnification=2), "a cell 2.0 times as large"),
        (gdstk.Reference(gdstk.Cell("ASKEW"), rotation=0.5), "turned by 28.6"),
    ],
)
def test_the_reader_refuses_what_it_does_not_know(tmp_path, what, says):
    library = gdstk.Library()
    top = library.new_cell("TOP").add(gdstk.rectangle((0, 0), (2, 1)), what)
    library.add(*top.dependencies(True))
    library.write_oas(tmp_path / "a.oas", validation="crc32")
    with pytest.raises(ValueError, match=says):
        oasis_reader.boundaries(tmp_path / "a.oas")


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
    with pytest.raises(fo.InputError, match="2 frames, and what is made once does not change"):
        gds.write(replace(masks, planes=(later,)), tmp_path)
    bench = masks.bench
    with pytest.raises(fo.InputError, match="pair_intensity needs two masks an output, and a multilevel_phase mask"):
        fo.Correlator4f.from_kernels(torch.randn(1, 1, 3, 3), bench, (12, 12), masks="device", readout="pair_intensity")


def test_a_plate_beyond_the_database_is_refused(tmp_path):
    masks = masks_of({"preset": "etched-2", "pixels": [110_000, 146]})
    plane = masks.planes[0]
    far = replace(plane, origin=np.array([[0.0, 52_000 * plane.pitch[1]]]))
    with pytest.raises(fo.InputError, match=r"reaches 3.*e\+09 database units, and a file holds 2147483647"):
        gds.write(replace(masks, planes=(far,)), tmp_path)
    assert not list(tmp_path.iterdir())
