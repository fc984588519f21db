"""Masks that carry the conjugate of the lenses' errors: against lenses that have none, in every light."""

import pytest
import torch

import fouroptics as fo
from fouroptics.imperfections import Imperfections
from tests.device_banks import IDEAL, STILL, apart, bank_of, bench_of, compact, conv2d, randn

BENT = {
    "aberration.zernike": {"2": "60 nm", "4": "50 nm", "5": "25 nm", "7": "30 nm"}
}  # with a slope, which has a sign
RIGHT = {"mask.correct_aberration": True, "camera.exposure": "1 us"}
WRONG = {"camera.exposure": "1 us"}
LENSES = {"none": WRONG | {"aberration.zernike": {}}, "bent": WRONG | BENT, "corrected": RIGHT | BENT}


def read_of(bench, kernels, pictures, **options):
    with torch.no_grad():
        return bank_of(kernels, bench, **options)(pictures)


@pytest.mark.parametrize(
    ("changes", "channels", "options"),
    [
        (IDEAL, (2, 2), {"readout": "intensity"}),
        (IDEAL, (2, 1), {"readout": "homodyne"}),
        (IDEAL | {"layout.outputs": "tiled"}, (2, 1), {"readout": "homodyne"}),
        (IDEAL, (1, 1), {"readout": "intensity", "light": "free_space"}),
    ],
)
def test_corrected_masks_read_as_if_the_lenses_were_without_fault(changes, channels, options):
    kernels, pictures = randn(*channels, 5, 5), compact(channels[1], (16, 16))
    benches = {name: bench_of(128, changes | lenses) for name, lenses in LENSES.items()}
    none, bent, corrected = (read_of(bench, kernels, pictures, **options) for bench in benches.values())
    assert apart(bent, none) > 0.1
    assert apart(corrected, none) < 0.1 * apart(bent, none)


def test_on_a_carrier_the_conjugate_is_in_the_first_order():
    """Its own error, of a tenth, is left: it is another one where phases are others."""
    kernels, pictures = randn(1, 2, 5, 5), compact(2, (16, 16))
    truth, off = conv2d(pictures[None], kernels)[0], {}
    for name, lenses in LENSES.items():
        read = read_of(bench_of(256, {"mask.encoding": "carrier"} | lenses), kernels, pictures, readout="homodyne")
        off[name] = apart(read * (truth.square().sum() / (read * truth).sum()), truth)
    assert off["corrected"] < 0.5 * off["bent"] and off["corrected"] < off["none"]


def test_light_that_leaves_errors_out_leaves_their_conjugate_out_too():
    """What the bank calls its field has no lens errors in it, and neither may the masks' answer to them."""
    kernels, pictures = randn(2, 2, 5, 5), compact(2, (16, 16))
    fields = [bank_of(kernels, bench_of(128, IDEAL | way)).field(pictures) for way in LENSES.values()]
    none, bent, corrected = (field.detach() for field in fields)
    assert torch.equal(bent, none)
    truth = conv2d(pictures[None], kernels)[0]
    assert apart(corrected, truth) < 1.2 * apart(none, truth) + 1e-3


def test_ideal_masks_are_those_of_lenses_without_fault():
    kernels, pictures = randn(2, 1, 3, 3), compact(1, (16, 16))
    banks = [
        fo.Correlator4f.from_kernels(kernels, bench_of(96, way), (16, 16), readout="homodyne")
        for way in LENSES.values()
    ]
    none, bent, corrected = (bank(pictures) for bank in banks)
    assert torch.equal(corrected, none) and apart(bent, none) > 0.1


@pytest.mark.parametrize("masks", ["ideal", "device"])
def test_what_is_off_beyond_what_is_known_stays(masks):
    """A corrected bench with 80 nm more of defocus reads as a faultless one with 80 nm of it."""
    kernels, pictures, more = randn(1, 1, 5, 5), compact(1, (16, 16)), 80e-9
    drawn = Imperfections({"aberration.zernike.4": more})

    def bank(lenses):
        bench = bench_of(128, IDEAL | lenses | {"stop.size": "8.3 mm"})
        return fo.Correlator4f.from_kernels(kernels, bench, (16, 16), masks=masks).eval()

    with torch.no_grad():
        corrected = bank(LENSES["corrected"])(pictures, errors=drawn)
        alone = bank(WRONG | {"aberration.zernike": {"4": f"{more} m"}})(pictures)
        none = bank(LENSES["none"])(pictures)
    assert apart(corrected, alone) < 0.1 * apart(none, alone)


def test_a_bench_that_corrects_nothing_is_the_bench_that_it_was():
    bench = fo.Bench.load("slm-532nm")  # whose fingerprint is told in tests/bench
    corrected = bench.replace({"mask.correct_aberration": True})
    assert corrected.fingerprint() != bench.fingerprint()
    strehl = [one.sampling((32, 32)).data["strehl"] for one in (bench, corrected)]
    assert strehl[0] < 0.97 and strehl[1] == 1.0


def test_a_file_says_that_its_masks_are_corrected(tmp_path):
    kernels, pictures = randn(2, 1, 3, 3), compact(1, (16, 16))
    bank = bank_of(kernels, bench_of(96, RIGHT | BENT | STILL | BENT), readout="homodyne")
    fo.MaskSet.from_correlator(bank, title="corrected").save(tmp_path / "masks.h5")
    again = fo.MaskSet.load(tmp_path / "masks.h5").correlator()
    assert again.bench.mask.correct_aberration
    with torch.no_grad():
        assert apart(again(pictures.to(again.kernels.dtype)), bank(pictures)) < 1e-6
