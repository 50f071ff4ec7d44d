"""The proof of a stretch of shards, by itself: what a task of `verify` does. What is found in two stretches joins into one.

A task gets a number, reads what stands under it (`proof_files.py`), and returns what it found as a table of one row. So it runs
in any process, and the one that asks holds what was found, not what was read.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import I64, byte_lengths
from chameleon_data.errors import InputError
from chameleon_data.hashing import canonical_json
from chameleon_data.plan.plan import Packing
from chameleon_data.shards.formats.files import IndexEntry
from chameleon_data.shards.rows import DOC_STARTS, LABELS, LOSS_MASK, content_hash, token_ids, token_values
from chameleon_data.store.numbered_rows import NumberedRows
from chameleon_data.store.store import Store
from chameleon_data.versions.checks.balance import BalanceCheck, BalanceFound
from chameleon_data.versions.checks.copies import DocumentFiles, count_hash_bits, find_repeated_documents
from chameleon_data.versions.checks.formats import read_shard
from chameleon_data.versions.checks.problems import ProblemList
from chameleon_data.versions.checks.rows import check_split, check_texts, read_doc_ids
from chameleon_data.versions.checks.split_facts import SplitFacts
from chameleon_data.versions.checks.text_order import Cuts, DocumentRows, TextFound, TextOrderCheck, find_cuts
from chameleon_data.versions.checks.token_order import NamedRow, TokenOrderCheck, TokensFound, count_first_pieces
from chameleon_data.versions.checks.turns import TurnRows, check_turns
from chameleon_data.versions.proof_files import (
    ShardRange,
    read_shared_cuts,
    read_shared_end,
    read_shared_facts,
    read_shared_range,
)
from chameleon_data.versions.shard_table import ShardRecord, read_both_tables, read_shards
from chameleon_data.versions.streaming import TableFunction


@dataclass
class RangeFound:
    """What was found in consecutive shards of one split."""

    split: str
    balance: BalanceFound
    texts: TextFound
    tokens: dict[int, TokensFound] = field(default_factory=dict)
    """Domain's index -> its sequences, where documents are packed."""
    rows: int = 0
    bytes_read: int = 0
    problems: ProblemList = field(default_factory=ProblemList)
    entries: dict[str, list[IndexEntry]] = field(default_factory=dict)
    """Folder of a format -> what its index must say of each shard, for formats that have one."""
    first_shard: int = 0

    def join(self, facts: SplitFacts, later: RangeFound) -> None:
        """Take what was found in the shards that follow."""
        self.problems.join(later.problems)
        if not self.balance.join(later.balance, facts.bounds):
            path = facts.path(later.first_shard)
            self.problems.add("place in the mixture", [f"{path}: its first row stands before its place in the plan's order"])
        self.texts.join(facts, later.texts, self.problems)
        for index, found in later.tokens.items():
            self.tokens.setdefault(index, TokensFound()).join(facts, index, found, self.problems)
        self.rows, self.bytes_read = self.rows + later.rows, self.bytes_read + later.bytes_read
        for folder, entries in later.entries.items():
            self.entries.setdefault(folder, []).extend(entries)

    def pack(self) -> bytes:
        """The finding as the bytes of an .npz file; one of its arrays holds JSON."""
        arrays: dict[str, Any] = {}
        plain: dict[str, Any] = {name: getattr(self, name) for name in ("split", "rows", "bytes_read", "first_shard")}
        for name, part in (("balance", self.balance), ("texts", self.texts)):
            arrays |= {f"{name}.{key}": value for key, value in vars(part).items() if isinstance(value, np.ndarray)}
            plain[name] = {key: value for key, value in vars(part).items() if not isinstance(value, np.ndarray)}
        plain |= {
            "tokens": {str(index): asdict(found) for index, found in self.tokens.items()}, "entries": self.entries,
            "problems": vars(self.problems),
        }  # fmt: skip
        sink = io.BytesIO()
        np.savez(sink, plain=np.frombuffer(canonical_json(plain), np.uint8), **arrays)
        return sink.getvalue()

    @classmethod
    def unpack(cls, body: bytes) -> RangeFound:
        with np.load(io.BytesIO(body), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        plain = json.loads(arrays.pop("plain").tobytes())
        for name, value in arrays.items():
            part, _, key = name.partition(".")
            plain[part][key] = value
        balance = plain.pop("balance")
        for edge in ("worst", "first", "last"):
            balance[edge] = None if balance[edge] is None else tuple(balance[edge])
        problems = ProblemList()
        vars(problems).update(plain.pop("problems"))
        tokens = {int(index): _unpack_tokens(found) for index, found in plain.pop("tokens").items()}
        texts = TextFound(**plain.pop("texts"))
        return cls(balance=BalanceFound(**balance), texts=texts, tokens=tokens, problems=problems, **plain)


def _unpack_tokens(plain: dict[str, Any]) -> TokensFound:
    for name in ("first", "last"):
        plain[name] = None if plain[name] is None else NamedRow(*plain[name])
    for name in ("documents", "ids"):
        plain[name] = {int(epoch): value for epoch, value in plain[name].items()}
    return TokensFound(**plain)


def make_range_sum(store: Store, scratch: Store) -> TableFunction:
    """The function that takes the `number` of a range, its `split`, and its shards, `start` to `stop`. It returns `number`;
    `held` (stages, domains of the split), the tokens in the range by the table; and `last` (domains,), the place in the table of
    the last shard that has rows of a domain, -1 for none. Both are bytes of int64."""
    by_split = read_shared_facts(scratch)

    def add_up(asked: pa.Table) -> pa.Table:
        at, facts = asked["start"][0].as_py(), by_split[asked["split"][0].as_py()]
        index = _index_domains(facts)
        held, last = np.zeros_like(facts.quotas), np.full(len(facts.names), -1, np.int64)
        for shards, domains in read_both_tables(store, facts.manifest, at, asked["stop"][0].as_py()):
            stage = np.array([facts.stage_of(shard) for shard in shards["shard"].to_pylist()])
            row = np.repeat(np.arange(len(shards)), pc.list_value_length(domains["domain_ids"]).to_numpy())
            ids, tokens = (pc.list_flatten(domains[name]).to_numpy() for name in ("domain_ids", "domain_tokens"))
            known = index[ids] >= 0
            np.add.at(held, (stage[row][known], index[ids][known]), tokens[known])
            np.maximum.at(last, index[ids][known], at + row[known])
            at += len(shards)
        found = {"held": held, "last": last}
        return pa.table({"number": asked["number"], **{name: pa.array([a.tobytes()], pa.binary()) for name, a in found.items()}})

    return add_up


def _index_domains(facts: SplitFacts) -> I64:
    """(numbers of domains,) the index of the domain in the split, -1 where it is not in it."""
    numbers = facts.manifest.domain_ids
    index = np.full(max(numbers.values(), default=0) + 1, -1, np.int64)
    index[facts.domain_ids] = np.arange(len(facts.names))
    return index


def make_range_check(store: Store, scratch: Store, ranges: NumberedRows) -> TableFunction:
    """The function that proves the range under `number`, and returns `number`, the `rows`, `tokens` and `bytes` that it read, and
    the packed RangeFound. Documents of the first epoch go to `scratch`, where no text may stand twice."""
    facts = read_shared_facts(scratch)
    cuts = read_shared_cuts(scratch, facts)

    def check(table: pa.Table) -> pa.Table:
        wanted = read_shared_range(scratch, ranges, facts, table["number"][0].as_py())
        proof = _RangeProof(store, facts[wanted.split], cuts[wanted.split], scratch, wanted)
        for record in read_shards(store, facts[wanted.split].manifest, wanted.start, wanted.stop):
            proof.add_shard(record)
        found = proof.end()
        amounts = {"rows": found.rows, "tokens": int((found.balance.held - wanted.held).sum()), "bytes": found.bytes_read}
        columns = {"number": [wanted.number], **{name: [amount] for name, amount in amounts.items()}}
        return pa.table({**columns, "found": pa.array([found.pack()], pa.large_binary())})

    return check


class _RangeProof:
    """The pass over the shards of one range, in order."""

    def __init__(self, store: Store, facts: SplitFacts, cuts: Cuts, scratch: Store, wanted: ShardRange) -> None:
        self._store, self._facts, self._manifest = store, facts, facts.manifest
        self._problems = ProblemList()
        self._balance = BalanceCheck(facts, wanted.held)
        self._texts = TextOrderCheck(facts, cuts, self._problems)
        self._tokens: dict[int, TokenOrderCheck] = {}
        self._held, self._index = wanted.held.copy(), {name: index for index, name in enumerate(facts.names)}
        self._documents: DocumentFiles | None = None
        if self._manifest.recipe.input.dedup != "none" and facts.length is None:
            self._documents = DocumentFiles(scratch, wanted.split, wanted.number, count_hash_bits(self._manifest))
        ids = self._manifest.provenance.writer.ids
        self._end_of_text = -1 if ids is None else ids.end_of_text
        self._found = RangeFound(wanted.split, self._balance.found, self._texts.found, first_shard=wanted.start - facts.first)

    def end(self) -> RangeFound:
        """All that was found."""
        if self._documents:
            self._documents.end()
        return replace(
            self._found,
            balance=self._balance.found,
            texts=self._texts.found,
            tokens={index: check.found for index, check in self._tokens.items()},
            problems=self._problems,
        )

    def add_shard(self, record: ShardRecord) -> None:
        """Read the next shard in every format, and prove its rows. Behind it stand as many tokens as the table says, whatever is
        found, so that one damaged shard moves none of the others."""
        self._prove(record)
        stage = self._facts.stage_of(record.shard)
        for name, tokens in record.domain_tokens.items():
            if name in self._index:
                self._held[stage, self._index[name]] += tokens
        self._balance.found.held = self._held.copy()

    def _prove(self, record: ShardRecord) -> None:
        facts, found, say = self._facts, self._found, self._problems.add
        shard = read_shard(self._store, self._manifest, facts.length, record)
        say("files and formats", shard.problems)
        found.bytes_read += shard.bytes
        folders = {file.format: file.format_folder for file in record.files}
        for format, entry in shard.entries.items():
            found.entries.setdefault(folders[format], []).append(entry)
        if not shard.tables:
            return
        path, rows = shard.choose()
        found.rows += rows.num_rows
        if content_hash(rows) != record.content:
            say("contents", [f"{path}: the documents and their order are not those of its 'content'"])
        if not rows.num_rows:
            say("empty shards", [f"{path}: holds no row"])
            return
        domain = pc.index_in(rows["domain"], pa.array(facts.names, pa.string())).fill_null(-1).to_numpy().astype(np.int64)
        if (domain < 0).any():
            say("names of domains", [f"{path}: holds a domain that the manifest does not name"])
            return
        stage = facts.stage_of(record.shard)
        if (absent := np.unique(domain[facts.quotas[stage][domain] == 0])).size:
            where = f"stage {stage + 1}" if len(facts.stage_shards) > 1 else f"the {facts.split} split"
            say("absent domains", [f"{path}: holds domain {facts.names[absent[0]]!r}, which has no tokens in {where}"])
        if (rows["domain_id"].to_numpy() != facts.domain_ids[domain]).any():
            say("numbers of domains", [f"{path}: a row's 'domain_id' is not the number that the manifest gives its domain"])
        hi, lo, wrong = read_doc_ids(path, rows)
        say("ids of documents", wrong)
        if "text" in rows.column_names:
            say("texts", check_texts(path, rows, hi, self._manifest))
        say("splits", check_split(path, lo, self._manifest, facts.split))
        tokens, epoch = (rows[name].to_numpy().astype(np.int64) for name in ("tokens", "epoch"))
        documents = DocumentRows(domain, hi, lo, epoch, tokens)
        if facts.length is None:
            first = tokens
            self._follow_texts(record.shard, rows, documents)
        elif facts.packing is None:
            first = self._follow_conversations(record.shard, path, rows, documents)
        else:
            first = self._follow_sequences(record.shard, facts.packing, rows, documents)
        if misplaced := self._balance.add(record.shard, domain, tokens, first):
            say("place in the mixture", [f"{path}: {misplaced} stands before its place in the plan's order"])

    def _follow_texts(self, shard: int, rows: pa.Table, documents: DocumentRows) -> None:
        sizes = byte_lengths(rows["text"].combine_chunks()) if "text" in rows.column_names else None
        self._texts.add(shard, documents, sizes)
        if self._documents:
            first = documents.take(documents.epoch == 0)
            size = first.tokens if sizes is None else sizes[documents.epoch == 0]
            self._documents.add(first.domain, first.hi, first.lo, size)

    def _follow_sequences(self, shard: int, packing: Packing, rows: pa.Table, documents: DocumentRows) -> I64:
        """Give each domain's sequences to its check; returns (rows,) the tokens that decide each row's anchor."""
        ids, starts = token_ids(rows), rows[DOC_STARTS].combine_chunks()
        for index in np.unique(documents.domain).tolist():
            at = np.flatnonzero(documents.domain == index)
            mine, (begun, begins) = documents.take(at), _places(starts.take(pa.array(at)))
            self._order_check(index).add(
                shard, int(self._held[:, index].sum()), ids[at], mine.tokens, mine.epoch, mine.hi, mine.lo, begun, begins
            )
        return count_first_pieces(packing, self._end_of_text, ids, documents.tokens)

    def _follow_conversations(self, shard: int, path: str, rows: pa.Table, documents: DocumentRows) -> I64:
        """The same where sequences hold whole conversations."""
        turns = TurnRows(
            token_ids(rows), token_values(rows, LOSS_MASK), documents.tokens, *_places(rows[DOC_STARTS].combine_chunks()),
            trained=self._manifest.recipe.tokens.count == "trained",
        )  # fmt: skip
        labels = token_values(rows, LABELS) if LABELS in rows.column_names else None
        if problems := check_turns(path, turns, labels, self._end_of_text):
            self._problems.add("conversations", problems)
            return documents.tokens
        row, counted, sums = turns.conversations()
        for index in np.unique(documents.domain).tolist():
            at, mine = np.flatnonzero(documents.domain == index), np.flatnonzero(documents.domain[row] == index)
            of = documents.take(at)
            self._order_check(index).add_conversations(
                shard,
                int(self._held[:, index].sum()),
                np.searchsorted(at, row[mine]),
                counted[mine],
                sums[mine],
                of.epoch,
                of.hi,
                of.lo,
            )
        return counted[np.flatnonzero(np.diff(row, prepend=-1))]

    def _order_check(self, index: int) -> TokenOrderCheck:
        if index not in self._tokens:
            self._tokens[index] = TokenOrderCheck(self._facts, index, self._end_of_text, self._problems)
        return self._tokens[index]


def _places(lists: pa.Array) -> tuple[I64, I64]:
    """(rows,) lengths of lists of numbers, and their values one after the other."""
    length, values = (column.to_numpy().astype(np.int64) for column in (pc.list_value_length(lists), lists.flatten()))
    return length, values


def make_end_finder(store: Store, scratch: Store, ends: NumberedRows) -> TableFunction:
    """The function that says where the last epoch of the domains under `number` ends. It returns `split`, `domain` (the index),
    `epoch` and `rank`. The epoch is -1 where the shard cannot be read, which another check tells."""
    by_split = read_shared_facts(scratch)

    def find(table: pa.Table) -> pa.Table:
        asked = read_shared_end(scratch, ends, table["number"][0].as_py())
        facts = by_split[asked.split]
        cuts = Cuts.unknown(len(facts.names))
        for record in read_shards(store, facts.manifest, asked.shard, asked.shard + 1):
            format = min((file.format for file in record.files), key=lambda name: (name != "parquet", name))
            shard = read_shard(store, facts.manifest, facts.length, replace(record, files=record.of_format(format)))
            for rows in shard.tables.values():
                domain = pc.index_in(rows["domain"], pa.array(facts.names, pa.string())).fill_null(-1).to_numpy().astype(np.int64)
                hi, lo, _ = read_doc_ids("", rows)
                epoch = rows["epoch"].to_numpy().astype(np.int64)
                find_cuts(facts, DocumentRows(domain, hi, lo, epoch, epoch).take(np.isin(domain, asked.domains)), cuts)
        found = {"epoch": cuts.epoch[asked.domains], "rank": cuts.rank[asked.domains]}
        return pa.table({"split": [asked.split] * len(asked.domains), "domain": asked.domains, **found})

    return find


def make_copy_finder(scratch: Store) -> TableFunction:
    """The function that takes `split` and `group`, and returns `copies` and an `example`. `scratch` holds the documents."""
    facts = read_shared_facts(scratch)

    def find(table: pa.Table) -> pa.Table:
        split, group = table["split"][0].as_py(), table["group"][0].as_py()
        copies, example = find_repeated_documents(scratch, split, group, facts[split].manifest, facts[split].names)
        return pa.table({"copies": [copies], "example": [example]})

    return find


def unpack_found(table: pa.Table) -> tuple[int, RangeFound]:
    """The number of a range and what was found in it."""
    try:
        return table["number"][0].as_py(), RangeFound.unpack(table["found"][0].as_py())
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"what a task found was damaged on its way ({error}); verify again") from error
