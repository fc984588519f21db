"""A chain of layers, what it is composed to, and the one plane it folds to: the same field, gradients and bench."""

import pytest
import torch
import torch.nn.functional as F
from fouroptics.models import band
from fouroptics.models.front import DeepFront, Plan, PlaneFront

import fouroptics as fo
from fouroptics.optics.correlation import correlate
from fouroptics.optics.fourier import spectral_crop

CHAINS = {
    "one guard": ((32, 32), [(3, 3)] * 3, [None, None, (16, 16)], None),
    "odd": ((64, 64), [(5, 5), (3, 3), (3, 3)], [(31, 31), (15, 15), (5, 5)], (0, 0)),
    "even last": ((64, 64), [(5, 5), (3, 3), (3, 3)], [(31, 31), (15, 15), (6, 6)], (0, 0)),
    "even": ((32, 30), [(3, 3), (5, 2), (3, 3)], [(16, 15), (8, 8), None], (0, 0)),
    "equal": ((20, 20), [(4, 4), (2, 2), (3, 3)], [(10, 10), (10, 10), (10, 10)], (0, 0)),
    "no crop": ((9, 10), [(3, 3), (3, 2)], [None, None], None),
    "mixed": ((28, 28), [(3, 3), (3, 3), (1, 1), (3, 3)], [(20, 21), None, (13, 8), (13, 8)], (5, 6)),
    "one layer": ((16, 16), [(7, 7)], [(6, 6)], None),
}


def front_of(name, *, is_complex=False, channels=(3, 4, 5, 3, 2)):
    size, kernels, crops, guard = CHAINS[name]
    torch.manual_seed(0)
    plan = Plan.of(size, channels[: len(kernels) + 1], kernels, crops, guard)
    return DeepFront(plan, is_complex=is_complex).double()


def pictures_for(front, count=2):
    return torch.rand(count, 3, *front.plan.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def off(found, due):
    return float(((found - due).abs().max() / due.abs().max()).detach())


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("name", CHAINS)
def test_composed_folded_and_layer_by_layer_are_the_same(name, is_complex):
    front = front_of(name, is_complex=is_complex)
    pictures = pictures_for(front)
    due = front.by_layers(pictures)
    folded = PlaneFront(front.plan, front.transfer(), is_complex=is_complex)
    assert off(front(pictures), due) < 1e-12
    fine = front.respond(pictures, front.transfer(), fine=True)
    assert off(fine, front.by_layers(pictures, fine=True)) < 1e-12
    odd = [n % 2 for n in front.plan.grids[-1]]
    if all(odd):
        assert off(fine[..., ::2, ::2], due) < 1e-12
    assert off(folded(pictures), due) < 1e-12
    single = front.float()
    alone = PlaneFront(front.plan, single.transfer(), is_complex=is_complex)
    for way in (single, single.by_layers, alone):
        assert off(way(pictures.float()).to(due.dtype), due) < 1e-5


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("name", CHAINS)
def test_gradients_of_deep_parameters_are_those_of_the_layers(name, is_complex):
    front = front_of(name, is_complex=is_complex)
    pictures = pictures_for(front)
    weigh = torch.randn(front(pictures).shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    composed, layered = (
        torch.autograd.grad(((way(pictures) + 1j) * weigh).abs().pow(3).sum(), [*front.weights])
        for way in (front, front.by_layers)
    )
    for one, other in zip(composed, layered, strict=True):
        assert off(one, other) < 1e-10


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("name", ["one guard", "even last", "equal", "mixed"])
def test_the_plane_is_a_kernel_of_one_correlator(name, is_complex):
    """Its taps on the whole grid, through a bank that knows of no band; what that gives is cut to the band."""
    front = front_of(name, is_complex=is_complex)
    pictures = pictures_for(front)
    (rows, columns), (height, width) = front.plan.grid, front.plan.size
    padded = F.pad(pictures, (0, columns - width, 0, rows - height)).to(torch.complex128)
    wide = correlate(padded, front.kernels(front.transfer()), boundary="circular")
    cut = spectral_crop(torch.fft.fft2(wide.to(torch.complex128), norm="ortho"), front.plan.grids[-1])
    found = torch.fft.ifft2(cut, norm="ortho")
    due = front.by_layers(pictures)
    assert off(found if is_complex else found.real, due) < 1e-12
    assert is_complex or found.imag.abs().max() < 1e-12


def test_a_guard_as_wide_as_the_response_keeps_borders_dark():
    """Without a crop the guarded chain is linear convolution in a dark surround, layer after layer."""
    front = front_of("no crop")
    pictures = pictures_for(front)
    due = pictures
    around = F.pad(due, (8, 8, 8, 8))
    for weight in front.taps():
        above, left = ((k - 1) // 2 for k in weight.shape[-2:])
        below, right = weight.shape[-2] - 1 - above, weight.shape[-1] - 1 - left
        around = F.conv2d(F.pad(around, (left, right, above, below)), weight)
    due = around[..., 8:-8, 8:-8]
    assert off(front(pictures)[..., :9, :10], due) < 1e-12
    assert 0 < front.energy_in_guard(pictures) < 0.5


def test_a_band_is_as_bright_as_the_picture():
    """A kernel of one tap is the picture's own low band, at its level."""
    plan = Plan.of((32, 32), (1, 1), [(3, 3)], [(6, 6)], (0, 0))
    front = DeepFront(plan).double()
    with torch.no_grad():
        front.weights[0].zero_()[0, 0, 1, 1] = 1
        flat = front(torch.full((1, 1, 32, 32), 0.3, dtype=torch.float64))
    assert torch.allclose(flat, torch.full((1, 1, 6, 6), 0.3, dtype=torch.float64), atol=1e-14)


@pytest.mark.parametrize("is_complex", [False, True])
def test_a_chain_begins_with_unit_rms(is_complex):
    transfer = front_of("mixed", is_complex=is_complex).transfer().detach()
    assert float(transfer.abs().square().mean()) == pytest.approx(1)


def test_guards_are_smooth_and_wide_enough():
    plan = Plan.of(
        (224, 224),
        (3, 64, 192, 384, 256, 256),
        [(11, 11), (5, 5)] + [(3, 3)] * 3,
        [(55, 55), (27, 27), None, None, (13, 13)],
    )
    # 5 + 2·224/55 + 3·224/27 = 38.03: taps stand ever further apart; and 1.5·224/13 = 25.8 for the crop's ringing
    assert plan.reach == (65, 65)
    assert plan.grid == (294, 294)  # 2·3·7·7: the first of factors up to 7 from 289 on
    assert plan.grids[-1] == (17, 17)
    whole = Plan.of((32, 32), (1, 1), [(3, 3)], [(16, 16)])
    assert whole.grid == (36, 36)  # 32 + 1 + 3, on which 16 of 32 samples are 18 of 36
    assert Plan.of((9, 9), (1, 1), [(4, 4)], [None]).reach == (2, 2)  # an even kernel reaches further behind


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ((32, 32), (3, 4), [(3, 3)], [(40, 40)]),
            r"crops\[0\]: 40×40 of pictures that are 32×32 behind layer 0; at most",
        ),
        (((32, 32), (3, 4, 5), [(3, 3)] * 2, [(8, 8), (9, 9)]), r"crops\[1\]: 9×9 of pictures that are 8×8"),
        (((32, 32), (3, 4, 5), [(3, 3)], [None, None]), "kernel_size: 1 of them for 2 convolutions"),
        (((32, 32), (3, 4), [(3, 3)], []), "crops: 0 of them for 1 convolutions; one a convolution"),
        (((8, 8), (3, 4), [(9, 9)], [None], (0, 0)), r"kernel_size\[0\]: 9×9 taps on a grid of 8×8; fewer taps"),
        (((8, 8), (3,), [], []), "channels: .3,. make no layer"),
        (
            ((32, 32), (3, 4, 5), [(3, 3), (7, 7)], [(16, 16), None], (6, 6)),
            r"kernel_size\[1\]: the taps reach 7 samples beyond the picture up to this layer, the guard has 6; fewer",
        ),
        (((8, 8), (3, 4), [(3, 3)], [None], (-4, 0)), r"guard: .* are no samples; whole numbers from 0 on"),
        (((8, 8), (3, 4), [(0, 3)], [None]), r"kernel_size: .* are no samples; whole numbers from 1 on"),
        (((8, 8.0), (3, 4), [(3, 3)], [None]), r"size: .* are no samples"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments, says):
    with pytest.raises(fo.InputError, match=says):
        Plan.of(*arguments)


def test_light_at_one_border_does_not_come_back_at_the_other():
    """Behind a crop to a sixteenth: its ringing falls on the guard."""
    front = DeepFront(Plan.of((96, 96), (1, 1), [(1, 1)], [(6, 6)])).double()
    picture = torch.zeros(1, 1, 96, 96, dtype=torch.float64)
    picture[..., -10:] = 1
    with torch.no_grad():
        front.weights[0].fill_(1)
        seen = front(picture)[0, 0, 3].square()
    assert front.plan.grids[-1][1] > 7
    assert seen[0] < 0.03 * seen.max()


def test_energy_in_the_guard_is_that_beside_the_picture():
    """A spot and its mirror image leave as much of it there; a spot in the middle next to nothing."""
    front = DeepFront(Plan.of((32, 32), (1, 1), [(1, 1)], [(8, 8)], (16, 16))).double()
    with torch.no_grad():
        front.weights[0].fill_(1)
    shares = []
    for place in (2, 29, 16):
        picture = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
        picture[..., place, place] = 1
        shares.append(front.energy_in_guard(picture))
    assert shares[0] == pytest.approx(shares[1], abs=1e-3)
    assert 0.05 < shares[0] < 0.5
    assert shares[2] < 0.02


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("kept", [None, (7, 7), (8, 8)])
def test_a_plane_that_was_trained_is_what_its_taps_say(kept, is_complex):
    """Any plane, and with a guard as wide as the picture: linear in a dark surround, however wide its taps."""
    plan = Plan.of((12, 12), (3, 4), [(3, 3)], [kept], (12, 12))
    start = DeepFront(plan, is_complex=is_complex).double().transfer().detach()
    front = PlaneFront(plan, start, is_complex=is_complex)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        front.plane += 0.3 * torch.randn(front.plane.shape, dtype=torch.float64, generator=draw)
    taps = front.kernels(front.transfer())
    pictures = pictures_for(front)
    padded = F.pad(pictures, (0, 12, 0, 12)).to(torch.complex128)
    wide = correlate(padded, taps, boundary="circular").to(torch.complex128)
    cut = spectral_crop(torch.fft.fft2(wide, norm="ortho"), plan.grids[-1])
    due = torch.fft.ifft2(cut, norm="ortho")
    found = front(pictures)
    assert off(found, due if is_complex else due.real) < 1e-12
    if kept is None and not is_complex:
        reach = (24 - 1) // 2
        alone = F.conv2d(F.pad(pictures, (reach, 24 - 1 - reach, reach, 24 - 1 - reach)), taps)
        assert off(found[..., :12, :12], alone) < 1e-12


@pytest.mark.parametrize("way", ["forward", "by_layers", "transfer", "spectrum"])
def test_autocast_does_not_narrow_light(way):
    front = front_of("even last").float()
    pictures = pictures_for(front).float()
    given = {"transfer": (), "spectrum": (pictures, front.transfer())}.get(way, (pictures,))
    due = getattr(front, way)(*given)
    with torch.autocast("cpu", torch.bfloat16):
        found = getattr(front, way)(*given)
    assert found.dtype == due.dtype
    assert torch.equal(found, due)


def test_complex_pictures_need_complex_kernels():
    front = front_of("one layer")
    with pytest.raises(fo.InputError, match="pictures are complex, and kernels real; give their amplitude"):
        front(torch.complex(pictures_for(front), pictures_for(front)))


def test_no_pictures_give_no_fields():
    for name in ("one layer", "even last", "no crop"):
        front = front_of(name)
        assert front(pictures_for(front)[:0]).shape[:2] == (0, front.plan.channels[-1])


def test_pictures_of_another_shape_are_refused():
    with pytest.raises(fo.InputError, match=r"pictures are .*; this front takes \[batch, 3, 16, 16\]"):
        front_of("one layer")(torch.rand(2, 3, 16, 15, dtype=torch.float64))


@pytest.mark.parametrize("is_complex", [False, True])
def test_frequencies_are_their_definition(is_complex):
    geometry = band.Geometry((5, 7), (8, 9), (4, 5), is_complex)
    picture = torch.rand(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    picture = torch.complex(picture, picture.flip(0)) if is_complex else picture
    y, x = torch.arange(5, dtype=torch.float64)[:, None], torch.arange(7, dtype=torch.float64)
    due = [
        [(picture * torch.exp(-2j * torch.pi * (v * y / 8 + u * x / 9))).sum() for u in geometry.columns.tolist()]
        for v in geometry.rows.tolist()
    ]
    found = band.Analysis(geometry, torch.float64)(picture)
    assert torch.allclose(found, torch.tensor(due), atol=1e-12)


@pytest.mark.parametrize(
    ("size", "kept", "dtype", "few"),
    [
        ((1024, 512), (32, 16), torch.float32, (True, False)),
        ((96, 1024), (8, 31), torch.float32, (False, True)),
        ((1024, 1024), (16, 16), torch.float32, (True, True)),
        ((1021, 1022), (32, 32), torch.float32, (False, False)),  # no groups
        ((1024, 1024), (32, 32), torch.float64, (False, False)),  # too many numbers at that precision
    ],
)
def test_long_waves_of_large_pictures_are_told_by_few_numbers(size, kept, dtype, few):
    """And lose nothing: the frequencies of a transform, of pictures without a mean, to rounding."""
    geometry = band.Geometry(size, size, kept)
    pictures = torch.randn(2, *size, dtype=dtype, generator=torch.Generator().manual_seed(0))
    analysis = band.Analysis(geometry, dtype)
    assert (analysis._few_y is not None, analysis._few_x is not None) == few
    rows, columns = geometry.rows.remainder(size[0]), geometry.columns
    due = torch.fft.fft2(pictures.double())[:, rows[:, None], columns]
    off = (analysis(pictures) - due).abs().max() / due.abs().max()
    assert off < (1e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("kept", [(4, 5), (5, 4), (16, 16)])
@pytest.mark.parametrize("is_complex", [False, True])
def test_samples_may_be_taken_onto_others(kept, is_complex):
    """At once or axis by axis, small or large: what matrices make of the samples."""
    geometry = band.Geometry((20, 20), (24, 24), kept, is_complex)
    draw = torch.Generator().manual_seed(0)
    spectrum = torch.randn(2, 3, *geometry.shape, dtype=torch.complex128, generator=draw)
    onto = tuple(
        torch.randn(2 * n + 1, m, dtype=torch.float64, generator=draw) for n, m in zip(kept, geometry.fine, strict=True)
    )
    plain = band.Synthesis(geometry, geometry.fine, None, torch.float64)(spectrum)
    found = band.Synthesis(geometry, geometry.fine, onto, torch.float64)(spectrum)
    assert torch.allclose(found, onto[0].to(plain) @ plain @ onto[1].mT.to(plain), atol=1e-12)


def test_alexnet_s_widths_fold():
    """Five layers of 64 … 384 channels, in double and in single precision."""
    torch.manual_seed(0)
    kernels = [(11, 11), (5, 5), (3, 3), (3, 3), (3, 3)]
    plan = Plan.of((64, 64), (3, 64, 192, 384, 256, 256), kernels, [(32, 32), (16, 16), None, None, (8, 8)])
    front = DeepFront(plan).double()
    pictures = pictures_for(front, 1)
    with torch.no_grad():
        due = front.by_layers(pictures)
        assert off(front(pictures), due) < 1e-10
        assert off(PlaneFront(plan, front.transfer())(pictures), due) < 1e-10
        assert off(front.float()(pictures.float()).double(), due) < 1e-5
