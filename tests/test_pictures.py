import numpy as np
import pytest
import torch
from PIL import Image

from fouroptics import pictures
from fouroptics.errors import InputError
from fouroptics.optics import grid


def test_natural_pictures_have_the_spectrum_of_scenes():
    scenes = pictures.natural(8, 3, (128, 128), seed=1)
    assert scenes.shape == (8, 3, 128, 128)
    assert scenes.min() >= 0 and scenes.max() <= 1
    amplitude = torch.fft.fft2(scenes).abs().mean((0, 1))
    near, far = amplitude[0, 4].item(), amplitude[0, 32].item()
    assert near / far == pytest.approx(8, rel=0.3)  # 1/f
    assert torch.equal(pictures.natural(1, 1, (9, 7), seed=3), pictures.natural(1, 1, (9, 7), seed=3))
    assert not torch.equal(pictures.natural(1, 1, (9, 7), seed=3), pictures.natural(1, 1, (9, 7), seed=4))
    assert torch.isfinite(pictures.natural(1, 1, (1, 1))).all()


def test_the_orientation_chart_is_unlike_all_its_turns_and_mirrors():
    chart = pictures.letter_f((24, 24))
    others = [torch.rot90(chart, k) for k in (1, 2, 3)] + [torch.rot90(chart.T, k) for k in range(4)]
    assert all(not torch.equal(chart, other) for other in [*others, grid.turn(chart)])


def test_what_is_written_reads_back_row_zero_on_top(tmp_path):
    picture = torch.arange(24).reshape(4, 6) / 255
    pictures.write(tmp_path / "grey.png", picture)
    assert np.asarray(Image.open(tmp_path / "grey.png"))[0, 1] == 1
    torch.testing.assert_close(pictures.read(tmp_path / "grey.png")[0], picture)
    pictures.write(tmp_path / "again.png", pictures.read(tmp_path / "grey.png"))
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "grey.png").read_bytes()
    colour = torch.rand(3, 4, 6)
    pictures.write(tmp_path / "colour.png", colour)
    torch.testing.assert_close(pictures.read(tmp_path / "colour.png"), colour, atol=1 / 500, rtol=0)


def test_deep_pictures_keep_their_depth(tmp_path):
    Image.fromarray(np.array([[0, 257], [65535, 128]], dtype=np.uint16)).save(tmp_path / "deep.png")
    assert pictures.read(tmp_path / "deep.png")[0].mul(65535).round().tolist() == [[0, 257], [65535, 128]]


def test_big_endian_and_float_pictures(tmp_path):
    values = np.array([[0, 300], [30000, 65535]], dtype=np.uint16)
    Image.frombytes("I;16B", (2, 2), values.astype(">u2").tobytes()).save(tmp_path / "big.tif")
    assert pictures.read(tmp_path / "big.tif")[0].mul(65535).round().tolist() == values.tolist()
    Image.fromarray(np.array([[0, 0.3], [0.7, 1]], dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(InputError, match="no agreed white"):
        pictures.read(tmp_path / "float.tif")


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    for path in (tmp_path / "a.png", tmp_path / "absent.png", tmp_path):
        with pytest.raises(InputError, match="not a readable picture"):
            pictures.read(path)
