"""The student: its three forms agree, what is linear is affine, and its fold holds nothing of it."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from fouroptics.models import SCLC, fold
from fouroptics.models.readouts import Reader
from torch import nn

import fouroptics as fo
from fouroptics.optics.fourier import spectral_crop

READOUTS = ("ideal_field", "homodyne", "intensity", "pair_intensity", "interference")


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def student_of(readout="homodyne", **options):
    torch.manual_seed(0)
    return SCLC((3, 6, 8), 3, (None, 12), (20, 20), readout=readout, classes=5, **options).double()


@pytest.mark.parametrize("readout", ["ideal_field", "homodyne"])
@pytest.mark.parametrize("options", [{}, {"sensor_pool": 4}, {"parameters": "plane"}, {"is_complex": True}])
def test_a_signed_field_and_one_layer_are_affine(readout, options):
    student = student_of(readout, **options)
    student.normalise(rand(9, 3, 20, 20, seed=5))
    one, other = rand(2, 2, 3, 20, 20)
    off = student(one) + student(other) - student(one + other) - student(torch.zeros_like(one))
    assert off.abs().max() < 1e-12 * student(one).abs().max()
    assert student.summary().function == "affine"


@pytest.mark.parametrize(
    ("options", "function"),
    [
        ({"readout": "intensity"}, "quadratic, then affine"),
        ({"readout": "pair_intensity"}, "quadratic, then affine"),
        ({"readout": "interference"}, "quadratic, then affine"),
        ({"compand": "two-sided-rectify"}, "rectified, then affine"),
        ({"readout": "intensity", "compand": "sqrt", "backend": (7,)}, "companded, then an MLP"),
        ({"backend": (7,)}, "an MLP of linear features"),
    ],
)
def test_what_is_not_linear_breaks_the_sum_and_is_named(options, function):
    student = student_of(**options)
    one, other = rand(2, 2, 3, 20, 20)
    off = student(one) + student(other) - student(one + other) - student(torch.zeros_like(one))
    assert off.abs().max() > 1e-3 * student(one).abs().max()
    assert student.summary().function == function


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("compand", ["none", "two-sided-rectify"])
def test_composed_layered_and_folded_score_alike(readout, compand):
    student = student_of(readout, compand=compand, sensor_pool=5, backend=(9,))
    pictures = rand(3, 3, 20, 20)
    student.normalise(pictures)
    folded = fold(student)
    assert torch.allclose(folded(pictures), student(pictures), rtol=0, atol=1e-12)
    if readout != "pair_intensity":
        assert torch.allclose(student.forward_layers(pictures), student(pictures), rtol=0, atol=1e-10)
    single, due = student.float(), folded(pictures)
    assert torch.allclose(single(pictures.float()).double(), due, rtol=0, atol=1e-4 * float(due.abs().max()))


def test_a_fold_is_detached_and_holds_one_plane():
    student = student_of(compand="rectify")
    folded = fold(student)
    assert set(folded.state_dict()) == {
        "front.plane", "reader.bias", "reader.mean", "reader.spread", "backend.1.weight", "backend.1.bias"
    }  # fmt: skip
    rows, columns = folded.front.geometry.shape
    assert folded.plane.shape == (8, 3, rows, columns, 2)
    assert not folded.plane.requires_grad or folded.plane.grad_fn is None
    pictures = rand(2, 3, 20, 20)
    due = folded(pictures).detach()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert torch.equal(folded(pictures), due)
    assert folded.summary().folded_macs == 4 * 3 * 8 * rows * columns


def test_pairs_read_the_positive_and_the_negative_kernel():
    """Each part as taps of its own through a plain convolution on the whole grid, then the band."""
    student = student_of("pair_intensity")
    pictures = rand(2, 3, 20, 20)
    front = student.front
    taps = front.kernels(front.transfer())
    fields = []
    for part in (taps.clamp_min(0), (-taps).clamp_min(0)):
        deep = SCLC((3, 8), 3, (12,), (20, 20), readout="homodyne", classes=5, guard=front.plan.grid[0] - 20).double()
        whole = deep.front.respond(pictures, transfer_by_hand(part, deep.front))
        fields.append(whole)
    plain = Reader("intensity", "none", front.plan.grids[-1], (12, 12), None, 8).double()
    due = plain.raw(fields[0]) - plain.raw(fields[1])
    assert torch.allclose(student.reader.raw(student.field(pictures)), due, atol=1e-10)


def transfer_by_hand(taps, front):
    """Σ k(m) e^{i2πνm} at every bin of the band, tap by tap."""
    rows, columns = front.plan.grid
    y = torch.arange(rows, dtype=torch.float64) - (rows - 1) // 2
    x = torch.arange(columns, dtype=torch.float64) - (columns - 1) // 2
    down = torch.exp(2j * math.pi * torch.outer(front.geometry.rows, y) / rows)
    along = torch.exp(2j * math.pi * torch.outer(front.geometry.columns, x) / columns)
    return torch.einsum("oiyx,ry,cx->oirc", taps.to(torch.complex128), down, along)


def test_the_beam_of_an_interference_is_as_strong_as_asked():
    """|E + r|² = |E|² + r² + 2r·Re E, each a mean over pixels: by the readings of E alone and of |E|²."""
    pictures, r = rand(2, 3, 20, 20), 3.0
    raw = {
        kind: student_of(kind, **({"reference": r} if kind == "interference" else {}))
        for kind in ("interference", "intensity", "homodyne")
    }
    seen = {kind: one.reader.raw(one.field(pictures)) for kind, one in raw.items()}
    assert torch.allclose(seen["interference"], seen["intensity"] + r**2 + 2 * r * seen["homodyne"], atol=1e-11)


def test_a_pixel_takes_the_mean_over_its_area_and_a_pool_sums_them():
    """A field of one wave: |E|² of a cosine is known everywhere, and so are its means."""
    n, wave = 12, 3
    u = torch.arange(n, dtype=torch.float64)
    field = torch.cos(2 * math.pi * wave * u / n).expand(1, 1, n, n)
    fine = (torch.arange(1000 * n, dtype=torch.float64) + 0.5) / 1000 - 0.5  # pixels stand about their samples
    square = torch.cos(2 * math.pi * wave * fine / n).square()
    each = Reader("intensity", "none", (n, n), (n, n), None, 1).double()
    assert torch.allclose(each(field)[0, 0, 0], square.reshape(n, -1).mean(1), atol=1e-6)
    pooled = Reader("intensity", "none", (n, n), (n, n), (4, 4), 1).double()
    assert torch.allclose(pooled(field)[0, 0, 0], square.reshape(4, -1).mean(1), atol=1e-6)
    rectified = Reader("homodyne", "two-sided-rectify", (n, n), (n, n), (4, 4), 1).double()
    single = Reader("homodyne", "none", (n, n), (n, n), None, 1).double()(field)
    due = torch.cat((F.avg_pool2d(single.clamp_min(0), 3), F.avg_pool2d((-single).clamp_min(0), 3)), 1)
    assert torch.allclose(rectified(field), due, atol=1e-12)


def test_normalised_readings_are_frozen_and_travel_with_the_student():
    student = student_of("intensity")
    pictures = rand(16, 3, 20, 20)
    student.normalise(pictures)
    seen = student.reader(student.field(pictures))
    assert seen.mean((0, 2, 3)).abs().max() < 1e-10
    assert torch.allclose(seen.std((0, 2, 3)), torch.ones(8, dtype=torch.float64), atol=1e-10)
    again = student_of("intensity")
    again.load_state_dict(student.state_dict())
    assert torch.allclose(again.train()(pictures[:1]), student.eval()(pictures)[:1], atol=1e-12)


def test_a_summary_counts_what_there_is():
    student = SCLC((3, 8), 5, (None,), (16, 16), readout="homodyne", classes=10, guard=4, sensor_pool=4, backend=(32,))
    told = student.summary()
    assert told.parameters == sum(p.numel() for p in student.parameters())
    assert told.deep_macs == 3 * 8 * 25 * 20 * 20
    assert told.folded_macs == 4 * 3 * 8 * 21 * 11
    assert told.backend_macs == 8 * 16 * 32 + 32 * 10
    assert told.adc_samples == 8 * 2 * 16  # two captures, pooled on the sensor
    assert "an MLP of linear features" in str(told)


def test_a_trained_plane_begins_as_the_chain_would():
    chain, plane = student_of(), student_of(parameters="plane")
    pictures = rand(2, 3, 20, 20)
    assert torch.allclose(chain.field(pictures), plane.field(pictures), atol=1e-5)  # begun in single precision
    plane.field(pictures).real.square().sum().backward()
    assert plane.front.plane.grad.abs().max() > 0


class Stack(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.body = nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: fold(Stack(nn.Conv2d(3, 4, 3), nn.ReLU())), r"body\.0: a convolution of stride 1 with zeros borders"),
        (lambda: fold(Stack(nn.ReLU())), r"body\.0: ReLU is not linear and shift-invariant; SCLC\.like"),
        (lambda: fold(Stack(nn.MaxPool2d(2))), r"body\.0: MaxPool2d is not linear"),
        (lambda: fold(nn.Linear(3, 4)), "fold: Linear is no student"),
        (lambda: student_of("camera"), "readout: 'camera' is unknown"),
        (lambda: student_of(sensor_pool=13), "sensor_pool: 13×13 readings of 12×12 samples; at most 12"),
        (lambda: student_of(parameters="both"), "parameters: 'both' is unknown"),
        (lambda: student_of(parameters="plane").forward_layers(rand(1, 3, 20, 20)), "a plane has no layers"),
        (lambda: SCLC((3, 4), "full", None, 8, readout="intensity", classes=2), "a full aperture is one layer"),
        (lambda: student_of("pair_intensity", is_complex=True)(rand(1, 3, 20, 20)), "a complex kernel has no sign"),
    ],
)
def test_what_cannot_be_is_refused(make, says):
    with pytest.raises(fo.InputError, match=says):
        make()


def test_every_size_of_chain_folds():
    for layers, crop, guard in itertools.product((1, 2, 4), (None, 5, 6), (0, None)):
        student = SCLC(
            (2,) * (layers + 1), 3, (None,) * (layers - 1) + (crop,), 11, readout="homodyne", classes=2, guard=guard
        )
        pictures = rand(2, 2, 11, 11)
        student = student.double()
        assert torch.allclose(fold(student)(pictures), student.forward_layers(pictures), atol=1e-11)


@pytest.mark.parametrize("is_complex", [False, True])
def test_the_plane_on_the_bench_gives_the_same_field(is_complex):
    """Its taps in a ``Correlator4f``, the guarded picture before it, the last crop as the stop behind."""
    torch.manual_seed(0)
    student = SCLC((3, 8, 4), (5, 4), (None, 16), 32, readout="homodyne", classes=2, is_complex=is_complex).double()
    front = fold(student).front
    rows, columns = front.plan.grid
    bench = fo.Bench.load("slm-532nm")
    taps = front.kernels(front.transfer())
    bank = fo.Correlator4f.from_kernels(taps, bench, size=(rows, columns), boundary="circular")
    pictures = rand(2, 3, 32, 32)
    wide = bank.field(F.pad(pictures, (0, columns - 32, 0, rows - 32)))
    found = torch.fft.ifft2(spectral_crop(torch.fft.fft2(wide, norm="ortho"), front.plan.grids[-1]), norm="ortho")
    due = student.field(pictures)
    assert float((found - due).abs().max()) < 1e-12 * float(due.abs().max())


def test_a_full_aperture_is_as_wide_as_its_guard_lets_it_be():
    """Taps reach over the guard and no further: in a dark surround it is ``conv2d`` with that many taps."""
    student = SCLC((3, 2), "full", (None,), 16, readout="homodyne", classes=2, guard=8).double()
    (weight,) = student.front.taps()
    assert weight.shape == (2, 3, 17, 17)
    pictures = rand(2, 3, 16, 16)
    due = F.conv2d(pictures, weight, padding=8)
    assert torch.allclose(student.field(pictures)[..., :16, :16], due, atol=1e-12)
