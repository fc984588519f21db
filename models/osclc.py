"""The OSCLC: a student on its bench. Masks, light, a camera, then the electronics that the student learned."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from fouroptics.models.backends import Up, built, describe
from fouroptics.models.cascade import Cascade, Cost
from fouroptics.models.front import DeepFront, Front
from fouroptics.models.pyramid import LevelReader, PyramidFront
from fouroptics.models.readouts import Camera, Reader, Sensor
from fouroptics.models.reference import TO_SET, phase_due
from fouroptics.models.sclc import Student
from fouroptics.models.summary import count_macs
from torch import Generator, Tensor, nn

from fouroptics.bench import Bench
from fouroptics.correlator import Correlator4f
from fouroptics.correlator.reading import Window
from fouroptics.devices.detector import Pattern
from fouroptics.devices.source import photon_energy
from fouroptics.errors import InputError, check_choice, warn
from fouroptics.imperfections import Imperfections
from fouroptics.masks import MaskSet
from fouroptics.optics.fourier import kernel_centre

Pair = tuple[int, int]
_ROUNDING = 1e-10  # of the energy of all taps
_TOLD = 0.25  # [rad] by which a reference is off and is left: three per cent of a signal
_SILENT = 1e-20  # of the loudest output's power
_CHUNK = 32  # pictures at a time where a bench is measured
# Of the sampling report: what would be lost unseen.
_ROOM = ("input-panel", "lens1-pupil", "stop", "lens2-pupil", "camera-window")


class OSCLC(nn.Module):
    """A bank of 4f correlators, what its camera gives, and electronics behind it.

    A student's readings are in units of its field, a camera's are numbers of its converter. Between the two stands one
    factor an output, ``level``: what the camera gives for a reading of 1. It is measured on the bench (``measure``), as
    an engineer would, with pictures whose responses are known.

    A camera may give several readings for one of the student's, of which electronics takes the mean (``oversample``):
    each holds a well of its own, so an exposure that fills them gives n × n of them n² times the light, n times less
    noise.

    Args:
        bank: the optics and the camera; its readings are not companded yet.
        reader: thresholds, companding, pools and the frozen normalisation.
        backend: readings to scores.
    """

    level: Tensor

    def __init__(self, bank: Correlator4f, reader: Reader | LevelReader, backend: nn.Module) -> None:
        super().__init__()
        self.bank, self.reader, self.backend = bank, reader, backend
        self.cost: Cost | None = None  # of a cascade
        self.optical_macs = 0  # of the convolutions that light does, where they are known
        self.register_buffer("level", reader.mean.new_ones(reader.outputs))

    @classmethod
    def from_student(
        cls,
        student: Student,
        bench: Bench,
        pictures: Tensor,
        *,
        optics: Literal["folded", "cascade"] = "folded",
        oversample: int = 1,
        **options: Any,
    ) -> OSCLC:
        """A student's masks on a bench, exposed for some training pictures and measured with them.

        Args:
            student: an ``SCLC`` or its fold.
            bench: the bench it is to stand on.
            pictures: training pictures ``[batch, in, y, x]``: they fix exposure and levels.
            optics: ``"folded"``, one plane of masks; or ``"cascade"``, a 4f for each block with ideal masks: the same
                field (``Cascade``), dimmer by what splitting and summing its channels costs.
            oversample: readings of the camera, each way, for one of the student's.
            options: of ``Correlator4f``: ``masks`` (``"device"`` unless told), ``learn``, ``quantize``, ``layout``.

        Raises:
            InputError: the bench cannot carry it; which limit, and what would do.
        """
        _check_kinds(student, bench)
        front, reader = student.front, student.reader
        check_hardware(reader, bench)
        check_choice("optics", optics, ("folded", "cascade"))
        pictures, cost, ratio, glass = pictures.to(reader.mean.device), None, 1.0, 1.0
        if optics == "cascade":
            options = {"masks": "ideal"} | options
            if options["masks"] != "ideal":
                mend = 'masks="ideal", or optics="folded"'
                raise InputError("blocks of a cascade are ideal here", where="optics", mend=mend)
            cascade, in_turn = Cascade(front), bench.layout.outputs == "frames"
            tiled = options.get("layout", bench.layout.inputs) == "tiled"
            cost = cascade.cost(in_turn=in_turn)
            ratio = cost.share / cascade.cost_of_fold(tiled=tiled, in_turn=in_turn).share
            glass = bench.mask.transmission ** (cost.planes - 1)  # of all planes but the one that a bank has
        given: dict[str, Any] = {"masks": "device", "oversample": oversample} | options
        bank = bank_of(student, bench, **given)
        check_room(front, bank)
        bank = with_phase_set(bank, student, pictures, **given)
        if cost is not None:
            bank.lighting.further = {"splitting and summing": ratio, "masks of other blocks": glass}
            bank.expose(pictures)
        made = cls(bank, copy.deepcopy(reader), copy.deepcopy(student.backend)).train(student.training)
        made.measure(student, pictures)
        made.cost, made.optical_macs = cost, student.summary().deep_macs
        return made

    def forward(
        self,
        pictures: Tensor,
        *,
        errors: Imperfections | None = None,
        noisy: bool = False,
        generator: Generator | Sequence[Generator] | None = None,
        pattern: Pattern | None = None,
    ) -> Tensor:
        """Scores of pictures ``[batch, in, y, x]`` in [0, 1].

        Args:
            pictures: in [0, 1].
            errors: what is off on the bench: as many draws as pictures, or none.
            noisy: from one noisy capture each, and not from what is expected.
            generator: of the noise, on the pictures' device, or one for each picture; None takes torch's own.
            pattern: the camera's fixed pattern; None, with noise, draws another camera each time.
        """
        if isinstance(pictures, Tensor) and pictures.dim() != 4:
            what = f"pictures are {tuple(pictures.shape)}"
            raise InputError(what, where="pictures", mend="[batch, in, y, x]: one picture is pictures[None]")
        if noisy:
            given = self.bank.capture(pictures, generator=generator, pattern=pattern, errors=errors)
        else:
            given = self.bank(pictures, pattern, errors=errors)
        return self.scores(given)

    def scores(self, given: Tensor) -> Tensor:
        """What electronics makes of what the camera gives ``[batch, out, Y, X]``."""
        readings: Any = self.reader.followed(self._gathered(given) / self.level[:, None, None])
        found: Tensor = self.backend(self.reader.normalised(readings))
        return found

    @property
    def oversample(self) -> int:
        """Readings of the camera, each way, for one of the student's."""
        return self.bank.readings[0] // self.reader.given[0]

    def _gathered(self, given: Tensor) -> Tensor:
        return gathered(given, self.reader.given)

    @torch.no_grad()
    def measure(self, student: Student, pictures: Tensor) -> OSCLC:
        """Fix the levels: the camera's expected numbers on the student's own readings, least squares an output."""
        due = self.reader.mean.new_zeros(2, self.reader.outputs, dtype=torch.float64)
        mode = self.training
        for part in torch.split(pictures, _CHUNK):
            wanted = student.reader.detected(student.seen(part)).double()
            given = self._gathered(self.eval().bank(part)).double()
            due += torch.stack(((given * wanted).sum((0, 2, 3)), wanted.square().sum((0, 2, 3))))
        found, silent = due[0] / due[1].clamp_min(1e-300), due[1] <= _SILENT * due[1].max()
        if bool(silent.any()) and not bool(silent.all()):  # a kernel of nothing: of no reading any level will do
            nothing = ", ".join(map(str, silent.nonzero().flatten().tolist()))
            warn(f"outputs answer to nothing: {nothing}; fouroptics.models.pruning leaves such out")
            found[silent] = found[~silent].median()
        if not bool((found > 0).all()):
            which = int((found <= 0).nonzero()[0])
            what = f"output {which} answers the wrong way round, or not at all"
            mend = "another encoding of the masks, or more light"
            reference = self.bank.bench.reference
            if reference is not None and reference.captures == 1:
                mend += "; reference.captures = 2, or a stronger reference"
            raise InputError(what, where="measure", mend=mend)
        self.level.copy_(found)
        return self.train(mode)

    @torch.no_grad()
    def budget(self, pictures: Tensor) -> dict[str, Any]:
        """What a picture costs on the bench, from the source to numbers in a computer.

        The signal is how far readings are from their output's mean, over all outputs. Of a cascade all blocks' masks
        are counted, those of its last one light one output after another.

        Args:
            pictures: those that the light is told for.
        """
        bank = self.bank
        parts = torch.split(pictures, _CHUNK)
        collected = torch.cat([bank.electrons(part) for part in parts])
        due = torch.cat([self._gathered(bank(part)) for part in parts])
        generator = torch.Generator(due.device).manual_seed(0)
        even = Pattern(*(due.new_zeros(bank.readings) for _ in range(2)))  # a camera whose pixels are alike
        seen = [self._gathered(bank.capture(part, generator=generator, pattern=even)) for part in parts]
        noise, signal = torch.cat(seen) - due, due - due.mean((0, 2, 3), keepdim=True)
        dark = bank.electrons(torch.zeros_like(pictures[:1]))
        latency = bank.latency()
        well = float(bank.bench.camera.full_well)
        return {
            "light": self._light(float(collected.mean()), float(dark.mean())),
            "outputs": bank.channels[0], "inputs": bank.channels[1],
            "masks": _masks_of(bank) if self.cost is None else self.cost.masks,
            "frames": latency.frames, "captures": latency.captures, "adc_samples": latency.samples,
            "exposure_s": float(bank.shutter), "latency_s": latency.seconds, "latency": latency.data["terms"],
            "signal_to_noise": float(signal.std() / noise.std()),
            "electrons_without_pictures": float(dark.mean()),
            "electrons_mean": float(collected.mean()), "electrons_share_of_well": float(collected.mean()) / well,
            "optical_macs": self.optical_macs or bank.kernels[..., 0].numel() * math.prod(bank.size),
            "following_macs": self.reader.following_macs, "backend_macs": count_macs(self.backend, self.reader.dark(1)),
        }  # fmt: skip

    def _light(self, electrons: float, alone: float) -> dict[str, Any]:
        """From the laser to the electrons of a reading, where pictures give so many on average and darkness ``alone``.

        Of a single signed capture, what responses add is for the most part their interference with the reference.
        """
        bank, camera = self.bank, self.bank.bench.camera
        pixels = math.prod(Window.of(bank.bench, bank.size, bank.readings).bin)
        unlit = pixels * camera.dark_current * float(bank.shutter)
        energy = pixels * camera.pitch**2 * camera.fill_factor * float(bank.shutter)  # [J] of 1 W/m²
        of_irradiance = energy * camera.qe / photon_energy(bank.bench.source.wavelength)
        return {
            "laser_w": bank.bench.source.power, "pictures_w_m2": bank.lighting.lit, "kept": bank.lighting.kept,
            "white_w_m2": bank.lighting.gain, "responses_w_m2": (electrons - alone) / of_irradiance,
            "reference_w_m2": (alone - unlit) / of_irradiance,
            "photons": (electrons - unlit) / camera.qe, "electrons": electrons,
        }  # fmt: skip

    def mask_set(self, **told: Any) -> MaskSet:
        """Its masks, its bench and its electronics, for one file.

        Args:
            told: ``title``, ``classes`` (names; left out, their numbers), ``results`` (for JSON), ``provenance``
                (texts), ``rules``, ``tolerances``.
        """
        results, provenance = told.pop("results", {}), told.pop("provenance", {})
        classes = self._names(told.pop("classes", ()))
        masks = MaskSet.from_correlator(self.bank, **told)
        backend = describe(self.backend)
        electronics: dict[str, Any] = {
            "compand": self.reader.compand, "window": [*self.reader.window], "classes": classes, **backend,
        }  # fmt: skip
        if isinstance(self.reader, LevelReader):
            electronics["levels"] = [[outputs, *size] for outputs, size in self.reader.levels]
        elif self.reader.pool is not None:
            electronics["pool"] = [*self.reader.pool]
        if self.reader.divisive:
            electronics["divisive"] = self.reader.divisive
        if isinstance(self.reader, Reader) and self.reader.pooling != "mean":
            electronics["pooling"] = self.reader.pooling
        state = {"level": self.level} | {
            f"{part}.{name}": tensor
            for part in ("reader", "backend")
            for name, tensor in getattr(self, part).state_dict().items()
        }
        return replace(
            masks, network={**masks.network, "electronics": electronics}, results=results,
            provenance={**masks.provenance, **provenance},
            backend={name: tensor.detach().cpu().numpy() for name, tensor in state.items()},
        )  # fmt: skip

    @torch.no_grad()
    def _names(self, classes: Sequence[object]) -> list[str]:
        """A name for each score."""
        scores = copy.deepcopy(self.backend).eval()(self.reader.dark(1)).shape[1]
        names = [str(one) for one in classes] or [str(number) for number in range(scores)]
        if len(names) != scores:
            what = f"{len(names)} names, and scores of {scores} classes"
            raise InputError(what, where="classes", mend="one a class, or leave them out")
        return names

    @classmethod
    def from_maskset(cls, masks: MaskSet | str | Path) -> OSCLC:
        """The network whose masks and electronics a file holds, from nothing else.

        Raises:
            InputError: it holds no network.
        """
        masks = masks if isinstance(masks, MaskSet) else MaskSet.load(masks)
        told = masks.network.get("electronics")
        if not told:
            mend = "one that `fouroptics train` exported; `fouroptics simulate` shows what these masks do"
            raise InputError("holds masks and no network", where=masks.title, mend=mend)
        bank = masks.correlator()
        size, window = bank.size, (told["window"][0], told["window"][1])
        here = tuple(((n - 1) / 2, float(n)) for n in size)
        camera = Camera(size, size, window, (here[0], here[1]))
        kind, classes = built(told["backend"], told["hidden"], told.get("dropout", 0.0)), len(told["classes"])
        reader: Reader | LevelReader
        if "levels" in told and isinstance(kind, Up):
            levels = [(outputs, (rows, columns)) for outputs, rows, columns in told["levels"]]
            if sum(outputs for outputs, _ in levels) != bank.channels[0]:
                what = f"levels of other outputs than the {bank.channels[0]} of its masks"
                raise InputError(what, where=f"{masks.title}: network", mend="export it again")
            reader = LevelReader(bank.readout, told["compand"], camera, levels, divisive=told.get("divisive", 0.0))
            backend = kind.build_levels([(one.channels, one.size) for one in reader.readers], size, classes)
        else:
            pool = (told["pool"][0], told["pool"][1]) if "pool" in told else None
            reader = Reader(
                bank.readout, told["compand"], camera, pool, bank.channels[0], divisive=told.get("divisive", 0.0),
                pooling=told.get("pooling", "mean"),
            )  # fmt: skip
            backend = kind.build(reader.channels, reader.size, size, classes)
        if any(
            n < k or n % k or n // k != bank.readings[0] // reader.given[0]
            for n, k in zip(bank.readings, reader.given, strict=True)
        ):
            what = f"electronics for {reader.given[0]}×{reader.given[1]} readings, and its camera gives others"
            raise InputError(what, where=f"{masks.title}: network", mend="export it again")
        network = cls(bank, reader, backend).to(bank.kernels.dtype)
        state = {name: torch.from_numpy(np.asarray(tensor)) for name, tensor in masks.backend.items()}
        own = {name: value for name, value in network.state_dict().items() if not name.startswith("bank.")}
        for name in own.keys() | state.keys():
            if name not in own or name not in state or own[name].shape != state[name].shape:
                what = f"{name!r} is not of the network that it tells"
                raise InputError(what, where=f"{masks.title}: backend", mend="export it again")
        network.load_state_dict(state, strict=False)
        return network.eval()


def bank_of(student: Student, bench: Bench, *, oversample: int = 1, **options: Any) -> Correlator4f:
    """The correlators of a student's responses, whose camera gives ``oversample`` readings each way for one of its own.

    Raises:
        InputError: the bench's pixels do not make so many.
    """
    front, reader = student.front, student.reader
    if oversample != 1:
        whole = Window.of(bench, front.plan.size, reader.given).bin
        if oversample < 1 or any(pixels % oversample for pixels in whole):
            able = [n for n in range(1, min(whole) + 1) if not any(pixels % n for pixels in whole)]
            what = f"a reading is {whole[0]}×{whole[1]} pixels, which cannot be {oversample}×{oversample} equal parts"
            raise InputError(what, where="oversample", mend=" or ".join(str(n) for n in able))
        if bench.camera.exposure != "auto":
            warn('oversample: wells that are filled no longer than before give no less noise; camera.exposure = "auto"')
    readings = (reader.given[0] * oversample, reader.given[1] * oversample)
    taps = responses(front, bench)
    options = {"stop": bench.stop is not None} | options
    bank = Correlator4f.from_kernels(taps, bench, front.plan.size, readout=reader.kind, sensor_pool=readings, **options)
    return bank.to(taps.device)


def _masks_of(bank: Correlator4f) -> int:
    """Masks that are shown: what stands side by side on a panel is one."""
    if bank.device is not None:
        return bank.device.plan.masks
    outputs = 1 if bank.bench.layout.outputs == "tiled" else bank.channels[0]
    inputs = 1 if bank.layout == "tiled" else bank.channels[1]
    return outputs * inputs * (2 if bank.readout == "pair_intensity" else 1)


def with_phase_set(bank: Correlator4f, student: Student, pictures: Tensor, **options: Any) -> Correlator4f:
    """A student's bank exposed for pictures, on a bench whose reference is turned to where its responses are real.

    Errors of lenses turn them, and those of masks: nobody reads a signed field before the beam follows. The bank is
    made anew if it has to be turned by more than can be told.
    """
    bank.expose(pictures)
    if bank.readout != "homodyne":
        return bank
    with torch.no_grad():
        some = pictures[:TO_SET]
        due = student.reader.detected(student.seen(some))
        turn = phase_due(bank, some, due, lambda given: gathered(given, student.reader.given))
    if abs(turn) < _TOLD:
        return bank
    before = bank.bench.reference.phase or 0.0 if bank.bench.reference else 0.0
    phase = (before + turn) % (2 * math.pi)
    bench = bank.bench.replace({"reference.phase": f"{phase!r} rad"})
    return bank_of(student, bench, **options).train(bank.training).expose(pictures)


def gathered(given: Tensor, readings: Pair) -> Tensor:
    """So many readings of an output, each the mean of those that the camera gives in its place."""
    bins = (given.shape[-2] // readings[0], given.shape[-1] // readings[1])
    return given if bins == (1, 1) else F.avg_pool2d(given, bins)


def responses(front: Front, bench: Bench) -> Tensor:
    """What a front correlates pictures with, as taps ``[out, in, ky, kx]`` that reach as far as the bench's guard lets.

    The taps of a chain without crops are as they are. Those of a crop ring on, those of a learned plane lie anywhere:
    they are cut off where the guard ends, or the picture.

    Raises:
        InputError: a chain's own taps reach beyond the guard, whatever rings.
    """
    plan, chain = front.plan, front.chain
    taps = front.kernels(front.transfer()).detach()
    room = math.floor(bench.layout.guard / bench.input.sample + 1e-6)
    reach = _support(taps)
    if isinstance(front, DeepFront | PyramidFront):
        far = max(chain.taps_reach)
        if far > room:
            what = f"responses reach {far} samples beyond a picture, and its dark border is {room} wide"
            fewer = f"kernels of {2 * room + 1} taps at most" if len(chain.kernels) == 1 and room else "fewer taps"
            mend = f'layout.guard = "{far * bench.input.sample * 1e6:g} um" or wider, or {fewer}'
            raise InputError(what, where="layout.guard", mend=mend)
        if all(crop == plan.size for crop in chain.crops):
            reach = plan.reach
    within = (min(far, room, (n - 1) // 2) for far, n in zip(reach, plan.size, strict=True))
    rows, columns = (
        slice(max(0, kernel_centre(n) - far), kernel_centre(n) + far + 1)
        for n, far in zip(plan.grid, within, strict=True)
    )
    return taps[..., rows, columns].contiguous()


def _support(taps: Tensor) -> Pair:
    """How far from their centre taps go, rounding aside, ``(y, x)``."""
    energy, reach = taps.abs().square().sum((0, 1)).double(), []
    for axis, n in enumerate(taps.shape[-2:]):
        line = energy.sum(1 - axis)
        far = (torch.arange(n, device=line.device) - kernel_centre(n)).abs()
        reach.append(int(far[line > _ROUNDING * line.sum()].max()))
    return reach[0], reach[1]


def _check_kinds(student: Any, bench: Any) -> None:
    if not isinstance(student, Student):
        what = f"a {type(student).__name__} has no linear optics that a bench could show"
        raise InputError(what, where="student", mend="an SCLC, or its fold")
    if not isinstance(bench, Bench):
        raise InputError(f"{bench!r} is no bench", where="bench", mend="fouroptics.Bench.load(name or file)")


def check_room(front: Front, bank: Correlator4f) -> None:
    """Refuse a bench whose panel, stop or camera holds less than a student's pictures, band or responses.

    Raises:
        InputError: which limit, by how much, and what would do.
    """
    plan, taps = front.plan, (bank.taps.shape[-2], bank.taps.shape[-1])
    band = plan.crops[-1] if plan.crops[-1] != plan.size else None
    for problem in bank.bench.sampling(plan.size, taps, band=band, channels=bank.channels).problems:
        if problem.code in _ROOM:
            raise InputError(problem.what, where=problem.where, mend=problem.mend_text)


def check_hardware(reader: Sensor, bench: Bench) -> None:
    """Refuse a readout that no bench has, or this one has not."""
    if reader.kind == "ideal_field":
        what = "no camera reads the field itself"
        raise InputError(what, where="readout", mend="a student with readout='homodyne', which is as linear")
    if reader.kind == "homodyne" and bench.reference is None:
        what = f"{bench.name} has no reference beam, and a signed reading needs one"
        raise InputError(what, where="readout", mend="add [reference], or a student with readout='intensity'")
    if reader.kind == "interference":
        what = "a reference's strength follows from this bench's light, and the student's was chosen without it"
        raise InputError(what, where="readout", mend="readout='homodyne', or 'intensity'")
