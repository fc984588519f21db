"""How long a bank takes for one picture, from the modulator to numbers in a computer."""

from __future__ import annotations

from fouroptics.bench import Bench
from fouroptics.correlator.checks import check_count
from fouroptics.correlator.reading import Reading
from fouroptics.devices import link
from fouroptics.devices.layout import Sharing
from fouroptics.errors import InputError


def latency(bench: Bench, sharing: Sharing, way: Reading, *, reads: int, exposure: float) -> link.Latency:
    """The terms of one picture's way, for ``reads`` captures an output of ``exposure`` [s] each."""
    window = way.window
    check_count("reads", reads, "captures of an output", "1 or 2")
    if bench.link is None:
        raise InputError("the bench has no [link]", where="link", mend='add [link] with rate = "2.5 Gbit/s"')
    camera = bench.camera
    sample = bench.input.sample * bench.lens2.focal_length / bench.lens1.focal_length
    rows, columns = (
        n + round((tiles - 1) * apart * sample / camera.pitch)
        for n, tiles, apart in zip(window.pixels, sharing.output_tiles, sharing.output_pitch, strict=True)
    )
    beam = bench.reference if way.kind == "homodyne" else None
    if beam is not None and reads == 2 and beam.settle is None and bench.mask.frame_rate is None:
        mend = 'reference.settle = "1 ms", or reference.captures = 1'
        what = "a mask that stands still makes no step between two captures"
        raise InputError(what, where="reference.settle", mend=mend)
    return link.latency(
        frames=sharing.frames,
        reads=reads,
        mask_settle=bench.mask.settle,
        mask_rate=bench.mask.frame_rate,
        input_settle=bench.input.settle,
        input_changes=sharing.input_changes,
        exposure=exposure,
        window=(rows, columns),
        binning=window.bin,
        sensor_rows=camera.pixels[1],
        camera_rate=camera.frame_rate,
        adc_bits=camera.adc_bits,
        link_rate=bench.link.rate,
        overhead=bench.link.overhead,
        step_settle=None if beam is None else beam.settle,
    )
