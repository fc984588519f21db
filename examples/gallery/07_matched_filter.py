"""# A matched filter that finds a part in a scene

The oldest task of a 4f correlator (VanderLugt, 1964): three brackets lie in clutter, with a turned one, a disc and a
square of the same area and brightness. A plain matched filter is drawn to whatever is large and bright; one whitened
against the clutter finds the brackets. Both go onto a liquid crystal and into a file, and from it to a noisy camera.

    python examples/gallery/07_matched_filter.py [FOLDER]
"""

import math
import sys
from pathlib import Path

import torch
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch.nn.functional import avg_pool2d, conv2d, pad

import fouroptics as fo
from fouroptics import pictures

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gallery")
folder.mkdir(parents=True, exist_ok=True)
torch.set_grad_enabled(False)
SIZE, SCENES, HALF, RIM = (96, 96), 12, 8, 9  # a part's box reaches 8 samples, a kernel 9
PARTS, TURNED, DISC, SQUARE = [(20, 24), (70, 30), (38, 70)], (76, 72), (18, 52), (48, 42)  # their middles (y, x)
NAMES, LIGHT = ("plain", "whitened"), (1, 0.1, 0.01)  # of the full exposure


def around(place, reach):
    return ..., *(slice(at - reach, at + reach + 1) for at in place)


def bracket(y, x):
    holes = torch.stack([torch.hypot(y - 3.75 * a, x - 3.75 * b) for a, b in ((-1, -1), (1, -1), (1, 1))])
    return ((x < -1.5) | (y > 1.5)) & (y.abs() < 6) & (x.abs() < 6) & (holes > 1.2).all(0)


# A shape is drawn as the share that it covers of each sample, by 8 × 8 points; the same ones lie in 12 scenes.
y, x = torch.meshgrid(*[(torch.arange(8 * (2 * HALF + 1)) + 0.5) / 8 - HALF - 0.5] * 2, indexing="ij")
part, turned = bracket(y, x), bracket((x + y) / math.sqrt(2), (x - y) / math.sqrt(2))
side = math.sqrt(float(part.sum())) / 8
disc, square = torch.hypot(y, x) < side / math.sqrt(math.pi), torch.maximum(y.abs(), x.abs()) < side / 2
part, turned, disc, square = avg_pool2d(torch.stack((part, turned, disc, square)).float(), 8)
scenes = 0.1 + 0.7 * pictures.natural(SCENES, 1, SIZE)
for shape, place in [*((part, at) for at in PARTS), (turned, TURNED), (disc, DISC), (square, SQUARE)]:
    scenes[around(place, HALF)].lerp_(torch.tensor(0.85), shape)

# A kernel does what conv2d does, which is correlation: the part itself is its matched filter. But pictures are light,
# never negative, and most of it is a constant that says nothing: a kernel without a mean has the mask block that.
# The clutter has the amplitude 1/f of natural scenes, so the power 1/f², and the best filter divides by the power: the
# part times f², which in samples is minus its Laplacian. What is left are outlines, of which clutter has few.
laplacian = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])
room = pad(part, [1] * 4)[None, None]  # a Laplacian reaches one sample further
kernels = torch.cat((room - room.mean(), conv2d(room, laplacian[None, None], padding=1)))

# The camera reads |E|², in one capture and without a reference beam. The sign is lost, which costs nothing here: a
# peak is a peak, and squaring lifts it above what surrounds it.
bench = fo.Bench.load("slm-532nm").replace({"mask.encoding": "carrier"})  # which bears this panel's crosstalk
problems = bench.sampling(SIZE, kernel=kernels.shape[-1], channels=kernels.shape[:2]).problems
assert not problems, problems
bank = fo.Correlator4f.from_kernels(kernels, bench, SIZE, masks="device", readout="intensity")
# An automatic exposure lets the brightest 0.1 % of the readings saturate, and those are the peaks: give them room.
full = 1e-6 * 3000 / float(bank.expose(seconds=1e-6)(scenes).max())  # 3000 DN: 80 % of the well
fo.MaskSet.from_correlator(bank.expose(seconds=full), title="a bracket's matched filters").save(folder / "matched.h5")
seen, dice = fo.MaskSet.load(folder / "matched.h5").correlator(), torch.Generator().manual_seed(0)  # the file is all
captured = [seen.expose(seconds=full * share).capture(scenes, generator=dice) for share in LIGHT]


def inner(reading):
    """A copy, dark where a kernel reaches over the rim and sees the picture end."""
    return pad(reading[RIM:-RIM, RIM:-RIM], [RIM] * 4)


def brightest(reading):
    left, found = inner(reading), []
    for _ in PARTS:
        found.append(divmod(int(left.argmax()), left.shape[1]))
        left[around(found[-1], HALF)] = 0
    return found


def levels(reading):
    """The weakest bracket's peak, and the brightest reading off the brackets."""
    off = inner(reading)
    for place in PARTS:
        off[around(place, HALF)] = 0
    return [float(min(reading[around(place, 1)].max() for place in PARTS)), float(off.max())]


def to_sidelobes(reading, place):
    """A peak above the mean of the 21 × 21 readings about it less the middle 5 × 5, in their standard deviations."""
    about, off = reading[around(place, 10)], torch.ones(21, 21, dtype=torch.bool)
    off[8:13, 8:13] = False
    return float((about[~off].max() - about[off].mean()) / about[off].std())


weakest, elsewhere = torch.tensor([[[levels(r) for r in rs] for rs in taken] for taken in captured]).unbind(-1)
margins = weakest / elsewhere  # [light, scene, filter]: above 1 a threshold finds all three brackets and nothing else
fooled = int((margins[0, :, 0] < 1).nonzero()[0])  # the first scene that fools the plain filter
readings, found = captured[0][fooled], [brightest(reading) for reading in captured[0][fooled]]
print(f"scene {fooled}, exposed for {full * 1e6:.1f} us, brackets at (y, x) = {PARTS}")
for k, name in enumerate(NAMES):
    ratios = ", ".join(f"{to_sidelobes(readings[k], place):.0f}" for place in PARTS)
    decoys = (float(readings[k][around(at, 4)].max() / weakest[0, fooled, k]) for at in (TURNED, DISC, SQUARE))
    print(f"{name}: the three brightest at {found[k]}; peaks to sidelobes {ratios}")
    print("    turned one, disc, square over the weakest bracket:", ", ".join(f"{one:.2f}" for one in decoys))
for share, table, level in zip(LIGHT, margins, weakest, strict=True):
    told = (f"{n} in {int((m > 1).sum())}, margin {m.median():.1f}" for n, m in zip(NAMES, table.T, strict=True))
    electrons = float(level[:, 1].median()) / bench.camera.gain
    print(
        f"{share:g} of the light, peaks of {electrons:.0f} electrons; all found, of {SCENES} scenes: {'; '.join(told)}"
    )
assert sorted(found[1]) == sorted(PARTS) and (margins[0, :, 1] > 1).all(), "the whitened filter missed a bracket"

figure = Figure(figsize=(15, 6.6), layout="constrained")
axes = figure.subplot_mosaic("SaAC\nSbBM", width_ratios=(2, 1, 1.2, 1.8))
scene, cut, margin = (axes[key] for key in "SCM")
for (y, x), name in ((TURNED, "turned"), (DISC, "disc"), (SQUARE, "square")):
    scene.text(x, y - 8, name, color="yellow", ha="center", va="bottom", weight="bold")
missed = next(at for at in PARTS if at not in found[0])
for k, (name, colour, one, two) in enumerate(zip(NAMES, ("red", "limegreen"), "ab", "AB", strict=True)):
    style = {"ls": "none", "mec": colour, "mfc": "none", "label": f"the three brightest readings, {name}"}
    scene.plot(*zip(*(at[::-1] for at in found[k]), strict=True), "xo"[k], ms=(10, 20)[k], mew=2.5, **style)
    most = float(kernels[k].abs().max())
    axes[one].imshow(kernels[k, 0], cmap="RdBu_r", vmin=-most, vmax=most)
    axes[one].set(title=f"{name} kernel", xticks=[], yticks=[])
    image = axes[two].imshow(readings[k], cmap="gray_r", norm=PowerNorm(0.5, 0, 1500))
    axes[two].plot(*zip(*(at[::-1] for at in PARTS), strict=True), "o", ms=15, **style)
    axes[two].set(title=f"camera, {name} [DN]\n(circles: the brackets)", xticks=[], yticks=[])
    figure.colorbar(image, ax=axes[two], shrink=0.7, extend="max")
    cut.plot(range(RIM, SIZE[1] - RIM), readings[k, missed[0], RIM:-RIM], color=colour, label=name)
    cut.axhline(float(elsewhere[0, fooled, k]), color=colour, ls="--", label=f"{name}: brightest elsewhere")
    margin.loglog(LIGHT, margins[..., k].median(1).values, "o-", color=colour, label=name)
scene.imshow(scenes[fooled, 0], cmap="gray", vmin=0, vmax=1)
scene.set(title="three brackets, and what each filter takes for them", xticks=[], yticks=[])
scene.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), frameon=False, labelspacing=0.9)
cut.set(title=f"a cut through the bracket at x = {missed[1]}", xlabel="x [samples]", ylabel="reading [DN]")
cut.legend(fontsize=9)
margin.axhline(1, color="gray", ls="--", label="below it: not all found")
margin.set(
    title="weakest bracket over brightest elsewhere", xlabel="share of the light", xticks=LIGHT, xticklabels=LIGHT
)
margin.set(ylabel=f"median of {SCENES} scenes", yticks=(1, 2, 4), yticklabels=(1, 2, 4))
margin.minorticks_off()
margin.legend(fontsize=9)
figure.savefig(folder / "matched-filter.png", dpi=100)
print(f"written to {folder}")
