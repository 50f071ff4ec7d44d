"""Text files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.reader_files import LIMIT, compress, read_rows


@pytest.mark.parametrize("how", ["", ".gz", ".zst"])
def test_a_text_file_is_one_document(tmp_path: Path, how: str) -> None:
    cases = [
        ("a\r\nb\n", [(0, "own", "a\r\nb\n", None)], []),
        ("\ufeffa", [(0, "own", "a", None)], []),
        ("x" * LIMIT, [(0, "own", "x" * LIMIT, None)], []),
        ("x" * (LIMIT + 1), [], [(0, "own", "longer than max_document")]),
        ("x" * 500_000, [], [(0, "own", "longer than max_document")]),
        (" \n\u3000", [], [(0, "own", "blank text")]),
        ("", [], [(0, "own", "blank text")]),
    ]
    for text, rows, bad in cases:
        (tmp_path / f"x.txt{how}").write_bytes(compress(text.encode(), how))
        assert read_rows(tmp_path / f"x.txt{how}") == (rows, bad)
    (tmp_path / f"x.txt{how}").write_bytes(compress(b"a\xff", how))
    assert read_rows(tmp_path / f"x.txt{how}") == ([], [(0, "own", "invalid UTF-8")])
