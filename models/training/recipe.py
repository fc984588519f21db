"""A recipe: what is learned from, who teaches, what the student is, and how it is trained. A TOML file."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from fouroptics.models.training.augment import Augmentation
from fouroptics.models.training.distill import LOSSES
from fouroptics.models.training.readers import READERS
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fouroptics import toml, units
from fouroptics.bench import Bench
from fouroptics.devices.readout import Compand, Readout
from fouroptics.errors import InputError, check_choice
from fouroptics.files import write_whole
from fouroptics.imperfections import Tolerances

FORMAT = "fouroptics-recipe/1"
_PRESETS = files("fouroptics") / "presets" / "recipes"
Pair = tuple[int, int]
_PATHS = (("data", "path"), ("teacher", "weights"))
_LATER = {
    "optics": "folded",
    "batch": 0,
    "detect": "last",
    "divisive": 0.0,
    "on": "bench",
    "ema": 0.0,
    "views": 0,
    "alpha": 1.0,
    "beta": 8.0,
    "pooling": "mean",
    "oversample": 1,
    "correct_aberration": False,
}
_ROAD = ("student", "light", "bench")  # where stages take place, in their order
# Of a ladder, in their order: from the teacher down to the masks of a file.
RUNGS = (
    "teacher", "student", "folded", "guard", "tuned", "light", "masks", "quantized", "noise", "misaligned", "file",
)  # fmt: skip


def _standing_anywhere(recipe: Recipe) -> Recipe:
    """A recipe that is written elsewhere: its paths begin at the root, or at somebody's home."""
    changes: dict[str, Any] = {"trained": recipe.trained and str(Path(recipe.trained).expanduser().absolute())}
    for section, key in _PATHS:
        before = getattr(recipe, section)
        changes[section] = before.model_copy(update={key: _from_root(getattr(before, key))})
    return recipe.model_copy(update=changes)


def _from_root(path: str) -> str:
    return str(Path(path).absolute()) if path and not path.startswith("~") else path


def _is_newer(told: object) -> bool:
    """Whether a format is one of ours, with a higher number."""
    name, _, number = str(told).partition("/")
    return name == FORMAT.partition("/")[0] and number.isdecimal() and int(number) > 1


def _share(value: Any) -> float:
    share = units.parse(value, "ratio") if isinstance(value, str) else float(value)
    if not 0 <= share < 1:
        raise InputError(f"{value!r} is no share", mend='write "10 %"')
    return share


def _sides(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


Share = Annotated[float, BeforeValidator(_share), PlainSerializer(lambda share: units.text(share, "ratio"))]
Sides = Annotated[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], BeforeValidator(_sides)]
Rate = Annotated[float, Field(gt=0, le=100)]
Count = Annotated[int, Field(ge=1)]
Some = Annotated[int, Field(ge=0, lt=2**63)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_switch(cls, value: Any, info: ValidationInfo) -> Any:
        """True is no 1: a number that was left out of ``--set`` is missed."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise InputError(f"{value!r} is neither a number nor a word", where=str(info.field_name))
        return value


class DataSection(Section):
    """The pictures."""

    reader: str = "shapes"
    path: str = ""
    size: Sides = (32, 32)
    guard: Some | None = None
    channels: Literal["rgb", "grey"] = "rgb"
    validation: Share = 0.1
    test: Share = 0.1
    split_seed: Some = 0
    strict: bool = False
    augment: tuple[str, ...] = ()
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_known(self) -> DataSection:
        check_choice("reader", self.reader, (*READERS, "shapes"))
        Augmentation(self.augment)
        return self


class TeacherSection(Section):
    """Who teaches."""

    model: Literal["alexnet", "small-cnn", "quick-cnn", "unet", "released"] = "small-cnn"
    widths: tuple[Count, ...] = ()
    hidden: Count = 4096
    weights: str = ""
    epochs: Count = 30
    lr: Rate = 2e-3
    batch: Some = 0
    optimiser: Literal["adamw", "sgd", "nesterov"] = "adamw"
    schedule: Literal["warmup-cosine", "one-cycle", "exponential"] = "one-cycle"
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class BackendSection(Section):
    """Electronics behind the readings."""

    kind: Literal["fc", "conv", "up"] = "fc"
    hidden: tuple[Count, ...] = ()
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _has_what_it_says(self) -> BackendSection:
        if self.dropout and self.kind != "fc":
            raise InputError(f"{self.kind!r} has no dropout", where="dropout", mend='kind = "fc", or leave it out')
        return self


class StudentSection(Section):
    """The linear student, or what it is compared with."""

    model: Literal["sclc", "released", "max-pool", "squared", "backend-only"] = "sclc"
    like: Literal["", "teacher"] = ""
    optics: Literal["folded", "cascade"] = "folded"
    channels: tuple[Count, ...] = (3, 128)
    kernel: Literal["full"] | Count | tuple[Count, ...] = 7
    crops: tuple[Some, ...] = ()
    sensor_pool: Sides | None = None
    readout: Readout
    compand: Compand = "none"
    reference: Annotated[float, Field(gt=0)] = 1.0
    divisive: Annotated[float, Field(ge=0, le=100)] = 0.0
    pooling: Literal["mean", "max"] = "mean"
    is_complex: bool = False
    detect: Literal["last", "each"] = "last"
    parameters: Literal["deep", "plane"] = "deep"
    backend: BackendSection = BackendSection()
    initial: Literal["random", "patches"] = "random"


class RateSection(Section):
    """Steps of the optimiser for masks and for electronics."""

    optics: Rate = 1e-3
    electronics: Rate = 1e-3


class TrainSection(Section):
    """The loop."""

    epochs: Count = 20
    batch: Count = 128
    accumulate: Count = 1
    optimiser: Literal["adamw", "sgd-paper", "nesterov"] = "adamw"
    lr: RateSection = RateSection()
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    schedule: Literal["warmup-cosine", "one-cycle", "exponential"] = "one-cycle"
    clip: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    patience: Some = 0
    amp: bool = False
    tensorboard: bool = False


class DistillSection(Section):
    """What the student is told of its teacher."""

    loss: str = "kd"
    hard_weight: Annotated[float, Field(ge=0, le=1)] = 0.1
    temperature: Annotated[float, Field(gt=0)] = 4.0
    views: Some = 0
    alpha: Annotated[float, Field(ge=0)] = 1.0
    beta: Annotated[float, Field(ge=0)] = 8.0
    also_without: bool = True

    @model_validator(mode="after")
    def _is_known(self) -> DistillSection:
        check_choice("loss", self.loss, ("none", *LOSSES))
        return self


class StageSection(Section):
    """Fine-tuning on the bench: what its masks, its noise and its errors do is learned around."""

    name: Annotated[str, Field(pattern=r"[a-zA-Z0-9][a-zA-Z0-9 _-]{0,39}$")]
    on: Literal["bench", "light", "student"] = "bench"
    epochs: Count = 1
    pictures: Some = 0
    batch: Some = 0
    quantize: Literal["straight-through", "soft", "gumbel", "none"] = "straight-through"
    noise: bool = False
    tolerances: str = ""
    draws: Count = 1
    learn: tuple[Literal["kernels", "masks", "backend"], ...] = ("masks", "backend")
    lr: RateSection = RateSection()

    @model_validator(mode="after")
    def _is_one_way(self) -> StageSection:
        if {"kernels", "masks"} <= set(self.learn):
            raise InputError("masks follow kernels, or are learned themselves", where="learn", mend="one of the two")
        if not self.learn:
            raise InputError("nothing is learned", where="learn", mend='["backend"], or with "kernels" or "masks"')
        if self.on == "student":
            if not self.noise or self.tolerances or "masks" in self.learn or self.quantize != "straight-through":
                what = "a student has no masks yet, and meets the noise of its readings only"
                raise InputError(
                    what, where="on", mend='noise = true, learn of "kernels" and "backend", or on = "bench"'
                )
            return self
        if self.on == "light" and ("masks" in self.learn or self.quantize != "straight-through"):
            what = "ideal masks have neither pixels nor levels"
            raise InputError(what, where="on", mend='learn of "kernels" and "backend", or on = "bench"')
        if self.learn == ("backend",) and self.quantize != "straight-through":
            mend = 'leave it out, or learn "kernels" or "masks"'
            raise InputError("electronics are tuned to the levels that are shown", where="quantize", mend=mend)
        return self


class EvaluateSection(Section):
    """What is measured behind it all."""

    rungs: Literal["all"] | tuple[str, ...] = "all"
    draws: Some = 32
    pictures: Some = 1000
    tolerances: str = "lab-bench"
    controls: tuple[Literal["optics-off", "random-kernels", "electronic-same-backend", "ridge"], ...] = ()

    @model_validator(mode="after")
    def _is_known(self) -> EvaluateSection:
        if not self.rungs:
            raise InputError("no rung", where="rungs", mend='"all", or ["student", "quantized"]')
        for rung in () if self.rungs == "all" else self.rungs:
            check_choice("rungs", rung, RUNGS)
        return self


class Recipe(Section):
    """All of it. Read it with ``load`` or ``from_dict``, which check it."""

    format: str = FORMAT
    name: str = Field("recipe", min_length=1, max_length=100)
    seeds: tuple[Some, ...] = (0,)
    device: str = "auto"
    bench: str = ""
    encoding: str = ""
    inputs: Literal["", "tiled", "lenslet", "frames"] = ""
    correct_aberration: bool = False
    oversample: Annotated[int, Field(ge=1, le=64)] = 1
    trained: str = ""
    data: DataSection = DataSection()
    teacher: TeacherSection = TeacherSection()
    student: StudentSection
    train: TrainSection = TrainSection()
    distill: DistillSection = DistillSection()
    stage: tuple[StageSection, ...] = ()
    evaluate: EvaluateSection = EvaluateSection()

    @classmethod
    def load(cls, source: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
        """Read a recipe from a file, or take a shipped one by its name; dotted keys change it."""
        data, folder = toml.load(source, _PRESETS, "recipe")
        data = copy.deepcopy(data)
        if data.get("trained") and isinstance(data["trained"], str):
            data["trained"] = str((folder / Path(data["trained"]).expanduser()).absolute())
        for section, key in _PATHS:
            given = data.get(section, {}).get(key, "") if isinstance(data.get(section, {}), dict) else ""
            if given and isinstance(given, str):
                data[section][key] = str((folder / Path(given).expanduser()).absolute())
        stages = data.get("stage", [])
        beside = [(data, "bench"), (data.get("evaluate", {}), "tolerances")]
        beside += [(stage, "tolerances") for stage in stages] if isinstance(stages, list) else []
        for table, key in beside:
            given = table.get(key, "") if isinstance(table, dict) else ""
            if isinstance(given, str) and given.endswith(".toml"):
                table[key] = str((folder / Path(given).expanduser()).absolute())
        return cls.from_dict(data, changes, place=str(source))

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], changes: Mapping[str, Any] | None = None, *, place: str = "recipe"
    ) -> Recipe:
        """Check a recipe given as nested dictionaries."""
        given = copy.deepcopy(dict(data))
        if given.get("format", FORMAT) != FORMAT:
            what = f"format {given['format']!r}, and this program reads {FORMAT!r}"
            mend = "a newer fouroptics, if it wrote the file" if _is_newer(given["format"]) else f'write "{FORMAT}"'
            raise InputError(what, where=f"{place}: format", mend=mend)
        try:
            toml.change(given, changes or {})
            recipe = cls.model_validate(given)
        except ValidationError as error:
            raise toml.plain(error, cls).within(place, ": ") from None
        except InputError as error:
            raise error.within(place, ": ") from None
        recipe = _standing_anywhere(recipe)
        side = min(recipe.data.size)
        if Augmentation(recipe.data.augment).shift >= side:
            what, mend = f"a shift beyond pictures of {side}", f"less than {side}"
            raise InputError(what, where=f"{place}: data.augment", mend=mend)
        if Augmentation(recipe.data.augment).mixup and recipe.distill.loss != "function-matching":
            mend = 'distill.loss = "function-matching", the loss that takes no labels'
            raise InputError("mixup mixes pictures and no labels", where=f"{place}: data.augment", mend=mend)
        if recipe.student.detect == "each" and recipe.student.model != "sclc":
            mend = 'detect = "last", or model = "sclc"'
            raise InputError(f"{recipe.student.model!r} has no levels", where=f"{place}: student.detect", mend=mend)
        if recipe.trained and not recipe.bench:
            mend = 'bench = "slm-532nm", or leave it out and train'
            raise InputError("nothing is left to do without a bench", where=f"{place}: trained", mend=mend)
        if recipe.stage and not recipe.bench:
            raise InputError("stages without a bench", where=f"{place}: stage", mend='bench = "slm-532nm"')
        if any(_ROAD.index(one.on) > _ROAD.index(then.on) for one, then in pairwise(recipe.stage)):
            mend = "stages of the student first, then those in light, then those on the bench"
            raise InputError("masks are made when the student is done", where=f"{place}: stage.on", mend=mend)
        order = [stage.learn for stage in recipe.stage if set(stage.learn) & {"kernels", "masks"}]
        if any("masks" in one and "kernels" in behind for one, behind in pairwise(order)):
            mend = "stages that learn kernels before those that learn masks"
            raise InputError("masks that were learned follow no kernels", where=f"{place}: stage.learn", mend=mend)
        if order and recipe.student.optics == "cascade":
            mend = 'learn = ["backend"], or student.optics = "folded"'
            raise InputError("blocks of a cascade are ideal here", where=f"{place}: stage.learn", mend=mend)
        if len({stage.name for stage in recipe.stage}) < len(recipe.stage):
            raise InputError("two stages of one name", where=f"{place}: stage", mend="name each otherwise")
        if not recipe.seeds or len(set(recipe.seeds)) < len(recipe.seeds):
            raise InputError("seeds are none, or one of them is there twice", where=f"{place}: seeds", mend="[0, 1, 2]")
        return recipe

    @property
    def needs_teacher(self) -> bool:
        """Whether the student is made after the teacher."""
        return self.student.like == "teacher" or self.student.model in ("max-pool", "squared")

    @property
    def has_teacher(self) -> bool:
        """Whether there is a teacher at all."""
        return self.distill.loss != "none" or self.needs_teacher or bool(self.teacher.weights)

    def on_bench(self) -> Bench:
        """The bench, its masks encoded and its inputs laid out as the recipe says."""
        said = {"mask.encoding": self.encoding, "layout.inputs": self.inputs}
        changes: dict[str, Any] = {key: value for key, value in said.items() if value}
        changes |= {"mask.correct_aberration": True} if self.correct_aberration else {}
        bench = Bench.load(self.bench)
        return bench.replace(changes) if changes else bench

    @property
    def camera_pixel(self) -> float | None:
        """Width of the bench's camera pixel in samples of the picture; None without a bench."""
        if not self.bench:
            return None
        bench = self.on_bench()
        sample = bench.input.sample * bench.lens2.focal_length / bench.lens1.focal_length
        return bench.camera.pitch / sample

    @staticmethod
    def shipped() -> tuple[str, ...]:
        """Names of the recipes that come along."""
        return toml.names(_PRESETS)

    def to_dict(self) -> dict[str, Any]:
        """The recipe with all that was left out; None is left out again."""
        return self.model_dump(exclude_none=True)

    def save(self, path: str | Path) -> None:
        write_whole(path, toml.text(self.to_dict()).encode())

    def fingerprint(self) -> str:
        """Of what a run depends on: neither the name, nor the device, nor how many seeds there are."""
        told = self.to_dict()
        for key in ("name", "device", "seeds", "inputs", "trained"):  # the last two are counted elsewhere
            told.pop(key)
        told["train"].pop("tensorboard")
        told["data"]["strict"] = False  # it stops a run, and changes none
        for section, key in _PATHS:  # what lies there counts, and is counted elsewhere
            told[section].pop(key)
        later = (told, told["teacher"], told["student"], told["distill"], *told["stage"])
        for kept in later:  # keys that say what was always so
            for key, usual in _LATER.items():
                if kept.get(key) == usual:
                    kept.pop(key)
        if not self.bench:  # which then is nowhere
            for key in ("bench", "encoding", "correct_aberration", "oversample", "stage", "evaluate"):
                told.pop(key, None)
        else:
            told["bench"] = self.on_bench().fingerprint()
            for table in (told["evaluate"], *told["stage"]):
                table["tolerances"] = table["tolerances"] and Tolerances.load(table["tolerances"]).fingerprint()
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
