"""Fields that do not vary independently: a Gaussian copula over the standard normals that everything is drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from fouroptics.errors import InputError
from fouroptics.imperfections.distributions import Distribution
from fouroptics.imperfections.fields import in_order, named

Node = tuple[str, int]  # a field, and its axis: 0 is y, 1 is x, -1 for a field without
_SUFFIX = {"_y": 0, "_x": 1}
_SLACK = 1e-9


@dataclass(frozen=True)
class Correlation:
    """Two fields, and the correlation of the standard normals beneath them.

    Pairs (y, x) correlate component by component; a field that ends in ``_x`` or ``_y`` does with that one of a pair.
    """

    fields: tuple[str, str]
    rho: float

    def to_dict(self) -> dict[str, Any]:
        return {"fields": list(self.fields), "rho": self.rho}


def read_correlations(tables: Any, spread: Mapping[str, Distribution]) -> tuple[Correlation, ...]:
    """Check all ``[[correlate]]`` sections together.

    Raises:
        InputError: a field without a distribution or with a fixed one, fields that have no components in common, a pair
            said twice, correlations that contradict each other.
    """
    if not isinstance(tables, list | tuple):
        raise InputError(f"{tables!r} is no list of sections", where="correlate", mend="write [[correlate]]")
    found = tuple(_read(table, spread, f"correlate {place}") for place, table in enumerate(tables, 1))
    nodes = _nodes(found)
    _refuse_repeated(found)
    smallest = float(torch.linalg.eigvalsh(_matrix(nodes, found)).min()) if nodes else 1.0
    if smallest < -_SLACK:
        what = f"no numbers are correlated like this (an eigenvalue of the matrix is {smallest:.3g})"
        raise InputError(what, where="correlate", mend="bring the values of rho nearer to 0")
    return found


def correlated(normals: Mapping[str, Tensor], pairs: tuple[Correlation, ...]) -> dict[str, Tensor]:
    """Independent standard normals turned into correlated ones, by the symmetric root of their matrix.

    Pairs with a field that is not among ``normals`` are left out. Sums run term by term, so that a draw does not
    depend on how many there are.
    """
    here = tuple(pair for pair in pairs if all(name in normals for name in pair.fields))
    turned = dict(normals)
    for group in _groups(_nodes(here), here):
        root = _root(_matrix(group, here))
        drawn = [_part(normals, node) for node in group]
        for node, weights in zip(group, root.tolist(), strict=True):
            mixed = sum((w * one for w, one in zip(weights, drawn, strict=True)), torch.zeros_like(drawn[0]))
            turned[node[0]] = _with_part(turned[node[0]], node[1], mixed)
    return turned


def _read(table: Any, spread: Mapping[str, Distribution], where: str) -> Correlation:
    if not isinstance(table, Mapping) or set(table) != {"fields", "rho"}:
        mend = 'write fields = ["mask.shift_x", "camera.shift"] and rho = 0.5'
        raise InputError(f"{table!r} is no correlation", where=where, mend=mend)
    names, rho = table["fields"], table["rho"]
    if not isinstance(names, list | tuple) or len(names) != 2 or not all(isinstance(name, str) for name in names):
        raise InputError(f"{names!r} are not two fields", where=where, mend='write ["mask.shift_x", "camera.shift"]')
    if type(rho) not in (int, float) or not -1 <= rho <= 1:
        raise InputError(f"rho = {rho!r} will not do", where=where, mend="write a number from -1 to 1, without quotes")
    for name in names:
        try:
            named(name)
        except InputError as error:
            raise error.within(where) from None
        if name not in spread:
            raise InputError(f"{name} has no distribution here", where=where, mend="add one, or leave this pair out")
        if spread[name].shape == "fixed":
            raise InputError(f"{name} is fixed, so it does not vary", where=where, mend="write normal or uniform")
    pair = (names[0], names[1])
    _refuse_unlike(pair, spread, where)
    return Correlation(pair, float(rho))


def _refuse_unlike(pair: tuple[str, str], spread: Mapping[str, Distribution], where: str) -> None:
    if pair[0] == pair[1]:
        raise InputError(f"{pair[0]} and itself", where=where, mend="name two different fields")
    counted = [[one for one in named(name).components if one != "axis"] for name in pair]
    alike = counted[0] == counted[1] and spread[pair[0]].together == spread[pair[1]].together
    if not alike or not _links(pair):
        mend = "correlate fields with the same components, or one ending in _x or _y with a (y, x) pair"
        raise InputError(f"{pair[0]} and {pair[1]} have no components in common", where=where, mend=mend)


def _axes(name: str) -> tuple[int, ...]:
    return (0, 1) if named(name).components[-1:] == ("axis",) else (-1,)


def _links(pair: tuple[str, str]) -> list[tuple[Node, Node]]:
    """Which component goes with which; none if they do not fit."""
    first, second = pair
    axes = _axes(first), _axes(second)
    if len(axes[0]) == len(axes[1]):
        return [((first, a), (second, b)) for a, b in zip(*axes, strict=True)]
    single, double = pair if len(axes[0]) == 1 else pair[::-1]
    axis = _SUFFIX.get(single[-2:])
    return [] if axis is None else [((single, -1), (double, axis))]


def _nodes(pairs: tuple[Correlation, ...]) -> list[Node]:
    names = in_order(dict.fromkeys(name for pair in pairs for name in pair.fields))
    return [(name, axis) for name in names for axis in _axes(name)]


def _matrix(nodes: list[Node], pairs: tuple[Correlation, ...]) -> Tensor:
    matrix = torch.eye(len(nodes), dtype=torch.float64)
    for pair in pairs:
        for one, other in _links(pair.fields):
            if one in nodes:
                i, j = nodes.index(one), nodes.index(other)
                matrix[i, j] = matrix[j, i] = pair.rho
    return matrix


def _groups(nodes: list[Node], pairs: tuple[Correlation, ...]) -> list[list[Node]]:
    """Nodes that hang together, each group in order."""
    group_of = {node: {node} for node in nodes}
    for pair in pairs:
        for one, other in _links(pair.fields):
            joined = group_of[one] | group_of[other]
            group_of |= dict.fromkeys(joined, joined)
    groups = {id(group): group for group in group_of.values() if len(group) > 1}
    return [[node for node in nodes if node in group] for group in groups.values()]


def _refuse_repeated(pairs: tuple[Correlation, ...]) -> None:
    for one, other in combinations(pairs, 2):
        if set(one.fields) == set(other.fields):
            raise InputError(f"{' and '.join(one.fields)} stand there twice", where="correlate", mend="write them once")


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = vectors * values.clamp_min(0.0).sqrt() @ vectors.T
    return root


def _part(normals: Mapping[str, Tensor], node: Node) -> Tensor:
    name, axis = node
    return normals[name] if axis < 0 else normals[name][..., axis]


def _with_part(whole: Tensor, axis: int, part: Tensor) -> Tensor:
    if axis < 0:
        return part
    return torch.stack([part if place == axis else whole[..., place] for place in (0, 1)], dim=-1)
