"""Rebuild the samples of Sodir: `python refresh_pipelines_tests/make_sodir_samples.py`.

Facilities, ids, volumes and companies are made up; only the formats are the upstream's, and the names of the carriers
that the source demands. Times inside the archives are fixed, so that a second run writes the same bytes.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

SAMPLES = Path(__file__).resolve().parent.parent / "refresh_pipelines" / "samples"
BOM = b"\xef\xbb\xbf"
PAGE = b"<!DOCTYPE html>\r\n<html><head><title>%s</title></head><body><h1>%s</h1></body></html>\r\n"

_PRODUCTION = (
    "prfInformationCarrier,prfYear,prfMonth,prfPrdOilNetMillSm3,prfPrdGasNetBillSm3,prfPrdNGLNetMillSm3,"
    "prfPrdCondensateNetMillSm3,prfPrdOeNetMillSm3,prfPrdProducedWaterInFieldMillSm3,prfNpdidInformationCarrier"
)
CARRIERS = {
    "SAMPLE DISCOVERY, NORTH": "990008", "BRYNHILD": "990001", "EDVARD GRIEG": "990002", "EKOFISK": "990003",
    "STATFJORD": "990004", "TROLL": "990005", "VALHALL": "990006", "ÅSGARD": "990007",
}  # fmt: skip
_FACILITY = (
    "fclNpdidFacility,fclNpdidCurrentOperator,fclNpdidCurrentRespCompany,fclFixedOrMoveable,fclName,fclKind,fclPhase,"
    "fclFunctions,fclGeodeticDatum,fclNsDeg,fclNsMin,fclNsSec,fclNsCode,fclEwDeg,fclEwMin,fclEwSec,fclEwCode,"
    "fclUtmHemisphere,fclUtmZone,fclNsUtm,fclEwUtm,fclRkb,fclWaterDepth,fclStartupDate,fclDesignLifetime,fclStatus,"
    "fclSurface,fclBelongsToName,fclBelongsToS,fclBelongsToKind,fclCurrentOperatorName,fclCurrentRespCompanyName,"
    "fclNationCode2,fclNationName,fclBelongsToFactPageUrl,fclFactPageUrl,fclFactMapUrl,fclSlotCapacityGross,"
    "fclSlotCapacityNet,fclDateUpdated,fclFormalName1Quadrant,fclFormalName2Block,fclPointGeometryWKT"
)
FACT_PAGE = "https://factpages.sodir.no/factpages/default.aspx?nav1=facility&nav2=PageView|Fixed|All&nav3="
Row = Sequence[str]
PRODUCTION_HEAD, FACILITY_HEAD = _PRODUCTION.split(","), _FACILITY.split(",")


def volume(place: int, month: int, scale: float) -> str:
    """Return a made-up volume with up to six decimals, without trailing zeros."""
    return f"{scale * (1 + (place * 7 + month * 3) % 10 / 10) + 0.000013 * month:.6f}".rstrip("0")


def production_rows(months: Iterable[int]) -> list[list[str]]:
    """Return the carriers by name, each with its months; one was shut in 2018 and has a negative correction."""
    rows = []
    for place, (carrier, npdid) in enumerate(CARRIERS.items()):
        if carrier == "BRYNHILD":
            rows.append([carrier, "2018", "7", "0.00412", "0", "0", "0", "0.00412", "0.0031", npdid])
            rows.append([carrier, "2018", "8", "-0.001", "0", "0", "0", "-0.001", "0", npdid])
            continue
        for month in months:
            scales = (0.4, 0.09, 0.02, 0.0, 0.5, 0.6)
            volumes = [volume(place, month, scale) if scale else "0" for scale in scales]
            rows.append([carrier, "2026", str(month), *volumes, npdid])
    return sorted(rows, key=lambda row: (row[0], int(row[1]), int(row[2])))


def production(rows: Iterable[Row], head: Row = PRODUCTION_HEAD, delimiter: str = ",") -> bytes:
    """Write an export as the report server does: BOM, header, CRLF."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([head, *rows])
    return BOM + out.getvalue().encode()


def revised_production() -> list[list[str]]:
    """Return the export a month later: a month for each carrier, one volume corrected, one month withdrawn."""
    rows = [row for row in production_rows(range(1, 8)) if row[:3] != ["BRYNHILD", "2018", "8"]]
    changed = next(row for row in rows if row[:3] == ["TROLL", "2026", "2"])
    changed[3], changed[7] = "0.777777", "1.234567"
    return rows


def production_samples() -> dict[str, bytes]:
    """Return every sample of sodir_field_production by its path in the folder."""
    good = production_rows(range(1, 7))
    body = production(good)
    renamed = [name.replace("prfPrdOilNetMillSm3", "prfPrdOilNetMillionSm3") for name in PRODUCTION_HEAD]
    comma = [[value.replace(".", ",") for value in row] for row in good]
    brackets = [[f"({value[1:]})" if value.startswith("-") else value for value in row] for row in good]
    year_total = [*good, ["TROLL", "2025", "0", *good[-1][3:9], CARRIERS["TROLL"]]]
    error = PAGE % (b"SQL Server Reporting Services", b"The item cannot be found. (rsItemNotFound)")
    return {
        "field_production_monthly.csv": body,
        "revised/field_production_monthly.csv": production(revised_production()),
        "bad/half-alphabet.csv": production(row for row in good if row[0] <= "EDVARD GRIEG"),
        "bad/truncated.csv": body[: len(body) * 2 // 3],
        "bad/header-only.csv": production([]),
        "bad/blank-row.csv": production([[""] * len(PRODUCTION_HEAD)]),
        "bad/empty.csv": b"",
        "bad/html-page.csv": error,
        "bad/error-500.html": error,
        "bad/norwegian.csv": production(comma, delimiter=";"),
        "bad/brackets.csv": production(brackets),
        "bad/renamed-column.csv": production(good, renamed),
        "bad/year-total.csv": production(year_total),
        "bad/conflicting-duplicates.csv": production([*good, [*good[-1][:3], "9.9", *good[-1][4:]]]),
    }


def facility(number: int, **fields: str) -> list[str]:
    """Return one row of all 43 fields: an oil producer's template at a made-up place, changed by `fields`."""
    values = {
        "NpdidFacility": f"{990000 + number}", "NpdidCurrentOperator": "99000001", "FixedOrMoveable": "FIXED",
        "Name": f"SAMPLE {number:02d}", "Kind": "MULTI WELL TEMPLATE", "Phase": "IN SERVICE",
        "Functions": "OIL PRODUCER - WATER INJECTION", "GeodeticDatum": "ED50", "NsDeg": "61", "NsMin": f"{number}",
        "NsSec": "33.5", "NsCode": "N", "EwDeg": "2", "EwMin": f"{number + 10}", "EwSec": "44", "EwCode": "E",
        "UtmHemisphere": "1", "UtmZone": "31", "NsUtm": f"67{number:02d}362.32", "EwUtm": "490510.84", "Rkb": "0",
        "WaterDepth": f"{100 + 7 * number}.5", "StartupDate": f"{1990 + number}-10-01 00:00:00",
        "DesignLifetime": "25", "Surface": "N", "BelongsToName": "SAMPLE FIELD", "BelongsToS": "99101",
        "BelongsToKind": "FIELD", "CurrentOperatorName": "Påhitt Energi AS", "NationCode2": "NO",
        "NationName": "Norway", "FactPageUrl": f"{FACT_PAGE}{990000 + number}", "SlotCapacityGross": "4",
        "SlotCapacityNet": "4", "DateUpdated": "2026-01-02 00:00:00", "FormalName1Quadrant": "99",
        "FormalName2Block": f"{number}", "PointGeometryWKT": f"POINT (2.{number + 10}12345 61.{number + 10}54321)",
    }  # fmt: skip
    values |= fields
    return [values.get(name.removeprefix("fcl"), "") for name in FACILITY_HEAD]


def facilities() -> list[list[str]]:
    """Return 24 facilities: templates, a platform, a removed one, one without a place, and a ship."""
    rows = [facility(number) for number in range(1, 21)]
    rows.append(facility(21, Name="SAMPLE A", Kind="JACKET 8 LEGS", Surface="Y", Rkb="51.5", WaterDepth="74"))
    rows.append(facility(22, Phase="REMOVED", Functions="", DesignLifetime="0", SlotCapacityGross="N/A"))
    nowhere = dict.fromkeys(
        ["GeodeticDatum", "NsDeg", "NsMin", "NsSec", "EwDeg", "EwMin", "EwSec", "NsUtm", "EwUtm", "StartupDate"], ""
    )
    nowhere |= {"BelongsToName": "", "BelongsToS": "", "BelongsToKind": "INGEN REGISTERING"}
    rows.append(facility(23, **nowhere, PointGeometryWKT="POINT EMPTY"))
    ship = {"FixedOrMoveable": "MOVEABLE", "Name": "SAMPLE PIONEER", "Kind": "VESSEL", "Status": "AOC OK"}
    company = {"NpdidCurrentRespCompany": "99000002", "CurrentRespCompanyName": 'Made Up Shipping, "Sample" AS'}
    rows.append(facility(24, **nowhere, **ship, **company, PointGeometryWKT="POINT EMPTY", NpdidCurrentOperator=""))
    return rows


def layer(rows: Iterable[Row], head: Row = FACILITY_HEAD, member: str = "fclPoint.csv") -> bytes:
    """Return the archive of a layer: one CSV with BOM and LF, at a fixed time."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([head, *rows])
    info = zipfile.ZipInfo(member, date_time=(2026, 1, 5, 3, 20, 0))
    info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 0, 0x20
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, BOM + out.getvalue().encode())
    return buffer.getvalue()


def facility_samples() -> dict[str, bytes]:
    """Return every sample of sodir_facilities by its path in the folder."""
    good = facilities()
    whole = layer(good)
    later = [row for row in good if row[4] != "SAMPLE 07"]
    later[2] = facility(3, Phase="SHUT DOWN", DateUpdated="2026-02-12 00:00:00")
    renamed = [name.replace("fclKind", "fclType") for name in FACILITY_HEAD]
    return {
        "fclPoint.zip": whole,
        "revised/fclPoint.zip": layer([*later, facility(25, DateUpdated="2026-02-12 00:00:00")]),
        "bad/html-page.zip": PAGE % (b"FactPages", b"Not available"),
        "bad/not-found.html": PAGE % (b"404", b"File or directory not found."),
        "bad/empty.zip": b"",
        "bad/truncated.zip": whole[: len(whole) * 2 // 3],
        "bad/empty-layer.zip": layer([[""] * len(FACILITY_HEAD)]),
        "bad/header-only.zip": layer([]),
        "bad/no-member.zip": layer(good, member="pipLine.csv"),
        "bad/renamed-column.zip": layer(good, renamed),
        "bad/short-row.zip": layer([*good[:5], good[5][:-1], *good[6:]]),
        "bad/conflicting-duplicates.zip": layer([*good, facility(3, Phase="REMOVED")]),
    }


BUILT = {"sodir_field_production": production_samples, "sodir_facilities": facility_samples}

if __name__ == "__main__":
    for source, build in BUILT.items():
        for name, content in build().items():
            (SAMPLES / source / name).parent.mkdir(parents=True, exist_ok=True)
            (SAMPLES / source / name).write_bytes(content)
