"""Some masks of a set, as a set of their own: by tile, by output, by input, by plane."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fouroptics.errors import InputError
from fouroptics.masks.plane import Plane, Terms

if TYPE_CHECKING:
    from fouroptics.masks.maskset import MaskSet

Which = Iterable[int] | None


def select(masks: MaskSet, *, tiles: Which, outputs: Which, inputs: Which, plane: int | None) -> MaskSet:
    """A set of the masks chosen, its channels and frames numbered anew, in the order that they had.

    Raises:
        InputError: there is no such mask, or one that is chosen carries a response that is not.
    """
    planes = masks.planes
    if plane is not None:
        planes = (planes[_chosen([plane], len(planes), "plane")[0]],)
    channels = masks.network["channels"]
    outs, ins = _chosen(outputs, channels[0], "outputs"), _chosen(inputs, channels[1], "inputs")
    if tiles is not None:
        if len(planes) > 1:
            raise InputError("tiles of several planes", where="tiles", mend="choose a plane, too")
        terms = planes[0].terms
        carried = np.isin(terms.tile, _chosen(tiles, planes[0].levels.shape[0], "tiles"))
        outs, ins = np.intersect1d(outs, terms.out_channel[carried]), np.intersect1d(ins, terms.in_channel[carried])
        found = np.unique(terms.tile[np.isin(terms.out_channel, outs) & np.isin(terms.in_channel, ins)])
        if not np.array_equal(found, np.unique(terms.tile[carried])):
            what = f"they make no bank alone; tiles {found.tolist()} carry the same outputs and inputs"
            raise InputError(what, where="tiles", mend="choose all of these, or by outputs and inputs")
    pairs = len(masks.realised) // channels[0]
    parts = np.concatenate([outs + part * channels[0] for part in range(pairs)])
    return replace(
        masks,
        planes=tuple(_of_plane(one, outs, ins) for one in planes),
        network={k: v for k, v in masks.network.items() if k != "electronics"} | {"channels": [len(outs), len(ins)]},
        backend={},  # which reads all of the outputs
        results={},
        kernels=masks.kernels[np.ix_(outs, ins)],
        realised=masks.realised[np.ix_(parts, ins)],
        scale=masks.scale[parts],
        provenance={**masks.provenance, "selected_from": masks.uuid},
        uuid=str(uuid.uuid4()),
    )


def _of_plane(plane: Plane, outs: np.ndarray, ins: np.ndarray) -> Plane:
    terms = plane.terms
    wanted = np.isin(terms.out_channel, outs) & np.isin(terms.in_channel, ins)
    tiles = np.unique(terms.tile[wanted])
    beside = np.isin(terms.tile, tiles) & ~wanted
    if beside.any():
        one = int(np.argmax(beside))
        what = f"tile {terms.tile[one]} carries output {terms.out_channel[one]} of input {terms.in_channel[one]}, too"
        raise InputError(what, where="masks", mend="choose that as well, or a layout of a mask an output")
    if len(tiles) == plane.levels.shape[0]:
        return plane
    frames, frame = np.unique(plane.frame[tiles], return_inverse=True)
    return replace(
        plane,
        levels=np.stack([plane.levels[int(tile)] for tile in tiles]),
        level_amplitude=None
        if plane.level_amplitude is None
        else np.stack([plane.level_amplitude[int(tile)] for tile in tiles]),
        origin=plane.origin[tiles],
        frame=frame.astype("<i4"),
        terms=Terms(
            tile=_anew(terms.tile[wanted], tiles),
            out_channel=_anew(terms.out_channel[wanted], outs),
            in_channel=_anew(terms.in_channel[wanted], ins),
            role=terms.role[wanted],
            frame=_anew(terms.frame[wanted], frames),
            shift=terms.shift[wanted],
        ),
    )


def _anew(numbers: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return np.searchsorted(kept, numbers).astype("<i4")


def _chosen(which: Which, count: int, name: str) -> np.ndarray:
    if which is None:
        return np.arange(count)
    given = np.array([*which])
    if given.size and given.dtype.kind not in "iu":
        raise InputError(f"{given.tolist()} are no whole numbers", where=name, mend=f"choose from 0 … {count - 1}")
    found = np.unique(given.astype(int))
    if not len(found) or found[0] < 0 or found[-1] >= count:
        raise InputError(f"{found.tolist()} of {count}", where=name, mend=f"choose from 0 … {count - 1}")
    return found
