"""Fewer outputs: what is left answers as before, and what is gone is heard as its mean."""

import copy

import pytest
import torch
from fouroptics.models import OSCLC, SCLC, fold
from fouroptics.models.backends import FC, Conv, Up
from fouroptics.models.pruning import importance, pruned

import fouroptics as fo
from fouroptics.errors import InputError
from tests.device_banks import bench_of


def student_of(channels=(3, 6), backend=None, compand="two-sided-rectify", **options):
    torch.manual_seed(0)
    student = SCLC(channels, 3, options.pop("crops", None), 16, readout="homodyne", compand=compand, classes=3,
                   sensor_pool=4, backend=backend or FC((8,)), **options)  # fmt: skip
    pictures = fo.pictures.natural(6, 3, (16, 16), seed=3)
    student.normalise(pictures)
    return student.eval(), pictures


@pytest.mark.parametrize("compand", ["none", "rectify", "two-sided-rectify"])
@pytest.mark.parametrize("backend", [FC((8,)), FC(), Conv((5, 4))], ids=["mlp", "one layer", "conv"])
def test_what_is_left_is_heard_as_before_and_the_rest_as_its_mean(compand, backend):
    student, pictures = student_of(backend=backend, compand=compand)
    few = pruned(student, 4)
    kept = importance(student).topk(4).indices.sort().values
    sides = 2 if compand == "two-sided-rectify" else 1
    whole, there = student.reader.normalised(student.readings(pictures)), torch.zeros(6)
    there[kept] = 1
    silenced = whole * there.repeat(sides)[:, None, None]  # a mean is 0 once it is normalised
    assert torch.allclose(few(pictures), student.backend(silenced), atol=1e-5)
    assert few.reader.outputs == 4 and not set(map(id, few.parameters())) & set(map(id, student.parameters()))


def test_the_loudest_outputs_stay():
    student, _ = student_of(backend=FC())
    with torch.no_grad():
        for number, loudness in enumerate((1.0, 5.0, 2.0, 6.0, 3.0, 4.0)):
            weight = student.backend[1].weight.view(3, 2, 6, 16)
            weight[:, :, number] = loudness
    assert importance(student).argsort().tolist() == [0, 2, 4, 5, 1, 3]
    assert torch.equal(pruned(student, 2).front.weights[0], student.front.weights[0][[1, 3]])
    assert torch.allclose(pruned(student, 6)(_pictures()), student(_pictures()), atol=1e-6)


def test_an_output_that_no_light_reaches_is_the_first_to_go():
    """Its weights are the largest, and its reading the same whatever there is to see."""
    student, pictures = student_of(backend=FC())
    with torch.no_grad():
        student.front.weights[0][0] = 0
        student.backend[1].weight.view(3, 2, 6, 16)[:, :, 0] *= 9
    assert importance(student).argmax() == 0 and importance(student, pictures).argmin() == 0
    assert torch.equal(pruned(student, 5, pictures).front.weights[0], student.front.weights[0][1:])
    spread = student.reader.normalised(student.readings(pictures)).std((0, 2, 3), correction=0)
    weights = student.backend[1].weight.view(3, 12, 16).square().sum((0, 2))
    due = (weights * spread**2).view(2, 6).sum(0).sqrt()
    torch.testing.assert_close(importance(student, pictures), due.double(), rtol=1e-4, atol=1e-6)


def _pictures():
    return fo.pictures.natural(2, 3, (16, 16), seed=5)


def test_chains_planes_and_benches_take_fewer():
    deep, pictures = student_of((3, 4, 6), crops=(None, 8))
    few = pruned(deep, 3)
    assert torch.allclose(pruned(fold(deep), 3)(pictures), few(pictures), atol=1e-4)
    assert few.summary().masks == 3 and few.backend[1].in_features == 2 * 3 * 16
    student, pictures = student_of(camera_pixel=0.25)
    here = OSCLC.from_student(pruned(student, 2), bench_of(240, {"mask.encoding": "carrier"}), pictures)
    assert here.budget(pictures)["masks"] == 2
    assert here(pictures).shape == (6, 3)


def test_what_was_frozen_or_wrapped_stays_so():
    student, pictures = student_of()
    few = pruned(torch.nn.DataParallel(student.requires_grad_(False)), 3)
    assert not any(parameter.requires_grad for parameter in few.parameters())
    assert few(pictures).shape == (6, 3)


def test_what_cannot_be_pruned():
    student, _ = student_of()
    normed = copy.deepcopy(student)
    normed.backend = torch.nn.Sequential(torch.nn.BatchNorm2d(12), *normed.backend)
    with pytest.raises(InputError, match="does not begin with weights"):
        pruned(normed, 2)
    for count in (0, 7):
        with pytest.raises(InputError, match=f"{count} of 6 outputs"):
            pruned(student, count)
    pyramid = SCLC((3, 2, 2), 3, (8, None), 16, readout="homodyne", compand="rectify", classes=2, detect="each",
                   backend=Up((4, 4)))  # fmt: skip
    with pytest.raises(InputError, match="levels of outputs"):
        pruned(pyramid, 2)
    student.backend = torch.nn.Flatten()
    with pytest.raises(InputError, match="does not begin with weights"):
        pruned(student, 2)
