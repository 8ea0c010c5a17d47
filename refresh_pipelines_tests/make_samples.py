"""Rebuild the binary samples: `python refresh_pipelines_tests/make_samples.py`.

The wells, operators and volumes are made up; only the format is the upstream's. Times inside the
archives are fixed, so that a second run writes the same bytes.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

BSEE = Path(__file__).resolve().parent.parent / "refresh_pipelines" / "samples" / "bsee_ogora"
YEAR, RUNNING = 2025, 2026

Row = tuple[str, ...]

# lease, completion | product | well, status, block, operator number and name, field | interval, first day, unit, suffix
WELLS: dict[str, tuple[Row, str, Row, Row]] = {
    "oil": (
        (" 09916", " A001"),
        "O",
        ("177199900100", "08", "WD  931", "09901", "SAMPLE OFFSHORE LLC", "WD930"),
        ("D02", "19870413", "", ""),
    ),
    "gas": (
        ("G99021", "  004"),
        "G",
        ("177099900200", "11", "EI  908", "09902", "SYNTHETIC ENERGY, INC.", "EI905"),
        ("S01", "19951102", "891099915", "K"),
    ),
    "shut-in": (
        ("S09938", " B020C"),
        "U",
        ("177159900300", "14", "SM  930", "09901", "SAMPLE OFFSHORE LLC", "SM930"),
        ("S02", "", "", ""),
    ),
    "no lease": (
        ("", " MU91"),
        "O",
        ("608119900401", "08", "GC  962", "09903", "MADE UP PETROLEUM CORPORATION", "GC962"),
        ("X01", "", "754399902", "C"),
    ),
    "unleased": (
        ("NOLEASE", ""),
        "O",
        ("177269900500", "09", "ST  926", "09902", "SYNTHETIC ENERGY, INC.", ""),
        ("S01", "", "", ""),
    ),
    "injector": (
        ("G99044", " I002"),
        "S",
        ("608129900600", "04", "MC  907", "09903", "MADE UP PETROLEUM CORPORATION", "MC907"),
        ("X01", "19940620", "754399903", "B"),
    ),
    "late": (
        ("G99058", " C003"),
        "O",
        ("177109900701", "08", "EI  938", "09902", "SYNTHETIC ENERGY, INC.", "EI930"),
        ("S03", "", "", ""),
    ),
}


def row(well: str, month: str, days: int = 0, oil: int = 0, gas: int = 0, water: int = 0, injected: int = 0) -> Row:
    """Return one line's 19 values, padded as upstream pads them."""
    lease, product, place, interval = WELLS[well]
    volumes = [f"{volume:09d}" for volume in (oil, gas, water)]
    return (*lease, month, f"{days:02d}", product, *volumes, *place, f"{injected:09d}", *interval)


def month_rows(year: int, month: int) -> list[Row]:
    """Return the three wells that report each month."""
    key, step = f"{year}{month:02d}", 13 - month
    return [
        row("oil", key, 25 + month % 3, 1700 + 37 * step, 960 + 11 * step, 7400 - 53 * step),
        row("gas", key, 24 + month % 4, 310 + 7 * step, 88_500 + 641 * step, 840 + 19 * step),
        row("shut-in", key),
    ]


def closed_year(year: int) -> list[Row]:
    """Return the good file: 36 regular rows, three odd wells, and one row twice."""
    rows = [line for month in range(1, 13) for line in month_rows(year, month)]
    rows.insert(22, rows[21])  # the oil well of August, identical in all columns
    odd = [
        row("no lease", f"{year}02", 26, 181_470, 97_205, 3316),
        row("unleased", f"{year}05", 3, 41, 0, 12),
        row("injector", f"{year}07", 31, injected=44_120),
    ]
    return rows + odd


def revised_year(year: int) -> list[Row]:
    """Return what operators made of it: three rows changed, two gone, three late."""
    gone = {("unleased", f"{year}05"), ("shut-in", f"{year}01")}
    changed = {
        ("oil", f"{year}11"): row("oil", f"{year}11", 30, 1774, 1019, 7294),
        ("gas", f"{year}03"): row("gas", f"{year}03", 29, 380, 94_910, 1044),
        ("shut-in", f"{year}12"): row("shut-in", f"{year}12", 2, 0, 640, 0),
    }
    names = {(*WELLS[name][2], WELLS[name][3][0]): name for name in WELLS}
    keyed = [((names[(*line[8:14], line[15])], line[2]), line) for line in closed_year(year)]
    late = [row("late", f"{year}{month}", 24, 6310 + int(month), 1485, 702) for month in ("10", "11", "12")]
    return [changed.get(key, line) for key, line in keyed if key not in gone] + late


def running_year(year: int, months: int) -> list[Row]:
    """Return the months filed so far; one row has no water and no injection, which is not zero."""
    rows = [line for month in range(1, months + 1) for line in month_rows(year, month)]
    partly = list(row("late", f"{year}02", 11, 2210, 305))
    partly[7] = partly[14] = ""
    return [*rows, tuple(partly)]


def text(rows: list[Row]) -> bytes:
    """Write rows as upstream does: all values quoted, CRLF, no header."""
    return "".join(",".join(f'"{value}"' for value in line) + "\r\n" for line in rows).encode("ascii")


def archive(member: str, body: bytes) -> bytes:
    """Return a zip of one member with a fixed time and upstream's MS-DOS attributes."""
    info = zipfile.ZipInfo(member, date_time=(2026, 5, 15, 5, 37, 40))
    info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 0, 0x20
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        out.writestr(info, body)
    return buffer.getvalue()


def bsee_archives() -> dict[str, bytes]:
    """Return every archive of the BSEE samples by its path in the folder."""
    good, member = closed_year(YEAR), f"ogora{YEAR}delimit.txt"
    yearly = archive(member, text(good))
    conflict = row("oil", f"{YEAR}06", 30, 1999, 1037, 7029)
    unreadable = [(*line[:5], "12,5 bbl", *line[6:]) if line is good[9] else line for line in good]
    return {
        f"ogora{YEAR}delimit.zip": yearly,
        "ogoradelimit.zip": archive("ogoradelimit.txt", text(running_year(RUNNING, 3))),
        f"revised/ogora{YEAR}delimit.zip": archive(member, text(revised_year(YEAR))),
        "revised/ogoradelimit.zip": archive("ogoradelimit.txt", text(running_year(RUNNING, 4))),
        "bad/empty.zip": b"",
        "bad/truncated.zip": yearly[: len(yearly) * 2 // 3],
        "bad/other-year.zip": archive("ogora2019delimit.txt", text(closed_year(2019))),
        "bad/18-columns.zip": archive(member, text([line[:-1] for line in good])),
        "bad/no-member.zip": archive("readme.txt", b"The file you asked for has moved.\r\n"),
        "bad/conflicting-duplicates.zip": archive(member, text([*good, conflict])),
        "bad/non-numeric-volume.zip": archive(member, text(unreadable)),
    }


if __name__ == "__main__":
    for name, content in bsee_archives().items():
        (BSEE / name).parent.mkdir(parents=True, exist_ok=True)
        (BSEE / name).write_bytes(content)
