"""Conditions of sources: what each row becomes, by itself, whatever stands beside it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.corpus.readers.rows import Block
from chameleon_data.corpus.readers.where import LEFT_OUT, NOT_JUDGED, TAKEN, judge_rows
from chameleon_data.errors import InputError
from chameleon_data.recipe import Source, check_condition

ROWS = [
    {"text": "one", "score": 3, "lang": "en"}, {"text": "two", "score": 2.5, "lang": "en"}, {"text": "three", "score": 4},
    {"text": "four", "score": None, "lang": "en"}, {"text": " ", "score": 1, "lang": "de"},
    {"text": "six", "score": 9, "lang": "en"},
]  # fmt: skip


def read(path: Path, **keys: Any) -> Block:
    source = Source(path=(str(path),), **keys)
    (fragment,) = list_fragments("own", source).fragments
    (block,) = read_blocks(fragment, source, 2**20)
    return block


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@given(st.lists(st.tuples(st.none() | st.integers(-9, 9) | st.floats(-9, 9), st.none() | st.sampled_from(["en", "de", ""]))))
def test_rows_are_judged_as_sqlite_judges_them(rows: list[tuple[Any, Any]]) -> None:
    condition = "(score >= 3 and lang = 'en') or lang is null or score between -1.5 and 0"
    found = judge_rows(condition, {"score": [s for s, _ in rows], "lang": [lang for _, lang in rows]})
    with closing(sqlite3.connect(":memory:")) as database:
        expected = [database.execute(f"select {condition} from (select ? score, ? lang)", row).fetchone()[0] for row in rows]
    assert found.tolist() == [int(bool(value)) for value in expected]


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    values = [1, 5.5, "7", True, None, 3]
    together = judge_rows("score > 2", {"score": values}).tolist()
    assert together == [judge_rows("score > 2", {"score": [value]}).tolist()[0] for value in values]
    assert together == [LEFT_OUT, TAKEN, NOT_JUDGED, LEFT_OUT, LEFT_OUT, TAKEN]
    assert judge_rows("score > 2.5", {"score": ["7"]}).tolist() == [NOT_JUDGED]
    assert judge_rows("lower(lang) = 'en'", {"lang": [None, "EN"]}).tolist() == [LEFT_OUT, TAKEN]
    assert judge_rows("score", {"score": [1]}).tolist() == [NOT_JUDGED]


def test_a_column_that_is_not_text_cannot_be_judged(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"text,lang\none,en\ntwo,\xff\nthree,de\n")
    lines = write_lines(tmp_path / "a.jsonl", ['{"text": "one", "lang": "en"}', '{"text": "two", "lang": "\\ud800"}'])
    for path in (file, lines):
        block = read(path, where="lang = 'en'")
        assert block.text.to_pylist() == ["one"]
        assert [(bad.row, bad.reason) for bad in block.bad] == [(1, "'where' cannot be evaluated for its values")]


def test_rows_that_a_condition_leaves_out_are_counted_and_their_faults_are_not(tmp_path: Path) -> None:
    lines = [*ROWS, "{broken", {"text": "seven", "score": "many", "lang": "en"}]
    block = read(write_lines(tmp_path / "a.jsonl", lines), where="score >= 2.5 and lang = 'en'")
    assert block.text.to_pylist() == ["one", "two", "six"]
    assert block.filtered == {"own": 3}
    assert [(bad.row, bad.reason) for bad in block.bad] == [
        (6, "broken JSON"),
        (7, "'where' cannot be evaluated for its values"),
    ]


def test_a_row_that_is_left_out_counts_in_its_domain(tmp_path: Path) -> None:
    block = read(write_lines(tmp_path / "a.jsonl", ROWS), where="score >= 3", domain="lang")
    assert block.filtered == {"en": 2, "de": 1}
    assert block.text.to_pylist() == ["one", "six"]
    assert [bad.reason for bad in block.bad] == ["no domain"]


def test_parquet_gives_what_json_lines_give(tmp_path: Path) -> None:
    keys = {"where": "score >= 2.5 or lang = 'de'", "keep": ["lang", "score"], "domain": {"score": [3]}}
    lines = read(write_lines(tmp_path / "a.jsonl", ROWS), **keys)
    pq.write_table(pa.Table.from_pylist(ROWS, pa.schema([("text", pa.string()), ("score", pa.float64()), ("lang", pa.string())])),
                   tmp_path / "a.parquet")  # fmt: skip
    columns = read(tmp_path / "a.parquet", **keys)
    assert columns.text.equals(lines.text)
    assert columns.columns is not None
    assert columns.columns.equals(lines.columns)
    assert (columns.filtered, columns.names, columns.domain.tolist()) == (lines.filtered, lines.names, lines.domain.tolist())


@pytest.mark.parametrize(
    ("domain", "names"),
    [
        (["lang", "n"], ["en/1", "en/2", None, "de/-3", None]),
        ({"n": [1, 2]}, ["n 1 to 2", "n from 2", None, "n under 1", None]),
        ({"n": [-1.5]}, ["n from -1.5", "n from -1.5", None, "n under -1.5", None]),
    ],
)
def test_domains_by_several_columns_and_by_buckets(tmp_path: Path, domain: Any, names: list[str | None]) -> None:
    rows = [("en", 1), ("en", 2), (None, None), ("de", -3), ("fr", True)]
    path = write_lines(tmp_path / "a.jsonl", [{"text": f"text {i}", "lang": lang, "n": n} for i, (lang, n) in enumerate(rows)])
    block = read(path, domain=domain)
    found = dict(zip(block.rows.tolist(), (block.names[code] for code in block.domain), strict=True))
    assert [found.get(i) for i in range(len(rows))] == names
    assert block.bad[0].reason == "no domain"
    renamed = read(path, domain=domain, rename={name: "one" for name in names if name})
    assert renamed.names == ("one",)


def test_csv_and_folders_name_columns_too(tmp_path: Path) -> None:
    folder = tmp_path / "lang=en"
    folder.mkdir()
    (folder / "a.csv").write_text("text,score\none,3\ntwo,5\n")
    block = read(folder / "a.csv", keep=["lang", "score"], domain={"score": [4]}, where="cast(score as int) > 1 and lang = 'en'")
    assert block.kept == {"lang": ["en", "en"], "score": ["3", "5"]}
    assert [block.names[code] for code in block.domain] == ["score under 4", "score from 4"]
    with pytest.raises(InputError, match="no column 'nowhere'; there are text, score"):
        read(folder / "a.csv", keep="nowhere")


def test_a_text_file_has_no_columns(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    for keys in ({"keep": "a"}, {"where": "a = 1"}, {"domain": ["a", "b"]}):
        with pytest.raises(InputError, match=f"a text file has no columns; leave '{next(iter(keys))}' out"):
            read(tmp_path / "a.txt", **keys)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("score >", "is no SQL condition"),
        ("score > avg(score)", "each row is judged by itself"),
        ("row_number() over (order by a) > 3", "each row is judged by itself"),
        ("score > (select max(score) from x)", "is no SQL condition"),
        ("1 = 1", "names no column"),
        ("meta.lang = 'en'", "quote the whole name"),
        ("day < current_date", "write the date out"),
    ],
)
def test_what_is_no_condition_on_one_row_is_refused(condition: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_condition(condition)


def test_what_is_a_condition_names_its_columns() -> None:
    assert check_condition("a in (1, 2) and lower(b) like '%x' and coalesce(c, 0) < 3 and \"d.e\" is not null") == (
        "a", "b", "c", "d.e",
    )  # fmt: skip
