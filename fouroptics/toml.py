"""TOML files that people write: found by a preset's name or a path, read with a mend, written back."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fouroptics.errors import InputError
from fouroptics.files import is_file, is_folder, read_text

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError


def names(shelf: Traversable) -> tuple[str, ...]:
    """Names of the files that are shipped on a shelf."""
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in shelf.iterdir()))


def load(source: str | Path, shelf: Traversable, kind: str) -> tuple[dict[str, Any], Path]:
    """What a shipped file or one's own says, and the folder that its paths are relative to.

    Args:
        source: the name of one on the shelf, or a path.
        shelf: the folder of shipped ones.
        kind: what such a file holds, in a word.
    """
    shipped = names(shelf)
    if isinstance(source, str) and source in shipped:
        return parse(shelf.joinpath(f"{source}.toml").read_text(encoding="utf-8"), source), Path()
    path = Path(source)
    if is_folder(path):
        mend = f"name a file in it, such as {path / f'{kind}.toml'}"
        raise InputError("is a folder", where=str(source), mend=mend)
    if not is_file(path):
        near = difflib.get_close_matches(str(source), shipped, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        mend = f"{hint}shipped: {', '.join(shipped)}"
        raise InputError(f"no such {kind} file or preset", where=str(source), mend=mend)
    return parse(read_text(path), str(path)), path.parent


def parse(source: str, place: str) -> dict[str, Any]:
    """TOML as nested dictionaries."""
    try:
        return tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        line = source.splitlines()[int(at[1]) - 1] if at else ""
        bare = re.search(r"=\s*([-+0-9.eE]+ ?[^\s0-9\"'#,\]}]+)", line)
        mend = f'write it in quotes: "{bare[1]}"' if bare else ""
        raise InputError(f"not valid TOML: {error}", where=place, mend=mend) from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets in brackets
        raise InputError(f"not valid TOML: {error}", where=place, mend="write plain values") from None


def change(data: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Set dotted keys in nested dictionaries; None takes a key out."""
    for key, value in changes.items():
        *sections, last = key.split(".")
        table = data
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise InputError(f"{section!r} is not a section", where=key)
        if value is None:
            table.pop(last, None)
        else:
            table[last] = value


def text(data: Mapping[str, Any]) -> str:
    """Nested dictionaries as TOML: bare keys, then a section a table."""
    head = [f"{key} = {_value(value)}" for key, value in data.items() if not isinstance(value, dict)]
    tables = [
        "\n".join([f"[{section}]", *(f"{key} = {_value(value)}" for key, value in table.items())])
        for section, table in data.items()
        if isinstance(table, dict)
    ]
    return "\n\n".join(["\n".join(head), *tables]) + "\n"


def _key(key: Any) -> str:
    return str(key) if re.fullmatch("[A-Za-z0-9_-]+", str(key)) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        entries = ", ".join(f"{_key(key)} = {_value(entry)}" for key, entry in value.items())
        return f"{{ {entries} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def plain(error: ValidationError, model: type[BaseModel]) -> InputError:
    """The first complaint of pydantic as one of ours, with the key's path."""
    complaints = error.errors()
    first = next((one for one in complaints if one["type"] == "extra_forbidden"), complaints[0])  # a typo, then its gap
    where = ".".join(str(step) for step in first["loc"] if step not in ("[key]", "is-instance[str]"))
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return InputError(cause.what, where=".".join(filter(None, (where, cause.where))), mend=cause.mend)
    if first["type"] == "extra_forbidden":
        return InputError("unknown key", where=where, mend=nearest_key(first["loc"], model))
    if first["type"] == "missing":
        kind = "part" if len(first["loc"]) == 1 else "value"
        return InputError(f"this {kind} is missing", where=where, mend=f"add {_add(first['loc'])}")
    if first["type"] in ("model_type", "dict_type"):
        return InputError(
            f"{first['input']!r} is not a section", where=where, mend=f"write [{where}] and its keys below"
        )
    due = {"int_type": "a whole number without quotes", "float_type": "a number without quotes"}
    mend = due.get(first["type"], _lowered(first["msg"]).removeprefix("input should be "))
    mend = mend.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    return InputError(f"{first['input']!r} will not do", where=where, mend=f"write {mend}")


def nearest_key(location: tuple[int | str, ...], root: type[BaseModel]) -> str:
    """What was probably meant by a key that is not there."""
    *section, key = (str(step) for step in location if not isinstance(step, int))
    model: Any = root
    for step in section:
        model = part_of(model, step)
    known = [name for name in model.model_fields]
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"


def part_of(model: Any, name: str) -> Any:
    """The model of a section."""
    annotation = model.model_fields[name].annotation
    return next((t for t in getattr(annotation, "__args__", (annotation,)) if hasattr(t, "model_fields")), annotation)


def _add(location: tuple[int | str, ...]) -> str:
    names = [str(step) for step in location]
    return f"a section [{names[0]}]" if len(names) == 1 else f"{names[-1]} = … to [{names[0]}], or a preset that has it"


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]
