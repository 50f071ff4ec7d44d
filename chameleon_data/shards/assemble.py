"""Assemble: the rows of a range of shards are taken out of kept rows and runs, and found to be those that the plan expects. Those
of each shard are put in their final order, encoded in every format, and written.

The range's receipt is written after its files, so a range with a receipt is done. Memory: a task holds the rows of its range, and
one shard of them four times over.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import I64, byte_lengths
from chameleon_data.corpus.conversations import decode_conversations
from chameleon_data.corpus.kept_columns import decode_columns, split_columns
from chameleon_data.corpus.kept_rows import check_kept_files
from chameleon_data.corpus.parts import PartList
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.errors import DefectError, InputError
from chameleon_data.hashing import hex_digests
from chameleon_data.plan.layout import Layout
from chameleon_data.plan.packing import fill_sequences, lay_in_sequences, pack
from chameleon_data.plan.plan import Packing
from chameleon_data.plan.routing import locate, order_rows
from chameleon_data.plan.streams import anchors, span_of
from chameleon_data.shards.delivered import Delivered
from chameleon_data.shards.formats.files import Encoded, IndexEntry
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.lay_out import ShardSpec
from chameleon_data.shards.levels import Place, RowSource, divide_place, find_layout, read_spilled
from chameleon_data.shards.read_kept import read_kept_rows
from chameleon_data.shards.receipts import CopyCount, Receipt, ReceiptFile, ReceiptRows, write_receipts
from chameleon_data.shards.rows import (
    INPUT_IDS,
    LABELS,
    LOSS_MASK,
    chat_schema,
    content_hash,
    encode_domain_ids,
    make_labels,
    sequence_schema,
    text_schema,
)
from chameleon_data.store.checksummed import write_table
from chameleon_data.store.paths import DOMAIN_IDS, BuildFolder
from chameleon_data.store.store import Store


def write_range(
    store: Store, build: BuildFolder, spec: ShardSpec, parts: PartList | None, source: RowSource, place: Place
) -> list[Receipt]:
    """Write the shards of a range in every format of the recipe, and then their receipts. Returns these.

    `parts` are those of the corpus, where the recipe asks for lineage.
    """
    receipts, held = list[Receipt](), Counter[str]()
    for shard, assembled in _assemble_range(store, build, spec, source, place):
        receipt = _write_shard(store, build, spec, parts, place.split, shard, assembled)
        held.update(receipt.domain_tokens)
        receipts.append(receipt)
    _check_expected(find_layout(store, build, spec, place.above), place.path[-1], held)
    write_receipts(store, build, receipts)
    return receipts


def _check_expected(layout: Layout, number: int, held: Mapping[str, int]) -> None:
    """Raise DefectError where a range does not hold the tokens that were planned for it; `held` is domain -> tokens."""
    for stream in layout.streams:
        name, expected = stream.domain.name, int(stream.tokens[number])
        if held.get(name, 0) != expected:
            first, last = layout.begins[number], layout.begins[number + 1] - 1
            raise DefectError(
                f"shards {first} to {last}: domain {name!r} has {held.get(name, 0):,} tokens where the plan says {expected:,}; "
                "nothing was published"
            )


def hash_range(store: Store, build: BuildFolder, spec: ShardSpec, source: RowSource, place: Place) -> list[str]:
    """`content_hash` of each shard of a range, assembled and not written."""
    return [content_hash(assembled.table) for _, assembled in _assemble_range(store, build, spec, source, place)]


def divide_large_range(store: Store, build: BuildFolder, spec: ShardSpec, source: RowSource, place: Place, group: int) -> None:
    """`levels.divide_place`, with the kept rows of the range."""
    with _kept_rows_checked_on_failure(source):
        kept = Delivered.concatenate([])
        if source.kept:
            kept = read_kept_rows(store, build, source.kept, spec, place, prove=False)
        divide_place(store, build, spec, source, kept, place, group)


def _assemble_range(
    store: Store, build: BuildFolder, spec: ShardSpec, source: RowSource, place: Place
) -> Iterator[tuple[int, _Assembled]]:
    """Each shard of a range, by its number in the split. Memory: the rows of the range, and a shard of them twice over."""
    layout, number = find_layout(store, build, spec, place.above), place.path[-1]
    with _kept_rows_checked_on_failure(source):
        rows = _read_rows(store, build, spec, source, place)
        offset, copy = _locate_rows(layout, number, rows.columns)
    shards = range(int(layout.begins[number]), int(layout.begins[number + 1]))
    plan, domain = layout.plan, rows.columns["domain"].astype(np.int64)
    bounds = np.array([d.bounds(plan.stage_shards, plan.packing, range(shards.start, shards.stop + 1)) for d in plan.domains])
    begin, end = span_of(layout.phases[domain], plan.packing, offset, rows.columns["tokens"])
    for place_of_shard, shard in enumerate(shards):
        first, behind = bounds[:, place_of_shard], bounds[:, place_of_shard + 1]
        here = np.flatnonzero((end >= first[domain]) & (begin < behind[domain]))
        counted = here[begin[here] >= first[domain[here]]]  # a document that is packed across a bound counts where it begins
        copies = _count_copies(layout, domain[counted], rows.columns["epoch"][counted], copy[counted])
        ours = list(zip(first.tolist(), behind.tolist(), strict=True))
        yield shard, _assemble(spec, layout, plan.stage_of(shard), ours, rows.take(here), offset[here], copies)


def _read_rows(store: Store, build: BuildFolder, spec: ShardSpec, source: RowSource, place: Place) -> Delivered:
    """The rows of a range."""
    spilled = read_spilled(store, build, spec, source, place, range(source.groups)) if source.runs else []
    found = [Delivered.of_runs(rows) for rows in spilled]
    if source.kept:
        found.append(read_kept_rows(store, build, source.kept, spec, place))
    return found[0] if len(found) == 1 else Delivered.concatenate(found)


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


def encode_indexes(spec: ShardSpec, receipts: Iterable[ReceiptRows]) -> dict[str, bytes]:
    """Path in the build's folder -> bytes of the numbers of the domains, and of the files that list the shards, in every format
    that has such files.

    `receipts` are all of the build, in order.
    """
    files, entries = {DOMAIN_IDS: encode_domain_ids(spec.domain_ids)}, defaultdict[tuple[str, str], list[IndexEntry]](list)
    for shards in (some.shards for some in receipts):
        for split, of_shard in zip(shards["split"].to_pylist(), shards["entries"].to_pylist(), strict=True):
            for format, entry in json.loads(of_shard).items():
                entries[format, split].append(entry)
    for format in spec.shards.formats:
        for layout in spec.layouts:
            index = FORMATS[format].index(layout.plan.split, entries[format, layout.plan.split])
            files |= {f"{format}/{name}": data for name, data in index.items()}
    return files


def _write_shard(
    store: Store, build: BuildFolder, spec: ShardSpec, parts: PartList | None, split: int, number: int, assembled: _Assembled
) -> Receipt:
    """Write the files of one shard, which has this number in its layout."""
    layout, table, domain = spec.layouts[split], assembled.table, assembled.domain
    named = layout.plan.first_shard + number
    if parts:
        _write_lineage(store, build.lineage(layout.plan.split, named), parts, assembled.origins)
    files, entries = list[ReceiptFile](), dict[str, IndexEntry]()
    for format in spec.shards.formats:
        encoded = _encode(format, table, named, layout, spec)
        files += _write_files(store, build, format, encoded)
        entries[format] = encoded.entry
    tokens = table["tokens"].to_numpy().astype(np.int64)
    return Receipt(
        shard=spec.first_shard(split) + number,
        split=layout.plan.split,
        number=named,
        rows=table.num_rows,
        tokens=int(tokens.sum()),
        domain_rows=_sum_by_domain(layout, domain, np.ones(table.num_rows, np.int64)),
        domain_tokens=_sum_by_domain(layout, domain, tokens),
        copies=assembled.copies,
        content=content_hash(table),
        files=tuple(files),
        entries=entries,
    )


@dataclass(frozen=True)
class _Assembled:
    """The rows of one shard in their final order."""

    table: pa.Table
    domain: I64
    """(rows,) index in the layout."""
    origins: dict[str, npt.NDArray[Any]]
    """(rows,) part, fragment and row of the document that each row is or begins with."""
    copies: dict[str, CopyCount]


def _assemble(
    spec: ShardSpec,
    layout: Layout,
    stage: int,
    bounds: Sequence[tuple[int, int]],
    rows: Delivered,
    offset: I64,
    copies: dict[str, CopyCount],
) -> _Assembled:
    """`bounds` are where the shard begins and ends in the stream of each domain; `offset` is (documents,)."""
    packing, ids = layout.plan.packing, spec.domain_ids
    if spec.counter.length:
        return _pack_conversations(layout, stage, ids, rows, offset, copies, spec)
    if packing is None:
        return _sort_rows(layout, stage, ids, rows, offset, copies, spec)
    return _pack_rows(layout, stage, ids, packing, bounds, rows, offset, copies, spec.counter)


def _locate_rows(layout: Layout, number: int, columns: Mapping[str, Any]) -> tuple[I64, I64]:
    """(documents,) offset of each in its stream, and its number among identical ones."""
    domain, epoch, copy = (columns[name].astype(np.int64) for name in ("domain", "epoch", "copy"))
    return locate(layout, number, domain, epoch, columns["hi"], columns["lo"], copy, columns["tokens"])


def _count_copies(layout: Layout, domain: I64, epoch: npt.NDArray[Any], copy: I64) -> dict[str, CopyCount]:
    again = np.flatnonzero((epoch == 0) & (copy > 0))
    rows, most = np.zeros((2, len(layout.streams)), np.int64)
    np.add.at(rows, domain[again], 1)
    np.maximum.at(most, domain[again], copy[again] + 1)
    names = [stream.domain.name for stream in layout.streams]
    return {names[i]: CopyCount(int(rows[i]), int(most[i])) for i in np.flatnonzero(rows).tolist()}


def _origins(columns: Mapping[str, Any], documents: I64) -> dict[str, npt.NDArray[Any]]:
    return {name: columns[name][documents] for name in ("part", "fragment", "row")}


def _sort_rows(
    layout: Layout,
    stage: int,
    ids: Mapping[str, int],
    rows: Delivered,
    offset: I64,
    copies: dict[str, CopyCount],
    spec: ShardSpec,
) -> _Assembled:
    """One row for each document."""
    domain, tokens = rows.columns["domain"].astype(np.int64), rows.columns["tokens"]
    order = order_rows(layout.plan, stage, domain, anchors(layout.phases[domain], offset, tokens))
    rows, domain, tokens = rows.take(order), domain[order], tokens[order]
    texts, kept = rows.bodies, list[pa.Array]()
    if spec.columns:
        texts, columns_of_rows = split_columns(rows.bodies)
        kept = decode_columns(columns_of_rows.gather(), spec.columns)
    body = texts.gather()
    described = [*_describe_rows(layout, ids, domain, rows.columns, tokens), *kept]
    columns_kept = zip(spec.columns, (column.type for column in kept), strict=True)
    if spec.messages:
        messages, tools = decode_conversations(body, spec.messages)
        table = pa.table([messages, *described[:5], tools, *kept], schema=chat_schema(messages.type, columns_kept))
    else:
        table = pa.table([body.view(pa.large_string()), *described], schema=text_schema(columns_kept))
    return _Assembled(table, domain, _origins(rows.columns, np.arange(len(order))), copies)


def _pack_rows(
    layout: Layout,
    stage: int,
    domain_ids: Mapping[str, int],
    packing: Packing,
    bounds: Sequence[tuple[int, int]],
    rows: Delivered,
    offset: I64,
    copies: dict[str, CopyCount],
    counter: TokenCounter,
) -> _Assembled:
    """One row for each sequence; a sequence holds documents of one domain."""
    columns = rows.columns
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
        tokens_of = columns["tokens"][document]
        packed = pack(stream.domain, packing, bounds[index], offset[document], tokens_of, ids, counter.required_end)
        sequences.append(packed)
        documents.append(document[packed.document])
    domain = np.repeat(np.arange(len(sequences)), [len(packed.tokens) for packed in sequences])
    order = order_rows(layout.plan, stage, domain, np.concatenate([p.anchor for p in sequences]))
    domain, tokens, first = (np.concatenate(c)[order] for c in ([domain], [p.tokens for p in sequences], documents))
    body = pa.array(np.concatenate([p.ids for p in sequences])[order].reshape(-1))
    schema = sequence_schema(packing.length, pa.from_numpy_dtype(counter.dtype))
    origins, columns = _origins(columns, first), {name: column[first] for name, column in columns.items()}
    begun, starts = (np.concatenate(c) for c in ([p.begun for p in sequences], [p.starts for p in sequences]))
    places = pa.array(np.append(0, np.cumsum(begun)), pa.int32())
    doc_starts = pa.ListArray.from_arrays(places, pa.array(starts, pa.uint32())).take(pa.array(order))
    described = _describe_rows(layout, domain_ids, domain, columns, tokens)
    table = pa.table([pa.FixedSizeListArray.from_arrays(body, packing.length), *described, doc_starts], schema=schema)
    return _Assembled(table, domain, origins, copies)


def _pack_conversations(
    layout: Layout,
    stage: int,
    domain_ids: Mapping[str, int],
    rows: Delivered,
    offset: I64,
    copies: dict[str, CopyCount],
    spec: ShardSpec,
) -> _Assembled:
    """One row for each sequence, which holds whole conversations of one domain.

    Why here: docs/decisions/185-conversations-packed-at-the-end.md.
    """
    counter, stream_order = spec.counter, np.lexsort((offset, rows.columns["domain"]))
    rows = rows.take(stream_order)
    columns, domain = rows.columns, rows.columns["domain"].astype(np.int64)
    anchor = anchors(layout.phases[domain], offset[stream_order], columns["tokens"])
    turns = [counter.turn_ids(text) for text in rows.bodies.gather().view(pa.large_string()).to_pylist()]
    all_ids = np.concatenate([np.zeros(0, counter.dtype), *(ids for ids, _ in turns)])
    all_masks = np.concatenate([np.zeros(0, np.uint8), *(mask for _, mask in turns)])
    size = np.array([len(ids) for ids, _ in turns], np.int64)
    first, sequence, place = fill_sequences(size, counter.length, domain)
    shape = len(first), counter.length
    order = order_rows(layout.plan, stage, domain[first], anchor[first])
    ids = lay_in_sequences(all_ids, size, sequence, place, shape, counter.required_end)[order]
    mask = lay_in_sequences(all_masks, size, sequence, place, shape, 0)[order]
    tokens = np.add.reduceat(columns["tokens"], first)[order] if len(first) else columns["tokens"]
    begun = pa.array(np.append(0, np.cumsum(np.bincount(sequence, minlength=len(first)))), pa.int32())
    doc_starts = pa.ListArray.from_arrays(begun, pa.array(place, pa.uint32())).take(pa.array(order))
    first = first[order]
    named = {name: column[first] for name, column in columns.items()}
    of_tokens = {INPUT_IDS: ids, LOSS_MASK: mask, **({LABELS: make_labels(ids, mask)} if spec.shards.labels else {})}
    body, *masks = (pa.FixedSizeListArray.from_arrays(pa.array(each.reshape(-1)), shape[1]) for each in of_tokens.values())
    schema = sequence_schema(shape[1], pa.from_numpy_dtype(counter.dtype), of_tokens)
    described = _describe_rows(layout, domain_ids, domain[first], named, tokens)
    table = pa.table([body, *described, doc_starts, *masks], schema=schema)
    return _Assembled(table, domain[first], _origins(columns, first), copies)


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


def _write_lineage(store: Store, path: str, parts: PartList, origins: Mapping[str, npt.NDArray[Any]]) -> None:
    """Where each row of a shard came from. Equal texts lie in several places, so this depends on how the corpus lies: it is no
    part of what the build's digest names, and may be written again."""
    of = {number: parts.read(number) for number in np.unique(origins["part"]).tolist()}
    places = list(zip(origins["part"].tolist(), origins["fragment"].tolist(), strict=True))
    urls = [of[p].fragments[f].url for p, f in places]
    row = origins["row"] + np.array([of[p].first_rows[f] for p, f in places], np.int64)
    write_table(store, path, pa.table({"source": pa.array(urls, pa.string()), "row": pa.array(row, pa.int64())}))


def _encode(format: str, table: pa.Table, number: int, layout: Layout, spec: ShardSpec) -> Encoded:
    if format == "megatron" and "text" in table.column_names:
        table = tokenise_rows(table, spec.counter)
    plan = layout.plan
    return FORMATS[format].encode(table, number, plan.named_shards, plan.split, spec.shards.zstd_level)


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
