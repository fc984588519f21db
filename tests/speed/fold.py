"""The folded student against the convolutional part of its teacher: pictures to scores, and a step of training."""

import copy
import statistics
import warnings
from functools import partial

import torch
from fouroptics.models import SCLC, freeze
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


def products(frozen, batch):
    """Multiplications of reals that matrices of the set-out fold come to, and bytes that it must read."""
    light, electronics = frozen.light, frozen.electronics
    numbers, samples = light.matrices(light.plane.device)
    (height, width), y, outputs = light.sizes.size, light.samples[1], light.plane.shape[-1]
    analysis = 0
    if numbers._few_y is not None:
        analysis += numbers._few_y.shape[0] * height * width
    if numbers._few_x is not None:
        analysis += numbers._few_x.shape[0] * numbers._down.shape[1] * width
    lines, height, width = *numbers._down.shape, numbers._along.shape[0]
    analysis += lines * width * (height + numbers._signed.shape[1])
    summed = 4 * light.plane.numel()
    synthesis = outputs * (samples._up.numel() * samples._across.shape[1] // 2 + samples._across.numel() * y)
    seen = outputs * electronics.reader.macs if hasattr(electronics, "reader") else 0
    layers = sum(values.numel() for values in (*electronics.buffers(), *electronics.parameters()))
    read = batch * light.inputs * light.sizes.size[0] * light.sizes.size[1] * 4 + light.plane.nbytes + 4 * layers
    return batch * (light.inputs * analysis + summed + synthesis + seen + layers), read


def rate():
    """Multiplications a second of a large square product: the best that this machine does."""
    side = 1024
    square = torch.rand(side, side)
    return side**3 / min(machine.seconds(partial(torch.mm, square, square)) for _ in range(9))


def forms(features, pictures):
    """The teacher's convolutions in the memory layout that suits them best here: as they are, and traced and fused."""
    last = copy.deepcopy(features).to(memory_format=torch.channels_last)
    each = [(features, pictures), (last, pictures.contiguous(memory_format=torch.channels_last))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # traces go out of use, and are still the quickest
        fused = [(torch.jit.optimize_for_inference(torch.jit.trace(*one)), one[1]) for one in each]
    return [min((partial(*one) for one in some), key=least) for some in (each, fused)]


def least(action):
    return min(machine.seconds(action) for _ in range(4))


@torch.inference_mode()
def inference(side, kept, batch, readout):
    """All of the frozen fold, camera and electronics included, beside the teacher's convolutions alone."""
    frozen = freeze(student_of(side, (None, None, None, None, kept), *readout, POOL))
    pictures = torch.rand(batch, 3, side, side)
    plain, fused = forms(AlexNet(10).features.eval(), pictures)
    work, read = products(frozen, batch)
    ours, theirs, ratios = machine.paired(partial(frozen, pictures), plain, pairs=7, least=0.1)
    _, fastest, of_fused = machine.paired(partial(frozen, pictures), fused, pairs=7, least=0.1)
    print(
        f"  {side:>4}² → {kept:>2}×{kept:<2} batch {batch:<2} {'+'.join(readout):<26} {ours * 1e3:6.3f} ms, AlexNet"
        f" {theirs * 1e3:6.1f} ms: {statistics.median(ratios):5.1f} × ({ratios[0]:.0f} … {ratios[-1]:.0f}), "
        f"fused {fastest * 1e3:6.1f} ms: {statistics.median(of_fused):5.1f} ×; "
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
