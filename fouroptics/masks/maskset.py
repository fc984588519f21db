"""A mask set: what every pixel of every mask is driven to, and all that it takes to simulate it again, in one file.

The content is whole levels and the table of what they pass. Everything else that a file shows follows from them.
"""

from __future__ import annotations

import platform
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fouroptics
from fouroptics.bench import Bench
from fouroptics.errors import InputError
from fouroptics.masks import contents, h5, h5_write, tree
from fouroptics.masks.limits import Limits
from fouroptics.masks.plane import Plane
from fouroptics.masks.plate import Plate, put_together
from fouroptics.masks.select import select

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fouroptics.correlator import Correlator4f
    from fouroptics.imperfections import Tolerances


@dataclass(frozen=True)
class MaskSet:
    """Masks, their bench and their kernels.

    Args:
        title: for people.
        bench: the bench, standing alone.
        network: what the bank was built with, by ``tree.NETWORK``'s words.
        kernels: that were wanted ``[O, I, ky, kx]``, complex where they are.
        realised: what the masks make of them, in the same units.
        scale: by which each response was turned down ``[O]``, a pair's parts one after another.
        planes: of masks.
        commissioning: tiles to set the bench up with, name → levels ``[Ny, Nx]``.
        provenance: who made it, from what.
        rules: that a shop asks for; where they are told, the file holds what breaks them.
        backend: what a network's electronics learned, name → tensor; ``network["electronics"]`` says what it is.
        results: what the network is worth, for JSON.
        sigmas: of what can be off, as texts with units, where tolerances are told: name → one sigma.
        uuid: of this set.
    """

    title: str
    bench: Bench
    network: Mapping[str, Any]
    kernels: np.ndarray
    realised: np.ndarray
    scale: np.ndarray
    planes: tuple[Plane, ...]
    commissioning: Mapping[str, np.ndarray] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    backend: Mapping[str, np.ndarray] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    rules: Limits | None = None
    sigmas: Mapping[str, str] = field(default_factory=dict)
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @classmethod
    def from_correlator(
        cls,
        bank: Correlator4f,
        *,
        title: str = "masks",
        rules: Limits | None = None,
        tolerances: Tolerances | None = None,
    ) -> MaskSet:
        """The masks that a bank's device shows in evaluation; with a shop's design rules, and how far all may be off.

        Raises:
            InputError: the bank's masks are ideal.
        """
        from fouroptics.masks.build import from_correlator

        return from_correlator(bank, title, rules, tolerances)

    @classmethod
    def load(cls, path: str | Path, *, progress: h5.Progress | None = None) -> MaskSet:
        """Read a file, having checked all of it; large levels stay there until they are sliced.

        Raises:
            InputError: the file is refused; the path inside it and the reason.
        """
        path = Path(path)
        found = h5.check(path, tree.is_known, progress)
        tree.check(path, found)
        masks = cls(**contents.read(path, found))
        contents.check_derived(path, found, masks)
        return masks

    @staticmethod
    def validate(path: str | Path) -> None:
        """Check a file's links, types, sizes, digests and tree, and nothing else; no torch is loaded."""
        MaskSet.load(path)

    def save(self, path: str | Path, *, progress: h5.Progress | None = None) -> None:
        """Write the set, whole or not at all."""
        entries, attributes = contents.written(self)

        def verify(written: Path, told: h5.Progress | None) -> None:
            MaskSet.load(written, progress=told)

        h5_write.write(Path(path), entries, attributes, verify, progress)

    @property
    def alone(self) -> Plane:
        """The plane of a set that has one.

        Raises:
            InputError: there are several.
        """
        if len(self.planes) != 1:
            what = f"{len(self.planes)} planes of masks, and one is taken at a time"
            raise InputError(what, where="planes", mend="masks.select(plane=0), or --plane 0")
        return self.planes[0]

    def plate(self, plane: int = 0, frame: int = 0) -> Plate:
        """The levels of the whole panel or substrate in one frame; its rows are put together when they are sliced."""
        pixels = self.bench.mask.pixels
        return put_together(self.planes[plane], (pixels[1], pixels[0]), frame)

    def select(
        self,
        *,
        tiles: Iterable[int] | None = None,
        outputs: Iterable[int] | None = None,
        inputs: Iterable[int] | None = None,
        plane: int | None = None,
    ) -> MaskSet:
        """Some of the masks as a set of their own, their channels and frames numbered anew.

        Raises:
            InputError: one that is chosen carries a response that is not.
        """
        return select(self, tiles=tiles, outputs=outputs, inputs=inputs, plane=plane)

    def plot(self, tiles: int = 4) -> Figure:
        """The first tiles, and the kernels that the first response of each was to have and has."""
        from fouroptics.masks.show import plot

        return plot(self, tiles)

    def correlator(self) -> Correlator4f:
        """The bank that was exported, from what is in the set alone."""
        from fouroptics.masks.build import correlator

        return correlator(self)


def made_by() -> dict[str, str]:
    """The program and what it runs on; no path, no user."""
    from importlib.metadata import version

    packages = {name: version(name) for name in ("torch", "numpy", "h5py")}
    return {"program": "fouroptics", "version": fouroptics.__version__, "python": platform.python_version()} | packages
