"""What the samples of the Benin sources hold: of each file (or of pages joined by +) the partition it belongs to, and
its counts (fetched, duplicates, filtered) or its error class."""

from refresh_pipelines_tests.workbench import builtin

YIELD, UNEMPLOYMENT, DENSITY = "AG.YLD.CREL.KG", "SL.UEM.TOTL.ZS", "IC.BUS.NDNS.ZS"
REFUSALS = ("deleted.json", "invalid-value.json", "request-error.html")


def _first_pages(source, rows):
    return {f"{key}.1.json": (key, (rows, 0, 0)) for key in builtin(source).partitions.static["indicator"]}


def _refused(indicator):
    return {f"bad/{name}": (indicator, "permanent") for name in REFUSALS}


# No rows are no mistake where none were before; a table that has some is guarded by expect.keep.
def _no_data(indicator):
    return dict.fromkeys(("header-only.json", "rows-null.json"), (indicator, (0, 0, 0)))


AGRICULTURE = {
    **{name: declared for name, declared in _first_pages("worldbank_agriculture", 16).items() if YIELD not in name},
    f"{YIELD}.1.json+{YIELD}.2.json": (YIELD, (66, 0, 0)),
    f"revised/{YIELD}.1.json+revised/{YIELD}.2.json": (YIELD, (66, 0, 0)),
    "revised/AG.LND.ARBL.ZS.1.json": ("AG.LND.ARBL.ZS", (16, 0, 0)),
    **_no_data(YIELD),
    **_refused(YIELD),
    "bad/answer.xml": (YIELD, "permanent"),
    "bad/dots-for-null.json": (YIELD, "contract"),
    "bad/empty.json": (YIELD, "transient"),
    "bad/renamed-value.json": (YIELD, "contract"),
    "bad/truncated.json": (YIELD, "transient"),
    "bad/two-messages.json": (YIELD, "permanent"),
}
EMPLOYMENT = {
    **_first_pages("worldbank_employment", 16),
    f"revised/{UNEMPLOYMENT}.1.json": (UNEMPLOYMENT, (16, 0, 0)),
    **_refused(UNEMPLOYMENT),
}
BUSINESS = {
    **_first_pages("worldbank_business", 20),
    f"revised/{DENSITY}.1.json": (DENSITY, (20, 0, 0)),
    **_no_data(DENSITY),
    **_refused(DENSITY),
}
DECLARED_BENIN = {
    "worldbank_agriculture": AGRICULTURE,
    "worldbank_business": BUSINESS,
    "worldbank_employment": EMPLOYMENT,
}
