"""Survey tables by their layouts: headers over several rows, numbers as people write them, zones, notes, refusals."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.errors import ContractViolation, UpstreamRefused
from refresh_pipelines.parse import Notes
from refresh_pipelines.parse.cells import NoValueError, fold_name, number_of
from refresh_pipelines.parse.workbook import Cell
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines.stage import Part, stage
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.catalogues import write
from refresh_pipelines_tests.make_survey_samples import (
    BUILT,
    CROPS,
    EMPLOYMENT,
    NARROW,
    NBSP,
    crops,
    crops_csv,
    employment,
    put,
    replaced,
)
from refresh_pipelines_tests.workbench import builtin

SPEC = builtin("instad_survey")
DROP = SAMPLES / "instad_survey"
BUILT_HERE = BUILT["instad_survey"]()


@pytest.fixture
def read(tmp_path):
    """Rows of a file by zone as written, category and measure."""

    def rows(body: bytes, name="table.xlsx", notes=None, spec=SPEC):
        path = tmp_path / "staged"
        path.write_bytes(body)
        part = Part(path, {"file": name})
        staged = stage(spec, [part], window_of(spec, "2026-11-22"), tmp_path / "rows.arrow", notes or Notes())
        found = staged.table().to_pylist()
        out = {(row["zone_name_raw"], row["category_code"], row["measure"]): row for row in found}
        assert len(out) == len(found)
        return out

    return rows


def layouts_of(text: str, tmp_path):
    """The source with one change of its YAML."""
    write(tmp_path / "catalog", {"benin/instad_survey.yaml": text})
    catalogue = load_catalogue([tmp_path / "catalog"])
    return catalogue.find("instad_survey")


YAML = (SAMPLES.parent / "catalog" / "benin" / "instad_survey.yaml").read_text()


def test_a_value_says_where_it_stood_and_what_it_is(read):
    body = employment()
    row = read(body)["Sô-Ava", "female", "unemployed"]
    assert row == {
        "survey_code": "ERI-ESI", "wave": "2022", "table_code": "T3", "zone_level": "commune",
        "zone_code": "BJ-AQ-SO-AVA", "zone_key": "BJ-AQ-SO-AVA", "zone_name_raw": "Sô-Ava", "category_code": "female",
        "category_raw": "Population de 15 ans et plus / Femmes / Chômeuses", "period": "2022", "measure": "unemployed",
        "unit": "persons", "value": 800.0, "value_raw": "800",
        "footnote": "Source : ERI-ESI, échantillon inventé. Note : population résidente.",
        "file_sha256": hashlib.sha256(body).hexdigest(), "sheet": "T3 Emploi", "cell": "E11",
    }  # fmt: skip


def test_headers_of_two_and_three_rows_are_read_with_their_merged_cells(read):
    assert {row["category_raw"] for row in read(employment()).values()} >= {
        "Population de 15 ans et plus / Hommes / Occupés", "Taux de chômage", "Part de l'informel",
    }  # fmt: skip
    assert {row["measure"] for row in read(crops()).values()} == {"area", "production", "yield"}


def test_numbers_are_read_however_people_write_them(read):
    rows = read(employment())
    assert rows["BANIKOARA", "male", "employed"]["value"] == 61200
    assert rows["BANIKOARA", "male", "employed"]["value_raw"] == f"61{NBSP}200"
    assert rows["BANIKOARA", "female", "employed"]["value"] == 50010
    assert rows["BANIKOARA", "male", "unemployed"]["value"] == 1250
    assert rows["Ensemble du pays", "total", "informal_share"]["value"] == 84.6
    assert read(crops())["Alibori", "rice", "area"]["value"] == 12500.5


@pytest.mark.parametrize("text", ["-", "…", "...", "nd", "ND", "n.d.", "N.D", " - "])
def test_every_way_to_say_that_there_is_no_value_is_none_and_stays_as_written(read, text):
    row = read(employment(replaced(EMPLOYMENT, 3, 1, text)))["Atlantique", "male", "employed"]
    assert (row["value"], row["value_raw"]) == (None, text.strip())


def test_a_blank_cell_among_values_is_no_value(read):
    row = read(employment(replaced(EMPLOYMENT, 3, 1, None)))["Atlantique", "male", "employed"]
    assert (row["value"], row["value_raw"]) == (None, None)


def test_zones_are_known_with_and_without_accents_capitals_and_hyphens(read):
    rows = read(employment(replaced(replaced(EMPLOYMENT, 5, 0, "SO  AVA"), 3, 0, "ATLANTIQUE")))
    codes = {zone: (row["zone_level"], row["zone_code"]) for (zone, _, _), row in rows.items()}
    assert codes["SO  AVA"] == ("commune", "BJ-AQ-SO-AVA")
    assert codes["Kpomasse"] == ("commune", "BJ-AQ-KPOMASSE")
    assert codes["ATLANTIQUE"] == ("department", "BJ-AQ")
    assert codes["Ensemble du pays"] == ("country", "BJ")


def test_all_departments_and_communes_are_listed_once():
    zones = SPEC.format.zones
    assert (len(zones["department"]), len(zones["commune"])) == (12, 77)
    names = [fold_name(name) for codes in zones.values() for several in codes.values() for name in several]
    assert len(set(names)) == len(names)
    assert {code.rsplit("-", code.count("-") - 1)[0] for code in zones["commune"]} == set(zones["department"])


def test_an_unknown_zone_is_kept_without_a_code_and_said_or_refused_as_the_layout_says(read):
    notes = Notes()
    rows = read(employment(), notes=notes)
    row = rows["So Tchanhoué*", "male", "employed"]
    assert (row["zone_code"], row["zone_key"], row["zone_level"]) == (None, "~so tchanhoue", "commune")
    assert "table.xlsx: 'So Tchanhoué*' (sheet 'T3 Emploi', A12) is no zone of format.zones" in notes.texts()
    with pytest.raises(ContractViolation, match=r"cell A8 .* a zone of format\.zones; got 'Kara'"):
        read(crops(replaced(CROPS, 3, 0, "Kara")))


def test_a_name_written_another_way_in_the_next_edition_is_the_same_row(read):
    first = read(employment())["Kpomasse", "male", "employed"]
    second = read(employment(replaced(EMPLOYMENT, 4, 0, "Kpomassè")))["Kpomassè", "male", "employed"]
    assert [first[name] for name in SPEC.merge_key] == [second[name] for name in SPEC.merge_key]


def test_notes_hold_for_all_values_and_marked_ones_for_those_with_the_mark(read):
    rows = read(employment())
    assert "Arrondissement" in rows["So Tchanhoué*", "male", "employed"]["footnote"]
    assert "Arrondissement" not in rows["Littoral", "male", "employed"]["footnote"]
    assert "Source : ERI-ESI" in rows["Littoral", "male", "employed"]["footnote"]


def test_a_mark_after_a_number_is_no_part_of_it_where_a_note_explains_it(read):
    row = read(employment(replaced(EMPLOYMENT, 3, 1, "402 000*")))["Atlantique", "male", "employed"]
    assert row["value"] == 402000 and "Arrondissement" in row["footnote"]
    with pytest.raises(ContractViolation, match=r"cell B9 .*got '402 000\*\*'"):
        read(employment(replaced(EMPLOYMENT, 3, 1, "402 000**")))


def test_a_raised_digit_after_a_number_is_a_mark_and_no_digit_of_it(read):
    rows = replaced(EMPLOYMENT, 3, 1, "402 000\u00b9")
    with pytest.raises(ContractViolation, match=r"cell B9 .*got '402 000\u00b9'"):
        read(employment(rows))

    def change(book):
        book["T3 Emploi"]["A19"] = "\u00b9 Chiffre provisoire."

    rows = read(employment(rows, change=change))
    assert rows["Atlantique", "male", "employed"]["value"] == 402000
    assert rows["Atlantique", "male", "employed"]["footnote"].endswith("Chiffre provisoire.")
    assert "provisoire" not in rows["Littoral", "male", "employed"]["footnote"]


def test_percentages_stored_as_fraction_in_one_wave_and_to_100_in_the_next_are_the_same(tmp_path):
    values = []
    for name in ("eri-esi-2022.xlsx", "eri-esi-2024.xlsx"):
        staged = stage(SPEC, [DROP / "drop" / name], window_of(SPEC, "2026-11-22"), tmp_path / "rows.arrow", Notes())
        found = staged.table().to_pylist()
        values.append({(r["zone_key"], r["measure"]): r["value"] for r in found if r["unit"] == "%"})
        assert {row["wave"] for row in found} == {name[8:12]}
    assert values[0] == values[1] and max(value for value in values[0].values() if value) == 97


def test_days_are_read_from_numbers_and_from_french_dates(read):
    workbook, table = read(crops()), read(crops_csv("utf-8-sig"), "a.csv")
    for rows in (workbook, table):
        assert rows["Alibori", "maize", "area"]["period"] == "2023-11-30"
        assert rows["Alibori", "rice", "area"]["period"] == "2023-12-30"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_a_csv_of_the_same_table_gives_the_same_values(read, encoding, end):
    rows = [row for row in CROPS if row[2] == 45260]  # without NARROW spaces, which cp1252 has not
    ours = read(crops_csv(encoding, rows, end=end), "a.csv")
    theirs = read(crops(rows))
    assert {key: row["value"] for key, row in ours.items()} == {key: row["value"] for key, row in theirs.items()}
    assert {row["sheet"] for row in ours.values()} == {None}
    assert {key: row["cell"] for key, row in ours.items()} == {key: row["cell"] for key, row in theirs.items()}


def test_a_zone_stands_once_for_all_its_categories(read):
    assert {zone for zone, category, _ in read(crops()) if category in ("cotton", "rice")} == {"Alibori"}


def test_a_hidden_sheet_is_not_read_and_said(read):
    notes = Notes()
    read(employment(), notes=notes)
    assert "table.xlsx: the hidden sheet 'Calculs' was not read" in notes.texts()


def test_a_heading_of_a_known_zone_without_values_is_passed_over_and_another_text_refused(read):
    notes = Notes()
    heading = [["ATACORA", None, None, None, None, None, None], *EMPLOYMENT]
    assert len(read(employment(heading), notes=notes)) == 54
    assert "table.xlsx: 'ATACORA' (sheet 'T3 Emploi', A6) has no values" in notes.texts()
    with pytest.raises(ContractViolation, match=r"cell A6 .*a zone with values, or a note; got 'Champ : tous'"):
        read(employment(replaced(heading, 0, 0, "Champ : tous")))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("colonne-en-plus.xlsx", "sheet 'T3 Emploi', cell H5 .*got the header 'Salariés'"),
        ("culture-inconnue.xlsx", "cell B8 .*expected one of 'Maïs', .*got 'Fonio'"),
        ("deux-tableaux.xlsx", "cell A20 .*nothing but notes under the first note; got Mono"),
        ("entete-renommee.xlsx", "cell B5 .*got the header 'Population de 15 ans et plus / Hommes / Actifs'"),
        ("erreur.xlsx", "cell E8 .*got the error #REF!"),
        ("feuille-inconnue.xlsx", "no layout is declared for sheet 'T9'"),
        ("formule-sans-valeur.xlsx", "cell B14 .*a formula without a value"),
        ("fractions-sans-format.xlsx", "cell F6 .*no value above 1 under 'Taux de chômage'"),
        ("ligne-sans-zone.xlsx", "cell A9 .*a blank cell in a row that holds something"),
        ("nombre-illisible.xlsx", "cell B9 .*got 'env. 400 000'"),
        ("part-trop-grande.xlsx", "cell F9 .*got 140 %"),
        ("point-decimal.csv", "cell D7 .*got '12500.5'"),
    ],
)
def test_what_no_layout_says_is_refused_with_file_and_cell(read, name, said):
    with pytest.raises(ContractViolation) as caught:
        read((DROP / "bad" / name).read_bytes(), f"2026/{name}")
    assert re.search(rf"2026/{name}.*{said}", str(caught.value)), str(caught.value)
    assert caught.value.todo


def test_a_percentage_that_is_not_declared_as_one_is_refused(read):
    def change(book):
        book["T3 Emploi"]["B9"] = 0.5
        book["T3 Emploi"]["B9"].number_format = "0%"

    with pytest.raises(ContractViolation, match=r"cell B9 .*shown as a percentage"):
        read(employment(change=change))


def test_a_second_layout_of_the_same_sheet_serves_the_wave_that_looks_otherwise(read, tmp_path):
    first = YAML.index("    - name: employment by commune")
    old = YAML[first : YAML.index("    - name: crops")]
    new = old.replace("employment by commune", "since 2026").replace("Hommes / Occupés:", "Hommes / Actifs:")
    spec = layouts_of(YAML[:first] + old + new + YAML[first + len(old) :], tmp_path)
    rows = read((DROP / "bad" / "entete-renommee.xlsx").read_bytes(), spec=spec)
    assert rows["Littoral", "male", "employed"]["value"] == 250300


def test_a_sheet_without_a_table_is_passed_over_when_it_is_named(read, tmp_path):
    body = employment(change=lambda book: put(book.create_sheet("T9"), [["T9"], [1]]))
    spec = layouts_of(YAML.replace("[Sommaire,", "[Sommaire, T9,"), tmp_path)
    assert len(read(body, spec=spec)) == 54


def test_a_hidden_sheet_is_read_where_the_layout_says_so(read, tmp_path):
    body = employment(change=lambda book: setattr(book["T3 Emploi"], "sheet_state", "hidden"))
    with pytest.raises(ContractViolation, match="holds no sheet that is read"):
        read(body)
    spec = layouts_of(YAML.replace('sheet: "T3*"', 'sheet: "T3*"\n      hidden: true'), tmp_path)
    assert len(read(body, spec=spec)) == 54


def test_a_web_page_under_a_workbooks_name_is_refused(read):
    with pytest.raises(UpstreamRefused, match="web page"):
        read((DROP / "bad" / "page.xlsx").read_bytes())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('header: [3, 5]', "header: [5, 3]"), "header is the first and the last row"),
        (("category: male, unit", "unit"), "needs a category"),
        (("      category: Culture\n", ""), "category and categories go together"),
        (("wave: {cell: A1, match: 'ERI-ESI (\\d{4})'}", "wave: {cell: A1, column: B}"), "exactly one of cell"),
        (("match: 'ERI-ESI (\\d{4})'", "match: 'ERI-ESI \\d{4}'"), "match needs one group"),
        (("percent: by_format", "percent: maybe"), "percent must be"),
        (("  of: [xlsx, csv]", "  of: [xlsx, csv, json]"), "layouts go with XLSX and CSV only"),
    ],
)  # fmt: skip
def test_a_layout_that_says_too_little_or_too_much_is_a_problem_of_the_file(tmp_path, change, said):
    assert change[0] in YAML
    write(tmp_path / "catalog", {"benin/instad_survey.yaml": YAML.replace(change[0], change[1], 1)})
    problems = load_catalogue([tmp_path / "catalog"]).problems
    assert any(said in problem.message and problem.line > 1 for problem in problems), problems


def contents(body: bytes) -> object:
    if not zipfile.is_zipfile(io.BytesIO(body)):
        return body if len(body) < 2000 else body[:64]  # a cut workbook depends on the compressor
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        return {info.filename: (info.date_time, archive.read(info)) for info in archive.infolist()}


@pytest.mark.parametrize("name", sorted(BUILT_HERE))
def test_a_sample_is_what_the_script_builds(name):
    assert contents((DROP / name).read_bytes()) == contents(BUILT_HERE[name])


@given(
    st.decimals(min_value=-(10**9), max_value=10**9, places=2, allow_nan=False),
    st.sampled_from([" ", NBSP, NARROW, "\u2009", ""]),
)
def test_a_number_grouped_by_any_space_is_itself(value, space):
    text = f"{value:,.2f}".replace(",", space).replace(".", ",")
    assert number_of(Cell("A1", text), ",", None) == value


@given(st.text(st.characters(exclude_categories=["Nd", "Cs"])))
def test_a_text_without_a_digit_is_no_number(text):
    with pytest.raises(NoValueError):
        number_of(Cell("A1", text), ",", None)


@pytest.mark.parametrize("text", ["1 23", "1.234,5", "12 34 567", "1,2,3", "1e5", "12 %", "0x1", "1_000", ""])
def test_what_is_grouped_or_written_otherwise_is_no_number(text):
    with pytest.raises(NoValueError):
        number_of(Cell("A1", text), ",", None)


def test_the_page_of_the_table_names_every_column():
    page = (SAMPLES.parent.parent / "docs" / "tables" / "instad_survey.md").read_text(encoding="utf-8")
    assert [name for name in SPEC.columns if f"`{name}`" not in page] == []


def test_the_layout_of_the_manual_is_one_that_reads_its_table(read, tmp_path):
    page = (SAMPLES.parent.parent / "docs" / "source-file.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```yaml\n(format:\n.*?)```", page, re.DOTALL)
    text = YAML[: YAML.index("\nformat:")] + "\n" + block + YAML[YAML.index("\ncolumns:") :]
    rows = [["LFS 2025"], [], ["Region", "Reference day", "Employed", "Rate", "Remarks"], [None, None, "Men"]]
    lines = [[*row, *[None] * (5 - len(row))] for row in [*rows, ["Nord", "2025-06-30", "1 200", "4,5 %", "-"]]]
    body = "".join(";".join(value or "" for value in line) + "\n" for line in lines)
    found = read(body.encode(), "lfs.csv", spec=layouts_of(text, tmp_path))
    assert {key: (row["zone_code"], row["period"], row["value"]) for key, row in found.items()} == {
        ("Nord", "male", "employed"): ("N", "2025-06-30", 1200.0),
        ("Nord", "total", "rate"): ("N", "2025-06-30", 4.5),
    }
