"""`refresh doctor`: the known traps, whether one of them holds here, and its mend."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from refresh_pipelines.cli.common import json_option, load_settings, print_json, print_table
from refresh_pipelines.clock import utc_now
from refresh_pipelines.service.doctor.examine import examine
from refresh_pipelines.service.doctor.traps import Finding


@click.command()
@click.option("--online", is_flag=True, help="Also ask each upstream's host whether it answers, and what time it is.")
@json_option
def doctor(online: bool, as_json: bool) -> None:
    """Look for the known traps and say how to mend those that hold. It changes nothing and asks no upstream.

    Exit code 1 if something is wrong; advice alone is none. docs/operations.md has them all.
    """
    settings = load_settings()
    found = list(examine(settings, utc_now(), ask_upstreams=online))
    ok = not any(one.trap.level == "wrong" for _, some in found for one in some)
    if as_json:
        print_json([_item(check, one) for check, some in found for one in some], ok)
    else:
        print_table(("CHECK", "VERDICT"), [(check, _verdict(check, some, online)) for check, some in found])
        for _, some in found:
            _print_findings(some)
    sys.exit(0 if ok else 1)


def _verdict(check: str, found: Sequence[Finding], online: bool) -> str:
    if check == "upstreams" and not online:
        return "not asked (--online)"
    levels = {one.trap.level for one in found}
    return "wrong" if "wrong" in levels else "advice" if levels else "ok"


def _print_findings(found: Sequence[Finding]) -> None:
    told: set[str] = set()
    for one in found:
        if one.trap.name not in told:
            click.echo(f"\n{one.trap.level}: {one.trap.name}. {one.trap.what}\n  mend: {one.trap.mend}")
        told.add(one.trap.name)
        click.echo(f"  found: {one.came}")


def _item(check: str, one: Finding) -> dict[str, str]:
    return {
        "check": check,
        "trap": one.trap.name,
        "level": one.trap.level,
        "what": one.trap.what,
        "found": one.came,
        "mend": one.trap.mend,
    }
