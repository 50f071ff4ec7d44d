"""Proof from the stored bytes alone that a version is what its manifest says.

Read once, split by split and shard by shard in order. Proved of the bytes: every file has its size and sha256 and the name that
the recipe gives it; the formats hold the same rows, and their indexes say what the shards do; every text has the hash that its
`doc_id` claims, and lies on the side of the validation split where its hash belongs; each domain's tokens keep the bounds of
`plan.py` in the whole, in every shard and after every row; the domains interleave as planned, and each domain's rows follow the
order of hashes of `streams.py`; every whole epoch is the documents that the survey counted, and a last epoch that is not whole
is, bucket by bucket, what the first one held; and with `dedup` no document stands twice, in its domain or in all of them. Proved
of the manifest: quotas follow from weights and budget, totals from the rows, the plan digest from the plan, the books of rows
balance, and nothing else lies in the folders that trainers read.

Not proved, since the bytes do not say it (`against_corpus.py` proves it with the corpus): that the counts of the survey are those
of the corpus, so that an invented document in a domain of less than one epoch cannot be told; in the one bucket of each domain
that the quota cuts (16 documents, about), which documents stand in it and in what order, beyond their tokens. Packed sequences do
not say which documents their ids are of: of those it is proved that each whole epoch has as many documents and the same ids as
the first one, and that the documents which rows name follow each other bucket by bucket; of a last epoch that is not whole, its
tokens; and nothing of copies.

Memory: two shards in each format, and with `dedup` 2^24 rows of 28 bytes, which the first epoch's documents take on a local disk.
Cost: about 160 MB of text a second, and with `dedup` a second more for each 3 million documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from chameleon_data.arrays import I64, U64, byte_lengths
from chameleon_data.corpus.hash_partitions import HashedRows, HashPartitions, partition_by_hash, select_repeated_hashes
from chameleon_data.corpus.selection import DEDUP_ROWS_AT_ONCE, is_validation
from chameleon_data.errors import InputError
from chameleon_data.hashing import content_hashes, hex_digests
from chameleon_data.plan.plan import (
    TRAIN,
    VALIDATION,
    DomainPlan,
    Packing,
    Plan,
    bucket_bits,
    phase_of,
    quota_of,
    whole_sequences,
)
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.lay_out import build_digest
from chameleon_data.shards.rows import INPUT_IDS, content_hash, token_ids
from chameleon_data.store.paths import BUILDS
from chameleon_data.store.store import Store
from chameleon_data.versions.against_corpus import ShardContents
from chameleon_data.versions.make_manifest import digest_contents, digest_files
from chameleon_data.versions.row_order import BalanceCheck, Deviation, TextOrderCheck, TokenOrderCheck

_DOCUMENT = np.dtype([("lo", "<u8"), ("hi", "<u8"), ("size", "<i8"), ("domain", "<i4")])
"""`size` is in bytes, or in tokens where the rows do not hold their text."""


@dataclass(frozen=True)
class Verification:
    problems: tuple[str, ...]
    """One sentence each; empty where everything holds."""
    files: int
    rows: int
    bytes: int
    whole: Deviation
    shard: Deviation
    prefix: Deviation
    """The worst points of all splits."""
    by_domain: dict[str, Deviation]
    """The worst prefix of each domain in the train split."""

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class _Proof:
    """What the pass over one split found."""

    problems: list[str]
    balance: BalanceCheck
    contents: list[str]
    rows: int
    bytes: int


def verify_version(
    store: Store,
    manifest: Mapping[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
    corpus: ShardContents | None = None,
) -> Verification:
    """Prove a version. Problems are collected, not raised, so that one run names them all.

    `corpus` says what each shard must hold, from the corpus itself (`against_corpus.py`).
    """
    counts = manifest["shard_counts"]
    done, total, proofs = 0, sum(counts.values()), []
    rows = sum(d["rows_written_once"] for d in manifest["domains"].values())
    for split in counts:
        before = done

        def step(n: int, before: int = before) -> None:
            progress(before + n, total)

        with partition_by_hash(rows, DEDUP_ROWS_AT_ONCE) as partitions:
            proofs.append(_prove(store, manifest, split, step, corpus, partitions))
        done += counts[split]
    problems = [p for proof in proofs for p in proof.problems]
    problems += _check_books(manifest) + _check_plan(manifest) + _check_files(manifest)
    contents = [c for proof in proofs for c in proof.contents]
    if digest_contents(contents) != manifest["content_digest"]:
        problems.append("the documents and their order are not those of 'content_digest'")
    folder = manifest["build"]
    if digest_files({f["path"].removeprefix(f"{folder}/"): f["sha256"] for f in manifest["shards"]}) != manifest["digest"]:
        problems.append("the files listed are not those of 'digest'")
    problems += _strangers(store, manifest)
    balances = [proof.balance for proof in proofs]

    def worst(of: Callable[[BalanceCheck], Sequence[Deviation]]) -> Deviation:
        return max((w for balance in balances for w in of(balance)), key=lambda w: w.share)

    return Verification(
        tuple(dict.fromkeys(problems)),
        len(manifest["shards"]),
        sum(proof.rows for proof in proofs),
        sum(proof.bytes for proof in proofs),
        worst(lambda b: [b.whole]),
        worst(lambda b: [b.shard]),
        worst(lambda b: b.prefix),
        {w.domain: w for w in balances[0].prefix},
    )


def read_packing(manifest: Mapping[str, Any]) -> Packing | None:
    """How the recipe of a version packs its rows."""
    shards = manifest["recipe"]["shards"]
    return None if shards["sequence_length"] == "none" else Packing(shards["sequence_length"], shards["packing"] == "whole")


def read_domains(manifest: Mapping[str, Any], split: str) -> dict[str, Any]:
    found: dict[str, Any] = manifest["domains"] if split == TRAIN else manifest["validation"]
    return dict(sorted(found.items(), key=lambda item: item[0].encode()))


def _prove(
    store: Store, manifest: Mapping[str, Any], split: str, progress: Callable[[int], None], corpus: ShardContents | None,
    partitions: HashPartitions,
) -> _Proof:  # fmt: skip
    """Read the shards of one split, each in every format, and judge its rows."""
    domains, packing, seed = read_domains(manifest, split), read_packing(manifest), manifest["seed"]
    names = list(domains)
    bounds = [packing.length if packing else d["largest_document"] for d in domains.values()]
    balance = BalanceCheck(names, [d["target_tokens"] for d in domains.values()], bounds, manifest["shard_counts"][split], seed)
    distinct = manifest["recipe"]["input"]["dedup"] != "none"
    end_of_text = int((manifest["provenance"]["writer"]["ids"] or {}).get("end_of_text", -1))
    texts = [] if packing else [TextOrderCheck(n, d, seed) for n, d in domains.items()]
    ids = [TokenOrderCheck(n, d, seed, packing, end_of_text) for n, d in domains.items()] if packing else []
    problems: list[str] = []
    contents, seen_bytes, rows_read = [], 0, 0
    by_shard: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for file in manifest["shards"]:
        if file["split"] == split:
            by_shard.setdefault(file["shard"], {}).setdefault(file["format"], []).append(file)
    entries: dict[str, list[dict[str, Any]]] = {format: [] for format in manifest["recipe"]["shards"]["formats"]}
    for done, (number, formats) in enumerate(sorted(by_shard.items())):
        tables: dict[str, pa.Table] = {}
        for format, files in formats.items():
            table, entry, size = _read(store, manifest["build"], format, files, problems)
            seen_bytes += size
            if table is not None:
                tables[files[0]["path"]] = _fixed(table, packing, manifest) if packing else table
                entries.setdefault(format, []).append(entry)
                problems += _counts(files, table)
        progress(done + 1)
        if not tables:
            continue
        path, table = max(tables.items(), key=lambda item: "text" in item[1].column_names)
        problems += [
            f"{other}: holds other rows than {path}"
            for other, rows in tables.items()
            if not have_same_rows(rows, table, end_of_text)
        ]
        contents.append(content_hash(table))
        if corpus and corpus.get((split, number)) != contents[-1]:
            problems.append(f"{path}: does not hold the rows that the corpus gives it, in their order")
        rows_read += table.num_rows
        if not table.num_rows:
            problems.append(f"{path}: holds no row")
            continue
        code = pa.compute.index_in(table["domain"], pa.array(names, pa.string())).fill_null(-1).to_numpy().astype(np.int64)
        if (code < 0).any():
            problems.append(f"{path}: holds a domain that the manifest does not name")
            continue
        tokens, epoch = (table[name].to_numpy().astype(np.int64) for name in ("tokens", "epoch"))
        hi, lo, wrong_rows = _check_rows(path, table, manifest, split)
        problems += wrong_rows
        first = tokens.copy()
        for index in range(len(names)):
            rows = np.flatnonzero(code == index)
            if not len(rows):
                continue
            if ids:
                mine = token_ids(table)[rows]
                first[rows] = ids[index].first_pieces(mine, tokens[rows])
                ids[index].add(path, mine, tokens[rows], epoch[rows], hi[rows], lo[rows])
            else:
                sizes = byte_lengths(table["text"].combine_chunks())[rows] if "text" in table.column_names else None
                texts[index].add(path, hi[rows], lo[rows], epoch[rows], tokens[rows], sizes)
                if distinct:
                    once, measure = epoch[rows] == 0, tokens[rows] if sizes is None else sizes
                    partitions.add(_documents(index, hi[rows][once], lo[rows][once], measure[once]))
        if wrong := balance.add(number, code, tokens, first):
            problems.append(f"{path}: {wrong} stands before its place in the plan's order")
    for text_stream in texts:
        problems += text_stream.end()
    for token_stream in ids:
        problems += token_stream.end()
    problems += _check_copies(partitions, manifest, names)
    problems += _check_bounds(balance) + _check_indexes(store, manifest, split, entries)
    return _Proof(problems, balance, contents, rows_read, seen_bytes)


def _read(
    store: Store, build: str, format: str, files: Sequence[Mapping[str, Any]], problems: list[str]
) -> tuple[pa.Table | None, dict[str, Any], int]:  # fmt: skip
    """The rows of one shard in one format, what the index must say of it, and its bytes."""
    found, path = {}, files[0]["path"]
    for file in files:
        if not store.exists(file["path"]):
            problems.append(f"{file['path']}: missing")
            continue
        data = store.read(file["path"])
        if len(data) != file["bytes"]:
            problems.append(f"{file['path']}: {len(data):,} bytes where the manifest says {file['bytes']:,}")
        if hashlib.sha256(data).hexdigest() != file["sha256"]:
            problems.append(f"{file['path']}: its bytes are not the ones that were written (sha256 differs)")
        else:
            found[file["path"].removeprefix(f"{build}/{format}/")] = data
    size = sum(map(len, found.values()))
    if len(found) < len(files):
        return None, {}, size
    try:
        return *FORMATS[format].decode(found, path), size
    except InputError as error:
        problems.append(str(error))
        return None, {}, size


def _fixed(table: pa.Table, packing: Packing, manifest: Mapping[str, Any]) -> pa.Table:
    """Rows of ids as sequences of one length, where the format has lists of any length; as they are where they have not."""
    kind = pa.list_(pa.type_for_alias(manifest["provenance"]["writer"]["ids"]["dtype"]), packing.length)
    ids, ends = _flat_ids(table)
    if table.schema.field(INPUT_IDS).type == kind or (np.diff(np.append(0, ends)) != packing.length).any():
        return table
    column = pa.FixedSizeListArray.from_arrays(pa.array(ids).cast(kind.value_type), packing.length)
    return table.set_column(table.column_names.index(INPUT_IDS), pa.field(INPUT_IDS, kind), column)


def have_same_rows(rows: pa.Table, others: pa.Table, end_of_text: int) -> bool:
    """Whether two formats hold the same documents in the same order, be it as text or as ids that end in end-of-text."""
    beside = ["domain", "doc_id", "epoch", "tokens"]
    if not rows.select(beside).equals(others.select(beside)):
        return False
    if "text" in rows.column_names and "text" in others.column_names:
        return bool(rows["text"].equals(others["text"]))
    (ids, ends), *more = [_flat_ids(table) for table in (rows, others) if "text" not in table.column_names]
    if more:
        return np.array_equal(ends, more[0][1]) and np.array_equal(ids, more[0][0])
    counted = np.diff(np.append(0, ends)) == rows["tokens"].to_numpy().astype(np.int64) + 1
    return bool(counted.all() and (ids[ends - 1] == end_of_text).all())


def _flat_ids(table: pa.Table) -> tuple[I64, I64]:
    """Ids of all rows, and where each row of them ends."""
    lengths = pa.compute.list_value_length(table["input_ids"]).to_numpy().astype(np.int64)
    return pa.compute.list_flatten(table["input_ids"]).to_numpy().astype(np.int64), np.cumsum(lengths)


def _check_indexes(
    store: Store, manifest: Mapping[str, Any], split: str, entries: Mapping[str, list[dict[str, Any]]]
) -> list[str]:  # fmt: skip
    """A trainer decodes by what the index says of the shards: it must be, byte for byte, what the shards say."""
    problems = []
    for format, found in entries.items():
        for name, data in FORMATS[format].index(split, found).items():
            path = f"{manifest['build']}/{format}/{name}"
            if not store.exists(path):
                problems.append(f"{path}: missing")
            elif store.read(path) != data:
                problems.append(f"{path}: does not say what the bytes of the shards say, in their order")
    return problems


def _check_rows(path: str, table: pa.Table, manifest: Mapping[str, Any], split: str) -> tuple[U64, U64, list[str]]:
    """(rows) hashes of the documents, high and low, and what is wrong with `doc_id` and `tokens`."""
    problems = []
    claimed = table["doc_id"].combine_chunks()
    if not pa.compute.all(pa.compute.match_substring_regex(claimed, "^[0-9a-f]{32}$")).as_py():
        problems.append(f"{path}: a doc_id is not 32 hexadecimal digits")
        hi, lo = np.zeros((2, len(claimed)), np.uint64)
    else:
        said = np.frombuffer(bytes.fromhex("".join(claimed.to_pylist())), ">u8").reshape(-1, 2).astype(np.uint64)
        hi, lo = said[:, 0].copy(), said[:, 1].copy()
    if "text" in table.column_names:
        text_hi, text_lo = content_hashes(table["text"].combine_chunks())
        by_id = manifest["hash"] == "id"  # the top half is of the id then, which the shards do not hold
        if not claimed.equals(hex_digests(hi if by_id else text_hi, text_lo)):
            problems.append(f"{path}: a text is not the one that its doc_id names")
        lengths = pa.compute.binary_length(table["text"].cast(pa.large_binary()))
        if manifest["unit"] == "bytes" and not lengths.cast(pa.uint32()).equals(table["tokens"]):
            problems.append(f"{path}: a row's 'tokens' is not the length of its text in bytes")
    threshold = round(manifest["recipe"]["mix"]["validation"] * 2**64)
    if (is_validation(lo, threshold) != (split == VALIDATION)).any():
        problems.append(f"{path}: holds a document whose hash belongs into the other split")
    return hi, lo, problems


def _documents(domain: int, hi: U64, lo: U64, size: I64) -> HashedRows:
    """What `_check_copies` compares."""
    rows = np.empty(len(hi), _DOCUMENT)
    rows["domain"], rows["hi"], rows["lo"], rows["size"] = domain, hi, lo, size
    return rows


def _check_copies(partitions: HashPartitions, manifest: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Whether a document of the first epoch stands there twice, by the rule of `selection.find_copies`: in its domain or in all.

    Later epochs hold the documents of the first one, which `row_order.py` proves. Equal texts lie in one split.
    """
    rule = manifest["recipe"]["input"]["dedup"]
    same = [*(["lo", "size"] if manifest["hash"] == "id" else ["lo", "hi"]), *(["domain"] if rule == "exact" else [])]
    found, told = 0, ""
    for rows in map(select_repeated_hashes, partitions.read(_DOCUMENT)):
        rows = rows[np.lexsort([rows[name] for name in same])]
        again = np.flatnonzero(np.all([rows[name][1:] == rows[name][:-1] for name in same], axis=0))
        if len(again) and not found:
            one, other = rows[again[0] : again[0] + 2]
            (first, second) = (hex_digests(row["hi"][None], row["lo"][None])[0].as_py() for row in (one, other))
            told = f"{first} of domain {names[one['domain']]!r} is {second} of domain {names[other['domain']]!r}"
        found += len(again)
    return [f"{found:,} documents stand twice in an epoch, in spite of 'input.dedup: {rule}'; {told}"] if found else []


def _counts(files: Sequence[Mapping[str, Any]], table: pa.Table) -> list[str]:
    """Whether the rows and tokens of a shard, by domain and in all, are those that the manifest lists for its files."""
    counted = (
        pl.DataFrame(table.select(["domain", "tokens"])).group_by("domain").agg(pl.len(), pl.col("tokens").cast(pl.Int64).sum())
    )
    rows = {row["domain"]: row["len"] for row in counted.iter_rows(named=True)}
    tokens = {row["domain"]: row["tokens"] for row in counted.iter_rows(named=True)}
    found = (rows, tokens, table.num_rows, sum(tokens.values()))
    return [
        f"{f['path']}: holds other counts of rows or tokens than the manifest says"
        for f in files
        if found != (f["domain_rows"], f["domain_tokens"], f["rows"], f["tokens"])
    ]


def _check_bounds(balance: BalanceCheck) -> list[str]:
    worst = [*balance.prefix, balance.shard, balance.whole]
    slack = [1 + max(balance.quotas) * 2.0**-52] * len(worst)  # of float64, where this reports what integers decided
    return [
        f"domain {w.domain!r}: {w.tokens:,.0f} tokens off its share at {w.where}, more than its bound ({w.bound:,})"
        for w, s in zip(worst, slack, strict=True)
        if w.tokens > w.bound + s
    ]


def _check_books(manifest: Mapping[str, Any]) -> list[str]:
    problems = []
    for name, d in manifest["domains"].items():
        parts = ("rows_written_once", "rows_not_selected", "held_out", "copies_dropped", "quarantined")
        if d["rows_read"] != sum(d[key] for key in parts):
            said = " + ".join(f"{d[key]:,} {key.replace('_', ' ').removeprefix('rows ')}" for key in parts)
            problems.append(f"domain {name!r}: {d['rows_read']:,} rows read are not {said}")
        if sum(manifest["quarantine"].get(name, {}).values()) != d["quarantined"]:
            problems.append(f"domain {name!r}: the reasons for quarantine do not add up")
        if d["held_out"] != manifest["validation"].get(name, {}).get("available_rows", 0):
            problems.append(f"domain {name!r}: {d['held_out']:,} rows held out are not those of the validation split")
        if d["copies_dropped"] and manifest["recipe"]["input"]["dedup"] == "none":
            problems.append(f"domain {name!r}: copies were dropped, which the recipe does not ask for")
    for split in manifest["shard_counts"]:
        for name, d in read_domains(manifest, split).items():
            if d["available_rows"] != d["rows_written_once"] + d["rows_not_selected"]:
                problems.append(f"domain {name!r}: rows written and not selected are not its {d['available_rows']:,} documents")
    strange = set(manifest["quarantine"]) - set(manifest["domains"]) - set(manifest["recipe"]["sources"])
    return problems + [f"'quarantine' names {name!r}, which is no domain and no source" for name in sorted(strange)]


def _check_plan(manifest: Mapping[str, Any]) -> list[str]:
    """Budget, quotas and plan digest, computed again from what the manifest says they came from."""
    domains, recipe, budget = manifest["domains"], manifest["recipe"], manifest["budget"]
    problems, mix, packing = [], recipe["mix"], read_packing(manifest)
    if budget != (sum(d["available_tokens"] for d in domains.values()) if mix["budget"] == "auto" else mix["budget"]):
        problems.append(f"the budget of {budget:,} tokens is not the recipe's")
    plans = []
    for split, count in manifest["shard_counts"].items():
        of_split = read_domains(manifest, split)
        total = sum(d["available_tokens"] for d in of_split.values())
        planned = []
        for name, d in of_split.items():
            available, weight = d["available_tokens"], str(d["weight"])
            quota = quota_of(available, weight, budget, mix["max_epochs"], mix["exhausted"]) if split == TRAIN else available
            if whole_sequences(quota, packing) != d["target_tokens"]:
                problems.append(f"domain {name!r}: its weight {weight} is {quota:,} tokens, 'target_tokens' is another number")
            share = f"{available / total:.6f}"
            if split != TRAIN and d["weight"] != float(share):
                problems.append(f"domain {name!r}: it is {share} of the {split} split, 'weight' is another number")
            planned.append(
                DomainPlan(
                    name, weight if split == TRAIN else share, d["target_tokens"], d["available_rows"],
                    available, d["available_bytes"], d["largest_document"], int(d["multiset"], 16),
                    bucket_bits(d["available_rows"]), phase_of(manifest["seed"], name),
                )
            )  # fmt: skip
        writer = {key: value for key, value in manifest["provenance"]["writer"].items() if value is not None}
        plans.append(Plan(tuple(planned), count, manifest["seed"], manifest["hash"], writer, packing, split))
    said = (manifest["seed"], manifest["hash"], manifest["unit"])
    if said != (recipe["seed"], recipe["input"]["hash"], recipe["tokens"]["tokenizer"] or "bytes"):
        problems.append("'seed', 'hash' or 'unit' is not the recipe's")
    digest = build_digest(plans)
    if digest != manifest["plan_digest"] or manifest["build"] != f"{BUILDS}/{digest}":
        problems.append("the seed, the writer and the counts of the domains are not those of 'plan_digest'")
    return problems


def _check_files(manifest: Mapping[str, Any]) -> list[str]:
    """Whether the manifest lists each shard once in each format of the recipe, in order, under its name."""
    build, shards = manifest["build"], manifest["recipe"]["shards"]
    expected = [
        (f"{build}/{format}/{name}", format, split, n)
        for format in shards["formats"]
        for split, count in manifest["shard_counts"].items()
        for n in range(count)
        for name in FORMATS[format].names(n, count, split, shards["compression"])
    ]
    if [(f["path"], f["format"], f["split"], f["shard"]) for f in manifest["shards"]] != expected:
        return ["the manifest does not list the shards of the plan in the recipe's formats, each once and in order"]
    return []


def _strangers(store: Store, manifest: Mapping[str, Any]) -> list[str]:
    """Files in the folders that trainers read which no manifest wrote."""
    known = {f["path"] for f in manifest["shards"]}
    for format in manifest["recipe"]["shards"]["formats"]:
        folder = f"{manifest['build']}/{format}"
        known |= {f"{folder}/{name}" for split in manifest["shard_counts"] for name in FORMATS[format].index(split, [])}
    formats = sorted({f["format"] for f in manifest["shards"]})
    found = [path for f in formats for path in store.list(f"{manifest['build']}/{f}")]
    return [f"{path}: a stranger, no shard of this version" for path in found if path not in known]
