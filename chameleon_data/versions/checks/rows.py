"""Rows by themselves: every text has the hash that its `doc_id` gives, its size in `tokens`, and lies in the right split."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import U64
from chameleon_data.corpus.kept_columns import ARROW_TYPES, encode_table_columns, mix_columns
from chameleon_data.corpus.selection import is_validation
from chameleon_data.corpus.tokens import load_token_counter
from chameleon_data.hashing import content_hashes, hex_digests
from chameleon_data.plan.plan import VALIDATION
from chameleon_data.shards.rows import kept_names
from chameleon_data.versions.manifest import Manifest


def read_doc_ids(path: str, rows: pa.Table) -> tuple[U64, U64, list[str]]:
    """(rows,) hashes of the documents in two halves, high and low, and what is wrong with `doc_id`; then the hashes are 0."""
    claimed = rows["doc_id"].combine_chunks()
    if not pc.all(pc.match_substring_regex(claimed, "^[0-9a-f]{32}$")).as_py():
        hi, lo = np.zeros((2, len(claimed)), np.uint64)
        return hi, lo, [f"{path}: a doc_id is not 32 hexadecimal digits"]
    halves = np.frombuffer(bytes.fromhex("".join(claimed.to_pylist())), ">u8").reshape(-1, 2).astype(np.uint64)
    return halves[:, 0].copy(), halves[:, 1].copy(), []


def check_texts(path: str, rows: pa.Table, hi: U64, manifest: Manifest) -> list[str]:
    """Texts and kept columns have the hashes of their `doc_id`, and where bytes are counted, `tokens` is their number.

    The columns are those of the manifest, and of its types.
    `hi` is the high half that `doc_id` claims. With `hash: id` it is the id's, which shards do not hold, so it is not proved.
    """
    problems = []
    text_hi, text_lo = content_hashes(rows["text"].combine_chunks())
    if [(name, rows.schema.field(name).type) for name in kept_names(rows.schema)] != [
        (name, ARROW_TYPES[column.kind]) for name, column in manifest.columns.items()
    ]:
        problems.append(f"{path}: its kept columns are not those of the manifest, or of other types")
    if manifest.columns:
        text_hi = mix_columns(text_hi, encode_table_columns(rows, kept_names(rows.schema)))
    expected = hex_digests(hi if manifest.hash == "id" else text_hi, text_lo)
    if not rows["doc_id"].combine_chunks().equals(expected):
        what = "a text, or its kept columns, are not those" if manifest.columns else "a text is not the one"
        problems.append(f"{path}: {what} that its doc_id names")
    if manifest.unit == "bytes":
        counter = load_token_counter(manifest.recipe.tokens, manifest.recipe.is_chat)
        if not np.array_equal(counter.count(rows["text"].combine_chunks()), rows["tokens"].to_numpy()):
            problems.append(f"{path}: a row's 'tokens' is not the length of its text in bytes")
    return problems


def check_split(path: str, lo: U64, manifest: Manifest, split: str) -> list[str]:
    """Documents lie on the side of the validation split where their hash belongs."""
    threshold = round(manifest.recipe.mix.validation * 2**64)
    if (is_validation(lo, threshold) != (split == VALIDATION)).any():
        return [f"{path}: holds a document whose hash belongs into the other split"]
    return []
