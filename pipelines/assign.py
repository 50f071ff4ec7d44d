"""The assign pass, for `assign: embed`: every text is embedded and gets the topic whose centre is nearest, before the survey.

    topic of a text = argmin over c of |x - m_c|^2,   x the vector of one window of it, of length one, m_c the mean of a cluster

Each actor takes a part, reads it a block at a time, and records the topics of its texts by content hash; the reader looks them up
(`corpus/topics.py`). A topic is a function of the text, the clustering and the kind of machine alone, whatever the files and the
workers: a vector moves a little with the texts that are embedded beside it, so where two centres are as near up to `TOLERANCE`,
the text is embedded once more, alone. Memory: a block, and 20 bytes for each text of the part.
Why: docs/decisions/092-every-document-embedded.md.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from chameleon_data.arrays import F32, I64, U64, byte_lengths
from chameleon_data.corpus.conversations import shown_texts
from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.parts import PartList, part_bytes, split_parts, write_part_list
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.corpus.readers.rows import Block
from chameleon_data.corpus.sample import SampleSpec, cut_windows
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.corpus.topics import Assigned, label_texts, load_centres, load_topics
from chameleon_data.errors import DefectError, InputError
from chameleon_data.hashing import content_hashes
from chameleon_data.pipelines.embed import DOCUMENTS_TOGETHER
from chameleon_data.pipelines.engine import Engine, Progress, count_work, work_patiently
from chameleon_data.recipe import Embed, Input, LabelledSource, Source
from chameleon_data.store.checksummed import read_table, write_table
from chameleon_data.store.paths import unfinished_topics
from chameleon_data.store.store import Store
from chameleon_data.versions.streaming import TableFunction
from chameleon_data.weights.clustering import assign_exactly, assign_surely
from chameleon_data.weights.embedder import ColumnEmbedder, Device, Embedder, Precision, in_precision, load_embedder

TOLERANCE: dict[Precision, float] = {"float32": 1e-4, "tf32": 1e-2, "bfloat16": 3e-2}
"""Squared distance that what is embedded beside a text may move, with room: vectors of length one move by 2e-7 in float32."""
TOPICS_SECONDS = 30.0
"""Time between two records of a part that is not whole yet. A kill costs as much."""


def assign_topics(
    engine: Engine,
    store: Store,
    embed: Embed,
    fragments: Mapping[str, Sequence[Fragment]],
    sources: Mapping[str, LabelledSource],
    input: Input,
    spec: SampleSpec,
    counter: TokenCounter,
    embedder: Embedder | ColumnEmbedder | None,
    progress: Progress,
) -> None:
    """Record the topics of all texts, but for the parts of which they are recorded. `store` holds the list of parts.

    `embedder` is that of `embed`; where it is None, it is loaded if it is needed.

    Raises InputError where texts are to be embedded and the embedder is not the one that the clustering was made with.
    """
    parts = split_parts(fragments, sources, input, spec, counter, store)
    records = Store(next(iter(sources.values())).topics_url)
    todo = [number for number, part in enumerate(parts) if not records.exists(_record_of(part.read_as))]
    sizes = [part_bytes(part) for part in parts]
    done, total = sum(sizes) - sum(sizes[number] for number in todo), sum(sizes)
    if not todo:
        return
    embedder = embedder or load_embedder(embed)
    if isinstance(embedder, Embedder):
        embedder = in_precision(embedder, embed.dtype, engine.gpus > 0)
    if any(source.embedder != embedder.fingerprint for source in sources.values()):
        raise InputError(
            "domains: topics were assigned with another embedder, or in another precision; give its machine and model"
        )
    device: Device = "cuda" if engine.gpus and isinstance(embedder, Embedder) else "cpu"
    progress("assign", done, total)
    tables = [pa.table({"number": pa.array([number], pa.int64())}) for number in todo]
    make = partial(make_assigning, records, write_part_list(store, parts), embedder, device, input, spec)
    for answer in engine.stream(make, tables, device == "cuda"):
        done += sizes[answer["number"][0].as_py()]
        progress("assign", done, total)


def make_assigning(
    records: Store, parts: PartList, embedder: Embedder | ColumnEmbedder, device: Device, input: Input, spec: SampleSpec
) -> TableFunction:
    """What an actor does with a table that holds the number of a part."""
    if device == "cpu" and isinstance(embedder, Embedder):
        import torch

        torch.set_num_threads(1)

    def assign(table: pa.Table) -> pa.Table:
        work = partial(_assign_part, records, parts, embedder, device, input, spec)
        work_patiently(work, table["number"][0].as_py())
        return table

    return assign


def _record_of(source: Source) -> str:
    if not isinstance(source, LabelledSource) or source.assigned is None:
        raise DefectError("the topics of a part have no name")
    return source.assigned


def _assign_part(
    records: Store,
    parts: PartList,
    embedder: Embedder | ColumnEmbedder,
    device: Device,
    input: Input,
    spec: SampleSpec,
    number: int,
) -> None:
    """Record the topics of a part's texts; what an earlier try recorded is taken."""
    part = parts.read(number)
    source, path = part.read_as, _record_of(part.read_as)
    if not isinstance(source, LabelledSource):
        raise DefectError("a source without topics is to be labelled")
    unlabelled = Source(**source.model_dump(include=set(Source.model_fields)))
    batches = sorted(records.list(unfinished_topics(path)))
    known = Assigned.of(pa.concat_tables([Assigned.empty().table(), *(read_table(records, batch) for batch in batches)]))
    unrecorded: list[pa.Table] = []
    recorded = time.monotonic()
    for fragment in part.fragments:
        for block in read_blocks(fragment, unlabelled, input.max_document, vectors=spec.column):
            if not len(block.text):
                continue
            count_work("assign", {"rows": len(block.text), "bytes": int(byte_lengths(block.text).sum())})
            hi, lo = content_hashes(block.text)
            _, first = np.unique(lo, return_index=True)
            new = np.sort(first[~known.holds(hi[first], lo[first])])
            if not len(new):
                continue
            some = block.take(new, ())
            topic = _topics_of(some, hi[new], lo[new], source, part.source, embedder, device, spec)
            found = pa.table({"lo": lo[new], "hi": hi[new], "topic": topic.astype(np.int32)})
            unrecorded.append(found)
            known = Assigned.of(pa.concat_tables([known.table(), found]))
            if time.monotonic() - recorded >= TOPICS_SECONDS:
                batches.append(f"{unfinished_topics(path)}/{len(batches):06d}.parquet")
                write_table(records, batches[-1], pa.concat_tables(unrecorded))
                unrecorded, recorded = [], time.monotonic()
    write_table(records, path, known.table())
    records.remove(batches)


def _topics_of(
    block: Block,
    hi: U64,
    lo: U64,
    source: LabelledSource,
    name: str,
    embedder: Embedder | ColumnEmbedder,
    device: Device,
    spec: SampleSpec,
) -> I64:
    """(rows,) the topic of each text; by its words where the corpus brings no vector that can be used."""
    topics, centres = load_topics(source.topics_url, source.topics), load_centres(source.topics_url, source.topics)
    own = name if name in topics else ""
    if isinstance(embedder, Embedder):
        shown = shown_texts(block.text, spec.turns) if spec.turns else block.text
        windows = [[window] for window in cut_windows(shown, hi, lo, source.seed, source.window)]
        together = DOCUMENTS_TOGETHER[device]
        groups = [windows[at : at + together] for at in range(0, len(windows), together)]
        label, sure = assign_surely(_unit(embedder, groups, device), centres[own], TOLERANCE[embedder.dtype])
        unsure = np.flatnonzero(~sure)
        if len(unsure):
            label[unsure] = assign_exactly(_unit(embedder, [[windows[row]] for row in unsure], device), centres[own])
        return label
    if block.vectors is None:
        raise DefectError("the vectors of a block were not read")
    label = np.empty(len(lo), np.int64)
    present = block.vectors.is_valid().to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(present)
    vectors = block.vectors.filter(pa.array(present))
    width = centres[own].shape[1]
    if len(rows) and len(vectors.flatten()) != len(rows) * width:
        raise InputError(f"embed.column: {embedder.column!r} holds vectors of other lengths than {width} in source {name!r}")
    unit = _normalise(np.asarray(vectors.flatten(), np.float32).reshape(len(rows), width))
    label[rows], sure = assign_surely(unit, centres[own], TOLERANCE["float32"])
    label[rows[~sure]] = assign_exactly(unit[~sure], centres[own])
    if not present.all():
        missing = np.flatnonzero(~present)
        label[missing] = label_texts(topics[own], block.text.take(pa.array(missing)), source.seed, source.window)
    return label


def _unit(embedder: Embedder, groups: Sequence[Sequence[Sequence[str]]], device: Device) -> F32:
    return _normalise(np.concatenate(embedder.encode_groups(groups, device).vectors))


def _normalise(vectors: F32) -> F32:
    unit: F32 = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    return unit
