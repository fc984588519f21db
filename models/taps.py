"""One layer of few taps, read where the field is read: its readings as one large real product."""

from __future__ import annotations

import torch
from fouroptics.models.band import Geometry, Pair, moved_samples
from torch import Tensor

from fouroptics.optics.separable import Separable

_QUICKER = 1.5  # times as many products a second has one large matrix as the many small ones of spectra have
_SMALL = 2**18  # numbers that taps see of a picture: as long as a few pictures' stay in a processor's cache


class TapViews:
    """A plan: what every tap sees of a picture at every reading, and their sum over taps.

    A reading of a response is linear in the picture: the sum over taps of what that reading sees of the picture, moved
    by the tap. Views of all taps are worked out once for all outputs, an axis at a time, and hold no parameter; the
    outputs of a reading then stand side by side, as electronics that compares them wants them.

    Args:
        geometry: of pictures and band.
        kernel: taps ``(y, x)``.
        means: matrices ``[readings, samples]`` for ``(y, x)``, from the fine samples of the field to its readings.
        dtype: real.
        device: of the matrices.
    """

    def __init__(
        self, geometry: Geometry, kernel: Pair, means: tuple[Tensor, Tensor], dtype: torch.dtype, device: torch.device
    ) -> None:
        rows, columns = (means[axis].double() @ moved_samples(geometry, axis, kernel[axis]) for axis in (0, 1))
        self._shape = rows.shape[:2], columns.shape[:2]
        flat = (one.flatten(0, 1).to(device, dtype) for one in (rows, columns))
        self._views = Separable(*flat)

    def __call__(self, pictures: Tensor, weight: Tensor) -> Tensor:
        """Real pictures ``[batch, in, y, x]`` and taps ``[out, in, ky, kx]`` → readings ``[batch, out, Y, X]``."""
        (taps_y, height), (taps_x, width) = self._shape
        batch, inputs = pictures.shape[:2]
        views = self._views(pictures).reshape(batch, inputs, taps_y, height, taps_x, width)
        views = views.permute(0, 3, 5, 1, 2, 4).reshape(batch * height * width, inputs * taps_y * taps_x)
        seen: Tensor = views @ weight.flatten(1).mT
        return seen.reshape(batch, height, width, len(weight)).permute(0, 3, 1, 2)


def is_worthwhile(geometry: Geometry, channels: Pair, kernel: Pair, readings: Pair) -> bool:
    """Whether views of taps are quicker than spectra, for a layer of ``(in, out)`` channels."""
    (inputs, outputs), (height, width) = channels, readings
    (rows, columns), (y, x) = geometry.shape, geometry.size
    views_y, views_x = (k * n for k, n in zip(kernel, readings, strict=True))
    by_taps = inputs * views_y * (y * x + views_x * x + views_x * outputs)
    by_spectra = outputs * rows * (4 * inputs * columns + 4 * columns * width + 2 * width * height)
    return by_taps <= (_QUICKER if inputs * views_y * views_x <= _SMALL else 1) * by_spectra
