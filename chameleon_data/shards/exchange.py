"""The exchange: rows in the order of the corpus become rows in the order of the shards.

Two steps, because it is the one all-to-all. `spill` reads a part of the corpus again, gives every row its shards, and writes
*runs* (`runs.py`), in the order of the shards. `write_shards` takes a shard's rows out of all runs, puts them in their final
order, and writes the shard in each format, then its *receipt*. A part whose runs are recorded, and a shard whose receipt is
there, is not done again, whoever was killed. The runs live under the build's own folder on the store, so any worker reads any
run, and go when the version is committed.

Measured here first (144,000 rows, 355 MB, 16 shards, 2 cores): `groupby().map_groups()` of Ray Data 24.7 s, spilled runs 4.3 s.
With Ray 2.60, 1 GB of 195,000 rows, on a cluster that is up: 20.7 s and 5.1 s (`make bench`).
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import I64, U64, byte_lengths
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.corpus.readers.rows import Block
from chameleon_data.corpus.selection import CopyFilter, SelectionRules, is_validation
from chameleon_data.corpus.survey import Part, document_hashes, drop_rows_without_tokens, read_documents
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.errors import InputError
from chameleon_data.hashing import hex_digests
from chameleon_data.plan.packing import pack
from chameleon_data.plan.plan import Packing
from chameleon_data.plan.routing import CopyCounter, locate, order_rows, route
from chameleon_data.plan.streams import Layout, anchors, span_of
from chameleon_data.recipe import Recipe
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.receipts import CopyCount, Receipt, ReceiptFile, write_receipt
from chameleon_data.shards.rows import ROW_OVERHEAD, TEXT_SCHEMA, Encoded, IndexEntry, sequence_schema
from chameleon_data.shards.runs import RUN_BYTES, RUN_SCHEMA, Run, read_runs, read_runs_listed, write_run, write_run_list
from chameleon_data.store.checksummed import read_groups, read_record, write_table
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import Store

ROUTED_AT_ONCE = 16 * 2**20


@dataclass(frozen=True)
class ShardSpec:
    """What every task of an exchange knows."""

    recipe: Recipe
    layouts: tuple[Layout, ...]
    """One a split; shards are numbered through all of them."""
    rules: SelectionRules
    counter: TokenCounter

    def locate(self, shard: int) -> tuple[Layout, int]:
        """The split that shard `shard` of all belongs to, and its number there."""
        for layout in self.layouts:
            if shard < layout.plan.shards:
                return layout, shard
            shard -= layout.plan.shards
        raise IndexError(shard)


def spill(store: Store, build: BuildFolder, job: ShardSpec, number: int, part: Part, copies: pa.Table) -> None:
    """Read part `number` again and write its rows, each with its destination, as runs.

    `copies` are the part's (`selection.copies_in_part`). Memory: they, one run and a block. Raises InputError where a row is not
    the one that was surveyed.
    """
    recipe = job.recipe
    spiller = _Spiller(store, build.run_prefix(part.key), job, number, copies)
    with _surveyed_again(store, part):
        recorded = _Recorded(store, part)
        for index, fragment in enumerate(part.fragments):
            for read in read_blocks(fragment, recipe.sources[part.source], recipe.input.max_document):
                hi, lo = document_hashes(read, recipe.input.hash)
                tokens = recorded.tokens(hi, lo, fragment.url)
                block, (hi, lo, tokens) = drop_rows_without_tokens(read, tokens, [hi, lo, tokens])
                recorded.see(block)
                code, names = pa.array(block.domain, pa.int32()), pa.array(block.names, pa.large_string())
                spiller.add(pa.DictionaryArray.from_arrays(code, names), block.text, hi, lo, tokens, block.rows, index)
        recorded.end(part)
    write_run_list(store, build.run_list(part.key), spiller.end())


def spill_records(store: Store, build: BuildFolder, job: ShardSpec, number: int, part: Part, copies: pa.Table) -> None:
    """The same runs without texts, from the survey's record of the part alone: what decides where each row of text stands."""
    spiller = _Spiller(store, build.run_prefix(part.key), job, number, copies)
    for documents in read_documents(store, part):
        names = documents["domain"].cast(pl.String).to_arrow().cast(pa.large_string()).dictionary_encode()
        nothing = pa.repeat(pa.scalar("", pa.large_string()), len(documents))
        hi, lo, tokens = (documents[name].to_numpy() for name in ("hi", "lo", "tokens"))
        spiller.add(names, nothing, hi, lo, tokens, np.arange(len(documents)), 0)
    write_run_list(store, build.run_list(part.key), spiller.end())


class _Spiller:
    """Collects the rows of one part, each with its destination, and writes a run whenever there are enough."""

    def __init__(self, store: Store, prefix: str, job: ShardSpec, part: int, copies: pa.Table) -> None:
        self._store, self._prefix, self._job, self._part = store, prefix, job, part
        self._index = {s.domain.name: i for i, s in enumerate(job.layouts[0].streams)}  # the same domains in every split
        self._counters = [CopyCounter(layout.slots, part) for layout in job.layouts]
        self._first_shard = np.cumsum([0, *(layout.plan.shards for layout in job.layouts)]).tolist()
        self._dropping = CopyFilter(copies)
        self._pending: list[tuple[I64, pa.Table]] = []
        self._bytes = 0
        self._files: list[tuple[str, int]] = []

    def add(
        self, names: pa.DictionaryArray, text: pa.Array, hi: U64, lo: U64, tokens: I64, number: I64, fragment: int
    ) -> None:  # fmt: skip
        """The usable rows of a block. Those of a domain that was not surveyed are for `_Recorded.end` to refuse."""
        index = np.array([self._index.get(name, -1) for name in names.dictionary.to_pylist()], np.int64)
        domain = index[names.indices.to_numpy()]
        rows = np.flatnonzero((domain >= 0) & self._dropping.mask(names, hi, lo))
        sides = [rows]
        if self._job.rules.threshold:
            held = is_validation(lo[rows], self._job.rules.threshold)
            sides = [rows[~held], rows[held]]
        for split, mine in enumerate(sides):
            if len(mine):
                some = text if len(mine) == len(hi) else text.take(pa.array(mine))
                self._route(split, domain[mine], some, hi[mine], lo[mine], tokens[mine], number[mine], fragment)

    def _route(
        self, split: int, domain: I64, text: pa.Array, hi: U64, lo: U64, tokens: I64, number: I64, fragment: int
    ) -> None:  # fmt: skip
        """In slices, because with many epochs a block is written many times over."""
        layout = self._job.layouts[split]
        if layout.plan.packing:
            tokens = tokens + 1  # end-of-text
        copy = self._counters[split].number(domain, hi, lo)
        for row, epoch, shard in route(layout.slots, domain, hi, lo, copy):
            shard = shard + self._first_shard[split]
            body, row_of = text, row
            if layout.plan.packing:
                needed, row_of = np.unique(row, return_inverse=True)
                body = self._ids(text.take(pa.array(needed)), tokens[needed])
            slices = np.cumsum(byte_lengths(body)[row_of] + ROW_OVERHEAD) // ROUTED_AT_ONCE
            for some in np.split(np.arange(len(row)), np.flatnonzero(np.diff(slices)) + 1) if len(row) else ():
                some = some[np.argsort(shard[some], kind="stable")]
                r, n = row[some], len(some)
                columns = [
                    domain[r].astype(np.int32), epoch[some].astype(np.uint32), hi[r], lo[r], copy[r], tokens[r],
                    np.full(n, self._part, np.int32), np.full(n, fragment, np.int32), number[r],
                    body.take(pa.array(row_of[some])).cast(pa.large_binary()),
                ]  # fmt: skip
                self._put(shard[some], pa.table(columns, schema=RUN_SCHEMA))

    def _ids(self, text: pa.Array, tokens: I64) -> pa.Array:
        ids = self._job.counter.ids(text)
        if not np.array_equal(byte_lengths(ids), tokens * self._job.counter.dtype.itemsize):
            raise InputError("tokens.tokenizer: it made other numbers of tokens than when it counted; use a deterministic one")
        return ids

    def _put(self, shard: I64, table: pa.Table) -> None:
        self._pending.append((shard, table))
        self._bytes += table.nbytes  # of documents of a word, the columns beside them are most of it
        if self._bytes >= RUN_BYTES:
            self._write()

    def _write(self) -> None:
        path = f"{self._prefix}-{len(self._files)}.run"
        self._files.append(write_run(self._store, path, self._pending, self._first_shard[-1]))
        self._pending, self._bytes = [], 0

    def end(self) -> list[tuple[str, int]]:
        """The part's runs."""
        if self._pending:
            self._write()
        return self._files


@contextmanager
def _surveyed_again(store: Store, part: Part) -> Iterator[None]:
    """A part that is not what its record says loses the record, so that the next build surveys it anew."""
    try:
        yield
    except InputError:
        store.remove([part.path("summary.json")])
        raise


class _Recorded:
    """The survey's rows of a part, walked in step with a second reading of it."""

    def __init__(self, store: Store, part: Part) -> None:
        self._batches = read_groups(store, part.path("documents.parquet"), ["hi", "lo", "tokens"])
        tallies = read_record(store, part.path("summary.json"))["tallies"]
        self._rows = {name: tally["rows"] for name, tally in tallies.items() if tally["rows"]}
        self._seen: collections.Counter[str] = collections.Counter()
        """Domain -> usable rows of the second reading."""
        self._ahead: list[Any] = [np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64)]

    def _fill(self, rows: int) -> None:
        while len(self._ahead[0]) < rows:
            batch = next(self._batches, None)
            if batch is None:
                return
            self._ahead = [np.concatenate([a, c.to_numpy()]) for a, c in zip(self._ahead, batch.columns, strict=True)]

    def tokens(self, hi: U64, lo: U64, url: str) -> I64:
        """Tokens of the next rows, which must have these hashes. The survey counted: a tokenizer is 30 times slower than a
        parser."""
        self._fill(len(hi))
        (known_hi, known_lo, tokens), self._ahead = [a[: len(hi)] for a in self._ahead], [a[len(hi) :] for a in self._ahead]
        if not (np.array_equal(known_hi, hi) and np.array_equal(known_lo, lo)):
            raise InputError(
                f"{url}: not the documents that the survey read; the file changed during the build. Build again once it rests"
            )
        return np.asarray(tokens, np.int64)

    def see(self, block: Block) -> None:
        """Count the usable rows of a block."""
        for name, rows in zip(block.names, np.bincount(block.domain, minlength=len(block.names)).tolist(), strict=True):
            if rows:
                self._seen[name] += rows

    def end(self, part: Part) -> None:
        self._fill(1)
        if len(self._ahead[0]) or self._seen != self._rows:
            raise InputError(
                f"{part.fragments[-1].url}: fewer documents, or in other domains, than the survey read; the file changed during "
                "the build. Build again once it rests"
            )


def read_run_lists(store: Store, build: BuildFolder, parts: Sequence[Part]) -> tuple[Run, ...]:
    """What `spill` left of all parts."""
    return read_runs_listed(store, [build.run_list(part.key) for part in parts])


def write_shards(
    store: Store, build: BuildFolder, job: ShardSpec, parts: Sequence[Part], runs: Sequence[Run], shards: range
) -> None:
    """These shards in every format of the recipe, each followed by its receipt. Memory: all of them, and one four times over."""
    tables = read_runs(store, runs, shards)
    for shard in shards:
        _write_shard(store, build, job, parts, tables.pop(0), shard)  # which so goes before anything is encoded


def shard_content(store: Store, job: ShardSpec, runs: Sequence[Run], shard: int) -> str:
    """`content_hash` of a shard, made from the runs again and written nowhere. Memory: the shard, twice over."""
    layout, number = job.locate(shard)
    (rows,) = read_runs(store, runs, range(shard, shard + 1))
    return content_hash(_make(layout, number, rows, job.counter).table)


def _write_shard(store: Store, build: BuildFolder, job: ShardSpec, parts: Sequence[Part], rows: pa.Table, shard: int) -> None:
    """The receipt is the promise that the shard's files are whole: it is written last and create-only."""
    layout, number = job.locate(shard)
    made = _make(layout, number, rows, job.counter)
    if job.recipe.shards.lineage:
        _write_lineage(store, build.lineage(layout.plan.split, number), parts, rows, made.documents)
    del rows
    files, entries = list[ReceiptFile](), dict[str, IndexEntry]()
    for format in job.recipe.shards.formats:
        encoded = _encode(format, made.table, number, layout, job)
        files += _put_files(store, build, format, encoded)
        entries[format] = encoded.entry
    receipt = Receipt(
        shard=shard,
        split=layout.plan.split,
        number=number,
        rows=made.table.num_rows,
        tokens=int(layout.tokens[number]),
        domain_rows=_by_domain(layout, made.domain, np.ones(made.table.num_rows, np.int64)),
        domain_tokens=_by_domain(layout, made.domain, made.table["tokens"].to_numpy().astype(np.int64)),
        copies=made.copies,
        content=content_hash(made.table),
        files=tuple(files),
        entries=entries,
    )
    write_receipt(store, build, receipt)


@dataclass(frozen=True)
class _Made:
    """The rows of one shard."""

    table: pa.Table
    domain: I64
    """(rows,) index in the layout."""
    documents: I64
    """(rows,) which of the documents that came each row is, or begins with."""
    copies: dict[str, CopyCount]


def _make(layout: Layout, number: int, rows: pa.Table, counter: TokenCounter) -> _Made:
    packing = layout.plan.packing
    return _sequences(layout, packing, number, rows, counter) if packing else _documents(layout, number, rows)


def _located(layout: Layout, number: int, columns: Mapping[str, Any]) -> tuple[I64, dict[str, CopyCount]]:
    """(documents,) offset of each in its stream; and the copies among them."""
    domain, epoch = (columns[name].astype(np.int64) for name in ("domain", "epoch"))
    offset, copy = locate(layout, number, domain, epoch, *(columns[name] for name in ("hi", "lo", "copy", "tokens")))
    begun = np.array([stream.bounds[number] for stream in layout.streams])
    phase = np.array([stream.domain.phase for stream in layout.streams])[domain]
    begin, _ = span_of(phase, layout.plan.packing, offset, columns["tokens"])
    again = np.flatnonzero((epoch == 0) & (copy > 0) & (begin >= begun[domain]))  # packed across a bound: where it begins
    rows, most = np.zeros((2, len(layout.streams)), np.int64)
    np.add.at(rows, domain[again], 1)
    np.maximum.at(most, domain[again], copy[again] + 1)
    return offset, {layout.streams[i].domain.name: CopyCount(int(rows[i]), int(most[i])) for i in np.flatnonzero(rows).tolist()}


def _documents(layout: Layout, number: int, rows: pa.Table) -> _Made:
    """A row a document."""
    columns = {name: rows[name].to_numpy() for name in RUN_SCHEMA.names if name != "body"}
    domain, tokens = columns["domain"].astype(np.int64), columns["tokens"]
    offset, copies = _located(layout, number, columns)
    phase = np.array([s.domain.phase for s in layout.streams], np.int64)
    order = order_rows(domain, anchors(phase[domain], offset, tokens), [s.domain.quota for s in layout.streams])
    text = rows["body"].take(pa.array(order)).combine_chunks().cast(pa.large_string())
    columns = {name: column[order] for name, column in columns.items()}
    return _Made(_table(TEXT_SCHEMA, text, layout, domain[order], columns, tokens[order]), domain[order], order, copies)


def _sequences(layout: Layout, packing: Packing, number: int, rows: pa.Table, counter: TokenCounter) -> _Made:
    """A row a sequence, of one domain each."""
    columns = {name: rows[name].to_numpy() for name in RUN_SCHEMA.names if name != "body"}
    offset, copies = _located(layout, number, columns)
    stream_order = np.lexsort((offset, columns["domain"]))  # one take for all domains: each would join all chunks of the runs
    begins = np.searchsorted(columns["domain"][stream_order], np.arange(len(layout.streams) + 1))
    body = rows["body"].take(pa.array(stream_order)).combine_chunks()
    id_ends = np.append(0, np.cumsum(columns["tokens"][stream_order]))
    flat = np.frombuffer(body.buffers()[2], counter.dtype, int(id_ends[-1]))
    ids, tokens, anchor, document, domain = [], [], [], [], []
    for index, stream in enumerate(layout.streams):
        first, end = begins[index : index + 2].tolist()
        mine, some = stream_order[first:end], flat[id_ends[first] : id_ends[end]]
        packed = pack(stream, number, packing, offset[mine], columns["tokens"][mine], some, counter.required_end)
        ids.append(packed.ids)
        tokens.append(packed.tokens)
        anchor.append(packed.anchor)
        document.append(mine[packed.document])
        domain.append(np.full(len(packed.tokens), index))
    of, counted, first = np.concatenate(domain), np.concatenate(tokens), np.concatenate(document)
    order = order_rows(of, np.concatenate(anchor), [s.domain.quota for s in layout.streams])
    schema = sequence_schema(packing.length, pa.from_numpy_dtype(counter.dtype))
    body = pa.array(np.concatenate(ids)[order].reshape(-1))
    columns = {name: column[first[order]] for name, column in columns.items()}
    table = _table(schema, pa.FixedSizeListArray.from_arrays(body, packing.length), layout, of[order], columns, counted[order])
    return _Made(table, of[order], first[order], copies)


def _table(
    schema: pa.Schema, body: pa.Array, layout: Layout, domain: I64, columns: Mapping[str, Any], tokens: I64
) -> pa.Table:  # fmt: skip
    """Rows in their order as the formats take them; `columns` as in RUN."""
    names = pa.array([s.domain.name for s in layout.streams], pa.string())
    doc_id = hex_digests(columns["hi"], columns["lo"])
    epoch, counted = pa.array(columns["epoch"], pa.uint32()), pa.array(tokens.astype(np.uint32))
    return pa.table([body, pc.take(names, pa.array(domain)), doc_id, epoch, counted], schema=schema)


def _by_domain(layout: Layout, domain: I64, values: I64) -> dict[str, int]:
    sums = np.zeros(len(layout.streams), np.int64)
    np.add.at(sums, domain, values)
    return {s.domain.name: int(n) for s, n in zip(layout.streams, sums, strict=True) if n}


def _write_lineage(store: Store, path: str, parts: Sequence[Part], rows: pa.Table, documents: I64) -> None:
    """Where each row of a shard came from. Equal texts lie in several places, and this depends on how the corpus lies: so it is
    no part of the build that its digest names, and may be written again."""
    found = rows.select(["part", "fragment", "row"]).take(pa.array(documents)).to_pydict()
    urls = [parts[part].fragments[fragment].url for part, fragment in zip(found["part"], found["fragment"], strict=True)]
    write_table(store, path, pa.table({"source": pa.array(urls, pa.string()), "row": pa.array(found["row"], pa.int64())}))


def content_hash(table: pa.Table) -> str:
    """sha256 over the ordered (domain, content hash, epoch, tokens) of a shard; says nothing of formats or libraries.

    Each column by itself, since that is what Arrow holds: the domain names and hashes as text with a newline each, epoch and
    tokens as little-endian uint32, and where rows are sequences their ids, as little-endian uint32 too.
    """
    digest = hashlib.sha256()
    for name in ("domain", "doc_id"):
        digest.update("\n".join([*table[name].to_pylist(), ""]).encode())
    for name in ("epoch", "tokens"):
        digest.update(table[name].to_numpy().astype("<u4").tobytes())
    if "input_ids" in table.column_names and pa.types.is_fixed_size_list(table.schema.field("input_ids").type):
        digest.update(pc.list_flatten(table["input_ids"]).to_numpy().astype("<u4").tobytes())
    return digest.hexdigest()


def _encode(format: str, table: pa.Table, number: int, layout: Layout, job: ShardSpec) -> Encoded:
    if format == "megatron" and "text" in table.column_names:
        table = tokenise_rows(table, job.counter)
    plan = layout.plan
    return FORMATS[format].encode(table, number, plan.shards, plan.split, job.recipe.shards.compression)


def _put_files(store: Store, build: BuildFolder, format: str, encoded: Encoded) -> list[ReceiptFile]:
    """Write the files of one shard in one format."""
    files = []
    for name, data in encoded.files.items():
        path = f"{format}/{name}"
        store.write_new(build.file(path), data)
        files.append(ReceiptFile(path, format, data.size, hashlib.sha256(data).hexdigest()))
    return files


def tokenise_rows(table: pa.Table, counter: TokenCounter) -> pa.Table:
    """Rows of text as rows of token ids, each ending in end-of-text; `tokens` stays without it."""
    ids = counter.ids(table["text"].combine_chunks())
    flat = np.frombuffer(ids.buffers()[2] or b"", counter.dtype)
    offsets = np.append(0, np.cumsum(byte_lengths(ids))) // counter.dtype.itemsize
    return table.set_column(0, "input_ids", pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat)))


def encode_indexes(job: ShardSpec, receipts: Sequence[Receipt]) -> dict[str, bytes]:
    """Path in the build's folder -> bytes of the files that list the shards, in every format that has such."""
    found: dict[str, bytes] = {}
    for format in job.recipe.shards.formats:
        for layout in job.layouts:
            entries = [r.entries[format] for r in receipts if r.split == layout.plan.split]
            found |= {f"{format}/{name}": data for name, data in FORMATS[format].index(layout.plan.split, entries).items()}
    return found
