"""A 4f for each block against the one plane: the same field, other masks, other light."""

import math

import pytest
import torch
import torch.nn.functional as F
from fouroptics.models import OSCLC, SCLC
from fouroptics.models.cascade import Cascade

import fouroptics as fo
from fouroptics.errors import InputError

CHAINS = (
    {"channels": (2, 3, 4), "kernel_size": [3, 4], "crops": None},
    {"channels": (2, 3, 4, 3), "kernel_size": 3, "crops": [12, None, 6]},
    {"channels": (1, 2, 2), "kernel_size": [5, 3], "crops": [8, 8]},
    {"channels": (1, 2, 2), "kernel_size": 3, "crops": [9, 5], "is_complex": True},
)


def chain(**told):
    torch.manual_seed(1)
    student = SCLC(size=16, readout="homodyne", classes=2, compand="rectify", **told).double().eval()
    pictures = torch.rand(3, told["channels"][0], 16, 16, dtype=torch.float64)
    student.normalise(pictures)
    return student, pictures


@pytest.mark.parametrize("told", CHAINS, ids=str)
def test_a_cascade_makes_the_field_of_the_fold(told):
    student, pictures = chain(**told)
    front = student.front
    field = Cascade(front).field(pictures)
    rows, columns = front.geometry.rows, front.geometry.columns
    found = torch.fft.fft2(field)[..., rows % field.shape[-2], :][..., columns % field.shape[-1]]
    due = front.spectrum(pictures, front.transfer()).detach()
    for axis, (bins, n, whole) in enumerate(
        zip((rows, columns), front.geometry.kept, front.geometry.grid, strict=True)
    ):  # a stop lets half of an even band's edges pass, the fold weighs them when it makes samples
        edge = (2 * bins.abs() == n) & (n < whole)
        due = due * torch.where(edge, 0.5, 1.0).reshape((-1, 1) if axis == 0 else (-1,))
    assert float((found - due).abs().max() / due.abs().max()) < 1e-10


def test_without_crops_it_is_conv2d_twice():
    student, pictures = chain(channels=(2, 3, 4), kernel_size=3, crops=None)
    field = Cascade(student.front).field(pictures).real
    first, second = (weight.detach() for weight in student.front.weights)
    due = F.conv2d(F.conv2d(pictures, first, padding=2), second, padding=2)[..., 2:18, 2:18]
    assert torch.allclose(field[..., :16, :16], due, atol=1e-10)


def test_what_it_takes_by_hand():
    """Blank masks split 1 → 2 and 2 → 3: 2 + 6 masks, and 1/2 · 1/6 of the light; the fold has 3 masks."""
    student, _ = chain(channels=(1, 2, 3), kernel_size=1, crops=None)
    for weight in student.front.weights:
        weight.data.fill_(1.0)
    cost = Cascade(student.front).cost()
    assert (cost.masks, cost.planes, cost.together) == (8, 2, 8)
    assert cost.share == pytest.approx(1 / 12)
    in_turn = Cascade(student.front).cost(in_turn=True)  # 1/2, and 1/2 where two meet
    assert (in_turn.masks, in_turn.together, in_turn.share) == (8, 4, pytest.approx(1 / 4))
    fold = Cascade(student.front).cost_of_fold()
    assert (fold.masks, fold.planes, fold.together) == (3, 1, 1) and "3 masks" in str(fold)
    assert fold.share == pytest.approx(1 / 4, rel=0.08)  # its response is 2, turned down to 1 and a little more
    apart = Cascade(student.front).cost_of_fold(tiled=False)
    assert (apart.masks, apart.share) == (3, pytest.approx(1 / 12, rel=0.08))


def test_on_a_bench_it_sees_the_same_and_less_light():
    student, pictures = chain(channels=(2, 3, 4), kernel_size=3, crops=None)
    bench = fo.Bench.load("slm-532nm")
    folded, cascade = (
        OSCLC.from_student(student, bench, pictures, masks="ideal", optics=optics).eval()
        for optics in ("folded", "cascade")
    )
    with torch.no_grad():
        assert torch.allclose(folded(pictures), cascade(pictures), rtol=2e-2, atol=2e-2)
    assert bench.layout.outputs == "frames"  # each output has the light to itself; two planes are two of glass
    ratio = Cascade(student.front).cost(in_turn=True).share / Cascade(student.front).cost_of_fold().share
    ratio *= bench.mask.transmission
    assert cascade.bank.bench == folded.bank.bench
    assert cascade.bank.lighting.gain == pytest.approx(ratio * folded.bank.lighting.gain)
    assert ratio < 1 and float(cascade.bank.shutter) > float(folded.bank.shutter)
    one, many = (network.budget(pictures) for network in (folded, cascade))
    assert (one["masks"], many["masks"]) == (4, 2 * 3 + 3 * 4)
    lit, dim = (one.level / one.bank.shutter for one in (folded, cascade))  # of a signed reading: E·r, and r stays
    assert torch.allclose(dim / lit, torch.full_like(dim, math.sqrt(ratio)), rtol=1e-3)
    kept = many["light"]["kept"]
    assert kept["splitting and summing"] * kept["masks of other blocks"] == pytest.approx(ratio)
    with pytest.raises(InputError, match="ideal"):
        OSCLC.from_student(student, bench, pictures, masks="device", optics="cascade")


def test_a_plane_is_no_chain():
    plane = SCLC((1, 2), 3, None, 16, readout="homodyne", classes=2, parameters="plane")
    with pytest.raises(InputError, match="no blocks"):
        Cascade(plane.front)


def test_equal_kernels_may_keep_more_light_apart():
    """Three inputs that add up turn one plane down to a third; one 4f each does not, and is no impossible glass."""
    student, pictures = chain(channels=(3, 1, 1), kernel_size=1, crops=None)
    for weight in student.front.weights:
        weight.data.fill_(1.0)
    student.normalise(pictures)
    here = OSCLC.from_student(student, fo.Bench.load("slm-532nm"), pictures, masks="ideal", optics="cascade")
    assert here.bank.lighting.kept["splitting and summing"] > 1
