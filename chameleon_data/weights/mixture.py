"""The recorded mixture: the weights that a version is written with, and everything that is known of how they came about.

It is recorded under a key of all that it depends on, so a resumed build, or the same recipe on the same corpus, embeds nothing.
The manifest, the report and `weights --json` show its description. `make_mixture.py` fills it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint
from chameleon_data.plan.plan import StageTarget
from chameleon_data.recipe import Embed, Leverage, Weights
from chameleon_data.store.adapters import type_adapter
from chameleon_data.weights.bounds import MovedWeight
from chameleon_data.weights.centre import CentreRule
from chameleon_data.weights.embedder import ColumnEmbedder, Embedder
from chameleon_data.weights.evidence import Aim
from chameleon_data.weights.explain.misfiled import Misfiled
from chameleon_data.weights.explain.movement import OtherEmbedder
from chameleon_data.weights.explain.near_duplicates import Pair
from chameleon_data.weights.explain.neighbours import Neighbour
from chameleon_data.weights.explain.sensitivity import Setting
from chameleon_data.weights.kernels.kernel import EXACT, Kernel, KernelName
from chameleon_data.weights.sampling_rounds import SamplingRound
from chameleon_data.weights.weigh import Match

if TYPE_CHECKING:
    from chameleon_data.store.store import Store

MIXTURE_FORMAT = 3
"""Raise it when a field changes: records of another format are not read, the weights are computed again."""


@dataclass(frozen=True)
class WeightsFile:
    """The file that the weights were read from, as files change."""

    file: str
    """Its path."""
    sha256: str
    """sha256 of its text."""


@dataclass(frozen=True)
class WeightsVersion:
    """The version that the weights were taken from, as tags move."""

    dataset: str
    """Folder or URL of the dataset."""
    version: int
    manifest: str
    """sha256 of its manifest."""


@dataclass(frozen=True)
class Centre:
    """The mixture that was tilted."""

    name: str
    """As in the recipe: `uniform`, `natural`, `natural^a`, or the file or version."""
    shares: dict[str, float]
    """Domain -> its share, priors included; they sum to one."""
    given: WeightsFile | WeightsVersion | None = None
    """What the shares were read from. None: they follow from the tokens."""


@dataclass(frozen=True)
class LandmarksUsed:
    """The landmarks that stood for a kernel, and what they cost in accuracy."""

    kernel: Kernel
    digest: str
    """Names the file of the landmarks under `_chameleon/landmarks`."""
    landmarks: int
    """Number of points."""
    error: float | None
    """Largest error of a weight against the exact kernel, measured on held-out samples. None: it could not be measured."""
    residuals: dict[str, float]
    """Domain -> share of its samples, in squared norm, that the landmarks do not see."""
    bounds: dict[str, tuple[float, float]] | None
    """Domain -> proved bounds of its leverage by the exact kernel. None: none were computed."""
    recorded: bool
    """Whether they are those of an earlier version."""


@dataclass(frozen=True)
class MisfiledDocument(Misfiled):
    """A sampled document that is nearer to another domain, so that a person can find it."""

    document: str
    """Its content hash, 32 hexadecimal digits."""
    text: str
    """Its first characters."""


@dataclass(frozen=True)
class MixtureDescription:
    """How the weights came about. Mappings by domain hold every domain unless their line says otherwise."""

    origin: str
    """`computed`, or the file or version that the weights were read from."""
    objective: Literal["pretrain", "finetune"]
    preset: Literal["default", "reference"]
    kernel: KernelName
    level: Literal["domain", "sample"]
    """Whether leverage was that of domains or of samples."""
    names: tuple[str, ...]
    """(k) domains in byte order; rows and columns of `affinity`."""
    unbounded: dict[str, float]
    """Weights before bounds; they sum to one."""
    moved: tuple[MovedWeight, ...]
    """Bounds that moved a weight."""
    effective_domains: float
    """Perplexity of the weights: the number of equal domains as spread out as these."""
    scores: dict[str, float | None]
    """Leverage scores with mean one (reference preset: sum one). None: nothing was measured."""
    intervals: dict[str, tuple[float, float] | None]
    """90 % interval of each weight, over other samples of the same domains."""
    rank_stability: dict[str, float | None]
    """Share of the jackknife replicates in which the domain keeps its rank."""
    variance_of_mean: dict[str, float | None]
    """Expected squared distance of a domain's mean embedding from its true one."""
    affinity: tuple[tuple[float, ...], ...] | None
    """(k, k) centred affinity, to nine decimals. None: not computed, or too many domains to record each pair."""
    ridge: float | None
    temperature: float | None
    clipped_mass: float
    """Negative eigenvalues that the projection of the affinity removed, over the sum of those kept."""
    nystrom: LandmarksUsed | None
    """None: the kernel needed no landmarks."""
    warnings: tuple[str, ...]
    """Sentences for a person."""
    target: Aim | None = None
    """What the weights aim at. None: they were given."""
    evidence: str = ""
    """What training showed of such weights, in a sentence."""
    match: Match | None = None
    """How near the weights come to the target's samples. None: they aim at none."""
    merged: tuple[tuple[str, ...], ...] = ()
    """Groups of domains that were scored as one, and split its weight by their tokens."""
    centre: Centre | None = None
    """What was tilted. None: the weights were given."""
    kl: float | None = None
    """KL(w ‖ centre) of the weights before bounds, in nats."""
    kl_after_bounds: float | None = None
    """The same of the weights after bounds."""
    given: WeightsFile | WeightsVersion | None = None
    """What the weights were read from. None: they were computed."""
    embedder: Embedder | ColumnEmbedder | None = None
    """None: nothing was embedded."""
    other_embedders: tuple[OtherEmbedder, ...] = ()
    """The weights by the embedders of `embed.also`."""
    movement: dict[str, float] | None = None
    """Domain -> largest difference of its weight, before bounds, between embedders. None: there is no other embedder."""
    rounds: tuple[SamplingRound, ...] = ()
    """Rounds of `samples: auto`, in order."""
    pairs: tuple[Pair, ...] = ()
    """Pairs of domains that are least apart, the nearest first."""
    near_duplicates: tuple[str, ...] = ()
    """A warning for each pair that embeddings do not tell apart."""
    beyond_noise: tuple[tuple[int, ...], ...] | None = None
    """(k, k) 1 where two domains are closer than their other distances and noise explain, -1 where they are farther, else 0.
    None: there is no affinity."""
    neighbours: dict[str, tuple[Neighbour, ...]] | None = None
    """Domain -> the domains that lower its leverage most. None: there is no affinity."""
    sensitivity: tuple[Setting, ...] = ()
    """The mixture at other ridges and temperatures."""
    misfiled: tuple[MisfiledDocument, ...] | None = None
    """Documents nearer to another domain than to their own, the largest margin first. None: not searched for."""
    mixtures: dict[str, dict[str, float]] | None = None
    """Name -> domain -> share: other mixtures to compare with. Made from the recipe each time, so None in a cached record."""


@dataclass(frozen=True)
class Mixture:
    """The recorded mixture."""

    decimals: dict[str, str]
    """Domain -> weight as a decimal; they sum to exactly one."""
    description: MixtureDescription
    """How the weights came about."""
    map: dict[str, list[tuple[float, float]]]
    """Domain -> (x, y) of its sampled documents; empty where nothing was embedded."""
    format: int = MIXTURE_FORMAT


@dataclass(frozen=True)
class WeighedStage:
    """What a stage of the training is to hold."""

    budget: int
    """Tokens to write."""
    mixture: Mixture
    """Without the domains that are absent from the stage."""

    @property
    def target(self) -> StageTarget:
        """What the plan must know of it."""
        return StageTarget(self.budget, self.mixture.decimals)


def mixture_key(
    samples: Mapping[str, str],
    embedder: str | None,
    landmarks: str | None,
    caps: Mapping[str, float],
    embed: Embed,
    leverage: Leverage,
    weights: Weights,
    centre: CentreRule,
    like: str | None,
    also: Sequence[str],
    seed: int,
) -> str:
    """Names the record of a mixture: sha256 of all that decides it.

    `samples`: domain -> fingerprint of its sampled documents. `embedder` and `landmarks`: the embedder's fingerprint and the
    digest of landmarks of an earlier version, None where there are none. `caps`: domain -> largest share that its tokens allow.
    `like`: fingerprint of the target's samples, if it has any. `also`: fingerprints of the
    embedders of `embed.also`.
    """
    return fingerprint(
        {
            "format": MIXTURE_FORMAT,
            "samples": dict(samples),
            "embedder": embedder,
            "caps": dict(caps),
            "leverage": leverage.model_dump(mode="json") | ({"landmarks": landmarks} if landmarks else {}),
            "rounds": [embed.tolerance, embed.max_samples] if embed.samples == "auto" else None,
            "weights": weights.model_dump(mode="json", exclude={"compare"}),
            "centre": centre.units()[1],
            "tokens": dict(centre.tokens) if leverage.merge == "auto" else None,
            "like": like,
            "also": list(also),
            "seed": None if leverage.kernel in EXACT else seed,
        }
    )


def describe_mixture(description: MixtureDescription) -> dict[str, Any]:
    """The description as plain JSON: what manifests and `weights --json` hold under `weights`."""
    plain: dict[str, Any] = type_adapter(MixtureDescription).dump_python(description, mode="json")
    return plain


def write_mixture(store: Store, path: str, mixture: Mixture) -> None:
    """Record a mixture, with a checksum."""
    from chameleon_data.store.checksummed import write_record

    write_record(store, path, type_adapter(Mixture).dump_python(mixture, mode="json"))


def read_mixture(store: Store, path: str) -> Mixture:
    """The mixture that `write_mixture` recorded. Raises InputError for a damaged record and for one of another format."""
    from chameleon_data.store.checksummed import read_record

    plain = read_record(store, path)
    try:
        if plain["format"] != MIXTURE_FORMAT:
            raise ValueError
        mixture: Mixture = type_adapter(Mixture).validate_python(plain)
    except (KeyError, ValueError, ValidationError):
        raise InputError(
            f"{store.url}/{path}: this mixture was recorded by another release of chameleon-data; remove it, and the same "
            "command computes it again"
        ) from None
    return mixture
