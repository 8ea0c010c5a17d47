"""PostgreSQL as warehouse: what it does by itself, many writers at once, and every way in which it can be away."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace

import psycopg
import pyarrow as pa
import pytest

from refresh_pipelines.errors import ContractViolation, InternalError, Interrupted, SpecChanged, WarehouseBusy
from refresh_pipelines.settings import Settings
from refresh_pipelines.warehouse import open_warehouse
from refresh_pipelines.warehouse.postgres import PostgresWarehouse
from refresh_pipelines.warehouse.postgres_link import lock_key
from refresh_pipelines_tests.cutting import Wire
from refresh_pipelines_tests.stores import Addressed, by_hand, held
from refresh_pipelines_tests.workbench import commit_of, spec_of, start

SPEC = spec_of()
A1, A2, B1 = ({"k": k, "n": n, "t": None} for k, n in (("a", "1"), ("a", "2"), ("b", "1")))


@pytest.fixture
def warehouse(postgres):
    return Addressed(postgres)


def commit(rows, tmp_path, spec=SPEC, **state):
    return commit_of(spec, rows, tmp_path / "scratch", **state)


def test_the_settings_open_it_and_show_neither_password_nor_options(tmp_path, postgres):
    url = postgres.replace("refresh@", "refresh:hunter2hunter2@") + "?sslmode=prefer"
    settings = Settings.load({"REFRESH_WAREHOUSE": url}, tmp_path)
    assert settings.warehouse_name == postgres.replace("refresh@", "")
    assert "hunter2" not in repr(settings)
    assert open_warehouse(settings).commit(commit([A1], tmp_path)).state.counts.added == 1


def test_texts_that_copy_could_take_for_its_own_signs_arrive_as_they_are(warehouse, tmp_path):
    texts = ["", "\\.", "\\N", "NULL", "a\n\\.\nb", '"', ",", "\r\n", "\t\\t", "'; --", "%s %(x)s $1 ?", "\U0001f327"]
    columns = {"k": {"type": "text", "strip": False}, "n": {"type": "text", "strip": False}}
    rows = [{"k": f"k{text}", "n": text} for text in texts]
    warehouse.commit(commit(rows, tmp_path, spec_of(columns=columns)))
    assert {row[1] for row in held(warehouse, "mini")} == {None, *texts[1:]}  # an empty text is no value
    assert warehouse.commit(commit(rows, tmp_path, spec_of(columns=columns))).state.counts.unchanged == len(texts)


def test_json_is_compared_by_what_it_means(warehouse, tmp_path):
    spec = spec_of(columns={"k": {"type": "text"}, "j": {"type": "json"}})
    warehouse.commit(commit([{"k": "a", "j": '{"b": 1, "a": [1.0]}'}], tmp_path, spec))
    assert warehouse.commit(commit([{"k": "a", "j": '{"a":[1.0],"b":1}'}], tmp_path, spec)).state.counts.unchanged == 1
    assert warehouse.commit(commit([{"k": "a", "j": '{"a":[1.0],"b":2}'}], tmp_path, spec)).state.counts.updated == 1


def test_a_number_that_jsonb_cannot_hold_is_the_payloads_fault(warehouse, tmp_path):
    spec = spec_of(columns={"k": {"type": "text"}, "j": {"type": "json"}})
    with pytest.raises(ContractViolation, match="cannot hold a value of the payload"):
        warehouse.commit(commit([{"k": "a", "j": "1e999999"}], tmp_path, spec))


def test_rights_and_views_of_a_table_survive_a_new_column(warehouse, tmp_path):
    warehouse.commit(commit([A1], tmp_path))
    by_hand(warehouse, "CREATE VIEW public.seen AS SELECT k, n FROM raw.mini", "GRANT SELECT ON raw.mini TO PUBLIC")
    wider = spec_of(columns={**SPEC.model_dump()["columns"], "extra": {"type": "int"}})
    warehouse.commit(commit([{**A2, "extra": "7"}], tmp_path, wider))
    assert by_hand(warehouse, "SELECT * FROM public.seen") == [("a", 2)]
    assert by_hand(warehouse, "SELECT has_table_privilege('public', 'raw.mini', 'select')") == [(True,)]


def test_nothing_of_a_commit_is_left_over(warehouse, tmp_path):
    warehouse.commit(commit([A1], tmp_path))
    left = "SELECT count(*) FROM pg_class WHERE relname = 'staged' OR relpersistence <> 'p'"
    assert by_hand(warehouse, left) == [(0,)]
    assert by_hand(warehouse, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


def test_a_question_takes_one_statement_that_reads(warehouse, tmp_path):
    warehouse.commit(commit([A1], tmp_path))
    assert warehouse.query("SELECT k, 7 % 4 AS r FROM raw.mini WHERE k LIKE '%a'") == (["k", "r"], [("a", 3)])
    for statement in ("DELETE FROM raw.mini", "COMMIT; DELETE FROM raw.mini", "FROM raw.mini"):
        with pytest.raises(ContractViolation, match="the statement cannot be run"):
            warehouse.query(statement)
    assert len(held(warehouse, "mini")) == 1


def test_a_derived_query_is_duckdbs_sql_here_too(warehouse, tmp_path):
    columns = {"k": {"type": "text"}, "on": {"type": "date"}, "d": {"type": "decimal(9,2)"}, "f": {"type": "bool"},
               "at": {"type": "timestamptz"}, "j": {"type": "json"}, "x": {"type": "double"}}  # fmt: skip
    rows = [{"k": "a", "on": "2026-01-31", "d": "1.50", "f": "true", "at": "2026-01-31T12:00:00Z", "j": '{"n": [1]}',
             "x": "0.1"}, {"k": "b"}]  # fmt: skip
    rows[1] = dict.fromkeys(rows[0]) | rows[1]
    warehouse.commit(commit(rows, tmp_path, spec_of(columns=columns)))
    query = "FROM raw.mini SELECT k, \"on\", d, f, raw.mini.at, j->>'$.n[0]' AS n, x, list(k) OVER () AS l ORDER BY ALL"
    warehouse.select(query, {"mini"}, tmp_path / "result.arrow")
    with pa.memory_map(str(tmp_path / "result.arrow")) as source:
        found = pa.ipc.open_file(source).read_all().to_pylist()
    assert list(found[0].values()) == [
        "a", "2026-01-31", "1.50", "true", "2026-01-31 12:00:00+00", "1", "0.1", "[a, b]",
    ]  # fmt: skip
    assert [value for value in found[1].values() if value is not None] == ["b", "[a, b]"]
    with pytest.raises(ContractViolation, match="reads a table that no required source loads"):
        warehouse.select("SELECT * FROM raw.mini, raw.secret", {"mini"}, tmp_path / "result.arrow")


@pytest.mark.e2e
@pytest.mark.parametrize("tables", ["own", "shared"])
def test_four_processes_that_commit_at_once_each_write_their_rows(warehouse, tmp_path, tables):
    names = ("one", "two", "three", "four")
    children = [
        start("committing_child", warehouse.url, name, name if tables == "own" else "shared", tmp_path / name)
        for name in names
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate(timeout=60)[0].split("\n")[:5] for child in children]
    assert said == [["50 0", *["0 50"] * 4]] * 4
    written = [held(warehouse, name) for name in names] if tables == "own" else [held(warehouse, "shared")]
    assert sum(map(len, written)) == 200
    assert {row[1] for rows in written for row in rows} == {4}


def test_a_lock_that_is_not_had_in_time_names_its_holder(postgres, tmp_path):
    impatient = PostgresWarehouse(postgres, 0.2)
    impatient.commit(commit([A1], tmp_path))
    with closing(psycopg.connect(postgres, application_name="a person's tool")) as person:
        for lock in (f"SELECT pg_advisory_xact_lock({lock_key('raw.mini')})", "LOCK TABLE raw.mini"):
            person.execute(lock)
            with pytest.raises(WarehouseBusy) as caught:
                impatient.commit(commit([A2], tmp_path))
            assert f"held by server process {person.info.backend_pid} (a person's tool at 127.0.0.1) since" in str(
                caught.value
            )
            assert "within 0.2 s (REFRESH_LOCK_TIMEOUT)" in str(caught.value)
            person.rollback()
    assert impatient.commit(commit([A2], tmp_path)).state.counts.updated == 1


def test_commits_of_different_tables_do_not_wait_for_each_other(postgres, tmp_path):
    impatient = PostgresWarehouse(postgres, 0.2)
    impatient.commit(commit([A1], tmp_path))
    other = commit([B1], tmp_path / "other", spec_of("other"))
    nested = replace(commit([A2], tmp_path), progress=lambda _: impatient.commit(other))
    assert impatient.commit(nested).state.counts.updated == 1


def test_retiring_waits_for_every_commit(postgres, tmp_path):
    impatient, caught = PostgresWarehouse(postgres, 0.2), []

    def retire(_):
        with pytest.raises(WarehouseBusy) as busy:
            impatient.retire("other")
        caught.append(busy.value)

    impatient.commit(replace(commit([A1], tmp_path), progress=retire))
    assert "held by server process" in str(caught[0])


def test_a_connection_that_is_ended_in_mid_commit_leaves_everything_as_it_was(warehouse, tmp_path):
    warehouse.commit(commit([A1], tmp_path, run_id="one"))
    before = held(warehouse, "mini"), warehouse.states("mini")[0]

    def kill(_):
        by_hand(warehouse, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip

    with pytest.raises(WarehouseBusy) as caught:
        warehouse.commit(replace(commit([A2, B1], tmp_path, run_id="two"), progress=kill))
    assert "the connection to the warehouse test_" in str(caught.value) and "broke off" in str(caught.value)
    assert (caught.value.error_class, caught.value.retryable) == ("busy", True)
    assert (held(warehouse, "mini"), warehouse.states("mini")[0]) == before
    assert warehouse.commit(commit([A2, B1], tmp_path, run_id="two")).state.counts.added == 1


def test_a_commit_whose_acknowledgement_was_lost_is_found_in_the_load_state(postgres_server, warehouse, tmp_path):
    with closing(Wire(postgres_server.port, b"COMMIT\0")) as wire:
        behind = PostgresWarehouse(warehouse.url.replace(str(postgres_server.port), str(wire.port)), 5)
        warehouse.commit(commit([A1], tmp_path, run_id="one"))  # the state tables are there, by another commit
        with pytest.raises(WarehouseBusy, match="the load state says whether the last commit was made"):
            behind.commit(commit([A2, B1], tmp_path, run_id="two"))
    assert warehouse.states("mini")[0][""].run_id == "two"
    again = warehouse.commit(commit([A2, B1], tmp_path, run_id="three")).state.counts
    assert (again.added, again.updated, again.unchanged) == (0, 0, 2)


def test_a_server_that_comes_back_in_time_is_waited_for(postgres_server, warehouse, tmp_path):
    warehouse.commit(commit([A1], tmp_path))
    postgres_server.stop()
    later = threading.Timer(0.5, postgres_server.start)
    later.start()
    merged = PostgresWarehouse(warehouse.url, 30).commit(commit([A2], tmp_path))
    later.join()
    assert merged.state.counts.updated == 1
    assert 0.3 < merged.wait < 30


def test_a_server_that_does_not_answer_is_busy_and_named_without_the_password(tmp_path):
    with pytest.raises(WarehouseBusy) as caught:
        PostgresWarehouse("postgresql://me:hunter2hunter2@127.0.0.1:1/data", 0.2).commit(commit([A1], tmp_path))
    text = str(caught.value)
    assert text.startswith("the warehouse data on 127.0.0.1:1 cannot be reached; expected a connection within 0.2 s")
    assert "Start the server, or correct REFRESH_WAREHOUSE" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace("refresh@", "guarded:hunter2hunter2@"), "password authentication failed"),
        (lambda url: url + "_not", "does not exist"),
        (lambda url: url.replace("refresh@", "nobody@"), "does not exist"),
    ],
)
def test_a_server_that_refuses_us_is_told_at_once_and_without_the_password(
    postgres_server, postgres, tmp_path, change, said
):
    postgres_server.ask("postgres", "DROP ROLE IF EXISTS guarded; CREATE ROLE guarded LOGIN PASSWORD 'another'")
    with pytest.raises(InternalError) as caught:
        PostgresWarehouse(change(postgres), 300).commit(commit([A1], tmp_path))
    assert "does not let us in" in str(caught.value) and said in str(caught.value)
    assert "hunter2" not in str(caught.value) + repr(caught.value.__cause__)


def test_a_user_who_may_not_create_is_told_which_right_is_missing(postgres_server, postgres, tmp_path):
    postgres_server.ask("postgres", "DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN")
    with pytest.raises(InternalError, match=r"does not let us write; got permission denied.*GRANT CREATE ON DATABASE"):
        PostgresWarehouse(postgres.replace("refresh@", "weak@"), 5).commit(commit([A1], tmp_path))


def test_an_address_nobody_can_read_is_told_without_repeating_it():
    with pytest.raises(InternalError, match="no address of PostgreSQL") as caught:
        PostgresWarehouse("postgresql://me:hunter2@hunter2@h:x/d?nonsense=1", 5)
    assert "hunter2" not in str(caught.value)


def test_a_statement_that_is_cancelled_is_an_interruption(warehouse, tmp_path):
    def cancel(_):
        raise psycopg.errors.QueryCanceled("canceling statement due to user request")

    with pytest.raises(Interrupted, match="cancelled while the warehouse"):
        warehouse.commit(replace(commit([A1], tmp_path), progress=cancel))


def test_a_change_that_is_refused_names_the_types_of_postgresql(warehouse, tmp_path):
    warehouse.commit(commit([A1], tmp_path))
    changed = spec_of(columns={**SPEC.model_dump()["columns"], "n": {"type": "decimal(5,2)"}})
    with pytest.raises(SpecChanged, match=r"n is INTEGER in the table and NUMERIC\(5,2\) in the YAML"):
        warehouse.commit(commit([A1], tmp_path, changed))
