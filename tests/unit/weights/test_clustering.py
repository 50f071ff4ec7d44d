"""Clusters of planted vectors, their names, and what tells them apart by words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.weights import clustering
from chameleon_data.weights.clustering import (
    LEAST_DOCUMENTS,
    SMOOTHING,
    UNIT,
    assign_exactly,
    assign_surely,
    assign_vectors,
    check_sample,
    cluster_vectors,
    distinctive_terms,
    find_centres,
    learn_words,
    name_clusters,
    nearest_clusters,
    normalised_mutual_information,
    word_buckets,
)


def planted(sizes: list[int], spread: float = 0.05, dimensions: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    label = np.repeat(np.arange(len(sizes)), sizes)
    order = rng.permutation(len(label))
    x = np.eye(dimensions)[label] + spread * rng.normal(size=(len(label), dimensions))
    return x[order].astype(np.float32), label[order]


def test_planted_clusters_are_found_the_largest_first():
    x, label = planted([400, 200, 100, 50])
    found = cluster_vectors(x, 4, seed=0)
    assert normalised_mutual_information(found.label, label) == pytest.approx(1)
    assert np.bincount(found.label).tolist() == [400, 200, 100, 50]
    again = cluster_vectors(x, 4, seed=0)
    np.testing.assert_array_equal(again.centres, found.centres)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    nearest, distance = assign_vectors(unit, found.centres)
    np.testing.assert_array_equal(nearest, found.label)
    np.testing.assert_allclose(distance, ((unit - found.centres[found.label]) ** 2).sum(axis=1), atol=1e-5)
    assert found.inertia == pytest.approx(distance.mean(), rel=1e-4)


def test_clusters_that_follow_one_another_are_found_too():
    """The first centres come from all over the vectors."""
    sizes = [3000] * 8
    x, label = planted(sizes)
    in_order = x[np.argsort(label, kind="stable")]
    found = cluster_vectors(in_order, len(sizes), seed=0)
    assert normalised_mutual_information(found.label, np.repeat(np.arange(len(sizes)), sizes)) == pytest.approx(1)


def test_k_means_takes_one_thread_and_leaves_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    real, seen, before = faiss.Kmeans, [], faiss.omp_get_max_threads()

    def kmeans(*sizes: int, **options: object) -> object:
        seen.append(faiss.omp_get_max_threads())
        return real(*sizes, **options)

    monkeypatch.setattr(faiss, "Kmeans", kmeans)
    faiss.omp_set_num_threads(3)
    find_centres(planted([300])[0], 4, seed=0)
    left = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(before)
    assert (seen, left) == ([1, 1], 3)


def test_small_clusters_go_as_if_all_documents_were_assigned_again():
    x, _ = planted([400, 300, 200, 100, *[9] * 8], dimensions=24)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    centres = find_centres(unit, 40, seed=0)
    while (sizes := np.bincount(assign_vectors(unit, centres)[0], minlength=len(centres))).min() < LEAST_DOCUMENTS:
        centres = np.delete(centres, int(sizes.argmin()), axis=0)
    found = cluster_vectors(x, 40, seed=0)
    assert (found.merged, found.folded) == (40 - len(centres), 0)
    assert found.merged >= 4
    assert np.bincount(found.label).tolist() == sorted(sizes.tolist(), reverse=True)


def test_where_faiss_sees_gpus_they_find_the_same_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs are stood in for by the CPU: what is shown is that they are asked, and that their answers are read right."""
    import faiss

    real, asked = faiss.Kmeans, []

    def kmeans(*sizes: int, gpu: bool, **options: object) -> object:
        asked.append(gpu)
        return real(*sizes, gpu=False, **options)

    def to_gpus(index: object) -> object:
        asked.append(True)
        return index

    monkeypatch.setattr(clustering, "VECTORS_AT_ONCE", 256)
    monkeypatch.setattr(faiss, "Kmeans", kmeans)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", to_gpus, raising=False)
    x, _ = planted([400, 200, 100])
    found = {}
    for gpus in (0, 2):
        monkeypatch.setattr(faiss, "get_num_gpus", lambda gpus=gpus: gpus, raising=False)
        found[gpus] = cluster_vectors(x, 3, seed=0)
    assert asked == [False, False, True, True, True]
    assert (found[0].device, found[2].device) == ("cpu", "gpu")
    np.testing.assert_array_equal(found[2].label, found[0].label)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    nearest, distance = assign_vectors(unit, found[0].centres)
    np.testing.assert_array_equal(nearest, found[0].label)
    np.testing.assert_allclose(distance, ((unit - found[0].centres[nearest]) ** 2).sum(axis=1), atol=1e-5)


def test_rounding_as_of_another_device_hardly_moves_the_distance() -> None:
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(4000, 16)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    rounded = (unit * (1 + 1e-6 * rng.normal(size=unit.shape))).astype(np.float32)
    exact, other = (assign_vectors(unit, find_centres(x, 60, seed=0))[1].mean() for x in (unit, rounded))
    assert other == pytest.approx(exact, rel=1e-3)


def test_a_small_cluster_goes_to_the_next_nearest():
    x, _ = planted([400, 400, 9])
    found = cluster_vectors(x, 3, seed=0)
    sizes = np.bincount(found.label)
    assert sizes.min() >= 16
    assert sizes.sum() == 809
    assert len(sizes) == 2
    assert found.merged + found.folded + len(sizes) == 3


def test_clusters_that_are_one_are_folded():
    """k-means is asked for ten clusters of what are two points with noise in one direction alone."""
    x, label = planted([500, 500], spread=0.0)
    x = x + 1e-4 * np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    many = cluster_vectors(np.repeat(x, 2, axis=0), 2, seed=0)
    assert len(many.centres) == 2
    wide = np.concatenate([np.random.default_rng(2).normal(size=(2000, 400)).astype(np.float32)])
    found = cluster_vectors(wide, 4, seed=0)
    assert found.folded > 0, "halves of one wide cloud are one"
    assert normalised_mutual_information(many.label, np.repeat(label, 2)) == pytest.approx(1)


def test_names_are_distinct_and_made_of_distinctive_words():
    texts = ["the cat sat on fur"] * 20 + ["the ship left the harbour"] * 20 + ["the ship met the harbour storm"] * 20
    label = np.repeat([0, 1, 2], 20)
    terms = distinctive_terms(texts, label, 3)
    assert set(terms[0]) >= {"cat", "fur", "sat"}
    assert "the" not in terms[0][:3]
    names = name_clusters([("ship", "harbour"), ("ship", "harbour", "storm"), ("ship", "harbour"), ()], "sea/")
    assert names == ["sea/ship-harbour", "sea/ship-harbour-storm", "sea/topic-2", "sea/topic-3"]


def test_weights_of_words_are_those_of_naive_bayes():
    documents = [({1, 2}, 0), ({1}, 0), ({3}, 1)]
    row = np.array([0, 0, 1, 2])
    bucket = np.array([1, 2, 1, 3])
    found = learn_words(row, bucket, np.array([label for _, label in documents]), 2, 4)
    for word in range(4):
        for cluster in range(2):
            count = sum(word in words and label == cluster for words, label in documents)
            total = sum(len(words) for words, label in documents if label == cluster) + 4 * SMOOTHING
            assert found.weights[word, cluster] == round(UNIT * np.log((count + SMOOTHING) / total))
    assert found.bias.tolist() == [round(UNIT * np.log(2 / 3)), round(UNIT * np.log(1 / 3))]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=50))
def test_mutual_information_is_scikit_learns(pairs):
    from sklearn.metrics import normalized_mutual_info_score

    a, b = np.array(pairs).T
    assert normalised_mutual_information(a, b) == pytest.approx(normalized_mutual_info_score(a, b), abs=1e-9)


def test_the_nearest_cluster_is_another_one():
    assert nearest_clusters(np.array([[0, 0], [1, 0], [5, 0]], np.float32)) == [1, 0, 1]
    assert nearest_clusters(np.zeros((1, 2), np.float32)) == [None]


def test_weights_fit_and_a_sample_that_is_too_small_is_refused():
    assert word_buckets(64) == 2**16
    assert word_buckets(4096) * 4096 <= 2**24
    with pytest.raises(InputError, match=r"source 'a' has 31 different documents, and a cluster needs 16"):
        check_sample(31, 8, "a")
    check_sample(32, 8, "a")


@pytest.mark.parametrize("centres", [1, 2, 50])
def test_a_vector_is_sure_of_its_centre_where_no_other_is_as_near(centres: int) -> None:
    rng = np.random.default_rng(1)
    middles, x = (rng.normal(size=(n, 8)).astype(np.float32) for n in (centres, 300))
    distances = ((x[:, None].astype(np.float64) - middles) ** 2).sum(axis=2)
    label, sure = assign_surely(x, middles, 0.5)
    two = np.sort(distances, axis=1)[:, :2]
    assert (sure == (two[:, -1] - two[:, 0] > 0.5)).all() if centres > 1 else sure.all()
    assert (label == distances.argmin(axis=1)).all()
    exact = assign_exactly(x, middles)
    assert (exact == distances.argmin(axis=1)).all()
    assert [assign_exactly(x[i : i + 1], middles)[0] for i in range(0, 300, 7)] == exact[::7].tolist()
