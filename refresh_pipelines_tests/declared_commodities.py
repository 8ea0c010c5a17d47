"""What the samples of the commodity sources hold: of each file the partition it belongs to, and its counts
(fetched, duplicates, filtered) or its error class."""

from refresh_pipelines_tests.workbench import builtin

# Daily series without a holiday: these have a value on each day of the year.
EVERY_DAY = {"DFF", "IORB", "DFEDTARU", "DFEDTARL"}
FRED_ERRORS = {
    "all-missing.json": "contract",
    "api-key-not-registered.json": "permanent",
    "api-key-not-set.json": "permanent",
    "empty.json": "transient",
    "error.xml": "permanent",
    "no-observations.json": "contract",
    "page.html": "permanent",
    "series-does-not-exist.json": "permanent",
    "series-id-not-set.json": "permanent",
    "truncated.json": "transient",
    "withdrawn-404.json": "permanent",
}


def _series(source):
    return builtin(source).partitions.static["series_id"]


def _bad(partition, verdicts):
    return {f"bad/{name}": (partition, verdict) for name, verdict in verdicts.items()}


FRED_FX = {
    **{f"{key}.json": (key, (24, 0, 1)) for key in _series("fred_fx")},
    "revised/DEXUSEU.json": ("DEXUSEU", (29, 0, 1)),
    "revised/DTWEXBGS.json": ("DTWEXBGS", (24, 0, 1)),
    "revised/DEXCHUS.json": ("DEXCHUS", (24, 0, 1)),
    **_bad("DEXUSEU", {name: verdict for name, verdict in FRED_ERRORS.items() if name != "error.xml"}),
    **_bad("DEXUSEU", {"renamed-value.json": "contract", "withdrawn-400.json": "permanent"}),
}
FRED_RATES = {
    **{f"{key}.json": (key, (10, 0, 0) if key in EVERY_DAY else (9, 0, 1)) for key in _series("fred_rates")},
    "revised/DGS10.json": ("DGS10", (12, 0, 1)),
    "revised/DFF.json": ("DFF", (10, 0, 0)),
    "revised/DFEDTARU.json": ("DFEDTARU", (13, 0, 0)),
    **_bad("DGS10", FRED_ERRORS),
    **_bad("DGS10", {"nd-for-missing.json": "contract", "renamed-value.json": "contract"}),
}
FRED_CONDITIONS = {
    **{f"{key}.json": (key, (10, 0, 0)) for key in _series("fred_conditions")},
    "revised/NFCI.json": ("NFCI", (11, 0, 0)),
    "revised/ANFCI.json": ("ANFCI", (10, 0, 0)),
    "revised/BAMLH0A0HYM2.json": ("BAMLH0A0HYM2", (9, 0, 0)),
    **_bad("NFCI", FRED_ERRORS),
    # The status would say that it may pass; its body alone is a refusal.
    "bad/too-many-requests.json": ("NFCI", "permanent"),
}
COT = {
    **{
        f"{key}.json": (key, (3 if key == "007601" else 4, 0, 0))
        for key in builtin("cftc_cot").partitions.static["contract_code"]
    },
    "revised/007601.json": ("007601", (5, 0, 0)),
    "revised/001602.json": ("001602", (4, 0, 0)),
    **_bad(
        "002602",
        {
            "conflicting-duplicates.json": "contract",
            "empty.json": "transient",
            "financial-futures.json": "contract",
            "no-rows.json": "contract",
            "page.html": "permanent",
            "plain-dates.json": "contract",
            "renamed-swap.json": "contract",
            "soql-error.json": "permanent",
            "thousands-comma.json": "contract",
            "truncated.json": "transient",
        },
    ),
}
COT_HISTORY = {
    "fut_disagg_txt_2025.zip": ("2025-01-01", (35, 0, 0)),
    "fut_disagg_txt_2026.zip": ("2026-01-01", (28, 0, 0)),
    "revised/fut_disagg_txt_2025.zip": ("2025-01-01", (34, 0, 0)),
    "revised/fut_disagg_txt_2026.zip": ("2026-01-01", (34, 0, 0)),
    **_bad(
        "2026-01-01",
        {
            "conflicting-duplicates.zip": "contract",
            "empty.zip": "permanent",
            "financial-futures.zip": "contract",
            "html-page.zip": "permanent",
            "legacy-report.zip": "permanent",
            "no-whole-number.zip": "contract",
            "other-year.zip": "contract",
            "short-row.zip": "contract",
            "truncated.zip": "transient",
        },
    ),
}
DECLARED_COMMODITIES = {
    "cftc_cot": COT,
    "cftc_cot_history": COT_HISTORY,
    "fred_conditions": FRED_CONDITIONS,
    "fred_fx": FRED_FX,
    "fred_rates": FRED_RATES,
}
