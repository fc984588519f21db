"""Memory that is kept for the next step, counted in pages that the system hands out."""

import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import torch
from fouroptics.memory import keep_pages
if sys.argv[1] == "keep":
    assert keep_pages()
def work():
    for _ in range(10):
        torch.ones(2**24).sum()
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")
def test_what_is_freed_is_there_for_the_next_step():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "leave")
    }
    assert faults["keep"] < faults["leave"] / 10 + 10


FREE = """
import torch
from fouroptics import memory
memory._unix_free = memory._container_free = lambda: 2**20  # a system that is full, but for what we hold
assert memory.keep_pages()
pictures = torch.ones(2**26)
held = memory.available()
del pictures
print(memory.available() - held)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")
def test_what_is_kept_is_not_called_used():
    done = subprocess.run([sys.executable, "-c", FREE], capture_output=True, text=True, check=True)
    assert int(done.stdout) == pytest.approx(2**28, rel=0.1)
