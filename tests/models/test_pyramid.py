"""Several levels in one bank: each against its own chain layer by layer, their readings against single readers."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from fouroptics.models import OSCLC, SCLC, fold
from fouroptics.models.backends import Up
from fouroptics.models.front import DeepFront, Plan
from fouroptics.models.osclc import responses
from fouroptics.models.pyramid import LevelReader, PyramidFront
from fouroptics.models.readouts import Camera, Reader
from fouroptics.models.teachers import UNet
from fouroptics.models.training.export import export_backend

import fouroptics as fo
from fouroptics.errors import InputError
from tests.device_banks import bench_of

CHAINS = {
    "even": ((16, 16), (3, 4, 5, 6), (3, 3, 3), ((8, 8), (4, 4), None), False),
    "pairs, complex": ((16, 24), (2, 3, 4, 5, 6), (3, 3, 3, 3), (None, (8, 12), None, None), True),
    "odd": ((18, 18), (1, 2, 3), (3, 2), ((9, 9), None), False),
}


def on_band(field, kept):
    """The spectrum of samples, at a level's frequencies."""
    spectrum = torch.fft.fft2(field) / field[0, 0].numel()
    rows, columns = (torch.arange(-(n // 2), n // 2 + 1) for n in kept)
    return spectrum[..., rows % spectrum.shape[-2], :][..., columns % spectrum.shape[-1]]


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_every_level_is_its_own_chain_layer_by_layer(chain):
    size, channels, kernels, crops, is_complex = chain
    plan = Plan.of(size, channels, [(k, k) for k in kernels], crops)
    front = PyramidFront(plan, is_complex=is_complex).double()
    pictures = torch.rand(2, channels[0], *size, dtype=torch.float64)
    field = front.respond(pictures, front.transfer(), fine=True)
    sides, begun = (plan.size, *plan.crops), 0
    for layer, (outputs, side) in zip(front.layers, front.levels, strict=True):
        assert side == sides[layer] and outputs == channels[layer + 1]
        own = (*plan.crops[:layer], side)
        alone = DeepFront(
            Plan(size, channels[: layer + 2], plan.kernels[: layer + 1], own, plan.grid), is_complex=is_complex
        ).double()
        alone.load_state_dict({f"weights.{n}": w for n, w in enumerate(list(front.weights)[: layer + 1])})
        due, kept = alone.by_layers(pictures, fine=True), alone.geometry.kept
        found = field[:, begun : begun + outputs]
        assert torch.allclose(on_band(found, kept), on_band(due, kept), atol=1e-12)
        whole = torch.fft.fft2(found) / found[0, 0].numel()
        assert torch.allclose(on_band(found, kept).abs().square().sum(), whole.abs().square().sum())  # none beyond
        begun += outputs
        assert float(alone.transfer().abs().square().mean()) == pytest.approx(1, rel=1e-6)


def student_of(**options):
    torch.manual_seed(0)
    given = {"readout": "homodyne", "compand": "two-sided-rectify", "camera_pixel": 0.25} | options
    student = SCLC((3, 2, 3, 2), 3, (8, 4, None), 16, classes=2, detect="each", backend=Up((8, 6, 4)), **given)
    pictures = fo.pictures.natural(6, 3, (16, 16), seed=3)
    student.normalise(pictures)
    return student.eval(), pictures


@pytest.mark.parametrize("readout", ["homodyne", "intensity"])
@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_levels_on_their_own_bands_see_what_the_whole_band_does(chain, readout):
    size, channels, _, crops, is_complex = chain
    student = SCLC(channels, 3, crops, size, readout=readout, classes=2, detect="each", backend=Up((8, 6, 4)),
                   is_complex=is_complex).double()  # fmt: skip
    pictures = torch.rand(2, channels[0], *size, dtype=torch.float64, requires_grad=True)
    seen, weights = student.seen(pictures), [pictures, *student.front.weights]
    due = student.reader.averaged(student.field(pictures))
    torch.testing.assert_close(student.reader.detected(seen), student.reader.detected(due), rtol=0, atol=1e-12)
    some = torch.randn(student.reader.detected(seen).shape, dtype=torch.float64)
    found, wanted = (torch.autograd.grad((student.reader.detected(one) * some).sum(), weights) for one in (seen, due))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("compand", ["two-sided-rectify", "none"])
def test_a_level_reads_as_a_reader_of_its_own(compand):
    student, pictures = student_of(compand=compand)
    camera, field = student.reader.camera, student.field(pictures)
    begun = 0
    for readings, (outputs, size) in zip(student.readings(pictures), student.reader.levels, strict=True):
        alone = Reader("homodyne", compand, camera, None, outputs)
        mine = alone.detected(alone.averaged(field[:, begun : begun + outputs]))
        if compand == "two-sided-rectify":
            bias = student.reader.parts[[4, 8, 16].index(size[0])].bias
            mine = mine + bias[:, None, None]
            mine = torch.cat((mine.relu(), (-mine).relu()), 1)
        due = F.adaptive_avg_pool2d(mine, size)
        assert torch.allclose(readings, due, atol=1e-5)
        begun += outputs
    normal = [part.double() for part in student.reader.normalised(student.readings(pictures))]
    assert all(torch.allclose(part.mean((0, 2, 3)), torch.zeros(part.shape[1]).double(), atol=1e-4) for part in normal)


def test_a_fold_is_the_same_and_a_unet_tells_its_levels():
    student, pictures = student_of()
    folded = fold(student)
    assert torch.allclose(folded(pictures), student(pictures), atol=1e-4)
    ours, its = student.summary(), folded.summary()
    assert (ours.deep_macs, ours.folded_macs, ours.masks) == (its.deep_macs, its.folded_macs, its.masks)
    told = student.summary()
    assert told.masks == 7 and told.adc_samples == 7 * 2 * 16 * 16 and told.function.endswith("a CNN")
    assert told.deep_macs == 9 * (3 * 2 * 256 + 2 * 3 * 64 + 3 * 2 * 16)
    like = SCLC.like(
        UNet(2, widths=(4, 6, 8)), 16, readout="homodyne", compand="rectify", classes=2, detect="each", backend=Up()
    )
    assert like.reader.levels == [(8, (4, 4)), (6, (8, 8)), (4, (16, 16))]
    assert like(pictures).shape == (6, 2, 16, 16)


def test_on_its_bench_and_from_its_file(tmp_path):
    student, pictures = student_of()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bench = bench_of(240, {"mask.encoding": "carrier", "layout.guard": "112 um"})
        here = OSCLC.from_student(student, bench, pictures).eval()
    with torch.no_grad():
        due = student.reader.detected(student.seen(pictures))
        found = here.bank(pictures) / here.level[:, None, None]
    assert float((found - due).norm() / due.norm()) < 0.3
    path = tmp_path / "masks.h5"
    here.mask_set(classes=("ground", "shape")).save(path)
    again = OSCLC.from_maskset(path)
    assert isinstance(again.reader, LevelReader) and again.reader.levels == here.reader.levels
    with torch.no_grad():
        assert torch.equal(again(pictures), here(pictures))
    masks = fo.MaskSet.load(path)
    masks.network["electronics"]["levels"][0][0] = 2**30
    with pytest.raises(InputError, match="levels of other outputs than the 7 of its masks"):
        OSCLC.from_maskset(masks)
    masks.network["electronics"] |= {"levels": [[2, 4, 4], [3, 8, 8], [2, 32, 32]], "window": [32, 32]}
    with pytest.raises(InputError, match="electronics for 32×32 readings"):
        OSCLC.from_maskset(masks)


def test_its_electronics_are_exported(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    student, pictures = student_of()
    export_backend(student, tmp_path / "up.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "up.onnx"))
    given = {f"readings_{n}": part.detach().numpy() for n, part in enumerate(student.readings(pictures))}
    scores = torch.from_numpy(session.run(["scores"], given)[0])
    assert torch.allclose(scores, student(pictures), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"crops": (8, 4, 2)}, r"crops\[2\]: nothing follows the last crop"),
        ({"crops": None}, "crops: one level only"),
        ({"crops": (6, None, None)}, "levels whose samples divide the picture's"),
        ({"backend": (8,)}, "backend: readings of several levels"),
        ({"sensor_pool": 4}, "sensor_pool: every level has readings of its own"),
        ({"parameters": "plane"}, "detect: levels of a plane"),
        ({"detect": "all"}, "detect: 'all'"),
    ],
)
def test_what_is_no_pyramid(changes, says):
    options = {"crops": (8, 4, None), "backend": Up((8, 6, 4)), "detect": "each"} | changes
    crops = options.pop("crops")
    with pytest.raises(InputError, match=says):
        SCLC((3, 2, 3, 2), 3, crops, 16, readout="homodyne", compand="rectify", classes=2, **options)


def test_levels_need_a_camera_that_sees_the_finest():
    camera = Camera((16, 16), (34, 34), (16, 16), ((7.5, 16.0), (7.5, 16.0)))
    for levels, says in (
        ([(2, (5, 5)), (2, (16, 16))], "divide"),
        ([(2, (16, 16)), (2, (8, 8))], "the coarsest first"),
        ([(2, (4, 4)), (2, (8, 8))], "the last as many as pixels"),
        ([], "the last as many as pixels"),
    ):
        with pytest.raises(InputError, match=says):
            LevelReader("homodyne", "none", camera, levels)


def test_taps_that_reach_beyond_the_border_are_refused_and_ringing_is_cut():
    bench = fo.Bench.load("slm-532nm")  # its border is 12 samples wide
    options = {"readout": "homodyne", "compand": "rectify", "classes": 2, "detect": "each", "backend": Up((8, 6, 4))}
    wide, narrow = (SCLC((3, 2, 3, 2), k, (8, 4, None), 16, **options) for k in (5, 3))
    with pytest.raises(InputError, match="responses reach 14 samples"):
        responses(wide.front, bench)
    assert max(responses(narrow.front, bench).shape[2:]) <= 25
