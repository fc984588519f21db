"""Time and memory of one correlator from 128² to 4096²: close to N² log N, and what nbytes() says beforehand."""

import math
import subprocess
import sys
from pathlib import Path

import torch

import fouroptics as fo
from tests.speed import machine

SIDES = (128, 256, 512, 1024, 2048, 4096)


PEAK = """
import pathlib, re, sys, torch, fouroptics as fo

def top():
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024

def bank(side):
    return fo.Correlator4f.from_kernels(torch.randn(1, 1, 7, 7), fo.Bench.load("slm-532nm"), (side, side))

torch.set_num_threads(1)
torch.set_grad_enabled(False)
side = int(sys.argv[1])
bank(64).field(torch.rand(1, 1, 64, 64))
correlator, picture = bank(side), torch.rand(1, 1, side, side)
start = top()
correlator.field(picture)
print(top() - start)
"""


def peak(side):
    """What a field of this size adds to a fresh process at its highest, where the system tells (Linux)."""
    if not Path("/proc/self/status").exists():
        return "unknown"
    done = subprocess.run([sys.executable, "-c", PEAK, str(side)], capture_output=True, text=True, check=True)
    return f"{int(done.stdout) / 2**20:.1f} MiB"


def timed(side):
    """Seconds of a field, and of torch's bare transforms there and back on the same grid."""
    correlator, picture = bank(side), torch.rand(1, 1, side, side)
    padded = correlator.working_size

    def transforms():
        torch.fft.irfft2(torch.fft.rfft2(picture, s=padded), s=padded)

    with torch.no_grad():
        pairs = max(5, min(50, 2**24 // side**2))
        field, bare, _ = machine.paired(lambda: correlator.field(picture), transforms, pairs)
    return field, bare


def bank(side):
    return fo.Correlator4f.from_kernels(torch.randn(1, 1, 7, 7), fo.Bench.load("slm-532nm"), (side, side))


def growth(side):
    return side**2 * math.log2(side)


def main():
    print("\nOne correlator, 7×7 kernel, linear boundary, float32, forward; bare: torch's rfft2 and irfft2 alone")
    print("   side       field         bare   each / N² log N (1 at 512²)   peak memory   nbytes() said")
    found = {side: timed(side) for side in SIDES}
    units = [seconds / growth(512) for seconds in found[512]]
    for side, both in found.items():
        field, bare = (seconds * 1e3 for seconds in both)
        ours, theirs = (seconds / growth(side) / unit for seconds, unit in zip(both, units, strict=True))
        said = f"{bank(side).nbytes(1) / 2**20:.1f} MiB"
        print(f"  {side:>4}² {field:8.2f} ms  {bare:8.2f} ms {ours:14.2f} {theirs:12.2f} {peak(side):>15} {said:>15}")
