"""Oracle: what was written to the folder. Everything that is named is found once, or refused with a reason."""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_data.corpus.file_systems import explain_read_errors
from chameleon_data.corpus.fragments import Fragment, list_fragments
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.corpus.readers.first_rows import check_columns
from chameleon_data.errors import InputError
from chameleon_data.recipe import Source
from tests.support.reader_files import compress

LINE = b'{"text": "a"}\n'


def fragments(*paths: Path | str, **keys: str) -> tuple[Fragment, ...]:
    return list_fragments("book", Source(path=tuple(map(str, paths)), **keys)).fragments


def names(found: tuple[Fragment, ...], root: Path) -> list[str]:
    return [os.path.relpath(f.url, root) for f in found]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.jsonl", "b.ndjson", "sub/c.json.gz", "sub/deep/d.jsonl.zst", "e.CSV", "f.txt.gz",
                 "_SUCCESS", "_temporary/0/x.jsonl", ".hidden.jsonl", "sub/._c.jsonl", "notes.rst", "xx.jsonl.part"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(compress(b"text\na\n" if name.endswith("CSV") else LINE, name))
    return tmp_path


def test_folder_takes_known_suffixes_below_it_and_nothing_hidden(tree: Path) -> None:
    found = fragments(tree)
    assert names(found, tree) == ["a.jsonl", "b.ndjson", "e.CSV", "f.txt.gz", "sub/c.json.gz", "sub/deep/d.jsonl.zst"]
    assert [(f.format, f.compression) for f in found] == [
        ("jsonl", "none"), ("jsonl", "none"), ("csv", "none"), ("txt", "gzip"), ("jsonl", "gzip"), ("jsonl", "zstd"),
    ]  # fmt: skip
    assert all(f.source == "book" and not f.divided and f.size == Path(f.url).stat().st_size for f in found)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.jsonl"], ["a.jsonl"]),
        (["**/*.jsonl*"], None),  # also names xx.jsonl.part
        (["**/*.jsonl.zst", "sub/*.gz"], ["sub/c.json.gz", "sub/deep/d.jsonl.zst"]),
        (["?.[jn]*", "a.jsonl", "./a.jsonl"], ["a.jsonl", "b.ndjson"]),
        (["_temporary/0/*.jsonl"], ["_temporary/0/x.jsonl"]),
        ([".hid*.jsonl"], [".hidden.jsonl"]),
        (["sub"], ["sub/c.json.gz", "sub/deep/d.jsonl.zst"]),
        (["sub/", "sub/c.json.gz"], ["sub/c.json.gz", "sub/deep/d.jsonl.zst"]),
    ],
)
def test_patterns(tree: Path, patterns: list[str], expected: list[str] | None) -> None:
    paths = [f"{tree}/{pattern}" for pattern in patterns]
    if expected is None:
        with pytest.raises(InputError, match=r"xx\.jsonl\.part has a suffix that no reader knows"):
            fragments(*paths)
    else:
        assert names(fragments(*paths), tree) == expected


def test_a_name_that_looks_like_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "part[1].jsonl").write_bytes(LINE)
    assert names(fragments(tmp_path / "part[1].jsonl"), tmp_path) == ["part[1].jsonl"]


@pytest.mark.parametrize(("scheme", "needed"), [("s3", "AWS_ACCESS"), ("gs", "GOOGLE_APPLICATION"), ("az", "AZURE_STORAGE")])
def test_a_store_without_credentials_says_which(scheme: str, needed: str) -> None:
    class NoCredentialsError(Exception):
        """As botocore has one."""

    where = f"sources.a: {scheme}://b/x"
    with pytest.raises(InputError, match=rf"^{where}: no usable credentials .*Error.; set {needed}"), explain_read_errors(where):
        raise NoCredentialsError("Unable to locate credentials")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("*.parquet", r"sources\.book: .*\*\.parquet matches no file; check the path"),
        ("none.jsonl", "no such file; check the path"),
        ("notes.rstd", r"no such file; did you mean .*/notes\.rst\?"),
        ("gone/x.jsonl", "no such file; check the path"),
        ("none/*.jsonl", "matches no file"),
        ("notes.rst", "suffix that no reader knows; .*known are"),
        ("x.parquet.gz", "suffix that no reader knows"),
        ("empty", "no file there has a suffix"),
        ("*pty", "no file there has a suffix"),
        ("a**.jsonl", "entire path component"),
        ("pipe.jsonl", "not a regular file"),
        ("p*.jsonl", "not a regular file"),
        ("dead/*.jsonl", "not a regular file"),
        ("loop/x.jsonl", "no such file"),
    ],
)
def test_what_cannot_be_found_is_an_error(tmp_path: Path, path: str, says: str) -> None:
    for name in ("empty", "dead", "loop"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.rst").write_text("x")
    (tmp_path / "x.parquet.gz").write_text("x")
    (tmp_path / "dead/x.jsonl").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(InputError, match=f"(?i){says}"):
        fragments(tmp_path / path)


@pytest.mark.parametrize(
    "url",
    [
        "simplecache::s3://key:hunter2@b/x.jsonl",
        "zip://a.jsonl::file.zip",
        "nosuch://x/y.jsonl",
        "s3://key:hunter2@b/x.jsonl",
        "https://hunter2@127.0.0.1/x.jsonl",
        "https://127.0.0.1/x.jsonl?sig=hunter2",
    ],
)
def test_urls_that_are_not_opened(url: str) -> None:
    with pytest.raises(InputError) as caught:
        fragments(url)
    assert "hunter2" not in str(caught.value)


def test_a_pipe_in_a_folder_is_refused_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINE)
    os.mkfifo(tmp_path / "b.jsonl")
    with pytest.raises(InputError, match="not a regular file"):
        fragments(tmp_path)


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    (data / "x").mkdir(parents=True)
    other.mkdir()
    (other / "far.jsonl").write_bytes(LINE)
    (data / "x/near.jsonl").write_bytes(LINE)
    (data / "x/again.jsonl").symlink_to("near.jsonl")  # the same file: once
    (data / "x/up").symlink_to(data)  # a loop
    (data / "y").symlink_to(other)  # a folder elsewhere: its files count
    (other / "back").symlink_to(data)
    expected = ["x/again.jsonl", "y/far.jsonl"]
    assert names(fragments(data), data) == expected
    assert names(fragments(data / "**/*.jsonl"), data) == expected
    assert names(fragments(data / "*/*.jsonl"), data) == expected


def test_parquet_is_divided_at_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chameleon_data.corpus.fragments.FRAGMENT_BYTES", 1)
    for part in range(2):
        table = pa.table({"text": [f"{part} {i}" for i in range(10)]})
        pq.write_table(table, tmp_path / f"{part}.parquet", row_group_size=4)
    pq.ParquetWriter(tmp_path / "none.parquet", table.schema).close()
    found = fragments(tmp_path)
    expected = [(f"{part}.parquet", *places) for part in (0, 1) for places in ((0, 1), (1, 2), (2, None))]
    assert [(Path(f.url).name, f.begin, f.end) for f in found] == expected
    assert all(0 < f.size < Path(f.url).stat().st_size for f in found)
    assert sum(f.size for f in found) == sum((tmp_path / f"{part}.parquet").stat().st_size for part in range(2))
    assert len({f.identity for f in found if f.url.endswith("0.parquet")}) == 1
    monkeypatch.setattr("chameleon_data.corpus.fragments.FRAGMENT_BYTES", found[0].size + found[1].size)
    assert [(f.begin, f.end) for f in fragments(tmp_path / "0.parquet")] == [(0, 2), (2, None)]
    monkeypatch.undo()
    assert [(f.begin, f.end) for f in fragments(tmp_path)] == [(0, None)] * 2


@pytest.mark.parametrize("body", [b"", b"PAR1", b"PAR1" + b"\0" * 40 + b"PAR1", b"\0" * 99])
def test_what_is_not_parquet(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(body)
    with pytest.raises(InputError, match=r"x\.parquet: truncated or damaged.*; fetch it again"):
        fragments(tmp_path)


def test_text_files_have_no_columns(tree: Path) -> None:
    with pytest.raises(InputError, match="no columns; leave 'domain' out"):
        fragments(tree, domain="meta.set")


def test_identity_is_stable_and_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE)
    first = fragments(path)
    assert fragments(path) == first == fragments(tmp_path) == fragments(f"file://{path}")
    os.utime(path, ns=(0, 1_234_567_000))
    second = fragments(path)
    assert second[0].identity != first[0].identity
    with pytest.raises(InputError, match="changed since it was listed"):
        list(read_blocks(first[0], Source(path=(str(path),)), 100))
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        list(read_blocks(second[0], Source(path=(str(path),)), 100))


def test_identity_changes_with_a_file_that_kept_its_size_and_time(tmp_path: Path) -> None:
    path, link = tmp_path / "a.jsonl", tmp_path / "link" / "a.jsonl"
    path.write_bytes(LINE)
    link.parent.mkdir()
    link.symlink_to(path)
    first, linked, before = fragments(path), fragments(link), path.stat()
    time.sleep(0.02)  # the kernel's clock of inodes ticks every 4 to 10 ms
    path.write_bytes(LINE.replace(b"a", b"b"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert fragments(path)[0].identity != first[0].identity
    assert fragments(link)[0].identity != linked[0].identity
    with pytest.raises(InputError, match="changed since it was listed"):
        list(read_blocks(first[0], Source(path=(str(path),)), 100))


def test_what_is_only_looked_at_is_asked_for_in_small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """s3fs would fetch 50 MiB where nobody says how much."""
    monkeypatch.setattr("chameleon_data.corpus.fragments.FRAGMENT_BYTES", 1_000)
    fs, asked = fsspec.filesystem("memory"), []
    real, table = fs.open, pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["a"] * 9}), table, row_group_size=3)

    def open_and_note(path: str, mode: str = "rb", block_size: int | None = None, **how: Any) -> Any:
        asked.append(block_size or 50 * 2**20)
        return real(path, mode, block_size=block_size, **how)

    files = {"a.jsonl": LINE * 500, "b.jsonl.gz": gzip.compress(LINE), "c.parquet": table.getvalue().to_pybytes(), "d": LINE}
    try:
        for name, content in files.items():
            fs.pipe_file(f"/looked/{name}", content)
        monkeypatch.setattr(fs, "open", open_and_note)
        found = fragments("memory://looked")
        for fragment in found[::7]:
            check_columns(fragment, Source(path=("memory://looked",)), None)
    finally:
        fs.rm("/looked", recursive=True)
    assert len(found) > 7
    assert len(asked) > len(files)
    assert max(asked) <= 2**18


def test_a_remote_file_system() -> None:
    fs = fsspec.filesystem("memory")
    try:
        fs.pipe_file("/corpus/sub/b.jsonl.gz", gzip.compress(LINE))
        fs.pipe_file("/corpus/a.jsonl", LINE)
        fs.pipe_file("/corpus/_a.jsonl", LINE)
        fs.pipe_file("/corpus/note.rst", LINE)
        found = fragments("memory://corpus")
        assert [f.url for f in found] == ["memory:///corpus/a.jsonl", "memory:///corpus/sub/b.jsonl.gz"]
        assert fragments("memory://corpus/**/*.jsonl*") == found
        assert fragments("memory://corpus/*.jsonl", "memory:///corpus/a.jsonl") == found[:1]
        source = Source(path=("memory://corpus",))
        assert [block.text.to_pylist() for f in found for block in read_blocks(f, source, 100)] == [["a"], ["a"]]
        fs.pipe_file("/corpus/a.jsonl", b'{"text": "b"}\n')
        assert fragments("memory://corpus")[0].identity != found[0].identity
        with pytest.raises(InputError, match="changed since it was listed"):
            list(read_blocks(found[0], source, 100))
        with pytest.raises(InputError, match="matches no file"):
            fragments("memory://corpus/*.csv")
    finally:
        fs.rm("/corpus", recursive=True)


def test_fragments_are_plain_values(tree: Path) -> None:
    from dataclasses import asdict

    found = fragments(tree)
    assert [Fragment(**json.loads(json.dumps(asdict(f)))) for f in found] == list(found)
