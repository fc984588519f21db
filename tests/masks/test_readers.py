"""Programs that know nothing of this package find levels, axes and metres: plain h5py, silx and xarray."""

import warnings

import h5py
import numpy as np
import pytest
import torch

import fouroptics as fo
from fouroptics.masks import MaskSet

AXES = ("tile", "y", "x")


@pytest.fixture(scope="module", params=["phase_slm", "complex"])
def shown(request, tmp_path_factory):
    """A file of three tiles, and the plane that was written."""
    path = tmp_path_factory.mktemp("shown") / "masks.h5"
    slm = {"mask.crosstalk": "0 um", "mask.pitch": "90 um", "mask.pixels": [100, 100], "layout.guard": "64 um"}
    bench = fo.Bench.load("slm-532nm").replace(
        {"mask": {"preset": "ideal", "frame_rate": "60 Hz"}} if request.param == "complex" else {}
    )
    kernels = torch.randn(3, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bank = fo.Correlator4f.from_kernels(kernels, bench.replace(slm), (12, 12), masks="device")
    masks = MaskSet.from_correlator(bank)
    masks.save(path)
    return path, masks.planes[0]


def middles(plane):
    return [(np.arange(n) - (n - 1) / 2) * pitch for n, pitch in zip(plane.levels.shape[1:], plane.pitch, strict=True)]


def test_plain_h5py_finds_scales_of_all_that_has_the_masks_dimensions(shown):
    path, plane = shown
    with h5py.File(path) as file:
        masks = file["entry/masks"]
        full = {name for name in masks if isinstance(masks[name], h5py.Dataset) and masks[name].ndim == 3}
        assert full == {"level", "level_amplitude"} if plane.table is None else {"level", "phase", "amplitude"}
        for name in full:
            assert [dimension.keys() for dimension in masks[name].dims] == [[axis] for axis in AXES]
        y, x = (masks["level"].dims[axis][0] for axis in (1, 2))
        assert np.allclose([y, x], middles(plane), rtol=1e-12)
        assert (y.attrs["units"], x.attrs["units"]) == (b"m", b"m")
        assert np.array_equal(masks["level"].dims[0]["tile"], [0, 1, 2])
        assert np.array_equal(masks["level"], plane.levels)


def test_silx_finds_the_default_plot(shown):
    nxdata = pytest.importorskip("silx.io.nxdata")
    path, plane = shown
    with h5py.File(path) as file:
        found = nxdata.get_default(file)
        assert found.is_valid, found.issues
        assert found.signal_dataset_name == "level"
        assert tuple(found.axes_dataset_names) == AXES
        assert np.array_equal(found.signal, plane.levels)
        assert np.allclose(found.axes[2], middles(plane)[1], rtol=1e-12)


def test_xarray_finds_dimensions_and_metres(shown):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    path, plane = shown
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pitch and origin, whose pairs have no scale
        opened = xarray.open_dataset(path, group="entry/masks", engine="h5netcdf")
    with opened as found:
        assert found.level.dims == AXES
        assert found.level.dtype == plane.levels.dtype
        assert np.array_equal(found.level, plane.levels)
        for name, due in zip(AXES[1:], middles(plane), strict=True):
            assert np.allclose(found.coords[name], due, rtol=1e-12)
            assert found.coords[name].attrs["units"] == "m"
        y, x = middles(plane)
        assert found.level.sel(tile=1, y=y[5], x=x[7], method="nearest") == plane.levels[1, 5, 7]


def test_scales_are_neither_needed_nor_followed(shown, tmp_path):
    path, plane = shown
    (tmp_path / "bent.h5").write_bytes(path.read_bytes())
    with h5py.File(tmp_path / "bent.h5", "r+") as file:
        file["entry/masks/level"].attrs["DIMENSION_LIST"] = np.arange(5.0)
        del file["entry/masks/x"].attrs["REFERENCE_LIST"]
    assert np.array_equal(MaskSet.load(tmp_path / "bent.h5").planes[0].levels, plane.levels)
