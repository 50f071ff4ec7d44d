"""Pass 3: from the survey to a recorded mixture. On the driver; only what is missing is embedded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from chameleon_data.arrays import F32, I64
from chameleon_data.corpus.sample import merge_samples
from chameleon_data.corpus.selection import Selection
from chameleon_data.corpus.survey import Survey
from chameleon_data.errors import InputError, Sentences, explaining
from chameleon_data.hashing import fingerprint
from chameleon_data.pipelines.embed import EmbeddedSamples, embed_sample, group_sample_by_domain, sample_fingerprint
from chameleon_data.pipelines.ray_cluster import Progress, cluster_cpus
from chameleon_data.plan.plan import epoch_caps, quota_of
from chameleon_data.recipe import Recipe, RecordedLandmarks
from chameleon_data.store.checksummed import read_table, write_table
from chameleon_data.store.paths import landmarks_path, statistics_folder, weighing_path
from chameleon_data.store.store import Store
from chameleon_data.versions.versions import Version, load_manifest, open_dataset, resolve_version, split_target
from chameleon_data.weights.affinity import JACKKNIFE_GROUPS, domain_statistics, moments
from chameleon_data.weights.bounds import bound_weights
from chameleon_data.weights.embedder import ColumnEmbedder, Embedder, load_embedder
from chameleon_data.weights.explain import (
    find_misfiled,
    find_neighbours,
    nearest_pairs,
    sensitivity_table,
    warn_of_near_duplicates,
)
from chameleon_data.weights.kernels import EXACT
from chameleon_data.weights.leverage import perplexity
from chameleon_data.weights.mixture import (
    MIXTURE_FORMAT,
    LandmarksUsed,
    MisfiledDocument,
    Mixture,
    MixtureDescription,
    SamplingRound,
    WeightsFile,
    WeightsVersion,
    describe_mixture,
    read_mixture,
    write_mixture,
)
from chameleon_data.weights.published import PublishedWeights, comparison_mixtures, read_published_weights
from chameleon_data.weights.sample_map import map_samples
from chameleon_data.weights.weigh import DomainWeights, weigh, weigh_features, weights_without_scores

if TYPE_CHECKING:
    from chameleon_data.weights.landmarks import ChunkSums, Landmarks, LandmarkStatistics, SampleChunk

FIRST_ROUND = 64
"""Documents of the first round of `samples: auto`; the half correction of fewer leaves a bias that no interval sees."""
ON_DRIVER = 65_536
"""Samples whose kernel the driver evaluates itself, in half a second."""
RECORDED_DOMAINS = 300
"""Up to these many, what has a number for each pair of domains, or for each domain and setting, is recorded: 1 MB at most."""
MISFILED_RECORDED = 20
MOST_DOMAINS_SEARCHED = 200
"""Beyond these many, the search for misfiled documents would take longer than all else here."""


@dataclass(frozen=True)
class Weighed:
    survey: Survey
    selection: Selection
    mixture: Mixture
    budget: int
    reused: dict[str, str]
    """Pass -> one sentence about what was not done again."""

    def describe(self) -> dict[str, Any]:
        """What `weights --json` prints."""
        total = sum(c.tokens for c in self.selection.counts)
        about = self.mixture.description
        domains = {
            c.name: {
                "weight": float(self.mixture.decimals[c.name]), "score": about.scores.get(c.name),
                "weight_interval": about.intervals.get(c.name), "natural": c.tokens / total, "available_tokens": c.tokens,
                "available_rows": c.rows, "available_bytes": c.bytes, "quarantined": self.survey.tallies[c.name].quarantined,
                "held_out": self.selection.held_out(c.name), "copies_dropped": self.selection.dropped[c.name],
            }
            for c in self.selection.counts
        }  # fmt: skip
        return {"domains": domains, "weights": describe_mixture(about), "budget": self.budget, "reused": self.reused}


def weigh_corpus(store: Store, recipe: Recipe, survey: Survey, selection: Selection, progress: Progress) -> Weighed:
    """The mixture of this corpus, from the record where there is one."""
    budget = sum(c.tokens for c in selection.counts) if recipe.mix.budget == "auto" else recipe.mix.budget
    caps = epoch_caps(selection.counts, budget, recipe.mix.max_epochs, recipe.mix.exhausted)
    tokens = {c.name: c.tokens for c in selection.counts}
    if recipe.weights.from_:
        given, lineage = _given("weights.from", recipe.weights.from_, list(tokens))
        origin = f"{recipe.weights.from_} ({given.format})"
        mixture = _mixture(recipe, weights_without_scores(given.weights, dict.fromkeys(given.weights), given.notes), caps, origin)
        mixture = replace(mixture, description=replace(mixture.description, given=lineage))
        return _compared(Weighed(survey, selection, mixture, budget, {"weigh": f"weights read from {origin}"}), recipe, tokens)
    embedder = load_embedder(recipe.embed)
    samples = {name: sample_fingerprint(rows) for name, rows in group_sample_by_domain(survey.sample).items()}
    if absent := sorted(tokens.keys() - samples.keys()):
        raise InputError(
            f"embed.column: no document of domain {absent[0]!r} has a usable vector in {recipe.embed.column!r}; embed it, or "
            "give the weights yourself"
        )
    recorded = _recorded(recipe.leverage.landmarks, embedder.fingerprint)
    key = fingerprint({
        "format": MIXTURE_FORMAT, "samples": samples, "caps": caps,
        "embedder": embedder.fingerprint if len(samples) > 1 else None,
        "leverage": recipe.leverage.model_dump(mode="json") | ({"landmarks": recorded.digest} if recorded else {}),
        "rounds": [recipe.embed.tolerance, recipe.embed.max_samples] if recipe.embed.samples == "auto" else None,
        "weights": recipe.weights.model_dump(mode="json", exclude={"compare"}),
        "seed": None if recipe.leverage.kernel in EXACT else recipe.seed,
    })  # fmt: skip
    path = weighing_path(key)
    if store.exists(path):
        mixture = read_mixture(store, path)
        reused = {"weigh": "weights read from the record of an earlier run, nothing embedded"}
        return _compared(Weighed(survey, selection, mixture, budget, reused), recipe, tokens)
    if len(samples) == 1:
        (name,) = samples
        mixture = _mixture(
            recipe, weigh(domain_statistics({name: np.ones((1, 1))}), recipe.leverage, recipe.weights), caps, "computed"
        )
        reused = {}
    else:
        measured = _rounds(store, recipe, embedder, survey.sample, recorded, progress)
        result, features = measured.result, measured.features
        mixture = _mixture(recipe, result, caps, "computed", recorded=recorded is not None)
        about = _explained(mixture.description, recipe, result, features.vectors, measured.groups, measured.sample)
        about = replace(
            about, embedder=embedder, rounds=measured.rounds,
            warnings=(*about.warnings, *measured.doubts, *_unembedded(recipe, survey)),
        )  # fmt: skip
        mixture = replace(mixture, description=about, map=map_samples(features.vectors))
        if result.nystrom:
            write_table(store, landmarks_path(result.nystrom.landmarks.digest), result.nystrom.landmarks.table())
        reused = {"embed": _said(features, len(samples))}
        if measured.known:
            reused["statistics"] = f"{measured.known} of {len(samples)} domains kept their statistics on the recorded landmarks"
        if measured.rounds:
            reused["samples"] = measured.rounds[-1].said
    write_mixture(store, path, mixture)
    return _compared(Weighed(survey, selection, mixture, budget, reused), recipe, tokens)


@dataclass(frozen=True)
class _Measured:
    """What was computed from the embedded samples, after the last round of `samples: auto` or the only one."""

    result: DomainWeights
    features: EmbeddedSamples
    """Of the last round; `embedded` and `documents` of all."""
    groups: dict[str, I64]
    sample: pa.Table
    rounds: tuple[SamplingRound, ...]
    """Of `samples: auto`, what each saw."""
    doubts: tuple[str, ...]
    known: int
    """Domains whose statistics through landmarks were those of an earlier run."""


def _rounds(
    store: Store,
    recipe: Recipe,
    embedder: Embedder | ColumnEmbedder,
    sample: pa.Table,
    recorded: Landmarks | None,
    progress: Progress,
) -> _Measured:
    """Embed and weigh; with `samples: auto` twice as many documents each time, until every interval is narrow enough.

    A round's documents are those of a fixed number of samples, and hold those of the round before: nothing is embedded twice.
    """
    wanted, size = recipe.embed, FIRST_ROUND
    rounds: list[SamplingRound] = []
    embedded: frozenset[str] | None = None
    documents = 0
    while True:
        size = min(size, wanted.max_samples) if wanted.samples == "auto" else wanted.samples
        some = sample if size == wanted.drawn else merge_samples([sample], size)
        features = embed_sample(store, embedder, some, progress)
        if features.embedded is not None:
            embedded = features.embedded | (embedded or frozenset())
        documents += features.documents
        features = replace(features, embedded=embedded, documents=documents)
        groups = {name: (lo % np.uint64(JACKKNIFE_GROUPS)).astype(np.int64) for name, lo in features.hashes.items()}
        keys = {
            name: fingerprint({"domain": name, "embedder": embedder.fingerprint, "sample": sample_fingerprint(rows)})
            for name, rows in group_sample_by_domain(some).items()
        }
        known = {} if recorded is None else _known(store, recorded, keys)
        result = weigh_features(
            features.vectors, groups, recipe.leverage, recipe.weights, recipe.seed, recorded, map_chunks, known
        )
        _keep(store, result, {name: key for name, key in keys.items() if name not in known})
        if wanted.samples != "auto":
            return _Measured(result, features, groups, some, (), (), len(known))
        width = {name: 1.0 if ends is None else ends[1] - ends[0] for name, ends in result.intervals.items()}
        widest = max(width, key=lambda name: (width[name], name))
        told = f"{size:,} samples a domain: the widest interval is {width[widest]:.4f} ({widest})"
        narrow = width[widest] <= wanted.tolerance
        said = f"{told}, {'within' if narrow else 'above'} the tolerance of {wanted.tolerance:g}"
        rounds.append(SamplingRound(size, width[widest], widest, narrow, said))
        if narrow:
            return _Measured(result, features, groups, some, tuple(rounds), (), len(known))
        if size == wanted.max_samples or some.num_rows == sample.num_rows:
            why = "'embed.max_samples' is reached" if size == wanted.max_samples else "no domain has more documents"
            doubt = f"{said}, and {why}; raise 'embed.tolerance', or weigh from more documents"
            return _Measured(result, features, groups, some, tuple(rounds), (doubt,), len(known))
        size *= 2


def _known(store: Store, landmarks: Landmarks, keys: Mapping[str, str]) -> dict[str, LandmarkStatistics]:
    """What earlier runs made of these domains with these landmarks."""
    from chameleon_data.weights.landmarks import load_landmark_statistics

    found: dict[str, LandmarkStatistics] = {}
    for path in sorted(store.list(statistics_folder(landmarks.digest))):
        found |= load_landmark_statistics(read_table(store, path), keys)
    return found


def _keep(store: Store, result: DomainWeights, keys: Mapping[str, str]) -> None:
    from chameleon_data.weights.landmarks import LandmarkStatistics

    if keys and result.nystrom is not None and result.statistics is not None:
        table = LandmarkStatistics(result.statistics, result.nystrom.residuals).table(keys)
        write_table(store, f"{statistics_folder(result.nystrom.landmarks.digest)}/{fingerprint(dict(keys))}.parquet", table)


def map_chunks(function: Callable[[SampleChunk], ChunkSums], chunks: Sequence[SampleChunk]) -> Iterator[ChunkSums]:
    """The pass over the samples of a kernel: a task a chunk on the cluster, or here where all are one task's work.

    One thread a chunk, since the order of sums changes with their number.
    """
    import ray
    from threadpoolctl import threadpool_limits

    def one(chunk: SampleChunk) -> ChunkSums:
        with threadpool_limits(1):
            return function(chunk)

    if sum(len(chunk.x) for chunk in chunks) <= ON_DRIVER:
        yield from map(one, chunks)
        return
    remote, waiting = ray.remote(one), []
    most = 2 * max(1, int(cluster_cpus()))
    for chunk in chunks:  # so many at a time: a chunk lies in the object store until its task ends
        waiting.append(remote.remote(chunk))
        if len(waiting) == most:
            yield ray.get(waiting.pop(0))
    yield from map(ray.get, waiting)


def _recorded(asked: int | str | RecordedLandmarks, embedder: str) -> Landmarks | None:
    """The landmarks of an earlier version, where the recipe names one; they are points among the vectors of one embedder."""
    if not isinstance(asked, RecordedLandmarks):
        return None
    from chameleon_data.weights.landmarks import load_landmarks

    store = Store(split_target(asked.from_)[0])
    about = _version_of("leverage.landmarks", asked.from_)[1]["weights"]
    used = about.get("nystrom")
    if used and about["embedder"]["fingerprint"] != embedder:
        raise InputError(f"leverage.landmarks: {asked.from_} was embedded by another model or window; use that one, or a number")
    if not used:
        raise InputError(f"leverage.landmarks: {asked.from_} was weighed without landmarks; name another version, or a number")
    return load_landmarks(read_table(store, landmarks_path(used["digest"])))


def _said(features: EmbeddedSamples, domains: int) -> str:
    if features.embedded is None:
        return "embedded nothing: the vectors came with the corpus"
    return f"embedded {len(features.embedded)} of {domains} domains, {features.documents:,} documents"


def _unembedded(recipe: Recipe, survey: Survey) -> list[str]:
    few = [(name, t.unembedded, t.rows) for name, t in sorted(survey.tallies.items()) if t.unembedded]
    return [
        f"{name}: {missing:,} of {rows:,} documents have no usable vector in {recipe.embed.column!r}; they are written, but the "
        "weight does not see them"
        for name, missing, rows in few
    ]


def _compared(weighed: Weighed, recipe: Recipe, tokens: Mapping[str, int]) -> Weighed:
    """With the mixtures that the computed one is to be held against."""
    files = {path: _given("weights.compare", path, list(tokens))[0].weights for path in recipe.weights.compare}
    mixture = weighed.mixture
    beside = comparison_mixtures(tokens, mixture.description.target, files)
    return replace(weighed, mixture=replace(mixture, description=replace(mixture.description, mixtures=beside)))


def _explained(
    about: MixtureDescription,
    recipe: Recipe,
    result: DomainWeights,
    vectors: Mapping[str, F32],
    groups: Mapping[str, I64],
    sample: pa.Table,
) -> MixtureDescription:
    """Why the weights are what they are: neighbours, domains that look alike, documents that look misfiled, other settings."""
    statistics = domain_statistics(vectors, groups)
    # Domains of a single sample have no spread, and their separation no measure: infinite, which JSON cannot say.
    pairs = tuple(pair for pair in nearest_pairs(statistics.names, moments(statistics)) if isfinite(pair.separation))
    about = replace(about, pairs=pairs, near_duplicates=warn_of_near_duplicates(pairs))
    if result.affinity is not None and result.ridge is not None:
        neighbours = find_neighbours(list(result.weights), result.affinity, result.ridge * len(result.weights))
        about = replace(about, neighbours=neighbours)
    if result.statistics is not None and recipe.leverage.preset == "default":
        settings = sensitivity_table(result.statistics, recipe.leverage, recipe.weights)
        few = len(vectors) <= RECORDED_DOMAINS
        about = replace(about, sensitivity=settings if few else tuple(replace(s, weights=None) for s in settings))
    if len(vectors) <= MOST_DOMAINS_SEARCHED:
        rows = group_sample_by_domain(sample)
        listed = []
        for misfiled in find_misfiled(vectors, most=MISFILED_RECORDED):
            row = rows[misfiled.domain].slice(misfiled.row, 1).to_pylist()[0]
            text = " ".join(row["windows"][0][:200].split())[:120]
            listed.append(MisfiledDocument(**asdict(misfiled), document=f"{row['hi']:016x}{row['lo']:016x}", text=text))
        about = replace(about, misfiled=tuple(listed))
    return about


def _version_of(key: str, target: str) -> tuple[Version, dict[str, Any]]:
    """A version that the recipe's key names as OUT@V, and its manifest."""
    try:
        url, reference = split_target(target)
        store = open_dataset(url)
        version = resolve_version(store, reference)
        return version, load_manifest(store, version)
    except InputError as error:
        raise InputError(f"{key}: {error}") from None


def _given(key: str, origin: str, names: list[str]) -> tuple[PublishedWeights, WeightsFile | WeightsVersion]:
    """Weights from a file, or from a version of a dataset (OUT@V), and what they were exactly, as files change and tags move.

    `key` is the recipe's, for messages.
    """
    if Path(origin).suffix in (".json", ".yaml", ".yml"):
        unreadable: Sentences = {
            OSError: lambda error: f"{origin} cannot be read ({error.strerror}); correct the path",
            UnicodeDecodeError: f"{origin} is not text in UTF-8; name a JSON or YAML file of domain: weight",
        }
        with explaining(key, unreadable):
            text = Path(origin).read_text(encoding="utf-8")
        lineage: WeightsFile | WeightsVersion = WeightsFile(origin, hashlib.sha256(text.encode()).hexdigest())
    else:
        url, _ = split_target(origin)
        version, manifest = _version_of(key, origin)
        domains = manifest["domains"]
        text = json.dumps({name: d["weight"] for name, d in domains.items()})
        lineage = WeightsVersion(url, version.number, version.manifest)
    return read_published_weights(text, names, origin), lineage


def compare_exhaustion_rules(recipe: Recipe, weighed: Weighed) -> dict[str, Any]:
    """What each rule for exhausted domains would do with these weights: domain -> weight, tokens, epochs; or why it refuses."""
    counts, mix, wanted = weighed.selection.counts, recipe.mix, recipe.weights
    target = weighed.mixture.description.target
    found: dict[str, Any] = {}
    for policy in ("redistribute", "repeat", "fail"):
        try:
            caps = epoch_caps(counts, weighed.budget, mix.max_epochs, policy)
            decimals = bound_weights(
                target, prior=wanted.prior, floor=wanted.floor, cap=wanted.cap, epoch_cap=caps, groups=wanted.groups
            ).decimals
            quotas = {c.name: quota_of(c.tokens, decimals[c.name], weighed.budget, mix.max_epochs, policy) for c in counts}
            most = max(counts, key=lambda c: quotas[c.name] / c.tokens)
            if policy == "fail" and quotas[most.name] > most.tokens:
                raise InputError(f"{most.name!r} would be read {quotas[most.name] / most.tokens:.2f} times")
            found[policy] = {
                c.name: {"weight": float(decimals[c.name]), "target_tokens": quotas[c.name], "epochs": quotas[c.name] / c.tokens}
                for c in counts
            }
        except InputError as refused:
            found[policy] = {"refused": str(refused)}
    return found


def _mixture(recipe: Recipe, result: DomainWeights, caps: Mapping[str, float], origin: str, *, recorded: bool = False) -> Mixture:
    """The weights within their bounds; `recorded`: whether the landmarks, if any, are those of an earlier version."""
    wanted, used = recipe.weights, result.nystrom
    bounded = bound_weights(
        result.weights, prior=wanted.prior, floor=wanted.floor, cap=wanted.cap, epoch_cap=caps, groups=wanted.groups
    )
    described = MixtureDescription(
        origin=origin,
        objective=wanted.objective,
        preset=recipe.leverage.preset,
        kernel=recipe.leverage.kernel,
        level=recipe.leverage.level,
        names=tuple(sorted(result.weights)),
        target=result.weights,
        moved=bounded.moved,
        effective_domains=perplexity(np.array(list(bounded.weights.values()))),
        scores=result.scores,
        intervals=result.intervals,
        rank_stability=result.rank_stability,
        variance_of_mean=result.variance_of_mean,
        affinity=None
        if result.affinity is None or len(result.affinity) > RECORDED_DOMAINS
        else tuple(map(tuple, np.round(result.affinity, 9).tolist())),
        ridge=result.ridge,
        temperature=result.temperature,
        clipped_mass=result.clipped_mass,
        nystrom=None
        if used is None
        else LandmarksUsed(
            used.landmarks.kernel,
            used.landmarks.digest,
            len(used.landmarks.points),
            used.error,
            used.residuals,
            used.bounds,
            recorded,
        ),
        warnings=result.warnings,
    )
    return Mixture(bounded.decimals, described, {})
