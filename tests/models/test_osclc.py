"""A student on its bench: its readings against its own, its file against itself, its electronics against conv2d."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from fouroptics.models import OSCLC, SCLC, fold
from fouroptics.models.backends import FC, Conv, Up, built, describe
from fouroptics.models.osclc import responses
from fouroptics.models.training.alone import unwrapped

import fouroptics as fo
from fouroptics.errors import InputError
from tests.device_banks import STILL, bench_of

PERFECT = {
    "camera.read_noise": 0, "camera.dark_current": 0, "reference.phase_step_error": "0 rad",
    "reference.visibility": "100 %", "input.fill_factor": "100 %", "layout.guard": "128 um",
}  # fmt: skip
SLM = fo.Bench.load("slm-532nm")


def student_of(readout="homodyne", compand="two-sided-rectify", size=16, channels=(3, 4), **options):
    torch.manual_seed(0)
    options = {"sensor_pool": 4, "backend": (8,), "camera_pixel": 0.25} | options
    kernels = options.pop("kernel_size", 5)
    crops = options.pop("crops", None)
    student = SCLC(channels, kernels, crops, size, readout=readout, compand=compand, classes=3, **options)
    pictures = fo.pictures.natural(6, channels[0], (size, size), seed=3)
    student.normalise(pictures)
    return student.eval(), pictures


def placed(student, bench, pictures, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return OSCLC.from_student(student, bench, pictures, **options).eval()


@pytest.mark.parametrize(("readout", "compand"), [("homodyne", "two-sided-rectify"), ("intensity", "sqrt")])
def test_on_a_perfect_bench_readings_are_the_student_s(readout, compand):
    student, pictures = student_of(readout, compand)
    here = placed(student, SLM.replace(STILL | PERFECT), pictures, masks="ideal")
    with torch.no_grad():
        due = student.reader.detected(student.seen(pictures))
        found = here.bank(pictures) / here.level[:, None, None]
        edge = 1 if compand == "sqrt" else 2
        off, inner = found - due, (..., slice(edge, -edge), slice(edge, -edge))
        assert float(off[inner].norm() / due[inner].norm()) < (0.01 if compand != "sqrt" else 0.02)
        assert float(off.norm() / due.norm()) < 0.04  # at edges the student's field rings round its grid
        assert float((here(pictures) - student(pictures)).norm() / student(pictures).norm()) < 0.05


def test_a_level_is_what_light_and_camera_make_of_a_reading_of_one():
    """Two lights of one field E and reference r differ by 4·E·r on a sensor of known gain and efficiency."""
    student, pictures = student_of()
    bench = SLM.replace(STILL | PERFECT)
    here = placed(student, bench, pictures, masks="ideal")
    camera, bank = bench.camera, here.bank
    white = torch.ones(1, 3, 16, 16)
    field = bank.field(white)[0].real
    amplitude = bank.power(white)[0].sqrt()  # W/m², of the passive masks
    middle = (slice(None), 8, 8)
    per_unit = (amplitude[middle] / field[middle].abs()).double()
    lit = per_unit * bank._reading._beam(field) ** 0.5 * 4
    pixels = bank._reading.area
    photon = 6.62607015e-34 * 299792458 / 532e-9
    due = lit * pixels * float(bank.shutter) * camera.qe / photon * camera.gain
    assert torch.allclose(here.level.double(), due, rtol=0.02)
    beam = (lit / 4 / per_unit).mean() ** 2  # the reference alone, W/m²
    alone = float(beam.detach()) * pixels * float(bank.shutter) * camera.qe / photon
    assert here.budget(pictures)["electrons_without_pictures"] == pytest.approx(alone, rel=1e-3)


def test_the_light_from_the_laser_to_the_well_by_hand():
    """A white picture through one tap of ½, which a passive mask shows as 1: its light arrives, less what is told."""
    student, _ = student_of("intensity", "none", channels=(1, 1), kernel_size=1, sensor_pool=None)
    with torch.no_grad():
        student.front.weights[0].fill_(0.5)
    white = torch.ones(1, 1, 16, 16)
    here = placed(student, SLM.replace(STILL | {"stop": None}), white, masks="ideal")
    told, bench = here.budget(white), here.bank.bench
    light = told["light"]
    panel = 1920 * 8e-6 * 1080 * 8e-6
    assert light["laser_w"] == 5e-3 and light["pictures_w_m2"] == pytest.approx(5e-3 / panel)
    assert light["kept"] == pytest.approx(
        {"beside the reference": 1, "input": 0.8 * 0.93**2, "mask": 0.75, "shared among arms": 1, "half mirror": 1,
         "change of size": 1}
    )  # fmt: skip
    assert light["white_w_m2"] == pytest.approx(5e-3 / panel * 0.8 * 0.93**2 * 0.75)
    assert 0.85 < light["responses_w_m2"] / light["white_w_m2"] < 1.01  # readings at the border see half of it
    assert light["reference_w_m2"] == pytest.approx(0, abs=1e-9)
    photon = 6.62607015e-34 * 299792458 / 532e-9
    arrived = light["responses_w_m2"] * (16e-6) ** 2 * told["exposure_s"] / photon
    assert light["photons"] == pytest.approx(arrived, rel=1e-4)
    unlit = 16 * 3 * told["exposure_s"]
    assert told["electrons_mean"] == light["electrons"] == pytest.approx(0.65 * arrived + unlit, rel=1e-4)
    assert bench.camera.qe == 0.65


def test_the_light_of_a_reference_by_hand():
    """A tenth of the laser, spread as the light is, and half of both at the mirror where they meet."""
    student, pictures = student_of()
    here = placed(
        student, SLM.replace(STILL | {"lens2.focal_length": "500 mm", "camera.bin": 8}), pictures, masks="ideal"
    )
    light, lit = here.budget(pictures)["light"], 5e-3 / (1920 * 8e-6 * 1080 * 8e-6)
    assert light["reference_w_m2"] == pytest.approx(0.1 * lit / 2 / 4, rel=1e-3)
    assert light["kept"]["beside the reference"] == 0.9 and light["kept"]["half mirror"] == 0.5
    assert light["kept"]["change of size"] == pytest.approx(1 / 4)


def test_a_real_bench_costs_little_on_a_carrier_and_much_by_double_phase():
    student, pictures = student_of()
    errors = {}
    for encoding in ("carrier", "double-phase"):
        here = placed(student, SLM.replace({"mask.encoding": encoding}), pictures)
        with torch.no_grad():
            due = student.reader.detected(student.seen(pictures))
            errors[encoding] = float((here.bank(pictures) / here.level[:, None, None] - due).norm() / due.norm())
    assert errors["carrier"] < 0.15 < 0.3 < errors["double-phase"]


def test_a_file_holds_all_of_the_network(tmp_path):
    student, pictures = student_of()
    here = placed(student, SLM.replace({"mask.encoding": "carrier"}), pictures)
    path = tmp_path / "masks.h5"
    here.mask_set(title="three", classes=("a", "b", "c"), results={"accuracy": 0.5}).save(path)
    masks = fo.MaskSet.load(path)
    again = OSCLC.from_maskset(path)
    with torch.no_grad():
        assert torch.equal(again(pictures), here(pictures))
    assert masks.results == {"accuracy": 0.5}
    assert masks.network["electronics"]["classes"] == ["a", "b", "c"]
    assert here.mask_set(title="three").network["electronics"]["classes"] == ["0", "1", "2"]
    with pytest.raises(InputError, match="classes: 2 names, and scores of 3 classes"):
        here.mask_set(title="three", classes=("a", "b"))
    some = masks.select(outputs=[0, 2])
    assert not some.backend and not some.results and "electronics" not in some.network
    with pytest.raises(InputError, match="no network"):
        OSCLC.from_maskset(some)


def test_noise_follows_its_generator_and_masks_their_draw():
    student, pictures = student_of()
    here = placed(student, SLM.replace({"mask.encoding": "carrier"}), pictures)
    with torch.no_grad():
        one, same, other = (here(pictures, noisy=True, generator=torch.Generator().manual_seed(n)) for n in (1, 1, 2))
        moved = here(pictures, errors=fo.Imperfections({"camera.shift": [8e-6, 0.0]}))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert not torch.equal(moved, here(pictures))


def test_a_signed_reading_has_the_shot_noise_of_both_captures():
    student, pictures = student_of()
    here = placed(student, SLM.replace({"mask.encoding": "carrier", "camera.prnu": "0 %"}), pictures)
    told, camera = here.budget(pictures), here.bank.bench.camera
    with torch.no_grad():
        seen = here.bank(pictures)
        signal = float((seen - seen.mean((0, 2, 3), keepdim=True)).std())  # what an output always reads tells nothing
    variance = (
        camera.gain**2 * 2 * (told["electrons_mean"] + camera.read_noise**2) + 2 / 12
    )  # and the converter's steps
    assert told["signal_to_noise"] == pytest.approx(signal / variance**0.5, rel=0.05)


@pytest.mark.parametrize("readout", ["homodyne", "intensity"])
def test_finer_readings_are_the_same_in_mean_with_half_the_noise(readout, tmp_path):
    """2 × 2 wells hold four times the charge of one, less where light has peaks; shot noise falls by the root of it."""
    student, pictures = student_of(readout, "none" if readout == "intensity" else "two-sided-rectify", sensor_pool=None)
    bench = SLM.replace(STILL | {"mask.encoding": "carrier"})
    plain, finer = (placed(student, bench, pictures, oversample=n) for n in (1, 2))
    assert finer.bank.readings == (2 * plain.bank.readings[0], 2 * plain.bank.readings[1])
    longer = float(finer.bank.shutter / plain.bank.shutter)
    assert 3 < longer < 4.1
    with torch.no_grad():
        torch.testing.assert_close(finer(pictures), plain(pictures), rtol=2e-2, atol=2e-2)
    told, before = finer.budget(pictures), plain.budget(pictures)
    ratio = told["signal_to_noise"] / before["signal_to_noise"]
    assert ratio == pytest.approx(longer**0.5, rel=0.05)
    assert told["electrons_mean"] == pytest.approx(before["electrons_mean"] * longer / 4, rel=0.02)
    assert told["adc_samples"] == 4 * before["adc_samples"]
    finer.mask_set(title="finer").save(tmp_path / "finer.h5")
    again = OSCLC.from_maskset(tmp_path / "finer.h5")
    assert again.oversample == 2
    with torch.no_grad():
        assert torch.equal(again(pictures), finer(pictures))


@pytest.mark.parametrize("oversample", [0, 3, 8])
def test_readings_are_made_of_whole_pixels(oversample):
    """The bench has 4 × 4 pixels a reading."""
    student, pictures = student_of(sensor_pool=None)
    with pytest.raises(InputError, match=r"oversample: a reading is 4×4 pixels.*1 or 2 or 4"):
        placed(student, SLM, pictures, masks="ideal", oversample=oversample)


def test_one_capture_a_mask_reads_nearly_what_two_do_in_half_the_time(tmp_path):
    student, pictures = student_of()
    bench = SLM.replace({"mask.encoding": "carrier"})
    two, one = (placed(student, bench.replace({"reference.captures": n}), pictures) for n in (2, 1))
    with torch.no_grad():
        torch.testing.assert_close(one(pictures), two(pictures), rtol=0.1, atol=0.1 * float(two(pictures).std()))
        noisy, again = one.budget(pictures), two.budget(pictures)
        assert noisy["captures"] * 2 == again["captures"] and noisy["adc_samples"] * 2 == again["adc_samples"]
        assert noisy["signal_to_noise"] / again["signal_to_noise"] == pytest.approx(0.5**0.5, rel=0.15)
        one.mask_set(title="one").save(tmp_path / "one.h5")
        assert torch.equal(OSCLC.from_maskset(tmp_path / "one.h5").eval()(pictures), one(pictures))


def test_masks_of_a_draw_are_made_once_for_all_its_pictures(monkeypatch):
    from fouroptics.correlator.drawn import DrawnMasks
    from fouroptics.correlator.masks import MaskPlan

    student, pictures = student_of()
    here = placed(student, bench_of(240, {"mask.encoding": "carrier"}), pictures)
    made, spread, flawed = [], DrawnMasks.spread, MaskPlan.flawed
    monkeypatch.setattr(DrawnMasks, "spread", lambda *args: made.append(1) or spread(*args))
    monkeypatch.setattr(MaskPlan, "flawed", lambda *args, **told: made.append(1) or flawed(*args, **told))
    one, other = (fo.Imperfections({"mask.phase_scale": scale}) for scale in (0.05, 0.1))
    with torch.no_grad():
        whole = here(pictures, errors=one)
        halves = torch.cat([here(part, errors=one) for part in pictures.split(3)])
        assert len(made) == 1 and torch.allclose(whole, halves, atol=1e-6)
        assert not torch.equal(here(pictures, errors=other), whole) and len(made) == 2
        here.bank.put((here.bank.masks + 1) % 256)
        assert not torch.equal(here(pictures, errors=other), whole) and len(made) == 3
    here(pictures, errors=one).sum().backward()
    here(pictures, errors=one).sum().backward()
    assert len(made) >= 5  # a gradient wants its own


def test_gradients_reach_kernels_pixels_and_electronics():
    student, pictures = student_of()
    for learn in ("kernels", "masks"):
        here = placed(student, SLM.replace({"mask.encoding": "carrier"}), pictures, learn=learn).train()
        here(pictures, noisy=True).square().sum().backward()
        light = here.bank.kernels if learn == "kernels" else here.bank.device.drive
        assert light.grad is not None and bool(light.grad.isfinite().all()) and bool((light.grad != 0).any())
        assert all(p.grad is not None for p in here.backend.parameters())


def test_responses_of_a_deep_chain_are_what_its_layers_correlate_with():
    student, _ = student_of(channels=(2, 3, 4), kernel_size=[5, 4])
    taps = responses(student.front, SLM)
    first, second = student.front.weights
    pictures = torch.rand(1, 2, 24, 24)
    deep = F.conv2d(F.conv2d(pictures, first), second)
    reach = taps.shape[-1] // 2
    whole = F.conv2d(F.pad(pictures, (reach,) * 4), taps)
    before = (5 - 1) // 2 + (4 - 1) // 2
    inner = whole[..., before : before + deep.shape[-2], before : before + deep.shape[-1]]
    assert torch.allclose(inner, deep, atol=1e-5)


def test_without_a_crop_the_guard_costs_nothing_and_with_one_a_little():
    student, pictures = student_of()
    wide = unwrapped(student, SLM)
    roomy, _ = student_of(guard=16)
    roomy.front.load_state_dict(student.front.state_dict())
    roomy.reader.load_state_dict(student.reader.state_dict())
    assert torch.allclose(wide.readings(pictures), roomy.readings(pictures), atol=1e-4)  # neither wraps
    cropped, pictures = student_of(crops=[8], sensor_pool=None)
    other = unwrapped(cropped, SLM)
    here, there = cropped.readings(pictures), other.readings(pictures)
    assert 1e-6 < float((here - there).detach().norm() / here.detach().norm()) < 0.2


def test_what_a_bench_cannot_carry_is_refused():
    ideal, pictures = student_of("ideal_field", "none")
    with pytest.raises(InputError, match="homodyne"):
        OSCLC.from_student(ideal, SLM, pictures)
    signed, pictures = student_of()
    with pytest.raises(InputError, match="reference"):
        OSCLC.from_student(signed, SLM.replace({"reference": None}), pictures)
    wide, pictures = student_of(kernel_size=9)
    narrow = SLM.replace({"layout.guard": "48 um"})
    with pytest.raises(InputError, match=r'border is 3 wide; layout.guard = "64 um" or wider, or kernels of 7 taps'):
        OSCLC.from_student(wide, narrow, pictures)
    for size, bench in ((7, narrow), (9, SLM.replace({"layout.guard": "64 um"}))):  # as each mend says
        OSCLC.from_student(student_of(kernel_size=size)[0], bench, pictures, masks="ideal")
    beam, pictures = student_of("interference", "none")
    with pytest.raises(InputError, match="reference"):
        OSCLC.from_student(beam, SLM, pictures)
    with pytest.raises(InputError, match=r"bench: 'slm-532nm' is no bench; fouroptics\.Bench\.load"):
        OSCLC.from_student(signed, "slm-532nm", pictures)
    with pytest.raises(InputError, match=r"student: a Linear has no linear optics .*; an SCLC, or its fold"):
        OSCLC.from_student(torch.nn.Linear(2, 2), SLM, pictures)
    with pytest.raises(InputError, match=r"pictures are \(3, 16, 16\); .*one picture is pictures\[None\]"):
        OSCLC.from_student(signed, SLM, pictures, masks="ideal")(pictures[0])


@pytest.mark.parametrize("backend", [FC(), FC((7, 5), 0.1), Conv((4, 6)), Up((8, 6, 4))])
def test_a_backend_is_built_again_from_its_words(backend):
    network = backend.build(6, (4, 4), (16, 16), 3)
    told = describe(network)
    again = built(told["backend"], told["hidden"], told.get("dropout", 0.0)).build(6, (4, 4), (16, 16), 3)
    readings = torch.rand(2, 6, 4, 4)
    again.load_state_dict(network.state_dict())
    assert torch.equal(network.eval()(readings), again.eval()(readings))


def test_readings_of_whole_pixels():
    """Six readings of a signed field on 32 samples of four pixels each: 21 pixels wide, in the middle."""
    student = SCLC((1, 1), 1, None, 32, readout="homodyne", classes=2, sensor_pool=6, camera_pixel=0.25)
    with torch.no_grad():
        student.front.weights[0].fill_(1.0)
    columns = torch.linspace(0, 1, 32).expand(1, 1, 32, 32).contiguous()
    found = student.reader.detected(student.seen(columns))[0, 0, 2]
    centres = 15.5 + (torch.arange(6) - 2.5) * 21 / 4
    assert torch.allclose(found[1:-1], (centres / 31)[1:-1], atol=0.02)
    with pytest.raises(InputError, match="pixel"):
        SCLC((1, 1), 1, None, 32, readout="homodyne", classes=2, sensor_pool=16, camera_pixel=3)


def test_taps_of_a_learned_plane_are_not_cut_to_its_kernel():
    """A plane that has learned lies anywhere: as far as a bank's taps may go nothing of it is lost."""
    student, _ = student_of(parameters="plane", guard=16)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        spread = student.front.plane.std()
        student.front.plane += 0.3 * spread * torch.randn(student.front.plane.shape, generator=draw)
    bench = SLM.replace(STILL | PERFECT | {"layout.guard": "192 um"})
    taps = responses(student.front, bench)
    whole = student.front.kernels(student.front.transfer())
    assert torch.equal(taps, whole[..., 8:23, 8:23])  # 15 of them, where pictures are of 16
    again = fold(student_of()[0])
    assert responses(again.front, bench).shape[-2:] == (5, 5)


def test_a_cropped_student_on_small_pictures_finds_room():
    student, _ = student_of(crops=[8], sensor_pool=None)
    assert responses(student.front, SLM.replace({"layout.guard": "320 um"})).shape[-2:] == (15, 15)


def test_double_precision_comes_back_bit_for_bit(tmp_path):
    student, pictures = student_of()
    student, pictures = student.double(), pictures.double()
    here = placed(student, SLM.replace({"mask.encoding": "carrier"}), pictures)
    here.mask_set(title="double", classes=("a", "b", "c")).save(tmp_path / "m.h5")
    with torch.no_grad():
        assert torch.equal(OSCLC.from_maskset(tmp_path / "m.h5")(pictures), here(pictures))


def test_a_fold_stands_on_a_bench_as_its_student_does():
    student, pictures = student_of()
    bench = SLM.replace({"mask.encoding": "carrier"})
    one, other = placed(student, bench, pictures), placed(fold(student).eval(), bench, pictures)
    with torch.no_grad():
        assert float((one(pictures) - other(pictures)).abs().max()) < 1e-2


@pytest.mark.parametrize("masks", ["ideal", "device"])
def test_a_kernel_of_nothing_stops_no_network(masks):
    student, pictures = student_of()
    with torch.no_grad():
        student.front.weights[0][2] = 0
    student.reader.put_thresholds(torch.zeros(4))
    student.normalise(pictures)
    bench = SLM.replace(STILL | PERFECT | {"mask.encoding": "carrier"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*answer to nothing.*")
        with pytest.raises(UserWarning, match=r"outputs answer to nothing: 2; fouroptics\.models\.pruning leaves"):
            OSCLC.from_student(student, bench, pictures, masks=masks)
    here = placed(student, bench, pictures, masks=masks)
    off = here(pictures) - student(pictures)
    assert float(off.norm() / student(pictures).norm()) < (0.05 if masks == "ideal" else 0.3)


def test_masks_are_counted_as_they_are_shown():
    """Ideal ones as those of a device: each of a pair, of inputs that share no mask each, side by side one."""
    for readout, preset, layout, due in (
        ("homodyne", "slm-532nm", "tiled", 4),
        ("homodyne", "slm-532nm", "lenslet", 12),
        ("intensity", "slm-532nm", "frames", 12),
        ("pair_intensity", "slm-532nm", "tiled", 8),
        ("homodyne", "plate-532nm", "tiled", 1),
    ):
        student, pictures = student_of(readout, "none", camera_pixel=None, kernel_size=3)
        bench = fo.Bench.load(preset).replace({"layout.inputs": layout})
        if readout == "intensity":  # inputs one after another, whose intensities are summed
            student = SCLC((1, 4), 3, None, 16, readout=readout, classes=3, sensor_pool=4)
            pictures, due = pictures[:, :1], 4
            student.normalise(pictures)
        here = placed(student, bench, pictures, masks="ideal")
        assert here.budget(pictures[:2])["masks"] == due, (readout, preset, layout)


def test_a_plate_makes_no_step_by_itself():
    student, pictures = student_of()
    here = placed(student, fo.Bench.load("plate-532nm").replace({"reference.settle": None}), pictures, masks="ideal")
    with pytest.raises(InputError, match=r"reference\.settle: a mask that stands still makes no step .*captures = 1"):
        here.budget(pictures)


def test_the_bench_s_stop_is_in_the_way():
    """One as wide as the band of a crop cuts what a response's cut taps leave beyond it."""
    student, pictures = student_of(crops=[8], sensor_pool=4)
    assert placed(student, SLM, pictures, masks="ideal").bank.stop
    assert not placed(student, SLM.replace({"stop": None}), pictures, masks="ideal").bank.stop


def test_a_budget_tells_the_products_that_light_makes():
    student, pictures = student_of()
    told = placed(student, SLM, pictures, masks="ideal").budget(pictures[:2])
    assert told["optical_macs"] == 3 * 4 * 25 * 16 * 16 == student.summary().deep_macs


@pytest.mark.parametrize(("defocus", "most"), [("60 nm", 0.15), ("80 nm", 0.2), ("120 nm", 0.35)])
def test_a_reference_follows_what_lenses_do_to_its_responses(defocus, most, tmp_path):
    """A defocus turns responses: of 60 nm by 0.7 rad, of 120 nm far enough to answer the wrong way round."""
    student, pictures = student_of()
    bench = SLM.replace({"mask.encoding": "carrier", "aberration.zernike": {4: defocus}})
    here = placed(student, bench, pictures)
    due = student.reader.detected(student.seen(pictures))
    with torch.no_grad():
        found = here.bank(pictures) / here.level[:, None, None]
        assert float((found - due).norm() / due.norm()) < most
    phase = here.bank.bench.reference.phase
    assert phase is not None and 0 < phase < 2 * torch.pi
    here.mask_set().save(tmp_path / "masks.h5")
    again = OSCLC.from_maskset(tmp_path / "masks.h5")
    assert again.bank.bench.reference.phase == phase and torch.equal(again(pictures), here(pictures))


def test_a_reference_that_stands_well_is_left_where_it_is():
    student, pictures = student_of()
    for bench in (SLM.replace({"mask.encoding": "carrier"}), fo.Bench.load("plate-532nm")):
        assert placed(student, bench, pictures).bank.bench.reference.phase is None
