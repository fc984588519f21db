import pytest

import fouroptics as fo
from fouroptics.devices.lut import Lut, read_dead, read_lut


def write(folder, *lines):
    path = folder / "a table µ.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_table_as_measured(tmp_path):
    path = write(
        tmp_path, "# panel 7", "drive, phase_rad, transmittance", "0,0.1,1", "", "128, 3.0, 0.81", "255,6.3,.25"
    )
    table = read_lut(path, monotonic="phase_rad")
    assert table == Lut((0.0, 128.0, 255.0), (0.1, 3.0, 6.3), (1.0, pytest.approx(0.9), pytest.approx(0.5)))
    assert len(table) == 3


def test_the_transmittance_may_be_left_out_and_a_phase_may_fall(tmp_path):
    table = read_lut(write(tmp_path, "drive,phase_rad", "0,6", "1,3", "2,3", "3,-1"), monotonic="phase_rad")
    assert table == Lut((0, 1, 2, 3), (6, 3, 3, -1), (1, 1, 1, 1))
    path = tmp_path / "bom.csv"
    path.write_bytes(b"\xef\xbb\xbfdrive,phase_rad\r\n0,0\r\n1,1\r\n")
    assert read_lut(str(path)).phase == (0.0, 1.0)


HEAD = "drive,phase_rad,transmittance"


@pytest.mark.parametrize(
    ("lines", "line", "says"),
    [
        ((), "", "is empty"),
        (("drive;phase_rad;transmittance", "0;0;1"), ": line 1", "the first line is drive,phase_rad,transmittance"),
        (("drive", "0"), ": line 1", "names other columns"),
        (("0,0,1", "1,1,1"), ": line 1", "names other columns"),
        ((HEAD, "0,0,1", "1,1"), ": line 3", "2 values for 3 columns"),
        ((HEAD, "0,0,1", "", "1,one,1"), ": line 4", "'one' is not a number"),
        ((HEAD, "0,0,1", "1,nan,1"), ": line 3", "'nan' is not a number"),
        ((HEAD, "0,0,1", "0,1,1"), ": line 3", "the drive goes from 0 to 0"),
        ((HEAD, "5,0,1", "4,1,1"), ": line 3", "sort the rows by drive"),
        ((HEAD, "0,0,1", "1,1,-0.1"), ": line 3", "a transmittance of -0.1"),
        ((HEAD, "0,0,0", "1,1,0"), "", "nothing passes at any drive"),
        ((HEAD, "0,0,93", "1,1,94"), ": line 2", "write one from 0 to 1"),
        ((HEAD, "0,0,1"), "", "two rows or more"),
        ((HEAD, "0,0,1", "1,2,1", "2,1,1", "3,3,1"), ": line 4", "phase_rad turns back from 2 to 1"),
        ((HEAD, "0,3,1", "1,1,1", "2,2,1", "3,0,1"), ": line 4", "phase_rad turns back from 1 to 2"),
        ((HEAD, "0,3,1", "1,3,1"), "", "phase_rad is 3 at every drive"),
    ],
)
def test_a_bad_table_names_its_line(tmp_path, lines, line, says):
    path = write(tmp_path, *lines)
    with pytest.raises(fo.InputError) as caught:
        read_lut(path, monotonic="phase_rad")
    assert caught.value.where == f"{path}{line}"
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_transmittance_rises_where_it_is_what_is_chosen(tmp_path):
    path = write(tmp_path, HEAD, "0,0,0.01", "1,0,0.5", "2,0,0.4", "3,0,1")
    assert read_lut(path).amplitude[1] == pytest.approx(0.5**0.5)
    with pytest.raises(fo.InputError, match=r"line 4: transmittance turns back from 0\.5 to 0\.4"):
        read_lut(path, monotonic="transmittance")
    falling = write(tmp_path, HEAD, "0,0,1", "1,0,0.5")
    with pytest.raises(fo.InputError, match="line 3"):
        read_lut(falling, monotonic="transmittance")


def test_stuck_pixels(tmp_path):
    path = write(tmp_path, "x,y,level", "3,0,255", "0,7,0")
    assert read_dead(path) == [(3, 0, 255), (0, 7, 0)]
    assert read_dead(path, pixels=(4, 8), levels=256) == [(3, 0, 255), (0, 7, 0)]
    assert read_dead(write(tmp_path, "x,y,level")) == []


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("4,0,0", "x = 4 is none of the panel's; write 0 to 3"),
        ("0,8,0", "y = 8 is none of the panel's; write 0 to 7"),
        ("0,0,256", "level = 256 is none of the panel's; write 0 to 255"),
        ("0.5,0,0", "x = 0.5"),
        ("-1,0,0", "x = -1"),
        ("1,1,0", "pixel 1, 1 is listed twice"),
    ],
)
def test_stuck_pixels_that_are_none(tmp_path, row, says):
    path = write(tmp_path, "x,y,level", "1,1,1", row)
    with pytest.raises(fo.InputError) as caught:
        read_dead(path, pixels=(4, 8), levels=256)
    assert caught.value.where == f"{path}: line 3"
    assert says in str(caught.value)
