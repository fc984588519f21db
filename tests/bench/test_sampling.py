import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fouroptics as fo
from fouroptics.bench import solve
from fouroptics.bench.mends import CANDIDATES, is_buildable

SLM = fo.Bench.load("slm-532nm")


def test_quantities_of_the_shipped_bench_by_hand():
    report = SLM.sampling(size=(64, 64), kernel=7, channels=(16, 3))
    data = report.data
    assert report.ok
    assert data["fourier_period"] == pytest.approx(532e-9 * 0.25 / 16e-6)  # 8.3125 mm
    assert data["guard_samples"] == 12
    assert data["input_tiles"] == (2, 2)
    assert data["fourier_bin"] == pytest.approx((8.3125e-3 / 176,) * 2)
    assert data["mask_pixels_a_bin"] == pytest.approx((8.3125e-3 / 176 / 8e-6,) * 2)
    assert data["output_sample"] == pytest.approx(16e-6)
    assert data["reading_ratio"] == pytest.approx(1)
    assert data["track_length"] == pytest.approx(1.0)
    assert data["lens1_pupil_needed"] == pytest.approx(math.sqrt(2) * (176 * 16e-6 + 8.3125e-3))
    assert data["band_na"] == pytest.approx(math.sqrt(2) * 532e-9 / 32e-6)
    assert data["dc_share"] == pytest.approx(0.8)
    assert data["strehl"] == pytest.approx(math.exp(-((2 * math.pi / 532) ** 2) * (10**2 + 15**2)))
    assert data["frames"] == 16
    white = 2 * 5e-3 / (math.pi * 0.012**2) * 0.8 * 0.93**2
    assert data["peak_irradiance"] == pytest.approx(white * (3 * 64 * 64 * 16e-6**2 / (532e-9 * 0.25)) ** 2)
    json.dumps(report.to_json(), allow_nan=False)


STILL = dict.fromkeys(f"mask.{key}" for key in ("phase_range", "crosstalk", "flicker", "frame_rate", "settle"))
PLANTED = {
    "input-panel": ({"input.super_pixel": 12}, {}),
    "guard": ({"layout.guard": "32 um"}, {}),
    "mask-extent": ({"lens1.focal_length": "400 mm", "lens2.focal_length": "400 mm"}, {}),
    "mask-bins": ({}, {"size": (224, 224)}),
    "encoding": ({"mask.encoding": "lee"}, {}),
    "stop": ({"stop.size": "6 mm"}, {}),
    "stop-wide": ({"stop.size": "20 mm"}, {}),
    "camera-nyquist": ({"camera.pitch": "16 um", "camera.bin": 1}, {}),
    "camera-match": ({"camera.pitch": "4.3 um"}, {}),
    "camera-window": ({"camera.pixels": [128, 128]}, {}),
    "lens1-pupil": ({"lens1.pupil": "10 mm"}, {}),
    "lens2-pupil": ({"lens2.pupil": "10 mm"}, {}),
    "paraxial-band": ({"input.pitch": "1 um"}, {}),
    "paraxial-field": ({"lens1.focal_length": "15 mm", "lens2.focal_length": "15 mm"}, {}),
    "aberration-disc": ({"aberration.diameter": "6 mm"}, {}),
    "illumination": ({"source.waist": "2 mm"}, {}),
    "damage": ({"source.power": "1 W"}, {}),
    "static-mask": ({"mask.preset": "etched-16"} | STILL, {}),
    "input-frames": ({"layout.inputs": "frames", "reference": None}, {}),
}


def test_every_check_has_been_planted():
    assert set(PLANTED) == set(CANDIDATES)


@pytest.mark.parametrize("code", PLANTED)
def test_a_planted_problem_is_found_and_its_mend_mends_it(code):
    changes, load = PLANTED[code]
    report = SLM.replace(changes).sampling(**load)
    problem = next(p for p in report.problems if p.code == code)
    assert problem.mend
    assert code not in {p.code for p in report.after(problem).problems}
    assert problem.where in str(report)
    assert all(key in str(problem) for key in problem.mend)


def lengths(low, high):
    return st.floats(math.log(low), math.log(high)).map(lambda x: f"{math.exp(x):.4g} m")


CHANGES = {
    "source.wavelength": lengths(300e-9, 2e-6),
    "source.power": st.floats(-6, 1).map(lambda x: f"{10**x:.4g} W"),
    "source.waist": lengths(1e-3, 50e-3),
    "input.pitch": lengths(1e-6, 40e-6),
    "input.super_pixel": st.integers(1, 8),
    "lens1.focal_length": lengths(10e-3, 2),
    "lens2.focal_length": lengths(10e-3, 2),
    "lens1.pupil": lengths(3e-3, 80e-3),
    "mask.pitch": lengths(1e-6, 30e-6),
    "mask.encoding": st.sampled_from(["ideal", "phase", "double-phase", "fit", "carrier", "lee"]),
    "mask.preset": st.sampled_from(["slm-phase-8bit", "etched-16", "chrome", "ideal", "dmd"]),
    "mask.frame_rate": st.none(),
    "layout.inputs": st.sampled_from(["tiled", "lenslet", "frames"]),
    "layout.outputs": st.sampled_from(["tiled", "lenslet", "frames"]),
    "layout.guard": lengths(1e-6, 1e-3),
    "stop.size": lengths(1e-3, 20e-3),
    "stop.shape": st.just("circular"),
    "camera.pitch": lengths(1e-6, 20e-6),
    "camera.bin": st.integers(1, 8),
    "reference": st.none(),
}


@given(st.fixed_dictionaries({}, optional=CHANGES), st.data())
def test_every_mend_that_is_proposed_works_and_can_be_bought(changes, data):
    size = data.draw(st.tuples(st.integers(1, 300), st.integers(1, 300)))
    kernel = data.draw(st.integers(1, min(15, *size)))
    channels = data.draw(st.tuples(st.sampled_from([1, 2, 16, 64]), st.sampled_from([1, 3, 8])))
    band = data.draw(st.none() | st.tuples(st.integers(1, size[0]), st.integers(1, size[1])))
    report = SLM.replace((STILL if "mask.preset" in changes else {}) | changes).sampling(size, kernel, band, channels)
    for problem in report.problems:
        if problem.mend:
            assert problem.code not in {p.code for p in report.after(problem).problems}, problem
            assert is_buildable(problem.mend, report.bench.source.wavelength)


@given(
    size=st.tuples(st.integers(1, 256), st.integers(1, 256)),
    wavelength=lengths(300e-9, 2e-6),
    input_pitch=lengths(2e-6, 40e-6),
    mask_pitch=lengths(0.5e-6, 30e-6),
    kernel=st.integers(1, 9),
    channels=st.tuples(st.integers(1, 64), st.integers(1, 16)),
)
def test_what_solve_finds_passes_and_what_it_refuses_comes_with_advice_that_works(
    size, wavelength, input_pitch, mask_pitch, kernel, channels
):
    load = {"kernel": min(kernel, *size), "channels": channels}
    pitches = {"wavelength": wavelength, "input_pitch": input_pitch, "mask_pitch": mask_pitch}
    try:
        bench = solve(size=size, **load, **pitches)
    except fo.InputError as error:
        assert error.where
        advice = re.search(r"pictures of (\d+)x(\d+) would do", error.mend)
        if advice is None:
            assert "fewer channels" in error.mend
            return
        size = (int(advice[1]), int(advice[2]))
        bench = solve(size=size, **load, **pitches)
    assert bench.sampling(size, **load).ok
    parts = bench.input.pixels, bench.mask.pixels, bench.camera.pixels, bench.camera.pitch, bench.mask.encoding
    assert parts == (SLM.input.pixels, SLM.mask.pixels, SLM.camera.pixels, SLM.camera.pitch, SLM.mask.encoding)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mask.preset": "etched-16"} | STILL, "layout.outputs = 'tiled'"),
        ({"mask.encoding": "lee"}, "mask.encoding = 'double-phase'"),
        ({"layout.inputs": "frames", "reference": None}, "layout.inputs = 'tiled'"),
    ],
)
def test_solve_keeps_the_parts_it_starts_from_and_says_which_do_not_fit(changes, says):
    with pytest.raises(fo.InputError, match="in the bench to start from") as caught:
        solve(size=(32, 32), wavelength="532 nm", input_pitch="8 um", mask_pitch="8 um", start=SLM.replace(changes))
    assert says in caught.value.mend


def test_solve_refuses_only_what_has_too_many_bins_for_plain_pitches():
    """Three mask pixels a bin and a period on 1080 rows leave 360 bins a side: 9 tiles of 120² fit, 10 do not."""
    pitches = {"wavelength": "532 nm", "input_pitch": "8 um", "mask_pitch": "8 um"}
    assert solve(size=(118, 118), kernel=1, channels=(4, 9), **pitches).sampling((118, 118), 1, None, (4, 9)).ok
    with pytest.raises(fo.InputError, match="too many frequency bins"):
        solve(size=(118, 118), kernel=1, channels=(4, 10), **pitches)
    assert solve(size=(16, 16), wavelength="405 nm", input_pitch="20 um", mask_pitch="8 um").lens1.focal_length < 0.1


@pytest.mark.parametrize(
    ("load", "says"),
    [
        ({"size": (0, 8)}, "size"),
        ({"size": 64}, "size"),
        ({"size": (64.0, 64)}, "size"),
        ({"kernel": 65}, "larger than the picture"),
        ({"kernel": (7, -1)}, "kernel"),
        ({"band": (65, 8)}, "larger than the picture"),
        ({"channels": (16, 0)}, "channels"),
        ({"size": (10**9, 1)}, "beyond"),
    ],
)
def test_bad_loads_are_refused(load, says):
    with pytest.raises(fo.InputError, match=says):
        SLM.sampling(**load)


def test_a_mend_to_other_lenses_takes_the_stop_along():
    """Two problems with one cause: the first mend that is followed must not leave or turn round the other."""
    report = SLM.replace({"source.wavelength": "1550 nm"}).sampling()
    assert "Each mend was tried by itself" in str(report)
    for problem in report.problems:
        if "lens1.focal_length" in problem.mend:
            assert not {"stop", "stop-wide"} & {p.code for p in report.after(problem).problems}
    with pytest.raises(fo.InputError, match=r"report\.problems"):
        report.after("mask-extent")


def test_the_band_decides_what_the_mask_must_hold():
    whole, half = SLM.sampling(), SLM.sampling(band=(32, 16))
    assert half.data["band_extent"] == pytest.approx(
        (whole.data["fourier_period"] / 2, whole.data["fourier_period"] / 4)
    )


def line(report, quantity):
    return next(line for line in report.lines if line.quantity == quantity).value


def test_128_masks_read_twice_take_seconds_a_picture():
    """2 · 128 / 60 Hz = 4.27 s."""
    said = line(SLM.sampling(channels=(128, 3)), "frames a picture")
    assert said == "128: 2.1 s or more at 60 Hz, 4.3 s if each is read twice"
    assert line(SLM.sampling(channels=(16, 3)), "frames a picture").endswith("530 ms if each is read twice")
    assert line(SLM.sampling(channels=(1, 3)), "frames a picture") == "1"


@pytest.mark.parametrize(
    ("reach", "missed", "keeps"), [("4.712389 rad", 0.25, 0.8106), ("3.14159265 rad", 0.5, 0.4053)]
)
def test_a_short_phase_range_is_allowed_and_told(reach, missed, keeps):
    """sinc²(¼) = 8/π² = 0.8106, sinc²(½) = 4/π² = 0.4053."""
    report = SLM.replace({"mask.phase_range": reach}).sampling()
    assert report.ok
    assert report.data["missed_phases"] == pytest.approx(missed, rel=1e-6)
    assert report.data["blaze_efficiency"] == pytest.approx(keeps, abs=5e-5)
    assert f"{missed:.1%} of a turn missing, a blaze keeps {keeps:.1%}" in line(report, "phase range")
    assert SLM.replace({"mask.phase_range": "7 rad"}).sampling().data["missed_phases"] == 0
    assert "missed_phases" not in fo.Bench.load("plate-532nm").sampling().data


def test_what_is_allowed_at_a_cost_is_noted():
    blurred = SLM.sampling()
    assert blurred.ok
    assert [note.split(":")[0] for note in blurred.notes] == ["mask.crosstalk"]
    assert "0.19 pixels" in str(blurred).splitlines()[-1]
    for better in ({"mask.crosstalk": "0.1 um"}, {"mask.encoding": "carrier"}):
        assert not SLM.replace(better).sampling().notes
    short = SLM.replace({"mask.encoding": "carrier", "mask.phase_range": "4.7 rad"}).sampling()
    assert short.to_json()["notes"] == [
        "mask.phase_range: 25% of a turn cannot be shown, and what should have it shows the nearest that can"
    ]


def test_a_measured_table_tells_the_phase_range(tmp_path):
    (tmp_path / "t.csv").write_text("drive,phase_rad\n0,5.5\n255,0.7876110196\n", encoding="utf-8")  # falls by 3π/2
    bench = SLM.replace({"mask.lut": str(tmp_path / "t.csv")})
    assert bench.sampling().data["missed_phases"] == pytest.approx(0.25, rel=1e-6)


def test_a_fitted_mask_needs_two_pixels_a_bin():
    """8.3125 mm / (2·(N + 24)) / 8 µm: 2.29 pixels a bin for 203 samples, and for 248 1.91."""
    for size, fits in ((203, True), (248, False)):
        report = SLM.replace({"mask.encoding": "fit"}).sampling(size=(size, size))
        assert ("mask-bins" not in {p.code for p in report.problems}) == fits
        assert report.data["mask_pixels_a_bin_needed"] == 2
