"""Heights, doses, sags, marks and labels, read back by other libraries and by hand."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import fouroptics as fo
from fouroptics.masks import etch, gds, heights, marks, rasters
from tests.masks.gds_reader import boundaries
from tests.masks.made import masks_of, middle, with_letter


def test_an_f_comes_out_upright_and_high_in_every_picture_of_heights(tmp_path):
    masks, shown = with_letter("etched-8")
    heights.write(masks, tmp_path)
    table = masks.planes[0].table
    metres = np.asarray(Image.open(tmp_path / "plate.tiff"))
    assert np.allclose(middle(metres, shown.shape), np.where(shown, table.height.max(), 0), rtol=1e-6)
    assert np.array_equal(middle(np.asarray(Image.open(tmp_path / "plate.png")), shown.shape) == 65535, shown)
    doses = middle(np.asarray(Image.open(tmp_path / "dose.bmp")), shown.shape)
    assert np.array_equal(doses, np.where(shown, 0, 255))  # a dose removes
    nanometres = np.loadtxt(tmp_path / "plate.csv", delimiter=",")
    assert np.array_equal(middle(nanometres, shown.shape) > 0, shown)
    head, *points = (tmp_path / "sag.dat").read_text(encoding="ascii").splitlines()
    pitch = masks.planes[0].pitch[0] * 1e3
    assert [float(word) for word in head.split()] == pytest.approx([150, 146, pitch, pitch, 0, 0, 0])
    sags = np.array([float(point.split()[0]) for point in points]).reshape(146, 150)  # x first, from the top
    glass = -middle(sags, shown.shape) * 1e-3  # the surface stands towards the source: more glass, more delay
    delay = 2 * np.pi * (1.46071 - 1) * glass / masks.bench.source.wavelength
    assert np.allclose(delay, np.where(shown, table.phase[-1], 0), rtol=1e-4)


def test_heights_read_back_are_those_of_the_levels(tmp_path):
    masks = masks_of({"preset": "etched-16"})
    told = heights.write(masks, tmp_path)
    table, levels = masks.planes[0].table, np.asarray(masks.plate())
    half = np.diff(table.height).min() / 2
    scale = float(told["files"]["plate.png"].split()[-2])
    for name, unit in (("plate.tiff", 1), ("plate.png", scale), ("dose.bmp", -table.height.max() / 255)):
        read = np.asarray(Image.open(tmp_path / name)).astype(float) * unit + (table.height.max() if unit < 0 else 0)
        assert np.abs(read - table.height[levels]).max() < half
        assert np.array_equal(np.abs(read[..., None] - table.height).argmin(-1), levels)
    assert np.abs(np.loadtxt(tmp_path / "plate.csv", delimiter=",") * 1e-9 - table.height[levels]).max() < 1e-13


def test_doses_follow_a_curve_and_reach_every_level(tmp_path):
    masks = masks_of({"preset": "etched-8"})
    table, doses = masks.planes[0].table, np.arange(0, 256, 5)
    depth = 1.2e3 * (doses / 255) ** 0.5  # nm, steep at first
    curve = tmp_path / "curve.csv"
    lines = [f"{dose},{deep}" for dose, deep in zip(doses, depth, strict=True)]
    curve.write_text("\n".join(["dose,depth_nm", *lines]), encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    heights.write(masks, out, curve)
    written = np.asarray(Image.open(out / "dose.bmp")).astype(float)
    made = table.height.max() - np.interp(written, doses, depth) * 1e-9
    assert np.abs(made - table.height[np.asarray(masks.plate())]).max() < np.diff(table.height).min() / 2


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("dose,depth_nm\n0,0\n255,300\n", r"curve\.csv: level 0 has 1010 depth_nm, the nearest dose 300"),
        ("dose,depth_nm\n0,0\n9,300\n99,200\n", "does not go one way"),
        ("dose,height\n0,0\n9,300\n", "names other columns; the first line is dose,depth_nm"),
        ("dose,depth_nm\n0,0\n", "is no curve"),
    ],
)
def test_curves_that_cannot_be_are_refused(tmp_path, lines, says):
    (tmp_path / "curve.csv").write_text(lines, encoding="utf-8")
    with pytest.raises(fo.InputError, match=says):
        heights.write(masks_of({"preset": "etched-8"}), tmp_path, tmp_path / "curve.csv")


def test_a_grey_plate_is_told_by_the_amplitude_that_it_passes(tmp_path):
    masks = masks_of({"preset": "grey"})
    told = heights.write(masks, tmp_path)
    passed = masks.planes[0].table.amplitude[np.asarray(masks.plate())]
    doses = np.asarray(Image.open(tmp_path / "dose.bmp")).astype(float) / 255
    assert np.array_equal(np.rint(doses * 255), np.asarray(masks.plate()))
    assert told["quantity"] == "amplitude"
    assert np.allclose(np.asarray(Image.open(tmp_path / "plate.tiff")), passed, atol=1e-7)
    sixteen = np.asarray(Image.open(tmp_path / "plate.png")).astype(float) / 65535
    assert np.abs(sixteen - passed).max() <= 0.5 / 65535 + 1e-9
    assert not (tmp_path / "sag.dat").exists()


def test_a_plate_is_put_together_from_its_tiles():
    masks = masks_of({"preset": "etched-4", "pixels": [310, 300]}, (2, 1), {"layout.outputs": "lenslet"})
    plane, plate = masks.planes[0], masks.plate()
    whole = np.asarray(plate)
    assert whole.shape == plate.shape == (300, 310)
    due = np.full((300, 310), 3)  # not etched
    for tile in range(2):
        row, column = corner(plane, tile, (300, 310))
        due[row : row + plane.levels.shape[1], column : column + plane.levels.shape[2]] = plane.levels[tile]
    assert np.array_equal(whole, due)
    assert np.array_equal(plate[100:140, 20:50], due[100:140, 20:50])
    assert np.array_equal(plate[-1], due[-1])
    assert np.array_equal(np.concatenate([strip for _, strip in plate.strips()]), due)
    beside = replace(plane, origin=plane.origin + 10 * plane.pitch[0])
    between = replace(plane, origin=plane.origin + 0.4 * plane.pitch[0])
    above = replace(plane, origin=plane.origin[[0, 0]])
    for moved, says in ((beside, "beside the panel"), (between, "between the panel's pixels"), (above, "on tile 1")):
        with pytest.raises(fo.InputError, match=says):
            replace(masks, planes=(moved,)).plate()


def corner(plane, tile, panel):
    """Row and column of a tile's upper left pixel."""
    return np.rint(plane.origin[tile] / plane.pitch + (np.array(panel) - plane.levels.shape[1:]) / 2).astype(int)


@pytest.mark.parametrize("bits", [1, 8, 16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 13), (40, 17)])
def test_pictures_written_in_strips_are_read_by_another_library(tmp_path, monkeypatch, bits, shape):
    monkeypatch.setattr(rasters, "_STRIP", 60)
    values = np.random.default_rng(0).integers(0, 1 << bits, shape)
    rasters.png(tmp_path / "a.png", shape, lambda a, b: values[a:b], bits)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), values)
    rasters.tiff(tmp_path / "a.tiff", shape, lambda a, b: values[a:b] / 7)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.tiff")), (values / 7).astype("f4"))
    rasters.bmp(tmp_path / "a.bmp", shape, lambda a, b: values[a:b] % 256)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.bmp").convert("L")), values % 256)


def of_layer(polygons, layer, unit):
    """Left, bottom, right and top of a layer's rectangles [um]."""
    found = np.array([(*points.min(0), *points.max(0)) for its, points in polygons if its == layer])
    return found * unit * 1e6


def test_marks_stand_where_a_shop_looks_for_them(tmp_path):
    masks = masks_of({"preset": "etched-4"})
    told = gds.write(masks, tmp_path)
    polygons, unit = boundaries(tmp_path / "masks.gds")
    half = 144 * masks.planes[0].pitch[0] / 2 * 1e6
    crosses = of_layer(polygons, marks.FIDUCIALS, unit)
    bars = crosses[crosses[:, 2] - crosses[:, 0] > 50]  # the level bar of each
    centres = sorted(zip((bars[:, 0] + bars[:, 2]) / 2, (bars[:, 1] + bars[:, 3]) / 2, strict=True))
    away = half + 200
    due = [(-away - 150, away), (-away, -away), (-away, away), (away, -away), (away, away)]
    assert np.allclose(centres, due, atol=2e-3)
    for layer, side in ((1, 60), (2, 20)):  # box in box, left and right, on the layers of the two steps
        boxes = of_layer(polygons, layer, unit)
        beside = boxes[np.abs(boxes[:, 0]) > half + 100]
        for sign in (-1, 1):
            here = beside[np.sign(beside[:, 0]) == sign]
            hull = [here[:, 0].min(), here[:, 1].min(), here[:, 2].max(), here[:, 3].max()]
            middle_x = sign * (half + 600)
            due = [middle_x - side / 2, -side / 2, middle_x + side / 2, side / 2]
            assert np.allclose(hull, due, atol=2e-3)
    frame = of_layer(polygons, marks.FRAME, unit)
    assert np.allclose([frame[:, :2].min(), frame[:, 2:].max()], [-half - 60, half + 60], atol=2e-3)
    assert told["overlay_pairs"] == [[1, 2]]
    hull = np.concatenate([points for _, points in polygons])
    assert np.allclose(told["bounding_box_m"], np.ravel([hull.min(0), hull.max(0)]) * unit, atol=2e-9)
    with (tmp_path / "layers.csv").open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert [row["layer"] for row in rows] == ["1", "2", "100", "110", "120"]
    assert float(rows[1]["depth_nm"]) == pytest.approx(2 * float(rows[0]["depth_nm"]), abs=0.02)


def test_the_label_can_be_read(tmp_path):
    """Drawn again from its rectangles it is the text as the font has it, upright."""
    masks = replace(masks_of({"preset": "etched-2"}), title="F mask µ")
    gds.write(masks, tmp_path)
    polygons, unit = boundaries(tmp_path / "masks.gds")
    boxes = of_layer(polygons, marks.LABELS, unit)
    text = f"F mask ?  set {masks.uuid[:8]}  532 nm  seen from the source"
    font = ImageFont.load_default_imagefont()
    image = Image.new("1", font.getbbox(text)[2:])
    ImageDraw.Draw(image).text((0, 0), text, fill=1, font=font)
    ink = np.asarray(image)[np.asarray(image).any(1)]
    pixel = (boxes[:, 3] - boxes[:, 1]).min()
    first = int(np.flatnonzero(ink.any(0))[0])
    left, top = boxes[:, 0].min() - first * pixel, boxes[:, 3].max()
    drawn = np.zeros(ink.shape, bool)
    for x0, y0, x1, y1 in np.rint((boxes - [left, top, left, top]) / pixel).astype(int):
        drawn[-y1 : len(drawn) if y0 == -len(drawn) else -y0, x0:x1] = True
    assert np.array_equal(drawn, ink)


@pytest.mark.parametrize("changes", [{}, {"layout.outputs": "lenslet"}])
def test_chrome_covers_all_of_the_panel_but_the_masks(tmp_path, changes):
    masks = masks_of({"preset": "chrome", "pixels": [310, 300]}, (2 if changes else 1, 1), changes)
    plane = masks.planes[0]
    gds.write(replace(masks, planes=(replace(plane, levels=np.ones_like(plane.levels)),)), tmp_path)
    polygons, unit = boundaries(tmp_path / "masks.gds")
    y = -(np.arange(300) - 149.5) * plane.pitch[0]
    x = (np.arange(310) - 154.5) * plane.pitch[1]
    hits = np.zeros((300, 310), int)
    for left, bottom, right, top in of_layer(polygons, 1, unit) * 1e-6:
        hits += ((y > bottom) & (y < top))[:, None] & ((x > left) & (x < right))
    due = np.ones((300, 310), int)
    for tile in range(plane.levels.shape[0]):
        row, column = corner(plane, tile, (300, 310))
        due[row : row + plane.levels.shape[1], column : column + plane.levels.shape[2]] = 0
    assert np.array_equal(hits, due)


def test_a_plate_of_measured_levels_is_not_drawn_with_nominal_depths(tmp_path):
    (tmp_path / "lut.csv").write_text("drive,phase_rad\n0,0\n1,1.5\n2,3.2\n3,4.6\n", encoding="utf-8")
    masks = masks_of({"preset": "etched-4", "lut": str(tmp_path / "lut.csv")})
    with pytest.raises(fo.InputError, match=r"mask\.lut: the levels are measured ones"):
        gds.write(masks, tmp_path)


def test_a_tolerance_of_depths_costs_a_hundredth_of_the_light():
    """Every etch off by its tolerance, with all signs, on levels that are all as frequent."""
    plane = masks_of({"preset": "etched-16"}).planes[0]
    steps, levels = [*etch.steps(plane)], np.arange(16)
    kept = []
    for signs in np.ndindex(*[2] * 4):
        off = sum(
            (2 * sign - 1) * step.tolerance * ((levels >> bit & 1) == 0)
            for bit, (sign, step) in enumerate(zip(signs, steps, strict=True))
        )
        kept.append(abs(np.exp(1j * off * plane.table.phase[1] / plane.table.height[1]).mean()) ** 2)
    assert np.allclose(kept, 0.99, rtol=0, atol=1e-12)


def test_heights_that_no_etches_make_are_not_drawn(tmp_path):
    masks = masks_of({"preset": "etched-4"})
    table = masks.planes[0].table
    bent = replace(table, height=table.height * [1, 1, 1, 1.1])
    with pytest.raises(fo.InputError, match="heights of the levels are no even steps"):
        gds.write(replace(masks, planes=(replace(masks.planes[0], table=bent),)), tmp_path)
