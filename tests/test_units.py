import math
import subprocess
import sys

import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fouroptics import units
from fouroptics.errors import InputError

KINDS = ("length", "optical path", "angle", "ratio", "time", "rate", "data rate", "power", "irradiance")
FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30).filter(
    lambda x: x == 0 or abs(x) > 1e-30
)


@pytest.mark.parametrize(
    ("written", "kind", "si"),
    [
        ("532 nm", "length", 532e-9),
        ("1.5e1 mm", "length", 15e-3),
        ("1 in", "length", 0.0254),
        ("8 \u00b5m", "length", 8e-6),
        ("8 \u03bcm", "length", 8e-6),
        ("-10 nm", "optical path", -10e-9),
        ("93 %", "ratio", 0.93),
        ("100 ppm", "ratio", 1e-4),
        ("60 Hz", "rate", 60.0),
        ("2.5 Gbit/s", "data rate", 2.5e9),
        ("100 kB/s", "data rate", 800e3),
        ("12 ms", "time", 0.012),
        ("1 h", "time", 3600.0),
        ("180 deg", "angle", math.pi),
        ("180 °", "angle", math.pi),
        ("5 mW", "power", 5e-3),
        ("2 W/cm^2", "irradiance", 2e4),
    ],
)
def test_reads_quantities(written, kind, si):
    assert units.parse(written, kind) == pytest.approx(si, rel=1e-15)


def test_decimal_conversion_is_correctly_rounded():
    assert units.parse("532 nm", "length") == 532e-9  # 532 * 1e-9 in floats is off by one bit
    assert units.parse("0.1 mm", "length") == 1e-4


@given(value=FINITE, kind=st.sampled_from(KINDS))
def test_what_is_written_reads_back_to_the_very_same_float(value, kind):
    assert units.parse(units.text(value, kind), kind) == value


def test_shows_for_people():
    assert units.show(5.32e-7, "length") == "532 nm"
    assert units.show(0.93, "ratio") == "93 %"
    assert units.show(1 / 60, "time") == "16.67 ms"
    assert [units.show(x, "ratio") for x in (0.006, 5e-5, 0.0)] == ["0.6 %", "50 ppm", "0 %"]
    assert [units.show(x, "length") for x in (1.0, 0.0, 999e-9, 1e-6, 1e-13)] == [
        "1 m",
        "0 m",
        "999 nm",
        "1 um",
        "0.1 pm",
    ]


def test_waves_need_a_wavelength():
    assert units.parse("0.02 waves", "optical path", wavelength=500e-9) == pytest.approx(10e-9)
    with pytest.raises(InputError, match="needs a wavelength"):
        units.parse("0.02 waves", "optical path")
    with pytest.raises(InputError, match="not a unit of length"):
        units.parse("0.02 waves", "length")


@pytest.mark.parametrize(
    ("written", "kind", "word"),
    [
        ("8 px", "length", "bare number"),
        ("8 pixels", "length", "bare number"),
        ("35 fps", "rate", "'Hz'"),
        ("35 frames/s", "rate", "'Hz'"),
        ("2.5 Gbps", "data rate", "'Gbit/s'"),
        ("532 Nm", "length", "'nm'"),
        ("532nm", "length", "'532 nm'"),
        ("93%", "ratio", "'93 %'"),
        ("8 micron", "length", "'um'"),
    ],
)
def test_wrong_words_are_answered_with_the_right_one(written, kind, word):
    with pytest.raises(InputError) as caught:
        units.parse(written, kind)
    assert word in caught.value.mend


HOSTILE = """[1,2] nm|532|inf nm|nan nm|9**9**9 nm|1e999 nm|532  nm| 532 nm|532 nm\n|5,32 nm|٣ nm|nm|0x10 nm|1_0 nm
|532 nm nm|532 kg|3 m*m"""


@pytest.mark.parametrize(
    "hostile", [*HOSTILE.replace("nm\n|532 nm nm", "nm|532 nm nm").split("|"), "", "1 " + "n" * 80]
)
def test_refuses_whatever_is_no_quantity(hostile):
    with pytest.raises(InputError):
        units.parse(hostile, "length")


@pytest.mark.parametrize("bare", [532, 532.0, True, None, ["532 nm"], {"v": 1}])
def test_a_bare_value_is_answered_with_an_example(bare):
    with pytest.raises(InputError, match="no unit"):
        units.parse(bare, "length")


def test_pint_quantities_come_in_through_the_same_door():
    registry = pint.get_application_registry()
    assert units.parse(registry.Quantity(532, "nm"), "length") == pytest.approx(532e-9)
    with pytest.raises(InputError, match="is no length"):
        units.parse(registry.Quantity(532, "kg"), "length")


def test_what_a_program_redefines_in_pint_does_not_change_a_file():
    code = (
        "import pint; r = pint.get_application_registry(); r.define('um = 3 * m');"
        "from fouroptics import units; assert units.parse('1 um', 'length') == 1e-6"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_implausible_values_name_the_unit_that_was_meant():
    wavelength = units.Quantity("length", 100e-9, 20e-6, "532 nm")
    with pytest.raises(InputError) as caught:
        wavelength.parse("532 m")
    assert caught.value.mend == "did you mean '532 nm'?"
    with pytest.raises(InputError, match="negative"):
        wavelength.parse("-532 nm")
    with pytest.raises(InputError, match="zero"):
        wavelength.parse("0 nm")
