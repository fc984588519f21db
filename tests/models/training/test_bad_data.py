"""Pictures and targets that nothing can be learned from: each is refused by its name, with the mend."""

import numpy as np
import pytest
import torch
from fouroptics.models.training.data import from_datasets, load
from torch.utils.data import DataLoader, TensorDataset

import fouroptics as fo
from tests.models.training.test_data import class_folders, python_batch, write


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOUROPTICS_CACHE", str(tmp_path / "cache"))


def coloured(root):
    for folder, colour in (("images", (1, 2, 3)), ("masks", (200, 0, 0))):
        for number in range(4):
            write(root / folder / f"{number}.png", colour)
    return root


def bad_data(name, tmp_path):
    ones = torch.ones(4, 3, 8, 8)
    if name == "light":
        return lambda: from_datasets(TensorDataset(2 * ones, torch.arange(4)), TensorDataset(ones, torch.arange(4)))
    if name == "negative":
        return lambda: from_datasets(TensorDataset(ones, torch.arange(4) - 1), TensorDataset(ones, torch.arange(4)))
    if name == "single":
        return lambda: load("folders", class_folders(tmp_path / "s", (20,)), (6, 8))
    if name == "empty":
        (tmp_path / "e").mkdir()
        return lambda: load("folders", tmp_path / "e", (6, 8))
    if name == "cifar":
        (tmp_path / "c").mkdir()
        return lambda: load("cifar10", tmp_path / "c")
    if name == "few":
        return lambda: load("folders", class_folders(tmp_path / "f", (1, 1)), (6, 8))
    if name == "damaged":
        root = class_folders(tmp_path / "g", (8, 8))
        for path in (root / "class1").iterdir():
            path.write_bytes(path.read_bytes()[:40])
        return lambda: load("folders", root, (6, 8))
    if name == "nothing":
        (tmp_path / "h" / "a").mkdir(parents=True)
        (tmp_path / "h" / "a" / "1.png").write_bytes(b"no picture")
        return lambda: load("folders", tmp_path / "h", (6, 8))
    if name == "label":
        (tmp_path / "i").mkdir()
        for batch in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
            python_batch(tmp_path / "i" / batch, np.zeros((3, 3, 32, 32), np.uint8), [1, 10, 2])
        return lambda: load("cifar10", tmp_path / "i")
    return {
        "colours": lambda: load("image-mask", coloured(tmp_path), (6, 8), options={"classes": ["a", "b"]}),
        "endless": lambda: from_datasets(DataLoader(TensorDataset(ones)), TensorDataset(ones, torch.arange(4))),
        "no class": lambda: from_datasets(*[TensorDataset(ones, torch.full((4, 8, 8), 255))] * 2),
        "points": lambda: from_datasets(*[TensorDataset(ones, torch.arange(4) / 2)] * 2),
        "shapes": lambda: from_datasets(*[TensorDataset(ones, torch.ones(4, 7, 8).long())] * 2),
        "beyond": lambda: from_datasets(*[TensorDataset(ones, torch.arange(4))] * 2, classes="abc"),
        "none": lambda: load("folders", tmp_path / "nowhere"),
        "no path": lambda: load("folders"),
        "reader": lambda: load("imagenet", tmp_path),
        "option": lambda: load("folders", class_folders(tmp_path / "o"), options={"presets": "x"}),
        "preset": lambda: load("image-mask", tmp_path, options={"preset": "camvit"}),
        "masks": lambda: load("image-mask", tmp_path, options={"images": "a"}),
    }[name]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("light", r"train: pictures from 2 to 2; pictures are light, in \[0, 1\]"),
        ("negative", r"data: a target of -1 among those for train; classes are 0 … 3"),
        ("single", "data: one class only, '.*'; there is nothing to tell apart"),
        ("empty", r"e: holds no folders of pictures; a folder a class"),
        ("cifar", r"c: holds no CIFAR-10 batches"),
        ("damaged", "data: one class only, 'class0'; there is nothing to tell apart"),
        ("nothing", r"1\.png: cannot be read, nor can any other picture there; get the pictures again"),
        ("label", "data_batch_1: a label of 10, and the classes are 0 … 9; get it again"),
        ("colours", r"0\.png: its pixels are colours, and classes have none; list the colour of each class in data"),
        ("endless", "train: a DataLoader has no numbered pictures; a Dataset with __len__ and __getitem__"),
        ("no class", "data: one class only; there is nothing to tell apart"),
        ("points", "train: targets are float32; whole numbers of classes"),
        ("shapes", r"train: targets are \[\[7, 8\]\]; the number of a class, or of each pixel's \[8, 8\]"),
        ("beyond", "data: a target of 3 among those for train; classes are 0 … 2"),
        ("few", "data: no pictures for train"),
        ("none", "nowhere: there is no such folder"),
        ("no path", "data.path: no folder of pictures; give one, or --data FOLDER"),
        ("reader", "data.reader: 'imagenet' is unknown"),
        ("option", "data.options.presets: is no option of this reader; it has no options"),
        ("preset", "data.options.preset: 'camvit' is unknown; choose from 'camvid'"),
        ("masks", "a: there is no such folder; pictures and masks in two folders"),
    ],
)
def test_what_is_no_data_is_refused(tmp_path, name, says):
    with pytest.raises(fo.InputError, match=says):
        bad_data(name, tmp_path)()
