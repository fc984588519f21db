"""From pictures to the field on the camera by the lens transform: two lenses, their errors and a stop between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fouroptics.bench import Bench
from fouroptics.correlator.drawn import wants_gradient
from fouroptics.correlator.draws import combiner_weights, draw_by_draw, in_chunks, leading_of
from fouroptics.correlator.flaws import PIXELS, Flaws
from fouroptics.correlator.fourier_plane import (
    band_width,
    input_pixel,
    is_aberrated,
    stop_width,
    wavefront_diameter,
    wavefront_transmission,
)
from fouroptics.correlator.masks import BESIDE, BODILY, MaskPlan, Shown
from fouroptics.errors import InputError
from fouroptics.imperfections import Imperfections
from fouroptics.optics import aberration, aperture, correlation, fourier, grid
from fouroptics.optics.correlation import Boundary, Window, correlate
from fouroptics.optics.fourier import Pair
from fouroptics.optics.kept import Kept, is_traced

See = Callable[..., Tensor]  # of responses on the whole grid, and of the steps of the reference beam where they vary
Places = tuple[tuple[float, float], ...]
Key = tuple[bool, Pair, torch.dtype, torch.device]
_PLANES = 10  # of float64 that what is off between the lenses takes, a draw


class FourierLight:
    """Ideal lenses, on the grid of the pictures' samples.

    Args:
        bench: the bench.
        size: samples of a picture.
        kernel: taps ``(ky, kx)``.
        boundary: ``"linear"`` or ``"circular"``.
        upright: turn the camera's picture back.
        stop: put the bench's stop in.
        plan: of the masks where they are a device's.
        centres: where inputs' tiles and outputs' responses are centred, ``(y, x)`` samples.
    """

    def __init__(
        self,
        bench: Bench,
        size: Pair,
        kernel: Pair,
        *,
        boundary: Boundary,
        upright: bool,
        stop: bool,
        plan: MaskPlan | None = None,
        centres: tuple[Places, Places] = (((0.0, 0.0),), ((0.0, 0.0),)),
    ) -> None:
        self.plan = plan
        self.inputs, self.outputs = (torch.tensor(places, dtype=torch.float64) for places in centres)
        self.bench, self.size, self.kernel = bench, size, kernel
        self.boundary, self.upright, self.stop = boundary, upright, stop
        self._slopes = wavefront_reach(bench)
        self._pupils: Kept[Tensor] = Kept()
        self._transfers: Kept[Tensor] = Kept(most=2)
        self._drawn: Kept[Tensor] = Kept(most=1)

    def working_size(self, *, aberrated: bool = False, whole: bool = False) -> Pair:
        """Samples of the grid that the transforms run on; ``whole``: with the light on both sides of the picture.

        A kernel spreads light by its taps and no further, a device's pixels over the whole field. See ``surround`` for
        what else does.
        """
        slopes = self._slopes if self._is_aberrated(aberrated) else None
        if self.plan is not None:
            return _room_for_all(self.size, self._beside(aberrated=aberrated, whole=whole))
        room = surround(self.bench, self.size, slopes, stop=self.stop)
        if whole:
            room = room[0] + self.kernel[0], room[1] + self.kernel[1]
        return correlation.working_size(self.size, self.kernel, self.boundary, upright=self.upright, surround=room)

    def respond(
        self,
        amplitude: Tensor,
        masks: Tensor | Shown,
        *,
        aberrated: bool = False,
        see: See | None = None,
        only: int | None = None,
        errors: Imperfections | None = None,
        phase: bool = True,
    ) -> Tensor:
        """``[..., in, y, x]`` → ``[..., out, y, x]`` or what ``see`` makes of the working grid (see ``correlate``).

        With ``only``, the amplitude is that input's, and so are the masks that it meets. The draws of ``errors``
        broadcast with the amplitude's leading dimensions. Without ``phase``, what turns only the phase of a response
        may be left out: ``see`` is blind to it.
        """
        which = slice(None) if only is None else slice(only, only + 1)
        if errors is not None:
            with torch.autocast(amplitude.device.type, enabled=False):
                return self._respond_flawed(amplitude, masks, errors, which, aberrated=aberrated, see=see, phase=phase)
        size = self.working_size(aberrated=aberrated, whole=see is not None)
        pupil = self._pupil((self._is_aberrated(aberrated), size, amplitude.dtype, amplitude.device))
        window: Window | None = None if see is None else partial(_plainly, see)
        if isinstance(masks, Shown):
            transfer = self._transfer(masks, size, self._beside(aberrated=aberrated, whole=see is not None))
            window = window or partial(correlation.picture_window, size=self.size, upright=self.upright)
            return correlation.filtered(amplitude, transfer[:, which], pupil=pupil, see=window)
        options = {"boundary": self.boundary, "upright": self.upright}
        return correlate(amplitude, masks[:, which], pupil=pupil, size=size, see=window, **options)  # type: ignore[arg-type]

    def _respond_flawed(
        self,
        amplitude: Tensor,
        masks: Tensor | Shown,
        errors: Imperfections,
        which: slice,
        *,
        aberrated: bool,
        see: See | None,
        phase: bool,
    ) -> Tensor:
        """The same on a bench that is off: all draws at once where they share masks, else one after another."""
        if self.boundary == "circular":
            what = "light that wraps has no place on a bench to be off"
            raise InputError(what, where="boundary", mend="use boundary='linear'")
        flaws = Flaws(errors, self.bench, self.size, self.inputs[which], self.outputs, amplitude, phase=phase)
        beside = self._beside(aberrated=aberrated, whole=see is not None or flaws.turns)
        taps = (0, 0) if self.plan is not None else (self.kernel[0] // 2, self.kernel[1] // 2)
        beside = beside[0] + flaws.reach[0] + taps[0], beside[1] + flaws.reach[1] + taps[1]
        size = _room_for_all(self.size, beside)
        pupil = self._pupil((self._is_aberrated(aberrated), size, amplitude.dtype, amplitude.device))
        if flaws.changes_masks(self.plan):
            return draw_by_draw(
                lambda light, one: self._filter(
                    light, self._own_transfer(masks, one, size, beside)[:, which], flaws.of(one), size, pupil, see
                ),
                amplitude,
                errors,
            )
        transfer = (
            self._transfer(masks, size, beside) if isinstance(masks, Shown) else fourier.kernel_transfer(masks, size)
        )
        each = math.prod(size) * (2 * amplitude.element_size() * amplitude.shape[-3] + _PLANES * 8)
        return in_chunks(
            lambda light, some: self._filter(light, transfer[:, which], flaws.of(some), size, pupil, see),
            amplitude,
            errors,
            each,
        )

    def _filter(
        self, amplitude: Tensor, transfer: Tensor, flaws: Flaws, size: Pair, pupil: Tensor | None, see: See | None
    ) -> Tensor:
        fields = flaws.at_input(amplitude, size)
        for drawn in (flaws.pupil(size), flaws.input_pixels(size) if self.plan is not None else None):
            if drawn is not None:
                pupil = drawn if pupil is None else drawn * pupil
        leading = leading_of(amplitude, flaws.errors)
        draws = torch.arange(math.prod(flaws.shape), device=amplitude.device).reshape(flaws.shape).expand(leading)
        steps = flaws.reference_steps

        def window(response: Tensor, batch: slice, outputs: slice) -> Tensor:
            mine = draws.flatten()[batch]
            response = flaws.at_output(response, mine, outputs) if flaws.moves_output else response
            if see is None:
                return correlation.picture_window(response, size=self.size, upright=self.upright)
            return see(response, None if steps is None else steps.flatten()[mine], outputs=outputs)

        return correlation.filtered(fields, transfer, pupil=pupil, see=window)

    def _own_transfer(self, masks: Tensor | Shown, draw: Imperfections, size: Pair, beside: Pair) -> Tensor:
        """Transfer functions of one draw's own masks and combiner; the last draw's are kept for its next pictures."""
        follows = wants_gradient(draw, *PIXELS, *BODILY, "source.wavelength", "combiner")
        if not isinstance(masks, Shown) or masks.key is None or follows or is_traced():
            return self._made_transfer(masks, draw, size, beside)
        key = (masks.key, draw.without("reference").fingerprint(), size, beside, masks.dtype, masks.device)
        return self._drawn.get(key, lambda: self._made_transfer(masks, draw, size, beside))

    def _made_transfer(self, masks: Tensor | Shown, draw: Imperfections, size: Pair, beside: Pair) -> Tensor:
        if isinstance(masks, Shown):
            assert self.plan is not None
            transfer = self.plan.transfer(masks.flawed(draw, self.plan.reach(beside)), size, draw)
        else:
            transfer = fourier.kernel_transfer(masks, size)
        return (
            transfer
            if "combiner.phase" not in draw and "combiner.amplitude" not in draw
            else (transfer * combiner_weights(draw, transfer))
        )

    def _beside(self, *, aberrated: bool, whole: bool) -> Pair:
        """Samples round the picture at which a device's light has to be right, ``(y, x)``."""
        room = BESIDE if whole else int(not self.upright)  # turned, an even grid shows the sample beyond it
        slopes = self._slopes if self._is_aberrated(aberrated) else (0, 0)
        return room + slopes[0], room + slopes[1]

    def _transfer(self, shown: Shown, size: Pair, beside: Pair) -> Tensor:
        assert self.plan is not None
        plan = self.plan

        def make() -> Tensor:
            return plan.transfer(plan.spread(shown.transmission, plan.reach(beside)), size)

        if shown.key is None:
            return make()
        with torch.no_grad():
            return self._transfers.get((shown.key, size, beside, shown.dtype, shown.device), make)

    def _is_aberrated(self, wanted: bool) -> bool:
        return is_aberrated(self.bench, wanted, self.plan is not None)

    def _pupil(self, key: Key) -> Tensor | None:
        aberrated, size, dtype, device = key
        stopped = self.stop and self.plan is None  # a device's pixels carry the stop themselves
        if not (aberrated or stopped or self.plan):
            return None

        def build() -> Tensor:
            pupil = stop_transmission(self.bench, size, device) if stopped else torch.ones(1, 1).double().to(device)
            if self.plan is not None:
                rows, columns = (input_pixel(self.bench, grid.frequencies(n, device=device)) for n in size)
                pupil = pupil * torch.outer(rows, columns)
            if aberrated:
                pupil = _wavefront_on_bins(self.bench, size, device) * pupil
            exact = torch.promote_types(dtype, torch.complex64) if pupil.is_complex() else dtype
            return pupil.to(exact)

        return self._pupils.get(key, build)


def _plainly(see: See, response: Tensor, _: slice, outputs: slice) -> Tensor:
    return see(response, outputs=outputs)


def _room_for_all(size: Pair, beside: Pair) -> Pair:
    """A working grid on which light from anywhere in the picture is right anywhere in it and ``beside`` it."""
    height, width = (grid.smooth_size(2 * (n + b) - 1) for n, b in zip(size, beside, strict=True))
    return height, width


def surround(bench: Bench, size: Pair, slopes: Pair | None, *, stop: bool) -> Pair:
    """Dark samples that light needs beside a picture and its kernel's reach, ``(y, x)``.

    Behind a stop light rings without end, ever weaker: three pictures, or sixteen times the ripples' length, leave some
    1e-3 to wrap. An aberration rings less, for which 24 samples do, and moves light by its ``slopes`` (None: none).
    """
    ripple = math.ceil(16 * band_width(bench) / stop_width(bench)) if stop else 0
    rooms = []
    for n, slope in zip(size, slopes or (0, 0), strict=True):
        ringing = max(3 * n, ripple) if stop else 24 if slopes else 0
        rooms.append(ringing + slope)
    return rooms[0], rooms[1]


def stop_transmission(bench: Bench, size: Pair, device: torch.device) -> Tensor:
    """The stop on the bins of a working grid, in FFT order and float64."""
    assert bench.stop is not None
    bins = band_width(bench) / size[0], band_width(bench) / size[1]
    return aperture.stop(size, bins, stop_width(bench), shape=bench.stop.shape, device=device)


def wavefront_reach(bench: Bench) -> Pair:
    """Samples that the steepest slope of the errors moves light by, ``(y, x)``."""
    samples = 65
    axis = grid.coordinates(samples, band_width(bench) / (samples - 1))
    path = aberration.wavefront(axis, axis, bench.aberration.zernike, wavefront_diameter(bench))
    waves = path * (samples - 1) / bench.source.wavelength
    down, along = (math.ceil(float(waves.diff(dim=dim).abs().max())) for dim in (0, 1))
    return down, along


def _wavefront_on_bins(bench: Bench, size: Pair, device: torch.device) -> Tensor:
    """The errors on the bins of a working grid; the last bin of an even one stands for both edges of the band."""
    odd = tuple(n + 1 - n % 2 for n in size)
    y, x = (
        torch.fft.ifftshift(grid.coordinates(m, band_width(bench) / n, device=device))
        for m, n in zip(odd, size, strict=True)
    )
    return fourier.spectral_crop(wavefront_transmission(bench, y, x), size, keep_mean=False)
