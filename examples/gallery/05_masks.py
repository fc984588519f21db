"""# Masks that a device can show

A correlator asks for any complex transmission at every frequency. A liquid crystal delays light, a micromirror is on or
off, an etched plate has sixteen heights. This page puts the same kernels on each of them by several encodings and
compares with `conv2d`: the real part of the field, which a homodyne reading follows, and the complex field, which an
intensity follows, both by Pearson's correlation without the mean, the worst output of all.

    python examples/gallery/05_masks.py [FOLDER]         # 4 outputs, half a minute
    python examples/gallery/05_masks.py [FOLDER] full    # 16 outputs, each also through free space; then trained pixels
"""

import sys
import time
import warnings
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch.nn.functional import conv2d, mse_loss

import fouroptics as fo
from fouroptics import pictures
from fouroptics.correlator import fidelity

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gallery")
folder.mkdir(parents=True, exist_ok=True)
warnings.filterwarnings("ignore", "mask.crosstalk")  # the page is about it
FULL = sys.argv[2:] == ["full"]
SIZE = (64, 64)
kernels = torch.randn(16, 3, 7, 7, generator=torch.Generator().manual_seed(0))[: 16 if FULL else 4]
scenes = pictures.natural(2, 3, SIZE)

DROPPED = dict.fromkeys(("phase_range", "lut", "crosstalk", "flicker"))
IDEAL = {"preset": "ideal", "encoding": "ideal", "fill_factor": "100 %"} | DROPPED
GREY = {"preset": "grey", "levels": 256}
CRISP = {"crosstalk": "0 um"}
ROWS = (
    ("slm-532nm", "ideal plate, input pixels not divided out", IDEAL | {"precompensate": False}),
    ("slm-532nm", "ideal plate", IDEAL),
    ("slm-532nm", "double-phase", {}),
    ("slm-532nm", "double-phase, no crosstalk", CRISP),
    ("slm-532nm", "double-phase, no crosstalk, 15.7 um", CRISP | {"pitch": "15.7 um"}),
    ("slm-532nm", "carrier", {"encoding": "carrier"}),
    ("slm-532nm", "carrier, no crosstalk", CRISP | {"encoding": "carrier"}),
    ("slm-532nm", "carrier, no crosstalk, 10 um", CRISP | {"encoding": "carrier", "pitch": "10 um"}),
    ("slm-532nm", "carrier, no crosstalk, 11.8 um", CRISP | {"encoding": "carrier", "pitch": "11.8 um"}),
    ("slm-532nm", "phase", {"encoding": "phase"}),
    ("slm-532nm", "fit", {"encoding": "fit"}),
    ("slm-532nm", "fit, no crosstalk", CRISP | {"encoding": "fit"}),
    ("plate-532nm", "double-phase, 16 levels", {}),
    ("dmd-532nm", "lee, binary", {}),
    ("dmd-532nm", "lee, 256 greys", GREY),
)


def built(bench, mask, kernels, **options):
    changed = fo.Bench.load(bench).replace({f"mask.{key}": value for key, value in mask.items()})
    return fo.Correlator4f.from_kernels(kernels, changed, SIZE, masks="device", **options)


def row(bench, name, mask):
    bank = built(bench, mask, kernels)
    found, bins = fidelity.report(bank, scenes), bank.bench.share(SIZE, bank.channels, inputs=bank.layout).mask_field
    light = float((found.gain * found.scale).amin())
    cells = [bench.split("-")[0], name, f"{bank.device.plan.count[0] / bins[0]:.1f}"]
    cells += [f"{one.amin():.5f}" for one in (found.real, found.field)]
    cells += [f"{light:.4f}", f"{found.efficiency.amin():.2%}", f"{found.view.amin():.1f}"]
    if FULL:
        beside = fidelity.report(built(bench, mask, kernels, light="free_space"), scenes)
        cells.append(f"{beside.real.amin():.4f}, {beside.field.amin():.4f}")
    return f"| {' | '.join(cells)} |"


print(f"{len(kernels)} × 3 kernels of 7 × 7 on pictures of 64 × 64; the worst output of each\n")
print("| bench | encoding | pixels a bin | Re E | E | gain·scale | efficiency | clear view |", end="")
print(" free space: Re E, E |" if FULL else "")
print("|---|---|---|---|---|---|---|---|" + "---|" * FULL)
for entry in ROWS:
    print(row(*entry), flush=True)


def trained(name, mask, steps=300):
    """Move every pixel of one mask down the error of its field, through levels, crosstalk and gaps; then measure."""
    bank = built("slm-532nm", mask, kernels[:1], quantize="straight-through")
    before, began = fidelity.report(bank, scenes), time.perf_counter()
    optimiser = torch.optim.Adam([bank.device.drive], lr=0.05)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        noise = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(step))
        lesson = 0.7 * pictures.natural(2, 3, SIZE, seed=1 + step) + 0.3 * noise
        wanted = conv2d(lesson, kernels[:1], padding=3)
        loss = mse_loss(torch.view_as_real(bank.field(lesson)), torch.stack((wanted, 0 * wanted), -1)) / wanted.var()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        slower.step()
    after, taken = fidelity.report(bank, scenes), time.perf_counter() - began
    numbers = " | ".join(f"{getattr(f, n)[0]:.4f}" for n in ("real", "field") for f in (before, after))
    print(
        f"| {name} | {numbers} | {before.efficiency[0]:.1%} | {after.efficiency[0]:.1%} | {taken:.0f} s |", flush=True
    )


if FULL:
    print("\n| pixels of output 0 begin as | Re E | trained | E | trained | efficiency | trained | took |")
    print("|---|---|---|---|---|---|---|---|")
    for start in ("double-phase", "carrier", "fit"):
        trained(start, {"encoding": start})


# One output as a picture: what its pixels show on top, what arrives in the middle, what is wrong with it below.
first = kernels[:1]
colours = torch.tensor([1.0, 0.7, 0.4])[:, None, None]
scene = (0.7 * pictures.letter_f(SIZE) * colours + 0.3 * pictures.natural(1, 3, SIZE)[0])[None]
wanted = conv2d(scene, first, padding=3)[0, 0]
limit = float(wanted.abs().max())
ideal = built("slm-532nm", IDEAL, first)
shown = (
    ("double-phase, no crosstalk", "levels of 32 × 32 pixels", built("slm-532nm", CRISP, first)),
    ("double-phase, 1.5 um crosstalk", "what is left of |t| = 1", built("slm-532nm", {}, first)),
    ("carrier, 1.5 um crosstalk", "levels of 32 × 32 pixels", built("slm-532nm", {"encoding": "carrier"}, first)),
    ("lee on mirrors", "32 × 32 of them", built("dmd-532nm", {}, first)),
)
figure = Figure(figsize=(15, 8.2), layout="constrained")
axes = figure.subplots(3, 2 + len(shown))


def panel(place, image, title, colours="gray", low=None, high=None):
    drawn = place.imshow(image, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    place.set_title(title, fontsize=10)
    place.set(xticks=[], yticks=[])
    return drawn


def part(mask, side, centre=(0.5, 0.5)):
    top, left = (round(c * n) - side // 2 for c, n in zip(centre, mask.shape, strict=True))
    return mask[top : top + side, left : left + side]


def responses(column, name, bank):
    response = bank.eval().field(scene)[0, 0].real
    alike = torch.corrcoef(torch.stack((response.flatten(), wanted.flatten())))[0, 1]
    panel(column[1], response, f"{name}\nr = {alike:.4f}", "RdBu_r", -limit, limit)
    return panel(column[2], response - wanted, "response − conv2d", "RdBu_r", -limit / 4, limit / 4)


with torch.no_grad():
    mask = ideal.eval().device.shown(ideal.kernels).transmission[0]
    bright = divmod(int(part(mask.abs(), 200).argmax()), 200)
    bright = [(at - 100) / n + 0.5 for at, n in zip(bright, mask.shape, strict=True)]
    panel(axes[0, 0], part(mask.abs(), 200), "wanted |t|\n200 × 200 of 1038 × 1038 pixels", high=0.6)
    panel(axes[0, 1], part(mask.angle(), 200), "wanted phase", "twilight", -torch.pi, torch.pi)
    panel(axes[1, 0], wanted, "conv2d\n", "RdBu_r", -limit, limit)
    panel(axes[2, 0], scene[0].permute(1, 2, 0), "the picture")
    errors = responses(axes[:, 1], "ideal plate", ideal)
    for column, (name, what, bank) in zip(axes.T[2:], shown, strict=True):
        levels = bank.eval().masks[0]
        image = levels if "levels" in what else bank.device.shown(bank.kernels).transmission[0].abs()
        cycle = ("twilight", 0, 255) if "levels" in what else ("gray", 0, 1)
        panel(column[0], part(image, 32, bright), f"{name.split(',')[0]}\n{what}", *cycle)
        responses(column, name.replace(", ", "\n"), bank)
figure.colorbar(axes[1, 0].images[0], ax=axes[1, -1], shrink=0.8, label="network units")
figure.colorbar(errors, ax=axes[2, -1], shrink=0.8, label="four times as fine")
figure.savefig(folder / "masks.png", dpi=100)
print(f"\nwritten to {folder}")
