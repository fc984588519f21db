"""A bank's masks as a module: the pixels' own parameters where they are trained, their levels, their part of light."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fouroptics.correlator.drawn import DrawnMasks, covers
from fouroptics.correlator.masks import MaskPlan, Shown
from fouroptics.correlator.passive import positive_negative
from fouroptics.devices.modulator import QUANTIZE, Quantize
from fouroptics.errors import InputError, check_choice
from fouroptics.imperfections import Imperfections
from fouroptics.optics.fourier import Pair
from fouroptics.optics.kept import Kept, Stamp

Learn = Literal["masks", "kernels"]
_SOFT = 0.3  # of a staircase, to begin with


class DeviceMasks(nn.Module):
    """Masks on the bench's device.

    Args:
        plan: where kernels stand on them.
        kernels: the bank's, ``[out, in, ky, kx]`` or ``[out, in, ky, kx, 2]`` where they are complex.
        learn: ``"masks"``: every pixel is a parameter, ``drive``, which begins as the kernels' encoding. ``"kernels"``:
            pixels follow the kernels through their encoding.
        quantize: how levels are chosen in training.
        begin: levels and scale that the masks begin with, instead of the kernels' encoding.
    """

    drive: nn.Parameter | None
    fixed_scale: Tensor | None
    stairs: Tensor

    def __init__(
        self,
        plan: MaskPlan,
        kernels: Tensor,
        learn: Learn,
        quantize: Quantize,
        begin: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if learn == "kernels" and begin is not None:
            raise InputError("given levels follow no kernels", where="begin", mend="learn='masks'")
        if learn == "kernels" and plan.encoding == "fit":
            mend = "learn='masks', or mask.encoding = \"double-phase\""
            raise InputError("a fit passes no gradient to kernels", where="learn", mend=mend)
        self.plan, self.learn, self.quantize = plan, learn, quantize
        self._stamp, self._learned = Stamp(), False
        self._encodings: Kept[tuple[Tensor, Tensor]] = Kept(most=1)
        self._gains: Kept[Tensor] = Kept()
        self._drawn: Kept[DrawnMasks] = Kept(most=1)
        self.drive, scale = None, None
        if learn == "masks":
            with torch.no_grad():
                drive, scale = plan.encode(self.taps(kernels)) if begin is None else self._begun(*begin, kernels)
            self.drive = nn.Parameter(drive.contiguous())
        self.register_buffer("fixed_scale", None if scale is None else scale.clone())
        self.register_buffer("stairs", torch.tensor(_SOFT, dtype=torch.float64, device=kernels.device))

    def _begun(self, levels: Tensor, scale: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:
        due = (kernels.shape[0] * self.plan.pairs,)
        if tuple(scale.shape) != due:
            raise InputError(f"scales are {tuple(scale.shape)}", where="begin", mend=f"{due} are due")
        like = kernels.detach().real
        return self.plan.driven_to(levels, like), scale.to(like)

    def extra_repr(self) -> str:
        count = "×".join(map(str, (self.plan.masks, *self.plan.count)))
        return f"{count} pixels of {self.plan.modulator.kind}, {self.plan.encoding}, learns {self.learn}"

    @property
    def softness(self) -> float:
        """Of the staircase of ``quantize="soft"``: 1 is a straight line from level to level, 0 the hard one."""
        return float(self.stairs)

    @softness.setter
    def softness(self, share: float) -> None:
        if isinstance(share, bool) or not isinstance(share, float | int) or not 0 <= share <= 1:
            mend = "a number from 0 (hard) to 1 (a straight line)"
            raise InputError(f"a softness of {share!r}", where="device.softness", mend=mend)
        self.stairs.fill_(share)

    def taps(self, kernels: Tensor) -> Tensor:
        """What stands on the masks; of pairs the positive and negative parts, twice the outputs."""
        if kernels.dim() == 5:
            return torch.view_as_complex(kernels)
        return positive_negative(kernels) if self.plan.pairs == 2 else kernels

    def scale(self, kernels: Tensor) -> Tensor:
        """What the kernels were turned down by, ``[out]``."""
        return self._encoded(kernels)[1] if self.fixed_scale is None else self.fixed_scale

    def levels(self, kernels: Tensor) -> Tensor:
        """The levels that are shown and exported, ``[masks, Ny, Nx]``."""
        return self.plan.levels(self._driven(kernels))

    def put(self, levels: Tensor) -> None:
        """Drive every pixel to a given level ``[masks, Ny, Nx]``."""
        if self.drive is None:
            raise InputError("its pixels follow its kernels", where="learn", mend="build it with learn='masks'")
        with torch.no_grad():
            self.drive.copy_(self.plan.driven_to(levels, self.drive))

    def shown(self, kernels: Tensor) -> Shown:
        """Every pixel's transmission as things are: hard in evaluation, with a gradient in training."""
        check_choice("quantize", self.quantize, QUANTIZE)
        source = kernels if self.drive is None else self.drive
        learns = torch.is_grad_enabled() and source.requires_grad
        if learns:
            self._stamp.renew()
            self._learned, self._drawn = True, Kept(most=1)
        followed = self.quantize in ("straight-through", "gumbel") and not learns
        quantize: Quantize = "hard" if followed or not self.training else self.quantize
        make = partial(self._transmission, kernels, quantize)
        flawed = partial(self._flawed, kernels, quantize, None if learns or quantize != "hard" else source.dtype)
        return Shown(make, flawed, None if learns else (self._now(kernels), quantize, self.softness), source)

    def gain(self, shown: Shown, kernels: Tensor) -> Tensor:
        """The part of the wanted amplitude, turned down by ``scale``, that comes out, ``[out]``."""

        def make() -> Tensor:
            return self.plan.gain(shown.transmission, self.taps(kernels), self.scale(kernels))

        follows = torch.is_grad_enabled() and kernels.requires_grad
        return make() if shown.key is None or follows else self._gains.get(shown.key, make)

    def in_network_units(self, response: Tensor, shown: Shown, kernels: Tensor, *, trailing: int = 2) -> Tensor:
        """Responses ``[..., out, …]`` over what the masks keep of the kernels; of pairs, their difference."""
        kept = self.scale(kernels) * self.gain(shown, kernels)
        units = response / kept.reshape(-1, *(1,) * trailing)
        if self.plan.pairs == 1:
            return units
        positive, negative = units.chunk(2, -1 - trailing)
        return positive - negative

    def _transmission(self, kernels: Tensor, quantize: Quantize) -> Tensor:
        return self.plan.shown(self._driven(kernels), quantize, softness=self.softness)

    def _flawed(
        self, kernels: Tensor, quantize: Quantize, levels_in: torch.dtype | None, draw: Imperfections, reach: Pair
    ) -> Tensor:
        """Spreads of one draw; of masks that are their levels and no more, from those of a few."""
        if levels_in is not None and covers(self.plan, draw, levels_in):
            return self._drawn_masks(kernels).spread(draw, reach)
        passed = self.plan.flawed(draw, self._driven(kernels), quantize, softness=self.softness)
        return self.plan.spread(passed, reach)

    def _drawn_masks(self, kernels: Tensor) -> DrawnMasks:
        """What draws are made of, as long as nothing that the levels follow from has changed."""
        return self._drawn.get(self._now(kernels), lambda: DrawnMasks(self.plan, self.levels(kernels)))

    def _driven(self, kernels: Tensor) -> Tensor:
        return self._encoded(kernels)[0] if self.drive is None else self.drive

    def _encoded(self, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """Drive and scale that follow the kernels, worked out once where no gradient asks for them."""
        if torch.is_grad_enabled() and kernels.requires_grad:
            return self.plan.encode(self.taps(kernels))
        return self._encodings.get(self._now(kernels), lambda: self.plan.encode(self.taps(kernels)))

    def _now(self, kernels: Tensor) -> int:
        """A number that stays as long as all that pixels and their scale follow from does."""
        own = [tensor for tensor in (self.drive, self.fixed_scale) if tensor is not None]
        return self._stamp.of(kernels, *own)

    def train(self, mode: bool = True) -> DeviceMasks:
        if mode != self.training and self._learned:  # a fused optimiser's last step left no trace
            self._stamp.renew()
            self._learned = False
        super().train(mode)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> DeviceMasks:
        """Casts are for pixels; the staircase keeps its digits."""
        stairs = self.stairs
        self._stamp.renew()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.stairs = stairs.to(self.stairs.device)
        return self
