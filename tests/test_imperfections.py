import copy
import math
import tomllib
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import fouroptics as fo
from fouroptics.imperfections import FIELDS, Imperfections, Tolerances, named, presets, sizes

SLM = fo.Bench.load("slm-532nm")
ETCHED = SLM.replace({"mask": {"preset": "etched-8"}, "layout": {"inputs": "lenslet", "outputs": "lenslet"}})
LAB = Tolerances.load("lab-bench")
MANY = 20000


def tolerances(correlate=(), **sections):
    """From sections as a file has them: ``mask={"shift_x": {...}}``."""
    return Tolerances.from_dict({"format": "fouroptics-tolerances/1", "correlate": list(correlate), **sections})


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def one(field, table, bench=SLM, count=MANY):
    """Draws of a single field."""
    section, key = field.split(".", 1)
    return tolerances(**{section: {key: table}}).draw(bench, count, seeded(), channels=(4, 2))[field]


# --- distributions, against scipy ---


@pytest.mark.parametrize(
    ("table", "truth"),
    [
        ({"normal": "4 um"}, stats.norm(0, 4e-6)),
        ({"uniform": "4 um"}, stats.uniform(-4e-6, 8e-6)),
        ({"normal": "4 um", "truncate": "12 um"}, stats.truncnorm(-3, 3, 0, 4e-6)),
        ({"normal": "4 um", "truncate": "2 um"}, stats.truncnorm(-0.5, 0.5, 0, 4e-6)),
        ({"normal": "1 pixel", "truncate": "1.5 pixel"}, stats.truncnorm(-1.5, 1.5, 0, 8e-6)),
        ({"normal": "1 pixel", "truncate": "12 um"}, stats.truncnorm(-1.5, 1.5, 0, 8e-6)),
    ],
)
def test_draws_follow_the_distribution_they_name(table, truth):
    drawn = one("mask.shift_x", table).numpy()
    assert abs(drawn.mean()) < 4 * truth.std() / math.sqrt(MANY)
    assert drawn.std() == pytest.approx(truth.std(), rel=0.02)
    assert stats.kstest(drawn, truth.cdf).pvalue > 1e-3
    assert abs(drawn).max() <= truth.support()[1]


def test_nothing_heaps_up_at_a_limit():
    drawn = one("mask.shift_x", {"normal": "4 um", "truncate": "4 um"})
    assert len(drawn.unique()) == MANY


def test_a_relative_deviation_takes_no_more_than_all():
    drawn = one("camera.gain", {"normal": "60 %"})
    assert drawn.min() > -1
    assert drawn.std() == pytest.approx(stats.truncnorm(-1 / 0.6, 1 / 0.6, 0, 0.6).std(), rel=0.02)


def test_fixed_does_not_vary_and_no_spread_is_nominal():
    assert one("mask.dead_pixels", {"fixed": "100 ppm"}, count=3).tolist() == [1e-4] * 3
    assert one("mask.shift_x", {"normal": "0 um", "truncate": "1 um"}, count=3).tolist() == [0.0] * 3


@pytest.mark.parametrize(
    ("field", "written", "si"),
    [
        ("mask.shift_y", "-0.5 pixel", -4e-6),
        ("input.shift", "0.5 pixel", 4e-6),
        ("camera.shift", "0.5 px", 2e-6),
        ("fabrication.overlay", "2 pixels", 4e-6),
        ("aberration.zernike.4", "0.02 waves", 10.64e-9),
        ("aberration.zernike.11", "-5 nm", -5e-9),
        ("mask.magnification", "0.1 %", 1e-3),
        ("source.power", "200 ppm", 2e-4),
        ("source.wavelength", "-0.1 nm", -1e-10),
        ("mask.rotation", "0.05 deg", math.radians(0.05)),
        ("mask.level", "0.02 rad", 0.02),
    ],
)
def test_units_by_hand(field, written, si):
    section, *rest = field.split(".")
    table = {rest[0]: {rest[1]: {"fixed": written}}} if len(rest) > 1 else {rest[0]: {"fixed": written}}
    bench = ETCHED if section == "fabrication" else SLM  # etched pixels are 2 um
    drawn = tolerances(**{section: table}).draw(bench, 1, seeded())[field]
    assert drawn.unique().item() == pytest.approx(si, rel=1e-12)


# --- how draws are made ---


@pytest.mark.parametrize("bench", [SLM, ETCHED])
def test_a_draw_does_not_depend_on_how_many_follow(bench):
    full = LAB.draw(bench, 40, seeded(7), channels=(4, 3))
    for count in (1, 2, 3, 7, 16, 39):
        assert LAB.draw(bench, count, seeded(7), channels=(4, 3)) == full[:count]
    assert LAB.draw(bench, 40, seeded(8), channels=(4, 3)) != full
    assert full[0] != full[1]


def test_other_widths_leave_the_random_numbers_alone():
    wider = LAB.replace({"mask.shift_x": {"fixed": "1 um"}, "correlate": None, "mask.rotation.normal": "0.1 deg"})
    apart, plain = wider.draw(SLM, 5, seeded()), LAB.replace({"correlate": None}).draw(SLM, 5, seeded())
    assert torch.allclose(apart["mask.rotation"], 2 * plain["mask.rotation"], rtol=1e-12)
    assert apart.without("mask.shift_x", "mask.rotation") == plain.without("mask.shift_x", "mask.rotation")


def test_shapes_are_the_draws_and_then_the_components():
    drawn = LAB.replace({"mask.level": {"normal": "0.02 rad"}}).draw(ETCHED, 6, seeded(), channels=(5, 3))
    trailing = {name: tuple(drawn[name].shape[1:]) for name in drawn.names if drawn[name].dim() > 1}
    assert trailing == {
        "mask.level": (8,),
        "input.shift": (2,),
        "camera.shift": (2,),
        "combiner.phase": (5, 3),
        "combiner.amplitude": (5, 3),
        "fabrication.depth": (3,),
        "fabrication.overlay": (3, 2),
    }
    assert drawn.shape == drawn.seed.shape == (6,)
    assert {drawn[name].dtype for name in drawn.names} == {torch.float64}


def test_all_etch_steps_share_one_draw_and_each_has_its_own_otherwise():
    each = LAB.draw(ETCHED, 50, seeded(), channels=(1, 1))
    shared = LAB.replace({f"fabrication.{key}.correlated": "all etch steps" for key in ("depth", "overlay")})
    together = shared.draw(ETCHED, 50, seeded(), channels=(1, 1))
    for name in ("fabrication.depth", "fabrication.overlay"):
        assert (together[name] == together[name][:, :1]).all()
        assert (each[name][:, 0] != each[name][:, 1]).all()
    assert (together["fabrication.overlay"][..., 0] != together["fabrication.overlay"][..., 1]).all()


def test_what_a_bench_lacks_is_named_and_not_drawn():
    assert set(LAB.not_applicable(SLM)) == {
        "combiner.phase",
        "combiner.amplitude",
        "fabrication.depth",
        "fabrication.overlay",
    }
    assert LAB.not_applicable(ETCHED) == {}
    dmd = SLM.replace({"mask": {"preset": "dmd"}, "reference": None})
    why = LAB.replace({"mask.level": {"normal": "1 rad"}}).not_applicable(dmd)
    assert why["mask.phase_scale"] == "a dmd mask sets no phase"
    assert why["mask.level"] == "a dmd mask has no levels of phase"
    assert "[reference]" in why["reference.phase_step"]
    assert not set(why) & set(LAB.draw(dmd, 2, seeded()).names)


# --- correlations ---


def corr(first, second):
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def test_the_correlation_that_was_asked_for_comes_back():
    drawn = LAB.draw(SLM, MANY, seeded())
    shift, camera = drawn["mask.shift_x"], drawn["camera.shift"]
    assert corr(shift, camera[:, 1]) == pytest.approx(0.5, abs=0.02)
    assert abs(corr(shift, camera[:, 0])) < 0.02
    assert abs(corr(drawn["mask.shift_y"], camera[:, 0])) < 0.02


def test_pairs_correlate_component_by_component():
    pair = {"fields": ["camera.shift", "input.shift"], "rho": -0.8}
    drawn = LAB.replace({"correlate": [pair]}).draw(SLM, MANY, seeded())
    for axis in (0, 1):
        assert corr(drawn["camera.shift"][:, axis], drawn["input.shift"][:, axis]) == pytest.approx(-0.8, abs=0.02)
    assert abs(corr(drawn["camera.shift"][:, 0], drawn["input.shift"][:, 1])) < 0.02


def test_channels_correlate_one_by_one():
    both = {"fields": ["combiner.phase", "combiner.amplitude"], "rho": 0.7}
    drawn = LAB.replace({"correlate": [both]}).draw(ETCHED, MANY, seeded(), channels=(2, 1))
    phase, amplitude = drawn["combiner.phase"], drawn["combiner.amplitude"]
    assert corr(phase[:, 1, 0], amplitude[:, 1, 0]) == pytest.approx(0.7, abs=0.02)
    assert abs(corr(phase[:, 0, 0], amplitude[:, 1, 0])) < 0.02


def test_a_chain_of_correlations_and_uniform_ranks():
    chain = [
        {"fields": ["mask.shift_x", "mask.shift_y"], "rho": 0.6},
        {"fields": ["mask.shift_y", "mask.rotation"], "rho": 0.6},
    ]
    spread = {name: {"uniform": "1 um"} for name in ("shift_x", "shift_y")} | {"rotation": {"normal": "1 mrad"}}
    drawn = tolerances(chain, mask=spread).draw(SLM, MANY, seeded())
    x, y, turn = (drawn[f"mask.{name}"] for name in ("shift_x", "shift_y", "rotation"))
    assert abs(corr(x, turn)) < 0.02
    assert corr(x, y) == pytest.approx(6 / math.pi * math.asin(0.3), abs=0.02)  # Spearman's rank correlation
    assert x.std() == pytest.approx(1e-6 / math.sqrt(3), rel=0.02)


def test_rho_of_one_binds_fast():
    bound = [{"fields": ["mask.shift_x", "mask.shift_y"], "rho": -1}]
    drawn = tolerances(bound, mask={"shift_x": {"normal": "1 um"}, "shift_y": {"normal": "3 um"}})
    drawn = drawn.draw(SLM, 20, seeded())
    assert torch.allclose(drawn["mask.shift_y"], -3 * drawn["mask.shift_x"], atol=1e-18)


# --- values ---


def test_gradients_reach_what_was_given():
    shift = torch.tensor([1e-6, 2e-6], dtype=torch.float64, requires_grad=True)
    gain = torch.tensor(0.01, requires_grad=True)
    given_ = Imperfections({"mask.shift_x": shift, "camera.gain": gain}, shape=(3, 2))
    (given_.get("mask.shift_x").sum() * 2 + given_.reshape(6)[1:].only("camera")["camera.gain"].sum()).backward()
    assert shift.grad.tolist() == [6.0, 6.0]
    assert gain.grad == 5
    assert given_.get("mask.rotation") is None


def test_draws_are_taken_apart_and_put_in_shape():
    imp = Imperfections({"camera.shift": torch.arange(12.0).reshape(6, 2) * 1e-6, "source.power": 0.1})
    assert imp.shape == (6,)
    assert imp.seed.tolist() == [0, 1, 2, 3, 4, 5]
    assert imp[2]["camera.shift"].tolist() == pytest.approx([4e-6, 5e-6])
    assert (imp[2].shape, imp[2].seed.item()) == ((), 2)
    assert imp[1:3].shape == imp.at(torch.tensor([1, 2])).shape == (2,)
    assert imp[1:3] == imp.at(torch.tensor([1, 2]))
    column = imp.reshape(-1, 1)
    assert column["camera.shift"].shape == (6, 1, 2)
    assert column["source.power"].shape == (6, 1)
    assert column.reshape(3, 2).at((1, 0)) == imp[2]
    assert [draw.seed.item() for draw in imp] == [0, 1, 2, 3, 4, 5]
    assert imp.to(torch.float32)["source.power"].dtype == torch.float32
    assert copy.deepcopy(imp) == imp


def test_parts_are_switched_on_one_at_a_time():
    drawn = LAB.draw(SLM, 2, seeded())
    assert drawn.only("mask.shift_x", "aberration.zernike").names == (
        "mask.shift_x",
        "aberration.zernike.4",
        "aberration.zernike.7",
    )
    assert set(drawn.only("mask").names) | set(drawn.without("mask").names) == set(drawn.names)
    assert drawn.only("mask.shift_x").seed.equal(drawn.seed)
    assert drawn.only("combiner").names == ()


def test_equal_is_what_has_equal_content():
    broad = Imperfections({"mask.shift_x": torch.full((3,), 1e-6, dtype=torch.float64), "mask.rotation": -0.0})
    thin = Imperfections({"mask.rotation": 0.0, "mask.shift_x": 1e-6}, shape=(3,))
    assert broad == thin
    assert len({broad, thin}) == 1
    assert broad != Imperfections({"mask.shift_x": 1.1e-6, "mask.rotation": 0.0}, shape=(3,))
    assert broad != Imperfections({"mask.shift_y": 1e-6, "mask.rotation": 0.0}, shape=(3,))
    assert broad != Imperfections({"mask.shift_x": 1e-6, "mask.rotation": 0.0}, (3,), torch.tensor([0, 1, 3]))


def test_offsets_are_told_in_metres_and_in_bins_or_samples():
    bench = SLM.replace({"lens2.focal_length": "500 mm"})
    imp = Imperfections({"mask.shift_x": 4e-6, "camera.shift": [8e-6, -16e-6], "camera.gain": 0.02})
    rows = [" ".join(line.split()) for line in imp.table(bench, bin_width=(10e-6, 20e-6)).splitlines()]
    assert rows[1:] == [
        "mask.shift_x 4 um 0.2 bins",
        "camera.shift (y, x) 8 um, -16 um 0.25, -0.5 samples",  # 16 um samples, twice as large at the camera
        "camera.gain 2 %",
    ]
    assert "0.5 mask pixels" in imp.table(bench)
    both = Imperfections({"mask.shift_x": torch.tensor([3e-6, -4e-6], dtype=torch.float64)}).table(SLM, 1e-6)
    assert both.split()[-5:] == ["um", "4", "um", "3.54", "bins"]


REFUSED = [
    ({"mask.shift_z": 0.0}, None, "did you mean 'mask.shift_y'?"),
    ({"aberration.zernike": 0.0}, None, "aberration.zernike.4"),
    ({"aberration.zernike.0": 0.0}, None, "Noll"),
    ({"shift_x": 0.0}, None, "'mask.shift_x'"),
    ({"mask.shift_x": math.nan}, None, "not finite"),
    ({"mask.shift_x": 4.0}, None, "not plausible"),
    ({"mask.dead_pixels": -0.1}, None, "not plausible"),
    ({"mask.shift_x": "4 um"}, None, "no number"),
    ({"mask.shift_x": torch.tensor([1])}, None, "floating"),
    ({"mask.shift_x": torch.tensor(1j)}, None, "floating"),
    ({"camera.shift": 1e-6}, None, "2 (y, x)"),
    ({"camera.shift": torch.zeros(5, 3)}, None, "2 (y, x)"),
    ({"mask.shift_x": torch.zeros(3), "mask.shift_y": torch.zeros(2)}, None, "do not broadcast"),
    ({"mask.shift_x": torch.zeros(3)}, (), "do not broadcast"),
    ({"mask.shift_x": torch.zeros(3)}, (1,), "do not broadcast"),
    ({"combiner.phase": torch.zeros(4, 2), "combiner.amplitude": torch.zeros(2, 4)}, None, "combiner.phase"),
]


@pytest.mark.parametrize(("values", "shape", "says"), REFUSED)
def test_values_that_are_refused_in_one_line(values, shape, says):
    with pytest.raises(fo.InputError) as caught:
        Imperfections(values, shape)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_misuse_of_values_is_told():
    imp = Imperfections({"mask.shift_x": 1e-6}, shape=(4,))
    for misuse in (
        lambda: imp["mask.rotation"],
        lambda: imp.get("mask.rotatoin"),
        lambda: imp.at((0, 0)),
        lambda: imp.reshape(3),
        lambda: imp.only("msk"),
        lambda: imp.to(torch.int64),
        lambda: list(imp[0]),
        lambda: setattr(imp, "seed", None),
        lambda: imp.table(SLM, bin_width=0.0),
        lambda: Imperfections({}, (2,), torch.zeros(2)),
    ):
        with pytest.raises(fo.InputError):
            misuse()
    with pytest.raises(IndexError):
        imp[4]


# --- the file ---


@pytest.mark.parametrize("name", presets())
def test_what_is_shipped_loads_draws_and_survives_the_file(name, tmp_path):
    shipped = Tolerances.load(name)
    path = tmp_path / "a space and µ.toml"
    shipped.save(path)
    again = Tolerances.load(path)
    assert (again, again.fingerprint()) == (shipped, shipped.fingerprint())
    assert again.draw(SLM, 3, seeded()) == shipped.draw(SLM, 3, seeded())


def test_the_shipped_lab_bench_as_its_file_says():
    assert (LAB.study.draws, LAB.study.seed, LAB.study.pictures) == (200, 7, 1000)
    assert LAB.study.yield_at == (0.9, 0.8, 0.5)
    assert (LAB.metric.kind, LAB.metric.drop_points, LAB.metric.at_least) == ("accuracy", 2.0, None)
    assert LAB.compensate == ("camera.shift", "camera.defocus", "camera.gain", "backend")
    assert LAB.correlate[0].rho == 0.5
    assert LAB.replace({"name": "other"}).fingerprint() == LAB.fingerprint()
    assert LAB.replace({"study.draws": 201}).fingerprint() != LAB.fingerprint()
    assert LAB.replace({"metric": {"kind": "miou", "at_least": "70 %"}}).metric.at_least == 0.7


SI = {"length": "m", "angle": "rad", "ratio": "%", "optical path": "m"}


@st.composite
def spreads(draw):
    """A dictionary of any fields, and the largest value that each may take [SI]."""
    data, limits = {"format": "fouroptics-tolerances/1"}, {}
    for name in draw(st.sets(st.sampled_from([name for name in FIELDS if name != "mask.dead_pixels"]))):
        field = FIELDS[name]
        size = draw(st.floats(0.0, field.most))
        written = [f"{value * (100 if field.kind == 'ratio' else 1)!r} {SI[field.kind]}" for value in (size, size * 2)]
        shape = draw(st.sampled_from(["normal", "uniform", "fixed"]))
        table = {shape: written[0]}
        if shape == "normal" and 0 < size * 2 < field.most and draw(st.booleans()):
            table["truncate"] = written[1]
        section, key = name.split(".")
        data.setdefault(section, {})[key] = {11: table} if key == "zernike" else table
        limits[f"{name}.11" if key == "zernike" else name] = size * 2 if "truncate" in table else field.most
    return data, limits


@given(spreads())
def test_any_tolerances_survive_the_file_and_keep_their_limits(spread):
    data, limits = spread
    first = Tolerances.from_dict(data)
    again = Tolerances.from_dict(tomllib.loads(first.to_toml()))
    assert again == first
    assert again.distributions == first.distributions
    drawn = again.draw(ETCHED, 4, seeded(), channels=(2, 2))
    assert set(drawn.names) == set(limits)
    for name, limit in limits.items():
        assert drawn[name].abs().max() <= limit * (1 + 1e-12)
        assert drawn[name].shape == (4, *sizes(named(name), ETCHED, (2, 2)))
    order = [list(FIELDS).index(name.removesuffix(".11")) for name in drawn.names]
    assert all(a < b for a, b in pairwise(order))


THREE = [("mask.shift_x", "mask.shift_y"), ("mask.shift_y", "mask.rotation"), ("mask.rotation", "mask.shift_x")]
BAD = [
    ({"msk": {}}, "msk", "'mask'"),
    ({"mask.shift": {"normal": "4 um"}}, "mask.shift", "did you mean"),
    ({"mask.shift_x": "4 um"}, "mask.shift_x", '{ normal = "4 um" }'),
    ({"mask.shift_x": {"normal": "4 mW"}}, "mask.shift_x.normal", "units of length"),
    ({"mask.shift_x": {"normal": "4 m"}}, "mask.shift_x.normal", "did you mean '4 nm'?"),
    ({"mask.shift_x": {"normal": 4}}, "mask.shift_x.normal", "'4 um'"),
    ({"mask.shift_x": {"normal": "-4 um"}}, "mask.shift_x.normal", "negative"),
    ({"mask.shift_x": {"normal": "-1 pixel"}}, "mask.shift_x.normal", "negative"),
    ({"mask.shift_x": {"normal": "1e999 pixel"}}, "mask.shift_x.normal", "finite"),
    ({"mask.shift_x": {"normal": "0.1 waves"}}, "mask.shift_x.normal", "not told in waves"),
    ({"mask.defocus": {"normal": "1 pixel"}}, "mask.defocus.normal", "pixel"),
    ({"mask.rotation": {"normal": "1 %"}}, "mask.rotation.normal", "units of angle"),
    ({"aberration.zernike": {"4": {"normal": "1 pixel"}}}, "aberration.zernike.4.normal", "'0.02 waves'"),
    ({"aberration.zernike": {"defocus": {"normal": "1 nm"}}}, "aberration.zernike.defocus", "Noll"),
    ({"aberration.zernike": "1 nm"}, "aberration.zernike", "table"),
    ({"mask.shift_x": {"normal": "4 um", "uniform": "4 um"}}, "mask.shift_x", "normal and uniform at once"),
    ({"mask.shift_x": {}}, "mask.shift_x", "write one of normal, uniform, fixed"),
    ({"mask.shift_x": {"nromal": "4 um"}}, "mask.shift_x.nromal", "'normal'"),
    ({"mask.shift_x": {"uniform": "4 um", "truncate": "1 um"}}, "mask.shift_x.truncate", "leave it out"),
    ({"mask.shift_x": {"normal": "4 um", "truncate": "0 um"}}, "mask.shift_x.truncate", "leaves nothing"),
    ({"mask.shift_x": {"normal": "4 um", "truncate": "-9 um"}}, "mask.shift_x.truncate", "negative"),
    ({"mask.shift_x": {"normal": "4 um", "truncate": "12 nm"}}, "mask.shift_x.truncate", "uniform"),
    ({"mask.shift_x": {"normal": "4 um", "correlated": "each etch step"}}, "mask.shift_x.correlated", "[[correlate]]"),
    ({"fabrication.depth": {"normal": "4 %", "correlated": "never"}}, "fabrication.depth.correlated", "'all etch"),
    ({"mask.dead_pixels": {"normal": "10 ppm"}}, "mask.dead_pixels.normal", "fixed"),
    ({"mask.dead_pixels": {"fixed": "110 %"}}, "mask.dead_pixels.fixed", "above 100 %"),
    ({"camera.gain": {"uniform": "120 %"}}, "camera.gain.uniform", "above 100 %"),
    ({"camera": "off"}, "camera", "[camera]"),
    ({"study.draws": 0}, "study.draws", "whole number"),
    ({"study.draws": "200"}, "study.draws", "without quotes"),
    ({"study.pictures": "some"}, "study.pictures", "whole number"),
    ({"study.yield_at": "90 %"}, "study.yield_at", '["90 %"'),
    ({"study.yield_at": ["190 %"]}, "study.yield_at", "above 100 %"),
    ({"study.draw": 3}, "study.draw", "'draws'"),
    ({"metric.kind": "accurate"}, "metric.kind", "'accuracy'"),
    ({"metric.at_least": "70 %"}, "metric", "at once"),
    ({"metric.drop_points": None}, "metric", "drop_points"),
    ({"metric.drop_points": -1}, "metric.drop_points", "positive"),
    ({"metric": {"kind": "loss", "at_least": 3}}, "metric.at_least", "drop_points"),
    ({"compensate.allow": ["camera.shft"]}, "compensate.allow", "'camera.shift'"),
    ({"compensate.allow": ["mask.dead_pixels"]}, "compensate.allow", "nobody can turn"),
    ({"compensate.allow": "backend"}, "compensate.allow", '["camera.shift"]'),
    ({"compensate.alow": []}, "compensate.alow", "allow"),
    ({"correlate": [{"fields": ["mask.shift_x", "camera.shift"], "rho": 1.5}]}, "correlate 1", "-1 to 1"),
    ({"correlate": [{"fields": ["mask.shift_x", "camera.shift"], "rho": math.nan}]}, "correlate 1", "-1 to 1"),
    ({"correlate": [{"fields": ["mask.shift_x"], "rho": 0.5}]}, "correlate 1", "two fields"),
    ({"correlate": [{"fields": ["mask.shift_x", "camera.shift"]}]}, "correlate 1", "rho = 0.5"),
    ({"correlate": [{"fields": ["mask.shift_x", "camera.shft"], "rho": 0.5}]}, "correlate 1", "'camera.shift'"),
    ({"correlate": [{"fields": ["mask.shift_x", "mask.level"], "rho": 0.5}]}, "correlate 1", "no distribution"),
    ({"correlate": [{"fields": ["mask.shift_x", "mask.dead_pixels"], "rho": 0.5}]}, "correlate 1", "fixed"),
    ({"correlate": [{"fields": ["mask.shift_x", "mask.shift_x"], "rho": 0.5}]}, "correlate 1", "itself"),
    ({"correlate": [{"fields": ["mask.rotation", "camera.shift"], "rho": 0.5}]}, "correlate 1", "_x or _y"),
    ({"correlate": [{"fields": ["mask.shift_x", "fabrication.overlay"], "rho": 0.5}]}, "correlate 1", "components"),
    ({"correlate": [{"fields": ["mask.shift_x", "camera.shift"], "rho": 0.5}] * 2}, "correlate", "twice"),
    ({"correlate": [{"fields": [*pair], "rho": -0.9} for pair in THREE]}, "correlate", "no numbers are correlated"),
    ({"correlate": {"fields": []}}, "correlate", "[[correlate]]"),
    ({"format": "fouroptics-bench/1"}, "format", "fouroptics-tolerances/1"),
    ({"name": ""}, "name", "in quotes"),
]


@pytest.mark.parametrize(("changes", "where", "says"), BAD)
def test_bad_tolerances_are_refused_in_one_line_with_place_and_mend(changes, where, says):
    with pytest.raises(fo.InputError) as caught:
        LAB.replace(changes)
    assert where in caught.value.where
    assert says in str(caught.value)
    assert caught.value.mend
    assert "\n" not in str(caught.value)


def test_files_that_are_no_tolerances(tmp_path):
    path = tmp_path / "t.toml"
    for content, says in ((b"", "no tolerance file"), (b"[mask]\nshift_x = 4 um", "in quotes"), (b"\xff\xfe", "UTF-8")):
        path.write_bytes(content)
        with pytest.raises(fo.InputError, match=says) as caught:
            Tolerances.load(path)
        assert str(path) in caught.value.where
    for absent in (tmp_path, tmp_path / "absent.toml", "lab-bnch"):
        with pytest.raises(fo.InputError, match=r"folder|lab-bench"):
            Tolerances.load(absent)


def test_draws_that_cannot_be_made_are_told():
    flat = LAB.replace({"mask.shift_x": {"normal": "1 pixel", "truncate": "1 nm"}})
    for misuse, says in (
        (lambda: LAB.draw(ETCHED, 3, seeded()), r"channels=\(outputs, inputs\)"),
        (lambda: LAB.draw(SLM, 0, seeded()), "whole number"),
        (lambda: LAB.draw(SLM, 3, 7), "manual_seed"),
        (lambda: flat.draw(SLM, 3, seeded()), "mask.shift_x: a normal cut at"),
    ):
        with pytest.raises(fo.InputError, match=says):
            misuse()
