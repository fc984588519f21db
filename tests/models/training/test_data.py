"""Pictures of folders, batches and pairs as they lie on disk, and those that are made."""

import pickle

import numpy as np
import pytest
import torch
from fouroptics.models.teachers import SmallCNN
from fouroptics.models.training.augment import Augmentation
from fouroptics.models.training.data import Data, Part, from_datasets, load
from fouroptics.models.training.shapes import SHAPE_NAMES, draw_shapes
from PIL import Image
from torch.utils.data import TensorDataset

import fouroptics as fo


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOUROPTICS_CACHE", str(tmp_path / "cache µ"))


def write(path, colour, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], colour).save(path)


def class_folders(root, counts=(12, 8), parts=("",)):
    for part in parts:
        for number, count in enumerate(counts):
            for which in range(count):
                write(root / part / f"class{number}" / f"{which:03d}.png", (100 * number, 10 * which, 7))
    return root


def test_folders_are_classes_and_parts_are_drawn_by_a_seed(tmp_path):
    data = load("folders", class_folders(tmp_path / "a b"), (6, 8), validation=0.25, test=0.2)
    assert data.classes == ("class0", "class1")
    assert (len(data.test), len(data.validation), len(data.train)) == (4, 4, 12)
    every = torch.cat([part.pictures[:, :, 0, 0] for part in (data.train, data.validation, data.test)])
    assert len(every.unique(dim=0)) == 20  # each picture once
    for part in (data.train, data.validation, data.test):
        assert torch.equal(part.pictures[:, 0, 0, 0].long(), 100 * part.targets)
    again = load("folders", tmp_path / "a b", (6, 8), validation=0.25, test=0.2)
    other = load("folders", tmp_path / "a b", (6, 8), validation=0.25, test=0.2, split_seed=1)
    assert torch.equal(again.train.pictures, data.train.pictures)
    assert not torch.equal(other.train.pictures, data.train.pictures)
    assert again.fingerprint == data.fingerprint != other.fingerprint


def test_a_part_that_folders_bring_is_reported_on(tmp_path):
    data = load("folders", class_folders(tmp_path / "d", parts=("train", "test")), (6, 8), validation=0.1)
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 20)


def test_pictures_are_decoded_once_until_one_changes(tmp_path, monkeypatch):
    root = class_folders(tmp_path / "d")
    first = load("folders", root, (6, 8))
    from fouroptics.models.training import readers

    decoded = []
    monkeypatch.setattr(readers, "picture_of", lambda *given, **_: decoded.append(given))
    assert torch.equal(load("folders", root, (6, 8)).train.pictures, first.train.pictures)
    assert not decoded
    monkeypatch.undo()
    monkeypatch.setenv("FOUROPTICS_CACHE", str(tmp_path / "cache µ"))
    write(root / "class0" / "000.png", (9, 9, 9), (12, 12))
    assert load("folders", root, (6, 8)).fingerprint != first.fingerprint
    for file in (tmp_path / "cache µ").iterdir():
        file.write_bytes(file.read_bytes()[:-40])  # a damaged cache is made again
    assert torch.equal(load("folders", root, (6, 8)).test.targets, load("folders", root, (6, 8)).test.targets)


def test_damaged_pictures_are_named_and_left_out_or_stop_the_run(tmp_path):
    root = class_folders(tmp_path / "d")
    (root / "class1" / "bad.png").write_bytes(b"no picture")
    (root / "class1" / "cut.png").write_bytes((root / "class1" / "001.png").read_bytes()[:40])
    data = load("folders", root, (6, 8))
    assert [name.rsplit("/", 1)[-1].rsplit("\\", 1)[-1] for name in data.skipped] == ["bad.png", "cut.png"]
    with pytest.raises(fo.InputError, match=r"bad\.png: cannot be read as a picture"):
        load("folders", root, (6, 8), strict=True)


def test_a_run_tells_once_of_what_it_leaves_out(tmp_path):
    """By number and by name, on the way in and in the log; what is evaluated on other pictures tells of those."""
    from fouroptics.models.training import train
    from fouroptics.models.training.results import figures_on

    from tests.models.training.test_loop import recipe

    root = class_folders(tmp_path / "d", (30, 30))
    for number in range(24):
        (root / "class1" / f"bad{number}.png").write_bytes(b"no picture")
    (root / "class2").mkdir()
    told = {"data.reader": "folders", "data.path": str(root), "data.options": {}, "distill.loss": "none",
            "data.size": [16, 16], "train.epochs": 1}  # fmt: skip
    with pytest.warns(UserWarning) as seen:
        run = train(recipe(**told), tmp_path / "run")
    said = [str(one.message) for one in seen]
    assert any("no pictures in" in one and "class2: no class of that name" in one for one in said)
    assert any("24 pictures could not be read and are left out" in one and "bad0.png, …" in one for one in said)
    lines = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert all(f"bad{number}.png" in lines[0] for number in range(24))
    with pytest.warns(UserWarning, match="no pictures in"):
        train(recipe(**told), tmp_path / "run")
    assert sum("could not be read" in line for line in (tmp_path / "run" / "log.txt").read_text().splitlines()) == 1
    assert run.summary["data"]["skipped"] == 24
    (root / "class2").rmdir()
    with pytest.raises(fo.InputError, match=r"bad0\.png: cannot be read as a picture"):
        train(recipe(**told | {"data.strict": True}), tmp_path / "run")
    for number in range(24):
        (root / "class1" / f"bad{number}.png").unlink()
    train(recipe(**told | {"data.strict": True}), tmp_path / "other")
    other = class_folders(tmp_path / "e", (5, 5))
    (other / "class0" / "odd.png").write_bytes(b"none")
    with pytest.warns(UserWarning, match=r"1 pictures of .* could not be read and are left out: .*odd\.png"):
        figures_on(run, other)


def test_pictures_of_any_shape_keep_their_proportions(tmp_path):
    """A wide picture loses its sides: grey in the middle, white left and right."""
    for number in range(8):
        picture = np.full((20, 40, 3), 255, np.uint8)
        picture[:, 10:30] = 100
        path = tmp_path / "d" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    data = load("folders", tmp_path / "d", (10, 10), channels="grey", validation=0.25, test=0.25)
    assert data.channels == 1
    inner = data.train.pictures[..., 1:-1]  # filters reach a little beyond the middle
    assert torch.equal(inner, torch.full_like(inner, 100))


def python_batch(path, pictures, labels):
    """As the published files are: protocol 2, text of one byte a letter, an array of numpy's within."""
    content = {b"batch_label": b"one", b"labels": [int(n) for n in labels], b"data": pictures.reshape(len(labels), -1),
               b"filenames": [b"a.png"] * len(labels)}  # fmt: skip
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("binary", [False, True])
def test_batches_of_cifar_are_read_and_nothing_is_executed(tmp_path, binary):
    draw = np.random.default_rng(0)
    folder = tmp_path / "d" / "cifar-10-batches"
    folder.mkdir(parents=True)
    told = {}
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        pictures = draw.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
        labels = draw.integers(0, 10, 20)
        told[name] = (pictures, labels)
        if binary:
            rows = np.concatenate([labels[:, None].astype(np.uint8), pictures.reshape(20, -1)], 1)
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
        else:
            python_batch(folder / name, pictures, labels)
    data = load("cifar10", tmp_path / "d", validation=0.1)
    assert (len(data.train), len(data.validation), len(data.test)) == (90, 10, 20)
    pictures, labels = told["test_batch"]
    due = {one.tobytes(): int(label) for one, label in zip(pictures, labels, strict=True)}
    found = zip(data.test.pictures.numpy(), data.test.targets.tolist(), strict=True)
    assert {one.tobytes(): label for one, label in found} == due
    assert data.classes[3] == "cat"
    small = load("cifar10", tmp_path / "d", (16, 16), channels="grey")
    assert small.train.pictures.shape[1:] == (1, 16, 16)


def test_a_pickle_that_would_run_something_does_not(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        (tmp_path / name).write_bytes(pickle.dumps({"data": Bomb(), "labels": [1]}, protocol=2))
    with pytest.raises(fo.InputError, match="data_batch_1: is no CIFAR-10 batch"):
        load("cifar10", tmp_path)
    assert not (tmp_path / "boom").exists()


def pairs(root, preset):
    """Three pictures and masks as each data set has them: object right, background left."""
    names = {
        "camvid": [(f"{p}", f"{p}annot", "") for p in ("train", "val", "test")],
        "carvana": [("train", "train_masks", "_mask")],
        "portraits": [("Training_Images", "Ground_Truth", "")],
        "voc2012": [("JPEGImages", "SegmentationClass", "")],
    }[preset]
    for images, masks, suffix in names:
        for which in range(10):
            write(root / images / f"{which}.{'jpg' if preset == 'voc2012' else 'png'}", (10, 20, 30), (12, 16))
            mask = np.zeros((24, 32) if preset == "portraits" else (12, 16), np.uint8)
            mask[:, mask.shape[1] // 2 :] = {"camvid": 8, "carvana": 1, "portraits": 255, "voc2012": 15}[preset]
            mask[0, 0] = {"camvid": 11, "voc2012": 255}.get(preset, 0)
            path = root / masks / f"{which}{suffix}.{'gif' if preset == 'carvana' else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            shown = Image.fromarray(mask, "L")
            if preset in ("voc2012", "carvana"):
                shown = Image.fromarray(mask, "P")
                shown.putpalette(list(range(256)) * 3)
            shown.save(path)
    if preset == "voc2012":
        lists = root / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        (lists / "train.txt").write_text("\n".join(map(str, range(8))))
        (lists / "val.txt").write_text("8\n9\n")
    return root


@pytest.mark.parametrize(
    ("preset", "counts", "name"),
    [
        ("camvid", (10, 10, 10), "car"),
        ("carvana", (8, 1, 1), "car"),
        ("portraits", (8, 1, 1), "person"),
        ("voc2012", (7, 1, 2), "person"),
    ],
)
def test_pairs_of_pictures_and_masks(tmp_path, preset, counts, name):
    data = load("image-mask", pairs(tmp_path / "d", preset), (12, 16), options={"preset": preset})
    assert data.is_segmentation
    assert (len(data.train), len(data.validation), len(data.test)) == counts
    number = data.classes.index(name)
    assert (data.train.targets[:, :, 8:] == number).all()
    assert (data.train.targets[:, 1:, :8] == 0).all()
    assert (data.train.targets[:, 0, 0] == (255 if preset in ("camvid", "voc2012") else 0)).all()


def test_one_class_against_the_rest(tmp_path):
    root = pairs(tmp_path / "d", "camvid")
    data = load("image-mask", root, (12, 16), options={"preset": "camvid", "only": "car"})
    assert data.classes == ("rest", "car")
    assert (data.train.targets[:, :, 8:] == 1).all()  # the number that "sky" has among all of them
    assert (data.train.targets[:, 1:, :8] == 0).all()
    assert (data.train.targets[:, 0, 0] == 255).all()
    with pytest.raises(fo.InputError, match=r"data.options.only: 'tram' is unknown; choose from 'sky', .*'car'"):
        load("image-mask", root, (12, 16), options={"preset": "camvid", "only": "tram"})


def test_masks_of_colours_and_of_ones_own_folders(tmp_path):
    for which in range(6):
        write(tmp_path / "d" / "pics" / f"{which}.png", (1, 2, 3))
        mask = np.zeros((8, 6, 3), np.uint8)
        mask[:, 2:4], mask[:, 4:] = (255, 0, 0), (9, 9, 9)
        path = tmp_path / "d" / "labels" / f"{which}_L.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    options = {"images": "pics", "masks": "labels", "mask_suffix": "_L", "classes": ["ground", "red"],
               "colours": [[0, 0, 0], [255, 0, 0]]}  # fmt: skip
    data = load("image-mask", tmp_path / "d", (8, 6), options=options)
    assert data.classes == ("ground", "red")
    assert data.train.targets[0, 0].tolist() == [0, 0, 1, 1, 255, 255]


def test_a_class_that_nobody_named_is_an_error_and_no_damage(tmp_path):
    root = pairs(tmp_path / "d", "camvid")
    with pytest.raises(fo.InputError, match=r"a pixel of class 8, of 2 that there are; name all classes"):
        load("image-mask", root, (12, 16), options={"preset": "camvid", "classes": ["a", "b"]})


def test_pairs_by_lists(tmp_path):
    """A name a line, or both files; what no list names is left out."""
    root = pairs(tmp_path / "d", "carvana")
    (root / "a.txt").write_text("0\n1\n\n2\n")
    (root / "b.txt").write_text("train/3.png train_masks/4_mask.gif\ntrain/5.png nowhere.gif\n")
    options = {"images": "train", "masks": "train_masks", "mask_suffix": "_mask", "threshold": 1}
    lists = {"train": "a.txt", "test": "b.txt"}
    data = load("image-mask", root, (12, 16), options=options | {"lists": lists})
    assert (len(data.train) + len(data.validation), len(data.test)) == (3, 1)
    assert data.skipped == (str(root / "nowhere.gif"),)  # and not the picture that it would be the mask of
    (root / "a.txt").write_text("0\n1\n11\n")
    assert str(root / "train" / "11") in load("image-mask", root, (12, 16), options=options | {"lists": lists}).skipped
    for given, says in (
        (lists, r"a\.txt: line 2: '1 2 3' names no pair; a name of a picture in train"),
        (lists | {"test": "c.txt"}, r"c\.txt: there is no such list"),
        ({"tests": "a.txt"}, "are no lists"),
    ):
        (root / "a.txt").write_text("0\n1 2 3\n" if given is lists else "0\n1\n")
        with pytest.raises(fo.InputError, match=says):
            load("image-mask", root, (12, 16), options=options | {"lists": given})


def test_shapes_are_balanced_and_do_not_depend_on_their_number():
    pictures, labels, masks = draw_shapes(600, (24, 32))
    assert pictures.shape == (600, 3, 24, 32)
    assert torch.bincount(labels, minlength=10)[:10].tolist() == pytest.approx([60] * 10, abs=6)
    few = draw_shapes(200, (24, 32))
    assert torch.equal(few[0], pictures[:200])
    assert torch.equal(few[1], labels[:200])
    assert not torch.equal(draw_shapes(200, (24, 32), seed=1)[0], few[0])
    area = [float(masks[labels == k].float().mean()) for k in range(len(SHAPE_NAMES))]
    assert max(area) < 1.4 * min(area)  # no shape is told by its size
    inside = (pictures.float().mean(1) * masks).sum((1, 2)) / masks.sum((1, 2))
    ground = (pictures.float().mean(1) * (1 - masks)).sum((1, 2)) / (1 - masks).sum((1, 2))
    assert 0.4 < float((inside > ground).float().mean()) < 0.6  # brighter as often as darker


def test_ridge_regression_learns_little_of_shapes():
    data = load("shapes", size=(32, 32), options={"count": 6000})
    x, held = (part.batch(slice(None))[0].flatten(1).double() for part in (data.train, data.test))
    mean = x.mean(0)
    x, held = x - mean, held - mean
    y = torch.nn.functional.one_hot(data.train.targets, 10).double()
    best = max(
        float(((held @ torch.linalg.solve(x.mT @ x + penalty * torch.eye(x.shape[1]), x.mT @ (y - y.mean(0)))).argmax(1)
               == data.test.targets).double().mean())
        for penalty in (1e1, 1e3)
    )  # fmt: skip
    assert best < 0.45


def test_ones_own_datasets_are_taken():
    pictures, labels = torch.rand(10, 3, 8, 8), torch.arange(10) % 3
    data = from_datasets(TensorDataset(pictures, labels), TensorDataset(pictures[:4], labels[:4]))
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 4, 4)
    assert data.classes == ("0", "1", "2")
    assert SmallCNN(3, 8, widths=(4,))(data.train.batch(slice(3))[0]).shape == (3, 3)


def test_label_255_of_pictures_is_a_class():
    """Of pixels it is none."""
    pictures, labels = torch.rand(256, 1, 2, 2), torch.arange(256)
    assert len(from_datasets(TensorDataset(pictures, labels), TensorDataset(pictures, labels)).classes) == 256
    masks = torch.tensor([0, 1, 255])[torch.randint(0, 3, (4, 2, 2))]
    masks[0, 0] = torch.tensor([0, 1])
    assert len(from_datasets(*[TensorDataset(pictures[:4], masks)] * 2).classes) == 2


def test_labels_that_begin_at_1_are_refused():
    one = TensorDataset(torch.rand(6, 1, 2, 2), torch.arange(6) % 3 + 1)
    with pytest.raises(fo.InputError, match="no training picture is of class 0; number them from 0 on"):
        from_datasets(one, one)
    assert from_datasets(one, one, classes="abcd").classes == tuple("abcd")


def test_views_move_pictures_and_masks_together():
    ramp = torch.arange(30.0).reshape(1, 1, 5, 6).expand(64, 1, 5, 6) / 30
    masks = (30 * ramp[:, 0]).round().long()
    draw = torch.Generator().manual_seed(0)
    seen, marks = Augmentation(("flip", "shift 2"))(ramp, masks, draw)
    known = marks != 255
    assert torch.equal((30 * seen[:, 0]).round().long()[known], marks[known])
    assert (seen[:, 0][~known] == 0).all()  # dark beyond the border, and no class there
    assert len({tuple(one.flatten().tolist()) for one in marks}) > 20
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 1
    again, _ = Augmentation(("flip", "shift 2"))(ramp, masks, torch.Generator().manual_seed(0))
    assert torch.equal(again, seen)


def test_mixed_pictures_are_shares_of_two():
    pictures = torch.stack([torch.full((1, 4, 4), value / 10) for value in range(10)])
    seen, _ = Augmentation(("mixup 1",))(pictures, torch.arange(10), torch.Generator().manual_seed(0))
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 0.9
    assert len(seen[:, 0, 0, 0].unique()) > 5
    with pytest.raises(fo.InputError, match=r"data\.augment: 'rotate 5' is unknown"):
        Augmentation(("rotate 5",))


def test_parts_of_bytes_are_numbers_from_black_to_white():
    part = Part(torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1), torch.arange(3))
    assert part.batch(slice(None))[0].flatten().tolist() == pytest.approx([0, 0.2, 1])
    data = Data(part, part, part, ("a", "b", "c"))
    assert len(data.first(2, 1).train) == 2


def test_validation_is_chosen_by_and_a_class_may_be_called_train(tmp_path):
    for part, count in (("train", 6), ("val", 3), ("test", 4)):
        class_folders(tmp_path / "d", (count, count), (part,))
    data = load("folders", tmp_path / "d", (6, 8))
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 6, 8)
    for name in ("bus", "train"):
        for which in range(10):
            write(tmp_path / "e" / name / f"{which}.png", (9, 9, 9))
    assert load("folders", tmp_path / "e", (6, 8)).classes == ("bus", "train")


def test_pictures_of_sixteen_bits_and_links_to_nowhere(tmp_path):
    root = class_folders(tmp_path / "d", (10, 10))
    Image.fromarray(np.full((8, 6), 0x4000, np.uint16)).save(root / "class0" / "deep.png")
    Image.fromarray(np.full((8, 6), 0.5, np.float32)).save(root / "class1" / "float.tif")
    (root / "class1" / "nowhere.png").symlink_to(tmp_path / "gone.png")
    data = load("folders", root, (8, 6))
    assert sorted(name.rsplit("/", 1)[-1] for name in data.skipped) == ["float.tif", "nowhere.png"]
    every = torch.cat([part.pictures for part in (data.train, data.validation, data.test)])
    assert ((every == 0x40).flatten(1).all(1)).sum() == 1


def mask_folder(tmp_path, values, mode="L", palette=None):
    for which in range(10):
        write(tmp_path / "d" / "images" / f"{which}.png", (1, 2, 3))
        image = Image.fromarray(np.array(values, np.uint8), mode)
        if palette:
            image.putpalette(palette)
        path = tmp_path / "d" / "masks" / f"{which}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return tmp_path / "d"


def test_masks_of_numbers_of_grey_and_of_palettes(tmp_path):
    numbers = [[0, 1, 255]] * 8
    ignoring = load("image-mask", mask_folder(tmp_path / "a", numbers), (8, 3), options={"ignored": [255]})
    assert ignoring.train.targets[0, 0].tolist() == [0, 1, 255]
    grey = load("image-mask", mask_folder(tmp_path / "b", [[0, 200, 255]] * 8), (8, 3))
    assert grey.train.targets[0, 0].tolist() == [0, 1, 1]
    palette = [0, 0, 0, 255, 255, 255] + [0] * 762
    indexed = load("image-mask", mask_folder(tmp_path / "c", [[0, 1, 1]] * 8, "P", palette), (8, 3))
    assert indexed.train.targets[0, 0].tolist() == [0, 1, 1]
    with pytest.raises(fo.InputError, match=r"every pixel of every mask is of class 'background'; see"):
        load("image-mask", mask_folder(tmp_path / "d", [[0, 1, 1]] * 8), (8, 3))


def test_pictures_without_a_mask_are_named(tmp_path):
    root = mask_folder(tmp_path / "a", [[0, 200, 255]] * 8)
    write(root / "images" / "alone.png", (1, 2, 3))
    assert load("image-mask", root, (8, 3)).skipped == (str(root / "images" / "alone.png"),)
    with pytest.raises(fo.InputError, match=r"alone\.png: cannot be read"):
        load("image-mask", root, (8, 3), strict=True)


def test_a_camera_s_turn_turns_the_mask_along(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    draw = np.random.default_rng(0)
    for which in range(10):
        mask = (255 * draw.integers(0, 2, (8, 8))).astype(np.uint8)
        for folder, shown in (("images", np.repeat(mask[..., None], 3, 2)), ("masks", mask)):
            (tmp_path / "d" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(shown).save(tmp_path / "d" / folder / f"{which}.png", exif=turned)
    data = load("image-mask", tmp_path / "d", (8, 8))
    assert torch.equal(data.train.pictures[:, 0] > 127, data.train.targets == 1)


def test_mixup_goes_with_a_loss_without_labels():
    from fouroptics.models.training import Recipe

    told = {"data": {"augment": ["mixup 1"]}, "student": {"readout": "homodyne"}}
    with pytest.raises(fo.InputError, match=r"recipe: data\.augment: mixup mixes pictures and no labels"):
        Recipe.from_dict(told)
    assert Recipe.from_dict(told, {"distill.loss": "function-matching"})
