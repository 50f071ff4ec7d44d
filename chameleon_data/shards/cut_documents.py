"""The documents of the buckets that bounds of shards cut, out of the survey's records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from chameleon_data.arrays import I64
from chameleon_data.corpus.copies import COPIES_SCHEMA, read_range_copies
from chameleon_data.corpus.parts import Part
from chameleon_data.corpus.row_records import read_corpus_records
from chameleon_data.corpus.selection import Selection, select_records
from chameleon_data.plan.streams import DOCUMENTS_SCHEMA, bucket_of
from chameleon_data.store.store import Store


def read_cut_documents(store: Store, parts: Sequence[Part], selection: Selection, split: str, cut: Mapping[str, I64]) -> pa.Table:
    """Each distinct document of the cut buckets, by part, with its number of copies; schema DOCUMENTS_SCHEMA.

    `cut`: domain -> its buckets that a shard's bound cuts (`plan/streams.py`).
    """
    corpus, copies = selection.corpus, COPIES_SCHEMA.empty_table()
    if selection.drops_copies:
        groups = len(corpus.groups) - 1
        copies = pa.concat_tables([read_range_copies(store, selection.folder, n, groups) for n in range(corpus.ranges)])
    depth = {c.name: c.depth for c in selection.splits[split]}
    tables = []
    for side, rows in select_records(read_corpus_records(store, parts, corpus.domains), copies, selection.rules):
        if side != split:
            continue
        kept = np.zeros(len(rows), bool)
        for code in np.unique(rows.domain).tolist():
            mine, name = rows.domain == code, corpus.domains[code]
            kept[mine] = np.isin(bucket_of(rows.hi[mine], depth[name]), cut[name])
        some = rows.take(kept)
        columns = {"domain": some.domain, "hi": some.hi, "lo": some.lo, "tokens": some.tokens, "part": some.part.astype(np.int64)}
        tables.append(pl.DataFrame(columns))
    if not tables:
        return DOCUMENTS_SCHEMA.empty_table()
    found = pl.concat(tables).group_by(list(columns)).agg(copies=pl.len().cast(pl.Int64))
    named = found.with_columns(domain=pl.Series(corpus.domains, dtype=pl.String).gather(found["domain"]))
    return named.select(DOCUMENTS_SCHEMA.names).to_arrow().cast(DOCUMENTS_SCHEMA)
