"""# A camera's photon transfer

How many electrons is a DN? A camera tells by its own noise: light arrives in photons, so the variance of a reading
grows with its mean, by the gain. This page lights the shipped bench's camera evenly, ever longer, takes two frames each
time, and reads gain, read noise and full well off the curve, as EMVA 1288 does.

    python examples/gallery/04_photon_transfer.py [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import fouroptics as fo
from fouroptics.correlator.reading import sensor_of
from fouroptics.devices import detector

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gallery")
folder.mkdir(parents=True, exist_ok=True)

camera = fo.Bench.load("slm-532nm").camera
sensor = sensor_of(fo.Bench.load("slm-532nm"))
draw = torch.Generator().manual_seed(0)
like = torch.zeros(())
pattern = detector.Pattern.draw((256, 256), like, draw)  # one camera: its pattern stays
light = torch.full((256, 256), 1e-13)  # W on a pixel

mean, temporal, total = [], [], []
for exposure in np.geomspace(1e-6, 80e-3, 40):
    electrons = detector.mean_electrons(light, float(exposure), sensor, wavelength=532e-9, pattern=pattern)
    one, two = (detector.capture(electrons, sensor, generator=draw, pattern=pattern) for _ in range(2))
    mean.append(float(((one + two) / 2).mean()) - camera.black_level)
    temporal.append(float((one - two).var()) / 2)
    total.append(float(one.var()))

signal, noise = np.array(mean), np.array(temporal)
line = (signal > 50) & (signal < 0.7 * signal.max())
gain, offset = np.polyfit(signal[line], noise[line], 1, w=1 / noise[line])
read_noise = np.sqrt(noise[0] - 1 / 12) / gain
print(f"gain       {gain:.4f} DN an electron (the bench says {camera.gain})")
print(f"read noise {read_noise:.3f} electrons (the bench says {camera.read_noise})")
print(f"full well  {signal.max() / gain:.0f} electrons (the bench says {camera.full_well:.0f})")

figure = Figure(figsize=(7, 5), layout="constrained")
axes = figure.subplots()
axes.loglog(signal, total, "s", mfc="none", color="tab:orange", label="one frame: with the fixed pattern")
axes.loglog(signal, noise, "o", color="tab:blue", label="half the difference of two frames")
axes.loglog(
    signal, gain * signal + noise[0], "-", color="tab:blue", lw=1, label=f"{gain:.3f} DN an electron, from the dark"
)
axes.axvline(camera.full_well * camera.gain, color="gray", lw=1, ls=":")
axes.text(camera.full_well * camera.gain, 1.2, "full well ", ha="right", color="gray")
axes.set(xlabel="mean above black, DN", ylabel="variance, DN²", xlim=(1, 6000), ylim=(0.5, 5000))
axes.legend(frameon=False)
axes.grid(alpha=0.3)
figure.savefig(folder / "photon-transfer.png", dpi=110)
print(f"written to {folder}")
