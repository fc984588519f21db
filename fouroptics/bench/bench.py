"""One optical bench: a TOML file with units, filled up from presets and calibration, checked and frozen."""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from fouroptics import toml, units
from fouroptics.bench import parts
from fouroptics.devices import lut, material
from fouroptics.devices.layout import Inputs, Outputs, Sharing, share
from fouroptics.errors import InputError
from fouroptics.files import is_file, read_text, write_whole

if TYPE_CHECKING:
    from fouroptics.bench.sampling import SamplingReport

FORMAT = "fouroptics-bench/1"
CALIBRATION_FORMAT = "fouroptics-calibration/1"
_PRESETS = files("fouroptics") / "presets"
_TABLES = (("mask", "lut"), ("mask", "dead"))  # keys that name files which belong to the bench and move with it
_FILES = (*_TABLES, ("calibration", "file"))
_PATHS = (("aberration", "zernike"), ("mask", "wavefront"))  # optical paths, which may be in waves


class Bench(BaseModel):
    """A 4f bench: source, input, lens, mask, lens, camera, and what stands between them. SI floats throughout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str = FORMAT
    name: str = Field("bench", min_length=1, max_length=100)
    source: parts.Source
    input: parts.Input
    lens1: parts.Lens
    mask: parts.Mask
    layout: parts.Layout = parts.Layout()
    stop: parts.Stop | None = None
    aberration: parts.Aberration = parts.Aberration()
    lens2: parts.Lens
    reference: parts.Reference | None = None
    camera: parts.Camera
    link: parts.Link | None = None
    calibration: parts.Calibration = parts.Calibration()
    _given: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def load(cls, source: str | Path) -> Bench:
        """Read a bench from a file, or take a shipped one by its name."""
        data, folder = toml.load(source, _PRESETS / "benches", "bench")
        return cls.from_dict(data, folder=folder, place=str(source))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, folder: str | Path = ".", place: str = "bench") -> Bench:
        """Check a bench given as nested dictionaries of strings with units; paths are relative to ``folder``."""
        try:
            given = _calibrated(_with_absolute_paths(copy.deepcopy(dict(data)), Path(folder)))
            bench = cls.model_validate(_resolved(given))
        except ValidationError as error:
            raise toml.plain(error, cls).within(place, ": ") from None
        except InputError as error:
            raise error.within(place, ": ") from None
        bench._given = given
        return bench

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Bench:
        """A plain copy. Changes go through ``replace``, which checks them."""
        if update:
            raise InputError("a bench is not changed unchecked", mend="use Bench.replace")
        return super().model_copy(deep=deep)

    def __setattr__(self, name: str, value: Any) -> None:
        parts.refuse_change(name)
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bench) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def replace(self, changes: Mapping[str, Any]) -> Bench:
        """A bench with some keys changed: ``bench.replace({"lens1.focal_length": "300 mm", "reference": None})``."""
        given = copy.deepcopy(self._given) or self.to_dict()
        toml.change(given, changes)
        return Bench.from_dict(given, place=self.name)

    def to_dict(self) -> dict[str, Any]:
        """The resolved bench, every value written with its unit; what was left out is left out."""
        return self.model_dump(exclude_none=True)

    def to_toml(self) -> str:
        """The resolved bench as TOML. Reading it back gives an equal bench."""
        return toml.text(self.to_dict())

    def save(self, path: str | Path) -> None:
        """Write the resolved bench; its tables are put beside it, so that they can be moved together."""
        path = Path(path)
        data = self.to_dict()
        for section, key, name in self._tables():
            if lut.is_inside(name):
                continue
            table = Path(name)
            beside = path.with_name(f"{path.stem}-{key}{table.suffix}")
            if beside.resolve() != table.resolve():
                write_whole(beside, table.read_bytes())
            data[section][key] = beside.name
        write_whole(path, toml.text(data).encode())

    def fingerprint(self) -> str:
        """SHA-256 of what the bench is: its values and its tables' content, neither its file's bytes nor its name."""
        data = self.to_dict()
        data.pop("name")
        if self.reference is not None and self.reference.captures == 2:  # a later key, where it says what always was
            data["reference"].pop("captures")
        if not self.mask.correct_aberration:
            data["mask"].pop("correct_aberration")
        for section, key, table in self._tables():
            data[section][key] = hashlib.sha256(lut.text_of(table).encode()).hexdigest()
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def standing_alone(self) -> Bench:
        """The same bench with its tables inside, so that it needs no file beside it."""
        inside = {f"{section}.{key}": lut.text_of(table) for section, key, table in self._tables()}
        return self.replace(inside) if inside else self

    def _tables(self) -> Iterator[tuple[str, str, str]]:
        """The tables that this bench has: section, key, file or text."""
        for section, key in _TABLES:
            name = getattr(getattr(self, section), key)
            if name:
                yield section, key, name

    @model_validator(mode="after")
    def _knows_its_glasses(self) -> Bench:
        """Indices must be known at the laser's wavelength."""
        wavelength, table = self.source.wavelength, self.mask.index
        if table and len(table) > 1 and not min(table) <= wavelength <= max(table):
            what = f"the table does not reach the laser's {units.show(wavelength, 'length')}"
            raise InputError(what, where="mask.index", mend="add the index at the laser's wavelength")
        for where, name in (("mask.material", self.mask.material), *self._lens_glasses()):
            try:
                material.index(name or "air", wavelength)
            except InputError as error:
                raise InputError(error.what, where=where, mend=error.mend) from None
        self._check_step()
        return self

    def _check_step(self) -> None:
        """A plate's steps that are deeper than a wave delays."""
        medium, depth = self.mask.medium, self.mask.step_depth
        if depth is None or medium is None or self.mask.levels is None:
            return
        turn = self.source.wavelength / (float(material.index(medium, self.source.wavelength)) - 1)
        if depth > turn:
            even = units.text(turn / self.mask.levels, "length")
            what = f"a step delays by {depth / turn:.3g} turns, and a whole turn is every level's"
            raise InputError(what, where="mask.step_depth", mend=f'even steps of a turn are "{even}"')

    def _lens_glasses(self) -> Iterator[tuple[str, str | None]]:
        yield "lens1.glass", self.lens1.glass
        yield "lens2.glass", self.lens2.glass

    @property
    def guard_samples(self) -> int:
        """Dark picture samples on each side of a picture."""
        return int(self.layout.guard / self.input.sample + 1e-6)

    def share(
        self,
        size: tuple[int, int],
        channels: tuple[int, int],
        *,
        inputs: Inputs | None = None,
        outputs: Outputs | None = None,
        band: tuple[int, int] | None = None,
    ) -> Sharing:
        """How a bank ``(outputs, inputs)`` of pictures of ``size``, cut to ``band``, is arranged on this bench."""
        panel = (
            self.input.pixels[1] // self.input.super_pixel,
            self.input.pixels[0] // self.input.super_pixel,
        )
        ways = (inputs or self.layout.inputs, outputs or self.layout.outputs)
        kept = [b / s for b, s in zip(band or size, size, strict=True)]
        magnified = self.input.sample * self.lens2.focal_length / self.lens1.focal_length
        sensor = [int(side / magnified + 1e-6) for side in self.camera.extent]
        return share(
            *ways,
            channels,
            size,
            self.guard_samples,
            panel,
            sensor=(sensor[0], sensor[1]),
            mask=self.mask.extent,
            band=(kept[0], kept[1]),
        )

    def choose_layout(
        self,
        size: tuple[int, int],
        kernel: int | tuple[int, int],
        channels: tuple[int, int],
        *,
        band: tuple[int, int] | None = None,
    ) -> tuple[Inputs, Outputs, str]:
        """The layout that carries such a bank best on these parts, and why in one sentence.

        Raises:
            InputError: none does; it says by how much the nearest one fails, and what would mend that.
        """
        from fouroptics.bench.arrange import choose_layout
        from fouroptics.bench.quantities import Load

        return choose_layout(self, Load.checked(size, kernel, band, channels))

    def sampling(
        self,
        size: tuple[int, int] = (64, 64),
        kernel: int | tuple[int, int] = 7,
        band: tuple[int, int] | None = None,
        channels: tuple[int, int] = (16, 3),
    ) -> SamplingReport:
        """Can this bench carry such a bank? See ``fouroptics.bench.sampling``.

        Args:
            size: samples of a picture ``(height, width)``.
            kernel: taps, one number or ``(height, width)``.
            band: samples of the picture that is kept (the stop as pooling); None keeps all.
            channels: ``(outputs, inputs)``.
        """
        from fouroptics.bench.quantities import Load
        from fouroptics.bench.sampling import report

        return report(self, Load.checked(size, kernel, band, channels))


@lru_cache
def presets() -> tuple[str, ...]:
    """Names of the benches that are shipped."""
    return toml.names(_PRESETS / "benches")


@lru_cache
def _part_presets() -> dict[str, dict[str, dict[str, Any]]]:
    return toml.parse(_PRESETS.joinpath("parts.toml").read_text(encoding="utf-8"), "parts.toml")


def named_files(data: Mapping[str, Any]) -> list[str]:
    """Keys of a bench's data that name files beside it; one that stands alone has none."""
    found = []
    for section, key in _FILES:
        table = data.get(section)
        name = table.get(key) if isinstance(table, Mapping) else None
        if name and not (isinstance(name, str) and lut.is_inside(name)):
            found.append(f"{section}.{key}")
    return found


def _with_absolute_paths(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    for section, key in _FILES:
        table = data.get(section)
        name = table.get(key) if isinstance(table, dict) else None
        if isinstance(table, dict) and isinstance(name, str) and name and not lut.is_inside(name):
            path = (folder / name).resolve()
            if not is_file(path):
                mend = "paths are relative to the bench's file"
                raise InputError(f"there is no file {name!r}", where=f"{section}.{key}", mend=mend)
            data[section] = table | {key: path.as_posix()}
    return data


def _resolved(given: dict[str, Any]) -> dict[str, Any]:
    """Fill sections up from their presets, and turn waves into metres."""
    if given.get("format") != FORMAT:
        what = f"{given['format']!r} is not a bench" if "format" in given else "this is not a bench file"
        raise InputError(what, where="format", mend=f'its first line is format = "{FORMAT}"')
    for section in given:
        if section not in Bench.model_fields:
            raise InputError("unknown key", where=section, mend=toml.nearest_key((section,), Bench))
    return _waves_as_lengths({section: _filled(section, value) for section, value in given.items()})


def _filled(section: str, value: Any) -> Any:
    if not isinstance(value, dict) or not value.get("preset"):
        return value
    known = _part_presets().get(section, {})
    if value["preset"] not in known:
        near = difflib.get_close_matches(str(value["preset"]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"presets: {', '.join(known) or 'none for this part'}"
        raise InputError(f"no preset {value['preset']!r}", where=f"{section}.preset", mend=hint)
    preset = known[value["preset"]]
    if "index" in value:
        preset = {key: kept for key, kept in preset.items() if key != "material"}  # one's own index beats the preset's
    return preset | value


def _calibrated(given: dict[str, Any]) -> dict[str, Any]:
    """Lay measured values over the nominal ones, once: from then on they are the bench's own, and can be replaced."""
    calibration = given.get("calibration")
    if not isinstance(calibration, dict) or not calibration.get("file"):
        return given
    file = Path(calibration["file"])
    measured = toml.parse(read_text(file), file.name)
    if measured.pop("format", None) != CALIBRATION_FORMAT:
        raise InputError(
            f"{file.name} is not a calibration",
            where="calibration.file",
            mend=f"its format is {CALIBRATION_FORMAT!r}",
        )
    for section, table in measured.items():
        nominal = given.get(section, {})
        if section not in Bench.model_fields or not isinstance(table, dict) or not isinstance(nominal, dict):
            raise InputError(f"{section!r} is not a part of a bench", where=f"calibration.file: {file.name}")
        given[section] = nominal | table
    given["calibration"] = {}
    return given


def _waves_as_lengths(data: dict[str, Any]) -> dict[str, Any]:
    source = data.get("source")
    for section, key in _PATHS:
        part = data.get(section)
        terms = part.get(key) if isinstance(part, dict) else None
        if isinstance(part, dict) and isinstance(terms, dict) and isinstance(source, dict) and _has_waves(terms):
            lengths = _lengths(terms, units.parse(source.get("wavelength"), "length"), f"{section}.{key}")
            data = data | {section: part | {key: lengths}}
    return data


def _has_waves(terms: dict[str, Any]) -> bool:
    return any(isinstance(path, str) and path.endswith(" waves") for path in terms.values())


def _lengths(terms: dict[str, Any], wavelength: float, where: str) -> dict[str, str]:
    lengths = {}
    for index, path in terms.items():
        try:
            lengths[index] = units.text(units.parse(path, "optical path", wavelength=wavelength), "optical path")
        except InputError as error:
            raise error.within(f"{where}.{index}") from None
    return lengths
