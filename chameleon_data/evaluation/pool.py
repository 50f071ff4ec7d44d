"""The pool: windows of ids of each domain to train on, and held-out documents to judge by.

The t-th window that a model sees of a domain is a function of the pool and a seed alone: each epoch is a permutation by hashes.
So two mixtures with the same seed see the same windows of a domain in the same order; one of them goes further. That pairing is
what makes small differences visible: from scratch and unpaired, two trials differ by .04 bits per byte through their draws alone.

A pool is arrays alone, and is stored without pickle.
Why so much text: docs/decisions/112-pool-of-windows.md. Why some is kept: docs/decisions/114-documents-kept-from-trials.md
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import F64, I64
from chameleon_data.errors import InputError
from chameleon_data.evaluation.vocabulary import END, I32, Vocabulary, train_vocabulary
from chameleon_data.hashing import key64, mix64

U16 = npt.NDArray[np.uint16]
PADDING = -1
"""Id after the end of a held-out document."""
HELD_OUT_BYTES = 600_000
"""Bytes of held-out text that are judged, of all sets together."""
LEAST_HELD_OUT, MOST_HELD_OUT = 20_000, 60_000
"""Bytes of one set, at least and at most."""
DOCUMENT_BYTES = 3_000
"""Bytes of one held-out document: more documents tell more than longer ones."""
KEPT_SHARE = 0.1
"""Share of the documents that are kept from all trials, where a version has no validation split."""
LEAST_DRAWN = 1e-12
"""A share below it is never drawn."""
VOCABULARY_BYTES = 2_000_000
"""Bytes that the vocabulary is trained on, as many of each domain."""


@dataclass(frozen=True)
class HeldOutSet:
    """Documents that no model is trained on, cut in windows."""

    windows: I32
    """(windows, context) ids, PADDING after a document's end."""
    document: I64
    """(windows) number of the document that a window is of."""

    @property
    def documents(self) -> int:
        return int(self.document[-1]) + 1 if len(self.document) else 0


@dataclass(frozen=True)
class Pool:
    """What the judges read."""

    vocabulary: Vocabulary
    windows: dict[str, U16]
    """Domain -> (windows, context) ids, in byte order of name. END stands between documents."""
    held_out: dict[str, HeldOutSet]
    """Domain of the version -> its held-out documents."""
    unseen: dict[str, HeldOutSet]
    """Name -> documents of a domain that no mixture holds."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.windows)

    @property
    def context(self) -> int:
        return int(next(iter(self.windows.values())).shape[1])

    @property
    def sets(self) -> dict[str, HeldOutSet]:
        """All that is judged."""
        return {**self.held_out, **self.unseen}


def held_out_bytes(sets: int) -> int:
    """Bytes of each of so many held-out sets."""
    return min(MOST_HELD_OUT, max(LEAST_HELD_OUT, HELD_OUT_BYTES // sets))


def hold_out(documents: Mapping[str, Sequence[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Domain -> texts to train on, and domain -> texts to judge by, of which no trial sees any.

    The text alone decides, so copies are on one side. Of few documents the one with the lowest hash is held out, and of one none.
    """
    train: dict[str, list[str]] = {}
    kept: dict[str, list[str]] = {}
    below = {text for texts in documents.values() for text in texts if _place(text) < KEPT_SHARE}
    below |= {min(texts, key=_place) for texts in documents.values() if len({*texts}) > 1 and below.isdisjoint(texts)}
    for name, texts in documents.items():
        train[name] = [text for text in texts if text not in below]
        kept[name] = [text for text in texts if text in below]
    return train, kept


def _place(text: str) -> float:
    """A number from 0 to 1, from a hash of the text."""
    return key64("held out", text) / 2**64


def make_pool(
    train: Mapping[str, Sequence[str]],
    held_out: Mapping[str, Sequence[str]],
    unseen: Mapping[str, Sequence[str]],
    context: int,
    vocabulary: int,
    largest: Mapping[str, float] | None = None,
) -> Pool:
    """The pool of these texts. `largest`: domain -> share of its windows to keep; None: all.

    Raises InputError for a domain that fills no window, and for a set without a document.
    """
    names = sorted(train)
    each = VOCABULARY_BYTES // len(names)
    found = train_vocabulary([text for name in names for text in _first_bytes(train[name], each)], vocabulary)
    windows = {}
    for name in names:
        windows[name] = _cut(found.encode(list(train[name])), context)
        if not len(windows[name]):
            raise InputError(f"domain {name!r} holds less than a window of {context} tokens; lower 'evaluate.model.context'")
        if largest is not None:
            windows[name] = windows[name][: max(1, round(largest[name] * len(windows[name])))]
    share = held_out_bytes(len(held_out) + len(unseen))
    sets = [{name: _held_out_set(name, texts, found, context, share) for name, texts in s.items()} for s in (held_out, unseen)]
    return Pool(found, windows, *sets)


def _first_bytes(texts: Sequence[str], most: int) -> list[str]:
    """The first texts, up to so many bytes; the last one is cut."""
    kept, left = [], most
    for text in texts:
        if left <= 0:
            break
        kept.append(text.encode()[:left].decode(errors="ignore"))
        left -= len(text.encode())
    return kept


def _cut(documents: Sequence[I32], context: int) -> U16:
    """(windows, context) of all documents, an END after each; what is left over at the end is dropped."""
    joined = np.concatenate([part for ids in documents for part in (ids, np.array([END], np.int32))] or [np.zeros(0, np.int32)])
    return joined[: len(joined) // context * context].reshape(-1, context).astype(np.uint16)


def _held_out_set(name: str, texts: Sequence[str], vocabulary: Vocabulary, context: int, most: int) -> HeldOutSet:
    short = _first_bytes([text.encode()[:DOCUMENT_BYTES].decode(errors="ignore") for text in texts], most)
    rows, document = [], list[int]()
    for ids in vocabulary.encode(short):
        if len(ids) < 4:
            continue
        number = document[-1] + 1 if document else 0
        for start in range(0, len(ids), context):
            row = np.full(context, PADDING, np.int32)
            row[: len(ids[start : start + context])] = ids[start : start + context]
            rows.append(row)
            document.append(number)
    if not rows:
        raise InputError(f"{name!r} has no held-out document; a larger 'mix.validation' holds out more")
    return HeldOutSet(np.stack(rows), np.array(document, np.int64))


def window_order(name: str, windows: int, seed: int, count: int) -> I64:
    """(count) numbers of the windows of a domain in the order in which they are drawn; each epoch holds every window once."""
    epochs = []
    for epoch in range(-(-count // windows)):
        keys = mix64([np.arange(windows, dtype=np.int64)], key64(seed, name, "window", epoch))
        epochs.append(np.argsort(keys, kind="stable"))
    order: I64 = np.concatenate(epochs)[:count] if epochs else np.zeros(0, np.int64)
    return order


def draw_domains(names: Sequence[str], shares: F64, count: int, seed: int) -> I64:
    """(count) the domain of each window: the n-th of domain d comes at (n + φ_d) / w_d, as in a version's own order.

    So every prefix holds each domain's share within a few windows, and nothing is left to chance but φ_d, a hash.
    """
    at, domain = [], []
    for number, (name, share) in enumerate(zip(names, shares, strict=True)):
        if share > LEAST_DRAWN:
            phase = key64(seed, name, "phase") / 2**64
            n = np.arange(int(np.ceil(share * count)) + 2)
            at.append((n + phase) / share)
            domain.append(np.full(len(n), number))
    order = np.argsort(np.concatenate(at), kind="stable")[:count]
    drawn: I64 = np.concatenate(domain)[order]
    return drawn


def pool_digest(pool: Pool) -> str:
    """sha256 of all that a judge could see of the pool."""
    digest = hashlib.sha256(json.dumps([pool.vocabulary.tokenizer, list(pool.vocabulary.byte_counts)]).encode())
    for name, array in sorted(_arrays(pool).items()):
        digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def encode_pool(pool: Pool) -> bytes:
    """The bytes of the pool's file, which numpy reads without pickle."""
    names = {"names": list(pool.windows), "held_out": list(pool.held_out), "unseen": list(pool.unseen)}
    about = json.dumps({**names, "tokenizer": pool.vocabulary.tokenizer, "byte_counts": pool.vocabulary.byte_counts})
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, about=np.frombuffer(about.encode(), np.uint8), **_numbered(pool))
    return file.getvalue()


def decode_pool(body: bytes) -> Pool:
    """What `encode_pool` encoded."""
    with np.load(io.BytesIO(body), allow_pickle=False) as file:
        about = json.loads(file["about"].tobytes())
        vocabulary = Vocabulary(about["tokenizer"], tuple(about["byte_counts"]))
        windows = {name: file[f"train-{n}"] for n, name in enumerate(about["names"])}
        sets = [
            {name: HeldOutSet(file[f"{kind}-{n}"], file[f"{kind}-{n}-document"]) for n, name in enumerate(about[kind])}
            for kind in ("held_out", "unseen")
        ]
    return Pool(vocabulary, windows, *sets)


def _arrays(pool: Pool) -> dict[str, U16 | I32 | I64]:
    found: dict[str, U16 | I32 | I64] = {f"train {name}": array for name, array in pool.windows.items()}
    for kind, sets in (("held_out", pool.held_out), ("unseen", pool.unseen)):
        found |= {f"{kind} {name}": s.windows for name, s in sets.items()}
        found |= {f"{kind} document {name}": s.document for name, s in sets.items()}
    return found


def _numbered(pool: Pool) -> dict[str, Any]:
    """The arrays by number, since a domain's name need not be one of a file."""
    found: dict[str, Any] = {f"train-{n}": array for n, array in enumerate(pool.windows.values())}
    for kind, sets in (("held_out", pool.held_out), ("unseen", pool.unseen)):
        for n, one in enumerate(sets.values()):
            found |= {f"{kind}-{n}": one.windows, f"{kind}-{n}-document": one.document}
    return found
