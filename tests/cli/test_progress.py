import io
import json
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import fouroptics as fo
from fouroptics.cli import main, progress

SMALL = {"mask.crosstalk": "0 um", "mask.pitch": "90 um", "mask.pixels": [100, 100], "layout.guard": "64 um"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    told = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: told.now))
    return told


@pytest.fixture
def terminal(monkeypatch):
    """Makes stderr a terminal; within a test, since pytest gives each part of one its own."""

    def made(kind="xterm"):
        monkeypatch.setenv("TERM", kind)
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return made


def work(clock, seconds, **options):
    """Ten parts a second."""
    with progress.bar("checking [red]m.h5", **options) as told:
        for part in range(10 * seconds + 1):
            clock.now = 100 + part / 10
            told("/entry/masks/level", part, 10 * seconds)


def test_a_log_gets_a_line_now_and_then(capsys, clock):
    work(clock, 20)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"fouroptics: checking [red]m.h5: {share}%" for share in (10, 35, 60, 85)]


def test_steps_that_a_person_knows_are_named(capsys, clock, terminal):
    work(clock, 4, named=True)
    assert capsys.readouterr().err == "fouroptics: checking [red]m.h5: /entry/masks/level: 50%\n"
    stderr = terminal()
    clock.now = 100.0
    work(clock, 4, named=True)
    assert "checking [red]m.h5: /entry/masks/level" in stderr.getvalue()


def test_short_work_is_told_nothing_of(capsys, clock):
    work(clock, 2)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_and_keeps_nothing(terminal, clock):
    stderr = terminal()
    work(clock, 20)
    shown = stderr.getvalue()
    assert "checking [red]m.h5" in shown
    assert "100%" in shown or "99%" in shown
    assert shown.endswith("\x1b[2K")  # the line is wiped


def test_a_terminal_shows_no_bar_for_an_instant(terminal, clock):
    stderr = terminal()
    with progress.bar("checking m.h5") as told:
        told("/entry/masks/level", 1, 2)
    assert stderr.getvalue() == ""


def test_a_terminal_that_moves_no_cursor_gets_lines(terminal, clock):
    stderr = terminal("dumb")
    work(clock, 4)
    assert stderr.getvalue() == "fouroptics: checking [red]m.h5: 50%\n"


def test_programs_get_nothing(terminal, clock):
    stderr = terminal()
    work(clock, 20, quiet=True)
    assert stderr.getvalue() == ""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two mask sets, kernels and a picture; every part of any work is told of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "_LINES", (0.0, 0.0))
    kernels = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    np.save("k.npy", kernels.numpy())
    bench = fo.Bench.load("slm-532nm").replace(SMALL)
    bench.save("bench.toml")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masks = fo.MaskSet.from_correlator(fo.Correlator4f.from_kernels(kernels, bench, (12, 12), masks="device"))
    for name in ("one.h5", "two.h5"):
        masks.save(name)
    fo.pictures.write("p.png", torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(0)))


VERBS = {
    "masks from-kernels k.npy --bench bench.toml --size 12 --out one.h5": ("checking one.h5", "writing one.h5"),
    "masks inspect one.h5": ("checking one.h5",),
    "masks validate one.h5": ("checking one.h5",),
    "masks diff one.h5 two.h5": ("checking one.h5", "checking two.h5"),
    "masks export one.h5 --process slm": ("checking one.h5",),
    "simulate one.h5 p.png": ("checking one.h5",),
}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_tell_how_far_they_are(capsys, folder, verb):
    assert main(verb.split()) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if ": note: " not in line]
    assert tuple(dict.fromkeys(line.split(": ")[1] for line in lines)) == VERBS[verb]
    assert all(0 <= int(line.split(": ")[2].rstrip("%")) <= 100 for line in lines)
    assert len(lines) > 10 * len(VERBS[verb])
    assert main([*verb.split(), "--json"]) == 0
    seen = capsys.readouterr()
    assert [line for line in seen.err.splitlines() if ": note: " not in line] == []
    json.loads(seen.out)
