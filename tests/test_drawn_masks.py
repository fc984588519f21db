"""Masks of drawn benches that follow from a few, beside each worked out for itself."""

import pytest
import torch

import fouroptics.correlator.device as device
from fouroptics.correlator.drawn import DrawnMasks, chebyshev, covers, lagrange
from fouroptics.imperfections import Imperfections
from tests.device_banks import bank_of, bench_of, rand, randn

CROSSED = {"mask.crosstalk": "12 um", "mask.flicker": "0.03 rad"}  # a third of such a pixel


def made(changes=(), dtype=torch.float32, across=None, **options):
    bench = bench_of(220, CROSSED | {"mask.encoding": "carrier"} | dict(changes), across=across)
    return bank_of(randn(2, 2, 3, 3, dtype=dtype), bench, **options)


def drawn(**fields):
    values = {name.replace("__", "."): torch.tensor(value, dtype=torch.float64) for name, value in fields.items()}
    return Imperfections(values, (), torch.tensor(5))


def each_for_itself(bank, draw, reach, monkeypatch):
    with monkeypatch.context() as patched, torch.no_grad():
        patched.setattr(device, "covers", lambda *_: False)
        return bank.device.shown(bank.kernels).flawed(draw, reach)


def apart(found, true):
    return float((found - true).abs().max() / true.abs().max())


@pytest.mark.parametrize("slope", [0.0, 0.013, -0.05, 0.16, -0.31])
@pytest.mark.parametrize("dead", [0.0, 0.03])
def test_masks_of_a_draw_are_what_its_pixels_give(slope, dead, monkeypatch):
    bank, reach = made(), (17, 20)
    draw = drawn(mask__phase_scale=slope, mask__dead_pixels=dead)
    with torch.no_grad():
        found = bank.device.shown(bank.kernels).flawed(draw, reach)
    true = each_for_itself(bank, draw, reach, monkeypatch)
    assert apart(found, true) < 3e-6
    nominal = bank.device.plan.spread(bank.device.shown(bank.kernels).transmission, reach)
    assert (apart(nominal.detach(), true) > 1e-3) == bool(slope or dead)


def test_dead_pixels_at_edges_beside_each_other_and_on_the_panel_s_own_count_once(tmp_path, monkeypatch):
    own = tmp_path / "dead.csv"
    lines = [f"{x},{y},200" for x in (0, 1, 2, 50, 219) for y in (0, 3, 219)]
    own.write_text("\n".join(["x,y,level", *lines]), encoding="utf-8")
    bank = made({"mask.dead": own.as_posix()})
    draw = drawn(mask__dead_pixels=0.4)  # of two neighbours most often one
    assert int(bank.device.plan.stuck(torch.device("cpu"))[0][0].sum()) == 15
    with torch.no_grad():
        found = bank.device.shown(bank.kernels).flawed(draw, (16, 16))
    assert apart(found, each_for_itself(bank, draw, (16, 16), monkeypatch)) < 3e-6


@pytest.mark.parametrize("dead", [0.03, 2e-5])  # of few pixels some masks have none
def test_masks_side_by_side_have_dead_pixels_of_their_own(dead, monkeypatch):
    bank = made(across=(230, 460), layout="lenslet")
    assert not bank.device.plan.together
    draw = drawn(mask__phase_scale=0.02, mask__dead_pixels=dead)
    with torch.no_grad():
        found = bank.device.shown(bank.kernels).flawed(draw, (16, 16))
    assert apart(found, each_for_itself(bank, draw, (16, 16), monkeypatch)) < 3e-6


OFFSET = "\n".join(["drive,phase_rad,transmittance", *(f"{n},{n * 0.02 + 3},{1 - n / 2000}" for n in range(300))])


@pytest.mark.parametrize(
    "changes",
    [
        {"mask.leak": "40 %", "mask.fill_factor": "80 %", "stop.size": "6 mm"},
        {"mask.levels": 1024},
        {"mask.lut": "offset"},
        {"mask.encoding": "double-phase"},
    ],
    ids=["gaps and a stop", "1024 levels", "a table that dims", "double-phase"],
)
def test_whatever_lies_over_pixels_and_whatever_levels_they_have(changes, tmp_path, monkeypatch):
    if "mask.lut" in changes:
        (tmp_path / "lut.csv").write_text(OFFSET, encoding="utf-8")
        changes = {"mask.lut": (tmp_path / "lut.csv").as_posix(), "mask.preset": None, "mask.kind": "phase_slm"}
        changes |= {"mask.levels": 300, "mask.phase_range": None}
    bank = made(changes, stop="stop.size" in changes)
    draw = drawn(mask__phase_scale=0.03, mask__dead_pixels=0.02)
    assert covers(bank.device.plan, draw, torch.float32)
    with torch.no_grad():
        found = bank.device.shown(bank.kernels).flawed(draw, (16, 16))
    assert apart(found, each_for_itself(bank, draw, (16, 16), monkeypatch)) < 3e-6


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, {"mask__level": [0.1] * 256}),
        ({"mask.wavefront": {"4": "20 nm"}}, {"source__wavelength": 4e-9}),
    ],
)
def test_other_errors_of_pixels_are_not_left_out(changes, fields):
    bank, draw = made(changes), drawn(**fields)
    plan, drive = bank.device.plan, bank.device.drive.detach()
    with torch.no_grad():
        found = bank.device.shown(bank.kernels).flawed(draw, (16, 16))
    assert torch.equal(found, plan.spread(plan.flawed(draw, drive, "hard", softness=1.0), (16, 16)))


def test_masks_that_are_not_at_their_levels_are_drawn_as_they_are():
    bank, draw = made().train(), drawn(mask__phase_scale=0.03)
    bank.device.quantize = "none"
    plan, drive = bank.device.plan, bank.device.drive.detach()
    with torch.no_grad():
        found = bank.device.shown(bank.kernels).flawed(draw, (16, 16))
    assert torch.equal(found, plan.spread(plan.flawed(draw, drive, "none", softness=1.0), (16, 16)))
    bank.device.quantize = "straight-through"
    bank.device.shown(bank.kernels).flawed(draw, (16, 16)).abs().sum().backward()
    assert bank.device.drive.grad.abs().max() > 0


def test_a_draw_is_made_once_for_setting_the_reference_and_for_a_step_of_electronics(monkeypatch):
    bank, count = made().requires_grad_(False), []
    once = DrawnMasks.spread
    monkeypatch.setattr(DrawnMasks, "spread", lambda self, *given: count.append(1) or once(self, *given))
    pictures = rand(1, 2, 16, 16, dtype=torch.float32)
    draw = drawn(mask__phase_scale=0.03, mask__dead_pixels=0.001)
    with torch.no_grad():
        bank.field(pictures, errors=draw)
    bank.field(pictures.requires_grad_(True), errors=draw).abs().sum().backward()
    assert len(count) == 1
    assert pictures.grad.abs().max() > 0


def test_function_transforms_go_through_draws():
    bank, draw = made({"mask.crosstalk": "0 um"}).requires_grad_(False), drawn(mask__phase_scale=0.02)
    pictures = rand(1, 2, 16, 16, dtype=torch.float32)
    slope = torch.func.grad(lambda given: bank.field(given, errors=draw).abs().sum())(pictures)
    pictures.requires_grad_(True)
    bank.field(pictures, errors=draw).abs().sum().backward()
    torch.testing.assert_close(slope, pictures.grad, atol=1e-4, rtol=1e-4)


def test_what_draws_are_made_of_goes_with_its_bank_s_device_and_learning():
    bank = made()
    with torch.no_grad():
        here = bank.device._drawn_masks(bank.kernels)
        bank.train().eval()
        assert bank.device._drawn_masks(bank.kernels) is here
        there = bank.cpu().device._drawn_masks(bank.kernels)
        assert there is not here
    bank.train().field(rand(1, 2, 16, 16, dtype=torch.float32)).abs().sum().backward()
    with torch.no_grad():
        assert bank.device._drawn_masks(bank.kernels) is not there


def test_another_wavelength_is_another_slope(monkeypatch):
    bank, draw = made(), drawn(source__wavelength=4e-9, mask__phase_scale=0.01)
    with torch.no_grad():
        found = bank.device.shown(bank.kernels).flawed(draw, (16, 16))
    assert apart(found, each_for_itself(bank, draw, (16, 16), monkeypatch)) < 3e-6


def test_few_masks_are_made_for_many_draws_and_anew_for_other_levels(monkeypatch):
    bank, slopes = made(), []
    once = DrawnMasks._made
    monkeypatch.setattr(
        DrawnMasks, "_made", lambda self, slope, reach: slopes.append(slope) or once(self, slope, reach)
    )
    pictures = rand(1, 2, 16, 16, dtype=torch.float32)

    def read(slope):
        with torch.no_grad():
            return bank.field(pictures, errors=drawn(mask__phase_scale=slope))

    before = [read(slope) for slope in (0.01, 0.02, -0.03, 0.04)]
    points = len(slopes)
    assert points == len(chebyshev(0.05, torch.pi)) == 5
    bank.train().eval()
    assert torch.equal(read(0.02), before[1])
    assert len(slopes) == points
    bank.device.put((bank.device.levels(bank.kernels) + 1) % 256)
    assert not torch.equal(read(0.02), before[1])
    assert len(slopes) == 2 * points


def test_double_precision_and_gradients_are_worked_out_for_themselves():
    draw = drawn(mask__phase_scale=0.02)
    exact = made(dtype=torch.float64)
    plan, drive = exact.device.plan, exact.device.drive.detach()
    with torch.no_grad():
        found = exact.device.shown(exact.kernels).flawed(draw, (16, 16))
    assert torch.equal(found, plan.spread(plan.flawed(draw, drive, "hard", softness=1.0), (16, 16)))
    bank, slope = made(), torch.tensor(0.02, dtype=torch.float64, requires_grad=True)
    pictures = rand(1, 2, 16, 16, dtype=torch.float32)
    bank.field(pictures, errors=Imperfections({"mask.phase_scale": slope})).abs().sum().backward()
    assert slope.grad.abs() > 0


def test_points_give_the_powers_that_they_can():
    points = chebyshev(0.2, torch.pi)
    for power in range(len(points)):
        torch.testing.assert_close((lagrange(points, 1.07) * points**power).sum().item(), 1.07**power)
