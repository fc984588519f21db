"""What a bench's imperfections do to light: on its way in, between the lenses, and on its way out to the camera.

A mask that is off is the mask in its place with light that is off. Moved by S, turned and magnified by A = mR, shifted
along the axis by z, its point-spread function is

    h'(x, x') = e^{i2πS(x - x')/λf} · e^{iπz(x² - x'²)/λf²} · |A| · h(Aᵀ(x - x'))

so a picture is multiplied by phases and turned by -θ on its way in, a response turned by +θ and multiplied on its way
out, and masks are encoded once for all draws. What the camera sees moved or out of focus, and errors of lenses, are
phases between the lenses and leave the input's transforms alone. Only what changes the pixels costs masks anew.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fouroptics.bench import Bench
from fouroptics.correlator.fourier_plane import band_width, input_pixel, wavefront_diameter
from fouroptics.correlator.masks import MaskPlan
from fouroptics.devices import material
from fouroptics.errors import InputError
from fouroptics.imperfections import Imperfections
from fouroptics.optics import aberration, grid
from fouroptics.optics.fourier import Pair

PIXELS = ("mask.phase_scale", "mask.level", "mask.dead_pixels", "fabrication")
MOVES = ("mask.shift_x", "mask.shift_y", "mask.defocus", "source.wavelength")
TURNS = ("mask.rotation", "mask.magnification", "source.wavelength")
BETWEEN = ("camera.shift", "camera.defocus", "aberration", "source.wavelength", "reference")
_QUARTER = math.pi / 2
_STEP = 8  # samples


class Flaws:
    """Imperfections of one bench, as the lens transform's light meets them.

    Args:
        errors: one draw or many; their shape broadcasts with the pictures' leading dimensions.
        bench: the bench.
        size: samples of a picture.
        inputs: where pictures' tiles are centred, ``[in, 2]`` samples (y, x), float64.
        outputs: where responses are centred, ``[out, 2]``.
        like: a tensor of the light's dtype and device.
        phase: whether the phase of a response is seen.
    """

    def __init__(
        self,
        errors: Imperfections,
        bench: Bench,
        size: Pair,
        inputs: Tensor,
        outputs: Tensor,
        like: Tensor,
        *,
        phase: bool,
    ) -> None:
        self.errors = errors.to(device=like.device)
        self.bench, self.size, self.like, self.phase = bench, size, like, phase
        self.inputs, self.outputs = inputs.to(like.device), outputs.to(like.device)
        self.wavelength = bench.source.wavelength + self._of("source.wavelength")
        self.focal = tuple(
            self._number(material.focal_length(lens.focal_length, lens.glass, bench.source.wavelength, self.wavelength))
            for lens in (bench.lens1, bench.lens2)
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.errors.shape

    def has(self, *names: str) -> bool:
        """Whether any field, or any of a section, is off."""
        return any(_is_of(name, names) for name in self.errors.names)

    def of(self, errors: Imperfections) -> Flaws:
        """The same bench with other draws."""
        return Flaws(errors, self.bench, self.size, self.inputs, self.outputs, self.like, phase=self.phase)

    @property
    def reference_steps(self) -> Tensor | None:
        """By how much the reference's steps are off [rad], ``[*shape]``; None: as the bench says."""
        return self._of("reference.phase_step").to(self.like.dtype) if self.has("reference") else None

    @property
    def moves_output(self) -> bool:
        return self.turns or (self.phase and self.has(*MOVES))

    @property
    def turns(self) -> bool:
        """Whether light has to be sampled anew, beyond a multiplication."""
        return self.has(*TURNS)

    @property
    def reach(self) -> Pair:
        """Samples by which light is moved between the lenses, ``(y, x)``, in steps so that draws share plans."""
        with torch.no_grad():
            moved = self._camera_shift().abs()
            moved = moved.norm(dim=-1, keepdim=True).expand_as(moved) if self.has("mask.rotation") else moved
            blurred = self._camera_defocus().abs() * self.wavelength / (2 * self.bench.input.sample**2)
            slopes = self._path(torch.linspace(-0.5, 0.5, 33, dtype=torch.float64), None)
            rooms = []
            for axis, dim in ((0, -2), (1, -1)):
                steep = 0.0 if slopes is None else slopes.diff(dim=dim).abs().amax() * 32 / self.wavelength.amin()
                far = float((moved[..., axis] + blurred).amax() + steep)
                rooms.append(_STEP * math.ceil(far / _STEP))
            if bool((self._of("mask.rotation").abs() > _QUARTER / 2).any()):  # a square that is turned stays one
                rooms = [max(rooms)] * 2
        return rooms[0], rooms[1]

    def changes_masks(self, plan: MaskPlan | None) -> bool:
        """Whether masks differ from draw to draw; another wavelength changes the phases of a device's."""
        if self.has(*PIXELS) and plan is None:
            name = next(name for name in self.errors.names if _is_of(name, PIXELS))
            raise InputError("ideal masks have no pixels to be off", where=name, mend="build with masks='device'")
        chromatic = plan is not None and plan.modulator.shows != "amplitude" and self.has("source.wavelength")
        return chromatic or self.has(*PIXELS, "combiner") or (plan is not None and plan.moves_apart(self.errors))

    def at_input(self, amplitude: Tensor, room: Pair) -> Tensor:
        """Pictures ``[..., in, y, x]`` as masks in their places have to meet them; on ``room`` samples if they move."""
        moved = self._of_pair("input.shift") / self.bench.input.sample
        fields = amplitude * self._phases(self._input_places(moved), ways_in=True) if self.has(*MOVES) else amplitude
        if not (self.turns or self.has("input.shift")):
            return fields
        turn, scale = self._of("mask.rotation"), self._magnification()
        back = _turned(self.inputs, turn[..., None]) / scale[..., None, None] - self.inputs - moved[..., None, :]
        matrices = []
        for dim, n, wide in zip((0, 1), self.size, room, strict=True):
            source = _places(wide, n, self.like) / scale[..., None, None] + back[..., dim, None]
            taps = torch.arange(n, dtype=torch.float64, device=self.like.device) - n // 2
            matrices.append(torch.sinc(source[..., None] - taps).to(self.like.dtype))
        laid = _sandwich(matrices, fields)
        return self._rotated(laid, turn[..., None, None, None]) if self.has("mask.rotation") else laid

    def pupil(self, size: Pair) -> Tensor | None:
        """What is off between the lenses, ``[*shape, v, u]``; None: nothing."""
        if not self.has(*BETWEEN):
            return None
        nu = [grid.frequencies(n, device=self.like.device) for n in size]
        shift = _turned(self._camera_shift(), -self._of("mask.rotation")) * self._output_scale()[..., None]
        turns = -(shift[..., 0, None, None] * nu[0][:, None] + shift[..., 1, None, None] * nu[1])
        turns = turns - self._of("reference.phase")[..., None, None] / (2 * math.pi)
        square = (nu[0][:, None].square() + nu[1].square()) / self.bench.input.sample**2
        turns = turns - 0.5 * (self.wavelength * self._camera_defocus())[..., None, None] * square
        path = self._path(nu[0], nu[1])
        if path is not None:
            turns = turns + path / self.wavelength[..., None, None]
        if self.has("source.wavelength") and self.bench.aberration.zernike:
            own = aberration.wavefront(
                *self._in_metres(nu), self.bench.aberration.zernike, wavefront_diameter(self.bench)
            )
            turns = turns + own * (1 / self.wavelength - 1 / self.bench.source.wavelength)[..., None, None]
        return self._wave(turns)

    def input_pixels(self, size: Pair) -> Tensor | None:
        """How input pixels' spectrum, which stays in its place, differs where a mask has moved, ``[*shape, v, u]``.

        A mask's frequency ν meets what the input sends to Aν + S.
        """
        if not (self.turns or self.has(*MOVES)):
            return None
        shift = torch.stack((self._of("mask.shift_y"), self._of("mask.shift_x")), -1)
        shift = shift * (self.bench.input.sample / (self.wavelength * self.focal[0]))[..., None]
        scale = self._magnification()[..., None]
        y, x = (grid.frequencies(n, device=self.like.device) for n in size)
        if not self.has("mask.rotation"):  # each axis by itself
            rows, columns = (
                input_pixel(self.bench, nu * scale + shift[..., dim, None]) / input_pixel(self.bench, nu)
                for dim, nu in enumerate((y, x))
            )
            return (rows[..., :, None] * columns[..., None, :]).to(self.like.dtype)
        straight = torch.stack((y[:, None].expand(size), x.expand(size)), -1)
        there = _turned(straight, self._of("mask.rotation")[..., None, None]) * scale[..., None, None]
        there = there + shift[..., None, None, :]
        now = input_pixel(self.bench, there[..., 0]) * input_pixel(self.bench, there[..., 1])
        nominal = torch.outer(input_pixel(self.bench, y), input_pixel(self.bench, x))
        return (now / nominal).to(self.like.dtype)

    def at_output(self, field: Tensor, draws: Tensor, outputs: slice) -> Tensor:
        """Responses ``[batch, out, Y, X]`` on a working grid as the camera meets them; ``draws`` of the batch."""
        flat = self.errors.reshape(-1).at(draws)
        mine = Flaws(flat, self.bench, self.size, self.inputs, self.outputs[outputs], self.like, phase=self.phase)
        return mine._at_output(field)

    def _at_output(self, field: Tensor) -> Tensor:
        room = field.shape[-2], field.shape[-1]
        if self.turns:
            field = self._turned_back(field, room)
        if self.phase and self.has(*MOVES):
            field = field * self._phases(self._output_places(room), ways_in=False)
        return field

    def _turned_back(self, field: Tensor, room: Pair) -> Tensor:
        """e(ξ) = g(A^T(x + ξ) - x) about each response's centre x."""
        turn, scale = self._of("mask.rotation"), self._output_scale()
        centres = self.outputs[:1] if bool((self.outputs == self.outputs[0]).all()) else self.outputs
        ahead = scale[..., None, None] * _turned(centres, -turn[..., None]) - centres
        matrices = []
        for dim, n, wide in zip((0, 1), self.size, room, strict=True):
            at = _places(wide, n, self.like)
            source = at * scale[..., None, None] + ahead[..., dim, None]
            matrices.append(torch.sinc(source[..., None] - at).to(self.like.dtype))
        laid = _sandwich(matrices, field)
        return self._rotated(laid, -turn[..., None, None, None]) if self.has("mask.rotation") else laid

    def _rotated(self, field: Tensor, turn: Tensor) -> Tensor:
        """v(Rξ) of v about the picture's own axis: quarter turns by index, the rest by three shears."""
        quarters = torch.round(turn.detach() / _QUARTER)
        if bool((quarters != 0).any()):
            if field.shape[-1] != field.shape[-2] or self.size[0] != self.size[1]:
                raise InputError(
                    "a turn of more than 45° needs square pictures", where="mask.rotation", mend="turn the kernels"
                )
            field = _quarter_turned(field, quarters, self.size[0] // 2)
        rest = turn - quarters * _QUARTER
        for dim, slope in ((-1, -(rest / 2).tan()), (-2, rest.sin()), (-1, -(rest / 2).tan())):
            field = self._sheared(field, slope, dim)
        return field

    def _sheared(self, field: Tensor, slope: Tensor, dim: int) -> Tensor:
        """v(x + slope·y, y), or along y, of a field whose lines are one period each."""
        other = -2 if dim == -1 else -1
        across = _places(field.shape[other], self.size[other], self.like)
        nu = grid.frequencies(field.shape[dim], device=self.like.device)
        turns = slope * (across[:, None] * nu if dim == -1 else nu[:, None] * across)
        moved: Tensor = torch.fft.ifft(torch.fft.fft(field, dim=dim) * self._wave(turns), dim=dim)
        return moved

    def _input_places(self, moved: Tensor) -> list[Tensor]:
        """Where picture samples stand on the input [m], ``[*shape, in, n]`` along y and x."""
        sample = self.bench.input.sample
        places = []
        for dim, n in enumerate(self.size):
            own = torch.arange(n, dtype=torch.float64, device=self.like.device) - n // 2
            places.append((self.inputs[:, dim, None] + own + moved[..., None, dim, None]) * sample)
        return places

    def _output_places(self, room: Pair) -> list[Tensor]:
        """What a camera that may be off sees at a grid's samples, referred to the input [m], ``[*shape, out, n]``."""
        moved = self._camera_shift()
        return [
            (self.outputs[:, dim, None] + _places(wide, n, self.like) - moved[..., None, dim, None])
            * self.bench.input.sample
            for dim, (n, wide) in enumerate(zip(self.size, room, strict=True))
        ]

    def _phases(self, places: list[Tensor], *, ways_in: bool) -> Tensor:
        """e^{∓i2πSx/λf}·e^{∓iπzx²/λf²} at places, ``[*shape, channels, y, x]``: - on the way in, + on the way out."""
        reach = self.wavelength * self.focal[0]
        shifts = self._of("mask.shift_y"), self._of("mask.shift_x")
        lens = 0 if ways_in else 1
        change = self.focal[lens] - (self.bench.lens1, self.bench.lens2)[lens].focal_length
        away = self._of("mask.defocus") + (-change if ways_in else change)
        scale = 1.0 if ways_in else self._output_change()
        lines = []
        for shift, x in zip(shifts, places, strict=True):
            x = x * self._number(scale)[..., None, None]
            linear = (shift / reach)[..., None, None] * x
            lines.append(linear + 0.5 * (away / (reach * self.focal[0]))[..., None, None] * x.square())
        sign = -1 if ways_in else 1
        return self._wave(sign * lines[0])[..., :, None] * self._wave(sign * lines[1])[..., None, :]

    def _magnification(self) -> Tensor:
        """Of the mask as frequencies see it: its own, and what another wavelength or focal length makes of it."""
        nominal = self.bench.source.wavelength * self.bench.lens1.focal_length
        return (1 + self._of("mask.magnification")) * nominal / (self.wavelength * self.focal[0])

    def _output_scale(self) -> Tensor:
        """Of a response, as a mask's magnification and other lenses make it smaller."""
        return self._magnification() * self._output_change()

    def _camera_shift(self) -> Tensor:
        """How far the camera is aside, ``[*shape, 2]`` samples of a response."""
        return self._of_pair("camera.shift") / self._output_sample

    def _output_change(self) -> Tensor:
        """What lenses of other glasses do to the size of the camera's picture, as a share, inverted."""
        return self.focal[0] / self.bench.lens1.focal_length * self.bench.lens2.focal_length / self.focal[1]

    def _camera_defocus(self) -> Tensor:
        """How far the camera is out of focus, referred to the input's frequencies [m]."""
        nominal = self.bench.lens1.focal_length, self.bench.lens2.focal_length
        change = [focal - f for focal, f in zip(self.focal, nominal, strict=True)]
        return (self._of("camera.defocus") - change[1]) * (self.focal[0] / self.focal[1]).square() - change[0]

    def _path(self, y: Tensor, x: Tensor | None) -> Tensor | None:
        """The drawn errors of the lenses at frequencies [cycles a sample] [m], ``[*shape, y, x]``."""
        terms = {
            int(name.rsplit(".", 1)[1]): self.errors[name][..., None, None]
            for name in self.errors.names
            if name.startswith("aberration.")
        }
        if not terms:
            return None
        where = self._in_metres([y, y if x is None else x])
        return aberration.wavefront(*where, terms, wavefront_diameter(self.bench))

    def _in_metres(self, nu: list[Tensor]) -> tuple[Tensor, Tensor]:
        y, x = (one.to(self.like.device) * band_width(self.bench) for one in nu)
        return y, x

    @property
    def _output_sample(self) -> float:
        return self.bench.input.sample * self.bench.lens2.focal_length / self.bench.lens1.focal_length

    def _of(self, name: str) -> Tensor:
        """A field ``[*shape]``, 0 where it is nominal, in float64."""
        value = self.errors.get(name)
        if value is None:
            return torch.zeros(self.shape, dtype=torch.float64, device=self.like.device)
        return value.double()

    def _of_pair(self, name: str) -> Tensor:
        value = self.errors.get(name)
        if value is None:
            return torch.zeros(*self.shape, 2, dtype=torch.float64, device=self.like.device)
        return value.double()

    def _number(self, value: float | Tensor) -> Tensor:
        return torch.as_tensor(value, dtype=torch.float64, device=self.like.device)

    def _wave(self, turns: Tensor) -> Tensor:
        """e^{i2π·turns} in the light's precision, worked out in float64."""
        turns = turns - turns.detach().round()
        angle = (2 * math.pi * turns).to(self.like.dtype)
        return torch.polar(torch.ones_like(angle), angle)


def _is_of(name: str, chosen: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{one}.") for one in chosen)


def _turned(places: Tensor, turn: Tensor) -> Tensor:
    """R(θ) of ``(y, x)`` places, from +x to +y."""
    y, x = places[..., 0], places[..., 1]
    return torch.stack((turn.sin() * x + turn.cos() * y, turn.cos() * x - turn.sin() * y), -1)


def _places(room: int, samples: int, like: Tensor) -> Tensor:
    """Where a working grid's samples stand about the picture's axis, half the room before it and half behind."""
    index = torch.arange(room, dtype=torch.float64, device=like.device)
    return torch.where(index >= (room + samples) / 2, index - room, index) - samples // 2


def _quarter_turned(field: Tensor, quarters: Tensor, axis: int) -> Tensor:
    """v(R^k ξ) for whole quarter turns, each draw its own."""
    room = field.shape[-1]
    mirror = (2 * axis - torch.arange(room, device=field.device)) % room  # what stands at minus a sample's place
    turned, result = field, field
    for step in range(1, 4):
        turned = turned.transpose(-2, -1).index_select(-2, mirror)  # v(-y, x): rows are x, mirrored columns are y
        here = torch.remainder(quarters, 4) == step
        result = torch.where(here, turned, result)
    return result


def _sandwich(matrices: list[Tensor], field: Tensor) -> Tensor:
    """rows @ field @ columns, for real matrices ``[..., m, n]`` and a real or complex field."""
    rows, columns = matrices
    if not field.is_complex():
        return rows @ (field @ columns.mT)
    parts = [rows @ (part @ columns.mT) for part in (field.real, field.imag)]
    return torch.complex(parts[0], parts[1])
