import json
import subprocess
import sys

import pytest

from fouroptics import toml
from fouroptics.bench import Bench
from fouroptics.cli import main
from fouroptics.cli.train import table
from fouroptics.masks import MaskSet
from fouroptics.pictures import read


def run(capsys, *arguments):
    status = main(arguments)
    seen = capsys.readouterr()
    return status, seen.out, seen.err


def test_report_of_a_shipped_bench(capsys):
    status, out, err = run(capsys, "bench", "report", "slm-532nm")
    assert (status, err) == (0, "")
    assert "Everything fits." in out
    status, out, _ = run(capsys, "bench", "report", "slm-532nm", "--size", "224x224", "--channels", "16x3", "--json")
    found = json.loads(out)
    assert status == 0
    assert not found["ok"]
    assert {"mask-bins"} <= {problem["code"] for problem in found["problems"]}


def test_solve_writes_a_bench_that_passes(capsys, tmp_path):
    out = tmp_path / "my bench µ.toml"
    arguments = (
        "--size",
        "64x48",
        "--wavelength",
        "633 nm",
        "--input-pitch",
        "12 um",
        "--mask-pitch",
        "6 um",
    )
    status, said, _ = run(capsys, "bench", "solve", *arguments, "--kernel", "5", "--out", str(out))
    assert status == 0
    assert "Everything fits." in said
    bench = Bench.load(out)
    assert bench.sampling((64, 48), kernel=5).ok
    assert bench.name == "my bench µ"
    before = out.read_bytes()
    status, _, err = run(capsys, "bench", "solve", *arguments, "--out", str(out))
    assert status == 2
    assert "exists already" in err
    assert out.read_bytes() == before


def test_init_writes_a_bench_that_reports_and_never_overwrites(capsys, tmp_path):
    folder = tmp_path / "new" / "design"
    assert run(capsys, "init", str(folder))[0] == 0
    assert sorted(p.name for p in folder.iterdir()) == ["bench.toml", "recipe.toml", "tolerances.toml"]
    assert run(capsys, "bench", "report", str(folder / "bench.toml"))[0] == 0
    assert Bench.load(folder / "bench.toml") == Bench.load("slm-532nm")
    (folder / "recipe.toml").write_text("mine")
    status, _, err = run(capsys, "init", str(folder))
    assert status == 2
    assert "already there: bench.toml, recipe.toml, tolerances.toml" in err
    status, _, err = run(capsys, "bench", "report", str(folder))
    assert "is a folder" in err
    assert (folder / "recipe.toml").read_text() == "mine"


def test_demo_goes_the_whole_road(capsys, tmp_path):
    out = tmp_path / "runs" / "demo"
    status, said, _ = run(capsys, "demo", "--out", str(out), "--pictures", "300", "--seeds", "1", "--json")
    summary = json.loads(said)
    assert status == 0
    assert summary["masks_read_back_bit_for_bit"]
    assert summary["masks_follow_the_kernels"] > 0.99
    assert set(summary["accuracy"]) == {"teacher", "student-alone", "student"}
    assert summary["function"] == "rectified, then an MLP"
    assert read(out / "overview.png").shape[0] == 3
    assert MaskSet.load(out / "masks.h5").select(outputs=[0]) is not None
    assert (out / "run" / "seed-0" / "student.safetensors").is_file()
    assert "linear, affine" in (out / "report.txt").read_text(encoding="utf-8")
    assert run(capsys, "evaluate", str(out / "run"))[0] == 0  # moved into place, it is a run like any other
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("…", encoding="utf-8")
    status, _, err = run(capsys, "demo", "--out", str(tmp_path / "mine"))
    assert status == 2
    assert "not made by this command" in err


@pytest.mark.slow
def test_the_whole_demo_shows_what_it_says(capsys, tmp_path):
    """A teacher that has learned the shapes, rectified students near it, and an affine one far behind all of them."""
    status, said, _ = run(capsys, "demo", "--out", str(tmp_path / "demo"), "--json")
    summary = json.loads(said)
    assert status == 0 and summary["masks_read_back_bit_for_bit"]
    means = {name: value["mean"] for name, value in summary["accuracy"].items()}
    assert means["teacher"] >= 0.9
    assert min(means["student"], means["student-alone"]) >= summary["accuracy_linear"]["mean"] + 0.3
    assert summary["accuracy_linear"]["mean"] <= 0.45


@pytest.mark.parametrize(
    ("seeds", "alone", "taught", "says"),
    [
        ([0, 1, 2], (0.70, 0.01), (0.72, 0.01), "brings +2.00 points, more than the seeds' spread (1.41)"),
        ([0, 1, 2], (0.72, 0.01), (0.71, 0.01), "brings -1.00 points, no difference beyond the seeds' spread (1.41)"),
        ([0], (0.70, 0.0), (0.72, 0.0), ""),
    ],
)
def test_a_teacher_s_gain_is_held_against_the_spread_of_seeds(seeds, alone, taught, says):
    """The root of the sum of both variances: √2 points for two of one point each."""
    results = {
        name: {"accuracy": {"mean": mean, "std": spread}, "seeds": seeds}
        for name, (mean, spread) in (("student-alone", alone), ("student", taught))
    }
    said = table({"runs/x": {"name": "x", "results": results}})
    assert says in said and ("brings" in said) == bool(says)


def test_a_recipe_is_trained_gone_on_with_and_compared(capsys, tmp_path):
    out, changes = tmp_path / "a b", ["--set", "data.options={ count = 200 }", "--set", "train.epochs=1"]
    fast = ["--set", "teacher.epochs=1", "--seed", "0", "--seed", "1"]
    status, said, _ = run(capsys, "train", "shapes-demo", "--out", str(out), *changes, *fast)
    assert status == 0
    assert "2 seeds, test" in said
    assert "the teacher brings" in said
    status, said, _ = run(capsys, "train", "shapes-demo", "--out", str(out), *changes, *fast, "--json")
    summary = json.loads(said)
    assert summary["results"]["student"]["seeds"] == [0, 1]
    status, said, _ = run(capsys, "evaluate", str(out), str(out))
    assert status == 0
    assert "student-alone" in said
    broken = 'stage=[{name="noise",\n learn=["backend"]}]'  # TOML breaks no table in braces
    status, _, err = run(capsys, "train", "shapes-demo", "--out", str(out), "--set", broken)
    assert status == 2 and "--set stage" in err and "stands on one line" in err and err.count("\n") == 1
    status, _, err = run(capsys, "train", "shapes-demo", "--out", str(out), "--set", "train.epoch=1")
    assert status == 2
    assert "train.epoch: unknown key; did you mean 'epochs'?" in err
    status, _, err = run(capsys, "train", "shapes-demo", "--out", str(out))
    assert status == 2
    assert "is a run of another recipe" in err
    status, _, err = run(capsys, "train", "shapes-dem", "--out", str(out))
    assert "did you mean 'shapes-demo'?" in err
    status, _, err = run(capsys, "evaluate", str(tmp_path))
    assert "is no run" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("bench", "report", "slm-532"), "did you mean 'slm-532nm'?"),
        (("bench", "report", "slm-532nm", "--size", "3y"), "--size"),
        (("bench", "report", "slm-532nm", "--kernel", "65"), "larger than the picture"),
        (("bench", "report", "slm-532nm", "--channels", "0x3"), "16x3 (outputs x inputs)"),
        (("bench", "report", "slm-532nm", "--channels", "4"), "16x3 (outputs x inputs)"),
        (("bench", "report", "slm-532nm", "--kernel", "7.5"), "7, or 7x5"),
        (("bench", "report", "slm-532nm", "--size", "-4x4"), "--size"),
        (("bench", "report"), "Missing argument"),
        (("bench", "repot"), "No such command"),
        (("report-everything",), "No such command"),
        (("demo", "--threads", "0"), "--threads"),
        (("demo", "--depth", "3"), "No such option"),
        (
            (
                "bench",
                "solve",
                "--size",
                "8x8",
                "--wavelength",
                "532",
                "--input-pitch",
                "8 um",
                "--mask-pitch",
                "8 um",
            ),
            "wavelength: ",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_2(capsys, arguments, says):
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("fouroptics: ")
    assert err.count("\n") == 1
    assert says in err
    status, out, err = run(capsys, *arguments, "--json")
    error = json.loads(out)["error"]
    assert status == 2
    assert err == ""
    assert set(error) == {"what", "where", "mend"}
    assert error["what"]


def test_a_bench_file_names_itself_in_its_errors(capsys, tmp_path):
    path = tmp_path / "b.toml"
    path.write_text(Bench.load("slm-532nm").to_toml().replace("532 nm", "532 m"), encoding="utf-8")
    status, _, err = run(capsys, "bench", "report", str(path))
    assert status == 2
    assert err == (
        f"fouroptics: {path}: source.wavelength: 532 m is not plausible here (above 20 um); did you mean '532 nm'?\n"
    )


@pytest.mark.parametrize("arguments", [(), ("bench",)])
def test_no_verb_shows_the_help_and_no_complaint(capsys, arguments):
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert "Usage" in out
    assert err == ""


@pytest.mark.parametrize("name", ["~nouser/b.toml", "x" * 300, "nul\0byte.toml"])
def test_names_that_no_system_allows_are_no_bench(capsys, name):
    status, _, err = run(capsys, "bench", "report", name)
    assert status == 2
    assert "no such bench" in err


def test_a_long_name_still_makes_a_bench_that_loads(capsys, tmp_path):
    out = tmp_path / ("b" * 150 + ".toml")
    pitches = ("--wavelength", "532 nm", "--input-pitch", "8 um", "--mask-pitch", "8 um")
    assert run(capsys, "bench", "solve", "--size", "32x32", *pitches, "--out", str(out))[0] == 0
    assert Bench.load(out).name == "b" * 100


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_interrupt_says_so_and_a_reader_who_leaves_is_no_error(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(toml, "load", interrupted)
    status, _, err = run(capsys, "bench", "report", "slm-532nm")
    assert status == 130
    assert "stopped by the keyboard" in err
    command = f"'{sys.executable}' -m fouroptics bench report slm-532nm | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""


def test_help_and_version_come_quickly_because_no_library_is_loaded():
    heavy = ["torch", "scipy", "matplotlib", "pint", "h5py", "numpy"]
    for arguments in (
        ["--help"],
        ["bench", "--help"],
        ["bench", "solve", "--help"],
        ["--version"],
        ["nonsense"],
    ):
        code = (
            "import sys; from fouroptics.cli import main; status = main(sys.argv[1:]); "
            f"print('loaded', [m for m in {heavy} if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert "loaded []" in done.stdout, arguments


def test_a_report_waits_for_neither_torch_nor_matplotlib():
    code = (
        "import sys; from fouroptics.cli import main; main(['bench', 'report', 'slm-532nm']);"
        "print('loaded', [m for m in ('torch', 'matplotlib', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "loaded []" in done.stdout
