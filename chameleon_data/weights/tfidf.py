"""TF-IDF vectors of sampled documents: an embedder without a model, to weigh by beside another one (`embed.also`).

    words of a document, hashed → (1 + log count) × log of how rare, at length one → the 256 main directions of all documents

Mixtures by other embedders differ by more than the intervals say, and this one costs seconds: 3,000 documents 2 s on one core,
after 2 to 4 s to import scikit-learn. One thread, so the same documents give the same vectors. Why:
docs/decisions/118-other-embedders.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from chameleon_data.arrays import F32
from chameleon_data.errors import InputError

TFIDF = "tfidf"
"""Its name in a recipe."""
TFIDF_FORMAT = 1
"""Raise it when the same documents give other vectors."""
HASHED_WORDS = 2**15
TFIDF_DIRECTIONS = 256


def tfidf_vectors(documents: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, F32]:
    """Domain -> (n_i, p) vectors of its documents, each given by its windows. p is 256, or fewer where there are few documents.

    A vector depends on the documents of all domains. Raises InputError where no document has a word.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from threadpoolctl import threadpool_limits

    names = sorted(documents)
    texts = ("\n".join(windows) for name in names for windows in documents[name])
    with threadpool_limits(1):
        counts = HashingVectorizer(n_features=HASHED_WORDS, alternate_sign=False, norm=None).transform(texts)
        if not counts.nnz:
            raise InputError("embed.also: tfidf finds no word in the sampled documents; leave it out")
        rare = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
        directions = min(TFIDF_DIRECTIONS, counts.shape[0], int(np.count_nonzero(np.asarray(counts.sum(axis=0)))))
        vectors = TruncatedSVD(directions, n_iter=2, random_state=0).fit_transform(rare).astype(np.float32)
    ends = np.cumsum([len(documents[name]) for name in names])
    return dict(zip(names, np.split(vectors, ends[:-1]), strict=True))
