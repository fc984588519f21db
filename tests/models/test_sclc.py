"""The student: its three forms agree, what is linear is affine, and its fold holds nothing of it."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from fouroptics.models import SCLC, fold
from fouroptics.models.readouts import Camera, Reader
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

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
    assert torch.allclose(single(pictures.float()).double(), due, rtol=0, atol=1e-5 * float(due.abs().max()))


def test_a_fold_is_detached_and_holds_one_plane():
    student = student_of(compand="rectify")
    folded = fold(student)
    assert set(folded.state_dict()) == {
        "front.plane", "reader.bias", "reader.mean", "reader.spread", "backend.1.weight", "backend.1.bias"
    }  # fmt: skip
    rows, columns = folded.front.geometry.shape
    assert folded.plane.shape == (8, 3, rows, columns, 2)
    assert folded.plane.is_leaf
    reachable = {id(module) for module in folded.modules()} | {id(p) for p in folded.parameters()}
    assert not reachable & ({id(m) for m in student.modules()} | {id(p) for p in student.parameters()})
    pictures = rand(2, 3, 20, 20)
    due = folded(pictures).detach()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert torch.equal(folded(pictures), due)
    assert folded.summary().folded_macs == student.summary().folded_macs


def test_a_fold_does_the_work_of_one_plane_however_deep_it_was():
    """Products as torch counts them: a chain of four layers, folded, does what one of one layer does."""
    pictures, work = torch.rand(4, 3, 32, 32), {}
    for depth in (1, 4):
        chain = SCLC((3, *(16,) * depth), 3, (*(None,) * (depth - 1), 8), 32, readout="homodyne", classes=5, guard=16)
        for name, network in (("folded", fold(chain)), ("composed", chain)):
            network(pictures)  # plans are made once
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                network(pictures)
            work[name, depth] = counter.get_total_flops()
    assert work["folded", 4] == work["folded", 1] > 0
    assert work["folded", 4] < work["composed", 4]


def test_pairs_read_the_positive_and_the_negative_kernel():
    """Each part as taps of its own through a plain convolution on the whole grid, then the band."""
    student = student_of("pair_intensity")
    pictures = rand(2, 3, 20, 20)
    front = student.front
    taps = front.kernels(front.transfer())
    fields = []
    for part in (taps.clamp_min(0), (-taps).clamp_min(0)):
        deep = SCLC((3, 8), 3, (12,), (20, 20), readout="homodyne", classes=5, guard=20).double()
        whole = deep.front.respond(pictures, transfer_by_hand(part, deep.front), fine=True)
        fields.append(whole)
    assert front.plan.grid == (40, 40)  # as wide a guard as a picture: parts of a kernel reach anywhere
    plain = Reader("intensity", "none", student.reader.camera, None, 8).double()
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
    u = torch.arange(2 * n, dtype=torch.float64) / 2
    camera = Camera((n, n), (2 * n, 2 * n), (n, n), (((n - 1) / 2, n), ((n - 1) / 2, n)))
    field = torch.cos(2 * math.pi * wave * u / n).expand(1, 1, 2 * n, 2 * n)
    fine = (torch.arange(1000 * n, dtype=torch.float64) + 0.5) / 1000 - 0.5  # pixels stand about their samples
    square = torch.cos(2 * math.pi * wave * fine / n).square()
    each = Reader("intensity", "none", camera, None, 1).double()
    assert torch.allclose(each(field)[0, 0, 0], square.reshape(n, -1).mean(1), atol=1e-6)
    pooled = Reader("intensity", "none", camera, (4, 4), 1).double()
    assert torch.allclose(pooled(field)[0, 0, 0], square.reshape(4, -1).mean(1), atol=1e-6)
    rectified = Reader("homodyne", "two-sided-rectify", camera, (4, 4), 1).double()
    single = Reader("homodyne", "none", camera, None, 1).double()(field)
    due = torch.cat((F.avg_pool2d(single.clamp_min(0), 3), F.avg_pool2d((-single).clamp_min(0), 3)), 1)
    assert torch.allclose(rectified(field), due, atol=1e-12)


def test_normalised_readings_are_frozen_and_travel_with_the_student():
    student = student_of("intensity")
    pictures = rand(16, 3, 20, 20)
    student.normalise(pictures)
    seen = student.reader(student.field(pictures))
    assert seen.mean((0, 2, 3)).abs().max() < 1e-10
    assert torch.allclose(seen.std((0, 2, 3), correction=0), torch.ones(8, dtype=torch.float64), atol=1e-10)
    again = student_of("intensity")
    again.load_state_dict(student.state_dict())
    assert torch.allclose(again.train()(pictures[:1]), student.eval()(pictures)[:1], atol=1e-12)


def test_a_summary_counts_what_there_is():
    student = SCLC((3, 8), 5, (None,), (16, 16), readout="homodyne", classes=10, guard=4, sensor_pool=4, backend=(32,))
    told = student.summary()
    assert told.parameters == sum(p.numel() for p in student.parameters())
    assert told.deep_macs == 3 * 8 * 25 * 16 * 16  # of pictures: convolutions need no guard
    waves = 2 * (10 + 1)  # cosines and sines of bins 0 … 10
    analysis, product = 3 * waves * 16 * (16 + waves), 4 * 3 * 8 * 21 * 11
    assert told.folded_macs == analysis + product + 8 * (21 * 2 * 11 * 2 * 4 + 4 * 2 * 21 * 4)
    assert told.backend_macs == 8 * 16 * 32 + 32 * 10
    assert told.adc_samples == 8 * 2 * 16  # two captures, pooled on the sensor
    assert "an MLP of linear features" in str(told)
    pairs = student_of("pair_intensity").summary()
    assert (pairs.responses, pairs.masks) == (2 * 3 * 8, 2 * 8)
    behind = SCLC((3, 8), 5, None, 16, readout="homodyne", compand="rectify", classes=10, sensor_pool=6)
    assert behind.summary().adc_samples == 8 * 2 * 18**2  # three pixels a reading, each read and rectified
    chain = SCLC((3, 8, 8), 5, (None, 8), 16, readout="homodyne", classes=10, is_complex=True).summary()
    assert chain.deep_macs == 25 * 256 * (2 * 3 * 8 + 4 * 8 * 8)


class Whole(nn.Module):
    """What it does between its layers, nobody sees from without."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(128, 7), nn.Linear(7, 5)

    def forward(self, readings):
        return self.two(self.one(readings).relu())


class Turned(nn.Linear):
    def forward(self, readings):
        return super().forward(readings).abs()


@pytest.mark.parametrize(
    ("layers", "function"),
    [
        ((nn.Linear(128, 5),), "affine"),
        ((nn.Linear(128, 7), nn.Dropout(), nn.Linear(7, 5)), "affine"),
        ((nn.ReLU(), nn.Linear(128, 5)), "an MLP of linear features"),
        ((nn.Linear(128, 5), nn.LogSoftmax(1)), "a network of LogSoftmax of linear features"),
        ((Whole(),), "a network of Whole of linear features"),
        ((Turned(128, 5),), "a network of Turned of linear features"),
    ],
)
def test_affine_is_said_of_what_is_affine(layers, function):
    class Own:
        def build(self, channels, readings, size, classes):
            return nn.Sequential(nn.Flatten(), *layers)

    student = SCLC((3, 8), 3, None, 16, readout="homodyne", classes=5, sensor_pool=4, backend=Own()).double()
    student.backend[1].eval()
    assert student.summary().function == function
    assert student.backend.training
    assert not student.backend[1].training  # which a summary leaves as it was
    student.eval()
    a, b, zero = rand(1, 3, 16, 16), rand(1, 3, 16, 16, seed=1), torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    off = (student(a) + student(b) - student(a + b) - student(zero)).abs().max()
    assert bool(off < 1e-10) == (function == "affine")


def test_a_trained_plane_begins_as_the_chain_would():
    chain, plane = student_of(guard=20), student_of(parameters="plane")
    pictures = rand(2, 3, 20, 20)
    assert torch.allclose(chain.field(pictures), plane.field(pictures), atol=1e-5)  # begun in single precision
    plane.field(pictures).real.square().sum().backward()
    assert plane.front.plane.grad.abs().max() > 0


@pytest.mark.parametrize("compand", ["none", "rectify"])
@pytest.mark.parametrize("pool", [None, 5, 6])
@pytest.mark.parametrize("crop", [None, 8, 11])
def test_a_mirrored_picture_gives_mirrored_readings(crop, pool, compand):
    """Pixels stand about the picture's middle and share out its area, whatever is cropped and pooled."""
    student = SCLC(
        (1, 1), 1, (crop,), 32, readout="intensity", classes=2, compand=compand, sensor_pool=pool, guard=32
    ).double()
    with torch.no_grad():
        student.front.weights[0].fill_(1)
    pictures = rand(2, 1, 32, 32)
    seen, mirrored = student.readings(pictures), student.readings(pictures.flip(-1)).flip(-1)
    assert float((seen - mirrored).abs().max()) < 1e-10 * float(seen.abs().max())
    bright = student.readings(torch.ones(1, 1, 32, 32, dtype=torch.float64)).mean()
    energy = student.front(torch.ones(1, 1, 32, 32, dtype=torch.float64)).square()
    assert float(bright) == pytest.approx(float(energy.sum()) / student.reader.camera.area[0][1] ** 2, rel=0.1)


def test_a_channel_that_hardly_answers_is_not_blown_up():
    student = student_of("homodyne", compand="two-sided-rectify", sensor_pool=5)
    with torch.no_grad():
        student.front.weights[-1][0] *= 1e-6
    student.normalise(rand(16, 3, 20, 20))
    spread = student.reader.spread
    assert torch.equal(spread[:8], spread[8:])
    assert float(spread.min()) == pytest.approx(0.1 * float(spread.median()))
    single = SCLC((3, 4), 3, None, 8, readout="intensity", classes=2, sensor_pool=1)
    for many in (1, 40):  # of pictures that are all alike nothing is told but the mean
        alike = rand(1, 3, 8, 8, dtype=torch.float32).expand(many, -1, -1, -1)
        single.normalise(alike)
        assert torch.equal(single.reader.spread, torch.ones(4))
        assert single.reader.normalised(single.readings(alike)).abs().max() < 1e-5
        assert single(rand(1, 3, 8, 8, seed=1, dtype=torch.float32)).abs().max() < 100


class Stack(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.body = nn.Sequential(*layers)


class Bent(SCLC):
    def forward(self, pictures):
        return super().forward(pictures).abs()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: fold(Stack(nn.Conv2d(3, 4, 3), nn.ReLU())), r"body\.0: a convolution of stride 1 with zeros borders"),
        (lambda: fold(Stack(nn.ReLU())), r"body\.0: ReLU is not linear and shift-invariant; SCLC\.like"),
        (lambda: fold(Stack(nn.MaxPool2d(2))), r"body\.0: MaxPool2d is not linear"),
        (lambda: fold(Stack(nn.Tanh())), r"body\.0: Tanh is no convolution and no spectral pool; SCLC"),
        (lambda: fold(nn.Linear(3, 4)), "Linear: Linear is no convolution"),
        (lambda: fold(Stack()), "fold: Stack is no student"),
        (lambda: fold(Bent((3, 4), 3, None, 8, readout="homodyne", classes=2)), "Bent: has a forward of its own"),
        (lambda: student_of("camera"), "readout: 'camera' is unknown"),
        (lambda: student_of()(rand(1, 3, 20, 20).numpy()), "pictures are a ndarray; a tensor: torch.as_tensor"),
        (lambda: student_of(sensor_pool=13), "sensor_pool: 13×13 readings of 12×12 samples; 1 to 12"),
        (lambda: student_of(parameters="both"), "parameters: 'both' is unknown"),
        (lambda: student_of(parameters="plane").forward_layers(rand(1, 3, 20, 20)), "a plane has no layers"),
        (lambda: SCLC((3, 4), "full", None, 8, readout="intensity", classes=2), "a full aperture is one layer"),
        (lambda: SCLC((3, 4), "full", None, 8, readout="intensity", classes=2, guard=8), "guard: .*at most 7"),
        (lambda: SCLC((3, 4), "full", None, 8, readout="intensity", classes=2, guard=0), "a guard of 0 allows are one"),
        (lambda: student_of("pair_intensity", is_complex=True), "readout: a complex kernel has no sign"),
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
    due = student.front(pictures)
    assert float((found - due).abs().max()) < 1e-12 * float(due.abs().max())


def test_a_full_aperture_is_as_wide_as_its_guard_lets_it_be():
    """Taps reach over the guard and no further: in a dark surround it is ``conv2d`` with that many taps."""
    student = SCLC((3, 2), "full", (None,), 16, readout="homodyne", classes=2, guard=8).double()
    (weight,) = student.front.taps()
    assert weight.shape == (2, 3, 17, 17)
    pictures = rand(2, 3, 16, 16)
    due = F.conv2d(pictures, weight, padding=8)
    assert torch.allclose(student.front(pictures)[..., :16, :16], due, atol=1e-12)
