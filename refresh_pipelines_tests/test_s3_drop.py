"""Dropped files in object storage: the same code over real HTTP, against a server on loopback."""

from __future__ import annotations

import gzip
from datetime import timedelta

import boto3
import pytest
from moto.backends import get_backend
from moto.server import ThreadedMotoServer

from refresh_pipelines.drop.listing import MissingCredential
from refresh_pipelines.errors import RefreshError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.outcome import Counts
from refresh_pipelines_tests.dropping import DAY, Dropping, csv, drop_spec

KEY, SECRET = "planted-access-key", "planted5ecret/with+signs"
BUCKET = "drops"


@pytest.fixture(scope="module")
def server():
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    # botocore would ask the address of a cloud's own machines, and read files in the home of who runs the tests.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    client = boto3.client(
        "s3", endpoint_url=server, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )
    client.create_bucket(Bucket=BUCKET)
    yield client
    while found := client.list_objects_v2(Bucket=BUCKET).get("Contents"):
        client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": item["Key"]} for item in found]})
    client.delete_bucket(Bucket=BUCKET)
    client.close()


@pytest.fixture
def bench(tmp_path):
    return Dropping(tmp_path, AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_DEFAULT_REGION="us-east-1")


def spec_at(server, url=f"s3://{BUCKET}/in", **drop):
    options = {"endpoint_url": server, **drop.pop("options", {})}
    return drop_spec(request={"drop": {"url": url, "options": options, **drop}, "allow_private": True, "timeout": "5s"})


def put(bucket, key, content):
    bucket.put_object(Bucket=BUCKET, Key=key, Body=content)


def wait(bench, spec):
    """Let the files become old: the storage's clock is the machine's, and the bench's is not."""
    bench.look(spec)
    bench.later(seconds=60)


def test_objects_are_loaded_once(server, bucket, bench):
    spec = spec_at(server)
    put(bucket, "in/a.csv", csv(["x", 1, "t"]))
    put(bucket, "in/2026/é 100%+b.csv", csv(["y", 2, "t"]))
    put(bucket, "other/c.csv", csv(["z", 3, "t"]))
    put(bucket, "in/folder/", b"")
    wait(bench, spec)
    assert bench.refresh(spec, DAY).counts == Counts(fetched=2, added=2)
    assert [row[0] for row in bench.ledger()] == ["2026/é 100%+b.csv", "a.csv"]
    assert bench.refresh(spec, DAY).outcome == "unchanged"


def test_a_changed_etag_is_a_new_version_and_a_copy_of_the_same_is_none(server, bucket, bench):
    spec = spec_at(server)
    put(bucket, "in/a.csv", csv(["x", 1, "t"]))
    wait(bench, spec)
    bench.refresh(spec, DAY)
    put(bucket, "in/a.csv", csv(["x", 1, "t"]))
    assert bench.pending(spec) == []
    put(bucket, "in/a.csv", csv(["x", 2, "t"]))
    wait(bench, spec)
    assert bench.refresh(spec, DAY).counts == Counts(fetched=1, updated=1)
    # Back to the first content, whose ETag is known: it counts again.
    put(bucket, "in/a.csv", csv(["x", 1, "t"]))
    wait(bench, spec)
    assert bench.refresh(spec, DAY).counts == Counts(fetched=1, updated=1)


def test_more_keys_than_a_page_are_all_seen(server, bucket, bench):
    spec = spec_at(server, pattern="*.csv")
    storage = get_backend("s3")["123456789012"]["aws"]  # a thousand requests would take twenty seconds
    for number in range(1005):
        storage.put_object(BUCKET, f"in/{number:04}.csv", b"")
    put(bucket, "in/zz.csv", csv(["x", 1, "t"]))
    assert len(bench.look(spec).files) == 1006
    bench.later(seconds=60)
    last = spec_at(server, pattern="zz.csv")
    assert bench.refresh(last, DAY).counts.added == 1


def test_a_deleted_object_takes_nothing_with_it(server, bucket, bench):
    spec = spec_at(server)
    put(bucket, "in/a.csv", csv(["x", 1, "t"]))
    wait(bench, spec)
    bench.refresh(spec, DAY)
    bucket.delete_object(Bucket=BUCKET, Key="in/a.csv")
    assert bench.refresh(spec, DAY).outcome == "unchanged"
    assert bench.table() == [("x", 1, "t", DAY)]


def test_a_truncated_object_is_refused_and_the_others_load(server, bucket, bench):
    spec = spec_at(server)
    put(bucket, "in/a.csv", csv(["x", 1, "t"]))
    put(bucket, "in/cut.csv.gz", gzip.compress(csv(["y", 1, "t"]).encode())[:-9])
    wait(bench, spec)
    outcome = bench.refresh(spec, DAY)
    assert (outcome.outcome, outcome.counts.added) == ("partial", 1)
    assert "file=cut.csv.gz: the gzip file is truncated or damaged" in outcome.message


def test_an_empty_prefix_is_an_empty_folder_and_a_missing_bucket_an_error(server, bucket, bench):
    assert bench.look(spec_at(server)).files == ()
    with pytest.raises(UpstreamRefused, match="the folder s3://nowhere/in does not exist"):
        bench.look(spec_at(server, url="s3://nowhere/in"))


def test_without_credentials_nothing_is_asked_and_the_variables_are_named(server, bucket, tmp_path):
    bench = Dropping(tmp_path)
    with pytest.raises(MissingCredential, match="AWS_ACCESS_KEY_ID") as error:
        bench.look(spec_at(server))
    assert error.value.__cause__ is None


def test_anon_reads_what_is_public(server, bucket, tmp_path):
    bench = Dropping(tmp_path)
    bucket.put_object(Bucket=BUCKET, Key="in/a.csv", Body=csv(["x", 1, "t"]), ACL="public-read")
    spec = spec_at(server, options={"anon": True})
    assert [file.key for file in bench.look(spec).files] == ["a.csv"]


@pytest.mark.parametrize("server_down", [True, False])
def test_no_secret_in_any_message_and_a_storage_that_does_not_answer_may_answer_later(
    server, bucket, bench, server_down
):
    spec = spec_at("http://127.0.0.1:9" if server_down else server, url=f"s3://{KEY}{BUCKET}/in")
    with pytest.raises(RefreshError) as error:
        bench.look(spec)
    assert isinstance(error.value, UpstreamUnavailable) == server_down
    text = f"{error.value} {error.value!r} {error.value.__cause__}"
    assert SECRET not in text
    assert str(error.value.came).count(SECRET) == 0


def test_storage_time_ahead_of_ours_delays_and_does_not_keep(server, bucket, bench):
    spec = spec_at(server)
    bench.now -= timedelta(days=3650)
    put(bucket, "in/a.csv", csv(["x", 1, "t"]))
    assert bench.pending(spec) == []
    bench.later(seconds=61)
    assert bench.pending(spec) == ["a.csv"]
