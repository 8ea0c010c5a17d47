"""Rebuild the samples of instad_survey: `python refresh_pipelines_tests/make_survey_samples.py`.

Every number is made up; only the look of the tables is that of the surveys: merged headers of two and three rows, notes
under the table, thousands parted by no-break spaces, five ways to write that there is no value. Times inside the
workbooks are fixed, so that a second run writes the same cells.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from openpyxl import Workbook
from openpyxl.worksheet.worksheet import Worksheet

SAMPLES = Path(__file__).resolve().parent.parent / "refresh_pipelines" / "samples"
NBSP, NARROW = "\u00a0", "\u202f"
EMPLOYMENT_MERGES = ("A3:A5", "B3:E3", "B4:C4", "D4:E4", "F3:F5", "G3:G5")
CROP_MERGES = ("A3:A4", "B3:B4", "C3:C4", "G3:G4")
EMPLOYMENT_HEAD = [
    [
        "Département / Commune",
        "Population de 15 ans et plus",
        None,
        None,
        None,
        "Taux de chômage",
        "Part de l'informel",
    ],
    [None, "Hommes", None, "Femmes", None, None, None],
    [None, "Occupés", "Chômeurs", "Occupées", "Chômeuses", None, None],
]
# Zone, four counts, two percentages as 12.5 stands for.
EMPLOYMENT = [
    ["Alibori", 210400, 6100, 180250, 5020.0, 2.8, 94.1],
    ["BANIKOARA", f"61{NBSP}200", "1 250", f"50{NARROW}010", 990, 2.0, 96.3],
    ["Ségbana", 30150, "nd", 24800, "ND", "n.d.", 97],
    ["Atlantique", 402000, 15800, 388100, 16900, 4.0, 88.5],
    ["Kpomasse", 21000, 410, 20100, 395, 1.9, "-"],
    ["Sô-Ava", 32050, "…", 30900, 800, 2.5, 95.2],
    ["So Tchanhoué*", 4100, 90, 3900, 85, 2.2, 96],
    ["Littoral", 250300, 20100, 231000, 22500, 8.3, 71.4],
    ["Ensemble du pays", 862700, 42000, 800150, 45205, 5.0, "84,6 %"],
]
NOTES = [
    ["Source : ERI-ESI, échantillon inventé."],
    ["Note : population résidente."],
    ["* Arrondissement présenté à part."],
]
CROP_HEAD = [
    ["Département", "Culture", "Fin de récolte", "Superficie", "Production", "Rendement", "Observations"],
    [None, None, None, "(ha)", "(t)", "(kg/ha)", None],
]
# 45260 is 2023-11-30.
CROPS = [
    ["Alibori", "Maïs", 45260, 98000, 127400, 1300, None],
    [None, "Coton", 45260, 161000, 193200, 1200, "bonne campagne"],
    [None, "Riz", 45290, "12 500,5", "31 251,25", "2 500", None],
    ["Atacora", "Maïs", 45260, 61000, 67100, 1100, None],
    [None, "Igname", 45290, 22000, 297000, 13500, None],
    ["Couffo", "Manioc", 45290, 30500, "n.d.", "n.d.", "enquête en cours"],
    ["Ouémé", "Maïs", 45260, 50200, 65260, 1300, None],
]
Row = list[object]


def workbook(fill: Callable[[Workbook], None], cached: dict[str, str] | None = None) -> bytes:
    """Return a workbook that `fill` fills, with fixed times; `cached` are values to leave behind formulas."""
    book = Workbook()
    book.remove(book.active)
    fill(book)
    raw, out = io.BytesIO(), io.BytesIO()
    book.save(raw)
    with zipfile.ZipFile(raw) as before, zipfile.ZipFile(out, "w") as after:
        for name in before.namelist():
            text = before.read(name).decode()
            text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-01-05T08:00:00Z", text)
            for formula, value in (cached or {}).items():
                text = re.sub(rf"(<f>{re.escape(formula)}</f>)<v ?/?>(</v>)?", rf"\1<v>{value}</v>", text)
            info = zipfile.ZipInfo(name, date_time=(2026, 1, 5, 8, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            after.writestr(info, text)
    return out.getvalue()


def put(sheet: Worksheet, rows: Iterable[Row], merges: Iterable[str] = ()) -> None:
    """Write rows from the first one, then merge cells."""
    for number, row in enumerate(rows, 1):
        for place, value in enumerate(row, 1):
            if value is not None:
                sheet.cell(number, place, value)
    for area in merges:
        sheet.merge_cells(area)


def employment_rows(year: int = 2022, rows: list[Row] | None = None, head: list[Row] | None = None) -> list[Row]:
    """Return the sheet of employment as rows."""
    title = f"ERI-ESI {year} : Tableau T3. Population de 15 ans et plus selon la situation d'emploi (fictif)"
    return [[title], [], *(head or EMPLOYMENT_HEAD), *(rows or EMPLOYMENT), [], *NOTES]


def as_fractions(rows: list[Row]) -> list[Row]:
    """Return rows with their percentages as fractions, as the other wave stores them."""
    return [[*row[:5], *(round(v / 100, 6) if isinstance(v, int | float) else v for v in row[5:])] for row in rows]


def employment(
    rows: list[Row] | None = None, head: list[Row] | None = None, year: int = 2022, percent: str | None = None,
    name: str = "T3 Emploi", change: Callable[[Workbook], None] | None = None,
) -> bytes:  # fmt: skip
    """Return a workbook with contents, the table, and a hidden sheet of somebody's own."""

    def fill(book: Workbook) -> None:
        put(book.create_sheet("Sommaire"), [["Tableau", "Titre"], ["T3", "Emploi"]])
        sheet = book.create_sheet(name)
        put(sheet, employment_rows(year, rows, head), EMPLOYMENT_MERGES)
        hidden = book.create_sheet("Calculs")
        hidden.sheet_state = "hidden"
        put(hidden, [["brouillon", 1], ["ne pas publier", 2]])
        for line in sheet.iter_rows(min_row=6, min_col=6, max_col=7) if percent else ():
            for cell in line:
                cell.number_format = percent
        if change:
            change(book)

    return workbook(fill, {"SUM(B6,B9,B13)": "862700"})


def crop_rows(rows: list[Row] | None = None) -> list[Row]:
    """Return the sheet of crops as rows."""
    title = "Campagne 2023-2024 : superficies, productions et rendements (fictif)"
    return [[title], [], *CROP_HEAD, *(rows or CROPS), ["NB : chiffres inventés."]]


def crops(rows: list[Row] | None = None, name: str = "Cultures") -> bytes:
    """Return a workbook with the table of crops alone."""
    return workbook(lambda book: put(book.create_sheet(name), crop_rows(rows), CROP_MERGES))


def crops_csv(encoding: str, rows: list[Row] | None = None, mark: str = ";", end: str = "\r\n") -> bytes:
    """Return the table of crops as a French Excel saves it: days as 30/11/2023, decimal commas."""
    days = {45260: "30/11/2023", 45290: "30/12/2023"}
    lines = []
    for row in crop_rows(rows):
        full = [*row, *[None] * (7 - len(row))]
        texts = ["" if value is None else days.get(value, str(value)) for value in full]  # type: ignore[call-overload]
        lines.append(mark.join(f'"{text}"' if mark in text else text for text in texts) + end)
    return "".join(lines).encode(encoding)


def with_formula(value: bool) -> Callable[[Workbook], None]:
    """Return a change that puts a sum where the men of the whole country are, with or without its value."""

    def change(book: Workbook) -> None:
        book["T3 Emploi"]["B14"] = "=SUM(B6,B9,B13)" if value else "=SUM(B6,B9)"

    return change


def second_table(book: Workbook) -> None:
    """Put another table under the notes."""
    put_at = book["T3 Emploi"]
    for place, value in enumerate(["Mono", 1, 2, 3, 4, 5.5, 60], 1):
        put_at.cell(20, place, value)


def replaced(rows: list[Row], line: int, place: int, value: object) -> list[Row]:
    """Return rows with one cell changed."""
    return [[*row[:place], value, *row[place + 1 :]] if at == line else row for at, row in enumerate(rows)]


def samples() -> dict[str, bytes]:
    """Return every sample by its path in the folder; what lies in `drop` is what the sandbox has dropped."""
    renamed = [
        EMPLOYMENT_HEAD[0],
        EMPLOYMENT_HEAD[1],
        [None, "Actifs", "Chômeurs", "Occupées", "Chômeuses", None, None],
    ]
    added = [[*EMPLOYMENT_HEAD[0], "Salariés"], EMPLOYMENT_HEAD[1], EMPLOYMENT_HEAD[2]]
    good = employment()
    revised = replaced(replaced(EMPLOYMENT, 2, 2, 620), 4, 0, "Kpomassè")
    plain = [*CROPS[:2], ["Alibori", *CROPS[2][1:]]]
    return {
        "drop/eri-esi-2022.xlsx": good,
        "drop/eri-esi-2024.xlsx": employment(as_fractions(EMPLOYMENT), year=2024, percent="0.0%"),
        "drop/eri-esi-2022-sommes.xlsx": employment(change=with_formula(value=True)),
        "drop/cultures-2023-2024.xlsx": crops(),
        "drop/cultures-utf8.csv": crops_csv("utf-8-sig"),
        "drop/cultures-cp1252.csv": crops_csv("cp1252", [row for row in CROPS if row[2] == 45260]),
        "revised/eri-esi-2022.xlsx": employment(revised),
        "bad/colonne-en-plus.xlsx": employment([[*row, 1200] for row in EMPLOYMENT], added),
        "bad/culture-inconnue.xlsx": crops(replaced(CROPS, 3, 1, "Fonio")),
        "bad/departement-inconnu.xlsx": crops(replaced(CROPS, 3, 0, "Kara")),
        "bad/deux-tableaux.xlsx": employment(change=second_table),
        "bad/entete-renommee.xlsx": employment(head=renamed),
        "bad/erreur.xlsx": crops(replaced(CROPS, 3, 4, "#REF!")),
        "bad/feuille-inconnue.xlsx": employment(change=lambda book: put(book.create_sheet("T9"), [["T9"], [1]])),
        "bad/formule-sans-valeur.xlsx": employment(change=with_formula(value=False)),
        "bad/fractions-sans-format.xlsx": employment(as_fractions(EMPLOYMENT)),
        "bad/ligne-sans-zone.xlsx": employment(replaced(EMPLOYMENT, 3, 0, None)),
        "bad/nombre-illisible.xlsx": employment(replaced(EMPLOYMENT, 3, 1, "env. 400 000")),
        "bad/part-trop-grande.xlsx": employment(replaced(EMPLOYMENT, 3, 5, 140)),
        "bad/point-decimal.csv": crops_csv("utf-8-sig", replaced(plain, 2, 3, "12500.5")),
        "bad/vide.xlsx": b"",
        "bad/coupe.xlsx": good[: len(good) * 2 // 3],
        "bad/ancien-excel.xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504),
        "bad/page.xlsx": b"<!DOCTYPE html>\n<html><body>Site en maintenance</body></html>\n",
        "bad/rien-que-cache.xlsx": employment(change=lambda book: setattr(book["T3 Emploi"], "sheet_state", "hidden")),
    }


BUILT = {"instad_survey": samples}

if __name__ == "__main__":
    for source, build in BUILT.items():
        for name, content in build().items():
            (SAMPLES / source / name).parent.mkdir(parents=True, exist_ok=True)
            (SAMPLES / source / name).write_bytes(content)
