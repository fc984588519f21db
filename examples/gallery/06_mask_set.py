"""# From kernels to a file, and from the file to what a camera reads

Two edge filters that need no training: a Sobel pair. They become a mask set, the set becomes frames for a liquid
crystal, and what is in the file, with the camera's noise, shows the edges of a picture. Page 08 does this with a bank
of filters and checks the frames; page 09 puts kernels on an etched plate.

    python examples/gallery/06_mask_set.py [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn.functional import conv2d

import fouroptics as fo
from fouroptics import pictures
from fouroptics.masks import bitmap

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gallery")
folder.mkdir(parents=True, exist_ok=True)
SIZE = (64, 64)
across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
sobel = torch.stack((across, across.T))[:, None]

# One mask an output, frame after frame. A carrier bears this panel's crosstalk.
panel = fo.Bench.load("slm-532nm").replace({"mask.encoding": "carrier"})
bank = fo.Correlator4f.from_kernels(sobel, panel, SIZE, masks="device", readout="homodyne", layout="auto")
fo.MaskSet.from_correlator(bank.expose(), title="a Sobel pair").save(folder / "sobel.h5")
masks = fo.MaskSet.load(folder / "sobel.h5")  # from here on the file is all there is
frames = folder / "frames"
frames.mkdir(exist_ok=True)
told = bitmap.write(masks, frames)
print(f"{told['frames']} frames of {told['panel_pixels']} pixels in {frames}, {told['values']}")

scene = (0.8 * pictures.letter_f(SIZE) + 0.2 * pictures.natural(1, 1, SIZE)[0, 0])[None]
with torch.no_grad():
    edges = masks.correlator().capture(scene, generator=torch.Generator().manual_seed(0))
wanted = conv2d(scene[None], sobel, padding=1)[0]
for name, seen, due in zip(("upright", "level"), edges, wanted, strict=True):
    alike = torch.corrcoef(torch.stack((seen.flatten(), due.flatten())))[0, 1]
    print(f"{name} edges, read with noise: r = {alike:.4f} to conv2d")

figure = Figure(figsize=(13.5, 6.6), layout="constrained")
axes = figure.subplots(2, 4)
size = float(edges.abs().max())
levels = masks.planes[0].levels
beside = [slice(5 * n // 8, 5 * n // 8 + 32) for n in levels.shape[1:]]  # in the middle an edge filter passes nothing
reading = {"cmap": "RdBu_r", "vmin": -size, "vmax": size}
level = {"cmap": "twilight", "vmin": 0, "vmax": 255}
shown = [
    (axes[0, 0], scene[0], "the picture", {"cmap": "gray"}),
    (axes[1, 0], np.asarray(masks.commissioning["orientation_f"]), "a tile to find the way round", {"cmap": "gray"}),
]
for k, name in enumerate(("upright", "level")):
    due = wanted[k] * (edges[k] * wanted[k]).sum() / wanted[k].square().sum()
    shown += [
        (axes[k, 1], levels[k][tuple(beside)], f"{name} edges: levels of\n32 × 32 pixels of the mask", level),
        (axes[k, 2], edges[k], "what the camera reads [DN]", reading),
        (axes[k, 3], due, "conv2d, as bright", reading),
    ]
for place, image, title, options in shown:
    place.imshow(image, interpolation="nearest", **options)
    place.set_title(title, fontsize=10)
    place.set(xticks=[], yticks=[])
for place in (*axes[:, 1], *axes[:, 3]):
    figure.colorbar(place.images[0], ax=place, shrink=0.8)
figure.savefig(folder / "mask-set.png", dpi=100)
print(f"written to {folder}")
