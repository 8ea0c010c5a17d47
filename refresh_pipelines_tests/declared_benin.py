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
_DAY = "2026-11-22"
_CONTRACT = (
    "colonne-en-plus.xlsx", "culture-inconnue.xlsx", "departement-inconnu.xlsx", "deux-tableaux.xlsx",
    "entete-renommee.xlsx", "erreur.xlsx", "feuille-inconnue.xlsx", "formule-sans-valeur.xlsx",
    "fractions-sans-format.xlsx", "ligne-sans-zone.xlsx", "nombre-illisible.xlsx", "part-trop-grande.xlsx",
    "point-decimal.csv", "rien-que-cache.xlsx",
)  # fmt: skip
SURVEY = {
    "drop/eri-esi-2022.xlsx": (_DAY, (54, 0, 0)),
    "drop/eri-esi-2024.xlsx": (_DAY, (54, 0, 0)),
    "drop/eri-esi-2022-sommes.xlsx": (_DAY, (54, 0, 0)),
    "drop/cultures-2023-2024.xlsx": (_DAY, (21, 0, 0)),
    "drop/cultures-utf8.csv": (_DAY, (21, 0, 0)),
    "drop/cultures-cp1252.csv": (_DAY, (12, 0, 0)),
    "revised/eri-esi-2022.xlsx": (_DAY, (54, 0, 0)),
    **{f"bad/{name}": (_DAY, "contract") for name in _CONTRACT},
    "bad/ancien-excel.xls": (_DAY, "permanent"),
    "bad/coupe.xlsx": (_DAY, "transient"),
    "bad/page.xlsx": (_DAY, "permanent"),
    "bad/vide.xlsx": (_DAY, "permanent"),
}
FAOSTAT = {
    "QCL.zip": ("QCL", (27, 0, 81)),
    "QCL-11-columns.zip": ("QCL", (27, 0, 81)),
    "QV.zip": ("QV", (3, 0, 9)),
    "RL.zip": ("RL", (6, 0, 18)),
    "RFN.zip": ("RFN", (3, 0, 9)),
    "FBS.zip": ("FBS", (3, 0, 9)),
    "FS.zip": ("FS", (8, 0, 24)),
    "TCL.zip": ("TCL", (3, 0, 9)),
    "revised/QCL.zip": ("QCL", (27, 0, 81)),
    "bad/conflicting-duplicates.zip": ("QCL", "contract"),
    "bad/empty.zip": ("QCL", "permanent"),
    "bad/firewall.html": ("QCL", "permanent"),
    "bad/joined-twice.zip": ("QCL", "contract"),
    "bad/no-area-code.zip": ("QCL", "contract"),
    "bad/no-benin.zip": ("QCL", "contract"),
    "bad/renamed-value.zip": ("QCL", "contract"),
    "bad/spaced-number.zip": ("QCL", "contract"),
    "bad/truncated.zip": ("QCL", "transient"),
}
DECLARED_BENIN = {
    "faostat": FAOSTAT,
    "instad_survey": SURVEY,
    "worldbank_agriculture": AGRICULTURE,
    "worldbank_business": BUSINESS,
    "worldbank_employment": EMPLOYMENT,
}
