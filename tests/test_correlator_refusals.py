"""What a bank refuses: kernels, sizes, benches and pictures that cannot be, each in one line with its mend."""

import pytest
import torch

import fouroptics as fo
from fouroptics.optics.correlation import correlate

BENCH = fo.Bench.load("slm-532nm")


def good(**changes):
    return {"kernels": torch.randn(2, 3, 3, 3), "bench": BENCH, "size": (8, 8)} | changes


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kernels": torch.randn(2, 3, 9, 9)}, "larger than the 8×8 field"),
        ({"kernels": torch.randn(3, 3, 3)}, "out, in, height, width"),
        ({"kernels": torch.ones(2, 3, 3, 3, dtype=torch.int64)}, "float"),
        ({"kernels": torch.full((1, 1, 1, 1), torch.nan)}, "NaN"),
        ({"kernels": torch.zeros(0, 3, 3, 3)}, "out, in, height, width"),
        ({"kernels": [[1.0]]}, "list"),
        ({"size": 8}, "height, width"),
        ({"size": (0, 8)}, "positive"),
        ({"size": (8.5, 8)}, "positive"),
        ({"boundary": "mirror"}, "'linear', 'circular'"),
        ({"layout": "stacked"}, "'tiled'"),
        ({"bench": BENCH.replace({"stop": None}), "stop": True}, "no stop"),
        ({"bench": "slm-532nm"}, "Bench.load"),
        ({"size": (2_000_000, 2_000_000)}, "GiB"),
    ],
)
def test_bad_banks_are_refused(changes, says):
    with pytest.raises(ValueError, match=says) as caught:
        fo.Correlator4f.from_kernels(**good(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pictures", "says"),
    [
        (torch.rand(1, 2, 8, 8), "is due"),
        (torch.rand(8, 8), "is due"),
        (torch.rand(1, 3, 8, 9), "is due"),
        (torch.rand(0, 3, 8, 8), "empty"),
        (torch.rand(1, 3, 8, 8) - 0.5, "no modulator"),
        (torch.rand(1, 3, 8, 8) + 0.5, "no modulator"),
        (torch.full((1, 3, 8, 8), torch.nan), "finite"),
        (torch.full((1, 3, 8, 8), torch.inf), "finite"),
        (torch.ones(1, 3, 8, 8, dtype=torch.uint8), "255"),
        (torch.rand(1, 3, 8, 8, dtype=torch.float64), "double"),
        (torch.ones(1, 3, 8, 8, dtype=torch.complex64), "real values"),
        ([[1.0]], "as_tensor"),
    ],
)
def test_bad_pictures_are_refused(pictures, says):
    correlator = fo.Correlator4f.from_kernels(**good())
    for call in (correlator.field, correlator.power, correlator):
        with pytest.raises(ValueError, match=says):
            call(pictures)


@pytest.mark.parametrize(
    ("fields", "kernels", "says"),
    [
        ((1, 2, 8, 8), (2, 3, 3, 3), "do not go with"),
        ((1, 3, 8, 8), (2, 2, 3, 3), "do not go with"),
        ((8, 8), (2, 3, 3, 3), "do not go with"),
        ((1, 3, 8, 8), (3, 3, 3), "do not go with"),
        ((0, 3, 8, 8), (2, 3, 3, 3), "nothing to correlate"),
        ((1, 3, 8, 8), (2, 3, 9, 3), "larger than"),
    ],
)
def test_the_bare_function_refuses_what_does_not_go_together(fields, kernels, says):
    with pytest.raises(fo.InputError, match=says):
        correlate(torch.rand(fields), torch.rand(kernels))
    with pytest.raises(fo.InputError, match="'linear', 'circular'"):
        correlate(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 3, 3), boundary="Circular")
