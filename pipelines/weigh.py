"""The weigh pass: from the survey to a recorded mixture. The driver computes it; embedding and large kernels run on the engine.

The decisions lie in `chameleon_data/weights`. Here are the order of the steps, what the engine does, and what a recipe names in
other datasets: weights and landmarks of a version (OUT@VERSION).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chameleon_data.arrays import I64
from chameleon_data.corpus.sample import merge_samples
from chameleon_data.corpus.selection import Selection
from chameleon_data.corpus.survey import Survey
from chameleon_data.errors import DefectError, InputError, Sentences, explaining, locating
from chameleon_data.hashing import fingerprint
from chameleon_data.pipelines.embed import (
    EmbeddedSamples,
    EmbeddingPace,
    embed_sample,
    group_sample_by_domain,
    sample_fingerprint,
)
from chameleon_data.pipelines.engine import Engine, Progress
from chameleon_data.plan.plan import StageTarget, epoch_caps, stage_quotas, total_weights
from chameleon_data.recipe import Embed, Leverage, Like, Mix, RecordedLandmarks, Stage, Weights, natural_exponent
from chameleon_data.shards.lay_out import stage_budgets
from chameleon_data.store.paths import weighing_path
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.references import open_dataset, resolve_version, split_target
from chameleon_data.versions.streaming import TableFunction
from chameleon_data.versions.versions import Version, read_manifest
from chameleon_data.weights.centre import CentreRule, multiply_prior
from chameleon_data.weights.domain_statistics import JACKKNIFE_GROUPS, domain_statistics
from chameleon_data.weights.domain_weights import TARGET_NAME, TargetSamples, weigh_features
from chameleon_data.weights.embedder import ColumnEmbedder, Embedder, in_precision, load_embedder, other_embed
from chameleon_data.weights.explain.comparison import comparison_mixtures
from chameleon_data.weights.explain.misfiled import Misfiled
from chameleon_data.weights.explain.movement import OtherEmbedder
from chameleon_data.weights.explain.sample_map import map_samples
from chameleon_data.weights.kernels.landmark_records import (
    read_landmark_statistics,
    read_landmarks,
    write_landmark_statistics,
    write_landmarks,
)
from chameleon_data.weights.kernels.landmarks import Landmarks
from chameleon_data.weights.kernels.nystrom import ChunkSums, LandmarkStatistics, SampleChunk
from chameleon_data.weights.make_mixture import (
    add_other_embedders,
    drop_small_domains,
    explain_mixture,
    make_mixture,
    mix_between,
    take_rest,
    warn_of_unembedded,
)
from chameleon_data.weights.mixture import (
    Mixture,
    WeighedStage,
    WeightsFile,
    WeightsVersion,
    describe_mixture,
    mixture_key,
    read_mixture,
    write_mixture,
)
from chameleon_data.weights.published import PublishedWeights, read_published_weights
from chameleon_data.weights.sampling_rounds import SamplingRound, describe_round, round_sizes, warn_of_rounds
from chameleon_data.weights.tfidf import TFIDF, TFIDF_FORMAT, tfidf_vectors
from chameleon_data.weights.tilt import make_tilt
from chameleon_data.weights.weigh import DomainWeights, spread_over_domains, weigh, weights_without_scores

ON_DRIVER = 65_536
"""Samples whose kernel the driver evaluates itself, in half a second."""


@dataclass(frozen=True)
class Weighed:
    """The mixture of a corpus in each stage, and what it was computed from."""

    survey: Survey
    selection: Selection
    stages: tuple[WeighedStage, ...]
    reused: dict[str, str]
    """Pass -> one sentence about what was not done again."""
    unit: str = "bytes"
    """What a token is: bytes, or the tokenizer's name."""

    @property
    def mixture(self) -> Mixture:
        """The mixture of the first stage."""
        return self.stages[0].mixture

    @property
    def budget(self) -> int:
        """Tokens to write in all stages."""
        return sum(stage.budget for stage in self.stages)

    @property
    def targets(self) -> tuple[StageTarget, ...]:
        """What the plan must know of the stages."""
        return tuple(stage.target for stage in self.stages)

    @property
    def weights(self) -> dict[str, str]:
        """Domain -> decimal of its weight in all stages together."""
        return total_weights(self.targets)

    def describe(self) -> dict[str, Any]:
        """What `weights --json` prints."""
        total = sum(c.tokens for c in self.selection.counts)
        about, weights = self.mixture.description, self.weights
        domains = {
            c.name: {
                "weight": float(weights.get(c.name, "0")), "score": about.scores.get(c.name),
                "weight_interval": about.intervals.get(c.name), "natural": c.tokens / total, "available_tokens": c.tokens,
                "available_rows": c.rows, "available_bytes": c.bytes, "quarantined": self.survey.tallies[c.name].quarantined,
                "filtered": self.survey.tallies[c.name].filtered,
                "held_out": self.selection.held_out(c.name), "copies_dropped": self.selection.dropped[c.name],
            }
            for c in self.selection.counts
        }  # fmt: skip
        files = {name: asdict(found) for name, found in self.survey.files.items()}
        return {
            "domains": domains,
            "files": files,
            "columns": {name: asdict(column) for name, column in self.survey.columns.items()},
            "filtered": self.survey.filtered,
            "weights": describe_mixture(about),
            "budget": self.budget,
            "stages": [
                {
                    "budget": stage.budget,
                    "domains": {name: {"weight": float(weight)} for name, weight in stage.mixture.decimals.items()},
                    "warnings": list(stage.mixture.description.warnings),
                }
                for stage in self.stages
            ],
            "reused": self.reused,
        }


def weigh_corpus(
    engine: Engine,
    store: Store,
    embed: Embed,
    leverage: Leverage,
    stages: Sequence[Stage],
    mix: Mix,
    seed: int,
    survey: Survey,
    selection: Selection,
    progress: Progress,
    embedder: Embedder | ColumnEmbedder | None,
    like: Mapping[Like, pa.Table] | None = None,
) -> Weighed:
    """The mixture of this corpus in each stage, from its record where there is one. Writes the records, vectors and landmarks to
    the store.

    A domain may be used in a stage as often as the stages before leave it. `embedder` is that of the recipe, which needs none
    where weights are given. `like`: the samples of the targets that the recipe names (`sample_target`).
    """
    progress("weigh", 0, 0)
    gpu = embedder is not None and engine.gpus > 0
    if isinstance(embedder, Embedder):
        embedder = in_precision(embedder, embed.dtype, gpu)
    tokens, packing = {c.name: c.tokens for c in selection.counts}, selection.rules.packing
    budgets = stage_budgets(stages, sum(tokens.values()) if mix.budget == "auto" else mix.budget)
    # raises where all stages together ask for too much
    epoch_caps(selection.counts, sum(budgets), mix.max_epochs, mix.exhausted)
    weighed, all_reused = list[WeighedStage](), dict[str, str]()
    if 0 in budgets:
        empty = f"stage {budgets.index(0) + 1} would get none of a budget of {sum(budgets):,}"
        raise InputError(f"mix.stages: {empty}; raise 'mix.budget' or its 'share'")

    def caps_of(part: int) -> dict[str, float]:
        quotas = stage_quotas(tokens, [before.target for before in weighed], mix.max_epochs, mix.exhausted, packing)
        used = {name: sum(of_stage[name] for of_stage in quotas) for name in tokens}
        return epoch_caps(selection.counts, part, mix.max_epochs, mix.exhausted, used)

    def mixture_of(weights: Weights, part: int) -> tuple[Mixture, dict[str, str]]:
        caps = caps_of(part)
        if weights.from_:
            mixture, reused = _given_mixture(weights.from_, leverage, weights, caps, list(tokens))
        elif embedder is None:
            raise DefectError("weights are to be computed without an embedder")
        else:
            target = (like or {})[weights.target] if isinstance(weights.target, Like) else None
            mixture, reused = _computed_mixture(
                engine, store, embed, embedder, leverage, weights, tokens, caps, seed, survey, progress, target
            )
        files = {path: read_named_weights("weights.compare", path, list(tokens))[0].weights for path in weights.compare}
        beside = comparison_mixtures(tokens, mixture.description.unbounded, files)
        return replace(mixture, description=replace(mixture.description, mixtures=beside)), reused

    def append_steps(stage: Stage, mixture: Mixture, before: Mixture, parts: Sequence[int]) -> None:
        for number, part in enumerate(parts, 1):
            own, bounds = caps_of(part), stage.weights if number == len(parts) else Weights()
            step = mixture if len(parts) == 1 else mix_between(before, mixture, number / len(parts), own)
            weighed.append(WeighedStage(part, drop_small_domains(step, stage.drop_below, own, bounds)))

    ends = tuple(accumulate((stage.parts for stage in stages), initial=0))
    parts_of = [budgets[begin:end] for begin, end in pairwise(ends)]
    if mix.aggregate == "keep":
        whole, all_reused = mixture_of(stages[0].weights, sum(budgets))
        later = [mixture_of(stage.weights, sum(parts))[0] for stage, parts in zip(stages[1:], parts_of[1:], strict=True)]
        before = take_rest(whole, budgets[0], list(zip(parts_of[1:], later, strict=True)))
        for stage, mixture, parts in zip(stages[1:], later, parts_of[1:], strict=True):
            append_steps(stage, mixture, before, parts)
            before = weighed[-1].mixture
        written = [((one.budget,), one.mixture) for one in weighed]
        first = WeighedStage(budgets[0], take_rest(whole, budgets[0], written))
        return Weighed(survey, selection, (first, *weighed), all_reused)
    for stage, parts in zip(stages, parts_of, strict=True):
        mixture, reused = mixture_of(stage.weights, sum(parts))
        append_steps(stage, mixture, weighed[-1].mixture if weighed else mixture, parts)
        all_reused = {**reused, **all_reused}
    return Weighed(survey, selection, tuple(weighed), all_reused)


def find_centre(weights: Weights, tokens: Mapping[str, int]) -> tuple[CentreRule, WeightsFile | WeightsVersion | None]:
    """The mixture that the recipe tilts, and what it was read from. `tokens`: domain -> tokens that may be written."""
    exponent = natural_exponent(weights.centre)
    if exponent is not None:
        return CentreRule(tokens, exponent, prior=weights.prior), None
    given, source = read_named_weights("weights.centre", weights.centre, list(tokens))
    return CentreRule(tokens, given=given.weights, prior=weights.prior), source


def _given_mixture(
    path: str, leverage: Leverage, weights: Weights, caps: Mapping[str, float], names: list[str]
) -> tuple[Mixture, dict[str, str]]:
    """The mixture of `weights.from`, and what was not done for it."""
    given, source = read_named_weights("weights.from", path, names)
    origin = f"{path} ({given.format})"
    shares = multiply_prior(given.weights, weights.prior)
    result = weights_without_scores(shares, dict.fromkeys(shares), given.notes)
    mixture = make_mixture(result, caps, origin, leverage, weights)
    mixture = replace(mixture, description=replace(mixture.description, given=source))
    return mixture, {"weigh": f"weights read from {origin}"}


def _computed_mixture(
    engine: Engine,
    store: Store,
    embed: Embed,
    embedder: Embedder | ColumnEmbedder,
    leverage: Leverage,
    weights: Weights,
    tokens: Mapping[str, int],
    caps: Mapping[str, float],
    seed: int,
    survey: Survey,
    progress: Progress,
    like: pa.Table | None,
) -> tuple[Mixture, dict[str, str]]:
    """The mixture by leverage, and what was not done again for it."""
    centre, centre_source = find_centre(weights, tokens)
    samples = {name: sample_fingerprint(rows) for name, rows in group_sample_by_domain(survey.sample).items()}
    if absent := sorted(tokens.keys() - samples.keys()):
        raise InputError(
            f"embed.column: no document of domain {absent[0]!r} has a usable vector in {embed.column!r}; embed it, or give the "
            "weights yourself"
        )
    recorded = _recorded_landmarks(leverage.landmarks, embedder.fingerprint)
    used = embedder.fingerprint if len(samples) > 1 else None
    digest = recorded.digest if recorded else None
    like_key = None if like is None else sample_fingerprint(like)
    also = {
        name: fingerprint({TFIDF: TFIDF_FORMAT}) if name == TFIDF else _load_other(engine, embed, name).fingerprint
        for name in embed.also
    }
    path = weighing_path(
        mixture_key(samples, used, digest, caps, embed, leverage, weights, centre, like_key, tuple(also.values()), seed)
    )
    if store.exists(path):
        return read_mixture(store, path), {"weigh": "weights read from the record of an earlier run, nothing embedded"}
    if len(samples) == 1:
        (name,) = samples
        alone = weigh(domain_statistics({name: np.ones((1, 1))}), leverage, make_tilt(weights))
        mixture, reused = make_mixture(alone, caps, "computed", leverage, weights), {}
    else:
        measured = _measure(
            engine, store, embed, leverage, weights, centre, seed, embedder, survey.sample, recorded, progress, like
        )
        result, vectors = measured.result, measured.embedded.vectors
        mixture = make_mixture(
            result, caps, "computed", leverage, weights, centre_source, recorded_landmarks=recorded is not None
        )
        sampled = group_sample_by_domain(measured.sample)
        about = explain_mixture(
            mixture.description, result, vectors, measured.groups, leverage, weights, lambda m: _show_document(sampled, m)
        )
        unembedded = warn_of_unembedded(embed.column, survey.tallies) if embed.column else ()
        doubts = warn_of_rounds(measured.rounds[-1], embed) if measured.rounds else ()
        about = replace(about, embedder=embedder, rounds=measured.rounds, warnings=(*about.warnings, *doubts, *unembedded))
        others = _weigh_by_others(engine, store, embed, also, leverage, weights, centre, seed, measured, like, progress)
        about = add_other_embedders(about, others, _short_name(embedder))
        mixture = replace(mixture, description=about, map=map_samples(vectors))
        if result.nystrom:
            write_landmarks(store, result.nystrom.landmarks)
        reused = measured.describe_reuse(len(samples))
    write_mixture(store, path, mixture)
    return mixture, reused


def _weigh_by_others(
    engine: Engine,
    store: Store,
    embed: Embed,
    also: Mapping[str, str],
    leverage: Leverage,
    weights: Weights,
    centre: CentreRule,
    seed: int,
    measured: _Measured,
    like: pa.Table | None,
    progress: Progress,
) -> list[OtherEmbedder]:
    """The weights of the same documents by each embedder of `embed.also`, given with its fingerprint; landmarks are its own."""
    if isinstance(leverage.landmarks, RecordedLandmarks):
        leverage = leverage.model_copy(update={"landmarks": Leverage().landmarks})
    domains = group_sample_by_domain(measured.sample)
    target = {} if like is None else {TARGET_NAME: like}
    others = []
    for name, key in also.items():
        with locating(f"embed.also: {name}"):
            if name == TFIDF:  # the target under a name that is no domain's
                windows = {n: rows["windows"].to_pylist() for n, rows in domains.items()}
                found = tfidf_vectors(windows | {f"\0{n}": rows["windows"].to_pylist() for n, rows in target.items()})
                vectors = {n: found[n] for n in domains}
                aimed = {n: found[f"\0{n}"] for n in target}
            else:
                embedder = _load_other(engine, embed, name)
                vectors = embed_sample(engine, store, embedder, measured.sample, progress).vectors
                aimed = {n: embed_sample(engine, store, embedder, rows, progress).vectors[n] for n, rows in target.items()}
            aim = None
            if like is not None:
                aim = TargetSamples(aimed[TARGET_NAME], jackknife_groups(like["lo"].to_numpy()))
            run = partial(map_chunks, engine)
            result = spread_over_domains(
                weigh_features(vectors, measured.groups, leverage, weights, centre, seed, run_chunks=run, like=aim)
            )
        others.append(OtherEmbedder(name, key, result.weights, result.intervals))
    return others


def _load_other(engine: Engine, embed: Embed, name: str) -> Embedder:
    """A model of `embed.also`, in the precision that the recipe asks for."""
    embedder = load_embedder(other_embed(embed, name))
    if isinstance(embedder, ColumnEmbedder):
        raise DefectError("a model of embed.also became a column")
    return in_precision(embedder, embed.dtype, engine.gpus > 0)


def _short_name(embedder: Embedder | ColumnEmbedder) -> str:
    return Path(embedder.model).name if isinstance(embedder, Embedder) else f"column {embedder.column}"


@dataclass(frozen=True)
class _Measured:
    """What was computed from the embedded samples: after the last round of `samples: auto`, or the only one."""

    result: DomainWeights
    embedded: EmbeddedSamples
    """The last round's; `newly`, `documents` and `pace` count all rounds."""
    groups: dict[str, I64]
    """Domain -> (n_i) jackknife groups."""
    sample: pa.Table
    """The documents of the last round."""
    rounds: tuple[SamplingRound, ...]
    """Empty where `embed.samples` is a number."""
    known: int
    """Domains whose statistics through landmarks were those of an earlier run."""

    def describe_reuse(self, domains: int) -> dict[str, str]:
        """Pass -> one sentence about what was done and what was not."""
        reused = {"embed": "embedded nothing: the vectors came with the corpus"}
        if self.embedded.newly is not None:
            new, documents = len(self.embedded.newly), self.embedded.documents
            reused["embed"] = f"embedded {new:,} of {domains:,} domains, {documents:,} documents"
        if self.embedded.pace:
            reused["pace"] = self.embedded.pace.describe()
        if self.known:
            reused["statistics"] = f"{self.known} of {domains} domains kept their statistics on the recorded landmarks"
        if self.rounds:
            reused["samples"] = self.rounds[-1].said
        return reused


def _measure(
    engine: Engine,
    store: Store,
    embed: Embed,
    leverage: Leverage,
    weights: Weights,
    centre: CentreRule,
    seed: int,
    embedder: Embedder | ColumnEmbedder,
    sample: pa.Table,
    recorded: Landmarks | None,
    progress: Progress,
    like: pa.Table | None,
) -> _Measured:
    """Embed and weigh, in as many rounds as `embed.samples` asks for."""
    rounds: list[SamplingRound] = []
    newly: frozenset[str] | None = None
    documents, aim = 0, None
    pace: EmbeddingPace | None = None
    if like is not None:
        target = embed_sample(engine, store, embedder, like, progress)
        aim = TargetSamples(target.vectors[TARGET_NAME], jackknife_groups(target.hashes[TARGET_NAME]))
        documents, pace = target.documents, target.pace
    for size in round_sizes(embed):
        drawn = sample if size == embed.drawn else merge_samples([sample], size)
        embedded = embed_sample(engine, store, embedder, drawn, progress)
        progress("weigh", 0, 0)
        if embedded.newly is not None:
            newly = embedded.newly | (newly or frozenset())
        documents += embedded.documents
        if embedded.pace:
            pace = embedded.pace if pace is None else pace + embedded.pace
        groups = {name: jackknife_groups(lo) for name, lo in embedded.hashes.items()}
        keys = {
            name: fingerprint({"domain": name, "embedder": embedder.fingerprint, "sample": sample_fingerprint(rows)})
            for name, rows in group_sample_by_domain(drawn).items()
        }
        known = {} if recorded is None else read_landmark_statistics(store, recorded.digest, keys)
        run = partial(map_chunks, engine)
        result = weigh_features(embedded.vectors, groups, leverage, weights, centre, seed, recorded, run, known, aim)
        if result.nystrom is not None and result.statistics is not None:
            seen = LandmarkStatistics(result.statistics, result.nystrom.residuals)
            new = {name: key for name, key in keys.items() if name not in known}
            write_landmark_statistics(store, result.nystrom.landmarks.digest, seen, new)
        if embed.samples == "auto":
            rounds.append(describe_round(size, result.intervals, embed.tolerance))
            if rounds[-1].narrow or drawn.num_rows == sample.num_rows:
                break
    embedded = replace(embedded, newly=newly, documents=documents, pace=pace)
    return _Measured(result, embedded, groups, drawn, tuple(rounds), len(known))


def jackknife_groups(lo: npt.NDArray[np.uint64]) -> I64:
    """(n) groups of documents, from the low halves of their hashes."""
    return (lo % np.uint64(JACKKNIFE_GROUPS)).astype(np.int64)


def _show_document(sampled: Mapping[str, pa.Table], misfiled: Misfiled) -> tuple[str, str]:
    """Content hash, 32 hexadecimal digits, and first characters of a sampled document."""
    row = sampled[misfiled.domain].slice(misfiled.row, 1).to_pylist()[0]
    return f"{row['hi']:016x}{row['lo']:016x}", " ".join(row["windows"][0][:200].split())[:120]


def map_chunks(
    engine: Engine, function: Callable[[SampleChunk], ChunkSums], chunks: Sequence[SampleChunk]
) -> Iterator[ChunkSums]:
    """`map` over chunks of samples: a table each on the engine, or on the driver where all are one task's work.

    Each chunk has one thread, since the order of sums changes with their number.
    """
    if sum(len(chunk.x) for chunk in chunks) <= ON_DRIVER:
        yield from map(partial(_sum_with_one_thread, function), chunks)
        return
    early: dict[int, ChunkSums] = {}
    """Chunk -> its sums, where an earlier chunk is still at work."""
    following = 0
    for answer in engine.stream(partial(_make_summing, function), [_chunk_table(n, chunk) for n, chunk in enumerate(chunks)]):
        (row,) = answer.to_pylist()
        squares = np.array(row["squares"])
        early[row["chunk"]] = ChunkSums(np.array(row["total"]).reshape(len(squares), -1), squares, row["whole"])
        while following in early:
            yield early.pop(following)
            following += 1


def _sum_with_one_thread(function: Callable[[SampleChunk], ChunkSums], chunk: SampleChunk) -> ChunkSums:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return function(chunk)


def _chunk_table(number: int, chunk: SampleChunk) -> pa.Table:
    x = pa.FixedSizeListArray.from_arrays(pa.array(chunk.x.ravel()), chunk.x.shape[1])
    return pa.table({"chunk": np.full(len(chunk.x), number), "x": x, "group": chunk.group, "normed": chunk.normed})


def _make_summing(function: Callable[[SampleChunk], ChunkSums]) -> TableFunction:
    """What an actor does with the table of a chunk: one row with its sums."""

    def sum_table(table: pa.Table) -> pa.Table:
        x = table["x"].combine_chunks()
        values = x.flatten().to_numpy().reshape(len(x), -1)
        sums = _sum_with_one_thread(function, SampleChunk(values, table["group"].to_numpy(), table["normed"].to_numpy()))
        row = {"chunk": table["chunk"][0].as_py(), "total": sums.total.ravel(), "squares": sums.squares, "whole": sums.whole}
        return pa.Table.from_pylist([row])

    return sum_table


def _recorded_landmarks(asked: int | str | RecordedLandmarks, embedder: str) -> Landmarks | None:
    """The landmarks of the version that the recipe names, if any. Raises InputError where another embedder made them."""
    if not isinstance(asked, RecordedLandmarks):
        return None
    about = find_version("leverage.landmarks", asked.from_)[1].weights
    if about.nystrom is None or about.embedder is None:
        raise InputError(f"leverage.landmarks: {asked.from_} was weighed without landmarks; name another version, or a number")
    if about.embedder.fingerprint != embedder:
        raise InputError(f"leverage.landmarks: {asked.from_} was embedded by another model or window; use that one, or a number")
    return read_landmarks(Store(split_target(asked.from_)[0]), about.nystrom.digest)


def read_named_weights(key: str, origin: str, names: list[str]) -> tuple[PublishedWeights, WeightsFile | WeightsVersion]:
    """Weights of a file or of a version (OUT@VERSION), and what they were exactly. `key` is the recipe's, for messages."""
    text, source = open_named_weights(key, origin)
    return read_published_weights(text, names, origin), source


def open_named_weights(key: str, origin: str) -> tuple[str, WeightsFile | WeightsVersion]:
    """The text of a file of weights, or that of a version's, and what it is exactly."""
    if Path(origin).suffix in (".json", ".yaml", ".yml"):
        unreadable: Sentences = {
            OSError: lambda error: f"{origin} cannot be read ({error.strerror}); correct the path",
            UnicodeDecodeError: f"{origin} is not text in UTF-8; name a JSON or YAML file of domain: weight",
        }
        with explaining(key, unreadable):
            text = Path(origin).read_text(encoding="utf-8")
        return text, WeightsFile(origin, hashlib.sha256(text.encode()).hexdigest())
    version, manifest = find_version(key, origin)
    text = json.dumps({name: domain.weight for name, domain in manifest.domains.items()})
    return text, WeightsVersion(split_target(origin)[0], version.number, version.manifest)


def find_version(key: str, target: str) -> tuple[Version, Manifest]:
    """The version that the recipe's key names as OUT@VERSION, and its manifest."""
    with locating(key):
        url, reference = split_target(target)
        store = open_dataset(url)
        version = resolve_version(store, reference)
        return version, read_manifest(store, version)
