"""``make lint``: mypy over an installed copy, from outside the checkout, where nothing hides a package from it.

From the checkout's root mypy finds ``fouroptics`` as a folder without ``models`` and ``calibration`` and passes on
less. So the number of files that it read is compared with the tree.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # setuptools would pack what an earlier build left there
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*pip, "--disable-pip-version-check", "--target", folder, str(ROOT)], check=True)
        command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "fouroptics"]
        cache = ["--cache-dir", str(ROOT / ".mypy_cache")]
        done = subprocess.run([*command, *cache], cwd=folder, capture_output=True, text=True)
    print(done.stdout + done.stderr, end="")
    if done.returncode:
        return done.returncode
    expected = sum(len(list((ROOT / part).rglob("*.py"))) for part in ("fouroptics", "models", "calibration"))
    read = int(re.search(r"(\d+) source file", done.stdout)[1])
    if read != expected:
        print(f"mypy read {read} files, the tree has {expected}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
