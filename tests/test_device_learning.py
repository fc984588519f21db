"""Every key of a mask, gradients to pixels and kernels, what is kept between calls, and what is refused."""

import copy
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fouroptics as fo
from tests.device_banks import IDEAL, SLM, apart, bank_of, bench_of, conv2d, field_of, rand, randn, with_mask

PLATE = {"preset": "etched-8"}
MIRRORS = {"preset": "dmd"}
CRYSTAL = {"preset": "slm-phase-8bit", "levels": 16, "crosstalk": "10 um"}
WALK = {  # each key of [mask]: a device, and the value that makes it another
    "kind": (CRYSTAL | {"crosstalk": "0 um", "flicker": "0 rad"}, "grey_amplitude"),
    "levels": (CRYSTAL, 8), "pitch": (CRYSTAL, "88 um"), "pixels": (CRYSTAL, [97, 97]),
    "fill_factor": (CRYSTAL, "80 %"), "leak": (MIRRORS, "60 %"), "dead": (CRYSTAL, "dead.csv"),
    "lut": (CRYSTAL, "curved.csv"), "lut_applied_by": (CRYSTAL | {"lut": "curved.csv"}, "controller"),
    "phase_range": (CRYSTAL, "5 rad"), "crosstalk": (CRYSTAL, "20 um"), "flicker": (CRYSTAL, "0.4 rad"),
    "wavefront": (CRYSTAL, {"5": "60 nm"}), "material": (PLATE | {"step_depth": "130 nm"}, "n-bk7"),
    "index": (PLATE | {"step_depth": "130 nm"}, {"532 nm": 1.6}), "step_depth": (PLATE, "140 nm"),
    "dc_block": (CRYSTAL, "700 um"), "frame_rate": (CRYSTAL, "30 Hz"), "settle": (CRYSTAL, "20 ms"),
    "transmission": (CRYSTAL, "50 %"), "max_irradiance": (CRYSTAL, "0.1 W/m^2"),
    "encoding": (CRYSTAL, "phase"), "overdrive": (CRYSTAL, 1.5), "precompensate": (CRYSTAL, False),
    "correct_aberration": (CRYSTAL, True),
}  # fmt: skip
TOLD = ("frame_rate", "settle", "max_irradiance")  # no matter of light, but of time and of the report


def test_the_walk_visits_every_key_of_a_mask():
    from fouroptics.bench.parts import Mask

    assert {*WALK, "preset"} == set(Mask.model_fields)


@pytest.mark.parametrize("key", WALK)
def test_every_key_of_a_mask_changes_light_levels_or_time(tmp_path, key):
    rows = [f"{n},{0.3 * n * (1 + n / 40)!r}" for n in range(16)]
    (tmp_path / "curved.csv").write_text("\n".join(("drive,phase_rad", *rows)), encoding="utf-8")
    (tmp_path / "dead.csv").write_text("x,y,level\n40,41,9\n", encoding="utf-8")
    start, value = WALK[key]

    def made(mask):
        files = {k: str(tmp_path / v) for k, v in mask.items() if isinstance(v, str) and v.endswith(".csv")}
        lenses = {"aberration.zernike": {"5": "60 nm"}}
        bench = with_mask(96, preset=mask["preset"]).replace(
            {f"mask.{k}": v for k, v in (mask | files).items()} | lenses
        )
        bank = bank_of(randn(2 if bench.mask.frame_rate else 1, 1, 3, 3), bench, (8, 8))
        seen = bank.masks, bank.power(rand(1, 8, 8)).detach()
        problems = bench.sampling((8, 8), 3, channels=(1, 1)).problems
        return seen, (str(bank.latency(exposure=1e-4)), [problem.code for problem in problems])

    with_it = {"encoding": "lee", "preset": "grey"} if key == "kind" else {}
    (one, told), (other, told_other) = made(start), made(start | {key: value} | with_it)
    alike = all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert (not alike) == (key not in TOLD)
    assert (told != told_other) or key not in TOLD


# Learning


def test_gradients_reach_every_pixel_and_their_kernels():
    pictures = rand(2, 2, 16, 16)
    for quantize in ("straight-through", "soft", "none"):
        bank = bank_of(randn(2, 2, 3, 3), bench_of(144), quantize=quantize).train().expose(seconds=1e-5)
        bank(pictures).sum().backward()
        assert bank.device.drive.grad.shape == (2, 144, 144)
        assert bank.device.drive.grad.ne(0).float().mean() > 0.99
        assert bank.kernels.grad is None
        assert not bank.kernels.requires_grad
        follows = (
            bank_of(randn(2, 2, 3, 3), bench_of(144), quantize=quantize, learn="kernels").train().expose(seconds=1e-5)
        )
        assert [name for name, _ in follows.named_parameters()] == ["kernels"]
        follows(pictures).sum().backward()
        assert follows.kernels.grad.ne(0).all()


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"mask.crosstalk": "10 um"}, {}),
        (IDEAL, {"readout": "homodyne"}),
        ({"mask.encoding": "carrier"}, {"readout": "ideal_field"}),
    ],
)
def test_the_gradient_of_kernels_is_that_of_finite_differences(changes, options):
    bank = bank_of(randn(1, 1, 2, 2), bench_of(56, changes), (5, 5), learn="kernels", quantize="none", **options)
    bank.train().expose(seconds=1e-6)
    pictures, weight = rand(1, 5, 5), None

    def loss(kernels):
        seen = torch.func.functional_call(bank, {"kernels": kernels}, (pictures,))
        seen = seen if not seen.is_complex() else torch.view_as_real(seen)
        return (seen * rand(*seen.shape, seed=8)).sum() if weight is None else seen

    kernels = bank.kernels.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(kernels), kernels)
    numeric = torch.zeros_like(found)
    for place in range(kernels.numel()):
        moved = [kernels.detach().clone() for _ in range(2)]
        for one, sign in zip(moved, (1, -1), strict=True):
            one.view(-1)[place] += sign * 1e-6
        numeric.view(-1)[place] = (loss(moved[0].requires_grad_()) - loss(moved[1].requires_grad_())).detach() / 2e-6
    assert apart(found, numeric) < 1e-3


def test_straight_through_steps_make_a_mask_better():
    """Two levels of phase, trained towards conv2d: the loss of what is shown, not of what is wanted, falls."""
    kernels, pictures = randn(1, 1, 3, 3), rand(4, 1, 12, 12)
    bank = bank_of(kernels, bench_of(96, {"mask.levels": 4}), (12, 12)).train()
    true = conv2d(pictures, kernels)

    def loss():
        seen = bank._light.respond(pictures, bank.device.shown(bank.kernels)).real
        gain = (seen * true).sum() / seen.square().sum()
        return (gain.detach() * seen - true).square().mean()

    optimiser, losses = torch.optim.Adam(bank.parameters(), lr=0.05), []
    for _ in range(15):
        optimiser.zero_grad()
        value = loss()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    with torch.no_grad():
        assert bank.eval() and loss().item() < 0.6 * losses[0]


def test_what_is_kept_between_calls_never_goes_stale():
    pictures = rand(1, 12, 12)
    for learn in ("masks", "kernels"):
        bank = bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12), learn=learn)
        other = bank_of(randn(1, 1, 3, 3, seed=5), bench_of(72), (12, 12), learn=learn)

        def fresh(bank=bank, learn=learn):
            """A new bank of the same state: nothing kept."""
            made = bank_of(randn(1, 1, 3, 3, seed=7), bench_of(72), (12, 12), learn=learn).to(bank.kernels.dtype)
            made.load_state_dict(bank.state_dict())
            return field_of(made, pictures.to(bank.kernels.dtype))

        first = field_of(bank, pictures)
        assert torch.equal(field_of(bank, pictures), first)
        bank.train().expose(seconds=1e-5)
        optimiser = torch.optim.SGD(bank.parameters(), lr=1e-3)
        loss = bank(pictures).sum()
        loss.backward()
        for parameter in bank.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(parameter.grad.abs().max() / 300)
        optimiser.step()
        bank.eval()
        stepped = field_of(bank, pictures)
        assert not torch.equal(stepped, first)
        assert torch.equal(stepped, fresh())
        bank.load_state_dict(other.state_dict())
        assert torch.equal(field_of(bank, pictures), field_of(other, pictures))
        bank.float()
        assert torch.equal(field_of(bank, pictures.float()), fresh())
        bank = bank_of(randn(1, 1, 3, 3, dtype=torch.float32), bench_of(72), (12, 12), learn=learn).double()
        assert torch.equal(field_of(bank, pictures), fresh(bank))
        again = copy.deepcopy(bank)
        assert torch.equal(field_of(again, pictures), field_of(bank, pictures))
        with torch.no_grad():
            next(p for p in again.parameters() if p.requires_grad).mul_(1.7)
        assert not torch.equal(field_of(again, pictures), field_of(bank, pictures))


def fused_step(bank):
    used = [p for p in bank.parameters() if p.requires_grad]
    for p in used:
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    torch.optim.Adam(used, lr=0.3, fused=True).step()


UNSEEN = {  # changes that torch's versions of a tensor do not count
    "a fused step": fused_step,
    "data": lambda bank: [p.data.mul_(1 + torch.arange(p.shape[-1]) / p.shape[-1]) for p in bank.parameters()],
    "a vector": lambda bank: torch.nn.utils.vector_to_parameters(
        torch.nn.utils.parameters_to_vector(bank.parameters()).flip(0), bank.parameters()
    ),
    "casts": lambda bank: bank.half().float(),
    "kernels": lambda bank: bank.kernels.data[0, 0, 0].mul_(3),
    "scale": lambda bank: [one.mul_(3) for one in [bank.device.fixed_scale] if one is not None],
}


@pytest.mark.parametrize("learn", ["masks", "kernels"])
@pytest.mark.parametrize("way", UNSEEN)
def test_what_is_kept_goes_stale_by_no_way_of_changing_it(learn, way):
    pictures = rand(1, 12, 12, dtype=torch.float32)
    bank = bank_of(randn(1, 1, 3, 3, dtype=torch.float32), bench_of(72), (12, 12), learn=learn)
    before = field_of(bank, pictures)
    with torch.no_grad():
        UNSEEN[way](bank)
    seen = field_of(bank, pictures)
    assert torch.equal(seen, field_of(copy.deepcopy(bank), pictures))  # a copy has nothing kept
    assert not torch.equal(seen, before) or (way == "scale" and learn == "kernels")


@pytest.mark.parametrize("quantize", ["straight-through", "soft", "gumbel"])
@pytest.mark.parametrize("learn", ["masks", "kernels"])
def test_a_bank_that_was_evaluated_and_frozen_passes_gradients_on(learn, quantize):
    bank = bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12), learn=learn, quantize=quantize).train()
    field_of(bank, rand(1, 12, 12))
    bank.requires_grad_(False)
    for turn in range(2):
        pictures = rand(1, 12, 12, seed=turn).requires_grad_()
        bank.field(pictures).abs().sum().backward()
        assert pictures.grad.abs().sum() > 0
    with torch.no_grad():
        assert not bank.scale.requires_grad
    bank.kernels.requires_grad_()  # their gain's gradient is not kept either
    for _ in range(2):
        bank.field(rand(1, 12, 12)).abs().sum().backward()


def test_frozen_masks_are_encoded_once_however_often_training_and_evaluation_take_turns(monkeypatch):
    from fouroptics.correlator.masks import MaskPlan

    bank = bank_of(randn(2, 1, 3, 3), with_mask(96, **CRYSTAL), learn="kernels").requires_grad_(False)
    encoded, encode = [], MaskPlan.encode
    monkeypatch.setattr(MaskPlan, "encode", lambda *args: encoded.append(1) or encode(*args))
    pictures = rand(1, 1, 16, 16).requires_grad_(True)
    first = bank.field(pictures)
    for mode in (True, False, True, False):
        assert torch.equal(bank.train(mode).field(pictures), first)
    assert len(encoded) == 1


def test_a_bank_that_was_made_in_inference_mode_is_evaluated_there():
    with torch.inference_mode():
        bank = bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12))
        assert torch.equal(bank.field(rand(1, 12, 12)), copy.deepcopy(bank).field(rand(1, 12, 12)))


def test_drawn_levels_are_drawn_where_they_are_learned_and_nowhere_else():
    bank = bank_of(randn(1, 1, 3, 3), bench_of(72, {"mask.levels": 4}), (12, 12), quantize="gumbel").train()
    pictures = rand(1, 12, 12)
    one, other = bank.field(pictures), bank.field(pictures)
    assert not torch.equal(one, other)
    one.abs().sum().backward()
    assert bank.device.drive.grad.abs().sum() > 0
    hard = field_of(bank.eval(), pictures)
    assert torch.equal(hard, field_of(bank.train(), pictures))  # without a gradient: what is exported


def test_a_staircase_is_saved_with_its_bank_and_keeps_its_digits():
    bank = bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12), quantize="soft")
    bank.device.softness = 0.07
    other = bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12), quantize="soft")
    other.load_state_dict(bank.half().state_dict())
    assert other.device.softness == 0.07


def test_training_and_evaluation_do_not_show_each_other_s_masks():
    pictures = rand(1, 12, 12)
    bank = bank_of(randn(1, 1, 3, 3), bench_of(72, {"mask.levels": 4}), (12, 12), quantize="soft")
    hard = field_of(bank, pictures)
    soft = field_of(bank.train(), pictures)
    bank.device.softness = 1.0
    softer = field_of(bank, pictures)
    bank.device.quantize = "straight-through"
    followed = field_of(bank, pictures)
    assert torch.equal(followed, hard)
    assert torch.equal(field_of(bank.eval(), pictures), hard)
    assert len({one.abs().sum().item() for one in (hard, soft, softer)}) == 3
    bank.device.quantize = "round"
    with pytest.raises(fo.InputError, match="'straight-through', 'soft', 'gumbel', 'none'"):
        field_of(bank, pictures)


def test_kernels_of_another_scale_give_the_same_masks_and_a_zero_bank_is_dark():
    kernels, pictures = randn(1, 1, 3, 3), rand(1, 12, 12)
    one, ten = (bank_of(k, bench_of(72), (12, 12)) for k in (kernels, 10 * kernels))
    assert torch.equal(one.masks, ten.masks)
    assert apart(field_of(ten, pictures), 10 * field_of(one, pictures)) < 1e-9
    nothing = bank_of(torch.zeros(1, 1, 3, 3).double(), bench_of(72, IDEAL | {"mask.leak": "0 %"}), (12, 12))
    assert field_of(nothing, pictures).abs().max() == 0


def test_a_bank_in_both_precisions():
    kernels, pictures = randn(1, 2, 3, 3), rand(2, 12, 12)
    fine = bank_of(kernels, bench_of(144, IDEAL), (12, 12))
    coarse = bank_of(kernels.float(), bench_of(144, IDEAL), (12, 12))
    assert field_of(coarse, pictures.float()).dtype == torch.complex64
    assert apart(field_of(coarse, pictures.float()), field_of(fine, pictures)) < 1e-4
    order = torch.tensor([2, 0, 1])
    batch = rand(3, 2, 12, 12)
    assert torch.equal(field_of(fine, batch)[order], field_of(fine, batch[order]))


# Refusals and choices


@pytest.mark.parametrize(
    ("bench", "channels", "options", "says"),
    [
        (bench_of(60), (1, 1), {}, "double-phase needs 3 mask pixels a frequency bin and has 2.5"),
        (bench_of(60, {"mask.encoding": "carrier"}), (1, 1), {}, "carrier needs 4"),
        (bench_of(40, IDEAL), (1, 2), {}, "ideal needs 1 mask pixels a frequency bin and has 0.83"),
        (bench_of(144, IDEAL, across=(96, 96)), (1, 1), {}, "a mask has"),
        (bench_of(144, IDEAL), (1, 2), {"layout": "lenslet"}, "a mask has"),
        (bench_of(144, {"mask.encoding": "lee"}), (1, 1), {}, "cannot show the encoding 'lee'"),
        (with_mask(144, preset="dmd", encoding="double-phase"), (1, 1), {}, "cannot show the encoding 'double-phase'"),
        (with_mask(144, preset="etched-4"), (2, 1), {}, "need a mask that changes"),
        (bench_of(144, IDEAL | {"layout.guard": "0 um"}), (1, 2), {}, "kernel reaches 1 samples out"),
        (
            bench_of(144, IDEAL | {"layout.outputs": "tiled", "camera.pixels": [90, 90]}),
            (4, 1),
            {},
            "the responses are 640 um, the sensor 360 um",
        ),
        (bench_of(144), (1, 1), {"boundary": "circular"}, "does not wrap"),
        (bench_of(144), (1, 1), {"layout": "mathematical"}, "has no masks"),
        (bench_of(144, {"mask.encoding": "fit"}), (1, 1), {"learn": "kernels"}, "a fit passes no gradient to kernels"),
        (bench_of(144), (1, 1), {"learn": "pixels"}, "'masks', 'kernels'"),
        (bench_of(144), (1, 1), {"quantize": "round"}, "'straight-through', 'soft', 'gumbel', 'none'"),
        (bench_of(144), (1, 1), {"quantize": "hard"}, "'straight-through', 'soft', 'gumbel', 'none'"),
    ],
)
def test_what_a_device_cannot_carry_is_refused_in_a_line(bench, channels, options, says):
    with pytest.raises(fo.InputError, match=re.escape(says)) as caught:
        fo.Correlator4f.from_kernels(randn(*channels, 3, 3), bench, (16, 16), masks="device", **options)
    assert "\n" not in str(caught.value)
    assert caught.value.mend


def test_levels_that_are_no_mask_are_refused():
    bank = bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12))
    with pytest.raises(fo.InputError, match=r"levels are \(1, 72, 71\); \(1, 72, 72\) are due"):
        bank.put(bank.masks[..., :-1])
    assert torch.equal(bank.put(bank.masks.to(torch.uint8)).masks, bank.masks)
    for levels, says in (
        (-1 - bank.masks, r"levels are -\d+ … -\d+; whole numbers from 0 to 255"),
        (bank.masks + 1000, "levels are 1"),
        (bank.masks.double(), "levels are torch.float64; whole numbers"),
        (bank.masks.tolist(), "levels are list; whole numbers"),
    ):
        with pytest.raises(fo.InputError, match=says):
            bank.put(levels)
    follows = bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12), learn="kernels")
    with pytest.raises(fo.InputError, match="follow its kernels"):
        follows.put(bank.masks)
    assert torch.equal(follows.masks, bank.masks)
    with pytest.raises(fo.InputError, match="begin: ideal masks begin with their kernels"):
        fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), SLM, (12, 12), begin=(bank.masks, torch.ones(1)))
    with pytest.raises(fo.InputError, match=r"begin: scales are \(2,\); \(1,\) are due"):
        bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12), begin=(bank.masks, torch.ones(2)))
    ideal = fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), SLM, (12, 12))
    with pytest.raises(fo.InputError, match="ideal masks have no levels"):
        _ = ideal.masks
    with pytest.raises(fo.InputError, match="quantize: ideal masks have no levels"):
        fo.Correlator4f.from_kernels(randn(1, 1, 3, 3), SLM, (12, 12), quantize="soft")
    for softness in (-1, 1.5, math.nan, "soft", True):
        with pytest.raises(fo.InputError, match=r"device\.softness: a softness of"):
            bank.device.softness = softness


def test_auto_chooses_a_layout_and_says_why():
    kernels = randn(2, 2, 3, 3)
    bank = bank_of(kernels, bench_of(144, IDEAL | {"layout.inputs": "lenslet"}), layout="auto")
    assert (bank.layout, bank.bench.layout.outputs) == ("tiled", "frames")
    assert bank.layout_why.startswith("tiled inputs, frames: keeps 4 times the light")
    still = with_mask(144, preset="etched-16")
    assert bank_of(kernels[:, :1], still, layout="auto").bench.layout.outputs == "tiled"
    assert bank_of(kernels, bench_of(144, IDEAL)).layout_why == ""
    with pytest.raises(fo.InputError, match="no layout fits"):
        bank_of(kernels, bench_of(60), layout="auto")


def test_a_bank_tells_its_masks():
    text = str(bank_of(randn(1, 1, 3, 3), bench_of(72), (12, 12)))
    assert "1×72×72 pixels of phase_slm, double-phase, learns masks" in text


PEAK = """
import pathlib, re, sys, torch, fouroptics as fo

def top():
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024

def bank(outputs, inputs, side):
    bench = fo.Bench.load("slm-532nm").replace({"mask.pitch": "16 um", "mask.crosstalk": "3 um"})
    return fo.Correlator4f.from_kernels(torch.randn(outputs, inputs, 7, 7), bench, (side, side), masks="device")

torch.set_num_threads(1)
gradient = sys.argv[1] == "gradient"
bank(1, 1, 24).power(torch.rand(1, 1, 24, 24)).sum().backward()
correlator, pictures = bank(4, 1, 64), torch.rand(24, 1, 64, 64)
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
start = top()
with torch.set_grad_enabled(gradient):
    field = correlator.field(pictures)
if gradient:
    field.backward(field)
print((top() - start) / correlator.nbytes(24, gradient=gradient))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell a process's peak")
@pytest.mark.parametrize("mode", ["plain", "gradient"])
def test_what_nbytes_says_is_not_far_from_what_a_fresh_process_takes(mode):
    own_pages = os.environ | {"MALLOC_MMAP_THRESHOLD_": "100000"}  # what is freed goes back, and does not blur the peak
    done = subprocess.run([sys.executable, "-c", PEAK, mode], capture_output=True, text=True, check=True, env=own_pages)
    assert 0.5 < float(done.stdout) < 1.6
