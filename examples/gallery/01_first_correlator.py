"""# A first correlator

A 4f bench filters a picture in the plane between its lenses. This page puts a letter and texture on the shipped
bench, gives it two kernels that look for upright and for level edges, checks the light against `conv2d`, and writes
what the camera plane shows.

    python examples/gallery/01_first_correlator.py [FOLDER]
"""

import sys
from pathlib import Path

import torch

import fouroptics as fo
from fouroptics import pictures

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gallery")
folder.mkdir(parents=True, exist_ok=True)

# A bench is a file with units; this one is shipped. Can it carry two outputs of 64 × 64?
bench = fo.Bench.load("slm-532nm")
print(bench.sampling(size=(64, 64), kernel=3, channels=(2, 1)))

# Sobel's kernels. A pattern of light has no negative values, but a response has: it is a field.
across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
kernels = torch.stack([across, across.T])[:, None]
correlator = fo.Correlator4f.from_kernels(kernels, bench, size=(64, 64))

# Pictures are light: values in [0, 1].
letter = 0.8 * pictures.letter_f((64, 64)) + 0.2 * pictures.natural(1, 1, (64, 64))[0, 0]
with torch.no_grad():
    field = correlator.field(letter[None])
    light = correlator.power(letter[None])

expected = torch.nn.functional.conv2d(letter[None, None], kernels, padding=1)[0]
print(f"\nlargest difference from conv2d: {(field.real - expected).abs().max():.1e}")
print(f"passive masks leave {correlator.scale[0].item():.3f} of each response in amplitude")
print(f"brightest points: {light.amax((-2, -1)).tolist()} W/m²")
print(f"\n{correlator.latency(letter[None])}")

pictures.write(folder / "letter.png", letter)
for name, irradiance in zip(("upright", "level"), light, strict=True):
    pictures.write(folder / f"edges-{name}.png", irradiance / irradiance.max())
print(f"\nwritten to {folder}")
