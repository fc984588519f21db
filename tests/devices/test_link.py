import pytest

from fouroptics.devices import link


def test_the_paper_s_link_by_hand():
    # 100 kB over USB 3 at 2500 Mbit/s: 800 000 bit / 2.5e9 bit/s = 0.32 ms
    assert link.transfer_time(100e3 * 8, 2500e6) == pytest.approx(0.32e-3)


def arguments(**changes):
    mask = {"mask_settle": 1e-3, "mask_rate": 100.0, "input_settle": 3e-3, "input_changes": 1}
    camera = {"window": (100, 50), "binning": (2, 2), "sensor_rows": 1000, "camera_rate": 50.0, "adc_bits": 10}
    rest = {"frames": 2, "reads": 1, "exposure": 2e-3, "link_rate": 1e6, "overhead": 1e-4}
    return mask | camera | rest | changes


def test_all_terms_by_hand():
    latency = link.latency(**arguments())
    assert latency["input settle"] == pytest.approx(2e-3)
    assert latency["camera readout"] == pytest.approx(2 * 100 / 1000 / 50)
    assert latency["mask wait"] == pytest.approx((10e-3 - 5e-3) + (10e-3 - 7e-3))  # the first waits for its picture
    missed = link.latency(**arguments(exposure=8e-3))  # 11 ms busy: the next beat of 10 ms is at 20
    assert missed["mask wait"] == pytest.approx((20e-3 - 11e-3) + (20e-3 - 13e-3))
    assert link.latency(**arguments(input_changes=2))["input settle"] == pytest.approx(2 * 2e-3)
    assert latency.samples == 2 * 50 * 25
    assert latency.bits == 25000
    assert latency.seconds == pytest.approx(20e-3 + 25e-3 + 2e-4)
    assert latency.data["terms"]["link"] == pytest.approx(25e-3)


def test_a_plate_neither_settles_nor_waits():
    latency = link.latency(**arguments(mask_settle=0.0, mask_rate=None, frames=1))
    assert latency["mask wait"] == latency["mask settle"] == 0


def test_a_reference_that_steps_by_itself_leaves_the_mask_where_it_is():
    """Two masks, two captures each of 2 + 2 ms, a step of 0.5 ms between: 9.5 ms with the mask's 1, of a beat of 10."""
    latency = link.latency(**arguments(reads=2, step_settle=5e-4, input_settle=0.0))
    assert latency["mask settle"] == pytest.approx(2 * 1e-3)
    assert latency["reference step"] == pytest.approx(2 * 5e-4)
    assert latency["mask wait"] == pytest.approx(2 * 5e-4)
    assert latency["exposure"] == pytest.approx(4 * 2e-3)
    seen = sum(latency[one] for one in ("mask settle", "reference step", "exposure", "camera readout", "mask wait"))
    assert seen == pytest.approx(2 * 10e-3)
    stepped = link.latency(**arguments(reads=2, input_settle=0.0))
    assert stepped["mask settle"] == pytest.approx(4e-3) and stepped["reference step"] == 0
    one, plain = (link.latency(**arguments(**step)) for step in ({"step_settle": 5e-4}, {}))
    assert one.seconds == plain.seconds and one["reference step"] == 0  # one capture a mask: nothing steps
    plate = link.latency(
        **arguments(mask_settle=0.0, mask_rate=None, frames=1, reads=2, step_settle=1e-3, input_settle=0)
    )
    assert plate["reference step"] == pytest.approx(1e-3) and plate["mask wait"] == 0


def test_every_argument_changes_the_answer():
    start = link.latency(**arguments())
    larger = {
        "mask_rate": 50.0,
        "camera_rate": 60.0,
        "sensor_rows": 900,
        "link_rate": 2e6,
        "window": (120, 60),
        "binning": (3, 3),
    }
    for name, value in arguments().items():
        changed = link.latency(**arguments(**{name: larger[name] if name in larger else value * 2}))
        assert changed != start, name
    twice = [link.latency(**arguments(reads=2, step_settle=seconds)) for seconds in (None, 1e-3, 2e-3)]
    assert len({str(one) for one in twice}) == 3
