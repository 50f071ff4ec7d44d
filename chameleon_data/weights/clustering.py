"""Clusters of embedded documents, which become domains: found, named, and told apart by words.

    centres   k-means on vectors of length one; small clusters go to the next nearest, near-duplicates fold
    terms     tf-idf over clusters: share of a cluster's documents that hold a word × log(that share / the share of all)
    words     naive Bayes: W[w, c] = log((n_wc + a) / (n_c + a B)), b_c = log(n_c / n), as whole numbers of 1/1024

The embedded documents are a sample. All others get their cluster by their words (`corpus/topics.py`), which is what makes the
labels the same on every machine, at a thousandth of the cost of embedding them. How often both agree is measured on documents
that the words were not learned from. Why: docs/decisions/171-discovered-domains.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import F32, F64, I64
from chameleon_data.errors import InputError, explaining, say_install
from chameleon_data.hashing import key64
from chameleon_data.weights.explain.near_duplicates import NEAR_DUPLICATE
from chameleon_data.weights.kernels.faiss_library import FaissDevice, choose_faiss_device, import_faiss

STARTS_A_CENTRE, LEAST_STARTS = 4, 2**12
"""Vectors from which the first centres are chosen: so many for each, and so many in all at least."""
CANDIDATES = 16
"""Vectors of which each first centre is the best; scikit-learn takes 2 + log(centres) by itself, which are 4 of 10."""
FEW_A_CENTRE, FEW_ITERATIONS = 16, 3
"""The first round of k-means: vectors for each centre, and iterations."""
MANY_A_CENTRE, LEAST_MANY, MOST_ITERATIONS = 128, 2**14, 10
"""The second round: vectors for each centre, in all at least, and iterations at most. `ITERATED` says how many, and all are made:
a rule for stopping early would depend on rounding."""
ITERATED = 2**26
"""Distances of the second round, unless one iteration has more: half a second of one core."""
LEAST_DOCUMENTS = 16
"""Documents of the sample that a cluster has at least."""
LEAST_OF_MEAN = 1 / 8
"""Documents of a cluster at least, as a share of the mean cluster's."""
VECTORS_AT_ONCE = 2**14
CLUSTERS_AT_ONCE = 2**10
"""Clusters whose distances from all others are in memory at once."""
WEIGHTS = 2**24
"""Numbers in W at most, 32 MB; with more clusters words share more buckets."""
MOST_WORD_BUCKETS = 2**16
SMOOTHING = 0.1
UNIT = 1024
TERMS = 8
"""Terms of a cluster that are recorded. Its name is made of the first two."""
LEAST_WORD_DOCUMENTS = 3
WORD = re.compile(r"[^\W\d_]{3,24}")


@dataclass(frozen=True)
class Clusters:
    """Clusters of a sample."""

    centres: F32
    """(clusters, p) means of vectors of length one."""
    label: I64
    """(n,) cluster of each document."""
    inertia: float
    """Mean squared distance of a document of length one from its centre."""
    merged: int
    """Clusters of k-means that were too small."""
    folded: int
    """Clusters that were one with another."""
    device: FaissDevice
    """What computed the centres."""


def cluster_vectors(vectors: F32, clusters: int, seed: int) -> Clusters:
    """Find at most `clusters` clusters of (n, p) vectors, the largest first. Raises InputError where faiss is missing."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    count = max(1, min(clusters, len(unit) // LEAST_DOCUMENTS))
    centres = find_centres(unit, count, seed)
    label, _ = assign_vectors(unit, centres)
    least = max(LEAST_DOCUMENTS, int(LEAST_OF_MEAN * len(unit) / count))
    label, merged = _merge_small(unit, label, centres, least)
    label, folded = _fold_near_duplicates(unit, label, len(centres) - merged)
    order = np.argsort(-np.bincount(label), kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    label = place[label]
    means = _means(unit, label, len(order))
    inertia = sum(float(((unit[at] - means[label[at]]) ** 2).sum(dtype=np.float64)) for at in _slices(len(unit)))
    return Clusters(means, label, inertia / len(unit), merged, folded, choose_faiss_device(import_faiss("domains")))


def find_centres(unit: F32, count: int, seed: int) -> F32:
    """(count, p) centres by k-means of (n, p) vectors; all of them where there are no more. On GPUs where faiss sees some: their
    sums round otherwise, which moves the mean squared distance by less than a thousandth."""
    if len(unit) <= count:
        return unit.copy()
    from threadpoolctl import threadpool_limits

    faiss = import_faiss("domains")
    unit, salt = np.ascontiguousarray(unit, np.float32), key64(seed, "clusters") % 2**31
    many = max(MANY_A_CENTRE, -(-LEAST_MANY // count))
    iterations = max(1, min(MOST_ITERATIONS, ITERATED // (many * count**2)))
    with threadpool_limits(1):  # the order of sums, and so the centres, changes with the number of threads
        centres = choose_first_centres(unit, count, salt)
        for vectors, rounds in ((FEW_A_CENTRE, FEW_ITERATIONS), (many, iterations)):
            found = faiss.Kmeans(
                unit.shape[1],
                count,
                niter=rounds,
                seed=salt,
                min_points_per_centroid=1,
                max_points_per_centroid=vectors,
                gpu=choose_faiss_device(faiss) == "gpu",
            )
            found.train(unit, init_centroids=centres)
            centres = np.array(found.centroids, np.float32)
    return centres


def choose_first_centres(unit: F32, count: int, seed: int) -> F32:
    """(count, p) of (n, p) vectors, n > count, by greedy k-means++ (Arthur and Vassilvitskii 2007) from some of them,
    which are drawn, so that vectors may come in any order."""
    with explaining("domains", {ImportError: f"needs scikit-learn; {say_install('embed')}"}):
        from sklearn.cluster import kmeans_plusplus
    starts = np.random.default_rng(seed).permutation(len(unit))[: max(STARTS_A_CENTRE * count, LEAST_STARTS)]
    wide = unit[starts].astype(np.float64)  # of 4-byte numbers it makes 8-byte ones at each step
    return np.asarray(kmeans_plusplus(wide, count, random_state=seed, n_local_trials=CANDIDATES)[0], np.float32)


def assign_vectors(unit: F32, centres: F32) -> tuple[I64, F64]:
    """(n,) nearest centre of each vector, and its squared distance. Of centres equally near the first counts, but on GPUs, which
    compute it where faiss sees some and there are enough vectors."""
    if len(unit) > VECTORS_AT_ONCE and choose_faiss_device(faiss := import_faiss("domains")) == "gpu":
        return _assign_on_gpus(faiss, unit, centres)
    squares = (centres.astype(np.float64) ** 2).sum(axis=1).astype(np.float32)
    label, distance = np.empty(len(unit), np.int64), np.empty(len(unit))
    for at in _slices(len(unit)):
        x = unit[at]
        parts = squares - 2 * (x @ centres.T)
        label[at] = nearest = parts.argmin(axis=1)
        distance[at] = (x**2).sum(axis=1) + parts[np.arange(len(x)), nearest]
    return label, distance


def _assign_on_gpus(faiss: ModuleType, unit: F32, centres: F32) -> tuple[I64, F64]:
    """`assign_vectors`, by faiss on all GPUs."""
    index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatL2(centres.shape[1]))
    index.add(np.ascontiguousarray(centres))
    found = [index.search(np.ascontiguousarray(unit[at]), 1) for at in _slices(len(unit))]
    distance = np.concatenate([squared[:, 0] for squared, _ in found]).astype(np.float64)
    return np.concatenate([nearest[:, 0] for _, nearest in found]), distance


def assign_surely(unit: F32, centres: F32, tolerance: float) -> tuple[I64, npt.NDArray[np.bool_]]:
    """(n,) nearest centre of each vector, and whether no other is nearer or as near, up to `tolerance` in squared distance."""
    squares = (centres.astype(np.float64) ** 2).sum(axis=1).astype(np.float32)
    label, sure = np.empty(len(unit), np.int64), np.ones(len(unit), bool)
    for at in _slices(len(unit)):
        parts = squares - 2 * (unit[at] @ centres.T)
        label[at] = parts.argmin(axis=1)
        if len(centres) > 1:
            two = np.partition(parts, 1, axis=1)[:, :2]
            sure[at] = two[:, 1] - two[:, 0] > tolerance
    return label, sure


def assign_exactly(unit: F32, centres: F32) -> I64:
    """(n,) nearest centre of each vector. A vector's depends on it alone, to the last bit, where a matrix product's does not."""
    wide = centres.astype(np.float64)
    return np.array([((wide - x.astype(np.float64)) ** 2).sum(axis=1).argmin() for x in unit], np.int64)


def _slices(count: int) -> list[slice]:
    """Stretches of so many rows, of bounded size."""
    return [slice(at, min(at + VECTORS_AT_ONCE, count)) for at in range(0, count, VECTORS_AT_ONCE)]


def _sums(unit: F32, label: I64, count: int) -> F64:
    """(count, p) sum of each cluster's vectors. One by one they take 4 s for 100,000, and so .3 s."""
    order = np.argsort(label, kind="stable")
    ends = np.cumsum(np.bincount(label, minlength=count))
    return np.stack([unit[rows].sum(axis=0, dtype=np.float64) for rows in np.split(order, ends[:-1])])


def _means(unit: F32, label: I64, count: int) -> F32:
    return (_sums(unit, label, count) / np.maximum(np.bincount(label, minlength=count), 1)[:, None]).astype(np.float32)


def _merge_small(unit: F32, label: I64, centres: F32, least: int) -> tuple[I64, int]:
    """Give the documents of clusters with fewer than `least` to the nearest other one. Returns the labels, and how many went.

    One goes at a time, the smallest first, as its documents make others larger; all others keep the nearest centre.
    """
    sizes, left = np.bincount(label, minlength=len(centres)), np.arange(len(centres))
    label = label.copy()
    while len(left) > 1 and sizes[left].min() < least:
        small = int(left[sizes[left].argmin()])
        left = left[left != small]
        moved = np.flatnonzero(label == small)
        nearest, _ = assign_vectors(unit[moved], centres[left])
        label[moved] = left[nearest]
        sizes += np.bincount(label[moved], minlength=len(sizes))
    return np.searchsorted(left, label), len(centres) - len(left)


def _fold_near_duplicates(unit: F32, label: I64, count: int) -> tuple[I64, int]:
    """Give clusters that are one, as two domains are, one label. Returns the labels, and how many clusters went.

    Two are one where the squared distance of their means is below .04 of their spread; the nearest two are folded first. No
    cluster is empty. Each cluster's nearest is kept and made anew where it changed: 4,000 clusters have 16 million distances.
    """
    sums, sizes = _sums(unit, label, count), np.bincount(label, minlength=count).astype(np.float64)
    squares = np.bincount(label, (unit**2).sum(axis=1, dtype=np.float64), minlength=count)
    means = sums / sizes[:, None]
    norms = (means**2).sum(axis=1)
    spread = squares / sizes - norms
    left, into = np.ones(count, bool), np.arange(count)

    def separations(rows: I64) -> F64:
        """(rows, count) how far some clusters are from each; infinite from themselves, and from those that went."""
        distance = np.maximum(norms[rows, None] + norms - 2 * means[rows] @ means.T, 0)
        found = distance / np.maximum((spread[rows, None] + spread) / 2, 1e-12)
        found[:, ~left] = np.inf
        found[np.arange(len(rows)), rows] = np.inf
        return np.asarray(found)

    nearest, least = np.zeros(count, np.int64), np.full(count, np.inf)

    def find_nearest(rows: I64) -> None:
        for at in range(0, len(rows), CLUSTERS_AT_ONCE):
            some = rows[at : at + CLUSTERS_AT_ONCE]
            found = separations(some)
            nearest[some] = found.argmin(axis=1)
            least[some] = found[np.arange(len(some)), nearest[some]]

    find_nearest(np.arange(count))
    while least.min() < NEAR_DUPLICATE:
        one = int(least.argmin())
        gone, kept = sorted([one, int(nearest[one])], key=lambda cluster: sizes[cluster])
        sums[kept] += sums[gone]
        sizes[kept] += sizes[gone]
        squares[kept] += squares[gone]
        means[kept] = sums[kept] / sizes[kept]
        norms[kept] = (means[kept] ** 2).sum()
        spread[kept] = squares[kept] / sizes[kept] - norms[kept]
        left[gone], least[gone], into[into == gone] = False, np.inf, kept
        find_nearest(np.flatnonzero(left & (np.isin(nearest, (gone, kept)) | (np.arange(count) == kept))))
        (of_kept,) = separations(np.array([kept]))
        nearer = left & (of_kept < least)
        nearest[nearer], least[nearer] = kept, of_kept[nearer]
    return np.searchsorted(np.flatnonzero(left), into[label]), count - int(left.sum())


def nearest_clusters(centres: F32) -> list[int | None]:
    """The nearest other cluster of each."""
    if len(centres) < 2:
        return [None] * len(centres)
    wide = centres.astype(np.float64)
    squares, nearest = (wide**2).sum(axis=1), list[int | None]()
    for at in range(0, len(wide), CLUSTERS_AT_ONCE):
        distance = squares - 2 * wide[at : at + CLUSTERS_AT_ONCE] @ wide.T
        distance[np.arange(len(distance)), np.arange(at, at + len(distance))] = np.inf
        nearest += distance.argmin(axis=1).tolist()
    return nearest


def distinctive_terms(texts: Sequence[str], label: I64, clusters: int) -> list[tuple[str, ...]]:
    """Up to eight terms of each cluster, the most distinctive first. Memory: each word once, and the words of one cluster."""
    of_all: Counter[str] = Counter()
    for text in texts:
        of_all.update(set(WORD.findall(text.lower())))
    sizes = np.bincount(label, minlength=clusters)
    found = []
    for rows in np.split(np.argsort(label, kind="stable"), np.cumsum(sizes)[:-1]):
        counts: Counter[str] = Counter()
        for row in rows.tolist():
            counts.update(set(WORD.findall(texts[row].lower())))
        size = len(rows)
        scores = {
            word: number / size * np.log(number / size * len(texts) / of_all[word])
            for word, number in counts.items()
            if number >= min(LEAST_WORD_DOCUMENTS, size)
        }
        found.append(tuple(sorted(scores, key=lambda word: (-scores[word], word))[:TERMS]))
    return found


def name_clusters(terms: Sequence[tuple[str, ...]], prefix: str = "") -> list[str]:
    """A name for each cluster: its first two terms, more where another has the same, and a number where that does not help."""
    names: dict[str, None] = {}
    for number, own in enumerate(terms):
        tries = ["-".join(own[:n]) for n in range(2, len(own) + 1)] or ["-".join(own)]
        tries = [f"{prefix}{one}" for one in tries if one]
        names[next((one for one in tries if one not in names), f"{prefix}topic-{number}")] = None
    return list(names)


@dataclass(frozen=True)
class WordModel:
    """What tells clusters apart by words; see `corpus.topics.Topics`."""

    bias: I64
    """(clusters,)"""
    weights: npt.NDArray[np.int16]
    """(buckets, clusters)"""


def word_buckets(clusters: int) -> int:
    """Buckets of hashed words for so many clusters: a power of two."""
    return min(MOST_WORD_BUCKETS, 1 << (WEIGHTS // clusters).bit_length() - 1)


def learn_words(row: I64, bucket: I64, label: I64, clusters: int, buckets: int) -> WordModel:
    """Learn which words each cluster has. `row` and `bucket`, both (pairs,), name a document and a bucket of one of its words."""
    counts = np.bincount(bucket * clusters + label[row], minlength=buckets * clusters).reshape(buckets, clusters)
    documents = np.bincount(label, minlength=clusters)
    totals = counts.sum(axis=0) + SMOOTHING * buckets
    weights = np.rint(UNIT * np.log((counts + SMOOTHING) / totals)).astype(np.int16)
    bias = np.rint(UNIT * np.log(np.maximum(documents, 1) / max(1, len(label)))).astype(np.int64)
    return WordModel(bias, weights)


def normalised_mutual_information(a: I64, b: I64) -> float:
    """How far two labelings of the same documents agree, from 0 to 1. It is divided by the mean of their entropies."""
    joint = np.zeros((int(a.max(initial=0)) + 1, int(b.max(initial=0)) + 1))
    np.add.at(joint, (a, b), 1)
    joint /= max(1, len(a))
    p, q = joint.sum(axis=1), joint.sum(axis=0)
    seen = joint > 0
    mutual = float((joint[seen] * np.log(joint[seen] / np.outer(p, q)[seen])).sum())
    entropies = [float(-(x[x > 0] * np.log(x[x > 0])).sum()) for x in (p, q)]
    mean = sum(entropies) / 2
    return 1.0 if mean < 1e-12 else max(0.0, min(1.0, mutual / mean))


def check_sample(documents: int, clusters: int, name: str) -> None:
    """Raise InputError where a sample is too small to find two clusters in."""
    if documents < 2 * LEAST_DOCUMENTS and clusters > 1:
        where = f"source {name!r} has" if name else "the sources have"
        raise InputError(
            f"domains: {where} {documents:,} different documents, and a cluster needs {LEAST_DOCUMENTS}; leave 'domains' out, or "
            "give more documents"
        )
