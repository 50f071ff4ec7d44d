"""Assemble: each shard's rows are taken out of kept rows and runs, put in their final order, encoded in every format, written.

The shard's receipt is written after its files, so a shard with a receipt is done. Memory: a task holds the rows of its shards,
and one of them four times over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import I64, byte_lengths
from chameleon_data.corpus.kept_rows import check_kept_files
from chameleon_data.corpus.parts import Part
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.errors import InputError
from chameleon_data.hashing import hex_digests
from chameleon_data.plan.layout import Layout
from chameleon_data.plan.packing import pack
from chameleon_data.plan.plan import Packing
from chameleon_data.plan.routing import locate, order_rows
from chameleon_data.plan.streams import anchors, span_of
from chameleon_data.shards.delivered import Delivered
from chameleon_data.shards.formats.files import Encoded, IndexEntry
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.lay_out import ShardSpec
from chameleon_data.shards.read_kept import KeptCorpus, read_kept_rows
from chameleon_data.shards.receipts import CopyCount, Receipt, ReceiptFile, write_receipt
from chameleon_data.shards.rows import TEXT_SCHEMA, content_hash, encode_domain_ids, sequence_schema
from chameleon_data.shards.runs import read_runs
from chameleon_data.store.checksummed import write_table
from chameleon_data.store.paths import DOMAIN_IDS, BuildFolder
from chameleon_data.store.slices import SlicedFile
from chameleon_data.store.store import Store


@dataclass(frozen=True)
class RowSource:
    """Where the rows of a build's shards are."""

    runs: tuple[SlicedFile, ...]
    """Runs of the parts whose rows are not kept. They lie in the build's store."""
    kept: KeptCorpus | None
    """The other parts; None where there are none."""


def write_shards(
    store: Store, build: BuildFolder, spec: ShardSpec, parts: Sequence[Part], source: RowSource, shards: range
) -> None:
    """Write these shards in every format of the recipe, each followed by its receipt."""
    with _kept_rows_checked_on_failure(source):
        delivered = _read_rows(store, spec, source, shards)
        for shard in shards:
            _write_shard(
                store, build, spec, parts, delivered.pop(0), shard
            )  # popped, so that the rows go before they are encoded


def hash_shard(store: Store, spec: ShardSpec, source: RowSource, shard: int) -> str:
    """`content_hash` of a shard, assembled and not written. Memory: the shard, twice over."""
    layout, number = spec.locate(shard)
    with _kept_rows_checked_on_failure(source):
        (rows,) = _read_rows(store, spec, source, range(shard, shard + 1))
        return content_hash(_assemble(spec, layout, number, rows).table)


def _read_rows(store: Store, spec: ShardSpec, source: RowSource, shards: range) -> list[Delivered]:
    """The rows of each shard."""
    runs = [Delivered.of_runs(rows) for rows in read_runs(store, source.runs, shards)]
    if source.kept is None:
        return runs
    kept = read_kept_rows(source.kept, spec, shards)
    return [Delivered.concatenate(both) for both in zip(runs, kept, strict=True)] if source.runs else kept


@contextmanager
def _kept_rows_checked_on_failure(source: RowSource) -> Iterator[None]:
    """A shard that lacks rows may lack them because a file of kept rows is damaged where it is searched: then that is said, and
    the file removed."""
    try:
        yield
    except InputError:
        if source.kept:
            check_kept_files(source.kept.store, source.kept.parts)
        raise


def encode_indexes(spec: ShardSpec, receipts: Sequence[Receipt]) -> dict[str, bytes]:
    """Path in the build's folder -> bytes of the numbers of the domains, and of the files that list the shards, in every format
    that has such files.

    `receipts` are all of the build, in order.
    """
    files = {DOMAIN_IDS: encode_domain_ids(spec.domain_ids)}
    for format in spec.shards.formats:
        for layout in spec.layouts:
            entries = [r.entries[format] for r in receipts if r.split == layout.plan.split]
            files |= {f"{format}/{name}": data for name, data in FORMATS[format].index(layout.plan.split, entries).items()}
    return files


def _write_shard(store: Store, build: BuildFolder, spec: ShardSpec, parts: Sequence[Part], rows: Delivered, shard: int) -> None:
    layout, number = spec.locate(shard)
    assembled = _assemble(spec, layout, number, rows)
    table, domain = assembled.table, assembled.domain
    if spec.shards.lineage:
        _write_lineage(store, build.lineage(layout.plan.split, number), parts, rows, assembled.documents)
    del rows
    files, entries = list[ReceiptFile](), dict[str, IndexEntry]()
    for format in spec.shards.formats:
        encoded = _encode(format, table, number, layout, spec)
        files += _write_files(store, build, format, encoded)
        entries[format] = encoded.entry
    receipt = Receipt(
        shard=shard,
        split=layout.plan.split,
        number=number,
        rows=table.num_rows,
        tokens=int(layout.tokens[number]),
        domain_rows=_sum_by_domain(layout, domain, np.ones(table.num_rows, np.int64)),
        domain_tokens=_sum_by_domain(layout, domain, table["tokens"].to_numpy().astype(np.int64)),
        copies=assembled.copies,
        content=content_hash(table),
        files=tuple(files),
        entries=entries,
    )
    write_receipt(store, build, receipt)


@dataclass(frozen=True)
class _Assembled:
    """The rows of one shard in their final order."""

    table: pa.Table
    domain: I64
    """(rows,) index in the layout."""
    documents: I64
    """(rows,) index, among the delivered rows, of the document that each row is or begins with."""
    copies: dict[str, CopyCount]


def _assemble(spec: ShardSpec, layout: Layout, number: int, rows: Delivered) -> _Assembled:
    packing, ids = layout.plan.packing, spec.domain_ids
    if packing is None:
        return _sort_rows(layout, ids, number, rows)
    return _pack_rows(layout, ids, packing, number, rows, spec.counter)


def _locate_rows(layout: Layout, number: int, columns: Mapping[str, Any]) -> tuple[I64, dict[str, CopyCount]]:
    """(documents,) offset of each in its stream; and the copies among them."""
    domain, epoch = (columns[name].astype(np.int64) for name in ("domain", "epoch"))
    offset, copy = locate(layout, number, domain, epoch, *(columns[name] for name in ("hi", "lo", "copy", "tokens")))
    shard_begin = np.array([stream.bounds[number] for stream in layout.streams])
    phase = np.array([stream.domain.phase for stream in layout.streams])[domain]
    begin, _ = span_of(phase, layout.plan.packing, offset, columns["tokens"])
    # A document that is packed across a bound counts in the shard where it begins.
    again = np.flatnonzero((epoch == 0) & (copy > 0) & (begin >= shard_begin[domain]))
    rows, most = np.zeros((2, len(layout.streams)), np.int64)
    np.add.at(rows, domain[again], 1)
    np.maximum.at(most, domain[again], copy[again] + 1)
    names = [stream.domain.name for stream in layout.streams]
    return offset, {names[i]: CopyCount(int(rows[i]), int(most[i])) for i in np.flatnonzero(rows).tolist()}


def _sort_rows(layout: Layout, ids: Mapping[str, int], number: int, rows: Delivered) -> _Assembled:
    """One row for each document."""
    columns = rows.columns
    domain, tokens = columns["domain"].astype(np.int64), columns["tokens"]
    offset, copies = _locate_rows(layout, number, columns)
    phase = np.array([s.domain.phase for s in layout.streams], np.int64)
    order = order_rows(domain, anchors(phase[domain], offset, tokens), [s.domain.quota for s in layout.streams])
    rows, domain, tokens = rows.take(order), domain[order], tokens[order]
    text = rows.bodies.gather().view(pa.large_string())
    table = pa.table([text, *_describe_rows(layout, ids, domain, rows.columns, tokens)], schema=TEXT_SCHEMA)
    return _Assembled(table, domain, order, copies)


def _pack_rows(
    layout: Layout, domain_ids: Mapping[str, int], packing: Packing, number: int, rows: Delivered, counter: TokenCounter
) -> _Assembled:
    """One row for each sequence; a sequence holds documents of one domain."""
    columns = rows.columns
    offset, copies = _locate_rows(layout, number, columns)
    stream_order = np.lexsort((offset, columns["domain"]))
    begins = np.searchsorted(columns["domain"][stream_order], np.arange(len(layout.streams) + 1))
    body = rows.bodies.take(stream_order).gather()
    id_ends = np.append(0, np.cumsum(columns["tokens"][stream_order]))
    flat = np.frombuffer(body.buffers()[2], counter.dtype, int(id_ends[-1]))
    counter.check_ends(flat, len(stream_order))
    sequences, documents = [], []
    for index, stream in enumerate(layout.streams):
        begin, end = begins[index : index + 2].tolist()
        document, ids = stream_order[begin:end], flat[id_ends[begin] : id_ends[end]]
        packed = pack(stream, number, packing, offset[document], columns["tokens"][document], ids, counter.required_end)
        sequences.append(packed)
        documents.append(document[packed.document])
    domain = np.repeat(np.arange(len(sequences)), [len(packed.tokens) for packed in sequences])
    order = order_rows(domain, np.concatenate([p.anchor for p in sequences]), [s.domain.quota for s in layout.streams])
    domain, tokens, first = (np.concatenate(c)[order] for c in ([domain], [p.tokens for p in sequences], documents))
    body = pa.array(np.concatenate([p.ids for p in sequences])[order].reshape(-1))
    schema = sequence_schema(packing.length, pa.from_numpy_dtype(counter.dtype))
    columns = {name: column[first] for name, column in columns.items()}
    begun, starts = (np.concatenate(c) for c in ([p.begun for p in sequences], [p.starts for p in sequences]))
    places = pa.array(np.append(0, np.cumsum(begun)), pa.int32())
    doc_starts = pa.ListArray.from_arrays(places, pa.array(starts, pa.uint32())).take(pa.array(order))
    described = _describe_rows(layout, domain_ids, domain, columns, tokens)
    table = pa.table([pa.FixedSizeListArray.from_arrays(body, packing.length), *described, doc_starts], schema=schema)
    return _Assembled(table, domain, first, copies)


def _describe_rows(
    layout: Layout, domain_ids: Mapping[str, int], domain: I64, columns: Mapping[str, Any], tokens: I64
) -> list[pa.Array]:
    """The columns of TEXT_SCHEMA after the first; `columns` as in RUN_SCHEMA."""
    names = [s.domain.name for s in layout.streams]
    numbers = np.array([domain_ids[name] for name in names], np.uint32)
    return [
        pc.take(pa.array(names, pa.string()), pa.array(domain)),
        pa.array(numbers[domain]),
        hex_digests(columns["hi"], columns["lo"]),
        pa.array(columns["epoch"], pa.uint32()),
        pa.array(tokens.astype(np.uint32)),
    ]


def _sum_by_domain(layout: Layout, domain: I64, values: I64) -> dict[str, int]:
    sums = np.zeros(len(layout.streams), np.int64)
    np.add.at(sums, domain, values)
    return {s.domain.name: int(n) for s, n in zip(layout.streams, sums, strict=True) if n}


def _write_lineage(store: Store, path: str, parts: Sequence[Part], rows: Delivered, documents: I64) -> None:
    """Where each row of a shard came from. Equal texts lie in several places, so this depends on how the corpus lies: it is no
    part of what the build's digest names, and may be written again."""
    part, fragment, row = (rows.columns[name][documents] for name in ("part", "fragment", "row"))
    places = list(zip(part.tolist(), fragment.tolist(), strict=True))
    urls = [parts[p].fragments[f].url for p, f in places]
    row = row + np.array([parts[p].first_rows[f] for p, f in places], np.int64)
    write_table(store, path, pa.table({"source": pa.array(urls, pa.string()), "row": pa.array(row, pa.int64())}))


def _encode(format: str, table: pa.Table, number: int, layout: Layout, spec: ShardSpec) -> Encoded:
    if format == "megatron" and "text" in table.column_names:
        table = tokenise_rows(table, spec.counter)
    return FORMATS[format].encode(table, number, layout.plan.shards, layout.plan.split, spec.shards.zstd_level)


def _write_files(store: Store, build: BuildFolder, format: str, encoded: Encoded) -> list[ReceiptFile]:
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
    counter.check_ends(flat, len(ids))
    offsets = np.append(0, np.cumsum(byte_lengths(ids))) // counter.dtype.itemsize
    return table.set_column(0, "input_ids", pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat)))
