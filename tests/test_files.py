import json
import os
from pathlib import Path

import pytest

from fouroptics.errors import FailedRun, InputError
from fouroptics.files import clear_unfinished, whole_folder, write_new, write_whole


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    write_whole(target, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FailedRun, match="No space left"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_writer_left_is_cleared_and_nothing_else(tmp_path):
    kept = ["a.txt", ".a.txt", ".notes-2026", "masks.h5-0123456789ab", ".gitignore"]
    for name in (*kept, ".masks.h5-0123456789ab", ".state.safetensors-00ff00ff00ff"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".folder-0123456789ab").mkdir()
    clear_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, ".folder-0123456789ab"}


def test_new_files_never_replace(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        write_new(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_text() == "mine"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    out = tmp_path / "runs" / "demo"
    with pytest.raises(RuntimeError), whole_folder(out, {}) as folder:
        (folder / "half").write_text("…", encoding="utf-8")
        raise RuntimeError
    assert list((tmp_path / "runs").iterdir()) == []
    with whole_folder(out, {"n": 1}) as folder:
        (folder / "a").write_text("first")
    with whole_folder(out, {"n": 2}) as folder:
        (folder / "b").write_text("second")
    assert sorted(p.name for p in out.iterdir()) == ["b", "summary.json"]
    assert json.loads((out / "summary.json").read_text()) == {"program": "fouroptics", "holds": ["b"], "n": 2}
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["demo"]


@pytest.mark.parametrize("content", [{"thesis.tex": "…"}, {"summary.json": "{}"}, {"summary.json": "[1]"}])
def test_a_folder_that_is_not_ours_is_left_alone(tmp_path, content):
    out = tmp_path / "work"
    out.mkdir()
    for name, text in content.items():
        (out / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="not made by this command of fouroptics"), whole_folder(out, {}):
        pass
    assert sorted(p.name for p in out.iterdir()) == sorted(content)
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(InputError, match="not made by this command of fouroptics"), whole_folder(file, {}):
        pass
    assert file.read_text() == "mine"


def test_what_was_put_into_a_folder_since_is_not_lost(tmp_path):
    """A training in a demo's folder, or a seed that joined the demo's own."""
    out = tmp_path / "demo"
    with whole_folder(out, {}) as folder:
        (folder / "run").mkdir()
        (folder / "run" / "a").write_text("first")
    (out / "run" / "mine").write_text("hours of work")
    with pytest.raises(InputError, match="holds run/mine, which was put there since, and"), whole_folder(out, {}):
        pass
    assert (out / "run" / "mine").read_text() == "hours of work" and (out / "run" / "a").is_file()
    (out / "run" / "mine").unlink()
    with whole_folder(out, {}) as folder:
        (folder / "a").write_text("second")
    assert not (out / "run").exists()


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one_there(tmp_path, monkeypatch):
    out = tmp_path / "demo"
    with whole_folder(out, {}) as folder:
        (folder / "a").write_text("first")
    plain = Path.replace

    def stubborn(self, target):
        if Path(target) == out and not self.name.endswith("-old"):
            raise PermissionError(13, "Permission denied")
        return plain(self, target)

    monkeypatch.setattr(Path, "replace", stubborn)
    with pytest.raises(InputError, match="Permission denied"), whole_folder(out, {}) as folder:
        (folder / "b").write_text("second")
    assert (out / "a").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    try:
        (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    except OSError:
        pytest.skip("no links on this system")
    with whole_folder(tmp_path / "link", {}) as folder:
        (folder / "a").write_text("first")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").read_text() == "first"


def test_files_get_the_rights_that_the_user_s_mask_leaves(tmp_path):
    (tmp_path / "plain").write_text("a")
    write_whole(tmp_path / "ours", b"a")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_folders_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"), whole_folder(tmp_path / "file" / "out", {}):
        pass
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / "nowhere" / "a", b"")
