import pytest

import fouroptics as fo
from fouroptics.devices import layout, source


def test_rgb_stands_side_by_side():
    sharing = layout.share("tiled", "frames", (16, 3), (64, 64), 12, (1080, 1920))
    assert sharing.tile == (88, 88)
    assert sharing.input_tiles == (2, 2)
    assert sharing.input_field == (176, 176)
    assert sharing.mask_field == (176, 176)
    assert sharing.frames == 16
    assert sharing.output_field((64, 64)) == (64, 64)


def test_tiled_outputs_widen_what_the_mask_must_resolve():
    sharing = layout.share("tiled", "tiled", (4, 3), (10, 10), 1, (100, 100))
    assert sharing.output_tiles == (2, 2)
    assert sharing.input_tiles == (2, 2)
    assert sharing.output_pitch == (24, 24)
    assert sharing.mask_field == (48, 48)
    assert sharing.output_field((10, 10)) == (34, 34)
    assert sharing.frames == 1


def test_a_panel_that_is_too_flat_for_a_square_gets_a_row():
    assert layout.side_by_side(3, (88, 88), (100, 400)) == (1, 3)
    assert layout.side_by_side(16, (70, 70), (540, 960)) == (4, 4)
    assert layout.side_by_side(16, (70, 70), (250, 960)) == (3, 6)


@pytest.mark.parametrize("count", range(1, 20))
def test_tiles_hold_all_pictures_and_no_empty_row(count):
    rows, columns = layout.side_by_side(count, (10, 10), (70, 100))
    assert rows * columns >= count
    assert (rows - 1) * columns < count


def test_a_part_of_a_panel_suits_its_band():
    assert layout.arm_grid((10, 10), 2, (9, 4)) == (1, 2)
    assert layout.arm_grid((10, 10), 2, (4, 9)) == (2, 1)
    assert layout.arm_grid((8, 16), 8, (1, 1)) == (2, 4)
    assert layout.arm_grid((5, 3), 1, (1, 1)) == (1, 1)


def test_arms_have_their_own_whole_pixels():
    sharing = layout.share("lenslet", "lenslet", (2, 3), (8, 8), 1, (100, 100), mask=(11.0, 17.0))
    assert (sharing.arms, sharing.arm_grid) == (6, (2, 3))
    assert sharing.arm_pixels((11, 17)) == (5, 5)
    assert sharing.arm_origins((11, 17)) == ((0, 1), (0, 6), (0, 11), (5, 1), (5, 6), (5, 11))
    high = layout.share("lenslet", "lenslet", (2, 3), (8, 8), 1, (100, 100), mask=(17.0, 11.0))
    assert high.arm_origins((17, 11))[:3] == ((1, 0), (1, 5), (6, 0))
    five = layout.share("lenslet", "frames", (2, 5), (8, 8), 1, (100, 100), mask=(20.0, 30.0))
    assert five.arm_grid == (2, 3)
    assert five.arm_origins((20, 30)) == ((0, 0), (0, 10), (0, 20), (10, 0), (10, 10))
    assert layout.share("tiled", "frames", (16, 3), (8, 8), 1, (100, 100)).arm_origins((20, 30)) == ((0, 0),)


def test_sixteen_by_three_separate_masks_leave_no_room_for_a_picture_of_224():
    """1080 × 1920 pixels for 48 arms are 207² each by area, and 230 bins (224 and a guard of 3) need more."""
    sharing = layout.share("lenslet", "lenslet", (16, 3), (224, 224), 3, (2000, 2000), mask=(1080.0, 1920.0))
    height, width = sharing.arm_pixels((1080, 1920))
    assert min(height, width) <= 207
    assert min(height, width) < sharing.mask_field[0] == 230


def test_tiled_outputs_are_fitted_to_the_camera():
    """Nine responses 20 apart: as a square they are 2·20 + 8 = 48 samples wide."""

    def tiles(sensor):
        return layout.share("tiled", "tiled", (9, 4), (8, 8), 1, (20, 500), sensor=sensor).output_tiles

    assert tiles((48, 200)) == (3, 3)
    assert tiles((47, 200)) == (2, 5)
    assert tiles(None) == (1, 9)


def shared(channels=(16, 3)):
    return {
        way: layout.share(*way, channels, (64, 64), 12, (540, 960)) for way in layout.ways(channels, mask_changes=True)
    }


def test_a_mask_that_changes_takes_the_layout_with_most_light():
    ways = shared()
    assert len(ways) == 6
    assert layout.choose(ways, mask_changes=True)[:2] == ("tiled", "frames")
    some = {way: ways[way] for way in (("tiled", "tiled"), ("tiled", "frames"))}
    assert (
        layout.choose(some, mask_changes=True)[2] == "tiled inputs, frames: keeps 256 times the light of tiled outputs"
    )
    lenslets = {way: ways[way] for way in (("lenslet", "lenslet"), ("tiled", "lenslet"))}
    chosen = layout.choose(lenslets, mask_changes=True)
    assert chosen == (
        "tiled",
        "lenslet",
        "tiled inputs, lenslet outputs: keeps 3 times the light of lenslet inputs, lenslet outputs",
    )


def test_a_mask_that_stays_takes_fewest_frames():
    ways = shared()
    some = {way: ways[way] for way in (("tiled", "tiled"), ("tiled", "frames"))}
    assert layout.choose(some, mask_changes=False) == (
        "tiled",
        "tiled",
        "tiled inputs, tiled outputs: read in 1 frame, not 16",
    )
    assert ("tiled", "frames") not in layout.ways((16, 3), mask_changes=False)


def test_one_way_needs_no_comparison():
    only = {("tiled", "frames"): shared()["tiled", "frames"]}
    assert layout.choose(only, mask_changes=True)[2] == "tiled inputs, frames: the only one that fits"
    assert layout.ways((1, 1), mask_changes=True) == (("tiled", "frames"),)
    assert layout.ways((4, 1), mask_changes=False) == (("tiled", "tiled"), ("tiled", "lenslet"))
    with pytest.raises(fo.InputError, match="none that fits"):
        layout.choose({}, mask_changes=True)


def test_focus_of_a_white_square_by_hand():
    # I A² / (λf)²: 22.1 W/m² over (1.024 mm)² at 532 nm, 250 mm
    seen = source.focus_irradiance(22.1, (1.024e-3, 1.024e-3), 532e-9, 0.25)
    assert seen == pytest.approx(22.1 * 1.0995e-12 / 1.7689e-14, rel=1e-4)


def test_irradiance_of_beams():
    assert source.peak_irradiance(5e-3, None, (0.01, 0.02)) == pytest.approx(25)
    assert source.peak_irradiance(5e-3, 12e-3, (1, 1)) == pytest.approx(22.1, rel=1e-3)
    tiny = source.mean_irradiance(5e-3, 12e-3, (1, 1), (1e-6, 1e-6))
    assert tiny == pytest.approx(source.peak_irradiance(5e-3, 12e-3, (1, 1)))
    assert source.mean_irradiance(5e-3, 12e-3, (1, 1), (1.0, 1.0)) == pytest.approx(5e-3)
    assert source.edge_irradiance(2.0, (2.0, 2.0)) == pytest.approx(2.718281828**-1)
