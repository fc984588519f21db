"""Spectral layers against ``torch.nn``, pools against the definition of what is left."""

import itertools
import math
import warnings

import pytest
import torch
from fouroptics.models.released import LevelledPool
from fouroptics.models.spectral import SpectralConv2d, SpectralPool2d, SpectralSequential
from torch import nn
from torch.nn.utils import prune

import fouroptics as fo

EXACT = torch.float64
PADDINGS = ("same", "valid", 0, 1, (2, 1))
BORDERS = ("circular", "zeros", "reflect", "replicate")


def rand(*shape):
    return torch.rand(*shape, dtype=EXACT, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kernel", [1, 2, 3, (4, 5)])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_is_that_of_torch(kernel, groups):
    pictures, compared = rand(2, 2, 11, 12), 0
    for stride, dilation, padding, border in itertools.product((1, 2), (1, 2), PADDINGS, BORDERS):
        if padding == "same" and stride != 1:
            continue
        options = {"stride": stride, "dilation": dilation, "groups": groups, "padding": padding, "bias": True}
        theirs = nn.Conv2d(2, 4, kernel, padding_mode=border, dtype=EXACT, **options)
        ours = SpectralConv2d(2, 4, kernel, padding_mode=border, dtype=EXACT, **options)
        ours.load_state_dict(theirs.state_dict())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            due = theirs(pictures)
        found = ours(pictures)
        assert found.shape == due.shape
        assert (found - due).abs().max() < 1e-12, options
        compared += 1
    assert compared == 72


def test_a_complex_kernel_is_two_real_ones():
    layer = SpectralConv2d(2, 3, (3, 2), is_complex=True, dtype=EXACT)
    pictures = rand(1, 2, 8, 9)
    parts = []
    for part in layer.weight.unbind(-1):
        one = nn.Conv2d(2, 3, (3, 2), padding="same", padding_mode="circular", bias=False, dtype=EXACT)
        one.weight = nn.Parameter(part)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts.append(one(pictures))
    assert torch.allclose(layer(pictures), torch.complex(*parts), atol=1e-12)


def waves_of(picture):
    """Real amplitudes of every cosine and sine, by their definition."""
    rows, columns = picture.shape
    y, x = torch.arange(rows, dtype=EXACT)[:, None], torch.arange(columns, dtype=EXACT)
    return {
        (v, u): (picture * torch.exp(-2j * math.pi * (v * y / rows + u * x / columns))).sum() / picture.numel()
        for v in range(-(rows // 2), rows // 2 + 1)
        for u in range(-(columns // 2), columns // 2 + 1)
    }


@pytest.mark.parametrize(
    ("size", "kept"), [((12, 14), (7, 5)), ((12, 14), (6, 8)), ((9, 11), (8, 3)), ((9, 11), (9, 11))]
)
def test_a_pool_is_the_low_waves_seen_on_fewer_samples(size, kept):
    """The waves that are kept are drawn on the new samples; those of an even edge count half."""
    picture = rand(*size)
    y = torch.arange(kept[0], dtype=EXACT)[:, None] / kept[0]
    x = torch.arange(kept[1], dtype=EXACT) / kept[1]
    due = torch.zeros(kept, dtype=torch.complex128)
    for (v, u), amplitude in waves_of(picture).items():
        if abs(v) <= kept[0] // 2 and abs(u) <= kept[1] // 2:
            share = 1.0
            for bin_, n in ((v, kept[0]), (u, kept[1])):
                share *= 0.5 if 2 * abs(bin_) == n else 1.0
            due += share * amplitude * torch.exp(2j * math.pi * (v * y + u * x))
    found = SpectralPool2d(kept)(picture[None, None])[0, 0]
    assert due.imag.abs().max() < 1e-12
    assert torch.allclose(found, due.real, atol=1e-12)


def test_a_pool_of_complex_pictures_is_that_of_its_parts():
    parts = rand(2, 1, 12, 11)
    pool = SpectralPool2d((6, 8))
    both = pool(torch.complex(parts[0], parts[1])[None])
    assert torch.allclose(both, torch.complex(pool(parts[:1]), pool(parts[1:])), atol=1e-13)


def test_neighbours_share_a_transform_and_give_the_same(monkeypatch):
    layers = SpectralSequential(
        SpectralConv2d(2, 3, 3, bias=True, dtype=EXACT),
        SpectralPool2d((8, 7)),
        SpectralConv2d(3, 4, (2, 3), dilation=2, dtype=EXACT),
        nn.ReLU(),
        SpectralConv2d(4, 2, 3, dtype=EXACT),
        SpectralConv2d(2, 2, 3, padding=1, padding_mode="zeros", dtype=EXACT),
        SpectralPool2d(4),
    )
    pictures = rand(2, 2, 12, 12)
    due = pictures
    for layer in layers:
        due = layer(due)
    counted = []
    own = torch.fft.rfft2
    monkeypatch.setattr(torch.fft, "rfft2", lambda *a, **k: counted.append(1) or own(*a, **k))
    assert torch.allclose(layers(pictures), due, atol=1e-13)
    assert len(counted) == 4  # of the first three, of the fifth, of the zeros' one, of the pool
    assert torch.equal(layers(pictures[0]), layers(pictures)[0])  # a picture without a batch


def test_a_layer_that_somebody_listens_to_is_called():
    """As weights that are pruned are made in time for each call, and no sooner."""
    layers = SpectralSequential(SpectralConv2d(2, 3, 3, dtype=EXACT), SpectralConv2d(3, 2, 3, dtype=EXACT))
    pictures = rand(1, 2, 8, 8)
    prune.l1_unstructured(layers[0], "weight", 4)
    with torch.no_grad():
        layers[0].weight_orig.mul_(3)
    assert torch.allclose(layers(pictures), nn.Sequential(*layers)(pictures), atol=1e-13)
    heard = []
    layers[1].register_forward_hook(lambda *_: heard.append(1))
    layers(pictures)
    assert heard == [1]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SpectralConv2d(3, 4, 3, groups=2), "groups: 2 groups of 3 → 4 channels"),
        (lambda: SpectralConv2d(2, 2, 3, stride=2), "padding: padding 'same' goes with stride 1"),
        (lambda: SpectralConv2d(2, 2, 3, padding_mode="mirror"), "padding_mode: 'mirror' is unknown"),
        (lambda: SpectralPool2d(20)(rand(1, 1, 12, 12)), "pictures of 12×12 have no 20×20 frequencies"),
        (lambda: SpectralConv2d(2, 2, (3, 3, 3)), r"kernel_size: \(3, 3, 3\) will not do; .*one or two"),
        (lambda: SpectralConv2d(1, 1, 3, dtype=EXACT)(rand(1, 1, 2, 8, 8)), "pictures of 5 dimensions"),
        (lambda: SpectralConv2d(1, 1, 9, padding="valid", dtype=EXACT)(rand(1, 1, 8, 8)), "larger than the picture"),
    ],
)
def test_what_cannot_be_is_refused(make, says):
    with pytest.raises(fo.InputError, match=says):
        make()


def test_a_wrong_number_of_channels_is_refused():
    for outputs, given in ((1, 2), (3, 1)):
        layer = SpectralConv2d(outputs, 4, 3)
        with pytest.raises(fo.InputError, match=f"SpectralConv2d: {given} channels of pictures, {outputs} of the ker"):
            layer(torch.rand(2, given, 8, 8))


def test_a_levelled_pool_is_the_same_alone_and_among_others():
    pictures = torch.rand(2, 1, 9, 9, dtype=torch.float64)
    assert torch.allclose(SpectralSequential(LevelledPool(5))(pictures), LevelledPool(5)(pictures), atol=1e-12)
    assert float(LevelledPool(5)(torch.ones(1, 1, 9, 9)).mean()) == pytest.approx(81 / 25)


def test_edges_are_those_of_torch():
    layer, due = SpectralConv2d(3, 4, 3, padding=1, padding_mode="zeros"), nn.Conv2d(3, 4, 3, padding=1, bias=False)
    due.weight = layer.weight
    assert layer(torch.rand(0, 3, 8, 8)).shape == due(torch.rand(0, 3, 8, 8)).shape
    alone = torch.rand(3, 8, 8)
    assert torch.allclose(layer(alone), due(alone), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"padding": -1}, "padding: .* will not do; whole numbers from 0 on"),
        ({"padding": "full"}, "padding: 'full' is unknown"),
        ({"stride": 0, "padding": 1}, "stride: "),
        ({"dilation": 0}, "dilation: "),
        ({"kernel_size": 0}, "kernel_size: "),
        ({"groups": 0}, "groups: "),
    ],
)
def test_sizes_that_torch_refuses_are_refused(options, says):
    with pytest.raises(fo.InputError, match=says):
        SpectralConv2d(**({"in_channels": 3, "out_channels": 4, "kernel_size": 3} | options))
    with pytest.raises(fo.InputError, match="output_size"):
        SpectralPool2d(0)
