"""Rebuild the samples of NDBC: `python refresh_pipelines_tests/make_ndbc_samples.py`.

All measurements are made up; only the format is the upstream's. The gzip files carry no time, so that a second run
writes the same bytes.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

SAMPLES = Path(__file__).resolve().parent.parent / "refresh_pipelines" / "samples"
STATIONS = ("44013", "44025", "46042", "TPLM2")
PAGE = b"<!DOCTYPE html>\n<html><head><title>National Data Buoy Center</title></head><body>%s</body></html>\n"

HISTORY_HEAD = (
    "#YY  MM DD hh mm WDIR WSPD GST  WVHT   DPD   APD MWD   PRES  ATMP  WTMP  DEWP  VIS  TIDE",
    "#yr  mo dy hr mn degT m/s  m/s     m   sec   sec degT   hPa  degC  degC  degC   mi    ft",
)
REALTIME_HEAD = (
    "#YY  MM DD hh mm WDIR WSPD GST  WVHT   DPD   APD MWD   PRES  ATMP  WTMP  DEWP  VIS PTDY  TIDE",
    "#yr  mo dy hr mn degT m/s  m/s     m   sec   sec degT   hPa  degC  degC  degC  nmi  hPa    ft",
)
WIDTHS = {
    "WDIR": 3, "WSPD": 4, "GST": 4, "WVHT": 5, "DPD": 5, "APD": 5, "MWD": 3, "PRES": 6, "ATMP": 5, "WTMP": 5,
    "DEWP": 5, "VIS": 4, "PTDY": 4, "TIDE": 5,
}  # fmt: skip
NINES = {
    "WDIR": "999", "WSPD": "99.0", "GST": "99.0", "WVHT": "99.00", "DPD": "99.00", "APD": "99.00", "MWD": "999",
    "PRES": "9999.0", "ATMP": "999.0", "WTMP": "999.0", "DEWP": "999.0", "VIS": "99.0", "TIDE": "99.00",
}  # fmt: skip


def measured(step: int, station: int, waves: bool) -> dict[str, str]:
    """Return made-up values of one observation; what the station has no instrument for is absent."""
    values = {
        "WDIR": f"{(37 * step + 90 * station + 20) % 360}", "WSPD": f"{2.1 + step * 7 % 11:.1f}",
        "GST": f"{3.4 + step * 7 % 11:.1f}", "PRES": f"{1004.3 + station + step * 3 % 17:.1f}",
        "ATMP": f"{-1.2 + station + step % 19:.1f}", "WTMP": f"{6.6 + station + step % 5:.1f}",
    }  # fmt: skip
    if waves and station < 3:
        values |= {"WVHT": f"{0.6 + step % 4 * 0.25:.2f}", "DPD": f"{5 + step % 6}.00", "APD": "4.35", "MWD": "112"}
    if station == 3:
        values |= {"DEWP": f"{step % 7 - 3}.5", "TIDE": f"{step % 5 - 2}.25"}
    return values


def line(at: str, values: dict[str, str], codes: dict[str, str] | str, names: Sequence[str]) -> str:
    """Return one row, each value in the width of its column; `codes` stand for what is missing."""
    missing = dict.fromkeys(names, codes) if isinstance(codes, str) else codes
    return " ".join([at, *(values.get(name, missing[name]).rjust(WIDTHS[name]) for name in names)])


def history_line(at: str, values: dict[str, str]) -> str:
    """Return a row of an archive file since 2007."""
    return line(at, values, NINES, list(NINES))


def history_rows(station: int, year: int) -> dict[str, str]:
    """Return two rows a month by their time, and one of the last minutes of the year before at buoys."""
    minute = "00" if station == 3 else "50"
    times = [f"{year} {month:02d} {day} {minute}" for month in range(1, 13) for day in ("03 05", "17 17")]
    rows = {at: history_line(at, measured(step, station, waves=True)) for step, at in enumerate(times)}
    if station == 0:
        at = f"{year} 05 03 05 50"
        rows[at] = history_line(at, {**measured(8, 0, waves=True), "WDIR": "99", "PRES": "999.0"})
    before = f"{year - 1} 12 31 23 50"
    return rows if station == 3 else {before: history_line(before, measured(40, station, waves=False)), **rows}


def with_repeated_time(rows: dict[str, str], year: int) -> list[str]:
    """Return the rows with one time twice: each has what the other lacks, and they differ in wind and pressure."""
    at = f"{year} 06 17 17 50"
    first = {"WDIR": "140", "WSPD": "5.1", "GST": "6.0", "PRES": "1011.0", "WTMP": "16.4"}
    second = {"WDIR": "150", "WSPD": "5.4", "GST": "6.0", "PRES": "1011.2", "ATMP": "18.9"}
    twice = f"{history_line(at, first)}\n{history_line(at, second)}"
    return "\n".join(twice if time == at else row for time, row in rows.items()).split("\n")


def revised_history(year: int) -> list[str]:
    """Return what quality control made of station 44013: one row changed, one gone, one late."""
    rows = history_rows(0, year)
    changed, gone, late = f"{year} 03 03 05 50", f"{year} 08 17 17 50", f"{year} 12 30 05 50"
    rows[changed] = history_line(changed, {**measured(4, 0, waves=True), "WVHT": "1.95"})
    del rows[gone]
    return with_repeated_time({**rows, late: history_line(late, measured(30, 0, waves=True))}, year)


def old_rows(year: str, minutes: bool, tide: bool, count: int = 6) -> list[str]:
    """Return a file from before 2007; TIDE, if there is one, is absent from the first two rows."""
    names = [name for name in NINES if tide or name != "TIDE"]
    head = (
        f"{'YYYY' if len(year) == 4 else 'YY'} MM DD hh{' mm' if minutes else ''} WD   WSPD GST  WVHT  DPD   APD  MWD  "
    )
    out = [head + "BAR    ATMP  WTMP  DEWP  VIS" + ("  TIDE" if tide else "")]
    for step in range(count):
        at = f"{year} {step + 1:02d} 11 {step:02d}{' 00' if minutes else ''}"
        row = line(at, measured(step, 0, waves=True), NINES, names)
        out.append(row.rsplit(maxsplit=1)[0] if tide and step < 2 else row)
    return out


def realtime_rows(station: int, newest: datetime, count: int) -> list[str]:
    """Return rows of ten minutes (an hour at a station on land), newest first, waves at minutes 40 and 50."""
    rows = []
    for back in range(count):
        at = newest - timedelta(minutes=(60 if station == 3 else 10) * back)
        step = int(at.timestamp()) // 600 % 1000
        values = measured(step, station, waves=at.minute in (40, 50))
        if "DPD" in values:
            values["DPD"] = values["DPD"].split(".")[0]
            values |= {"WVHT": values["WVHT"][:-1], "APD": values["APD"][:-1]}
        if at.hour % 3 == 0 and at.minute == 0:
            values["PTDY"] = f"{(step % 40 - 20) / 10:+.1f}"
        if station == 0 and back == 3:
            values |= {"PRES": "999.0", "WDIR": "99"}
        rows.append(line(f"{at:%Y %m %d %H %M}", values, "MM", list(WIDTHS)))
    return rows


def text(*rows: str, end: str = "\n") -> bytes:
    """Write lines."""
    return "".join(row + end for row in rows).encode()


def packed(body: bytes) -> bytes:
    """Return a gzip file without a time."""
    return gzip.compress(body, mtime=0)


def ndbc_realtime() -> dict[str, bytes]:
    """Return every sample of ndbc_stdmet by its path in the folder."""
    newest = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
    out = {f"{name}.txt": text(*REALTIME_HEAD, *realtime_rows(i, newest, 25)) for i, name in enumerate(STATIONS)}
    good = realtime_rows(0, newest, 25)
    later = realtime_rows(0, newest + timedelta(minutes=60), 25)
    kept = good[:-6]
    kept[5] = line(kept[5][:16], {"WDIR": "210", "WSPD": "4.0"}, "MM", list(WIDTHS))
    out["revised/44013.txt"] = text(*REALTIME_HEAD, *later[:6], *kept)
    whole = out["44013.txt"]
    wind = ("#YY  MM DD hh mm WDIR WSPD GDR GST GTIME", "#yr  mo dy hr mn degT m/s degT m/s hhmm")
    return out | {
        "bad/html-page.txt": PAGE % b"Station 44013 has no such file.",
        "bad/not-found.html": PAGE % b"404 Not Found",
        "bad/empty.txt": b"",
        "bad/header-only.txt": text(*REALTIME_HEAD),
        "bad/no-header.txt": text(*good),
        "bad/archive-file.txt": text(*HISTORY_HEAD, *history_rows(0, 2025).values()),
        "bad/wind-only.txt": text(*wind, "2026 11 20 12 00  28  7.7  30 11.8 1151"),
        "bad/other-unit.txt": whole.replace(b"   hPa  degC", b"  inHg  degC", 1),
        "bad/renamed-pressure.txt": whole.replace(b"  PRES", b"   SLP", 1),
        "bad/short-row.txt": text(*REALTIME_HEAD, *good[:9], good[9].rsplit(maxsplit=1)[0], *good[10:]),
        "bad/long-row.txt": text(*REALTIME_HEAD, *good[:9], good[9] + "   MM", *good[10:]),
        "bad/cut-in-a-row.txt": whole[:-40],
        "bad/no-number.txt": text(*REALTIME_HEAD, *good[:9], good[9].replace(".", ",", 1), *good[10:]),
        "bad/conflicting-times.txt": text(*REALTIME_HEAD, *good, line(good[3][:16], {}, "MM", list(WIDTHS))),
    }


def ndbc_history(year: int = 2025) -> dict[str, bytes]:
    """Return every sample of ndbc_stdmet_history by its path in the folder."""
    rows = [with_repeated_time(history_rows(0, year), year), *(list(history_rows(i, year).values()) for i in (1, 2, 3))]
    bodies = [text(*HISTORY_HEAD, *station) for station in rows]
    whole, good = bodies[0], rows[0]
    out = {f"{name.lower()}h{year}.txt.gz": packed(body) for name, body in zip(STATIONS, bodies, strict=True)}
    short = good[9].rsplit(maxsplit=1)[0]
    now = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
    return out | {
        f"revised/44013h{year}.txt.gz": packed(text(*HISTORY_HEAD, *revised_history(year))),
        "44013h1996.txt.gz": packed(text(*old_rows("96", minutes=False, tide=False), end="\r\n")),
        "44013h2000.txt.gz": packed(text(*old_rows("2000", minutes=False, tide=True))),
        "44013h2005.txt.gz": packed(text(*old_rows("2005", minutes=True, tide=False))),
        "bad/html-page.txt.gz": PAGE % b"Unable to access data file.",
        "bad/html-in-gzip.txt.gz": packed(PAGE % b"Unable to access data file."),
        "bad/not-found.html": PAGE % b"404 Not Found",
        "bad/empty.txt.gz": b"",
        "bad/nothing-in-gzip.txt.gz": packed(b""),
        "bad/truncated.txt.gz": packed(whole)[: len(packed(whole)) * 2 // 3],
        "bad/header-only.txt.gz": packed(text(*HISTORY_HEAD)),
        "bad/other-year.txt.gz": packed(text(*HISTORY_HEAD, *history_rows(0, 2019).values())),
        "bad/realtime-file.txt.gz": packed(text(*REALTIME_HEAD, *realtime_rows(0, now, 9))),
        "bad/other-unit.txt.gz": packed(whole.replace(b" m/s  m/s", b"  kt   kt", 1)),
        "bad/short-row.txt.gz": packed(text(*HISTORY_HEAD, *good[:9], short, *good[10:])),
        "bad/cut-in-a-row.txt.gz": packed(whole[:-30]),
    }


BUILT = {"ndbc_stdmet": ndbc_realtime, "ndbc_stdmet_history": ndbc_history}

if __name__ == "__main__":
    for source, build in BUILT.items():
        for name, content in build().items():
            (SAMPLES / source / name).parent.mkdir(parents=True, exist_ok=True)
            (SAMPLES / source / name).write_bytes(content)
