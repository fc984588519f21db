import pytest

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
    assert layout.part_of_panel((10, 10), 2, (9, 4)) == (10, 5)
    assert layout.part_of_panel((10, 10), 2, (4, 9)) == (5, 10)
    assert layout.part_of_panel((8, 16), 8, (1, 1)) == (4, 4)


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
