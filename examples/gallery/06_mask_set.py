"""# From kernels to files that a panel and a foundry take

Two edge filters that need no training: a Sobel pair. They become a mask set, the set becomes frames for a liquid
crystal, and what is in the file shows the edges of a picture. Then the same kernels on an etched plate of four levels,
as GDSII.

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
from fouroptics.masks import bitmap, etch, gds

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gallery")
folder.mkdir(parents=True, exist_ok=True)
SIZE = (64, 64)
across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
sobel = torch.stack((across, across.T))[:, None]

# A liquid crystal: one mask an output, frame after frame. A carrier bears its crosstalk.
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

# An etched plate: both outputs side by side on one mask, in two etches.
plate = fo.Bench.load("plate-532nm").replace({"mask.levels": 4, "mask.pitch": "12 um", "mask.pixels": [1024, 1024]})
etched = fo.Correlator4f.from_kernels(sobel, plate, SIZE, masks="device")
layout = fo.MaskSet.from_correlator(etched, title="a Sobel pair, etched")
told = gds.write(layout, folder, "sobel")
for step in etch.steps(layout.planes[0]):
    print(f"layer {step.layer}: {step.what}, {step.depth * 1e9:.1f} nm deep")
print(f"{told['rectangles']} rectangles in {folder / 'sobel.gds'}")

figure = Figure(figsize=(13, 6.6), layout="constrained")
axes = figure.subplots(2, 4)
size = float(edges.abs().max())
levels, heights = masks.planes[0].levels, layout.planes[0].table.height * 1e9
middle = [slice(n // 2 - 16, n // 2 + 16) for n in levels.shape[1:]]
on_plate = [slice(n // 2 + 40, n // 2 + 72) for n in layout.planes[0].levels.shape[1:]]
shown = (
    (axes[0, 0], scene[0], "the picture", {"cmap": "gray"}),
    (axes[1, 0], np.asarray(masks.commissioning["orientation_f"]), "a tile to find the way round", {"cmap": "gray"}),
    (axes[0, 1], levels[0][tuple(middle)], "upright edges: levels\n32 × 32 pixels of the file", {"cmap": "twilight"}),
    (axes[1, 1], levels[1][tuple(middle)], "level edges: levels", {"cmap": "twilight"}),
    (axes[0, 2], edges[0], "what the camera reads [DN]", {"cmap": "RdBu_r", "vmin": -size, "vmax": size}),
    (axes[1, 2], edges[1], "what the camera reads [DN]", {"cmap": "RdBu_r", "vmin": -size, "vmax": size}),
    (axes[0, 3], heights[layout.planes[0].levels[0][tuple(on_plate)]], "the plate: heights [nm]", {"cmap": "viridis"}),
)
for place, image, title, options in shown:
    drawn = place.imshow(image, interpolation="nearest", **options)
    place.set_title(title, fontsize=10)
    place.set(xticks=[], yticks=[])
for place in (*axes[:, 2], axes[0, 3]):
    figure.colorbar(place.images[0], ax=place, shrink=0.8)
axes[1, 3].axis("off")
figure.savefig(folder / "mask-set.png", dpi=100)
print(f"written to {folder}")
