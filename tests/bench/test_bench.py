import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fouroptics as fo
from fouroptics.bench import presets

SLM = fo.Bench.load("slm-532nm")


def test_the_shipped_bench_in_si():
    assert SLM.source.wavelength == 532e-9
    assert SLM.input.sample == 16e-6
    assert SLM.mask.extent == (1080 * 8e-6, 1920 * 8e-6)
    assert SLM.camera.exposure == "auto"
    assert SLM.aberration.zernike == {4: 10e-9, 7: 15e-9}
    assert SLM.link.rate == 2.5e9
    assert "slm-532nm" in presets()


@pytest.mark.parametrize("name", presets())
def test_every_shipped_bench_loads_and_carries_something(name):
    assert fo.Bench.load(name).sampling(size=(32, 32), kernel=3, channels=(4, 1)).ok
    assert fo.Bench.load(name).sampling(size=(64, 64), kernel=7, channels=(16, 3)).ok


def test_what_is_saved_loads_equal_and_keeps_its_fingerprint(tmp_path):
    folder = tmp_path / "a space and µ"
    folder.mkdir()
    SLM.save(folder / "b.toml")
    again = fo.Bench.load(folder / "b.toml")
    assert again == SLM
    assert again.fingerprint() == SLM.fingerprint()
    assert again.to_toml() == SLM.to_toml()
    assert [p.name for p in folder.iterdir()] == ["b.toml"]


def test_fingerprints_stay_when_a_key_is_added():
    """Runs and mask sets of earlier days are told by them."""
    assert SLM.fingerprint().startswith("9d70617a6adc")
    assert SLM.replace({"reference.captures": 2}).fingerprint() == SLM.fingerprint()
    assert SLM.replace({"reference.captures": 1}).fingerprint() != SLM.fingerprint()


def test_fingerprints_are_of_content(tmp_path):
    text = SLM.to_toml()
    (tmp_path / "b.toml").write_text("# a comment\n" + text.replace("532 nm", "0.532 um"), encoding="utf-8")
    assert fo.Bench.load(tmp_path / "b.toml").fingerprint() == SLM.fingerprint()
    (tmp_path / "b.toml").write_text(text.replace("532 nm", "533 nm"), encoding="utf-8")
    assert fo.Bench.load(tmp_path / "b.toml").fingerprint() != SLM.fingerprint()


@given(st.floats(100e-9, 20e-6), st.floats(1e-3, 99.0))
def test_any_plausible_value_survives_the_file(wavelength, focal):
    bench = SLM.replace({"source.wavelength": f"{wavelength!r} m", "lens1.focal_length": f"{focal!r} m"})
    again = fo.Bench.from_dict(tomllib.loads(bench.to_toml()))
    assert (again.source.wavelength, again.lens1.focal_length) == (wavelength, focal)
    assert again == bench


def test_a_preset_fills_what_is_left_out_and_nothing_else(tmp_path):
    data = tomllib.loads(SLM.to_toml())
    data["mask"] = {"preset": "etched-16", "pitch": "3 um"}
    bench = fo.Bench.from_dict(data)
    assert (bench.mask.pitch, bench.mask.levels, bench.mask.frame_rate) == (3e-6, 16, None)


def test_replace_leaves_the_original_alone():
    changed = SLM.replace({"lens1.focal_length": "300 mm", "reference": None})
    assert (SLM.lens1.focal_length, changed.lens1.focal_length) == (0.25, 0.3)
    assert SLM.reference is not None
    assert changed.reference is None


def test_a_bench_is_changed_through_replace_only():
    with pytest.raises(fo.InputError, match=r"Bench\.replace"):
        SLM.model_copy(update={"name": "x"})
    assert SLM.model_copy() == SLM
    for part, name in ((SLM, "name"), (SLM.source, "wavelength")):
        with pytest.raises(fo.InputError, match=r"bench\.replace"):
            setattr(part, name, 1e-6)
    checked = fo.Bench.model_validate(SLM.to_dict())
    assert checked.replace({"lens1.focal_length": "300 mm"}).lens1.focal_length == 0.3


def test_measured_values_stand_in_for_nominal_ones(tmp_path):
    (tmp_path / "measured.toml").write_text(
        'format = "fouroptics-calibration/1"\n[camera]\ngain = 0.35\n[lens1]\nfocal_length = "251.3 mm"\n',
        encoding="utf-8",
    )
    SLM.save(tmp_path / "bench.toml")
    path = tmp_path / "bench.toml"
    path.write_text(path.read_text().replace('file = ""', 'file = "measured.toml"'), encoding="utf-8")
    bench = fo.Bench.load(path)
    assert (bench.camera.gain, bench.lens1.focal_length) == (0.35, 0.2513)
    assert bench.replace({"camera.gain": 0.3}).camera.gain == 0.3  # it is the bench's own from then on
    bench.save(tmp_path / "elsewhere.toml")
    (tmp_path / "measured.toml").unlink()
    assert fo.Bench.load(tmp_path / "elsewhere.toml") == bench  # the calibration is inlined


def test_tables_move_with_their_bench_and_count_for_the_fingerprint(tmp_path):
    (tmp_path / "measured.csv").write_text("drive,phase_rad,transmittance\n0,0,1\n255,6.28,0.97\n")
    (tmp_path / "stuck.csv").write_text("x,y,level\n7,9,0\n")
    text = SLM.to_toml().replace('lut = ""', 'lut = "measured.csv"').replace('dead = ""', 'dead = "stuck.csv"')
    (tmp_path / "b.toml").write_text(text, encoding="utf-8")
    bench = fo.Bench.load(tmp_path / "b.toml")
    before = bench.fingerprint()
    (tmp_path / "moved").mkdir()
    bench.save(tmp_path / "moved" / "b.toml")
    for name in ("measured.csv", "stuck.csv"):
        (tmp_path / name).unlink()
    moved = fo.Bench.load(tmp_path / "moved" / "b.toml")
    assert moved.fingerprint() == before
    assert sorted(p.name for p in (tmp_path / "moved").iterdir()) == ["b-dead.csv", "b-lut.csv", "b.toml"]
    assert str(tmp_path) not in (tmp_path / "moved" / "b.toml").read_text()
    assert moved.mask.table.phase == (0, 6.28)
    assert moved.mask.stuck == [(7, 9, 0)]
    Path(moved.mask.dead).write_text("x,y,level\n7,9,1\n")
    assert moved.fingerprint() != before


def test_waves_are_of_the_bench_s_wavelength():
    bench = SLM.replace({"aberration.zernike": {"4": "0.02 waves"}})
    assert bench.aberration.zernike == {4: pytest.approx(0.02 * 532e-9)}
    bench = SLM.replace({"mask.wavefront": {"5": "0.1 waves", "6": "-20 nm"}})
    assert bench.mask.wavefront == {5: pytest.approx(53.2e-9), 6: -20e-9}
    assert fo.Bench.from_dict(tomllib.loads(bench.to_toml())) == bench


BAD = [
    ({"source.wavelength": "532 m"}, "source.wavelength", "did you mean '532 nm'?"),
    ({"source.wavelength": "532 mW"}, "source.wavelength", "units of length"),
    ({"source.wavelength": 532}, "source.wavelength", "'532 nm'"),
    ({"source.wavelength": "-532 nm"}, "source.wavelength", "negative"),
    ({"source.power": "0 W"}, "source.power", "zero"),
    ({"camera.frame_rate": "35 fps"}, "camera.frame_rate", "'Hz'"),
    ({"camera.pitch": "4 px"}, "camera.pitch", "bare number"),
    ({"camera.pixels": [0, 10]}, "camera.pixels", "[1920, 1080]"),
    ({"camera.pixels": [10]}, "camera.pixels", "[1920, 1080]"),
    ({"camera.bin": 2.5}, "camera.bin", "whole number"),
    ({"camera.bin": True}, "camera.bin", "whole number"),
    ({"camera.full_well": float("nan")}, "camera.full_well", ""),
    ({"camera.exposure": "soon"}, "camera.exposure", "100 us"),
    ({"camera.focal": "1 mm"}, "camera.focal", "known keys"),
    ({"lens1.focal_lenght": "1 mm"}, "lens1.focal_lenght", "'focal_length'"),
    ({"lense1.focal_length": "1 mm"}, "lense1", "'lens1'"),
    ({"mask.preset": "slm-phase-8bits"}, "mask.preset", "'slm-phase-8bit'"),
    ({"mask.encoding": "magic"}, "mask.encoding", "double-phase"),
    ({"mask.fill_factor": "130 %"}, "mask.fill_factor", "%"),
    ({"mask.fill_factor": 0.93}, "mask.fill_factor", "93 %"),
    ({"mask.lut": "nowhere.csv"}, "mask.lut", "relative to the bench"),
    ({"stop.size": "wide"}, "stop.size", "'band'"),
    ({"aberration.zernike": {"defocus": "1 nm"}}, "aberration.zernike", "Noll"),
    ({"aberration.zernike": {"4": "1 rad"}}, "aberration.zernike.4", "optical path"),
    ({"lens2": None}, "lens2", "add a section [lens2]"),
    ({"lens2.focal_length": None}, "lens2.focal_length", "add focal_length"),
    ({"format": "fouroptics-bench/2"}, "format", "fouroptics-bench/1"),
    ({"source": "a laser"}, "source", "[source]"),
    ({"source.wavelength": None, "source.wavelenght": "532 nm"}, "source.wavelenght", "'wavelength'"),
    ({"lens1": None, "lense1.focal_length": "1 mm"}, "lense1", "'lens1'"),
    ({"camra.preset": "generic-4um"}, "camra", "'camera'"),
    ({"input.super_pixel": "2"}, "input.super_pixel", "a whole number without quotes"),
    ({"camera.exposure": "Auto"}, "camera.exposure", "or 'auto'"),
    ({"mask.transmission": "193 %"}, "mask.transmission", "above 100 %"),
]


@pytest.mark.parametrize(("changes", "where", "says"), BAD)
def test_bad_benches_are_refused_in_one_line_with_place_and_mend(changes, where, says):
    with pytest.raises(ValueError) as caught:
        SLM.replace(changes)
    error = caught.value
    assert isinstance(error, fo.InputError)
    assert where in error.where
    assert says in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe\x00", "UTF-8"),
        (b"wavelength = 532 nm", 'write it in quotes: "532 nm"'),
        (b"[source]\n[source]", "not valid TOML: Cannot declare"),
        (b"", "not a bench"),
        (b"format = 'fouroptics-bench/1'", "missing"),
    ],
)
def test_files_that_are_no_bench(tmp_path, content, says):
    (tmp_path / "b.toml").write_bytes(content)
    with pytest.raises(fo.InputError, match=says) as caught:
        fo.Bench.load(tmp_path / "b.toml")
    assert str(tmp_path / "b.toml") in caught.value.where
    with pytest.raises(fo.InputError, match="is a folder"):
        fo.Bench.load(tmp_path)
    for absent in (tmp_path / "absent.toml", "slm-532"):
        with pytest.raises(fo.InputError, match="slm-532nm"):
            fo.Bench.load(absent)


def test_a_byte_order_mark_is_no_obstacle(tmp_path):
    (tmp_path / "b.toml").write_text(SLM.to_toml(), encoding="utf-8-sig")
    assert fo.Bench.load(tmp_path / "b.toml") == SLM


@pytest.mark.parametrize("content", ['format = "x"', 'format = "fouroptics-calibration/1"\n[laser]\npower = "1 W"'])
def test_a_foreign_calibration_is_refused(tmp_path, content):
    (tmp_path / "c.toml").write_text(content, encoding="utf-8")
    (tmp_path / "b.toml").write_text(SLM.to_toml().replace('file = ""', 'file = "c.toml"'), encoding="utf-8")
    with pytest.raises(fo.InputError, match="calibration"):
        fo.Bench.load(tmp_path / "b.toml")
