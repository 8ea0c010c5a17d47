"""NDBC text of every layout into rows of text: bound by name, and refused where a field's meaning is not known."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.errors import ContractViolation, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.parse import Notes, parse
from refresh_pipelines.parse.ndbc import BLOCK, UNITS
from refresh_pipelines.window import Window, window_of
from refresh_pipelines_tests.workbench import builtin

REALTIME, HISTORY = builtin("ndbc_stdmet"), builtin("ndbc_stdmet_history")
HERE = Window(names={"station": "tplm2"})
NAMES = "WDIR WSPD GST  WVHT   DPD   APD MWD   PRES  ATMP  WTMP  DEWP  VIS"
UNIT_LINE = "#yr  mo dy hr mn degT m/s  m/s     m   sec   sec degT   hPa  degC  degC  degC"
HEAD = f"#YY  MM DD hh mm {NAMES}  TIDE\n{UNIT_LINE}   mi    ft\n"
ROW = "2020 01 01 00 50 188  6.1  6.2 99.00 99.00 99.00 999 1006.1   9.5   6.6  -0.3 99.0 99.00\n"
NEW = f"#YY  MM DD hh mm {NAMES} PTDY  TIDE\n{UNIT_LINE}  nmi  hPa    ft\n"
LATEST = "2022 06 05 13 00 280  3.0  4.0    MM    MM    MM  MM 1015.2    MM  13.9    MM   MM +1.6    MM\n"
OLD = "WD   WSPD GST  WVHT  DPD   APD  MWD  BAR    ATMP  WTMP  DEWP  VIS"
MEASURES = "188  6.1  6.2 99.00 99.00 99.00 999 1006.1   9.5   6.6  -0.3 99.0"


@pytest.fixture
def read(tmp_path):
    def rows(text, spec=HISTORY, window=HERE):
        path = tmp_path / "payload"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return [row for batch in parse(spec, path, window, Notes()) for row in batch.to_pylist()]

    return rows


def test_a_row_has_todays_names_an_instant_and_null_for_what_the_file_lacks(read):
    (row,) = read(HEAD + ROW)
    assert row == {
        "obs_time": "2020-01-01T00:50:00Z", "WDIR": "188", "WSPD": "6.1", "GST": "6.2", "WVHT": "99.00",
        "DPD": "99.00", "APD": "99.00", "MWD": "999", "PRES": "1006.1", "ATMP": "9.5", "WTMP": "6.6", "DEWP": "-0.3",
        "VIS": "99.0", "PTDY": None, "TIDE": "99.00", "station_id": "TPLM2",
    }  # fmt: skip


def test_the_realtime_files_tendency_is_not_taken_for_the_tide(read):
    (row,) = read(NEW + LATEST, REALTIME)
    assert (row["VIS"], row["PTDY"], row["TIDE"], "station_id" in row) == ("MM", "+1.6", "MM", False)


@pytest.mark.parametrize(
    ("head", "row", "at", "tide"),
    [
        (f"YY MM DD hh {OLD}", f"98 01 01 00 {MEASURES}", "1998-01-01T00:00:00Z", None),
        (f"YY MM DD hh {OLD}\r", f"70 12 31 23 {MEASURES}\r", "1970-12-31T23:00:00Z", None),
        (f"YYYY MM DD hh {OLD}", f"1999 01 01 07 {MEASURES}", "1999-01-01T07:00:00Z", None),
        (f"YYYY MM DD hh {OLD}  TIDE", f"2004 12 31 23 {MEASURES} -0.04", "2004-12-31T23:00:00Z", "-0.04"),
        (f"YYYY MM DD hh mm  {OLD}  TIDE", f"2005 01 01 00 30 {MEASURES} 99.00", "2005-01-01T00:30:00Z", "99.00"),
    ],
)
def test_layouts_before_2007_are_read_by_their_old_names(read, head, row, at, tide):
    (found,) = read(f"{head}\n{row}\n")
    assert (found["obs_time"], found["TIDE"]) == (at, tide)
    assert (found["WDIR"], found["PRES"], found["VIS"]) == ("188", "1006.1", "99.0")


def test_the_tide_may_be_absent_from_the_first_rows_of_an_old_file_only(read):
    head = f"YYYY MM DD hh {OLD}  TIDE\n"
    without, with_tide = f"2000 01 01 {{:02d}} {MEASURES}\n", f"2000 01 01 {{:02d}} {MEASURES} 1.50\n"
    rows = read(head + without.format(0) + without.format(1) + with_tide.format(2))
    assert [row["TIDE"] for row in rows] == ["", "", "1.50"]
    with pytest.raises(ContractViolation, match="Expected 17 columns, got 16"):
        read(head + with_tide.format(0) + without.format(1))


@pytest.mark.parametrize("unit", ["degT", "deg"])
def test_a_wave_direction_in_deg_is_the_same_unit(read, unit):
    assert len(read(HEAD.replace("sec degT", f"sec {unit}") + ROW)) == 1


@pytest.mark.parametrize(
    ("old", "new", "came"),
    [("hPa", "inHg", "PRES in inHg"), ("   mi", "   km", "VIS in km"), (" m/s  m/s", "  kt   kt", "WSPD in kt")],
)
def test_another_unit_is_refused(read, old, new, came):
    with pytest.raises(ContractViolation, match=f"{came}.*If NDBC has changed a unit"):
        read(HEAD.replace(old, new, 1) + ROW)


def test_a_header_with_a_sign_but_without_units_is_refused(read):
    with pytest.raises(ContractViolation, match="second line does not name the known units"):
        read(HEAD.splitlines(keepends=True)[0] + ROW)


def test_a_column_that_ndbc_adds_keeps_its_name_for_the_contract_to_note(read):
    text = (
        (HEAD + ROW)
        .replace("TIDE\n", "TIDE  SALT\n")
        .replace("   ft\n", "   ft   psu\n")
        .replace("99.00\n", "99.00 31.2\n")
    )
    (row,) = read(text)
    assert (row["SALT"], row["TIDE"]) == ("31.2", "99.00")


@pytest.mark.parametrize(
    "head",
    [
        "#YY MM DD hh mm WVHT SwH SwP WWH WWP SwD WWD STEEPNESS APD MWD",
        "#YY  MM DD hh mm WDIR WSPD GDR GST GTIME",
        f"#YY MM DD hh mm {NAMES} TIDE TIDE",
        f"#MM YY DD hh mm {NAMES}",
        ROW.strip(),
        "Unable to access data file.",
    ],
)
def test_a_first_line_that_is_no_such_header_is_refused(read, head):
    with pytest.raises(ContractViolation, match="first line is no header"):
        read(f"{head}\n{ROW}")


def test_an_archive_file_is_no_realtime_file_as_its_nines_would_be_values(read):
    with pytest.raises(ContractViolation, match="without PTDY"):
        read(HEAD + ROW, REALTIME)


@pytest.mark.parametrize("row", [ROW.replace(" 999 ", " "), ROW.replace("\n", " 1\n"), "#" + ROW, "the end\n"])
def test_a_row_with_another_number_of_fields_is_refused_with_the_row(read, row):
    with pytest.raises(ContractViolation, match="Expected 18 columns, got"):
        read(HEAD + ROW * 3 + (row.replace("#", "# ")))


def test_a_time_that_is_none_is_left_for_the_contract_to_refuse(read):
    (row,) = read(HEAD + ROW.replace("2020 01 01", "2020 13 MM"))
    assert row["obs_time"] == "2020-13-MMT00:50:00Z"


def test_gzip_is_known_by_its_first_bytes(read):
    assert read(gzip.compress((HEAD + ROW).encode())) == read(HEAD + ROW)


@pytest.mark.parametrize("kept", [12, 60, -9, -4])
def test_a_gzip_file_that_breaks_off_may_be_whole_next_time(read, kept):
    with pytest.raises(UpstreamUnavailable, match="gzip file is truncated or damaged"):
        read(gzip.compress((HEAD + ROW * 50).encode())[:kept])


@pytest.mark.parametrize("text", [HEAD + ROW + ROW[:40], (HEAD + ROW)[:-1], HEAD[:-9], HEAD + ROW + "2020"])
def test_a_text_that_breaks_off_in_a_line_may_be_whole_next_time(read, text):
    with pytest.raises(UpstreamUnavailable, match="breaks off in the middle of a line"):
        read(text)


@pytest.mark.parametrize("body", [b"", b"\n", gzip.compress(b"", mtime=0), gzip.compress(b"<html>no</html>", mtime=0)])
def test_nothing_and_web_pages_are_refused(read, body):
    with pytest.raises(UpstreamRefused):
        read(body)


def test_headers_alone_are_no_rows(read):
    assert read(HEAD) == read(HEAD + "\n \n") == []


def test_what_unpacks_to_more_than_allowed_is_refused(read):
    small = HISTORY.model_copy(update={"request": HISTORY.request.model_copy(update={"max_unpacked": 10_000})})
    with pytest.raises(UpstreamRefused, match="unpacks to more than"):
        read(gzip.compress((HEAD + ROW * 1000).encode()), small)


def test_a_file_of_several_blocks_loses_no_row_at_their_edges(read):
    count = BLOCK * 2 // len(ROW) + 7
    assert len(read(HEAD + ROW * count)) == count


def test_an_endless_line_is_not_gathered_in_memory(read):
    with pytest.raises(ContractViolation, match="a line of more than"):
        read(HEAD + "1 " * BLOCK)


def test_the_archive_is_not_read_without_a_station(read):
    with pytest.raises(UpstreamRefused, match="or name a partition"):
        read(HEAD + ROW, HISTORY, window_of(HISTORY, None))


word = st.text("0123456789.-+MM", min_size=1, max_size=6)
gap = st.sampled_from([" ", "  ", "\t", "    ", " \t "])


@given(
    rows=st.lists(st.lists(word, min_size=18, max_size=18), min_size=1, max_size=8),
    gaps=st.lists(gap, min_size=1, max_size=5),
    end=st.sampled_from(["\n", "\r\n", " \n", "\n\n"]),
    order=st.permutations(list(UNITS)[:-2]),
)
def test_any_white_space_and_any_order_of_columns_give_the_same_values(tmp_path_factory, rows, gaps, end, order):
    names = ["YY", "MM", "DD", "hh", "mm", *order, "TIDE"]
    units = ["yr", "mo", "dy", "hr", "mn", *(sorted(UNITS[name])[0] for name in [*order, "TIDE"])]
    lines = ["#" + " ".join(names), "#" + " ".join(units)]
    lines += ["".join(value + gaps[i % len(gaps)] for i, value in enumerate(row)).rstrip() for row in rows]
    path = tmp_path_factory.mktemp("ndbc") / "payload"
    path.write_bytes(("\n".join(lines[:2]) + "\n" + "".join(line + end for line in lines[2:])).encode())
    found = [row for batch in parse(HISTORY, path, HERE, Notes()) for row in batch.to_pylist()]
    assert [[row[name] for name in names[5:]] for row in found] == [row[5:] for row in rows]
