"""What is decoded once: it is taken again only where it is what would be decoded now."""

import os
import shutil
import struct

import numpy as np
import pytest
import torch
from fouroptics.models.training.data import load
from PIL import Image

import fouroptics as fo
from tests.models.training.test_data import class_folders, write


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOUROPTICS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def painted(root, count=8):
    for number in range(count):
        write(root / "images" / f"{number}.png", (20 * number, 1, 1))
        mask = np.zeros((8, 6), np.uint8)
        mask[:, : number % 5 + 1] = 255
        path = root / "masks" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    return root


def test_lists_that_change_are_read_again(tmp_path):
    root, lists = painted(tmp_path / "d"), {"train": "a.txt", "test": "b.txt"}
    sizes = []
    for cut in (6, 4):
        (root / "a.txt").write_text("\n".join(map(str, range(cut))))
        (root / "b.txt").write_text("\n".join(map(str, range(cut, 8))))
        data = load("image-mask", root, (8, 6), options={"lists": lists})
        sizes.append((len(data.train) + len(data.validation), len(data.test), data.fingerprint))
        assert sorted(data.test.pictures[:, 0, 0, 0].tolist()) == [20 * number for number in range(cut, 8)]
    assert [one[:2] for one in sizes] == [(6, 2), (4, 4)] and sizes[0][2] != sizes[1][2]


def test_a_picture_that_can_be_read_again_is(tmp_path):
    """A disk that was away is no damage for ever; other files' pixels are taken as they were."""
    root = class_folders(tmp_path / "d")
    lost = root / "class0" / "003.png"
    shutil.move(lost, tmp_path / "away.png")
    lost.mkdir()  # a name that is there and cannot be read, and whose stamp is its own
    assert load("folders", root, (6, 8)).skipped == (str(lost),)
    lost.rmdir()
    shutil.move(tmp_path / "away.png", lost)
    data = load("folders", root, (6, 8), strict=True)
    assert data.skipped == () and len(data.train) + len(data.validation) + len(data.test) == 20


def test_a_failure_that_passes_leaves_no_trace(tmp_path, monkeypatch):
    """Of files that are what they were: too many were open, a server did not answer."""
    from fouroptics.models.training import readers

    root, own = class_folders(tmp_path / "d"), readers.picture_of

    def away(file, *given, **options):
        if file.name == "003.png":
            raise OSError(24, "Too many open files")
        return own(file, *given, **options)

    monkeypatch.setattr(readers, "picture_of", away)
    assert len(load("folders", root, (6, 8)).skipped) == 2
    assert len(load("folders", root, (6, 8)).skipped) == 2  # from the cache, and tried again
    monkeypatch.setattr(readers, "picture_of", own)
    assert load("folders", root, (6, 8), strict=True).skipped == ()


def test_pictures_without_a_mask_are_counted_anew(tmp_path):
    root = painted(tmp_path / "d")
    assert load("image-mask", root, (8, 6)).skipped == ()
    write(root / "images" / "alone.png", (1, 1, 1))
    with pytest.raises(fo.InputError, match=r"alone\.png: cannot be read as a picture"):
        load("image-mask", root, (8, 6), strict=True)
    (root / "images" / "alone.png").unlink()
    assert load("image-mask", root, (8, 6), strict=True).skipped == ()


def test_rot_in_the_cache_is_seen(tmp_path, cache):
    root = class_folders(tmp_path / "d")
    data = load("folders", root, (6, 8))
    (file,) = cache.iterdir()
    content = bytearray(file.read_bytes())
    content[-200] ^= 0xFF
    file.write_bytes(bytes(content))
    assert torch.equal(load("folders", root, (6, 8)).train.pictures, data.train.pictures)
    assert bytes(content) != file.read_bytes()


def test_a_copy_that_keeps_the_time_is_another_picture(tmp_path):
    root = tmp_path / "d"
    for number in range(12):
        path = root / f"class{number % 2}" / f"{number}.bmp"  # whose sizes are all the same
        write(path, (number, 0, 0))
    before = load("folders", root, (6, 8)).fingerprint
    one = root / "class0" / "0.bmp"
    told = one.stat()
    write(tmp_path / "other.bmp", (200, 0, 0))
    shutil.copyfile(tmp_path / "other.bmp", one)
    os.utime(one, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert load("folders", root, (6, 8)).fingerprint != before


@pytest.mark.parametrize("tag", [
    (0x101, 7, b"\x84\xf8\xcf\x9b"), (0x11B, 7, b"\xbd;\x12\x0b"),
    (0x8769, 9, b"\xd2\xce\x8e\x95"), (0x10E, 11, b"`W\xfcf"),
])  # fmt: skip
def test_tags_that_make_no_sense_do_no_harm(tmp_path, tag):
    """A number of a kind that its tag cannot be, beside a turn: whoever writes all tags anew meets it."""
    root, (name, kind, value) = class_folders(tmp_path / "d"), tag
    entries = struct.pack("<HHII", 0x112, 3, 1, 6) + struct.pack("<HHI", name, kind, 1) + value
    odd = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + entries + bytes(20)
    half = Image.new("RGB", (16, 8))
    half.paste((255, 255, 255), (0, 0, 8, 8))  # its left half is above when it is turned
    half.save(root / "class0" / "odd.jpg", exif=odd)
    data = load("folders", root, (16, 8), validation=0.5)
    pictures = torch.cat([part.pictures for part in (data.train, data.validation, data.test)])
    assert data.skipped == () and len(pictures) == 21
    (shown,) = [one for one in pictures[:, 2] if float(one.max()) > 200]
    assert float(shown[:7].min()) > 200 and float(shown[9:].max()) < 50


def test_whatever_a_decoder_raises_its_file_is_named(tmp_path, monkeypatch):
    from fouroptics.models.training import readers

    root, own = painted(tmp_path / "d"), readers.picture_of

    def picture_of(file, *given, **options):
        if file.name == "3.png":
            raise RuntimeError("of some kind")
        return own(file, *given, **options)

    monkeypatch.setattr(readers, "picture_of", picture_of)
    (root / "masks" / "5.png").write_bytes(b"no mask")
    data = load("image-mask", root, (8, 6))
    assert data.skipped == (str(root / "images" / "3.png"), str(root / "masks" / "5.png"))


def test_what_is_of_one_thing_stays_in_one_part(tmp_path):
    root = tmp_path / "d"
    for car in range(10):
        for side in range(4):
            write(root / "train" / f"car{car}_{side:02d}.png", (25 * car, side, 0))
            mask = np.zeros((8, 6), np.uint8)
            mask[:, :3] = 1
            path = root / "train_masks" / f"car{car}_{side:02d}_mask.gif"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
    data = load("image-mask", root, (8, 6), options={"preset": "carvana"}, validation=0.2, test=0.2)
    cars = [set(part.pictures[:, 0, 0, 0].tolist()) for part in (data.train, data.validation, data.test)]
    assert [len(one) for one in cars] == [6, 2, 2] and len(set.union(*cars)) == 10
    assert [len(part) for part in (data.train, data.validation, data.test)] == [24, 8, 8]
    with pytest.raises(fo.InputError, match=r"data\.options\.group: '\(' is no pattern"):
        load("image-mask", root, (8, 6), options={"preset": "carvana", "group": "("})


@pytest.mark.parametrize("turned", [False, True])
def test_a_mask_lies_on_its_picture_as_its_painter_saw_it(tmp_path, turned):
    """A photograph of 12 × 8 that was taken on its side, and a mask of the file's rows or of those that are shown."""
    root = tmp_path / "d"
    for number in range(4):
        pixels = np.zeros((12, 8, 3), np.uint8)
        pixels[:5] = 255
        exif = Image.Exif()
        exif[0x0112] = 6
        for name, content in (("images", pixels), ("masks", np.rot90(pixels, -1).copy() if turned else pixels)):
            (root / name).mkdir(parents=True, exist_ok=True)
            options = {"exif": exif} if name == "images" else {}
            Image.fromarray(content).save(root / name / f"{number}.png", **options)
    size = (8, 12) if turned else (12, 8)
    data = load("image-mask", root, size)
    assert torch.equal((data.train.pictures[:, 0] > 127).to(torch.uint8), data.train.targets)


def test_a_class_that_training_has_not_is_named(tmp_path):
    root = class_folders(tmp_path / "d", parts=("train", "test"))
    (root / "test" / "class1").rename(root / "test" / "Class1")
    with pytest.raises(fo.InputError, match=r"d.test.Class1: no training picture is of class 'Class1'; pictures of it"):
        load("folders", root, (6, 8))


def test_names_with_blanks_are_found_in_lists(tmp_path):
    root = painted(tmp_path / "d")
    for name in ("images", "masks"):
        (root / name / "0.png").rename(root / name / "foto ñ 0.png")
    (root / "a.txt").write_text("foto ñ 0\n1\n2\n3\n4\n5\n", encoding="utf-8")
    data = load("image-mask", root, (8, 6), options={"lists": {"train": "a.txt"}})
    assert len(data.train) + len(data.validation) + len(data.test) == 6 and data.skipped == ()
