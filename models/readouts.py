"""From a student's field to numbers: a camera of whole pixels, electronics, pooling, a frozen normalisation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fouroptics.devices import readout
from fouroptics.devices.pixels import Readings, mean_of_waves
from fouroptics.devices.readout import COMPANDS, READOUTS, Compand, Readout
from fouroptics.errors import InputError, check_choice
from fouroptics.optics.kept import Kept
from fouroptics.optics.precision import exactly
from fouroptics.optics.separable import SMALL, Separable

Pair = tuple[int, int]
Line = tuple[float, float]
_RECTIFIED = ("rectify", "two-sided-rectify")
POOLINGS = ("mean", "max")
_LEAST_SPREAD = 0.1  # of the usual one: a channel that hardly ever answers is not blown up
_LINEAR = ("ideal_field", "homodyne")
_MEND = "give training pictures, numbers in [0, 1]"


@dataclass(frozen=True)
class Camera:
    """Where an output's pixels stand on its field; each pair is of ``(y, x)``.

    Args:
        period: samples that the field's band needs; the unit of length.
        samples: of the field in a period, the first at 0.
        pixels: of an output where nothing is pooled, about as many as the picture has samples.
        area: middle and width of the picture, which the pixels share out among them.
        grain: width of a sensor's pixel, of which each reading takes whole ones; None: readings are of any width.
    """

    period: Pair
    samples: Pair
    pixels: Pair
    area: tuple[Line, Line]
    grain: Line | None = None


class Sensor(nn.Module):
    """What a camera gives of a field ``[batch, out, v, u]``: ``given`` readings of every output.

    Args:
        kind: the readout. ``homodyne`` is the signed field itself, as two captures half a wave apart give it.
        compand: what electronics does to each number.
        camera: where its pixels stand.
        given: numbers ``(y, x)`` of an output, before electronics pools them.
        outputs: of the optics.
        reference: amplitude of the beam of ``interference``, in units of the field.
    """

    def __init__(
        self, kind: Readout, compand: Compand, camera: Camera, given: Pair, outputs: int, reference: float
    ) -> None:
        super().__init__()
        check_choice("readout", kind, READOUTS)
        check_choice("compand", compand, COMPANDS)
        self.kind, self.compand, self.camera, self.window = kind, compand, camera, camera.pixels
        self.given, self.outputs, self.reference = given, outputs, reference
        self._plans: Kept[Separable] = Kept()
        if any(self._readings(axis).pitch <= 0 for axis in (0, 1)):
            what = f"{given[0]}×{given[1]} readings are less than a sensor's pixel wide"
            raise InputError(what, where="camera_pixel", mend="smaller pixels, or fewer readings")

    @property
    def key(self) -> tuple[object, ...]:
        """What its ``means`` follow from: two readers whose keys are alike read alike."""
        return self.kind, self.camera.period, self.camera.samples, self._readings(0), self._readings(1)

    @property
    def is_linear(self) -> bool:
        """Whether readings follow the field in proportion."""
        return self.follows_field and self.compand == "none"

    @property
    def follows_field(self) -> bool:
        """Whether what the camera gives does, before electronics."""
        return self.kind in _LINEAR

    @property
    def macs(self) -> int:
        """Multiplications of the camera's integration for an output, where it is not done beforehand."""
        if self.follows_field:
            return 0
        means = self.plan(torch.float64, torch.device("cpu"))
        (height, width), (y, x) = means.shape, (means.rows.shape[1], means.columns.shape[1])
        return y * x * width + y * width * height

    @property
    def samples(self) -> int:
        """Numbers that leave the camera for each picture."""
        return self.outputs * readout.CAPTURES[self.kind] * math.prod(self.given)

    @property
    def means(self) -> tuple[Tensor, Tensor] | None:
        """Matrices for ``(y, x)`` from the field to its means over pixels, where readings follow the field.

        They may be taken beforehand, with whatever else is linear. None where a square comes first.
        """
        plan = self.plan(torch.float64, torch.device("cpu"))
        return (plan.rows, plan.columns) if self.follows_field else None

    def detected(self, seen: Tensor) -> Tensor:
        """What the camera gives of a field, or of its ``means`` where it has some.

        It is a number a reading, signed where two captures are subtracted.
        """
        if self.follows_field:
            return seen.real if seen.is_complex() else seen  # (|E + r|² - |E - r|²) / 4r
        pattern = self.pattern(seen)
        return self.subtracted(self.plan(pattern.dtype, pattern.device)(pattern))

    def pattern(self, field: Tensor) -> Tensor:
        """The irradiance on the camera."""
        return readout.interference(field, self.reference) if self.kind == "interference" else readout.intensity(field)

    def subtracted(self, found: Tensor) -> Tensor:
        """Readings ``[batch, shown, Y, X]``, of pairs their difference."""
        if self.kind == "pair_intensity":
            positive, negative = found.chunk(2, -3)
            return positive - negative
        return found

    def averaged(self, field: Tensor) -> Tensor:
        """A field, or its ``means`` where it has some."""
        means = self.means
        if means is None:
            return field
        rows, columns = (matrix.to(field.device, field.real.dtype) for matrix in means)
        return rows @ (field.real if field.is_complex() else field) @ columns.mT

    def plan(self, dtype: torch.dtype, device: torch.device) -> Separable:
        """Means of the field's samples over every reading's area."""

        def build() -> Separable:
            rows, columns = (
                mean_of_waves(self._readings(axis), torch.arange(m, dtype=torch.float64) * n / m, n)
                for axis, (m, n) in enumerate(zip(self.camera.samples, self.camera.period, strict=True))
            )
            return Separable(rows.to(device, dtype), columns.to(device, dtype))

        return self._plans.get((dtype, device), build)

    def _readings(self, axis: int) -> Readings:
        """A row of what the camera gives; of whole pixels, where a sensor's are told."""
        count = self.given[axis]
        middle, width = self.camera.area[axis]
        pitch = width / count
        if self.camera.grain is not None:
            grain = self.camera.grain[axis]
            pitch = math.floor(pitch / grain + 1e-6) * grain
        return Readings(count, middle, pitch, pitch)


class Reader(Sensor):
    """What is read of a field ``[batch, out, v, u]``, as ``[batch, channels, Y, X]``.

    The picture's area is shared out among pixels about as wide as a sample of the field, as many as make whole pools,
    and each takes the mean over its own. Charge is summed over a pool before the electronics see it; but what is
    rectified is rectified pixel by pixel and summed by the electronics then, or a pool would see the mean of a response
    and not its strength. Before it is rectified a reading gets its output's ``bias``, which is learned: light has none,
    electronics may.

    Args:
        kind: the readout.
        compand: what electronics does to each number.
        camera: where its pixels stand.
        pool: readings that are left ``(Y, X)``; None for one a pixel.
        channels: outputs of the optics.
        reference: amplitude of the beam of ``interference``, in units of the field.
        behind: whether it is always electronics that pools.
        divisive: electronics divides each reading by the root mean square of all outputs' readings there, to which
            this share of their usual power is added; 0 leaves them as they are. What is left is the pattern of the
            responses, whatever the contrast of the picture there.
        pooling: what electronics makes of a pool's rectified readings: their ``mean``, or the largest (``max``).
    """

    mean: Tensor
    spread: Tensor
    power: Tensor

    def __init__(
        self,
        kind: Readout,
        compand: Compand,
        camera: Camera,
        pool: Pair | None,
        channels: int,
        *,
        reference: float = 1.0,
        behind: bool = False,
        divisive: float = 0.0,
        pooling: str = "mean",
    ) -> None:
        check_choice("pooling", pooling, POOLINGS)
        if pooling == "max" and (pool is None or compand not in _RECTIFIED):
            mend = 'compand = "two-sided-rectify" and a sensor_pool, or pooling = "mean"'
            raise InputError("the largest of rectified readings, and these are not", where="pooling", mend=mend)
        if not (isinstance(divisive, int | float) and 0 <= divisive < math.inf):
            raise InputError(f"{divisive!r} is no share", where="divisive", mend="0 for none, or such as 0.1")
        window = camera.pixels
        if pool is not None and any(not 1 <= p <= n for p, n in zip(pool, window, strict=True)):
            what = f"{pool[0]}×{pool[1]} readings of {window[0]}×{window[1]} samples"
            raise InputError(what, where="sensor_pool", mend=f"1 to {min(window)}")
        size = pool or window
        rows, columns = (max(1, round(n / count)) for n, count in zip(window, size, strict=True))
        pools_behind = pool is not None and (behind or compand in _RECTIFIED)
        given = (size[0] * rows, size[1] * columns) if pools_behind else size
        super().__init__(kind, compand, camera, given, channels, reference)
        self.pool, self.size, self.divisive, self.pooling = pool, size, float(divisive), pooling
        self._behind, self.bin = behind, (rows, columns) if pools_behind and (rows, columns) != (1, 1) else None
        self.channels = channels * (2 if compand == "two-sided-rectify" else 1)
        self._pools: Kept[Tensor] = Kept()
        thresholds = torch.zeros(channels) if compand in _RECTIFIED else None
        self.bias = None if thresholds is None else nn.Parameter(thresholds)
        self.register_buffer("mean", torch.zeros(self.channels))
        self.register_buffer("spread", torch.ones(self.channels))
        if divisive:
            self.register_buffer("power", torch.ones(()))  # of readings, thresholds taken off, on average

    def of(self, outputs: int, camera: Camera | None = None) -> Reader:
        """Another such reader, of so many outputs, which knows no readings yet."""
        return Reader(
            self.kind, self.compand, camera or self.camera, self.pool, outputs, reference=self.reference,
            behind=self._behind, divisive=self.divisive, pooling=self.pooling,
        ).to(self.mean)  # fmt: skip

    @property
    def is_linear(self) -> bool:
        return super().is_linear and not self.divisive

    @property
    def is_plainly_rectified(self) -> bool:
        """Whether a signed reading is rectified, and nothing but a mean behind that."""
        return self.follows_field and self.compand in _RECTIFIED and not self.divisive and self.pooling == "mean"

    @property
    def following_macs(self) -> int:
        """Multiplications of electronics between camera and backend: squares and quotients, if it divides."""
        return 2 * self.outputs * math.prod(self.given) if self.divisive else 0

    def on(self, camera: Camera) -> Reader:
        """The same, its pixels standing elsewhere."""
        made = self.of(self.outputs, camera)
        made.load_state_dict(self.state_dict())
        return made

    def forward(self, field: Tensor) -> Tensor:
        return self.normalised(self.raw(field))

    @exactly
    def raw(self, field: Tensor) -> Tensor:
        """Readings before they are normalised."""
        return self.read(self.averaged(field))

    def read(self, seen: Tensor) -> Tensor:
        """Readings before they are normalised, of a field, or of its ``means`` where it has some."""
        return self.followed(self.detected(seen))

    @exactly
    def followed(self, detected: Tensor) -> Tensor:
        """What electronics makes of what the camera gives: thresholds, companding, pools behind them."""
        seen = self._biased(detected)
        gain = self._gain(seen)
        if self.bin is None or self.compand not in _RECTIFIED:
            return self._pooled(readout.compand(seen if gain is None else seen * gain, self.compand), None)
        if self.pooling == "max":
            found = seen if gain is None else seen * gain
            sides = (found, -found) if self.compand == "two-sided-rectify" else (found,)
            return torch.cat([F.max_pool2d(side, self.bin) for side in sides], -3).relu()
        positive = self._pooled(seen.relu(), gain)
        if self.compand == "rectify":
            return positive
        return torch.cat((positive, positive - self._pooled(seen, gain)), -3)  # for max(-r, 0) = max(r, 0) - r

    def _biased(self, detected: Tensor) -> Tensor:
        return detected if self.bias is None else detected + self.bias[:, None, None]

    def _gain(self, seen: Tensor) -> Tensor | None:
        """What the readings of a place are multiplied by, ``[batch, 1, Y, X]``, if they are divided."""
        if not self.divisive:
            return None
        places = seen.movedim(-3, -1)
        strength = torch.linalg.vecdot(places, places).unsqueeze(-3) / seen.shape[-3]
        gain: Tensor = (self.divisive * self.power + strength).rsqrt()
        return gain

    def dark(self, count: int) -> Tensor:
        """Readings of so many pictures, all 0."""
        return self.mean.new_zeros(count, self.channels, *self.size)

    @property
    def has_thresholds(self) -> bool:
        """Whether they are to be put somewhere, for nobody has yet."""
        return self.bias is not None and not bool(self.bias.any())

    @torch.no_grad()
    def centre(self, detected: Iterable[Tensor]) -> None:
        """Put the thresholds where readings are on average, so that what is rectified has both signs."""
        self.put_thresholds(mean_reading(detected))

    @torch.no_grad()
    def weigh(self, detected: Iterable[Tensor]) -> None:
        """Keep the power that readings have on average, if they are divided."""
        if self.divisive:
            powers = [(self._biased(part).square().mean(), len(part)) for part in detected]
            count = sum(number for _, number in powers)
            power = torch.stack([power * (number / count) for power, number in powers]).sum()
            if not power.isfinite():
                raise InputError("readings whose squares are not finite", where="normalise", mend=_MEND)
            self.power.copy_(power)

    @torch.no_grad()
    def put_thresholds(self, where: Tensor) -> None:
        if self.bias is not None:
            self.bias.copy_(-where)

    def normalised(self, raw: Tensor) -> Tensor:
        """Readings less the frozen mean, over the frozen spread."""
        return (raw - self.mean[:, None, None]) / self.spread[:, None, None]

    @torch.no_grad()
    def normalise(self, raw: Iterable[Tensor]) -> None:
        """Take mean and spread of every channel from readings, and keep them: they are part of the student."""
        moments = Moments()
        for part in raw:
            moments.add(part)
        self.freeze(moments)

    @torch.no_grad()
    def freeze(self, moments: Moments) -> None:
        """Keep the mean and the spread that readings had."""
        mean, spread = moments.mean_and_spread()
        spread = torch.where(
            spread > torch.finfo(self.spread.dtype).eps * mean.abs(), spread, 0.0
        )  # else it is rounding
        if self.compand == "two-sided-rectify":  # a reading that is nearly always of one sign has one spread
            spread = torch.maximum(*spread.chunk(2)).repeat(2)
        self.mean.copy_(mean)
        spread = spread.clamp_min(_LEAST_SPREAD * float(spread.median()))
        self.spread.copy_(torch.where(spread > 0, spread, 1.0))

    def _pooled(self, seen: Tensor, gain: Tensor | None) -> Tensor:
        """Means over the pools, of readings that a gain multiplies: small pools by a product that weighs with it."""
        if self.bin is None:
            return seen if gain is None else seen * gain
        places = math.prod(self.given)
        if places * math.prod(self.size) > SMALL:
            return F.avg_pool2d(seen if gain is None else seen * gain, self.bin)
        weights = self._pools.get((seen.dtype, seen.device), partial(self._pool_weights, seen.dtype, seen.device))
        flat = seen.flatten(-2).mT.reshape(-1, places, seen.shape[-3])  # as readings that come from taps stand
        many = flat.shape[0]
        weights = weights.expand(many, -1, -1) if gain is None else weights * gain.reshape(many, 1, places)
        return torch.bmm(weights, flat).mT.reshape(*seen.shape[:-2], *self.size)

    def _pool_weights(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """What each reading counts in each pool, ``[pools, given]``."""
        return torch.kron(*self.pool_sides).to(device, dtype)

    @property
    def pool_sides(self) -> tuple[Tensor, Tensor]:
        """What each row of readings counts in each row of pools ``[Y, y]``, and each column ``[X, x]``."""
        rows, columns = (
            torch.eye(n, dtype=torch.float64).repeat_interleave(k, 1) / k
            for n, k in zip(self.size, self.bin or (1, 1), strict=True)
        )
        return rows, columns

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.compand}, {self.size[0]}×{self.size[1]} readings of {self.channels} channels"


class Moments:
    """Sums of readings and of their squares, channel by channel, in double precision."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self._count = 0

    def add(self, readings: Tensor) -> None:
        each = readings.detach().double()
        seen = [each.sum((0, 2, 3)), (each**2).sum((0, 2, 3))]
        self._sums = [a + b for a, b in zip(self._sums, seen, strict=True)] if self._sums else seen
        self._count += each[:, 0].numel()

    def mean_and_spread(self) -> tuple[Tensor, Tensor]:
        if not self._count:
            raise InputError("no pictures", where="normalise", mend=_MEND)
        mean = self._sums[0] / self._count
        spread = (self._sums[1] / self._count - mean**2).clamp_min(0).sqrt()
        if not (mean.isfinite().all() and spread.isfinite().all()):
            raise InputError("readings that are not finite", where="normalise", mend=_MEND)
        return mean, spread


def mean_reading(detected: Iterable[Tensor]) -> Tensor:
    """Of every output, over parts of many pictures."""
    means = [(part.mean((0, 2, 3)), len(part)) for part in detected]
    count = sum(number for _, number in means)
    return torch.stack([mean * (number / count) for mean, number in means]).sum(0)
