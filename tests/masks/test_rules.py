"""Planted violations, each found once and where it is; a set mended within the rules; the original as it was."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fouroptics as fo
from fouroptics.cli import main
from fouroptics.correlator import fidelity
from fouroptics.masks import MaskSet, repair, rules
from fouroptics.masks.limits import Limits
from tests.masks.made import masks_of

UM = 1e-6
PITCH = (1 * UM, 1 * UM)
LIMITS = Limits(min_feature=4 * UM, min_gap=3 * UM, min_area=40 * UM**2)


def block(raster, top, left, height, width, value=True):
    raster[top : top + height, left : left + width] = value


def planted():
    """A raster of 300² pixels, and of every rule the places that a reader of this function counts: 20 in all."""
    raster = np.zeros((300, 300), bool)
    due = {name: [] for name in rules.MENDED}
    for number, width in enumerate((1, 2, 3)):  # upright lines, too narrow
        block(raster, 10, 10 + 20 * number, 60, width)
        due["width in x"].append((10, 10 + 20 * number))
    for number, height in enumerate((1, 3)):  # level lines
        block(raster, 10 + 20 * number, 100, height, 60)
        due["width in y"].append((10 + 20 * number, 100))
    for number, gap in enumerate((1, 2, 2)):  # two blocks beside each other
        block(raster, 100, 10 + 60 * number, 20, 20)
        block(raster, 100, 30 + gap + 60 * number, 20, 20)
        due["gap in x"].append((100, 30 + 60 * number))
    for number, gap in enumerate((1, 2)):  # below each other
        block(raster, 140, 10 + 40 * number, 20, 20)
        block(raster, 160 + gap, 10 + 40 * number, 20, 20)
        due["gap in y"].append((160, 10 + 40 * number))
    for number in range(3):  # corner to corner, once to the left
        left = 110 + 60 * number
        block(raster, 140, left, 10, 10)
        block(raster, 150, left + (10 if number < 2 else -10), 10, 10)
        due["corners"].append((150, left + (10 if number < 2 else 0)))
    for number, side in enumerate(((6, 6), (4, 9), (5, 7))):  # 36, 36 and 35 pixels
        block(raster, 200, 10 + 20 * number, *side)
        due["islands"].append((200, 10 + 20 * number))
    block(raster, 220, 100, 60, 120)  # with holes in it
    for number, side in enumerate(((3, 13), (6, 6), (4, 8), (3, 3))):  # 39, 36, 32 and 9 pixels
        block(raster, 240, 110 + 25 * number, *side, value=False)
        due["holes"].append((240, 110 + 25 * number))
    block(raster, 200, 250, 8, 50)  # to the border: nothing beside the raster is a gap
    block(raster, 298, 20, 2, 30)  # at the border, and too narrow all the same
    due["width in y"].append((298, 20))
    raster[298:, 20:50] = False
    due["width in y"].pop()
    return raster, due


def test_planted_violations_are_found_where_they_are():
    raster, due = planted()
    assert sum(map(len, due.values())) == 20
    found = {one.rule: one for one in rules.on_raster(raster, PITCH, LIMITS, tile=3)}
    assert {name: found[name].count if name in found else 0 for name in due} == {n: len(p) for n, p in due.items()}
    for name, places in due.items():
        assert sorted(found[name].places) == sorted((3, *place) for place in places), name
    worst = {name: found[name].worst for name in due}
    expected = {
        "width in x": UM, "width in y": UM, "gap in x": UM, "gap in y": UM, "corners": 0.0,
        "islands": 35 * UM**2, "holes": 9 * UM**2,
    }  # fmt: skip
    assert worst == pytest.approx(expected)


def test_nothing_is_found_where_all_is_wide():
    raster = np.zeros((60, 60), bool)
    block(raster, 10, 10, 20, 20)
    block(raster, 33, 10, 20, 20)
    assert not [*rules.on_raster(raster, PITCH, LIMITS)]


def counted(raster, least, *, free):
    """Short runs of rows one by one; one that is the same as that of the row above is the same place."""
    found, above = 0, set()
    for row in raster.tolist():
        here, start = set(), None
        for column, value in enumerate([*row, False]):
            if value and start is None:
                start = column
            if not value and start is not None:
                at_border = start == 0 or column == len(row)
                if column - start < least and not (free and at_border):
                    here.add((start, column))
                start = None
        found += len(here - above)
        above = here
    return found


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**31), st.integers(2, 4), st.integers(2, 4))
def test_widths_gaps_and_corners_are_those_of_a_walk_over_the_pixels(rows, columns, seed, line, gap):
    raster = np.random.default_rng(seed).random((rows, columns)) < 0.6
    found = Counter()
    for one in rules.on_raster(raster, PITCH, Limits(min_feature=line * UM, min_gap=gap * UM)):
        found[one.rule] = one.count
    assert found["width in x"] == counted(raster, line, free=False)
    assert found["width in y"] == counted(raster.T, line, free=False)
    assert found["gap in x"] == counted(~raster, gap, free=True)
    assert found["gap in y"] == counted(~raster.T, gap, free=True)
    touching = 0
    for y in range(rows - 1):
        for x in range(columns - 1):
            (a, b), (c, d) = raster[y : y + 2, x : x + 2].tolist()
            touching += (a, b, c, d) in ((True, False, False, True), (False, True, True, False))
    assert found["corners"] == touching


@given(st.integers(0, 2**31), st.floats(0.05, 0.95), st.integers(1, 4), st.integers(1, 4), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_what_is_mended_keeps_the_rules(seed, share, line, gap, area):
    rng = np.random.default_rng(seed)
    raster = rng.random((rng.integers(8, 40), rng.integers(8, 40))) < share
    limits = Limits(min_feature=line * UM, min_gap=gap * UM, min_area=area * UM**2)
    mended = repair.mended(raster, PITCH, limits)
    assert not [one for one in rules.on_raster(mended, PITCH, limits) if one.rule in rules.MENDED]


def test_mending_changes_what_is_wrong_and_nothing_else():
    raster = np.zeros((80, 80), bool)
    block(raster, 10, 10, 30, 30)
    block(raster, 50, 50, 20, 20)
    right = raster.copy()
    raster[20, 60] = True  # a speck
    raster[25, 25] = False  # a hole
    raster[15, 40] = True  # a bump on the edge
    assert np.array_equal(repair.mended(raster, PITCH, LIMITS), right)
    assert repair.mended(right, PITCH, LIMITS) is right


def coarse(preset="etched-4", cell=3):
    """A set whose levels are equal in cells of some pixels, so that most lines are wide enough."""
    masks = masks_of({"preset": preset})
    plane = masks.planes[0]
    few = np.asarray(plane.levels[:, ::cell, ::cell])
    levels = np.repeat(np.repeat(few, cell, 1), cell, 2)[:, : plane.levels.shape[1], : plane.levels.shape[2]]
    return replace(masks, planes=(replace(plane, levels=np.ascontiguousarray(levels)),))


@pytest.mark.parametrize("preset", ["etched-4", "chrome"])
def test_a_repaired_set_passes_and_says_what_it_cost(tmp_path, capsys, preset):
    masks = coarse(preset)
    pixel = masks.planes[0].pitch[0]
    masks.save(tmp_path / "m.h5")
    before = (tmp_path / "m.h5").read_bytes()
    asked = ["--rule", f'min_feature="{2.5 * pixel / UM!r} um"', "--rule", f'min_gap="{2 * pixel / UM!r} um"']
    assert main(["masks", "validate", str(tmp_path / "m.h5"), *asked]) == 1
    assert "corners" in capsys.readouterr().out
    out = tmp_path / "repaired.h5"
    assert main(["masks", "repair", str(tmp_path / "m.h5"), "--out", str(out), *asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["after"]["ok"]
    assert not told["before"]["ok"]
    assert 0 < told["changed"] < told["pixels"] / 2
    assert len(told["kernel_likeness"]["before"]) == len(told["kernel_likeness"]["after"]) == 1
    seen = told["response_correlation"]
    bank = MaskSet.load(out).correlator()
    assert seen["after"] == pytest.approx(fidelity.report(bank).real.tolist(), abs=1e-6)
    assert seen["before"] != pytest.approx(seen["after"], abs=1e-3)
    assert (tmp_path / "m.h5").read_bytes() == before
    again = MaskSet.load(out)
    changed = np.count_nonzero(np.asarray(again.planes[0].levels) != np.asarray(masks.planes[0].levels))
    assert changed == told["changed"]
    assert again.uuid != masks.uuid
    assert again.provenance["repaired_from"] == masks.uuid
    assert main(["masks", "validate", str(out), *asked]) == 0
    assert "every design rule is kept" in capsys.readouterr().out


def test_the_kernel_after_a_repair_is_that_of_the_new_masks():
    masks = coarse()
    made = repair.repaired(masks, Limits(min_feature=2.5 * masks.planes[0].pitch[0]))
    alone = MaskSet.from_correlator(made.masks.correlator())
    assert np.array_equal(made.masks.realised, alone.realised)
    assert not np.allclose(made.masks.realised, masks.realised)


def test_depths_grids_fills_and_sizes_have_rules_too():
    masks = masks_of({"preset": "etched-4"})
    plane = masks.planes[0]
    pixel, deepest = plane.pitch[0], plane.table.height[2]
    limits = Limits(
        corners=False, max_aspect=0.9 * deepest / pixel, max_extent=100 * pixel, min_fill=0.99, grid=pixel / 3.5
    )
    found = {(one.rule, one.layer): one for one in rules.check(masks, limits).findings}
    assert set(found) == {
        ("aspect", 2), ("extent", 0), ("fill below", 1), ("fill below", 2), ("snap in x", 0), ("snap in y", 0)
    }  # fmt: skip
    assert found["aspect", 2].worst == pytest.approx(deepest / pixel)
    assert found["extent", 0].worst == pytest.approx(144 * pixel)
    assert found["fill below", 1].worst == pytest.approx((np.asarray(plane.levels) & 1 == 0).mean())
    # Edges stand at whole pixels, every seventh half pixel is on the grid of 2/7: off by 0, 1/7 or 1/14 of a pixel
    off = np.arange(-72, 73) * 3.5 % 1
    off = np.minimum(off, 1 - off) / 3.5
    assert found["snap in x", 0].count == np.count_nonzero(off > 0.02)
    assert found["snap in x", 0].worst == pytest.approx(off.max() * pixel, rel=1e-6)


def test_masks_too_near_to_each_other_are_found():
    masks = masks_of({"preset": "etched-2", "pixels": [300, 300]}, (2, 1), {"layout.outputs": "lenslet"})
    pixel = masks.planes[0].pitch[0]
    apart = np.abs(np.diff(masks.planes[0].origin, axis=0)).max() - 144 * pixel
    near = rules.check(masks, Limits(corners=False, min_gap=apart + pixel)).findings
    assert [one.rule for one in near if one.rule == "masks apart"] == ["masks apart"]
    assert not [one for one in rules.check(masks, Limits(corners=False)).findings]


def test_rules_come_from_a_file_and_from_words(tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text('format = "fouroptics-rules/1"\nmin_feature = "2 um"\nmin_area = "4 um^2"\n', encoding="utf-8")
    limits = Limits.load(file, {"min_gap": "1500 nm", "corners": False})
    assert limits == Limits(min_feature=2 * UM, min_gap=1.5 * UM, min_area=4e-12, corners=False)
    assert Limits.load(None, limits.to_dict()) == limits


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"min_featur": "2 um"}, "min_featur: no such rule"),
        ({"min_feature": "2"}, "min_feature: '2'"),
        ({"min_feature": "2 rad"}, "min_feature: 'rad' is not a unit of length"),
        ({"corners": "no"}, "corners: 'no' is neither true nor false"),
    ],
)
def test_rules_that_are_none_are_refused(given, says):
    with pytest.raises(fo.InputError, match=says):
        Limits.load(None, given)


def test_what_is_shown_has_no_design_rules(tmp_path, capsys):
    masks_of({"preset": "dmd"}).save(tmp_path / "m.h5")
    assert main(["masks", "validate", str(tmp_path / "m.h5"), "--rule", 'min_gap="2 um"']) == 2
    assert "a dmd mask is not drawn" in capsys.readouterr().err
    assert main(["masks", "repair", str(tmp_path / "m.h5"), "--out", str(tmp_path / "m.h5")]) == 2
    assert "the original stays" in capsys.readouterr().err


def test_rules_given_at_first_are_asked_for_ever_after(tmp_path, capsys):
    np.save(tmp_path / "k.npy", np.random.default_rng(0).standard_normal((1, 1, 3, 3)).astype("f4"))
    small = ["--set", "mask.levels=4", "--set", "mask.pitch=24 um", "--set", "mask.pixels=[512, 512]"]
    out = str(tmp_path / "m.h5")
    asked = ["--size", "32x32", *small, "--rule", 'min_gap="30 um"', "--out", out]
    assert main(["masks", "from-kernels", str(tmp_path / "k.npy"), "--bench", "plate-532nm", *asked]) == 0
    capsys.readouterr()
    assert main(["masks", "validate", out, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)["design_rules"]
    assert told["limits"] == {"min_gap": "30 um"}
    assert main(["masks", "validate", out, "--rule", "corners=false"]) == 1  # one more rule, beside its own
    (tmp_path / "other.toml").write_text('format = "fouroptics-rules/1"\ncorners = false\n', encoding="utf-8")
    assert main(["masks", "validate", out, "--rules", str(tmp_path / "other.toml")]) == 0  # a shop's in their place
    assert main(["masks", "repair", out, "--out", str(tmp_path / "r.h5"), "--json"]) == 0
    assert MaskSet.load(tmp_path / "r.h5").rules == Limits(min_gap=30e-6)
    assert main(["masks", "validate", str(tmp_path / "r.h5")]) == 0


def flooded(raster, least, *, free):
    """Connected parts smaller than ``least`` pixels, found by filling them one after another."""
    left, found = {(int(y), int(x)) for y, x in np.argwhere(raster)}, []
    while left:
        part, waiting = set(), [min(left)]
        while waiting:
            y, x = waiting.pop()
            if (y, x) in left:
                left.remove((y, x))
                part.add((y, x))
                waiting += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        rows, columns = zip(*part, strict=True)
        at_border = min(rows) == 0 or min(columns) == 0
        at_border = at_border or max(rows) == raster.shape[0] - 1 or max(columns) == raster.shape[1] - 1
        if len(part) < least and not (free and at_border):
            found.append((*min(part), len(part)))
    return sorted(found)


@given(st.integers(0, 2**31), st.floats(0.1, 0.9), st.integers(1, 12), st.booleans())
def test_islands_and_holes_are_those_of_a_flood(seed, share, least, outside):
    rng = np.random.default_rng(seed)
    raster = rng.random((rng.integers(2, 10), rng.integers(2, 10))) < share
    limits = Limits(min_area=least * UM**2, corners=False)
    found = {one.rule: one for one in rules.on_raster(raster, PITCH, limits, outside=outside)}
    for name, parts, free in (("islands", raster, outside), ("holes", ~raster, not outside)):
        due = flooded(parts, least, free=free)
        assert (found[name].count if name in found else 0) == len(due)
        if due:
            assert found[name].places == [(0, *place[:2]) for place in due][:10]
            assert found[name].worst == pytest.approx(min(size for *_, size in due) * UM**2)
