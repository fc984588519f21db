"""Wavefront errors as Zernike polynomials, each with mean square 1 over its disc, so coefficients are rms values.

Two ways to number them: Noll's (even numbers are cosines) and OSA/ANSI's. Angles run from +x to +y, and y is down. A
positive path is a delay: light bends towards where the path is longer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from fouroptics.errors import InputError, check_choice

Index = Literal["noll", "osa"]
Number = float | Tensor


def noll(index: int) -> tuple[int, int]:
    """Radial order n and azimuthal order m of Noll's index 1, 2, …: piston, x-tilt, y-tilt, defocus, …; sines m < 0."""
    if index < 1:
        raise InputError(f"{index} is not a Noll index", where="index", mend="it starts at 1, the piston")
    n = (math.isqrt(8 * index - 7) - 1) // 2
    place = index - n * (n + 1) // 2 - 1  # 0 … n within the order
    m = 2 * ((place + 1 + n % 2) // 2) - n % 2
    return n, m if index % 2 == 0 or m == 0 else -m


def osa(index: int) -> tuple[int, int]:
    """Radial order n and azimuthal order m of the OSA/ANSI index j = (n(n + 2) + m) / 2, from 0."""
    if index < 0:
        raise InputError(f"{index} is not an OSA index", where="index", mend="it starts at 0, the piston")
    n = (math.isqrt(8 * index + 1) - 1) // 2
    return n, 2 * index - n * (n + 2)


def zernike(n: int, m: int, y: Tensor, x: Tensor) -> Tensor:
    """Z_n^m at points given in radii of the disc; y and x broadcast. Beyond the disc the polynomial goes on.

    √(n+1) R_n^0, and √(2(n+1)) R_n^|m| cos mθ (m > 0) or sin |m|θ (m < 0).
    """
    order = abs(m)
    if n < order or (n - order) % 2:
        raise InputError(f"there is no Zernike polynomial n = {n}, m = {m}", mend="n ≥ |m|, and n - |m| is even")
    squared = y.square() + x.square()
    radial = _jacobi((n - order) // 2, order, 2 * squared - 1)
    if order == 0:
        return math.sqrt(n + 1) * radial
    cosine, sine = _harmonic(order, y, x)
    return math.sqrt(2 * (n + 1)) * radial * (cosine if m > 0 else sine)


def wavefront(y: Tensor, x: Tensor, terms: Mapping[int, Number], diameter: Number, *, index: Index = "noll") -> Tensor:
    """The optical path Σ c_j Z_j over a plane, ``[y, x]``, in the unit of the coefficients: metres, waves or radians.

    Args:
        y: sample positions about the axis [m], in any order.
        x: the same along x.
        terms: index → rms over the disc.
        diameter: of the disc [m].
        index: how terms are numbered.
    """
    check_choice("index", index, ("noll", "osa"))
    radius = torch.as_tensor(diameter, dtype=y.dtype, device=y.device) / 2
    if not float(radius.detach()) > 0:
        raise InputError(f"a disc of {2 * float(radius)} m", where="diameter", mend="the opening's diameter in metres")
    down, along = (y / radius)[:, None], (x / radius)[None, :]
    orders = noll if index == "noll" else osa
    path = torch.zeros(len(y), len(x), dtype=y.dtype, device=y.device)
    for which, rms in terms.items():
        path = path + rms * zernike(*orders(which), down, along)
    return path


def delayed(path: Tensor, wavelength: Number) -> Tensor:
    """Transmission e^{i2π·path/λ} of a wavefront error; for a path in waves the wavelength is 1."""
    phase = 2 * math.pi * path / wavelength
    return torch.polar(torch.ones_like(phase), phase)


def _jacobi(degree: int, beta: int, t: Tensor) -> Tensor:
    """P_k^{(0, β)}(t), which times ρ^β at t = 2ρ² - 1 is R; by recurrence, as factorials lose all digits by n = 40."""
    before, now = torch.zeros_like(t), torch.ones_like(t)
    for k in range(1, degree + 1):
        s = 2 * k + beta
        if k == 1:
            before, now = now, ((beta + 2) * t - beta) / 2
            continue
        lead = 2 * k * (k + beta) * (s - 2)
        slope = (s - 1) * s * (s - 2)
        middle = -(s - 1) * beta**2
        last = 2 * (k - 1) * (k + beta - 1) * s
        before, now = now, ((slope * t + middle) * now - last * before) / lead
    return now


def _harmonic(order: int, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """ρ^m cos mθ and ρ^m sin mθ, the parts of (x + iy)^m."""
    cosine, sine = x + 0 * y, y + 0 * x
    for _ in range(order - 1):
        cosine, sine = cosine * x - sine * y, sine * x + cosine * y
    return cosine, sine
