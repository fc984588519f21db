"""The bench that stands in for a shipped one where a test makes its masks."""

import pytest

import fouroptics as fo


@pytest.fixture(scope="session")
def wide_pixels(tmp_path_factory):
    """The shipped bench with pixels twice as wide: its masks are made in a quarter of the time."""
    path = tmp_path_factory.mktemp("wide") / "bench.toml"
    fo.Bench.load("slm-532nm").replace({"mask.pitch": "16 um", "mask.pixels": [960, 540]}).save(path)
    return str(path)
