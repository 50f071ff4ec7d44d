"""Small language models on a machine with a GPU: many branched, paired trials, and whether a trial comes out the same twice.

    PYTHONPATH=. python tests/device/evaluate.py --prepare OUT@V --to pool.npz        here, where the whole project is installed
    PYTHONPATH=. python tests/device/evaluate.py --pool pool.npz --to results.json    there

It needs numpy, scipy, pydantic, pyyaml, xxhash, torch, transformers and what these bring, and nothing else of this project's
dependencies. The pool is vocabulary, windows and held-out documents of a version, and travels as one file: 47 MB of text are
30 MB. Without --pool the text is made up. By default: 5M parameters, 50M tokens a trial, the first half of them on uniform,
ten mixtures and three seeds, about ten minutes of one GPU. --tokens, --width, --layers and --seeds make it smaller. Mixtures are
uniform, each domain doubled, and those of --mixtures, a JSON file {name: {domain: share}}. Prints one JSON document; exits with
1 where the first trial, made again, gives other bits.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chameleon_data.evaluation.comparison import Comparison, MixtureTrials, compare_trials
from chameleon_data.evaluation.mixtures import check_mixtures
from chameleon_data.evaluation.pool import Pool, decode_pool, encode_pool, make_pool, pool_digest
from chameleon_data.evaluation.training import TrainingSpec, count_parameters, find_device, train_and_judge, train_branch
from chameleon_data.evaluation.trial_record import TrialRecord, trial_key
from chameleon_data.recipe import ModelShape
from chameleon_data.versions.records import describe_record

BAND = 0.005
POOL_BYTES = 60_000_000
"""Bytes of text of all domains that travel at most."""


def prepare(target: str, to: Path, vocabulary: int, context: int) -> dict[str, Any]:
    """Write the pool of a version to a file."""
    from chameleon_data.evaluation.read_documents import read_split
    from chameleon_data.versions.references import open_dataset, resolve_version, split_target
    from chameleon_data.versions.versions import read_manifest

    url, reference = split_target(target)
    store = open_dataset(url)
    manifest = read_manifest(store, resolve_version(store, reference))
    names = sorted(manifest.domains)
    train, held_out = (read_split(store, manifest, split, dict.fromkeys(names, size))
                       for split, size in (("train", POOL_BYTES // len(names)), ("validation", 400_000)))  # fmt: skip
    pool = make_pool(train, held_out, {}, context, vocabulary)
    to.write_bytes(encode_pool(pool))
    return {"pool": pool_digest(pool), "bytes": to.stat().st_size, "tokens": {n: w.size for n, w in pool.windows.items()}}


def make_up_pool(vocabulary: int, context: int) -> Pool:
    """Four domains of made-up words, half of which all of them share."""
    texts: dict[str, dict[str, list[str]]] = {"train": {}, "held_out": {}}
    for domain in range(4):
        rng = np.random.default_rng(domain)
        for split, count in (("train", 400), ("held_out", 20)):
            own = np.where(rng.random((count, 60)) < 0.5, 0, 300 * (domain + 1)) + rng.zipf(1.3, (count, 60)) % 300
            texts[split][f"domain-{domain}"] = [" ".join(f"w{word}" for word in row) for row in own.tolist()]
    return make_pool(texts["train"], texts["held_out"], {}, context, vocabulary)


def choose_mixtures(pool: Pool, file: Path | None) -> dict[str, dict[str, float]]:
    """Those of a file, or each domain doubled."""
    if file is not None:
        return {name: dict(shares) for name, shares in json.loads(file.read_text()).items()}
    return {f"2 × {name}": {n: 1.0 + (n == name) for n in pool.names} for name in pool.names}


def run(pool: Pool, spec: TrainingSpec, mixtures: Mapping[str, Mapping[str, float]], seeds: int) -> dict[str, Any]:
    """All trials and what they say, as one JSON document holds them."""
    import torch

    digest, named = pool_digest(pool), check_mixtures(pool.names, mixtures)
    records: dict[str, list[TrialRecord]] = {m.name: [] for m in named}
    seconds: list[float] = []
    same = True
    for seed in range(seeds):
        start = time.perf_counter()
        branch = train_branch(pool, spec, seed, None)
        shared = time.perf_counter() - start
        for mixture in named:
            start = time.perf_counter()
            key = trial_key(digest, spec.describe(), mixture.shares, seed, None)
            record = train_and_judge(pool, spec, mixture.shares, seed, None, key, branch)
            seconds.append(time.perf_counter() - start)
            if not records[mixture.name] and mixture is named[0]:
                same = record == train_and_judge(pool, spec, mixture.shares, seed, None, key, branch)
            records[mixture.name].append(record)
    total = sum(windows.size for windows in pool.windows.values())
    natural = {name: windows.size / total for name, windows in pool.windows.items()}
    trials = [MixtureTrials(m, tuple(records[m.name]), {}) for m in named]
    comparison = Comparison(
        version=0, name="device", judge=spec.judge, tokens=spec.tokens, parameters=count_parameters(spec, len(pool.vocabulary)),
        seeds=seeds, band=BAND, branch="the first half of the tokens on uniform", plan="0" * 64, pool=digest, bytes_per_token=0.0,
        mixtures=compare_trials(trials, natural, (), ("equal", "natural"), BAND), unseen=(), held_out="validation",
    )  # fmt: skip
    return {
        "device": torch.cuda.get_device_name() if spec.device == "cuda" else "cpu",
        "seconds_of_a_trial": round(float(np.median(seconds)), 2),
        "seconds_of_a_branch": round(shared, 2),
        "tokens_per_second": round(spec.tokens * (1 - spec.branch_at) / float(np.median(seconds))),
        "same_twice": same,
        "comparison": describe_record(comparison),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepare", metavar="OUT@V")
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--mixtures", type=Path)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--device", choices=("cpu", "cuda"))
    for name, default in (
        ("tokens", 50_000_000),
        ("width", 320),
        ("layers", 4),
        ("context", 256),
        ("vocabulary", 2048),
        ("seeds", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args(arguments)
    if asked.prepare:
        found = prepare(asked.prepare, asked.to, asked.vocabulary, asked.context)
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    pool = decode_pool(asked.pool.read_bytes()) if asked.pool else make_up_pool(asked.vocabulary, asked.context)
    shape = ModelShape(width=asked.width, layers=asked.layers, context=pool.context, vocabulary=asked.vocabulary)
    spec = TrainingSpec(
        "decoder", shape, asked.tokens, 0.5, dict.fromkeys(pool.names, 1 / len(pool.names)), asked.device or find_device()
    )
    found = run(pool, spec, choose_mixtures(pool, asked.mixtures), asked.seeds)
    text = json.dumps(found, indent=2) + "\n"
    if asked.to:
        asked.to.write_text(text)
    sys.stdout.write(text)
    return 0 if found["same_twice"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
