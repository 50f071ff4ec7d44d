"""Lengths of documents, measured on some shards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_data.errors import InputError
from chameleon_data.store.store import Store
from chameleon_data.versions.shard_table import ShardFile, ShardRecord
from chameleon_data.views.report.lengths import SHARDS_MEASURED, measure_lengths
from tests.support.manifests import example_manifest


def write_shards(store: Store, tokens: list[dict[str, list[int]]]) -> list[ShardRecord]:
    shards = []
    for number, of_domain in enumerate(tokens):
        rows = [(name, count) for name, counts in of_domain.items() for count in counts]
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.table({"domain": [n for n, _ in rows], "tokens": [c for _, c in rows]}), buffer)
        body = buffer.getvalue().to_pybytes()
        store.write(f"shard-{number}.parquet", body)
        file = ShardFile(f"shard-{number}.parquet", "parquet", len(body), "00" * 32)
        shards.append(ShardRecord("train", number, len(rows), 1, "", (file,), {}, {}))
    return shards


def test_quantiles_are_those_of_the_rows(store: Store) -> None:
    rng = np.random.default_rng(0)
    tokens = [{"a": rng.integers(1, 1_000, 50).tolist(), "b": [7, 7, 9]} for _ in range(3)]
    manifest = example_manifest(formats={"parquet": {"files": 3, "bytes": 1}})
    found = measure_lengths(store, manifest, write_shards(store, tokens))
    assert found is not None
    a, b = found.to_dicts()
    of_a = sorted(count for shard in tokens for count in shard["a"])
    assert (a["name"], a["measured"], b["measured"]) == ("a", 150, 9)
    assert [a["q5"], a["q50"], a["q95"]] == [of_a[7], of_a[74], of_a[142]]
    assert (b["q25"], b["q75"]) == (7, 9)


def test_few_of_many_shards_are_read(store: Store) -> None:
    shards = write_shards(store, [{"a": [number + 1]} for number in range(30)])
    found = measure_lengths(store, example_manifest(formats={"parquet": {"files": 30, "bytes": 1}}), shards)
    assert found is not None
    assert 4 <= found["measured"][0] <= SHARDS_MEASURED


def test_packed_rows_and_other_formats_are_not_measured_and_damage_is_named(store: Store) -> None:
    manifest = example_manifest(formats={"parquet": {"files": 1, "bytes": 1}})
    (shard,) = write_shards(store, [{"a": [1]}])
    assert measure_lengths(store, replace(manifest, formats={}), [shard]) is None
    packed = manifest.recipe.shards.model_copy(update={"sequence_length": 128})
    recipe = manifest.recipe.model_copy(update={"shards": packed})
    assert measure_lengths(store, replace(manifest, recipe=recipe), [shard]) is None
    store.write("shard-0.parquet", b"PAR1 this is none PAR1")
    with pytest.raises(InputError, match="damaged Parquet file"):
        measure_lengths(store, manifest, [shard])
