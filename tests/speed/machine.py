"""What ran, on what, and whether anything else was running; timings in alternating pairs."""

import datetime
import os
import platform
import statistics
import subprocess
import time

import torch


def line() -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return (
        f"{datetime.date.today()}, commit {commit or 'unknown'}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} of {os.cpu_count()} threads, {platform.machine()}, {load()}"
    )


def load() -> str:
    """The machine's load beside ours; a ratio from a loaded machine is not to be quoted."""
    if not hasattr(os, "getloadavg"):
        return "load unknown"
    others = os.getloadavg()[0]
    return f"load {others:.2f}" + (" (LOADED: something else is running)" if others > 1.3 else "")


def seconds(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def paired(ours, other, pairs=11, least=0.0) -> tuple[float, float, list[float]]:
    """Median seconds of both, and the ratio other / ours of each pair; A B, B A, A B … after a warm-up of both.

    A turn is as many calls as take ``least`` seconds, and counts as one of them: both sides find their caches warm.
    """
    calls = [1 + int(least / min(seconds(action) for _ in range(3))) for action in (ours, other)]
    a, b = [], []
    for pair in range(pairs):
        turns = ((ours, calls[0], a), (other, calls[1], b))
        for action, number, times in turns[:: 1 if pair % 2 == 0 else -1]:
            times.append(seconds(lambda: [action() for _ in range(number)]) / number)  # noqa: B023
    ratios = sorted(y / x for x, y in zip(a, b, strict=True))
    return statistics.median(a), statistics.median(b), ratios
