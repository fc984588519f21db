"""Electronics behind the readings, and the network that the paper's authors published."""

import pytest
import torch
import torch.nn.functional as F
from fouroptics.models import OSCLC, SCLC, fold
from fouroptics.models.backends import FC, Conv, Up, UpPath
from fouroptics.models.pruning import pruned
from fouroptics.models.released import Released
from torch import nn

import fouroptics as fo
from fouroptics.devices import readout
from fouroptics.errors import InputError
from tests.device_banks import bench_of


def student_of(backend, **options):
    torch.manual_seed(0)
    given = {"readout": "homodyne", "compand": "two-sided-rectify", "classes": 4, "backend": backend} | options
    return SCLC((3, 8), 3, (None,), 16, **given)


def pictures(count=2, size=16):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("compand", ["none", "sqrt", "two-sided-rectify"])
def test_divided_readings_are_the_pattern_whatever_the_contrast(compand):
    """r / √(0.1·p + mean over outputs of r²), p what that mean is on average; then companded."""
    student = student_of(FC(), compand=compand, divisive=0.1)
    seen = pictures(6)
    student.normalise(seen)
    readings = student.reader.detected(student.seen(seen))
    if student.reader.bias is not None:
        readings = readings + student.reader.bias[:, None, None]
    power = readings.square().mean()
    assert torch.allclose(student.reader.power, power, rtol=1e-4)
    due = readings / (0.1 * power + readings.square().mean(1, keepdim=True)).sqrt()
    due = readout.compand(due, compand)
    assert torch.allclose(student.readings(seen), due, atol=1e-5)
    told = student.summary()
    assert told.following_macs == 2 * 8 * 256 and "to divide them" in str(told)
    assert told.function == {"none": "divided", "sqrt": "divided and companded"}.get(
        compand, "divided and rectified"
    ) + (", then affine")
    assert torch.allclose(fold(student)(seen), student(seen), atol=1e-4)


def test_a_reader_that_divides_is_told_by_its_file_and_kept_when_pruned(tmp_path):
    student = student_of(FC(), divisive=0.25)
    seen = pictures(6)
    student.normalise(seen)
    with pytest.raises(InputError, match="divided by those of all outputs"):
        pruned(student.eval(), 4)
    few = pruned(student.eval(), 4, seen)
    assert few.reader.divisive == 0.25
    normal = few.reader.normalised(few.readings(seen))  # as they usually are, of those that are left
    assert torch.allclose(normal.mean((0, 2, 3)), torch.zeros(8), atol=1e-4)
    here = OSCLC.from_student(few, bench_of(240, {"mask.encoding": "carrier"}), seen).eval()
    here.mask_set(classes="abcd").save(tmp_path / "masks.h5")
    again = OSCLC.from_maskset(tmp_path / "masks.h5")
    assert again.reader.divisive == 0.25
    with torch.no_grad():
        assert torch.equal(again(seen), here(seen))
    with pytest.raises(InputError, match="divisive: -1 is no share"):
        student_of(FC(), divisive=-1)


@pytest.mark.parametrize("compand", ["rectify", "two-sided-rectify"])
@pytest.mark.parametrize("divisive", [0.0, 0.25])
def test_the_largest_of_a_pool(tmp_path, compand, divisive):
    """Pool by pool in loops; the same in a fold, in a file and with fewer outputs."""
    student = student_of(FC(), compand=compand, divisive=divisive, pooling="max", sensor_pool=4)
    seen = pictures(6)
    student.normalise(seen)
    reader = student.reader
    detected = reader.detected(student.seen(seen)).detach() + reader.bias[:, None, None].detach()
    if divisive:
        detected = detected / (divisive * reader.power + detected.square().mean(1, keepdim=True)).sqrt()
    sides = (detected, -detected) if compand == "two-sided-rectify" else (detected,)
    rows, columns = (n // m for n, m in zip(reader.given, reader.size, strict=True))
    due = torch.stack([
        torch.stack([
            torch.cat([side[..., rows * y : rows * (y + 1), columns * x : columns * (x + 1)].amax((-2, -1)).clamp_min(0)
                       for side in sides], 1)
            for x in range(reader.size[1])], -1)
        for y in range(reader.size[0])], -2)  # fmt: skip
    torch.testing.assert_close(student.readings(seen).detach(), due, atol=1e-5, rtol=1e-5)
    assert "the largest of each pool" in student.summary().function
    torch.testing.assert_close(fold(student.eval())(seen), student(seen), atol=1e-4, rtol=1e-4)
    few = pruned(student, 4, seen)
    assert few.reader.pooling == "max"
    here = OSCLC.from_student(few, bench_of(240, {"mask.encoding": "carrier"}), seen).eval()
    here.mask_set(classes="abcd").save(tmp_path / "masks.h5")
    again = OSCLC.from_maskset(tmp_path / "masks.h5")
    with torch.no_grad():
        assert again.reader.pooling == "max" and torch.equal(again(seen), here(seen))


def test_the_largest_of_what_is_not_rectified_is_refused():
    for options in ({"compand": "none"}, {"sensor_pool": None}):
        with pytest.raises(InputError, match="pooling: the largest of rectified readings, and these are not"):
            student_of(FC(), pooling="max", **options)
    with pytest.raises(InputError, match="'median' is unknown"):
        student_of(FC(), pooling="median")


@pytest.mark.parametrize(
    ("backend", "shape", "macs", "function"),
    [
        (FC(), (2, 4), 16 * 64 * 4, "rectified, then affine"),
        (FC((32,)), (2, 4), 16 * 64 * 32 + 32 * 4, "rectified, then an MLP"),
        (Conv((6, 5)), (2, 4), 9 * (16 * 6 * 64 + 6 * 5 * 16) + 5 * 4, "rectified, then a CNN"),
        (
            Up((6, 5)),
            (2, 4, 16, 16),
            9 * 64 * (16 * 6 + 6 * 6) + 64 * 6 * 5 * 4 + 9 * 256 * (5 * 5 * 2) + 256 * 5 * 4,
            "rectified, then a CNN",
        ),
    ],
)
def test_a_backend_gives_scores_of_pictures_or_pixels(backend, shape, macs, function):
    student = student_of(backend, sensor_pool=8).eval()
    assert student(pictures()).shape == shape
    told = student.summary()
    assert told.backend_macs == macs
    assert told.function == function
    assert torch.allclose(fold(student)(pictures()), student(pictures()), atol=1e-5)


def test_a_list_of_widths_is_fully_connected():
    torch.manual_seed(0)
    one = student_of((32,))
    torch.manual_seed(0)
    other = student_of(FC((32,)))
    assert str(one) == str(other)


def test_finer_readings_join_on_the_way_up():
    torch.manual_seed(0)
    path = UpPath([(5, (4, 4)), (3, (8, 8)), (2, (15, 15))], (8, 6, 4), (30, 30), 2).eval()
    levels = [torch.rand(1, c, n, n) for c, n in ((5, 4), (3, 8), (2, 15))]
    scores = path(levels)
    assert scores.shape == (1, 2, 30, 30)
    for number in range(3):
        other = list(levels)
        other[number] = other[number] + 1
        assert not torch.allclose(path(other), scores)


def test_a_reading_is_shifted_before_it_is_rectified():
    student = student_of(FC(), sensor_pool=4)
    plain = student.readings(pictures())
    field = student.field(pictures())[..., :16, :16]
    with torch.no_grad():
        student.reader.bias.copy_(torch.linspace(-1, 1, 8))
    shifted = student.readings(pictures())
    assert not torch.allclose(plain, shifted)
    signed = shifted[:, :8] - shifted[:, 8:] - (plain[:, :8] - plain[:, 8:])  # max(r, 0) - max(-r, 0) = r
    assert torch.allclose(signed, student.reader.bias[:, None, None].expand_as(signed), atol=1e-5)
    assert field.shape == (2, 8, 16, 16)
    assert student_of(FC(), compand="none").reader.bias is None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: student_of(Conv(())), "backend: 0 convolutions of 16×16 readings"),
        (lambda: student_of(Conv((4,) * 4), sensor_pool=4), "backend: 4 convolutions of 4×4 readings, halved between"),
        (lambda: student_of(Up(())), "backend: 0 widths for 1 levels of readings; a width for each level"),
        (lambda: Released(crops=(9, 7, 5)), r"crops: \(9, 7, 5\) of pictures of 224; four"),
        (lambda: Released(size=32, crops=(17, 19, 7, 5)), "none larger than before it"),
        (lambda: fold(Released(size=32)), r"features\.conv1: a convolution of stride 1 with zeros borders"),
    ],
)
def test_what_cannot_be_is_refused(make, says):
    with pytest.raises(fo.InputError, match=says):
        make()


def test_the_published_network_is_what_its_code_computes():
    """Step by step: linear convolution with the taps' real halves, full spectra cropped, levels raised, rectified."""
    torch.manual_seed(0)
    network = Released(size=32, crops=(17, 9, 7, 5)).double().eval()
    found = due = pictures(size=32).double()
    for number, kept in enumerate((17, 9, 7, 5, None), 1):
        conv = network.features.get_submodule(f"conv{number}")
        due = F.conv2d(due, conv.weight[..., 0], padding=1)
        if kept is not None:
            spectra = torch.fft.fftshift(torch.fft.fft2(due), dim=(-2, -1))
            middle, half = due.shape[-1] // 2, kept // 2
            low = spectra[..., middle - half : middle + half + 1, middle - half : middle + half + 1]
            due = torch.fft.ifft2(torch.fft.ifftshift(low, dim=(-2, -1))).real.relu()
    due = network.classifier(F.adaptive_avg_pool2d(network.norm(due), 6).flatten(1))
    assert torch.allclose(network(found), due, atol=1e-12)


def test_imaginary_taps_of_the_published_network_never_learn():
    network = Released(size=32, crops=(17, 9, 7, 5)).eval()
    network(pictures(size=32)).square().sum().backward()
    weight = network.features.get_submodule("conv2").weight
    assert weight.grad[..., 0].abs().max() > 0
    assert weight.grad[..., 1].abs().max() < 1e-6 * weight.grad[..., 0].abs().max()


def test_the_published_network_has_the_published_sizes():
    network = Released()
    kept = [one.output_size for one in network.features if hasattr(one, "output_size")]
    assert kept == [(n, n) for n in (113, 55, 27, 13)]
    assert [layer.in_features for layer in network.classifier if isinstance(layer, nn.Linear)] == [9216, 512, 256]


def test_a_student_like_the_published_network_is_what_the_paper_prints():
    student = SCLC.like(Released(), readout="ideal_field", classes=10, is_complex=True)
    assert student.front.plan.channels == (3, 32, 64, 128, 256, 256)
    assert [crop[0] for crop in student.front.plan.crops] == [113, 55, 27, 13, 13]
    assert student.summary().function == "affine"
