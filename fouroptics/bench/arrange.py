"""The layout that carries a bank best on the parts of a bench: the sampling report asked of each in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fouroptics.bench.quantities import Load, Quantities
from fouroptics.bench.sampling import bad_codes, report
from fouroptics.devices import layout
from fouroptics.errors import InputError

if TYPE_CHECKING:
    from fouroptics.bench.bench import Bench

# Problems that a layout makes or mends; the others are the lenses' and the laser's, whatever the layout.
DECISIVE = ("guard", "input-panel", "mask-extent", "mask-bins", "camera-window", "static-mask", "input-frames")


def choose_layout(bench: Bench, load: Load) -> tuple[layout.Inputs, layout.Outputs, str]:
    """Try what the parts can do and take the best that fits; see ``Bench.choose_layout``."""
    changes = bench.mask.frame_rate is not None
    tried = {way: Quantities(_arranged(bench, way), load) for way in layout.ways(load.channels, mask_changes=changes)}
    misfits = {way: bad_codes(quantities) & set(DECISIVE) for way, quantities in tried.items()}
    fitting = {way: quantities.sharing for way, quantities in tried.items() if not misfits[way]}
    if not fitting:
        raise _refusal(bench, load, min(misfits, key=lambda way: len(misfits[way])))
    return layout.choose(fitting, mask_changes=changes)


def _arranged(bench: Bench, way: layout.Way) -> Bench:
    return bench.replace({"layout.inputs": way[0], "layout.outputs": way[1]})


def _refusal(bench: Bench, load: Load, nearest: layout.Way) -> InputError:
    """What is wrong with the layout that has fewest problems."""
    problem = next(p for p in report(_arranged(bench, nearest), load).problems if p.code in DECISIVE)
    what = f"no layout fits; {layout.way_text(nearest)}: {problem.what}"
    return InputError(what, where=problem.where, mend=problem.mend_text)
