"""Stages in light that no mask shaped: ideal masks on the bench, as dim as its device's."""

import copy
import itertools

import pytest
import torch
from fouroptics.models import OSCLC
from fouroptics.models.sclc import SCLC
from fouroptics.models.training import Recipe, loop, train
from fouroptics.models.training.alone import alone, unwrapped
from fouroptics.models.training.data import of_section
from fouroptics.models.training.stages import check_bench, in_light, on_bench, prepare

import fouroptics as fo
from fouroptics.errors import InputError
from fouroptics.tensors import load_tensors

STAGE = {
    "name": "apart", "on": "light", "pictures": 40, "noise": True, "tolerances": "lab-bench", "draws": 2,
    "learn": ["kernels", "backend"], "lr": {"optics": 1e-2, "electronics": 1e-2},
}  # fmt: skip
CHANGES = {
    "data.options": {"count": 200}, "data.augment": [], "train.epochs": 1, "train.batch": 20, "distill.loss": "none",
    "student.channels": [3, 4], "evaluate.pictures": 20, "evaluate.rungs": ["student"],
    "stage": [STAGE],
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small_bench(wide_pixels):
    CHANGES["bench"] = wide_pixels


@pytest.fixture(scope="module")
def recipe(small_bench):
    return Recipe.load("shapes-bench", CHANGES)


@pytest.fixture(scope="module")
def data(recipe):
    return of_section(recipe.data)


@pytest.fixture(scope="module")
def student(recipe, data):
    torch.manual_seed(0)
    section = recipe.student
    made = SCLC(
        section.channels, section.kernel, None, 16, readout="homodyne", compand=section.compand, sensor_pool=4,
        backend=(8,), classes=10, camera_pixel=recipe.camera_pixel,
    )  # fmt: skip
    made.normalise(data.some(64, seed=0))
    return made.eval()


@pytest.fixture(scope="module")
def lit(recipe, data, student):
    return in_light(recipe, student, data)


def test_light_is_as_dim_as_behind_the_device(recipe, data, student, lit):
    pictures = data.some(16, seed=1)
    told = [network.eval().budget(pictures) for network in (copy.deepcopy(lit), on_bench(recipe, student, data))]
    assert told[0]["signal_to_noise"] == pytest.approx(told[1]["signal_to_noise"], rel=0.1)
    assert recipe.on_bench().mask.transmission > 1.2 * lit.bank.bench.mask.transmission


def test_a_kernel_that_is_doubled_is_the_same_mask(data, student, lit):
    """A mask cannot amplify: its kernel asks for more, and the network reads what it read."""
    network, known = copy.deepcopy(lit).eval(), data.some(64, seed=0)
    before = alone(network, student.front, known)
    with torch.no_grad():
        scores = network(known)
        network.bank.kernels[1] *= 2
        torch.testing.assert_close(network(known), scores, atol=1e-4, rtol=1e-4)
    after = alone(network, student.front, known)
    torch.testing.assert_close(after.front.weights[0], before.front.weights[0], atol=1e-5, rtol=1e-4)


def test_a_bench_whose_exposure_is_fixed_is_as_dim(recipe, data, student, lit, tmp_path):
    """At the shutter of its device an ideal mask is too bright for the well; what it would read is what counts."""
    changes = {"camera.exposure": f"{1e6 * float(lit.bank.shutter)!r} us", "reference.captures": 1}
    recipe.on_bench().replace(changes).save(tmp_path / "bench.toml")
    other = recipe.model_copy(update={"bench": str(tmp_path / "bench.toml")})
    found = in_light(other, student, data).bank
    assert found.bench.camera.exposure == pytest.approx(float(lit.bank.shutter))
    assert found.bench.mask.transmission == pytest.approx(lit.bank.bench.mask.transmission, rel=1e-6)


def test_a_network_is_alone_as_often_as_one_likes(recipe, data):
    """Of a cropped student, whose readings stand on another grid than a bench's."""
    torch.manual_seed(0)
    student = SCLC((3, 4), 5, [8], 16, readout="homodyne", sensor_pool=3, classes=4, camera_pixel=0.25).eval()
    known = data.some(16, seed=0)
    student.normalise(known)
    once = unwrapped(student, recipe.on_bench())
    network = OSCLC.from_student(once, recipe.on_bench(), known, masks="ideal").eval()
    found = [alone(network, front, known).readings(known) for front in (student.front, once.front)]
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], once.readings(known), atol=2e-2 * float(found[0].detach().std()), rtol=2e-2)


def test_a_fit_learns_in_light(recipe, student):
    with pytest.warns(UserWarning, match=r"mask\.crosstalk"):  # which a fit does not mend
        check_bench(recipe.model_copy(update={"encoding": "fit"}), student)


def test_what_was_learned_in_light_is_what_masks_are_made_of(recipe, data, tmp_path, monkeypatch):
    better = itertools.count()  # every epoch, or twenty pictures would choose
    monkeypatch.setattr(loop, "measured", lambda *_, **__: {"accuracy": next(better) / 100})
    run = train(recipe, tmp_path / "run")
    (trained,), (behind,) = (
        [value for name, value in load_tensors(run.seed(0) / f"{name}.safetensors")[0].items() if name.endswith(last)]
        for name, last in (("student-alone", "front.weights.0"), ("stage-0", "bank.kernels"))
    )
    shown = fo.MaskSet.load(run.seed(0) / "masks.h5").correlator().kernels.detach()
    likeness = [
        torch.nn.functional.cosine_similarity(shown.flatten(1), kernels.flatten(1)).min()
        for kernels in (behind, trained)
    ]
    assert likeness[0] > 1 - 1e-5 and likeness[1] < 1 - 5e-4


def test_pixels_are_not_off_where_there_are_none(recipe, data, lit):
    network = copy.deepcopy(lit)
    flawed = prepare(network, recipe.stage[0], data).train()
    assert {n for n, p in flawed.named_parameters() if p.requires_grad} >= {"osclc.bank.kernels", "osclc.reader.bias"}
    seen = []
    network.register_forward_pre_hook(lambda _, given, named: seen.append(named["errors"]), with_kwargs=True)
    flawed(data.some(4, seed=2)).sum().backward()
    assert network.bank.kernels.grad.abs().amax((1, 2, 3)).min() > 0
    assert "mask.rotation" in seen[0] and not {"mask.phase_scale", "mask.dead_pixels"} & set(seen[0].names)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stage": [STAGE | {"learn": ["masks"]}]}, "neither pixels nor levels"),
        ({"stage": [STAGE | {"quantize": "soft"}]}, "neither pixels nor levels"),
        ({"stage": [STAGE | {"name": "on", "on": "bench"}, STAGE]}, "then those in light"),
        ({"student.optics": "cascade", "stage": [STAGE | {"learn": ["backend"]}]}, "this is a cascade"),
    ],
)
def test_stages_that_light_cannot_have(recipe, changes, words, tmp_path):
    with pytest.raises(InputError, match=words):
        train("shapes-bench", tmp_path / "run", changes=CHANGES | changes)
    assert not (tmp_path / "run").exists()
