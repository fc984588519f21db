"""What a mask shop found wrong once: chrome's surround, lying tables, blank plates, pages and playlists."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import fouroptics as fo
from fouroptics.cli import main
from fouroptics.masks import (
    MaskSet,
    bitmap,
    contents,
    gds,
    h5,
    h5_write,
    heights,
    rasters,
    repair,
    rules,
    show,
    traveller,
    tree,
)
from fouroptics.masks.limits import Limits
from tests.masks.gds_reader import boundaries
from tests.masks.made import masks_of


def with_levels(masks, levels):
    return replace(masks, planes=(replace(masks.planes[0], levels=levels),))


def layer_of(masks, folder, limits=None, layer=1):
    """A layer of the exported layout on the panel's pixels, and two beside it all round."""
    gds.write(masks, folder, limits=limits)
    polygons, unit = boundaries(folder / "masks.gds")
    panel, pitch = masks.bench.mask.pixels, masks.planes[0].pitch
    y = -(np.arange(panel[1]) - (panel[1] - 1) / 2) * pitch[0]
    x = (np.arange(panel[0]) - (panel[0] - 1) / 2) * pitch[1]
    drawn = np.zeros((len(y), len(x)), bool)
    for its, points in polygons:
        if its == layer:
            (left, bottom), (right, top) = points.min(0) * unit, points.max(0) * unit
            drawn[np.ix_((y > bottom) & (y < top), (x > left) & (x < right))] = True
    return drawn


def test_rules_of_chrome_know_that_chrome_surrounds_it(tmp_path):
    masks = masks_of({"preset": "chrome"})
    pixel = masks.planes[0].pitch[0]
    limits = Limits(min_feature=2 * pixel, min_gap=2 * pixel, corners=False)
    slit = np.zeros((1, 144, 144), np.uint8)
    slit[0, :, 0] = 1  # clear, a pixel wide, between the mask's chrome and that beside it
    found = rules.check(with_levels(masks, slit), limits).findings
    assert [(one.rule, one.count) for one in found] == [("gap in x", 1)]
    joined = np.ones((1, 144, 144), np.uint8)
    joined[0, :, 0] = 0  # chrome that goes on beyond the border is wide
    assert not rules.check(with_levels(masks, joined), limits).findings
    made = repair.repaired(masks, limits)
    drawn = layer_of(made.masks, tmp_path)
    inside = [one for one in rules.on_raster(drawn, (pixel, pixel), limits, outside=True)]
    assert not inside
    assert made.changed


@pytest.mark.parametrize("way", ["etched", "slm", "rules", "repair", "grey", "traveller"])
def test_a_set_of_several_planes_is_not_taken_for_its_first(tmp_path, way):
    masks = masks_of({"preset": "slm-phase-8bit" if way == "slm" else "etched-4"})
    two = replace(masks, planes=(masks.planes[0], masks.planes[0]))
    acts = {
        "etched": lambda: gds.write(two, tmp_path),
        "slm": lambda: bitmap.write(two, tmp_path),
        "rules": lambda: rules.check(two),
        "repair": lambda: repair.repaired(two, Limits()),
        "grey": lambda: heights.write(two, tmp_path),
        "traveller": lambda: traveller.drawn(two, rules.check(masks)),
    }
    with pytest.raises(fo.InputError, match=r"planes: 2 planes of masks, and one is taken at a time"):
        acts[way]()
    assert not list(tmp_path.iterdir())


def test_one_of_several_planes_is_exported_by_its_number(tmp_path, capsys):
    masks = masks_of({"preset": "dmd"})
    replace(masks, planes=(masks.planes[0], masks.planes[0])).save(tmp_path / "m.h5")
    asked = ["masks", "export", str(tmp_path / "m.h5"), "--process", "dmd", "--out", str(tmp_path / "out")]
    assert main(asked) == 2
    assert "--plane 0" in capsys.readouterr().err
    assert main([*asked, "--plane", "1"]) == 0
    assert (tmp_path / "out" / "frame-0000.png").exists()


LIES = {
    "deeper": ("etched-4", lambda table: replace(table, height=10 * table.height)),
    "backwards": ("etched-4", lambda table: replace(table, phase=-table.phase)),
    "inverted": ("chrome", lambda table: replace(table, amplitude=table.amplitude[::-1].copy())),
    "bent": ("grey", lambda table: replace(table, amplitude=table.amplitude**2)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_table_that_is_not_the_bench_s_is_not_exported(tmp_path, capsys, lie):
    preset, bend = LIES[lie]
    masks = masks_of({"preset": preset})
    plane = masks.planes[0]
    replace(masks, planes=(replace(plane, table=bend(plane.table)),)).save(tmp_path / "m.h5")
    process = {"etched-4": "etched", "chrome": "chrome", "grey": "grey"}[preset]
    assert main(["masks", "export", str(tmp_path / "m.h5"), "--process", process, "--out", str(tmp_path / "o")]) == 2
    assert "level_table: is not what the bench's mask passes" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_what_a_file_says_twice_is_the_same(tmp_path):
    masks = masks_of({"preset": "slm-phase-8bit"}, (2, 1))
    plane = masks.planes[0]
    swapped = replace(plane, terms=replace(plane.terms, frame=plane.terms.frame[::-1].copy()))
    gaps = replace(plane, frame=2 * plane.frame, terms=replace(plane.terms, frame=2 * plane.terms.frame))
    blank = replace(plane, table=replace(plane.table, phase=plane.table.phase * np.nan))
    for bent, says in (
        (swapped, "terms/frame: is not when its tile is shown"),
        (gaps, "frame: 0 … 2 lies beyond|numbers leave frames out"),
        (blank, "level_table/phase: has values that are no numbers"),
    ):
        with pytest.raises(fo.InputError, match=says):
            replace(masks, planes=(bent,)).save(tmp_path / "m.h5")
    other = replace(plane, kind="dmd")
    replace(masks, planes=(other,)).save(tmp_path / "m.h5")
    assert main(["masks", "export", str(tmp_path / "m.h5"), "--process", "dmd", "--out", str(tmp_path / "o")]) == 2


def test_tiles_on_each_other_are_no_layout(tmp_path):
    masks = masks_of({"preset": "etched-4", "pixels": [310, 300]}, (2, 1), {"layout.outputs": "lenslet"})
    plane = masks.planes[0]
    near = plane.origin.copy()
    near[1] = near[0] + [0, 10 * plane.pitch[1]]
    with pytest.raises(fo.InputError, match="tile 0 stands on tile 1"):
        gds.write(replace(masks, planes=(replace(plane, origin=near),)), tmp_path)


@pytest.mark.parametrize("preset", ["chrome", "etched-2"])
def test_a_repair_that_would_leave_nothing_is_refused(preset):
    masks = masks_of({"preset": preset})
    with pytest.raises(fo.InputError, match="tile 0 would be blank on layer 1: it has nothing as wide"):
        repair.repaired(masks, Limits(min_feature=9e-3, min_gap=1e-3))


def test_a_kernel_of_nothing_is_not_like_one():
    masks = masks_of({"preset": "dmd"})
    assert show.likeness(replace(masks, realised=0 * masks.realised)) == [0.0]
    assert show.likeness(replace(masks, realised=0 * masks.realised, kernels=0 * masks.kernels)) == [1.0]


def test_a_way_that_passes_is_taken_before_one_that_changes_less():
    raster = np.ones((12, 12), bool)
    raster[5, 5] = False
    limits = Limits(min_feature=20e-6, min_gap=1e-6)
    assert not repair.mended(raster, (1e-6, 1e-6), limits).any()  # no line of 20 pixels stands on 12


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("dose,transmittance\n0,-0.001\n255,1\n", "has transmittances beyond 0 … 1"),
        ("dose,transmittance\n0,0\n255,100\n", "has transmittances beyond 0 … 1; shares, not per cent"),
    ],
)
def test_curves_of_no_shares_are_refused(tmp_path, lines, says):
    (tmp_path / "curve.csv").write_text(lines, encoding="utf-8")
    with pytest.raises(fo.InputError, match=says):
        heights.write(masks_of({"preset": "grey"}), tmp_path, tmp_path / "curve.csv")


def test_levels_beyond_all_doses_are_left_out_and_told(tmp_path):
    told = heights.write(masks_of({"preset": "grey", "levels": 300}), tmp_path)
    assert "dose.bmp: 300 levels are more than 256 doses" in told["files"]["left out"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plate.csv", "plate.png", "plate.tiff"]


def test_a_repaired_set_keeps_its_other_rules_and_its_past(tmp_path, capsys):
    masks = masks_of({"preset": "etched-4"}, rules=Limits(max_extent=0.15))
    replace(masks, provenance={**masks.provenance, "selected_from": "x"}).save(tmp_path / "m.h5")
    asked = [str(tmp_path / "m.h5"), "--rule", "corners=true", "--out", str(tmp_path / "r.h5")]
    assert main(["masks", "repair", *asked]) == 0
    found = MaskSet.load(tmp_path / "r.h5")
    assert found.rules == Limits(max_extent=0.15)
    assert found.provenance["selected_from"] == "x"
    capsys.readouterr()
    assert main(["masks", "validate", str(tmp_path / "m.h5"), "--rule", "min_gap"]) == 2
    assert "--rule: 'min_gap' is no KEY=VALUE" in capsys.readouterr().err


def test_edges_lie_on_the_writer_s_grid(tmp_path):
    masks = masks_of({"preset": "etched-4"})
    gds.write(masks, tmp_path, limits=Limits(grid=25e-9))
    polygons, _ = boundaries(tmp_path / "masks.gds")
    steps = np.concatenate([points for layer, points in polygons if layer < 100])
    tile = steps[np.abs(steps).max(1) < 4.2e6]
    assert len(tile) > 1000
    assert not (tile % 25).any()
    drawn = layer_of(masks, tmp_path, Limits(grid=25e-9))
    assert np.array_equal(drawn[1:-1, 3:-3], np.asarray(masks.planes[0].levels[0]) & 1 == 0)
    with pytest.raises(fo.InputError, match=r"grid: addresses of 2\.5 nm, and a layout counts in whole ones"):
        gds.write(masks, tmp_path, limits=Limits(grid=2.5e-9))


def test_marks_are_as_wide_as_the_rules_ask(tmp_path):
    masks = masks_of({"preset": "etched-8"})
    gds.write(masks, tmp_path, limits=Limits(min_feature=30e-6))
    polygons, unit = boundaries(tmp_path / "masks.gds")
    half = 72 * masks.planes[0].pitch[0]
    beside = [p * unit for layer, p in polygons if layer < 100 and np.abs(p * unit).max() > half + 1e-6]
    assert len(beside) == 2 * 2 * 5  # two pairs, left and right: a ring of four bars and a box
    assert min(np.ptp(points, 0).min() for points in beside) == pytest.approx(30e-6)


@pytest.mark.parametrize(("preset", "share"), [("etched-2", 0.4053), ("etched-4", 0.8106), ("etched-16", 0.9872)])
def test_the_efficiency_is_that_of_the_levels(preset, share):
    assert traveller._efficiency(masks_of({"preset": preset})) == pytest.approx(share, abs=1e-4)  # sinc²(1/N)


def test_levels_that_reach_no_turn_are_less_efficient():
    """Four steps of 72.2 nm are half a turn in all: by hand, the mean over all phases of the nearest of four."""
    masks = masks_of({"preset": "etched-4", "material": "fused-silica", "step_depth": "72.2 nm"})
    step = 2 * np.pi * 0.46071 * 72.2e-9 / 532e-9
    near = lambda phi: min((abs((phi - k * step + np.pi) % (2 * np.pi) - np.pi), k) for k in range(4))[1]  # noqa: E731
    phases = np.arange(0, 2 * np.pi, 1e-3)
    due = abs(np.mean([np.exp(1j * (near(phi) * step - phi)) for phi in phases])) ** 2
    assert traveller._efficiency(masks) == pytest.approx(due, abs=2e-3)


def words_of(masks, limits=None):
    page = traveller.drawn(masks, rules.check(masks, limits))
    return [text.get_text() for text in page.texts], page


def test_a_traveller_tells_depths_tolerances_tone_and_known_pixels():
    masks = replace(masks_of({"preset": "etched-8"}), title="Plate $a$ of\nedges")
    words, page = words_of(masks, Limits(min_feature=200e-6))
    assert words[0] == "Plate $a$ of edges"
    rows = [line.split() for line in words if re.match(r" +[123] +[123] +etch", line)]
    assert [row[:2] for row in rows] == [["1", "1"], ["2", "2"], ["3", "3"]]
    depths = [float(row[-4]) for row in rows]
    index = 1.46071
    assert depths == pytest.approx([532 / 8 / (index - 1) * 2**k for k in range(3)], abs=0.05)
    told = " ".join(words)
    for part in (
        "drawn is what is etched",
        "NOTHING IS MIRRORED",
        "lines from 200 um",
        "1–2, 2–3",
        masks.uuid,
        "width in x",
    ):
        assert part in told, part
    table, levels = masks.planes[0].table, np.asarray(masks.planes[0].levels[0])
    notes = [text.get_text() for text in page.axes[0].texts]
    assert len(notes) == 3
    for note in notes:
        row, column, height = (int(number) for number in re.findall(r"\d+", note))
        assert height == round(table.height[levels[row, column]] * 1e9)
    page.savefig("/dev/null", format="pdf")  # no letter of a title is a formula


def test_a_traveller_of_chrome_tells_which_pixels_are_clear():
    masks = masks_of({"preset": "chrome"})
    words, page = words_of(masks)
    assert any("drawn is chrome (dark)" in line for line in words)
    levels = np.asarray(masks.planes[0].levels[0])
    notes = {text.get_text() for text in page.axes[0].texts}
    assert len(notes) == 3
    assert {note.split(": ")[1] for note in notes} == {"clear", "chrome"}
    for note in notes:
        row, column = (int(number) for number in re.findall(r"\d+", note))
        assert note.endswith("clear" if levels[row, column] else "chrome")


@pytest.mark.parametrize(
    ("readout", "changes", "captures"),
    [
        ("intensity", {}, [("0", "0", "0 1", "+", ""), ("1", "1", "0 1", "+", "")]),
        ("interference", {}, [("0", "0", "0 1", "+", "0"), ("1", "1", "0 1", "+", "0")]),
        (
            "pair_intensity",
            {},
            [(str(2 * sign + out), str(out), "0 1", "+-"[sign], "") for sign in (0, 1) for out in (0, 1)],
        ),
        ("homodyne", {}, [(f, o, "0 1", "+", r) for f, o in (("0", "0"), ("1", "1")) for r in ("0", repr(np.pi))]),
        ("homodyne", {"reference.captures": 1}, [("0", "0", "0 1", "+", "0"), ("1", "1", "0 1", "+", "0")]),
    ],
)  # fmt: skip
def test_a_playlist_has_a_line_a_capture(tmp_path, readout, changes, captures):
    masks = masks_of({"preset": "slm-phase-8bit"}, (2, 2), {"camera.exposure": "30 us"} | changes, readout=readout)
    bitmap.write(masks, tmp_path)
    with (tmp_path / "playlist.csv").open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    keys = ("frame", "outputs", "inputs", "sign", "reference_rad")
    assert [tuple(row[key] for key in keys) for row in rows] == captures
    assert [row["capture"] for row in rows] == [str(n) for n in range(len(captures))]
    assert {float(row["exposure_s"]) for row in rows} == {30e-6}
    assert all((tmp_path / row["file"]).exists() for row in rows)


def test_a_crystal_of_two_levels_takes_bytes(tmp_path):
    from PIL import Image

    masks = masks_of({"preset": "slm-phase-8bit", "levels": 2})
    bitmap.write(masks, tmp_path)
    frame = Image.open(tmp_path / "frame-0000.png")
    assert frame.mode == "L"
    assert set(np.unique(np.asarray(frame))) == {0, 1}


def test_all_that_two_sets_differ_in_is_told():
    masks = masks_of({"preset": "etched-4"})
    plane = masks.planes[0]
    assert not show.difference(masks, masks)
    deeper = replace(masks, planes=(replace(plane, table=replace(plane.table, height=2 * plane.table.height)),))
    assert show.difference(masks, deeper) == {"plane 0, what differs": ["level_table.height"]}
    swapped = replace(
        masks, planes=(replace(plane, terms=replace(plane.terms, out_channel=plane.terms.out_channel + 1)),)
    )
    assert show.difference(masks, swapped) == {"plane 0, what differs": ["terms.out_channel"]}
    assert show.difference(masks, replace(masks, rules=Limits(grid=5e-9)))["rules"] == [None, {"grid": "5 nm"}]


def test_tiles_that_make_no_bank_are_not_chosen():
    masks = masks_of({"preset": "slm-phase-8bit"}, (2, 2), {"layout.inputs": "frames"}, readout="homodyne")
    with pytest.raises(fo.InputError, match=r"tiles: they make no bank alone; tiles \[0, 1, 2, 3\] carry"):
        masks.select(tiles=[0, 3])
    with pytest.raises(fo.InputError, match="are no whole numbers"):
        masks.select(outputs=np.array([True, False]))
    with pytest.raises(fo.InputError, match="are no whole numbers"):
        masks.select(outputs=[0.9])


def test_places_are_told_in_metres_too():
    masks = masks_of({"preset": "etched-4"})
    report = rules.check(masks)
    one = next(found for found in report.data["findings"] if found["rule"] == "corners")
    pitch = masks.planes[0].pitch
    assert one["places_m"] == [[row * pitch[0], column * pitch[1]] for _, row, column in one["places"]]
    assert json.loads(json.dumps(report.data))["ok"] is False


BENT = {
    "masks/etch/depth": 2.0, "masks/etch/depth_tolerance": 0.5, "masks/x": -1.0, "masks/phase": 0.5,
    "masks/height": 2.0, "optics/stop": 3.0, "optics/f1": 1.1, "plate/size": 2.0, "plate/fiducials/x": -1.0,
    "material/index": 1.01, "planes/position": 2.0,
}  # fmt: skip


@pytest.mark.parametrize("name", BENT)
def test_what_is_told_for_people_follows_from_what_is_so(tmp_path, name):
    """A file that is whole, digests and all, and says of its levels what they are not."""
    masks = masks_of({"preset": "etched-4"}, changes={"stop": {"shape": "square", "size": "8 mm"}})
    entries, attributes = contents.written(masks)
    entry = entries[f"/entry/{name}"]
    entries[f"/entry/{name}"] = replace(entry, value=np.asarray(entry.value[...]) * BENT[name])
    h5_write.write(tmp_path / "m.h5", entries, attributes, lambda path, _: h5.check(path, tree.is_known))
    with pytest.raises(fo.InputError, match=f"/entry/{name}: does not follow from the rest"):
        MaskSet.load(tmp_path / "m.h5")


@pytest.mark.parametrize("pixel", [0.1e-6, 0.7e-6, 1.1e-6, 3.3e-6])
@pytest.mark.parametrize("side", [1, 3, 7])
def test_what_is_exactly_as_large_as_asked_keeps_the_rule(pixel, side):
    island = np.zeros((20, 20), bool)
    island[5 : 5 + side, 5 : 5 + side] = True
    limits = Limits(min_area=(side * pixel) ** 2, min_feature=side * pixel)
    assert not [*rules.on_raster(island, (pixel, pixel), limits)]
    assert [*rules.on_raster(island, (pixel, pixel), replace(limits, min_area=1.01 * (side * pixel) ** 2))]


def test_a_plate_exactly_as_long_as_allowed_keeps_the_rule():
    masks = masks_of({"preset": "etched-2"})
    size = 144 * masks.planes[0].pitch[0]
    for limit, found in ((size, []), (0.999 * size, ["extent"])):
        report = rules.check(masks, Limits(corners=False, max_extent=limit))
        assert [one.rule for one in report.findings] == found


def test_a_long_title_ends_on_the_page_and_on_the_plate(tmp_path):
    masks = replace(masks_of({"preset": "etched-2"}), title="edges of all kinds " * 20)
    words, page = words_of(masks)
    assert words[0].endswith("…")
    renderer = FigureCanvasAgg(page).get_renderer()
    assert page.texts[0].get_window_extent(renderer).x1 < page.bbox.x1
    gds.write(masks, tmp_path)
    polygons, unit = boundaries(tmp_path / "masks.gds")
    label = np.concatenate([points for layer, points in polygons if layer == 120]) * unit
    assert np.ptp(label[:, 0]) < 1.2 * 144 * masks.planes[0].pitch[0]


def test_a_plate_beyond_a_bitmap_is_refused(tmp_path):
    with pytest.raises(fo.InputError, match="50000×50000 pixels, and a BMP holds less than 2 GiB; a smaller plate"):
        rasters.bmp(tmp_path / "a.bmp", (50_000, 50_000), lambda first, last: np.zeros((last - first, 50_000)))
    assert not list(tmp_path.iterdir())
