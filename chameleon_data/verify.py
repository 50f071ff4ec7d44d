"""Proof from the stored bytes alone that a version is what its manifest says.

Read once, shard by shard in order: every file has its sha256; both formats hold the same rows; every text has the hash that its
`doc_id` claims; each domain's tokens keep the bounds of `plan.py` in the whole, in every shard and after every row; the rows
stand in the plan's order; every whole epoch holds exactly the documents that the survey counted; the books of rows balance; and
nothing else lies in the folder. Memory: two shards. Cost: about 300 MB of text a second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from chameleon_data import mds, parquet
from chameleon_data.errors import InputError
from chameleon_data.exchange import content_hash
from chameleon_data.hashing import MODULUS, content_hashes, hex_digests, key64
from chameleon_data.manifest import files_digest
from chameleon_data.plan import PHASE_BITS
from chameleon_data.storage import Store

F64 = npt.NDArray[np.float64]


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
        self.names, self.quotas, self.largest, self.shards = list(names), list(quotas), list(largest), shards
        self._phase = [key64(seed, name, "phase") >> (64 - PHASE_BITS) for name in names]
        self.so_far = [0] * len(names)
        self._last = (-1.0, -1)
        self.prefix = [Worst(name, "the start", 0.0, m) for name, m in zip(names, largest, strict=True)]
        self.shard = Worst(names[0], "shard 0", 0.0, largest[0])

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
    epochs = _Epochs(manifest, names)
    problems: list[str] = []
    contents, seen_bytes, rows_read = [], 0, 0
    by_shard: dict[int, list[dict[str, Any]]] = {}
    for file in manifest["shards"]:
        by_shard.setdefault(file["shard"], []).append(file)
    entries = _mds_index(store, manifest, problems)
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
        rows_read += table.num_rows
        problems += _check_rows(first_file["path"], table, files[0], manifest, names)
        code = pa.compute.index_in(table["domain"], pa.array(names, pa.string())).fill_null(-1).to_numpy().astype(np.int64)
        tokens = table["tokens"].to_numpy().astype(np.int64)
        if (code < 0).any():
            problems.append(f"{first_file['path']}: holds a domain that the manifest does not name")
            continue
        if wrong := balance.add(number, code, tokens):
            problems.append(f"{first_file['path']}: {wrong} stands before its place in the plan's order")
        epochs.add(table, code)
        contents.append(content_hash(table))
        progress(done + 1, len(by_shard))
    if sorted(by_shard) != list(range(manifest["shard_count"])):
        problems.append(f"the manifest names shards {sorted(by_shard)} where the plan has {manifest['shard_count']}")
    problems += _check_bounds(balance) + epochs.problems() + _check_books(domains, manifest)
    if hashlib.sha256("\n".join(contents).encode()).hexdigest() != manifest["content_digest"]:
        problems.append("the documents and their order are not those of 'content_digest'")
    folder = manifest["build"]
    if files_digest([{**f, "path": f["path"].removeprefix(f"{folder}/")} for f in manifest["shards"]]) != manifest["digest"]:
        problems.append("the files listed are not those of 'digest'")
    problems += _strangers(store, manifest)
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
    path = file["path"]
    if not store.exists(path):
        problems.append(f"{path}: missing")
        return None, 0
    data = store.read(path)
    if hashlib.sha256(data).hexdigest() != file["sha256"]:
        problems.append(f"{path}: its bytes are not the ones that were written (sha256 differs)")
        return None, len(data)
    try:
        if file["format"] == "parquet":
            return parquet.decode(data, path), len(data)
        entry = entries.get(path.rsplit("/", 1)[1])
        if entry is None:
            problems.append(f"{path}: index.json does not list it")
            return None, len(data)
        return mds.read(data, entry, path), len(data)
    except InputError as error:
        problems.append(str(error))
        return None, len(data)


def _mds_index(store: Store, manifest: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    folder = f"{manifest['build']}/mds"
    files = [f["path"] for f in manifest["shards"] if f["format"] == "mds"]
    if not files:
        return {}
    try:
        shards = mds.read_index(store.read(f"{folder}/index.json"))
    except InputError as error:
        problems.append(str(error))
        return {}
    entries = {mds.stored_name(entry): entry for entry in shards}
    if list(entries) != [path.rsplit("/", 1)[1] for path in files]:
        problems.append(f"{folder}/index.json: does not list the version's shards in order")
    return entries


def _check_rows(
    path: str, table: pa.Table, file: Mapping[str, Any], manifest: Mapping[str, Any], names: Sequence[str]
) -> list[str]:
    problems = []
    hi, lo = content_hashes(table["text"].combine_chunks())
    claimed = table["doc_id"].combine_chunks()
    actual = hex_digests(hi, lo)
    if manifest["hash"] == "id":  # the top half is of the id, which the shards do not hold
        claimed, actual = pa.compute.utf8_slice_codeunits(claimed, 16), pa.compute.utf8_slice_codeunits(actual, 16)
    if not claimed.equals(actual):
        problems.append(f"{path}: a text is not the one that its doc_id names")
    lengths = pa.compute.binary_length(table["text"].cast(pa.large_binary()))
    if manifest["unit"] == "bytes" and not lengths.cast(pa.uint32()).equals(table["tokens"]):
        problems.append(f"{path}: a row's 'tokens' is not the length of its text in bytes")
    counted = (
        pl.DataFrame(table.select(["domain", "tokens"])).group_by("domain").agg(pl.len(), pl.col("tokens").cast(pl.Int64).sum())
    )
    found = {row["domain"]: (row["len"], row["tokens"]) for row in counted.iter_rows(named=True)}
    listed = {n: (file["domain_rows"][n], file["domain_tokens"][n]) for n in names if n in file["domain_rows"]}
    if found != listed or table.num_rows != file["rows"] or sum(t for _, t in found.values()) != file["tokens"]:
        problems.append(f"{path}: holds other counts of rows or tokens than the manifest says")
    return problems


def _check_bounds(balance: Balance) -> list[str]:
    worst = [*balance.prefix, balance.shard, balance.whole]
    slack = [1 + max(balance.quotas) * 2.0**-52] * len(worst)  # of float64, where this reports what integers decided
    return [
        f"domain {w.domain!r}: {w.tokens:,.0f} tokens off its share at {w.where}, more than its largest document ({w.bound:,})"
        for w, s in zip(worst, slack, strict=True)
        if w.tokens > w.bound + s
    ]


def _check_books(domains: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[str]:
    problems = []
    for name, d in domains.items():
        if d["rows_read"] != d["rows_written_once"] + d["rows_not_selected"] + d["quarantined"]:
            problems.append(
                f"domain {name!r}: {d['rows_read']:,} rows read are not {d['rows_written_once']:,} written + "
                f"{d['rows_not_selected']:,} not selected + {d['quarantined']:,} quarantined"
            )
        if sum(manifest["quarantine"].get(name, {}).values()) != d["quarantined"]:
            problems.append(f"domain {name!r}: the reasons for quarantine do not add up")
    return problems


class _Epochs:
    """Rows, tokens and multiset hash of every epoch of every domain, against what the survey counted."""

    def __init__(self, manifest: Mapping[str, Any], names: Sequence[str]) -> None:
        self._domains, self._names = manifest["domains"], names
        self._found: dict[tuple[int, int], tuple[int, int]] = {}

    def add(self, table: pa.Table, code: npt.NDArray[np.int64]) -> None:
        digits = np.frombuffer(bytes.fromhex("".join(table["doc_id"].to_pylist())), ">u8").reshape(-1, 2)
        frame = pl.DataFrame(
            {
                "code": code,
                "epoch": table["epoch"].to_numpy(),
                "hi": digits[:, 0].astype(np.uint64),
                "lo": digits[:, 1].astype(np.uint64),
            }
        )
        halves = [_half(c, up) for c in ("hi", "lo") for up in (True, False)]
        sums = frame.group_by("code", "epoch").agg(pl.len(), *[h.sum().alias(str(i)) for i, h in enumerate(halves)])
        for row in sums.iter_rows():
            code_, epoch, count, a, b, c, d = row
            rows, total = self._found.get((code_, epoch), (0, 0))
            self._found[code_, epoch] = rows + count, (total + (a << 96) + (b << 64) + (c << 32) + d) % MODULUS

    def problems(self) -> list[str]:
        problems = []
        for index, name in enumerate(self._names):
            domain = self._domains[name]
            last = max((e for i, e in self._found if i == index), default=0)
            for epoch in range(last):
                if self._found.get((index, epoch)) != (domain["available_rows"], int(domain["multiset"], 16)):
                    problems.append(
                        f"domain {name!r}: epoch {epoch} is not each of its {domain['available_rows']:,} documents once"
                    )
            once = self._found.get((index, 0), (0, 0))[0]
            if once != domain["rows_written_once"]:
                problems.append(
                    f"domain {name!r}: {once:,} documents written once where the manifest says {domain['rows_written_once']:,}"
                )
        return problems


def _half(column: str, up: bool) -> pl.Expr:
    value = pl.col(column)
    return value // 2**32 if up else value % 2**32


def _strangers(store: Store, manifest: Mapping[str, Any]) -> list[str]:
    """Files in the folders that trainers read which no manifest wrote."""
    known = {f["path"] for f in manifest["shards"]} | {f"{manifest['build']}/mds/index.json"}
    formats = sorted({f["format"] for f in manifest["shards"]})
    found = [path for f in formats for path in store.list(f"{manifest['build']}/{f}")]
    return [f"{path}: a stranger, no shard of this version" for path in found if path not in known]
