"""Evaluation of a version: a pool from its shards, a plan, a trial for each mixture and seed, and what they say.

The n-gram judge works on the driver. Models are trained by tasks of the engine, one for each trial, which leaves a record;
whatever is recorded is not done again, so the same command goes on after a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.errors import InputError, locating
from chameleon_data.evaluation.comparison import Comparison, MixtureTrials, compare_trials
from chameleon_data.evaluation.mixtures import NamedMixture, find_shares, make_mixtures, short_name
from chameleon_data.evaluation.ngram import (
    CONCENTRATION,
    SEARCHED_TOKENS,
    STARTS,
    NgramJudge,
    best_left_out,
    best_mixture,
    best_of_models,
    count_ngrams,
    without_domain,
)
from chameleon_data.evaluation.plan_record import EvaluationPlan, PlannedTrial, list_branches, list_trials
from chameleon_data.evaluation.pool import Pool, decode_pool, encode_pool, held_out_bytes, hold_out, make_pool, pool_digest
from chameleon_data.evaluation.read_documents import read_split
from chameleon_data.evaluation.training import (
    TrainingSpec,
    checkpoint_key,
    count_parameters,
    find_device,
    train_and_judge,
    train_branch,
)
from chameleon_data.evaluation.trial_record import TrialRecord, sum_by_document
from chameleon_data.evaluation.vocabulary import BYTES_ONLY
from chameleon_data.pipelines.engine import Engine, Progress, Task, run_pass
from chameleon_data.pipelines.weigh import read_named_weights
from chameleon_data.plan.plan import TRAIN, VALIDATION
from chameleon_data.recipe import Evaluate, Input, Source
from chameleon_data.store.paths import (
    checkpoint_path,
    comparison_path,
    evaluation_plan_path,
    pool_path,
    trial_record_path,
)
from chameleon_data.store.store import Store
from chameleon_data.versions.active import active_driver
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.records import encode_record, load_record
from chameleon_data.versions.versions import Version

BYTES_PER_TOKEN = 4
"""Bytes of text that are read for a token, unless a token is a byte; a BPE of 2,048 needs 3."""
SPARE = 8
"""How many times more is read than a trial draws in all, alike of each domain, so that seeds draw different windows. It does not
depend on the mixtures, so that one more of them finds the records of the others."""
NGRAM_SEED = 0


def evaluate_version(
    engine: Engine,
    store: Store,
    version: Version,
    manifest: Manifest,
    asked: Evaluate,
    progress: Progress,
    given: Sequence[NamedMixture] | None = None,
) -> Comparison:
    """Compare the mixtures, `given` or those of the section, on held-out text. Writes records and the comparison.

    Where the version has no validation split, some of its documents are kept from all trials. Raises InputError where a mixture
    cannot be made.
    """
    with active_driver(store) as driver, engine.sharing(store):
        progress = driver.keep_during(progress)
        names = sorted(manifest.domains)

        def read_shares(origin: str) -> Mapping[str, float]:
            return read_named_weights("evaluate.mixtures", origin, names)[0].weights

        mixtures = given or make_mixtures(manifest, asked.mixtures, read_shares)
        branch = find_shares(manifest, asked.branch.mixture, read_shares) if asked.branch else None
        spec = _make_spec(engine, asked, branch)
        progress("pool", 0, 0)
        pool = _read_pool(store, manifest, asked)
        digest = pool_digest(pool)
        if spec is None:
            progress("count", 0, 0)
            return _judge_by_ngrams(store, version, manifest, asked, pool, digest, mixtures)
        plan = EvaluationPlan(
            version=version.number, manifest=version.manifest, pool=digest, judge=spec.describe(),
            mixtures={m.name: m.shares for m in mixtures}, seeds=asked.seeds, band=asked.band,
            left_out=tuple(names) if asked.held_out.unseen == "each" else (), unseen=tuple(pool.unseen),
        )  # fmt: skip
        store.write_new(evaluation_plan_path(plan.digest), encode_record(plan))
        _run_models(engine, store, pool, spec, plan, progress)
        return _compare(store, version, manifest, asked, pool, plan, spec, ())


def _make_spec(engine: Engine, asked: Evaluate, branch: dict[str, float] | None) -> TrainingSpec | None:
    """How models are trained, by the tasks of this engine; None for the n-gram judge."""
    if asked.judge == "ngram":
        return None
    at = asked.branch.at if asked.branch else 0.0
    from chameleon_data.pipelines.ray_engine import RayEngine

    device = "cpu" if isinstance(engine, RayEngine) else find_device()  # Ray gives tasks of a pass no GPU
    return TrainingSpec(asked.judge, asked.model, asked.tokens, at, branch or {}, device)


def _read_pool(store: Store, manifest: Manifest, asked: Evaluate) -> Pool:
    """The pool of a version, from its shards and from the files of unseen domains."""
    names = sorted(manifest.domains)
    width = 1 if asked.model.vocabulary == BYTES_ONLY else BYTES_PER_TOKEN
    share = 1.0 if asked.judge == "ngram" else min(1.0, SPARE / len(names))
    named = asked.held_out.unseen if isinstance(asked.held_out.unseen, dict) else {}
    judged = held_out_bytes(len(names) + len(named)) * 8  # long documents count by their first bytes alone
    size = int(asked.tokens * share) * width + width * SPARE * asked.model.context
    if manifest.validation:
        train = read_split(store, manifest, TRAIN, dict.fromkeys(names, size))
        held_out = read_split(store, manifest, VALIDATION, dict.fromkeys(names, judged))
    else:
        train, held_out = hold_out(read_split(store, manifest, TRAIN, dict.fromkeys(names, size + judged)))
    unseen = {name: _read_unseen(name, path, judged) for name, path in named.items()}
    for name in unseen:
        if name in held_out:
            raise InputError(f"evaluate.held_out.unseen: {name!r} is a domain of this version; name one that is in no mixture")
    scale = _scale(manifest, asked, train, width) if asked.pool == "scaled" else None
    return make_pool(train, held_out, unseen, asked.model.context, asked.model.vocabulary, scale)


def _scale(manifest: Manifest, asked: Evaluate, train: Mapping[str, Sequence[str]], width: int) -> dict[str, float]:
    """Domain -> share of its read windows to keep, so that drawing `tokens` repeats a domain as the version's budget does."""
    written = sum(d.tokens / d.available_tokens * d.available_bytes for d in manifest.domains.values())
    share = asked.tokens * width / written
    read = {name: sum(len(text.encode()) for text in texts) for name, texts in train.items()}
    return {name: min(1.0, share * d.available_bytes / max(1, read[name])) for name, d in manifest.domains.items()}


def _read_unseen(name: str, path: str, most: int) -> list[str]:
    """The first documents of an unseen domain, `most` bytes at least where there are so many."""
    source = Source(path=(path,))
    texts: list[str] = []
    with locating(f"evaluate.held_out.unseen.{name}"):
        for fragment in list_fragments(name, source).fragments:
            for block in read_blocks(fragment, source, Input().max_document, 2**20):
                for text in block.text.to_pylist():
                    texts.append(text.decode() if isinstance(text, bytes) else text)
                    most -= len(texts[-1].encode())
                    if most <= 0:
                        return texts
    return texts


# The n-gram judge


def _judge_by_ngrams(
    store: Store, version: Version, manifest: Manifest, asked: Evaluate, pool: Pool, digest: str, mixtures: Sequence[NamedMixture]
) -> Comparison:
    """The comparison by trigrams, with the mixtures that they themselves find best beside."""
    judge = count_ngrams(pool, asked.tokens, NGRAM_SEED)
    names = pool.names
    own = {name: judge.sets[name].first(SEARCHED_TOKENS) for name in names}
    left_out = names if not pool.unseen and len(names) > 1 else ()
    found = {f"best of {STARTS} starts": best_mixture(judge, own, NGRAM_SEED), "best of own models": best_of_models(judge, own)}
    if left_out:
        found["best left out in turn"] = best_left_out(judge, own, NGRAM_SEED)
    chosen = [NamedMixture(name, dict(zip(names, shares.tolist(), strict=True))) for name, shares in found.items()]
    settings = {"judge": "ngram", "tokens": asked.tokens, "concentration": list(CONCENTRATION)}
    everything = {m.name: m.shares for m in (*mixtures, *chosen)}
    plan = EvaluationPlan(
        version.number,
        version.manifest,
        digest,
        cast(Any, settings),
        everything,
        1,
        asked.band,
        tuple(left_out),
        tuple(pool.unseen),
    )
    store.write_new(evaluation_plan_path(plan.digest), encode_record(plan))
    for trial in list_trials(plan):
        _record(store, trial.key, partial(_judge_one, judge, trial))
    return _compare(store, version, manifest, asked, pool, plan, None, [m.name for m in chosen])


def _judge_one(judge: NgramJudge, trial: PlannedTrial) -> TrialRecord:
    shares = np.array([trial.mixture.shares[name] for name in judge.names])
    if trial.without is not None:
        shares = without_domain(shares, judge.names.index(trial.without))
    judged = judge.sets if trial.without is None else {trial.without: judge.sets[trial.without]}
    sets = {name: sum_by_document(judge.token_bits(c, shares), c.bytes, c.document) for name, c in judged.items()}
    return TrialRecord(trial.key, trial.seed, trial.without, trial.mixture.shares, sets)


def _record(store: Store, key: str, make: Callable[[], TrialRecord]) -> None:
    """Make a record unless it is there."""
    if not store.exists(trial_record_path(key)):
        store.write(trial_record_path(key), encode_record(make()))


# Models


def _run_models(engine: Engine, store: Store, pool: Pool, spec: TrainingSpec, plan: EvaluationPlan, progress: Progress) -> None:
    """Every trial of the plan that has no record yet, and before them the checkpoints that these need."""
    plan = _read_plan(store, plan.digest)  # in the order of its file, by which tasks are numbered
    trials = list_trials(plan)
    recorded = set(store.list(trial_record_path("").rpartition("/")[0]))
    missing = [number for number, trial in enumerate(trials) if trial_record_path(trial.key) not in recorded]
    if not missing:
        return
    if not store.exists(pool_path(plan.pool)):
        store.write(pool_path(plan.pool), encode_pool(pool))
    if spec.branch_steps:
        branches = list_branches(plan)
        there = set(store.list(checkpoint_path("").rpartition("/")[0]))
        asked = {(trials[number].seed, trials[number].without) for number in missing}
        keys = [checkpoint_path(checkpoint_key(plan.pool, spec, *branch)) for branch in branches]
        needed = [number for number, branch in enumerate(branches) if branch in asked and keys[number] not in there]
        about = Task(partial(_train_branch, store, plan.digest), lambda number: f"seed {branches[number][0]}")
        run_pass(engine, "branch", about, needed, progress)
    about = Task(
        partial(_train_trial, store, plan.digest), lambda n: f"mixture {trials[n].mixture.name!r}, seed {trials[n].seed}"
    )
    run_pass(engine, "judge", about, missing, progress, done=len(trials) - len(missing))


@lru_cache(maxsize=1)
def _read_plan(store: Store, digest: str) -> EvaluationPlan:
    return load_record(store, evaluation_plan_path(digest), EvaluationPlan)


def _train_branch(store: Store, plan: str, number: int) -> None:
    recorded = _read_plan(store, plan)
    spec, (seed, without) = TrainingSpec.of(recorded.judge), list_branches(recorded)[number]
    body = train_branch(decode_pool(store.read(pool_path(recorded.pool))), spec, seed, without, _gpu(spec, number))
    store.write(checkpoint_path(checkpoint_key(recorded.pool, spec, seed, without)), body)


def _train_trial(store: Store, plan: str, number: int) -> None:
    recorded = _read_plan(store, plan)
    spec, trial = TrainingSpec.of(recorded.judge), list_trials(recorded)[number]
    pool = decode_pool(store.read(pool_path(recorded.pool)))
    branch = None
    if spec.branch_steps:
        branch = store.read(checkpoint_path(checkpoint_key(recorded.pool, spec, trial.seed, trial.without)))
    record = train_and_judge(pool, spec, trial.mixture.shares, trial.seed, trial.without, trial.key, branch, _gpu(spec, number))
    store.write(trial_record_path(trial.key), encode_record(record))


def _gpu(spec: TrainingSpec, number: int) -> int:
    """A GPU for each task in turn."""
    import torch

    return number % torch.cuda.device_count() if spec.device == "cuda" else 0


# What they say


def _compare(
    store: Store,
    version: Version,
    manifest: Manifest,
    asked: Evaluate,
    pool: Pool,
    plan: EvaluationPlan,
    spec: TrainingSpec | None,
    chosen: Sequence[str],
) -> Comparison:
    """The comparison of a plan whose trials are all recorded; it is written too."""
    records = [(trial, load_record(store, trial_record_path(trial.key), TrialRecord)) for trial in list_trials(plan)]
    trials = []
    for name, shares in plan.mixtures.items():
        own = [(trial, record) for trial, record in records if trial.mixture.name == name]
        whole = tuple(record for trial, record in own if trial.without is None)
        without = {d: tuple(record for trial, record in own if trial.without == d) for d in plan.left_out}
        trials.append(MixtureTrials(NamedMixture(name, shares), whole, without, name in chosen))
    total = sum(d.available_tokens for d in manifest.domains.values())
    natural = {name: manifest.domains[name].available_tokens / total for name in pool.names}
    unseen = plan.left_out or plan.unseen
    tokens = sum(int((one.windows >= 0).sum()) for one in pool.held_out.values())
    size = sum(int(pool.vocabulary.bytes_of(np.maximum(one.windows, 0)).sum()) for one in pool.held_out.values())
    shared = (
        f"the first {asked.branch.at:g} of the tokens on {short_name(asked.branch.mixture)}" if spec and asked.branch else None
    )
    comparison = Comparison(
        version=version.number, name=manifest.name, judge=asked.judge, tokens=asked.tokens,
        parameters=None if spec is None else count_parameters(spec, len(pool.vocabulary)), seeds=plan.seeds, band=plan.band,
        branch=shared, plan=plan.digest, pool=plan.pool, bytes_per_token=round(size / tokens, 4),
        mixtures=compare_trials(trials, natural, unseen, asked.held_out.weigh, plan.band), unseen=tuple(unseen),
        held_out="validation" if manifest.validation else "kept",
    )  # fmt: skip
    store.write(comparison_path(version.number, asked.judge, plan.digest), encode_record(comparison))
    return comparison
