"""A run with a bench: its ladder, its file in another process, its stages, and what is refused."""

import json
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fouroptics.models import OSCLC
from fouroptics.models.reference import with_reference_set
from fouroptics.models.teachers import SmallCNN
from fouroptics.models.training import Recipe, Run, ridge, train
from fouroptics.models.training import ladder as ladder_of
from fouroptics.models.training.data import Part, of_section
from fouroptics.models.training.deploy import evaluate_file
from fouroptics.models.training.ladder import lost_to
from fouroptics.models.training.loop import Fitting
from fouroptics.models.training.recipe import RUNGS
from fouroptics.models.training.stages import Flawed, few, prepare, relearn, stage_of
from PIL import Image
from torch.utils.data import TensorDataset
from typer.testing import CliRunner

import fouroptics as fo
from fouroptics import Tolerances, toml
from fouroptics.cli.main import app
from fouroptics.errors import FailedRun, InputError
from fouroptics.tensors import load_tensors

QUICK = {
    "data.options": {"count": 200}, "data.augment": [], "teacher.epochs": 1, "teacher.widths": [4, 8],
    "train.epochs": 2,
    "train.batch": 20, "student.channels": [3, 4], "evaluate.draws": 2, "evaluate.pictures": 20,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small_bench(wide_pixels):
    QUICK["bench"] = wide_pixels


def stage(**told):
    return {"name": "one", "epochs": 1, "pictures": 40, "learn": ["backend"]} | told


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    stages = [stage(learn=["kernels", "backend"], noise=True, tolerances="lab-bench", draws=2), stage(name="two")]
    changes = QUICK | {"stage": stages}
    return train("shapes-bench", tmp_path_factory.mktemp("bench") / "run", changes=changes)


def test_a_ladder_has_every_rung(run):
    found = json.loads((run.seed(0) / "ladder.json").read_text())
    assert tuple(found["rungs"]) == RUNGS
    assert found["pictures"] == 20 and len(found["rungs"]["misaligned"]["draws"]) == 2
    assert found["rungs"]["student"] == found["rungs"]["folded"]
    assert {"nothing", "noise of the camera", "errors of the lenses", "the mask device"} <= set(found["parts"])
    drawn = {"aberration", "camera", "input", "mask", "reference", "source"}
    assert {f"drawn errors: {section}" for section in drawn} <= set(found["parts"])
    assert found["parts"]["the bench as it stands"] == found["rungs"]["quantized"]["accuracy"]
    assert found["parts"]["noise of the camera"] == found["rungs"]["noise"]["accuracy"]  # in the bench's own light
    told = {"nothing": 0.9, "errors of the lenses": 0.7, "the mask device": 0.8, "flicker of the mask": 0.75}
    losses = lost_to(told | {"the bench as it stands": 0.6, "noise of the camera": 0.4, "drawn errors: mask": 0.5})
    due = {"errors of the lenses": 0.2, "the mask device": 0.1}
    due |= {"flicker of the mask": 0.05}  # on top of its device
    due |= {"noise of the camera": 0.2, "drawn errors: mask": 0.1}  # of the bench as it stands
    assert losses == pytest.approx(due)
    assert found["budget"]["captures"] == 8 and found["budget"]["electrons_mean"] > 100
    assert {path.name for path in run.folder.glob("*.toml")} == {"recipe.toml", "bench.toml", "tolerances.toml"}
    assert set(run.summary["ladder"]) == set(RUNGS) and run.summary["budget"] == found["budget"]
    assert [*found["without_stages"]] == ["quantized", "noise", "misaligned"] == [*run.summary["without_stages"]]
    assert len(found["without_stages"]["misaligned"]["draws"]) == 2
    assert (run.seed(0) / "ladder.png").read_bytes().startswith(b"\x89PNG")


def test_the_exported_file_gives_the_quantized_rung_bit_for_bit(run):
    rungs = json.loads((run.seed(0) / "ladder.json").read_text())["rungs"]
    assert rungs["file"]["scores_sha256"] == rungs["quantized"]["scores_sha256"]
    path = run.seed(0) / "masks.h5"
    assert evaluate_file(path, None, 20)["scores_sha256"] == rungs["quantized"]["scores_sha256"]
    masks = fo.MaskSet.load(path)
    assert masks.results["rungs"]["quantized"] == rungs["quantized"]
    assert "/" not in masks.provenance["recipe"].replace("fouroptics-recipe/1", "")


def test_stages_changed_what_they_say_and_nothing_else(run):
    from fouroptics.tensors import load_tensors

    one, two = (load_tensors(run.seed(0) / f"stage-{n}.safetensors")[0] for n in (0, 1))
    changed = {name for name in one if not torch.equal(one[name], two[name])}
    assert changed and not any(name.startswith("osclc.bank") for name in changed)
    rows = [json.loads(line) for line in (run.seed(0) / "metrics.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows][-2:] == ["stage-0: one", "stage-1: two"]
    assert all(row["steps"] == 2 for row in rows[-2:])


def test_a_run_with_a_bench_goes_on_where_it_was(run, tmp_path):
    """A stage that is done over and a ladder that is measured over come out the same."""
    seed, names = run.seed(0), ("ladder.json", "stage-1.safetensors", "masks.h5")
    ladder, stage, masks = json.loads((seed / names[0]).read_text()), load_tensors(seed / names[1])[0], levels_of(run)
    for name in names:
        (seed / name).unlink()
    kept = (seed / "stage-0.safetensors").stat().st_mtime_ns
    train(run.recipe, run.folder)
    assert (seed / "stage-0.safetensors").stat().st_mtime_ns == kept
    again = load_tensors(seed / names[1])[0]
    assert all(torch.equal(value, again[name]) for name, value in stage.items()) and again.keys() == stage.keys()
    assert json.loads((seed / names[0]).read_text()) == ladder and torch.equal(levels_of(run), masks)


def levels_of(run):
    return fo.MaskSet.load(run.seed(0) / "masks.h5").correlator().masks


def test_a_ladder_that_was_stopped_measures_the_rest(run, tmp_path, monkeypatch):
    there = Run.open(shutil.copytree(run.folder, tmp_path / "run"))
    ladder = there.seed(0) / "ladder.json"
    due = json.loads(ladder.read_text())
    ladder.unlink()
    measured, seen, cut = ladder_of.measured, [], []

    def stops(network, pictures, **options):
        seen.append(network)
        if len(seen) == 9 and not cut:
            cut.append(seen.pop())
            raise FailedRun("a power cut")
        return measured(network, pictures, **options)

    monkeypatch.setattr(ladder_of, "measured", stops)
    with pytest.raises(FailedRun, match="a power cut"):
        train(there.recipe, there.folder)
    assert not ladder.exists()
    train(there.recipe, there.folder)
    assert json.loads(ladder.read_text()) == due and not (there.seed(0) / "ladder-begun.json").exists()
    together, seen[:] = len(seen), []
    ladder.unlink()
    train(there.recipe, there.folder)
    assert together == len(seen) > 9  # nothing of what stood already was measured again


def test_a_run_of_which_a_part_is_gone_is_named(run, tmp_path):
    there = Run.open(shutil.copytree(run.folder, tmp_path / "run"))
    (there.seed(0) / "student.safetensors").rename(tmp_path / "kept")
    with pytest.raises(InputError, match=r"student\.safetensors, of which it was made, is gone; copy the run whole"):
        train(there.recipe, there.folder)
    (tmp_path / "kept").rename(there.seed(0) / "student.safetensors")
    (there.seed(0) / "teacher.safetensors").unlink()
    with pytest.raises(InputError, match=r"student\.safetensors is there, and teacher\.safetensors"):
        train(there.recipe, there.folder)
    shutil.copy(run.seed(0) / "teacher.safetensors", there.seed(0))
    (there.seed(0) / "ladder.json").write_text('{"rungs": {"stu')
    with pytest.raises(InputError, match=r"ladder\.json: is no ladder; remove it"):
        train(there.recipe, there.folder)


def test_a_recipe_of_a_newer_version_is_named():
    told = Recipe.load("shapes-bench").to_dict() | {"format": "fouroptics-recipe/2", "novelty": 1}
    with pytest.raises(
        InputError, match=r"format 'fouroptics-recipe/2', and this program reads .*; a newer fouroptics"
    ):
        Recipe.from_dict(told)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stop.size": "4 mm"}, "stop.size: the stop passes 4 mm, the band needs 8.3"),
        ({"camera.pixels": [20, 20]}, "camera.pixels: the responses are .*, the sensor 80 um"),
        ({"input.pixels": [40, 20]}, "input.pixels: the pictures need .* device pixels, the panel has 20×40"),
        ({"link": None}, "link: no way from the camera to a computer"),
    ],
)
def test_a_bench_that_would_lose_something_unseen_is_refused(tmp_path, changes, words):
    path = other_bench(tmp_path, **changes)
    with pytest.raises(InputError, match=words):
        train("shapes-bench", tmp_path / "run", changes=QUICK | {"bench": path})
    assert not (tmp_path / "run").exists()


def test_pixels_that_were_learned_have_no_rungs_of_kernels(tmp_path):
    changes = QUICK | {"stage": [stage(learn=["masks", "backend"], quantize="soft")], "distill.loss": "none"}
    changes |= {"evaluate.rungs": ["tuned", "light", "quantized", "file"], "train.epochs": 1}
    run = train("shapes-bench", tmp_path / "run", changes=changes)
    found = json.loads((run.seed(0) / "ladder.json").read_text())["rungs"]
    assert [*found] == ["quantized", "file"] and found["file"] == found["quantized"]


def test_a_stage_is_chosen_on_benches_that_are_off(run):
    """In evaluation as in training, and the same each time."""
    network, known = OSCLC.from_maskset(run.seed(0) / "masks.h5"), fo.pictures.natural(8, 3, (16, 16))
    off = Flawed(network, Tolerances.load("lab-bench"), noise=False, draws=2, known=known).eval()
    as_due = Flawed(network, None, noise=False, draws=2, known=known).eval()
    with torch.no_grad():
        assert torch.equal(off(known), off(known)) and not torch.allclose(off(known), as_due(known), rtol=1e-3)
        torch.testing.assert_close(as_due(known), network(known))


def other_bench(folder, **changes):
    fo.Bench.load(QUICK["bench"]).replace(changes).save(folder / "other.toml")
    return str(folder / "other.toml")


def test_networks_of_a_run_are_taken_to_another_bench(run, tmp_path, monkeypatch):
    rungs = {"stage": [], "evaluate.rungs": ["student", "quantized", "file"]}
    shutil.copytree(run.folder, tmp_path / "source")
    monkeypatch.chdir(tmp_path)
    changes = QUICK | rungs | {"bench": other_bench(tmp_path, **{"reference.captures": 1}), "trained": "source"}
    monkeypatch.setattr(Fitting, "run", lambda self: pytest.fail("nothing is left to train"))
    there = train("shapes-bench", tmp_path / "there", changes=changes)
    for name in ("teacher", "student"):
        one, same = (load_tensors(one.seed(0) / f"{name}.safetensors") for one in (run, there))
        assert one[1] == same[1] and all(torch.equal(value, same[0][key]) for key, value in one[0].items())
    ladders = [json.loads((one.seed(0) / "ladder.json").read_text()) for one in (run, there)]
    assert ladders[0]["rungs"]["student"] == ladders[1]["rungs"]["student"]
    assert ladders[0]["budget"]["captures"] == 2 * ladders[1]["budget"]["captures"]
    assert ladders[1]["rungs"]["file"]["scores_sha256"] == ladders[1]["rungs"]["quantized"]["scores_sha256"]
    shutil.rmtree(tmp_path / "source")  # its networks are here now
    assert train(there.folder / "recipe.toml", there.folder).summary == there.summary


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"student.kernel": 3}, "trained: student.kernel is 3, and was 5 in"),
        ({"data.options": {"count": 201}}, "trained: data.options is"),
        ({"seeds": [0, 1]}, "has no teacher, student of seed 1; --seed 0"),
        ({"distill.also_without": True}, "distill.also_without is True, and was False"),
        ({"bench": "", "stage": []}, "nothing is left to do without a bench"),
        ({"trained": "nowhere"}, "nowhere: is no run"),
    ],
)
def test_networks_of_another_recipe_are_not_taken(run, tmp_path, changes, words):
    with pytest.raises(InputError) as told:
        train("shapes-bench", tmp_path / "there", changes=QUICK | {"trained": str(run.folder)} | changes)
    assert words in str(told.value) and not (tmp_path / "there").exists()


def test_controls_that_the_run_has_not_are_trained(run, tmp_path, monkeypatch):
    changes = {"trained": str(run.folder), "stage": [], "evaluate.rungs": ["student"], "evaluate.controls": ["ridge"]}
    there = train("shapes-bench", tmp_path / "there", changes=QUICK | changes)
    names = ("teacher", "student", "control-ridge")
    assert set(there.summary["results"]) >= set(names)
    monkeypatch.setattr(ridge, "solve", lambda *_: pytest.fail("it is there"))
    again = train("shapes-bench", tmp_path / "again", changes=QUICK | changes | {"trained": str(there.folder)})
    for name in names:
        one, same = (load_tensors(each.seed(0) / f"{name}.safetensors") for each in (there, again))
        assert one[1] == same[1] and all(torch.equal(value, same[0][key]) for key, value in one[0].items())


def test_networks_whose_readings_would_stand_otherwise_are_not_taken(run, tmp_path):
    changes = {"bench": other_bench(tmp_path, **{"camera.pitch": "6 um"}), "trained": str(run.folder)}
    with pytest.raises(InputError, match=r"readings stand otherwise: the camera's pixels are 0.375 of a sample"):
        train("shapes-bench", tmp_path / "there", changes=QUICK | changes)


def test_a_teacher_from_a_program_is_given_again(tmp_path):
    changes, own = QUICK | {"evaluate.rungs": ["student"], "stage": []}, SmallCNN(10, 16, widths=(4,))
    first = train("shapes-bench", tmp_path / "first", teacher=own, changes=changes)
    changes |= {"trained": str(first.folder)}
    with pytest.raises(InputError, match=r"has no teacher of seed 0.*a teacher from a program has to be given again"):
        train("shapes-bench", tmp_path / "there", changes=changes)
    with pytest.raises(InputError, match="had another teacher; the same teacher"):
        train("shapes-bench", tmp_path / "there", teacher=SmallCNN(10, 16, widths=(5,)), changes=changes)
    there = train("shapes-bench", tmp_path / "there", teacher=own, changes=changes)
    assert (there.seed(0) / "ladder.json").is_file()


def test_without_stages_is_a_run_without_stages(run, tmp_path):
    rungs = ["quantized", "noise", "misaligned"]
    plain = train("shapes-bench", tmp_path / "run", changes=QUICK | {"stage": [], "evaluate.rungs": rungs})
    found, beside = (json.loads((one.seed(0) / "ladder.json").read_text()) for one in (plain, run))
    assert found["rungs"] == beside["without_stages"] and found["rungs"] != {r: beside["rungs"][r] for r in rungs}
    assert "without_stages" not in found


def test_evaluate_tells_runs_and_files_side_by_side(run):
    done = CliRunner().invoke(app, ["evaluate", str(run.folder), str(run.seed(0) / "masks.h5"), "--pictures", "20"])
    assert done.exit_code == 0, done.output
    assert "misaligned" in done.output and "its masks on their bench" in done.output
    assert "4 masks, 8 captures" in done.output


def test_pixels_are_learned_from_where_kernels_put_them(run):
    network = OSCLC.from_maskset(run.seed(0) / "masks.h5")
    relearn(network, "masks")
    assert network.bank.device.learn == "masks"
    section = Recipe.load("shapes-bench", {"stage": [stage(learn=["masks"], quantize="soft")]}).stage[0]
    flawed = prepare(network, section, of_section(run.recipe.data)).train()
    assert {n for n, p in flawed.named_parameters() if p.requires_grad} == {"osclc.bank.device.drive"}
    with pytest.raises(InputError, match="follow no kernels"):
        relearn(network, "kernels")


def test_a_stage_chooses_levels_its_own_way(run):
    """What one stage said of levels is not what the next one trains by."""
    network = OSCLC.from_maskset(run.seed(0) / "masks.h5")
    told = [stage(learn=["masks"], quantize="gumbel"), stage(name="two")]
    recipe = Recipe.load("shapes-bench", {"stage": told})
    stages = recipe.stage
    first = prepare(network, stages[0], of_section(run.recipe.data))
    assert network.bank.device.quantize == "gumbel"
    hardening = stage_of(recipe, stages[0], first, None, "one").before_step
    for share, softness in ((0.0, 0.9), (0.5, (0.9 * 0.05) ** 0.5), (1.0, 0.05)):
        hardening(share)
        assert network.bank.device.softness == pytest.approx(softness)
    flawed = prepare(network, stages[1], of_section(run.recipe.data)).train()
    assert network.bank.device.quantize == "straight-through"
    assert {n.split(".")[1] for n, p in flawed.named_parameters() if p.requires_grad} == {"backend", "reader"}


def folders(root, count, parts=("train", "test")):
    """Pictures of two classes, told by their brightness."""
    draw = np.random.default_rng(0)
    for part in parts:
        for number, name in enumerate(("dark", "pale")):
            (root / part / name).mkdir(parents=True)
            for which in range(count):
                pixels = draw.integers(100 * number, 100 * number + 90, (16, 16, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{which}.png")
    return root


@pytest.mark.parametrize("parts", [("train", "test"), ("",)])
def test_a_file_of_a_run_on_folders_is_measured_on_the_run_s_own_test_pictures(tmp_path, parts):
    where = folders(tmp_path / "pictures", 60, parts)
    changes = QUICK | {
        "data.reader": "folders", "data.path": str(where), "data.options": {}, "stage": [], "evaluate.pictures": 5,
        "evaluate.rungs": ["student", "quantized", "file"], "distill.loss": "none",
        "student.backend": {"hidden": [8], "dropout": 0.2},
    }  # fmt: skip
    run = train("shapes-bench", tmp_path / "run", changes=changes)
    rungs = json.loads((run.seed(0) / "ladder.json").read_text())["rungs"]
    assert rungs["file"]["scores_sha256"] == rungs["quantized"]["scores_sha256"]
    with pytest.raises(InputError, match="--data FOLDER"):
        evaluate_file(run.seed(0) / "masks.h5", None)
    assert str(tmp_path) not in (run.seed(0) / "masks.h5").read_bytes().decode("latin-1")


def test_a_run_on_ones_own_pictures_claims_nothing_of_others(tmp_path):
    pictures, labels = torch.rand(60, 3, 16, 16), torch.arange(60) % 3
    sets = TensorDataset(pictures, labels), TensorDataset(pictures[:20], labels[:20])
    changes = QUICK | {"evaluate.rungs": ["student", "quantized", "file"], "stage": [], "distill.loss": "none"}
    run = train("shapes-bench", tmp_path / "run", changes=changes, data=sets)
    assert set(json.loads((run.seed(0) / "ladder.json").read_text())["rungs"]) == {"student", "quantized"}
    with pytest.raises(InputError, match="one's own"):
        evaluate_file(run.seed(0) / "masks.h5", None)


def test_tolerances_are_what_they_say_and_come_along(tmp_path):
    """A file beside the recipe, its content a part of the run, its copy in the run's folder."""
    (tmp_path / "tol.toml").write_text(
        'format = "fouroptics-tolerances/1"\nname = "mine"\n[camera]\nshift = { normal = "0.2 pixel" }\n'
    )
    text = toml.text(Recipe.load("shapes-bench", QUICK | {"evaluate.tolerances": "tol.toml"}).to_dict())
    (tmp_path / "r.toml").write_text(text)
    one = Recipe.load(tmp_path / "r.toml", {"evaluate.rungs": ["student"], "stage": []})
    before = one.fingerprint()
    run = train(one, tmp_path / "run")
    assert Tolerances.load(run.folder / "tolerances.toml").name == "mine"
    assert run.recipe.evaluate.tolerances == str(run.folder / "tolerances.toml")
    assert run.recipe.fingerprint() == before
    (tmp_path / "tol.toml").write_text((tmp_path / "tol.toml").read_text().replace("0.2", "0.3"))
    assert one.fingerprint() != before


def test_a_cascade_has_the_rungs_that_it_has(tmp_path):
    changes = QUICK | {"student.optics": "cascade", "stage": [stage(noise=True)], "distill.loss": "none"}
    run = train("shapes-bench", tmp_path / "run", changes=changes)
    found = json.loads((run.seed(0) / "ladder.json").read_text())
    assert set(found["rungs"]) == set(RUNGS) - {"teacher", "masks", "quantized", "file"}
    assert not (run.seed(0) / "masks.h5").exists() and "the mask device" not in found["parts"]


def test_pixels_go_the_same_road(tmp_path):
    rungs = ["student", "quantized", "noise", "misaligned", "file"]
    changes = QUICK | {
        "data.options": {"count": 60, "target": "mask"}, "data.size": [16, 16], "student.channels": [3, 2, 2],
        "student.crops": [8, 0], "student.kernel": 3, "student.backend.hidden": [4, 4],
        "evaluate.rungs": rungs, "evaluate.pictures": 6,
        "distill.also_without": False, "stage": [stage(noise=True, tolerances="lab-bench", pictures=20)],
    }  # fmt: skip
    run = train("shapes-pixels-bench", tmp_path / "run", changes=changes)
    found = json.loads((run.seed(0) / "ladder.json").read_text())["rungs"]
    figures = ["miou", "dice", "pixel_accuracy", "majority_accuracy", "majority_miou", "majority_dice"]
    assert [*found] == rungs and all(next(iter(rung)) == "miou" for rung in found.values())
    assert [*found["student"]] == figures and len(found["misaligned"]["draws"]) == 2
    assert found["file"] == found["quantized"] and [*found["file"]] == [*figures, "scores_sha256"]
    assert run.summary["ladder"]["file"]["mean"] == found["file"]["miou"]
    assert (run.seed(0) / "ladder.png").read_bytes().startswith(b"\x89PNG")
    told = CliRunner().invoke(app, ["evaluate", str(run.seed(0) / "masks.h5"), "--pictures", "6"])
    assert told.exit_code == 0 and "miou" in told.output and "majority accuracy" in told.output


def test_a_reference_is_set_in_every_draw(run):
    """A mask that moves by an eighth of its carrier's four pixels turns all responses by an eighth of a turn."""
    bank = OSCLC.from_maskset(run.seed(0) / "masks.h5").bank
    known = fo.pictures.natural(8, 3, bank.size)
    for eighths in (1, 4):
        moved = fo.Imperfections({"mask.shift_x": eighths * 4 * bank.bench.mask.pitch / 8})
        due = with_reference_set(bank, moved, known)
        with torch.no_grad():
            nominal, off, found = bank(known), bank(known, errors=moved), bank(known, errors=due)
        turned = math.cos(eighths * math.pi / 4 - 0.2)  # this bench's lenses turn them by 0.2 rad by themselves
        assert float((off * nominal).sum() / nominal.square().sum()) == pytest.approx(turned, abs=0.1)
        assert float((found - nominal).norm() / nominal.norm()) < 0.05 * eighths  # the field is not all in one place
        assert abs(float(due["reference.phase"]) - eighths * math.pi / 4) < 0.3


def test_a_reference_is_set_by_single_captures_whatever_its_phase_was():
    """A capture has |E|² in it, which follows no phase and must not turn the beam."""
    changes = {"reference.captures": 1, "reference.power_ratio": "2 %", "aberration.zernike": {}}
    bench, known = fo.Bench.load("slm-532nm").replace(changes), fo.pictures.natural(8, 3, (16, 16))
    bank = fo.Correlator4f.from_kernels(torch.rand(2, 3, 5, 5), bench, (16, 16), readout="homodyne").expose(known)
    for quarters in range(4):
        due = with_reference_set(bank, fo.Imperfections({"reference.phase": quarters * math.pi / 2}), known)
        turn = float(due["reference.phase"])
        assert math.cos(turn) > 0.999, (quarters, turn)


def test_a_stage_trains_on_benches_whose_reference_was_set(run):
    """Masks that stand half a period of their carrier aside turn every reading's sign: nobody learns from that."""
    network, known = OSCLC.from_maskset(run.seed(0) / "masks.h5"), fo.pictures.natural(8, 3, (16, 16))
    moved = fo.Imperfections({"mask.shift_x": [2 * network.bank.bench.mask.pitch, 0.0]}, (2,))
    drawn = SimpleNamespace(draw=lambda *_: moved)
    flawed = Flawed(network, drawn, noise=False, draws=2, known=known).train()
    seen = []
    network.register_forward_pre_hook(lambda _, given, named: seen.append(named["errors"]), with_kwargs=True)
    flawed(known)
    with torch.no_grad():
        due, found, aside = (network.bank(known[:4], errors=errors) for errors in (None, seen[0], moved.at(0)))
    assert float((found * due).sum() / due.square().sum()) > 0.8 > 0 > float((aside * due).sum())


def test_noise_on_a_ladder_follows_the_picture_and_not_its_place(run):
    noisy = ladder_of._Noisy(OSCLC.from_maskset(run.seed(0) / "masks.h5"), 3).eval()
    pictures = fo.pictures.natural(5, 3, (16, 16))
    with torch.no_grad():
        torch.testing.assert_close(noisy(pictures), noisy(pictures.flip(0)).flip(0), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(noisy(pictures[2:4]), noisy(pictures)[2:4], atol=1e-5, rtol=1e-4)
        assert not torch.equal(noisy(pictures), ladder_of._Noisy(noisy.osclc, 4).eval()(pictures))


def test_few_are_a_fixed_draw():
    part = Part(torch.arange(10).reshape(10, 1, 1, 1), torch.arange(10))
    assert torch.equal(few(part, 4).targets, few(part, 4).targets) and len(few(part, 4)) == 4
    assert few(part, 0) is part and few(part, 99) is part


QUIET = {"name": "quiet", "on": "student", "noise": True, "learn": ["kernels", "backend"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bench": ""}, "without a bench"),
        ({"oversample": 3}, "1 or 2 or 4"),
        ({"stage": [stage(learn=["kernels", "masks"])]}, "one of the two"),
        ({"stage": [stage(), stage()]}, "two stages of one name"),
        ({"stage": [stage(quantise="soft")]}, "quantize"),
        ({"stage": [stage(quantize="soft")]}, "tuned to the levels that are shown"),
        ({"stage": [stage(quantize="hard", learn=["masks"])]}, "straight-through"),
        ({"stage": [stage(learn=["masks"]), stage(name="two", learn=["kernels"])]}, "follow no kernels"),
        ({"stage": [stage(learn=["kernels"])], "encoding": "fit"}, "passes no gradient"),
        ({"stage": [stage(learn=["kernels"])], "student.optics": "cascade"}, "ideal here"),
        ({"evaluate.rungs": ["light", "heavy"]}, "heavy"),
        ({"evaluate.rungs": []}, "no rung"),
        ({"student.detect": "each", "student.model": "max-pool"}, "has no levels"),
        ({"stage": [QUIET], "student.readout": "intensity"}, "no noise that is the same everywhere"),
        ({"stage": [QUIET | {"learn": ["backend"]}], "student.optics": "cascade"}, "this is a cascade"),
        ({"stage": [QUIET | {"noise": False}]}, "noise of its readings only"),
        ({"stage": [QUIET | {"tolerances": "lab-bench"}]}, "noise of its readings only"),
        ({"stage": [stage(), QUIET]}, "when the student is done"),
        ({"student.channels": [3, 4, 4], "student.kernel": 3}, "patches are kernels of one"),
        ({"bench": "slm-533nm"}, "slm-532nm"),
        ({"student.readout": "ideal_field"}, "homodyne"),
        ({"student.kernel": 15, "bench": "plate-532nm"}, "dark border is 4 wide; .* or kernels of 9 taps at most"),
        ({"student.model": "released", "data.size": [64, 64]}, "no masks"),
        ({"evaluate.tolerances": "lab-bank"}, "lab-bench"),
    ],
)
def test_a_recipe_that_no_bench_can_carry(changes, words, tmp_path):
    with pytest.raises(InputError, match=words):
        train("shapes-bench", tmp_path / "run", changes=QUICK | {"evaluate.rungs": ["student"]} | changes)
    assert not (tmp_path / "run").exists()


def test_a_file_of_a_run_needs_its_pictures(run, tmp_path):
    masks = fo.MaskSet.load(run.seed(0) / "masks.h5")

    replace(masks, provenance={k: v for k, v in masks.provenance.items() if k != "recipe"}).save(tmp_path / "m.h5")
    with pytest.raises(InputError, match="what pictures"):
        evaluate_file(tmp_path / "m.h5", None)
