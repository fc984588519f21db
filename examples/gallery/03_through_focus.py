"""# Through focus

A lens of 100 mm brings a beam of 0.6 mm radius to a focus: first a good lens, then one with a quarter wave rms of coma,
then one with as much astigmatism. Light travels as plane waves (the angular spectrum), so every plane on the way is the
same call with another distance. The width at the focus is checked against the beam's closed form.

    python examples/gallery/03_through_focus.py [FOLDER]
"""

import math
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from fouroptics.optics import aberration
from fouroptics.optics.fourier import Plane
from fouroptics.optics.propagation import AngularSpectrum, thin_lens

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gallery")
folder.mkdir(parents=True, exist_ok=True)

WAVELENGTH, FOCAL, WAIST, PUPIL = 532e-9, 0.1, 0.6e-3, 3e-3
plane = Plane((512, 512), 8e-6)
y, x = plane.coordinates()
beam = torch.exp(-(y[:, None] ** 2 + x**2) / WAIST**2)
lens = thin_lens(y, x, FOCAL, wavelength=WAVELENGTH, pitch=plane.pitches, pupil=PUPIL)
distances = [FOCAL * (0.94 + 0.02 * step) for step in range(7)]
ways = {
    distance: AngularSpectrum(plane, distance, wavelength=WAVELENGTH, band=3e4, dtype=torch.complex128)
    for distance in distances
}

kinds = {"a good lens": {}, "coma, 0.25 waves rms": {8: 0.25}, "astigmatism, 0.25 waves rms": {6: 0.25}}
figure = Figure(figsize=(2 * len(distances), 6.6), layout="constrained")
rows = figure.subplots(len(kinds), len(distances))
for row, (name, waves) in zip(rows, kinds.items(), strict=True):
    leaving = beam * lens * aberration.delayed(aberration.wavefront(y, x, waves, 4 * WAIST), 1.0)
    for axes, distance in zip(row, distances, strict=True):
        light = ways[distance](leaving).abs().square()
        middle = light[256 - 32 : 256 + 32, 256 - 32 : 256 + 32]
        axes.imshow(middle.sqrt(), cmap="magma", extent=(-256, 256, 256, -256))
        axes.set(xticks=[], yticks=[])
        if not waves:
            axes.set_title(f"{distance * 1e3:.0f} mm")
        if not waves and distance == distances[3]:
            width = 2 * math.sqrt(float((light * x**2).sum() / light.sum()))
    row[0].set_ylabel(name)
figure.suptitle("amplitude over 0.5 × 0.5 mm, along the axis")
figure.savefig(folder / "through-focus.png", dpi=110)

rayleigh = math.pi * WAIST**2 / WAVELENGTH
expected = WAIST / math.hypot(1, rayleigh / FOCAL) * math.hypot(1, FOCAL / rayleigh)
print(f"1/e² radius at {distances[3] * 1e3:.0f} mm: {width * 1e6:.2f} um; of a Gaussian beam: {expected * 1e6:.2f} um")
print(f"written to {folder}")
