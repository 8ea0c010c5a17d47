"""`refresh new` as a person uses it: look, write, check, parse, run. The upstream is on loopback."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from refresh_pipelines.cli.main import main
from refresh_pipelines_tests.command_home import ROOT
from refresh_pipelines_tests.upstream import Upstream, answer

PRICES = b"""\
Report Date,Station ID,Fuel,Price (EUR/l)
2026-01-05,00123,diesel,1.549
2026-01-05,00124,diesel,n/a
2026-01-06,00123,diesel,1.539
"""
URL = "https://www.example.org/data/prices.csv"


def spoken(result):
    return result.stdout + result.stderr


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder as a person has it after `git clone`, with nothing of their own."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def served():
    with Upstream(answer(PRICES)) as upstream:
        yield upstream


def quick(*args, **environ):
    """Run a command in this process, which stands in the folder."""
    return CliRunner().invoke(main, args, env={"DAGSTER_HOME": None, **environ})


def command(shop, *args, **environ):
    """Run a command in its own process, so that `.env` and working folder are those of a person."""
    path = f"{ROOT / '.venv/bin'}:/usr/bin:/bin"
    return subprocess.run(
        [sys.executable, "-m", "refresh_pipelines", *args],
        cwd=shop, env={"PATH": path, "HOME": str(shop), "COLUMNS": "200", **environ},
        capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.e2e
def test_from_an_address_to_rows_in_a_table_by_the_commands_that_are_printed(shop, served):
    upstream = {"REFRESH_UPSTREAM": served.base}
    made = command(shop, "new", "energy/fuel_prices", "--url", URL, **upstream)
    assert made.returncode == 0, spoken(made)
    assert files(shop / "catalog") + files(shop / "samples") == [
        "energy/fuel_prices.yaml", "fuel_prices/README.md", "fuel_prices/prices.csv", "fuel_prices/sandbox.yaml",
    ]  # fmt: skip
    assert (shop / ".env").read_text() == "REFRESH_CATALOG=builtin:catalog\n"
    steps = [shlex.split(line) for line in made.stdout.partition("Next:")[2].strip().splitlines()]
    assert [step[-2:] for step in steps] == [
        [steps[0][-2], "check"], ["samples/fuel_prices/prices.csv", "--rows"], ["run", "fuel_prices"],
    ]  # fmt: skip
    check, parse, run = (
        command(shop, *step[step.index(word) :], **upstream)
        for step, word in zip(steps, ("check", "parse", "run"), strict=True)
    )
    assert (check.returncode, parse.returncode, run.returncode) == (0, 0, 0), spoken(check) + spoken(run)
    assert "2026-01-05   00123       diesel  1.549" in parse.stdout
    assert "loaded" in run.stdout
    again = command(shop, "run", "fuel_prices", REFRESH_UPSTREAM="sandbox")
    assert "unchanged" in again.stdout, spoken(again)
    rows = command(shop, "sql", "select station_id, price_eur_l from raw.fuel_prices order by all").stdout
    assert [line.split() for line in rows.splitlines()[1:4]] == [["00123", "1.539"], ["00123", "1.549"], ["00124", "-"]]


def test_a_key_in_the_address_is_written_nowhere(shop, served):
    made = quick("new", "energy/fuel_prices", "--url", f"{URL}?api_key=planted5ecret&a=1", REFRESH_UPSTREAM=served.base)
    assert served.seen[0][1].endswith("prices.csv?a=1&api_key=planted5ecret")
    assert "set EXAMPLE_API_KEY=" in made.stdout
    assert "planted5ecret" not in spoken(made)
    written = [shop / name for name in files(shop)]
    assert not [path for path in written if b"planted5ecret" in path.read_bytes()]
    text = (shop / "catalog/energy/fuel_prices.yaml").read_text()
    assert "auth: {env: EXAMPLE_API_KEY, query: api_key}" in text
    assert f'url: "{URL}?a=1"' in text


def test_a_key_is_not_in_the_message_when_the_upstream_refuses(shop):
    with Upstream(answer(b"api_key=planted5ecret is wrong", 403)) as upstream:
        made = quick("new", "a/b", "--url", f"{URL}?api_key=planted5ecret", REFRESH_UPSTREAM=upstream.base)
    assert made.exit_code == 1
    assert "403" in made.stderr
    assert "planted5ecret" not in spoken(made)
    assert files(shop) == ["dagster.yaml"]


def test_nothing_is_overwritten_unless_it_is_asked_for(shop, served):
    arguments = ("new", "energy/fuel_prices", "--url", URL)
    assert quick(*arguments, REFRESH_UPSTREAM=served.base).exit_code == 0
    mine = shop / "catalog/energy/fuel_prices.yaml"
    mine.write_text(mine.read_text().replace("fuel_prices from", "mine from"))
    again = quick(*arguments, REFRESH_UPSTREAM=served.base)
    assert again.exit_code == 1
    assert "Nothing was written" in again.stderr
    assert "mine from" in mine.read_text()
    assert quick(*arguments, "--force", REFRESH_UPSTREAM=served.base).exit_code == 0
    assert "mine from" not in mine.read_text()


def test_a_file_is_enough_and_the_address_can_follow(shop):
    (shop / "my prices.csv").write_bytes(PRICES)
    made = quick("new", "energy/fuel_prices", "--file", "my prices.csv", "--frequency", "weekly")
    assert made.exit_code == 0, spoken(made)
    assert "write the address into request.url" in made.stdout
    assert (shop / "samples/fuel_prices/my_prices.csv").read_bytes() == PRICES
    assert "frequency: weekly" in (shop / "catalog/energy/fuel_prices.yaml").read_text()
    assert quick("check").exit_code == 0


def test_an_own_catalogue_folder_is_used_and_env_is_left_alone(home):
    (home.folder / "x.csv").write_bytes(PRICES)
    made = home.refresh("new", "energy/fuel_prices", "--file", "x.csv")
    assert made.exit_code == 0, made.output
    assert (home.folder / "catalog/energy/fuel_prices.yaml").exists()
    assert not (home.folder / ".env").exists()


def test_commands_work_as_printed_where_the_folder_is_not_among_the_settings(home):
    (home.folder / "x.csv").write_bytes(PRICES)
    made = home.refresh("new", "energy/fuel_prices", "--file", "x.csv", "--catalog", "other")
    assert "REFRESH_CATALOG=catalog:other" in made.output
    home.environ["REFRESH_CATALOG"] = "catalog:other"
    assert home.refresh("parse", "fuel_prices", "x.csv").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["oil", "--url", URL], "is no GROUP/SOURCE"),
        (["Energy/Oil", "--url", URL], "is no GROUP/SOURCE"),
        (["energy/oil"], "--url"),
        (["energy/oil", "--url", "https://me:hush@example.org/"], "user or password"),
        (["other/fred_fx", "--url", URL], "is taken by"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(shop, arguments, said):
    made = quick("new", *arguments)
    assert made.exit_code == 2
    assert said in made.stderr
    assert files(shop) == ["dagster.yaml"]


def test_a_page_in_place_of_data_is_named_and_nothing_is_written(shop):
    with Upstream(answer(b"<!DOCTYPE html><title>Sign in</title>")) as upstream:
        made = quick("new", "energy/oil", "--url", URL, REFRESH_UPSTREAM=upstream.base)
    assert made.exit_code == 1
    assert "web page" in made.stderr
    assert files(shop) == ["dagster.yaml"]
