"""# First light

What does a camera see where a network wants signed numbers? This page puts one picture through one bench and reads the
same field four ways: as it is (no camera can), its intensity, a balanced pair with a reference beam, and one noisy
capture of that pair.

    python examples/gallery/02_first_light.py [FOLDER]
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

import fouroptics as fo
from fouroptics import pictures

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gallery")
folder.mkdir(parents=True, exist_ok=True)

bench = fo.Bench.load("slm-532nm")
picture = (0.8 * pictures.letter_f((64, 64)) + 0.2 * pictures.natural(1, 1, (64, 64))[0, 0])[None]
edges = torch.tensor([[[[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]]])


def bank(readout):
    return fo.Correlator4f.from_kernels(edges, bench, (64, 64), readout=readout).expose(picture)


with torch.no_grad():
    field = bank("ideal_field")(picture)[0]
    intensity = bank("intensity")(picture)[0]
    signed = bank("homodyne")
    expected = signed(picture)[0]
    captured = signed.capture(picture, generator=torch.Generator().manual_seed(0))[0]

print(f"exposures: {bank('intensity').shutter:.2e} s for the intensity, {signed.shutter:.2e} s for each of the pair")
for name, reading in (("homodyne, expected", expected), ("one noisy capture", captured), ("intensity", intensity)):
    alike = torch.corrcoef(torch.stack([field.flatten(), reading.flatten()]))[0, 1]
    print(f"correlation with the field, {name:<18} {alike:.4f}")

views = (
    ("the picture", picture[0], "gray"),
    ("the field, network units", field, "RdBu_r"),
    ("intensity, DN", intensity, "gray"),
    ("homodyne, DN", expected, "RdBu_r"),
    ("homodyne, one capture, DN", captured, "RdBu_r"),
)
figure = Figure(figsize=(15, 3.4), layout="constrained")
for axes, (title, image, colours) in zip(figure.subplots(1, len(views)), views, strict=True):
    limit = float(image.abs().max())
    shown = axes.imshow(image, cmap=colours, vmin=-limit if colours == "RdBu_r" else 0, vmax=limit)
    axes.set(title=title, xticks=[], yticks=[])
    figure.colorbar(shown, ax=axes, shrink=0.8)
figure.savefig(folder / "first-light.png", dpi=110)
print(f"written to {folder}")
