"""JSON arrays. Oracle: the elements as lines of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.corpus.readers import json_array, stream
from chameleon_data.errors import InputError
from tests.support.reader_files import COMPRESSED, compress, quick, read_rows

VALUES = st.none() | st.floats() | st.text(st.sampled_from('a"\\[]{},: é\n\u2028'), max_size=9) | st.integers(-(10**9), 10**9)
ELEMENTS = st.dictionaries(st.sampled_from(["text", "x"]), VALUES | st.lists(VALUES, max_size=3)) | VALUES


@quick
@given(st.lists(ELEMENTS, max_size=12), st.data())
def test_elements_are_rows(tmp_path: Path, elements: list[Any], data: st.DataObject) -> None:
    elements = [{"text": "first"}, *elements]
    ascii_only, indent = data.draw(st.booleans()), data.draw(st.sampled_from([None, 0, 2]))
    body = json.dumps(elements, ensure_ascii=ascii_only, indent=indent).encode()
    kind = data.draw(st.sampled_from(["", *COMPRESSED]))
    path = tmp_path / f"x.json{kind}"
    path.write_bytes(compress(data.draw(st.sampled_from([b"", b" \n", b"\xef\xbb\xbf"])) + body + b"\n", kind))
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(element) + "\n" for element in elements))
    with pytest.MonkeyPatch.context() as patch:
        for module in (stream, json_array):
            patch.setattr(module, "READ_BYTES", data.draw(st.sampled_from([1, 7, 2**17])))
        patch.setattr(stream, "PEEKED_BYTES", data.draw(st.sampled_from([20, 2**14])))
        patch.setattr(json_array, "ELEMENTS_AT_ONCE", data.draw(st.sampled_from([1, 3, 2**10])))
        assert read_rows(path, id="x") == read_rows(tmp_path / "lines.jsonl", id="x")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            '[{"text": "a"}, {"text": b}, {"text": "c", "more": "long enough"}]',
            r"element 1 of its array is broken \(Expecting value",
        ),
        ('[{"text": "a"}, {"text": "b', "element 1 of its array is truncated or broken"),
        ('[{"text": "a"}, ', "element 1 of its array is truncated or broken"),
        ('[{"text": "a"}', "behind element 0 its array is truncated"),
        ('[{"text": "a"} {"text": "b"}]', "behind element 0 its array is broken"),
        ('[{"text": "a"}]\n[{"text": "b"}]', "holds something behind the end of its array"),
        ('[{"text": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}]", "element 0 of its array is nested too deeply"),
        ('[{"text": "' + "a" * 6_000_000 + '"}]', "element 0 of its array is longer than 1,108,576 bytes"),
        ('{\n "data": [{"text": "a"}]\n}', "holds one JSON object over several lines"),
    ],
)
def test_what_is_no_array_of_rows_is_refused(tmp_path: Path, body: str, says: str) -> None:
    (tmp_path / "x.json").write_text(body)
    with pytest.raises(InputError, match=rf"x\.json: {says}"):
        read_rows(tmp_path / "x.json")


def test_an_array_without_rows_has_none(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(" [ ]\n")
    assert read_rows(tmp_path / "x.json") == ([], [])


def test_bytes_that_are_not_utf8_cost_their_element_alone(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'[{"text": "a\xff"}, {"text": "b"}]')
    assert read_rows(tmp_path / "x.json") == ([(1, "own", "b", None)], [(0, "own", "invalid UTF-8")])
