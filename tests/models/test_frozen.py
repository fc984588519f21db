"""A fold that is set out for pictures: the scores of the chain layer by layer, with nothing left to change."""

import copy

import pytest
import torch
import torch.nn.functional as F
from fouroptics.models import SCLC, fold, freeze
from fouroptics.models.backends import FC, Conv, Up
from fouroptics.models.frozen import FrozenSCLC
from torch import nn

import fouroptics as fo

PICTURES = (18, 26)
ONE_SIDE = {"guard": 0, "sensor_pool": (4, 6)}  # few frequencies beside readings
both = pytest.mark.parametrize("options", [{}, ONE_SIDE], ids=["readings", "one side"])


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def student_of(readout="homodyne", compand="two-sided-rectify", *, crops=(None, (9, 13)), **options):
    """Of pictures and pools that are not square, whose thresholds and normalisation are not trivial."""
    torch.manual_seed(0)
    options = {"sensor_pool": (3, 4), "backend": (9,), **options}
    student = SCLC((3, 6, 32), (3, 5), crops, PICTURES, readout=readout, compand=compand, classes=5, **options).double()
    student.normalise(rand(7, 3, *PICTURES, seed=3))
    return student.eval()


def is_near(found, due, share):
    return float((found - due).abs().max().detach()) <= share * float(due.abs().max().detach())


@pytest.mark.parametrize(
    "options",
    [
        {"backend": ()},
        {},
        {"crops": (None, (8, 12)), "sensor_pool": (4, 4)},  # an even crop has both its edges
        {"crops": (None, (9, 13)), "sensor_pool": None},
        {"crops": (None, None), "sensor_pool": 3},  # more frequencies than readings
        {"compand": "rectify"},
        {"compand": "none"},
        {"readout": "ideal_field", "compand": "none"},
        {"divisive": 0.1},
        {"pooling": "max"},
        {"divisive": 0.1, "pooling": "max", "backend": (16, 9)},
        {"readout": "intensity", "compand": "sqrt"},
        {"readout": "intensity", "compand": "none", "sensor_pool": None},
        {"readout": "interference", "compand": "none"},
        {"readout": "pair_intensity"},
        {"is_complex": True},
        {"is_complex": True, "readout": "intensity", "compand": "log"},
        {"parameters": "plane"},
        {"backend": Conv((6, 4)), "sensor_pool": (6, 4)},
        {"camera_pixel": 0.25},
        {"guard": 0},
        {"guard": 0, "sensor_pool": (4, 4)},
        {**ONE_SIDE, "backend": (150,)},
        {"guard": 0, "sensor_pool": None},
        {"guard": 0, "sensor_pool": (4, 6), "compand": "rectify", "backend": ()},
        {"guard": 0, "sensor_pool": (4, 6), "is_complex": True},
    ],
    ids=str,
)
def test_the_scores_are_those_of_the_chain_layer_by_layer(options):
    student, pictures = student_of(**options), rand(5, 3, *PICTURES)
    has_layers = options.get("readout") != "pair_intensity" and "parameters" not in options
    due = student.forward_layers(pictures) if has_layers else student(pictures)
    frozen = freeze(student)
    assert is_near(frozen(pictures), due, 1e-10)
    assert is_near(frozen(pictures[1:2]), due[1:2], 1e-10)  # one picture by itself
    assert is_near(freeze(fold(student).float())(pictures.float()).double(), due, 1e-5)


def test_one_side_is_made_where_pictures_have_few_frequencies():
    def way(**options):
        return type(freeze(student_of(guard=0, **options)).electronics).__name__

    assert way(sensor_pool=(4, 6)) == way(sensor_pool=None) == "_OneSide"
    assert way(sensor_pool=(1, 1)) == way(sensor_pool=(4, 6), divisive=0.1) == "_Readings"


@both
def test_pictures_in_parts_are_read_as_all_at_once(options, monkeypatch):
    frozen, pictures = freeze(student_of(**options)), rand(7, 3, *PICTURES)
    due, parts, detect = frozen(pictures), [], frozen.light.seen
    monkeypatch.setattr(
        frozen.light, "seen", lambda numbers, *more: parts.append(len(numbers)) or detect(numbers, *more)
    )
    monkeypatch.setattr("fouroptics.models.sclc._CACHED", 3 * frozen.detected * 8)
    assert is_near(frozen(pictures), due, 1e-12)
    assert parts == [3, 3, 1]


@both
def test_no_pictures_have_no_scores(options):
    assert freeze(student_of(**options))(rand(0, 3, *PICTURES)).shape == (0, 5)


def test_large_pictures_are_shortened_first():
    torch.manual_seed(0)
    student = SCLC((2, 8), 3, (16,), (512, 1024), readout="homodyne", compand="two-sided-rectify", classes=3, guard=0)
    pictures = F.interpolate(rand(3, 2, 8, 8, dtype=torch.float32), (512, 1024))
    student.normalise(pictures)
    assert freeze(student).light.matrices(pictures.device)[0]._few_x is not None
    due = copy.deepcopy(student).double().forward_layers(pictures.double())
    assert is_near(freeze(student)(pictures).double(), due, 1e-5)


@pytest.mark.parametrize("compand", ["rectify", "two-sided-rectify"])
def test_large_means_do_not_cost_precision(compand):
    """Uniform pictures and kernels with a mean: thresholds far from zero, and many readings a score."""
    torch.manual_seed(0)
    student = SCLC((3, 256), 5, (16,), 64, readout="homodyne", compand=compand, sensor_pool=8, classes=10, guard=0)
    pictures = rand(16, 3, 64, 64, dtype=torch.float32)
    student.normalise(pictures)
    due = fold(copy.deepcopy(student).double())(pictures.double())
    frozen = freeze(student)
    assert type(frozen.electronics).__name__ == "_OneSide"
    assert is_near(frozen(pictures).double(), due, 1e-5)


def test_fields_of_light_go_through_complex_kernels():
    student = student_of(is_complex=True)
    pictures = torch.complex(rand(2, 3, *PICTURES), rand(2, 3, *PICTURES, seed=1))
    assert is_near(freeze(student)(pictures), student(pictures), 1e-10)


@both
def test_what_changes_later_is_not_seen(options):
    folded, pictures = fold(student_of(**options)), rand(2, 3, *PICTURES)
    frozen, due = freeze(folded), folded(pictures)
    with torch.no_grad():
        for values in (*folded.parameters(), *folded.buffers()):
            values.mul_(2)
    assert is_near(frozen(pictures), due, 1e-12)
    assert not any(values.requires_grad for values in frozen.parameters())


@both
def test_it_stays_in_evaluation(options):
    student, pictures = student_of(backend=FC((9,), dropout=0.5), **options), rand(2, 3, *PICTURES)
    for frozen in (freeze(student.train()), freeze(student).train()):
        assert is_near(frozen(pictures), student.eval()(pictures), 1e-10)
        assert not any(part.training for part in frozen.modules())


@both
def test_pictures_have_their_gradient(options):
    student = student_of(**options)
    mine, due = (rand(2, 3, *PICTURES).requires_grad_() for _ in range(2))
    freeze(student)(mine).square().sum().backward()
    student(due).square().sum().backward()
    assert is_near(mine.grad, due.grad, 1e-10)


@both
def test_copies_casts_and_inference_mode_change_nothing(options):
    student, pictures = student_of(**options), rand(2, 3, *PICTURES)
    due = student(pictures)
    with torch.inference_mode():
        frozen = freeze(student)
        assert is_near(frozen(pictures), due, 1e-10)
    for copied in (frozen, copy.deepcopy(frozen)):
        assert is_near(copied(pictures), due, 1e-10)
    assert is_near(frozen.float()(pictures.float()).double(), due, 1e-5)


@both
def test_autocast_does_not_narrow_light(options):
    frozen, pictures = freeze(student_of(**options)).float(), rand(2, 3, *PICTURES).float()
    due = frozen._before_rest(pictures)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(frozen._before_rest(pictures), due)


@both
def test_its_state_is_the_whole_of_it(options):
    student, other = student_of(**options), student_of(**options)
    with torch.no_grad():
        for values in other.parameters():
            values.mul_(1.5)
    pictures, taken = rand(2, 3, *PICTURES), freeze(other)
    taken.load_state_dict(freeze(student).state_dict())
    assert is_near(taken(pictures), student(pictures), 1e-10)


@both
def test_a_backend_that_is_not_plain_is_left_alone(options):
    """A layer that somebody listens to, one that is there twice, one without offsets, a patched one."""
    pictures, heard = rand(2, 3, *PICTURES), []
    heard_of, shared, bare, patched = (student_of(**options) for _ in range(4))
    heard_of.backend[1].register_forward_hook(lambda *of: heard.append(of[1][0].shape))
    width = shared.backend[1].in_features
    same = nn.Linear(width, width).double()
    shared.backend = nn.Sequential(nn.Flatten(), same, nn.ReLU(), same)
    bare.backend[1] = nn.Linear(width, 9, bias=False).double()
    patched.backend[1].forward = lambda readings: readings[:, :9]
    for student in (heard_of, shared, bare, patched):
        assert is_near(freeze(student)(pictures), fold(student)(pictures), 1e-10)
    assert heard == 2 * [(2, width)]


def test_a_backend_of_one_s_own_gets_readings_as_ever():
    class Own(nn.Module):
        def forward(self, readings):
            return readings.view(len(readings), -1)[:, :5]

    for options in ({"sensor_pool": None}, {"readout": "intensity", "compand": "sqrt", "sensor_pool": None}):
        student = student_of(**options)
        for backend in (
            Own(),
            nn.Sequential(nn.Flatten(2), nn.Linear(student.reader.size[0] * student.reader.size[1], 3)),
        ):
            student.backend = backend.double()
            pictures = rand(2, 3, *PICTURES)
            assert is_near(freeze(student)(pictures), fold(student)(pictures), 1e-10)


def test_what_cannot_be_frozen_is_named():
    levels = SCLC((1, 2, 4), 3, (8, None), 16, readout="homodyne", classes=2, detect="each", backend=Up((4, 3)))
    with pytest.raises(fo.InputError, match="freeze: several levels"):
        freeze(levels)
    with pytest.raises(fo.InputError, match="Linear"):
        FrozenSCLC(nn.Linear(2, 2))
    with pytest.raises(fo.InputError, match="freeze: it is frozen already; freeze the student"):
        freeze(freeze(student_of()))
    with pytest.raises(fo.InputError, match=r"pictures are \(2, 3, 18, 20\)"):
        freeze(student_of())(rand(2, 3, 18, 20))
    with pytest.raises(fo.InputError, match="pictures are float32, the optics float64"):
        freeze(student_of())(rand(2, 3, *PICTURES, dtype=torch.float32))
    with pytest.raises(fo.InputError, match="the optics are float16; light is float32 or float64"):
        freeze(student_of()).half()(rand(2, 3, *PICTURES, dtype=torch.float16))
