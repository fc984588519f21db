"""One layer read by what its taps see: a wave comes back as its transfer says, and as spectra have it."""

import math

import pytest
import torch
from fouroptics.models import SCLC, sclc
from fouroptics.models.noise import ReadingNoise
from fouroptics.models.taps import is_worthwhile

import fouroptics as fo


def rand(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layer(size=(20, 24), kernel=(3, 4), crop=None, pool=(6, 5), outputs=7, compand="none", **options):
    torch.manual_seed(0)
    made = SCLC(
        (3, outputs),
        [kernel],
        [crop],
        size,
        readout="homodyne",
        classes=4,
        compand=compand,
        sensor_pool=pool,
        **options,
    )
    return made.double()


def by_taps(student, pictures):
    """Readings before electronics, whatever is shorter."""
    (weight,) = student.front.weights
    return student._views(weight, torch.float64, pictures.device)(pictures, weight)


def by_spectra(student, pictures):
    """The same readings with that road shut."""
    spectrum = student.front.spectrum(pictures, student.front.transfer())
    return student._seen_of(spectrum, student.front.geometry)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 4), (6, 5)])
@pytest.mark.parametrize("turns", [(0, 0), (3, 2), (-4, 5)])
def test_a_wave_is_read_as_its_transfer_and_its_pixels_say(kernel, turns):
    """Σ w e^{i2πν(m - c)} of conv2d's taps, and the sinc of a pixel on each axis: by hand, for pictures that wrap."""
    height, width = 20, 24
    student = layer((height, width), kernel, guard=0)
    nu_y, nu_x = turns[0] / height, turns[1] / width
    y, x = (torch.arange(n, dtype=torch.float64) for n in (height, width))
    wave = torch.exp(2j * math.pi * (nu_y * y[:, None] + nu_x * x))
    (taps,) = student.front.weights
    m_y, m_x = (torch.arange(k, dtype=torch.float64) - (k - 1) // 2 for k in kernel)
    turned = torch.exp(2j * math.pi * (nu_y * m_y[:, None] + nu_x * m_x))
    transfer = (taps.detach() * turned).sum((1, 2, 3))  # all three inputs see the same wave
    rows, columns = 6, 5
    at_y = (height - 1) / 2 + (torch.arange(rows, dtype=torch.float64) - (rows - 1) / 2) * height / rows
    at_x = (width - 1) / 2 + (torch.arange(columns, dtype=torch.float64) - (columns - 1) / 2) * width / columns
    seen = torch.exp(2j * math.pi * (nu_y * at_y[:, None] + nu_x * at_x))
    blur = torch.sinc(torch.tensor([nu_y * height / rows, nu_x * width / columns], dtype=torch.float64)).prod()
    due = (transfer[:, None, None] * seen * blur).real
    found = by_taps(student, wave.real.expand(1, 3, height, width))[0]
    torch.testing.assert_close(found.detach(), due, rtol=0, atol=1e-12)


@pytest.mark.parametrize("crop", [None, 12, 9])
@pytest.mark.parametrize("kernel", [2, 5])
@pytest.mark.parametrize("compand", ["none", "two-sided-rectify"])
@pytest.mark.parametrize("options", [{}, {"camera_pixel": 0.23}])
def test_readings_and_gradients_are_those_of_spectra(crop, kernel, compand, options):
    student = layer((20, 20), (kernel, kernel), crop, (4, 3), 40, compand, divisive=0.2, **options)
    pictures = rand(5, 3, 20, 20).requires_grad_()
    found, due = by_taps(student, pictures), by_spectra(student, pictures)
    torch.testing.assert_close(found, due, rtol=0, atol=1e-12)
    weigh = rand(*found.shape, seed=1)
    wanted = [*student.front.weights, pictures]
    for mine, theirs in zip(
        torch.autograd.grad((found * weigh).sum(), wanted),
        torch.autograd.grad((due * weigh).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11)


def test_the_road_is_taken_where_it_is_shorter():
    """A few taps are; taps as wide as the picture, several layers, a plane and a square of the field are not."""
    short, pictures = layer(outputs=64), rand(2, 3, 20, 24)
    assert torch.equal(short.seen(pictures), by_taps(short, pictures))
    wide = SCLC((3, 64), "full", None, 20, readout="homodyne", classes=4, guard=19)
    deep = SCLC((3, 8, 64), 3, None, 20, readout="homodyne", classes=4)
    plane = SCLC((3, 64), 3, None, 20, readout="homodyne", classes=4, parameters="plane")
    square = SCLC((3, 64), 3, None, 20, readout="intensity", classes=4)
    turning = SCLC((3, 64), 3, None, 20, readout="ideal_field", classes=4, is_complex=True)
    for other in (wide, deep, plane, square, turning):
        assert other._layer_of_taps() is None
    geometry = wide.front.geometry
    assert not is_worthwhile(geometry, (3, 64), (39, 39), (20, 20))
    assert is_worthwhile(geometry, (3, 64), (3, 3), (20, 20))


def test_pools_are_means_whatever_their_number(monkeypatch):
    """By one product or by torch's own pooling, from outputs that stand side by side or apart."""
    student = layer((20, 20), (3, 3), None, (5, 4), 9, "two-sided-rectify", divisive=0.3)
    student.normalise(rand(8, 3, 20, 20, seed=3))
    pictures = rand(4, 3, 20, 20, seed=2)
    side_by_side = by_taps(student, pictures)
    found = student.reader.read(side_by_side), student.reader.read(side_by_side.contiguous())
    monkeypatch.setattr("fouroptics.models.readouts.SMALL", 0)
    due = student.reader.read(side_by_side)
    for one in found:
        torch.testing.assert_close(one, due, rtol=0, atol=1e-12)
    gains = student.reader._biased(side_by_side)
    by_hand = gains / (0.3 * student.reader.power + gains.square().mean(1, keepdim=True)).sqrt()
    positive = by_hand.clamp_min(0).unflatten(-1, (4, 5)).unflatten(-3, (5, 4)).mean((-3, -1))
    torch.testing.assert_close(due[:, :9], positive, rtol=0, atol=1e-12)


def test_a_front_that_is_replaced_is_read_itself():
    student, other = (
        layer((20, 20), (3, 5), pool=(4, 4), outputs=40, guard=8),
        layer((20, 20), (5, 3), pool=(4, 4), outputs=40, guard=8),
    )
    pictures = rand(2, 3, 20, 20)
    student.seen(pictures)
    student.front = other.front
    assert torch.equal(student.seen(pictures), other.seen(pictures))


def test_electronics_keep_their_precision_under_autocast():
    student = layer((20, 20), (3, 3), None, (5, 4), 9, "two-sided-rectify", divisive=0.3).float()
    detected = by_taps(student.double(), rand(2, 3, 20, 20)).float()
    due = student.float().reader.followed(detected)
    with torch.autocast("cpu", torch.bfloat16):
        found = student.reader.followed(detected)
    assert torch.equal(found, due) and found.dtype == torch.float32


def test_readings_of_a_single_picture_need_no_batch():
    student = layer((20, 20), (3, 3), None, (5, 4), 9, "two-sided-rectify", divisive=0.3)
    detected = by_taps(student, rand(2, 3, 20, 20))
    torch.testing.assert_close(student.reader.followed(detected[1]), student.reader.followed(detected)[1])
    many = student.reader.followed(detected[None].expand(3, -1, -1, -1, -1))
    torch.testing.assert_close(many[2], student.reader.followed(detected))


def one_of(kind):
    """Read by what taps see; by spectra, of a chain; the field's square at its own fine samples; pairs of masks."""
    if kind == "taps":
        student = layer(outputs=64, compand="two-sided-rectify", divisive=0.1)
        return student, 64 * math.prod(student.reader.given)
    torch.manual_seed(0)
    channels, options = ((3, 4, 6), {"sensor_pool": 4}) if kind == "homodyne" else ((3, 6), {"sensor_pool": None})
    student = SCLC(channels, 3, None, (20, 24), readout=kind, classes=4, **options).double()
    samples = student.reader.given if kind == "homodyne" else student.front.geometry.fine
    return student, 6 * math.prod(samples) * (2 if kind == "pair_intensity" else 1)


@pytest.mark.parametrize(
    ("kind", "noisy"),
    [("taps", False), ("taps", True), ("homodyne", True), ("intensity", False), ("pair_intensity", False)],
)
def test_pictures_a_few_at_a_time_are_read_as_all_at_once(kind, noisy, monkeypatch):
    """Readings, their noise and every gradient; 40 pictures take 10 draws of noise in turn, and parts hold 7."""
    student, numbers = one_of(kind)
    student.train()
    assert (student._layer_of_taps() is not None) == (kind == "taps")
    pictures = rand(40, 3, 20, 24)
    if noisy:
        student.noise = ReadingNoise(fo.Bench.load("slm-532nm"), student.front, 0.1)

    def read(cached):
        monkeypatch.setattr(sclc, "_CACHED", cached)
        torch.manual_seed(5)
        seen = []
        with monkeypatch.context() as counted:
            followed = student.reader.followed
            counted.setattr(student.reader, "followed", lambda part: (seen.append(len(part)), followed(part))[1])
            readings = student.readings(pictures)
        weights = rand(*readings.shape, seed=1)
        return seen, readings, torch.autograd.grad((readings * weights).sum(), [*student.front.parameters()])

    whole, part = read(2**40), read(7 * 8 * numbers)
    assert whole[0] == [40] and part[0] == [7, 7, 7, 7, 7, 5]
    for one, other in zip((whole[1], *whole[2]), (part[1], *part[2]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
