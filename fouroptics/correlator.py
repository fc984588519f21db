"""The heart: a bank of 4f correlators ``[out, in]`` on one bench, each output the coherent sum over the inputs.

The arithmetic is ``optics.correlation``; here it gets a bench, so that responses have light, and pictures take time.
"""

from __future__ import annotations

import math
from functools import partial
from operator import index
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fouroptics import memory
from fouroptics.bench import Bench
from fouroptics.devices import detector, link, source
from fouroptics.devices.layout import Sharing
from fouroptics.errors import InputError, check_choice
from fouroptics.optics import aperture, correlation, fourier, grid
from fouroptics.optics.correlation import Boundary, correlate, picture_size
from fouroptics.optics.fourier import Pair
from fouroptics.pictures import natural

Inputs = Literal["tiled", "lenslet", "frames", "mathematical"]


class Correlator4f(nn.Module):
    """A bank of 4f correlators on a bench.

    Fields are in network units: with ideal masks they equal ``conv2d(padding="same")``. What light does is kept apart:
    ``scale`` is what passive masks leave of each response, ``power`` the irradiance that arrives.

    Args:
        bench: the bench it stands on.
        kernels: ``[out, in, ky, kx]``, real or complex.
        size: samples of a picture ``(height, width)``.
        boundary: ``"linear"`` (dark surround) or ``"circular"``.
        upright: False: the camera's picture as it falls, turned by 180°.
        layout: how inputs are summed, ``"tiled"``, ``"lenslet"`` or ``"frames"``; None takes the bench's.
            ``"mathematical"`` adds numbers, for comparison only, and has no power.
        stop: put the bench's stop into the Fourier plane; without, the whole band passes.
    """

    kernels: nn.Parameter

    def __init__(
        self,
        bench: Bench,
        kernels: Tensor,
        size: Pair,
        *,
        boundary: Boundary = "linear",
        upright: bool = True,
        layout: Inputs | None = None,
        stop: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(bench, Bench):
            raise InputError(f"{bench!r} is not a bench", where="bench", mend='use fo.Bench.load("slm-532nm")')
        check_choice("boundary", boundary, ("linear", "circular"))
        check_choice("layout", layout, ("tiled", "lenslet", "frames", "mathematical", None))
        kernels = _checked_kernels(kernels)
        self.size = _checked_size(size, picture_size(kernels))
        self.bench, self.boundary, self.upright = bench, boundary, upright
        self.layout: Inputs = layout or bench.layout.inputs
        self.stop = stop
        self.is_complex = kernels.is_complex()
        stored = torch.view_as_real(kernels.resolve_conj()) if self.is_complex else kernels
        self.kernels = nn.Parameter(stored.detach().clone(memory_format=torch.contiguous_format))
        if stop and bench.stop is None:
            raise InputError("the bench has no stop", where="stop", mend="add a section [stop], or use stop=False")
        self._require_memory(1)

    @classmethod
    def from_kernels(cls, kernels: Tensor, bench: Bench, size: Pair, **options: Any) -> Correlator4f:
        """A bank that correlates pictures of ``size`` with ``kernels`` ``[out, in, ky, kx]``.

        Options are those of ``Correlator4f``: ``boundary``, ``upright``, ``layout``, ``stop``. The kernels are copied;
        gradients arrive in ``bank.kernels``.
        """
        return cls(bench, kernels, size, **options)

    @property
    def channels(self) -> Pair:
        """``(outputs, inputs)``."""
        return self.kernels.shape[0], self.kernels.shape[1]

    @property
    def taps(self) -> Tensor:
        """The kernels ``[out, in, ky, kx]``, complex where they are."""
        return torch.view_as_complex(self.kernels) if self.is_complex else self.kernels

    @property
    def working_size(self) -> Pair:
        """Samples of the grid that the transforms run on."""
        taps = picture_size(self.taps)
        return correlation.working_size(self.size, taps, self.boundary, upright=self.upright, stop=self.stop)

    def forward(self, pictures: Tensor) -> Tensor:
        """The irradiance on the camera plane [W/m²]."""
        return self.power(pictures)

    def field(self, pictures: Tensor) -> Tensor:
        """The complex field on the camera plane in network units.

        Args:
            pictures: ``[..., in, height, width]`` in [0, 1]; any leading dimensions, or none.

        Returns:
            ``[..., out, height, width]`` complex.
        """
        return _as_complex(self._respond(self._amplitude(pictures)))

    def power(self, pictures: Tensor) -> Tensor:
        """The irradiance on the camera plane [W/m²], ``[..., out, height, width]``.

        White, amplitude 1, is the source's mean irradiance over the pictures times the losses: the input's
        transmission and the square of its fill factor, the mask's transmission, what splitting and summing keep, and
        (f1/f2)² for the change of size.
        """
        gain = self._light_gain()
        response = self._respond(self._amplitude(pictures))
        square = response.real.square() + response.imag.square() if response.is_complex() else response.square()
        return square * (self.scale.square() * gain)[:, None, None]

    @property
    def scale(self) -> Tensor:
        """Per output, a factor with which no mask has to amplify, ``[out]``: the largest such one, less at most 4 %.

        A mask that sums tiled inputs carries all kernels of its output, so its transmission reaches Σ_i|H_oi|;
        elsewhere each kernel has its own mask. Between the frequencies that are looked at |H| can be higher, by no more
        than 1/cos(πd/n) for a kernel of ±d taps on n samples (Riesz), and that is allowed for; beyond 32 taps a side
        it costs 15 %.
        """
        peak = torch.cat([self._peaks(taps) for taps in torch.split(self.taps, self._outputs_a_block)])
        return torch.where(peak == 0, 1.0, self._between / peak)

    def latency(self, pictures: Tensor | None = None, *, reads: int = 1, exposure: float | None = None) -> link.Latency:
        """Time from one picture on the modulator to numbers in the computer, term by term.

        Args:
            pictures: decide an automatic exposure; None takes natural-like ones.
            reads: captures an output: 1 for an intensity, 2 where a signed reading is the difference of two.
            exposure: [s], instead of the bench's.
        """
        bench = self.bench
        if bench.link is None:
            raise InputError("the bench has no [link]", where="link", mend='add [link] with rate = "2.5 Gbit/s"')
        if not isinstance(reads, int) or reads < 1:
            raise InputError(f"{reads!r} captures an output", where="reads", mend="1 or 2")
        if exposure is not None and not 0 < exposure < float("inf"):
            raise InputError(f"an exposure of {exposure} s", where="exposure", mend="a positive time in seconds")
        sharing, camera = self._sharing(), bench.camera
        pitch = bench.input.sample * bench.lens2.focal_length / bench.lens1.focal_length
        rows, columns = (max(1, round(n * pitch / camera.pitch)) for n in sharing.output_field(self.size))
        return link.latency(
            frames=sharing.frames,
            reads=reads,
            mask_settle=bench.mask.settle,
            mask_rate=bench.mask.frame_rate,
            input_settle=bench.input.settle,
            input_changes=sharing.input_changes,
            exposure=self.exposure(pictures) if exposure is None else exposure,
            window=(rows, columns),
            binning=camera.bin,
            sensor_rows=camera.pixels[1],
            camera_rate=camera.frame_rate,
            adc_bits=camera.adc_bits,
            link_rate=bench.link.rate,
            overhead=bench.link.overhead,
        )

    def exposure(self, pictures: Tensor | None = None) -> float:
        """The bench's exposure [s]; "auto": the brightest 0.1 % of the pictures' readings fill 80 % of their range."""
        camera = self.bench.camera
        if camera.exposure != "auto":
            return float(camera.exposure)
        if self.layout == "frames" and self.channels[1] > 1:
            mend = "pass exposure=… in seconds, or write it into the bench"
            raise InputError("inputs one after another have no common exposure", where="camera.exposure", mend=mend)
        if pictures is None:
            pictures = natural(4, self.channels[1], self.size).to(self.kernels)
        with torch.no_grad():
            bright = _percentile(self.power(pictures), 0.999)
        if bright == 0:
            raise InputError(
                "no light arrives, so no exposure fills the well", where="camera.exposure", mend="set a time"
            )
        return detector.exposure_to_fill(
            bright,
            wavelength=self.bench.source.wavelength,
            area=(camera.bin * camera.pitch) ** 2 * camera.fill_factor,
            qe=camera.qe,
            full_well=camera.full_well,
            gain=camera.gain,
            adc_bits=camera.adc_bits,
        )

    def nbytes(self, batch: int = 1, *, gradient: bool = False) -> int:
        """Most bytes that ``field`` of a batch takes at once, and with ``gradient`` its backward pass: beforehand."""
        if not isinstance(batch, int) or batch < 1:
            raise InputError(
                f"{type(batch).__name__} is no number of pictures", where="batch", mend="such as len(pictures)"
            )
        return correlation.working_bytes(
            batch,
            self.channels,
            self.size,
            self.working_size,
            element=self.kernels.element_size(),
            is_complex=self.is_complex,
            gradient=gradient,
        )

    def extra_repr(self) -> str:
        outputs, inputs = self.channels
        taps = "×".join(str(n) for n in picture_size(self.taps))
        return (
            f"{inputs} → {outputs} channels, kernel {taps}{' complex' if self.is_complex else ''}, "
            f"pictures {self.size[0]}×{self.size[1]}, {self.boundary}, inputs {self.layout}, bench {self.bench.name}"
        )

    def _respond(self, amplitude: Tensor) -> Tensor:
        """``[..., in, y, x]`` → ``[..., out, y, x]``, real where the physics is."""
        stop = self._stop_transmission() if self.stop else None
        return correlate(amplitude, self.taps, boundary=self.boundary, upright=self.upright, stop=stop)

    def _stop_transmission(self) -> Tensor:
        bench = self.bench
        assert bench.stop is not None
        if bench.stop.size == "band":
            raise InputError(
                "the stop follows a student's band, and there is none here",
                where="stop.size",
                mend="write a length",
            )
        padded = self.working_size
        bins = tuple(
            grid.fourier_pitch(bench.source.wavelength, bench.lens1.focal_length, n, bench.input.sample) for n in padded
        )
        return aperture.stop(
            padded,
            (bins[0], bins[1]),
            float(bench.stop.size),
            shape=bench.stop.shape,
            dtype=self.kernels.dtype,
            device=self.kernels.device,
        )

    @property
    def _fine_size(self) -> Pair:
        """Frequencies at which a mask's peak is looked for: eight a tap, four for large kernels."""
        height, width = (grid.smooth_size((8 if k <= 32 else 4) * k) for k in picture_size(self.taps))
        return height, width

    @property
    def _between(self) -> float:
        taps, fine = picture_size(self.taps), self._fine_size
        return math.prod(math.cos(math.pi * (k - 1) / 2 / n) for k, n in zip(taps, fine, strict=True))

    @property
    def _outputs_a_block(self) -> int:
        return max(1, 2**20 // (self.channels[1] * math.prod(self._fine_size)))

    def _peaks(self, taps: Tensor) -> Tensor:
        """Largest transmission that kernels ``[out, in, ky, kx]`` ask of a mask, ``[out]``."""
        combine = partial(torch.sum if self.layout in ("tiled", "mathematical") else torch.amax, dim=1)
        with torch.no_grad():  # find the frequencies on the whole grid, then differentiate at those only
            magnitude = fourier.kernel_transfer(taps, self._fine_size, half=not self.is_complex).abs()
            brightest = combine(magnitude).flatten(1).argmax(1)
        rows, columns = brightest // magnitude.shape[-1], brightest % magnitude.shape[-1]
        return combine(fourier.transfer_at(taps, (rows, columns), self._fine_size).abs())

    def _sharing(self) -> Sharing:
        inputs = "tiled" if self.layout == "mathematical" else self.layout
        return self.bench.share(self.size, self.channels, inputs=inputs)

    def _light_gain(self) -> float:
        """Irradiance on the camera plane for a response of 1 [W/m²]."""
        if self.layout == "mathematical":
            mend = "choose layout='tiled', 'lenslet' or 'frames'"
            raise InputError("a mathematical sum is no instrument and has no power", where="layout", mend=mend)
        if self.layout == "frames" and self.channels[1] > 1:
            mend = "choose layout='tiled' or 'lenslet'"
            raise InputError("inputs shown one after another never meet on the camera", where="layout", mend=mend)
        bench, sharing = self.bench, self._sharing()
        height, width = (n * bench.input.sample for n in sharing.input_field)
        beam = bench.source
        lit = source.mean_irradiance(beam.power, beam.waist, bench.input.extent, (height, width))
        losses = bench.input.transmission * bench.input.fill_factor**2 * bench.mask.transmission
        return lit * losses * sharing.power_share * (bench.lens1.focal_length / bench.lens2.focal_length) ** 2

    def _amplitude(self, pictures: Tensor) -> Tensor:
        """Checked pictures as amplitudes ``[..., in, y, x]`` in the kernels' dtype."""
        self._check_pictures(pictures)
        self._require_memory(math.prod(pictures.shape[:-3]))
        low, high = torch.stack(pictures.detach().aminmax()).tolist()
        if not (low >= 0 and high <= 1):
            finite = math.isfinite(low) and math.isfinite(high)
            shown = f"{low:.4g} … {high:.4g}"
            mend = "scale them to [0, 1]: no modulator shows a negative or an unlimited amplitude"
            mend = mend if finite else "give finite values in [0, 1]"
            raise InputError(f"values are {shown}", where="pictures", mend=mend)
        values = pictures.to(self.kernels.dtype)
        return _square_root(values) if self.bench.input.encoding == "sqrt" else values

    def _check_pictures(self, pictures: Any) -> None:
        expected = (self.channels[1], *self.size)
        due = f"[…, {', '.join(map(str, expected))}] is due"
        if not isinstance(pictures, Tensor):
            mend = f"a tensor {due}: torch.as_tensor(pictures)"
            raise InputError(f"pictures are a {type(pictures).__name__}", where="pictures", mend=mend)
        if tuple(pictures.shape) == self.size and self.channels[1] == 1:
            due += ": pictures[None]"
        if pictures.dim() < 3 or tuple(pictures.shape[-3:]) != expected:
            raise InputError(f"pictures are {tuple(pictures.shape)}", where="pictures", mend=due)
        if pictures.numel() == 0:
            raise InputError("the batch is empty", where="pictures", mend="give at least one picture")
        _check_dtype(pictures, self.kernels)

    def _require_memory(self, batch: int) -> None:
        outputs, inputs = self.channels
        gradient = torch.is_grad_enabled() and self.kernels.requires_grad
        what = f"{batch} × {inputs} → {outputs} channels of {self.size[0]}×{self.size[1]}"
        memory.require(
            self.nbytes(batch, gradient=gradient),
            self.kernels.device,
            what=what,
            mend="smaller batches, pictures or banks",
        )


def _square_root(pictures: Tensor) -> Tensor:
    """√x whose gradient is 0 at black, where the true one is infinite."""
    lit = pictures > 0
    return torch.where(lit, pictures, 1.0).sqrt() * lit


def _percentile(values: Tensor, part: float) -> float:
    """The value that ``part`` of all values do not exceed; by order, so that it takes arrays of any size."""
    flat = values.flatten()
    rank = min(flat.numel(), max(1, int(part * flat.numel()) + 1))
    return float(flat.kthvalue(rank).values)


def _as_complex(field: Tensor) -> Tensor:
    return field if field.is_complex() else field.to(torch.promote_types(field.dtype, torch.complex64))


def _checked_kernels(kernels: Any) -> Tensor:
    due = "a tensor [out, in, height, width] is due"
    if not isinstance(kernels, Tensor):
        raise InputError(f"kernels are a {type(kernels).__name__}", where="kernels", mend=f"{due}: torch.as_tensor(…)")
    if kernels.dim() != 4 or kernels.numel() == 0:
        raise InputError(f"kernels are {tuple(kernels.shape)}", where="kernels", mend=due)
    if kernels.dtype not in (torch.float32, torch.float64, torch.complex64, torch.complex128):
        mend = "convert them with .float() or .double()"
        raise InputError(f"kernels are {kernels.dtype}", where="kernels", mend=mend)
    if not torch.isfinite(kernels).all():
        raise InputError("some taps are NaN or infinite", where="kernels", mend="give finite taps")
    return kernels


def _checked_size(size: Any, kernel: Pair) -> Pair:
    try:
        height, width = (index(n) for n in size)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise InputError(f"{size!r} is not (height, width)", where="size", mend="two positive whole numbers")
    correlation.check_kernel_fits(kernel, (height, width))
    return height, width


def _check_dtype(pictures: Tensor, kernels: Tensor) -> None:
    if kernels.dtype not in (torch.float32, torch.float64):
        raise InputError(f"the bank is {kernels.dtype}", where="kernels", mend="use correlator.float() or .double()")
    if pictures.is_complex():
        mend = "give real values in [0, 1]; optics.correlation.correlate takes any field"
        raise InputError(f"pictures are {pictures.dtype}", where="pictures", mend=mend)
    if not pictures.is_floating_point():
        mend = "convert them: pictures.float(), and / 255 if they are bytes"
        raise InputError(f"pictures are {pictures.dtype}", where="pictures", mend=mend)
    if torch.promote_types(pictures.dtype, kernels.dtype) != kernels.dtype:
        mend = "pictures.float(), or correlator.double()"
        raise InputError(f"pictures are {pictures.dtype}, the bank {kernels.dtype}", where="pictures", mend=mend)
    if pictures.device != kernels.device:
        mend = f"pictures.to('{kernels.device}')"
        raise InputError(
            f"pictures are on {pictures.device}, the bank on {kernels.device}", where="pictures", mend=mend
        )
