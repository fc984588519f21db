"""What a deployed run's folder tells, and that it is missed when it is gone."""

import json
import shutil

import pytest
from fouroptics.models.training import Run, data, load, train
from fouroptics.models.training.data import of_section
from fouroptics.models.training.deploy import evaluate_file
from fouroptics.models.training.ladder_figure import costs, figure
from fouroptics.models.training.metrics import measured
from fouroptics.models.training.stages import few
from matplotlib.collections import PathCollection
from typer.testing import CliRunner

import fouroptics as fo
from fouroptics.cli.main import app
from fouroptics.errors import InputError
from tests.models.training.test_deploy import QUICK, folders, stage

LEFT = {
    "evaluate.rungs": ["student", "quantized"],
    "evaluate.controls": ["optics-off", "ridge"],
    "distill.loss": "none",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, wide_pixels):
    changes = QUICK | LEFT | {"bench": wide_pixels, "stage": [stage(), stage(name="two")]}
    return train("shapes-bench", tmp_path_factory.mktemp("deployed") / "run", changes=changes)


def test_controls_stand_beside_the_ladder_on_its_pictures(run):
    found = json.loads((run.seed(0) / "ladder.json").read_text())
    pictures = few(of_section(run.recipe.data).test, 20)
    for kind in ("optics-off", "ridge"):
        assert found["controls"][kind] == measured(load(run, name=f"control-{kind}"), pictures)
    axes = figure(found, "x").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "student", "quantized", "optics-off,\nwithout a bench", "ridge,\nwithout a bench"
    ]  # fmt: skip


def test_a_file_tells_all_that_was_measured(run):
    found, masks = json.loads((run.seed(0) / "ladder.json").read_text()), fo.MaskSet.load(run.seed(0) / "masks.h5")
    assert masks.results["budget"] == found["budget"] and masks.results["controls"] == found["controls"]
    assert masks.results["without_stages"] == found["without_stages"]
    said = CliRunner().invoke(app, ["masks", "inspect", str(run.seed(0) / "masks.h5")]).output
    assert "made by" in said and max(map(len, said.splitlines())) < 200  # and not the recipe it was made by


def test_runs_stand_where_their_ladders_and_budgets_say(run, tmp_path):
    away = {"budget": {"latency_s": 0.5, "masks": 1, "captures": 2}, "ladder": {"noise": {"mean": 0.25, "std": 0.125}}}
    axes = costs({"here": run.summary, "far/away": away, "never": {"results": {}}}).axes[0]
    told = json.loads((run.seed(0) / "ladder.json").read_text())
    here, there = (tuple(text.xy) for text in axes.texts)
    assert here == (1e3 * told["budget"]["latency_s"], 100 * told["rungs"]["quantized"]["accuracy"])
    assert there == (500.0, 25.0) and axes.texts[1].get_text() == "away, noise\n1 mask, 2 captures"
    (whole,) = next(one for one in axes.collections if isinstance(one, PathCollection)).get_offsets()
    assert tuple(whole) == (here[0], 100 * told["rungs"]["student"]["accuracy"])
    out = tmp_path / "costs.png"
    done = CliRunner().invoke(app, ["evaluate", str(run.folder), "--png", str(out)])
    assert done.exit_code == 0 and out.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="no run was measured on its bench"):
        costs({"never": {"results": {}}})


@pytest.mark.parametrize("name", ["masks.h5", "stage-0.safetensors", "stage-1.safetensors"])
def test_a_run_that_was_copied_by_half_is_refused(run, tmp_path, name):
    there = Run.open(shutil.copytree(run.folder, tmp_path / "run"))
    train(there.recipe, there.folder)
    (there.seed(0) / name).unlink()
    with pytest.raises(InputError, match=rf"{name} is gone, of which ladder\.json tells; copy the run whole, or"):
        train(there.recipe, there.folder)
    (there.seed(0) / "ladder.json").unlink()
    if name.startswith("stage-0"):  # of which the other was made
        with pytest.raises(InputError, match=r"stage-0\.safetensors is gone, .* or remove stage-1\.safetensors"):
            train(there.recipe, there.folder)
        (there.seed(0) / "stage-1.safetensors").unlink()
    train(there.recipe, there.folder)
    assert (there.seed(0) / name).is_file()


def test_a_run_that_goes_on_with_another_program_says_so(run, tmp_path):
    there = Run.open(shutil.copytree(run.folder, tmp_path / "run"))
    path = there.folder / "environment.json"
    began = json.loads(path.read_text())
    path.write_text(json.dumps(began | {"fouroptics": "0.0.1"}))
    with pytest.warns(UserWarning, match=f"goes on with fouroptics {fo.__version__} for 0.0.1.*: it ends otherwise"):
        train(there.recipe, there.folder)
    path.write_text(json.dumps({key: value for key, value in began.items() if key != "fouroptics"}))
    train(there.recipe, there.folder)  # of a program that did not tell yet: no warning, which would be an error here


@pytest.mark.parametrize("sample", [40, 1500])
def test_a_file_knows_the_pictures_that_its_network_was_trained_on(tmp_path, wide_pixels, monkeypatch, sample):
    """Of many a sample: then others are there too, and what comes out is called no test."""
    monkeypatch.setattr(data, "SAMPLED", sample)
    where = folders(tmp_path / "pictures", 60)
    changes = QUICK | LEFT | {
        "bench": wide_pixels, "data.reader": "folders", "data.path": str(where), "data.options": {}, "stage": [],
        "evaluate.controls": [],
    }  # fmt: skip
    file = train("shapes-bench", tmp_path / "run", changes=changes).seed(0) / "masks.h5"
    assert evaluate_file(file, where)["pictures"] == 120  # its own test part
    shutil.move(where / "test" / "dark" / "0.png", where / "train" / "dark" / "new.png")
    shutil.copytree(where / "train", tmp_path / "other")
    if sample == 40:
        with pytest.warns(UserWarning, match="40 of 40 pictures that the network was trained on .* this is no test"):
            assert evaluate_file(file, tmp_path / "other")["pictures"] == 121
    else:
        with pytest.warns(UserWarning, match="120 of 121 pictures were trained on or chosen by, and are left out"):
            assert evaluate_file(file, tmp_path / "other")["pictures"] == 1
    assert len(fo.MaskSet.load(file).provenance["known"]) < 9000


@pytest.mark.parametrize("lens", ["lens1", "lens2"])
def test_a_lens_that_the_light_does_not_go_through_is_refused(tmp_path, wide_pixels, lens):
    bench = tmp_path / "narrow.toml"
    fo.Bench.load(wide_pixels).replace({f"{lens}.pupil": "2 mm"}).save(bench)
    with pytest.raises(InputError, match=rf"{lens}.*pupil"):
        train("shapes-bench", tmp_path / "run", changes=QUICK | LEFT | {"bench": str(bench), "stage": []})
    assert not (tmp_path / "run").exists()
