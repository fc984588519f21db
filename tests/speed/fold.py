"""The folded student against the convolutional part of its teacher: pictures to scores, and a step of training."""

import copy
import statistics
from functools import partial

import torch
from fouroptics.models import SCLC, fold
from fouroptics.models.teachers import AlexNet

from fouroptics.memory import keep_pages
from tests.speed import machine

WIDTHS, KERNELS = (3, 64, 192, 384, 256, 256), (11, 5, 3, 3, 3)
INFERENCE = ((224, 6, 1), (224, 13, 1), (1024, 32, 1), (224, 6, 32))  # side, kept, batch
READOUTS = (("homodyne", "two-sided-rectify"), ("intensity", "sqrt"))
POOL = 6  # readings a side, as AlexNet's own pool leaves them to its classifier
TRAINING = ((64, (32, 16, None, None, 8)), (128, (64, 32, None, None, 16)))  # side, crops


def student_of(side, crops, readout="intensity", compand="sqrt", pool=None):
    return SCLC(WIDTHS, KERNELS, crops, side, readout=readout, compand=compand, sensor_pool=pool, classes=10, guard=0)


def products(folded, batch):
    """Multiplications of reals that matrices of the fold's plans come to, and bytes that it must read."""
    plan, geometry, channels = folded.front.plan, folded.front.geometry, folded.front.plan.channels
    (height, width), (rows, columns), outputs = plan.size, geometry.shape, channels[-1]
    waves = rows + 1
    analysis = channels[0] * waves * width * (height + 2 * columns)
    summed = 4 * channels[0] * outputs * rows * columns
    y, x = folded.reader.given if folded.reader.follows_field else geometry.fine
    synthesis = outputs * (rows * 2 * columns * 2 * x + 2 * rows * x * y)
    seen = outputs * folded.reader.macs
    backend = sum(layer.weight.numel() for layer in folded.backend.modules() if hasattr(layer, "in_features"))
    weights = folded.front.plane.nbytes + 4 * backend
    return batch * (analysis + summed + synthesis + seen + backend), batch * channels[0] * height * width * 4 + weights


def rate():
    """Multiplications a second of a large square product: the best that this machine does."""
    side = 1024
    square = torch.rand(side, side)
    return side**3 / min(machine.seconds(partial(torch.mm, square, square)) for _ in range(9))


def fastest(features, pictures):
    """The teacher's convolutions in the memory layout that suits them best here."""
    forms = (
        (features, pictures),
        (
            copy.deepcopy(features).to(memory_format=torch.channels_last),
            pictures.contiguous(memory_format=torch.channels_last),
        ),
    )
    actions = [partial(network, given) for network, given in forms]
    return min(actions, key=lambda action: min(machine.seconds(action) for _ in range(4)))


@torch.no_grad()
def inference(side, kept, batch, readout):
    """All of the folded student, camera and electronics included, beside the teacher's convolutions alone."""
    folded = fold(student_of(side, (None, None, None, None, kept), *readout, POOL)).eval()
    pictures = torch.rand(batch, 3, side, side)
    theirs = fastest(AlexNet(10).features.eval(), pictures)
    ours, other, ratios = machine.paired(partial(folded, pictures), theirs, pairs=7, least=0.1)
    work, read = products(folded, batch)
    print(
        f"  {side:>4}² → {kept:>2}×{kept:<2} batch {batch:<2} {'+'.join(readout):<26} {ours * 1e3:6.2f} ms, AlexNet's "
        f"convolutions {other * 1e3:6.1f} ms: {statistics.median(ratios):5.1f} × ({ratios[0]:.1f} … {ratios[-1]:.1f}); "
        f"{work / 1e6:6.1f} M products, {work / rate() * 1e3:5.2f} ms at a square matrix's rate; {read / 1e6:4.1f} MB"
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
        for readout in READOUTS:
            inference(*row, readout)
    for row in TRAINING:
        training(*row)
    if keep_pages():
        print("  the same steps where neither side waits for the system to clear what was just freed")
        for row in TRAINING:
            training(*row)
