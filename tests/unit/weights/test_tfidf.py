"""TF-IDF vectors: alike texts are near, the same texts give the same vectors."""

from __future__ import annotations

import numpy as np
import pytest

from chameleon_data import InputError, domain_weights
from chameleon_data.weights.tfidf import TFIDF_DIRECTIONS, tfidf_vectors

WORDS = {"law": "court statute section appeal", "code": "function return import class", "food": "salt butter oven flour"}


def texts(domain: str, n: int, seed: int = 0) -> list[list[str]]:
    generator = np.random.default_rng([seed, len(domain)])
    words = [*WORDS[domain].split(), "the", "of", "and"]
    return [[" ".join(generator.choice(words, 30)) for _ in range(1 + i % 2)] for i in range(n)]


def test_documents_of_one_subject_are_near_and_others_far() -> None:
    found = tfidf_vectors({name: texts(name, 40) for name in WORDS})
    assert {name: x.shape[0] for name, x in found.items()} == dict.fromkeys(sorted(WORDS), 40)
    unit = {name: x / np.linalg.norm(x, axis=1, keepdims=True) for name, x in found.items()}
    within = min(float((x @ x.T).mean()) for x in unit.values())
    across = max(float((unit[a] @ unit[b].T).mean()) for a in unit for b in unit if a < b)
    assert within > across + 0.3
    assert sum(domain_weights(found).weights.values()) == pytest.approx(1)


def test_the_same_documents_give_the_same_vectors_in_any_order_of_domains() -> None:
    documents = {name: texts(name, 30) for name in WORDS}
    first, again = tfidf_vectors(documents), tfidf_vectors(dict(reversed(documents.items())))
    for name in WORDS:
        np.testing.assert_array_equal(first[name], again[name])
        assert first[name].dtype == np.float32
        assert first[name].shape[1] <= TFIDF_DIRECTIONS


def test_every_window_of_a_document_counts() -> None:
    one, two = tfidf_vectors({"a": [["court court"], ["salt"]], "b": [["court", "salt"], ["oven"]]}).values()
    assert two[0] @ one[1] > 0.1
    assert two[0] @ one[0] > 0.1


def test_texts_without_a_word_are_refused() -> None:
    with pytest.raises(InputError, match="finds no word"):
        tfidf_vectors({"a": [["…"], ["?"]], "b": [["!"]]})
