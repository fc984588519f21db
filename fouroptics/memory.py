"""How much memory is free, so that what cannot fit is refused before it is tried."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import torch

from fouroptics.errors import InputError

WORTH_ASKING = 2**28  # below a quarter of a gibibyte nobody looks
_keeps: list[bool] = []  # whether pages are kept, once it was asked for


def available(device: torch.device | str = "cpu") -> int:
    """Bytes that a new tensor could take on ``device`` now."""
    device = torch.device(device)
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    if sys.platform == "win32":
        return _windows_free()
    return min(_unix_free(), _container_free()) + _kept_free()


def require(nbytes: int, device: torch.device | str, *, what: str, mend: str) -> None:
    """Refuse a calculation that needs more memory than there is."""
    if nbytes < WORTH_ASKING:
        return
    free = available(device)
    if nbytes > free:
        raise InputError(f"{what} needs {nbytes / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free", mend=mend)


def keep_pages() -> bool:
    """Ask the C library to keep what is freed, for this process; whether it will.

    A step of training frees hundreds of megabytes and takes them again at once. glibc gives blocks of that size back to
    the system, which then hands out the same pages anew, each cleared: half of a step's time.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = ((-4, 0), (-1, -1), (-2, 2**26))  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
    _keeps.append(all([mallopt(name, value) == 1 for name, value in settings]))
    return _keeps[-1]


class _Heap(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    )]  # fmt: skip


def _kept_free() -> int:
    """What this process has freed and kept: the system counts it as used, and the next tensor takes it."""
    if not any(_keeps):
        return 0
    try:
        told = ctypes.CDLL(None).mallinfo2
    except AttributeError:  # before glibc 2.33
        return 0
    told.restype = _Heap
    return int(told().fordblks)


def _unix_free() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _container_free() -> int:
    """What the container's limit leaves; file cache that would be given up for us does not count as used."""
    for folder, limit_name, used_name in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            limit = int(Path(folder, limit_name).read_text())
            used = int(Path(folder, used_name).read_text())
            statistics = dict(line.split() for line in Path(folder, "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such controller, or the limit is the word "max"
            continue
        return max(0, limit - used + int(statistics.get("inactive_file", 0)))
    return sys.maxsize


def _windows_free() -> int:
    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong)
            for name in ("total", "free", "page", "page_free", "virtual", "virtual_free", "ext")
        ]

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined,unused-ignore]
    return int(status.free)
