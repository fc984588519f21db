"""# A student, and the one plane that it folds to

Two convolutions and a crop, trained as a chain for some seconds on shapes. Between them the pictures would be large
and are never made: the chain is composed on the band that its crop keeps, and that is also what is built, one transfer
function for each output and input. Read as the field itself it is an affine map, whatever was trained; rectified pixel
by pixel behind the camera it is not.

    python examples/gallery/10_student_and_fold.py [FOLDER]
"""

import sys
from pathlib import Path

import torch
from fouroptics.models import SCLC, fold
from fouroptics.models.training.data import load
from matplotlib.figure import Figure

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gallery")
folder.mkdir(parents=True, exist_ok=True)
data = load("shapes", size=(32, 32), options={"count": 2000})


def student_of(compand, backend):
    torch.manual_seed(0)
    return SCLC((3, 12, 24), 5, (None, 16), 32, readout="homodyne", compand=compand, sensor_pool=8,
                backend=backend, classes=len(data.classes))  # fmt: skip


def taught(student, epochs=6, batch=50):
    """A plain loop: the trainer does more, this is all that is needed."""
    student.normalise(data.train.batch(slice(500))[0])
    optimiser = torch.optim.AdamW(student.parameters(), 1e-3)
    curve = []
    for _ in range(epochs):
        for index in torch.randperm(len(data.train)).split(batch):
            pictures, labels = data.train.batch(index)
            loss = torch.nn.functional.cross_entropy(student(pictures), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            pictures, labels = data.test.batch(slice(None))
            curve.append(100 * float((student(pictures).argmax(1) == labels).float().mean()))
    return curve


curves = {"rectified, then an MLP": taught(rectified := student_of("two-sided-rectify", (64,)))}
curves["affine: the same optics, nothing after"] = taught(affine := student_of("none", ()))
print(rectified.summary())

# What is affine obeys f(a) + f(b) = f(a + b) + f(0), to rounding and for any weights.
with torch.no_grad():
    a, b = data.test.batch(slice(0, 8))[0].double(), data.test.batch(slice(8, 16))[0].double()
    for student in (rectified.double(), affine.double()):
        apart = (student(a) + student(b) - student(a + b) - student(0 * a)).abs().max() / student(a).abs().max()
        print(f"{student.summary().function:<24} f(a) + f(b) against f(a + b) + f(0): {float(apart):.0e} of f(a)")

    # The fold is the same function with one plane in it, and so is the chain run layer by layer.
    plane = fold(rectified)
    scores, layered = rectified(a), rectified.forward_layers(a)
    print(f"folded against composed {float((plane(a) - scores).abs().max()):.0e}, layer by layer against composed "
          f"{float((layered - scores).abs().max()):.0e}, of scores up to {float(scores.abs().max()):.1f}")  # fmt: skip
    print(f"{100 * rectified.front.energy_in_guard(a):.2f} % of the responses' energy lies on the dark guard")
    transfer = plane.front.transfer().detach()
    taps = plane.front.kernels(transfer)
    strongest = taps.flatten(1).norm(dim=1).topk(4).indices.tolist()

figure = Figure(figsize=(11, 9), layout="constrained")
axes = figure.subplots(3, 4)
for column, number in enumerate(strongest):
    whole = torch.cat((transfer[number, 1][:, 1:].flip(-2, -1).conj(), transfer[number, 1]), -1)
    axes[0, column].imshow(whole.abs().numpy(), cmap="magma", vmin=0)
    axes[0, column].set_title(f"output {number}, green: |H|,\nthe band kept, frequency 0 in the middle", fontsize=8)
    middle = [slice((n - 1) // 2 - 8, (n - 1) // 2 + 9) for n in taps.shape[-2:]]
    kernel = taps[number, 1][middle[0], middle[1]]
    reach = float(kernel.abs().max())
    axes[1, column].imshow(kernel.numpy(), cmap="RdBu_r", vmin=-reach, vmax=reach)
    axes[1, column].set_title("the taps that it comes to, middle 17²", fontsize=8)
    for row in (0, 1):
        axes[row, column].set_xticks([])
        axes[row, column].set_yticks([])
for axis in axes[2]:
    axis.remove()
below = figure.add_subplot(axes[2, 0].get_gridspec()[2, :])
for name, curve in curves.items():
    below.plot(range(1, len(curve) + 1), curve, marker="o", label=name)
below.axhline(100 / len(data.classes), color="k", linestyle=":", label="guessing")
below.set_xlabel("epochs of 1620 pictures")
below.set_ylabel("right on test pictures [%]")
below.set_xticks(range(1, len(curve) + 1))
below.set_ylim(0, 100)
below.legend()
figure.savefig(folder / "10_student_and_fold.png", dpi=110)
