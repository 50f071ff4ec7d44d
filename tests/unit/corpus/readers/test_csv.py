"""CSV. Oracle: the csv module."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.corpus.readers import csv as csv_reader
from chameleon_data.errors import InputError
from tests.support.reader_files import Documents, quick, read_rows


def test_csv_records(tmp_path: Path) -> None:
    body = (
        b'\xef\xbb\xbfid,text,set\r\n1,"a ""b""\n\nc",s\r\n\r\n2,short\r\n3,"x,y",s\r\n4,a,b,c\r\n5,a,b,c\r\n'
        b"6,\xff,s\n\n7,,s\n8,bad domain, s\n,no id,s\n10,last,s\n11"
    )
    (tmp_path / "x.csv").write_bytes(body)
    (tmp_path / "x.csv.zst").write_bytes(zstandard.compress(body))
    for name in ("x.csv", "x.csv.zst"):
        rows, bad = read_rows(tmp_path / name, id="id", domain="set")
        assert rows == [(0, "s", 'a "b"\n\nc', "1"), (2, "s", "x,y", "3"), (9, "s", "last", "10")]
        wrong = "wrong number of columns"
        assert bad == [
            (1, "own", wrong), (3, "own", wrong), (4, "own", wrong), (5, "s", "invalid UTF-8"),
            (6, "s", "blank text"), (7, "own", "bad domain name"), (8, "s", "no id"), (10, "own", wrong),
        ]  # fmt: skip


@quick
@given(st.data())
def test_csv_against_the_csv_module(tmp_path: Path, data: st.DataObject) -> None:
    cell = st.text(st.sampled_from('a"\n,é '), max_size=4)
    table = data.draw(st.lists(st.lists(cell, min_size=1, max_size=4).filter(lambda r: len(r) > 1), max_size=40))
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator=data.draw(st.sampled_from(["\n", "\r\n"]))).writerows(
        [["id", "text"], *table]
    )
    (tmp_path / "x.csv").write_text(out.getvalue(), newline="")
    rows: Documents = []
    bad = []
    for i, row in enumerate(table):
        if len(row) != 2:
            bad.append((i, "own", "wrong number of columns"))
        elif not row[1].strip():
            bad.append((i, "own", "blank text"))
        else:
            rows.append((i, "own", row[1], None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_reader, "BATCH_ROWS", data.draw(st.sampled_from([1, 3, 2**10])))
        assert read_rows(tmp_path / "x.csv", block_bytes=data.draw(st.sampled_from([1, 2**20]))) == (rows, bad)


def test_csv_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_reader, "CSV_RECORD_BYTES", 1000)
    (tmp_path / "x.csv").write_bytes(b"text\n" + b"a\n" * 1000 + b'"not closed\n' + b"b\n" * 2000)
    with pytest.raises(InputError, match=r"record 1001 is longer than .* is a quote not closed"):
        read_rows(tmp_path / "x.csv")
    for body, says in (
        (b"id\n1\n", "no column 'text' for the text"),
        (b"body,id\na,b\n", "no column 'text' for the text; there are body, id"),
        (b"text,text\na,b\n", "stands twice"),
        (b'text\na\n"b\nc\n', "truncated, or a quote is not closed, in record 1"),
        (b'"text\na\n', "no header"),
        (b"text\ra\rb\r", "no header"),
        (b"\xff\xfet\0e\0x\0t\0\n\0a\0", "holds UTF-16"),
    ):
        (tmp_path / "x.csv").write_bytes(body)
        with pytest.raises(InputError, match=says):
            read_rows(tmp_path / "x.csv")


def test_csv_records_that_are_broken(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b'\n\r\nid,text\n1,"a"b\n\xff,\xff,\xff\n2,a\rb\n3,a"b\n4,"\xff"\n')
    wrong = [(0, "own", "broken CSV"), (1, "own", "wrong number of columns"), (2, "own", "broken CSV")]
    assert read_rows(tmp_path / "x.csv") == ([(3, "own", 'a"b', None)], [*wrong, (4, "own", "invalid UTF-8")])
