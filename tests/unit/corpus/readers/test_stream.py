"""Bytes and lines: decompression that never ends early, and lines that are those of a naive split."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import re
import tarfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.corpus.readers.stream import split_lines
from chameleon_data.errors import InputError
from tests.support.reader_files import quick, read_rows

LINE = b'{"text": "a"}\n'
WITH_DICTIONARY = zstandard.ZstdCompressor(
    dict_data=zstandard.ZstdCompressionDict(zstandard.train_dictionary(1000, [LINE * i for i in range(9, 99)]).as_bytes())
).compress(LINE * 99)


def _tar() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        entry = tarfile.TarInfo("x.jsonl")
        entry.size = len(LINE)
        file.addfile(entry, io.BytesIO(LINE))
    return packed.getvalue()


TAR = _tar()


def test_a_zstd_window_that_would_take_gigabytes(tmp_path: Path) -> None:
    options = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=options).compressobj()
    (tmp_path / "x.jsonl.zst").write_bytes(packer.compress(b'{"text": "a"}\n') + packer.flush())
    with pytest.raises(InputError, match="window is larger than 128 MiB"):
        read_rows(tmp_path / "x.jsonl.zst")


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("x.jsonl", gzip.compress(b"{}", mtime=0), "holds gzip"),
        ("x.csv", zstandard.compress(b"{}"), "holds zstd"),
        ("x.txt", b"PAR1....PAR1", "holds Parquet"),
        ("x.jsonl.gz", b'{"text": "a"}\n', "holds no compressed data, not gzip as its name says; rename it"),
        ("x.jsonl.zstd", b'{"text": "a"}\n', "holds no compressed data, not zstd as its name says"),
        ("x.jsonl.gz", zstandard.compress(b"{}"), "holds zstd, not gzip as its name says"),
        ("x.jsonl.gz", gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "holds gzip again; unpack it once"),
        ("x.csv.bz2", bz2.compress(b"") + bz2.compress(gzip.compress(b"{}", mtime=0)), "holds gzip inside bz2; unpack it once"),
        ("x.txt.xz", lzma.compress(lzma.compress(b"{}")), "holds xz again; unpack it once"),
        ("x.jsonl.zst", zstandard.compress(zstandard.compress(b"{}")), "holds zstd again; unpack it once"),
        ("x.jsonl.gz", gzip.compress(b"PK\x03\x04....", mtime=0), "holds zip inside gzip; unpack it, or leave it out"),
        ("x.txt", b"%PDF-1.7", "holds PDF"),
        ("x.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"is a pointer of Git LFS, .*git lfs pull"),
        ("x.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"is a pointer of Git LFS, .*git lfs pull"),
        ("x.arrow", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"is a pointer of Git LFS, .*git lfs pull"),
        ("x.csv.gz", b"/annex/objects/SHA256E-s3--0.csv.gz\n", r"is a pointer of git-annex, .*git annex get"),
        ("x.jsonl", b"PK\x03\x04....", "holds zip.*unpack it"),
        ("x.csv", "text\na\n".encode("utf-16"), "holds UTF-16.*UTF-8"),
        ("x.txt", b"\xfe\xff\0a", "holds UTF-16"),
        ("x.txt", "a".encode("utf-32"), "holds UTF-32, .*UTF-8"),
        ("x.txt", TAR, "holds tar, .*unpack it, or leave it out"),
        ("x.jsonl.gz", gzip.compress(TAR, mtime=0), "holds tar inside gzip; unpack it, or leave it out"),
        ("x.jsonl", b"\xff\x06\0\0sNaPpY" + bytes(9), "holds snappy"),
        ("x.jsonl.zst", WITH_DICTIONARY, "compressed with a zstd dictionary, which is not in the file"),
    ],
)
def test_names_that_lie(tmp_path: Path, name: str, body: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(InputError, match=says):
        read_rows(tmp_path / name)


@quick
@given(st.text("\n\r\x85xy", max_size=60), st.lists(st.integers(0, 60), max_size=5), st.integers(1, 20))
def test_splitting_lines(text: str, cuts: list[int], longest: int) -> None:
    body = text.encode("latin-1")
    chunks = [body[a:b] for a, b in itertools.pairwise([0, *sorted(cuts), len(body)])]
    naive = [line if len(line.rstrip(b"\n")) <= longest else None for line in re.findall(rb"[^\n]*\n|[^\n]+", body)]
    runs = list(split_lines(chunks, longest))
    assert [line for _, run in runs for line in run] == naive
    assert [first for first, _ in runs] == [0, *itertools.accumulate(len(run) for _, run in runs)][:-1]
