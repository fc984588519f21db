"""A student among torch's own tools, each on one that was never run: exports, transforms, dtypes, files."""

import numpy as np
import pytest
import torch
from fouroptics.models import SCLC, fold, freeze
from fouroptics.models.readouts import Reader
from fouroptics.models.teachers import AlexNet, Normalise, SmallCNN, load_weights
from torch import nn

import fouroptics as fo
from fouroptics.tensors import load_tensors, save_tensors


def student_of(readout="homodyne", side=20, **options):
    torch.manual_seed(0)
    return SCLC((3, 6, 8), 3, (None, 12), side, readout=readout, classes=5, **options).double()


def pictures(count=2, side=20):
    return torch.rand(count, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("form", [nn.Module.eval, fold, freeze])
@pytest.mark.parametrize("side", [20, 32])  # 32 has groups of samples
@pytest.mark.parametrize("readout", ["homodyne", "intensity"])
def test_an_export_leaves_the_student_as_it_was(readout, side, form):
    student, shown = form(student_of(readout, side)).eval(), pictures(2, side)
    exported = torch.export.export(student, (shown,)).module()
    assert torch.allclose(student(shown), exported(shown), atol=1e-12)


def test_an_export_takes_any_number_of_pictures():
    torch.manual_seed(0)
    student = SCLC((3, 40), 3, None, 20, readout="homodyne", classes=5, sensor_pool=4).double().eval()
    shown = torch.rand(7, 3, 20, 20, dtype=torch.float64)
    exported = torch.export.export(student, (shown[:4],), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    assert torch.allclose(student(shown), exported(shown), atol=1e-12)


def test_transforms_of_a_fresh_student_leave_nothing_behind():
    student = student_of("intensity")

    def loss(given):
        return student(given).sum()

    twice = torch.func.grad(lambda given: torch.func.grad(loss)(given).square().sum())
    first = twice(pictures())
    again = torch.func.grad(loss)(pictures())
    given = pictures().requires_grad_()
    assert torch.allclose(again, torch.autograd.grad(student(given).sum(), given)[0], atol=1e-12)
    assert torch.allclose(twice(pictures()), first, atol=1e-12)


def test_directional_derivatives_are_those_of_gradients():
    student = student_of("intensity", compand="sqrt")
    x, direction = pictures(), torch.randn(2, 3, 20, 20, dtype=torch.float64)
    _, found = torch.func.jvp(student, (x,), (direction,))
    due = torch.autograd.functional.jvp(student, x, direction)[1]
    assert torch.allclose(found, due, atol=1e-10)


def test_a_reader_that_is_changed_is_read_by():
    student = student_of()
    before = student.readings(pictures())
    student.reader = Reader("homodyne", "none", student.reader.camera, (4, 4), 8).double()
    assert before.shape[-1] == 12
    assert torch.allclose(student.readings(pictures()), student.reader.raw(student.field(pictures())), atol=1e-12)


def test_statistics_do_not_depend_on_chunks_and_nothing_is_refused():
    student = student_of("intensity")
    many = torch.rand(600, 3, 20, 20, dtype=torch.float64)
    student.normalise(many)
    raw = student.readings(many)
    assert torch.allclose(student.reader.mean, raw.mean((0, 2, 3)), atol=1e-12)
    assert torch.allclose(student.reader.spread, raw.std((0, 2, 3), correction=0), atol=1e-10)


@pytest.mark.parametrize(("readout", "options"), [
    ("intensity", {}), ("homodyne", {"compand": "rectify"}), ("homodyne", {"compand": "rectify", "divisive": 0.1}),
])  # fmt: skip
def test_bad_pictures_leave_statistics_as_they_were(readout, options):
    student, other = student_of(readout, **options), student_of(readout, **options)
    kept = {name: tensor.clone() for name, tensor in student.reader.state_dict().items()}
    many = pictures(8)
    bright = many.clone()
    bright[0, 0, 0, 0] = 1e200  # whose square is no number
    for bad in (many[:0], many * torch.nan, bright):
        with pytest.raises(
            fo.InputError, match=r"normalise: (no pictures|numbers that are not finite|readings (that|whose))"
        ):
            student.normalise(bad)
        assert all(torch.equal(tensor, kept[name]) for name, tensor in student.reader.state_dict().items())
    student.normalise(many)
    other.normalise(many)
    assert torch.equal(student(many), other(many))


@pytest.mark.parametrize("readout", ["homodyne", "intensity"])
def test_a_compiler_takes_a_step_of_training(readout):
    student = student_of(readout)
    given = pictures(2)
    due = torch.autograd.grad(student(given).square().sum(), list(student.parameters()))
    compiled = torch.compile(student, backend="aot_eager", fullgraph=True)
    found = torch.autograd.grad(compiled(given).square().sum(), list(student.parameters()))
    for mine, theirs in zip(found, due, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-10, atol=1e-12)


def test_pairs_have_gradients_of_functions():
    student = student_of("pair_intensity")
    weights = {name: parameter.detach() for name, parameter in student.named_parameters()}

    def loss(weights, given):
        return torch.func.functional_call(student, weights, (given,)).square().sum()

    found = torch.func.grad(loss)(weights, pictures(2))
    due = torch.autograd.grad(student(pictures(2)).square().sum(), list(student.parameters()))
    for mine, theirs in zip(found.values(), due, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-10, atol=1e-12)


class Twice(nn.Module):
    """A pool that is run three times, and convolutions within a Sequential of their own."""

    def __init__(self):
        super().__init__()
        pool = nn.MaxPool2d(2)
        block = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.features = nn.Sequential(block, pool, nn.Conv2d(4, 5, 3, padding=1), pool, nn.Conv2d(5, 6, 1), pool)


def test_layers_that_a_teacher_runs_twice_count_twice():
    student = SCLC.like(Twice(), 32, readout="intensity", classes=2)
    assert student.front.plan.channels == (3, 4, 5, 6)
    assert student.front.plan.crops == ((16, 16), (8, 8), (4, 4))


def test_a_fold_looks_through_wrappers():
    student = student_of()
    due = fold(student)(pictures())
    compiled = torch.compile(student, backend="eager")
    for wrapped in (nn.DataParallel(student), compiled, nn.DataParallel(compiled)):
        assert torch.equal(fold(wrapped)(pictures()), due)


def test_a_fold_is_as_free_as_its_student():
    student = student_of()
    assert fold(student).plane.requires_grad
    assert not fold(student.requires_grad_(False)).plane.requires_grad


def test_tensors_do_not_change_with_their_file(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": torch.arange(1000.0)})
    tensors, _ = load_tensors(path)
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert torch.equal(tensors["a"], torch.arange(1000.0))


def test_files_of_weights_keep_their_kind_of_number(tmp_path):
    network = SmallCNN(2, widths=(4,))
    tensors = network.state_dict()
    tensors["features.0.weight"] = tensors["features.0.weight"].to(torch.complex64)
    save_tensors(tmp_path / "w.safetensors", tensors)
    with pytest.raises(fo.InputError, match=r"'features\.0\.weight' is complex64, and float32 in a SmallCNN"):
        load_weights(network, tmp_path / "w.safetensors")


UNFIT = Twice()
UNFIT.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: student_of()(pictures().float()), "pictures: pictures are float32, the optics float64; light is"),
        (lambda: student_of().half()(pictures().half()), "dtype: the optics are float16; light is"),
        (lambda: student_of()((255 * pictures()).byte()), "pictures are uint8"),
        (lambda: SCLC((3, 4), 3, None, "x", readout="intensity", classes=2), "size: 'x' is neither a whole number"),
        (lambda: SCLC((3, 4), 3, 16, 32, readout="intensity", classes=2), "crops: 16 are no crops; one a convolution"),
        (lambda: SCLC(3, 3, None, 32, readout="intensity", classes=2), "channels: 3 are no channels"),
        (lambda: SCLC((3, 4), "Full", None, 32, readout="intensity", classes=2), "kernel_size: 'Full' is neither"),
        (lambda: student_of(backend="conv"), "backend: 'conv' is no backend; widths such as"),
        (lambda: student_of(sensor_pool=0), "sensor_pool: 0×0 readings of 12×12 samples; 1 to 12"),
        (lambda: SCLC((3, 4), 3, None, 8, readout="intensity", classes="10"), "classes: '10' is no number of classes"),
        (lambda: SCLC.like(UNFIT, 16, readout="intensity", classes=2), r"features\.1: takes 5 channels where 4 come"),
        (lambda: SCLC.like(AlexNet(7), 32, readout="intensity", classes=2), r"features\.\d+: leaves nothing of 1×1"),
        (lambda: fold(None), "fold: None is no network"),
        (lambda: Normalise()(torch.rand(2, 1, 8, 8)), "pictures of 1 channels, the network takes 3"),
        (lambda: save_tensors("x", {"a": 3}), "a: is no tensor of plain values"),
        (lambda: save_tensors("x", {"__metadata__": torch.ones(1)}), "__metadata__: is a name that the file needs"),
    ],
)
def test_what_cannot_be_is_refused(make, says):
    with pytest.raises(fo.InputError, match=says):
        make()


def test_sizes_of_numpy_are_sizes():
    assert SCLC((3, 4), 3, None, np.int64(8), readout="intensity", classes=2).front.plan.size == (8, 8)


def test_a_channel_sum_s_derivative_is_that_of_both_factors():
    """d Σ X·H = Σ dX·H + Σ X·dH, written out."""
    from fouroptics.optics.correlation import channel_sum

    draw = torch.Generator().manual_seed(0)
    x, h, dx, dh = (torch.randn(*shape, 4, 5, dtype=torch.complex128, generator=draw) for shape in ((2, 3), (6, 3)) * 2)
    _, found = torch.func.jvp(channel_sum, (x, h), (dx, dh))
    due = (dx[:, None] * h + x[:, None] * dh).sum(2)
    assert torch.allclose(found, due, atol=1e-12)
