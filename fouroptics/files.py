"""Reading and writing so that nothing half-written is ever found: a temporary beside the target, then one rename."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fouroptics.errors import FailedRun, InputError

MARKER = "summary.json"  # a folder that holds it, written by this program, is ours to replace
PROGRAM = "fouroptics"
_UNFINISHED = re.compile(r"\..+-[0-9a-f]{12}")


def is_file(path: Path) -> bool:
    """Whether a file stands there; a name that no system allows is no file."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder stands there."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def read_text(path: Path) -> str:
    """A UTF-8 text file, with or without a byte-order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("the file is not UTF-8 text", where=str(path), mend="save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path)) from None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside the target to write under; what was written is put in its place, on the disk, in one rename."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def clear_unfinished(folder: Path) -> None:
    """Remove what writers that were killed left beside their targets. Nobody else may be writing there."""
    for left in folder.iterdir():
        if _UNFINISHED.fullmatch(left.name) and left.is_file():
            left.unlink(missing_ok=True)


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    with whole_file(Path(path)) as temporary, temporary.open("xb") as file:
        file.write(content)


def write_new(path: str | Path, content: bytes) -> None:
    """Like ``write_whole``, but what exists is somebody's work and is never replaced."""
    if Path(path).exists():
        raise InputError("exists already", where=str(path), mend="give another name, or move it away")
    write_whole(path, content)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder; nothing is left in it, and a process that is killed lets go.

    Where the system or the disk knows no locks, nobody is kept out.

    Raises:
        InputError: another is in it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    place = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a disk without locks
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                mend = "wait until it ends, or give --out another name"
                raise InputError("another process is at work in it", where=str(folder), mend=mend) from None
        yield
    finally:
        os.close(place)


@contextmanager
def whole_folder(out: str | Path, summary: dict[str, Any]) -> Iterator[Path]:
    """Fill a folder aside and put it in place when all is written.

    Only an absent, an empty or an own folder is replaced, that holds nothing but what was put there.
    """
    out = Path(out).resolve()
    _refuse_foreign(out)
    aside = out.with_name(f".{out.name}-{secrets.token_hex(6)}")
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        raise unwritable(out, error) from None
    try:
        yield aside
        about = {"program": PROGRAM, "holds": _held(aside)} | summary
        write_whole(aside / MARKER, json.dumps(about, indent=2).encode())
        _put_in_place(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put_in_place(aside: Path, out: Path) -> None:
    """Two renames; if the second fails, the old folder is moved back."""
    old = out.with_name(f"{aside.name}-old")
    try:
        if out.exists():
            out.replace(old)
        aside.replace(out)
    except OSError as error:
        if old.exists() and not out.exists():
            old.replace(out)
        raise unwritable(out, error) from None
    shutil.rmtree(old, ignore_errors=True)


def _held(folder: Path) -> list[str]:
    """All files in it, by their way from there."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir())


def _refuse_foreign(out: Path) -> None:
    if not out.exists():
        return
    try:
        told = json.loads((out / MARKER).read_text(encoding="utf-8")) if any(out.iterdir()) else {"program": PROGRAM}
        ours = told.get("program") == PROGRAM and told.get("kind") != "run"  # trainings are hours of work
        others = sorted({*_held(out)} - {*told.get("holds", ()), MARKER}) if ours else []
    except (OSError, ValueError, AttributeError, TypeError):
        ours, others = False, []
    mend = "give --out another name"
    if not ours:
        raise InputError("exists and was not made by this command of fouroptics", where=str(out), mend=mend)
    if others:
        what = f"holds {others[0]}, which was put there since, and would be lost"
        raise InputError(what, where=str(out), mend=f"{mend}, or move it away")


def unwritable(path: Path, error: OSError) -> InputError | FailedRun:
    """A place that nobody can write to is a mistake; a disk that is full ends work that was right."""
    what = f"cannot be written ({error.strerror or ' '.join(str(error).split())[:120]})"
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return FailedRun(f"{path}: {what}; free some space, or choose another disk")
    return InputError(what, where=str(path), mend="choose a folder you can write to")
