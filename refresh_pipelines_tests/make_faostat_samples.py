"""Rebuild the samples of faostat: `python refresh_pipelines_tests/make_faostat_samples.py`.

Values are made up; the form is that of FAOSTAT's bulk files: a zip with one CSV in long form and lists beside it, all
in double quotes, CRLF, and names in Windows-1252 where the file is called UTF-8. Times inside are fixed.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

SAMPLES = Path(__file__).resolve().parent.parent / "refresh_pipelines" / "samples" / "faostat"
PLACE = "https://bulks-faostat.fao.org/production"
NAMES = {
    "QCL": ("Production_Crops_Livestock", "Production: Crops and livestock products"),
    "QV": ("Value_of_Production", "Production: Value of Agricultural Production"),
    "RL": ("Inputs_LandUse", "Land, Inputs and Sustainability: Land Use"),
    "RFN": ("Inputs_FertilizersNutrient", "Land, Inputs and Sustainability: Fertilizers by Nutrient"),
    "FBS": ("FoodBalanceSheets", "Food Balances: Food Balances (2010-)"),
    "FS": ("Food_Security_Data", "Food Security and Nutrition: Suite of Food Security Indicators"),
    "TCL": ("Trade_CropsLivestock", "Trade: Crops and livestock products"),
}
AREAS = {"53": ("204", "Benin"), "107": ("384", "Côte d'Ivoire"), "217": ("768", "Togo"), "5000": ("1", "World")}
CPC = {"QCL": "Item Code (CPC)", "QV": "Item Code (CPC)", "TCL": "Item Code (CPC)", "FBS": "Item Code (FBS)"}
# By domain: item, its code of another system, element, unit, first year, and the values from that year on.
Series = tuple[str, str, str, str, str, str, int, list[str]]
CEREALS = ["", "1385.4", "1376.5", "1425", "1409.4", "1345.4", "1372", "1384.2", "1448"]
SERIES: dict[str, list[Series]] = {
    "QCL": [
        ("56", "'0112", "Maize (corn)", "5312", "Area harvested", "ha", 2022, ["1480000", "1512000", "1530000"]),
        ("56", "'0112", "Maize (corn)", "5412", "Yield", "kg/ha", 2022, ["1260.5", "1288.3", "1301.7"]),
        ("56", "'0112", "Maize (corn)", "5510", "Production", "t", 2022, ["1865540", "1947910", "1991600"]),
        ("125", "'01520.01", "Cassava, fresh", "5510", "Production", "t", 2022, ["4200000", "4310000", ""]),
        ("328", "'01921.01", "Seed cotton, unginned", "5510", "Production", "t", 2022, ["588110", "640000", "669000"]),
        ("866", "'02111", "Cattle", "5111", "Stocks", "An", 2022, ["2610000", "2655000", "2700000"]),
        ("1717", "'F1717", "Cereals, primary", "5412", "Yield", "kg/ha", 2017, CEREALS),
    ],
    "QV": [("56", "'0112", "Maize (corn)", "57", "Gross Production Value (current thousand US$)", "1000 USD", 2022,
            ["402110.5", "418330.25", "430117"])],
    "RL": [
        ("6621", "", "Arable land", "5110", "Area", "1000 ha", 2021, ["2800", "2800", "2810.5"]),
        ("6610", "", "Agricultural land", "7208", "Share in Land area", "%", 2021, ["35.02", "35.02", "35.11"]),
    ],
    "RFN": [("3102", "", "Nutrient nitrogen N (total)", "5157", "Agricultural Use", "t", 2021,
             ["31200.4", "29880", ""])],
    "FBS": [("2511", "'S2511", "Wheat and products", "664", "Food supply (kcal/capita/day)", "kcal/cap/d", 2021,
             ["181.2", "179.44", "184"])],
    "FS": [
        ("21049", "", "Prevalence of low birthweight (percent)", "6121", "Value", "%", 2018, ["16.6", "16.5", "16.4"]),
        ("21033", "", "Cereal import dependency ratio (percent) (3-year average)", "6121", "Value", "%", -2019,
         ["39.2", "40.7"]),
        ("21042", "", "Prevalence of severe wasting (percent)", "6121", "Value", "%", 2020, ["<0.1", "<2.5", "2.7"]),
    ],
    "TCL": [("56", "'0112", "Maize (corn)", "5610", "Import quantity", "t", 2022, ["1250.37", "980", "1411.2"])],
}  # fmt: skip
BORDER = "Unofficial figure (markets near Côte d'Ivoire)"
Row = list[str]


def table(domain: str, series: Iterable[Series], areas: Iterable[str] = tuple(AREAS)) -> list[Row]:
    """Return header and rows of a domain's CSV; a first year below 0 stands for averages of three years."""
    extra = [CPC[domain]] if domain in CPC else []
    head = ["Area Code", "Area Code (M49)", "Area", "Item Code", *extra, "Item", "Element Code", "Element", "Year Code",
            "Year", "Unit", "Value", "Flag", "Note"]  # fmt: skip
    rows = [head]
    for area in areas:
        m49, name = AREAS[area]
        for item, other, label, code, element, unit, first, values in series:
            for year, value in enumerate(values, abs(first)):
                written = (f"{year}{year + 2}", f"{year}-{year + 2}") if first < 0 else (str(year), str(year))
                flag = "E" if value else "M"
                note = BORDER if (area, item, element, year) == ("53", "56", "Production", 2023) else ""
                rows.append([area, f"'{m49:0>3}", name, item, *([other] if extra else []), label, code, element,
                             *written, unit, value, flag, note])  # fmt: skip
    return rows


def archive(domain: str, rows: Iterable[Row]) -> bytes:
    """Return a bundle: the data, and the lists of flags and areas beside it, with fixed times."""
    stem = f"{NAMES[domain][0]}_E"
    flags = [["Flag", "Description"], ["A", "Official figure"], ["E", "Estimated value"], ["M", "Missing value"]]
    areas = [["Area Code", "M49 Code", "Area"], *([code, f"'{m49}", name] for code, (m49, name) in AREAS.items())]
    members = {f"{stem}_All_Data_(Normalized).csv": rows, f"{stem}_Flags.csv": flags, f"{stem}_AreaCodes.csv": areas}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name, lines in members.items():
            info = zipfile.ZipInfo(name, date_time=(2026, 1, 20, 9, 30, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            text = io.StringIO()
            csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(lines)
            out.writestr(info, text.getvalue().encode("cp1252"))
    return buffer.getvalue()


def address(domain: str) -> str:
    """Return where the file of a domain lies."""
    return f"{PLACE}/{NAMES[domain][0]}_E_All_Data_(Normalized).zip"


def catalogue(archives: dict[str, bytes], days: dict[str, str]) -> bytes:
    """Return FAOSTAT's list of datasets; a domain that is not loaded stands among the others."""
    entries = [
        {
            "DatasetCode": domain, "DatasetName": NAMES[domain][1], "Topic": "Made up for tests.",
            "DatasetDescription": "Values are made up.", "Contact": "Nobody", "Email": "nobody@example.org",
            "DateUpdate": days[domain], "CompressionFormat": "zip", "FileType": "csv",
            "FileSize": f"{-(-len(archives[domain]) // 1024)}KB", "FileRows": 100, "FileLocation": address(domain),
        }
        for domain in NAMES
    ]  # fmt: skip
    other = {**entries[0], "DatasetCode": "QCLA", "DatasetName": "Another one", "DateUpdate": "2025-12-01"}
    return json.dumps({"Datasets": {"xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
                                    "Dataset": [other, *entries]}}, indent=1).encode()  # fmt: skip


def revised() -> list[Series]:
    """The next edition of QCL: maize of 2023 corrected, cattle of 2022 gone, one more year of cereals."""
    changed: dict[tuple[str, str], tuple[int, list[str]]] = {
        ("56", "5510"): (2022, ["1865540", "1950100", "1991600"]),
        ("866", "5111"): (2023, ["2655000", "2700000"]),
        ("1717", "5412"): (2017, [*CEREALS, "1461.5"]),
    }
    return [(*line[:6], *changed.get((line[0], line[3]), line[6:])) for line in SERIES["QCL"]]


def samples() -> dict[str, bytes]:
    """Return every file of the samples that is not written by hand, by its path in the folder."""
    good = {domain: archive(domain, table(domain, series)) for domain, series in SERIES.items()}
    later = {**good, "QCL": archive("QCL", table("QCL", revised()))}
    days = {domain: f"2026-0{place}-15" for place, domain in enumerate(NAMES, 1)}
    rows = table("QCL", SERIES["QCL"])
    place = rows[0].index("Value")
    old = [[cell for at, cell in enumerate(row) if at not in (1, 4, 13)] for row in rows]
    unreadable = [[*row[:place], "1 865 540", *row[place + 1 :]] if row is rows[1] else row for row in rows]
    twice = [*rows, [*rows[1][:place], "7", *rows[1][place + 1 :]]]
    return {
        "datasets_E.json": catalogue(good, days),
        "revised/datasets_E.json": catalogue(later, {**days, "QCL": "2026-11-12"}),
        **{f"{domain}.zip": body for domain, body in good.items()},
        "QCL-11-columns.zip": archive("QCL", old),
        "revised/QCL.zip": later["QCL"],
        "bad/empty.zip": b"",
        "bad/truncated.zip": good["QCL"][: len(good["QCL"]) * 2 // 3],
        "bad/no-benin.zip": archive("QCL", table("QCL", SERIES["QCL"], ["107", "217", "5000"])),
        "bad/no-area-code.zip": archive("QCL", [["Area" if cell == "Area Code" else cell for cell in rows[0]][1:],
                                                *(row[1:] for row in rows[1:])]),
        "bad/renamed-value.zip": archive("QCL", [["Val" if cell == "Value" else cell for cell in rows[0]], *rows[1:]]),
        "bad/spaced-number.zip": archive("QCL", unreadable),
        "bad/conflicting-duplicates.zip": archive("QCL", twice),
        "bad/joined-twice.zip": archive("QCL", [*rows, *rows]),
    }  # fmt: skip


if __name__ == "__main__":
    for name, content in samples().items():
        (SAMPLES / name).parent.mkdir(parents=True, exist_ok=True)
        (SAMPLES / name).write_bytes(content)
