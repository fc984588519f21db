"""How much memory is free, so that what cannot fit is refused before it is tried."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import torch

from fouroptics.errors import InputError

WORTH_ASKING = 2**28  # below a quarter of a gibibyte nobody looks


def available(device: torch.device | str = "cpu") -> int:
    """Bytes that a new tensor could take on ``device`` now."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if sys.platform == "win32":
        return _windows_free()
    return min(_unix_free(), _container_free())


def require(nbytes: int, device: torch.device | str, *, what: str, mend: str) -> None:
    """Refuse a calculation that needs more memory than there is."""
    if nbytes < WORTH_ASKING:
        return
    free = available(device)
    if nbytes > free:
        raise InputError(f"{what} needs {nbytes / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free", mend=mend)


def _unix_free() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _container_free() -> int:
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return sys.maxsize
    return sys.maxsize if limit == "max" else max(0, int(limit) - used)


def _windows_free() -> int:
    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong)
            for name in ("total", "free", "page", "page_free", "virtual", "virtual_free", "ext")
        ]

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined,unused-ignore]
    return int(status.free)
