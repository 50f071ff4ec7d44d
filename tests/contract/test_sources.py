"""What the paths of a source reach, on every file system that a corpus may lie in. Oracle: what was put there."""

from __future__ import annotations

import bz2
import io
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_data.corpus.file_counts import SourceFiles, describe_files
from chameleon_data.corpus.fragments import list_fragments, open_fragment
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.errors import InputError
from chameleon_data.recipe import Source
from tests.support.reader_files import compress

LINE = b'{"text": "a"}\n'
NAMES = ["plain", "my [1] folder", "a*b?c", "50%41#x", "x::y", "données 漢字"]
"""Folders with every character that some library takes for something else."""
Put = Callable[[str, bytes], None]


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Put]]:
    """An empty folder of each kind: its URL, and a function that puts a file there."""
    if request.param == "local":
        root = str(tmp_path / "corpus")
    else:
        base = request.getfixturevalue("s3_bucket") if request.param == "s3" else "memory:/"
        root = f"{base}/{uuid.uuid4().hex}"
    fs = fsspec.filesystem({"local": "file"}.get(request.param, request.param))

    def put(name: str, body: bytes) -> None:
        if request.param == "local":
            (Path(root) / name).parent.mkdir(parents=True, exist_ok=True)
        fs.pipe_file(f"{root}/{name}".removeprefix("s3://").removeprefix("memory:/"), body)

    yield root, put
    if request.param == "memory":
        fs.rm(root.removeprefix("memory:/"), recursive=True)


def parquet(*texts: str) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), sink)
    return sink.getvalue()


def look(*paths: str, **keys: str) -> tuple[list[tuple[str, str]], SourceFiles]:
    """(domain, text) of every document, and the files in numbers."""
    source = Source(path=paths, **keys)
    listing = list_fragments("own", source)
    rows = []
    for block in (block for fragment in listing.fragments for block in read_blocks(fragment, source, 1000)):
        assert not block.bad
        rows += [(block.names[code], text) for code, text in zip(block.domain, block.text.to_pylist(), strict=True)]
    return rows, listing.files


def texts(*paths: str, **keys: str) -> list[str]:
    return sorted(text for _, text in look(*paths, **keys)[0])


def test_a_pattern_reads_the_folders_that_it_matches(place: tuple[str, Put]) -> None:
    """As Spark writes them."""
    root, put = place
    for name in ("d1", "d2"):
        put(f"{name}.parquet/_SUCCESS", b"")
        put(f"{name}.parquet/part-0.snappy.parquet", parquet(name))
    put("d3.parquet", parquet("d3"))
    put("_old.parquet/part-0.parquet", parquet("old"))
    rows, files = look(f"{root}/*.parquet")
    assert sorted(text for _, text in rows) == ["d1", "d2", "d3"]
    assert files == SourceFiles({"parquet": 3}, {"a name that begins with . or _": 3})
    assert texts(f"{root}/**/*.parquet") == texts(root) == texts(f"{root}/d*") == ["d1", "d2", "d3"]
    assert texts(f"{root}/_old*") == ["old"]


def test_every_ending_is_read_or_counted(place: tuple[str, Put]) -> None:
    root, put = place
    for name in ("a.jsonl", "b.jsonl.zst", "c.jsonl.bz2", "d.jl", "g.jsonl.xz", "h.ndjson.gz"):
        put(name, compress(b'{"text": "%s"}\n' % name.encode(), name))
    put("b2.jsonl.zstd", compress(b'{"text": "b2"}\n', ".zst"))
    put("e.pq", parquet("e"))
    put("f.tsv", b"text\tn\nf\t1\n")
    put("i.json", b'[{"text": "i"},\n {"text": "j"}]')
    put("part-00000", b'{"text": "k"}\n')
    put("part-00001.bz2", bz2.compress(b'[{"text": "l"}]'))
    put("part-00002-0a1b.c000", parquet("m"))
    read = sorted(["a.jsonl", "b.jsonl.zst", "b2", "c.jsonl.bz2", "d.jl", "e", "f", "g.jsonl.xz", "h.ndjson.gz", *"ijklm"])
    assert texts(root) == texts(f"{root}/*") == read
    for name in ("x.rst", "y.rst", "z.jsonl.lz4", "t.tar.gz", "part-00003", "_started", ".z.jsonl"):
        put(name, b"words\n")
    rows, files = look(root)
    assert sorted(text for _, text in rows) == read
    assert files.read == {"jsonl": 10, "parquet": 2, "tsv": 1}
    assert files.left_out == {
        "a name that begins with . or _": 2,
        "ending .lz4": 1,
        "ending .rst": 2,
        "ending .tar.gz": 1,
        "no ending, and content that is not known": 1,
    }
    with pytest.raises(InputError, match=r"has a suffix that no reader knows; narrow the pattern"):
        look(f"{root}/*")


def test_keys_of_hive(place: tuple[str, Put]) -> None:
    root, put = place
    for name in ("web", "a%20b", "__HIVE_DEFAULT_PARTITION__"):
        put(f"_year=2020/domain={name}/p.parquet", parquet(name))
    put("domain=text/x.txt", b"plain")
    put("domain=web/x.jsonl", b'{"text": "line", "domain": "other"}\n')
    source = Source(path=(root,), domain="domain", rename={"a b": "both"})
    blocks = [b for f in list_fragments("own", source).fragments for b in read_blocks(f, source, 1000)]
    rows = {(b.names[code], text) for b in blocks for code, text in zip(b.domain, b.text.to_pylist(), strict=True)}
    assert rows == {("web", "web"), ("both", "a%20b"), ("text", "plain"), ("web", "line")}
    assert [bad.reason for b in blocks for bad in b.bad] == ["no domain"]


def test_notes_of_libraries_are_no_data(place: tuple[str, Put]) -> None:
    root, put = place
    put("data.parquet", parquet("a"))
    for name in ("dataset_info.json", "state.json", "metadata/v1.metadata.json", "LICENSE.txt", "sha256sums.txt"):
        put(name, b"{\n}\n")
    put("cache-0123456789abcdef.arrow", b"what a map returned, in this library's own form")
    rows, files = look(root)
    assert (rows, files) == ([("own", "a")], SourceFiles({"parquet": 1}, {"a note beside the data": 6}))
    put("notes.txt", b"a document")
    rows, files = look(root)
    assert files == SourceFiles({"parquet": 1, "txt": 3}, {"a note beside the data": 4})  # beside .txt, these may be documents
    assert describe_files({"own": files}) == [
        "sources.own: left out 4 files: a note beside the data",
        "sources.own: reads files of several formats: parquet 1, txt 3; a pattern names those that are meant",
    ]
    assert texts(f"{root}/LICENSE.txt") == ["{\n}\n"]


def test_a_pointer_without_an_ending_is_refused(place: tuple[str, Put]) -> None:
    root, put = place
    put("a.jsonl", b'{"text": "x"}\n')
    put("part-00000", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(InputError, match=r"part-00000: is a pointer of Git LFS, not the file .*git lfs pull"):
        look(root)


def test_markdown_is_text_where_it_lies_alone_or_is_named_and_a_note_beside_other_data(place: tuple[str, Put]) -> None:
    root, put = place
    put("notes/a.md", b"# a")
    put("notes/README.md", b"# b")
    put("mixed/README.md", b"# about the data")
    put("mixed/data.parquet", parquet("a"))
    assert look(f"{root}/notes")[1] == SourceFiles({"txt": 2}, {})
    assert texts(f"{root}/notes/*.md") == ["# a", "# b"]
    assert look(f"{root}/mixed") == ([("own", "a")], SourceFiles({"parquet": 1}, {"a note beside the data": 1}))
    assert texts(f"{root}/mixed/*.md") == ["# about the data"]
    put("README.md", b"# about all of it")
    rows, files = look(root)
    assert sorted(text for _, text in rows) == ["# a", "# b", "a"], "a folder of Markdown is data beside folders of other data"
    assert files == SourceFiles({"parquet": 1, "txt": 2}, {"a note beside the data": 2})


@pytest.mark.parametrize("name", NAMES)
def test_a_name_may_hold_any_character(place: tuple[str, Put], name: str) -> None:
    root, put = place
    if "::" in name and root.startswith("memory"):
        name = "x:y"  # fsspec's memory file system drops what stands before it
    put(f"{name}/{name}.jsonl", LINE)
    put(f"{name}/sub/b.jsonl", LINE)
    folder = f"{root}/{name}"
    for path, number in ((folder, 2), (f"{folder}/{name}.jsonl", 1), (f"{folder}/*/*.jsonl", 1), (f"{folder}/**/*.jsonl", 2)):
        assert texts(path) == ["a"] * number
    with pytest.raises(InputError) as caught:
        look(f"{folder}/none-*.csv")
    assert f"{folder}/none-*.csv matches no file" in str(caught.value)


def test_two_names_of_one_file_are_told(place: tuple[str, Put]) -> None:
    root, put = place
    put("a.jsonl", LINE)
    put("b.jsonl", LINE)
    rows, files = look(root, f"{root}/a*", f"{root}/a.jsonl")
    assert (len(rows), files) == (2, SourceFiles({"jsonl": 2}, {"a second name of a file": 2}))


def test_links_are_second_names(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINE)
    (tmp_path / "hard.jsonl").hardlink_to(tmp_path / "a.jsonl")
    (tmp_path / "soft.jsonl").symlink_to("a.jsonl")
    rows, files = look(str(tmp_path))
    assert (rows, files) == ([("own", "a")], SourceFiles({"jsonl": 1}, {"a second name of a file": 2}))


def test_keys_that_are_also_prefixes(s3_bucket: str) -> None:
    """A folder reads all three; a pattern takes the key and counts what lies below it. Markers of folders are nothing."""
    root = f"{s3_bucket}/{uuid.uuid4().hex}"
    fs = fsspec.filesystem("s3")
    for name, body in (
        ("w/", b""), ("w/data.parquet/", b""), ("w/data.parquet/part-0.parquet", parquet("x", "y")),
        ("w/data.parquet/_SUCCESS", b""),
        ("q/a.jsonl", b'{"text": "a"}\n'), ("q/a.jsonl/b.jsonl", b'{"text": "b"}\n'), ("q/c.jsonl", b'{"text": "c"}\n'),
        ("h/x.jsonl", b'{"text": "h"}\n'), ("h/below_$folder$", b""),
        ("d/x.jsonl", b'{"text": "d"}\n'), ("d/y.jsonl/", b'{"text": "lost"}\n'), ("d/e/", b""),
    ):  # fmt: skip
        bucket, _, key = f"{root}/{name}".removeprefix("s3://").partition("/")
        fs.call_s3("put_object", Bucket=bucket, Key=key, Body=body)
    for path in ("w", "w/data.parquet", "w/**/*.parquet", "w/*.parquet", "*/*.parquet"):
        assert texts(f"{root}/{path}") == ["x", "y"]
    assert texts(f"{root}/q") == ["a", "b", "c"]
    for path in ("q/a.jsonl", "q/a.json?"):
        assert look(f"{root}/{path}") == ([("own", "a")], SourceFiles({"jsonl": 1}, {"below the name of a file": 1}))
    rows, files = look(f"{root}/q/*.jsonl")
    assert rows == [("own", "a"), ("own", "c")]
    assert files == SourceFiles({"jsonl": 2}, {"below the name of a file": 1})
    for path in ("h", "h/*", "h/**"):
        assert look(f"{root}/{path}") == ([("own", "h")], SourceFiles({"jsonl": 1}, {}))
    for path in ("d", "d/*", "d/**"):
        left_out = {"a name that ends with /": 1}
        assert look(f"{root}/{path}") == ([("own", "d")], SourceFiles({"jsonl": 1}, left_out))


def test_endings_that_lie_are_counted_in_a_folder_and_refused_by_name(place: tuple[str, Put]) -> None:
    root, put = place
    line = b'{"text": "x"}\n'
    for name in ("a.jsonl", "d.jl", "part-00000"):
        put(name, line)
    for name in ("b.jsonl.zstd", "c.jsonl.bz2", "e.pq", "f.tsv", "g.jsonl.xz", "k.arrow", "l.csv.gz"):
        put(name, line)
    put("h.parquet", b"words and no columns\n")
    put("i.jsonl", bz2.compress(line))
    put("j.feather", parquet("p"))
    put("m.txt", line)  # a document, whatever it holds
    for path in (root, f"{root}/*"):
        rows, files = look(path)
        assert len(rows) == 4
        assert files.left_out == {
            **{f"ending {end} that holds JSON lines": 1 for end in (".arrow", ".csv.gz", ".jsonl.bz2", ".jsonl.xz")},
            **{f"ending {end} that holds JSON lines": 1 for end in (".jsonl.zstd", ".pq", ".tsv")},
            "ending .feather that holds Parquet": 1, "ending .jsonl that holds bz2": 1,
            "ending .parquet that holds plain text": 1,
        }  # fmt: skip
    for name, said in (
        ("e.pq", "but it holds JSON lines; name it as what it is$"), ("h.parquet", "but it holds plain text; name it"),
        ("i.jsonl", "holds bz2, which"), ("g.jsonl.xz", "holds no compressed data, not xz as its name says"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            look(f"{root}/{name}")
    with pytest.raises(InputError, match=r"no file there holds what its name says, e\.pq holds JSON lines; name it as"):
        look(f"{root}/*.pq")


def test_a_file_with_the_right_ending_that_is_damaged_is_not_left_out(place: tuple[str, Put]) -> None:
    root, put = place
    put("a.jsonl", b'{"text": "x"}\n')
    put("b.parquet", b"PAR1" + bytes(50))
    with pytest.raises(InputError, match=r"b\.parquet.*damaged"):
        look(root)


def test_a_remote_file_is_asked_about_once_and_what_replaces_it_is_not_read(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, url = fsspec.filesystem("s3"), f"{s3_bucket}/{uuid.uuid4().hex}/a.jsonl"
    body = LINE * 100_000
    fs.pipe_file(url, body)
    (fragment,), source = list_fragments("own", Source(path=(url,))).fragments, Source(path=(url,))
    asked, real = list[str](), fs._call_s3
    monkeypatch.setattr(fs, "_call_s3", lambda method, *args, **how: (asked.append(method), real(method, *args, **how))[1])
    with open_fragment(fragment, "places") as file:
        assert file.read(len(LINE)) == LINE
        fs.pipe_file(url, body.replace(b"a", b"b"))
        file.seek(-len(LINE), io.SEEK_END)
        with pytest.raises(OSError, match="no longer exists"):
            file.read()
    assert asked.count("head_object") == 1
    with pytest.raises(InputError, match="changed since it was listed"):
        list(read_blocks(fragment, source, 1000))
