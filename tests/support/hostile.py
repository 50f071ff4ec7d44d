"""Broken and hostile inputs, each with what is promised of it. Built from a seed; tests and the soak read the same table.

A case is a folder of files, how they are read, and the promise: the documents that are kept with the reasons of the rows that
are not, or words of the one message that refuses the input.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import zstandard

SEED = 20251124
LONGEST = 2**20
"""`input.max_document` of every case."""
GOOD = ["A first document of prose.", "Zweiter Text, mit Umlauten: äöü.", "def third(): return 3"]


@dataclass(frozen=True)
class Case:
    """One bad input."""

    name: str
    write: Callable[[Path], None]
    """Writes into an empty folder; the source is the folder itself, unless `source` gives a path."""
    kept: int | None = None
    """Documents that are used; None where the input is refused."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Reason -> quarantined rows."""
    refused: str | None = None
    """Words of the message; None where it is not refused."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the source beside `path`; `{folder}` in values stands for the folder."""
    hash: str = "text"


def line(text: Any, **more: Any) -> bytes:
    return json.dumps({"text": text, **more}, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def lines(*texts: Any) -> bytes:
    return b"".join(line(t) for t in texts or GOOD)


def put(name: str, body: bytes, **more: bytes) -> Callable[[Path], None]:
    """Writes the file `name`, and `more` files by stem, with the same suffix."""

    def write(folder: Path) -> None:
        (folder / name).write_bytes(body)
        for stem, other in more.items():
            (folder / f"{stem}{Path(name).suffix}").write_bytes(other)

    return write


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def flipped(body: bytes, seed: int, where: slice = slice(None)) -> bytes:
    """One bit of the slice turned over."""
    at = random.Random(seed).choice(range(len(body))[where])
    return body[:at] + bytes([body[at] ^ 1 << random.Random(seed + 1).randrange(8)]) + body[at + 1 :]


def zstd(body: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(body)


def _fifo(folder: Path) -> None:
    (folder / "a.jsonl").write_bytes(lines())
    os.mkfifo(folder / "pipe.jsonl")


def _loop(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a.jsonl").write_bytes(lines())
    (folder / "sub" / "back").symlink_to(folder, target_is_directory=True)


def _dead_link(folder: Path) -> None:
    (folder / "a.jsonl").symlink_to(folder / "gone.jsonl")


def _partial(folder: Path) -> None:
    (folder / "a.jsonl").write_bytes(lines())
    (folder / ".a.jsonl.tmp-1234").write_bytes(b'{"text": "half')
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "b.jsonl").write_bytes(lines("not yet there"))


def _extension() -> bytes:
    schema = pa.schema([
        pa.field("text", pa.string(), metadata={"ARROW:extension:name": "ray.data.arrow_pickled_object",
                                               "ARROW:extension:metadata": "cos\nsystem\n(S'touch owned'\ntR."})
    ])  # fmt: skip
    return parquet(pa.table([pa.array(GOOD)], schema=schema))


def domains(*names: Any) -> Callable[[Path], None]:
    return put("a.jsonl", b"".join(line(f"text {i}", d=name) for i, name in enumerate(names)))


BY = {"domain": "d"}
GOOD_TABLE = pa.table({"text": [g * 40 for g in GOOD]})
NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def cases() -> list[Case]:
    """The table, in the order of issue trackers' favourites: compression, text, rows, JSON, names, columns, domains."""
    body, packed, zipped = lines(), zstd(lines(), write_checksum=True), gzip.compress(lines())
    columns = parquet(GOOD_TABLE, write_page_checksum=True, compression="none", use_dictionary=False, write_statistics=False)
    large = parquet(GOOD_TABLE.cast(pa.schema([("text", pa.large_string())])))
    bare = zstd(body, write_checksum=False, write_content_size=False)
    deep = b'{"text": "x", "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    digits = b'{"text": "many digits", "n": ' + b"9" * 5_000 + b"}\n"
    bomb = zstd(b'{"text": "' + b"a" * (64 * LONGEST) + b'"}\n')
    return [
        # Compression
        Case("zstd truncated", put("a.jsonl.zst", packed[:-3]), refused="truncated"),
        Case("zstd truncated between frames is whole", put("a.jsonl.zst", packed + packed), kept=6),
        Case("zstd cut in its second frame", put("a.jsonl.zst", packed + packed[: len(packed) // 2]), refused="truncated"),
        Case("zstd without checksum or size", put("a.jsonl.zst", bare), kept=3),
        Case("zstd with a flipped bit", put("a.jsonl.zst", flipped(packed, SEED, slice(-4, None))), refused="a.jsonl.zst"),
        Case("zstd bomb of one line", put("a.jsonl.zst", bomb + packed), kept=3, reasons={"longer than max_document": 1}),
        Case("zstd followed by rubbish", put("a.jsonl.zst", packed + b"rubbish"), refused="a.jsonl.zst"),
        Case("zstd of nothing at all", put("a.jsonl.zst", b""), refused="truncated"),
        Case("gzip truncated", put("a.jsonl.gz", zipped[:-5]), refused="truncated"),
        Case("gzip with bytes after it", put("a.jsonl.gz", zipped + b"trailing"), refused="a.jsonl.gz"),
        Case("gzip with a false checksum", put("a.jsonl.gz", zipped[:-8] + bytes(4) + zipped[-4:]), refused="a.jsonl.gz"),
        Case("gzip of ten thousand empty members", put("a.jsonl.gz", gzip.compress(b"") * 10_000 + zipped), kept=3),
        Case("gzip members that bomb with line ends", put("a.jsonl.gz", gzip.compress(b"\n" * LONGEST) * 16 + zipped), kept=3),
        Case("zstd frames that are to be skipped", put("a.jsonl.zst", SKIPPED + packed + SKIPPED), kept=3),
        Case("zstd of nothing but such frames", put("a.jsonl.zst", SKIPPED), refused="no usable document"),
        # Text
        Case("invalid UTF-8", put("a.jsonl", body + b'{"text": "\xff\xfe"}\n'), kept=3, reasons={"invalid UTF-8": 1}),
        Case("byte order mark", put("a.jsonl", b"\xef\xbb\xbf" + body), kept=3),
        Case("UTF-16", put("a.jsonl", body.decode().encode("utf-16")), refused="holds UTF-16.*write it again as UTF-8"),
        Case("UTF-16 without a mark", put("a.jsonl", body.decode().encode("utf-16-be")), refused="cannot be used"),
        Case("CSV in UTF-16", put("a.csv", "text\na\n".encode("utf-16")), refused="holds UTF-16"),
        Case("lone surrogates", put("a.jsonl", body + b'{"text": "\\ud800 alone"}\n'), kept=3,
             reasons={"half of a surrogate pair": 1}),
        Case("lone surrogates in a key that nobody reads", put("a.jsonl", body + b'{"text": "whole", "x": "\\ud800"}\n'), kept=4),
        Case("surrogates as bytes", put("a.jsonl", body + line("\ud800")), kept=3, reasons={"invalid UTF-8": 1}),
        Case("NUL and separators inside", put("a.jsonl", lines("a\0b", "c\u2028d", "e\u0085f")), kept=3),
        Case("NUL bytes after the end", put("a.jsonl", body + bytes(4096)), kept=3, reasons={"broken JSON": 1}),
        Case("a line of 64 MiB", put("a.jsonl", body + b'{"text": "' + b"a" * 64 * LONGEST + b'"}\n'), kept=3,
             reasons={"longer than max_document": 1}),
        # Rows
        Case("an empty CSV beside a good one", put("a.csv", b"", b=b"text\none\ntwo\n"), kept=2),
        Case("empty file", put("a.jsonl", b""), refused="no usable document"),
        Case("only blank lines", put("a.jsonl", b"\n \n\t\r\n"), refused="no usable document"),
        Case("empty file beside a good one", put("a.jsonl", b"", b=body), kept=3),
        Case("missing text", put("a.jsonl", body + b"{}\n"), kept=3, reasons={"no text": 1}),
        Case("null text", put("a.jsonl", body + lines(None)), kept=3, reasons={"null text": 1}),
        Case("numeric, nested and blank", put("a.jsonl", body + lines(7, ["a"], {"a": "b"}, "  ")), kept=3,
             reasons={"text is not a string": 3, "blank text": 1}),
        # JSON
        Case("duplicate keys: the last counts", put("a.jsonl", b'{"text": "first", "text": "second"}\n'), kept=1),
        Case("NaN literals", put("a.jsonl", body + b'{"text": "x", "score": NaN}\n{"text": NaN}\n'), kept=4,
             reasons={"text is not a string": 1}),
        Case("100,000 levels deep", put("a.jsonl", body + deep), kept=3, reasons={"broken JSON": 1}),
        Case("a number of 5,000 digits", put("a.jsonl", body + digits), kept=4),
        Case("an array in place of lines", put("a.json", b'[{"text": "a"}, {"text": "b"}]\n'), kept=2),
        # Names and files
        Case("gzip called .jsonl", put("a.jsonl", zipped), refused="gzip"),
        Case("plain text called .zst", put("a.jsonl.zst", body), refused="a.jsonl.zst"),
        Case("Parquet called .csv", put("a.csv", columns), refused="Parquet"),
        Case("a suffix that nobody knows", put("a.docx", body), refused="docx|no file"),
        Case("a loop of links", _loop, kept=3),
        Case("a link to nothing", _dead_link, refused="a.jsonl"),
        Case("a pipe", _fifo, refused="pipe"),
        Case("what other writers left half done", _partial, kept=3),
        Case("zip called .jsonl", put("a.jsonl", archive() + body), refused="holds zip"),
        Case("lines that go on as a zip", put("a.jsonl", body + archive()), kept=3, reasons={"invalid UTF-8": 1}),
        Case("a name that commands the terminal", put("a\x1b]0;owned\x07.jsonl", body), refused=r"x1b.*not printable; rename it"),
        Case("a name of two lines", put("a\nerror b.jsonl", body), refused=r"a\\nerror b.*not printable"),
        Case("a name that is not UTF-8", put("caf\udce9.jsonl", body), refused="not printable; rename it"),
        # Columns
        Case("Parquet files with string and large_string", put("a.parquet", columns, b=large), kept=6),
        Case("Parquet with a number for text", put("a.parquet", parquet(pa.table({"text": [1, 2]}))),
             refused="is of int64, which is not text"),
        Case("Parquet with a flipped bit in a page", put("a.parquet", flipped(columns, SEED, slice(200, 600))),
             refused="a.parquet"),
        Case("Parquet with a truncated footer", put("a.parquet", columns[:-6]), refused="a.parquet"),
        Case("Parquet without row groups", put("a.parquet", parquet(GOOD_TABLE.slice(0, 0))), refused="no usable document"),
        Case("Parquet with an extension type", put("a.parquet", _extension()), refused="extension type"),
        Case("Parquet without the column", put("a.parquet", parquet(pa.table({"body": GOOD}))), refused="no column 'text'"),
        Case("Parquet with a huge string", put("a.parquet", parquet(pa.table({"text": ["x" * (2 * LONGEST), *GOOD]}))), kept=3,
             reasons={"longer than max_document": 1}),
        Case("Arrow cut off", lambda f: _cut_arrow(f / "a.arrow"), refused="a.arrow"),
        Case("Parquet of one string in a dictionary", put("a.parquet", parquet(repeated(300), store_schema=False, **ONE_PAGE)),
             kept=300),
        Case("Parquet of one long string in a dictionary", put("a.parquet", parquet(repeated(20_000, 4 * LONGEST), **ONE_PAGE)),
             refused="longer than max_document"),
        Case("Parquet of prefixes of the row before", put("a.parquet", parquet(repeated(300).cast(TEXT), use_dictionary=False,
             column_encoding="DELTA_BYTE_ARRAY")), kept=300),
        Case("Parquet with an encrypted footer", put("a.parquet", b"PARE" + bytes(200) + (100).to_bytes(4, "little") + b"PARE"),
             refused="a.parquet"),
        Case("Parquet whose footer lies about its rows", put("a.parquet", lying_rows(GOOD_TABLE)), refused="a.parquet"),
        Case("Arrow of one string in a dictionary", arrow(repeated(300)), kept=300),
        Case("Arrow views of one long string", arrow(views(100_000, 2 * LONGEST)), refused="longer than max_document"),
        Case("Arrow of one run of many rows", arrow(runs(10**5)), refused="is of run_end_encoded<.*>, which is not text"),
        Case("Arrow with offsets that point elsewhere", arrow(offsets(0, 5, 3, 9)), refused="fetch it again"),
        Case("Feather of version 1", put("a.feather", b"FEA1" + bytes(60) + b"FEA1"), refused="Feather version 1"),
        Case("CSV with NUL", put("a.csv", b"text\nok\na\0b\n"), kept=2),
        Case("CSV with quotes inside", put("a.csv", b'text,id\nok,1\n"a"b,3\nok2,4\n'), kept=2, reasons={"broken CSV": 1}),
        Case("CSV with a field of 10 MB", put("a.csv", b'text\nok\n"' + b"x" * 10**7 + b'"\nok2\n'), kept=2,
             reasons={"longer than max_document": 1}),
        Case("CSV with an open quote", put("a.csv", b'text\n"never closed\n' + b"x,\n" * 50), refused="quote"),
        # Ids and domains
        Case("duplicate ids with other texts", put("a.jsonl", line("one", id="7") + line("two", id="7")), kept=2,
             source={"id": "id"}, hash="id"),
        Case("a row without its id", put("a.jsonl", line("one", id="7") + line("two")), kept=1, reasons={"no id": 1},
             source={"id": "id"}, hash="id"),
        Case("domains that look like paths", domains("../x", "a/b", "CON", "no", "-rf"), kept=5, source=BY),
        Case("a domain of 300 characters", domains("web", "d" * 300), kept=1, reasons={"bad domain name": 1}, source=BY),
        Case("a domain that is no text", domains("web", False, None, 3, 1.5), kept=2, reasons={"no domain": 1,
             "domain is neither a string nor an integer": 1, "domain is a float": 1}, source=BY),
        Case("a domain with a line break", domains("web", "a\nb"), kept=1, reasons={"bad domain name": 1}, source=BY),
        Case("domains that command the terminal", domains("web", "\x1b[31m", "\u202eb", "\u200b"), kept=1,
             reasons={"bad domain name": 3}, source=BY),
        Case("a column of 70,000 domains", domains(*map(str, range(70_000))), refused="more than 65,536 domains", source=BY),
        Case("ids that are null, blank or no ids", put("a.jsonl", line("a", id=None) + line("b", id="") + line("c", id=3) +
             line("d", id=1.5) + line("e", id=True)), kept=1, reasons={"no id": 2, "id is a float": 1,
             "id is neither a string nor an integer": 1}, source={"id": "id"}, hash="id"),
        Case("domains that Unicode writes in two ways", domains(NFC, NFD), refused="both called", source=BY),
    ]  # fmt: skip


TEXT = pa.schema([("text", pa.string())])
ONE_PAGE = {"compression": "zstd", "dictionary_pagesize_limit": 2**26}
SKIPPED = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"


def archive() -> bytes:
    """A zip of one file."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("x.txt", "x")
    return sink.getvalue()


def repeated(rows: int, size: int = LONGEST) -> pa.Table:
    """Many rows of one string, which is stored once."""
    once = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["a" * size]))
    return pa.table({"text": once})


def views(rows: int, size: int) -> pa.Table:
    """Many views of one string."""
    one = np.array([size, int.from_bytes(b"aaaa", "little"), 0, 0], np.int32)
    buffers = [None, pa.py_buffer(np.tile(one, rows).tobytes()), pa.py_buffer(b"a" * size)]
    return pa.table({"text": pa.Array.from_buffers(pa.string_view(), rows, buffers)})


def runs(rows: int) -> pa.Table:
    """One run as long as the table."""
    return pa.table({"text": pa.RunEndEncodedArray.from_arrays(pa.array([rows], pa.int32()), pa.array(["a"]))})


def offsets(*ends: int) -> pa.Table:
    """Strings whose offsets are what is said, in order or not."""
    buffers = [None, pa.py_buffer(np.array(ends, np.int32)), pa.py_buffer(b"abcdefghi")]
    return pa.table({"text": pa.Array.from_buffers(pa.string(), len(ends) - 1, buffers)})


def arrow(table: pa.Table) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        with pa.ipc.new_file(folder / "a.arrow", table.schema) as file:
            file.write_table(table)

    return write


def lying_rows(table: pa.Table) -> bytes:
    """Parquet whose row group, by its footer, has four times the rows that its pages hold."""
    body = parquet(table, use_dictionary=False, compression="none")
    length = int.from_bytes(body[-8:-4], "little")
    footer = body[-8 - length : -8].replace(bytes([2 * len(table)]), bytes([8 * len(table)]))
    return body[: -8 - length] + footer + body[-8:]


def _cut_arrow(path: Path) -> None:
    feather.write_feather(GOOD_TABLE, path)
    path.write_bytes(path.read_bytes()[:-20])


EXPLODING = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
LEAST = "name: t\nout: o\nsources: {a: x.jsonl}\n"
RECIPES = {
    "aliases that explode": (EXPLODING, "anchors and aliases"),
    "a tag": (LEAST + "seed: !!python/object/apply:os.system ['touch owned']\n", "tags are not part"),
    "a key twice": (LEAST + "seed: 1\nseed: 2\n", "stands twice"),
    "a wrong type": (LEAST + "seed: [1]\n", "seed"),
    "a number out of range": (LEAST + "mix: {budget: 1e999}\n", "mix.budget"),
    "an unknown key": (LEAST + "embed: {sample: 8}\n", "did you mean 'samples'"),
    "chained URLs": ("name: t\nout: o\nsources: {a: 'zip://x::s3://b/y.zip'}\n", "chained URLs"),
    "a NUL in a path": ('name: t\nout: "a\\0b"\nsources: {a: x.jsonl}\n', "NUL character"),
    "a key that is no text": ("name: t\nout: o\nsources: {no: x.jsonl}\n", "not text"),
    "nothing": ("", "a recipe is a mapping"),
    "bytes that are no text": ("\x00\x01", "recipe"),
    "brackets without end": ("[" * 20_000, "recipe"),
}
"""Name -> (text of a recipe, words of its refusal)."""
