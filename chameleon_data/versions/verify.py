"""Proof from the stored bytes alone that a version is what its manifest says; `checks` holds the single proofs.

Every file is read once, split by split and shard by shard in order. Proved of the bytes:

    files      size, sha256, and the name that the recipe gives; indexes say what the shards do; nothing else lies beside them
    rows       the same in all formats; texts have the hash of their `doc_id`; each lies in the split where its hash belongs;
               `domain_id` is the domain's number, and `doc_starts` are where documents begin
    balance    each domain keeps its bound in the whole, in every shard and after every row; domains interleave as planned
    order      each domain's rows follow the order of hashes, and every epoch holds the documents that the survey counted
    copies     with `dedup`, no document stands twice

Proved of the manifest: quotas, totals, digests, and the books of rows. What the bytes do not say is in
docs/decisions/061-what-verify-cannot-prove.md; `against_corpus.py` proves it with the corpus at hand.

Memory: two shards in each format. Cost: about 160 MB of text a second, and with `dedup` a second more for 3 million documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import I64, U64, byte_lengths
from chameleon_data.corpus.hash_partitions import DEDUP_ROWS_AT_ONCE, HashPartitions, partition_by_hash
from chameleon_data.shards.formats.files import IndexEntry
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.rows import DOC_STARTS, content_hash, encode_domain_ids, token_ids
from chameleon_data.store.paths import DOMAIN_IDS
from chameleon_data.store.store import Store
from chameleon_data.versions.against_corpus import ShardContents
from chameleon_data.versions.checks.balance import BalanceCheck, Deviation
from chameleon_data.versions.checks.books import check_manifest, check_shard_table, read_packing
from chameleon_data.versions.checks.copies import check_copies, hashed_documents
from chameleon_data.versions.checks.formats import read_shard
from chameleon_data.versions.checks.rows import check_split, check_texts, read_doc_ids
from chameleon_data.versions.checks.text_order import DocumentRows, TextOrderCheck
from chameleon_data.versions.checks.token_order import TokenOrderCheck
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.shard_table import ShardRecord, read_shards


@dataclass(frozen=True)
class Verification:
    """What `verify` found."""

    problems: tuple[str, ...]
    """One sentence each; empty where everything holds."""
    files: int
    """Files of shards that the manifest lists."""
    rows: int
    """Rows that were read, each in one format."""
    bytes: int
    """Bytes that were read."""
    whole: Deviation
    """The domain that is furthest from its quota, of all splits."""
    shard: Deviation
    """The worst shard of all splits."""
    prefix: Deviation
    """The worst row of all splits."""
    by_domain: dict[str, Deviation]
    """The worst row of each domain in the train split."""

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.problems


def verify_version(
    store: Store,
    manifest: Manifest,
    progress: Callable[[int, int], None] = lambda done, total: None,
    corpus: ShardContents | None = None,
) -> Verification:
    """Prove a version. Problems are collected, not raised, so that one run names them all.

    `progress` is called with (bytes done, all bytes). `corpus` says what each shard must hold (`against_corpus.py`).
    """
    done, total, proofs = 0, sum(sums.bytes for sums in manifest.formats.values()), []
    documents = sum(domain.rows_written_once for domain in manifest.domains.values())
    progress(0, total)
    for split in manifest.shard_counts:
        with partition_by_hash(documents, DEDUP_ROWS_AT_ONCE) as first_epoch:
            proof = _SplitProof(manifest, split, first_epoch, corpus)
            for shard in read_shards(store, manifest):
                if shard.split == split:
                    proof.add_shard(store, shard)
                    done += shard.bytes
                    progress(done, total)
            proof.end(store)
        proofs.append(proof)
    problems = [problem for proof in proofs for problem in proof.problems]
    problems += check_manifest(manifest)
    problems += check_shard_table(store, manifest)
    problems += _check_index(store, f"{manifest.build}/{DOMAIN_IDS}", encode_domain_ids(manifest.domain_ids), "the manifest says")
    problems += _find_foreign_files(store, manifest)
    balances = [proof.balance for proof in proofs]
    return Verification(
        tuple(dict.fromkeys(problems)),
        sum(sums.files for sums in manifest.formats.values()),
        sum(proof.rows for proof in proofs),
        sum(proof.bytes for proof in proofs),
        _worst(balance.whole for balance in balances),
        _worst(balance.shard for balance in balances),
        _worst(deviation for balance in balances for deviation in balance.prefix),
        {deviation.domain: deviation for deviation in balances[0].prefix},
    )


def _worst(deviations: Iterable[Deviation]) -> Deviation:
    return max(deviations, key=lambda deviation: deviation.share)


class _SplitProof:
    """The pass over the shards of one split, in order."""

    def __init__(self, manifest: Manifest, split: str, first_epoch: HashPartitions, corpus: ShardContents | None) -> None:
        """`first_epoch` takes the documents of the first epoch, to look for copies among them."""
        domains, seed, self._packing = manifest.split_domains(split), manifest.seed, read_packing(manifest.recipe.shards)
        self._manifest, self._split, self._corpus, self._first_epoch = manifest, split, corpus, first_epoch
        self._names = list(domains)
        self._domain_ids = np.array([manifest.domain_ids.get(name, -1) for name in self._names], np.int64)
        bounds = [self._packing.length if self._packing else d.largest_document for d in domains.values()]
        quotas = [d.target_tokens for d in domains.values()]
        self.balance = BalanceCheck(self._names, quotas, bounds, manifest.shard_counts[split], seed)
        self._texts, self._ids = list[TextOrderCheck](), list[TokenOrderCheck]()
        if self._packing is None:
            self._texts = [TextOrderCheck(name, d, seed) for name, d in domains.items()]
        else:
            ids = manifest.provenance.writer.ids
            end_of_text = -1 if ids is None else ids.end_of_text
            self._ids = [TokenOrderCheck(name, d, seed, self._packing, end_of_text) for name, d in domains.items()]
        self._entries: dict[str, list[IndexEntry]] = {format: [] for format in manifest.recipe.shards.formats}
        """Format -> what its index must say of each shard."""
        self.problems: list[str] = []
        self.rows = self.bytes = 0

    def add_shard(self, store: Store, record: ShardRecord) -> None:
        """Read the next shard in every format, and prove its rows."""
        shard = read_shard(store, self._manifest, self._packing, record)
        self.problems += shard.problems
        self.bytes += shard.bytes
        for format, entry in shard.entries.items():
            self._entries.setdefault(format, []).append(entry)
        if not shard.tables:
            return
        path, rows = shard.choose()
        self.rows += rows.num_rows
        if content_hash(rows) != record.content:
            self.problems.append(f"{path}: the documents and their order are not those of its 'content'")
        if self._corpus and self._corpus.get((self._split, record.shard)) != record.content:
            self.problems.append(f"{path}: does not hold the rows that the corpus gives it, in their order")
        if not rows.num_rows:
            self.problems.append(f"{path}: holds no row")
            return
        domain = pc.index_in(rows["domain"], pa.array(self._names, pa.string())).fill_null(-1).to_numpy().astype(np.int64)
        if (domain < 0).any():
            self.problems.append(f"{path}: holds a domain that the manifest does not name")
            return
        if (rows["domain_id"].to_numpy() != self._domain_ids[domain]).any():
            self.problems.append(f"{path}: a row's 'domain_id' is not the number that the manifest gives its domain")
        hi, lo, wrong = read_doc_ids(path, rows)
        self.problems += wrong
        if "text" in rows.column_names:
            self.problems += check_texts(path, rows, hi, self._manifest)
        self.problems += check_split(path, lo, self._manifest, self._split)
        tokens = rows["tokens"].to_numpy().astype(np.int64)
        first = self._follow_domains(path, rows, domain, tokens, hi, lo)
        if misplaced := self.balance.add(record.shard, domain, tokens, first):
            self.problems.append(f"{path}: {misplaced} stands before its place in the plan's order")

    def _follow_domains(self, path: str, rows: pa.Table, domain: I64, tokens: I64, hi: U64, lo: U64) -> I64:
        """Give each domain's rows to the check of its order; returns (rows,) the tokens that decide each row's anchor."""
        first, epoch = tokens.copy(), rows["epoch"].to_numpy().astype(np.int64)
        ids = token_ids(rows) if self._ids else None
        sizes = byte_lengths(rows["text"].combine_chunks()) if "text" in rows.column_names else None
        for index in range(len(self._names)):
            at = np.flatnonzero(domain == index)
            if not len(at):
                continue
            if ids is not None:
                check = self._ids[index]
                first[at] = check.count_first_piece(ids[at], tokens[at])
                starts = rows[DOC_STARTS].combine_chunks().take(pa.array(at))
                begun, begins = (
                    column.to_numpy().astype(np.int64) for column in (pc.list_value_length(starts), starts.flatten())
                )
                check.add(path, ids[at], tokens[at], epoch[at], hi[at], lo[at], begun, begins)
                continue
            documents = DocumentRows(hi[at], lo[at], epoch[at], tokens[at])
            self._texts[index].add(path, documents, None if sizes is None else sizes[at])
            if self._manifest.recipe.input.dedup != "none":
                once = at[epoch[at] == 0]
                size = tokens if sizes is None else sizes
                self._first_epoch.add(hashed_documents(index, hi[once], lo[once], size[once]))
        return first

    def end(self, store: Store) -> None:
        """What can be said once every shard was read."""
        for texts in self._texts:
            self.problems += texts.end()
        for ids in self._ids:
            self.problems += ids.end()
        self.problems += check_copies(self._first_epoch, self._manifest, self._names)
        self.problems += self.balance.find_broken_bounds()
        self.problems += _check_indexes(store, self._manifest, self._split, self._entries)


def _check_indexes(store: Store, manifest: Manifest, split: str, entries: Mapping[str, Sequence[IndexEntry]]) -> list[str]:
    """A trainer decodes by what an index says of the shards, so it must be, byte for byte, what the shards say."""
    problems = []
    for format, of_shards in entries.items():
        for name, expected in FORMATS[format].index(split, of_shards).items():
            path = f"{manifest.build}/{format}/{name}"
            problems += _check_index(store, path, expected, "the bytes of the shards say, in their order")
    return problems


def _check_index(store: Store, path: str, expected: bytes, who: str) -> list[str]:
    if not store.exists(path):
        return [f"{path}: missing"]
    return [] if store.read(path) == expected else [f"{path}: does not say what {who}"]


def _find_foreign_files(store: Store, manifest: Manifest) -> list[str]:
    """Files in the folders that trainers read, but not of this version."""
    known = {file.path for shard in read_shards(store, manifest) for file in shard.files}
    for format in manifest.recipe.shards.formats:
        folder = f"{manifest.build}/{format}"
        known |= {f"{folder}/{name}" for split in manifest.shard_counts for name in FORMATS[format].index(split, [])}
    return [
        f"{path}: this file is not part of this version"
        for format in sorted(manifest.recipe.shards.formats)
        for path in store.list(f"{manifest.build}/{format}")
        if path not in known
    ]
