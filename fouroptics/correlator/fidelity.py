"""What a bank on a device's masks is worth: how like the wanted responses, how bright, how clear of other light.

Nothing here is noise or misalignment: it is what encoding, levels and pixels cost before anything goes wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from fouroptics.correlator.bank import Correlator4f
from fouroptics.correlator.fourier_plane import input_pixel
from fouroptics.correlator.masks import MaskPlan
from fouroptics.devices.encode import CARRIER_PERIOD
from fouroptics.devices.layout import Place
from fouroptics.errors import InputError
from fouroptics.optics.correlation import correlate
from fouroptics.optics.pixelated import pixel_frequencies
from fouroptics.pictures import natural

_PRINTED = 8  # outputs
_COLUMNS = {"real": "8.5f", "field": "8.5f", "gain": "8.3f", "scale": "8.5f", "efficiency": "10.4%", "leak": "7.3f"}


@dataclass(frozen=True)
class Fidelity:
    """What each output's masks make of its kernels, float64 ``[out]`` each; printed, the worst outputs come first.

    Args:
        real: Pearson's correlation of Re E with the wanted response over all pictures: what a homodyne reading follows.
        field: magnitude of that of the complex E: what an intensity follows.
        gain: the part of the wanted amplitude, turned down by ``scale``, that comes out.
        scale: what kernels were turned down by, so that |t| ≤ 1.
        efficiency: the share of the light on a mask that becomes the wanted response.
        leak: rms of the copy of the pictures that gaps between pixels lay on the response, over the response's own.
        view: sides, in pictures, of the window on the response that stays clear of other light (``clear_view``).
    """

    real: Tensor
    field: Tensor
    gain: Tensor
    scale: Tensor
    efficiency: Tensor
    leak: Tensor
    view: Tensor

    @property
    def order(self) -> list[int]:
        """Outputs, the worst first."""
        return [int(o) for o in self.real.argsort()]

    @property
    def data(self) -> dict[str, Any]:
        """For JSON: the outputs' order, the worst first, and lists of one value an output."""
        return {"order": self.order} | {name: getattr(self, name).tolist() for name in (*_COLUMNS, "view")}

    def __str__(self) -> str:
        head = " ".join(f"{name:>{int(form.split('.')[0])}}" for name, form in _COLUMNS.items())
        rows = [
            " ".join([f"{o:>6}", *(format(float(getattr(self, name)[o]), form) for name, form in _COLUMNS.items())])
            for o in self.order[:_PRINTED]
        ]
        more = [f"       and {len(self.real) - _PRINTED} better ones"] if len(self.real) > _PRINTED else []
        clear = f"clear of other light: {float(self.view.amin()):.2f} pictures or more about each response"
        return "\n".join([f"output {head}", *rows, *more, clear])


def report(bank: Correlator4f, pictures: Tensor | None = None) -> Fidelity:
    """Compare what a bank's device shows, in hard evaluation, with its kernels.

    One picture sample lights a mask by P(ν), the sinc of its device pixels: p²·Σ_j P(ν_j)² falls on pixels of pitch p
    [cycles a sample], gaps included. Its wanted response is gain·scale times its input's kernel, of which the samples
    hold, by Parseval over the period 1 of ν, |gain·scale|²·Σ|k|². Each of I inputs finds its own kernel only, so

    .. math:: \\eta = |\\mathrm{gain}\\cdot\\mathrm{scale}|^2\\, \\frac{1}{I} \\sum_i \\sum_m |k_i(m)|^2
              \\Big/ p^2 \\sum_j P(\\nu_j)^2.

    Of P = 1, a blank mask of fill F has F² and a blazed phase in L levels F²·sinc²(1/L). The device's ``transmission``
    is not in it.

    Gaps pass r(1 - F) of the amplitude as it came: a copy of each input, displaced from the response by its term's
    place, and counted by the area that lies on the response. ``precompensate`` sets pixels against it: 0.

    Args:
        bank: with ``masks="device"``.
        pictures: ``[..., in, height, width]`` in [0, 1]; None takes two natural-like ones.

    Raises:
        InputError: the bank's masks are ideal.
    """
    if bank.device is None:
        raise InputError("ideal masks do what is wanted", where="masks", mend="build the bank with masks='device'")
    device, plan, training = bank.device, bank.device.plan, bank.training
    pictures = (natural(2, bank.channels[1], bank.size) if pictures is None else pictures).to(bank.kernels)
    amplitude = pictures.sqrt() if bank.bench.input.encoding == "sqrt" else pictures
    try:
        bank.eval()
        with torch.no_grad():
            real, field = _correlations(bank.field(pictures), correlate(amplitude, bank.taps, upright=bank.upright))
            gain, scale = device.gain(device.shown(bank.kernels), bank.kernels), device.scale(bank.kernels)
            taps = device.taps(bank.kernels)
            response = (gain * scale).abs() * _rms(correlate(amplitude, taps, upright=bank.upright))
    finally:
        bank.train(training)
    energy = taps.abs().square().sum((1, 2, 3)) / bank.channels[1]
    efficiency = (gain * scale).square() * energy / light_on_mask(plan)
    leak = _copies(plan, _rms(amplitude)) / torch.where(response > 0, response, math.inf)
    gain, scale, efficiency, leak, view = (  # the masks of a pair are alike
        one.double().cpu().reshape(plan.pairs, -1).mean(0) for one in (gain, scale, efficiency, leak, clear_view(plan))
    )
    return Fidelity(real, field, gain, scale, efficiency, leak, view)


def light_on_mask(plan: MaskPlan) -> float:
    """p²·Σ_j P(ν_j)²: the light of one picture sample that falls on a mask; 1 where P is and pixels fill the band."""
    sides = (input_pixel(plan.bench, pixel_frequencies(n, plan.pitch)).square().sum() for n in plan.count)
    return math.prod(plan.pitch * float(side) for side in sides)


def clear_view(plan: MaskPlan) -> Tensor:
    """Sides, in pictures, of the window on each response that no other light's middle order reaches into, ``[out]``.

    An input's light lands, through a term's kernel, at tile + place, and again every 1/p samples; it is a picture and
    a kernel wide. A chequerboard sends its remainder to (½, ½)/p and a carrier of T pixels its other orders to
    multiples of 1/Tp, both wider by the terms' places. Light at a distance d, e wide, leaves 2d - e. What an encoding
    scatters has no place, and is not in it.
    """
    size, narrow = (torch.tensor(one).double() for one in (plan.size, (plan.size[0] - 1, plan.size[1] - 1)))
    narrow = narrow + torch.tensor(plan.kernel)
    views = torch.zeros(plan.channels[0], dtype=torch.float64)
    for mask in range(plan.masks):
        terms = [term for term in plan.terms if term.mask == mask]
        centre, place = (torch.tensor([getattr(t, n) for t in terms]).double() for n in ("centre", "place"))
        tiles, again = centre - place, torch.tensor(list(product((-1, 0, 1), repeat=2))) / plan.pitch
        lights = (tiles[:, None, None] + place[:, None] + again).reshape(-1, 2)
        astray = (tiles[:, None] + torch.tensor(_orders(plan)).reshape(-1, 2) / plan.pitch).reshape(-1, 2)
        wide = narrow + 2 * (place.amax(0) - place.amin(0))
        for term, at in zip(terms, centre, strict=True):
            apart, beside = (lights - at).abs(), (astray - at).abs()
            room = torch.cat((2 * apart[apart.amax(1) > 1e-6] - narrow, 2 * beside - wide))
            views[term.output] = (room / size).amax(1).amin()
    return views


def _orders(plan: MaskPlan) -> list[Place]:
    """Where what an encoding makes besides lands, ``(y, x)`` in units of 1/p."""
    if not plan.on_carrier:
        return [(y, x) for y in (-0.5, 0.5) for x in (-0.5, 0.5)] if plan.encoding == "double-phase" else []
    staggered = plan.encoding == "lee" and plan.modulator.levels == 2
    places = product((-2, -1, 0, 1, 2) if staggered else (0,), range(-CARRIER_PERIOD, 2 * CARRIER_PERIOD))
    return [(y / CARRIER_PERIOD, x / CARRIER_PERIOD) for y, x in places if (y, x) != (0, 1)]


def _copies(plan: MaskPlan, inputs: Tensor) -> Tensor:
    """Rms on each response, ``[out]``, of what gaps pass of inputs of rms ``[in]``."""
    mask = plan.bench.mask
    cancelled = mask.precompensate and not plan.on_carrier
    passed = 0.0 if cancelled else mask.leak * (1 - mask.fill_factor) * math.prod(n * plan.pitch for n in plan.count)
    places = torch.tensor([term.place for term in plan.terms]).to(inputs).reshape(*plan.channels, 2)
    over = (1 - places.abs() / torch.tensor(plan.size).to(inputs)).clamp_min(0).prod(-1)
    return passed * (over @ inputs.square()).sqrt()


def _rms(fields: Tensor) -> Tensor:
    """``[..., channels, y, x]`` → ``[channels]``."""
    return fields.abs().square().movedim(-3, 0).flatten(1).mean(1).sqrt()


def _correlations(fields: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Pearson's, ``[out]`` each, of the real parts and of the complex fields ``[..., out, y, x]``."""
    exact = (one.to(torch.complex128).movedim(-3, 0).flatten(1).cpu() for one in (fields, wanted))
    seen, due = (one - one.mean(1, keepdim=True) for one in exact)
    along = (seen.conj() * due).sum(1).abs() / (seen.norm(dim=1) * due.norm(dim=1)).clamp_min(1e-300)
    real = torch.cosine_similarity(seen.real, due.real, dim=1)
    return real, along
