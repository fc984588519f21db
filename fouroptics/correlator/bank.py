"""The heart: a bank of 4f correlators ``[out, in]`` on one bench, each output the coherent sum over the inputs.

The arithmetic is ``optics.correlation``; here it gets a bench, so that responses have light, and pictures take time.
With ``masks="device"`` it also gets the masks that the bench's device can show (``correlator.masks``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from fouroptics import memory
from fouroptics.bench import Bench
from fouroptics.correlator import checks, reading, timing
from fouroptics.correlator.device import DeviceMasks, Learn
from fouroptics.correlator.free_space import FreeSpaceLight
from fouroptics.correlator.light import FourierLight, Places
from fouroptics.correlator.lighting import Lighting, square_root
from fouroptics.correlator.masks import MaskPlan, Shown
from fouroptics.correlator.passive import passive_scale, positive_negative
from fouroptics.correlator.reading import Reading
from fouroptics.devices import link, readout
from fouroptics.devices.detector import Pattern
from fouroptics.devices.layout import Sharing
from fouroptics.devices.modulator import Quantize
from fouroptics.devices.readout import Compand, Readout
from fouroptics.errors import InputError, warn
from fouroptics.imperfections import Imperfections
from fouroptics.optics import correlation
from fouroptics.optics.correlation import Boundary, picture_size
from fouroptics.optics.fourier import Pair
from fouroptics.pictures import natural

Inputs = Literal["tiled", "lenslet", "frames", "mathematical"]
Light = Literal["fourier", "free_space"]
Masks = Literal["ideal", "device"]

LENS_CODES = ("lens1-pupil", "lens2-pupil", "paraxial-band", "paraxial-field", "guard")
PANEL_CODES = ("input-panel", "mask-extent", "camera-window", "guard")


class Correlator4f(nn.Module):
    """A bank of 4f correlators on a bench.

    Three things come out of it. ``field`` is what it computes, in network units: with ideal masks ``conv2d(padding=
    "same")``. ``power`` is the light that arrives on this bench, with its beam, its losses and its lenses' errors. The
    bank itself, called, gives the reading that its camera is expected to make of it, and ``capture`` a noisy one.

    Args:
        bench: the bench it stands on.
        kernels: ``[out, in, ky, kx]``, real or complex.
        size: samples of a picture ``(height, width)``.
        boundary: ``"linear"`` (dark surround) or ``"circular"``.
        upright: False: the camera's picture as it falls, turned by 180°.
        layout: how inputs are summed, ``"tiled"``, ``"lenslet"`` or ``"frames"``; None takes the bench's. ``"auto"``
            chooses inputs and outputs that fit, and says why in ``layout_why``. ``"mathematical"`` adds numbers, for
            comparison only, and has no power.
        stop: put the bench's stop into the Fourier plane; without, the whole band passes.
        light: ``"fourier"`` (lenses are transforms) or ``"free_space"`` (waves, lenses and pupils; slow).
        readout: what the camera learns: ``"intensity"``, ``"pair_intensity"`` (positive and negative taps on two masks,
            subtracted), ``"homodyne"`` (balanced, signed), ``"interference"``, or ``"ideal_field"`` (simulation only).
        compand: what electronics does to a reading: ``"none"``, ``"sqrt"``, ``"log"``, ``"rectify"`` or
            ``"two-sided-rectify"``.
        sensor_pool: how many readings a response has, one number or ``(height, width)``, each binned on the sensor from
            as many pixels as there are; None takes the bench's bins.
        masks: ``"ideal"`` transfer functions, or what the bench's mask ``"device"`` shows of them.
        learn: what is trained behind a device: its ``"masks"``, pixel by pixel (``device.drive``), or the ``"kernels"``
            through their encoding.
        quantize: how a device's levels are chosen in training: ``"straight-through"``, ``"soft"`` (a staircase, by
            ``device.softness``), ``"gumbel"`` (one of the two nearest, by a draw) or ``"none"``. In evaluation
            (``eval()``) they are the nearest ones.
        begin: levels ``[masks, Ny, Nx]`` and scale ``[out]`` that a device's masks begin with, as ``masks`` and
            ``device.fixed_scale`` hand them out; None: the kernels' encoding.
    """

    kernels: nn.Parameter
    shutter: Tensor

    def __init__(
        self,
        bench: Bench,
        kernels: Tensor,
        size: Pair,
        *,
        boundary: Boundary = "linear",
        upright: bool = True,
        layout: Inputs | Literal["auto"] | None = None,
        stop: bool = False,
        light: Light = "fourier",
        readout: Readout = "intensity",
        compand: Compand = "none",
        sensor_pool: int | Pair | None = None,
        masks: Masks = "ideal",
        learn: Learn = "masks",
        quantize: Quantize = "straight-through",
        begin: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        checks.check_options(bench, boundary, layout, stop, light, readout, compand, masks, learn, quantize)
        checks.check_begin(begin, masks)
        kernels = checks.checked_kernels(kernels)
        taps = picture_size(kernels)
        self.size = checks.checked_size(size, taps)
        self.layout_why = ""
        if layout == "auto":
            channels = (kernels.shape[0], kernels.shape[1])
            inputs, outputs, self.layout_why = bench.choose_layout(self.size, taps, channels)
            bench, layout = bench.replace({"layout.outputs": outputs}), inputs
        self.layout: Inputs = layout or bench.layout.inputs
        self.bench, self.boundary, self.upright = checks.arranged(bench, self.layout), boundary, upright
        self.stop, self.light, self.readout, self.compand = stop, light, readout, compand
        self.is_complex = kernels.is_complex()
        if readout == "pair_intensity" and self.is_complex:
            mend = "use real kernels, or another readout"
            raise InputError("complex kernels have no positive and negative part", where="readout", mend=mend)
        stored = torch.view_as_real(kernels.resolve_conj()) if self.is_complex else kernels
        self.kernels = nn.Parameter(stored.detach().clone(memory_format=torch.contiguous_format))
        self.register_buffer("shutter", torch.tensor(math.nan, dtype=torch.float64, device=kernels.device))
        plan = self._make_plan(taps, begun=begin is not None) if masks == "device" else None
        self.device = None if plan is None else DeviceMasks(plan, self.kernels, learn, quantize, begin)
        if self.device is not None:
            self.kernels.requires_grad_(learn == "kernels")
        self._light = self._make_light(taps)
        where = self.bench, self._sharing(), self.channels, self.size
        self.lighting = Lighting(*where, layout=self.layout, readout=readout, device=masks == "device")
        self._reading = self._make_reading(sensor_pool)
        self._require_memory(1)

    @classmethod
    def from_kernels(cls, kernels: Tensor, bench: Bench, size: Pair, **options: Any) -> Correlator4f:
        """A bank that correlates pictures of ``size`` with ``kernels`` ``[out, in, ky, kx]``.

        Options are those of ``Correlator4f``. The kernels are copied; gradients arrive in ``bank.kernels``.
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
        """Samples of the grid that ``field``'s transforms run on; on the camera plane, for light in free space."""
        return self._light.working_size()

    @property
    def readings(self) -> Pair:
        """Readings of a response ``(height, width)``."""
        return self._reading.window.count

    def forward(
        self, pictures: Tensor, pattern: Pattern | None = None, *, errors: Imperfections | None = None
    ) -> Tensor:
        """The reading that is expected, ``[..., out, Y, X]``: DN above the black level, after readout and companding.

        It is the mean over the noise of what is companded. ``two-sided-rectify`` doubles the outputs; ``ideal_field``
        reads network units. With a ``pattern`` it is one camera's, without, an even camera's.

        What is off on the bench comes as ``errors``, whose draws broadcast with the pictures' leading dimensions: as
        many draws as pictures give one each, ``errors.reshape(-1, 1)`` gives every draw of every picture.
        """
        errors = self._checked(errors)
        if self.readout == "ideal_field":
            masks = self._masks()
            seen = self._seen(self._amplitude(pictures, errors), masks, errors, aberrated=False)
            return self._reading.linear(self._in_network_units(seen, masks, trailing=3))
        return self._reading.expected(self._irradiance(pictures, errors), self._exposure_in_force(), pattern, errors)

    def capture(
        self,
        pictures: Tensor,
        *,
        generator: Generator | Sequence[Generator] | None = None,
        pattern: Pattern | None = None,
        errors: Imperfections | None = None,
    ) -> Tensor:
        """A noisy reading, as ``forward`` gives it: of whole DN, from the generator that is passed.

        Args:
            pictures: ``[..., in, height, width]`` in [0, 1].
            generator: on the pictures' device; None takes torch's own. One for each picture, with a pattern, makes its
                noise the same whatever else is in the batch.
            pattern: the camera's fixed pattern (``Pattern.draw``); None draws another camera of its kind each time.
            errors: what is off on the bench, as for ``forward``.
        """
        if self.readout == "ideal_field":
            mend = "use readout='homodyne' for a signed reading"
            raise InputError("no camera reads the field itself", where="readout", mend=mend)
        errors = self._checked(errors)
        irradiance = self._irradiance(pictures, errors)
        return self._reading.capture(irradiance, self._exposure_in_force(), generator, pattern, errors)

    def electrons(self, pictures: Tensor) -> Tensor:
        """Mean electrons that each reading collects of a picture, ``[..., out, captures, Y, X]``, the dark ones too."""
        return self._reading.electrons(self._irradiance(pictures), self._exposure_in_force())

    def field(self, pictures: Tensor, *, errors: Imperfections | None = None) -> Tensor:
        """The complex field on the camera plane in network units: even light, no errors of lenses.

        Args:
            pictures: ``[..., in, height, width]`` in [0, 1]; any leading dimensions, or none.
            errors: what is off on the bench, as for ``forward``.

        Returns:
            ``[..., out, height, width]`` complex.
        """
        masks, errors = self._masks(), self._checked(errors)
        response = self._light.respond(self._amplitude(pictures, errors), masks, errors=errors)
        return _as_complex(self._in_network_units(response, masks))

    def power(self, pictures: Tensor, *, errors: Imperfections | None = None) -> Tensor:
        """The irradiance on the camera plane [W/m²], ``[..., out, height, width]``.

        White, amplitude 1, is the source's mean irradiance over the pictures times the losses: the input's
        transmission and the square of its fill factor, the mask's transmission, what splitting and summing keep, and
        (f1/f2)² for the change of size. The beam's profile and the lenses' errors are in it.
        """
        self.lighting.require_meeting()
        errors = self._checked(errors)
        amplitude = self._lit(pictures, errors)
        response = self._light.respond(amplitude, self._passive_masks(), aberrated=True, errors=errors, phase=False)
        power = readout.intensity(response)
        change = None if errors is None else errors.get("source.power")
        return power if change is None else power * (1 + change.to(power))[..., None, None, None]

    @property
    def scale(self) -> Tensor:
        """Per output, a factor with which no mask has to amplify, ``[out]``: the largest such one, less at most 4 %.

        A mask that sums tiled inputs carries all kernels of its output, so its transmission reaches Σ_i|H_oi|;
        elsewhere each kernel has its own mask. The two masks of ``pair_intensity`` share one factor.
        """
        if self.device is not None:
            return self.device.scale(self.kernels)[: self.channels[0]]
        summed = self.layout in ("tiled", "mathematical")
        if self.readout == "pair_intensity":
            return passive_scale(positive_negative(self.taps), summed=summed, masks=2)
        return passive_scale(self.taps, summed=summed)

    @property
    def masks(self) -> Tensor:
        """The levels that the device shows, ``[masks, Ny, Nx]``: what is exported, and what evaluation sees."""
        return self._on_device().levels(self.kernels)

    def put(self, levels: Tensor) -> Correlator4f:
        """Show levels ``[masks, Ny, Nx]``, as ``masks`` hands them out."""
        self._on_device().put(levels)
        return self

    def expose(self, pictures: Tensor | None = None, *, seconds: float | None = None) -> Correlator4f:
        """Fix the exposure, by ``pictures`` (the training set's, say) or at ``seconds``; it is saved with the bank.

        Until then a bank whose bench says ``"auto"`` takes what suits its masks and natural-like pictures, anew each
        time: fix it before training. It never follows the pictures that are read.
        """
        if pictures is not None and seconds is not None:
            raise InputError("by pictures or in seconds, not both", where="expose", mend="give one of them")
        if self.readout == "ideal_field":  # which is not exposed
            return self
        if seconds is not None:
            self._warn_of_panels()
        found = self.exposure(pictures) if seconds is None else checks.check_exposure(seconds)
        self.shutter.fill_(found)
        return self

    def exposure(self, pictures: Tensor | None = None) -> float:
        """The bench's exposure [s]; "auto": the brightest 0.1 % of the pictures' readings fill 80 % of their range."""
        camera = self.bench.camera
        if camera.exposure != "auto":
            return float(camera.exposure)
        if self.layout == "frames" and self.channels[1] > 1 and self.readout != "homodyne":
            mend = "expose(seconds=…), latency(exposure=…), or write it into the bench"
            raise InputError("inputs one after another have no common exposure", where="camera.exposure", mend=mend)
        self._warn_of_panels()
        if pictures is None:
            pictures = natural(2, self.channels[1], self.size).to(self.kernels)
        with torch.no_grad():
            return self._reading.exposure_for(self._irradiance(pictures))

    def latency(
        self, pictures: Tensor | None = None, *, reads: int | None = None, exposure: float | None = None
    ) -> link.Latency:
        """Time from one picture on the modulator to numbers in the computer, term by term.

        Args:
            pictures: decide an automatic exposure that is not fixed yet; None takes natural-like ones.
            reads: captures an output; None: what the readout takes.
            exposure: [s], instead of the bank's.
        """
        reads = self._reading.captures if reads is None else reads
        if exposure is not None:
            checks.check_exposure(exposure)
        elif math.isnan(float(self.shutter)):
            exposure = self.exposure(pictures)
        else:
            exposure = float(self.shutter)
        return timing.latency(self.bench, self._sharing(), self._reading, reads=reads, exposure=exposure)

    def nbytes(self, batch: int = 1, *, gradient: bool = False) -> int:
        """Most bytes that ``field`` of a batch takes at once, and with ``gradient`` its backward pass: beforehand."""
        checks.check_count("batch", batch, "pictures", "such as len(pictures)")
        if self.device is not None:
            room = self._light.working_size(aberrated=True, whole=True)
            return self.device.plan.nbytes(batch, room, element=self.kernels.element_size(), gradient=gradient)
        if isinstance(self._light, FreeSpaceLight):
            return self._light.nbytes(batch, self.taps, gradient=gradient)
        return correlation.working_bytes(
            batch, self.channels, self.size, self.working_size,
            element=self.kernels.element_size(), is_complex=self.is_complex, gradient=gradient,
        )  # fmt: skip

    def extra_repr(self) -> str:
        outputs, inputs = self.channels
        taps = "×".join(str(n) for n in picture_size(self.taps))
        return (
            f"{inputs} → {outputs} channels, kernel {taps}{' complex' if self.is_complex else ''}, "
            f"pictures {self.size[0]}×{self.size[1]}, {self.boundary}, inputs {self.layout}, light {self.light}, "
            f"readout {self.readout}, compand {self.compand}, bench {self.bench.name}"
        )

    def _make_plan(self, taps: Pair, *, begun: bool) -> MaskPlan:
        case = self.bench, self.size, taps, self.channels, self.layout, self.boundary
        checks.check_masks_fit(*case, told=begun)
        pairs = 2 if self.readout == "pair_intensity" else 1
        checks.check_pairs(self.bench, pairs)
        channels = (self.channels[0] * pairs, self.channels[1])
        return MaskPlan(
            self.bench, self.size, taps, channels, self._sharing(), inputs=self.layout, pairs=pairs, stop=self.stop
        )

    def _make_light(self, taps: Pair) -> FourierLight | FreeSpaceLight:
        plan = None if self.device is None else self.device.plan
        if self.light == "fourier":
            return FourierLight(
                self.bench,
                self.size,
                taps,
                boundary=self.boundary,
                upright=self.upright,
                stop=self.stop,
                plan=plan,
                centres=self._centres(plan),
            )
        if self.boundary == "circular":
            raise InputError("light in free space does not wrap", where="boundary", mend="use boundary='linear'")
        self._warn(LENS_CODES, "free space will differ from the transform")
        return FreeSpaceLight(
            self.bench,
            self.size,
            taps,
            self.channels[1],
            self._sharing(),
            tiled=self.layout == "tiled",
            upright=self.upright,
            stop=self.stop,
            plan=plan,
        )

    def _centres(self, plan: MaskPlan | None) -> tuple[Places, Places]:
        here, there = self._sharing().centres(self.channels, self.layout, self.bench.layout.outputs)
        return here, plan.centres if plan else there

    def _on_device(self) -> DeviceMasks:
        if self.device is None:
            raise InputError("ideal masks have no levels", where="masks", mend="build the bank with masks='device'")
        return self.device

    def _masks(self) -> Tensor | Shown:
        """What stands between the lenses: kernels in network units, or a device's pixels."""
        return self.taps if self.device is None else self.device.shown(self.kernels)

    def _passive_masks(self) -> Tensor | Shown:
        """The same turned down until no mask amplifies; the two of a pair are outputs, first all positive ones."""
        if self.device is not None:
            return self._masks()
        pair = self.readout == "pair_intensity"
        taps, scale = positive_negative(self.taps) if pair else self.taps, self.scale
        return taps * (torch.cat((scale, scale)) if pair else scale)[:, None, None, None]

    def _in_network_units(self, response: Tensor, masks: Tensor | Shown, *, trailing: int = 2) -> Tensor:
        if self.device is None or not isinstance(masks, Shown):
            return response
        return self.device.in_network_units(response, masks, self.kernels, trailing=trailing)

    def _warn_of_panels(self) -> None:
        self._warn(PANEL_CODES, "this bench does not hold the bank, and its readings are of a larger one")

    def _warn(self, codes: tuple[str, ...], what: str) -> None:
        """Pass on what the sampling report says of this bank on its bench."""
        report = self.bench.sampling(self.size, picture_size(self.taps), channels=self.channels)
        for problem in report.problems:
            if problem.code in codes:
                warn(f"{what}: {problem}")

    def _make_reading(self, sensor_pool: int | Pair | None) -> Reading:
        pool = (sensor_pool, sensor_pool) if isinstance(sensor_pool, int) else sensor_pool
        self.sensor_pool = pool = None if pool is None else checks.checked_pair("sensor_pool", pool)
        sample = self.bench.input.sample
        window, *at = [(y * sample, x * sample) for y, x in (self.size, *self._centres(None)[1])]
        return Reading(
            self.bench,
            self.size,
            reading.Window.of(self.bench, self.size, pool),
            kind=self.readout,
            compand=self.compand,
            upright=self.upright,
            periodic=self.boundary == "circular",
            reference=reading.reference_irradiance(self.bench, self.readout, window, at),
        )

    def _irradiance(self, pictures: Tensor, errors: Imperfections | None = None) -> Tensor:
        """Mean irradiance of each reading [W/m²], ``[..., out, captures, Y, X]``; paired masks are outputs."""
        masks, amplitude = self._passive_masks(), self._lit(pictures, errors)
        if self.layout != "frames":
            return self._seen(amplitude, masks, errors, aberrated=True)
        if self.readout != "homodyne":
            self.lighting.require_meeting()
        each = [amplitude[..., i : i + 1, :, :] for i in range(self.channels[1])]  # shown one after another
        return torch.cat([self._seen(one, masks, errors, aberrated=True, only=i) for i, one in enumerate(each)], -3)

    def _seen(
        self,
        amplitude: Tensor,
        masks: Tensor | Shown,
        errors: Imperfections | None,
        *,
        aberrated: bool,
        only: int | None = None,
    ) -> Tensor:
        """Readings of responses, ``[..., out, captures, Y, X]``; with ``only``, of that input's masks."""
        learns = masks.key is None if isinstance(masks, Shown) else masks.requires_grad
        if torch.is_grad_enabled() and (learns or amplitude.requires_grad):
            outputs = self.channels[0] * (2 if self.readout == "pair_intensity" else 1)
            fields = math.prod(amplitude.shape[:-3]) * outputs
            room = self._light.working_size(aberrated=aberrated, whole=True)
            needed = self._reading.kept_bytes(fields, room, amplitude.element_size())
            what = f"a gradient through the camera of {fields} responses"
            memory.require(needed, amplitude.device, what=what, mend="smaller batches, or torch.no_grad()")
        options = {"aberrated": aberrated, "see": self._reading.see, "only": only, "errors": errors}
        phase = self.readout not in ("intensity", "pair_intensity")
        return self._light.respond(amplitude, masks, phase=phase, **options)  # type: ignore[arg-type]

    def _exposure_in_force(self) -> float:
        fixed = float(self.shutter)
        return self.exposure() if math.isnan(fixed) else fixed

    def _apply(self, fn: Any, recurse: bool = True) -> Correlator4f:
        """Casts are for kernels; the exposure keeps its digits."""
        fixed = self.shutter
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.shutter = fixed.to(self.kernels.device)
        return self

    def _sharing(self) -> Sharing:
        return self.bench.share(self.size, self.channels)

    def _lit(self, pictures: Tensor, errors: Imperfections | None = None) -> Tensor:
        """Amplitudes [√(W/m²)] under the beam's profile."""
        amplitude = self._amplitude(pictures, errors) * math.sqrt(self.lighting.gain)
        profile = self.lighting.profile(amplitude, None if errors is None else errors.get("input.shift"))
        return amplitude if profile is None else amplitude * profile

    def _checked(self, errors: Imperfections | None) -> Imperfections | None:
        """What is off on this bank's bench, on its device; None where nothing is."""
        if errors is None or not errors.names:
            return None
        return checks.checked_errors(errors, self.bench, self.channels, self.kernels)

    def _amplitude(self, pictures: Tensor, errors: Imperfections | None = None) -> Tensor:
        """Checked pictures as amplitudes ``[..., in, y, x]`` in the kernels' dtype."""
        checks.check_pictures(pictures, (self.channels[1], *self.size), self.kernels)
        self._require_memory(checks.batch_of(pictures, errors))
        checks.check_range(pictures)
        values = pictures.to(self.kernels.dtype)
        return square_root(values) if self.bench.input.encoding == "sqrt" else values

    def _require_memory(self, batch: int) -> None:
        outputs, inputs = self.channels
        gradient = torch.is_grad_enabled() and any(part.requires_grad for part in self.parameters())
        what = f"{batch} × {inputs} → {outputs} channels of {self.size[0]}×{self.size[1]}"
        memory.require(
            self.nbytes(batch, gradient=gradient),
            self.kernels.device,
            what=what,
            mend="smaller batches, pictures or banks",
        )


def _as_complex(field: Tensor) -> Tensor:
    return field if field.is_complex() else field.to(torch.promote_types(field.dtype, torch.complex64))
