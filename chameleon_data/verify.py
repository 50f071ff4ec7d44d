"""Proof from the stored bytes alone that a version is what its manifest says.

Read once, shard by shard in order. Proved of the bytes: every file has its size and sha256 and the name that the recipe gives it;
the formats hold the same rows; every text has the hash that its `doc_id` claims; each domain's tokens keep the bounds of
`plan.py` in the whole, in every shard and after every row; the domains interleave as planned, and each domain's rows follow the
order of hashes of `place.py`; every whole epoch is the documents that the survey counted, and a last epoch that is not whole is,
bucket by bucket, what the first one held. Proved of the manifest: quotas follow from weights and budget, totals from the rows,
the plan digest from the plan, the books of rows balance, and nothing else lies in the folders that trainers read.

Not proved, since the bytes do not say it: that the counts of the survey are those of the corpus, so that an invented document in
a domain of less than one epoch cannot be told; and, in the one bucket of each domain that the quota cuts (16 documents, about),
which documents stand in it and in what order, beyond their tokens.

Memory: two shards, and for each domain 8 bytes a bucket (8 MB at most) and the hashes of one bucket. Cost: about 160 MB of text a
second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from chameleon_data.errors import InputError
from chameleon_data.exchange import content_hash
from chameleon_data.formats import FORMATS
from chameleon_data.hashing import MODULUS, U64, content_hashes, hex_digests, key64, mix64, multiset_hash
from chameleon_data.manifest import files_digest
from chameleon_data.place import I64, bucket_of
from chameleon_data.plan import PHASE_BITS, DomainPlan, Plan, bucket_bits
from chameleon_data.shards import TRAIN
from chameleon_data.storage import Store
from chameleon_data.survey import byte_lengths


@dataclass(frozen=True)
class Worst:
    """The place where a bound is closest to broken."""

    domain: str
    where: str
    tokens: float
    """Distance from the target there."""
    bound: int
    """Tokens of the domain's largest document."""

    @property
    def share(self) -> float:
        return self.tokens / self.bound


@dataclass(frozen=True)
class Verification:
    problems: tuple[str, ...]
    """One sentence each; empty where everything holds."""
    files: int
    rows: int
    bytes: int
    whole: Worst
    shard: Worst
    prefix: Worst
    by_domain: dict[str, Worst]
    """The worst prefix of each domain."""

    @property
    def ok(self) -> bool:
        return not self.problems


class Balance:
    """Follows rows in output order and remembers the worst points. Everything is recomputed from (domain, tokens) and the seed.

    State: per domain the tokens so far. `add` takes one shard at a time.
    """

    def __init__(self, names: Sequence[str], quotas: Sequence[int], largest: Sequence[int], shards: int, seed: int) -> None:
        self.names, self.shards = list(names), shards
        self.quotas, self.largest = [max(1, q) for q in quotas], [max(1, m) for m in largest]  # a forged 0 is for `_check_plan`
        self._phase = [key64(seed, name, "phase") >> (64 - PHASE_BITS) for name in names]
        self.so_far = [0] * len(names)
        self._last = (-1.0, -1)
        self.prefix = [Worst(name, "the start", 0.0, m) for name, m in zip(names, self.largest, strict=True)]
        self.shard = Worst(names[0], "shard 0", 0.0, self.largest[0])

    def add(self, number: int, domain: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]) -> str | None:
        """Take the rows of shard `number`; returns what is wrong with their order, if anything is."""
        quotient, ends = np.empty(len(domain)), {}
        for index, name in enumerate(self.names):
            rows = np.flatnonzero(domain == index)
            end = self.so_far[index] + np.cumsum(tokens[rows])
            anchor = end - tokens[rows] + ((tokens[rows] * self._phase[index]) >> PHASE_BITS)
            quotient[rows] = anchor / self.quotas[index]
            ends[index] = (rows, end)
            shard_off = abs(float(tokens[rows].sum()) - self.quotas[index] / self.shards)
            if shard_off / self.largest[index] > self.shard.share:
                self.shard = Worst(name, f"shard {number}", shard_off, self.largest[index])
        for index, (rows, end) in ends.items():
            held = np.full(len(domain), self.so_far[index], np.int64)
            held[rows] = end
            held = np.maximum.accumulate(held)
            off = np.abs(held - quotient * self.quotas[index])
            at = int(off.argmax())
            if off[at] > self.prefix[index].tokens:
                self.prefix[index] = Worst(
                    self.names[index], f"row {at:,} of shard {number}", float(off[at]), self.largest[index]
                )
            if len(end):
                self.so_far[index] = int(end[-1])
        steps_back = (quotient[1:] < quotient[:-1]) | ((quotient[1:] == quotient[:-1]) & (domain[1:] < domain[:-1]))
        first, last = (float(quotient[0]), int(domain[0])), (float(quotient[-1]), int(domain[-1]))
        wrong = "its first row" if first < self._last else f"row {int(steps_back.argmax()) + 1:,}" if steps_back.any() else None
        self._last = last
        return wrong

    @property
    def whole(self) -> Worst:
        worst = [
            Worst(n, "the whole", float(abs(s - q)), m)
            for n, s, q, m in zip(self.names, self.so_far, self.quotas, self.largest, strict=True)
        ]
        return max(worst, key=lambda w: w.share)


def verify(
    store: Store, manifest: Mapping[str, Any], progress: Callable[[int, int], None] = lambda done, total: None
) -> Verification:
    """Prove a version. Problems are collected, not raised, so that one run names them all."""
    domains: dict[str, Any] = manifest["domains"]
    names = sorted(domains, key=str.encode)
    balance = Balance(names, [domains[n]["target_tokens"] for n in names], [domains[n]["largest_document"] for n in names],
                      manifest["shard_count"], manifest["seed"])  # fmt: skip
    streams = [_Stream(n, domains[n], manifest["seed"]) for n in names]
    problems: list[str] = []
    contents, seen_bytes, rows_read = [], 0, 0
    by_shard: dict[int, list[dict[str, Any]]] = {}
    for file in manifest["shards"]:
        by_shard.setdefault(file["shard"], []).append(file)
    entries: dict[str, list[dict[str, Any]]] = {f["format"]: [] for f in manifest["shards"]}
    for done, (number, files) in enumerate(sorted(by_shard.items())):
        tables = []
        for file in files:
            table, size = _read(store, file, entries, problems)
            seen_bytes += size
            if table is not None:
                tables.append((file, table))
        if not tables:
            continue
        (first_file, table), *others = tables
        problems += [f"{f['path']}: holds other rows than {first_file['path']}" for f, other in others if not other.equals(table)]
        path = first_file["path"]
        contents.append(content_hash(table))
        rows_read += table.num_rows
        problems += [f"{f['path']}: holds other counts of rows or tokens than the manifest says" for f in files
                     if not _counts_hold(table, f)]  # fmt: skip
        if not table.num_rows:
            problems.append(f"{path}: holds no row")
            continue
        hi, lo, wrong_rows = _check_rows(path, table, manifest)
        problems += wrong_rows
        code = pa.compute.index_in(table["domain"], pa.array(names, pa.string())).fill_null(-1).to_numpy().astype(np.int64)
        tokens = table["tokens"].to_numpy().astype(np.int64)
        if (code < 0).any():
            problems.append(f"{path}: holds a domain that the manifest does not name")
            continue
        if wrong := balance.add(number, code, tokens):
            problems.append(f"{path}: {wrong} stands before its place in the plan's order")
        epoch, lengths = table["epoch"].to_numpy().astype(np.int64), byte_lengths(table["text"].combine_chunks())
        for index, stream in enumerate(streams):
            rows = np.flatnonzero(code == index)
            if len(rows):
                stream.add(path, hi[rows], lo[rows], epoch[rows], tokens[rows], lengths[rows])
        progress(done + 1, len(by_shard))
    for stream in streams:
        problems += stream.end()
    problems += _check_bounds(balance) + _check_books(manifest) + _check_plan(manifest) + _check_files(manifest)
    if hashlib.sha256("\n".join(contents).encode()).hexdigest() != manifest["content_digest"]:
        problems.append("the documents and their order are not those of 'content_digest'")
    folder = manifest["build"]
    if files_digest([{**f, "path": f["path"].removeprefix(f"{folder}/")} for f in manifest["shards"]]) != manifest["digest"]:
        problems.append("the files listed are not those of 'digest'")
    problems += _check_indexes(store, manifest, entries) + _strangers(store, manifest)
    return Verification(
        tuple(dict.fromkeys(problems)),
        len(manifest["shards"]),
        rows_read,
        seen_bytes,
        balance.whole,
        balance.shard,
        max(balance.prefix, key=lambda w: w.share),
        {w.domain: w for w in balance.prefix},
    )


def _read(store: Store, file: Mapping[str, Any], entries: Mapping[str, Any], problems: list[str]) -> tuple[pa.Table | None, int]:
    """The rows of a file, whose entry is added to those of its format; and its bytes."""
    path = file["path"]
    if not store.exists(path):
        problems.append(f"{path}: missing")
        return None, 0
    data = store.read(path)
    if len(data) != file["bytes"]:
        problems.append(f"{path}: {len(data):,} bytes where the manifest says {file['bytes']:,}")
    if hashlib.sha256(data).hexdigest() != file["sha256"]:
        problems.append(f"{path}: its bytes are not the ones that were written (sha256 differs)")
        return None, len(data)
    try:
        table, entry = FORMATS[file["format"]].decode({path.rsplit("/", 1)[1]: data}, path)
        entries[file["format"]].append(entry)
        return table, len(data)
    except InputError as error:
        problems.append(str(error))
        return None, len(data)


def _check_indexes(store: Store, manifest: Mapping[str, Any], entries: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """A trainer decodes by what the index says of the shards: it must be, byte for byte, what the shards say."""
    problems = []
    for format, found in entries.items():
        for name, data in FORMATS[format].index(TRAIN, found).items():
            path = f"{manifest['build']}/{format}/{name}"
            if not store.exists(path):
                problems.append(f"{path}: missing")
            elif store.read(path) != data:
                problems.append(f"{path}: does not say what the bytes of the shards say, in their order")
    return problems


def _check_rows(path: str, table: pa.Table, manifest: Mapping[str, Any]) -> tuple[U64, U64, list[str]]:
    """(rows) hashes of the texts, high and low, and what is wrong with `doc_id` and `tokens`."""
    problems = []
    hi, lo = content_hashes(table["text"].combine_chunks())
    claimed = table["doc_id"].combine_chunks()
    if manifest["hash"] == "id":  # the top half is of the id, which the shards do not hold
        if pa.compute.all(pa.compute.match_substring_regex(claimed, "^[0-9a-f]{32}$")).as_py():
            hi = np.frombuffer(bytes.fromhex("".join(claimed.to_pylist())), ">u8")[::2].astype(np.uint64)
        else:
            problems.append(f"{path}: a doc_id is not 32 hexadecimal digits")
    if not claimed.equals(hex_digests(hi, lo)):
        problems.append(f"{path}: a text is not the one that its doc_id names")
    lengths = pa.compute.binary_length(table["text"].cast(pa.large_binary()))
    if manifest["unit"] == "bytes" and not lengths.cast(pa.uint32()).equals(table["tokens"]):
        problems.append(f"{path}: a row's 'tokens' is not the length of its text in bytes")
    return hi, lo, problems


def _counts_hold(table: pa.Table, file: Mapping[str, Any]) -> bool:
    """Whether the rows and tokens of a shard, by domain and in all, are those that the manifest lists for a file."""
    counted = (
        pl.DataFrame(table.select(["domain", "tokens"])).group_by("domain").agg(pl.len(), pl.col("tokens").cast(pl.Int64).sum())
    )
    rows = {row["domain"]: row["len"] for row in counted.iter_rows(named=True)}
    tokens = {row["domain"]: row["tokens"] for row in counted.iter_rows(named=True)}
    found = (rows, tokens, table.num_rows, sum(tokens.values()))
    return found == (file["domain_rows"], file["domain_tokens"], file["rows"], file["tokens"])


def _check_bounds(balance: Balance) -> list[str]:
    worst = [*balance.prefix, balance.shard, balance.whole]
    slack = [1 + max(balance.quotas) * 2.0**-52] * len(worst)  # of float64, where this reports what integers decided
    return [
        f"domain {w.domain!r}: {w.tokens:,.0f} tokens off its share at {w.where}, more than its largest document ({w.bound:,})"
        for w, s in zip(worst, slack, strict=True)
        if w.tokens > w.bound + s
    ]


def _check_books(manifest: Mapping[str, Any]) -> list[str]:
    problems = []
    for name, d in manifest["domains"].items():
        if d["rows_read"] != d["rows_written_once"] + d["rows_not_selected"] + d["quarantined"]:
            problems.append(
                f"domain {name!r}: {d['rows_read']:,} rows read are not {d['rows_written_once']:,} written + "
                f"{d['rows_not_selected']:,} not selected + {d['quarantined']:,} quarantined"
            )
        if d["available_rows"] != d["rows_written_once"] + d["rows_not_selected"]:
            problems.append(f"domain {name!r}: rows written and not selected are not its {d['available_rows']:,} documents")
        if sum(manifest["quarantine"].get(name, {}).values()) != d["quarantined"]:
            problems.append(f"domain {name!r}: the reasons for quarantine do not add up")
    strange = set(manifest["quarantine"]) - set(manifest["domains"]) - set(manifest["recipe"]["sources"])
    return problems + [f"'quarantine' names {name!r}, which is no domain and no source" for name in sorted(strange)]


def _check_plan(manifest: Mapping[str, Any]) -> list[str]:
    """Budget, quotas and plan digest, computed again from what the manifest says they came from."""
    domains, recipe, budget = manifest["domains"], manifest["recipe"], manifest["budget"]
    problems, mix = [], recipe["mix"]
    if budget != (sum(d["available_tokens"] for d in domains.values()) if mix["budget"] == "auto" else mix["budget"]):
        problems.append(f"the budget of {budget:,} tokens is not the recipe's")
    plans = []
    for name, d in sorted(domains.items(), key=lambda item: item[0].encode()):
        quota = floor(Fraction(str(d["weight"])) * budget)
        if mix["exhausted"] == "redistribute":
            quota = min(quota, floor(Fraction(mix["max_epochs"]) * d["available_tokens"]))
        if quota != d["target_tokens"]:
            problems.append(f"domain {name!r}: its weight {d['weight']} is {quota:,} tokens, 'target_tokens' is another number")
        plans.append(
            DomainPlan(name, str(d["weight"]), d["target_tokens"], d["available_rows"], d["available_tokens"],
                       d["available_bytes"], d["largest_document"], int(d["multiset"], 16), bucket_bits(d["available_rows"]),
                       key64(manifest["seed"], name, "phase") >> (64 - PHASE_BITS))
        )  # fmt: skip
    said = (manifest["seed"], manifest["hash"], manifest["unit"])
    if said != (recipe["seed"], recipe["input"]["hash"], recipe["tokens"]["tokenizer"] or "bytes"):
        problems.append("'seed', 'hash' or 'unit' is not the recipe's")
    plan = Plan(tuple(plans), manifest["shard_count"], manifest["seed"], manifest["hash"], manifest["provenance"]["writer"])
    if plan.digest != manifest["plan_digest"] or manifest["build"] != f"builds/{plan.digest}":
        problems.append("the seed, the writer and the counts of the domains are not those of 'plan_digest'")
    return problems


def _check_files(manifest: Mapping[str, Any]) -> list[str]:
    """Whether the manifest lists each shard once in each format of the recipe, in order, under its name."""
    build, count, shards = manifest["build"], manifest["shard_count"], manifest["recipe"]["shards"]
    expected = []
    for format in shards["formats"]:
        for n in range(count):
            (name,) = FORMATS[format].names(n, count, TRAIN, shards["compression"])
            expected.append((f"{build}/{format}/{name}", format, n))
    if [(f["path"], f["format"], f["shard"]) for f in manifest["shards"]] != expected:
        return [f"the manifest does not list the {count:,} shards of the plan in the recipe's formats, each once and in order"]
    return []


@dataclass
class _Epoch:
    rows: int = 0
    tokens: int = 0
    bytes: int = 0
    multiset: int = 0
    buckets: int = 0


class _Stream:
    """One domain's rows in output order, against the order that hashes decide and the documents that the survey counted.

    All copies of a text share a bucket, and a bucket is one stretch of the stream. So rows are judged by whole buckets, and those
    of the last one wait for the next shard. Which of several identical rows is which copy does not matter to their order.
    """

    def __init__(self, name: str, domain: Mapping[str, Any], seed: int) -> None:
        self._name, self._domain, self._seed = name, domain, seed
        self._bits = bucket_bits(domain["available_rows"])
        self._last = (-1, -1)
        """Epoch and key of the last bucket that was judged."""
        self._first_epoch = np.zeros(1 << self._bits, np.uint64)
        """(buckets,) sums of a hash of the documents of epoch 0."""
        self._waiting: list[npt.NDArray[Any]] = [np.zeros(0, np.uint64)] * 2 + [np.zeros(0, np.int64)] * 2
        self._epochs: dict[int, _Epoch] = {}
        self._largest = 0
        self._problems: list[str] = []

    def add(self, path: str, hi: U64, lo: U64, epoch: I64, tokens: I64, size: I64) -> None:
        """The domain's rows in the next shard; at least one."""
        for e in np.unique(epoch).tolist():
            at, found = epoch == e, self._epochs.setdefault(e, _Epoch())
            found.rows += int(at.sum())
            found.tokens += int(tokens[at].sum())
            found.bytes += int(size[at].sum())
            found.multiset = (found.multiset + multiset_hash(hi[at], lo[at])) % MODULUS
        self._largest = max(self._largest, int(tokens.max()))
        rows = [np.concatenate(both) for both in zip(self._waiting, (hi, lo, epoch, tokens), strict=True)]
        bucket = bucket_of(rows[0], self._bits)
        others = np.flatnonzero((bucket != bucket[-1]) | (rows[2] != rows[2][-1]))
        end = int(others[-1]) + 1 if len(others) else 0
        self._waiting = [column[end:] for column in rows]
        if end:
            self._judge(path, [column[:end] for column in rows])

    def _judge(self, path: str, rows: Sequence[npt.NDArray[Any]], cut: bool = False) -> None:
        """Hashes (high, low), epoch and tokens of whole buckets; or `cut`, of one that lacks rows, so that nobody can tell which
        copies of a text are there."""
        hi, lo, epoch, tokens = rows
        bucket, copy = bucket_of(hi, self._bits), _copies(epoch, hi, lo)
        bucket_key, key = np.empty(len(hi), np.uint64), np.empty(len(hi), np.uint64)
        for e in np.unique(epoch).tolist():
            at, salt = epoch == e, self._salt(e)
            bucket_key[at], key[at] = mix64([bucket[at]], salt), mix64([hi[at], lo[at], copy[at]], salt)
        order = np.lexsort((lo, key, bucket_key, epoch))
        moved = (epoch[order] != epoch) | (hi[order] != hi) | (lo[order] != lo)
        first, last = ((int(epoch[i]), int(bucket_key[i])) for i in (0, -1))
        if first <= self._last or (moved.any() and not cut):
            self._problems.append(f"{path}: the documents of domain {self._name!r} are not in the order of their hashes")
        self._last = last
        begins = np.flatnonzero(np.append(True, (np.diff(bucket) != 0) | (np.diff(epoch) != 0)))
        sums, slot, of = np.add.reduceat(mix64([hi, lo, tokens], 0), begins), bucket[begins], epoch[begins]
        np.add.at(self._first_epoch, slot[of == 0], sums[of == 0])
        for e, buckets in zip(*np.unique(of, return_counts=True), strict=True):
            self._epochs[int(e)].buckets += int(buckets)
        other = np.flatnonzero((of > 0) & (self._first_epoch[slot] != sums))
        if len(other) and not cut:
            self._problems.append(
                f"{path}: epoch {of[other[0]]} of domain {self._name!r} holds other documents than its first epoch"
            )

    def _salt(self, epoch: int) -> int:
        return key64(self._seed, self._name, "epoch", epoch)

    def end(self) -> list[str]:
        """All that is wrong with the domain, once every shard is there."""
        name, d = self._name, self._domain
        last = max(self._epochs, default=0)
        final = self._epochs.get(last, _Epoch())
        whole = final.rows >= d["available_rows"]
        if len(self._waiting[0]):
            self._judge("the last shard", self._waiting, cut=not whole)
        problems = self._problems
        if last > 0 and not whole:
            held = mix64([np.flatnonzero(self._first_epoch)], self._salt(last)) <= np.uint64(self._last[1])
            if final.buckets != held.sum():
                problems.append(f"domain {name!r}: its last epoch leaves out documents before its end")
        if last * d["available_tokens"] >= d["target_tokens"]:
            problems.append(f"domain {name!r}: epoch {last} begins after its {d['target_tokens']:,} tokens")
        counted = [d["available_rows"], d["available_tokens"], d["available_bytes"], int(d["multiset"], 16)]
        for epoch in sorted({*self._epochs, *range(min(last, len(self._epochs)))} - (set() if whole else {last})):
            e = self._epochs.get(epoch, _Epoch())
            if [e.rows, e.tokens, e.bytes, e.multiset] != counted:
                problems.append(f"domain {name!r}: epoch {epoch} is not each of its {d['available_rows']:,} documents once")
        if self._largest > d["largest_document"] or ((last > 0 or whole) and self._largest < d["largest_document"]):
            problems.append(
                f"domain {name!r}: its largest document has {self._largest:,} tokens, 'largest_document' is another number"
            )
        rows, tokens = sum(e.rows for e in self._epochs.values()), sum(e.tokens for e in self._epochs.values())
        once = self._epochs.get(0, _Epoch()).rows
        said = [d["rows"], d["tokens"], d["epochs"], d["rows_written_once"]]
        if said != [rows, tokens, tokens / d["available_tokens"], once]:
            problems.append(
                f"domain {name!r}: {rows:,} rows with {tokens:,} tokens, {once:,} documents written once, where the manifest "
                f"says {d['rows']:,}, {d['tokens']:,} and {d['rows_written_once']:,} in {d['epochs']} epochs"
            )
        return problems


def _copies(epoch: I64, hi: U64, lo: U64) -> I64:
    """(rows) a running number among the identical texts of an epoch, from 0."""
    order = np.lexsort((lo, hi, epoch))
    steps = [np.diff(column[order]) != 0 for column in (epoch, hi, lo)]
    begins = np.flatnonzero(np.append(True, steps[0] | steps[1] | steps[2]))
    copy = np.empty(len(hi), np.int64)
    copy[order] = np.arange(len(hi)) - np.repeat(begins, np.diff(np.append(begins, len(hi))))
    return copy


def _strangers(store: Store, manifest: Mapping[str, Any]) -> list[str]:
    """Files in the folders that trainers read which no manifest wrote."""
    known = {f["path"] for f in manifest["shards"]}
    known |= {f"{manifest['build']}/{f}/{name}" for f in FORMATS for name in FORMATS[f].index(TRAIN, [])}
    formats = sorted({f["format"] for f in manifest["shards"]})
    found = [path for f in formats for path in store.list(f"{manifest['build']}/{f}")]
    return [f"{path}: a stranger, no shard of this version" for path in found if path not in known]
