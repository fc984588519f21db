"""Noise that a student learns with: by closed form, as a bench has it, and off where nothing is learned."""

import itertools
import json
import math

import pytest
import torch
import torch.nn.functional as F
from fouroptics.models import OSCLC, SCLC
from fouroptics.models.noise import ReadingNoise
from fouroptics.models.training import load, loop, train

import fouroptics as fo
from fouroptics.devices.detector import Pattern
from fouroptics.tensors import load_tensors

BENCH = fo.Bench.load("slm-532nm").replace({"mask.encoding": "carrier"})
PLAIN = BENCH.replace({"mask.precompensate": False})


def student_of(channels=(2, 12), kernel=3, readout="homodyne", **options):
    torch.manual_seed(0)
    return SCLC(channels, kernel, None, 16, readout=readout, classes=3, sensor_pool=4, camera_pixel=0.25, **options)


def pictures(count=16, inputs=2, seed=0):
    return torch.rand(count, inputs, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_a_mask_is_turned_down_to_its_clearest_frequency():
    """Taps (1, 2, 1)/4 pass most at 0: 1; (1, -2, 1)/4 at half a cycle: 1 as well, and 1/sinc more where pixels dim it.

    A tiled mask carries both inputs' kernels at once, so it is asked for their sum.
    """
    student = student_of((2, 3), [(1, 3)]).double()
    (taps,) = student.front.weights
    low, high = torch.tensor([1.0, 2, 1]) / 4, torch.tensor([1.0, -2, 1]) / 4
    with torch.no_grad():
        taps.zero_()
        taps[0, 0, 0], taps[1, 0, 0], taps[2, :, 0] = low, high, low
    transfer = student.front.transfer()
    tiled, apart = (
        ReadingNoise(PLAIN.replace({"layout.inputs": way}), student.front, 1.0) for way in ("tiled", "frames")
    )
    torch.testing.assert_close(tiled.clear(transfer), torch.tensor([1.0, 1, 2], dtype=torch.float64), rtol=1e-2, atol=0)
    torch.testing.assert_close(apart.clear(transfer), torch.ones(3, dtype=torch.float64), rtol=1e-2, atol=0)
    dims = BENCH.replace({"mask.precompensate": True})
    count, clear = dims.input.super_pixel, math.sqrt(dims.input.fill_factor) / dims.input.super_pixel
    places = [
        (n - (count - 1) / 2) / count for n in range(count)
    ]  # of a sample's device pixels, summed at half a cycle
    dimmed = math.sin(math.pi * clear / 2) / (math.pi * clear / 2) * sum(math.cos(math.pi * p) for p in places) / count
    most = ReadingNoise(dims, student.front, 1.0).clear(transfer).detach()
    assert float(most[1]) == pytest.approx(1 / dimmed**2, rel=2e-2) and dimmed < 0.9  # both axes: taps are 1 wide in y


@pytest.mark.parametrize("count", [64, 13])
def test_noise_is_as_strong_as_the_clearest_frequency_says(count):
    """Another draw each time while it learns; in evaluation mode the same."""
    student, shown = student_of().train(), pictures(count)
    clean = student.readings(shown)
    student.noise = noise = ReadingNoise(PLAIN, student.front, 0.02)
    torch.manual_seed(1)
    off = student.readings(shown) - clean
    due = 0.02 * noise.clear(student.front.transfer())
    torch.testing.assert_close((off[:13].std((0, 2, 3)) / due).mean(), torch.tensor(1.0), rtol=0.04, atol=0)
    torch.testing.assert_close(off[:13].std((0, 2, 3)), due, rtol=0.2, atol=0)  # of 208 numbers: 4.9 % a sigma
    assert off.mean().abs() < 4 * off[:13].std() / math.sqrt(off[:13].numel())
    assert len(off.flatten(1)[:13].mean(1).unique()) == 13
    assert not torch.equal(student.readings(shown) - clean, off)
    student.eval()
    assert torch.equal(student.readings(shown), student.readings(shown))
    assert not torch.equal(student.readings(shown), clean)
    student.noise = None
    assert torch.equal(student.readings(shown), clean)


def test_kernels_learn_to_stand_above_the_noise():
    """The gradient through the clearest frequency is that of finite differences."""
    student = student_of((1, 2)).double().train()
    student.noise, shown = ReadingNoise(PLAIN, student.front, 0.1), pictures(40, 1).double()
    (taps,) = student.front.weights

    def power():
        torch.manual_seed(0)
        return student.readings(shown).square().mean()

    power().backward()
    slopes, step = taps.grad.flatten(), 1e-6
    for number in (0, 7, 16):
        seen = []
        for side in (step, -2 * step, step):
            with torch.no_grad():
                taps.view(-1)[number] += side
            seen.append(float(power().detach()))
        assert float(slopes[number]) == pytest.approx((seen[0] - seen[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("oversample", [1, 2])
def test_it_is_the_noise_of_the_bench(oversample):
    """Output by output, as captures of the whole network have it; kernels of very different peaks among them."""
    student = student_of((3, 12), 5).eval()
    shown = pictures(24, 3, seed=4)
    with torch.no_grad():
        student.front.weights[0][:4] *= 3
        student.front.weights[0][8:] -= student.front.weights[0][8:].mean((-2, -1), keepdim=True)
    student.normalise(shown)
    noise = ReadingNoise.on(BENCH, student, shown, oversample=oversample)
    network = OSCLC.from_student(student, BENCH, shown, oversample=oversample).eval()
    with torch.no_grad():
        even = Pattern(torch.zeros(network.bank.readings), torch.zeros(network.bank.readings))
        off = network.bank.capture(shown, generator=torch.Generator().manual_seed(1), pattern=even) - network.bank(
            shown
        )
        off = F.avg_pool2d(off, oversample)
        measured = off.std((0, 2, 3)) / network.level
        said = noise.share * noise.clear(student.front.transfer())
    ratio = said / measured
    assert float(ratio.log().std()) < 0.12 and float(ratio.log().mean().abs()) < 0.08, ratio
    assert float(measured.max() / measured.min()) > 2


def test_a_stage_teaches_a_student_its_bench_s_noise(tmp_path, monkeypatch):
    """Its masks are made of the kernels that it leaves; what was trained without noise stays beside it."""
    better = itertools.count()  # every epoch, or six pictures would choose
    monkeypatch.setattr(loop, "measured", lambda *_, **__: {"accuracy": next(better) / 100})
    stage = {"name": "noise", "on": "student", "epochs": 1, "noise": True, "learn": ["kernels", "backend"]}
    path = tmp_path / "bench.toml"  # pixels twice as wide: a quarter of the time
    BENCH.replace({"mask.pitch": "16 um", "mask.pixels": [960, 540]}).save(path)
    changes = {
        "data.options": {"count": 60}, "distill.loss": "none", "train.epochs": 1, "train.batch": 20, "stage": [stage],
        "bench": str(path), "oversample": 2, "correct_aberration": True,
        "student.channels": [3, 4],
        "evaluate.rungs": ["quantized", "file"], "evaluate.pictures": 2,
    }  # fmt: skip
    told = []
    run = train("shapes-bench", tmp_path / "run", changes=changes, tell=lambda *one: told.append(one))
    steps = ["seed 0, student-alone", "seed 0, stage-0: noise", "seed 0, quantized", "seed 0, file"]
    assert [*dict.fromkeys(step for step, *_ in told)] == steps
    assert [one[1:] for one in told[-3:]] == [(0, 3), (1, 3), (2, 3)]  # without the stage; the file's last
    plain = load(run, name="student-alone").front.weights[0]
    tensors, told = load_tensors(run.seed(0) / "stage-0.safetensors")
    learned = tensors["front.weights.0"]
    assert 1e-4 < (plain - learned).abs().max() / plain.abs().max() < 0.2
    assert "validation_accuracy" in told["history"]
    rungs = json.loads((run.seed(0) / "ladder.json").read_text())["rungs"]
    assert rungs["file"] == rungs["quantized"]
    network = OSCLC.from_maskset(run.seed(0) / "masks.h5")
    masks = network.bank.kernels
    assert network.oversample == 2 and network.bank.bench.mask.correct_aberration
    torch.testing.assert_close(masks / masks.norm(), learned / learned.norm(), rtol=0, atol=1e-6)


def test_what_has_no_such_noise_is_refused():
    with pytest.raises(fo.InputError, match="no noise that is the same everywhere"):
        ReadingNoise.on(BENCH, student_of(readout="intensity"), pictures())
    with pytest.raises(fo.InputError, match="reference"):
        ReadingNoise.on(BENCH.replace({"reference": None}), student_of(), pictures())
