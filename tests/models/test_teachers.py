"""Teachers, what a student takes of them, and tensors that come back as they were."""

import pytest
import torch
from fouroptics.models import SCLC
from fouroptics.models.teachers import AlexNet, Offset, QuickCNN, SmallCNN, UNet, load_weights, merged
from torch import nn

import fouroptics as fo
from fouroptics.errors import InputError
from fouroptics.tensors import load_tensors, save_tensors


def test_alexnet_has_the_names_and_sizes_that_torchvision_gives():
    due = {
        "features.0.weight": (64, 3, 11, 11), "features.3.weight": (192, 64, 5, 5),
        "features.6.weight": (384, 192, 3, 3),
        "features.8.weight": (256, 384, 3, 3), "features.10.weight": (256, 256, 3, 3),
        "classifier.1.weight": (4096, 9216), "classifier.4.weight": (4096, 4096), "classifier.6.weight": (1000, 4096),
    }  # fmt: skip
    net = AlexNet().eval()
    own = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items() if name.endswith("weight")}
    assert own == due
    assert sum(p.numel() for p in net.parameters()) == 61_100_840  # as published
    assert net.features(torch.rand(1, 3, 224, 224)).shape == (1, 256, 6, 6)


@pytest.mark.parametrize("size", [32, 48, 96, 128, 200, 256])
def test_alexnet_takes_small_pictures_too(size):
    net = AlexNet(7, size, hidden=32).eval()
    assert net(torch.rand(2, 3, size, size)).shape == (2, 7)


def test_a_student_is_like_its_teacher_layer_by_layer():
    """Alexnet at 224: sizes as its own layers leave them, pools and strides as crops."""
    teacher = AlexNet()
    student = SCLC.like(teacher, readout="intensity", classes=10)
    plan = student.front.plan
    assert plan.channels == (3, 64, 192, 384, 256, 256)
    assert plan.kernels == ((11, 11), (5, 5), (3, 3), (3, 3), (3, 3))
    assert plan.crops == ((27, 27), (13, 13), (13, 13), (13, 13), (6, 6))
    picture, seen = torch.rand(1, 3, 224, 224), []
    for layer in teacher.features:
        picture = layer(picture)
        if isinstance(layer, nn.Conv2d):
            seen.append(tuple(picture.shape[-2:]))
        elif isinstance(layer, nn.MaxPool2d):
            seen[-1] = tuple(picture.shape[-2:])
    assert [*plan.crops] == seen
    assert [tuple(w.shape) for w in student.front.weights] == [
        tuple(layer.weight.shape) for layer in teacher.features if isinstance(layer, nn.Conv2d)
    ]


@pytest.mark.parametrize("made", [SmallCNN(10, widths=(8, 12)), UNet(3, widths=(4, 6)), QuickCNN(10, widths=(8, 12))])
def test_batch_norms_become_part_of_convolutions(made):
    pictures = torch.rand(8, 3, 32, 32)
    made.double().train()
    for _ in range(4):
        made(pictures.double())  # statistics of its own
    norms = [one for one in made.modules() if isinstance(one, nn.BatchNorm2d)]
    for norm in norms:
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.uniform_(norm.bias, -1, 1)
    kept = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    found = merged(made)
    left = sum(isinstance(one, nn.BatchNorm2d) for one in found.modules())
    assert left == (2 if isinstance(made, QuickCNN) else 0) < len(norms)  # those behind pools stay
    torch.testing.assert_close(found(pictures.double()), made.eval()(pictures.double()), rtol=1e-10, atol=1e-12)
    assert not any(one.requires_grad for one in found.parameters())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in made.state_dict().items())


def test_a_quick_network_begins_with_white_patches():
    """Of the pictures that it was shown: as strong along every direction, and none follows from others."""
    pictures = fo.pictures.natural(200, 3, (16, 16), seed=3)
    net = QuickCNN(10, 16, widths=(8, 12)).double()
    net.begin(pictures)
    seen = nn.functional.conv2d(net.normalise(pictures.double()), net.patches)
    strength = torch.einsum("biyx,bjyx->ij", seen, seen) / seen[:, 0].numel()
    torch.testing.assert_close(strength, torch.diag(strength.diag()), rtol=0, atol=1e-9)
    assert strength.diag().min() > 0.3 and strength.diag().max() < 1  # a little is kept out of the faintest
    clear = fo.pictures.natural(50, 3, (16, 16), seed=4).double()
    as_it_is = net.pairs[0](torch.cat((seen, -seen), 1))[:, :8]  # convolutions begin as the identity
    torch.testing.assert_close(as_it_is, seen[:, :8])
    assert net.eval()(clear).shape == (50, 10)


def test_an_offset_moves_sixty_four_times_as_far():
    offset = Offset(2)
    step = torch.optim.SGD(offset.parameters(), lr=0.01)
    (offset(torch.zeros(1, 2, 1, 1)) * torch.tensor([3.0, -1.0])[:, None, None]).sum().backward()
    step.step()
    moved = offset(torch.zeros(1, 2, 1, 1)).flatten()
    torch.testing.assert_close(moved, -0.64 * torch.tensor([3.0, -1.0]))


def test_a_quick_network_needs_something_to_halve():
    with pytest.raises(InputError, match=r"pictures of 16 for 3 pairs.*24 or more"):
        QuickCNN(10, 16)


def test_a_student_of_a_small_network_leaves_batch_norms_out():
    student = SCLC.like(SmallCNN(10, widths=(8, 12)), readout="homodyne", classes=10, compand="rectify", sensor_pool=4)
    assert student.front.plan.crops == ((32, 32), (16, 16), (16, 16), (8, 8))
    pictures = torch.rand(2, 3, 32, 32)
    assert torch.allclose(student(pictures), student.forward_layers(pictures), atol=1e-5)


class Of(nn.Module):
    def __init__(self, *layers, size=(32, 32)):
        super().__init__()
        self.features, self.size = nn.Sequential(*layers), size


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3, padding="valid"),
        nn.Conv2d(3, 4, (5, 3), 2, (1, 2)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2, ceil_mode=True)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(3, 2, dilation=2)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(3, 2, 1)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2, 2, 1, ceil_mode=True)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(1, 3, ceil_mode=True)),
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=2), nn.Conv2d(4, 4, 3, padding=2), nn.MaxPool2d(2)),
    ],
)
def test_crops_are_what_the_teacher_leaves(layer):
    teacher = nn.Module()
    teacher.features = layer if isinstance(layer, nn.Sequential) else nn.Sequential(layer)
    left = teacher.features(torch.rand(1, 3, 33, 33)).shape[-2:]
    student = SCLC.like(teacher, 33, readout="intensity", classes=2)
    assert student.front.plan.crops[-1] == tuple(left)


@pytest.mark.parametrize(
    ("teacher", "says"),
    [
        (Of(nn.Conv2d(3, 4, 3), nn.LocalResponseNorm(5)), r"features\.1: LocalResponseNorm has no linear counterpart"),
        (Of(nn.MaxPool2d(2)), r"features\.0: a pool before any convolution"),
        (Of(nn.Conv2d(4, 4, 3, groups=2)), r"features\.0: a convolution of 2 groups"),
        (Of(nn.Conv2d(3, 4, 3, dilation=2)), r"features\.0: a convolution of 1 groups and dilation 2"),
        (Of(nn.Conv2d(3, 4, 3), size=None), "size: the teacher does not tell"),
        (nn.Linear(3, 4), "Linear: has no features to be like"),
    ],
)
def test_teachers_that_no_student_is_like_are_refused(teacher, says):
    with pytest.raises(fo.InputError, match=says):
        SCLC.like(teacher, getattr(teacher, "size", 8), readout="intensity", classes=2)


def test_a_unet_scores_every_pixel():
    net = UNet(5, widths=(4, 8, 16)).eval()
    assert net(torch.rand(2, 3, 24, 16)).shape == (2, 5, 24, 16)
    with pytest.raises(fo.InputError, match="cannot be halved 2 times; sides that are multiples of 4"):
        net(torch.rand(2, 3, 25, 16))


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    net = SmallCNN(10, widths=(4, 6))
    save_tensors(tmp_path / "w.safetensors", net.state_dict())
    again = load_weights(SmallCNN(10, widths=(4, 6)), tmp_path / "w.safetensors").eval()
    pictures = torch.rand(2, 3, 32, 32)
    assert torch.equal(again(pictures), net.eval()(pictures))
    for other, says in (
        (SmallCNN(7, widths=(4, 6)), r"'classifier\.3\.weight' is \[10, 6\], and \[7, 6\] in a SmallCNN"),
        (SmallCNN(10, widths=(4, 6, 8)), r"'classifier\.3\.weight' is|has no tensor"),
        (UNet(), r"has no tensor 'down\.0\.0\.weight'; weights of a UNet"),
    ):
        with pytest.raises(fo.InputError, match=says):
            load_weights(other, tmp_path / "w.safetensors")


def test_tensors_of_every_make_come_back(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    given = {
        "shared": base, "also shared": base, "a part": base[1:3], "turned": base.T, "strided": base[:, ::2],
        "conjugated": torch.complex(base, base + 1).conj(),
        "double": torch.complex(base, -base).to(torch.complex128).conj(),
        "negative": torch.complex(base, base).conj().imag, "with a gradient": nn.Parameter(base.clone()),
        "whole": torch.arange(3), "half": base.half(), "bool": base > 3, "scalar": torch.tensor(2.5), "empty": base[:0],
    }  # fmt: skip
    save_tensors(tmp_path / "t.safetensors", given, {"recipe": "µ"})
    found, told = load_tensors(tmp_path / "t.safetensors")
    assert told == {"recipe": "µ"}
    assert set(found) == set(given)
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor.detach().resolve_conj().resolve_neg()), name


def test_files_that_hold_no_tensors_are_refused(tmp_path):
    save_tensors(tmp_path / "t.safetensors", {"a": torch.ones(100)})
    raw = (tmp_path / "t.safetensors").read_bytes()
    for content in (raw[:-20], b"", b"\x80\x04pickle", raw[:4]):
        (tmp_path / "broken.safetensors").write_bytes(content)
        with pytest.raises(fo.InputError, match="holds no tensors"):
            load_tensors(tmp_path / "broken.safetensors")
    with pytest.raises(fo.InputError, match="there is no such file"):
        load_tensors(tmp_path / "none.safetensors")
