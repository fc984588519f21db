"""# A plate of four levels for a foundry, and what a stricter shop would make of it

Four small kernels become a plate in two etches: a layout, a sheet that goes with it, heights for a grey-scale writer.
A shop that writes single pixels can make it. One whose lines and gaps are two pixels wide cannot: what becomes of the
plate if its pixels are mended to suit, and what had better be designed for that shop?

    python examples/gallery/09_plate_to_foundry.py [FOLDER]
"""

import sys
from pathlib import Path

import gdstk
import numpy as np
import torch
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from torch.nn.functional import conv2d

import fouroptics as fo
from fouroptics import pictures
from fouroptics.masks import etch, gds, heights, limits, repair, rules, show, traveller

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gallery")
folder.mkdir(parents=True, exist_ok=True)
torch.set_grad_enabled(False)
SIZE, CORNER = (32, 32), 24  # a picture's sides; pixels of the plate that are drawn one by one
across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
laplacian = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])
kernels = torch.stack((across, across.T, laplacian, across.abs() + across.T.abs()))[:, None]
scene = (0.8 * pictures.letter_f(SIZE) + 0.2 * pictures.natural(1, 1, SIZE)[0, 0])[None]

# The shipped plate has 67 million pixels of 2 um. Samples of 64 um make a Fourier plane of 2.5 mm, and this page quick.
plate = fo.Bench.load("plate-532nm").replace({"input.super_pixel": 8, "camera.bin": 8, "stop.size": "band"})
lenient = limits.Limits.load(None, {"min_feature": "4 um", "min_gap": "4 um", "corners": False, "grid": "5 nm"})
strict = limits.Limits.load(None, {"min_feature": "8 um", "min_gap": "8 um", "grid": "5 nm"})  # and no touching corners


def designed(encoding, pitch):
    mask = {"levels": 4, "encoding": encoding, "pitch": f"{pitch} um", "pixels": [2560 // pitch] * 2}
    bench = plate.replace({f"mask.{key}": value for key, value in mask.items()})
    sampling = bench.sampling(SIZE, kernel=3, channels=(4, 1))
    assert not sampling.problems, sampling.problems
    bank = fo.Correlator4f.from_kernels(kernels, bench, SIZE, masks="device", readout="homodyne")
    return fo.MaskSet.from_correlator(bank.expose(scene), title="four small kernels", rules=lenient)


def readings(masks):
    """What the camera reads with its noise, and of each output its correlation with conv2d."""
    seen = masks.correlator().capture(scene, generator=torch.Generator().manual_seed(0))
    return seen, [float(torch.stack(pair).flatten(1).corrcoef()[0, 1]) for pair in zip(seen, due, strict=True)]


def straight(masks):
    """The share of the light that a plate passes on as it came."""
    one = masks.planes[0]
    return abs(np.exp(1j * one.table.phase)[one.levels[0]].mean()) ** 2


# What the shop is given. The rules travel in the file; the traveller is the sheet that lies beside the plate.
due = conv2d(scene[None], kernels, padding=1)[0]
designed("double-phase", 4).save(folder / "plate.h5")
masks = fo.MaskSet.load(folder / "plate.h5")
plane, report = masks.planes[0], rules.check(masks, masks.rules)
told = gds.write(masks, folder, "plate")
traveller.write(masks, folder, report)
(folder / "heights").mkdir(exist_ok=True)
grey = heights.write(masks, folder / "heights")
print(show.table(masks))
for step in etch.steps(plane):
    print(f"layer {step.layer}: {step.what}, {step.depth * 1e9:.1f} ± {step.tolerance * 1e9:.1f} nm deep")
print(f"{told['rectangles']} rectangles; drawn: {told['drawn']}; outside: {told['outside']}")
print(f"heights: {', '.join(grey['files'])}\n\nthe lenient shop: {report}")
print(f"\nthe strict shop: {rules.check(masks, strict)}\n")

# Mended, a plate keeps the rules. Its kernels' own 3 × 3 taps look as if little had happened, and yet the readings are
# spoilt: single pixels that alternate are what keeps unwanted light off the axis, and what replaces them does not. A
# copy of the picture goes straight through, into the middle of the four responses.
print("encoding, pixels    changed   straight through   worst taps      r to conv2d: as drawn  mended")
made = {}
for encoding, pitch in (("double-phase", 4), ("phase", 4), ("double-phase", 8), ("fit", 8), ("carrier", 8)):
    drawn = designed(encoding, pitch)
    mended = repair.repaired(drawn, strict)
    assert not mended.after.findings
    made[f"{encoding}, {pitch} um"] = pair = [(one, *readings(one)) for one in (drawn, mended.masks)]
    axis = " → ".join(f"{straight(one):4.1%}" for one, *_ in pair)
    taps = " → ".join(f"{show.likeness(one).min():.3f}" for one, *_ in pair)
    found = "    ".join(" ".join(f"{r:.2f}" for r in rs) for *_, rs in pair)
    share = mended.changed / drawn.planes[0].levels.size
    print(f"{encoding:>12}, {pitch} um {share:>9.1%}    {axis:<14}     {taps}   {found}")
# Phase alone survives, and was worth less from the start. With pixels as wide as the rule only touching corners are to
# be mended, which is still too much for a chequerboard. A carrier changes as much and bears it: its responses stand
# beside the axis, and so beside all that goes straight through. It is what to draw for the strict shop.

shapes = [one for cell in gdstk.read_gds(folder / "plate.gds", unit=1e-6).top_level() for one in cell.get_polygons()]
boxes = np.array([(one.layer, *np.ravel(one.bounding_box())) for one in shapes])  # all are rectangles [um]
COLOURS = {1: "tab:blue", 2: "tab:orange", 100: "black", 110: "green"}


def layout(place, left, upper, side, title):
    """The rectangles of the file within a square, layer upon layer."""
    for layer, colour in COLOURS.items():
        near = (boxes[:, 0] == layer) & (boxes[:, 1] < left + side) & (boxes[:, 4] > upper - side)
        corners = boxes[near][:, [[1, 2], [1, 4], [3, 4], [3, 2]]]
        place.add_collection(PolyCollection(corners, facecolor=colour, alpha=0.55, lw=0, label=f"layer {layer}"))
    place.set(xlim=(left, left + side), ylim=(upper - side, upper), aspect="equal", title=title)


def height(place, masks, cut, title):
    one = masks.planes[0]
    place.imshow((one.table.height * 1e9)[one.levels[0]][cut], interpolation="nearest")
    place.set_title(title)


(before, seen, _), (after, spoilt, _) = made["double-phase, 4 um"]
high, wide = plane.levels.shape[1:]
figure = Figure(figsize=(14, 11), layout="constrained")
axes = figure.subplot_mosaic("ABCD\nEFGG\nHIJK")
height(axes["A"], before, ..., f"heights of the plate:\n{wide} × {high} pixels of 4 um")
height(axes["B"], before, np.s_[:CORNER, :CORNER], f"its upper left\n{CORNER} × {CORNER} pixels")
layout(axes["C"], -2 * wide, 2 * high, 4 * CORNER, "the same in the layout [um]:\nwhat each layer etches")
layout(axes["D"], -2 * wide - 420, 2 * high + 420, 620, "what stands about it [um]")
axes["D"].legend(fontsize=8, loc="upper right")
inside = np.s_[high // 3 : high // 3 + CORNER, wide // 3 : wide // 3 + CORNER]
height(axes["E"], before, inside, f"{CORNER} × {CORNER} inside, as drawn")
height(axes["F"], after, inside, "mended to two pixels")
for n, pair in enumerate(made.values()):
    for k, (*_, rs) in enumerate(pair):
        axes["G"].plot(rs, [n + k / 4] * 4, "o", color=("tab:blue", "tab:red")[k])
axes["G"].set(yticks=range(len(made)), yticklabels=[*made], ylim=(len(made) - 0.5, -0.5), xlim=(0, 1.02))
axes["G"].set_title("correlation with conv2d, 4 outputs: blue as drawn, red mended")
axes["G"].grid(axis="x")
axes["H"].imshow(scene[0], cmap="gray")
axes["H"].set_title("a picture")
titles = "its upright edges, by conv2d", "the camera, plate as drawn", "the camera, plate mended"
for key, image, title in zip("IJK", (due[0], seen[0], spoilt[0]), titles, strict=True):
    scaled, far = image * due[0].square().sum() / (image * due[0]).sum(), float(due[0].abs().max())
    axes[key].imshow(scaled, cmap="RdBu_r", vmin=-far, vmax=far)
    axes[key].set_title(title)
for key in "HIJK":
    axes[key].set(xticks=[], yticks=[])
figure.colorbar(axes["A"].images[0], ax=[axes[key] for key in "AE"], location="left", label="height [nm]", shrink=0.6)
figure.savefig(folder / "plate-to-foundry.png", dpi=100)
print(f"written to {folder}")
