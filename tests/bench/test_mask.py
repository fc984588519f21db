"""The keys of [mask]: what goes with which kind, the tables beside the file, and what glasses are known for."""

import tomllib

import pytest

import fouroptics as fo
from fouroptics.devices import material

SLM, PLATE = fo.Bench.load("slm-532nm"), fo.Bench.load("plate-532nm")
PITCH = {"pitch": "8 um", "pixels": [64, 48]}


def of_kind(kind, encoding="double-phase", **keys):
    return SLM.replace({"mask": {"kind": kind, "encoding": encoding, **PITCH, **keys}}).mask


def test_the_new_keys_in_si():
    mask = PLATE.replace(
        {
            "mask.leak": "30 %",
            "mask.dc_block": "100 um",
            "mask.step_depth": "72.2 nm",
            "mask.wavefront": {"4": "10 nm"},
            "lens1.glass": "n-bk7",
        }
    )
    assert (mask.mask.leak, mask.mask.dc_block, mask.mask.step_depth) == (0.3, 100e-6, 72.2e-9)
    assert (mask.mask.wavefront, mask.mask.medium, mask.lens1.glass) == ({4: 10e-9}, "fused-silica", "n-bk7")
    assert SLM.mask.leak == 0.3
    assert (PLATE.mask.levels, PLATE.mask.step_depth, PLATE.lens1.glass) == (16, None, None)
    assert fo.Bench.from_dict(tomllib.loads(mask.to_toml())) == mask


def test_an_own_index_stands_in_for_the_preset_s_material():
    table = {"532 nm": 1.4607, "633 nm": 1.457}
    bench = PLATE.replace({"mask.index": table, "mask.material": None})
    assert (bench.mask.material, bench.mask.medium) == (None, {532e-9: 1.4607, 633e-9: 1.457})
    assert material.index(bench.mask.medium, 532e-9) == pytest.approx(1.4607)
    assert '"532 nm" = 1.4607' in bench.to_toml()
    assert fo.Bench.from_dict(tomllib.loads(bench.to_toml())) == bench
    assert fo.Bench.model_validate(bench.to_dict()) == bench
    assert PLATE.replace({"mask.index": {"500 nm": 2}, "mask.material": None}).mask.index == {500e-9: 2.0}


REFUSED = [
    (SLM, {"mask.levels": 1}, "mask.levels", "at least 2"),
    (SLM, {"mask.leak": "130 %"}, "mask.leak", "above 100 %"),
    (SLM, {"mask.leak": 0.3}, "mask.leak", "no unit"),
    (SLM, {"mask.material": "fused-silica"}, "mask.material", "a phase_slm mask has none, only multilevel_phase"),
    (SLM, {"mask.index": {"532 nm": 1.46}}, "mask.index", "a phase_slm mask has none, only multilevel_phase"),
    (SLM, {"mask.step_depth": "72 nm"}, "mask.step_depth", "a phase_slm mask has none, only multilevel_phase"),
    (PLATE, {"mask.phase_range": "6.283 rad"}, "mask.phase_range", "a multilevel_phase mask has none, only phase_slm"),
    (PLATE, {"mask.crosstalk": "1 um"}, "mask.crosstalk", "only phase_slm; leave it out"),
    (PLATE, {"mask.frame_rate": "60 Hz"}, "mask.frame_rate", "a multilevel_phase mask has none, only phase_slm"),
    (PLATE, {"mask.crosstalk": "1 um", "mask.flicker": "1 rad"}, "mask.crosstalk", "leave out crosstalk, flicker"),
    (PLATE, {"mask.settle": "1 ms"}, "mask.settle", "leave it out"),
    (PLATE, {"mask.step_depth": "9 um"}, "mask.step_depth", 'even steps of a turn are "72.'),
    (SLM, {"mask.flicker": "100 rad"}, "mask.flicker", "100 rad"),
    (SLM, {"mask.phase_range": "100 rad"}, "mask.phase_range", "100 rad"),
    (SLM, {"mask.wavefront": {"5": "300 waves"}}, "mask.wavefront.5", "above 20 um"),
    (SLM, {"mask.phase_range": "0 rad"}, "mask.phase_range", "shows nothing"),
    (PLATE, {"mask.material": "glass"}, "mask.material", "'fused-silica' or 'n-bk7'"),
    (PLATE, {"mask.index": {"532 nm": 1.46}}, "mask.index", "keep one of the two"),
    (PLATE, {"mask.index": {"532 nm": 1.0}, "mask.material": None}, "mask.index", "not a refractive index"),
    (PLATE, {"mask.index": {"532": 1.4}, "mask.material": None}, "mask.index", "532 nm"),
    (PLATE, {"mask.index": {}, "mask.material": None}, "mask.index", "1.4607"),
    (PLATE, {"mask.index": {"532 nm": 1.4, "0.532 um": 1.5}, "mask.material": None}, "mask.index", "twice"),
    (PLATE, {"mask.index": {"600 nm": 1.4, "700 nm": 1.5}, "mask.material": None}, "mask.index", "532 nm"),
    (PLATE, {"source.wavelength": "10.6 um"}, "mask.material", "10.6 um"),
    (SLM, {"source.wavelength": "3 um", "lens2.glass": "n-bk7"}, "lens2.glass", "n-bk7 at 3 um"),
    (SLM, {"lens1.glass": "air"}, "lens1.glass", "'n-bk7'"),
    (SLM, {"mask.dc_block": "20 mm"}, "mask.dc_block", "covers the whole mask"),
    (SLM, {"mask.wavefront": {"tilt": "1 nm"}}, "mask.wavefront", "Noll"),
    (SLM, {"mask.wavefront": {"4": "1 waves", "5": "1 rad"}}, "mask.wavefront.5", "optical path"),
    (SLM, {"mask.dead": "nowhere.csv"}, "mask.dead", "relative to the bench"),
]


@pytest.mark.parametrize(("bench", "changes", "where", "says"), REFUSED)
def test_masks_that_do_not_exist(bench, changes, where, says):
    with pytest.raises(fo.InputError) as caught:
        bench.replace(changes)
    assert caught.value.where.endswith(where)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["phase_slm", "multilevel_phase", "binary_amplitude", "grey_amplitude", "dmd"])
def test_levels_are_told_where_there_are_levels(kind):
    with pytest.raises(fo.InputError, match=f"mask.levels: a {kind} mask has levels; write how many"):
        of_kind(kind)
    assert of_kind(kind, levels=2).levels == 2
    if kind in ("binary_amplitude", "dmd"):
        with pytest.raises(fo.InputError, match="two levels, not 3; write 2"):
            of_kind(kind, levels=3)


def test_what_has_no_levels():
    assert of_kind("complex", "ideal").levels is None
    assert of_kind("metasurface", "ideal").levels is None
    with pytest.raises(fo.InputError, match=r"mask\.lut: a metasurface shows what its cells do"):
        of_kind("metasurface")


def table(folder, *rows):
    (folder / "t.csv").write_text("\n".join(("drive,phase_rad,transmittance", *rows)) + "\n", encoding="utf-8")
    return str(folder / "t.csv")


def test_tables_of_each_kind(tmp_path):
    cells = table(tmp_path, "0,0,0.9", "1,2,0.8", "2,4,0.9")
    assert len(of_kind("metasurface", lut=cells).table) == 3
    assert len(of_kind("phase_slm", lut=cells, levels=3).table) == 3
    assert of_kind("phase_slm", lut=table(tmp_path, "0,0,1", "7,6,1"), levels=8).table.drive == (0, 7)
    film = table(tmp_path, "0,1,0.01", "255,0,1")
    assert of_kind("grey_amplitude", "lee", lut=film, levels=256).table.amplitude == (0.1, 1.0)
    mirrors = table(tmp_path, "0,0,0", "1,0,1")
    assert of_kind("dmd", "lee", lut=mirrors, levels=2).table.amplitude == (0.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "levels", "rows", "says"),
    [
        ("phase_slm", 2, ("0,0,1", "1,2,1", "2,3,1"), "the table has 3 rows, the mask 2 levels"),
        ("phase_slm", 256, ("0,0,1", "248,6,1"), "run from 0 to 248 and the mask's levels from 0 to 255"),
        ("phase_slm", 256, ("1,0,1", "255,6,1"), "run from 1 to 255"),
        ("phase_slm", 256, ("0,0,1", "1,3,1", "2,6,1"), "the table has 3 rows, the mask 256 levels; levels = 3"),
        ("phase_slm", 3, ("0,0,1", "17,2,1", "34,3,1"), "its 3 drives run from 0 to 34"),
        ("phase_slm", 3, ("0,0,1", "0.5,2,1", "2,3,1"), "a drive is the level that is set, a whole number"),
        ("metasurface", None, ("1,0,1", "2,6,1"), "run from 1 to 2"),
        ("phase_slm", 2, ("0,0,1", "1,353,1"), "56.2 turns; phase_rad is in radians"),
        ("metasurface", 4, ("0,0,1", "3,6,1"), "the table has 2 rows, the mask 4 levels; levels = 2"),
        ("multilevel_phase", 3, ("0,0,1", "1,2,1", "2,1,1"), "t.csv: line 4: phase_rad turns back"),
        ("metasurface", None, ("0,0,1", "1,2,1", "2,1,1"), "t.csv: line 4: phase_rad turns back"),
        ("grey_amplitude", 3, ("0,0,.1", "1,0,.3", "2,0,.2"), "t.csv: line 4: transmittance turns back"),
        ("phase_slm", 2, ("0,0,1", "1,2,1.1"), "t.csv: line 3: a transmittance of 1.1"),
        ("complex", None, ("0,0,1", "1,2,1"), "an ideal mask has no table"),
    ],
)
def test_tables_that_do_not_go_with_the_mask(tmp_path, kind, levels, rows, says):
    keys = {} if levels is None else {"levels": levels}
    with pytest.raises(fo.InputError) as caught:
        of_kind(kind, lut=table(tmp_path, *rows), **keys)
    assert caught.value.where.endswith("mask.lut")
    assert says in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_stuck_pixels_lie_on_the_panel(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("x,y,level\n63,47,15\n", encoding="utf-8")
    assert of_kind("phase_slm", levels=16, dead=str(path)).stuck == [(63, 47, 15)]
    for levels, row, says in (
        (15, "", "line 2: level = 15"),
        (16, "64,0,1\n", "line 3: x = 64"),
        (16, "0,48,1\n", "y = 48"),
    ):
        path.write_text(f"x,y,level\n63,47,15\n{row}", encoding="utf-8")
        with pytest.raises(fo.InputError, match=says) as caught:
            of_kind("phase_slm", levels=levels, dead=str(path))
        assert caught.value.where.endswith("mask.dead")
    path.write_text("x,y,level\n0,0,2\n", encoding="utf-8")
    cells = table(tmp_path, "0,0,1", "1,3,1")
    with pytest.raises(fo.InputError, match="level = 2"):
        of_kind("metasurface", lut=cells, dead=str(path))
    with pytest.raises(fo.InputError, match="stuck pixels need a mask of levels"):
        of_kind("complex", "ideal", dead=str(path))


def test_a_bench_stands_alone_with_its_tables_inside(tmp_path):
    (tmp_path / "l.csv").write_bytes(b"drive,phase_rad\r\n0,0\r\n255,6\r\n")
    (tmp_path / "d.csv").write_text("x,y,level", encoding="utf-8")
    bench = SLM.replace({"mask.lut": str(tmp_path / "l.csv"), "mask.dead": str(tmp_path / "d.csv")})
    alone = bench.standing_alone()
    for path in tmp_path.iterdir():
        path.unlink()
    assert alone.mask.table.phase == (0.0, 6.0)
    assert alone.mask.stuck == []
    again = fo.Bench.from_dict(tomllib.loads(alone.to_toml()))
    assert again == alone
    alone.save(tmp_path / "bench.toml")
    assert [path.name for path in tmp_path.iterdir()] == ["bench.toml"]
    assert fo.Bench.load(tmp_path / "bench.toml").fingerprint() == alone.fingerprint() == again.fingerprint()
    with pytest.raises(fo.InputError, match=r"mask\.lut: the table inside: line 3: phase_rad turns back"):
        alone.replace({"mask.lut": "drive,phase_rad\n0,0\n1,-1\n255,2\n"})
    assert SLM.standing_alone() is SLM


def test_a_table_inside_and_beside_has_one_fingerprint(tmp_path):
    (tmp_path / "l.csv").write_text("drive,phase_rad\n0,0\n255,6\n", encoding="utf-8")
    bench = SLM.replace({"mask.lut": str(tmp_path / "l.csv")})
    assert bench.standing_alone().fingerprint() == bench.fingerprint()
