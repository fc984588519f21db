"""How much light a response has: the beam on the tiled pictures, every loss on the way, and what sharing costs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fouroptics.bench import Bench
from fouroptics.correlator.reading import HALF_MIRROR
from fouroptics.devices import readout, source
from fouroptics.devices.layout import Sharing
from fouroptics.devices.readout import Readout
from fouroptics.errors import InputError
from fouroptics.optics import grid
from fouroptics.optics.fourier import Pair


class Lighting:
    """The light of one bank on its bench.

    Args:
        bench: the bench.
        sharing: how channels share it.
        channels: ``(outputs, inputs)``.
        size: samples of a picture.
        layout: how inputs are summed.
        readout: what the camera learns.
        device: the masks are a device's, and what they keep of the light is in their transmissions.
    """

    def __init__(
        self, bench: Bench, sharing: Sharing, channels: Pair, size: Pair, *, layout: str, readout: Readout, device: bool
    ) -> None:
        self.bench, self.sharing, self.channels, self.size = bench, sharing, channels, size
        self.layout, self.readout, self.device = layout, readout, device
        self.further: dict[str, float] = {}  # what else stands in the way, and is no part of the bench

    @property
    def gain(self) -> float:
        """Irradiance on the camera plane for a response of 1 [W/m²]."""
        return self.lit * math.prod(self.kept.values())

    @property
    def lit(self) -> float:
        """Mean irradiance of the whole beam over the field that pictures share [W/m²]."""
        beam = self.bench.source
        return source.mean_irradiance(beam.power, beam.waist, self.bench.input.extent, self._field)

    @property
    def kept(self) -> dict[str, float]:
        """What is left of it by each thing on its way: of irradiance, so a picture that gets smaller gets brighter."""
        if self.layout == "mathematical":
            mend = "choose layout='tiled', 'lenslet' or 'frames'"
            raise InputError("a mathematical sum is no instrument and has no power", where="layout", mend=mend)
        bench, beam = self.bench, self.bench.reference if self.readout in readout.NEEDS_REFERENCE else None
        return {
            "beside the reference": 1.0 if beam is None else 1 - beam.power_ratio,
            "input": bench.input.transmission * bench.input.fill_factor**2,
            "mask": bench.mask.transmission,
            "shared among arms": 1 / self.sharing.arms if self.device else self.sharing.power_share,
            "half mirror": 1.0 if beam is None else HALF_MIRROR,
            "change of size": (bench.lens1.focal_length / bench.lens2.focal_length) ** 2,
        } | self.further

    def require_meeting(self) -> None:
        """Refuse inputs that never meet on the camera."""
        if self.layout == "frames" and self.channels[1] > 1:
            mend = "choose layout='tiled' or 'lenslet'"
            raise InputError("inputs shown one after another never meet on the camera", where="layout", mend=mend)

    def profile(self, like: Tensor, moved: Tensor | None = None) -> Tensor | None:
        """Amplitude of the beam over the pictures ``[in, y, x]``, mean square over the tiled field 1; None: even.

        Pictures that are ``moved`` [m], ``[*draws, 2]``, meet another part of it, ``[*draws, in, y, x]``.
        """
        beam, sample = self.bench.source, self.bench.input.sample
        if beam.waist is None:
            return None
        axis = source.peak_irradiance(beam.power, beam.waist, self.bench.input.extent)
        mean = source.mean_irradiance(beam.power, beam.waist, self.bench.input.extent, self._field)
        profile = []
        for centre in self.sharing.input_centres[: self.channels[1]]:
            y, x = (
                grid.coordinates(n, sample, centre="panel", offset=c * sample, device=like.device)
                for n, c in zip(self.size, centre, strict=True)
            )
            if moved is not None:
                y, x = y + moved[..., 0, None], x + moved[..., 1, None]
            profile.append((source.illumination(y, x, beam.waist) * axis / mean).sqrt())
        return torch.stack(profile, -3).to(like)

    @property
    def _field(self) -> tuple[float, float]:
        height, width = (n * self.bench.input.sample for n in self.sharing.input_field)
        return height, width


def square_root(pictures: Tensor) -> Tensor:
    """√x whose gradient is 0 at black, where the true one is infinite."""
    lit = pictures > 0
    return torch.where(lit, pictures, 1.0).sqrt() * lit
