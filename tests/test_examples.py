"""The pages of documentation are run, and the guide names what there is."""

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from fouroptics.bench import Bench
from fouroptics.toml import part_of

ROOT = Path(__file__).parents[1]
GALLERY = sorted((ROOT / "examples" / "gallery").glob("[0-9]*.py"))


@pytest.mark.parametrize("page", GALLERY, ids=lambda page: page.stem)
def test_every_page_of_the_gallery_runs(page, tmp_path):
    done = subprocess.run([sys.executable, str(page), str(tmp_path)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "difference from conv2d" not in done.stdout or re.search(r"conv2d: \d\.\de-0[678]", done.stdout)
    assert list(tmp_path.glob("*.png"))


PAGES = [ROOT / "README.md", *sorted((ROOT / "examples" / "guide").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_lines_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks or page.stem not in ("README", "masks", "imperfections")
    lines: dict[str, object] = {}
    for block in blocks:  # one after another, as a reader types them
        exec(compile(block, page.name, "exec"), lines)


def _trainings():
    """The commands of the pages that train, as a shell reads them."""
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for block in re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE):
            for command in re.split(r"^(?= {4}\w)", block, flags=re.MULTILINE):
                if command.lstrip().startswith("fouroptics train "):
                    yield page.name, shlex.split(command, comments=True)[2:]


def test_every_recipe_s_command_of_the_guide_is_one_that_runs():
    from fouroptics.models.training.recipe import Recipe

    from fouroptics.cli.arguments import changed

    commands = list(_trainings())
    assert len(commands) > 20
    for page, (recipe, *words) in commands:
        if recipe.endswith(".toml"):  # a reader's own
            continue
        changes = changed([value for word, value in pairwise(words) if word == "--set"])
        assert Recipe.load(recipe, changes).name == recipe, page


def test_the_guide_names_every_field_that_can_be_off():
    from fouroptics.imperfections import FIELDS

    page = (ROOT / "examples" / "guide" / "imperfections.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page or f"`{name}.N`" in page for name in FIELDS)


def test_the_guide_explains_every_key_of_a_bench_and_no_other():
    page = (ROOT / "examples" / "guide" / "bench.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    explained = {}
    for section in sections:
        head, *rows = section.splitlines()
        keys = {key for row in rows if row.startswith("| `") for key in re.findall(r"`(\w+)`", row.split(" | ")[0])}
        for name in re.findall(r"\[(\w+)\]", head):
            explained[name] = keys
    parts = {name for name in Bench.model_fields if name not in ("format", "name")}
    assert set(explained) == parts
    for name in parts:
        assert explained[name] == set(part_of(Bench, name).model_fields), name


def test_the_guide_names_every_preset():
    page = (ROOT / "examples" / "guide" / "bench.md").read_text(encoding="utf-8")
    from fouroptics.bench.bench import _part_presets

    for section, known in _part_presets().items():
        for preset in known:
            assert f"`{preset}`" in page, f"{section}.{preset}"


def test_every_convention_names_a_test_that_exists():
    page = (ROOT / "examples" / "guide" / "conventions.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| convention")]
    assert len(lines) > 20
    for line in lines:
        named = re.search(r"`(tests/\S+\.py)::(test_\w+)`", line)
        assert named, line
        assert f"def {named[2]}(" in (ROOT / named[1]).read_text(encoding="utf-8"), named[2]


def test_the_guide_names_every_readout_and_companding():
    from fouroptics.devices import readout

    page = (ROOT / "examples" / "guide" / "physics.md").read_text(encoding="utf-8")
    assert all(f"`{word}`" in page for word in (*readout.READOUTS, *readout.COMPANDS))


def test_the_guide_explains_every_key_of_a_recipe_and_no_other():
    from fouroptics.models.training.recipe import Recipe

    page = (ROOT / "examples" / "guide" / "training.md").read_text(encoding="utf-8")
    parts = re.split(r"^##+ ", page.split("## The recipe")[1].split("## The run's folder")[0], flags=re.MULTILINE)
    explained = {}
    for part in parts:
        named = re.match(r"\[(\w+)\]", part)
        rows = [row.split(" | ")[0] for row in part.splitlines() if row.startswith("| `")]
        explained[named[1] if named else ""] = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    sections = {name for name in Recipe.model_fields if hasattr(part_of(Recipe, name), "model_fields")}
    assert set(explained) == sections | {""}
    assert explained[""] == set(Recipe.model_fields) - sections
    for name in sections:
        assert explained[name] == set(part_of(Recipe, name).model_fields), name
