"""How a record is written: one line whatever it says, and readable again."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.log.lines import json_line, text_line

TEXT = st.text(st.characters(codec=None, exclude_categories=[]))
VALUES = st.one_of(TEXT, st.integers(), st.booleans(), st.floats(allow_nan=False), st.lists(TEXT))
RECORD = {"time": "2026-11-22T12:00:00.000Z", "level": "info", "event": "refresh.ended"}


@given(st.dictionaries(st.sampled_from(["message", "source", "count", "reason"]), VALUES))
def test_a_record_is_one_line_that_any_shipper_and_terminal_takes(fields):
    for line in (text_line({**RECORD, **fields}), json_line({**RECORD, **fields})):
        assert line.splitlines() == [line]
        assert line.isprintable()
        assert line.encode()


@given(st.dictionaries(st.sampled_from(["message", "source", "count"]), VALUES))
def test_json_gives_back_what_was_said(fields):
    assert json.loads(json_line({**RECORD, **fields})) == {**RECORD, **fields}


def test_text_is_time_level_event_and_pairs():
    said = {"source": "fred_fx", "message": 'it said "no"\nand left', "fetched": 24, "again": True, "days": ["a", "b"]}
    assert text_line({**RECORD, **said}) == (
        "2026-11-22T12:00:00.000Z info refresh.ended source=fred_fx "
        'message="it said \\"no\\"\\nand left" fetched=24 again=true days=a,b'
    )


@given(TEXT)
def test_a_value_in_text_is_bare_or_a_json_string(text):
    value = text_line({**RECORD, "message": text}).split(" message=", 1)[1]
    assert value == text if value[0] != '"' else json.loads(value) == text
