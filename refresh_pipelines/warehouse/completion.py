"""`refresh.completion`: for people with only SQL, what is complete since when. A view over the load states.

A view, so that it can never disagree with them: a load state is written in the transaction of its rows,
also by a refresh that found other bytes and the same rows. A refresh that was answered 304, or the same
bytes, writes nothing at all; when the upstream was last asked stands in Dagster's history.
"""

from __future__ import annotations

from refresh_pipelines.sql import Connection, quote

COMPLETION = """
CREATE OR REPLACE VIEW refresh.completion AS
SELECT source, nullif("partition", '') AS "partition", 'raw.' || "table" AS table_name, outcome, data_version,
    "rows", run_id, committed_at AS completed_at, changed_at
FROM refresh.load_state;
COMMENT ON VIEW refresh.completion IS
    'One row for each source and partition, written in the transaction of its rows; completed_at: when';
"""


def count_rows(connection: Connection, tables: list[str]) -> None:
    """Give load states of an earlier version the number of their rows; `tables` are those that refreshes have made."""
    for table in tables:
        count = (
            f"SELECT count(*) FROM raw.{quote(table)} t WHERE t._source = s.source"  # noqa: S608 - quoted identifier
            " AND coalesce(t._partition, '') = s.\"partition\""
        )
        connection.execute(f'UPDATE refresh.load_state AS s SET "rows" = ({count}) WHERE "table" = ?', [table])  # noqa: S608
