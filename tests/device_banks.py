"""Banks on small benches with a device's masks, and what they are compared with."""

import warnings

import torch
import torch.nn.functional as F

import fouroptics as fo

SLM = fo.Bench.load("slm-532nm")
BAND = 532e-9 * 0.25 / 16e-6  # of the sampled spectrum [m]
STILL = {
    "source.waist": None, "aberration.zernike": {}, "mask.crosstalk": "0 um", "mask.flicker": "0 rad",
    "layout.guard": "64 um", "lens1.pupil": None, "lens2.pupil": None,
}  # fmt: skip
IDEAL = {
    "mask.preset": None, "mask.kind": "complex", "mask.encoding": "ideal",
    "mask.levels": None, "mask.phase_range": None,
}  # fmt: skip


def bench_of(pixels, changes=(), *, across=None):
    """The shipped bench, its band ``pixels`` wide on a panel of ``across`` (y, x)."""
    y, x = across or (pixels, pixels)
    return SLM.replace(STILL | {"mask.pitch": f"{BAND / pixels!r} m", "mask.pixels": [x, y]} | dict(changes))


def with_mask(pixels, **keys):
    """The same with another device for a mask."""
    mask = {"pitch": f"{BAND / pixels!r} m", "pixels": [pixels, pixels], "precompensate": True}
    return SLM.replace(STILL).replace({"mask": mask | keys})


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def compact(inputs, size):
    """Pictures that fade towards their edges and keep to half the band."""
    pictures = fo.pictures.natural(1, inputs, size, seed=4)[0].double()
    low = [(torch.fft.fftfreq(n).abs() < 0.25).double() for n in size]
    smooth = torch.fft.ifft2(torch.fft.fft2(pictures) * torch.outer(*low)).real
    smooth = (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())
    return smooth * torch.outer(*(torch.hann_window(n, periodic=False, dtype=torch.float64) for n in size))


def bank_of(kernels, bench, size=(16, 16), **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fo.Correlator4f.from_kernels(kernels, bench, size, masks="device", **options).eval()


@torch.no_grad()
def field_of(bank, pictures):
    return bank.field(pictures)


def conv2d(pictures, kernels):
    if kernels.is_complex():
        return torch.complex(
            F.conv2d(pictures, kernels.real, padding="same"), F.conv2d(pictures, kernels.imag, padding="same")
        )
    return F.conv2d(pictures, kernels, padding="same")


def correlation(seen, true):
    """Without the mean, every output by itself: the worst."""
    seen, true = (one.transpose(0, 1).flatten(1) for one in (seen, true))
    seen, true = seen - seen.mean(1, keepdim=True), true - true.mean(1, keepdim=True)
    return ((seen * true.conj()).sum(1).abs() / seen.norm(dim=1) / true.norm(dim=1)).amin().item()


def apart(seen, true):
    return ((seen - true).norm() / true.norm()).item()


# Against sums over all pixels
