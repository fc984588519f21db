"""The SCLC student: linear optics, a detector, electronics. And its fold: all of the optics in one plane of masks."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from fouroptics.models.backends import FC, Backend, Up
from fouroptics.models.band import Geometry, Synthesis
from fouroptics.models.front import DeepFront, Front, Plan, PlaneFront
from fouroptics.models.likeness import blocks_of, not_foldable
from fouroptics.models.pyramid import LevelReader, PyramidFront
from fouroptics.models.readouts import Camera, Reader
from fouroptics.models.summary import Summary, summarised
from fouroptics.models.taps import TapViews, is_worthwhile
from torch import Generator, Tensor, nn

from fouroptics.devices.readout import Compand, Readout
from fouroptics.errors import InputError, check_choice
from fouroptics.optics.kept import Kept, is_traced
from fouroptics.optics.precision import exactly

Pair = tuple[int, int]
Side = int | Pair | None
Kernel = int | Pair | Literal["full"]
_CHUNK = 256  # pictures at a time where statistics are taken
_CACHED = 2**23  # bytes of a field or of readings at a time: a step is up to twice as fast as with all at once


class Student(nn.Module):
    """Front end, readout and backend: what an SCLC and its fold have in common.

    Args:
        front: the linear optics.
        reader: the detector and its electronics.
        backend: readings to scores.

    Attributes:
        noise: what is added to readings while they are learned from (``noise.ReadingNoise``): from how many pictures
            there are, the readings ``(Y, X)`` of an output, the transfer functions and a generator, the noise of a few,
            which all take in turn; in evaluation mode the same each time. None adds nothing.
    """

    def __init__(self, front: Front, reader: Reader | LevelReader, backend: nn.Module) -> None:
        super().__init__()
        self.front, self.reader, self.backend = front, reader, backend
        self.noise: Callable[[int, Pair, Tensor, Generator | None], Tensor] | None = None
        self._syntheses: Kept[Synthesis] = Kept(8)  # one a level
        self._taps: Kept[TapViews] = Kept()

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores of pictures ``[batch, in, y, x]`` in [0, 1]."""
        readings = self.reader.normalised(self.readings(pictures))
        found: Tensor = self.backend(readings)
        return found

    @exactly
    def readings(self, pictures: Tensor) -> Any:
        """What leaves the electronics, ``[batch, channels, Y, X]``, before it is normalised; of levels a list."""
        self.front.check(pictures)
        noise = self._drawn_noise(pictures)
        found: list[Any] = []
        first = 0
        each = numbers_detected(self.reader, self.front.geometry) if isinstance(self.reader, Reader) else 0
        for seen in self._in_parts(pictures, at_a_time(each, pictures)):
            detected = self.reader.detected(seen)
            if noise is not None:
                detected = _in_turn(detected, noise, first)
            found.append(self.reader.followed(detected))
            first += seen.shape[0]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _drawn_noise(self, pictures: Tensor) -> Tensor | None:
        if self.noise is None:
            return None
        same = None if self.training else Generator(pictures.device).manual_seed(0)
        return self.noise(len(pictures), self.reader.given, self.shown(), same)

    @exactly
    def seen(self, pictures: Tensor) -> Tensor:
        """The field, or its means over pixels where readings follow it."""
        return next(self._in_parts(pictures, 0))

    def _in_parts(self, pictures: Tensor, some: int) -> Iterator[Tensor]:
        """The same of some pictures at a time; 0, and levels: of all at once."""
        taps = self._layer_of_taps()
        if taps is not None and not pictures.is_complex():
            self.front.check(pictures)
            views = self._views(taps, pictures.dtype, pictures.device)
            yield from (views(part, taps) for part in _split(pictures, some))
        elif isinstance(self.front, PyramidFront) and self.reader.kind != "pair_intensity":
            yield torch.cat([self._seen_of(own, band) for own, band in self.front.spectra(pictures)], 1)
        else:
            spectrum = self.front.spectrum(pictures, self.shown())
            yield from (self._seen_of(part, self.front.geometry) for part in _split(spectrum, some))

    def _seen_of(self, spectrum: Tensor, band: Geometry) -> Tensor:
        """The field of a spectrum on a band, at the whole band's samples, or its means over pixels."""
        dtype, device, samples = spectrum.real.dtype, spectrum.device, self.front.geometry.fine

        def build() -> Synthesis:
            return Synthesis(band, samples, self.reader.means, dtype, device)

        return self._syntheses.get((dtype, device, samples, band, self.reader.key), build)(spectrum)

    @exactly
    def field(self, pictures: Tensor) -> Tensor:
        """The field on the camera, ``[batch, out, v, u]``, as finely sampled as its energy needs."""
        return self.front.respond(pictures, self.shown(), fine=True)

    def scores(self, field: Tensor) -> Tensor:
        """What electronics makes of a field."""
        found: Tensor = self.backend(self.reader(field))
        return found

    @torch.no_grad()
    def normalise(self, pictures: Tensor) -> None:
        """Freeze the readings' mean and spread as they are on some training pictures.

        Thresholds before a rectifier that were not learned yet are put at the mean reading first: pictures are light,
        and of a kernel with a mean all readings would have one sign.

        Raises:
            InputError: no pictures, or some that are no numbers; the reader is left as it was.
        """
        if not len(pictures) or not pictures.isfinite().all():
            what = "numbers that are not finite" if len(pictures) else "no pictures"
            raise InputError(what, where="normalise", mend="give training pictures, numbers in [0, 1]")
        parts = torch.split(pictures, _CHUNK)
        before = {name: tensor.clone() for name, tensor in self.reader.state_dict().items()}
        try:
            if self.reader.has_thresholds:
                self.reader.centre(self.reader.detected(self.seen(part)) for part in parts)
            self.reader.weigh(self.reader.detected(self.seen(part)) for part in parts)
            quiet: Callable[[Tensor], Any] = self.reader.read
            self.reader.normalise(quiet(self.seen(part)) for part in parts)
        except BaseException:
            self.reader.load_state_dict(before)
            raise

    def shown(self) -> Tensor:
        """Transfer functions of all that is shown: of pairs, of all positive parts and then of all negative ones."""
        if self.reader.kind == "pair_intensity":
            return torch.cat(self.front.parts(), 0)
        return self.front.transfer()

    def _layer_of_taps(self) -> Tensor | None:
        """The taps of one real layer whose readings follow the field, if it is less work to read them so."""
        front, reader = self.front, self.reader
        if not isinstance(front, DeepFront) or len(front.weights) > 1 or front.is_complex or not reader.follows_field:
            return None
        (taps,), (kernel,), (inputs, outputs) = front.weights, front.plan.kernels, front.plan.channels
        return taps if is_worthwhile(front.geometry, (inputs, outputs), kernel, reader.given) else None

    def _views(self, taps: Tensor, dtype: torch.dtype, device: torch.device) -> TapViews:
        def build() -> TapViews:
            means = self.reader.means
            assert means is not None
            return TapViews(self.front.geometry, (taps.shape[2], taps.shape[3]), means, dtype, device)

        key = (dtype, device, self.front.geometry, taps.shape[2:], self.reader.key)
        return self._taps.get(key, build)

    def summary(self) -> Summary:
        """Sizes, work and the kind of function that this is."""
        return summarised(self.front, self.reader, self.backend)


class SCLC(Student):
    """A linear spectral student, its convolutions composed on the band that its last crop keeps.

    Args:
        channels: inputs, then outputs of each convolution.
        kernel_size: taps of all, or a list of those of each layer, or ``"full"``: as wide as the guard lets them be.
        crops: samples of the picture behind each convolution; None where nothing is cropped.
        size: samples of a picture.
        readout: what the camera learns of the field; there is no default, it decides what can be learned.
        classes: scores.
        compand: what electronics does to each reading.
        sensor_pool: readings of an output ``(Y, X)``.
        backend: widths of fully connected layers between readings and scores, none for one layer; or another of
            ``fouroptics.models.backends``.
        guard: dark samples beside the picture; left out: as wide as a response and the first lobe of its crop's
            ringing, or as the picture where taps may lie anywhere (a plane, pairs). 0 lets pictures wrap.
        reference: amplitude of the beam of ``interference``, in units of the field.
        divisive: electronics divides each reading by the root mean square of all outputs' readings there, to which
            this share of their usual power is added; 0 leaves them as they are.
        pooling: of rectified readings in a pool: ``"mean"`` or ``"max"``.
        is_complex: of the kernels.
        detect: ``"last"``: what comes behind all convolutions; ``"each"``: what comes before each crop too, as the
            expanding path of a U-Net wants it (``backends.Up``).
        parameters: ``"deep"`` trains the convolutions, ``"plane"`` the transfer function that they come to.
        camera_pixel: width of a sensor's pixel in samples of the picture; readings then take whole ones, as on a bench.
            None lets them be as wide as their share of the picture.
    """

    def __init__(
        self,
        channels: Sequence[int],
        kernel_size: Kernel | Sequence[int | Pair] = 3,
        crops: Sequence[Side] | None = None,
        size: int | Pair = 32,
        *,
        readout: Readout,
        classes: int,
        compand: Compand = "none",
        sensor_pool: Side = None,
        backend: Sequence[int] | Backend = (),
        guard: Side = None,
        reference: float = 1.0,
        divisive: float = 0.0,
        pooling: Literal["mean", "max"] = "mean",
        is_complex: bool = False,
        detect: Literal["last", "each"] = "last",
        parameters: Literal["deep", "plane"] = "deep",
        camera_pixel: float | None = None,
    ) -> None:
        check_choice("parameters", parameters, ("deep", "plane"))
        check_choice("detect", detect, ("last", "each"))
        if readout == "pair_intensity" and is_complex:
            raise InputError("a complex kernel has no sign", where="readout", mend="real kernels, or another readout")
        if not isinstance(channels, Sequence) or not all(isinstance(n, int) for n in channels):
            raise InputError(f"{channels!r} are no channels", where="channels", mend="inputs, then outputs: (3, 64)")
        if not isinstance(classes, int) or classes < 1:
            raise InputError(f"{classes!r} is no number of classes", where="classes", mend="a whole number from 1 on")
        layers, side = len(channels) - 1, _pair(size, "size")
        dark = None if guard is None else _pair(guard, "guard")
        if guard is None and (parameters == "plane" or readout == "pair_intensity"):
            dark = side  # a plane's taps, and the parts of what is cropped, may reach anywhere
        plan = Plan.of(
            side,
            channels,
            _kernels(kernel_size, layers, dark, side),
            _crops(crops, layers),
            dark,
        )
        chosen = FC(tuple(backend)) if isinstance(backend, list | tuple) else backend
        if not hasattr(chosen, "build"):
            mend = "widths such as (512, 256), or one of fouroptics.models.backends"
            raise InputError(f"{backend!r} is no backend", where="backend", mend=mend)
        pool = None if sensor_pool is None else _pair(sensor_pool, "sensor_pool")
        front: Front
        reader: Reader | LevelReader
        if detect == "each":
            if parameters == "plane":
                mend = 'parameters="deep": a plane knows no crops between its levels'
                raise InputError("levels of a plane", where="detect", mend=mend)
            if pool is not None:
                mend = "leave it out: crops say it, level by level"
                raise InputError("every level has readings of its own", where="sensor_pool", mend=mend)
            if not isinstance(chosen, Up):
                mend = 'fouroptics.models.backends.Up, or detect="last"'
                raise InputError("readings of several levels", where="backend", mend=mend)
            if pooling != "mean":
                raise InputError("levels take means", where="pooling", mend='"mean", or detect="last"')
            front = pyramid = PyramidFront(plan, is_complex=is_complex)
            camera = _camera(front, camera_pixel)
            reader = LevelReader(readout, compand, camera, pyramid.levels, reference=reference, divisive=divisive)
            behind = chosen.build_levels([(one.channels, one.size) for one in reader.readers], side, classes)
        else:
            front = DeepFront(plan, is_complex=is_complex)
            reader = Reader(
                readout, compand, _camera(front, camera_pixel), pool, channels[-1], reference=reference,
                divisive=divisive, pooling=pooling,
            )  # fmt: skip
            behind = chosen.build(reader.channels, reader.size, side, classes)
        if parameters == "plane":
            front = PlaneFront(plan, front.transfer(), is_complex=is_complex)
        super().__init__(front, reader, behind)

    @classmethod
    def like(
        cls,
        teacher: nn.Module,
        size: int | Pair | None = None,
        *,
        readout: Readout,
        classes: int,
        **options: Any,
    ) -> SCLC:
        """A student of a teacher's convolutions: as many, as wide, with as many taps, and as small behind each.

        Rectifiers, biases and batch norms are left out; what a pool or a stride leaves of the picture, a crop leaves.

        Args:
            teacher: whose ``features`` are convolutions, pools, rectifiers and batch norms, one after another.
            size: of pictures; left out: the teacher's own.
            readout: as of ``SCLC``.
            classes: scores.
            options: as of ``SCLC``.

        Raises:
            InputError: a layer that has no linear counterpart; its name.
        """
        given = getattr(teacher, "size", None) if size is None else size
        if given is None:
            raise InputError("the teacher does not tell its pictures' size", where="size", mend="give one")
        channels, kernels, crops = blocks_of(teacher, _pair(given, "size"))
        return cls(channels, kernels, crops, given, readout=readout, classes=classes, **options)

    def forward_layers(self, pictures: Tensor) -> Tensor:
        """The same scores by one layer after another: the slow reference."""
        if not isinstance(self.front, DeepFront):
            what = (
                "a plane has no layers" if isinstance(self.front, PlaneFront) else "several levels, and no last layer"
            )
            raise InputError(what, where="forward_layers", mend='parameters="deep" and detect="last"')
        if self.reader.kind == "pair_intensity":
            raise InputError("pairs are parts of the composed kernels", where="forward_layers", mend="another readout")
        return self.scores(self.front.by_layers(pictures, fine=True))


class FoldedSCLC(Student):
    """A student whose optics is one plane of masks."""

    front: PlaneFront

    @property
    def plane(self) -> Tensor:
        """The transfer function on the band, ``[out, in, rows, columns, 2]``."""
        return self.front.plane


def at_a_time(detected: int, pictures: Tensor) -> int:
    """As many pictures as leave what is detected in a processor's cache, from light to pools; 0: all at once."""
    if not detected or pictures.device.type != "cpu" or is_traced():
        return 0
    return max(1, _CACHED // (detected * pictures.element_size()))


def numbers_detected(reader: Reader, geometry: Geometry) -> int:
    """Of a picture, before electronics pools them."""
    samples = math.prod(reader.given if reader.follows_field else geometry.fine)
    return (2 if reader.kind == "pair_intensity" else 1) * reader.outputs * samples


def _split(pictures: Tensor, some: int) -> Sequence[Tensor]:
    return torch.split(pictures, some) if some else (pictures,)


def _in_turn(detected: Tensor, noise: Tensor, first: int) -> Tensor:
    """Readings ``[pictures, out, Y, X]`` with their noise, of pictures from the one of this number on."""
    count, draws = len(detected), len(noise)
    if count % draws == 0 and first % draws == 0:
        return (detected.reshape(-1, draws, *detected.shape[1:]) + noise).reshape(detected.shape)
    return detected + noise[torch.arange(first, first + count, device=noise.device) % draws]


def fold(student: nn.Module) -> FoldedSCLC:
    """The same function with one plane, detached from the student that it was made of, and without the noise of its
    lessons.

    Raises:
        InputError: something in it has no linear counterpart; its name.
    """
    while (within := getattr(student, "module", getattr(student, "_orig_mod", None))) is not None:
        student = within  # of DataParallel, of torch.compile
    if not isinstance(student, Student):
        raise not_foldable(student)
    if type(student).forward is not Student.forward:
        what = "has a forward of its own, of which a fold knows nothing"
        raise InputError(what, where=type(student).__name__, mend="fold the student, and wrap its fold")
    front = student.front
    with torch.no_grad():
        plane = PlaneFront(front.plan, front.transfer(), is_complex=front.is_complex, chain=front.chain)
    plane.requires_grad_(any(one.requires_grad for one in front.parameters()))
    folded = FoldedSCLC(plane.train(front.training), copy.deepcopy(student.reader), copy.deepcopy(student.backend))
    folded.training = student.training
    return folded


def _camera(front: Front, pixel: float | None) -> Camera:
    """A camera on a front's field."""
    plan, geometry = front.plan, front.geometry
    grain = None if pixel is None else _grain(pixel, plan)
    return Camera(geometry.kept, geometry.fine, plan.crops[-1], plan.area, grain)


def _grain(pixel: float, plan: Plan) -> tuple[float, float]:
    """A sensor's pixel in samples of the last grid."""
    if not (isinstance(pixel, float | int) and pixel > 0):
        raise InputError(f"{pixel!r} is no width", where="camera_pixel", mend="samples of the picture, such as 0.25")
    rows, columns = (pixel * width / n for (_, width), n in zip(plan.area, plan.size, strict=True))
    return rows, columns


def _kernels(given: Any, layers: int, guard: Pair | None, size: Pair) -> list[Pair]:
    if given == "full":
        if guard is None or layers != 1:
            what = "a full aperture is one layer, its taps as wide as the guard"
            raise InputError(what, where="kernel_size", mend="one convolution, and a guard in samples")
        if min(guard) < 1:
            mend = "one in samples, from 1 on, or taps by number"
            raise InputError("taps as wide as a guard of 0 allows are one", where="guard", mend=mend)
        if any(g >= n for g, n in zip(guard, size, strict=True)):
            what = f"taps as wide as a guard of {max(guard)} allows are more than the grid has"
            raise InputError(what, where="guard", mend=f"less than the picture, at most {min(size) - 1}")
        return [(2 * guard[0] + 1, 2 * guard[1] + 1)]
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [_pair(one, "kernel_size") for one in given]
    return [_pair(given, "kernel_size")] * layers


def _crops(given: Any, layers: int) -> list[Pair | None]:
    if given is None:
        return [None] * layers
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InputError(f"{given!r} are no crops", where="crops", mend="one a convolution, None where there is none")
    return [None if one is None else _pair(one, "crops") for one in given]


def _pair(side: Any, name: str) -> Pair:
    """One whole number for both axes, or ``(y, x)``."""
    given = tuple(side) if isinstance(side, list | tuple) else (side, side)
    try:
        rows, columns = (operator.index(one) for one in given)
    except (TypeError, ValueError):
        what = f"{side!r} is neither a whole number nor a pair of them"
        raise InputError(what, where=name, mend="such as 32, or (32, 48)") from None
    return rows, columns
