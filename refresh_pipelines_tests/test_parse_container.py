"""Payload files opened: marks at the beginning, ZIP archives and gzip files in every state of damage, bombs."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.errors import RefreshError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.parse.container import open_payload
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines.spec import Format
from refresh_pipelines_tests.upstream import Upstream, answer, gzipped
from refresh_pipelines_tests.workbench import Bench, csv_spec

ZIP = Format(kind="csv", archive="zip", member="data*.txt")
YEAR = (SAMPLES / "bsee_ogora" / "ogora2025delimit.zip").read_bytes()
OGORA = Format(kind="csv", archive="zip", member="ogora*delimit.txt")
BOM = b"\xef\xbb\xbf"


def zipped(*members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, body in members:
            archive.writestr(name, body)
    return out.getvalue()


def contents(folder, body: bytes, form: Format = ZIP, limit: int = 1_000_000) -> bytes:
    path = folder / "payload"
    path.write_bytes(body)
    with open_payload(form, path, limit) as stream:
        return stream.read()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("container")


@pytest.mark.parametrize("marks", [b"", BOM, BOM + BOM, BOM * 3])
def test_leading_byte_order_marks_are_dropped_and_later_ones_kept(folder, marks):
    plain = Format(kind="csv")
    assert contents(folder, marks + b"a\n" + BOM, plain) == b"a\n" + BOM
    assert contents(folder, zipped(("data.txt", marks + b"a\n"))) == b"a\n"


@pytest.mark.parametrize("short", [b"a", b"\xef\xbb", BOM])
def test_files_shorter_than_a_mark_are_read_whole(folder, short):
    assert contents(folder, short, Format(kind="csv")) == short.removeprefix(BOM)


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_the_one_declared_member_is_found_among_folders_and_others(folder, how):
    body = zipped(("data/", b""), ("readme.md", b"?"), ("data/Data2025.TXT", b"a\n1\n"), how=how)
    assert contents(folder, body) == b"a\n1\n"


@pytest.mark.parametrize(
    ("members", "came"),
    [
        ([], "no members"),
        ([("data/", b"")], "no members"),
        ([("readme.txt", b"")], "'readme.txt'"),
        ([("data1.txt", b""), ("data2.txt", b"")], "'data1.txt', 'data2.txt'"),
    ],
)
def test_any_other_number_of_members_is_refused(folder, members, came):
    with pytest.raises(UpstreamRefused, match=rf"exactly one member 'data\*.txt'; got {came}"):
        contents(folder, zipped(*members))


def test_names_that_climb_out_of_the_archive_write_nothing(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for name in ("../../data.txt", "/etc/data.txt", "C:\\data.txt/data.txt"):
        assert contents(inner, zipped((name, b"a\n"))) == b"a\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [inner / "payload"]


def test_an_encrypted_member_is_refused(folder):
    body = bytearray(zipped(("data.txt", b"a\n")))
    body[body.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(UpstreamRefused, match=r"encrypted; got data\.txt"):
        contents(folder, bytes(body))


def test_a_packing_nobody_knows_is_refused(folder):
    body = bytearray(zipped(("data.txt", b"a\n")))
    for mark, offset in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        struct.pack_into("<H", body, body.rindex(mark) + offset, 99)
    with pytest.raises(UpstreamRefused, match="packed in a way that cannot be read"):
        contents(folder, bytes(body))


def test_a_bomb_is_stopped_at_the_limit(folder):
    with pytest.raises(UpstreamRefused, match=r"'data.txt' unpacks to more than request\.max_unpacked"):
        contents(folder, zipped(("data.txt", b"0" * 50_000_000)))


def test_a_member_of_exactly_the_limit_passes(folder):
    assert len(contents(folder, zipped(("data.txt", b"0" * 1_000_000)))) == 1_000_000


def test_a_wrong_check_sum_is_transient(folder):
    body = bytearray(zipped(("data.txt", b"a\n1\n" * 1000), how=zipfile.ZIP_STORED))
    body[200] ^= 1
    with pytest.raises(UpstreamUnavailable, match=r"'data\.txt' is truncated or damaged.*CRC"):
        contents(folder, bytes(body))


@pytest.mark.parametrize(("form", "what"), [(ZIP, "a ZIP archive of CSV"), (Format(kind="csv"), "a CSV")])
def test_an_empty_file_is_refused(folder, form, what):
    with pytest.raises(UpstreamRefused, match=f"the file is empty; expected {what}; got 0 bytes"):
        contents(folder, b"", form)


def test_a_file_that_is_no_archive_is_refused_with_its_beginning(folder):
    with pytest.raises(
        UpstreamRefused, match="no ZIP archive; expected a ZIP archive; got 30 bytes beginning 'version https"
    ):
        contents(folder, b"version https://git-lfs.github")


@given(st.integers(2, len(YEAR) - 1))
def test_an_archive_cut_anywhere_is_transient(folder, length):
    with pytest.raises(UpstreamUnavailable, match="truncated or damaged"):
        contents(folder, YEAR[:length], OGORA)


@given(st.lists(st.tuples(st.integers(0, len(YEAR) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_damaged_archive_is_one_of_our_errors_or_whole(folder, hits):
    body = bytearray(YEAR)
    for place, change in hits:
        body[place] ^= change
    try:
        found = contents(folder, bytes(body), OGORA)
    except RefreshError as error:
        assert error.error_class in {"transient", "permanent"}
    else:
        assert found == contents(folder, YEAR, OGORA)


@given(st.binary(max_size=120))
def test_no_bytes_after_pk_are_a_defect(folder, tail):
    with pytest.raises(RefreshError):
        contents(folder, b"PK" + tail)


# Gzip files, which HTTP may have unpacked on the way.

GZIP = Format(kind="csv", archive="gzip")
ROWS = b"a\n" + b"".join(b"%d\n" % number for number in range(2000))
PACKED = gzip.compress(ROWS, mtime=0)


@pytest.mark.parametrize(
    "body", [ROWS, PACKED, gzip.compress(ROWS[:50]) + gzip.compress(ROWS[50:]), PACKED + b"\0" * 9]
)
@pytest.mark.parametrize("form", [GZIP, Format(kind="csv"), Format(kind="json", archive="gzip")])
def test_a_gzip_file_is_read_whether_it_comes_packed_or_not(folder, body, form):
    assert contents(folder, body, form) == ROWS


@pytest.mark.parametrize("marks", [BOM, BOM * 2])
def test_byte_order_marks_inside_a_gzip_file_are_dropped(folder, marks):
    assert contents(folder, gzip.compress(marks + b"a\n" + BOM), GZIP) == b"a\n" + BOM


def test_a_gzip_file_of_nothing_has_no_bytes(folder):
    assert contents(folder, gzip.compress(b""), GZIP) == b""


@given(st.integers(2, len(PACKED) - 1))
def test_a_gzip_file_cut_anywhere_is_transient(folder, length):
    with pytest.raises(UpstreamUnavailable, match="the gzip file is truncated or damaged; expected a complete archive"):
        contents(folder, PACKED[:length], GZIP)


@given(st.lists(st.tuples(st.integers(2, len(PACKED) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_damaged_gzip_file_is_one_of_our_errors_or_whole(folder, hits):
    body = bytearray(PACKED)
    for place, change in hits:
        body[place] ^= change
    try:
        found = contents(folder, bytes(body), GZIP)
    except RefreshError as error:
        assert error.error_class == "transient"
    else:
        assert found == ROWS


@given(st.binary(max_size=60))
def test_no_bytes_after_the_mark_of_gzip_are_a_defect(folder, tail):
    with pytest.raises(UpstreamUnavailable):
        contents(folder, b"\x1f\x8b" + tail, GZIP)


def test_a_gzip_bomb_is_stopped_at_the_limit(folder):
    bomb = gzip.compress(b"0" * 50_000_000)
    with pytest.raises(UpstreamRefused, match=r"the gzip file unpacks to more than request\.max_unpacked"):
        contents(folder, bomb, GZIP)
    assert len(contents(folder, gzip.compress(b"0" * 1_000_000), GZIP)) == 1_000_000


def test_an_empty_file_is_no_gzip_file(folder):
    with pytest.raises(UpstreamRefused, match="the file is empty; expected a gzip file of CSV; got 0 bytes"):
        contents(folder, b"", GZIP)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_a_gzip_file_comes_through_http_as_file_or_as_encoding_or_as_both(tmp_path, packed, encoded):
    body = b"k,n,t\na,1,x\n"
    body = gzip.compress(body) if packed else body
    with Upstream(gzipped(body) if encoded else answer(body, headers={"Content-Type": "application/gzip"})) as upstream:
        outcome = Bench(tmp_path, upstream.base).refresh(csv_spec(format={"kind": "csv", "archive": "gzip"}))
    assert (outcome.counts.added, outcome.bytes) == (1, len(body))
