"""Kept rows: the usable rows of a part as the survey read them, so that nothing reads the corpus again.

Rows lie in files of about 128 MiB, each sorted by domain and the high half of the hash, equal ones in the order of reading:

    bodies    the texts, or token ids with end-of-text where rows are packed, one after the other
    columns   offset of the body (and its end, behind the last), hi, lo, tokens, row, sum: 8 bytes each; fragment: 4 bytes
    footer    JSON: the domains and the first row of each; then its length in 8 bytes

A file is mapped into memory. A search for an interval of hashes looks at some pages, and bodies are taken straight from the map,
so kept rows lie in a folder of this machine (`row_store.py`).

The sum of a row is of all that stands here of it, body and columns, and is checked when the row is taken. What a damaged column
hides from a search is missing in its shard, which is counted; then `check_kept_files` reads all and removes the file. The list of
a part's files is written last, so a part that has a list is kept whole. Files are not flushed to the disk.
Why: docs/decisions/043-kept-rows.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import FileIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from chameleon_data.arrays import I64, U64, byte_lengths
from chameleon_data.corpus.bodies import Bodies
from chameleon_data.corpus.row_store import RowStore
from chameleon_data.errors import InputError
from chameleon_data.hashing import canonical_json, hash_slices, mix64
from chameleon_data.plan.intervals import HashIndex
from chameleon_data.store.adapters import type_adapter
from chameleon_data.store.checksummed import ChecksumError, read_checked, read_record, write_record
from chameleon_data.store.paths import KEPT_ROWS, kept_file_path, kept_list_path, kept_part_folder
from chameleon_data.store.store import Store

KEPT_FORMAT = 1
"""Raise it when the layout of a file changes. Files of another format are as good as none."""
KEPT_FILE_BYTES = 128 * 2**20
"""Bytes of rows in memory at which a file is written."""
GATHERED_BYTES = 8 * 2**20
"""Bytes of bodies that are put in order at once: so few that their memory is used again."""
ROW_BYTES = 6 * 8 + 4
"""Bytes of a row beside its body."""
TAIL_BYTES = 8


@dataclass(frozen=True)
class KeptFile:
    """One file of a part's kept rows."""

    path: str
    bytes: int
    rows: int
    listed: str
    """Path of the list that names it."""


@dataclass(frozen=True)
class KeptPart:
    """The kept rows of one part."""

    number: int
    """The part's, in the corpus."""
    files: tuple[KeptFile, ...]
    """In the order of reading."""


@dataclass(frozen=True)
class KeptSummary:
    """What of a corpus is kept."""

    bytes: int
    parts: int
    """Parts whose rows are kept."""
    parts_in_all: int
    reason: str
    """Why the others are not, where somebody can do something about it."""


@dataclass(frozen=True)
class KeptRows:
    """A file of kept rows, mapped; columns are (rows,)."""

    index: HashIndex
    lo: U64
    tokens: I64
    row: I64
    """Number in the fragment."""
    fragment: npt.NDArray[np.int32]
    """Number in the part."""
    sum: U64
    offset: I64
    """(rows + 1,) where each body begins in `bodies`; the last one is where the last body ends."""
    bodies: pa.Buffer

    def places(self, rows: I64) -> Bodies:
        """Where the bodies of some rows lie."""
        begin = self.offset[rows]
        return Bodies((self.bodies,), np.zeros(len(rows), np.int64), begin, self.offset[rows + 1] - begin)

    def check(self, rows: I64) -> None:
        """Raise ChecksumError where one of these rows is not what was kept."""
        begin, end = self.offset[rows], self.offset[rows + 1]
        if len(rows) and not ((begin >= 0) & (begin <= end) & (end <= self.bodies.size)).all():
            raise ChecksumError
        body = hash_slices(memoryview(self.bodies), begin.tolist(), end.tolist())[1]
        columns = (self.index.hi, self.lo, self.tokens, self.row, self.fragment)
        if not np.array_equal(_sum_rows([column[rows] for column in columns], body), self.sum[rows]):
            raise ChecksumError


class RowKeeper:
    """Keeps the rows of one part, which are given in the order of reading. Memory: a file of them and a block."""

    def __init__(self, rows: RowStore, part: str) -> None:
        """`part` is the part's key."""
        self._store, self._part, self._kind = rows.store, part, rows.kind
        self._pending: list[tuple[tuple[str, ...], list[npt.NDArray[Any]], Bodies]] = []
        """Domains; (rows,) domain, hi, lo, tokens, row, fragment, and hash of the body; the bodies."""
        self._bytes = 0
        self._files: list[KeptFile] = []

    def add(
        self, names: tuple[str, ...], domain: npt.NDArray[np.int32], hi: U64, lo: U64, tokens: I64, row: I64, fragment: int,
        bodies: pa.LargeBinaryArray, body_hash: U64,
    ) -> None:  # fmt: skip
        """The usable rows of a block. `body_hash` are the low halves of the content hashes of the bodies."""
        if not len(hi):
            return
        columns: list[npt.NDArray[Any]] = [domain, hi, lo, tokens, row, np.full(len(hi), fragment, np.int32), body_hash]
        self._pending.append((names, columns, Bodies.of(bodies)))
        self._bytes += int(byte_lengths(bodies).sum()) + ROW_BYTES * len(hi)
        if self._bytes >= KEPT_FILE_BYTES:
            self._write()

    def end(self) -> None:
        """Write what is left, and the list of the files."""
        if self._pending:
            self._write()
        files = [asdict(file) for file in self._files]
        write_record(self._store, kept_list_path(self._part, self._kind), {"format": KEPT_FORMAT, "files": files})

    def _write(self) -> None:
        names = sorted({name for names, _, _ in self._pending for name in names}, key=str.encode)
        code_of = {name: code for code, name in enumerate(names)}
        codes = [np.array([code_of[name] for name in n], np.int64)[columns[0]] for n, columns, _ in self._pending]
        columns = [np.concatenate(column) for column in zip(*(columns[1:] for _, columns, _ in self._pending), strict=True)]
        domain, bodies = np.concatenate(codes), Bodies.concatenate([bodies for _, _, bodies in self._pending])
        self._pending, self._bytes = [], 0
        order = _order(domain, columns[0], len(names))
        hi, lo, tokens, row, fragment, body_hash = (column[order] for column in columns)
        bodies = bodies.take(order)
        end = np.cumsum(bodies.size)
        sums = _sum_rows([hi, lo, tokens, row, fragment], body_hash)
        begin = np.searchsorted(domain[order], np.arange(len(names) + 1))
        footer = {"domains": names, "begin": begin.tolist(), "bodies": int(end[-1])}
        path = kept_file_path(self._part, self._kind, len(self._files))
        with self._store.writing(path) as staged, staged.open("wb", buffering=0) as file:
            for rows in np.split(np.arange(len(end)), np.flatnonzero(np.diff(end // GATHERED_BYTES)) + 1):
                _write_all(file, bodies.take(rows).gather().buffers()[2] or b"")
            _write_all(file, b"\0" * (-int(end[-1]) % 8))
            for column in (np.append(0, end), hi, lo, tokens, row, sums):
                _write_all(file, column.astype("<u8", copy=False).view(np.uint8))
            _write_all(file, fragment.astype("<i4").view(np.uint8))
            sealed = canonical_json({**footer, "sum": _sum_footer(footer)})
            _write_all(file, sealed + len(sealed).to_bytes(TAIL_BYTES, "little"))
            size = file.tell()
        self._files.append(KeptFile(path, size, len(end), kept_list_path(self._part, self._kind)))


def read_kept_parts(rows: RowStore, keys: Sequence[str]) -> tuple[KeptPart, ...]:
    """Those parts of a corpus of which all rows are kept; `keys` are the parts', in their order."""
    here = rows.store.list(KEPT_ROWS)
    kept = [KeptPart(number, files) for number, key in enumerate(keys) if (files := _read_list(rows, key, here)) is not None]
    return tuple(kept)


def read_kept_files(rows: RowStore, key: str) -> tuple[KeptFile, ...] | None:
    """The files of one part; None where its rows are not kept."""
    return _read_list(rows, key, rows.store.list(kept_part_folder(key)))


def _read_list(rows: RowStore, key: str, here: Mapping[str, int]) -> tuple[KeptFile, ...] | None:
    path = kept_list_path(key, rows.kind)
    record = read_record(rows.store, path) if path in here else {"format": None}
    if record["format"] != KEPT_FORMAT:
        return None
    files = type_adapter(tuple[KeptFile, ...]).validate_python(record["files"])
    return files if all(here.get(file.path) == file.bytes for file in files) else None


def summarise_kept_rows(rows: RowStore | None, keys: Sequence[str], reason: str) -> KeptSummary:
    """What is kept; `reason` says why the survey kept none of the parts that it read, if it kept none."""
    kept = read_kept_parts(rows, keys) if rows else ()
    return KeptSummary(sum(file.bytes for part in kept for file in part.files), len(kept), len(keys), reason)


def open_kept_file(store: Store, file: KeptFile) -> KeptRows:
    """The rows of a file. Raises InputError where it is damaged; it is removed then, with the list that names it."""
    return read_checked(store, lambda: _open(store, file), file.path, file.listed)


def check_kept_rows(store: Store, file: KeptFile, kept: KeptRows, rows: I64) -> None:
    """Raise InputError where one of these rows is not what was kept, and remove the file."""
    read_checked(store, lambda: kept.check(rows), file.path, file.listed)


def check_kept_files(store: Store, parts: Sequence[KeptPart]) -> None:
    """Read all kept rows. Raises InputError for the first file that is damaged, and removes it."""
    for file in (file for part in parts for file in part.files):

        def check(file: KeptFile = file) -> None:
            kept = _open(store, file)
            kept.check(np.arange(file.rows))
            domain = np.repeat(np.arange(len(kept.index.names)), np.diff(kept.index.begin))
            if not np.array_equal(_order(domain, kept.index.hi, len(kept.index.names)), np.arange(file.rows)):
                raise ChecksumError

        read_checked(store, check, file.path, file.listed)


def _open(store: Store, file: KeptFile) -> KeptRows:
    path = store.local(file.path)
    if path is None:
        raise InputError(f"{store.url}: kept rows are read on one machine only")
    data = pa.memory_map(str(path)).read_buffer()
    if data.size != file.bytes:
        raise ChecksumError
    tail = data.size - TAIL_BYTES
    footer = json.loads(bytes(memoryview(data)[tail - int.from_bytes(memoryview(data)[tail:], "little") : tail]))
    if footer.pop("sum") != _sum_footer(footer):
        raise ChecksumError
    at, columns = footer["bodies"] + -footer["bodies"] % 8, list[npt.NDArray[Any]]()
    for kind, number in (("<i8", file.rows + 1), ("<u8", file.rows), ("<u8", file.rows), ("<i8", file.rows), ("<i8", file.rows),
                         ("<u8", file.rows), ("<i4", file.rows)):  # fmt: skip
        columns.append(np.frombuffer(data, kind, number, at))
        at += columns[-1].nbytes
    offset, hi, lo, tokens, row, sums, fragment = columns
    index = HashIndex(tuple(footer["domains"]), np.array(footer["begin"], np.int64), hi)
    return KeptRows(index, lo, tokens, row, fragment, sums, offset, data.slice(0, footer["bodies"]))


def _order(domain: I64, hi: U64, domains: int) -> I64:
    """Rows by (domain, hi); equal ones stay in their order."""
    if domains > 1:
        return np.lexsort((hi, domain))
    order: I64 = np.argsort(hi)
    return order if np.diff(hi[order]).all() else np.argsort(hi, kind="stable")


def _sum_rows(columns: Sequence[npt.NDArray[Any]], body_hash: U64) -> U64:
    """(rows,) the sum of each row: of hi, lo, tokens, row, fragment and of the hash of its body."""
    return mix64([*columns, body_hash], KEPT_FORMAT)


def _sum_footer(footer: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(canonical_json(footer))


def _write_all(file: FileIO, data: Any) -> None:
    """An unbuffered file may take fewer bytes than it was given."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[file.write(rest) :]
