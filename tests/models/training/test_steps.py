"""A step of the optimiser by hand: momenta, decay, clipping, averaged weights; and kernels that begin as patches."""

import pytest
import torch
from fouroptics.models import SCLC
from fouroptics.models.training.data import Part
from fouroptics.models.training.distill import hard_loss
from fouroptics.models.training.loop import Fitting, Stage, _optimiser, factor
from fouroptics.models.training.networks import _patches, begin_with_patches
from fouroptics.models.training.recipe import RateSection, TrainSection
from torch import nn

import fouroptics as fo


def labelled(scores, pictures, targets):
    return hard_loss(scores, targets)


def part_of(count=32):
    return Part(torch.rand(count, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(count) % 2)


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize(("name", "keeps", "ahead"), [("nesterov", 0.85, 0.85), ("sgd-paper", 0.9, 0.0)])
def test_momenta(name, keeps, ahead):
    """v ← m v + g; a step of rate × v, or of rate × (g + m v) for one that looks ahead."""
    network = torch.nn.Linear(1, 1, bias=False).double()
    settings = TrainSection(optimiser=name, lr=RateSection(electronics=0.1), weight_decay=0.0)
    optimiser = _optimiser(network, Stage("one", hard_loss, settings, optics=None))
    due, speed = float(network.weight.detach()), 0.0
    for slope in (1.0, -2.0, 0.5):
        network.weight.grad = torch.full_like(network.weight, slope)
        optimiser.step()
        speed = keeps * speed + slope
        due -= 0.1 * (slope + ahead * speed if ahead else speed)
        assert float(network.weight.detach()) == pytest.approx(due, rel=1e-12)


def test_neither_light_nor_thresholds_decay_and_each_has_its_rate():
    """A loss without a slope leaves what does not decay, and AdamW's decay is 1 − rate × decay a step."""
    student = SCLC(
        (1, 3), 3, None, 8, readout="homodyne", compand="two-sided-rectify", sensor_pool=2, backend=(5,), classes=2
    )
    with torch.no_grad():
        student.reader.bias.fill_(0.3)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    settings = TrainSection(lr=RateSection(optics=0.02, electronics=0.1), weight_decay=0.5)
    optimiser = _optimiser(student, Stage("one", labelled, settings))
    assert [group["lr"] for group in optimiser.param_groups] == [0.02, 0.1, 0.1]
    (0.0 * student(torch.rand(4, 1, 8, 8)).sum()).backward()
    optimiser.step()
    for name, value in student.state_dict().items():
        share = 1 - 0.1 * 0.5 if name.startswith("backend.") else 1.0
        torch.testing.assert_close(value, share * before[name])


def test_a_gradient_is_clipped_to_its_norm():
    """Plain steps of rate 1: the first is as long as the norm that is allowed, and points where the gradient did."""
    moved = []
    for clip in (0.0, 1e-3):
        network = linear()
        before = torch.cat([p.detach().flatten().clone() for p in network.parameters()])
        settings = TrainSection(
            epochs=1, batch=32, optimiser="sgd-paper", clip=clip, weight_decay=0.0, lr=RateSection(electronics=1.0)
        )
        Fitting(network, Stage("one", labelled, settings, optics=None), part_of(), part_of()).run()
        moved.append(torch.cat([p.detach().flatten() for p in network.parameters()]) - before)
    assert float(moved[1].norm()) == pytest.approx(1e-3 * factor("one-cycle", 0, 1, 1), rel=1e-4)
    torch.testing.assert_close(moved[1] / moved[1].norm(), moved[0] / moved[0].norm(), atol=1e-3, rtol=1e-3)


def test_weights_are_averaged_as_the_formula_says():
    """a ← d a + (1 − d) w behind every step, d the smaller of what is asked for and (1 + t) / (10 + t)."""
    network, seen = linear(), []

    def told(*_):
        seen.append(torch.cat([p.detach().flatten().clone() for p in network.parameters()]))

    settings = TrainSection(epochs=3, batch=4, ema=0.6, lr=RateSection(electronics=0.1))
    fitting = Fitting(network, Stage("one", labelled, settings, optics=None), part_of(), part_of(), tell=told)
    due = torch.cat([p.detach().flatten().clone() for p in fitting.average.parameters()])
    fitting.run()
    assert len(seen) == 24
    for taken, weights in enumerate(seen):
        decay = min(0.6, (1 + taken) / (10 + taken))
        due = decay * due + (1 - decay) * weights
    found = torch.cat([p.detach().flatten() for p in fitting.average.parameters()])
    torch.testing.assert_close(found, due, atol=1e-6, rtol=1e-5)


def test_patches_as_kernels_answer_to_all_pictures_alike():
    """Whitened, every kernel's responses have the same spread, whatever frequencies its patch had; none has a mean."""
    torch.manual_seed(0)
    pictures = fo.pictures.natural(64, 3, (32, 32))
    student = SCLC((3, 24), 6, None, 32, readout="homodyne", classes=10)
    begin_with_patches(student, pictures)
    weight = student.front.weights[0].detach()
    assert float(weight.mean((1, 2, 3)).abs().max()) < 1e-6 * float(weight.abs().max())
    assert float(student.front.transfer().detach().abs().square().mean()) == pytest.approx(1.0, rel=1e-4)
    patches = _patches(pictures, (6, 6), 20_000, torch.Generator().manual_seed(1))
    patches = patches - patches.mean(0)
    raw = patches[:24] / patches[:24].norm(dim=1, keepdim=True)
    spreads = [(patches @ kernels.flatten(1).mT).std(0) for kernels in (weight, raw)]
    assert float(spreads[0].max() / spreads[0].min()) < 1.05 < 1.6 < float(spreads[1].max() / spreads[1].min())
