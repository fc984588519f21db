"""The contracting path of a U-Net as one bank of masks: every level is detected, on its own band of one spectrum.

Levels and their outputs stand in one order everywhere, the coarsest first, as an expanding path takes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from fouroptics.models.band import Geometry, compose
from fouroptics.models.front import Front, Plan, new_weights, taps_of
from fouroptics.models.readouts import Camera, Moments, Reader, Sensor, mean_reading
from torch import Tensor, nn

from fouroptics.devices.readout import Compand, Readout
from fouroptics.errors import InputError
from fouroptics.optics.correlation import channel_sum
from fouroptics.optics.precision import exactly

Pair = tuple[int, int]


def detected_layers(chain: Plan) -> list[int]:
    """The last convolution before each crop, and the last of all; from the coarsest to the finest.

    Raises:
        InputError: a crop behind the last convolution, which nobody would see; or none at all.
    """
    before = (chain.size, *chain.crops)
    if before[-1] != before[-2]:
        what = "nothing follows the last crop: a level is detected before it is cropped"
        raise InputError(what, where=f"crops[{len(chain.crops) - 1}]", mend="0, or another convolution")
    cut = [layer for layer in range(len(chain.crops) - 1) if before[layer] != before[layer + 1]]
    if not cut:
        raise InputError("one level only", where="crops", mend='a crop between two convolutions, or detect="last"')
    return [len(chain.crops) - 1, *reversed(cut)]


class PyramidFront(Front):
    """A chain of convolutions and crops, composed to one transfer function for every output of every level.

    Args:
        chain: of the contracting path; what comes before a crop is detected, and cropped for what follows.
        is_complex: of the responses.
    """

    def __init__(self, chain: Plan, *, is_complex: bool = False) -> None:
        self.layers = detected_layers(chain)
        outputs = sum(chain.channels[layer + 1] for layer in self.layers)
        whole = replace(chain, channels=(chain.channels[0], outputs), kernels=chain.kernels[:1], crops=(chain.size,))
        super().__init__(whole, is_complex)
        self.chain = chain
        self.weights = new_weights(chain, is_complex)
        self._to_unit_rms()

    @property
    def levels(self) -> list[tuple[int, Pair]]:
        """Outputs and samples of each."""
        sides = (self.chain.size, *self.chain.crops)
        return [(self.chain.channels[layer + 1], sides[layer]) for layer in self.layers]

    @exactly
    def transfer(self) -> Tensor:
        self._dtype()
        return torch.cat([self._on_whole_band(*self._of_level(layer)) for layer in self.layers])

    @exactly
    def spectra(self, pictures: Tensor) -> list[tuple[Tensor, Geometry]]:
        """What every level makes of pictures ``[batch, out, rows, columns]``, on its own band and no more of it."""
        self._dtype()
        every = self.analysed(pictures)
        return [(channel_sum(self._within(every, band), own), band) for own, band in map(self._of_level, self.layers)]

    def _within(self, every: Tensor, band: Geometry) -> Tensor:
        """The bins of a level's band among those of the widest."""
        rows, columns = (n // 2 - kept // 2 for n, kept in zip(self.geometry.kept, band.kept, strict=True))
        left = columns if self.is_complex else 0
        return every[..., rows : rows + band.shape[0], left : left + band.shape[1]]

    def _of_level(self, layer: int) -> tuple[Tensor, Geometry]:
        """What one level does, on its own band."""
        chain = self.chain
        geometry = Geometry(chain.size, chain.grid, chain.grids[layer], self.is_complex)
        taps = taps_of(self.weights, self.is_complex)
        return compose(taps[: layer + 1], chain.grids[: layer + 1], geometry), geometry

    def _on_whole_band(self, transfer: Tensor, geometry: Geometry) -> Tensor:
        """A level's band within the widest: of an even one, both edges are there and each counts half."""
        room = []
        for axis, (bins, kept, n) in enumerate(
            zip((geometry.rows, geometry.columns), geometry.kept, self.geometry.kept, strict=True)
        ):
            if kept < n and kept % 2 == 0:
                half = torch.where(bins.abs() == kept // 2, 0.5, 1.0).to(transfer.device, transfer.real.dtype)
                transfer = transfer * (half[:, None] if axis == 0 else half)
            more = n // 2 - kept // 2
            room.append((more if axis == 0 or self.is_complex else 0, more))
        return F.pad(transfer, (*room[1], *room[0]))

    @torch.no_grad()
    def _to_unit_rms(self) -> None:
        """Scale layers, the first first, until every level's transfer function has an rms of 1 on its band."""
        begun = 0
        for layer in reversed(self.layers):
            rms = self._of_level(layer)[0].abs().square().mean().sqrt()
            for weight in list(self.weights)[begun : layer + 1]:
                weight /= rms ** (1 / (layer + 1 - begun))
            begun = layer + 1


class LevelReader(Sensor):
    """One camera for all levels, whose readings electronics pools to each level's own samples.

    Args:
        kind: the readout.
        compand: what electronics does to each number.
        camera: where its pixels stand.
        levels: outputs and readings ``(Y, X)`` of each; those of the last are the camera's own.
        reference: amplitude of the beam of ``interference``.
        divisive: as of a ``Reader``, level by level.
    """

    def __init__(
        self,
        kind: Readout,
        compand: Compand,
        camera: Camera,
        levels: Sequence[tuple[int, Pair]],
        *,
        reference: float = 1.0,
        divisive: float = 0.0,
    ) -> None:
        window = camera.pixels
        super().__init__(kind, compand, camera, window, sum(outputs for outputs, _ in levels), reference)
        sizes = [size for _, size in levels]
        if (
            not sizes
            or sizes[-1] != window
            or any(n >= m for coarse, fine in pairwise(sizes) for n, m in zip(coarse, fine, strict=True))
        ):
            what = f"levels of {sizes} readings before {window[0]}×{window[1]} pixels"
            raise InputError(what, where="levels", mend="the coarsest first, each larger; the last as many as pixels")
        for size in sizes:
            if any(n % m for n, m in zip(window, size, strict=True)):
                what = f"{size[0]}×{size[1]} readings of {window[0]}×{window[1]} pixels"
                raise InputError(what, where="crops", mend="levels whose samples divide the picture's")
        self.parts = nn.ModuleList(
            Reader(
                kind, compand, camera, None if size == window else size, outputs, reference=reference, behind=True,
                divisive=divisive,
            )
            for outputs, size in levels
        )  # fmt: skip

    def on(self, camera: Camera) -> LevelReader:
        """The same, its pixels standing elsewhere."""
        made = LevelReader(
            self.kind, self.compand, camera, self.levels, reference=self.reference, divisive=self.divisive
        )
        made.load_state_dict(self.state_dict())
        return made.to(self.mean)

    @property
    def readers(self) -> list[Reader]:
        """Of the levels."""
        return [part for part in self.parts if isinstance(part, Reader)]

    @property
    def levels(self) -> list[tuple[int, Pair]]:
        """Outputs and readings of each."""
        return [(part.outputs, part.size) for part in self.readers]

    @property
    def mean(self) -> Tensor:
        return self.readers[0].mean

    @property
    def divisive(self) -> float:
        return self.readers[0].divisive

    @property
    def is_linear(self) -> bool:
        return all(part.is_linear for part in self.readers)

    @property
    def following_macs(self) -> int:
        """Multiplications of electronics between camera and backend."""
        return sum(part.following_macs for part in self.readers)

    def forward(self, field: Tensor) -> list[Tensor]:
        return self.normalised(self.raw(field))

    @exactly
    def raw(self, field: Tensor) -> list[Tensor]:
        return self.read(self.averaged(field))

    def read(self, seen: Tensor) -> list[Tensor]:
        """Readings of every level before they are normalised."""
        return self.followed(self.detected(seen))

    def followed(self, detected: Tensor) -> list[Tensor]:
        """What electronics makes of what the camera gives, level by level."""
        return [part.followed(own) for part, own in zip(self.readers, self._shared(detected, -3), strict=True)]

    def dark(self, count: int) -> list[Tensor]:
        """Readings of so many pictures, all 0."""
        return [part.dark(count) for part in self.readers]

    @property
    def has_thresholds(self) -> bool:
        return all(part.has_thresholds for part in self.readers)

    @torch.no_grad()
    def centre(self, detected: Iterable[Tensor]) -> None:
        """Put the thresholds where readings are on average."""
        for part, own in zip(self.readers, self._shared(mean_reading(detected), 0), strict=True):
            part.put_thresholds(own)

    @torch.no_grad()
    def weigh(self, detected: Iterable[Tensor]) -> None:
        """Keep the power that every level's readings have on average, if they are divided."""
        if self.divisive:
            every = [self._shared(part, -3) for part in detected]
            for number, part in enumerate(self.readers):
                part.weigh(levels[number] for levels in every)

    def normalised(self, raw: Sequence[Tensor]) -> list[Tensor]:
        return [part.normalised(own) for part, own in zip(self.readers, raw, strict=True)]

    @torch.no_grad()
    def normalise(self, raw: Iterable[Sequence[Tensor]]) -> None:
        """Take mean and spread of every level's channels from readings, and keep them."""
        moments = [Moments() for _ in self.readers]
        for levels in raw:
            for own, seen in zip(moments, levels, strict=True):
                own.add(seen)
        for part, own in zip(self.readers, moments, strict=True):
            part.freeze(own)

    def _shared(self, every: Tensor, dim: int) -> tuple[Tensor, ...]:
        return torch.split(every, [part.outputs for part in self.readers], dim)

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.compand}, " + ", ".join(f"{n} at {y}×{x}" for n, (y, x) in self.levels)
