"""What the samples of the world energy sources hold: of each file the partition it belongs to, and its counts
(fetched, duplicates, filtered) or its error class."""

from __future__ import annotations

Expected = tuple[str | None, tuple[int, int, int] | str]

OGORA: dict[str, Expected] = {
    "ogora2025delimit.zip": ("2025-01-01", (40, 1, 0)),
    "ogoradelimit.zip": ("2026-01-01", (10, 0, 0)),
    "revised/ogora2025delimit.zip": ("2025-01-01", (41, 1, 0)),
    "revised/ogoradelimit.zip": ("2026-01-01", (13, 0, 0)),
    "bad/18-columns.zip": ("2025-01-01", "contract"),
    "bad/conflicting-duplicates.zip": ("2025-01-01", "contract"),
    "bad/empty.zip": ("2025-01-01", "permanent"),
    "bad/html-page.zip": ("2025-01-01", "permanent"),
    "bad/no-member.zip": ("2025-01-01", "permanent"),
    "bad/non-numeric-volume.zip": ("2025-01-01", "contract"),
    "bad/other-year.zip": ("2025-01-01", "contract"),
    "bad/truncated.zip": ("2025-01-01", "transient"),
}
REALTIME: dict[str, Expected] = {
    **{f"{station}.txt": (station, (25, 0, 0)) for station in ("44013", "44025", "46042", "TPLM2")},
    "revised/44013.txt": ("44013", (25, 0, 0)),
    "bad/archive-file.txt": ("44013", "contract"),
    "bad/conflicting-times.txt": ("44013", "contract"),
    "bad/cut-in-a-row.txt": ("44013", "transient"),
    "bad/empty.txt": ("44013", "permanent"),
    "bad/header-only.txt": ("44013", "contract"),
    "bad/html-page.txt": ("44013", "permanent"),
    "bad/long-row.txt": ("44013", "contract"),
    "bad/no-header.txt": ("44013", "contract"),
    "bad/no-number.txt": ("44013", "contract"),
    "bad/not-found.html": ("44013", "permanent"),
    "bad/other-unit.txt": ("44013", "contract"),
    "bad/renamed-pressure.txt": ("44013", "contract"),
    "bad/short-row.txt": ("44013", "contract"),
    "bad/wind-only.txt": ("44013", "contract"),
}
_BOSTON = "2025-01-01|44013"
HISTORY: dict[str, Expected] = {
    "44013h2025.txt.gz": (_BOSTON, (25, 1, 1)),
    "44025h2025.txt.gz": ("2025-01-01|44025", (24, 0, 1)),
    "46042h2025.txt.gz": ("2025-01-01|46042", (24, 0, 1)),
    "tplm2h2025.txt.gz": ("2025-01-01|tplm2", (24, 0, 0)),
    "44013h1996.txt.gz": ("1996-01-01|44013", (6, 0, 0)),
    "44013h2000.txt.gz": ("2000-01-01|44013", (6, 0, 0)),
    "44013h2005.txt.gz": ("2005-01-01|44013", (6, 0, 0)),
    "revised/44013h2025.txt.gz": (_BOSTON, (25, 1, 1)),
    "bad/cut-in-a-row.txt.gz": (_BOSTON, "transient"),
    "bad/empty.txt.gz": (_BOSTON, "permanent"),
    "bad/header-only.txt.gz": (_BOSTON, "contract"),
    "bad/html-in-gzip.txt.gz": (_BOSTON, "permanent"),
    "bad/html-page.txt.gz": (_BOSTON, "permanent"),
    "bad/not-found.html": (_BOSTON, "permanent"),
    "bad/nothing-in-gzip.txt.gz": (_BOSTON, "permanent"),
    "bad/other-unit.txt.gz": (_BOSTON, "contract"),
    "bad/other-year.txt.gz": (_BOSTON, "contract"),
    "bad/realtime-file.txt.gz": (_BOSTON, "contract"),
    "bad/short-row.txt.gz": (_BOSTON, "contract"),
    "bad/truncated.txt.gz": (_BOSTON, "transient"),
}
FACILITIES: dict[str, Expected] = {
    "fclPoint.zip": (None, (24, 0, 0)),
    "revised/fclPoint.zip": (None, (24, 0, 0)),
    "bad/conflicting-duplicates.zip": (None, "contract"),
    "bad/empty-layer.zip": (None, "contract"),
    "bad/empty.zip": (None, "permanent"),
    "bad/header-only.zip": (None, "contract"),
    "bad/html-page.zip": (None, "permanent"),
    "bad/no-member.zip": (None, "permanent"),
    "bad/not-found.html": (None, "permanent"),
    "bad/renamed-column.zip": (None, "contract"),
    "bad/short-row.zip": (None, "contract"),
    "bad/truncated.zip": (None, "transient"),
}
PRODUCTION: dict[str, Expected] = {
    "field_production_monthly.csv": (None, (44, 0, 0)),
    "revised/field_production_monthly.csv": (None, (50, 0, 0)),
    "bad/blank-row.csv": (None, "contract"),
    "bad/brackets.csv": (None, "contract"),
    "bad/conflicting-duplicates.csv": (None, "contract"),
    "bad/empty.csv": (None, "permanent"),
    "bad/error-500.html": (None, "permanent"),
    "bad/half-alphabet.csv": (None, "contract"),
    "bad/header-only.csv": (None, "contract"),
    "bad/html-page.csv": (None, "permanent"),
    "bad/norwegian.csv": (None, "contract"),
    "bad/renamed-column.csv": (None, "contract"),
    "bad/truncated.csv": (None, "contract"),
    "bad/year-total.csv": (None, "contract"),
}
DECLARED_WORLDENERGY = {
    "bsee_ogora": OGORA,
    "ndbc_stdmet": REALTIME,
    "ndbc_stdmet_history": HISTORY,
    "sodir_facilities": FACILITIES,
    "sodir_field_production": PRODUCTION,
}
