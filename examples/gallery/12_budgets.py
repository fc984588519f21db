"""# Fewer channels, fewer masks, fewer milliseconds

What an engineer chooses from, on shapes of 32 × 32: how wide a band has to be, how many masks pay, what it costs and
saves to show all masks of a plate at once where a panel shows one after another. Students are small and trained for
seconds; what matters is how the curves bend.

    python examples/gallery/12_budgets.py [FOLDER]
"""

import sys
import time
import warnings
from pathlib import Path

import torch
from fouroptics.models import OSCLC, SCLC, fold
from fouroptics.models.pruning import pruned
from fouroptics.models.training.data import load
from matplotlib.figure import Figure

import fouroptics as fo

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gallery")
folder.mkdir(parents=True, exist_ok=True)
data = load("shapes", size=(32, 32), options={"count": 1600})
known, (pictures, labels) = data.train.batch(slice(64))[0], data.test.batch(slice(200))


def learn(student, parameters, epochs, rate):
    optimiser = torch.optim.AdamW(parameters, rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * (len(data.train) // 50))
    for _ in range(epochs):
        for index in torch.randperm(len(data.train)).split(50)[: len(data.train) // 50]:
            seen, wanted = data.train.batch(index)
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(student(seen), wanted).backward()
            optimiser.step()
            schedule.step()
    return student.eval()


def student_of(crop, pool):
    torch.manual_seed(0)
    student = SCLC((3, 12), 7, (crop,), 32, readout="homodyne", compand="two-sided-rectify", sensor_pool=pool,
                   backend=(), classes=10, camera_pixel=None if crop else 0.25)  # fmt: skip
    student.normalise(known)
    return learn(student, student.parameters(), 7, 3e-3)


def right(network, **options):
    with torch.no_grad():
        scores = torch.cat([network(part, **options) for part in pictures.split(25)])
    return 100 * float((scores.argmax(1) == labels).float().mean())


def milliseconds(student):
    """Of the front end and the readings of one picture, the best of many."""
    folded, times, threads = fold(student), [], torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        for _ in range(300):
            begun = time.perf_counter()
            folded.readings(pictures[:1])
            times.append(1e3 * (time.perf_counter() - begun))
    torch.set_num_threads(threads)
    return min(times)


bands = (6, 8, 13, 16, 32)
narrow = [student_of(None if band == 32 else band, 4) for band in bands]
widths, costs = [right(one) for one in narrow], [milliseconds(one) for one in narrow]
for band, width, cost in zip(bands, widths, costs, strict=True):
    print(f"band {band:>2} × {band:<2}  {width:.0f} %, front end {cost:.2f} ms on one core")

whole, counts = narrow[-1], (1, 2, 6, 12)
few = {count: pruned(whole, count) for count in counts}
plain = [right(one) for one in few.values()]
for one in few.values():
    learn(one, [*one.reader.parameters(), *one.backend.parameters()], 2, 2e-3)
tuned = [right(one) for one in few.values()]

benches = {"slm-532nm, a mask after the other": "slm-532nm", "plate-532nm, all at once": "plate-532nm"}
told, generator = {}, torch.Generator().manual_seed(0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the report says what each encoding costs
    for name, preset in benches.items():
        bench = fo.Bench.load(preset)
        bench = bench.replace({"mask.encoding": "carrier"}) if preset.startswith("slm") else bench
        for count in (2, 12):
            here = OSCLC.from_student(few[count], bench, known[:32]).eval()
            cost = here.budget(known[:8])
            told.setdefault(name, []).append(
                (count, 1e3 * cost["latency_s"], right(here, noisy=True, generator=generator))
            )
            print(f"{name}: {count} masks, {cost['captures']} captures, {told[name][-1][1]:.1f} ms, "
                  f"{cost['electrons_mean']:.0f} electrons, {told[name][-1][2]:.0f} % with noise")  # fmt: skip

figure = Figure(figsize=(13, 4), layout="constrained")
left, middle, last = figure.subplots(1, 3)
left.plot(costs, widths, "o-", color="#1f3b57")
for band, width, cost in zip(bands, widths, costs, strict=True):
    left.annotate(f"{band}×{band}", (cost, width), (7, -9), textcoords="offset points", fontsize=8)
left.set(xlabel="front end, simulated on one core [ms]", ylabel="right [%]", title="the band that is kept")
middle.plot(counts, plain, "o--", color="#7a8ca0", label="pruned")
middle.plot(counts, tuned, "o-", color="#1f3b57", label="and its electronics retuned")
middle.set(xlabel="masks", title="masks that are kept")
middle.legend(frameon=False)
for (name, points), colour in zip(told.items(), ("#1f3b57", "#b5651d"), strict=True):
    last.plot([ms for _, ms, _ in points], [value for *_, value in points], "o-", color=colour, label=name)
    for count, ms, value in points:
        last.annotate(f"{count}", (ms, value), (0, 7), textcoords="offset points", ha="center", fontsize=8)
last.set(xlabel="latency of a picture [ms]", xscale="log", title="masks in turn, or all at once; with noise")
last.set_xticks([10, 20, 50, 100, 200, 400], ["10", "20", "50", "100", "200", "400"], minor=False)
last.minorticks_off()
last.legend(frameon=False, fontsize=8, loc="lower center")
for axes in (left, middle, last):
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e9ee")
figure.savefig(folder / "12_budgets.png", dpi=110)
print(folder / "12_budgets.png")
