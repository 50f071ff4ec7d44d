"""Where rows are kept, and whether there is room for them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from chameleon_data.corpus import row_store
from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.row_store import RowStore, choose_row_store, explain_missing_room
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.errors import InputError
from chameleon_data.store.store import Store

BYTES = TokenCounter("bytes")


def fragment(name: str, size: int) -> Fragment:
    compression = {"gz": "gzip", "zst": "zstd"}.get(name.split(".")[-1], "none")
    return Fragment("s", f"/in/{name}", name.split(".")[1], compression, 0, None, size, "1")


def test_rows_lie_in_out_where_that_is_a_folder_and_in_scratch_where_there_is_one(tmp_path: Path) -> None:
    out, scratch, bucket = Store(str(tmp_path / "out")), Store(str(tmp_path / "scratch")), Store("s3://bucket/out")
    assert choose_row_store("auto", out, None, False, BYTES) == RowStore(out, "text")
    assert choose_row_store("auto", out, scratch, False, BYTES) == RowStore(scratch, "text")
    assert choose_row_store("auto", bucket, scratch, False, BYTES) == RowStore(scratch, "text")
    assert choose_row_store("auto", bucket, None, True, BYTES) is None
    assert choose_row_store(False, out, scratch, True, BYTES) is None
    with pytest.raises(InputError, match=r"--scratch s3://bucket/out: is not a folder of this machine"):
        choose_row_store("auto", out, bucket, False, BYTES)


def test_bodies_of_another_end_of_text_are_others(tmp_path: Path) -> None:
    out = Store(str(tmp_path / "out"))
    one, other = (choose_row_store("auto", out, None, True, TokenCounter("x", "{}", end, 300)) for end in (7, 8))
    assert one is not None
    assert one.ids
    assert one != other
    with pytest.raises(InputError, match=r"tokens\.end_of_text"):
        choose_row_store("auto", out, None, True, BYTES)


@pytest.mark.parametrize(
    ("fragments", "needed"),
    [
        ([("a.jsonl", 1000), ("b.csv", 10)], 2020),
        ([("a.jsonl.zst", 1000), ("b.jsonl.gz", 10)], 8080),
        ([("a.parquet", 1000), ("a.arrow", 10)], 8020),
        ([], 0),
    ],
)
def test_room_is_needed_for_the_rows_and_for_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fragments: list[tuple[str, int]], needed: int
) -> None:
    rows, asked = RowStore(Store(str(tmp_path / "not there yet" / "out")), "text"), list[Path]()
    for free, expected in ((needed, False), (needed - 1, True)):
        monkeypatch.setattr(
            row_store.shutil, "disk_usage", lambda folder, free=free: asked.append(folder) or SimpleNamespace(free=free)
        )
        found = explain_missing_room(rows, [fragment(*one) for one in fragments])
        assert bool(found) == expected
        if found:
            assert f"{needed:,} may be needed; make room, or name a folder with --scratch" in found
    assert set(asked) == {tmp_path}
