"""# A student on its bench

A student of shapes, put on a bench as the bench stands, by two ways of writing its masks. What its electronics expects
is set against what the camera gives: double-phase, which this panel's crosstalk spoils, and a carrier, which bears it.
Behind that come the camera's noise, and masks, bench and electronics in one file that is read back.

    python examples/gallery/11_on_its_bench.py [FOLDER]
"""

import sys
import warnings
from pathlib import Path

import torch
from fouroptics.models import OSCLC, SCLC
from fouroptics.models.training.data import load
from matplotlib.figure import Figure

import fouroptics as fo

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gallery")
folder.mkdir(parents=True, exist_ok=True)
data = load("shapes", size=(32, 32), options={"count": 2000})
torch.manual_seed(0)
student = SCLC((3, 8), 7, None, 32, readout="homodyne", compand="two-sided-rectify", sensor_pool=8, backend=(64,),
               classes=len(data.classes), camera_pixel=0.25)  # fmt: skip
student.normalise(data.train.batch(slice(500))[0])
optimiser = torch.optim.AdamW(student.parameters(), 2e-3)
for _ in range(8):
    for index in torch.randperm(len(data.train)).split(50):
        pictures, labels = data.train.batch(index)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(student(pictures), labels).backward()
        optimiser.step()
student.eval()

known, (pictures, labels) = data.train.batch(slice(32))[0], data.test.batch(slice(100))
generator = torch.Generator().manual_seed(0)


def right(network, **options):
    with torch.no_grad():
        scores = torch.cat([network(part, **options) for part in pictures.split(25)])
    return 100 * float((scores.argmax(1) == labels).float().mean())


networks = {}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the report says what double-phase costs here
    for encoding in ("double-phase", "carrier"):
        bench = fo.Bench.load("slm-532nm").replace({"mask.encoding": encoding})
        networks[encoding] = OSCLC.from_student(student, bench, known).eval()
print(f"student {right(student):.0f} %")
for encoding, network in networks.items():
    print(f"{encoding:<13} {right(network):.0f} %, with noise {right(network, noisy=True, generator=generator):.0f} %")

cost = networks["carrier"].budget(known)
print(
    f"{cost['captures']} captures in {1e3 * cost['latency_s']:.0f} ms, {cost['electrons_mean']:.0f} electrons a pixel"
)
networks["carrier"].mask_set(title="shapes", classes=data.classes).save(folder / "network.h5")
again = OSCLC.from_maskset(folder / "network.h5")
with torch.no_grad():
    print(f"from the file: {torch.equal(again(pictures[:25]), networks['carrier'](pictures[:25]))}, bit for bit")

    example = pictures[2:3]
    due = student.reader.detected(student.seen(example))[0]
    given = {name: network.bank(example)[0] / network.level[:, None, None] for name, network in networks.items()}
    given["carrier, one capture"] = (
        networks["carrier"].bank.capture(example, generator=generator)[0] / networks["carrier"].level[:, None, None]
    )

figure = Figure(figsize=(11, 10.5), layout="constrained")
axes = figure.subplots(4, 4)
strongest = due.flatten(1).std(1).topk(3).indices.tolist()
axes[0, 0].imshow(example[0].permute(1, 2, 0).numpy())
axes[0, 0].set_title("the picture", fontsize=9)
for row, (name, readings) in enumerate({"what electronics expects": due, **given}.items()):
    for column, number in enumerate(strongest, 1):
        reach = float(due[number].abs().max())
        axes[row, column].imshow(readings[number].numpy(), cmap="RdBu_r", vmin=-reach, vmax=reach)
        off = float((readings[number] - due[number]).norm() / due[number].norm())
        axes[row, column].set_title(
            f"{name}, output {number}" + (f": {100 * off:.0f} % off" if row else ""), fontsize=8
        )
    if row:
        levels = networks[name.split(",")[0]].bank.masks[strongest[0]]
        axes[row, 0].imshow(levels[500:540, 500:540].numpy(), cmap="twilight")
        axes[row, 0].set_title(f"40² pixels of output {strongest[0]}'s mask", fontsize=8)
for axis in axes.flat:
    axis.set_xticks([])
    axis.set_yticks([])
figure.savefig(folder / "11_on_its_bench.png", dpi=100)
