"""A tolerance file: how far each field may be off, what moves together, and what a study makes of it."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from fouroptics import toml, units
from fouroptics.bench import Bench
from fouroptics.errors import InputError, check_choice
from fouroptics.files import write_whole
from fouroptics.imperfections.correlations import Correlation, correlated, read_correlations
from fouroptics.imperfections.distributions import Distribution
from fouroptics.imperfections.fields import FIELDS, SECTIONS, in_order, named, nearest, sizes
from fouroptics.imperfections.values import Imperfections

FORMAT = "fouroptics-tolerances/1"
_PRESETS = files("fouroptics") / "presets" / "tolerances"
_KEYS = ("format", "name", "study", "metric", *SECTIONS, "correlate", "compensate")
_MOST_DRAWS = 1_000_000

MetricKind = Literal["accuracy", "miou", "loss", "kernel-correlation", "peak-to-sidelobe"]
_METRICS: tuple[MetricKind, ...] = ("accuracy", "miou", "loss", "kernel-correlation", "peak-to-sidelobe")
_SHARES = ("accuracy", "miou", "kernel-correlation")  # metrics between 0 and 1


@dataclass(frozen=True)
class Study:
    """How many draws, from which seed, on how many pictures of the validation part, and which yields are asked for."""

    draws: int = 200
    seed: int = 0
    pictures: int | Literal["all"] = "all"
    yield_at: tuple[float, ...] = (0.9, 0.8, 0.5)

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> Study:
        given = dict(_known_keys("study", table, cls))
        for key, least, most in (("draws", 1, _MOST_DRAWS), ("seed", 0, 2**63 - 1), ("pictures", 1, 10**12)):
            if key in given and not (key == "pictures" and given[key] == "all"):
                given[key] = _whole(f"study.{key}", given[key], least, most)
        if "yield_at" in given:
            given["yield_at"] = _shares("study.yield_at", given["yield_at"])
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        shares = [units.text(share, "ratio") for share in self.yield_at]
        return {"draws": self.draws, "seed": self.seed, "pictures": self.pictures, "yield_at": shares}


@dataclass(frozen=True)
class Metric:
    """When a draw passes: within ``drop_points`` of nominal, or ``at_least`` a value of its own.

    A point is a hundredth of a metric that is a share (accuracy, miou, kernel-correlation), else one unit of the
    metric; a loss may rise by it.
    """

    kind: MetricKind = "accuracy"
    drop_points: float | None = 2.0
    at_least: float | None = None

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> Metric:
        given = _known_keys("metric", table, cls)
        kind = given.get("kind", "accuracy")
        check_choice("metric.kind", kind, _METRICS)
        if "drop_points" in given and "at_least" in given:
            raise InputError("drop_points and at_least at once", where="metric", mend="write one of the two")
        if "drop_points" in given:
            return cls(kind, _positive("metric.drop_points", given["drop_points"]))
        if "at_least" not in given:
            return cls(kind) if not given else _missing_criterion()
        return cls(kind, None, _least(kind, given["at_least"]))

    def to_dict(self) -> dict[str, Any]:
        if self.at_least is None:
            return {"kind": self.kind, "drop_points": self.drop_points}
        least = units.text(self.at_least, "ratio") if self.kind in _SHARES else self.at_least
        return {"kind": self.kind, "at_least": least}


@dataclass(frozen=True, eq=False)
class Tolerances:
    """How far a bench may be off. Read it with ``load`` or ``from_dict``, which check it.

    Args:
        distributions: name of a field → how it varies.
        correlate: pairs of fields that do not vary independently.
        compensate: what is turned after assembly, in every draw: names of fields, and ``"backend"``.
    """

    name: str = "tolerances"
    distributions: Mapping[str, Distribution] = field(default_factory=dict)
    correlate: tuple[Correlation, ...] = ()
    study: Study = Study()
    metric: Metric = Metric()
    compensate: tuple[str, ...] = ()

    @classmethod
    def load(cls, source: str | Path) -> Tolerances:
        """Read tolerances from a file, or take shipped ones by their name."""
        return cls.from_dict(toml.load(source, _PRESETS, "tolerance")[0], place=str(source))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, place: str = "tolerances") -> Tolerances:
        """Check tolerances given as nested dictionaries of strings with units."""
        try:
            return cls._read(data)
        except InputError as error:
            raise error.within(place, ": ") from None

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> Tolerances:
        if data.get("format") != FORMAT:
            what = f"{data['format']!r} is no tolerance file" if "format" in data else "this is no tolerance file"
            raise InputError(what, where="format", mend=f'its first line is format = "{FORMAT}"')
        for key in data:
            if key not in _KEYS:
                raise InputError("unknown key", where=str(key), mend=nearest(str(key), [*_KEYS]))
        spread = {name: Distribution.read(name, table) for name, table in _fields_of(data).items()}
        return cls(
            name=_name(data.get("name", "tolerances")),
            distributions={name: spread[name] for name in in_order(spread)},
            correlate=read_correlations(data.get("correlate", []), spread),
            study=Study.read(_section(data, "study")),
            metric=Metric.read(_section(data, "metric")),
            compensate=_compensators(_section(data, "compensate")),
        )

    def replace(self, changes: Mapping[str, Any]) -> Tolerances:
        """Tolerances with some keys changed: ``replace({"mask.shift_x.normal": "8 um", "combiner": None})``."""
        data = copy.deepcopy(self.to_dict())
        toml.change(data, changes)
        return Tolerances.from_dict(data, place=self.name)

    def to_dict(self) -> dict[str, Any]:
        """Every value written with its unit, what was left out with its default."""
        data: dict[str, Any] = {"format": FORMAT, "name": self.name}
        if self.correlate:
            data["correlate"] = [one.to_dict() for one in self.correlate]
        data |= {"study": self.study.to_dict(), "metric": self.metric.to_dict()}
        for name, spread in self.distributions.items():
            *sections, last = name.split(".")
            table = data
            for section in sections:
                table = table.setdefault(section, {})
            table[last] = spread.to_dict(name)
        return data | {"compensate": {"allow": list(self.compensate)}}

    def to_toml(self) -> str:
        """As TOML. Reading it back gives equal tolerances."""
        return toml.text(self.to_dict())

    def save(self, path: str | Path) -> None:
        write_whole(path, self.to_toml().encode())

    def fingerprint(self) -> str:
        """SHA-256 of what they say, neither of the file's bytes nor of the name."""
        data = {key: value for key, value in self.to_dict().items() if key != "name"}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tolerances) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def not_applicable(self, bench: Bench) -> dict[str, str]:
        """Fields that have no meaning on a bench, and why."""
        lacking = {name: named(name).lacks(bench) for name in self.distributions}
        return {name: why for name, why in lacking.items() if why}

    def draw(
        self, bench: Bench, count: int, generator: torch.Generator, channels: tuple[int, int] | None = None
    ) -> Imperfections:
        """Random benches: float64 values of all fields that apply, with ``count`` draws.

        Draw i is the same however many follow it. All draws use the same number of random numbers, whatever the
        distributions' sizes.

        Args:
            bench: for its pixels and wavelength, and for what applies.
            count: of draws.
            generator: where all randomness comes from.
            channels: ``(outputs, inputs)`` of the bank, for errors of a combiner.
        """
        count = _whole("count", count, 1, _MOST_DRAWS)
        apart = self.not_applicable(bench)
        here = {name: spread for name, spread in self.distributions.items() if name not in apart}
        shapes = {name: sizes(named(name), bench, channels) for name in here}
        normals, seed = _normals(
            {name: _latent(here[name], name, shapes[name]) for name in here}, count, _checked(generator)
        )
        normals = correlated(normals, self.correlate)
        values = {}
        for name, spread in here.items():
            try:
                value = spread.at(normals[name], named(name), bench)
            except InputError as error:
                raise error.within(name) from None
            values[name] = value.expand(count, *shapes[name])
        return Imperfections(values, (count,), seed)


@lru_cache
def presets() -> tuple[str, ...]:
    """Names of the tolerances that are shipped."""
    return toml.names(_PRESETS)


def _checked(generator: Any) -> torch.Generator:
    if not isinstance(generator, torch.Generator):
        mend = "give torch.Generator().manual_seed(study.seed)"
        raise InputError(f"{generator!r} is no generator", where="generator", mend=mend)
    return generator


def _latent(spread: Distribution, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the numbers that are drawn for it."""
    shared = named(name).components[:1] == ("step",) and spread.together
    return (1, *shape[1:]) if shared else shape


def _normals(
    shapes: Mapping[str, tuple[int, ...]], count: int, generator: torch.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Standard normal numbers ``[count, *shape]`` of each field, and a seed a draw.

    One call a draw: torch fills a long tensor in blocks, so that its last rows depend on how long it is.
    """
    counts = [torch.Size(shape).numel() for shape in shapes.values()]
    place = generator.device
    seeds, rows = [], []
    for _ in range(count):
        seeds.append(torch.randint(2**63 - 1, (), generator=generator, device=place))
        rows.append(torch.randn(sum(counts), generator=generator, device=place, dtype=torch.float64))
    parts = torch.stack(rows).cpu().split_with_sizes(counts, dim=1)
    named_parts = zip(shapes.items(), parts, strict=True) if shapes else ()
    return {n: part.reshape(count, *shape).contiguous() for (n, shape), part in named_parts}, torch.stack(seeds).cpu()


def _fields_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted name → table, as the sections have them."""
    found: dict[str, Any] = {}
    for section in SECTIONS:
        for key, table in _section(data, section).items():
            name = f"{section}.{key}"
            if name == "aberration.zernike":
                if not isinstance(table, Mapping):
                    mend = 'write something like { 4 = { normal = "0.02 waves" } } (Noll index)'
                    raise InputError("Zernike terms are a table", where=name, mend=mend)
                found |= {f"{name}.{index}": term for index, term in table.items()}
            else:
                found[name] = table
    return found


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = data.get(name, {})
    if not isinstance(table, Mapping):
        raise InputError(f"{table!r} is not a section", where=name, mend=f"write [{name}] and its keys below")
    return table


def _known_keys(section: str, table: Mapping[str, Any], model: type[Study] | type[Metric]) -> Mapping[str, Any]:
    known = [one.name for one in fields(model)]
    for key in table:
        if key not in known:
            raise InputError("unknown key", where=f"{section}.{key}", mend=nearest(str(key), known))
    return table


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 100:
        raise InputError(f"{value!r} will not do", where="name", mend="write a short name in quotes")
    return value


def _whole(where: str, value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        mend = f"write a whole number without quotes, {least} … {most}"
        raise InputError(f"{value!r} will not do", where=where, mend=mend)
    return value


def _positive(where: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value < 1e12:
        raise InputError(f"{value!r} will not do", where=where, mend="write a positive number without quotes")
    return float(value)


def _shares(where: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise InputError(f"{value!r} is no list of shares", where=where, mend='write something like ["90 %", "50 %"]')
    try:
        return tuple(units.Quantity("ratio", 0.0, 1.0, "90 %").parse(share) for share in value)
    except InputError as error:
        raise error.within(where) from None


def _least(kind: str, value: Any) -> float:
    where = "metric.at_least"
    if kind == "loss":
        raise InputError("a loss is better when small", where=where, mend="write drop_points, by how much it may rise")
    return _shares(where, [value])[0] if kind in _SHARES else _positive(where, value)


def _missing_criterion() -> Metric:
    raise InputError("nothing says when a draw passes", where="metric", mend="add drop_points = 2.0, or at_least")


def _compensators(table: Mapping[str, Any]) -> tuple[str, ...]:
    for key in table:
        if key != "allow":
            raise InputError("unknown key", where=f"compensate.{key}", mend="known: allow")
    allow = table.get("allow", [])
    where = "compensate.allow"
    if not isinstance(allow, list | tuple) or not all(isinstance(name, str) for name in allow):
        raise InputError(f"{allow!r} is no list of names", where=where, mend='write something like ["camera.shift"]')
    for name in allow:
        if name == "backend":
            continue
        try:
            knob = named(name).knob
        except InputError as error:
            raise InputError(
                "unknown field", where=f"{where}: {name}", mend=nearest(name, [*FIELDS, "backend"])
            ) from error
        if not knob:
            raise InputError("nobody can turn this after assembly", where=f"{where}: {name}", mend="leave it out")
    return cast(tuple[str, ...], tuple(allow))
