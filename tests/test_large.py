"""Heavier truths for ``make slow``, and the same truths on a GPU where there is one."""

import pytest
import torch
import torch.nn.functional as F

import fouroptics as fo
from fouroptics.optics.correlation import correlate

BENCH = fo.Bench.load("slm-532nm")


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("size", [(1024, 1024), (1009, 640)])
def test_large_fields_are_still_conv2d(size, dtype, close):
    kernels, pictures = torch.randn(4, 3, 11, 10, dtype=dtype), torch.rand(2, 3, *size, dtype=dtype)
    with torch.no_grad():
        field = fo.Correlator4f.from_kernels(kernels, BENCH, size).field(pictures)
    expected = F.conv2d(F.pad(pictures.double(), (4, 5, 5, 5)), kernels.double())
    assert (field - expected).abs().max() < close * expected.abs().max()


@pytest.mark.slow
def test_a_full_field_kernel_at_size():
    shape = (1, 1, 97, 96)  # conv2d itself unrolls 9312² numbers for it
    kernels, pictures = torch.randn(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
    expected = F.conv2d(F.pad(pictures, (47, 48, 48, 48)), kernels)
    assert (correlate(pictures, kernels) - expected).abs().max() < 1e-10 * expected.abs().max()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_light():
    kernels, pictures = (
        torch.randn(8, 3, 7, 7, dtype=torch.float64),
        torch.rand(4, 3, 32, 40, dtype=torch.float64),
    )
    here = fo.Correlator4f.from_kernels(kernels, BENCH, (32, 40))
    there = fo.Correlator4f.from_kernels(kernels, BENCH, (32, 40)).to("cuda")
    for quantity in ("field", "power"):
        light = getattr(there, quantity)(pictures.cuda())
        torch.testing.assert_close(light.cpu(), getattr(here, quantity)(pictures), rtol=0, atol=1e-10)
    there.power(pictures.cuda()).sum().backward()
    here.power(pictures).sum().backward()
    torch.testing.assert_close(there.kernels.grad.cpu(), here.kernels.grad)
    with pytest.raises(fo.InputError, match="pictures are on cpu"):
        there.field(pictures)
    assert there.exposure() == pytest.approx(here.exposure())
