"""docs/add-a-source.md: what it shows is what happens."""

import re
import runpy
import shutil

import pytest
import yaml
from click.testing import CliRunner

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.cli.main import main
from refresh_pipelines.spec import SourceYaml
from refresh_pipelines.window import Window
from refresh_pipelines_tests.catalogues import MINI, write
from refresh_pipelines_tests.command_home import ROOT
from refresh_pipelines_tests.upstream import Upstream, answer

PAGE = (ROOT / "docs/add-a-source.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
YAMLS = [text for kind, text in BLOCKS if kind == "yaml"]
INLINE = re.findall(r"`((?:partitions|paging|each|auth|expect): \{[^`]*\})`", PAGE)
SECTION = {"paging": "request", "each": "request", "auth": "request"}


def fuel():
    """A file of the page's shape: six columns, 270 rows, some without a price."""
    lines = ["Report Date;Station ID;Town;Fuel;Price (FCFA/l);Stock"]
    for number in range(270):
        station, fuel = ("00123", "00124", "00131")[number // 2 % 3], ("diesel", "petrol")[number % 2]
        day = f"{number // 6 % 28 + 1:02}/{number // 168 + 1:02}/2026"
        price = "n/a" if number % 50 == 7 else f"{700 + number / 2}"
        lines.append(f"{day};{station};Town {station};{fuel};{price};{2000 + number}")
    return "\n".join(lines).encode()


def test_the_first_command_prints_what_the_page_shows(tmp_path, monkeypatch):
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    shown = next(text for kind, text in BLOCKS if text.startswith("$ refresh new")).partition("Next:")[0]
    command, _, printed = shown.partition("\n")
    with Upstream(answer(fuel())) as upstream:
        environ = {"DAGSTER_HOME": None, "REFRESH_UPSTREAM": upstream.base}
        made = CliRunner().invoke(main, command.split()[2:], env=environ)
    assert made.exit_code == 0, made.output
    assert made.stdout.partition("Next:")[0] == printed
    written = (tmp_path / "catalog/benin/fuel_prices.yaml").read_text()
    assert yaml.safe_load(written) == yaml.safe_load(YAMLS[0])


@pytest.mark.parametrize("text", YAMLS, ids=lambda text: text.split(":")[0])
def test_every_source_of_the_page_passes_check(tmp_path, text):
    whole = (
        text if "description" in text else f"description: a test\nformat: csv\nschedule: {{frequency: daily}}\n{text}"
    )
    catalogue = load_catalogue([write(tmp_path, {"benin/made.yaml": whole})])
    assert list(catalogue.problems) == []


@pytest.mark.parametrize("text", INLINE)
def test_every_key_of_the_page_is_one_of_the_grammar(text):
    source = yaml.safe_load(MINI)
    [(key, value)] = yaml.safe_load(text).items()
    (source[SECTION[key]] if key in SECTION else source)[key] = value
    SourceYaml.model_validate(source)


def test_the_parser_of_the_page_reads_its_file(tmp_path):
    code = next(text for kind, text in BLOCKS if kind == "python")
    (tmp_path / "our_parsers.py").write_text(code)
    read_buoy = runpy.run_path(str(tmp_path / "our_parsers.py"))["read_buoy"]
    lines = ["#YY  MM DD hh mm  WVHT  WTMP", "#yr  mo dy hr mn     m  degC"]
    lines += ["2026 01 05 00 50   1.2  14.1", "2026 01 05 01 50   1.3    MM"]
    (tmp_path / "buoy.txt").write_text("\n".join([*lines, ""]))
    catalogue = load_catalogue([write(tmp_path / "catalog", {"benin/buoy.yaml": YAMLS[-1]})])
    rows = read_buoy(tmp_path / "buoy.txt", catalogue.sources["buoy"], Window())
    assert rows.to_dict("list") == {
        "YY": ["2026", "2026"], "MM": ["01", "01"], "DD": ["05", "05"], "hh": ["00", "01"], "mm": ["50", "50"],
        "WVHT": ["1.2", "1.3"], "WTMP": ["14.1", "MM"],
    }  # fmt: skip
