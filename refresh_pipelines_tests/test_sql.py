"""Names are quoted or refused, and what DuckDB raises is told in our words."""

from __future__ import annotations

import duckdb
import pytest

from refresh_pipelines.errors import ContractViolation, InternalError, Interrupted
from refresh_pipelines.sql import columns, first_row, quote, told


@pytest.mark.parametrize("name", ["", "1a", 'a"b', "a b", "a;", "ä", "a" * 64, "a\n", "a.b"])
def test_what_is_no_plain_name_is_refused(name):
    with pytest.raises(ValueError, match="not an identifier"):
        quote(name)


def test_names_are_quoted_so_that_reserved_words_are_columns():
    assert columns(["select", "_source"], "t.") == 't."select", t."_source"'


def test_after_the_first_row_the_connection_takes_further_work():
    with duckdb.connect() as connection:
        assert first_row(connection, "SELECT * FROM range(5000) ORDER BY 1") == (0,)
        assert first_row(connection, "SELECT 1 WHERE false") is None


@pytest.mark.parametrize(
    ("statement", "kind", "said"),
    [
        (
            "SELECT 'x'::INTEGER",
            ContractViolation,
            "the place cannot hold a value of the payload; got Conversion Error",
        ),
        ("SELECT nothing", InternalError, "the place refused a statement; got Binder Error"),
        ("ATTACH '/'", InternalError, "the place could not be read or written; got IO Error"),
    ],
)
def test_what_duckdb_raises_is_told_with_what_came_and_what_to_do(statement, kind, said):
    with duckdb.connect() as connection, pytest.raises(kind) as caught, told("the place"):
        connection.execute(statement)
    assert str(caught.value).startswith(said)
    assert caught.value.todo.startswith("Nothing was loaded")
    assert isinstance(caught.value.__cause__, duckdb.Error)


@pytest.mark.parametrize(
    "raised",
    [
        RuntimeError("Query interrupted"),  # what DuckDB makes of an exception out of a signal handler
        duckdb.InterruptException("INTERRUPT Error: Interrupted!"),
    ],
)
def test_a_cancelled_statement_is_an_interruption_and_no_defect(raised):
    with pytest.raises(Interrupted, match="cancelled while the place was at work"), told("the place"):
        raise raised


def test_other_errors_pass_as_they_are():
    with pytest.raises(RuntimeError, match="mine"), told("the place"):
        raise RuntimeError("mine")
