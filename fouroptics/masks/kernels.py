"""Kernels that somebody brings: a NumPy array, or the weights of a layer; nothing is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fouroptics.errors import InputError
from fouroptics.files import is_file

_KINDS = (".npy", ".npz", ".safetensors")
_MOST = 2**28  # bytes


def read(path: str | Path, key: str = "") -> Tensor:
    """Kernels ``[out, in, ky, kx]``, real or complex, of float32 or float64.

    A single kernel ``[ky, kx]`` is one output of one input, and ``[out, ky, kx]`` are outputs of one input.

    Args:
        path: a ``.npy``, ``.npz`` or ``.safetensors`` file.
        key: which of several arrays; left out, the only one that has kernels' shape.

    Raises:
        InputError: no such file, no kernels in it, or values that are not finite.
    """
    path = Path(path)
    if not is_file(path):
        raise InputError("there is no such file", where=str(path), mend="name a .npy, .npz or .safetensors file")
    if path.suffix not in _KINDS:
        mend = "save it as .safetensors or .npy: a pickle may run anything"
        raise InputError(f"{path.suffix or 'no ending'!r} is not read", where=str(path), mend=mend)
    arrays = _arrays(path)
    chosen = _chosen(path, arrays, key)
    kernels = torch.from_numpy(_plain(path, chosen, arrays[chosen]))
    kernels = kernels[(None,) * (4 - kernels.dim())] if kernels.dim() == 2 else kernels
    kernels = kernels[:, None] if kernels.dim() == 3 else kernels
    if kernels.dim() != 4:
        what = f"{chosen} is {list(arrays[chosen].shape)}"
        raise InputError(what, where=str(path), mend="kernels are [out, in, height, width]")
    if not bool(torch.isfinite(kernels).all()):
        raise InputError(f"{chosen} has taps that are NaN or infinite", where=str(path), mend="give finite taps")
    wide = kernels.is_complex(), kernels.dtype in (torch.float64, torch.complex128)
    return kernels.to(
        {(0, 0): torch.float32, (0, 1): torch.float64, (1, 0): torch.complex64}.get(wide, torch.complex128)
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if path.stat().st_size > _MOST:
        raise InputError(
            f"{path.stat().st_size >> 20} MiB are no kernels", where=str(path), mend="save the kernels alone"
        )
    try:
        if path.suffix == ".npy":
            return {path.stem: np.load(path, allow_pickle=False)}
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as packed:
                inflated = sum(member.file_size for member in packed.infolist())
            if inflated > _MOST:
                raise InputError(f"{inflated >> 20} MiB are no kernels", where=str(path), mend="save the kernels alone")
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        from safetensors.torch import load_file

        return {name: _numbers(value) for name, value in load_file(path).items()}
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes of its reader
        what = " ".join(str(error).split())[:120]
        raise InputError(f"cannot be read ({what})", where=str(path), mend="save it again") from None


def _numbers(value: Tensor) -> np.ndarray:
    plain = value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    array: np.ndarray = plain.numpy()
    return array


def _chosen(path: Path, arrays: dict[str, np.ndarray], key: str) -> str:
    if key:
        if key not in arrays:
            raise InputError(f"no array {key!r}", where=str(path), mend=f"it has {', '.join(sorted(arrays)[:8])}")
        return key
    fitting = [name for name, array in arrays.items() if array.ndim == 4] or list(arrays)
    if len(fitting) != 1:
        mend = f"--key, one of {', '.join(sorted(fitting)[:8])}" if fitting else "save kernels in it"
        raise InputError(f"{len(fitting)} arrays that may be kernels", where=str(path), mend=mend)
    return fitting[0]


def _plain(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """Numbers as this machine has them, of at most 64 bits a part."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind not in "fciu" or size > (16 if kind == "c" else 8) or array.size == 0:
        raise InputError(f"{name} is {array.dtype} of {list(array.shape)}", where=str(path), mend="save numbers")
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))
