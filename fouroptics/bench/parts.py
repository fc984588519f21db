"""The parts of a bench as checked, frozen values: SI floats inside, strings with units at the door."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from fouroptics.devices.lut import Lut, read_dead, read_lut
from fouroptics.devices.material import Material
from fouroptics.errors import InputError
from fouroptics.units import Quantity


def _pixels(value: Any) -> tuple[int, int]:
    """``[x, y]`` of a panel; nothing larger than a million a side is sold."""
    pair = tuple(value) if isinstance(value, list | tuple) else ()
    if len(pair) != 2 or not all(type(n) is int and 1 <= n <= 1_000_000 for n in pair):
        raise InputError(f"{value!r} is not a pixel count [x, y]", mend="write something like [1920, 1080]")
    return pair[0], pair[1]


_WAVELENGTH = Quantity("length", 100e-9, 20e-6, "532 nm")
Wavelength = Annotated[float, _WAVELENGTH]
Pitch = Annotated[float, Quantity("length", 50e-9, 1e-3, "8 um")]
Blur = Annotated[float, Quantity("length", 0.0, 1e-3, "1.5 um")]
Aperture = Annotated[float, Quantity("length", 1e-6, 10.0, "25 mm")]
Guard = Annotated[float, Quantity("length", 0.0, 1.0, "192 um")]
Focal = Annotated[float, Quantity("length", 10e-6, 100.0, "250 mm")]
Power = Annotated[float, Quantity("power", 1e-12, 1e3, "5 mW")]
Depth = Annotated[float, Quantity("length", 0.1e-9, 100e-6, "72.2 nm")]
Irradiance = Annotated[float, Quantity("irradiance", 1e-3, 1e12, "2 W/cm^2")]
Share = Annotated[float, Quantity("ratio", 1e-6, 1.0, "93 %")]
Fraction = Annotated[float, Quantity("ratio", 0.0, 1.0, "0.6 %")]
ReferenceShare = Annotated[float, Quantity("ratio", 1e-6, 0.999, "10 %")]
Angle = Annotated[float, Quantity("angle", 0.0, 100.0, "0.02 rad")]
Flicker = Annotated[float, Quantity("angle", 0.0, 1.6, "0.03 rad")]
PhaseRange = Annotated[float, Quantity("angle", 0.0, 50.0, "6.283 rad")]
PanelPath = Annotated[float, Quantity("optical path", -20e-6, 20e-6, "80 nm")]
Rate = Annotated[float, Quantity("rate", 1e-3, 1e9, "60 Hz")]
Settle = Annotated[float, Quantity("time", 0.0, 100.0, "12 ms")]
Exposure = Annotated[float, Quantity("time", 1e-9, 1e4, "100 us")]
DataRate = Annotated[float, Quantity("data rate", 1.0, 1e15, "2.5 Gbit/s")]
Path = Annotated[float, Quantity("optical path", -1e-3, 1e-3, "10 nm")]

Place = Annotated[float, Quantity("length", -1.0, 1.0, "4 um")]


def _place(value: Any) -> tuple[Any, Any]:
    """``[x, y]`` of a displacement, two lengths."""
    pair = tuple(value) if isinstance(value, list | tuple) else ()
    if len(pair) != 2:
        raise InputError(f"{value!r} is not a displacement [x, y]", mend='write something like ["4 um", "0 um"]')
    return pair[0], pair[1]


Pixels = Annotated[tuple[int, int], BeforeValidator(_pixels)]


def refuse_change(name: str) -> None:
    """A bench is a value: a changed one is another one."""
    if not name.startswith("_"):
        mend = 'use bench.replace({"lens1.focal_length": "300 mm"})'
        raise InputError("a bench is not changed in place", where=name, mend=mend)


def _or_word(quantity: Quantity, word: str) -> Any:
    """A quantity, or one word that stands for a value worked out later."""

    def read(value: Any) -> Any:
        if value == word:
            return value
        try:
            return quantity.parse(value)
        except InputError as error:
            raise InputError(error.what, mend=f"{error.mend}, or {word!r}") from None

    return BeforeValidator(read), PlainSerializer(lambda value: value if value == word else quantity.text(value))


def _zernike(value: Any) -> Any:
    if not isinstance(value, dict):
        raise InputError("Zernike terms are a table", mend='write something like { 4 = "10 nm" } (Noll index)')
    terms: dict[int, Any] = {}
    for key, path in value.items():
        index = str(key)
        if not (index.isascii() and index.isdigit() and 1 <= int(index) <= 1000):
            raise InputError(f"{key!r} is not a Noll index", mend="write 4 for defocus, 11 for spherical")
        terms[int(index)] = path
    return terms


def _index_table(value: Any) -> dict[float, float]:
    """``{ "532 nm" = 1.4607 }``: wavelength [m] → refractive index."""
    example = 'write something like { "532 nm" = 1.4607, "633 nm" = 1.457 }'
    if not isinstance(value, dict) or not value:
        raise InputError(f"{value!r} is not a table of the index", mend=example)
    table: dict[float, float] = {}
    for key, n in value.items():
        wavelength = key if isinstance(key, float) else _WAVELENGTH.parse(key)
        if isinstance(n, bool) or not isinstance(n, int | float) or not 1 < n <= 10:
            raise InputError(f"{n!r} is not a refractive index", mend=f"{example}, each above 1")
        if wavelength in table:
            raise InputError(f"{key!r} is listed twice", mend="keep one of the two")
        table[wavelength] = float(n)
    return dict(sorted(table.items()))


def _index_text(table: dict[float, float] | None) -> dict[str, float] | None:
    return None if table is None else {_WAVELENGTH.text(wavelength): n for wavelength, n in table.items()}


Zernike = Annotated[dict[int, Path], BeforeValidator(_zernike)]  # Noll index → rms optical path [m]
PanelZernike = Annotated[dict[int, PanelPath], BeforeValidator(_zernike)]
IndexTable = Annotated[dict[float, float], BeforeValidator(_index_table), PlainSerializer(_index_text)]


class Part(BaseModel):
    """One section of the file. Values are read only; ``Bench.replace`` makes a changed bench."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def __setattr__(self, name: str, value: Any) -> None:
        refuse_change(name)
        super().__setattr__(name, value)


class Source(Part):
    """The laser: ``waist`` is the 1/e² radius on the input modulator; without it the panel is lit evenly."""

    wavelength: Wavelength
    power: Power
    waist: Aperture | None = None


class Input(Part):
    """The modulator that the picture is written on."""

    preset: str = ""
    pitch: Pitch
    pixels: Pixels
    super_pixel: int = Field(1, ge=1, le=1024)
    fill_factor: Share = 1.0
    encoding: Literal["amplitude", "sqrt"] = "amplitude"
    transmission: Share = 1.0
    settle: Settle = 0.0

    @property
    def sample(self) -> float:
        """Pitch of one picture sample [m]."""
        return self.pitch * self.super_pixel

    @property
    def extent(self) -> tuple[float, float]:
        """Active area (y, x) [m]."""
        return self.pixels[1] * self.pitch, self.pixels[0] * self.pitch


Glass = Literal["fused-silica", "n-bk7"]


class Lens(Part):
    """A thin lens; ``pupil`` is its clear diameter, unlimited if left out.

    ``glass`` makes it a single lens, whose focal length follows the wavelength; left out: an achromat.
    """

    focal_length: Focal
    pupil: Aperture | None = None
    glass: Glass | None = None


MaskKind = Literal[
    "phase_slm", "multilevel_phase", "binary_amplitude", "grey_amplitude", "dmd", "metasurface", "complex"
]
Encoding = Literal["ideal", "phase", "double-phase", "fit", "carrier", "lee"]

_LEVELLED = ("phase_slm", "multilevel_phase", "binary_amplitude", "grey_amplitude", "dmd")
_CHANGING = ("phase_slm", "grey_amplitude", "dmd", "complex")
_ONLY_OF = {  # keys that some kinds of mask have
    "material": ("multilevel_phase",),
    "index": ("multilevel_phase",),
    "step_depth": ("multilevel_phase",),
    "phase_range": ("phase_slm",),
    "crosstalk": ("phase_slm",),
    "flicker": ("phase_slm",),
    "frame_rate": _CHANGING,
    "settle": _CHANGING,
}
_MOST_TURNS = 8  # that a measured table may run over: beyond, it is in degrees
_STEADY = {  # the column of a look-up table that may not turn back
    "phase_slm": "phase_rad",
    "multilevel_phase": "phase_rad",
    "metasurface": "phase_rad",
    "grey_amplitude": "transmittance",
    "binary_amplitude": "transmittance",
    "dmd": "transmittance",
}


class Mask(Part):
    """The device in the Fourier plane. ``frame_rate`` left out: it does not change."""

    preset: str = ""
    kind: MaskKind
    levels: int | None = Field(None, ge=2, le=65536)
    pitch: Pitch
    pixels: Pixels
    fill_factor: Share = 1.0
    leak: Fraction = 0.0
    dead: str = ""
    lut: str = ""
    lut_applied_by: Literal["file", "controller"] = "file"
    phase_range: PhaseRange | None = None
    crosstalk: Blur = 0.0
    flicker: Flicker = 0.0
    wavefront: PanelZernike = Field(default_factory=dict)
    material: Glass | None = None
    index: IndexTable | None = None
    step_depth: Depth | None = None
    dc_block: Aperture | None = None
    frame_rate: Rate | None = None
    settle: Settle = 0.0
    transmission: Share = 1.0
    max_irradiance: Irradiance | None = None
    encoding: Encoding
    overdrive: float | None = Field(None, ge=0.1, le=10)
    precompensate: bool = False
    correct_aberration: bool = False

    @property
    def extent(self) -> tuple[float, float]:
        """Active area (y, x) [m]."""
        return self.pixels[1] * self.pitch, self.pixels[0] * self.pitch

    @property
    def asked(self) -> float:
        """The largest |t| that is asked for, of which 1 can be had: a searched phase has room for twice as much."""
        return self.overdrive or (2.0 if self.encoding == "fit" else 1.0)

    @property
    def medium(self) -> Material | None:
        """What a plate is made of, for ``devices.material.index``: its own table, or a glass's name."""
        return self.index or self.material

    @property
    def table(self) -> Lut | None:
        """The look-up table, read anew."""
        return read_lut(self.lut, monotonic=_STEADY.get(self.kind, "")) if self.lut else None

    @property
    def stuck(self) -> list[tuple[int, int, int]]:
        """Stuck pixels (x, y, level), read anew."""
        table = self.table if self.levels is None else None
        levels = self.levels if table is None else len(table)
        return read_dead(self.dead, pixels=self.pixels, levels=levels) if self.dead else []

    @model_validator(mode="after")
    def _is_one_that_exists(self) -> Mask:
        self._check_levels()
        self._check_keys_of_its_kind()
        self._check_tables()
        if self.dc_block is not None and self.dc_block >= min(self.extent):
            raise InputError("the spot covers the whole mask", where="dc_block", mend='such as "100 um"')
        return self

    def _check_levels(self) -> None:
        if self.kind in ("binary_amplitude", "dmd") and self.levels not in (None, 2):
            raise InputError(f"a {self.kind} mask has two levels, not {self.levels}", where="levels", mend="write 2")
        if self.kind in _LEVELLED and self.levels is None:
            mend = "write how many it shows, such as 256, or name a preset that has it"
            raise InputError(f"a {self.kind} mask has levels", where="levels", mend=mend)

    def _check_keys_of_its_kind(self) -> None:
        foreign = [key for key, kinds in _ONLY_OF.items() if getattr(self, key) and self.kind not in kinds]
        if foreign:
            what = f"a {self.kind} mask has none, only {', '.join(_ONLY_OF[foreign[0]])}"
            mend = "leave it out" if len(foreign) == 1 else f"leave out {', '.join(foreign)}"
            raise InputError(what, where=foreign[0], mend=mend)
        if self.material is not None and self.index is not None:
            raise InputError("the material is given too", where="index", mend="keep one of the two")
        if self.step_depth is not None and self.medium is None:
            raise InputError("what a step delays depends on the plate", where="step_depth", mend="add a material")
        if self.phase_range == 0:
            raise InputError("a mask without a range shows nothing", where="phase_range", mend='such as "6.283 rad"')

    def _check_tables(self) -> None:
        if self.kind == "metasurface" and not self.lut and self.encoding != "ideal":
            mend = "name a file with columns drive (the cell's number), phase_rad, transmittance"
            raise InputError("a metasurface shows what its cells do", where="lut", mend=mend)
        if self.lut and self.kind == "complex":
            raise InputError("an ideal mask has no table", where="lut", mend="leave it out")
        if self.dead and self.levels is None and not self.lut:
            raise InputError("stuck pixels need a mask of levels", where="dead", mend="write how many levels it has")
        table = _told_in("lut", lambda: self.table)
        _told_in("dead", lambda: self.stuck)
        if table is not None:
            _check_rows(table, self.levels, whole=self.kind == "metasurface")
            _check_radians(table)


def _told_in(key: str, read: Callable[[], Any]) -> Any:
    """A fault of a table beside the bench, told as one of the key that names it; the file without its folder."""
    try:
        return read()
    except InputError as error:
        file, _, line = error.where.rpartition(": line ")
        place = f"{PurePath(file or error.where).name}{': line ' + line if file else ''}"
        raise InputError(f"{place}: {error.what}", where=key, mend=error.mend) from None


def _check_rows(table: Lut, levels: int | None, *, whole: bool) -> None:
    """One row a level, numbered from 0; or fewer, between which lines are drawn, from level 0 to the last."""
    rows, ends = len(table), (table.drive[0], table.drive[-1])
    counted = all(drive == number for number, drive in enumerate(table.drive))
    levels = rows if levels is None else levels
    if rows > levels or (rows < levels and (whole or counted)):
        raise InputError(f"the table has {rows} rows, the mask {levels} levels", where="lut", mend=f"levels = {rows}")
    if [*ends] != [0, levels - 1] or (rows == levels and not counted):
        what = f"its {rows} drives run from {ends[0]:g} to {ends[1]:g} and the mask's levels from 0 to {levels - 1}"
        mend = "a drive is the level that is set, a whole number; begin with level 0 and end with the last"
        raise InputError(what, where="lut", mend=mend)


def _check_radians(table: Lut) -> None:
    turns = (max(table.phase) - min(table.phase)) / (2 * math.pi)
    if turns > _MOST_TURNS:
        what = f"its phases run over {turns * 2 * math.pi:.4g} rad, {turns:.3g} turns"
        raise InputError(what, where="lut", mend="phase_rad is in radians: divide degrees by 57.3")


class Layout(Part):
    """How channels share the bench; ``guard`` is the dark border round each picture."""

    inputs: Literal["tiled", "lenslet", "frames"] = "tiled"
    outputs: Literal["frames", "tiled", "lenslet"] = "frames"
    guard: Guard = 0.0


class Stop(Part):
    """The opening in the Fourier plane; ``"band"`` is as wide as the band that is kept."""

    shape: Literal["square", "circular"] = "square"
    size: Annotated[float | Literal["band"], *_or_word(Quantity("length", 1e-6, 10.0, "8 mm"), "band")]


class Aberration(Part):
    """The sum of both lenses' errors at the Fourier plane: Noll index → rms optical path [m] over a disc.

    Its ``diameter`` left out: the circle round the stop's opening, or round the band where there is no stop.
    """

    zernike: Zernike = Field(default_factory=dict)
    diameter: Aperture | None = None


class Reference(Part):
    """The beam that a homodyne or interference readout adds, split off the laser and as wide as the light.

    Homodyne takes the difference of two ``captures`` half a wave apart, or one less what the beam gives alone. The
    beam's own phase steps between them, and has settled after ``settle``; left out, the mask modulator makes the step.
    ``phase`` is where it stands, against the light of a pupil without errors; left out, 0.
    """

    power_ratio: ReferenceShare
    captures: Literal[1, 2] = 2
    settle: Settle | None = None
    phase: Angle | None = None
    phase_step_error: Angle = 0.0
    visibility: Fraction = 1.0


class Camera(Part):
    """The sensor, in electrons and DN; ``bin`` pixels each way are summed as charge before the ADC.

    Its window is centred on the response, and stands off that by ``offset`` ``[x, y]``.
    """

    preset: str = ""
    pitch: Pitch
    pixels: Pixels
    fill_factor: Share = 1.0
    bin: int = Field(1, ge=1, le=1024)
    exposure: Annotated[float | Literal["auto"], *_or_word(Quantity("time", 1e-9, 1e4, "100 us"), "auto")] = "auto"
    qe: Share
    full_well: float = Field(gt=0, le=1e9, allow_inf_nan=False)
    read_noise: float = Field(0.0, ge=0, le=1e6, allow_inf_nan=False)
    dark_current: float = Field(0.0, ge=0, le=1e12, allow_inf_nan=False)
    gain: float = Field(gt=0, le=1e6, allow_inf_nan=False)
    adc_bits: int = Field(ge=1, le=32)
    prnu: Fraction = 0.0
    dsnu: float = Field(0.0, ge=0, le=1e6, allow_inf_nan=False)
    black_level: float = Field(0.0, ge=0, le=1e9, allow_inf_nan=False)
    offset: Annotated[tuple[Place, Place], BeforeValidator(_place)] = (0.0, 0.0)
    frame_rate: Rate

    @property
    def extent(self) -> tuple[float, float]:
        """Active area (y, x) [m]."""
        return self.pixels[1] * self.pitch, self.pixels[0] * self.pitch

    @model_validator(mode="after")
    def _leaves_room_above_black(self) -> Camera:
        if self.black_level >= (1 << self.adc_bits) - 1:
            what = f"a black level of {self.black_level:g} DN leaves nothing of {self.adc_bits} bits"
            raise InputError(what, where="black_level", mend=f"less than {(1 << self.adc_bits) - 1}")
        return self


class Link(Part):
    """The wire between camera and computer; ``overhead`` is spent on every transfer."""

    rate: DataRate
    overhead: Settle = 0.0


class Calibration(Part):
    """A file of measured values that stand in for the nominal ones; empty: nominal."""

    file: str = ""
