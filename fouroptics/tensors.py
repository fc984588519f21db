"""Tensors in files that execute nothing: one way to save them and one to load them.

safetensors refuses shared, strided and complex128 tensors and writes a conjugated view unconjugated; here all of these
come back as they were given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fouroptics.errors import InputError
from fouroptics.files import is_file, write_whole

_PAIRS = "fouroptics_complex"  # names whose last axis is a real and an imaginary part


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], told: Mapping[str, str] | None = None) -> None:
    """Write tensors by name, and texts about them, whole or not at all."""
    from safetensors.torch import save

    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise InputError("is no tensor of plain values", where=name, mend="leave it out, or make it one")
    taken = [name for name in ("__metadata__", _PAIRS) if name in tensors or name in (told or {})]
    if taken:
        raise InputError("is a name that the file needs itself", where=taken[0], mend="give another name")
    told = {str(key): str(text) for key, text in (told or {}).items()}
    pairs = [name for name, tensor in tensors.items() if tensor.is_complex()]
    plain = {name: _plain(tensor) for name, tensor in tensors.items()}
    write_whole(path, save(plain, told | {_PAIRS: json.dumps(pairs)}))


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and the texts about them.

    Raises:
        InputError: there is no such file, or it holds no tensors.
    """
    from safetensors import SafetensorError, safe_open

    if not is_file(Path(path)):
        raise InputError("there is no such file", where=str(path), mend="name a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            told = dict(file.metadata() or {})
            # clones: a tensor of the mapped file would change with it
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        pairs = json.loads(told.pop(_PAIRS, "[]"))
        complex_ones = {name: torch.view_as_complex(tensors[name]) for name in pairs}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        what = f"holds no tensors ({' '.join(str(error).split())[:100]})"
        raise InputError(what, where=str(path), mend="get the file again, or convert it to safetensors") from None
    return tensors | complex_ones, told


def _plain(tensor: Tensor) -> Tensor:
    """A tensor's values alone: no gradient, no view of another, real."""
    values = tensor.detach().resolve_conj().resolve_neg()
    values = torch.view_as_real(values) if values.is_complex() else values
    return values.cpu().clone(memory_format=torch.contiguous_format)
