"""A bank's masks on the bench's own device: from kernels to pixels, and from pixels to what a point becomes.

    kernels ─► wanted transmission at the pixels ─► encoded ─► nearest levels ─► point-spread ─► transfer functions

A mask carries one or more *terms*, each an output's kernel for one input with the linear phase that brings the input's
tile to the response's place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fouroptics.bench import Bench
from fouroptics.correlator import panel
from fouroptics.correlator.fourier_plane import band_width, input_pixel, stop_width, wavefront_transmission
from fouroptics.correlator.passive import passive_scale
from fouroptics.devices import encode, modulator
from fouroptics.devices.layout import Place, Sharing
from fouroptics.devices.modulator import Quantize
from fouroptics.errors import InputError
from fouroptics.imperfections import Imperfections
from fouroptics.optics import aperture, fourier, grid
from fouroptics.optics.fourier import Pair
from fouroptics.optics.kept import Kept
from fouroptics.optics.pixelated import PixelSpread, pixel_frequencies, spread_transfer

BESIDE = 16  # samples round a picture at which a reading's light is known
_ALL = slice(None)
BODILY = ("mask.rotation", "mask.magnification")  # what moves masks side by side on one panel by different ways


class Shown:
    """Masks as they stand in the plane.

    Args:
        make: gives every pixel's transmission ``[masks, Ny, Nx]``.
        flawed: gives the terms' spreads ``[out, in, Ky, Kx]`` of one draw, so far about a response ``(y, x)``.
        key: of what follows from them, so that it is worked out once; None where a gradient is wanted.
        like: a tensor of the pixels' dtype and device.
    """

    def __init__(
        self,
        make: Callable[[], Tensor],
        flawed: Callable[[Imperfections, Pair], Tensor],
        key: Hashable | None,
        like: Tensor,
    ) -> None:
        self._make, self.flawed, self.key, self.dtype, self.device = make, flawed, key, like.dtype, like.device

    @cached_property
    def transmission(self) -> Tensor:
        return self._make()


@dataclass(frozen=True)
class Term:
    """One kernel on one mask.

    Args:
        mask: which.
        output: of the bank; twice as many where masks come in pairs.
        input: of the bank.
        centre: where its response stands on the camera, ``(y, x)`` samples.
        place: the same seen from its input's tile.
    """

    mask: int
    output: int
    input: int
    centre: Place
    place: Place


class MaskPlan:
    """How a bank's kernels stand on the bench's mask device: a plan, for any kernels of one shape.

    Args:
        bench: the bench.
        size: samples of a picture.
        kernel: taps ``(ky, kx)``.
        channels: ``(outputs, inputs)``; a pair of masks an output counts as two outputs, first all positive ones.
        sharing: how channels share the bench.
        inputs: how inputs are summed.
        pairs: masks of an output that share their scale.
        stop: put the bench's stop in.
    """

    def __init__(
        self,
        bench: Bench,
        size: Pair,
        kernel: Pair,
        channels: Pair,
        sharing: Sharing,
        *,
        inputs: str,
        pairs: int = 1,
        stop: bool = False,
    ) -> None:
        self.bench, self.size, self.kernel, self.channels = bench, size, kernel, channels
        self.layout = inputs, bench.layout.outputs
        self.pairs, self.stop, self._sharing = pairs, stop, sharing
        self.modulator = panel.modulator_of(bench)
        self.encoding = bench.mask.encoding
        self.pitch = bench.mask.pitch / band_width(bench)  # cycles a sample
        self.count = self._pixels(sharing)
        self.terms = tuple(self._terms(sharing))
        self.masks = max(term.mask for term in self.terms) + 1
        self.half_field = tuple((max(abs(t.place[d]) for t in self.terms) + size[d] + kernel[d]) for d in (0, 1))
        self.centres = tuple(self.terms[o * channels[1]].centre for o in range(channels[0]))
        self._spreads: Kept[PixelSpread] = Kept()
        self._fixed: Kept[Tensor] = Kept(most=16)
        self._dead: Kept[tuple[Tensor, Tensor]] = Kept()

    @property
    def origins(self) -> tuple[Pair, ...]:
        """Upper left pixel ``(y, x)`` of each mask on the panel: masks one after another share one place."""
        pixels = self.bench.mask.pixels[1], self.bench.mask.pixels[0]
        room = self._sharing.arm_pixels(pixels)
        inset = (room[0] - self.count[0]) // 2, (room[1] - self.count[1]) // 2
        arms = [(top + inset[0], left + inset[1]) for top, left in self._sharing.arm_origins(pixels)]
        return tuple(arms[mask % len(arms)] for mask in range(self.masks))

    @property
    def together(self) -> bool:
        """Whether all masks stand in one place, one after another."""
        return len(set(self.origins)) == 1

    @property
    def on_carrier(self) -> bool:
        return self.encoding in encode.ON_CARRIER

    def encode(self, taps: Tensor, which: slice = _ALL) -> tuple[Tensor, Tensor]:
        """Kernels ``[out, in, ky, kx]`` → drive of every pixel, and the scale of each output's response ``[out]``.

        The drive is that of ``which`` masks.
        """
        wanted, scale = self._wanted(taps)
        wanted = wanted[which]
        field = self._field(wanted.device) if self.encoding == "fit" else None
        dark = self._spot(taps)
        return encode.encode(wanted, self.encoding, self.modulator, field=field, dark=dark), scale

    def shown(self, drive: Tensor, quantize: Quantize = "hard", *, softness: float = 1.0) -> Tensor:
        """Transmission of every pixel ``[masks, Ny, Nx]``, with the panel's own wavefront and the stop."""
        return self._dressed(self.modulator.show(drive, quantize, softness=softness, stuck=self.stuck(drive.device)))

    def flawed(self, draw: Imperfections, drive: Tensor, quantize: Quantize, *, softness: float) -> Tensor:
        """``shown`` with the pixels of one draw: its dead ones, its levels, its etching, at its wavelength."""
        stuck = panel.also_dead(
            self.stuck(drive.device),
            draw,
            (self.masks, *self.count),
            together=self.together,
            levels=self.modulator.levels,
            device=drive.device,
        )
        change = panel.phase_change(self.bench, draw)
        if self.modulator.table is None:
            passed = self.modulator.show(drive, quantize, softness=softness, stuck=stuck)
            phase = torch.remainder(passed.angle(), modulator.FULL_TURN)
            return self._dressed(torch.polar(passed.abs(), phase * change), draw)
        table = panel.flawed_table(self.modulator.table.to(drive), draw, change)
        passed = self.modulator.show(drive, quantize, softness=softness, table=table, stuck=stuck)
        overlay = draw.get("fabrication.overlay")
        if overlay is not None:
            levels = self.modulator.nearest(drive)
            shifts = overlay.to(drive) / self.bench.mask.pitch
            passed = passed + modulator.overlay_change(self.modulator, levels, shifts, table)
        return self._dressed(passed, draw)

    def levels(self, drive: Tensor, which: slice = _ALL) -> Tensor:
        """The levels of every pixel ``[masks, Ny, Nx]``, dead ones included: what is exported. Of ``which`` masks."""
        levels, stuck = self.modulator.nearest(drive), self.stuck(drive.device)
        return levels if stuck is None else torch.where(stuck[0][which], stuck[1][which], levels)

    def transmitted(self, levels: Tensor, dtype: torch.dtype) -> Tensor:
        """What pixels of given levels pass: the same numbers as ``shown`` in hard evaluation."""
        return self._dressed(self.modulator.transmission(levels, dtype=dtype))

    def spread(self, transmission: Tensor, reach: Pair) -> Tensor:
        """Masks → each term's point-spread function about its response, ``[out, in, Ky, Kx]``, K = 2·reach + 1."""
        return self.of_terms(self.spread_plan(reach, transmission.dtype, transmission.device)(transmission))

    def spread_plan(self, reach: Pair, dtype: torch.dtype, device: torch.device) -> PixelSpread:
        """From masks to their spreads about all places, ``[masks, rows, columns, Ky, Kx]``."""

        def build() -> PixelSpread:
            rows, columns = self._places
            return PixelSpread(self.count, self.pitch, rows, columns, reach, **self.pixel_area(dtype, device))

        return self._spreads.get((reach, dtype, device), build)

    def of_terms(self, spreads: Tensor) -> Tensor:
        """Of masks' spreads about all places those that are terms, ``[out, in, Ky, Kx]``."""
        rows, columns = self._places
        which = [(t.mask, rows.index(t.place[0]), columns.index(t.place[1])) for t in self.terms]
        mask, row, column = (torch.tensor(one, device=spreads.device) for one in zip(*which, strict=True))
        return spreads[mask, row, column].reshape(*self.channels, *spreads.shape[-2:])

    @property
    def _places(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Where responses stand as their inputs see them, rows and columns."""
        rows, columns = (tuple(sorted({term.place[dim] for term in self.terms})) for dim in (0, 1))
        return rows, columns

    def pixel_area(self, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
        """What a plan of pixels is told of them: their fill, what passes between them, and what lies over both."""
        both = self.over(dtype, device)
        over = both if both.numel() > 1 else None
        mask = self.bench.mask
        return {"fill_factor": mask.fill_factor, "leak": mask.leak, "over": over, "dtype": dtype, "device": device}

    def over(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """What lies over pixels and gaps alike, ``[Ny, Nx]``, ``[masks, Ny, Nx]`` or one number."""
        like = torch.empty(0, dtype=dtype, device=device)
        return self._kept("stop", like) * self._kept("panel", like)

    def reach(self, beside: Pair) -> Pair:
        """Samples on both sides of a response that its point-spread function is needed for, ``(y, x)``."""
        return self.size[0] - 1 + beside[0], self.size[1] - 1 + beside[1]

    def transfer(self, spread: Tensor, size: Pair, draw: Imperfections | None = None) -> Tensor:
        """Spreads → transfer functions ``[out, in, y, x]`` on a working grid of ``size`` samples.

        With a ``draw`` masks that stand side by side move as one body does that turns and stretches.
        """
        shifts = None if draw is None else self._tile_shifts(draw, spread.real)
        if shifts is not None:
            turns = [
                shifts[..., dim, None] * self.pitch / self.bench.mask.pitch * self._displacements(dim, n, shifts.device)
                for dim, n in enumerate(spread.shape[-2:])
            ]
            rows, columns = (torch.polar(torch.ones_like(t), 2 * math.pi * t).to(spread.dtype) for t in turns)
            spread = spread * rows[..., :, None] * columns[..., None, :]
        return spread_transfer(spread, size)

    def realised(self, transmission: Tensor) -> Tensor:
        """What the masks correlate with, ``[out, in, ky, kx]`` complex: of the spread of input and mask, the taps."""
        seen = self._kept("pixel", transmission) * self._kept("lenses", transmission)
        spread = self.spread(transmission * seen, self.kernel)
        rows, columns = (
            slice(n // 2 - (k - 1 - fourier.kernel_centre(k)), n // 2 + fourier.kernel_centre(k) + 1)
            for n, k in zip(spread.shape[-2:], self.kernel, strict=True)
        )
        return spread[..., rows, columns].flip(-2, -1)

    def gain(self, transmission: Tensor, taps: Tensor, scale: Tensor) -> Tensor:
        """How much of the wanted amplitude comes out, ``[out]``: what is realised, projected on the kernels."""
        found = self.realised(transmission)
        wanted = taps.to(found.dtype) * scale[:, None, None, None]
        energy = wanted.abs().square().sum((1, 2, 3))
        along = (wanted.conj() * found).sum((1, 2, 3)).real
        return torch.where(energy > 0, along / torch.where(energy > 0, energy, 1.0), 1.0)

    def driven_to(self, levels: Tensor, like: Tensor) -> Tensor:
        """The drive whose nearest levels are the given ones."""
        due, most = (self.masks, *self.count), self.modulator.levels - 1
        mend = f"whole numbers from 0 to {most} of shape {due}, as bank.masks has them"
        if not isinstance(levels, Tensor) or levels.is_floating_point() or levels.is_complex():
            kind = levels.dtype if isinstance(levels, Tensor) else type(levels).__name__
            raise InputError(f"levels are {kind}", where="levels", mend=mend)
        if tuple(levels.shape) != due:
            raise InputError(f"levels are {tuple(levels.shape)}", where="levels", mend=f"{due} are due")
        levels = levels.long()
        least, greatest = torch.stack(levels.aminmax()).tolist()
        if least < 0 or greatest > most:
            raise InputError(f"levels are {least} … {greatest}", where="levels", mend=mend)
        return self.modulator.drive_of(levels).to(like)

    def nbytes(self, batch: int, room: Pair, *, element: int, gradient: bool) -> int:
        """Most bytes that a batch's field takes at once: masks, spreads, transfer functions and responses."""
        outputs, inputs = self.channels
        plane, pixels = 2 * element * math.prod(room), 2 * element * math.prod(self.count)
        rows, columns = (len({term.place[dim] for term in self.terms}) for dim in (0, 1))
        spread = 2 * element * rows * columns * math.prod(2 * r + 1 for r in self.reach((BESIDE, BESIDE))) * self.masks
        shown = pixels * self.masks * (4 if gradient else 2)
        responses = plane * batch * (2 * inputs + (4 if gradient else 2) * outputs)
        return shown + 2 * spread + 3 * plane * outputs * inputs + responses

    def _pixels(self, sharing: Sharing) -> Pair:
        """Pixels of a mask ``(y, x)``: what the band covers, or there are; centred as the panel or its part is."""
        count = []
        for room in sharing.arm_pixels((self.bench.mask.pixels[1], self.bench.mask.pixels[0])):
            covered = min(room, math.floor(1 / self.pitch + 1e-6))
            count.append(covered - (room - covered) % 2)
        needed = [int(n) for n in sharing.mask_field]
        if any(n < 1 for n in count):
            raise InputError("a mask has no pixels in the band", where="mask.pixels", mend="a larger panel")
        if any(n < need * 0.999 - 1 for n, need in zip(count, needed, strict=True)):
            have, due = (f"{pair[0]}×{pair[1]}" for pair in (count, needed))
            what = f"masks of {have} pixels cannot tell {due} frequency bins apart"
            mend = "print(bench.sampling(…)) for what would, or layout='auto'"
            raise InputError(what, where="layout", mend=mend)
        return count[0], count[1]

    def _terms(self, sharing: Sharing) -> list[Term]:
        (inputs, outputs), (bank, each) = self.layout, (self.channels[0] // self.pairs, self.channels[1])
        here, there = sharing.centres((bank, each), inputs, outputs)
        beside = self._carrier_offset
        terms = []
        for output in range(self.channels[0]):
            pair, which = divmod(output, bank)
            first = pair if outputs == "tiled" else output
            for channel in range(each):
                mask = first if inputs == "tiled" else first * each + channel
                centre = there[which][0], there[which][1] + beside
                place = centre[0] - here[channel][0], centre[1] - here[channel][1]
                terms.append(Term(mask, output, channel, centre, place))
        return terms

    @property
    def _carrier_offset(self) -> float:
        """Where the first order stands [samples]."""
        return 1 / (encode.CARRIER_PERIOD * self.pitch) if self.on_carrier else 0.0

    def moves_apart(self, draws: Imperfections) -> bool:
        """Whether masks side by side are moved each by its own way."""
        return not self.together and any(name in draws for name in BODILY)

    def _tile_shifts(self, draw: Imperfections, like: Tensor) -> Tensor | None:
        """How far a panel that turns and stretches about its middle moves each mask on it ``[out, in, 2]`` [m]."""
        if not self.moves_apart(draw):
            return None
        turn, stretch = (like.new_zeros(()).double() if v is None else v.double() for v in map(draw.get, BODILY))
        panel_middle = (self.bench.mask.pixels[1] - 1) / 2, (self.bench.mask.pixels[0] - 1) / 2
        places = [
            [(first + (n - 1) / 2 - middle) * self.bench.mask.pitch for first, n, middle in zip(*where, strict=True)]
            for where in ((self.origins[term.mask], self.count, panel_middle) for term in self.terms)
        ]
        y, x = torch.tensor(places, dtype=torch.float64).to(turn).reshape(*self.channels, 2).unbind(-1)
        down, along = turn.sin() * x + turn.cos() * y, turn.cos() * x - turn.sin() * y
        return torch.stack(((1 + stretch) * down - y, (1 + stretch) * along - x), -1)

    def _displacements(self, dim: int, samples: int, device: torch.device) -> Tensor:
        """From an input's samples to a spread's, ``[out, in, samples]``: the term's place and what is beside it."""
        places = torch.tensor([term.place[dim] for term in self.terms], device=device, dtype=torch.float64)
        return places.reshape(*self.channels, 1) + torch.arange(samples, device=device) - samples // 2

    def _wanted(self, taps: Tensor) -> tuple[Tensor, Tensor]:
        """The transmission that the pixels should have, |t| ≤ 1, and what kernels were turned down by."""
        shared = self.layout[0] == "tiled"
        scale = passive_scale(taps, summed=shared, masks=self.pairs).repeat(self.pairs)
        exact = torch.promote_types(taps.dtype, torch.complex64)
        scaled = (taps * scale[:, None, None, None]).to(exact) * self._kept("weights", taps)[:, :, None, None]
        wanted = self._summed(scaled)
        if self.bench.mask.precompensate:
            wanted = wanted / self._kept("pixel", taps)
            wanted = wanted * self._kept("panel", taps).conj()
        if self.bench.mask.correct_aberration:
            wanted = wanted * self._kept("lenses", taps).conj()
        peak = wanted.abs().flatten(1).amax(1)
        per_output = self._per_output(torch.where(peak > 0, peak, 1.0))
        per_mask = per_output[
            torch.tensor([self._terms_of(m)[0].output for m in range(self.masks)], device=taps.device)
        ]
        wanted = wanted * (encode.HEADROOM * self.bench.mask.asked / per_mask)[:, None, None]
        dark = self._spot(taps)
        wanted = (wanted if dark is None else torch.where(dark, 0, wanted)) - self._leak_to_cancel
        return wanted, scale * encode.HEADROOM / per_output

    def _summed(self, taps: Tensor) -> Tensor:
        """Σ over a mask's terms of its kernel's transfer function at the pixels, each with its place's phase."""
        masks = []
        for which in range(self.masks):
            rows, columns = [], []
            for term in self._terms_of(which):
                down, along = (
                    self._phases(dim, k, term.place[dim] - (self._carrier_offset if dim else 0.0), taps)
                    for dim, k in enumerate(self.kernel)
                )
                rows.append(down)
                columns.append(taps[term.output, term.input] @ along.mT)
            masks.append(torch.cat(rows, 1) @ torch.cat(columns, 0))
        return torch.stack(masks)

    def stuck(self, device: torch.device) -> tuple[Tensor, Tensor] | None:
        """Dead pixels under the masks and their levels, ``[masks, Ny, Nx]``."""
        if not self.bench.mask.dead:
            return None
        return self._dead.get(device, lambda: panel.dead(self.bench, self.origins, self.count, device))

    def _phases(self, dim: int, taps: int, place: float, like: Tensor) -> Tensor:
        """e^{i2πν(m - place)} at pixels (rows) and taps (columns)."""
        nu = pixel_frequencies(self.count[dim], self.pitch, device=like.device)
        turns = torch.outer(nu, torch.arange(taps, device=like.device) - fourier.kernel_centre(taps) - place)
        return torch.polar(torch.ones_like(turns), 2 * math.pi * (turns - turns.round())).to(like.dtype)

    def _terms_of(self, mask: int) -> list[Term]:
        return [term for term in self.terms if term.mask == mask]

    def _per_output(self, peak: Tensor) -> Tensor:
        """Per mask → per output: all masks that make one response, and all responses of one mask, share a factor."""
        inputs, outputs = self.layout
        if inputs != "tiled":
            peak = peak.reshape(-1, self.channels[1]).amax(1)
        bank = self.channels[0] // self.pairs
        peak = peak.reshape(self.pairs, -1).amax(0)
        return (peak.expand(bank) if outputs == "tiled" else peak).repeat(self.pairs)

    @property
    def _leak_to_cancel(self) -> float:
        """What the gaps add to each pixel, in units of what it passes itself."""
        mask = self.bench.mask
        if not mask.precompensate or self.on_carrier:
            return 0.0
        return mask.leak * (1 - mask.fill_factor) / mask.fill_factor

    def _dressed(self, passed: Tensor, draw: Imperfections | None = None) -> Tensor:
        """What pixels pass, with what lies over them; the panel's own error is a path, whatever the wavelength."""
        drift = None if draw is None or not self.bench.mask.wavefront else draw.get("source.wavelength")
        error = self._kept("panel", passed) if drift is None else self._panel_wavefront(drift.to(passed.device))
        return passed * error.to(passed.dtype) * self._kept("stop", passed)

    def _kept(self, what: str, like: Tensor) -> Tensor:
        """A map that belongs to the plan, for the dtype and device of a tensor."""
        dtype = torch.promote_types(like.dtype, torch.complex64)
        make = {
            "pixel": self._input_pixel,
            "panel": self._panel_wavefront,
            "lenses": self._corrected,
            "stop": self._stop,
            "weights": self._weights,
        }[what]
        return self._fixed.get((what, dtype, like.device), lambda: make().to(dtype=dtype, device=like.device))

    def _places_on_mask(self) -> tuple[Tensor, Tensor]:
        """Pixels' centres about the axis [m]."""
        y, x = (pixel_frequencies(n, self.bench.mask.pitch) for n in self.count)
        return y, x

    def _input_pixel(self) -> Tensor:
        """What input pixels make of the frequency at each mask pixel."""
        rows, columns = (input_pixel(self.bench, pixel_frequencies(n, self.pitch)) for n in self.count)
        return torch.outer(rows, columns)

    def _panel_wavefront(self, drift: Tensor | float = 0.0) -> Tensor:
        """The panel's own error on each mask, ``[masks, Ny, Nx]``, or one for all that stand in one place."""
        if not self.bench.mask.wavefront:
            return torch.ones(1, 1)
        origins = self.origins[:1] if self.together else self.origins
        return torch.stack([panel.wavefront(self.bench, origin, self.count, drift) for origin in origins])

    def _corrected(self) -> Tensor:
        """What the lenses do to light at each pixel, where masks make up for it."""
        places = self._places_on_mask()
        return wavefront_transmission(self.bench, *places) if self.bench.mask.correct_aberration else torch.ones(1, 1)

    def _stop(self) -> Tensor:
        """The part of each pixel that the stop leaves open."""
        if not self.stop or self.bench.stop is None:
            return torch.ones(1, 1)
        shape = aperture.square if self.bench.stop.shape == "square" else aperture.circular
        pitch = self.bench.mask.pitch
        return shape(*self._places_on_mask(), stop_width(self.bench), pitch=(pitch, pitch))

    def _weights(self) -> Tensor:
        """What makes up for the pixels' own sinc, which dims responses away from the axis, ``[out, in]``."""
        if not self.bench.mask.precompensate:
            return torch.ones(1, 1)
        clear = math.sqrt(self.bench.mask.fill_factor) * self.pitch
        places = torch.tensor([term.place for term in self.terms], dtype=torch.float64)
        dimmed = torch.sinc(clear * places).prod(1).reshape(self.channels)
        return dimmed.amax() / dimmed

    def _spot(self, like: Tensor) -> Tensor | None:
        """Pixels that block the pictures' mean, where there is such a spot."""
        if not self.bench.mask.dc_block:
            return None
        y, x = (place.to(like.device) for place in self._places_on_mask())
        return torch.hypot(y[:, None], x) <= self.bench.mask.dc_block / 2

    def _field(self, device: torch.device) -> Tensor:
        """Where a point-spread function matters: the tiles' field, on a transform of the pixels."""
        y, x = (
            (torch.fft.fftfreq(grid.smooth_size(n), dtype=torch.float64, device=device) / self.pitch).abs() <= half
            for n, half in zip(self.count, self.half_field, strict=True)
        )
        inside: Tensor = y[:, None] & x
        return inside
