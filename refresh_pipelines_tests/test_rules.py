"""Each rule, as one change to a real source: what is said, and at which line and column."""

import pytest

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.settings import BUILTIN_CATALOG

FRED = (BUILTIN_CATALOG / "commodities/fred_fx.yaml").read_text()
BSEE = (BUILTIN_CATALOG / "worldenergy/bsee_ogora.yaml").read_text()
SCHEDULE = '{cron: "0 17 * * 1,2", timezone: America/New_York}'
URL = "https://api.stlouisfed.org/fred/series/observations"


def changed(text, old, new):
    assert text.count(old) == 1, old
    return text.replace(old, new)


def take_mark(text):
    """Return the text without its one ▸, and the line and column of it."""
    before, _, after = text.partition("▸")
    assert "▸" not in after
    return before + after, (before.count("\n") + 1, len(before) - before.rfind("\n"))


def load(tmp_path, text):
    (tmp_path / "g").mkdir(exist_ok=True)
    (tmp_path / "g/a.yaml").write_text(text)
    return load_catalogue([tmp_path])


# What is replaced, by what (▸ marks the place of the problem), and a part of what is said.
CASES = [
    # the grammar
    ("table: fred_economic", "▸tabel: fred_economic", "unknown key tabel (did you mean table?)"),
    ("  rate: 2/s", "  ▸timezone: UTC", "timezone belongs under schedule"),
    ("    file_type: json", "    file_type: ▸[json]", "request.params.file_type must be text"),
    (
        "  kind: json",
        "  kind: ▸jsn",
        "format.kind must be csv, json, jsonl, parquet, xlsx or detect (did you mean json?)",
    ),
    ("{type: text, from", "{▸tpye: text, from", "unknown key tpye (did you mean type?)"),
    ("{type: text, from", "{type: ▸txt, from", "did you mean text?"),
    ("  value: {type: double, ", "  ▸value: {", "type is missing in columns.value"),
    ("merge_key: [series_id, obs_date]", "merge_key: ▸series_id", "merge_key must be a list"),
    ("  lookback: 45d", "  lookback: ▸45 days", "not a duration: '45 days'"),
    ("  lookback: 45d", "  lookback: ▸99999999999999999d", "a duration of more than 3650d"),
    ("{checked: 8d, changed", "{checked: ▸8 d, changed", "not a duration"),
    ("  start: 1971-01-04", "  start: ▸soon", "partitions.start must be"),
    ("[DEXUSEU, ", "[▸7, ", "partitions.static.series_id.0 must be text (put it in quotes)"),
    ("  auth: {env: FRED_API_KEY, query", "  auth: {env: ▸abc123, query", "the name of a variable, never its value"),
    (
        "auth: {env: FRED_API_KEY, query: api_key}",
        "▸auth: {env: FRED_API_KEY}",
        "auth needs exactly one of query and header",
    ),
    ("table: fred_economic", "▸group: meteo", "unknown key group"),
    ("table: fred_economic", 'table: ▸"Fred"', "table must match"),
    # what the source is
    ("team:commodities", "▸commodities", "owner must be an e-mail address or team:name"),
    ("https://fred.stlouisfed.org/release?rid=17", "▸javascript:alert(1)", "homepage must be an address"),
    ("table: fred_economic", "tags: {▸a b: c}", "a tag's name"),
    ("table: fred_economic", "tags: {a: ▸c/d}", "a tag's value"),
    ("table: fred_economic", "▸parser: a.b:c", "format and parser exclude each other"),
    ("schedule: " + SCHEDULE, "▸schedule: {timezone: UTC}", "an enabled source needs schedule.frequency"),
    # schedules
    ('"0 17 * * 1,2"', '▸"0 25 * * 1"', "not a cron expression that Dagster takes: 0 25 * * 1"),
    ('"0 17 * * 1,2"', '▸"0 0 17 * * 1,2"', "not a cron expression"),
    ('"0 17 * * 1,2"', '▸"0 0 30 2 *"', "not a cron expression"),
    ('"0 17 * * 1,2"', '▸"0 0 31 4 *"', "no date ever fits"),
    ("America/New_York", "▸America/NewYork", "unknown time zone America/NewYork (did you mean America/New_York?)"),
    ("America/New_York", "▸America", "unknown time zone"),
    (SCHEDULE, '{cron: "0 1 * * *", ▸time: "05:00"}', "time goes with frequency"),
    (SCHEDULE, "{frequency: weekly, time: ▸15:45}", "schedule.time must be text (put it in quotes)"),
    (SCHEDULE, "{frequency: weekly, day: ▸fri}", "did you mean friday?"),
    (SCHEDULE, "{frequency: weekly, day: ▸5}", "a weekday's name"),
    (SCHEDULE, "{frequency: daily, ▸day: 5}", "a schedule that is daily has no day"),
    (SCHEDULE, "{frequency: hourly, ▸day: 5}", "a schedule that is hourly has no day"),
    (SCHEDULE, "{frequency: monthly, day: ▸32}", "from 1 to 31"),
    (SCHEDULE, "{frequency: monthly, day: ▸friday}", "from 1 to 31"),
    (SCHEDULE, "{frequency: monthly, ▸month: 2}", "month goes with frequency: annual"),
    (SCHEDULE, "{frequency: annual, month: 2, day: ▸30}", "not a cron expression"),
    (SCHEDULE, "{frequency: annual, month: 4, day: ▸31}", "no date ever fits"),
    # columns
    ("  series_id: {type", "  ▸Series: {type", "the column name Series must match"),
    ("  value: {type", "  ▸_value: {type", "begins with _"),
    (
        "[series_id, obs_date]",
        "[series_id, ▸obs_dat]",
        "merge_key: obs_dat is not among the columns (did you mean obs_date?)",
    ),
    ("[series_id, obs_date]", "[series_id, ▸series_id]", "stands twice"),
    ("skip_missing: [value]", "skip_missing: [▸valu]", "load.skip_missing: valu is not among the columns"),
    ("skip_missing: [value]", "volatile: [▸valu]", "load.volatile: valu is not among the columns"),
    ("  column: obs_date", "  column: ▸obs", "partitions.column: obs is not among the columns"),
    ("  kind: json", "  kind: json\n  encoding: ▸utf-9", "no encoding"),
    # fields in texts
    ('series_id: "{series_id}"', 'series_id: ▸"{serie_id}"', "{serie_id} is not known here (did you mean series_id?)"),
    ('from: "{series_id}"', 'from: ▸"{series}"', "{series} is not known here"),
    ('"{start}"', '▸"{end}"', "{end} is not known here"),
    ('"{start}"', '▸"{start"', "a { without its }"),
    ('"{start}"', '▸"{start!r}"', "cannot be formatted"),
    ('"{start}"', '▸"{start.year}"', "{start.year} is not known here"),
    ('"{start}"', '▸"{}"', "is not known here"),
    ('"{series_id}"\n', '▸"{series_id:%Y}"\n', "cannot be formatted"),
    ("table: fred_economic", "params: {▸start: x}", "has the name of a field"),
    # credentials
    ("    file_type: json", "    api_key: ▸0123456789abcdef", "use auth: {env: NAME, query: api_key}"),
    ("    file_type: json", "    apiKey: ▸0123456789abcdef", "apiKey is written as a value"),
    ("  rate: 2/s", '  headers: {Authorization: ▸"Bearer abc"}', "use auth: {env: NAME, header: Authorization}"),
    ("  rate: 2/s", "  headers: {X-Api-Key: ▸abc}", "X-Api-Key is written as a value"),
    (f'"{URL}"', f'▸"{URL}?token=abcdef"', "token is written as a value"),
    ("table: fred_economic", "params: {password: ▸abcdef}", "password is written as a value"),
    # addresses
    (f'"{URL}"', '▸"http://example.org/x"', "write https://"),
    (f'"{URL}"', '▸"ftp://example.org/x"', "an address begins with https://, not ftp"),
    (f'"{URL}"', '▸"file:///etc/passwd"', "names no host"),
    (f'"{URL}"', '▸"https://user:hunter2@example.org/x"', "must not hold a user or password"),
    (f'"{URL}"', '▸"https://127.0.0.1/x"', "private or local address"),
    (f'"{URL}"', '▸"https://10.1.2.3:8443/x"', "private or local address"),
    (f'"{URL}"', '▸"https://169.254.169.254/latest"', "private or local address"),
    (f'"{URL}"', '▸"https://[::1]/x"', "private or local address"),
    (f'"{URL}"', '▸"https://127.1/x"', "private or local address"),
    (f'"{URL}"', '▸"https://localhost/x"', "private or local address"),
    (f'"{URL}"', '▸"https://metadata.google.internal/x"', "private or local address"),
    (f'"{URL}"', '▸"https://host:port/x"', "not an address"),
    (f'"{URL}"', '▸"https://a b/x"', "no white space"),
    # waits
    ("table: fred_economic", "retry: {attempts: ▸4}", "4 attempts with a delay of 20s wait 3m40s inside one run"),
    ("table: fred_economic", "retry: {delay: ▸30s}", "fewer attempts or a shorter delay"),
    ("table: fred_economic", "breaker: {probe: ▸2d}", "a probe after 2d is beyond probe_max of 1d"),
    ("table: fred_economic", "breaker: {probe_max: ▸30m}", "a probe after 1h is beyond probe_max of 30m"),
    ("table: fred_economic", "time_limit: ▸30s", "a time limit of 30s is too short"),
    ("  rate: 2/s", "  timeout: ▸2h", "a time limit of 1h is shorter than the request's own timeout"),
    ("table: fred_economic", "time_limit: ▸soon", "not a duration"),
    # several requests, pages, spans
    ("  rate: 2/s", "  ▸each: {series_id: [a]}", "the partition fills series_id already"),
    ("  rate: 2/s", "  ▸each: {site: [a]}", "does not use {site}"),
    ("  rate: 2/s", "  ▸each: {site: [7]}", "site must be a list of texts (put numbers in quotes)"),
    ("  rate: 2/s", "  ▸each: {site: [a, a]}", "site names a value twice"),
    ("  rate: 2/s", "  ▸each: {a: [x], b: [y]}", "each needs exactly one name with its values"),
    ("  rate: 2/s", '  each: {site: ▸"{sites}"}', "{sites} is no list of the params"),
    ("  rate: 2/s", "  ▸paging: {kind: page}", "paging.param goes with page"),
    ("  rate: 2/s", "  ▸paging: {kind: offset, param: offset}", "needs size"),
    ("  rate: 2/s", "  ▸paging: {kind: page, param: page}", "to know the last page"),
    ("  rate: 2/s", "  ▸paging: {kind: cursor, param: mark}", "needs next"),
    ("  rate: 2/s", "  ▸paging: {kind: link, first: 1}", "paging.first does not go with kind link"),
    (
        '    observation_start: "{start}"',
        "    ▸page: 1\n  paging: {kind: page, param: page, size: 9}",
        "paging sets page",
    ),
    ("  rate: 2/s", "  ▸span: 9", "span needs partitions with time and column"),
    ("  kind: json", "  kind: csv\n  ▸document: {x: y}", "format.document goes with JSON, not with csv"),
    ("table: fred_economic", "expect: {keep: {seris: ▸0%}}", "expect.keep.seris: seris is not among the columns"),
    ("table: fred_economic", "expect: {present: {seris: ▸[a]}}", "is not among the columns"),
    ("partitions:\n", "▸partitions:\n  dynamic: files\n", "dynamic partitions go with neither time nor static ones"),
    # what a column demands
    ("{type: date", "{min: ▸'2000-13-01', type: date", "min of obs_date is no date: 2000-13-01 (for instance"),
    ("{type: date", "{enum: [2000-01-01, ▸soon], type: date", "enum of obs_date: soon is no date"),
    ("{type: date", "{▸enum: [], type: date", "enum of obs_date allows nothing"),
    ("{type: double, missing", "{enum: [1, ▸1], type: double, missing", "enum of value: 1 stands twice"),
    ("{type: double, missing", '{enum: [▸"."], type: text, missing', "'.' is never a value of it"),
    ("{type: date", "{timezone: ▸Europe/Pariss, type: timestamptz", "Europe/Pariss (did you mean Europe/Paris?)"),
    ("{type: date", "{ambiguous: ▸earliest, type: timestamptz", "must be refuse, first or last"),
    ("{type: date", "{▸ambigous: first, type: timestamptz", "unknown key ambigous (did you mean ambiguous?)"),
    ("  obs_date: {type: date", "  ▸obs_date: {max: 3, type: date", "values of it, not 3.0 (such as 2000-01-01)"),
    ("mode: merge", "ignore: [▸value]", "the column value reads the field value"),
    ("mode: merge", "drift: ▸evolv", "load.drift must be evolve, ignore or freeze (did you mean evolve?)"),
    ("mode: merge", "reject_share: ▸2", "load.reject_share"),
    # a snapshot is the whole
    ("mode: merge", "mode: ▸snapshot", "each snapshot would delete the rows of the other static partitions"),
    ("table: fred_economic", "expect: {change: ▸a lot}", "expect.change must match"),
    ("table: fred_economic", "expect: {▸chnge: 25%}", "unknown key chnge"),
    (SCHEDULE, "{▸frequency: on_event}", "on_event goes with dropped files"),
]


@pytest.mark.parametrize(("old", "new", "said"), CASES)
def test_a_mistake_is_named_where_it_stands(tmp_path, old, new, said):
    text, at = take_mark(changed(FRED, old, new))
    catalogue = load(tmp_path, text)
    there = [str(p) for p in catalogue.broken["a"].problems if (p.line, p.column) == at]
    assert any(said in problem for problem in there), catalogue.problems


def test_columns_of_a_csv_without_a_header_come_from_its_fields(tmp_path):
    text, at = take_mark(changed(BSEE, "from: mon_o_prod_vol", "from: ▸mon_o_prod_voll"))
    (problem,) = load(tmp_path, text).broken["a"].problems
    assert (problem.line, problem.column) == at
    assert "did you mean mon_o_prod_vol?" in problem.hint


def test_a_column_named_as_its_field_must_be_one(tmp_path):
    text, at = take_mark(changed(BSEE, "  boem_field: {", "  ▸boem_feld: {"))
    (problem,) = load(tmp_path, text).broken["a"].problems
    assert (problem.line, problem.column) == at


def test_keep_rest_does_not_go_with_replacing_a_partition(tmp_path):
    text = changed(FRED, "  rate: 2/s", "  each: {site: [a], on_error: ▸keep_rest}").replace(
        "mode: merge", "mode: replace_partition"
    )
    text, at = take_mark(text.replace("file_type: json", 'file_type: "{site}"'))
    problems = load(tmp_path, text).broken["a"].problems
    assert [((p.line, p.column), p.message[:37]) for p in problems] == [(at, "keep_rest would delete the rows of wh")]


def test_keep_rest_does_not_go_with_values_that_must_not_be_missing(tmp_path):
    text = changed(FRED, "  rate: 2/s", "  each: {site: [a], on_error: ▸keep_rest}").replace(
        "table: fred_economic", 'expect: {keep: {series_id: "0%"}}'
    )
    text, at = take_mark(text.replace("file_type: json", 'file_type: "{site}"'))
    problems = load(tmp_path, text).broken["a"].problems
    assert [((p.line, p.column), p.message[:37]) for p in problems] == [(at, "what failed would count as lost under")]


def test_a_list_of_the_params_stands_for_keys_and_for_values(tmp_path):
    text = changed(FRED, "table: fred_economic", 'params: {sites: [a, b], many: ["1", "2"]}')
    text = changed(text, "  rate: 2/s", '  each: {site: "{sites}"}').replace("file_type: json", 'file_type: "{site}"')
    keys = text.index("    series_id: [")
    text = text[:keys] + '    series_id: "{many}"' + text[text.index("]", keys) + 1 :]
    spec = load(tmp_path, text).find("a")
    assert spec.request.each.values == ("a", "b")
    assert spec.partitions.static == {"series_id": ("1", "2")}


def test_a_request_that_spans_partitions_says_from_when_to_when(tmp_path):
    spanned = changed(FRED, "  rate: 2/s", "  ▸span: 9")
    keys = spanned.index("  static:")
    spanned = (
        spanned[:keys] + "  time: day\n" + spanned[spanned.index("]", keys) + 2 :].replace("  lookback: 45d\n", "")
    )
    spanned = spanned.replace('from: "{series_id}"', "from: id").replace('    series_id: "{series_id}"\n', "")
    text, at = take_mark(spanned)
    (problem,) = load(tmp_path, text).broken["a"].problems
    assert ((problem.line, problem.column), problem.message) == (
        at, "a request that spans partitions names {start} and {end}, and not {partition}"
    )  # fmt: skip
    text = text.replace('observation_start: "{start}"', 'observation_start: "{start}"\n    observation_end: "{end}"')
    assert not load(tmp_path, text).problems


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{type: date", "{min: 2000-01-01, max: '2100-01-01', type: date"),
        ("{type: date", "{timezone: Europe/Paris, min: 2000-01-01T00:00:00, ambiguous: last, type: timestamptz"),
        ("{type: double, missing", "{enum: [1, 2.5], type: double, missing"),
        ("mode: merge", "drift: freeze\n  reject_share: 0.01\n  ignore: [noise]"),
    ],
)
def test_what_a_source_demands_of_its_rows_is_taken_without_a_word(tmp_path, old, new):
    catalogue = load(tmp_path, changed(FRED, old, new))
    assert "a" in catalogue.sources and not catalogue.problems


@pytest.mark.parametrize("extra", ["breaker: {failures: 3, probe: 2h, probe_max: 2d}", "retry: {max_delay: 2h}"])
def test_breaker_and_later_tries_are_taken_without_a_word(tmp_path, extra):
    catalogue = load(tmp_path, changed(FRED, "  rate: 2/s\n", "") + extra + "\n")
    assert "a" in catalogue.sources
    assert not catalogue.problems


@pytest.mark.parametrize("key", ["catch_up: all", "misfire_grace: 1h", "overlap: queue", "expire: 2h"])
def test_details_of_a_schedule_are_taken_without_a_word(tmp_path, key):
    catalogue = load(tmp_path, changed(FRED, '{cron: "0 17 * * 1,2",', f'{{cron: "0 17 * * 1,2", {key},'))
    assert "a" in catalogue.sources
    assert not catalogue.problems


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ('{cron: "0 17 * * 1", jitter: 5m}', "jitter goes with frequency, not with cron"),
        ('{frequency: daily, time: "23:50", jitter: 10m}', "at most 9m: what it moves stays within its day"),
        ("{frequency: hourly, jitter: 1h}", "at most 59m: what it moves stays within its hour"),
    ],
)
def test_a_jitter_that_would_change_the_day_or_nothing_is_refused(tmp_path, schedule, said):
    problems = load(tmp_path, changed(FRED, SCHEDULE, schedule)).problems
    assert any(said in str(problem) for problem in problems), problems


def test_a_day_that_some_months_lack_is_noted(tmp_path):
    catalogue = load(tmp_path, changed(FRED, SCHEDULE, "{frequency: monthly, day: 31}"))
    assert "a" in catalogue.sources
    assert any("passed over" in problem.message for problem in catalogue.problems)


@pytest.mark.parametrize("url", ["http://10.0.0.1/x", "http://localhost:8000/x", "https://192.168.1.1/x"])
def test_a_private_address_may_be_allowed(tmp_path, url):
    text = changed(FRED, f'"{URL}"', f'"{url}"\n  allow_private: true')
    assert "a" in load(tmp_path, text).sources


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f'"{URL}"', '"https://{region}.example.org/x"\n'),
        ("    file_type: json", '    key: "{region}"'),
        ("    file_type: json", "    token_type: json"),
        ('"{start}"', '"{start:%Y%m%d}"'),
        ("{type: double, missing", "{type: double, from: 'a {b', missing"),
        (SCHEDULE, "{frequency: weekly, day: Friday}"),
        (SCHEDULE, '{cron: "@daily"}'),
        ("team:commodities", "someone@example.org"),
        ("schedule: " + SCHEDULE, "enabled: false"),
    ],
)
def test_what_is_right_is_let_through(tmp_path, old, new):
    catalogue = load(tmp_path, changed(FRED, old, new) + "params: {region: eu}\n")
    assert catalogue.broken == {}


def test_a_credential_is_never_quoted(tmp_path):
    text = FRED.replace("    file_type: json", "    api_key: s3cr3tvalue").replace(
        "env: FRED_API_KEY", "env: s3cr3tvalue"
    )
    text = text.replace(f'"{URL}"', '"https://me:s3cr3tvalue@example.org/?token=s3cr3tvalue"')
    catalogue = load(tmp_path, text)
    assert len(catalogue.problems) >= 4
    assert "s3cr3tvalue" not in "\n".join(map(str, catalogue.problems))


def test_mistakes_in_several_sections_are_all_named_at_once(tmp_path):
    text = FRED.replace("table:", "tabel:").replace("rate: 2/s", "rate: fast").replace("obs_date]", "obs_dat]")
    text = (
        text.replace("0 17 * * 1,2", "0 25 * * 1")
        .replace(URL, "ftp://example.org")
        .replace("column: obs_date", "column: x")
    )
    said = "\n".join(map(str, load(tmp_path, text).problems))
    for part in ("tabel", "not a rate", "obs_dat is not", "0 25 * * 1", "ftp", "partitions.column: x"):
        assert part in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  lookback: 1", "  ▸lookback: 1", "a snapshot of an earlier period cannot be loaded after a later one"),
        ("  column: production_month", "  ▸column: production_month", "column lets a payload hold the rows of one"),
    ],
)
def test_a_snapshot_is_everything_there_is_and_one_follows_the_other(tmp_path, old, new, said):
    text, at = take_mark(changed(BSEE.replace("mode: replace_partition", "mode: snapshot"), old, new))
    there = [p.message for p in load(tmp_path, text).broken["a"].problems if (p.line, p.column) == at]
    assert any(said in message for message in there), there


def test_sources_of_one_table_agree_on_history(tmp_path):
    (tmp_path / "g").mkdir()
    (tmp_path / "g/b.yaml").write_text(FRED)
    problems = load(tmp_path, changed(FRED, "  mode: merge", "  mode: merge\n  history: true")).problems
    assert any("share the table fred_economic but not the same load.history" in p.message for p in problems), problems
