"""Rebuild the samples of cloudtrail: `python refresh_pipelines_tests/make_cloudtrail_samples.py`.

Accounts, people and addresses are made up (the ranges are those kept for documentation); only the form is that of
CloudTrail's records. Whatever packs bytes does so with fixed times.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

SAMPLES = Path(__file__).resolve().parent.parent / "refresh_pipelines" / "samples"
BOM = b"\xef\xbb\xbf"
ACCOUNT = "000123456789"
NESTED = ("userIdentity", "requestParameters", "responseElements", "resources", "tlsDetails", "additionalEventData")
ACTIONS = (
    ("ec2.amazonaws.com", "DescribeInstances", True), ("s3.amazonaws.com", "PutBucketPolicy", False),
    ("signin.amazonaws.com", "ConsoleLogin", False), ("iam.amazonaws.com", "CreateUser", False),
)  # fmt: skip
Event = dict[str, Any]


def event(number: int, **changes: Any) -> Event:
    """Return one record; every fourth failed, and members come and go as they do in CloudTrail's own."""
    source, name, read_only = ACTIONS[number % 4]
    out: Event = {
        "eventVersion": "1.08",
        "userIdentity": {
            "type": "IAMUser", "principalId": f"AIDASAMPLE{number:010d}", "accountId": ACCOUNT,
            "arn": f"arn:aws:iam::{ACCOUNT}:user/person-{number % 3}", "userName": f"person-{number % 3}",
        },
        "eventTime": f"2026-03-0{1 + number % 5}T0{number % 10}:15:{number % 60:02d}Z",
        "eventSource": source, "eventName": name, "awsRegion": "eu-west-3",
        "sourceIPAddress": "AWS Internal" if number % 5 == 0 else f"203.0.113.{number % 250}",
        "userAgent": 'aws-cli/2.15 "sample", Python/3.11', "requestParameters": {"maxResults": 50 + number},
        "responseElements": None, "requestID": f"req-{number:06d}", "eventID": f"00000000-0000-4000-8000-{number:012d}",
        "readOnly": read_only, "eventType": "AwsApiCall", "managementEvent": True, "recipientAccountId": ACCOUNT,
        "eventCategory": "Management",
    }  # fmt: skip
    if number % 4 == 1:
        out |= {"errorCode": "AccessDenied", "errorMessage": 'User: é is not authorized, by "policy"'}
        out["resources"] = [{"type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::sample-{number}"}]
    if number % 2:
        out["tlsDetails"] = {"tlsVersion": "TLSv1.3", "cipherSuite": "TLS_AES_128_GCM_SHA256"}
    return out | changes


def events(first: int, count: int) -> list[Event]:
    """Return records with the numbers from `first`."""
    return [event(number) for number in range(first, first + count)]


def log(records: Iterable[Event], member: str = "Records", indent: int | None = None) -> bytes:
    """Return a log file as CloudTrail writes it: one document, on one line unless indented."""
    return json.dumps({member: list(records)}, indent=indent, separators=None if indent else (",", ":")).encode()


def lines(records: Iterable[Event], end: str = "\n") -> bytes:
    """Return one record on each line."""
    return "".join(json.dumps(record, ensure_ascii=False) + end for record in records).encode()


def table(records: Iterable[Event], end: str = "\r\n", mark: str = ",") -> str:
    """Return records as CSV: nested members as JSON, absent ones blank."""
    rows = list(records)
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=mark, lineterminator=end)
    writer.writerow(names)
    writer.writerows([_field(row.get(name)) for name in names] for row in rows)
    return out.getvalue()


def _field(value: Any) -> str:
    if isinstance(value, dict | list | bool):
        return json.dumps(value)
    return "" if value is None else str(value)


def columns(records: Iterable[Event], legacy: bool = False) -> bytes:
    """Return records as Parquet in two row groups: identities as structs, times as legacy int96 or as text."""
    rows = [{**row, **{name: json.dumps(row[name]) for name in NESTED[1:] if row.get(name)}} for row in records]
    if legacy:
        for row in rows:
            row["eventTime"] = datetime.fromisoformat(row["eventTime"].replace("Z", "+00:00")).astimezone(timezone.utc)
    out = io.BytesIO()
    parquet.write_table(
        pa.Table.from_pylist(rows), out, row_group_size=4, use_deprecated_int96_timestamps=legacy, store_schema=False
    )
    return out.getvalue()


def packed(body: bytes) -> bytes:
    """Return the body as a gzip file without a time."""
    return gzip.compress(body, mtime=0)


def samples() -> dict[str, bytes]:
    """Return every sample by its path in the folder; what lies in `drop` is what the sandbox has dropped."""
    whole = packed(log(events(1, 8)))
    good = lines(events(41, 6))
    text = table(events(51, 6))
    rows = text.splitlines(keepends=True)
    nul = lines(events(60, 2)) + lines([event(62, userAgent="a")]).replace(b'"a"', b'"a\0b"')
    newer = event(3, errorCode="Client.RequestLimitExceeded")
    return {
        "drop/000123456789_CloudTrail_eu-west-3_20260301T0015Z.json.gz": whole,
        "drop/plain.json": log(events(11, 5)),
        "drop/indented.json": log(events(21, 3), indent=2),
        "drop/array.jsonl": json.dumps(events(31, 4)).encode(),
        "drop/events.jsonl": good,
        "drop/windows.jsonl": BOM + lines(events(47, 4), end="\r\n") + b"\r\n\r\n",
        "drop/events.csv": BOM + text.encode(),
        "drop/really-csv.json": table(events(71, 3), end="\n").encode(),
        "drop/utf-16 from 100% Excel.csv": table(events(75, 3), mark="\t").encode("utf-16"),
        "drop/old-mac.csv": table(events(81, 3), end="\r").encode(),
        "drop/joined.csv": (text + table(events(51, 6))).encode(),
        "drop/events.parquet": columns(events(91, 9)),
        "drop/legacy.parquet": columns(events(101, 5), legacy=True),
        "drop/events.parquet.gz": packed(columns(events(111, 2))),
        "drop/twice.jsonl": lines([*events(121, 3), event(122)]),
        "revised/plain.json": log([*events(11, 5), newer]),
        "bad/zero-bytes.json": b"",
        "bad/blank.jsonl": b"\r\n\r\n",
        "bad/truncated.json.gz": whole[: len(whole) * 2 // 3],
        "bad/cut.json": log(events(1, 8))[:-200],
        "bad/cut.jsonl": good[:-100],
        "bad/broken-line.jsonl": good.replace(b'"eventVersion": "1.08"', b'"eventVersion": ', 1),
        "bad/nul.jsonl": nul,
        "bad/half-written.parquet": columns(events(91, 9))[:-9],
        "bad/ragged.csv": "".join([*rows[:3], rows[3].rstrip() + ",more\r\n", *rows[4:]]).encode(),
        "bad/header-only.csv": rows[0].encode(),
        "bad/renamed-records.json": log(events(1, 2), member="records"),
        "bad/without-id.jsonl": lines([{k: v for k, v in event(1).items() if k != "eventID"}]),
        "bad/two-of-one-id.jsonl": lines([event(1), event(1, eventName="DeleteTrail")]),
        "bad/no-time.jsonl": lines([event(1), event(2, eventTime="yesterday")]),
        "bad/access-denied.json": b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>',
        "bad/picture.json": b"\x89PNG\r\n\x1a\n" + bytes(range(32)) * 20,
        "bad/archive.json": b"PK\x05\x06" + bytes(18),
    }  # fmt: skip


BUILT = {"cloudtrail": samples}

if __name__ == "__main__":
    for source, build in BUILT.items():
        for name, content in build().items():
            (SAMPLES / source / name).parent.mkdir(parents=True, exist_ok=True)
            (SAMPLES / source / name).write_bytes(content)
