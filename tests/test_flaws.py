"""What is off on a bench, against closed forms, propagation and other benches."""

import math
import warnings

import pytest
import torch

import fouroptics as fo
from fouroptics.correlator.light import FourierLight
from fouroptics.devices import material
from fouroptics.imperfections import Imperfections, named
from fouroptics.optics.fourier import Plane
from fouroptics.optics.propagation import Fresnel
from tests.flawed_banks import IDEAL, SIDE, SLM, SMALL, UM, bank, generator, relative, smooth, wave


def ideal_bank(channels=(1, 1), changes=None, **options):
    return bank(IDEAL | (changes or {}), channels, **({"masks": "ideal"} | options))


def test_a_mask_shifted_along_the_axis_is_reached_and_left_by_fresnel_propagation():
    made, picture, away = ideal_bank(), smooth(1), 2e-3
    bench, room = made.bench, 64
    step = bench.source.wavelength * bench.lens1.focal_length / (room * bench.input.sample)
    plane = Plane((room, room), step)
    options = {"wavelength": bench.source.wavelength, "boundary": "circular", "dtype": torch.complex128}
    ahead, back = (Fresnel(plane, z, **options) for z in (away, -away))
    centre = room // 2 - SIDE // 2
    field = torch.zeros(room, room, dtype=torch.complex128)
    field[centre : centre + SIDE, centre : centre + SIDE] = picture[0]
    spectrum = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(field)))
    nu = (torch.arange(room, dtype=torch.float64) - room // 2) / room
    taps = wave(torch.outer(nu, torch.arange(-1.0, 2.0, dtype=torch.float64)))
    mask = taps @ made.taps[0, 0].detach().to(taps.dtype) @ taps.mT
    passed = back(ahead(spectrum) * mask)
    truth = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(passed)))[centre:, centre:][:SIDE, :SIDE]
    with torch.no_grad():
        found = made.field(picture, errors=Imperfections({"mask.defocus": away}))[0]
        assert relative(found, truth) < 1e-9
        assert relative(made.field(picture)[0], truth) > 1e-5


def test_a_quarter_turn_of_the_mask_is_the_turned_kernel_exactly():
    made, picture = ideal_bank((2, 1)), torch.rand(1, SIDE, SIDE, generator=generator(3), dtype=torch.float64)
    for quarters in (-1, 1, 2):
        turned = torch.rot90(made.taps.detach(), -quarters, (-2, -1))  # from +x to +y is clockwise as y is down
        truth = torch.nn.functional.conv2d(picture[None], turned, padding=1)[0]
        with torch.no_grad():
            found = made.field(picture, errors=Imperfections({"mask.rotation": quarters * math.pi / 2}))
        assert relative(found, truth) < 1e-12


def test_shifts_of_a_mask_compose_and_are_a_linear_phase_of_its_spread():
    made = ideal_bank()
    point = torch.zeros(1, SIDE, SIDE, dtype=torch.float64)
    point[0, 5, 9] = 1.0
    bench, shift = made.bench, 300 * UM
    errors = Imperfections({"mask.shift_x": torch.tensor([shift, shift / 2], dtype=torch.float64)})
    with torch.no_grad():
        spread, (whole, half) = made.field(point), made.field(point[None], errors=errors)
    x = torch.arange(SIDE, dtype=torch.float64) - 9
    slope = shift * bench.input.sample / (bench.source.wavelength * bench.lens1.focal_length)
    assert relative(whole, spread * wave(slope * x)) < 1e-12
    assert relative(half * wave(slope / 2 * x), whole) < 1e-12


@pytest.mark.parametrize("masks", ["ideal", "device"])
def test_the_camera_s_shift_is_its_offset(masks):
    changes = IDEAL | {"camera.exposure": "10 us"}
    made, pictures = bank(changes, (2, 1), masks=masks), smooth(1)
    shift = torch.tensor([5 * UM, -11 * UM], dtype=torch.float64)  # (y, x)
    moved = bank(changes | {"camera.offset": ["-11 um", "5 um"]}, (2, 1), masks=masks)
    with torch.no_grad():
        found, truth = made(pictures, errors=Imperfections({"camera.shift": shift})), moved(pictures)
        assert relative(found, truth) < 1e-4
        assert relative(made(pictures), truth) > 1e-2


def test_the_reference_s_phase_turns_what_is_read_against_it():
    pictures = smooth(1)

    def read(kind, *phases):
        still = IDEAL | {"camera.exposure": "3 us", "reference.phase_step_error": None}
        made = bank(still, (1, 1), masks="ideal", readout=kind)
        with torch.no_grad():
            return [made(pictures, errors=Imperfections({"reference.phase": phase})) for phase in phases]

    ahead, across, against = read("homodyne", 0.0, math.pi / 2, math.pi)
    assert relative(against, -ahead) < 1e-9
    assert across.abs().max() < 1e-9 * ahead.abs().max()  # real kernels have no field in quadrature
    ahead, across, against = read("interference", 0.0, math.pi / 2, math.pi)
    assert relative(across, (ahead + against) / 2) < 1e-9
    assert relative(ahead, against) > 0.1


def test_the_camera_s_defocus_is_propagation():
    away, room, made = 4e-3, 96, ideal_bank((2, 1))
    plane = Plane((room, room), made.bench.input.sample)
    fresnel = Fresnel(plane, away, wavelength=532e-9, boundary="circular", dtype=torch.complex128)
    wide = torch.nn.functional.pad(smooth(1), (40, 40, 40, 40))
    with torch.no_grad():
        large = fo.Correlator4f.from_kernels(made.taps.detach(), SLM.replace(IDEAL), (room, room)).field(wide)
        blurred = made.field(smooth(1), errors=Imperfections({"camera.defocus": away}))
        truth = fresnel(large)[:, 40 : 40 + SIDE, 40 : 40 + SIDE]
        assert relative(blurred, truth) < 1e-3
        assert relative(made.field(smooth(1)), truth) > 1e-2


def test_drawn_lens_errors_are_the_bench_s_own():
    terms, disc = {4: 40e-9, 7: -30e-9}, {"aberration.diameter": "12 mm"}
    own = ideal_bank((2, 1), disc | {"aberration.zernike": {str(n): f"{c * 1e9} nm" for n, c in terms.items()}})
    made, pictures = ideal_bank((2, 1), disc), smooth(1)
    errors = Imperfections({f"aberration.zernike.{n}": c for n, c in terms.items()})
    with torch.no_grad():
        assert relative(made.power(pictures, errors=errors), own.power(pictures)) < 1e-6
        assert relative(made.power(pictures), own.power(pictures)) > 1e-2


def test_a_moved_input_moves_the_response():
    made, picture = ideal_bank(), torch.zeros(1, SIDE, SIDE, dtype=torch.float64)
    picture[:, 4:9, 5:11] = smooth(1)[:, 5:10, 5:11]
    by_two = Imperfections({"input.shift": torch.tensor([2.0, -1.0]).double() * made.bench.input.sample})
    with torch.no_grad():
        found = made.field(picture, errors=by_two)
        assert relative(found, made.field(picture.roll((2, -1), (-2, -1)))) < 1e-12


ETCHED = SMALL | {
    "mask.preset": "etched-8", "mask.kind": "multilevel_phase", "mask.levels": 8, "mask.phase_range": None,
    "mask.flicker": None, "mask.precompensate": False, "mask.frame_rate": None, "mask.settle": None, "mask.lut": None,
    "mask.fill_factor": "90 %", "layout.outputs": "tiled", "mask.pitch": "16 um", "mask.pixels": [520, 520],
}  # fmt: skip


def test_another_wavelength_is_the_same_plate_on_another_bench():
    """1/λ and n(λ) in the plate's phases, X = λfν in its place."""
    plate = ETCHED | {"mask.step_depth": "144.3 nm", "mask.material": "fused-silica", "camera.exposure": "10 us"}
    drift = 0.15e-9
    made, other = bank(plate), bank(plate | {"source.wavelength": "532.15 nm"})
    assert made.device.plan.count == other.device.plan.count
    other.put(made.masks)
    with torch.no_grad():
        errors = Imperfections({"source.wavelength": drift})
        found, truth = made.eval().power(smooth(1), errors=errors), other.eval().power(smooth(1))
        assert relative(found, truth) < 2e-4
        assert relative(made.power(smooth(1)), truth) > 3 * relative(found, truth)


def test_a_single_lens_changes_its_focal_length_with_the_wavelength():
    """Bench and mask stay where they were: their light is smaller by f/f', and out of every plane by f' - f."""
    made = ideal_bank((1, 1), {"lens1.glass": "n-bk7", "lens2.glass": "n-bk7"})
    flat, drift = ideal_bank((1, 1)), 2e-9
    n = [material.index("n-bk7", wavelength) for wavelength in (532e-9, 534e-9)]
    longer = 0.25 * (n[0] - 1) / (n[1] - 1) - 0.25
    assert 40 * UM < longer < 60 * UM  # dn/dλ of N-BK7 is -0.048 a µm there
    by_hand = {
        "source.wavelength": drift, "camera.defocus": -2 * longer, "mask.defocus": -longer,
        "mask.magnification": 0.25 / (0.25 + longer) - 1,
    }  # fmt: skip
    with torch.no_grad():
        found = made.field(smooth(1), errors=Imperfections({"source.wavelength": drift}))
        truth = flat.field(smooth(1), errors=Imperfections(by_hand))
        achromat = flat.field(smooth(1), errors=Imperfections({"source.wavelength": drift}))
    assert relative(found.abs(), truth.abs()) < 1e-6
    assert relative(found.abs(), achromat.abs()) > 1e-5


def test_reference_power_gain_and_noise_are_those_of_another_bench():
    camera = IDEAL | {"camera.exposure": "4 us"}
    made, pictures = bank(camera, readout="homodyne"), smooth(1)
    for values, changes in (
        ({"reference.phase_step": 0.3}, {"reference.phase_step_error": "0.32 rad"}),
        ({"source.power": -0.2}, {"source.power": "4 mW"}),
        ({"camera.gain": 0.1}, {"camera.gain": 0.396}),
    ):
        with torch.no_grad():
            found = made(pictures, errors=Imperfections(values))
            truth = bank(camera | changes, readout="homodyne")(pictures)
        if "source.power" in values:  # the reference is split off the same laser, and is dimmer too
            continue
        torch.testing.assert_close(found, truth, rtol=1e-6, atol=1e-6)


def test_twice_the_read_noise_is_four_times_its_variance():
    """var(DN) = K²σ² + 1/12."""
    changes = IDEAL | {"camera.exposure": "4 us", "camera.dsnu": 0.0, "camera.dark_current": 0.0}
    made, dark = bank(changes, (1, 1)), torch.zeros(200, 1, SIDE, SIDE, dtype=torch.float64)
    with torch.no_grad():
        noisy = made.capture(dark, generator=generator(), errors=Imperfections({"camera.read_noise": 1.0}))
    assert float(noisy.var()) == pytest.approx((0.36 * 2 * 2.3) ** 2 + 1 / 12, rel=0.03)


def test_a_combiner_s_errors_are_weights_of_its_arms():
    lenslet = {"layout.inputs": "lenslet"}
    made, pictures = ideal_bank((2, 3), lenslet), smooth(3)
    phase = 0.4 * torch.randn(2, 3, generator=generator(5), dtype=torch.float64)
    amplitude = -0.2 * torch.rand(2, 3, generator=generator(6), dtype=torch.float64)
    errors = Imperfections({"combiner.phase": phase, "combiner.amplitude": amplitude})
    with torch.no_grad():
        found = made.field(pictures, errors=errors)
        each = torch.stack(
            [
                fo.Correlator4f.from_kernels(made.taps[:, i : i + 1], made.bench, (SIDE, SIDE)).field(
                    pictures[i : i + 1]
                )
                for i in range(3)
            ]
        )
    weights = (1 + amplitude) * torch.polar(torch.ones_like(phase), phase)
    assert relative(found, (weights.mT[:, :, None, None] * each).sum(0)) < 1e-12


def test_dead_pixels_are_as_many_as_asked_and_follow_the_draw_s_seed():
    made = bank(SMALL, (1, 1)).eval()
    errors = Imperfections({"mask.dead_pixels": torch.full((2,), 0.1).double()})
    plan, drive = made.device.plan, made.device.drive.detach()
    nominal = plan.shown(drive)
    shown = [plan.flawed(errors.at(draw), drive, "hard", softness=1.0) for draw in (0, 1, 0)]
    changed = [(one != nominal).double().mean() for one in shown]
    assert all(abs(float(share) - 0.1) < 0.02 for share in changed)  # of 255 in 256 that show another level
    assert torch.equal(shown[0], shown[2])
    assert not torch.equal(shown[0], shown[1])


def everything(made, draws):
    """A value of every field that applies, of the size that a good laboratory knows."""
    sizes = {
        "mask.shift_x": 40 * UM, "mask.shift_y": 30 * UM, "mask.rotation": 0.01, "mask.magnification": 3e-3,
        "mask.defocus": 2e-3, "mask.phase_scale": 0.03, "mask.level": 0.1, "input.shift": 6 * UM,
        "camera.shift": 6 * UM, "camera.defocus": 1e-3, "camera.gain": 0.02, "aberration.zernike.4": 2e-8,
        "aberration.zernike.7": 2e-8, "combiner.phase": 0.1, "combiner.amplitude": -0.05,
        "reference.phase": 0.2, "reference.phase_step": 0.1, "source.power": 0.05, "source.wavelength": 4e-10,
        "fabrication.depth": 0.03, "fabrication.overlay": 0.4 * UM,
    }  # fmt: skip
    parts = {
        "mask.level": (made.bench.mask.levels or 1,), "input.shift": (2,), "camera.shift": (2,),
        "combiner.phase": made.channels, "combiner.amplitude": made.channels, "fabrication.depth": (3,),
        "fabrication.overlay": (3, 2),
    }  # fmt: skip
    return {
        name: size
        * (0.6 + 0.4 * torch.rand((*draws, *parts.get(name, ())), generator=generator(n), dtype=torch.float64))
        for n, (name, size) in enumerate(sizes.items())
    }


def walked():
    from fouroptics.imperfections import FIELDS, named

    slm = {"camera.exposure": "3 us"} | SMALL | {"mask.levels": 16}
    lenslet = IDEAL | {"layout.inputs": "lenslet", "camera.exposure": "3 us", "mask.pixels": [280, 280]}
    plate = ETCHED | {"camera.exposure": "3 us"}
    for name in [*(n for n in FIELDS if n != "aberration.zernike"), "aberration.zernike.4", "aberration.zernike.7"]:
        if name in ("mask.dead_pixels", "camera.read_noise"):  # no number that a gradient passes; see above
            continue
        kind = "combiner" if name.startswith("combiner") else "plate" if name.startswith("fabrication") else "slm"
        yield name, {"combiner": lenslet, "plate": plate, "slm": slm}[kind], named(name)


@pytest.mark.parametrize(
    ("name", "changes", "field"), list(walked()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_field_changes_the_reading_and_its_gradient_is_the_slope(name, changes, field):
    channels = (1, 2) if name.startswith("combiner") else (2, 1)
    made = bank(changes, channels, readout="homodyne").eval()
    value = everything(made, ())[name]
    pictures = smooth(channels[1])
    weights = torch.randn(made(pictures).shape, generator=generator(9), dtype=torch.float64)

    def reading(at):
        return (weights * made(pictures, errors=Imperfections({name: at}))).sum()

    with torch.no_grad():
        nominal = (weights * made(pictures)).sum()
        assert abs(float(reading(value) - nominal)) > 1e-6 * float(nominal.abs())
    at = value.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(reading(at), at)
    along = torch.rand(value.shape, generator=generator(11), dtype=torch.float64) * value.abs() + 0.1 * value.abs()
    step = 1e-3
    with torch.no_grad():
        truth = (reading(value + step * along) - reading(value - step * along)) / (2 * step)
    assert float((slope * along).sum()) == pytest.approx(float(truth), rel=2e-4)


def test_many_draws_are_what_each_gives_by_itself():
    made = bank({"camera.exposure": "3 us"} | SMALL | {"mask.levels": 16}, (2, 2), readout="homodyne").eval()
    pictures = torch.stack([smooth(2), smooth(2).flip(-1), smooth(2).flip(-2)])
    values = everything(made, (3,))
    kept = {name: value for name, value in values.items() if not name.startswith(("combiner", "fabrication"))}
    shared = {name: value for name, value in kept.items() if name not in ("mask.phase_scale", "mask.level")}
    shared.pop("source.wavelength")
    with torch.no_grad():
        for some in (kept, shared, {name: kept[name] for name in ("camera.shift", "camera.gain")}):
            errors = Imperfections(some)
            alone = torch.stack([made(pictures[i], errors=errors.at(i)) for i in range(3)])
            torch.testing.assert_close(made(pictures, errors=errors), alone, rtol=1e-9, atol=1e-9)
            every = made(pictures, errors=errors.reshape(3, 1))
            torch.testing.assert_close(every[[0, 1, 2], [0, 1, 2]], alone, rtol=1e-9, atol=1e-9)
            assert every.shape == (3, 3, *alone.shape[1:])


def test_chunks_of_draws_change_nothing_and_hold_one_at_a_time(monkeypatch):
    made = bank({"camera.exposure": "3 us"} | SMALL, (2, 1)).eval()
    errors = Imperfections({"mask.shift_x": torch.linspace(-30, 30, 7).double() * UM, "mask.rotation": 0.01})
    pictures = torch.stack([smooth(1), smooth(1).flip(-1)])
    seen = []

    def watched(self, amplitude, *rest, _own=FourierLight._filter):
        seen.append(amplitude.shape[0] * math.prod(rest[1].shape))
        return _own(self, amplitude, *rest)

    with torch.no_grad():
        ways = (pictures, errors.reshape(7, 1)), (pictures[:, None], errors), (pictures[:1], errors)
        whole = [made(light, errors=drawn) for light, drawn in ways]
        monkeypatch.setattr("fouroptics.correlator.draws._CHUNK", 1)
        monkeypatch.setattr(FourierLight, "_filter", watched)
        for (light, drawn), due in zip(ways, whole, strict=True):
            torch.testing.assert_close(made(light, errors=drawn), due, rtol=1e-12, atol=1e-12)
    assert seen == [1] * 35


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_autocast_changes_no_light_of_a_bench_that_is_off(kind):
    made, pictures = bank({"camera.exposure": "3 us"} | SMALL, (2, 1), readout="homodyne").float().eval(), smooth(1)
    values = {name: value for name, value in everything(made, ()).items() if not named(name).lacks(made.bench)}
    for some in ({name: value} for name, value in values.items()):
        with torch.no_grad():
            plain = made(pictures.float(), errors=Imperfections(some))
            with torch.autocast("cpu", kind):
                assert torch.equal(made(pictures.float(), errors=Imperfections(some)), plain)


def test_a_gradient_through_masks_of_many_draws_keeps_one_draw_s():
    made, pictures = bank({"camera.exposure": "3 us"} | SMALL, (1, 1)), smooth(1)

    def kept(draws):
        sizes = []
        errors = Imperfections({"mask.phase_scale": torch.linspace(0, 0.02, draws, dtype=torch.float64)})
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            made(pictures, errors=errors).sum()
        return sum(sizes)

    assert kept(9) - kept(8) < 0.2 * kept(1)


def test_what_has_no_meaning_is_refused_in_a_line():
    pictures = smooth(1)
    for values, says in (
        ({"fabrication.depth": torch.zeros(3)}, "a phase_slm mask is not etched in steps; leave it out"),
        ({"combiner.phase": torch.zeros(1, 1)}, "there is no combiner where layout.inputs is 'tiled'"),
        ({"mask.level": torch.zeros(5)}, r"components of shape \[5\]; \[256\] \(level\) are due"),
        ({"mask.dead_pixels": torch.tensor(0.1, requires_grad=True)}, "no gradient passes a map of dead pixels"),
        ({"mask.shift_x": torch.zeros(3)}, r"draws of shape \[3\] do not broadcast with pictures \[2\]; errors.resh"),
    ):
        with pytest.raises(fo.InputError, match=says):
            bank(SMALL, (1, 1))(torch.stack([smooth(1)] * 2), errors=Imperfections(values))
    with pytest.raises(fo.InputError, match="no pixels to be off"):
        ideal_bank()(pictures, errors=Imperfections({"mask.phase_scale": 0.01}))
    with pytest.raises(fo.InputError, match="wraps"):
        ideal_bank(boundary="circular").field(pictures, errors=Imperfections({"mask.shift_x": 1e-6}))
    with pytest.raises(fo.InputError, match="lens transform"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ideal_bank(light="free_space").field(pictures, errors=Imperfections({"mask.shift_x": 1e-6}))


@pytest.mark.parametrize("encoding", ["double-phase", "carrier"])
def test_the_whole_way_from_kernels_to_electrons_has_its_own_gradient(encoding):
    """Encode, soft levels, a bench that is off, correlate, detect; the noise is frozen and the ADC off."""
    changes = SMALL | {"mask.encoding": encoding, "mask.levels": 8, "camera.exposure": "3 us", "mask.leak": "20 %"}
    made = bank(
        changes | {"layout.guard": "32 um" if encoding == "double-phase" else "16 um"},
        (1, 1),
        learn="kernels",
        quantize="soft",
    )
    made.device.softness = 0.5
    pictures, noise = smooth(1), torch.randn(1, 1, *made.readings, generator=generator(2), dtype=torch.float64)
    names = ("mask.shift_x", "mask.rotation", "mask.phase_scale", "camera.shift", "aberration.zernike.4")
    values = [everything(made, ())[name] for name in names]

    sizes = [10.0 ** math.floor(math.log10(float(value.abs().max()))) for value in values]

    def counts(kernels, *off):  # each error in units of its own size, so that one step of differences suits all
        errors = Imperfections({n: o * size for n, o, size in zip(names, off, sizes, strict=True)})
        mean = torch.func.functional_call(made, {"kernels": kernels}, (pictures,), {"errors": errors})
        return ((mean + mean.clamp_min(0).sqrt() * noise)[..., 4:12:3, 4:12:3]) / 1000

    off = [(value / size).requires_grad_(True) for value, size in zip(values, sizes, strict=True)]
    kernels = made.kernels.detach().clone().requires_grad_(True)
    assert torch.autograd.gradcheck(counts, (kernels, *off), eps=1e-7, atol=1e-5, rtol=1e-3, fast_mode=True)
