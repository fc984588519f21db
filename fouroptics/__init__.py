"""fouroptics: a differentiable Fourier-optics simulator for 4f optical neural networks.

Importing it is cheap: what it names is loaded when it is first asked for, so ``fouroptics --help`` and
the reading of a bench never wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fouroptics import pictures as pictures
    from fouroptics.bench import Bench as Bench
    from fouroptics.correlator import Correlator4f as Correlator4f
    from fouroptics.errors import InputError as InputError
    from fouroptics.imperfections import Imperfections as Imperfections
    from fouroptics.imperfections import Tolerances as Tolerances
    from fouroptics.masks import MaskSet as MaskSet
    from fouroptics.optics.correlation import correlate as correlate

__version__ = "0.1.0"

_ROOMS = {
    "Bench": "fouroptics.bench",
    "Correlator4f": "fouroptics.correlator",
    "Imperfections": "fouroptics.imperfections",
    "InputError": "fouroptics.errors",
    "MaskSet": "fouroptics.masks",
    "Tolerances": "fouroptics.imperfections",
    "correlate": "fouroptics.optics.correlation",
}

__all__ = [
    "Bench", "Correlator4f", "Imperfections", "InputError", "MaskSet", "Tolerances", "__version__", "correlate",
    "pictures",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "pictures":
        return import_module("fouroptics.pictures")
    if name not in _ROOMS:
        raise AttributeError(f"module 'fouroptics' has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
