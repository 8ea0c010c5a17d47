"""Rebuild the yearly archives of cftc_cot_history: `python refresh_pipelines_tests/make_cftc_samples.py`.

Positions are made up; only the format is the CFTC's. They come from arithmetic on market and week, so
that a second run writes the same bytes.
"""

from __future__ import annotations

import io
import zipfile
from datetime import date, timedelta
from pathlib import Path

SAMPLES = Path(__file__).resolve().parent.parent / "refresh_pipelines" / "samples" / "cftc_cot_history"
MEMBER = "f_year.txt"

Row = dict[str, str]

POSITIONS = (
    "Open_Interest_All", "Prod_Merc_Positions_Long_All", "Prod_Merc_Positions_Short_All", "Swap_Positions_Long_All",
    "Swap__Positions_Short_All", "Swap__Positions_Spread_All", "M_Money_Positions_Long_All",
    "M_Money_Positions_Short_All", "M_Money_Positions_Spread_All", "Other_Rept_Positions_Long_All",
    "Other_Rept_Positions_Short_All", "Other_Rept_Positions_Spread_All", "Tot_Rept_Positions_Long_All",
    "Tot_Rept_Positions_Short_All", "NonRept_Positions_Long_All", "NonRept_Positions_Short_All",
)  # fmt: skip
# The order of the file's columns. The real one has 191, among them all of these.
COLUMNS = (
    "Market_and_Exchange_Names", "As_of_Date_In_Form_YYMMDD", "Report_Date_as_YYYY-MM-DD",
    "CFTC_Contract_Market_Code", "CFTC_Market_Code", "CFTC_Region_Code", "CFTC_Commodity_Code", *POSITIONS,
    "Change_in_Open_Interest_All", "Pct_of_Open_Interest_All", "Traders_Tot_All", "Traders_Prod_Merc_Long_All",
    "Contract_Units", "CFTC_Contract_Market_Code_Quotes", "CFTC_Market_Code_Quotes", "CFTC_Commodity_Code_Quotes",
    "CFTC_SubGroup_Code", "FutOnly_or_Combined",
)  # fmt: skip
QUOTED = {
    "Market_and_Exchange_Names", "Contract_Units", "CFTC_Contract_Market_Code_Quotes", "CFTC_Market_Code_Quotes",
    "CFTC_Commodity_Code_Quotes", "CFTC_SubGroup_Code", "FutOnly_or_Combined",
}  # fmt: skip
# In the report on financial futures, which has a layout of its own.
FINANCIAL = {"Prod_Merc": "Dealer", "Swap__": "Asset_Mgr_", "Swap_": "Asset_Mgr_", "M_Money": "Lev_Money"}

# Name, exchange, its code, commodity, unit, open interest.
MARKETS: dict[str, tuple[str, str, str, str, str, int]] = {
    "002602": ("CORN", "CHICAGO BOARD OF TRADE", "CBT", "002", "5,000 BUSHELS", 1_520_000),
    "004603": ("OATS", "CHICAGO BOARD OF TRADE", "CBT", "004", "5,000 BUSHELS", 4_200),
    "005602": ("SOYBEANS", "CHICAGO BOARD OF TRADE", "CBT", "005", "5,000 BUSHELS", 840_000),
    "007601": ("SOYBEAN OIL", "CHICAGO BOARD OF TRADE", "CBT", "007", "60,000 POUNDS", 560_000),
    "033661": ("COTTON NO. 2", "ICE FUTURES U.S.", "ICUS", "033", "50,000 POUNDS", 230_000),
    "067651": ("WTI-PHYSICAL", "NEW YORK MERCANTILE EXCHANGE", "NYME", "067", "1,000 BARRELS", 1_900_000),
    "06490X": ("SAMPLE HUB DA OFF-PEAK FIXED", "NODAL EXCHANGE", "NODX", "064", "1 MWh", 6_100),
}


def entry(code: str, day: date) -> Row:
    """Return one market's week: longs and spreads add up to open interest, and so do shorts and spreads."""
    name, exchange, market, commodity, units, size = MARKETS[code]
    week = day.toordinal() // 7 % 26
    oi = size + size // 200 * (week - 13)
    spread, long, short = (
        [oi * share // 100 for share in shares] for shares in ((9, 8, 7), (27, 16, 15, 6), (43, 3, 11, 6))
    )
    swap, money, other = spread
    small = [oi - sum(spread) - sum(side) for side in (long, short)]
    numbers = [
        oi, long[0], short[0], long[1], short[1], swap, long[2], short[2], money, long[3], short[3], other,
        oi - small[0], oi - small[1], *small,
    ]  # fmt: skip
    return {
        "Market_and_Exchange_Names": f"{name} - {exchange}",
        "As_of_Date_In_Form_YYMMDD": f"{day:%y%m%d}",
        "Report_Date_as_YYYY-MM-DD": day.isoformat(),
        "CFTC_Contract_Market_Code": code,
        "CFTC_Market_Code": f"{market:<4}",
        "CFTC_Region_Code": "00",
        "CFTC_Commodity_Code": f"{commodity:<4}",
        **{column: f"{number:8d}" for column, number in zip(POSITIONS, numbers, strict=True)},
        "Change_in_Open_Interest_All": f"{size // 200:8d}" if size > 10_000 else "       .",
        "Pct_of_Open_Interest_All": " 100.0",
        # Fewer than four traders in a group are not told.
        "Traders_Tot_All": f"{max(9, size // 2400):8d}",
        "Traders_Prod_Merc_Long_All": f"{size // 9000:8d}" if size > 10_000 else "       .",
        "Contract_Units": f"(CONTRACTS OF {units})",
        "CFTC_Contract_Market_Code_Quotes": code,
        "CFTC_Market_Code_Quotes": f"{market:<4}",
        "CFTC_Commodity_Code_Quotes": f"{commodity:<4}",
        "CFTC_SubGroup_Code": "A10",
        "FutOnly_or_Combined": "FutOnly",
    }


def weeks(last: date, count: int) -> list[date]:
    """Return `count` weekly report dates up to `last`, newest first as in the file."""
    return [last - timedelta(weeks=back) for back in range(count)]


def year(last: date, count: int) -> list[Row]:
    """Return a file's rows: by market, newest week first."""
    return [entry(code, day) for code in MARKETS for day in weeks(last, count)]


def closed_year() -> list[Row]:
    """Return 2025, five weeks; the traders of the power market are withheld in its oldest one."""
    rows = year(date(2025, 12, 30), 5)
    rows[-1] = {**rows[-1], "Traders_Tot_All": "       ."}
    return rows


def running_year() -> list[Row]:
    """Return 2026 up to 20 October, four weeks."""
    return year(date(2026, 10, 20), 4)


def revised_closed_year() -> list[Row]:
    """Return 2025 with one position corrected and the oats of its oldest week withdrawn."""
    rows = [
        row
        for row in closed_year()
        if (row["CFTC_Commodity_Code"], row["Report_Date_as_YYYY-MM-DD"][5:]) != ("004 ", "12-02")
    ]
    rows[0] = {**rows[0], "M_Money_Positions_Long_All": f"{251_117:8d}"}
    return rows


def revised_running_year() -> list[Row]:
    """Return 2026 with another week, two positions corrected and one row of the power market withdrawn."""
    rows = year(date(2026, 10, 27), 5)[:-1]
    for number, column in ((1, "Swap__Positions_Short_All"), (17, "NonRept_Positions_Long_All")):
        rows[number] = {**rows[number], column: f"{int(rows[number][column]) + 71:8d}"}
    return rows


def text(rows: list[Row]) -> bytes:
    """Write rows as upstream does: header and texts quoted, dates, codes and numbers not, CRLF."""
    head = ",".join(f'"{name}"' for name in rows[0])
    lines = [",".join(f'"{value}"' if name in QUOTED else value for name, value in row.items()) for row in rows]
    return "".join(f"{line}\r\n" for line in [head, *lines]).encode("ascii")


def archive(body: bytes, member: str = MEMBER) -> bytes:
    """Return a zip of one member with a fixed time."""
    info = zipfile.ZipInfo(member, date_time=(2026, 10, 23, 15, 30, 0))
    info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 0, 0x20
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        out.writestr(info, body)
    return buffer.getvalue()


def financial(row: Row) -> Row:
    """Return a row under the column names of the financial-futures report."""
    return {_financial_name(name): value for name, value in row.items()}


def _financial_name(name: str) -> str:
    for ours, theirs in FINANCIAL.items():
        name = name.replace(ours, theirs)
    return name


def cftc_archives() -> dict[str, bytes]:
    """Return every archive of the samples by its path in the folder."""
    good = running_year()
    yearly = archive(text(good))
    conflict = {**good[5], "Open_Interest_All": "    9999"}
    unreadable = [{**row, "M_Money_Positions_Short_All": "  1.2e5"} if row is good[9] else row for row in good]
    return {
        "fut_disagg_txt_2025.zip": archive(text(closed_year())),
        "fut_disagg_txt_2026.zip": yearly,
        "revised/fut_disagg_txt_2025.zip": archive(text(revised_closed_year())),
        "revised/fut_disagg_txt_2026.zip": archive(text(revised_running_year())),
        "bad/empty.zip": b"",
        "bad/truncated.zip": yearly[: len(yearly) * 2 // 3],
        "bad/other-year.zip": archive(text(year(date(2019, 10, 22), 4))),
        "bad/legacy-report.zip": archive(text(good), "annual.txt"),
        "bad/financial-futures.zip": archive(text([financial(row) for row in good])),
        "bad/short-row.zip": archive(text(good)[:-40] + b"\r\n"),
        "bad/conflicting-duplicates.zip": archive(text([*good, conflict])),
        "bad/no-whole-number.zip": archive(text(unreadable)),
    }


if __name__ == "__main__":
    for name, content in cftc_archives().items():
        (SAMPLES / name).parent.mkdir(parents=True, exist_ok=True)
        (SAMPLES / name).write_bytes(content)
