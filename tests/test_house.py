"""The rules of the house, checked by reading the code: who may import whom, what is packed, what nobody may write."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = {"fouroptics": ROOT / "fouroptics", "fouroptics.models": ROOT / "models"} | {
    "fouroptics.calibration": ROOT / "calibration"
}
# From the ground up: a room may import from itself and from those before it.
ROOMS = [
    "errors", "files", "toml", "units", "memory", "pictures", "tensors", "optics", "devices", "bench",
    "imperfections",
    "correlator", "masks", "studies", "models", "calibration", "report", "cli", "__main__",
]  # fmt: skip


def modules():
    """All modules: dotted name → path."""
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *parts]).removesuffix(".__init__"), path


def room(name):
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path):
    """Every module of ours that a file names in an import, inside functions and under TYPE_CHECKING included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module and node.module.split(".")[0] == "fouroptics":
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "fouroptics")


def test_imports_go_one_way():
    checked = 0
    for name, path in modules():
        if name == "fouroptics":
            continue  # the front door, which loads what is asked for
        for target in imports(path):
            if target in ("fouroptics", "fouroptics.__version__"):
                continue
            checked += 1
            assert ROOMS.index(room(target)) <= ROOMS.index(room(name)), f"{name} imports {target}, which is above it"
    assert checked > 50


def test_the_wall_test_sees_a_breach(tmp_path):
    (tmp_path / "bad.py").write_text("def f():\n    from fouroptics.correlator import Correlator4f\n")
    assert list(imports(tmp_path / "bad.py")) == ["fouroptics.correlator.Correlator4f"]
    assert ROOMS.index("correlator") > ROOMS.index("optics")


def test_the_list_of_packages_is_every_folder_with_an_init():
    found = {name for name, path in modules() if path.name == "__init__.py"}
    assert found == set(PYPROJECT["tool"]["setuptools"]["packages"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # setuptools would pack what an earlier build left there
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_the_tree_and_nothing_else(wheel):
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = {"fouroptics/py.typed"}
    for package, folder in FOLDERS.items():
        inside = Path(*package.split("."))
        kept = [*folder.rglob("*.py"), *folder.rglob("*.toml")]
        wanted |= {(inside / path.relative_to(folder)).as_posix() for path in kept}
    assert packed == wanted
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


@pytest.mark.parametrize("name", ["models", "calibration"])
def test_bare_names_are_refused(name):
    done = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"imported as fouroptics.{name}" in done.stderr
    __import__(f"fouroptics.{name}")


def test_importing_the_package_loads_no_library():
    code = "import sys, fouroptics; print(sorted({'torch','numpy','pint','pydantic','typer'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    import fouroptics

    assert all(getattr(fouroptics, name) is not None for name in fouroptics.__all__)
    assert set(fouroptics.__all__) <= set(dir(fouroptics))
    with pytest.raises(AttributeError):
        _ = fouroptics.nothing


def test_versions_agree():
    import fouroptics

    assert PYPROJECT["project"]["version"] == fouroptics.__version__
    assert f"## {fouroptics.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


FORBIDDEN = {"torch.load", "pickle", "print", "eval", "exec"}
PICKLING = {"broadcast_object_list", "all_gather_object", "gather_object", "scatter_object_list"}  # between processes


def test_nothing_is_unpickled_and_no_library_prints():
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                allowed = called == "print" and room(name) == "cli"
                assert allowed or called not in FORBIDDEN, f"{path}: {called}"
                assert called.split(".")[-1] not in PICKLING, f"{path}: {called}"
            if isinstance(node, ast.Import):
                assert "pickle" not in [alias.name for alias in node.names], path


def test_text_files_are_opened_as_utf_8():
    for _, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            if called in ("read_text", "write_text") and path.name != "memory.py":  # the kernel's files are ASCII
                assert "encoding" in {keyword.arg for keyword in node.keywords}, f"{path}:{node.lineno}"


def test_no_file_is_too_long_to_read():
    for _, path in modules():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, path
