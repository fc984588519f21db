import math
import subprocess
import sys

import pytest
import torch

import fouroptics as fo
from fouroptics.devices.material import focal_length, index, step_depth

TABLE = {532e-9: 1.4607, 633e-9: 1.457}


@pytest.mark.parametrize(
    ("material", "wavelength", "published"),
    [
        ("fused-silica", 532e-9, 1.4607),
        ("fused-silica", 587.5618e-9, 1.45846),  # Malitson's table II
        ("fused-silica", 1013.98e-9, 1.45024),
        ("n-bk7", 587.5618e-9, 1.51680),  # Schott's data sheet: n_d, n_C, n_1060
        ("n-bk7", 656.2725e-9, 1.51432),
        ("n-bk7", 1060e-9, 1.50669),
        ("air", 532e-9, 1.0),
    ],
)
def test_published_indices(material, wavelength, published):
    digits = 5e-5 if published == 1.4607 else 5e-6
    assert index(material, wavelength) == pytest.approx(published, abs=digits)
    tensor = torch.tensor([wavelength], dtype=torch.float64)
    assert index(material, tensor).item() == pytest.approx(index(material, wavelength), rel=1e-12)


def test_etch_depths_of_silica_in_green():
    depths = [step_depth(levels, 1.4607, 532e-9) * 1e9 for levels in (2, 4, 8, 16)]
    assert depths == pytest.approx([577.4, 288.7, 144.3, 72.2], abs=0.05)
    assert step_depth(16, index("fused-silica", 532e-9), 532e-9) == pytest.approx(72.2e-9, abs=0.05e-9)


def test_a_table_is_straight_between_and_beyond_its_entries():
    slope = -0.0037 / 101e-9
    assert index(TABLE, 532e-9) == pytest.approx(1.4607, rel=1e-14)
    assert index(TABLE, 582.5e-9) == pytest.approx(1.45885)
    assert index(TABLE, 531e-9) == pytest.approx(1.4607 - 1e-9 * slope)
    bent = {633e-9: 1.457, 532e-9: 1.4607, 1064e-9: 1.45}  # in any order
    assert index(bent, 1064e-9) == pytest.approx(1.45)
    assert index(bent, 800e-9) == pytest.approx(1.457 - 0.007 * 167 / 431)
    assert index({532e-9: 1.5}, 1e-6) == 1.5
    both = torch.tensor([582.5e-9, 800e-9], dtype=torch.float64)
    assert index(bent, both).tolist() == pytest.approx([1.45885, 1.457 - 0.007 * 167 / 431])


@pytest.mark.parametrize("material", ["fused-silica", "n-bk7", TABLE])
def test_a_drifting_laser_has_a_gradient(material):
    wavelength = torch.tensor(560e-9, dtype=torch.float64, requires_grad=True)
    index(material, wavelength).backward()
    step = 1e-11
    slope = (index(material, 560e-9 + step) - index(material, 560e-9 - step)) / (2 * step)
    assert wavelength.grad.item() == pytest.approx(slope, rel=1e-5)
    assert slope < 0  # normal dispersion
    depth = step_depth(16, index(material, wavelength), wavelength)
    depth.backward()
    assert torch.isfinite(wavelength.grad)


def test_a_single_lens_is_longer_in_red_and_an_achromat_is_not():
    red = focal_length(0.25, "fused-silica", 587.5618e-9, 632.8e-9)  # n = 1.45846 and 1.45702
    assert red == pytest.approx(0.25 * 0.45846 / 0.45702, rel=3e-5)
    assert focal_length(0.25, None, 532e-9, 633e-9) == 0.25
    drifted = torch.tensor(533e-9, dtype=torch.float64, requires_grad=True)
    focal_length(0.25, "n-bk7", 532e-9, drifted).backward()
    assert drifted.grad > 0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: index("glass", 532e-9), "choose from 'air', 'fused-silica', 'n-bk7'"),
        (lambda: index("fused-silica", 10.6e-6), "nobody measured fused-silica at 10.6 um; it is known from 210 nm"),
        (lambda: index("n-bk7", torch.tensor([532e-9, 200e-9])), "nobody measured n-bk7"),
        (lambda: index("n-bk7", torch.tensor(math.nan)), "nobody measured"),
        (lambda: index({}, 532e-9), "1.4607"),
        (lambda: step_depth(1, 1.46, 532e-9), "write 2 or more"),
        (lambda: step_depth(4, 1.0, 532e-9), "delays nothing"),
    ],
)
def test_what_no_glass_is(wrong, says):
    with pytest.raises(fo.InputError) as caught:
        wrong()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_torch_is_loaded_for_floats():
    code = (
        "import sys; from fouroptics.devices.material import index; from fouroptics.devices import lut, layout;"
        "import fouroptics; fouroptics.Bench.load('plate-532nm').choose_layout((64, 64), 7, (16, 3));"
        "index('n-bk7', 532e-9); print([m for m in ('torch', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
