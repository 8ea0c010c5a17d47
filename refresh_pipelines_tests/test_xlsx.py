"""One sheet of a workbook into rows of text: which sheet, what cells say, and formulas nobody has computed."""

from __future__ import annotations

import datetime as dt

import pytest

from refresh_pipelines.errors import ContractViolation, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.parse import Notes, parse
from refresh_pipelines.parse.workbook import address
from refresh_pipelines.window import Window
from refresh_pipelines_tests.make_survey_samples import put, workbook
from refresh_pipelines_tests.workbench import spec_of

ROWS = [["k", "n", "t"], ["a", 1, "x"], ["b", 2.5, None]]


@pytest.fixture
def read(tmp_path):
    def rows(body: bytes, limit="4GB", **form):
        path = tmp_path / "a.xlsx"
        path.write_bytes(body)
        request = {"url": "https://example.org/a", "max_unpacked": limit}
        spec = spec_of(format={"kind": "xlsx", **form}, request=request)
        return [row for batch in parse(spec, path, Window(), Notes()) for row in batch.to_pylist()]

    return rows


def book(rows=None, name="Data", hidden=(), change=None, cached=None) -> bytes:
    def fill(made):
        put(made.create_sheet(name), rows or ROWS)
        for other in hidden:
            sheet = made.create_sheet(other)
            sheet.sheet_state = "hidden"
            put(sheet, [["k"], ["hidden"]])
        if change:
            change(made)

    return workbook(fill, cached)


def test_the_first_row_names_the_columns_and_blank_rows_are_none(read):
    rows = [*ROWS[:2], [], [None, None, " "], ROWS[2], []]
    assert read(book(rows)) == [{"k": "a", "n": "1", "t": "x"}, {"k": "b", "n": "2.5", "t": ""}]


def test_lines_above_the_header_are_skipped_and_fields_named_by_position(read):
    assert read(book([["Title"], [], *ROWS]), skip_lines=2)[1]["n"] == "2.5"
    assert read(book(ROWS[1:]), fields=["a", "b", "c"])[0] == {"a": "a", "b": "1", "c": "x"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"), (7.0, "7"), (0.1, "0.1"), (1e20, "1e+20"), (-12345678901234, "-12345678901234"), (True, "true"),
        ("007", "007"), (" é\n", "é"),
        (dt.date(2026, 1, 31), "2026-01-31"),
        ("#N/A", "#N/A"),
        (dt.datetime.fromisoformat("2026-01-31T06:30"), "2026-01-31T06:30:00"),
        (dt.time(6, 30), "06:30:00"), ("=not()", "=not()"),
    ],
)  # fmt: skip
def test_a_cell_is_the_text_of_its_value(read, value, text):
    def typed(made):
        if value == "=not()":
            made["Data"]["A2"].data_type = "s"

    assert read(book([["k"], [value]], change=typed))[0]["k"] == text


def test_a_formula_is_the_value_that_was_saved_with_it(read):
    rows = [["k"], ["=1+1"]]
    assert read(book(rows, cached={"1+1": "2"})) == [{"k": "2"}]
    with pytest.raises(ContractViolation, match="sheet 'Data', cell A2 cannot be read") as caught:
        read(book(rows))
    assert "a formula without a value" in caught.value.came


def test_a_formula_whose_text_is_empty_is_a_blank(read):
    body = book([["k", "t"], ["a", '=""']], cached={'""': ""})
    body = workbook_with(body, '<c r="B2">', '<c r="B2" t="str">')
    assert read(body) == [{"k": "a", "t": ""}]


def workbook_with(body, old, new):
    """The workbook with a piece of its first sheet's XML replaced."""
    import io  # noqa: PLC0415
    import zipfile  # noqa: PLC0415

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as before, zipfile.ZipFile(out, "w") as after:
        for name in before.namelist():
            text = before.read(name).decode()
            assert name != "xl/worksheets/sheet1.xml" or old in text
            after.writestr(name, text.replace(old, new) if name == "xl/worksheets/sheet1.xml" else text)
    return out.getvalue()


def test_what_a_sheet_says_of_its_size_is_not_believed(read):
    body = workbook_with(book(), '<dimension ref="A1:C3"', '<dimension ref="A1:A1"')
    assert len(read(body)) == 2


def test_a_hidden_sheet_is_read_only_when_it_is_named(read):
    body = book(hidden=["Old"])
    assert len(read(body)) == 2
    assert read(body, sheet="old") == [{"k": "hidden"}]


def test_several_sheets_to_choose_from_are_refused_with_their_names(read):
    body = book(hidden=["Old"], change=lambda made: made.create_sheet("More"))
    with pytest.raises(ContractViolation, match=r"exactly one sheet that is shown; got 'Data', 'Old' .hidden., 'More'"):
        read(body)
    assert len(read(body, sheet="Data")) == 2
    with pytest.raises(ContractViolation, match="exactly one sheet 'None of them'"):
        read(body, sheet="None of them")


def test_values_beside_the_table_and_repeated_names_are_refused(read):
    with pytest.raises(ContractViolation, match=r"cell D2 .*'y' in a column without a name"):
        read(book([ROWS[0], [*ROWS[1], "y"]]))
    with pytest.raises(ContractViolation, match="names a field twice"):
        read(book([["k", "k"], [1, 2]]))


def test_an_empty_sheet_is_refused(read):
    with pytest.raises(UpstreamRefused, match="the sheet 'Data' is empty"):
        read(book([[]]))


def test_a_workbook_that_unpacks_to_too_much_or_breaks_off_is_not_read(read):
    body = book([["k"], *([f"x{number}"] for number in range(5000))])
    with pytest.raises(UpstreamRefused, match="unpacks to more than"):
        read(body, limit="10KB")
    with pytest.raises(UpstreamUnavailable, match="truncated or damaged"):
        read(body[:-40])


ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha"}">' for n in range(9))


@pytest.mark.parametrize("text", ['<!ENTITY e8 SYSTEM "file:///etc/hostname">', ENTITIES], ids=["of a file", "a bomb"])
def test_a_workbook_with_entities_is_refused_and_none_is_followed(read, text):
    body = workbook_with(book(), "<worksheet", f"<!DOCTYPE worksheet [{text}]><worksheet")
    with pytest.raises(ContractViolation, match=r"the workbook cannot be read.*EntitiesForbidden"):
        read(body)


def test_an_archive_that_is_no_workbook_is_refused(read):
    body = workbook_with(book(), "<sheetData>", "<sheetData")
    with pytest.raises(ContractViolation, match="the workbook cannot be read"):
        read(body)


@pytest.mark.parametrize(("place", "letters"), [(1, "A"), (26, "Z"), (27, "AA"), (702, "ZZ"), (703, "AAA")])
def test_addresses_are_those_of_a_spreadsheet(place, letters):
    assert address(14, place) == f"{letters}14"
