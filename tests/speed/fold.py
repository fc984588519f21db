"""The folded student against the convolutional part of its teacher: pictures to scores, and a step of training."""

import statistics
from functools import partial

import torch
from fouroptics.models import SCLC, fold
from fouroptics.models.teachers import AlexNet

from tests.speed import machine

WIDTHS, KERNELS = (3, 64, 192, 384, 256, 256), (11, 5, 3, 3, 3)
INFERENCE = ((224, 6, 1), (224, 13, 1), (1024, 32, 1), (224, 6, 32))  # side, kept, batch
TRAINING = ((64, (32, 16, None, None, 8)), (128, (64, 32, None, None, 16)))  # side, crops


def student_of(side, crops):
    return SCLC(WIDTHS, KERNELS, crops, side, readout="intensity", compand="sqrt", classes=10, guard=0)


@torch.no_grad()
def inference(side, kept, batch):
    """All of the folded student, camera and electronics included, beside the teacher's convolutions alone."""
    folded = fold(student_of(side, (None, None, None, None, kept))).eval()
    features = AlexNet(10).features.eval()
    pictures = torch.rand(batch, 3, side, side)
    ours, theirs, ratios = machine.paired(
        partial(folded, pictures), partial(features, pictures), pairs=3 if side > 500 or batch > 1 else 11
    )
    front = statistics.median(machine.seconds(partial(folded.front, pictures)) for _ in range(7))
    print(
        f"  {side:>4}² → {kept:>2}×{kept:<2} batch {batch:<2} folded {ours * 1e3:7.2f} ms (optics {front * 1e3:6.2f}), "
        f"AlexNet's convolutions {theirs * 1e3:7.1f} ms: {statistics.median(ratios):5.1f} × "
        f"({ratios[0]:.1f} … {ratios[-1]:.1f})"
    )


def step(front, way, pictures, optimiser):
    optimiser.zero_grad(set_to_none=True)
    way(pictures).square().mean().backward()
    optimiser.step()


def training(side, crops):
    """Forward, backward and optimiser of the front end: composed, and layer by layer over half spectra."""
    front = student_of(side, crops).front
    optimiser = torch.optim.SGD(front.parameters(), 1e-6)
    pictures = torch.rand(32, 3, side, side)
    ours, theirs, ratios = machine.paired(
        partial(step, front, front, pictures, optimiser),
        partial(step, front, front.by_layers, pictures, optimiser),
        pairs=3,
    )
    told = ", ".join("–" if crop is None else str(crop) for crop in crops)
    print(
        f"  {side:>4}², crops {told}: a step {ours * 1e3:7.1f} ms composed, {theirs * 1e3:8.0f} ms layer by layer: "
        f"{statistics.median(ratios):5.1f} × ({ratios[0]:.1f} … {ratios[-1]:.1f})"
    )


def main():
    print("\nThe fold, AlexNet's widths, float32; a speed is that of its band, which decides what can be learned")
    for row in INFERENCE:
        inference(*row)
    for row in TRAINING:
        training(*row)
