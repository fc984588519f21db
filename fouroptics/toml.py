"""TOML files that people write: found by a preset's name or a path, read with a mend, written back."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from fouroptics.errors import InputError
from fouroptics.files import is_file, is_folder, read_text


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
