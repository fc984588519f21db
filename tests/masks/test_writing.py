"""A set is written whole or not at all: on a full disk, and under a key that stops the program."""

import shutil
import signal
import subprocess
import sys

import pytest

from fouroptics.masks import MaskSet, h5, h5_write
from tests.masks.made import masks_of


@pytest.fixture(scope="module")
def masks():
    return masks_of({"preset": "slm-phase-8bit", "crosstalk": "0 um"}, (2, 1), side=98)


FULL = """
import resource, signal, sys
from fouroptics import MaskSet
from fouroptics.errors import FailedRun
masks = MaskSet.load(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for room in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        masks.save(sys.argv[2])
    except FailedRun as error:
        told = str(error)
        print("refused")
print(told, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_full_disk_is_told_in_a_line_and_leaves_the_old_file(masks, tmp_path):
    good, target = tmp_path / "good.h5", tmp_path / "out" / "masks.h5"
    target.parent.mkdir()
    masks.save(good)
    shutil.copy(good, target)
    size = good.stat().st_size
    rooms = [0, 100, 3000, *range(5000, size, 10_000), size - 1]
    command = [sys.executable, "-c", FULL, str(good), str(target), *map(str, rooms)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout == "refused\n" * len(rooms)
    assert done.stderr.count("\n") == 1
    assert "masks.h5: cannot be written (File too large)" in done.stderr
    assert target.read_bytes() == good.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["masks.h5"]


def test_the_keyboard_stops_every_moment_of_a_save(masks, tmp_path, monkeypatch):
    """However deep in HDF5's calls the key is pressed, it is heard, and the file is let go of."""
    written, plain = [], h5_write.Sink.write
    due = 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs hear no key

    def pressed(self, data):
        written.append(len(data))
        if len(written) == due:
            signal.raise_signal(signal.SIGINT)
        return plain(self, data)

    monkeypatch.setattr(h5_write.Sink, "write", pressed)
    masks.save(tmp_path / "masks.h5")
    kept, moments = (tmp_path / "masks.h5").read_bytes(), range(1, len(written) + 1, 3)
    assert len(moments) > 10
    for moment in moments:
        written, due = [], moment
        with pytest.raises(KeyboardInterrupt):
            masks.save(tmp_path / "masks.h5")
    assert (tmp_path / "masks.h5").read_bytes() == kept
    assert [path.name for path in tmp_path.iterdir()] == ["masks.h5"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_save_and_a_load_tell_how_far_they_are(masks, tmp_path, monkeypatch):
    monkeypatch.setattr(h5, "SLAB", 2**14)
    for work in (masks.save, MaskSet.load):
        told = []
        work(tmp_path / "masks.h5", progress=lambda *all_of_it, told=told: told.append(all_of_it))
        names, done, total = zip(*told, strict=True)
        assert len(set(total)) == 1
        assert [*done] == sorted(done)
        assert done[-1] == total[-1]
        assert 0 < done[0] < total[0] / 10
        assert names.count("/entry/masks/amplitude") > 4
    with pytest.raises(RuntimeError, match="enough"):
        MaskSet.load(tmp_path / "masks.h5", progress=enough)
    with pytest.raises(RuntimeError, match="enough"):
        masks.save(tmp_path / "masks.h5", progress=enough)
    assert [path.name for path in tmp_path.iterdir()] == ["masks.h5"]


def enough(name, done, total):
    if name == "/entry/masks/level":
        raise RuntimeError("enough")
