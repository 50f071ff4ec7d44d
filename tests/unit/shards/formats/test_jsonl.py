"""JSON lines: the bytes of two other writers, and nothing else is taken."""

from __future__ import annotations

import json

import orjson
import pytest

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN
from chameleon_data.shards.formats import jsonl
from tests.support.shard_rows import SEQUENCES, TEXTS


def test_the_bytes_are_those_of_two_other_writers() -> None:
    for table in (TEXTS, SEQUENCES):
        (body,) = jsonl.encode(table, 0, 1, TRAIN, None).files.values()
        rows = table.to_pylist()
        assert body.to_pybytes() == b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
        spelled = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
        assert body.to_pybytes() == spelled[1:-1].replace(b"},{", b"}\n{") + b"\n"


@pytest.mark.parametrize(
    "lie",
    [
        b'{"text":"a", "domain":"b","domain_id":0,"doc_id":"c","epoch":0,"tokens":1}\n',
        b'{"text":"a","domain":"b","domain_id":0,"doc_id":"c","epoch":0}\n',
        b'{"text":"\\u0041","domain":"b","domain_id":0,"doc_id":"c","epoch":0,"tokens":1}\n',
        b'{"text":"a","domain":"b","domain_id":0,"doc_id":"c","epoch":0,"tokens":1,"tokens":1}\n',
        b'{"text":"a","domain":"b","domain_id":0,"doc_id":"c","epoch":-1,"tokens":1}\n',
        b'{"text":null,"domain":"b","domain_id":0,"doc_id":"c","epoch":0,"tokens":1}\n',
        b'{"text":"a","domain":"b","domain_id":0,"doc_id":"c","epoch":0,"tokens":1}',
        b'{"text":"\\ud800","domain":"b","domain_id":0,"doc_id":"c","epoch":0,"tokens":1}\n',
        *(b"[1]\n", b"7\n", b"\n", b"[" * 100_000 + b"\n", b'{"input_ids":[],"domain":"b"}\n'),
    ],
)
def test_json_that_means_the_same_or_nothing_is_refused(lie: bytes) -> None:
    good = b'{"text":"a","domain":"b","domain_id":0,"doc_id":"c","epoch":0,"tokens":1}\n'
    assert_refused(good, lie)


@pytest.mark.parametrize(
    "lie",
    [b'"input_ids":[1.5]', b'"input_ids":[true]', b'"input_ids":[4294967296]', b'"input_ids":[]', b'"doc_starts":[-1]',
     b'"doc_starts":[0.0]', b'"doc_starts":[false]', b'"doc_starts":[null]', b'"doc_starts":null', b'"doc_starts":0', b'"x":[0]'],
)  # fmt: skip
def test_lists_of_other_than_numbers_are_refused(lie: bytes) -> None:
    good = b'{"input_ids":[7],"domain":"b","domain_id":0,"doc_id":"c","epoch":0,"tokens":1,"doc_starts":[0]}\n'
    assert_refused(good, good.replace(b'"input_ids":[7]' if b"input" in lie else b'"doc_starts":[0]', lie))


def assert_refused(good: bytes, lie: bytes) -> None:
    assert jsonl.decode({"train-00000-of-00001.jsonl": good}, "here")[0].num_rows == 1
    with pytest.raises(InputError, match="here: damaged JSON lines"):
        jsonl.decode({"train-00000-of-00001.jsonl": lie}, "here")
