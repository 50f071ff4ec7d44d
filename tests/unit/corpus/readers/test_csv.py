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
        (b"text\ra\rb\r", "its lines end with a carriage return alone; end them with a line feed"),
        (b"\xff\xfet\0e\0x\0t\0\n\0a\0", "holds UTF-16"),
    ):
        (tmp_path / "x.csv").write_bytes(body)
        with pytest.raises(InputError, match=says):
            read_rows(tmp_path / "x.csv")


def test_csv_records_that_are_broken(tmp_path: Path) -> None:
    """One line with an even number of quotes is a record. Fields that are quoted as they should be show that it was."""
    (tmp_path / "x.csv").write_bytes(b'\n\r\nid,text\n1,"a"b\n\xff,\xff,\xff\n2,a\rb\n4,"\xff"\n3,a"b\n')
    wrong = [(0, "own", "broken CSV"), (1, "own", "wrong number of columns"), (2, "own", "broken CSV")]
    assert read_rows(tmp_path / "x.csv") == ([(4, "own", 'a"b', None)], [*wrong, (3, "own", "invalid UTF-8")])
    (tmp_path / "x.csv").write_text('id,text\n1,"he said "no" twice"\n2,b\n')
    assert read_rows(tmp_path / "x.csv") == ([(1, "own", "b", None)], [(0, "own", "broken CSV")])


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize(
    "record",
    [
        r'"first \"quoted\" line' + '\nsecond line of the same document",5',
        '"first "quoted" and "once\nsecond",5',
        '"first\nsecond "quoted" third\nfourth",5',
        '"a "b" and "c" d",\nsecond",5',
        '"a "b, c",d\nsecond\nthird",5',
        '5" x,"a\nsecond"b',
    ],
)
def test_a_broken_record_never_spills(tmp_path: Path, record: str, suffix: str) -> None:
    """Where a record may go on in the next lines, these are no documents: the file is refused."""
    path = tmp_path / f"x{suffix}"
    body = f'text,n\n"whole",1\n{record}\nplain,6\n'
    path.write_text(body if suffix == ".csv" else body.replace(",", "\t"))
    with pytest.raises(InputError, match=rf"x\{suffix}: record 1 is broken \(.*\), and where it ends cannot be told; a quote"):
        read_rows(path)


def test_tabs_part_the_columns_of_tsv(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes(b'id\ttext\n1\ta, b\n2\t"x\ty\nz ""q"""\n')
    assert read_rows(tmp_path / "x.tsv") == ([(0, "own", "a, b", None), (1, "own", 'x\ty\nz "q"', None)], [])
