"""Values of what is off: tensors by name, with dimensions of draws in front and a field's own components behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fouroptics import units
from fouroptics.bench import Bench
from fouroptics.errors import InputError
from fouroptics.imperfections.fields import FIELDS, SECTIONS, Field, in_order, named, nearest

Shape = tuple[int, ...]
Index = int | slice | Tensor | tuple[int | slice | Tensor, ...]
Pair = tuple[float, float]


class Imperfections:
    """What is off on a bench, in one draw or in many; a field that is not given is nominal, which is 0.

    Gradients flow to tensors that ask for one; others are copied. It is a value: what changes it makes another one.

    Args:
        values: name of a field → SI values ``[*draws, *components]``; draws broadcast.
        shape: of the draws; left out, what the values broadcast to.
        seed: int64 ``[*draws]``, from which a bank makes what is no number, such as the map of dead pixels; left out,
            0, 1, 2, ….

    Raises:
        InputError: an unknown field, a value that is not finite or not possible, shapes that do not fit.
    """

    seed: Tensor
    _values: dict[str, Tensor]
    _shape: Shape

    def __init__(
        self,
        values: Mapping[str, Tensor | float | Sequence[float]],
        shape: Shape | None = None,
        seed: Tensor | None = None,
    ) -> None:
        kept = {name: _checked(name, values[name]) for name in _known(values)}
        _refuse_uneven(kept)
        drawn = _common_draws(kept, shape)
        self._keep(kept, drawn, _seeds(seed, drawn))

    def _keep(self, values: dict[str, Tensor], shape: Shape, seed: Tensor) -> None:
        for name, value in (("_values", values), ("_shape", shape), ("seed", seed)):
            object.__setattr__(self, name, value)

    def _made(self, values: dict[str, Tensor], shape: Shape, seed: Tensor) -> Imperfections:
        """A sibling of checked parts."""
        made = object.__new__(Imperfections)
        made._keep(values, shape, seed)
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        raise InputError("imperfections are not changed in place", where=name, mend="make others")

    @property
    def shape(self) -> Shape:
        """Of the draws."""
        return self._shape

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that are given, in the table's order."""
        return tuple(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def get(self, name: str) -> Tensor | None:
        """A field's values ``[*shape, *components]`` [SI], or None where it is nominal."""
        field = named(name)
        value = self._values.get(name)
        return None if value is None else value.expand(self._shape + _components(field, value))

    def __getitem__(self, index: str | Index) -> Any:
        """A field's values by its name, or some of the draws."""
        if not isinstance(index, str):
            return self.at(index)
        value = self.get(index)
        if value is None:
            raise InputError("this is nominal here", where=index, mend="get(name) answers None then")
        return value

    def __iter__(self) -> Iterator[Imperfections]:
        """Draw by draw, along the first dimension."""
        if not self._shape:
            raise InputError("this is a single draw", mend="reshape(1) makes it a list of one")
        return (self.at(draw) for draw in range(self._shape[0]))

    def at(self, index: Index) -> Imperfections:
        """Some of the draws: an index, a slice or a tensor of indices, along the dimensions of draws."""
        steps = index if isinstance(index, tuple) else (index,)
        if len(steps) > len(self._shape):
            raise InputError(f"{len(steps)} indices for draws of shape {list(self._shape)}", where="index")
        return self._with_draws(lambda value: value[steps])

    def reshape(self, *shape: int) -> Imperfections:
        """The same draws in another shape, such as ``reshape(-1, 1)`` to broadcast them over pictures."""
        draws = len(self._shape)
        try:
            return self._with_draws(lambda value: value.reshape(*shape, *value.shape[draws:]))
        except RuntimeError:
            what = f"draws of shape {list(self._shape)} do not fit {list(shape)}"
            raise InputError(what, where="shape") from None

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Imperfections:
        """The same values in another precision or place."""
        if dtype is not None and not dtype.is_floating_point:
            raise InputError(f"{dtype} holds no deviations", where="dtype", mend="use torch.float64 or torch.float32")
        moved = {name: value.to(dtype=dtype, device=device) for name, value in self._values.items()}
        return self._made(moved, self._shape, self.seed.to(device=device))

    def only(self, *names: str) -> Imperfections:
        """These fields, all others nominal; ``only("mask", "camera.shift")`` takes all of a section, and one field."""
        return self._chosen(lambda name: _is_among(name, names), names)

    def without(self, *names: str) -> Imperfections:
        """These fields nominal; names as for ``only``."""
        return self._chosen(lambda name: not _is_among(name, names), names)

    def fingerprint(self) -> str:
        """SHA-256 of the fields, their values and the seeds, however they were broadcast."""
        content = hashlib.sha256(json.dumps(self._shape).encode())
        for name in self.names:
            value = self[name].detach().cpu()
            content.update(f"{name} {value.dtype} {list(value.shape)}".encode())
            content.update((value.double() + 0.0).contiguous().numpy().tobytes())  # -0 is 0
        content.update(self.seed.cpu().contiguous().numpy().tobytes())
        return content.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Imperfections) and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def __repr__(self) -> str:
        return f"Imperfections({', '.join(self.names) or 'nominal'}; draws {list(self._shape)})"

    def table(self, bench: Bench, bin_width: float | Pair | None = None) -> str:
        """What is off, for people: the value of a single draw, or rms and largest over many; two for a (y, x) pair.

        A displacement is told in metres and again in what it displaces: in the mask's plane in Fourier bins, or in
        mask pixels where no bin width is known; elsewhere in picture samples.

        Args:
            bench: for its pitches and focal lengths.
            bin_width: of a Fourier bin at the mask [m], one number or ``(y, x)``.
        """
        if 0 in self._shape:
            return "no draws"
        heads = ("value", "displaced by") if not self._shape else ("rms", "largest", "rms displaced by")
        rows = [("field", *heads), *(self._row(name, bench, bin_width) for name in self.names)]
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(line.rstrip() for line in lines)

    def _row(self, name: str, bench: Bench, bin_width: float | Pair | None) -> tuple[str, ...]:
        field = named(name)
        paired = field.components[-1:] == ("axis",)
        value = self[name].detach().double().cpu().reshape(-1, 2 if paired else 1)
        head = f"{name} (y, x)" if paired else name
        single = not self._shape and len(value) == 1
        sizes = (value[0] if single else value.square().mean(0).sqrt()).tolist()
        told = ", ".join(units.show(size, field.kind) for size in sizes)
        ruler = _ruler(name, field, bench, bin_width)
        moved = ", ".join(f"{size / width:.3g}" for size, width in zip(sizes, ruler[0], strict=True)) if ruler else ""
        moved += f" {ruler[1]}" if ruler else ""
        if not self._shape:
            return head, told if single else f"{told} rms", moved
        largest = ", ".join(units.show(size, field.kind) for size in value.abs().amax(0).tolist())
        return head, told, largest, moved

    def _with_draws(self, change: Callable[[Tensor], Tensor]) -> Imperfections:
        seed = change(self.seed)
        return self._made({name: change(self[name]) for name in self.names}, tuple(seed.shape), seed)

    def _chosen(self, choice: Callable[[str], bool], names: tuple[str, ...]) -> Imperfections:
        for name in names:
            if name not in (*SECTIONS, "aberration.zernike"):
                named(name)
        kept = {name: value for name, value in self._values.items() if choice(name)}
        return self._made(kept, self._shape, self.seed)


def _is_among(name: str, chosen: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{one}.") for one in chosen)


def _ruler(name: str, field: Field, bench: Bench, bin_width: float | Pair | None) -> tuple[list[float], str] | None:
    """What a displacement counts, (y, x) or its own axis [m], and the word for it."""
    if not field.on:
        return None
    if field.on == "mask" and bin_width is not None:
        pair, word = bin_width if isinstance(bin_width, tuple) else (bin_width, bin_width), "bins"
    elif field.on == "mask":
        pair, word = (bench.mask.pitch,) * 2, "mask pixels"
    else:
        scale = bench.lens2.focal_length / bench.lens1.focal_length if field.on == "camera" else 1.0
        pair, word = (bench.input.sample * scale,) * 2, "samples"
    if min(pair) <= 0:
        raise InputError(f"a bin of {min(pair)} m", where="bin_width", mend="give λf/(N·dx) in metres")
    return ([*pair] if field.components else [pair[name.endswith("_x")]]), word


def _known(values: Mapping[str, Any]) -> list[str]:
    for name in values:
        if not isinstance(name, str):
            raise InputError(f"{name!r} is no field's name", mend=nearest(str(name), [*FIELDS]))
        named(name)
    return in_order(values)


def _checked(name: str, given: Any) -> Tensor:
    field = named(name)
    value = given if isinstance(given, Tensor) else _as_tensor(name, given)
    if not value.is_floating_point():
        raise InputError(f"{value.dtype} holds no deviations", where=name, mend="give a floating tensor")
    if value.dim() < len(field.components) or (field.components[-1:] == ("axis",) and value.shape[-1] != 2):
        wanted = "[…, " + ", ".join("2 (y, x)" if one == "axis" else one for one in field.components) + "]"
        raise InputError(f"shape {list(value.shape)} does not fit", where=name, mend=f"give {wanted}")
    plain = value.detach()
    if not bool(plain.isfinite().all()):
        raise InputError("not finite", where=name, mend="give finite SI values")
    for extreme in (plain.amin(), plain.amax()) if plain.numel() else ():
        if not field.low <= float(extreme) <= field.high:
            limits = f"{units.show(field.low, field.kind)} … {units.show(field.high, field.kind)}"
            what = f"{units.show(float(extreme), field.kind)} is not plausible here"
            raise InputError(what, where=name, mend=f"values are SI, within {limits}")
    return value if value.requires_grad else plain.clone()


def _as_tensor(name: str, given: Any) -> Tensor:
    try:
        return torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{given!r} is no number", where=name, mend="give SI floats or a tensor") from None


def _components(field: Field, value: Tensor) -> Shape:
    return tuple(value.shape[value.dim() - len(field.components) :])


def _refuse_uneven(values: Mapping[str, Tensor]) -> None:
    """Levels, channels and etch steps are counted alike by all fields."""
    counts: dict[str, tuple[int, str]] = {}
    for name, value in values.items():
        field = named(name)
        for component, count in zip(field.components, _components(field, value), strict=True):
            known, first = counts.setdefault(component, (count, name))
            if known != count:
                raise InputError(f"{count} along {component!r}, {known} in {first}", where=name)


def _common_draws(values: Mapping[str, Tensor], shape: Shape | None) -> Shape:
    drawn: Shape = ()
    for name, value in values.items():
        own = tuple(value.shape[: value.dim() - len(named(name).components)])
        try:
            drawn = np.broadcast_shapes(drawn, own)
            if shape is not None and np.broadcast_shapes(tuple(shape), own) != tuple(shape):
                raise ValueError
        except ValueError:
            what = f"draws of shape {list(own)} do not broadcast to {list(drawn if shape is None else shape)}"
            raise InputError(what, where=name) from None
    return drawn if shape is None else tuple(shape)


def _seeds(seed: Tensor | None, shape: Shape) -> Tensor:
    if seed is None:
        return torch.arange(int(torch.Size(shape).numel())).reshape(shape)
    if seed.dtype != torch.int64 or tuple(seed.shape) != shape:
        what = f"{seed.dtype} of shape {list(seed.shape)} are no seeds"
        raise InputError(what, where="seed", mend=f"give int64 {list(shape)}, one for each draw")
    return seed
