"""Landmarks and what they made of domains, as files of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from chameleon_data import InputError, domain_weights
from chameleon_data.recipe import Leverage
from chameleon_data.store.store import Store
from chameleon_data.weights.domain_statistics import (
    merge_statistics,
)
from chameleon_data.weights.kernels.kernel import Kernel
from chameleon_data.weights.kernels.landmark_records import (
    read_landmark_statistics,
    read_landmarks,
    write_landmark_statistics,
    write_landmarks,
)
from chameleon_data.weights.kernels.landmarks import choose_landmarks
from chameleon_data.weights.kernels.nystrom import ChunkSums, SampleChunk, nystrom_statistics
from chameleon_data.weights.tilt import Tilt
from chameleon_data.weights.weigh import weigh
from tests.support.embeddings import as_array, unit_clusters

RBF = Kernel("rbf", 1.2)


def test_what_landmarks_made_of_a_domain_is_kept_to_the_last_bit(tmp_path: Path) -> None:
    samples = unit_clusters(4, 60)
    landmarks = choose_landmarks(samples, RBF, 20)
    whole = nystrom_statistics(samples, landmarks)
    store, digest = Store(str(tmp_path)), landmarks.digest
    write_landmark_statistics(store, digest, whole, {"d1": "one"})
    write_landmark_statistics(store, digest, whole, {"d3": "three"})
    known = read_landmark_statistics(store, digest, {"d1": "one", "d3": "three", "d2": "another"})
    assert sorted(known) == ["d1", "d3"]
    seen: list[SampleChunk] = []

    def watched(function: Callable[[SampleChunk], ChunkSums], chunks: Sequence[SampleChunk]) -> Iterable[ChunkSums]:
        seen.extend(chunks)
        return map(function, chunks)

    again = nystrom_statistics(samples, landmarks, None, watched, known)
    assert [chunk.x.tolist() for chunk in seen] == [samples[name].tolist() for name in ("d0", "d2")]
    assert again.residuals == whole.residuals
    for column in ("domain", "group", "count", "total", "squares"):
        assert_array_equal(getattr(again.statistics, column), getattr(whole.statistics, column))


def test_recorded_landmarks_give_a_later_domain_its_weights(tmp_path: Path) -> None:
    samples = unit_clusters(6, 100, p=24)
    first = domain_weights({name: x for name, x in samples.items() if name != "d5"}, kernel="rbf", landmarks=64)
    store = Store(str(tmp_path))
    write_landmarks(store, first.nystrom.landmarks)
    recorded = read_landmarks(store, first.nystrom.landmarks.digest)
    assert recorded.digest == first.nystrom.landmarks.digest
    later = domain_weights(samples, kernel="rbf", landmarks=recorded)
    assert later.nystrom.landmarks.digest == recorded.digest
    parts = [nystrom_statistics({name: x}, recorded).statistics for name, x in samples.items()]
    assert_allclose(
        as_array(later.weights), as_array(weigh(merge_statistics(*parts), Leverage(), Tilt("inverse")).weights), rtol=1e-9
    )
    assert later.nystrom.error > 0
    far = domain_weights({**samples, "d5": 3 * np.eye(24, dtype=np.float32)}, kernel="rbf", landmarks=recorded)
    assert any(said.startswith("d5: the recorded landmarks see less than half") for said in far.warnings)
    for other in ("linear", "laplacian"):
        with pytest.raises(InputError, match=f"landmarks are of kernel 'rbf', not '{other}'"):
            domain_weights(samples, kernel=other, landmarks=recorded)
