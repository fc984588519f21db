"""# A bank of 7 × 7 kernels becomes frames for a liquid crystal

Six colour-opponent Gabor filters, as a colleague would send them: a file of numbers, [6, 3, 7, 7]. Does the bench
carry them? Then they become masks, a file that says what every pixel is, frames to be shown and a playlist; and before
any of it goes to the laboratory, the frames are read back and the file alone is asked what the camera will see.

    python examples/gallery/08_bank_to_frames.py [FOLDER]
"""

import csv
import math
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import conv2d

import fouroptics as fo
from fouroptics import pictures
from fouroptics.correlator import fidelity
from fouroptics.masks import bitmap, kernels

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gallery")
folder.mkdir(parents=True, exist_ok=True)
torch.set_grad_enabled(False)
SIZE, CUT = (64, 64), 64  # a picture's sides; pixels of a mask that are drawn one by one

# What the colleague did: three directions, each once for red against green and once for blue against yellow.
y, x = torch.meshgrid(*[torch.arange(-3.0, 4.0)] * 2, indexing="ij")
angles = torch.arange(3)[:, None, None] * math.pi / 3
gabor = torch.exp(-(x**2 + y**2) / 6) * torch.cos(2 * math.pi / 5 * (x * angles.cos() + y * angles.sin()))
opponents = torch.tensor([[1.0, -1.0, 0.0], [-0.5, -0.5, 1.0]])
save_file({"conv1.weight": torch.einsum("oc,ayx->oacyx", opponents, gabor).flatten(0, 1)}, folder / "bank.safetensors")
NAMES = [f"{what} {angle}°" for what in ("R - G", "B - Y") for angle in (0, 60, 120)]

# What we do with it; `fouroptics masks from-kernels bank.safetensors --bench slm-532nm --set mask.encoding=carrier
# --readout homodyne` makes the same masks. A carrier bears this panel's crosstalk, and a homodyne pair of captures
# reads the sign, which an opponent filter is about.
bank = kernels.read(folder / "bank.safetensors")
bench = fo.Bench.load("slm-532nm").replace({"mask.encoding": "carrier"})
sampling = bench.sampling(SIZE, kernel=bank.shape[-1], channels=bank.shape[:2])
print(f"{sampling}\n")
assert not sampling.problems, sampling.problems
device = fo.Correlator4f.from_kernels(bank, bench, SIZE, masks="device", readout="homodyne", layout="auto").eval()
print(f"{device.layout_why}\n\n{fidelity.report(device)}\n")
scene = pictures.natural(1, 3, SIZE)
fo.MaskSet.from_correlator(device.expose(scene), title="colour-opponent Gabors").save(folder / "masks.h5")

masks = fo.MaskSet.load(folder / "masks.h5")  # from here on the file is all there is
frames = folder / "frames"
frames.mkdir(exist_ok=True)
told = bitmap.write(masks, frames)
print(f"{told['frames']} frames of {told['panel_pixels']} pixels, {told['values']}; {told['orientation']}")
text = (frames / "playlist.csv").read_text(encoding="utf-8")
playlist = [*csv.DictReader(text.splitlines())]
print(*text.splitlines()[:5], f"… {len(playlist)} captures: each frame under two phases of the reference", sep="\n")

# The laboratory's first question: will the panel show what is in the file? Where a mask stands is told in metres from
# the panel's middle, y down; everything beside it is level 0.
plane = masks.planes[0]
rows, columns = plane.levels.shape[1:]
for line in playlist[::2]:
    shown, tile = np.asarray(Image.open(frames / line["file"])), int(line["frame"])
    middle = plane.origin[tile] / plane.pitch + np.array(shown.shape) / 2
    top, left = np.rint(middle - np.array([rows, columns]) / 2).astype(int)
    assert np.array_equal(shown[top : top + rows, left : left + columns], plane.levels[tile])
    assert np.count_nonzero(shown) == np.count_nonzero(plane.levels[tile]), "something stands beside the mask"
print(f"every frame, read back: {rows} × {columns} levels equal to the file's, from row {top}, column {left}")
print(f"to set the bench up with, in the same file: {', '.join(sorted(masks.commissioning))}")

# The second: what will the camera read, with its noise? And what without: would more light help?
again, wanted = masks.correlator(), conv2d(scene, bank, padding=3)[0]
readings = torch.stack((again.capture(scene, generator=torch.Generator().manual_seed(0))[0], again(scene)[0]))
both = torch.stack((readings, wanted.expand_as(readings)), 2).flatten(3)  # [noisy or not, output, camera or conv2d]
both = both - both.mean(-1, keepdim=True)
alike = torch.cosine_similarity(*both.unbind(2), dim=-1)
print(f"exposed for {float(playlist[0]['exposure_s']) * 1e6:.1f} us; r to conv2d with noise, and without")
for name, noisy, calm, reading in zip(NAMES, *alike, readings[0], strict=True):
    print(f"{name:<11} {noisy:.4f}  {calm:.4f}   readings up to {float(reading.abs().max()):.0f} DN")


def swing(levels):
    """How far levels reach in each 8 × 8 pixels: a carrier's grating is deep where light is to pass."""
    high, wide = (n // 8 for n in levels.shape)
    return np.ptp(levels[: 8 * high, : 8 * wide].reshape(high, 8, wide, 8), axis=(1, 3))


figure = Figure(figsize=(13, 11.6), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=(1, 2.1))
seen, panel, pixels = above.subplots(1, 3, width_ratios=(1, 1.8, 1))
grid, far = below.subplots(4, 6), float(readings[0].abs().max())
seen.imshow(scene[0].permute(1, 2, 0))
frame = np.asarray(Image.open(frames / playlist[0]["file"]))
panel.imshow(swing(frame), cmap="gray", extent=(0, frame.shape[1], frame.shape[0], 0))
# A mask is its kernels' spectrum, and a Gabor's lies about its own frequency: here a fifth of the band, along x.
y0, x0 = top + rows // 2 - CUT // 2, left + columns // 2 + columns // 5 - CUT // 2
panel.add_patch(Rectangle((x0, y0), CUT, CUT, fill=False, ec="red", lw=1.5))
pixels.imshow(frame[y0 : y0 + CUT, x0 : x0 + CUT], cmap="twilight", vmin=0, vmax=255)
seen.set_title("the picture, 64 × 64 samples")
panel.set_title(f"{playlist[0]['file']}: {frame.shape[1]} × {frame.shape[0]} pixels, bright where levels swing")
pixels.set_title(f"the red square: {CUT} × {CUT} pixels")
for n, (name, reading, due) in enumerate(zip(NAMES, readings[0], wanted, strict=True)):
    grid[0, n].imshow((0.5 + 0.5 * bank[n] / bank.abs().max()).permute(1, 2, 0))
    grid[1, n].imshow(swing(plane.levels[n]), cmap="gray")
    grid[2, n].imshow(reading, cmap="RdBu_r", vmin=-far, vmax=far)
    grid[3, n].imshow(due * (reading * due).sum() / due.square().sum(), cmap="RdBu_r", vmin=-far, vmax=far)
    grid[0, n].set_title(name)
    grid[2, n].set_title(f"r = {alike[0][n]:.3f}", fontsize=9)
words = "kernel: red, green,\nblue; grey is 0|its mask, bright\nwhere levels swing|camera, with noise|conv2d, as bright"
for place, word in zip(grid[:, 0], words.split("|"), strict=True):
    place.set_ylabel(word)
for place in (seen, panel, pixels, *grid.flat):
    place.set(xticks=[], yticks=[])
above.colorbar(pixels.images[0], ax=pixels, label="level", shrink=0.8)
below.colorbar(grid[2, 0].images[0], ax=[*grid[2:].flat], label="reading [DN]", shrink=0.8)
figure.savefig(folder / "bank-to-frames.png", dpi=100)
print(f"written to {folder}")
