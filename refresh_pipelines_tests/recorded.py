"""Real recorded payloads, and `refresh parse` to read them with.

They lie beside the repository, if at all, and are not part of it: without them their tests pass with nothing to
read, and the summary says how many ran.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from click.testing import CliRunner

from refresh_pipelines.cli.parse import parse

RECORDED = Path(__file__).resolve().parent.parent.parent / "shared" / "upstream"
FRED = ("fred_conditions", "fred_fx", "fred_rates")
WORLD_BANK = ("worldbank_agriculture", "worldbank_business", "worldbank_employment")
# What each source is to read, of what was recorded. For cftc_cot, instad_survey and sodir_field_production nothing was.
READ = {
    **dict.fromkeys(FRED, "fred/observations-*.json"),
    **dict.fromkeys(WORLD_BANK, "worldbank/indicator-*.json"),
    "bsee_ogora": "bsee/ogora*delimit*.zip",
    "cloudtrail": "s3-events/cloudtrail-*",
    "cftc_cot": "",
    "cftc_cot_history": "cftc/f_year-*.txt",
    "faostat": "faostat/bulk-*.zip",
    "instad_survey": "",
    "ndbc_stdmet": "ndbc/realtime2-*.txt",
    "ndbc_stdmet_history": "ndbc/stdmet-*.txt",
    "sodir_facilities": "sodir/fclPoint.csv",
    "sodir_field_production": "",
}


def recorded(pattern: str) -> list[Path]:
    """The recorded payloads of a pattern like `fred/*.json`; none for an empty pattern."""
    return sorted(path for path in RECORDED.glob(pattern or "-") if path.is_file())


def parsed(source: str, *args: object) -> list[dict]:
    """What `refresh parse SOURCE … --json` says of each file. An error that is not ours is raised."""
    result = CliRunner().invoke(parse, [source, *map(str, args), "--json"], catch_exceptions=False)
    assert result.exit_code in (0, 1), result.output
    document = json.loads(result.stdout)
    assert document["ok"] == (result.exit_code == 0)
    return document["items"]


def accepted(source: str, file: Path, *args: object) -> dict:
    """What the command says of one payload that is good, with its rows."""
    (item,) = parsed(source, file, *args, "--rows")
    assert item["error_class"] is None, item["message"]
    assert item["rejected"] == 0
    assert len(item["rows"]) == item["fetched"] - item["duplicates"]
    return item


def packed(path: Path, member: str, folder: Path) -> Path:
    """The payload in a ZIP archive, as it was before somebody unpacked it."""
    out = folder / f"{path.stem}.zip"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, path.read_bytes())
    return out
