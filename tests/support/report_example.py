"""A version as the report shows it: real weights of made-up embeddings, and the real order of made-up rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from chameleon_data.hashing import key64
from chameleon_data.plan.plan import PHASE_BITS
from chameleon_data.recipe import Leverage, Weights
from chameleon_data.store.store import Store
from chameleon_data.versions.checks.balance import Balance, BalanceCheck, describe_balance
from chameleon_data.versions.checks.split_facts import SplitFacts
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.verify import Verification
from chameleon_data.views.report.domains import read_report_rows
from chameleon_data.views.report.page import render_report
from chameleon_data.weights.bounds import bound_weights
from chameleon_data.weights.domain_statistics import domain_statistics, moments
from chameleon_data.weights.domain_weights import domain_weights
from chameleon_data.weights.evidence import cite_evidence
from chameleon_data.weights.explain.closeness import mark_pairs
from chameleon_data.weights.explain.comparison import comparison_mixtures
from chameleon_data.weights.explain.misfiled import find_misfiled
from chameleon_data.weights.explain.near_duplicates import nearest_pairs
from chameleon_data.weights.explain.neighbours import find_neighbours
from chameleon_data.weights.explain.sensitivity import sensitivity_table
from chameleon_data.weights.tilt import Tilt
from tests.support.manifests import example_manifest

NAMES = ("arxiv", "book", "c4", "cc", "github", "legal", "medical", "stackexchange", "technical", "wikipedia")
HOSTILE = (
    "<script>document.title='owned'</script>", "\"quoted\" & 'quoted' onload=alert(1)", "$x^2_{oops}$ \\frac",
    "متن فارسی و عربی", "網頁語料庫", "</style></svg><img src=http://x.invalid/a.png>", "a-name-of-200-characters-" + "x" * 175,
    "{{ manifest }} {% raw %}", "🦎", "plain",
)  # fmt: skip
SECTIONS = (
    "conclusions",
    "mixture",
    "evaluation",
    "epochs",
    "lengths",
    "balance",
    "quarantine",
    "books",
    "weights",
    "leverage",
    "affinity",
    "map",
    "provenance",
    "timings",
)
EXAMPLES = Store("memory://examples-of-reports")
"""Holds the tables of all examples."""
CREATED = "2026-01-01T00:00:00+00:00"


def example_report(
    names: Sequence[str] = NAMES, *, budget: int = 12_000_000, shards: int = 24, samples: int = 256, given: bool = False
) -> tuple[Manifest, Verification]:
    """A manifest and its verification, with the real weights of made-up embeddings and the real order of made-up rows."""
    rng, k = np.random.default_rng(0), len(names)
    about, map_ = _weights(rng, names, samples) if k > 2 and not given else _given(names)
    counts = rng.integers(300, 3_000, k)
    counts[k // 2] = 40 if k > 2 else 800  # one that the limit of epochs holds back
    sizes = {n: rng.lognormal(7.6, 1.0, c).clip(40, 60_000).astype(np.int64) for n, c in zip(names, counts, strict=True)}
    feasible = bound_weights(about["unbounded"], epoch_cap={n: 4 * int(s.sum()) / budget for n, s in sizes.items()})
    about["moved"], weight = [asdict(m) for m in feasible.moved], {n: float(d) for n, d in feasible.decimals.items()}
    tokens = {n: int(s.sum()) for n, s in sizes.items()}
    about["mixtures"] = comparison_mixtures(tokens, about["unbounded"], {f"/data/{names[0]}.json": dict.fromkeys(names, 1 / k)})
    quota = {n: int(budget * weight[n]) for n in names}
    written, balance = _place(names, sizes, quota, shards)
    domains, quarantine = {}, {}
    for index, n in enumerate(names):
        rows, available = written[written[:, 0] == index], len(sizes[n])
        once, bad = min(len(rows), available), 3 if index % 4 == 1 else 0
        if bad:
            quarantine[n] = {"the text is empty": 2, "broken JSON": 1}
        domains[n] = {
            "weight": weight[n], "target_tokens": quota[n], "tokens": int(rows[:, 1].sum()), "rows": len(rows),
            "epochs": float(rows[:, 1].sum() / sizes[n].sum()), "available_tokens": int(sizes[n].sum()),
            "available_rows": available, "available_bytes": int(sizes[n].sum()), "largest_document": int(sizes[n].max()),
            "multiset": f"{index:032x}", "rows_read": available + bad, "rows_written_once": once,
            "rows_not_selected": available - once, "quarantined": bad, "held_out": 0, "copies_dropped": 0, "filtered": 0,
            "copies_written": 0, "most_copies": 1, "score": about["scores"][n],
            "weight_interval": about["intervals"][n],
        }  # fmt: skip
    files = []
    for form, scale in (("parquet", 0.38), ("mds", 0.41)):
        for s in range(shards):
            here = written[written[:, 2] == s]
            by = {n: here[here[:, 0] == i] for i, n in enumerate(names)}
            files.append(
                {
                    "path": f"builds/{'ab' * 32}/{form}/shard.{s:05}.{form}",
                    "format": form,
                    "split": "train",
                    "shard": s,
                    "rows": len(here),
                    "tokens": int(here[:, 1].sum()),
                    "bytes": int(scale * here[:, 1].sum()),
                    "sha256": f"{s:064x}",
                    "domain_tokens": {n: int(r[:, 1].sum()) for n, r in by.items()},
                    "domain_rows": {n: len(r) for n, r in by.items()},
                }
            )
    prefix = max(balance.prefix, key=lambda w: w.share)
    proof = Verification(
        (), len(files), len(written), sum(f["bytes"] for f in files), balance.whole, balance.shard, prefix,
        {w.domain: w for w in balance.prefix},
    )  # fmt: skip
    recipe = {
        "name": "ten-domains", "out": "/data/out/ten-domains", "seed": 0,
        "sources": {n: {"path": [f"/data/corpora/{n}/*.jsonl.zst"], "text": "text", "id": None} for n in names},
        "input": {"hash": "text", "max_bad": 0.001}, "leverage": {"preset": "default", "kernel": "linear", "ridge": "auto"},
        "weights": {"objective": "pretrain", "temperature": "auto"},
        "mix": {"budget": budget, "max_epochs": 4.0, "exhausted": "redistribute"},
        "shards": {"formats": ["parquet", "mds"], "size": 67108864},
    }  # fmt: skip
    inputs = [
        {
            "source": n,
            "url": f"/data/corpora/{n}/part-{i}.jsonl.zst",
            "format": "jsonl",
            "compression": "none",
            "bytes": 9_000_000 + i,
            "identity": f"{i}-{n}",
        }
        for n in names
        for i in range(3)
    ]
    packages = {"polars": "2.1.0", "ray": "2.60.0"}
    manifest = example_manifest(
        "ten-domains", EXAMPLES, recipe=recipe, plan_digest="ab" * 32, digest="cd" * 32, content_digest="ef" * 32,
        build=f"builds/{'ab' * 32}", budget=budget, shard_count=shards, shard_counts={"train": shards}, domains=domains,
        weights=about, quarantine=quarantine, shards=files, map=map_, reused={"embed": f"embedded 1 of {k} domains"},
        timings={"survey": 12.4, "embed and weigh": 31.0, "plan": 0.42, "write": 18.7},
        expected={"survey": 11.0, "embed and weigh": 30.0, "plan": 0.5, "write": 21.0},
        inputs=inputs, provenance={"packages": packages, "python": "3.11.9"},
    )  # fmt: skip
    return manifest, proof


def render_example(manifest: Manifest, *facts: Any, store: Store = EXAMPLES) -> str:
    """The page of a manifest whose tables lie on a store, with the other arguments of `render_report`."""
    return render_report(manifest, read_report_rows(store, manifest), *facts)


def _weights(rng: np.random.Generator, names: Sequence[str], samples: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Domains around three centres, with radii of their own."""
    k, p = len(names), 48
    centres = rng.normal(size=(3, p))
    vectors = {}
    for i, n in enumerate(names):
        mean = 1.2 * centres[i % 3] + (0.7 + 0.9 * rng.random()) * rng.normal(size=p)
        x = mean + 1.6 * rng.normal(size=(samples, p)) * np.geomspace(2, 0.3, p)
        vectors[n] = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = domain_weights(vectors)
    pooled = np.concatenate(list(vectors.values()))
    flat = (pooled - pooled.mean(0)) @ np.linalg.svd(pooled - pooled.mean(0), full_matrices=False)[2][:2].T
    map_ = {n: np.round(flat[i * samples : (i + 1) * samples], 4).tolist() for i, n in enumerate(names)}
    assert found.affinity is not None
    ordered = sorted(names, key=str.encode)
    assert found.ridge is not None
    statistics = domain_statistics(vectors)
    lowered = find_neighbours(list(found.weights), found.affinity, found.ridge * len(names))
    pairs = nearest_pairs(statistics.names, moments(statistics))
    about = {
        "origin": "computed", "objective": "pretrain", "preset": "default", "kernel": "linear", "ridge": found.ridge,
        "temperature": found.temperature, "effective_domains": found.effective_domains, "clipped_mass": found.clipped_mass,
        "warnings": [f"{names[1]!r} and {names[4]!r} are nearly the same"] if k > 4 else [], "names": ordered,
        "affinity": found.affinity.tolist(), "beyond_noise": mark_pairs(statistics).tolist(),
        "intervals": found.intervals, "scores": found.scores,
        "rank_stability": found.rank_stability, "unbounded": found.weights, "kl": found.kl, "kl_after_bounds": 0.0321,
        "target": "unseen", "evidence": cite_evidence(Weights(), Leverage()),
        "centre": {"name": "uniform", "shares": dict.fromkeys(ordered, 1 / k)}, "variance_of_mean": found.variance_of_mean,
        "moved": [], "level": "domain", "pairs": [asdict(p) for p in pairs],
        "near_duplicates": [f"{names[0]!r} and {names[-1]!r} look like one domain"],
        "neighbours": {n: [asdict(x) for x in some] for n, some in lowered.items()},
        "sensitivity": [asdict(s) for s in sensitivity_table(statistics, Leverage(), Tilt("inverse"))] if len(names) < 40 else [],
        "misfiled": [
            {**asdict(m), "document": f"{i:032x}", "text": f"{HOSTILE[i % 10]} {i} " + "w" * 300}
            for i, m in enumerate(find_misfiled(vectors, most=25))
        ],
        "nystrom": {
            "kernel": {"name": "rbf", "bandwidth": 0.71828, "degree": 2}, "landmarks": 1_256, "error": 0.00314,
            "residuals": {n: i / 100 for i, n in enumerate(ordered)}, "digest": "fe" * 32, "recorded": True,
            "bounds": {n: [0.1, 0.1 + (i + 1) / 1000] for i, n in enumerate(ordered)},
        },
        "embedder": {"model": HOSTILE[0], "layer": "middle", "revision": None, "window": 256, "fingerprint": "ab" * 32},
        "rounds": [{"samples": 64, "widest": 0.08, "domain": names[0], "narrow": False, "said": "64"},
                   {"samples": 1_024, "widest": 0.018, "domain": names[0], "narrow": True, "said": "1,024"}],
    }  # fmt: skip
    return about, map_


def _given(names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    shares = {n: 2 * (i + 1) / (len(names) * (len(names) + 1)) for i, n in enumerate(sorted(names))}
    nothing = dict.fromkeys(names)
    about = {
        "origin": "computed" if len(names) == 1 else "/data/<b>weights</b>.json", "objective": "pretrain",
        "preset": "default", "kernel": "linear", "ridge": None, "temperature": None, "effective_domains": float(len(names)),
        "clipped_mass": 0.0, "warnings": [], "names": list(names), "affinity": None, "intervals": dict(nothing),
        "scores": dict(nothing), "rank_stability": dict(nothing), "unbounded": shares, "variance_of_mean": dict(nothing),
        "moved": [], "level": "domain", "nystrom": None,
    }  # fmt: skip
    return about, {}


def _place(names: Sequence[str], sizes: dict[str, Any], quota: dict[str, int], shards: int) -> tuple[Any, Balance]:
    """Rows (domain, tokens, shard) in output order, and what `verify` would say of them."""
    rows = []
    for index, n in enumerate(names):
        tokens = np.tile(sizes[n], 1 + quota[n] // int(sizes[n].sum()))
        anchor = np.cumsum(tokens) - tokens + ((tokens * (key64(0, n, "phase") >> (64 - PHASE_BITS))) >> PHASE_BITS)
        kept = anchor < quota[n]
        rows.append(np.stack([np.full(kept.sum(), index), tokens[kept], anchor[kept] / quota[n]], axis=1))
    merged = np.concatenate(rows)
    merged = merged[np.lexsort((merged[:, 0], merged[:, 2]))]
    domains = {n: {"target_tokens": quota[n], "largest_document": int(sizes[n].max())} for n in names}
    facts = SplitFacts("train", example_manifest(domains=domains, shard_counts={"train": shards}))
    check = BalanceCheck(facts, np.zeros((1, len(names)), np.int64))
    place = np.array([facts.names.index(n) for n in names])
    merged[:, 2] = np.floor(merged[:, 2] * shards)
    written = merged.astype(np.int64)
    for s in range(shards):
        here = written[written[:, 2] == s]
        check.add(s, place[here[:, 0]], here[:, 1], here[:, 1])
    return written, describe_balance(facts, check.found)
