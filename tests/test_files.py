import json
import os

import pytest

from fouroptics.errors import InputError
from fouroptics.files import whole_folder, write_new, write_whole


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    write_whole(target, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


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
    assert json.loads((out / "summary.json").read_text()) == {"program": "fouroptics", "n": 2}
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["demo"]


@pytest.mark.parametrize("content", [{"thesis.tex": "…"}, {"summary.json": "{}"}, {"summary.json": "[1]"}])
def test_a_folder_that_is_not_ours_is_left_alone(tmp_path, content):
    out = tmp_path / "work"
    out.mkdir()
    for name, text in content.items():
        (out / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="not made by fouroptics"), whole_folder(out, {}):
        pass
    assert sorted(p.name for p in out.iterdir()) == sorted(content)
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(InputError, match="not made by fouroptics"), whole_folder(file, {}):
        pass
    assert file.read_text() == "mine"


def test_folders_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"), whole_folder(tmp_path / "file" / "out", {}):
        pass
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / "nowhere" / "a", b"")
