"""Pass 3: from the survey to a recorded mixture. On the driver; only what is missing is embedded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chameleon_data.affinity import GROUPS, domain_statistics
from chameleon_data.cache import write_table
from chameleon_data.embed import load_embedder
from chameleon_data.errors import InputError
from chameleon_data.feasible import feasible_weights
from chameleon_data.hashing import fingerprint
from chameleon_data.kernels import EXACT
from chameleon_data.leverage import perplexity
from chameleon_data.plan import epoch_caps
from chameleon_data.projection import flat_map
from chameleon_data.published import load_weights
from chameleon_data.recipe import Recipe
from chameleon_data.storage import Store
from chameleon_data.survey import Survey
from chameleon_data.versions import load_manifest, resolve, split_target
from chameleon_data.weights import DomainWeights, weigh, weigh_features
from pipelines.cluster import Progress
from pipelines.embed import by_domain, embed, sample_fingerprint

CACHE = "_chameleon/cache/weights"
LANDMARKS = "_chameleon/cache/landmarks"


@dataclass(frozen=True)
class Mixture:
    """Weights as recorded, and how they were reached. A resumed build reads this instead of computing it again."""

    decimals: dict[str, str]
    """Domain -> weight as a decimal; they sum to exactly one."""
    description: dict[str, Any]
    """Scores, intervals, affinity, bounds that acted: what the manifest and the report say of the weights."""
    map: dict[str, list[list[float]]]
    """Domain -> (x, y) of its sampled documents; empty where nothing was embedded."""


@dataclass(frozen=True)
class Weighed:
    survey: Survey
    mixture: Mixture
    budget: int
    reused: dict[str, str]
    """Pass -> one sentence about what was not done again."""

    def describe(self) -> dict[str, Any]:
        """What `weights --json` prints."""
        total = sum(c.tokens for c in self.survey.counts)
        about = self.mixture.description
        domains = {
            c.name: {
                "weight": float(self.mixture.decimals[c.name]), "score": about["scores"].get(c.name),
                "weight_interval": about["intervals"].get(c.name), "natural": c.tokens / total, "available_tokens": c.tokens,
                "available_rows": c.rows, "available_bytes": c.bytes, "quarantined": c.quarantined,
            }
            for c in self.survey.counts
        }  # fmt: skip
        return {"domains": domains, "weights": about, "budget": self.budget, "reused": self.reused}


def weigh_corpus(store: Store, recipe: Recipe, survey: Survey, progress: Progress) -> Weighed:
    """The mixture of this corpus, from the record where there is one."""
    budget = sum(c.tokens for c in survey.counts) if recipe.mix.budget == "auto" else recipe.mix.budget
    caps = epoch_caps(survey.counts, budget, recipe.mix.max_epochs, recipe.mix.exhausted)
    if recipe.weights.from_:
        given = _given(recipe.weights.from_, [c.name for c in survey.counts])
        return Weighed(
            survey,
            _mixture(recipe, given, caps, {}, recipe.weights.from_),
            budget,
            {"weigh": f"weights read from {recipe.weights.from_}"},
        )
    embedder = load_embedder(recipe.embed)
    samples = {name: sample_fingerprint(rows) for name, rows in by_domain(survey.sample).items()}
    key = fingerprint({
        "samples": samples, "embedder": embedder.fingerprint if len(samples) > 1 else None, "caps": caps,
        "leverage": recipe.leverage.model_dump(mode="json"), "weights": recipe.weights.model_dump(mode="json"),
        "seed": None if recipe.leverage.kernel in EXACT else recipe.seed,
    })  # fmt: skip
    path = f"{CACHE}/{key}.json"
    if store.exists(path):
        return Weighed(
            survey,
            Mixture(**json.loads(store.read(path))),
            budget,
            {"weigh": "weights read from the record of an earlier run, nothing embedded"},
        )
    if len(samples) == 1:
        (name,) = samples
        alone = domain_statistics({name: np.ones((1, 1))})
        mixture, reused = _mixture(recipe, weigh(alone, recipe.leverage, recipe.weights), caps, {}, "computed"), {}
    else:
        features = embed(store, embedder, survey.sample, progress)
        groups = {name: (lo % np.uint64(GROUPS)).astype(np.int64) for name, lo in features.hashes.items()}
        result = weigh_features(features.vectors, groups, recipe.leverage, recipe.weights, recipe.seed)
        mixture = _mixture(recipe, result, caps, flat_map(features.vectors), "computed")
        if result.nystrom:
            write_table(store, f"{LANDMARKS}/{result.nystrom.landmarks.digest}.parquet", result.nystrom.landmarks.table())
        reused = {"embed": f"embedded {features.embedded} of {len(samples)} domains"}
    store.write(path, json.dumps({"decimals": mixture.decimals, "description": mixture.description, "map": mixture.map}).encode())
    return Weighed(survey, mixture, budget, reused)


def _given(origin: str, names: list[str]) -> DomainWeights:
    """Weights from a file, or from a version of a dataset (OUT@V)."""
    if Path(origin).suffix in (".json", ".yaml", ".yml"):
        try:
            text = Path(origin).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"weights.from: {origin} cannot be read: {error}") from error
    else:
        url, reference = split_target(origin)
        store = Store(url)
        domains = load_manifest(store, resolve(store, reference))["domains"]
        text = json.dumps({name: d["weight"] for name, d in domains.items()})
    return load_weights(text, names, origin)


def _mixture(
    recipe: Recipe, result: DomainWeights, caps: Mapping[str, float], map_: dict[str, list[list[float]]], origin: str
) -> Mixture:
    wanted = recipe.weights
    feasible = feasible_weights(result.weights, prior=wanted.prior, floor=wanted.floor, cap=wanted.cap, epoch_cap=caps)
    wanted_names = sorted(result.weights)
    description = {
        "origin": origin,
        "objective": wanted.objective,
        "preset": recipe.leverage.preset,
        "kernel": recipe.leverage.kernel,
        "level": recipe.leverage.level,
        "nystrom": None if result.nystrom is None else result.nystrom.describe(),
        "names": wanted_names,
        "target": result.weights,
        "moved": [asdict(m) for m in feasible.moved],
        "effective_domains": perplexity(np.array(list(feasible.weights.values()))),
        "affinity": None if result.affinity is None else np.round(result.affinity, 9).tolist(),
        "warnings": list(result.warnings),
        **{
            key: getattr(result, key)
            for key in ("scores", "intervals", "rank_stability", "variance_of_mean", "ridge", "temperature", "clipped_mass")
        },
    }
    return Mixture(feasible.decimals, description, map_)
