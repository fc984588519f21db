"""Which layout a bench chooses, and the shipped benches beside the liquid crystal, by hand."""

import pytest

import fouroptics as fo

SLM, PLATE, DMD = (fo.Bench.load(name) for name in ("slm-532nm", "plate-532nm", "dmd-532nm"))
RGB = {"size": (64, 64), "kernel": 7, "channels": (16, 3)}


def test_tiled_inputs_and_sixteen_frames_fit_the_liquid_crystal():
    assert SLM.choose_layout(**RGB) == ("tiled", "frames", "tiled inputs, frames: the only one that fits")
    assert SLM.share((64, 64), (16, 3), inputs="tiled", outputs="frames").frames == 16


def test_four_grey_outputs_have_a_choice():
    """One input and four outputs of 32 + 24: 112 samples tiled leave 9.3 pixels a bin; tiling costs 4² of the light."""
    inputs, outputs, why = SLM.choose_layout((32, 32), 3, (4, 1))
    assert (inputs, outputs) == ("tiled", "frames")
    assert why == "tiled inputs, frames: keeps 16 times the light of tiled outputs"
    still = SLM.replace({"mask.frame_rate": None, "mask.preset": None, "mask.kind": "phase_slm", "mask.levels": 256})
    assert still.choose_layout((32, 32), 3, (4, 1))[:2] == ("tiled", "tiled")
    assert PLATE.choose_layout(**RGB)[:2] == ("tiled", "tiled")
    assert DMD.choose_layout(**RGB)[:2] == ("tiled", "frames")


def test_the_bench_s_own_layout_does_not_sway_the_choice():
    for ways in (("lenslet", "lenslet"), ("frames", "tiled")):
        changed = SLM.replace({"layout.inputs": ways[0], "layout.outputs": ways[1]})
        assert changed.choose_layout(**RGB) == SLM.choose_layout(**RGB)


def test_large_pictures_are_refused_with_how_much_is_missing_and_what_would_do():
    """2·(224 + 24) = 496 samples have bins of 16.8 µm, 2.09 pixels; panels with 3 need 8 · 2.09/3 = 5.586 µm."""
    with pytest.raises(fo.InputError) as caught:
        SLM.choose_layout((224, 224), 7, (16, 3))
    assert caught.value.what.startswith("no layout fits; tiled inputs, frames: double-phase needs 3")
    assert "has 2.09" in caught.value.what
    assert (caught.value.where, caught.value.mend[:23]) == ("mask.pitch", 'mask.pitch = "5.586 um"')
    assert "\n" not in str(caught.value)
    with pytest.raises(fo.InputError, match="reaches 15 samples out"):
        SLM.choose_layout((64, 64), 31, (16, 3))
    with pytest.raises(fo.InputError, match="larger than the picture"):
        SLM.choose_layout((8, 8), 9, (16, 3))


@pytest.mark.parametrize("focal", [20, 40, 60, 80, 100, 150, 250, 400])
def test_no_lens_brings_48_separate_pictures_of_224_onto_the_panel(focal):
    changes = {"layout.inputs": "lenslet", "layout.outputs": "lenslet", "mask.encoding": "phase"}
    bench = SLM.replace({"lens1.focal_length": f"{focal} mm", "layout.guard": "48 um", **changes})
    report = bench.sampling(size=(224, 224), kernel=7, channels=(16, 3))
    assert {"mask-extent", "mask-bins"} & {problem.code for problem in report.problems}


def test_outputs_and_band_can_be_asked_for():
    assert SLM.share((64, 64), (16, 3)).output_tiles == (1, 1)
    assert SLM.share((64, 64), (16, 3), outputs="tiled").frames == 1
    narrow = SLM.share((64, 64), (4, 1), outputs="lenslet", band=(64, 16))
    assert narrow.arm_grid == (1, 4)  # a band four times as high as wide takes columns
    assert SLM.share((64, 64), (4, 1), outputs="lenslet").arm_grid == (2, 2)


def test_the_plate_by_hand():
    data = PLATE.sampling(**RGB).data
    period = 532e-9 * 0.3 / 16e-6
    assert data["fourier_period"] == pytest.approx(period)  # 9.975 mm
    assert data["input_tiles"] == (2, 2)
    assert data["output_tiles"] == (4, 4)
    assert data["mask_pixels_a_bin"] == pytest.approx((period / (4 * 2 * 72) / 2e-6,) * 2)  # 8.66
    assert data["output_window"] == pytest.approx(((3 * 144 + 64) * 8e-6,) * 2)
    assert data["power_share"] == pytest.approx(1 / 256)
    assert data["frames"] == 1
    assert PLATE.sampling(size=(64, 64), kernel=7, channels=(49, 3)).ok
    assert not PLATE.sampling(size=(64, 64), kernel=7, channels=(50, 3)).ok


def test_the_mirrors_by_hand():
    report = DMD.sampling(**RGB)
    period = 532e-9 * 0.2 / 16e-6
    assert report.data["mask_pixels_a_bin"] == pytest.approx((period / 144 / 7.56e-6,) * 2)  # 6.1 of 4
    offset = 532e-9 * 0.2 / (4 * 7.56e-6)  # the first order, 3.52 mm beside the axis
    wide = 1.024e-3 + 2 * offset + period
    assert report.data["lens2_pupil_needed"] == pytest.approx(((1.024e-3 + period) ** 2 + wide**2) ** 0.5)
    frames = next(line for line in report.lines if line.quantity == "frames a picture").value
    assert frames == "16: 1.6 ms or more at 10 kHz, 3.2 ms if each is read twice"
