"""What the samples of the autoload sources hold: of each file the partition it belongs to, and its counts (fetched,
duplicates, filtered) or its error class."""

_DAY = "2026-11-22"
_GOOD = {
    "000123456789_CloudTrail_eu-west-3_20260301T0015Z.json.gz": (8, 0), "plain.json": (5, 0), "indented.json": (3, 0),
    "array.jsonl": (4, 0), "events.jsonl": (6, 0), "windows.jsonl": (4, 0), "twice.jsonl": (4, 1),
    "events.csv": (6, 0), "really-csv.json": (3, 0), "utf-16 from 100% Excel.csv": (3, 0), "old-mac.csv": (3, 0),
    "joined.csv": (12, 6), "events.parquet": (9, 0), "legacy.parquet": (5, 0), "events.parquet.gz": (2, 0),
}  # fmt: skip
_BAD = {
    "zero-bytes.json": "permanent", "blank.jsonl": "permanent", "truncated.json.gz": "transient",
    "cut.json": "transient", "cut.jsonl": "transient", "broken-line.jsonl": "contract", "nul.jsonl": "contract",
    "half-written.parquet": "transient", "ragged.csv": "contract", "header-only.csv": "contract",
    "renamed-records.json": "contract", "without-id.jsonl": "contract", "two-of-one-id.jsonl": "contract",
    "no-time.jsonl": "contract", "access-denied.json": "permanent", "picture.json": "permanent",
    "archive.json": "permanent",
}  # fmt: skip
CLOUDTRAIL = {
    **{f"drop/{name}": (_DAY, (rows, duplicates, 0)) for name, (rows, duplicates) in _GOOD.items()},
    "revised/plain.json": (_DAY, (6, 0, 0)),
    **{f"bad/{name}": (_DAY, error_class) for name, error_class in _BAD.items()},
}
DECLARED_AUTOLOAD = {"cloudtrail": CLOUDTRAIL}
