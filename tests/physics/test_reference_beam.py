"""The reference beam on the camera: a Gaussian, whose share each output has where its response falls."""

import pytest
import torch

import fouroptics as fo


@pytest.mark.parametrize("captures", [1, 2])
def test_a_reference_is_weaker_where_outputs_are_beside_the_axis(captures):
    """Responses side by side on the camera, lit by one Gaussian: its mean over each window, by a fine sum.

    Signals follow its amplitude, so an output's readings are as much smaller as the beam's root is.
    """
    bench = fo.Bench.load("plate-532nm").replace({"reference.captures": captures, "reference.power_ratio": "20 %"})
    bench = bench.replace({"camera.exposure": "2 us", "camera.full_well": 1e9, "camera.adc_bits": 16})
    bank = fo.Correlator4f.from_kernels(
        torch.ones(9, 1, 1, 1, dtype=torch.float64), bench, (16, 16), readout="homodyne"
    )
    sharing = bench.share((16, 16), (9, 1))
    (rows, columns), pitch, sample = sharing.output_tiles, sharing.output_pitch, bench.input.sample
    assert rows * columns >= 9 and bench.layout.outputs == "tiled"
    due = []
    for output in range(9):
        lines = []
        for at, count, step in zip(divmod(output, columns), (rows, columns), pitch, strict=True):
            place = (at - (count - 1) / 2) * step * sample
            y = place + ((torch.arange(2000) + 0.5) / 2000 - 0.5) * 16 * sample
            lines.append(float(torch.exp(-2 * y.double() ** 2 / bench.source.waist**2).mean()))
        due.append(lines[0] * lines[1])
    due = torch.tensor(due, dtype=torch.float64)
    assert due.min() < 0.999 * due.max()
    dark = bank.electrons(torch.zeros(1, 1, 16, 16, dtype=torch.float64))[0].mean((-3, -2, -1))
    torch.testing.assert_close(dark / dark.max(), due / due.max(), rtol=1e-3, atol=0)
    given = bank(torch.full((1, 1, 16, 16), 0.5, dtype=torch.float64))[0, :, 8, 8]
    unlit = bank(torch.zeros(1, 1, 16, 16, dtype=torch.float64))[0, :, 8, 8]
    assert unlit.abs().max() < 1e-6 * given.max()
    if captures == 2:  # of one capture the response's own light is a part
        torch.testing.assert_close(given / given.max(), (due / due.max()).sqrt(), rtol=2e-3, atol=0)
