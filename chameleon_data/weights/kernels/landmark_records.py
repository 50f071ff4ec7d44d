"""Landmarks, and what they made of domains, as files of a store, so that a domain that comes later costs its own samples alone.

    _chameleon/landmarks/<digest>.parquet                 a row a landmark; the kernel in the metadata. A version may name it.
    _chameleon/cache/statistics/<digest>/<keys>.parquet   a row a domain and jackknife group, under a key of its samples

Values are kept to the last bit. This is the one file of the room whose functions need pyarrow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from chameleon_data.hashing import canonical_json, fingerprint
from chameleon_data.store.paths import landmarks_path, statistics_folder
from chameleon_data.weights.domain_statistics import DomainStatistics
from chameleon_data.weights.kernels.kernel import Kernel
from chameleon_data.weights.kernels.landmarks import Landmarks
from chameleon_data.weights.kernels.nystrom import LandmarkStatistics

if TYPE_CHECKING:
    import pyarrow as pa

    from chameleon_data.store.store import Store


def write_landmarks(store: Store, landmarks: Landmarks) -> None:
    """Record landmarks under their digest."""
    import pyarrow as pa

    from chameleon_data.store.checksummed import write_table

    points = pa.FixedSizeListArray.from_arrays(pa.array(landmarks.points.ravel()), landmarks.points.shape[1])
    table = pa.table({"point": points}).replace_schema_metadata({"kernel": canonical_json(vars(landmarks.kernel))})
    write_table(store, landmarks_path(landmarks.digest), table)


def read_landmarks(store: Store, digest: str) -> Landmarks:
    """The landmarks with this digest. Raises InputError where they are missing or damaged."""
    from chameleon_data.store.checksummed import read_table

    table = read_table(store, landmarks_path(digest))
    points = table["point"].combine_chunks()
    kernel = Kernel(**json.loads(table.schema.metadata[b"kernel"]))
    return Landmarks(kernel, points.flatten().to_numpy().reshape(len(points), -1))


def write_landmark_statistics(store: Store, digest: str, seen: LandmarkStatistics, keys: Mapping[str, str]) -> None:
    """Record what the landmarks with this digest made of the domains in `keys`, domain -> key."""
    import pyarrow as pa

    from chameleon_data.store.checksummed import write_table

    if not keys:
        return
    s = seen.statistics
    rows = np.flatnonzero([s.names[i] in keys for i in s.domain.tolist()])
    names = [s.names[i] for i in s.domain[rows].tolist()]
    table = pa.table({
        "key": [keys[name] for name in names], "residual": [seen.residuals[name] for name in names], "group": s.group[rows],
        "count": s.count[rows], "squares": s.squares[rows],
        "total": pa.FixedSizeListArray.from_arrays(pa.array(s.total[rows].ravel()), s.total.shape[1]),
    })  # fmt: skip
    write_table(store, f"{statistics_folder(digest)}/{fingerprint(dict(keys))}.parquet", table)


def read_landmark_statistics(store: Store, digest: str, keys: Mapping[str, str]) -> dict[str, LandmarkStatistics]:
    """What the landmarks with this digest made of those domains in `keys` that are recorded."""
    from chameleon_data.store.checksummed import read_table

    seen: dict[str, LandmarkStatistics] = {}
    for path in sorted(store.list(statistics_folder(digest))):
        seen |= _domains_of(read_table(store, path), keys)
    return seen


def _domains_of(table: pa.Table, keys: Mapping[str, str]) -> dict[str, LandmarkStatistics]:
    """Those domains of one file that `keys` asks for."""
    import pyarrow.compute as pc

    rows: dict[str, list[int]] = {}
    for i, key in enumerate(table["key"].to_pylist()):
        rows.setdefault(key, []).append(i)
    group, count, squares, residual = (table[column].to_numpy() for column in ("group", "count", "squares", "residual"))
    total = pc.list_flatten(table["total"]).to_numpy().reshape(table.num_rows, -1)
    seen = {}
    for name, key in keys.items():
        if at := rows.get(key):
            own = DomainStatistics((name,), np.zeros(len(at), np.int64), group[at], count[at], total[at], squares[at])
            seen[name] = LandmarkStatistics(own, {name: float(residual[at[0]])})
    return seen
