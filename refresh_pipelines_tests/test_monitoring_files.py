"""Rules for Prometheus and the dashboard for Grafana: what can be said of them without either."""

from __future__ import annotations

import json
import re
from itertools import combinations

import pytest
import yaml

from refresh_pipelines.units import parse_duration
from refresh_pipelines_tests.command_home import ROOT
from refresh_pipelines_tests.test_api_metrics import FIXED, used

RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/refresh.rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
BOARD = json.loads((ROOT / "deploy/grafana/refresh.json").read_text())
ASKED = [(target["expr"], target.get("legendFormat", "")) for panel in BOARD["panels"] for target in panel["targets"]]


def labels_of(text):
    """Return the labels that the metrics of an expression have, and those of a histogram's buckets with `le`."""
    return {label for name in used(text) for label in FIXED[name][1]}


def named(text):
    """Return the labels that an expression names: in braces, and behind by, on and their like."""
    inside = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", text)
    grouped = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", text)
    return set(inside) | {label.strip() for labels in grouped for label in labels.split(",")}


@pytest.mark.parametrize("text", [*(rule["expr"] for rule in RULES), *(text for text, _ in ASKED)])
def test_an_expression_is_balanced_and_its_labels_exist(text):
    for begin, end in ("()", "{}", "[]"):
        assert text.count(begin) == text.count(end)
    assert text.count('"') % 2 == 0
    own = named(re.sub(r"\bup\{[^}]*\}", "", text))  # a metric of Prometheus itself
    assert own <= labels_of(text)
    for name in re.findall(r"\b(?:rate|increase)\((refresh_\w+)", text):
        kind = FIXED[next(iter(used(name)))][0]
        assert kind in ("counter", "histogram") and name.endswith(("_total", "_bucket", "_sum", "_count")), name
    for period in re.findall(r"\[(\w+)\]", text):
        assert parse_duration(period)


def test_rules_have_names_of_their_own_and_say_what_to_do_by_labels_that_are_there():
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"Refresh[A-Z]\w+", name) for name in names)
    for rule in RULES:
        assert parse_duration(rule["for"]) and rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "action"} == set(rule["annotations"])
        told = "".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", told)) <= labels_of(rule["expr"])
        assert told.count("{{") == told.count("}}")


def test_legends_name_labels_that_are_left():
    for text, legend in ASKED:
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels_of(text)


def test_panels_have_numbers_and_places_of_their_own():
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert [one["name"] for one in BOARD["templating"]["list"]] == ["datasource"]
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
